"""What a sweep function may return, and what its caller gets: every kind, cold and warm alike."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import columns, same

from chunk_memo import ChunkCache, ChunkMemo, OutputError, run

XS: list[Any] = [1, 2, 3, 5]
YS: list[Any] = ["u", "v", "w"]


def cache(root: Path | str, **options: Any) -> ChunkCache:
    """Return a cache over `XS` and `YS` in chunks of two by two; every call opens it anew."""
    given: dict[str, Any] = {"axis_values": {"x": XS, "y": YS}, "chunk_spec": {"x": 2, "y": 2}, "verbose": 0}
    return ChunkCache(root, "some", durability="fast", **given | options)


def refuse(**arguments: Any) -> Any:
    """Stand where a function must not be called."""
    raise AssertionError(f"called with {arguments}")


def number(x: int, y: str) -> float:
    """Return a number that tells every point from every other."""
    return x + ord(y) / 1000


def alike(one: Any, two: Any) -> bool:
    """Tell whether two results are the same, types, dtypes and shapes included."""
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, check_freq=False)
        return True
    if isinstance(one, pl.DataFrame):
        return bool(one.schema == two.schema and one.equals(two))
    return bool(same(one, two))


# --- the table of kinds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    returned: Callable[[list[Any], list[Any]], Any]
    """What the function returns for a block."""
    expected: Callable[[list[Any], list[Any]], Any]
    """What the caller gets for a request."""
    name: str
    """The kind, as ``outputs=`` names it."""
    options: tuple[tuple[str, Any], ...] = ()
    """What the cache needs to be told."""


def each(x: list[Any], y: list[Any], make: Callable[[Any, Any], Any] = number) -> list[Any]:
    """Return one output per point."""
    return [make(i, j) for i in x for j in y]


def record(x: int, y: str) -> dict[str, Any]:
    """Return an output that carries its coordinates."""
    return {"x": x, "y": y, "number": number(x, y), "text": y * x, "more": {"deep": [x, None]}}


def grid(x: list[Any], y: list[Any]) -> np.ndarray:
    """Return an array of the block's shape."""
    return np.array(each(x, y)).reshape(len(x), len(y))


def vectors(x: list[Any], y: list[Any]) -> np.ndarray:
    """Return an array of the block's shape with three numbers per point."""
    return np.stack([grid(x, y), -grid(x, y), grid(x, y) ** 2], axis=-1)


def mapping(x: list[Any], y: list[Any]) -> dict[str, np.ndarray]:
    """Return an array per name."""
    return {"number": grid(x, y), "sign": grid(x, y).astype(int), "vector": vectors(x, y), "": grid(x, y) > 2}


def pandas_frame(x: list[Any], y: list[Any]) -> pd.DataFrame:
    """Return a row per point, in columns of many dtypes."""
    text = [j for _ in x for j in y]
    whole = [i for i in x for _ in y]
    return pd.DataFrame(
        {
            "x": whole,
            "y": text,
            "number": each(x, y),
            "object": pd.Series([i if j == "u" else {"deep": j} for i in x for j in y], dtype=object),
            "gaps": pd.array([i if i > 1 else None for i in whole], dtype="Int64"),
            "kind": pd.Categorical(text, categories=["w", "v", "u", "t"], ordered=True),
            "when": pd.to_datetime(whole, unit="D"),
            "zoned": pd.to_datetime(whole, unit="D").tz_localize("Europe/Berlin"),
            "ragged": ["long" * 500 if i == 5 else j for i in x for j in y],
        }
    )


def polars_frame(x: list[Any], y: list[Any]) -> pl.DataFrame:
    """Return a row per point, in columns of many dtypes."""
    whole = [i for i in x for _ in y]
    return pl.DataFrame(
        {
            "x": whole,
            "y": [j for _ in x for j in y],
            "small": pl.Series(whole, dtype=pl.UInt8),
            "gaps": [i if i > 1 else None for i in whole],
            "kind": pl.Series([j for _ in x for j in y], dtype=pl.Enum(["u", "v", "w"])),
            "when": pl.Series(whole).cast(pl.Datetime("ns", "UTC")),
            "list": [[i] * i for i in whole],
        }
    )


def objects(x: list[Any], y: list[Any]) -> np.ndarray:
    """Return an array of objects, two per point."""
    array = np.empty((len(x), len(y), 2), object)
    for a, i in enumerate(x):
        for b, j in enumerate(y):
            array[a, b] = [{"x": i}, j if i > 1 else None]
    return array


def flattened(array: np.ndarray) -> np.ndarray:
    """Return an array of one row per point."""
    return array.reshape(math.prod(array.shape[:2]), *array.shape[2:])


KINDS = {
    "list of numbers": Kind(each, each, "list"),
    "list of records": Kind(lambda x, y: each(x, y, record), lambda x, y: each(x, y, record), "list"),
    "list of None": Kind(lambda x, y: [None] * len(x) * len(y), lambda x, y: [None] * len(x) * len(y), "list"),
    "list of empty texts": Kind(lambda x, y: [""] * len(x) * len(y), lambda x, y: [""] * len(x) * len(y), "list"),
    "list of big ints": Kind(
        lambda x, y: each(x, y, lambda i, j: 10 ** (10 * i) * (-1) ** i),
        lambda x, y: each(x, y, lambda i, j: 10 ** (10 * i) * (-1) ** i),
        "list",
    ),
    "list of mixed types": Kind(
        lambda x, y: each(x, y, lambda i, j: [i, None, j, {"x": i}, (i,), [j], True, 1.0][(i + ord(j)) % 8]),
        lambda x, y: each(x, y, lambda i, j: [i, None, j, {"x": i}, (i,), [j], True, 1.0][(i + ord(j)) % 8]),
        "list",
    ),
    "list of arrays": Kind(
        lambda x, y: each(x, y, lambda i, j: np.arange(i)),
        lambda x, y: each(x, y, lambda i, j: np.arange(i)),
        "list",
    ),
    "list of 0-d arrays": Kind(
        lambda x, y: each(x, y, lambda i, j: np.array(i)),
        lambda x, y: each(x, y, lambda i, j: np.array(i)),
        "list",
    ),
    "grid": Kind(grid, grid, "grid"),
    "grid of vectors": Kind(vectors, vectors, "grid"),
    "grid of texts": Kind(lambda x, y: grid(x, y).astype("U8"), lambda x, y: grid(x, y).astype("U8"), "grid"),
    "grid of objects": Kind(objects, objects, "grid"),
    "flat": Kind(lambda x, y: flattened(vectors(x, y)), vectors, "flat"),
    "columns": Kind(mapping, mapping, "columns"),
    "flat columns": Kind(lambda x, y: {k: flattened(v) for k, v in mapping(x, y).items()}, mapping, "columns"),
    "columns with coordinates": Kind(
        lambda x, y: {"x": np.repeat(x, len(y)), "y": np.array(y * len(x)), "v": grid(x, y).reshape(-1)},
        lambda x, y: {
            "x": np.repeat(x, len(y)).reshape(len(x), -1),
            "y": np.array(y * len(x)).reshape(len(x), -1),
            "v": grid(x, y),
        },
        "columns",
    ),
    "pandas frame": Kind(pandas_frame, pandas_frame, "frame"),
    "polars frame": Kind(polars_frame, polars_frame, "frame"),
}

REQUESTS: dict[str, dict[str, Any]] = {
    "all": {},
    "a subset": {"x": [1, 3], "y": ["w"]},
    "another order": {"x": [5, 1, 3, 2], "y": ["w", "u", "v"]},
    "repetitions": {"x": [3, 3, 1, 3], "y": ["v", "v"]},
    "one value": {"x": 2},
    "one point": {"x": 5, "y": "v"},
}


def values_of(request: dict[str, Any], name: str, default: list[Any]) -> list[Any]:
    """Return what a request asks for along an axis, as a list."""
    value = request.get(name, default)
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("told", [False, True], ids=["recognised", "told"])
@pytest.mark.parametrize("name", KINDS)
def test_what_the_function_returns_is_what_the_caller_gets(tmp_path: Path, name: str, told: bool) -> None:
    """Whatever part was stored before, a request's result is the direct evaluation, cold and warm."""
    kind = KINDS[name]
    options = {"outputs": kind.name} if told else {}
    for number_, request in enumerate(REQUESTS.values()):
        root = tmp_path / str(number_)
        expected = kind.expected(values_of(request, "x", XS), values_of(request, "y", YS))
        run(cache(root, **options).slice(x=[3, 1], y=["v"]), kind.returned)
        cold, done = run(cache(root, **options).slice(**request), kind.returned)
        warm, again = run(cache(root, **options).slice(**request), refuse)
        assert done.total_points == done.cached_points + done.executed_points
        assert (again.executed_points, again.cached_points) == (0, done.total_points)
        assert alike(expected, cold)
        assert alike(cold, warm)


@pytest.mark.parametrize("name", KINDS)
def test_the_axis_order_is_that_of_the_outputs(tmp_path: Path, name: str) -> None:
    """With ``axis_order`` reversed the function sees its axes reversed, and stored results are transposed."""
    kind = KINDS[name]
    run(cache(tmp_path), kind.returned)
    got, _ = run(cache(tmp_path, axis_order=["y", "x"]), refuse)
    if kind.name in ("grid", "flat"):
        expected = kind.expected(XS, YS).swapaxes(0, 1)
    elif kind.name == "columns":
        expected = {k: v.swapaxes(0, 1) for k, v in kind.expected(XS, YS).items()}
    else:
        rows = [a * len(YS) + b for b in range(len(YS)) for a in range(len(XS))]
        straight = kind.expected(XS, YS)
        if isinstance(straight, pd.DataFrame):
            expected = straight.iloc[rows].reset_index(drop=True)
        else:
            expected = straight[rows] if isinstance(straight, pl.DataFrame) else [straight[i] for i in rows]
    assert alike(expected, got)


def test_points_give_a_list_or_a_grid(tmp_path: Path) -> None:
    """With ``vectorize`` numbers and equal-shaped arrays become a grid, anything else a list."""
    makes: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
        "numbers": (number, grid(XS, YS)),
        "vectors": (lambda x, y: np.array([number(x, y)] * 2), np.stack([grid(XS, YS)] * 2, axis=-1)),
        "0-d arrays": (lambda x, y: np.array(number(x, y)), grid(XS, YS)),
        "wider dtypes": (
            lambda x, y: np.array([x], np.int8 if x < 5 else np.float32),
            np.array(XS, np.float32).repeat(3).reshape(4, 3, 1),
        ),
        "texts": (lambda x, y: y, each(XS, YS, lambda x, y: y)),
        "ragged": (lambda x, y: np.zeros(x), each(XS, YS, lambda x, y: np.zeros(x))),
        "some None": (lambda x, y: x if x > 1 else None, each(XS, YS, lambda x, y: x if x > 1 else None)),
        "number and text": (lambda x, y: x if x > 1 else y, each(XS, YS, lambda x, y: x if x > 1 else y)),
        "big ints": (lambda x, y: 2**80 * x, each(XS, YS, lambda x, y: 2**80 * x)),
        "digits at stake": (
            lambda x, y: 2**53 + 1 if x == 1 else 0.5,
            each(XS, YS, lambda x, y: 2**53 + 1 if x == 1 else 0.5),
        ),
        "two words": (lambda x, y: 2**63 if x == 1 else -1, each(XS, YS, lambda x, y: 2**63 if x == 1 else -1)),
        "arrays of two kinds": (
            lambda x, y: np.array(["a"] if x == 1 else [1]),
            each(XS, YS, lambda x, y: np.array(["a"] if x == 1 else [1])),
        ),
    }
    for name, (make, expected) in makes.items():
        cold, _ = run(cache(tmp_path / name, vectorize=True), lambda x, y, make=make: make(x, y))
        warm, _ = run(cache(tmp_path / name, vectorize=True), refuse)
        assert [name, True, True] == [name, alike(expected, cold), alike(cold, warm)]


def test_points_that_carry_coordinates_are_checked(tmp_path: Path) -> None:
    """A point function's record that names another point is an error."""
    with pytest.raises(OutputError, match=r"belongs to \{'x': 0, 'y': 'u'\}.*\{'x': 1, 'y': 'u'\} is expected"):
        run(cache(tmp_path, vectorize=True), lambda x, y: {"x": 0, "y": y})


def test_opaque_output_serves_exactly_its_block(tmp_path: Path) -> None:
    """Anything else is kept per block, one entry each; a request that cuts a block executes."""
    calls: list[tuple[list[Any], list[Any]]] = []

    def summary(x: list[Any], y: list[Any]) -> dict[str, Any]:
        calls.append((x, y))
        return {"sum": sum(x), "names": "".join(y)}

    whole, _ = run(cache(tmp_path), summary)
    assert [{"sum": 3, "names": "uv"}, {"sum": 3, "names": "w"}] == whole[:2]
    assert 4 == len(whole) == len(calls)
    assert (whole, 0) == (lambda r: (r[0], r[1].executed_points))(run(cache(tmp_path), refuse))
    assert [{"sum": 3, "names": "w"}] == run(cache(tmp_path).slice(x=[1, 2], y="w"), refuse)[0]
    part = cache(tmp_path).slice(x=1)
    assert [{"sum": 1, "names": "uv"}, {"sum": 1, "names": "w"}] == run(part, summary)[0]
    assert [{"sum": 1, "names": "uv"}, {"sum": 1, "names": "w"}] == run(part, refuse)[0]
    assert whole == run(cache(tmp_path), refuse)[0]


@pytest.mark.parametrize(
    "output", [[1, 2], {"a": np.arange(3)}, np.arange(5), "text", None, (1,), pd.Series([1])]
)
def test_any_output_can_be_opaque_if_told(tmp_path: Path, output: Any) -> None:
    """With ``outputs="opaque"`` what a call returns is kept as one piece, whatever it is."""
    cold, _ = run(cache(tmp_path, outputs="opaque"), lambda x, y: output)
    warm, _ = run(cache(tmp_path, outputs="opaque"), refuse)
    assert [str(output)] * 4 == [str(entry) for entry in cold]
    assert [str(output)] * 4 == [str(entry) for entry in warm]


# --- no axes -----------------------------------------------------------------------------------------------

WHOLE = {
    "dict": {"a": 1},
    "list": [1, 2],
    "empty list": [],
    "array": np.zeros((2, 2)),
    "0-d": np.array(1.5),
    "objects": np.array([1, None], object),
    "None": None,
    "empty text": "",
    "tuple": (1, [2]),
    "big int": 2**80,
}


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_without_axes_the_output_is_a_list_of_that_one(tmp_path: Path, name: str, vectorize: bool) -> None:
    """``axis_values={}`` is one chunk of one point; its result is a list of its output, whatever that is."""
    options: dict[str, Any] = {"axis_values": {}, "chunk_spec": {}, "vectorize": vectorize}
    cold, done = run(cache(tmp_path, **options), lambda: WHOLE[name])
    warm, again = run(cache(tmp_path, **options), refuse)
    assert (1, 0) == (done.executed_points, again.executed_points)
    assert (True, True) == (alike([WHOLE[name]], cold), alike(cold, warm))
    assert alike([[WHOLE[name]]], run(cache(tmp_path, **options), refuse, collate_fn=list)[0])


def test_without_axes_a_decorated_function_is_a_memo(tmp_path: Path) -> None:
    """A function without axes is called once for each set of params."""
    calls = []

    def fit(data: list[int], degree: int = 1) -> dict[str, Any]:
        calls.append(degree)
        return {"degree": degree, "sum": sum(data)}

    fitted = ChunkMemo(tmp_path, {}, {}, verbose=0).cache(version="1")(fit)
    outputs = [fitted([1, 2])[0], fitted([1, 2], degree=1)[0], fitted([1, 2], 2)[0]]
    assert [[{"degree": 1, "sum": 3}], [{"degree": 1, "sum": 3}], [{"degree": 2, "sum": 3}]] == outputs
    assert [1, 2] == calls


# --- dtypes and types across chunks ------------------------------------------------------------------------


def by_first(first: Any, other: Any) -> Callable[..., Any]:
    """Return a function whose first chunk along x returns one thing and the second another."""

    def block(x: list[Any], y: list[Any]) -> Any:
        make = first if x[0] < 3 else other
        return make(np.array(x)[:, None] + np.zeros(len(y), int))

    return block


@pytest.mark.parametrize(
    ("one", "two", "dtype"),
    [
        ("i1", "i8", "i8"),
        ("i1", "u1", "i2"),
        ("i8", "f4", "f8"),
        ("f4", "f8", "f8"),
        ("?", "i8", "i8"),
        ("f8", "c8", "c16"),
        ("U1", "U9", "U9"),
        ("M8[D]", "M8[s]", "M8[s]"),
    ],
)
def test_dtypes_are_promoted_across_chunks(tmp_path: Path, one: str, two: str, dtype: str) -> None:
    """An array that several chunks make has the dtype that holds the values of all, in either order."""
    for pair in ((one, two), (two, one)):
        root = tmp_path / pair[0]
        function = by_first(*(lambda a, to=to: a.astype(to) for to in pair))
        cold, _ = run(cache(root), function)
        warm, _ = run(cache(root), refuse)
        assert np.dtype(dtype) == cold.dtype
        assert alike(cold, warm)


@pytest.mark.parametrize(
    ("one", "two"), [("i8", "U9"), ("M8[s]", "f8"), ("M8[s]", "m8[s]"), ("i8", "m8[s]"), ("S3", "U3")]
)
def test_numbers_never_become_text_or_times(tmp_path: Path, one: str, two: str) -> None:
    """Where no dtype holds the values of both chunks as what they are, both are named and nothing is mixed."""
    function = by_first(lambda a: a.astype(one), lambda a: a.astype(two))
    both = ".*".join(re.escape(str(np.dtype(name))) for name in (one, two))
    with pytest.raises(OutputError, match=f"dtype {both}.*one dtype"):
        run(cache(tmp_path), function)
    half, _ = run(cache(tmp_path).slice(x=[1]), function)
    assert np.dtype(one) == half.dtype


def test_promotion_never_loses_a_digit(tmp_path: Path) -> None:
    """int64 next to uint64 would be float64; where that changes a value it is refused, else it is done."""
    big = by_first(lambda a: a - 10, lambda a: a.astype(np.uint64) + np.uint64(2**63))
    with pytest.raises(OutputError, match="lose digits"):
        run(cache(tmp_path / "big"), big)
    small = by_first(lambda a: a - 10, lambda a: a.astype(np.uint64))
    assert np.float64 == run(cache(tmp_path / "small"), small)[0].dtype


def test_ints_of_any_size_stay_ints_across_chunks(tmp_path: Path) -> None:
    """Small ints in one chunk and ints beyond 64 bits in another come back as they were."""
    sizes = {1: -1, 2: 2**31, 3: 2**63, 5: 2**100}

    def block(x: list[int], y: list[str]) -> list[int]:
        return [sizes[i] for i in x for _ in y]

    expected = block(XS, YS)
    for size in (1, 2, 4):
        options = {"chunk_spec": {"x": size}}
        assert expected == run(cache(tmp_path / str(size), **options), block)[0]
        assert same(expected, run(cache(tmp_path / str(size), **options), refuse)[0])


def test_types_that_differ_between_chunks_are_kept(tmp_path: Path) -> None:
    """Ints in one chunk, floats in another, None in a third: a list keeps each output's own type."""

    def block(x: list[int], y: list[str]) -> list[Any]:
        make: dict[int, Any] = {1: int, 2: float, 3: str, 5: lambda i: None}
        return [make[i](i) for i in x for _ in y]

    for size in (1, 2, 4):
        cold, _ = run(cache(tmp_path / str(size), chunk_spec={"x": size}), block)
        warm, _ = run(cache(tmp_path / str(size), chunk_spec={"x": size}), refuse)
        assert same(block(XS, YS), cold)
        assert same(cold, warm)


@pytest.mark.parametrize("objects_first", [True, False])
def test_an_array_of_numbers_joins_an_array_of_objects(tmp_path: Path, objects_first: bool) -> None:
    """Chunks of numbers and of objects become one array of objects, whichever came first."""
    makes = [lambda a: a.astype(object), lambda a: a]
    function = by_first(*(makes if objects_first else reversed(makes)))
    cold, _ = run(cache(tmp_path), function)
    warm, _ = run(cache(tmp_path), refuse)
    assert object == cold.dtype
    assert np.array(XS)[:, None].repeat(3, axis=1).tolist() == cold.tolist() == warm.tolist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frame_columns_of_two_dtypes_become_one(tmp_path: Path, library: str) -> None:
    """A column that is text in one chunk and a category in another is still one column."""

    def block(x: list[int], y: list[str]) -> Any:
        text = [j for _ in x for j in y]
        if library == "polars":
            return pl.DataFrame({"t": pl.Series(text, dtype=pl.String if 1 in x else pl.Categorical)})
        return pd.DataFrame({"t": pd.Series(text, dtype="str" if 1 in x else "category")})

    got = [run(cache(tmp_path), block)[0], run(cache(tmp_path), refuse)[0]]
    assert [YS * 4] * 2 == [list(frame["t"]) for frame in got]
    assert got[0]["t"].dtype == got[1]["t"].dtype


def test_results_do_not_share_memory(tmp_path: Path) -> None:
    """A function may use one buffer for every block, and a caller may change what he got."""
    buffer = np.zeros((2, 2))

    def block(x: list[int], y: list[str]) -> np.ndarray:
        part = buffer[: len(x), : len(y)]
        part[...] = grid(x, y)
        return part

    cold, _ = run(cache(tmp_path), block)
    warm, _ = run(cache(tmp_path), refuse)
    cold += 1
    warm -= 1
    assert alike(grid(XS, YS), run(cache(tmp_path), refuse)[0])


# --- collate_fn --------------------------------------------------------------------------------------------


def test_collate_fn_gets_an_entry_per_chunk(tmp_path: Path) -> None:
    """Entries come in grid order of the request, each with the asked points in the asked order."""
    for collate in ({"collate_fn": list}, {}):
        narrow = cache(tmp_path, **collate).slice(x=[5, 1, 5], y=["w", "u"])
        entries, done = run(narrow, each, collate_fn=list)
        assert 4 == done.total_chunks == len(entries)
        expected = [each(x, y) for x in ([5, 5], [1]) for y in (["w"], ["u"])]
        assert expected == entries


@pytest.mark.parametrize("name", ["grid", "flat", "columns", "pandas frame"])
def test_collate_fn_gets_each_kind_in_its_own_shape(tmp_path: Path, name: str) -> None:
    """The entry of a chunk is what a request for its points would give."""
    kind = KINDS[name]
    for function in (kind.returned, refuse):
        entries, _ = run(cache(tmp_path), function, collate_fn=lambda entries: entries)
        blocks = [(x, y) for x in ([1, 2], [3, 5]) for y in (["u", "v"], ["w"])]
        assert [True] * 4 == [alike(kind.expected(*b), entry) for b, entry in zip(blocks, entries, strict=True)]


def test_collate_fn_gets_opaque_outputs_as_they_are(tmp_path: Path) -> None:
    """An opaque output is its chunk's entry, not a list of one."""
    for function in (lambda x, y: {"n": len(x) * len(y)}, refuse):
        entries, _ = run(cache(tmp_path), function, collate_fn=list)
        assert [{"n": 4}, {"n": 2}, {"n": 4}, {"n": 2}] == entries


def test_collate_fn_gets_a_chunk_that_was_stored_in_parts_whole(tmp_path: Path) -> None:
    """Where part of a chunk was stored and part computed, its entry is one."""
    run(cache(tmp_path).slice(x=[2], y=["u"]), each)
    entries, done = run(cache(tmp_path), each, collate_fn=list)
    assert (each([1, 2], ["u", "v"]), 1) == (entries[0], done.partial_chunks)


# --- what does not fit -------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[..., Any], str | None, str]] = {
    "a list too short": (
        lambda x, y: [0],
        None,
        r"4 points \(x: 2, y: 2\).*list of 1 outputs.*4 in all.*outputs=",
    ),
    "a list too long": (lambda x, y: [0] * 99, None, r"4 points.*list of 99 outputs.*outputs="),
    "a tuple, told list": (lambda x, y: (0,), "list", r"4 points.*tuple of 1.*outputs="),
    "a number, told list": (lambda x, y: 7, "list", r"4 points.*returned a int outputs.*outputs="),
    "another shape": (
        lambda x, y: np.zeros((3, 3)),
        None,
        r"shape \(3, 3\); expected an array of shape \(2, 2, …\) or \(4, …\).*outputs=",
    ),
    "a 0-d array": (lambda x, y: np.array(1.0), None, r"shape \(\);.*outputs="),
    "flat, told grid": (lambda x, y: np.zeros(len(x) * len(y)), "grid", r"shape \(4,\);.*outputs="),
    "grid, told flat": (lambda x, y: np.zeros((len(x), len(y))), "flat", r"shape \(2, 2\);.*outputs="),
    "a list, told grid": (lambda x, y: [0] * len(x) * len(y), "grid", r"returned a list; expected an array"),
    "a list, told columns": (each, "columns", r"returned a list; outputs='columns' expects a dict of arrays"),
    "a column too short": (lambda x, y: {"v": np.zeros(1)}, None, r"column 'v'.*shape \(1,\).*outputs="),
    "a column that is a list": (lambda x, y: {"v": [1, 2, 3, 4]}, "columns", r"column 'v'.*returned a list"),
    "a list, told frame": (each, "frame", r"returned a list; outputs='frame' expects a pandas or polars"),
    "a frame too short": (
        lambda x, y: pd.DataFrame({"a": [1]}),
        None,
        r"DataFrame of 1 rows.*4 in all.*outputs=",
    ),
    "a masked array": (
        lambda x, y: np.ma.masked_equal(np.zeros((len(x), len(y))), 0),
        None,
        r"'numpy.*MaskedArray'.*no mask.*outputs=",
    ),
    "a frame with labelled rows": (
        lambda x, y: pandas_frame(x, y).set_index(["x", "y"]),
        None,
        r"MultiIndex \['x', 'y'\].*reset_index",
    ),
    "a frame with a column twice": (
        lambda x, y: pd.DataFrame(np.zeros((len(x) * len(y), 2)), columns=["a", "a"]),
        None,
        r"several columns 'a'",
    ),
    "a frame without columns": (lambda x, y: pd.DataFrame(index=range(len(x) * len(y))), None, "without columns"),
    "objects that are arrays": (
        lambda x, y: np.array([[np.arange(3), None]] * 2, object),
        None,
        r"objects that are arrays themselves",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_output_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    """The error says how many points there were, what came, and names ``outputs=``; nothing is stored."""
    function, outputs, said = WRONG[name]
    with pytest.raises(OutputError, match=said):
        run(cache(tmp_path, outputs=outputs), function)
    assert {} == cache(tmp_path).load_chunk_index()


MISMATCHES: dict[str, tuple[Callable[..., Any], Callable[..., Any], str, str]] = {
    "list, then grid": (each, grid, "kind 'grid'", "holds 'list'"),
    "grid, then list": (grid, each, "kind 'list'", "holds 'grid'"),
    "grid, then columns": (grid, mapping, "kind 'columns'", "holds 'grid'"),
    "grid, then frame": (grid, pandas_frame, "kind 'frame'", "holds 'grid'"),
    "list, then opaque": (each, lambda x, y: 1, "kind 'opaque'", "holds 'list'"),
    "columns, then others": (
        mapping,
        lambda x, y: {"number": vectors(x, y)},
        r"'number': \(3,\) per point",
        r"'vector': \(3,\) per point",
    ),
    "a number, then vectors": (grid, vectors, r"\(3,\) per point", "holds 'grid'"),
    "vectors, then longer ones": (
        vectors,
        lambda x, y: np.zeros((len(x), len(y), 4)),
        r"\(4,\) per point",
        r"\(3,\) per point",
    ),
    "grid, then flat": (vectors, lambda x, y: flattened(vectors(x, y)), "kind 'flat'", "holds 'grid'"),
}


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("name", MISMATCHES)
def test_a_block_of_another_kind_is_refused(tmp_path: Path, name: str, reopened: bool) -> None:
    """A block that fits another kind or shape than the first names both, also in another process."""
    first, then, came, held = MISMATCHES[name]
    some = cache(tmp_path)
    run(some.slice(x=[1, 2]), first)
    some = cache(tmp_path) if reopened else some
    with pytest.raises(OutputError, match=f"{came}.*{held}.*outputs="):
        run(some.slice(x=[3, 5]), then)
    assert alike(
        KINDS["list of numbers"].expected([1, 2], YS) if first is each else first([1, 2], YS),
        run(cache(tmp_path).slice(x=[1, 2]), refuse)[0],
    )


def test_where_both_array_shapes_fit_grid_wins(tmp_path: Path) -> None:
    """An array of one axis, or one whose shape reads both ways, is a grid, unless flat was recorded or told."""
    line = {"axis_values": {"x": XS}, "chunk_spec": {"x": 2}}
    assert (4, 2) == run(cache(tmp_path / "line", **line), lambda x: np.zeros((len(x), 2)))[0].shape
    square = {"axis_values": {"x": [1, 2], "y": [0]}, "chunk_spec": {}}
    assert (2, 1) == run(cache(tmp_path / "grid", **square), lambda x, y: np.zeros((2, 1)))[0].shape
    told = square | {"outputs": "flat"}
    assert (2, 1, 1) == run(cache(tmp_path / "flat", **told), lambda x, y: np.zeros((2, 1)))[0].shape


def test_an_empty_dict_and_a_dict_of_lists_are_opaque(tmp_path: Path) -> None:
    """Only arrays make columns."""
    for name, output in (("empty", {}), ("lists", {"a": [1, 2, 3, 4]})):
        assert [output] * 4 == run(cache(tmp_path / name), lambda x, y, output=output: output)[0]


# --- coordinates -------------------------------------------------------------------------------------------


def transposed(x: list[Any], y: list[Any]) -> list[tuple[Any, Any]]:
    """Return the points in the wrong order."""
    return [(i, j) for j in y for i in x]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: [{"x": i, "y": j} for i, j in transposed(x, y)],
        lambda x, y: pd.DataFrame(transposed(x, y), columns=["x", "y"]),
        lambda x, y: pl.DataFrame(transposed(x, y), schema=["x", "y"], orient="row"),
        lambda x, y: dict(zip("xy", map(np.array, zip(*transposed(x, y), strict=True)), strict=True)),
    ],
    ids=["list", "pandas", "polars", "columns"],
)
def test_coordinates_that_outputs_carry_are_checked(tmp_path: Path, function: Callable[..., Any]) -> None:
    """Outputs in the wrong order of axes are an error that names the point and the expected order."""
    with pytest.raises(OutputError) as caught:
        run(cache(tmp_path, name="sweep"), function)
    said = ["output 1 of 'sweep'", "'x': 1, 'y': 'v'", "('x', 'y')", "the last one fastest", "axis_order=…"]
    assert [] == [part for part in said if part not in str(caught.value)]


def test_coordinates_may_be_equal_in_another_type(tmp_path: Path) -> None:
    """NumPy numbers, narrower floats and equal numbers of another type are the same coordinate."""
    fractions = {"axis_values": {"x": [0.1, 0.2], "y": [1, 2]}, "chunk_spec": {}}

    def block(x: list[float], y: list[int]) -> list[dict[str, Any]]:
        return [{"x": np.float32(i), "y": float(j)} for i in x for j in y]

    for function in (block, refuse):
        output, _ = run(cache(tmp_path, **fractions), function)
        assert same(block([0.1, 0.2], [1, 2]), output)


def test_coordinates_of_unhashable_values_are_checked(tmp_path: Path) -> None:
    """Axis values that are lists or arrays are compared too."""
    axes = {"axis_values": {"x": [[1], [1, 2]], "y": [np.arange(2), np.arange(3)]}, "chunk_spec": {}}

    def straight(x: list[Any], y: list[Any]) -> list[Any]:
        return [{"x": i, "y": j} for i in x for j in y]

    for function in (straight, refuse):
        output, _ = run(cache(tmp_path, **axes), function)
        assert [[1], [1], [1, 2], [1, 2]] == [point["x"] for point in output]
        assert [2, 3, 2, 3] == [len(point["y"]) for point in output]
    with pytest.raises(OutputError, match="belongs to"):
        run(cache(tmp_path / "wrong", **axes), lambda x, y: [{"x": i, "y": j} for j in y for i in x])


def test_what_is_no_coordinate_per_point_is_not_compared(tmp_path: Path) -> None:
    """Arrays under the names of the axes that hold several numbers per point are outputs."""
    output, _ = run(cache(tmp_path), lambda x, y: {"x": vectors(x, y), "y": vectors(x, y)})
    assert alike({"x": vectors(XS, YS), "y": vectors(XS, YS)}, output)


def test_one_axis_name_alone_is_no_coordinate(tmp_path: Path) -> None:
    """Only outputs that name every axis say where they belong."""
    output, _ = run(cache(tmp_path), lambda x, y: [{"x": "anything"} for _ in x for _ in y])
    assert [{"x": "anything"}] * 12 == output


# --- the property ------------------------------------------------------------------------------------------


Sweep = tuple[str, Callable[..., Any], Callable[..., Any]]
"""A kind, a function that returns it, and what a caller is to get."""


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Any values of both axes, in any order, with repetitions."""
    return {
        "alpha": draw(st.lists(st.sampled_from(XS), min_size=1, max_size=5)),
        "beta": draw(st.lists(st.sampled_from(YS), min_size=1, max_size=4)),
    }


_trailing = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
_dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.array_dtypes(max_size=2),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
)
_tables = st.tuples(_dtypes, _trailing).flatmap(lambda form: hnp.arrays(form[0], (len(XS), len(YS), *form[1])))
_lists = columns.filter(bool).map(lambda outputs: [outputs[i % len(outputs)] for i in range(12)])
_pandas_columns = st.one_of(
    hnp.arrays(st.sampled_from(["i1", "u8", "f4", "f8", "?", "M8[s]"]).map(np.dtype), 12),
    st.lists(st.text(max_size=4), min_size=12, max_size=12).map(lambda texts: pd.array(texts, dtype="str")),
    st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=12, max_size=12).map(
        lambda numbers: pd.array(numbers, dtype="Int64")
    ),
    st.lists(st.sampled_from("abc"), min_size=12, max_size=12).map(pd.Categorical),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=2)), min_size=12, max_size=12).map(
        lambda mixed: pd.array(mixed, dtype=object)
    ),
)


def positions(alpha: list[Any], beta: list[Any]) -> tuple[np.ndarray, ...]:
    """Return where the points of a request stand in a table over the whole grid."""
    return np.ix_([XS.index(value) for value in alpha], [YS.index(value) for value in beta])


def flat_positions(alpha: list[Any], beta: list[Any]) -> np.ndarray:
    """Return the same as row-major positions."""
    return np.ravel_multi_index(positions(alpha, beta), (len(XS), len(YS))).ravel()


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    """A kind, a function that returns it, and what a caller is to get."""
    kind = draw(st.sampled_from(["list", "grid", "flat", "columns", "frame", "point"]))
    if kind in ("list", "point"):
        outputs = draw(_lists)

        def listed(alpha: Any, beta: Any) -> Any:
            return [outputs[i] for i in flat_positions(alpha, beta)]

        if kind == "list":
            return kind, listed, listed
        return kind, lambda alpha, beta: outputs[XS.index(alpha) * len(YS) + YS.index(beta)], listed
    if kind == "frame":
        names = draw(st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True))
        frame = pd.DataFrame({name: draw(_pandas_columns) for name in names})

        def framed(alpha: Any, beta: Any) -> Any:
            return frame.iloc[flat_positions(alpha, beta)].reset_index(drop=True)

        return kind, framed, framed
    if kind == "columns":
        names = draw(st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True))
        tables = {name: draw(_tables) for name in names}

        def mapped(alpha: Any, beta: Any) -> Any:
            return {name: table[positions(alpha, beta)] for name, table in tables.items()}

        return kind, mapped, mapped
    table = draw(_tables)

    def gridded(alpha: Any, beta: Any) -> Any:
        return table[positions(alpha, beta)]

    if kind == "grid":
        return kind, gridded, gridded
    return kind, lambda alpha, beta: flattened(gridded(alpha, beta)), gridded


any_requests = st.lists(requests(), min_size=1, max_size=3)
any_sizes = st.tuples(*[st.integers(1, 4)] * 2)


@given(sweep=sweeps(), asked=any_requests, sizes=any_sizes)
@settings(max_examples=100)
def test_warm_equals_cold_equals_direct(
    sweep: Sweep, asked: list[dict[str, Any]], sizes: tuple[int, int]
) -> None:
    """Of every kind, whatever is stored and in whatever chunks, the result is the direct evaluation."""
    check_warm_and_cold(sweep, asked, sizes)


@pytest.mark.long
@given(sweep=sweeps(), asked=any_requests, sizes=any_sizes)
def test_warm_equals_cold_equals_direct_at_length(
    sweep: Sweep, asked: list[dict[str, Any]], sizes: tuple[int, int]
) -> None:
    """The same with many more examples."""
    check_warm_and_cold(sweep, asked, sizes)


def check_warm_and_cold(sweep: Sweep, asked: list[dict[str, Any]], sizes: tuple[int, int]) -> None:
    """Run requests one after the other in one cache, each cold and then warm."""
    kind, function, expected = sweep
    options: dict[str, Any] = {
        "axis_values": {"alpha": XS, "beta": YS},
        "chunk_spec": dict(zip(("alpha", "beta"), sizes, strict=True)),
        "vectorize": kind == "point",
        "outputs": None if kind in ("list", "point", "frame") else kind,
    }
    with tempfile.TemporaryDirectory() as root:
        for request in asked:
            cold, done = run(cache(root, **options).slice(**request), function)
            assert len(set(request["alpha"])) * len(set(request["beta"])) == done.total_points
            warm, _ = run(cache(root, **options).slice(**request), refuse)
            assert alike(cold, warm)
            direct = expected(**request)
            if kind == "point" and isinstance(cold, np.ndarray):
                direct = np.stack([np.asarray(output) for output in direct]).astype(cold.dtype)
                cold = cold.reshape(direct.shape)
            assert alike(direct, cold)


@pytest.mark.parametrize("library", [pd, pl])
def test_one_stored_row_of_a_frame(tmp_path: Path, library: Any) -> None:
    """A warm call for one point of a decorated function that returns frames gives a frame of one row."""
    memo = ChunkMemo(tmp_path, {"x": 2}, {"x": [1, 2, 3, 4, 5]}, verbose=0)

    @memo.cache()
    def f(x: list[int]) -> Any:
        return library.DataFrame({"x": x, "word": ["z" * value for value in x]})

    f()
    expected = f(x=[3])[0]
    for _ in range(2):
        output, diagnostics = f(x=3)
        assert diagnostics.executed_points == 0
        assert expected.equals(output)
