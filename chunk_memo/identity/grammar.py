"""Owns the bytes of plain values, and the marks that stand around values that hold values.

With ``size`` as one byte below 255, else ``ff`` and eight bytes, and all numbers little-endian::

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

Every value says its type and where it ends, so different values never share their bytes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import fractions
import functools
import pathlib
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

__all__ = [
    "FEW",
    "LEAVES",
    "PLAIN_SCALARS",
    "Opaque",
    "constant",
    "leaf",
    "leaf_tuple",
    "normalize",
    "packed",
    "record",
    "short_texts",
    "simple",
    "size",
    "text",
]

FEW: Final = 32
"""Below this number of values NumPy's overhead exceeds what it saves."""

_ONE_BYTE: Final = [bytes([n]) for n in range(255)]
_SHORT_TEXT: Final = [b"s" + size for size in _ONE_BYTE]
_TAGGED_FLOAT: Final = struct.Struct("<cd")
_TAGGED_INT: Final = struct.Struct("<cq")
_TAGGED_COMPLEX: Final = struct.Struct("<cdd")
_NAN: Final = float("nan")


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """A value that cannot be rebuilt here, such as a function or a member of an unknown enum.

    `decode_canonical` makes these; their canonical bytes are those of the value they stand for.

    Examples
    --------
    >>> from chunk_memo.identity import canonical_bytes, decode_canonical
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


# --- marks ---------------------------------------------------------------------------------------


def size(n: int) -> bytes:
    """Return the encoding of a length.

    Parameters
    ----------
    n : int
        The length, not negative.

    Returns
    -------
    bytes
        One byte, or nine.
    """
    return _ONE_BYTE[n] if n < 255 else b"\xff" + n.to_bytes(8, "little")


def text(value: str) -> bytes:
    """Return the encoding of a str.

    Parameters
    ----------
    value : str
        The text; lone surrogates are allowed.

    Returns
    -------
    bytes
        A value of the tag ``s``.
    """
    data = value.encode("utf-8", "surrogatepass")
    length = len(data)
    return (_SHORT_TEXT[length] if length < 255 else b"s" + size(length)) + data


def short_texts(values: Sequence[str]) -> list[bytes] | None:
    """Return the encodings of many short texts, of which most time goes into one call for each.

    Parameters
    ----------
    values : sequence of str
        The texts.

    Returns
    -------
    list of bytes or None
        None where one is long, or has a lone surrogate.
    """
    try:
        encoded = [value.encode() for value in values]
        return [_SHORT_TEXT[len(data)] + data for data in encoded]
    except (IndexError, UnicodeEncodeError):
        return None


def constant(name: str) -> bytes:
    """Return the encoding of a constant that is known by its name.

    Parameters
    ----------
    name : str
        The name.

    Returns
    -------
    bytes
        A value of the tag ``k``.
    """
    return b"k" + text(name)[1:]


def record(kind: str, parts: Sequence[bytes]) -> bytes:
    """Return the encoding of a value of some kind, made of encoded parts.

    Parameters
    ----------
    kind : str
        The word that tells such values from others.
    parts : sequence of bytes
        The encodings of what the value is made of.

    Returns
    -------
    bytes
        A value of the tag ``v``.
    """
    return b"".join([_kind(kind), size(len(parts)), *parts])


@functools.lru_cache(maxsize=1024)
def _kind(kind: str) -> bytes:
    return b"v" + text(kind)[1:] + b"t"


def simple(kind: str, *values: Any) -> bytes:
    """Return the encoding of a value of some kind, made of plain values.

    Parameters
    ----------
    kind : str
        The word that tells such values from others.
    *values : object
        What the value is made of, each of a type in `LEAVES`.

    Returns
    -------
    bytes
        A value of the tag ``v``.
    """
    return record(kind, [LEAVES[type(value)](value) for value in values])


def leaf(value: Any) -> bytes:
    """Return the encoding of a plain value.

    Parameters
    ----------
    value : object
        A value of a type in `LEAVES`.

    Returns
    -------
    bytes
        Its canonical bytes.
    """
    return LEAVES[type(value)](value)


def leaf_tuple(values: Iterable[Any]) -> bytes:
    """Return the encoding of a tuple of plain values.

    Parameters
    ----------
    values : iterable
        Values of types in `LEAVES`.

    Returns
    -------
    bytes
        A value of the tag ``t``.
    """
    parts = [LEAVES[type(value)](value) for value in values]
    return b"".join([b"t", size(len(parts)), *parts])


# --- numbers -------------------------------------------------------------------------------------


def _int(value: int) -> bytes:
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return _TAGGED_INT.pack(b"i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"I" + size(len(data)) + data


def _float(value: float) -> bytes:
    return _TAGGED_FLOAT.pack(b"d", value if value == value else _NAN)


def _complex(value: complex) -> bytes:
    real, imag = value.real, value.imag
    real = real if real == real else _NAN
    imag = imag if imag == imag else _NAN
    return _TAGGED_COMPLEX.pack(b"c", real, imag)


def packed(values: Sequence[Any], kind: type) -> bytes | None:
    """Return the joined encodings of floats, or of ints of 64 bits, nine bytes each.

    Parameters
    ----------
    values : sequence
        Values of one type.
    kind : type
        That type.

    Returns
    -------
    bytes or None
        None where the values are neither.
    """
    if kind is float or kind is np.float64:
        if len(values) < FEW:
            return b"".join([_float(value) for value in values])
        floats = np.array(values, dtype="<f8")
        floats[np.isnan(floats)] = np.nan
        return _interleaved(b"d", floats)
    if kind is int or kind is np.int64:
        try:
            if len(values) < FEW:
                return b"".join([_TAGGED_INT.pack(b"i", value) for value in values])
            return _interleaved(b"i", _int64(values))
        except (OverflowError, struct.error):
            return None
    return None


def _int64(values: Sequence[int]) -> np.ndarray:
    """Return ints as an array; those of a range without looking at each."""
    if not isinstance(values, range):
        return np.array(values, dtype="<i8")
    first, _ = np.array([values[0], values[-1]], dtype="<i8")
    return np.asarray(first + values.step * np.arange(len(values), dtype="<i8"))


def _interleaved(tag: bytes, numbers: np.ndarray) -> bytes:
    out = np.empty(len(numbers), dtype=[("tag", "S1"), ("value", numbers.dtype)])
    out["tag"] = tag
    out["value"] = numbers
    return out.tobytes()


PLAIN_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "b1": bool,
    "i8": int,
    "f8": float,
    "c16": complex,
}
"""The Python type of each NumPy type that is the same, by the dtype's code without byte order."""


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
    plain = PLAIN_SCALARS.get(value.dtype.str[1:])
    if plain is not None:
        return plain(value)
    if type(value) is np.str_:
        return str.__str__(value)
    if type(value) is np.bytes_:
        return b"".join((value, b""))
    return value


# --- the other plain values ----------------------------------------------------------------------


def _bytes(value: bytes) -> bytes:
    return b"b" + size(len(value)) + value


def _decimal(value: decimal.Decimal) -> bytes:
    # not str(value), which the decimal context changes
    sign, digits, exponent = value.as_tuple()
    return simple("decimal", sign, bytes(digits), exponent)


def _fraction(value: fractions.Fraction) -> bytes:
    return simple("fraction", value.numerator, value.denominator)


def _timedelta(value: dt.timedelta) -> bytes:
    return simple("timedelta", value.days, value.seconds, value.microseconds)


def _date(value: dt.date) -> bytes:
    return simple("date", value.year, value.month, value.day)


def _path(value: pathlib.PurePath) -> bytes:
    return simple("path", value.as_posix())


def _pattern(value: re.Pattern[Any]) -> bytes:
    return simple("pattern", value.pattern, int(value.flags))


def _plain_scalar(value: np.generic) -> bytes:
    return leaf(normalize(value))


LEAVES: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    type(...): lambda value: constant("Ellipsis"),
    type(NotImplemented): lambda value: constant("NotImplemented"),
    int: _int,
    float: _float,
    complex: _complex,
    str: text,
    bytes: _bytes,
    bytearray: lambda value: b"B" + _bytes(bytes(value))[1:],
    range: lambda value: b"r" + _int(value.start) + _int(value.stop) + _int(value.step),
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: lambda value: simple("uuid", value.bytes),
    dt.timedelta: _timedelta,
    dt.date: _date,
    re.Pattern: _pattern,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
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
    LEAVES[type(functools.Placeholder)] = lambda value: constant("functools.Placeholder")
