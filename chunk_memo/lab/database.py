"""One database for many simulations: :class:`ExperimentDatabase`, and the contexts that simulations log to.

A simulation's id is unique in its database, and an agent's in its simulation. An id that another experiment has,
or that was given with other parameters, is an error and no reuse; the same id with the same parameters goes on.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from chunk_memo.errors import CollisionError, FlushWarning, SpecError, StoreError, UnknownSimulationError
from chunk_memo.lab.engines import DatabaseConfig, connect, create_tables, shown, writing
from chunk_memo.lab.models import Base, ExperimentModel, OwnTableModel, SimulationModel
from chunk_memo.lab.owntables import data_tables, definition_of, own_table, own_tables
from chunk_memo.lab.recording import DataLogger
from chunk_memo.plainjson import plain

if TYPE_CHECKING:
    from pathlib import Path

    import pandas
    from sqlalchemy import Engine

    from chunk_memo.lab.transfer import Merged

__all__ = [
    "ExperimentDatabase",
    "ExperimentManager",
    "SimulationContext",
    "SimulationDatabase",
    "create_database",
]

STATUSES = ("pending", "running", "completed", "failed")
ENDED = ("completed", "failed")


class ExperimentDatabase:
    """One database that holds many simulations of an experiment, and of others.

    Parameters
    ----------
    db_path : str or path-like
        A file, which SQLite keeps; or a database URL, such as ``"postgresql://localhost/lab"``.
    experiment_id : str
        The experiment. It is made where there is none of that id, and continued where there is.
    config : DatabaseConfig, mapping or object, optional
        How the database is written; see `DatabaseConfig.of`.
    name : str, optional
        The experiment's name for people; its id by default.
    description : str, optional
        What the experiment is for.

    Examples
    --------
    >>> db = ExperimentDatabase(":memory:", "exp_001")
    >>> for seed in range(2):
    ...     with db.create_simulation_context(f"sim_{seed}", parameters={"seed": seed}) as context:
    ...         for step in range(3):
    ...             context.log_step(step, metrics={"total_agents": 10 * seed + step})
    >>> db.get_simulation_ids()
    ['sim_0', 'sim_1']
    >>> db.compare_simulations("total_agents").to_dict()
    {'sim_0': {0: 0, 1: 1, 2: 2}, 'sim_1': {0: 10, 1: 11, 2: 12}}
    >>> db.close()
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str],
        experiment_id: str,
        config: Any = None,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        self.db_path = db_path if isinstance(db_path, str) else os.fspath(db_path)
        """Where the database is, as it was given."""
        self.experiment_id = _id("experiment_id", experiment_id)
        """The experiment."""
        self.config = DatabaseConfig.of(config)
        """How the database is written."""
        self._engine = connect(self.db_path, self.config)
        self._contexts: dict[str, SimulationContext] = {}
        self._own: dict[str, Table] = {}
        self._closed = False
        try:
            create_tables(self._engine, Base.metadata)
            self._open_experiment(name, description)
        except BaseException:
            self._engine.dispose()
            raise
        self.Session: sessionmaker[Session] = sessionmaker(self._engine)
        """Makes SQLAlchemy sessions for queries: ``with db.Session() as session: …``."""

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for whatever this class has no method for."""
        return self._engine

    def _open_experiment(self, name: str | None, description: str | None) -> None:
        found = self._experiment()
        if found is None:
            now = datetime.now(UTC)
            row = {
                "experiment_id": self.experiment_id,
                "name": name or self.experiment_id,
                "description": description,
                "creation_date": now,
                "last_updated": now,
                "status": "running",
            }
            with writing(self._engine) as connection:
                connection.execute(_insert_if_missing(self._engine, ExperimentModel).values(row))
        changes = {
            key: value
            for key, value in {"name": name, "description": description}.items()
            if value is not None and found is not None and getattr(found, key) != value
        }
        if changes:
            self._update(ExperimentModel, self.experiment_id, changes)

    def _experiment(self) -> ExperimentModel | None:
        with Session(self._engine) as session:
            return session.get(ExperimentModel, self.experiment_id)

    def create_simulation_context(
        self, simulation_id: str, parameters: Mapping[str, Any] | None = None, *, status: str = "running"
    ) -> SimulationContext:
        """Return what a simulation logs to; the simulation is made, or continued where it is there.

        Parameters
        ----------
        simulation_id : str
            Unique in this database.
        parameters : mapping, optional
            Its parameters, for doing it again. A simulation that is continued keeps those that it has.
        status : {"running", "pending"}, optional
            What it is from now on.

        Returns
        -------
        SimulationContext
            Used with ``with``, it sets the simulation's status at the end.

        Raises
        ------
        CollisionError
            The id belongs to another experiment, or was given with other parameters.
        """
        self._must_be_open()
        _id("simulation_id", simulation_id)
        if status not in STATUSES:
            raise SpecError(f'"status" expects one of {", ".join(STATUSES)}, got {status!r}')
        if parameters is not None:
            plain(parameters, where="parameters")  # what JSON cannot say is an error before anything is stored
        row = {
            "simulation_id": simulation_id,
            "experiment_id": self.experiment_id,
            "start_time": datetime.now(UTC),
            "status": status,
            "parameters": parameters,
            "simulation_db_path": shown(self._engine),
        }
        with writing(self._engine) as connection:
            made = connection.execute(_insert_if_missing(self._engine, SimulationModel).values(row)).rowcount == 1
            if not made:
                self._continue(connection, simulation_id, parameters, status)
        context = self._contexts.get(simulation_id)
        if context is None:
            context = self._contexts[simulation_id] = SimulationContext(self, simulation_id)
        return context

    def _continue(self, connection: Any, simulation_id: str, parameters: Any, status: str) -> None:
        table = _table(SimulationModel)
        found = connection.execute(select(table).where(table.c.simulation_id == simulation_id)).one()
        if found.experiment_id != self.experiment_id:
            raise CollisionError(
                f'simulation "{simulation_id}" belongs to the experiment "{found.experiment_id}" of'
                f' "{shown(self._engine)}", and not to "{self.experiment_id}": give it another id'
            )
        given, stored = (plain(each, non_finite="mark") for each in (parameters, found.parameters))
        if given is not None and stored is not None and given != stored:
            raise CollisionError(
                f'simulation "{simulation_id}" is there with other parameters: it has {stored!r}, got {given!r};'
                " give it another id, or remove it with remove_simulation()"
            )
        changes: dict[str, Any] = {"status": status, "end_time": None}
        if stored is None and given is not None:
            changes["parameters"] = parameters
        connection.execute(table.update().where(table.c.simulation_id == simulation_id).values(changes))

    def update_simulation_status(
        self, simulation_id: str, status: str, results_summary: Mapping[str, Any] | None = None
    ) -> None:
        """Set what has become of a simulation; ``completed`` and ``failed`` set the time of its end.

        Parameters
        ----------
        simulation_id : str
            A simulation of this experiment.
        status : {"pending", "running", "completed", "failed"}
            What it is from now on.
        results_summary : mapping, optional
            What came out, in short. None leaves what is there.

        Raises
        ------
        UnknownSimulationError
            There is no such simulation in this experiment.
        SpecError
            A status that there is not.
        """
        self._must_be_open()
        changes = _status(status, results_summary)
        changes["end_time"] = datetime.now(UTC) if status in ENDED else None
        if self._update(SimulationModel, simulation_id, changes) == 0:
            raise self._unknown(simulation_id)

    def update_experiment_status(self, status: str, results_summary: Mapping[str, Any] | None = None) -> None:
        """Set what has become of the experiment.

        Parameters
        ----------
        status : {"pending", "running", "completed", "failed"}
            What it is from now on.
        results_summary : mapping, optional
            What was found, in short. None leaves what is there.

        Raises
        ------
        SpecError
            A status that there is not.
        """
        self._must_be_open()
        changes = _status(status, results_summary) | {"last_updated": datetime.now(UTC)}
        self._update(ExperimentModel, self.experiment_id, changes)

    def _update(self, model: type[Base], key: str, changes: Mapping[str, Any]) -> int:
        table = _table(model)
        statement = table.update().where(table.c.experiment_id == self.experiment_id)
        if model is SimulationModel:
            statement = statement.where(table.c.simulation_id == key)
        with writing(self._engine) as connection:
            return connection.execute(statement.values(dict(changes))).rowcount

    def _unknown(self, simulation_id: str) -> UnknownSimulationError:
        known = self.get_simulation_ids()
        shown_ids = ", ".join(known[:5]) + (", …" if len(known) > 5 else "") or "none"
        return UnknownSimulationError(
            f'experiment "{self.experiment_id}" has no simulation {simulation_id!r}; it has {shown_ids}'
        )

    def get_simulation_ids(self, status: str | None = None) -> list[str]:
        """Return the ids of this experiment's simulations, in the order in which they were begun.

        Parameters
        ----------
        status : str, optional
            Only those of this status.

        Returns
        -------
        list of str
            Their ids.
        """
        self._must_be_open()
        table = SimulationModel.__table__
        query = select(table.c.simulation_id).where(table.c.experiment_id == self.experiment_id)
        if status is not None:
            query = query.where(table.c.status == status)
        with self._engine.connect() as connection:
            return list(connection.scalars(query.order_by(table.c.start_time, table.c.simulation_id)))

    def define_table(self, name: str, /, *key: str, **columns: Any) -> Table:
        """Define a table of one's own, for domains that have no agents; rows go in by ``logger.log_row``.

        The definition is kept in the database. Defining it again in the same way does nothing.

        Parameters
        ----------
        name : str
            The table; letters, digits and underscores.
        *key : str
            The columns by which a row takes the place of an earlier one of the same simulation. Without any, each
            row is a new one.
        **columns : type
            The columns: ``str``, ``int``, ``float``, ``bool``, `datetime.datetime`, or ``dict`` for JSON. A
            column ``simulation_id`` comes first without being named, and ``extra`` takes fields that have no
            column.

        Returns
        -------
        sqlalchemy.Table
            For queries.

        Raises
        ------
        SpecError
            A name or type that cannot be.
        CollisionError
            A table of that name is there with other columns.

        Examples
        --------
        >>> db = ExperimentDatabase(":memory:", "exp_001")
        >>> epochs = db.define_table("epochs", "epoch", epoch=int, loss=float)
        >>> with db.create_simulation_context("net_0") as context:
        ...     context.log_row("epochs", epoch=0, loss=0.7)
        >>> db.rows("epochs")
        [{'simulation_id': 'net_0', 'epoch': 0, 'loss': 0.7}]
        >>> db.close()
        """
        self._must_be_open()
        definition = definition_of(name, key, columns)
        with writing(self._engine) as connection:
            connection.execute(_insert_if_missing(self._engine, OwnTableModel).values(definition))
            table = OwnTableModel.__table__
            found = connection.execute(select(table).where(table.c.name == name)).one()
            if found.columns != definition["columns"] or found.key != definition["key"]:
                raise CollisionError(
                    f'table "{name}" of "{shown(self._engine)}" has the columns {found.columns} and the key'
                    f" {found.key}, got {definition['columns']} and {definition['key']}: use another name"
                )
            own = own_table(definition)
            own.create(connection, checkfirst=True)
        self._own[name] = own
        return own

    def table(self, name: str) -> Table:
        """Return a table by its name, one of this library's or of one's own, for queries.

        Parameters
        ----------
        name : str
            Such as ``"agent_states"``.

        Returns
        -------
        sqlalchemy.Table
            The table.

        Raises
        ------
        UnknownSimulationError
            There is no such table.
        """
        self._must_be_open()
        if name in Base.metadata.tables:
            return Base.metadata.tables[name]
        if name not in self._own:
            self._own |= own_tables(self._engine)
        if name not in self._own:
            raise UnknownSimulationError(
                f'"{shown(self._engine)}" has no table {name!r}; it has {", ".join(self.table_names())}.'
                " Tables of one's own are made by define_table()"
            )
        return self._own[name]

    def table_names(self) -> list[str]:
        """Return the names of all tables that hold data of simulations, those of one's own last.

        Returns
        -------
        list of str
            Names, as :meth:`table` takes them.
        """
        self._must_be_open()
        return [table.name for table in data_tables(self._engine)]

    def rows(
        self,
        table: str,
        simulation_id: str | None = None,
        *,
        steps: tuple[int, int] | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return rows of a table as dicts, fields of one's own among the others.

        Parameters
        ----------
        table : str
            Such as ``"agent_states"``.
        simulation_id : str, optional
            Only rows of this simulation; by default those of all simulations of this experiment.
        steps : (int, int), optional
            Only rows from the first of these steps up to the second, both included.
        limit : int, optional
            At most so many rows.

        Returns
        -------
        list of dict
            In the order of the table's primary key.
        """
        from chunk_memo.lab.transfer import stored_rows

        found = self.table(table)
        ids = self.get_simulation_ids() if simulation_id is None else [self._known(simulation_id)]
        return stored_rows(self._engine, found, ids, steps, limit)

    def to_pandas(self, table: str, simulation_id: str | None = None) -> pandas.DataFrame:
        """Return rows of a table as a DataFrame; what `rows` returns, a column per field.

        Parameters
        ----------
        table : str
            Such as ``"agent_states"``.
        simulation_id : str, optional
            Only rows of this simulation.

        Returns
        -------
        pandas.DataFrame
            One row per row.
        """
        import pandas

        return pandas.DataFrame(self.rows(table, simulation_id))

    def simulations(self) -> pandas.DataFrame:
        """Return this experiment's simulations as a DataFrame, parameters and results each a column.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``simulation_id``, with ``status``, ``start_time``, ``end_time``, and ``parameters.…`` and
            ``results.…``.
        """
        from chunk_memo.lab.transfer import simulation_table

        return simulation_table(self)

    def compare_simulations(
        self, metric: str, simulation_ids: Sequence[str] | None = None, *, last: bool = False
    ) -> pandas.DataFrame:
        """Return one metric of all simulations side by side.

        Parameters
        ----------
        metric : str
            A column of `SimulationStepModel`, a metric of one's own in ``log_step``, or one of ``log_metric``.
        simulation_ids : sequence of str, optional
            Only these; by default all of this experiment.
        last : bool, optional
            Only the last value of each.

        Returns
        -------
        pandas.DataFrame
            Rows are steps (``step_number``) and columns are simulations, NaN where one has no value; with
            ``last`` one row per simulation, with the columns ``step_number`` and the metric's name.

        Raises
        ------
        UnknownSimulationError
            No simulation has that metric; the message lists those that there are.
        """
        from chunk_memo.lab.transfer import compared

        ids = self.get_simulation_ids() if simulation_ids is None else [self._known(i) for i in simulation_ids]
        return compared(self, metric, ids, last)

    def export_simulation(
        self, simulation_id: str, directory: str | os.PathLike[str], format: str = "csv"
    ) -> list[Path]:
        """Write all that is known of a simulation to files.

        Parameters
        ----------
        simulation_id : str
            A simulation of this experiment.
        directory : path-like
            Where a folder of the simulation's name is made.
        format : {"csv", "json", "parquet"}, optional
            How tables are written. ``simulation.json`` holds status, parameters and results in any case.

        Returns
        -------
        list of Path
            The files; a table without rows has none.
        """
        from chunk_memo.lab.transfer import export

        return export(self, self._known(simulation_id), directory, format)

    def remove_simulation(self, simulation_id: str) -> int:
        """Delete a simulation and all its rows; `vacuum` gives the room back.

        Parameters
        ----------
        simulation_id : str
            A simulation of this experiment.

        Returns
        -------
        int
            Number of rows deleted, less its row among the simulations.
        """
        from chunk_memo.lab.transfer import remove

        self._known(simulation_id)
        self._contexts.pop(simulation_id, None)
        return remove(self._engine, simulation_id)

    def merge(self, other: str | os.PathLike[str] | ExperimentDatabase, *, on_clash: str = "error") -> Merged:
        """Copy all experiments and simulations of another database into this one.

        What is here already is left as it is, so a merge that was cut short is repeated as a whole.

        Parameters
        ----------
        other : path-like, str or ExperimentDatabase
            The other database; it is only read.
        on_clash : {"error", "skip"}, optional
            What to do about a simulation that both have with different contents.

        Returns
        -------
        Merged
            What was copied.

        Raises
        ------
        CollisionError
            A simulation of the same id with other contents, with ``"error"``; nothing is copied then.
        """
        from chunk_memo.lab.transfer import merge

        self._must_be_open()
        return merge(self, other, on_clash)

    def vacuum(self) -> tuple[int, int]:
        """Give the room of deleted rows back to the disk.

        Returns
        -------
        (int, int)
            Bytes of the database before and after.
        """
        before = self.size()
        if self._engine.dialect.name == "sqlite":
            with contextlib.closing(self._engine.raw_connection()) as connection:  # outside of any transaction
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(statement)
        else:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as server:
                for table in data_tables(self._engine):
                    server.exec_driver_sql(f'VACUUM FULL "{table.name}"')
        return before, self.size()

    def size(self) -> int:
        """Return the bytes that the database takes on disk, its journal aside.

        Returns
        -------
        int
            Bytes.
        """
        self._must_be_open()
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            else:
                query = "SELECT pg_database_size(current_database())"
            return int(connection.exec_driver_sql(query).scalar_one())

    def explain(self, query: Any) -> list[str]:
        """Return how the database would find what a query asks for.

        Parameters
        ----------
        query : sqlalchemy.Select
            Such as ``select(db.table("agent_states")).where(…)``.

        Returns
        -------
        list of str
            The lines of ``EXPLAIN QUERY PLAN``, or of PostgreSQL's ``EXPLAIN``.
        """
        self._must_be_open()
        compiled = query.compile(self._engine, compile_kwargs={"literal_binds": True})
        sqlite = self._engine.dialect.name == "sqlite"
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{compiled}")
            return [str(row[-1]) for row in found]

    def flush_all_buffers(self) -> int:
        """Write all rows of all contexts that wait; see `SimulationContext.flush_all_buffers`.

        Returns
        -------
        int
            Number of rows written.
        """
        self._must_be_open()
        return sum(context.flush_all_buffers() for context in list(self._contexts.values()))

    def close(self) -> None:
        """Write what waits, then close the database; closing it again does nothing.

        Raises
        ------
        StoreError
            The database did not take all rows. They are kept, it stays open, and the call may be repeated.
        """
        if not self._closed:
            self.flush_all_buffers()
            self._engine.dispose()
            self._closed = True

    def _known(self, simulation_id: str) -> str:
        self._must_be_open()
        table = SimulationModel.__table__
        query = select(table.c.simulation_id).where(
            table.c.simulation_id == simulation_id, table.c.experiment_id == self.experiment_id
        )
        with self._engine.connect() as connection:
            if connection.scalar(query) is None:
                raise self._unknown(simulation_id)
        return simulation_id

    def _must_be_open(self) -> None:
        if self._closed:
            raise SpecError(f'the experiment database "{self.db_path}" is closed: open it again')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"db_path": self.db_path, "experiment_id": self.experiment_id, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"ExperimentDatabase({shown(self._engine)!r}, {self.experiment_id!r})"


class SimulationContext(DataLogger):
    """What one simulation logs to; it stands where a database of its own stood before.

    Used with ``with``, it writes its rows at the end and sets the simulation's status: ``completed``, or
    ``failed`` with the error, unless something else was set in the meantime.

    Parameters
    ----------
    parent : ExperimentDatabase
        The database.
    simulation_id : str
        The simulation.
    """

    def __init__(self, parent: ExperimentDatabase, simulation_id: str) -> None:
        super().__init__(parent.engine, simulation_id, parent.config, parent.table)
        self.parent_db = parent
        """The database."""

    @property
    def logger(self) -> DataLogger:
        """Takes the simulation's rows: the context itself."""
        return self

    @property
    def Session(self) -> sessionmaker[Session]:
        """Makes SQLAlchemy sessions for queries."""
        return self.parent_db.Session

    def update_status(self, status: str, results_summary: Mapping[str, Any] | None = None) -> None:
        """Set what has become of this simulation; see `ExperimentDatabase.update_simulation_status`.

        Parameters
        ----------
        status : {"pending", "running", "completed", "failed"}
            What it is from now on.
        results_summary : mapping, optional
            What came out, in short.
        """
        self.parent_db.update_simulation_status(self.simulation_id, status, results_summary)

    def close(self) -> None:
        """Write what waits; the database stays open for the other simulations."""
        self.flush_all_buffers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.flush_all_buffers()
            self._end("completed")
            return
        try:
            self.flush_all_buffers()
            self._end("failed", {"error": f"{type(error).__name__}: {error}"})
        except StoreError as refused:  # the user's own error is the one to raise
            warnings.warn(str(refused), FlushWarning, stacklevel=2)

    def _end(self, status: str, results_summary: Mapping[str, Any] | None = None) -> None:
        if self._status() not in ENDED:
            self.update_status(status, results_summary)

    def _status(self) -> str | None:
        with Session(self.parent_db.engine) as session:
            found = session.get(SimulationModel, self.simulation_id)
            return None if found is None else found.status

    def __repr__(self) -> str:
        return f"SimulationContext({self.simulation_id!r}, {self.waiting} rows waiting)"


class SimulationDatabase(SimulationContext):
    """A database of one simulation; the interface of a `SimulationContext` that owns its database.

    Parameters
    ----------
    db_path : str or path-like
        A file or a database URL.
    config : optional
        As for `ExperimentDatabase`.
    simulation_id : str, optional
        By default the file's name without its ending.

    Examples
    --------
    >>> db = SimulationDatabase(":memory:", simulation_id="run_7")
    >>> db.logger.log_step(0, metrics={"total_agents": 3})
    >>> db.close()
    """

    def __init__(
        self, db_path: str | os.PathLike[str], config: Any = None, simulation_id: str | None = None
    ) -> None:
        simulation_id = simulation_id or _stem(db_path)
        parent = ExperimentDatabase(db_path, simulation_id, config)
        parent.create_simulation_context(simulation_id)
        super().__init__(parent, simulation_id)

    def close(self) -> None:
        """Write what waits, then close the database."""
        self.flush_all_buffers()
        self.parent_db.close()


class ExperimentManager:
    """An experiment as a ``with`` block: its status is set at the end, whether it went well or not.

    Parameters
    ----------
    experiment_id : str
        The experiment.
    db_path : str or path-like, optional
        By default ``experiments/<experiment_id>.db``.
    config : optional
        As for `ExperimentDatabase`.
    name, description : str, optional
        As for `ExperimentDatabase`.

    Examples
    --------
    >>> with ExperimentManager("exp_001", ":memory:") as experiment:
    ...     with experiment.create_simulation("sim_0", {"seed": 0}) as context:
    ...         context.log_metric("loss", 0.5)
    ...     experiment.get_simulation_ids()
    ['sim_0']
    """

    def __init__(
        self,
        experiment_id: str,
        db_path: str | os.PathLike[str] | None = None,
        config: Any = None,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        _id("experiment_id", experiment_id)
        path = os.path.join("experiments", f"{experiment_id}.db") if db_path is None else db_path
        self.db = ExperimentDatabase(path, experiment_id, config, name=name, description=description)
        """The database."""

    def create_simulation(
        self, simulation_id: str, parameters: Mapping[str, Any] | None = None
    ) -> SimulationContext:
        """Return what a simulation logs to; see `ExperimentDatabase.create_simulation_context`.

        Parameters
        ----------
        simulation_id : str
            The simulation.
        parameters : mapping, optional
            Its parameters.

        Returns
        -------
        SimulationContext
            What it logs to.
        """
        return self.db.create_simulation_context(simulation_id, parameters)

    def complete_simulation(self, simulation_id: str, results_summary: Mapping[str, Any] | None = None) -> None:
        """Write a simulation's rows that wait, and set its status to ``completed``.

        Parameters
        ----------
        simulation_id : str
            The simulation.
        results_summary : mapping, optional
            What came out, in short.
        """
        self.db.flush_all_buffers()
        self.db.update_simulation_status(simulation_id, "completed", results_summary)

    def get_simulation_ids(self) -> list[str]:
        """Return the ids of the experiment's simulations.

        Returns
        -------
        list of str
            In the order in which they were begun.
        """
        return self.db.get_simulation_ids()

    def close(self) -> None:
        """Write what waits, then close the database."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.db.flush_all_buffers()
        if error is None:
            self.db.update_experiment_status("completed")
        else:
            self.db.update_experiment_status("failed", {"error": f"{type(error).__name__}: {error}"})
        self.close()


def create_database(
    db_path: str | os.PathLike[str] | None = None,
    simulation_id: str | None = None,
    config: Any = None,
    *,
    parameters: Mapping[str, Any] | None = None,
) -> SimulationContext:
    """Open a simulation's own database, or a context in a central one where the environment says so.

    So code that opens one database per run moves to a central one without a change: it is enough to set
    ``USE_EXPERIMENT_DB=1``, ``EXPERIMENT_ID`` and, for another place than ``experiments/<id>.db``,
    ``EXPERIMENT_DB_PATH``.

    Parameters
    ----------
    db_path : str or path-like, optional
        The simulation's own database, where the environment does not name a central one; by default
        ``<simulation_id>.db``.
    simulation_id : str, optional
        The simulation; by default the name of `db_path` without its ending.
    config : optional
        As for `ExperimentDatabase`.
    parameters : mapping, optional
        The simulation's parameters.

    Returns
    -------
    SimulationContext
        In a central database its ``close`` closes the database too, as that of a `SimulationDatabase` does.

    Raises
    ------
    SpecError
        Neither path nor simulation is given, or ``USE_EXPERIMENT_DB`` is set without ``EXPERIMENT_ID``.
    """
    if simulation_id is None and db_path is None:
        raise SpecError('"db_path" or "simulation_id" must be given')
    simulation_id = simulation_id or _stem(db_path or "")
    if os.environ.get("USE_EXPERIMENT_DB", "").lower() not in ("1", "true", "yes", "on"):
        context = SimulationDatabase(db_path or f"{simulation_id}.db", config, simulation_id)
        if parameters is not None:
            context.parent_db.create_simulation_context(simulation_id, parameters)
        return context
    experiment_id = os.environ.get("EXPERIMENT_ID")
    if not experiment_id:
        raise SpecError("USE_EXPERIMENT_DB is set, and EXPERIMENT_ID is not: set it to the experiment's id")
    central = os.environ.get("EXPERIMENT_DB_PATH") or os.path.join("experiments", f"{experiment_id}.db")
    parent = ExperimentDatabase(central, experiment_id, config)
    parent.create_simulation_context(simulation_id, parameters)
    return _OwnedContext(parent, simulation_id)


class _OwnedContext(SimulationContext):
    """A context whose database was opened for it alone."""

    def close(self) -> None:
        """Write what waits, then close the database."""
        self.flush_all_buffers()
        self.parent_db.close()


def _id(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\x00" in value:
        raise SpecError(f'"{what}" expects a text that is not empty, got {value!r}')
    return value


def _stem(db_path: str | os.PathLike[str]) -> str:
    stem = os.path.splitext(os.path.basename(os.fspath(db_path)))[0]
    return "simulation" if stem == ":memory:" else stem


def _status(status: str, results_summary: Mapping[str, Any] | None) -> dict[str, Any]:
    if status not in STATUSES:
        raise SpecError(f'"status" expects one of {", ".join(STATUSES)}, got {status!r}')
    changes: dict[str, Any] = {"status": status}
    if results_summary is not None:
        plain(results_summary, where="results_summary")
        changes["results_summary"] = results_summary
    return changes


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


def _insert_if_missing(engine: Engine, model: type[Base]) -> Any:
    dialect: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(model.__table__).on_conflict_do_nothing()
