"""What a map is to the engine: tasks in, results out as they come, and word of the workers that died.

A map is an object with a method ``run(func, tasks)``. Other than the ``map`` of a user it gives each result with
its task, in the order in which they come, so that one slow chunk holds up neither the others nor their receipts;
and it says which tasks were lost with their worker, because only it can know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from chunk_memo.errors import SpecError

__all__ = ["Done", "Lost", "TaskMap", "available_cores", "checked_count", "required"]

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[Task, Result]):
    """A task that was carried out."""

    task: Task
    """The task."""
    result: Result
    """What the function returned."""


@dataclass(frozen=True, slots=True)
class Lost(Generic[Task]):
    """A task whose worker ended before it was done."""

    task: Task
    """The task."""
    reason: str
    """How the worker ended, in words: ``"its worker was killed by SIGKILL"``."""
    timed_out: bool = False
    """Whether the worker was ended because the task took too long."""
    deaths: int = 1
    """How many workers the task cost before it was given up."""


class TaskMap(Protocol):
    """Something that carries out tasks, here or elsewhere."""

    in_process: bool
    """Whether tasks run in this process, so that nothing needs to be pickled."""

    @property
    def workers(self) -> int:
        """How many tasks may run at once; where workers come and go, how many may at the moment."""

    def run(
        self, func: Callable[[Any], Any], tasks: Iterator[Any]
    ) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Carry out tasks.

        Tasks are taken as workers become free, a few ahead, never all at once. An iterator that has ended may
        give more tasks after a result was handed over (a lost task comes again), so it is asked again
        each time; the run is over when it gives none and nothing is under way. Closing the generator, or an
        exception raised in it (Ctrl-C), ends what this map made within two seconds, and leaves what is the
        user's own in working order.

        Parameters
        ----------
        func : callable
            Called with one task; can be pickled unless ``in_process``, and raises nothing on its own account.
        tasks : iterator
            The tasks, which can be pickled, too.

        Yields
        ------
        Done or Lost
            Each task once, in any order.

        Raises
        ------
        MapBrokenError
            Where the map as a whole cannot go on.
        """


def available_cores() -> int:
    """Return how many cores this process may use.

    Returns
    -------
    int
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_count(name: str, value: Any) -> int:
    """Return a number of workers or tasks, checked.

    Parameters
    ----------
    name : str
        What it is called.
    value : object
        What was given.

    Returns
    -------
    int
        The number.

    Raises
    ------
    SpecError
        Where it is no whole number from 1 up.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{name} must be a whole number from 1 up, got {value!r}")
    return value


def required(module: str, map_fn: str, extra: str) -> ModuleType:
    """Return a module that a map needs, imported.

    Parameters
    ----------
    module : str
        Its name.
    map_fn : str
        The map that needs it, as it is asked for.
    extra : str
        The extra of this package that installs it.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        Where it is not installed.

    Examples
    --------
    >>> required("math", "dask", "dask").sqrt(4)
    2.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and lacks something of its own
        package = module.partition(".")[0]
        raise ImportError(
            f"map_fn={map_fn!r} needs the package {package!r}, which is not installed; run"
            f" `pip install 'chunk-memo[{extra}]'`"
        ) from None
