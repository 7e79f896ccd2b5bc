"""Pools of multiprocessing: every result comes, and a death ends the run instead of letting it wait for ever."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from typing import Any

import mapping
import multiprocess  # type: ignore[import-untyped]
import pytest

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.base import Done
from chunk_memo.maps.pools import PoolMap

SQUARES = {task: task * task for task in range(30)}


@pytest.fixture(params=["multiprocessing", "multiprocess"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a pool of two workers, of Python's own package or of the one that pathos uses."""
    package: Any = {"multiprocessing": multiprocessing, "multiprocess": multiprocess}[request.param]
    with package.get_context("forkserver").Pool(2) as made:
        yield made
    made.join()


def results(run: Iterator[Done[Any, Any]]) -> dict[Any, Any]:
    """Return the results of a run by task; each task comes once."""
    came = list(run)
    found = {each.task: each.result for each in came}
    assert len(came) == len(found)
    return found


@pytest.mark.parametrize("method", [None, "map", "imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_each_task_is_done_once(pool: Any, method: str | None, chunksize: int) -> None:
    """Every task gives its result once, whichever method was given; and the pool is fit for the next run."""
    given = pool if method is None else getattr(pool, method)
    for _ in range(2):
        assert SQUARES == results(PoolMap(given, chunksize=chunksize).run(mapping.square, iter(range(30))))
    assert [1, 4] == pool.map(mapping.square, [1, 2])


def test_threads_share_what_they_see() -> None:
    """With a ThreadPool nothing is pickled."""
    seen: list[int] = []
    with ThreadPool(2) as pool:
        used = PoolMap(pool)
        assert (True, 2) == (used.in_process, used.workers)
        results(used.run(seen.append, iter(range(9))))
    assert list(range(9)) == sorted(seen)


def test_functions_travel_by_value(pool: Any) -> None:
    """A closure travels."""
    offset = 5
    assert {1: 6} == results(PoolMap(pool).run(lambda task: task + offset, iter([1])))


@pytest.mark.parametrize(
    ("func", "how"),
    [(mapping.killed_at_seven, "killed by SIGKILL"), (mapping.exits_at_seven, "ended with exit code 3")],
)
def test_a_death_ends_the_run(pool: Any, func: Any, how: str) -> None:
    """Where a worker dies, results that come are given, and then an error names what did not come back."""
    came: list[Any] = []
    with pytest.raises(MapBrokenError, match=rf"{how} while these tasks were under way: 7\..*map_fn='processes'"):
        came.extend(each.task for each in PoolMap(pool).run(func, iter(range(30))))
    assert set(range(7)) <= set(came)
    assert 7 not in came


def test_a_pool_that_is_terminated(pool: Any) -> None:
    """A pool that is ended in the midst of a run is an error, and no wait without end."""
    run = PoolMap(pool).run(mapping.sleeps_at_seven, iter([1, 7, 7, 7]))
    next(run)
    pool.terminate()
    with pytest.raises(MapBrokenError, match=r"SIGTERM|is closed"):
        results(run)


def test_workers_that_are_replaced_on_schedule() -> None:
    """Workers that end after their ``maxtasksperchild`` are no deaths."""
    with multiprocessing.get_context("forkserver").Pool(2, maxtasksperchild=3) as pool:
        assert SQUARES == results(PoolMap(pool).run(mapping.square, iter(range(30))))


def test_lost_tasks_may_come_again(pool: Any) -> None:
    """An iterator that had ended is asked again after each result."""
    tasks = mapping.Again([1, 2])
    came = []
    for each in PoolMap(pool).run(mapping.square, iter(tasks)):
        came.append(each.task)
        if len(came) < 5:
            tasks.tasks.append(10 + len(came))
    assert [1, 2, 11, 12, 13, 14] == sorted(came)


def test_tasks_are_taken_as_workers_become_free(pool: Any) -> None:
    """Two tasks for each worker are taken ahead, and no more."""
    tasks = mapping.Again(list(range(50)))
    for count, _ in enumerate(PoolMap(pool).run(mapping.square, iter(tasks)), 1):
        assert tasks.taken <= count + 4


def test_a_run_that_is_left(pool: Any) -> None:
    """A pool whose run was given up works for the next."""
    run = PoolMap(pool).run(mapping.square, iter(range(1000)))
    next(run)
    run.close()
    assert SQUARES == results(PoolMap(pool).run(mapping.square, iter(range(30))))


def test_a_closed_pool(pool: Any) -> None:
    """A pool that takes no more tasks is an error that says so."""
    pool.close()
    with pytest.raises(MapBrokenError, match="is closed"):
        results(PoolMap(pool).run(mapping.square, iter(range(3))))


def test_an_error_that_the_function_lets_out(pool: Any) -> None:
    """What the function raises on its own account ends the run, with its traceback."""
    with pytest.raises(MapBrokenError, match=r"raised .*ValueError: seven") as caught:
        results(PoolMap(pool).run(mapping.raises_at_seven, iter(range(9))))
    assert isinstance(caught.value.__cause__, ValueError)
    assert "Traceback" in caught.value.__cause__.__notes__[0]


def test_a_result_that_cannot_be_sent(pool: Any) -> None:
    """A result that cannot be pickled is an error, and no wait without end."""
    with pytest.raises(MapBrokenError, match="cannot be sent"):
        results(PoolMap(pool).run(unsendable, iter([1])))


def unsendable(task: int) -> Any:
    """Return what cannot be pickled."""
    return threading.Lock()


def test_methods_that_do_something_else(pool: Any) -> None:
    """``starmap`` would take tasks apart, ``apply`` take one: both are refused."""
    for method in (pool.starmap, pool.apply):
        with pytest.raises(SpecError, match=r"the pool, or one of pool.imap"):
            PoolMap(method)


@pytest.mark.parametrize("chunksize", [0, 1.5, True])
def test_chunksizes_that_cannot_be(pool: Any, chunksize: Any) -> None:
    """A chunksize that cannot be is refused, by name."""
    with pytest.raises(SpecError, match="chunksize"):
        PoolMap(pool, chunksize)
