"""Fit an epidemic to real data, and compute every point of the search exactly once.

In January 1978 influenza went through a boarding school of 763 boys; the British Medical Journal
printed how many lay in bed on each of fourteen days (4 March 1978, p. 587). The SIR model has two
unknowns: `beta`, the contacts per day through which the flu spreads, and `gamma`, the rate per day
at which boys recover. We try 201 x 201 pairs and keep the one with the smallest squared error.

Run it twice if you like: it clears its own cache first, so it always tells the same story.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from chunk_memo import ChunkMemo

ROOT = Path(__file__).parent / ".chunk_memo"

PUPILS = 763
IN_BED = [3, 8, 28, 75, 221, 291, 255, 235, 190, 125, 70, 28, 12, 5]  # 22 January to 4 February
STEPS_PER_DAY = 10

BETAS = [k / 100 for k in range(100, 301)]  # 1.00, 1.01, … 3.00 per day
GAMMAS = [k / 1000 for k in range(300, 701, 2)]  # 0.300, 0.302, … 0.700 per day

memo = ChunkMemo(
    root=ROOT,
    axis_values={"beta": BETAS, "gamma": GAMMAS},
    chunk_spec={"beta": 20, "gamma": 201},  # twenty rows of the grid to a file
    metadata={"units": {"beta": "per day", "gamma": "per day", "misfit": "boys²"}},
)


@memo.cache()
def misfit(beta, gamma):
    """Sum the squared differences between model and data, for a whole block of points.

    The function gets lists of values and returns an array of shape (len(beta), len(gamma)).
    """
    b = np.asarray(beta)[:, None]
    g = np.asarray(gamma)[None, :]

    def slope(s, i):
        return -b * s * i / PUPILS, b * s * i / PUPILS - g * i

    s = np.full((len(beta), len(gamma)), 760.0)  # susceptible
    i = np.full((len(beta), len(gamma)), 3.0)  # infectious: those in bed
    error = (i - IN_BED[0]) ** 2
    h = 1 / STEPS_PER_DAY
    for observed in IN_BED[1:]:
        for _ in range(STEPS_PER_DAY):  # the classical Runge-Kutta method
            ds1, di1 = slope(s, i)
            ds2, di2 = slope(s + h / 2 * ds1, i + h / 2 * di1)
            ds3, di3 = slope(s + h / 2 * ds2, i + h / 2 * di2)
            ds4, di4 = slope(s + h * ds3, i + h * di3)
            s = s + h / 6 * (ds1 + 2 * ds2 + 2 * ds3 + ds4)
            i = i + h / 6 * (di1 + 2 * di2 + 2 * di3 + di4)
        error = error + (i - observed) ** 2
    return error


def ask(what, **axes):
    """Call the sweep, and say what it executed and what it reused."""
    start = time.perf_counter()
    error, diag = misfit(**axes)
    took = (time.perf_counter() - start) * 1e3
    executed, reused = f"{diag.executed_points:,}", f"{diag.cached_points:,}"
    print(f"{what:<34} executed {executed:>6}   reused {reused:>6}   {took:6.0f} ms", flush=True)
    return error


def show_best(error, betas, gammas):
    """Print the pair with the smallest error."""
    row, column = np.unravel_index(np.argmin(error), error.shape)
    beta, gamma = betas[row], gammas[column]
    away = np.sqrt(error[row, column] / len(IN_BED))
    print(f"\nbest fit: beta {beta:.3f} per day, gamma {gamma:.3f} per day,")
    print(f"R0 = {beta / gamma:.2f}; off by {away:.0f} boys a day (root mean square)\n")


def show_file():
    """Open one chunk file without chunk_memo: it is an ordinary HDF5 (netCDF-4) file."""
    path = min(ROOT.rglob("*.h5"))
    print(f"\none chunk file, read by h5py: {path.relative_to(ROOT)}")
    with h5py.File(path) as file:
        for name, array in file.items():
            print(f"  {name:<8} {array.dtype} {array.shape}")
    if importlib.util.find_spec("xarray") and importlib.util.find_spec("h5netcdf"):
        import xarray as xr

        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            print(f"the same file, read by xarray:\n{dataset}")


def main():
    """Ask the same question in five ways."""
    shutil.rmtree(ROOT, ignore_errors=True)

    error = ask("first call")
    ask("same call")
    show_best(error, BETAS, GAMMAS)

    finer = sorted([*BETAS, 1.695])
    error = ask("beta 1.695 put in the middle", beta=finer, extend_cache=True)
    ask("a subset in another order", beta=BETAS[150:50:-7], gamma=GAMMAS[::-2])
    subprocess.run([sys.executable, __file__, "--again"], check=True)
    show_best(error, finer, GAMMAS)

    show_file()


if __name__ == "__main__":
    if sys.argv[1:] == ["--again"]:
        ask("a second process")
    else:
        main()
