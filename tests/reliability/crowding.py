"""Line 5: many processes in one root, reading, writing, superseding, collecting garbage and verifying at once.

python crowding.py FOLDER PROCESSES SECONDS    prints figures as JSON
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from forking import start
from oracle import value

from chunk_memo import ChunkCache, run
from chunk_memo.upkeep import collect
from chunk_memo.verification import verify

XS, YS = 20, 10
_LONGEST = 30.0
"""Seconds that one operation may take, on a machine that does nothing else."""


def live(folder: Path, end: float) -> dict[str, Any]:
    """Do one thing after another at random until the time is over; count what was done."""
    warnings.simplefilter("error")
    dice = random.Random(os.getpid())
    done: Counter[str] = Counter()
    longest = 0.0
    root = folder / "root"

    def function(x: list[int], y: list[int]) -> Any:
        done["chunks computed"] += 1
        return value(x, y)

    while (now := time.monotonic()) < end:
        # New caches come all the time, or soon there would be nothing left to write.
        name = f"c{int(now) // 2 % 1000}-{dice.randrange(2)}"
        axes = {"x": list(range(XS)), "y": list(range(YS))}
        cache = ChunkCache(root, name, {}, {"x": 4, "y": 5}, axes, verbose=0)
        xs, ys = dice.sample(range(XS), dice.randint(1, 8)), dice.sample(range(YS), dice.randint(1, 5))
        what = dice.random()
        if what < 0.93:
            output, told = run(cache.slice(x=xs, y=ys), function)
            assert np.array_equal(value(xs, ys), output), f"wrong output of {name} for {xs}, {ys}"
            done["reads" if told.executed_points == 0 else "writes"] += 1
        elif what < 0.95:
            cache.invalidate(x=xs[:1])
            done["invalidated"] += 1
        elif what < 0.97:
            collect(root)
            done["gc"] += 1
        else:
            found = verify(root, subset=(dice.randint(1, 8), 8))
            assert found.is_intact, found.findings
            done["verify"] += 1
        longest = max(longest, time.monotonic() - now)
    return {**done, "longest": longest}


def crowd(folder: Path, processes: int, seconds: float) -> dict[str, Any]:
    """Let them all live at once; return what they did together."""
    end = time.monotonic() + seconds
    children = [start(lambda: live(folder, end)) for _ in range(processes)]
    ended = [child.wait() for child in children]
    errors = [each.error for each in ended if each.code]
    assert not errors, f"{len(errors)} of {processes} met an error, such as:\n{errors[0]}"
    total: Counter[str] = Counter()
    for each in ended:
        total.update({name: count for name, count in each.said.items() if name != "longest"})
    found = verify(folder / "root")
    assert found.is_intact, found.findings
    assert not [each for each in found.findings if each.kind != "part"], found.findings
    longest = round(max(each.said["longest"] for each in ended), 2)
    return {"processes": processes, "seconds": seconds, **total, "wrong": 0, "errors": 0, "longest": longest}


def main() -> None:
    """Crowd."""
    folder, processes, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    if sys.argv[4:] != ["keep"]:
        shutil.rmtree(folder, ignore_errors=True)
    (folder / "root").mkdir(parents=True, exist_ok=True)
    print(json.dumps(crowd(folder, processes, seconds)))
    assert h5py  # imported once, before any fork


if __name__ == "__main__":
    main()
