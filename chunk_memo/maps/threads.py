"""Threads of this process, for functions that wait (files, networks) or that release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chunk_memo.maps.base import Done, available_cores, checked_count
from chunk_memo.maps.executors import Executors

__all__ = ["Threads"]


class Threads:
    """Runs tasks in threads: ``foo(…, map_fn="threads")``.

    A thread cannot be ended: after Ctrl-C no further task is begun, but Python leaves only when those that run
    are done.

    Parameters
    ----------
    workers : int, optional
        How many; as many as there are cores by default.

    Examples
    --------
    >>> sorted(done.result for done in Threads(2).run(abs, iter([-1, 2])))
    [1, 2]
    """

    in_process = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = available_cores() if workers is None else checked_count("workers", workers)

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
        """
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="chunk_memo")
        try:
            yield from Executors(pool).run(func, tasks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
