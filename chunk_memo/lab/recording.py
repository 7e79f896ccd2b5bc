"""What a simulation logs, on its way to the database: :class:`DataLogger` keeps rows and writes them in batches.

Rows leave the buffer when the transaction that wrote them is committed, and not before. So a flush that fails, as
where another process holds the database for longer than the timeout, loses nothing and may be repeated; and since
a row takes the place of a stored one with the same key, one that was committed without our hearing of it does no
harm.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsIndex

from sqlalchemy import Engine, Table

from chunk_memo.errors import FlushWarning, SpecError, StoreError, caller_level
from chunk_memo.lab.engines import DatabaseConfig, in_memory, writing
from chunk_memo.lab.models import (
    ActionModel,
    AgentModel,
    AgentStateModel,
    ArtifactModel,
    Base,
    MetricModel,
    ResourceStateModel,
    SimulationStepModel,
)
from chunk_memo.lab.rows import Inlet

__all__ = ["DataLogger", "Row"]

Row = Mapping[str, Any] | Sequence[Any]
"""A row's fields by name, or values in the order of the model's columns."""


class DataLogger:
    """Takes the rows of one simulation; a `SimulationContext` is one.

    Rows are checked at once and written in batches: when `DatabaseConfig.buffer_size` of them wait, when the
    oldest has waited for `DatabaseConfig.commit_interval` seconds and another is logged, and by
    `flush_all_buffers`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    simulation_id : str
        Carried by each row.
    config : DatabaseConfig
        When rows are written.
    own_table : callable
        ``(name) -> Table`` for tables of the user's own.
    """

    def __init__(
        self, engine: Engine, simulation_id: str, config: DatabaseConfig, own_table: Callable[[str], Table]
    ) -> None:
        self.simulation_id = simulation_id
        """Carried by each row."""
        self._engine = engine
        self._config = config
        self._own_table = own_table
        self._inlets: dict[str, Inlet] = {}
        self._waiting: dict[str, list[tuple[Any, ...]]] = {}
        self._count = 0
        self._since = time.monotonic()
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        self._pid = os.getpid()
        self._drawn = int.from_bytes(os.urandom(4), "big") >> 1 << 32
        self._told = False
        _loggers.add(self)

    def log_step(
        self,
        step_number: SupportsIndex,
        agent_states: Iterable[Row] | None = None,
        resource_states: Iterable[Row] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Log one step: its metrics, and the states of agents and resources.

        A step that is logged again takes the place of the first.

        Parameters
        ----------
        step_number : int
            The step, from 0.
        agent_states : iterable of mapping or tuple, optional
            Each a dict with ``agent_id`` and further fields; those that `AgentStateModel` has no column for are
            kept in its JSON column. Or tuples in the order of its columns, from ``agent_id`` on.
        resource_states : iterable of mapping or tuple, optional
            Likewise, with ``resource_id`` and `ResourceStateModel`.
        metrics : mapping, optional
            Names to numbers; those that `SimulationStepModel` has no column for are kept in its JSON column.

        Raises
        ------
        SpecError
            A field that does not fit; nothing of this step is logged then.

        Examples
        --------
        >>> from chunk_memo.lab import ExperimentDatabase
        >>> db = ExperimentDatabase(":memory:", "exp_001")
        >>> context = db.create_simulation_context("sim_000")
        >>> context.logger.log_step(0, [{"agent_id": "a", "mood": "calm"}], [("r", 5.0)], {"total_agents": 1})
        >>> context.flush_all_buffers()
        3
        >>> db.close()
        """
        step = _step(step_number)
        at = {"simulation_id": self.simulation_id, "step_number": step}
        rows = {
            "simulation_steps": [self._inlet(SimulationStepModel).row(at, metrics or {})],
            "agent_states": self._rows(AgentStateModel, at, agent_states),
            "resource_states": self._rows(ResourceStateModel, at, resource_states),
        }
        self._add(rows)

    def log_agent(self, agent_id: str | SupportsIndex, **fields: Any) -> None:
        """Log an agent; one that is logged again takes the place of the first.

        Parameters
        ----------
        agent_id : str or int
            Its name, unique within this simulation.
        **fields : object
            Columns of `AgentModel`, and fields of one's own.
        """
        self.log_agents([{"agent_id": agent_id} | fields])

    def log_agents(self, agents: Iterable[Row]) -> None:
        """Log many agents.

        Parameters
        ----------
        agents : iterable of mapping or tuple
            Dicts with ``agent_id`` and further fields, or tuples in the order of `AgentModel`'s columns.
        """
        self._add({"agents": self._rows(AgentModel, self._fixed(), agents)})

    def log_agent_action(
        self, step_number: SupportsIndex, agent_id: str | SupportsIndex | None, action_type: str, **fields: Any
    ) -> None:
        """Log something that an agent did.

        Parameters
        ----------
        step_number : int
            The step.
        agent_id : str or int or None
            The agent.
        action_type : str
            What it did.
        **fields : object
            Columns of `ActionModel`, such as ``action_target_id`` and ``reward``, and fields of one's own.
        """
        step = _step(step_number)
        known = {"agent_id": agent_id, "action_type": action_type}
        with self._lock:
            self._drawn += 1
            fixed = self._fixed() | {"step_number": step, "action_id": self._drawn}
        self._add({"actions": [self._inlet(ActionModel).row(fixed, known | fields)]})

    def log_health_incident(
        self,
        step_number: SupportsIndex,
        agent_id: str | SupportsIndex,
        health_before: float,
        health_after: float,
        **fields: Any,
    ) -> None:
        """Log a change of an agent's health, as an action of the type ``"health_incident"``.

        Parameters
        ----------
        step_number : int
            The step.
        agent_id : str or int
            The agent.
        health_before, health_after : float
            Its health.
        **fields : object
            Further fields, such as ``cause``.
        """
        health = {"health_before": health_before, "health_after": health_after}
        self.log_agent_action(step_number, agent_id, "health_incident", **health, **fields)

    def log_reproduction_event(
        self,
        step_number: SupportsIndex,
        parent_id: str | SupportsIndex,
        offspring_id: str | SupportsIndex | None = None,
        **fields: Any,
    ) -> None:
        """Log that an agent had offspring, or tried to, as an action of the type ``"reproduction"``.

        Parameters
        ----------
        step_number : int
            The step.
        parent_id : str or int
            The agent.
        offspring_id : str or int, optional
            The new agent, kept as ``action_target_id``; None where there is none.
        **fields : object
            Further fields, such as ``success``.
        """
        self.log_agent_action(step_number, parent_id, "reproduction", action_target_id=offspring_id, **fields)

    def log_learning_experience(
        self,
        step_number: SupportsIndex,
        agent_id: str | SupportsIndex,
        reward: float | None = None,
        **fields: Any,
    ) -> None:
        """Log what an agent learned from, as an action of the type ``"learning"``.

        Parameters
        ----------
        step_number : int
            The step.
        agent_id : str or int
            The agent.
        reward : float, optional
            What it got.
        **fields : object
            Further fields, such as ``loss`` and ``module``.
        """
        self.log_agent_action(step_number, agent_id, "learning", reward=reward, **fields)

    def log_metric(self, name: str, value: float | None, step_number: SupportsIndex = 0, **fields: Any) -> None:
        """Log one number; one of the same name and step takes the place of the first.

        Parameters
        ----------
        name : str
            The metric.
        value : float or None
            The number.
        step_number : int, optional
            The step.
        **fields : object
            Fields of one's own.
        """
        fixed = self._fixed() | {"name": name, "step_number": _step(step_number), "value": value}
        self._add({"metrics": [self._inlet(MetricModel).row(fixed, fields)]})

    def log_metrics(self, metrics: Mapping[str, float | None], step_number: SupportsIndex = 0) -> None:
        """Log several numbers of one step.

        Parameters
        ----------
        metrics : mapping
            Names to numbers.
        step_number : int, optional
            The step.
        """
        inlet, fixed = self._inlet(MetricModel), self._fixed() | {"step_number": _step(step_number)}
        self._add({"metrics": [inlet.row(fixed | {"name": k, "value": v}, {}) for k, v in metrics.items()]})

    def log_artifact(self, artifact: Any, name: str | None = None, **fields: Any) -> None:
        """Log where something lies that belongs to this simulation.

        Parameters
        ----------
        artifact : path-like or object
            A file or folder; or a `ChunkCache`, a `Store`, a `CheckpointManager` or an `ExperimentLogger`, whose
            folder or file is noted.
        name : str, optional
            What it is called; by default the last part of its path.
        **fields : object
            Fields of one's own.
        """
        kind, path = _kind_and_path(artifact)
        known = {"name": name or path.name, "kind": kind, "path": self._from_database(path)}
        fixed = self._fixed() | known | {"created_at": datetime.now(UTC)}
        self._add({"artifacts": [self._inlet(ArtifactModel).row(fixed, fields)]})

    def log_row(self, table: str, row: Row | None = None, **fields: Any) -> None:
        """Log a row of a table that `ExperimentDatabase.define_table` defined.

        Parameters
        ----------
        table : str
            The table's name.
        row : mapping or tuple, optional
            The row's fields by name, or in the order of its columns.
        **fields : object
            Further fields.
        """
        self.log_rows(table, [row if row is not None and not fields else dict(row or {}) | fields])

    def log_rows(self, table: str, rows: Iterable[Row]) -> None:
        """Log many rows of a table that `ExperimentDatabase.define_table` defined.

        Parameters
        ----------
        table : str
            The table's name.
        rows : iterable of mapping or tuple
            As `log_row` takes them.
        """
        inlet = self._inlet_of(table, lambda: self._own_table(table))
        made = []
        for row in rows:
            fixed = self._fixed()
            if "row_id" in inlet.table.columns:
                with self._lock:
                    self._drawn += 1
                    fixed["row_id"] = self._drawn
            made.append(inlet.row(fixed, row))
        self._add({table: made})

    @property
    def waiting(self) -> int:
        """Number of rows that are not written yet."""
        self._forget_after_fork()
        return self._count

    def flush_all_buffers(self) -> int:
        """Write all rows that wait, in one transaction.

        Returns
        -------
        int
            Number of rows written.

        Raises
        ------
        StoreError
            The database did not take them. They are kept, and the call may be repeated.
        """
        self._forget_after_fork()
        with self._flushing:
            with self._lock:
                batch = {name: list(rows) for name, rows in self._waiting.items() if rows}
                self._since = time.monotonic()
            count = sum(map(len, batch.values()))
            if not batch:
                return 0
            try:
                with writing(self._engine) as connection:
                    for name, rows in batch.items():
                        self._inlets[name].write(connection, rows)
            except StoreError as error:
                raise StoreError(
                    error.errno,
                    f'{count} rows of simulation "{self.simulation_id}" wait: {error}; they are kept, call'
                    " flush_all_buffers() again",
                ) from error
            with self._lock:  # what was logged in the meantime stands behind the batch
                for name, rows in batch.items():
                    del self._waiting[name][: len(rows)]
                self._count -= count
            self._told = False
            return count

    def _add(self, rows: Mapping[str, list[tuple[Any, ...]]]) -> None:
        self._forget_after_fork()
        with self._lock:
            for name, each in rows.items():
                self._waiting.setdefault(name, []).extend(each)
                self._count += len(each)
            due = (
                self._count >= self._config.buffer_size
                or time.monotonic() - self._since >= self._config.commit_interval
            )
        if due:
            self._flush_if_possible()

    def _flush_if_possible(self) -> None:
        """Flush; where that fails the simulation goes on, and its rows wait."""
        try:
            self.flush_all_buffers()
        except StoreError as error:
            if not self._told:
                self._told = True
                warnings.warn(f"{error}; the simulation goes on", FlushWarning, stacklevel=caller_level())

    def _forget_after_fork(self) -> None:
        """In a child: leave the rows that the parent logged to the parent, and draw other numbers."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock, self._flushing = threading.RLock(), threading.Lock()
            self._waiting, self._count = {}, 0
            self._drawn = int.from_bytes(os.urandom(4), "big") >> 1 << 32

    def _fixed(self) -> dict[str, Any]:
        return {"simulation_id": self.simulation_id}

    def _rows(
        self, model: type[Base], fixed: Mapping[str, Any], rows: Iterable[Row] | None
    ) -> list[tuple[Any, ...]]:
        if rows is None:
            return []
        inlet = self._inlet(model)
        if isinstance(rows, str | Mapping):
            raise SpecError(
                f'"{inlet.table.name}" expects a list of rows, got {type(rows).__qualname__}: put it into a list'
            )
        return [inlet.row(fixed, row) for row in rows]

    def _inlet(self, model: type[Base]) -> Inlet:
        table = model.__table__
        assert isinstance(table, Table)
        return self._inlet_of(table.name, lambda: table)

    def _inlet_of(self, name: str, table: Callable[[], Table]) -> Inlet:
        inlet = self._inlets.get(name)
        if inlet is None:
            inlet = self._inlets[name] = Inlet(table(), self._engine.dialect)
        return inlet

    def _from_database(self, path: Path) -> str:
        """Return a path relative to the database's folder where it lies below that, so that both may be moved."""
        path = Path(os.path.abspath(path))
        if self._engine.dialect.name == "sqlite" and not in_memory(self._engine.url):
            home = Path(str(self._engine.url.database)).parent
            if path.is_relative_to(home):
                return path.relative_to(home).as_posix()
        return str(path)


def _step(step_number: Any) -> int:
    try:
        step = int(step_number.__index__())
    except AttributeError:
        step = -1
    if step < 0 or isinstance(step_number, bool):
        raise SpecError(f'"step_number" expects an integer of at least 0, got {step_number!r}')
    return step


_KINDS = {
    "chunk_memo.cache.ChunkCache": ("chunk_cache", "path"),
    "chunk_memo.store.Store": ("store", "results_dir"),
    "chunk_memo.lab.checkpoint.CheckpointManager": ("checkpoints", "checkpoint_dir"),
    "chunk_memo.lab.logger.ExperimentLogger": ("log", "output_dir"),
}


def _kind_and_path(artifact: Any) -> tuple[str, Path]:
    if isinstance(artifact, str | os.PathLike):
        return "file", Path(artifact)
    for each in type(artifact).__mro__:
        known = _KINDS.get(f"{each.__module__}.{each.__qualname__}")
        if known is not None:
            kind, attribute = known
            return kind, Path(getattr(artifact, attribute))
    raise SpecError(
        '"artifact" expects a path, a ChunkCache, a Store, a CheckpointManager or an ExperimentLogger, got'
        f" {type(artifact).__qualname__}"
    )


_loggers: weakref.WeakSet[DataLogger] = weakref.WeakSet()


@atexit.register
def _flush_at_exit() -> None:
    """Write what a program left waiting when it ended."""
    for logger in list(_loggers):
        if logger.waiting:
            try:
                logger.flush_all_buffers()
            except Exception as error:  # the last chance to say it
                warnings.warn(str(error), FlushWarning, stacklevel=1)
