"""The tables of an experiment database, as SQLAlchemy models.

::

    experiments ─┬─ simulations ─┬─ simulation_steps   (simulation_id, step_number)
                 │               ├─ agents             (simulation_id, agent_id)
                 │               ├─ agent_states       (simulation_id, step_number, agent_id)
                 │               ├─ resource_states    (simulation_id, step_number, resource_id)
                 │               ├─ actions            (simulation_id, action_id)
                 │               ├─ metrics            (simulation_id, name, step_number)
                 │               ├─ artifacts          (simulation_id, name)
                 │               └─ tables of the user's own
                 └─ own_tables: what `define_table` defined

Every data row carries ``simulation_id``, and it leads every primary key: rows of one simulation lie together and
are found by the key's index, and the ids of agents need be unique only within their simulation. The columns are
those that many simulations share; whatever else a row has lies in ``extra``, a JSON column.

Moments are aware and in UTC. In SQLite they are text in ISO 8601 with their offset, as everywhere in this
library. NaN in a column of floats is NULL, in PostgreSQL as in SQLite, which knows no NaN; in ``extra`` it is
kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Double, ForeignKey, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from chunk_memo.errors import SpecError
from chunk_memo.plainjson import plain, unmarked

__all__ = [
    "ActionModel",
    "AgentModel",
    "AgentStateModel",
    "ArtifactModel",
    "Base",
    "ExperimentModel",
    "MetricModel",
    "OwnTableModel",
    "PlainJson",
    "ResourceStateModel",
    "SimulationModel",
    "SimulationStepModel",
    "UtcDateTime",
]


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; text in ISO 8601 with its offset where the database has no such type.

    Parameters
    ----------
    *args, **kwargs : object
        Those of the type that it stands for.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return what a database stores.

        Parameters
        ----------
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        sqlalchemy.types.TypeEngine
            The type.
        """
        return dialect.type_descriptor(String(32) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return a moment as the database takes it.

        Parameters
        ----------
        value : datetime or None
            The value.
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        object
            For the driver.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise SpecError(f"a moment needs its time zone: got {value!r}; use datetime.now(timezone.utc)")
        value = value.astimezone(UTC)
        return value.isoformat(timespec="microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return a stored moment, in UTC.

        Parameters
        ----------
        value : object
            What the driver returned.
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        datetime or None
            The value.
        """
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


class PlainJson(TypeDecorator[Any]):
    """Standard JSON; ``jsonb`` in PostgreSQL. NaN and infinities are marked, and come back as floats.

    Parameters
    ----------
    *args, **kwargs : object
        Those of the type that it stands for.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return what a database stores.

        Parameters
        ----------
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        sqlalchemy.types.TypeEngine
            The type.
        """
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(JSONB(none_as_null=True) if postgresql else JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return a value as JSON has it.

        Parameters
        ----------
        value : object
            The value.
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        object
            For the driver.
        """
        return None if value is None else plain(value, non_finite="mark")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return a stored value.

        Parameters
        ----------
        value : object
            What the driver returned.
        dialect : sqlalchemy.engine.Dialect
            Of the database.

        Returns
        -------
        object
            The value.
        """
        return None if value is None else unmarked(value)


class Base(DeclarativeBase):
    """What all models derive from; ``Base.metadata`` has all tables.

    Parameters
    ----------
    **kwargs : object
        Columns by name.
    """

    type_annotation_map = {  # noqa: RUF012 - the name and form that SQLAlchemy asks for
        str: Text(),
        int: BigInteger(),
        float: Double(),
        datetime: UtcDateTime(),
        dict[str, Any]: PlainJson(),
        Any: PlainJson(),
    }

    def __repr__(self) -> str:
        columns = (f"{name}={getattr(self, name)!r}" for name in self.__table__.columns.keys())  # noqa: SIM118
        return f"{type(self).__name__}({', '.join(columns)})"


def _simulation() -> Any:
    return mapped_column(Text(), ForeignKey("simulations.simulation_id"), primary_key=True)


_CLUSTERED = {"sqlite_with_rowid": False}
"""Rows lie in the order of the primary key, without an index beside the table."""


class ExperimentModel(Base):
    """A group of simulations."""

    __tablename__ = "experiments"

    experiment_id: Mapped[str] = mapped_column(primary_key=True)
    """Its name in the database."""
    name: Mapped[str]
    """Its name for people."""
    description: Mapped[str | None]
    """What it is for."""
    creation_date: Mapped[datetime]
    """When it was made (UTC)."""
    last_updated: Mapped[datetime]
    """When its status was last set (UTC)."""
    status: Mapped[str]
    """``pending``, ``running``, ``completed`` or ``failed``."""
    results_summary: Mapped[Any | None]
    """What was found, in short."""


class SimulationModel(Base):
    """One simulation of an experiment."""

    __tablename__ = "simulations"

    simulation_id: Mapped[str] = mapped_column(primary_key=True)
    """Its name, unique in the database."""
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.experiment_id"), index=True)
    """The experiment that it belongs to."""
    start_time: Mapped[datetime]
    """When it was begun (UTC)."""
    end_time: Mapped[datetime | None]
    """When it was completed or failed (UTC)."""
    status: Mapped[str] = mapped_column(index=True)
    """``pending``, ``running``, ``completed`` or ``failed``."""
    parameters: Mapped[Any | None]
    """Its parameters, for doing it again."""
    results_summary: Mapped[Any | None]
    """What came out, in short; ``{"error": …}`` where it failed."""
    simulation_db_path: Mapped[str]
    """The database that it was first written to, without a password."""


class SimulationStepModel(Base):
    """One step of a simulation, with the numbers that describe the whole of it."""

    __tablename__ = "simulation_steps"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    step_number: Mapped[int] = mapped_column(primary_key=True)
    """The step, from 0."""
    total_agents: Mapped[int | None]
    """Number of agents."""
    total_resources: Mapped[float | None]
    """Sum of all resources."""
    births: Mapped[int | None]
    """Agents born in this step."""
    deaths: Mapped[int | None]
    """Agents that died in this step."""
    average_agent_resources: Mapped[float | None]
    """Mean of what agents hold."""
    average_agent_health: Mapped[float | None]
    """Mean health."""
    average_agent_age: Mapped[float | None]
    """Mean age in steps."""
    average_reward: Mapped[float | None]
    """Mean reward of this step."""
    resources_consumed: Mapped[float | None]
    """Resources used up in this step."""
    extra: Mapped[dict[str, Any] | None]
    """Metrics of one's own, by name."""


class AgentModel(Base):
    """One agent of a simulation."""

    __tablename__ = "agents"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    agent_id: Mapped[str] = mapped_column(primary_key=True)
    """The agent's name within its simulation."""
    agent_type: Mapped[str | None]
    """Its kind."""
    birth_time: Mapped[int | None]
    """The step in which it was born."""
    death_time: Mapped[int | None]
    """The step in which it died."""
    position_x: Mapped[float | None]
    """Where it began."""
    position_y: Mapped[float | None]
    """Where it began."""
    initial_resources: Mapped[float | None]
    """What it began with."""
    starting_health: Mapped[float | None]
    """Its health at birth."""
    generation: Mapped[int | None]
    """Number of its ancestors."""
    genome_id: Mapped[str | None]
    """Its genome's name."""
    extra: Mapped[dict[str, Any] | None]
    """Fields of one's own, by name."""


class AgentStateModel(Base):
    """An agent at one step."""

    __tablename__ = "agent_states"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    step_number: Mapped[int] = mapped_column(primary_key=True)
    """The step."""
    agent_id: Mapped[str] = mapped_column(primary_key=True)
    """The agent."""
    position_x: Mapped[float | None]
    """Where it is."""
    position_y: Mapped[float | None]
    """Where it is."""
    resource_level: Mapped[float | None]
    """What it holds."""
    current_health: Mapped[float | None]
    """Its health."""
    total_reward: Mapped[float | None]
    """Sum of its rewards so far."""
    age: Mapped[int | None]
    """Steps since its birth."""
    extra: Mapped[dict[str, Any] | None]
    """Fields of one's own, by name."""


class ResourceStateModel(Base):
    """A resource at one step."""

    __tablename__ = "resource_states"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    step_number: Mapped[int] = mapped_column(primary_key=True)
    """The step."""
    resource_id: Mapped[str] = mapped_column(primary_key=True)
    """The resource."""
    amount: Mapped[float | None]
    """How much there is."""
    position_x: Mapped[float | None]
    """Where it is."""
    position_y: Mapped[float | None]
    """Where it is."""
    extra: Mapped[dict[str, Any] | None]
    """Fields of one's own, by name."""


class ActionModel(Base):
    """Something that an agent did, or that was done to it."""

    __tablename__ = "actions"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    action_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Drawn by the writer, so that a flush that is repeated stores nothing twice; ascending per writer."""
    step_number: Mapped[int]
    """The step."""
    agent_id: Mapped[str | None]
    """The agent."""
    action_type: Mapped[str]
    """What was done."""
    action_target_id: Mapped[str | None]
    """To whom."""
    resources_before: Mapped[float | None]
    """What the agent held before."""
    resources_after: Mapped[float | None]
    """What it holds now."""
    reward: Mapped[float | None]
    """What it got for it."""
    extra: Mapped[dict[str, Any] | None]
    """Details, by name."""


class MetricModel(Base):
    """One number of a simulation at one step."""

    __tablename__ = "metrics"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    name: Mapped[str] = mapped_column(primary_key=True)
    """The metric."""
    step_number: Mapped[int] = mapped_column(primary_key=True)
    """The step."""
    value: Mapped[float | None]
    """The number."""
    extra: Mapped[dict[str, Any] | None]
    """Fields of one's own, by name."""


class ArtifactModel(Base):
    """A file or folder that belongs to a simulation: a chunk cache, a store, a checkpoint, a log."""

    __tablename__ = "artifacts"
    __table_args__ = _CLUSTERED

    simulation_id: Mapped[str] = _simulation()
    """The simulation."""
    name: Mapped[str] = mapped_column(primary_key=True)
    """What it is called within the simulation."""
    kind: Mapped[str]
    """``chunk_cache``, ``store``, ``checkpoints``, ``log`` or ``file``."""
    path: Mapped[str]
    """Where it lies; relative to the database's folder where it lies below that."""
    created_at: Mapped[datetime]
    """When it was noted (UTC)."""
    extra: Mapped[dict[str, Any] | None]
    """Fields of one's own, by name."""


class OwnTableModel(Base):
    """A table that a user defined, so that it is known when the database is opened again."""

    __tablename__ = "own_tables"

    name: Mapped[str] = mapped_column(primary_key=True)
    """The table."""
    columns: Mapped[Any]
    """``[[name, type], …]``, in order."""
    key: Mapped[Any]
    """The columns by which a row replaces an earlier one; empty where none does."""
