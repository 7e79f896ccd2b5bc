"""A Dask cluster: tasks are sent in waves, each worker gets the function once, poison is told from bystanders.

The function is the result of a task of its own, on which all others depend. So Dask takes it to each worker once
(again at most when it has dropped a copy that nobody needed just then), makes it again when the worker that
held it dies, and needs no worker to be there when the run begins. As an argument, 5 MB of closure made tasks nine
times as slow; in this way they cost next to nothing. Results are fetched by the client's event loop as they come,
so that no worker waits for the driver to gather.

When a worker dies, Dask counts that against every task that it held, and gives up those that were there too
often: the one that killed it, and perhaps one that stood next to it each time. So a task that was given up is
lost only if no other was given up while it was under way; else each is tried once more, with nothing beside it.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from chunk_memo.errors import ChunkMemoWarning, MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost, required

__all__ = ["Dask"]


class Dask:
    """Runs tasks on a Dask cluster, which stays the user's: ``map_fn="dask"``, or the client itself.

    ::

        from distributed import Client

        client = Client()  # or Client(SLURMCluster(…)), Client("tcp://scheduler:8786")
        output, diagnostics = foo(map_fn=client)

    Workers may come and go. Those that die are Dask's to replace, and what they held is run again; a task that
    costs Dask's ``allowed-failures`` and one more workers is given up. After Ctrl-C nothing further is begun, but
    what runs at that moment runs to its end, since Dask interrupts no thread.

    Parameters
    ----------
    client : distributed.Client, optional
        The client; the one made last, or that of the surrounding task, by default.
    window : int, optional
        Most tasks sent at once. By default three for each thread of the cluster, and up to 64 where tasks are
        short, which is what a cluster that scales by its load looks at.
    timeout : float, optional
        Seconds that one task may take, from when it is begun. Then its worker is restarted by its nanny, and what
        else that worker held is run again.
    """

    in_process = False

    def __init__(self, client: Any = None, window: int | None = None, timeout: float | None = None) -> None:
        self._client = _checked(client) if client is not None else _current()
        if window is not None and window < 1:
            raise SpecError(f"'window' must be at least 1, got {window!r}")
        if timeout is not None and timeout <= 0:
            raise SpecError(f"'timeout' must be a positive number of seconds, got {timeout!r}")
        self._window = window
        self._timeout = timeout

    @property
    def workers(self) -> int:
        """How many threads the cluster has at the moment, and at least 1."""
        return max(1, int(sum(self._client.nthreads().values())))

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
            Where the scheduler or the client goes away, the workers cannot load the function, or a worker that
            takes too long has no nanny.
        """
        run = _Run(self._client, self._window, self._timeout)
        try:
            run.begin(func)
            yield from run.carry_out(tasks)
        except OSError as error:  # the scheduler cannot be reached
            raise _broken(f"cannot reach its scheduler ({_said(error)})") from error
        finally:
            run.end()


_THREE_LINES = """
    from distributed import Client
    client = Client()  # or Client(SLURMCluster(…)), Client("tcp://scheduler:8786")
    foo(…, map_fn=client)"""


def _current() -> Any:
    """Return the client that a program has made."""
    distributed = required("distributed", "dask", "dask")
    try:
        return distributed.get_client()
    except ValueError:
        raise SpecError(
            f"map_fn='dask' needs a Dask client, and none is there; make one first:{_THREE_LINES}"
        ) from None


def _checked(client: Any) -> Any:
    if getattr(client, "asynchronous", False):
        raise SpecError(f"map_fn='dask' needs a client made with asynchronous=False, got {client!r}")
    return client


@dataclass(slots=True)
class _Sent:
    """A task on its way."""

    task: Any
    future: Any
    began: float | None = None
    worker: str = ""


@dataclass(slots=True)
class _Suspect:
    """A task that Dask gave up, and the newest of those that were under way then."""

    task: Any
    error: Any
    newest: int

    def lost(self) -> Lost[Any]:
        deaths = self.error.allowed_failures + 1
        last = self.error.last_worker.address
        return Lost(
            self.task, f"{deaths} workers died while they ran it, the last of them at {last}", deaths=deaths
        )


class _Run:
    """One run. Its methods are the driver's, but for those that put something into ``_heard``."""

    def __init__(self, client: Any, window: int | None, timeout: float | None) -> None:
        self._client = client
        self._timeout = timeout
        self._name = f"chunk_memo-{uuid.uuid4().hex}"
        self._function: Any = None
        self._pickled = b""
        self._functions = 0
        """How often the function was sent."""
        self._came = False
        """Whether a task was done since."""
        self._heard: SimpleQueue[tuple[str, Any, Any]] = SimpleQueue()
        self._sent: dict[int, _Sent] = {}
        self._newest = 0
        self._suspects: list[_Suspect] = []
        self._trials: deque[_Suspect] = deque()
        self._on_trial: int | None = None
        self._window = _Window(client, window)

    def begin(self, func: Callable[[Any], Any]) -> None:
        """Send the function."""
        self._pickled = pickle.dumps(func, pickle.HIGHEST_PROTOCOL)
        self._send_function()
        if self._timeout is not None:
            self._client.subscribe_topic(self._name, self._hear_begun)

    def _send_function(self) -> None:
        self._functions, self._came = self._functions + 1, False
        key = f"{self._name}-function-{self._functions}"
        with _graphs_of_any_size():
            self._function = self._client.submit(_loaded, self._pickled, key=key, pure=False)

    def carry_out(self, tasks: Iterator[Any]) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Yield what becomes of each task."""
        while True:
            self._window.look()
            self._send_more(tasks)
            convicted = self._convict()
            if convicted is not None:
                yield convicted
                continue  # it may come again
            if not self._sent:
                if self._suspects or self._trials:
                    continue
                return
            for kind, number, value in self._news():
                if kind == "begun":
                    self._note_begun(number, value)
                elif kind == "restarted":
                    _see_that_it_restarted(value)
                elif number in self._sent:
                    yield from self._settle(kind, number, value)
            yield from self._end_overdue()

    def end(self) -> None:
        """Give up what is under way, and let the cluster forget the run."""
        for sent in self._sent.values():
            sent.future.release()
        self._sent.clear()
        if self._timeout is not None and self._client.status == "running":
            self._client.unsubscribe_topic(self._name)
        self._function = None
        self._window.drop_what_was_sent()

    def _send_more(self, tasks: Iterator[Any]) -> None:
        """Send as many tasks as there is room for; where there are doubts, one that is in doubt, alone."""
        if self._on_trial is not None:
            return
        if len(self._suspects) > 1 and not self._sent:
            self._trials.extend(self._suspects)
            self._suspects.clear()
        if self._trials:
            if not self._sent:
                self._send([self._trials.popleft().task])
                self._on_trial = self._newest
        elif len(self._suspects) <= 1:
            while wave := list(islice(tasks, max(0, min(_WAVE, self._window.size - len(self._sent))))):
                self._send(wave)

    def _send(self, wave: list[Any]) -> None:
        first = self._newest + 1
        numbers = range(first, first + len(wave))
        pickled = [pickle.dumps(task, pickle.HIGHEST_PROTOCOL) for task in wave]
        call, more = (_called, ()) if self._timeout is None else (_called_aloud, (list(numbers),))
        fixed = {"function": self._function} | ({} if self._timeout is None else {"topic": self._name})
        keys = [(self._name, number) for number in numbers]
        with _graphs_of_any_size():
            futures = self._client.map(call, pickled, *more, key=keys, pure=False, **fixed)
        for number, task, future in zip(numbers, wave, futures, strict=True):
            self._sent[number] = _Sent(task, future)
            self._client.loop.add_callback(self._fetch, number, future)
        self._newest = numbers[-1]

    async def _fetch(self, number: int, future: Any) -> None:
        """Wait, in the client's event loop, for a result."""
        try:
            [result] = await self._client.gather([future], asynchronous=True)
        except BaseException as error:  # what the task raised, KilledWorker, or that it was cancelled
            self._heard.put(("failed", number, error))
        else:
            self._heard.put(("done", number, result))

    def _hear_begun(self, event: tuple[float, Any]) -> None:
        number, worker = event[1]
        self._heard.put(("begun", number, worker))

    def _news(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield what was heard, after waiting for it a moment."""
        pause = _PAUSE if self._timeout is None else min(_PAUSE, self._timeout / 10)
        try:
            yield self._heard.get(timeout=pause)
            for _ in range(self._heard.qsize()):
                yield self._heard.get_nowait()
        except Empty:
            pass

    def _settle(self, kind: str, number: int, value: Any) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        sent = self._sent.pop(number)
        tried, self._on_trial = self._on_trial == number, None if self._on_trial == number else self._on_trial
        sent.future.release()
        if kind == "done":
            self._window.count()
            self._came = True
            yield Done(sent.task, value)
            return
        if self._lost_its_function(value):
            self._send([sent.task])
            self._on_trial = self._newest if tried else self._on_trial
            return
        suspect = _Suspect(sent.task, self._killed(value, sent.task), self._newest)
        if tried:
            yield suspect.lost()
        else:
            self._suspects.append(suspect)

    def _lost_its_function(self, error: BaseException) -> bool:
        """Tell whether Dask gave up the function, which lay on workers that died, and send it again then."""
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker) or not str(error.task).startswith(f"{self._name}-function-"):
            return False
        if error.task != self._function.key:
            return True  # an earlier one
        if self._came:
            self._send_function()
        return bool(error.task != self._function.key)

    def _killed(self, error: BaseException, task: Any) -> Any:
        """Return an error that says that workers died; raise what says anything else."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            if error.task == self._function.key:
                raise _broken("lost its workers each time that they loaded the function") from error
            return error
        if isinstance(error, CancelledError | asyncio.CancelledError):
            raise _broken(f"dropped its tasks ({_said(error)})") from error
        raise _broken(
            f"cannot carry {str(task)!r} to a worker and back ({_said(error)}); its workers need the packages and"
            f" modules that are imported here: client.upload_file('module.py') sends one"
        ) from error

    def _convict(self) -> Lost[Any] | None:
        """Return a task that was given up, once all that were under way with it have ended well."""
        if len(self._suspects) == 1 and next(iter(self._sent), self._newest + 1) > self._suspects[0].newest:
            return self._suspects.pop().lost()
        return None

    def _note_begun(self, number: int, worker: str) -> None:
        if number in self._sent:
            self._sent[number].began = time.monotonic()
            self._sent[number].worker = worker

    def _end_overdue(self) -> Iterator[Lost[Any]]:
        """Restart workers whose task takes too long."""
        if self._timeout is None:
            return
        limit = time.monotonic() - self._timeout
        for number in [each for each, sent in self._sent.items() if sent.began and sent.began < limit]:
            sent = self._sent.pop(number)
            self._on_trial = None if self._on_trial == number else self._on_trial
            sent.future.release()  # first of all, or it would be run again
            for other in self._sent.values():
                if other.worker == sent.worker:
                    other.began = None
            threading.Thread(target=self._restart, args=(sent.worker,), daemon=True).start()
            reason = f"it took longer than {self._timeout:g} s, and its worker {sent.worker} was restarted"
            yield Lost(sent.task, reason, timed_out=True)

    def _restart(self, worker: str) -> None:
        try:
            self._client.restart_workers([worker], raise_for_error=False)
        except Exception as error:
            self._heard.put(("restarted", worker, error))


class _Window:
    """How many tasks may be on their way."""

    def __init__(self, client: Any, fixed: int | None) -> None:
        self._client = client
        self._fixed = fixed
        self._done = 0
        self._looked = -_LOOK
        self._idle_since: float | None = None
        self.size = fixed or _FEWEST

    def count(self) -> None:
        """Take note of a task that is done."""
        self._done += 1

    def look(self) -> None:
        """Fit the window to the cluster, at most once a second."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        if self._client.status != "running":
            raise _broken(f"has lost its scheduler (the client is {self._client.status!r})")
        self.drop_what_was_sent()
        threads = sum(self._client.nthreads().values())
        if self._fixed is None:
            lately = self._done / (now - self._looked) * _AHEAD
            self.size = max(_FEWEST, 3 * threads, min(int(lately), 64 * threads))
        self._looked, self._done = now, 0
        self._notice_idleness(threads, now)

    def drop_what_was_sent(self) -> None:
        """Empty the client's log of its last 1,000 messages, which is for Dask's developers.

        Each holds a wave of tasks, up to 1 MB, long after these are done; 13 MB of them were seen at once.
        """
        log = getattr(getattr(self._client, "scheduler_comm", None), "recent_message_log", None)
        if isinstance(log, deque):
            log.clear()

    def _notice_idleness(self, threads: int, now: float) -> None:
        self._idle_since = None if threads else now if self._idle_since is None else self._idle_since
        if self._idle_since is not None and now - self._idle_since >= _PATIENCE:
            self._idle_since = math.inf  # say it once
            warnings.warn(
                f"the Dask cluster of {self._client!r} has had no workers for {_PATIENCE:g} s; this run goes on"
                f" when there are some (a cluster drops what does not come back within its setting"
                f" distributed.deploy.lost-worker-timeout)",
                ChunkMemoWarning,
                stacklevel=2,
            )


_FEWEST = 8
"""Tasks sent even where there are no workers, so that a cluster that scales by its load starts some."""
_WAVE = 64
"""Most tasks sent in one message."""
_PAUSE = 1.0
"""Seconds after which the driver looks up even if nothing is heard."""
_LOOK = 1.0
"""Seconds between two looks at the number of threads."""
_PATIENCE = 60.0
"""Seconds without any worker after which it is worth a word."""
_AHEAD = 10.0
"""Seconds for which the tasks sent should last; a cluster that scales wants to see more than five."""


def _loaded(pickled: bytes) -> Any:
    """Return the function, on a worker."""
    return pickle.loads(pickled)


def _called(pickled: bytes, *, function: Callable[[Any], Any]) -> Any:
    """Call the function, on a worker. Tasks come as bytes, in which Dask looks for no keys and no futures."""
    return function(pickle.loads(pickled))


def _called_aloud(pickled: bytes, number: int, *, function: Callable[[Any], Any], topic: str) -> Any:
    """Say that a task begins, then call the function."""
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    # Not worker.log_event, which hands over to the event loop: a function that holds the interpreter's lock
    # from its first moment on would never be heard of.
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg=(number, worker.address))
    return function(pickle.loads(pickled))


def _graphs_of_any_size() -> Any:
    """Let Dask send a large function or task without the warning, whose remedy is what is done here."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"})


def _see_that_it_restarted(error: Exception) -> None:
    if isinstance(error, ValueError):
        raise _broken(
            f"cannot end a task that takes too long ({_said(error)}); start the workers with a nanny, as they are"
            f" by default, or leave out timeout="
        ) from error


def _broken(what: str) -> MapBrokenError:
    return MapBrokenError(
        f"the Dask cluster {what}. What was done is kept: call again with a client that works to go on"
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
