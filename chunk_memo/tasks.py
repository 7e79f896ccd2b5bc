"""Calls of the function that are still to be made: points of one chunk that are not stored.

A cell that is missing as a whole, in a chunk that no other missing cell shares, is the rule; what its call
needs is worked out once for each group of values along an axis, because a grid of a thousand chunks has the
same few groups in all of them. (Listing a thousand axis values for each chunk took half of the time of a cold
sweep.) All other points are marked on the chunk they belong to, and cut into boxes there, so that cells which
overlapping bins tore apart are computed by one call again.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from chunk_memo.chunks import ChunkRef
from chunk_memo.grid import Bins, IntArray
from chunk_memo.plan import boxes
from chunk_memo.selection import AxisCell, Cell, Cells, Selection

__all__ = ["Gaps", "Missing", "Share", "Task", "tasks_for"]

Missing = tuple[int, Cell, IntArray | None]
"""A cell that misses points: its rank, the cell, and row-major positions in it (None for all of them)."""


class Gaps(Sequence[Missing]):
    """The cells of a request that miss points, by rank; cells are made when they are looked at.

    A cell takes a thousand times the memory of its rank, and there may be a million of them.

    Parameters
    ----------
    cells : Cells
        The request.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._ranks = array("q")
        self._points: dict[int, IntArray] = {}

    def add(self, rank: int, points: IntArray | None = None) -> None:
        """Add a cell.

        Parameters
        ----------
        rank : int
            Its rank in the request.
        points : ndarray of intp, optional
            Row-major positions in it that are missing; all of them by default.
        """
        self._ranks.append(rank)
        if points is not None:
            self._points[rank] = points

    def extend(self, ranks: Iterable[int]) -> None:
        """Add cells of which all points are missing.

        Parameters
        ----------
        ranks : iterable of int
            Their ranks.
        """
        self._ranks.extend(ranks)

    def sort(self) -> None:
        """Put the cells into the order of the request."""
        self._ranks = array("q", np.sort(np.frombuffer(self._ranks, np.int64)).tobytes())

    @property
    def highest(self) -> int:
        """The highest rank, -1 where nothing is missing."""
        return max(self._ranks, default=-1)

    @property
    def in_part(self) -> int:
        """Number of cells of which only some points are missing."""
        return len(self._points)

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self._ranks)

    @overload
    def __getitem__(self, index: int) -> Missing: ...
    @overload
    def __getitem__(self, index: slice) -> list[Missing]: ...
    def __getitem__(self, index: int | slice) -> Missing | list[Missing]:
        """Return a cell, or several."""
        if isinstance(index, slice):
            return [self._entry(rank) for rank in self._ranks[index]]
        return self._entry(self._ranks[index])

    def __iter__(self) -> Iterator[Missing]:
        """Iterate over the cells."""
        at, points = self._cells.at, self._points.get
        for rank in self._ranks:
            yield rank, at(rank), points(rank)

    def _entry(self, rank: int) -> Missing:
        return rank, self._cells.at(rank), self._points.get(rank)


_MOST_GROUPS = 4096
"""So many groups of values along an axis are kept ready."""


class Share(NamedTuple):
    """What one cell of the request gets of a call's outputs."""

    rank: int
    """The cell's rank in the request."""
    cell: Cell
    """The cell."""
    points: IntArray | None
    """Row-major positions in the cell; None where the call makes all of it in order."""
    rows: IntArray | None
    """The outputs that belong to those points, by number; None for all of them."""


@dataclass(slots=True, eq=False)  # never changed; freezing would double what making one costs
class Task:
    """One call of the function: points of one chunk that are not stored."""

    ref: ChunkRef
    """The chunk that they belong to."""
    order: tuple[str, ...]
    """Names of the axes in axis order."""
    values: tuple[tuple[Any, ...], ...]
    """Values along each axis, in the order of the chunk's bins."""
    points: IntArray | None
    """Row-major positions in the chunk; None where the call makes all of it."""
    shares: tuple[Share, ...]
    """The cells that the points belong to; each point to one of them."""
    request: int = 0
    """The request that asked for it, by number, where a run has several."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""
        return tuple(map(len, self.values))

    @property
    def count(self) -> int:
        """Number of points."""
        return math.prod(map(len, self.values))

    def arguments(self) -> dict[str, list[Any]]:
        """Return what the function is called with.

        Returns
        -------
        dict of str to list
            Axis name to values.
        """
        return dict(zip(self.order, map(list, self.values), strict=True))

    def each(self) -> Iterator[dict[str, Any]]:
        """Iterate over the points, row-major.

        Yields
        ------
        dict
            Axis name to value.
        """
        for point in itertools.product(*self.values):
            yield dict(zip(self.order, point, strict=True))


def tasks_for(
    selection: Selection,
    missing: Iterable[Missing],
    bins: Bins,
    make_ref: Callable[[tuple[str, ...], tuple[int, ...]], ChunkRef],
) -> Iterator[Task]:
    """Cut missing points into calls: disjoint boxes, each within the first chunk that may hold it.

    Parameters
    ----------
    selection : Selection
        The request.
    missing : iterable of Missing
        Cells that miss points.
    bins : Bins
        The bins of every axis.
    make_ref : callable
        ``(order, numbers) -> ChunkRef``.

    Yields
    ------
    Task
        One call.
    """
    groups = [_Groups(asked) for asked in selection.values]
    for members in _by_chunk(selection, missing, bins):
        ref = make_ref(selection.order, members[0].numbers)
        if len(members) == 1 and members[0].points is None:
            yield _whole(selection.order, ref, members[0], groups)
        else:
            yield from _in_boxes(selection, ref, members)


class _Member(NamedTuple):
    """Missing points of a cell, in the first chunk that may hold them."""

    rank: int
    cell: Cell
    points: IntArray | None
    picks: tuple[int, ...]
    """Which of its bins for each axis of the cell."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of those bins, which name the chunk."""
        return tuple([axis.bins[i] for axis, i in zip(self.cell.axes, self.picks, strict=True)])


def _by_chunk(selection: Selection, missing: Iterable[Missing], bins: Bins) -> Iterator[list[_Member]]:
    """Put together the cells that will be stored in one chunk; several only where bins overlap."""
    order = selection.order
    if not any(bins.of(name).overlapping for name in order):
        first = (0,) * len(order)
        yield from ([_Member(*entry, first)] for entry in missing)
        return
    members = (_Member(*entry, entry[1].candidates(bins, order)[0]) for entry in missing)
    together: dict[tuple[int, ...], list[_Member]] = {}
    for member in members:
        together.setdefault(member.numbers, []).append(member)
    yield from together.values()


# --- a whole cell --------------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Values of a cell along one axis, in the order of their bin."""

    cell: AxisCell
    """What they belong to; kept so that its id stays its own."""
    values: tuple[Any, ...]
    places: IntArray
    """Their positions in the bin, ascending."""
    ranks: IntArray | None
    """Their ranks in the cell; None where those are 0, 1, 2, …"""


class _Groups:
    """The groups of one axis, kept ready: in a grid of many chunks each comes up again and again."""

    def __init__(self, asked: Sequence[Any]) -> None:
        self._asked = asked
        self._ready: dict[tuple[int, int], _Group] = {}

    def of(self, axis: AxisCell, pick: int) -> _Group:
        """Return the group of a cell along this axis, in one of its bins."""
        key = (id(axis), pick)
        group = self._ready.get(key)
        if group is None:
            if len(self._ready) >= _MOST_GROUPS:
                self._ready = {}
            group = self._ready[key] = self._made(axis, pick)
        return group

    def _made(self, axis: AxisCell, pick: int) -> _Group:
        places = axis.positions[pick]
        if pick == 0:  # ascending, as a cell has them
            asked, span = self._asked, axis.span
            chosen = asked[span] if span is not None else [asked[i] for i in axis.source.tolist()]
            return _Group(axis, tuple(chosen), places, None)
        ranks = np.argsort(places, kind="stable")
        straight = bool((ranks == np.arange(len(ranks))).all())
        values = tuple([self._asked[i] for i in axis.source[ranks].tolist()])
        return _Group(axis, values, places[ranks], None if straight else ranks)


def _whole(order: tuple[str, ...], ref: ChunkRef, member: _Member, groups: Sequence[_Groups]) -> Task:
    """Return the one call that makes all of a cell."""
    cell = member.cell
    along = [of.of(axis, pick) for of, axis, pick in zip(groups, cell.axes, member.picks, strict=True)]
    values = tuple([group.values for group in along])
    points: IntArray | None = None
    cell_points: IntArray | None = None
    if math.prod(map(len, values)) < ref.points:
        points = _flat([group.places for group in along], ref.sizes)
    if any(group.ranks is not None for group in along):
        ranks = [np.arange(len(g.values)) if g.ranks is None else g.ranks for g in along]
        cell_points = _flat(ranks, cell.shape)
    return Task(ref, order, values, points, (Share(member.rank, cell, cell_points, None),))


def _flat(index: Sequence[IntArray], shape: tuple[int, ...]) -> IntArray:
    """Return the row-major positions of a product of positions along each axis."""
    return np.ravel_multi_index(np.ix_(*index), shape).reshape(-1)


# --- points of a chunk ---------------------------------------------------------------------------------------


def _in_boxes(selection: Selection, ref: ChunkRef, members: Sequence[_Member]) -> Iterator[Task]:
    """Cut missing points of a chunk, of one cell or of several, into calls."""
    owner = np.full(ref.points, -1)
    rank_in_cell = np.zeros(ref.points, np.intp)
    request: list[dict[int, int]] = [{} for _ in ref.sizes]
    for number, (_, cell, points, picks) in enumerate(members):
        places = [axis.positions[pick] for axis, pick in zip(cell.axes, picks, strict=True)]
        where = _flat(places, ref.sizes) if places else np.zeros(1, np.intp)
        ranks = np.arange(len(where)) if points is None else points
        owner[where[ranks]] = number
        rank_in_cell[where[ranks]] = ranks
        for known, axis, at in zip(request, cell.axes, places, strict=True):
            known.update(zip(at.tolist(), axis.source.tolist(), strict=True))
    for box in boxes((owner >= 0).reshape(ref.sizes)):
        named = zip(selection.values, request, box, strict=True)
        values = tuple([tuple([asked[known[i]] for i in at.tolist()]) for asked, known, at in named])
        points = _flat(box, ref.sizes) if box else np.zeros(1, np.intp)
        shares = tuple(_shares(members, owner[points], rank_in_cell[points]))
        yield Task(ref, selection.order, values, None if len(points) == ref.points else points, shares)


def _shares(members: Sequence[_Member], owner: IntArray, ranks: IntArray) -> Iterator[Share]:
    """Tell which outputs of a call belong to which cell."""
    for number in np.unique(owner).tolist():
        rows = np.flatnonzero(owner == number)
        alone = len(rows) == len(owner)
        yield Share(members[number].rank, members[number].cell, ranks[rows], None if alone else rows)
