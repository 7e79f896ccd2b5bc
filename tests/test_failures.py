"""Points whose function failed: marked among the outputs, recorded on disk, run again or left out, and listed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo import (
    ChunkCache,
    ChunkLostError,
    ChunkMemo,
    DamageWarning,
    EncodingError,
    Failed,
    Failure,
    Failures,
    FailureWarning,
    OutputError,
    SpecError,
    StoreError,
    run,
    run_chunks,
    run_streaming,
)
from chunk_memo.disk import files
from chunk_memo.ledger import FailureLog

AXES: dict[str, Any] = {"x": [1, 2, 3, 4], "y": ["u", "v"]}
Point = tuple[int, str]


def cache(root: Path, cache_id: str = "some", **options: Any) -> ChunkCache:
    """Return a cache over `AXES` in chunks of two x; every call opens it anew."""
    given: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 2}, "verbose": 0, "durability": "fast"}
    return ChunkCache(root, cache_id, **given | options)


def points(**options: Any) -> dict[str, Any]:
    """Return options of a cache for a function of single points."""
    return {"vectorize": True, **options}


class Unlucky:
    """Computes with `make`, and raises at points of a set; notes the points that it was called for."""

    def __init__(self, *bad: Point, make: Callable[[int, str], Any] = lambda x, y: x * 1.5) -> None:
        self.bad = set(bad)
        self.make = make
        self.calls: list[Point] = []

    def one(self, x: int, y: str) -> Any:
        """Compute one point."""
        self.calls.append((x, y))
        if (x, y) in self.bad:
            raise ValueError(f"no luck at {x}{y}")
        return self.make(x, y)

    def several(self, x: list[int], y: list[str]) -> list[Any]:
        """Compute a list of outputs."""
        return [self.one(i, j) for i in x for j in y]

    def grid(self, x: list[int], y: list[str]) -> Any:
        """Compute an array."""
        return np.array(self.several(x, y)).reshape(len(x), len(y), *np.shape(self.make(1, "u")))


@contextmanager
def recorded(match: str = "failed") -> Iterator[None]:
    """Expect the one warning that sums up failures."""
    with pytest.warns(FailureWarning, match=match) as told:
        yield
    assert [FailureWarning] == [each.category for each in told]


def records(made: ChunkCache) -> list[Path]:
    """Return the records of failures."""
    return sorted((made.path / "failures").glob("*"))


# --- markers among the outputs --------------------------------------------------------------------------------


def test_points_of_single_calls_are_marked_alone(tmp_path: Path) -> None:
    """Of a function of single points only those that fail lack an output; the array is masked exactly there."""
    with recorded():
        output, done = run(cache(tmp_path, **points()), Unlucky((1, "v"), (4, "u")).one, on_error="record")
    assert isinstance(output, np.ma.MaskedArray)
    assert [[1.5, None], [3.0, 3.0], [4.5, 4.5], [None, 6.0]] == output.tolist()
    assert (6, 2, 8, 2) == (done.executed_points, done.failed_points, done.total_points, done.executed_chunks)
    assert bool(np.isnan(output.data[0, 1])), "who takes the mask off gets no number"


def test_a_call_that_fails_marks_all_its_points(tmp_path: Path) -> None:
    """Of a function of lists all points of the call that failed carry the marker, and no others."""
    with recorded():
        output, done = run(cache(tmp_path), Unlucky((3, "u")).several, on_error="record")
    assert [1.5, 1.5, 3.0, 3.0] == output[:4]
    assert [Failed] * 4 == list(map(type, output[4:]))
    assert (4, 4, 1) == (done.executed_points, done.failed_points, done.executed_chunks)
    marker = output[4]
    assert not marker
    assert "Failed(ValueError: no luck at 3u)" == repr(marker)
    assert {"x": [3, 4], "y": ["u", "v"]} == marker.failure.arguments
    with pytest.raises(ValueError, match="no luck at 3u"):
        marker.failure.reproduce()


def test_lists_that_no_array_can_hold_carry_markers(tmp_path: Path) -> None:
    """Outputs of single points that are no numbers stay a list, with markers in their places."""
    unlucky = Unlucky((2, "u"), make=lambda x, y: x * y if x < 4 else None)
    with recorded():
        output, _ = run(cache(tmp_path, **points()), unlucky.one, on_error="record")
    assert ["u", "v", "vv", "uuu", "vvv", None, None] == [o for o in output if not isinstance(o, Failed)]
    assert isinstance(output[2], Failed)


@pytest.mark.parametrize(
    "value",
    [True, 7, 2.5, 1j, np.datetime64("2026-01-01"), np.arange(3), "text", np.array((1, 2.0), "i4,f8")],
    ids=lambda value: type(value).__name__,
)
def test_arrays_are_masked_exactly_where_points_failed(tmp_path: Path, value: Any) -> None:
    """Whatever their dtype and shape per point, and plain once nothing fails any more."""
    unlucky = Unlucky((1, "u"), make=lambda x, y: value)
    whole = np.broadcast_to(value, (4, 2, *np.shape(value)))
    with recorded():
        output, _ = run(cache(tmp_path), unlucky.grid, on_error="record")
    failed = np.zeros(whole.shape, bool)
    failed[:2] = True
    mask = np.ma.getmaskarray(output)
    assert failed.tolist() == (mask if mask.dtype.names is None else mask["f0"]).tolist()
    assert whole.dtype == output.dtype
    assert whole[2:].tolist() == output.data[2:].tolist()
    unlucky.bad.clear()
    output, _ = run(cache(tmp_path), unlucky.grid, on_error="record")
    assert np.ndarray is type(output)
    assert whole.tolist() == output.tolist()


def test_arrays_of_objects_are_masked(tmp_path: Path) -> None:
    """An array of objects is masked as others are, whatever stands in it."""
    unlucky = Unlucky((1, "u"), make=lambda x, y: {"x": x})
    with recorded():
        output, _ = run(
            cache(tmp_path),
            lambda x, y: np.array(unlucky.several(x, y), object).reshape(len(x), len(y)),
            on_error="record",
        )
    assert [[None, None]] * 2 + [[{"x": x}] * 2 for x in (3, 4)] == output.tolist()
    assert [True, True, False, False] == output.mask[:, 0].tolist()


def test_columns_are_masked(tmp_path: Path) -> None:
    """Each column of a dict of arrays is masked, those of texts and of objects, too."""
    unlucky = Unlucky((1, "u"))

    def columns(x: list[int], y: list[str]) -> dict[str, Any]:
        numbers = unlucky.grid(x, y)
        return {"number": numbers, "object": np.array([[{i} for _ in y] for i in x], object)}

    with recorded():
        output, _ = run(cache(tmp_path), columns, on_error="record")
    assert [[None, None], [None, None], [4.5, 4.5], [6.0, 6.0]] == output["number"].tolist()
    assert [[None, None], [None, None], [{3}, {3}], [{4}, {4}]] == output["object"].tolist()


def test_frames_leave_rows_out(tmp_path: Path) -> None:
    """Rows of points that failed are not there; a pandas frame tells of them, dtypes stay."""
    unlucky = Unlucky((1, "u"))

    def framed(x: list[int], y: list[str], library: Any = pd) -> Any:
        unlucky.several(x, y)
        return library.DataFrame({"x": [i for i in x for _ in y], "y": [j for _ in x for j in y]})

    with recorded():
        frame, _ = run(cache(tmp_path), framed, on_error="record")
    assert [3, 3, 4, 4] == frame["x"].tolist()
    assert "int64" == frame["x"].dtype
    (row,) = frame.attrs["failures"]
    assert ("ValueError", 4, "x=[1, 2], y=['u', 'v']") == (row["error"], row["points"], row["arguments"])
    json.dumps(frame.attrs)
    with recorded():
        frame, _ = run(cache(tmp_path, "polars"), lambda x, y: framed(x, y, pl), on_error="record")
    assert [3, 3, 4, 4] == frame["x"].to_list()


def test_opaque_outputs_get_a_marker_for_each_call(tmp_path: Path) -> None:
    """One entry for each block, and one marker for each call that failed, in grid order."""
    unlucky = Unlucky((1, "u"))
    with recorded():
        output, _ = run(cache(tmp_path, outputs="opaque"), unlucky.several, on_error="record")
    assert isinstance(output[0], Failed)
    assert [[4.5, 4.5, 6.0, 6.0]] == output[1:]


def test_without_any_output_there_are_markers_only(tmp_path: Path) -> None:
    """Where all points fail nothing is known of the form, so the result is a flat list."""
    bad = [(x, y) for x in AXES["x"] for y in AXES["y"]]
    for made, function in (
        (cache(tmp_path), Unlucky(*bad).grid),
        (cache(tmp_path, "points", **points()), Unlucky(*bad).one),
    ):
        with recorded("8 points .* 2 chunks: 8 × ValueError"):
            output, done = run(made, function, on_error="record")
        assert [Failed] * 8 == list(map(type, output))
        assert (0, 8) == (done.executed_chunks, done.failed_points)


def test_a_cache_without_axes_has_one_point_to_fail(tmp_path: Path) -> None:
    """It is marked, recorded, listed, and run again as others are."""
    bad = [True]

    def one() -> int:
        if bad:
            raise ValueError("no")
        return 5

    made = cache(tmp_path, axis_values={}, chunk_spec={})
    with recorded():
        output, _ = run(made, one, on_error="record")
    assert [Failed] == list(map(type, output))
    assert ([{}], 1) == ([each.arguments for each in made.failures()], made.plan().failed_chunks)
    with recorded("left out"):
        assert 0 == run(made, one, on_error="record", retry="never")[1].executed_points
    bad.clear()
    assert 5 == run(made, one)[0][0]
    assert [] == records(made)


@pytest.mark.parametrize("vectorize", [False, True])
def test_markers_stand_beside_what_was_stored_before(tmp_path: Path, vectorize: bool) -> None:
    """Chunks of which a part was stored, and requests in another order with repetitions, are marked rightly."""
    made = cache(tmp_path, vectorize=vectorize)
    unlucky = Unlucky()
    function = unlucky.one if vectorize else unlucky.several
    run(made.slice(x=[1, 3], y="u"), function)
    unlucky.bad = {(3, "v")}
    asked = [3, 1, 3, 2]
    with recorded():
        output, done = run(made.slice(x=asked, y=["v", "u"]), function, on_error="record")
    values = output.tolist() if isinstance(output, np.ma.MaskedArray) else np.reshape(output, (4, 2)).tolist()
    for x, row in zip(asked, values, strict=True):
        for y, value in zip("vu", row, strict=True):
            if (x, y) == (3, "v"):
                assert value is None or isinstance(value, Failed)
            else:
                assert 1.5 * x == value
    assert (2, 1, 3) == (done.cached_points, done.failed_points, done.executed_points)


def test_entries_of_chunks_are_marked(tmp_path: Path) -> None:
    """A ``collate_fn`` gets the same forms chunk by chunk; of a chunk that failed as a whole a masked array."""
    entries: list[Any] = []

    def noted(found: list[Any]) -> int:
        entries.extend(found)
        return len(found)

    made = cache(tmp_path, **points(collate_fn=noted))
    with recorded():
        assert 2 == run(made, Unlucky((4, "v")).one, on_error="record")[0]
    assert [np.ndarray, np.ma.MaskedArray] == list(map(type, entries))
    assert [[4.5, 4.5], [6.0, None]] == entries[1].tolist()
    entries.clear()
    made = cache(tmp_path, "grids", collate_fn=np.ma.concatenate)
    with recorded():
        output, _ = run(made, Unlucky((1, "u")).grid, on_error="record")
    assert [[None, None], [None, None], [4.5, 4.5], [6.0, 6.0]] == output.tolist()
    made = cache(tmp_path, "opaque", outputs="opaque", collate_fn=list)
    with recorded():
        output, _ = run(made, Unlucky((1, "u")).several, on_error="record")
    assert [Failed, list] == list(map(type, output))


def test_markers_of_explicit_chunks(tmp_path: Path) -> None:
    """``run_chunks`` returns lists with markers one after the other."""
    keys = [(("x", (3, 4)), ("y", ("u",))), (("x", (1,)), ("y", ("u", "v")))]
    with recorded():
        output, _ = run_chunks(keys, Unlucky((4, "u")).several, cache=cache(tmp_path), on_error="record")
    assert [Failed, Failed, float, float] == list(map(type, output))


# --- running again, or not ------------------------------------------------------------------------------------


def test_points_that_failed_are_run_again(tmp_path: Path) -> None:
    """By default the next call runs them, and only them; attempts count up; success removes the record."""
    unlucky = Unlucky((1, "v"), (4, "u"))
    made = cache(tmp_path, **points())
    for attempt in (1, 2, 3):
        unlucky.calls.clear()
        with recorded():
            run(cache(tmp_path, **points()), unlucky.one, on_error="record")
        assert (8 if attempt == 1 else 2) == len(unlucky.calls)
        assert [attempt, attempt] == [failure.attempts for failure in made.failures()]
    unlucky.bad.remove((1, "v"))
    with recorded():
        run(cache(tmp_path, **points()), unlucky.one, on_error="record")
    assert [{"x": 4, "y": "u"}] == [failure.arguments for failure in made.failures()]
    unlucky.bad.clear()
    output, done = run(cache(tmp_path, **points()), unlucky.one)
    assert (np.ndarray, 1, 0) == (type(output), done.executed_points, done.failed_points)
    assert not (made.path / "failures").exists()


def test_points_that_failed_can_be_left_out(tmp_path: Path) -> None:
    """``retry="never"`` and a number of attempts leave them marked, and such a call executes nothing."""
    unlucky = Unlucky((1, "v"), (4, "u"))
    made = cache(tmp_path, **points())
    with recorded():
        run(made, unlucky.one, on_error="record")
    unlucky.calls.clear()
    retry: Any
    for retry in ("never", 1):
        with recorded("2 points of the function failed before and were left out, in 2 chunks: 2 × ValueError"):
            output, done = run(cache(tmp_path, **points()), unlucky.one, retry=retry)
        assert ([], 0, 2) == (unlucky.calls, done.executed_points, done.failed_points)
        assert [1.5, None] == output[0].tolist()
    with recorded():
        run(made, unlucky.one, on_error="record", retry=2)
    assert [(1, "v"), (4, "u")] == unlucky.calls
    with recorded("left out"):
        run(made, unlucky.one, on_error="record", retry=2)
    assert 2 == len(unlucky.calls)
    with recorded("left out"):
        assert 2 == run_streaming(made, unlucky.one, retry="never").failed_points
    with recorded("left out"):
        output, _ = run(made.slice(y="u"), unlucky.one, retry="never", map_fn="threads")
    assert [1.5, 3.0, 4.5, None] == output[:, 0].tolist()
    assert 2 == len(unlucky.calls)


def test_a_call_of_lists_is_run_again_in_part(tmp_path: Path) -> None:
    """Points of a call that failed, asked for alone and stored, leave its record; the others stay."""
    unlucky = Unlucky((2, "u"))
    made = cache(tmp_path)
    with recorded():
        run(made, unlucky.several, on_error="record")
    assert 1 == run(made.slice(x=1, y="v"), unlucky.several)[1].executed_points
    (failure,) = made.failures()
    assert {"x": [1, 2], "y": ["u", "v"]} == failure.arguments
    assert [(1, "u"), (2, "u"), (2, "v")] == [tuple(point.values()) for point in failure.each()]
    with recorded("3 points .* left out"):
        assert 3 == run(made, unlucky.several, retry="never")[1].failed_points
    with recorded():
        run(made.slice(x=2), unlucky.several, on_error="record")
    assert [(1, 1), (2, 2)] == sorted((each.points, each.attempts) for each in made.failures())
    assert 2 == len(records(made))


def test_raise_records_nothing(tmp_path: Path) -> None:
    """By default the first error is raised, with chunk and point named, and the folder has no failures."""
    made = cache(tmp_path, **points())
    with pytest.raises(ValueError, match="no luck at 3v") as caught:
        run(made, Unlucky((3, "v"), (4, "u")).one)
    (note,) = caught.value.__notes__
    chunk = made.chunk_hash((("x", (3, 4)), ("y", ("u", "v"))))
    assert f"x=3, y='v': chunk {chunk} of cache" in note
    assert not (made.path / "failures").exists()
    assert (5, []) == (made.plan().cached_points, list(made.failures()))
    with pytest.raises(SpecError, match="on_error must be 'raise' or 'record', got 'ignore'"):
        run(made, Unlucky().one, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("vectorize", [False, True])
def test_outputs_that_do_not_fit_are_failures(tmp_path: Path, vectorize: bool) -> None:
    """What cannot be stored counts as failed, with its own cause; of single points only those."""
    made = cache(tmp_path, vectorize=vectorize)

    def odd(x: Any, y: Any) -> Any:
        if vectorize:
            return (each for each in "no pickle") if (x, y) == (3, "u") else x
        return [0] if 3 in x else [1] * (len(x) * len(y))

    with recorded("OutputError|EncodingError"):
        _, done = run(made, odd, on_error="record")
    assert {"misfit"} == {failure.cause for failure in made.failures()}
    assert ((7, 1) if vectorize else (4, 4)) == (done.executed_points, done.failed_points)
    with pytest.raises(EncodingError if vectorize else OutputError):
        run(made, odd)


# --- other places ---------------------------------------------------------------------------------------------


class NeedsTwo(Exception):
    """An exception that pickle cannot rebuild: it is made from other arguments than it keeps."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_failures_come_from_other_processes(tmp_path: Path) -> None:
    """Markers, records and summary are those of a run in one process; the worker is named."""
    made = cache(tmp_path, **points())

    def fail(x: int, y: str) -> float:
        if x == 3:
            raise NeedsTwo(x, 2)
        return float(x)

    keywords: Any = {"map_fn": "processes", "map_fn_kwargs": {"workers": 1}}
    with recorded("2 × NeedsTwo"):
        output, _ = run(made, fail, on_error="record", **keywords)
    assert [[1, 1], [2, 2], [None, None], [4, 4]] == output.tolist()
    assert not any(failure.worker.endswith(f":{os.getpid()}") for failure in made.failures())
    with pytest.raises(NeedsTwo, match="3 and 2") as caught:
        run(made, fail, **keywords)
    assert "while the function computed x=3, y='u': chunk" in caught.value.__notes__[0]
    text = "".join(traceback.format_exception(caught.value))
    assert "in the worker" in text
    assert "raise NeedsTwo(x, 2)" in text  # in a function that went by value


def test_a_chunk_that_ends_its_workers_is_recorded(tmp_path: Path) -> None:
    """All points of the chunk carry the marker; the others are computed."""
    made = cache(tmp_path)

    def deadly(x: list[int], y: list[str]) -> list[int]:
        if 3 in x:
            os.kill(os.getpid(), signal.SIGKILL)
        return [i for i in x for _ in y]

    with recorded("4 × ChunkLostError"):
        output, _ = run(made, deadly, on_error="record", map_fn="processes", map_fn_kwargs={"workers": 1})
    assert [1, 1, 2, 2] == output[:4]
    (failure,) = made.failures()
    assert ("killed", 4, "ChunkLostError") == (failure.cause, failure.points, failure.error_type)
    with pytest.raises(ChunkLostError):
        run(made, deadly, map_fn="processes", map_fn_kwargs={"workers": 1})


def test_exceptions_travel_as_what_they_are() -> None:
    """A failure is pickled with its exception: itself, else what it holds, else its text."""
    lost = ValueError("lost")
    lost.lock = threading.Lock()  # type: ignore[attr-defined]
    for error in (KeyError("k"), NeedsTwo(1, 2), OSError(errno.EIO, "no", "f"), lost):
        error.add_note("a note")
        sent = Failure.of(error, "c", ("s",), ((1,),), worker="w:1", failed_at=0)
        came = pickle.loads(pickle.dumps(sent)).exception
        expected = RuntimeError if error is lost else type(error)
        assert expected is type(came)
        assert expected is RuntimeError or (str(error), ["a note"]) == (str(came), came.__notes__)
        assert "in the worker" in str(came.__cause__)
        marker = pickle.loads(pickle.dumps(Failed(sent)))
        assert repr(Failed(sent)) == repr(marker)


def test_an_exception_may_refuse_to_be_shown(tmp_path: Path) -> None:
    """Messages that cannot be had, are huge, or hold surrogates and control characters do no harm."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    errors: list[Exception] = [Mute(), ValueError("x" * 10**6), ValueError("\ud800\x1b[31m\0\n<b>")]

    def one(x: int, y: str) -> int:
        if y == "v" and x < 4:
            raise errors[x - 1]
        return x

    made = cache(tmp_path, **points())
    with recorded():
        run(made, one, on_error="record")
    mute, long, odd = sorted(made.failures(), key=lambda failure: failure.arguments["x"])
    assert "<its message cannot be had: ZeroDivisionError>" == mute.message
    assert 10_000 == len(long.message)
    assert "\ud800\x1b[31m\0\n<b>" == odd.message
    assert "\x1b" not in str(made.failures())


# --- records --------------------------------------------------------------------------------------------------


def test_records_know_points_by_their_values(tmp_path: Path) -> None:
    """A reader with another axis order, and with axes that have grown since, finds the same points."""
    values: list[Any] = [(1, 2), frozenset({"a"}), np.float32(0.1), None, True, b"\0", 10**40]
    axes = {"x": values, "y": ["u", "v"]}

    def one(x: Any, y: str) -> int:
        if y == "v":
            raise ValueError(repr(x))
        return 1

    with recorded():
        run(
            cache(tmp_path, axis_values=axes, chunk_spec={"x": 3, "y": 1}, vectorize=True), one, on_error="record"
        )
    grown = {"y": ["w", "u", "v"], "x": ["new", *values[::-1]]}
    made = cache(tmp_path, axis_values=grown, chunk_spec={"x": 2}, vectorize=True, axis_order=["y", "x"])
    assert 7 == len(made.failures())
    assert {("v", repr(value)) for value in values} == {
        (each.arguments["y"], repr(each.arguments["x"])) for each in made.failures()
    }
    with recorded("7 points .* left out"):
        output, done = run(made, one, on_error="record", retry="never")
        # The new value is not recorded yet and fails now.
    assert (8, 24) == (done.failed_points, output.size)


def test_values_are_those_that_were_declared(tmp_path: Path) -> None:
    """A failure has the very objects of the declared axis, not what was read from its record."""
    value = (1, (2.5, "a"))

    def one(s: tuple[Any, ...]) -> int:
        raise ValueError(s)

    made = cache(tmp_path, axis_values={"s": [value]}, chunk_spec={}, vectorize=True)
    with recorded():
        run(made, one, on_error="record")
    (failure,) = made.failures()
    assert value is failure.arguments["s"]


@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_record_is_passed_over(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut off or with a byte changed, it costs one warning; the others count, and its points are run."""
    made = cache(tmp_path_factory.mktemp("damaged"), **points())
    unlucky = Unlucky((1, "v"), (4, "u"))
    with recorded():
        run(made, unlucky.one, on_error="record")
    victim = records(made)[0]
    content = bytearray(victim.read_bytes())
    place = data.draw(st.integers(0, 10**6)) % len(content)  # its length differs with the seconds it took
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    victim.write_bytes(content)
    opened = cache(made.root, **points())
    with pytest.warns(DamageWarning, match="the record of failed points") as told:
        assert 1 == len(opened.failures())
    assert 1 == len(told)
    assert 1 == len(opened.failures())
    unlucky.calls.clear()
    with recorded():
        run(opened, unlucky.one, on_error="record", retry="never")
    assert 1 == len(unlucky.calls)


def test_a_full_disk_costs_the_records_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs, markers among them, are in the error; no half of a record is left; the next call goes on."""
    true_commit = files.commit

    def full(target: Any, buffers: Any, syncer: files.Syncer) -> bool:
        if "failures" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        return true_commit(target, buffers, syncer)

    made = cache(tmp_path, **points())
    with monkeypatch.context() as patch:
        patch.setattr(files, "commit", full)
        with recorded(), pytest.raises(StoreError, match="the disk is full") as caught:
            run(made, Unlucky((1, "v")).one, on_error="record")
        assert [1.5, None] == caught.value.output[0].tolist()
        with pytest.raises(StoreError, match="the disk is full"):
            run_streaming(made, Unlucky((1, "v")).one, on_error="record")
    assert [] == records(made)
    assert 1 == run(made, Unlucky().one)[1].executed_points


def test_a_record_written_twice_counts_once(tmp_path: Path) -> None:
    """A crash between the new record and the removal of the old one leaves both: the newer counts; both go."""
    unlucky = Unlucky((1, "v"))
    made = cache(tmp_path, **points())
    with recorded():
        run(made, unlucky.one, on_error="record")
    (old,) = records(made)
    content = old.read_bytes()
    with recorded():
        run(made, unlucky.one, on_error="record")
    old.write_bytes(content)
    assert 2 == len(records(made))
    assert [2] == [failure.attempts for failure in made.failures()]
    with recorded():
        run(made, unlucky.one, on_error="record")
    assert [3] == [failure.attempts for failure in made.failures()]
    assert 1 == len(records(made))


def test_a_record_of_a_stored_point_means_nothing(tmp_path: Path) -> None:
    """Left behind by a crash, or by another process, it is neither listed nor planned nor obeyed."""
    unlucky = Unlucky((1, "v"), (3, "u"))
    made = cache(tmp_path, **points())
    with recorded():
        run(made, unlucky.one, on_error="record")
    kept = {path: path.read_bytes() for path in records(made)}
    unlucky.bad = {(3, "u")}
    with recorded():
        run(made, unlucky.one, on_error="record")
    for path, content in kept.items():
        path.write_bytes(content)
    assert [{"x": 3, "y": "u"}] == [failure.arguments for failure in made.failures()]
    assert 1 == made.plan().failed_chunks
    assert 1 == made.plan().executed_points
    with recorded("1 point .* left out"):
        assert 1 == run(made, unlucky.one, retry="never")[1].failed_points


def test_versions_of_a_cache_keep_their_own_records(tmp_path: Path) -> None:
    """Another namespace in the same folder neither sees nor removes them."""
    with recorded():
        run(cache(tmp_path, **points()), Unlucky((1, "v")).one, on_error="record")
    other = cache(tmp_path, **points(version="v2"))
    assert [] == list(other.failures())
    run(other, Unlucky().one)
    assert 1 == len(cache(tmp_path, **points()).failures())


def test_the_warm_path_looks_at_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed where points miss, once in a call, and not at all where all are stored."""
    made = cache(tmp_path, **points())
    listed = []
    true_list = files.list_folder

    def noted(path: Any) -> list[str]:
        listed.extend([path] if "failures" in str(path) else [])
        return true_list(path)

    monkeypatch.setattr(files, "list_folder", noted)
    run(made, Unlucky().one)
    assert 1 == len(listed)
    run(made, Unlucky().one)
    made.plan()
    assert 1 == len(listed)


def test_many_failures_of_a_task_share_a_file(tmp_path: Path) -> None:
    """One file for each task that failed, however many of its points did."""
    made = cache(tmp_path, axis_values={"x": list(range(1000))}, chunk_spec={"x": 500}, vectorize=True)

    def odd(x: int) -> int:
        return 1 // (x % 2)

    with recorded("500 points .* 2 chunks: 500 × ZeroDivisionError"):
        run(made, odd, on_error="record")
    assert 2 == len(records(made))
    assert 500 == len(made.failures()) == made.failures().points


def test_gc_leaves_failures_and_forget_deletes_them(tmp_path: Path) -> None:
    """Records are no garbage; they go with the cache."""
    memo = ChunkMemo(tmp_path, {"x": 2}, AXES, verbose=0)

    @memo.cache(vectorize=True, version="1", on_error="record")
    def foo(x: int, y: str) -> float:
        return 1 / (x - 1 + "vu".index(y))

    with recorded():
        foo()
    foo.gc(grace=0.0, quarantine=True)
    assert 1 == len(foo.failures())
    foo.forget("1", force=True)
    assert [] == list(tmp_path.rglob("failures"))
    assert [] == list(foo.failures())


# --- the list, the plan and the summary -----------------------------------------------------------------------


def failed_cache(root: Path) -> ChunkCache:
    """Return a cache with three failures."""
    made = cache(root, **points(name="<foo>"))
    with recorded():
        run(made, Unlucky((1, "v"), (3, "u"), (4, "v")).one, on_error="record")
    return made


def test_failures_are_listed(tmp_path: Path) -> None:
    """Oldest first, of a slice its own, as dicts and as a frame, and cleared on request."""
    made = failed_cache(tmp_path)
    found = made.failures()
    assert isinstance(found, Failures)
    assert [(1, "v"), (3, "u"), (4, "v")] == [tuple(failure.arguments.values()) for failure in found]
    assert [{"x": 4, "y": "v"}] == [failure.arguments for failure in made.slice(x=[2, 4]).failures()]
    row = found.to_dicts()[0]
    assert ("ValueError", "no luck at 1v", "raised", 1, 1) == tuple(
        row[name] for name in ("error", "message", "cause", "points", "attempts")
    )
    assert "raise ValueError" in row["traceback"]
    assert row["traceback"].count("File ") == 1, "the library's own frames are left out"
    frame = found.to_frame()
    assert (3, ["ValueError"] * 3) == (len(frame), frame["error"].tolist())
    assert list(frame.columns) == list(Failures([]).to_frame().columns)
    found[1:].clear()
    assert [{"x": 1, "y": "v"}] == [failure.arguments for failure in made.failures()]
    made.failures().clear()
    assert [] == records(made)
    assert "no failures" == str(made.failures()) == repr(made.failures())


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than the terminal is wide; where there is room nothing is cut."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(failed_cache(tmp_path).failures()).splitlines()
    assert 4 == len(lines)
    assert all(len(line) <= width for line in lines)
    assert all("ValueError" in line and "x=" in line for line in lines[1:])
    assert width < 200 or all("no luck at" in line and "raised" in line for line in lines[1:])


def test_the_table_is_cut_after_a_hundred_rows(tmp_path: Path) -> None:
    """A long table says how many rows more there are."""
    made = cache(tmp_path, axis_values={"x": list(range(150))}, chunk_spec={"x": 50}, vectorize=True)
    with recorded():
        run(made, lambda x: 1 // 0, on_error="record")
    assert 1 + 100 + 1 == len(str(made.failures()).splitlines())
    assert "… and 50 more; to_dicts() and to_frame() give all" in str(made.failures())
    assert "50 more" in made.failures()._repr_html_()


def test_the_table_of_a_notebook_is_escaped(tmp_path: Path) -> None:
    """Texts of errors and arguments are shown, never run; there are no scripts."""

    def evil(x: str) -> None:
        raise ValueError("<script>alert(1)</script>")

    made = cache(tmp_path, axis_values={"x": ["<img src=x>"]}, chunk_spec={}, vectorize=True)
    with recorded():
        run(made, evil, on_error="record")
    text = made.failures()._repr_html_()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "no failures" in Failures([])._repr_html_()


def test_a_failure_is_reproduced(tmp_path: Path) -> None:
    """The function is called with exactly the arguments, and raises what it raised, for a debugger to look at."""
    made = failed_cache(tmp_path)
    failure = made.failures()[1]
    with pytest.raises(SpecError, match=r"does not know its function; pass it: failure.reproduce\(foo\)"):
        failure.reproduce()
    unlucky = Unlucky((3, "u"))
    with pytest.raises(ValueError, match="no luck at 3u") as caught:
        failure.reproduce(unlucky.one)
    assert "one" == caught.traceback[-1].name
    assert [(3, "u")] == unlucky.calls
    assert 4.5 == failure.reproduce(Unlucky().one)
    assert 3 == len(made.failures()), "nothing is stored by that"


def test_a_decorated_function_lists_its_failures(tmp_path: Path) -> None:
    """``foo.failures(…)`` takes what a call takes, and its failures know the function and its params."""
    memo = ChunkMemo(tmp_path, {"x": 2}, AXES, verbose=0)

    @memo.cache(on_error="record")
    def foo(x: list[int], y: list[str], alpha: int = 1) -> list[float]:
        return [i / (j - alpha) for i in x for j in map("uv".index, y)]

    with recorded("'.*foo' failed, in 2 chunks: 8 × ZeroDivisionError"):
        foo()
    foo(alpha=-1)
    assert [] == list(foo.failures(alpha=-1))
    (failure,) = foo.failures(x=3)
    assert ({"x": [3, 4], "y": ["u", "v"]}, 2) == (failure.arguments, failure.points)
    with pytest.raises(ZeroDivisionError):
        failure.reproduce()
    assert "failed before" == foo.plan().groups[0].reason


def test_plans_tell_what_failed_before(tmp_path: Path) -> None:
    """Chunks that only lack such points have a state of their own, and points a reason."""
    made = cache(tmp_path, **points())
    with recorded():
        run(made.slice(x=[1, 2]), Unlucky((1, "v")).one, on_error="record")
    with recorded():
        run(made.slice(x=3), Unlucky((3, "u")).one, on_error="record")
    plan = made.plan()
    assert [("not computed yet", 0, 0)] != [(g.reason, g.chunks, g.points) for g in plan.groups]
    assert {"failed before": (2, 2), "the chunk is stored in part": (1, 2)} == {
        group.reason: (group.chunks, group.points) for group in plan.groups
    }
    assert (1, 1, 0, 0, 4) == (
        plan.failed_chunks,
        plan.partial_chunks,
        plan.missing_chunks,
        plan.cached_chunks,
        plan.executed_points,
    )
    assert "1 failed" in repr(plan)
    assert "2 points in 2 chunks: failed before" in str(plan)
    status = made.cache_status()
    assert 2 == len(status["missing_chunks"])
    run(made, Unlucky().one)
    assert "failed" not in str(made.plan())


def test_the_summary_says_what_to_do(tmp_path: Path) -> None:
    """How many, of which types, the first one in full, and the way out; told at the caller's line, once."""

    def mixed(x: int, y: str) -> int:
        if x == 4:
            raise KeyError(x)
        return 1 // (x - 1)

    made = cache(tmp_path, **points(name="mixed"))
    with pytest.warns(FailureWarning) as told:
        run_streaming(made, mixed, on_error="record")
    (warning,) = told
    assert __file__ == warning.filename
    text = str(warning.message)
    assert "4 points of 'mixed' failed, in 2 chunks: 2 × ZeroDivisionError, 2 × KeyError" in text
    assert "first: ZeroDivisionError: integer division or modulo by zero, at x=1, y='u' (chunk " in text
    assert "cache.failures(), or mixed.failures() of the decorated function, lists the records" in text
    assert "retry=" in text
    made.extend_axis_values({"x": [1000]})
    with pytest.warns(FailureWarning, match="4 points of 'mixed' failed before and were left out, in 2 chunks"):
        run_streaming(made, mixed, on_error="record", retry="never")


# --- the promise ----------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(data=st.data())
def test_what_fails_is_marked_and_what_does_not_is_stored(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any set of failing points over any grid and chunking: stored are all others, marked exactly these.

    The next call runs exactly the calls that failed; when nothing fails any more, no record is left.
    """
    sizes = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    spec = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    vectorize = data.draw(st.booleans())
    map_fn = data.draw(st.sampled_from([None, "threads"]))
    xs, ys = list(range(sizes[0])), [f"y{i}" for i in range(sizes[1])]
    everything = [(x, y) for x in xs for y in ys]
    bad = data.draw(st.sets(st.sampled_from(everything)))
    axes, chunks = {"x": xs, "y": ys}, {"x": spec[0], "y": spec[1]}
    root = tmp_path_factory.mktemp("promise")
    unlucky = Unlucky(*bad, make=lambda x, y: [x, y])
    function = unlucky.one if vectorize else unlucky.several

    def called() -> tuple[list[Any], Any]:
        made = cache(root, axis_values=axes, chunk_spec=chunks, vectorize=vectorize)
        unlucky.calls.clear()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            output, done = run(made, function, on_error="record", map_fn=map_fn)
        assert bool(unlucky.bad) == any(issubclass(each.category, FailureWarning) for each in told)
        return output, done

    def same_chunk(one: Any, other: Any) -> bool:
        return all(i // size == j // size for i, j, size in zip(place(one), place(other), spec, strict=True))

    def place(point: Any) -> tuple[int, int]:
        return xs.index(point[0]), ys.index(point[1])

    marked = {p for p in everything if p in bad or (not vectorize and any(same_chunk(p, other) for other in bad))}
    for again in (False, True):
        output, done = called()
        assert marked == {p for p, value in zip(everything, output, strict=True) if isinstance(value, Failed)}
        assert [[*p] for p in everything if p not in marked] == [v for v in output if not isinstance(v, Failed)]
        assert len(marked) == done.failed_points
        assert not again or (marked if vectorize else marked & set(unlucky.calls)) == set(unlucky.calls)
        assert not again or 0 == done.executed_points
        made = cache(root, axis_values=axes, chunk_spec=chunks, vectorize=vectorize)
        assert marked == {tuple(point.values()) for failure in made.failures() for point in failure.each()}
        assert len(marked) == made.plan().executed_points
    unlucky.bad.clear()
    output, done = called()
    assert [[*p] for p in everything] == output
    assert len(marked) == done.executed_points
    assert [] == FailureLog(made.path, "v1").read()
    assert [] == records(made)
