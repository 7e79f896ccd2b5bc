"""What chunk files hold, item by item and file by file, as the document's methods show it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from chunk_memo.chunks import ChunkStore
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.layouts import Folder
from chunk_memo.errors import ChunkFormatError, ChunkMemoError, SpecError
from chunk_memo.grid import Bins, ChunkKey
from chunk_memo.identity import canonical_many, digest
from chunk_memo.outputs import Block

__all__ = [
    "collect",
    "index",
    "item_hash",
    "item_maps",
    "joined",
    "own_bins",
    "payload",
    "payload_of_parts",
    "points_of",
    "samples",
]


def item_hash(version: str, chunk_key: ChunkKey, axis_values: Sequence[Any]) -> str:
    """Return the hash of one point.

    Parameters
    ----------
    version : str
        The cache's version.
    chunk_key : ChunkKey
        The chunk that it lies in; gives the names of the axes.
    axis_values : sequence
        Its value on each axis, in the order of `chunk_key`.

    Returns
    -------
    str
        32 hex characters; the same for every order of the axes.
    """
    point = {name: value for (name, _), value in zip(chunk_key, axis_values, strict=True)}
    return digest((version, point))


def points_of(chunk_key: ChunkKey) -> list[tuple[Any, ...]]:
    """Return the points of a chunk, the last axis fastest.

    Parameters
    ----------
    chunk_key : ChunkKey
        The chunk.

    Returns
    -------
    list of tuple
        For each point its value on each axis, in the order of `chunk_key`.
    """
    return list(itertools.product(*(values for _, values in chunk_key)))


def item_maps(
    version: str, chunk_key: ChunkKey, points: Sequence[Sequence[Any]], outputs: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return outputs and axis values by item hash.

    Parameters
    ----------
    version : str
        The cache's version.
    chunk_key : ChunkKey
        The chunk that the points lie in.
    points : sequence of sequence
        For each point its value on each axis, in the order of `chunk_key`.
    outputs : sequence
        One output per point.

    Returns
    -------
    tuple of dict, dict
        ``items`` and ``spec``.
    """
    hashes = [item_hash(version, chunk_key, point) for point in points]
    names = [name for name, _ in chunk_key]
    spec = [dict(zip(names, point, strict=True)) for point in points]
    return dict(zip(hashes, outputs, strict=True)), dict(zip(hashes, spec, strict=True))


def collect(
    version: str, chunk_key: ChunkKey, items: Mapping[str, Any], points: Sequence[Sequence[Any]]
) -> tuple[list[Any], bool]:
    """Return those of some points' outputs that are there, and whether some are not.

    Parameters
    ----------
    version : str
        The cache's version.
    chunk_key : ChunkKey
        The chunk.
    items : mapping of str to object
        Outputs by item hash.
    points : sequence of sequence
        The points asked for.

    Returns
    -------
    tuple of list, bool
        Outputs in the order asked, and whether any is missing.
    """
    hashes = [item_hash(version, chunk_key, point) for point in points]
    found = [items[name] for name in hashes if name in items]
    return found, len(found) < len(hashes)


def own_bins(store: ChunkStore, chunk: chunkfile.Chunk) -> tuple[tuple[str, ...], Bins] | None:
    """Return the bins that a file's own manifest names.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    chunk : Chunk
        The opened file.

    Returns
    -------
    tuple of tuple of str, Bins, or None
        Names of the axes in the file's order, and a table with one bin each; None where some axis has values
        that cannot be rebuilt.
    """
    names = tuple(name for name, _, _ in chunk.constant["axes"])
    values = store.values(chunk)
    if len(values) < len(names):
        return None
    bins = Bins()
    for name in names:
        bins.of(name).add(values[name], canonical_many(values[name]))
    return names, bins


def payload(store: ChunkStore, chunk: chunkfile.Chunk) -> dict[str, Any]:
    """Return the outputs in a file by item.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    chunk : Chunk
        The opened file.

    Returns
    -------
    dict
        ``items`` maps item hashes to outputs, ``spec`` maps them to axis values.
    """
    own = own_bins(store, chunk)
    if own is None:
        raise ChunkFormatError(f"{chunk!r} has axis values that cannot be rebuilt from the file alone")
    names, bins = own
    ref = store.ref(names, (0,) * len(names), bins)
    block, rows = store.everything(ref, chunk)
    key = store.key(ref)
    points = points_of(key)
    if rows is not None:
        points = [points[row] for row in rows]
    outputs = block.outputs()
    items, spec = item_maps(store.folder.version, key, points, outputs)
    return {"items": items, "spec": spec, "created_at": _iso(chunk.created_at)}


def samples(store: ChunkStore) -> Iterator[Block]:
    """Iterate over the outputs of one file of each form that is stored.

    The first bytes of every file are read for that, and the arrays of few.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.

    Yields
    ------
    Block
        All outputs of that file.
    """
    seen: list[Any] = []
    known: set[int] = set()
    for path in store.folder.chunk_files():
        try:
            with chunkfile.load(path) as chunk:
                if id(chunk.constant) in known:
                    continue
                own = own_bins(store, chunk)
                if own is None:
                    continue
                ref = store.ref(own[0], (0,) * len(own[0]), own[1])
                yield store.everything(ref, chunk)[0]
                seen.append(chunk.constant)  # kept, so that its id stays taken
                known.add(id(chunk.constant))
        except (ChunkMemoError, OSError):
            continue


def payload_of_parts(store: ChunkStore, path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the outputs in the parts of a chunk by item.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    path : path-like
        Where the complete file would lie.

    Returns
    -------
    dict or None
        As :func:`payload`; None where there are no parts.
    """
    folder = os.fspath(path).removesuffix(".h5") + ".parts"
    found: dict[str, Any] | None = None
    for name in sorted(part for part in files.list_folder(folder) if part.endswith(".h5")):
        try:
            with store.opened(f"{folder}/{name}") as chunk:
                more = payload(store, chunk)
        except FileNotFoundError:
            continue
        found = more if found is None else _united(found, more)
    return found


def _united(there: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return one payload for two; of two outputs of one item the first counts."""
    return {
        **there,
        "items": {**more["items"], **there["items"]},
        "spec": {**more["spec"], **there["spec"]},
    }


def index(
    folder: Folder, store: ChunkStore
) -> Iterator[tuple[str, dict[str, Any], tuple[tuple[str, ...], Bins] | None]]:
    """Iterate over the chunks whose files are there now.

    Parameters
    ----------
    folder : Folder
        The cache's folder.
    store : ChunkStore
        Its chunks.

    Yields
    ------
    tuple of str, dict, object
        The chunk's hash, its entry, and :func:`own_bins` where the file belongs to this cache.
    """
    for path in folder.chunk_files():
        try:
            with store.opened(path) as chunk:
                own = own_bins(store, chunk)
                entry = _entry(chunk, own)
                if own is not None:
                    ref = store.ref(own[0], (0,) * len(own[0]), own[1])
                    own = own if store.owns(ref, chunk.identity) else None
        except (ChunkFormatError, SpecError, FileNotFoundError):
            continue
        name = path.stem if entry["complete"] else path.parent.name.removesuffix(".parts")
        yield name, entry, own


def _entry(chunk: chunkfile.Chunk, own: tuple[tuple[str, ...], Bins] | None) -> dict[str, Any]:
    sizes, part = chunk.sizes, chunk.constant["part"]
    names = [name for name, _, _ in chunk.constant["axes"]]
    when = _iso(chunk.created_at)
    return {
        "chunk_key": tuple((name, tuple(own[1].of(name).values)) for name in own[0]) if own else (),
        "created_at": when,
        "updated_at": when,
        "points": sizes[part] if part is not None else math.prod(sizes[name] for name in names),
        "bytes": chunk.nbytes,
        "complete": part is None,
    }


def joined(there: Mapping[str, Any] | None, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a chunk of which several files are there.

    Parameters
    ----------
    there : mapping or None
        The entry so far.
    entry : dict
        That of a further file.

    Returns
    -------
    dict
        The complete file's, or that of all parts together.
    """
    if there is None or (entry["complete"] and not there["complete"]):
        return entry
    if there["complete"]:
        return dict(there)
    return {
        **there,
        "created_at": min(there["created_at"], entry["created_at"]),
        "updated_at": max(there["updated_at"], entry["updated_at"]),
        "points": there["points"] + entry["points"],
        "bytes": there["bytes"] + entry["bytes"],
    }


def _iso(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat()
