"""Reading cells: whole chunks first, then parts, and what neither holds; in one layer, or in several.

Nothing is looked up before it is opened: a complete file that is not there is a miss, and only then are parts
listed. A part that vanishes in between means that somebody folded it, so the complete file is tried again.

A request of several layers is read from the newest one as if there were no other, and only what that lacks is
looked for in the next (:func:`read_layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, ChunkStore, Part
from chunk_memo.grid import Bins, IntArray
from chunk_memo.layers import Asked, Layer, Request, View, walk
from chunk_memo.outputs import Block, Collector, Column
from chunk_memo.placing import RegionPlace
from chunk_memo.regions import Patterns, RegionReader, Sink
from chunk_memo.scattered import Nearby
from chunk_memo.selection import Cell, Cells, Run
from chunk_memo.tasks import Gaps

__all__ = ["Reader", "Reading", "read_layers"]

_TRIES = 3
"""How often a part that vanished sends a reader back to the complete file."""


_Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Reading:
    """What a read found, and what it did not."""

    cells: Cells
    """What was asked of each chunk."""
    total_chunks: int = 0
    """Number of chunks that the request touches."""
    cached_chunks: int = 0
    """Number of chunks from which everything asked was read."""
    partial_chunks: int = 0
    """Number of chunks of which some of the points asked are stored."""
    total_points: int = 0
    """Number of distinct points asked for."""
    plan_seconds: float = 0.0
    """Seconds spent before the first chunk file was opened, those of writing left out."""
    write_seconds: float = 0.0
    """Seconds spent on writing and syncing the layouts of new bins."""
    settled: bool = False
    """Whether the bins of other processes were looked for a moment before."""
    cached_points: int = 0
    """Number of distinct points read."""
    bytes_read: int = 0
    """Bytes of the files read."""
    missing: Gaps = field(init=False)
    """Cells that miss points."""

    def __post_init__(self) -> None:
        self.missing = Gaps(self.cells)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One chunk that may hold the points of a cell."""

    cell: Cell
    choice: tuple[int, ...]
    ref: ChunkRef

    def positions(self) -> list[IntArray]:
        """Positions of the cell's values in the chunk's bins, one array per axis."""
        return [axis.positions[i] for axis, i in zip(self.cell.axes, self.choice, strict=True)]

    def points(self) -> IntArray:
        """Row-major positions of the cell's points in the chunk."""
        if not self.ref.sizes:
            return np.zeros(1, np.intp)
        return np.ravel_multi_index(np.ix_(*self.positions()), self.ref.sizes).reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Points of a cell that a part holds."""

    part: Part
    rows: IntArray
    """Rows of the part."""
    points: IntArray
    """Row-major positions in the cell."""


class Reader:
    """Reads cells of one cache.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    bins : Bins
        The bins that cells refer to.
    order : tuple of str
        Names of the axes in axis order.
    learn : callable, optional
        Called with each block read.
    takes_whole : callable, optional
        Tells whether one output for all points of a cell serves the request; it does by default.
    listed : set of str, optional
        The names of all chunks of which something is stored, where they were listed a moment ago.
    """

    def __init__(
        self,
        store: ChunkStore,
        bins: Bins,
        order: tuple[str, ...],
        learn: Callable[[Block], None] | None = None,
        takes_whole: Callable[[Cell], bool] | None = None,
        listed: Set[str] | None = None,
    ) -> None:
        self._store = store
        self._bins = bins
        self._order = order
        self._learn = learn
        self._takes_whole = takes_whole
        self._listed = listed

    def ref(self, cell: Cell, choice: tuple[int, ...]) -> ChunkRef:
        """Return one of the chunks that may hold a cell.

        Parameters
        ----------
        cell : Cell
            The cell.
        choice : tuple of int
            One of its candidates.

        Returns
        -------
        ChunkRef
            The chunk.
        """
        numbers = tuple(axis.bins[i] for axis, i in zip(cell.axes, choice, strict=True))
        return self._store.ref(self._order, numbers, self._bins)

    def candidates(self, cell: Cell) -> list[ChunkRef]:
        """Return the chunks that may hold a cell, best first.

        Parameters
        ----------
        cell : Cell
            The cell.

        Returns
        -------
        list of ChunkRef
            The chunks.
        """
        return [candidate.ref for candidate in self._candidates(cell)]

    def _candidates(self, cell: Cell) -> list[_Candidate]:
        choices = cell.candidates(self._bins, self._order)
        return [_Candidate(cell, choice, self.ref(cell, choice)) for choice in choices]

    def read_all(
        self, cells: Cells, collector: Sink | None, patterns: Patterns, asked: Asked | None = None
    ) -> Reading:
        """Read what is stored of a request: by regions where that can be, else cell by cell.

        Parameters
        ----------
        cells : Cells
            The request.
        collector : Sink or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        patterns : Patterns
            What is known of the cache's files.
        asked : Asked, optional
            Which cells are to be read; all of them, and whole, by default.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        reading = Reading(cells)
        alone = collector is None or collector.by_chunk or not self._order
        for rank, points in asked.parts if asked is not None else ():
            self.read(rank, cells.at(rank), collector, reading, points)
        if collector is None or alone or not (self._store.plain and cells.simple):
            chosen: Iterable[tuple[int, Cell]] = enumerate(cells)
            if asked is not None:
                chosen = ((rank, cells.at(rank)) for rank in np.flatnonzero(asked.whole).tolist())
            for rank, cell in chosen:
                self.read(rank, cell, collector, reading)
            return reading
        told = self._learn, self._listed
        regions = RegionReader(self._store, self._bins, self._order, collector, patterns, *told)
        found = regions.read(cells, None if asked is None else asked.whole)
        reading.total_chunks += found.chunks
        reading.cached_chunks += found.chunks
        reading.total_points += found.points
        reading.cached_points += found.points
        reading.bytes_read += found.nbytes
        for rank in found.left:
            self.read(rank, cells.at(rank), collector, reading)
        reading.total_chunks += len(found.absent)
        reading.total_points += cells.points_of(found.absent)
        reading.missing.extend(found.absent)
        reading.missing.sort()
        return reading

    def read(
        self, rank: int, cell: Cell, collector: Sink | None, reading: Reading, points: IntArray | None = None
    ) -> None:
        """Read what is stored of one cell.

        Parameters
        ----------
        rank : int
            Its rank in the request.
        cell : Cell
            The cell.
        collector : Sink or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        reading : Reading
            Takes note of what was found.
        points : ndarray of intp, optional
            Row-major positions in the cell of the points wanted; all of them by default.
        """
        wanted = cell.points if points is None else len(points)
        reading.total_chunks += 1
        reading.total_points += wanted
        candidates = self._candidates(cell)
        pieces: list[_Piece] = []
        for _ in range(_TRIES):
            if self._read_complete(rank, candidates, collector, reading, points):
                return
            try:
                pieces = self._find_parts(candidates, points)
                break
            except FileNotFoundError:
                continue
        found = sum(len(piece.points) for piece in pieces)
        # Parts are removed once the complete file is there: what they lack now, it may have.
        if found < wanted and self._read_complete(rank, candidates, collector, reading, points):
            return
        for piece in pieces:
            reading.bytes_read += piece.part.nbytes
            if collector is not None:
                self._learned(piece.part.block)
                collector.add(rank, cell, piece.part.block.taken(piece.rows), piece.points)
        reading.cached_points += found
        if found == wanted:
            reading.cached_chunks += 1
            return
        reading.partial_chunks += found > 0
        missing = ~_covered(cell, points)
        for piece in pieces:
            missing[piece.points] = False
        reading.missing.add(rank, None if missing.all() else np.flatnonzero(missing))

    def _learned(self, block: Block) -> None:
        if self._learn is not None:
            self._learn(block)

    def _serves(self, cell: Cell, points: IntArray | None) -> bool:
        """Tell whether one output for all points of a cell can be taken."""
        return points is None and (self._takes_whole is None or self._takes_whole(cell))

    def _read_complete(
        self,
        rank: int,
        candidates: list[_Candidate],
        collector: Sink | None,
        reading: Reading,
        points: IntArray | None,
    ) -> bool:
        for candidate in candidates:
            ref, cell = candidate.ref, candidate.cell
            chunk = self._store.load(ref)
            if chunk is None:
                continue
            with chunk:
                opaque = chunk.constant["kind"] == "opaque"
                if opaque and not self._serves(cell, points):
                    continue
                if collector is not None:
                    block = self._store.block(ref, chunk, candidate.positions())
                    if block is None:
                        continue
                    self._learned(block)
                    collector.add(rank, cell, block if points is None else block.taken(points), points)
                elif opaque and cell.points < ref.points:
                    continue
                reading.bytes_read += chunk.nbytes
            reading.cached_chunks += 1
            reading.cached_points += cell.points if points is None else len(points)
            return True
        return False

    def _find_parts(self, candidates: list[_Candidate], points: IntArray | None) -> list[_Piece]:
        """Read parts; return what each holds of the cell that those before it do not."""
        pieces = []
        covered = _covered(candidates[0].cell, points)
        for candidate in candidates:
            parts = self._store.parts(candidate.ref)
            wanted = candidate.points() if parts else None
            for part in parts:
                if part.block.kind == "opaque" and not self._serves(candidate.cell, points):
                    continue
                rows = _rows_of(part, wanted)
                take = np.flatnonzero((rows >= 0) & ~covered)
                if len(take):
                    covered[take] = True
                    pieces.append(_Piece(part, rows[take], take))
        return pieces


def _covered(cell: Cell, points: IntArray | None) -> npt.NDArray[np.bool_]:
    """Tell which points of a cell nobody wants."""
    covered = np.full(cell.points, points is not None)
    if points is not None:
        covered[points] = False
    return covered


def _rows_of(part: Part, wanted: Any) -> IntArray:
    """Return the row of a part at which each wanted point stands, -1 where it does not."""
    points = part.points
    if part.block.kind == "opaque" and not np.array_equal(points, wanted):
        return np.full(len(wanted), -1)
    order = np.argsort(points, kind="stable")
    place = np.minimum(np.searchsorted(points[order], wanted), len(points) - 1)
    rows: IntArray = order[place]
    return np.where(points[rows] == wanted, rows, -1)


# --- several layers ------------------------------------------------------------------------------------------


def read_layers(
    layers: Sequence[Layer],
    cells: Cells,
    collector: Collector | None,
    learn: Callable[[Block], None] | None = None,
    wanted: _Flags | None = None,
    listed: Set[str] | None = None,
    nearby: Callable[[], Sequence[Nearby]] = tuple,
) -> Reading:
    """Read what is stored of a request in any layer.

    Parameters
    ----------
    layers : sequence of Layer
        The layers, newest first.
    cells : Cells
        The request, as the first of them has it.
    collector : Collector or None
        Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
    learn : callable, optional
        Called with each block of the cache's own layers.
    wanted : ndarray of bool, optional
        For each point of the request whether it is wanted; all of them by default.
    listed : set of str, optional
        The names of all chunks of which the first stores something, where they were listed a moment ago.
    nearby : callable, optional
        Returns the points that form no grid; called where points miss.

    Returns
    -------
    Reading
        What was found and what was not; missing are points that no layer holds, in cells of the first.
    """
    top, *others = layers
    reader = Reader(top.store, cells.bins, cells.selection.order, learn, listed=listed)
    asked = None
    if wanted is not None:
        home = _home(top, cells)
        asked = home.asked(home.of_points(wanted))
    reading = reader.read_all(cells, collector, top.patterns, asked)
    if not reading.missing:
        return reading
    scattered = nearby()
    if not others and not scattered:
        return reading
    home = _home(top, cells)
    request = home.request
    wanted = np.ones(request.shape, bool) if wanted is None else wanted.copy()
    if reading.cached_points:
        wanted[...] = False
        own = home.of_points(wanted)
        for rank, _, points in reading.missing:
            home.mark(own, home.index_of(rank), points)
        home.put(wanted, own)

    def look(view: View, local: _Flags, hidden: _Flags | None) -> _Flags:
        asked = local if hidden is None else local & ~hidden
        left = _read_view(view, home, asked, collector, learn, reading)
        return asked & ~left

    walk([layer for layer in others if not layer.hidden], request, wanted, look)
    for points_of in scattered if wanted.any() else ():
        reading.bytes_read += points_of.fill(home, wanted, collector, learn)
    left = home.left(home.of_points(wanted)) if wanted.any() else ()
    reading.missing = Gaps(cells)
    for rank, _, points in left:
        reading.missing.add(rank, points)
    reading.missing.sort()
    reading.cached_points = reading.total_points - int(wanted.sum())
    reading.partial_chunks = reading.missing.in_part
    reading.cached_chunks = reading.total_chunks - len(reading.missing)
    return reading


def _home(top: Layer, cells: Cells) -> View:
    """Return all that is asked of the first layer."""
    return View(top, Request(cells.selection), cells, [None] * len(cells.axes), {})


def _read_view(
    view: View,
    home: View,
    wanted: _Flags,
    collector: Collector | None,
    learn: Callable[[Block], None] | None,
    reading: Reading,
) -> _Flags:
    """Read the points of one layer that are wanted; return those that were not found."""
    left = np.zeros_like(wanted)
    if not wanted.any():
        return left
    alike = view.layer.own and view.straight
    sink = None if collector is None else collector if alike else _Moving(collector, view, home)
    takes_whole = None if alike else lambda cell: home.same_cell(view.numbers_of(cell)) is not None
    known = learn if view.layer.own else None
    reader = Reader(view.layer.store, view.cells.bins, view.cells.selection.order, known, takes_whole)
    found = reader.read_all(view.cells, sink, view.layer.patterns, view.asked(wanted))
    for rank, _, points in found.missing:
        view.mark(left, view.index_of(rank), points)
    reading.bytes_read += found.bytes_read
    return left


@dataclass(frozen=True, slots=True, eq=False)
class _Moving:
    """Moves outputs of another layer's cells to where the request has them."""

    collector: Collector
    view: View
    """What was asked of the layer."""
    home: View
    """What was asked of the layer that the request's cells belong to."""

    @property
    def by_chunk(self) -> bool:
        """Whether an entry is kept for each cell of the request."""
        return self.collector.by_chunk

    def add(self, rank: int, cell: Cell, block: Block, points: IntArray | None = None) -> None:
        """Take a block of one of the layer's cells."""
        if block.kind == "opaque":
            index = self.home.same_cell(self.view.numbers_of(cell))
            assert index is not None
            self.collector.add(self.home.rank_of(index), self.home.cells.in_grid_order(index), block)
        elif self.by_chunk:
            self._add_by_chunk(cell, block, points)
        else:
            self.collector.add(rank, self.view.in_request(cell), block, points)

    def _add_by_chunk(self, cell: Cell, block: Block, points: IntArray | None) -> None:
        """Hand each cell of the request what the block holds of it."""
        where = self.home.where(self.view.numbers_of(cell))
        shape = tuple(len(cells) for cells, _ in where)
        rows = np.arange(block.count) if points is None else points
        at = np.unravel_index(rows, shape) if shape else ()
        along = [cells[i] for (cells, _), i in zip(where, at, strict=True)]
        within = [places[i] for (_, places), i in zip(where, at, strict=True)]
        indices = np.ravel_multi_index(along, self.home.counts) if along else np.zeros(1, np.intp)
        for index in np.unique(indices).tolist():
            chosen = np.flatnonzero(indices == index)
            own = self.home.cells.in_grid_order(index)
            places = [positions[chosen] for positions in within]
            flat = np.ravel_multi_index(places, own.shape) if places else np.zeros(1, np.intp)
            self.collector.add(self.home.rank_of(index), own, block.taken(chosen), flat)

    def add_region(self, place: RegionPlace, kind: str, columns: Mapping[Any, Column]) -> bool:
        """Take the outputs of many chunks at once."""
        own = iter(zip(place.runs, place.ranges, self.view.kept, strict=True))
        runs = [
            _pinned_run(self.view.pinned[axis]) if axis in self.view.pinned else _moved_run(*next(own))
            for axis in range(len(self.view.ends))
        ]
        whole = [(0, len(run)) for run in runs]
        return self.collector.add_region(RegionPlace(runs, whole), kind, self._widened(columns))

    def _widened(self, columns: Mapping[Any, Column]) -> Mapping[Any, Column]:
        """Give arrays two dimensions of length one, chunks and points, for each axis that the layer lacks."""
        axes = len(self.view.ends)
        lacking = [*self.view.pinned, *(axes + axis for axis in self.view.pinned)]
        if not lacking:
            return columns
        return {
            name: Column(
                column.form,
                column.tree,
                {label: np.expand_dims(array, tuple(lacking)) for label, array in column.arrays.items()},
                True,
            )
            for name, column in columns.items()
        }


def _pinned_run(request: IntArray) -> Run:
    """Return the run of an axis that a layer lacks: one value, at these positions of the request."""
    return Run(np.zeros(1, np.intp), [0], 1, 1, request, np.zeros(len(request), np.intp))


def _moved_run(run: Run, cells: tuple[int, int], kept: IntArray | None) -> Run:
    """Return some cells of a run of a request for some values as a run of the request for all of them."""
    start, stop = cells
    width = len(run.request) // len(run)
    request = run.request[start * width : stop * width]
    return replace(
        run,
        ranks=run.ranks[start:stop],
        numbers=run.numbers[start:stop],
        request=request if kept is None else kept[request],
    )
