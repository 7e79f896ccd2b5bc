"""Where outputs stand in a request: rows of one cell, or of many whole chunks at once, into the caller's arrays.

An array of values has *leading* dimensions, which run over points, and trailing ones, which belong to each
output. A :class:`CellPlace` takes one leading dimension: the points of a cell, row-major. A
:class:`RegionPlace` takes two for each axis: first the chunks along every axis, then the points within a chunk
along every axis, as they lie in files; a single assignment scatters them, because both sides are views.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from chunk_memo.grid import IntArray
from chunk_memo.selection import Cell, Index, Piece, Run

__all__ = ["CellPlace", "Place", "RegionPlace"]

_Array = npt.NDArray[Any]


class Place(Protocol):
    """Where values go."""

    @property
    def leading(self) -> int:
        """Number of dimensions of the values that run over points."""

    def scatter(self, out: _Array, values: _Array) -> None:
        """Write values to where the request wants them.

        Parameters
        ----------
        out : ndarray
            The result, in the request's shape, with the trailing dimensions of one output.
        values : ndarray
            The values.
        """


class CellPlace(NamedTuple):
    """The points of a cell, or some of them."""

    cell: Cell
    """The cell."""
    points: IntArray | None = None
    """Row-major positions in the cell of the rows; all of its points by default."""

    @property
    def leading(self) -> int:
        """One dimension: the rows."""
        return 1

    def scatter(self, out: _Array, values: _Array) -> None:
        """Write rows to where the request wants them.

        Parameters
        ----------
        out : ndarray
            The result.
        values : ndarray
            One row per point.
        """
        axes, points, trailing = self.cell.axes, self.points, values.shape[1:]
        if not axes:
            out.reshape((1, *trailing))[...] = values
            return
        if points is not None:
            self._scatter_points(out, values, points)
            return
        block = values.reshape((*map(len, axes), *trailing))
        wanted: list[Index] = []
        for number, axis in enumerate(axes):
            if axis.pick is not None:
                block = np.take(block, axis.pick, axis=number)
            wanted.append(axis.request if axis.span is None else axis.span)
        _assign(out, wanted, block)

    def _scatter_points(self, out: _Array, values: _Array, points: IntArray) -> None:
        cell = self.cell
        rank = np.full(math.prod(cell.shape), -1)
        rank[points] = np.arange(len(points))
        picks = (np.arange(len(a)) if a.pick is None else a.pick for a in cell.axes)
        ranks = rank.reshape(cell.shape)[np.ix_(*picks)]
        where = np.nonzero(ranks >= 0)
        target = tuple(axis.request[i] for axis, i in zip(cell.axes, where, strict=True))
        out[target] = values[ranks[where]]


@dataclass(frozen=True, slots=True, eq=False)
class RegionPlace:
    """Chunks of one shape: a range of chunks out of one run per axis."""

    runs: Sequence[Run]
    """For each axis the run that the chunks belong to."""
    ranges: Sequence[tuple[int, int]]
    """For each axis the range of chunks within the run."""

    @property
    def leading(self) -> int:
        """Two dimensions for each axis."""
        return 2 * len(self.runs)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(stop - start for start, stop in self.ranges)

    def scatter(self, out: _Array, values: _Array) -> None:
        """Write values of whole chunks to where the request wants the points asked of them.

        Parameters
        ----------
        out : ndarray
            The result.
        values : ndarray, shape (chunks along each axis, …, points along each axis, …, trailing)
            The values.
        """
        axes = len(self.runs)
        # Chunk and place within it side by side for each axis: the order of the result.
        turn = [place for axis in range(axes) for place in (axis, axes + axis)]
        turn += range(2 * axes, values.ndim)
        each = [run.pieces(*r) for run, r in zip(self.runs, self.ranges, strict=True)]
        for pieces in itertools.product(*each):
            self._scatter_piece(out, values, pieces, turn)

    def _scatter_piece(self, out: _Array, values: _Array, pieces: Sequence[Piece], turn: Sequence[int]) -> None:
        axes = len(self.runs)
        values = values[tuple([cells for cells, _, _ in pieces])]
        for number, (_, positions, _) in enumerate(pieces):
            if isinstance(positions, slice):
                values = values[(slice(None),) * (axes + number) + (positions,)]
            else:
                values = np.take(values, positions, axis=axes + number)
        counts, sizes, trailing = values.shape[:axes], values.shape[axes : 2 * axes], values.shape[2 * axes :]
        values = values.transpose(*turn)
        wanted = tuple([index for _, _, index in pieces])
        if not all(isinstance(index, slice) for index in wanted):
            lengths = [count * size for count, size in zip(counts, sizes, strict=True)]
            _assign(out, wanted, values.reshape((*lengths, *trailing)))
            return
        target = out[wanted]
        strides: list[int] = []
        for size, stride in zip(sizes, target.strides, strict=False):
            strides += (size * stride, stride)
        view = as_strided(target, values.shape, (*strides, *target.strides[axes:]))
        view, values = _in_pieces(view, values)
        view[...] = values

    def part(self, ranges: Sequence[tuple[int, int]]) -> RegionPlace:
        """Return the place of some of these chunks.

        Parameters
        ----------
        ranges : sequence of tuple of int
            For each axis the range of chunks, counted from the first of these.

        Returns
        -------
        RegionPlace
            Their place.
        """
        within = zip(self.ranges, ranges, strict=True)
        return RegionPlace(self.runs, [(first + start, first + stop) for (first, _), (start, stop) in within])


def _in_pieces(target: _Array, values: _Array) -> tuple[_Array, _Array]:
    """Return both sides of an assignment with what is contiguous in both as one item, which copies faster."""
    if target.dtype != values.dtype or target.dtype.hasobject:
        return target, values
    size, axis = target.dtype.itemsize, target.ndim
    while axis and target.strides[axis - 1] == size and values.strides[axis - 1] == size:
        axis -= 1
        size *= target.shape[axis]
    if axis == target.ndim or not size:
        return target, values
    return _pieces(target, axis, size), _pieces(values, axis, size)


def _pieces(array: _Array, axis: int, size: int) -> _Array:
    """Return a view whose items are what the axes from this one on hold, contiguous, of so many bytes."""
    step = array.dtype.itemsize
    rows = as_strided(array, (*array.shape[:axis], size // step), (*array.strides[:axis], step))
    found: _Array = rows.view(np.dtype((np.void, size)))[..., 0]
    return found


def _assign(out: _Array, wanted: Sequence[Index], values: _Array) -> None:
    """Write a box of values to the product of positions along each axis."""
    if all(type(index) is slice for index in wanted):
        out[tuple(wanted)] = values
        return
    lengths = out.shape
    positions = (
        np.arange(*i.indices(n)) if isinstance(i, slice) else i for i, n in zip(wanted, lengths, strict=False)
    )
    out[np.ix_(*positions)] = values
