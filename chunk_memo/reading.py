"""Reading cells: whole chunks first, then parts, and what neither holds.

Nothing is looked up before it is opened: a complete file that is not there is a miss, and only then are parts
listed. A part that vanishes in between means that somebody folded it, so the complete file is tried again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chunk_memo.chunks import ChunkRef, ChunkStore, Part
from chunk_memo.grid import Bins, IntArray
from chunk_memo.outputs import Block, Collector
from chunk_memo.regions import Patterns, RegionReader
from chunk_memo.selection import Cell, Cells
from chunk_memo.tasks import Missing

__all__ = ["Reader", "Reading"]

_TRIES = 3
"""How often a part that vanished sends a reader back to the complete file."""


@dataclass(slots=True)
class Reading:
    """What a read found, and what it did not."""

    total_chunks: int = 0
    """Number of chunks that the request touches."""
    cached_chunks: int = 0
    """Number of chunks from which everything asked was read."""
    partial_chunks: int = 0
    """Number of chunks of which some of the points asked are stored."""
    total_points: int = 0
    """Number of distinct points asked for."""
    plan_seconds: float = 0.0
    """Seconds spent before the first file was opened."""
    cached_points: int = 0
    """Number of distinct points read."""
    bytes_read: int = 0
    """Bytes of the files read."""
    missing: list[Missing] = field(default_factory=list)
    """Cells that miss points."""


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
    """

    def __init__(
        self,
        store: ChunkStore,
        bins: Bins,
        order: tuple[str, ...],
        learn: Callable[[Block], None] | None = None,
    ) -> None:
        self._store = store
        self._bins = bins
        self._order = order
        self._learn = learn

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

    def read_all(self, cells: Cells, collector: Collector | None, patterns: Patterns) -> Reading:
        """Read what is stored of a request: by regions where that can be, else cell by cell.

        Parameters
        ----------
        cells : Cells
            The request.
        collector : Collector or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        patterns : Patterns
            What is known of the cache's files.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        reading = Reading()
        alone = collector is None or collector.by_chunk or not self._order
        if collector is None or alone or not (self._store.plain and cells.simple):
            for rank, cell in enumerate(cells):
                self.read(rank, cell, collector, reading)
            return reading
        regions = RegionReader(self._store, self._bins, self._order, collector, patterns, self._learn)
        found = regions.read(cells)
        reading.total_chunks = reading.cached_chunks = found.chunks
        reading.total_points = reading.cached_points = found.points
        reading.bytes_read = found.nbytes
        for rank in found.left:
            self.read(rank, cells.at(rank), collector, reading)
        for rank in found.absent:
            cell = cells.at(rank)
            reading.total_chunks += 1
            reading.total_points += cell.points
            reading.missing.append((rank, cell, None))
        reading.missing.sort(key=operator.itemgetter(0))
        return reading

    def read(self, rank: int, cell: Cell, collector: Collector | None, reading: Reading) -> None:
        """Read what is stored of one cell.

        Parameters
        ----------
        rank : int
            Its rank in the request.
        cell : Cell
            The cell.
        collector : Collector or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        reading : Reading
            Takes note of what was found.
        """
        reading.total_chunks += 1
        reading.total_points += cell.points
        candidates = self._candidates(cell)
        pieces: list[_Piece] = []
        for _ in range(_TRIES):
            if self._read_complete(rank, candidates, collector, reading):
                return
            try:
                pieces = self._find_parts(candidates)
                break
            except FileNotFoundError:
                continue
        found = sum(len(piece.points) for piece in pieces)
        # Parts are removed once the complete file is there: what they lack now, it may have.
        if found < cell.points and self._read_complete(rank, candidates, collector, reading):
            return
        for piece in pieces:
            reading.bytes_read += piece.part.nbytes
            if collector is not None:
                self._learned(piece.part.block)
                collector.add(rank, cell, piece.part.block.taken(piece.rows), piece.points)
        reading.cached_points += found
        if found == cell.points:
            reading.cached_chunks += 1
            return
        reading.partial_chunks += found > 0
        missing = np.ones(cell.points, bool)
        for piece in pieces:
            missing[piece.points] = False
        reading.missing.append((rank, cell, np.flatnonzero(missing) if found else None))

    def _learned(self, block: Block) -> None:
        if self._learn is not None:
            self._learn(block)

    def _read_complete(
        self, rank: int, candidates: list[_Candidate], collector: Collector | None, reading: Reading
    ) -> bool:
        for candidate in candidates:
            ref, cell = candidate.ref, candidate.cell
            chunk = self._store.load(ref)
            if chunk is None:
                continue
            with chunk:
                if collector is not None:
                    block = self._store.block(ref, chunk, candidate.positions())
                    if block is None:
                        continue
                    self._learned(block)
                    collector.add(rank, cell, block)
                elif chunk.constant["kind"] == "opaque" and cell.points < ref.points:
                    continue
                reading.bytes_read += chunk.nbytes
            reading.cached_chunks += 1
            reading.cached_points += cell.points
            return True
        return False

    def _find_parts(self, candidates: list[_Candidate]) -> list[_Piece]:
        """Read parts; return what each holds of the cell that those before it do not."""
        pieces = []
        covered = np.zeros(candidates[0].cell.points, bool)
        for candidate in candidates:
            parts = self._store.parts(candidate.ref)
            wanted = candidate.points() if parts else None
            for part in parts:
                rows = _rows_of(part, wanted)
                take = np.flatnonzero((rows >= 0) & ~covered)
                if len(take):
                    covered[take] = True
                    pieces.append(_Piece(part, rows[take], take))
        return pieces


def _rows_of(part: Part, wanted: Any) -> IntArray:
    """Return the row of a part at which each wanted point stands, -1 where it does not."""
    points = part.points
    if part.block.kind == "opaque" and not np.array_equal(points, wanted):
        return np.full(len(wanted), -1)
    order = np.argsort(points, kind="stable")
    place = np.minimum(np.searchsorted(points[order], wanted), len(points) - 1)
    rows: IntArray = order[place]
    return np.where(points[rows] == wanted, rows, -1)
