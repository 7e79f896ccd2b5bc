"""``joblib.Parallel``, with whatever backend joblib is set to: loky, threads, Dask.

joblib asks for more tasks in threads of its backend, where the iterator of tasks must not be advanced. Here
:class:`joblib.Parallel` is held back: it gets the next task in the thread that takes the results, when one is at
hand. So its generator lasts for the whole run, and lost tasks may come again while others are still under way.
Results are waited for, not looked for every 10 ms as joblib does; a task takes as long as in joblib's own loop,
which is still several times what ``map_fn="processes"`` takes.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import joblib
from joblib.parallel import get_active_backend

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost
from chunk_memo.maps.parcels import answer, named, opened, packed_function, packed_task
from chunk_memo.maps.processes import how_it_ended

__all__ = ["Joblib"]

_OURS = ("batch_size", "pre_dispatch", "return_as", "timeout")
_WHERE = "map_fn='joblib'"
_END = object()


class Joblib:
    """Runs tasks with joblib: ``foo(…, map_fn="joblib")``.

    What :func:`joblib.parallel_config` says is honoured. When a worker of loky dies, joblib ends all of them;
    the tasks that were under way are tried again in ever smaller groups, until the one that kills its worker is
    known.

    Parameters
    ----------
    n_jobs : int, optional
        How many tasks at once; by default what joblib is set to, or else as many as there are cores.
    backend : str or ParallelBackendBase, optional
        The backend; by default the one that joblib is set to.
    **parallel_kwargs : object
        Further keywords of :class:`joblib.Parallel`.

    Raises
    ------
    SpecError
        Where a keyword is given that this map sets itself; and when a run begins with a backend that gives no
        results before the last is there, as ``"multiprocessing"``.

    Examples
    --------
    ::

        foo(map_fn="joblib", map_fn_kwargs={"n_jobs": 4})
        with joblib.parallel_config(backend="dask"):
            foo(map_fn="joblib")
    """

    in_process = False

    def __init__(self, n_jobs: int | None = None, backend: Any = None, **parallel_kwargs: Any) -> None:
        taken = sorted(set(parallel_kwargs) & set(_OURS))
        if taken:
            raise SpecError(
                f"map_fn='joblib' sets {taken[0]!r} itself; the others of joblib.Parallel may be given"
            )
        if "workers" in parallel_kwargs:
            raise SpecError("map_fn='joblib' counts its workers as joblib does; write n_jobs for workers")
        self._n_jobs = n_jobs
        self._kwargs = {**parallel_kwargs, "return_as": "generator_unordered", "batch_size": 1}
        if backend is not None:
            self._kwargs["backend"] = backend

    @property
    def n_jobs(self) -> int:
        """What joblib is asked for: -1 stands for all cores."""
        wanted = get_active_backend()[1] if self._n_jobs is None else self._n_jobs
        return -1 if wanted is None else int(wanted)

    @property
    def workers(self) -> int:
        """How many tasks run at once, with the backend that is set at the moment."""
        if "backend" not in self._kwargs:
            return int(joblib.effective_n_jobs(self.n_jobs))
        with joblib.parallel_config(backend=self._kwargs["backend"]):
            return int(joblib.effective_n_jobs(self.n_jobs))

    def run(
        self, func: Callable[[Any], Any], tasks: Iterator[Any]
    ) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Carry out tasks; see :class:`~chunk_memo.maps.base.TaskMap`.

        Parameters
        ----------
        func : callable
            Called with one task.
        tasks : iterator
            The tasks.

        Yields
        ------
        Done or Lost
            Each task once, as it is done, or found to be one that ends its worker.

        Raises
        ------
        MapBrokenError
            Where joblib cannot go on, or the function does not arrive in the workers.
        """
        feed = _Feed(packed_function(func), tasks)
        while feed.more():
            try:
                yield from self._round(feed, 2 * self.workers)
            except _WorkerDied as death:
                feed.elsewhere = os.getpid()
                yield from self._sift(feed, death)

    def _round(self, feed: _Feed, width: int) -> Generator[Done[Any, Any], None, None]:
        """Carry out tasks until there are no more, so many under way at a time."""
        parallel = self._parallel(width)
        results: Any = None
        try:
            while True:
                try:
                    results = results or parallel(feed)
                    number, message = next(results)
                except StopIteration:
                    return
                except Exception as error:
                    raise feed.failed(error) from error
                done = Done(feed.under_way.pop(number), opened(message, _WHERE))
                if parallel.concurrent:
                    self._refill(parallel, feed, width)
                yield done
        finally:
            if results is not None:
                results.close()

    def _parallel(self, width: int) -> _Paced:
        try:
            return _Paced(n_jobs=self.n_jobs, pre_dispatch=width, **self._kwargs)
        except ValueError as error:
            if "return_as" not in str(error):
                raise
            raise SpecError(
                f"{_WHERE} needs a backend that hands over results as they come, as 'loky', 'threading', 'dask'"
                f" do ({error}); a multiprocessing.Pool can be given itself: map_fn=pool"
            ) from None

    def _refill(self, parallel: _Paced, feed: _Feed, width: int) -> None:
        while feed.more() and len(feed.under_way) < width:
            parallel.dispatch_one()
        if not feed.under_way:
            parallel.dispatch_one()  # it looks for one more, finds none, and ends

    def _sift(
        self, feed: _Feed, death: _WorkerDied, deaths: int = 1
    ) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Find which tasks end their workers, among those that were under way when one did."""
        suspects = feed.recalled()
        if len(suspects) == 1:
            yield Lost(suspects[0], f"its worker {death}", deaths=deaths)
            return
        half = len(suspects) // 2
        for group in (suspects[:half], suspects[half:]):
            some = _Feed(feed.func, iter(group), feed.elsewhere)
            try:
                yield from self._round(some, len(group))
            except _WorkerDied as again:
                yield from self._sift(some, again, deaths + 1)


class _WorkerDied(Exception):
    """A worker ended; says how."""


class _Feed:
    """Tasks as joblib takes them, numbered, and those that are under way."""

    def __init__(self, func: bytes, tasks: Iterator[Any], elsewhere: int | None = None) -> None:
        self.func = func
        self.elsewhere = elsewhere
        """The process in which nothing may run, since what killed a worker would kill it."""
        self.under_way: dict[int, Any] = {}
        self._tasks = tasks
        self._next: Any = _END
        self._numbers = itertools.count()
        self._error: Exception | None = None

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Any:
        """Return the next task; later there may be more, even where there is none now."""
        try:
            if not self.more():
                raise StopIteration
            task, self._next = self._next, _END
            number = next(self._numbers)
            call = joblib.delayed(_numbered)(number, self.func, packed_task(task), self.elsewhere)
        except Exception as error:
            self._error = None if isinstance(error, StopIteration) else error
            raise
        self.under_way[number] = task
        return call

    def more(self) -> bool:
        """Tell whether there is a task at hand."""
        if self._next is _END:
            self._next = next(self._tasks, _END)
        return self._next is not _END

    def recalled(self) -> list[Any]:
        """Return the tasks that were under way, which no longer are."""
        tasks = list(self.under_way.values())
        self.under_way.clear()
        return tasks

    def failed(self, error: Exception) -> Exception:
        """Return what to raise for an error that came out of joblib."""
        if self._error is not None:
            return self._error  # that of the tasks themselves, which has passed through joblib
        kinds = {each.__name__ for each in type(error).__mro__}
        if kinds & {"TerminatedWorkerError", "KilledWorker"}:
            codes = [int(code) for code in re.findall(r"\((-?\d+)\)", str(error))]
            return _WorkerDied(how_it_ended(next((code for code in codes if code), None)))
        tasks = [named(task) for task in self.under_way.values()]
        listed = ", ".join(tasks[:3]) + (", …" if len(tasks) > 3 else "")
        return MapBrokenError(
            f"{_WHERE} cannot go on ({type(error).__name__}: {error}) while these tasks were under way: {listed}."
            f" What was done is kept: call again to go on"
        )


def _numbered(number: int, func: bytes, task: bytes, elsewhere: int | None) -> tuple[int, bytes]:
    if elsewhere == os.getpid():  # joblib runs here what would have but one worker elsewhere
        raise RuntimeError("a worker died, and joblib has no other; try again when there are workers")
    return number, answer(func, task)


class _Paced(joblib.Parallel):  # type: ignore[misc]
    """Dispatches further tasks only when told to, and hands over results as they come.

    The methods with an underscore are joblib's own business. Should a later joblib no longer call them, results
    come some 10 ms later, an interrupted run gives a warning, and a cluster with one core is not used.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.concurrent = False
        """Whether there are tasks to dispatch; a backend of one worker takes them from the iterator by itself."""
        self._came = threading.Event()

    def _initialize_backend(self) -> int:
        n_jobs = int(super()._initialize_backend())
        # One core of a cluster is still not here; nor is it when the other cores are just being started again.
        return max(2, n_jobs) if type(self._backend).__name__ == "DaskDistributedBackend" else n_jobs

    def dispatch_one_batch(self, iterator: Iterator[Any]) -> bool:
        self.concurrent = True
        one = itertools.islice(iterator, 1)  # joblib would take one for each worker, and hold them back
        return bool(super().dispatch_one_batch(one))

    def dispatch_next(self) -> None:
        """Dispatch nothing: this is called in a thread of the backend, when a result has come."""
        self._came.set()

    def dispatch_one(self) -> None:
        super().dispatch_next()

    def _wait_retrieval(self) -> bool:
        going_on = bool(super()._wait_retrieval())
        if going_on and not self._jobs:  # joblib would sleep for 10 ms now
            if not self._came.wait(0.01):
                self._raise_silent_death()
            self._came.clear()
        return going_on

    def _raise_silent_death(self) -> None:
        """Raise where a task's worker was killed and joblib does not know: the backend for Dask tells nothing."""
        for tracker in list(self._jobs_set):
            if isinstance(tracker.job, Future) and tracker.job.done():
                tracker.job.result()

    def _warn_exit_early(self) -> None:
        """Do not warn: a run that is interrupted is no mistake."""
