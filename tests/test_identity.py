"""Values: canonical bytes, digests, their inverse, and what is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import inspect
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import types
import unittest.mock
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chunk_memo.errors import ChunkFormatError, IdentityError
from chunk_memo.identity import (
    MAX_DEPTH,
    Opaque,
    canonical_bytes,
    canonical_many,
    decode_canonical,
    digest,
    digest_of_bytes,
    from_jsonable,
    normalize,
    params_to_cache_id,
    register_identity,
    second_digest,
    to_jsonable,
)

GOLDEN = Path(__file__).with_name("golden_digests.json")


def golden_values() -> dict[str, list[Any]]:
    """Return named lists of values: equal within a list, different across lists.

    Self-contained, because its text is run by itself under twenty hash seeds.
    """
    import collections
    import dataclasses
    import datetime as dt
    import decimal
    import enum
    import fractions
    import functools
    import operator
    import pathlib
    import re
    import types
    import typing
    import uuid
    import zoneinfo

    import numpy as np

    class Color(enum.Enum):
        __module__, __qualname__ = "golden", "Color"
        RED = 1
        BLUE = 2

    class Size(enum.Enum):
        __module__, __qualname__ = "golden", "Size"
        RED = 1

    class Level(enum.IntEnum):
        __module__, __qualname__ = "golden", "Level"
        LOW = 1

    class Perm(enum.Flag):
        __module__, __qualname__ = "golden", "Perm"
        R = 1
        W = 2

    @dataclasses.dataclass(frozen=True)
    class Point:
        __module__, __qualname__ = "golden", "Point"
        x: typing.Any
        y: typing.Any = 0

    class Pair(typing.NamedTuple):
        x: typing.Any
        y: typing.Any

    Pair.__module__, Pair.__qualname__ = "golden", "Pair"

    class Name(str):
        __module__, __qualname__ = "golden", "Name"

    class Stack(list[typing.Any]):
        __module__, __qualname__ = "golden", "Stack"

    nan = float("nan")
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    grid = np.arange(6).reshape(2, 3)
    packed = [("a", "i1"), ("b", "f8")]
    rows = [(1, 2.5), (3, nan)]
    tail_nan = np.array([0x7FF8000000000001], "u8").view("f8")
    values: dict[str, list[typing.Any]] = {
        "None": [None],
        "True": [True, np.bool_(True)],
        "False": [False, np.bool_(False)],
        "Ellipsis": [...],
        "NotImplemented": [NotImplemented],
        "0": [0, np.int64(0)],
        "1": [1, np.int64(1), np.longlong(1)],
        "-1": [-1],
        "int 64": [2**63 - 1],
        "int -64": [-(2**63)],
        "int 65": [2**63],
        "int -65": [-(2**63) - 1],
        "int huge": [10**400],
        "int huge negative": [-(10**400)],
        "0.0": [0.0, np.float64(0)],
        "-0.0": [-0.0, np.float64(-0.0)],
        "1.0": [1.0, np.float64(1)],
        "0.1": [0.1, np.float64(0.1)],
        "0.1+0.2": [0.1 + 0.2],
        "0.3": [0.3],
        "1e-13": [1e-13],
        "2e-13": [2e-13],
        "nan": [nan, -nan, float(tail_nan[0]), np.float64("nan")],
        "inf": [float("inf")],
        "-inf": [float("-inf")],
        "1j": [1j, np.complex128(1j)],
        "-0+1j": [complex(-0.0, 1)],
        "1+0j": [1 + 0j],
        "nan+1j": [complex(nan, 1), complex(-nan, 1)],
        "str empty": ["", np.str_("")],
        "str a": ["a", np.str_("a")],
        "str 1": ["1"],
        "str nul": ["a\0", np.str_("a\0")],
        "str composed": ["\u00e9"],
        "str decomposed": ["e\u0301"],
        "str surrogate": ["\ud800"],
        "str surrogates": ["\ud83d\ude00"],
        "str emoji": ["\U0001f600"],
        "str long": ["x" * 300],
        "bytes empty": [b"", np.bytes_(b"")],
        "bytes a": [b"a", np.bytes_(b"a")],
        "bytearray a": [bytearray(b"a")],
        "list empty": [[]],
        "tuple empty": [()],
        "set empty": [set()],
        "frozenset empty": [frozenset()],
        "dict empty": [{}],
        "list 1 2": [[1, 2], [np.int64(1), np.int64(2)], [1, np.int64(2)]],
        "list 12": [[12]],
        "list ab": [["ab"]],
        "list a b": [["a", "b"]],
        "tuple 1 2": [(1, 2)],
        "list 1.0 2.0": [[1.0, 2.0], [np.float64(1), 2.0]],
        "list nested left": [[[1], 2]],
        "list nested right": [[1, [2]]],
        "list floats": [[0.5] * 50, [np.float64(0.5)] * 50],
        "list ints": [list(range(50)), list(np.arange(50, dtype="i8"))],
        "list large ints": [[2**70] * 50],
        "list nans": [[nan] * 50, [-nan] * 50],
        "set 1 2": [{1, 2}, {2, 1}],
        "frozenset 1 2": [frozenset({1, 2})],
        "set mixed": [{1, "a", None, 2.5}, {None, 2.5, "a", 1}],
        "set words": [{"one", "two", "three"}, {"three", "one", "two"}],
        "dict a 1": [{"a": 1}],
        "dict 1 a": [{1: "a"}],
        "dict '1' a": [{"1": "a"}],
        "dict ordered": [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
        "dict swapped": [{"a": 2, "b": 1}],
        "dict mixed keys": [{1: 0, "a": 1, None: 2}, {None: 2, "a": 1, 1: 0}],
        "items": [[("a", 1)]],
        "ordered dict": [collections.OrderedDict(a=1, b=2)],
        "ordered dict reversed": [collections.OrderedDict(b=2, a=1)],
        "default dict": [collections.defaultdict(list, a=[1])],
        "counter": [collections.Counter("aab")],
        "deque": [collections.deque([1, 2])],
        "deque bounded": [collections.deque([1, 2], 2)],
        "mapping proxy": [types.MappingProxyType({"a": 1})],
        "namespace": [types.SimpleNamespace(a=1)],
        "range": [range(3)],
        "range step": [range(0, 6, 2)],
        "slice": [slice(3)],
        "slice full": [slice(0, 3, 1)],
        "decimal 1.5": [decimal.Decimal("1.5")],
        "decimal 1.50": [decimal.Decimal("1.50")],
        "decimal -0": [decimal.Decimal("-0")],
        "decimal nan": [decimal.Decimal("NaN")],
        "decimal inf": [decimal.Decimal("Infinity")],
        "fraction": [fractions.Fraction(3, 2), fractions.Fraction(6, 4)],
        "uuid": [uuid.UUID(int=5)],
        "date": [dt.date(2020, 1, 2)],
        "datetime": [dt.datetime(2020, 1, 2)],
        "datetime utc": [dt.datetime(2020, 1, 2, tzinfo=dt.UTC)],
        "datetime +0": [dt.datetime(2020, 1, 2, tzinfo=dt.timezone(dt.timedelta(0), "Z"))],
        "datetime zone": [dt.datetime(2020, 10, 25, 2, 30, tzinfo=berlin)],
        "datetime fold": [dt.datetime(2020, 10, 25, 2, 30, tzinfo=berlin, fold=1)],
        "time": [dt.time(1, 2, 3, 4)],
        "time utc": [dt.time(1, 2, 3, 4, tzinfo=dt.UTC)],
        "timedelta": [dt.timedelta(1), dt.timedelta(hours=24)],
        "timezone": [dt.timezone(dt.timedelta(hours=2))],
        "zone": [berlin],
        "path": [
            pathlib.Path("a/b"),
            pathlib.PurePosixPath("a/b"),
            pathlib.PureWindowsPath("a\\b"),
        ],
        "path text": ["a/b"],
        "pattern": [re.compile("a+")],
        "pattern flags": [re.compile("a+", re.IGNORECASE)],
        "pattern bytes": [re.compile(b"a+")],
        "enum": [Color.RED],
        "enum other member": [Color.BLUE],
        "enum other class": [Size.RED],
        "enum int": [Level.LOW],
        "flag": [Perm.R],
        "flags": [Perm.R | Perm.W, Perm.W | Perm.R],
        "flag none": [Perm(0)],
        "dataclass": [Point(1), Point(np.int64(1), 0)],
        "dataclass float": [Point(1.0)],
        "dataclass list": [Point([1, 2])],
        "namedtuple": [Pair(1, 0)],
        "tuple 1 0": [(1, 0)],
        "str subclass": [Name("a")],
        "list subclass": [Stack([1, 2])],
        "class int": [int],
        "class str": [str],
        "class enum": [Color],
        "class numpy": [np.float64],
        "len": [len],
        "max": [max],
        "str.upper": [str.upper],
        "partial": [functools.partial(int, base=2)],
        "partial 10": [functools.partial(int, base=10)],
        "itemgetter": [operator.itemgetter(1)],
        "itemgetter 2": [operator.itemgetter(2)],
        "float32 1": [np.float32(1)],
        "float16 1": [np.float16(1)],
        "float32 nan": [np.float32("nan"), -np.float32("nan")],
        "int32 1": [np.int32(1)],
        "int8 1": [np.int8(1)],
        "uint64 1": [np.uint64(1)],
        "complex64": [np.complex64(1)],
        "longdouble": [np.longdouble(1) / 3] if np.finfo(np.longdouble).nmant == 63 else [None][:0],
        "datetime64 D": [np.datetime64("2020-01-01", "D")],
        "datetime64 s": [np.datetime64("2020-01-01", "s")],
        "NaT": [np.datetime64("NaT", "s")],
        "timedelta64": [np.timedelta64(1, "D")],
        "void": [np.void(b"ab")],
        "record": [np.array(rows, packed)[0]],
        "array 0-d": [np.array(1.0)],
        "array 1": [np.array([1.0]), np.array([1.0], ">f8")],
        "array int": [np.array([1]), np.array([1], ">i8"), np.array([0, 1, 0])[1::2]],
        "array int32": [np.array([1], "i4")],
        "array empty": [np.array([])],
        "array empty int": [np.array([], "i8")],
        "array 0 3": [np.zeros((0, 3))],
        "array 3 0": [np.zeros((3, 0))],
        "array 2 3": [grid, np.asfortranarray(grid), grid.astype(">i8"), grid[:, ::-1][:, ::-1]],
        "array 3 2": [grid.reshape(3, 2)],
        "array transposed": [grid.T, grid.T.copy()],
        "array -0.0": [np.array([-0.0])],
        "array 0.0": [np.array([0.0])],
        "array nan": [np.array([nan]), np.array([-nan]), tail_nan, np.array([nan], ">f8")],
        "array nan f2": [np.array([nan], "f2"), np.array([0xFE01], "u2").view("f2")],
        "array nan f4": [np.array([nan], "f4"), -np.array([nan], ">f4")],
        "array nan c16": [np.array([complex(nan, 1)]), np.array([complex(-nan, 1)])],
        "array 1 nan c16": [np.array([complex(1, nan)])],
        "array bool": [np.array([True, False]), np.array([2, 0], "u1").view(bool)],
        "array uint8": [np.array([1, 0], "u1")],
        "array str": [np.array(["a", "bc"]), np.array(["a", "bc"], ">U2")],
        "array str wide": [np.array(["a", "bc"], "U3")],
        "array bytes": [np.array([b"a", b"bc"])],
        "array dates": [np.array(["2020-01-01"], "M8[D]")],
        "array dates ns": [np.array(["2020-01-01"], "M8[ns]")],
        "array object": [np.array([1, "a", None], object)],
        "array object nan": [np.array([nan], object), np.array([-nan], object)],
        "array records": [
            np.array(rows, packed),
            np.array(rows, np.dtype(packed, align=True)),
            np.array(rows, [("a", "i1"), ("b", ">f8")]),
        ],
        "array records renamed": [np.array(rows, [("a", "i1"), ("c", "f8")])],
        "array subarray": [np.array([([1, 2],)], [("a", "i4", (2,))])],
        "masked": [
            np.ma.array([1, 2, 3], mask=[False, True, False]),
            np.ma.array([1, 9, 3], mask=[False, True, False]),
        ],
        "masked none": [np.ma.array([1, 2, 3]), np.ma.array([1, 2, 3], mask=[False] * 3)],
        "masked constant": [np.ma.masked],
        "array 1 2 3": [np.array([1, 2, 3])],
        "recarray": [np.rec.array(rows, packed)],
        "dtype": [np.dtype("<f8")],
        "dtype big": [np.dtype(">f8")],
        "dtype record": [np.dtype([("a", "<i4"), ("b", "<f8")])],
        "dtype record aligned": [np.dtype([("a", "<i4"), ("b", "<f8")], align=True)],
    }
    return {name: equal for name, equal in values.items() if equal}


CLASSES = golden_values()
EVERY = [(name, value) for name, equal in CLASSES.items() for value in equal]
each_value = pytest.mark.parametrize("value", [pytest.param(v, id=n) for n, v in EVERY])


# -- the golden file ----


def test_digests_are_those_of_the_golden_file() -> None:
    """A digest is the same today as on the day when it was written down."""
    golden = json.loads(GOLDEN.read_text())["values"]
    assert len(golden) >= 100
    assert golden == {**golden, **{name: digest(equal[0]) for name, equal in CLASSES.items()}}
    assert {*golden} - {"longdouble"} <= {*CLASSES}


def test_digests_do_not_depend_on_the_hash_seed() -> None:
    """Twenty processes of different hash seeds agree with the golden file on every value."""
    script = textwrap.dedent(
        """
        import json, sys, typing
        from chunk_memo.identity import digest
        exec(sys.stdin.read())
        print(json.dumps({name: digest(equal[-1]) for name, equal in golden_values().items()}))
        """
    )
    source = "from __future__ import annotations\nfrom typing import Any\n"
    source += inspect.getsource(golden_values)
    expected = {name: digest(equal[0]) for name, equal in CLASSES.items()}
    seeds = list(range(20))
    for at in range(0, len(seeds), 4):
        running = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": _root()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in seeds[at : at + 4]
        ]
        for process in running:
            out, _ = process.communicate(source)
            assert process.returncode == 0
            assert expected == json.loads(out)


def _root() -> str:
    import chunk_memo

    return str(Path(chunk_memo.__file__).parent.parent)


# -- which values are the same ----


@pytest.mark.parametrize("name", CLASSES)
def test_equal_values_share_their_bytes(name: str) -> None:
    """Values that the rules call the same have the same canonical bytes, alone and in others."""
    first, *others = CLASSES[name]
    for other in others:
        assert canonical_bytes(first) == canonical_bytes(other)
        assert canonical_bytes([first, {"k": first}]) == canonical_bytes([other, {"k": other}])


def test_different_values_never_share_their_bytes() -> None:
    """No two of the values that the rules tell apart have the same bytes, or the same digest."""
    assert len(CLASSES) == len({canonical_bytes(equal[0]) for equal in CLASSES.values()})
    assert len(CLASSES) == len({digest(equal[0]) for equal in CLASSES.values()})


def test_bytes_are_self_delimiting() -> None:
    """No value's bytes begin with those of another, so joined bytes can be cut in one way only."""
    coded = sorted(canonical_bytes(equal[0]) for equal in CLASSES.values())
    assert [] == [(a, b) for a, b in itertools.pairwise(coded) if b.startswith(a)]


def test_large_arrays_that_differ_in_one_element_differ() -> None:
    """Every element counts: two arrays of a million that differ in one have two digests."""
    one = np.random.default_rng(0).random(1_000_000)
    two = one.copy()
    two[543_210] = np.nextafter(two[543_210], 1)
    assert digest(one) == digest(one.copy())
    assert digest(one) != digest(two)


def test_tiny_floats_differ() -> None:
    """Nothing is rounded."""
    assert params_to_cache_id({"tol": 1e-13}) != params_to_cache_id({"tol": 2e-13})


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "g", "c8", "c16", "G"])
def test_every_pattern_of_nan_is_one(code: str) -> None:
    """Sign and payload of a NaN do not count, in any float dtype, nor in complex parts."""
    one = np.array([1, np.nan, 2], code)
    two = one.copy()
    two.real[1] = -two.real[1]
    assert one.tobytes() != two.tobytes()
    assert canonical_bytes(one) == canonical_bytes(two)
    assert one.tobytes() != two.tobytes(), "the arrays are left as they were"


def test_padding_of_long_doubles_does_not_count() -> None:
    """The bytes of a long double that hold no number may be anything."""
    one = np.array([1, 2], np.longdouble)
    two = one.copy()
    if np.finfo(np.longdouble).nmant == 63:
        two.view(np.uint8).reshape(2, -1)[:, 10:] = 255
        assert one.tobytes() != two.tobytes()
    assert canonical_bytes(one) == canonical_bytes(two)


def test_padding_of_records_does_not_count() -> None:
    """The bytes between the fields of a record may be anything."""
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, two = np.zeros(3, dtype), np.zeros(3, dtype)
    two.view(np.uint8)[:] = 255
    two["a"], two["b"] = 0, 0
    assert one.tobytes() != two.tobytes()
    assert canonical_bytes(one) == canonical_bytes(two)


def test_state_of_a_str_subclass_counts() -> None:
    """Attributes of an instance of a subclass of str are part of it."""
    one, two = Tagged("x"), Tagged("x")
    one.unit, two.unit = "m", "s"
    assert canonical_bytes(one) != canonical_bytes(two)
    assert "m" == decode_canonical(canonical_bytes(one)).unit


def test_decimals_do_not_depend_on_the_context() -> None:
    """The decimal context, which changes how a Decimal prints, changes no identity."""
    value = decimal.Decimal("1E+50")
    expected = canonical_bytes(value)
    with decimal.localcontext() as context:
        context.capitals = 0
        context.prec = 1
        assert "1e+50" == str(value)
        assert expected == canonical_bytes(value)


# -- many random pairs ----


class Maker:
    """Makes random values from a small universe, so that equal ones turn up often."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def scalar(self) -> Any:
        """Return a plain value."""
        pick = self.random.choice
        numbers: tuple[Any, ...] = (0, 1, -1, 2, 255, 2**63, -0.0, 0.0, 1.0, 0.5, math.nan, 1j)
        texts: tuple[Any, ...] = ("", "a", "b", "ab", "1", b"", b"a", "\u00e9")
        others: tuple[Any, ...] = (None, True, False, ..., Color.RED, Color.BLUE, int, Path("a"))
        times = (dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.timedelta(1))
        exact = (
            decimal.Decimal("1"),
            decimal.Decimal("1.0"),
            fractions.Fraction(1),
            uuid.UUID(int=1),
        )
        kinds = (np.int64, np.float64, np.float32, np.int8, np.bool_, np.complex128, np.float16)
        made = pick(kinds)(pick((0, 1)))
        return pick((pick(numbers), pick(texts), pick(others), pick(times), pick(exact), made))

    def array(self) -> Any:
        """Return an array of up to two elements."""
        shape = self.random.choice([(), (0,), (1,), (2,), (1, 2), (2, 1)])
        code = self.random.choice(["f8", "f4", "i8", "i2", "?", "c16", "O", "U1", "S1", "M8[s]"])
        values = [self.random.choice([0, 1]) for _ in range(math.prod(shape))]
        return np.array(values, "i8").reshape(shape).astype(code)

    def value(self, depth: int = 3) -> Any:
        """Return a value that is nested up to `depth` levels deep."""
        roll = self.random.random()
        if depth == 0 or roll < 0.4:
            return self.scalar()
        if roll < 0.5:
            return self.array()
        items = [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        builders: list[Any] = [list, tuple, self.dict, self.set, self.point, self.frozen]
        return self.random.choice(builders)(items)

    def key(self) -> Any:
        """Return a plain value that can be the key of a dict."""
        while True:  # NumPy cannot compare with these
            key = self.scalar()
            if not isinstance(key, decimal.Decimal | fractions.Fraction):
                return key

    def dict(self, items: list[Any]) -> Any:
        """Return a dict with these values."""
        return {self.key(): item for item in items}

    def set(self, items: list[Any]) -> Any:
        """Return a set of up to as many elements."""
        return {self.key() for _ in items}

    def frozen(self, items: list[Any]) -> Any:
        """Return a frozenset of up to as many elements."""
        return frozenset(self.key() for _ in items)

    def point(self, items: list[Any]) -> Any:
        """Return a dataclass with the first two items, or zeros."""
        return Point(*[*items, 0, 0][:2])

    def rewritten(self, value: Any) -> Any:
        """Return the same value in another guise."""
        if isinstance(value, np.ndarray):
            return np.asfortranarray(value.astype(value.dtype.newbyteorder()))
        if type(value) is dict:
            items = [*value.items()]
            self.random.shuffle(items)
            return {self.rewritten(key): self.rewritten(item) for key, item in items}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)([self.rewritten(item) for item in value])
        if isinstance(value, Point):
            return Point(self.rewritten(value.x), self.rewritten(value.y))
        guises = {
            int: np.int64,
            float: np.float64,
            bool: np.bool_,
            str: np.str_,
            complex: np.complex128,
        }
        if type(value) in guises and not (type(value) is int and abs(value) > 2**62):
            return guises[type(value)](value)
        return normalize(value)

    def pair(self) -> tuple[Any, Any]:
        """Return two values, of which many are the same in another guise."""
        one = self.value()
        return one, self.rewritten(one) if self.random.random() < 0.4 else self.value()


def same(one: Any, two: Any) -> bool:
    """Tell whether the rules call two values the same; shares nothing with the module."""
    one, two = plain(one), plain(two)
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        kinds = one.dtype.newbyteorder("=") == two.dtype.newbyteorder("=")
        return kinds and one.shape == two.shape and same(one.ravel().tolist(), two.ravel().tolist())
    if isinstance(one, np.generic):
        return one.dtype == two.dtype and same(one.item(), two.item())
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(two)) or (one == two and str(one) == str(two))
    if isinstance(one, complex):
        return same(one.real, two.real) and same(one.imag, two.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, set | frozenset):
        return paired([(item, 0) for item in one], [(item, 0) for item in two])
    if isinstance(one, dict):
        return paired([*one.items()], [*two.items()])
    if isinstance(one, Point):
        return same(one.x, two.x) and same(one.y, two.y)
    if isinstance(one, decimal.Decimal):
        return str(one) == str(two)
    return bool(one == two)


def plain(value: Any) -> Any:
    """Return a value with NumPy's counterparts of Python's types replaced by these."""
    kinds = (np.bool_, np.int64, np.float64, np.complex128, np.str_, np.bytes_)
    return value.item() if type(value) in kinds else value


def paired(ones: list[Any], twos: list[Any]) -> bool:
    """Tell whether each of some pairs has a counterpart of its own."""
    left = list(twos)
    for one in ones:
        at = next((at for at, two in enumerate(left) if same(one, two)), None)
        if at is None:
            return False
        del left[at]
    return not left


def check_pairs(seed: int, count: int) -> None:
    """Compare the digests of random pairs with what the rules say."""
    maker = Maker(seed)
    found = {True: 0, False: 0}
    for _ in range(count):
        one, two = maker.pair()
        expected = same(one, two)
        found[expected] += 1
        assert expected == (canonical_bytes(one) == canonical_bytes(two)), (one, two)
        assert expected == (digest(one) == digest(two)), (one, two)
    assert min(found.values()) > count // 10


def test_random_pairs_neither_collide_nor_split() -> None:
    """Two values have one digest exactly if the rules call them the same: 20,000 pairs."""
    check_pairs(1, 20_000)


@pytest.mark.long
def test_many_random_pairs_neither_collide_nor_split() -> None:
    """Two values have one digest exactly if the rules call them the same: 100,000 pairs."""
    check_pairs(2, 100_000)


# -- quick paths ----


numbers = st.one_of(st.integers(), st.floats(), st.floats().map(np.float64), st.text(), st.booleans())


@given(st.one_of(*[st.lists(kind, max_size=80) for kind in (st.integers(), st.floats(), numbers)]))
@example([2**63 - 1] * 40)
@example([2**63] * 40)
@example([0.5] * 31 + [math.nan])
def test_many_values_as_one_by_one(values: list[Any]) -> None:
    """The quick paths for plain lists give what the values give one by one."""
    expected = [canonical_bytes(value) for value in values]
    assert expected == canonical_many(values)
    assert expected == canonical_many(tuple(values))
    assert canonical_bytes(values) == _head(b"l", len(values)) + b"".join(expected)


def _head(tag: bytes, size: int) -> bytes:
    return tag + bytes([size])


def test_many_values_name_the_one_that_fails() -> None:
    """An error in a sequence says which value it was."""
    with pytest.raises(IdentityError, match=r"'axis\[1\]\[0\]' has no sound identity"):
        canonical_many([[1], [object()]], "axis")


# -- the inverse ----


@each_value
def test_decoding_gives_a_value_of_the_same_bytes(value: Any) -> None:
    """Decoded bytes are encoded to themselves, whether the value could be rebuilt or not."""
    data = canonical_bytes(value)
    decoded = decode_canonical(data)
    assert data == canonical_bytes(decoded)
    assert canonical_bytes([value]) == canonical_bytes([decoded])
    assert isinstance(decode_canonical(canonical_bytes({"a": (value,)})), dict)


@each_value
def test_json_gives_a_value_of_the_same_bytes(value: Any) -> None:
    """A value that went through JSON text has the bytes that it had before."""
    for each in (value, [value], {"a": {"b": value}}, {"$canonical": value}):
        text = json.dumps(to_jsonable(each), allow_nan=False)
        assert canonical_bytes(each) == canonical_bytes(from_jsonable(json.loads(text)))


plain_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(st.characters()),
        st.binary(),
        st.decimals(),
        st.fractions(),
        st.datetimes(timezones=st.none() | st.just(dt.UTC)),
        st.timedeltas(),
        st.uuids(),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=3)),
        hnp.arrays(hnp.array_dtypes(), 2),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text() | st.integers(), inner),
        st.frozensets(st.text() | st.integers()),
        st.builds(lambda x, y: Point(x, y), inner, inner),
        st.builds(lambda x, y: Pair(x, y), inner, inner),
    ),
    max_leaves=8,
)


@given(plain_values)
@settings(max_examples=300, deadline=None)
def test_round_trips(value: Any) -> None:
    """Any plain value comes back from its bytes and from JSON: same type, same bytes."""
    data = canonical_bytes(value)
    decoded = decode_canonical(data)
    assert type(normalize(value)) is type(decoded)
    assert data == canonical_bytes(decoded)
    assert data == canonical_bytes(from_jsonable(json.loads(json.dumps(to_jsonable(value)))))


@given(plain_values, st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_a_format_error_and_nothing_else(value: Any, data: st.DataObject) -> None:
    """Bytes that were changed, cut or lengthened are refused, or are another value's bytes."""
    damaged = bytearray(canonical_bytes(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1)) if damaged else 0
        piece = data.draw(st.binary(max_size=3))
        damaged[at : at + data.draw(st.integers(0, 2))] = piece
    check_bytes(bytes(damaged))


TAGS = b"NTFkiIdcsbBltSZmrxanv"
KINDS = [
    b"decimal",
    b"enum",
    b"dataclass",
    b"subclass",
    b"namedtuple",
    b"pattern",
    b"dtype",
    b"class",
]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(list(TAGS)).map(lambda tag: bytes([tag])),
            st.sampled_from(KINDS).map(lambda kind: b"v" + bytes([len(kind)]) + kind),
            st.sampled_from([canonical_bytes(value) for _, value in EVERY]),
            st.binary(max_size=4),
        )
    ).map(b"".join)
)
@settings(max_examples=500, deadline=None)
@example(b"l\x01" * 5000)
@example(b"v\x05enumt\x00")
@example(b"l\xff" + b"\xff" * 8)
@example(b"as\x02U0\x02\xff" + b"\0\0\0\0\0\1\0\0" * 1)
@example(b"as\x02f8\x01\xff" + b"\xff" * 8)
@example(b"i\0")
@example(b"S\x02i\x02\0\0\0\0\0\0\0i\x01\0\0\0\0\0\0\0")
def test_random_bytes_are_a_format_error_and_nothing_else(data: bytes) -> None:
    """Bytes that look like canonical bytes are refused, or are a value's bytes."""
    check_bytes(data)


def check_bytes(data: bytes) -> None:
    """Check that bytes are refused, or are the canonical bytes of a value."""
    try:
        again = canonical_bytes(decode_canonical(data))
    except ChunkFormatError:
        again = data  # refused, which is as good
    assert data == again


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "announced"),
        (b"NN", "bytes too many"),
        (b"?", "tag"),
        (b"d" + b"\1\0\0\0\0\0\xf8\x7f", "another form"),
        (b"I\x01\x05", "another form"),
        (b"s\xff\x01" + b"\0" * 7 + b"a", "too long"),
        (b"s\x01\xff", "UnicodeDecodeError"),
        (b"m\x02s\x01bNs\x01aN", "another form"),
        (b"l\x01" * 400 + b"N", "depth"),
    ],
)
def test_malformed_bytes_say_what_is_wrong(data: bytes, why: str) -> None:
    """The error for damaged bytes says what was met."""
    with pytest.raises(ChunkFormatError, match=why):
        decode_canonical(data)


@pytest.mark.parametrize(
    "value",
    [
        Opaque(b"N"),
        len,
        np.sin,
        lambda x: x,
        functools.partial(int, base=2),
    ],
)
def test_what_cannot_be_rebuilt_is_opaque(value: Any) -> None:
    """A function comes back as an Opaque that equals any other of the same bytes."""
    data = canonical_bytes([value, 1])
    decoded = decode_canonical(data)[0]
    if not isinstance(value, Opaque):
        assert decoded == Opaque(canonical_bytes(value))
        assert hash(decoded) == hash(Opaque(canonical_bytes(value)))
        assert len(repr(decoded)) < 80
    assert canonical_bytes(value) == canonical_bytes(decoded)


def test_classes_are_rebuilt_without_running_their_code() -> None:
    """No constructor, setter or finalizer of a class runs when its instance is decoded."""
    made = Watched(1)
    runs = Watched.runs
    decoded = decode_canonical(canonical_bytes(made))
    assert (Watched, 1) == (type(decoded), decoded.x)
    assert runs == Watched.runs
    assert isinstance(decode_canonical(canonical_bytes(Finalized(1))), Opaque)


def test_unknown_classes_are_opaque_until_they_are_known() -> None:
    """A member of an enum that this process lacks is opaque, and keeps its place in containers."""
    name = "a_module_that_nobody_has"
    module = types.ModuleType(name)
    exec(
        f"import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\nE.__module__ = {name!r}",
        vars(module),
    )
    member = vars(module)["E"].A
    data = canonical_bytes({member, 1})
    assert 1 == sum(isinstance(each, Opaque) for each in decode_canonical(data))
    sys.modules[name] = module
    try:
        assert {member, 1} == decode_canonical(data)
    finally:
        del sys.modules[name]


def test_nothing_is_imported_to_decode() -> None:
    """A class of a module that is not imported stays opaque, and the module stays out."""
    data = canonical_bytes(Color.RED).replace(Color.__module__.encode(), b"this")
    length = len(Color.__module__)
    data = data.replace(bytes([length]) + b"this", b"\x04this")
    assert "this" not in sys.modules
    assert isinstance(decode_canonical(data), Opaque)
    assert "this" not in sys.modules


# -- JSON ----


def test_json_is_readable() -> None:
    """What JSON has stays as it is; everything else is tagged, with a text for people."""
    params = {"n": np.int64(3), "tol": 1e-6, "names": ["a", None, True]}
    assert {"n": 3, "tol": 1e-6, "names": ["a", None, True]} == to_jsonable(params)
    tagged = to_jsonable({"shape": (2, 3), "x": math.nan, 5: "five"})
    assert {"$canonical", "repr"} == {*tagged}
    assert "(2, 3)" in tagged["repr"]
    assert len(to_jsonable(np.zeros(10**6))["repr"]) <= 60


class Shy(str):
    """A str without a text for people."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


def test_json_survives_a_repr_that_raises() -> None:
    """The text for people is never what an identity fails of."""
    assert Shy("a") == from_jsonable(to_jsonable(Shy("a")))


@pytest.mark.parametrize("obj", [{"$canonical": "§"}, {"$canonical": 5}, {"$canonical": "TlQ="}, b"a"])
def test_json_that_is_no_form_of_a_value_is_refused(obj: Any) -> None:
    """A damaged form is a ChunkFormatError."""
    with pytest.raises(ChunkFormatError):
        from_jsonable(obj)


# -- refusals ----


class Plain:
    """A class that nothing is known of."""


class Model:
    """A class that other tests register."""

    def __init__(self, layers: Any) -> None:
        self.layers = layers


@dataclasses.dataclass
class Config:
    """A dataclass with one field."""

    layers: Any


def generator() -> Any:
    """Yield once."""
    yield 1


REFUSED = {
    "object": object(),
    "instance": Plain(),
    "generator": generator(),
    "lock": threading.Lock(),
    "file": io.StringIO(),
    "module": math,
    "iterator": iter([]),
    "memoryview": memoryview(b"a"),
    "mock": unittest.mock.Mock(),
    "struct_time": time.gmtime(0),
    "exception": ValueError("a"),
    "rng": np.random.default_rng(0),
    "nameless ufunc": np.frompyfunc(lambda x: x, 1, 1),
    "bound to a lock": threading.Lock().acquire,
    "view of numbers": {}.keys(),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_has_no_identity_is_refused(value: Any) -> None:
    """An object without an identity is a TypeError that names the place, never a guess."""
    with pytest.raises(TypeError, match=r"'params\['a'\]\[0\].*' has no sound identity: "):
        params_to_cache_id({"a": [value]})


def test_a_refusal_says_where_what_and_the_way_out() -> None:
    """The message holds the path, the type and three ways to give it an identity."""
    with pytest.raises(IdentityError) as caught:
        params_to_cache_id({"model": Config([1, 2, Plain()])})
    expected = (
        "'params['model'].layers[2]' has no sound identity: expected plain data (numbers, text, "
        "arrays, containers, enums, dataclasses, functions), got an object of type "
        f"'{__name__}.Plain'; pass a plain value, give the class a method "
        "__chunk_memo_identity__() that returns one, or call register_identity(Plain, function)"
    )
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {1: object()}}, "params['a'][1]"),
        ({"a": (0, object())}, "params['a'][1]"),
        ({"a": np.array([[1, 2], [3, object()]], object)}, "params['a'][1, 1]"),
        ({"a": {frozenset({Plain})}, "b": {object(): 1}}, "params['b'] (the key <object object"),
        ({"a": {len, object()}}, "params['a'] (the element <object object"),
        ({"a": functools.partial(print, object())}, "params['a'].args[0]"),
        ({"a": types.SimpleNamespace(x=object())}, "params['a']['x']"),
    ],
)
def test_a_refusal_names_the_path(value: Any, path: str) -> None:
    """The path in a message leads to the value."""
    with pytest.raises(IdentityError) as caught:
        params_to_cache_id(value)
    assert str(caught.value).startswith(f"'{path}")


def test_a_container_that_holds_itself_is_refused() -> None:
    """A cycle is an IdentityError that names the place where it closes."""
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(IdentityError, match=r"'value\[1\]\['again'\]' .* it holds itself"):
        canonical_bytes(loop)
    array = np.empty(1, object)
    array[0] = array
    with pytest.raises(IdentityError, match="it holds itself"):
        to_jsonable(array)


def test_the_same_list_twice_is_no_cycle() -> None:
    """A list may lie in a value several times."""
    inner = [1]
    assert canonical_bytes([inner, inner]) == canonical_bytes([[1], [1]])


def test_deep_nesting_is_refused_and_what_is_accepted_comes_back() -> None:
    """A value one level too deep is an IdentityError; one at the limit can be decoded."""
    for wrap in (lambda v: [v], lambda v: (v, 1), lambda v: {"a": v}, lambda v: Point(v, 0)):
        deep: Any = 1
        for _ in range(MAX_DEPTH):
            deep = wrap(deep)
        assert canonical_bytes(deep) == canonical_bytes(decode_canonical(canonical_bytes(deep)))
        with pytest.raises(IdentityError, match="levels deep"):
            canonical_bytes(wrap(deep))


def test_keys_of_params_are_names() -> None:
    """A key of params that is no str is refused, and the message gives the str."""
    with pytest.raises(IdentityError, match=r"got 1; use '1' instead"):
        params_to_cache_id({1: 2})  # type: ignore[dict-item]


# -- identities of one's own ----


class Mesh:
    """A class with an identity of its own."""

    def __init__(self, n: Any) -> None:
        self.n = n

    def __chunk_memo_identity__(self) -> Any:
        return {"n": self.n}


class FineMesh(Mesh):
    """A subclass that inherits the identity."""


def test_a_method_gives_an_identity() -> None:
    """Objects count by class and by what their method returns."""
    assert digest(Mesh(1)) == digest(Mesh(1))
    assert 4 == len({digest(value) for value in (Mesh(1), Mesh(2), FineMesh(1), {"n": 1})})
    assert isinstance(decode_canonical(canonical_bytes(Mesh(1))), Opaque)
    with pytest.raises(IdentityError, match=r"'value.__chunk_memo_identity__\(\)\['n'\]'"):
        digest(Mesh(object()))


def test_a_registration_gives_an_identity() -> None:
    """Objects count by class and by what the function registered for it returns."""
    register_identity(Model, lambda model: model.layers)
    assert digest(Model([1])) == digest(Model([1]))
    assert digest(Model([1])) != digest(Model([2]))
    assert digest(Model([1])) != digest([1])
    with pytest.raises(IdentityError, match="registered for 'Model'"):
        digest(Model(object()))


@pytest.mark.parametrize("wrong", [int, list, object, np.ndarray, type(np.ma.masked), "int"])
def test_registration_of_what_has_an_identity_is_refused(wrong: Any) -> None:
    """Built-in identities cannot be replaced, and only classes can be registered."""
    with pytest.raises(IdentityError):
        register_identity(wrong, lambda value: 1)


# -- the rest ----


def test_normalize_returns_python_scalars() -> None:
    """The six NumPy scalars with a Python counterpart become it, and nothing else changes."""
    cases = [
        (np.int64(1), 1),
        (np.float64(1), 1.0),
        (np.bool_(True), True),
        (np.str_("a\0"), "a\0"),
    ]
    cases += [(np.bytes_(b"a\0"), b"a\0"), (np.complex128(1j), 1j)]
    for value, expected in cases:
        assert (expected, type(expected)) == (normalize(value), type(normalize(value)))
    others: list[Any] = [np.float32(1), np.int32(1), np.array(1), [np.int64(1)], "a", np.datetime64(0, "s")]
    for other in others:
        assert normalize(other) is other


def test_digests_have_their_lengths() -> None:
    """Digests are 16 bytes, or 32 hexadecimal characters, and follow the canonical bytes."""
    data = canonical_bytes({"a": 1})
    assert digest({"a": 1}) == digest_of_bytes(data).hex() == params_to_cache_id({"a": 1})
    assert (16, 16) == (len(digest_of_bytes(data)), len(second_digest(data)))
    assert digest_of_bytes(data) != second_digest(data)


# -- tables ----


def frames() -> list[Any]:
    """Return different values of pandas."""
    pd = pytest.importorskip("pandas")

    def frame() -> Any:
        when = pd.to_datetime(["2020", "2021"]).tz_localize("Europe/Berlin")
        return pd.DataFrame({"a": [1, 2], "b": [1.5, np.nan], "c": ["x", None], "d": when})

    def changed(**attrs: Any) -> Any:
        new = frame()
        new.attrs.update(attrs)
        return new

    cell = frame()
    cell.loc[0, "a"] = 5
    return [
        frame(),
        cell,
        changed(unit="m"),
        frame().set_axis([1, 0]),
        frame().rename(columns={"a": "z"}),
        frame()[["b", "a", "c", "d"]],
        frame().astype({"a": "int32"}),
        frame().astype({"a": "Int64"}),
        frame().astype({"c": "category"}),
        frame()["a"],
        frame()["a"].rename("z"),
        frame().index,
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", "y"]),
        pd.date_range("2020", periods=3),
        pd.period_range("2020", periods=3, freq="D"),
        pd.interval_range(0, 3),
        pd.Categorical(["a", "b"]),
        pd.Categorical(["a", "b"], categories=["b", "a"]),
        pd.array([1, None], dtype="Int64"),
        pd.Timestamp("2020"),
        pd.Timestamp("2020", tz="UTC"),
        dt.datetime(2020, 1, 1),
        pd.Timedelta(1, "D"),
        pd.Interval(0, 1),
        pd.Period("2020"),
        pd.NaT,
        pd.NA,
    ]


def labelled() -> list[Any]:
    """Return different values of xarray."""
    xr = pytest.importorskip("xarray")

    def dataset(values: Any = 0.0) -> Any:
        data = np.arange(6.0).reshape(2, 3) + values
        coords = {"x": [1, 2], "y": ["a", "b", "c"]}
        return xr.Dataset({"t": (("x", "y"), data, {"u": "m"})}, coords=coords, attrs={"q": 1})

    return [
        dataset(),
        dataset(1.0),
        dataset().transpose(),
        dataset().assign_attrs(q=2),
        dataset().assign_coords(z=("x", [1, 2])),
        dataset().assign(z=("x", [1, 2])),
        dataset()["t"],
        dataset()["t"].rename("s"),
        dataset()["t"].variable,
        dataset().drop_vars("y"),
    ]


def arrow() -> list[Any]:
    """Return different values of Arrow."""
    pa = pytest.importorskip("pyarrow")
    ns = pa.timestamp("ns")
    table = pa.table({"a": [1, None], "b": [[1], None], "c": [{"p": 1}, None], "d": ["x", None]})
    return [
        table,
        table.slice(1),
        table.rename_columns(["z", "b", "c", "d"]),
        table.replace_schema_metadata({"k": "v"}),
        table.schema,
        table.schema.field(0),
        table.to_batches()[0],
        pa.array([1, 2]),
        pa.array([1, 2], pa.int8()),
        pa.array([1, 2], ns),
        pa.array([1, 3], ns),
        pa.array([[1, 2]], pa.list_(ns, 2)),
        pa.array([[1, 3]], pa.list_(ns, 2)),
        pa.array([[("a", 1)]], pa.map_(pa.string(), ns)),
        pa.array([[("a", 2)]], pa.map_(pa.string(), ns)),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"]),
        pa.array([decimal.Decimal("1.5")]),
        pa.array([0.0]),
        pa.array([-0.0]),
        pa.scalar(1, ns),
        pa.scalar(2, ns),
        pa.int64(),
        pa.int32(),
    ]


def polar() -> list[Any]:
    """Return different values of polars."""
    pl = pytest.importorskip("polars")
    ns = pl.Datetime("ns")
    return [
        pl.DataFrame({"a": [1, None], "b": [[1], None], "c": [{"p": 1}, {"p": 2}], "d": ["x", None]}),
        pl.DataFrame({"a": [1, 2]}),
        pl.Series("a", [1, 2]),
        pl.Series("b", [1, 2]),
        pl.Series("a", [1, 2], dtype=pl.Int8),
        pl.Series("a", [1, None]),
        pl.Series("a", [1, 2], dtype=ns),
        pl.Series("a", [1, 3], dtype=ns),
        pl.Series("a", [[1, 2]], dtype=pl.List(ns)),
        pl.Series("a", [[1, 3]], dtype=pl.List(ns)),
        pl.Series("a", [[], [1]], dtype=pl.List(pl.Int64)),
        pl.Series("a", [[None], [1]], dtype=pl.List(pl.Int64)),
        pl.Series("a", [None, [1]], dtype=pl.List(pl.Int64)),
        pl.Series("a", ["x"], dtype=pl.Enum(["x", "y"])),
        pl.Series("a", ["x"], dtype=pl.Enum(["x", "z"])),
        pl.Series("a", ["x"], dtype=pl.Categorical),
        pl.Series("a", ["x"]),
    ]


@pytest.mark.parametrize("make", [frames, labelled, arrow, polar])
def test_tables_count_by_content(make: Any) -> None:
    """Tables made twice have one digest; those that differ anywhere have another."""
    ones, twos = make(), make()
    assert [digest(one) for one in ones] == [digest(two) for two in twos]
    assert len(ones) == len({digest(one) for one in ones})
    for one in ones:
        data = canonical_bytes(one)
        assert data == canonical_bytes(decode_canonical(data))


def test_arrow_arrays_count_however_they_are_cut() -> None:
    """Offsets and chunks of Arrow data do not count."""
    pa = pytest.importorskip("pyarrow")
    lists = pa.array([[1], None, [2, 3], [4]])
    maps = pa.array([[("a", 1)], [("b", 2), ("c", 3)], None], pa.map_(pa.string(), pa.int64()))
    pairs = [
        (pa.array([1, 2, 3])[1:], pa.array([2, 3])),
        (lists[1:3], pa.array([None, [2, 3]])),
        (maps[1:], pa.array([[("b", 2), ("c", 3)], None], maps.type)),
        (pa.chunked_array([[1], [2]]), pa.chunked_array([[1, 2]])),
    ]
    for one, two in pairs:
        assert digest(one) == digest(two)


def test_foreign_objects_in_tables_are_refused() -> None:
    """A table that holds an object without an identity has none, and the message says where."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["model"] = object()
    with pytest.raises(IdentityError, match=r"'value.attrs\['model'\]'"):
        digest(frame)
    with pytest.raises(IdentityError, match=r"DataFrameGroupBy"):
        digest(pd.DataFrame({"a": [1]}).groupby("a"))


# -- classes that the tests above need at module level ----


class Color(enum.Enum):
    """An enum."""

    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    """A dataclass that can be an element of a set."""

    x: Any
    y: Any


class Pair(NamedTuple):
    """A named tuple."""

    x: Any
    y: Any


class Tagged(str):
    """A subclass with an attribute."""

    unit: str


@dataclasses.dataclass
class Watched:
    """A dataclass that counts how often its own code runs."""

    x: Any
    runs = 0

    def __post_init__(self) -> None:
        Watched.runs += 1

    def __setattr__(self, name: str, value: Any) -> None:
        Watched.runs += 1
        object.__setattr__(self, name, value)


@dataclasses.dataclass
class Finalized:
    """A dataclass whose own code runs when it goes."""

    x: Any

    def __del__(self) -> None:
        pass
