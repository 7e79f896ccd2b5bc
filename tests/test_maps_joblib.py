"""joblib: its backends and contexts, tasks that kill their workers, and runs that are left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import mapping
import pytest
from joblib.externals.loky import get_reusable_executor

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost
from chunk_memo.maps.joblib import Joblib

SQUARES = {task: task * task for task in range(30)}

# loky's own thread stumbles over tasks that it has just dropped, when it is told to end its workers.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception in thread ExecutorManagerThread:pytest.PytestUnhandledThreadExceptionWarning"
)


@pytest.fixture(scope="module", autouse=True)
def no_workers_are_left() -> Iterator[None]:
    """End the workers that joblib keeps for later."""
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def outcomes(run: Iterator[Any]) -> tuple[dict[Any, Any], list[Lost[Any]]]:
    """Return results by task, and what was lost; each task comes once."""
    came = list(run)
    done = {each.task: each.result for each in came if isinstance(each, Done)}
    lost = [each for each in came if isinstance(each, Lost)]
    assert len(came) == len(done) + len(lost)
    return done, lost


@pytest.mark.parametrize("given", [{"n_jobs": 2}, {"n_jobs": 1}, {"n_jobs": 2, "backend": "threading"}])
def test_each_task_is_done_once(given: dict[str, Any]) -> None:
    """Every task gives its result once, in other processes, in threads or here."""
    assert (SQUARES, []) == outcomes(Joblib(**given).run(mapping.square, iter(range(30))))


def test_contexts_are_honoured() -> None:
    """Backend and number of jobs are those that joblib is set to, unless others are given."""
    with joblib.parallel_config(backend="threading", n_jobs=3):
        assert 3 == Joblib().workers
        assert 2 == Joblib(n_jobs=2).workers
        done, _ = outcomes(Joblib().run(process, iter(range(5))))
    assert {os.getpid()} == set(done.values())
    assert joblib.cpu_count() == Joblib().workers
    assert 4 == Joblib(n_jobs=4, backend="threading").workers


def process(task: int) -> int:
    """Return the number of the process."""
    return os.getpid()


def test_a_task_that_kills_its_worker_is_found() -> None:
    """Of those that were under way when a worker died, only the guilty one is lost; the others are done."""
    done, lost = outcomes(Joblib(2).run(mapping.killed_at_seven, iter(range(12))))
    assert {task: task * task for task in range(12) if task != 7} == done
    assert [(7, "its worker was killed by SIGKILL")] == [(each.task, each.reason) for each in lost]


def test_several_tasks_may_kill_their_workers() -> None:
    """Each guilty task is lost, also where several were under way together."""
    done, lost = outcomes(Joblib(2).run(mapping.killed_at_seven, iter([7, 1, 7, 2])))
    assert ({1: 1, 2: 4}, [7, 7]) == (done, [each.task for each in lost])


def test_lost_tasks_may_come_again() -> None:
    """An iterator that had ended is asked again after each result, and what it gives then is done."""
    tasks = mapping.Again([1, 2])
    came = []
    for each in Joblib(2).run(mapping.square, iter(tasks)):
        came.append(each.task)
        if len(came) < 5:
            tasks.tasks.append(10 + len(came))
    assert [1, 2, 11, 12, 13, 14] == sorted(came)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_tasks_are_taken_by_the_caller(n_jobs: int) -> None:
    """Tasks are taken in the thread that takes the results, two for each worker ahead and no more."""
    tasks = Noted(list(range(60)))
    for count, _ in enumerate(Joblib(n_jobs).run(mapping.square, iter(tasks)), 1):
        assert tasks.taken <= count + 2 * n_jobs + 1
    assert {threading.get_ident()} == tasks.threads


class Noted(mapping.Again):
    """Tasks that know in which threads they were taken."""

    def __init__(self, tasks: list[Any]) -> None:
        super().__init__(tasks)
        self.threads: set[int] = set()

    def __next__(self) -> Any:
        """Return the next task."""
        self.threads.add(threading.get_ident())
        return super().__next__()


def test_a_run_that_is_left(tmp_path: Path) -> None:
    """When the generator is closed, workers do not go on with its tasks, and joblib works for the next run."""
    run = Joblib(2).run(stays, iter(["", str(tmp_path / "a"), str(tmp_path / "b")]))
    next(run)
    run.close()
    assert (SQUARES, []) == outcomes(Joblib(2).run(mapping.square, iter(range(30))))
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def stays(path: str) -> None:
    """Write the process's number, and stay."""
    if path:
        Path(path).write_text(str(os.getpid()))
        threading.Event().wait(mapping.FOREVER)


def test_an_error_of_the_tasks() -> None:
    """What the iterator of tasks raises comes out as it is, at the beginning and later."""
    for bad in (0, 20):
        with pytest.raises(ZeroDivisionError):
            outcomes(Joblib(2).run(mapping.square, (1 // (bad - n) for n in range(30))))


def test_an_error_that_the_function_lets_out() -> None:
    """What the function raises on its own account ends the run, with its traceback."""
    with pytest.raises(MapBrokenError, match=r"raised .*ValueError: seven") as caught:
        outcomes(Joblib(2).run(mapping.raises_at_seven, iter(range(9))))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_backend_that_is_not_there() -> None:
    """The error is that of joblib, which says which backends there are."""
    with pytest.raises(ValueError, match="no_such_backend"):
        outcomes(Joblib(2, backend="no_such_backend").run(mapping.square, iter([1])))


def test_a_backend_that_keeps_results_back_is_refused() -> None:
    """The backend that would wait for ever for a worker which was killed is an error that says what to take."""
    with pytest.raises(SpecError, match=r"'loky', 'threading', 'dask'.*map_fn=pool"):
        outcomes(Joblib(2, backend="multiprocessing").run(mapping.square, iter([1])))


@pytest.mark.parametrize("name", ["timeout", "return_as", "batch_size", "pre_dispatch"])
def test_keywords_that_are_not_the_callers(name: str) -> None:
    """A keyword that the map sets itself is refused, by name."""
    with pytest.raises(SpecError, match=name):
        Joblib(**{name: 1})


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Return the client of a Dask cluster of two processes, connected by TCP on the loopback device."""
    import dask
    import distributed

    with (
        # A task that kills its worker is given up at once, and workers come back quickly.
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", protocol="tcp", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


def test_dask_in_a_context(client: Any) -> None:
    """In a context of Dask, tasks run on the cluster, and a task that kills its worker is lost alone."""
    with joblib.parallel_config(backend="dask"):
        assert 2 == Joblib().workers
        done, lost = outcomes(Joblib().run(process, iter(range(10))))
        assert ([], True) == (lost, os.getpid() not in done.values())
        done, lost = outcomes(Joblib().run(mapping.killed_at_seven, iter(range(12))))
    assert {task: task * task for task in range(12) if task != 7} == done
    assert [7] == [each.task for each in lost]
