"""What a run tells whoever watches it: frozen events, and what an observer is.

Runners emit events and never print; a progress bar, a log or a history observes them. An observer never
steers a run: one that raises is warned of once, and told nothing more. All events of a run come one after the
other, from the thread that called the runner.

Two events are equal where they say the same; when and by whom does not count.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from chunk_memo.errors import SpecError

__all__ = [
    "ChunkDone",
    "ChunkFound",
    "ChunkLost",
    "Event",
    "Observer",
    "PointFailed",
    "RunFinished",
    "RunStarted",
    "checked_observers",
    "this_process",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is about to compute what it did not find.

    Examples
    --------
    >>> started = RunStarted("foo", "some id", chunks=2, points=10, cached_points=4)
    >>> started.points - started.cached_points
    6
    """

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
    left_out: int = 0
    """Number of those that are not stored and are not computed either: they failed before, or
    ``on_partial="return"`` leaves them out."""
    path: str = field(default="", compare=False)
    """The cache's folder; empty where it has none."""
    started_at: int = field(default=0, compare=False)
    """When, in nanoseconds since 1970 (UTC)."""
    map: str = field(default="", compare=False)
    """Where it computes: the map function's name; empty for this process, one chunk after the other."""


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
    worker: str = field(default="", compare=False)
    """Who computed it: host and process id, ``"host:pid"``."""
    ended_at: int = field(default=0, compare=False)
    """When this process learned of it, in nanoseconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class ChunkFound:
    """Points of one chunk were to be computed, and another process had stored them by then."""

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    points: int
    """Number of points found."""


@dataclass(frozen=True, slots=True)
class ChunkLost:
    """The worker that was to compute a chunk ended, or was ended, before it was done."""

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    reason: str
    """How the worker ended, in words."""
    deaths: int
    """How many workers this chunk has cost by now; 0 while it is not known which of several it was."""
    retried: bool
    """Whether it is given out again."""


@dataclass(frozen=True, slots=True)
class PointFailed:
    """The function raised, or what it returned does not fit."""

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    arguments: dict[str, Any]
    """Axis values that the function was called with."""
    error: BaseException
    """What it raised."""
    points: int = 1
    """Number of points that failed together."""
    seconds: float = field(default=0.0, compare=False)
    """Seconds that the attempt took."""
    worker: str = field(default="", compare=False)
    """Where it failed: host and process id, ``"host:pid"``."""
    ended_at: int = field(default=0, compare=False)
    """When, in nanoseconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended, one way or the other."""

    seconds: float
    """Seconds since it started."""
    complete: bool
    """Whether every point asked for is stored."""
    executed_points: int = 0
    """Number of points computed."""
    failed_points: int = 0
    """Number of points that failed and were recorded, those left out because they failed before included."""
    interrupted: bool = False
    """Whether it was ended from outside, as by Ctrl-C."""
    error: BaseException | None = None
    """What ended it before its time, if anything did."""


Event = RunStarted | ChunkDone | ChunkFound | ChunkLost | PointFailed | RunFinished
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


def checked_observers(observers: Any) -> tuple[Observer, ...]:
    """Return the observers that a caller gave.

    Parameters
    ----------
    observers : iterable of Observer
        What was given.

    Returns
    -------
    tuple of Observer
        The observers.

    Raises
    ------
    SpecError
        Where it is no list, or something in it cannot be called, or is the class of an observer.

    Examples
    --------
    >>> checked_observers([print]) == (print,)
    True
    """
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        came = f"one {type(observers).__name__}" if callable(observers) else repr(observers)
        raise SpecError(f"observers must be a list, got {came}; write observers=[…] around it")
    given = tuple(observers)
    for each in given:
        if isinstance(each, type):
            raise SpecError(f"an observer is wanted, got the class {each.__name__!r}; write {each.__name__}()")
        if not callable(each):
            raise SpecError(f"an observer can be called with an event, got {each!r}")
    return given


def this_process() -> str:
    """Return what events call this process.

    Returns
    -------
    str
        ``"host:pid"``.
    """
    return _named(os.getpid())


@functools.lru_cache(maxsize=4)
def _named(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"
