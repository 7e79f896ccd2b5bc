"""SQL over caches as they are, without an export: chunks are read when a query looks at them.

Each function's caches are one table, params, axes and outputs its columns. DuckDB asks it for the columns and the
rows that a query needs; chunks none of whose points can be among these rows are never opened, and those that are
come through the verified reader of every call.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chunk_memo.cache import ChunkCache
from chunk_memo.errors import CacheNotFoundError, SpecError
from chunk_memo.identity import to_jsonable
from chunk_memo.tables.arrow import unite_schemas
from chunk_memo.tables.filters import locked
from chunk_memo.tables.needs import needed
from chunk_memo.tables.parquet import Source, sources_of
from chunk_memo.tables.tidy import Box, Tidy

pa = needed("pyarrow")
pads = needed("pyarrow.dataset")

__all__ = ["CachesDataset", "connect", "dataset_of"]


def connect(root: str | os.PathLike[str], connection: Any = None) -> Any:
    """Return a DuckDB connection on which the caches of a root are tables.

    Parameters
    ----------
    root : path-like
        A folder of caches, or one cache's folder.
    connection : duckdb.DuckDBPyConnection, optional
        Where to make the tables; by default a connection of its own, which opens no files.

    Returns
    -------
    duckdb.DuckDBPyConnection
        The connection. The results of a function are the table of its name, those of a cache that was made by
        hand the table ``cache_<id>``; where several functions would have one name, ``<name>_2`` and so on are
        the further ones. The table ``caches`` lists them all: ``table_name``, ``cache_id``, ``function``,
        ``params`` and ``axes`` as JSON.

    Raises
    ------
    CacheNotFoundError
        Where there is no cache.

    Notes
    -----
    A table shows the points that are stored when a query runs. Values of axes, and caches, that came after
    ``connect`` need a new connection.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkMemo
    >>> root = tempfile.mkdtemp()
    >>> memo = ChunkMemo(root, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    >>> @memo.cache()
    ... def scaled(alpha, s):
    ...     return [alpha * value for value in s]
    >>> _ = scaled(alpha=0.5), scaled(alpha=2.0)
    >>> connection = connect(root)
    >>> connection.execute(
    ...     "SELECT alpha, sum(value) FROM scaled WHERE s > 1 GROUP BY alpha ORDER BY 1"
    ... ).fetchall()
    [(0.5, 2.5), (2.0, 10.0)]
    """
    path = Path(root)
    if (path / "metadata.json").is_file():
        entries = [entry for entry in ChunkCache.discover_caches(path.parent) if entry["cache_id"] == path.name]
        path = path.parent
    else:
        entries = ChunkCache.discover_caches(path)
    sources = sources_of((entry for entry in entries if entry["metadata"] is not None), path)
    if not sources:
        raise CacheNotFoundError(f"there is no cache in '{root}'; give the folder that a memo has as its root")
    connection = locked() if connection is None else connection
    listed = []
    for name, own in _tables(sources).items():
        connection.register(name, CachesDataset(own))
        listed += [_described(name, source) for source in own]
    connection.register("caches", pa.Table.from_pylist(listed))
    return connection


def _tables(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Return the sources of each table, by its name; no two names differ in case only."""
    found: dict[str, list[Source]] = {}
    taken = {"caches": None}
    for source in sources:
        function = source.labels["function"]
        wanted = _name_of(function) if function else f"cache_{source.labels['cache_id'][:16]}"
        axes = source.tidy.selection.order
        for number in range(1, len(sources) + 2):
            name = wanted if number == 1 else f"{wanted}_{number}"
            own = found.get(name)
            if own is None and name.lower() not in taken:
                taken[name.lower()] = None
                found[name] = [source]
                break
            alike = own is not None and function and own[0].labels["function"] == function
            if alike and own is not None and sorted(own[0].tidy.selection.order) == sorted(axes):
                own.append(source)
                break
    return found


def _name_of(function: str) -> str:
    """Return the name of a function's table: that behind the last dot."""
    return re.sub(r"\W", "_", function.rpartition(".")[2]) or "function"


def _described(name: str, source: Source) -> dict[str, Any]:
    cache = source.tidy.cache
    return {
        "table_name": name,
        "cache_id": cache.cache_id,
        "function": source.labels["function"],
        "params": json.dumps({key: to_jsonable(value) for key, value in cache.params.items()}),
        "axes": json.dumps({key: len(values) for key, values in cache.axis_values.items()}),
    }


def dataset_of(cache: ChunkCache) -> Any:
    """Return a cache, or a slice of one, as an Arrow dataset that is read when it is scanned.

    Parameters
    ----------
    cache : ChunkCache
        The cache.

    Returns
    -------
    CachesDataset
        What ``duckdb.sql("SELECT … FROM dataset")`` reads.

    Examples
    --------
    >>> import tempfile, duckdb
    >>> from chunk_memo import ChunkCache, run
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2, 3]})
    >>> _ = run(cache, lambda s: [value / 2 for value in s])
    >>> dataset = dataset_of(cache)
    >>> duckdb.sql("SELECT max(value) FROM dataset").fetchall()
    [(1.5,)]
    """
    return CachesDataset([Source(Tidy(cache), {})])


class CachesDataset(pads.Dataset):  # type: ignore[misc, name-defined]  # pyarrow ships without types
    """Caches as one Arrow dataset; nothing is read before it is scanned, and then only what the scan needs.

    Parameters
    ----------
    sources : sequence of Source
        The caches.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._schema = unite_schemas(source.schema for source in sources)

    @property
    def schema(self) -> Any:
        """The columns and their types."""
        return self._schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **options: Any) -> Any:
        """Return a scanner over the rows.

        Parameters
        ----------
        columns : sequence of str, optional
            The columns wanted; all of them by default.
        filter : pyarrow.compute.Expression, optional
            Which rows.
        **options : object
            Further options of Arrow's scanners, which change nothing here.

        Returns
        -------
        pyarrow.dataset.Scanner
            The scanner, which reads chunks as it goes.
        """
        names = list(self._schema.names) if columns is None else list(columns)
        if not all(isinstance(name, str) for name in names):
            raise SpecError(f"columns must be names, got {columns!r}")
        text = "" if filter is None else str(filter)
        # A name that stands in the filter's text may be one that it needs; too many are no harm.
        wanted = [
            name
            for name in self._schema.names
            if name in names or (text and (name in text or not name.isidentifier()))
        ] or list(self._schema.names[:1])
        schema = pa.schema([self._schema.field(name) for name in wanted])
        stream = pa.RecordBatchReader.from_batches(schema, self._batches(schema, filter))
        return pads.Scanner.from_batches(stream, columns=names, filter=filter)

    def _batches(self, schema: Any, condition: Any) -> Iterator[Any]:
        for source in self._sources:
            source = Source(Tidy(source.tidy.cache), source.labels)  # what is stored by now
            for box in source.tidy.boxes():
                if condition is None or _may_hold(source, box, condition):
                    yield source.read(box, schema)
            for group in source.points.groups:
                yield source.read_points(group, schema)

    def __reduce__(self) -> Any:
        """Return what travels: the sources."""
        return CachesDataset, (self._sources,)


def _may_hold(source: Source, box: Box, condition: Any) -> bool:
    """Tell whether rows of a box may meet a condition, as far as params and axes tell."""
    try:
        known = source.coordinates(box)
        return bool(known.filter(condition).num_rows)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
        return True  # it asks for outputs, too
