"""Lists of points and samples hit the same stored points as grids, and lie together."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo import ChunkCache, ChunkMemo, SweepResult
from chunk_memo.errors import DamageWarning, FailureWarning, OutputError, SpecError, UnknownAxisError
from chunk_memo.events import Event, RunFinished

XS: list[Any] = [0, 1, 2, 3, 1.0, 0.25]
YS: list[Any] = ["u", "v", (1, 2), None]
MORE: list[Any] = [7.5, -1, "new"]


def output_of(kind: str, x: Any, y: Any) -> Any:
    """Return the output at a point, as one value."""
    number = float(len(repr((x, y)))) + (XS + MORE).index(x)
    if kind == "dict":
        return {"value": number, "text": repr((x, y)), "x": x, "y": y}
    if kind == "columns":
        return {"value": number, "pair": np.array([number, -number])}
    if kind == "array":
        return np.array([number, -number])
    return number


def sweep_function(kind: str, calls: list[tuple[str, str]], vectorize: bool) -> Callable[..., Any]:
    """Return a function that takes down every point that it is called for."""

    def point(x: Any, y: Any) -> Any:
        calls.append((repr(x), repr(y)))
        return output_of(kind, x, y)

    def block(x: list[Any], y: list[Any]) -> Any:
        outputs = [point(a, b) for a in x for b in y]
        if kind == "columns":
            shape = (len(x), len(y))
            return {
                "value": np.array([out["value"] for out in outputs]).reshape(shape),
                "pair": np.array([out["pair"] for out in outputs]).reshape(*shape, 2),
            }
        if kind in ("grid", "array"):
            return np.array(outputs).reshape(len(x), len(y), *np.shape(outputs[0]))
        return outputs

    return point if vectorize else block


def memo_in(root: Path, **options: Any) -> ChunkMemo:
    """Return a memo over the test's axes."""
    return ChunkMemo(root, {"x": 2, "y": 3}, {"x": XS, "y": YS}, verbose=0, durability="fast", **options)


def executed(result: SweepResult) -> int:
    """Return how many points a run executed."""
    assert result.diagnostics is not None
    return result.diagnostics.executed_points


subset = st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True)
wishes = st.lists(
    st.one_of(
        st.tuples(st.just("grid"), subset, subset),
        st.tuples(
            st.just("cases"),
            st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=12),
            st.none(),
        ),
        st.tuples(st.just("sample"), st.integers(1, 12), st.integers(0, 3)),
        st.tuples(st.just("invalidate"), subset, st.none()),
        st.tuples(st.just("anew"), st.none(), st.none()),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(wishes=wishes, kind=st.sampled_from(["grid", "dict", "columns", "array", "list"]), vectorize=st.booleans())
def test_each_point_is_executed_once(wishes: list[Any], kind: str, vectorize: bool) -> None:
    """Grids, lists of points and samples, in any order, execute each point once, and return what it makes.

    What is invalidated is executed once more, and every plan says beforehand how many points will be.
    """
    if vectorize and kind in ("columns", "grid"):
        kind = "list"
    folder = Path(tempfile.mkdtemp())
    calls: list[tuple[str, str]] = []
    stored: set[tuple[str, str]] = set()
    try:
        sweep = memo_in(folder).cache(version="1", vectorize=vectorize)(sweep_function(kind, calls, vectorize))
        for what, first, second in wishes:
            calls.clear()
            if what == "anew":
                function = sweep_function(kind, calls, vectorize)
                sweep = memo_in(folder).cache(version="1", vectorize=vectorize)(function)
                continue
            if what == "invalidate":
                xs = [XS[i] for i in first]
                sweep.invalidate(x=xs)
                stored = {point for point in stored if point[0] not in map(repr, xs)}
                continue
            if what == "grid":
                xs, ys = [XS[i] for i in first], [YS[i] for i in second if i < len(YS)] or [YS[0]]
                asked = [(x, y) for x in xs for y in ys]
                planned = sweep.plan(x=xs, y=[*ys]).executed_points
                result = sweep.sweep(x=xs, y=[*ys])
            elif what == "cases":
                asked = [((XS + MORE)[i], YS[j]) for i, j in first]
                planned = sweep.cases.plan(asked).executed_points
                result = sweep.cases([{"x": x, "y": y} for x, y in asked])
            else:
                planned = sweep.sample.plan(first, second, x=XS).executed_points
                result = sweep.sample(first, second, x=XS)
                asked = list(zip(result.coords["x"], result.coords["y"], strict=True))
            fresh = {(repr(x), repr(y)) for x, y in asked} - stored
            assert Counter(fresh) == Counter(calls)
            assert len(fresh) == executed(result)
            assert planned == len(fresh)
            assert 0 == result.plan().executed_points
            stored |= fresh
            found = result.to_numpy()
            flat = {
                name: array.reshape(len(asked), *array.shape[len(result.dims) :])
                for name, array in (found.items() if isinstance(found, dict) else [("", found)])
            }
            for number, (x, y) in enumerate(asked):
                expected = output_of(kind, x, y)
                if isinstance(expected, dict):
                    expected = {name: value for name, value in expected.items() if name not in ("x", "y")}
                    assert list(expected) == list(flat)
                    assert all(np.array_equal(flat[name][number], expected[name]) for name in flat)
                else:
                    assert np.array_equal(expected, flat[""][number])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_ten_thousand_points_lie_in_few_files(tmp_path: Path) -> None:
    """10,000 random points of two continuous axes take at most 100 files, and are found by a plan and a grid."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [0.0], "y": [0.0]}, verbose=0)

    @memo.cache(vectorize=True, version="1")
    def distance(x: float, y: float) -> float:
        return math.hypot(x, y)

    result = distance.sample(10_000, 7, x=(0.0, 1.0), y=(-1.0, 1.0))
    assert 10_000 == executed(result)
    files = [path for path in result.cache.path.rglob("*") if path.is_file()]
    assert len(files) <= 100
    assert 0 == executed(distance.sample(5_000, 7, x=(0.0, 1.0), y=(-1.0, 1.0)))
    x, y = result.coords["x"][123], result.coords["y"][123]
    plan = distance.plan(x=[x], y=[y, 0.0], extend_cache=True)
    assert (1, 1) == (plan.cached_points, plan.executed_points)
    output, diagnostics = distance(x=[x], y=[y], extend_cache=True)
    assert (math.hypot(x, y), 0) == (output.item(), diagnostics.executed_points)


def test_a_longer_sample_begins_with_the_shorter(tmp_path: Path) -> None:
    """The same seed draws the same points, and more of them begin with those; an axis does not move another."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [0.0], "n": [1, 2, 3]}, verbose=0)

    @memo.cache(vectorize=True)
    def product(x: float, n: int, scale: float = 1.0) -> float:
        return x * n * scale

    short = product.sample(5, 3, x=(1.0, 10.0), n=(1, 6), log=["x"])
    long = product.sample(8, 3, x=(1.0, 10.0), n=(1, 6), log=["x"])
    assert short.coords["x"] == long.coords["x"][:5]
    assert 3 == executed(long)
    assert all(1.0 <= x <= 10.0 for x in long.coords["x"])
    assert all(type(n) is int and 1 <= n <= 6 for n in long.coords["n"])
    assert short.coords["x"] == product.sample(5, 3, x=(1.0, 10.0), n=2, log=["x"]).coords["x"]
    assert {1, 2, 3} >= set(product.sample(20, 3, x=1.0).coords["n"])


def test_sobol_points(tmp_path: Path) -> None:
    """A Sobol sample covers each half of each axis evenly, and is the same each time."""
    pytest.importorskip("scipy")
    memo = ChunkMemo(tmp_path, axis_values={"x": [0.0], "y": [0.0]}, verbose=0)

    @memo.cache(vectorize=True)
    def product(x: float, y: float) -> float:
        return x * y

    result = product.sample(16, 1, method="sobol", x=(0.0, 1.0), y=(0.0, 2.0))
    assert 8 == sum(x < 0.5 for x in result.coords["x"])
    assert 8 == sum(y < 1.0 for y in result.coords["y"])
    again = product.sample(16, 1, method="sobol", x=(0.0, 1.0), y=(0.0, 2.0))
    assert 0 == executed(again)


def test_points_are_kept_by_whoever_computes(tmp_path: Path) -> None:
    """Threads and processes compute points as this process does, and the same files serve."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [0.0]}, verbose=0)

    @memo.cache(vectorize=True)
    def square(x: float) -> float:
        return x * x

    first = square.sample(60, 1, x=(0.0, 1.0), map_fn="processes", map_fn_kwargs={"workers": 2})
    assert 60 == executed(first)
    more = square.sample(90, 1, x=(0.0, 1.0), map_fn="threads")
    assert (30, 60) == (executed(more), 90 - executed(more))
    assert [x * x for x in more.coords["x"]] == more.to_numpy().tolist()


def test_another_process_finds_them(tmp_path: Path) -> None:
    """Points computed by one process are there for another one, and for a cache opened without its code."""
    script = textwrap.dedent(
        f"""
        from chunk_memo import ChunkMemo
        memo = ChunkMemo({str(tmp_path)!r}, axis_values={{"x": [0.0], "y": [1, 2]}}, verbose=0)

        @memo.cache(vectorize=True)
        def product(x, y):
            return x * y

        result = product.cases([(0.5, 1), (0.75, 2)])
        print(result.diagnostics.executed_points, result.cache.cache_id)
        """
    )

    def told() -> list[str]:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert ["2", "0"] == [told()[0], told()[0]]
    cache = ChunkCache.load_from_cache(tmp_path, told()[1])
    assert [1.5] == cache.with_axis_values({"x": [0.75], "y": [2]}).to_numpy().reshape(-1).tolist()


def test_caches_that_were_copied_together(tmp_path: Path) -> None:
    """Points copied in from another root with the same identity are simply there."""
    calls: list[tuple[str, str]] = []
    functions = [
        memo_in(tmp_path / name).cache(version="1")(sweep_function("list", calls, False)) for name in "ab"
    ]
    one = functions[0].cases([(0, "u"), (7.5, "v")])
    two = functions[1].cases([(1, "u"), (7.5, "v")])
    shutil.copytree(one.cache.path, two.cache.path, dirs_exist_ok=True)
    calls.clear()
    both = functions[1].cases([(0, "u"), (1, "u"), (7.5, "v")])
    assert [] == calls
    assert [output_of("list", x, y) for x, y in [(0, "u"), (1, "u"), (7.5, "v")]] == both.to_numpy().tolist()
    shutil.rmtree(two.cache.path / "points" / "layouts")  # as if the copy had been cut short
    calls.clear()
    again = memo_in(tmp_path / "b").cache(version="1")(sweep_function("list", calls, False))
    assert 0 == executed(again.cases([(0, "u"), (1, "u"), (7.5, "v")]))


@pytest.mark.parametrize("where", ["head", "arrays"])
def test_a_damaged_file_costs_its_points_only(tmp_path: Path, where: str) -> None:
    """A file of points that is damaged is set aside with one warning, and its points are computed again."""
    calls: list[tuple[str, str]] = []
    function = memo_in(tmp_path).cache(version="1")(sweep_function("grid", calls, False))
    result = function.cases([(x, "u") for x in XS])
    (path,) = (result.cache.path / "points" / "chunks").rglob("*.h5")
    data = bytearray(path.read_bytes())
    if where == "head":
        data[100] ^= 255
    else:
        at = data.index(np.array([output_of("grid", x, "u") for x in XS]).tobytes())
        data[at] ^= 1
    path.write_bytes(data)
    calls.clear()
    with pytest.warns(DamageWarning, match="damaged"):
        found = function.cases([(x, "u") for x in XS]).to_numpy()
    assert [output_of("grid", x, "u") for x in XS] == found.tolist()
    assert Counter((repr(x), repr("u")) for x in XS) == Counter(calls)


def test_results_of_other_code_that_were_accepted(tmp_path: Path) -> None:
    """Points of a version of the code that was accepted count for the new one, in cases and in grids."""
    calls: list[tuple[str, str]] = []
    one = memo_in(tmp_path).cache(version="1", name="f", vectorize=True)(sweep_function("list", calls, True))
    two = memo_in(tmp_path).cache(version="2", name="f", vectorize=True)(sweep_function("list", calls, True))
    one.cases([(0, "u"), (7.5, "v")])
    two.accept()
    calls.clear()
    assert 0 == executed(two.cases([(0, "u"), (7.5, "v")]))
    assert 1 == two.plan(x=[0], y=["u"]).cached_points
    two(x=[0, 1], y="u")
    assert [("1", "'u'")] == calls


def test_points_that_fail_are_listed_and_run_again(tmp_path: Path) -> None:
    """A point that fails is recorded with its own arguments, and shown as failed; the next call runs it again."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1.0], "y": [1]}, verbose=0)
    wrong = [True]

    @memo.cache(version="1")
    def inverse(x: list[float], y: list[int]) -> list[float]:
        if wrong[0]:
            return [b / a for a in x for b in y]
        return [0.0 for a in x for b in y]

    with pytest.warns(FailureWarning, match="1 point"):
        result = inverse.cases([(2.0, 1), (0.0, 1), (4.0, 2)], on_error="record")
    assert [1, 2, 1] == result.status.tolist()
    assert "1 failed" in repr(result)
    (failure,) = result.failures
    assert {"x": [0.0], "y": [1]} == failure.arguments
    with pytest.raises(ZeroDivisionError):
        failure.reproduce()
    assert 1 == len(inverse.failures())
    dataset = result.to_xarray()
    assert [0.5, 0.5] == dataset["inverse"].values[[0, 2]].tolist()
    assert math.isnan(dataset["inverse"].values[1])
    assert [1, 2, 1] == dataset["status"].values.tolist()
    wrong[0] = False
    assert 1 == executed(inverse.cases([(2.0, 1), (0.0, 1), (4.0, 2)]))
    assert 0 == len(inverse.failures())
    assert [1, 1, 1] == result.status.tolist()


@pytest.mark.parametrize("first", ["grid", "cases"])
@pytest.mark.parametrize("vectorize", [True, False])
def test_failures_are_those_of_all_designs(tmp_path: Path, first: str, vectorize: bool) -> None:
    """A point that failed in a grid has failed for lists of points, and the other way round: in status and plan.

    With ``retry="never"`` neither runs it again; once it is stored, neither speaks of it.
    """
    broken = [True]

    def inverse(x: Any, y: Any) -> Any:
        if vectorize:
            return y / (x or (0 if broken else 1.0))
        return [b / (a or (0 if broken else 1.0)) for a in x for b in y]

    def opened() -> Any:
        memo = ChunkMemo(tmp_path, {"x": 1}, {"x": [0.0, 1.0], "y": [1.0]}, verbose=0)
        return memo.cache(version="1", name="inverse", vectorize=vectorize)(inverse)

    points = [(0.0, 1.0), (1.0, 1.0), (0.5, 1.0)]
    decorated = opened()
    with pytest.warns(FailureWarning):
        decorated.sweep(on_error="record") if first == "grid" else decorated.cases(points, on_error="record")
    for each in (decorated, opened()):
        plans = each.plan(), each.cases.plan(points)
        failed = [group.points for plan in plans for group in plan.groups if group.reason == "failed before"]
        assert [1, 1] == failed
        assert 1 == len(each.failures())
    with pytest.warns(FailureWarning, match="1 "):
        grid = decorated.sweep(on_error="record", retry="never")
    with pytest.warns(FailureWarning, match="1 "):
        cases = decorated.cases(points, on_error="record", retry="never")
    assert [[2], [1]] == grid.status.tolist()
    assert [2, 1, 1] == cases.status.tolist()
    assert [1, 1] == [len(grid.failures), len(cases.failures)]
    broken.clear()
    assert 1 == executed(decorated.sweep() if first == "cases" else decorated.cases(points))
    assert [[1], [1]] == grid.status.tolist()
    assert [1, 1, 1] == cases.status.tolist()
    assert 0 == len(decorated.failures())
    assert [(), ()] == [decorated.plan().groups, decorated.cases.plan(points).groups]


def test_a_plan_of_points_changes_nothing(tmp_path: Path) -> None:
    """Plans of lists and samples say what is read and run, in text and HTML, and nothing on disk changes."""
    decorated = memo_in(tmp_path / "root").cache(version="1", vectorize=True)(lambda x, y, scale=1.0: x * scale)
    points = [{"x": 0.5}, {"x": 1}, {"x": 0.5}]
    plan = decorated.cases.plan(points, y="u", scale=2.0)
    assert (2, 0, None) == (plan.executed_points, plan.cached_points, plan.seconds)
    assert not (tmp_path / "root").exists()
    decorated.cases(points, y="u", scale=2.0)
    decorated.sample(10, 1, x=(0.0, 1.0), y="u", scale=2.0)
    before = sorted(path for path in tmp_path.rglob("*"))
    plan = decorated.cases.plan([*points, {"x": 7.0}], y="u", scale=2.0)
    assert (1, 2) == (plan.executed_points, plan.cached_points)
    assert "1 points in 1 chunks: not computed yet" in str(plan)
    assert "of compute" in str(plan)
    assert "not computed yet" in plan._repr_html_()
    assert (2, 10) == (
        decorated.sample.plan(12, 1, x=(0.0, 1.0), y="u", scale=2.0).executed_points,
        decorated.sample.plan(12, 1, x=(0.0, 1.0), y="u", scale=2.0).cached_points,
    )
    with pytest.raises(SpecError, match="leave refresh out"):
        decorated.cases.plan(points, y="u", refresh=True)
    assert before == sorted(path for path in tmp_path.rglob("*"))


def test_records_of_failed_points_can_be_cleared(tmp_path: Path) -> None:
    """clear() forgets failures of points, too."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1.0]}, verbose=0)

    @memo.cache(version="1", vectorize=True)
    def inverse(x: float) -> float:
        return 1 / x

    with warnings.catch_warnings(action="ignore"):
        inverse.cases([0.0, 0], on_error="record")
    assert 2 == len(inverse.failures())
    inverse.failures()[:1].clear()
    assert 1 == len(inverse.failures())
    inverse.failures().clear()
    assert 0 == len(inverse.failures())


def test_a_run_over_points_is_told_to_observers(tmp_path: Path) -> None:
    """Observers see a run over points as any other."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1.0]}, verbose=0)
    events: list[Event] = []

    @memo.cache(version="1", vectorize=True)
    def double(x: float) -> float:
        return 2 * x

    double.cases([1.5, 2.5], observers=[events.append])
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    assert 2 == finished.executed_points


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        ("ab", SpecError, "cases are a list of points"),
        ({"x": 1}, SpecError, "cases are a list of points"),
        ([{"x": 1}], SpecError, "no value for the axis 'y'"),
        ([{"x": 1, "y": "u", "z": 3}], UnknownAxisError, "names 'z'; the axes are"),
        ([(1, 2, 3)], SpecError, "is no point of the axes"),
        ([3], SpecError, "is no point of the axes"),
    ],
)
def test_what_is_no_point(tmp_path: Path, points: Any, error: type[Exception], message: str) -> None:
    """What is no point of the axes is refused before anything runs."""
    calls: list[tuple[str, str]] = []
    function = memo_in(tmp_path).cache(version="1")(sweep_function("list", calls, False))
    with pytest.raises(error, match=message):
        function.cases(points)
    assert [] == calls


def test_what_no_sample_can_be_drawn_from(tmp_path: Path) -> None:
    """Ranges that are none are refused with their name."""
    calls: list[tuple[str, str]] = []
    function = memo_in(tmp_path).cache(version="1")(sweep_function("list", calls, False))
    for options, message in (
        ({"x": (1.0, 0.0)}, "the range of 'x' must be finite and ascending"),
        ({"x": (0.0, 1.0), "log": ["x"]}, "above 0"),
        ({"x": [], "y": "u"}, "no values of 'x' to choose from"),
        ({"log": ["z"]}, "'z' is no axis"),
        ({"method": "latin"}, "'random' or 'sobol'"),
    ):
        with pytest.raises(SpecError, match=message):
            function.sample(3, 0, **options)
    with pytest.raises(SpecError, match="number of points"):
        function.sample(-1)
    assert [] == calls


def test_a_piece_for_a_call_is_no_output_of_a_point(tmp_path: Path) -> None:
    """A function that returns one piece for its call has no outputs of single points, and the error says so."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1.0]}, verbose=0)

    @memo.cache(version="1")
    def total(x: list[float]) -> float:
        return sum(x)

    with pytest.raises(OutputError, match="vectorize=True"):
        total.cases([1.5])


def test_an_empty_list_of_cases(tmp_path: Path) -> None:
    """No points are a result without points."""
    function = memo_in(tmp_path).cache(version="1")(sweep_function("list", [], False))
    result = function.cases([])
    assert ((0,), 0) == (result.shape, executed(result))
    assert 0 == result.to_xarray().sizes["case"]


def test_one_axis_may_hold_for_all_cases(tmp_path: Path) -> None:
    """An axis named as a keyword has that one value at all points."""
    function = memo_in(tmp_path).cache(version="1", vectorize=True)(sweep_function("list", [], True))
    result = function.cases([{"x": 1}, {"x": 2}], y="u")
    assert ["u", "u"] == result.coords["y"]
    assert json.loads("[1, 2]") == result.coords["x"]
