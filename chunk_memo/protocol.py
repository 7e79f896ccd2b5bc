"""A user's own cache: what it must have, and the adapter that turns it into plan, read and write."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, Written
from chunk_memo.disk.files import Syncer
from chunk_memo.errors import SignatureError
from chunk_memo.grid import Bins, ChunkKey, Grid, IntArray, make_axis
from chunk_memo.identity import canonical_bytes, canonical_many
from chunk_memo.outputs import Block, Collector, PointCoords, make_block
from chunk_memo.reading import Reading
from chunk_memo.selection import Cell, Cells, Selection, select
from chunk_memo.tasks import Missing, Task, tasks_for

__all__ = ["PROTOCOL_METHODS", "CacheProtocol", "ProtocolCache", "RunnerContext"]


@runtime_checkable
class RunnerContext(Protocol):
    """Settings that a runner looks at; a :class:`ChunkCache` has them too."""

    verbose: int
    """0 hides the progress bar."""
    profile: bool
    """Whether to log where the seconds went."""
    collate_fn: Callable[[list[Any]], Any] | None
    """Puts chunk outputs together."""


@runtime_checkable
class CacheProtocol(Protocol):
    """The methods that an object needs to be run like a :class:`ChunkCache`.

    A chunk key is a tuple of (axis name, values) pairs. A payload is a dict whose ``items`` map
    ``item_hash(chunk_key, point)`` to outputs.
    """

    def cache_status(self) -> Mapping[str, Any]:
        """Return at least ``axis_values``, ``axis_order``, ``cached_chunks`` and ``missing_chunks``.

        Returns
        -------
        mapping
            The chunk keys of both lists together are the grid.
        """

    def write_metadata(self) -> Path:
        """Write what describes the cache.

        Returns
        -------
        Path
            Where.
        """

    def chunk_hash(self, chunk_key: ChunkKey) -> str:
        """Return the hash of a chunk.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.

        Returns
        -------
        str
            Its hash.
        """

    def resolve_cache_path(self, chunk_key: ChunkKey, chunk_hash: str) -> Path:
        """Return where a chunk is kept.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.
        chunk_hash : str
            Its hash.

        Returns
        -------
        Path
            Its path.
        """

    def load_payload(self, path: Path) -> dict[str, Any] | None:
        """Return what is kept at a path.

        Parameters
        ----------
        path : Path
            The path of a chunk.

        Returns
        -------
        dict or None
            Its payload; None where there is none.
        """

    def write_chunk_payload(
        self, path: Path, payload: Mapping[str, Any], *, existing: Mapping[str, Any] | None = None
    ) -> Path:
        """Keep a payload.

        Parameters
        ----------
        path : Path
            The path of a chunk.
        payload : mapping
            ``items`` and ``spec`` by item hash.
        existing : mapping, optional
            What was there before; its items are to be kept too.

        Returns
        -------
        Path
            The path.
        """

    def update_chunk_index(self, chunk_hash: str, chunk_key: ChunkKey) -> None:
        """Take note of a chunk that was written.

        Parameters
        ----------
        chunk_hash : str
            Its hash.
        chunk_key : ChunkKey
            The chunk.
        """

    def item_hash(self, chunk_key: ChunkKey, axis_values: Sequence[Any]) -> str:
        """Return the hash of a point.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk that it lies in.
        axis_values : sequence
            Its value on each axis, in the order of `chunk_key`.

        Returns
        -------
        str
            Its hash.
        """


PROTOCOL_METHODS = (
    "cache_status",
    "write_metadata",
    "chunk_hash",
    "resolve_cache_path",
    "load_payload",
    "write_chunk_payload",
    "update_chunk_index",
    "item_hash",
)
"""The methods of :class:`CacheProtocol`."""


class ProtocolCache:
    """The verbs of the engine, spoken to a user's own cache.

    Parameters
    ----------
    cache : CacheProtocol
        The user's object.

    Raises
    ------
    SignatureError
        Where it lacks a method.
    """

    def __init__(self, cache: Any) -> None:
        lacking = [name for name in PROTOCOL_METHODS if not callable(getattr(cache, name, None))]
        if lacking:
            raise SignatureError(
                f"{type(cache).__name__!r} cannot be run as a cache: it lacks {', '.join(lacking)};"
                f" see chunk_memo.CacheProtocol, or use ChunkCache"
            )
        self._cache = cache
        status = cache.cache_status()
        self.cache_id = str(status.get("cache_id", type(cache).__name__))
        self.name = str(getattr(cache, "name", ""))
        self.vectorize = bool(getattr(cache, "vectorize", False))
        self.keys: list[ChunkKey] = [*status["cached_chunks"], *status["missing_chunks"]]
        order = tuple(status["axis_order"])
        axes = tuple(make_axis(name, list(status["axis_values"][name])) for name in order)
        self.grid = Grid(axes, {axis.name: len(axis) for axis in axes})
        self._bins = Bins()
        self._key_of: dict[tuple[tuple[str, int], ...], ChunkKey] = {}
        self._expected: dict[str, int] = {}
        """How many blocks of a chunk are still to come; the index is told of it with the last."""
        self._untold: dict[str, ChunkKey] = {}
        for key in self.keys:
            self._add(key)

    def _add(self, key: ChunkKey) -> None:
        box = []
        for name, values in sorted(key):
            keys = canonical_many(list(values))
            box.append((name, self._bins.of(name).add(list(values), keys, regular=False)))
        self._bins.boxes.setdefault(tuple(box), len(self._bins.boxes))
        self._key_of.setdefault(tuple(box), key)

    @property
    def axis_order(self) -> tuple[str, ...]:
        """Names of the axes, in the order in which outputs run over them."""
        return self.grid.order

    def selection(self, axes: Mapping[str, Any] | None = None) -> Selection:
        """Return some values of each axis; without any, all that the cache covers.

        Parameters
        ----------
        axes : mapping, optional
            Axis name to values.

        Returns
        -------
        Selection
            The request.
        """
        return select(self.grid, axes)

    def selection_of_key(self, chunk_key: ChunkKey) -> Selection:
        """Return the points of one chunk key.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.

        Returns
        -------
        Selection
            The request.
        """
        return select(self.grid, {name: list(values) for name, values in chunk_key})

    def write_metadata(self) -> Path:
        """Let the cache write what describes it.

        Returns
        -------
        Path
            Where.
        """
        return Path(self._cache.write_metadata())

    def syncer(self) -> Syncer:
        """Return a syncer that syncs nothing, for durability is the cache's own matter.

        Returns
        -------
        Syncer
            When it is done, chunks of which only some points were stored are told to the cache's index, too.
        """
        return _Telling(self)

    def tell_index(self) -> None:
        """Tell the cache of the chunks that were written to since it was last told."""
        for name in list(self._untold):
            self._cache.update_chunk_index(name, self._untold.pop(name))

    def collector(self, selection: Selection, *, by_chunk: bool) -> Collector:
        """Return what gathers outputs.

        Parameters
        ----------
        selection : Selection
            The request.
        by_chunk : bool
            Whether to keep an entry per chunk.

        Returns
        -------
        Collector
            The collector.
        """
        return Collector(selection, by_chunk=by_chunk)

    def settle(self) -> bool:
        """Tell that nothing is gained by reading again.

        Returns
        -------
        bool
            False.
        """
        return False

    def read(
        self,
        selection: Selection,
        collector: Collector | None,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> Reading:
        """Read what the cache has.

        Parameters
        ----------
        selection : Selection
            The request.
        collector : Collector or None
            Takes the outputs.
        wanted : ndarray of bool, optional
            For each point of the request whether it is wanted; all of them by default.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        cells = Cells(selection, self._bins)
        reading = Reading(cells)
        for rank, cell in enumerate(cells):
            asked = np.arange(cell.points)
            if wanted is not None:
                flags = wanted[np.ix_(*(axis.source for axis in cell.axes))] if cell.axes else wanted
                asked = np.flatnonzero(flags)
            if not len(asked):
                continue
            reading.total_chunks += 1
            reading.total_points += len(asked)
            points, outputs = self._found(selection, cell, asked)
            reading.cached_points += len(points)
            if len(points) and collector is not None:
                collector.add(rank, cell, self._listed(selection, cell, points, outputs), points)
            if len(points) == len(asked):
                reading.cached_chunks += 1
                continue
            reading.partial_chunks += len(points) > 0
            missing = np.setdiff1d(asked, points)
            reading.missing.add(rank, missing if len(missing) < cell.points else None)
        return reading

    def _found(self, selection: Selection, cell: Cell, asked: IntArray) -> tuple[IntArray, list[Any]]:
        ref = self._ref(selection.order, self._numbers(cell))
        key = self._key(ref)
        payload = self._cache.load_payload(self._cache.resolve_cache_path(key, ref.name)) or {}
        items = payload.get("items") or {}
        points, outputs, wanted = [], [], set(asked.tolist())
        for number, point in enumerate(self._points(selection, cell)):
            if number not in wanted:
                continue
            item = self._cache.item_hash(key, tuple(point[name] for name, _ in key))
            if item in items:
                points.append(number)
                outputs.append(items[item])
        return np.asarray(points, np.intp), outputs

    def _points(self, selection: Selection, cell: Cell) -> Iterator[dict[str, Any]]:
        values = [
            [asked[i] for i in axis.source] for asked, axis in zip(selection.values, cell.axes, strict=True)
        ]
        for point in itertools.product(*values):
            yield dict(zip(selection.order, point, strict=True))

    def _listed(self, selection: Selection, cell: Cell, points: IntArray, outputs: list[Any]) -> Block:
        values = [
            [asked[i] for i in axis.source] for asked, axis in zip(selection.values, cell.axes, strict=True)
        ]
        coords = PointCoords(selection.order, values, points)
        return make_block(outputs, coords, (len(outputs),), name=self.name, outputs="list", allow_pickle=True)

    def _numbers(self, cell: Cell) -> tuple[int, ...]:
        return tuple(axis.bins[0] for axis in cell.axes)

    def _ref(self, order: tuple[str, ...], numbers: tuple[int, ...]) -> ChunkRef:
        sizes = tuple(self._bins.of(n).size(i) for n, i in zip(order, numbers, strict=True))
        box = tuple(sorted(zip(order, numbers, strict=True)))
        key = self._key_of[box]
        identity = canonical_bytes(key)
        return ChunkRef(order, numbers, sizes, self._cache.chunk_hash(key), identity, self._bins)

    def _key(self, ref: ChunkRef) -> ChunkKey:
        return self._key_of[tuple(sorted(zip(ref.order, ref.numbers, strict=True)))]

    def tasks(self, selection: Selection, missing: Iterable[Missing]) -> Iterator[Task]:
        """Cut missing points into calls.

        Parameters
        ----------
        selection : Selection
            The request.
        missing : iterable of Missing
            What a read did not find.

        Yields
        ------
        Task
            One call.
        """
        cut = tasks_for(selection, missing, self._bins, self._ref)
        for ref, tasks in itertools.groupby(cut, key=operator.attrgetter("ref")):
            together = list(tasks)
            self._expected[ref.name] = self._expected.get(ref.name, 0) + len(together)
            yield from together

    portable = False
    """Whether workers can store by themselves."""
    read_only = False
    """Whether nothing is to be stored."""

    def read_back(
        self, cells: Cells, stored: Sequence[tuple[int, IntArray | None]], collector: Collector
    ) -> Sequence[Missing]:
        """Tell that nothing was stored by workers.

        Parameters
        ----------
        cells : Cells
            The request.
        stored : sequence of tuple
            Ranks of cells, and positions in them: of points that nobody stored.
        collector : Collector
            Takes the outputs.

        Returns
        -------
        sequence of Missing
            All of them.
        """
        return [(rank, cells.at(rank), points) for rank, points in stored]

    def writer(self) -> ProtocolCache:
        """Return itself.

        Returns
        -------
        ProtocolCache
            It checks and stores outputs.
        """
        return self

    def failure_log(self) -> None:
        """Tell that no records are kept of points that fail.

        Returns
        -------
        None
            Nothing.
        """

    def failures_elsewhere(self) -> tuple[()]:
        """Tell that no records are kept of points that fail.

        Returns
        -------
        tuple
            Nothing.
        """
        return ()

    def weed(self) -> int:
        """Tell that nothing is set aside: the files are the cache's own matter.

        Returns
        -------
        int
            0.
        """
        return 0

    def tell_of_pickles(self, note: str) -> None:
        """Say nothing: how outputs are stored is the cache's own matter.

        Parameters
        ----------
        note : str
            Not used.
        """

    def holds(self, task: Task) -> bool:
        """Tell that nobody else stored a task.

        Parameters
        ----------
        task : Task
            The points.

        Returns
        -------
        bool
            False.
        """
        return False

    def block(self, task: Task, output: Any, rows: IntArray | None = None) -> Block:
        """Return an output as a block of one output per point.

        Parameters
        ----------
        task : Task
            The points.
        output : object
            What the function returned.
        rows : ndarray of intp, optional
            Which of the task's points these are; all of them by default.

        Returns
        -------
        Block
            The outputs.
        """
        output = output if task.order or self.vectorize else [output]
        coords = PointCoords(task.order, task.values, rows)
        shape = task.shape if rows is None else (len(rows),)
        return make_block(
            output, coords, shape, name=self.name or "the function", outputs="list", allow_pickle=True
        )

    def write(
        self, task: Task, block: Block, seconds: float, syncer: Syncer, rows: IntArray | None = None
    ) -> Written:
        """Hand a block to the cache.

        Parameters
        ----------
        task : Task
            The points.
        block : Block
            Their outputs.
        seconds : float
            Seconds of compute.
        syncer : Syncer
            Not used.
        rows : ndarray of intp, optional
            Which of the task's points the block holds; all of them by default.

        Returns
        -------
        Written
            0 bytes; how many were written is the cache's own matter.
        """
        key = self._key(task.ref)
        path = self._cache.resolve_cache_path(key, task.ref.name)
        points = list(task.each()) if math.prod(task.shape) else []
        points = points if rows is None else [points[row] for row in rows.tolist()]
        values = [tuple(point[name] for name, _ in key) for point in points]
        outputs = block.outputs()
        build = getattr(self._cache, "build_item_maps_from_axis_values", None)
        if build is not None:
            items, spec = build(key, values, outputs)
        else:
            hashes = [self._cache.item_hash(key, each) for each in values]
            items, spec = dict(zip(hashes, outputs, strict=True)), dict(zip(hashes, points, strict=True))
        payload = {"items": items, "spec": spec}
        self._cache.write_chunk_payload(path, payload, existing=self._cache.load_payload(path))
        self._untold[task.ref.name] = key
        self._expected[task.ref.name] = self._expected.get(task.ref.name, 1) - 1
        if self._expected[task.ref.name] <= 0:
            self._cache.update_chunk_index(task.ref.name, self._untold.pop(task.ref.name))
        return Written(0)


class _Telling(Syncer):
    """Tells an index of what was written, where a run ends before its chunks are complete."""

    def __init__(self, cache: ProtocolCache) -> None:
        super().__init__("fast")
        self._cache = cache

    def flush(self) -> None:
        """Tell the index."""
        self._cache.tell_index()
