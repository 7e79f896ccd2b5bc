"""Owns the leaves of an encoding: columns of numbers, text, bytes and times.

A *column* is a list of Python values that belong together, such as one dictionary entry of every
output. A leaf column becomes one array, or two where its values differ in size, and a small
JSON-able *node* that says how to read them back. `ColumnWriter` collects the arrays and names
them; `ColumnReader` hands them out again, checked. Columns of NumPy values and of containers have
modules of their own.

Dtypes and widths are kept out of the nodes wherever the array carries them, so that blocks of the
same form have equal nodes whatever their values are.

Most of the time of reading 100,000 records goes into making their dictionaries, where nothing was found
to be faster than a display per row; what could be saved lay in their strings. Text that is ASCII is
widened to code points as bytes, by one `astype`, in a third of the time of a decoder per string;
strings of uneven length are read off a stream, in half the time of slices.
"""

from __future__ import annotations

import datetime
import io
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chunk_memo.errors import ChunkFormatError

__all__ = [
    "LEAF_DECODERS",
    "LEAF_ENCODERS",
    "ColumnDecoder",
    "ColumnEncoder",
    "ColumnReader",
    "ColumnWriter",
    "NoExactForm",
    "Node",
    "Refused",
    "Unpicklable",
    "ends_of",
    "narrow",
    "put_bytes",
    "take_bytes",
    "text_of",
]

Node = dict[str, Any]
"""A JSON-able description of one column; its kind is under ``"k"``."""

ColumnEncoder = Callable[["ColumnWriter", list[Any], str], Node]
"""``encode(writer, values, path) -> node`` for a column that is not empty."""

ColumnDecoder = Callable[["ColumnReader", Node, int], list[Any]]
"""``decode(reader, node, count) -> values``."""

_UTF8 = ("utf-8", "surrogatepass")


class NoExactForm(Exception):
    """A value has no exact array form; the message says why."""


class Refused(Exception):
    """A value has no form of its own and must not be pickled; its place is not yet known.

    Parameters
    ----------
    value : object
        The value.
    reason : str
        Why it has no form of its own.
    too_deep : bool, optional
        Whether that is because of the depth at which it lies.
    """

    def __init__(self, value: Any, reason: str, too_deep: bool = False) -> None:
        super().__init__(reason)
        self.value = value
        self.too_deep = too_deep


class Unpicklable(Exception):
    """A value has no form of its own and cannot be pickled; its place is not yet known.

    Parameters
    ----------
    value : object
        The value.
    reason : Exception
        What pickle said.
    """

    def __init__(self, value: Any, reason: Exception) -> None:
        super().__init__(str(reason))
        self.value = value
        self.reason = reason


class ColumnWriter:
    """Collects the arrays of an encoding under unique names.

    Parameters
    ----------
    encode_column : callable
        ``encode_column(writer, values, path) -> node``, which encodes any column.
    allow_pickle : bool
        Whether values without an array form may be pickled.
    """

    max_depth = 100
    """Levels of nesting beyond which values are refused; a list that holds itself has no end."""

    def __init__(
        self,
        encode_column: ColumnEncoder,
        allow_pickle: bool = False,
    ) -> None:
        self._encode_column = encode_column
        self.allow_pickle = allow_pickle
        self.arrays: dict[str, np.ndarray] = {}
        self.loose: set[str] = set()
        self.coords: Mapping[str, Sequence[Any]] = {}
        self.depth = 0

    def fresh(self) -> ColumnWriter:
        """Return a writer of the same kind that holds nothing yet and refuses pickles.

        Returns
        -------
        ColumnWriter
            The new writer.
        """
        return ColumnWriter(self._encode_column)

    def column(self, values: list[Any], path: str) -> Node:
        """Encode one column below the current one.

        Parameters
        ----------
        values : list
            The column's values.
        path : str
            Where the column stands inside the outputs, such as ``"fit/beta"``.

        Returns
        -------
        dict
            The node that describes the column.
        """
        self.depth += 1
        try:
            return self._encode_column(self, values, path)
        finally:
            self.depth -= 1

    def put(self, path: str, array: np.ndarray, suffix: str = "") -> str:
        """Add an array whose leading axis runs over the current column.

        Parameters
        ----------
        path : str
            Where the column stands inside the outputs.
        array : numpy.ndarray
            The array, of shape ``(n, ...)``.
        suffix : str, optional
            What the array adds to its column, such as ``".lengths"``.

        Returns
        -------
        str
            The unique name that the array got.
        """
        stem = f"value{path}" if path[:1] in ("", ":", ".") else path
        name = stem + suffix
        for again in itertools.count(2):
            if name not in self.arrays:
                break
            name = f"{stem}~{again}{suffix}"
        self.arrays[name] = np.ascontiguousarray(array)
        return name

    def mark(self) -> int:
        """Return a mark for `since` and `rollback`.

        Returns
        -------
        int
            The number of arrays so far.
        """
        return len(self.arrays)

    def since(self, mark: int) -> list[str]:
        """Return the names of the arrays that were added after the mark.

        Parameters
        ----------
        mark : int
            What `mark` returned.

        Returns
        -------
        list of str
            The names, oldest first.
        """
        return list(itertools.islice(self.arrays, mark, None))

    def rollback(self, mark: int) -> None:
        """Forget the arrays that were added after the mark.

        Parameters
        ----------
        mark : int
            What `mark` returned.
        """
        for name in self.since(mark):
            del self.arrays[name]
            self.loose.discard(name)

    def flat(self, values: list[Any], path: str, size: int | None) -> tuple[Node, bool]:
        """Encode the values of several containers as one longer column.

        Parameters
        ----------
        values : list
            The members of all containers, one after the other.
        path : str
            Where the column stands inside the outputs.
        size : int or None
            How many members every container has, where they all have equally many.

        Returns
        -------
        node : dict
            The node of the longer column.
        folded : bool
            True when its arrays were given the shape ``(containers, size, ...)``.
        """
        mark = self.mark()
        node = self.column(values, path)
        if all(self.arrays[name].size < len(values) for name in self.since(mark)):
            # Values without bytes of their own (all None) get some: a reader can then refuse
            # a tiny file that asks for any amount of memory.
            self.put(path, np.zeros(len(values), np.int8), ".none")
        names = self.since(mark)
        if size is None or not self.loose.isdisjoint(names):
            self.loose.update(names)
            return node, False
        for name in names:
            array = self.arrays[name]
            self.arrays[name] = array.reshape(len(values) // size, size, *array.shape[1:])
        return node, True


class ColumnReader:
    """Hands out the arrays of an encoding, each checked against what its node says.

    Parameters
    ----------
    decode_column : callable
        ``decode_column(reader, node, count) -> list``, which decodes any column.
    arrays : mapping of str to numpy.ndarray
        The arrays by their names.
    count : int
        How many outputs are encoded.
    coords : mapping of str to sequence
        Values that were not stored because they repeat an axis.
    allow_pickle : bool
        Whether pickled values may be loaded.
    """

    def __init__(
        self,
        decode_column: ColumnDecoder,
        arrays: Mapping[str, np.ndarray],
        count: int,
        coords: Mapping[str, Sequence[Any]],
        allow_pickle: bool,
    ) -> None:
        self._decode_column = decode_column
        self.arrays = arrays
        self.coords = coords
        self.allow_pickle = allow_pickle
        self.limit = max([count, *(a.size for a in arrays.values())])
        self.folds: tuple[int, ...] = ()

    def column(self, node: Node, count: int) -> list[Any]:
        """Decode one column of `count` values.

        Parameters
        ----------
        node : dict
            The node that describes the column.
        count : int
            How many values it has.

        Returns
        -------
        list
            The values.

        Raises
        ------
        ChunkFormatError
            If the node does not fit the arrays.
        """
        if not 0 <= count <= self.limit:
            raise ChunkFormatError(f"'count' of a column: expected at most {self.limit}, got {count!r}")
        return self._decode_column(self, node, count)

    def flat(self, node: Node, count: int, size: int, folded: bool) -> list[Any]:
        """Decode the members of `count` containers of equal size as one longer column.

        Parameters
        ----------
        node : dict
            The node of the longer column.
        count : int
            How many containers there are.
        size : int
            How many members each has.
        folded : bool
            What `ColumnWriter.flat` returned.

        Returns
        -------
        list
            The members of all containers, one after the other.
        """
        outer = self.folds
        self.folds = (*outer, size) if folded else outer
        try:
            return self.column(node, count * size)
        finally:
            self.folds = outer

    def take(self, name: Any, count: int, kinds: str, ndim: int | None = 1) -> np.ndarray:
        """Return an array after checking its dtype, its length and its dimensions.

        Parameters
        ----------
        name : str
            The array's name.
        count : int
            The length that its leading axis must have.
        kinds : str
            The dtype kinds that are expected, as in ``numpy.dtype.kind``.
        ndim : int or None, optional
            The number of dimensions that is expected; None for any.

        Returns
        -------
        numpy.ndarray
            The array, with the axes of enclosing lists folded into the leading one.

        Raises
        ------
        ChunkFormatError
            If the array is missing or is not what the node says.
        """
        array = self.arrays.get(name) if isinstance(name, str) else None
        if array is None:
            raise ChunkFormatError(f"{name!r}: expected an array of this name, got none")
        if self.folds:
            array = self._unfold(name, array)
        fits = array.dtype.kind in kinds and array.ndim >= 1 and array.shape[0] == count
        if not fits or (ndim is not None and array.ndim != ndim):
            raise ChunkFormatError(
                f"{name!r}: expected {count} rows of kind {kinds!r} in {ndim or 'any number of'} "
                f"dimensions, got shape {array.shape} and dtype {array.dtype}"
            )
        return array

    def _unfold(self, name: str, array: np.ndarray) -> np.ndarray:
        depth = 1 + len(self.folds)
        if array.shape[1:depth] != self.folds:
            raise ChunkFormatError(
                f"{name!r}: expected the shape (n, {', '.join(map(str, self.folds))}, ...), got {array.shape}"
            )
        rows = int(np.prod(array.shape[:depth]))
        return array.reshape(rows, *array.shape[depth:])


# --- bytes and text ------------------------------------------------------------------------------


def put_bytes(writer: ColumnWriter, chunks: list[bytes], path: str, even: bool = True) -> Node:
    """Store byte strings: as rows where all have one length, else one after the other.

    Parameters
    ----------
    writer : ColumnWriter
        Where the arrays go.
    chunks : list of bytes
        The byte strings.
    path : str
        Where the column stands inside the outputs.
    even : bool, optional
        Whether rows may be used.

    Returns
    -------
    dict
        The fields to add to a node, for `take_bytes`.
    """
    lengths = np.fromiter(map(len, chunks), np.int64, len(chunks))
    data = np.frombuffer(b"".join(chunks), np.uint8)
    width = int(lengths[0])
    if even and width and (lengths == width).all():
        return {"a": writer.put(path, data.reshape(-1, width))}
    name = writer.put(path, data)
    writer.loose.add(name)
    return {"a": name, "lengths": writer.put(path, narrow(lengths), ".lengths")}


def take_bytes(reader: ColumnReader, node: Node, count: int) -> list[bytes]:
    """Read back what `put_bytes` stored.

    Parameters
    ----------
    reader : ColumnReader
        Where the arrays come from.
    node : dict
        The node that holds the fields from `put_bytes`.
    count : int
        How many byte strings there are.

    Returns
    -------
    list of bytes
        The byte strings.
    """
    if "lengths" not in node:
        rows = np.ascontiguousarray(reader.take(node["a"], count, "u", 2), np.uint8)
        if not rows.shape[1]:
            raise ChunkFormatError(f"{node['a']!r}: expected rows of at least one byte")
        chunks: list[bytes] = rows.view(f"V{rows.shape[1]}").reshape(-1).tolist()
        return chunks
    lengths = _lengths_of(reader, node["lengths"], count)
    data = np.ascontiguousarray(reader.take(node["a"], int(lengths.sum()), "u"), np.uint8)
    return list(map(io.BytesIO(data.data).read, lengths.tolist()))


def ends_of(reader: ColumnReader, name: Any, count: int) -> list[int]:
    """Return where each of `count` runs of members ends, from the array of their lengths.

    Parameters
    ----------
    reader : ColumnReader
        Where the arrays come from.
    name : str
        The name of the array of lengths.
    count : int
        How many runs there are.

    Returns
    -------
    list of int
        The end of each run; each begins where the one before it ends.

    Raises
    ------
    ChunkFormatError
        If the lengths cannot be.
    """
    ends: list[int] = np.cumsum(_lengths_of(reader, name, count)).tolist()
    return ends


def _lengths_of(reader: ColumnReader, name: Any, count: int) -> np.ndarray:
    lengths = reader.take(name, count, "iu").astype(np.int64)
    if count and (lengths.min() < 0 or lengths.max() > reader.limit):
        raise ChunkFormatError(f"{name!r}: expected lengths within the data, got {lengths.max()}")
    return lengths


def _encode_bytes(writer: ColumnWriter, values: list[bytes], path: str) -> Node:
    return {"k": "bytes", **put_bytes(writer, values, path)}


def _decode_bytes(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    return take_bytes(reader, node, count)


def _encode_text(writer: ColumnWriter, values: list[str], path: str) -> Node:
    joined = "".join(values)
    chunks: Sequence[str | bytes] = values if joined.isascii() else _utf8_of(values)
    sizes = list(map(len, chunks))
    # Not one byte: such strings are characters in netCDF, and its readers join them to words.
    width = _rounded(max(2, max(sizes)))
    # A NUL at the end would be taken for padding.
    unclear = "\0" in joined and any(value.endswith("\0") for value in values)
    if unclear or 4 * (width - _SPARE) * len(values) > 5 * sum(sizes):
        return {"k": "text", **put_bytes(writer, _utf8_of(values), path, even=False)}
    return {"k": "str", "a": writer.put(path, np.array(chunks, f"S{width}"))}


_SPARE = 20
"""Bytes of padding that a string may cost; it keeps rows that can be taken without the others."""


def _utf8_of(values: list[str]) -> list[bytes]:
    try:
        return list(map(str.encode, values))
    except UnicodeEncodeError:
        return [value.encode(*_UTF8) for value in values]


def _decode_str(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    stored = reader.take(node["a"], count, "S")
    step = max(1, _AT_ONCE // stored.dtype.itemsize)
    found: list[str] = []
    for start in range(0, count, step):
        found += text_of(stored[start : start + step]).tolist()
    return found


_AT_ONCE = 1 << 16
"""Bytes of text that are widened at once, so that the code points stay in the cache."""


def _decode_text(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    chunks = take_bytes(reader, node, count)
    try:
        return list(map(bytes.decode, chunks))
    except UnicodeDecodeError:
        return [chunk.decode(*_UTF8) for chunk in chunks]


def text_of(stored: np.ndarray) -> np.ndarray:
    """Return UTF-8 in fixed-width bytes as NumPy's own text, as many characters wide as they were bytes.

    Parameters
    ----------
    stored : numpy.ndarray
        An array of dtype ``S``.

    Returns
    -------
    numpy.ndarray
        The same strings with dtype ``U``, lone surrogates kept.

    Raises
    ------
    ChunkFormatError
        If a string begins or ends inside a character.

    Examples
    --------
    >>> text_of(np.array(["café".encode(), b"tea"]))
    array(['café', 'tea'], dtype='<U5')
    """
    width = stored.dtype.itemsize
    data = np.ascontiguousarray(stored).reshape(-1).view(np.uint8).reshape(-1, width)
    points = data.astype(np.uint32) if not data.size or data.max() < 128 else _code_points(data)
    return points.view(f"U{width}").reshape(stored.shape)


def _code_points(data: np.ndarray) -> np.ndarray:
    """Return rows of UTF-8 as rows of code points; what is over at the end of a row is zero."""
    starts = (data & 0xC0) != 0x80
    if not starts[:, 0].all():
        raise ChunkFormatError("text: expected strings of whole characters")
    text = data.tobytes().decode(*_UTF8)
    points = np.zeros(data.shape, np.uint32)
    filled = np.arange(data.shape[1]) < starts.sum(axis=1)[:, None]
    points[filled] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return points


# --- numbers -------------------------------------------------------------------------------------


def _encode_ints(writer: ColumnWriter, values: list[int], path: str) -> Node:
    try:
        array = np.fromiter(values, np.int64, len(values))
    except OverflowError:
        return _encode_big_ints(writer, values, path)
    return {"k": "int", "a": writer.put(path, narrow(array))}


def _encode_big_ints(writer: ColumnWriter, values: list[int], path: str) -> Node:
    sizes = [value.bit_length() // 8 + 1 for value in values]
    width = _rounded(max(sizes))
    if width > 32 and width * len(values) > 4 * sum(sizes):
        pairs = zip(values, sizes, strict=True)
        chunks = [value.to_bytes(size, "little", signed=True) for value, size in pairs]
        return {"k": "bigint", **put_bytes(writer, chunks, path, even=False)}
    chunks = [value.to_bytes(width, "little", signed=True) for value in values]
    return {"k": "bigint", **put_bytes(writer, chunks, path)}


def _decode_big_ints(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    chunks = take_bytes(reader, node, count)
    from_bytes: Any = int.from_bytes
    numbers = list(map(from_bytes, chunks, itertools.repeat("little")))  # keywords would cost twice as much
    if max(map(operator.itemgetter(-1), chunks), default=0) < 128:
        return numbers
    pairs = zip(numbers, chunks, strict=True)
    return [number - (1 << 8 * len(chunk)) if chunk[-1] > 127 else number for number, chunk in pairs]


def _number_encoder(kind: str, dtype: type) -> ColumnEncoder:
    def encode(writer: ColumnWriter, values: list[Any], path: str) -> Node:
        return {"k": kind, "a": writer.put(path, np.fromiter(values, dtype, len(values)))}

    return encode


def _number_decoder(kinds: str) -> ColumnDecoder:
    def decode(reader: ColumnReader, node: Node, count: int) -> list[Any]:
        values: list[Any] = reader.take(node["a"], count, kinds).tolist()
        return values

    return decode


def narrow(array: np.ndarray) -> np.ndarray:
    """Return an int64 array in the smallest signed dtype that holds it.

    Parameters
    ----------
    array : numpy.ndarray
        An array of dtype int64.

    Returns
    -------
    numpy.ndarray
        The same numbers as int8, int16, int32 or int64.
    """
    if array.size:
        low, high = int(array.min()), int(array.max())
        for dtype in (np.int8, np.int16, np.int32):
            info = np.iinfo(dtype)
            if info.min <= low and high <= info.max:
                return array.astype(dtype)
    return array


def _rounded(size: int) -> int:
    """Return a width of at least `size`; at most a quarter wider from 13 on, so that few widths occur."""
    if size <= 2:
        return size
    step = max(4, (1 << (size - 1).bit_length()) // 8)
    return -(-size // step) * step


# --- times ---------------------------------------------------------------------------------------

_MICROSECOND = datetime.timedelta(microseconds=1)


_DAY = 24 * 3600 * 10**6
_DAY_ZERO = datetime.date(1970, 1, 1).toordinal()


def _numbers(values: list[Any], get: Callable[[Any], int]) -> np.ndarray:
    return np.fromiter(map(get, values), np.int64, len(values))


def _days(values: list[Any]) -> np.ndarray:
    return _numbers(values, operator.methodcaller("toordinal")) - _DAY_ZERO


def _encode_dates(writer: ColumnWriter, values: list[datetime.date], path: str) -> Node:
    return {"k": "date", "a": writer.put(path, _days(values).view("M8[D]"))}


def _encode_datetimes(writer: ColumnWriter, values: list[datetime.datetime], path: str) -> Node:
    # By their fields, in a quarter of the time that NumPy takes to convert the objects.
    ticks = _days(values)
    for name, size in (("hour", 24), ("minute", 60), ("second", 60), ("microsecond", 10**6)):
        ticks = ticks * size + _numbers(values, operator.attrgetter(name))
    return {"k": "datetime", "a": writer.put(path, ticks.view("M8[us]"))}


def _encode_timedeltas(writer: ColumnWriter, values: list[datetime.timedelta], path: str) -> Node:
    days = _numbers(values, operator.attrgetter("days"))
    if max(-int(days.min()), int(days.max()) + 1) >= 2**63 // _DAY:
        # timedelta reaches ten times further than int64
        return {"k": "longdelta", "of": writer.column([value // _MICROSECOND for value in values], path)}
    seconds = _numbers(values, operator.attrgetter("seconds"))
    ticks = days * _DAY + seconds * 10**6 + _numbers(values, operator.attrgetter("microseconds"))
    return {"k": "timedelta", "a": writer.put(path, ticks.view("m8[us]"))}


def _time_decoder(unit: str, low: int, high: int) -> Callable[..., list[Any]]:
    def decode(reader: ColumnReader, node: Node, count: int) -> list[Any]:
        array = reader.take(node["a"], count, unit[0])
        ticks = array.astype(np.dtype(unit).newbyteorder("=")).view(np.int64)
        if count and not low <= ticks.min() <= ticks.max() <= high:
            raise ChunkFormatError(f"{node['a']!r}: expected times that Python can hold")
        values: list[Any] = ticks.view(unit).tolist()
        return values

    return decode


def _decode_long_deltas(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    return [ticks * _MICROSECOND for ticks in reader.column(node["of"], count)]


# --- the table of leaves -------------------------------------------------------------------------


def _encode_none(writer: ColumnWriter, values: list[None], path: str) -> Node:
    return {"k": "none"}


def _decode_none(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    return [None] * count


LEAF_ENCODERS: dict[type, ColumnEncoder] = {
    type(None): _encode_none,
    bool: _number_encoder("bool", np.bool_),
    int: _encode_ints,
    float: _number_encoder("float", np.float64),
    complex: _number_encoder("complex", np.complex128),
    str: _encode_text,
    bytes: _encode_bytes,
    datetime.date: _encode_dates,
    datetime.datetime: _encode_datetimes,
    datetime.timedelta: _encode_timedeltas,
}
"""Encoders of columns of one exact type."""

LEAF_DECODERS: dict[str, ColumnDecoder] = {
    "none": _decode_none,
    "bool": _number_decoder("b"),
    "int": _number_decoder("iu"),
    "bigint": _decode_big_ints,
    "float": _number_decoder("f"),
    "complex": _number_decoder("c"),
    "str": _decode_str,
    "text": _decode_text,
    "bytes": _decode_bytes,
    "date": _time_decoder("M8[D]", -719162, 2932896),
    "datetime": _time_decoder("M8[us]", -62135596800000000, 253402300799999999),
    "timedelta": _time_decoder("m8[us]", -(2**63) + 1, 2**63 - 1),
    "longdelta": _decode_long_deltas,
}
"""Decoders by the kind of a node."""
