"""Calls of the function that are still to be made: points of one chunk that are not stored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunk_memo.chunks import ChunkRef
from chunk_memo.grid import Bins, IntArray
from chunk_memo.plan import boxes
from chunk_memo.selection import Cell, Selection

__all__ = ["Missing", "Task", "tasks_for"]

Missing = tuple[int, Cell, IntArray | None]
"""A cell that misses points: its rank, the cell, and row-major positions in it (None for all of them)."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One call of the function: points of one chunk that are not stored."""

    ref: ChunkRef
    """The chunk that they belong to."""
    order: tuple[str, ...]
    """Names of the axes in axis order."""
    values: tuple[tuple[Any, ...], ...]
    """Values along each axis, in the order of the chunk's bins."""
    points: IntArray | None
    """Row-major positions in the chunk; None where the call makes all of it."""
    rank: int
    """The cell's rank in the request."""
    cell: Cell
    """The cell that the points belong to."""
    cell_points: IntArray | None
    """Row-major positions in the cell; None where the call makes all of it in order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""
        return tuple(len(values) for values in self.values)

    @property
    def count(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    def arguments(self) -> dict[str, list[Any]]:
        """Return what the function is called with.

        Returns
        -------
        dict of str to list
            Axis name to values.
        """
        return {name: list(values) for name, values in zip(self.order, self.values, strict=True)}

    def each(self) -> Iterator[dict[str, Any]]:
        """Iterate over the points, row-major.

        Yields
        ------
        dict
            Axis name to value.
        """
        for point in itertools.product(*self.values):
            yield dict(zip(self.order, point, strict=True))


def tasks_for(
    selection: Selection,
    missing: Sequence[Missing],
    bins: Bins,
    make_ref: Callable[[tuple[str, ...], tuple[int, ...]], ChunkRef],
) -> Iterator[Task]:
    """Cut missing points into calls: disjoint boxes, each within the first chunk that may hold it.

    Parameters
    ----------
    selection : Selection
        The request.
    missing : sequence of Missing
        Cells that miss points.
    bins : Bins
        The bins of every axis.
    make_ref : callable
        ``(order, numbers) -> ChunkRef``.

    Yields
    ------
    Task
        One call.
    """
    for rank, cell, points in missing:
        choice = cell.candidates(bins, selection.order)[0]
        numbers = tuple(axis.bins[i] for axis, i in zip(cell.axes, choice, strict=True))
        ref = make_ref(selection.order, numbers)
        mask = np.ones(cell.points, bool) if points is None else np.zeros(cell.points, bool)
        if points is not None:
            mask[points] = True
        for box in boxes(mask.reshape(cell.shape)):
            yield _task(selection, rank, cell, choice, ref, box)


def _task(
    selection: Selection,
    rank: int,
    cell: Cell,
    choice: tuple[int, ...],
    ref: ChunkRef,
    box: tuple[IntArray, ...],
) -> Task:
    values, within, ranks = [], [], []
    for number, axis in enumerate(cell.axes):
        places = axis.positions[choice[number]][box[number]]
        order = np.argsort(places, kind="stable")
        ranks.append(box[number][order])
        within.append(places[order])
        asked = selection.values[number]
        values.append(tuple(asked[i] for i in axis.source[ranks[-1]]))
    points: IntArray | None = None
    cell_points: IntArray | None = None
    if math.prod(len(w) for w in within) < ref.points:
        points = np.ravel_multi_index(np.ix_(*within), ref.sizes).reshape(-1)
    if cell.axes:
        cell_points = np.ravel_multi_index(np.ix_(*ranks), cell.shape).reshape(-1)
        if np.array_equal(cell_points, np.arange(cell.points)):
            cell_points = None
    return Task(ref, selection.order, tuple(values), points, rank, cell, cell_points)
