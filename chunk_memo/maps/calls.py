"""A user's own map function, called as ``map`` is: ``map_fn(function, tasks, **kwargs)``, results in order."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from chunk_memo.errors import MapBrokenError
from chunk_memo.maps.base import Done

__all__ = ["Calls"]


class Calls:
    """Runs tasks by a function like ``map``.

    Parameters
    ----------
    function : callable
        ``(function, iterable, **kwargs) -> results in order``; it may take all tasks at once, or one by one.
    kwargs : mapping, optional
        Keywords that it takes, such as ``chunksize``.

    Examples
    --------
    >>> [done.result for done in Calls(map).run(abs, iter([-1, 2]))]
    [1, 2]
    """

    workers = 1

    def __init__(self, function: Callable[..., Any], kwargs: Mapping[str, Any] | None = None) -> None:
        self._function = function
        self._kwargs = dict(kwargs or {})
        self.in_process = function is map or _is_of_threads(function)

    @property
    def name(self) -> str:
        """What messages call the function."""
        return str(getattr(self._function, "__qualname__", None) or repr(self._function))

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
            Each task once, in order.

        Raises
        ------
        MapBrokenError
            Where the function raises, or returns fewer results than it was given tasks.
        """
        given: deque[Any] = deque()
        results: Any = None
        try:
            try:
                results = self._function(func, _noted(tasks, given), **self._kwargs)
                following = iter(results)
            except Exception as error:
                raise self._broken(given, f"raised {type(error).__name__}: {error}") from error
            while True:
                try:
                    result = next(following, _END)
                except Exception as error:
                    raise self._broken(given, f"raised {type(error).__name__}: {error}") from error
                if result is _END:
                    break
                if not given:
                    raise self._broken(given, "returned more results than it was given tasks")
                yield Done(given.popleft(), result)
            if given or next(tasks, _END) is not _END:
                raise self._broken(given, "returned fewer results than it was given tasks")
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()

    def _broken(self, given: deque[Any], what: str) -> MapBrokenError:
        waiting = ", ".join(str(task) for task in itertools.islice(given, 3))
        first = f"; without a result: {waiting}{', …' if len(given) > 3 else ''}" if given else ""
        return MapBrokenError(
            f"the map function {self.name!r} {what}{first}. What was done is kept: call again to go on;"
            f" map_fn='processes' goes on by itself when a worker dies"
        )


_END = object()


def _is_of_threads(function: Any) -> bool:
    """Tell whether this is a method of a pool of threads; no such pool is there before its module is."""
    futures = sys.modules.get("concurrent.futures.thread")
    return futures is not None and isinstance(getattr(function, "__self__", None), futures.ThreadPoolExecutor)


def _noted(tasks: Iterator[Any], given: deque[Any]) -> Iterator[Any]:
    """Yield tasks and remember those that were taken."""
    for task in tasks:
        given.append(task)
        yield task
