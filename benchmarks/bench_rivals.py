"""The contest with rivals, at a small size; rivals that are not installed are skipped."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.grids import surface
from benchmarks.growth import CURVES, costs, draw
from benchmarks.rivals.contest import TASKS, contest, ranked
from benchmarks.rivals.contestants import CONTESTANTS, Contestant
from benchmarks.rivals.old_package import OldPackage

SHAPE = (4, 5)


@pytest.mark.filterwarnings("default")  # the rivals' own
@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.__name__)
def test_contestants_do_the_same(contestant: type[Contestant], tmp_path: Path) -> None:
    """Each library gives the grid's values, cold, warm, for a point, and after a value was added."""
    if contestant.missing():
        pytest.skip(contestant.missing())
    entrant = contestant(tmp_path, SHAPE)
    for task in ("cold", "warm"):
        assert entrant.timed(task) > 0
        assert np.array_equal(surface(*entrant.axes), entrant.answer())
    entrant.timed("one", 2, 3)
    assert 7.0 == float(np.asarray(entrant.did).item())
    entrant.timed("grow")
    assert (5, 5) == (len(entrant.axes[0]), len(entrant.axes[1]))
    assert np.array_equal(surface(*entrant.axes), entrant.answer())
    entrant.close()


def test_a_contestant_apart(tmp_path: Path) -> None:
    """What works apart is asked through a pipe, and says itself how long it took."""
    package = tmp_path / "place" / "chunk_memo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (tmp_path / "work").mkdir()
    contestant = type("StandIn", (OldPackage,), {"place": package.parent})
    entrant = contestant(tmp_path / "work", SHAPE)
    try:
        for task in ("cold", "warm", "grow"):
            assert 0 < entrant.timed(task) < 60
            assert np.array_equal(np.sort(surface(*entrant.axes), axis=None), entrant.answer().ravel())
        entrant.timed("one", 2, 3)
        assert [7.0] == entrant.did
    finally:
        entrant.close()


STAND_IN = '''
class ChunkMemo:
    """Computes all points at each call."""

    def __init__(self, root, chunk_spec, axis_values, verbose):
        self.axes = axis_values

    def cache(self):
        def decorate(function):
            def call(x=None, y=None, extend_cache=False):
                xs, ys = x if x is not None else self.axes["x"], y if y is not None else self.axes["y"]
                xs, ys = (each if isinstance(each, list) else [each] for each in (xs, ys))
                return [function(a, b) for a in xs for b in ys], None
            return call
        return decorate
'''


class _Timed(Contestant):
    """A contestant that says beforehand how long it takes."""

    seconds = 1.0

    def open(self) -> None:
        """Open nothing."""

    def timed(self, task: str, *arguments: int) -> float:
        """Return the seconds, and the grid's values."""
        self.rows += task == "grow"
        self.did = surface(*self.axes)
        return self.seconds


def _entrants(**seconds: float) -> list[type[Contestant]]:
    return [type(name, (_Timed,), {"name": name, "seconds": each}) for name, each in seconds.items()]


def test_places_are_counted(tmp_path: Path) -> None:
    """The table tells the multiples of our time and our place; what was scaled is marked."""
    entrants = _entrants(chunk_memo=0.5, slow=1.0, quick=0.25)
    found = contest(entrants, tmp_path / "work", SHAPE, 2)
    assert {task: [0.5, 1.0, 0.25] for task in TASKS} == found
    text = ranked(
        [each.name for each in entrants], {"a": found["cold"], "b": [0.5, 9.0, 8.0]}, {"a": {1}, "b": set()}
    )
    assert "| a | 500 ms | ~× 2 | × 0.5 | 2 |" in text
    assert "| b | 500 ms | × 18 | × 16 | 1 |" in text
    assert "First in 1 of 2 rows." in text


def test_other_numbers_are_no_comparison(tmp_path: Path) -> None:
    """A library that gives other values is not compared."""

    class Wrong(_Timed):
        name = "wrong"

        def answer(self) -> np.ndarray:
            return surface(*self.axes) + 1

    with pytest.raises(AssertionError, match="wrong gives other numbers"):
        contest([Wrong], tmp_path / "work", SHAPE, 1)


def test_growth(tmp_path: Path) -> None:
    """All kinds of work have their cost at each size."""
    assert set(CURVES) == set(costs(tmp_path, (2, 2), 1))


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_picture(tmp_path: Path, suffix: str) -> None:
    """The curves are drawn, each with its name."""
    pytest.importorskip("matplotlib")
    seconds = itertools.count(1)
    found = {count: {name: next(seconds) * 1e-3 for name in CURVES} for count in ("100", "1000")}
    draw(found, tmp_path / f"growth.{suffix}")
    content = (tmp_path / f"growth.{suffix}").read_bytes()
    assert len(content) > 1000
    assert suffix == "png" or all(name.encode() in content for name in CURVES.values())
