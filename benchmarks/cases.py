"""The kinds of work that are measured, each with its floor.

A case checks once, before anything is timed, that both ways give the same numbers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.timing import Case
from chunk_memo import ChunkMemo

__all__ = ["cold_write", "one_point", "warm_read"]

Sweep = Callable[..., tuple[Any, Any]]


def _surface(x: Sequence[int], y: Sequence[int]) -> np.ndarray:
    """Return a number for each point; it costs next to nothing."""
    return np.multiply.outer(np.asarray(x, dtype=np.float64), np.asarray(y) + 0.5)


def _sweep(root: Path, shape: tuple[int, int], chunk: tuple[int, int], **options: Any) -> Sweep:
    """Return `_surface`, decorated, over a grid of a shape cut into chunks of a shape."""
    memo = ChunkMemo(
        root=root,
        axis_values={"x": list(range(shape[0])), "y": list(range(shape[1]))},
        chunk_spec={"x": chunk[0], "y": chunk[1]},
        verbose=0,
        **options,
    )
    sweep: Sweep = memo.cache()(_surface)
    return sweep


def _filled(root: Path, shape: tuple[int, int], chunk: tuple[int, int]) -> Sweep:
    """Return a decorated sweep, all of whose points are stored."""
    _sweep(root, shape, chunk, durability="fast")()
    return _sweep(root, shape, chunk)


def _same(ours: np.ndarray, floor: np.ndarray) -> None:
    """Refuse to compare the speed of two ways that differ in what they give."""
    if not np.array_equal(ours, floor):
        raise AssertionError("chunk_memo and the floor disagree: nothing to compare")


def warm_read(folder: Path, shape: tuple[int, int], chunk: tuple[int, int]) -> Case:
    """Read a whole stored grid by one call, against h5py reading one contiguous dataset.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    shape : tuple of int
        Points along both axes.
    chunk : tuple of int
        Points of a chunk along both axes.

    Returns
    -------
    Case
        Both ways.
    """
    sweep = _filled(folder / "cache", shape, chunk)
    plain = folder / "plain.h5"
    with h5py.File(plain, "w") as file:
        file["value"] = _surface(range(shape[0]), range(shape[1]))

    def read() -> np.ndarray:
        with h5py.File(plain, "r") as file:
            values: np.ndarray = file["value"][...]
        return values

    output, diagnostics = sweep()
    assert diagnostics.executed_points == 0
    _same(output, read())
    points, chunks = shape[0] * shape[1], shape[0] * shape[1] // (chunk[0] * chunk[1])
    return Case(
        f"warm read of {points:,} float64 in {chunks:,} chunks",
        sweep,
        "h5py, one contiguous dataset",
        read,
    )


def cold_write(folder: Path, chunks: int, points: int) -> Case:
    """Compute and store chunks, against h5py writing such files, each synced.

    Parameters
    ----------
    folder : Path
        An empty folder to work in; of each way only the last run's files remain.
    chunks : int
        How many chunks.
    points : int
        Points in each.

    Returns
    -------
    Case
        Both ways.
    """
    root, plain = folder / "cache", folder / "plain"

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(plain, ignore_errors=True)

    def ours() -> np.ndarray:
        output, _ = _sweep(root, (chunks, points), (1, points))()
        return np.asarray(output)

    def floor() -> np.ndarray:
        plain.mkdir()
        rows = [_write_plain(plain / f"{x}.h5", x, points) for x in range(chunks)]
        return np.concatenate(rows)

    _same(ours(), floor())
    return Case(
        f"cold write of {chunks:,} chunks of {points:,} points",
        ours,
        "h5py, the same files, fsync each",
        floor,
        prepare,
    )


def _write_plain(path: Path, x: int, points: int) -> np.ndarray:
    """Write one row as a netCDF-4 file by h5py, dimension scales included, and sync it."""
    values = _surface([x], range(points))
    with h5py.File(path, "w") as file:
        file["x"] = np.array([x])
        file["y"] = np.arange(points)
        file["value"] = values
        for axis, name in enumerate("xy"):
            file[name].make_scale(name)
            file["value"].dims[axis].attach_scale(file[name])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return values


def one_point(folder: Path, shape: tuple[int, int], chunk: tuple[int, int]) -> Case:
    """Read one point of a large cache by a call, against reading the bytes of one such file.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    shape : tuple of int
        Points along both axes.
    chunk : tuple of int
        Points of a chunk along both axes.

    Returns
    -------
    Case
        Both ways.
    """
    sweep = _filled(folder / "cache", shape, chunk)
    path = next((folder / "cache").rglob("*.h5"))  # all the files are alike
    size = path.stat().st_size
    x, y = shape[0] // 2, shape[1] // 2

    def ours() -> np.ndarray:
        return np.asarray(sweep(x=x, y=y)[0])

    def floor() -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)

    _same(ours().reshape(1, 1), _surface([x], [y]))
    assert len(floor()) == size
    points = shape[0] * shape[1]
    return Case(
        f"warm call of one point of {points:,} ({size / 1024:.0f} KiB files)",
        ours,
        "open + pread + close of a chunk file",
        floor,
    )
