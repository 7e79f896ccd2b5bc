"""Where chunks can be computed: one map for each backend, and what ``map_fn=`` may be.

========================================= ==================================================================
``map_fn``                                what runs the chunks
========================================= ==================================================================
a function like ``map``                   itself, called once with the work and all tasks
a ``concurrent.futures.Executor``         the executor; Dask's and MPI's, too
a ``multiprocessing.Pool``, its methods   the pool, watched for workers that die
a Dask ``Client``                         the cluster
``"processes"``                           processes of this machine, each lost one replaced
``"threads"``                             threads of this process
``"joblib"``                              ``joblib.Parallel``, with the backend that joblib is set to
``"dask"``, ``"ray"``, ``"mpi"``          the cluster that the program is connected to
========================================= ==================================================================

Each module here imports its backend when it is used, and none of them when ``chunk_memo`` is imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from chunk_memo.errors import SpecError, did_you_mean
from chunk_memo.maps.base import TaskMap
from chunk_memo.options import Options

__all__ = ["NAMES", "check", "task_map"]

NAMES = {
    "dask": ("chunk_memo.maps.dask", "Dask"),
    "joblib": ("chunk_memo.maps.joblib", "Joblib"),
    "mpi": ("chunk_memo.maps.mpi", "MPI"),
    "processes": ("chunk_memo.maps.processes", "Processes"),
    "ray": ("chunk_memo.maps.ray", "Ray"),
    "threads": ("chunk_memo.maps.threads", "Threads"),
}
"""Name to module and class."""


def check(options: Options) -> None:
    """Refuse at once what :func:`task_map` would refuse when there is something to compute.

    Parameters
    ----------
    options : Options
        How a run goes about its work.

    Raises
    ------
    SpecError
        Where ``map_fn`` is a name that stands for nothing, or no map at all, or where ``timeout`` is given and
        workers cannot be ended.
    """
    if options.map_fn is None:
        if options.timeout is not None:
            raise SpecError(
                f"timeout={options.timeout!r} needs workers that can be ended, and {_ENDING}; without map_fn this"
                f" process computes, which cannot end itself"
            )
        if options.map_fn_kwargs:
            raise SpecError(f"map_fn_kwargs={options.map_fn_kwargs!r} need a map_fn that takes them")
    elif not _is_map(options.map_fn):
        raise SpecError(_no_map(options.map_fn))


def _is_map(thing: Any) -> bool:
    if isinstance(thing, str):
        return thing in NAMES
    made = _is_executor(thing) or callable(getattr(thing, "run", None))
    return callable(thing) or made or _is_pool(thing) or _is_dask_client(thing)


def task_map(map_fn: Any, kwargs: Mapping[str, Any] | None = None, timeout: float | None = None) -> TaskMap:
    """Return what ``map_fn`` stands for.

    Parameters
    ----------
    map_fn : object
        As in the table above, or a :class:`~chunk_memo.maps.base.TaskMap`.
    kwargs : mapping, optional
        Keywords for it.
    timeout : float, optional
        Seconds that one task may take.

    Returns
    -------
    TaskMap
        The map.

    Raises
    ------
    SpecError
        Where `map_fn` is none of these, does not take the keywords, or cannot end a worker that takes too long.
    ImportError
        Where its package is not installed.

    Examples
    --------
    >>> task_map("threads", {"workers": 3}).workers
    3
    """
    kwargs = dict(kwargs or {})
    if isinstance(map_fn, str):
        return _named(map_fn, kwargs, timeout)
    if _is_dask_client(map_fn):
        return _made(_class(*NAMES["dask"]), map_fn, {**kwargs, "timeout": timeout} if timeout else kwargs)
    if timeout is not None:
        raise SpecError(f"timeout={timeout!r} needs workers that can be ended, and {_ENDING}; got {map_fn!r}")
    if _is_executor(map_fn):
        return _made(_class("chunk_memo.maps.executors", "Executors"), map_fn, kwargs)
    if _is_pool(map_fn) or _is_pool(getattr(map_fn, "__self__", None)):
        return _made(_class("chunk_memo.maps.pools", "PoolMap"), map_fn, kwargs)
    if callable(getattr(map_fn, "run", None)) and hasattr(map_fn, "in_process"):
        if kwargs:
            raise SpecError(f"map_fn_kwargs={kwargs!r} cannot be given to {map_fn!r}, which is made already")
        own: TaskMap = map_fn
        return own
    if callable(map_fn):
        return _made(_class("chunk_memo.maps.calls", "Calls"), map_fn, {"kwargs": kwargs})
    raise SpecError(_no_map(map_fn))


def _no_map(thing: Any) -> str:
    near = did_you_mean(thing, NAMES) if isinstance(thing, str) else ""
    return f"{_EXPECTED}, got {thing!r}{near}"


_EXPECTED = f"map_fn must be a function like map, an executor, or one of {sorted(NAMES)}"
_ENDING = "only map_fn='processes', 'dask' and 'ray' can do that"


def _named(name: str, kwargs: dict[str, Any], timeout: float | None) -> TaskMap:
    if name not in NAMES:
        raise SpecError(_no_map(name))
    made = _class(*NAMES[name])
    if timeout is not None:
        if "timeout" not in inspect.signature(made).parameters:
            raise SpecError(f"timeout={timeout!r} needs workers that can be ended, and {_ENDING}; got {name!r}")
        kwargs = {"timeout": timeout, **kwargs}
    return _made(made, None, kwargs)


def _class(module: str, name: str) -> type:
    found: type = getattr(importlib.import_module(module), name)
    return found


def _made(kind: type, first: Any, kwargs: dict[str, Any]) -> TaskMap:
    given = () if first is None else (first,)
    try:
        inspect.signature(kind).bind(*given, **kwargs)
    except TypeError as error:
        taken = list(inspect.signature(kind).parameters)[len(given) :]
        raise SpecError(f"map_fn_kwargs={kwargs!r} do not fit: {error}; expected some of {taken}") from None
    made: TaskMap = kind(*given, **kwargs)
    return made


def _is_executor(thing: Any) -> bool:
    futures = sys.modules.get("concurrent.futures")
    return futures is not None and isinstance(thing, futures.Executor)


def _is_pool(thing: Any) -> bool:
    """Tell whether this is a pool of ``multiprocessing``, or of its twin ``multiprocess``."""
    for module in ("multiprocessing.pool", "multiprocess.pool"):
        pool = getattr(sys.modules.get(module), "Pool", None)
        if pool is not None and isinstance(thing, pool):
            return True
    return False


def _is_dask_client(thing: Any) -> bool:
    client = getattr(sys.modules.get("distributed"), "Client", None)
    return client is not None and isinstance(thing, client)
