"""The record of an experiment: its log and its checkpoints.

A name is imported when it is first asked for (PEP 562).
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
    from chunk_memo.lab.logger import (
        ExperimentLogger,
        analyze_logs,
        create_experiment_logger,
        load_structured_logs,
    )

__all__ = [
    "AutoCheckpoint",
    "CheckpointInfo",
    "CheckpointManager",
    "ExperimentLogger",
    "Terminated",
    "analyze_logs",
    "backup_checkpoint",
    "create_checkpoint_manager",
    "create_experiment_logger",
    "load_structured_logs",
    "restore_rng",
    "resume_from_checkpoint",
]

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
    "chunk_memo.lab.logger": (
        "ExperimentLogger",
        "analyze_logs",
        "create_experiment_logger",
        "load_structured_logs",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a checker shall go on naming what is not there

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_HOME_OF[name]), name)
        return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
