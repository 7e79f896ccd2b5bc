"""One grid on disk: :class:`ChunkCache` plans, reads, writes, slices, extends and tells its status.

Runners need a few verbs of it (``read``, ``settle``, ``tasks``, ``writer``). The other methods
are those that a user calls, or that the document names as overridable; what they do lives in modules of its own.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunk_memo import binning, catalog, cleaning, items, scattered
from chunk_memo.chunks import ChunkRef, ChunkStore, Naming
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.filters import checked_compression
from chunk_memo.disk.layouts import POINTS, Folder, Layout
from chunk_memo.disk.records import Adopted, Superseded
from chunk_memo.errors import (
    ChunkMemoError,
    DamageWarning,
    MetadataError,
    OutputError,
    OverlapError,
    OverlapWarning,
    OwnerWarning,
    RootError,
    SpecError,
    UnknownAxisError,
    UnknownValueError,
    caller_level,
)
from chunk_memo.failures import Failure, Failures
from chunk_memo.grid import Bins, ChunkKey, Grid, IntArray, chunk_sizes, make_axis
from chunk_memo.identity import canonical_bytes, canonical_many, digest_of_bytes, normalize
from chunk_memo.layers import Asked, GcReport, Layers, Mask, Request
from chunk_memo.ledger import FailureLog, Known, known_failures, outstanding
from chunk_memo.outputs import KINDS, Block, Collector
from chunk_memo.plan import Costs, Plan
from chunk_memo.planning import make_plan, which_stored
from chunk_memo.points import PointReader
from chunk_memo.reading import Reader, Reading, read_layers
from chunk_memo.scattered import Group, Nearby, Scattered
from chunk_memo.selection import Cell, Cells, Selection, new_values, select
from chunk_memo.status import CacheStatus
from chunk_memo.tasks import Missing, Task, tasks_for
from chunk_memo.writing import Writer

if TYPE_CHECKING:
    from chunk_memo.results import SweepResult
    from chunk_memo.tables.parquet import Exported

__all__ = ["ChunkCache"]


@dataclass(slots=True)
class _State:
    """What a cache and its slices share."""

    folder: Folder
    layers: Layers
    grid: Grid
    ready: bool = False
    described: bool = False
    writer: Writer | None = None
    binned: Grid | None = None
    pending: list[Layout] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    points: PointReader | None = None
    failures: FailureLog | None = None
    scattered: Scattered = field(default_factory=Scattered)

    @property
    def store(self) -> ChunkStore:
        """The chunks that are written, and read first."""
        return self.layers.top


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
    allow_pickle : bool, default True
        Whether outputs without a native form may be pickled, and pickles that this user, or a trusted key, signed
        be loaded (:mod:`chunk_memo.disk.signing`); those of others never are. False refuses all of them.
    durability : {"full", "fast"}
        Whether files are synced before a run returns.
    max_chunk_bytes : int, default 4 GiB
        Larger chunks, in bytes of the file or of its arrays once they are unpacked, are neither written nor read.
    shared : {"group"}, optional
        Let the root, and all that comes into it, be for its group, too (modes 2770 and 0660, whatever the umask
        is); by default all is for its owner alone, except in a root that was shared before.
    read_only : bool, default False
        Serve what is stored, and write nothing: what is missing is computed and returned, with one warning. A
        root that this user may not write to serves what is stored in any case; but there, unless this is said,
        work that could not be stored is an error, which holds the outputs.
    compression : {"zstd", "blosc2", "gzip"}, optional
        How the arrays of new files are compressed. It is no part of what a chunk is: files of any compression
        serve together. ``zstd`` and ``blosc2`` need the extra ``chunk-memo[compression]``.
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
        Where the root is a file, or anybody may put files into it, or it cannot be shared.

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

    portable = True
    """Whether workers can store by themselves."""

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
        allow_pickle: bool = True,
        durability: str = "full",
        max_chunk_bytes: int = chunkfile.MAX_BYTES,
        shared: str | None = None,
        read_only: bool = False,
        compression: str | None = None,
        name: str = "",
        grid: Grid | None = None,
        identity: bytes | None = None,
    ) -> None:
        self.root = Path(root) if root is not None else Path(".chunk_memo")
        self._home = Path(os.path.realpath(self.root))
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
        self.max_chunk_bytes = _checked_bytes(max_chunk_bytes)
        self.shared = _checked_shared(shared)
        self.read_only = read_only
        self.compression = checked_compression(compression)
        self.name = name
        self.miss_reason: str | None = None
        self._view: Selection | None = None
        self._identity = identity
        grid = grid or _make_grid(axis_values, chunk_spec, axis_order)
        self._open(cache_id, metadata or {}, grid)

    def _open(self, cache_id: str, metadata: Mapping[str, Any], grid: Grid) -> None:
        self.cache_id = _checked_id(cache_id)
        self.metadata = dict(metadata)
        _check_root(self.root, self._home, self.shared)
        if self.shared is not None and not self.read_only:
            _share(self.root, self._home, self._home / self.cache_id)
        self._state = self._new_state(grid)
        if self.exclusive or self.warn_on_overlap:
            self._check_overlap()

    def _new_state(self, grid: Grid) -> _State:
        store = self._open_store(self.cache_id, self.version, self.params)
        return _State(store.folder, Layers(store, self._open_other), grid)

    def __copy__(self) -> ChunkCache:
        """Return another view of the same cache."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        return view

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: the settings, and the root as an absolute path; nothing that was read."""
        return {**self.__dict__, "root": self._home, "_state": self.grid}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what travelled."""
        self.__dict__.update(state)
        self._state = self._new_state(state["_state"])

    def _open_store(self, cache_id: str, version: str, params: Mapping[str, Any]) -> ChunkStore:
        return ChunkStore(
            Folder(self._home / cache_id, version, read_only=self.read_only),
            cache_id,
            Naming(params, self.chunk_hash_fn, self.path_fn),
            allow_pickle=self.allow_pickle,
            title=self.name,
            compression=self.compression,
            max_bytes=self.max_chunk_bytes,
        )

    def _open_other(self, cache_id: str, version: str) -> ChunkStore:
        """Open the chunks of an adopted cache; a user's own names of files depend on its params."""
        params: Any = {}
        if self.chunk_hash_fn is not None or self.path_fn is not None:
            try:
                known = Folder(self.path.parent / cache_id, version).read_metadata()
            except MetadataError:
                known = None
            params = known["metadata"].get("params") if known is not None else {}
        return self._open_store(cache_id, version, params if isinstance(params, Mapping) else {})

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

    def _repr_html_(self) -> str:
        """Return what it holds, and a map of it, for a notebook."""
        from chunk_memo.display.notebook import html_of_cache

        return html_of_cache(self)

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

    def viewing(self, selection: Selection) -> ChunkCache:
        """Return a view of this cache that covers a request.

        Parameters
        ----------
        selection : Selection
            The request.

        Returns
        -------
        ChunkCache
            A view; it shares what is stored.
        """
        view = copy.copy(self)
        view._view = selection
        return view

    def for_points(self, *, whole: bool = False) -> ChunkCache:
        """Return a view of this cache for a function that takes single values.

        Parameters
        ----------
        whole : bool, default False
            Whether it covers the whole cache where this is a slice.

        Returns
        -------
        ChunkCache
            A view; it shares what is stored.
        """
        view = copy.copy(self)
        view.vectorize = True
        if whole:
            view._view = None
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
        known = self._cells(selection, self._bins())
        if known.unbinned and self._state.layers.refresh():
            known = self._cells(selection, self._bins())
        fresh = known.unbinned
        cells = self._cells(selection, self._provisional_bins()) if fresh else known
        layers = self._state.layers.all
        return make_plan(cells, fresh, layers, self.costs, self.miss_reason, self._known_failures, self.nearby)

    def nearby(self) -> list[Nearby]:
        """Return the points that form no grid, by layer.

        Returns
        -------
        list of Nearby
            Those of the newest generation first; nothing where none are stored.
        """
        self._bins()
        return self._state.scattered.of(self._state.layers.all, self.axis_order)

    def scattered_groups(self, *, besides: bool = False) -> list[Group]:
        """Return the points stored that form no grid, by the files that hold them; of a slice those it covers.

        Parameters
        ----------
        besides : bool, default False
            Whether to leave out those that the declared grid has, too.

        Returns
        -------
        list of Group
            Each point is in one of them.
        """
        order, view = self.axis_order, self._view
        seen: set[tuple[bytes, ...]] = set()
        declared = [frozenset(self.grid.axis(name).keys) for name in order]
        covered = None if view is None else [frozenset(view.keys[view.order.index(name)]) for name in order]
        groups = []
        for points_of in self.nearby():
            flats, values = points_of.stored()
            keys = list(zip(*(canonical_many(values[name]) for name in order), strict=True))
            kept = []
            for number, key in enumerate(keys):
                wanted = covered is None or _is_within(key, covered)
                if wanted and key not in seen and not (besides and _is_within(key, declared)):
                    seen.add(key)
                    kept.append(number)
            bins = points_of.bins.numbers_of(flats[kept]) if kept else flats[:0]
            for ranks in np.split(np.asarray(kept, np.intp), np.flatnonzero(np.diff(bins)) + 1) if kept else ():
                chosen = ranks.tolist()
                own = {name: [values[name][n] for n in chosen] for name in order}
                groups.append(Group(points_of, flats[ranks], own, tuple(keys[n] for n in chosen)))
        return groups

    def scattered_points(self, *, besides: bool = False) -> dict[str, list[Any]]:
        """Return the points stored that form no grid; of a slice those that it covers.

        Parameters
        ----------
        besides : bool, default False
            Whether to leave out those that the declared grid has, too.

        Returns
        -------
        dict of str to list
            Axis name, in axis order, to the value at each point; each point is there once.
        """
        groups = self.scattered_groups(besides=besides)
        return {name: [value for group in groups for value in group.values[name]] for name in self.axis_order}

    def refresh(self) -> None:
        """Take in what other processes have done: new bins, adopted caches, results that count no more."""
        self._bins()
        self._state.layers.refresh()

    def count_points(self) -> int:
        """Return how many points are stored of the declared grid, and besides of those that form no grid.

        Returns
        -------
        int
            Their number; adopted ones count, superseded ones do not.
        """
        besides = self.scattered_points(besides=True)
        return self.plan().cached_points + len(next(iter(besides.values()), ()))

    def costs(self) -> tuple[Costs | None, Costs | None]:
        """Return what a few stored files took to compute and to store.

        Returns
        -------
        tuple of Costs or None
            Seconds of compute, and bytes of files; None where nothing is stored.
        """
        samples: list[tuple[int, float, int]] = []
        layers = self._state.layers.all
        folders = {layer.store.folder: None for layer in layers}
        folders |= {store.folder: None for store in self._state.scattered.files(layers)}
        paths = itertools.chain.from_iterable(folder.chunk_files() for folder in folders)
        for path in itertools.islice(paths, 16):
            try:
                with self._state.store.opened(path) as chunk:
                    sizes = chunk.sizes
                    part = chunk.constant["part"]
                    names = [part] if part is not None else [a[0] for a in chunk.constant["axes"]]
                    points = math.prod(sizes[name] for name in names)
                    samples.append((points, chunk.seconds, chunk.nbytes))
            except (ChunkMemoError, OSError):
                continue
        if not samples:
            return None, None
        return Costs.of([(n, took) for n, took, _ in samples]), Costs.of([(n, size) for n, _, size in samples])

    def read(
        self,
        selection: Selection,
        collector: Collector | None,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> Reading:
        """Read what is stored of a request, and say what is not.

        Parameters
        ----------
        selection : Selection
            The request.
        collector : Collector or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        wanted : ndarray of bool, optional
            For each point of the request whether it is wanted; all of them by default.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        started, looked = time.perf_counter(), not self._state.ready
        cells = self._cells(selection, self._bins())
        unsettled, written, listed = bool(cells.unbinned), 0.0, None
        if unsettled:
            _, written, listed = self._settle(look=not looked)
            cells = self._cells(selection, self._bins())
        planned = time.perf_counter() - started - written
        writer = self.writer()
        learn = writer.learn if writer.form is None else None
        layers = self._state.layers.all
        reading = read_layers(layers, cells, collector, learn, wanted, listed=listed, nearby=self.nearby)
        reading.plan_seconds, reading.settled = planned, unsettled
        reading.write_seconds = written
        return reading

    def read_stored(
        self,
        selection: Selection,
        collector: Collector | None,
        wanted: npt.NDArray[np.bool_] | None = None,
        *,
        grid_only: bool = False,
    ) -> Reading:
        """Read what is stored of a request, and write nothing: not even bins for values that have none.

        Parameters
        ----------
        selection : Selection
            The request, which may have values that were never declared.
        collector : Collector or None
            Takes the outputs. With None nothing is decoded: files are opened and their manifests checked.
        wanted : ndarray of bool, optional
            For each point of the request whether it is wanted; all of them by default.
        grid_only : bool, default False
            Whether to leave out the points that form no grid.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        layers = self._state.layers
        self._bins()
        layers.refresh()
        bins = self._bins()
        if self._cells(selection, bins).unbinned:
            self._state.store.adopt_unnamed(self.axis_order)
            bins = self._provisional_bins()
        lacking = self._cells(selection, bins).unbinned
        if lacking:
            bins = bins.copied()
            for name, places in lacking.items():
                axis = selection.order.index(name)
                for place in places:
                    bins.of(name).add([selection.values[axis][place]], [selection.keys[axis][place]])
        cells = self._cells(selection, bins)
        nearby: Callable[[], Sequence[Nearby]] = tuple if grid_only else self.nearby
        return read_layers(layers.all, cells, collector, wanted=wanted, nearby=nearby)

    def bins_may_hold(self, keys: Mapping[str, Sequence[bytes]]) -> npt.NDArray[np.bool_]:
        """Tell at which points some chunk of a grid may hold an output, by the values of each axis alone.

        Parameters
        ----------
        keys : mapping of str to sequence of bytes
            For each axis the canonical bytes of the value at each point.

        Returns
        -------
        ndarray of bool
            One entry for each point.
        """
        self._state.store.adopt_unnamed(self.axis_order)
        count = len(next(iter(keys.values()), ()))
        found = np.zeros(count, bool)
        for layer in self._state.layers.all:
            here = np.full(count, not layer.hidden)
            for name, along in keys.items():
                if name in layer.pinned:
                    here &= np.fromiter((key == layer.pinned[name] for key in along), bool, count)
                else:
                    here &= layer.store.folder.bins.of(name).locate(along) >= 0
            found |= here
        return found

    def scattered_store(self) -> ChunkStore:
        """Return the chunks of points that form no grid, of the newest generation.

        Returns
        -------
        ChunkStore
            The chunks.
        """
        self._bins()
        return self._state.scattered.store(self._state.layers.all[0])

    @property
    def lock(self) -> threading.RLock:
        """Held while bins are made."""
        return self._state.lock

    def read_back(
        self, cells: Cells, stored: Sequence[tuple[int, IntArray | None]], collector: Collector
    ) -> Sequence[Missing]:
        """Read what workers stored of a request.

        Parameters
        ----------
        cells : Cells
            The request, as an earlier read had it.
        stored : sequence of tuple
            Ranks of cells, and row-major positions in them that are stored by now (None for all of them).
        collector : Collector
            Takes the outputs.

        Returns
        -------
        sequence of Missing
            What was not there after all.
        """
        whole = np.zeros(len(cells), bool)
        whole[[rank for rank, points in stored if points is None]] = True
        parts = [(rank, points) for rank, points in stored if points is not None]
        reader = Reader(self.writer().store, cells.bins, cells.selection.order)
        return reader.read_all(cells, collector, self._state.layers.all[0].patterns, Asked(whole, parts)).missing

    def read_point(self, values: Sequence[Any]) -> tuple[Any, int] | None:
        """Return what is stored at one point, where that can be told at once.

        Parameters
        ----------
        values : sequence
            The value on each axis, in axis order: plain ints, floats, strings and the like.

        Returns
        -------
        tuple of object, int, or None
            What a run over this point would return, and the bytes read; None where a run is needed to tell.
        """
        state = self._state
        plain = state.described and state.store.plain and self._view is None
        if not plain or self.collate_fn is not None or self.profile:
            return None
        bins, top = self._bins(), state.layers.all[0]
        if state.points is None or state.points.store is not top.store:
            state.points = PointReader(top.store, top.patterns)
        return state.points.read(bins, state.grid, values)

    def _cells(self, selection: Selection, bins: Bins) -> Cells:
        self._spread()
        return Cells(selection, bins)

    def _spread(self) -> None:
        large = binning.is_large(self.grid)
        for store in self._state.layers.own:
            store.spread = large

    def settle(self) -> bool:
        """Take in the bins that other processes made, and make those that are lacking.

        Returns
        -------
        bool
            Whether there are bins now that were not known before, so that reading again is worth it.
        """
        return self._settle(look=True)[0]

    def _settle(self, *, look: bool) -> tuple[bool, float, Set[str] | None]:
        """Make the bins that are lacking, after a look for others'; return whether there are new ones.

        Also returned are the seconds that writing took, and the names of all that is stored, if they were listed.
        """
        with self._state.lock:
            known = len(self._state.folder.layouts)
            self._bins()
            layers = self._state.layers
            news = look and layers.refresh() and not layers.single
            listed = self._state.store.adopt_unnamed(self.axis_order)
            for layer in layers.others:
                order = tuple(name for name in self.axis_order if name not in layer.pinned)
                layer.store.adopt_unnamed(order)
            written = self._make_bins()
            return news or len(self._state.folder.layouts) != known, written, listed

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
        return Collector(selection, by_chunk=by_chunk)

    def tasks(self, selection: Selection, missing: Iterable[Missing]) -> Iterator[Task]:
        """Cut what a read did not find into calls of the function.

        Parameters
        ----------
        selection : Selection
            The request.
        missing : iterable of Missing
            :attr:`Reading.missing`.

        Yields
        ------
        Task
            One call: points of one chunk that form a box.
        """
        # Outputs belong to the generation that was the newest before they were computed.
        bins, store = self._bins(), self._state.store

        def make_ref(order: tuple[str, ...], numbers: tuple[int, ...]) -> ChunkRef:
            return store.ref(order, numbers, bins)

        tasks = tasks_for(selection, missing, bins, make_ref)
        while ahead := list(itertools.islice(tasks, _AHEAD)):
            yield from ahead

    def writer(self) -> Writer:
        """Return what checks and stores outputs of the newest generation, in this process or in a worker.

        Returns
        -------
        Writer
            The same one until something is superseded.
        """
        state = self._state
        kept = state.writer
        if kept is None or kept.store is not state.store or kept.vectorize != self.vectorize:
            made = Writer(state.store, self.name, self.outputs, self.vectorize, self.durability)
            made.form = None if kept is None else kept.form
            made.prepare = self._commit_pending
            kept = state.writer = made
        return kept

    # --- bins ----------------------------------------------------------------------------------------------

    def _bins(self) -> Bins:
        state = self._state
        if not state.ready or state.folder.records.outdated:
            with state.lock:
                state.layers.refresh()
                state.ready = True
        return state.folder.bins

    def _new_layouts(self, grid: Grid, known: Grid | None = None) -> list[Layout]:
        return list(binning.new_layouts(grid, self._bins(), self.version, self.chunk_enumerator, known))

    def _provisional_bins(self) -> Bins:
        return binning.provisional(self.grid, self._bins(), self.version, self.chunk_enumerator)

    def _make_bins(self) -> float:
        """Write layouts with bins for every declared value that has none; return the seconds that took.

        Where there is no room for them, the run goes on with the bins in memory: outputs reach the caller, and
        no chunk is written before its layout.
        """
        state, syncer, grid = self._state, self.syncer(), self.grid
        layouts = [] if state.binned is grid else self._new_layouts(grid, state.binned)
        alone = not state.folder.layouts and len(layouts) == 1 and binning.is_one_chunk(layouts[0], grid)
        document = self._metadata_document() if alone else None
        written = 0.0
        for layout in layouts:
            if self.read_only:
                layout.add_to(state.folder.bins)
                continue
            try:
                with _Storing(self.root):
                    written += state.folder.commit_layout(layout, syncer, document)
            except RootError:
                raise
            except OSError:
                layout.add_to(state.folder.bins)
                state.pending.append(layout)
        state.binned = grid
        return written

    def _commit_pending(self, syncer: files.Syncer) -> None:
        """Write the layouts that found no room before."""
        if not self._state.pending:
            return
        with self._state.lock:
            while self._state.pending:
                self._state.folder.commit_layout(self._state.pending[0], syncer)
                self._state.pending.pop(0)

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
        with self._state.lock:
            self._state.grid = _extended(self.grid, axis_values)

    # --- results that count, and results that do not -------------------------------------------------------

    @property
    def adopted(self) -> tuple[Adopted, ...]:
        """The caches whose results count for this one, oldest adoption first."""
        self._bins()
        return self._state.folder.records.adopted

    @property
    def generation(self) -> int:
        """The newest generation of results, 0 where nothing was ever superseded."""
        self._bins()
        return self._state.folder.records.generation

    def adopt(
        self, cache_id: str, *, pinned: Mapping[str, Any] | None = None, version: str | None = None
    ) -> None:
        """Let the results of another cache in the same root count for this one.

        Nothing that is stored is touched: a small record beside this cache says so, and is on disk when this
        returns. What the other cache computes, or adopts, later counts, too.

        Parameters
        ----------
        cache_id : str
            The other cache.
        pinned : mapping, optional
            Axes that the other cache does not have, each with the one value at which its results hold.
        version : str, optional
            The other's namespace; this cache's own by default.

        Raises
        ------
        CacheNotFoundError
            Where there is no such cache in the root.
        SpecError
            Where it is this cache, or where its axes and `pinned` are not this cache's axes.
        """
        record = self._adoption(cache_id, pinned, version)
        self.write_metadata()
        self._bins()
        self._commit_record(record)

    def as_adopting(self, cache_id: str, pinned: Mapping[str, Any]) -> ChunkCache:
        """Return a view for plans in which the results of another cache count; nothing is written.

        Parameters
        ----------
        cache_id : str
            The other cache.
        pinned : mapping
            Axes that the other cache does not have, each with the one value at which its results hold.

        Returns
        -------
        ChunkCache
            The view.
        """
        view = copy.copy(self)
        view._state = self._new_state(self.grid)
        view._bins()
        view._state.folder.records.presume(self._adoption(cache_id, pinned, None))
        view._state.layers.update()
        return view

    def _adoption(self, cache_id: str, pinned: Mapping[str, Any] | None, version: str | None) -> Adopted:
        """Return the record by which the results of another cache count."""
        pinned = {axis: normalize(value) for axis, value in (pinned or {}).items()}
        version = self.version if version is None else _checked_version(version)
        if (_checked_id(cache_id), version) == (self.cache_id, self.version):
            raise SpecError(f"the cache {cache_id!r} cannot adopt itself; name another one, or another version")
        known = catalog.known(self.path.parent, cache_id)
        if known is None:
            raise catalog.missing_cache(self.root, cache_id)
        if sorted([*known["axis_order"], *pinned]) != sorted(self.axis_order):
            raise SpecError(
                f"the cache {cache_id!r} has the axes {sorted(known['axis_order'])}, and {sorted(pinned)} are"
                f" pinned; together they must be {sorted(self.axis_order)}: pin each axis that it lacks, and no"
                f" other, to the one value at which its results hold"
            )
        canonical_many(list(pinned.values()))
        return Adopted(cache_id, version, pinned, known["identity"], self.version, time.time_ns())

    def invalidate(self, *, axis_indices: Mapping[str, Any] | None = None, **axes: Any) -> int:
        """Let stored results count no more, so that their points are computed again; nothing is deleted.

        A small record says so, and is on disk when this returns. Other processes take it in when they open the
        cache, or miss something.

        Parameters
        ----------
        axis_indices : mapping, optional
            Axis name to an int, slice, range or sequence of ints.
        **axes : object
            Axis name to one value, or to several; values that only points that form no grid have count, too.
            Axes left out mean all values, declared or not; of a slice, those that it covers.

        Returns
        -------
        int
            The generation from which on results count; 0 where nothing was stored of what is named.
        """
        knowing = self._with_values_of_points(axes) if axes and self._view is None else self
        selection = knowing.selection(axes, axis_indices)
        state = self._state
        with state.lock:
            self._bins()
            state.layers.refresh()
            exact = selection.order if self._view is not None else {*axes, *(axis_indices or {})}
            named = {
                name: tuple(dict(zip(keys, values, strict=True)).values())
                for name, keys, values in zip(selection.order, selection.keys, selection.values, strict=True)
                if name in exact
            }
            generation = state.folder.records.generation + 1
            record = Superseded(generation, named or None, self.version, time.time_ns())
            there = knowing.plan(selection).cached_points
            if not there and (self._view is not None or not self._holds_any(record)):
                return 0
            self._commit_record(record)
            return generation

    def _with_values_of_points(self, names: Iterable[str]) -> ChunkCache:
        """Return a view in which some axes have the values of points that form no grid, too, behind their own."""
        points = self.scattered_points(besides=True)
        more: dict[str, list[Any]] = {}
        for name in names:
            own = self.grid.axis(name)
            others = zip(canonical_many(points[name]), points[name], strict=True)
            fresh = {key: value for key, value in others if key not in own.lookup}
            if fresh:
                more[name] = [*own.values, *fresh.values()]
        return self.with_axis_values(more) if more else self

    def _holds_any(self, record: Superseded) -> bool:
        """Tell whether something stored would be superseded, be it of values that were never declared here."""
        named = Mask.of(record)
        return any(cleaning.counts_any(layer, self.axis_order, named) for layer in self._state.layers.all)

    def _commit_record(self, record: Adopted | Superseded) -> None:
        state = self._state
        with state.lock, _Storing(self.root):
            state.folder.records.commit(record, files.Syncer())
            state.layers.update()

    # --- labelled results ----------------------------------------------------------------------------------

    def result(self) -> SweepResult:
        """Return what is stored of this cache or slice as labelled data, which is read when it is looked at.

        Nothing is run: points that are missing, or failed, are shown as such.

        Returns
        -------
        SweepResult
            The results, with ``to_xarray``, ``to_pandas``, ``sel`` and their like.

        Examples
        --------
        >>> import tempfile
        >>> from chunk_memo import ChunkCache, run
        >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2, 3]}, name="square")
        >>> _ = run(cache.slice(s=[1, 2]), lambda s: [v * v for v in s])
        >>> cache.result().to_numpy()
        masked_array(data=[1, 4, --],
                     mask=[False, False,  True],
               fill_value=999999)
        """
        from chunk_memo.results import SweepResult

        return SweepResult.of(self)

    def cases(self, points: Iterable[Any] | None = None) -> SweepResult:
        """Return what is stored of points that form no grid, along one dimension ``case``; nothing is run.

        Parameters
        ----------
        points : iterable, optional
            The points: each a dict of axis values, or a tuple in axis order. By default all that a list of
            points, or a sample, left in this cache or slice, those that failed included.

        Returns
        -------
        SweepResult
            Their results, as ``foo.cases(…)`` returns them.

        Examples
        --------
        >>> import tempfile
        >>> import chunk_memo
        >>> memo = chunk_memo.ChunkMemo(root := tempfile.mkdtemp(), axis_values={"x": [0.0]}, verbose=0)
        >>> @memo.cache(vectorize=True)
        ... def square(x):
        ...     return x * x
        >>> _ = square.cases([0.5, 3.0])
        >>> found = chunk_memo.open(root)["square"].cases()
        >>> found.coords["x"], found.to_numpy()
        ([0.5, 3.0], array([0.25, 9.  ]))
        """
        from chunk_memo.cases import CaseDesign, PointList
        from chunk_memo.results import SweepResult

        if points is not None:
            return SweepResult(CaseDesign(self, PointList.of(points, self.axis_order)))
        values = self.scattered_points()
        failed = [f for f in self._failures_nearby() if f.record is not None] if self.axis_order else []
        for name, along in values.items():
            along.extend(failure.values[failure.order.index(name)][0] for failure in failed)
        return SweepResult(CaseDesign(self, PointList(self.axis_order, values)))

    def sel(self, *, method: str | None = None, **labels: Any) -> SweepResult:
        """Return results at some values of the axes; see :meth:`SweepResult.sel`.

        Parameters
        ----------
        method : {"nearest"}, optional
            Take the nearest values of an axis of numbers or dates.
        **labels : object
            Axis name to one value, several, or a slice of values.

        Returns
        -------
        SweepResult
            Their results; an axis with a single value is left out.
        """
        return self.result().sel(method=method, **labels)

    def isel(self, **indices: Any) -> SweepResult:
        """Return results at some positions of the axes; see :meth:`SweepResult.isel`.

        Parameters
        ----------
        **indices : object
            Axis name to an int, a slice, or a sequence of ints.

        Returns
        -------
        SweepResult
            Their results; an axis with a single position is left out.
        """
        return self.result().isel(**indices)

    def to_numpy(self) -> Any:
        """Return what is stored as arrays; see :meth:`SweepResult.to_numpy`.

        Returns
        -------
        ndarray, or dict of str to ndarray
            One array of the shape of the axes and of what the function returns; masked where points lack.
        """
        return self.result().to_numpy()

    def to_xarray(self, **options: Any) -> Any:
        """Return what is stored as an xarray Dataset; see :meth:`SweepResult.to_xarray`.

        Parameters
        ----------
        **options : object
            As there: ``chunks``, ``lazy``, ``dims`` and ``status``.

        Returns
        -------
        xarray.Dataset
            The axes are its coordinates, the params its attributes.
        """
        return self.result().to_xarray(**options)

    def to_pandas(self) -> Any:
        """Return what is stored as a pandas DataFrame; see :meth:`SweepResult.to_pandas`.

        Returns
        -------
        pandas.DataFrame
            One row for each point.
        """
        return self.result().to_pandas()

    def to_polars(self) -> Any:
        """Return what is stored as a polars DataFrame; see :meth:`SweepResult.to_polars`.

        Returns
        -------
        polars.DataFrame
            One row for each point.
        """
        return self.result().to_polars()

    def to_arrow(self) -> Any:
        """Return what is stored as an Arrow table; see :meth:`SweepResult.to_arrow`.

        Returns
        -------
        pyarrow.Table
            One row for each point.
        """
        return self.result().to_arrow()

    def plot_coverage(self, *, ax: Any = None) -> Any:
        """Draw which points are stored, missing and failed; see :meth:`SweepResult.plot_coverage`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        return self.result().plot_coverage(ax=ax)

    # --- points that failed --------------------------------------------------------------------------------

    def failures(self) -> Failures:
        """Return the points that failed under ``on_error="record"`` and are not stored since.

        Returns
        -------
        Failures
            A sequence, oldest first, which prints as a table; of a slice, that of its own points.

        Examples
        --------
        >>> import tempfile, warnings
        >>> from chunk_memo import ChunkCache, run
        >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 0]}, vectorize=True)
        >>> with warnings.catch_warnings(action="ignore"):
        ...     output, _ = run(cache, lambda s: 1 / s, on_error="record")
        >>> output
        masked_array(data=[1.0, --],
                     mask=[False,  True],
               fill_value=1e+20)
        >>> (failure,) = cache.failures()
        >>> failure.arguments, failure.message
        ({'s': 0}, 'division by zero')
        """
        found = self.recorded_failures().read()
        own = outstanding(found, self.grid, self._view, self._which_stored)
        return Failures([*own, *self._failures_nearby()], self._forget_failures)

    def _failures_nearby(self) -> Iterator[Failure]:
        """Iterate over the failures of points that form no grid."""
        asked = (
            None
            if self._view is None
            else dict(zip(self._view.order, map(frozenset, self._view.keys), strict=True))
        )
        for failure in self.failures_elsewhere():
            keys = tuple([canonical_many(list(along)) for along in failure.values])
            if asked is not None and any(k[0] not in asked[n] for n, k in zip(failure.order, keys, strict=True)):
                continue
            if not self._which_stored(Selection(failure.order, failure.values, keys)).all():  # type: ignore[arg-type]
                yield failure

    def failure_log(self) -> FailureLog | None:
        """Return the records of points that failed, where they can be written.

        Returns
        -------
        FailureLog or None
            The same one for this cache and its slices; None with ``read_only``.
        """
        return None if self.read_only else self.recorded_failures()

    def recorded_failures(self) -> FailureLog:
        """Return the records of points that failed, to be read.

        Returns
        -------
        FailureLog
            The same one for this cache and its slices.
        """
        state = self._state
        if state.failures is None:
            state.failures = FailureLog(state.folder.path, self.version)
        return state.failures

    def failures_elsewhere(self) -> list[Failure]:
        """Return the recorded failures of points that form no grid, as failures of the axes.

        Returns
        -------
        list of Failure
            The last one of each point, whatever became of it since, oldest first.
        """
        log = FailureLog(self.path / POINTS, self.version)
        return list(scattered.failures_of(log.read(), self.axis_order, vectorize=self.vectorize))

    def _known_failures(self) -> Known:
        found = [*self.recorded_failures().read(), *self.failures_elsewhere()]
        return known_failures([f for f in found if sorted(f.order) == sorted(self.axis_order)])

    def _forget_failures(self, failures: Sequence[Failure]) -> None:
        nearby = FailureLog(self.path / POINTS, self.version)
        nearby.read()
        with _Storing(self.root), self.syncer() as syncer:
            if self.read_only:
                raise files.read_only_error(self.root)
            log = self.recorded_failures()
            log.forget([each for each in failures if not scattered.is_nearby(each)], syncer)
            nearby.forget([scattered.as_recorded(each) for each in failures if scattered.is_nearby(each)], syncer)

    def _which_stored(self, selection: Selection) -> npt.NDArray[np.bool_]:
        """Tell which points of a request without repetitions are stored; nothing of new values is."""
        cells = self._cells(selection, self._bins())
        stored = np.zeros(selection.shape, bool)
        for cell in cells if not cells.unbinned else ():
            where = np.ix_(*(axis.source for axis in cell.axes)) if cell.axes else ()
            stored[where] = which_stored(cell, cells, self._state.store).reshape(cell.shape)
        request = Request(selection)
        for points_of in self.nearby() if not stored.all() else ():
            flats, numbers = points_of.within(request)
            if len(flats):
                held = points_of.held(flats)
                stored[tuple(along[held] for along in numbers)] = True
        return stored

    def superseded_files(self) -> list[Path]:
        """Return the chunk files none of whose points counts any more.

        Returns
        -------
        list of Path
            The files.
        """
        self._bins()
        return [path for path, _ in cleaning.superseded(self._state.layers, self.axis_order)]

    def gc(self, *, grace: float = 3600.0, dry_run: bool = False, quarantine: bool = False) -> GcReport:
        """Delete files that no request can ever need.

        These are files none of whose points counts any more, parts of chunks whose complete file is there, and
        what writers that were killed left behind.

        Parameters
        ----------
        grace : float, default 3600.0
            Seconds that a temporary or quarantined file must be old.
        dry_run : bool, default False
            Whether to leave everything as it is, and tell only.
        quarantine : bool, default False
            Whether damaged files that were set aside are deleted, too.

        Returns
        -------
        GcReport
            What was deleted.
        """
        if self.read_only and not dry_run:
            with _Storing(self.root):
                raise files.read_only_error(self.root)
        self._bins()
        with self._state.lock:
            self._state.layers.refresh()
            layers, order = self._state.layers, self.axis_order
            return cleaning.clean(layers, order, grace=grace, dry_run=dry_run, quarantine=quarantine)

    def weed(self) -> int:
        """Set aside files that are whole and yet hold what no output can be.

        Returns
        -------
        int
            Number of files set aside.
        """
        return 0 if self.read_only else cleaning.weed(self._state.layers)

    # --- as tables -----------------------------------------------------------------------------------------

    def to_parquet(
        self, path: str | os.PathLike[str], partition_by: Sequence[str] = (), *, durability: str = "full"
    ) -> Exported:
        """Export what is stored of this cache or slice as a tidy Parquet dataset; the next time, what is new.

        Parameters
        ----------
        path : path-like
            The dataset's folder; it holds exports of this cache only.
        partition_by : sequence of str, optional
            Columns (params or axes, or outputs of few values) whose values name folders, outermost first.
        durability : {"full", "fast"}
            Whether files are synced before this returns.

        Returns
        -------
        Exported
            How many chunks were written, and how many were there.

        Raises
        ------
        TableError
            Where the folder holds something else, or is partitioned otherwise.
        ImportError
            Where pyarrow is not installed.

        Examples
        --------
        >>> import tempfile
        >>> from chunk_memo import ChunkCache, run
        >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", chunk_spec={"s": 2}, axis_values={"s": [1, 2, 3]})
        >>> _ = run(cache, lambda s: [value / 2 for value in s])
        >>> folder = tempfile.mkdtemp()
        >>> cache.to_parquet(folder)
        Exported(chunks=2, chunks_known=0, rows=3, files=1, files_removed=0)
        >>> cache.to_parquet(folder).chunks
        0
        """
        from chunk_memo.tables.parquet import export_cache

        return export_cache(self, path, partition_by, durability=durability)

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
        axes = {name: list(asked) if isinstance(asked, Iterator) else asked for name, asked in axes.items()}
        if extend_cache and axes:
            cache = cache.with_grid(_extended(cache.grid, axes))
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
        return self.with_grid(Grid(axes, self.grid.sizes))

    def with_grid(self, grid: Grid) -> ChunkCache:
        """Return a view that declares another grid and shares what is stored.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        ChunkCache
            The view.
        """
        view = copy.copy(self)
        view._view = None
        view._state = copy.copy(self._state)
        view._state.grid = grid
        view._state.binned = None
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
        state, path = self._state, self.path / "metadata.json"
        if state.described or self.read_only:
            return path
        try:
            known = state.folder.read_metadata()
        except MetadataError as error:
            self._set_metadata_aside(path, error)
            known = None
        if known is not None:
            catalog.check_identity(known, self.cache_id, self._identity, self.metadata)
        else:
            self._describe()
        state.described = True
        return path

    def _describe(self) -> None:
        """Write ``metadata.json``; for a cache of one chunk with its layout in it."""
        layouts = [] if self._state.folder.layouts else self._new_layouts(self.grid)
        if len(layouts) == 1 and binning.is_one_chunk(layouts[0], self.grid):
            with self._state.lock:
                self._make_bins()
        with _Storing(self.root), self.syncer() as syncer:
            self._state.folder.commit_metadata(self._metadata_document(), syncer)

    def _metadata_document(self) -> bytes:
        identity = self._identity or b""
        return self._state.folder.metadata_document(self.cache_id, self.grid, identity, self.metadata)

    def _set_metadata_aside(self, path: Path, error: MetadataError) -> None:
        seen = files.look_at(path)
        moved = seen and files.quarantine(path, self.path / "quarantine", seen.file_id, lambda _: False)
        place = f"moved to '{moved}'" if moved else "left where it is"
        warnings.warn(
            f"{error.__cause__!r}: '{path}' is damaged; it was {place}, and is written anew",
            DamageWarning,
            stacklevel=2,
        )

    def _check_overlap(self) -> None:
        """Refuse or warn where the cache exists with another grid."""
        try:
            known = self._state.folder.read_metadata()
        except MetadataError:
            return
        if known is None:
            return
        self._bins()
        stored = catalog.stored_values(known, self._state.folder)
        difference = next(catalog.differences(known, stored, self.grid), None)
        if difference is None:
            return
        message = (
            f"cache_id already exists with different {difference}: cache {self.cache_id!r} in '{self.root}'."
            f" Use the same grid, another cache_id, or exclusive=False"
        )
        if self.exclusive:
            raise OverlapError(message)
        warnings.warn(f"Cache overlap detected: {message}", OverlapWarning, stacklevel=4)

    # --- methods that the document names as overridable ----------------------------------------------------

    def resolved_chunk_keys(self) -> list[ChunkKey]:
        """Return the chunk keys that this cache or slice covers, in grid order.

        Returns
        -------
        list of ChunkKey
            One key for each chunk touched, with the values asked of it.
        """
        return self.cache_status().chunk_keys()

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
        return Reader(self._state.store, cells.bins, cells.selection.order).candidates(cell)[0]

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
        self._spread()
        stores = self._state.layers.own
        paths = [p for store in stores for p in store.paths(store.ref(ref.order, ref.numbers, ref.bins))]
        found = next((path for path in paths if files.is_there(path)), paths[0])
        return Path(found)

    def load_payload(self, path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Return what a chunk file holds, by item.

        Parameters
        ----------
        path : path-like
            A complete file, which need not be there where parts are; or a part.

        Returns
        -------
        dict or None
            ``items`` maps item hashes to outputs, ``spec`` maps them to axis values; None where there is no
            such file.
        """
        try:
            with self._state.store.opened(path) as chunk:
                return items.payload(self._state.store, chunk)
        except FileNotFoundError:
            return items.payload_of_parts(self._state.store, path)

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
        return items.item_hash(self.version, chunk_key, axis_values)

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
        wanted = np.zeros(selection.shape, bool)
        along = [{key: at for at, key in enumerate(keys)} for keys in selection.keys]
        outputs = {tuple(canonical_many([p[n] for n in self.axis_order])): items[h] for h, p in spec.items()}
        for point in outputs:
            wanted[tuple(places[key] for places, key in zip(along, point, strict=True))] = True
        if self.read_only:
            with _Storing(self.root):
                raise files.read_only_error(self.root)
        reading, writer = self.read(selection, None, wanted), self.writer()
        with writer.syncer() as syncer:
            for task in self.tasks(selection, reading.missing):
                keys = itertools.product(*(canonical_many(values) for values in task.values))
                output = [outputs[key] for key in keys]
                block = writer.block(task, output if task.order else output[0])
                writer.write(task, block, 0.0, syncer)
        return Path(path)

    def build_item_maps_from_axis_values(
        self, chunk_key: ChunkKey, axis_values: Sequence[Sequence[Any]], outputs: Sequence[Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return outputs of some points of a chunk, and their axis values, by item hash.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.
        axis_values : sequence of sequence
            For each point its value on each axis, in the order of `chunk_key`.
        outputs : sequence
            One output per point.

        Returns
        -------
        tuple of dict, dict
            ``items`` and ``spec`` of a payload.
        """
        return items.item_maps(self.version, chunk_key, axis_values, outputs)

    def build_item_maps_from_chunk_output(
        self, chunk_key: ChunkKey, chunk_output: Sequence[Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return the outputs of a whole chunk, and their axis values, by item hash.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.
        chunk_output : sequence
            One output per point, the last axis fastest.

        Returns
        -------
        tuple of dict, dict
            ``items`` and ``spec`` of a payload.

        Raises
        ------
        OutputError
            Where the number of outputs is not that of the points.
        """
        points = items.points_of(chunk_key)
        if len(points) != len(chunk_output):
            raise OutputError(f"{chunk_key!r} has {len(points)} points, got {len(chunk_output)} outputs for them")
        return items.item_maps(self.version, chunk_key, points, chunk_output)

    def reconstruct_output_from_items(
        self, chunk_key: ChunkKey, items_by_hash: Mapping[str, Any]
    ) -> list[Any] | None:
        """Return the outputs of a whole chunk from a payload's items.

        Parameters
        ----------
        chunk_key : ChunkKey
            The chunk.
        items_by_hash : mapping of str to object
            ``items`` of a payload.

        Returns
        -------
        list or None
            One output per point, the last axis fastest; None where one is missing.
        """
        outputs, lacking = items.collect(self.version, chunk_key, items_by_hash, items.points_of(chunk_key))
        return None if lacking else outputs

    def collect_chunk_data(
        self,
        payload: Mapping[str, Any],
        chunk_key: ChunkKey,
        requested_items: Sequence[Sequence[Any]] | None,
        collate_fn: Callable[[list[Any]], Any],
    ) -> tuple[Any, bool]:
        """Return what a payload holds of some points of a chunk.

        Parameters
        ----------
        payload : mapping
            As :meth:`load_payload` returns it.
        chunk_key : ChunkKey
            The chunk.
        requested_items : sequence of sequence, or None
            For each point asked for its value on each axis; None for all points of the chunk.
        collate_fn : callable
            Called with a list that holds the list of outputs.

        Returns
        -------
        tuple of object, bool
            What `collate_fn` returned (None where no output is there), and whether some points are missing.
        """
        points = items.points_of(chunk_key) if requested_items is None else requested_items
        outputs, lacking = items.collect(self.version, chunk_key, payload.get("items", {}), points)
        return (collate_fn([outputs]) if outputs else None), lacking

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
        entries: dict[str, dict[str, Any]] = {}
        orphans: dict[bytes, tuple[str, list[Any]]] = {}
        known = self._bins()
        for name, entry, own in items.index(self._state.folder, self._state.store):
            entries[name] = items.joined(entries.get(name), entry)
            for axis in own[0] if own else ():
                group = own[1].of(axis) if own else None
                if group is not None and known.of(axis).find(group.keys) is None:
                    orphans[canonical_bytes(axis) + b"".join(group.keys)] = (axis, group.values)
        if orphans:
            self._adopt(orphans.values())
        return entries

    def _adopt(self, orphans: Iterable[tuple[str, list[Any]]]) -> None:
        """Write a layout that names the bins of chunk files that came without one."""
        groups: dict[str, list[list[Any]]] = {}
        for axis, values in orphans:
            groups.setdefault(axis, []).append(values)
        layout = Layout(self.version, self.axis_order, self.grid.sizes, groups, None, time.time_ns())
        with self._state.lock, _Storing(self.root):
            self._state.folder.commit_layout(layout, self.syncer())

    def sample_blocks(self) -> Iterator[Block]:
        """Iterate over stored outputs of each form that there is, one file of each.

        Yields
        ------
        Block
            All outputs of one file, as columns.
        """
        self._bins()
        stores = {layer.store.folder: layer.store for layer in self._state.layers.all}
        for store in stores.values():
            for room in store.rooms():
                yield from items.samples(room)

    def provenance(self) -> bytes:
        """Return what changes whenever stored outputs may have become others: something superseded, or adopted.

        Returns
        -------
        bytes
            A digest of the generations that are read from.
        """
        self._bins()
        self._state.layers.refresh()
        return digest_of_bytes(b"".join(layer.store.prefix for layer in self._state.layers.all))

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
        return catalog.discover(root)

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
        cache_id : str, optional
            The cache.
        axis_values : mapping, optional
            Axis name to values.
        chunk_spec : mapping, optional
            Axis name to chunk size.
        version : str, optional
            The namespace.
        axis_order : sequence of str, optional
            Names of the axes in axis order.
        allow_superset : bool, default False
            Whether a cache with more values, or further axes, fits `axis_values`.

        Returns
        -------
        list of dict
            As :meth:`discover_caches`.
        """
        return catalog.find(root, cache_id, axis_values, chunk_spec, version, axis_order, allow_superset)

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
        known = catalog.known(root, _checked_id(cache_id))
        if known is None:
            raise catalog.missing_cache(root, cache_id)
        names = ("metadata", "chunk_spec", "axis_values", "version", "axis_order")
        return cls(root, cache_id, **{**{name: known[name] for name in names}, **options})


# --- helpers -----------------------------------------------------------------------------------------------


def _is_within(key: Sequence[bytes], axes: Sequence[frozenset[bytes]]) -> bool:
    """Tell whether the values of a point are among those of each axis."""
    return all(each in known for each, known in zip(key, axes, strict=True))


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


_AHEAD = 64
"""So many tasks are cut at once: between two calls and their files each would take three times as long."""

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def _checked_id(cache_id: Any) -> str:
    if not isinstance(cache_id, str) or not cache_id:
        raise SpecError(
            f"cache_id must be a non-empty string, got {cache_id!r}; params_to_cache_id(params) makes one"
        )
    size = len(cache_id.encode("utf-8", "surrogatepass"))
    unsafe = cache_id in (".", "..") or any(c in cache_id for c in "/\\\0") or size > 200
    if unsafe or any("\ud800" <= c <= "\udfff" for c in cache_id):
        raise SpecError(
            f"cache_id names a folder, so it cannot hold '/', be '..' or exceed 200 bytes, got {cache_id!r};"
            f" params_to_cache_id(params) makes one"
        )
    return cache_id


def _checked_version(version: Any) -> str:
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


def _checked_bytes(count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < _LEAST_BYTES:
        raise SpecError(f"max_chunk_bytes must be a number of bytes, {_LEAST_BYTES} or more, got {count!r}")
    return count


_LEAST_BYTES = 4 << 20


def _checked_shared(shared: Any) -> str | None:
    if shared not in (None, "group"):
        raise SpecError(f"shared must be 'group' or None, got {shared!r}")
    return str(shared) if shared is not None else None


_FOREIGN: set[Path] = set()
"""Roots of which it was said that they belong to somebody else."""


def _check_root(root: Path, home: Path, shared: str | None) -> None:
    """Refuse a root in which anybody may put files, and say whose it is where that is somebody else."""
    try:
        facts = files.facts_of(home)
    except OSError as error:
        raise RootError(
            error.errno or errno.EACCES,
            f"the root '{root}' cannot be reached ({error.strerror or error}); pass another root",
        ) from error
    there = next((each for each in (home, *home.parents) if files.is_there(each)), home)
    if not files.is_folder(there) and files.is_there(there):
        what = "is a file" if there == home else f"lies in the file '{there}'"
        raise RootError(
            errno.ENOTDIR, f"the root '{root}' {what}; expected a folder of caches: pass another root"
        )
    if facts is None:
        return
    if facts.open_to_all:
        raise RootError(
            errno.EPERM,
            f"the root '{root}' may be written to by everybody (mode {facts.mode:04o}), so that anybody could put"
            f" results there; run `chmod o-w {root}`, or `chmod +t {root}` where everybody shall have caches of"
            f" their own in it, or pass another root",
        )
    if not facts.ours and shared is None and home not in _FOREIGN:
        _FOREIGN.add(home)
        warnings.warn(
            f"the root '{root}' belongs to user {facts.owner}, who can change what is stored in it; what is there"
            f" is checked for damage and served, and pickles need a trusted key. shared='group' says that this is"
            f" as it should be",
            OwnerWarning,
            stacklevel=caller_level(),
        )


def _share(root: Path, home: Path, cache: Path) -> None:
    try:
        files.make_folder(home.parent)
        files.share(home)
        if files.is_folder(cache):
            files.share(cache)
    except OSError as error:
        raise RootError(
            error.errno or errno.EPERM,
            f"the root '{root}' cannot be shared with its group ({error.strerror or error}); ask its owner to run"
            f" `chmod 2770 {root}`, or leave shared='group' out",
        ) from None


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


def _extended(grid: Grid, axis_values: Mapping[str, Any]) -> Grid:
    """Return a grid with those of some values appended that its axes do not have."""
    for name in axis_values:
        grid.axis(name)
    axes = [
        axis.extended(*new_values(axis, axis_values[axis.name])) if axis.name in axis_values else axis
        for axis in grid.axes
    ]
    return Grid(tuple(axes), grid.sizes)


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
