"""How tasks are cut into batches: as many as take a fifth of a second, and never too many under way."""

from __future__ import annotations

from typing import Any

from chunk_memo.maps.threads import Threads
from chunk_memo.queueing import Queue
from chunk_memo.tasks import Task
from chunk_memo.work import Receipt


def queue(count: int) -> Queue:
    """Return a queue of tasks of one point."""
    ref: Any = None
    tasks = (Task(ref, ("x",), ((number,),), None, ()) for number in range(count))
    return Queue(tasks, Threads(1), count, timed=False)


def test_batches_grow_to_what_takes_a_fifth_of_a_second() -> None:
    """The first holds one task; soon they hold as many as their time allows, and stay there."""
    given, sizes = queue(10_000), []
    for batch in given:
        sizes.append(len(batch.jobs))
        for job in batch.jobs:
            given.done(job.number, Receipt(job.number, seconds=0.01))
        if len(sizes) == 8:
            break
    assert ([1, 2], [19] * 4) == (sizes[:2], sizes[4:])  # 20 of 0.01 s would be a little more
    assert sorted(sizes) == sizes


def test_few_are_under_way_where_all_are_short() -> None:
    """A map that takes a hundred batches at once, before it knows how large they grow, holds few tasks."""
    given = queue(100_000)
    for batch in [next(given) for _ in range(100)]:
        for job in batch.jobs:
            given.done(job.number, Receipt(job.number, seconds=1e-6))
    under_way = [len(next(given).jobs) for _ in range(100)]
    assert 256 == max(under_way)
    assert 2048 + 256 + 100 * 256 // 8 >= sum(under_way)
    assert [32] * 90 == under_way[-90:]
