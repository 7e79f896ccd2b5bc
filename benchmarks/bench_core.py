"""The benchmarks at a small size: tests that all ways agree, timed with ``--benchmark-enable``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.extensions import one_more_value
from benchmarks.identity import check, digest
from benchmarks.inserts import insert
from benchmarks.points import one_point
from benchmarks.reads import warm_read
from benchmarks.records import record_columns, record_list
from benchmarks.store import few_of_many, lookup
from benchmarks.timing import Case
from benchmarks.writes import cold_write

SHAPE = (40, 40)
WAYS = ("ours", "other")


def run(benchmark: BenchmarkFixture, case: Case, way: str) -> object:
    """Run one way of a case, once and untimed unless timing is on."""
    actions = {"ours": case.ours, "other": case.against[0].action}
    pedantic: Callable[..., object] = benchmark.pedantic
    return pedantic(actions[way], setup=lambda: case.prepare() and None, rounds=5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", [4, 20])
@pytest.mark.parametrize("anew", [False, True])
def test_warm_read(benchmark: BenchmarkFixture, tmp_path: Path, way: str, side: int, anew: bool) -> None:
    """A stored grid is read whole, by a call and by h5py."""
    assert run(benchmark, warm_read(tmp_path, SHAPE, (side, side), anew=anew), way) is not None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("durability", ["full", "fast"])
def test_cold_write(benchmark: BenchmarkFixture, tmp_path: Path, way: str, durability: str) -> None:
    """Chunks are computed and stored, by a call and by h5py."""
    assert run(benchmark, cold_write(tmp_path, chunks=10, points=50, durability=durability), way) is not None


@pytest.mark.parametrize("anew", [False, True])
def test_one_point(benchmark: BenchmarkFixture, tmp_path: Path, anew: bool) -> None:
    """Single stored points are read, by calls of one instance and of new ones."""
    assert run(benchmark, one_point(tmp_path, SHAPE, (1, 40), anew=anew, stored=10), "ours") is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [record_list, record_columns])
def test_records(benchmark: BenchmarkFixture, tmp_path: Path, make: Callable[..., Case], way: str) -> None:
    """Stored dicts are read as a list and as columns, by a call and by pickle."""
    assert run(benchmark, make(tmp_path, SHAPE, (10, 40)), way) is not None


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("where", ["inside a bin", "at a boundary", "ragged bins"])
def test_insert(benchmark: BenchmarkFixture, tmp_path: Path, where: str, anew: bool) -> None:
    """A value in the middle executes the new points and no others; the case asserts it, and gives seconds."""
    assert isinstance(run(benchmark, insert(tmp_path, SHAPE, (10, 10), where, anew=anew), "ours"), float)


@pytest.mark.parametrize("way", WAYS)
def test_one_more_value(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """A cache that grew by many values, one by one, grows by one more."""
    assert run(benchmark, one_more_value(tmp_path, few=2, many=30), way) is not None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("files", [1, 3])
def test_digest(benchmark: BenchmarkFixture, tmp_path: Path, files: int, way: str) -> None:
    """The identity of a function covers all that it reaches; the case asserts it."""
    assert run(benchmark, digest(tmp_path, 10, files), way)


def test_check(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A function of which nothing has changed is seen to be unchanged."""
    assert run(benchmark, check(tmp_path, 10, 3), "ours")


@pytest.mark.parametrize("way", WAYS)
def test_store_lookup(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """Stored runs are retrieved, of a large store and of a small one."""
    assert run(benchmark, lookup(tmp_path, few=20, many=200), way) is None


@pytest.mark.parametrize("way", WAYS)
def test_store_list(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """The few runs that have a value are listed, by the store and by sqlite3."""
    assert run(benchmark, few_of_many(tmp_path, count=200), way) is None
