"""A Ray cluster: the function lies in the object store once, tasks are windowed, lost workers are told by Ray.

Ray runs one task at a time in a worker process, so whatever a worker's end costs is one task, and the right one.
Workers get the function out of the store at their first task and keep it: unpickled anew for each task, a closure
of Python objects would cost more than the task. A task with a time limit is a generator that first says that it
begins, because the time in Ray's queue, and for a process to start, is not the task's.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost, required

__all__ = ["Ray"]


class Ray:
    """Runs tasks on a Ray cluster, which stays the user's: ``map_fn="ray"``.

    ::

        import ray

        ray.init()  # or ray.init("auto"), on a cluster
        output, diagnostics = foo(map_fn="ray", map_fn_kwargs={"num_cpus": 1})

    A task whose worker dies, for want of memory, say, is not run again by Ray but reported. After Ctrl-C the
    tasks that run are ended with their workers.

    Parameters
    ----------
    window : int, optional
        Most tasks submitted at once; three for each that may run by default.
    timeout : float, optional
        Seconds that one task may take, from when it is begun; then its worker is killed.
    **remote_options
        What ``ray.remote`` takes: ``num_cpus=2``, ``num_gpus=1``, ``scheduling_strategy="SPREAD"``.
    """

    in_process = False

    def __init__(self, window: int | None = None, timeout: float | None = None, **remote_options: Any) -> None:
        self._ray = required("ray", "ray", "ray")
        if not self._ray.is_initialized():
            raise SpecError(
                f"map_fn='ray' needs Ray to be initialized, and it is not; do that first:{_THREE_LINES}"
            )
        if window is not None and window < 1:
            raise SpecError(f"'window' must be at least 1, got {window!r}")
        if timeout is not None and timeout <= 0:
            raise SpecError(f"'timeout' must be a positive number of seconds, got {timeout!r}")
        self._window = window
        self._timeout = timeout
        self._options = {"max_retries": 0, **remote_options}
        try:
            self._call = self._ray.remote(**self._options)(_called if timeout is None else _called_aloud)
        except (TypeError, ValueError) as error:
            raise SpecError(f"ray.remote does not take the options {remote_options!r}: {error}") from error

    @property
    def workers(self) -> int:
        """How many tasks may run at once, by the processors of the cluster at the moment; at least 1."""
        each = self._options.get("num_cpus", 1) or 1
        return max(1, int(self._ray.cluster_resources().get("CPU", 1) / each))

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
            Each task once, as it is done.

        Raises
        ------
        MapBrokenError
            Where Ray cannot be reached, or the workers cannot load the function.
        """
        run = _Run(self._ray, self._call, self._timeout)
        looked = -_LOOK
        try:
            run.begin(func)
            while True:
                if time.monotonic() - looked >= _LOOK:
                    window, looked = self._window or 3 * self.workers, time.monotonic()
                run.send_more(tasks, window)
                if not run.sent:
                    return
                yield from run.arrived()
                yield from run.end_overdue()
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise _broken(f"cannot go on ({_said(error)})") from error
        finally:
            run.end()


_THREE_LINES = """
    import ray
    ray.init()  # or ray.init("auto"), on a cluster
    foo(…, map_fn="ray")"""

_LOOK = 5.0
"""Seconds between two looks at the size of the cluster."""
_FAREWELL = 10.0
"""Seconds that tasks have to end when a run does."""
_PAUSE = 1.0
"""Seconds after which the driver looks up even if nothing has come."""


@dataclass(slots=True)
class _Sent:
    """A task on its way."""

    task: Any
    began: float | None = None


class _Run:
    """One run."""

    def __init__(self, ray: Any, call: Any, timeout: float | None) -> None:
        self._ray = ray
        self._call = call
        self._timeout = timeout
        self._name = uuid.uuid4().hex
        self._function: Any = None
        self.sent: dict[Any, _Sent] = {}

    def begin(self, func: Callable[[Any], Any]) -> None:
        """Put the function into the store, as bytes: arrays that the store shows to a worker are read-only."""
        self._function = self._ray.put(pickle.dumps(func, pickle.HIGHEST_PROTOCOL))

    def send_more(self, tasks: Iterator[Any], window: int) -> None:
        """Submit as many tasks as there is room for."""
        for task in islice(tasks, max(0, window - len(self.sent))):
            pickled = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
            self.sent[self._call.remote(self._name, [self._function], pickled)] = _Sent(task)

    def arrived(self) -> Iterator[Done[Any, Any] | Lost[Any]]:
        """Yield what has come, after waiting for it a moment."""
        pause = _PAUSE if self._timeout is None else min(_PAUSE, self._timeout / 10)
        under_way = list(self.sent)
        ready, _ = self._ray.wait(under_way, num_returns=1, timeout=pause)
        if ready:
            ready, _ = self._ray.wait(under_way, num_returns=len(under_way), timeout=0)
        for ref in ready:
            yield from self._settle(ref)

    def end_overdue(self) -> Iterator[Lost[Any]]:
        """Kill the workers whose task takes too long."""
        if self._timeout is None:
            return
        limit = time.monotonic() - self._timeout
        for ref in [ref for ref, sent in self.sent.items() if sent.began is not None and sent.began < limit]:
            sent = self.sent.pop(ref)
            self._ray.cancel(ref, force=True)
            yield Lost(sent.task, f"it took longer than {self._timeout:g} s, and was killed", timed_out=True)

    def end(self) -> None:
        """Kill what is under way; a reference that is dropped at once may take its cancelling with it."""
        under_way = list(self.sent) if self._ray.is_initialized() else []
        limit = time.monotonic() + _FAREWELL
        while under_way and time.monotonic() < limit:
            for ref in under_way:
                self._ray.cancel(ref, force=True)  # again: one that is on its way to a worker may miss it
            _, under_way = self._ray.wait(under_way, num_returns=len(under_way), timeout=_PAUSE)
        self.sent.clear()
        self._function = None

    def _settle(self, ref: Any) -> Iterator[Done[Any, Any] | Lost[Any]]:
        sent = self.sent[ref]
        try:
            got = self._ray.get(ref if self._timeout is None else next(ref))
        except _losses(self._ray) as error:
            del self.sent[ref]
            yield Lost(sent.task, _said(error))
        except self._ray.exceptions.RayError as error:
            raise _broken(
                f"cannot carry {str(sent.task)!r} to a worker and back ({_said(error)}); its workers need the"
                f" packages and modules that are imported here:"
                f" ray.init(runtime_env={{'pip': […], 'py_modules': […]}}) sends them"
            ) from error
        else:
            if got is None:
                sent.began = time.monotonic()
                return
            del self.sent[ref]
            yield Done(sent.task, pickle.loads(got))


_functions: dict[str, Callable[[Any], Any]] = {}
"""The function of the run that this worker serves, by the run's name."""


def _function(name: str, refs: list[Any]) -> Callable[[Any], Any]:
    """Return the function of a run, on a worker; the reference comes in a list, so that Ray does not fetch it."""
    if name not in _functions:
        import ray

        _functions.clear()
        _functions[name] = pickle.loads(ray.get(refs[0]))
    return _functions[name]


def _called(name: str, refs: list[Any], pickled: bytes) -> bytes:
    """Call the function, on a worker."""
    return pickle.dumps(_function(name, refs)(pickle.loads(pickled)), pickle.HIGHEST_PROTOCOL)


def _called_aloud(name: str, refs: list[Any], pickled: bytes) -> Iterator[bytes | None]:
    """Say that a task begins, then call the function."""
    function = _function(name, refs)
    yield None
    yield pickle.dumps(function(pickle.loads(pickled)), pickle.HIGHEST_PROTOCOL)


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """Return the errors that say that a task ended with its worker."""
    known = ray.exceptions
    return (
        known.WorkerCrashedError,
        known.OutOfMemoryError,
        known.NodeDiedError,
        known.LocalRayletDiedError,
        known.ObjectLostError,
    )


def _broken(what: str) -> MapBrokenError:
    return MapBrokenError(f"the Ray cluster {what}. What was done is kept: call again after ray.init() to go on")


def _said(error: BaseException) -> str:
    """Return what an error says in its first line that says something."""
    error = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
