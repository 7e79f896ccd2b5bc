"""What has become of a run's points so far, how fast it goes, and how much longer it will take.

Rate and remaining time count computed points only: what was found stored took no time, and says nothing about
what is left. Both are taken at the moment that the last chunk came in, not now, since a rate that falls while a
long chunk is under way and leaps when it is done is of no use to anybody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from chunk_memo.events import ChunkDone, ChunkFound, Event, PointFailed, RunFinished, RunStarted

__all__ = ["Meter", "clock_text", "duration_text", "error_text", "rate_text"]

MINUTE, HOUR, DAY = 60, 3600, 86400


class Meter:
    """Counts the points of one run.

    Parameters
    ----------
    started : RunStarted
        The run.
    clock : callable
        Returns the time in seconds.

    Examples
    --------
    >>> now = [0.0]
    >>> meter = Meter(RunStarted("foo", "id", chunks=3, points=30, cached_points=10), lambda: now[0])
    >>> now[0] = 5.0
    >>> meter.note(ChunkDone("name", points=10, seconds=5.0, bytes_written=100))
    >>> meter.rate, meter.remaining()
    (2.0, 5.0)
    """

    def __init__(self, started: RunStarted, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = started
        self.name = started.name or started.cache_id[:16]
        """What the run is called."""
        self.done = 0
        """Number of points computed."""
        self.found = 0
        """Number of points that another process stored meanwhile."""
        self.failed = 0
        """Number of points that failed."""
        self.chunks_done = 0
        """Number of chunks of which points were computed."""
        self.error = ""
        """The last thing that went wrong, in a line."""
        self.finished: RunFinished | None = None
        """How it ended, once it has."""
        self._clock = clock
        self._started = self._last = clock()
        self._newest = ""
        self._arrivals = 0

    def note(self, event: Event) -> None:
        """Take note of an event.

        Parameters
        ----------
        event : Event
            What happened.
        """
        if isinstance(event, ChunkDone):
            self.done += event.points
            self.chunks_done += 1
            self._arrived(event.chunk_hash)
        elif isinstance(event, ChunkFound):
            self.found += event.points
        elif isinstance(event, PointFailed):
            self.failed += event.points
            self.error = error_text(event.error)
            self._arrived(event.chunk_hash)
        elif isinstance(event, RunFinished):
            self.finished = event
            if event.error is not None and not event.interrupted:
                self.error = error_text(event.error)

    def _arrived(self, chunk_hash: str) -> None:
        """Take the time; what is heard of one chunk in a row came in at once."""
        self._arrivals += chunk_hash != self._newest
        self._newest = chunk_hash
        self._last = self._clock()

    @property
    def total(self) -> int:
        """Number of points asked for."""
        return self.run.points

    @property
    def reused(self) -> int:
        """Number of points that did not have to be computed."""
        return self.run.cached_points + self.found

    @property
    def stored(self) -> int:
        """Number of points that are there by now."""
        return min(self.total, self.reused + self.done)

    @property
    def percent(self) -> int:
        """Points that are there per hundred; 100 only where all are."""
        return 100 * self.stored // self.total if self.total else 100

    @property
    def elapsed(self) -> float:
        """Seconds since the run started."""
        return self._clock() - self._started

    @property
    def rate(self) -> float | None:
        """Points computed per second, failed ones included; None while there are none."""
        took, computed = self._last - self._started, self.done + self.failed
        return computed / took if computed and took > 0 else None

    def remaining(self) -> float | None:
        """Return how many seconds it will still take.

        Returns
        -------
        float or None
            Seconds; None while nothing is known.
        """
        rate, left = self.rate, max(0, self.total - self.stored - self.failed - self.run.left_out)
        if rate is None:
            return None
        between = (self._last - self._started) / self._arrivals
        waited = min(self._clock() - self._last, between)
        return max(0.0, left / rate - waited)


def error_text(error: BaseException) -> str:
    """Return an exception in one line.

    Parameters
    ----------
    error : BaseException
        The exception.

    Returns
    -------
    str
        Its class and the first line of what it says.

    Examples
    --------
    >>> error_text(ValueError("no such thing"))
    'ValueError: no such thing'
    """
    try:
        said = str(error).strip().partition("\n")[0]
    except Exception:  # a class of the user's, which may do anything
        said = ""
    kind = type(error).__name__
    return f"{kind}: {said}"[:500] if said else kind


def clock_text(seconds: float | None) -> str:
    """Return a duration as a clock shows it.

    Parameters
    ----------
    seconds : float or None
        Seconds; None where they are not known.

    Returns
    -------
    str
        ``mm:ss``, or more where it takes more.

    Examples
    --------
    >>> clock_text(17.4), clock_text(3725), clock_text(100_000), clock_text(None)
    ('00:17', '1:02:05', '1d 03:46:40', '?')
    """
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(0, int(seconds))
    days, hours = divmod(whole // HOUR, 24)
    minutes = f"{whole % HOUR // MINUTE:02}:{whole % MINUTE:02}"
    if days:
        return f"{days}d {hours:02}:{minutes}"
    return f"{hours}:{minutes}" if hours else minutes


def duration_text(seconds: float) -> str:
    """Return a duration in words, to two digits or so.

    Parameters
    ----------
    seconds : float
        Seconds.

    Returns
    -------
    str
        A number and a unit.

    Examples
    --------
    >>> duration_text(12.3), duration_text(754), duration_text(9000), duration_text(200_000)
    ('12 s', '12 min 34 s', '2 h 30 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    for unit, text, smaller, smaller_text in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {text} {rest} {smaller_text}" if rest else f"{whole // unit} {text}"
    return f"{whole} s"


def rate_text(rate: float | None) -> str:
    """Return points per second, or seconds per point where that is the larger number.

    Parameters
    ----------
    rate : float or None
        Points per second; None where it is not known.

    Returns
    -------
    str
        A number and a unit.

    Examples
    --------
    >>> rate_text(34.12), rate_text(12_345.6), rate_text(0.4), rate_text(1 / 600), rate_text(None)
    ('34.1 point/s', '12,346 point/s', '2.5 s/point', '10.0 min/point', '? point/s')
    """
    if rate is None or rate <= 0:
        return "? point/s"
    if rate >= 1:
        return f"{rate:,.0f} point/s" if rate >= 100 else f"{rate:.1f} point/s"
    each = 1 / rate
    for unit, text in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if each >= 2 * unit:
            return f"{each / unit:.1f} {text}/point"
    return f"{each:.1f} s/point"
