"""Line 1: random SIGKILLs, over eight writers of one root, and over a driver with a pool of processes.

Each writer has chunks of its own, so that whatever is computed twice was lost to a kill. What it computes, and
what a call acknowledged, it notes with one write each. Killed writers are replaced; in the end the store is held
against the oracle.

    python killing.py FOLDER writers|driver KILLS SEED    prints figures as JSON
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
import warnings
from collections import Counter, deque
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from forking import Child, start

from chunk_memo import ChunkCache, run
from chunk_memo.disk import chunkfile
from chunk_memo.upkeep import collect
from chunk_memo.verification import verify

WRITERS = 8
CHUNKS = 40
"""Chunks of a round, which has a cache of its own."""
WIDTH = 300
_LATEST = 0.01
"""Seconds from when something was noted to the next kill, at most."""


def note(folder: Path, *words: object) -> None:
    """Append a line to the log, with one write."""
    handle = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    os.close(handle)


def noted(folder: Path) -> list[list[str]]:
    """Return the lines of the log."""
    path = folder / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class Progress:
    """What was noted so far, read on from where the last look ended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.at = 0
        self.stored: Counter[tuple[int, int]] = Counter()
        """Chunks stored, by slot and round."""
        self.at_work: deque[int] = deque(maxlen=2)
        """The processes that computed last."""

    def look(self) -> int:
        """Take in what is new; return how many lines."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            file.seek(self.at)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self.at += len(data)
        lines = data.decode().splitlines()
        for what, number, x, *rest in map(str.split, lines):
            if what == "stored":
                self.stored[int(x) % WRITERS, int(number)] += 1
            else:
                self.at_work.append(int(rest[0]))
        return len(lines)

    def wait(self, lines: int, child: Child | None = None) -> bool:
        """Wait for so many lines, so that kills hit work, however slow the machine is; False if a child ended."""
        end = time.monotonic() + 120
        while lines > 0:
            lines -= self.look()
            if child is not None and child.has_ended():
                return False
            assert time.monotonic() < end, "nothing goes on any more"
            time.sleep(0.0005)
        return True

    def first_round(self, slot: int) -> int:
        """Return the round in which a writer goes on."""
        share = len(range(slot, CHUNKS, WRITERS))
        return (
            max((n for (one, n), count in self.stored.items() if one == slot and count >= share), default=-1) + 1
        )


def expected(xs: Any) -> Any:
    """Return what is right."""
    return np.add.outer(np.multiply([*xs], 7.0), np.arange(WIDTH))


def opened(folder: Path, number: int) -> ChunkCache:
    """Open the cache of a round."""
    axes = {"x": list(range(CHUNKS))}
    return ChunkCache(folder / "root", f"round{number}", {}, {"x": 1}, axes, verbose=0)


def computed(folder: Path, number: int) -> Any:
    """Return the function of a round, which notes what it computes."""

    def function(x: list[int]) -> Any:
        note(folder, "computed", number, x[0], os.getpid())
        return expected(x)

    return function


def write(folder: Path, slot: int, begin: int) -> None:
    """Compute one chunk after the other, round after round, and look at one of somebody else's now and then."""
    warnings.simplefilter("error")
    dice = random.Random(os.getpid())
    number = begin
    while True:
        cache, function = opened(folder, number), computed(folder, number)
        for x in range(slot, CHUNKS, WRITERS):
            output, _ = run(cache.slice(x=[x]), function)
            assert np.array_equal(expected([x]), output), f"chunk {x} of round {number} is wrong"
            note(folder, "stored", number, x)
            other = dice.randrange(CHUNKS)
            if cache.slice(x=[other]).plan().executed_points == 0:
                output, _ = run(cache.slice(x=[other]), function)
                assert np.array_equal(expected([other]), output), f"chunk {other} of round {number} is wrong"
        number += 1


def kill_writers(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill random writers at random moments."""
    dice = random.Random(seed)
    started = time.monotonic()

    progress = Progress(folder)

    def begin(slot: int) -> Child:
        number = progress.first_round(slot)
        return start(lambda: write(folder, slot, number))

    writers = [begin(slot) for slot in range(WRITERS)]
    for number in range(kills):
        progress.wait(1)
        time.sleep(dice.random() * _LATEST)
        slot = dice.randrange(WRITERS)
        ended = writers[slot].kill()
        assert ended.was_killed, ended.error
        writers[slot] = begin(slot)
        if number % 200 == 100:
            assert 0 == collect(folder / "root").total.temporary, "what is being written was taken for litter"
    for writer in writers:
        assert writer.kill().was_killed
    return {**judged(folder, kills), "seconds": round(time.monotonic() - started, 1)}


def drive(folder: Path, number: int) -> None:
    """Compute rounds with a pool of two processes."""
    warnings.simplefilter("error")
    while True:
        cache = opened(folder, number)
        options = {"workers": 2, "start_method": "fork"}
        output, _ = run(cache, computed(folder, number), map_fn="processes", map_fn_kwargs=options)
        assert np.array_equal(expected(range(CHUNKS)), output)
        for x in range(CHUNKS):
            note(folder, "stored", number, x)
        number += 1


def kill_driver(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a driver, or one of its workers, at random moments."""
    dice = random.Random(seed)
    started = time.monotonic()
    done: Counter[str] = Counter()
    progress = Progress(folder)

    def begin() -> Child:
        number = min(progress.first_round(slot) for slot in range(WRITERS))
        return start(lambda: drive(folder, number))

    driver = begin()
    while done["worker"] + done["driver"] < kills:
        if not progress.wait(dice.randint(1, 6), driver):
            ended = driver.wait()  # a chunk whose worker was killed three times is given up, as it should be
            assert "ChunkLostError" in ended.error or "MapBrokenError" in ended.error, ended.error
            done["given up"] += 1
            driver = begin()
            continue
        time.sleep(dice.random() * _LATEST)
        if progress.at_work and dice.random() < 0.5:
            try:
                os.kill(dice.choice(progress.at_work), 9)
                done["worker"] += 1
            except ProcessLookupError:
                continue
        else:
            # The pipe ends when the workers have seen that their driver is gone, and have gone, too.
            ended = driver.kill()
            assert ended.was_killed, ended.error
            done["driver"] += 1
            driver = begin()
    assert driver.kill().was_killed
    return {**judged(folder, kills), **done, "seconds": round(time.monotonic() - started, 1)}


def judged(folder: Path, kills: int) -> dict[str, Any]:
    """Hold the store against the oracle."""
    lines = noted(folder)
    acknowledged = {(int(number), int(x)) for what, number, x, *_ in lines if what == "stored"}
    times = Counter((int(number), int(x)) for what, number, x, *_ in lines if what == "computed")
    again = sum(count - 1 for count in times.values())
    assert again <= kills, f"{again} chunks were computed again after {kills} kills"
    executed = 0
    rounds = max((number for number, _ in times), default=0) + 1
    there: set[tuple[int, int]] = set()
    for number in range(rounds):
        for path in (folder / "root" / f"round{number}").rglob("chunks/**/*.h5"):
            chunkfile.verify(path)
            with chunkfile.load(path) as chunk:
                there.add((number, int(chunk.coords("x")[0])))
    assert not acknowledged - there, f"acknowledged chunks are lost: {sorted(acknowledged - there)[:5]}"
    for number in range(rounds):
        cache = opened(folder, number)
        mine: list[int] = []

        def function(x: list[int], mine: list[int] = mine) -> Any:
            mine.extend(x)
            return expected(x)

        output, _ = run(cache, function)
        assert np.array_equal(expected(range(CHUNKS)), output)
        assert not there & {(number, x) for x in mine}, "a stored chunk was computed again"
        executed += len(mine)
    litter = collect(folder / "root", grace=0).total.temporary
    found = verify(folder / "root")
    assert found.is_intact, found.findings
    assert () == found.findings, found.findings
    return {
        "kills": kills,
        "stored": len(there),
        "acknowledged": len(acknowledged),
        "lost": 0,
        "wrong": 0,
        "computed again": again,
        "unfinished files": litter,
        "rounds": rounds,
    }


def main() -> None:
    """Kill."""
    folder, who, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(json.dumps({"writers": kill_writers, "driver": kill_driver}[who](folder, kills, seed)))
    assert h5py  # imported once, before any fork


if __name__ == "__main__":
    main()
