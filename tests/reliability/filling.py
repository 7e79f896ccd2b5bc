"""Line 6: a disk that is full, at sixty points: a limit on the length of files, a small disk, injection.

At each point a sweep must deliver its outputs, with the error or without one; no file under a final name may be
less than whole; and when there is room again the next call stores what is missing, with no hand needed.

    python filling.py FOLDER limit|small|injected COUNT    prints figures as JSON

``small`` must run in a user and mount namespace (``unshare -Urm``), where it mounts a file system in memory.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import faults
import h5py
import oracle
from forking import in_child
from oracle import Sweep

from chunk_memo.disk import chunkfile
from chunk_memo.errors import StoreError

Full = Callable[[], AbstractContextManager[Any]]

WIDTH = 4000
"""Numbers per point: a chunk of four takes 128 kB, the grid of 24 takes 770 kB."""
SMALL = 4 << 20
"""Bytes of the small file system."""


def filled(sweep: Sweep, full: Full) -> dict[str, Any]:
    """Sweep where the disk is full; the outputs are checked, also those that come with the error."""
    with full() as calls:
        try:
            sweep.call()
            told = ""
        except StoreError as error:
            told = type(error).__name__ if error.output is not None else "nothing"
    fired = calls.fired[:1] if calls is not None else []
    return {"told": told, "executed": len(sweep.executed), "fired": fired}


def judged(folder: Path, full: Full, empty: Callable[[], None]) -> str:
    """Fill, hold what is there against the oracle, make room, and run again; return what was told."""
    sweep = Sweep(folder / "root", width=WIDTH)
    ended = in_child(lambda: filled(sweep, full))
    assert ended.code == 0, ended.error
    assert ended.said["told"] == "StoreError", f"the disk was not full, or nobody said so: {ended.said}"
    assert ended.said["executed"] == len(sweep.points), (
        "points were not computed, so they cannot have been delivered"
    )
    for path in sweep.root.rglob("chunks/**/*.h5"):
        chunkfile.verify(path)
    empty()
    again = Sweep(folder / "root", width=WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oracle.check(again, set())
    return str(ended.said["told"])


def limited(count: int) -> Iterator[tuple[Full, Callable[[], None]]]:
    """A limit on the length of files, from nothing to just too little for a chunk."""

    def limit(nbytes: int) -> Full:
        @contextmanager
        def full() -> Iterator[None]:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
            yield
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

        return full

    for number in range(count):
        yield limit(number * 128_000 // count), lambda: None


def injected(count: int) -> Iterator[tuple[Full, Callable[[], None]]]:
    """Full from the n-th call on that could find it so."""

    def from_call(number: int, kind: str) -> Full:
        return lambda: faults.injected(faults.Calls(kind, number, forever=True, only=faults.WRITING))

    for number in range(count):
        yield from_call(2 * number, "ENOSPC" if number % 2 else "EDQUOT"), lambda: None


def small(folder: Path, count: int) -> Iterator[tuple[Full, Callable[[], None]]]:
    """A small file system on which so little is left."""

    def leave(nbytes: int) -> Full:
        def full() -> AbstractContextManager[Any]:
            there = os.statvfs(folder)
            with open(folder / "ballast", "wb") as file:
                file.write(bytes(max(0, there.f_bavail * there.f_frsize - nbytes)))
            return nullcontext()

        return full

    for number in range(count):
        yield leave(number * 700_000 // count), (folder / "ballast").unlink


def fill(folder: Path, how: str, count: int) -> dict[str, Any]:
    """Fill the disk at so many points."""
    if how == "small":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", str(folder)], check=True)
    points = {"limit": limited, "injected": injected}[how](count) if how != "small" else small(folder, count)
    told: Counter[str] = Counter()
    for full, empty in points:
        shutil.rmtree(folder / "root", ignore_errors=True)
        told[judged(folder, full, empty)] += 1
    return {"how": how, "points": told.total(), "delivered": told["StoreError"], "bad files": 0}


def main() -> None:
    """Fill."""
    folder, how, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(json.dumps(fill(folder, how, count)))
    assert h5py  # imported once, before any fork


if __name__ == "__main__":
    main()
