"""Kills (SIGKILL) at random moments of an experiment that saves checkpoints and logs: nothing told is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workers import ENVIRONMENT, HERE


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill the experiment so many times; return what was seen."""
    command = [sys.executable, "-W", "error", str(HERE / "lab_kills.py"), str(folder), str(count), str(seed)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], count: int) -> None:
    """Assert that nothing was lost, and that the kills did hit experiments at work."""
    assert 0 == found["lost"]
    assert 0 == found["wrong"]
    assert [True, True] == found["same"]
    assert found["logged"]
    assert [] == found["left over"]
    assert 2 == found["kept"]
    assert found["lives with a checkpoint"] > count // 2
    assert found["starts"] > count // 2


def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    """The latest checkpoint loads after each kill, finished log lines are JSON, the end is bit-identical."""
    check(kills(tmp_path, 20, 1), 20)


@pytest.mark.long
def test_nothing_is_lost_by_kills_long(tmp_path: Path) -> None:
    """The same after 200 kills, and after 800 more."""
    check(kills(tmp_path / "a", 200, 2), 200)
    check(kills(tmp_path / "b", 800, 3), 800)
