"""Spread a sweep over a Dask cluster, and find how many pupils must be immune to keep measles out of a school.

One infectious pupil comes into a school of 1,000. In each generation every case infects each susceptible pupil
with the same small chance (the chain binomial model of Reed and Frost, 1928). `r0` is how many a case would
infect if nobody were immune, for measles 12 to 18. We let 1,000 outbreaks run for each pair of `r0` and `immune`,
the share of pupils who are immune, and ask how often more than twenty fall ill.

The workers compute the chunks and write them to disk; only small receipts travel back. Stop the program with
Ctrl-C, start it again, and it goes on from there; run it a second time, and nothing is computed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from distributed import Client

from chunk_memo import ChunkMemo

ROOT = Path(__file__).parent / ".chunk_memo" / "measles"

PUPILS = 1000
OUTBREAKS = 1000
R0S = [float(r) for r in range(2, 19)]

memo = ChunkMemo(
    root=ROOT,  # a folder that all workers see
    axis_values={
        "r0": R0S,
        "immune": [k / 100 for k in range(0, 100, 2)],  # 0.00, 0.02, … 0.98
    },
    chunk_spec={"r0": 1, "immune": 25},
    verbose=0,
)


@memo.cache(vectorize=True)
def risk(r0, immune):
    """Return the share of outbreaks in which more than twenty pupils fall ill."""
    # The numbers drawn depend on the point alone, not on the worker or on the order.
    rng = np.random.default_rng([int(1000 * r0), int(1000 * immune)])
    susceptible = np.full(OUTBREAKS, round((1 - immune) * (PUPILS - 1)))
    cases = np.ones(OUTBREAKS, dtype=int)
    ill = np.zeros(OUTBREAKS, dtype=int)
    while cases.any():
        chance = 1 - (1 - r0 / PUPILS) ** cases
        cases = rng.binomial(susceptible, chance)
        susceptible -= cases
        ill += cases
    return float(np.mean(ill > 20))


def connect():
    """Return the client of a cluster: of this machine, or of the scheduler whose address was given.

    On a cluster that runs SLURM (`pip install dask-jobqueue`) these lines do it instead:

        from dask_jobqueue import SLURMCluster

        cluster = SLURMCluster(queue="normal", cores=8, memory="16 GB", walltime="02:00:00")
        cluster.adapt(maximum_jobs=20)  # jobs are started while there is work, and ended after it
        return Client(cluster)
    """
    if len(sys.argv) > 1:
        return Client(sys.argv[1])  # for example tcp://node17:8786
    return Client(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")


def main():
    """Run the sweep, and print from which share on outbreaks are rare."""
    with connect() as client:
        share, diag = risk(map_fn=client)
    print(f"executed {diag.executed_points} points in {diag.executed_chunks} chunks, reused {diag.cached_points}")
    print(f"{diag.execute_seconds:.1f} s of computing, by all workers together\n")

    print("  R0   rare (below 1 %) from   theory: 1 - 1/R0")
    for r0, row in zip(R0S, share, strict=True):
        rare = np.flatnonzero(np.asarray(row) < 0.01)
        found = f"{rare[0] * 2:>3} % immune" if len(rare) else "never"
        print(f"{r0:>4.0f}   {found:<24} {100 * (1 - 1 / r0):.0f} %")


if __name__ == "__main__":  # Dask's workers import this file
    main()
