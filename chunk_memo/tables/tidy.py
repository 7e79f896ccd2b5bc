"""The points of a cache as a tidy table: params, axes and outputs as columns, one row for each point.

Chunks are read in boxes of about a hundred thousand points, through the same verified reader as every call, and
one box at a time, so that a cache of any size can be looked at. Outputs that are stored as arrays become Arrow
columns without a Python object per point.

The schema is known before the first row: one file of each form that is stored is looked at for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.cache import ChunkCache
from chunk_memo.disk.encoding import decode, decode_array
from chunk_memo.errors import SpecError
from chunk_memo.grid import IntArray
from chunk_memo.identity import canonical_many
from chunk_memo.outputs import Block, Column, PointCoords
from chunk_memo.plan import FAILED, MISSING, PARTIAL, STORED
from chunk_memo.scattered import Group
from chunk_memo.selection import AxisCell, Cells, Selection
from chunk_memo.tables.arrow import cast, columns_of_array, columns_of_values, from_values, unite_schemas
from chunk_memo.tables.needs import needed

pa = needed("pyarrow")

__all__ = ["Box", "Tidy", "TidyPoints", "tidy_batches", "tidy_reader", "tidy_schema", "tidy_table"]

_BOX_POINTS = 1 << 17
"""About so many points are read at once."""

STATE = "point_state"
"""The column that says ``stored``, ``missing`` or ``failed`` where such points have rows, too."""

_Flags = npt.NDArray[np.bool_]


def tidy_table(cache: ChunkCache, columns: Sequence[str] | None = None, *, missing: str = "omit") -> Any:
    """Return the points of a cache, or of a slice of one, as an Arrow table.

    Parameters
    ----------
    cache : ChunkCache
        The cache; ``foo.cache_for(…)`` is that of a decorated function.
    columns : sequence of str, optional
        Names of the columns wanted; all of them by default.
    missing : {"omit", "mark"}
        Whether points without an output have no row, or one of nulls and a column ``point_state``.

    Returns
    -------
    pyarrow.Table
        One row for each point, the last axis fastest inside each chunk.

    Raises
    ------
    SpecError
        Where a column is named that there is not.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache, run
    >>> values = {"s": [1, 2], "t": ["a", "b"]}
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", {"params": {"alpha": 0.5}}, axis_values=values)
    >>> _ = run(cache, lambda s, t: [{"loss": n / 2, "tag": {"of": x}} for n in s for x in t])
    >>> tidy_table(cache).to_pylist()[1]
    {'alpha': 0.5, 's': 1, 't': 'b', 'loss': 0.5, 'tag.of': 'b'}
    """
    return Tidy(cache, missing=missing).table(columns)


def tidy_batches(
    cache: ChunkCache, columns: Sequence[str] | None = None, *, missing: str = "omit"
) -> Iterator[Any]:
    """Iterate over the points of a cache as Arrow record batches, each read when it is asked for.

    Parameters
    ----------
    cache : ChunkCache
        The cache, or a slice of one.
    columns : sequence of str, optional
        Names of the columns wanted; all of them by default.
    missing : {"omit", "mark"}
        As in :func:`tidy_table`.

    Yields
    ------
    pyarrow.RecordBatch
        About a hundred thousand points of whole chunks; all have one schema.
    """
    yield from Tidy(cache, missing=missing).batches(columns)


def tidy_reader(cache: ChunkCache, columns: Sequence[str] | None = None, *, missing: str = "omit") -> Any:
    """Return the points of a cache as a stream that Arrow, DuckDB and polars read.

    Parameters
    ----------
    cache : ChunkCache
        The cache, or a slice of one.
    columns : sequence of str, optional
        Names of the columns wanted; all of them by default.
    missing : {"omit", "mark"}
        As in :func:`tidy_table`.

    Returns
    -------
    pyarrow.RecordBatchReader
        The batches of :func:`tidy_batches`, once.
    """
    return Tidy(cache, missing=missing).reader(columns)


def tidy_schema(cache: ChunkCache, *, missing: str = "omit") -> Any:
    """Return the columns of a cache's table and their types; few bytes are read for that.

    Parameters
    ----------
    cache : ChunkCache
        The cache, or a slice of one.
    missing : {"omit", "mark"}
        As in :func:`tidy_table`.

    Returns
    -------
    pyarrow.Schema
        Params, axes, then outputs.
    """
    return Tidy(cache, missing=missing).schema


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Chunks that are read together: a range of groups of values along each axis."""

    ranges: tuple[tuple[int, int], ...]
    """For each axis the first group, and the one behind the last."""
    selection: Selection
    """Their points."""
    states: tuple[int, ...]
    """For each chunk, in grid order, one of the states of a plan."""


class Tidy:
    """One cache as a table.

    Parameters
    ----------
    cache : ChunkCache
        The cache, or a slice of one. A value that a slice names twice counts once.
    missing : {"omit", "mark"}
        Whether points without an output have no row, or one of nulls and a column ``point_state``.

    Raises
    ------
    SpecError
        Where `missing` is neither.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache, run
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2, 3]})
    >>> _ = run(cache.slice(s=[1, 3]), lambda s: [value * 1.5 for value in s])
    >>> Tidy(cache).schema.names
    ['s', 'value']
    >>> Tidy(cache, missing="mark").table().column("point_state").to_pylist()
    ['stored', 'missing', 'stored']
    """

    def __init__(self, cache: ChunkCache, *, missing: str = "omit") -> None:
        if missing not in ("omit", "mark"):
            raise SpecError(f"missing must be 'omit' or 'mark', got {missing!r}")
        self.cache = cache
        self.marks = missing == "mark"

    # --- columns -------------------------------------------------------------------------------------------

    @cached_property
    def selection(self) -> Selection:
        """The points of the cache or slice, each once."""
        return _once(self.cache.selection())

    @cached_property
    def params(self) -> dict[str, Any]:
        """The params, nested ones taken apart: name to an Arrow array of length one."""
        found: dict[str, Any] = {}
        for name, value in self.cache.params.items():
            found.update(columns_of_values(str(name), [value]))
        return {name: column for name, column in found.items() if name not in self.selection.order}

    @cached_property
    def axes(self) -> tuple[Any, ...]:
        """The values along each axis, as Arrow arrays."""
        return tuple(from_values(values) for values in self.selection.values)

    @cached_property
    def schema(self) -> Any:
        """The columns and their types: params, axes, outputs.

        Two different outputs, or an output and a param, may want one name; the output is then ``output.name``.
        """
        head = [(name, column.type) for name, column in self.params.items()]
        head += list(zip(self.selection.order, (column.type for column in self.axes), strict=True))
        outputs = unite_schemas(self._sampled())
        state = [(STATE, pa.string())] if self.marks else []
        return pa.schema([*head, *outputs, *state])

    def _sampled(self) -> Iterator[Any]:
        for block in self.cache.sample_blocks():
            columns = self.outputs_of(block)
            yield pa.schema([(name, column.type) for name, column in columns.items()])

    def outputs_of(self, block: Block) -> dict[str, Any]:
        """Return the Arrow columns of a block.

        Parameters
        ----------
        block : Block
            Outputs of points, with their coordinates.

        Returns
        -------
        dict of str to pyarrow.Array
            Name to column, with a row for each point.
        """
        if block.kind == "opaque":
            return self._named(columns_of_values("", block.outputs()))
        columns = {}
        for name, column in block.columns.items():
            if column.form == "array":
                column = Column("array", None, {"": decode_array(column.tree, column.arrays)}, True)
            elif not column.pointwise or column.ours:
                values = column.objects(block.count, block.coords)
                column = Column("objects", None, {"": values}, True)
            columns[name] = column
        return self._outputs(columns, block.count, block.coords)

    def _outputs(self, columns: Mapping[Any, Column], count: int, coords: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Arrow columns of outputs."""
        found: dict[str, Any] = {}
        for name, column in columns.items():
            label = str(name) if name != "" else ""
            if column.form == "array":
                found.update(columns_of_array(label, column.arrays[""]))
            elif column.form == "objects":
                found.update(columns_of_values(label, column.arrays[""].tolist()))
            else:
                found.update(_of_tree(label, column.tree, column.arrays, count, coords))
        return self._named(found)

    def _named(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Leave out coordinates that outputs repeat, and tell outputs from params of the same name."""
        return {
            f"output.{name}" if name in self.params or name == STATE else name: column
            for name, column in outputs.items()
            if name not in self.selection.order
        }

    # --- boxes ---------------------------------------------------------------------------------------------

    def boxes(self, points: int = _BOX_POINTS, wanted: _Flags | None = None) -> Iterator[Box]:
        """Cut what is stored into boxes of whole chunks.

        Parameters
        ----------
        points : int, default 131072
            About so many points lie in each; a chunk that has more is a box of its own.
        wanted : ndarray of bool, optional
            For each chunk, in grid order, whether it is wanted; a box may hold others, too.

        Yields
        ------
        Box
            Chunks of which something is stored, or all of them where missing points are marked.
        """
        cells, states = self.stored
        there = np.ones_like(states, bool) if self.marks else np.isin(states, (STORED, PARTIAL))
        if wanted is not None:
            there &= wanted.reshape(states.shape)
        for ranges in _boxes(cells, there, points):
            yield self.box(ranges)

    def box(self, ranges: tuple[tuple[int, int], ...]) -> Box:
        """Return the box of some groups of values along each axis.

        Parameters
        ----------
        ranges : tuple of tuple of int
            For each axis the first group, and the one behind the last.

        Returns
        -------
        Box
            The box.
        """
        cells, states = self.stored
        where = tuple(slice(*each) for each in ranges)
        inside = tuple(states[where].reshape(-1).tolist())
        return Box(ranges, _part(self.selection, cells, ranges), inside)

    @property
    def stored(self) -> tuple[Cells, npt.NDArray[np.uint8]]:
        """The chunks, and the state of each in an array of their shape; as they were when first asked for."""
        return self._plan[:2]

    @property
    def held(self) -> IntArray:
        """For each chunk, in grid order, the number of points stored."""
        return self._plan[2]

    @cached_property
    def _plan(self) -> tuple[Cells, npt.NDArray[np.uint8], IntArray]:
        plan = self.cache.plan(self.selection)
        cells, states, missing = plan.cells, plan.states, plan.missing
        if cells.ranking is not None:  # in grid order again
            states, missing = np.empty_like(states), np.empty_like(missing)
            states[cells.ranking], missing[cells.ranking] = plan.states, plan.missing
        points = np.ones(1, np.intp)
        for axis in cells.axes:
            points = np.multiply.outer(points, axis.lengths).reshape(-1)
        return cells, states.reshape(cells.shape), points - missing

    # --- rows ----------------------------------------------------------------------------------------------

    def read(self, box: Box, columns: Sequence[str] | None = None) -> Any:
        """Read the points of one box.

        Parameters
        ----------
        box : Box
            One of :meth:`boxes`.
        columns : sequence of str, optional
            Names of the columns wanted; all of them by default.

        Returns
        -------
        pyarrow.RecordBatch
            A row for each of its points that is stored, or for each where missing points are marked.
        """
        chosen = self._chosen(columns)
        selection = box.selection
        there = np.zeros(selection.points, bool)
        outputs: dict[str, Any] = {}
        if set(box.states) - {MISSING, FAILED}:
            there, outputs = self._stored(selection)
        if self.marks:
            rows, count = None, selection.points
        else:
            rows, count = (None, len(there)) if there.all() else (np.flatnonzero(there), int(there.sum()))
        made = []
        for field in chosen:
            if field.name in selection.order:
                column = self._axis(field.name, selection, rows)
            elif field.name in self.params:
                column = pa.repeat(self.params[field.name][0], count)
            elif self.marks and field.name == STATE:
                column = self._states(selection, there)
            elif field.name in outputs:
                column = _at(outputs[field.name], there, rows, self.marks)
            else:
                column = pa.nulls(count, field.type)
            made.append(cast(column, field.type, field.name))
        return pa.RecordBatch.from_arrays(made, schema=chosen) if made else _empty_rows(count)

    def coordinates(self, box: Box) -> Any:
        """Return params and axes of the points of a box, stored or not; nothing is read.

        Parameters
        ----------
        box : Box
            One of :meth:`boxes`.

        Returns
        -------
        pyarrow.Table
            A row for each point.
        """
        count = box.selection.points
        made = {name: pa.repeat(column[0], count) for name, column in self.params.items()}
        made.update({name: self._axis(name, box.selection, None) for name in box.selection.order})
        return pa.table(made)

    def _stored(self, selection: Selection) -> tuple[_Flags, dict[str, Any]]:
        """Return which points of a request are stored, and the columns of outputs with a row for each point."""
        collector = self.cache.collector(selection, by_chunk=False)
        reading = self.cache.read(selection, collector)
        if "opaque" in collector.kinds:
            return self._pieces(selection, reading.cells)
        there = np.ones(selection.shape, bool)
        for _, cell, points in reading.missing:
            places = np.unravel_index(np.arange(cell.points) if points is None else points, cell.shape)
            at = tuple(axis.source[place] for axis, place in zip(cell.axes, places, strict=True))
            there[at if at else ()] = False
        coords = PointCoords(selection.order, selection.values)
        return there.reshape(-1), self._outputs(collector.columns(), selection.points, coords)

    def _pieces(self, selection: Selection, cells: Cells) -> tuple[_Flags, dict[str, Any]]:
        """Read outputs that are one piece per call: each stands at every point of its call."""
        there, values = np.zeros(selection.shape, bool), np.empty(selection.shape, object)
        for cell in cells:
            alone = _part_of_groups(selection, cell.axes)
            collector = self.cache.collector(alone, by_chunk=False)
            self.cache.read(alone, collector)
            if collector.kinds == {"opaque"}:
                at = np.ix_(*(np.sort(axis.source) for axis in cell.axes)) if cell.axes else ()
                there[at] = True
                piece = np.empty((), object)
                piece[()] = collector.result()[0]
                values[at] = piece
        return there.reshape(-1), self._named(columns_of_values("", values.reshape(-1).tolist()))

    def _axis(self, name: str, selection: Selection, rows: IntArray | None) -> Any:
        number = selection.order.index(name)
        places = {key: at for at, key in enumerate(self.selection.keys[number])}
        along = np.fromiter(map(places.__getitem__, selection.keys[number]), np.int64)
        column = self.axes[number]
        plain = (
            pa.types.is_primitive(column.type) and not column.null_count and not pa.types.is_boolean(column.type)
        )
        values = column.to_numpy()[along] if plain else along
        lengths = [1] * len(selection.shape)
        lengths[number] = len(values)
        spread = np.broadcast_to(values.reshape(lengths), selection.shape).reshape(-1)
        spread = spread if rows is None else spread[rows]
        return pa.array(spread, column.type) if plain else column.take(pa.array(spread))

    def _states(self, selection: Selection, there: _Flags) -> Any:
        failed = self._failed
        states = np.where(there, "stored", "missing").astype(object)
        for row in np.flatnonzero(~there).tolist() if failed else ():
            at = [int(i) for i in np.unravel_index(row, selection.shape)] if selection.shape else []
            if tuple(keys[i] for keys, i in zip(selection.keys, at, strict=True)) in failed:
                states[row] = "failed"
        return pa.array(states, pa.string())

    @cached_property
    def _failed(self) -> set[tuple[bytes, ...]]:
        order = self.selection.order
        points = (point for failure in self.cache.failures() for point in failure.each())
        return {tuple(canonical_many([point[name] for name in order])) for point in points}

    def _chosen(self, columns: Sequence[str] | None) -> Any:
        if columns is None:
            return self.schema
        unknown = [name for name in columns if name not in self.schema.names]
        if unknown:
            raise SpecError(f"there is no column {unknown[0]!r}; the columns are {self.schema.names}")
        return pa.schema([self.schema.field(name) for name in columns])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Iterate over the rows, box by box.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns wanted; all of them by default.

        Yields
        ------
        pyarrow.RecordBatch
            The rows of one box.
        """
        vars(self).pop("_plan", None)  # what is stored by now
        for box in self.boxes():
            batch = self.read(box, columns)
            if batch.num_rows:
                yield batch

    def reader(self, columns: Sequence[str] | None = None) -> Any:
        """Return the rows as a stream.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns wanted; all of them by default.

        Returns
        -------
        pyarrow.RecordBatchReader
            The batches, once.
        """
        return pa.RecordBatchReader.from_batches(self._chosen(columns), self.batches(columns))

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Return all rows.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of the columns wanted; all of them by default.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        return pa.Table.from_batches(self.batches(columns), schema=self._chosen(columns))


class TidyPoints:
    """The points of a cache that form no grid, as far as its table has no row for them.

    Parameters
    ----------
    tidy : Tidy
        The table.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkMemo
    >>> memo = ChunkMemo(tempfile.mkdtemp(), axis_values={"x": [0.0]}, verbose=0)
    >>> @memo.cache(vectorize=True)
    ... def square(x):
    ...     return x * x
    >>> points = TidyPoints(Tidy(square.cases([0.5, 3.0]).cache))
    >>> points.read(points.groups[0], points.schema).to_pylist()
    [{'x': 0.5, 'value': 0.25}, {'x': 3.0, 'value': 9.0}]
    """

    def __init__(self, tidy: Tidy) -> None:
        self._tidy = tidy

    @cached_property
    def groups(self) -> list[Group]:
        """The points by the files that hold them, as they were when first asked for."""
        cache = self._tidy.cache
        return cache.scattered_groups(besides=True) if cache.axis_order else []

    @cached_property
    def schema(self) -> Any:
        """The columns and their types: params, axes with the types that the values of points have, outputs."""
        if not self.groups:
            return pa.schema([])
        table = self._tidy.schema
        axes = {
            name: from_values([value for group in self.groups for value in group.values[name]]).type
            for name in self._tidy.cache.axis_order
        }
        return pa.schema([(each.name, axes.get(each.name, each.type)) for each in table])

    def read(self, group: Group, schema: Any) -> Any:
        """Read the points of one group.

        Parameters
        ----------
        group : Group
            One of :attr:`groups`.
        schema : pyarrow.Schema
            The columns wanted, and their types.

        Returns
        -------
        pyarrow.RecordBatch
            A row for each; a column that these points lack is null.
        """
        params = self._tidy.params
        pieces, count = [], 0
        for block, ranks in group.read():
            count += len(ranks)
            outputs = self._tidy.outputs_of(block)
            made = []
            for field in schema:
                if field.name in group.values:
                    column = from_values([group.values[field.name][rank] for rank in ranks.tolist()])
                elif field.name in params:
                    column = pa.repeat(params[field.name][0], len(ranks))
                else:
                    column = outputs.get(field.name, pa.nulls(len(ranks), field.type))
                made.append(cast(column, field.type, field.name))
            pieces.append(pa.RecordBatch.from_arrays(made, schema=schema))
        if not schema.names:
            return _empty_rows(count)
        table = pa.Table.from_batches(pieces, schema=schema).combine_chunks()
        return (table.to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)])[0]


# --- outputs -----------------------------------------------------------------------------------------------

_DIRECT = ("float", "complex", "int", "bool", "scalar", "array", "datetime", "date", "timedelta")
"""Nodes of an encoding whose one array is the column."""


def _of_tree(
    name: str,
    node: Any,
    arrays: Mapping[str, npt.NDArray[Any]],
    count: int,
    coords: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the Arrow columns of encoded outputs; without Python objects where an array is the column."""
    if node["k"] == "dict" and all(isinstance(key, str) for key in node["keys"]):
        found: dict[str, Any] = {}
        for key, child in zip(node["keys"], node["of"], strict=True):
            label = f"{name}.{key}" if name else key
            if child["k"] == "axis" and not name:
                continue  # a coordinate, which has its column already
            found.update(_of_tree(label, child, arrays, count, coords))
        return found
    if set(node) == {"k", "a"}:
        array = arrays[node["a"]]
        if node["k"] == "str" and array.ndim == 1:
            return {name or "value": pa.array(array, pa.binary()).cast(pa.string())}
        if node["k"] == "int" and array.dtype.kind in "iu" and array.ndim == 1:
            wide = array if array.dtype == np.uint64 else array.astype(np.int64)
            return {name or "value": _fitting(pa.array(wide))}
        if node["k"] in _DIRECT and array.dtype.kind in "bfcmM" + (
            "iu" if node["k"] in ("scalar", "array") else ""
        ):
            return columns_of_array(name, array)
    values = decode(node, arrays, count, coords=coords)
    return columns_of_values(name, values)


def _fitting(column: Any) -> Any:
    """Return Python's ints as int64, unless they are too large for that."""
    return column.cast(pa.decimal128(38, 0)) if pa.types.is_uint64(column.type) else column


def _at(column: Any, there: _Flags, rows: IntArray | None, marks: bool) -> Any:
    """Return the rows of a column of outputs that are wanted, null where there is no output."""
    if rows is not None:
        return column.take(pa.array(rows))
    if marks and not there.all():
        places = np.arange(len(there))
        return column.take(pa.array(places, mask=~there))
    return column


def _empty_rows(count: int) -> Any:
    """Return rows without columns, which still count."""
    return pa.RecordBatch.from_struct_array(
        pa.StructArray.from_arrays([], fields=[], mask=pa.nulls(count).is_null())
    )


# --- selections --------------------------------------------------------------------------------------------


def _once(selection: Selection) -> Selection:
    """Return a request with every value once."""
    values, keys = [], []
    for axis, known in zip(selection.values, selection.keys, strict=True):
        first: dict[bytes, int] = {}
        for at, key in enumerate(known):
            first.setdefault(key, at)
        if len(first) == len(known):
            values.append(axis)
            keys.append(known)
        else:
            values.append(tuple(axis[at] for at in first.values()))
            keys.append(tuple(first))
    return Selection(selection.order, tuple(values), tuple(keys))


def _taken(selection: Selection, places: Iterable[IntArray]) -> Selection:
    values, keys = [], []
    for axis, known, at in zip(selection.values, selection.keys, places, strict=True):
        chosen = at.tolist()
        values.append(tuple(axis[i] for i in chosen))
        keys.append(tuple(known[i] for i in chosen))
    return Selection(selection.order, tuple(values), tuple(keys))


def _part(selection: Selection, cells: Cells, ranges: tuple[tuple[int, int], ...]) -> Selection:
    """Return the points of some groups of values along each axis, in the order of the request."""
    places = []
    for axis, (start, stop) in zip(cells.axes, ranges, strict=True):
        places.append(np.sort(np.concatenate([axis[number].source for number in range(start, stop)])))
    return _taken(selection, places)


def _part_of_groups(selection: Selection, groups: tuple[AxisCell, ...]) -> Selection:
    return _taken(selection, [np.sort(group.source) for group in groups])


def _boxes(cells: Cells, there: _Flags, most: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut a grid of chunks into boxes of about so many points, passing over those in which nothing is."""
    if not there.ndim:
        if there.all():
            yield ()
        return
    lengths = [np.asarray(axis.lengths) for axis in cells.axes]
    # Values of which nothing is stored may have no bin yet, and reading must not make any.
    axes = range(there.ndim)
    stored = [np.asarray(there.any(axis=tuple(n for n in axes if n != axis)), bool) for axis in axes]
    sizes = [int(length.sum()) for length in lengths]
    cut = there.ndim - 1
    while cut > 0 and math.prod(sizes[cut:]) <= most:
        cut -= 1
    inner = math.prod(sizes[cut + 1 :])
    tails = [list(_stretches(stored[axis])) for axis in range(cut + 1, there.ndim)]
    pieces = list(_runs(stored[cut], lengths[cut], max(1, most // inner)))
    heads = (np.flatnonzero(stored[axis]).tolist() for axis in range(cut))
    for head in itertools.product(*heads):
        for ranges in itertools.product(pieces, *tails):
            whole = (*((number, number + 1) for number in head), *ranges)
            if there[tuple(slice(*each) for each in whole)].any():
                yield whole


def _stretches(flags: _Flags) -> Iterator[tuple[int, int]]:
    """Iterate over the stretches of flags that are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _runs(flags: _Flags, lengths: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Cut the stretches of flags into pieces of at most so many values, or of one group."""
    for start, stop in _stretches(flags):
        first, held = start, 0
        for number in range(start, stop):
            if number > first and held + int(lengths[number]) > most:
                yield first, number
                first, held = number, 0
            held += int(lengths[number])
        yield first, stop
