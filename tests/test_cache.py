"""A cache made by hand: what it declares, where its files lie, what it tells, how it is found again."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    ChunkCache,
    CollisionError,
    OverlapError,
    OverlapWarning,
    SpecError,
    UnknownAxisError,
    UnknownValueError,
    params_to_cache_id,
    run,
)

AXES: dict[str, Any] = {"strat": ["a", "b"], "s": [1, 2, 3]}
PARAMS = {"alpha": 2}


def cache(root: Path, cache_id: str = "some", **options: Any) -> ChunkCache:
    """Return a cache over `AXES`, one strat and two s to a chunk; every call opens it anew."""
    given: dict[str, Any] = {
        "axis_values": AXES,
        "chunk_spec": {"strat": 1, "s": 2},
        "metadata": {"params": PARAMS},
        "verbose": 0,
        "durability": "fast",
    }
    return ChunkCache(root, cache_id, **given | options)


def repeated(s: list[int], strat: list[str]) -> list[str]:
    """Return one output per point, axes in lexicographic order."""
    return [each * n for n in s for each in strat]


def refuse(**arguments: Any) -> Any:
    """Stand where a function must not be called."""
    raise AssertionError(f"called with {arguments}")


def files(root: Path) -> list[str]:
    """Return the chunk files in a root."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5"))


# --- what it declares --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected", "size"),
    [
        ([3, 1, 2], [3, 1, 2], 3),
        ((3, 1), [3, 1], 2),
        (range(3), [0, 1, 2], 3),
        (np.array([0.5, 0.25]), [0.5, 0.25], 2),
        ({3, 1, 2}, [1, 2, 3], 1),
        ({"b": 0, "a": 0}.keys(), ["a", "b"], 1),
        ((n for n in (2, 10, 1)), [1, 2, 10], 1),
        ([1, 2, 1, 2, 2], [1, 2], 2),
        ([1, 1.0, True], [1, 1.0, True], 3),
        ({float("nan"), 2.0, 1}, [1, 2.0, float("nan")], 1),
    ],
    ids=["list", "tuple", "range", "array", "set", "keys", "generator", "duplicates", "types", "NaN"],
)
def test_axis_values_and_default_sizes(tmp_path: Path, values: Any, expected: list[Any], size: int) -> None:
    """Sequences keep their order and make one chunk; other iterables are sorted, one value to a chunk."""
    made = cache(tmp_path, axis_values={"x": values}, chunk_spec=None)
    assert repr(expected) == repr(made.axis_values["x"])
    assert {"x": size} == made.chunk_spec


@pytest.mark.parametrize("values", [list, lambda: [1], "abc", 3, b"ab", [], np.array(3), None])
def test_axis_values_that_cannot_be(tmp_path: Path, values: Any) -> None:
    """Callables, text, single values and nothing at all are no axis; the message names it."""
    with pytest.raises(SpecError, match="'x'"):
        cache(tmp_path, axis_values={"x": values}, chunk_spec=None)


def test_axis_values_may_be_unhashable(tmp_path: Path) -> None:
    """Lists, dicts and arrays are values like others."""
    values = [[1, 2], {"a": [3]}, np.arange(3), None]
    made = cache(tmp_path, axis_values={"x": values}, chunk_spec={"x": 2})
    assert [2, 1, 3, 0] == run(made, lambda x: [0 if v is None else len(v) for v in x])[0]
    again = ChunkCache.load_from_cache(tmp_path, "some", verbose=0)
    assert [3, 2] == run(again.slice(x=[np.arange(3), [1, 2]]), refuse)[0]


def test_an_axis_value_without_identity_is_named(tmp_path: Path) -> None:
    """The message says on which axis and where."""
    with pytest.raises(TypeError, match=r"'x\[1\]' has no sound identity"):
        cache(tmp_path, axis_values={"x": [1, object()]}, chunk_spec=None)
    with pytest.raises(TypeError, match=r"'s\[0\]' has no sound identity"):
        cache(tmp_path).slice(s=[object()])


@pytest.mark.parametrize("size", [2, {"size": 2}, np.int64(2)])
def test_chunk_spec_is_a_number_or_a_dict(tmp_path: Path, size: Any) -> None:
    """Both forms mean the same."""
    made = cache(tmp_path, chunk_spec={"s": size})
    assert ({"s": 2, "strat": 2}, 2) == (made.chunk_spec, made.plan().total_chunks)


def test_axis_order_is_lexicographic(tmp_path: Path) -> None:
    """Outputs run over the axes by name unless ``axis_order`` says otherwise."""
    assert ("s", "strat") == cache(tmp_path).axis_order
    assert ["a", "b", "aa", "bb", "aaa", "bbb"] == run(cache(tmp_path), repeated)[0]
    turned = cache(tmp_path, axis_order=["strat", "s"])
    assert ("strat", "s") == turned.axis_order
    assert ["a", "aa", "aaa", "b", "bb", "bbb"] == run(turned, refuse)[0]
    for wrong in (["s"], ["s", "strat", "t"], ["s", "s"]):
        with pytest.raises(SpecError, match="axis_order must name each of"):
            cache(tmp_path, axis_order=wrong)


def test_a_cache_says_what_it_is(tmp_path: Path) -> None:
    """Everything declared can be read back."""
    made = cache(tmp_path, version="v3", metadata={"params": PARAMS, "note": "mine"})
    assert AXES == made.axis_values
    assert (PARAMS, "mine") == (made.params, made.metadata["note"])
    assert ("some", "some", "v3") == (made.cache_id, made.cache_hash(), made.version)
    assert tmp_path / "some" == made.path
    assert "ChunkCache('some', s: 3, strat: 2)" == repr(made)


# --- hooks -------------------------------------------------------------------------------------------------


def corner(values: dict[str, Any]) -> list[Any]:
    """Return two chunks of unequal size that leave points out."""
    assert {"s": [1, 2, 3], "strat": ["a", "b"]} == values
    return [(("strat", ("b",)), ("s", (3,))), (("s", (2, 1)), ("strat", ("b",)))]


def test_chunk_enumerator_orders_the_chunks(tmp_path: Path) -> None:
    """Its chunks come first and in its order; points that it leaves out form chunks by ``chunk_spec``."""
    calls: list[tuple[list[int], list[str]]] = []

    def noted(s: list[int], strat: list[str]) -> list[str]:
        calls.append((s, strat))
        return repeated(s, strat)

    made = cache(tmp_path, chunk_enumerator=corner)
    entries, done = run(made, noted, collate_fn=list)
    assert (4, 6) == (done.executed_chunks, done.executed_points)
    assert [([3], ["b"]), ([2, 1], ["b"]), ([1, 2], ["a"]), ([3], ["a"])] == calls
    assert [["bbb"], ["b", "bb"], ["a", "aa"], ["aaa"]] == entries
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path, chunk_enumerator=corner), refuse)[0]
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path), refuse)[0]


def test_chunk_enumerator_of_a_cache_that_is_there(tmp_path: Path) -> None:
    """Stored points keep serving when an enumerator comes later."""
    run(cache(tmp_path).slice(s=[1]), repeated)
    output, done = run(cache(tmp_path, chunk_enumerator=corner), repeated)
    assert (repeated([1, 2, 3], ["a", "b"]), 2, 4) == (output, done.cached_points, done.executed_points)


@pytest.mark.parametrize(
    ("returned", "error", "said"),
    [
        ([(("s", (1,)), ("strat", ("a",)))] * 2, SpecError, r"overlap at \{'s': 1, 'strat': 'a'\}.*disjoint"),
        ([(("s", (1,)),)], SpecError, r"values for each of \['s', 'strat'\]"),
        ([(("s", ()), ("strat", ("a",)))], SpecError, r"values for each of \['s', 'strat'\]"),
        ([{"s": [1], "strat": ["a"]}], SpecError, r"\(axis, values\) pairs"),
        ([(("s", (9,)), ("strat", ("a",)))], UnknownValueError, r"returned 9 for axis 's'"),
    ],
)
def test_chunk_enumerator_is_checked(tmp_path: Path, returned: Any, error: type[Exception], said: str) -> None:
    """Chunks that overlap, lack an axis, or name what is not there are refused."""
    with pytest.raises(error, match=said):
        run(cache(tmp_path, chunk_enumerator=lambda values: returned), repeated)


def test_chunk_hash_fn_names_the_files(tmp_path: Path) -> None:
    """It gets params, chunk key and version, and its result is the file's name."""
    seen = []

    def named(params: dict[str, Any], chunk_key: Any, version: str) -> str:
        seen.append((params, version))
        return "-".join(f"{name}{'_'.join(map(str, values))}" for name, values in sorted(chunk_key))

    made = cache(tmp_path, chunk_hash_fn=named)
    run(made, repeated)
    names = [f"s{s}-strat{each}" for s in ("1_2", "3") for each in "ab"]
    assert [f"some/chunks/{name}.h5" for name in sorted(names)] == files(tmp_path)
    assert (PARAMS, "v1") == seen[0]
    assert names == made.chunk_hashes_for()
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path, chunk_hash_fn=named), refuse)[0]


def test_a_name_that_clashes_is_an_error(tmp_path: Path) -> None:
    """Two chunks of one name are never mixed up: the second is refused, and what was stored is kept."""
    hooks: list[dict[str, Any]] = [
        {"chunk_hash_fn": lambda params, chunk_key, version: "same"},
        {"path_fn": lambda params, chunk_key, version, chunk_hash: "same.h5"},
    ]
    for number, hook in enumerate(hooks):
        root = tmp_path / str(number)
        run(cache(root, **hook).slice(s=[1, 2], strat="a"), repeated)
        with pytest.raises(CollisionError, match=r"same\.h5.*gave one name to two chunks"):
            run(cache(root, **hook), repeated)
        assert ["a", "aa"] == run(cache(root, **hook).slice(s=[1, 2], strat="a"), refuse)[0]


def test_path_fn_places_the_files(tmp_path: Path) -> None:
    """It gets params, chunk key, version and hash; paths may be relative to the cache or absolute."""

    def placed(params: dict[str, Any], chunk_key: Any, version: str, chunk_hash: str) -> Path | str:
        place = dict(chunk_key)
        folder = f"alpha={params['alpha']}/{version}/strat={place['strat'][0]}"
        return (
            Path(folder) / f"{chunk_hash}.h5"
            if place["strat"] == ("a",)
            else tmp_path / "far" / f"{chunk_hash}.h5"
        )

    made = cache(tmp_path / "root", path_fn=placed)
    run(made, repeated)
    hashes = dict(zip(made.resolved_chunk_keys(), made.chunk_hashes_for(), strict=True))
    a = [name for key, name in hashes.items() if dict(key)["strat"] == ("a",)]
    assert sorted(f"root/some/alpha=2/v1/strat=a/{name}.h5" for name in a) == [
        name for name in files(tmp_path) if name.startswith("root")
    ]
    assert 2 == len(files(tmp_path / "far"))
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path / "root", path_fn=placed), refuse)[0]
    for key, name in hashes.items():
        assert made.resolve_cache_path(key, name).exists()


def test_path_fn_and_parts(tmp_path: Path) -> None:
    """Parts of a chunk are found again when its file has a place of its own."""
    hook: dict[str, Any] = {"path_fn": lambda params, key, version, name: f"elsewhere/{name}.h5"}
    run(cache(tmp_path, **hook).slice(s=1), repeated)
    output, done = run(cache(tmp_path, **hook), repeated)
    assert (repeated([1, 2, 3], ["a", "b"]), 2) == (output, done.cached_points)
    assert 0 == run(cache(tmp_path, **hook), repeated)[1].executed_points


def test_versions_are_namespaces(tmp_path: Path) -> None:
    """Another ``version`` finds nothing and overwrites nothing."""
    for version in ("v1", "v2"):
        assert 6 == run(cache(tmp_path, version=version), repeated)[1].executed_points
    assert [0, 0] == [run(cache(tmp_path, version=v), refuse)[1].executed_points for v in ("v1", "v2")]
    with pytest.raises(SpecError, match="version must be a string, got 2; write version='2'"):
        cache(tmp_path, version=2)


# --- identity ----------------------------------------------------------------------------------------------


def test_params_to_cache_id() -> None:
    """Order does not matter, types and digits do; the id is 32 hex characters."""
    one = params_to_cache_id({"a": 1, "b": [1, 2]})
    assert one == params_to_cache_id({"b": [1, 2], "a": 1})
    others: list[dict[str, Any]] = [
        {"a": 1.0, "b": [1, 2]},
        {"a": 1, "b": (1, 2)},
        {"a": True, "b": [1, 2]},
        {"a": 1},
        {},
    ]
    assert 6 == len({one, *(params_to_cache_id(other) for other in others)})
    assert params_to_cache_id({"t": 1e-13}) != params_to_cache_id({"t": 2e-13})
    assert (32, set()) == (len(one), set(one) - set("0123456789abcdef"))
    with pytest.raises(TypeError, match=r"'params' has a key that is no str.*1"):
        params_to_cache_id({1: 2})  # type: ignore[dict-item]


def test_set_identity_lets_a_cache_stand_for_another(tmp_path: Path) -> None:
    """The same object, grid and hooks serve another id, with metadata of its own."""
    made = cache(tmp_path)
    run(made, repeated)
    made.set_identity("other", metadata={"params": {"alpha": 3}})
    assert ("other", {"alpha": 3}, tmp_path / "other") == (made.cache_id, made.params, made.path)
    assert 6 == run(made, repeated)[1].executed_points
    made.set_identity("some")
    assert (0, {"alpha": 3}) == (run(made, refuse)[1].executed_points, made.params)
    with pytest.raises(SpecError, match="cache_id must be a non-empty string"):
        made.set_identity("")


def test_overlaps_are_refused_or_warned_of(tmp_path: Path) -> None:
    """Subsets, supersets, disjoint values, other axes and other sizes under one id; equal grids are fine."""
    cache(tmp_path).write_metadata()
    others: dict[str, dict[str, Any]] = {
        r"different axis_values \(axis 's': 3 stored, 2 asked for, 2 in common\)": {
            "axis_values": AXES | {"s": [1, 2]}
        },
        r"different axis_values \(axis 's': 3 stored, 4 asked for, 3 in common\)": {
            "axis_values": AXES | {"s": [1, 2, 3, 4]}
        },
        r"different axis_values \(axis 's': 3 stored, 1 asked for, 0 in common\)": {
            "axis_values": AXES | {"s": [9]}
        },
        r"different axis_values \(axis 't' is only in the new one\)": {"axis_values": AXES | {"t": [1]}},
        r"different chunk_spec \(axis 's': 2 stored, 3 asked for\)": {"chunk_spec": {"strat": 1, "s": 3}},
    }
    for said, other in others.items():
        with pytest.raises(OverlapError, match=f"cache_id already exists with {said}.*'some'.*exclusive=False"):
            cache(tmp_path, exclusive=True, **other)
        with pytest.warns(OverlapWarning, match=f"cache_id already exists with {said}"):
            cache(tmp_path, warn_on_overlap=True, **other)
    cache(tmp_path, exclusive=True, warn_on_overlap=True)
    cache(tmp_path, exclusive=True, axis_values={"strat": ["b", "a"], "s": [3, 2, 1]})
    cache(tmp_path, "other", exclusive=True, **others[next(iter(others))])


# --- slices ------------------------------------------------------------------------------------------------


def test_a_slice_is_a_view(tmp_path: Path) -> None:
    """By values or indices, of a slice too; it shares what is stored and leaves the parent as it is."""
    made = cache(tmp_path)
    narrow = made.slice(s=[3, 1], strat="b")
    assert {"s": [3, 1], "strat": ["b"]} == narrow.axis_values
    assert ["bbb", "b"] == run(narrow, repeated)[0]
    assert (AXES, 2) == (made.axis_values, run(made, repeated)[1].cached_points)
    assert {"s": [3], "strat": ["b"]} == narrow.slice(s=3).axis_values
    assert {"s": [1], "strat": ["b"]} == narrow.slice(axis_indices={"s": 1}).axis_values
    assert {"s": [2, 3], "strat": ["a"]} == made.slice(
        axis_indices={"s": slice(1, 3), "strat": range(1)}
    ).axis_values
    with pytest.raises(UnknownValueError, match="'s' has no value 2"):
        narrow.slice(s=2)
    with pytest.raises(IndexError, match="index 2 is out of range for axis 's' with 2 values"):
        narrow.slice(axis_indices={"s": 2})


def test_a_slice_never_touches_the_metadata(tmp_path: Path) -> None:
    """Running a slice first, or later, leaves ``metadata.json`` with the whole grid."""
    made = cache(tmp_path)
    run(made.slice(s=1), repeated)
    path = made.path / "metadata.json"
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    for s in ([2], [3, 1]):
        run(cache(tmp_path).slice(s=s), repeated)
        run(cache(tmp_path, axis_values=AXES | {"s": s}), repeated)
    assert before == (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    assert AXES == ChunkCache.load_from_cache(tmp_path, "some").axis_values


@pytest.mark.parametrize(
    "wrong", [{"s": "x"}, {"s": [None]}, {"s": 1.5}, {"s": True}, {"s": []}, 3, {"s": np.ones(2, bool)}]
)
def test_indices_that_cannot_be(tmp_path: Path, wrong: Any) -> None:
    """Indices are ints, slices, ranges, masks of the right length, or several of them."""
    with pytest.raises(ValueError, match=r"axis_indices|mask for axis 's' must have the shape \(3,\)"):
        cache(tmp_path).slice(axis_indices=wrong)


# --- status ------------------------------------------------------------------------------------------------

KEYS = [
    "cache_id",
    "params",
    "metadata",
    "axis_values",
    "axis_order",
    "total_chunks",
    "cached_chunks",
    "cached_chunk_indices",
    "missing_chunks",
    "missing_chunk_indices",
]


def test_cache_status_is_a_mapping_with_ten_keys(tmp_path: Path) -> None:
    """It tells which chunks are stored and which are not, by values and by indices."""
    made = cache(tmp_path, metadata={"params": PARAMS, "note": "mine"})
    run(made.slice(strat="b"), repeated)
    status = cache(tmp_path, metadata={"params": PARAMS, "note": "mine"}).cache_status()
    assert (KEYS, 10) == (list(status), len(status))
    assert {
        "cache_id": "some",
        "params": PARAMS,
        "metadata": {"params": PARAMS, "note": "mine"},
        "axis_values": AXES,
        "axis_order": ("s", "strat"),
        "total_chunks": 4,
        "cached_chunks": [(("s", (1, 2)), ("strat", ("b",))), (("s", (3,)), ("strat", ("b",)))],
        "cached_chunk_indices": [{"s": [0, 1], "strat": [1]}, {"s": [2], "strat": [1]}],
        "missing_chunks": [(("s", (1, 2)), ("strat", ("a",))), (("s", (3,)), ("strat", ("a",)))],
        "missing_chunk_indices": [{"s": [0, 1], "strat": [0]}, {"s": [2], "strat": [0]}],
    } == dict(status)
    assert repr(dict(status)) == repr(status)
    with pytest.raises(KeyError):
        status["nothing"]


def test_cache_status_of_a_request(tmp_path: Path) -> None:
    """Values, indices, other axis values and slices narrow it; a chunk stored in part is missing."""
    made = cache(tmp_path)
    run(made.slice(s=1), repeated)
    assert [2, 0] == [len(made.cache_status(s=s)["cached_chunks"]) for s in ([1], [1, 2])]
    assert [(("s", (2,)), ("strat", ("a",)))] == made.cache_status(s=2, strat="a")["missing_chunks"]
    assert [{"s": [2], "strat": [0]}] == made.cache_status(axis_indices={"s": 2, "strat": 0})[
        "missing_chunk_indices"
    ]
    assert {"s": [3], "strat": ["b"]} == made.slice(s=3, strat="b").cache_status()["axis_values"]
    wider = made.cache_status(axis_values_override={"s": [1, 7]})
    assert ([1, 7], 2, 2) == (
        wider["axis_values"]["s"],
        len(wider["cached_chunks"]),
        len(wider["missing_chunks"]),
    )
    assert AXES == made.axis_values


def test_status_keys_can_be_run(tmp_path: Path) -> None:
    """Resolved keys are all chunks in grid order; hashes go with them."""
    made = cache(tmp_path)
    keys = made.resolved_chunk_keys()
    assert made.cache_status()["missing_chunks"] == keys
    assert made.chunk_hashes_for() == [made.chunk_hash(key) for key in keys]
    assert made.chunk_hashes_for(s=3, strat="a") == [made.chunk_hash((("strat", ("a",)), ("s", (3,))))]
    assert made.chunk_hashes_for(axis_indices={"s": 2, "strat": 0}) == made.chunk_hashes_for(s=3, strat="a")
    run(made, repeated)
    names = {Path(name).stem for name in files(tmp_path)}
    assert names == set(made.chunk_hashes_for())
    with pytest.raises(SpecError, match="is not one chunk of this cache: its values lie in 2"):
        made.chunk_hash((("s", (1, 3)), ("strat", ("a",))))
    with pytest.raises(UnknownAxisError, match="a chunk key names every axis"):
        made.chunk_hash((("s", (1,)),))


def test_hashes_depend_on_content_alone(tmp_path: Path) -> None:
    """Order of axes, of declared values and place of the root do not matter; id and version do."""
    key = (("strat", ("b",)), ("s", (1, 2)))
    names = {
        cache(tmp_path / "1").chunk_hash(key),
        cache(tmp_path / "2", axis_order=["strat", "s"]).chunk_hash(key),
        cache(tmp_path / "3", axis_values={"strat": ["b"], "s": [1, 2, 9]}).chunk_hash(key),
    }
    others = {cache(tmp_path, "other").chunk_hash(key), cache(tmp_path, version="v2").chunk_hash(key)}
    assert (1, 3) == (len(names), len(names | others))


# --- items and payloads ------------------------------------------------------------------------------------


def test_item_hashes(tmp_path: Path) -> None:
    """Every point of a chunk has a hash of its own, the same for every order of the axes."""
    made = cache(tmp_path)
    key = (("s", (1, 2)), ("strat", ("a", "b")))
    points = [(s, each) for s in (1, 2) for each in "ab"]
    hashes = [made.item_hash(key, point) for point in points]
    assert 4 == len(set(hashes))
    turned = (key[1], key[0])
    assert hashes == [made.item_hash(turned, point[::-1]) for point in points]
    assert hashes[0] != cache(tmp_path, version="v2").item_hash(key, points[0])
    assert made.item_hash(key, (1, "a")) != made.item_hash(key, (1.0, "a"))


def test_load_payload_shows_the_items(tmp_path: Path) -> None:
    """Outputs and axis values by item hash, of whole chunks and of parts; None where there is no file."""
    made = cache(tmp_path)
    run(made.slice(strat="a"), repeated)
    run(made.slice(s=1, strat="b"), repeated)
    for key, expected in zip(
        made.resolved_chunk_keys(), [{1: "a", 2: "aa"}, {1: "b"}, {3: "aaa"}, None], strict=True
    ):
        payload = made.load_payload(made.resolve_cache_path(key, made.chunk_hash(key)))
        if expected is None:
            assert payload is None
            continue
        assert payload is not None
        strat = dict(key)["strat"][0]
        assert {made.item_hash(key, (s, strat)): text for s, text in expected.items()} == payload["items"]
        assert [{"s": s, "strat": strat} for s in expected] == list(payload["spec"].values())
        assert datetime.now(UTC) - datetime.fromisoformat(payload["created_at"]) < timedelta(days=1)


def test_write_chunk_payload_stores_items(tmp_path: Path) -> None:
    """What ``load_payload`` returns can be written elsewhere, in one go or item by item."""
    made, twin = cache(tmp_path / "1"), cache(tmp_path / "2")
    run(made, repeated)
    for key in made.resolved_chunk_keys():
        name = made.chunk_hash(key)
        payload = made.load_payload(made.resolve_cache_path(key, name))
        assert payload is not None
        path = twin.resolve_cache_path(key, name)
        for item, output in payload["items"].items():
            one = {"items": {item: output}, "spec": {item: payload["spec"][item]}}
            assert path == twin.write_chunk_payload(path, one, existing=twin.load_payload(path))
        twin.update_chunk_index(name, key)
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path / "2"), refuse)[0]
    assert set(made.load_chunk_index()) == set(twin.load_chunk_index())


def test_load_chunk_index_is_a_view_of_the_files(tmp_path: Path) -> None:
    """Hash, chunk key, times, points and bytes of every chunk; files that come or go do so in the index."""
    made = cache(tmp_path)
    assert {} == made.load_chunk_index()
    run(made.slice(strat="a"), repeated)
    run(made.slice(s=1, strat="b"), repeated)
    index = cache(tmp_path).load_chunk_index()
    keys = made.resolved_chunk_keys()
    entries = {
        dict(entry["chunk_key"])["s"] + dict(entry["chunk_key"])["strat"]: entry for entry in index.values()
    }
    assert {(1, 2, "a"): 2, (3, "a"): 1, (1, 2, "b"): 1} == {
        key: entry["points"] for key, entry in entries.items()
    }
    assert [True, False, True] == [index[made.chunk_hash(key)]["complete"] for key in keys[:3]]
    for entry in index.values():
        assert entry["bytes"] > 0
        assert entry["created_at"] <= entry["updated_at"]
        assert timedelta() == datetime.fromisoformat(entry["created_at"]).utcoffset()
    os.remove(made.resolve_cache_path(keys[0], made.chunk_hash(keys[0])))
    assert set(index) - {made.chunk_hash(keys[0])} == set(cache(tmp_path).load_chunk_index())


# --- growing -----------------------------------------------------------------------------------------------


def test_extend_axis_values(tmp_path: Path) -> None:
    """New values are appended, those that are there passed over; the next load knows what was run."""
    made = cache(tmp_path)
    run(made, repeated)
    made.extend_axis_values({"s": [7, 2], "strat": "c"}, write_metadata=True)
    assert {"s": [1, 2, 3, 7], "strat": ["a", "b", "c"]} == made.axis_values
    output, done = run(made, repeated)
    assert (repeated([1, 2, 3, 7], ["a", "b", "c"]), 6) == (output, done.executed_points)
    assert made.axis_values == ChunkCache.load_from_cache(tmp_path, "some").axis_values
    with pytest.raises(UnknownAxisError, match="no axis 't'"):
        made.extend_axis_values({"t": [1]})


# --- finding caches ----------------------------------------------------------------------------------------


def test_discover_caches(tmp_path: Path) -> None:
    """Every cache with its id, path and metadata; other files and folders are passed over."""
    assert [] == ChunkCache.discover_caches(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for name in ("one", "two"):
        run(cache(tmp_path, name, metadata={"params": PARAMS, "note": name}, version="v2"), repeated)
    found = ChunkCache.discover_caches(tmp_path)
    assert [("one", tmp_path / "one"), ("two", tmp_path / "two")] == [(e["cache_id"], e["path"]) for e in found]
    known = found[0]["metadata"]
    assert (AXES, {"s": 2, "strat": 1}, ["s", "strat"], "v2", {"params": PARAMS, "note": "one"}) == (
        known["axis_values"],
        known["chunk_spec"],
        list(known["axis_order"]),
        known["version"],
        known["metadata"],
    )


def test_a_damaged_cache_is_discovered_with_a_warning(tmp_path: Path) -> None:
    """It is listed without metadata, and the others are listed as ever."""
    for name in ("one", "two"):
        cache(tmp_path, name).write_metadata()
    (tmp_path / "one" / "metadata.json").write_text("[]", encoding="utf-8")
    with pytest.warns(UserWarning, match="damaged"):
        found = ChunkCache.discover_caches(tmp_path)
    assert [True, False] == [entry["metadata"] is None for entry in found]


def test_find_compatible_caches(tmp_path: Path) -> None:
    """Each condition narrows; a superset counts only with ``allow_superset``."""
    cache(tmp_path, "one").write_metadata()
    cache(tmp_path, "two", chunk_spec={"strat": 2, "s": 3}, version="v2").write_metadata()
    cache(tmp_path, "three", axis_values=AXES | {"s": [1, 2, 3, 4]}, axis_order=["strat", "s"]).write_metadata()

    def names(**given: Any) -> list[str]:
        return [entry["cache_id"] for entry in ChunkCache.find_compatible_caches(tmp_path, **given)]

    assert ["one", "three", "two"] == names()
    assert ["two"] == names(cache_id="two")
    assert ["one", "two"] == names(axis_values=AXES)
    assert ["one", "three", "two"] == names(axis_values=AXES, allow_superset=True)
    assert [] == names(axis_values={"s": [1]})
    assert ["one", "three", "two"] == names(axis_values={"s": [1]}, allow_superset=True)
    assert ["three"] == names(axis_values={"s": [4]}, allow_superset=True)
    assert [] == names(axis_values={"t": [4]}, allow_superset=True)
    assert ["two"] == names(chunk_spec={"strat": 2, "s": {"size": 3}})
    assert ["one", "three"] == names(version="v1")
    assert ["three"] == names(axis_order=["strat", "s"])
    assert ["one"] == names(
        axis_values=AXES, version="v1", axis_order=["s", "strat"], chunk_spec={"strat": 1, "s": 2}
    )


def test_load_from_cache(tmp_path: Path) -> None:
    """A cache is opened by its id as it was made; without one it is a FileNotFoundError."""
    run(
        cache(tmp_path, version="v2", axis_order=["strat", "s"]),
        lambda strat, s: [e * n for e in strat for n in s],
    )
    loaded = ChunkCache.load_from_cache(tmp_path, "some", collate_fn=len, verbose=0)
    assert (AXES, {"s": 2, "strat": 1}, ("strat", "s"), "v2", PARAMS) == (
        loaded.axis_values,
        loaded.chunk_spec,
        loaded.axis_order,
        loaded.version,
        loaded.params,
    )
    assert 4 == run(loaded, refuse)[0]
    with pytest.raises(FileNotFoundError, match=r"no cache 'none' in .*holds 1 caches.*axis_values"):
        ChunkCache.load_from_cache(tmp_path, "none")


def test_copied_files_are_simply_there(tmp_path: Path) -> None:
    """Chunks and layouts copied from another root with the same id serve at once."""
    run(cache(tmp_path / "1").slice(strat="a"), repeated)
    run(cache(tmp_path / "2").slice(strat="b"), repeated)
    for path in (tmp_path / "1").rglob("*"):
        target = tmp_path / "2" / path.relative_to(tmp_path / "1")
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert repeated([1, 2, 3], ["a", "b"]) == run(cache(tmp_path / "2"), refuse)[0]


def test_write_metadata_returns_the_path(tmp_path: Path) -> None:
    """It is written once and not again."""
    made = cache(tmp_path)
    path = made.write_metadata()
    assert tmp_path / "some" / "metadata.json" == path
    before = path.stat().st_mtime_ns
    assert (path, before) == (cache(tmp_path).write_metadata(), path.stat().st_mtime_ns)
