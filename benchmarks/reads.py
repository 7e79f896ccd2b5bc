"""Warm reads of whole grids through a decorated call."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bare import chunk_files, read_by_h5py, read_contiguous, read_files, write_contiguous
from benchmarks.grids import GRID, Shape, filled, same, surface, sweep_over, through_call
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case

__all__ = ["run", "warm_read"]

TITLE = "Warm reads"

# By number of chunks: at most so many times h5py's contiguous read, the bare loop, h5py file by file.
BOUNDS = {100: (2.0, None, None), 1_000: (None, 1.5, None), 10_000: (None, 1.3, 1 / 40)}


def warm_read(folder: Path, shape: Shape, chunk: Shape, *, anew: bool = False, by_h5py: bool = True) -> Case:
    """Read a whole stored grid by one call.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    shape, chunk : tuple of int
        Points along both axes, of the grid and of a chunk.
    anew : bool
        Whether each call is the first of a new instance, whose making is measured too.
    by_h5py : bool
        Whether to compare with h5py reading the same files one by one, which takes long.

    Returns
    -------
    Case
        Against h5py reading one contiguous dataset, and against two ways to read the same files.
    """
    root, plain = folder / "cache", folder / "plain.h5"
    sweep = filled(root, shape, chunk)
    write_contiguous(plain, surface(range(shape[0]), range(shape[1])))
    same(through_call(sweep), read_contiguous(plain))
    names = [str(path) for path in chunk_files(root)]
    chunks = math.prod(shape) // math.prod(chunk)
    assert chunks == len(names)
    buffer = bytearray(max(Path(name).stat().st_size for name in names))
    contiguous, loop, each = BOUNDS.get(chunks, (None, None, None))

    def first() -> np.ndarray:
        return np.asarray(through_call(sweep_over(root, shape, chunk)))

    others = [
        Against("h5py, one contiguous dataset", partial(read_contiguous, plain), bound=contiguous),
        Against("bare open, readv, close of the files", partial(read_files, names, buffer), bound=loop),
    ]
    if by_h5py:
        others.append(Against("h5py, file by file", partial(read_by_h5py, names, "output"), bound=each))
    which = "first call of a new instance" if anew else "warm call"
    return Case(
        f"{which}, {math.prod(shape):,} float64 in {chunks:,} chunks", first if anew else sweep, tuple(others)
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure the reads of a million points in 100, 1,000 and 10,000 chunks; quick: of 40,000 in 100."""
    jobs = [Job(partial(warm_read, shape=(200, 200), chunk=(20, 20)), 7)]
    if not quick:
        jobs = [
            Job(partial(warm_read, shape=GRID, chunk=(100, 100)), 31),
            Job(partial(warm_read, shape=GRID, chunk=(100, 10)), 15),
            Job(partial(warm_read, shape=GRID, chunk=(10, 10)), 7),
            Job(partial(warm_read, shape=GRID, chunk=(100, 100), anew=True, by_h5py=False), 15),
            Job(partial(warm_read, shape=GRID, chunk=(10, 10), anew=True, by_h5py=False), 7),
        ]
    return measured(TITLE, jobs, folder)
