"""A ``multiprocessing.Pool`` of the user's, watched for workers that die.

A pool puts a new worker in the place of a dead one and forgets what the dead one was at, so that its ``map``
waits for ever. Here tasks are submitted in a window, and the pool's processes are looked at while results are
awaited: a death ends the run with the names of the tasks that did not come back.
"""

from __future__ import annotations

import functools
import itertools
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, checked_count
from chunk_memo.maps.parcels import answer, named, opened, packed_function, packed_task
from chunk_memo.maps.processes import how_it_ended

__all__ = ["PoolMap"]

_METHODS = ("imap", "imap_unordered", "map")

_LOOK = 0.05
"""Seconds between two looks at the workers."""

_MOMENT = 1.0
"""Seconds in which, after a death, the results of other workers are still taken."""


class PoolMap:
    """Runs tasks on a pool, which stays the user's: ``foo(…, map_fn=pool)``, or one of its methods.

    The pool cannot tell which task a dead worker was at. Where a death should cost one task and not the run,
    there is ``map_fn="processes"``.

    Parameters
    ----------
    pool_or_method : multiprocessing.pool.Pool or method
        The pool (or a ``ThreadPool``), or its ``map``, ``imap`` or ``imap_unordered``, which are all the same
        here.
    chunksize : int, default 1
        How many tasks are sent at a time.

    Raises
    ------
    SpecError
        Where it is another method, or `chunksize` no positive number.

    Examples
    --------
    >>> from multiprocessing.pool import ThreadPool
    >>> with ThreadPool(2) as pool:
    ...     sorted(done.result for done in PoolMap(pool.imap).run(abs, iter([-1, 2])))
    [1, 2]
    """

    def __init__(self, pool_or_method: Any, chunksize: int = 1) -> None:
        pool = getattr(pool_or_method, "__self__", pool_or_method)
        name = getattr(pool_or_method, "__name__", None)
        if pool is not pool_or_method and name not in _METHODS:
            expected = ", ".join(f"pool.{each}" for each in _METHODS)
            raise SpecError(f"map_fn must be the pool, or one of {expected}, got its method {name!r}")
        self._pool = pool
        self._chunksize = checked_count("chunksize", chunksize)
        self.workers = int(pool._processes)
        self.in_process = any(each.__name__ == "ThreadPool" for each in type(pool).__mro__)

    def run(self, func: Callable[[Any], Any], tasks: Iterator[Any]) -> Generator[Done[Any, Any], None, None]:
        """Carry out tasks; see :class:`~chunk_memo.maps.base.TaskMap`.

        Parameters
        ----------
        func : callable
            Called with one task.
        tasks : iterator
            The tasks.

        Yields
        ------
        Done
            Each task once, as it is done.

        Raises
        ------
        MapBrokenError
            Where a worker dies, the pool is closed, or the function does not arrive in the workers.
        """
        yield from _Round(self._pool, self._submitter(func), tasks, self._chunksize).outcomes()

    def _submitter(self, func: Callable[[Any], Any]) -> Callable[[list[Any]], tuple[Any, ...]]:
        """Return what makes of a batch of tasks the function and arguments to be submitted."""
        in_order = functools.partial(_each, func)
        if self.in_process:
            return lambda batch: (in_order, (batch,))
        packed = packed_function(in_order)
        return lambda batch: (answer, (packed, packed_task(batch)))


def _each(func: Callable[[Any], Any], batch: list[Any]) -> list[Any]:
    return [func(task) for task in batch]


_Batch = list[Any]


class _Round:
    """The tasks of one run, and what has become of the pool's workers meanwhile."""

    def __init__(
        self, pool: Any, submitted: Callable[[_Batch], tuple[Any, ...]], tasks: Iterator[Any], size: int
    ) -> None:
        self._pool = pool
        self._where = f"the pool {type(pool).__name__!r}"
        self._submitted = submitted
        self._tasks = tasks
        self._size = size
        self._numbers = itertools.count()
        self._pending: dict[int, _Batch] = {}
        self._answers: queue.SimpleQueue[tuple[int, bool, Any]] = queue.SimpleQueue()
        """Filled by the pool's thread: the batch's number, whether it was carried out, and result or error."""
        self._outcomes: deque[Done[Any, Any]] = deque()
        self._watch = _Watch(pool)
        self._died: tuple[str, float] | None = None
        """How a worker ended, and until when results are still taken."""

    def outcomes(self) -> Generator[Done[Any, Any], None, None]:
        while True:
            if self._died is None:
                self._submit()
            if self._outcomes:
                yield self._outcomes.popleft()
            elif self._pending:
                self._listen()
            elif self._died is None:
                return
            else:  # the worker that died was at nothing
                self._died = None

    def _submit(self) -> None:
        while len(self._pending) < 2 * self._pool._processes:
            batch = list(itertools.islice(self._tasks, self._size))
            if not batch:
                return
            number = next(self._numbers)
            self._pending[number] = batch
            function, arguments = self._submitted(batch)
            try:
                self._pool.apply_async(
                    function,
                    arguments,
                    callback=functools.partial(self._take, number, True),
                    error_callback=functools.partial(self._take, number, False),
                )
            except ValueError as error:
                raise self._broken("is closed") from error

    def _take(self, number: int, done: bool, content: Any) -> None:
        self._answers.put((number, done, content))

    def _listen(self) -> None:
        """Wait a moment for an answer; look whether all workers are still there."""
        try:
            number, done, content = self._answers.get(timeout=_LOOK)
        except queue.Empty:
            if self._died is not None and time.monotonic() > self._died[1]:
                raise self._broken(f"had a worker that {self._died[0]}") from None
        else:
            self._open(number, done, content)
        ended = self._watch.ended()
        if ended is not None and self._died is None:
            self._died = (ended, time.monotonic() + _MOMENT)

    def _open(self, number: int, done: bool, content: Any) -> None:
        if not done:
            raise self._broken(f"could not carry out a task ({type(content).__name__}: {content})") from content
        results = opened(content, self._where) if isinstance(content, bytes) else content
        self._outcomes.extend(map(Done, self._pending.pop(number), results))

    def _broken(self, what: str) -> MapBrokenError:
        waiting = [named(task) for batch in self._pending.values() for task in batch]
        listed = ", ".join(waiting[:3]) + (", …" if len(waiting) > 3 else "")
        return MapBrokenError(
            f"{self._where} {what} while these tasks were under way: {listed}. What was done is kept: call again"
            f" to go on, with a new pool or with map_fn='processes', which goes on by itself when a worker dies"
        )


class _Watch:
    """Notices workers of a pool that did not end as they should."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._known: set[Any] = set(pool._pool)
        self._looked = time.monotonic()

    def ended(self) -> str | None:
        """Return how a worker ended that died since the last look; None if none did, or it is too early to look.

        The pool's own thread takes dead workers out of its list and puts new ones in, so the dead are among those
        that were in it before. Exit code 0 is that of a worker that has done its ``maxtasksperchild``.
        """
        if time.monotonic() - self._looked < _LOOK:
            return None
        self._looked = time.monotonic()
        present = set(self._pool._pool)
        codes = [getattr(worker, "exitcode", None) for worker in self._known | present]
        self._known = present
        return next((how_it_ended(code) for code in codes if code), None)
