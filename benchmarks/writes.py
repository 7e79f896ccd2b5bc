"""Cold sweeps: computing and storing a grid of which nothing is stored."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bare import chunk_files, write_by_h5py, write_files
from benchmarks.grids import cleared, same, sweep_over
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case

__all__ = ["cold_write", "run"]

TITLE = "Cold sweeps"
BOUNDS = {"full": 0.5, "fast": 0.35}


def cold_write(folder: Path, chunks: int, points: int, durability: str) -> Case:
    """Compute and store chunks of a trivial function.

    Parameters
    ----------
    folder : Path
        An empty folder to work in; of each way only the last run's files remain.
    chunks, points : int
        How many chunks, and points in each.
    durability : {"full", "fast"}
        Whether files are synced, ours and the others.

    Returns
    -------
    Case
        Against h5py writing such files, and against bare system calls that write as many bytes.
    """
    root, plain, bare = folder / "cache", folder / "plain", folder / "bare"
    sync = durability == "full"

    def ours() -> np.ndarray:
        output, _ = sweep_over(root, (chunks, points), (1, points), durability=durability)()
        return np.asarray(output)

    by_h5py = partial(write_by_h5py, plain, chunks, points, sync=sync)
    same(ours(), by_h5py())
    size = chunk_files(root)[0].stat().st_size
    how = "synced" if sync else "not synced"
    return Case(
        f'{chunks:,} chunks of {points:,} points, durability="{durability}"',
        ours,
        (
            Against(f"h5py, the same files, each {how}", by_h5py, bound=BOUNDS[durability]),
            Against(f"bare write, link, unlink, {how}", partial(write_files, bare, chunks, size, sync=sync)),
        ),
        cleared(root, plain, bare),
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure 1,000 chunks of 1,000 points, synced and not; quick: 100 of 100."""
    chunks, points, turns = (100, 100, 3) if quick else (1000, 1000, 7)
    jobs = [Job(partial(cold_write, chunks=chunks, points=points, durability=each), turns) for each in BOUNDS]
    return measured(TITLE, jobs, folder)
