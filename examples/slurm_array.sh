#!/bin/bash
# Fill one cache from many jobs of a SLURM array. There is no server and no list of who does what: each job runs the
# same script, takes chunks that nobody else has, and ends when all are done. So
#
#   - any number of jobs will do, and they may begin at different times, on different machines;
#   - a job that is killed (time limit, lost machine) loses what it was computing; the others take it over;
#   - more jobs may be added while some run: just submit the script again;
#   - submitted once more after all is done, it computes nothing.
#
# All that is needed is a folder that all jobs see:
#
#     sbatch --export=ALL,SWEEP_ROOT=/scratch/$USER/pendulum slurm_array.sh
#
# Without SLURM the same happens with processes that are started by hand:
#
#     bash slurm_array.sh & bash slurm_array.sh & wait

#SBATCH --job-name=pendulum
#SBATCH --array=1-8            # eight jobs; none of them needs to know its number
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=00:30:00
#SBATCH --output=%x-%A-%a.out

set -euo pipefail
export SWEEP_ROOT="${SWEEP_ROOT:-$PWD/pendulum}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" # NumPy takes the cores of this job, not all of the machine's

"${PYTHON:-python3}" - <<'SWEEP'
"""After how many seconds does a double pendulum that is let go at two angles turn over?"""

import os

import numpy as np

from chunk_memo import ChunkMemo

angles = [float(a) for a in np.linspace(-3, 3, 60).round(4)]  # radians
memo = ChunkMemo(
    root=os.environ["SWEEP_ROOT"],
    axis_values={"upper": angles, "lower": angles},
    chunk_spec={"upper": 12, "lower": 12},  # 25 chunks: several for each job, some seconds each
    verbose=0,
)


@memo.cache(version="1")  # a script that is read from standard input is best known by a version
def turns_over(upper, lower, gravity=9.81, seconds=10.0, step=0.01):
    """Return an array of shape (len(upper), len(lower)): seconds, or nan where it does not turn over."""

    def slope(a, b, u, v):  # angles and their speeds; both rods of 1 m, both weights of 1 kg
        d = a - b
        scale = 3 - np.cos(2 * d)
        du = -3 * gravity * np.sin(a) - gravity * np.sin(a - 2 * b)
        du = du - 2 * np.sin(d) * (v**2 + u**2 * np.cos(d))
        dv = 2 * np.sin(d) * (2 * u**2 + 2 * gravity * np.cos(a) + v**2 * np.cos(d))
        return u, v, du / scale, dv / scale

    state = np.array([*np.meshgrid(upper, lower, indexing="ij"), *np.zeros((2, len(upper), len(lower)))])
    first = np.full(state.shape[1:], np.nan)
    for k in range(1, round(seconds / step) + 1):  # the classical Runge-Kutta method
        k1 = np.array(slope(*state))
        k2 = np.array(slope(*(state + step / 2 * k1)))
        k3 = np.array(slope(*(state + step / 2 * k2)))
        k4 = np.array(slope(*(state + step * k3)))
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        first[np.isnan(first) & (np.abs(state[1]) > np.pi)] = k * step
    return first


output, diag = turns_over(share=True)  # the whole grid: what others computed is read, or waited for
job = os.environ.get("SLURM_ARRAY_TASK_ID", str(os.getpid()))
print(f"job {job}: computed {diag.executed_points} points of {diag.total_points}, read {diag.cached_points}")
print(f"job {job}: {np.isfinite(output).mean():.1%} turn over within 10 s")
SWEEP
