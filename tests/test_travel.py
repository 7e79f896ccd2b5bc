"""Caches, memos and decorated functions go to other processes, and mean the same there."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import ChunkCache, ChunkMemo, Options, SpecError, run
from chunk_memo.travel import packed, unpacked

SCRIPT = """
import sys
from chunk_memo import ChunkMemo

memo = ChunkMemo(sys.argv[1], {"s": 2}, {"s": [1, 2, 3, 4]}, verbose=0)
FACTOR = 3


def helper(value):
    return FACTOR * value


@memo.cache()
def inner(s, scale=2):
    return [scale * value for value in s]


@memo.cache(map_fn="processes", map_fn_kwargs={"workers": 2})
def outer(s):
    return [helper(value) + inner(s=[value])[0][0] for value in s]


print(outer()[0], outer()[1].executed_points, inner()[1].executed_points)
"""


def doubled(s: list[int]) -> list[int]:
    """Return each value twice as large."""
    return [2 * value for value in s]


def refuse(s: list[int]) -> list[int]:
    """Fail: everything should be stored."""
    raise AssertionError(s)


def call(function: Callable[..., Any]) -> Any:
    """Call a decorated function in this process."""
    return function(2.0, s=[1, 2])


def test_a_cache_and_its_slices_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickled cache opens the same folder, whatever the working directory there; a slice stays one."""
    monkeypatch.chdir(tmp_path)
    cache = ChunkCache("root", "some", {"params": {"a": 1}}, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    run(cache, doubled)
    sent = pickle.dumps((cache, cache.slice(s=[3, 1])))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    whole, view = pickle.loads(sent)
    assert [2, 4, 6] == run(whole, refuse)[0]
    assert [6, 2] == run(view, refuse)[0]
    assert {"a": 1} == whole.params


def test_a_decorated_function_goes_by_value(tmp_path: Path) -> None:
    """A decorated closure knows its results in another process, where nothing of its source is at hand."""
    memo = ChunkMemo(tmp_path, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    factor = 5.0

    @memo.cache()
    def scaled(scale: float, s: list[int]) -> list[float]:
        return [factor * scale * value for value in s]

    first, _ = scaled(2.0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there, diagnostics = pool.submit(_call_packed, packed(scaled)).result()
    assert first[:2] == there
    assert (0, 2) == (diagnostics.executed_points, diagnostics.cached_points)
    assert 1 == len(list(tmp_path.iterdir())), "the other process knew the function by another identity"


def _call_packed(data: bytes) -> Any:
    return call(unpacked(data))


def test_scripts_need_no_guard(tmp_path: Path) -> None:
    """A script's functions, and what they call, go to processes; sweeps inside sweeps share their results."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    for program in ([str(path)], ["-"]):
        done = subprocess.run(
            [sys.executable, "-W", "error", *program, str(tmp_path / f"root{program[0] == '-'}")],
            input=SCRIPT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert "[5, 10, 15, 20] 0 0\n" == done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"map_fn": "dsak"}, "map_fn must be a function like map, an executor, or one of .*'dask'.*got 'dsak'"),
        ({"map_fn": 3}, "map_fn must be .* got 3"),
        ({"map_fn_kwargs": {"workers": 2}}, "map_fn_kwargs=.* need a map_fn that takes them"),
        ({"map_fn": "threads", "map_fn_kwargs": {"wrokers": 2}}, "do not fit.*expected some of .*'workers'"),
        ({"map_fn": "threads", "timeout": 1}, "timeout=1 needs workers that can be ended.*'processes'"),
        ({"timeout": 1}, "timeout=1 needs workers that can be ended"),
        ({"timeout": -1, "map_fn": "processes"}, "timeout must be a number of seconds above 0, or None, got -1"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'record', got 'ignore'"),
        ({"retry": 0}, "retry must be 'failed', 'never' or a number of attempts, got 0"),
        ({"flush_every": float("nan")}, "flush_every must be a number of seconds above 0, got nan"),
        ({"share": 1}, "share must be True or False, got 1"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    """A wrong option is named before anything is computed."""
    cache = ChunkCache(tmp_path, "some", {}, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    with pytest.raises(SpecError, match=message):
        run(cache, refuse, **given)


def test_an_unknown_option_is_named() -> None:
    """A keyword that is no option is refused by its name."""
    with pytest.raises(SpecError, match=r"'mapfn' is no option of a run \(did you mean 'map_fn'\?\)"):
        Options().updated({"mapfn": map})


def test_a_call_goes_before_its_decorator(tmp_path: Path) -> None:
    """Options of a call replace those of the decorator; an argument of the function's own name stays its own."""
    memo = ChunkMemo(tmp_path, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)

    @memo.cache(map_fn="threads", on_error="record")
    def scaled(timeout: float, s: list[int]) -> list[float]:
        if timeout < 0:
            raise ValueError("negative")
        return [timeout * value for value in s]

    assert [2.0, 4.0, 6.0] == scaled(timeout=2.0)[0]
    with pytest.raises(ValueError, match="negative"):
        scaled(timeout=-1.0, on_error="raise", map_fn=None)
