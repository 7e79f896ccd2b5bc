"""A small file by which a run shows elsewhere that it is alive, and how far it is.

While a run computes for longer than two seconds, ``<cache>/runs/<host>-<pid>-<n>.json`` is replaced every two
seconds, however long a chunk takes. It goes when all went well; that of a run that was interrupted, that failed,
or that left points out, stays until the next one of its cache succeeds, or a day has passed. No answer depends on
it and nothing is synced: where it cannot be written there is none, and nobody is told.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.display import ticker
from chunk_memo.display.meter import DAY, Meter
from chunk_memo.events import Event, RunFinished, RunStarted

__all__ = ["FOLDER", "Beat", "Heartbeat", "beats"]

FOLDER = "runs"
"""Folder of a cache in which the files lie."""

INTERVAL = 2.0
"""Seconds until the first beat, and from one to the next."""

KEPT = DAY
"""Seconds for which the file of a run that did not go well is kept."""

_STALE = 30.0
"""Seconds without a beat after which a run is said to give no sign."""

_NUMBERS = itertools.count(1)


class Heartbeat:
    """An observer that keeps the file of a run.

    Examples
    --------
    >>> import tempfile
    >>> beat = Heartbeat()
    >>> beat(RunStarted("foo", "id", chunks=2, points=10, cached_points=4, path=tempfile.mkdtemp()))
    >>> beat(RunFinished(seconds=0.1, complete=True))
    """

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._path = ""
        """The file, once there is one."""
        self._appointment: ticker.Appointment | None = None

    def __call__(self, event: Event, /) -> None:
        """Move the counters."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif self._meter is not None:
            self._meter.note(event)
            if isinstance(event, RunFinished):
                self._finish(event)

    def _start(self, event: RunStarted) -> None:
        if not event.path:
            return
        self._meter, self._path = Meter(event), ""
        self._appointment = ticker.every(self.beat, INTERVAL, INTERVAL)

    def beat(self) -> None:
        """Write the file as things are now."""
        if self._meter is None:
            return
        if not self._path:
            host = re.sub(r"[^\w.-]", "_", socket.gethostname())
            name = f"{host}-{os.getpid()}-{next(_NUMBERS)}.json"
            self._path = os.path.join(self._meter.run.path, FOLDER, name)
        _write(self._path, _document(self._meter))

    def _finish(self, event: RunFinished) -> None:
        assert self._meter is not None
        if self._appointment is not None:
            self._appointment.cancel()
        if event.complete:
            if self._path:
                _remove(self._path)
            _tidy(os.path.join(self._meter.run.path, FOLDER))
        elif self._path:
            self.beat()
        self._meter = self._appointment = None


def _document(meter: Meter) -> dict[str, Any]:
    run, ended, left = meter.run, meter.finished, meter.remaining()
    state = "running"
    if ended is not None:
        state = "interrupted" if ended.interrupted else "failed" if ended.error is not None else "finished"
    return {
        "name": run.name,
        "cache_id": run.cache_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "state": state,
        "map": run.map,
        "started_at": _iso(run.started_at / 1e9),
        "updated_at": _iso(time.time()),
        "seconds": round(meter.elapsed, 3),
        "points": {
            "total": meter.total,
            "cached": meter.reused,
            "done": meter.done,
            "failed": meter.failed,
        },
        "chunks": {"total": run.chunks, "done": meter.chunks_done},
        "points_per_second": meter.rate,
        "seconds_to_go": None if left is None or ended is not None else round(left, 3),
        "last_error": meter.error,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _write(path: str, document: dict[str, Any]) -> None:
    """Replace a file, or leave it as it is; the cache's own folder is not made anew where it was deleted."""
    files.write_over(path, json.dumps(document, indent=1).encode())


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        files.remove(path)


def _tidy(folder: str) -> None:
    """Remove the files of runs that ended, of those that cannot go on, and the folder where none is left."""
    try:
        names = files.list_folder(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        beat = _read(path)
        if beat is not None and (beat.state != "running" or beat.is_gone or beat.age > KEPT):
            _remove(path)
    files.remove_folder(folder)


# --- who looks at it ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beat:
    """What the file of a run says, and what can be told of its process."""

    name: str
    """The function's name."""
    cache_id: str
    """The cache."""
    host: str
    """Where the run is."""
    pid: int
    """Its process."""
    state: str
    """``"running"``, ``"interrupted"``, ``"failed"``, or ``"finished"`` with points left out."""
    map: str
    """Where it computes; empty for the process itself."""
    started_at: str
    """ISO 8601, UTC."""
    updated_at: str
    """ISO 8601, UTC."""
    seconds: float
    """Seconds since it started, at the last beat."""
    total: int
    """Number of points asked for."""
    cached: int
    """Number of points that did not have to be computed."""
    done: int
    """Number of points computed."""
    failed: int
    """Number of points that failed."""
    rate: float | None
    """Points per second."""
    to_go: float | None
    """Seconds that it will still take."""
    error: str
    """The last thing that went wrong."""
    age: float
    """Seconds since the last beat."""
    is_gone: bool
    """Whether it should be running, and its process on this host is no more."""

    @property
    def is_silent(self) -> bool:
        """Whether a running run has given no sign for long."""
        return self.state == "running" and self.age > _STALE

    @property
    def percent(self) -> int:
        """Points that are there per hundred; 100 only where all are."""
        return 100 * min(self.total, self.cached + self.done) // self.total if self.total else 100


def beats(root: str | os.PathLike[str]) -> Iterator[Beat]:
    """Iterate over the runs of all caches in a root that give a sign, or gave one not long ago.

    Parameters
    ----------
    root : path-like
        A folder of caches.

    Yields
    ------
    Beat
        A run; files that cannot be read, and those older than a day, are passed over.
    """
    for cache in sorted(files.list_folder(root)):
        folder = Path(root, cache, FOLDER)
        try:
            names = sorted(files.list_folder(folder))
        except OSError:
            continue
        for name in names:
            beat = _read(os.path.join(folder, name))
            if beat is not None and beat.age <= KEPT:
                yield beat


def _read(path: str) -> Beat | None:
    if not path.endswith(".json"):
        return None
    try:
        return _beat(json.loads(files.read_whole(path)))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # half a copy, or of another version


def _beat(document: dict[str, Any]) -> Beat:
    points, host, pid, state = document["points"], document["host"], int(document["pid"]), document["state"]
    updated_at = datetime.fromisoformat(document["updated_at"])
    rate, to_go = document["points_per_second"], document["seconds_to_go"]
    return Beat(
        name=str(document["name"]),
        cache_id=str(document["cache_id"]),
        host=str(host),
        pid=pid,
        state=str(state),
        map=str(document["map"]),
        started_at=str(document["started_at"]),
        updated_at=str(document["updated_at"]),
        seconds=float(document["seconds"]),
        total=int(points["total"]),
        cached=int(points["cached"]),
        done=int(points["done"]),
        failed=int(points["failed"]),
        rate=None if rate is None else float(rate),
        to_go=None if to_go is None else float(to_go),
        error=str(document["last_error"]),
        age=max(0.0, time.time() - updated_at.timestamp()),
        is_gone=state == "running" and _is_gone(host, pid),
    )


def _is_gone(host: str, pid: int) -> bool:
    """Tell whether a process of this host has ended; of others nothing is known."""
    if host != socket.gethostname() or os.name == "nt" or pid <= 0:  # on Windows kill() would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False
