"""Processes of this machine, made for one run; one that dies costs its task, and another takes its place.

Each worker has a pipe of its own, so that a death is that of one known task: the queues that other pools share
between workers lose tasks silently, or stay locked by the dead. The driver listens to the pipes and to the ends
of the processes, and writes only to a worker that waits for it, so that neither side can wait for the other
however large the messages are. A worker that is done gets its next task before the consumer gets the result.
That leaves it without work for some 60 µs per task, nearly all of it the driver's own time: one more task kept
ahead in each pipe was measured and gained nothing, and it could wait behind a long one while others are idle.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from multiprocessing import connection, forkserver, spawn
from multiprocessing.connection import Connection
from typing import Any

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost, available_cores, checked_count
from chunk_memo.maps.parcels import answer, complaint, load, opened, packed_function, packed_task

__all__ = ["Processes", "how_it_ended"]

_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()
_START_METHOD = "forkserver" if _FORKSERVER else "spawn"

_STILLBORN = 3
"""So many workers in a row may end before they take a task."""

_GRACE = 1.0
"""Seconds that a worker has to end by itself, before it is ended; and then again, before it is killed."""

_WHERE = "map_fn='processes'"


class Processes:
    """Runs tasks in processes of this machine: ``foo(…, map_fn="processes")``.

    A task whose process dies, or takes too long, is lost alone; the others go on. Functions may start processes
    of their own. The program's main module is not imported in the workers, so it needs no
    ``if __name__ == "__main__"``.

    Parameters
    ----------
    workers : int, optional
        How many; as many as there are cores that this process may use by default.
    timeout : float, optional
        Seconds that one task may take before its worker is ended; None for no limit.
    start_method : {"forkserver", "spawn", "fork"}
        How processes start, as in :mod:`multiprocessing`; ``"forkserver"`` by default, ``"spawn"`` where the
        system has none. ``"fork"`` is quickest, and unsafe in programs with threads.

    Raises
    ------
    SpecError
        Where a value cannot be.

    Examples
    --------
    ::

        foo(map_fn="processes", map_fn_kwargs={"workers": 4})
        foo(map_fn="processes", timeout=600)
        foo(map_fn=Processes(workers=4, start_method="spawn"))
    """

    in_process = False

    def __init__(
        self, workers: int | None = None, timeout: float | None = None, start_method: str = _START_METHOD
    ) -> None:
        if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
            raise SpecError(f"timeout must be a number of seconds above 0, or None, got {timeout!r}")
        if start_method not in multiprocessing.get_all_start_methods():
            methods = multiprocessing.get_all_start_methods()
            raise SpecError(f"start_method must be one of {methods} on this system, got {start_method!r}")
        self.workers = available_cores() if workers is None else checked_count("workers", workers)
        self.timeout = timeout
        self.start_method = start_method

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
            Each task once, as it is done, or lost with its worker.

        Raises
        ------
        MapBrokenError
            Where the function does not arrive in the workers, or no worker starts.
        """
        if multiprocessing.current_process().daemon:
            raise MapBrokenError(
                f"{_WHERE} cannot start workers here, since this is a daemonic process, as those of a"
                f" multiprocessing.Pool are; run it in the main process, or use map_fn='threads'"
            )
        crew = _Crew(self, packed_function(func), tasks)
        finished = False
        try:
            yield from crew.outcomes()
            finished = True
        finally:
            crew.dismiss(patiently=finished)


def how_it_ended(exitcode: int | None) -> str:
    """Return in words how a process ended.

    Parameters
    ----------
    exitcode : int or None
        Its exit code; negative for a signal, None where it is not known.

    Returns
    -------
    str
        A verb and what goes with it.

    Examples
    --------
    >>> how_it_ended(-9), how_it_ended(3)
    ('was killed by SIGKILL', 'ended with exit code 3')
    """
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


# --- the driver's side --------------------------------------------------------------------------------------

_END = object()

_UNREAD_BYTES = 1 << 12
"""A message of up to this size goes into the pipe's buffer, even where its reader is dead already."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: Any
    pipe: Connection
    task: Any = _END
    """What it works on, if anything."""
    loaded: bool = False
    """Whether it has the function."""
    used: bool = False
    """Whether it ever took a task."""
    begun: float = 0.0
    """When it was given its task."""


class _Crew:
    """The workers of one run, and what they are at."""

    def __init__(self, settings: Processes, func: bytes, tasks: Iterator[Any]) -> None:
        self._settings = settings
        self._func = func
        self._tasks = tasks
        self._workers: list[_Worker] = []
        self._by_ear: dict[Any, _Worker] = {}
        """Pipe and end of process to worker."""
        self._idle: list[_Worker] = []
        """Workers that could take a task."""
        self._waiting: deque[Any] = deque()
        """Tasks taken from the iterator for which there is no worker yet, or no more."""
        self._outcomes: deque[Done[Any, Any] | Lost[Any]] = deque()
        self._stillborn = 0

    def outcomes(self) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Yield what becomes of the tasks; workers get new ones before the consumer gets results."""
        while True:
            self._hand_out()
            if self._outcomes:
                yield self._outcomes.popleft()
            elif self._waiting or any(worker.task is not _END for worker in self._workers):
                self._listen()
            else:
                return

    def _hand_out(self) -> None:
        while self._idle:
            task = self._waiting.popleft() if self._waiting else next(self._tasks, _END)
            if task is _END:
                return
            self._send(self._idle.pop(), task)
        while len(self._workers) < self._settings.workers:
            starting = sum(not worker.loaded for worker in self._workers)
            if len(self._waiting) <= starting:
                task = next(self._tasks, _END)
                if task is _END:
                    return
                self._waiting.append(task)
            self._start()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(self._settings.start_method)
        ours, theirs = context.Pipe()
        environment = dict(os.environ) if self._settings.start_method == "forkserver" else None
        # daemon: should the interpreter end while a run is half consumed, it ends the workers and waits for none.
        process = context.Process(
            target=_serve, args=(theirs, os.getpid(), environment), daemon=True, name="chunk_memo worker"
        )
        try:
            with _prepared(context):
                process.start()
        except BaseException:
            ours.close()  # which ends a worker that was just being started when Ctrl-C came
            raise
        finally:
            theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        self._by_ear |= {ours: worker, process.sentinel: worker}

    def _send(self, worker: _Worker, task: Any) -> None:
        message = packed_task(task)
        worker.task, worker.begun = task, time.monotonic()
        try:
            worker.pipe.send_bytes(message)
            worker.used = True
        except OSError:  # it is dead; a short message it had not even begun to read
            if len(message) <= _UNREAD_BYTES:
                worker.task = _END
                self._waiting.appendleft(task)
            self._bury(worker)

    def _listen(self) -> None:
        """Wait for something to happen, and see to it."""
        for ear in connection.wait(list(self._by_ear), self._patience()):
            worker = self._by_ear.get(ear)
            if worker is None:
                continue  # buried meanwhile
            if ear is not worker.pipe or not self._receive(worker):
                self._bury(worker)
        self._end_overdue()

    def _receive(self, worker: _Worker) -> bool:
        """Take one message; tell whether there was one, or its pipe is closed."""
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            return False
        if message == _READY:
            with contextlib.suppress(OSError):  # its end is heard next
                worker.pipe.send_bytes(self._func)
        elif message == _LOADED:
            worker.loaded = True
            self._idle.append(worker)
        else:
            self._done(worker, opened(message, _WHERE))
        return True

    def _done(self, worker: _Worker, result: Any) -> None:
        self._outcomes.append(Done(worker.task, result))
        worker.task = _END
        self._stillborn = 0
        self._idle.append(worker)

    def _bury(self, worker: _Worker, reason: str = "", timed_out: bool = False) -> None:
        """Take a worker out that ended, or should; what it had sent still counts."""
        worker.process.join(_GRACE)  # its pipe may close a moment before it ends
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        with contextlib.suppress(OSError):
            while worker.pipe.poll() and self._receive(worker):
                pass
        self._forget(worker)
        if worker.task is not _END:
            reason = reason or f"its worker {how_it_ended(worker.process.exitcode)}"
            self._outcomes.append(Lost(worker.task, reason, timed_out))
        self._stillborn = 0 if worker.used else self._stillborn + 1
        self._check_stillborn(worker)
        worker.process.close()

    def _forget(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        del self._by_ear[worker.pipe], self._by_ear[worker.process.sentinel]
        if worker in self._idle:
            self._idle.remove(worker)
        worker.pipe.close()

    def _check_stillborn(self, worker: _Worker) -> None:
        if self._stillborn >= _STILLBORN:
            raise MapBrokenError(
                f"{_WHERE} cannot go on: {_STILLBORN} workers in a row ended before they took a task;"
                f" the last {how_it_ended(worker.process.exitcode)}. What they wrote to standard error may say"
                f" why; often it is memory, or a library that does not bear start_method="
                f"{self._settings.start_method!r}"
            )

    def _patience(self) -> float | None:
        """Return the seconds until the next task is overdue."""
        if self._settings.timeout is None:
            return None
        begun = [worker.begun for worker in self._workers if worker.task is not _END]
        return max(0.0, min(begun) + self._settings.timeout - time.monotonic()) if begun else None

    def _end_overdue(self) -> None:
        limit = self._settings.timeout
        if limit is None:
            return
        now = time.monotonic()
        for worker in [each for each in self._workers if each.task is not _END and now - each.begun >= limit]:
            if not worker.pipe.poll():  # else it has just been done
                worker.process.kill()
                self._bury(worker, f"it took longer than {limit:g} s", timed_out=True)

    def dismiss(self, patiently: bool) -> None:
        """End all workers: those that are done by telling them, others by force."""
        for worker in self._workers:
            if patiently:
                with contextlib.suppress(OSError):
                    worker.pipe.send_bytes(_GOODBYE)
            else:
                worker.process.terminate()
            worker.pipe.close()
        if patiently and not self._gone():
            for worker in self._workers:
                worker.process.terminate()
        if not self._gone():
            for worker in self._workers:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers.clear()

    def _gone(self) -> bool:
        """Wait a moment for all workers to end, and tell whether they did."""
        until = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
        return not any(worker.process.is_alive() for worker in self._workers)


# --- how workers start --------------------------------------------------------------------------------------

_starting = threading.RLock()

_PRELOADED = "chunk_memo.work"
"""Imports NumPy and all that a worker needs to store results, so that it is there in each process forked."""


@contextlib.contextmanager
def _prepared(context: Any) -> Iterator[None]:
    """Start processes that leave the program's main module alone, from a server that has our modules loaded.

    What :mod:`multiprocessing` tells a new process includes the path of the main module, which the process then
    imports: a script without ``if __name__ == "__main__"`` would run again in each worker, and one that was read
    from standard input could not start any. Functions come by value here, so nothing in the workers needs it.
    There is no option to leave it out; hence the function that collects what is told is replaced for as long as a
    process starts, and for this thread only. (Hiding the attributes of ``__main__`` instead would be seen by
    all threads.)
    """
    with _starting:
        thread, original = threading.get_ident(), spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            told = original(name)
            if threading.get_ident() == thread:
                told.pop("init_main_from_name", None)
                told.pop("init_main_from_path", None)
            return told

        spawn.get_preparation_data = without_main
        try:
            with _preloading(context):
                yield
        finally:
            spawn.get_preparation_data = original


@contextlib.contextmanager
def _preloading(context: Any) -> Iterator[None]:
    """Let the fork server, if it has yet to start, load our modules; what the user has set for it stays."""
    server = getattr(forkserver, "_forkserver", None) if context.get_start_method() == "forkserver" else None
    preload = getattr(server, "_preload_modules", None)
    if getattr(server, "_forkserver_pid", 0) is not None or preload != ["__main__"] or not _server_finds_us():
        yield
        return
    context.set_forkserver_preload([_PRELOADED])
    try:
        yield
    finally:
        context.set_forkserver_preload(preload)


def _server_finds_us() -> bool:
    """Tell whether the fork server would import this package, and not another of its name.

    Servers of Python before 3.12.8 and 3.13.1 preload with the path of a bare interpreter, whatever ``sys.path``
    is here (https://github.com/python/cpython/issues/117378).
    """
    if sys.version_info >= (3, 13, 1) or (3, 12, 8) <= sys.version_info < (3, 13):
        return True
    import site

    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    bare = [os.getcwd(), *filter(None, given), *site.getsitepackages()]
    package = __name__.partition(".")[0]
    spec = PathFinder.find_spec(package, bare)
    return spec is not None and spec.origin == sys.modules[package].__file__


# --- the workers' side --------------------------------------------------------------------------------------

# These go in the place of pickles, which begin with another byte.
_READY, _LOADED = b"ready", b"loaded"
_GOODBYE = b"end"  # rather than a closed pipe, for another process that the driver forked may keep that open


def _serve(pipe: Connection, driver: int, environment: Mapping[str, str] | None) -> None:
    """Carry out tasks until the pipe is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of a terminal's processes; the driver decides
    multiprocessing.current_process().daemon = False  # so that functions may start processes of their own
    if environment is not None:
        _adopt(environment)
    threading.Thread(target=_end_with, args=(driver,), daemon=True, name="chunk_memo watch").start()
    try:
        pipe.send_bytes(_READY)
        func = pipe.recv_bytes()
        if func == _GOODBYE:
            return
        try:
            load(func)
        except BaseException as error:
            pipe.send_bytes(complaint("the function cannot be loaded", error))
            return
        pipe.send_bytes(_LOADED)
        while (task := pipe.recv_bytes()) != _GOODBYE:
            pipe.send_bytes(answer(func, task))
    except (EOFError, OSError):
        pass  # the driver needs this worker no more, or is gone itself


def _adopt(environment: Mapping[str, str]) -> None:
    """Take over the driver's environment: a fork server's is that of the moment in which it started."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _end_with(driver: int) -> None:
    """End this process at once when the driver is gone, whatever it computes.

    Processes that the driver forked besides may hold the other end of the pipe that tells; hence the second look.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not connection.wait([parent.sentinel], 2.0):
        if os.name == "posix" and not _is_there(driver):
            break
    os._exit(1)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
