"""Outputs that are dicts of two numbers and a string, against one pickle of them all."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grids import Shape, filled, through_call
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned

__all__ = ["record_bytes", "record_columns", "record_list", "run"]

TITLE = "Records"
_SHARE = "one pickle of the list"
_WORDS = ("stable", "oscillating", "chaotic", "extinct", "bistable")


def as_dicts(x: Sequence[int], y: Sequence[int]) -> list[dict[str, Any]]:
    """Return a dict for each point."""
    return [{"alpha": a / 7 + b, "count": a * b, "label": f"{_WORDS[(a + b) % 5]} {b}"} for a in x for b in y]


def as_columns(x: Sequence[int], y: Sequence[int]) -> dict[str, Any]:
    """Return the same as arrays, one for each key."""
    found = as_dicts(x, y)
    return {key: np.array([each[key] for each in found]).reshape(len(x), len(y)) for key in found[0]}


def _pickled(folder: Path, shape: Shape) -> tuple[Path, list[dict[str, Any]]]:
    """Write the pickle; return its path and what is in it."""
    records = as_dicts(range(shape[0]), range(shape[1]))
    path = folder / "records.pickle"
    path.write_bytes(pickle.dumps(records))
    return path, records


def _loaded(path: Path) -> Any:
    """Return what the pickle holds."""
    with path.open("rb") as file:
        return pickle.load(file)


def record_list(folder: Path, shape: Shape, chunk: Shape) -> Case:
    """Read the dicts by a warm call."""
    path, records = _pickled(folder, shape)
    sweep = filled(folder / "cache", shape, chunk, as_dicts)
    assert through_call(sweep) == records == _loaded(path)
    against = Against(f"pickle.load of {_SHARE}", partial(_loaded, path), bound=1.5)
    return Case(f"warm call, {math.prod(shape):,} dicts of two numbers and a string", sweep, (against,))


def record_columns(folder: Path, shape: Shape, chunk: Shape) -> Case:
    """Read the same as columns by a warm call."""
    path, records = _pickled(folder, shape)
    sweep = filled(folder / "cache", shape, chunk, as_columns, outputs="columns")
    columns = through_call(sweep)
    assert columns["label"].ravel().tolist() == [each["label"] for each in records]
    against = Against(f"pickle.load of {_SHARE}", partial(_loaded, path), bound=0.5)
    return Case(f"warm call, the same {math.prod(shape):,} as columns", sweep, (against,))


def record_bytes(folder: Path, shape: Shape, chunk: Shape) -> Case:
    """Compare the bytes of the cache's files with those of the pickle."""
    path, _ = _pickled(folder, shape)
    root = folder / "cache"
    filled(root, shape, chunk, as_dicts)

    def ours() -> int:
        return sum(each.stat().st_size for each in root.rglob("*") if each.is_file())

    against = Against(f"size of {_SHARE}", value=path.stat().st_size, bound=1.35)
    return Case(
        f"size of the cache of the {math.prod(shape):,} dicts", ours, (against,), gauge=returned, unit="B"
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure 100,000 records in 10 chunks; quick: 4,000 in 4."""
    shape, chunk = ((40, 100), (10, 100)) if quick else ((100, 1000), (10, 1000))
    turns = 3 if quick else 9
    makers = {record_list: turns, record_columns: turns, record_bytes: 1}
    return measured(
        TITLE, [Job(partial(make, shape=shape, chunk=chunk), n) for make, n in makers.items()], folder
    )
