"""MPI: ``mpi4py.futures`` is an executor, so all that is done here is to find or to make one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from chunk_memo.errors import SpecError
from chunk_memo.maps.base import Done, required
from chunk_memo.maps.executors import Executors

__all__ = ["MPI"]


class MPI:
    """Runs tasks on the other processes of an MPI job: ``foo(…, map_fn="mpi")``.

    The script is started on all of them, and runs on the first; the others take tasks::

        mpiexec -n 8 python -m mpi4py.futures script.py

    MPI ends the whole job when one process of it dies, and on Ctrl-C. What was done is kept then, and the next
    job goes on from there. The script is not run again by the others, so that it needs no guard.

    Parameters
    ----------
    executor : mpi4py.futures.MPIPoolExecutor, optional
        An executor that stays the user's, from ``MPICommExecutor``, say. By default one is made for each run.
    window : int, optional
        Most tasks submitted at once; three for each worker by default.
    **kwargs
        What ``MPIPoolExecutor`` takes, where one is made; ``main=True`` has the others import the script.
    """

    in_process = False

    def __init__(self, executor: Any = None, window: int | None = None, **kwargs: Any) -> None:
        if executor is not None and kwargs:
            raise SpecError(f"{kwargs!r} cannot be given to an executor that is made already, {executor!r}")
        self._executor = executor
        self._window = window
        self._kwargs = kwargs
        if executor is None:
            _see_that_there_are_workers(kwargs)

    @property
    def workers(self) -> int:
        """How many tasks may run at once: all processes but the first."""
        if self._executor is not None:
            return max(1, int(self._executor.num_workers))
        return int(self._kwargs.get("max_workers") or max(1, _processes() - 1))

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
            Where the executor was shut down.
        """
        if self._executor is not None:
            yield from Executors(self._executor, self._window).run(func, tasks)
            return
        executor = required("mpi4py.futures", "mpi", "mpi").MPIPoolExecutor(**{"main": False} | self._kwargs)
        try:
            yield from Executors(executor, self._window).run(func, tasks)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _processes() -> int:
    size: int = required("mpi4py.MPI", "mpi", "mpi").COMM_WORLD.Get_size()
    return size


def _see_that_there_are_workers(kwargs: dict[str, Any]) -> None:
    """Refuse a job of one process: MPI would try to start others by itself, which few clusters allow."""
    if _processes() == 1 and not kwargs:
        raise SpecError(
            "map_fn='mpi' needs a job of two or more processes, and this one is alone; start the script by\n"
            "    mpiexec -n 4 python -m mpi4py.futures script.py\n"
            "or let MPI start workers by itself, where it may: map_fn_kwargs={'max_workers': 3}"
        )
