"""Tables of a user's own: what a definition says, and the table that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Engine, ForeignKey, MetaData, Table, Text, select

from chunk_memo.errors import SpecError
from chunk_memo.lab.models import Base, ExperimentModel, OwnTableModel, SimulationModel
from chunk_memo.lab.rows import OWN_TYPES

__all__ = ["data_tables", "definition_of", "definitions", "own_table", "own_tables"]

_TYPES: dict[Any, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    datetime: "datetime",
    dict: "json",
    list: "json",
}


def data_tables(engine: Engine) -> list[Table]:
    """Return the tables whose rows carry a simulation's id, those of one's own last.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.

    Returns
    -------
    list of sqlalchemy.Table
        This library's own first.
    """
    ours = [table for table in Base.metadata.sorted_tables if table.name not in _NO_DATA]
    return ours + list(own_tables(engine).values())


def own_tables(engine: Engine) -> dict[str, Table]:
    """Return the tables that `define_table` defined in a database, by name.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.

    Returns
    -------
    dict
        Tables by name, in its order.
    """
    with engine.connect() as connection:
        found = connection.execute(select(OwnTableModel.__table__)).mappings().all()
    return {row["name"]: own_table(dict(row)) for row in sorted(found, key=lambda row: str(row["name"]))}


def definitions(engine: Engine) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return what `define_table` was called with: names, keys, and columns with their types.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.

    Returns
    -------
    list of (str, list of str, dict)
        One for each table.
    """
    with engine.connect() as connection:
        found = connection.execute(select(OwnTableModel.__table__)).mappings().all()
    back = {"json": dict} | {kind: each for each, kind in _TYPES.items() if kind != "json"}
    return [(row["name"], list(row["key"]), {name: back[kind] for name, kind in row["columns"]}) for row in found]


_NO_DATA = frozenset({"experiments", "simulations", "own_tables"})


def own_table(definition: Mapping[str, Any]) -> Table:
    """Return a table as its definition says; without a key each row has a number of its own.

    Parameters
    ----------
    definition : mapping
        A row of ``own_tables``.

    Returns
    -------
    sqlalchemy.Table
        The table.
    """
    metadata = MetaData()
    SimulationModel.__table__.to_metadata(metadata)  # type: ignore[attr-defined]
    ExperimentModel.__table__.to_metadata(metadata)  # type: ignore[attr-defined]
    key = list(definition["key"]) or ["row_id"]
    kinds = [("row_id", "int")] if not definition["key"] else []
    kinds += [(name, kind) for name, kind in definition["columns"]]
    return Table(
        definition["name"],
        metadata,
        Column("simulation_id", Text(), ForeignKey("simulations.simulation_id"), primary_key=True),
        *(
            Column(name, OWN_TYPES[kind], primary_key=name in key, autoincrement=False, nullable=name not in key)
            for name, kind in sorted(kinds, key=lambda each: key.index(each[0]) if each[0] in key else len(key))
        ),
        Column("extra", OWN_TYPES["json"]),
        sqlite_with_rowid=False,
    )


def definition_of(name: str, key: Sequence[str], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition as it is kept in the database; what cannot be is a `SpecError`.

    Parameters
    ----------
    name : str
        The table.
    key : sequence of str
        Its key; may be empty.
    columns : mapping
        Types by name.

    Returns
    -------
    dict
        A row of ``own_tables``.
    """
    _name("table", name)
    if name in Base.metadata.tables:
        raise SpecError(f'"{name}" is a table of every experiment database: use another name')
    kinds = []
    for column, kind in columns.items():
        _name("column", column)
        if column in ("simulation_id", "row_id", "extra"):
            raise SpecError(f'"{column}" is a column that every table has: leave it out')
        found = _TYPES.get(kind)
        if found is None:
            raise SpecError(f'column "{column}" expects str, int, float, bool, datetime or dict, got {kind!r}')
        kinds.append([column, found])
    unknown = [each for each in key if each not in columns]
    if unknown or not kinds:
        what = f"its key {unknown[0]!r} is no column" if unknown else "it has no columns"
        raise SpecError(f'table "{name}": {what}; name them as in define_table("epochs", "epoch", epoch=int)')
    return {"name": name, "columns": kinds, "key": list(key)}


def _name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier() or len(name) > 60:
        raise SpecError(f"a {what} has a name of letters, digits and underscores, at most 60, got {name!r}")
