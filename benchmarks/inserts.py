"""One value more in the middle of an axis: exactly its points are executed, and the rest costs a read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.grids import GRID, Shape, cleared, filled, sweep_over, through_call
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned, seconds

__all__ = ["insert", "run"]

TITLE = "A value inserted in the middle"
_NEW_INSTANCE = 0.005
"""Seconds that a new instance may take besides."""
_STEP = 16
"""The distance between stored values; so many, less one, can be inserted at one place."""


def _grown(root: Path, lengths: Sequence[int], shape: Shape, chunk: Shape, **options: Any) -> Any:
    """Fill a cache step by step, the first axis of the given lengths."""
    for length in (*lengths, shape[0]):
        filled(root, (length, shape[1]), chunk, x=_stored(length), **options)
    return sweep_over(root, shape, chunk, x=_stored(shape[0]), **options)


def _stored(length: int) -> list[int]:
    """Return the values that are stored of the first axis, with room between them."""
    return list(range(0, _STEP * length, _STEP))


def _places(shape: Shape, chunk: Shape, *, boundary: bool) -> Iterator[int]:
    """Yield values to insert, each a new one: inside bins, or between two bins of the first axis."""
    bins = shape[0] // chunk[0]
    inside = range(1, chunk[0])
    for turn in range(_STEP - 1):
        if boundary:
            before, again = chunk[0] * (1 + turn % (bins - 1)), turn // (bins - 1)
        else:
            before = chunk[0] * (bins // 2 + turn % (bins // 2)) + inside[turn % len(inside)]
            again = turn // len(inside)
        yield _STEP * before - 1 - again


def _engine_cost(root: Path, clear: Callable[[], None], shape: Shape, chunk: Shape) -> float:
    """Sweep a row of new chunks and a single one; return what the others took beside the function and writing."""

    def cost(columns: int) -> float:
        clear()
        start = time.perf_counter()
        _, diagnostics = sweep_over(root, (1, columns), chunk, durability="fast")()
        elapsed = time.perf_counter() - start
        return float(elapsed - diagnostics.execute_seconds - diagnostics.write_seconds)

    return cost(shape[1]) - cost(chunk[1])


def insert(
    folder: Path,
    shape: Shape,
    chunk: Shape,
    where: str,
    *,
    anew: bool,
    durability: str = "fast",
    beside: bool = False,
) -> Case:
    """Ask for a whole grid whose first axis has one value more than is stored.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    shape, chunk : tuple of int
        Points along both axes, of the grid and of a chunk.
    where : {"inside a bin", "at a boundary", "ragged bins"}
        Where the value belongs.
    anew : bool
        Whether a new instance declares the value in its place, or a call extends the cache of the old one.
    durability : {"fast", "full"}
        Whether files are synced. Only what is not synced has a bound: how long a disk takes to sync the new
        points' files says nothing about the rest, and swings by more than the rest takes.
    beside : bool
        Whether what the engine takes for each chunk computed, in any sweep, is taken off, too: then what is left
        is what the stored points cost the call.

    Returns
    -------
    Case
        What the call costs, less the seconds that it says it spent in the function and on writing the new
        points, against the warm read of what was there.
    """
    lengths = (shape[0] * 137 // 1000, shape[0] * 4 // 10) if where == "ragged bins" else ()
    root = folder / "cache"
    stored = _stored(shape[0])
    sweep = _grown(root, lengths, shape, chunk, durability=durability)
    through_call(sweep)
    new = _places(shape, chunk, boundary=where == "at a boundary")

    def inserted() -> float:
        value = next(new)
        axis = sorted([*stored, value])
        start = time.perf_counter()
        if anew:
            _, diagnostics = sweep_over(root, shape, chunk, x=axis, durability=durability)()
        else:
            _, diagnostics = sweep(x=axis, extend_cache=True)
        elapsed = time.perf_counter() - start
        assert diagnostics.executed_points == shape[1]
        return float(elapsed - diagnostics.execute_seconds - diagnostics.write_seconds)

    fresh = folder / "fresh"
    engine = partial(_engine_cost, fresh, cleared(fresh), shape, chunk)
    synced = (
        ", synced" if durability == "full" else ", beside the engine's work for the new chunks" if beside else ""
    )
    how = "declared by a new instance" if anew else "by extend_cache"
    return Case(
        f"{math.prod(shape):,} points in {math.prod(shape) // math.prod(chunk):,} chunks, {where}, {how}{synced}",
        inserted,
        (
            Against(
                "warm read of the rest",
                partial(seconds, partial(sweep, x=stored)),
                bound=1.3 if durability == "fast" else None,
                allowance=_NEW_INSTANCE if anew else 0.0,
            ),
        ),
        less=engine if beside else None,
        gauge=returned,
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure grids of a million points in 100 and 1,000 chunks; quick: 10,000 in 100."""
    sizes = [((100, 100), (10, 10))] if quick else [(GRID, (100, 100)), (GRID, (100, 10))]
    jobs = [
        Job(partial(insert, shape=shape, chunk=chunk, where=where, anew=anew), 3 if quick else 9)
        for shape, chunk in sizes
        for where in ("inside a bin", "at a boundary", "ragged bins")
        for anew in (True, False)
    ]
    jobs += [
        Job(
            partial(insert, shape=shape, chunk=chunk, where="inside a bin", anew=anew, beside=True),
            3 if quick else 9,
        )
        for shape, chunk in sizes
        for anew in (True, False)
    ]
    shape, chunk = sizes[0]
    synced = partial(insert, shape=shape, chunk=chunk, where="inside a bin", anew=True, durability="full")
    jobs.append(Job(synced, 3 if quick else 9))
    section = measured(TITLE, jobs, folder)
    note = "Less the seconds in the function and on writing its outputs; synced only where a row says so."
    return replace(section, body=f"{section.body}\n\n{note}")
