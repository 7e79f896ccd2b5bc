"""Processes that sweep at the same time, told what to do line by line; they log each point that they compute."""

from __future__ import annotations

import ast
import os
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

HERE = Path(__file__).parents[1]


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


@contextmanager
def started(count: int) -> Iterator[Workers]:
    """Run so many workers until the block ends."""
    command = [sys.executable, "-W", "error", "-m", "tests.workers"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=HERE, **pipes) for _ in range(count)]
    try:
        yield Workers(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def main() -> None:
    """Do jobs until there are no more."""
    for line in sys.stdin:
        job = Job(**ast.literal_eval(line))
        print("ready", flush=True)
        sys.stdin.readline()
        print(repr(work(job)), flush=True)


if __name__ == "__main__":
    main()
