"""Maps: what it is worth that workers store by themselves, and whether cost and memory stay flat."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.apart import TAIL, figures_of
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned

__all__ = ["driver_memory", "large_chunks", "many_chunks", "run"]

TITLE = "Maps"
MEMORY = 150e6
BOUND = 0.7
FLAT = 1.3
CHUNK = 8 << 20

_LARGE = (
    """
import sys, time
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import numpy as np
from chunk_memo import ChunkCache, run_parallel, run_streaming
root, chunks, size, by_value = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "by value"

def block(x):
    return np.full((len(x), size // 8), x[0], dtype=np.float64)

cache = ChunkCache(root, "large", {}, {"x": 1}, {"x": list(range(chunks))}, verbose=0, durability="fast")
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    list(pool.map(abs, range(4)))
    start = time.perf_counter()
    _, done = run_parallel(cache, exec_fn=block, map_fn=pool, return_output=False, by_value=by_value)
    figures = {"seconds": time.perf_counter() - start, "executed": done.executed_points}
"""
    + TAIL
)

_MANY = (
    """
import contextlib, subprocess, sys, time
from chunk_memo import ChunkCache, run_streaming
root, chunks, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def trivial(x, y):
    return x

@contextlib.contextmanager
def started():
    # a scheduler and two workers, in processes of their own as on a cluster: the memory is the caller's alone
    if where != "dask":
        yield
        return
    from distributed import Client
    file = root + "-scheduler.json"
    options = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        for role, more in (("scheduler", ["--port", "0"]), ("worker", ["--nworkers", "2", "--nthreads", "1"])):
            command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *options, *more]
            process = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(process.terminate)
        with Client(scheduler_file=file, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield

if __name__ == "__main__":
    axes = {"x": list(range(chunks // 50)), "y": list(range(50))}
    cache = ChunkCache(root, "many", {}, {"x": 1, "y": 1}, axes, verbose=0, durability="fast")
    with started():
        start = time.perf_counter()
        done = run_streaming(cache, trivial, map_fn=where)
        figures = {"seconds": time.perf_counter() - start, "executed": done.executed_points}
"""
    + TAIL
)


def _large(folder: Path, chunks: int, size: int, how: str) -> dict[str, float]:
    root = folder / "cache"
    found = figures_of(_LARGE, root, chunks, size, how)
    assert chunks == found["executed"]
    shutil.rmtree(root)
    return found


def large_chunks(folder: Path, chunks: int, size: int = CHUNK) -> Case:
    """Compute large chunks on two workers, against arrays that are sent back and stored by the caller.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    chunks, size : int
        How many chunks, and bytes in each.

    Returns
    -------
    Case
        The seconds of both ways.
    """
    return Case(
        f"{chunks} chunks of {size / 2**20:.0f} MB on 2 workers, no syncing: seconds",
        lambda: _large(folder, chunks, size, "stored")["seconds"],
        (Against("arrays sent back", lambda: _large(folder, chunks, size, "by value")["seconds"], bound=BOUND),),
        gauge=returned,
        unit="s",
        practice=False,
    )


def driver_memory(folder: Path, chunks: int, size: int = CHUNK) -> Case:
    """Compute large chunks on two workers with ``return_output=False``.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    chunks, size : int
        How many chunks, and bytes in each.

    Returns
    -------
    Case
        The caller's peak memory, against what it may take.
    """
    return Case(
        f"{chunks} chunks of {size / 2**20:.0f} MB on 2 workers: peak memory of the caller",
        lambda: _large(folder, chunks, size, "stored")["peak"],
        (Against("limit", value=MEMORY, bound=1.0),),
        gauge=returned,
        unit="B",
        practice=False,
    )


def many_chunks(folder: Path, where: str, few: int, many: int, figure: str) -> Case:
    """Compute trivial chunks on a map: many, against few.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    where : {"processes", "dask"}
        The map.
    few, many : int
        How many chunks.
    figure : {"seconds", "peak"}
        Seconds for each chunk, or the caller's peak memory.

    Returns
    -------
    Case
        The figure at `many`, against that at `few`.
    """

    def at(chunks: int) -> float:
        root = folder / "cache"
        found = figures_of(_MANY, root, chunks, where, timeout=3600)
        assert chunks == found["executed"]
        shutil.rmtree(root)
        return float(found[figure] / chunks if figure == "seconds" else found[figure])

    what = "seconds per chunk" if figure == "seconds" else "peak memory of the caller"
    return Case(
        f"{many:,} trivial chunks through {where}: {what}",
        lambda: at(many),
        (Against(f"{few:,} chunks", lambda: at(few), bound=FLAT),),
        gauge=returned,
        unit="s" if figure == "seconds" else "B",
        practice=False,
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure 64 chunks of 8 MB, and 200,000 trivial ones; quick: 8 and 2,000."""
    count, few, many = (8, 500, 2_000) if quick else (64, 2_000, 200_000)
    jobs = [
        Job(partial(large_chunks, chunks=count), 1 if quick else 5),
        Job(partial(driver_memory, chunks=count), 1),
        *(
            Job(partial(many_chunks, where=where, few=few, many=many, figure=figure), 1)
            for where in ("processes", "dask")
            for figure in ("seconds", "peak")
        ),
    ]
    return measured(TITLE, jobs, folder)
