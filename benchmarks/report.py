"""Say what was measured: as Markdown tables for people, as JSON for programs, as changes since the last time."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import chunk_memo
from benchmarks.timing import Case, Row, measure

__all__ = [
    "Job",
    "Section",
    "as_json",
    "changes",
    "digest",
    "machine",
    "markdown",
    "measured",
    "quantity",
    "remove",
    "table",
]


@dataclass(frozen=True)
class Job:
    """A case that is still to be set up, and how often to measure it."""

    make: Callable[[Path], Case]
    """Set the case up in an empty folder."""
    turns: int
    """How often each way is measured."""


@dataclass(frozen=True)
class Section:
    """What was measured of one subject."""

    title: str
    """What the subject is."""
    body: str
    """Markdown."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """By the name of a row: what is compared with another run's."""
    figures: Any = None
    """All figures, as JSON has them."""
    rows: tuple[Row, ...] = ()
    """The rows, where the subject is one table of comparisons."""
    brief: str = ""
    """What a page shows of a subject that is not."""


def machine() -> str:
    """Return one line about the machine and the versions."""
    return (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, h5py {h5py.__version__} "
        f"(HDF5 {h5py.version.hdf5_version}), chunk_memo {chunk_memo.__version__}"
    )


def measured(title: str, jobs: Iterable[Job], folder: Path) -> Section:
    """Set cases up, measure them one after the other, and report them as one table.

    Parameters
    ----------
    title : str
        What the subject is.
    jobs : iterable of Job
        The cases.
    folder : Path
        An empty folder; each case gets one of its own in it, and it is empty again at the end.

    Returns
    -------
    Section
        The table.
    """
    rows: list[Row] = []
    for number, job in enumerate(jobs):
        place = folder / str(number)
        place.mkdir()
        rows += measure(job.make(place), job.turns)
        remove(place)
    return Section(
        title,
        table(rows),
        {f"{row.work} / {row.against}": row.ratio for row in rows if not math.isnan(row.other)},
        [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows],
        tuple(rows),
    )


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; without complaint where there is none."""
    shutil.rmtree(folder, ignore_errors=True)


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table, one line per row.

    Parameters
    ----------
    rows : sequence of Row
        What was measured.

    Returns
    -------
    str
        The table, without a newline at its end.
    """
    lines = ["| work | chunk_memo | compared with | | ratio | bound | met |", "|---|---:|---|---:|---:|---:|---|"]
    lines += [
        f"| {row.work} | {quantity(row.ours, row.unit)} | {row.against} | {quantity(row.other, row.unit)} "
        f"| {_ratio(row.ratio)} | {_bound(row)} | {_VERDICT[row.met]} |"
        for row in rows
    ]
    return "\n".join(lines)


_VERDICT = {True: "yes", False: "**no**", None: ""}


def _ratio(ratio: float) -> str:
    """Return a ratio with two decimals, or three where it is small."""
    return "–" if math.isnan(ratio) else f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"


def _bound(row: Row) -> str:
    """Return the bound in words."""
    if row.bound is None:
        return ""
    after = f" after {quantity(row.allowance, row.unit)}" if row.allowance else ""
    return f"≤ {row.bound:g}{after}"


def digest(sections: Sequence[Section]) -> str:
    """Return the bounds in short, for a page: of rows with one bound the one that keeps it least.

    Parameters
    ----------
    sections : sequence of Section
        What was measured.

    Returns
    -------
    str
        The machine, a table of rows that have a bound, and what sections without such rows say in brief.
    """
    worst: dict[tuple[Any, ...], Row] = {}
    tables = []
    for section in sections:
        tables += [section.brief] if section.brief else []
        for row in section.rows:
            key = (section.title, row.against, row.unit, row.bound, row.allowance)
            if row.met is not None and (key not in worst or row.ratio > worst[key].ratio):
                worst[key] = row
    lines = ["| work | compared with | ratio | aim |", "|---|---|---:|---:|"]
    lines += [f"| {row.work} | {_other(row)} | {_ratio(row.ratio)} | {_bound(row)} |" for row in worst.values()]
    return "\n\n".join([machine(), *(["\n".join(lines)] if worst else []), *tables])


def _other(row: Row) -> str:
    """Return what a row is compared with; a limit with its value."""
    return f"{quantity(row.other, row.unit)}" if row.against == "limit" else row.against


def markdown(section: Section) -> str:
    """Return a section as Markdown."""
    return f"### {section.title}\n\n{section.body}"


def as_json(sections: Sequence[Section]) -> str:
    """Return the machine and all figures (in seconds and bytes) as JSON.

    Parameters
    ----------
    sections : sequence of Section
        What was measured.

    Returns
    -------
    str
        One JSON document.
    """
    document = {
        "machine": machine(),
        "ratios": {f"{each.title}: {name}": ratio for each in sections for name, ratio in each.ratios.items()},
        "sections": {each.title: each.figures for each in sections},
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def changes(old: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Return how the ratios changed since a document of `as_json` was written, as Markdown.

    Parameters
    ----------
    old : mapping
        The document.
    sections : sequence of Section
        What was measured now.

    Returns
    -------
    str
        A table of the rows that both have.
    """
    lines = ["| row | ratio then | ratio now | now / then |", "|---|---:|---:|---:|"]
    for name, now in json.loads(as_json(sections))["ratios"].items():
        then = old["ratios"].get(name)
        if then:
            lines.append(f"| {name} | {then:.2f} | {now:.2f} | {now / then:.2f} |")
    return "\n".join(lines)


def quantity(number: float, unit: str) -> str:
    """Return a number in the unit that reads best.

    Parameters
    ----------
    number : float
        Seconds, bytes, or a plain number.
    unit : {"s", "B", ""}
        Which.

    Returns
    -------
    str
        The number with its unit.
    """
    if math.isnan(number):
        return "–"
    for size, factor, name in _UNITS[unit]:
        if abs(number) >= size:
            return (
                f"{number * factor:.3g} {name}".rstrip()
                if factor * abs(number) < 1000
                else f"{number * factor:,.0f} {name}"
            )
    return f"{number:.3g} {unit}".rstrip()


_UNITS: dict[str, tuple[tuple[float, float, str], ...]] = {
    "s": ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (1e-9, 1e6, "µs")),
    "B": ((1e9, 1e-9, "GB"), (1e6, 1e-6, "MB"), (1e3, 1e-3, "kB"), (0.0, 1.0, "B")),
    "": (),
}
