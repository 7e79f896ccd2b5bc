"""Simulations between databases and files: copy, merge, compare, export, remove.

Copying keeps the values as the database returns them and writes them by the way that logged rows take, so a
simulation is the same in SQLite, in PostgreSQL and in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, delete, func, inspect, select

from chunk_memo.disk import files
from chunk_memo.errors import CollisionError, RootError, SpecError, UnknownSimulationError
from chunk_memo.lab.engines import DatabaseConfig, connect, is_url, shown, writing
from chunk_memo.lab.models import (
    ExperimentModel,
    MetricModel,
    OwnTableModel,
    SimulationModel,
    SimulationStepModel,
)
from chunk_memo.lab.owntables import data_tables, definitions
from chunk_memo.lab.rows import Inlet, plain_row
from chunk_memo.plainjson import plain

if TYPE_CHECKING:
    import pandas

    from chunk_memo.lab.database import ExperimentDatabase

__all__ = [
    "Merged",
    "compared",
    "copy_simulations",
    "export",
    "merge",
    "remove",
    "simulation_table",
    "stored_rows",
]

_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did.

    Examples
    --------
    >>> Merged(copied=("sim_1",), there=("sim_0",), rows=12)
    Merged(copied=('sim_1',), there=('sim_0',), clashed=(), rows=12)
    """

    copied: tuple[str, ...] = ()
    """Simulations that were copied."""
    there: tuple[str, ...] = ()
    """Simulations that were there already, with the same contents."""
    clashed: tuple[str, ...] = ()
    """Simulations that both have with different contents; left as they were."""
    rows: int = field(default=0)
    """Rows copied, less those of experiments and simulations."""


def merge(target: ExperimentDatabase, other: Any, on_clash: str) -> Merged:
    """Copy what another database has; see `ExperimentDatabase.merge`.

    Parameters
    ----------
    target : ExperimentDatabase
        Where to.
    other : path-like, str or ExperimentDatabase
        From where.
    on_clash : {"error", "skip"}
        What to do about different contents.

    Returns
    -------
    Merged
        What was copied.
    """
    if on_clash not in ("error", "skip"):
        raise SpecError(f'"on_clash" expects "error" or "skip", got {on_clash!r}')
    engine = getattr(other, "engine", None)
    if engine is not None:
        other.flush_all_buffers()
        return _merge(target, engine, on_clash)
    if not is_url(other) and not os.path.isfile(other):
        raise RootError(f'"{os.fspath(other)}" is no file: expected another experiment database')
    engine = connect(other, DatabaseConfig())
    try:
        if not inspect(engine).has_table("simulations"):
            raise RootError(f'"{shown(engine)}" is no experiment database: it has no table "simulations"')
        return _merge(target, engine, on_clash)
    finally:
        engine.dispose()


def _merge(target: ExperimentDatabase, source: Engine, on_clash: str) -> Merged:
    target.flush_all_buffers()
    table = SimulationModel.__table__
    with source.connect() as theirs, target.engine.connect() as ours:
        wanted = list(theirs.scalars(select(table.c.simulation_id).order_by(table.c.simulation_id)))
        here = set(ours.scalars(select(table.c.simulation_id)))
    new = [each for each in wanted if each not in here]
    both = [each for each in wanted if each in here]
    clashed = [each for each in both if not _same(source, target.engine, each)]
    if clashed and on_clash == "error":
        raise CollisionError(
            f'simulation "{clashed[0]}" is in "{shown(source)}" and in "{shown(target.engine)}" with different'
            f" contents ({len(clashed)} such in all): nothing was copied; on_clash='skip' leaves them out"
        )
    _adopt_own_tables(target, source)
    rows = copy_simulations(source, target.engine, new)
    same = tuple(each for each in both if each not in clashed)
    return Merged(tuple(new), same, tuple(clashed), rows)


def _adopt_own_tables(target: ExperimentDatabase, source: Engine) -> None:
    if inspect(source).has_table(OwnTableModel.__tablename__):
        for name, key, columns in definitions(source):
            target.define_table(name, *key, **columns)


def _same(source: Engine, target: Engine, simulation_id: str) -> bool:
    """Return whether two databases hold the same of a simulation, row by row."""
    mine = {table.name: table for table in data_tables(target)}
    theirs = {table.name: table for table in data_tables(source)}
    with source.connect() as left, target.connect() as right:
        table = SimulationModel.__table__
        heads = [
            connection.execute(
                select(table.c.experiment_id, table.c.parameters).where(table.c.simulation_id == simulation_id)
            ).one()
            for connection in (left, right)
        ]
        if _text(list(heads[0])) != _text(list(heads[1])):
            return False
        for name in mine.keys() | theirs.keys():
            counts = [
                0
                if name not in tables
                else connection.scalar(
                    select(func.count())
                    .select_from(tables[name])
                    .where(tables[name].c.simulation_id == simulation_id)
                )
                for connection, tables in ((left, theirs), (right, mine))
            ]
            if counts[0] != counts[1]:
                return False
            if counts[0] and not _same_rows(left, right, theirs[name], mine[name], simulation_id):
                return False
    return True


def _same_rows(left: Connection, right: Connection, one: Table, other: Table, simulation_id: str) -> bool:
    rows = zip(_stream(left, one, [simulation_id]), _stream(right, other, [simulation_id]), strict=True)
    return all(_comparable(a) == _comparable(b) for a, b in rows)


def _comparable(row: Sequence[Any]) -> list[Any]:
    return [_text(value) if isinstance(value, dict | list | float) else value for value in row]


def _stream(connection: Connection, table: Table, ids: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of simulations, in the order of their keys, in bounded memory.

    Texts are ordered by their bytes, since servers order them by language otherwise.
    """
    order = [
        column.collate("C")
        if connection.dialect.name == "postgresql" and column.type.python_type is str
        else column
        for column in table.primary_key.columns
    ]
    query = select(table).where(table.c.simulation_id.in_(ids)).order_by(*order)
    yield from connection.execution_options(stream_results=True, yield_per=_BATCH).execute(query)


def copy_simulations(
    source: Engine,
    target: Engine,
    simulation_ids: Sequence[str],
    experiment_id: str | None = None,
    tables: Sequence[str] | None = None,
) -> int:
    """Copy simulations with their experiments and rows, in one transaction.

    Parameters
    ----------
    source, target : sqlalchemy.Engine
        From where to where; tables of one's own must be there already.
    simulation_ids : sequence of str
        Which.
    experiment_id : str, optional
        An experiment of the target that they shall belong to; by default they keep theirs.
    tables : sequence of str, optional
        Only rows of these tables.

    Returns
    -------
    int
        Number of rows copied, less those of experiments and simulations.
    """
    if not simulation_ids:
        return 0
    rows = 0
    experiments, simulations = ExperimentModel.__table__, SimulationModel.__table__
    assert isinstance(experiments, Table)
    assert isinstance(simulations, Table)
    with source.connect() as reader, writing(target) as writer:
        there = set(writer.scalars(select(experiments.c.experiment_id)))
        heads = [
            dict(row)
            for each in _chunks(simulation_ids)
            for row in reader.execute(select(simulations).where(simulations.c.simulation_id.in_(each))).mappings()
        ]
        for row in reader.execute(select(experiments)).mappings():
            needed = any(head["experiment_id"] == row["experiment_id"] for head in heads)
            if experiment_id is None and needed and row["experiment_id"] not in there:
                writer.execute(experiments.insert().values(dict(row)))
        for head in heads:
            if experiment_id is not None:
                head["experiment_id"] = experiment_id
            writer.execute(simulations.insert().values(head))
        known = {table.name: table for table in data_tables(source)}
        for table in data_tables(target):
            if table.name not in known or (tables is not None and table.name not in tables):
                continue
            inlet = Inlet(table, target.dialect)
            for each in _chunks(simulation_ids):
                batch: list[tuple[Any, ...]] = []
                for row in _stream(reader, known[table.name], each):
                    batch.append(inlet.row(dict(row._mapping), {}))
                    if len(batch) == _BATCH:
                        inlet.write(writer, batch)
                        rows, batch = rows + len(batch), []
                inlet.write(writer, batch)
                rows += len(batch)
    return rows


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), 500):  # databases bound the number of parameters
        yield ids[start : start + 500]


def stored_rows(
    engine: Engine,
    table: Table,
    simulation_ids: Sequence[str],
    steps: tuple[int, int] | None,
    limit: int | None,
) -> list[dict[str, Any]]:
    """Return rows of a table as dicts; see `ExperimentDatabase.rows`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    table : sqlalchemy.Table
        Where the rows lie.
    simulation_ids : sequence of str
        Of which simulations.
    steps : (int, int) or None
        From which step to which.
    limit : int or None
        At most so many.

    Returns
    -------
    list of dict
        In the order of the key.
    """
    found: list[dict[str, Any]] = []
    drawn = {"row_id", "action_id"}
    for ids in _chunks(simulation_ids):
        query = select(table).where(table.c.simulation_id.in_(ids)).order_by(*table.primary_key.columns)
        if steps is not None:
            if "step_number" not in table.c:
                raise SpecError(f'"{table.name}" has no steps: leave "steps" out')
            query = query.where(table.c.step_number.between(*steps))
        if limit is not None:
            query = query.limit(limit - len(found))
        with engine.connect() as connection:
            for row in connection.execute(query):
                plain = plain_row(table, row)
                found.append({key: value for key, value in plain.items() if key not in drawn})
    return found


def simulation_table(db: ExperimentDatabase) -> pandas.DataFrame:
    """Return simulations with parameters and results as columns; see `ExperimentDatabase.simulations`.

    Parameters
    ----------
    db : ExperimentDatabase
        The database.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``simulation_id``.
    """
    import pandas

    table = SimulationModel.__table__
    query = select(table).where(table.c.experiment_id == db.experiment_id)
    with db.engine.connect() as connection:
        found = connection.execute(query.order_by(table.c.start_time, table.c.simulation_id)).mappings().all()
    rows = [
        {key: row[key] for key in ("simulation_id", "status", "start_time", "end_time")}
        | {f"parameters.{key}": value for key, value in _mapping(row["parameters"]).items()}
        | {f"results.{key}": value for key, value in _mapping(row["results_summary"]).items()}
        for row in found
    ]
    columns = None if rows else ["simulation_id", "status", "start_time", "end_time"]
    return pandas.DataFrame(rows, columns=columns).set_index("simulation_id")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {} if value is None else {"value": value}


def compared(db: ExperimentDatabase, metric: str, simulation_ids: Sequence[str], last: bool) -> pandas.DataFrame:
    """Return a metric of simulations side by side; see `ExperimentDatabase.compare_simulations`.

    Parameters
    ----------
    db : ExperimentDatabase
        The database.
    metric : str
        The metric.
    simulation_ids : sequence of str
        Which simulations.
    last : bool
        Only the last value of each.

    Returns
    -------
    pandas.DataFrame
        Steps by simulations.
    """
    import pandas

    found = _values(db, metric, simulation_ids)
    if not found:
        known = ", ".join(_metrics(db, simulation_ids)) or "none"
        raise UnknownSimulationError(
            f'no simulation of "{db.experiment_id}" has the metric {metric!r}; there are {known}'
        )
    table = pandas.DataFrame(found, columns=["simulation_id", "step_number", metric])
    if last:
        final = table.sort_values("step_number", kind="stable").groupby("simulation_id").tail(1)
        return final.set_index("simulation_id").reindex(
            [i for i in simulation_ids if i in set(final.simulation_id)]
        )
    wide = table.pivot(index="step_number", columns="simulation_id", values=metric)
    return wide.reindex(columns=pandas.Index(simulation_ids, name="simulation_id"))


def _values(db: ExperimentDatabase, metric: str, ids: Sequence[str]) -> list[tuple[str, int, Any]]:
    steps, metrics = SimulationStepModel.__table__, MetricModel.__table__
    column = steps.c.get(metric) if metric not in ("simulation_id", "step_number", "extra") else None
    value = steps.c.extra[metric] if column is None else column
    found: dict[tuple[str, int], Any] = {}
    for each in _chunks(ids):
        with db.engine.connect() as connection:
            query = select(steps.c.simulation_id, steps.c.step_number, value)
            for simulation, step, number in connection.execute(
                query.where(steps.c.simulation_id.in_(each), value.is_not(None))
            ):
                if number is not None:
                    found[simulation, step] = number
            query = select(metrics.c.simulation_id, metrics.c.step_number, metrics.c.value)
            for simulation, step, number in connection.execute(
                query.where(metrics.c.simulation_id.in_(each), metrics.c.name == metric)
            ):
                found.setdefault((simulation, step), number)
    return [(simulation, step, number) for (simulation, step), number in found.items()]


def _metrics(db: ExperimentDatabase, ids: Sequence[str]) -> list[str]:
    """Return the metrics that simulations have, as far as the first and last steps tell."""
    steps, metrics = SimulationStepModel.__table__, MetricModel.__table__
    names: set[str] = set()
    with db.engine.connect() as connection:
        for each in _chunks(ids):
            names |= set(
                connection.scalars(select(metrics.c.name).where(metrics.c.simulation_id.in_(each)).distinct())
            )
            for row in connection.execute(select(steps).where(steps.c.simulation_id.in_(each)).limit(_BATCH)):
                assert isinstance(steps, Table)
                names |= {key for key, value in plain_row(steps, row).items() if value is not None}
    return sorted(names - {"simulation_id", "step_number"})


def export(
    db: ExperimentDatabase, simulation_id: str, directory: str | os.PathLike[str], format: str
) -> list[Path]:
    """Write a simulation to files; see `ExperimentDatabase.export_simulation`.

    Parameters
    ----------
    db : ExperimentDatabase
        The database.
    simulation_id : str
        The simulation.
    directory : path-like
        Where its folder is made.
    format : {"csv", "json", "parquet"}
        How tables are written.

    Returns
    -------
    list of Path
        The files.
    """
    if format not in ("csv", "json", "parquet"):
        raise SpecError(f'"format" expects "csv", "json" or "parquet", got {format!r}')
    db.flush_all_buffers()
    folder = Path(directory) / _file_name(simulation_id)
    folder.mkdir(parents=True, exist_ok=True)
    table = SimulationModel.__table__
    assert isinstance(table, Table)
    with db.engine.connect() as connection:
        head = plain_row(
            table, connection.execute(select(table).where(table.c.simulation_id == simulation_id)).one()
        )
    made = [_written(folder / "simulation.json", _text(head).encode())]
    for name in db.table_names():
        rows = db.rows(name, simulation_id)
        if rows:
            made.append(_write_table(folder / f"{name}.{format}", rows, format))
    return made


def _file_name(simulation_id: str) -> str:
    """Return a folder's name for a simulation, whatever characters its id has."""
    from urllib.parse import quote

    name = quote(simulation_id, safe=" +=@,")[:200]
    return name.replace(".", "%2E") if not name.strip(".") else name


def _write_table(path: Path, rows: list[dict[str, Any]], format: str) -> Path:
    from chunk_memo.tables import export as exports  # a room beside this one

    if format == "csv":
        exports.export_results_csv(rows, path)
    elif format == "json":
        text = "[\n" + ",\n".join(_text(row) for row in rows) + "\n]\n"
        return _written(path, text.encode())
    else:
        return _written(path, _parquet(rows))
    return path


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [_flat(row.get(name)) for row in rows] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _text(value: Any) -> str:
    return json.dumps(plain(value, non_finite="mark"), ensure_ascii=False)


def _written(path: Path, data: bytes) -> Path:
    files.save(path, [data])
    return path


def remove(engine: Engine, simulation_id: str) -> int:
    """Delete a simulation and its rows; see `ExperimentDatabase.remove_simulation`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    simulation_id : str
        The simulation.

    Returns
    -------
    int
        Number of rows deleted.
    """
    rows = 0
    table = SimulationModel.__table__
    assert isinstance(table, Table)
    with writing(engine) as connection:
        for each in data_tables(engine):
            rows += connection.execute(delete(each).where(each.c.simulation_id == simulation_id)).rowcount
        connection.execute(delete(table).where(table.c.simulation_id == simulation_id))
    return rows
