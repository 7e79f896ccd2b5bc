"""Say what was measured: as a Markdown table for people, as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np

import chunk_memo
from benchmarks.timing import Result

__all__ = ["as_json", "machine", "table"]


def machine() -> str:
    """Return one line about the machine and the versions."""
    return (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, h5py {h5py.__version__} "
        f"(HDF5 {h5py.version.hdf5_version}), chunk_memo {chunk_memo.__version__}"
    )


def table(results: Sequence[Result]) -> str:
    """Return a Markdown table, one row per result.

    Parameters
    ----------
    results : sequence of Result
        What was measured.

    Returns
    -------
    str
        The table, without a newline at its end.
    """
    rows = [
        "| work | chunk_memo | floor | | ratio |",
        "|---|---:|---:|---|---:|",
    ]
    rows += [
        f"| {result.work} | {_duration(result.ours)} | {_duration(result.floor)} "
        f"| {result.floor_name} | {result.ratio:.2f} |"
        for result in results
    ]
    return "\n".join(rows)


def as_json(results: Sequence[Result]) -> str:
    """Return machine, medians (in seconds) and ratios as JSON.

    Parameters
    ----------
    results : sequence of Result
        What was measured.

    Returns
    -------
    str
        One JSON document.
    """
    document: dict[str, Any] = {
        "machine": machine(),
        "results": [asdict(result) | {"ratio": result.ratio} for result in results],
    }
    return json.dumps(document, indent=2)


def _duration(seconds: float) -> str:
    """Return a duration in the unit that reads best."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
