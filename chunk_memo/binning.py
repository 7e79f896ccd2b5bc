"""Which bins a run brings into being: those that declared values still lack, and a user's own chunks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chunk_memo.disk.layouts import SHARD_ABOVE, Groups, Layout
from chunk_memo.grid import Axis, Bins, ChunkKey, Grid, IntArray, enumerate_boxes

__all__ = ["is_large", "is_one_chunk", "new_layouts", "provisional"]

Enumerator = Callable[[dict[str, Any]], Sequence[ChunkKey]]


def new_layouts(
    grid: Grid, bins: Bins, version: str, enumerator: Enumerator | None, known: Grid | None = None
) -> Iterator[Layout]:
    """Iterate over the layouts that a run would write, a user's own chunks first.

    Parameters
    ----------
    grid : Grid
        The declared grid.
    bins : Bins
        The bins that are there.
    version : str
        The cache's version.
    enumerator : callable or None
        A ``chunk_enumerator``.
    known : Grid, optional
        An earlier state of the grid, whose values all have bins.

    Yields
    ------
    Layout
        New bins; nothing where every declared value has one.
    """
    now, covered = time.time_ns(), False
    lacking = bins.unbinned(grid, known)
    if enumerator is not None and grid.axes and (lacking or not bins.boxes):
        found = enumerate_boxes(enumerator, grid)
        covered = sum(math.prod(len(v) for v in box.values()) for box in found) == grid.points
        if found and not _is_enumerated(grid, bins):
            yield _box_layout(version, grid, found, now)
    if lacking and not covered:
        made = {name: _cut(grid.axis(name), loose, grid.sizes[name]) for name, loose in lacking.items()}
        yield Layout(version, grid.order, grid.sizes, made, None, now)


def _cut(axis: Axis, loose: IntArray, size: int) -> Groups:
    """Cut those values of an axis that have no bin into bins of one size, the last of what is left."""
    chosen: Sequence[Any] = axis.values
    if len(loose) < len(axis):
        chosen = [axis.values[i] for i in loose.tolist()]
    sizes = np.full(-(-len(loose) // size), size, np.intp)
    sizes[-1] -= sizes.sum() - len(loose)
    return Groups(chosen, sizes)


def _is_enumerated(grid: Grid, bins: Bins) -> bool:
    """Whether every declared value has a bin, so that ``chunk_enumerator`` has nothing to add."""
    return bool(bins.boxes) and all((bins.of(axis.name).locate(axis.keys) >= 0).all() for axis in grid.axes)


def _box_layout(version: str, grid: Grid, found: list[dict[str, list[int]]], now: int) -> Layout:
    """Return the layout of chunks that were named one by one."""
    bins: dict[str, list[list[Any]]] = {name: [] for name in grid.order}
    numbers: dict[str, dict[tuple[int, ...], int]] = {name: {} for name in grid.order}
    chunks = []
    for box in found:
        chunk = []
        for name in sorted(box):
            group = tuple(box[name])
            if group not in numbers[name]:
                numbers[name][group] = len(bins[name])
                bins[name].append([grid.axis(name).values[i] for i in group])
            chunk.append(numbers[name][group])
        chunks.append(chunk)
    return Layout(version, grid.order, grid.sizes, bins, chunks, now)


def is_one_chunk(layout: Layout, grid: Grid) -> bool:
    """Tell whether a layout makes a single chunk.

    Parameters
    ----------
    layout : Layout
        New bins.
    grid : Grid
        The declared grid.

    Returns
    -------
    bool
        Whether it has one bin for each axis.
    """
    return layout.chunks is None and all(len(layout.bins.get(name, ())) == 1 for name in grid.order)


def is_large(grid: Grid) -> bool:
    """Tell whether a grid has so many chunks that their files are spread over folders.

    Parameters
    ----------
    grid : Grid
        The declared grid.

    Returns
    -------
    bool
        Whether it does; the same in every process that declares the grid.
    """
    return math.prod(-(-len(axis) // grid.sizes[axis.name]) for axis in grid.axes) > SHARD_ABOVE


def provisional(grid: Grid, bins: Bins, version: str, enumerator: Enumerator | None) -> Bins:
    """Return the bins as they would be after a run, without writing any.

    Parameters
    ----------
    grid : Grid
        The declared grid.
    bins : Bins
        The bins that are there; left alone.
    version : str
        The cache's version.
    enumerator : callable or None
        A ``chunk_enumerator``.

    Returns
    -------
    Bins
        A copy with the lacking bins.
    """
    twin = bins.copied()
    for layout in new_layouts(grid, bins, version, enumerator):
        layout.add_to(twin)
    return twin
