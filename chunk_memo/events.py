"""What a run tells whoever watches it: frozen events, and what an observer is.

Runners emit events and never print; a progress bar, a log or a history observes them. An observer never
steers a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["ChunkDone", "Event", "Observer", "PointFailed", "RunFinished", "RunStarted"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is about to compute what it did not find."""

    name: str
    """The function's name."""
    cache_id: str
    """The cache."""
    chunks: int
    """Number of chunks that the request touches."""
    points: int
    """Number of points asked for."""
    cached_points: int
    """Number of those that were found stored."""


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """Points of one chunk were computed and stored."""

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    points: int
    """Number of points computed."""
    seconds: float
    """Seconds of compute."""
    bytes_written: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class PointFailed:
    """The function raised."""

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    arguments: dict[str, Any]
    """Axis values that the function was called with."""
    error: BaseException
    """What it raised."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended, one way or the other."""

    seconds: float
    """Seconds since it started."""
    complete: bool
    """Whether every point asked for is stored."""


Event = RunStarted | ChunkDone | PointFailed | RunFinished
"""Any event."""


class Observer(Protocol):
    """Anything that can be called with an event."""

    def __call__(self, event: Event, /) -> None:
        """Take note of an event.

        Parameters
        ----------
        event : Event
            What happened.
        """
