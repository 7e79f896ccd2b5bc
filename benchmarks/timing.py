"""Time two ways to do one thing, in turns, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Case", "Result", "measure"]


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Case:
    """One kind of work, done by chunk_memo and by the floor that it is compared with."""

    work: str
    """What is done."""
    ours: Callable[[], object]
    """Do it with chunk_memo."""
    floor_name: str
    """The plain way to do it."""
    floor: Callable[[], object]
    """Do it the plain way."""
    prepare: Callable[[], None] = _nothing
    """Run before each of the two, and not timed."""


@dataclass(frozen=True)
class Result:
    """What was measured for one case."""

    work: str
    """What was done."""
    floor_name: str
    """The plain way to do it."""
    ours: float
    """Median of chunk_memo, in seconds."""
    floor: float
    """Median of the floor, in seconds."""
    repeats: int
    """How often each was run."""

    @property
    def ratio(self) -> float:
        """How many times as long as the floor chunk_memo takes."""
        return self.ours / self.floor


def measure(case: Case, repeats: int) -> Result:
    """Run both ways in turns, after one untimed run each; keep the medians.

    Parameters
    ----------
    case : Case
        The two ways.
    repeats : int
        How many times each is timed.

    Returns
    -------
    Result
        The medians, in seconds.
    """
    ours: list[float] = []
    floor: list[float] = []
    for turn in range(repeats + 1):
        for action, seconds in ((case.floor, floor), (case.ours, ours)):
            case.prepare()
            elapsed = _time(action)
            if turn > 0:
                seconds.append(elapsed)
    medians = statistics.median(ours), statistics.median(floor)
    return Result(case.work, case.floor_name, *medians, repeats=repeats)


def _time(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
