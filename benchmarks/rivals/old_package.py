"""The older package ``chunk-memo`` 0.1.5, which has the same import name: it runs in a process of its own.

It is installed by pip into a folder that only that process imports from.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from benchmarks.grids import Shape
from benchmarks.rivals.contestants import CHUNK, Contestant

__all__ = ["REQUIREMENT", "OldPackage", "installed_in"]

REQUIREMENT = "chunk-memo==0.1.5"

_PROGRAM = """
import json, shutil, sys, time
from chunk_memo import ChunkMemo

def value(x, y):
    return x * (y + 0.5)

class Sweep:
    def open(self, root, rows, columns):
        axes = {"x": list(range(rows)), "y": list(range(columns))}
        memo = ChunkMemo(root, {"x": CHUNK[0], "y": CHUNK[1]}, axes, verbose=0)
        self.function, self.columns = memo.cache()(value), list(range(columns))

    def cold(self, root, rows, columns):
        self.open(root, rows, columns)
        return self.function()[0]

    def warm(self, root, rows, columns):
        return self.cold(root, rows, columns)

    def one(self, x, y):
        return self.function(x=x, y=y)[0]

    def grow(self, rows):
        return self.function(x=list(range(rows)), y=self.columns, extend_cache=True)[0]

sweep = Sweep()
for line in sys.stdin:
    task, arguments = json.loads(line)
    if task == "cold":
        shutil.rmtree(arguments[0], ignore_errors=True)
    start = time.perf_counter()
    found = getattr(sweep, task)(*arguments)
    seconds = time.perf_counter() - start
    print("=" + json.dumps([seconds, found]), flush=True)
"""


def installed_in(folder: Path) -> str:
    """Install the package into a folder; return why that failed, or an empty text.

    Parameters
    ----------
    folder : Path
        The folder; made if it is not there.

    Returns
    -------
    str
        The reason, in one line.
    """
    if not importlib.util.find_spec("pip"):
        return "pip is not installed"
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), REQUIREMENT]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"pip cannot install {REQUIREMENT}" if done.returncode else ""


class OldPackage(Contestant):
    """The older package: one call per point, one pickle per chunk."""

    name = REQUIREMENT
    package = "pip"
    place: ClassVar[Path]
    """Where it is installed."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"CHUNK = {CHUNK!r}\n{_PROGRAM}"],
            env={**os.environ, "PYTHONPATH": str(self.place)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        super().__init__(folder, shape)

    def open(self) -> None:
        """Leave that to the tasks."""

    def timed(self, task: str, *arguments: int) -> float:
        """Let the process do the task, and say how long it took there."""
        if task == "grow":
            self.rows += 1
        given = {"one": arguments, "grow": (self.rows,)}.get(task, (str(self.root), self.rows, self.columns))
        seconds, self.did = self._asked(task, given)
        return float(seconds)

    def _asked(self, task: str, arguments: tuple[Any, ...]) -> Any:
        there: IO[str] | None = self._process.stdin
        back: IO[str] | None = self._process.stdout
        assert there is not None
        assert back is not None
        there.write(json.dumps([task, arguments]) + "\n")
        there.flush()
        for line in back:
            if line.startswith("="):
                return json.loads(line[1:])
        raise RuntimeError(f"{REQUIREMENT} ended at the task {task!r}")

    def answer(self) -> np.ndarray:
        """Return what the last task gave, as an array; extended caches give it in chunks' order."""
        return np.sort(np.asarray(self.did, dtype=float).ravel()).reshape(self.rows, self.columns)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
