"""Outputs survive the way into named arrays and back, with their exact types."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import datetime
import enum
import itertools
import json
import math
import pathlib
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import strategies
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Colour, Frozen, Pair, Permission, Plain, same

from chunk_memo.disk import chunkfile, classes
from chunk_memo.disk.encoding import (
    Encoded,
    PickledPart,
    Record,
    decode,
    decode_array,
    encode,
    encode_array,
    pickled_parts,
    register_encoding,
    widenable,
)
from chunk_memo.errors import ChunkFormatError, EncodingError, PickleRefusedError


def through_json(tree: Any) -> Any:
    """Return a tree as a reader gets it from a file."""
    return json.loads(json.dumps(tree, allow_nan=False))


def round_trip(values: list[Any], **more: Any) -> list[Any]:
    """Encode and decode, with everything that lies between checked for what files can hold."""
    encoded = encode(values, **more)
    check_storable(encoded, len(values))
    return decode(through_json(encoded.tree), read_only(encoded.arrays), len(values), **more)


def check_storable(encoded: Encoded, count: int) -> None:
    """Check what is promised about the arrays of an encoding."""
    for name, array in encoded.arrays.items():
        assert type(name) is str
        assert type(array) is np.ndarray
        assert array.dtype.kind not in "OU"
        assert array.dtype.itemsize > 0
        assert array.flags.c_contiguous
        assert array.ndim >= 1
        if encoded.pointwise:
            assert count == len(array)


def read_only(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays as a reader gets them from a buffer: not to be written to."""
    views = {name: array.view() for name, array in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


# --- round trips ---------------------------------------------------------------------------------


def check_round_trip(values: list[Any]) -> None:
    """Check that outputs come back the same."""
    restored = round_trip(values)
    assert same(values, restored), (values, restored)


@given(strategies.columns)
def test_outputs_come_back_the_same(values: list[Any]) -> None:
    """Every native output survives the round trip with its exact type."""
    check_round_trip(values)


@pytest.mark.long
@settings(max_examples=10_000)
@given(strategies.columns)
def test_outputs_come_back_the_same_long(values: list[Any]) -> None:
    """Every native output survives the round trip with its exact type."""
    check_round_trip(values)


def check_rows(values: list[Any], data: st.DataObject) -> None:
    """Check that rows of a pointwise encoding may be selected without the tree."""
    encoded = encode(values)
    if not encoded.pointwise or not values:
        return
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8))
    chosen = {name: array[rows] for name, array in encoded.arrays.items()}
    expected = [values[row] for row in rows]
    assert same(expected, decode(encoded.tree, chosen, len(rows)))


@given(strategies.columns, st.data())
def test_rows_of_pointwise_encodings_are_outputs(values: list[Any], data: st.DataObject) -> None:
    """Selecting rows of every array, then decoding, is the same as selecting outputs."""
    check_rows(values, data)


@pytest.mark.long
@settings(max_examples=10_000)
@given(strategies.columns, st.data())
def test_rows_of_pointwise_encodings_are_outputs_long(values: list[Any], data: st.DataObject) -> None:
    """Selecting rows of every array, then decoding, is the same as selecting outputs."""
    check_rows(values, data)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        7,
        "short",
        None,
        True,
        b"bytes",
        (1.0, 2),
        [1.0, 2.0],
        [[1, 2], [3, 4]],
        {"loss": 0.5, "epochs": 3, "name": "a", "ok": None},
        {"fit": {"beta": np.arange(3.0), "cov": np.eye(3)}},
        (np.arange(3), np.eye(2)),
        Plain(1, "a"),
        Pair(1.0, [2, 3]),
        Colour.RED,
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        pathlib.PurePosixPath("a/b"),
        pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}),
        np.float32(1),
    ],
)
def test_alike_outputs_are_pointwise(value: Any) -> None:
    """Outputs of one fixed form have one row per output in every array."""
    assert encode([value, value, value]).pointwise


@pytest.mark.parametrize("values", [[1, None], [1, 2.5, "a"], [{"x": 1.0}, {"x": None}]])
def test_scalars_of_several_types_are_pointwise(values: list[Any]) -> None:
    """A number that is sometimes None does not cost the rows."""
    assert encode(values).pointwise
    assert same(values, round_trip(values))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([1, 2], [1000, 2]),
        ([1, 2], [2**40, 2, 3]),
        ([0.5], [1.5, math.nan]),
        (["a", "bb"], ["ccc" * 5]),
        ([[1], [2, 3]], [[4, 5, 6], [7]]),
        ([np.arange(2), np.arange(3)], [np.arange(5), np.arange(1)]),
        ([np.array(["a"])], [np.array(["abcdef"])]),
        ([1, "a"], ["b", 2, 3]),
        ([{"a": 1}, {"b": 1}], [{"b": 2}, {"a": 2}, {"a": 3}]),
        ([Colour.RED], [Colour.BLUE, Colour.BLUE]),
        ([datetime.date(2020, 1, 1)], [datetime.date(1920, 1, 1)]),
        ([{1, 2}, {3}], [{4}, {5, 6, 7}]),
    ],
)
def test_blocks_of_one_form_have_equal_trees(one: list[Any], two: list[Any]) -> None:
    """Neither values, widths nor lengths are in the tree."""
    assert encode(one).tree == encode(two).tree


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([None], [1.0]),
        ([1], [1.0]),
        ([1], [True]),
        ([(1,)], [[1]]),
        ([np.float64(1)], [1.0]),
        ([np.array(1.0)], [np.float64(1)]),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]),
        ([{1}], [frozenset({1})]),
        ([{1: 0}], [{True: 0}]),
        ([{1: 0}], [{1.0: 0}]),
        ([pathlib.PurePosixPath("a")], [pathlib.Path("a")]),
        ([b"a"], [bytearray(b"a")]),
    ],
)
def test_blocks_of_other_forms_have_other_trees(one: list[Any], two: list[Any]) -> None:
    """What differs in type differs in the tree or in the dtypes of the arrays."""
    assert encode(one).tree != encode(two).tree
    assert same(one, round_trip(one))
    assert same(two, round_trip(two))


def joined_arrays(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return rows of both, in a foreign byte order too where they have one."""
    dtype = one.dtype if one.dtype == two.dtype else np.result_type(one, two)
    out = np.empty((len(one) + len(two), *one.shape[1:]), dtype)
    np.concatenate((one, two), out=out)
    return out


@given(strategies.columns, strategies.columns)
def test_rows_of_equal_forms_may_be_joined(one: list[Any], two: list[Any]) -> None:
    """Blocks whose trees and dtypes are equal decode as one, narrow columns widened."""
    first, second = encode(one), encode(two)
    joined = {}
    for name, array in first.arrays.items():
        other = second.arrays.get(name)
        if other is None or array.shape[1:] != other.shape[1:]:
            return
        if array.dtype != other.dtype and name not in widenable(first.tree):
            return
        joined[name] = array, other
    if first.tree != second.tree or not (first.pointwise and second.pointwise):
        return
    arrays = {name: joined_arrays(*pair) for name, pair in joined.items()}
    assert same(one + two, decode(first.tree, arrays, len(one + two)))


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text("aü", max_size=40)), min_size=1),
    st.lists(st.tuples(st.integers(0, 9), st.text("aü", max_size=1)), min_size=1),
)
def test_narrow_columns_may_be_widened(one: list[Any], two: list[Any]) -> None:
    """Integers and strings of another block may be longer; their arrays are joined as they are."""
    first, second = encode(one), encode(two)
    if first.tree != second.tree:  # one string is far longer than the others
        return
    assert set(first.arrays) == widenable(first.tree)
    arrays = {name: np.concatenate([first.arrays[name], second.arrays[name]]) for name in first.arrays}
    assert one + two == decode(first.tree, arrays, len(one + two))


def test_names_say_where_an_array_belongs() -> None:
    """Arrays are named by keys and positions, unique and readable."""
    fit = {"beta": [1.0, 2.0], "cov": (np.eye(2), 3)}
    values = [{"fit": fit, "n": 1, "tags": ["a"]}, {"fit": fit, "n": None, "tags": []}]
    expected = ["fit/beta", "fit/cov[0]", "fit/cov[1]", "n", "n.kind", "tags", "tags.lengths"]
    assert expected == sorted(encode(values).arrays)
    assert ["value"] == list(encode([1.0]).arrays)
    assert ["[0]", "[1]"] == list(encode([(1.0, "a")]).arrays)


def test_names_are_unique_where_keys_are_nasty() -> None:
    """Keys that look like paths of other keys do not share an array."""
    values = [{"a/b": 1, "a": {"b": 2}, "": 3, "/": 4, "a/b~2": 5, "value": 6, "\ud800": 7}]
    assert same(values, round_trip(values))
    assert 7 == len(encode(values).arrays)


def test_a_column_of_dictionaries_is_one_array_per_key() -> None:
    """Homogeneous outputs become columns."""
    encoded = encode([{"x": i, "y": i / 2} for i in range(100)])
    assert {"x": np.dtype(np.int8), "y": np.dtype(float)} == {
        name: array.dtype for name, array in encoded.arrays.items()
    }


def test_one_long_string_does_not_widen_the_others() -> None:
    """Strings far longer than the mean lie end to end."""
    values = ["a"] * 1000 + ["b" * 100_000]
    assert sum(array.nbytes for array in encode(values).arrays.values()) < 120_000
    assert values == round_trip(values)


def test_one_large_int_does_not_widen_the_others() -> None:
    """Integers far longer than the mean lie end to end."""
    values = [*range(1000), 1 << 800_000]
    assert sum(array.nbytes for array in encode(values).arrays.values()) < 120_000
    assert values == round_trip(values)


@pytest.mark.parametrize("count", [17, 150, 1000])
def test_dictionaries_of_many_forms(count: int) -> None:
    """Dictionaries that all have other keys do not need an array for each."""
    values = [{f"key {i}": i, "last": None} for i in range(count)]
    assert same(values, round_trip(values))
    assert len(encode(values).arrays) < 10


def test_dictionaries_of_many_keys() -> None:
    """A dictionary used as a table is one array, not one per key."""
    values = [{f"gene {i}": float(i) for i in range(500)}] * 3
    assert same(values, round_trip(values))
    assert 1 == len(encode(values).arrays)
    assert encode(values).pointwise


def test_columns_of_many_forms() -> None:
    """More than a hundred forms in one column come back."""
    made = [np.zeros(2, f"V{width}") for width in range(1, 200)]
    values = [*made, *(np.zeros((1,) * ndim) for ndim in range(20))]
    assert same(values, round_trip(values))


def test_int_keys_and_bool_keys_are_told_apart() -> None:
    """``1``, ``True`` and ``1.0`` are equal keys, and still come back as what they were."""
    values: list[Any] = [{1: 0}, {True: 0}, {1.0: 0}, {0.0: 0}, {-0.0: 0}, {np.int64(1): 0}]
    assert same(values, round_trip(values))


def test_decoded_arrays_are_fresh() -> None:
    """A decoded array may be written to, and touches neither its neighbours nor the source."""
    encoded = encode([np.zeros(2), np.zeros(2)])
    one, two = decode(encoded.tree, read_only(encoded.arrays), 2)
    one[:] = 1
    assert [0.0, 0.0] == two.tolist()
    assert [[0.0, 0.0], [0.0, 0.0]] == encoded.arrays["value"].tolist()


def test_memory_order_is_not_a_value() -> None:
    """Strided and Fortran-ordered arrays come back with the same elements."""
    whole = np.arange(24.0).reshape(4, 6)
    values = [whole[:, ::2], whole[:, 1::2], np.asfortranarray(whole)[:, :3]]
    assert same(values, round_trip(values))


def test_memmaps_become_arrays(tmp_path: pathlib.Path) -> None:
    """A memory map is stored as what it maps."""
    mapped = np.memmap(tmp_path / "numbers", np.int16, "w+", shape=(3,))
    (restored,) = round_trip([mapped])
    assert same(np.zeros(3, np.int16), restored)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2")
def test_variable_width_string_arrays() -> None:
    """Arrays of NumPy's own strings come back."""
    values = [np.array(["a", "long" * 30], np.dtypes.StringDType())]
    (restored,) = round_trip(values)
    assert values[0].dtype == restored.dtype
    assert values[0].tolist() == restored.tolist()


def test_special_values() -> None:
    """Values that a careless encoder confuses come back as they were."""
    values = [
        datetime.timedelta.max,
        datetime.timedelta.min,
        datetime.datetime.max,
        datetime.datetime.min,
        datetime.date.max,
        datetime.date.min,
        datetime.time(23, 59, 59, 999_999, fold=1),
        Decimal("-0"),
        Decimal("1E+999999"),
        Decimal("-NaN123"),
        Fraction(-1, 10**30),
        np.datetime64("NaT", "as"),
        np.datetime64("NaT", "s"),
        np.timedelta64(5, "D"),
        np.void(b"\0\1"),
        np.array([(1, "ü")], [("a", "<i2"), ("b", ">U2")])[0],
        np.ma.masked_array([1, 2], [True, False], fill_value=7),
        np.array(["a\udc80"]),
        NotImplemented,
        (),
        [],
        {},
        "\ud800",
        -0.0,
    ]
    for value in values:
        assert same([value, value], round_trip([value, value])), value
    assert same(values, round_trip(values))


def test_paths_that_print_as_others_are_refused() -> None:
    """A Windows path comes back the same, or is refused; some odd network paths do not print."""
    for letters in itertools.product("aB\\:", repeat=4):
        path = pathlib.PureWindowsPath("".join(letters))
        try:
            (restored,) = round_trip([path])
        except PickleRefusedError:
            restored = path
            assert pathlib.PureWindowsPath(str(path)).parts != path.parts
        assert path.parts == restored.parts


def test_masked_arrays_keep_what_is_beside_the_values() -> None:
    """Fill value and hardness of the mask come back; ``masked`` stays the one that it is."""
    array = np.ma.masked_array([1, 2], [True, False], fill_value=7, hard_mask=True)
    restored, masked = round_trip([array, np.ma.masked])
    assert (7, True) == (restored.fill_value, restored.hardmask)
    assert masked is np.ma.masked


def test_structured_dtypes_keep_their_layout() -> None:
    """Offsets, padding, titles and nested types of a structured dtype come back."""
    inner = np.dtype([("p", "f4"), ("q", "S3", (2,))])
    dtype = np.dtype({"names": ["a", "b"], "formats": ["i2", inner], "offsets": [4, 16], "itemsize": 40})
    titled = np.dtype([(("the title", "a"), "i4"), ("when", "M8[ms]")])
    for each in (dtype, titled, np.dtype([("a", "i1"), ("b", "f8")], align=True)):
        (restored,) = round_trip([np.zeros(3, each)])
        assert str(each) == str(restored.dtype)
        assert each == restored.dtype
        assert each.isalignedstruct == restored.dtype.isalignedstruct
    (record,) = round_trip([np.zeros(2, np.dtype((np.record, dtype)))])
    assert np.record is record.dtype.type


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=200), min_size=1))
def test_padding_is_bounded(values: list[str]) -> None:
    """Strings of any lengths take a quarter more than their bytes, and 20 bytes each, at most."""
    size = sum(len(value.encode("utf-8", "surrogatepass")) for value in values)
    stored = sum(array.nbytes for array in encode(values).arrays.values())
    assert stored <= 1.25 * size + 20 * len(values)


@pytest.mark.parametrize(
    "values",
    [
        ["é" * n for n in range(30)],
        ["\U0001f600", "a", "", "\u20ac"],
        ["\ud800", "\udc00", "é"],
        ["a\0b", "\0a"],
        ["a\0", "b"],
        ["x" * n for n in range(0, 900, 7)] + ["é" * 300],
        [2**70, -(2**70), 0, -1, 2**63],
        [-(2**63) - 1] * 3,
        [datetime.timedelta.max, datetime.timedelta.min],
        [datetime.timedelta(days=106751991, hours=3), datetime.timedelta(days=-106751992, hours=21)],
        [datetime.timedelta(microseconds=2**63 - 1), datetime.timedelta(microseconds=-(2**63) + 1)],
        [datetime.datetime.min, datetime.datetime.max],
        [datetime.date.min, datetime.date.max],
    ],
)
def test_columns_at_the_edges_of_their_forms(values: list[Any]) -> None:
    """Values at which a column takes another form, or just not yet, come back the same."""
    assert same(values, round_trip(values))


def test_zones_that_are_equal_stay_apart() -> None:
    """Time zones that compare as equal have names of their own, in one column too."""
    zones = [datetime.UTC, datetime.timezone(datetime.timedelta(0), "Z"), datetime.UTC]
    times = [datetime.datetime(2020, 1, 1, tzinfo=zone) for zone in zones]
    for values in (zones, times):
        assert list(map(repr, values)) == list(map(repr, round_trip(values)))


def test_strings_are_whole_characters() -> None:
    """A string that begins or ends inside a character is an error, not the characters of two strings."""
    tree = encode(["é", "e"]).tree
    with pytest.raises(ChunkFormatError):
        decode(tree, {"value": np.array([b"\xc3\0\0\0", b"\xa9\0\0\0"])}, 2)
    with pytest.raises(ChunkFormatError):
        decode(tree, {"value": np.array([b"e\xc3", b"\xa9e"])}, 2)


# --- single arrays -------------------------------------------------------------------------------


def check_array(array: np.ndarray, data: st.DataObject) -> None:
    """Check that one array and rows of it come back."""
    encoded = encode_array(array, "y")
    check_storable(encoded, len(array))
    assert encoded.pointwise
    tree = through_json(encoded.tree)
    assert same(array, decode_array(tree, encoded.arrays))
    if len(array):
        rows = data.draw(st.lists(st.integers(0, len(array) - 1), max_size=5))
        chosen = {name: each[rows] for name, each in encoded.arrays.items()}
        assert same(array[rows], decode_array(tree, chosen))


@given(strategies.arrays(min_dims=1), st.data())
def test_an_array_comes_back(array: np.ndarray, data: st.DataObject) -> None:
    """One array of any dtype survives the round trip, and so do its rows."""
    check_array(array, data)


@pytest.mark.long
@settings(max_examples=10_000)
@given(strategies.arrays(min_dims=1), st.data())
def test_an_array_comes_back_long(array: np.ndarray, data: st.DataObject) -> None:
    """One array of any dtype survives the round trip, and so do its rows."""
    check_array(array, data)


@pytest.mark.parametrize("shape", [(4,), (2, 2), (4, 1), (0, 3), (2, 0)])
def test_an_object_array_comes_back(shape: tuple[int, ...]) -> None:
    """An array of objects is stored element by element."""
    array = np.empty(4, object)
    array[:] = [1, "a", None, 2.5]
    array = array[: math.prod(shape)].reshape(shape)
    encoded = encode_array(array, "y")
    assert same(array, decode_array(through_json(encoded.tree), encoded.arrays))
    nothing = np.full(shape, None)
    encoded = encode_array(nothing)
    assert same(nothing, decode_array(through_json(encoded.tree), encoded.arrays))


def test_an_array_of_unknown_objects_is_refused() -> None:
    """An element without a form of its own is named with its place."""
    with pytest.raises(PickleRefusedError, match=r"'y\[1, 0\]'.*'builtins:object'"):
        encode_array(np.array([[1, 2], [object(), 3]], object), "y")


def test_a_single_value_is_no_array_of_points() -> None:
    """An array without a leading axis is an error that says how to give it one."""
    with pytest.raises(EncodingError, match=r"\(n, \.\.\.\)"):
        encode_array(np.array(1.0))


def test_unicode_takes_the_bytes_that_it_needs() -> None:
    """A column of text beyond ASCII is not four times as wide as its characters."""
    array = np.array(["läuft", "fertig", "für immer"])
    encoded = encode_array(array)
    restored = decode_array(through_json(encoded.tree), encoded.arrays)
    assert array.dtype == restored.dtype
    assert array.tolist() == restored.tolist()
    assert encoded.arrays["output"].dtype == np.dtype("S10")


# --- values that repeat an axis ------------------------------------------------------------------


def test_a_column_that_repeats_an_axis_is_not_stored() -> None:
    """The entry is taken from the axis again, for any selection of points."""
    values = [{"s": s, "x": s / 2} for s in (1, 2, 3)]
    encoded = encode(values, coords={"s": [1, 2, 3], "t": [0, 0, 0]})
    assert ["x"] == list(encoded.arrays)
    assert encoded.pointwise
    assert values == decode(encoded.tree, encoded.arrays, 3, coords={"s": [1, 2, 3]})
    chosen = {name: array[[2, 0]] for name, array in encoded.arrays.items()}
    assert [values[2], values[0]] == decode(encoded.tree, chosen, 2, coords={"s": [3, 1]})


@pytest.mark.parametrize(
    ("column", "axis"),
    [
        ([1.0, 2.0], [1, 2]),
        ([True, False], [1, 0]),
        ([0.0, 1.0], [-0.0, 1.0]),
        ([(1, 2), (3, 4)], [(1, 2), [3, 4]]),
        ([(1, 2), (3, 4)], [(1, 2), (3, 4.0)]),
        ([1, 2], [2, 1]),
        ([1, 2], [1]),
        ([object, None], [1, None]),
    ],
)
def test_a_column_that_only_resembles_an_axis_is_stored(column: list[Any], axis: list[Any]) -> None:
    """Another type, another sign or another order is another column."""
    values = [{"s": each} for each in column]
    encoded = encode(values, coords={"s": axis}, allow_pickle=True)
    assert "axis" not in json.dumps(encoded.tree)
    restored = decode(encoded.tree, encoded.arrays, len(values), allow_pickle=True)
    assert same(values, restored)


@given(st.lists(strategies.values, min_size=1, max_size=4))
def test_what_is_taken_from_an_axis_is_the_same(axis: list[Any]) -> None:
    """A column that equals its axis, as a copy, is left out and comes back the same."""
    values = [{"s": copy.deepcopy(each), "x": 1.0} for each in axis]
    encoded = encode(values, coords={"s": axis})
    assert same(values, decode(encoded.tree, encoded.arrays, len(axis), coords={"s": axis}))


def test_axis_values_without_a_form_are_recognised_by_identity() -> None:
    """An output that hands an axis object back needs no pickle for it."""
    axis = [object(), object()]
    encoded = encode([{"model": each, "x": 1} for each in axis], coords={"model": axis})
    restored = decode(encoded.tree, encoded.arrays, 2, coords={"model": axis})
    assert all(each["model"] is one for each, one in zip(restored, axis, strict=True))


def test_only_whole_outputs_repeat_an_axis() -> None:
    """A nested dictionary may have a key of an axis's name; it is stored."""
    values = [{"inner": {"s": 1}}, {"inner": {"s": 2}}]
    encoded = encode(values, coords={"s": [1, 2]})
    assert values == decode(encoded.tree, encoded.arrays, 2)


def test_a_missing_axis_is_an_error() -> None:
    """Without the axis, or with too few of its values, nothing is made up."""
    encoded = encode([{"s": 1}, {"s": 2}], coords={"s": [1, 2]})
    with pytest.raises(ChunkFormatError, match="'s'"):
        decode(encoded.tree, encoded.arrays, 2)
    with pytest.raises(ChunkFormatError, match="expected 2 values"):
        decode(encoded.tree, encoded.arrays, 2, coords={"s": [1]})


# --- classes -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Counting:
    """A dataclass that counts how often it is built by its own means."""

    x: int
    built = 0

    def __post_init__(self) -> None:
        """Count."""
        type(self).built += 1


class Guarded(NamedTuple):
    """A named tuple of two."""

    a: int
    b: str


@dataclasses.dataclass
class Deleting:
    """A dataclass whose end does something with what its fields say."""

    path: str
    deleted: ClassVar[list[str]] = []

    def __del__(self) -> None:
        """Note what would be deleted."""
        type(self).deleted.append(self.path)


class Base:
    """A class that only a registration can store."""

    def __init__(self, text: str) -> None:
        self.text = text


class Derived(Base):
    """A subclass without a registration of its own."""


@pytest.fixture
def registered() -> Iterator[None]:
    """Register `Base`, and forget it afterwards."""
    with clean_registry():
        register_encoding(Base, lambda base: {"text": base.text}, lambda d: Base(d["text"]))
        yield


@contextlib.contextmanager
def clean_registry() -> Iterator[None]:
    """Forget at the end what was registered meanwhile."""
    before = dict(classes._REGISTERED), dict(classes._REGISTERED_NAMES)
    try:
        yield
    finally:
        classes._REGISTERED.clear()
        classes._REGISTERED.update(before[0])
        classes._REGISTERED_NAMES.clear()
        classes._REGISTERED_NAMES.update(before[1])


def renamed(tree: Any, old: str, new: str) -> Any:
    """Return a tree with one word replaced."""
    return json.loads(json.dumps(tree).replace(json.dumps(old), json.dumps(new)))


def test_objects_are_built_without_their_code() -> None:
    """Neither ``__init__`` nor ``__post_init__`` runs when a dataclass is read."""
    values = [Counting(1), Counting(2)]
    before = Counting.built
    assert values == round_trip(values)
    assert before == Counting.built


def test_local_classes_come_back_in_the_process_that_stored_them() -> None:
    """A class that cannot be found by name is known because the encoder met it."""

    @dataclasses.dataclass(frozen=True, slots=True)
    class Local:
        x: int

    local_enum = enum.Enum("local_enum", "A B")
    point: Any = collections.namedtuple("point", ["x", "y"])
    values = [Local(1), local_enum.A, point(1, 2)]
    restored = round_trip(values)
    assert values == restored
    assert list(map(type, values)) == list(map(type, restored))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Plain(1, "a"), {"x": 1, "y": "a"}),
        (Frozen("n", 0.5), {"name": "n", "weight": 0.5}),
        (Guarded(1, "b"), {"a": 1, "b": "b"}),
        (Colour.RED, {"name": "RED"}),
        (Permission.READ | Permission.RUN, {"value": 5}),
    ],
)
def test_an_unknown_class_gives_a_record(value: Any, expected: dict[str, Any]) -> None:
    """A program without the class gets names and fields; stored again, they are as before."""
    encoded = encode([value])
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    unknown = f"not.{name}"
    (record,) = decode(renamed(encoded.tree, name, unknown), encoded.arrays, 1)
    assert Record(unknown, expected) == record
    assert unknown in repr(record)
    again = encode([record])
    assert encoded.tree == renamed(again.tree, unknown, name)
    assert [value] == decode(renamed(again.tree, unknown, name), again.arrays, 1)


def test_a_class_with_other_fields_gives_a_record() -> None:
    """Fields are never poured into a class that has changed."""
    for value in (Plain(1, 2), Guarded(1, "b")):
        encoded = encode([value])
        tree = {**encoded.tree, "names": ["other", encoded.tree["names"][1]]}
        (record,) = decode(tree, encoded.arrays, 1)
        assert isinstance(record, Record)
    (record,) = decode(encode([Colour.RED]).tree, {"value": np.array([b"GREEN"])}, 1)
    assert {"name": "GREEN"} == record.fields


def test_data_never_reaches_a_destructor() -> None:
    """A class with ``__del__`` is not rebuilt: its end would act on what a file says."""
    value = Deleting("kept")
    encoded = encode([value])
    arrays = {"path": np.array([b"from elsewhere"])}
    (record,) = decode(encoded.tree, arrays, 1)
    assert isinstance(record, Record)
    assert "from elsewhere" not in Deleting.deleted


def test_records_can_be_members_of_sets() -> None:
    """An enum member in a set, or as a key, is no obstacle to reading without the enum."""
    values = [{Colour.RED: {Colour.BLUE, Colour.RED}}]
    encoded = encode(values)
    tree = renamed(encoded.tree, "strategies:Colour", "gone:Colour")
    ((members,),) = (each.values() for each in decode(tree, encoded.arrays, 1))
    assert 2 == len(members)


def test_objects_that_hold_more_than_their_fields() -> None:
    """Attributes beside the fields of a dataclass come back too; a named tuple's are refused."""

    class Loose(Guarded):
        pass

    value = Plain(1)
    value.note = "beside"  # type: ignore[attr-defined]
    plain, other = round_trip([value, Plain(2)])
    assert ("beside", False) == (plain.note, hasattr(other, "note"))
    loose = Loose(1, "b")
    loose.note = "beside"  # type: ignore[attr-defined]
    with pytest.raises(PickleRefusedError, match="more than its fields"):
        encode([loose])
    del value.x
    with pytest.raises(PickleRefusedError, match="'x' is not set"):
        encode([value])


def test_classes_are_found_without_imports(tmp_path: pathlib.Path) -> None:
    """A class in a module that is not loaded is not looked for; a Record stands for it."""
    (tmp_path / "bomb.py").write_text("raise SystemExit('imported')\n")
    encoded = encode([Plain(1)])
    program = f"""
        import sys
        import numpy as np
        from chunk_memo.disk.encoding import decode
        tree = {renamed(encoded.tree, "strategies:Plain", "bomb:Plain")!r}
        arrays = {{"x": np.array([1], np.int8), "y": np.array([0], np.int8)}}
        print(decode(tree, arrays, 1))
        heavy = {{"pandas", "polars", "pyarrow", "xarray", "h5py", "bomb"}}
        print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={"PYTHONPATH": f"{tmp_path}:{pathlib.Path(__file__).parent.parent}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "" == done.stderr
    assert "[Record(class_name='bomb:Plain', fields={'x': 1, 'y': 0})]\n[]\n" == done.stdout


@pytest.mark.usefixtures("registered")
def test_registered_types_come_back() -> None:
    """A registration holds for the type and for subclasses without one."""
    one, two = round_trip([Base("a"), Derived("b")])
    assert [Base, Base] == [type(one), type(two)]
    assert ["a", "b"] == [one.text, two.text]
    register_encoding(Derived, lambda d: d.text, Derived)
    (three,) = round_trip([Derived("c")])
    assert (Derived, "c") == (type(three), three.text)


def test_an_unregistered_type_gives_a_record() -> None:
    """A program that has not registered the type gets what was stored of it."""
    with clean_registry():
        register_encoding(Base, lambda base: base.text, Base)
        encoded = encode([Base("a")])
    (record,) = decode(encoded.tree, encoded.arrays, 1)
    assert Record(f"{__name__}:Base", {"value": "a"}) == record
    assert encoded.tree == encode([record]).tree


@pytest.mark.usefixtures("registered")
def test_failing_registrations_are_named() -> None:
    """An error in a user's own function is reported with the type, never as damage."""
    encoded = encode([Base("a")])
    register_encoding(Base, lambda base: 1 / 0, lambda d: d["missing"])
    with pytest.raises(EncodingError, match=r"test_encoding:Base.*ZeroDivisionError"):
        encode([Base("a")])
    with pytest.raises(EncodingError, match=r"test_encoding:Base.*KeyError"):
        decode(encoded.tree, encoded.arrays, 1)
    with pytest.raises(EncodingError, match="expected a class"):
        register_encoding("Base", str, str)  # type: ignore[arg-type]


def test_objects_whose_attributes_differ_are_kept_apart() -> None:
    """Objects of one class may have attributes of their own, or the same in another order."""
    plain, more, turned = Plain(1, "a"), Plain(2, "b"), Plain(3, "c")
    more.extra = 0.5  # type: ignore[attr-defined]
    turned.__dict__ = {"y": "c", "x": 3}
    for values in ([plain, plain], [plain, more], [plain, turned]):
        assert list(map(vars, values)) == list(map(vars, round_trip(values)))


def test_records_are_not_shared() -> None:
    """Records that stand for one unknown member are objects of their own."""
    encoded = encode([Colour.RED, Colour.RED])
    name = f"{Colour.__module__}:{Colour.__qualname__}"
    one, two = decode(renamed(encoded.tree, name, f"not.{name}"), encoded.arrays, 2)
    one.fields["name"] = "changed"
    assert {"name": "RED"} == two.fields


def test_masked_arrays_are_not_imported_before_they_are_needed() -> None:
    """Importing the encodings does not import what only some outputs need."""
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        import chunk_memo.disk.encoding
        print("numpy.ma" in set(sys.modules) - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "False" == done.stdout.strip()


# --- what is refused, and pickles ----------------------------------------------------------------


class Text(str):
    """A string with a type of its own."""

    __slots__ = ()


class Number(float):
    """A float with a type of its own."""


class Mapping(dict[str, Any]):
    """A dictionary with a type of its own."""


class Vector(np.ndarray):
    """An array with a type of its own."""


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        (Text("a"), "output[1]", "test_encoding:Text"),
        ({"model": [0, Number(1)]}, "output[1]['model'][1]", "test_encoding:Number"),
        ({"a": {"b": (1, print)}}, "output[1]['a']['b'][1]", "builtin_function_or_method"),
        (Mapping(a=1), "output[1]", "test_encoding:Mapping"),
        (collections.defaultdict(int), "output[1]", "collections:defaultdict"),
        ({1, Text("a")}, "output[1]", "test_encoding:Text"),
        (Plain({"deep": Base("a")}), "output[1].x['deep']", "test_encoding:Base"),
        (Pair(1, lambda: 0), "output[1].second", "builtins:function"),
        (np.array([1, Base("a")], object), "output[1][1]", "test_encoding:Base"),
        ({Base: 1}, "output[1].keys()[0]", "builtins:type"),
        (np.zeros(2).view(Vector), "output[1]", "test_encoding:Vector"),
        (pd.Series(pd.arrays.SparseArray([0, 1])), "output[1]", "Sparse"),
        (ValueError("x"), "output[1]", "builtins:ValueError"),
    ],
)
def test_unknown_types_are_refused_with_their_place(value: Any, place: str, reason: str) -> None:
    """The message names path and type, and says what to do."""
    with pytest.raises(PickleRefusedError) as caught:
        encode([None, value])
    message = str(caught.value)
    assert place in message
    assert reason in message
    for way_out in ("register_encoding(", "arrays or plain values", "allow_pickle=True"):
        assert way_out in message


@pytest.mark.parametrize(
    "value", [Text("a"), Number(1), Mapping(a=1), collections.defaultdict(list, a=[1]), {1, print}]
)
def test_unknown_types_are_pickled_on_request(value: Any) -> None:
    """With ``allow_pickle`` on both sides the value comes back with its type."""
    values = [{"x": 1, "y": value}, {"x": 2, "y": value}]
    encoded = encode(values, allow_pickle=True)
    restored = decode(through_json(encoded.tree), encoded.arrays, 2, allow_pickle=True)
    assert values == restored
    assert type(value) is type(restored[0]["y"])
    with pytest.raises(PickleRefusedError, match="allow_pickle=True"):
        decode(encoded.tree, encoded.arrays, 2)


def test_only_what_must_be_is_pickled() -> None:
    """Pickles lie beside native columns, and the tree says where and of what type."""
    encoded = encode([{"x": 1.0, "f": print}, {"x": 2.0, "f": len}], allow_pickle=True)
    (part,) = pickled_parts(through_json(encoded.tree))
    assert PickledPart("f", ("builtins:builtin_function_or_method",), "f.lengths", "f.signature") == part
    assert not encoded.arrays["f.signature"].any()
    assert [1.0, 2.0] == encoded.arrays["x"].tolist()
    assert () == pickled_parts(encode([{"x": 1.0}], allow_pickle=True).tree)


def test_what_cannot_even_be_pickled_is_named() -> None:
    """An error of pickle itself says which value it was, of which type, and where."""
    fitting = {"model": [print]}
    with pytest.raises(EncodingError, match=r"output\[1\]\['model'\]\[0\].*builtins:function.*register_encoding"):
        encode([fitting, {"model": [lambda: 0]}], allow_pickle=True)


def test_a_pickle_that_cannot_be_loaded_is_no_damage() -> None:
    """A class that is gone is an `EncodingError`, so that no file is set aside for it."""
    encoded = encode([Text("a")], allow_pickle=True)
    arrays = {
        name: np.frombuffer(array.tobytes().replace(b"Text", b"Tixt"), array.dtype)
        for name, array in encoded.arrays.items()
    }
    with pytest.raises(EncodingError, match="Tixt"):
        decode(encoded.tree, arrays, 1, allow_pickle=True)


def test_an_endless_value_is_refused() -> None:
    """A list that holds itself is an error, unless pickles are allowed."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PickleRefusedError, match="100 levels"):
        encode([endless])
    encoded = encode([endless, 1], allow_pickle=True)
    restored, one = decode(encoded.tree, encoded.arrays, 2, allow_pickle=True)
    assert restored is restored[0]
    assert 1 == one


@pytest.mark.parametrize("depth", [1, 60, 90])
def test_deep_values_come_back(depth: int) -> None:
    """Nesting up to a hundred levels is stored natively."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    assert [value] == round_trip([value])


# --- objects that are arrays ---------------------------------------------------------------------


class ArrayLike:
    """An object with ``__array__``."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Return the array that this stands for."""
        return np.arange(3)


class Lender:
    """An object with DLPack only."""

    def __dlpack__(self, **more: Any) -> Any:
        """Lend the memory of an array."""
        return np.arange(4.0).__dlpack__(**more)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Say that the memory is the processor's."""
        return np.arange(4.0).__dlpack_device__()


class Failing:
    """An object whose ``__array__`` does not work."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Fail."""
        raise RuntimeError("on another device")


def test_array_likes_become_arrays() -> None:
    """Objects with ``__array__`` or DLPack are arrays."""
    one, two = round_trip([ArrayLike(), Lender()])
    assert same(np.arange(3), one)
    assert same(np.arange(4.0), two)
    with pytest.raises(PickleRefusedError, match="on another device"):
        encode([Failing()])


# --- tables --------------------------------------------------------------------------------------


PANDAS_COLUMNS = {
    "int": pd.Series([1, 2], dtype="int16"),
    "float": pd.Series([1.5, math.nan]),
    "text": pd.Series(["x", None], dtype="string"),
    "inferred": pd.Series(["x", "y"]),
    "object": pd.Series([1, "z"], dtype=object),
    "texts as objects": pd.Series(["q", None], dtype=object),
    "category": pd.Series(pd.Categorical(["u", None], ["u", "v"], ordered=True)),
    "nullable": pd.Series([1, None], dtype="Int64"),
    "unsigned": pd.Series([1, None], dtype="UInt8"),
    "float32": pd.Series([1.5, None], dtype="Float32"),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "time": pd.Series(pd.to_datetime(["2020-01-01", None])),
    "seconds": pd.Series(np.array(["2020", "2021"], "M8[s]")),
    "zoned": pd.Series(pd.to_datetime(["2020-01-01", None], utc=True)).dt.tz_convert(
        datetime.timezone(datetime.timedelta(hours=2))
    ),
    "delta": pd.Series(pd.to_timedelta([1, None], unit="s")),
    "period": pd.Series(pd.period_range("2020-01", periods=2, freq="M")),
    "interval": pd.Series(pd.interval_range(0, 2)),
    "arrow": pd.Series([1, None], dtype="int64[pyarrow]"),
}


@pytest.mark.parametrize("name", PANDAS_COLUMNS)
def test_pandas_columns(name: str) -> None:
    """Series and frames of every dtype come back with dtype, index and name."""
    series = PANDAS_COLUMNS[name].rename(name)
    frame = series.to_frame()
    frame.attrs["unit"] = {"of": [1, 2]}
    restored, restored_frame = round_trip([series, frame])
    pd.testing.assert_series_equal(series, restored, check_flags=True)
    pd.testing.assert_frame_equal(frame, restored_frame, check_flags=True)
    assert frame.attrs == restored_frame.attrs
    assert type(frame.index) is type(restored_frame.index)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([3, 1], name="n"),
        pd.Index(["a", "b"], dtype=object),
        pd.RangeIndex(4, 0, -2),
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", None]),
        pd.date_range("2020", periods=3, freq="h"),
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.timedelta_range("1s", periods=2),
        pd.CategoricalIndex(["a", "b"]),
        pd.period_range("2020", periods=2, freq="D"),
        pd.interval_range(0, 2),
        pd.Index([]),
    ],
)
def test_pandas_indexes(index: Any) -> None:
    """Indexes come back with class, names and frequency; also as rows and columns of a frame."""
    frame = pd.DataFrame(np.eye(len(index)), index=index, columns=index)
    restored, restored_frame = round_trip([index, frame])
    pd.testing.assert_index_equal(index, restored, exact=True)
    pd.testing.assert_frame_equal(frame, restored_frame)
    assert type(index) is type(restored)
    assert getattr(index, "freq", None) == getattr(restored, "freq", None)


def test_odd_frames() -> None:
    """Empty frames, repeated labels and flags come back."""
    strict = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    frames = [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["x"]),
        pd.DataFrame([[1, 2.0]], columns=["a", "a"]),
        pd.DataFrame([[1, 2.0]], columns=[0, "a"]),
        strict,
    ]
    for frame, restored in zip(frames, round_trip(frames), strict=True):
        pd.testing.assert_frame_equal(frame, restored, check_flags=True)


def test_pandas_scalars() -> None:
    """Timestamps keep unit and zone; missing values stay the ones that they are."""
    values = [
        pd.Timestamp("2020-01-01 00:00:00.123456789"),
        pd.Timestamp("2020", tz="UTC"),
        pd.Timestamp("2020").as_unit("s"),
        pd.Timedelta(5, "ns"),
        pd.NA,
        pd.NaT,
    ]
    restored = round_trip(values)
    assert values[:4] == restored[:4]
    assert [v.unit for v in values[:4]] == [v.unit for v in restored[:4]]
    assert restored[4] is pd.NA
    assert restored[5] is pd.NaT


def test_frames_of_one_form_share_columns() -> None:
    """Frames of one form are pointwise, with one array per column."""
    encoded = encode([pd.DataFrame({"x": [1.0, 2.0], "y": [i, i]}) for i in range(3)])
    assert encoded.pointwise
    assert (3, 2) == encoded.arrays["cells/x/numpy"].shape


def test_polars_objects() -> None:
    """Frames and series of polars come back with their dtypes."""
    frames = [
        pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], [2, 3]]}),
        pl.DataFrame({"e": pl.Series(["a"], dtype=pl.Enum(["a", "b"]))}),
        pl.DataFrame(),
    ]
    series = pl.Series("z", [1.5, None], dtype=pl.Float32)
    *restored, one = round_trip([*frames, series])
    for frame, other in zip(frames, restored, strict=True):
        assert frame.equals(other)
        assert frame.schema == other.schema
    assert series.equals(one, check_dtypes=True, check_names=True)


def test_arrow_objects() -> None:
    """Tables, batches and arrays of pyarrow come back with types and metadata."""
    table = pa.table({"a": [1, 2], "b": ["x", None]}).replace_schema_metadata({"k": "v"})
    batch = pa.record_batch([pa.array([1], pa.int8())], names=["x"])
    values = [table, pa.table({}), batch, batch.slice(1), pa.chunked_array([[1], [2]])]
    for value, restored in zip(values, round_trip(values), strict=True):
        assert type(value) is type(restored)
        assert value.equals(restored)
    (restored,) = round_trip([table])
    assert table.schema.equals(restored.schema, check_metadata=True)
    arrays = [pa.array([1, None]), pa.array(["x"]).dictionary_encode(), pa.array([], pa.null())]
    for array, restored in zip(arrays, round_trip(arrays), strict=True):
        assert array.type == restored.type
        assert array.equals(restored)


def xarray_objects() -> list[Any]:
    """Return arrays and data sets with coordinates of many kinds."""
    coords: Any = {"x": ["a", "b"], "z": ("y", [1, 2, 3]), "t": 5.0}
    array = xr.DataArray(np.arange(6.0).reshape(2, 3), coords, ("x", "y"), name="q", attrs={"unit": "m"})
    times = array.assign_coords(y=pd.date_range("2020", periods=3))
    return [
        array,
        array.rename(None),
        array.to_dataset().assign_attrs(title="t"),
        array.drop_indexes("x"),
        times,
        array.drop_vars("x").stack(s=("x", "y")),
        xr.DataArray(5),
        xr.Dataset(),
        xr.Variable("x", [1, 2], {"a": 1}),
    ]


@pytest.mark.parametrize("position", range(9))
def test_xarray_objects(position: int) -> None:
    """Arrays and data sets come back with coordinates, indexes, names and attributes."""
    value = xarray_objects()[position]
    (restored,) = round_trip([value])
    assert type(value) is type(restored)
    assert value.identical(restored)
    assert list(getattr(value, "xindexes", ())) == list(getattr(restored, "xindexes", ()))


# --- malformed trees and arrays ------------------------------------------------------------------

ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**9,
    10**30,
    1.5,
    "",
    "value",
    "int",
    "list",
    "dict",
    "mix",
    "class",
    "as",
    "masked",
    "|O",
    "builtins:type",
    "os:system",
    [],
    {},
    [[]],
    {"k": "none"},
]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) inside a tree."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    found = [(tree, key) for key in keys]
    for key in keys:
        if isinstance(tree[key], dict | list):
            found += places(tree[key])
    return found


def damaged_tree(tree: Any, chance: random.Random) -> Any:
    """Return a tree with one place changed."""
    holder = [copy.deepcopy(tree)]
    container, key = chance.choice(places(holder))
    if isinstance(container, dict) and chance.random() < 0.3:
        del container[key]
    elif chance.random() < 0.3:
        other, name = chance.choice(places(holder))
        container[key] = copy.deepcopy(other[name])
    else:
        container[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    return holder[0]


def damaged_arrays(arrays: dict[str, np.ndarray], chance: random.Random) -> dict[str, np.ndarray]:
    """Return arrays with one missing, of another shape or dtype, or with other content."""
    changed = dict(arrays)
    name = chance.choice(list(arrays))
    array = arrays[name]
    kind = chance.randrange(6)
    if kind == 0:
        del changed[name]
    elif kind == 1:
        changed[name] = array[:-1]
    elif kind == 2:
        changed[name] = array[..., None]
    elif kind == 3:
        changed[name] = np.full(array.shape, chance.choice([b"?", 1.5, -3, 2**62, True, 1j]))
    elif kind == 4:
        content = bytes(chance.randrange(256) for _ in range(array.nbytes))
        changed[name] = np.frombuffer(content, array.dtype).reshape(array.shape)
    else:
        changed[name] = arrays[chance.choice(list(arrays))]
    return changed


def samples() -> list[list[Any]]:
    """Return outputs whose trees have nodes of every kind."""
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return [
        [1, 2, 3],
        [1, None, "a", 2.5],
        [2**70, 1],
        ["a" * 300, "b", "c\0"],
        [b"ab", b"c"],
        [{"a": [1, 2], "b": (1, "x")}, {"a": [3, 4], "b": (2, "y")}],
        [[1], [2, 3], []],
        [{"a": 1}, {"b": 2}, [3]],
        [{i: i for i in range(n)} for n in range(20)],
        [np.arange(2), np.arange(3)],
        [np.eye(2), np.eye(2)],
        [np.array(["a", "ü"]), np.array(["long"])],
        [np.zeros(2, [("a", "i4"), ("b", "U2")])] * 2,
        [np.zeros(2, [("a", "i4"), ("b", "f4")])] * 2,
        [np.float32(1), np.float32(2)],
        [np.ma.masked_array([1, 2], [True, False])] * 2,
        [np.array([1, "a"], object)],
        [when, datetime.timedelta(1), datetime.date(2020, 1, 1), datetime.time(1)],
        [datetime.datetime(2020, 1, 1), datetime.datetime(2021, 1, 1)],
        [Fraction(1, 3), Decimal(1), range(3), slice(1), {1}, collections.deque([1])],
        [Colour.RED, Permission(5), Plain(1, 2), Pair(1, 2), Frozen("a", 1.0)],
        [{f"key {i}": i for i in range(100)}] * 2,
        [None, None],
        [[None, None], [None]],
        [pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})],
        [pd.Series(pd.date_range("2020", periods=2, tz="UTC"))],
        [pl.DataFrame({"x": [1]}), pa.table({"x": [1]})],
        [xr.DataArray([1, 2], {"x": [3, 4]}, "x")],
    ]


def outcome(tree: Any, arrays: dict[str, np.ndarray], count: int) -> str:
    """Return what became of an attempt to decode; other exceptions go on."""
    try:
        return "decoded" if len(decode(tree, arrays, count)) == count else "wrong count"
    except (ChunkFormatError, EncodingError) as error:
        text = str(error)
        return "lacking" if "time zone" in text or "installed" in text else type(error).__name__


def test_chunk_files_hold_encodings() -> None:
    """What a chunk file gives back decodes to the outputs, as rows of a grid or raw."""
    for values in samples():
        encoded = encode(values)
        dims = dict.fromkeys(encoded.arrays, ("point",)) if encoded.pointwise else {}
        content = chunkfile.Content(
            constant=encoded.tree,
            identity=b"",
            arrays=encoded.arrays,
            dims=dims,
            coords={"point": len(values)},
            created_at=0,
            seconds=0.0,
        )
        chunk = chunkfile.parse(b"".join(chunkfile.image(content)))
        arrays = {name: chunk.array(name) for name in encoded.arrays}
        restored = encode(decode(chunk.constant, arrays, len(values)))
        assert encoded.tree == restored.tree
        assert list(encoded.arrays) == list(restored.arrays)
        for name, array in encoded.arrays.items():
            assert array.dtype == restored.arrays[name].dtype
            assert array.tobytes() == restored.arrays[name].tobytes()


def check_malformed(rounds: int) -> None:
    """Damage samples at random; decoding gives outputs or an error of this library."""
    chance = random.Random(rounds)
    outcomes: collections.Counter[str] = collections.Counter()
    for values in samples():
        encoded = encode(values)
        for _ in range(rounds):
            tree, arrays = encoded.tree, encoded.arrays
            if arrays and chance.random() < 0.4:
                arrays = damaged_arrays(arrays, chance)
            else:
                tree = damaged_tree(tree, chance)
            outcomes[outcome(tree, arrays, len(values))] += 1
    assert {"decoded", "ChunkFormatError", "PickleRefusedError", "lacking"} >= set(outcomes)
    assert outcomes["ChunkFormatError"] > outcomes["decoded"] / 4 > 0


def test_malformed_encodings_are_errors() -> None:
    """Whatever is wrong with tree or arrays, the error is a `ChunkFormatError`."""
    check_malformed(300)


@pytest.mark.long
def test_malformed_encodings_are_errors_long() -> None:
    """Whatever is wrong with tree or arrays, the error is a `ChunkFormatError`."""
    check_malformed(10_000)


@pytest.mark.parametrize("tree", [None, 1, "int", [], {}, {"k": "unheard of"}, {"k": []}])
def test_what_is_no_tree_is_an_error(tree: Any) -> None:
    """Anything but a node is a `ChunkFormatError`, for outputs and for single arrays."""
    with pytest.raises(ChunkFormatError):
        decode(tree, {}, 1)
    with pytest.raises(ChunkFormatError):
        decode_array(tree, {})


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    """Counts are bounded by the arrays, also for values that have no bytes of their own."""
    node = {"k": "list", "size": 10**12, "folded": False, "of": {"k": "none"}}
    with pytest.raises(ChunkFormatError, match="at most"):
        decode(node, {}, 1)
    lengths = {"value.lengths": np.array([2**50])}
    tree = {"k": "list", "lengths": "value.lengths", "of": {"k": "none"}}
    with pytest.raises(ChunkFormatError):
        decode(tree, lengths, 1)


def test_object_dtypes_are_never_made_from_a_file() -> None:
    """A tree that asks for object pointers is refused."""
    encoded = encode([np.zeros(2, [("a", "i8")])])
    with pytest.raises(ChunkFormatError, match="dtype"):
        decode(renamed(encoded.tree, "<i8", "|O8"), encoded.arrays, 1)


STREAMS = [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("stream", STREAMS)
def test_random_numbers_go_on_where_they_were(stream: Any) -> None:
    """Generators, old and new, their streams and seeds: the next numbers, and children, are the same."""
    seeds = np.random.SeedSequence([1, 2**70], spawn_key=(3,))
    generator, old, plain = np.random.Generator(stream(seeds)), np.random.RandomState(stream(5)), random.Random(7)
    generator.integers(0, 9, dtype=np.uint32)  # half of a 64-bit number is kept for the next one
    generator.spawn(2)
    old.standard_normal(3)  # one of a pair of normal numbers is kept
    plain.gauss(0, 1)
    own = np.random.SeedSequence(9).spawn(1)[0]
    encoded = encode([{"new": generator, "old": old, "plain": plain, "stream": stream(3), "seeds": own}])
    [found] = decode(json.loads(json.dumps(encoded.tree)), encoded.arrays, 1)

    def next_of(state: dict[str, Any]) -> list[Any]:
        return [
            state["new"].integers(0, 9, 5, np.uint32).tolist(),
            state["new"].normal(size=5).tobytes(),
            state["new"].spawn(1)[0].random(),
            state["old"].standard_normal(5).tobytes(),
            [state["plain"].gauss(0, 1), state["plain"].random()],
            state["stream"].random_raw(3).tolist(),
            state["seeds"].spawn(1)[0].generate_state(2).tolist(),
        ]

    given = {"new": generator, "old": old, "plain": plain, "stream": stream(3), "seeds": own}
    assert next_of(given) == next_of(found)


def test_a_damaged_state_of_random_numbers_is_an_error() -> None:
    """It is a `ChunkFormatError`, not whatever NumPy makes of it."""
    encoded = encode([np.random.default_rng(1)])
    name = next(name for name in encoded.arrays if name.endswith("bit_generator"))
    with pytest.raises(ChunkFormatError):
        decode(encoded.tree, {**encoded.arrays, name: np.array([b"other"])}, 1)
