"""What one more value costs a cache that has grown by many, one by one."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case
from chunk_memo import ChunkMemo

__all__ = ["one_more_value", "run"]

TITLE = "One more value, again and again"


class _Grown:
    """A cache that grew by one value at a time."""

    def __init__(self, root: Path, count: int) -> None:
        memo = ChunkMemo(root, {"x": 10}, {"x": [-1]}, verbose=0, durability="fast")
        self._sweep = memo.cache(version="1", name="double")(lambda x: np.multiply(x, 2.0))
        self._values = itertools.count()
        for _ in range(count):
            self.extend()

    def extend(self) -> np.ndarray:
        """Ask for a value that the axis does not have yet."""
        output, diagnostics = self._sweep(x=next(self._values), extend_cache=True)
        assert diagnostics.executed_points == 1
        return np.asarray(output)


def one_more_value(folder: Path, few: int, many: int) -> Case:
    """Extend a cache by one value after many extensions, against the same after few.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    few, many : int
        How often each cache was extended before.

    Returns
    -------
    Case
        Both ways.
    """
    young, old = _Grown(folder / "young", few), _Grown(folder / "old", many)
    return Case(
        f"one more value after {many:,} extensions by one value",
        old.extend,
        (Against(f"the same after {few:,}", young.extend),),
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure after 10,000 extensions; quick: after 200. The turns are enough for several unions of layouts."""
    many, turns = (200, 33) if quick else (10_000, 257)
    return measured(TITLE, [Job(partial(one_more_value, few=100, many=many), turns)], folder)
