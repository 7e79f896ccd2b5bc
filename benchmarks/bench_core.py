"""The core's benchmarks at a small size: tests of both ways, timed with ``--benchmark-enable``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import __main__ as program
from benchmarks.cases import cold_write, one_point, warm_read
from benchmarks.timing import Case

SHAPE = (40, 40)


@pytest.fixture(params=["ours", "floor"])
def way(request: pytest.FixtureRequest) -> str:
    """Return which of the two ways to run."""
    return str(request.param)


def run(benchmark: BenchmarkFixture, case: Case, way: str) -> object:
    """Run one way of a case, once and untimed unless timing is on."""
    pedantic: Callable[..., object] = benchmark.pedantic
    return pedantic(getattr(case, way), setup=case.prepare, rounds=5)


@pytest.mark.parametrize("side", [4, 20])
def test_warm_read(benchmark: BenchmarkFixture, tmp_path: Path, way: str, side: int) -> None:
    """A stored grid is read whole, by a call and by h5py."""
    assert run(benchmark, warm_read(tmp_path, SHAPE, (side, side)), way) is not None


def test_cold_write(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """Chunks are computed and stored, by a call and by h5py."""
    assert run(benchmark, cold_write(tmp_path, chunks=10, points=50), way) is not None


def test_one_point(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """One stored point is read, by a call and by reading its file's bytes."""
    assert run(benchmark, one_point(tmp_path, SHAPE, (1, 40)), way) is not None


def test_a_run_reports_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m benchmarks --json FILE`` prints a row per case, and writes the same ratios."""
    cases = [
        (lambda folder: warm_read(folder, SHAPE, (20, 20)), 3),
        (lambda folder: cold_write(folder, chunks=2, points=5), 1),
    ]
    monkeypatch.setattr(program, "CASES", cases)
    program.main(["--json", str(tmp_path / "figures.json"), "--dir", str(tmp_path)])

    written = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    head, _, *rows = capsys.readouterr().out.strip().split("\n", 3 + len(cases))
    assert written["machine"] == head
    assert len(cases) == len(written["results"]) == len(rows) - 2
    for row, result in zip(rows[2:], written["results"], strict=True):
        assert row.startswith(f"| {result['work']} |")
        assert row.endswith(f" {result['ours'] / result['floor']:.2f} |")
