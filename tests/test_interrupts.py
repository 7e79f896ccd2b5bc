"""Ctrl-C, which a terminal sends to every process of a program: the run ends, what is stored stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CHUNKS = 40

PROGRAM = """
import sys, threading
from pathlib import Path
from chunk_memo import ChunkCache, run
import clusters

root, log, where, chunks = sys.argv[1:]

def slow(x):
    with open(log, "a") as file:
        file.write(f"{x[0]}\\n")
    threading.Event().wait(0.05)
    return [2 * i for i in x]

def sweep(map_fn):
    cache = ChunkCache(root, "some", {}, {"x": 1}, {"x": range(int(chunks))}, verbose=0)
    output, diagnostics = run(cache, slow, map_fn=map_fn, map_fn_kwargs=workers)
    print(sum(output), diagnostics.executed_points)

workers = {"workers": 2} if where == "processes" else {"n_jobs": 2} if where == "joblib" else None
if where == "dask":
    with clusters.dask_client() as client:
        sweep(client)
elif where == "ray":
    with clusters.ray_started():
        sweep("ray")
else:
    sweep(None if where == "serial" else where)
"""


@pytest.mark.parametrize("where", ["serial", "threads", "processes", "joblib", "dask", "ray"])
def test_ctrl_c_and_the_same_again(tmp_path: Path, where: str) -> None:
    """The program ends by KeyboardInterrupt with a note; started again it computes what is missing."""
    root, log = tmp_path / "root", tmp_path / "log"
    command = [sys.executable, "-c", PROGRAM, str(root), str(log), where, str(CHUNKS)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=pipe, stderr=pipe, text=True
    ) as process:
        while len(list(root.rglob("*.h5"))) < 5:
            assert process.poll() is None, process.communicate()[1]
            threading.Event().wait(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (-signal.SIGINT, "") == (process.returncode, out), error[-2000:]
    assert "KeyboardInterrupt" in error
    assert "interrupted: finished chunks are kept, and the same call goes on from there" in error
    begun = len(log.read_text().split())
    assert begun < CHUNKS
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    total, executed = map(int, done.stdout.split())
    assert CHUNKS * (CHUNKS - 1) == total
    stored_before = CHUNKS - executed
    assert 5 <= stored_before <= begun
    assert len(log.read_text().split()) == begun + executed
