"""Plans of grids of very many chunks, and what a chunk costs where there are very many."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.apart import NEVER, TAIL, figures_of
from benchmarks.bare import chunk_files, write_files
from benchmarks.grids import Shape, cleared, sweep_over
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned, seconds

__all__ = ["flat_cost", "plan", "run"]

TITLE = "Many chunks"
_SPREAD = 4096
"""Caches of more chunks than this spread them over folders."""

_PROGRAM = (
    """
import pathlib, sys, time
from benchmarks.grids import sweep_over
root, rows, columns, what = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
start = time.perf_counter()
sweep = sweep_over(root, (rows, columns), (1, 1))
sweep.cache_for()
made = time.perf_counter()
if what == "plan":
    plan = sweep.plan()
    total, missing = plan.total_chunks, plan.missing_chunks
    plan.executed_points, repr(plan)
else:
    status = sweep.cache_status()
    total, missing = status["total_chunks"], status.plan.missing_chunks
figures = {"seconds": time.perf_counter() - made, "making": made - start, "chunks": total, "missing": missing}
"""
    + TAIL
)


def plan(folder: Path, shape: Shape, stored: int, what: str, figure: str) -> Case:
    """Plan a grid whose chunks have one point each, in a process of its own.

    Parameters
    ----------
    folder : Path
        A folder whose cache is filled if it is not there yet.
    shape : tuple of int
        Chunks along both axes.
    stored : int
        How many rows of chunks are stored.
    what : {"plan", "cache_status"}
        Which is asked for.
    figure : {"seconds", "peak"}
        What is measured: seconds of the call, or peak memory of the process in bytes.

    Returns
    -------
    Case
        Against what it may take.
    """
    root = folder / f"cache-{stored}"
    if stored and not root.exists():
        sweep_over(root, shape, (1, 1), durability="fast")(x=list(range(stored)))
    chunks = math.prod(shape)

    def ours() -> float:
        found = figures_of(_PROGRAM, root, *shape, what, timeout=120)
        if not found:
            return NEVER
        assert (chunks, chunks - stored * shape[1]) == (found["chunks"], found["missing"])
        return float(found[figure])

    limit, unit = (1.0, "s") if figure == "seconds" else (300e6, "B")
    some = f"{stored * shape[1]:,} stored" if stored else "none stored"
    return Case(
        f"{what}, {chunks:,} chunks, {some}: {'time' if unit == 's' else 'peak memory'}",
        ours,
        (Against("limit", value=limit, bound=1.0),),
        gauge=returned,
        unit=unit,
        practice=False,
    )


def flat_cost(folder: Path, few: Shape, many: Shape, durability: str) -> Case:
    """Sweep many chunks and few, each against a bare loop that writes, links and unlinks as many files.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    few, many : tuple of int
        Chunks along both axes.
    durability : {"full", "fast"}
        Whether ours are synced; the bare loop's never are.

    Returns
    -------
    Case
        How many times the bare loop's time many chunks take, against the same of few.
    """
    root, bare = folder / "cache", folder / "bare"
    clear = cleared(root, bare)

    def relative(shape: Shape, repeat: int) -> float:
        swept = looped = 0.0
        for _ in range(repeat):
            clear()
            swept += seconds(partial(_swept, root, shape, durability))
            looped += seconds(partial(_looped, bare, math.prod(shape), chunk_files(root)[0].stat().st_size))
        return swept / looped

    return Case(
        f"cold cost over a bare write, link, unlink, {math.prod(many):,} chunks, durability={durability!r}",
        partial(relative, many, 1),
        (Against(f"the same of {math.prod(few):,}", partial(relative, few, 5), bound=1.3),),
        gauge=returned,
        unit="",
        practice=False,
    )


def _swept(root: Path, shape: Shape, durability: str) -> Any:
    return sweep_over(root, (shape[0], shape[1] * 10), (1, 10), durability=durability)()


def _looped(folder: Path, count: int, size: int) -> None:
    write_files(folder, count, size, spread=count > _SPREAD)


def run(folder: Path, quick: bool) -> Section:
    """Measure plans of a million chunks and sweeps of 100,000; quick: of 10,000 and 2,000."""
    shape, stored = ((100, 100), 10) if quick else ((1000, 1000), 100)
    few, many = ((10, 10), (40, 50)) if quick else ((25, 40), (250, 400))
    shared = folder / "shared"
    shared.mkdir()
    jobs = [
        Job(lambda _, each=(rows, what, figure): plan(shared, shape, *each), 1 if quick else 3)  # type: ignore[misc]
        for rows in (0, stored)
        for what in ("plan", "cache_status")
        for figure in ("seconds", "peak")
    ]
    jobs += [
        Job(partial(flat_cost, few=few, many=many, durability=each), 1 if quick else 3)
        for each in ("fast", "full")
    ]
    return measured(TITLE, jobs, folder)
