"""The benchmarks that measure processes of their own, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.apart import figures_of
from benchmarks.imports import heavy_imports, import_time
from benchmarks.planning import flat_cost, plan
from benchmarks.streaming import stream
from benchmarks.timing import measure


@pytest.mark.parametrize("stored", [0, 2])
@pytest.mark.parametrize("figure", ["seconds", "peak"])
def test_plan(tmp_path: Path, stored: int, figure: str) -> None:
    """A plan of many chunks is made apart, with none stored and with some, and has its cost."""
    (row,) = measure(plan(tmp_path, (4, 5), stored, "cache_status", figure), 1)
    assert row.ours > 0


def test_flat_cost(tmp_path: Path) -> None:
    """The cost of a chunk is compared between few and many."""
    (row,) = measure(flat_cost(tmp_path, (1, 2), (2, 3), "fast"), 1)
    assert min(row.ours, row.other) > 0


def test_stream(tmp_path: Path) -> None:
    """A stream is stored apart; all its memory is counted."""
    (row,) = measure(stream(tmp_path, chunks=2, size=1 << 20), 1)
    assert row.ours > 2 << 20


def test_import_time(tmp_path: Path) -> None:
    """Importing is timed apart, and the compiled modules lie in the folder given."""
    (row,) = measure(import_time(tmp_path, "import chunk_memo.errors"), 1)
    assert row.ours > 0
    assert list(tmp_path.rglob("errors*.pyc"))


def test_heavy_imports(tmp_path: Path) -> None:
    """A warm call imports none of the heavy packages."""
    (row,) = measure(heavy_imports(tmp_path), 1)
    assert row.met


def test_a_program_that_takes_too_long_is_given_up() -> None:
    """There are no figures of a program that does not end in time."""
    assert {} == figures_of("while True: pass", timeout=0.2)


def test_a_program_that_fails_is_no_figure() -> None:
    """The error of a measured program is passed on."""
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        figures_of("1 / 0")
