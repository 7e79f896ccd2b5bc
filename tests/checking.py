"""Checks of chunk files by other eyes: h5py and both netCDF engines of xarray read what this library reads."""

from __future__ import annotations

import functools
import json
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import xxhash

from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.chunkfile import HEADER, MAGIC, Header

ENGINES: list[Any] = ["h5netcdf", "netcdf4"]


def chunk_files(root: Path) -> list[Path]:
    """Return the chunk files of every cache in a root, parts included, quarantine left out."""
    return sorted(path for path in root.rglob("*.h5") if "quarantine" not in path.parts)


def check_root(root: Path) -> int:
    """Check every chunk file in a root; return how many there are."""
    paths = chunk_files(root)
    for path in paths:
        check_file(path)
    return len(paths)


def check_file(path: Path) -> None:
    """Every byte is right, h5py reads the same values, both engines open it with the axes as coordinates."""
    chunkfile.verify(path)
    compressions = set()
    with chunkfile.load(path) as chunk, h5py.File(path) as file:
        for entry, array in members(path, chunk):
            dataset = file[entry["path"]]
            if "compression" in entry:
                import hdf5plugin  # noqa: F401  # its import makes the filters known to h5py

                compressions.add(entry["compression"])
            assert array.tobytes() == dataset[...].tobytes()
            assert array.nbytes == 0 or entry.get("offset") == dataset.id.get_offset()
        ours = isinstance(chunk.constant, dict) and "axes" in chunk.constant
        axes = {name: chunk.sizes[name] for name, _, _ in chunk.constant["axes"]} if ours else {}
        # The netCDF library brings no filters but deflate.
        engines = ENGINES if chunk.plain or "gzip" in compressions else ENGINES[:1]
    for engine in engines:
        with opened(path, engine) as dataset:
            check_coordinates(dataset, axes)


def header_of(data: Any) -> Header:
    """Unpack the header of a file."""
    return Header(*HEADER.unpack_from(data))


def resealed(data: bytes, **changes: Any) -> bytes:
    """Change fields of the header, and make its checksum hold again."""
    header = header_of(data)._replace(**changes)
    changed = bytearray(data)
    HEADER.pack_into(changed, 0, *header)
    checksum = xxhash.xxh3_64_intdigest(bytes(changed[16 : header.covered]))
    struct.pack_into("<Q", changed, 8, checksum)
    return bytes(changed)


def members(path: Path, chunk: chunkfile.Chunk) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each entry of a file's array table with the array that this library reads for it."""
    data = path.read_bytes()
    header = header_of(data)
    table = json.loads(data[HEADER.size : HEADER.size + header.constant_size])
    yield from ((entry, chunk.array(entry["name"])) for entry in table["arrays"])
    yield from ((entry, chunk.coords(entry["name"])) for entry in table["coords"] if "path" in entry)


class Written:
    """The first file of each template that this process writes, to be looked at by others in the end.

    Files of one template differ in their values only, so the first stands for all.
    """

    def __init__(self) -> None:
        self._files: dict[bytes, bytes] = {}

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Take note of what is committed from now on."""
        true_commit = files.commit

        @functools.wraps(true_commit)
        def commit(target: Path, buffers: Sequence[Any], syncer: files.Syncer) -> bool:
            if buffers and bytes(buffers[0][: len(MAGIC)]) == MAGIC:
                constant = header_of(buffers[0]).constant_size
                self._files.setdefault(bytes(buffers[0][HEADER.size : HEADER.size + constant]), b"".join(buffers))
            return true_commit(target, buffers, syncer)

        patch.setattr(files, "commit", commit)

    def check(self, folder: Path, most: int | None = None) -> int:
        """Check files of so many templates, evenly chosen, or of all; return how many there were."""
        found = list(self._files.values())
        step = 1 if most is None else -(-len(found) // most)
        for number, data in enumerate(found[::step] if found else []):
            path = folder / f"{number}.h5"
            path.write_bytes(data)
            check_file(path)
            path.unlink()
        return len(found)


def opened(path: Path, engine: Any) -> xr.Dataset:
    """Open a file as a user would, and load all of it."""
    with warnings.catch_warnings():
        # Dates that NumPy cannot hold in nanoseconds come as cftime objects, and xarray says so.
        warnings.filterwarnings("ignore", category=xr.SerializationWarning)
        with xr.open_dataset(path, engine=engine) as dataset:
            return dataset.load()


def check_coordinates(dataset: xr.Dataset, axes: dict[str, int]) -> None:
    """Each axis is a coordinate of its length; true names stand in ``long_name`` where they had to change."""
    found = {str(c.attrs.get("long_name", name)): c for name, c in dataset.coords.items()}
    for name, length in axes.items():
        assert readable(name) in found
        assert (length,) == found[readable(name)].shape
    for array in dataset.data_vars.values():
        assert len(set(array.dims)) == array.ndim
        assert np.prod([dataset.sizes[dim] for dim in array.dims], dtype=int) == array.size


def readable(name: str) -> str:
    """Return a name as it stands in ``long_name``."""
    return name.replace("\0", "\\0").encode(errors="backslashreplace").decode()
