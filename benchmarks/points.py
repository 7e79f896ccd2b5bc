"""Warm calls of single points of a large cache."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.bare import chunk_files, read_files
from benchmarks.grids import GRID, Shape, filled, same, sweep_over, through_call
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case

__all__ = ["one_point", "run"]

TITLE = "One point"
_CALLS = 100


def _value(x: int, y: int) -> float:
    """Return what the grid's function gives for one point."""
    return x * (y + 0.5)


def by_joblib(folder: Path, points: Sequence[tuple[int, int]]) -> Callable[[int, int], Any]:
    """Return the function as joblib memoizes it, its results for some points stored."""
    import joblib

    memoized: Callable[[int, int], Any] = joblib.Memory(folder, verbose=0).cache(_value)
    for point in points:
        memoized(*point)
    return memoized


def by_diskcache(folder: Path, points: Sequence[tuple[int, int]]) -> Callable[[int, int], Any]:
    """Return the function as diskcache memoizes it, its results for some points stored."""
    import diskcache

    memoized: Callable[[int, int], Any] = diskcache.Cache(str(folder)).memoize()(_value)
    for point in points:
        memoized(*point)
    return memoized


def one_point(folder: Path, shape: Shape, chunk: Shape, *, anew: bool = False, stored: int = 2000) -> Case:
    """Ask for single points, random ones, of a cache that holds all of a grid.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    shape, chunk : tuple of int
        Points along both axes, of the grid and of a chunk.
    anew : bool
        Whether each call is the first of a new instance, whose making is measured too.
    stored : int
        How many points the others hold, fewer than the grid has: they pay for each by itself, and are no
        slower for it.

    Returns
    -------
    Case
        Against joblib, diskcache where it is installed, and the bare reading of a chunk file.
    """
    root = folder / "cache"
    sweep = filled(root, shape, chunk)
    random = Random(0)
    points = [(random.randrange(shape[0]), random.randrange(shape[1])) for _ in range(stored)]
    file = chunk_files(root)[0]
    buffer = bytearray(file.stat().st_size)

    def first(x: int, y: int) -> Any:
        return through_call(sweep_over(root, shape, chunk), x=x, y=y)

    def of_random_points(function: Callable[[int, int], Any]) -> Callable[[], None]:
        turns = itertools.cycle(points)

        def call() -> None:
            for x, y in itertools.islice(turns, _CALLS):
                function(x, y)

        return call

    memoized = by_joblib(folder / "joblib", points)
    for x, y in points[:5]:
        same(through_call(sweep, x=x, y=y), [[memoized(x, y)]])
    others = [
        Against("joblib.Memory", of_random_points(memoized), bound=None if anew else 0.5),
        Against("bare open, readv, close of a chunk file", lambda: read_files([str(file)] * _CALLS, buffer)),
    ]
    if importlib.util.find_spec("diskcache"):
        rival = of_random_points(by_diskcache(folder / "diskcache", points))
        others.insert(0, Against("diskcache.memoize", rival, bound=None if anew else 1.0))
    else:
        others.insert(0, Against("diskcache.memoize: not installed"))
    which = "first call of a new instance" if anew else "warm call"
    return Case(
        f"{which}, one random point of {math.prod(shape):,} in chunks of {math.prod(chunk):,}",
        of_random_points(first if anew else lambda x, y: sweep(x=x, y=y)),
        tuple(others),
        per=_CALLS,
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure calls to a cache of a million points; quick: of 10,000."""
    if quick:
        jobs = [Job(partial(one_point, shape=(100, 100), chunk=(1, 100), stored=200), 5)]
    else:
        jobs = [
            Job(partial(one_point, shape=GRID, chunk=(1, 1000)), 31),
            Job(partial(one_point, shape=GRID, chunk=(1, 1000), anew=True, stored=200), 7),
        ]
    return measured(TITLE, jobs, folder)
