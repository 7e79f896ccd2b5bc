"""Planning over arrays says what looking at every chunk by itself says."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo import ChunkCache, ChunkMemo, run
from chunk_memo.chunks import ChunkStore, Naming
from chunk_memo.disk import files
from chunk_memo.disk.layouts import Folder, Groups, Layout
from chunk_memo.grid import AxisBins, Bins, make_axis
from chunk_memo.identity import canonical_many
from chunk_memo.keys import (
    PackedKeys,
    PackedTexts,
    first_positions,
    index_of,
    joined,
    keys_of_values,
    locate,
    packed_texts,
    take,
)
from chunk_memo.naming import chunk_digests, chunk_names
from chunk_memo.plan import MISSING, PARTIAL, STORED, Plan
from chunk_memo.planning import count_stored, make_plan
from chunk_memo.selection import AxisCells, Cells

MANY = 5000
"""So many ints have packed keys."""

numbers = st.lists(st.integers(-9, 9), min_size=1, max_size=8, unique=True)
steps = st.tuples(numbers, numbers, st.integers(1, 3), st.integers(1, 3))


words = st.lists(st.text("abü€", max_size=20), min_size=1, max_size=8, unique=True)


def pack(keys: Sequence[bytes]) -> PackedKeys:
    """Return keys of ints packed, however few."""
    return PackedKeys(b"".join(keys))


def texts(values: Sequence[str]) -> PackedTexts:
    """Return keys of texts packed, however few."""
    packed = packed_texts(values)
    assert packed is not None
    return packed


def sweep(root: Path, xs: list[int], ys: list[int], sizes: tuple[int, int], **options: Any) -> Any:
    """Return a decorated function over two axes."""
    spec = {"x": sizes[0], "y": sizes[1]}
    memo = ChunkMemo(root, spec, {"x": xs, "y": ys}, verbose=0, durability="fast", **options)
    return memo.cache(version="1", name="f")(lambda x, y: np.multiply.outer(x, y) + 0.5)


def one_by_one(plan: Plan, store: ChunkStore) -> list[tuple[int, int]]:
    """Return for each cell how many points it has and how many are stored, looked at by itself."""
    return [(cell.points, count_stored(cell, plan.cells, store)) for cell in plan.cells]


def assert_as_one_by_one(plan: Plan, store: ChunkStore) -> None:
    """The plan says of every cell what looking at it says."""
    looked_at = one_by_one(plan, store)
    assert [points - stored for points, stored in looked_at] == plan.missing.tolist()
    expected = [STORED if s == p else PARTIAL if s else MISSING for p, s in looked_at]
    assert expected == plan.states.tolist()
    assert sum(points for points, _ in looked_at) == plan.total_points
    assert plan.executed_points == sum(group.points for group in plan.groups)
    assert np.count_nonzero(plan.missing) == sum(group.chunks for group in plan.groups)


class TestPlan:
    """A plan over arrays is the plan cell by cell."""

    @given(st.lists(steps, min_size=1, max_size=3), steps, st.randoms(use_true_random=False), st.booleans())
    @settings(deadline=None, max_examples=60)
    def test_any_history(
        self, tmp_path_factory: pytest.TempPathFactory, past: Any, now: Any, rng: random.Random, merged: bool
    ) -> None:
        """After any runs, merges and losses a plan is right, and the run that follows does what it said."""
        root, other = (tmp_path_factory.mktemp(name) for name in ("root", "other"))
        for xs, ys, *sizes in past:
            sweep(other if merged and rng.random() < 0.5 else root, xs, ys, tuple(sizes))()
        for path in list(other.rglob("*.h5")) + list(other.glob("*/layouts/*")):
            target = root / path.relative_to(other)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                path.rename(target)
        for path in sorted(root.rglob("*.h5")):
            if rng.random() < 0.2:
                path.unlink()
        xs, ys, *sizes = now
        function = sweep(root, xs, ys, tuple(sizes))
        plan = function.plan()
        assert_as_one_by_one(plan, function.cache_for()._state.store)
        if not merged:  # what came without a layout is adopted by a run only
            _, diagnostics = function()
            assert plan.executed_points == diagnostics.executed_points

    @given(st.lists(st.sampled_from(range(6)), min_size=1, max_size=9), st.data())
    @settings(deadline=None, max_examples=30)
    def test_named_chunks(
        self, tmp_path_factory: pytest.TempPathFactory, asked: list[int], data: st.DataObject
    ) -> None:
        """With chunks that a user named, cells stand in his order, and states with them."""
        cut = data.draw(st.lists(st.integers(1, 5), max_size=2, unique=True).map(sorted))
        pieces = [list(range(6))[a:b] for a, b in itertools.pairwise([0, *cut, 6])]
        boxes = data.draw(st.permutations([(("x", tuple(piece)),) for piece in pieces]))
        cache = ChunkCache(
            tmp_path_factory.mktemp("root"),
            "some",
            axis_values={"x": list(range(6))},
            chunk_enumerator=lambda _: boxes,
            verbose=0,
        )
        stored = data.draw(st.sampled_from(range(6)))
        run(cache.slice(x=[stored]), lambda x: list(x))
        plan = cache.slice(x=asked).plan()
        assert_as_one_by_one(plan, cache._state.store)
        assert [plan.cells.at(rank).axes for rank in range(len(plan.cells))] == [c.axes for c in plan.cells]

    def test_a_users_names_are_looked_for(self, tmp_path: Path) -> None:
        """With ``chunk_hash_fn`` and ``path_fn`` files are found where the user puts them."""
        for options in (
            {"chunk_hash_fn": lambda params, key, version: f"{key[0][1][0]}_{key[1][1][0]}"},
            {"path_fn": lambda params, key, version, name: f"mine/{name}.h5"},
        ):
            root = tmp_path / next(iter(options))
            sweep(root, [1, 2], [3, 4], (1, 1), **options)(x=1)
            plan = sweep(root, [1, 2], [3, 4], (1, 1), **options).plan()
            assert [STORED, STORED, MISSING, MISSING] == plan.states.tolist()

    def test_names_are_listed_or_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A plan of one chunk among many looks for its name; one of many lists the folder; both are right."""
        sweep(tmp_path, list(range(30)), list(range(30)), (1, 1))(x=list(range(29)))
        looked: list[str] = []
        stored_of = Folder.stored_of

        def counted(folder: Folder, names: Any) -> Any:
            wanted = list(names)
            looked.extend(wanted)
            return stored_of(folder, wanted)

        monkeypatch.setattr(Folder, "stored_of", counted)
        function = sweep(tmp_path, list(range(30)), list(range(30)), (1, 1))
        assert (1, 0) == (function.plan(x=3, y=4).cached_points, function.plan(x=29, y=4).cached_points)
        assert 2 == len(looked)
        assert 870 == function.plan().cached_points
        assert 2 == len(looked)

    def test_new_values_are_one_reason(self, tmp_path: Path) -> None:
        """However many chunks miss because of new values on an axis, the plan has one line for them."""
        sweep(tmp_path, [1, 2], [1], (1, 1))()
        plan = sweep(tmp_path, [1, 2, *range(10, 20)], [1], (1, 1)).plan()
        (group,) = plan.groups
        assert ("new on axis 'x': 10, 11, 12 and 7 more", 10, 10) == (group.reason, group.chunks, group.points)

    def test_status_without_cells(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Totals of a plan and of a status make no cell."""
        values = {"x": list(range(1000)), "y": list(range(1000))}
        cache = ChunkCache(tmp_path, "some", axis_values=values, chunk_spec={"x": 1, "y": 1}, verbose=0)

        def refused(cells: AxisCells, index: int) -> Any:
            raise AssertionError("a cell was made")

        monkeypatch.setattr(AxisCells, "__getitem__", refused)
        status = cache.cache_status()
        assert (10**6, 10**6, 10**6) == (
            status["total_chunks"],
            status.plan.total_points,
            status.plan.executed_points,
        )
        assert "1000000 missing" in repr(status.plan)
        assert "[… 1000000 chunks]" in repr(status)

    def test_one_long_axis(self, tmp_path: Path) -> None:
        """An axis with packed keys is planned, run, extended in the middle and planned again."""
        values = list(range(MANY))

        def cache(values: list[int]) -> ChunkCache:
            return ChunkCache(tmp_path, "some", axis_values={"x": values}, chunk_spec={"x": 1000}, verbose=0)

        made = cache(values)
        assert MANY == made.plan().executed_points
        run(made, lambda x: np.asarray(x))
        wider = cache([*values[:70], MANY + 7, *values[70:]])
        plan = wider.plan()
        assert (1, MANY) == (plan.executed_points, plan.cached_points)
        output, diagnostics = run(wider, lambda x: np.asarray(x))
        assert [69, MANY + 7, 70] == output[69:72].tolist()
        assert 1 == diagnostics.executed_points
        assert 0 == cache(values).slice(x=[3, 2, 3]).plan().executed_points

    def test_one_long_axis_of_texts(self, tmp_path: Path) -> None:
        """So is one of texts, of which single ones come later, and then many."""
        values = [f"sample {n}" for n in range(MANY)]

        def cache(values: list[str]) -> ChunkCache:
            return ChunkCache(tmp_path, "some", axis_values={"x": values}, chunk_spec={"x": 1000}, verbose=0)

        def lengths(x: list[str]) -> np.ndarray:
            return np.asarray([len(value) for value in x])

        assert MANY == run(cache(values), lengths)[1].executed_points
        wider = cache([*values[:70], "ü" * 300, *values[70:]])
        assert (1, MANY) == (wider.plan().executed_points, wider.plan().cached_points)
        output, diagnostics = run(wider, lengths)
        assert ([9, 300, 9], 1) == (output[69:72].tolist(), diagnostics.executed_points)
        more = cache([*values, *(f"other {n}" for n in range(MANY))])
        assert MANY == run(more, lengths)[1].executed_points
        assert 0 == cache([*values[::-1], "other 7"]).plan().executed_points

    def test_a_printed_status_has_no_source(self, tmp_path: Path) -> None:
        """Nobody reads the source of all functions there; it is among the metadata all the same."""
        memo = ChunkMemo(tmp_path, {"x": 1}, {"x": [1]}, verbose=0, durability="fast")

        def f(x: list[int]) -> np.ndarray:
            return np.multiply.outer(x, 2.0)

        function = memo.cache(name="f")(f)
        function()
        status = function.cache_status()
        assert "np.multiply.outer" in status["metadata"]["function"]["source"]
        assert status["metadata"]["function"]["parts"]
        assert "'name': 'f'" in repr(status)
        assert not [word for word in ("np.multiply", "'source':", "'parts':") if word in repr(status)]

    def test_a_generator_is_walked_once(self, tmp_path: Path) -> None:
        """Values that can be walked once only are asked of the status as any others."""
        cache = ChunkCache(tmp_path, "some", axis_values={"x": [1]}, chunk_spec={"x": 1}, verbose=0)
        status = cache.cache_status(x=(value for value in [1, 2, 3]), extend_cache=True)
        assert ([1, 2, 3], 3) == (status["axis_values"]["x"], status["total_chunks"])
        assert [1] == cache.axis_values["x"]


class TestNames:
    """Names of many chunks are those of each."""

    @given(st.permutations(["x", "a", "ü"]), st.lists(st.integers(1, 4), min_size=3, max_size=3), st.data())
    def test_products(self, order: list[str], counts: list[int], data: st.DataObject) -> None:
        """For any order of axes and any bins, names come row-major in that order."""
        bins = Bins()
        for axis, count in zip(order, counts, strict=True):
            for value in range(count):
                bins.of(axis).add([value], canonical_many([value]))
        chosen = [data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5)) for n in counts]
        store = ChunkStore(Folder(Path("nowhere"), "v1"), "id", Naming({}), allow_pickle=False, title="")
        expected = [store.ref(tuple(order), p, bins).name for p in itertools.product(*chosen)]
        arrays = [np.asarray(numbers, np.intp) for numbers in chosen]
        assert expected == chunk_names(store.prefix, order, arrays, bins)
        digests = chunk_digests(store.prefix, order, arrays, bins)
        assert (*map(len, chosen), 16) == digests.shape
        assert "".join(expected) == digests.tobytes().hex()

    def test_without_axes(self) -> None:
        """A cache without axes has one chunk."""
        store = ChunkStore(Folder(Path("nowhere"), "v1"), "id", Naming({}), allow_pickle=False, title="")
        assert [store.ref((), (), Bins()).name] == chunk_names(store.prefix, (), [], Bins())


class TestKeys:
    """Packed keys and their index are the lists and dicts that they stand for."""

    @given(numbers, st.lists(st.integers(-12, 12), max_size=8))
    def test_index(self, values: list[int], asked: list[int]) -> None:
        """Keys are found where they are, and nothing else is, however it is asked."""
        keys, wanted = canonical_many(values), canonical_many(asked)
        packed = pack(keys)
        assert keys == list(packed)
        assert packed == pack(list(packed))
        expected = [values.index(value) if value in values else -1 for value in asked]
        index = index_of(packed)
        assert expected == locate(index, wanted).tolist() == locate(index_of(keys), wanted).tolist()
        if wanted:
            assert expected == locate(index, pack(wanted)).tolist()
        assert [place >= 0 for place in expected] == [key in index for key in wanted]
        assert [False] * 3 == [key in index for key in canonical_many([1.0, "a", None])]
        assert list(range(len(values))) == locate(index, packed).tolist()
        places = list(range(0, len(values), 2))
        assert keys[::2] == list(take(packed, places)) == list(packed[::2])

    @pytest.mark.parametrize("colliding", [False, True])
    @given(words, st.lists(st.text("abü€", max_size=3), max_size=8))
    def test_index_of_texts(self, colliding: bool, values: list[str], asked: list[str]) -> None:
        """So are texts, also where all hashes are alike."""
        keys, wanted = canonical_many(values), canonical_many(asked)
        with pytest.MonkeyPatch.context() as patch:
            if colliding:
                patch.setattr(PackedTexts, "bits", property(lambda self: np.zeros(len(self), np.uint64)))
            packed, more = texts(values), texts(asked)
            assert keys == list(packed) == [packed[place] for place in range(len(keys))]
            assert len(keys) == len(packed)
            expected = [values.index(value) if value in values else -1 for value in asked]
            index = index_of(packed)
            assert expected == locate(index, wanted).tolist() == locate(index, more).tolist()
            assert [place >= 0 for place in expected] == [key in index for key in wanted]
            assert [False] * 4 == [key in index for key in canonical_many([1.0, 1, None, "a" * 300])]
            assert list(range(len(values))) == locate(index, texts(values)).tolist()
            assert list(reversed(range(len(values)))) == locate(index, texts(values[::-1])).tolist()
            assert first_positions(packed) is None
            assert keys[::2] == list(packed.taken(np.arange(0, len(keys), 2))) == list(packed[::2])
            assert keys[1:3] == list(packed[1:3])
            both = joined(packed, wanted)
            assert ([*keys, *wanted], True) == (list(both), isinstance(both, PackedTexts))
            assert [*keys, *wanted] == list(joined(packed, more))
            twice = first_positions(texts([*values, *values[::-1]]))
            assert twice is not None
            assert list(range(len(values))) == twice.tolist()

    def test_long_texts_are_not_packed(self) -> None:
        """Nor are lone surrogates, nor is a text that comes behind packed ones and is long."""
        assert packed_texts(["a", "b" * 255]) is packed_texts(["\ud800"]) is None
        assert [*canonical_many(["a", "b" * 255])] == list(joined(texts(["a"]), canonical_many(["b" * 255])))

    @given(st.lists(st.integers(-3, 3) | st.sampled_from([float("nan"), 0.0, -0.0]), min_size=1))
    def test_first_positions(self, values: list[Any]) -> None:
        """The first of equal values is found, in packed keys and others."""
        keys = canonical_many(values)
        expected = sorted({key: place for place, key in reversed(list(enumerate(keys)))}.values())
        found = first_positions(keys)
        assert expected == (list(range(len(keys))) if found is None else found.tolist())
        assert (found is None) == (len(set(keys)) == len(keys))

    @given(numbers)
    def test_first_positions_packed(self, values: list[int]) -> None:
        """So in packed keys."""
        found = first_positions(pack(canonical_many([*values, *values[::-1]])))
        assert found is not None
        assert list(range(len(values))) == found.tolist()

    def test_many_values(self) -> None:
        """Many ints and floats are packed, and their keys are those of each; a mixture is not."""
        for values in ([*range(MANY)], [float(n) for n in range(MANY)]):
            packed = keys_of_values(values)
            assert isinstance(packed, PackedKeys)
            assert canonical_many(values) == list(packed)
            more = joined(packed, canonical_many([-5 if type(values[0]) is int else -5.0]))
            assert isinstance(more, PackedKeys)
        assert canonical_many([*range(MANY), 0.5]) == keys_of_values([*range(MANY), 0.5])
        words = [str(n) for n in range(70_000)]
        assert isinstance(keys_of_values(words), PackedTexts)
        assert canonical_many(words) == list(keys_of_values(words))
        assert len(words) - 7 == locate(index_of(keys_of_values(words)), keys_of_values(words[::-1]))[6]

    def test_duplicates_of_a_long_axis_collapse(self) -> None:
        """The first of each stays, in order."""
        axis = make_axis("s", [*range(MANY, 0, -1), *range(MANY)])
        assert (*range(MANY, 0, -1), 0) == axis.values
        assert [0, MANY] == [axis.lookup[key] for key in canonical_many([MANY, 0])]


def grouped(data: st.DataObject, values: list[Any]) -> list[list[Any]]:
    """Return values cut into groups."""
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(values) - 1)))) & set(range(1, len(values))))
    return [values[a:b] for a, b in itertools.pairwise([0, *cuts, len(values)])]


class TestBins:
    """Bins that are added at once are those that are added one by one."""

    @given(st.lists(st.tuples(numbers, st.booleans(), st.booleans()), min_size=1, max_size=4), st.data())
    def test_extend(self, rows: list[tuple[list[int], bool, bool]], data: st.DataObject) -> None:
        """Whatever came before, in packed keys or not, every question has the same answer."""
        bulk, single = AxisBins(), AxisBins()
        for values, packed, regular in rows:
            groups, keys = grouped(data, values), canonical_many(values)
            sizes = [len(group) for group in groups]
            found = bulk.extend(values, pack(keys) if packed else keys, sizes, regular=regular)
            added = [single.add(group, canonical_many(group), regular=regular) for group in groups]
            assert added == found.tolist()
        for one in (bulk, bulk.copied()):
            assert (single.values, list(single.keys)) == (one.values, list(one.keys))
            count = range(len(single))
            assert [single.keys_of(n) for n in count] == [one.keys_of(n) for n in count]
            assert [single.values_of(n) for n in count] == [one.values_of(n) for n in count]
            assert [single.digests(n)[0] for n in count] == [
                row.tobytes() for row in one.first_digests(np.arange(len(one)))
            ]
            every = canonical_many(list(range(-10, 11)))
            assert [single.positions(key) for key in every] == [one.positions(key) for key in every]
            assert single.locate(every).tolist() == one.locate(pack(every)).tolist() == one.locate(every).tolist()
            axis = make_axis("s", list(range(-10, 11)))
            assert single.unbound(axis).tolist() == one.unbound(axis).tolist()
            assert single.overlapping == one.overlapping

    @given(st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=4), st.data())
    def test_extend_by_texts(self, rows: list[tuple[list[str], bool]], data: st.DataObject) -> None:
        """So it is with texts."""
        bulk, single = AxisBins(), AxisBins()
        for values, packed in rows:
            groups: list[list[Any]] = grouped(data, values)
            keys = texts(values) if packed else canonical_many(values)
            found = bulk.extend(values, keys, [len(group) for group in groups])
            assert [single.add(group, canonical_many(group)) for group in groups] == found.tolist()
        assert (single.values, list(single.keys)) == (bulk.values, list(bulk.keys))
        count = range(len(single))
        assert [single.keys_of(n) for n in count] == [bulk.keys_of(n) for n in count]
        assert [single.digests(n)[0] for n in count] == [
            row.tobytes() for row in bulk.first_digests(np.arange(len(bulk)))
        ]
        every = [*single.values, "nowhere"]
        asked = canonical_many(every)
        assert single.locate(asked).tolist() == bulk.locate(texts(every)).tolist() == bulk.locate(asked).tolist()

    @given(st.lists(st.integers() | st.floats() | st.text() | st.none() | st.booleans(), min_size=1), st.data())
    def test_rows_in_json(self, values: list[Any], data: st.DataObject) -> None:
        """Groups of any values come back from JSON."""
        groups = Groups.of(grouped(data, values))
        back = Groups.from_json(json.loads(json.dumps(groups.to_json())))
        assert groups.sizes.tolist() == back.sizes.tolist()
        assert canonical_many(list(groups.values)) == canonical_many(list(back.values))
        assert repr(list(groups)) == repr(list(back))

    @pytest.mark.parametrize("step", [1, -3, 7])
    def test_ranges_in_json(self, step: int) -> None:
        """Equally spaced ints are a range."""
        values = list(range(5, 5 + 100 * step, step))
        content = Groups(values, np.ones(100, np.intp)).to_json()
        assert {
            "values": {"range": [5, values[-1] + (1 if step > 0 else -1), step]},
            "sizes": [[1, 100]],
        } == content
        assert values == list(Groups.from_json(content).values)

    def test_sizes_that_do_not_fit_are_refused(self) -> None:
        """A row that is longer than its bins is no layout."""
        with pytest.raises(ValueError, match="cannot hold 3 values"):
            Groups.from_json({"values": [1, 2, 3], "sizes": [[1, 2]]})

    @pytest.mark.long
    def test_a_million_bins(self, tmp_path: Path) -> None:
        """A layout of a million bins comes back from disk."""
        values = [float(n) / 7 for n in range(10**6)]
        layout = Layout("v1", ("x",), {"x": 1}, {"x": Groups(values, np.ones(10**6, np.intp))}, None, 1)
        Folder(tmp_path, "v1").commit_layout(layout, files.Syncer("fast"))
        fresh = Folder(tmp_path, "v1")
        assert fresh.refresh()
        assert 10**6 == len(fresh.bins.of("x"))
        assert [values[77]] == fresh.bins.of("x").values_of(77)


def test_a_plan_of_cells_alone(tmp_path: Path) -> None:
    """Nothing is looked for where nothing is stored, and no costs are asked for."""
    cache = ChunkCache(tmp_path, "some", axis_values={"x": [1, 2]}, chunk_spec={"x": 1}, verbose=0)
    bins = Bins()
    bins.of("x").extend([1, 2], canonical_many([1, 2]), [1, 1])

    def refused() -> tuple[None, None]:
        raise AssertionError("costs were asked for")

    plan = make_plan(Cells(cache.selection(), bins), {}, cache._state.layers.all, refused)
    assert (["nothing is stored for these params"], 2) == ([g.reason for g in plan.groups], plan.executed_points)
