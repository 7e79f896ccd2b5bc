"""What must hold after any fault: nothing acknowledged is lost, nothing wrong is served, nothing needs a hand."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo import ChunkCache, run
from chunk_memo.blockfile import axis_values
from chunk_memo.cases import PointList, run_cases
from chunk_memo.disk import chunkfile
from chunk_memo.disk.layouts import POINTS
from chunk_memo.errors import ChunkFormatError, ChunkMemoWarning, StoreError
from chunk_memo.verification import verify

Point = tuple[int, int]


def value(x: Iterable[int], y: Iterable[int]) -> Any:
    """Return the outputs over a grid, evaluated directly."""
    return np.add.outer(np.multiply([*x], 1000.0), np.add([*y], 0.5))


@dataclass
class Sweep:
    """One cache over x and y, that knows which points it computed."""

    root: Path
    xs: int = 6
    ys: int = 4
    spec: tuple[int, int] = (2, 2)
    width: int = 1
    durability: str = "full"

    def __post_init__(self) -> None:
        self.executed: list[Point] = []

    @property
    def points(self) -> set[Point]:
        """All points of the grid."""
        return {(x, y) for x in range(self.xs) for y in range(self.ys)}

    def cache(self, xs: int | None = None) -> ChunkCache:
        """Open the cache anew, as another program would."""
        axes = {"x": list(range(self.xs if xs is None else xs)), "y": list(range(self.ys))}
        spec = dict(zip("xy", self.spec, strict=True))
        return ChunkCache(self.root, "sweep", {}, spec, axes, verbose=0, durability=self.durability)

    def function(self, x: list[int], y: list[int]) -> Any:
        """Compute, and note what."""
        self.executed += [(a, b) for a in x for b in y]
        return self.expected(x, y)

    def expected(self, x: Iterable[int], y: Iterable[int]) -> Any:
        """Return what is right."""
        return np.add.outer(value(x, y), np.arange(self.width))

    def call(self, x: Iterable[int] | None = None, y: Iterable[int] | None = None, **options: Any) -> set[Point]:
        """Ask for points; what comes must be right. Return those that were asked for."""
        xs, ys = [*(range(self.xs) if x is None else x)], [*(range(self.ys) if y is None else y)]
        cache = self.cache().slice(x=xs, y=ys)
        self.executed = []
        try:
            output, _ = run(cache, self.function, **options)
        except StoreError as error:
            np.testing.assert_array_equal(self.expected(xs, ys), error.output)
            raise
        np.testing.assert_array_equal(self.expected(xs, ys), output)
        return {(a, b) for a in xs for b in ys}

    def cases(self, points: Collection[Point], **options: Any) -> set[Point]:
        """Ask for points that form no grid; return them. Whoever calls for the grid afterwards reads them."""
        cache = self.cache()
        self.executed = []
        run_cases(cache, self.function, PointList.of(points, cache.axis_order), options=options)
        return set(points)


def stored(root: Path) -> set[Point]:
    """Return the points that intact files hold."""
    found: set[Point] = set()
    for path in root.rglob("chunks/**/*.h5"):
        try:
            chunkfile.verify(path)
        except ChunkFormatError:
            continue
        with chunkfile.load(path) as chunk:
            if path.relative_to(root).parts[1] == POINTS:
                grid = [(int(x), int(y)) for x, y in axis_values(chunk)["case"]]
            else:
                grid = [(int(x), int(y)) for x in chunk.coords("x") for y in chunk.coords("y")]
            part = chunk.constant["part"]
            found.update(grid if part is None else (grid[int(point)] for point in chunk.coords(part)))
    return found


def check(sweep: Sweep, acknowledged: Collection[Point], *, warned: bool = False) -> None:
    """Hold the store against the oracle, as a new program finds it; complete it, and look again.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    acknowledged : collection of (int, int)
        Points that a call reported as stored.
    warned : bool
        Whether damage may be told: where files were damaged on purpose, or writes were torn.
    """
    there = stored(sweep.root)
    lost = set(acknowledged) - there
    assert not lost, f"{len(lost)} acknowledged points are lost: {sorted(lost)[:5]}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if warned:
            warnings.simplefilter("ignore", ChunkMemoWarning)
        sweep.call()
        again = set(sweep.executed) & there
        assert not again, f"{len(again)} stored points were computed again: {sorted(again)[:5]}"
        sweep.call()
    assert [] == sweep.executed, "the second call computed something"
    found = verify(sweep.root)
    assert found.is_intact, found.findings
    known = {"unfinished", "quarantined", "part"} if warned else {"unfinished", "part"}
    assert {finding.kind for finding in found.findings} <= known, found.findings


def as_points(points: Iterable[Any]) -> set[Point]:
    """Return points that JSON turned into lists."""
    return {(int(x), int(y)) for x, y in points}


def summary(results: Mapping[str, Any]) -> str:
    """Return one line of figures."""
    return ", ".join(f"{value} {name}" for name, value in results.items())
