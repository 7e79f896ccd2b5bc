"""Run a program in a process of its own and measure it: seconds, peak memory, modules imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["NEVER", "TAIL", "figures_of"]

NEVER = float("inf")
"""What a program that did not end in time is said to have taken."""

TAIL = """
import json, resource, sys
try:
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({**figures, "peak": peak}))
"""
"""The end of a program that has a dict ``figures``: it prints them with its peak memory in bytes.

On Linux ``ru_maxrss`` begins with what the process had that started this one, and may say nothing else."""


def figures_of(
    program: str, *words: object, compiled: Path | None = None, timeout: float = 600.0, path: str = ""
) -> dict[str, Any]:
    """Run a program and return the figures that it prints last, as JSON.

    Parameters
    ----------
    program : str
        Python source.
    *words : object
        Its arguments.
    compiled : Path, optional
        A folder for compiled modules. Without it a checkout that may not be written, or an environment that
        forbids ``.pyc`` files, would have every import measured with the compiler.
    timeout : float
        Seconds after which it is given up.
    path : str
        Folders that come before all others when it imports.

    Returns
    -------
    dict
        The figures; empty where it was given up.
    """
    environment: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    given = {"PYTHONPATH": os.pathsep.join(filter(None, [path, *sys.path]))}
    if compiled is not None:
        given["PYTHONPYCACHEPREFIX"] = str(compiled)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, words)],
            env={**environment, **given},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        raise RuntimeError(f"a measured program failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found
