"""Owns the decoding of canonical bytes: a reader over the grammar's tags, and the check at the end.

Bytes come from files and may be damaged, so every length is compared with what is left before
anything of that size is made.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from chunk_memo.errors import ChunkFormatError
from chunk_memo.identity.arrays import LONG_BYTES, LONG_KIND, is_long
from chunk_memo.identity.canonical import canonical_bytes
from chunk_memo.identity.grammar import FEW, Opaque
from chunk_memo.identity.rebuilding import BUILDERS, build_string_dtype
from chunk_memo.identity.walk import MAX_DEPTH

__all__ = ["decode_canonical"]

_DTYPE_TEXT: Final = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SUV]\d{1,9}|[mM]8(\[\d*[a-zA-Zμ]+\])?")


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
    >>> from chunk_memo.identity import canonical_bytes
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
    return reader.rebuilt(start, lambda: _constant(name))


def _constant(name: str) -> Any:
    if name == "numpy.ma.masked":
        return np.ma.masked
    pandas = sys.modules.get("pandas")
    if pandas is not None and name in ("pandas.NaT", "pandas.NA"):
        return getattr(pandas, name.removeprefix("pandas."))
    return {"Ellipsis": ..., "NotImplemented": NotImplemented}[name]


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
        return build_string_dtype(text == "T1", *([reader.value(depth)] if missing else []))
    if text[1:] in ("x87", "quad", "double-double", "other"):
        here = text[1:] == LONG_KIND
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
    if is_long(described):
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
    data = np.frombuffer(reader.take(count * LONG_BYTES), np.uint8).reshape(count, LONG_BYTES)
    padded = np.zeros((count, dtype.itemsize // parts), np.uint8)
    padded[:, :LONG_BYTES] = data
    return padded.view(np.longdouble).reshape(-1).view(dtype).reshape(shape)


def _read_sequence(reader: _Reader, depth: int) -> list[Any]:
    n = reader.sizes()
    if n >= FEW:
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
    build = BUILDERS.get(kind)
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
