"""One engine behind ``run``, ``run_streaming``, ``run_chunks`` and ``run_chunks_streaming``.

The engine reads what is stored, calls the function for what is not, hands each output to the cache to write,
and emits events. Collecting runs gather the outputs; streaming runs drop them once they are stored. Any cache
that plans, reads and writes will do; a user's own :class:`CacheProtocol` object goes
through one adapter.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from chunk_memo.cache import ChunkCache
from chunk_memo.disk.files import Syncer
from chunk_memo.errors import EncodingError, OutputError, RootError, SpecError, StoreError
from chunk_memo.events import ChunkDone, Event, Observer, PointFailed, RunFinished, RunStarted
from chunk_memo.grid import ChunkKey
from chunk_memo.outputs import Block, Collector
from chunk_memo.protocol import PROTOCOL_METHODS, CacheProtocol, ProtocolCache, RunnerContext
from chunk_memo.reading import Reading
from chunk_memo.selection import Selection
from chunk_memo.tasks import Missing, Task

__all__ = [
    "Diagnostics",
    "run",
    "run_chunks",
    "run_chunks_streaming",
    "run_streaming",
]


@dataclass(slots=True)
class Diagnostics:
    """What a run found, computed and stored.

    Examples
    --------
    >>> Diagnostics(total_chunks=2, cached_chunks=1, executed_chunks=1).executed_chunks
    1
    """

    total_chunks: int = 0
    """Number of chunks that the request touched."""
    cached_chunks: int = 0
    """Number of chunks from which everything asked was read."""
    executed_chunks: int = 0
    """Number of chunks of which points were computed."""
    partial_chunks: int = 0
    """Number of chunks of which only some of the points asked were stored."""
    merges: int = 0
    """Number of times that outputs of chunks were put together."""
    max_stream_items: int = 0
    """Most points whose outputs were held at once."""
    stream_flushes: int = 0
    """Number of outputs that were stored and dropped."""
    max_parallel_items: int = 0
    """Most points that were computed at once."""
    total_points: int = 0
    """Number of distinct points asked for."""
    cached_points: int = 0
    """Number of points read."""
    executed_points: int = 0
    """Number of points computed."""
    bytes_read: int = 0
    """Bytes of the files read."""
    bytes_written: int = 0
    """Bytes of the files written."""
    plan_seconds: float = 0.0
    """Seconds spent on finding out what to do."""
    read_seconds: float = 0.0
    """Seconds spent on reading."""
    execute_seconds: float = 0.0
    """Seconds spent in the function."""
    write_seconds: float = 0.0
    """Seconds spent on writing and syncing."""


class _CacheVerbs(Protocol):
    """What the engine needs of a cache."""

    cache_id: str
    """Name of the cache."""
    name: str
    """Name of the function, for messages."""
    vectorize: bool
    """Whether the function takes single values."""

    def write_metadata(self) -> Path:
        """Write what describes the cache, unless it is there."""

    def syncer(self) -> Syncer:
        """Return what takes note of files that must be on disk."""

    def collector(self, selection: Selection, *, by_chunk: bool) -> Collector:
        """Return what gathers outputs."""

    def read(self, selection: Selection, collector: Collector | None) -> Reading:
        """Read what is stored."""

    def settle(self) -> bool:
        """Look for what other processes stored; tell whether reading again is worth it."""

    def tasks(self, selection: Selection, missing: Sequence[Missing]) -> Iterator[Task]:
        """Cut missing points into calls."""

    def block(self, task: Task, output: Any) -> Block:
        """Return an output as a block, checked."""

    def store_block(self, task: Task, block: Block, seconds: float, syncer: Syncer) -> int:
        """Store a block."""


@dataclass(slots=True)
class _Engine:
    """One run over one or several requests."""

    cache: _CacheVerbs
    exec_fn: Callable[..., Any]
    observers: Sequence[Observer]
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    unstored: OSError | None = None

    def emit(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)

    def describe(self) -> None:
        """Let the cache write what it is; where there is no room for it, go on and report it at the end."""
        try:
            self.cache.write_metadata()
        except RootError:
            raise
        except OSError as error:
            self.unstored = error

    def collect(self, selection: Selection, *, by_chunk: bool, on_partial: str) -> Collector:
        """Read and compute a request; return its outputs."""
        collector, reading = self._read(selection, by_chunk=by_chunk)
        missing = reading.missing
        if on_partial == "return":
            missing = [entry for entry in missing if entry[2] is None]
            if len(missing) < len(reading.missing):
                _refuse_holes(collector)
        self._compute(selection, missing, reading, collector)
        held = self.diagnostics.cached_points + self.diagnostics.executed_points
        self.diagnostics.max_stream_items = max(self.diagnostics.max_stream_items, held)
        return collector

    def stream(self, selection: Selection) -> None:
        """Compute what is missing of a request, and keep no outputs."""
        reading = self._timed_read(selection, None)
        if reading.missing and not reading.settled and self.cache.settle():
            reading = self._timed_read(selection, None)
        self._compute(selection, reading.missing, reading, None)

    def _read(self, selection: Selection, *, by_chunk: bool) -> tuple[Collector, Reading]:
        collector = self.cache.collector(selection, by_chunk=by_chunk)
        reading = self._timed_read(selection, collector)
        if reading.missing and not reading.settled and self.cache.settle():
            collector = self.cache.collector(selection, by_chunk=by_chunk)
            reading = self._timed_read(selection, collector)
        return collector, reading

    def _timed_read(self, selection: Selection, collector: Collector | None) -> Reading:
        started = time.perf_counter()
        reading = self.cache.read(selection, collector)
        elapsed = time.perf_counter() - started
        self.diagnostics.plan_seconds += reading.plan_seconds
        self.diagnostics.read_seconds += elapsed - reading.plan_seconds
        self.diagnostics.bytes_read += reading.bytes_read
        return reading

    def _compute(
        self,
        selection: Selection,
        missing: Sequence[Missing],
        reading: Reading,
        collector: Collector | None,
    ) -> None:
        diagnostics = self.diagnostics
        diagnostics.total_chunks += reading.total_chunks
        diagnostics.cached_chunks += reading.cached_chunks
        diagnostics.partial_chunks += reading.partial_chunks
        diagnostics.cached_points += reading.cached_points
        diagnostics.total_points += reading.total_points
        if not missing:
            return
        started = time.perf_counter()
        total, cached = reading.total_points, reading.cached_points
        self.emit(RunStarted(self.cache.name, self.cache.cache_id, reading.total_chunks, total, cached))
        complete = False
        try:
            with self.cache.syncer() as syncer:
                self._run_all(self.cache.tasks(selection, missing), syncer, collector)
                flushing = time.perf_counter()
                syncer.flush()
                diagnostics.write_seconds += time.perf_counter() - flushing
            complete = True
        finally:
            self.emit(RunFinished(time.perf_counter() - started, complete))

    def _run_all(self, tasks: Iterator[Task], syncer: Syncer, collector: Collector | None) -> None:
        """Compute and store tasks; those of one chunk come one after the other."""
        ref, cells = None, set[int]()
        for task in tasks:
            if task.ref is not ref:
                self.diagnostics.executed_chunks += len(cells)
                ref, cells = task.ref, set()
            self._one(task, syncer, collector)
            cells.update([share.rank for share in task.shares])
        self.diagnostics.executed_chunks += len(cells)

    def _one(self, task: Task, syncer: Syncer, collector: Collector | None) -> None:
        """Compute and store one task."""
        diagnostics = self.diagnostics
        count = task.count
        self._sync_before_computing(syncer)
        started = time.perf_counter()
        output = self._call(task)
        seconds = time.perf_counter() - started
        try:
            block = self.cache.block(task, output)
        except (OutputError, EncodingError) as error:
            error.output = output
            error.add_note(self._whereabouts(task, task.arguments()) + "; what it returned is in .output")
            raise
        written = self._store(task, block, seconds, syncer, collector is not None)
        if collector is not None:
            collector.add_shares(task.shares, block)
        else:
            diagnostics.stream_flushes += 1
            diagnostics.max_stream_items = max(diagnostics.max_stream_items, count)
        diagnostics.executed_points += count
        diagnostics.execute_seconds += seconds
        diagnostics.bytes_written += written
        diagnostics.write_seconds += time.perf_counter() - started - seconds
        if self.observers:
            self.emit(ChunkDone(task.ref.name, count, seconds, written))

    def _sync_before_computing(self, syncer: Syncer) -> None:
        """Put finished files on disk before a call that may take hours."""
        try:
            syncer.flush_if_due()
        except OSError as error:
            self.unstored = self.unstored or error

    def _call(self, task: Task) -> Any:
        arguments: dict[str, Any] = task.arguments()
        try:
            if not self.cache.vectorize:
                return self.exec_fn(**arguments)
            outputs = []
            for point in task.each():
                arguments = point
                outputs.append(self.exec_fn(**point))
            return outputs
        except BaseException as error:
            error.add_note(self._whereabouts(task, arguments))
            if isinstance(error, Exception) and self.observers:
                self.emit(PointFailed(task.ref.name, arguments, error))
            raise

    def _whereabouts(self, task: Task, arguments: dict[str, Any]) -> str:
        return (
            f"while {self.cache.name or 'the function'} computed {_shown(arguments)}: chunk {task.ref.name} of"
            f" cache {self.cache.cache_id}; finished chunks are kept"
        )

    def _store(self, task: Task, block: Block, seconds: float, syncer: Syncer, collecting: bool) -> int:
        """Store a block; where that fails, a collecting run goes on and reports it at its end."""
        try:
            return self.cache.store_block(task, block, seconds, syncer)
        except OSError as error:
            self.unstored = self.unstored or error
            if not collecting:
                raise self.store_error() from error
            return 0

    def store_error(self) -> StoreError:
        """Return the error that says that results could not be stored."""
        error = self.unstored
        assert error is not None
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "make room and call again" if full else "see that the root can be written, and call again"
        raised = StoreError(
            error.errno or errno.EIO,
            f"results of {self.cache.name or 'the function'!r} could not be stored in cache"
            f" {self.cache.cache_id!r}: {error.strerror or error}"
            f"{' (the disk is full)' if full else ''}. What was stored is kept, and what this call computed is"
            f" in the error's .output; {way_out}",
        )
        raised.diagnostics = self.diagnostics
        return raised


def _refuse_holes(collector: Collector) -> None:
    """Refuse to return arrays in which some points would never have been written."""
    kinds = collector.kinds - {"list"}
    if kinds:
        raise SpecError(
            f"on_partial='return' leaves points out, which only outputs of the kind 'list' can show; this cache"
            f" holds {sorted(kinds)}: ask for what is stored by slice(…), or use on_partial='compute'"
        )


def _shown(arguments: dict[str, Any]) -> str:
    """Return arguments for a message, long lists cut short."""
    texts = []
    for name, value in arguments.items():
        if isinstance(value, list) and len(value) > 6:
            texts.append(f"{name}=[{value[0]!r}, …, {value[-1]!r}] ({len(value)} values)")
        else:
            texts.append(f"{name}={value!r}")
    return ", ".join(texts) or "its one point"


def run(
    cache: ChunkCache | CacheProtocol,
    exec_fn: Callable[..., Any],
    *,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    on_partial: str = "compute",
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
) -> tuple[Any, Diagnostics]:
    """Return the outputs of a function over all that a cache or slice covers; compute only what is missing.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache, sliced to what is wanted.
    exec_fn : callable
        Called with one list of values per axis, or with single values where the cache was made with
        ``vectorize=True``.
    collate_fn : callable, optional
        Used in place of the cache's own; called with a list of chunk outputs.
    on_partial : {"compute", "return"}, default "compute"
        What to do with a chunk of which only some of the points asked are stored: compute the others, or
        return those that are there (for list outputs only).
    context : RunnerContext, optional
        Used for ``verbose``, ``profile`` and ``collate_fn`` in place of the cache.
    observers : iterable of Observer, optional
        Called with the events of the run.

    Returns
    -------
    tuple of object, Diagnostics
        The outputs in the order asked, and what was done.

    Raises
    ------
    OutputError
        Where the function returned something that does not fit its points.
    StoreError
        Where results could not be stored; its ``output`` holds them.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2, 3]})
    >>> run(cache, lambda s: [v * v for v in s])[0]
    [1, 4, 9]
    """
    verbs = _verbs(cache)
    return _collected(cache, verbs, exec_fn, [verbs.selection()], collate_fn, on_partial, context, observers)


def run_streaming(
    cache: ChunkCache | CacheProtocol,
    exec_fn: Callable[..., Any],
    *,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
) -> Diagnostics:
    """Compute and store what is missing, and keep no outputs; at most one chunk is in memory.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache, sliced to what is wanted.
    exec_fn : callable
        As in :func:`run`.
    collate_fn : callable, optional
        Accepted for symmetry with :func:`run`; there is nothing to collate.
    context : RunnerContext, optional
        Used for ``verbose`` and ``profile`` in place of the cache.
    observers : iterable of Observer, optional
        Called with the events of the run.

    Returns
    -------
    Diagnostics
        What was done.
    """
    verbs = _verbs(cache)
    return _streamed(cache, verbs, exec_fn, [verbs.selection()], context, observers)


def run_chunks(
    chunk_keys: Sequence[ChunkKey],
    exec_fn: Callable[..., Any],
    *,
    cache: ChunkCache | CacheProtocol,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    on_partial: str = "compute",
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
) -> tuple[Any, Diagnostics]:
    """Return the outputs of explicit chunks; compute only what is missing.

    Parameters
    ----------
    chunk_keys : sequence of ChunkKey
        Chunks as pairs of axis name and values, for example of ``cache.cache_status()["missing_chunks"]``.
    exec_fn : callable
        As in :func:`run`.
    cache : ChunkCache or CacheProtocol
        The cache.
    collate_fn : callable, optional
        Used in place of the cache's own; called with one entry per chunk key.
    on_partial : {"compute", "return"}, default "compute"
        As in :func:`run`.
    context : RunnerContext, optional
        As in :func:`run`.
    observers : iterable of Observer, optional
        Called with the events of the run.

    Returns
    -------
    tuple of object, Diagnostics
        Lists of outputs one after the other; for arrays a list with one entry per chunk key.
    """
    verbs = _verbs(cache)
    selections = [verbs.selection_of_key(key) for key in chunk_keys]
    return _collected(cache, verbs, exec_fn, selections, collate_fn, on_partial, context, observers, True)


def run_chunks_streaming(
    chunk_keys: Sequence[ChunkKey],
    exec_fn: Callable[..., Any],
    *,
    cache: ChunkCache | CacheProtocol,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
) -> Diagnostics:
    """Compute and store what is missing of explicit chunks, and keep no outputs.

    Parameters
    ----------
    chunk_keys : sequence of ChunkKey
        Chunks as pairs of axis name and values.
    exec_fn : callable
        As in :func:`run`.
    cache : ChunkCache or CacheProtocol
        The cache.
    collate_fn : callable, optional
        Accepted for symmetry with :func:`run_chunks`; there is nothing to collate.
    context : RunnerContext, optional
        As in :func:`run`.
    observers : iterable of Observer, optional
        Called with the events of the run.

    Returns
    -------
    Diagnostics
        What was done.
    """
    verbs = _verbs(cache)
    selections = [verbs.selection_of_key(key) for key in chunk_keys]
    return _streamed(cache, verbs, exec_fn, selections, context, observers)


def _verbs(cache: Any) -> ChunkCache | ProtocolCache:
    """Return what the engine runs: a subclass that replaces one of the document's methods is run by those."""
    own = isinstance(cache, ChunkCache) and all(
        getattr(type(cache), name) is getattr(ChunkCache, name) for name in PROTOCOL_METHODS
    )
    return cache if own else ProtocolCache(cache)


def _collected(
    cache: Any,
    verbs: ChunkCache | ProtocolCache,
    exec_fn: Callable[..., Any],
    selections: Sequence[Selection],
    collate_fn: Callable[[list[Any]], Any] | None,
    on_partial: str,
    context: RunnerContext | None,
    observers: Iterable[Observer],
    by_key: bool = False,
) -> tuple[Any, Diagnostics]:
    if on_partial not in ("compute", "return"):
        raise SpecError(f"on_partial must be 'compute' or 'return', got {on_partial!r}")
    settings = cache if context is None else context
    collate = collate_fn or getattr(settings, "collate_fn", None)
    engine = _Engine(verbs, exec_fn, _watchers(settings, observers))
    engine.describe()
    by_chunk = collate is not None and not by_key
    collectors = [engine.collect(selection, by_chunk=by_chunk, on_partial=on_partial) for selection in selections]
    output = _put_together(collectors, collate, by_key)
    engine.diagnostics.merges = 1
    _profiled(engine, settings)
    if engine.unstored is not None:
        error = engine.store_error()
        error.output = output
        raise error from engine.unstored
    return output, engine.diagnostics


def _put_together(collectors: list[Collector], collate: Callable[[list[Any]], Any] | None, by_key: bool) -> Any:
    if not by_key:
        (collector,) = collectors
        return collector.result() if collate is None else collate(collector.entries())
    entries = [collector.result() for collector in collectors]
    if collate is not None:
        return collate(entries)
    if all(isinstance(entry, list) for entry in entries):
        return [output for entry in entries for output in entry]
    return entries


def _streamed(
    cache: Any,
    verbs: ChunkCache | ProtocolCache,
    exec_fn: Callable[..., Any],
    selections: Sequence[Selection],
    context: RunnerContext | None,
    observers: Iterable[Observer],
) -> Diagnostics:
    settings = cache if context is None else context
    engine = _Engine(verbs, exec_fn, _watchers(settings, observers))
    engine.describe()
    if engine.unstored is not None:
        raise engine.store_error() from engine.unstored
    for selection in selections:
        engine.stream(selection)
    _profiled(engine, settings)
    return engine.diagnostics


def _watchers(settings: Any, observers: Iterable[Observer]) -> list[Observer]:
    watchers = list(observers)
    if getattr(settings, "verbose", 0) and not watchers:
        from chunk_memo.display.progress import ProgressBar

        watchers.append(ProgressBar())
    return watchers


def _profiled(engine: _Engine, settings: Any) -> None:
    if getattr(settings, "profile", False):
        import logging

        d = engine.diagnostics
        logging.getLogger("chunk_memo").info(
            "%s: plan %.3f s, read %.3f s, execute %.3f s, write %.3f s; %d of %d points executed",
            engine.cache.name or engine.cache.cache_id,
            d.plan_seconds,
            d.read_seconds,
            d.execute_seconds,
            d.write_seconds,
            d.executed_points,
            d.total_points,
        )
