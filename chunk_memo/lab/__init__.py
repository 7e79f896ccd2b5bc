"""The record of an experiment: its log, its checkpoints, and one database for its simulations.

A name is imported when it is first asked for, so that each tool of the lab needs its own extra only.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chunk_memo.lab.checkpoint import (
        AutoCheckpoint,
        CheckpointInfo,
        CheckpointManager,
        Terminated,
        backup_checkpoint,
        create_checkpoint_manager,
        restore_rng,
        resume_from_checkpoint,
    )
    from chunk_memo.lab.database import (
        ExperimentDatabase,
        ExperimentManager,
        SimulationContext,
        SimulationDatabase,
        create_database,
    )
    from chunk_memo.lab.engines import DatabaseConfig
    from chunk_memo.lab.logger import (
        ExperimentLogger,
        analyze_logs,
        create_experiment_logger,
        load_structured_logs,
    )
    from chunk_memo.lab.memory import InMemorySimulationDatabase, Persisted
    from chunk_memo.lab.models import (
        ActionModel,
        AgentModel,
        AgentStateModel,
        ArtifactModel,
        ExperimentModel,
        MetricModel,
        ResourceStateModel,
        SimulationModel,
        SimulationStepModel,
    )
    from chunk_memo.lab.recording import DataLogger
    from chunk_memo.lab.transfer import Merged

_HOMES = {
    "chunk_memo.lab.checkpoint": (
        "AutoCheckpoint",
        "CheckpointInfo",
        "CheckpointManager",
        "Terminated",
        "backup_checkpoint",
        "create_checkpoint_manager",
        "restore_rng",
        "resume_from_checkpoint",
    ),
    "chunk_memo.lab.database": (
        "ExperimentDatabase",
        "ExperimentManager",
        "SimulationContext",
        "SimulationDatabase",
        "create_database",
    ),
    "chunk_memo.lab.engines": ("DatabaseConfig",),
    "chunk_memo.lab.logger": (
        "ExperimentLogger",
        "analyze_logs",
        "create_experiment_logger",
        "load_structured_logs",
    ),
    "chunk_memo.lab.memory": ("InMemorySimulationDatabase", "Persisted"),
    "chunk_memo.lab.models": (
        "ActionModel",
        "AgentModel",
        "AgentStateModel",
        "ArtifactModel",
        "ExperimentModel",
        "MetricModel",
        "ResourceStateModel",
        "SimulationModel",
        "SimulationStepModel",
    ),
    "chunk_memo.lab.recording": ("DataLogger",),
    "chunk_memo.lab.transfer": ("Merged",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActionModel",
    "AgentModel",
    "AgentStateModel",
    "ArtifactModel",
    "AutoCheckpoint",
    "CheckpointInfo",
    "CheckpointManager",
    "DataLogger",
    "DatabaseConfig",
    "ExperimentDatabase",
    "ExperimentLogger",
    "ExperimentManager",
    "ExperimentModel",
    "InMemorySimulationDatabase",
    "Merged",
    "MetricModel",
    "Persisted",
    "ResourceStateModel",
    "SimulationContext",
    "SimulationDatabase",
    "SimulationModel",
    "SimulationStepModel",
    "Terminated",
    "analyze_logs",
    "backup_checkpoint",
    "create_checkpoint_manager",
    "create_database",
    "create_experiment_logger",
    "load_structured_logs",
    "restore_rng",
    "resume_from_checkpoint",
]


if not TYPE_CHECKING:  # a checker shall go on naming what is not there

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(_import_module(home), name)
        except ModuleNotFoundError as error:
            if error.name != "sqlalchemy":
                raise
            raise ImportError(
                f"chunk_memo.lab.{name} needs the package 'sqlalchemy', which is not installed; run"
                " `pip install 'chunk-memo[lab]'`"
            ) from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
