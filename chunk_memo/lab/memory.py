"""A simulation's database in memory, written to a central one afterwards: :class:`InMemorySimulationDatabase`."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from chunk_memo.errors import CollisionError, MemoryLimitError, MemoryLimitWarning, SpecError, caller_level
from chunk_memo.lab.database import ExperimentDatabase, SimulationContext
from chunk_memo.lab.engines import DatabaseConfig, connect, create_tables, is_url, shown
from chunk_memo.lab.models import Base, ExperimentModel, SimulationModel
from chunk_memo.lab.owntables import data_tables, definitions
from chunk_memo.lab.transfer import copy_simulations

__all__ = ["InMemorySimulationDatabase", "Persisted"]

_MB = 1_000_000
_TOLD_AT = (0.9, 0.7)


@dataclass(frozen=True, slots=True)
class Persisted:
    """What `InMemorySimulationDatabase.persist_to_disk` wrote; also a mapping of these names.

    Examples
    --------
    >>> Persisted("lab.db", "exp_001", 2, 30, (), datetime(2026, 1, 1, tzinfo=UTC), 0.5)["rows_copied"]
    30
    """

    db_path: str
    """The database."""
    experiment_id: str
    """The experiment that the simulation now belongs to."""
    tables_copied: int
    """Number of tables with rows of it."""
    rows_copied: int
    """Number of rows, less the simulation's own."""
    tables_skipped: tuple[str, ...]
    """Tables that were left out on request."""
    start_time: datetime
    """When it began (UTC)."""
    duration: float
    """How long it took, in seconds."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)


class InMemorySimulationDatabase(SimulationContext):
    """A database of one simulation that lives in this process until `persist_to_disk` writes it.

    Parameters
    ----------
    memory_limit_mb : float, optional
        How much it may hold, in MB. At 70 and 90 per cent a warning says so; beyond, logging is an error, and
        what is there can be written and the limit be raised.
    config : optional
        As for `ExperimentDatabase`.
    simulation_id : str, optional
        The simulation; by default its name is drawn from the time and at random.
    parameters : mapping, optional
        Its parameters.

    Examples
    --------
    >>> import tempfile
    >>> db = InMemorySimulationDatabase(memory_limit_mb=100, simulation_id="sim_000")
    >>> db.logger.log_step(0, metrics={"total_agents": 3})
    >>> path = os.path.join(tempfile.mkdtemp(), "exp_001.db")
    >>> db.persist_to_disk(path)["rows_copied"]
    1
    >>> with ExperimentDatabase(path, "exp_001") as central:
    ...     central.get_simulation_ids()
    ['sim_000']
    """

    def __init__(
        self,
        memory_limit_mb: float | None = None,
        config: Any = None,
        simulation_id: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if memory_limit_mb is not None and not memory_limit_mb > 0:
            raise SpecError(f'"memory_limit_mb" expects a number above 0 or None, got {memory_limit_mb!r}')
        if simulation_id is None:
            simulation_id = f"sim_{datetime.now(UTC):%Y%m%d_%H%M%S}_{os.urandom(4).hex()}"
        parent = ExperimentDatabase(":memory:", "in memory", config)
        parent.create_simulation_context(simulation_id, parameters)
        super().__init__(parent, simulation_id)
        self.memory_limit_mb = memory_limit_mb
        """How much it may hold, in MB; may be set anew."""
        self._told_at = 0.0

    def get_memory_usage(self) -> float:
        """Return how much the database holds, in MB, less the rows that are not written to it yet.

        Returns
        -------
        float
            MB, of 10⁶ bytes.
        """
        return self.parent_db.size() / _MB

    def flush_all_buffers(self) -> int:
        """Write all rows that wait; see `SimulationContext.flush_all_buffers`.

        Returns
        -------
        int
            Number of rows written.

        Raises
        ------
        MemoryLimitError
            The database holds more than its limit; the rows were written all the same.
        """
        written = super().flush_all_buffers()
        if self.memory_limit_mb is not None and written:
            self._watch(self.get_memory_usage() / self.memory_limit_mb)
        return written

    def _watch(self, share: float) -> None:
        if share > 1:
            raise MemoryLimitError(
                f'simulation "{self.simulation_id}" holds {self.get_memory_usage():.0f} MB, and memory_limit_mb'
                f" is {self.memory_limit_mb}: its rows are kept; write them with persist_to_disk(), or set"
                " memory_limit_mb higher"
            )
        passed = next((mark for mark in _TOLD_AT if share >= mark), 0.0)
        if passed > self._told_at:
            self._told_at = passed
            warnings.warn(
                f'simulation "{self.simulation_id}" holds {share:.0%} of its {self.memory_limit_mb} MB',
                MemoryLimitWarning,
                stacklevel=caller_level(),
            )

    def persist_to_disk(
        self,
        db_path: str | os.PathLike[str],
        tables: Sequence[str] | None = None,
        experiment_id: str | None = None,
        *,
        show_progress: bool = False,
    ) -> Persisted:
        """Write the simulation into a database on disk, beside those that it holds already.

        All of it is written in one transaction. It stays in memory, too.

        Parameters
        ----------
        db_path : str or path-like
            A file or a database URL; made where there is none.
        tables : sequence of str, optional
            Only these tables, such as ``["simulation_steps", "metrics"]``.
        experiment_id : str, optional
            The experiment that it shall belong to, made where there is none. By default the only one in the
            database, and in a new database one of the file's name.
        show_progress : bool, optional
            Accepted, since the document names it; a transaction has no progress to show.

        Returns
        -------
        Persisted
            What was written.

        Raises
        ------
        SpecError
            `experiment_id` is None, and the database holds several experiments; or a table that there is not.
        CollisionError
            The database has a simulation of that id already.
        """
        began, started = datetime.now(UTC), time.perf_counter()
        try:
            self.flush_all_buffers()
        except MemoryLimitError:
            pass  # writing it is the way out
        known = self.parent_db.table_names()
        wrong = [name for name in tables or () if name not in known]
        if wrong:
            raise SpecError(f'"tables" names {wrong[0]!r}; there are {", ".join(known)}')
        with ExperimentDatabase(
            db_path, self._experiment(db_path, experiment_id), self.parent_db.config
        ) as central:
            self._must_be_new(central)
            for name, key, columns in definitions(self.parent_db.engine):
                central.define_table(name, *key, **columns)
            rows = copy_simulations(
                self.parent_db.engine, central.engine, [self.simulation_id], central.experiment_id, tables
            )
            filled = [name for name in known if self._rows_in(name)]
            copied = [name for name in filled if tables is None or name in tables]
            skipped = tuple(name for name in filled if name not in copied)
            seconds = time.perf_counter() - started
            path = shown(central.engine)
            return Persisted(path, central.experiment_id, len(copied), rows, skipped, began, seconds)

    def _experiment(self, db_path: str | os.PathLike[str], experiment_id: str | None) -> str:
        if experiment_id is not None:
            return experiment_id
        found: list[str] = []
        if is_url(db_path) or os.path.exists(db_path):
            engine = connect(db_path, DatabaseConfig())
            try:
                create_tables(engine, Base.metadata)
                with engine.connect() as connection:
                    found = sorted(connection.scalars(select(ExperimentModel.experiment_id)))
            finally:
                engine.dispose()
        if len(found) > 1:
            raise SpecError(
                f'"experiment_id" must be given: "{os.fspath(db_path)}" holds {len(found)} experiments,'
                f" {', '.join(found[:5])}"
            )
        name = os.path.splitext(os.path.basename(os.fspath(db_path)))[0]
        return found[0] if found else name

    def _must_be_new(self, central: ExperimentDatabase) -> None:
        table = SimulationModel.__table__
        with central.engine.connect() as connection:
            query = select(table.c.experiment_id).where(table.c.simulation_id == self.simulation_id)
            owner = connection.scalar(query)
        if owner is not None:
            raise CollisionError(
                f'"{shown(central.engine)}" has a simulation "{self.simulation_id}" already, in the experiment'
                f' "{owner}": remove it with remove_simulation(), or give this one another simulation_id'
            )

    def _rows_in(self, name: str) -> int:
        table = next(table for table in data_tables(self.parent_db.engine) if table.name == name)
        with self.parent_db.engine.connect() as connection:
            return int(connection.scalar(select(func.count()).select_from(table)) or 0)

    def close(self) -> None:
        """Give the memory back; what was not written with `persist_to_disk` is gone."""
        self.parent_db.close()
