"""What it costs to know a function by what it reaches: once per process, and before every call."""

from __future__ import annotations

import ast
import importlib
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case
from chunk_memo.identity import FunctionIdentity, identify_function

__all__ = ["check", "digest", "run", "texts"]

TITLE = "Identity of functions"

_HELPER = """
K{0} = {0}.5


def h{0}(x, a={0}):
    y = x * K{0} + a
    for j in range(3):
        y += j
    return y{1}
"""

_names = itertools.count()


def texts(package: str, functions: int, files: int) -> dict[str, str]:
    """Return a package whose function ``main.f`` reaches others, each of which reads a constant of its own.

    Parameters
    ----------
    package : str
        Its name.
    functions : int
        How many others there are; each calls the next.
    files : int
        How many files these lie in.

    Returns
    -------
    dict of str to str
        Name of each file to its text.
    """
    found = {"main.py": f"from {package}.part0 import h0\n\n\ndef f(x):\n    return [h0(v) for v in x]\n"}
    each = -(-functions // files)
    for number in range(files):
        last = min((number + 1) * each, functions)
        text = "".join(
            _HELPER.format(i, f" + h{i + 1}(x)" if i + 1 < functions else "") for i in range(number * each, last)
        )
        there = f"from {package}.part{number + 1} import h{last}\n" if last < functions else ""
        found[f"part{number}.py"] = there + text
    return found


class _Packages:
    """Packages that no process has seen before, one for each turn."""

    def __init__(self, folder: Path, functions: int, files: int) -> None:
        self._folder, self._functions, self._files = folder, functions, files
        self.function: Callable[..., Any] = len
        self.texts: dict[str, str] = {}

    def make(self) -> None:
        """Write another one and import it."""
        name = f"measured_{next(_names)}"
        self.texts = texts(name, self._functions, self._files)
        (self._folder / name).mkdir()
        for file, text in self.texts.items():
            (self._folder / name / file).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        sys.path.insert(0, str(self._folder))
        try:
            self.function = importlib.import_module(f"{name}.main").f
        finally:
            sys.path.remove(str(self._folder))

    def identified(self) -> FunctionIdentity:
        """Return the identity of its function, which covers all others."""
        identity = identify_function(self.function)
        assert self._functions + 1 == sum(part.kind == "function" for part in identity.parts)
        return identity

    def compiled(self) -> list[Any]:
        """Parse and compile its files."""
        return [compile(ast.parse(text), file, "exec") for file, text in self.texts.items()]


def _cpu(action: Callable[[], object]) -> float:
    """Return the seconds of CPU that an action takes: others on the machine do not count."""
    start = time.process_time()
    action()
    return time.process_time() - start


def digest(folder: Path, functions: int, files: int) -> Case:
    """Take the identity of a function for the first time in a process.

    Parameters
    ----------
    folder : Path
        An empty folder, for the packages.
    functions, files : int
        As in `texts`.

    Returns
    -------
    Case
        Against parsing and compiling the same files, and against what it may take.
    """
    packages = _Packages(folder, functions, files)
    against = (
        Against("ast.parse and compile of the files", packages.compiled, bound=5.0),
        Against("limit", value=0.020, bound=1.0),
    )
    work = f"first digest of a function that reaches {functions} others, in {files} file{'s' * (files > 1)} (CPU)"
    return Case(work, packages.identified, against, prepare=packages.make, gauge=_cpu)


def check(folder: Path, functions: int, files: int) -> Case:
    """Look, as every call does, whether anything has changed of what a function reaches.

    Parameters
    ----------
    folder, functions, files : object
        As in `digest`.

    Returns
    -------
    Case
        Against what it may take.
    """
    packages = _Packages(folder, functions, files)
    packages.make()
    identity, times = packages.identified(), 1000

    def ours() -> bool:
        return all(identity.unchanged() for _ in range(times))

    work = f"look whether any of {functions} functions has changed"
    return Case(work, ours, (Against("limit", value=50e-6, bound=1.0),), gauge=_cpu, per=times)


def run(folder: Path, quick: bool) -> Section:
    """Measure 50 functions in 1 file and in 5, 30 turns each; quick: 10 functions, 3 turns."""
    functions, turns = (10, 3) if quick else (50, 30)
    jobs = [
        Job(lambda place, files=files: digest(place, functions, files), turns)  # type: ignore[misc]
        for files in (1, 5)
    ]
    return measured(TITLE, [*jobs, Job(lambda place: check(place, functions, 5), turns)], folder)
