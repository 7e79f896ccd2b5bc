"""What is measured is what is reported: turns, medians, ratios, bounds, tables, JSON and the command."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import timing
from benchmarks.report import Job, Section, measured, quantity
from benchmarks.timing import Against, Case, measure, returned


def numbers(*values: float) -> Callable[[], float]:
    """Return an action that gives one number after the other."""
    return partial(next, iter(values))


def test_medians_after_practice() -> None:
    """The first turn is practice; of the others the median counts, for one of the calls of an action."""
    other = Against("other", numbers(99, 10, 40, 20), bound=1.5)
    (row,) = measure(Case("work", numbers(99, 30, 90, 60), (other,), gauge=returned, per=2), 3)
    assert (30.0, 10.0, 3.0, False, 3) == (row.ours, row.other, row.ratio, row.met, row.turns)


def test_what_does_not_count() -> None:
    """What is set off and what is allowed are taken off before the ratio."""
    other = Against("other", value=2.0, bound=1.5, allowance=1.0)
    (row,) = measure(Case("work", lambda: 9.0, (other,), less=lambda: 5.0, gauge=returned), 3)
    assert (4.0, 1.5, True) == (row.ours, row.ratio, row.met)


def test_a_row_without_figures() -> None:
    """What could not be measured has no ratio, and neither keeps nor breaks a bound."""
    (row,) = measure(Case("work", lambda: 1.0, (Against("absent", bound=1.0),), gauge=returned), 1)
    assert math.isnan(row.ratio)
    assert row.met is None


def test_each_way_is_prepared() -> None:
    """What prepares is run before each way in each turn, practice included."""
    prepared = itertools.count()
    measure(Case("work", int, (Against("other", int),), lambda: next(prepared)), 2)
    assert 6 == next(prepared)


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that has taken too long has no further turn, but at least one."""
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    calls = itertools.count()
    (row,) = measure(Case("work", lambda: float(next(calls)), (Against("x", value=1.0),), gauge=returned), 5)
    assert (1, 1.0, 2) == (row.turns, row.ours, next(calls))


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (0.0000123, "s", "12.3 µs"),
        (0.0456, "s", "45.6 ms"),
        (7.891, "s", "7.89 s"),
        (1234.5, "s", "1,234 s"),
        (0.0, "s", "0 s"),
        (-0.002, "s", "-2 ms"),
        (300e6, "B", "300 MB"),
        (12, "B", "12 B"),
        (1.25, "", "1.25"),
        (math.nan, "s", "–"),
        (math.inf, "s", "inf s"),
    ],
)
def test_quantities(number: float, unit: str, expected: str) -> None:
    """A number is given in the unit that reads best."""
    assert expected == quantity(number, unit)


def test_a_run_reports_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints a row per comparison, writes the same ratios, and tells what changed since."""

    def subject(folder: Path, quick: bool) -> Section:
        assert quick
        assert [] == list(folder.iterdir())
        others = (Against("small", value=2.0, bound=1.0), Against("large", value=8.0, bound=1.0))
        jobs = [Job(lambda place: Case("work", lambda: 4.0, others, gauge=returned), 1)]
        return measured("Subject", jobs, folder)

    monkeypatch.setattr(program, "SUBJECTS", {"one": subject, "other": program.SUBJECTS["growth"]})
    figures = tmp_path / "figures.json"
    words = ["one", "--quick", "--json", str(figures), "--dir", str(tmp_path)]
    program.main(words)
    printed = capsys.readouterr().out
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert printed.startswith(written["machine"])
    assert {"Subject: work / small": 2.0, "Subject: work / large": 0.5} == written["ratios"]
    assert "| work | 4 s | small | 2 s | 2.00 | ≤ 1 | **no** |\n" in printed
    assert "| work | 4 s | large | 8 s | 0.50 | ≤ 1 | yes |\n" in printed

    figures.write_text(json.dumps({"ratios": {"Subject: work / small": 1.0}}))
    program.main([*words[:2], "--compare", str(figures)])
    assert "| Subject: work / small | 1.00 | 2.00 | 2.00 |\n" in capsys.readouterr().out


def test_an_unknown_subject(capsys: pytest.CaptureFixture[str]) -> None:
    """A subject that there is not is an error that names those that there are."""
    with pytest.raises(SystemExit):
        program.main(["nonsense"])
    assert "unknown subject 'nonsense'; choose from reads, writes" in capsys.readouterr().err


def test_a_page_shows_the_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the marks of a page stand, for each bound, the row that keeps it least, and the rivals' table."""

    def subject(folder: Path, quick: bool) -> Section:
        others = (Against("other", value=8.0, bound=1.0), Against("no bound", value=1.0))
        makes = [partial(_case, work, ours, others) for work, ours in (("good", 2.0), ("worse", 6.0))]
        return measured("Subject", [Job(make, 1) for make in makes], folder)

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    monkeypatch.setattr(
        program, "SUBJECTS", {"one": subject, "two": lambda *_: Section("Rivals", "all", brief="| a |\n|---|")}
    )
    for _ in range(2):
        program.main(["--page", str(page)])
        text = page.read_text()
        assert text.startswith("before\n<!-- figures -->\n\n")
        assert text.endswith("| worse | other | 0.75 | ≤ 1 |\n\n| a |\n|---|\n\n<!-- end of figures -->\nafter\n")
        assert (0, 0, 0, 1) == tuple(map(text.count, ("old", "good", "no bound", "worse")))
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="expected the lines"):
        program.main(["--page", str(page)])


def _case(work: str, ours: float, others: tuple[Against, ...], folder: Path) -> Case:
    """Return a case whose figures are given."""
    return Case(work, lambda: ours, others, gauge=returned)
