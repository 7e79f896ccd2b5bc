"""Decorated functions: what a call means, what its identity is, and how a memo is opened again."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    CacheStatus,
    ChunkCache,
    ChunkMemo,
    Diagnostics,
    IdentityError,
    OverlapError,
    OverlapWarning,
    Plan,
    SignatureError,
    SpecError,
    auto_load,
    params_to_cache_id,
    run,
)
from chunk_memo.display import progress

AXES: dict[str, Any] = {"x": [1, 2, 3], "y": [10, 20]}


def memo(root: Path, **options: Any) -> ChunkMemo:
    """Return a memo over `AXES` in chunks of one x; every call opens it anew."""
    given: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 1}, "verbose": 0, "durability": "fast"}
    return ChunkMemo(root, **given | options)


def scaled(x: list[int], y: list[int], scale: int = 1, offset: int = 0) -> list[int]:
    """Return one output per point."""
    return [scale * i * j + offset for i in x for j in y]


def executed(call: tuple[Any, Diagnostics]) -> int:
    """Return the number of points that a call computed."""
    return call[1].executed_points


# --- what a call asks for ----------------------------------------------------------------------------------

REQUESTS: dict[str, tuple[dict[str, Any], list[int], list[int]]] = {
    "nothing": ({}, [1, 2, 3], [10, 20]),
    "a list": ({"x": [3, 1]}, [3, 1], [10, 20]),
    "a tuple": ({"x": (2,)}, [2], [10, 20]),
    "a range": ({"x": range(1, 3)}, [1, 2], [10, 20]),
    "an array": ({"x": np.array([3, 2])}, [3, 2], [10, 20]),
    "a set": ({"x": {3, 1}}, [1, 3], [10, 20]),
    "one value": ({"x": 2, "y": 20}, [2], [20]),
    "a NumPy number": ({"x": np.int64(2)}, [2], [10, 20]),
    "a value twice": ({"x": [2, 2]}, [2, 2], [10, 20]),
    "an index": ({"axis_indices": {"x": 1}}, [2], [10, 20]),
    "an index from the end": ({"axis_indices": {"x": -1}}, [3], [10, 20]),
    "a NumPy index": ({"axis_indices": {"x": np.array(2)}}, [3], [10, 20]),
    "a slice": ({"axis_indices": {"x": slice(1, None), "y": slice(None, None, -1)}}, [2, 3], [20, 10]),
    "a range of indices": ({"axis_indices": {"x": range(2, 0, -1)}}, [3, 2], [10, 20]),
    "indices": ({"axis_indices": {"x": [2, 0, 2]}}, [3, 1, 3], [10, 20]),
    "indices and slices": ({"axis_indices": {"x": [2, slice(0, 2)]}}, [3, 1, 2], [10, 20]),
    "a mask": ({"axis_indices": {"x": np.array([True, False, True])}}, [1, 3], [10, 20]),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_call_returns_what_it_asks_for(tmp_path: Path, name: str) -> None:
    """Values, indices, slices and masks select in the asked order; what is left out is the whole axis."""
    asked, x, y = REQUESTS[name]
    sweep = memo(tmp_path).cache()(scaled)
    output, diagnostics = sweep(**asked)
    assert scaled(x, y) == output
    assert len(set(x)) * len(set(y)) == diagnostics.executed_points
    assert (scaled(x, y), 0) == (lambda again: (again[0], executed(again)))(sweep(**asked))


def test_iterators_are_walked_once(tmp_path: Path) -> None:
    """A generator is a sequence of values, also where the axis has to grow first."""
    sweep = memo(tmp_path).cache()(scaled)
    assert scaled([3, 1], [10, 20]) == sweep(x=(i for i in (3, 1)))[0]
    assert scaled([9, 1], [10, 20]) == sweep(x=iter([9, 1]), extend_cache=True)[0]
    assert 2 == sweep.plan(x=iter([1, 8]), extend_cache=True).executed_points


def test_axis_arguments_may_be_positional(tmp_path: Path) -> None:
    """Axes and params are told apart by name, wherever they stand in the call."""
    sweep = memo(tmp_path).cache()(scaled)
    assert scaled([2], [20], 3, 4) == sweep([2], 20, 3, 4)[0]
    assert 0 == executed(sweep(offset=4, y=20, x=2, scale=3))


def test_a_value_that_is_a_list_is_one_value(tmp_path: Path) -> None:
    """An argument that equals an axis value is that value; where it could be both it is refused."""
    nested = {"x": [[1, 2], [3], (4, 5)], "y": [10]}
    sweep = memo(tmp_path, axis_values=nested).cache()(lambda x, y: [str(i) for i in x for _ in y])
    assert ["[1, 2]"] == sweep(x=[1, 2])[0]
    assert ["(4, 5)"] == sweep(x=(4, 5))[0]
    assert ["[3]", "[1, 2]"] == sweep(x=[[3], [1, 2]])[0]
    both = memo(tmp_path, axis_values={"x": [1, 2, [1, 2]], "y": [10]}).cache()(scaled)
    with pytest.raises(SpecError, match=r"\[1, 2\] is both one value of axis 'x'.*axis_indices=\{'x'"):
        both(x=[1, 2])


def test_values_of_another_type_are_other_values(tmp_path: Path) -> None:
    """1, 1.0 and True are three values; the message says which type the nearest has."""
    sweep = memo(tmp_path).cache()(scaled)
    with pytest.raises(KeyError, match=r"'x' has no value 1.0; the nearest is 1, int where float was asked for"):
        sweep(x=1.0)
    three = memo(tmp_path, axis_values={"x": [1, 1.0, True], "y": [1]}).cache()(lambda x, y: [repr(i) for i in x])
    assert ["1", "1.0", "True"] == three()[0]
    assert ["True"] == three(x=True)[0]


def test_extend_cache_adds_values(tmp_path: Path) -> None:
    """``extend_cache=True`` adds what is new to the axis of these params, and computes only that."""
    sweep = memo(tmp_path).cache()(scaled)
    sweep()
    assert 2 == executed(sweep(x=[1, 7], extend_cache=True))
    assert scaled([1, 2, 3, 7], [10, 20]) == sweep()[0]
    assert [1, 2, 3, 7] == sweep.cache_for().axis_values["x"]
    assert [1, 2, 3] == sweep.cache_for(scale=2).axis_values["x"]
    wider = memo(tmp_path, axis_values={"x": [0, 1, 2, 7, 3], "y": [20, 10]}).cache()(scaled)
    output, diagnostics = wider()
    assert (scaled([0, 1, 2, 7, 3], [20, 10]), 2) == (output, diagnostics.executed_points)


def test_status_and_plan_with_extend_cache_change_nothing(tmp_path: Path) -> None:
    """Asking what an extension would take does not extend."""
    sweep = memo(tmp_path).cache()(scaled)
    sweep()
    assert 1 == len(sweep.cache_status(x=[1, 9], extend_cache=True)["missing_chunks"])
    assert 2 == sweep.plan(x=[1, 9], extend_cache=True).executed_points
    assert [1, 2, 3] == sweep.cache_for().axis_values["x"]


# --- params ------------------------------------------------------------------------------------------------


def test_positional_keyword_and_default_are_one_identity(tmp_path: Path) -> None:
    """However an argument is given, the call is the same; another value is another cache."""
    sweep = memo(tmp_path).cache()(scaled)
    assert 6 == executed(sweep(scale=1))
    for again in (sweep(), sweep([1, 2, 3], [10, 20], 1), sweep(offset=0, scale=1)):
        assert 0 == executed(again)
    assert 6 == executed(sweep(scale=2))
    assert 6 == executed(sweep(scale=1.0))
    assert [0, 0, 0] == [executed(sweep(scale=scale)) for scale in (1, 2, 1.0)]


def test_numpy_numbers_are_the_numbers_that_they_are(tmp_path: Path) -> None:
    """``np.int64(2)`` is 2 and ``np.float64(0.1)`` is 0.1; other NumPy types keep theirs."""
    sweep = memo(tmp_path).cache()(scaled)
    sweep(scale=2, offset=0.1)
    assert 0 == executed(sweep(scale=np.int64(2), offset=np.float64(0.1)))
    assert 6 == executed(sweep(scale=np.float32(2), offset=0.1))


def test_params_may_be_any_plain_data(tmp_path: Path) -> None:
    """Arrays, dicts, sets and dataclasses are params; a change in any element is another cache."""
    sweep = memo(tmp_path).cache()(lambda x, y, data, options: [0] * len(x) * len(y))
    data = np.arange(100_000)
    assert 6 == executed(sweep(data=data, options={"a": {1, 2}}))
    assert 0 == executed(sweep(data=data.copy(), options={"a": {2, 1}}))
    data[50_000] += 1
    assert 6 == executed(sweep(data=data, options={"a": {1, 2}}))


def with_params(params: dict[str, Any], x: list[int], y: list[int]) -> list[Any]:
    """Take params as one dict."""
    return [params["scale"] * i * j for i in x for j in y]


def test_an_explicit_dict_of_params(tmp_path: Path) -> None:
    """A function that has a ``params`` argument gets the dict; its order does not matter."""
    sweep = memo(tmp_path).cache()(with_params)
    assert 6 == executed(sweep({"scale": 2, "other": 3}))
    assert 0 == executed(sweep(params={"other": 3, "scale": 2}))
    assert {"scale": 2, "other": 3} == sweep.cache_for({"scale": 2, "other": 3}).params


def test_a_dict_of_params_is_spread_over_arguments(tmp_path: Path) -> None:
    """A function without a ``params`` argument gets the dict's entries as arguments."""
    sweep = memo(tmp_path).cache()(scaled)
    assert 6 == executed(sweep(params={"scale": 2}))
    assert 0 == executed(sweep(scale=2))
    assert scaled([2], [10], 2, 5) == sweep(x=2, y=10, params={"scale": 2, "offset": 5})[0]
    with pytest.raises(SpecError, match=r"'scale' was given both in 'params' and as an argument"):
        sweep(scale=1, params={"scale": 2})
    with pytest.raises(SpecError, match=r"'params' must be a dict of params, got 3"):
        sweep(params=3)


def test_the_dict_of_params_may_have_another_name(tmp_path: Path) -> None:
    """``params_arg`` names it, also in the positional-and-keyword refusal."""
    sweep = memo(tmp_path).cache("settings")(lambda settings, x, y: [settings["a"]] * len(x) * len(y))
    assert [7] * 6 == sweep(settings={"a": 7})[0]
    with pytest.raises(SpecError, match=r"'settings' of .* was given both positional and keyword"):
        sweep({"a": 7}, settings={"a": 7})
    spread = memo(tmp_path).cache("settings")(scaled)
    assert scaled([1], [10], 3) == spread(x=1, y=10, settings={"scale": 3})[0]


def test_metadata_says_what_a_cache_is(tmp_path: Path) -> None:
    """``metadata.json`` holds params, function and the user's own entries."""
    sweep = memo(tmp_path, metadata={"project": "demo"}).cache()(scaled)
    sweep(scale=2)
    [entry] = ChunkCache.discover_caches(tmp_path)
    known = entry["metadata"]["metadata"]
    assert ({"scale": 2, "offset": 0}, "demo") == (known["params"], known["project"])
    assert ("scaled", __name__) == (known["function"]["name"], known["function"]["module"])
    assert json.loads((entry["path"] / "metadata.json").read_text(encoding="utf-8"))


# --- functions of every form -------------------------------------------------------------------------------


@dataclasses.dataclass
class Model:
    """An object whose fields are its identity."""

    scale: int

    def sweep(self, x: list[int], y: list[int], offset: int = 0) -> list[int]:
        """Return one output per point."""
        return [self.scale * i * j + offset for i in x for j in y]


class Unsound:
    """An object without an identity."""

    def sweep(self, x: list[int], y: list[int]) -> list[int]:
        """Return one output per point."""
        return [0] * len(x) * len(y)


def test_methods_are_decorated_like_functions(tmp_path: Path) -> None:
    """``self`` is a param: objects with equal fields share, others do not."""
    decorated = memo(tmp_path).cache()(Model.sweep)

    class Decorated(Model):
        sweep = decorated  # type: ignore[assignment]

    one, two = Decorated(2), Decorated(3)
    assert 6 == executed(one.sweep())
    assert (0, 6) == (executed(Decorated(2).sweep()), executed(two.sweep()))
    one.scale = 3
    assert (0, [3 * 10]) == (executed(one.sweep()), one.sweep(x=1, y=10)[0])
    assert 3 == len(decorated.cache_status(one)["cached_chunks"])


def test_an_object_without_identity_is_refused_by_name(tmp_path: Path) -> None:
    """The message names the argument, the function, and how to give the object an identity."""
    decorated = memo(tmp_path).cache()(Unsound.sweep)
    with pytest.raises(
        TypeError, match=r"argument 'self' of 'Unsound.sweep'.*no sound identity.*register_identity"
    ):
        decorated(Unsound())
    with pytest.raises(IdentityError, match=r"argument 'self' of 'Unsound.sweep'.*no sound identity"):
        memo(tmp_path).cache()(Unsound().sweep)()
    with pytest.raises(IdentityError, match=r"argument 'scale' of 'scaled': 'scale\['a'\]\[1\]' has no sound"):
        memo(tmp_path).cache()(scaled)(scale={"a": [1, object()]})


def test_bound_methods_count_with_their_object(tmp_path: Path) -> None:
    """What a bound method's object holds is looked at in every call."""
    model = Model(2)
    sweep = memo(tmp_path).cache()(model.sweep)
    assert (6, 0) == (executed(sweep()), executed(sweep()))
    model.scale = 3
    assert (6, [3 * 10]) == (executed(sweep()), sweep(x=1, y=10)[0])
    model.scale = 2
    assert 0 == executed(sweep())
    assert 0 == executed(memo(tmp_path).cache()(Model(3).sweep)())


def test_partials_count_with_their_arguments(tmp_path: Path) -> None:
    """What a partial has bound is a param, positional or keyword, and is looked at in every call."""
    weights = [1, 2]
    makes: list[Callable[[], Any]] = [
        lambda: functools.partial(scaled, scale=2),
        lambda: functools.partial(scaled, scale=3),
        lambda: functools.partial(lambda weights, x, y: [weights[0]] * len(x) * len(y), weights),
        lambda: functools.partial(lambda x, y, **more: [more["w"][1]] * len(x) * len(y), w=weights),
    ]
    sweeps = [memo(tmp_path).cache(name=str(n))(make()) for n, make in enumerate(makes)]
    assert [6] * 4 == [executed(sweep()) for sweep in sweeps]
    assert [0] * 4 == [executed(sweep()) for sweep in sweeps]
    weights[:] = [5, 6]
    assert [0, 0, 6, 6] == [executed(sweep()) for sweep in sweeps]
    assert [[20], [30], [5], [6]] == [sweep(x=1, y=10)[0] for sweep in sweeps]
    assert scaled([1], [10], 9) == sweeps[0](x=1, y=10, scale=9)[0]


@dataclasses.dataclass
class Callable_:
    """An object that is called."""

    scale: int

    def __call__(self, x: list[int], y: list[int]) -> list[int]:
        """Return one output per point."""
        return [self.scale * i * j for i in x for j in y]


def test_callable_objects_count_with_their_fields(tmp_path: Path) -> None:
    """An object with ``__call__`` is a function whose fields are params."""
    work = Callable_(2)
    sweep = memo(tmp_path).cache()(work)
    assert (6, 0) == (executed(sweep()), executed(sweep()))
    work.scale = 5
    assert (6, [50]) == (executed(sweep()), sweep(x=1, y=10)[0])


def takes_more(x: list[int], **more: Any) -> list[Any]:
    """Take one axis by name and the other among what else is given."""
    return [(i, j, more.get("scale")) for i in x for j in more["y"]]


def test_functions_that_take_any_keyword(tmp_path: Path) -> None:
    """Axes that the signature does not name reach ``**more``; other keywords are params."""
    sweep = memo(tmp_path).cache()(takes_more)
    assert [(2, 10, None), (2, 20, None)] == sweep(x=2)[0]
    assert [(2, 20, 7)] == sweep(x=2, y=20, scale=7)[0]
    assert [0, 1] == [executed(sweep(x=2, y=10)), executed(sweep(x=2, y=10, params={"scale": 7}))]


def test_keyword_only_positional_only_and_gathered_arguments(tmp_path: Path) -> None:
    """Every kind of parameter works, for axes and for params."""

    def keyword_only(*, x: list[int], y: list[int], scale: int = 1) -> list[int]:
        return scaled(x, y, scale)

    def positional_only(scale: int, x: list[int], /, y: list[int]) -> list[int]:
        return scaled(x, y, scale)

    def gathered(x: list[int], y: list[int], *scales: int) -> list[int]:
        return scaled(x, y, sum(scales))

    assert scaled([2], [10], 3) == memo(tmp_path).cache()(keyword_only)(x=2, y=10, scale=3)[0]
    sweep = memo(tmp_path).cache()(positional_only)
    assert scaled([2], [10], 3) == sweep(3, [2], y=10)[0]
    assert scaled([1, 2, 3], [10, 20], 3) == sweep(3)[0]
    assert scaled([2], [10], 7) == memo(tmp_path).cache()(gathered)(2, 10, 3, 4)[0]


def test_lambdas(tmp_path: Path) -> None:
    """A lambda is known by its code, also under ``version=``, unless it gets a name."""
    double, triple = (
        (lambda x, y: [2 * i * j for i in x for j in y]),
        (lambda x, y: [3 * i * j for i in x for j in y]),
    )
    assert [20] == memo(tmp_path).cache()(double)(x=1, y=10)[0]
    assert [30] == memo(tmp_path).cache()(triple)(x=1, y=10)[0]
    assert [20] == memo(tmp_path).cache(version="1")(double)(x=1, y=10)[0]
    assert [30] == memo(tmp_path).cache(version="1")(triple)(x=1, y=10)[0]
    assert [20] == memo(tmp_path).cache(version="1", name="f")(double)(x=1, y=10)[0]
    assert [20] == memo(tmp_path).cache(version="1", name="f")(triple)(x=1, y=10)[0]
    assert [20] == memo(tmp_path).cache(version="1", name="double")(double)(x=1, y=10)[0]


def test_closures_that_change(tmp_path: Path) -> None:
    """A variable of an enclosing function counts; bound to another value the function is another."""
    factor = 2

    @memo(tmp_path).cache()
    def sweep(x: list[int], y: list[int]) -> list[int]:
        return [factor * i * j for i in x for j in y]

    assert (6, 0) == (executed(sweep()), executed(sweep()))
    factor = 3
    assert (6, [30]) == (executed(sweep()), sweep(x=1, y=10)[0])
    factor = 2
    assert (0, [20]) == (executed(sweep()), sweep(x=1, y=10)[0])


def test_a_function_may_call_another_sweep(tmp_path: Path) -> None:
    """A decorated function in a closure counts like any function."""
    inner = memo(tmp_path).cache()(scaled)

    @memo(tmp_path, axis_values={"z": [1, 2]}, chunk_spec={}).cache()
    def outer(z: list[int]) -> list[int]:
        return [sum(inner(scale=k)[0]) for k in z]

    assert [sum(scaled([1, 2, 3], [10, 20], k)) for k in (1, 2)] == outer()[0]
    assert 0 == executed(outer())


def variant(which: int) -> Callable[..., Any]:
    """Return one of two functions of the same name."""
    if which:

        def sweep(x: list[int], y: list[int]) -> list[int]:
            return [i * j for i in x for j in y]

    else:

        def sweep(x: list[int], y: list[int]) -> list[int]:
            return [-i * j for i in x for j in y]

    return sweep


def test_other_code_is_another_function(tmp_path: Path) -> None:
    """Functions of one name and other code do not share; going back finds the old results."""
    assert [10] == memo(tmp_path).cache()(variant(1))(x=1, y=10)[0]
    assert ([-10], 1) == (lambda r: (r[0], executed(r)))(memo(tmp_path).cache()(variant(0))(x=1, y=10))
    assert ([10], 0) == (lambda r: (r[0], executed(r)))(memo(tmp_path).cache()(variant(1))(x=1, y=10))


def test_version_replaces_the_code(tmp_path: Path) -> None:
    """Under one ``version=`` other code finds the results; another version does not."""
    assert [10] == memo(tmp_path).cache(version="1")(variant(1))(x=1, y=10)[0]
    assert [10] == memo(tmp_path).cache(version="1")(variant(0))(x=1, y=10)[0]
    assert [-10] == memo(tmp_path).cache(version="2")(variant(0))(x=1, y=10)[0]


def test_functions_of_other_names_never_share(tmp_path: Path) -> None:
    """Equal code and params under two names are two caches; ``name=`` gives another name."""

    def other(x: list[int], y: list[int], scale: int = 1, offset: int = 0) -> list[int]:
        """Return one output per point."""
        return [scale * i * j + offset for i in x for j in y]

    assert [6, 6, 6] == [
        executed(memo(tmp_path).cache()(scaled)()),
        executed(memo(tmp_path).cache()(other)()),
        executed(memo(tmp_path).cache(name="third")(other)()),
    ]
    assert 3 == len(ChunkCache.discover_caches(tmp_path))


def test_a_version_needs_no_look_at_the_code(tmp_path: Path) -> None:
    """With ``version=`` what a function reaches has no say, so there is no warning about it."""
    lock = threading.Lock()

    def sweep(x: list[int], y: list[int]) -> list[int]:
        with lock:
            return scaled(x, y)

    assert 6 == executed(memo(tmp_path).cache(version="1")(sweep)())


def test_wrappers_are_seen_through(tmp_path: Path) -> None:
    """``functools.wraps`` keeps name and signature; the wrapper itself runs, and its code counts, too."""
    calls = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return function(*args, **kwargs)

        return wrapper

    assert 6 == executed(memo(tmp_path).cache()(noted(scaled))())
    assert [1, 1, 1] == calls
    assert 0 == executed(memo(tmp_path).cache()(noted(scaled))())
    assert 6 == executed(memo(tmp_path).cache()(scaled)())


# --- the wrapper -------------------------------------------------------------------------------------------


def test_the_wrapper_shows_its_parts(tmp_path: Path) -> None:
    """It has the function's name, doc and signature, and carries status, plan, cache and the function."""
    sweep = memo(tmp_path).cache()(scaled)
    assert (scaled, "scaled", scaled.__doc__) == (
        sweep.__wrapped__,
        *(getattr(sweep, f"__{n}__") for n in ("name", "doc")),
    )
    assert inspect.signature(scaled) == inspect.signature(sweep)
    sweep(x=[1, 2], scale=4)
    status = sweep.cache_status(scale=4)
    assert isinstance(status, CacheStatus)
    assert (3, 2, 1) == (status["total_chunks"], len(status["cached_chunks"]), len(status["missing_chunks"]))
    assert {"scale": 4, "offset": 0} == status["params"]
    plan = sweep.plan(x=[2, 3], scale=4)
    assert isinstance(plan, Plan)
    assert (4, 2, 2) == (plan.total_points, plan.cached_points, plan.executed_points)
    assert "2 points in 1 chunks: not computed yet" in str(plan)
    assert status["cache_id"] == sweep.cache_for(scale=4).cache_id
    assert AXES == sweep.cache_for(x=1, scale=4).axis_values


def test_parts_take_indices(tmp_path: Path) -> None:
    """Status and plan take a call's arguments, ``axis_indices`` too."""
    sweep = memo(tmp_path).cache()(scaled)
    assert {"x": [3], "y": [10, 20]} == sweep.cache_status(axis_indices={"x": -1})["axis_values"]
    assert 1 == sweep.plan(axis_indices={"x": 0, "y": 0}).total_points


def test_asking_changes_nothing(tmp_path: Path) -> None:
    """Status and plan of a call that was never made write nothing."""
    sweep = memo(tmp_path / "root").cache()(scaled)
    assert (6, 3) == (sweep.plan().executed_points, len(sweep.cache_status()["missing_chunks"]))
    assert not (tmp_path / "root").exists()


def test_a_decorator_without_parentheses(tmp_path: Path) -> None:
    """``@memo.cache`` is ``@memo.cache()``."""
    bare: Any = memo(tmp_path).cache
    assert (scaled([1, 2, 3], [10, 20]), 6) == (lambda r: (r[0], executed(r)))(bare(scaled)())
    assert 0 == executed(memo(tmp_path).cache()(scaled)())


def test_a_function_may_use_the_names_of_call_options(tmp_path: Path) -> None:
    """An argument called ``axis_indices`` is the function's own."""

    def sweep(x: list[int], y: list[int], axis_indices: int) -> list[int]:
        return [axis_indices] * len(x) * len(y)

    assert [9] * 6 == memo(tmp_path).cache()(sweep)(axis_indices=9)[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"outputs": "tree"}, r"outputs must be one of \['list', .*got 'tree'"),
        ({"outputs": "grid", "vectorize": True}, r"outputs='grid'.*vectorize=True.*leave one"),
        ({"version": 2}, r"version must be a non-empty string, got 2; write version='2'"),
        ({"name": ""}, r"name must be a non-empty string, got ''"),
        ({"axis_order": ["x"]}, r"axis_order must name each of \['x', 'y'\] once, got \['x'\]"),
    ],
)
def test_a_decorator_refuses_what_cannot_be(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """What is wrong with the decorator's arguments is said when decorating."""
    with pytest.raises(SpecError, match=said):
        memo(tmp_path).cache(**given)(scaled)
    with pytest.raises(SpecError, match=said):
        memo(tmp_path).stream_cache(**given)(scaled)


# --- axis order, vectorize, collate ------------------------------------------------------------------------


def swapped(y: list[int], x: list[int]) -> list[tuple[int, int]]:
    """Return the points, y outermost."""
    return [(j, i) for j in y for i in x]


def test_the_axis_order_is_the_signature_s(tmp_path: Path) -> None:
    """Outputs run over the axes as the signature has them; direct caches go by name."""
    assert swapped([10, 20], [1, 2, 3]) == memo(tmp_path).cache()(swapped)()[0]
    assert ("x", "y") == memo(tmp_path).cache_for_params({}).axis_order
    assert ("y", "x") == memo(tmp_path).cache()(swapped).cache_for().axis_order


def test_axis_order_may_be_given(tmp_path: Path) -> None:
    """By the memo for all, by the decorator for one; stored results serve every order."""
    by_x = [(j, i) for i in (1, 2, 3) for j in (10, 20)]
    one = memo(tmp_path).cache(axis_order=["x", "y"])(lambda y, x: [(j, i) for i in x for j in y])
    assert by_x == one()[0]
    both = memo(tmp_path, axis_order=["x", "y"])
    assert ("x", "y") == both.cache()(swapped).cache_for().axis_order
    assert ("y", "x") == both.cache(axis_order=("y", "x"))(swapped).cache_for().axis_order
    assert ("x", "y") == both.cache_for_params({}).axis_order


def test_vectorize_is_no_part_of_the_identity(tmp_path: Path) -> None:
    """A function of single values finds what the same version of it stored block by block."""
    block = memo(tmp_path).cache(version="1", name="f")(lambda x, y: [i * j for i in x for j in y])
    point = memo(tmp_path).cache(version="1", name="f", vectorize=True)(lambda x, y: x * y)
    block(x=[1, 2])
    output, diagnostics = point()
    assert (2, [10, 20, 20, 40, 30, 60]) == (diagnostics.executed_points, np.ravel(output).tolist())
    assert 0 == executed(block())


def test_collate_fn_of_memo_and_decorator(tmp_path: Path) -> None:
    """The decorator's goes before the memo's, and two of one function do not mix."""
    given: Any = memo(tmp_path, collate_fn=len)  # a memo's own is not seen by type checkers
    assert 3 == given.cache()(scaled)()[0]
    assert 6 == given.cache(collate_fn=lambda entries: sum(map(len, entries)))(scaled)()[0]
    assert 3 == given.cache()(scaled)()[0]
    plain = memo(tmp_path)
    assert [[10, 20], [20, 40], [30, 60]] == plain.cache(collate_fn=list)(scaled)()[0]
    assert [10, 20, 20, 40, 30, 60] == plain.cache()(scaled)()[0]


# --- streams -----------------------------------------------------------------------------------------------


def test_a_stream_stores_and_returns_diagnostics(tmp_path: Path) -> None:
    """``stream_cache`` fills the same cache that ``cache`` reads, and returns no outputs."""
    stream = memo(tmp_path).stream_cache()(scaled)
    diagnostics = stream(x=[1, 2])
    assert isinstance(diagnostics, Diagnostics)
    assert (4, 2, 2) == (diagnostics.executed_points, diagnostics.stream_flushes, diagnostics.executed_chunks)
    assert (0, 4, 0) == (lambda d: (d.executed_points, d.cached_points, d.stream_flushes))(stream(x=[2, 1]))
    output, again = memo(tmp_path).cache()(scaled)()
    assert (scaled([1, 2, 3], [10, 20]), 2) == (output, again.executed_points)
    assert 2 == len(stream.cache_status(x=[1, 2])["cached_chunks"])


class Counted:
    """An array-like that counts how many of it are alive."""

    alive = 0

    def __init__(self, shape: tuple[int, ...]) -> None:
        Counted.alive += 1
        self.shape = shape

    def __del__(self) -> None:
        Counted.alive -= 1

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.zeros(self.shape)


def test_a_stream_keeps_at_most_one_chunk(tmp_path: Path) -> None:
    """When a chunk is computed, the outputs of those before are gone."""
    alive: list[int] = []

    def block(x: list[int], y: list[int]) -> Counted:
        output = Counted((len(x), len(y), 1000))
        alive.append(Counted.alive)
        return output

    diagnostics = memo(tmp_path).stream_cache(version="1")(block)()
    assert [1, 1, 1] == alive
    assert (2, 3) == (diagnostics.max_stream_items, diagnostics.stream_flushes)


# --- the memo ----------------------------------------------------------------------------------------------


def test_the_root_is_chunk_memo_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a root, caches lie in ``.chunk_memo``; nothing but caches lies directly in it."""
    monkeypatch.chdir(tmp_path)
    sweep = ChunkMemo(axis_values=AXES, verbose=0).cache()(scaled)
    sweep()
    [folder] = (tmp_path / ".chunk_memo").iterdir()
    assert sweep.cache_for().cache_id == folder.name


def test_a_memo_says_what_it_is(tmp_path: Path) -> None:
    """Values, sizes and version can be read."""
    given = memo(tmp_path, chunk_spec={"x": {"size": 2}}, version="v7")
    assert (AXES, {"x": 2, "y": 2}, "v7") == (given.axis_values, given.chunk_spec, given.version)
    assert f"ChunkMemo('{tmp_path}', x: 3, y: 2)" == repr(given)
    assert "no axes" in repr(ChunkMemo(tmp_path, {}, {}))


def test_versions_are_namespaces(tmp_path: Path) -> None:
    """A memo of another ``version`` computes anew; both versions' results are kept side by side."""
    for version in ("v1", "v2"):
        assert 6 == executed(memo(tmp_path, version=version).cache()(scaled)())
    assert [0, 0] == [executed(memo(tmp_path, version=v).cache()(scaled)()) for v in ("v1", "v2")]
    assert 1 == len(ChunkCache.discover_caches(tmp_path))


def test_chunk_sizes_may_change_later(tmp_path: Path) -> None:
    """Stored chunks keep serving under other sizes; the new ones hold for new values."""
    memo(tmp_path).cache()(scaled)()
    wider = memo(tmp_path, chunk_spec={"x": 3, "y": 1}, axis_values=AXES | {"x": [1, 2, 3, 4, 5, 6]})
    output, diagnostics = wider.cache()(scaled)()
    assert (6, 6) == (diagnostics.cached_points, diagnostics.executed_points)
    assert scaled([1, 2, 3, 4, 5, 6], [10, 20]) == output


def test_exclusive_and_warn_on_overlap(tmp_path: Path) -> None:
    """A memo with another grid refuses, or warns, for a function whose cache is there; else it says nothing."""
    memo(tmp_path).cache()(scaled)()
    other = {"axis_values": AXES | {"x": [1]}}
    with pytest.raises(OverlapError, match=r"different axis_values \(axis 'x'"):
        memo(tmp_path, exclusive=True, **other).cache()(scaled)()
    with pytest.warns(OverlapWarning, match=r"different chunk_spec \(axis 'x': 1 stored, 3 asked for"):
        memo(tmp_path, warn_on_overlap=True, chunk_spec={}).cache()(scaled)()
    assert 0 == executed(memo(tmp_path, exclusive=True, warn_on_overlap=True).cache()(scaled)())
    assert 6 == executed(memo(tmp_path, exclusive=True).cache()(scaled)(scale=2))


def test_profile_logs_where_the_seconds_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``profile=True`` logs one line per run at level INFO; by default nothing is logged."""
    with caplog.at_level(logging.INFO, "chunk_memo"):
        memo(tmp_path).cache()(scaled)()
        assert [] == caplog.messages
        memo(tmp_path, profile=True).cache()(scaled)(scale=2)
    [line] = caplog.messages
    assert [] == [part for part in ("scaled: plan", "execute", "write", "6 of 6 points") if part not in line]


@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_shows_a_progress_bar(
    tmp_path: Path, verbose: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``verbose=1`` has a bar watch each run, ``verbose=0`` none; short work prints nothing either way."""
    seen: list[str] = []

    class Bar(progress.ProgressBar):
        def __call__(self, event: Any, /) -> None:
            seen.append(type(event).__name__)
            super().__call__(event)

    monkeypatch.setattr(progress, "ProgressBar", Bar)
    memo(tmp_path, verbose=verbose).cache()(scaled)()
    assert (["RunStarted", *["ChunkDone"] * 3, "RunFinished"] if verbose else []) == seen
    assert ("", "") == capsys.readouterr()


def test_many_threads_may_share_a_memo(tmp_path: Path) -> None:
    """Calls from several threads return what each asked for."""
    sweep = memo(tmp_path).cache()(scaled)
    got: dict[int, Any] = {}

    def work(scale: int) -> None:
        got[scale] = [sweep(x=[3, 1], scale=scale % 3)[0] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(scale,)) for scale in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: [scaled([3, 1], [10, 20], n % 3)] * 5 for n in range(6)} == got


def test_a_memo_keeps_no_more_than_some_caches_open(tmp_path: Path) -> None:
    """Hundreds of params work, and the first are still stored."""
    sweep = memo(tmp_path).cache()(scaled)
    for scale in range(300):
        sweep(x=1, y=10, scale=scale)
    assert 0 == sum(executed(sweep(x=1, y=10, scale=scale)) for scale in (0, 150, 299))


def test_cache_for_params_is_the_documents(tmp_path: Path) -> None:
    """Its id is that of the params; it is shared by all memos of the root and by direct caches."""
    params = {"alpha": 1}
    cache = memo(tmp_path, metadata={"note": "mine"}).cache_for_params(params)
    assert (params_to_cache_id(params), params, "mine") == (cache.cache_id, cache.params, cache.metadata["note"])
    run(cache, scaled)
    direct = ChunkCache(tmp_path, params_to_cache_id(params), axis_values=AXES, verbose=0)
    assert (scaled([1, 2, 3], [10, 20]), 0) == (lambda r: (r[0], executed(r)))(run(direct, scaled))
    with pytest.raises(TypeError, match=r"'params\['alpha'\]' has no sound identity"):
        memo(tmp_path).cache_for_params({"alpha": object()})


# --- signatures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda sweep: sweep(gamma=1),
            r"'scaled' cannot be called like that.*'gamma'.*\['x', 'y', 'scale', 'offset'\]",
        ),
        (lambda sweep: sweep(1, 2, 3, 4, 5), r"'scaled' cannot be called like that: too many positional"),
        (lambda sweep: sweep([1], x=[1]), r"'scaled' cannot be called like that: multiple values.*'x'"),
        (lambda sweep: sweep.plan(gamma=1), r"'scaled' cannot be called like that.*'gamma'"),
    ],
)
def test_a_call_that_does_not_fit_names_the_function(
    tmp_path: Path, call: Callable[[Any], Any], said: str
) -> None:
    """A TypeError that names function, argument and what there is."""
    with pytest.raises(TypeError, match=said) as caught:
        call(memo(tmp_path).cache()(scaled))
    assert isinstance(caught.value, SignatureError)


def test_a_missing_param_is_named(tmp_path: Path) -> None:
    """An argument that is neither axis nor default has to be given."""
    with pytest.raises(TypeError, match=r"'with_params' needs the argument 'params'.*pass params="):
        memo(tmp_path).cache()(with_params)()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, *y: [], r"axis 'y' of .* cannot be '\*y'"),
        (lambda x, **y: [], r"axis 'y' of .* cannot be '\*\*y'"),
        (lambda x: [], r"has no argument for the axis 'y'; its arguments are \['x'\]"),
        (functools.partial(scaled, [1]), r"no argument for the axis 'x'"),
        (3, r"only functions can be decorated, got 3"),
        (max, r"'max' does not say which arguments it takes"),
    ],
)
def test_a_function_that_cannot_be_swept_is_refused(tmp_path: Path, function: Any, said: str) -> None:
    """The error comes when decorating, and names function and argument."""
    with pytest.raises(SignatureError, match=said):
        memo(tmp_path).cache()(function)


# --- auto_load ---------------------------------------------------------------------------------------------


def load(root: Path, params: dict[str, Any] | None = None, **options: Any) -> ChunkCache:
    """Return the cache that ``auto_load`` finds or makes."""
    params = {"alpha": 1} if params is None else params
    return auto_load(root, params, verbose=0, **options).cache_for_params(params)


def test_auto_load_makes_a_cache_and_finds_it_again(tmp_path: Path) -> None:
    """With axis values the cache is made or found; without, it is loaded as it is."""
    assert 6 == executed(run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled))
    assert 0 == executed(run(load(tmp_path, axis_values=AXES), scaled))
    loaded = load(tmp_path)
    assert (AXES, {"x": 1, "y": 2}) == (loaded.axis_values, loaded.chunk_spec)
    assert 0 == executed(run(loaded, scaled))


def test_auto_load_without_values_needs_a_cache(tmp_path: Path) -> None:
    """Params without a cache are a FileNotFoundError that says how to make one."""
    with pytest.raises(FileNotFoundError, match=r"there is no cache .*pass axis_values to make one"):
        load(tmp_path)


def test_auto_load_with_other_values_shares_what_is_stored(tmp_path: Path) -> None:
    """Fewer, more or reordered values are a view of their own; only new points run."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    for x, new in (([2], 0), ([3, 1], 0), ([1, 9], 2), ([9, 2, 1, 3], 0)):
        cache = load(tmp_path, axis_values=AXES | {"x": x})
        output, diagnostics = run(cache, scaled)
        assert (scaled(x, [10, 20]), new) == (output, diagnostics.executed_points)
        assert x == cache.axis_values["x"]


def test_auto_load_with_other_sizes(tmp_path: Path) -> None:
    """Another ``chunk_spec`` for the same data is honoured for what is new, and reuses what is there."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    cache = load(tmp_path, axis_values=AXES | {"x": [1, 2, 3, 4, 5]}, chunk_spec={"x": 2, "y": 1})
    _, diagnostics = run(cache, scaled)
    assert (6, 4) == (diagnostics.cached_points, diagnostics.executed_points)
    assert (4, 1) == (diagnostics.total_chunks, diagnostics.executed_chunks)


def test_auto_load_serves_a_subset_any_number_of_times(tmp_path: Path) -> None:
    """``allow_superset=True`` fills in the axes that are left out, and never shrinks what is stored."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    for values in [{"x": [3]}, {"y": [20]}, {"x": [2, 1], "y": [10]}] * 3:
        cache = load(tmp_path, axis_values=values, allow_superset=True, exclusive=True)
        output, diagnostics = run(cache, scaled)
        whole = AXES | values
        assert (scaled(whole["x"], whole["y"]), 0) == (output, diagnostics.executed_points)
    assert AXES == load(tmp_path).axis_values
    assert (3, 0) == (lambda d: (d.cached_chunks, d.executed_chunks))(run(load(tmp_path), scaled)[1])


def test_auto_load_of_what_is_no_subset(tmp_path: Path) -> None:
    """Where the cache on disk does not cover the request, the request is a view of its own."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    cache = load(tmp_path, axis_values={"x": [3, 4], "y": [10]}, allow_superset=True)
    assert ({"x": [3, 4], "y": [10]}, 1) == (cache.axis_values, executed(run(cache, scaled)))


def test_auto_load_extends(tmp_path: Path) -> None:
    """``extend_cache=True`` appends new values to those on disk; the next load knows them."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    cache = load(tmp_path, axis_values={"x": [7, 2]}, extend_cache=True)
    assert {"x": [1, 2, 3, 7], "y": [10, 20]} == cache.axis_values
    assert 2 == executed(run(cache, scaled))
    assert {"x": [1, 2, 3, 7], "y": [10, 20]} == load(tmp_path).axis_values


def test_auto_load_exclusively(tmp_path: Path) -> None:
    """``exclusive=True`` refuses other values and sizes, ``warn_on_overlap=True`` warns, equal ones are fine."""
    run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}), scaled)
    for other in ({"axis_values": AXES | {"x": [1]}}, {"axis_values": AXES, "chunk_spec": {"x": 3}}):
        with pytest.raises(OverlapError, match="cache_id already exists with different"):
            load(tmp_path, exclusive=True, **other)
        with pytest.warns(OverlapWarning, match="cache_id already exists with different"):
            load(tmp_path, warn_on_overlap=True, **other)
    assert 0 == executed(run(load(tmp_path, axis_values=AXES, chunk_spec={"x": 1}, exclusive=True), scaled))


def test_auto_load_takes_iterators(tmp_path: Path) -> None:
    """Values that can be walked only once are walked once, sorted, in chunks of one."""
    for executed_points in (3, 0):
        values: dict[str, Any] = {"x": iter([3, 1, 2]), "y": [10]}
        cache = load(tmp_path, axis_values=values)
        assert ([1, 2, 3], 1) == (cache.axis_values["x"], cache.chunk_spec["x"])
        assert executed_points == executed(run(cache, scaled))


def test_auto_load_does_not_need_the_metadata(tmp_path: Path) -> None:
    """With a damaged ``metadata.json`` nothing stored is lost, as long as the axis values are given."""
    cache = load(tmp_path, axis_values=AXES, chunk_spec={"x": 1})
    run(cache, scaled)
    (cache.path / "metadata.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"metadata\.json"):
        load(tmp_path)
    again = load(tmp_path, axis_values=AXES, chunk_spec={"x": 1})
    with pytest.warns(UserWarning, match="is damaged"):
        assert 0 == executed(run(again, scaled))


def test_auto_load_keeps_the_axis_order_on_disk(tmp_path: Path) -> None:
    """The order that a cache was made with is its own until another is given."""
    run(load(tmp_path, axis_values=AXES, axis_order=["y", "x"]), swapped)
    assert ("y", "x") == load(tmp_path).axis_order == load(tmp_path, axis_values=AXES).axis_order
    assert ("x", "y") == load(tmp_path, axis_values=AXES, axis_order=["x", "y"]).axis_order


def test_an_array_without_dimensions_is_one_value(tmp_path: Path) -> None:
    """A 0-d array asks for the value that it holds."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1, 2]}, verbose=0)
    double = memo.cache()(lambda x: [2 * value for value in x])
    assert [4] == double(x=np.array(2))[0]
