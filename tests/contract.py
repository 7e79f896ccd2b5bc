"""What every map must do, whatever runs it; :mod:`test_maps_contract` goes through all of them with it.

Each check takes a folder and what ``map_fn=`` is to be, and raises where the map breaks the contract. The
functions write a line to a file for each call, so that calls are counted wherever they happen.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    ChunkCache,
    ChunkMemo,
    Diagnostics,
    FailureWarning,
    run,
    run_chunks,
    run_parallel,
    run_streaming,
)

X, Y = list(range(8)), [0.5, 1.5, 2.5]
AXES: dict[str, list[Any]] = {"x": X, "y": Y}
SPEC = {"x": 2, "y": 2}
CHUNKS = 8


class Counted:
    """A function over two axes that notes each call in a file; at some values it raises."""

    def __init__(self, log: Path, bad: Sequence[int] = ()) -> None:
        self.log = str(log)
        self.bad = tuple(bad)

    def note(self, x: Any, y: Any) -> None:
        """Append a line in one write."""
        line = f"{x} {y}\n".encode()
        handle = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.write(handle, line)
        os.close(handle)

    def __call__(self, x: Any, y: Any) -> Any:
        """Return a grid of numbers for lists, a number for single values."""
        self.note(x, y)
        if any(value in self.bad for value in np.atleast_1d(x)):
            raise ValueError(f"bad {x}")
        return np.add.outer(np.multiply(10.0, x), y)

    @property
    def calls(self) -> list[str]:
        """The calls so far, sorted."""
        path = Path(self.log)
        return sorted(path.read_text().splitlines()) if path.exists() else []


def cache(folder: Path, **options: Any) -> ChunkCache:
    """Return the cache that checks run over."""
    return ChunkCache(folder / "root", "contract", {}, SPEC, AXES, verbose=0, **options)


def counts(diagnostics: Diagnostics) -> dict[str, int]:
    """Return what must be equal whatever runs the chunks."""
    kept = dataclasses.asdict(diagnostics)
    return {name: value for name, value in kept.items() if "seconds" not in name and name != "max_parallel_items"}


def expected() -> Any:
    """Return what the whole grid gives."""
    return np.add.outer(np.multiply(10.0, X), Y)


def check_results(folder: Path, map_fn: Any) -> None:
    """Equal results, call counts and diagnostics to those of a run without a map; nothing runs twice."""
    serial, mapped = Counted(folder / "serial"), Counted(folder / "mapped")
    _, reference = run(cache(folder / "a"), serial)
    output, diagnostics = run(cache(folder / "b"), mapped, map_fn=map_fn)
    assert np.array_equal(expected(), output)
    assert counts(reference) == counts(diagnostics)
    assert serial.calls == mapped.calls
    assert CHUNKS == len(mapped.calls)
    again, diagnostics = run(cache(folder / "b"), mapped, map_fn=map_fn)
    assert np.array_equal(expected(), again)
    assert (0, 24) == (diagnostics.executed_points, diagnostics.cached_points)


def check_growth(folder: Path, map_fn: Any) -> None:
    """Of a request that is stored in part only the rest is run."""
    function = Counted(folder / "log")
    run(cache(folder).slice(x=[1, 4], y=[2.5]), function, map_fn=map_fn)
    output, diagnostics = run(cache(folder), function, map_fn=map_fn)
    assert np.array_equal(expected(), output)
    assert (22, 2) == (diagnostics.executed_points, diagnostics.cached_points)


def check_points(folder: Path, map_fn: Any) -> None:
    """A function of single values is called once for each point."""
    function = Counted(folder / "log")
    output, diagnostics = run(cache(folder, vectorize=True), function, map_fn=map_fn)
    assert np.array_equal(expected(), output)
    assert 24 == diagnostics.executed_points == len(function.calls)


def check_streaming(folder: Path, map_fn: Any) -> None:
    """Streaming runs store everything and return diagnostics alone."""
    function = Counted(folder / "log")
    diagnostics = run_streaming(cache(folder), function, map_fn=map_fn)
    assert (24, CHUNKS) == (diagnostics.executed_points, diagnostics.stream_flushes)
    assert 24 == run(cache(folder), function)[1].cached_points


def check_chunks(folder: Path, map_fn: Any) -> None:
    """Explicit chunks come back in the order in which they were asked for."""
    made = cache(folder)
    keys = [*made.resolved_chunk_keys()][:3][::-1]
    outputs, diagnostics = run_chunks(keys, Counted(folder / "log"), cache=made, map_fn=map_fn)
    for key, output in zip(keys, outputs, strict=True):
        assert np.array_equal(np.add.outer(np.multiply(10.0, key[0][1]), key[1][1]), output)
    assert 3 == diagnostics.executed_chunks


def check_items(folder: Path, map_fn: Any) -> None:
    """Items come back in their order, each run once with single values."""
    function = Counted(folder / "log")
    items = [(7, 2.5), (0, 0.5), {"y": 1.5, "x": 3}, (7, 2.5)]
    outputs, diagnostics = run_parallel(items, exec_fn=function, cache=cache(folder), map_fn=map_fn)
    assert [72.5, 0.5, 31.5, 72.5] == outputs
    assert 3 == diagnostics.executed_points == len(function.calls)
    more, diagnostics = run_parallel([(0, 0.5), (1, 0.5)], exec_fn=function, cache=cache(folder), map_fn=map_fn)
    assert ([0.5, 10.5], 1) == (more, diagnostics.executed_points)


def check_error(folder: Path, map_fn: Any) -> None:
    """The first error is raised with its chunk and points; what was done before is kept."""
    function = Counted(folder / "log", bad=[5])
    with pytest.raises(ValueError, match=r"bad \[4, 5\]") as caught:
        run(cache(folder, name="sweep"), function, map_fn=map_fn)
    notes = " ".join(caught.value.__notes__)
    assert "sweep computed x=[4, 5], y=" in notes
    assert "finished chunks are kept" in notes
    healthy = Counted(folder / "second")
    output, diagnostics = run(cache(folder, name="sweep"), healthy, map_fn=map_fn)
    assert np.array_equal(expected(), output)
    assert 24 == diagnostics.executed_points + diagnostics.cached_points
    assert 8 <= diagnostics.cached_points, "chunks that were done before the error were not kept"


def check_record(folder: Path, map_fn: Any) -> None:
    """With ``on_error="record"`` the others are stored, and the next call runs only what failed."""
    made, function = cache(folder, name="sweep"), Counted(folder / "log", bad=[5])
    with pytest.warns(FailureWarning, match="6 points of 'sweep' failed"):
        output, diagnostics = run(made, function, map_fn=map_fn, on_error="record")
    assert (18, 6) == (diagnostics.executed_points, diagnostics.failed_points)
    assert output.mask[5].all()
    assert not output.mask[:4].any()
    assert {"ValueError"} == {failure.error_type for failure in made.failures()}
    assert all("bad [4, 5]" in failure.traceback for failure in made.failures())
    healthy = Counted(folder / "second")
    output, diagnostics = run(made, healthy, map_fn=map_fn, on_error="record")
    assert np.array_equal(expected(), output)
    assert {"[4, 5]"} == {call[: call.index("]") + 1] for call in healthy.calls}
    assert [] == list(made.failures())


def check_by_value(folder: Path, map_fn: Any) -> None:
    """Outputs travel back and are stored by the caller."""
    output, diagnostics = run(cache(folder), Counted(folder / "log"), map_fn=map_fn, by_value=True)
    assert np.array_equal(expected(), output)
    assert 24 == diagnostics.executed_points
    assert 24 == run(cache(folder), Counted(folder / "log"))[1].cached_points


def check_closures(folder: Path, map_fn: Any) -> None:
    """Lambdas and closures travel."""
    factor = 3.0

    def closure(x: list[int], y: list[float]) -> list[float]:
        return [factor * a + b for a in x for b in y]

    output, _ = run(cache(folder), closure, map_fn=map_fn)
    assert [factor * a + b for a in X for b in Y] == output
    other = ChunkCache(folder / "other", "c", {}, {"s": 2}, {"s": [1, 2, 3, 4, 5]}, verbose=0)
    assert [2, 3, 4, 5, 6] == run(other, lambda s: [v + 1 for v in s], map_fn=map_fn)[0]


def check_records(folder: Path, map_fn: Any) -> None:
    """Outputs of any native form come back as they were."""

    def records(x: list[int], y: list[float]) -> list[dict[str, Any]]:
        return [{"x": a, "text": f"{a}-{b}", "pair": (a, b), "none": None} for a in x for b in y]

    output, _ = run(cache(folder), records, map_fn=map_fn)
    assert records(X, Y) == output


def check_decorated(folder: Path, map_fn: Any) -> None:
    """A decorated function takes ``map_fn`` in its call, and at its decoration."""
    memo = ChunkMemo(folder / "memo", SPEC, AXES, verbose=0)
    function = Counted(folder / "log")

    @memo.cache(version="1", map_fn=map_fn)
    def decorated(scale: float, x: list[int], y: list[float]) -> Any:
        return scale * function(x, y)

    output, diagnostics = decorated(2.0)
    assert np.array_equal(2.0 * expected(), output)
    assert 24 == diagnostics.executed_points
    output, diagnostics = decorated(3.0, map_fn=None)
    assert np.array_equal(3.0 * expected(), output)
    assert 2 * CHUNKS == len(function.calls)
    assert 0 == decorated(2.0, x=[1, 3])[1].executed_points


CHECKS: dict[str, Callable[[Path, Any], None]] = {
    name.removeprefix("check_"): check for name, check in sorted(globals().items()) if name.startswith("check_")
}
"""All checks by name."""
