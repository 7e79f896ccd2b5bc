"""One grid on disk: :class:`ChunkCache` plans, reads, writes, slices, extends and tells its status.

Runners need three verbs of it: ``plan``, ``read`` and ``write``. The other methods are those that a user calls,
or that the document names as overridable.
"""

from __future__ import annotations

import copy
import errno
import itertools
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo.chunks import ChunkRef, ChunkStore, Naming
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.layouts import SHARD_ABOVE, Folder, Layout
from chunk_memo.errors import (
    CacheNotFoundError,
    ChunkFormatError,
    ChunkMemoError,
    CollisionError,
    DamageWarning,
    MetadataError,
    OverlapError,
    OverlapWarning,
    RootError,
    SpecError,
    UnknownAxisError,
    UnknownValueError,
)
from chunk_memo.grid import (
    Bins,
    ChunkKey,
    Grid,
    IntArray,
    chunk_sizes,
    enumerate_boxes,
    make_axis,
)
from chunk_memo.identity import canonical_bytes, canonical_many, digest, normalize
from chunk_memo.outputs import KINDS, Block, Collector, Form, PointCoords, make_block
from chunk_memo.plan import MISSING, PARTIAL, STORED, Plan, PlanGroup, boxes
from chunk_memo.selection import Cell, Cells, Selection, new_values, select

__all__ = ["CacheStatus", "ChunkCache", "Reading", "Task", "tasks_for"]

_TRIES = 3


@dataclass(frozen=True, slots=True, eq=False)
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
    rank: int
    """The cell's rank in the request."""
    cell: Cell
    """The cell that the points belong to."""
    cell_points: IntArray | None
    """Row-major positions in the cell; None where the call makes all of it in order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""
        return tuple(len(values) for values in self.values)

    @property
    def count(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    def arguments(self) -> dict[str, list[Any]]:
        """Return what the function is called with.

        Returns
        -------
        dict of str to list
            Axis name to values.
        """
        return {name: list(values) for name, values in zip(self.order, self.values, strict=True)}

    def each(self) -> Iterator[dict[str, Any]]:
        """Iterate over the points, row-major.

        Yields
        ------
        dict
            Axis name to value.
        """
        for point in itertools.product(*self.values):
            yield dict(zip(self.order, point, strict=True))


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
    missing: list[tuple[int, Cell, IntArray | None]] = field(default_factory=list)
    """Cells that miss points: rank, cell, and row-major positions in it (None for all of them)."""


class CacheStatus(Mapping[str, Any]):
    """What is stored of a request, as the mapping that the document describes.

    The keys are ``cache_id``, ``params``, ``metadata``, ``axis_values``, ``axis_order``, ``total_chunks``,
    ``cached_chunks``, ``cached_chunk_indices``, ``missing_chunks`` and ``missing_chunk_indices``. Lists are made
    when they are looked at. A chunk of which only some of the points asked are stored is among the missing.

    Parameters
    ----------
    plan : Plan
        The plan of the request.
    head : mapping
        What is known without looking at chunks.
    grid : Grid
        The declared grid, which indices refer to.
    """

    _LISTS = ("cached_chunks", "cached_chunk_indices", "missing_chunks", "missing_chunk_indices")

    def __init__(self, plan: Plan, head: Mapping[str, Any], grid: Grid) -> None:
        self.plan = plan
        self._head = {**head, "total_chunks": plan.total_chunks}
        self._grid = grid
        self._made: dict[str, list[Any]] = {}

    def __getitem__(self, key: str) -> Any:
        """Return one entry."""
        if key not in self._LISTS:
            return self._head[key]
        if key not in self._made:
            states = (STORED,) if key.startswith("cached") else (MISSING, PARTIAL)
            make = self._indices if key.endswith("indices") else self._key
            self._made[key] = [make(cell) for cell in self.plan.of_state(*states)]
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter((*self._head, *self._LISTS))

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._head) + len(self._LISTS)

    def __repr__(self) -> str:
        """Return what a dict of the same content would show."""
        return repr(dict(self))

    def _asked(self, cell: Cell) -> Iterator[tuple[str, list[int]]]:
        selection = self.plan.selection
        for name, axis in zip(selection.order, cell.axes, strict=True):
            yield name, [int(i) for i in np.sort(axis.source)]

    def _key(self, cell: Cell) -> ChunkKey:
        values = dict(zip(self.plan.selection.order, self.plan.selection.values, strict=True))
        return tuple((name, tuple(values[name][i] for i in asked)) for name, asked in self._asked(cell))

    def _indices(self, cell: Cell) -> dict[str, list[int]]:
        keys = dict(zip(self.plan.selection.order, self.plan.selection.keys, strict=True))
        return {
            name: [self._grid.axis(name).lookup[keys[name][i]] for i in asked]
            for name, asked in self._asked(cell)
        }


@dataclass(slots=True)
class _State:
    """What a cache and its slices share."""

    folder: Folder
    store: ChunkStore
    grid: Grid
    ready: bool = False
    described: bool = False
    form: Form | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class ChunkCache:
    """One cache: a function's outputs over a grid, for one set of params.

    Parameters
    ----------
    root : path-like
        Folder of caches; this one lies in ``<root>/<cache_id>``.
    cache_id : str
        Name of the cache, as :func:`params_to_cache_id` makes it.
    metadata : mapping, optional
        The user's own; ``metadata["params"]`` are the params.
    chunk_spec : mapping, optional
        Axis name to chunk size. Left out: the full length for list, tuple, range and array, 1 for others.
    axis_values : mapping
        Axis name to values.
    collate_fn : callable, optional
        Called with a list of chunk outputs; its result is what a run returns.
    chunk_enumerator : callable, optional
        Called with the axis values; returns the chunk keys of the grid.
    chunk_hash_fn : callable, optional
        ``(params, chunk_key, version) -> str`` names chunk files.
    path_fn : callable, optional
        ``(params, chunk_key, version, chunk_hash) -> path`` places them; relative to the cache's folder.
    version : str, default "v1"
        A namespace; it enters every chunk's hash.
    axis_order : sequence of str, optional
        The order in which outputs run over the axes, lexicographic by default.
    verbose : int, default 1
        0 hides the progress bar, which otherwise appears when work outlasts half a second.
    profile : bool, default False
        Whether each run logs where its seconds went (logger ``chunk_memo``, level INFO).
    exclusive : bool, default False
        Refuse to open a cache that exists with other axis values or chunk sizes.
    warn_on_overlap : bool, default False
        Warn in that case.
    outputs : str, optional
        The kind of output: ``list``, ``grid``, ``flat``, ``columns``, ``frame`` or ``opaque``; recognised and
        recorded with the first block by default.
    vectorize : bool, default False
        Whether the function takes single values and is called once per point.
    allow_pickle : bool, default False
        Whether outputs without a native form may be pickled. Loading a pickle can run any code.
    durability : {"full", "fast"}
        Whether files are synced before a run returns.
    name : str, optional
        What messages and files call the function.
    grid : Grid, optional
        Declared axes and chunk sizes, in place of `axis_values`, `chunk_spec` and `axis_order`.
    identity : bytes, optional
        Canonical bytes that `cache_id` was made from; kept, and compared when the cache is opened again.

    Raises
    ------
    SpecError, UnknownAxisError
        Where the grid cannot be.
    OverlapError
        Where ``exclusive`` refuses.
    RootError
        Where the root is a file.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache, params_to_cache_id, run
    >>> cache = ChunkCache(
    ...     root=tempfile.mkdtemp(),
    ...     cache_id=params_to_cache_id({"alpha": 1}),
    ...     metadata={"params": {"alpha": 1}},
    ...     chunk_spec={"s": 2},
    ...     axis_values={"s": [1, 2, 3]},
    ... )
    >>> output, diagnostics = run(cache, lambda s: [10 * value for value in s])
    >>> output
    [10, 20, 30]
    >>> cache.slice(s=[3, 1]).plan()
    Plan(2 points: 2 cached, 0 to run; 2 chunks: 2 cached, 0 in part, 0 missing)
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        cache_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        chunk_spec: Mapping[str, Any] | None = None,
        axis_values: Mapping[str, Any] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        chunk_enumerator: Callable[[dict[str, Any]], Sequence[ChunkKey]] | None = None,
        chunk_hash_fn: Callable[[dict[str, Any], ChunkKey, str], str] | None = None,
        path_fn: Callable[[dict[str, Any], ChunkKey, str, str], Path | str] | None = None,
        version: str = "v1",
        axis_order: Sequence[str] | None = None,
        verbose: int = 1,
        profile: bool = False,
        exclusive: bool = False,
        warn_on_overlap: bool = False,
        *,
        outputs: str | None = None,
        vectorize: bool = False,
        allow_pickle: bool = False,
        durability: str = "full",
        name: str = "",
        grid: Grid | None = None,
        identity: bytes | None = None,
    ) -> None:
        self.root = Path(root) if root is not None else Path(".chunk_memo")
        self.collate_fn = collate_fn
        self.chunk_enumerator = chunk_enumerator
        self.chunk_hash_fn = chunk_hash_fn
        self.path_fn = path_fn
        self.version = _checked_version(version)
        self.verbose = verbose
        self.profile = profile
        self.exclusive = exclusive
        self.warn_on_overlap = warn_on_overlap
        self.outputs = _checked_kind(outputs)
        self.vectorize = vectorize
        self.allow_pickle = allow_pickle
        self.durability = files.Durability(_checked_durability(durability))
        self.name = name
        self._view: Selection | None = None
        self._identity = identity
        grid = grid or _make_grid(axis_values, chunk_spec, axis_order)
        self._open(cache_id, metadata or {}, grid)

    def _open(self, cache_id: str, metadata: Mapping[str, Any], grid: Grid) -> None:
        self.cache_id = _checked_id(cache_id)
        self.metadata = dict(metadata)
        _check_root(self.root)
        folder = Folder(Path(os.path.abspath(self.root)) / self.cache_id, self.version)
        naming = Naming(self.params, self.chunk_hash_fn, self.path_fn)
        store = ChunkStore(folder, self.cache_id, naming, allow_pickle=self.allow_pickle, title=self.name)
        self._state = _State(folder, store, grid)
        if self.exclusive or self.warn_on_overlap:
            self._check_overlap()

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The cache's folder."""
        return self._state.folder.path

    @property
    def params(self) -> dict[str, Any]:
        """The params that identify this cache."""
        params = self.metadata.get("params")
        return dict(params) if isinstance(params, Mapping) else {}

    @property
    def grid(self) -> Grid:
        """The declared axes and chunk sizes."""
        return self._state.grid

    @property
    def axis_order(self) -> tuple[str, ...]:
        """Names of the axes, in the order in which outputs run over them."""
        return self.grid.order

    @property
    def axis_values(self) -> dict[str, list[Any]]:
        """The values of each axis; of a slice, those it was sliced to."""
        chosen = self.selection()
        return {name: list(values) for name, values in zip(chosen.order, chosen.values, strict=True)}

    @property
    def chunk_spec(self) -> dict[str, int]:
        """The chunk size of each axis, in values."""
        return dict(self.grid.sizes)

    def __repr__(self) -> str:
        """Return the id and the grid."""
        axes = ", ".join(f"{name}: {len(values)}" for name, values in self.axis_values.items())
        return f"ChunkCache({self.cache_id!r}, {axes or 'no axes'})"

    def cache_hash(self) -> str:
        """Return the cache id.

        Returns
        -------
        str
            The name of the cache's folder.
        """
        return self.cache_id

    def set_identity(self, cache_id: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Let this object stand for another cache over the same grid.

        Parameters
        ----------
        cache_id : str
            The other cache's id.
        metadata : mapping, optional
            Its metadata; kept as it is where left out.

        Raises
        ------
        SpecError
            Where `cache_id` is empty or cannot be a folder's name.
        """
        self._open(cache_id, self.metadata if metadata is None else metadata, self.grid)

    def selection(
        self, axes: Mapping[str, Any] | None = None, axis_indices: Mapping[str, Any] | None = None
    ) -> Selection:
        """Return what arguments ask for; without any, everything that this cache or slice covers.

        Parameters
        ----------
        axes : mapping, optional
            Axis name to one value or several.
        axis_indices : mapping, optional
            Axis name to an int, slice, range or sequence of ints.

        Returns
        -------
        Selection
            The request.
        """
        if self._view is None:
            return select(self.grid, axes, axis_indices)
        if not axes and not axis_indices:
            return self._view
        return _narrowed(self._view, select(_grid_of(self._view, self.grid), axes, axis_indices))

    def slice(self, *, axis_indices: Mapping[str, Any] | None = None, **axes: Any) -> ChunkCache:
        """Return a view of this cache that covers some of its points.

        Parameters
        ----------
        axis_indices : mapping, optional
            Axis name to an int, slice, range or sequence of ints.
        **axes : object
            Axis name to one value, or to several.

        Returns
        -------
        ChunkCache
            A view; it shares what is stored, and changes nothing of this cache.

        Raises
        ------
        UnknownAxisError, UnknownValueError, UnknownIndexError
            Where something is asked for that is not there.
        SpecError
            Where values and indices are given together.
        """
        view = copy.copy(self)
        view._view = self.selection(axes, axis_indices)
        return view

    # --- the three verbs -----------------------------------------------------------------------------------

    def plan(self, selection: Selection | None = None) -> Plan:
        """Return what a run would read and run, and why; changes nothing.

        Parameters
        ----------
        selection : Selection, optional
            The request; everything that this cache covers by default.

        Returns
        -------
        Plan
            The plan, which prints well.
        """
        selection = selection or self.selection()
        known = Cells(selection, self._bins())
        if known.unbinned and self._state.folder.refresh():
            known = Cells(selection, self._bins())
        fresh = known.unbinned
        cells = Cells(selection, self._provisional_bins()) if fresh else known
        states = np.zeros(len(cells), np.uint8)
        missing = np.zeros(len(cells), np.intp)
        nothing = not (self.path / "chunks").exists() and self.path_fn is None
        reasons: dict[str, list[int]] = {}
        for rank, cell in enumerate(cells):
            new = [n for n, axis in zip(selection.order, cell.axes, strict=True) if _touches(axis, fresh, n)]
            stored = 0 if nothing or new else self._count_stored(cells, cell)
            missing[rank] = cell.points - stored
            states[rank] = STORED if stored == cell.points else PARTIAL if stored else MISSING
            if stored < cell.points:
                reason = self._reason(selection, cell, new, stored, nothing)
                tally = reasons.setdefault(reason, [0, 0])
                tally[0] += 1
                tally[1] += cell.points - stored
        groups = tuple(PlanGroup(reason, *tally) for reason, tally in reasons.items())
        seconds, size = self._means() if groups and not nothing else (None, None)
        return Plan(selection, cells, states, missing, groups, seconds, size)

    def _reason(self, selection: Selection, cell: Cell, new: list[str], stored: int, nothing: bool) -> str:
        if nothing:
            return "nothing is stored for these params"
        if stored:
            return "the chunk is stored in part"
        if not new:
            return "not computed yet"
        named = dict(zip(selection.order, zip(selection.values, cell.axes, strict=True), strict=True))
        name = new[0]
        values, axis = named[name]
        shown = [values[i] for i in axis.source[:3]]
        more = f" and {len(axis) - 3} more" if len(axis) > 3 else ""
        return f"new on axis {name!r}: {', '.join(map(repr, shown))}{more}"

    def _count_stored(self, cells: Cells, cell: Cell) -> int:
        """Return how many points of a cell are stored, without reading outputs."""
        store, order = self._state.store, cells.selection.order
        covered: Any = None
        choices = cell.candidates(cells.bins, order)
        refs = [self._ref(cell, order, choice, cells.bins) for choice in choices]
        for ref in refs:
            if any(os.path.exists(path) for path in store.paths(ref)):
                return cell.points
        for ref, choice in zip(refs, choices, strict=True):
            if not any(files.list_folder(folder) for folder in store.parts_folders(ref)):
                continue
            wanted = _chunk_points(cell, choice, ref)
            covered = np.zeros(cell.points, bool) if covered is None else covered
            for part in self._parts(ref):
                if part.block.kind != "opaque" or _same_points(part.points, wanted):
                    covered |= np.isin(wanted, part.points)
        return 0 if covered is None else int(covered.sum())

    def _parts(self, ref: ChunkRef) -> list[Any]:
        try:
            return self._state.store.parts(ref)
        except FileNotFoundError:
            return []

    def _means(self) -> tuple[float | None, float | None]:
        """Return mean seconds and bytes per point of a few stored files."""
        seconds = size = points = 0.0
        for path in itertools.islice(self._state.folder.chunk_files(), 16):
            try:
                with chunkfile.load(path) as chunk:
                    sizes = chunk.sizes
                    part = chunk.constant["part"]
                    names = [part] if part is not None else [a[0] for a in chunk.constant["axes"]]
                    points += math.prod(sizes[name] for name in names)
                    seconds += chunk.seconds
                    size += chunk.nbytes
            except (ChunkMemoError, OSError):
                continue
        return (seconds / points, size / points) if points else (None, None)

    def read(self, selection: Selection, collector: Collector | None) -> Reading:
        """Read what is stored of a request, and say what is not.

        Parameters
        ----------
        selection : Selection
            The request.
        collector : Collector or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        started = time.perf_counter()
        cells = self.cells(selection)
        reading = Reading(plan_seconds=time.perf_counter() - started)
        for rank, cell in enumerate(cells):
            self.read_cell(rank, cell, selection.order, collector, reading)
        return reading

    def cells(self, selection: Selection) -> Cells:
        """Return a request as cells, with a bin for each of its values; makes the bins that are lacking.

        Parameters
        ----------
        selection : Selection
            The request.

        Returns
        -------
        Cells
            The cells.
        """
        cells = Cells(selection, self._bins())
        if cells.unbinned:
            self.settle()
            cells = Cells(selection, self._bins())
        self._state.store.spread = self._is_large()
        return cells

    def settle(self) -> bool:
        """Take in the bins that other processes made, and make those that are lacking.

        Returns
        -------
        bool
            Whether there are bins now that were not known before, so that reading again is worth it.
        """
        with self._state.lock:
            known = len(self._state.folder.layouts)
            self._bins()
            self._state.folder.refresh()
            self._make_bins()
            return len(self._state.folder.layouts) != known

    def syncer(self) -> files.Syncer:
        """Return what takes note of files that must be on disk.

        Returns
        -------
        Syncer
            A new one for a run.
        """
        return files.Syncer(self.durability)

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
        return Collector(selection, allow_pickle=self.allow_pickle, by_chunk=by_chunk)

    def read_cell(
        self,
        rank: int,
        cell: Cell,
        order: tuple[str, ...],
        collector: Collector | None,
        reading: Reading,
    ) -> None:
        """Read what is stored of one cell.

        Parameters
        ----------
        rank : int
            Its rank in the request.
        cell : Cell
            The cell.
        order : tuple of str
            Names of the axes in axis order.
        collector : Collector or None
            Takes the outputs.
        reading : Reading
            Takes note of what was found.
        """
        reading.total_chunks += 1
        reading.total_points += cell.points
        bins = self._state.folder.bins
        choices = cell.candidates(bins, order)
        refs = [self._ref(cell, order, choice, bins) for choice in choices]
        for _ in range(_TRIES):
            if self._read_complete(rank, cell, choices, refs, collector, reading):
                return
            try:
                missing = self._read_parts(rank, cell, choices, refs, collector, reading)
                break
            except FileNotFoundError:
                continue
        else:
            missing = None
        found = 0 if missing is None else cell.points - len(missing)
        reading.cached_points += found
        if missing is not None and not len(missing):
            reading.cached_chunks += 1
            return
        reading.partial_chunks += found > 0
        reading.missing.append((rank, cell, missing if found else None))

    def _read_complete(
        self,
        rank: int,
        cell: Cell,
        choices: list[tuple[int, ...]],
        refs: list[ChunkRef],
        collector: Collector | None,
        reading: Reading,
    ) -> bool:
        store = self._state.store
        for choice, ref in zip(choices, refs, strict=True):
            chunk = store.load(ref)
            if chunk is None:
                continue
            with chunk:
                if collector is not None:
                    positions = [a.positions[i] for a, i in zip(cell.axes, choice, strict=True)]
                    block = store.block(ref, chunk, positions)
                    if block is None:
                        continue
                    collector.add(rank, cell, block)
                    self._record(block)
                elif chunk.constant["kind"] == "opaque" and cell.points < ref.points:
                    continue
                reading.bytes_read += chunk.nbytes
            reading.cached_chunks += 1
            reading.cached_points += cell.points
            return True
        return False

    def _read_parts(
        self,
        rank: int,
        cell: Cell,
        choices: list[tuple[int, ...]],
        refs: list[ChunkRef],
        collector: Collector | None,
        reading: Reading,
    ) -> IntArray | None:
        """Read parts; return the points of the cell that none holds, None where there are no parts."""
        found: list[tuple[Block, IntArray, IntArray]] = []
        covered: Any = None
        for choice, ref in zip(choices, refs, strict=True):
            for part in self._state.store.parts(ref):
                wanted = _chunk_points(cell, choice, ref)
                covered = np.zeros(cell.points, bool) if covered is None else covered
                if part.block.kind == "opaque" and not _same_points(part.points, wanted):
                    continue
                rows = _rows_of(part.points, wanted)
                take = np.flatnonzero((rows >= 0) & ~covered)
                if len(take):
                    covered[take] = True
                    found.append((part.block, rows[take], take))
        if covered is None:
            return None
        if collector is not None:
            for block, rows, points in found:
                self._record(block)
                collector.add(rank, cell, _taken(block, rows), points)
        return np.flatnonzero(~covered)

    def tasks(
        self, selection: Selection, missing: Sequence[tuple[int, Cell, IntArray | None]]
    ) -> Iterator[Task]:
        """Cut what a read did not find into calls of the function.

        Parameters
        ----------
        selection : Selection
            The request.
        missing : sequence
            :attr:`Reading.missing`.

        Yields
        ------
        Task
            One call: points of one chunk that form a box.
        """
        bins = self._state.folder.bins

        def make_ref(order: tuple[str, ...], numbers: tuple[int, ...]) -> ChunkRef:
            return self._state.store.ref(order, numbers, bins)

        yield from tasks_for(selection, missing, bins, make_ref)

    def block(self, task: Task, output: Any) -> Block:
        """Return what the function returned for a task as a block, checked.

        Parameters
        ----------
        task : Task
            The points that it was called with.
        output : object
            What it returned.

        Returns
        -------
        Block
            The outputs.
        """
        if self._state.form is None:
            self._recall_form()
        outputs = "point" if self.vectorize else self.outputs
        if not task.order:
            output, outputs = ([output], "list") if not self.vectorize else (output, "point")
        block = make_block(
            output,
            PointCoords(task.order, task.values),
            task.shape,
            name=self.name or "the function",
            outputs=outputs,
            recorded=self._state.form,
            allow_pickle=self.allow_pickle,
        )
        self._record(block)
        return block

    def store_block(self, task: Task, block: Block, seconds: float, syncer: files.Syncer) -> int:
        """Store a block.

        Parameters
        ----------
        task : Task
            The points that it holds.
        block : Block
            Their outputs.
        seconds : float
            Seconds of compute.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        int
            Bytes written.
        """
        return self._state.store.write(task.ref, task.points, block, seconds, syncer)

    def _record(self, block: Block) -> None:
        if self._state.form is None:
            self._state.form = block.form

    def _recall_form(self) -> None:
        """Learn the recorded form from any chunk that is stored."""
        for path in itertools.islice(self._state.folder.chunk_files(), 8):
            try:
                with chunkfile.load(path) as chunk:
                    ref = self._ref_of_file(chunk)
                    if ref is None or chunk.constant["part"] is not None:
                        continue
                    block = self._state.store.block(ref, chunk, None)
            except (ChunkMemoError, OSError):
                continue
            if block is not None:
                self._record(block)
                return

    def _ref_of_file(self, chunk: chunkfile.Chunk) -> ChunkRef | None:
        """Return the chunk that a file holds, None where it belongs to other axes or is not known."""
        values = self._state.store.values(chunk)
        if not values and self.axis_order:
            return None
        if sorted(values) != sorted(self.axis_order):
            return None
        numbers = []
        for name in self.axis_order:
            number = self._bins().of(name).find(canonical_many(values[name]))
            if number is None:
                return None
            numbers.append(number)
        ref = self._state.store.ref(self.axis_order, tuple(numbers), self._state.folder.bins)
        return ref if ref.identity == chunk.identity else None

    # --- bins ----------------------------------------------------------------------------------------------

    def _bins(self) -> Bins:
        state = self._state
        if not state.ready:
            with state.lock:
                state.folder.refresh()
                state.ready = True
        return state.folder.bins

    def _is_enumerated(self, bins: Bins) -> bool:
        """Whether every declared value has a bin, so that ``chunk_enumerator`` has nothing to add."""
        return bool(bins.boxes) and all(
            key in bins.of(axis.name) for axis in self.grid.axes for key in axis.keys
        )

    def _is_large(self) -> bool:
        count = 1
        for axis in self.grid.axes:
            count *= -(-len(axis) // self.grid.sizes[axis.name])
        return count > SHARD_ABOVE

    def _provisional_bins(self) -> Bins:
        """Return the bins as they would be after a run, without writing any."""
        bins = self._bins().copied()
        for layout in self._new_layouts(bins):
            layout.add_to(bins)
        return bins

    def _make_bins(self) -> None:
        """Write layouts with bins for every declared value that has none."""
        with self._state.lock:
            syncer = files.Syncer(self.durability)
            bins = self._state.folder.bins
            first = not self._state.folder.layouts
            layouts = list(self._new_layouts(bins))
            if not layouts:
                return
            single = first and len(layouts) == 1 and _is_one_chunk(layouts[0], self.grid)
            document = self._metadata_document() if single else None
            with self._storing():
                for layout in layouts:
                    self._state.folder.commit_layout(layout, syncer, document)

    def _new_layouts(self, bins: Bins) -> Iterator[Layout]:
        """Return the layouts that a run would write, box by box first."""
        grid, now = self.grid, time.time_ns()
        covered = False
        if self.chunk_enumerator is not None and grid.axes:
            found = enumerate_boxes(self.chunk_enumerator, grid)
            covered = sum(math.prod(len(v) for v in box.values()) for box in found) == grid.points
            if found and not self._is_enumerated(bins):
                yield _box_layout(self.version, grid, found, now)
        groups = bins.missing_groups(grid)
        if groups and not covered:
            values = {
                name: [[grid.axis(name).values[i] for i in group] for group in members]
                for name, members in groups.items()
            }
            yield Layout(self.version, grid.order, grid.sizes, values, None, now)

    def _ref(self, cell: Cell, order: tuple[str, ...], choice: tuple[int, ...], bins: Bins) -> ChunkRef:
        numbers = tuple(axis.bins[i] for axis, i in zip(cell.axes, choice, strict=True))
        return self._state.store.ref(order, numbers, bins)

    # --- growing -------------------------------------------------------------------------------------------

    def extend_axis_values(self, axis_values: Mapping[str, Any], *, write_metadata: bool = True) -> None:
        """Append values that the axes do not have yet.

        Parameters
        ----------
        axis_values : mapping
            Axis name to one value or several; those already there are passed over.
        write_metadata : bool, default True
            Accepted for the document's sake: what is new is kept by layouts, not by ``metadata.json``.

        Raises
        ------
        UnknownAxisError
            Where an axis is named that the cache does not have.
        """
        axes = []
        for name in axis_values:
            self.grid.axis(name)
        for axis in self.grid.axes:
            if axis.name in axis_values:
                values, keys = new_values(axis, axis_values[axis.name])
                axis = axis.extended(values, keys)
            axes.append(axis)
        self._state.grid = Grid(tuple(axes), self.grid.sizes)

    # --- status --------------------------------------------------------------------------------------------

    def cache_status(
        self,
        *,
        axis_indices: Mapping[str, Any] | None = None,
        axis_values_override: Mapping[str, Any] | None = None,
        extend_cache: bool = False,
        **axes: Any,
    ) -> CacheStatus:
        """Return what is stored of a request.

        Parameters
        ----------
        axis_indices : mapping, optional
            Axis name to an int, slice, range or sequence of ints.
        axis_values_override : mapping, optional
            Axis values to look at in place of the declared ones.
        extend_cache : bool, default False
            Whether values that are new may be asked for; the cache itself is left as it is.
        **axes : object
            Axis name to one value, or to several.

        Returns
        -------
        CacheStatus
            A mapping; see there.
        """
        cache = self
        if axis_values_override is not None:
            cache = self.with_axis_values(axis_values_override)
        if extend_cache and axes:
            cache = cache.with_axis_values(
                {
                    a.name: [*a.values, *new_values(a, axes[a.name])[0]] if a.name in axes else a.values
                    for a in cache.grid.axes
                }
            )
        selection = cache.selection(axes, axis_indices)
        plan = cache.plan(selection)
        asked = zip(selection.order, selection.values, strict=True)
        head = {
            "cache_id": self.cache_id,
            "params": self.params,
            "metadata": dict(self.metadata),
            "axis_values": {name: list(values) for name, values in asked},
            "axis_order": selection.order,
        }
        return CacheStatus(plan, head, cache.grid)

    def with_axis_values(self, axis_values: Mapping[str, Any]) -> ChunkCache:
        """Return a view that declares other values for its axes and shares what is stored.

        Parameters
        ----------
        axis_values : mapping
            Axis name to values; axes left out keep theirs.

        Returns
        -------
        ChunkCache
            The view.
        """
        for name in axis_values:
            self.grid.axis(name)
        axes = tuple(
            make_axis(axis.name, axis_values[axis.name]) if axis.name in axis_values else axis
            for axis in self.grid.axes
        )
        view = copy.copy(self)
        view._view = None
        view._state = copy.copy(self._state)
        view._state.grid = Grid(axes, self.grid.sizes)
        return view

    # --- metadata ------------------------------------------------------------------------------------------

    def write_metadata(self) -> Path:
        """Write ``metadata.json`` unless it is there; a damaged one is set aside and written anew.

        Returns
        -------
        Path
            Its path.

        Raises
        ------
        CollisionError
            Where the file says that this id stands for something else.
        RootError
            Where it cannot be written.
        """
        path = self.path / "metadata.json"
        if self._state.described:
            return path
        try:
            known = self._state.folder.read_metadata()
        except MetadataError as error:
            self._set_metadata_aside(path, error)
            known = None
        if known is not None:
            self._check_identity(known)
            self._state.described = True
            return path
        syncer = files.Syncer(self.durability)
        with self._storing():
            if not self._state.folder.layouts and not self._bins().axes and self._makes_one_chunk():
                self._make_bins()
            else:
                self._state.folder.commit_metadata(self._metadata_document(), syncer)
            syncer.flush()
        self._state.described = True
        return path

    def _check_identity(self, known: Mapping[str, Any]) -> None:
        """Refuse to let one id stand for two things."""
        if self._identity is not None and known["identity"] not in (b"", self._identity):
            raise CollisionError(
                f"the cache id {self.cache_id!r} in '{self.root}' already stands for other params or another"
                f" function; give this one another name (name=…) or version"
            )
        there, here = known["metadata"].get("function"), self.metadata.get("function")
        if not isinstance(there, Mapping) or not isinstance(here, Mapping):
            return
        modules = {there.get("module"), here.get("module")}
        if here.get("version") is not None and len(modules) > 1 and "__main__" not in modules:
            raise CollisionError(
                f"{here.get('name')!r} of version {here.get('version')!r} in module {here.get('module')!r}"
                f" would share results with the function of that name and version in module"
                f" {there.get('module')!r}; give one of them another name with name=…"
            )

    def _makes_one_chunk(self) -> bool:
        layouts = list(self._new_layouts(self._state.folder.bins))
        return len(layouts) == 1 and _is_one_chunk(layouts[0], self.grid)

    def _metadata_document(self) -> bytes:
        identity = self._identity or b""
        return self._state.folder.metadata_document(self.cache_id, self.grid, identity, self.metadata)

    def _set_metadata_aside(self, path: Path, error: MetadataError) -> None:
        status = os.stat(path)
        seen = (status.st_dev, status.st_ino)
        moved = files.quarantine(path, self.path / "quarantine", seen, lambda _: False)
        place = f"moved to '{moved}'" if moved else "left where it is"
        warnings.warn(
            f"{error.__cause__!r}: '{path}' is damaged; it was {place}, and is written anew",
            DamageWarning,
            stacklevel=2,
        )

    def _storing(self) -> _Storing:
        return _Storing(self.root)

    def _check_overlap(self) -> None:
        """Refuse or warn where the cache exists with another grid."""
        try:
            known = self._state.folder.read_metadata()
        except MetadataError:
            known = None
        if known is None:
            return
        self._bins()
        stored = _stored_values(known, self._state.folder)
        for difference in self._differences(known, stored):
            message = (
                f"cache_id already exists with different {difference}: cache {self.cache_id!r} in"
                f" '{self.root}'. Use the same grid, another cache_id, or exclusive=False"
            )
            if self.exclusive:
                raise OverlapError(message)
            warnings.warn(f"Cache overlap detected: {message}", OverlapWarning, stacklevel=4)
            return

    def _differences(self, known: Mapping[str, Any], stored: Mapping[str, list[Any]]) -> Iterator[str]:
        for name in sorted({*stored, *self.axis_order}):
            if name not in stored or name not in self.axis_order:
                where = "the stored one" if name in stored else "the new one"
                yield f"axis_values (axis {name!r} is only in {where})"
                return
            axis = self.grid.axis(name)
            there = set(canonical_many(stored[name]))
            if there != set(axis.keys):
                common = len(there & set(axis.keys))
                yield (
                    f"axis_values (axis {name!r}: {len(there)} stored, {len(axis)} asked for,"
                    f" {common} in common)"
                )
        sizes = known["chunk_spec"]
        for name in self.axis_order:
            if name in sizes and sizes[name] != self.grid.sizes[name]:
                yield f"chunk_spec (axis {name!r}: {sizes[name]} stored, {self.grid.sizes[name]} asked for)"

    # --- methods that the document names as overridable ----------------------------------------------------

    def resolved_chunk_keys(self) -> list[ChunkKey]:
        """Return the chunk keys that this cache or slice covers, in grid order.

        Returns
        -------
        list of ChunkKey
            One key for each chunk touched, with the values asked of it.
        """
        status = self.cache_status()
        plan = status.plan
        return [status._key(cell) for cell in plan.of_state(MISSING, PARTIAL, STORED)]

    def chunk_hash(self, chunk_key: ChunkKey) -> str:
        """Return the name of the file of the chunk that holds these values.

        Parameters
        ----------
        chunk_key : ChunkKey
            Pairs of axis name and values; the values of a chunk, or some of them.

        Returns
        -------
        str
            The file's name without suffix.
        """
        return self._ref_of_key(chunk_key).name

    def chunk_hashes_for(self, *, axis_indices: Mapping[str, Any] | None = None, **axes: Any) -> list[str]:
        """Return the names of the files of the chunks that a request touches, in grid order.

        Parameters
        ----------
        axis_indices : mapping, optional
            Axis name to an int, slice, range or sequence of ints.
        **axes : object
            Axis name to one value, or to several.

        Returns
        -------
        list of str
            Names without suffix.
        """
        selection = self.selection(axes, axis_indices)
        cells = Cells(selection, self._provisional_bins_for(selection))
        return [self._first_ref(cell, cells).name for cell in cells]

    def _first_ref(self, cell: Cell, cells: Cells) -> ChunkRef:
        order = cells.selection.order
        return self._ref(cell, order, cell.candidates(cells.bins, order)[0], cells.bins)

    def _provisional_bins_for(self, selection: Selection) -> Bins:
        cells = Cells(selection, self._bins())
        return self._provisional_bins() if cells.unbinned else self._bins()

    def _ref_of_key(self, chunk_key: ChunkKey) -> ChunkRef:
        selection = self.selection_of_key(chunk_key)
        cells = Cells(selection, self._provisional_bins_for(selection))
        if len(cells) != 1:
            raise SpecError(f"{chunk_key!r} is not one chunk of this cache: its values lie in {len(cells)}")
        (cell,) = cells
        return self._first_ref(cell, cells)

    def selection_of_key(self, chunk_key: ChunkKey) -> Selection:
        """Return the points of one chunk key.

        Parameters
        ----------
        chunk_key : ChunkKey
            Pairs of axis name and values.

        Returns
        -------
        Selection
            The request.

        Raises
        ------
        UnknownAxisError, UnknownValueError
            Where the key names something that is not there.
        """
        named = {name: tuple(values) for name, values in chunk_key}
        if sorted(named) != sorted(self.axis_order):
            raise UnknownAxisError(
                f"a chunk key names every axis of {list(self.axis_order)} once, got {chunk_key!r}"
            )
        values, keys = [], []
        for name in self.axis_order:
            axis = self.grid.axis(name)
            found = canonical_many([normalize(value) for value in named[name]])
            for key, value in zip(found, named[name], strict=True):
                if key not in axis.lookup:
                    raise UnknownValueError(f"axis {name!r} has no value {value!r}")
            keys.append(tuple(found))
            values.append(tuple(axis.values[axis.lookup[key]] for key in found))
        return Selection(self.axis_order, tuple(values), tuple(keys))

    def resolve_cache_path(self, chunk_key: ChunkKey, chunk_hash: str) -> Path:
        """Return where the complete file of a chunk lies, or would lie.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.
        chunk_hash : str
            Its hash.

        Returns
        -------
        Path
            The file's path.
        """
        ref = self._ref_of_key(chunk_key)
        self._state.store.spread = self._is_large()
        paths = self._state.store.paths(ref)
        found = next((path for path in paths if os.path.exists(path)), paths[0])
        return Path(found)

    def load_payload(self, path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Return what a chunk file holds, by item.

        Parameters
        ----------
        path : path-like
            A complete file, or a part.

        Returns
        -------
        dict or None
            ``items`` maps item hashes to outputs, ``spec`` maps them to axis values; None where there is no
            such file.
        """
        try:
            chunk = chunkfile.load(path)
        except FileNotFoundError:
            return None
        with chunk:
            key, outputs, points = self._decoded(chunk)
        spec = [dict(zip((name for name, _ in key), point, strict=True)) for point in points]
        hashes = [self.item_hash(key, tuple(point.values())) for point in spec]
        return {
            "items": dict(zip(hashes, outputs, strict=True)),
            "spec": dict(zip(hashes, spec, strict=True)),
            "created_at": chunk.created_at,
        }

    def _decoded(self, chunk: chunkfile.Chunk) -> tuple[ChunkKey, list[Any], list[tuple[Any, ...]]]:
        values = self._state.store.values(chunk)
        names = [name for name, _, _ in chunk.constant["axes"]]
        key = tuple((name, tuple(values[name])) for name in names)
        points = list(itertools.product(*(vs for _, vs in key)))
        bins = Bins()
        for name, vs in key:
            bins.of(name).add(vs, canonical_many(vs))
        ref = self._state.store.ref(tuple(names), (0,) * len(names), bins)
        block, rows = self._state.store.everything(ref, chunk)
        if rows is not None:
            points = [points[i] for i in rows]
        return key, block.outputs(allow_pickle=self.allow_pickle), points

    def item_hash(self, chunk_key: ChunkKey, axis_values: Sequence[Any]) -> str:
        """Return the hash of one point.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk that it lies in; gives the names of the axes.
        axis_values : sequence
            Its value on each axis, in the order of `chunk_key`.

        Returns
        -------
        str
            32 hex characters.
        """
        point = {name: value for (name, _), value in zip(chunk_key, axis_values, strict=True)}
        return digest((self.version, point))

    def write_chunk_payload(
        self,
        path: str | os.PathLike[str],
        payload: Mapping[str, Any],
        *,
        existing: Mapping[str, Any] | None = None,
    ) -> Path:
        """Store outputs by item, as :meth:`load_payload` returns them.

        Parameters
        ----------
        path : path-like
            The complete file of a chunk, as :meth:`resolve_cache_path` gives it.
        payload : mapping
            ``items`` and ``spec``, as in :meth:`load_payload`.
        existing : mapping, optional
            A payload that was there; its items count too.

        Returns
        -------
        Path
            `path`.
        """
        items = {**(existing or {}).get("items", {}), **payload["items"]}
        spec = {**(existing or {}).get("spec", {}), **payload["spec"]}
        asked = {
            name: list({canonical_bytes(point[name]): point[name] for point in spec.values()}.values())
            for name in self.axis_order
        }
        selection = self.selection(asked)
        outputs = {tuple(canonical_many([p[n] for n in self.axis_order])): items[h] for h, p in spec.items()}
        with files.Syncer(self.durability) as syncer:
            reading = self.read(selection, None)
            for task in self.tasks(selection, reading.missing):
                keys = itertools.product(*(canonical_many(values) for values in task.values))
                output = [outputs[key] for key in keys]
                block = self.block(task, output if task.order else output[0])
                self.store_block(task, block, 0.0, syncer)
        return Path(path)

    def update_chunk_index(self, chunk_hash: str, chunk_key: ChunkKey) -> None:
        """Do nothing: the folder is the index, and it is never out of date.

        Parameters
        ----------
        chunk_hash : str
            The chunk's hash.
        chunk_key : ChunkKey
            The chunk.
        """

    def load_chunk_index(self) -> dict[str, dict[str, Any]]:
        """Return a view of the chunk files as they are now, and adopt those that no layout names.

        Returns
        -------
        dict of str to dict
            Chunk hash to ``chunk_key``, ``created_at`` and ``updated_at`` (ISO 8601, UTC), ``points``,
            ``bytes`` and ``complete``.
        """
        index: dict[str, dict[str, Any]] = {}
        orphans: list[dict[str, list[Any]]] = []
        for path in self._state.folder.chunk_files():
            try:
                with chunkfile.load(path) as chunk:
                    entry = self._index_entry(chunk)
                    orphans += self._orphaned(chunk)
            except (ChunkFormatError, FileNotFoundError):
                continue
            name = path.parent.name.removesuffix(".parts") if not entry["complete"] else path.stem
            index[name] = _joined(index.get(name), entry)
        if orphans:
            self._adopt(orphans)
        return index

    def _index_entry(self, chunk: chunkfile.Chunk) -> dict[str, Any]:
        sizes, part = chunk.sizes, chunk.constant["part"]
        names = [name for name, _, _ in chunk.constant["axes"]]
        values = self._state.store.values(chunk)
        when = _iso(chunk.created_at)
        return {
            "chunk_key": tuple((name, tuple(values.get(name, ()))) for name in names),
            "created_at": when,
            "updated_at": when,
            "points": sizes[part] if part is not None else math.prod(sizes[name] for name in names),
            "bytes": chunk.nbytes,
            "complete": part is None,
        }

    def _orphaned(self, chunk: chunkfile.Chunk) -> list[dict[str, list[Any]]]:
        """Return the bins that a file of this cache needs and no layout has."""
        values = self._state.store.values(chunk)
        if sorted(values) != sorted(self.axis_order):
            return []
        bins = self._bins()
        known = all(bins.of(name).find(canonical_many(vs)) is not None for name, vs in values.items())
        if known:
            return []
        alone = Bins()
        for name in self.axis_order:
            alone.of(name).add(values[name], canonical_many(values[name]))
        ref = self._state.store.ref(self.axis_order, (0,) * len(self.axis_order), alone)
        return [values] if ref.identity == chunk.identity else []

    def _adopt(self, orphans: Sequence[Mapping[str, list[Any]]]) -> None:
        """Write a layout that names the bins of chunk files that came without one."""
        bins: dict[str, dict[bytes, list[Any]]] = {}
        for values in orphans:
            for name, group in values.items():
                bins.setdefault(name, {}).setdefault(b"".join(canonical_many(group)), group)
        groups = {name: list(members.values()) for name, members in bins.items()}
        layout = Layout(self.version, self.axis_order, self.grid.sizes, groups, None, time.time_ns())
        with self._state.lock, self._storing():
            self._state.folder.commit_layout(layout, files.Syncer(self.durability))

    # --- finding caches ------------------------------------------------------------------------------------

    @classmethod
    def discover_caches(cls, root: str | os.PathLike[str]) -> list[dict[str, Any]]:
        """List the caches in a root.

        Parameters
        ----------
        root : path-like
            A folder of caches; one that does not exist has none.

        Returns
        -------
        list of dict
            For each cache ``cache_id``, ``path`` and ``metadata``: its axis_values, chunk_spec, axis_order,
            version, created_at and the user's own metadata; None where ``metadata.json`` is damaged.
        """
        found = []
        for name in sorted(files.list_folder(root)):
            path = Path(root) / name
            folder = Folder(path, "")
            try:
                metadata = folder.read_metadata()
            except (MetadataError, NotADirectoryError) as error:
                if isinstance(error, NotADirectoryError):
                    continue
                warnings.warn(str(error), DamageWarning, stacklevel=2)
                found.append({"cache_id": name, "path": path, "metadata": None})
                continue
            if metadata is not None:
                folder.version = metadata["version"]
                folder.refresh()
                metadata["axis_values"] = _stored_values(metadata, folder)
                found.append({"cache_id": name, "path": path, "metadata": metadata})
        return found

    @classmethod
    def find_compatible_caches(
        cls,
        root: str | os.PathLike[str],
        cache_id: str | None = None,
        axis_values: Mapping[str, Any] | None = None,
        chunk_spec: Mapping[str, Any] | None = None,
        version: str | None = None,
        axis_order: Sequence[str] | None = None,
        allow_superset: bool = False,
    ) -> list[dict[str, Any]]:
        """List the caches in a root that fit what is given; what is left out fits all.

        Parameters
        ----------
        root : path-like
            A folder of caches.
        cache_id, axis_values, chunk_spec, version, axis_order : optional
            What a cache must have.
        allow_superset : bool, default False
            Whether a cache with more values, or further axes of one value, fits `axis_values`.

        Returns
        -------
        list of dict
            As :meth:`discover_caches`.
        """
        sizes = (
            None
            if chunk_spec is None
            else {n: s["size"] if isinstance(s, Mapping) else s for n, s in chunk_spec.items()}
        )
        fitting = []
        for entry in cls.discover_caches(root):
            known = entry["metadata"]
            if known is None or (cache_id is not None and entry["cache_id"] != cache_id):
                continue
            if version is not None and known["version"] != version:
                continue
            if axis_order is not None and list(known["axis_order"]) != list(axis_order):
                continue
            if sizes is not None and known["chunk_spec"] != sizes:
                continue
            if axis_values is None or _covers(known["axis_values"], axis_values, superset=allow_superset):
                fitting.append(entry)
        return fitting

    @classmethod
    def load_from_cache(cls, root: str | os.PathLike[str], cache_id: str, **options: Any) -> ChunkCache:
        """Open a cache with the axis values that it has on disk.

        Parameters
        ----------
        root : path-like
            A folder of caches.
        cache_id : str
            The cache.
        **options : object
            Further keywords of :class:`ChunkCache`, such as ``collate_fn``.

        Returns
        -------
        ChunkCache
            The cache.

        Raises
        ------
        CacheNotFoundError
            Where there is no such cache.
        MetadataError
            Where its ``metadata.json`` is damaged.
        """
        folder = Folder(Path(root) / _checked_id(cache_id), "")
        known = folder.read_metadata()
        if known is None:
            there = [entry["cache_id"] for entry in cls.discover_caches(root)]
            raise CacheNotFoundError(
                f"there is no cache {cache_id!r} in '{root}', which has {len(there)} caches; pass"
                f" axis_values to make one"
            )
        folder.version = known["version"]
        folder.refresh()
        given: dict[str, Any] = {
            "metadata": known["metadata"],
            "chunk_spec": known["chunk_spec"],
            "axis_values": _stored_values(known, folder),
            "version": known["version"],
            "axis_order": known["axis_order"],
            **options,
        }
        return cls(root, cache_id, **given)


# --- helpers -----------------------------------------------------------------------------------------------


class _Storing:
    """Turn what the system says of an unwritable root into an error that says the way out."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or (
            isinstance(error, OSError) and error.errno in _READ_ONLY
        ):
            raise RootError(
                error.errno or 0,
                f"the root '{self._root}' cannot be written ({error.strerror or error}); make it writable,"
                f" or pass another root",
            ) from error


_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def _checked_id(cache_id: str) -> str:
    if not isinstance(cache_id, str) or not cache_id:
        raise SpecError(
            f"cache_id must be a non-empty string, got {cache_id!r}; params_to_cache_id(params) makes one"
        )
    unsafe = cache_id in (".", "..") or any(c in cache_id for c in "/\\\0") or len(cache_id.encode()) > 200
    if unsafe:
        raise SpecError(
            f"cache_id names a folder, so it cannot hold '/', be '..' or exceed 200 bytes, got {cache_id!r};"
            f" params_to_cache_id(params) makes one"
        )
    return cache_id


def _checked_version(version: str) -> str:
    if not isinstance(version, str):
        raise SpecError(f"version must be a string, got {version!r}; write version={str(version)!r}")
    return version


def _checked_kind(outputs: str | None) -> str | None:
    if outputs is not None and outputs not in KINDS:
        raise SpecError(f"outputs must be one of {list(KINDS)} or None, got {outputs!r}")
    return outputs


def _checked_durability(durability: str) -> str:
    if durability not in ("full", "fast"):
        raise SpecError(f"durability must be 'full' or 'fast', got {durability!r}")
    return durability


def _check_root(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise RootError(
            errno.ENOTDIR, f"the root '{root}' is a file; expected a folder of caches: pass another root"
        )


def _make_grid(
    axis_values: Mapping[str, Any] | None,
    chunk_spec: Mapping[str, Any] | None,
    axis_order: Sequence[str] | None,
) -> Grid:
    if axis_values is None:
        raise SpecError(
            "axis_values is missing; pass {axis name: values}, or {} for a cache without axes,"
            " or open an existing cache with ChunkCache.load_from_cache(root, cache_id)"
        )
    if not isinstance(axis_values, Mapping):
        raise SpecError(f"axis_values must map axis names to values, got {axis_values!r}")
    order = tuple(axis_order) if axis_order is not None else tuple(sorted(axis_values))
    if sorted(order) != sorted(axis_values):
        raise SpecError(f"axis_order must name each of {sorted(axis_values)} once, got {list(order)}")
    axes = tuple(make_axis(name, axis_values[name]) for name in order)
    return Grid(axes, chunk_sizes(chunk_spec, axis_values, axes))


def _grid_of(view: Selection, grid: Grid) -> Grid:
    """Return the grid that a slice shows: its values, once each, in the order sliced."""
    named = zip(view.order, view.values, strict=True)
    return Grid(tuple(make_axis(name, list(values)) for name, values in named), grid.sizes)


def _narrowed(view: Selection, chosen: Selection) -> Selection:
    """Keep a slice's own order, and its repetitions, on axes that were not narrowed further."""
    values, keys = [], []
    for number, asked in enumerate(chosen.keys):
        whole = asked == tuple(dict.fromkeys(view.keys[number]))
        source = view if whole else chosen
        values.append(source.values[number])
        keys.append(source.keys[number])
    return Selection(view.order, tuple(values), tuple(keys))


def _touches(axis: Any, fresh: Mapping[str, list[int]], name: str) -> bool:
    new = fresh.get(name)
    return bool(new) and bool(np.isin(axis.request, new).any())


def _chunk_points(cell: Cell, choice: tuple[int, ...], ref: ChunkRef) -> IntArray:
    """Return the positions in a chunk of a cell's points, row-major."""
    if not ref.sizes:
        return np.zeros(1, np.intp)
    positions = [axis.positions[i] for axis, i in zip(cell.axes, choice, strict=True)]
    return np.ravel_multi_index(np.ix_(*positions), ref.sizes).reshape(-1)


def _rows_of(points: IntArray, wanted: IntArray) -> IntArray:
    """Return the row at which each wanted point stands, -1 where it does not."""
    order = np.argsort(points, kind="stable")
    place = np.minimum(np.searchsorted(points[order], wanted), len(points) - 1)
    rows = order[place]
    return np.where(points[rows] == wanted, rows, -1)


def _same_points(points: IntArray, wanted: IntArray) -> bool:
    return len(points) == len(wanted) and bool((points == wanted).all())


def _taken(block: Block, rows: IntArray) -> Block:
    if block.kind == "opaque":
        return block
    columns = {name: column.rows(rows) for name, column in block.columns.items()}
    return Block(block.kind, len(rows), columns, block.coords.taken(rows))


def tasks_for(
    selection: Selection,
    missing: Sequence[tuple[int, Cell, IntArray | None]],
    bins: Bins,
    make_ref: Callable[[tuple[str, ...], tuple[int, ...]], ChunkRef],
) -> Iterator[Task]:
    """Cut missing points into calls: disjoint boxes, each within the first chunk that may hold it.

    Parameters
    ----------
    selection : Selection
        The request.
    missing : sequence
        Cells that miss points: rank, cell, and row-major positions in it (None for all of them).
    bins : Bins
        The bins of every axis.
    make_ref : callable
        ``(order, numbers) -> ChunkRef``.

    Yields
    ------
    Task
        One call.
    """
    for rank, cell, points in missing:
        choice = cell.candidates(bins, selection.order)[0]
        numbers = tuple(axis.bins[i] for axis, i in zip(cell.axes, choice, strict=True))
        ref = make_ref(selection.order, numbers)
        mask = np.ones(cell.points, bool) if points is None else np.zeros(cell.points, bool)
        if points is not None:
            mask[points] = True
        for box in boxes(mask.reshape(cell.shape)):
            yield _task(selection, rank, cell, choice, ref, box)


def _task(
    selection: Selection,
    rank: int,
    cell: Cell,
    choice: tuple[int, ...],
    ref: ChunkRef,
    box: tuple[IntArray, ...],
) -> Task:
    values, within, ranks = [], [], []
    for number, axis in enumerate(cell.axes):
        places = axis.positions[choice[number]][box[number]]
        order = np.argsort(places, kind="stable")
        ranks.append(box[number][order])
        within.append(places[order])
        asked = selection.values[number]
        values.append(tuple(asked[i] for i in axis.source[ranks[-1]]))
    points: IntArray | None = None
    cell_points: IntArray | None = None
    if math.prod(len(w) for w in within) < ref.points:
        points = np.ravel_multi_index(np.ix_(*within), ref.sizes).reshape(-1)
    if cell.axes:
        cell_points = np.ravel_multi_index(np.ix_(*ranks), cell.shape).reshape(-1)
        if _same_points(cell_points, np.arange(cell.points)):
            cell_points = None
    return Task(ref, selection.order, tuple(values), points, rank, cell, cell_points)


def _is_one_chunk(layout: Layout, grid: Grid) -> bool:
    one_each = all(len(layout.bins.get(name, ())) == 1 for name in grid.order)
    return layout.chunks is None and one_each


def _box_layout(version: str, grid: Grid, found: list[dict[str, list[int]]], now: int) -> Layout:
    """Return the layout of chunks that were named one by one."""
    bins: dict[str, list[list[Any]]] = {name: [] for name in grid.order}
    numbers: dict[str, dict[tuple[int, ...], int]] = {name: {} for name in grid.order}
    chunks = []
    for box in found:
        chunk = []
        for name in sorted(box):
            group = tuple(box[name])
            if group not in numbers[name]:
                numbers[name][group] = len(bins[name])
                bins[name].append([grid.axis(name).values[i] for i in group])
            chunk.append(numbers[name][group])
        chunks.append(chunk)
    return Layout(version, grid.order, grid.sizes, bins, chunks, now)


def _stored_values(known: Mapping[str, Any], folder: Folder) -> dict[str, list[Any]]:
    """Return the axis values of a cache on disk: those of its metadata, then those of its layouts."""
    values = {name: list(vs) for name, vs in known["axis_values"].items()}
    for name, more in folder.axis_values().items():
        if name in values:
            there = set(canonical_many(values[name]))
            values[name] += [v for v in more if canonical_bytes(v) not in there]
    return values


def _covers(known: Mapping[str, list[Any]], asked: Mapping[str, Any], *, superset: bool) -> bool:
    axes = {name: make_axis(name, values) for name, values in asked.items()}
    if not superset:
        return sorted(known) == sorted(axes) and all(
            canonical_many(known[name]) == list(axis.keys) for name, axis in axes.items()
        )
    return all(
        name in known and set(axis.keys) <= set(canonical_many(known[name])) for name, axis in axes.items()
    )


def _joined(there: dict[str, Any] | None, entry: dict[str, Any]) -> dict[str, Any]:
    if there is None or (entry["complete"] and not there["complete"]):
        return entry
    if there["complete"]:
        return there
    return {
        **there,
        "created_at": min(there["created_at"], entry["created_at"]),
        "updated_at": max(there["updated_at"], entry["updated_at"]),
        "points": there["points"] + entry["points"],
        "bytes": there["bytes"] + entry["bytes"],
    }


def _iso(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc).isoformat()
