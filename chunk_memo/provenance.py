"""What is kept of the surroundings of a run: machine, Python, packages, and the commit of the code."""

from __future__ import annotations

import inspect
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["surroundings"]

_PATIENCE = 20.0
"""Seconds that git may take."""
_WORTH = 50.0
"""What git said holds for so many times what it took to say it, and for at least …"""
_LEAST = 1.0
"""… so many seconds."""

_said: dict[str, tuple[float, dict[str, Any]]] = {}
"""Folder to when it has to be asked again, and what git said."""


def surroundings(function: Any = None) -> dict[str, Any]:
    """Return where and with what this process runs.

    Parameters
    ----------
    function : callable, optional
        The commit is that of the repository of its file; of the working directory where it has none.

    Returns
    -------
    dict
        ``host``, ``python`` and ``packages`` (name to version of each that is imported); ``git_commit`` and
        ``git_dirty`` where there is a repository and git is installed.

    Examples
    --------
    >>> surroundings()["python"] == platform.python_version()
    True
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": _packages(),
        **_commit(_folder(function)),
    }


def _packages() -> dict[str, str]:
    found = {}
    for name, module in sorted(sys.modules.items()):
        if "." in name or name.startswith("_") or name in sys.stdlib_module_names:
            continue
        version = getattr(module, "__dict__", {}).get("__version__")  # no lazy import for this
        if isinstance(version, str):
            found[name] = version
    return found


def _folder(function: Any) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(function)) if function is not None else None
    except (TypeError, ValueError):
        file = None
    folder = os.path.dirname(os.path.abspath(file)) if file else ""
    return folder if folder and os.path.isdir(folder) else os.getcwd()


def _commit(folder: str) -> dict[str, Any]:
    """Return what git says of a folder, asked anew from time to time: a notebook lives through many commits."""
    until, said = _said.get(folder, (0.0, {}))
    now = time.monotonic()
    if now < until:
        return said
    said = _asked(folder) if _in_repository(folder) else {}
    took = time.monotonic() - now
    _said[folder] = (now + max(_LEAST, _WORTH * took), said)
    return said


def _in_repository(folder: str) -> bool:
    return any((each / ".git").exists() for each in (Path(folder), *Path(folder).parents))


def _asked(folder: str) -> dict[str, Any]:
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None:
        return {}
    return {"git_commit": commit.strip(), "git_dirty": bool(changed.strip())}


def _git(folder: str, *arguments: str) -> str | None:
    # The repository may be anybody's: its own programs are not started, and its index is not written.
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
