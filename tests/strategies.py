"""Hypothesis strategies for outputs that need no pickle, and when two of them are the same."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import math
import pathlib
import struct
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

__all__ = [
    "Colour",
    "Frozen",
    "Pair",
    "Permission",
    "Plain",
    "arrays",
    "columns",
    "same",
    "values",
]


class Colour(enum.Enum):
    """An enum whose values are of two types."""

    RED = 1
    BLUE = "b"


class Permission(enum.IntFlag):
    """A flag, so that combinations without a name occur."""

    READ = 1
    WRITE = 2
    RUN = 4


@dataclasses.dataclass
class Plain:
    """A dataclass with a dictionary of its own."""

    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass with slots, which cannot be assigned to."""

    name: str
    weight: float


class Pair(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


# --- leaves --------------------------------------------------------------------------------------

_zones = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
    ),
    st.builds(datetime.timezone, st.just(datetime.timedelta(hours=1)), st.text(max_size=3)),
    st.timezones(),
)
_text = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(), max_size=3),  # lone surrogates too
    st.text("a\0", max_size=4),
    st.builds(lambda letter, times: letter * times, st.sampled_from("aü\0"), st.integers(0, 300)),
)
_ints = st.one_of(
    st.integers(-200, 200),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([-(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 1 << 4000]),
)
_scalar_dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="="),
    hnp.timedelta64_dtypes(endianness="="),
    st.just(np.dtype(np.longdouble)),
    st.just(np.dtype(np.clongdouble)),
)


@st.composite
def _numpy_scalars(draw: st.DrawFn) -> Any:
    dtype = draw(_scalar_dtypes)
    return draw(hnp.arrays(dtype, (1,)))[0]


_LEAVES: list[st.SearchStrategy[Any]] = [
    st.none(),
    st.booleans(),
    _ints,
    st.floats(),
    st.complex_numbers(),
    _text,
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=_zones),
    st.builds(
        lambda when, fold: when.replace(fold=fold),
        st.datetimes(timezones=_zones),
        st.integers(0, 1),
    ),
    st.times(timezones=st.one_of(st.none(), st.just(datetime.UTC))),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=5)),
    st.builds(pathlib.PureWindowsPath, st.text("aB\\:", max_size=5)).filter(
        lambda path: pathlib.PureWindowsPath(str(path)).parts == path.parts
    ),
    st.builds(pathlib.Path, st.text("ab/", max_size=5)),
    st.builds(range, st.integers(-5, 5), st.integers(), st.integers(1, 9)),
    st.builds(slice, st.integers(-5, 5), st.none(), st.one_of(st.none(), st.text(max_size=2))),
    st.builds(bytearray, st.binary(max_size=5)),
    st.just(...),
    _zones,
    st.sampled_from(Colour),
    st.builds(Permission, st.integers(0, 7)),
    st.builds(Frozen, st.text(max_size=3), st.floats()),
    _numpy_scalars(),
    st.builds(np.str_, _text),
    st.builds(np.bytes_, st.binary(max_size=4)),
]

_HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.sampled_from(Colour),
    st.tuples(st.integers(-3, 3), st.text(max_size=2)),
    st.just(np.float32(0.5)),
)

_shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
_array_dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.scalar_dtypes(),
    hnp.array_dtypes(max_size=3, allow_subarrays=True),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
    st.just(np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True)),
)


def arrays(min_dims: int = 0) -> st.SearchStrategy[np.ndarray]:
    """Return arrays of every dtype but object, of `min_dims` to three dimensions."""
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=0, max_side=3)
    return hnp.arrays(_array_dtypes, shapes)


def _masked(data: np.ndarray, seed: int) -> np.ma.MaskedArray[Any, Any]:
    mask = np.random.default_rng(seed).random(data.shape) < 0.5
    return np.ma.MaskedArray(data, mask)


def _object_array(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    for position, item in enumerate(items):
        array[position] = item
    return array


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.lists(inner, max_size=4)
    return st.one_of(
        few,
        few.map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.dictionaries(_HASHABLE, inner, max_size=4),
        st.sets(_HASHABLE, max_size=4),
        st.frozensets(_HASHABLE, max_size=4),
        few.map(collections.deque),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
        st.builds(collections.Counter, st.text("abc", max_size=5)),
        st.builds(Plain, inner, inner),
        st.builds(Pair, inner, inner),
        few.map(_object_array),
        st.builds(_masked, hnp.arrays(np.float64, _shapes), st.integers(0, 9)),
    )


values: st.SearchStrategy[Any] = st.recursive(st.one_of(*_LEAVES, arrays()), _containers, max_leaves=8)
"""Any output that needs no pickle."""


# --- columns -------------------------------------------------------------------------------------


def _alike(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """From a strategy of forms (each a strategy of alike values) to forms of containers."""
    few = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        few.map(lambda forms: st.tuples(*forms)),
        few.map(lambda forms: st.tuples(*forms).map(list)),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(st.fixed_dictionaries),
        st.dictionaries(_HASHABLE, inner, max_size=3).map(st.fixed_dictionaries),
        st.tuples(inner, st.integers(0, 4)).map(
            lambda pair: st.lists(pair[0], min_size=pair[1], max_size=pair[1])
        ),
        inner.map(lambda form: st.lists(form, max_size=4)),
        inner.map(lambda form: st.one_of(st.none(), form)),
        st.tuples(inner, inner).map(lambda pair: st.builds(Plain, *pair)),
        st.tuples(inner, inner).map(lambda pair: st.one_of(*pair)),
    )


_forms: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.sampled_from(_LEAVES),
        st.tuples(_array_dtypes, _shapes).map(lambda pair: hnp.arrays(*pair)),
        _array_dtypes.map(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_side=3))),
        _scalar_dtypes.map(lambda dtype: hnp.arrays(dtype, (1,)).map(lambda array: array[0])),
    ),
    _alike,
    max_leaves=5,
)

columns: st.SearchStrategy[list[Any]] = st.one_of(
    _forms.flatmap(lambda form: st.lists(form, max_size=6)),
    st.lists(values, max_size=5),
)
"""Outputs of several points: of one form, as sweeps return them, or of any."""


# --- sameness ------------------------------------------------------------------------------------


def same(one: Any, two: Any) -> bool:
    """Tell whether two outputs are the same value of the same type, all the way down."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ma.MaskedArray):
        return same(one.data, two.data) and same(np.asarray(one.mask), np.asarray(two.mask))
    if isinstance(one, np.ndarray):
        return _same_arrays(one, two)
    if isinstance(one, np.generic) and not isinstance(one, str | bytes):
        return _same_arrays(np.asarray(one), np.asarray(two))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", two)
    if isinstance(one, complex):
        return same(one.real, two.real) and same(one.imag, two.imag)
    if isinstance(one, str | bytes):  # str() of a NumPy string would drop a trailing NUL
        return len(one) == len(two) and list(one) == list(two)
    if isinstance(one, dict):
        return same(list(one.items()), list(two.items()))
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, set | frozenset):
        return _same_sets(one, two)
    if isinstance(one, slice):
        return same((one.start, one.stop, one.step), (two.start, two.stop, two.step))
    if isinstance(one, Decimal):
        return str(one) == str(two)
    if isinstance(one, datetime.datetime | datetime.time):
        zones = same(one.tzinfo, two.tzinfo)
        local = one.replace(tzinfo=None) == two.replace(tzinfo=None)
        return local and one.fold == two.fold and zones
    if isinstance(one, enum.Enum):
        return one is two
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        fields = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(two, name)) for name in fields)
    return bool(one == two) and str(one) == str(two)


def _same_sets(one: Any, two: Any) -> bool:
    rest = list(two)
    for member in one:
        match = next((n for n, other in enumerate(rest) if same(member, other)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def _same_arrays(one: np.ndarray, two: np.ndarray) -> bool:
    if one.dtype != two.dtype or str(one.dtype) != str(two.dtype) or one.shape != two.shape:
        return False
    if one.dtype.fields is not None:
        return all(_same_arrays(one[name], two[name]) for name in one.dtype.names or ())
    if one.dtype.kind == "O":
        return all(map(same, one.ravel().tolist(), two.ravel().tolist()))
    if one.dtype.kind in "fc":
        parts = [(one.real, two.real), (one.imag, two.imag)] if one.dtype.kind == "c" else []
        return all(
            np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))
            for a, b in parts or [(one, two)]
        )
    if one.dtype.kind == "U":  # invalid code points do not compare
        return one.tobytes() == two.tobytes()
    return math.prod(one.shape) == 0 or one.tobytes() == two.tobytes()
