"""Labelled results equal direct evaluation, read what they show and no more, and tell what lacks from NaN."""

from __future__ import annotations

import datetime
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo import ChunkCache, ChunkMemo, run
from chunk_memo.errors import (
    CacheNotFoundError,
    DamageWarning,
    OutputError,
    SpecError,
    UnknownAxisError,
    UnknownIndexError,
    UnknownValueError,
)
from chunk_memo.results import SweepResult, filled, variables_of

AXES: dict[str, list[Any]] = {
    "n": [3, 1, 2, 7],
    "rate": [0.5, 0.25, -1.0],
    "who": ["b", "a", "é"],
}
START = datetime.datetime(2024, 2, 29, 12, 30, 15, 123)


class Pair(NamedTuple):
    """A named tuple."""

    low: float
    high: float


@dataclass
class Fit:
    """A dataclass."""

    slope: float
    steps: int


def weight(n: int, rate: float, who: str) -> float:
    """Return a number that tells points apart."""
    return n * 100.0 + rate * 7 + ord(who) / 1000


POINTS: dict[str, Callable[[int, float, str], Any]] = {
    "float": weight,
    "float32": lambda n, rate, who: np.float32(weight(n, rate, who)),
    "int": lambda n, rate, who: n * 10 + int(rate * 4),
    "large": lambda n, rate, who: 2**60 + n,
    "bool": lambda n, rate, who: weight(n, rate, who) > 200,
    "complex": lambda n, rate, who: complex(n, rate),
    "nan": lambda n, rate, who: math.nan if n == 1 else weight(n, rate, who),
    "text": lambda n, rate, who: f"{who}{n}" * n,
    "datetime": lambda n, rate, who: START + datetime.timedelta(days=n, seconds=rate),
    "datetime64": lambda n, rate, who: np.datetime64("2024-01-01", "s") + n,
    "timedelta": lambda n, rate, who: datetime.timedelta(hours=n, microseconds=ord(who)),
    "array": lambda n, rate, who: np.array([weight(n, rate, who), n]),
    "matrix": lambda n, rate, who: np.arange(6, dtype=np.int16).reshape(2, 3) * n,
    "dict": lambda n, rate, who: {"mean": weight(n, rate, who), "label": who * n, "of": {"count": n}},
    "dict of arrays": lambda n, rate, who: {"mean": weight(n, rate, who), "curve": np.array([n, rate])},
    "dict with a date": lambda n, rate, who: {"when": START + datetime.timedelta(days=n), "n_": n},
    "dataclass": lambda n, rate, who: Fit(rate, n),
    "pair": lambda n, rate, who: Pair(rate, n + rate),
    "tuple": lambda n, rate, who: (n, who),
    "none": lambda n, rate, who: None if n == 1 else who,
    "mixed": lambda n, rate, who: who if n == 1 else n,
    "list": lambda n, rate, who: [n, n + 1],
}
FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "dict": lambda out: {"mean": out["mean"], "label": out["label"], "of.count": out["of"]["count"]},
    "dict of arrays": dict,
    "dict with a date": dict,
    "dataclass": lambda out: {"slope": out.slope, "steps": out.steps},
    "pair": lambda out: out._asdict(),
    "tuple": lambda out: {"f_0": out[0], "f_1": out[1]},
}


def equal(one: Any, two: Any) -> bool:
    """Tell whether a value out of a Dataset is what the function returned; xarray makes NaN of None."""
    if two is None:
        return bool(pd.isna(one.item() if isinstance(one, np.ndarray) else one))
    if isinstance(two, np.ndarray | list):
        return np.array_equal(np.asarray(one), np.asarray(two))
    if isinstance(two, datetime.datetime):
        return bool(np.datetime64(two, "us") == np.asarray(one).astype("datetime64[us]"))
    if isinstance(two, datetime.timedelta):
        return bool(np.timedelta64(two) == np.asarray(one).astype("timedelta64[us]"))
    if isinstance(one, np.ndarray | np.generic):
        one = one.item() if np.asarray(one).dtype.kind not in "mM" else one
    return bool(one == two) or (one != one and two != two)


def kind_of(form: str, vectorize: bool, grid: bool) -> Callable[..., Any]:
    """Return a sweep function of that form."""
    point = POINTS[form]
    if vectorize:

        def f(n: int, rate: float, who: str, scale: float = 2.0) -> Any:
            return point(n, rate, who)

        return f

    def g(n: list[int], rate: list[float], who: list[str], scale: float = 2.0) -> Any:
        outputs = [point(a, b, c) for a in n for b in rate for c in who]
        if not grid:
            return outputs
        if isinstance(outputs[0], dict):
            return {
                name: np.array([out[name] for out in outputs]).reshape(
                    len(n), len(rate), len(who), *np.shape(outputs[0][name])
                )
                for name in outputs[0]
            }
        return np.array(outputs).reshape(len(n), len(rate), len(who), *np.shape(outputs[0]))

    g.__name__ = g.__qualname__ = "f"
    return g


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is removed at once."""
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path, ignore_errors=True)


GRIDS = ("float", "int", "complex", "nan", "array", "matrix", "dict of arrays")
some = {name: st.lists(st.sampled_from(values), min_size=1, unique=True) for name, values in AXES.items()}
indices = st.one_of(
    st.integers(-2, 1),
    st.slices(3),
    st.lists(st.integers(-1, 0), min_size=1, max_size=4),
)


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(sorted(POINTS)),
    vectorize=st.booleans(),
    grid=st.booleans(),
    asked=st.fixed_dictionaries(some),
    first=st.fixed_dictionaries(some),
    sizes=st.fixed_dictionaries({name: st.integers(1, 3) for name in AXES}),
    lazy=st.sampled_from([True, False, None]),
    chunks=st.sampled_from([None, {}, "auto", {"n": 2}]),
    picked=st.dictionaries(st.sampled_from(sorted(AXES)), indices, max_size=2),
    data=st.data(),
)
def test_equals_direct_evaluation_by_label(
    form: str,
    vectorize: bool,
    grid: bool,
    asked: dict[str, list[Any]],
    first: dict[str, list[Any]],
    sizes: dict[str, int],
    lazy: bool | None,
    chunks: Any,
    picked: dict[str, Any],
    data: st.DataObject,
) -> None:
    """Every value of a Dataset is what the function returns for its labels, for any grid, output and selection.

    Small or lazy, in Dask's blocks or not, whole or selected by positions or labels.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        memo = ChunkMemo(folder, sizes, AXES, verbose=0, durability="fast")
        f = memo.cache(version="1", name="f", vectorize=vectorize)(
            kind_of(form, vectorize, grid and form in GRIDS)
        )
        f.sweep(**first)
        result = f.sweep(**asked)
        name = data.draw(st.sampled_from(sorted(AXES)))
        label = data.draw(st.sampled_from(asked[name]))
        if form in ("mixed", "none"):  # what one file tells of their dtype does not hold for others
            lazy, chunks = False, None
        if chunks is not None and lazy is False:
            chunks = None
        whole = result.to_xarray(lazy=lazy, chunks=chunks)
        picked = {axis: index for axis, index in picked.items() if _fits(index, len(asked[axis]))}
        for dataset in (
            whole,
            result.isel(**picked).to_xarray(lazy=lazy, chunks=chunks),
            whole.isel(picked),
            whole.sel({name: label}),
            result.sel(**{name: label}).to_xarray(lazy=lazy),
        ):
            check(form, dataset)
        assert whole.attrs == {"scale": 2.0}
        assert dict(whole.sizes).items() >= {axis: len(values) for axis, values in asked.items()}.items()
        assert all(whole[axis].values.tolist() == values for axis, values in asked.items())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fits(index: Any, length: int) -> bool:
    if isinstance(index, slice):
        return True
    numbers = index if isinstance(index, list) else [index]
    return all(-length <= number < length for number in numbers)


def check(form: str, dataset: xr.Dataset) -> None:
    """Compare every value with direct evaluation at its labels."""
    assert "status" not in dataset.coords
    dataset = dataset.load()
    expected_names = list(FIELDS[form](POINTS[form](1, 0.5, "a"))) if form in FIELDS else ["f"]
    if not all(dataset.sizes.values()):
        return
    assert sorted(expected_names) == sorted(map(str, dataset.data_vars))
    coords = {axis: np.atleast_1d(dataset[axis].values).tolist() for axis in AXES}
    for i, n in enumerate(coords["n"]):
        for j, rate in enumerate(coords["rate"]):
            for k, who in enumerate(coords["who"]):
                output = POINTS[form](n, rate, who)
                fields = FIELDS[form](output) if form in FIELDS else {"f": output}
                place = {"n": i, "rate": j, "who": k}
                for name, value in fields.items():
                    variable = dataset[name]
                    found = variable.isel({dim: at for dim, at in place.items() if dim in variable.dims}).values
                    assert equal(found, value), (name, place, found, value)


# --- what lacks ---------------------------------------------------------------------------------------------


def partly_stored(root: Path, **options: Any) -> ChunkCache:
    """Return a cache of 3 x 4 points: some stored (one as NaN), one failed, others never computed."""
    cache = ChunkCache(
        root,
        "partly",
        {"params": {"alpha": 0.5, "note": None}, "units": {"s": "m", "speed": "m/s"}},
        {"s": 2, "t": 2},
        {"s": [1, 2, 3], "t": ["a", "b", "c", "d"]},
        verbose=0,
        vectorize=True,
        name="speed",
        **options,
    )

    def speed(s: int, t: str) -> float:
        if (s, t) == (2, "b"):
            raise ValueError("too fast")
        return math.nan if (s, t) == (1, "a") else s * 10.0 + ord(t)

    with warnings.catch_warnings(action="ignore"):
        run(cache.slice(s=[1, 2], t=["a", "b", "c"]), speed, on_error="record")
    return cache


STATES = [[1, 1, 1, 0], [1, 2, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("lazy", [True, False])
def test_missing_and_failed_are_not_nan(tmp_path: Path, lazy: bool) -> None:
    """What was never computed, or failed, is told from a NaN that the function returned."""
    cache = partly_stored(tmp_path)
    result = cache.result()
    assert STATES == result.status.tolist()
    assert "12 points: 5 stored, 6 missing, 1 failed" in repr(result)
    found = result.to_numpy()
    assert [[state != 1 for state in row] for row in STATES] == found.mask.tolist()
    assert math.isnan(found[0, 0])
    dataset = result.to_xarray(lazy=lazy)
    assert STATES == dataset["status"].values.tolist()
    assert "missing stored failed" == dataset["status"].attrs["flag_meanings"]
    assert int(np.isnan(dataset["speed"].values).sum()) == 8
    assert {"alpha": 0.5, "note": "None"} == dataset.attrs
    assert ("m", "m/s") == (dataset["s"].attrs["units"], dataset["speed"].attrs["units"])
    (failure,) = result.failures
    assert {"s": 2, "t": "b"} == failure.arguments
    assert 0 == len(result.sel(s=1).failures)


def test_an_array_is_made_of_one_variable(tmp_path: Path) -> None:
    """``np.asarray`` reads the outputs, with NaN where points lack; of several variables it asks for one."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1, 2], "y": [3, 4]}, verbose=0)
    result = memo.cache(vectorize=True)(lambda x, y: x * y).sweep()
    assert [[3, 4], [6, 8]] == np.asarray(result).tolist()
    assert ("float32", 21.0) == (str(np.asarray(result, np.float32).dtype), float(np.sum(np.asarray(result))))
    holes = np.asarray(partly_stored(tmp_path / "holes").result())
    assert int(np.isnan(holes).sum()) == 8
    both = memo.cache(vectorize=True)(lambda x, y: {"sum": x + y, "product": x * y}).sweep()
    with pytest.raises(SpecError, match=r"variables \['sum', 'product'\]; choose one by to_numpy\(\)"):
        np.asarray(both)
    with pytest.raises(ValueError, match="always a copy"):
        result.__array__(copy=False)


def test_the_whole_round_trip_of_open_dataset(tmp_path: Path) -> None:
    """Xarray opens a cache's folder by itself, lazily, with missing and failed points shown as such."""
    cache = partly_stored(tmp_path)
    with xr.open_dataset(cache.path, engine="chunk_memo") as dataset:
        assert STATES == dataset["status"].values.tolist()
        assert [["a", "b", "c", "d"], [1, 2, 3]] == [dataset[axis].values.tolist() for axis in ("t", "s")]
        variable = dataset["speed"] if "speed" in dataset else dataset["output"]
        assert 10.0 + ord("b") == float(variable.sel(s=1, t="b"))
        assert [bool(value) for value in np.isnan(variable.sel(s=2).values)] == [False, True, False, True]
    with xr.open_dataset(cache.path, engine="chunk_memo", chunks={}) as blocks:
        assert ((2, 1), (2, 2)) == blocks["status"].chunks
        assert STATES == blocks["status"].values.tolist()
    with xr.open_dataset(cache.path) as guessed:
        assert STATES == guessed["status"].values.tolist()
    assert "status" not in xr.open_dataset(cache.path, engine="chunk_memo", drop_variables="status").coords
    with pytest.raises(
        CacheNotFoundError, match=rf"folder of caches; .*such as '{cache.path}', or chunk_memo\.open"
    ):
        xr.open_dataset(tmp_path, engine="chunk_memo")
    with pytest.raises(CacheNotFoundError, match="is no cache; pass that of a cache, <root>/<cache_id>"):
        xr.open_dataset(cache.path / "chunks", engine="chunk_memo")
    with pytest.raises(CacheNotFoundError, match="is no folder"):
        xr.open_dataset(tmp_path / "nothing", engine="chunk_memo")


def test_a_dataset_travels_through_netcdf(tmp_path: Path) -> None:
    """A Dataset of results can be written as netCDF and read back, params and states included."""
    dataset = partly_stored(tmp_path / "root").to_xarray()
    dataset.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as back:
        assert np.array_equal(dataset["speed"], back["speed"], equal_nan=True)
        assert STATES == back["status"].values.tolist()


def test_a_result_shows_what_is_stored_now(tmp_path: Path) -> None:
    """A result that was opened while a sweep runs shows more when more is stored; reading writes nothing."""
    memo = ChunkMemo(tmp_path, {"x": 1}, {"x": [1, 2, 3]}, verbose=0)

    @memo.cache()
    def double(x: list[int]) -> list[int]:
        return [2 * value for value in x]

    double(x=[1])
    result = double.cache_for().result()
    before = sorted(path for path in tmp_path.rglob("*"))
    assert [1, 0, 0] == result.status.tolist()
    assert [2.0, math.nan] == pytest.approx(result.to_xarray()["double"].values[:2].tolist(), nan_ok=True)
    assert before == sorted(path for path in tmp_path.rglob("*"))
    double(x=[2])
    assert [1, 1, 0] == result.status.tolist()


def test_a_lazy_array_keeps_what_it_promised(tmp_path: Path) -> None:
    """Where files hold what the dtype of a lazy array cannot, reading says so, and how to read them."""
    memo = ChunkMemo(tmp_path, {"x": 1}, {"x": [1, 2]}, verbose=0)

    @memo.cache()
    def f(x: list[int]) -> list[Any]:
        return ["text" if value == 2 else value for value in x]

    result = f.sweep()
    with pytest.raises(OutputError, match="lazy=False"):
        result.to_xarray(lazy=True).load()
    assert [1, "text"] == result.to_xarray()["f"].values.tolist()


def test_integers_with_holes_keep_their_digits(tmp_path: Path) -> None:
    """Integers become floats where points lack, but never lose a digit."""
    assert [1.0] == filled(np.ma.MaskedArray([1, 2], [False, True]))[:1].tolist()
    large = filled(np.ma.MaskedArray([2**60 + 1, 2], [False, True]))
    assert [2**60 + 1, None] == large.tolist()
    assert [True, None] == filled(np.ma.MaskedArray([True, False], [False, True])).tolist()
    assert [b"a", None] == filled(np.ma.MaskedArray([b"a", b"b"], [False, True])).tolist()


def test_frames_and_holes(tmp_path: Path) -> None:
    """Columns of DataFrames are variables, and rows that are not there are holes in them."""
    memo = ChunkMemo(tmp_path, {"x": 2}, {"x": [1, 2, 3, 4]}, verbose=0)

    @memo.cache()
    def table(x: list[int]) -> pd.DataFrame:
        return pd.DataFrame({"x": x, "half": [value / 2 for value in x], "name": [f"n{value}" for value in x]})

    table(x=[1, 3])
    result = table.cache_for().result()
    assert [1, 0, 1, 0] == result.status.tolist()
    found = result.to_numpy()
    assert ["half", "name"] == list(found)
    assert [0.5, 1.5] == found["half"][[0, 2]].tolist()
    names = result.to_xarray()["name"]
    assert [False, True, False, True] == names.isnull().values.tolist()
    assert ["n1", "n3"] == names.values[[0, 2]].tolist()


def test_nothing_is_stored(tmp_path: Path) -> None:
    """A cache of which nothing is stored has no variables yet, and says so."""
    cache = ChunkCache(tmp_path, "empty", axis_values={"s": [1, 2]})
    assert [0, 0] == cache.result().status.tolist()
    assert cache.to_numpy().mask.all()
    dataset = cache.to_xarray()
    assert [] == list(dataset.data_vars)
    assert [0, 0] == dataset["status"].values.tolist()


def test_a_part_of_which_nothing_is_stored_has_the_variables_of_the_rest(tmp_path: Path) -> None:
    """A selection of missing points has the variables, dtypes and dimensions that stored points have."""
    cache = partly_stored(tmp_path)
    assert ["speed"] == list(cache.sel(s=3).to_xarray().data_vars)
    assert cache.sel(s=3).to_numpy().mask.all()


def test_pieces_for_calls_have_no_labels(tmp_path: Path) -> None:
    """Outputs that stand for a whole call are refused with the way out."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1, 2, 3]}, verbose=0)

    @memo.cache(outputs="opaque")
    def total(x: list[int]) -> int:
        return sum(x)

    with pytest.raises(OutputError, match="one piece for each call"):
        total.sweep().to_numpy()


def test_a_result_of_a_run_computes_again_what_was_damaged(tmp_path: Path) -> None:
    """A file that is damaged between a run and the look at its results costs a computation, and a warning."""
    memo = ChunkMemo(tmp_path, {"x": 2}, {"x": [1, 2, 3]}, verbose=0)

    @memo.cache()
    def half(x: list[float]) -> Any:
        return np.asarray(x) / 2

    result = half.sweep()
    path = next(iter((result.cache.path / "chunks").rglob("*.h5")))
    data = bytearray(path.read_bytes())
    first = np.array([0.5, 1.0]).tobytes()
    at = data.index(first) if first in data else data.index(np.array([1.5]).tobytes())
    data[at + 6] ^= 1
    path.write_bytes(data)
    with pytest.warns(DamageWarning):
        assert [0.5, 1.0, 1.5] == result.to_numpy().tolist()


# --- selections ---------------------------------------------------------------------------------------------


def test_selections(tmp_path: Path) -> None:
    """Labels, slices of labels, nearest values, positions and masks select; single ones drop the dimension."""
    memo = ChunkMemo(tmp_path, axis_values={"a": [1, 2, 3], "b": [0.0, 0.5, 1.0]}, verbose=0)

    @memo.cache()
    def total(a: list[int], b: list[float]) -> Any:
        return np.add.outer(np.asarray(a, float), b)

    result = total.sweep()
    assert ("a", "b") == result.dims
    assert [2.0, 2.5, 3.0] == result.sel(a=2).to_numpy().tolist()
    assert 2.5 == float(result.sel(a=2, b=0.5).to_numpy())
    assert [3.5, 2.5] == result.sel(a=[3, 2], b=0.5).to_numpy().tolist()
    assert (2, 3) == result.sel(a=slice(2, None)).shape
    assert [1.5, 2.0] == result.sel(a=1, b=slice(0.2, 1.0)).to_numpy().tolist()
    assert {"a": 2, "b": 0.5} == result.sel(a=2.2, b=0.6, method="nearest").coords
    assert [[3.0, 4.0]] == result.isel(a=slice(2, 3), b=[True, False, True]).to_numpy().tolist()
    assert [[4.0, 3.5]] == result.isel(a=[-1], b=[2, 1]).to_numpy().tolist()
    assert "SweepResult(total, b: 3; 3 points: 3 stored)" == repr(result.isel(a=0))
    assert 2 == int(result.sel(a=2).to_xarray()["a"])
    assert result.sel(a=1.0).coords["a"] == 1  # told apart by value, as in xarray
    for select, error, message in (
        (lambda: result.sel(c=1), UnknownAxisError, "there is no axis 'c' to select on; the axes are"),
        (lambda: result.isel(c=1), UnknownAxisError, "there is no dimension 'c'"),
        (lambda: result.sel(a=4), UnknownValueError, "axis 'a' has no value 4 here; it has 1, 2, 3"),
        (lambda: result.sel(a=True), UnknownValueError, "axis 'a' has no value True"),
        (lambda: result.isel(a=3), UnknownIndexError, "index 3 is out of range for 'a' with 3 values"),
        (lambda: result.isel(a=[0, -4]), UnknownIndexError, "index -4 is out of range"),
        (lambda: result.isel(a=1.5), SpecError, "takes an int, a slice, a mask"),
        (lambda: result.isel(a=[True]), SpecError, "must have 3 entries"),
        (lambda: result.sel(a=slice("x", None)), SpecError, "have no order with 'x'"),
        (lambda: result.sel(a=slice(1, 3, 2)), SpecError, "takes no step"),
        (lambda: result.sel(a=1, method="linear"), SpecError, "method must be 'nearest'"),
        (lambda: result.sel(a=1).sel(a=1), UnknownAxisError, "the axes are \\['b'\\]"),
        (lambda: result.to_xarray(chunks={}, lazy=False), SpecError, "lazy=False"),
        (lambda: result.to_xarray(chunks={"z": 1}), SpecError, "chunks names 'z'"),
        (lambda: result.to_xarray(dims=["w"]), SpecError, "has 0 dimensions"),
    ):
        with pytest.raises(error, match=message):
            select()


def bytes_opened(cache: ChunkCache, read: Callable[[], Any]) -> tuple[int, set[str]]:
    """Return the bytes that a call reads of chunk files, and which files it touches."""
    import sys

    sizes = {path.name: path.stat().st_size for path in cache.path.rglob("*.h5")}
    opened: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if hooked[0] and event == "open" and str(arguments[0]).endswith(".h5"):
            opened.add(os.path.basename(str(arguments[0])))

    hooked = [True]
    sys.addaudithook(hook)
    read()
    hooked[0] = False
    return sum(sizes[name] for name in opened), opened


def test_one_line_of_a_million_points_reads_its_chunks_only(tmp_path: Path) -> None:
    """``.sel`` of one line of 1,000,000 points reads at most twice the bytes of the chunks that it touches."""
    side = 1000
    memo = ChunkMemo(
        tmp_path,
        {"x": 100, "y": 100},
        {"x": list(range(side)), "y": list(range(side))},
        verbose=0,
        durability="fast",
    )

    @memo.cache()
    def product(x: list[int], y: list[int]) -> Any:
        return np.multiply.outer(np.asarray(x, float), y)

    result = product.sweep()
    line = result.sel(x=123)
    names = set(result.cache.chunk_hashes_for(x=123))
    touched = [path for path in (result.cache.path / "chunks").rglob("*.h5") if path.stem in names]
    read = line.read()
    assert 10 == len(touched)
    assert read.bytes_read <= 2 * sum(path.stat().st_size for path in touched)
    nbytes, opened = bytes_opened(result.cache, lambda: result.to_xarray(lazy=True).sel(x=123).load())
    assert len({Path(path).stem for path in opened} - names) <= 1  # the one that tells the dtype
    assert nbytes <= 2 * sum(path.stat().st_size for path in touched)
    assert [123.0 * y for y in range(side)] == line.to_numpy().tolist()


# --- names --------------------------------------------------------------------------------------------------


def test_dimensions_of_outputs_have_names(tmp_path: Path) -> None:
    """Dimensions of array outputs are numbered, unless the call or the memo's metadata names them."""
    named = {"dims": {"wave": ["time"]}, "long_name": {"wave": "elongation"}}
    memo = ChunkMemo(tmp_path, axis_values={"f": [1.0, 2.0]}, verbose=0, metadata=named)

    @memo.cache()
    def wave(f: list[float]) -> dict[str, Any]:
        return {"wave": np.outer(f, np.arange(3)), "image": np.zeros((len(f), 2, 2))}

    dataset = wave.sweep().to_xarray()
    assert ("f", "time") == dataset["wave"].dims
    assert ("f", "image_0", "image_1") == dataset["image"].dims
    assert "elongation" == dataset["wave"].attrs["long_name"]
    dims = {"image": ["row", "column"]}
    assert ("f", "row", "column") == wave.sweep().to_xarray(dims=dims)["image"].dims


def test_names_that_are_taken(tmp_path: Path) -> None:
    """An output called as an axis, or as the status, keeps its values under a name of its own."""
    memo = ChunkMemo(tmp_path, axis_values={"status": [1, 2, 3]}, verbose=0)

    @memo.cache()
    def f(status: list[int]) -> list[dict[str, int]]:
        return [{"state": value} for value in status]

    f(status=[1, 2])
    dataset = f.cache_for().to_xarray()
    assert [1, 2, 3] == dataset["status"].values.tolist()
    assert [1, 1, 0] == dataset["status_"].values.tolist()


def test_axis_values_that_are_no_labels(tmp_path: Path) -> None:
    """Values that cannot be looked up stay there as a coordinate beside the dimension."""
    values = [[1, 2], [3]]
    cache = ChunkCache(tmp_path, "lists", axis_values={"s": values}, verbose=0)
    run(cache, lambda s: [sum(value) for value in s])
    dataset = cache.to_xarray()
    assert [3, 3] == dataset["output"].values.tolist()
    assert values == dataset["s_value"].values.tolist()


def test_columns_of_outputs() -> None:
    """Outputs become columns in which each value is what it was."""
    assert ["f"] == list(variables_of([{1: 2}], "f"))
    assert [{}, {}] == variables_of([{}, {}], "f")["f"].tolist()
    assert [1, True] == variables_of([1, True], "f")["f"].tolist()
    assert object == variables_of([1, True], "f")["f"].dtype
    assert object == variables_of([2**70, 1], "f")["f"].dtype
    assert [1, None] == variables_of([{"a": 1}, {"b": 2}], "f")["a"].tolist()
    aware = [START.replace(tzinfo=datetime.UTC)]
    assert aware == variables_of(aware, "f")["f"].tolist()
    ragged = variables_of([np.zeros(1), np.zeros(2)], "f")["f"]
    assert ragged.dtype.hasobject
    assert (2,) == ragged.shape


# --- tables -------------------------------------------------------------------------------------------------


def test_tables_have_a_row_for_each_point(tmp_path: Path) -> None:
    """pandas, polars and Arrow get the rows in the order asked; where points lack, their state."""
    cache = partly_stored(tmp_path)
    whole = cache.slice(s=[2, 1], t=["a", "c"])
    frame = whole.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert [2, 2, 1, 1] == frame["s"].tolist()
    name = "speed" if "speed" in frame else "value"
    assert [20.0 + ord("a"), 20.0 + ord("c"), 10.0 + ord("c")] == [frame[name][row] for row in (0, 1, 3)]
    assert "point_state" not in frame
    table = cache.to_polars()
    assert isinstance(table, pl.DataFrame)
    names = ["missing", "stored", "failed"]
    assert [names[state] for row in STATES for state in row] == table["point_state"].to_list()
    assert 12 == cache.to_arrow().num_rows


def test_tables_of_cases(tmp_path: Path) -> None:
    """Points that form no grid have rows in their order, too."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1.0], "who": ["a"]}, verbose=0)

    @memo.cache(vectorize=True)
    def f(x: float, who: str, alpha: float = 0.5) -> dict[str, Any]:
        return {"value": x * alpha, "name": who}

    frame = f.cases([(3.0, "b"), (1.0, "a")]).to_pandas()
    assert {"alpha": [0.5, 0.5], "x": [3.0, 1.0], "who": ["b", "a"], "value": [1.5, 0.5], "name": ["b", "a"]} == (
        frame.to_dict("list")
    )


def test_results_are_found_where_they_are_expected() -> None:
    """The class is part of the public house."""
    import chunk_memo

    assert SweepResult is chunk_memo.SweepResult
