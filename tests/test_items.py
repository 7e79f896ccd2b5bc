"""The document's item methods, and caches that are run by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import (
    ChunkCache,
    ChunkMemo,
    EncodingError,
    OutputError,
    PickleRefusedError,
    PickleWarning,
    run,
    run_streaming,
)

AXES: dict[str, list[Any]] = {"s": [1, 2, 3], "t": ["a", "b"]}
POINTS = [(s, t) for s in AXES["s"] for t in AXES["t"]]


def pairs(s: list[int], t: list[str]) -> list[tuple[int, str]]:
    """Return each point itself."""
    return [(a, b) for a in s for b in t]


def cache(root: Path, kind: type[ChunkCache] = ChunkCache) -> ChunkCache:
    """Return a cache of four chunks."""
    return kind(root, "demo", axis_values=AXES, chunk_spec={"s": 2, "t": 1}, verbose=0)


def test_a_payload_holds_each_item_with_its_axis_values(tmp_path: Path) -> None:
    """``items`` and ``spec`` have one entry per point, by the hash that ``item_hash`` gives."""
    made = cache(tmp_path)
    run(made, pairs)
    key = made.cache_status()["cached_chunks"][0]
    payload = made.load_payload(made.resolve_cache_path(key, made.chunk_hash(key)))
    assert payload is not None
    assert [(1, "a"), (2, "a")] == list(payload["items"].values())
    assert [{"s": 1, "t": "a"}, {"s": 2, "t": "a"}] == list(payload["spec"].values())
    assert [made.item_hash(key, (1, "a")), made.item_hash(key, (2, "a"))] == list(payload["items"])
    turned = tuple(reversed(key))
    assert made.item_hash(key, (1, "a")) == made.item_hash(turned, ("a", 1))


def test_a_payload_of_parts_counts_where_there_is_no_complete_file(tmp_path: Path) -> None:
    """Points that were stored one by one are found under the chunk's path."""
    made = cache(tmp_path)
    run(made.slice(s=1), pairs)
    key = made.cache_status()["missing_chunks"][0]
    payload = made.load_payload(made.resolve_cache_path(key, made.chunk_hash(key)))
    assert payload is not None
    assert [(1, "a")] == list(payload["items"].values())
    assert made.load_payload(tmp_path / "nowhere.h5") is None


def test_item_maps_and_back(tmp_path: Path) -> None:
    """A chunk's outputs become items, and items become outputs again, or are told to be incomplete."""
    made = cache(tmp_path)
    key = made.resolved_chunk_keys()[0]
    items, spec = made.build_item_maps_from_chunk_output(key, ["x", "y"])
    assert (items, spec) == made.build_item_maps_from_axis_values(key, [(1, "a"), (2, "a")], ["x", "y"])
    assert ["x", "y"] == made.reconstruct_output_from_items(key, items)
    items.pop(made.item_hash(key, (1, "a")))
    assert made.reconstruct_output_from_items(key, items) is None
    joined = made.collect_chunk_data({"items": items}, key, [(2, "a"), (1, "a")], lambda chunks: chunks[0])
    assert (["y"], True) == joined
    assert (None, True) == made.collect_chunk_data({}, key, None, list)
    with pytest.raises(OutputError, match="has 2 points, got 1"):
        made.build_item_maps_from_chunk_output(key, ["x"])


class Counting(ChunkCache):
    """A cache that counts what is written."""

    writes = 0

    def write_chunk_payload(self, *args: Any, **kwargs: Any) -> Path:
        """Count, and write."""
        Counting.writes += 1
        return super().write_chunk_payload(*args, **kwargs)


def test_a_subclass_is_run_by_the_methods_that_it_replaces(tmp_path: Path) -> None:
    """A replaced method is called, once per chunk; results are the same."""
    made = cache(tmp_path, Counting)
    Counting.writes = 0
    output, _ = run(made.slice(s=[3, 1]), pairs)
    assert [(3, "a"), (3, "b"), (1, "a"), (1, "b")] == output
    assert 4 == Counting.writes
    output, diagnostics = run(made, pairs)
    assert (POINTS, 2) == (output, diagnostics.executed_points)
    assert 0 == run(cache(tmp_path), pairs)[1].executed_points


class Delegating:
    """A user's own cache around another."""

    def __init__(self, inner: ChunkCache) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_an_object_with_the_methods_is_run(tmp_path: Path) -> None:
    """What it stores serves a ChunkCache, and the other way round."""
    wrapped: Any = Delegating(cache(tmp_path))
    assert POINTS == run(wrapped, pairs)[0]
    assert 0 == run(cache(tmp_path), pairs)[1].executed_points
    assert 0 == run_streaming(wrapped, pairs).executed_points


def test_an_object_without_them_is_refused() -> None:
    """The error names the methods that are lacking."""
    lacking: Any = object()
    with pytest.raises(TypeError, match="'object' cannot be run as a cache: it lacks cache_status"):
        run(lacking, pairs)


class Model:
    """A result without a native form."""

    def __init__(self, size: int) -> None:
        self.size = size


def models(s: list[int]) -> list[Mapping[str, Any]]:
    """Return objects that can only be pickled."""
    return [{"model": Model(value)} for value in s]


def test_what_cannot_be_stored_is_not_lost(tmp_path: Path) -> None:
    """The error says where and why, and carries what the function returned."""
    function = ChunkMemo(tmp_path, {"s": 2}, {"s": [1, 2]}, verbose=0).cache(allow_pickle=False)(models)
    with pytest.raises(PickleRefusedError, match=r"output\[0\]\['model'\].*register_encoding") as caught:
        function()
    assert isinstance(caught.value, EncodingError)
    assert [1, 2] == [output["model"].size for output in caught.value.output]
    assert "finished chunks are kept; what it returned is in .output" in caught.value.__notes__[0]


def test_pickles_are_told_once(tmp_path: Path) -> None:
    """One warning for each function names type and place; the objects come back, unless they are refused."""
    memo = ChunkMemo(tmp_path, {"s": 1}, {"s": [1, 2]}, verbose=0)
    function = memo.cache()(models)
    with pytest.warns(PickleWarning, match="Model") as caught:
        function()
    assert 1 == len(caught)
    output, diagnostics = function()
    assert ([1, 2], 0) == ([item["model"].size for item in output], diagnostics.executed_points)
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        memo.cache(allow_pickle=False)(models)()
