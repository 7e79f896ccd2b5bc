"""A request held against what is stored: what would be read, what would be run, and why; changes nothing.

A :class:`Plan` is a value that can be printed, tested and obeyed. Runners do not need one on the warm path;
there the cache is read at once, and only what was not found is planned: :func:`boxes` cuts missing points into
as few calls as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.grid import IntArray
from chunk_memo.selection import Cell, Cells, Selection

__all__ = ["FAILED", "MISSING", "PARTIAL", "STORED", "Costs", "Plan", "PlanGroup", "boxes"]

MISSING, PARTIAL, STORED, FAILED = 0, 1, 2, 3
"""States of a chunk: nothing of it is stored, some of what was asked is, all of that is; the rest failed."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What something took for chunks of several sizes: so much for each chunk, and so much for each point.

    Examples
    --------
    >>> Costs.of([(100, 0.5), (100, 0.7)])  # chunks of one size: the points are taken to matter
    Costs(per_chunk=0.0, per_point=0.006)
    >>> costs = Costs.of([(100, 2.0), (50, 1.5)])
    >>> costs, costs.total(chunks=2, points=120)
    (Costs(per_chunk=1.0, per_point=0.01), 3.2)
    """

    per_chunk: float
    """Of each chunk, however many points are run of it."""
    per_point: float
    """Of each point."""

    @classmethod
    def of(cls, samples: Sequence[tuple[int, float]]) -> Costs:
        """Return the costs that fit what is known best, by least squares; neither of the two is below 0.

        Parameters
        ----------
        samples : sequence of tuple of int and float
            Of some chunks the number of points, and what they took.

        Returns
        -------
        Costs
            The costs.
        """
        points, took = np.array(samples, float).T
        spread = points - points.mean()
        slope = float(spread @ took / (spread @ spread)) if spread.any() else np.inf
        base = float(took.mean() - slope * points.mean()) if np.isfinite(slope) else -np.inf
        if slope <= 0:
            return cls(float(took.mean()), 0.0)
        return cls(base, slope) if base > 0 else cls(0.0, float(took.sum() / points.sum()))

    def total(self, chunks: int, points: int) -> float:
        """Return what chunks take together.

        Parameters
        ----------
        chunks : int
            Number of chunks.
        points : int
            Number of their points.

        Returns
        -------
        float
            What they take.
        """
        return self.per_chunk * chunks + self.per_point * points


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Chunks that miss for one reason."""

    reason: str
    """Why, in words."""
    chunks: int
    """Number of chunks."""
    points: int
    """Number of points that would be run."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a call would read and run.

    Printed, it says what, why, and how long; see :meth:`ChunkCache.plan` for an example.
    """

    selection: Selection
    """What was asked for."""
    cells: Cells
    """What was asked of each chunk, in grid order."""
    states: npt.NDArray[np.uint8]
    """For each cell one of MISSING, PARTIAL, STORED, FAILED."""
    missing: IntArray
    """For each cell the number of points that would be run."""
    groups: tuple[PlanGroup, ...]
    """The chunks that miss, by reason."""
    seconds_costs: Costs | None = None
    """Seconds of compute, from what is stored; None where nothing is."""
    bytes_costs: Costs | None = None
    """Bytes of files, from what is stored; None where nothing is."""

    @property
    def total_chunks(self) -> int:
        """Number of chunks that the request touches."""
        return len(self.states)

    @property
    def cached_chunks(self) -> int:
        """Number of chunks from which everything asked would be read."""
        return int((self.states == STORED).sum())

    @property
    def partial_chunks(self) -> int:
        """Number of chunks of which some of the points asked are stored."""
        return int((self.states == PARTIAL).sum())

    @property
    def missing_chunks(self) -> int:
        """Number of chunks of which nothing asked is stored."""
        return int((self.states == MISSING).sum())

    @property
    def failed_chunks(self) -> int:
        """Number of chunks that only miss points at which the function failed before."""
        return int((self.states == FAILED).sum())

    @property
    def total_points(self) -> int:
        """Number of distinct points asked for."""
        return self.cells.points

    @property
    def executed_points(self) -> int:
        """Number of points that would be run."""
        return int(self.missing.sum())

    @property
    def cached_points(self) -> int:
        """Number of points that would be read."""
        return self.total_points - self.executed_points

    @property
    def seconds(self) -> float | None:
        """Predicted seconds of compute, those of all workers added up; None where nothing is known."""
        return self._total(self.seconds_costs)

    @property
    def bytes(self) -> float | None:
        """Predicted bytes of new files, None where nothing is known."""
        return self._total(self.bytes_costs)

    def _total(self, costs: Costs | None) -> float | None:
        chunks = int((self.missing > 0).sum())
        return None if costs is None else costs.total(chunks, self.executed_points)

    def of_state(self, *states: int) -> Iterator[Cell]:
        """Iterate over the cells in one of these states.

        Parameters
        ----------
        *states : int
            MISSING, PARTIAL, STORED or FAILED.

        Returns
        -------
        iterator of Cell
            The cells, in grid order.
        """
        wanted = np.isin(self.states, states)
        return map(self.cells.at, np.flatnonzero(wanted).tolist())

    def anew(self, costs: Callable[[], tuple[Costs | None, Costs | None]]) -> Plan:
        """Return the plan of the same call with ``refresh=True``.

        Parameters
        ----------
        costs : callable
            Returns seconds and bytes of what is stored; called where this plan does not know them.

        Returns
        -------
        Plan
            One that runs every point.
        """
        points = np.ones(1, np.intp)
        for axis in self.cells.axes:
            points = np.multiply.outer(points, axis.lengths).reshape(-1)
        if self.cells.ranking is not None:
            points = points[self.cells.ranking]
        states = np.full(len(points), MISSING, np.uint8)
        group = PlanGroup("asked for anew, by refresh=True", len(points), int(points.sum()))
        seconds, size = (self.seconds_costs, self.bytes_costs) if self.seconds_costs else costs()
        return replace(
            self,
            states=states,
            missing=points,
            groups=(group,) if len(points) else (),
            seconds_costs=seconds,
            bytes_costs=size,
        )

    def __repr__(self) -> str:
        """Return the totals in one line."""
        failed = f", {self.failed_chunks} failed" if self.failed_chunks else ""
        return (
            f"Plan({self.total_points} points: {self.cached_points} cached, {self.executed_points} to run;"
            f" {self.total_chunks} chunks: {self.cached_chunks} cached, {self.partial_chunks} in part,"
            f" {self.missing_chunks} missing{failed})"
        )

    def _repr_html_(self) -> str:
        """Return the totals, the reasons, what it will take, and a map, for a notebook."""
        from chunk_memo.display.notebook import html_of_plan

        return html_of_plan(self)

    def __str__(self) -> str:
        """Return the totals, the reasons, and what it will take."""
        lines = [repr(self)]
        lines += [f"  {g.points} points in {g.chunks} chunks: {g.reason}" for g in self.groups]
        if self.executed_points and self.seconds is not None and self.bytes is not None:
            lines.append(f"  about {_duration(self.seconds)} of compute, {_size(self.bytes)} of files")
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def boxes(missing: npt.NDArray[np.bool_]) -> list[tuple[IntArray, ...]]:
    """Cut missing points into disjoint boxes, few of them.

    A box is a product of positions along each axis, which need not be neighbours, because a function takes any
    list of values. The rows along one axis that miss the same points form a group; each group is cut in the
    same way along the other axes. Every axis is tried as the first, and the cut with the fewest boxes wins.

    Parameters
    ----------
    missing : ndarray of bool
        One entry per point, one dimension per axis.

    Returns
    -------
    list of tuple of ndarray of intp
        For each box the positions along each axis, ascending.

    Examples
    --------
    >>> mask = np.array([[True, True, True], [True, False, True]])
    >>> [tuple(p.tolist() for p in box) for box in boxes(mask)]
    [([0], [0, 1, 2]), ([1], [0, 2])]
    """
    if missing.all():
        return [tuple(np.arange(size) for size in missing.shape)]
    if not missing.any():
        return []
    return _cut(missing)


def _cut(mask: npt.NDArray[np.bool_]) -> list[tuple[IntArray, ...]]:
    if mask.ndim <= 1:
        return [(np.flatnonzero(mask),)] if mask.any() else []
    axes: Sequence[int] = range(mask.ndim) if mask.ndim <= 4 else [0]
    return min((_cut_along(mask, axis) for axis in axes), key=len)


def _cut_along(mask: npt.NDArray[np.bool_], axis: int) -> list[tuple[IntArray, ...]]:
    """Group the slices along one axis by what they miss."""
    slices = np.moveaxis(mask, axis, 0)
    groups: dict[bytes, list[int]] = {}
    for position, part in enumerate(slices):
        if part.any():
            groups.setdefault(part.tobytes(), []).append(position)
    found: list[tuple[Any, ...]] = []
    for positions in groups.values():
        for box in _cut(slices[positions[0]]):
            inner = list(box)
            inner.insert(axis, np.asarray(positions, np.intp))
            found.append(tuple(inner))
    return found
