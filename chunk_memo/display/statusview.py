"""What is going on in a root, for ``chunk-memo status``: runs by their heartbeats, caches by their folders.

Only what is cheap is looked at, since it is looked at every two seconds: no chunk file is opened, and of many
caches only those that changed last are counted.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.disk import files
from chunk_memo.disk.layouts import ROOMS
from chunk_memo.display.heartbeat import Beat, beats
from chunk_memo.display.history import table_lines
from chunk_memo.display.meter import clock_text, duration_text, rate_text

__all__ = ["CacheLine", "RootStatus", "look", "status_lines"]

_MOST_CACHES = 10
"""Caches that are listed."""

_MOST_FILES = 100_000
"""So many chunk files of a cache are counted, and no more."""

_SHORT_ID = 12
"""Characters of an id that are shown."""


@dataclass(frozen=True, slots=True)
class CacheLine:
    """What is told of a cache."""

    cache_id: str
    """The cache."""
    name: str
    """The function's name; empty where it is not known."""
    chunk_files: int
    """Number of chunk files, parts included."""
    changed_at: float
    """When one was added last, in seconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class RootStatus:
    """What is going on in a root."""

    root: str
    """The folder."""
    runs: Sequence[Beat]
    """Runs at work, and those that did not go well."""
    caches: Sequence[CacheLine]
    """The caches that changed last."""
    cache_count: int
    """Number of all caches."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            ``root``, ``runs``, ``caches`` and ``cache_count``.
        """
        runs = [{**asdict(run), "percent": run.percent, "is_silent": run.is_silent} for run in self.runs]
        caches = [asdict(cache) for cache in self.caches]
        return {"root": self.root, "runs": runs, "caches": caches, "cache_count": self.cache_count}


def look(root: Path) -> RootStatus:
    """Look at a root.

    Parameters
    ----------
    root : Path
        A folder of caches.

    Returns
    -------
    RootStatus
        What is going on there.
    """
    changed = [(_changed(root / name), name) for name in _caches(root)]
    latest = heapq.nlargest(_MOST_CACHES, changed)
    lines = [_cache_line(root, name, when / 1e9) for when, name in latest]
    return RootStatus(os.fspath(root), tuple(beats(root)), tuple(lines), len(changed))


def _caches(root: Path) -> list[str]:
    """Return the names of the folders that are caches."""
    names = (name for name in files.list_folder(root) if not name.startswith("."))
    return [name for name in names if files.is_there(root / name / "metadata.json")]


def _cache_line(root: Path, cache_id: str, changed_at: float) -> CacheLine:
    known = catalog.function_of(root, cache_id)
    name = str(known[0].get("name", "")) if known is not None else ""
    return CacheLine(cache_id, name, _count(_chunk_folders(root / cache_id)), changed_at)


def _chunk_folders(path: Path) -> list[str]:
    return [os.fspath(path / room / "chunks") for room in ROOMS]


def _changed(path: Path) -> int:
    return max(files.modified_at(folder) or 0 for folder in _chunk_folders(path))


def _count(folders: list[str]) -> int:
    """Count the chunk files in some folders and those below them."""
    count = 0
    while folders and count < _MOST_FILES:
        inner = folders.pop()
        for name in files.list_folder(inner):
            if name.endswith(".h5"):
                count += 1
            elif not name.startswith("."):
                folders.append(f"{inner}/{name}")
    return count


# --- as text ------------------------------------------------------------------------------------------------


def status_lines(found: RootStatus, columns: int) -> list[str]:
    """Return what is shown of a root.

    Parameters
    ----------
    found : RootStatus
        What is going on there.
    columns : int
        Width of the terminal.

    Returns
    -------
    list of str
        Lines that fit.
    """
    counts = f": {_counted(len(found.runs), 'run')}, {_counted(found.cache_count, 'cache')}"
    lines = [_end(found.root, columns - len(counts)) + counts]
    if found.runs:
        lines += ["", *_run_lines(found.runs, columns)]
    if found.caches:
        lines += ["", *_cache_lines(found, columns)]
    return [_cut(line, columns) for line in lines]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_RUN_HEAD = ("run", "cache", "where", "state", "done", "points", "failed", "rate", "to go", "last sign")


def _run_lines(runs: Sequence[Beat], columns: int) -> list[str]:
    """Return the table of runs; where it is too wide, the longest names are cut, then go what matters least."""
    rows = [dict(zip(_RUN_HEAD, _run_cells(run, min(20, columns // 10)), strict=True)) for run in runs]
    dropped: set[str] = set()
    lines = _table(rows, dropped)
    for name in ("run", "rate", "bar", "cache", "failed", "last sign", "where"):
        excess = max(map(len, lines)) - columns
        if excess <= 0:
            break
        if name == "run":
            _shorten(rows, excess, 24)
        elif name == "bar":
            for run, row in zip(runs, rows, strict=True):
                row["done"] = f"{run.percent}%"
        elif name != "failed" or not any(run.failed for run in runs):
            dropped.add(name)
        lines = _table(rows, dropped)
    _shorten(rows, max(map(len, lines)) - columns, 8)
    errors = [f"{run.name or run.cache_id[:_SHORT_ID]}: {run.error}" for run in runs if run.error]
    return _table(rows, dropped) + errors


def _shorten(rows: Sequence[dict[str, str]], excess: int, least: int) -> None:
    """Cut the names of runs, by as much as is needed and possible."""
    longest = max(len(row["run"]) for row in rows)
    for row in rows if excess > 0 else ():
        row["run"] = _cut(row["run"], max(least, longest - excess))


def _table(rows: Sequence[dict[str, str]], dropped: set[str]) -> list[str]:
    head = [name for name in _RUN_HEAD if name not in dropped]
    left = [number for number, name in enumerate(head) if name in ("run", "cache", "where", "state")]
    return table_lines(head, [[row[name] for name in head] for row in rows], left)


def _run_cells(run: Beat, bar: int) -> tuple[str, ...]:
    going = run.state == "running" and not run.is_gone
    return (
        run.name or run.cache_id[:_SHORT_ID],
        run.cache_id[:_SHORT_ID],
        f"{run.host}:{run.pid}",
        _state(run),
        f"{_bar(run.percent, bar)} {run.percent:3d}%",
        f"{min(run.total, run.cached + run.done)}/{run.total}",
        str(run.failed),
        rate_text(run.rate) if run.rate else "",
        clock_text(run.to_go) if going and run.to_go is not None else "",
        f"{duration_text(run.age)} ago",
    )


def _state(run: Beat) -> str:
    if run.is_gone:
        return "process is gone"
    if run.is_silent:
        return f"no sign for {duration_text(run.age)}"
    return run.state


def _bar(percent: int, width: int) -> str:
    full = width * percent // 100
    return "█" * full + "·" * (width - full)


def _cache_lines(found: RootStatus, columns: int) -> list[str]:
    rows, now = [], time.time()
    for cache in found.caches:
        when = f"{duration_text(max(0.0, now - cache.changed_at))} ago" if cache.changed_at else "never"
        count = f"{cache.chunk_files}{'+' if cache.chunk_files >= _MOST_FILES else ''}"
        rows.append([cache.cache_id, cache.name, count, when])
    if not any(row[1] for row in rows):
        head, rows = ["cache", "chunk files", "changed"], [[row[0], *row[2:]] for row in rows]
    else:
        head = ["cache", "function", "chunk files", "changed"]
    left = range(len(head) - 2)
    lines = table_lines(head, rows, left)
    excess = max(map(len, lines)) - columns
    if excess > 0:
        longest = max(len(row[0]) for row in rows)
        rows = [[_cut(row[0], max(_SHORT_ID, longest - excess)), *row[1:]] for row in rows]
        lines = table_lines(head, rows, left)
    others = found.cache_count - len(found.caches)
    return lines + ([f"… and {_counted(others, 'cache')} that changed before"] if others else [])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[len(text) - max(0, width - 1) :]
