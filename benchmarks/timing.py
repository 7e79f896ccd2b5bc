"""Measure ways to do one thing, in turns, so that all of them meet the same machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PATIENCE", "Against", "Case", "Row", "measure", "returned", "seconds"]

Action = Callable[[], object]
"""One way to do a thing."""

PATIENCE = 40.0
"""Seconds of work after which a way has no further turn."""


def seconds(action: Action) -> float:
    """Return the seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def returned(action: Action) -> float:
    """Return the number that an action returns, be it seconds, bytes or a ratio."""
    number = action()
    assert isinstance(number, int | float)
    return float(number)


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Against:
    """What chunk_memo is compared with: another way, or a number that is given."""

    name: str
    """The other way, in words."""
    action: Action | None = None
    """Do it the other way."""
    value: float | None = None
    """In place of an action: the number to compare with, in the unit of the case; or nothing."""
    bound: float | None = None
    """The largest ratio that is good enough; None where the row only informs."""
    allowance: float = 0.0
    """Taken off chunk_memo's figure before the ratio; in the unit of the case."""


@dataclass(frozen=True)
class Case:
    """One kind of work, done by chunk_memo and by what it is compared with."""

    work: str
    """What is done."""
    ours: Action
    """Do it with chunk_memo."""
    against: tuple[Against, ...]
    """What it is compared with; each makes a row."""
    prepare: Action = _nothing
    """Run before each way, and not timed."""
    less: Action | None = None
    """A way whose figure is taken off chunk_memo's."""
    gauge: Callable[[Action], float] = seconds
    """What is measured of an action."""
    unit: str = "s"
    """The unit of the gauge: ``s``, ``B``, or empty for a plain number."""
    per: int = 1
    """How many calls an action makes; figures are given for one."""
    practice: bool = True
    """Whether each way is run once before it is measured."""


@dataclass(frozen=True)
class Row:
    """What was measured of one case against one other way."""

    work: str
    """What was done."""
    against: str
    """The other way."""
    unit: str
    """The unit of both figures."""
    ours: float
    """Median of chunk_memo, less what does not count."""
    other: float
    """Median of the other way, or the number given."""
    bound: float | None
    """The largest ratio that is good enough."""
    allowance: float
    """What is taken off chunk_memo's figure before the ratio."""
    turns: int
    """How often chunk_memo was measured."""

    @property
    def ratio(self) -> float:
        """How many times the other way's figure chunk_memo's is."""
        rest = max(0.0, self.ours - self.allowance)
        return rest / self.other if self.other else rest

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        return None if self.bound is None or math.isnan(self.other) else self.ratio <= self.bound


def measure(case: Case, turns: int) -> list[Row]:
    """Let all ways of a case run in turns, and keep the medians.

    Parameters
    ----------
    case : Case
        The ways.
    turns : int
        How many times each is measured; a way that has taken `PATIENCE` seconds has no further turn.

    Returns
    -------
    list of Row
        A row for each way that chunk_memo is compared with.
    """
    others = [each.action for each in case.against if each.action is not None]
    ways = [case.ours, *([case.less] if case.less else []), *others]
    figures: list[list[float]] = [[] for _ in ways]
    spent = [0.0] * len(ways)
    for turn in range(turns + case.practice):
        order = range(len(ways)) if turn % 2 else reversed(range(len(ways)))
        for number in order:
            if figures[number] and spent[number] > PATIENCE:
                continue
            case.prepare()
            start = time.perf_counter()
            figure = case.gauge(ways[number]) / case.per
            spent[number] += time.perf_counter() - start
            if turn >= case.practice:
                figures[number].append(figure)
    medians = [statistics.median(each) for each in figures]
    ours = medians.pop(0) - (medians.pop(0) if case.less else 0.0)
    return [
        Row(
            case.work,
            each.name,
            case.unit,
            ours,
            medians.pop(0) if each.action is not None else math.nan if each.value is None else each.value,
            each.bound,
            each.allowance,
            len(figures[0]),
        )
        for each in case.against
    ]
