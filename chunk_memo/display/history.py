"""What runs did, chunk by chunk, as a table: seconds, bytes, where and with what outcome.

A :class:`RunHistory` is an observer that only takes notes, so one may be handed to any number of runs. The tables
that it makes need pandas or pyarrow; what is printed needs neither.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chunk_memo.display.meter import duration_text, error_text, rate_text
from chunk_memo.events import ChunkDone, ChunkFound, ChunkLost, Event, PointFailed, RunStarted

__all__ = ["RunHistory", "size_text", "table_lines"]

_DTYPES = {
    "name": "object",
    "chunk": "object",
    "outcome": "object",
    "points": "int64",
    "seconds": "float64",
    "bytes": "int64",
    "worker": "object",
    "host": "object",
    "started_at": "datetime64[us, UTC]",
    "ended_at": "datetime64[us, UTC]",
    "error": "object",
}

_MOST_WORKERS = 20
"""Workers that are printed one by one."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    chunk: str
    outcome: str
    points: int
    seconds: float
    nbytes: int
    worker: str
    ended_at: int
    error: str

    def plain(self) -> dict[str, Any]:
        started_at = self.ended_at - int(self.seconds * 1e9)
        values = (
            *(self.name, self.chunk, self.outcome, self.points, self.seconds, self.nbytes, self.worker),
            *(self.worker.rpartition(":")[0], _moment(started_at), _moment(self.ended_at), self.error),
        )
        return dict(zip(_DTYPES, values, strict=True))


class RunHistory:
    """An observer that keeps a row for each chunk that was done, found, lost or failed.

    A chunk whose points were computed at several times, or that was lost and tried again, has several rows.

    Examples
    --------
    >>> history = RunHistory()
    >>> history(RunStarted("foo", "id", chunks=1, points=3, cached_points=0))
    >>> history(ChunkDone("0f", points=3, seconds=1.5, bytes_written=4096, worker="here:7", ended_at=10**18))
    >>> print(history)
    1 chunk done: 3 points in 2 s of compute, 4.1 kB written
    worker  chunks  points  seconds  written         rate
    here:7       1       3      1.5   4.1 kB  2.0 point/s
    >>> [(row["chunk"], row["host"], row["outcome"]) for row in history.to_dicts()]
    [('0f', 'here', 'done')]
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._names: dict[int, str] = {}
        """Thread to the run that it is at: events of one run come from one thread."""

    def __call__(self, event: Event, /) -> None:
        """Take a note."""
        thread = threading.get_ident()
        name = self._names.get(thread, "")
        if isinstance(event, RunStarted):
            self._names[thread] = event.name
        elif isinstance(event, ChunkDone):
            self._add(name, "done", event, event.seconds, event.bytes_written, event.worker, event.ended_at)
        elif isinstance(event, ChunkFound):
            self._add(name, "found", event)
        elif isinstance(event, PointFailed):
            error = error_text(event.error)
            self._add(name, "failed", event, event.seconds, 0, event.worker, event.ended_at, error)
        elif isinstance(event, ChunkLost):
            self._rows.append(_Row(name, event.chunk_hash, "lost", 0, 0.0, 0, "", time.time_ns(), event.reason))

    def _add(
        self,
        name: str,
        outcome: str,
        event: ChunkDone | ChunkFound | PointFailed,
        seconds: float = 0.0,
        nbytes: int = 0,
        worker: str = "",
        ended_at: int = 0,
        error: str = "",
    ) -> None:
        when = ended_at or time.time_ns()
        self._rows.append(
            _Row(name, event.chunk_hash, outcome, event.points, seconds, nbytes, worker, when, error)
        )

    def plot_timeline(self, *, ax: Any = None) -> Any:
        """Draw what each worker was at, a bar for each chunk.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        """
        from chunk_memo.display.plots import plot_timeline

        return plot_timeline(self, ax=ax)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def clear(self) -> None:
        """Forget all rows."""
        self._rows.clear()

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows.

        Returns
        -------
        list of dict
            In the order in which things happened: ``name`` of the function, ``chunk`` (its hash), ``outcome``
            (``"done"``, ``"found"``, ``"failed"`` or ``"lost"``), ``points``, ``seconds`` of compute, ``bytes``
            written, ``worker`` (``"host:pid"``), ``host``, ``started_at`` and ``ended_at`` (UTC), ``error``.
        """
        return [row.plain() for row in list(self._rows)]

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            The columns of :meth:`to_dicts`.

        Raises
        ------
        ImportError
            Where pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise _missing(error, "pandas", "frames") from None
        return pd.DataFrame(self.to_dicts(), columns=list(_DTYPES)).astype(_DTYPES)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a Parquet file.

        Parameters
        ----------
        path : path-like
            The file; one that is there is replaced.

        Raises
        ------
        ImportError
            Where pyarrow is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise _missing(error, "pyarrow", "tables") from None
        types = {"object": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
        moment = pa.timestamp("us", tz="UTC")
        schema = pa.schema([(name, types.get(dtype, moment)) for name, dtype in _DTYPES.items()])
        pq.write_table(pa.Table.from_pylist(self.to_dicts(), schema=schema), os.fspath(path))

    def __repr__(self) -> str:
        """Return totals, and a line per worker."""
        rows = list(self._rows)
        lines = [_summary(rows)]
        by_worker: dict[str, list[_Row]] = {}
        for row in rows:
            if row.outcome in ("done", "failed"):
                by_worker.setdefault(row.worker, []).append(row)
        busiest = sorted(by_worker.items(), key=lambda item: (-_seconds(item[1]), item[0]))
        if busiest:
            head = ("worker", "chunks", "points", "seconds", "written", "rate")
            lines += table_lines(head, [_cells(*item) for item in busiest[:_MOST_WORKERS]])
        if len(busiest) > _MOST_WORKERS:
            lines.append(f"… and {len(busiest) - _MOST_WORKERS} more workers")
        return "\n".join(lines)


def _missing(error: ModuleNotFoundError, package: str, extra: str) -> ImportError:
    if (error.name or "").partition(".")[0] != package:
        return error  # it is there, and lacks something of its own
    return ImportError(
        f"this table of a history needs the package {package!r}, which is not installed; run"
        f" `pip install 'chunk-memo[{extra}]'`, or use to_dicts()"
    )


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC)


def _seconds(rows: Iterable[_Row]) -> float:
    return sum(row.seconds for row in rows)


def _summary(rows: Sequence[_Row]) -> str:
    done = [row for row in rows if row.outcome == "done"]
    points, nbytes = sum(row.points for row in done), sum(row.nbytes for row in done)
    said = f"{_counted(len(done), 'chunk')} done: {_counted(points, 'point')}"
    said += f" in {duration_text(_seconds(done))} of compute, {size_text(nbytes)} written"
    for outcome, what in (("found", "found"), ("failed", "failed")):
        count = sum(row.points for row in rows if row.outcome == outcome)
        said += f"; {_counted(count, 'point')} {what}" if count else ""
    lost = sum(row.outcome == "lost" for row in rows)
    return said + (f"; {_counted(lost, 'chunk')} lost with their workers" if lost else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _cells(worker: str, rows: Sequence[_Row]) -> tuple[str, ...]:
    done = [row for row in rows if row.outcome == "done"]
    points, seconds = sum(row.points for row in done), _seconds(rows)
    rate = points / seconds if seconds else None
    nbytes = size_text(sum(row.nbytes for row in done))
    return worker, str(len(done)), str(points), f"{seconds:.1f}", nbytes, rate_text(rate)


def size_text(nbytes: int) -> str:
    """Return a number of bytes for people.

    Parameters
    ----------
    nbytes : int
        Number of bytes.

    Returns
    -------
    str
        A number and a unit, in powers of 1000.

    Examples
    --------
    >>> size_text(999), size_text(4096), size_text(3_500_000_000)
    ('999 B', '4.1 kB', '3.5 GB')
    """
    value = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Return a table as lines of text.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        The cells.
    left : sequence of int, default (0,)
        Which columns begin at the left; all others end at the right.

    Returns
    -------
    list of str
        The lines, without space at their ends.

    Examples
    --------
    >>> table_lines(("name", "points"), [("a", "10"), ("long", "5")])
    ['name  points', 'a         10', 'long       5']
    """
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
