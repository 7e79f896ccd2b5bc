"""What a sweep function may return, and how blocks of it become the caller's result.

A function is called with a block of points and returns one of seven *kinds* of output:

========== =========================================== ==========================================
kind       what the function returns                   what the caller gets
========== =========================================== ==========================================
list       a list of n outputs                         a flat list in the order asked
grid       an array of shape (len(axis1), …, …)        an array of the request's shape
flat       an array of shape (n, …)                    the same
columns    a dict of such arrays                       a dict of arrays of the request's shape
frame      a DataFrame of n rows                       one DataFrame, rows in the order asked
point      one output per call with single values      a list, or an array where all are numbers
opaque     anything else                               a list with one entry per block
========== =========================================== ==========================================

A cache has one kind, recorded with its first block. A :class:`Block` holds outputs as columns of arrays whose
rows are points; a :class:`Collector` scatters blocks into the result. This module stands between the encodings
and the cache, because neither the file format nor the planner needs to know of kinds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.dataframes import Note, columns_of, common_note, library_of, make_frame
from chunk_memo.disk.encoding import are_copies, decode, decode_array, encode, encode_array, widenable
from chunk_memo.errors import OutputError
from chunk_memo.grid import IntArray
from chunk_memo.identity import canonical_bytes
from chunk_memo.placing import CellPlace, Place, RegionPlace
from chunk_memo.selection import Cell, Selection

__all__ = [
    "KINDS",
    "Block",
    "Collector",
    "Column",
    "Form",
    "PointCoords",
    "combine",
    "make_block",
    "single_result",
]

KINDS = ("list", "grid", "flat", "columns", "frame", "opaque")
"""The kinds that ``outputs=`` may name; ``point`` is set by ``vectorize=True``."""

_ARRAYS = ("grid", "flat", "columns", "frame")

Array = npt.NDArray[Any]

Share = tuple[int, Cell, IntArray | None, IntArray | None]
"""A cell's part of a block: rank and cell, positions in the cell, rows of the block; None for all."""


class PointCoords(Mapping[str, list[Any]]):
    """The value of every axis at each of some points; made when it is looked at.

    Parameters
    ----------
    order : sequence of str
        Names of the axes in axis order.
    values : sequence of sequence
        Values along each axis.
    points : ndarray of intp, optional
        Row-major positions of the points; all of them by default.

    Examples
    --------
    >>> PointCoords(["a", "b"], [[1, 2], ["x", "y"]])["a"]
    [1, 1, 2, 2]
    """

    def __init__(
        self, order: Sequence[str], values: Sequence[Sequence[Any]], points: IntArray | None = None
    ) -> None:
        self._order = tuple(order)
        self._values = values
        self._points = points

    def __getitem__(self, name: str) -> list[Any]:
        """Return the axis's value at each point."""
        if name not in self._order:
            raise KeyError(name)
        axis = self._order.index(name)
        shape = tuple(len(values) for values in self._values)
        values = self._values[axis]
        if self._points is not None:
            return list(map(values.__getitem__, np.unravel_index(self._points, shape)[axis].tolist()))
        inner = itertools.repeat(math.prod(shape[axis + 1 :]))
        return list(itertools.chain.from_iterable(map(itertools.repeat, values, inner))) * math.prod(shape[:axis])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the axes."""
        return iter(self._order)

    def __len__(self) -> int:
        """Return the number of axes."""
        return len(self._order)

    def taken(self, rows: IntArray) -> PointCoords:
        """Return the coordinates of some of the points.

        Parameters
        ----------
        rows : ndarray of intp
            Their ranks.

        Returns
        -------
        PointCoords
            Their coordinates.
        """
        points = rows if self._points is None else self._points[rows]
        return PointCoords(self._order, self._values, points)

    def at(self, point: int) -> dict[str, Any]:
        """Return the coordinates of one point.

        Parameters
        ----------
        point : int
            Its rank.

        Returns
        -------
        dict
            Axis name to value.
        """
        return {name: self[name][point] for name in self._order}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column of outputs: arrays, and the tree that rebuilds the outputs from them."""

    form: str
    """``"array"``, ``"list"``, or ``"objects"`` for outputs that are decoded already."""
    tree: Any
    """What :mod:`chunk_memo.disk.encoding` needs to decode the arrays."""
    arrays: Mapping[str, Array]
    """The arrays; in a pointwise column their rows are points."""
    pointwise: bool
    """Whether rows can be taken without looking at the tree."""
    ours: bool = False
    """Whether pickles in it may be loaded: this program made them, or a signature was checked."""

    def objects(self, count: int, coords: Mapping[str, list[Any]]) -> Array:
        """Return the outputs of this column as an array of objects.

        Parameters
        ----------
        count : int
            Number of points.
        coords : mapping
            Axis values at each point.

        Returns
        -------
        ndarray of object, shape (count,)
            One output per point.
        """
        if self.form == "objects":
            return self.arrays[""]
        if self.form == "array":
            return _objects(list(decode_array(self.tree, self.arrays)))
        values = decode(self.tree, self.arrays, count, coords=coords, allow_pickle=self.ours)
        return _objects(values)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def note(self) -> Note | None:
        """What is known of the column of a DataFrame that its values do not say."""
        note: Note | None = self.tree.get("frame") if self.tree else None
        return note

    def rows(self, index: Any) -> Column:
        """Return some rows of a pointwise column.

        Parameters
        ----------
        index : object
            What NumPy takes as an index of the first axis.

        Returns
        -------
        Column
            The rows.
        """
        return replace(self, arrays={name: array[index] for name, array in self.arrays.items()})


def _objects(values: Sequence[Any]) -> Array:
    return np.fromiter(values, object, len(values))  # an assignment would unpack sequences


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What a cache's blocks have in common, recorded with the first."""

    kind: str
    """The kind of output."""
    trailing: Mapping[Any, tuple[int, ...]] = field(default_factory=dict)
    """For array kinds, the shape of one point's output in each column."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Outputs of some points, as columns."""

    kind: str
    """The kind of output."""
    count: int
    """Number of points."""
    columns: Mapping[Any, Column]
    """The columns by name; one of the name ``""`` where the kind has no names."""
    coords: PointCoords
    """Axis values at each point."""

    def outputs(self) -> list[Any]:
        """Return one output per point, whatever the kind; columns become dicts.

        Returns
        -------
        list
            The outputs; of an opaque block its one output for every point.
        """
        if self.kind == "opaque":
            one = self.columns[""].objects(1, {})
            return [one[0]] * self.count
        columns = {name: list(column.objects(self.count, self.coords)) for name, column in self.columns.items()}
        if list(columns) == [""]:
            return columns[""]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def taken(self, rows: IntArray) -> Block:
        """Return some rows of a pointwise block; an opaque one stays whole.

        Parameters
        ----------
        rows : ndarray of intp
            The rows.

        Returns
        -------
        Block
            The rows.
        """
        if self.kind == "opaque":
            return self
        columns = {name: column.rows(rows) for name, column in self.columns.items()}
        return Block(self.kind, len(rows), columns, self.coords.taken(rows))

    def by_rows(self) -> Block:
        """Return the same outputs with every column pointwise, those that are not decoded.

        Returns
        -------
        Block
            The outputs.
        """
        columns = {}
        for name, column in self.columns.items():
            if not column.pointwise:
                values = column.objects(self.count, self.coords)
                column = Column("objects", column.tree, {"": values}, True)
            columns[name] = column
        return Block(self.kind, self.count, columns, self.coords)

    @property
    def lasting(self) -> bool:
        """Whether it stays what it is when the function uses the memory of what it returned again."""
        for column in self.columns.values():
            if column.form != "array" or not are_copies(column.arrays):
                return False
        return True

    @property
    def form(self) -> Form:
        """The form that this block has."""
        if self.kind not in _ARRAYS:
            return Form(self.kind)
        return Form(self.kind, {name: _trailing(column) for name, column in self.columns.items()})


def _trailing(column: Column) -> tuple[int, ...]:
    if column.form != "array":
        return ()
    shape: tuple[int, ...] = decode_array(column.tree, column.arrays).shape[1:]
    return shape


@dataclass(frozen=True, slots=True)
class _Maker:
    """How to turn what one call returned into a block."""

    name: str
    shape: tuple[int, ...]
    coords: PointCoords
    allow_pickle: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def block(self, kind: str, columns: Mapping[Any, Any]) -> Block:
        made = {name: self.column(name, values) for name, values in columns.items()}
        return Block(kind, self.count, made, self.coords)

    def column(self, name: Any, values: Any, note: Note | None = None) -> Column:
        if isinstance(values, np.ndarray) and values.dtype.kind != "O":
            form, encoded = "array", encode_array(values, str(name) or "output")
        else:
            form, encoded = "list", encode(list(values), coords=self.coords, allow_pickle=self.allow_pickle)
        tree = encoded.tree if note is None else {**encoded.tree, "frame": note}
        return Column(form, tree, encoded.arrays, encoded.pointwise, ours=True)

    def whole(self, output: Any) -> Block:
        """One entry for the whole block."""
        encoded = encode([output], allow_pickle=self.allow_pickle)
        column = Column("list", encoded.tree, encoded.arrays, False, ours=True)
        return Block("opaque", self.count, {"": column}, self.coords)

    def fit(self, output: Any, flat: bool | None) -> tuple[str, Array] | None:
        """Return an array as one of rows that are points, and whether it came as grid or flat."""
        array = _as_array(output)
        if array is None or array.ndim == 0:
            return None
        if array.dtype.kind == "O" and any(isinstance(item, np.ndarray) for item in array.flat):
            raise OutputError(
                f"{_points(self)} and returned an array of objects that are arrays themselves; return a list of"
                f" outputs, or one array of numbers"
            )
        axes = len(self.shape)
        if flat is not True and array.shape[:axes] == self.shape:
            return "grid", array.reshape(self.count, *array.shape[axes:])
        if flat is not False and array.shape[0] == self.count:
            return "flat", array
        return None


def make_block(
    output: Any,
    coords: PointCoords,
    shape: tuple[int, ...],
    *,
    name: str,
    outputs: str | None = None,
    recorded: Form | None = None,
    allow_pickle: bool = False,
) -> Block:
    """Return what one call returned as a block, or say why it does not fit its points.

    Parameters
    ----------
    output : object
        What the function returned.
    coords : PointCoords
        Axis values at each point of the call.
    shape : tuple of int
        Number of values along each axis.
    name : str
        The function's name, for messages.
    outputs : str, optional
        The kind, where the user said it; ``"point"`` for outputs gathered from calls with single values.
    recorded : Form, optional
        What the cache's first block was like.
    allow_pickle : bool, default False
        Whether outputs without a native form may be pickled.

    Returns
    -------
    Block
        The block.

    Raises
    ------
    OutputError
        Where the output does not fit its points, the recorded form, or carries other coordinates.
    PickleRefusedError
        Where an output has no native form.

    Examples
    --------
    >>> coords = PointCoords(["s"], [[1, 2]])
    >>> make_block([10, 20], coords, (2,), name="foo").kind
    'list'
    >>> make_block([10], coords, (2,), name="foo")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.OutputError: 'foo' was called with 2 points (s: 2) and returned a list of 1 ...
    """
    maker = _Maker(name, shape, coords, allow_pickle)
    wanted = outputs or _wanted(output, recorded)
    block = _as_kind(maker, output, wanted) if wanted else _recognise(maker, output)
    if recorded is not None:
        block = _held_against(maker, block, recorded, output)
    _check_coords(maker, output, block.kind)
    return block


def _wanted(output: Any, recorded: Form | None) -> str | None:
    """Return the recorded kind where it decides between two readings of one output."""
    if recorded is None:
        return None
    if recorded.kind == "flat" and _as_array(output) is not None:
        return "flat"
    return "opaque" if recorded.kind == "opaque" else None


def _points(maker: _Maker) -> str:
    sizes = ", ".join(f"{n}: {size}" for n, size in zip(maker.coords, maker.shape, strict=True))
    return f"{maker.name!r} was called with {maker.count} points ({sizes})"


def _recognise(maker: _Maker, output: Any) -> Block:
    if isinstance(output, list):
        if len(output) == maker.count:
            return maker.block("list", {"": output})
        if maker.count > 1:
            raise OutputError(_wrong_length(maker, output))
        return maker.whole(output)
    if library_of(output) is not None:
        return _frame_block(maker, output)
    if isinstance(output, dict) and output and all(_as_array(v) is not None for v in output.values()):
        return _columns_block(maker, output)
    if _as_array(output) is None:
        if maker.count > 1 and output is None:
            raise OutputError(_forgotten(maker))
        return maker.whole(output)
    fit = maker.fit(output, None)
    if fit is None:
        raise OutputError(_wrong_shape(maker, output))
    return maker.block(fit[0], {"": fit[1]})


def _forgotten(maker: _Maker) -> str:
    return (
        f"{_points(maker)} and returned None; expected an output for each, {maker.count} in all: is a return"
        f" missing? A function of single values is decorated with vectorize=True, and outputs='opaque' keeps what"
        f" a call returns as one piece"
    )


def _as_kind(maker: _Maker, output: Any, kind: str) -> Block:
    if kind in ("list", "point"):
        return _list_block(maker, output, kind)
    if kind == "opaque":
        return maker.whole(output)
    if kind == "frame":
        return _frame_block(maker, output)
    if kind == "columns":
        return _columns_block(maker, output)
    fit = maker.fit(output, kind == "flat")
    if fit is None:
        raise OutputError(_wrong_shape(maker, output))
    return maker.block(kind, {"": fit[1]})


def _list_block(maker: _Maker, output: Any, kind: str) -> Block:
    if not isinstance(output, list | tuple | np.ndarray) or len(output) != maker.count:
        raise OutputError(_wrong_length(maker, output))
    return maker.block(kind, {"": list(output)})


def _wrong_length(maker: _Maker, output: Any) -> str:
    came = f"a {type(output).__name__}"
    if hasattr(output, "__len__"):
        came += f" of {len(output)}"
    return (
        f"{_points(maker)} and returned {came} outputs; expected one output per point, {maker.count} in all."
        f" Return one per point, or pass outputs='opaque' to keep what a call returns as one piece"
    )


def _wrong_shape(maker: _Maker, output: Any) -> str:
    array = _as_array(output)
    came = f"an array of shape {array.shape}" if array is not None else f"a {type(output).__name__}"
    return (
        f"{_points(maker)} and returned {came}; expected an array of shape {(*maker.shape, ...)} or"
        f" {(maker.count, ...)}, or a list of {maker.count} outputs. Axis values come as lists: wrap them in"
        f" np.asarray(…), or pass outputs='opaque' to keep what a call returns as one piece"
    ).replace("Ellipsis", "…")


def _columns_block(maker: _Maker, output: Any) -> Block:
    if not isinstance(output, Mapping):
        raise OutputError(
            f"{_points(maker)} and returned a {type(output).__name__}; outputs='columns' expects a dict of"
            f" arrays, each of shape {maker.shape} or ({maker.count},) with further dimensions"
        )
    columns = {}
    for name, values in output.items():
        fit = maker.fit(values, None)
        if fit is None:
            raise OutputError(f"column {name!r}: {_wrong_shape(maker, values)}")
        columns[name] = fit[1]
    return maker.block("columns", columns)


def _as_array(output: Any) -> Array | None:
    """Return an array, or an object that says how to become one; None for anything else."""
    if isinstance(output, np.generic) or type(output).__module__.partition(".")[0] in _TABLES:
        return None
    if isinstance(output, np.ndarray) and type(output) not in (np.ndarray, np.memmap):
        kind = f"{type(output).__module__}.{type(output).__qualname__}"
        raise OutputError(
            f"an array of the type {kind!r} was returned, of which only the plain array would be kept (no mask,"
            f" no unit); return that by np.asarray(…), or pass outputs='list' or outputs='opaque'"
        )
    if hasattr(output, "__array__"):
        return np.asarray(output)
    return np.from_dlpack(output) if hasattr(output, "__dlpack__") else None


_TABLES = ("pandas", "polars", "xarray")


def _frame_block(maker: _Maker, output: Any) -> Block:
    if library_of(output) is None:
        raise OutputError(
            f"{_points(maker)} and returned a {type(output).__name__}; outputs='frame' expects a pandas or"
            f" polars DataFrame of {maker.count} rows"
        )
    if len(output) != maker.count:
        raise OutputError(
            f"{_points(maker)} and returned a DataFrame of {len(output)} rows; expected one row per point,"
            f" {maker.count} in all, or pass outputs='opaque' to keep what a call returns as one piece"
        )
    columns = {name: maker.column(name, *column) for name, column in columns_of(output).items()}
    return Block("frame", maker.count, columns, maker.coords)


def combine(
    pieces: Sequence[tuple[Block, IntArray]],
    order: IntArray,
    coords: PointCoords,
    allow_pickle: bool,
) -> Block:
    """Return rows of several blocks as one block.

    Parameters
    ----------
    pieces : sequence of tuple of Block, ndarray of intp
        Blocks, and the rows to take of each.
    order : ndarray of intp
        For each row of the result its position among the rows taken.
    coords : PointCoords
        Axis values at each point of the result.
    allow_pickle : bool
        Whether outputs without a native form may be pickled.

    Returns
    -------
    Block
        The union.
    """
    kinds = {block.kind for block, _ in pieces}
    kind = "list" if kinds == {"list", "point"} else min(kinds)
    maker = _Maker("", (len(order),), coords, allow_pickle)
    columns = {}
    for name in pieces[0][0].columns:
        parts = [(block.columns[name], block, rows) for block, rows in pieces]
        notes = [column.note for column, _, _ in parts if column.note is not None]
        note = common_note(notes) if notes else None
        if all(column.form == "array" for column, _, _ in parts):
            arrays = [decode_array(column.tree, column.arrays)[rows] for column, _, rows in parts]
            columns[name] = maker.column(name, _concatenated(arrays)[order], note)
            continue
        values = [column.objects(block.count, block.coords)[rows] for column, block, rows in parts]
        columns[name] = maker.column(name, list(np.concatenate(values)[order]), note)
    return Block(kind, len(order), columns, coords)


def _concatenated(arrays: list[Array]) -> Array:
    dtype = arrays[0].dtype
    for array in arrays[1:]:
        dtype = _promoted(dtype, array.dtype)
    out = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), dtype)  # keeps a foreign byte order
    np.concatenate([_widened(array, dtype) for array in arrays], out=out)
    return out


def _promoted(one: np.dtype[Any], two: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that holds the values of both as what they are; numbers do not become text."""
    if one == two:
        return one
    if one.kind == two.kind or {one.kind, two.kind} <= set("biufc"):
        try:
            return np.result_type(one, two)
        except TypeError:  # records of other fields
            pass
    raise OutputError(
        f"some blocks of this cache have outputs of dtype {one}, others of {two}, which cannot become one array;"
        f" return one dtype from every call, or ask for them apart"
    )


def _widened(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array in a wider dtype, every value as it was."""
    if array.dtype == dtype:
        return array
    wide = array.astype(dtype)
    if array.dtype.kind in "iu" and dtype.kind in "fc":
        with np.errstate(invalid="ignore"):
            back = wide.real.astype(array.dtype)
        if not np.array_equal(back, array):
            raise OutputError(
                f"some blocks of this cache have outputs of dtype {array.dtype}, whose integers would lose digits"
                f" in the {dtype} that all of them need; return one dtype from every call, or ask for them apart"
            )
    return wide


# --- checks ------------------------------------------------------------------------------------------------


def _held_against(maker: _Maker, block: Block, recorded: Form, output: Any) -> Block:
    """Return the block in the recorded form, converted where nothing is lost by it."""
    if {block.kind, recorded.kind} <= {"list", "point"}:
        return block
    if block.kind == "point" and recorded.kind in ("grid", "flat"):
        array = _numbers(list(output))
        if array is not None:
            block = maker.block(recorded.kind, {"": array})
    if recorded.kind == "point" and block.kind in ("grid", "flat"):
        values = decode_array(block.columns[""].tree, block.columns[""].arrays)
        return maker.block("point", {"": values.tolist() if values.ndim == 1 else list(values)})
    form = block.form
    if form.kind != recorded.kind or dict(form.trailing) != dict(recorded.trailing):
        raise OutputError(
            f"{_points(maker)} and returned outputs of the kind {_describe(form)}, but this cache holds"
            f" {_describe(recorded)}; return the same kind from every call, or say which by outputs="
            f" ({', '.join(repr(kind) for kind in KINDS)})"
        )
    return block


def _describe(form: Form) -> str:
    trailing = {name: shape for name, shape in form.trailing.items() if shape or name != ""}
    if not trailing:
        return repr(form.kind)
    shapes = ", ".join(f"{name!r}: {shape}" if name != "" else f"{shape}" for name, shape in trailing.items())
    return f"{form.kind!r} with {shapes} per point"


def _check_coords(maker: _Maker, output: Any, kind: str) -> None:
    """Compare the coordinates that outputs carry with the points that they stand for."""
    names = list(maker.coords)
    carried = _carried(output, kind, names, maker.count) if names else {}
    for name, came in carried.items():
        expected = maker.coords[name]
        if _equal_lists(came, expected):
            continue
        for point, (one, other) in enumerate(zip(came, expected, strict=True)):
            if not _equal(one, other):
                raise OutputError(_misplaced(maker, point, {n: carried[n][point] for n in names}))


def _misplaced(maker: _Maker, point: int, at: dict[str, Any]) -> str:
    return (
        f"output {point} of {maker.name!r} says that it belongs to {at}, but stands where"
        f" {maker.coords.at(point)} is expected: outputs run over the axes in the order {tuple(maker.coords)},"
        f" the last one fastest. Loop in that order, or pass axis_order=…; entries that are no coordinates need"
        f" other names than the axes"
    )


def _carried(output: Any, kind: str, names: list[str], count: int) -> dict[str, Sequence[Any]]:
    """Return the value of every axis at each point as the outputs tell it; nothing where they do not."""
    if kind in ("list", "point"):
        if all(isinstance(item, dict) and all(name in item for name in names) for item in output):
            return {name: [item[name] for item in output] for name in names}
    elif kind == "frame" and all(name in output.columns for name in names):
        return {name: output[name].to_list() for name in names}
    elif kind == "columns" and all(name in output for name in names):
        arrays = {name: np.asarray(output[name]) for name in names}
        if all(array.size == count for array in arrays.values()):
            return {name: list(array.reshape(-1)) for name, array in arrays.items()}
    return {}


def _equal_lists(came: Sequence[Any], expected: Sequence[Any]) -> bool:
    try:
        return len(came) == len(expected) and bool(came == expected)
    except (ValueError, TypeError):  # arrays among the values have no single truth value
        return False


def _equal(came: Any, expected: Any) -> bool:
    """Tell whether a coordinate is that of the point; a narrower float is, where it is the nearest one."""
    try:
        if canonical_bytes(came) == canonical_bytes(expected):
            return True
    except TypeError:
        pass
    if isinstance(came, np.floating) and isinstance(expected, float):
        return bool(came == came.dtype.type(expected))
    try:
        return bool(came == expected)
    except (ValueError, TypeError):
        return bool(np.array_equal(np.asarray(came), np.asarray(expected)))


# --- results -----------------------------------------------------------------------------------------------


class _Arrays:
    """A column of arrays; its dtype is promoted as blocks come in."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._out: Array | None = None

    def takes(self, values: Array, leading: int, *, wide: bool) -> bool:
        """Tell whether these values are of the same shape and dtype, or may widen that."""
        out = self._out
        assert out is not None
        if out.shape[len(self._shape) :] != values.shape[leading:]:
            return False
        if out.dtype == values.dtype:
            return True
        return wide and np.result_type(out.dtype, values.dtype).kind in (out.dtype.kind, values.dtype.kind)

    def put(self, place: Place, values: Array) -> None:
        out, trailing = self._out, values.shape[place.leading :]
        if out is not None and out.dtype == values.dtype and out.shape[len(self._shape) :] == trailing:
            place.scatter(out, values)
            return
        if out is None:
            out = np.empty((*self._shape, *trailing), values.dtype)
        elif out.shape[len(self._shape) :] != trailing:
            raise OutputError(
                f"stored blocks have outputs of shapes {out.shape[len(self._shape) :]} and"
                f" {trailing} per point; they cannot become one array"
            )
        dtype = _promoted(out.dtype, values.dtype)
        self._out = _widened(out, dtype)
        place.scatter(self._out, _widened(values, dtype))

    def result(self) -> Array:
        assert self._out is not None
        return self._out

    def empty(self, shape: tuple[int, ...]) -> _Arrays:
        """Return a column of another shape, without outputs, which these arrays would fit."""
        twin, out = _Arrays(shape), self.result()
        twin._out = np.empty((*shape, *out.shape[len(self._shape) :]), out.dtype)
        return twin


class _Outputs:
    """A column of Python outputs; columns of one form are decoded together at the end."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._tree: Any = None
        self._arrays: dict[str, _Arrays] = {}
        self._decoded: Array | None = None
        self._have: npt.NDArray[np.int8] = np.zeros(shape, np.int8)

    @classmethod
    def of_arrays(cls, arrays: _Arrays, shape: tuple[int, ...]) -> _Outputs:
        """Take over what came as arrays so far."""
        outputs = cls(shape)
        values = arrays.result()
        rows = values.reshape(math.prod(shape), *values.shape[len(shape) :])
        outputs._decoded = _objects(list(rows)).reshape(shape)
        outputs._have[...] = 2
        return outputs

    def put(self, place: Place, column: Column, block: Block) -> None:
        if self.put_together(place, column):
            return
        values = column.objects(block.count, block.coords)
        if self._decoded is None:
            self._decoded = np.empty(self._shape, object)
        place.scatter(self._decoded, values)
        place.scatter(self._have, np.full(block.count, 2, np.int8))

    def put_together(self, place: Place, column: Column) -> bool:
        """Take rows that can be decoded together with those before; tell whether these can."""
        together = column.pointwise and column.form == "list" and column.arrays
        if not together or not self.fits(column, place.leading):
            return False
        self._tree = column.tree
        for name, array in column.arrays.items():
            self._arrays.setdefault(name, _Arrays(self._shape)).put(place, array)
        shape = next(iter(column.arrays.values())).shape[: place.leading]
        place.scatter(self._have, np.ones(shape, np.int8))
        return True

    def fits(self, column: Column, leading: int) -> bool:
        """Tell whether rows of this column can be decoded together with those before, types kept."""
        if not self._arrays:
            return True
        if self._tree is not column.tree and self._tree != column.tree:
            return False
        wide = widenable(column.tree)
        pairs = column.arrays.items()
        return all(self._arrays[name].takes(array, leading, wide=name in wide) for name, array in pairs)

    def result(self, coords: Callable[[IntArray | None], Mapping[str, list[Any]]]) -> list[Any]:
        have = self._have.reshape(-1)
        if self._decoded is None and bool((have == 1).all()):
            return self._decode(coords(None), len(have), None)
        out = np.empty(len(have), object) if self._decoded is None else self._decoded.reshape(-1)
        together = np.flatnonzero(have == 1)
        if len(together):
            values = self._decode(coords(together), len(together), together)
            out[together] = _objects(values)
        found: list[Any] = out[have > 0].tolist()
        return found

    def leave_out(self, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Forget what may stand at some points; tell which others are there."""
        self._have[where] = 0
        return self._have > 0

    def rows(self, coords: Callable[[IntArray | None], Mapping[str, list[Any]]]) -> Column:
        """Return the outputs with a row for each point: undecoded, or as objects where some are decoded."""
        if self._decoded is None:
            arrays = {name: _rows(each.result(), self._shape) for name, each in self._arrays.items()}
            return Column("list", self._tree, arrays, True)
        out, together = self._decoded.reshape(-1).copy(), np.flatnonzero(self._have.reshape(-1) == 1)
        if len(together):
            out[together] = _objects(self._decode(coords(together), len(together), together))
        return Column("objects", None, {"": out}, True)

    def empty(self, shape: tuple[int, ...]) -> _Outputs:
        """Return a column of another shape, without outputs."""
        return _Outputs(shape)

    def _decode(self, coords: Mapping[str, list[Any]], count: int, rows: IntArray | None) -> list[Any]:
        arrays = {}
        for name, column in self._arrays.items():
            array = column.result()
            array = array.reshape(math.prod(self._shape), *array.shape[len(self._shape) :])
            arrays[name] = array if rows is None else array[rows]
        return decode(self._tree, arrays, count, coords=coords)


class Collector:
    """Blocks of a request, gathered into what the caller gets.

    Parameters
    ----------
    selection : Selection
        What was asked for.
    by_chunk : bool, default False
        Whether to keep an entry per cell, as a ``collate_fn`` wants them.
    """

    def __init__(self, selection: Selection, *, by_chunk: bool = False) -> None:
        self._selection = selection
        self._shape = selection.shape
        self._columns: dict[Any, _Arrays | _Outputs] = {}
        self._kinds: set[str] = set()
        self._opaque: dict[int, list[Any]] = {}
        self._notes: dict[Any, list[Note]] = {}
        self._by_chunk: dict[int, Collector] | None = {} if by_chunk else None
        self._failed: list[tuple[int, CellPlace, Array]] = []
        self._alike: tuple[str, Any, _Arrays] | None = None
        """What blocks of one plain array are like, and where they go: the kind, the tree, the column."""

    @property
    def by_chunk(self) -> bool:
        """Whether an entry is kept for each cell."""
        return self._by_chunk is not None

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of the blocks taken so far."""
        inner = (part.kinds for part in (self._by_chunk or {}).values())
        return frozenset(self._kinds).union(*inner)

    def add(self, rank: int, cell: Cell, block: Block, points: IntArray | None = None) -> None:
        """Take a block.

        Parameters
        ----------
        rank : int
            The cell's rank in the request.
        cell : Cell
            The cell.
        block : Block
            Outputs, one row per point of the cell or per point listed.
        points : ndarray of intp, optional
            Row-major positions in the cell of the block's rows; all of them by default.
        """
        if self._by_chunk is not None:
            self._of_chunk(rank, cell).add(rank, cell.alone(), block, points)
            return
        if block.kind not in self._kinds:
            self._take_kind(block.kind)
        if block.kind == "opaque":
            entry = block.columns[""].objects(1, {})[0]
            self._opaque.setdefault(rank, []).append(entry)
            return
        if self._columns and block.columns.keys() != self._columns.keys():
            raise OutputError(
                f"some blocks of this cache have the columns {list(self._columns)}, others {list(block.columns)};"
                f" return the same columns from every call, or ask for them apart"
            )
        for name, column in block.columns.items():
            if column.note is not None:
                self._notes.setdefault(name, []).append(column.note)
            self._put(name, column, CellPlace(cell, points), block)

    def _take_kind(self, kind: str) -> None:
        self._kinds.add(kind)
        if not any(self._kinds <= kinds for kinds in _TOGETHER):
            raise OutputError(
                f"this cache holds outputs of the kinds {sorted(self._kinds)}, which cannot become one result;"
                f" ask for them apart, or compute them under one kind with outputs="
            )

    def fail(self, rank: int, cell: Cell, points: IntArray | None, markers: Any) -> None:
        """Take markers in place of outputs that there will not be.

        Parameters
        ----------
        rank : int
            The cell's rank in the request.
        cell : Cell
            The cell.
        points : ndarray of intp or None
            Row-major positions in the cell; None for all of them.
        markers : object or ndarray of object
            What stands there: one for all, or one for each point. It tells its ``failure``, where there was one.
        """
        if self._by_chunk is not None:
            self._of_chunk(rank, cell).fail(rank, cell.alone(), points, markers)
            return
        each = np.empty(cell.points if points is None else len(points), object)
        each[...] = markers
        self._failed.append((rank, CellPlace(cell, points), each))

    def add_shares(self, shares: Sequence[Share], block: Block) -> None:
        """Take one block that holds points of several cells; an opaque one is one entry, and goes to the first.

        Parameters
        ----------
        shares : sequence of tuple
            For each cell its rank, the cell, row-major positions in it (None for all of its points), and the
            rows of the block that stand there (None for all rows).
        block : Block
            The outputs.
        """
        if len(shares) == 1 and self._add_alike(*shares[0], block):
            return
        if block.kind != "opaque" and any(rows is not None for _, _, _, rows in shares):
            block = block.by_rows()
        for rank, cell, points, rows in shares if block.kind != "opaque" else shares[:1]:
            self.add(rank, cell, block if rows is None else block.taken(rows), points)

    def _add_alike(
        self, rank: int, cell: Cell, points: IntArray | None, rows: IntArray | None, block: Block
    ) -> bool:
        """Take a block that is one plain array, as those before it were; tell whether it is."""
        alike = self._alike
        if alike is None or rows is not None or block.kind != alike[0] or len(block.columns) != 1:
            return False
        column = block.columns.get("")
        if column is None or column.form != "array" or column.tree != alike[1]:
            return False
        alike[2].put(CellPlace(cell, points), column.arrays[column.tree["a"]])
        return True

    def add_region(self, place: RegionPlace, kind: str, columns: Mapping[Any, Column]) -> bool:
        """Take the outputs of many chunks at once, where they go together with those before.

        Parameters
        ----------
        place : RegionPlace
            Where they go.
        kind : str
            Their kind.
        columns : mapping
            The columns; the leading dimensions of their arrays are those of the place.

        Returns
        -------
        bool
            Whether they were taken; where not, nothing was, and each chunk is to be added alone.
        """
        if self._by_chunk is not None or not self._kinds <= {kind}:
            return False
        if self._columns and columns.keys() != self._columns.keys():
            return False
        if not all(self._together(self._columns.get(name), c, place) for name, c in columns.items()):
            return False
        self._kinds.add(kind)
        for name, column in columns.items():
            if column.note is not None:
                self._notes.setdefault(name, []).append(column.note)
            target = self._columns.get(name)
            if target is None:
                arrays = column.form == "array"
                target = _Arrays(self._shape) if arrays else _Outputs(self._shape)
                self._columns[name] = target
            if isinstance(target, _Arrays):
                target.put(place, decode_array(column.tree, column.arrays))
            else:
                target.put_together(place, column)
        return True

    @staticmethod
    def _together(target: _Arrays | _Outputs | None, column: Column, place: RegionPlace) -> bool:
        if column.form == "array":
            return target is None or isinstance(target, _Arrays)
        if isinstance(target, _Arrays) or not column.arrays:
            return False
        return target is None or target.fits(column, place.leading)

    def _of_chunk(self, rank: int, cell: Cell) -> Collector:
        assert self._by_chunk is not None
        if rank not in self._by_chunk:
            values = tuple(
                tuple(asked[i] for i in axis.request)
                for asked, axis in zip(self._selection.values, cell.axes, strict=True)
            )
            part = Selection(self._selection.order, values, ())
            self._by_chunk[rank] = Collector(part)
        return self._by_chunk[rank]

    def _put(self, name: Any, column: Column, place: Place, block: Block) -> None:
        target = self._columns.get(name)
        if column.form == "array" and (target is None or isinstance(target, _Arrays)):
            target = self._columns[name] = target or _Arrays(self._shape)
            target.put(place, decode_array(column.tree, column.arrays))
            plain = (
                len(block.columns) == 1
                and name == ""
                and column.tree.keys() == {"k", "a"}
                and column.tree["k"] == "whole"
            )
            self._alike = (block.kind, column.tree, target) if plain else None
            return
        self._alike = None
        if target is None:
            target = _Outputs(self._shape)
        elif isinstance(target, _Arrays):
            target = _Outputs.of_arrays(target, self._shape)
        self._columns[name] = target
        target.put(place, column, block)

    def entries(self) -> list[Any]:
        """Return one entry per chunk touched, in grid order of the request.

        Returns
        -------
        list
            What a ``collate_fn`` is called with.
        """
        assert self._by_chunk is not None
        parts = [part for _, part in sorted(self._by_chunk.items())]
        known = next((part for part in parts if part.kinds), None)
        entries: list[Any] = []
        for part in parts:
            if known is not None and not part.kinds:
                part._take_form(known)
            entries += part.result() if part.kinds == {"opaque"} else [part.result()]
        return entries

    def _take_form(self, other: Collector) -> None:
        """Take the form of another chunk's outputs, where all of this one failed."""
        if other._kinds <= {"opaque", *_ARRAYS}:
            self._kinds, self._notes = other._kinds, other._notes
            self._columns = {name: column.empty(self._shape) for name, column in other._columns.items()}

    def result(self) -> Any:
        """Return what the caller gets.

        Returns
        -------
        object
            As the kind of the outputs says; a list without axes.
        """
        if self._kinds == {"opaque"}:
            return self._opaque_entries()
        if self._failed:
            return self._result_with_markers()
        values = {name: self._finished(target) for name, target in self._columns.items()}
        if self._kinds == {"columns"}:
            return {name: _shaped(value, self._shape) for name, value in values.items()}
        if self._kinds == {"frame"}:
            flat = {n: v.reshape(-1) if isinstance(v, np.ndarray) else v for n, v in values.items()}
            return make_frame({n: (v, common_note(self._notes[n])) for n, v in flat.items()})
        if self._kinds <= {"grid", "flat"}:
            return _shaped(values[""], self._shape) if values else []
        if "point" in self._kinds and "list" not in self._kinds and self._shape:
            array = _numbers(values[""]) if len(values[""]) == math.prod(self._shape) else None
            return values[""] if array is None else array.reshape(*self._shape, *array.shape[1:])
        return values[""]

    def columns(self) -> dict[Any, Column]:
        """Return the outputs as they came, column by column, for those who make something else of them.

        Returns
        -------
        dict of object to Column
            For each column a row for each point of the request, row-major; the one of a point that is not
            there holds anything. Of opaque outputs, which have no rows, nothing.
        """
        found = {}
        for name, target in self._columns.items():
            if isinstance(target, _Arrays):
                found[name] = Column("array", None, {"": _rows(target.result(), self._shape)}, True)
            else:
                found[name] = target.rows(self._coords)
        return found

    def _opaque_entries(self) -> list[Any]:
        """Return the entries in grid order, and one marker for each call that failed."""
        entries = {rank: list(found) for rank, found in self._opaque.items()}
        for rank, _, markers in self._failed:
            entries.setdefault(rank, []).extend(dict.fromkeys(markers.tolist()))
        return [entry for rank in sorted(entries) for entry in entries[rank]]

    def _result_with_markers(self) -> Any:
        """Return what the caller gets where points failed: masked, marked, or without a row."""
        failed, markers = np.zeros(self._shape, bool), np.empty(self._shape, object)
        for _, place, each in self._failed:
            place.scatter(failed, np.ones(len(each), bool))
            place.scatter(markers, each)
        there = ~failed
        for target in self._columns.values():
            if isinstance(target, _Outputs):
                there = target.leave_out(failed)
        values = {name: self._finished(target) for name, target in self._columns.items()}
        if self._kinds == {"columns"}:
            return {name: _masked(value, failed) for name, value in values.items()}
        if self._kinds == {"frame"}:
            return self._frame_without(values, failed, markers)
        if values and self._kinds <= {"grid", "flat"}:
            return _masked(values[""], failed)
        if "point" in self._kinds and "list" not in self._kinds and self._shape and (failed | there).all():
            array = _numbers(values[""])
            if array is not None:
                return _masked(_spread(array, failed), failed)
        if values:
            markers[there] = _objects(values[""])
        found: list[Any] = markers[failed | there if values else failed].tolist()
        return found

    def _frame_without(self, values: Mapping[Any, Any], failed: npt.NDArray[np.bool_], markers: Array) -> Any:
        """Return the rows that there are, and with a pandas frame the table of the others."""
        left = ~failed.reshape(-1)
        rows = {n: v.reshape(-1)[left] if isinstance(v, np.ndarray) else v for n, v in values.items()}
        frame = make_frame({n: (v, common_note(self._notes[n])) for n, v in rows.items()})
        if hasattr(frame, "attrs"):
            known = [marker for marker in dict.fromkeys(markers[failed].tolist()) if hasattr(marker, "failure")]
            frame.attrs["failures"] = [marker.failure.to_dict(as_text=True) for marker in known]
        return frame

    def _finished(self, target: _Arrays | _Outputs) -> Any:
        return target.result() if isinstance(target, _Arrays) else target.result(self._coords)

    def _coords(self, points: IntArray | None) -> PointCoords:
        return PointCoords(self._selection.order, self._selection.values, points)


def _rows(values: Array, shape: tuple[int, ...]) -> Array:
    """Return a column in the request's shape as one row per point."""
    return values.reshape(math.prod(shape), *values.shape[len(shape) :])


def single_result(kind: str, outputs: Mapping[Any, Any], axes: int) -> Any:
    """Return what the caller gets for a request of one point.

    Parameters
    ----------
    kind : str
        The kind of output.
    outputs : mapping
        For each column an array of one row, or a list of one output.
    axes : int
        Number of axes.

    Returns
    -------
    object
        What a :class:`Collector` of that request would return.
    """
    shape = (1,) * axes
    if kind == "columns":
        return {name: _shaped(_writable(value, shape), shape) for name, value in outputs.items()}
    value = outputs[""]
    if kind in ("grid", "flat"):
        return _shaped(_writable(value, shape), shape)
    array = _numbers(value) if kind == "point" and axes else None
    return value if array is None else array.reshape(*shape, *array.shape[1:])


def _writable(value: Any, shape: tuple[int, ...]) -> Any:
    """Return one row in the request's shape, as the caller's own."""
    return value.reshape(*shape, *value.shape[1:]).copy() if isinstance(value, np.ndarray) else value


_TOGETHER = ({"list", "point"}, {"grid", "flat", "point"}, {"columns"}, {"frame"}, {"opaque"})
"""Kinds whose blocks make one result."""


def _shaped(values: Any, shape: tuple[int, ...]) -> Array:
    """Return a column in the request's shape; lists become arrays of objects."""
    if isinstance(values, np.ndarray):
        return values
    rows = {value.shape for value in values if isinstance(value, np.ndarray) and value.dtype == object}
    if not rows:
        return _objects(values).reshape(shape)
    if len(rows) > 1 or not all(isinstance(value, np.ndarray) for value in values):
        raise OutputError(
            f"blocks of this cache have outputs of the shapes {sorted(rows)} per point, which cannot become one"
            f" array; return one shape from every call, or ask for them apart"
        )
    return np.stack(values).reshape(*shape, *rows.pop())


def _masked(values: Any, failed: npt.NDArray[np.bool_]) -> Any:
    """Return a column masked where points failed: of an array in the request's shape, or a list of the others."""
    if not isinstance(values, np.ndarray):
        values = _spread(_shaped(values, (len(values),)), failed)
    values[failed] = _blank(values.dtype)
    mask = np.zeros(values.shape, np.ma.make_mask_descr(values.dtype))
    mask[failed] = True
    return np.ma.MaskedArray(values, mask)


def _spread(rows: Array, failed: npt.NDArray[np.bool_]) -> Array:
    """Return rows in the request's shape, where the points that did not fail stand."""
    values = np.empty((*failed.shape, *rows.shape[1:]), rows.dtype)
    values[~failed] = rows
    return values


def _blank(dtype: np.dtype[Any]) -> Any:
    """Return what stands below the mask, should somebody take the mask off."""
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind in "mM":
        return dtype.type("NaT")
    return None if dtype.hasobject and dtype.names is None else np.zeros((), dtype)[()]


def _numbers(values: list[Any]) -> Array | None:
    """Return numbers or equal-shaped arrays as one array, None where that would change a value."""
    types = set(map(type, values))
    if types == {np.ndarray}:
        return _stacked(values)
    if not all(issubclass(cls, int | float | complex | np.number | np.bool_) for cls in types):
        return None
    if 0 < sum(issubclass(cls, bool | np.bool_) for cls in types) < len(types):
        return None  # among numbers, True would become 1
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        return None
    if array.dtype.kind in "fc" and any(issubclass(cls, int | np.integer) for cls in types):
        whole = (value for value in values if isinstance(value, int | np.integer))
        if any(abs(int(value)) > 2**53 for value in whole):
            return None
    return array


def _stacked(arrays: list[Array]) -> Array | None:
    if len({array.shape for array in arrays}) > 1 or any(array.dtype == object for array in arrays):
        return None
    try:
        return _concatenated([array[None] for array in arrays])
    except OutputError:
        return None
