"""Parameters, names and modules that change: one line keeps the results, and none is used for later code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import Programs

from chunk_memo import CacheNotFoundError, ChunkCache, ChunkMemo, auto_load, run
from chunk_memo.errors import CodeChangedError

FIRST = """\
RATE = 2.0


def f(x, y, b=1):
    return [RATE * b * i * j for i in x for j in y]
"""

PROMOTED = """\
def f(x, y, b=1, rate=2.0):
    return [rate * b * i * j for i in x for j in y]
"""

RENAMED_PARAM = """\
RATE = 2.0


def f(x, y, beta=1):
    return [RATE * beta * i * j for i in x for j in y]
"""

RENAMED = FIRST.replace("def f", "def g")

EVOLUTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "promote a constant": (PROMOTED, "f", {"new_params": {"rate": 2.0}}),
    "rename a param": (RENAMED_PARAM, "f", {"renamed_from": {"beta": "b"}}),
    "rename the function": (RENAMED, "g", {"renamed_from": "f"}),
    "move to another module": (FIRST, "f", {}),
    "rename both": (RENAMED_PARAM.replace("def f", "def g"), "g", {"renamed_from": ("f", {"beta": "b"})}),
    "rename and promote": (
        PROMOTED.replace("def f", "def g"),
        "g",
        {"renamed_from": ["f"], "new_params": {"rate": 2.0}},
    ),
}
"""For each the code afterwards, the function's name, and the line that keeps the results."""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that imports a function of a program."""
    with Programs(tmp_path / "programs") as programs:
        yield programs.function


def memo(root: Path) -> ChunkMemo:
    """Return a memo over four points; every call opens it anew."""
    return ChunkMemo(root, {"x": 1}, {"x": [1, 2], "y": [10, 20]}, verbose=0, durability="fast")


def called(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, int]:
    """Return the output of a call, and how many points it computed."""
    output, diagnostics = function(*args, **kwargs)
    return output, diagnostics.executed_points


OUTPUT = [20.0, 40.0, 40.0, 80.0]


# --- one line each -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVOLUTIONS)
def test_one_line_keeps_the_results(tmp_path: Path, load: Any, name: str) -> None:
    """Whatever was stored for any params is there afterwards: 0 points are executed; without the line, all."""
    text, entry, line = EVOLUTIONS[name]
    first = memo(tmp_path).cache()(load(FIRST))
    first(), first(b=3, x=2)
    plain = load(text, entry)
    if line:
        assert 4 == memo(tmp_path).cache()(plain).plan().executed_points
    function = memo(tmp_path).cache(**line)(plain)
    before = sorted(tmp_path.rglob("*"))
    assert 0 == function.plan().executed_points
    assert 4 == len(function.cache_status()["missing_chunks"] + 2 * function.cache_status()["cached_chunks"])
    assert before == sorted(tmp_path.rglob("*")), "planning writes nothing"
    assert (OUTPUT, 0) == called(function)
    assert ([60.0 * 2, 120.0 * 2], 2 * [0]) == (
        called(function, [2], [10, 20], 3)[0],
        [called(function, [2], [10, 20], 3)[1], called(memo(tmp_path).cache(**line)(plain))[1]],
    )
    assert 2 == called(function, [1, 2], [10, 20], 3)[1], "what was not stored is computed"


WIDER = """\
RATE = 2.0


def f(x, y, b):
    return [RATE * each * i * j for i in x for j in y for each in b]
"""

NARROW = {"no param before": FIRST.replace(", b=1", "").replace(" * b", ""), "a param before": FIRST}
"""Code before there was the axis ``b``."""


def wide(root: Path) -> ChunkMemo:
    """Return a memo over one axis more."""
    return ChunkMemo(root, axis_values={"x": [1, 2], "y": [10, 20], "b": [0, 1, 2]}, verbose=0)


@pytest.mark.parametrize("before", NARROW)
def test_one_line_keeps_the_results_of_a_new_axis(tmp_path: Path, load: Any, before: str) -> None:
    """What was stored counts at one value of the axis; a plan says so, and without the line names it."""
    memo(tmp_path).cache()(load(NARROW[before]))()
    plain = load(WIDER)
    plan = wide(tmp_path).cache()(plain).plan()
    assert (12, 1) == (plan.executed_points, len(plan.groups))
    assert "counts for one value of it with new_params={'b': …}" in plan.groups[0].reason
    function = wide(tmp_path).cache(new_params={"b": 1})(plain)
    files = sorted(tmp_path.rglob("*"))
    assert (4, 8) == (function.plan().cached_points, function.plan().executed_points)
    assert files == sorted(tmp_path.rglob("*")), "planning writes nothing"
    assert (OUTPUT, 0) == called(function, b=1)
    assert 8 == called(function)[1]
    assert [(OUTPUT, 0), 0] == [called(function, b=1), called(wide(tmp_path).cache()(plain))[1]]


def test_a_param_that_becomes_an_axis_by_declaration_alone(tmp_path: Path, load: Any) -> None:
    """The code may stay as it is where it takes single values: only what is an axis has changed."""
    plain = load("def f(x, y, b=1):\n    return x * y * b\n")
    memo(tmp_path).cache(vectorize=True)(plain)()
    reason = wide(tmp_path).cache(vectorize=True)(plain).plan().groups[0].reason
    assert reason.endswith(
        "what is stored has 'b' as a param, and counts for one value of it with new_params={'b': …}"
    )
    function = wide(tmp_path).cache(vectorize=True, new_params={"b": 1})(plain)
    assert (8, 8, 0) == (function.plan().executed_points, called(function)[1], called(function)[1])
    assert [[[0, 10, 20], [0, 20, 40]], [[0, 20, 40], [0, 40, 80]]] == function()[0].tolist()


def test_a_later_edit_with_a_new_axis_is_not_served(tmp_path: Path, load: Any) -> None:
    """The line stays in the program; later code gets no results of the code before it, narrow or wide."""
    memo(tmp_path).cache()(load(NARROW["no param before"]))()
    assert 8 == called(wide(tmp_path).cache(new_params={"b": 1})(load(WIDER)))[1]
    later = wide(tmp_path).cache(new_params={"b": 1})(load(WIDER.replace("i * j", "i - j")))
    assert "code changed: function 'f'" == later.plan().groups[0].reason
    assert 12 == called(later)[1]


def test_a_value_that_a_new_axis_lacks_is_refused(tmp_path: Path, load: Any) -> None:
    """Older results would never be asked for."""
    with pytest.raises(ValueError, match=r"hold for b=7, and axis 'b' has no such value; add it to axis_values"):
        wide(tmp_path).cache(new_params={"b": 7})(load(WIDER))


@pytest.mark.parametrize("name", [name for name, (_, _, line) in EVOLUTIONS.items() if line])
def test_a_later_edit_is_not_served(tmp_path: Path, load: Any, name: str) -> None:
    """The line stays in the program; later code gets no results of the code before it."""
    text, entry, line = EVOLUTIONS[name]
    first = memo(tmp_path).cache()(load(FIRST))
    first(), first(b=3)
    assert (OUTPUT, 0) == called(memo(tmp_path).cache(**line)(load(text, entry)))
    later = memo(tmp_path).cache(**line)(load(text.replace("i * j", "i - j"), entry))
    assert "code changed: function" in later.plan().groups[0].reason
    assert ([-8.0, -18.0, -6.0, -16.0], 4) == called(later)
    third = {"rename a param": "beta", "rename both": "beta"}.get(name, "b")
    assert 4 == called(later, **{third: 3})[1]
    kept = memo(tmp_path).cache(**line)(load(text, entry))
    assert ([60.0, 120.0, 120.0, 240.0], 0) == called(kept, **{third: 3}), "the earlier code has them still"


@pytest.mark.parametrize("name", [name for name, (_, _, line) in EVOLUTIONS.items() if line])
def test_the_policy_sees_older_names(tmp_path: Path, load: Any, name: str) -> None:
    """Under ``on_code_change="error"`` results under old names are told of, too, where they do not count."""
    text, entry, line = EVOLUTIONS[name]
    first = memo(tmp_path).cache()(load(FIRST))
    called(first), called(first, b=3)
    assert (OUTPUT, 0) == called(memo(tmp_path).cache(**line)(load(text, entry)))
    plain = load(text.replace("i * j", "i - j"), entry)
    later = memo(tmp_path).cache(on_code_change="error", **line)(plain)
    third = {"rename a param": "beta", "rename both": "beta"}.get(name, "b")
    for params in ({}, {third: 3}):
        with pytest.raises(CodeChangedError):
            later(**params)
    assert 4 == called(later, **{third: 5})[1]


def test_other_values_of_a_new_param_are_computed(tmp_path: Path, load: Any) -> None:
    """Old results count for the value that was declared, and for no other."""
    called(memo(tmp_path).cache()(load(FIRST)))
    function = memo(tmp_path).cache(new_params={"rate": 2.0})(load(PROMOTED))
    assert ([30.0, 60.0, 60.0, 120.0], 4) == called(function, rate=3.0)
    assert (OUTPUT, 0) == called(function)


def test_the_newest_version_is_meant(tmp_path: Path, load: Any) -> None:
    """Of two versions without the new param, results of the newer one count, and only those."""
    older = memo(tmp_path).cache()(load(FIRST.replace("RATE = 2.0", "RATE = 5.0")))
    called(older), called(older, b=3)
    called(memo(tmp_path).cache()(load(FIRST)))
    function = memo(tmp_path).cache(new_params={"rate": 2.0})(load(PROMOTED))
    assert (OUTPUT, 0) == called(function)
    assert ([60.0, 120.0, 120.0, 240.0], 4) == called(function, b=3)


def test_a_renamed_function_finds_its_own_code(tmp_path: Path, load: Any) -> None:
    """Code v1, v2, v1 again and then a new name: results of v1 count, although v2 is newer."""
    called(memo(tmp_path).cache()(load(FIRST)))
    called(memo(tmp_path).cache()(load(FIRST.replace("i * j", "i - j"))))
    assert (OUTPUT, 0) == called(memo(tmp_path).cache(renamed_from="f")(load(RENAMED, "g")))


def test_a_function_of_the_same_name_elsewhere(tmp_path: Path, load: Any) -> None:
    """Results of another module's function of the old name, though newer, are not taken for one's own."""
    own = load(FIRST)
    called(memo(tmp_path).cache()(own))
    called(memo(tmp_path).cache()(load(FIRST.replace("i * j", "i - j"))))
    edited = load(RENAMED.replace("i * j", "i + j"), "g")
    edited.__module__ = own.__module__  # a later state of the same file
    assert (OUTPUT, 0) == called(memo(tmp_path).cache(renamed_from="f")(edited))
    assert (OUTPUT, 0) == called(_accepted(memo(tmp_path).cache(name="f")(edited)))


def _accepted(function: Any) -> Any:
    assert 1 == function.accept()
    return function


def test_several_steps(tmp_path: Path, load: Any) -> None:
    """Two declarations, one after the other, lead back to the first results, also of params not called since."""
    first = memo(tmp_path).cache()(load(FIRST))
    called(first), called(first, b=3)
    called(memo(tmp_path).cache(renamed_from={"beta": "b"})(load(RENAMED_PARAM)))
    text = PROMOTED.replace("b", "beta")
    line: dict[str, Any] = {"renamed_from": {"beta": "b"}, "new_params": {"rate": 2.0}}
    function = memo(tmp_path).cache(**line)(load(text))
    assert (OUTPUT, 0) == called(function)
    assert ([60.0, 120.0, 120.0, 240.0], 0) == called(function, beta=3)


def test_accept_fills_in_defaults(tmp_path: Path, load: Any) -> None:
    """Without any line, ``accept()`` keeps results for the default of a new argument."""
    first = memo(tmp_path).cache()(load(FIRST))
    called(first), called(first, b=3)
    function = memo(tmp_path).cache()(load(PROMOTED))
    assert 2 == function.accept()
    assert (OUTPUT, 0) == called(function)
    assert ([60.0, 120.0, 120.0, 240.0], 0) == called(function, b=3)
    assert 4 == called(function, rate=3.0)[1]


def test_streams_evolve_too(tmp_path: Path, load: Any) -> None:
    """``stream_cache`` takes the same line."""
    assert 4 == memo(tmp_path).stream_cache()(load(FIRST))().executed_points
    assert 0 == memo(tmp_path).stream_cache(renamed_from="f")(load(RENAMED, "g"))().executed_points


def test_a_plan_of_an_exclusive_memo(tmp_path: Path, load: Any) -> None:
    """Planning what will be adopted looks at the other cache, whose grid may differ."""
    called(memo(tmp_path).cache()(load(FIRST)))
    wide = ChunkMemo(tmp_path, {"x": 2}, {"x": [1, 2, 3], "y": [10, 20]}, verbose=0, exclusive=True)
    function = wide.cache(renamed_from="f")(load(RENAMED, "g"))
    assert 2 == function.plan().executed_points == called(function)[1]


def test_axes_that_differ_are_no_error(tmp_path: Path, load: Any) -> None:
    """Results over other axes cannot count, and are computed."""
    text = "def f(x):\n    return [i for i in x]\n"
    called(ChunkMemo(tmp_path, axis_values={"x": [1]}, verbose=0).cache()(load(text)))
    text = "def g(x, y):\n    return [i for i in x for _ in y]\n"
    function = memo(tmp_path).cache(renamed_from="f")(load(text, "g"))
    assert ([1, 1, 2, 2], 4) == called(function)
    assert 0 == called(function)[1]


# --- caches made by params ---------------------------------------------------------------------------------


def filled(root: Path, params: dict[str, Any], axes: dict[str, list[Any]], output: Any) -> None:
    """Store one output for every point of a cache made by params."""
    cache = ChunkMemo(root, axis_values=axes, verbose=0).cache_for_params(params)
    run(cache, lambda **given: [output] * _points(given))


def _points(given: dict[str, list[Any]]) -> int:
    count = 1
    for values in given.values():
        count *= len(values)
    return count


def answered(loaded: ChunkMemo, params: dict[str, Any], **axes: Any) -> tuple[Any, int]:
    """Return outputs of a cache made by params, and how many points were computed."""
    cache = loaded.cache_for_params(params).slice(**axes)
    output, diagnostics = run(cache, lambda **given: ["new"] * _points(given))
    return output, diagnostics.executed_points


def test_auto_load_with_more_params(tmp_path: Path) -> None:
    """``extend_cache=True`` finds what was stored before there was a param; otherwise it is a new cache."""
    filled(tmp_path, {"a": 1}, {"x": [1, 2]}, "old")
    wide = {"a": 1, "b": 2}
    assert (["new"], 1) == answered(
        auto_load(tmp_path, {**wide, "c": 3}, {"x": [1]}, verbose=0), {**wide, "c": 3}
    )
    for _ in range(2):
        loaded = auto_load(tmp_path, wide, {"x": [2, 3]}, extend_cache=True, verbose=0)
        assert {"x": [1, 2, 3]} == loaded.axis_values
        assert (["old", "old"], 0) == answered(loaded, wide, x=[1, 2])
    assert (["old", "new"], 1) == answered(loaded, wide, x=[2, 3])
    assert {"x": [1, 2]} == auto_load(tmp_path, {"a": 1}).axis_values


def test_auto_load_of_other_params_adopts_nothing(tmp_path: Path) -> None:
    """A cache of other values, or of more params, does not count."""
    filled(tmp_path, {"a": 1, "b": 2}, {"x": [1]}, "old")
    for params in ({"a": 1, "b": 3, "c": 1}, {"a": 1}, {"a": True, "b": 2, "c": 1}):
        loaded = auto_load(tmp_path, params, {"x": [1]}, extend_cache=True, verbose=0)
        assert (["new"], 1) == answered(loaded, params)


def test_auto_load_with_a_new_axis(tmp_path: Path) -> None:
    """Caches for single values of what is an axis now count for those values."""
    for rate in (1, 2):
        filled(tmp_path, {"a": 1, "rate": rate}, {"x": [1, 2]}, f"rate {rate}")
    axes = {"x": [1, 2], "rate": [2, 3]}
    loaded = auto_load(tmp_path, {"a": 1}, axes, extend_cache=True, verbose=0)
    assert {1, 2, 3} == set(loaded.axis_values["rate"])
    assert (["rate 1", "rate 1"], 0) == answered(loaded, {"a": 1}, rate=1)
    assert (["rate 2", "rate 2"], 0) == answered(loaded, {"a": 1}, rate=2)
    assert (["new", "new"], 2) == answered(loaded, {"a": 1}, rate=3)


def test_auto_load_without_values_takes_the_narrower_cache_s(tmp_path: Path) -> None:
    """Axis values left out are those of the narrower cache; where there is none, that is said."""
    filled(tmp_path, {"a": 1}, {"x": [1, 2]}, "old")
    loaded = auto_load(tmp_path, {"a": 1, "b": 2}, extend_cache=True, verbose=0)
    assert (["old", "old"], 0) == answered(loaded, {"a": 1, "b": 2})
    with pytest.raises(CacheNotFoundError):
        auto_load(tmp_path, {"b": 5}, extend_cache=True)


def test_auto_load_prefers_most_params(tmp_path: Path) -> None:
    """Of several narrower caches the one with most params in common counts."""
    filled(tmp_path, {"a": 1}, {"x": [1]}, "one")
    filled(tmp_path, {"a": 1, "b": 2}, {"x": [1]}, "two")
    filled(tmp_path, {}, {"x": [1]}, "none")
    params = {"a": 1, "b": 2, "c": 3}
    loaded = auto_load(tmp_path, params, {"x": [1]}, extend_cache=True, verbose=0)
    assert (["two"], 0) == answered(loaded, params)
    assert 4 == len(ChunkCache.discover_caches(tmp_path))


# --- declarations that hold for the version before, and for none before that ------------------------------------

WITHOUT_BETA = "def f(x, p):\n    return 10 * x + p\n"
WITH_BETA = "def f(x, beta, p):\n    return 10 * x + p + 100 * beta\n"
BETA_EDITED = WITH_BETA.replace("10 * x", "1000 * x")


def test_a_new_axis_does_not_reach_past_later_code(tmp_path: Path, load: Any) -> None:
    """Results of the code without the axis count for the code that brought it in, and for no later edit."""

    def over(code: str, **axes: list[int]) -> Any:
        declared: Any = {"new_params": {"beta": 0}} if "beta" in axes else {}
        made = ChunkMemo(tmp_path / "root", axis_values=axes, verbose=0)
        return made.cache(vectorize=True, name="f", **declared)(load(code, "f"))

    for p in (1, 2):
        over(WITHOUT_BETA, x=[1, 2])(p=p)
    output, done = over(WITH_BETA, x=[1, 2], beta=[0, 1])(p=2)
    assert ([[12, 112], [22, 122]], 2) == (output.tolist(), done.cached_points)
    edited = over(BETA_EDITED, x=[1, 2], beta=[0, 1])
    for p in (1, 2):
        output, done = edited(p=p)
        assert ([[1000 + p, 1100 + p], [2000 + p, 2100 + p]], 0) == (output.tolist(), done.cached_points)


def test_lists_of_points_are_results_of_their_code(tmp_path: Path, load: Any) -> None:
    """A cache that holds nothing but points is noticed by ``on_code_change``, and kept by a declaration."""
    made = ChunkMemo(tmp_path / "root", axis_values={"x": [1, 2]}, verbose=0)
    first = "def f(x):\n    return 10 * x\n"
    made.cache(vectorize=True)(load(first, "f")).cases([7, 8])
    other = made.cache(vectorize=True, on_code_change="error")(load(first.replace("10", "20"), "f"))
    with pytest.raises(CodeChangedError):
        other.cases([7, 8])
    more = made.cache(vectorize=True, new_params={"b": 1})(load(first.replace("f(x)", "f(x, b=1)"), "f"))
    done = more.cases([7, 8]).diagnostics
    assert done is not None
    assert 2 == done.cached_points
