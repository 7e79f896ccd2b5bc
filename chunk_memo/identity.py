"""When two values are the same: canonical bytes, digests, and the identity of functions.

Canonical bytes are typed and self-delimiting, so different values never share them, and they can
be decoded again. Nothing in them depends on ``repr``, ``hash``, memory addresses, the order of a
set or the version of Python. The grammar, with ``size`` as one byte below 255, else ``ff`` and
eight bytes, and all numbers little-endian::

    N T F                             None, True, False
    k  text                           a named constant, such as Ellipsis
    i  8 bytes                        an int of 64 bits;  I size bytes  a larger one
    d  8 bytes                        a float;            c 16 bytes    a complex number
    s  size UTF-8                     a str;  b size bytes  bytes;  B size bytes  a bytearray
    l  size values                    a list;  t size values  a tuple
    S  size values, sorted            a set;   Z size values, sorted  a frozenset
    m  size (key, value)s, sorted     a dict
    r  start stop step                a range; x start stop step  a slice
    a  dtype size lengths elements    an array; n dtype element  a NumPy scalar
    v  text tuple                     anything else: its kind, and what it is made of

A function is identified by its code as it was written, not by its text: a walk over the syntax
tree that leaves out comments, docstrings, positions and annotations, plus defaults and closure.
The tree counts only where compiling it gives the code that runs.
"""

from __future__ import annotations

import ast
import base64
import builtins
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import importlib.util
import linecache
import math
import operator
import pathlib
import re
import reprlib
import struct
import sys
import textwrap
import threading
import types
import uuid
import warnings
import weakref
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

from chunk_memo.errors import ChunkFormatError, IdentityError, IdentityWarning

__all__ = [
    "FunctionIdentity",
    "Opaque",
    "canonical_bytes",
    "canonical_many",
    "decode_canonical",
    "digest",
    "digest_of_bytes",
    "from_jsonable",
    "identify_function",
    "normalize",
    "params_to_cache_id",
    "register_identity",
    "second_digest",
    "to_jsonable",
    "unwrap",
]

MAX_DEPTH: Final = 64
"""Containers may be nested this deep; CPython's own limit leaves no room for much more."""

SCHEME: Final = 1
"""Number of the rules by which functions are digested; a change of the rules changes it."""

_METHOD: Final = "__chunk_memo_identity__"
_JSON_TAG: Final = "$canonical"


# ---------------------------------------------------------------------------------------------
# The front: values
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """A value that cannot be rebuilt here, such as a function or a member of an unknown enum.

    `decode_canonical` makes these; their canonical bytes are those of the value they stand for.

    Examples
    --------
    >>> decode_canonical(canonical_bytes(len))
    Opaque(function, 35 bytes)
    """

    data: bytes
    """The canonical bytes of the value."""

    def __repr__(self) -> str:
        """Return the kind of value and the number of bytes, which may be many."""
        kind = "value"
        if self.data[:1] == b"v" and len(self.data) > 2:
            kind = self.data[2 : 2 + self.data[1]].decode("utf-8", "replace")
        return f"Opaque({kind}, {len(self.data)} bytes)"


def canonical_bytes(value: Any, name: str = "value") -> bytes:
    """Return the bytes that stand for a value, the same in every process and Python.

    Parameters
    ----------
    value : object
        Numbers, text, arrays, containers, enums, dataclasses, functions, tables and the like.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    bytes
        Typed and self-delimiting; `decode_canonical` is the inverse.

    Raises
    ------
    IdentityError
        The value, or something in it, has no sound identity. The message says where it lies.

    Examples
    --------
    >>> canonical_bytes(1) == canonical_bytes(1.0)
    False
    >>> canonical_bytes({"a": 1, "b": 2}) == canonical_bytes({"b": 2, "a": 1})
    True
    >>> canonical_bytes(np.int64(1)) == canonical_bytes(1)
    True
    """
    leaf = _LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    try:
        return _encode(value, _Walk())
    except _Unidentified as trouble:
        raise IdentityError(trouble.message(name)) from None
    except RecursionError:
        raise IdentityError(
            f"'{name}' has no sound identity: it is nested too deeply for the stack that is left; "
            f"pass a flatter value"
        ) from None


def canonical_many(values: Sequence[Any], name: str = "values") -> list[bytes]:
    """Return the canonical bytes of each value, quickly where all are of one plain type.

    Parameters
    ----------
    values : sequence
        The values.
    name : str, optional
        What to call the sequence in an error message.

    Returns
    -------
    list of bytes
        As ``[canonical_bytes(value) for value in values]``.

    Raises
    ------
    IdentityError
        A value has no sound identity.

    Examples
    --------
    >>> canonical_many([1.0, 2.0])[1] == canonical_bytes(2.0)
    True
    """
    kinds = set(map(type, values))
    if len(kinds) == 1:
        packed = _packed(values, *kinds)
        if packed is not None:
            return [packed[at : at + 9] for at in range(0, len(packed), 9)]
    if kinds <= _LEAVES.keys():
        return [_LEAVES[type(value)](value) for value in values]
    return [canonical_bytes(value, f"{name}[{at}]") for at, value in enumerate(values)]


def digest(value: Any, name: str = "value") -> str:
    """Return the xxh3-128 digest of a value's canonical bytes, as 32 hexadecimal characters.

    Parameters
    ----------
    value : object
        Anything that has an identity.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    str
        32 hexadecimal characters.

    Raises
    ------
    IdentityError
        The value has no sound identity.

    Examples
    --------
    >>> len(digest([1, 2.0, "three"]))
    32
    """
    return xxhash.xxh3_128_hexdigest(canonical_bytes(value, name))


def digest_of_bytes(data: bytes) -> bytes:
    """Return the xxh3-128 digest of bytes: fast, and not made against adversaries.

    Parameters
    ----------
    data : bytes
        Usually canonical bytes.

    Returns
    -------
    bytes
        16 bytes.

    Examples
    --------
    >>> digest_of_bytes(b"").hex()
    '99aa06d3014798d86001c324468d497f'
    """
    return xxhash.xxh3_128_digest(data)


def second_digest(data: bytes) -> bytes:
    """Return a BLAKE2b digest of bytes, to be compared where xxh3 digests are equal.

    Parameters
    ----------
    data : bytes
        Usually canonical bytes.

    Returns
    -------
    bytes
        16 bytes.

    Examples
    --------
    >>> second_digest(b"").hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(data, digest_size=16).digest()


def normalize(value: Any) -> Any:
    """Return the Python scalar that a NumPy scalar of the same type stands for.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    object
        A bool, int, float, complex, str or bytes for ``np.bool_``, ``np.int64``, ``np.float64``,
        ``np.complex128``, ``np.str_`` and ``np.bytes_``; every other value as it is.

    Examples
    --------
    >>> normalize(np.float64(0.1)), normalize(np.float32(0.5))
    (0.1, np.float32(0.5))
    """
    if not isinstance(value, np.generic):
        return value
    plain = _PLAIN_SCALARS.get(value.dtype.str[1:])
    if plain is not None:
        return plain(value)
    if type(value) is np.str_:
        return str.__str__(value)
    if type(value) is np.bytes_:
        return b"".join((value, b""))
    return value


def params_to_cache_id(params: Mapping[str, Any]) -> str:
    """Return the id of the cache that belongs to parameters.

    Parameters
    ----------
    params : mapping of str to object
        Names and values; their order does not matter.

    Returns
    -------
    str
        32 hexadecimal characters.

    Raises
    ------
    IdentityError
        A key is no str, or a value has no sound identity.

    Examples
    --------
    >>> params_to_cache_id({"n": 3, "tol": 1e-6}) == params_to_cache_id({"tol": 1e-6, "n": 3})
    True
    """
    for key in params:
        if not isinstance(key, str):
            raise IdentityError(
                f"'params' has a key that is no str: expected names, got {key!r}; use {str(key)!r} instead"
            )
    return xxhash.xxh3_128_hexdigest(canonical_bytes(dict(params), "params"))


def register_identity(type: type, function: Callable[[Any], Any]) -> None:
    """Say what the identity of a type's instances is.

    The class counts too, so instances of different classes never meet. A class of one's own can
    have a method ``__chunk_memo_identity__()`` instead.

    Parameters
    ----------
    type : type
        The class; subclasses follow it unless they are registered themselves.
    function : callable
        Takes an instance, and returns a value that has an identity: everything that matters.

    Raises
    ------
    IdentityError
        `type` is no class, or has an identity that cannot be replaced.

    Examples
    --------
    >>> class Solver:
    ...     def __init__(self, order):
    ...         self.order = order
    >>> register_identity(Solver, lambda solver: solver.order)
    >>> digest(Solver(2)) == digest(Solver(2))
    True
    """
    if not isinstance(type, builtins.type):
        raise IdentityError(f"'type' must be a class, got {type!r}")
    if type is object or type in _LEAVES or type in _NODES:
        raise IdentityError(
            f"'{type.__name__}' has an identity already, which cannot be replaced; register a subclass of it"
        )
    _REGISTERED[type] = function


def to_jsonable(value: Any, name: str = "value") -> Any:
    """Return a form of a value that JSON can hold exactly, and people can read.

    None, bool, int, float, str, lists and dicts with str keys stay as they are. Anything else
    becomes ``{"$canonical": <base64 of the canonical bytes>, "repr": <short text>}``.

    Parameters
    ----------
    value : object
        Anything that has an identity.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    object
        For ``json.dumps``; `from_jsonable` is the inverse.

    Raises
    ------
    IdentityError
        The value has no sound identity.

    Examples
    --------
    >>> to_jsonable({"tol": 1e-6, "shape": (2, 3)})["shape"]["repr"]
    '(2, 3)'
    """
    canonical_bytes(value, name)  # refuses what has no identity, and what holds itself
    return _jsonable(value)


def from_jsonable(obj: Any) -> Any:
    """Return the value that `to_jsonable` made a form of.

    Parameters
    ----------
    obj : object
        What ``json.loads`` returned.

    Returns
    -------
    object
        A value with the same canonical bytes; an `Opaque` where it cannot be rebuilt here.

    Raises
    ------
    ChunkFormatError
        `obj` is not such a form.

    Examples
    --------
    >>> from_jsonable(to_jsonable((2, 3)))
    (2, 3)
    """
    if isinstance(obj, list):
        return [from_jsonable(item) for item in obj]
    if isinstance(obj, dict):
        if _JSON_TAG in obj:
            return _from_tagged(obj[_JSON_TAG])
        return {key: from_jsonable(item) for key, item in obj.items()}
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    raise ChunkFormatError(f"'obj' must be what json.loads returns, got {obj!r}")


# ---------------------------------------------------------------------------------------------
# Pieces of the encoding
# ---------------------------------------------------------------------------------------------

_ONE_BYTE: Final = [bytes([n]) for n in range(255)]
_TAGGED_FLOAT: Final = struct.Struct("<cd")
_TAGGED_INT: Final = struct.Struct("<cq")
_TAGGED_COMPLEX: Final = struct.Struct("<cdd")
_NAN: Final = float("nan")
_FEW: Final = 32  # below this NumPy's overhead exceeds what it saves


def _size(n: int) -> bytes:
    return _ONE_BYTE[n] if n < 255 else b"\xff" + n.to_bytes(8, "little")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s" + _size(len(data)) + data


def _bytes(value: bytes) -> bytes:
    return b"b" + _size(len(value)) + value


def _int(value: int) -> bytes:
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return _TAGGED_INT.pack(b"i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"I" + _size(len(data)) + data


def _float(value: float) -> bytes:
    return _TAGGED_FLOAT.pack(b"d", value if value == value else _NAN)


def _complex(value: complex) -> bytes:
    real, imag = value.real, value.imag
    real = real if real == real else _NAN
    imag = imag if imag == imag else _NAN
    return _TAGGED_COMPLEX.pack(b"c", real, imag)


def _leaf(value: Any) -> bytes:
    return _LEAVES[type(value)](value)


def _record(kind: str, parts: Sequence[bytes]) -> bytes:
    """Return the encoding of a value of some kind, made of encoded parts."""
    return b"v" + _text(kind)[1:] + b"t" + _size(len(parts)) + b"".join(parts)


def _made_of(kind: str, walk: _Walk, **parts: Any) -> bytes:
    """Return the encoding of a value of some kind, made of parts that may fail by name."""
    return _record(kind, [_encode_at(part, walk, f".{name}") for name, part in parts.items()])


def _simple(kind: str, *values: Any) -> bytes:
    return _record(kind, [_leaf(value) for value in values])


def _constant(name: str) -> bytes:
    return b"k" + _text(name)[1:]


def _packed(values: Sequence[Any], kind: type) -> bytes | None:
    """Return the joined encodings of floats, or of ints of 64 bits, nine bytes each."""
    if kind is float or kind is np.float64:
        if len(values) < _FEW:
            return b"".join([_float(value) for value in values])
        floats = np.array(values, dtype="<f8")
        floats[np.isnan(floats)] = np.nan
        return _interleaved(b"d", floats)
    if kind is int or kind is np.int64:
        try:
            if len(values) < _FEW:
                return b"".join([_TAGGED_INT.pack(b"i", value) for value in values])
            return _interleaved(b"i", np.array(values, dtype="<i8"))
        except (OverflowError, struct.error):
            return None
    return None


def _interleaved(tag: bytes, numbers: np.ndarray) -> bytes:
    out = np.empty(len(numbers), dtype=[("tag", "S1"), ("value", numbers.dtype)])
    out["tag"] = tag
    out["value"] = numbers
    return out.tobytes()


def _decimal(value: decimal.Decimal) -> bytes:
    # not str(value), which the decimal context changes
    sign, digits, exponent = value.as_tuple()
    return _simple("decimal", sign, bytes(digits), exponent)


def _fraction(value: fractions.Fraction) -> bytes:
    return _simple("fraction", value.numerator, value.denominator)


def _timedelta(value: dt.timedelta) -> bytes:
    return _simple("timedelta", value.days, value.seconds, value.microseconds)


def _date(value: dt.date) -> bytes:
    return _simple("date", value.year, value.month, value.day)


def _path(value: pathlib.PurePath) -> bytes:
    return _simple("path", value.as_posix())


def _pattern(value: re.Pattern[Any]) -> bytes:
    return _simple("pattern", value.pattern, int(value.flags))


def _plain_scalar(value: np.generic) -> bytes:
    return _leaf(normalize(value))


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    type(...): lambda value: _constant("Ellipsis"),
    type(NotImplemented): lambda value: _constant("NotImplemented"),
    int: _int,
    float: _float,
    complex: _complex,
    str: _text,
    bytes: _bytes,
    bytearray: lambda value: b"B" + _bytes(bytes(value))[1:],
    range: lambda value: b"r" + _int(value.start) + _int(value.stop) + _int(value.step),
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: lambda value: _simple("uuid", value.bytes),
    dt.timedelta: _timedelta,
    dt.date: _date,
    re.Pattern: _pattern,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
    type(np.ma.masked): lambda value: _constant("numpy.ma.masked"),
    np.bool_: _plain_scalar,
    np.int64: lambda value: _int(int(value)),
    np.float64: lambda value: _float(float(value)),
    np.complex128: _plain_scalar,
    np.str_: _plain_scalar,
    np.bytes_: _plain_scalar,
    Opaque: lambda value: value.data,
}
"""Types whose encoding needs nothing but the value; everything else goes through a walk."""

if hasattr(functools, "Placeholder"):  # Python 3.14
    _LEAVES[type(functools.Placeholder)] = lambda value: _constant("functools.Placeholder")

_PLAIN_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "b1": bool,
    "i8": int,
    "f8": float,
    "c16": complex,
}


# ---------------------------------------------------------------------------------------------
# The walk over values that hold values
# ---------------------------------------------------------------------------------------------


class _Unidentified(Exception):
    """Something without an identity was met; the steps that lead to it are added on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def message(self, name: str) -> str:
        return f"'{name}{''.join(reversed(self.steps))}' has no sound identity: {self.reason}"


@dataclasses.dataclass(slots=True)
class _Walk:
    """Where an encoding stands."""

    active: list[int] = dataclasses.field(default_factory=list)
    """ids of the containers that the present value lies in"""
    functions: tuple[Any, ...] = ()
    """the functions whose identity is being taken, outermost first"""
    home: str | None = None
    """module of the outermost function; classes of that module are named without it"""
    notes: list[str] | None = None
    """where what has no identity counts by its type, and is noted here; None refuses it"""


def _encode(value: Any, walk: _Walk) -> bytes:
    kind = type(value)
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        return leaf(value)
    active = walk.active
    if id(value) in active:
        return _refuse(value, walk, "it holds itself; pass a value without a cycle")
    if len(active) >= MAX_DEPTH:
        return _refuse(value, walk, f"it is nested over {MAX_DEPTH} levels deep; pass a flatter one")
    encoder = _NODES.get(kind) or _encoder_of(value)
    active.append(id(value))
    data = encoder(value, walk)
    active.pop()
    return data


def _encode_at(value: Any, walk: _Walk, step: str) -> bytes:
    try:
        return _encode(value, walk)
    except _Unidentified as trouble:
        trouble.steps.append(step)
        raise


def _refuse(value: Any, walk: _Walk, reason: str) -> bytes:
    """Refuse a value; in a function's closure, count it by its type and note that instead."""
    if walk.notes is None:
        raise _Unidentified(reason)
    walk.notes.append(f"an object of type '{_type_name(type(value))}' counts by its type only")
    return _record("type only", [_class_name(type(value), walk)])


def _unknown(value: Any, walk: _Walk) -> bytes:
    name = _type_name(type(value))
    if isinstance(value, types.ModuleType):
        if walk.notes is not None:
            version = _version_of(value.__name__)
            return _record("module", [_text(value.__name__), _leaf(version)])
        reason = (
            f"expected plain data, got the module '{value.__name__}'; "
            f"pass its name, or the values that matter"
        )
    else:
        reason = (
            f"expected plain data (numbers, text, arrays, containers, enums, dataclasses, "
            f"functions), got an object of type '{name}'; pass a plain value, give the class a "
            f"method {_METHOD}() that returns one, or call "
            f"register_identity({type(value).__name__}, function)"
        )
    return _refuse(value, walk, reason)


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _short(value: Any, length: int = 60) -> str:
    """Return a short text for people to read; nothing is ever keyed on it."""
    try:
        text = " ".join(_REPR.repr(value).split())
    except Exception:  # a user's __repr__ may raise anything
        text = f"<{_type_name(type(value))}>"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= length else text[: length - 3] + "..."


_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxlist = _REPR.maxdict = 8


def _items(values: Iterable[Any], walk: _Walk) -> bytes:
    """Return the joined encodings of the elements of a list or tuple."""
    parts: list[bytes] = []
    try:
        for value in values:
            parts.append(_encode(value, walk))  # noqa: PERF401  len(parts) tells which one failed
    except _Unidentified as trouble:
        trouble.steps.append(f"[{len(parts)}]")
        raise
    return b"".join(parts)


def _sequence(tag: bytes, value: Sequence[Any], walk: _Walk) -> bytes:
    kinds = set(map(type, value))
    packed = _packed(value, *kinds) if len(kinds) == 1 else None
    return tag + _size(len(value)) + (_items(value, walk) if packed is None else packed)


def _list(value: list[Any], walk: _Walk) -> bytes:
    return _sequence(b"l", value, walk)


def _tuple(value: tuple[Any, ...], walk: _Walk) -> bytes:
    return _sequence(b"t", value, walk)


def _dict(value: dict[Any, Any], walk: _Walk) -> bytes:
    pairs = []
    for key, item in value.items():
        try:
            coded = _encode(key, walk)
        except _Unidentified as trouble:
            trouble.steps.append(f" (the key {_short(key)})")
            raise
        try:
            pairs.append((coded, _encode(item, walk)))
        except _Unidentified as trouble:
            trouble.steps.append(f"[{_short(key)}]")
            raise
    pairs.sort()
    return b"m" + _size(len(pairs)) + b"".join([part for pair in pairs for part in pair])


def _set(tag: bytes, value: Iterable[Any], walk: _Walk) -> bytes:
    parts = []
    for item in value:
        try:
            parts.append(_encode(item, walk))
        except _Unidentified as trouble:
            trouble.steps.append(f" (the element {_short(item)})")
            raise
    parts.sort()
    return tag + _size(len(parts)) + b"".join(parts)


def _slice(value: slice, walk: _Walk) -> bytes:
    parts = [_encode(part, walk) for part in (value.start, value.stop, value.step)]
    return b"x" + b"".join(parts)


def _time(value: dt.time, walk: _Walk) -> bytes:
    fields = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    zone = _encode_at(value.tzinfo, walk, ".tzinfo")
    return _record("time", [*map(_int, fields), zone])


def _datetime(value: dt.datetime, walk: _Walk) -> bytes:
    # the offset too: what a zone's name means changes with the time zone database
    zone = _encode_at(value.tzinfo, walk, ".tzinfo")
    fields = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    parts = [*map(_int, fields), _int(value.microsecond), _int(value.fold), zone]
    return _record("datetime", [*parts, _leaf(value.utcoffset())])


def _timezone(value: dt.timezone, walk: _Walk) -> bytes:
    state = value.__getinitargs__()  # type: ignore[attr-defined]
    return _record("timezone", [_leaf(part) for part in state])


def _zoneinfo(value: zoneinfo.ZoneInfo, walk: _Walk) -> bytes:
    key: str | None = value.key  # the stubs know nothing of ZoneInfo.from_file
    if key is None:
        return _refuse(value, walk, "expected a ZoneInfo with a key; use ZoneInfo(name)")
    return _simple("zoneinfo", key)


def _class_name(kind: type, walk: _Walk) -> bytes:
    """Return the encoded name of a class, without its module where a function lives there."""
    module = "" if kind.__module__ == walk.home else kind.__module__
    return b"t\x02" + _text(str(module)) + _text(kind.__qualname__)


def _class(value: type, walk: _Walk) -> bytes:
    return _record("class", [_class_name(value, walk)])


def _enum(value: enum.Enum, walk: _Walk) -> bytes:
    kind = type(value)
    name: str | None = value.name  # None for some combinations of flags
    declared = kind.__members__.get(name) if name is not None else None
    # a combination of flags has no name of its own that all Pythons agree on
    member = _text(name or "") if declared is value else _encode(value.value, walk)
    return _record("enum", [_class_name(kind, walk), member])


def _fields(value: Any, names: Iterable[str], kind: str, walk: _Walk) -> bytes:
    """Return the encoding of an object by its class and named attributes."""
    parts = [_class_name(type(value), walk)]
    for name in names:
        parts.append(_text(name))
        try:
            field = getattr(value, name)
        except AttributeError:
            parts.append(_constant("unset"))
        else:
            parts.append(_encode_at(field, walk, f".{name}"))
    return _record(kind, parts)


def _dataclass(value: Any, walk: _Walk) -> bytes:
    return _fields(value, [field.name for field in dataclasses.fields(value)], "dataclass", walk)


def _attrs(value: Any, walk: _Walk) -> bytes:
    return _fields(value, [field.name for field in type(value).__attrs_attrs__], "attrs", walk)


def _namedtuple(value: Any, walk: _Walk) -> bytes:
    names = _leaf_tuple(value._fields)
    parts = [_encode_at(part, walk, f".{name}") for name, part in zip(value._fields, value, strict=True)]
    return _record("namedtuple", [_class_name(type(value), walk), names, *parts])


def _leaf_tuple(values: Iterable[Any]) -> bytes:
    parts = [_leaf(value) for value in values]
    return b"t" + _size(len(parts)) + b"".join(parts)


def _namespace(value: types.SimpleNamespace, walk: _Walk) -> bytes:
    return _record("namespace", [_dict(vars(value), walk)])


def _ordered_dict(value: collections.OrderedDict[Any, Any], walk: _Walk) -> bytes:
    # compares by order, so order is part of it
    return _record("ordered dict", [_list([*value.items()], walk)])


def _default_dict(value: collections.defaultdict[Any, Any], walk: _Walk) -> bytes:
    factory = _encode_at(value.default_factory, walk, ".default_factory")
    return _record("default dict", [factory, _dict(value, walk)])


def _deque(value: collections.deque[Any], walk: _Walk) -> bytes:
    return _record("deque", [_leaf(value.maxlen), _list(list(value), walk)])


def _mapping_proxy(value: types.MappingProxyType[Any, Any], walk: _Walk) -> bytes:
    return _record("mapping proxy", [_dict(dict(value), walk)])


def _base_of(kind: type) -> Any:
    """Return the plain type that a class extends, if any."""
    return next((base for base in kind.__mro__ if base in _BASES), None)


def _subclass(value: Any, walk: _Walk) -> bytes:
    """Encode an instance of a subclass of a plain type: class, plain value and attributes."""
    kind = type(value)
    base = _base_of(kind)
    assert base is not None
    plain = _BASES[base](value)
    state = _encode_at(_state(value), walk, ".__dict__")
    return _record("subclass", [_class_name(kind, walk), _encode(plain, walk), state])


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes that an instance holds, in its dict or in slots."""
    state = dict(getattr(value, "__dict__", ()))
    for name, member in _slots(type(value)):
        try:
            state[name] = member.__get__(value)
        except AttributeError:
            continue
    return state


def _slots(kind: type) -> Iterator[tuple[str, types.MemberDescriptorType]]:
    for base in reversed(kind.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and base.__module__ != "builtins":
                yield name, member


_BASES: Final[dict[type, Callable[[Any], Any]]] = {
    int: lambda value: int.__int__(value),
    float: lambda value: float.__float__(value),
    complex: lambda value: complex.__complex__(value),
    str: lambda value: str.__str__(value),
    bytes: lambda value: b"".join((value, b"")),
    bytearray: lambda value: bytearray(bytes(memoryview(value))),
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: (*tuple.__iter__(value),),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    collections.OrderedDict: lambda value: collections.OrderedDict([*value.items()]),
    collections.defaultdict: lambda value: collections.defaultdict(value.default_factory, dict.items(value)),
    collections.deque: lambda value: collections.deque([*value], value.maxlen),
}


def _by_method(value: Any, walk: _Walk) -> bytes:
    inner = _encode_at(getattr(type(value), _METHOD)(value), walk, f".{_METHOD}()")
    return _record("identity", [_class_name(type(value), walk), inner])


def _by_registration(value: Any, walk: _Walk) -> bytes:
    function = next(_REGISTERED[base] for base in type(value).__mro__ if base in _REGISTERED)
    step = f" (by the function registered for '{type(value).__name__}')"
    inner = _encode_at(function(value), walk, step)
    return _record("identity", [_class_name(type(value), walk), inner])


_REGISTERED: dict[type, Callable[[Any], Any]] = {}

_Encoder = Callable[[Any, _Walk], bytes]


def _encoder_of(value: Any) -> _Encoder:
    """Return the encoder for a value whose exact type is in no table."""
    kind = type(value)
    if any(base in _REGISTERED for base in kind.__mro__):
        return _by_registration
    if hasattr(kind, _METHOD) and not isinstance(value, type):
        return _by_method
    if issubclass(kind, enum.Enum):
        return _enum
    for base, encoder in _FAMILIES:
        if issubclass(kind, base):
            return encoder
    package = str(kind.__module__).partition(".")[0]
    if package in _PACKAGES:
        return _PACKAGES[package]
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and not _state(value):
        return _namedtuple
    if hasattr(kind, "n_sequence_fields"):
        return _unknown  # a time.struct_time and its like hold more than they show
    if _base_of(kind) is not None:
        return _subclass
    if dataclasses.is_dataclass(kind):
        return _dataclass
    if hasattr(kind, "__attrs_attrs__"):
        return _attrs
    if callable(value) and isinstance(unwrap(value), types.FunctionType):
        return _function
    return _unknown


# ---------------------------------------------------------------------------------------------
# NumPy
# ---------------------------------------------------------------------------------------------

_MANTISSA: Final = int(np.finfo(np.longdouble).nmant)
_LONG_KIND: Final = {52: "", 63: "x87", 112: "quad", 105: "double-double"}.get(_MANTISSA, "other")
_LONG_BYTES: Final = 10 if _LONG_KIND == "x87" else np.dtype(np.longdouble).itemsize
_DTYPE_TEXT: Final = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SUV]\d{1,9}|[mM]8(\[\d*[a-zA-Zμ]+\])?")


def _is_long(dtype: np.dtype[Any]) -> bool:
    return dtype.char in "gG" and _LONG_KIND != ""


def _dtype(dtype: np.dtype[Any], walk: _Walk) -> bytes:
    """Return the encoding of a dtype as far as it concerns an array's content."""
    if dtype.names is not None:
        fields = []
        for name in dtype.names:
            field = dtype.fields[name][0]  # type: ignore[index]
            base, shape = field.subdtype or (field, ())
            fields += [_text(name), _dtype(base, walk), _leaf_tuple(shape)]
        return b"t" + _size(len(fields)) + b"".join(fields)
    if _is_long(dtype):
        return _text(dtype.char + _LONG_KIND)
    if dtype.kind == "T":
        text = _text("T1" if getattr(dtype, "coerce", True) else "T0")
        if hasattr(dtype, "na_object"):
            return b"o" + text + _encode(dtype.na_object, walk)
        return text
    if dtype.kind == "O":
        return _text("O")
    if dtype.kind not in "biufcSUVmM":
        raise _Unidentified(f"expected an array of a dtype of NumPy's own, got {dtype!r}")
    return _text(dtype.str[1:])


def _elements(array: np.ndarray, walk: _Walk) -> bytes:
    """Return every element in C order, little-endian, without padding, NaNs alike."""
    dtype = array.dtype
    if dtype.names is not None:
        return b"".join([_elements(np.asarray(array[name]), walk) for name in dtype.names])
    if dtype.kind in "OT":
        return _objects(array, walk)
    flat = np.asarray(array, dtype=dtype.newbyteorder("<"), order="C").reshape(-1)
    if dtype.kind == "b":
        return bytes(flat.view(np.uint8) != 0)
    if dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    if dtype.kind in "fc":
        missing = np.isnan(flat)
        if missing.any():
            flat = flat.copy()
            flat[missing] = np.nan
        if _is_long(dtype):
            flat = flat.view(np.uint8).reshape(len(flat), -1)[:, :_LONG_BYTES]
    return flat.tobytes()


def _objects(array: np.ndarray, walk: _Walk) -> bytes:
    parts: list[bytes] = []
    try:
        for value in array.flat:
            parts.append(_encode(value, walk))  # noqa: PERF401  len(parts) tells which one failed
    except _Unidentified as trouble:
        at = np.unravel_index(len(parts), array.shape)
        trouble.steps.append(f"[{', '.join(str(int(index)) for index in at)}]")
        raise
    return b"".join(parts)


def _array(value: np.ndarray, walk: _Walk) -> bytes:
    dtype = value.dtype
    head = b"a" + _dtype(dtype, walk) + _size(value.ndim)
    return head + b"".join(map(_size, value.shape)) + _elements(np.asarray(value), walk)


def _array_subclass(value: np.ndarray, walk: _Walk) -> bytes:
    kind = type(value)
    if kind not in _ARRAY_CLASSES.values():
        return _unknown(value, walk)  # it may carry what the elements do not show, such as units
    return _record("array class", [_text(kind.__name__), _array(np.asarray(value), walk)])


_ARRAY_CLASSES: Final[dict[str, Any]] = {
    "matrix": np.matrix,
    "recarray": np.recarray,
}


def _masked_array(value: Any, walk: _Walk) -> bytes:
    if type(value) is not np.ma.MaskedArray:
        return _unknown(value, walk)
    hidden: Any = np.zeros((), value.dtype)
    shown = value.filled(hidden)
    parts = (np.ma.getmaskarray(value), shown, np.asarray(value.fill_value))
    return _record("masked array", [_array(part, walk) for part in parts])


def _numpy_scalar(value: np.generic, walk: _Walk) -> bytes:
    if value.dtype.str[1:] in _PLAIN_SCALARS:
        return _leaf(normalize(value))
    if type(value).__module__.partition(".")[0] != "numpy":
        return _unknown(value, walk)
    array = np.asarray(value)
    return b"n" + _dtype(array.dtype, walk) + _elements(array, walk)


def _dtype_value(value: np.dtype[Any], walk: _Walk) -> bytes:
    """Return the encoding of a dtype that is itself the value: byte order and layout count."""
    if value.subdtype is not None:
        base, shape = value.subdtype
        return _record("dtype", [_encode(base, walk), _leaf_tuple(shape)])
    if value.names is None:
        if value.kind == "T":
            missing = {"na_object": value.na_object} if hasattr(value, "na_object") else {}
            coerce = bool(getattr(value, "coerce", True))
            return _made_of("string dtype", walk, coerce=coerce, **missing)
        return _simple("dtype", value.str)
    parts = [_leaf(value.itemsize), _leaf(value.isalignedstruct)]
    for name in value.names:
        field, offset = value.fields[name][:2]  # type: ignore[index]
        parts += [_text(name), _encode(field, walk), _leaf(offset)]
    return _record("dtype", parts)


# ---------------------------------------------------------------------------------------------
# Tables and labelled arrays, by content
# ---------------------------------------------------------------------------------------------


def _pandas(value: Any, walk: _Walk) -> bytes:
    import pandas as pd

    if type(value) is pd.DataFrame:
        columns = [_pandas_column(value.iloc[:, at].array, walk) for at in range(value.shape[1])]
        labels = [_encode(index, walk) for index in (value.index, value.columns)]
        attrs = _encode_at(value.attrs, walk, ".attrs")
        return _record("pandas.DataFrame", [attrs, *labels, *columns])
    if type(value) is pd.Series:
        labels = [_encode(part, walk) for part in (value.index, value.name)]
        attrs = _encode_at(value.attrs, walk, ".attrs")
        return _record("pandas.Series", [attrs, *labels, _pandas_column(value.array, walk)])
    if isinstance(value, pd.MultiIndex):
        levels = [_encode(value.get_level_values(at), walk) for at in range(value.nlevels)]
        return _record("pandas.MultiIndex", levels)
    if isinstance(value, pd.Index):
        freq = getattr(value, "freqstr", None)
        parts = [_encode(value.name, walk), _leaf(freq)]
        return _record("pandas.Index", [*parts, _pandas_column(value.array, walk)])
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _record("pandas.array", [_pandas_column(value, walk)])
    return _pandas_scalar(value, walk)


def _pandas_column(array: Any, walk: _Walk) -> bytes:
    """Return the dtype and the values of a pandas array of any kind."""
    import pandas as pd

    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        return _record("column", [_encode(np.asarray(array), walk)])
    name = [_text(type(dtype).__name__), _text(str(dtype))]
    if isinstance(dtype, pd.ArrowDtype):
        return _record("column", [*name, _arrow_column(array.__arrow_array__(), walk)])
    if isinstance(dtype, pd.CategoricalDtype):
        parts = (array.codes.astype("int64"), array.categories, bool(array.ordered))
        return _record("column", [name[0], *[_encode(part, walk) for part in parts]])
    if isinstance(dtype, pd.DatetimeTZDtype):
        zone = _encode(dtype.tz, walk)
        return _record("column", [*name, zone, _encode(pd.DatetimeIndex(array).asi8, walk)])
    if isinstance(dtype, pd.PeriodDtype):
        return _record("column", [*name, _encode(pd.PeriodIndex(array).asi8, walk)])
    if isinstance(dtype, pd.IntervalDtype):
        sides = [_encode(side, walk) for side in (array.left, array.right)]
        return _record("column", [*name, _text(array.closed), *sides])
    values = np.empty(len(array), dtype=object)
    missing = np.asarray(pd.isna(array), dtype=bool)
    for at, item in enumerate(array):
        values[at] = item
    if dtype.na_value is pd.NA or isinstance(dtype, pd.StringDtype):
        values[missing & [item is dtype.na_value or item is pd.NA for item in values]] = None
    return _record("column", [*name, _array(values, walk)])


def _pandas_scalar(value: Any, walk: _Walk) -> bytes:
    import pandas as pd

    if value is pd.NaT or value is pd.NA:
        return _constant(f"pandas.{'NaT' if value is pd.NaT else 'NA'}")
    if type(value) is pd.Timestamp:
        zone, offset = value.tzinfo, value.utcoffset()
        return _made_of(
            "pandas.Timestamp", walk, asm8=value.asm8, tzinfo=zone, offset=offset, fold=value.fold
        )
    if type(value) is pd.Timedelta:
        return _record("pandas.Timedelta", [_encode(value.asm8, walk)])
    if type(value) is pd.Period:
        return _simple("pandas.Period", value.ordinal, value.freqstr)
    if type(value) is pd.Interval:
        left, right = value.left, value.right
        return _made_of("pandas.Interval", walk, left=left, right=right, closed=value.closed)
    return _unknown(value, walk)


def _xarray(value: Any, walk: _Walk) -> bytes:
    import xarray as xr

    if type(value) is xr.DataArray:
        coords = {name: coord.variable for name, coord in value.coords.items()}
        return _made_of("xarray.DataArray", walk, name=value.name, variable=value.variable, coords=coords)
    if type(value) is xr.Dataset:
        names: Any = {*value.coords}
        named, attrs = dict(value.variables), dict(value.attrs)
        return _made_of("xarray.Dataset", walk, variables=named, coords=names, attrs=attrs)
    if type(value) in (xr.Variable, xr.IndexVariable):
        attrs, data = dict(value.attrs), _xarray_data(value)
        return _made_of("xarray.Variable", walk, dims=value.dims, attrs=attrs, data=data)
    return _unknown(value, walk)


def _xarray_data(variable: Any) -> Any:
    """Return a variable's elements; a foreign array (of pint, say) must identify itself."""
    data = variable.data
    foreign = type(data).__module__.partition(".")[0] not in ("numpy", "dask", "pandas", "xarray")
    return data if foreign else variable.values


def _pyarrow(value: Any, walk: _Walk) -> bytes:
    import pyarrow as pa

    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [_arrow_column(column, walk) for column in value.columns]
        return _record(f"pyarrow.{type(value).__name__}", [_encode(value.schema, walk), *columns])
    if isinstance(value, pa.ChunkedArray | pa.Array):
        kind = "ChunkedArray" if isinstance(value, pa.ChunkedArray) else "Array"
        return _record(f"pyarrow.{kind}", [_arrow_column(value, walk)])
    if isinstance(value, pa.Schema):
        fields = [_encode(field, walk) for field in value]
        return _record("pyarrow.Schema", [_encode(value.metadata, walk), *fields])
    if isinstance(value, pa.Field):
        about = {"nullable": value.nullable, "metadata": value.metadata}
        return _made_of("pyarrow.Field", walk, name=value.name, type=value.type, **about)
    if isinstance(value, pa.DataType):
        return _simple("pyarrow.DataType", str(value))  # Arrow's own complete name of the type
    if isinstance(value, pa.Scalar):
        return _record("pyarrow.Scalar", [_arrow_column(pa.array([value], value.type), walk)])
    return _unknown(value, walk)


def _arrow_column(column: Any, walk: _Walk) -> bytes:
    """Return type, validity and values of an Arrow array, however it is cut and offset."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    kind = column.type
    parts = [_text(str(kind)), _array(np.asarray(column.is_valid()), walk)]
    present = column.drop_null()
    if isinstance(column, pa.ExtensionArray):
        parts.append(_arrow_column(column.storage, walk))
    elif pa.types.is_dictionary(kind):
        parts.append(_arrow_column(column.dictionary_decode(), walk))
    elif pa.types.is_struct(kind):
        parts += [_arrow_column(child, walk) for child in column.flatten()]
    elif pa.types.is_map(kind):
        offsets = np.asarray(present.offsets)
        parts.append(_array(np.diff(offsets), walk))
        for child in (present.keys, present.items):
            parts.append(_arrow_column(child[int(offsets[0]) : int(offsets[-1])], walk))
    elif pa.types.is_fixed_size_list(kind):
        parts.append(_arrow_column(present.flatten(), walk))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts.append(_array(np.asarray(present.value_lengths()), walk))
        parts.append(_arrow_column(present.flatten(), walk))
    elif pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        parts.append(_array(np.asarray(present.view(f"int{kind.bit_width}")), walk))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        parts.append(_array(np.asarray(present), walk))
    else:
        parts.append(_list(present.to_pylist(), walk))
    return _record("arrow", parts)


def _polars(value: Any, walk: _Walk) -> bytes:
    import polars as pl

    if type(value) is pl.DataFrame:
        columns = [_encode(column, walk) for column in value.get_columns()]
        return _record("polars.DataFrame", [_leaf(value.height), *columns])
    if type(value) is pl.Series:
        return _record("polars.Series", [_text(value.name), _polars_column(value, walk)])
    if isinstance(value, pl.DataType):
        return _simple("polars.DataType", str(value))
    return _unknown(value, walk)


def _polars_column(series: Any, walk: _Walk) -> bytes:
    """Return type, validity and values of a polars series; its lists would lose nanoseconds."""
    import polars as pl

    kind = series.dtype
    parts = [_text(str(kind)), _array(series.is_not_null().to_numpy(), walk)]
    if isinstance(kind, pl.Struct):
        children = [series.struct.field(field.name) for field in kind.fields]
        parts += [_encode(child, walk) for child in children]
    elif isinstance(kind, pl.List | pl.Array):
        if isinstance(kind, pl.List):
            parts.append(_array(series.drop_nulls().list.len().to_numpy(), walk))
        parts.append(_polars_column(series.drop_nulls().explode(), walk))
    elif kind == pl.Enum:
        parts += [_encode(kind.categories.to_list(), walk), _encode(series.to_list(), walk)]
    elif kind.is_temporal() or (kind.is_numeric() and kind != pl.Decimal):
        parts.append(_array(series.drop_nulls().to_physical().to_numpy(), walk))
    else:
        parts.append(_encode(series.to_list(), walk))
    return _record("column", parts)


_PACKAGES: Final[dict[str, _Encoder]] = {
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "xarray": _xarray,
}


# ---------------------------------------------------------------------------------------------
# Functions
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """What a function is known by.

    Examples
    --------
    >>> identify_function(len)
    FunctionIdentity('len', basis='name')
    """

    qualname: str
    """The qualified name, without the module."""
    module: str
    """Where it was defined; for people, and no part of the digest of a Python function."""
    digest: str
    """32 hexadecimal characters over everything that counts."""
    scheme: int
    """The number of the rules that the digest follows."""
    basis: str
    """``"source"``, ``"code object"`` where there is no source to trust, or ``"name"``."""
    source: str | None = None
    """The text of the function, where that is the basis."""
    notes: tuple[str, ...] = ()
    """What the digest does not cover, or depends on more than one would think."""

    def __repr__(self) -> str:
        """Return name and basis; digest and source are long."""
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"FunctionIdentity({self.qualname!r}, basis={self.basis!r}{notes})"


def identify_function(func: Callable[..., Any]) -> FunctionIdentity:
    """Return what a function is known by: its name, its code, its defaults and its closure.

    Comments, docstrings, annotations, decorators, the module and the place in the file do not
    count. Wrappers are seen through; what a partial or a method has bound counts.

    Parameters
    ----------
    func : callable
        A function, a lambda, a method, a partial, a builtin or a class.

    Returns
    -------
    FunctionIdentity
        With notes on what could not be covered.

    Raises
    ------
    IdentityError
        `func` is not callable, or a callable object without an identity.

    Warns
    -----
    IdentityWarning
        Something in closure or defaults counts by its type only; once per function.

    Examples
    --------
    >>> one = identify_function(lambda x: x + 1)
    >>> two = identify_function(lambda x: x + 1)  # spaces do not count
    >>> one.digest == two.digest
    True
    """
    try:
        return _identify(func, _Walk())
    except _Unidentified as trouble:
        raise IdentityError(trouble.message("func")) from None


def unwrap(func: Any) -> Any:
    """Return the plain function underneath wrappers.

    Parameters
    ----------
    func : callable
        A function, possibly under ``functools.wraps``, partial, a bound method, static or class
        method, ``lru_cache``, or a compiler such as Numba's that keeps ``py_func``.

    Returns
    -------
    callable
        The innermost function; `func` itself where nothing wraps it.

    Examples
    --------
    >>> import functools
    >>> unwrap(functools.partial(functools.lru_cache(print), "x")) is print
    True
    """
    return _layers(func)[-1]


def _layers(func: Any) -> list[Any]:
    """Return a callable, what it wraps, what that wraps, and so on."""
    layers = [func]
    while (inner := _inside(layers[-1])) is not None:
        if any(inner is layer for layer in layers):
            break
        layers.append(inner)
    return layers


def _inside(func: Any) -> Any:
    if isinstance(func, functools.partial):
        return func.func
    if isinstance(func, types.MethodType):
        return func.__func__
    if isinstance(func, (type, *_NAMED_TYPES)) or _is_mock(func):
        return None
    inner = getattr(func, "__wrapped__", None)
    if callable(inner):
        return inner
    inner = None if isinstance(func, types.FunctionType) else getattr(func, "py_func", None)
    return inner if isinstance(inner, types.FunctionType) else None


def _is_mock(func: Any) -> bool:
    return type(func).__module__ == "unittest.mock"


_NAMED_TYPES: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    np.ufunc,
    type(np.sum),  # NumPy's dispatchers: what they do lies in the version, not in their few lines
)


def _identify(func: Any, outer: _Walk) -> FunctionIdentity:
    layers = _layers(func)
    plain = layers[-1]
    notes: list[str] = []
    walk = _Walk(
        functions=(*outer.functions, plain),
        home=outer.home or getattr(plain, "__module__", None),
        notes=notes,
    )
    bound = b"".join([_bound(layer, walk) for layer in layers[:-1]])
    if isinstance(plain, types.FunctionType):
        identity = _identify_python(plain, bound, walk)
    else:
        identity = _identify_named(plain, bound, walk)
    if outer.notes is not None:
        outer.notes += [f"the function '{identity.qualname}': {note}" for note in notes]
    elif notes:
        _warn_once(plain, identity.qualname, notes)
    return dataclasses.replace(identity, notes=(*identity.notes, *notes))


def _bound(layer: Any, walk: _Walk) -> bytes:
    """Return the encoding of the arguments that a wrapper has bound."""
    if isinstance(layer, functools.partial):
        args = _noted("arguments of the partial", layer.args, walk)
        return _record("partial", [args, _noted("arguments of the partial", layer.keywords, walk)])
    if isinstance(layer, types.MethodType):
        return _record("method", [_noted("the object of the method", layer.__self__, walk)])
    return b""


def _noted(subject: str, value: Any, walk: _Walk) -> bytes:
    """Return the encoding of a value, naming it in the notes that it causes."""
    assert walk.notes is not None
    before = len(walk.notes)
    data = _encode(value, walk)
    walk.notes[before:] = [f"{subject}: {note}" for note in walk.notes[before:]]
    return data


def _identify_python(func: types.FunctionType, bound: bytes, walk: _Walk) -> FunctionIdentity:
    written = _written(func)
    if written is None:
        magic = importlib.util.MAGIC_NUMBER
        basis, source = "code object", None
        code = _record(basis, [_bytes(magic), _code_bytes(func.__code__)])
        notes: tuple[str, ...] = (
            "there is no source that compiles to the code that runs, so the compiled code counts, "
            "which another version of Python compiles otherwise",
        )
    else:
        basis, source, notes = "source", written.source, ()
        code = _record(basis, [_bytes(_tree_bytes(written.node))])
    parts = [
        _int(SCHEME),
        _text(func.__qualname__),
        code,
        _noted("defaults", func.__defaults__, walk),
        _noted("keyword defaults", func.__kwdefaults__, walk),
        *_closure(func, walk),
        bound,
    ]
    data = xxhash.xxh3_128_hexdigest(_record("function", parts))
    return FunctionIdentity(func.__qualname__, func.__module__, data, SCHEME, basis, source, notes)


def _closure(func: types.FunctionType, walk: _Walk) -> list[bytes]:
    parts = []
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=True)
    for name, cell in sorted(cells, key=lambda pair: pair[0]):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            parts += [_text(name), _constant("unset")]
        else:
            parts += [_text(name), _noted(f"closure variable '{name}'", value, walk)]
    return parts


def _identify_named(func: Any, bound: bytes, walk: _Walk) -> FunctionIdentity:
    if not callable(func):
        raise _Unidentified(f"expected a function, got {_short(func)}")
    if isinstance(func, type):
        module, qualname = func.__module__, func.__qualname__
        version = _version_of(module)
        owner = _class_name(func, _Walk())
    elif _is_named(func):
        module, qualname = _qualified(func)
        version = _version_of(module)
        owner = _leaf_tuple((module, qualname)) + _owner(func)
    else:
        return _identify_object(func, walk)
    parts = [_int(SCHEME), owner, _leaf(version), bound]
    data = xxhash.xxh3_128_hexdigest(_record("named function", parts))
    return FunctionIdentity(qualname, module, data, SCHEME, "name")


def _identify_object(func: Any, walk: _Walk) -> FunctionIdentity:
    """Return the identity of a callable object: that of its class's ``__call__``, and its own."""
    call = _identify(type(func).__call__, _Walk(home=walk.home))
    own = _encode(func, _Walk(functions=walk.functions, home=walk.home))
    parts = [_int(SCHEME), _text(call.digest), own]
    data = xxhash.xxh3_128_hexdigest(_record("callable object", parts))
    kind = type(func)
    return FunctionIdentity(
        kind.__qualname__, kind.__module__, data, SCHEME, call.basis, call.source, call.notes
    )


def _is_named(func: Any) -> bool:
    return isinstance(func, _NAMED_TYPES) or type(func).__name__ == "cython_function_or_method"


def _owner(func: Any) -> bytes:
    """Return the encoding of the object that a builtin method is bound to."""
    owner = getattr(func, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return b""
    return _encode_at(owner, _Walk(), ".__self__")


def _qualified(func: Any) -> tuple[str, str]:
    """Return module and qualified name under which a compiled function is found."""
    qualname = getattr(func, "__qualname__", func.__name__)
    owner = getattr(func, "__objclass__", None)
    bound = getattr(func, "__self__", None)
    if owner is not None:
        return owner.__module__, qualname
    if bound is not None and not isinstance(bound, types.ModuleType):
        return type(bound).__module__, qualname
    for module in (getattr(func, "__module__", None), "numpy", "scipy.special"):
        if isinstance(module, str) and _look_up(module, qualname) is func:
            return module, qualname
    raise _Unidentified(
        f"'{qualname}' is compiled and cannot be found under its name, so its name says nothing; "
        f"wrap it in a Python function"
    )


def _look_up(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _version_of(module: str) -> str | None:
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package == "__main__":
        return None
    version = getattr(sys.modules.get(package), "__version__", None)
    return version if isinstance(version, str) else None


_warned: weakref.WeakSet[Any] = weakref.WeakSet()


def _warn_once(func: Any, qualname: str, notes: list[str]) -> None:
    try:
        if func in _warned:
            return
        _warned.add(func)
    except TypeError:  # neither hashable nor weakly referenced: no way to remember it
        pass
    warnings.warn(
        f"the identity of '{qualname}' rests on less than one would think: {'; '.join(notes)}; "
        f"name what else its results depend on with depends_on=",
        IdentityWarning,
        stacklevel=2,
    )


def _function(value: Any, walk: _Walk) -> bytes:
    """Encode a function that is, or lies in, a value."""
    plain = unwrap(value)
    for distance, outer in enumerate(reversed(walk.functions)):
        if outer is plain:
            return _simple("function above", distance)
    identity = _identify(value, walk)
    return _simple("function", identity.qualname, bytes.fromhex(identity.digest))


def _partial(value: functools.partial[Any], walk: _Walk) -> bytes:
    func = _encode_at(value.func, walk, ".func")
    args = _encode_at(value.args, walk, ".args")
    return _record("partial", [func, args, _encode_at(value.keywords, walk, ".keywords")])


def _method(value: types.MethodType, walk: _Walk) -> bytes:
    func = _encode_at(value.__func__, walk, ".__func__")
    return _record("method", [func, _encode_at(value.__self__, walk, ".__self__")])


def _operator(value: Any, walk: _Walk) -> bytes:
    kind, arguments = value.__reduce__()[:2]
    return _record("operator", [_class_name(kind, walk), _encode(arguments, walk)])


def _vectorize(value: np.vectorize, walk: _Walk) -> bytes:
    return _fields(value, ("pyfunc", "otypes", "signature", "excluded"), "numpy.vectorize", walk)


# -- the code that runs -----------------------------------------------------------------------

_SHAPE_FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
"""Flags of a code object that say what it is: *args, **kwargs, generator, coroutine, …"""


def _code_bytes(code: types.CodeType) -> bytes:
    """Return the encoding of everything in a code object but names of files and positions."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    parts = [_text(code.co_name), _leaf_tuple((*counts, code.co_flags & _SHAPE_FLAGS))]
    parts += [_bytes(code.co_code), _bytes(code.co_exceptiontable)]
    parts += [_leaf_tuple(some) for some in names]
    walk = _Walk()
    for const in code.co_consts:
        parts.append(_code_bytes(const) if isinstance(const, types.CodeType) else _encode(const, walk))
    return _record("code", parts)


# -- the code as it was written ---------------------------------------------------------------

_FUTURE_FLAGS: Final = 0x1000000 | 0x400000  # annotations, barry_as_FLUFL

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_compiling = threading.Lock()  # catch_warnings changes what all threads see


class _Written(NamedTuple):
    """A function as it stands in its file."""

    node: _FunctionNode
    source: str


class _Module(NamedTuple):
    """A source text: its functions as trees, and what they compile to."""

    nodes: dict[tuple[str, int], list[_FunctionNode]]
    """by name and first line; only lambdas can share both"""
    codes: dict[str, list[types.CodeType]]
    """by qualified name"""


def _written(func: types.FunctionType) -> _Written | None:
    """Return the written form of a function, where compiling it gives the code that runs."""
    code = func.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, func.__globals__))
    if not text:
        return None
    try:
        with _compiling:
            module = _compiled(text, code.co_flags & _FUTURE_FLAGS)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    twin = _twin(code, module.codes.get(code.co_qualname, []))
    if twin is None:
        return None
    nodes = module.nodes.get((twin.co_name, twin.co_firstlineno), [])
    node = nodes[0] if len(nodes) == 1 else _node_of(twin, nodes)
    return None if node is None else _Written(node, _segment(node, text))


def _twin(code: types.CodeType, compiled: list[types.CodeType]) -> types.CodeType | None:
    """Return the code object that equals one that runs, at its place if several do."""
    wanted = _code_bytes(code)
    places = set(code.co_positions())

    def distance(each: types.CodeType) -> tuple[int, int]:
        shared = len(places.intersection(each.co_positions()))
        return -shared, abs(each.co_firstlineno - code.co_firstlineno)

    return min((each for each in compiled if _code_bytes(each) == wanted), key=distance, default=None)


def _node_of(code: types.CodeType, nodes: list[_FunctionNode]) -> _FunctionNode | None:
    """Return the lambda, of several on one line, whose body all of the code lies in."""
    places = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column  # the first has no width
    ]
    holding = [
        (start, end, node)
        for start, end, node in map(_body_span, nodes)
        if places and all(start <= first and last <= end for first, last in places)
    ]
    # of lambdas within lambdas the innermost: the latest start, then the earliest end
    holding.sort(key=lambda span: (span[0], [-each for each in span[1]]))
    return holding[-1][2] if holding else None


def _body_span(node: _FunctionNode) -> tuple[tuple[int, int], tuple[int, int], _FunctionNode]:
    body = node.body
    first, last = (body, body) if isinstance(body, ast.expr) else (body[0], body[-1])
    start = (first.lineno, first.col_offset)
    return start, (last.end_lineno or 0, last.end_col_offset or 0), node


@functools.lru_cache(maxsize=8)
def _compiled(text: str, flags: int) -> _Module:
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # notebooks await in cells
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = compile(text, "<source>", "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        module = compile(tree, "<source>", "exec", flags, dont_inherit=True)
    nodes: dict[tuple[str, int], list[_FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FunctionNode):
            # a code object's first line is that of its first decorator, if there is one
            first = [node, *getattr(node, "decorator_list", [])][:2][-1]
            key = getattr(node, "name", "<lambda>"), first.lineno
            nodes.setdefault(key, []).append(node)
    codes: dict[str, list[types.CodeType]] = {}
    for code in _code_tree(module):
        codes.setdefault(code.co_qualname, []).append(code)
    return _Module(nodes, codes)


def _segment(node: _FunctionNode, text: str) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment(text, node) or ""
    lines = text.split("\n")[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines))


def _code_tree(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _code_tree(const)


_IGNORED_FIELDS: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params", "returns"})


def _tree_bytes(node: _FunctionNode) -> bytes:
    """Return the encoding of a function's tree, the same in every version of Python.

    Nodes are written as class and non-empty fields, so a field that a later Python adds changes
    nothing until it is used. Not recursive: ``a + b + c + …`` nests as deep as it is long.
    """
    declared = _declared(node)
    out: list[bytes] = []
    stack: list[tuple[Any, bool]] = [(_Top(node), False)]
    while stack:
        item, in_class = stack.pop()
        if isinstance(item, list):
            out.append(b"l" + _size(len(item)))
            stack.extend((each, in_class) for each in reversed(item))
        elif isinstance(item, ast.AST | _Top):
            name, fields, in_class = _node(item, in_class, declared)
            out.append(b"(" + _leaf_tuple((name, *(field for field, _ in fields))))
            stack.extend((each, in_class) for _, each in reversed(fields))
        else:
            out.append(_leaf(item))
    return b"".join(out)


def _declared(node: _FunctionNode) -> set[str]:
    """Return the names that are local anyway, without any bare annotation."""
    nodes = [*ast.walk(node)]
    bare = [each.target for each in nodes if isinstance(each, ast.AnnAssign) and not each.value]
    names = {each.arg for each in nodes if isinstance(each, ast.arg)}
    return names | {
        each.id
        for each in nodes
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store) and each not in bare
    }


class _Top(NamedTuple):
    """The function whose identity is taken: its decorators and its defaults do not count here."""

    node: _FunctionNode


_Fields = list[tuple[str, Any]]


def _node(item: ast.AST | _Top, in_class: bool, declared: set[str]) -> tuple[str, _Fields, bool]:
    """Return a node's name, the fields that count, and whether they lie in a class's body."""
    if isinstance(item, _Top):
        args = [(name, value) for name, value in _plain_fields(item.node.args) if "defaults" not in name]
        body = item.node.body
        kept = body if isinstance(body, ast.expr) else _body(body, declared, in_class=False)
        return type(item.node).__name__, [*args, ("body", kept)], False
    name = type(item).__name__
    fields = _plain_fields(item)
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        in_class = isinstance(item, ast.ClassDef)
    if isinstance(item, ast.arg):
        fields = [("arg", item.arg)]
    elif isinstance(item, ast.AnnAssign) and not in_class and item.value is not None:
        return "Assign", [("targets", [item.target]), ("value", item.value)], False
    elif isinstance(item, ast.Constant):
        fields = [("value", item.value)]
    elif isinstance(item, ast.JoinedStr):
        fields = [("values", _joined(item.values))]
    elif isinstance(item, ast.FormattedValue):
        fields = [pair for pair in fields if not (pair[0] == "format_spec" and _is_empty(pair[1]))]
    return (
        name,
        [(key, _tidied(item, key, value, declared, in_class)) for key, value in fields],
        in_class,
    )


def _plain_fields(node: ast.AST) -> _Fields:
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    return [
        (name, value)
        for name, value in fields
        if name not in _IGNORED_FIELDS and value is not None and value != []
    ]


def _tidied(node: ast.AST, name: str, value: Any, declared: set[str], in_class: bool) -> Any:
    """Return a field without docstrings, and without bare annotations that declare nothing new."""
    if not isinstance(value, list) or name not in ("body", "orelse", "finalbody"):
        return value
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if documented:
        return _body(value, declared, in_class)
    return _without_annotations(value, declared, in_class)


def _body(statements: list[ast.stmt], declared: set[str], in_class: bool) -> list[ast.stmt]:
    first = statements[0] if statements else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        statements = statements[1:]
    return _without_annotations(statements, declared, in_class)


def _without_annotations(statements: list[ast.stmt], declared: set[str], in_class: bool) -> list[ast.stmt]:
    kept = [
        each
        for each in statements
        if in_class  # where they make fields
        or not (
            isinstance(each, ast.AnnAssign)
            and each.value is None
            and isinstance(each.target, ast.Name)
            and each.target.id in declared
        )
    ]
    return kept or [ast.Pass()]


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string, of which Pythons cut the text differently."""
    out: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant):
            if not value.value:
                continue
            if out and isinstance(out[-1], ast.Constant):
                out[-1] = ast.Constant(str(out[-1].value) + str(value.value))
                continue
        out.append(value)
    return out


def _is_empty(value: Any) -> bool:
    return isinstance(value, ast.JoinedStr) and not _joined(value.values)


# ---------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------


def decode_canonical(data: bytes) -> Any:
    """Return a value that has these canonical bytes.

    Classes are looked up among the modules that are imported already; nothing is imported, and
    no constructor runs. What cannot be rebuilt, wherever it lies, is an `Opaque`.

    Parameters
    ----------
    data : bytes
        What `canonical_bytes` returned.

    Returns
    -------
    object
        ``canonical_bytes(decode_canonical(data)) == data`` holds.

    Raises
    ------
    ChunkFormatError
        The bytes are not canonical bytes of anything.

    Examples
    --------
    >>> decode_canonical(canonical_bytes({"a": (1, 2.5)}))
    {'a': (1, 2.5)}
    """
    try:
        reader = _Reader(bytes(data))
        value = reader.value(0)
        if reader.at != len(reader.data):
            raise _malformed(f"{len(reader.data) - reader.at} bytes too many")
        if canonical_bytes(value) != reader.data:
            raise _malformed("another form of the value that they stand for")
    except ChunkFormatError:
        raise
    except Exception as error:  # whatever damaged bytes bring about
        raise _malformed(f"{type(error).__name__}: {error}") from error
    return value


def _malformed(what: str) -> ChunkFormatError:
    return ChunkFormatError(f"'data' must be canonical bytes, got {what}; the bytes are damaged")


class _Reader:
    """Reads values off canonical bytes, front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        start, self.at = self.at, self.at + n
        if self.at > len(self.data):
            raise _malformed(f"{len(self.data)} bytes where {self.at} were announced")
        return self.data[start : self.at]

    def size(self) -> int:
        first = self.take(1)[0]
        if first < 255:
            return first
        n = int.from_bytes(self.take(8), "little")
        if n < 255:
            raise _malformed("a size that is written too long")
        return n

    def sizes(self) -> int:
        """Return a number of values, each of which takes a byte at least."""
        n = self.size()
        if n > len(self.data) - self.at:
            raise _malformed(f"{n} values in {len(self.data) - self.at} bytes")
        return n

    def text(self) -> str:
        return self.take(self.size()).decode("utf-8", "surrogatepass")

    def value(self, depth: int) -> Any:
        tag = self.take(1)
        read = _READERS.get(tag)
        if read is None or depth > 4 * MAX_DEPTH:
            raise _malformed(f"the tag {tag!r} at depth {depth}")
        return read(self, depth + 1)

    def values(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self.sizes())]

    def hashed(self, start: int, build: Callable[[Any], Any], items: list[Any]) -> Any:
        """Return a set or dict, or an `Opaque` where items are unhashable or equal here."""
        try:
            value = build(items)
        except Exception:  # a __hash__ may raise anything
            value = ()
        return value if len(value) == len(items) else Opaque(self.data[start : self.at])

    def rebuilt(self, start: int, build: Callable[[], Any]) -> Any:
        """Return what is built, or an `Opaque` where that does not give the same bytes again."""
        data = self.data[start : self.at]
        try:
            value = build()
            if canonical_bytes(value) == data:
                return value
        except Exception:  # a class may refuse in any way; the bytes stay
            return Opaque(data)
        return Opaque(data)


def _read_large_int(reader: _Reader, depth: int) -> int:
    return int.from_bytes(reader.take(reader.size()), "little", signed=True)


def _read_dict(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    pairs = [(reader.value(depth), reader.value(depth)) for _ in range(reader.sizes())]
    return reader.hashed(start, dict, pairs)


def _read_set(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    return reader.hashed(start, set, reader.values(depth))


def _read_frozenset(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    return reader.hashed(start, frozenset, reader.values(depth))


def _read_slice(reader: _Reader, depth: int) -> slice:
    return slice(reader.value(depth), reader.value(depth), reader.value(depth))


def _read_range(reader: _Reader, depth: int) -> range:
    return range(reader.value(depth), reader.value(depth), reader.value(depth))


def _read_constant(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    name = reader.text()
    return reader.rebuilt(start, lambda: _constants()[name])


def _constants() -> dict[str, Any]:
    constants = {
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "numpy.ma.masked": np.ma.masked,
    }
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        constants.update({"pandas.NaT": pandas.NaT, "pandas.NA": pandas.NA})
    return constants


def _read_array(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    described = _read_dtype(reader, depth)
    shape = tuple(reader.size() for _ in range(reader.size()))
    array = _read_elements(reader, described, shape, depth)
    return Opaque(reader.data[start : reader.at]) if array is None else array


def _read_scalar(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    array = _read_elements(reader, _read_dtype(reader, depth), (), depth)
    return Opaque(reader.data[start : reader.at]) if array is None else array[()]


class _Field(NamedTuple):
    """One field of a structured dtype as it was read."""

    name: str
    described: Any
    shape: tuple[int, ...]


def _read_dtype(reader: _Reader, depth: int) -> Any:
    """Return a dtype, the name of one that this machine lacks, or a list of fields."""
    tag = reader.take(1)
    if tag == b"t":
        return [_read_field(reader, depth) for _ in range(reader.size() // 3)]
    missing = tag == b"o"
    if missing:
        tag = reader.take(1)
    if tag != b"s":
        raise _malformed(f"the tag {tag!r} in place of a dtype")
    text = reader.text()
    if text == "O":
        return np.dtype(object)
    if text in ("T0", "T1"):
        return _build_string_dtype(text == "T1", *([reader.value(depth)] if missing else []))
    if text[1:] in ("x87", "quad", "double-double", "other"):
        here = text[1:] == _LONG_KIND
        return np.dtype(np.longdouble if text[0] == "g" else np.clongdouble) if here else text
    if not _DTYPE_TEXT.fullmatch(text):
        raise _malformed(f"the dtype {text!r}")
    return np.dtype("<" + text)


def _read_field(reader: _Reader, depth: int) -> _Field:
    if depth > MAX_DEPTH or reader.take(1) != b"s":
        raise _malformed("a field without a name")
    name = reader.text()
    described = _read_dtype(reader, depth + 1)
    shape = reader.value(depth)
    if type(shape) is not tuple:
        raise _malformed("a field without a shape")
    return _Field(name, described, shape)


def _read_elements(reader: _Reader, described: Any, shape: tuple[int, ...], depth: int) -> np.ndarray | None:
    """Return an array of what follows, or None where this machine has no such dtype."""
    count = math.prod(shape)
    if count > len(reader.data) and not getattr(described, "itemsize", 0):
        raise _malformed(f"{count} elements without a size")  # which NumPy would walk over
    if isinstance(described, list):
        columns = [_read_elements(reader, field.described, shape + field.shape, depth) for field in described]
        return _joined_columns(described, columns, shape)
    if isinstance(described, str):
        width = 10 if described.endswith("x87") else 16
        reader.take(count * width * (2 if described[0] == "G" else 1))
        return None
    if described.kind in "OT":
        return _read_objects(reader, described, shape, depth)
    if _is_long(described):
        return _read_long(reader, described, shape)
    data = reader.take(count * described.itemsize)
    return np.ndarray(shape, dtype=described, buffer=bytearray(data))


def _joined_columns(
    fields: list[_Field], columns: list[np.ndarray | None], shape: tuple[int, ...]
) -> np.ndarray | None:
    known = [(field, column) for field, column in zip(fields, columns, strict=True) if column is not None]
    if len(known) < len(fields):
        return None
    array = np.empty(shape, [(field.name, column.dtype, field.shape) for field, column in known])
    for field, column in known:
        array[field.name] = column
    return array


def _read_objects(reader: _Reader, dtype: np.dtype[Any], shape: tuple[int, ...], depth: int) -> np.ndarray:
    count = math.prod(shape)
    if count > len(reader.data) - reader.at:
        raise _malformed(f"{count} objects in {len(reader.data) - reader.at} bytes")
    array = np.empty(count, dtype)
    for at in range(count):
        array[at] = reader.value(depth)
    return array.reshape(shape)


def _read_long(reader: _Reader, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    parts = 2 if dtype.kind == "c" else 1
    count = math.prod(shape) * parts
    data = np.frombuffer(reader.take(count * _LONG_BYTES), np.uint8).reshape(count, _LONG_BYTES)
    padded = np.zeros((count, dtype.itemsize // parts), np.uint8)
    padded[:, :_LONG_BYTES] = data
    return padded.view(np.longdouble).reshape(-1).view(dtype).reshape(shape)


def _read_sequence(reader: _Reader, depth: int) -> list[Any]:
    n = reader.sizes()
    if n >= _FEW:
        plain = _read_numbers(reader, n)
        if plain is not None:
            return plain
    return [reader.value(depth) for _ in range(n)]


def _read_numbers(reader: _Reader, n: int) -> list[Any] | None:
    """Return `n` floats or `n` ints of 64 bits at once, where that is what follows."""
    data = reader.data[reader.at : reader.at + 9 * n]
    kind = {b"d": "<f8", b"i": "<i8"}.get(data[:1])
    if kind is None or len(data) < 9 * n:
        return None
    pairs = np.frombuffer(data, [("tag", "S1"), ("value", kind)])
    if (pairs["tag"] != data[:1]).any():
        return None
    reader.take(9 * n)
    plain: list[Any] = pairs["value"].tolist()
    return plain


def _read_record(reader: _Reader, depth: int) -> Any:
    start = reader.at - 1
    kind = reader.text()
    parts = reader.value(depth)
    build = _BUILDERS.get(kind)
    if build is None or type(parts) is not tuple:
        return Opaque(reader.data[start : reader.at])
    return reader.rebuilt(start, lambda: build(*parts))


_READERS: Final[dict[bytes, Callable[[_Reader, int], Any]]] = {
    b"N": lambda reader, depth: None,
    b"T": lambda reader, depth: True,
    b"F": lambda reader, depth: False,
    b"k": _read_constant,
    b"i": lambda reader, depth: int.from_bytes(reader.take(8), "little", signed=True),
    b"I": _read_large_int,
    b"d": lambda reader, depth: struct.unpack("<d", reader.take(8))[0],
    b"c": lambda reader, depth: complex(*struct.unpack("<dd", reader.take(16))),
    b"s": lambda reader, depth: reader.text(),
    b"b": lambda reader, depth: reader.take(reader.size()),
    b"B": lambda reader, depth: bytearray(reader.take(reader.size())),
    b"l": _read_sequence,
    b"t": lambda reader, depth: tuple(_read_sequence(reader, depth)),
    b"S": _read_set,
    b"Z": _read_frozenset,
    b"m": _read_dict,
    b"r": _read_range,
    b"x": _read_slice,
    b"a": _read_array,
    b"n": _read_scalar,
    b"v": _read_record,
}


# -- rebuilding -------------------------------------------------------------------------------


def _found_class(name: tuple[str, str]) -> Any:
    """Return a class that is imported already; only dicts are read, so nothing runs."""
    module, qualname = name
    found: Any = sys.modules[module]
    if not isinstance(found, types.ModuleType):
        raise LookupError(module)
    space = object.__getattribute__(found, "__dict__")
    for part in qualname.split("."):
        found = space[part]
        if not isinstance(found, type):
            raise LookupError(qualname)
        space = type.__getattribute__(found, "__dict__")
    return found


def _bare(kind: type) -> Any:
    """Return an instance that no constructor has touched, of a class that is safe to make so."""
    if hasattr(kind, "__del__") or hasattr(kind, _METHOD):
        raise LookupError(kind)  # its own code would run
    return object.__new__(kind)


def _filled(instance: Any, state: Mapping[str, Any]) -> Any:
    """Return an instance with attributes set where they are stored, past any ``__setattr__``."""
    slots = dict(_slots(type(instance)))
    for name, value in state.items():
        if isinstance(value, Opaque) and value.data == _UNSET:
            continue
        if name in slots:
            slots[name].__set__(instance, value)
        else:
            object.__getattribute__(instance, "__dict__")[name] = value
    return instance


_UNSET: Final = _constant("unset")


def _build_fields(name: tuple[str, str], *parts: Any) -> Any:
    state = dict(zip(parts[::2], parts[1::2], strict=True))
    return _filled(_bare(_found_class(name)), state)


def _build_enum(name: tuple[str, str], member: Any) -> Any:
    kind = _found_class(name)
    if not issubclass(kind, enum.Enum):
        raise LookupError(name)
    space = type.__getattribute__(kind, "__dict__")
    if type(member) is str:
        return space["_member_map_"][member]
    return space["_value2member_map_"][member]


def _build_namedtuple(name: tuple[str, str], fields: tuple[str, ...], *parts: Any) -> Any:
    kind = _found_class(name)
    if hasattr(kind, "__del__"):
        raise LookupError(name)
    return tuple.__new__(kind, parts)


def _build_subclass(name: tuple[str, str], plain: Any, state: dict[str, Any]) -> Any:
    kind: Any = _found_class(name)
    base = _base_of(kind)
    if base is None or type(plain) is not base or hasattr(kind, "__del__"):
        raise LookupError(name)
    make: Any = base.__new__
    if base in (int, float, complex, str, bytes, tuple, frozenset):
        return _filled(make(kind, plain), state)
    instance = make(kind)
    if base in (list, bytearray):
        base.extend(instance, plain)
    elif base in (set, dict):
        base.update(instance, plain)
    else:
        raise LookupError(name)
    return _filled(instance, state)


def _build_datetime(*parts: Any) -> dt.datetime:
    year, month, day, *clock, fold, zone, _ = parts
    hour, minute, second, micro = clock
    return dt.datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _build_time(*parts: Any) -> dt.time:
    hour, minute, second, micro, fold, zone = parts
    return dt.time(hour, minute, second, micro, zone, fold=fold)


def _build_pattern(pattern: Any, flags: int) -> re.Pattern[Any]:
    if flags & re.DEBUG:
        raise ValueError("a pattern that prints")
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


def _build_default_dict(factory: Any, items: dict[Any, Any]) -> Any:
    return collections.defaultdict(factory, items)


def _build_array_class(name: str, array: np.ndarray) -> Any:
    return array.view(_ARRAY_CLASSES[name])


def _build_masked_array(mask: np.ndarray, data: np.ndarray, fill_value: np.ndarray) -> Any:
    value: Any = fill_value[()]
    return np.ma.MaskedArray(data, mask, fill_value=value)


def _build_dtype(*parts: Any) -> Any:
    if type(parts[0]) is str:
        return np.dtype(parts[0])
    if isinstance(parts[0], np.dtype):
        return np.dtype((parts[0], parts[1]))
    itemsize, aligned, *fields = parts
    described: Any = {
        "names": fields[::3],
        "formats": fields[1::3],
        "offsets": fields[2::3],
        "itemsize": itemsize,
    }
    return np.dtype(described, align=aligned)


def _build_string_dtype(coerce: bool, *missing: Any) -> Any:
    if missing:
        return np.dtypes.StringDType(coerce=coerce, na_object=missing[0])
    return np.dtypes.StringDType(coerce=coerce)


_BUILDERS: Final[dict[str, Callable[..., Any]]] = {
    "decimal": lambda sign, digits, exponent: decimal.Decimal((sign, tuple(digits), exponent)),
    "fraction": fractions.Fraction,
    "uuid": lambda data: uuid.UUID(bytes=data),
    "timedelta": dt.timedelta,
    "date": dt.date,
    "time": _build_time,
    "datetime": _build_datetime,
    "timezone": dt.timezone,
    "zoneinfo": zoneinfo.ZoneInfo,
    "path": pathlib.Path,
    "pattern": _build_pattern,
    "class": _found_class,
    "enum": _build_enum,
    "dataclass": _build_fields,
    "attrs": _build_fields,
    "namedtuple": _build_namedtuple,
    "namespace": lambda state: types.SimpleNamespace(**state),
    "ordered dict": collections.OrderedDict,
    "default dict": _build_default_dict,
    "deque": lambda maxlen, items: collections.deque(items, maxlen),
    "mapping proxy": types.MappingProxyType,
    "subclass": _build_subclass,
    "array class": _build_array_class,
    "masked array": _build_masked_array,
    "dtype": _build_dtype,
    "string dtype": _build_string_dtype,
}
"""How values are rebuilt from their parts; kinds that are missing stay `Opaque`."""


# ---------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------

_JSON_BITS: Final = 4096  # json cannot read ints of more than 4,300 digits


def _jsonable(value: Any) -> Any:
    value = normalize(value)
    kind = type(value)
    if kind is list:
        return [_jsonable(item) for item in value]
    if kind is dict:
        keys = [normalize(key) for key in value]
        if _JSON_TAG not in keys and all(type(key) is str and _is_unicode(key) for key in keys):
            return dict(zip(keys, map(_jsonable, value.values()), strict=True))
    elif (
        value is None
        or kind is bool
        or (kind is int and value.bit_length() <= _JSON_BITS)
        or (kind is float and math.isfinite(value))
        or (kind is str and _is_unicode(value))
    ):
        return value
    data = base64.b64encode(canonical_bytes(value)).decode()
    return {_JSON_TAG: data, "repr": _short(value)}


def _is_unicode(text: str) -> bool:
    """Tell whether a str is free of surrogates, of which JSON would make one character of two."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _from_tagged(data: Any) -> Any:
    try:
        return decode_canonical(base64.b64decode(data, validate=True))
    except (TypeError, ValueError) as error:
        if isinstance(error, ChunkFormatError):
            raise
        raise ChunkFormatError(
            f"'{_JSON_TAG}' must be base64 of canonical bytes, got {_short(data)}"
        ) from error


# ---------------------------------------------------------------------------------------------
# Which type is encoded how
# ---------------------------------------------------------------------------------------------

_NODES: dict[type, _Encoder] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: functools.partial(_set, b"S"),
    frozenset: functools.partial(_set, b"Z"),
    slice: _slice,
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    collections.deque: _deque,
    types.MappingProxyType: _mapping_proxy,
    types.SimpleNamespace: _namespace,
    type: _class,
    np.ndarray: _array,
    np.memmap: _array,
    types.FunctionType: _function,
    types.MethodType: _method,
    functools.partial: _partial,
    np.vectorize: _vectorize,
    operator.attrgetter: _operator,
    operator.itemgetter: _operator,
    **dict.fromkeys(_NAMED_TYPES, _function),
}
"""Exact types that hold values, or need a walk for another reason."""

_FAMILIES: Final[tuple[tuple[type, _Encoder], ...]] = (
    (np.ma.MaskedArray, _masked_array),
    (np.ndarray, _array_subclass),
    (np.generic, _numpy_scalar),
    (np.dtype, _dtype_value),
    (type, _class),
    (type(functools.lru_cache(len)), _function),
)
"""Types that are recognised by a base class."""
