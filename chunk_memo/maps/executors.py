"""Any ``concurrent.futures.Executor``: tasks are submitted in a window, results taken as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from typing import Any

from chunk_memo.errors import MapBrokenError
from chunk_memo.maps.base import Done

__all__ = ["Executors"]


class Executors:
    """Runs tasks on an executor, which stays the user's: it is neither started nor shut down here.

    Parameters
    ----------
    executor : Executor
        The executor.
    window : int, optional
        Most tasks submitted at once; three for each worker by default.

    Examples
    --------
    >>> with ThreadPoolExecutor(2) as pool:
    ...     sorted(done.result for done in Executors(pool).run(abs, iter([-1, 2])))
    [1, 2]
    """

    def __init__(self, executor: Executor, window: int | None = None) -> None:
        self._executor = executor
        self.workers = int(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
        self.in_process = isinstance(executor, ThreadPoolExecutor)
        self._window = window or 3 * self.workers

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
            Where the executor broke, or was shut down.
        """
        pending: dict[Future[Any], Any] = {}
        try:
            while True:
                self._submit(func, tasks, pending)
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    result = self._result(future, pending)
                    yield Done(pending.pop(future), result)
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, func: Callable[[Any], Any], tasks: Iterator[Any], pending: dict[Future[Any], Any]) -> None:
        while len(pending) < self._window:
            task = next(tasks, _END)
            if task is _END:
                return
            try:
                pending[self._executor.submit(func, task)] = task
            except RuntimeError as error:  # broken, or shut down
                raise self._broken([task, *pending.values()], error) from error

    def _result(self, future: Future[Any], pending: dict[Future[Any], Any]) -> Any:
        try:
            return future.result()
        except CancelledError as error:
            raise self._broken(pending.values(), error) from error
        except BrokenExecutor as error:
            raise self._broken(pending.values(), error) from error
        except Exception as error:  # of the transport: the work itself raises nothing
            raise self._broken([pending[future]], error) from error

    def _broken(self, waiting: Any, error: BaseException) -> MapBrokenError:
        under_way = [str(task) for task in waiting]
        named = ", ".join(under_way[:3]) + (", …" if len(under_way) > 3 else "")
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return MapBrokenError(
            f"the executor {type(self._executor).__name__!r} cannot go on ({said}) while these were under way:"
            f" {named}. What was done is kept: call again with a new executor to go on; map_fn='processes' goes"
            f" on by itself when a worker dies"
        )


_END = object()
