"""Selections, cells and boxes: every point is in exactly one of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from chunk_memo import ChunkMemo, SpecError, UnknownIndexError, UnknownValueError
from chunk_memo.grid import Bins, Grid, make_axis
from chunk_memo.identity import canonical_many
from chunk_memo.plan import Costs, boxes
from chunk_memo.selection import Cells, Selection, select


@given(arrays(bool, array_shapes(min_dims=1, max_dims=4, max_side=4)))
def test_boxes_cover_what_is_missing_and_nothing_else(mask: npt.NDArray[np.bool_]) -> None:
    """Boxes are disjoint, and together they are exactly the missing points."""
    count = np.zeros(mask.shape, int)
    for box in boxes(mask):
        count[np.ix_(*box)] += 1
    assert (mask.astype(int) == count).all()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(["111", "111"], 1), (["101", "111"], 2), (["110", "001"], 2), (["100", "010", "001"], 3), (["000"], 0)],
)
def test_few_boxes(rows: list[str], expected: int) -> None:
    """Rows that miss the same points go into one call."""
    mask = np.array([[mark == "1" for mark in row] for row in rows])
    assert expected == len(boxes(mask))


def bins_of(groups: list[list[int]]) -> Bins:
    """Return bins of one axis."""
    bins = Bins()
    for group in groups:
        bins.of("s").add(group, canonical_many(group))
    return bins


groups = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), min_size=1, max_size=5)


@given(groups, groups, st.data())
def test_cells_hold_each_position_once(xs: list[list[int]], ys: list[list[int]], data: st.DataObject) -> None:
    """Each position of the request lies in one cell, whose candidates all hold its values."""
    bins = bins_of(xs)
    for group in ys:
        bins.of("t").add(group, canonical_many(group))
    asked = [
        data.draw(st.lists(st.sampled_from(sorted({v for g in gs for v in g})), min_size=1)) for gs in (xs, ys)
    ]
    keys = tuple(tuple(canonical_many(values)) for values in asked)
    selection = Selection(("s", "t"), tuple(map(tuple, asked)), keys)
    cells = Cells(selection, bins)
    seen = np.zeros(selection.shape, int)
    assert {} == cells.unbinned
    assert len(cells) == len(list(cells))
    for cell in cells:
        seen[np.ix_(*(axis.request for axis in cell.axes))] += 1
        for axis, name, values in zip(cell.axes, selection.order, asked, strict=True):
            distinct = [values[i] for i in axis.source]
            picked = distinct if axis.pick is None else [distinct[i] for i in axis.pick]
            assert [values[i] for i in axis.request] == picked
            assert len(set(distinct)) == len(distinct) == len(axis)
            for number, positions in zip(axis.bins, axis.positions, strict=True):
                assert distinct == [bins.of(name).values_of(number)[p] for p in positions]
    assert (seen == 1).all()


@given(groups, st.integers(0, 9))
def test_a_value_without_a_bin_is_told(xs: list[list[int]], value: int) -> None:
    """Positions of values that no bin holds are listed by axis."""
    bins = bins_of(xs)
    selection = Selection(("s",), ((value,),), (tuple(canonical_many([value])),))
    lacking = {name: list(found) for name, found in Cells(selection, bins).unbinned.items()}
    assert ({} if any(value in group for group in xs) else {"s": [0]}) == lacking


def declared() -> Grid:
    """Return a grid of two axes, one with values that are lists."""
    return Grid((make_axis("s", [1, 2, 3]), make_axis("t", ["a", [1, 2], 1])), {"s": 1, "t": 1})


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({}, ((1, 2, 3), ("a", [1, 2], 1))),
        ({"s": 2}, ((2,), ("a", [1, 2], 1))),
        ({"s": [3, 1, 3], "t": "a"}, ((3, 1, 3), ("a",))),
        ({"t": [1, 2]}, ((1, 2, 3), ([1, 2],))),
        ({"t": [[1, 2], "a"]}, ((1, 2, 3), ([1, 2], "a"))),
        ({"s": np.array([2, 1]), "t": [1]}, ((2, 1), (1,))),
        ({"s": np.int64(2), "t": (1,)}, ((2,), (1,))),
    ],
)
def test_select_by_value(axes: dict[str, Any], expected: Any) -> None:
    """An argument equal to an axis value is that value, else a sequence of values."""
    assert expected == select(declared(), axes).values


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        (1, (2,)),
        (-1, (3,)),
        (slice(1, None), (2, 3)),
        (range(0, 3, 2), (1, 3)),
        ([2, 0], (3, 1)),
        ([range(2), 2], (1, 2, 3)),
        (np.array([True, False, True]), (1, 3)),
    ],
)
def test_select_by_index(indices: Any, expected: Any) -> None:
    """Ints, slices, ranges, masks and sequences of them choose values by position."""
    assert expected == select(declared(), None, {"s": indices}).values[0]


def test_an_argument_with_two_readings_is_refused() -> None:
    """What is one value and a sequence of values alike must be said by index."""
    both = Grid((make_axis("t", [1, 2, [1, 2]]),), {"t": 1})
    with pytest.raises(SpecError, match="axis_indices"):
        select(both, {"t": [1, 2]})


def test_what_is_not_there_is_told() -> None:
    """Unknown values name the nearest, unknown indices the length."""
    with pytest.raises(UnknownValueError, match="the nearest is 3; pass extend_cache=True"):
        select(declared(), {"s": 17})
    with pytest.raises(UnknownIndexError, match="index 3 is out of range for axis 's' with 3 values"):
        select(declared(), None, {"s": 3})


def test_a_plan_changes_nothing_and_says_why(tmp_path: Path) -> None:
    """A plan names totals and reasons, and a run then does what it said."""
    root = tmp_path / "root"
    memo = ChunkMemo(root, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)

    @memo.cache(version="1", name="f")
    def function(s: list[int]) -> list[int]:
        return [10 * value for value in s]

    plan = function.plan()
    assert "nothing is stored for these params" == plan.groups[0].reason
    assert (3, 0, 2) == (plan.executed_points, plan.cached_points, plan.missing_chunks)
    assert not root.exists()
    function(s=[1])
    before = sorted(path for path in root.rglob("*"))
    plan = function.plan()
    assert ["the chunk is stored in part", "not computed yet"] == [group.reason for group in plan.groups]
    assert (1, 1) == (plan.partial_chunks, plan.cached_points)
    assert plan.seconds is not None
    wider = ChunkMemo(root, {"s": 2}, {"s": [1, 2, 2.5, 3]}, verbose=0).cache(version="1", name="f")(
        function.__wrapped__
    )
    assert "new on axis 's': 2.5" in [group.reason for group in wider.plan().groups]
    assert before == sorted(path for path in root.rglob("*"))
    expected = wider.plan().executed_points
    _, diagnostics = wider()
    assert expected == diagnostics.executed_points == 3
    assert 0 == wider.plan().executed_points


def test_a_plan_names_damaged_files(tmp_path: Path) -> None:
    """A chunk whose file was set aside misses for that reason."""
    memo = ChunkMemo(tmp_path, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    function = memo.cache(version="1", name="f")(lambda s: list(s))
    function()
    for path in itertools.islice(tmp_path.rglob("chunks/*.h5"), 1):
        path.write_bytes(b"rot")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(RuntimeError, match="stop"):
        memo.cache(version="1", name="f")(_stop)()
    assert ["a damaged file was set aside"] == [group.reason for group in function.plan().groups]


def _stop(s: list[int]) -> list[int]:
    raise RuntimeError("stop")


def test_a_plan_of_a_refresh_runs_everything(tmp_path: Path) -> None:
    """With ``refresh=True`` a plan says what such a call does, and changes nothing itself."""
    memo = ChunkMemo(tmp_path, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    function = memo.cache(version="1", name="f")(lambda s: list(s))
    function()
    plan = function.plan(s=[1, 2], refresh=True)
    assert (2, 0, 1) == (plan.executed_points, plan.cached_points, plan.missing_chunks)
    assert ["asked for anew, by refresh=True"] == [group.reason for group in plan.groups]
    assert plan.seconds is not None
    assert "of compute" in str(plan)
    assert 0 == function.plan().executed_points
    assert 2 == function(s=[1, 2], refresh=True)[1].executed_points


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0000405, "0.0405 ms"), (0.0999, "99.9 ms"), (0.25, "0.25 s"), (150.0, "2.5 min"), (9000.0, "2.5 h")],
)
def test_predicted_seconds_are_said_in_a_unit_that_fits(tmp_path: Path, seconds: float, said: str) -> None:
    """Short and long times have units of their own."""
    function = ChunkMemo(tmp_path, {"s": 1}, {"s": [1]}, verbose=0).cache()(lambda s: list(s))
    plan = dataclasses.replace(function.plan(), seconds_costs=Costs(0.0, seconds), bytes_costs=Costs(1000.0, 0.0))
    assert f"  about {said} of compute, 1 kB of files" == str(plan).splitlines()[-1]


# --- predicted seconds ---------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on when it is told to; it stands in for the one that runs take times by."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Return the time."""
        return self.now

    def time_ns(self) -> int:
        """Return a date, which matters to nothing here."""
        return 1_700_000_000_000_000_000 + int(self.now * 1e9)


def lost(root: Path) -> None:
    """Delete every second file of those that hold a whole chunk of four."""
    whole = []
    for path in sorted(root.rglob("chunks/*.h5")):
        with h5py.File(path) as file:
            if len(file["s"]) == 4:
                whole.append(path)
    for path in whole[::2]:
        path.unlink()


CHANGES: dict[str, tuple[Callable[[Path, Any], object], dict[str, Any]]] = {
    "files are lost": (lambda root, function: lost(root), {}),
    "results are invalidated": (lambda root, function: function.invalidate(s=list(range(26))), {}),
    "a refresh": (lambda root, function: None, {"refresh": True}),
    "values are new": (lambda root, function: None, {"s": [*range(38), *range(50, 76)], "extend_cache": True}),
}
"""What is done between a run and the next, and what is asked for then."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("per_chunk", "per_point"), [(0.2, 0.0), (0.0, 0.05), (0.1, 0.025)], ids=["chunks", "points", "both"]
)
def test_predicted_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, per_chunk: float, per_point: float
) -> None:
    """A plan predicts the seconds of a run, whether chunks or points take them, or both; one chunk is short."""
    clock = Clock()
    monkeypatch.setattr("chunk_memo.work.time", clock)
    memo = ChunkMemo(tmp_path, {"s": 4}, {"s": list(range(38))}, verbose=0, durability="fast")

    @memo.cache(version="1", name="f")
    def function(s: list[int]) -> list[int]:
        clock.now += per_chunk + per_point * len(s)
        return list(s)

    assert function.plan().seconds is None
    function()
    act, asked = CHANGES[change]
    act(tmp_path, function)
    plan = function.plan(**asked)
    _, diagnostics = function(**asked)
    assert 0 < plan.executed_points == diagnostics.executed_points
    assert plan.seconds == pytest.approx(diagnostics.execute_seconds)


def at_work(s: list[int]) -> list[int]:
    """Compute for 0.2 seconds."""
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until:
        math.sqrt(2.0)
    return list(s)


@pytest.mark.long
@pytest.mark.parametrize("map_fn", [None, "processes"])
@pytest.mark.parametrize("change", CHANGES)
def test_predicted_seconds_of_real_work(tmp_path: Path, change: str, map_fn: str | None) -> None:
    """Of a sweep of 0.2 s chunks the seconds of the next run are predicted to a quarter, as the clock shows them.

    With worker processes they are those of all workers together.
    """
    memo = ChunkMemo(tmp_path, {"s": 4}, {"s": list(range(38))}, verbose=0)
    function = memo.cache(version="1", map_fn=map_fn, map_fn_kwargs={"workers": 2} if map_fn else None)(at_work)
    function()
    act, asked = CHANGES[change]
    act(tmp_path, function)
    predicted = function.plan(**asked).seconds
    started = time.perf_counter()
    _, diagnostics = function(**asked)
    took = time.perf_counter() - started
    assert predicted is not None
    computed = diagnostics.execute_seconds
    print(f"{change}, {map_fn}: predicted {predicted:.3f} s, computed {computed:.3f}, took {took:.3f}")
    assert predicted == pytest.approx(computed, rel=0.25)
    if map_fn is None:
        assert predicted == pytest.approx(took, rel=0.25)
