"""The cost of safety: chunks of 8 MB in memory, where nothing hides what checks and commits cost."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from benchmarks.bare import chunk_files, read_by_h5py
from benchmarks.grids import cleared, filled, same, surface, sweep_over, through_call
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case
from chunk_memo import ChunkCache, run_streaming
from chunk_memo import run as run_cached

__all__ = ["commit", "run", "verified_load"]

TITLE = "The cost of safety (in memory)"
MEMORY = Path("/dev/shm")
COMMIT, LOAD = 2.0, 1.5
"""At most so many times plain h5py."""

CHUNKS, SIDE = 4, 1000


def commit(folder: Path, side: int, durability: str) -> Case:
    """Store chunks whose outputs are there already, with names, layout and metadata of their cache.

    Parameters
    ----------
    folder : Path
        An empty folder to work in; of each way only the last run's files remain.
    side : int
        Points of a chunk along both axes.
    durability : {"full", "fast"}
        Whether files are synced.

    Returns
    -------
    Case
        Against h5py writing such files under their final names, not synced.
    """
    root, plain = folder / "cache", folder / "plain"
    values = {x: surface(range(x, x + side), range(side)) for x in range(0, CHUNKS * side, side)}

    def ready(x: list[int], y: list[int]) -> np.ndarray:
        return values[x[0]]

    # A cache made directly: a decorated function would be identified by the arrays that it reaches.
    axes = {"x": range(CHUNKS * side), "y": range(side)}
    spec = {"x": side, "y": side}

    def cache() -> ChunkCache:
        return ChunkCache(root, "c", chunk_spec=spec, axis_values=axes, verbose=0, durability=durability)

    def ours() -> None:
        run_streaming(cache(), ready)

    def by_h5py() -> None:
        plain.mkdir()
        for x, array in values.items():
            with h5py.File(plain / f"{x}.h5", "w") as file:
                file["x"], file["y"], file["value"] = np.arange(x, x + side), np.arange(side), array
                for axis, name in enumerate("xy"):
                    file[name].make_scale(name)
                    file["value"].dims[axis].attach_scale(file[name])

    ours()
    same(np.asarray(run_cached(cache(), ready)[0]), np.concatenate(list(values.values())))
    cleared(root)()
    return Case(
        f'commit of {CHUNKS} chunks of {side * side * 8 / 1e6:g} MB, durability="{durability}"',
        ours,
        (Against("h5py, the same files", by_h5py, bound=COMMIT),),
        cleared(root, plain),
    )


def verified_load(folder: Path, side: int, *, anew: bool) -> Case:
    """Read chunks, every byte of them checked.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    side : int
        Points of a chunk along both axes.
    anew : bool
        Whether each call is the first of a new instance, whose making is measured too.

    Returns
    -------
    Case
        Against h5py reading the same files, without any check, into one array.
    """
    root, shape = folder / "cache", (CHUNKS * side, side)
    sweep = filled(root, shape, (side, side))
    same(through_call(sweep), surface(range(shape[0]), range(shape[1])))
    names = [str(path) for path in chunk_files(root)]

    def first() -> np.ndarray:
        return np.asarray(through_call(sweep_over(root, shape, (side, side))))

    which = "first call of a new instance" if anew else "warm call"
    return Case(
        f"verified load, {which}, {CHUNKS} chunks of {side * side * 8 / 1e6:g} MB",
        first if anew else sweep,
        (
            Against("h5py, file by file into one array", partial(_gathered, names, shape), bound=LOAD),
            Against("h5py, file by file", partial(read_by_h5py, names, "output")),
        ),
    )


def _gathered(names: list[str], shape: tuple[int, int]) -> np.ndarray:
    out = np.empty(shape)
    start = 0
    for name in names:
        with h5py.File(name, "r") as file:
            data = file["output"]
            data.read_direct(out[start : start + data.shape[0]])
            start += data.shape[0]
    return out


def run(folder: Path, quick: bool) -> Section:
    """Measure chunks of 8 MB in memory; quick: of 0.1 MB, a few turns."""
    side, turns = (120, 3) if quick else (SIDE, 15)
    jobs = [Job(partial(commit, side=side, durability=each), turns) for each in ("full", "fast")]
    jobs += [Job(partial(verified_load, side=side, anew=each), turns) for each in (True, False)]
    if not os.access(MEMORY, os.W_OK):
        return measured(TITLE, jobs, folder)
    with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        return measured(TITLE, jobs, Path(memory))
