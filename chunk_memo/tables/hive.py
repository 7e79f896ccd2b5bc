"""Hive partitions: which folder a row belongs to, as ``column=value`` segments, and back without loss.

Values are texts in a path, so the types of partition columns are kept beside (:mod:`chunk_memo.tables.dataset`).
What a file system or a reader would take amiss is percent-encoded, which DuckDB, pyarrow and Spark undo.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from chunk_memo.errors import TableError
from chunk_memo.tables.needs import needed

__all__ = ["NULL", "duckdb_type", "partitions", "segment"]

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for a value that is not there."""

_SAFE = " !#$&'()+,-.;@[]^_`{}~"
_LONGEST = 240


def segment(column: str, value: Any) -> str:
    """Return the name of a partition's folder.

    Parameters
    ----------
    column : str
        The column.
    value : object
        None, a bool, a number, a text or a date.

    Returns
    -------
    str
        ``column=value``.

    Raises
    ------
    TableError
        Where no folder can have that name.

    Examples
    --------
    >>> segment("algo", "a/b"), segment("gamma", 1.0), segment("seed", None)
    ('algo=a%2Fb', 'gamma=1.0', 'seed=__HIVE_DEFAULT_PARTITION__')
    """
    if not column or any(c in column for c in "=/\\%\0") or column.startswith((".", "_tmp")):
        raise TableError(f"column {column!r} cannot name a folder; rename it, or leave it out of partition_by=")
    text = NULL if value is None else _escaped(_text(value))
    name = f"{column}={text}"
    if len(name.encode()) > _LONGEST:
        raise TableError(
            f"partition column {column!r} has a value of {len(text)} characters, too long for a folder's name;"
            f" leave the column out of partition_by=, then it stays in the files"
        )
    return name


def _escaped(text: str) -> str:
    escaped = quote(text, safe=_SAFE)
    if escaped == NULL:
        return "%5F" + escaped[1:]
    return escaped[:-1] + f"%{ord(escaped[-1]):02X}" if escaped.endswith((" ", ".")) and escaped else escaped


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


_NAMES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "date32[day]": "DATE",
    "timestamp[s]": "TIMESTAMP_S",
    "timestamp[ms]": "TIMESTAMP_MS",
    "timestamp[us]": "TIMESTAMP",
    "null": "VARCHAR",
}


def duckdb_type(column: str, kind: Any) -> str:
    """Return DuckDB's name for the type of a partition column.

    Parameters
    ----------
    column : str
        The column, for messages.
    kind : pyarrow.DataType
        Its type.

    Returns
    -------
    str
        The name.

    Raises
    ------
    TableError
        Where values of this type cannot stand in a path.
    """
    name = _NAMES.get(str(kind))
    if name is None:
        raise TableError(
            f"partition column {column!r} is of type {kind}, whose values cannot name folders; partition by"
            f" bools, numbers, texts or dates: leave it out of partition_by="
        )
    return name


def partitions(table: Any, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Cut a table into its partitions, the order of rows kept in each.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    columns : sequence of str
        The partition columns, outermost first.

    Yields
    ------
    tuple of str, pyarrow.Table
        The folder, relative and with ``/``, and its rows without the partition columns.
    """
    pa = needed("pyarrow")
    rest = table.drop_columns(list(columns)) if columns else table
    if not columns or not table.num_rows:
        if table.num_rows:
            yield "", rest
        return
    codes, names = np.zeros(table.num_rows, np.int64), []
    for column in columns:
        encoded = table.column(column).combine_chunks()
        encoded = encoded if not isinstance(encoded, pa.ChunkedArray) else pa.concat_arrays(encoded.chunks)
        encoded = encoded.dictionary_encode(null_encoding="encode")
        values = encoded.dictionary.to_pylist()
        names.append([segment(column, value) for value in values])
        codes = codes * max(1, len(values)) + np.asarray(encoded.indices)
        if len(names) > 1:  # dense again, so that no product of many columns overflows
            _, codes = np.unique(codes, return_inverse=True)
    yield from _cut(table, rest, columns, codes)


def _cut(table: Any, rest: Any, columns: Sequence[str], codes: Any) -> Iterator[tuple[str, Any]]:
    pa = needed("pyarrow")
    order = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[order])) + 1
    starts = np.concatenate([[0], ends])
    if not (np.diff(order) > 0).all():
        rest = rest.take(pa.array(order))
    rest = rest.combine_chunks()
    heads = table.select(list(columns)).take(pa.array(order[starts])).to_pydict()
    for number, (start, stop) in enumerate(zip(starts, [*ends, len(order)], strict=True)):
        folder = "/".join(segment(column, heads[column][number]) for column in columns)
        yield folder, rest.slice(start, stop - start)
