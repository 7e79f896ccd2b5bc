"""Many processes on one store, and kills at random moments: each run once, no record without its whole file.

The programs run in processes of their own and note each run in a file, with one write.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import PostgresIndex, SQLiteIndex, Store

MANY = """
import json, os, random, sys
from chunk_memo import Store

settings = json.loads(sys.argv[1])

def runner(params, result_path):
    handle = os.open(settings["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(handle, f"{params['n']}\\n".encode())
    os.close(handle)
    result_path.write_text(str(params["n"] ** 2))

store = Store(settings["results"], settings["index"])
dice = random.Random(int(sys.argv[2]))
for _ in range(settings["calls"]):
    n = dice.randrange(settings["distinct"])
    record = store.run_or_retrieve({"n": n, "x": 0.1 * n}, runner)
    assert str(n ** 2) == record.result_path.read_text()
# What was not asked for by chance is asked for in the end, by all at once.
for n in range(settings["distinct"]):
    store.run_or_retrieve({"n": n, "x": 0.1 * n}, runner)
"""

KILLED = """
import json, os, random, signal, sys, time
from chunk_memo import Store

settings = json.loads(sys.argv[1])
dice = random.Random(settings["kills"])

def body(n):
    return b"%d:" % n + b"x" * (n % 7 * 30_000) + b":end"

def runner(params, result_path):
    with open(result_path, "wb") as file:
        for at in range(0, len(body(params["n"])), 20_000):
            file.write(body(params["n"])[at : at + 20_000])
            file.flush()

def opened():
    return Store(settings["results"], settings["index"])

def work(first):
    store = opened()
    for n in range(first, 1_000_000):
        store.run_or_retrieve({"n": n}, runner)
        store.retrieve({"n": n // 2})

def whole():
    store = opened()
    runs = store.list()
    for run in runs:
        assert body(run.params["n"]) == run.result_path.read_bytes(), run
    store.index.close()
    return len(runs)

store, started = opened(), time.perf_counter()
for n in range(-5, 0):
    store.run_or_retrieve({"n": n}, runner)
span = 3 * (time.perf_counter() - started)  # what some fifteen runs take here and now
store.index.close()
for kill in range(settings["kills"]):
    child = os.fork()
    if child == 0:
        work(kill * 1000)
    time.sleep(dice.random() * span)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if kill % 10 == 9:
        whole()
found = whole()
store = opened()
store.run_or_retrieve({"n": 1_000_000}, runner)
named = {run.result_path.name for run in store.list()}
there = {path.name for path in store.results_dir.iterdir()}
assert named <= there
scraps = [path.name for path in (store.results_dir / ".runs").glob("*")]
assert {*scraps} <= {"leases", "notes"}, scraps  # of claims and notes scraps of some bytes may last an hour
assert [] == list((store.results_dir / ".runs" / "notes").glob("*.json"))
there.discard(".runs")
assert store.verify() == []
print(json.dumps({"records": found - 5, "files without a record": len(there - named)}))
"""


def start(program: str, settings: dict[str, Any], *words: str) -> subprocess.Popen[str]:
    """Start a program whose warnings are errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, json.dumps(settings), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(program: subprocess.Popen[str], patience: float = 240) -> str:
    """Return what a program prints."""
    out, errors = program.communicate(timeout=patience)
    assert (0, "") == (program.returncode, errors)
    return out


def storm(folder: Path, index: str, processes: int, calls: int, distinct: int) -> None:
    """Let processes ask for the same runs; each is made once, and there is one record of each."""
    log = folder / "log"
    settings = {
        "results": str(folder / "results"),
        "index": index,
        "log": str(log),
        "calls": calls,
        "distinct": distinct,
    }
    programs = [start(MANY, settings, str(number)) for number in range(processes)]
    for program in programs:
        ended(program, 1200)
    assert list(range(distinct)) == sorted(int(line) for line in log.read_text().splitlines())
    store = Store(folder / "results", index)
    assert list(range(distinct)) == sorted(run.params["n"] for run in store.list())
    assert distinct == len(list(store.results_dir.iterdir()))
    assert isinstance(store.index, PostgresIndex | SQLiteIndex)
    store.index.close()


def kills(folder: Path, index: str, count: int) -> dict[str, int]:
    """Kill a process that makes runs at random moments; return what is left."""
    settings = {"results": str(folder / "results"), "index": index, "kills": count}
    said: dict[str, int] = json.loads(ended(start(KILLED, settings), 1200))
    assert said["records"] > 0, "no kill came late enough"
    assert said["files without a record"] == 0, said
    return said


@pytest.fixture(params=["sqlite", "postgres"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a db_path: a file, or the URL of a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "runs.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


def test_many_processes_run_each_once(tmp_path: Path, index: str) -> None:
    """Of many processes that ask for equal params one runs, and there is one record, without an error."""
    storm(tmp_path, index, processes=3, calls=60, distinct=30)


@pytest.mark.long
def test_many_processes_run_each_once_long(tmp_path: Path, index: str) -> None:
    """The same with 8 processes of 200 calls each over 100 distinct params."""
    storm(tmp_path, index, processes=8, calls=200, distinct=100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_leave_no_record_without_its_file(tmp_path: Path, index: str) -> None:
    """After ``kill -9`` at a random moment each record has its whole file, and remains are removed."""
    kills(tmp_path, index, 15)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_leave_no_record_without_its_file_long(tmp_path: Path, index: str) -> None:
    """The same at 200 random moments."""
    print(kills(tmp_path, index, 200), "after 200 kills")
