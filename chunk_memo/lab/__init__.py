"""The record of an experiment: its log, its checkpoints, and one database for its simulations.

A name is imported when it is first asked for, so that each tool of the lab needs its own extra only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chunk_memo.doors import door as _door

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
    __getattr__, __dir__ = _door(__name__, _HOMES, {"sqlalchemy": "lab"})
