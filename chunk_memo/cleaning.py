"""What can be deleted from a cache's folder without any request ever missing it; asked for, never done unasked.

A file goes only where its own manifest tells that none of its points counts: names alone do not say what a file
holds. Records stay for ever, as they also speak of files that may yet be copied in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, ChunkStore
from chunk_memo.disk import chunkfile, files
from chunk_memo.errors import ChunkMemoError
from chunk_memo.grid import Bins
from chunk_memo.identity import canonical_many
from chunk_memo.layers import GcReport, Layer, Layers, Mask

__all__ = ["clean", "counts_any", "superseded", "weed"]


def clean(layers: Layers, *, grace: float, dry_run: bool, quarantine: bool) -> GcReport:
    """Delete files that no request can ever need.

    Parameters
    ----------
    layers : Layers
        The layers of the cache.
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
    folder, before = layers.top.folder.path, time.time() - grace
    outdated = dict(superseded(layers))
    covered = {path: size for path, size in _covered_parts(layers.top) if path not in outdated}
    found = {
        "superseded": outdated,
        "parts": covered,
        "temporary": dict(_old(_temporary(folder), before)),
        "quarantined": dict(_old((folder / "quarantine").glob("*"), before)) if quarantine else {},
    }
    if not dry_run:
        for paths in found.values():
            for path in paths:
                files.remove(path)
                if path.parent.suffix == ".parts":
                    files.remove_folder(path.parent)
    counts = {kind: len(paths) for kind, paths in found.items()}
    return GcReport(**counts, nbytes=sum(sum(paths.values()) for paths in found.values()))


def superseded(layers: Layers) -> Iterator[tuple[Path, int]]:
    """Iterate over a cache's own chunk files none of whose points counts any more.

    Parameters
    ----------
    layers : Layers
        The layers of the cache.

    Yields
    ------
    tuple of Path, int
        A file, and its length in bytes.
    """
    masked = [layer for layer in layers.all if layer.own and layer.masks]
    for path in layers.top.folder.chunk_files() if masked else ():
        size = _size_if_hidden(path, masked)
        if size is not None:
            yield path, size


def counts_any(layer: Layer, named: Mask) -> bool:
    """Tell whether some point that a layer holds counts, out of those that a mask names.

    Parameters
    ----------
    layer : Layer
        The layer.
    named : Mask
        The points.

    Returns
    -------
    bool
        Whether any does.
    """
    for path in layer.store.folder.chunk_files() if not layer.hidden else ():
        try:
            with layer.store.opened(path) as chunk:
                if chunk.identity.startswith(layer.store.prefix) and _counts(chunk, layer, named):
                    return True
        except (ChunkMemoError, OSError):
            continue
    return False


def _size_if_hidden(path: Path, masked: Sequence[Layer]) -> int | None:
    """Return the length of a file of which no point counts in its layer; None for any other."""
    try:
        with masked[0].store.opened(path) as chunk:
            for layer in masked:
                if chunk.identity.startswith(layer.store.prefix) and not _counts(chunk, layer):
                    return chunk.nbytes
    except (ChunkMemoError, OSError):
        pass
    return None


_EVERYTHING = Mask(0, {})


def _counts(chunk: chunkfile.Chunk, layer: Layer, named: Mask = _EVERYTHING) -> bool:
    """Tell whether some point of a layer's file counts, out of those that a mask names."""
    ref = _ref(layer.store, chunk)
    if ref is None:
        return chunk.identity.startswith(layer.store.prefix)  # nothing is known of its points
    keys: dict[str, Sequence[bytes]] = {axis: [key] for axis, key in layer.pinned.items()}
    keys |= {axis: canonical_many(ref.values(axis)) for axis in ref.order}
    counts = _named(named, keys)
    for mask in layer.masks:
        counts = counts & ~_named(mask, keys)
    part = chunk.constant["part"]
    flat = np.asarray(counts).reshape(-1)
    return bool((flat if part is None else flat[chunk.coords(part).astype(np.intp)]).any())


def _named(mask: Mask, keys: Mapping[str, Sequence[bytes]]) -> npt.NDArray[np.bool_]:
    found = np.ones((), bool)
    for axis, own in keys.items():
        wanted = mask.axes.get(axis)
        along = np.ones(len(own), bool) if wanted is None else np.array([key in wanted for key in own], bool)
        found = np.logical_and.outer(found, along)
    return found


def _ref(store: ChunkStore, chunk: chunkfile.Chunk) -> ChunkRef | None:
    """Return the chunk that a file says it belongs to, in the file's axis order; None for another's file."""
    names = tuple(name for name, _, _ in chunk.constant["axes"])
    values: dict[str, list[Any]] = store.values(chunk)
    if len(values) < len(names):
        return None
    bins = Bins()
    for name in names:
        bins.of(name).add(values[name], canonical_many(values[name]))
    ref = store.ref(names, (0,) * len(names), bins)
    return ref if ref.identity == chunk.identity else None


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
    for layer in layers.all:
        for path in [*layer.store.folder.chunk_files()]:
            try:
                with layer.store.opened(path) as chunk:
                    ref = _ref(layer.store, chunk)
                found += ref is not None and layer.store.weed(path, ref)
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
    for inner, _, names in os.walk(folder):
        yield from (Path(inner, name) for name in names if name.startswith(files.TEMPORARY_PREFIX))


def _old(paths: Any, before: float | None) -> Iterator[tuple[Path, int]]:
    """Iterate over files last changed before some moment, with their lengths."""
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if before is None or status.st_mtime < before:
            yield path, status.st_size
