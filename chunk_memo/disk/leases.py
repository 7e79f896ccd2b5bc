"""Claims on chunks: which process is at work on what, for processes that share a root and know of no other.

A lease is a small file in the cache's folder ``leases/``, made with ``link``, so that of many claimants one
wins. Its holder renews its modification time; one that was not renewed for ``ttl`` seconds by the clock of the
file system has expired, and so has at once one whose process is gone from this machine. A lease is only a hint:
losing one, or holding two, costs some work done twice and nothing else, because chunks are committed under names
of their content.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from chunk_memo.disk import files

__all__ = ["Lease", "Leases"]

_BEATS = 4
"""A lease is renewed so many times within its time to live."""


class Leases:
    """The claims on the chunks of one cache.

    Parameters
    ----------
    folder : path-like
        The cache's folder.
    ttl : float, default 60.0
        Seconds after which a lease that was not renewed has expired.

    Examples
    --------
    >>> import tempfile
    >>> leases = Leases(tempfile.mkdtemp())
    >>> with leases.claim("chunk") as lease:
    ...     leases.claim("chunk") is None
    True
    >>> leases.claim("chunk") is None
    False
    """

    def __init__(self, folder: str | os.PathLike[str], ttl: float = 60.0) -> None:
        self._folder = os.path.join(os.path.abspath(folder), "leases")
        self._ttl = ttl

    def claim(self, name: str) -> Lease | None:
        """Claim a chunk for this process.

        Parameters
        ----------
        name : str
            The chunk's name.

        Returns
        -------
        Lease or None
            A context that holds the claim until it is left; None where another process has it.

        Raises
        ------
        OSError
            Where the folder cannot be written.
        """
        path = self._path(name)
        for _ in range(2):
            lease = self._make(path)
            if lease is not None:
                return lease
            if not self._take_away(path):
                return None
        return None

    def is_free(self, name: str) -> bool:
        """Tell whether a claim would succeed just now.

        Parameters
        ----------
        name : str
            The chunk's name.

        Returns
        -------
        bool
            Whether no lease is there, or one that has expired.
        """
        seen = self._look(self._path(name))
        return seen is None or self._has_expired(seen)

    def sweep_up(self) -> None:
        """Remove the folder if nothing is claimed."""
        files.remove_folder(self._folder)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}.json")

    def _make(self, path: str) -> Lease | None:
        token = os.urandom(8).hex()
        content = json.dumps({"token": token, **_this_process(os.getpid())}).encode()
        if not files.claim(path, content):
            return None
        lease = Lease(path, token, self._ttl)
        _heart.add(lease)
        return lease

    def _look(self, path: str) -> _Seen | None:
        """Return what a lease says; None where there is none."""
        try:
            data, _ = files.read_file(path)
        except FileNotFoundError:
            return None
        status = files.look_at(path)
        if status is None:
            return None
        modified = status.modified
        try:
            said = json.loads(data)
            return _Seen(str(said["token"]), str(said["machine"]), int(said["pid"]), modified)
        except (ValueError, KeyError, TypeError):
            return _Seen("", "", 0, modified)  # damaged: it expires by its time

    def _has_expired(self, seen: _Seen) -> bool:
        mine = _this_process(os.getpid())
        if seen.machine and seen.machine == mine["machine"] and not _is_alive(seen.pid):
            return True
        return files.now(self._folder) - seen.modified > self._ttl

    def _take_away(self, path: str) -> bool:
        """Remove a lease that has expired; tell whether claiming again is worth it."""
        seen = self._look(path)
        if seen is None:
            return True
        if not self._has_expired(seen):
            return False
        aside = f"{path}.{os.urandom(8).hex()}"
        try:
            files.rename(path, aside)
        except FileNotFoundError:
            return True
        except OSError:  # renaming is refused
            if self._look(path) != seen:
                return False
            files.remove(path)  # who renews it just now computes what we do, and no more
            return True
        moved = self._look(aside)
        if moved is not None and (moved.token, moved.modified) != (seen.token, seen.modified):
            _put_back(aside, path)  # somebody claimed it anew, or renewed it, in between
        with contextlib.suppress(OSError):
            files.remove(aside)
        return True


def _put_back(aside: str, path: str) -> None:
    """Give a claim its name again; where another has it by now, or that is refused, it is lost."""
    try:
        files.link(aside, path)
    except FileExistsError:
        pass
    except OSError:
        with contextlib.suppress(OSError):
            if not files.is_there(path):
                files.rename(aside, path)


@dataclass(frozen=True, slots=True)
class _Seen:
    token: str
    machine: str
    pid: int
    modified: float


class Lease:
    """A claim that this process holds.

    Parameters
    ----------
    path : str
        The file.
    token : str
        What tells it from another's under the same name.
    ttl : float
        Seconds after which it expires unless renewed.
    """

    def __init__(self, path: str, token: str, ttl: float) -> None:
        self.path = path
        self.ttl = ttl
        self._token = token

    def renew(self) -> None:
        """Say that this process is still at work."""
        with contextlib.suppress(OSError):
            files.touch(self.path)

    def release(self) -> None:
        """Give the claim up; one that another process has taken over by now is left alone."""
        _heart.remove(self)
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads(files.read_whole(self.path))["token"] == self._token:
                files.remove(self.path)

    def __enter__(self) -> Lease:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the claim up."""
        self.release()


class _Heart:
    """Renews the leases that this process holds, from a thread that runs while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Lease] = {}
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.path] = lease
            if self._thread is None:
                self._woken.clear()
                self._thread = threading.Thread(target=self._beat, name="chunk_memo leases", daemon=True)
                self._thread.start()

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease.path, None)

    def _beat(self) -> None:
        idle = 0
        while True:
            with self._lock:
                held = list(self._held.values())
                idle = 0 if held else idle + 1
                if idle > _BEATS:
                    self._thread = None
                    return
            for lease in held:
                lease.renew()
            self._woken.wait(min((lease.ttl for lease in held), default=1.0) / _BEATS)


_heart = _Heart()


def _after_fork() -> None:
    global _heart
    _heart = _Heart()  # the thread stayed with the parent, and so did the leases


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.lru_cache(maxsize=2)
def _this_process(pid: int) -> dict[str, str | int]:
    """Return who this process is; the machine's name is empty where processes of it cannot be told apart."""
    return {"host": socket.gethostname(), "pid": pid, "machine": _machine()}


def _machine() -> str:
    """Return what processes have in common that see each other's ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
