"""Processes that sweep at the same time, told what to do line by line; they log each point that they compute."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo import ChunkMemo

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
}
"""For processes that need the ``chunk_memo`` of this checkout and the modules of these tests."""


@dataclass(frozen=True)
class Job:
    """Requests to be made one after the other of one decorated function."""

    root: str
    """Where its cache lies."""
    log: str
    """The file to which each point computed is appended, a line each."""
    xs: list[int]
    """Declared values of x."""
    ys: list[int]
    """Declared values of y."""
    spec: dict[str, int]
    """Chunk sizes."""
    requests: list[dict[str, list[int]]]
    """The axis values of each request."""
    durability: str = "fast"
    """Whether files are synced."""


def value(x: Sequence[int], y: Sequence[int]) -> Any:
    """Return the outputs over a grid, evaluated directly."""
    return np.add.outer(np.multiply(x, 1000.0), np.add(y, 0.5))


def sweep(job: Job) -> Any:
    """Return the decorated function of a job."""
    memo = ChunkMemo(job.root, job.spec, {"x": job.xs, "y": job.ys}, verbose=0, durability=job.durability)

    def function(x: list[int], y: list[int]) -> Any:
        lines = "".join(f"{a} {b}\n" for a in x for b in y)
        log = os.open(job.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, lines.encode())
        os.close(log)
        return value(x, y)

    return memo.cache(version="1", name="f")(function)


def work(job: Job) -> list[str]:
    """Make a job's requests; return what went wrong, and the warnings."""
    function, wrong = sweep(job), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for request in job.requests:
            output, _ = function(**request)
            if not np.array_equal(value(request.get("x", job.xs), request.get("y", job.ys)), output):
                wrong.append(f"wrong output for {request}")
    return wrong + [f"{warning.category.__name__}: {warning.message}" for warning in caught]


def computed(job: Job) -> Counter[tuple[int, int]]:
    """Return how often each point was computed, by whichever process."""
    lines = Path(job.log).read_text().split("\n") if os.path.exists(job.log) else []
    points = (line.split() for line in lines if line)
    return Counter((int(x), int(y)) for x, y in points)


class Counted:
    """A decorated sweep over 3 by 2 chunks that knows how many points it computed."""

    xs, ys = list(range(6)), list(range(4))

    def __init__(self, root: Path, width: int = 1, durability: str = "fast") -> None:
        self.root, self.width, self.executed = root, width, 0
        memo = ChunkMemo(root, {"x": 2, "y": 2}, {"x": self.xs, "y": self.ys}, verbose=0, durability=durability)
        self.function = memo.cache(version="1", name="f")(lambda x, y: self.values(x, y))

    def values(self, x: list[int], y: list[int]) -> Any:
        """Return `width` numbers per point."""
        self.executed += len(x) * len(y)
        return self.expected(x, y)

    def expected(self, x: Sequence[int] = xs, y: Sequence[int] = ys) -> Any:
        """Return the same without counting."""
        return np.add.outer(value(x, y), np.arange(self.width))

    def call(self, **request: list[int]) -> int:
        """Make a call that must be right; return how many points it computed."""
        self.executed = 0
        output, _ = self.function(**request)
        np.testing.assert_array_equal(self.expected(**request), output)
        return self.executed


class Workers:
    """Processes that wait for jobs."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes

    def start(self, jobs: Sequence[Job]) -> None:
        """Give each worker a job, and let them begin together."""
        for process, job in zip(self.processes, jobs, strict=False):
            say(process, repr(asdict(job)))
        for process, _ in zip(self.processes, jobs, strict=False):
            assert "ready" == heard(process)
        for process, _ in zip(self.processes, jobs, strict=False):
            say(process, "go")

    def results(self, count: int) -> list[list[str]]:
        """Wait for the jobs to end; return what went wrong in each."""
        return [ast.literal_eval(heard(process)) for process in self.processes[:count]]

    def work(self, jobs: Sequence[Job]) -> list[list[str]]:
        """Start jobs and wait for them."""
        self.start(jobs)
        return self.results(len(jobs))


def say(process: subprocess.Popen[str], line: str) -> None:
    """Send a worker a line."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    """Return the next line that a worker says."""
    assert process.stdout is not None
    return process.stdout.readline().removesuffix("\n")


def _process(*words: str) -> subprocess.Popen[str]:
    """Run this module in a process of its own, with the ``chunk_memo`` of this checkout."""
    command = [sys.executable, "-W", "error", __file__, *words]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def started(count: int) -> Iterator[Workers]:
    """Run so many workers until the block ends."""
    processes = [_process() for _ in range(count)]
    try:
        yield Workers(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@contextmanager
def nursery() -> Iterator[subprocess.Popen[str]]:
    """Run a process that forks a child for each job, which costs no start of an interpreter."""
    with _process("fork") as process:
        yield process
        process.communicate()


def killed(process: subprocess.Popen[str], job: Job, lines: int, spin: int) -> int:
    """Let a child work until it has computed so many blocks, and a bit longer; kill it; return its exit code."""
    say(process, repr(asdict(job)))
    child = int(heard(process))
    while not (os.path.exists(job.log) and Path(job.log).read_bytes().count(b"\n") >= lines):
        say(process, "status")
        if heard(process) != "running":
            break
    for _ in range(spin):
        os.getpid()
    say(process, "kill")
    assert child
    return int(heard(process))


def fork() -> None:
    """Fork a child for each job; report on it, and kill it, as told."""
    import h5py

    for line in sys.stdin:
        job = Job(**ast.literal_eval(line))
        child = os.fork()
        if not child:
            os._exit(1 if work(job) else 0)
        print(child, flush=True)
        done = 0
        while not done and sys.stdin.readline() == "status\n":
            done, status = os.waitpid(child, os.WNOHANG)
            print("ended" if done else "running", flush=True)
        if done:
            sys.stdin.readline()
        else:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    assert h5py  # imported once, before any fork


def main() -> None:
    """Do jobs until there are no more."""
    if sys.argv[1:] == ["fork"]:
        fork()
    for line in sys.stdin:
        job = Job(**ast.literal_eval(line))
        print("ready", flush=True)
        sys.stdin.readline()
        print(repr(work(job)), flush=True)


if __name__ == "__main__":
    main()
