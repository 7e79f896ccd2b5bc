"""What the arrays of a chunk file stand for: blocks of outputs to named arrays, and back.

The file format (:mod:`chunk_memo.disk.chunkfile`) knows arrays over dimensions; a block knows columns of
outputs over points. The constant part of a file's manifest ties the two together, an object with the members

======= ============================================================================================
member  what
======= ============================================================================================
kind    the kind of output
axes    for each axis ``[name, tree, arrays]``: how its values are decoded, and from which arrays
columns for each column ``[name, form, tree, pointwise, arrays]``: likewise its outputs
part    the dimension of points in a part; null in a complete file, whose columns run over the axes
======= ============================================================================================

``arrays`` maps the names that a tree uses to those in the file; null there stands for the coordinates of the
axis. Coordinates are the axis values themselves wherever netCDF can express them as one array; otherwise they
are short texts for people, and the values lie beside them. This module knows neither file names nor folders.
"""

from __future__ import annotations

import itertools
import json
import math
import reprlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.disk import chunkfile, hdf5image
from chunk_memo.disk.encoding import PickledPart, decode, decode_array, encode, pickled_parts
from chunk_memo.disk.signing import KEY_ID_BYTES, Signer
from chunk_memo.errors import ChunkFormatError, ChunkMemoError, EncodingError
from chunk_memo.grid import AxisBins, Bins, IntArray
from chunk_memo.identity import from_jsonable, to_jsonable
from chunk_memo.outputs import Block, Column, PointCoords

__all__ = [
    "BlockWriter",
    "ChunkRef",
    "axis_values",
    "check_manifest",
    "read_complete",
    "read_part",
    "same_outputs",
    "signed_by",
]

_Array = npt.NDArray[Any]

_MOST_BINS = 4096
"""So many bins' coordinates are kept ready."""

_MOST_BINS_AT_ONCE = 512
"""So many bins' coordinates are encoded in one go, …"""

_MOST_VALUES_AT_ONCE = 4096
"""… unless they have more values than this."""

_MOST_PRESSES = 64
"""So many presses are kept ready."""

_LABEL_BYTES = 64
"""Longest text that stands for an axis value."""


@dataclass(slots=True)  # never changed; freezing would double what making one costs
class ChunkRef:
    """A chunk by its bins, as one reader sees it."""

    order: tuple[str, ...]
    """Names of the axes in the reader's order."""
    numbers: tuple[int, ...]
    """The number of the bin along each axis."""
    sizes: tuple[int, ...]
    """Number of values along each axis."""
    name: str
    """The file's name without suffix."""
    identity: bytes
    """Canonical identity, compared with that in the file."""
    bins: Bins = field(repr=False, compare=False)
    """The table that the numbers refer to."""

    def values(self, axis: str) -> list[Any]:
        """Return the chunk's values along one axis.

        Parameters
        ----------
        axis : str
            The axis's name.

        Returns
        -------
        list
            Its values in order.
        """
        return self.bins.of(axis).values_of(self.numbers[self.order.index(axis)])

    def coords(self, points: IntArray | None, order: Sequence[str] | None = None) -> PointCoords:
        """Return the axis values at points of the chunk.

        Parameters
        ----------
        points : ndarray of intp or None
            Row-major positions; None for all points.
        order : sequence of str, optional
            Names of the axes, where another order than the reader's is meant.

        Returns
        -------
        PointCoords
            The values.
        """
        order = self.order if order is None else order
        return PointCoords(order, [self.values(axis) for axis in order], points)

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(self.sizes)

    def __reduce__(self) -> Any:
        """Return what travels to a worker: the chunk with its own bins, and no others."""
        numbered = zip(self.order, self.numbers, strict=True)
        tables = [(axis, self.bins.of(axis), number) for axis, number in numbered]
        own = [(axis, table.values_of(number), table.keys_of(number)) for axis, table, number in tables]
        return _ref_alone, (self.order, self.sizes, self.name, self.identity, own)


def _ref_alone(
    order: tuple[str, ...],
    sizes: tuple[int, ...],
    name: str,
    identity: bytes,
    own: Sequence[tuple[str, list[Any], list[bytes]]],
) -> ChunkRef:
    """Return a chunk with a table of nothing but its own bins."""
    bins = Bins()
    numbers = tuple(bins.of(axis).add(values, keys) for axis, values, keys in own)
    return ChunkRef(order, numbers, sizes, name, identity, bins)


# --- blocks to files ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axis:
    """A bin's values as a file holds them."""

    coord: _Array
    """The coordinates."""
    tree: Any
    """The tree that rebuilds the values; None where they have no native form."""
    label: str | None
    """The name that the tree has for the coordinates; None where they are texts for people."""
    arrays: Mapping[str, _Array]
    """What the tree needs besides."""
    form: tuple[Any, ...]
    """What files with such an axis have in common."""


class BlockWriter:
    """Turns blocks into chunk files.

    Most of what a file holds is said by its form: what the axes and columns are called, their dtypes and trees,
    and how many values they have. A press is kept for each form, and axis values are encoded for many bins at
    once; building names, dimensions and the manifest anew took three quarters of the time of a small file.

    Parameters
    ----------
    title : str
        What the files are called: the function's name.
    compression : str, optional
        How arrays are compressed.
    signer : Signer, optional
        Signs the pickles in files.
    """

    def __init__(self, title: str, compression: str | None = None, signer: Signer | None = None) -> None:
        self.title = title
        self._signer = signer
        self.compression = compression
        self._attributes = {"title": title} if title else {}
        self._axes: dict[bytes, _Axis] = {}
        self._ahead = 1
        self._most_ahead = _MOST_BINS_AT_ONCE
        self._presses: dict[tuple[Any, ...], chunkfile.Press] = {}

    def image(
        self, ref: ChunkRef, points: IntArray | None, block: Block, seconds: float
    ) -> list[chunkfile.Piece]:
        """Return the bytes of a file that holds a block.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        points : ndarray of intp or None
            Row-major positions in the chunk of the block's points; None for a block of all of them in order.
        block : Block
            The outputs.
        seconds : float
            Seconds of compute.

        Returns
        -------
        list of bytes-like
            The file's bytes in order; they may be the block's own memory.

        Raises
        ------
        KeyFileError
            Where there are pickles, and no key to sign them.
        """
        if self._signer is not None:
            block = _signed(self._signer, ref, points, block)
        axes = [self._axis(ref.bins, name, number) for name, number in zip(ref.order, ref.numbers, strict=True)]
        now = time.time_ns()
        form = _form(ref, points, block, axes)
        press = self._presses.get(form)
        if press is None:
            if len(self._presses) >= _MOST_PRESSES:
                self._presses = {}
            press = chunkfile.Press(self._content(ref, points, block, axes, now, seconds))
            self._presses[form] = press
        return press.image(_values(points, block, axes), ref.identity, now, seconds)

    def _content(
        self,
        ref: ChunkRef,
        points: IntArray | None,
        block: Block,
        axes: Sequence[_Axis],
        created_at: int,
        seconds: float,
    ) -> chunkfile.Content:
        draft = _Draft(ref, points)
        for name, axis in zip(ref.order, axes, strict=True):
            draft.add_axis(name, axis)
        for column, values in block.columns.items():
            draft.add_column(column, values)
        constant = {"kind": block.kind, "axes": draft.axes, "columns": draft.columns, "part": draft.part}
        return chunkfile.Content(
            constant,
            ref.identity,
            draft.arrays,
            draft.dims,
            draft.coords,
            created_at,
            seconds,
            self._attributes,
            self.compression,
        )

    def _axis(self, bins: Bins, name: str, number: int) -> _Axis:
        table = bins.of(name)
        digest = table.digests(number)[0]
        found = self._axes.get(digest)
        if found is None:
            if len(self._axes) >= _MOST_BINS:
                self._axes = {}
            self._encode_bins(table, number)
            found = self._axes[digest]
        return found

    def _encode_bins(self, table: AxisBins, number: int) -> None:
        """Encode the values of a bin and of some that follow; the more, the more often they were wanted."""
        stop = min(number + self._ahead, len(table))
        self._ahead = min(2 * self._ahead, self._most_ahead)
        groups = [table.values_of(number)]
        room = _MOST_VALUES_AT_ONCE - len(groups[0])
        while room > 0 and number + len(groups) < stop:
            groups.append(table.values_of(number + len(groups)))
            room -= len(groups[-1])
        axes = list(_axes(groups))
        for following, axis in enumerate(axes):
            self._axes[table.digests(number + following)[0]] = axis
        if len(axes) < len(groups):  # values of no common form, which are encoded bin by bin
            self._ahead = self._most_ahead = 1


def _axes(groups: Sequence[list[Any]]) -> Iterator[_Axis]:
    """Return bins as files hold them: all of them where they have one form, else the first."""
    if len(groups) > 1:
        axis = _axis([value for group in groups for value in group])
        if axis.label is not None:
            ends = itertools.accumulate(map(len, groups))
            for group, end in zip(groups, ends, strict=True):
                yield replace(axis, coord=axis.coord[end - len(group) : end])
            return
    yield _axis(groups[0])


def _axis(values: list[Any]) -> _Axis:
    try:
        encoded = encode(values)
    except ChunkMemoError:
        return _made_axis(_labels(values), None, None, {})
    if len(encoded.arrays) == 1 and encoded.pointwise:
        ((label, array),) = encoded.arrays.items()
        if array.ndim == 1 and hdf5image.form_of(array) != "raw":
            if array.dtype.kind == "i" and array.dtype.itemsize < 4:
                array = array.astype(np.int32)  # so that bins of small and of larger numbers share a template
            return _made_axis(array, encoded.tree, label, {})
    return _made_axis(_labels(values), encoded.tree, None, encoded.arrays)


def _made_axis(coord: _Array, tree: Any, label: str | None, arrays: Mapping[str, _Array]) -> _Axis:
    more = ((name, array.shape, *_form_of_array(array)) for name, array in arrays.items())
    return _Axis(coord, tree, label, arrays, (*_form_of_array(coord), _text(tree), label, *more))


_text = json.JSONEncoder(separators=(",", ":")).encode
"""Trees are compared as texts: for Python 1, 1.0 and True are equal."""


def _form_of_array(array: _Array) -> tuple[Any, ...]:
    dtype = array.dtype
    # Dtypes that differ in the titles of their fields are equal; their texts are not.
    return dtype, dtype.type, dtype.fields and str(dtype), hdf5image.form_of(array)


def _form(ref: ChunkRef, points: IntArray | None, block: Block, axes: Sequence[_Axis]) -> tuple[Any, ...]:
    """Return what this file has in common with others of one press."""
    columns: list[Any] = []
    for name, column in block.columns.items():
        columns.append(name if type(name) is str else (_text(to_jsonable(name)),))
        columns += [column.form, column.pointwise, _text(column.tree)]
        for label, array in column.arrays.items():
            columns += [label, array.shape, *_form_of_array(array)]
    count = None if points is None else len(points)
    return (ref.order, ref.sizes, count, block.kind, *(axis.form for axis in axes), *columns)


def _values(points: IntArray | None, block: Block, axes: Sequence[_Axis]) -> list[_Array]:
    """Return the arrays of a file in the order in which a draft gathers them."""
    values = [array for axis in axes for array in axis.arrays.values()]
    values += [array for column in block.columns.values() for array in column.arrays.values()]
    if points is not None:
        values.append(points.astype(np.int64))
    return values + [axis.coord for axis in axes]


def _labels(values: list[Any]) -> _Array:
    """Return short texts by which people tell values apart that netCDF cannot express."""
    texts = [" ".join(reprlib.repr(value).split()).encode(errors="backslashreplace") for value in values]
    cut = [text[:_LABEL_BYTES].decode(errors="ignore").replace("\0", "").encode() for text in texts]
    width = max(2, *(len(text) for text in cut))
    return np.array(cut, f"S{1 << (width - 1).bit_length()}")


class _Draft:
    """The members of a file, gathered under names that do not clash."""

    def __init__(self, ref: ChunkRef, points: IntArray | None) -> None:
        self.part = None if points is None else _free_name("point", ref.order)
        self.arrays: dict[str, _Array] = {}
        self.dims: dict[str, tuple[str, ...]] = {}
        self.coords: dict[str, _Array | int] = {}
        self.axes: list[Any] = []
        self.columns: list[Any] = []
        self._leading = ref.order
        self._shape = ref.sizes
        self._taken = set(ref.order)
        if points is not None and self.part is not None:
            self.coords[self.part] = points.astype(np.int64)
            self._leading, self._shape = (self.part,), (len(points),)
            self._taken.add(self.part)

    def add_axis(self, name: str, axis: _Axis) -> None:
        self.coords[name] = axis.coord
        where: dict[str, str | None] = {} if axis.label is None else {axis.label: None}
        for label, array in axis.arrays.items():
            where[label] = self._put(f"{name} values {label}".strip(), array, None)
        self.axes.append([name, axis.tree, where])

    def add_column(self, name: Any, column: Column) -> None:
        where = {}
        for label, array in column.arrays.items():
            wish = _wished_name(str(name), label)
            if column.pointwise:
                array = array.reshape((*self._shape, *array.shape[1:]))
            where[label] = self._put(wish, array, self._leading if column.pointwise else None)
        self.columns.append([to_jsonable(name), column.form, column.tree, column.pointwise, where])

    def _put(self, wish: str, array: _Array, dims: tuple[str, ...] | None) -> str:
        name = _free_name(wish, self._taken)
        self._taken.add(name)
        self.arrays[name] = array
        if dims is not None:
            self.dims[name] = dims
        return name


def _wished_name(column: str, label: str) -> str:
    """Return what an array is best called, from its column's name and its name in that column."""
    if label in ("", column, "output"):
        return column or "output"
    return f"{column}/{label}" if column else label


def _free_name(wish: str, taken: Iterable[str]) -> str:
    names = set(taken)
    while wish in names:
        wish += "_"
    return wish


# --- signatures --------------------------------------------------------------------------------------------


def _signed(signer: Signer, ref: ChunkRef, points: IntArray | None, block: Block) -> Block:
    """Return a block with the signatures of its pickles in it; mostly the same one, without any."""
    columns = {}
    for name, column in block.columns.items():
        parts = () if column.pointwise else pickled_parts(column.tree)
        if parts:
            arrays = dict(column.arrays)
            for part in parts:
                what = _what_is_signed(ref.identity, ref.order, points, to_jsonable(name), part, arrays)
                arrays[part.signature] = np.frombuffer(signer.sign(what), np.uint8)[None]
            columns[name] = replace(column, arrays=arrays)
    return replace(block, columns={**block.columns, **columns}) if columns else block


def signed_by(chunk: chunkfile.Chunk) -> set[str]:
    """Return the ids of the keys that signed the pickles in a file; the signatures are not checked.

    Parameters
    ----------
    chunk : Chunk
        An opened file.

    Returns
    -------
    set of str
        Key ids, that of unsigned pickles being empty; none where the file holds no pickles.

    Raises
    ------
    ChunkFormatError
        Where the file is damaged.
    """
    keys = set()
    for _, _, tree, pointwise, where in chunk.constant["columns"]:
        for part in () if pointwise else pickled_parts(tree):
            at = where.get(part.signature)
            signature = chunk.array(at).tobytes() if at is not None else b""
            keys.add(signature[:KEY_ID_BYTES].hex() if any(signature) else "")
    return keys


def _what_is_signed(
    identity: bytes,
    order: Sequence[str],
    points: IntArray | None,
    name: Any,
    part: PickledPart,
    arrays: Mapping[str, _Array],
) -> list[bytes | memoryview]:
    """Return the pickles of a column with all that says where they belong, and where one ends."""
    data, lengths = arrays[part.array], arrays[part.lengths]
    forms = [[array.dtype.str, array.shape] for array in (data, lengths)]
    place = [order, points is not None, name, part.array, part.types, forms]
    where = b"" if points is None else np.ascontiguousarray(points, "<i8").tobytes()
    raw = (np.ascontiguousarray(array).tobytes() for array in (data, lengths))
    return [b"chunk_memo pickles 1", identity, _text(place).encode(), where, *raw]


# --- what a manifest may say -------------------------------------------------------------------------------


_MOST_CHECKED = 256

_CHECKED: dict[int, Any] = {}
"""Constant parts that were found to be right, by their ids; kept, so that no id is given out again."""

_CONTRADICTIONS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a manifest may lead to that says something else than it should."""


def check_manifest(chunk: chunkfile.Chunk) -> None:
    """Refuse a file whose manifest contradicts itself, before anything is built on it.

    Checksums tell damage. This is for files that somebody made up: what it lets pass has the members, arrays and
    shapes that all code behind it counts on, and trees that can be decoded. It is done once for each constant.

    Parameters
    ----------
    chunk : Chunk
        The opened file.

    Raises
    ------
    ChunkFormatError
        Where the manifest contradicts itself.
    """
    constant = chunk.constant
    if chunk.checked or _CHECKED.get(id(constant), _CHECKED) is constant:
        return
    try:
        with _Doubted(chunk):
            _check_constant(chunk, constant)
    except EncodingError:  # what this program lacks is no fault of the file
        pass
    chunk.checked = True
    if chunk.shares_constant and isinstance(constant, dict):
        if len(_CHECKED) >= _MOST_CHECKED:
            _CHECKED.clear()
        _CHECKED[id(constant)] = constant


class _Doubted:
    """Turn what a made-up manifest leads to, whatever that is, into the error that sets the file aside."""

    __slots__ = ("_chunk",)

    def __init__(self, chunk: chunkfile.Chunk) -> None:
        self._chunk = chunk

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, _CONTRADICTIONS) and not isinstance(error, ChunkMemoError):
            raise ChunkFormatError(
                f"'{self._chunk.subject}' is not an intact chunk file: its manifest contradicts itself"
                f" ({type(error).__name__}: {error})"
            ) from error


def _check_constant(chunk: chunkfile.Chunk, constant: Any) -> None:
    kind, part, sizes = constant["kind"], constant["part"], chunk.sizes
    axes = [name for name, _, _ in constant["axes"]]
    columns = [from_jsonable(name) for name, _, _, _, _ in constant["columns"]]
    leading = tuple(sizes[axis] for axis in axes)
    _expect(kind in _KINDS, f"kind {kind!r}")
    _expect(len(set(axes)) == len(axes) and len(set(columns)) == len(columns), "a name twice")
    if part is not None:
        _expect(part not in axes, f"part {part!r}")
        leading = (sizes[part],)
    for name, tree, where in constant["axes"]:
        _expect(all(at is None or at in chunk.names for at in where.values()), f"arrays of axis {name!r}")
        _expect(tree is None or isinstance(tree, dict), f"tree of axis {name!r}")
    _expect(kind != "opaque" or (len(columns) == 1 and constant["columns"][0][3] is False), "an opaque output")
    _expect(kind in ("columns", "frame") or columns == [""], "names of columns")
    for name, form, tree, pointwise, where in constant["columns"]:
        _expect(form in ("array", "list") and isinstance(pointwise, bool), f"column {name!r}")
        _expect(isinstance(tree, dict) and set(where.values()) <= set(chunk.names), f"arrays of column {name!r}")
        if not pointwise:
            continue  # decoded as soon as it is read
        _expect(not pickled_parts(tree), f"pickles in column {name!r}, whose rows stand alone")
        arrays = {}
        for label, at in where.items():
            shape = chunk.shape(at)
            _expect(shape[: len(leading)] == leading, f"shape of array {at!r}")
            arrays[label] = np.empty((0, *shape[len(leading) :]), chunk.dtype(at))
        if form == "array":
            decode_array(tree, arrays)
        else:
            decode(tree, arrays, 0, coords={axis: [] for axis in axes})


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


_KINDS = frozenset({"list", "grid", "flat", "columns", "frame", "point", "opaque"})


# --- files to blocks ---------------------------------------------------------------------------------------


def axis_values(chunk: chunkfile.Chunk) -> dict[str, list[Any]]:
    """Return the axis values that a file's own manifest names.

    Parameters
    ----------
    chunk : Chunk
        An opened file.

    Returns
    -------
    dict of str to list
        Axis name to values, in the file's order; empty where some axis has values that cannot be rebuilt.

    Raises
    ------
    ChunkFormatError
        Where the file is damaged.
    """
    check_manifest(chunk)
    sizes = chunk.sizes
    values = {}
    with _Doubted(chunk):
        for name, tree, where in chunk.constant["axes"]:
            if tree is None:
                return {}
            arrays = {label: chunk.coords(name) if at is None else chunk.array(at) for label, at in where.items()}
            values[name] = decode(tree, arrays, sizes[name])
    return values


def read_complete(
    ref: ChunkRef,
    chunk: chunkfile.Chunk,
    positions: Sequence[IntArray] | None,
    *,
    signer: Signer | None,
) -> Block | None:
    """Return outputs of a complete file.

    Parameters
    ----------
    ref : ChunkRef
        The chunk.
    chunk : Chunk
        Its opened file.
    positions : sequence of ndarray, or None
        Positions along each axis of the points wanted, in the reader's axis order; None for all of them.
    signer : Signer or None
        Tells which pickles may be loaded; with None none may.

    Returns
    -------
    Block or None
        The outputs, row-major in the reader's axis order; None where the file holds one opaque output for
        other points.

    Raises
    ------
    ChunkFormatError
        Where the file is damaged.
    PickleRefusedError, UntrustedPickleError
        Where it holds pickles that may not be loaded.
    """
    with _Doubted(chunk):
        return _Rows(ref, chunk, positions, signer).block()


def read_part(
    ref: ChunkRef, chunk: chunkfile.Chunk, *, signer: Signer | None, outputs: bool = True
) -> tuple[IntArray, Block]:
    """Return all that a part holds.

    Parameters
    ----------
    ref : ChunkRef
        The chunk that it belongs to.
    chunk : Chunk
        The opened file.
    signer : Signer or None
        Tells which pickles may be loaded; with None none may.
    outputs : bool, default True
        Whether outputs are read; without, the block has no columns.

    Returns
    -------
    points : ndarray of intp
        Row-major positions in the chunk, in the reader's axis order.
    block : Block
        Their outputs.

    Raises
    ------
    ChunkFormatError
        Where the file is damaged.
    PickleRefusedError, UntrustedPickleError
        Where it holds pickles that may not be loaded.
    """
    with _Doubted(chunk):
        rows = _Rows(ref, chunk, None, signer)
        points = rows.points()
        if not outputs:
            return points, Block(chunk.constant["kind"], len(points), {}, ref.coords(points))
        return points, rows.block_of_part(points)


def same_outputs(ref: ChunkRef, chunk: chunkfile.Chunk, block: Block) -> bool:
    """Tell whether a file holds the outputs of a block, as far as that can be told; all of it is checked.

    When they were computed, how long that took and how they are compressed do not count. Two pickles of one
    object may differ, so those are not compared.

    Parameters
    ----------
    ref : ChunkRef
        The chunk.
    chunk : Chunk
        The opened file: a complete chunk, or a part with the block's points.
    block : Block
        The outputs, row-major in the reader's axis order.

    Returns
    -------
    bool
        False where some output differs.

    Raises
    ------
    ChunkFormatError
        Where the file is damaged.
    """
    with _Doubted(chunk):
        return _Rows(ref, chunk, None, None).holds(block)


def _same_values(a: _Array, b: _Array) -> bool:
    """Whether two arrays hold the same values: all NaNs are one, padding does not count, nor does width."""
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    if a.dtype.names is not None and a.dtype.names == b.dtype.names:
        return all(_same_values(a[name], b[name]) for name in a.dtype.names)
    if a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return True
    return a.dtype.kind in "iufcS" and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


_KINDS_ALIKE = ({"list", "point"}, {"grid", "flat"})


class _Rows:
    """Rows of a file, in the reader's axis order."""

    def __init__(
        self,
        ref: ChunkRef,
        chunk: chunkfile.Chunk,
        positions: Sequence[IntArray] | None,
        signer: Signer | None,
    ) -> None:
        check_manifest(chunk)
        self._ref = ref
        self._chunk = chunk
        self._picks = positions if positions is not None and _picks_some(positions, ref.sizes) else None
        self._signer = signer
        self._names = tuple(name for name, _, _ in chunk.constant["axes"])
        if sorted(self._names) != sorted(ref.order):
            raise ChunkFormatError(f"its axes are {self._names}, expected {ref.order}")
        self._turn = tuple(self._names.index(name) for name in ref.order)
        self._straight = self._names == ref.order
        self._sizes = tuple(ref.sizes[ref.order.index(name)] for name in self._names)

    def block(self) -> Block | None:
        """Return the rows picked of a complete file."""
        ref, kind = self._ref, self._chunk.constant["kind"]
        if kind == "opaque":
            return self._opaque(None) if self._picks is None and self._straight else None
        columns = {
            from_jsonable(name): self._column(name, form, tree, pointwise, where)
            for name, form, tree, pointwise, where in self._chunk.constant["columns"]
        }
        values = [ref.values(axis) for axis in ref.order]
        if self._picks is not None:
            values = [[v[i] for i in pick] for v, pick in zip(values, self._picks, strict=True)]
        return Block(kind, math.prod(map(len, values)), columns, PointCoords(ref.order, values))

    def _column(self, name: Any, form: str, tree: Any, pointwise: bool, where: Mapping[str, str]) -> Column:
        if not pointwise:
            column = self._loose(name, form, tree, where)
            own_coords = self._ref.coords(None, self._names)
            objects = self._objects(column, self._ref.points, own_coords).reshape(self._sizes)
            return Column("objects", tree, {"": self._taken(objects, self._picks)}, True)
        return Column(form, tree, {label: self._rows(name) for label, name in where.items()}, True)

    def _rows(self, name: str) -> _Array:
        """Read no more of an array than the rows picked along its first axis span."""
        if self._picks is None or not self._names:
            return self._taken(self._chunk.array(name), self._picks)
        picks = list(self._picks)
        first = self._ref.order.index(self._names[0])
        low, high = int(picks[first].min()), int(picks[first].max()) + 1
        picks[first] = picks[first] - low
        return self._taken(self._chunk.rows(name, low, high), picks)

    def _taken(self, array: _Array, picks: Sequence[IntArray] | None) -> _Array:
        """Turn an array to the reader's axis order, take the points picked, and list them."""
        axes = len(self._turn)
        if not self._straight:
            array = array.transpose(*self._turn, *range(axes, array.ndim))
        if picks is not None:
            array = array[np.ix_(*picks)]
        return array.reshape((math.prod(array.shape[:axes]), *array.shape[axes:]))

    def points(self) -> IntArray:
        """Positions of a part's points, in the reader's axis order."""
        dim = self._chunk.constant["part"]
        if dim is None:
            raise ChunkFormatError("it is a complete chunk where a part was expected")
        points = self._chunk.coords(dim).astype(np.intp)
        if not len(points) or not 0 <= points.min() <= points.max() < self._ref.points:
            raise ChunkFormatError("its points lie outside of the chunk")
        if self._straight:
            return points
        index = np.unravel_index(points, self._sizes)
        return np.ravel_multi_index(tuple(index[i] for i in self._turn), self._ref.sizes)

    def block_of_part(self, points: IntArray) -> Block:
        """Every row of a part."""
        kind = self._chunk.constant["kind"]
        if kind == "opaque":
            return self._opaque(points)
        coords = self._ref.coords(points)
        columns = {}
        for name, form, tree, pointwise, where in self._chunk.constant["columns"]:
            if pointwise:
                column = Column(form, tree, self._arrays(where), True)
            else:
                objects = self._objects(self._loose(name, form, tree, where), len(points), coords)
                column = Column("objects", tree, {"": objects}, True)
            columns[from_jsonable(name)] = column
        return Block(kind, len(points), columns, coords)

    def holds(self, block: Block) -> bool:
        """Tell whether the outputs are those of a block, as far as that can be told."""
        constant = self._chunk.constant
        kinds, names = {constant["kind"], block.kind}, []
        same = len(kinds) == 1 or kinds in _KINDS_ALIKE
        for name, _, tree, pointwise, where in constant["columns"]:
            names.append(from_jsonable(name))
            arrays, own = self._arrays(where), block.columns.get(names[-1])
            comparable = self._straight or (pointwise and constant["part"] is None)
            if own is None or own.form == "objects" or not comparable or pickled_parts(tree):
                continue
            if pointwise and constant["part"] is None:
                arrays = {label: self._taken(array, None) for label, array in arrays.items()}
            same = same and _text(tree) == _text(own.tree) and arrays.keys() == own.arrays.keys()
            same = same and all(_same_values(array, own.arrays[label]) for label, array in arrays.items())
        return same and set(names) == set(block.columns)

    def _arrays(self, where: Mapping[str, str]) -> dict[str, _Array]:
        return {label: self._chunk.array(name) for label, name in where.items()}

    def _objects(self, column: Column, count: int, coords: PointCoords) -> _Array:
        return column.objects(count, coords)

    def _loose(self, name: Any, form: str, tree: Any, where: Mapping[str, str]) -> Column:
        """Return a column whose rows cannot be taken without its tree: only such a one may hold pickles."""
        column = Column(form, tree, self._arrays(where), False)
        parts = pickled_parts(tree)
        if not parts or self._signer is None:
            return column
        dim = self._chunk.constant["part"]
        points = None if dim is None else self._chunk.coords(dim)
        for part in parts:
            self._check(part, name, column.arrays, points)
        return replace(column, ours=True)

    def _check(self, part: PickledPart, name: Any, arrays: Mapping[str, _Array], points: IntArray | None) -> None:
        assert self._signer is not None
        if not {part.array, part.lengths} <= arrays.keys():
            raise ChunkFormatError(f"{part.array!r}: expected arrays of pickles and of their lengths, got none")
        what = _what_is_signed(self._ref.identity, self._names, points, name, part, arrays)
        signature = arrays.get(part.signature)
        subject = f"pickles of {', '.join(part.types)} at {part.array!r} in '{self._chunk.subject}'"
        self._signer.check(what, b"" if signature is None else signature.tobytes(), subject)

    def _opaque(self, points: IntArray | None) -> Block:
        ((name, form, tree, _, where),) = self._chunk.constant["columns"]
        column = self._loose(name, form, tree, where)
        count = self._ref.points if points is None else len(points)
        return Block("opaque", count, {from_jsonable(name): column}, self._ref.coords(points))


def _picks_some(positions: Sequence[IntArray], sizes: Sequence[int]) -> bool:
    """Whether these positions are anything but all of them in order."""
    return not all(
        len(pick) == size and bool((pick == np.arange(size)).all())
        for pick, size in zip(positions, sizes, strict=True)
    )
