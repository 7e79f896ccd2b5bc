"""The file by which a run shows that it lives: when it is there, what it says, that it is never in the way."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from terminals import Program

from chunk_memo import ChunkCache, run
from chunk_memo.display import heartbeat, ticker
from chunk_memo.display.heartbeat import Heartbeat, beats
from chunk_memo.events import ChunkDone, Event, PointFailed, RunFinished, RunStarted

ENDS = {
    "complete": RunFinished(1.0, complete=True),
    "interrupted": RunFinished(1.0, complete=False, interrupted=True, error=KeyboardInterrupt()),
    "failed": RunFinished(1.0, complete=False, error=ValueError("boom\nand more")),
    "finished": RunFinished(1.0, complete=False, failed_points=2),
}


def cache_folder(root: Path, name: str = "id") -> Path:
    """Make the folder of a cache."""
    (root / name).mkdir(parents=True, exist_ok=True)
    return root / name


def started(folder: Path, name: str = "foo") -> RunStarted:
    """Return the event of a run of ten points, of which two are stored."""
    return RunStarted(name, folder.name, 5, 10, 2, path=str(folder), started_at=10**18, map="processes")


def beating(folder: Path, *events: Event, name: str = "foo") -> Heartbeat:
    """Return the heartbeat of a run that has beaten once."""
    beat = Heartbeat()
    for event in (started(folder, name), *events):
        beat(event)
    beat.beat()
    return beat


def documents(root: Path) -> list[dict[str, Any]]:
    """Return what the files of a root say."""
    return [json.loads(path.read_text()) for path in sorted(root.glob("*/runs/*.json"))]


def test_the_file_tells_how_far_a_run_is(tmp_path: Path) -> None:
    """Who runs what, points, chunks, rate, and what went wrong last."""
    beat = beating(
        cache_folder(tmp_path), ChunkDone("a", 4, 1.0, 10), PointFailed("b", {}, ValueError("boom"), 2)
    )
    (found,) = documents(tmp_path)
    known = {
        "name": "foo",
        "cache_id": "id",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "state": "running",
        "map": "processes",
        "started_at": "2001-09-09T01:46:40.000+00:00",
        "points": {"total": 10, "cached": 2, "done": 4, "failed": 2},
        "chunks": {"total": 5, "done": 1},
        "last_error": "ValueError: boom",
    }
    assert known == {name: found[name] for name in known}
    assert {"updated_at", "seconds", "points_per_second", "seconds_to_go"} == set(found) - set(known)
    (read,) = beats(tmp_path)
    assert ("foo", "id", 10, 2, 4, 2, 60) == (
        *(read.name, read.cache_id, read.total, read.cached, read.done, read.failed, read.percent),
    )
    assert (False, False, "ValueError: boom") == (read.is_gone, read.is_silent, read.error)
    beat(ENDS["complete"])


@pytest.mark.parametrize("end", ENDS)
def test_the_file_goes_where_all_went_well_and_stays_elsewhere(end: str, tmp_path: Path) -> None:
    """It says how the run ended, until the next one of its cache succeeds."""
    folder = cache_folder(tmp_path)
    beating(folder)(ENDS[end])
    states = [found["state"] for found in documents(tmp_path)]
    assert ([] if end == "complete" else [end]) == states
    assert (end != "complete") == (folder / "runs").exists()
    if end == "failed":
        assert "ValueError: boom" == documents(tmp_path)[0]["last_error"]
    short = Heartbeat()
    short(started(folder))
    short(ENDS["failed"])
    assert states == [found["state"] for found in documents(tmp_path)]
    short(started(folder))
    short(ENDS["complete"])
    assert [] == list(folder.iterdir())


def test_a_success_leaves_the_files_of_others_that_run(tmp_path: Path) -> None:
    """Of this process and of other hosts; what cannot go on any more is removed."""
    folder = cache_folder(tmp_path)
    other = beating(folder, name="other")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (path,) = (folder / "runs").iterdir()
    known = json.loads(path.read_text())
    long_ago = (datetime.now(UTC) - timedelta(days=1, seconds=1)).isoformat()
    changes: dict[str, dict[str, Any]] = {
        "gone": {"pid": child.pid},
        "elsewhere": {"pid": child.pid, "host": "elsewhere"},
        "old": {"updated_at": long_ago, "host": "elsewhere"},
        "interrupted": {"state": "interrupted"},
    }
    for name, change in changes.items():
        (folder / "runs" / f"{name}.json").write_text(json.dumps({**known, "name": name, **change}))
    (folder / "runs" / "damaged.json").write_text("{")
    found = {beat.name: beat.is_gone for beat in beats(tmp_path)}
    assert {"other": False, "gone": True, "elsewhere": False, "interrupted": False} == found
    beating(folder)(ENDS["complete"])
    assert ["elsewhere", "other"] == [beat.name for beat in sorted(beats(tmp_path), key=lambda beat: beat.name)]
    other(ENDS["complete"])


def failing(error: OSError) -> Callable[..., Any]:
    """Return a system call that fails, and counts how often."""

    def fails(*given: Any, **options: Any) -> Any:
        fails.calls += 1  # type: ignore[attr-defined]
        raise error

    fails.calls = 0  # type: ignore[attr-defined]
    return fails


@pytest.mark.parametrize("call", ["mkdir", "open", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_where_it_cannot_be_written_nobody_is_told(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or read-only disk makes no difference but that there is no file, not even half of one."""
    folder = cache_folder(tmp_path)
    fault = failing(OSError(code, os.strerror(code)))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fault)
        beat = beating(folder)
    assert 1 == fault.calls  # type: ignore[attr-defined]
    assert [] == documents(tmp_path)
    beat.beat()
    assert 1 == len(documents(tmp_path))
    beat(ENDS["complete"])


def test_a_cache_that_was_deleted_meanwhile_stays_deleted(tmp_path: Path) -> None:
    """The folder does not come back because somebody was still computing for it."""
    folder = cache_folder(tmp_path)
    beat = beating(folder)
    for path in (*(folder / "runs").iterdir(), folder / "runs"):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
    beat.beat()
    beat(ENDS["interrupted"])
    assert [] == list(tmp_path.iterdir())


def test_a_run_beats_while_its_only_chunk_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again; afterwards the cache takes four inodes as if nothing had been."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.0)
    cache = ChunkCache(tmp_path, "id", axis_values={"s": [1, 2]}, name="foo", verbose=0)
    seen: set[str] = set()

    def waits(s: list[int]) -> list[int]:
        tick = threading.Event()
        while len(seen) < 3:
            seen.update(found["updated_at"] for found in documents(tmp_path))
            tick.wait(0.01)
        return s

    run(cache, waits)
    assert 3 == len(seen)
    assert 4 == len([tmp_path / "id", *(tmp_path / "id").rglob("*")])


def test_warm_and_short_runs_make_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever written for them; a call that only reads does not even begin to count."""
    written: list[Any] = []
    monkeypatch.setattr(heartbeat, "_write", lambda *given: written.append(given))
    cache = ChunkCache(tmp_path, "id", axis_values={"s": [1, 2]}, name="foo", verbose=0)
    run(cache, lambda s: s)
    made: list[Any] = []
    monkeypatch.setattr(ticker, "every", lambda *given: made.append(given))
    run(cache, lambda s: s)
    assert ([], []) == (written, made)


def test_ctrl_c_is_told(tmp_path: Path) -> None:
    """Interrupted in the middle of a chunk a run says so, from another process."""
    code = """
import sys, threading
from chunk_memo import ChunkCache, run
from chunk_memo.display import heartbeat
heartbeat.INTERVAL = 0.0
cache = ChunkCache(sys.argv[1], "id", axis_values={"s": [1, 2]}, name="foo", verbose=0)
def stuck(s):
    threading.Event().wait(600)
run(cache, stuck)
"""
    with Program(code, 80, str(tmp_path)) as program:
        program.until(lambda: [beat.state for beat in beats(tmp_path)] == ["running"])
        program.interrupt()
        assert 0 != program.ended()
        assert "the same call goes on from there" in program.written
    (beat,) = beats(tmp_path)
    assert ("interrupted", False, 0) == (beat.state, beat.is_gone, beat.done)
