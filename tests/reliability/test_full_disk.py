"""A full disk, at sixty points: the outputs are delivered, no bad file is left, and the next run works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from forking import ENVIRONMENT, HERE, program

FULL = {"points": 20, "delivered": 20, "bad files": 0}


@pytest.mark.parametrize("how", ["limit", "injected"])
def test_points(tmp_path: Path, how: str) -> None:
    """20 limits on the length of files (RLIMIT_FSIZE), and 20 calls from which on the disk is full."""
    assert {"how": how, **FULL} == program("filling", tmp_path / "store", how, 20)


def test_a_small_file_system(tmp_path: Path) -> None:
    """20 states of a file system of 4 MB, in a namespace of its own, where that may be made."""
    namespace = ["unshare", "-Urm"]
    try:
        tried = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed, so no small file system can be mounted")
    if tried.returncode:
        pytest.skip(f"no small file system can be mounted here: {tried.stderr.strip()}")
    program_of = [sys.executable, "-W", "error", str(HERE / "filling.py"), str(tmp_path / "store"), "small", "20"]
    command = [*namespace, *program_of]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False)
    if "mount: " in done.stderr:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip().splitlines()[0]}")
    assert 0 == done.returncode, done.stderr[-4000:]
    assert {"how": "small", **FULL} == json.loads(done.stdout.splitlines()[-1])
