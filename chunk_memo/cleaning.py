"""What can be deleted from a cache's folder without any request ever missing it; asked for, never done unasked.

A file goes only where its own manifest tells that none of its points counts: names alone do not say what a file
holds. Records stay for ever, as they also speak of files that may yet be copied in. Files in all rooms of a cache
are treated alike: what the records say of a point holds wherever it lies.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, ChunkStore
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.leases import Leases
from chunk_memo.errors import ChunkMemoError
from chunk_memo.identity import canonical_many
from chunk_memo.layers import GcReport, Layer, Layers, Mask
from chunk_memo.scattered import CASE, keys_by_axis

__all__ = ["clean", "counts_any", "superseded", "weed"]


def clean(layers: Layers, order: Sequence[str], *, grace: float, dry_run: bool, quarantine: bool) -> GcReport:
    """Delete files that no request can ever need.

    Parameters
    ----------
    layers : Layers
        The layers of the cache.
    order : sequence of str
        Names of the cache's axes.
    grace : float
        Seconds that a temporary or quarantined file must be old.
    dry_run : bool
        Whether to leave everything as it is.
    quarantine : bool
        Whether damaged files that were set aside go, too.

    Returns
    -------
    GcReport
        What was deleted.
    """
    folder = layers.top.folder.path
    rooms = layers.top.rooms()
    before = _present(folder, probe=not dry_run) - grace
    outdated = dict(superseded(layers, order))
    covered = {path: size for room in rooms for path, size in _covered_parts(room) if path not in outdated}
    aside = (path for room in rooms for path in _named_in(room.folder.path / "quarantine"))
    found = {
        "superseded": outdated,
        "parts": covered,
        "layouts": dict(_old((path for room in rooms for path in room.folder.contained_layouts()), None)),
        "temporary": dict(_old(_temporary(folder), before)),
        "signs": dict(_old(_named_in(folder / "runs"), min(before, before + grace - _DAY))),
        "quarantined": dict(_old(aside, before)) if quarantine else {},
    }
    found["signs"] |= dict(_old(_expired_leases(folder), before))
    empty = _empty_folders(folder, {os.fspath(path) for paths in found.values() for path in paths})
    if not dry_run:
        for paths in found.values():
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    files.remove(path)
        for inner in empty:
            files.remove_folder(inner)
    counts = {kind: len(paths) for kind, paths in found.items()}
    return GcReport(**counts, folders=len(empty), nbytes=sum(sum(paths.values()) for paths in found.values()))


def _present(folder: Path, *, probe: bool) -> float:
    """Return the time by the clock that files are dated by; a dry run writes nothing to learn it."""
    return files.now(folder) if probe else time.time()


def _named_in(folder: Path) -> Iterator[Path]:
    return (folder / name for name in files.list_folder(folder))


def _expired_leases(folder: Path) -> Iterator[Path]:
    """Iterate over the claims that nobody holds any more, and what their taking away left behind."""
    leases = Leases(folder)
    for path in _named_in(folder / "leases"):
        if path.suffix != ".json" or leases.is_free(path.stem):
            yield path


def _empty_folders(folder: Path, gone: Collection[str]) -> list[str]:
    """Return the folders that hold nothing but files that go, innermost first; the cache's own is left."""
    empty: set[str] = set()
    for inner, folders, names in [*files.walk(folder)][:0:-1]:
        inside = (f"{inner}/{name}" for name in folders)
        if all(f"{inner}/{name}" in gone for name in names) and all(path in empty for path in inside):
            empty.add(inner)
    return sorted(empty, key=len, reverse=True)


def superseded(layers: Layers, order: Sequence[str]) -> Iterator[tuple[Path, int]]:
    """Iterate over a cache's own chunk files none of whose points counts any more.

    Parameters
    ----------
    layers : Layers
        The layers of the cache.
    order : sequence of str
        Names of the cache's axes.

    Yields
    ------
    tuple of Path, int
        A file, and its length in bytes.
    """
    masked = [layer for layer in layers.all if layer.own and layer.masks]
    for room in zip(*(layer.store.rooms() for layer in masked), strict=True):
        for path in room[0].folder.chunk_files():
            size = _size_if_hidden(path, room, masked, order)
            if size is not None:
                yield path, size


def counts_any(layer: Layer, order: Sequence[str], named: Mask) -> bool:
    """Tell whether some point that a layer holds counts, out of those that a mask names.

    Parameters
    ----------
    layer : Layer
        The layer.
    order : sequence of str
        Names of the axes of the cache whose layer it is.
    named : Mask
        The points.

    Returns
    -------
    bool
        Whether any does.
    """
    for store in layer.store.rooms() if not layer.hidden else ():
        for path in store.folder.chunk_files():
            try:
                with store.opened(path) as chunk:
                    if chunk.identity.startswith(store.prefix) and _counts(chunk, store, layer, order, named):
                        return True
            except (ChunkMemoError, OSError):
                continue
    return False


def _size_if_hidden(
    path: Path, stores: Iterable[ChunkStore], layers: Sequence[Layer], order: Sequence[str]
) -> int | None:
    """Return the length of a file of which no point counts in its layer; None for any other.

    For each layer the store of the file's room is given.
    """
    try:
        with layers[0].store.opened(path) as chunk:
            for store, layer in zip(stores, layers, strict=True):
                if chunk.identity.startswith(store.prefix) and not _counts(chunk, store, layer, order):
                    return chunk.nbytes
    except (ChunkMemoError, OSError):
        pass
    return None


_EVERYTHING = Mask(0, {})

_DAY = 86400.0
"""Seconds for which the file by which a run gives signs is kept, however it ended."""


def _counts(
    chunk: chunkfile.Chunk, store: ChunkStore, layer: Layer, order: Sequence[str], named: Mask = _EVERYTHING
) -> bool:
    """Tell whether some point of a layer's file counts, out of those that a mask names."""
    ref = _ref(store, chunk)
    if ref is None:
        return chunk.identity.startswith(store.prefix)  # nothing is known of its points
    keys: dict[str, Sequence[bytes]] = {axis: [key] for axis, key in layer.pinned.items()}
    if store.cache_id == layer.store.cache_id:
        join = np.logical_and.outer
        keys |= {axis: canonical_many(ref.values(axis)) for axis in ref.order}
    else:  # points that form no grid
        join = np.logical_and
        keys |= keys_by_axis(ref.values(CASE), set(order) - set(layer.pinned))
    counts = _named(named, keys, join)
    for mask in layer.masks:
        counts = counts & ~_named(mask, keys, join)
    part = chunk.constant["part"]
    flat = np.asarray(counts).reshape(-1)
    return bool((flat if part is None else flat[chunk.coords(part).astype(np.intp)]).any())


def _named(mask: Mask, keys: Mapping[str, Sequence[bytes]], join: Callable[..., Any]) -> npt.NDArray[np.bool_]:
    found = np.ones((), bool)
    for axis, own in keys.items():
        wanted = mask.axes.get(axis)
        along = np.ones(len(own), bool) if wanted is None else np.array([key in wanted for key in own], bool)
        found = join(found, along)
    return found


def _ref(store: ChunkStore, chunk: chunkfile.Chunk) -> ChunkRef | None:
    """Return the chunk that a file says it belongs to, in the file's axis order; None for another's file."""
    ref = store.ref_of(chunk)
    return ref if ref is not None and ref.identity == chunk.identity else None


def weed(layers: Layers) -> int:
    """Set aside files that are whole and yet hold what no output can be, as only somebody who means harm writes.

    Every file of the layers is decoded, so this is for when a request met one.

    Parameters
    ----------
    layers : Layers
        The layers of the cache.

    Returns
    -------
    int
        Number of files set aside.
    """
    found = 0
    for store in (room for layer in layers.all for room in layer.store.rooms()):
        for path in [*store.folder.chunk_files()]:
            try:
                with store.opened(path) as chunk:
                    ref = _ref(store, chunk)
                found += ref is not None and store.weed(path, ref)
            except (ChunkMemoError, OSError):
                continue
    return found


def _covered_parts(store: ChunkStore) -> Iterator[tuple[Path, int]]:
    """Iterate over the parts of chunks, of any generation, whose complete file is there and intact."""
    stores = [store.of_generation(number) for number in range(store.folder.records.generation + 1)]
    done: set[Path] = set()
    for path in store.folder.chunk_files():
        if path.parent.suffix != ".parts" or path.parent in done:
            continue
        done.add(path.parent)
        try:
            with store.opened(path) as chunk:
                refs = [(one, _ref(one, chunk)) for one in stores if chunk.identity.startswith(one.prefix)]
                opaque = chunk.constant["kind"] == "opaque"
        except (ChunkMemoError, OSError):
            continue
        for one, ref in refs:
            if ref is not None and not opaque:
                yield from _old(map(Path, one.covered_parts(ref)), None)


def _temporary(folder: Path) -> Iterator[Path]:
    for inner, _, names in files.walk(folder):
        yield from (Path(inner, name) for name in names if name.startswith(files.TEMPORARY_PREFIX))


def _old(paths: Any, before: float | None) -> Iterator[tuple[Path, int]]:
    """Iterate over files last changed before some moment, with their lengths."""
    for path in paths:
        seen = files.look_at(path)
        if seen is not None and (before is None or seen.modified < before):
            yield path, seen.size
