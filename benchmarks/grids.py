"""What all subjects measure with: a function that costs next to nothing, decorated over a grid of two axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo import ChunkMemo

__all__ = ["GRID", "Shape", "cleared", "filled", "same", "surface", "sweep_over", "through_call"]

Shape = tuple[int, int]
"""Points, or chunks, along both axes."""

Sweep = Callable[..., tuple[Any, Any]]
"""A decorated function."""

GRID: Shape = (1000, 1000)
"""The grid of the larger measurements: a million points."""


def surface(x: Sequence[int], y: Sequence[int]) -> np.ndarray:
    """Return a number for each point."""
    return np.multiply.outer(np.asarray(x, dtype=np.float64), np.asarray(y) + 0.5)


def sweep_over(
    root: Path,
    shape: Shape,
    chunk: Shape,
    function: Callable[..., Any] = surface,
    *,
    x: Sequence[int] | None = None,
    outputs: str | None = None,
    vectorize: bool = False,
    **options: Any,
) -> Sweep:
    """Return a function, decorated anew, over a grid of a shape cut into chunks of a shape.

    Parameters
    ----------
    root : Path
        Where its caches are.
    shape, chunk : tuple of int
        Points along both axes, of the grid and of a chunk.
    function : callable
        What is decorated; its axes are ``x`` and ``y``.
    x : sequence of int, optional
        The values of the first axis, where they are not those of a range.
    outputs, vectorize : str, bool
        As in ``ChunkMemo.cache``.
    **options : object
        As in ``ChunkMemo``.

    Returns
    -------
    callable
        The decorated function of a memo of its own.
    """
    memo = ChunkMemo(
        root=root,
        axis_values={"x": list(range(shape[0])) if x is None else list(x), "y": list(range(shape[1]))},
        chunk_spec={"x": chunk[0], "y": chunk[1]},
        verbose=0,
        **options,
    )
    sweep: Sweep = memo.cache(outputs=outputs, vectorize=vectorize)(function)
    return sweep


def filled(
    root: Path, shape: Shape, chunk: Shape, function: Callable[..., Any] = surface, **options: Any
) -> Sweep:
    """Return a decorated function all of whose points are stored; it is of another memo than stored them."""
    sweep_over(root, shape, chunk, function, **{**options, "durability": "fast"})()
    return sweep_over(root, shape, chunk, function, **options)


def through_call(sweep: Sweep, **request: Any) -> Any:
    """Return what a call returns, after making sure that it executed nothing."""
    output, diagnostics = sweep(**request)
    assert diagnostics.executed_points == 0
    return output


def same(ours: Any, other: Any) -> None:
    """Refuse to compare the speed of two ways that differ in what they give."""
    if not np.array_equal(ours, other):
        raise AssertionError("chunk_memo and the other way disagree: nothing to compare")


def cleared(*folders: Path) -> Callable[[], None]:
    """Return an action that moves folders out of the way, to be deleted when all is measured.

    Deleted at once they would slow down whatever is made next: ext4 without a journal looks for an inode that was
    not deleted a moment before, which takes a millisecond per file after some thousands of deletions.
    """
    numbers = itertools.count()

    def clear() -> None:
        for folder in folders:
            if folder.exists():
                folder.rename(folder.with_name(f"{folder.name}-{next(numbers)}"))

    return clear
