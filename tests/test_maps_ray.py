"""The Ray map on a cluster of this machine: who is lost, what is sent, and how a run ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clusters
import numpy as np
import pytest
from mapping import (
    Again,
    Loaded,
    Unknown,
    killed_at_seven,
    killed_at_two_and_three,
    sleeps_at_seven,
    square,
    writes_into_its_task,
)

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost
from chunk_memo.maps.ray import Ray

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Run Ray on two processors, as light as it goes, over loopback."""
    with clusters.ray_started():
        yield


def outcomes(
    function: Callable[[Any], Any], tasks: Iterator[Any], **options: Any
) -> tuple[dict[Any, Any], list[Lost[Any]]]:
    """Return the results by task, and what was lost."""
    done, lost = {}, []
    for outcome in Ray(**options).run(function, tasks):
        if isinstance(outcome, Done):
            assert outcome.task not in done
            done[outcome.task] = outcome.result
        else:
            lost.append(outcome)
    return done, lost


def squares(count: int, *without: int) -> dict[int, int]:
    """Return the squares that are expected."""
    return {task: task * task for task in range(count) if task not in without}


def test_each_task_comes_back_once() -> None:
    """Every task is done, once, and as many may run as there are processors for."""
    assert (squares(300), []) == outcomes(square, iter(range(300)))
    assert 2 == Ray().workers
    assert 4 == Ray(num_cpus=0.5).workers


def test_tasks_may_come_again_after_the_end() -> None:
    """An iterator that had ended is asked again after each result."""
    again = Again([1, 2])
    done = []
    for outcome in Ray().run(square, again):
        assert isinstance(outcome, Done)
        done.append(outcome.task)
        if outcome.task in (1, 2):
            again.tasks.append(outcome.task + 10)
    assert [1, 2, 11, 12] == sorted(done)


def test_tasks_are_taken_as_they_are_needed() -> None:
    """No more tasks are taken than fit into the window."""
    again = Again(list(range(100)))
    run = Ray(window=5).run(square, again)
    next(run)
    assert 5 == again.taken
    run.close()


def test_a_run_that_is_left_ends_what_it_began() -> None:
    """A run that is closed while a task runs gives its processor back to the next run."""
    run = Ray(window=8).run(sleeps_at_seven, iter([1, 7, 7]))
    next(run)
    run.close()
    assert (squares(20), []) == outcomes(square, iter(range(20)), num_cpus=2)


def test_each_worker_gets_the_function_once(tmp_path: Path) -> None:
    """A function is unpickled once by each worker, however many tasks there are."""
    log = tmp_path / "log"
    assert (squares(100), []) == outcomes(Loaded(str(log), bytes(12_000_000)), iter(range(100)))
    # Ray may start a worker more while others start.
    assert len(log.read_text().split()) in (1, 2, 3, 4)


def test_tasks_and_results_can_be_written_to() -> None:
    """Large arrays arrive as the task's own, not as views of shared memory."""
    [outcome] = Ray().run(writes_into_its_task, iter([np.zeros(200_000)]))
    assert isinstance(outcome, Done)
    outcome.result[:] += 1
    assert 2.0 == outcome.result.max()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_only_killers_are_lost(timeout: float | None) -> None:
    """Tasks that kill their workers are lost, with or without a time limit, and nobody else."""
    done, lost = outcomes(killed_at_two_and_three, iter(range(30)), timeout=timeout)
    assert squares(30, 2, 3) == done
    assert {(2, False, 1), (3, False, 1)} == {(each.task, each.timed_out, each.deaths) for each in lost}
    assert all(each.reason.startswith("WorkerCrashedError: The worker died unexpectedly") for each in lost)


def test_a_lost_task_may_come_again() -> None:
    """A task that was lost and is given again is carried out again."""
    again = Again([7])
    outcomes = []
    for outcome in Ray().run(killed_at_seven, again):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            again.tasks += [7, 8]
    assert [("Lost", 7), ("Lost", 7), ("Done", 8)] == sorted(
        ((type(each).__name__, each.task) for each in outcomes), key=lambda pair: pair[1]
    )


def test_a_task_that_takes_too_long_is_ended() -> None:
    """The worker of a task over its time is killed, the task is lost, and all others are done."""
    done, [lost] = outcomes(sleeps_at_seven, iter(range(12)), timeout=2)
    assert squares(12, 7) == done
    assert (7, True) == (lost.task, lost.timed_out)
    assert "it took longer than 2 s, and was killed" == lost.reason


def test_what_the_workers_cannot_load_is_named() -> None:
    """A function that needs a module which the workers lack breaks the map, with the way out."""
    with pytest.raises(MapBrokenError, match=r"cannot carry '0' .*a_module_that_is_not_there.*runtime_env="):
        outcomes(Unknown(), iter(range(3)))


def test_ray_that_is_not_initialized_is_an_error_that_says_what_to_type() -> None:
    """Without ``ray.init()`` the lines to type are shown."""
    program = "from chunk_memo.maps.ray import Ray; Ray()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert "SpecError: map_fn='ray' needs Ray to be initialized" in done.stderr
    assert "ray.init()" in done.stderr


@pytest.mark.parametrize("options", [{"window": 0}, {"timeout": 0}, {"timeout": -1.0}, {"num_cpus": -1}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    """A window or a time limit of nothing, and what Ray refuses, are errors at once."""
    with pytest.raises(SpecError):
        Ray(**options)
