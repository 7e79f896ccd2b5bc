"""The MPI map, in a job of three processes that ``mpiexec`` starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import clusters
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the job says; it is run once."""
    return clusters.run_under_mpi(HERE / "mpi_job.py", tmp_path_factory.mktemp("job"))


def test_each_task_comes_back_once(told: dict[str, Any]) -> None:
    """Every task is done by the two processes that are not the first."""
    assert 2 == told["workers"]
    assert [task * task for task in range(200)] == told["squares"]


def test_tasks_may_come_again_after_the_end(told: dict[str, Any]) -> None:
    """An iterator that had ended is asked again after each result."""
    assert [1, 2, 11, 12] == told["again"]


def test_tasks_are_taken_as_they_are_needed(told: dict[str, Any]) -> None:
    """No more tasks are taken than fit into the window."""
    assert 5 == told["taken"]


def test_what_the_workers_cannot_load_is_named(told: dict[str, Any]) -> None:
    """A function that needs a module which the workers lack breaks the map."""
    assert "a_module_that_is_not_there" in told["unknown"]


def test_an_executor_of_the_user_serves(told: dict[str, Any]) -> None:
    """An executor that is made already is used as it is, and takes no options."""
    assert [2, 9] == told["own executor"]
    assert "cannot be given to an executor that is made already" in told["refused"]


def test_a_job_of_one_process_is_refused() -> None:
    """A script that was started without ``mpiexec`` is told how to start it."""
    program = "from chunk_memo.maps.mpi import MPI; MPI()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clusters.MPI_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "SpecError: map_fn='mpi' needs a job of two or more processes" in done.stderr
    assert "mpiexec -n 4 python -m mpi4py.futures script.py" in done.stderr


@pytest.mark.skipif(not clusters.enclosure(), reason="network namespaces are not allowed here")
def test_a_job_cannot_be_reached_from_outside() -> None:
    """The jobs of these tests have no network card but the loopback, though ``mpiexec`` listens on all."""
    program = "import socket; print([name for _, name in socket.if_nameindex()])"
    done = subprocess.run(
        [*clusters.enclosure(), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "['lo']" == done.stdout.strip()
