"""Line 2 once more, from outside: strace injects the faults into the system calls themselves.

A child that has imported everything waits at a gate until strace is attached, so that a case takes no longer than
the work in it. A first run without faults says which calls touch the store, and which number each has among those
of its name; then each of them fails, or ends the child, in turn. strace says itself what it injected.

    python tracing.py FOLDER SCENARIO all|rotate [STRIDE]    prints figures as JSON
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import oracle
from faults import Calls
from forking import Ended, start
from injecting import SCENARIOS, Scenario, acted, judged
from oracle import Point, Sweep

WRITING = ("fsync", "link", "linkat", "mkdir", "mkdirat", "rename", "renameat", "write", "writev", "pwrite64")
READING = (
    "read",
    "pread64",
    "readv",
    "preadv",
    "getdents64",
    "newfstatat",
    "lseek",
    "unlink",
    "unlinkat",
    "rmdir",
)
CALLS = (*WRITING, *READING, "openat", "close")
_LINE = re.compile(r"^\d+ +(\w+)\((.*)")


def traced(folder: Path, scenario: Scenario, template: Path, inject: str) -> tuple[Ended, list[str]]:
    """Disturb a copy of a prepared store from outside; return how the child ended, and what strace saw."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    log = folder.with_name("trace")
    gate, opening = os.pipe()
    child = start(lambda: acted(scenario, Sweep(folder / "root", **scenario.sweep), Calls()), gate)
    command = ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    command += ["-e", f"inject={inject}"] if inject else []
    with subprocess.Popen([*command, "-p", str(child.pid)], stderr=subprocess.PIPE, text=True) as tracer:
        while not tracing(child.pid) and tracer.poll() is None:
            pass  # where strace ended, its fault hit the gate itself, or nothing: either way it is missed
        os.write(opening, b".")
        os.close(opening)
        os.close(gate)
        ended = child.wait()
        tracer.wait()
    return ended, log.read_text(errors="replace").splitlines()


def tracing(pid: int) -> bool:
    """Whether somebody traces a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return re.search(r"^TracerPid:\s+[1-9]", status, re.M) is not None


def calls_of(lines: Sequence[str], folder: Path) -> Iterator[tuple[str, int]]:
    """Iterate over the calls that touch the store: the name of each, and its number among those of its name."""
    numbers: Counter[str] = Counter()
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        numbers[found[1]] += 1
        if str(folder) in found[2]:
            yield found[1], numbers[found[1]]


def faults_of(name: str) -> list[str]:
    """Return what may be injected into a call."""
    return ["signal=KILL", "error=EIO", *(("error=ENOSPC", "error=EDQUOT") if name in WRITING else ())]


def disturb(folder: Path, name: str, how: str, stride: int) -> dict[str, Any]:
    """Let faults happen at each call of a scenario; return how many cases there were."""
    scenario = SCENARIOS[name]
    template = folder / "template"
    for place in (folder / "warm", template):  # the first one, so that everything is imported in the parent
        place.mkdir(parents=True)
        done = scenario.prepare(Sweep(place / "root", **scenario.sweep))
        if place == template:
            before = set(done)
        else:
            acted(scenario, Sweep(place / "root", **scenario.sweep), Calls())
    ended, lines = traced(folder / "case", scenario, template, "")
    assert ended.code == 0, ended.error
    cases: Counter[str] = Counter()
    missed = 0
    calls = [*calls_of(lines, folder / "case")]
    chosen = [
        (call, number, fault)
        for index, (call, number) in enumerate(calls)
        for turn, fault in enumerate(faults_of(call))
        if how == "all" or index % len(faults_of(call)) == turn
    ]
    for call, number, fault in chosen[::stride]:
        case = f"{name}, {fault} at {call} number {number}"
        ended, lines = traced(folder / "case", scenario, template, f"{call}:{fault}:when={number}")
        inside = [line for line in lines if str(folder / "case") in line]
        fired = any("(INJECTED)" in line for line in inside) or (ended.was_killed and bool(inside))
        if not fired:  # the order in which a folder is listed is not always the same
            missed += 1
            continue
        assert ended.was_killed or ended.code == 0, f"{case}: {ended.error}"
        acknowledged: set[Point] = set() if ended.was_killed else oracle.as_points(ended.said["acknowledged"])
        judged(scenario, folder / "case", before | acknowledged, case)
        cases[fault] += 1
    assert missed <= len(chosen) // 10, f"{missed} of {len(chosen)} faults did not fire"
    return {"calls": len(calls), "cases": cases, "missed": missed}


def main() -> None:
    """Trace one scenario."""
    folder, name, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(disturb(folder, name, how, int(*sys.argv[4:]) if sys.argv[4:] else 1)))
    assert h5py  # imported once, before any fork


if __name__ == "__main__":
    main()
