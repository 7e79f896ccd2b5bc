"""Caches as Parquet datasets: exported once, and from then on only what is new.

A file holds the points of many chunks, and the dataset's log says of which, in what state. The next export takes
the chunks that no file holds; a file some of whose chunks have become others since (a chunk that was stored in
part is complete by now, or its results were superseded) is replaced, in the same entry of the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.disk.layouts import POINTS
from chunk_memo.errors import CacheNotFoundError, TableError
from chunk_memo.identity import canonical_bytes, digest_of_bytes
from chunk_memo.plan import PARTIAL, STORED
from chunk_memo.scattered import Group
from chunk_memo.tables.arrow import cast, unite_schemas
from chunk_memo.tables.dataset import Dataset, Update
from chunk_memo.tables.hive import duckdb_type
from chunk_memo.tables.needs import needed
from chunk_memo.tables.tidy import Box, Tidy, TidyPoints

if TYPE_CHECKING:
    from chunk_memo.memo import ChunkMemo

pa = needed("pyarrow")

__all__ = ["Exported", "Source", "export_cache", "export_memo", "export_root", "sources_of"]

_FILE_POINTS = 1 << 18
"""About so many points go into a file."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What one export did."""

    chunks: int = 0
    """Number of chunks written, and of files of points that form no grid."""
    chunks_known: int = 0
    """Number of those that were there already."""
    rows: int = 0
    """Number of rows written."""
    files: int = 0
    """Number of files written."""
    files_removed: int = 0
    """Number of files taken out because chunks in them have changed."""


@dataclass(frozen=True, eq=False)
class Source:
    """One cache among those of a dataset, with what tells its rows from those of others."""

    tidy: Tidy
    """Its points."""
    labels: Mapping[str, Any]
    """Further columns that stand before its own: name to value."""

    @cached_property
    def points(self) -> TidyPoints:
        """Those of its points that form no grid, and have no row in the table."""
        return TidyPoints(self.tidy)

    @property
    def schema(self) -> Any:
        """The columns and their types."""
        own = unite_schemas([self.tidy.schema, self.points.schema])
        head = [(name, pa.string()) for name in self.labels if name not in own.names]
        return pa.schema([*head, *own])

    def read(self, box: Box, schema: Any) -> Any:
        """Read the points of one box.

        Parameters
        ----------
        box : Box
            The box.
        schema : pyarrow.Schema
            The columns wanted, and their types.

        Returns
        -------
        pyarrow.RecordBatch
            The rows; a column that this cache lacks is null.
        """
        own = self.tidy.schema
        return self._labelled(self.tidy.read(box, [name for name in schema.names if name in own.names]), schema)

    def read_points(self, group: Group, schema: Any) -> Any:
        """Read points that form no grid.

        Parameters
        ----------
        group : Group
            Some of them.
        schema : pyarrow.Schema
            The columns wanted, and their types.

        Returns
        -------
        pyarrow.RecordBatch
            The rows; a column that this cache lacks is null.
        """
        own = [each for each in schema if each.name in self.points.schema.names]
        return self._labelled(self.points.read(group, pa.schema(own)), schema)

    def _labelled(self, batch: Any, schema: Any) -> Any:
        """Return rows with all columns wanted."""
        columns = []
        for each in schema:
            if each.name in batch.schema.names:
                columns.append(cast(batch.column(each.name), each.type, each.name))
            elif each.name in self.labels:
                columns.append(pa.repeat(pa.scalar(self.labels[each.name], each.type), batch.num_rows))
            else:
                columns.append(pa.nulls(batch.num_rows, each.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def coordinates(self, box: Box) -> Any:
        """Return params and axes of the points of a box, stored or not, and no outputs; nothing is read.

        Parameters
        ----------
        box : Box
            The box.

        Returns
        -------
        pyarrow.Table
            A row for each point.
        """
        table = self.tidy.coordinates(box)
        for name, value in self.labels.items():
            if name not in table.column_names:
                table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
        return table

    def keys(self) -> list[str]:
        """Return what tells each chunk, with its state, from all others; empty for chunks not stored.

        Returns
        -------
        list of str
            In grid order.
        """
        cells, states = self.tidy.stored
        parts = [self._identity()]
        for axis, keys in zip(cells.axes, self.tidy.selection.keys, strict=True):
            parts.append([digest_of_bytes(b"".join(sorted(keys[i] for i in group.source))) for group in axis])
        flat, held = states.reshape(-1), self.tidy.held
        found = [""] * len(flat)
        heads = [digest_of_bytes(b"\0".join(parts[0]))]
        for index in np.flatnonzero(np.isin(flat, (STORED, PARTIAL))).tolist():
            at = np.unravel_index(index, states.shape) if states.shape else ()
            whole = b"".join([*heads, *(group[i] for group, i in zip(parts[1:], at, strict=True))])
            found[index] = f"{digest_of_bytes(whole).hex()}-{held[index]}"
        return found

    def _identity(self) -> list[bytes]:
        cache = self.tidy.cache
        return [cache.provenance(), cache.cache_id.encode(), cache.version.encode()]

    def point_keys(self) -> list[str]:
        """Return what tells each group of points that form no grid, with its state, from all others.

        Returns
        -------
        list of str
            In the order of the groups.
        """
        head = digest_of_bytes(b"\0".join([*self._identity(), POINTS.encode()]))
        digests = (
            digest_of_bytes(head + b"".join(sorted(b"".join(key) for key in group.keys)))
            for group in self.points.groups
        )
        return [f"{digest.hex()}-{len(group)}" for digest, group in zip(digests, self.points.groups, strict=True)]


def export_cache(
    cache: ChunkCache, path: str | os.PathLike[str], partition_by: Sequence[str] = (), *, durability: str = "full"
) -> Exported:
    """Export one cache; see :meth:`chunk_memo.ChunkCache.to_parquet`.

    Parameters
    ----------
    cache : ChunkCache
        The cache, or a slice of one.
    path : path-like
        The dataset's folder.
    partition_by : sequence of str, optional
        The partition columns.
    durability : {"full", "fast"}
        Whether files are synced before this returns.

    Returns
    -------
    Exported
        What was done.
    """
    subject = f"cache {cache.cache_id} {cache.version}"
    if cache.selection().keys == cache.with_grid(cache.grid).selection().keys:
        tidy = Tidy(_with_all_values(cache))
    else:
        tidy = Tidy(cache)
        shown = b"\0".join(b"".join(keys) for keys in tidy.selection.keys)
        subject += f" slice {digest_of_bytes(shown).hex()}"
    return _export([Source(tidy, {})], path, _several(partition_by), subject, durability)


def _with_all_values(cache: ChunkCache) -> ChunkCache:
    """Return a view of a cache that declares all values of which something is stored, too."""
    known = catalog.known(cache.root, cache.cache_id)
    if known is None or not cache.axis_order:
        return cache
    there = known["axis_values"]
    values = {name: [*there.get(name, ()), *own] for name, own in cache.axis_values.items()}
    return cache.with_axis_values(values)


def export_memo(
    memo: ChunkMemo, path: str | os.PathLike[str], partition_by: Sequence[str] = (), *, durability: str = "full"
) -> Exported:
    """Export the caches of a memo; see :meth:`chunk_memo.ChunkMemo.to_parquet`.

    Parameters
    ----------
    memo : ChunkMemo
        The memo.
    path : path-like
        The dataset's folder.
    partition_by : sequence of str, optional
        The partition columns.
    durability : {"full", "fast"}
        Whether files are synced before this returns.

    Returns
    -------
    Exported
        What was done.
    """
    axes = sorted(memo.axis_values)
    entries = [
        entry
        for entry in ChunkCache.discover_caches(memo.root)
        if entry["metadata"] is not None
        and sorted(entry["metadata"]["axis_order"]) == axes
        and entry["metadata"]["version"] == memo.version
    ]
    sources = sources_of(entries, memo.root, **memo.placing())
    return _export(sources, path, _several(partition_by), f"memo {memo.version} {axes}", durability)


def export_root(
    root: str | os.PathLike[str],
    path: str | os.PathLike[str],
    partition_by: Sequence[str] = (),
    *,
    durability: str = "full",
) -> Exported:
    """Export a cache by its folder, or all caches of a root.

    Parameters
    ----------
    root : path-like
        A folder of caches, or the folder of one.
    path : path-like
        The dataset's folder.
    partition_by : sequence of str, optional
        The partition columns.
    durability : {"full", "fast"}
        Whether files are synced before this returns.

    Returns
    -------
    Exported
        What was done.

    Raises
    ------
    CacheNotFoundError
        Where there is no cache.
    """
    folder = Path(root)
    if (folder / "metadata.json").is_file():
        cache = ChunkCache.load_from_cache(folder.parent, folder.name)
        return export_cache(cache, path, partition_by, durability=durability)
    entries = [entry for entry in ChunkCache.discover_caches(folder) if entry["metadata"] is not None]
    if not entries:
        raise CacheNotFoundError(f"there is no cache in '{root}'; give the folder that a memo has as its root")
    return _export(sources_of(entries, folder), path, _several(partition_by), "root of caches", durability)


def sources_of(
    entries: Iterable[Mapping[str, Any]], root: str | os.PathLike[str], **options: Any
) -> list[Source]:
    """Open the caches of a root as sources of rows; of several versions of a function the newest.

    Parameters
    ----------
    entries : iterable of mapping
        From :meth:`ChunkCache.discover_caches`.
    root : path-like
        The folder of caches.
    **options : object
        Further keywords of :class:`ChunkCache`.

    Returns
    -------
    list of Source
        One for each cache, those of one function side by side, labelled ``function`` and ``cache_id``.
    """
    newest: dict[tuple[Any, ...], tuple[int, Mapping[str, Any]]] = {}
    for entry in entries:
        described = entry["metadata"]["metadata"]
        function = described.get("function") or {}
        name = str(function.get("name") or "").rpartition("<locals>.")[2] or None
        cache = ChunkCache.load_from_cache(root, entry["cache_id"], **options)
        key = (name, canonical_bytes(cache.params)) if name else (None, entry["cache_id"])
        at = int(function.get("recorded_at") or 0)
        if key not in newest or newest[key][0] < at:
            newest[key] = at, {"cache": cache, "function": name, "cache_id": entry["cache_id"]}
    chosen = [each for _, each in newest.values()]
    chosen.sort(key=lambda each: (str(each["function"]), each["cache_id"]))
    return [
        Source(Tidy(each["cache"]), {"function": each["function"], "cache_id": each["cache_id"]})
        for each in chosen
    ]


def _several(partition_by: str | Sequence[str]) -> tuple[str, ...]:
    return (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)


def _export(
    sources: Sequence[Source],
    path: str | os.PathLike[str],
    partition_by: tuple[str, ...],
    subject: str,
    durability: str,
) -> Exported:
    dataset = Dataset(path, durability)
    schema = unite_schemas(source.schema for source in sources)
    chunks = 0, 0

    def change(update: Update) -> None:
        nonlocal chunks
        _check(update, subject, partition_by, schema)
        chunks = _bring_up_to_date(update, sources, schema)

    done = dataset.update(change)
    return Exported(*chunks, done.rows, done.files, done.files_removed)


def _check(update: Update, subject: str, partition_by: tuple[str, ...], schema: Any) -> None:
    """Refuse a dataset that may not hold this export."""
    contents, path = update.contents, update.dataset.path
    if contents.number and contents.subject != subject:
        holds = f"an export of the {contents.subject}" if contents.subject else "rows that were written into it"
        raise TableError(f"'{path}' holds {holds}, and this is the {subject}; give each export its own folder")
    if not contents.number:
        wrong = [name for name in partition_by if name not in schema.names]
        if wrong:
            raise TableError(f"there is no column {wrong[0]!r} to partition by; the columns are {schema.names}")
        for name in partition_by:
            duckdb_type(name, schema.field(name).type)
        contents.subject, contents.partition_by = subject, partition_by
    elif partition_by and partition_by != contents.partition_by:
        raise TableError(
            f"'{path}' is partitioned by {list(contents.partition_by or ())}, not by {list(partition_by)};"
            f" export to another folder"
        )


def _bring_up_to_date(update: Update, sources: Sequence[Source], schema: Any) -> tuple[int, int]:
    """Write what is new; return the number of chunks written, and of those that were there."""
    contents = update.contents
    keys = [source.keys() for source in sources]
    loose = [source.point_keys() for source in sources]
    current = {key for found in (*keys, *loose) for key in found if key}
    types = {} if contents.schema is None else {each.name: each.type for each in contents.schema}
    if any(types.get(each.name, each.type) not in (each.type, pa.null()) for each in schema):
        types = {}  # a column has another type by now: all is written anew
        stale = list(contents.groups)
    else:
        stale = [name for name, group in contents.groups.items() if not current.issuperset(group.sources)]
    for name in stale:
        update.drop(name)
    kept = {key for group in contents.groups.values() for key in group.sources}
    types.update({each.name: each.type for each in schema})
    contents.schema = schema = pa.schema(list(types.items()))
    written: list[tuple[tuple[str, ...], Future[tuple[str, ...]]]] = []
    # One box is compressed and written while the next is read; two in memory are enough for that.
    with ThreadPoolExecutor(1) as pool:

        def write(own: tuple[str, ...], batches: list[Any]) -> None:
            rows = pa.Table.from_batches(batches, schema=schema)
            if written:
                written[-1][1].result()
            written.append((own, pool.submit(update.put, rows)))

        for source, found, besides in zip(sources, keys, loose, strict=True):
            wanted = np.fromiter((bool(key) and key not in kept for key in found), bool, len(found))
            for box in _boxes_of(source, wanted) if wanted.any() else ():
                write(tuple(found[index] for index in _indices(source, box)), [source.read(box, schema)])
            for some in _together(source.points.groups, [key not in kept for key in besides]):
                groups = [source.points.groups[number] for number in some]
                own = tuple(besides[number] for number in some)
                write(own, [source.read_points(group, schema) for group in groups])
    for own, paths in written:
        update.keep(digest_of_bytes("".join(own).encode()).hex(), own, paths.result())
    chunks = sum(len(own) for own, _ in written)
    return chunks, len(current) - chunks


def _together(groups: Sequence[Group], wanted: Sequence[bool]) -> Iterator[list[int]]:
    """Yield the numbers of groups of points that go into one file."""
    some: list[int] = []
    count = 0
    for number, group in enumerate(groups):
        if not wanted[number]:
            continue
        some.append(number)
        count += len(group)
        if count >= _FILE_POINTS:
            yield some
            some, count = [], 0
    if some:
        yield some


def _indices(source: Source, box: Box) -> list[int]:
    shape = source.tidy.stored[1].shape
    ranks = np.arange(int(np.prod(shape)), dtype=np.intp).reshape(shape)
    found: list[int] = ranks[tuple(slice(*each) for each in box.ranges)].reshape(-1).tolist()
    return found


def _boxes_of(source: Source, wanted: Any) -> Iterator[Box]:
    """Cut the chunks that are wanted into boxes that hold no others; one stored in part has its own."""
    tidy = source.tidy
    states = tidy.stored[1].reshape(-1)
    whole = wanted & (states == STORED)
    singles = np.flatnonzero(wanted & (states == PARTIAL)).tolist()
    for box in tidy.boxes(_FILE_POINTS, whole):
        inside = _indices(source, box)
        if whole[inside].all():
            yield box
        else:
            singles += [index for index in inside if whole[index]]
    shape = tidy.stored[1].shape
    for index in singles:
        at = np.unravel_index(index, shape) if shape else ()
        yield tidy.box(tuple((int(i), int(i) + 1) for i in at))
