"""What was asked for: values, indices and slices of axes, as points per chunk.

A :class:`Selection` is the request as it came (values in the asked order, repetitions included). Held against
the bins it falls apart into *cells*: along each axis the asked values are grouped by the set of bins that hold
them, and a cell is one such group per axis. Where every value has one bin, a cell is what was asked of one
chunk. Cells are made when they are looked at; a grid may have a million of them.
"""

from __future__ import annotations

import itertools
import math
import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.errors import (
    IdentityError,
    SpecError,
    UnknownIndexError,
    UnknownValueError,
)
from chunk_memo.grid import Axis, AxisBins, Bins, Grid, IntArray, in_stable_order, sequence_of_values
from chunk_memo.identity import canonical_bytes, normalize
from chunk_memo.keys import PackedKeys, keys_of_values, locate, take

__all__ = ["AxisCell", "AxisCells", "Cell", "Cells", "Index", "Piece", "Run", "Selection", "new_values", "select"]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The values asked for along each axis, in axis order.

    Examples
    --------
    >>> from chunk_memo.grid import Grid, make_axis
    >>> grid = Grid((make_axis("strat", ["a", "b"]), make_axis("s", [1, 2, 3])), {"strat": 1, "s": 2})
    >>> selection = select(grid, {"s": [3, 1]})
    >>> selection
    Selection(strat: 2, s: 2)
    >>> selection.values
    (('a', 'b'), (3, 1))
    """

    order: tuple[str, ...]
    """Names of the axes, in the order in which outputs run over them."""
    values: tuple[tuple[Any, ...], ...]
    """The values asked for along each axis, in the order asked."""
    keys: tuple[Sequence[bytes], ...]
    """Their canonical bytes."""

    def __repr__(self) -> str:
        """Return each axis with the number of values asked for."""
        asked = zip(self.order, self.values, strict=True)
        return f"Selection({', '.join(f'{name}: {len(values)}' for name, values in asked)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values asked for along each axis."""
        return tuple(len(values) for values in self.values)

    @property
    def points(self) -> int:
        """Number of points asked for, repetitions counted."""
        return math.prod(self.shape)


def select(
    grid: Grid,
    axes: Mapping[str, Any] | None = None,
    axis_indices: Mapping[str, Any] | None = None,
) -> Selection:
    """Return the selection that a user's arguments name; axes left out mean all their values.

    Parameters
    ----------
    grid : Grid
        The declared axes.
    axes : mapping, optional
        Axis name to one value, or to a list, tuple, range, array or set of values.
    axis_indices : mapping, optional
        Axis name to an int, slice, range, boolean mask or sequence of ints.

    Returns
    -------
    Selection
        What was asked for.

    Raises
    ------
    UnknownAxisError, UnknownValueError, UnknownIndexError
        Where an axis, value or index is not there.
    SpecError
        Where both mappings are given, or an argument can be read both as one value and as several.
    """
    if not grid.axes and (axes or axis_indices):
        named = sorted([*(axes or {}), *(axis_indices or {})])
        raise SpecError(f"Cannot pass axis arguments {named} to a cache without axes; leave them out")
    if axis_indices is not None and not isinstance(axis_indices, Mapping):
        raise SpecError(
            f"axis_indices must map axis names to int, slice, range or a sequence of them, got {axis_indices!r}"
        )
    if axes and axis_indices:
        raise SpecError(
            f"axis_indices cannot be combined with axis values; got values for {sorted(axes)} and indices"
            f" for {sorted(axis_indices)}; use one of the two"
        )
    for name in [*(axes or {}), *(axis_indices or {})]:
        grid.axis(name)
    chosen = []
    for axis in grid.axes:
        if axes and axis.name in axes:
            chosen.append(_by_value(axis, axes[axis.name]))
        elif axis_indices and axis.name in axis_indices:
            positions = _by_index(axis, axis_indices[axis.name])
            chosen.append((tuple(axis.values[i] for i in positions), take(axis.keys, positions)))
        else:
            chosen.append((axis.values, axis.keys))
    return Selection(grid.order, tuple(values for values, _ in chosen), tuple(keys for _, keys in chosen))


def new_values(axis: Axis, argument: Any) -> tuple[list[Any], list[bytes]]:
    """Return the values in an axis argument that the axis does not have yet.

    Parameters
    ----------
    axis : Axis
        The axis as declared.
    argument : object
        One value, or a sequence of values.

    Returns
    -------
    tuple of list, list of bytes
        The new values in the order asked, and their canonical bytes.
    """
    values = _read(axis, argument)
    keys = keys_of_values(values, axis.name)
    fresh = {k: v for k, v in zip(keys, values, strict=True) if k not in axis.lookup}
    return list(fresh.values()), list(fresh)


def _by_value(axis: Axis, argument: Any) -> tuple[tuple[Any, ...], Sequence[bytes]]:
    values = _read(axis, argument)
    if not values:
        raise SpecError(f"no values were asked for along axis {axis.name!r}; leave it out to ask for all")
    keys = keys_of_values(values, axis.name)
    positions = locate(axis.lookup, keys).tolist()
    if -1 in positions:
        raise UnknownValueError(_unknown_value(axis, values[positions.index(-1)]))
    chosen = tuple(axis.values[i] for i in positions)
    return chosen, keys if isinstance(keys, PackedKeys) else tuple(keys)


def _read(axis: Axis, argument: Any) -> list[Any]:
    """Read an axis argument as one value or as several; never both."""
    value = normalize(argument[()] if isinstance(argument, np.ndarray) and not argument.ndim else argument)
    several = _several(value)
    if several is None:
        return [value]
    if not _is_value(axis, value):
        return several
    if several and all(_is_value(axis, item) for item in several):
        raise SpecError(
            f"{argument!r} is both one value of axis {axis.name!r} and a sequence of its values;"
            f" say which by axis_indices={{{axis.name!r}: …}}"
        )
    return [value]


def _several(value: Any) -> list[Any] | None:
    sequence = sequence_of_values(value)
    if sequence is not None:
        return sequence
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        return None
    items = [normalize(item) for item in value]
    return in_stable_order(items) if isinstance(value, set | frozenset) else items


_SCALARS = frozenset({int, float, complex, str, bytes, bool, type(None)})


def _is_value(axis: Axis, value: Any) -> bool:
    if isinstance(value, list | tuple | range) and _SCALARS.issuperset(map(type, axis.values)):
        return False  # without the canonical bytes of what may be a long list
    try:
        return canonical_bytes(value) in axis.lookup
    except IdentityError:
        return False


def _unknown_value(axis: Axis, value: Any) -> str:
    if value is None:
        return f"axis {axis.name!r} has no value None; leave it out to ask for all its {len(axis)} values"
    if isinstance(value, slice):
        way = f"axis_indices={{{axis.name!r}: {value!r}}}"
        return f"axis {axis.name!r} has no value {value!r}; where positions are meant, pass {way}"
    near = _nearest(axis, value)
    hint = f"; the nearest is {near!r}" if near is not None else f"; it has {_some(axis)}"
    if near is not None and type(near) is not type(value) and near == value:
        hint += f", {type(near).__name__} where {type(value).__name__} was asked for"
    return (
        f"axis {axis.name!r} has no value {value!r}{hint}; pass extend_cache=True to add it,"
        f" or ask for one of its {len(axis)} values"
    )


def _some(axis: Axis) -> str:
    more = ", …" if len(axis) > _SHOWN else ""
    return ", ".join(map(repr, axis.values[:_SHOWN])) + more


_SHOWN = 3
"""So many values of an axis are named."""


def _nearest(axis: Axis, value: Any) -> Any:
    if isinstance(value, str):
        import difflib

        names = [item for item in axis.values if isinstance(item, str)]
        close = difflib.get_close_matches(value, names, n=1, cutoff=0.0)
        return close[0] if close else None
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        numbers = [item for item in axis.values if isinstance(item, int | float | np.number)]
        return min(numbers, key=lambda item: _distance(item, value), default=None)
    return None


def _distance(one: Any, two: Any) -> float:
    try:
        distance = abs(float(one) - float(two))
    except OverflowError:  # an int that no float can hold
        distance = math.inf
    return distance if distance == distance else math.inf


def _by_index(axis: Axis, argument: Any) -> list[int]:
    length = len(axis)
    if isinstance(argument, np.ndarray) and argument.dtype == np.bool_:
        return _by_mask(axis, argument)
    if isinstance(argument, slice | range) or not isinstance(argument, Iterable) or _is_0d(argument):
        parts: Iterable[Any] = [argument]
    else:
        parts = argument
    positions = [i for part in parts for i in _positions(axis, part, length)]
    if not positions:
        raise SpecError(f"axis_indices for axis {axis.name!r} choose nothing, got {argument!r}")
    return positions


def _is_0d(argument: Any) -> bool:
    return getattr(argument, "ndim", None) == 0


def _by_mask(axis: Axis, mask: Any) -> list[int]:
    if mask.shape != (len(axis),):
        raise SpecError(f"a mask for axis {axis.name!r} must have the shape ({len(axis)},), got {mask.shape}")
    return [int(i) for i in np.flatnonzero(mask)]


def _positions(axis: Axis, part: Any, length: int) -> list[int]:
    if isinstance(part, slice):
        return list(range(*part.indices(length)))
    numbers = part if isinstance(part, range) else [part]
    positions = []
    for number in numbers:
        try:
            index = operator.index(number)
        except TypeError:
            index = None
        if index is None or isinstance(number, bool | np.bool_):
            raise SpecError(
                f"axis_indices for axis {axis.name!r} must be int, slice, range or a sequence of them,"
                f" got {number!r}"
            )
        if not -length <= index < length:
            raise UnknownIndexError(f"index {index} is out of range for axis {axis.name!r} with {length} values")
        positions.append(index % length)
    return positions


@dataclass(frozen=True, slots=True, eq=False)
class AxisCell:
    """What was asked along one axis of values that lie in the same bins."""

    bins: tuple[int, ...]
    """Numbers of the bins that hold these values; chunks are tried in the order of their digests."""
    positions: tuple[IntArray, ...]
    """For each bin, the positions of the asked values within it; ascending for the first bin."""
    request: IntArray
    """Positions in the request at which these values stand, ascending."""
    pick: IntArray | None
    """For each position in the request the rank of its value in `positions`; None where that is 0, 1, 2, …"""
    source: IntArray
    """For each value one position in the request, in the order of `positions`."""
    span: slice | None
    """The request positions as a slice, where they are contiguous and none is asked twice."""

    def __len__(self) -> int:
        """Return the number of distinct values."""
        return len(self.source)

    def alone(self) -> AxisCell:
        """Return this group as if nothing else had been asked for.

        Returns
        -------
        AxisCell
            The same values, at the positions 0, 1, 2, … of a request of their own.
        """
        ranks = np.arange(len(self.request))
        span = None if self.pick is not None else slice(0, len(ranks))
        source = np.searchsorted(self.request, self.source)
        return AxisCell(self.bins, self.positions, ranks, self.pick, source, span)


Index = slice | IntArray
"""Positions along an axis."""

Piece = tuple[slice, Index, Index]
"""Some cells of a run, positions in their bins, and the positions in the request at which these values stand."""


@dataclass(frozen=True, eq=False)
class Run:
    """Cells along one axis that ask for the same of bins of one size: for all of it, or a single cell for some.

    The cells need not follow each other, nor need the values of one: a value that was inserted in the middle of
    an axis stands between cells, or between the values of a bin, and does not tear the run.
    """

    ranks: IntArray
    """Rank of each cell along the axis."""
    numbers: list[int]
    """The bin of each cell."""
    size: int
    """Number of values in each bin."""
    values: int
    """Number of distinct values asked of each bin."""
    request: IntArray
    """Positions in the request at which the values of the cells stand, cell by cell; as many for each."""
    positions: IntArray | None = None
    """Where those are in the bin of a single cell; None where whole bins are asked for, in their order."""

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.numbers)

    def pieces(self, start: int, stop: int) -> list[Piece]:
        """Return where values of some of the cells stand in the request, in boxes of cells and positions.

        Parameters
        ----------
        start, stop : int
            The range of cells within the run.

        Returns
        -------
        list of tuple
            Pieces, their cells counted from `start`; all slices, as long as few of them say it.
        """
        width = len(self.request) // len(self)
        first, end = start * width, stop * width
        request, positions, cuts = self.request[first:end], self.positions, self._cuts
        if len(cuts):
            cuts = cuts[np.searchsorted(cuts, first, "right") : np.searchsorted(cuts, end)] - first
        if len(cuts) >= _MOST_CUTS:
            return [(slice(None), slice(None) if positions is None else positions, request)]
        stretches = itertools.pairwise([0, *cuts.tolist(), len(request)])
        return [
            (slice(first, last), _span(positions, low, high), _span(request, first * width + low, end))
            for stretch in stretches
            for first, last, low, high, end in _boxes(*stretch, width)
        ]

    @cached_property
    def _cuts(self) -> IntArray:
        """Where values do not follow each other; found once, as many batches of one run are placed."""
        torn = np.diff(self.request) != 1
        if self.positions is not None:
            torn |= np.diff(self.positions) != 1
        return np.flatnonzero(torn) + 1


def _span(positions: IntArray | None, start: int, stop: int) -> slice:
    """Return some of positions that follow each other as a slice; of 0, 1, 2, … where there are none."""
    return slice(start, stop) if positions is None else slice(int(positions[start]), int(positions[stop - 1]) + 1)


def _boxes(start: int, stop: int, width: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Cut a stretch of rows of one width into boxes: yield the rows, the places in them, and where it ends."""
    while start < stop:
        row, low = divmod(start, width)
        high = min(width, low + stop - start)
        last = stop // width if high - low == width else row + 1
        start = (last - 1) * width + high
        yield row, last, low, high, start


_MOST_CUTS = 8
"""Values that stand in more places than this are picked one by one."""

_MOST_KEPT = 1 << 16
"""Of an axis with up to this many cells each is made once; more would fill the memory."""


class AxisCells:
    """The cells along one axis; made when they are looked at.

    Parameters
    ----------
    bins : AxisBins
        The bins of the axis.
    keys : sequence of bytes
        What was asked for, in the order asked.
    """

    def __init__(self, bins: AxisBins, keys: Sequence[bytes]) -> None:
        self._bins = bins
        self._keys = keys
        flat = bins.locate(keys)
        self.unbinned: array[int] = array("q", np.flatnonzero(flat < 0).tobytes())
        self._flat = flat
        self._groups: list[tuple[tuple[int, ...], IntArray]] | None = None
        self._cut: _Cut | None = None
        self._made: dict[int, AxisCell] = {}
        self._runs: list[Run] | None = None
        if self.unbinned:
            self._labels: IntArray = np.zeros(0, np.intp)
        elif bins.overlapping:
            self._groups = self._group_by_bin_sets()
        else:
            self._split(bins.numbers_of(flat))

    def _split(self, numbers: IntArray) -> None:
        """Group positions by bin number, groups in the order of first appearance."""
        if bool((numbers[1:] >= numbers[:-1]).all()):
            self._order, self._labels = np.arange(len(numbers)), numbers
            starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
            self._starts = starts if len(starts) < len(numbers) else self._order
            self._ends = np.r_[starts[1:], len(numbers)]
            return
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ranks = np.argsort(order[starts], kind="stable")
        self._order, self._labels = order, ordered
        self._starts, self._ends = starts[ranks], np.r_[starts[1:], len(order)][ranks]

    def _group_by_bin_sets(self) -> list[tuple[tuple[int, ...], IntArray]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        numbers: tuple[int, ...]
        shared = self._bins.shared
        first = self._bins.numbers_of(self._flat).tolist()
        for index, key in enumerate(self._keys):
            numbers = (first[index],)
            if key in shared:
                positions = np.asarray(self._bins.positions(key), np.intp)
                numbers = tuple(self._bins.numbers_of(positions).tolist())
            groups.setdefault(numbers, []).append(index)
        return [(numbers, np.asarray(members, np.intp)) for numbers, members in groups.items()]

    def __len__(self) -> int:
        """Return the number of cells along the axis."""
        return len(self._groups) if self._groups is not None else len(self._starts)

    @property
    def numbers(self) -> IntArray:
        """The number of each cell's bin; -1 where the values lie in several."""
        if self._groups is None:
            return self._labels[self._starts]
        numbers = [found[0] if len(found) == 1 else -1 for found, _ in self._groups]
        return np.asarray(numbers, np.intp)

    @cached_property
    def lengths(self) -> IntArray:
        """The number of distinct values in each cell."""
        if self._groups is not None:
            return np.asarray([len(np.unique(self._flat[request])) for _, request in self._groups], np.intp)
        counts: IntArray = self._ends - self._starts
        flat = self._flat
        if bool((flat[1:] > flat[:-1]).all()):
            return counts
        flat = np.sort(flat)  # in the order of the bins, as these are rows of positions
        repeated = np.r_[0, np.cumsum(flat[1:] == flat[:-1])]
        counts -= repeated[self._ends - 1] - repeated[self._starts]
        return counts

    def touched(self, positions: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Tell which cells hold some of these positions of the request.

        Parameters
        ----------
        positions : sequence of int
            Positions in the request.

        Returns
        -------
        ndarray of bool
            One entry per cell.
        """
        marked = np.zeros(len(self._flat) + 1, np.intp)
        marked[np.asarray(positions, np.intp) + 1] = 1
        if self._groups is not None:
            return np.asarray([marked[request + 1].any() for _, request in self._groups], bool)
        marked[1:] = marked[1:][self._order]
        count = np.cumsum(marked)
        return count[self._ends] > count[self._starts]

    def __getitem__(self, index: int) -> AxisCell:
        """Return one cell; of an axis with few it is made once."""
        made = self._made.get(index)
        if made is None:
            made = self._cell(*self._groups[index]) if self._groups is not None else self._cell_of_one_bin(index)
            if len(self) <= _MOST_KEPT:
                self._made[index] = made
        return made

    def __iter__(self) -> Iterator[AxisCell]:
        """Iterate over the cells."""
        return (self[index] for index in range(len(self)))

    @property
    def overlapping(self) -> bool:
        """Whether some value of the axis lies in several bins."""
        return self._groups is not None

    def runs(self) -> list[Run]:
        """Return all cells as runs, for values that have a bin each, and one only.

        Returns
        -------
        list of Run
            Whole bins by their sizes, in the order in which these come up, then the other cells.
        """
        if self._runs is None:
            self._runs = self._cut_runs()
        return self._runs

    def _cut_runs(self) -> list[Run]:
        starts, ends = self._starts, self._ends
        numbers, counts = self._labels[starts], ends - starts
        sizes = self._bins.starts[numbers + 1] - self._bins.starts[numbers]
        flat = self._flat[self._order]
        broken = np.r_[0, np.cumsum(np.r_[flat[1:] - flat[:-1] != 1, False])]
        whole = (counts == sizes) & (broken[ends - 1] == broken[starts])
        runs = [self._run_of_bins(ranks) for ranks in _by_size(sizes, np.flatnonzero(whole))]
        for rank in np.flatnonzero(~whole).tolist():
            cell = self[rank]
            positions = cell.positions[0] if cell.pick is None else cell.positions[0][cell.pick]
            size, ranks = int(sizes[rank]), np.array([rank])
            runs.append(Run(ranks, [int(numbers[rank])], size, len(cell), cell.request, positions))
        return runs

    def _run_of_bins(self, ranks: IntArray) -> Run:
        """Return a run of cells that ask for whole bins, all of one size."""
        starts = self._starts[ranks]
        size = int(self._ends[ranks[0]] - starts[0])
        if bool((starts[1:] - starts[:-1] == size).all()):
            request = self._order[starts[0] : starts[-1] + size]
        else:
            request = self._order[np.add.outer(starts, np.arange(size)).reshape(-1)]
        return Run(ranks, self._labels[starts].tolist(), size, size, request)

    def _cell_of_one_bin(self, index: int) -> AxisCell:
        if self._cut is None:
            self._cut = self._all_cut()
        cut = self._cut
        start, end = cut.starts[index], cut.ends[index]
        number, request = cut.numbers[index], self._order[start:end]
        if cut.mixed and cut.mixed[index]:
            return self._cell((number,), request)
        span = slice(low := cut.lows[index], low + end - start) if cut.contiguous[index] else None
        return AxisCell((number,), (cut.within[start:end],), request, None, request, span)

    def _all_cut(self) -> _Cut:
        order, labels, starts, ends = self._order, self._labels, self._starts, self._ends
        within = self._flat[order] - self._bins.starts[labels]
        falls = (within[1:] <= within[:-1]) & (labels[1:] == labels[:-1])
        mixed: Sequence[bool] = ()
        if bool(falls.any()):
            count = np.r_[0, np.cumsum(falls)]
            mixed = (count[ends - 1] > count[starts]).tolist()
        lows = order[starts]
        contiguous = order[ends - 1] - lows == ends - starts - 1
        return _Cut(
            numbers=_plain(labels[starts]),
            starts=_plain(starts),
            ends=_plain(ends),
            lows=_plain(lows),
            contiguous=_plain(contiguous),
            mixed=mixed,
            within=within,
        )

    def _cell(self, numbers: tuple[int, ...], request: IntArray) -> AxisCell:
        where = [self._within(number, request) for number in numbers]
        if len(request) == 1 or bool((where[0][1:] > where[0][:-1]).all()):
            low, high = int(request[0]), int(request[-1]) + 1
            span = slice(low, high) if high - low == len(request) else None
            return AxisCell(numbers, tuple(where), request, None, request, span)
        unique, first, inverse = np.unique(where[0], return_index=True, return_inverse=True)
        positions = (unique, *(positions[first] for positions in where[1:]))
        return AxisCell(numbers, positions, request, inverse.reshape(-1), request[first], None)

    def _within(self, number: int, request: IntArray) -> IntArray:
        """Return the positions within a bin of the values at these positions of the request."""
        start, end = self._bins.starts[number : number + 2].tolist()
        flat = self._flat[request]
        if bool(((flat >= start) & (flat < end)).all()):
            within: IntArray = flat - start
            return within
        places = {key: place for place, key in enumerate(self._bins.keys_of(number))}
        return np.fromiter((places[self._keys[i]] for i in request), np.intp, len(request))


def _by_size(sizes: IntArray, ranks: IntArray) -> list[IntArray]:
    """Group cells by the sizes of their bins, in the order in which these come up."""
    chosen = sizes[ranks]
    if not len(ranks) or bool((chosen == chosen[0]).all()):
        return [ranks] if len(ranks) else []
    order = np.argsort(chosen, kind="stable")
    groups = np.split(ranks[order], np.flatnonzero(np.diff(chosen[order])) + 1)
    return sorted(groups, key=operator.itemgetter(0))


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """What the cells along an axis are made of where each lies in one bin, for all of them at once."""

    numbers: Sequence[int]
    """The bin of each cell."""
    starts: Sequence[int]
    """Where each cell begins in the order of the bins."""
    ends: Sequence[int]
    """Where it ends."""
    lows: Sequence[int]
    """The first position of the request in each."""
    contiguous: Sequence[bool]
    """Whether its positions in the request follow each other."""
    mixed: Sequence[bool]
    """Whether its values are out of the bin's order, or repeated; empty where none are."""
    within: IntArray
    """Positions within the bins, in the order of the bins."""


def _plain(array: npt.NDArray[Any]) -> Any:
    """Return Python numbers, which are quicker to get at, unless there are too many to keep."""
    return array.tolist() if len(array) <= _MOST_KEPT else array


@dataclass(slots=True, eq=False)  # never changed; freezing would double what making one costs
class Cell:
    """Points of a request that lie in the same chunks: one group of values per axis."""

    axes: tuple[AxisCell, ...]
    """The groups, in axis order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of distinct values along each axis."""
        return tuple(map(len, self.axes))

    @property
    def points(self) -> int:
        """Number of distinct points."""
        return math.prod(map(len, self.axes))

    def alone(self) -> Cell:
        """Return this cell as if nothing else had been asked for.

        Returns
        -------
        Cell
            The same points, in a request of their own.
        """
        return Cell(tuple(axis.alone() for axis in self.axes))

    def candidates(self, bins: Bins, order: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Return the chunks that hold this cell's points, best first, as choices among each axis's bins.

        Chunks that were named one by one come first, then products of bins that any chunk may use, each by
        the digests of their bins.

        Parameters
        ----------
        bins : Bins
            The bins of every axis.
        order : tuple of str
            Names of the axes in axis order.

        Returns
        -------
        list of tuple of int
            For each chunk, one index into ``AxisCell.bins`` per axis.
        """
        choices = list(itertools.product(*(range(len(axis.bins)) for axis in self.axes)))
        if len(choices) == 1 and not bins.boxes:
            return choices

        def rank(choice: tuple[int, ...]) -> tuple[bool, list[bytes]]:
            return not self._named(choice, bins, order), self._digests(choice, bins, order)

        allowed = [c for c in choices if self._named(c, bins, order) or self._regular(c, bins, order)]
        return sorted(allowed, key=rank)

    def rank(self, bins: Bins, order: tuple[str, ...]) -> int:
        """Return the rank that ``chunk_enumerator`` gave this cell's chunk; others come after all of them.

        Parameters
        ----------
        bins : Bins
            The bins of every axis.
        order : tuple of str
            Names of the axes in axis order.

        Returns
        -------
        int
            The rank.
        """
        for choice in self.candidates(bins, order):
            rank = bins.boxes.get(self._name(choice, order))
            if rank is not None:
                return rank
        return len(bins.boxes)

    def _name(self, choice: tuple[int, ...], order: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        numbers = (axis.bins[i] for axis, i in zip(self.axes, choice, strict=True))
        return tuple(sorted(zip(order, numbers, strict=True)))

    def _named(self, choice: tuple[int, ...], bins: Bins, order: tuple[str, ...]) -> bool:
        return bool(bins.boxes) and self._name(choice, order) in bins.boxes

    def _regular(self, choice: tuple[int, ...], bins: Bins, order: tuple[str, ...]) -> bool:
        return all(bins.of(name).regular[number] for name, number in self._name(choice, order))

    def _digests(self, choice: tuple[int, ...], bins: Bins, order: tuple[str, ...]) -> list[bytes]:
        return [bins.of(name).digests(number)[0] for name, number in self._name(choice, order)]


def _axis_cells(table: AxisBins, keys: Sequence[bytes]) -> AxisCells:
    """Return the cells along an axis; those of the request before, where it asked for the very same values."""
    kept = table.kept
    if kept is not None and kept[0] is keys and kept[1] == len(table):
        cells: AxisCells = kept[2]
        return cells
    made = AxisCells(table, keys)
    table.kept = (keys, len(table), made)
    return made


class Cells:
    """The cells of a selection, in grid order of the request.

    Parameters
    ----------
    selection : Selection
        What was asked for.
    bins : Bins
        The bins of every axis.
    """

    def __init__(self, selection: Selection, bins: Bins) -> None:
        self.selection = selection
        self.bins = bins
        named = zip(selection.order, selection.keys, strict=True)
        self.axes = tuple([_axis_cells(bins.of(name), keys) for name, keys in named])

    @property
    def unbinned(self) -> dict[str, array[int]]:
        """Positions in the request of values that no bin holds, for each axis that has some."""
        named = zip(self.selection.order, self.axes, strict=True)
        return {name: axis.unbinned for name, axis in named if axis.unbinned}

    @property
    def simple(self) -> bool:
        """Whether each value has one bin, and no chunks were named one by one."""
        return not self.bins.boxes and not any(axis.unbinned or axis.overlapping for axis in self.axes)

    def at(self, rank: int) -> Cell:
        """Return one cell.

        Parameters
        ----------
        rank : int
            Its rank in the order of iteration.

        Returns
        -------
        Cell
            The cell.
        """
        return self.in_grid_order(rank if self.ranking is None else int(self.ranking[rank]))

    def in_grid_order(self, index: int) -> Cell:
        """Return one cell by its rank in grid order, whatever the order of iteration.

        Parameters
        ----------
        index : int
            Its rank.

        Returns
        -------
        Cell
            The cell.
        """
        axes = self.axes
        if len(axes) == 2:
            row, place = divmod(index, len(axes[1]))
            return Cell((axes[0][row], axes[1][place]))
        places = []
        for axis in reversed(axes):
            index, place = divmod(index, len(axis))
            places.append(axis[place])
        return Cell(tuple(reversed(places)))

    def points_of(self, ranks: Sequence[int]) -> int:
        """Return how many distinct points some cells have together.

        Parameters
        ----------
        ranks : sequence of int
            Their ranks in the order of iteration.

        Returns
        -------
        int
            The number of points.
        """
        if not self.axes or not len(ranks):
            return len(ranks)
        index = np.asarray(ranks, np.intp)
        index = index if self.ranking is None else self.ranking[index]
        counts = np.ones(len(index), np.intp)
        for axis, places in zip(self.axes, np.unravel_index(index, self.shape), strict=True):
            counts *= axis.lengths[places]
        return int(counts.sum())

    @cached_property
    def ranking(self) -> IntArray | None:
        """Ranks in grid order of the cells as ``chunk_enumerator`` orders them; None where it has no say."""
        if not self.bins.boxes:
            return None
        ranks = [cell.rank(self.bins, self.selection.order) for cell in map(Cell, _products(self.axes))]
        return np.argsort(np.asarray(ranks, np.intp), kind="stable")

    def __len__(self) -> int:
        """Return the number of cells."""
        return math.prod(len(axis) for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def points(self) -> int:
        """Number of distinct points asked for."""
        return math.prod(int(axis.lengths.sum()) for axis in self.axes)

    def __iter__(self) -> Iterator[Cell]:
        """Iterate over the cells in grid order, or in the order of ``chunk_enumerator``."""
        if self.ranking is None:
            return map(Cell, _products(self.axes))
        return (self.in_grid_order(index) for index in self.ranking.tolist())


def _products(axes: Sequence[AxisCells]) -> Iterator[tuple[AxisCell, ...]]:
    """Iterate as :func:`itertools.product` does, without holding all cells of a long axis."""
    if not axes:
        return iter([()])
    if math.prod(map(len, axes[1:])) <= _MOST_KEPT:
        rest = list(itertools.product(*axes[1:]))
        return ((first, *others) for first in axes[0] for others in rest)
    return ((first, *others) for first in axes[0] for others in _products(axes[1:]))
