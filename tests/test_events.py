"""What observers are told, whatever becomes of a chunk, and that they cannot harm a run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import ChunkCache, ChunkMemoWarning, run, run_streaming
from chunk_memo.events import (
    ChunkDone,
    ChunkFound,
    ChunkLost,
    Event,
    PointFailed,
    RunFinished,
    RunStarted,
    this_process,
)
from chunk_memo.maps.base import Done, Lost

HERE = f"{socket.gethostname()}:{os.getpid()}"


def cache(root: Path, **options: Any) -> ChunkCache:
    """Return a cache of six points in three chunks."""
    return ChunkCache(
        root, "id", axis_values={"s": list(range(6))}, chunk_spec={"s": 2}, name="foo", verbose=0, **options
    )


def doubled(s: list[int]) -> list[int]:
    """Return what a chunk holds."""
    return [2 * v for v in s]


def fails_at_2(s: list[int]) -> list[int]:
    """Raise in the second chunk."""
    if 2 in s:
        raise ArithmeticError("boom")
    return doubled(s)


class Scripted:
    """A map that loses the first task so often as it is told, with the work done or not, and does the others."""

    in_process = False
    workers = 1

    def __init__(self, losses: int, *, stored: bool) -> None:
        self.losses, self.stored = losses, stored

    def run(
        self, func: Callable[[Any], Any], tasks: Iterator[Any]
    ) -> Generator[Done[Any, Any] | Lost[Any], None, None]:
        """Carry out tasks."""
        for task in tasks:
            if self.losses:
                self.losses -= 1
                if self.stored:
                    func(task)
                yield Lost(task, "its worker was killed by SIGKILL")
            else:
                yield Done(task, func(task))


class TestWhatIsTold:
    """One event for each thing that happens, in order."""

    def test_each_chunk_says_who_computed_it_and_when(self, tmp_path: Path) -> None:
        """The run says where it stores and computes; a chunk names host and process."""
        events: list[Event] = []
        before = time.time_ns()
        run(cache(tmp_path).slice(s=[0, 1]), doubled)
        run(cache(tmp_path), doubled, observers=[events.append])
        started, *chunks, finished = events
        assert RunStarted("foo", "id", chunks=3, points=6, cached_points=2) == started
        assert isinstance(started, RunStarted)
        assert (str(tmp_path / "id"), "") == (started.path, started.map)
        assert before <= started.started_at <= time.time_ns()
        assert [2, 2] == [chunk.points for chunk in chunks if isinstance(chunk, ChunkDone)]
        for chunk in chunks:
            assert isinstance(chunk, ChunkDone)
            assert HERE == chunk.worker == this_process()
            assert started.started_at <= chunk.ended_at <= time.time_ns()
        assert isinstance(finished, RunFinished)
        assert (True, 4, 0, False, None) == (
            *(finished.complete, finished.executed_points, finished.failed_points, finished.interrupted),
            finished.error,
        )

    @pytest.mark.parametrize("map_fn", [None, "threads"])
    def test_recorded_failures_leave_a_run_incomplete(self, tmp_path: Path, map_fn: str | None) -> None:
        """All points of the call fail together; the run says how many, and that nothing ended it early."""
        events: list[Event] = []
        with pytest.warns(match="2 points of 'foo' failed"):
            run(cache(tmp_path), fails_at_2, observers=[events.append], on_error="record", map_fn=map_fn)
        (failed,) = [event for event in events if isinstance(event, PointFailed)]
        assert ({"s": [2, 3]}, 2, HERE) == (failed.arguments, failed.points, failed.worker)
        assert failed.seconds >= 0 < failed.ended_at
        assert isinstance(events[0], RunStarted)
        assert (map_fn or "") == events[0].map
        finished = events[-1]
        assert isinstance(finished, RunFinished)
        assert (False, 4, 2, None) == (
            *(finished.complete, finished.executed_points, finished.failed_points),
            finished.error,
        )

    def test_points_that_are_left_out_are_told_of(self, tmp_path: Path) -> None:
        """Those that failed before, where they are not to be run again."""
        with pytest.warns(match="failed"):
            run(cache(tmp_path).slice(s=[2, 3]), fails_at_2, on_error="record")
        events: list[Event] = []
        with pytest.warns(match="failed"):
            run(cache(tmp_path), doubled, observers=[events.append], on_error="record", retry="never")
        started, finished = events[0], events[-1]
        assert isinstance(started, RunStarted)
        assert isinstance(finished, RunFinished)
        assert (2, False, 2) == (started.left_out, finished.complete, finished.failed_points)

    @pytest.mark.parametrize("error", [ArithmeticError("boom"), KeyboardInterrupt()])
    @pytest.mark.parametrize("runner", [run, run_streaming])
    def test_the_end_says_what_ended_the_run(
        self, tmp_path: Path, runner: Callable[..., Any], error: BaseException
    ) -> None:
        """An error of the function, or Ctrl-C."""
        events: list[Event] = []

        def ends(s: list[int]) -> list[int]:
            if 2 in s:
                raise error
            return doubled(s)

        with pytest.raises(type(error)):
            runner(cache(tmp_path), ends, observers=[events.append])
        finished = events[-1]
        assert isinstance(finished, RunFinished)
        interrupted = isinstance(error, KeyboardInterrupt)
        assert (False, 2, interrupted) == (finished.complete, finished.executed_points, finished.interrupted)
        assert error is finished.error

    def test_a_lost_chunk_is_told_each_time(self, tmp_path: Path) -> None:
        """Two losses and a success; nothing is lost in the end."""
        events: list[Event] = []
        output, _ = run(cache(tmp_path), doubled, observers=[events.append], map_fn=Scripted(2, stored=False))
        assert doubled(list(range(6))) == output
        lost = [event for event in events if isinstance(event, ChunkLost)]
        assert [(1, True), (2, True)] == [(event.deaths, event.retried) for event in lost]
        assert {"its worker was killed by SIGKILL"} == {event.reason for event in lost}
        assert {lost[0].chunk_hash} < {event.chunk_hash for event in events if isinstance(event, ChunkDone)}
        assert 3 == len([event for event in events if isinstance(event, ChunkDone)])

    def test_a_chunk_that_is_set_aside_is_lost_and_failed(self, tmp_path: Path) -> None:
        """After the third loss it is not given out again."""
        events: list[Event] = []
        with pytest.warns(match="failed"):
            run(
                cache(tmp_path),
                doubled,
                observers=[events.append],
                map_fn=Scripted(3, stored=False),
                on_error="record",
            )
        lost = [event for event in events if isinstance(event, ChunkLost)]
        assert [True, True, False] == [event.retried for event in lost]
        (failed,) = [event for event in events if isinstance(event, PointFailed)]
        assert (lost[0].chunk_hash, 2) == (failed.chunk_hash, failed.points)

    def test_a_chunk_that_was_stored_meanwhile_is_found(self, tmp_path: Path) -> None:
        """Its worker died after it had stored it: that counts as found, not as computed."""
        events: list[Event] = []
        output, done = run(cache(tmp_path), doubled, observers=[events.append], map_fn=Scripted(1, stored=True))
        assert (doubled(list(range(6))), 4, 2) == (output, done.executed_points, done.cached_points)
        (lost,) = [event for event in events if isinstance(event, ChunkLost)]
        (found,) = [event for event in events if isinstance(event, ChunkFound)]
        assert ChunkFound(lost.chunk_hash, points=2) == found
        assert 2 == len([event for event in events if isinstance(event, ChunkDone)])
        finished = events[-1]
        assert isinstance(finished, RunFinished)
        assert (True, 4) == (finished.complete, finished.executed_points)


class TestObserversThatRaise:
    """They are warned of, dropped, and nothing is lost."""

    @pytest.mark.parametrize("kind", [RunStarted, ChunkDone, RunFinished])
    @pytest.mark.parametrize("map_fn", [None, "threads"])
    def test_the_run_goes_on_and_others_are_told_all(
        self, tmp_path: Path, kind: type, map_fn: str | None
    ) -> None:
        """Whichever event it is that an observer cannot take, there is one warning, and it is told no more."""
        told: list[Event] = []
        others: list[Event] = []

        def observer(event: Event) -> None:
            told.append(event)
            if isinstance(event, kind):
                raise ZeroDivisionError("in an observer")

        observers = [others.append, observer, others.append]
        with pytest.warns(ChunkMemoWarning, match="ZeroDivisionError: in an observer.*the run goes on") as caught:
            output, _ = run(cache(tmp_path), doubled, observers=observers, map_fn=map_fn)
        assert 1 == len(caught)
        assert __file__ == caught[0].filename
        assert doubled(list(range(6))) == output
        assert kind is type(told[-1])
        assert [5, 1] == [len(others) // 2, len([event for event in told if isinstance(event, kind)])]
        assert 6 == run(cache(tmp_path), doubled)[1].cached_points

    def test_what_ended_the_run_comes_through(self, tmp_path: Path) -> None:
        """An observer that fails at the end does not hide the error that ended the run."""

        def observer(event: Event) -> None:
            if isinstance(event, RunFinished):
                raise ZeroDivisionError

        with pytest.warns(ChunkMemoWarning), pytest.raises(ArithmeticError, match="boom"):
            run(cache(tmp_path), fails_at_2, observers=[observer])

    def test_ctrl_c_in_an_observer_ends_the_run(self, tmp_path: Path) -> None:
        """It is the user's wish, wherever it arrives; what is stored by then is kept."""

        def observer(event: Event) -> None:
            if isinstance(event, ChunkDone):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(cache(tmp_path), doubled, observers=[observer])
        assert 2 == run(cache(tmp_path), doubled)[1].cached_points


def test_an_observer_does_not_take_the_place_of_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``verbose=1`` the bar watches beside the user's observers."""
    from chunk_memo.display import progress

    seen: list[Event] = []
    told: list[Event] = []

    class Bar(progress.ProgressBar):
        def __call__(self, event: Event, /) -> None:
            seen.append(event)

    monkeypatch.setattr(progress, "ProgressBar", Bar)
    shown = ChunkCache(tmp_path, "id", axis_values={"s": [1]}, verbose=1)
    run(shown, doubled, observers=[told.append])
    assert [RunStarted, ChunkDone, RunFinished] == [type(event) for event in seen]
    assert told == seen
