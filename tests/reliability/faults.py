"""Faults on a timetable, injected through ``disk/files``, which every system call to a store goes through.

:class:`Calls` stands in for the module :mod:`os` as that module sees it. It counts the calls that reach
the system, and fails at the one that it was told, or kills the process there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chunk_memo.disk import files

WRITING = frozenset(
    {
        "chmod",
        "close",
        "fchmod",
        "fsync",
        "link",
        "mkdir",
        "open",
        "rename",
        "replace",
        "rmdir",
        "unlink",
        "utime",
        "write",
        "writev",
    }
)
"""What may find a disk full."""

CALLS = WRITING | frozenset(
    {
        "fstat",
        "listdir",
        "lseek",
        "lstat",
        "pread",
        "preadv",
        "read",
        "readlink",
        "readv",
        "scandir",
        "stat",
        "statvfs",
    }
)
"""What reaches the system; anything else that is taken from :mod:`os` is passed on."""

KILL_BEFORE, KILL_AFTER = "KILL before", "KILL after"
ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EDQUOT")}
KINDS = (KILL_BEFORE, KILL_AFTER, *ERRORS)
"""What may happen at a call."""


class Calls:
    """The module :mod:`os`, with a fault in it.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`; empty for no fault.
    at : int
        The call at which it happens, from 0 on.
    forever : bool
        Whether errors go on from there, as they do on a full disk, and not only once.
    only : frozenset of str, optional
        Only these calls count.
    """

    def __init__(
        self, kind: str = "", at: int = -1, *, forever: bool = False, only: frozenset[str] = CALLS
    ) -> None:
        self.kind, self.at, self.forever, self.only = kind, at, forever, only
        self.count = 0
        self.fired: list[str] = []
        self._lock = threading.Lock()
        self._wrapped: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        true = getattr(os, name)
        if name not in self.only:
            return true
        return self._wrapped.setdefault(name, self._wrap(name, true))

    def _writes(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """Whether a call could find a disk full: opening to read could not, nor closing what was read."""
        if name == "open":
            return bool(arguments[1] & os.O_CREAT)
        return name != "close" or bool(fcntl.fcntl(arguments[0], fcntl.F_GETFL) & os.O_ACCMODE)

    def _wrap(self, name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.only is WRITING and not self._writes(name, arguments):
                return true(*arguments, **options)
            with self._lock:
                number, self.count = self.count, self.count + 1
            due = number == self.at or (self.forever and number > self.at >= 0)
            if due:
                self.fired.append(name)
                if self.kind == KILL_BEFORE:
                    os.kill(os.getpid(), signal.SIGKILL)
                elif self.kind in ERRORS:
                    if name == "close":
                        true(*arguments)  # the descriptor is gone even where close reports an error
                    raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]))
            try:
                return true(*arguments, **options)
            finally:
                if due and self.kind == KILL_AFTER:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call


@contextmanager
def injected(calls: Any) -> Iterator[Any]:
    """Let ``disk/files`` see these calls as :mod:`os` until the block ends."""
    true = vars(files)["os"]
    vars(files)["os"] = calls
    try:
        yield calls
    finally:
        vars(files)["os"] = true
