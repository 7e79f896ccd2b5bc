"""Regions: many whole chunks read at once, wherever a request takes cells alike.

Along each axis the cells of a request fall into runs (whole bins of one size, or a single cell that takes only
some values of its bin); a region is a product of one run per axis. All its chunks have one
shape, so that a batch of their files is checked at once and scattered by one assignment. Nothing here decides
that anything is missing or damaged: chunks that were not read are returned, and looked at one by one.

What this saves, as profiles of a cache of 10,000 chunks showed: making a reference, a manifest, a block and
index arrays for each chunk took 130 microseconds, while opening, reading and closing its file takes 7. Names
and identities of a region come from the digests of its bins at a fifth of a microsecond each. A region costs
half a millisecond besides, so a value inserted in the middle of an axis must not make three of one: it stands
between the places where values go, and that is a matter of scattering, not of reading.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chunk_memo.blockfile import check_manifest
from chunk_memo.chunks import ChunkRef, ChunkStore
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.batches import LONGEST, Batch, Template
from chunk_memo.errors import ChunkMemoError
from chunk_memo.grid import Bins, IntArray
from chunk_memo.identity import from_jsonable
from chunk_memo.outputs import Block, Column, PointCoords
from chunk_memo.placing import RegionPlace
from chunk_memo.selection import Cell, Cells, Run

__all__ = ["Found", "Named", "Pattern", "Patterns", "RegionReader", "Sink", "pattern_of"]

_SLAB = 8192
"""So many chunks are named at once."""

_MOST_NAMED = 2 * _SLAB
"""The names of so many chunks are kept for the next call."""

_MOST_PATTERNS = 8
"""So many templates of one shape are tried before the rest is read one by one."""

_PROBES = 8
"""After so many files that are not there a listing tells which others are not."""

_CHEAPER = 256
"""So many names are listed in the time that it takes to look for one chunk in all places."""

Ranges = list[tuple[int, int]]
Source = tuple[str, np.dtype[Any], tuple[int, ...], int, int]
"""An array of a column: its name there, dtype, the shape and size of one row, and where it begins in the file."""

_Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """What all files of one template and kind of output have in common."""

    template: Template
    """The bytes that they share."""
    kind: str
    """The kind of output."""
    columns: Sequence[tuple[Any, str, Any, dict[str, str]]]
    """For each column its name, its form, its tree, and its arrays' names in the file."""
    turn: tuple[int, ...] | None
    """For each axis of the reader its place in the file; None where they are the same."""
    rows: Sequence[tuple[Any, str, Any, Sequence[Source]]]
    """The columns again, with what one row of each of their arrays is."""
    single: tuple[np.dtype[Any], tuple[int, ...], int, int] | None
    """Where outputs are one array of plain numbers: dtype and shape of a result of one point, where the first
    begins in a file, and the bytes from each to the next."""

    def values(self, batch: Batch, count: int) -> dict[Any, Column]:
        """Return the columns of the files read last, chunks in the first dimension, axes in the reader's order.

        Parameters
        ----------
        batch : Batch
            What read them.
        count : int
            How many files were read.

        Returns
        -------
        dict
            Columns by name, as views of the batch's buffer.
        """
        arrays = {name: self._turned(array) for name, array in batch.arrays(count).items()}
        return {
            column: Column(form, tree, {label: arrays[name] for label, name in where.items()}, True)
            for column, form, tree, where in self.columns
        }

    def _turned(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.turn is None:
            return array
        axes = len(self.turn)
        return array.transpose(0, *(1 + place for place in self.turn), *range(1 + axes, array.ndim))


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """Some chunks of a cache: every product of some bins of each axis, row-major."""

    names: list[str]
    """Their names."""
    identities: npt.NDArray[np.uint8]
    """Their identities, one in each row."""
    usual: list[str]
    """Where in ``chunks/`` their complete files usually lie."""
    other: list[str]
    """Where they may lie else."""
    bins: Bins
    """The table that gave them their names."""


class Patterns:
    """What is known of a cache's files, kept from call to call.

    These are the patterns by the shape of chunks, and the names of the chunks that were asked for last.
    """

    def __init__(self) -> None:
        self._known: dict[Any, list[Pattern]] = {}
        self._named: OrderedDict[Any, Named] = OrderedDict()
        self._count = 0

    def named(
        self, store: ChunkStore, order: tuple[str, ...], numbers: Sequence[Sequence[int]], bins: Bins
    ) -> Named:
        """Return names, identities and paths of many chunks.

        Parameters
        ----------
        store : ChunkStore
            The cache's chunks.
        order : tuple of str
            Names of the axes in axis order.
        numbers : sequence of sequence of int
            For each axis the numbers of the bins.
        bins : Bins
            The table that the numbers refer to.

        Returns
        -------
        Named
            The chunks.
        """
        key = (id(bins), store.spread, order, *map(tuple, numbers))
        found = self._named.get(key)
        if found is None:
            names, identities = store.named(order, numbers, bins)
            found = self._named[key] = Named(names, identities, *store.places(names), bins)
            self._count += len(names)
            while self._count > _MOST_NAMED and len(self._named) > 1:
                self._count -= len(self._named.popitem(last=False)[1].names)
        return found

    def of(self, key: Any) -> list[Pattern]:
        """Return the patterns of chunks of one shape, the one that served last first.

        Parameters
        ----------
        key : object
            Axis order and shape.

        Returns
        -------
        list of Pattern
            The patterns; to be added to.
        """
        return self._known.setdefault(key, [])


def pattern_of(data: bytes, ref: ChunkRef) -> Pattern | None:
    """Return the pattern of a file, if others like it can be read in batches.

    Parameters
    ----------
    data : bytes
        The bytes of the whole file.
    ref : ChunkRef
        The chunk that it should be.

    Returns
    -------
    Pattern or None
        The pattern; None for anything that is to be read alone.
    """
    try:
        chunk = chunkfile.parse(data)
        check_manifest(chunk)
    except ChunkMemoError:
        return None
    constant = chunk.constant
    names = tuple(axis[0] for axis in constant["axes"])
    if constant["kind"] == "opaque" or constant["part"] is not None or sorted(names) != sorted(ref.order):
        return None
    if chunk.identity != ref.identity or not all(pointwise for _, _, _, pointwise, _ in constant["columns"]):
        return None
    columns = [(from_jsonable(name), form, tree, where) for name, form, tree, _, where in constant["columns"]]
    wanted = [name for _, _, _, where in columns for name in where.values()]
    sizes = tuple(ref.sizes[ref.order.index(name)] for name in names)
    if any(chunk.shape(name)[: len(sizes)] != sizes for name in wanted):
        return None
    template = Template.of(data, chunk, wanted)
    if template is None:
        return None
    rows = [(n, form, tree, _sources(where, template, len(names))) for n, form, tree, where in columns]
    turn = None if names == ref.order else tuple(names.index(name) for name in ref.order)
    single = _single(constant["kind"], columns, template, len(names))
    return Pattern(template, constant["kind"], columns, turn, rows, single)


def _single(
    kind: str, columns: Sequence[tuple[Any, str, Any, dict[str, str]]], template: Template, axes: int
) -> tuple[np.dtype[Any], tuple[int, ...], int, int] | None:
    if kind not in ("grid", "flat") or len(columns) != 1:
        return None
    ((_, form, tree, where),) = columns
    if form != "array" or set(tree) != {"k", "a"} or tree["k"] != "whole":
        return None
    extent = template.extents[where[tree["a"]]]
    trailing = extent.shape[axes:]
    return extent.dtype, (1,) * axes + trailing, extent.offset, math.prod(trailing) * extent.dtype.itemsize


def _sources(where: dict[str, str], template: Template, axes: int) -> list[Source]:
    sources = []
    for label, name in where.items():
        extent = template.extents[name]
        trailing = extent.shape[axes:]
        sources.append((label, extent.dtype, trailing, math.prod(trailing), extent.offset))
    return sources


@dataclass(slots=True)
class Found:
    """What was read by regions, and what is left."""

    chunks: int = 0
    """Number of chunks read."""
    points: int = 0
    """Number of points read."""
    nbytes: int = 0
    """Bytes of files read."""
    left: list[int] = field(default_factory=list)
    """Ranks of cells of which something may be stored, and that were not read."""
    absent: list[int] = field(default_factory=list)
    """Ranks of cells of which nothing is stored."""


@dataclass(frozen=True, slots=True, eq=False)
class _Slab:
    """Some chunks of a region, named."""

    runs: Sequence[Run]
    ranges: Ranges
    chunks: Named
    ranks: _Numbers

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.ranges)

    @property
    def points(self) -> int:
        """Number of distinct points asked of each chunk."""
        return math.prod(run.values for run in self.runs)

    @property
    def place(self) -> RegionPlace:
        return RegionPlace(self.runs, self.ranges)


class Sink(Protocol):
    """What takes outputs: the collector of a request, or what stands before it for another layer's cells."""

    @property
    def by_chunk(self) -> bool:
        """Whether an entry is kept for each cell."""

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

    def add_region(self, place: RegionPlace, kind: str, columns: Mapping[Any, Column]) -> bool:
        """Take the outputs of many chunks at once, where that can be.

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


class RegionReader:
    """Reads the regions of one request.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    bins : Bins
        The bins that cells refer to.
    order : tuple of str
        Names of the axes in axis order.
    collector : Sink
        Takes the outputs.
    patterns : Patterns
        What is known of the cache's files.
    learn : callable, optional
        Called with the first block read.
    listed : set of str, optional
        The names of all chunks of which something is stored, where they were listed a moment ago.
    """

    def __init__(
        self,
        store: ChunkStore,
        bins: Bins,
        order: tuple[str, ...],
        collector: Sink,
        patterns: Patterns,
        learn: Callable[[Block], None] | None = None,
        listed: Set[str] | None = None,
    ) -> None:
        self._store = store
        self._bins = bins
        self._order = order
        self._collector = collector
        self._patterns = patterns
        self._learn: Callable[[Block], None] | None = learn
        self._home = store.folder.chunks
        self._batches: dict[int, Batch] = {}
        self._listed = listed
        self._too_few = 0
        self.found = Found()

    def read(self, cells: Cells, wanted: npt.NDArray[np.bool_] | None = None) -> Found:
        """Read all regions of a request.

        Parameters
        ----------
        cells : Cells
            The request; each value has one bin, and no chunks were named one by one.
        wanted : ndarray of bool, optional
            For each cell whether it is to be read; all are by default.

        Returns
        -------
        Found
            What was read, and what is left.
        """
        shape = tuple(map(len, cells.axes))
        try:
            for runs in itertools.product(*(axis.runs() for axis in cells.axes)):
                for ranges, _, _ in _split([len(run) for run in runs], _SLAB):
                    ranks = _ranks(runs, ranges, shape)
                    todo = np.ones(len(ranks), bool) if wanted is None else wanted[ranks]
                    if todo.any():
                        self._read_slab(self._slab(runs, ranges, ranks), todo)
        finally:
            for batch in self._batches.values():
                batch.leave()
            self._batches = {}
        return self.found

    def _slab(self, runs: Sequence[Run], ranges: Ranges, ranks: _Numbers) -> _Slab:
        numbers = [run.numbers[start:stop] for run, (start, stop) in zip(runs, ranges, strict=True)]
        chunks = self._patterns.named(self._store, self._order, numbers, self._bins)
        return _Slab(runs, ranges, chunks, ranks)

    def _read_slab(self, slab: _Slab, todo: npt.NDArray[np.bool_]) -> None:
        gone = self._read_paths(slab, slab.chunks.usual, todo)
        if gone.any():
            here = self._present(slab, np.flatnonzero(gone))
            self.found.absent += slab.ranks[gone & ~here].tolist()
            todo &= ~gone | here
            if here.any():
                moved = todo & here
                left = todo & ~here
                self._read_paths(slab, slab.chunks.other, moved)
                todo = moved | left
        self.found.left += slab.ranks[todo].tolist()

    def _present(self, slab: _Slab, rows: _Numbers) -> npt.NDArray[np.bool_]:
        """Tell of which chunks, whose file is not in its usual place, something may be stored all the same."""
        here = np.zeros(len(slab.ranks), bool)
        listed = self._listing(_CHEAPER * len(rows))
        here[rows] = True if listed is None else [slab.chunks.names[row] in listed for row in rows.tolist()]
        return here

    def _listing(self, limit: int) -> Set[str] | None:
        """Return the names of which something is stored; None where there are more files than the limit."""
        if self._listed is None and limit > self._too_few:
            stored = self._store.folder.stored(limit)
            self._listed = None if stored is None else set().union(*stored)
            self._too_few = limit
        return self._listed

    def _read_paths(self, slab: _Slab, paths: list[str], todo: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Read what is still to be read at these paths, and strike it off; return which files are not there."""
        gone = np.zeros(len(paths), bool)
        known = self._patterns.of((self._order, tuple([run.size for run in slab.runs])))
        for pattern in [*known]:
            self._read_alike(pattern, slab, paths, todo, gone)
            if not (todo & ~gone).any():
                return gone
        odd = iter(np.flatnonzero(todo & ~gone).tolist())
        while len(known) < _MOST_PATTERNS:
            fresh = self._next_pattern(slab, paths, odd, todo, gone)
            if fresh is None:
                break
            known.append(fresh)
            self._read_alike(fresh, slab, paths, todo, gone)
        return gone

    def _next_pattern(
        self,
        slab: _Slab,
        paths: list[str],
        rows: Iterator[int],
        todo: npt.NDArray[np.bool_],
        gone: npt.NDArray[np.bool_],
    ) -> Pattern | None:
        """Read files one after the other until one shows what others may be like."""
        probes = _PROBES if self._listed is None else 0
        for row in rows:
            if probes == 0:
                gone |= todo & ~self._present(slab, np.flatnonzero(todo))
                probes = -1
            if not todo[row] or gone[row]:
                continue
            try:
                data, status = files.read_file(self._home + paths[row], LONGEST)
            except (FileNotFoundError, NotADirectoryError):
                gone[row] = True
                probes -= 1
                continue
            except OSError:
                continue
            if status.size > LONGEST:
                return None
            ref = self._store.ref(self._order, self._numbers(slab, row), self._bins)
            pattern = pattern_of(data, ref)
            if pattern is not None:
                return pattern
        return None

    def _numbers(self, slab: _Slab, row: int) -> tuple[int, ...]:
        within = np.unravel_index(row, slab.counts) if slab.runs else ()
        pairs = zip(slab.runs, slab.ranges, within, strict=True)
        return tuple(run.numbers[start + int(place)] for run, (start, _), place in pairs)

    def _read_alike(
        self,
        pattern: Pattern,
        slab: _Slab,
        paths: list[str],
        todo: npt.NDArray[np.bool_],
        gone: npt.NDArray[np.bool_],
    ) -> None:
        """Read the files that fit a pattern, batch by batch."""
        batch = self._batches.get(id(pattern))
        if batch is None:
            batch = self._batches[id(pattern)] = Batch.taken(pattern.template, len(paths))
        still = todo & ~gone
        everything = bool(still.all())
        for ranges, start, stop in _split(slab.counts, batch.room):
            rows = np.arange(stop - start) if everything else np.flatnonzero(still[start:stop])
            if not len(rows):
                continue
            some = slice(start, stop) if len(rows) == stop - start else rows + start
            wanted = paths[some] if isinstance(some, slice) else [paths[row] for row in some.tolist()]
            good, counts = batch.read(self._home, wanted, slab.chunks.identities[some])
            taken = self._take(pattern, batch, slab.place.part(ranges), rows, good)
            number = int(taken.sum())
            todo[some] = ~taken
            if number < len(rows):
                gone[some] = np.array(counts) == -1
            self.found.chunks += number
            self.found.points += number * slab.points
            self.found.nbytes += number * pattern.template.size

    def _take(
        self,
        pattern: Pattern,
        batch: Batch,
        place: RegionPlace,
        rows: _Numbers,
        good: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """Hand what was read to the collector; return which files it took."""
        columns = pattern.values(batch, len(good))
        if self._learn is not None and good.any():
            self._learn(_first_block(pattern, columns, int(good.argmax()), len(place.runs)))
            self._learn = None
        if good.all() and len(good) == math.prod(place.counts):
            return good if self._add(pattern, place, columns, slice(None)) else np.zeros_like(good)
        taken = np.zeros_like(good)
        slots = np.flatnonzero(good)
        for low, high in _stretches(rows[slots], slots):
            first = int(slots[low]) - int(rows[slots[low]])  # slots and rows keep step
            for ranges, start, stop in _cut(place.counts, int(rows[slots[low]]), int(rows[slots[high - 1]]) + 1):
                span = slice(start + first, stop + first)
                taken[span] = self._add(pattern, place.part(ranges), columns, span)
        return taken

    def _add(self, pattern: Pattern, place: RegionPlace, columns: dict[Any, Column], slots: slice) -> bool:
        chosen = {
            name: Column(
                column.form,
                column.tree,
                {
                    label: array[slots].reshape((*place.counts, *array.shape[1:]))
                    for label, array in column.arrays.items()
                },
                True,
            )
            for name, column in columns.items()
        }
        return self._collector.add_region(place, pattern.kind, chosen)


def _ranks(runs: Sequence[Run], ranges: Ranges, shape: tuple[int, ...]) -> _Numbers:
    """Return the ranks in the request of some chunks of a region."""
    along = (run.ranks[start:stop] for run, (start, stop) in zip(runs, ranges, strict=True))
    return np.ravel_multi_index(np.ix_(*along), shape).reshape(-1) if runs else np.zeros(1, np.intp)


def _first_block(pattern: Pattern, columns: dict[Any, Column], slot: int, axes: int) -> Block:
    """Return the outputs of one file, for what they tell of all of them."""
    made, count = {}, 1
    for name, column in columns.items():
        arrays = {}
        for label, array in column.arrays.items():
            count = math.prod(array.shape[1 : 1 + axes])
            arrays[label] = array[slot].reshape(count, *array.shape[1 + axes :])
        made[name] = Column(column.form, column.tree, arrays, True)
    return Block(pattern.kind, count, made, PointCoords((), ()))


def _stretches(rows: _Numbers, slots: _Numbers) -> Iterator[tuple[int, int]]:
    """Cut two ascending rows of numbers, side by side, into stretches in which both rise by one."""
    cuts = np.flatnonzero((np.diff(rows) != 1) | (np.diff(slots) != 1)) + 1
    return itertools.pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else [])


def _cut(counts: Sequence[int], start: int, stop: int) -> Iterator[tuple[Ranges, int, int]]:
    """Cut a stretch of a box's row-major order into boxes; yield them as :func:`_split` does."""
    if not counts:
        yield [], start, stop
        return
    inner = math.prod(counts[1:])
    whole = [(0, count) for count in counts[1:]]
    while start < stop:
        row, within = divmod(start, inner)
        rows = (stop - start) // inner if not within else 0
        if rows:
            yield [(row, row + rows), *whole], start, start + rows * inner
            start += rows * inner
            continue
        end = min(stop, (row + 1) * inner)
        for ranges, low, high in _cut(counts[1:], within, end - row * inner):
            yield [(row, row + 1), *ranges], row * inner + low, row * inner + high
        start = end


def _split(counts: Sequence[int], most: int) -> Iterator[tuple[Ranges, int, int]]:
    """Cut a box into boxes of at most so many items, each a stretch of the row-major order.

    Yields the range along each dimension, and where the stretch begins and ends.
    """
    axis, inner = len(counts), 1
    while axis > 0 and inner * counts[axis - 1] <= most:
        axis -= 1
        inner *= counts[axis]
    whole = [(0, count) for count in counts[axis:]]
    if axis == 0:
        yield whole, 0, inner
        return
    most = max(1, most // inner)
    step, begin = -(-counts[axis - 1] // -(-counts[axis - 1] // most)), 0
    for outer in itertools.product(*(range(count) for count in counts[: axis - 1])):
        fixed = [(i, i + 1) for i in outer]
        for start in range(0, counts[axis - 1], step):
            stop = min(start + step, counts[axis - 1])
            yield [*fixed, (start, stop), *whole], begin, begin + (stop - start) * inner
            begin += (stop - start) * inner
