"""What a worker does with a task: call the function, store what it returned, and tell how it went.

:class:`Work` is the same wherever it runs: in the caller's own process one task after the other, in its threads,
in other processes, on other machines. Elsewhere the function travels by name or by value
(:mod:`chunk_memo.travel`), the writer by its few settings, and a task by the values of its own chunk; what comes
back is a small :class:`Receipt`, for the outputs are on disk by then.

A function of single points is committed in parts as it goes (``flush_every``), and the points that were done
before one failed are kept.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np

from chunk_memo.chunks import Written
from chunk_memo.disk.files import Durability, NotConfirmedError, Syncer
from chunk_memo.errors import EncodingError, OutputError
from chunk_memo.events import this_process
from chunk_memo.failures import Failure, shown_arguments
from chunk_memo.grid import IntArray
from chunk_memo.outputs import Block
from chunk_memo.tasks import Task
from chunk_memo.travel import packed, unpacked

__all__ = ["Batch", "Job", "Receipt", "TaskWriter", "Work", "whereabouts"]


_NONE: IntArray = np.zeros(0, np.intp)


class TaskWriter(Protocol):
    """What turns outputs into blocks and stores them."""

    def syncer(self) -> Syncer:
        """Return what takes note of files that must be on disk."""

    def block(self, task: Task, output: Any, rows: IntArray | None = None) -> Block:
        """Return an output as a block, checked.

        Parameters
        ----------
        task : Task
            The points that the function was called with.
        output : object
            What it returned.
        rows : ndarray of intp, optional
            Which of the task's points these are; all of them by default.
        """

    def write(
        self, task: Task, block: Block, seconds: float, syncer: Syncer, rows: IntArray | None = None
    ) -> Written:
        """Store a block; return how much was written, and whether other outputs were there before.

        Parameters
        ----------
        task : Task
            The points that were computed.
        block : Block
            Their outputs.
        seconds : float
            Seconds of compute.
        syncer : Syncer
            Takes note of files that must be on disk.
        rows : ndarray of intp, optional
            Which of the task's points the block holds; all of them by default.
        """

    def holds(self, task: Task) -> bool:
        """Tell whether all points of a task were stored meanwhile.

        Parameters
        ----------
        task : Task
            The points.
        """


class Job(NamedTuple):
    """A task under the number by which its receipt is known."""

    number: int
    """The number."""
    task: Task
    """The task."""
    again: bool = False
    """Whether it was given out before, so that it may be stored by now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that are handed out together."""

    jobs: tuple[Job, ...]
    """The jobs."""

    def __str__(self) -> str:
        """Return the chunks, for messages."""
        first = self.jobs[0].task.ref.name
        return f"chunk {first}" + (f" and {len(self.jobs) - 1} more" if len(self.jobs) > 1 else "")


@dataclass(slots=True)
class Receipt:
    """How a task went."""

    number: int
    """The job's number."""
    seconds: float = 0.0
    """Seconds in the function."""
    write_seconds: float = 0.0
    """Seconds spent on storing."""
    bytes_written: int = 0
    """Bytes of the files written."""
    rows: IntArray | None = None
    """Which of the task's points were computed; None for all of them."""
    block: Block | None = None
    """Their outputs, where this process has them."""
    output: Any = None
    """What the function returned for them, where ``by_value``."""
    by_value: bool = False
    """Whether the outputs come in ``output``, for the receiver to store."""
    unstored: OSError | None = None
    """Why they could not be stored."""
    failures: tuple[Failure, ...] = ()
    """The points that failed."""
    taken: bool = False
    """Whether another process is at work on it, so that nothing was done."""
    found: bool = False
    """Whether another process had stored it by then, so that nothing was done."""
    worker: str = ""
    """Host and process id."""
    pickled: str = ""
    """What to say of outputs that had to be pickled."""
    differs: bool = False
    """Whether the chunk was stored already, with other outputs."""
    unconfirmed: OSError | None = None
    """Why it is not known whether files would survive a power cut."""

    def wrote(self, written: Written) -> None:
        """Take note of what was stored.

        Parameters
        ----------
        written : Written
            What became of some outputs.
        """
        self.bytes_written += written.nbytes
        self.differs = self.differs or written.differs


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with each task of a run."""

    name: str
    """Name of the function, for messages."""
    cache_id: str
    """The cache, for messages."""
    function: Callable[..., Any]
    """The function."""
    vectorize: bool
    """Whether it takes single values."""
    writer: TaskWriter | None
    """Stores outputs where they are computed; with None they travel back."""
    keep: bool = False
    """Whether outputs are handed over as well, which only makes sense within one process."""
    flush_every: float = 30.0
    """Seconds after which the points done of a chunk are committed."""
    first_only: bool = False
    """Whether a task ends with the first point that fails."""
    claim: Callable[[str], Any] | None = None
    """Claims a chunk by its name for this process: a context, or None where another process has it."""

    def __call__(self, batch: Batch) -> list[Receipt]:
        """Do a batch of jobs; what it stores is on disk when this returns.

        Parameters
        ----------
        batch : Batch
            The jobs.

        Returns
        -------
        list of Receipt
            One for each job.
        """
        receipts = []
        syncer = Syncer(Durability.FAST) if self.writer is None else self.writer.syncer()
        for job in batch.jobs:
            receipts.append(self.perform(job, syncer))
            receipts[-1].worker = this_process()
        receipts[-1].pickled = getattr(self.writer, "pickled", "")
        started = time.perf_counter()
        try:
            syncer.flush()
        except NotConfirmedError as error:
            receipts[-1].unconfirmed = receipts[-1].unconfirmed or error
        except OSError as error:
            receipts[-1].unstored = receipts[-1].unstored or error
        receipts[-1].write_seconds += time.perf_counter() - started
        return receipts

    def perform(self, job: Job, syncer: Syncer) -> Receipt:
        """Do one job.

        Parameters
        ----------
        job : Job
            The job.
        syncer : Syncer
            Takes note of files that must be on disk.

        Returns
        -------
        Receipt
            How it went.
        """
        if self.claim is None:
            return (self._found(job) if job.again else None) or self._compute(job, syncer)
        claimed = self.claim(job.task.ref.name)
        if claimed is None:
            return Receipt(job.number, taken=True)
        with claimed:
            return self._found(job) or self._compute(job, syncer)

    def _found(self, job: Job) -> Receipt | None:
        """Return the receipt of a job that was done meanwhile."""
        if self.writer is None or not self.writer.holds(job.task):
            return None
        return Receipt(job.number, found=True)

    def _compute(self, job: Job, syncer: Syncer) -> Receipt:
        if self.vectorize:
            return _Points(self, job, syncer).compute()
        receipt, task = Receipt(job.number), job.task
        arguments = task.arguments()
        started = time.perf_counter()
        try:
            output = self.function(**arguments)
        except BaseException as error:
            receipt.seconds = time.perf_counter() - started
            if not self.becomes_receipt(error, task, arguments):
                raise
            receipt.rows = _NONE
            receipt.failures = (self.failure(error, task, None, receipt.seconds),)
            return receipt
        receipt.seconds = time.perf_counter() - started
        self.hand_over(receipt, task, output, syncer)
        return receipt

    def becomes_receipt(self, error: BaseException, task: Task, arguments: dict[str, Any]) -> bool:
        """Add to an exception where it came from; tell whether it is a failure, and not a wish to end the run.

        Parameters
        ----------
        error : BaseException
            What the function raised.
        task : Task
            The task.
        arguments : dict
            What it was called with.

        Returns
        -------
        bool
            Whether it is.
        """
        note = f"while {whereabouts(self.name, self.cache_id, task, arguments)}"
        if isinstance(error, TypeError) and not self.vectorize and arguments:
            note += (
                ". Its axes come as lists of values; where it takes one value of each, decorate it with"
                " vectorize=True"
            )
        error.add_note(note)
        return isinstance(error, Exception | SystemExit)

    def failure(
        self,
        error: BaseException,
        task: Task,
        rows: IntArray | None,
        seconds: float,
        cause: str = "raised",
    ) -> Failure:
        """Return what is kept of an exception.

        Parameters
        ----------
        error : BaseException
            The exception.
        task : Task
            The task.
        rows : ndarray of intp or None
            Which of its points failed; None for all of them.
        seconds : float
            Seconds that it took.
        cause : str, default "raised"
            What kind of failure it is.

        Returns
        -------
        Failure
            The failure.
        """
        return Failure.of(
            error,
            task.ref.name,
            task.order,
            task.values,
            rows,
            vectorize=self.vectorize,
            worker=this_process(),
            failed_at=time.time_ns(),
            seconds=seconds,
            cause=cause,
        )

    def hand_over(
        self, receipt: Receipt, task: Task, output: Any, syncer: Syncer, rows: IntArray | None = None
    ) -> None:
        """Check and store what the function returned, or put it on the receipt.

        Parameters
        ----------
        receipt : Receipt
            Takes note.
        task : Task
            The task.
        output : object
            What the function returned.
        syncer : Syncer
            Takes note of files that must be on disk.
        rows : ndarray of intp, optional
            Which of the task's points it is for.
        """
        started = time.perf_counter()
        receipt.rows = rows
        if self.writer is None:
            receipt.output, receipt.by_value = output, True
            return
        self.store(self.writer, receipt, task, output, syncer, rows)
        receipt.write_seconds += time.perf_counter() - started

    def store(
        self,
        writer: TaskWriter,
        receipt: Receipt,
        task: Task,
        output: Any,
        syncer: Syncer,
        rows: IntArray | None,
    ) -> None:
        """Check and store an output; where it does not fit, that is a failure of its points.

        Parameters
        ----------
        writer : TaskWriter
            Stores it.
        receipt : Receipt
            Takes note; where storing fails, the outputs stay on it.
        task : Task
            The task.
        output : object
            What the function returned.
        syncer : Syncer
            Takes note of files that must be on disk.
        rows : ndarray of intp or None
            Which of the task's points it is for.
        """
        try:
            block = writer.block(task, output, rows)
        except (OutputError, EncodingError) as error:
            alone = self.vectorize and not self.first_only
            if not alone or not self._store_others(writer, receipt, task, output, syncer, rows):
                self._misfit(error, receipt, task, output, rows)
            return
        try:
            receipt.wrote(writer.write(task, block, receipt.seconds, syncer, rows))
        except OSError as error:
            receipt.unstored = error
            receipt.output, receipt.by_value = output, not self.keep
        if self.keep:
            receipt.block = block

    def _store_others(
        self,
        writer: TaskWriter,
        receipt: Receipt,
        task: Task,
        output: list[Any],
        syncer: Syncer,
        rows: IntArray | None,
    ) -> bool:
        """Store outputs of single points without those that cannot be stored; tell whether such were found."""
        places = np.arange(len(output)) if rows is None else rows
        fitting = []
        for number, one in enumerate(output):
            try:
                writer.block(task, [one], places[number : number + 1])
                fitting.append(number)
            except (OutputError, EncodingError) as error:
                self._misfit(error, receipt, task, one, places[number : number + 1])
        if 0 < len(fitting) < len(output):
            receipt.rows = places[fitting]
            self.store(writer, receipt, task, [output[i] for i in fitting], syncer, receipt.rows)
        return len(fitting) < len(output)

    def _misfit(
        self,
        error: OutputError | EncodingError,
        receipt: Receipt,
        task: Task,
        output: Any,
        rows: IntArray | None,
    ) -> None:
        error.output = output
        arguments = task.arguments()
        where = whereabouts(self.name, self.cache_id, task, arguments)
        error.add_note(f"while {where}; what it returned is in .output")
        failure = self.failure(error, task, rows, receipt.seconds, "misfit")
        receipt.failures = (*receipt.failures, failure)
        receipt.rows = _NONE

    def __getstate__(self) -> _Sent:
        """Return what travels: one pickle, read once per process however many batches it comes with."""
        return _Sent(packed({each.name: getattr(self, each.name) for each in fields(self)}))

    def __setstate__(self, sent: _Sent) -> None:
        for name, value in sent.members().items():
            object.__setattr__(self, name, value)


class _Points:
    """A task of a function of single points, done point by point."""

    def __init__(self, work: Work, job: Job, syncer: Syncer) -> None:
        self._work = work
        self._task = job.task
        self._syncer = syncer
        self._receipt = Receipt(job.number)
        self._outputs: list[Any] = []
        self._rows: list[int] = []
        self._stored = 0
        """How many of the outputs are committed as parts."""

    def compute(self) -> Receipt:
        receipt, work = self._receipt, self._work
        flushed = time.perf_counter()
        for row, point in enumerate(self._task.each()):
            started = time.perf_counter()
            try:
                output = work.function(**point)
            except BaseException as error:
                receipt.seconds += (seconds := time.perf_counter() - started)
                self._failed(error, row, point, seconds)
                if work.first_only:
                    break
                continue
            now = time.perf_counter()
            receipt.seconds += now - started
            self._outputs.append(output)
            self._rows.append(row)
            if now - flushed >= work.flush_every and receipt.unstored is None:
                self._flush()
                flushed = time.perf_counter()
        self._finish()
        return receipt

    def _failed(self, error: BaseException, row: int, point: dict[str, Any], seconds: float) -> None:
        work, task = self._work, self._task
        if not work.becomes_receipt(error, task, point):
            self._flush()
            raise error
        failure = work.failure(error, task, np.array([row], np.intp), seconds)
        self._receipt.failures = (*self._receipt.failures, failure)

    def _flush(self) -> None:
        """Commit the points that are done and not yet committed, as a part."""
        writer, receipt = self._work.writer, self._receipt
        if self._stored == len(self._rows) or writer is None:
            return
        started = time.perf_counter()
        rows = np.asarray(self._rows[self._stored :], np.intp)
        try:
            block = writer.block(self._task, self._outputs[self._stored :], rows)
            receipt.wrote(writer.write(self._task, block, receipt.seconds, self._syncer, rows))
            self._syncer.flush()
            self._stored = len(self._rows)
        except NotConfirmedError as error:
            self._stored = len(self._rows)
            receipt.unconfirmed = receipt.unconfirmed or error
        except (OutputError, EncodingError, OSError):
            pass  # what is wrong is told when the task is done
        receipt.write_seconds += time.perf_counter() - started

    def _finish(self) -> None:
        receipt, work, task = self._receipt, self._work, self._task
        if not self._outputs:
            receipt.rows = _NONE
            return
        rows = None if len(self._rows) == task.count else np.asarray(self._rows, np.intp)
        if self._stored:
            self._flush()
        if self._stored < len(self._rows):
            work.hand_over(receipt, task, self._outputs, self._syncer, rows)
            return
        receipt.rows = rows
        if work.keep and work.writer is not None:
            receipt.block = work.writer.block(task, self._outputs, rows)


def whereabouts(name: str, cache_id: str, task: Task, arguments: dict[str, Any]) -> str:
    """Return what was being computed, for people.

    Parameters
    ----------
    name : str
        The function's name.
    cache_id : str
        The cache.
    task : Task
        The task.
    arguments : dict
        What the function was called with.

    Returns
    -------
    str
        A clause without a subject before it.
    """
    return (
        f"{name or 'the function'} computed {shown_arguments(arguments)}: chunk {task.ref.name} of cache"
        f" {cache_id}; finished chunks are kept"
    )


# --- travel --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sent:
    """The members of a work as one pickle."""

    data: bytes = field(repr=False)

    def members(self) -> Any:
        return _members(self.data)


@functools.lru_cache(maxsize=8)
def _members(data: bytes) -> Any:
    return unpacked(data)
