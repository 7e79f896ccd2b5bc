"""The tasks of a run as a map gets them: numbered, cut into batches, and given out again where they were lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping

from chunk_memo.maps.base import TaskMap
from chunk_memo.maps.calls import Calls
from chunk_memo.tasks import Task
from chunk_memo.work import Batch, Job, Receipt

__all__ = ["Queue"]

_BATCH_SECONDS = 0.2
"""Chunks that take less are handed out several at a time."""

_MOST_IN_BATCH = 256

_MOST_OUT = 2048
"""While more chunks than this are out, batches are an eighth: each takes a kilobyte of the caller's memory."""

_BATCHES_AT_ONCE = 1024
"""A map function that may take all tasks at once is given about so many batches."""


class Queue:
    """The tasks of a run, cut into batches as they are asked for.

    An iterator that may give more after it ended: what was lost comes again. Batches hold one task until it is
    known how long one takes, and so many that a batch takes about a fifth of a second from then on.

    Parameters
    ----------
    tasks : iterator of Task
        The tasks.
    where : TaskMap
        The map that they are for.
    count : int
        About how many there are.
    timed : bool
        Whether a task's time is limited, so that each goes out alone.
    """

    def __init__(self, tasks: Iterator[Task], where: TaskMap, count: int, *, timed: bool) -> None:
        self._tasks = enumerate(tasks)
        self._again: deque[int] = deque()
        self._out: dict[int, Task] = {}
        self._deaths: dict[int, int] = {}
        self._most = 1 if timed else _MOST_IN_BATCH
        self.lazy = not isinstance(where, Calls)
        """Whether the map takes no more than it can work on."""
        self._size = 1 if self.lazy or timed else max(1, count // _BATCHES_AT_ONCE)
        self._mean = math.nan
        self._stopped = False
        self._points = 0
        self.most_points = 0
        """Most points that were handed out at once."""

    def __iter__(self) -> Iterator[Batch]:
        """Return itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch, if there is one at this moment."""
        if self._stopped:
            raise StopIteration
        if self._again:
            number = self._again.popleft()
            return Batch((Job(number, _travelling(self._out[number]), True),))
        jobs = []
        size = self._size if not self.lazy or len(self._out) < _MOST_OUT else max(1, self._size // 8)
        for number, task in self._tasks:
            self._out[number] = task
            self._points += task.count
            jobs.append(Job(number, _travelling(task)))
            if len(jobs) >= size:
                break
        if not jobs:
            raise StopIteration
        self.most_points = max(self.most_points, self._points)
        return Batch(tuple(jobs))

    def done(self, number: int, receipt: Receipt) -> Task:
        """Take a task off the list, and learn how long one takes.

        Parameters
        ----------
        number : int
            The task's number.
        receipt : Receipt
            How it went.

        Returns
        -------
        Task
            The task.
        """
        self._deaths.pop(number, None)
        took = receipt.seconds + receipt.write_seconds
        self._mean = took if math.isnan(self._mean) else 0.9 * self._mean + 0.1 * took
        wanted = int(_BATCH_SECONDS / max(self._mean, 1e-6))
        if self.lazy:
            self._size = max(1, min(wanted, 2 * self._size, self._most))
        return self.drop(number)

    def count_deaths(self, number: int, deaths: int) -> int:
        """Return how many workers a task has ended by now.

        Parameters
        ----------
        number : int
            The task's number.
        deaths : int
            How many it has ended since the last time.

        Returns
        -------
        int
            How many in all.
        """
        self._deaths[number] = self._deaths.get(number, 0) + deaths
        return self._deaths[number]

    def again(self, tasks: Mapping[int, Task]) -> None:
        """Give tasks out again, each by itself.

        Parameters
        ----------
        tasks : mapping of int to Task
            The tasks by number, taken off the list before.
        """
        self._out.update(tasks)
        self._points += sum(task.count for task in tasks.values())
        self._again.extend(tasks)

    def drop(self, number: int) -> Task:
        """Take a task off the list, done or not.

        Parameters
        ----------
        number : int
            The task's number.

        Returns
        -------
        Task
            The task.
        """
        task = self._out.pop(number)
        self._points -= task.count
        return task

    def stop(self) -> None:
        """Give out nothing more."""
        self._stopped = True


def _travelling(task: Task) -> Task:
    """Return a task without what only the caller needs."""
    return Task(task.ref, task.order, task.values, task.points, ())
