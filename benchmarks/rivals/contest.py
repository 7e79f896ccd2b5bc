"""Let the contestants take turns, and count places."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.grids import Shape, surface
from benchmarks.report import Section, quantity, remove
from benchmarks.rivals.contestants import CONTESTANTS, Contestant
from benchmarks.rivals.old_package import OldPackage, installed_in
from benchmarks.timing import PATIENCE

__all__ = ["TASKS", "contest", "ranked", "run"]

TITLE = "Rivals"
TASKS = {
    "cold": "cold",
    "warm": "warm, new objects",
    "one": "one random point",
    "grow": "one value more, all values back",
}
_CALLS = 20
"""Single points asked for in one turn."""
_TOO_LONG = 60.0
"""Seconds of a cold sweep beyond which a rival runs at the smaller size, and its figures are scaled."""


def _entrants(folder: Path) -> tuple[list[type[Contestant]], list[str]]:
    """Return who takes part, and a line for each who cannot."""
    absent = [f"{each.name} left out: {each.missing()}" for each in CONTESTANTS if each.missing()]
    present = [each for each in CONTESTANTS if not each.missing()]
    OldPackage.place = folder / "old"
    reason = installed_in(OldPackage.place)
    if reason:
        return present, [*absent, f"{OldPackage.name} left out: {reason}"]
    return [*present, OldPackage], absent


def contest(
    entrants: Sequence[type[Contestant]], folder: Path, shape: Shape, turns: int
) -> dict[str, list[float]]:
    """Return the medians of each task, in seconds, in the order of the entrants.

    Parameters
    ----------
    entrants : sequence of type
        Who takes part.
    folder : Path
        An empty folder.
    shape : tuple of int
        Points along both axes.
    turns : int
        How often each task is measured; an entrant that has taken `PATIENCE` seconds over one has no further
        turn.

    Returns
    -------
    dict
        By task.
    """
    at_work = []
    for number, each in enumerate(entrants):
        place = folder / str(number)
        place.mkdir(parents=True)
        at_work.append(each(place, shape))
    random = Random(0)
    found = {}
    for task in TASKS:
        figures: list[list[float]] = [[] for _ in at_work]
        for turn in range(turns):
            points = [(random.randrange(shape[0]), random.randrange(shape[1])) for _ in range(_CALLS)]
            for number, entrant in enumerate(at_work):
                if turn and sum(figures[number]) > PATIENCE:
                    continue
                if task == "one":
                    seconds = statistics.fmean(entrant.timed("one", *point) for point in points)
                else:
                    seconds = entrant.timed(task)
                    if turn == 0:
                        _check(entrant)
                figures[number].append(seconds)
        found[task] = [statistics.median(each) for each in figures]
    for entrant in at_work:
        entrant.close()
    remove(folder)
    return found


def _check(entrant: Contestant) -> None:
    """Refuse to compare a library that gives other numbers."""
    expected = surface(*entrant.axes)
    answer = entrant.answer()
    if not np.array_equal(np.sort(expected, axis=None), np.sort(answer, axis=None)):
        raise AssertionError(f"{entrant.name} gives other numbers: nothing to compare")


def run(folder: Path, quick: bool) -> Section:
    """Measure sweeps of 10,000 and 100,000 points; quick: of 1,000."""
    entrants, absent = _entrants(folder)
    shapes: list[Shape] = [(10, 100)] if quick else [(100, 100), (1000, 100)]
    rows: dict[str, list[float]] = {}
    scaled: dict[str, set[int]] = {}
    for shape in shapes:
        points = math.prod(shape)
        place = folder / str(points)
        place.mkdir()
        before = next(iter(rows.values()), [0.0] * len(entrants))  # the first row is a cold sweep
        slow = {i for i, seconds in enumerate(before) if seconds * points / math.prod(shapes[0]) > _TOO_LONG}
        quickly = [each for i, each in enumerate(entrants) if i not in slow]
        found = contest(quickly, place, shape, 1 if quick else 3)
        for task, name in TASKS.items():
            row = f"{points:,} points, {name}"
            figures = iter(found[task])
            small = rows.get(f"{math.prod(shapes[0]):,} points, {name}", [])
            factor = 1 if task == "one" else points / math.prod(shapes[0])
            rows[row] = [small[i] * factor if i in slow else next(figures) for i in range(len(entrants))]
            scaled[row] = slow
    body = ranked([each.name for each in entrants], rows, scaled)
    return Section(
        TITLE,
        "\n\n".join([body, *absent]),
        {f"{row} / best rival": each[0] / min(_rivals(entrants, each)) for row, each in rows.items()},
        {row: dict(zip((e.name for e in entrants), each, strict=True)) for row, each in rows.items()},
        brief=body,
    )


def _rivals(entrants: Sequence[type[Contestant]], figures: Sequence[float]) -> list[float]:
    """Return the figures of those that are not ours."""
    return [x for each, x in zip(entrants, figures, strict=True) if not each.name.startswith("chunk_memo")] or [
        math.nan
    ]


def ranked(names: Sequence[str], rows: dict[str, list[float]], scaled: dict[str, set[int]]) -> str:
    """Return a table with a column for each contestant: the first's seconds, the others' multiples of them.

    Parameters
    ----------
    names : sequence of str
        The contestants; the first is ours, and so are those that begin alike.
    rows : dict
        By what was done: the seconds of each.
    scaled : dict
        By what was done: which figures are scaled from a smaller size.

    Returns
    -------
    str
        The table, and how often ours is first.
    """
    rivals = [i for i, name in enumerate(names) if not name.startswith("chunk_memo")]
    lines = [f"| | {' | '.join(names)} | place |", "|---|" + "---:|" * (len(names) + 1)]
    places = []
    for row, figures in rows.items():
        place = 1 + sum(figures[i] < figures[0] for i in rivals)
        places.append(place)
        cells = [quantity(figures[0], "s")]
        cells += [
            f"{'~' if i in scaled[row] else ''}{_times(each / figures[0])}" for i, each in enumerate(figures) if i
        ]
        lines.append(f"| {row} | {' | '.join(cells)} | {place} |")
    lines.append("")
    note = f"First in {places.count(1)} of {len(places)} rows."
    if any(scaled.values()):
        note += " ~: measured at the smaller size, and scaled."
    return "\n".join([*lines, note])


def _times(ratio: float) -> str:
    """Return a multiple with two digits or more."""
    return f"× {ratio:.2g}" if ratio < 100 else f"× {ratio:,.0f}"
