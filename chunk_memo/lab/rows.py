"""Rows on their way into a table: checked when they are logged, written many at a time.

A row is checked and turned into what the driver takes at the moment it is logged, so a bad one is an error there,
with its column named, and never spoils a batch. Writing goes past the ORM: one statement per table, made once,
and ``executemany`` with tuples; building ORM objects took ten times as long as writing them.

A row that has the primary key of a stored one takes its place, so a flush may be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeEngine

from chunk_memo.errors import SpecError
from chunk_memo.lab.models import PlainJson, UtcDateTime
from chunk_memo.plainjson import plain

__all__ = ["OWN_TYPES", "Inlet", "plain_row"]

OWN_TYPES: dict[str, TypeEngine[Any]] = {
    "str": Text(),
    "int": BigInteger(),
    "float": Double(),
    "bool": Boolean(),
    "datetime": UtcDateTime(),
    "json": PlainJson(),
}
"""What a table of the user's own may have as columns."""

_EXTRA = "extra"
_FIXED = ("simulation_id", "step_number", "action_id", "row_id")


class Inlet:
    """What takes rows for one table.

    Parameters
    ----------
    table : sqlalchemy.Table
        Where the rows go. Its column ``extra``, where it has one, takes the fields that it has no column for.
    dialect : sqlalchemy.engine.Dialect
        Of the database.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self.table = table
        """Where the rows go."""
        columns = list(table.columns)
        self._places = {column.name: place for place, column in enumerate(columns)}
        self._converters = [_converter(column, dialect) for column in columns]
        self._names = [f"{table.name}.{column.name}" for column in columns]
        self._required = [
            place
            for place, column in enumerate(columns)
            if not column.nullable and column.name not in ("simulation_id", _EXTRA)
        ]
        self._extra = self._places.get(_EXTRA)
        self._free = [name for name in self._places if name not in {_EXTRA, *_FIXED}]
        self._statement, self._order = _statement(table, dialect)

    def row(self, fixed: Mapping[str, Any], fields: Mapping[str, Any] | Sequence[Any]) -> tuple[Any, ...]:
        """Return a row as the driver takes it.

        Parameters
        ----------
        fixed : mapping
            Columns that the caller gives, whatever the fields say, such as ``simulation_id``.
        fields : mapping or sequence
            The row's fields by name, where names without a column go to ``extra``; or values in the order of the
            table's columns, less ``simulation_id``, ``step_number``, ``extra`` and numbers that are drawn.

        Returns
        -------
        tuple
            In the order of the table's columns.

        Raises
        ------
        SpecError
            A field that does not fit its column, one that is missing, or more values than columns.
        EncodingError
            A field of one's own that has no form in JSON.
        """
        if not isinstance(fields, Mapping):
            fields = self._by_order(fields)
        values: list[Any] = [None] * len(self._places)
        others: dict[str, Any] = {}
        for name, value in fields.items():
            place = self._places.get(name)
            if place is None:
                others[name] = value
            elif place == self._extra:
                others.update(self._own(value))
            elif name not in fixed:
                values[place] = self._converters[place](self._names[place], value)
            elif value != fixed[name]:
                raise SpecError(
                    f'"{self._names[place]}" is {fixed[name]!r} for this row, and the row itself says {value!r}:'
                    " leave it out of the row"
                )
        for name, value in fixed.items():
            place = self._places[name]
            values[place] = self._converters[place](self._names[place], value)
        if others:
            if self._extra is None:
                known = ", ".join(self._free)
                raise SpecError(f'"{self.table.name}" has no column {next(iter(others))!r}; it has {known}')
            values[self._extra] = _json(f"{self.table.name}.{_EXTRA}", others)
        for place in self._required:
            if values[place] is None:
                raise SpecError(
                    f'"{self._names[place]}" is missing: expected it in each row, got {dict(fields)!r}'
                )
        return tuple(values)

    def _by_order(self, fields: Sequence[Any]) -> dict[str, Any]:
        if isinstance(fields, str) or not isinstance(fields, Sequence):
            raise SpecError(
                f'a row of "{self.table.name}" is a dict, or a tuple in the order {", ".join(self._free)};'
                f" got {fields!r}"
            )
        if len(fields) > len(self._free):
            raise SpecError(
                f'a row of "{self.table.name}" has at most {len(self._free)} values, {", ".join(self._free)};'
                f" got {len(fields)}: {fields!r}"
            )
        return dict(zip(self._free, fields, strict=False))

    def _own(self, value: Any) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise SpecError(f'"{self.table.name}.{_EXTRA}" is a dict of fields of one\'s own, got {value!r}')
        return value

    def write(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows; where the primary key is there already, the row takes the stored one's place.

        Parameters
        ----------
        connection : sqlalchemy.engine.Connection
            In a transaction that writes.
        rows : sequence of tuple
            As `row` returned them.
        """
        if rows:
            order = self._order
            connection.exec_driver_sql(self._statement, [tuple(row[i] for i in order) for row in rows])


def _statement(table: Table, dialect: Dialect) -> tuple[str, list[int]]:
    """Return the statement that writes a row, and which of its values stands at which place."""
    # The two constructs are alike, and share no base that has `on_conflict_do_update`.
    insert: Any = (postgresql if dialect.name == "postgresql" else sqlite).insert(table)
    insert = insert.values({column.name: None for column in table.columns})
    key = [column.name for column in table.primary_key.columns]
    others = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in key}
    if others:
        insert = insert.on_conflict_do_update(index_elements=key, set_=others)
    else:
        insert = insert.on_conflict_do_nothing(index_elements=key)
    compiled = insert.compile(dialect=dialect)
    places = {column.name: place for place, column in enumerate(table.columns)}
    return str(compiled), [places[name] for name in compiled.positiontup]


def _converter(column: Column[Any], dialect: Dialect) -> Callable[[str, Any], Any]:
    """Return what makes a value fit for a column."""
    kind = column.type
    if isinstance(kind, Double):
        return _number
    if isinstance(kind, BigInteger):
        return _whole
    if isinstance(kind, Boolean):
        return _truth
    if isinstance(kind, Text):
        return _text
    if isinstance(kind, UtcDateTime):
        moment = kind
        return lambda name, value: moment.process_bind_param(_moment(name, value), dialect)
    assert isinstance(kind, PlainJson), kind
    return _json


def _json(name: str, value: Any) -> str | None:
    return None if value is None else json.dumps(plain(value, non_finite="mark", where=name), ensure_ascii=False)


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        raise _misfit(name, "a number", value)
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise _misfit(name, "a number", value) from None
    return None if math.isnan(found) else found


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        found = int(value)
        fits = bool(found == value) and -(2**63) <= found < 2**63
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise _misfit(name, "an integer of at most 64 bits", value)
    return found


def _truth(name: str, value: Any) -> bool | None:
    if value is None:
        return None
    if not hasattr(value, "__bool__") or value not in (0, 1):
        raise _misfit(name, "True or False", value)
    return bool(value)


def _text(name: str, value: Any) -> str | None:
    if value is None or type(value) is str:
        if value and "\x00" in value:
            raise _misfit(name, "text without NUL characters, which PostgreSQL cannot hold", value)
        return value
    if isinstance(value, str):
        return _text(name, str.__str__(value))
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return str(value.__index__())  # ids are often numbers
    raise _misfit(name, "text", value)


def _moment(name: str, value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    raise _misfit(name, "a datetime", value)


def _misfit(name: str, expected: str, value: Any) -> SpecError:
    return SpecError(f'"{name}" expects {expected}, got {value!r} ({type(value).__qualname__})')


def plain_row(table: Table, row: Sequence[Any]) -> dict[str, Any]:
    """Return a stored row as a dict, the fields of its own among the others.

    Parameters
    ----------
    table : sqlalchemy.Table
        Where it lies.
    row : sequence
        Its values, in the order of the table's columns.

    Returns
    -------
    dict
        By column, and by the names in ``extra``; a column wins over a field of one's own of that name.
    """
    values = dict(zip((column.name for column in table.columns), row, strict=True))
    return (values.pop(_EXTRA, None) or {}) | values
