"""The Dask map on clusters of this machine: who is lost, who is not, and what is sent."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clusters
import pytest
from distributed import Client
from mapping import (
    Again,
    Loaded,
    Unknown,
    killed_at_seven,
    killed_at_two_and_three,
    let_go,
    sleeps_at_seven,
    square,
    waits_to_be_let_go,
)

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done, Lost
from chunk_memo.maps.dask import Dask


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Return the client of two workers with nannies; it is not the default client of this process."""
    with clusters.dask_client(default=False) as made:
        yield made


@pytest.fixture
def threads() -> Iterator[Client]:
    """Return the client of a cluster of one thread of this process, which has no nanny."""
    with clusters.dask_cluster(1, processes=False) as cluster, Client(cluster, set_as_default=False) as made:
        yield made


def outcomes(
    client: Client, function: Callable[[Any], Any], tasks: Iterator[Any], **options: Any
) -> tuple[dict[Any, Any], list[Lost[Any]]]:
    """Return the results by task, and what was lost."""
    done, lost = {}, []
    for outcome in Dask(client, **options).run(function, tasks):
        if isinstance(outcome, Done):
            assert outcome.task not in done
            done[outcome.task] = outcome.result
        else:
            lost.append(outcome)
    return done, lost


def squares(count: int, *without: int) -> dict[int, int]:
    """Return the squares that are expected."""
    return {task: task * task for task in range(count) if task not in without}


def test_each_task_comes_back_once(client: Client) -> None:
    """Every task is done, once, and two threads may work at a time."""
    assert (squares(300), []) == outcomes(client, square, iter(range(300)))
    assert 2 == Dask(client).workers


def test_tasks_may_come_again_after_the_end(client: Client) -> None:
    """An iterator that had ended is asked again after each result."""
    again = Again([1, 2])
    done = []
    for outcome in Dask(client).run(square, again):
        assert isinstance(outcome, Done)
        done.append(outcome.task)
        if outcome.task in (1, 2):
            again.tasks.append(outcome.task + 10)
    assert [1, 2, 11, 12] == sorted(done)


def test_tasks_are_taken_as_they_are_needed(client: Client) -> None:
    """No more tasks are taken than fit into the window."""
    again = Again(list(range(100)))
    run = Dask(client, window=5).run(square, again)
    next(run)
    assert 5 == again.taken
    run.close()


def test_a_run_that_is_left_harms_no_other(client: Client) -> None:
    """A run that is closed half-way leaves a cluster on which the next one works."""
    run = Dask(client).run(square, iter(range(1000)))
    next(run)
    run.close()
    assert (squares(20), []) == outcomes(client, square, iter(range(20)))


@pytest.mark.parametrize("weight", [b"", bytes(12_000_000)], ids=["light", "heavy"])
def test_the_function_is_not_sent_with_each_task(client: Client, tmp_path: Path, weight: bytes) -> None:
    """A function travels to each worker, not with each task, and may be of any size."""
    log = tmp_path / "log"
    assert (squares(100), []) == outcomes(client, Loaded(str(log), weight), iter(range(100)))
    assert len(log.read_text().split()) <= 10  # 2, but Dask drops copies that nobody needs at a moment


def test_nothing_is_left_of_what_was_sent(client: Client) -> None:
    """The client's log keeps no waves of tasks, so that a long run takes no more memory than a short one."""
    client.submit(int, 1).result()
    assert client.scheduler_comm is not None
    log = client.scheduler_comm.recent_message_log
    assert "update-graph" in [message["op"] for batch in log for message in batch]
    assert (squares(300), []) == outcomes(client, square, iter(range(300)))
    assert "update-graph" not in [message["op"] for batch in log for message in batch]


def test_only_the_killer_is_lost(client: Client) -> None:
    """Of thirty tasks of which one kills its workers, that one is lost, after as many deaths as Dask allows."""
    done, [lost] = outcomes(client, killed_at_seven, iter(range(30)))
    assert squares(30, 7) == done
    assert (7, False, clusters.FAILURES + 1) == (lost.task, lost.timed_out, lost.deaths)
    assert lost.reason.startswith("2 workers died while they ran it")


def test_two_killers_side_by_side_are_both_found(client: Client) -> None:
    """Where several tasks are suspected, each is tried alone: the killers are lost, and nobody else."""
    done, lost = outcomes(client, killed_at_two_and_three, iter(range(8)))
    assert squares(8, 2, 3) == done
    assert {2, 3} == {each.task for each in lost}


def test_a_task_that_takes_too_long_is_ended(client: Client) -> None:
    """The worker of a task over its time is restarted, the task is lost, and all others are done."""
    done, [lost] = outcomes(client, sleeps_at_seven, iter(range(12)), timeout=2)
    assert squares(12, 7) == done
    assert (7, True) == (lost.task, lost.timed_out)
    assert lost.reason.startswith("it took longer than 2 s")


def test_a_time_limit_needs_a_nanny(threads: Client) -> None:
    """Where a worker cannot be restarted, the run says so, and the worker lives."""
    let_go.clear()
    try:
        with pytest.raises(
            MapBrokenError, match=r"cannot end a task that takes too long .* start the workers with"
        ):
            outcomes(threads, waits_to_be_let_go, iter(range(3)), timeout=0.5)
    finally:
        let_go.set()
    assert (squares(3), []) == outcomes(threads, square, iter(range(3)))


def test_what_the_workers_cannot_load_is_named(client: Client) -> None:
    """A function that needs a module which the workers lack breaks the map, with the way out."""
    with pytest.raises(
        MapBrokenError, match=r"No module named 'a_module_that_is_not_there'.*client\.upload_file"
    ):
        outcomes(client, Unknown(), iter(range(3)))


def test_a_cluster_may_begin_empty() -> None:
    """Tasks wait where there are no workers yet, and are done when there are some."""
    with clusters.dask_cluster(0, processes=False) as cluster, Client(cluster, set_as_default=False) as client:

        def tasks() -> Iterator[int]:
            assert {} == client.nthreads()
            cluster.scale(1)
            yield from range(20)

        assert 1 == Dask(client).workers
        assert (squares(20), []) == outcomes(client, square, tasks())


def test_a_scheduler_that_goes_away_breaks_the_map() -> None:
    """A run whose cluster is closed ends with an error; it does not wait for ever."""
    with clusters.dask_cluster(1, processes=False) as cluster, Client(cluster, set_as_default=False) as client:
        run = Dask(client).run(square, itertools.count())
        next(run)
        cluster.close()
        with pytest.raises(MapBrokenError, match=r"the Dask cluster .* call again with a client that works"):
            list(run)


def test_no_client_is_an_error_that_says_what_to_type() -> None:
    """Without a client the three lines that make one are shown."""
    program = "from chunk_memo.maps.dask import Dask; Dask()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert "SpecError: map_fn='dask' needs a Dask client, and none is there" in done.stderr
    assert "client = Client()" in done.stderr


@pytest.mark.parametrize("options", [{"window": 0}, {"timeout": 0}, {"timeout": -1.0}])
def test_limits_must_be_positive(client: Client, options: dict[str, Any]) -> None:
    """A window or a time limit of nothing is refused."""
    with pytest.raises(SpecError, match="must be"):
        Dask(client, **options)
