"""The four runners: what they compute, return, report and emit, for our cache and for a user's own."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    CacheProtocol,
    ChunkCache,
    Diagnostics,
    RunnerContext,
    SignatureError,
    SpecError,
    run,
    run_chunks,
    run_chunks_streaming,
    run_streaming,
)
from chunk_memo.events import ChunkDone, Event, PointFailed, RunFinished, RunStarted

AXES: dict[str, Any] = {"x": [1, 2, 3], "y": ["u", "v"]}


def cache(root: Path, cache_id: str = "some", **options: Any) -> ChunkCache:
    """Return a cache over `AXES` in chunks of two x; every call opens it anew."""
    given: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 2}, "verbose": 0, "durability": "fast"}
    return ChunkCache(root, cache_id, **given | options)


def repeated(x: list[int], y: list[str]) -> list[str]:
    """Return one output per point."""
    return [j * i for i in x for j in y]


def refuse(**arguments: Any) -> Any:
    """Stand where a function must not be called."""
    raise AssertionError(f"called with {arguments}")


ALL = repeated([1, 2, 3], ["u", "v"])
KEYS = [(("x", (1, 2)), ("y", ("u", "v"))), (("x", (3,)), ("y", ("u", "v")))]


# --- the four runners --------------------------------------------------------------------------------------


def test_chunks_whose_bins_overlap_are_called_whole(tmp_path: Path) -> None:
    """A chunk that overlapping bins cut into cells is one call, also for some of its points, and one file."""
    keys = [
        (("x", (1, 2, 3)), ("y", ("u",))),
        (("x", (1, 2)), ("y", ("v",))),
        (("x", (3,)), ("y", ("v",))),
    ]
    calls: list[tuple[list[int], list[str]]] = []

    def noted(x: list[int], y: list[str]) -> list[str]:
        calls.append((x, y))
        return repeated(x, y)

    def opened(place: str) -> ChunkCache:
        return cache(tmp_path / place, chunk_enumerator=lambda values: keys)

    assert ALL == run(opened("whole"), noted)[0]
    assert sorted([([1, 2, 3], ["u"]), ([1, 2], ["v"]), ([3], ["v"])]) == sorted(calls)
    assert 3 == len(list(tmp_path.rglob("*.h5")))
    assert ALL == run(opened("whole"), refuse)[0]
    calls.clear()
    run(opened("some").slice(x=[2]), noted)
    output, done = run(opened("some").slice(x=[3, 2, 1], y=["v", "u"]), noted)
    assert repeated([3, 2, 1], ["v", "u"]) == output
    assert (4, 2) == (done.executed_points, done.cached_points)
    assert 6 == sum(len(x) * len(y) for x, y in calls)
    assert ([1, 3], ["u"]) in calls


def test_outputs_of_mixed_types_reach_every_cell_of_their_chunk(tmp_path: Path) -> None:
    """A call whose outputs have no rows of their own in the arrays is cut into cells all the same."""
    keys = [
        (("x", (1, 2, 3)), ("y", ("u",))),
        (("x", (1, 2)), ("y", ("v",))),
        (("x", (3,)), ("y", ("v",))),
    ]
    mixed = {1: None, 2: "two", 3: {"a": [3]}}

    def noted(x: list[int], y: list[str]) -> list[Any]:
        return [mixed[a] for a in x for _ in y]

    for fn in (noted, refuse):
        output, _ = run(cache(tmp_path, chunk_enumerator=lambda values: keys), fn)
        assert [mixed[x] for x in (1, 2, 3) for _ in "uv"] == output


@pytest.mark.parametrize("names", [("\0", "b"), ("a\0b", "a\0c"), ("a", "b")])
def test_names_of_fields_that_hdf5_cannot_have_are_kept(tmp_path: Path, names: tuple[str, str]) -> None:
    """HDF5 ends names at a NUL; fields called like that come back under their own names all the same."""
    records = np.zeros((3, 2), [(name, "i4") for name in names])
    records[names[1]] = np.arange(6).reshape(3, 2)
    for fn in (lambda x, y: records[[i - 1 for i in x]], refuse):
        output, _ = run(cache(tmp_path), fn)
        assert records.dtype == output.dtype
        assert records.tolist() == output.tolist()


def test_run_collects(tmp_path: Path) -> None:
    """The outputs come in the order asked, computed once and read afterwards."""
    output, done = run(cache(tmp_path), repeated)
    assert (ALL, 2, 6) == (output, done.executed_chunks, done.executed_points)
    output, done = run(cache(tmp_path), refuse)
    assert (ALL, 2, 6) == (output, done.cached_chunks, done.cached_points)


def test_run_streaming_stores(tmp_path: Path) -> None:
    """Nothing is returned but diagnostics, and what was stored is read by others."""
    done = run_streaming(cache(tmp_path), repeated)
    assert (2, 6, 4, 2) == (
        done.executed_chunks,
        done.executed_points,
        done.max_stream_items,
        done.stream_flushes,
    )
    assert (2, 0) == (
        run_streaming(cache(tmp_path), refuse).cached_chunks,
        run(cache(tmp_path), refuse)[1].executed_points,
    )


def test_run_chunks_runs_the_keys_that_it_is_given(tmp_path: Path) -> None:
    """Whole chunks and parts of them, in the order given, axes named in any order."""
    made = cache(tmp_path)
    assert KEYS == made.cache_status()["missing_chunks"]
    output, done = run_chunks([KEYS[1], (("y", ("v",)), ("x", (2,)))], repeated, cache=made)
    assert (["uuu", "vvv", "vv"], 2, 3) == (output, done.executed_chunks, done.executed_points)
    output, done = run_chunks(KEYS, repeated, cache=cache(tmp_path))
    assert (ALL, 3, 3, 1) == (output, done.executed_points, done.cached_points, done.partial_chunks)
    assert ([], 0) == (lambda r: (r[0], r[1].total_chunks))(run_chunks([], refuse, cache=made))


def test_run_chunks_of_arrays_gives_an_entry_per_key(tmp_path: Path) -> None:
    """Arrays of several chunks are not put together."""
    entries, _ = run_chunks(
        KEYS, lambda x, y: np.array(repeated(x, y)).reshape(len(x), -1), cache=cache(tmp_path)
    )
    assert [(2, 2), (1, 2)] == [entry.shape for entry in entries]


def test_run_chunks_collates_per_key(tmp_path: Path) -> None:
    """``collate_fn`` gets one entry per key, the cache's or that of the call."""
    made = cache(tmp_path, collate_fn=len)
    assert 2 == run_chunks(KEYS, repeated, cache=made)[0]
    assert [ALL[:4], ALL[4:]] == run_chunks(KEYS, repeated, cache=made, collate_fn=list)[0]


def test_run_chunks_streaming_stores_the_keys(tmp_path: Path) -> None:
    """Only the keys given are computed."""
    done = run_chunks_streaming(KEYS[1:], repeated, cache=cache(tmp_path))
    assert (1, 2, 2) == (done.executed_chunks, done.executed_points, done.max_stream_items)
    assert KEYS[1:] == cache(tmp_path).cache_status()["cached_chunks"]
    assert 4 == run_chunks_streaming(KEYS, repeated, cache=cache(tmp_path)).executed_points


@pytest.mark.parametrize("runner", [run_chunks, run_chunks_streaming])
def test_keys_are_one_run(tmp_path: Path, runner: Any) -> None:
    """Chunks of different keys are computed side by side, under one bar."""
    both, events = threading.Barrier(2, timeout=60), list[Event]()

    def meets(x: list[int], y: list[str]) -> list[str]:
        both.wait()
        return repeated(x, y)

    runner(KEYS, meets, cache=cache(tmp_path), map_fn="threads", observers=[events.append])
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    assert (2, 6) == (started.chunks, started.points)
    assert ALL == run(cache(tmp_path), refuse)[0]


@pytest.mark.parametrize("map_fn", [None, "threads"])
def test_points_that_two_keys_name_are_computed_once(tmp_path: Path, map_fn: str | None) -> None:
    """Keys may be given twice, and may overlap."""
    counted = list[tuple[int, str]]()

    def counting(x: list[int], y: list[str]) -> list[str]:
        counted.extend((i, j) for i in x for j in y)
        return repeated(x, y)

    keys = [KEYS[0], (("x", (2, 3)), ("y", ("v",))), KEYS[0], KEYS[1]]
    output, done = run_chunks(keys, counting, cache=cache(tmp_path), map_fn=map_fn)
    assert [*ALL[:4], "vv", "vvv", *ALL] == output
    assert (6, 6) == (len(counted), len({*counted}))
    assert (6, 6, 12) == (done.executed_points, done.cached_points, done.total_points)


def test_keys_of_one_chunk_are_read_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each is read when its turn comes, and not again in the turn of every other."""
    wide: dict[str, Any] = {"axis_values": {"x": range(30), "y": ["u"]}, "chunk_spec": {"x": 30}}
    made, reads, read = cache(tmp_path, **wide), list[Any](), ChunkCache.read

    def counted(self: ChunkCache, *args: Any, **options: Any) -> Any:
        reads.append(args)
        return read(self, *args, **options)

    monkeypatch.setattr(ChunkCache, "read", counted)
    keys = [(("x", (number,)), ("y", ("u",))) for number in range(30)]
    output, done = run_chunks(keys, repeated, cache=made)
    assert ([number * "u" for number in range(30)], 30) == (output, done.executed_points)
    assert 60 >= len(reads)


def test_keys_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A key names every axis, with values that the axis has."""
    for runner in (run_chunks, run_chunks_streaming):
        with pytest.raises(KeyError, match="'x' has no value 9"):
            runner([(("x", (9,)), ("y", ("u",)))], repeated, cache=cache(tmp_path))
        with pytest.raises(KeyError, match="names every axis"):
            runner([(("x", (1,)),)], repeated, cache=cache(tmp_path))


def test_only_missing_points_run_and_in_few_calls(tmp_path: Path) -> None:
    """The points that are missing in a chunk are cut into boxes; nothing runs twice."""
    wide: dict[str, Any] = {"axis_values": {"x": [1, 2, 3, 4], "y": [1, 2, 3]}, "chunk_spec": {}}
    calls: list[tuple[list[int], list[int]]] = []

    def noted(x: list[int], y: list[int]) -> list[int]:
        calls.append((x, y))
        return [i * j for i in x for j in y]

    run(cache(tmp_path, **wide).slice(x=[4, 2], y=[3]), noted)
    output, done = run(cache(tmp_path, **wide), noted)
    assert [i * j for i in (1, 2, 3, 4) for j in (1, 2, 3)] == output
    assert (10, 1, 1) == (done.executed_points, done.partial_chunks, done.executed_chunks)
    points = [point for x, y in calls for point in itertools.product(x, y)]
    assert (3, 12, 12) == (len(calls), len(points), len(set(points)))


def test_a_value_asked_for_twice_runs_once(tmp_path: Path) -> None:
    """Repetitions are returned, not computed."""
    output, done = run(cache(tmp_path).slice(x=[2, 2, 1], y=["v", "v"]), repeated)
    assert (["vv"] * 4 + ["v"] * 2, 2, 2) == (output, done.executed_points, done.total_points)


def test_the_function_gets_lists(tmp_path: Path) -> None:
    """A block function gets one list per axis by keyword; a point function single values."""
    seen: list[dict[str, Any]] = []

    def block(**axes: Any) -> list[Any]:
        seen.append(axes)
        return repeated(**axes)

    run(cache(tmp_path, "block"), block)
    assert [{"x": [1, 2], "y": ["u", "v"]}, {"x": [3], "y": ["u", "v"]}] == seen
    seen.clear()

    def point(**axes: Any) -> str:
        seen.append(axes)
        return str(axes["y"] * axes["x"])

    assert ALL == run(cache(tmp_path, "point", vectorize=True), point)[0]
    assert [{"x": i, "y": j} for i in (1, 2, 3) for j in ("u", "v")] == seen


# --- collate_fn, context, on_partial -----------------------------------------------------------------------


def test_collate_fn_may_be_given_per_run(tmp_path: Path) -> None:
    """The run's goes before the context's, that before the cache's."""
    made = cache(tmp_path, collate_fn=lambda entries: ("cache", len(entries)))
    assert ("cache", 2) == run(made, repeated)[0]
    assert ("run", 2) == run(made, refuse, collate_fn=lambda entries: ("run", len(entries)))[0]
    context = Settings(collate_fn=lambda entries: ("context", len(entries)))
    assert ("context", 2) == run(made, refuse, context=context)[0]
    assert ("run", 2) == run(made, refuse, context=context, collate_fn=lambda entries: ("run", len(entries)))[0]
    assert ALL == run(made, refuse, context=Settings())[0]


@dataclasses.dataclass
class Settings:
    """A context of one's own."""

    verbose: int = 0
    profile: bool = False
    collate_fn: Callable[[list[Any]], Any] | None = None


def test_a_context_brings_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``profile`` and ``collate_fn`` are taken from it; a cache is a context too."""
    assert isinstance(Settings(), RunnerContext)
    assert isinstance(cache(tmp_path), RunnerContext)
    with caplog.at_level(logging.INFO, "chunk_memo"):
        run_streaming(cache(tmp_path, profile=True), repeated, context=Settings())
        assert [] == caplog.messages
        run(cache(tmp_path), refuse, context=cache(tmp_path, "other", profile=True))
    assert 1 == len(caplog.messages)


def test_on_partial_return_gives_what_is_there(tmp_path: Path) -> None:
    """As the document has it: a chunk stored in part is returned as it is and counted; others are computed."""
    run(cache(tmp_path).slice(x=[2], y=["v"]), repeated)
    output, done = run(cache(tmp_path), repeated, on_partial="return")
    assert (["vv", "uuu", "vvv"], 1, 1) == (output, done.partial_chunks, done.executed_chunks)
    assert (6, 1, 2) == (done.total_points, done.cached_points, done.executed_points)
    entries, _ = run(cache(tmp_path), repeated, on_partial="return", collate_fn=list)
    assert [["vv"], ["uuu", "vvv"]] == entries
    output, done = run_chunks(KEYS, repeated, cache=cache(tmp_path), on_partial="return")
    assert (["vv", "uuu", "vvv"], 1) == (output, done.partial_chunks)
    output, done = run(cache(tmp_path), repeated)
    assert (ALL, 1, 3) == (output, done.partial_chunks, done.executed_points)


def test_on_partial_return_never_makes_up_numbers(tmp_path: Path) -> None:
    """Arrays cannot show holes, so they are refused; other words than the two are, too."""

    def lengths(x: list[int], y: list[str]) -> np.ndarray:
        return np.ones((len(x), len(y)))

    run(cache(tmp_path).slice(x=[2], y=["v"]), lengths)
    with pytest.raises(SpecError, match=r"on_partial='return' leaves points out.*holds \['grid'\].*'compute'"):
        run(cache(tmp_path), lengths, on_partial="return")
    with pytest.raises(SpecError, match="on_partial must be 'compute' or 'return', got 'maybe'"):
        run(cache(tmp_path), lengths, on_partial="maybe")


# --- what is reported --------------------------------------------------------------------------------------


def test_diagnostics_tell_what_was_done(tmp_path: Path) -> None:
    """Chunks and points found, computed and stored; bytes; seconds."""
    run(cache(tmp_path).slice(x=[1]), repeated)
    _, done = run(cache(tmp_path), repeated)
    counts = {name: value for name, value in dataclasses.asdict(done).items() if "seconds" not in name}
    assert counts["bytes_read"] > 0 < counts["bytes_written"]
    assert {
        "total_chunks": 2,
        "cached_chunks": 0,
        "executed_chunks": 2,
        "partial_chunks": 1,
        "merges": 1,
        "max_stream_items": 6,
        "stream_flushes": 0,
        "max_parallel_items": 0,
        "total_points": 6,
        "cached_points": 2,
        "executed_points": 4,
        "bytes_read": counts["bytes_read"],
        "bytes_written": counts["bytes_written"],
        "failed_points": 0,
        "nondeterministic_chunks": 0,
    } == counts
    seconds = [getattr(done, f"{name}_seconds") for name in ("plan", "read", "execute", "write")]
    assert [True] * 4 == [isinstance(value, float) and value >= 0 for value in seconds]
    _, again = run(cache(tmp_path), refuse)
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.h5"))
    assert (stored, 0, 0.0) == (again.bytes_read, again.bytes_written, again.execute_seconds)


def test_events_tell_an_observer_what_happens(tmp_path: Path) -> None:
    """A run that computes starts, reports each call, and finishes; a run that only reads is silent."""
    events: list[Event] = []
    run(cache(tmp_path, name="sweep").slice(x=3), repeated)
    run(cache(tmp_path, name="sweep"), repeated, observers=[events.append])
    started, chunk, finished = events
    assert RunStarted("sweep", "some", chunks=2, points=6, cached_points=2) == started
    assert isinstance(chunk, ChunkDone)
    assert (cache(tmp_path).chunk_hash(KEYS[0]), 4) == (chunk.chunk_hash, chunk.points)
    assert chunk.bytes_written > 0 <= chunk.seconds
    assert isinstance(finished, RunFinished)
    assert (True, True) == (finished.complete, finished.seconds >= chunk.seconds)
    events.clear()
    run(cache(tmp_path), refuse, observers=[events.append])
    assert [] == events


@pytest.mark.parametrize("runner", [run, run_streaming])
@pytest.mark.parametrize("error", [ArithmeticError("boom"), KeyboardInterrupt()])
def test_a_function_that_raises(tmp_path: Path, runner: Callable[..., Any], error: BaseException) -> None:
    """The error comes through with a note and an event; chunks finished before are kept."""
    events: list[Event] = []

    def fails(x: list[int], y: list[str]) -> list[str]:
        if 3 in x:
            raise error
        return repeated(x, y)

    with pytest.raises(type(error)) as caught:
        runner(cache(tmp_path, name="fails"), fails, observers=[events.append])
    note = caught.value.__notes__[0]
    parts = ("fails computed x=[3], y=['u', 'v']", cache(tmp_path).chunk_hash(KEYS[1]), "cache some", "kept")
    assert [] == [part for part in parts if part not in note]
    failed = [event for event in events if isinstance(event, PointFailed)]
    assert ([{"x": [3], "y": ["u", "v"]}] if isinstance(error, Exception) else []) == [
        e.arguments for e in failed
    ]
    assert isinstance(events[-1], RunFinished)
    assert not events[-1].complete
    assert 4 == run(cache(tmp_path), repeated)[1].cached_points


def test_a_point_function_that_raises_names_its_point(tmp_path: Path) -> None:
    """The note and the event hold single values."""
    events: list[Event] = []

    def fails(x: int, y: str) -> str:
        if (x, y) == (2, "v"):
            raise ArithmeticError("boom")
        return y

    with pytest.raises(ArithmeticError) as caught:
        run(cache(tmp_path, vectorize=True), fails, observers=[events.append])
    assert "computed x=2, y='v'" in caught.value.__notes__[-1]
    assert [{"x": 2, "y": "v"}] == [event.arguments for event in events if isinstance(event, PointFailed)]


# --- a user's own cache ------------------------------------------------------------------------------------


class Memory:
    """A cache in memory, which keeps items in a dict; it knows nothing of ours."""

    def __init__(self, **axes: list[Any]) -> None:
        self.axes = axes
        self.stored: dict[str, dict[str, Any]] = {}
        self.noted: list[str] = []
        self.described = 0
        self.collate_fn: Callable[[list[Any]], Any] | None = None
        self.verbose = 0
        self.profile = False

    def chunk_keys(self) -> list[Any]:
        """Return one chunk per value of the first axis."""
        (first, values), *others = self.axes.items()
        return [((first, (value,)), *((n, tuple(vs)) for n, vs in others)) for value in values]

    def cache_status(self) -> Mapping[str, Any]:
        """Tell which chunks are stored."""
        keys = self.chunk_keys()
        there = [key for key in keys if self.chunk_hash(key) in self.stored]
        return {
            "cache_id": "memory",
            "axis_values": self.axes,
            "axis_order": tuple(self.axes),
            "cached_chunks": there,
            "missing_chunks": [key for key in keys if key not in there],
        }

    def write_metadata(self) -> Path:
        """Count the calls."""
        self.described += 1
        return Path("nowhere")

    def chunk_hash(self, chunk_key: Any) -> str:
        """Name a chunk."""
        return repr(chunk_key)

    def resolve_cache_path(self, chunk_key: Any, chunk_hash: str) -> Path:
        """Place a chunk."""
        assert self.chunk_hash(chunk_key) == chunk_hash
        return Path(chunk_hash)

    def load_payload(self, path: Path) -> dict[str, Any] | None:
        """Return what is stored under a path."""
        return self.stored.get(str(path))

    def write_chunk_payload(
        self, path: Path, payload: Mapping[str, Any], *, existing: Mapping[str, Any] | None = None
    ) -> Path:
        """Store items beside those that were there."""
        assert existing == self.load_payload(path)
        before = (existing or {}).get("items", {})
        self.stored[str(path)] = {"items": {**before, **payload["items"]}, "spec": dict(payload["spec"])}
        return path

    def update_chunk_index(self, chunk_hash: str, chunk_key: Any) -> None:
        """Take note of a chunk."""
        self.noted.append(chunk_hash)

    def item_hash(self, chunk_key: Any, axis_values: Sequence[Any]) -> str:
        """Name a point."""
        return repr(axis_values)


def test_a_class_of_ones_own_fulfils_the_protocol(tmp_path: Path) -> None:
    """So does a ChunkCache; an object that lacks a method is refused by its name."""
    assert isinstance(Memory(x=[1]), CacheProtocol)
    assert isinstance(cache(tmp_path), CacheProtocol)

    class Half:
        def cache_status(self) -> dict[str, Any]:
            return {}

    with pytest.raises(
        SignatureError, match=r"'Half' cannot be run as a cache: it lacks .*load_payload.*CacheProtocol"
    ):
        run(Half(), repeated)  # type: ignore[arg-type]


def test_the_four_runners_take_a_cache_of_ones_own() -> None:
    """They read what it has, compute what it lacks, hand it over chunk by chunk and let it take note."""
    memory = Memory(**AXES)
    keys = memory.chunk_keys()
    done: Diagnostics = run_chunks_streaming(keys[1:2], repeated, cache=memory)
    assert (1, 1, 2) == (done.total_chunks, done.executed_chunks, done.executed_points)
    output, done = run_chunks(keys[:2], repeated, cache=memory)
    assert (ALL[:4], 1, 1) == (output, done.cached_chunks, done.executed_chunks)
    done = run_streaming(memory, repeated)
    assert (2, 1) == (done.cached_chunks, done.executed_chunks)
    output, done = run(memory, refuse)
    assert (ALL, 3, 6) == (output, done.cached_chunks, done.cached_points)
    assert [memory.chunk_hash(keys[n]) for n in (1, 0, 2)] == memory.noted
    assert 4 == memory.described
    items = memory.stored[memory.chunk_hash(keys[2])]
    assert {"(3, 'u')": "uuu", "(3, 'v')": "vvv"} == items["items"]
    assert [{"x": 3, "y": "u"}, {"x": 3, "y": "v"}] == list(items["spec"].values())


def test_a_chunk_that_ones_own_cache_holds_in_part() -> None:
    """Missing points are computed and joined; with ``on_partial="return"`` they are left out and counted."""
    memory = Memory(**AXES)
    run(memory, repeated)
    del memory.stored[memory.chunk_hash(memory.chunk_keys()[1])]["items"]["(2, 'u')"]
    output, done = run(memory, refuse, on_partial="return")
    assert ([*ALL[:2], "vv", *ALL[4:]], 1) == (output, done.partial_chunks)
    output, done = run(memory, repeated)
    assert (ALL, 1, 1) == (output, done.partial_chunks, done.executed_points)
    assert ALL == run(memory, refuse)[0]


def test_ones_own_cache_collates() -> None:
    """Its ``collate_fn`` is honoured, and that of the call goes before it."""
    memory = Memory(**AXES)
    memory.collate_fn = len
    assert 3 == run(memory, repeated)[0]
    expected = [repeated([x], ["u", "v"]) for x in (1, 2, 3)]
    assert expected == run(memory, refuse, collate_fn=list)[0]
    assert expected == run_chunks(memory.chunk_keys(), refuse, cache=memory, collate_fn=list)[0]


def test_ones_own_cache_without_axes() -> None:
    """One chunk of one point."""

    class Single(Memory):
        def chunk_keys(self) -> list[Any]:
            return [()]

    memory = Single()
    assert [[{"a": 1}], [{"a": 1}]] == [run(memory, lambda: {"a": 1})[0], run(memory, refuse)[0]]


class Overridden(ChunkCache):
    """A cache of ours with one method replaced."""

    written: list[str]

    def update_chunk_index(self, chunk_hash: str, chunk_key: Any) -> None:
        """Take note of the chunks that are stored."""
        self.written.append(chunk_hash)


def test_a_subclass_may_replace_a_method(tmp_path: Path) -> None:
    """A runner calls what a subclass replaced; what it stored is read by others."""
    made = Overridden(tmp_path, "some", axis_values=AXES, chunk_spec={"x": 2}, verbose=0)
    made.written = []
    assert ALL == run(made, repeated)[0]
    assert [made.chunk_hash(key) for key in KEYS] == made.written
    assert (ALL, 0) == (lambda r: (r[0], r[1].executed_points))(run(cache(tmp_path), refuse))


def test_many_small_chunks(tmp_path: Path) -> None:
    """A grid of a thousand chunks is run and read whole, in order."""
    many: dict[str, Any] = {"axis_values": {"x": range(40), "y": range(25)}, "chunk_spec": {"x": 1, "y": 1}}
    expected = [i * j for i, j in itertools.product(range(40), range(25))]
    cold, done = run(cache(tmp_path, **many), lambda x, y: [x[0] * y[0]])
    assert (expected, 1000) == (cold, done.executed_chunks)
    assert (
        expected[::-1] == run(cache(tmp_path, **many).slice(x=range(39, -1, -1), y=range(24, -1, -1)), refuse)[0]
    )
