"""The examples of the document run as they are printed there."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chunk_memo
from chunk_memo import ChunkCache, ChunkMemo, auto_load

QUICK_START = """
from chunk_memo import ChunkMemo

axis_values = {"strat": ["aaa", "bb"], "s": [1, 2, 3, 4]}

memo = ChunkMemo(
    root="./memo_cache",
    chunk_spec={"strat": 1, "s": 3},
    axis_values=axis_values,
)

@memo.cache()
def foo(alpha, strat, s):
    outputs = []
    for strat_value in strat:
        for s_value in s:
            outputs.append(
                {"alpha": alpha, "strat": strat_value, "s": s_value, "value": len(strat_value) + alpha*s_value}
            )
    return outputs

output, diag = foo(alpha=0.5, strat=["aaa", "bb"], s=[1, 2])
print(output)
print(diag)
"""

AUTO_LOAD_METHOD = """
memo = ChunkMemo.auto_load(
    root,
    params=params_dict,
    axis_values=axis_values_dict,
    chunk_spec=chunk_spec_dict,
    collate_fn=collate_fn,
    chunk_enumerator=chunk_enumerator,
    chunk_hash_fn=chunk_hash_fn,
    version="v1",
    axis_order=axis_order,
    verbose=1,
    profile=False,
    exclusive=False,
    warn_on_overlap=False,
    allow_superset=False,
)
cache = memo.cache_for_params(params_dict)
"""

AUTO_LOAD_FUNCTION = """
from chunk_memo import auto_load


memo = auto_load(
    root="cache_dir",
    params=params,
    axis_values=axis_values_dict,
    chunk_spec=chunk_spec_dict,
    collate_fn=collate_fn,
    exclusive=False,
    warn_on_overlap=False,
    allow_superset=False,
)
"""

SUPERSET = """
import functools

from chunk_memo import ChunkCache, params_to_cache_id, run, run_streaming


# Create a broad cache with strat=["a", "b"]
broad_cache = ChunkCache(
    root="./memo_cache",
    cache_id=params_to_cache_id({"alpha": 0.4}),
    metadata={"params": {"alpha": 0.4}},
    chunk_spec={"strat": 1, "s": 3},
    axis_values={"strat": ["a", "b"], "s": [1, 2, 3]},
    collate_fn=collate_fn,
)
params = {"alpha": 0.4}
cache_id = params_to_cache_id(params)
broad_cache.set_identity(cache_id, metadata={"params": params})
output1, diag1 = run(broad_cache, functools.partial(exec_fn, params))

# Executes all 6 points: (a,1), (a,2), (a,3), (b,1), (b,2), (b,3)

# Later, request just strat="a" - will find and reuse the broad cache
from chunk_memo import auto_load


memo_a = auto_load(
    root="./memo_cache",
    params=params,
    axis_values={"strat": ["a"]},  # Subset of original
    allow_superset=True,  # Enable superset detection
    collate_fn=collate_fn,
)
cache_a = memo_a.cache_for_params(params)
output2, diag2 = run(cache_a, functools.partial(exec_fn, params))

# Only executes the 3 points for strat="a", reuses cached data
assert diag2.cached_chunks == 1
assert diag2.executed_chunks == 0
"""

CHUNK_CACHE = """
import functools

from chunk_memo import ChunkCache, run


cache = ChunkCache(
    root="./cache",
    cache_id=params_to_cache_id(params),
    metadata={"params": params},
    chunk_spec={"strat": 1, "s": 2},
    axis_values={"strat": ["a", "b"], "s": [1, 2, 3, 4]},
)
cache.set_identity(params_to_cache_id(params), metadata={"params": params})
output, diag = run(cache, functools.partial(exec_fn, params))
"""


PARALLEL = """
import functools

from chunk_memo import run_parallel


parallel_cache = memo.cache_for_params(params).slice(
    axis_indices={"strat": range(0, 1), "s": slice(0, 3)}
)

parallel_output, parallel_diag = run_parallel(
    items,
    exec_fn=functools.partial(exec_fn, params),
    cache=parallel_cache,
)
"""


OVERRIDES = (
    "write_metadata chunk_hash resolve_cache_path load_payload write_chunk_payload update_chunk_index"
    " load_chunk_index build_item_maps_from_axis_values build_item_maps_from_chunk_output"
    " reconstruct_output_from_items collect_chunk_data item_hash"
)
"""The methods that the document lets ``run_parallel`` override, in its order."""


def one_item(params: dict[str, Any], strat: str, s: int) -> tuple[int, str, float]:
    """Return the output of one item."""
    return s, strat, params["alpha"]


def exec_fn(params: dict[str, Any], strat: list[str], s: list[int]) -> list[Any]:
    """Return one output per point; axes made directly come in lexicographic order."""
    return [(n, each, params["alpha"]) for n in s for each in strat]


def flattened(outputs: list[list[Any]]) -> list[Any]:
    """Put chunk outputs one behind the other."""
    return list(itertools.chain.from_iterable(outputs))


@pytest.fixture
def paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a snippet in an empty folder and returns its names."""
    monkeypatch.chdir(tmp_path)

    def run_snippet(snippet: str, **names: Any) -> dict[str, Any]:
        exec(compile(snippet, "<document>", "exec"), names)
        return names

    return run_snippet


def test_the_quick_start(paste: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """The quick start prints its four records; pasted again it reads them."""
    for executed, cached in ((2, 0), (0, 2)):
        names = paste(QUICK_START)
        expected = [
            {"alpha": 0.5, "strat": strat, "s": s, "value": len(strat) + 0.5 * s}
            for strat in ("aaa", "bb")
            for s in (1, 2)
        ]
        assert expected == names["output"]
        assert (executed, cached) == (names["diag"].executed_chunks, names["diag"].cached_chunks)
        printed = capsys.readouterr().out.splitlines()
        assert str(expected) == printed[0]
        assert printed[1].startswith(f"Diagnostics(total_chunks=2, cached_chunks={cached}, ")


def test_auto_load_as_a_method(paste: Callable[..., dict[str, Any]]) -> None:
    """``ChunkMemo.auto_load`` takes what the document passes, and its cache runs."""

    def enumerator(values: dict[str, Any]) -> list[Any]:
        return [(("s", tuple(values["s"])), ("strat", (each,))) for each in values["strat"]]

    names = paste(
        AUTO_LOAD_METHOD,
        ChunkMemo=ChunkMemo,
        root="memo_cache",
        params_dict={"alpha": 1},
        axis_values_dict={"strat": ["a", "b"], "s": [1, 2]},
        chunk_spec_dict={"strat": 1, "s": 1},
        collate_fn=flattened,
        chunk_enumerator=enumerator,
        chunk_hash_fn=lambda params, chunk_key, version: f"{version}-{dict(chunk_key)['strat'][0]}",
        axis_order=["strat", "s"],
    )
    output, diag = chunk_memo.run(names["cache"], lambda strat, s: [each * n for each in strat for n in s])
    assert (["a", "aa", "b", "bb"], 2) == (output, diag.executed_chunks)
    assert {"v1-a", "v1-b"} == set(names["cache"].load_chunk_index())


def test_auto_load_as_a_function(paste: Callable[..., dict[str, Any]]) -> None:
    """The module's ``auto_load`` returns a memo over the cache of the params."""
    names = paste(
        AUTO_LOAD_FUNCTION,
        params={"alpha": 1},
        axis_values_dict={"strat": ["a"], "s": [1, 2]},
        chunk_spec_dict={"strat": 1, "s": 1},
        collate_fn=flattened,
    )
    cache = names["memo"].cache_for_params({"alpha": 1})
    assert isinstance(names["memo"], ChunkMemo)
    output, diag = chunk_memo.run(cache, lambda s, strat: [n * each for n in s for each in strat])
    assert (["a", "aa"], 2) == (output, diag.executed_chunks)


def test_a_subset_is_served_from_the_broad_cache(paste: Callable[..., dict[str, Any]]) -> None:
    """The superset example's own assertions hold: cached 1, executed 0; and so they do ten times."""
    for time in range(10):
        names = paste(SUPERSET, exec_fn=exec_fn, collate_fn=flattened)
        assert (0 if time else 2) == names["diag1"].executed_chunks
        assert (1, 0) == (names["diag2"].cached_chunks, names["diag2"].executed_chunks)
        assert [(1, "a", 0.4), (2, "a", 0.4), (3, "a", 0.4)] == names["output2"]
        assert names["output2"] == [point for point in names["output1"] if point[1] == "a"]
        assert ["a", "b"] == ChunkCache.discover_caches("memo_cache")[0]["metadata"]["axis_values"]["strat"]


def test_the_chunk_cache_example(paste: Callable[..., dict[str, Any]]) -> None:
    """A cache made by hand runs; run again it is read."""
    for executed in (4, 0):
        params = {"alpha": 0.4}
        names = paste(
            CHUNK_CACHE, params=params, exec_fn=exec_fn, params_to_cache_id=chunk_memo.params_to_cache_id
        )
        assert exec_fn(params, ["a", "b"], [1, 2, 3, 4]) == names["output"]
        assert (4, executed) == (names["diag"].total_chunks, names["diag"].executed_chunks)


@pytest.mark.parametrize(
    "items",
    [
        [{"strat": "a", "s": 3}, {"s": 1, "strat": "a"}],
        [(3, "a"), (1, "a")],  # in axis order, which is lexicographic for a cache made directly
        [[3, "a"], [1, "a"]],
    ],
)
def test_the_parallel_example(paste: Callable[..., dict[str, Any]], items: list[Any]) -> None:
    """Items come back in their order, computed by the default pool; again, and by ``run``, they are read."""
    params = {"alpha": 0.4}
    memo = ChunkMemo("memo_cache", {"strat": 1, "s": 2}, {"strat": ["a", "b"], "s": [1, 2, 3, 4]}, verbose=0)
    for executed in (2, 0):
        names = paste(PARALLEL, memo=memo, params=params, items=items, exec_fn=one_item)
        assert [(3, "a", 0.4), (1, "a", 0.4)] == names["parallel_output"]
        diagnostics = names["parallel_diag"]
        assert (executed, 2) == (diagnostics.executed_points, diagnostics.total_points)
    _, diagnostics = chunk_memo.run(names["parallel_cache"], functools.partial(exec_fn, params))
    assert (2, 1) == (diagnostics.cached_points, diagnostics.executed_points)


def test_scalar_items_stand_for_the_one_axis(tmp_path: Path) -> None:
    """With one axis an item may be its value; ``extend_cache=True`` takes in what it did not have."""
    cache = ChunkCache(tmp_path, "one", {}, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    found, _ = chunk_memo.run_parallel([3, 1], exec_fn=lambda s: s * s, cache=cache, map_fn=map)
    assert [9, 1] == found
    found, diagnostics = chunk_memo.run_parallel(
        [9, 3], exec_fn=lambda s: s * s, cache=cache, map_fn=map, extend_cache=True
    )
    assert ([81, 9], 1) == (found, diagnostics.executed_points)
    assert [1, 2, 3, 9] == cache.axis_values["s"]


def test_streaming_in_parallel_keeps_no_outputs(tmp_path: Path) -> None:
    """``flush_on_chunk=True`` and ``return_output=False`` store everything and return nothing."""
    cache = ChunkCache(tmp_path, "one", {}, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    output, diagnostics = chunk_memo.run_parallel(
        [1, 2, 3],
        exec_fn=lambda s: s * s,
        cache=cache,
        map_fn=map,
        map_fn_kwargs={},
        flush_on_chunk=True,
        return_output=False,
    )
    assert ([], 3, 2) == (output, diagnostics.executed_points, diagnostics.stream_flushes)
    assert [1, 4, 9] == chunk_memo.run(cache, lambda s: s)[0].tolist()


def test_every_method_of_the_document_can_be_overridden(tmp_path: Path) -> None:
    """``run_parallel`` takes the document's twelve overrides; the driver calls them, the index once per chunk."""
    cache = ChunkCache(tmp_path, "one", {}, {"s": 2}, {"s": [1, 2, 3, 4]}, verbose=0)
    called: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return getattr(cache, name)(*args, **kwargs)

        return method

    names = OVERRIDES.split()
    listed = list(inspect.signature(chunk_memo.run_parallel).parameters)
    assert names == [name for name in listed if name in names]
    overrides: Any = {name: watched(name) for name in names}
    output, diagnostics = chunk_memo.run_parallel(
        [4, 1, 2], exec_fn=lambda s: s * s, cache=cache, map_fn=map, context=cache, **overrides
    )
    assert ([16, 1, 4], 3) == (output, diagnostics.executed_points)
    used = {"write_metadata", "chunk_hash", "resolve_cache_path", "load_payload", "write_chunk_payload"}
    assert used | {"build_item_maps_from_axis_values", "item_hash"} <= set(called)
    assert 2 == called.count("update_chunk_index")
    assert 3 == chunk_memo.run(cache, lambda s: [v * v for v in s])[1].cached_points


def test_a_whole_cache_runs_in_parallel(tmp_path: Path) -> None:
    """``run_parallel(cache, exec_fn=…)`` calls the function with axis vectors, as ``run`` does."""
    cache = ChunkCache(tmp_path, "one", {}, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    output, diagnostics = chunk_memo.run_parallel(cache, exec_fn=lambda s: [v * v for v in s], map_fn=map)
    assert ([1, 4, 9], 2) == (output, diagnostics.executed_chunks)


def test_arguments_are_those_of_the_document() -> None:
    """``ChunkCache`` takes the document's arguments in its order, and ``auto_load`` those that it shows."""
    listed = (
        "root cache_id metadata chunk_spec axis_values collate_fn chunk_enumerator chunk_hash_fn path_fn version"
        " axis_order verbose exclusive warn_on_overlap"
    )
    parameters = inspect.signature(ChunkCache).parameters
    there = [name for name in parameters if name in listed.split()]
    assert listed.split() == there
    assert ("v1", 1, False, False) == tuple(
        parameters[name].default for name in ("version", "verbose", "exclusive", "warn_on_overlap")
    )
    assert ["root", "chunk_spec", "axis_values"] == list(inspect.signature(ChunkMemo).parameters)[:3]
    assert inspect.signature(auto_load) == inspect.signature(ChunkMemo.auto_load)


def test_names_are_where_the_document_imports_them_from() -> None:
    """Everything that the document names can be imported from the package, the runners also from theirs."""
    names = (
        "ChunkCache ChunkMemo auto_load params_to_cache_id run run_streaming run_chunks run_chunks_streaming"
        " run_parallel Diagnostics CacheStatus CacheProtocol RunnerContext __version__"
    )
    assert [] == [name for name in names.split() if not hasattr(chunk_memo, name)]
    from chunk_memo.runners import run, run_streaming

    assert (chunk_memo.run, chunk_memo.run_streaming) == (run, run_streaming)


def test_methods_that_may_be_overridden_are_there() -> None:
    """``ChunkCache`` has every method that the document lists as an override of the parallel runner."""
    assert [] == [name for name in OVERRIDES.split() if not callable(getattr(ChunkCache, name, None))]
