"""Points that form no grid: kept together, a thousand to a file, and found by every request.

A chunk is a product of bins, so ten thousand random points would be ten thousand chunks of one point each. They
lie in a folder of their own inside the cache's, as the chunks of a grid of one axis, whose values are whole
points (tuples of the values of all axes, sorted by name)::

    <root>/<cache_id>/points/layouts/…   which points lie together
    <root>/<cache_id>/points/chunks/…    their outputs

So all that holds for chunks holds for them: files are immutable, named by content and verified, parts are folded,
no lock and no index is needed, and caches merge by copying. A request for a grid looks here only for points that
its chunks lack, and only where the folder is; the warm path knows nothing of it. Points are found by the bins in
memory: along each axis the values that any point has are numbered, and a request is held against these numbers,
which takes ten nanoseconds for a stored point.

Each layer of a cache (:mod:`chunk_memo.layers`) has such points of its own: other generations, adopted caches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, ChunkStore, Part
from chunk_memo.disk import files
from chunk_memo.disk.layouts import POINTS
from chunk_memo.failures import Failure
from chunk_memo.grid import AxisBins, IntArray
from chunk_memo.identity import canonical_bytes, canonical_many, decode_canonical
from chunk_memo.keys import index_of, locate
from chunk_memo.layers import Layer, Request, View
from chunk_memo.outputs import Block
from chunk_memo.regions import Sink

__all__ = [
    "CASE",
    "POINTS_PER_FILE",
    "Group",
    "Nearby",
    "Scattered",
    "as_recorded",
    "case_keys",
    "failures_of",
    "is_nearby",
    "keys_by_axis",
]

CASE = "case"
"""Name of the only axis."""

POINTS_PER_FILE = 1000
"""So many points lie in one file."""

_TRIES = 3

_Flags = npt.NDArray[np.bool_]


def case_keys(keys: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return the canonical bytes of points from those of their values.

    Parameters
    ----------
    keys : sequence of sequence of bytes
        For each axis, sorted by name, the canonical bytes of the value at each point.

    Returns
    -------
    list of bytes
        Canonical bytes of the tuple of each point.

    Examples
    --------
    >>> case_keys([canonical_many([1, 2]), canonical_many(["a", "b"])]) == canonical_many([(1, "a"), (2, "b")])
    True
    """
    head = canonical_many([(None,) * len(keys)])[0][: -len(keys)]  # a tag and the number of values
    return [head + b"".join(point) for point in zip(*keys, strict=True)]


def keys_by_axis(points: Sequence[Sequence[Any]], order: Collection[str]) -> dict[str, list[bytes]]:
    """Return the canonical bytes of the values of points along each axis.

    Parameters
    ----------
    points : sequence of sequence
        For each point the tuple of its values, axes sorted by name.
    order : collection of str
        Names of the axes, in any order.

    Returns
    -------
    dict of str to list of bytes
        Axis name to the bytes of the value at each point.

    Examples
    --------
    >>> keys_by_axis([(1, "a"), (2, "a")], ["y", "x"])["x"] == canonical_many([1, 2])
    True
    """
    return {name: canonical_many([point[place] for point in points]) for place, name in enumerate(sorted(order))}


class _Index:
    """Which values the points of one folder have along each axis."""

    def __init__(self, axes: int) -> None:
        self._axes = axes
        self.lookup: list[dict[bytes, int]] = [{} for _ in range(axes)]
        self.ids: list[IntArray] = [np.zeros(0, np.intp) for _ in range(axes)]

    def take_in(self, bins: AxisBins) -> None:
        """Give numbers to the values of points that came since the last time."""
        known = len(self.ids[0]) if self.ids else 0
        fresh = bins.values[known:]
        for axis in range(self._axes):
            lookup = self.lookup[axis]
            keys = canonical_many([point[axis] for point in fresh])
            ids = np.fromiter((lookup.setdefault(key, len(lookup)) for key in keys), np.intp, len(keys))
            self.ids[axis] = np.concatenate([self.ids[axis], ids])


class Nearby:
    """The points of one layer that form no grid.

    Parameters
    ----------
    layer : Layer
        The layer.
    store : ChunkStore
        Their chunks.
    axes : tuple of str
        Names of the axes that the layer has, sorted.
    index : _Index
        Their values.
    """

    def __init__(self, layer: Layer, store: ChunkStore, axes: tuple[str, ...], index: _Index) -> None:
        self.layer = layer
        self.store = store
        self._axes = axes
        self._index = index

    @property
    def bins(self) -> AxisBins:
        """Which points lie together."""
        return self.store.folder.bins.of(CASE)

    # --- which points a request has in common with these ---------------------------------------------------

    def within(self, request: Request) -> tuple[IntArray, list[IntArray]]:
        """Return the points that a request for a grid covers, and that count.

        Parameters
        ----------
        request : Request
            The request.

        Returns
        -------
        flats : ndarray of intp
            Their positions in the bins; some may not be stored, and a point may stand in several bins.
        numbers : list of ndarray of intp
            For each axis of the request the number of the value at each.
        """
        index = self._index
        chosen: _Flags | None = None
        numbers: dict[int, IntArray] = {}
        for axis, name in enumerate(request.selection.order):
            if name in self.layer.pinned:
                place = int(locate(index_of(request.keys(axis)), [self.layer.pinned[name]])[0])
                if place < 0:
                    return np.zeros(0, np.intp), []
                continue
            own = self._axes.index(name)
            places = _places(index.lookup[own], request.keys(axis))[index.ids[own]]
            numbers[axis] = places
            chosen = places >= 0 if chosen is None else chosen & (places >= 0)
        if chosen is None or not chosen.any():
            return np.zeros(0, np.intp), []
        for mask in self.layer.masks:
            chosen &= ~self._named(mask.axes)
        flats = np.flatnonzero(chosen)
        found = []
        for axis, name in enumerate(request.selection.order):
            if axis in numbers:
                found.append(numbers[axis][flats])
            else:
                place = int(locate(index_of(request.keys(axis)), [self.layer.pinned[name]])[0])
                found.append(np.full(len(flats), place, np.intp))
        return flats, found

    def _named(self, axes: Mapping[str, frozenset[bytes]]) -> _Flags:
        """Tell which points a mask names."""
        found = np.ones(len(self._index.ids[0]), bool)
        for name, wanted in axes.items():
            if name in self.layer.pinned:
                found &= self.layer.pinned[name] in wanted
                continue
            own = self._axes.index(name)
            lookup = self._index.lookup[own]
            there = np.fromiter((key in wanted for key in lookup), bool, len(lookup))
            found &= there[self._index.ids[own]]
        return found

    def find(self, keys: Mapping[str, Sequence[bytes]]) -> IntArray:
        """Return where points stand in the bins.

        Parameters
        ----------
        keys : mapping of str to sequence of bytes
            For each axis the canonical bytes of the value at each point.

        Returns
        -------
        ndarray of intp
            A position for each point; -1 where it is not among these, or does not count.
        """
        flats = self.bins.locate(case_keys([keys[name] for name in self._axes]))
        for name, value in self.layer.pinned.items():
            flats[np.fromiter((key != value for key in keys[name]), bool, len(flats))] = -1
        there = np.flatnonzero(flats >= 0)
        for mask in self.layer.masks:
            named = self._named(mask.axes)
            flats[there[named[flats[there]]]] = -1
            there = np.flatnonzero(flats >= 0)
        return flats

    # --- what is stored of them ----------------------------------------------------------------------------

    def stored(self) -> tuple[IntArray, dict[str, list[Any]]]:
        """Return the points that are stored, and count.

        Returns
        -------
        flats : ndarray of intp
            Their positions in the bins; a point may stand in several bins.
        values : dict of str to list
            Axis name to the value at each, of the axes that the layer lacks, too.
        """
        counting = np.ones(len(self._index.ids[0]), bool)
        for mask in self.layer.masks:
            counting &= ~self._named(mask.axes)
        flats = np.flatnonzero(counting)
        flats = flats[self.held(flats)]
        points = self.bins.values
        chosen = [points[flat] for flat in flats.tolist()]
        values = {name: [point[place] for point in chosen] for place, name in enumerate(self._axes)}
        pinned = {name: [decode_canonical(key)] * len(chosen) for name, key in self.layer.pinned.items()}
        return flats, {**values, **pinned}

    def _by_bin(self, flats: IntArray) -> Iterator[tuple[ChunkRef, IntArray, IntArray]]:
        """Group positions: yield the chunk, positions in it, and ranks among those given."""
        bins = self.bins
        numbers = bins.numbers_of(flats)
        order = np.argsort(numbers, kind="stable")
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        for ranks in np.split(order, cuts) if len(order) else ():
            number = int(numbers[ranks[0]])
            ref = self.store.ref((CASE,), (number,), self.store.folder.bins)
            yield ref, flats[ranks] - int(bins.starts[number]), ranks

    def held(self, flats: IntArray, *, verify: bool = False) -> _Flags:
        """Tell which points are stored, by names of files and manifests of parts.

        Parameters
        ----------
        flats : ndarray of intp
            Positions in the bins.
        verify : bool, default False
            Whether files are opened, and their manifests checked.

        Returns
        -------
        ndarray of bool
            One entry for each.
        """
        found = np.zeros(len(flats), bool)
        for ref, places, ranks in self._by_bin(flats):
            if verify:
                chunk = self.store.load(ref)
                if chunk is not None:
                    chunk.close()
                    found[ranks] = True
                    continue
            elif any(files.is_there(path) for path in self.store.paths(ref)):
                found[ranks] = True
                continue
            for part in self._parts(ref):
                found[ranks] |= np.isin(places, part.points)
        return found

    def _parts(self, ref: ChunkRef) -> list[Part]:
        if not any(files.list_folder(folder) for folder in self.store.parts_folders(ref)):
            return []
        try:
            return self.store.parts(ref)
        except FileNotFoundError:
            return []

    def read(self, flats: IntArray) -> Iterator[tuple[Block, IntArray, int]]:
        """Read points.

        Parameters
        ----------
        flats : ndarray of intp
            Positions in the bins.

        Yields
        ------
        block : Block
            Outputs of some of them.
        ranks : ndarray of intp
            Which of those given they are.
        nbytes : int
            Bytes of the file read.
        """
        for ref, places, ranks in self._by_bin(flats):
            yield from self._read(ref, places, ranks)

    def _read(self, ref: ChunkRef, places: IntArray, ranks: IntArray) -> Iterator[tuple[Block, IntArray, int]]:
        for _ in range(_TRIES):
            chunk = self.store.load(ref)
            if chunk is not None:
                with chunk:
                    block = self.store.block(ref, chunk, [places])
                    if block is not None:
                        yield block, ranks, chunk.nbytes
                        return
            try:
                parts = self.store.parts(ref)
            except FileNotFoundError:  # folded meanwhile
                continue
            left = np.ones(len(places), bool)
            for part in parts:
                row = {point: number for number, point in enumerate(part.points.tolist())}
                here = [n for n in np.flatnonzero(left).tolist() if int(places[n]) in row]
                if here:
                    left[here] = False
                    rows = np.array([row[int(places[n])] for n in here], np.intp)
                    block = part.block.by_rows()
                    yield block.taken(rows), ranks[here], part.nbytes
            return

    def fill(
        self,
        home: View,
        wanted: _Flags,
        collector: Sink | None,
        learn: Callable[[Block], None] | None = None,
    ) -> int:
        """Read those points that a request for a grid still lacks.

        Parameters
        ----------
        home : View
            What is asked of the layer that the request's cells belong to.
        wanted : ndarray of bool
            One entry per distinct point of the request: whether it is still looked for; changed.
        collector : Sink or None
            Takes the outputs; with None they are only looked for.
        learn : callable, optional
            Called with blocks of the cache's own.

        Returns
        -------
        int
            Bytes read.
        """
        flats, numbers = self.within(home.request)
        open_ones = np.flatnonzero(wanted[tuple(numbers)]) if len(flats) else flats
        if not len(open_ones):
            return 0
        flats, numbers = flats[open_ones], [along[open_ones] for along in numbers]
        nbytes = 0
        if collector is None:
            held = self.held(flats)
            wanted[tuple(along[held] for along in numbers)] = False
            return 0
        for block, ranks, size in self.read(flats):
            nbytes += size
            own = [along[ranks] for along in numbers]
            still = np.flatnonzero(wanted[tuple(own)])  # one point may stand in several bins
            flat = np.ravel_multi_index([along[still] for along in own], wanted.shape)
            _, first = np.unique(flat, return_index=True)
            rows = still[np.sort(first)]
            if not len(rows):
                continue
            if learn is not None and self.layer.own:
                learn(block)
            whole = block.by_rows()
            _hand_out(home, [along[rows] for along in own], whole.taken(rows), collector)
            wanted[tuple(along[rows] for along in own)] = False
        return nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Some points that lie together in one file, or in parts of it."""

    nearby: Nearby
    """The points of their layer."""
    flats: IntArray
    """Their positions in its bins."""
    values: Mapping[str, list[Any]]
    """Axis name to the value at each."""
    keys: tuple[tuple[bytes, ...], ...]
    """For each point the canonical bytes of its values, axes in the order of the mapping."""

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.flats)

    def read(self) -> Iterator[tuple[Block, IntArray]]:
        """Read their outputs.

        Yields
        ------
        block : Block
            Outputs of some of them.
        ranks : ndarray of intp
            Which of them these are.
        """
        for block, ranks, _ in self.nearby.read(self.flats):
            yield block, ranks


def _places(lookup: Mapping[bytes, int], keys: Sequence[bytes]) -> IntArray:
    """Return for each numbered value its place in a request, -1 where that does not ask for it."""
    if len(lookup) < len(keys):
        return np.asarray(locate(index_of(keys), list(lookup)), np.intp)
    places = np.full(len(lookup), -1, np.intp)
    for place, key in enumerate(keys):
        number = lookup.get(key)
        if number is not None:
            places[number] = place
    return places


def _hand_out(home: View, numbers: Sequence[IntArray], block: Block, collector: Sink) -> None:
    """Give each cell of a request what a block holds of it."""
    where = home.where(numbers)
    indices = np.ravel_multi_index([cells for cells, _ in where], home.counts)
    for index in np.unique(indices).tolist():
        chosen = np.flatnonzero(indices == index)
        cell = home.cells.in_grid_order(index)
        places = np.ravel_multi_index([along[chosen] for _, along in where], cell.shape)
        collector.add(home.rank_of(index), cell, block.taken(chosen), places)


class Scattered:
    """The points of a cache that form no grid, in all of its layers."""

    def __init__(self) -> None:
        self._stores: dict[str, ChunkStore] = {}
        self._indices: dict[str, _Index] = {}

    def store(self, layer: Layer) -> ChunkStore:
        """Return the chunks of a layer's own points.

        Parameters
        ----------
        layer : Layer
            The layer.

        Returns
        -------
        ChunkStore
            The chunks, of the layer's generation.
        """
        place = os.fspath(layer.store.folder.path)
        if place not in self._stores:
            self._stores[place] = layer.store.inside(POINTS)
        base = self._stores[place]
        return base if base.generation == layer.store.generation else base.of_generation(layer.store.generation)

    def of(self, layers: Sequence[Layer], order: Sequence[str]) -> list[Nearby]:
        """Return the points that there are, by layer, newest first.

        Parameters
        ----------
        layers : sequence of Layer
            The layers of the cache.
        order : sequence of str
            Names of its axes.

        Returns
        -------
        list of Nearby
            Nothing for layers that have no such points, or of which nothing counts.
        """
        found, looked = [], set()
        for layer in layers if order else ():
            place = layer.store.folder.path / POINTS
            if layer.hidden or not files.is_folder(place):
                continue
            store = self.store(layer)
            key = os.fspath(place)
            if key not in looked:
                looked.add(key)
                store.folder.refresh()
                store.adopt_unnamed((CASE,))
            bins = store.folder.bins.of(CASE)
            if not len(bins):
                continue
            axes = tuple(sorted(set(order) - set(layer.pinned)))
            index = self._indices.setdefault(key, _Index(len(axes)))
            index.take_in(bins)
            found.append(Nearby(layer, store, axes, index))
        return found

    def files(self, layers: Sequence[Layer]) -> Iterator[ChunkStore]:
        """Iterate over the stores of all layers that have such points, one for each folder.

        Parameters
        ----------
        layers : sequence of Layer
            The layers.

        Yields
        ------
        ChunkStore
            The chunks.
        """
        seen = set()
        for layer in layers:
            place = os.fspath(layer.store.folder.path)
            if place not in seen and files.is_folder(layer.store.folder.path / POINTS):
                seen.add(place)
                yield self.store(layer)


# --- points that failed --------------------------------------------------------------------------------------


def failures_of(recorded: Iterable[Failure], order: Sequence[str], *, vectorize: bool) -> Iterator[Failure]:
    """Return failures of points that form no grid as failures of the axes, each point by itself.

    Parameters
    ----------
    recorded : iterable of Failure
        What the records say.
    order : sequence of str
        Names of the axes in axis order.
    vectorize : bool
        Whether the function takes single values.

    Yields
    ------
    Failure
        The last failure of each point, oldest first.
    """
    turn = sorted(order)
    last: dict[bytes, Failure] = {}
    for failure in sorted(recorded, key=lambda each: (each.attempts, each.failed_at)):
        name, number = failure.record or ("", 0)
        for point in failure.each():
            named = dict(zip(turn, point[CASE], strict=True))
            values = tuple((named[axis],) for axis in order)
            last[canonical_bytes(tuple(point[CASE]))] = replace(
                failure,
                order=tuple(order),
                values=values,
                rows=None,
                vectorize=vectorize,
                record=(f"{POINTS}/{name}", number),
            )
    yield from sorted(last.values(), key=lambda each: each.failed_at)


def is_nearby(failure: Failure) -> bool:
    """Tell whether a failure is one of :func:`failures_of`.

    Parameters
    ----------
    failure : Failure
        The failure.

    Returns
    -------
    bool
        Whether it is.
    """
    return failure.record is not None and failure.record[0].startswith(f"{POINTS}/")


def as_recorded(failure: Failure) -> Failure:
    """Return a failure of :func:`failures_of` with the name that its record has.

    Parameters
    ----------
    failure : Failure
        The failure.

    Returns
    -------
    Failure
        The same, with that name.
    """
    name, number = failure.record or ("", 0)
    return replace(failure, record=(name.removeprefix(f"{POINTS}/"), number))
