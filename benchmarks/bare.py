"""The floors: the same work done by h5py, or by bare calls of the operating system over the same files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from benchmarks.grids import surface

__all__ = [
    "chunk_files",
    "read_by_h5py",
    "read_contiguous",
    "read_files",
    "write_by_h5py",
    "write_contiguous",
    "write_files",
]


def chunk_files(root: Path) -> list[Path]:
    """Return the chunk files below a root."""
    return [path for path in root.rglob("*.h5") if path.is_file()]


def write_contiguous(path: Path, values: np.ndarray) -> None:
    """Write an array as the only dataset of an HDF5 file."""
    with h5py.File(path, "w") as file:
        file["value"] = values


def read_contiguous(path: Path) -> np.ndarray:
    """Read that dataset."""
    with h5py.File(path, "r") as file:
        values: np.ndarray = file["value"][...]
    return values


def read_files(names: Sequence[str], buffer: bytearray) -> int:
    """Open, read into one buffer, and close file after file; return the bytes read."""
    total = 0
    into = [buffer]
    for name in names:
        descriptor = os.open(name, os.O_RDONLY)
        total += os.readv(descriptor, into)
        os.close(descriptor)
    return total


def read_by_h5py(names: Sequence[str], dataset: str) -> int:
    """Read a dataset of file after file by h5py; return the number of elements."""
    total = 0
    for name in names:
        with h5py.File(name, "r") as file:
            total += file[dataset][...].size
    return total


def write_by_h5py(folder: Path, chunks: int, points: int, *, sync: bool) -> np.ndarray:
    """Compute rows, and write each as a netCDF-4 file by h5py, dimension scales included.

    Parameters
    ----------
    folder : Path
        A folder that is not there yet.
    chunks, points : int
        How many rows, and points in each.
    sync : bool
        Whether each file is synced.

    Returns
    -------
    ndarray
        The rows.
    """
    folder.mkdir()
    rows = []
    for x in range(chunks):
        path = folder / f"{x}.h5"
        rows.append(_write_row(path, x, points))
        if sync:
            _synced(path)
    return np.concatenate(rows)


def _write_row(path: Path, x: int, points: int) -> np.ndarray:
    """Write one row as a netCDF-4 file."""
    values = surface([x], range(points))
    with h5py.File(path, "w") as file:
        file["x"] = np.array([x])
        file["y"] = np.arange(points)
        file["value"] = values
        for axis, name in enumerate("xy"):
            file[name].make_scale(name)
            file["value"].dims[axis].attach_scale(file[name])
    return values


def _synced(path: Path) -> None:
    """Sync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_files(folder: Path, count: int, size: int, *, spread: bool = False, sync: bool = False) -> None:
    """Write files beside, link them to their names, and unlink the first name: what a commit is, and no more.

    Parameters
    ----------
    folder : Path
        Where; made if it is not there.
    count, size : int
        How many files, and bytes in each.
    spread : bool
        Whether they lie in 256 folders.
    sync : bool
        Whether files and folders are synced.
    """
    folders = [folder / f"{number:02x}" for number in range(256)] if spread else [folder]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    names = [str(each) for each in folders]
    content = bytes(size)
    for number in range(count):
        name = f"{names[number % len(names)]}/{number}"
        descriptor = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, content)
        if sync:
            os.fsync(descriptor)
        os.close(descriptor)
        os.link(name + ".tmp", name)
        os.unlink(name + ".tmp")
    if sync:
        for each in folders:
            _synced(each)
