"""One run over a request: read what is stored, have computed what is not, gather the outputs, tell observers.

Computing is the business of :mod:`chunk_memo.work`, where it happens that of a map. The engine hands out tasks,
takes receipts, and decides what a failure means. Outputs that other processes stored are read back at the end,
as stored outputs are; only where workers do not see the root do they travel.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import random
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from chunk_memo.disk.files import NotConfirmedError, Syncer
from chunk_memo.disk.leases import Leases
from chunk_memo.errors import (
    ChunkLostError,
    ChunkMemoWarning,
    ChunkTimeoutError,
    DurabilityWarning,
    FailureWarning,
    NondeterminismWarning,
    ReadOnlyWarning,
    RootError,
    SpecError,
    StoreError,
    caller_level,
)
from chunk_memo.events import (
    ChunkDone,
    ChunkFound,
    ChunkLost,
    Event,
    Observer,
    PointFailed,
    RunFinished,
    RunStarted,
    this_process,
)
from chunk_memo.failures import Failed, Failure, Tally
from chunk_memo.grid import IntArray
from chunk_memo.ledger import FailureLog, Ledger
from chunk_memo.maps import task_map
from chunk_memo.maps.base import Lost, TaskMap
from chunk_memo.options import Options
from chunk_memo.outputs import Collector
from chunk_memo.queueing import Queue
from chunk_memo.reading import Reading
from chunk_memo.selection import Cells, Selection
from chunk_memo.tasks import Gaps, Missing, Share, Task
from chunk_memo.work import Batch, Job, Receipt, TaskWriter, Work, whereabouts

__all__ = ["Diagnostics", "Engine", "Request"]

AnyCollector = TypeVar("AnyCollector", bound=Collector)

Request = tuple[Selection, npt.NDArray[np.bool_] | None]
"""Points that are asked for: a grid, and for each of its points whether it is wanted; None for all of them."""

_MOST_DEATHS = 3
"""A chunk that ended so many workers is set aside."""

_TOGETHER = 64
"""So many small tasks are gathered at once."""

_LONGEST_PAUSE = 0.5
"""Seconds between two looks at what other processes are at work on."""


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
    """Most points that were handed out at once."""
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
    """Seconds spent in the function, of all workers together."""
    write_seconds: float = 0.0
    """Seconds spent on writing and syncing, of all workers together."""
    failed_points: int = 0
    """Number of points that failed, or that failed before and were not run again."""
    nondeterministic_chunks: int = 0
    """Number of chunks that another process had stored meanwhile, with other outputs."""

    def _repr_html_(self) -> str:
        """Return points, chunks, seconds and bytes, for a notebook."""
        from chunk_memo.display.notebook import html_of_diagnostics

        return html_of_diagnostics(self)


class _CacheWriter(TaskWriter, Protocol):
    """What checks and stores outputs of a cache."""

    name: str
    """Name of the function, for messages."""
    vectorize: bool
    """Whether the function takes single values."""

    def tell_of_pickles(self, note: str) -> None:
        """Say that outputs had to be pickled."""


class _CacheVerbs(Protocol):
    """What the engine needs of a cache."""

    cache_id: str
    """Name of the cache."""
    name: str
    """Name of the function, for messages."""
    portable: bool
    """Whether workers can store by themselves."""
    read_only: bool
    """Whether nothing is to be stored."""

    def write_metadata(self) -> Path:
        """Write what describes the cache, unless it is there."""

    def syncer(self) -> Syncer:
        """Return what takes note of files that must be on disk."""

    def collector(self, selection: Selection, *, by_chunk: bool) -> Collector:
        """Return what gathers outputs."""

    def read(
        self,
        selection: Selection,
        collector: Collector | None,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> Reading:
        """Read what is stored."""

    def read_back(
        self, cells: Cells, stored: Sequence[tuple[int, IntArray | None]], collector: Collector
    ) -> Sequence[Missing]:
        """Read what workers stored; return what was not there."""

    def settle(self) -> bool:
        """Look for what other processes stored; tell whether reading again is worth it."""

    def tasks(self, selection: Selection, missing: Iterable[Missing]) -> Iterator[Task]:
        """Cut missing points into calls."""

    def writer(self) -> _CacheWriter:
        """Return what checks and stores outputs."""

    def failure_log(self) -> FailureLog | None:
        """Return the records of points that failed; None where there are none."""

    def failures_elsewhere(self) -> Iterable[Failure]:
        """Return failures of the same points that other designs recorded."""


@dataclass(slots=True)
class Engine:
    """One run over one or several requests."""

    cache: _CacheVerbs
    """The cache."""
    function: Callable[..., Any]
    """Computes what is missing."""
    observers: Sequence[Observer]
    """Are told of events."""
    options: Options = field(default_factory=Options)
    """How it goes about its work."""
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    """What was found, computed and stored so far."""
    unstored: OSError | None = None
    """Why results could not be stored, if that happened."""
    unconfirmed: OSError | None = None
    """Why it is not known whether results would survive a power cut, if that happened."""
    tally: Tally = field(default_factory=Tally)
    """What failed, and was not raised."""

    def emit(self, event: Event) -> None:
        """Tell observers of an event; one that raises is told nothing more.

        Parameters
        ----------
        event : Event
            What happened.
        """
        for observer in self.observers:
            try:
                observer(event)
            except Exception as error:
                self.observers = [each for each in self.observers if each is not observer]
                warnings.warn(
                    f"observer {observer!r} raised {type(error).__name__}: {error}; it is told nothing more, and"
                    f" the run goes on without it",
                    ChunkMemoWarning,
                    stacklevel=caller_level(),
                )

    def describe(self) -> None:
        """Let the cache write what it is; where there is no room for it, go on and report it at the end."""
        try:
            self.cache.write_metadata()
        except RootError:
            raise
        except NotConfirmedError as error:
            self.unconfirmed = error
        except OSError as error:
            self.unstored = error

    def collect(
        self, selections: Sequence[Selection], *, by_chunk: bool, on_partial: str = "compute"
    ) -> list[Collector]:
        """Read and compute requests in one run.

        Parameters
        ----------
        selections : sequence of Selection
            The requests.
        by_chunk : bool
            Whether an entry is kept for each chunk.
        on_partial : {"compute", "return"}
            What to do with chunks that are stored in part.

        Returns
        -------
        list of Collector
            The outputs of each.
        """
        make = functools.partial(self.cache.collector, by_chunk=by_chunk)
        return self.gather([(each, None) for each in selections], make, on_partial)

    def gather(
        self,
        requests: Sequence[Request],
        make: Callable[[Selection], AnyCollector],
        on_partial: str = "compute",
    ) -> list[AnyCollector]:
        """Read and compute requests, or some points of each, in one run.

        Parameters
        ----------
        requests : sequence of Request
            The requests.
        make : callable
            Makes what takes the outputs of a request.
        on_partial : {"compute", "return"}
            What to do with chunks that are stored in part.

        Returns
        -------
        list of Collector
            What `make` made of each, filled.
        """
        collectors = self._all(requests, make, on_partial)
        held = self.diagnostics.cached_points + self.diagnostics.executed_points
        self.diagnostics.max_stream_items = max(self.diagnostics.max_stream_items, held)
        return collectors

    def stream(self, requests: Sequence[Request]) -> None:
        """Compute what is missing of requests in one run, and keep no outputs.

        Parameters
        ----------
        requests : sequence of Request
            The requests.
        """
        self._all(requests, lambda selection: None, "compute")

    def _all(
        self,
        requests: Sequence[Request],
        make: Callable[[Selection], Any],
        on_partial: str,
    ) -> list[Any]:
        """Read all, then compute what is missing; a request that misses what an earlier one does comes after."""
        collectors: list[Any] = [None] * len(requests)
        missed: set[Hashable] = set()
        begun, later = [], []
        for number, asked in enumerate(requests):
            request = self._read(*asked, make, on_partial)
            chunks = {*_chunks_of(request)} if len(requests) > 1 else set[Hashable]()
            if missed.isdisjoint(chunks):
                missed |= chunks
                collectors[number] = request.collector
                begun.append(request)
            else:
                later.append(number)
        self._compute(begun)
        for number in later:
            request = self._read(*requests[number], make, on_partial)
            collectors[number] = request.collector
            self._compute([request])
        return collectors

    def _read(
        self,
        selection: Selection,
        wanted: npt.NDArray[np.bool_] | None,
        make: Callable[[Selection], Any],
        on_partial: str,
    ) -> _Request:
        collector = make(selection)
        reading = self._timed_read(selection, collector, wanted)
        if reading.missing and not reading.settled and self.cache.settle():
            collector = make(selection)
            reading = self._timed_read(selection, collector, wanted)
        missing: Sequence[Missing] = reading.missing
        if on_partial == "return":
            missing = [entry for entry in missing if entry[2] is None]
            if len(missing) < len(reading.missing):
                _refuse_holes(collector)
        return _Request(selection, reading, missing, collector)

    def _timed_read(
        self,
        selection: Selection,
        collector: Collector | None,
        wanted: npt.NDArray[np.bool_] | None,
    ) -> Reading:
        started = time.perf_counter()
        reading = self.cache.read(selection, collector, wanted)
        elapsed = time.perf_counter() - started
        self.diagnostics.plan_seconds += reading.plan_seconds
        self.diagnostics.write_seconds += reading.write_seconds
        self.diagnostics.read_seconds += elapsed - reading.plan_seconds - reading.write_seconds
        self.diagnostics.bytes_read += reading.bytes_read
        return reading

    def _compute(self, requests: Sequence[_Request]) -> None:
        diagnostics = self.diagnostics
        for request in requests:
            reading = request.reading
            diagnostics.total_chunks += reading.total_chunks
            diagnostics.cached_chunks += reading.cached_chunks
            diagnostics.partial_chunks += reading.partial_chunks
            diagnostics.cached_points += reading.cached_points
            diagnostics.total_points += reading.total_points
        asked = [request for request in requests if request.missing]
        if not asked:
            return
        failed = diagnostics.failed_points
        order = asked[0].selection.order
        ledger = Ledger(self.cache.failure_log(), order, self.cache.failures_elsewhere)
        for request in asked:
            self._sift(ledger, request)
        asked = [request for request in asked if request.missing]
        if not asked:
            return
        if asked[0].collector is None and self.cache.read_only:
            raise RootError(
                errno.EROFS,
                f"{sum(len(one.missing) for one in asked)} chunks of cache {self.cache.cache_id!r} are not"
                f" stored in full, and with read_only=True a call that only stores has nothing to do; open the"
                f" cache without it, or call what returns outputs",
            )
        started, executed = time.perf_counter(), diagnostics.executed_points
        begun = self._started(requests)
        self.emit(begun)

        def finished(error: BaseException | None = None) -> RunFinished:
            return RunFinished(
                time.perf_counter() - started,
                error is None and not begun.left_out and diagnostics.failed_points == failed,
                diagnostics.executed_points - executed,
                diagnostics.failed_points - failed,
                isinstance(error, KeyboardInterrupt),
                error,
            )

        try:
            (_Serial if self.options.map_fn is None else _Mapped)(self, asked, ledger).run()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                error.add_note("interrupted: finished chunks are kept, and the same call goes on from there")
            self.emit(finished(error))
            raise
        self.emit(finished())

    def _started(self, requests: Sequence[_Request]) -> RunStarted:
        readings = [request.reading for request in requests]
        where = self.options.map_fn
        return RunStarted(
            self.cache.name,
            self.cache.cache_id,
            sum(reading.total_chunks for reading in readings),
            sum(reading.total_points for reading in readings),
            sum(reading.cached_points for reading in readings),
            sum(request.left_out for request in requests),
            str(getattr(self.cache, "path", "")),
            time.time_ns(),
            "" if where is None else where if isinstance(where, str) else _named(where),
        )

    def _sift(self, ledger: Ledger, request: _Request) -> None:
        """Leave out points that failed before, as ``retry`` says."""
        if self.options.retry == "failed":
            return
        request.missing, left = ledger.sift(request.selection, request.missing, self.options.retry)
        for (rank, cell, points), failure in left:
            known = replace(failure, function=self.function)
            count = cell.points if points is None else len(points)
            self.diagnostics.failed_points += count
            self.tally.add(known, left_out=count)
            if request.collector is not None:
                request.collector.fail(rank, cell, points, Failed(known))

    def store_error(self) -> StoreError:
        """Return the error that says that results could not be stored.

        Returns
        -------
        StoreError
            The error, with the diagnostics so far.
        """
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

    def start_again(self) -> None:
        """Forget what was counted of a first attempt, but for the work that was done in it."""
        kept = {
            name: getattr(self.diagnostics, name)
            for name in (
                "executed_chunks",
                "executed_points",
                "bytes_written",
                "execute_seconds",
                "write_seconds",
            )
        }
        self.diagnostics = Diagnostics(**kept)

    def flushed(self, syncer: Syncer, *, due: bool = False) -> None:
        """Put files on disk, and take note of what cannot be.

        Parameters
        ----------
        syncer : Syncer
            Knows the files.
        due : bool, default False
            Whether only what has waited long enough is synced.
        """
        try:
            syncer.flush_if_due() if due else syncer.flush()
        except NotConfirmedError as error:
            self.unconfirmed = self.unconfirmed or error
        except OSError as error:
            self.unstored = self.unstored or error

    def sum_up(self) -> None:
        """Say once what the caller should know: what failed, what is not deterministic, what is not confirmed."""
        name, level = self.cache.name or "the function", caller_level()
        differing = self.diagnostics.nondeterministic_chunks
        if differing:
            warnings.warn(
                f"{name!r} is not deterministic: {differing} of the chunks that it computed had been stored"
                f" meanwhile by another process, with other outputs. Those that were first are kept, while this"
                f" call returns its own; seed what is random, or make it depend on the arguments alone",
                NondeterminismWarning,
                stacklevel=level,
            )
        if self.cache.read_only and self.diagnostics.executed_points:
            warnings.warn(
                f"{self.diagnostics.executed_points} points of {name!r} were computed and not stored, since the"
                f" cache was opened with read_only=True; a copy of its folder in another root can be added to",
                ReadOnlyWarning,
                stacklevel=level,
            )
        if self.unconfirmed is not None:
            warnings.warn(
                f"results of {name!r} are stored in cache {self.cache.cache_id!r}, whole and readable, but not"
                f" confirmed durable: {self.unconfirmed.strerror or self.unconfirmed}. A power cut may lose them,"
                f" which costs computing again; look at the health of the disk",
                DurabilityWarning,
                stacklevel=level,
            )
        if self.tally:
            text = self.tally.text(self.cache.name, kept=self.cache.failure_log() is not None)
            warnings.warn(text, FailureWarning, stacklevel=caller_level())


@dataclass(slots=True, eq=False)
class _Request:
    """What one request of a run asks for, what was found of it, and what came since."""

    selection: Selection
    reading: Reading
    missing: Sequence[Missing]
    """What is to be computed."""
    collector: Collector | None
    """Takes the outputs, where they are wanted."""
    touched: bytearray = field(default_factory=bytearray)
    """For each cell, by rank, whether points of it were computed."""
    stored: list[tuple[int, IntArray | None]] = field(default_factory=list)
    """What other processes stored, to be read when all is done."""

    def read_later(self, shares: Iterable[Share]) -> None:
        """Note outputs that are on disk."""
        self.stored += [(share.rank, share.points) for share in shares]

    @property
    def left_out(self) -> int:
        """Number of points that are neither stored nor to be computed."""
        if self.missing is self.reading.missing:
            return 0
        to_run = sum(cell.points if points is None else len(points) for _, cell, points in self.missing)
        return max(0, self.reading.total_points - self.reading.cached_points - to_run)


class _Run:
    """The computing of what requests miss."""

    def __init__(self, engine: Engine, requests: Sequence[_Request], ledger: Ledger) -> None:
        self.engine = engine
        self.requests = requests
        self.ledger = ledger
        self.keeps = requests[0].collector is not None
        """Whether outputs are wanted."""
        self.writer = engine.cache.writer()
        self.process = this_process()
        self.waiting: dict[int, Task] = {}
        """Tasks by number that another process has claimed."""
        self.leases: Leases | None = None
        """The claims, where processes share the work."""
        if engine.options.share and not engine.cache.read_only:
            self.leases = _leases_of(engine.cache)

    def run(self) -> None:
        """Compute what is missing, and gather it."""
        engine, count = self.engine, sum(len(request.missing) for request in self.requests)
        with self.writer.syncer() as syncer:
            try:
                self.do(self.begin(), count, syncer)
                while ready := self._ready():
                    self.do_again(ready, syncer)
            finally:
                self.finish(syncer)
            flushing = time.perf_counter()
            engine.flushed(syncer)
            engine.diagnostics.write_seconds += time.perf_counter() - flushing
        self.close()
        for request in self.requests:
            if request.collector is not None and request.stored:
                self._read_back(request, request.collector)

    def do(self, tasks: Iterator[Task], count: int, syncer: Syncer) -> None:
        """Compute tasks, numbered as they come; of how many chunks is known before."""
        raise NotImplementedError

    def do_again(self, tasks: Mapping[int, Task], syncer: Syncer) -> None:
        """Compute tasks that were given out before."""
        raise NotImplementedError

    def close(self) -> None:
        """End the run, when all is stored that will be."""
        if self.leases is not None:
            self.leases.sweep_up()

    def _ready(self) -> dict[int, Task]:
        """Wait for other processes; return the tasks that they gave up."""
        pause = 0.01
        while self.leases is not None and self.waiting:
            for number in [n for n, task in self.waiting.items() if self.writer.holds(task)]:
                self.found(self.waiting.pop(number))
            free = [n for n, task in self.waiting.items() if self.leases.is_free(task.ref.name)]
            if free:
                return {number: self.waiting.pop(number) for number in free}
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return {}

    def found(self, task: Task) -> None:
        """Take note of points that another process stored."""
        self.engine.diagnostics.cached_points += task.count
        self.engine.emit(ChunkFound(task.ref.name, task.count))
        if self.keeps:
            self.requests[task.request].read_later(task.shares)

    def _read_back(self, request: _Request, collector: Collector) -> None:
        """Read what other processes stored; compute here what is gone by now."""
        started = time.perf_counter()
        gone = self.engine.cache.read_back(request.reading.cells, request.stored, collector)
        self.engine.diagnostics.read_seconds += time.perf_counter() - started
        if gone:
            again = _Request(request.selection, request.reading, gone, collector)
            _Serial(self.engine, [again], self.ledger).run()

    def work(self, writer: TaskWriter | None, *, keep: bool = False) -> Work:
        """Return what is to be done with each task."""
        engine, options = self.engine, self.engine.options
        raising = options.on_error == "raise"
        name, vectorize = self.writer.name, self.writer.vectorize
        claim = None if self.leases is None else self.leases.claim
        return Work(
            name,
            engine.cache.cache_id,
            engine.function,
            vectorize,
            writer,
            keep,
            options.flush_every,
            raising,
            claim,
        )

    def begin(self) -> Iterator[Task]:
        """Return the tasks for missing points; each of several processes begins at another one."""
        order = range(len(self.requests))
        first = random.SystemRandom().randrange(len(order)) if self.leases is not None else 0
        return itertools.chain.from_iterable(map(self._tasks, [*order[first:], *order[:first]]))

    def _tasks(self, number: int) -> Iterator[Task]:
        request = self.requests[number]
        missing = request.missing
        highest = missing.highest if isinstance(missing, Gaps) else max(map(_rank, missing), default=-1)
        request.touched = bytearray(highest + 1)
        asked: Iterable[Missing] = missing
        if self.leases is not None:
            start = random.SystemRandom().randrange(len(missing))
            asked = itertools.chain(itertools.islice(missing, start, None), itertools.islice(missing, start))
        tasks = self.engine.cache.tasks(request.selection, asked)
        return tasks if number == 0 else (_of_request(task, number) for task in tasks)

    def finish(self, syncer: Syncer) -> None:
        """Take down how many chunks were touched, and which records of failures still hold."""
        self.engine.diagnostics.executed_chunks += sum(sum(request.touched) for request in self.requests)
        self.ledger.settle(syncer)

    def take(self, task: Task, receipt: Receipt) -> None:
        """Account for what was computed, and gather it."""
        engine, diagnostics = self.engine, self.engine.diagnostics
        rows = receipt.rows
        shares = task.shares if rows is None else _shares_of(task.shares, rows)
        count = task.count if rows is None else len(rows)
        if count:
            if receipt.unstored is not None:
                engine.unstored = engine.unstored or receipt.unstored
            request = self.requests[task.request]
            for share in shares:
                request.touched[share.rank] = True
            self.gather(request, shares, receipt, count)
            if receipt.unstored is None:
                self.ledger.stored(task, rows)
        engine.unconfirmed = engine.unconfirmed or receipt.unconfirmed
        diagnostics.nondeterministic_chunks += receipt.differs
        diagnostics.executed_points += count
        diagnostics.execute_seconds += receipt.seconds
        diagnostics.bytes_written += receipt.bytes_written
        diagnostics.write_seconds += receipt.write_seconds

    def tell(self, task: Task, receipt: Receipt) -> None:
        """Tell observers what was computed and stored."""
        count = task.count if receipt.rows is None else len(receipt.rows)
        if self.engine.observers and count:
            done = (receipt.seconds, receipt.bytes_written, receipt.worker or self.process, time.time_ns())
            self.engine.emit(ChunkDone(task.ref.name, count, *done))

    def gather(self, request: _Request, shares: Sequence[Share], receipt: Receipt, count: int) -> None:
        """Take the outputs of a receipt, or note where they are to be read."""
        diagnostics = self.engine.diagnostics
        if request.collector is None:
            diagnostics.stream_flushes += 1
            diagnostics.max_stream_items = max(diagnostics.max_stream_items, count)
            if receipt.unstored is not None:
                raised = self.engine.store_error()
                raised.output = receipt.output
                raise raised from receipt.unstored
        elif receipt.block is not None:
            request.collector.add_shares(shares, receipt.block)
        else:
            request.read_later(shares)

    def failed(self, task: Task, failures: Sequence[Failure], syncer: Syncer) -> None:
        """Record failures of a task, or end the run with the first."""
        engine = self.engine
        for failure in failures if engine.observers else ():
            error = failure.exception
            assert error is not None
            when = (failure.seconds, failure.worker, failure.failed_at)
            engine.emit(PointFailed(task.ref.name, failure.arguments, error, failure.points, *when))
        if failures and engine.options.on_error == "raise":
            error = failures[0].exception
            assert error is not None
            self.end(error)
        elif failures:
            self._record(task, failures, syncer)

    def _record(self, task: Task, failures: Sequence[Failure], syncer: Syncer) -> None:
        """Store failures of a task, and mark their points."""
        engine = self.engine
        shared = [replace(each.without_exception(), values=task.values) for each in failures]
        try:
            shared = self.ledger.failed(task, shared, syncer)
        except OSError as error:
            engine.unstored = engine.unstored or error
            if not self.keeps:
                raise engine.store_error() from error
        shared = [replace(each, function=engine.function) for each in shared]
        for failure in shared:
            engine.diagnostics.failed_points += failure.points
            engine.tally.add(failure)
        collector = self.requests[task.request].collector
        if collector is not None:
            _mark(collector, task, shared)

    def end(self, error: BaseException) -> None:
        """End the run with an error, now or when what is running is done."""
        raise NotImplementedError


class _Serial(_Run):
    """One task after the other, in this process."""

    def __init__(self, engine: Engine, requests: Sequence[_Request], ledger: Ledger) -> None:
        super().__init__(engine, requests, ledger)
        self._done: list[tuple[Task, Receipt]] = []
        """What was done and is not gathered yet."""

    def do(self, tasks: Iterator[Task], count: int, syncer: Syncer) -> None:
        """Compute tasks."""
        self._do_all(enumerate(tasks), syncer)

    def do_again(self, tasks: Mapping[int, Task], syncer: Syncer) -> None:
        """Compute tasks that were given out before."""
        self._do_all(tasks.items(), syncer)

    def _do_all(self, numbered: Iterable[tuple[int, Task]], syncer: Syncer) -> None:
        work = self.work(self.writer, keep=self.keeps)
        try:
            for number, task in numbered:
                self._sync_before_computing(syncer)
                receipt = work.perform(Job(number, task), syncer)
                if self._can_wait(receipt):
                    self.tell(task, receipt)
                    self._done.append((task, receipt))
                    if len(self._done) >= _TOGETHER:
                        self._take_done()
                    continue
                self._take_done()
                if receipt.taken:
                    self.waiting[number] = task
                elif receipt.found:
                    self.found(task)
                else:
                    self.take(task, receipt)
                    self.tell(task, receipt)
                    self.failed(task, receipt.failures, syncer)
        finally:
            self._take_done()

    def _can_wait(self, receipt: Receipt) -> bool:
        """Tell whether a task went as nearly all do, and its outputs are few and stay what they are."""
        if receipt.taken or receipt.found or receipt.failures or receipt.unstored is not None:
            return False
        return not self.keeps or (receipt.block is not None and receipt.block.lasting)

    def _take_done(self) -> None:
        """Take what was done: of many tasks at once, as in turns with calls and writes it takes twice as long."""
        done, self._done = self._done, []
        for task, receipt in done:
            self.take(task, receipt)

    def _sync_before_computing(self, syncer: Syncer) -> None:
        """Put finished files on disk before a call that may take hours."""
        self.engine.flushed(syncer, due=True)

    def end(self, error: BaseException) -> None:
        """Raise the error that ends the run."""
        raise error


class _Mapped(_Run):
    """Tasks handed to a map."""

    def __init__(self, engine: Engine, requests: Sequence[_Request], ledger: Ledger) -> None:
        super().__init__(engine, requests, ledger)
        options = engine.options
        self.map: TaskMap = task_map(options.map_fn, options.map_fn_kwargs, options.timeout)
        self.first: BaseException | None = None
        """The error that ends the run."""
        self.queue = Queue(iter(()), self.map, 0, timed=False)

    def do(self, tasks: Iterator[Task], count: int, syncer: Syncer) -> None:
        """Compute tasks."""
        diagnostics = self.engine.diagnostics
        self.queue = Queue(tasks, self.map, count, timed=self.engine.options.timeout is not None)
        try:
            self._run_all(syncer)
        finally:
            diagnostics.max_parallel_items = max(diagnostics.max_parallel_items, self.queue.most_points)

    def do_again(self, tasks: Mapping[int, Task], syncer: Syncer) -> None:
        """Compute tasks that were given out before."""
        self.queue.again(tasks)
        self._run_all(syncer)

    def close(self) -> None:
        """End the run, with the first error where there was one."""
        super().close()
        if self.first is not None:
            raise self.first

    def _stored_there(self, syncer: Syncer) -> bool:
        """Tell whether workers can store by themselves."""
        options, prepare = self.engine.options, getattr(self.writer, "prepare", None)
        if not self.engine.cache.portable:
            return False
        if self.map.in_process:
            return True
        if options.by_value or self.engine.cache.read_only:
            return False
        try:
            if prepare is not None:
                prepare(syncer)  # layouts go before the chunks that need them
                syncer.flush()
        except OSError as error:
            self.engine.unstored = self.engine.unstored or error
            return False
        return True

    def _run_all(self, syncer: Syncer) -> None:
        keep = self.map.in_process and self.keeps
        work = self.work(self.writer if self._stored_there(syncer) else None, keep=keep)
        with contextlib.closing(self.map.run(work, self.queue)) as results:
            for result in results:
                if isinstance(result, Lost):
                    self._lost(result, syncer)
                    continue
                for job, receipt in zip(result.task.jobs, result.result, strict=True):
                    self._took(job.number, receipt, syncer)
                if self.first is not None and not self.queue.lazy:
                    return

    def _took(self, number: int, receipt: Receipt, syncer: Syncer) -> None:
        if receipt.taken:
            self.waiting[number] = self.queue.drop(number)
            return
        task = self.queue.done(number, receipt)
        if receipt.pickled:
            self.writer.tell_of_pickles(receipt.pickled)
        if receipt.by_value:
            self._store_here(task, receipt, syncer)
        if receipt.found:
            self.found(task)
            return
        self.take(task, receipt)
        self.tell(task, receipt)
        self.failed(task, receipt.failures, syncer)

    def _store_here(self, task: Task, receipt: Receipt, syncer: Syncer) -> None:
        """Store what a worker could not."""
        unstored = receipt.unstored
        output, receipt.output, receipt.by_value = receipt.output, None, False
        work = self.work(self.writer, keep=self.keeps)
        work.hand_over(receipt, task, output, syncer, receipt.rows)
        if receipt.unstored is unstored:
            receipt.unstored = None
        self.engine.flushed(syncer, due=True)

    def end(self, error: BaseException) -> None:
        """Let those that are running be finished, and raise the first error then."""
        self.first = self.first or error
        self.queue.stop()

    def _lost(self, lost: Lost[Batch], syncer: Syncer) -> None:
        """Give a lost task out again, or set it aside."""
        jobs, emit = lost.task.jobs, self.engine.emit
        if len(jobs) > 1:
            self.queue.again({job.number: self.queue.drop(job.number) for job in jobs})
            for job in jobs:
                emit(ChunkLost(job.task.ref.name, lost.reason, 0, retried=True))
            return
        (job,) = jobs
        deaths = self.queue.count_deaths(job.number, lost.deaths)
        retried = not lost.timed_out and deaths < _MOST_DEATHS
        emit(ChunkLost(job.task.ref.name, lost.reason, deaths, retried))
        if retried:
            self.queue.again({job.number: self.queue.drop(job.number)})
            return
        task = self.queue.drop(job.number)
        arguments = task.arguments()
        cache_id = self.engine.cache.cache_id
        where = f"{lost.reason} while {whereabouts(self.writer.name, cache_id, task, arguments)}"
        error: ChunkLostError = (
            ChunkTimeoutError(f"{where}; give it more time by timeout=, or smaller chunks by chunk_spec=")
            if lost.timed_out
            else ChunkLostError(
                f"{where}; it ended {deaths} workers and was set aside: look at its memory, or at the compiled"
                f" code that it calls, by running it alone"
            )
        )
        cause = "timed out" if lost.timed_out else "killed"
        self.failed(task, [self.work(None).failure(error, task, None, 0.0, cause)], syncer)


def _leases_of(cache: Any) -> Leases:
    """Return the claims on a cache's chunks."""
    if not cache.portable:
        raise SpecError(
            "share=True needs a ChunkCache, whose chunks can be claimed; other caches, and overridden methods,"
            " are run by one process"
        )
    return Leases(cache.path)


def _of_request(task: Task, number: int) -> Task:
    task.request = number
    return task


def _chunks_of(request: _Request) -> Iterator[Hashable]:
    """Iterate over the chunks of which something is to be computed, by the bins of their values."""
    for _, cell, _ in request.missing:
        yield tuple([axis.bins for axis in cell.axes])


def _rank(entry: Missing) -> int:
    return entry[0]


def _shares_of(shares: Sequence[Share], rows: IntArray) -> list[Share]:
    """Return what cells get of some rows of a call, numbered as those."""
    place = {row: number for number, row in enumerate(rows.tolist())}
    kept = []
    for share in shares:
        count = share.cell.points if share.points is None else len(share.points)
        own = np.arange(count) if share.rows is None else share.rows
        chosen = np.array([number for number, row in enumerate(own.tolist()) if row in place], np.intp)
        if len(chosen):
            points = chosen if share.points is None else share.points[chosen]
            at = np.array([place[row] for row in own[chosen].tolist()], np.intp)
            kept.append(Share(share.rank, share.cell, points, at))
    return kept


def _mark(collector: Collector, task: Task, failures: Sequence[Failure]) -> None:
    """Put markers where outputs of a task would stand."""
    rows = [np.arange(task.count) if each.rows is None else each.rows for each in failures]
    markers = np.repeat(np.array([Failed(each) for each in failures], object), [len(own) for own in rows])
    for share in _shares_of(task.shares, np.concatenate(rows)):
        collector.fail(share.rank, share.cell, share.points, markers[share.rows])


def _named(where: Any) -> str:
    return str(getattr(where, "__qualname__", type(where).__qualname__))


def _refuse_holes(collector: Collector) -> None:
    """Refuse to return arrays in which some points would never have been written."""
    kinds = collector.kinds - {"list"}
    if kinds:
        raise SpecError(
            f"on_partial='return' leaves points out, which only outputs of the kind 'list' can show; this cache"
            f" holds {sorted(kinds)}: ask for what is stored by slice(…), or use on_partial='compute'"
        )
    return None
