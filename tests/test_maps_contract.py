"""One contract, every map: the same results, call counts and diagnostics, whatever runs the chunks."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clusters
import contract
import pytest

MAPS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {}
"""Name to what sets a map up, gives it, and takes it down."""


def offered(
    name: str,
) -> Callable[[Callable[[], Iterator[Any]]], Callable[[], contextlib.AbstractContextManager[Any]]]:
    """Add a map to the table."""

    def decorate(make: Callable[[], Iterator[Any]]) -> Callable[[], contextlib.AbstractContextManager[Any]]:
        MAPS[name] = contextlib.contextmanager(make)
        return MAPS[name]

    return decorate


for plain in (None, map, "threads", "processes", "joblib"):
    MAPS[getattr(plain, "__name__", str(plain))] = lambda plain=plain: contextlib.nullcontext(plain)  # type: ignore[misc]


@offered("ThreadPoolExecutor")
def threads() -> Iterator[Any]:
    """The standard library's threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def processes(method: str) -> Iterator[Any]:
    """The standard library's processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        yield pool


for start in ("fork", "forkserver", "spawn"):
    offered(f"ProcessPoolExecutor {start}")(lambda start=start: processes(start))  # type: ignore[misc]


@offered("ProcessPoolExecutor.map")
def executor_map() -> Iterator[Any]:
    """The method, as a function like ``map``."""
    for pool in processes("forkserver"):
        yield pool.map


def pool_method(name: str) -> Iterator[Any]:
    """A method of a ``multiprocessing.Pool``."""
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        yield getattr(pool, name)


for method_name in ("map", "imap"):
    offered(f"Pool.{method_name}")(lambda name=method_name: pool_method(name))  # type: ignore[misc]


@offered("dask")
def dask() -> Iterator[Any]:
    """A cluster of processes on this machine, over TCP."""
    with clusters.dask_client():
        yield "dask"


@offered("ray")
def ray() -> Iterator[Any]:
    """A Ray of this machine alone."""
    with clusters.ray_started():
        yield "ray"


@pytest.fixture(scope="module", params=sorted(MAPS))
def map_fn(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A map, set up once for all checks."""
    with MAPS[request.param]() as made:
        yield made


@pytest.mark.parametrize("check", sorted(contract.CHECKS))
def test_contract(map_fn: Any, check: str, tmp_path: Path) -> None:
    """The map keeps this part of the contract."""
    contract.CHECKS[check](tmp_path, map_fn)


def test_contract_under_mpi(tmp_path: Path) -> None:
    """``mpiexec -n 3`` with ``mpi4py.futures`` keeps all of it."""
    kept = clusters.run_under_mpi(Path(__file__).parent / "mpi_contract.py", tmp_path)
    assert dict.fromkeys(sorted(contract.CHECKS), "kept") == kept
