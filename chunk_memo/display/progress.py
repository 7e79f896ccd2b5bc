"""A progress bar that watches a run; it appears only where the work outlasts half a second."""

from __future__ import annotations

from typing import Any

from chunk_memo.events import ChunkDone, Event, RunFinished, RunStarted

__all__ = ["ProgressBar"]

DELAY = 0.5
"""Seconds of work before a bar appears."""


class ProgressBar:
    """An observer that shows points done, reused and to do.

    Examples
    --------
    >>> bar = ProgressBar()
    >>> bar(RunStarted("foo", "id", chunks=2, points=10, cached_points=4))
    >>> bar(RunFinished(seconds=0.1, complete=True))
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, event: Event, /) -> None:
        """Move the bar."""
        if isinstance(event, RunStarted):
            from tqdm.auto import tqdm

            self._bar = tqdm(
                desc=event.name,
                total=event.points,
                initial=event.cached_points,
                unit="point",
                delay=DELAY,
                disable=None,  # not in a log file; notebooks show it all the same
                leave=False,
                dynamic_ncols=True,
            )
        elif isinstance(event, ChunkDone) and self._bar is not None:
            self._bar.update(event.points)
        elif isinstance(event, RunFinished) and self._bar is not None:
            self._bar.close()
