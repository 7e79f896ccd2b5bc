"""Kills at random moments: of the caller, of workers, of processes that share. Nothing that was done is lost.

The programs run in processes of their own and note each call of the function in a file, with one write.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, signal, sys, time
import numpy as np
from chunk_memo import ChunkCache, run, run_streaming

settings = json.loads(sys.argv[1])

def swept(x, y):
    handle = os.open(settings["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(handle, f"{os.getpid()} {x[0]} {y[0]}\\n".encode())
    os.close(handle)
    time.sleep(settings["seconds"])
    return np.add.outer(np.multiply(10.0, x), y)

rows, columns = settings["shape"]
axes = {"x": list(range(rows)), "y": list(range(columns))}
cache = ChunkCache(settings["root"], "kills", {}, {"x": 1, "y": 2}, axes, verbose=0)
output, done = run(cache, swept, **settings["options"])
assert np.array_equal(np.add.outer(np.multiply(10.0, axes["x"]), axes["y"]), output)
print(json.dumps({"executed": done.executed_chunks, "cached": done.cached_points}))
"""


class Sweep:
    """A sweep over a folder, by programs that may be killed."""

    def __init__(self, folder: Path, shape: tuple[int, int], seconds: float, **options: Any) -> None:
        self.log = folder / "log"
        self.shape = shape
        self.settings = {
            "root": str(folder / "root"),
            "log": str(self.log),
            "shape": shape,
            "seconds": seconds,
            "options": options,
        }

    def start(self) -> subprocess.Popen[str]:
        """Start the program in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(self.settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> dict[str, int]:
        """Run the program to its end; return what it says."""
        return self.ended(self.start())

    @staticmethod
    def ended(program: subprocess.Popen[str]) -> dict[str, int]:
        """Return what a program says at its end."""
        out, errors = program.communicate(timeout=240)
        assert 0 == program.returncode, errors
        said: dict[str, int] = json.loads(out)
        return said

    def calls(self) -> list[tuple[int, str]]:
        """Return process and chunk of each call so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(pid), f"{x} {y}") for pid, x, y in (line.split() for line in lines)]

    def again(self) -> collections.Counter[str]:
        """Return how often chunks were computed more than once."""
        counted = collections.Counter(chunk for _, chunk in self.calls())
        chunks = self.shape[0] * self.shape[1] // 2
        assert chunks == len(counted)
        return counted - collections.Counter(counted.keys())

    def wait_for_calls(self, count: int, program: subprocess.Popen[str]) -> None:
        """Wait until so many calls were made, or the program has ended."""
        while len(self.calls()) < count and program.poll() is None:
            time.sleep(0.002)


def kill_the_caller(folder: Path, kills: int, map_fn: str | None, workers: int) -> int:
    """Kill the caller again and again at a random moment; return how many chunks were computed twice."""
    kwargs = {"workers": workers} if map_fn else {}
    sweep = Sweep(folder, (8 * kills, 4), 0.002, map_fn=map_fn, map_fn_kwargs=kwargs)
    dice, killed = random.Random(kills), 0
    while killed < kills:
        program = sweep.start()
        sweep.wait_for_calls(len(sweep.calls()) + dice.randint(1, 12), program)
        time.sleep(dice.random() * 0.02)
        if program.poll() is None:
            program.kill()
            killed += 1
        program.communicate()
    sweep.finish()
    twice = sweep.again()
    # Chunks go out in batches of a fifth of a second, and each worker may hold one batch more than it is at.
    assert twice.total() <= kills * workers * 8, f"{twice.total()} chunks were computed again after {kills} kills"
    assert 0 == sweep.finish()["executed"]
    return twice.total()


@pytest.mark.parametrize(("map_fn", "workers"), [(None, 1), ("processes", 2)])
def test_the_caller_is_killed(tmp_path: Path, map_fn: str | None, workers: int) -> None:
    """After ``kill -9`` of the caller the next run computes what was in flight, and nothing else again."""
    kill_the_caller(tmp_path, 4, map_fn, workers)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("map_fn", "workers"), [(None, 1), ("processes", 2)])
def test_the_caller_is_killed_long(tmp_path: Path, map_fn: str | None, workers: int) -> None:
    """The same at 100 random moments."""
    print(kill_the_caller(tmp_path, 100, map_fn, workers), "computed again after 100 kills of the caller")


def kill_workers(folder: Path, kills: int) -> int:
    """Kill a random worker so many times while one run goes on; return how many chunks were computed twice."""
    sweep = Sweep(folder, (10 * kills, 8), 0.004, map_fn="processes", map_fn_kwargs={"workers": 2})
    dice, killed = random.Random(kills), 0
    program = sweep.start()
    while killed < kills and program.poll() is None:
        seen = len(sweep.calls())
        sweep.wait_for_calls(seen + dice.randint(1, 40), program)
        recent = [pid for pid, _ in sweep.calls()[-2:]]
        if recent and program.poll() is None:
            try:
                os.kill(dice.choice(recent), signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed += 1
    sweep.ended(program)
    assert kills == killed, "the run was over before all kills were done"
    twice = sweep.again()
    assert twice.total() <= kills, f"{twice.total()} chunks were computed again after {kills} killed workers"
    assert 0 == sweep.finish()["executed"]
    return twice.total()


def test_workers_are_killed(tmp_path: Path) -> None:
    """A killed worker costs the chunk that it was at; the run goes on and returns everything."""
    kill_workers(tmp_path, 5)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_workers_are_killed_long(tmp_path: Path) -> None:
    """The same with 100 kills."""
    print(kill_workers(tmp_path, 100), "computed again after 100 killed workers")


def share(folder: Path, processes: int, rows: int, kills: int) -> int:
    """Let processes share a sweep, kill some; return how many chunks were computed twice."""
    sweep = Sweep(folder, (rows, 10), 0.004, share=True)
    dice = random.Random(kills)
    programs = [sweep.start() for _ in range(processes)]
    for number in range(kills):
        sweep.wait_for_calls((number + 1) * rows * 5 // (kills + 2), programs[-1])
        victim = dice.randrange(processes - 1)
        programs[victim].kill()
        programs[victim].communicate()
        programs[victim] = sweep.start()
    for program in programs:
        Sweep.ended(program)
    assert not (folder / "root" / "kills" / "leases").exists()
    return sweep.again().total()


def test_processes_share_a_sweep(tmp_path: Path) -> None:
    """Each chunk is computed by one of them, and all return the whole result."""
    assert share(tmp_path, 4, 40, kills=0) <= 4


def test_processes_that_share_are_killed(tmp_path: Path) -> None:
    """What the dead had claimed is taken over; nothing else is computed again."""
    assert share(tmp_path, 3, 30, kills=3) <= 3 + 3


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_processes_share_a_sweep_long(tmp_path: Path) -> None:
    """Eight processes over 2,000 chunks, without kills and with 20."""
    (tmp_path / "quiet").mkdir()
    (tmp_path / "killed").mkdir()
    quiet = share(tmp_path / "quiet", 8, 400, kills=0)
    killed = share(tmp_path / "killed", 8, 400, kills=20)
    print(f"{quiet} of 2000 chunks computed twice without kills, {killed} with 20 kills")
    assert quiet <= 40
    assert killed <= 40 + 20
