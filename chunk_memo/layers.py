"""The layers of a cache: where a point may be stored, newest first, and which of them is asked for it.

The ordinary cache has one layer, its own chunks, and nothing here is in its way. A cache whose points were
superseded has one layer for each generation: the files lie side by side under names of their own, and a point
counts in a generation only if no later one superseded it. A cache that adopted others reads theirs, too, where
its own layers lack a point; what it superseded itself is hidden in them as well. An adopted cache may have
fewer axes (a param that became an axis): its chunks count at one value of each axis that it lacks.

:func:`walk` goes through the layers with one bool per point asked for, and what is left at its end is in none of
them. Each layer has its own bins, so the request is cut anew for each (:class:`View`); nothing is assumed about
how bins of two layers lie. A layer of which every point is wanted is read as a cache of its own would be, by
regions where that can be, which is what keeps a warm call of an adopted cache as fast as one of the other cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkStore
from chunk_memo.disk.records import Adopted, Superseded
from chunk_memo.errors import DamageWarning, MetadataError
from chunk_memo.grid import IntArray
from chunk_memo.identity import canonical_bytes
from chunk_memo.keys import first_positions, index_of, keys_of_values, locate, take
from chunk_memo.regions import Patterns
from chunk_memo.selection import AxisCell, Cell, Cells, Selection

__all__ = ["Asked", "GcReport", "Layer", "Layers", "Mask", "Request", "View", "moved_cell", "pinned_cell", "walk"]

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Points that a record supersedes, in all generations before its own."""

    generation: int
    """The generation from which on points count again."""
    axes: Mapping[str, frozenset[bytes]]
    """Keys of values by axis; axes left out mean all values."""

    @classmethod
    def of(cls, record: Superseded) -> Mask:
        """Return what a record hides.

        Parameters
        ----------
        record : Superseded
            The record.

        Returns
        -------
        Mask
            The mask.
        """
        axes = {axis: frozenset(keys_of_values(values)) for axis, values in (record.axes or {}).items()}
        return cls(record.generation, axes)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Chunks that may hold points of a cache: those of one generation, its own or of an adopted cache."""

    store: ChunkStore
    """The chunks, and through them their bins."""
    own: bool
    """Whether it is a generation of the cache itself."""
    pinned: Mapping[str, bytes]
    """Axes that the layer lacks, with the key of the one value at which it counts."""
    masks: tuple[Mask, ...]
    """What does not count in it."""
    patterns: Patterns
    """What is known of its files."""

    @property
    def hidden(self) -> bool:
        """Whether no point of it counts."""
        return any(not mask.axes for mask in self.masks)


class Layers:
    """The layers of one cache, newest first.

    Parameters
    ----------
    store : ChunkStore
        The cache's own chunks.
    open_store : callable
        ``(cache_id, version) -> ChunkStore`` opens those of another cache.
    """

    def __init__(self, store: ChunkStore, open_store: Callable[[str, str], ChunkStore]) -> None:
        self._base = store
        self._open_store = open_store
        self._others: dict[tuple[str, str], ChunkStore] = {}
        self._masks: dict[str, Mask] = {}
        self._patterns: dict[tuple[bytes, Any], Patterns] = {}
        self._told: set[str] = set()
        self._known: list[Any] = []
        self.all: tuple[Layer, ...] = (Layer(store, True, {}, (), Patterns()),)

    @property
    def single(self) -> bool:
        """Whether there is but one: nothing was adopted, nothing superseded."""
        return len(self.all) == 1

    @property
    def top(self) -> ChunkStore:
        """The chunks of the newest generation, into which points are written."""
        return self.all[0].store

    @property
    def own(self) -> list[ChunkStore]:
        """The cache's own chunks, newest generation first."""
        return [layer.store for layer in self.all if layer.own]

    @property
    def others(self) -> list[Layer]:
        """The layers of other caches."""
        return [layer for layer in self.all if not layer.own]

    def refresh(self) -> bool:
        """Take in the bins and records that are new on disk.

        Returns
        -------
        bool
            Whether there were any.
        """
        news = self._base.folder.refresh()
        for store in self._others.values():
            news |= store.folder.refresh()
        return self.update() or news

    def update(self) -> bool:
        """Make the layers that the records known by now ask for.

        Returns
        -------
        bool
            Whether they are others than before.
        """
        if not self._base.folder.records.names:
            return False
        made: dict[Any, Layer] = {}
        for layer in self._layers_of(self._base, {}, (), ()):
            key = (layer.store.prefix, tuple(sorted(layer.pinned.items())), frozenset(layer.masks))
            made.setdefault(key, layer)
        if self._known == list(made):
            return False
        self._known = list(made)
        self.all = tuple(made.values())
        return True

    def _layers_of(
        self,
        store: ChunkStore,
        pinned: Mapping[str, bytes],
        masks: tuple[Mask, ...],
        path: tuple[ChunkStore, ...],
    ) -> Iterator[Layer]:
        """Iterate over a cache's generations, newest first, then over what it adopted, newest first."""
        records = store.folder.records
        own = [self._mask_of(store, record) for record in records.superseded]
        for generation in range(records.generation, -1, -1):
            hidden = (*masks, *(mask for mask in own if mask.generation > generation))
            twin = self._generation(store, generation)
            key = (twin.prefix, tuple(sorted(pinned.items())))
            yield Layer(twin, not path, pinned, hidden, self._patterns.setdefault(key, Patterns()))
        for record in reversed(records.adopted):
            other = self._other(record)
            if other is None or other in (*path, store):
                continue
            values = {axis: canonical_bytes(value) for axis, value in record.pinned.items()}
            yield from self._layers_of(other, {**pinned, **values}, (*masks, *own), (*path, store))

    def _generation(self, store: ChunkStore, generation: int) -> ChunkStore:
        if generation == store.generation:
            return store
        known = (layer.store for layer in self.all)
        twin = store.of_generation(generation)
        return next((one for one in known if one.prefix == twin.prefix), twin)

    def _mask_of(self, store: ChunkStore, record: Superseded) -> Mask:
        key = f"{store.folder.path}/{record.path}"
        if key not in self._masks:
            self._masks[key] = Mask.of(record)
        return self._masks[key]

    def _other(self, record: Adopted) -> ChunkStore | None:
        """Open an adopted cache; None where its id stands for something else by now."""
        key = (record.cache_id, record.version)
        if record.cache_id == self._base.folder.path.name and record.version == self._base.folder.version:
            return self._base
        if key not in self._others:
            store = self._open_store(*key)
            store.folder.refresh()
            if self._is_another(record, store):
                return None
            self._others[key] = store
        return self._others[key]

    def _is_another(self, record: Adopted, store: ChunkStore) -> bool:
        try:
            metadata = store.folder.read_metadata()
        except MetadataError:
            return False
        if metadata is None or not record.identity or metadata["identity"] in (b"", record.identity):
            return False
        if record.cache_id not in self._told:
            self._told.add(record.cache_id)
            warnings.warn(
                f"the cache {record.cache_id!r}, adopted by {self._base.folder.path.name!r}, stands for other"
                f" params or another function by now; its results do not count here: adopt another one",
                DamageWarning,
                stacklevel=2,
            )
        return True


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was deleted from a cache, or would be.

    Examples
    --------
    >>> GcReport(superseded=1, nbytes=4096) + GcReport(parts=2, nbytes=100)
    GcReport(superseded=1, parts=2, layouts=0, temporary=0, signs=0, quarantined=0, folders=0, nbytes=4196)
    """

    superseded: int = 0
    """Number of chunk files none of whose points counted any more."""
    parts: int = 0
    """Number of parts of chunks whose complete file is there."""
    layouts: int = 0
    """Number of layouts whose bins an older one has, too."""
    temporary: int = 0
    """Number of files that writers began and never finished."""
    signs: int = 0
    """Number of files by which runs that are over gave signs, and claims that nobody holds."""
    quarantined: int = 0
    """Number of damaged files that had been set aside."""
    folders: int = 0
    """Number of folders in which nothing was left."""
    nbytes: int = 0
    """Bytes of all of them."""

    def __add__(self, other: GcReport) -> GcReport:
        """Return the sums, for reports of several caches."""
        return GcReport(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


# --- one request, cut for one layer --------------------------------------------------------------------------


class Request:
    """The distinct values of a request, numbered along each axis in the order in which they were first asked.

    Parameters
    ----------
    selection : Selection
        The request.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._first = [first_positions(keys) for keys in selection.keys]
        self.numbers = [self._numbered(keys) for keys in selection.keys]

    @staticmethod
    def _numbered(keys: Sequence[bytes]) -> IntArray:
        """Return for each position of the request the number of its value."""
        first = first_positions(keys)
        if first is None:
            return np.arange(len(keys))
        return np.asarray(locate(index_of(take(keys, first)), keys), np.intp)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of distinct values along each axis."""
        pairs = zip(self._first, self.selection.keys, strict=True)
        return tuple(len(keys) if first is None else len(first) for first, keys in pairs)

    def keys(self, axis: int) -> Sequence[bytes]:
        """Return the keys of the distinct values along an axis.

        Parameters
        ----------
        axis : int
            The axis.

        Returns
        -------
        sequence of bytes
            The keys.
        """
        first, keys = self._first[axis], self.selection.keys[axis]
        return keys if first is None else take(keys, first)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Which cells of a view are to be read, by rank."""

    whole: Flags
    """For each cell whether all of it is wanted."""
    parts: Sequence[tuple[int, IntArray]]
    """Cells of which some points are wanted, and their row-major positions."""


class View:
    """What a request asks of one layer: those of its values that the layer has bins for.

    Arrays of a view hold one entry per point; along each axis of the *request* its values stand in the order of
    the view's cells.

    Parameters
    ----------
    layer : Layer
        The layer.
    request : Request
        The request.
    cells : Cells
        What is asked of the layer's chunks.
    kept : sequence of ndarray or None
        For each axis of the cells the positions of the request that are asked of them; None for all.
    pinned : mapping of int to ndarray
        For each axis of the request that the layer lacks the positions at which its one value is asked for.
    """

    def __init__(
        self,
        layer: Layer,
        request: Request,
        cells: Cells,
        kept: Sequence[IntArray | None],
        pinned: Mapping[int, IntArray],
    ) -> None:
        self.layer = layer
        self.request = request
        self.cells = cells
        self.kept = kept
        self.pinned = pinned
        self.places: list[IntArray] = []
        """For each axis of the request the numbers of its values, cell by cell."""
        self.ends: list[IntArray] = []
        """For each axis of the request where each cell ends in them."""
        own = iter(zip(cells.axes, kept, strict=True))
        for axis, numbers in enumerate(request.numbers):
            if axis in pinned:
                sources = [pinned[axis][:1]]
            else:
                along, chosen = next(own)
                sources = [c.source if chosen is None else chosen[c.source] for c in along]
            self.places.append(numbers[np.concatenate(sources)])
            self.ends.append(np.cumsum([len(source) for source in sources]))

    @classmethod
    def of(cls, layer: Layer, request: Request) -> View | None:
        """Return what a request asks of a layer.

        Parameters
        ----------
        layer : Layer
            The layer.
        request : Request
            The request.

        Returns
        -------
        View or None
            The view; None where the layer cannot hold anything of the request.
        """
        selection, bins = request.selection, layer.store.folder.bins
        order, values, keys, kept, pinned = [], [], [], [], {}
        for axis, name in enumerate(selection.order):
            asked = selection.keys[axis]
            if name in layer.pinned:
                pinned[axis] = np.flatnonzero([key == layer.pinned[name] for key in asked])
                if not len(pinned[axis]):
                    return None
                continue
            known = bins.of(name).locate(asked) >= 0
            if not known.any():
                return None
            chosen = None if known.all() else np.flatnonzero(known)
            order.append(name)
            kept.append(chosen)
            keys.append(asked if chosen is None else take(asked, chosen))
            there = selection.values[axis]
            values.append(there if chosen is None else tuple(there[i] for i in chosen.tolist()))
        cells = Cells(Selection(tuple(order), tuple(values), tuple(keys)), bins)
        return cls(layer, request, cells, kept, pinned)

    # --- arrays over its points --------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of cells along each axis of the request."""
        return tuple(len(ends) for ends in self.ends)

    def of_points(self, flags: Flags) -> Flags:
        """Return flags of the request's points as the view orders them.

        Parameters
        ----------
        flags : ndarray of bool
            One entry per distinct point of the request.

        Returns
        -------
        ndarray of bool
            A copy, for the points of the view.
        """
        own: Flags = flags[self._index].copy()
        return own

    def put(self, flags: Flags, own: Flags) -> None:
        """Write flags of the view's points to where the request has them.

        Parameters
        ----------
        flags : ndarray of bool
            One entry per distinct point of the request; changed.
        own : ndarray of bool
            One entry per point of the view.
        """
        flags[self._index] = own

    @cached_property
    def _index(self) -> Any:
        """Where the view's points are among the request's, by slices where they stand in a row: far faster."""
        spans = [slice(int(places[0]), int(places[0]) + len(places)) for places in self.places]
        rows = zip(self.places, spans, strict=True)
        if all(bool((places == np.arange(span.start, span.stop)).all()) for places, span in rows):
            return tuple(spans) or ...
        return np.ix_(*self.places)

    def hidden(self) -> Flags | None:
        """Tell which points do not count in the layer.

        Returns
        -------
        ndarray of bool or None
            One entry per point; None where all count.
        """
        if not self.layer.masks:
            return None
        found = np.zeros(tuple(map(len, self.places)), bool)
        for mask in self.layer.masks:
            along = np.ones((), bool)
            for axis, name in enumerate(self.request.selection.order):
                along = np.logical_and.outer(along, self._named(axis, mask.axes.get(name)))
            found |= along
        return found

    def _named(self, axis: int, wanted: frozenset[bytes] | None) -> Flags:
        places = self.places[axis]
        if wanted is None:
            return np.ones(len(places), bool)
        keys = self.request.keys(axis)
        return np.fromiter((key in wanted for key in keys), bool, len(keys))[places]

    def per_cell(self, ufunc: np.ufunc, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Reduce an array over the points of each cell.

        Parameters
        ----------
        ufunc : numpy.ufunc
            How.
        array : ndarray
            One entry per point.

        Returns
        -------
        ndarray
            One entry per cell, in grid order.
        """
        for axis, ends in enumerate(self.ends):
            size, shape = int(ends[0]), array.shape
            if bool((np.diff(ends) == size).all()):  # an ordinary reduction takes a tenth of the time
                if size > 1:
                    array = array.reshape(*shape[:axis], len(ends), size, *shape[axis + 1 :])
                    array = ufunc.reduce(array, axis=axis + 1)
            else:
                array = ufunc.reduceat(array, np.r_[0, ends[:-1]], axis=axis)
        return array.reshape(-1)

    def over_points(self, flags: Flags) -> Flags:
        """Return for each point the flag of its cell.

        Parameters
        ----------
        flags : ndarray of bool
            One entry per cell, in grid order.

        Returns
        -------
        ndarray of bool
            One entry per point.
        """
        flags = flags.reshape(self.counts)
        for axis, ends in enumerate(self.ends):
            flags = np.repeat(flags, np.diff(ends, prepend=0), axis=axis)
        return flags

    def block(self, array: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Return the points of one cell, as a view of an array.

        Parameters
        ----------
        array : ndarray
            One entry per point.
        index : int
            The cell's rank in grid order.

        Returns
        -------
        ndarray
            Its points.
        """
        where = np.unravel_index(index, self.counts) if self.ends else ()
        pairs = zip(self.ends, where, strict=True)
        block: npt.NDArray[Any] = array[
            tuple(slice(int(ends[i - 1]) if i else 0, int(ends[i])) for ends, i in pairs) or ...
        ]
        return block

    def mark(self, flags: Flags, index: int, points: IntArray | None) -> None:
        """Set flags of some points of a cell.

        Parameters
        ----------
        flags : ndarray of bool
            One entry per point; changed.
        index : int
            The cell's rank in grid order.
        points : ndarray of intp or None
            Row-major positions in the cell; None for all of them.
        """
        block = self.block(flags, index)
        if points is None or not block.ndim:
            block[...] = True
        else:
            block[np.unravel_index(points, block.shape)] = True

    def index_of(self, rank: int) -> int:
        """Return the rank in grid order of a cell.

        Parameters
        ----------
        rank : int
            Its rank in the order of iteration.

        Returns
        -------
        int
            The rank.
        """
        ranking = self.cells.ranking
        return rank if ranking is None else int(ranking[rank])

    @cached_property
    def ranks(self) -> IntArray | None:
        """For each cell in grid order its rank in the order of iteration; None where that is the same."""
        ranking = self.cells.ranking
        return None if ranking is None else np.argsort(ranking)

    def rank_of(self, index: int) -> int:
        """Return the rank of a cell in the order of iteration.

        Parameters
        ----------
        index : int
            Its rank in grid order.

        Returns
        -------
        int
            The rank.
        """
        return index if self.ranks is None else int(self.ranks[index])

    def asked(self, wanted: Flags) -> Asked | None:
        """Return which cells are to be read for some points.

        Parameters
        ----------
        wanted : ndarray of bool
            One entry per point.

        Returns
        -------
        Asked or None
            The cells; None for all of them.
        """
        if wanted.all():
            return None
        whole = self.per_cell(np.logical_and, wanted)
        some = self.per_cell(np.logical_or, wanted) & ~whole
        parts = [
            (self.rank_of(index), np.flatnonzero(self.block(wanted, index)))
            for index in np.flatnonzero(some).tolist()
        ]
        return Asked(whole if self.cells.ranking is None else whole[self.cells.ranking], parts)

    def left(self, wanted: Flags) -> Iterator[tuple[int, Cell, IntArray | None]]:
        """Iterate over the cells that hold some points.

        Parameters
        ----------
        wanted : ndarray of bool
            One entry per point.

        Yields
        ------
        tuple of int, Cell, ndarray of intp or None
            The cell's rank, the cell, and row-major positions in it; None for all of them.
        """
        some = self.per_cell(np.logical_or, wanted)
        for index in np.flatnonzero(some).tolist():
            block = self.block(wanted, index)
            points = None if block.all() else np.flatnonzero(block)
            yield self.rank_of(index), self.cells.in_grid_order(index), points

    # --- cells as the request has them -------------------------------------------------------------------------

    @property
    def straight(self) -> bool:
        """Whether the view's cells stand where those of the request's own axes would."""
        return not self.pinned and all(kept is None for kept in self.kept)

    def in_request(self, cell: Cell) -> Cell:
        """Return a cell of the view as a cell of the request.

        Parameters
        ----------
        cell : Cell
            The cell.

        Returns
        -------
        Cell
            The same points; what it says of bins is the layer's own.
        """
        if self.straight:
            return cell
        own = iter(zip(cell.axes, self.kept, strict=True))
        axes = (
            pinned_cell(self.pinned[axis]) if axis in self.pinned else moved_cell(*next(own))
            for axis in range(len(self.request.numbers))
        )
        return Cell(tuple(axes))

    def numbers_of(self, cell: Cell) -> list[IntArray]:
        """Return the numbers of the request's values that a cell of the view holds, along each axis.

        Parameters
        ----------
        cell : Cell
            The cell.

        Returns
        -------
        list of ndarray of intp
            Numbers in the order of the cell.
        """
        axes = zip(self.in_request(cell).axes, self.request.numbers, strict=True)
        return [numbers[axis.source] for axis, numbers in axes]

    def where(self, numbers: Sequence[IntArray]) -> list[tuple[IntArray, IntArray]]:
        """Return in which cells of the view values of the request lie.

        Parameters
        ----------
        numbers : sequence of ndarray of intp
            Numbers of values along each axis of the request, which the view all has.

        Returns
        -------
        list of tuple of ndarray of intp
            For each axis of the request the cells along it, and the positions in those.
        """
        found = []
        for axis, chosen in enumerate(numbers):
            at = self._at[axis][chosen]
            ends = self.ends[axis]
            cells = np.searchsorted(ends, at, side="right")
            found.append((cells, at - np.r_[0, ends[:-1]][cells]))
        return found

    @cached_property
    def _at(self) -> list[IntArray]:
        """For each axis where each number stands in the view's order."""
        found = []
        for places, count in zip(self.places, self.request.shape, strict=True):
            at = np.full(count, -1)
            at[places] = np.arange(len(places))
            found.append(at)
        return found

    def same_cell(self, numbers: Sequence[IntArray]) -> int | None:
        """Return the cell of the view that holds exactly these values, in this order.

        Parameters
        ----------
        numbers : sequence of ndarray of intp
            Numbers of values along each axis of the request.

        Returns
        -------
        int or None
            Its rank in grid order; None where there is none.
        """
        index = []
        for axis, (cells, positions) in enumerate(self.where(numbers)):
            first, ends = int(cells[0]), self.ends[axis]
            size = int(ends[first]) - (int(ends[first - 1]) if first else 0)
            if size != len(cells) or bool((cells != first).any()) or bool((np.diff(positions) != 1).any()):
                return None
            index.append(first)
        return int(np.ravel_multi_index(index, self.counts)) if index else 0


def pinned_cell(request: IntArray) -> AxisCell:
    """Return the group of one value, of which a layer knows nothing.

    Parameters
    ----------
    request : ndarray of intp
        Positions in the request at which the value stands.

    Returns
    -------
    AxisCell
        The group.
    """
    span = slice(int(request[0]), int(request[0]) + 1) if len(request) == 1 else None
    pick = None if len(request) == 1 else np.zeros(len(request), np.intp)
    return AxisCell((), (np.zeros(1, np.intp),), request, pick, request[:1], span)


def moved_cell(axis: AxisCell, kept: IntArray | None) -> AxisCell:
    """Return a group of a request for some values as one of the request for all of them.

    Parameters
    ----------
    axis : AxisCell
        The group.
    kept : ndarray of intp or None
        The positions in the larger request of those values, ascending; None where they are all.

    Returns
    -------
    AxisCell
        The group as the larger request has it.
    """
    if kept is None:
        return axis
    request, source = kept[axis.request], kept[axis.source]
    low, high = int(request[0]), int(request[-1]) + 1
    span = slice(low, high) if axis.span is not None and high - low == len(request) else None
    return AxisCell(axis.bins, axis.positions, request, axis.pick, source, span)


# --- all layers ----------------------------------------------------------------------------------------------

Look = Callable[[View, Flags, Flags | None], Flags]
"""``(view, wanted, hidden) -> found``: which of the wanted points that count are in a layer; a bool per point."""


def walk(layers: Iterable[Layer], request: Request, wanted: Flags, look: Look) -> None:
    """Look for points in one layer after the other.

    Parameters
    ----------
    layers : iterable of Layer
        The layers, those that win first.
    request : Request
        The request.
    wanted : ndarray of bool
        One entry per distinct point: whether it is still looked for; changed.
    look : callable
        Looks into one layer.
    """
    for layer in layers:
        if not wanted.any():
            return
        view = View.of(layer, request)
        if view is None:
            continue
        own = view.of_points(wanted)
        if own.any():
            view.put(wanted, own & ~look(view, own, view.hidden()))
