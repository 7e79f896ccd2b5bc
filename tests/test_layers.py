"""Layers of a cache: adopted caches, superseded points, and what is left to compute, against a plain model."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_warm_path import snapshot
from workers import ENVIRONMENT

from chunk_memo import CacheNotFoundError, ChunkCache, ChunkMemo, DamageWarning, SpecError, run, run_streaming
from chunk_memo.disk.sealing import digest_of_text, sealed, text_of
from chunk_memo.errors import FormatVersionError
from chunk_memo.layers import GcReport

Point = tuple[Any, ...]

KINDS = ["list", "dicts", "grid"]


@dataclass
class Model:
    """What one cache holds: for each point the value and the generation in which it was stored."""

    axes: tuple[str, ...]
    stored: dict[Point, tuple[float, int]] = field(default_factory=dict)
    masks: list[tuple[int, dict[str, set[Any]]]] = field(default_factory=list)
    adopted: list[tuple[Model, dict[str, Any]]] = field(default_factory=list)

    @property
    def generation(self) -> int:
        """The newest generation."""
        return max((generation for generation, _ in self.masks), default=0)

    def hides(self, point: Point, generation: int) -> bool:
        """Whether a point stored in some generation counts no more."""
        at = dict(zip(self.axes, point, strict=True))
        return any(
            number > generation and all(at[axis] in values for axis, values in named.items())
            for number, named in self.masks
        )

    def look(self, point: Point, path: tuple[Model, ...] = ()) -> Any:
        """The value that a request gets, None where it has to be computed."""
        if self in path:
            return None
        value, generation = self.stored.get(point, (None, 0))
        if value is not None and not self.hides(point, generation):
            return value
        if self.hides(point, -1):
            return None
        at = dict(zip(self.axes, point, strict=True))
        for other, pinned in reversed(self.adopted):
            if all(at[axis] == value for axis, value in pinned.items()):
                found = other.look(tuple(at[axis] for axis in other.axes), (*path, self))
                if found is not None:
                    return found
        return None

    def names(self, point: Point, asked: dict[str, Any]) -> bool:
        """Whether a point has these values."""
        at = dict(zip(self.axes, point, strict=True))
        return all(at[axis] in values for axis, values in asked.items())

    def points(self, path: tuple[Model, ...] = ()) -> set[Point]:
        """All points that some layer may hold."""
        found = set(self.stored)
        for other, pinned in self.adopted:
            for point in other.points((*path, self)) if other not in path else ():
                at = {**pinned, **dict(zip(other.axes, point, strict=True))}
                found.add(tuple(at[axis] for axis in self.axes))
        return found

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Each model is another one."""
        return self is other


class Party:
    """A cache and its model."""

    def __init__(self, root: Path, name: str, kind: str, axes: dict[str, list[int]], **options: Any) -> None:
        self.root, self.name, self.kind, self.axes, self.options = root, name, kind, axes, options
        self.model = Model(tuple(sorted(axes)))
        self.calls: list[Point] = []
        self.clock = 0.0
        self.cache = self.opened()

    def opened(self) -> ChunkCache:
        """Open the cache anew."""
        return ChunkCache(
            self.root, self.name, axis_values=self.axes, verbose=0, durability="fast", **self.options
        )

    def function(self, **axes: list[Any]) -> Any:
        """Each output is new: it tells the axis values and how often this cache has computed."""
        points = list(itertools.product(*axes.values()))
        order = list(axes)
        self.calls += [tuple(dict(zip(order, p, strict=True))[a] for a in self.model.axes) for p in points]
        values = [1000 * self.clock + hash(point) % 997 for point in points]
        if self.kind == "grid":
            return np.array(values).reshape([len(v) for v in axes.values()])
        if self.kind == "dicts":
            return [{**dict(zip(order, p, strict=True)), "value": v} for p, v in zip(points, values, strict=True)]
        return values

    def expected(self, asked: dict[str, Any], order: tuple[str, ...]) -> list[Point]:
        """The points of a request, in the order asked."""
        at = (dict(zip(order, point, strict=True)) for point in itertools.product(*(asked[a] for a in order)))
        return [tuple(point[a] for a in self.model.axes) for point in at]

    def ask(self, asked: dict[str, Any], *, how: str = "run") -> None:
        """Run a request; every point is stored, right, and was computed only if no layer had it."""
        self.clock += 1.0
        model, view = self.model, self.cache.slice(**asked) if asked else self.cache
        order = self.cache.axis_order
        asked = {axis: asked.get(axis, list(self.cache.grid.axis(axis).values)) for axis in order}
        points = self.expected(asked, order)
        before = {point: model.look(point) for point in points}
        plan, status = view.plan(), view.cache_status()
        missing = sorted({point for point in points if before[point] is None})
        assert len(missing) == plan.executed_points == sum(group.points for group in plan.groups)
        assert len(set(points)) == plan.total_points
        self.calls.clear()
        entries: list[Any] = []
        if how == "stream":
            diagnostics = run_streaming(view, self.function)
        elif how == "chunks":
            entries, diagnostics = run(view, self.function, collate_fn=list)
        else:
            output, diagnostics = run(view, self.function)
        assert missing == sorted(self.calls)
        assert (len(missing), len(before) - len(missing)) == (
            diagnostics.executed_points,
            diagnostics.cached_points,
        )
        assert len(status["cached_chunks"]) == diagnostics.cached_chunks
        generation = model.generation
        for point in missing:
            asked_as = tuple(dict(zip(model.axes, point, strict=True))[axis] for axis in order)
            value = 1000 * self.clock + hash(asked_as) % 997
            model.stored[point] = (value, generation)
        values = [model.look(point) for point in points]
        if how == "run":
            assert values == self.numbers(output)
        elif how == "chunks":
            assert sorted(v for v in values if v is not None) == sorted(self.flat(entries))
            assert diagnostics.total_chunks == len(entries)

    def numbers(self, output: Any) -> list[float]:
        """The values of outputs in the order asked."""
        if isinstance(output, np.ndarray):
            return [float(value) for value in output.reshape(-1)]
        return [item["value"] if isinstance(item, dict) else item for item in output]

    def flat(self, entries: list[Any]) -> Iterator[float]:
        """The values of all chunks."""
        for entry in entries:
            yield from self.numbers(entry)

    def invalidate(self, asked: dict[str, Any], *, sliced: bool) -> None:
        """Supersede points, where some of them are stored."""
        order = self.cache.axis_order
        whole = {axis: asked.get(axis, list(self.cache.grid.axis(axis).values)) for axis in order}
        stored = any(self.model.look(point) is not None for point in self.expected(whole, order))
        number = self.cache.slice(**asked).invalidate() if sliced else self.cache.invalidate(**asked)
        if not sliced:  # values that were never declared here count, too
            found = (point for point in self.model.points() if self.model.names(point, asked))
            stored = any(self.model.look(point) is not None for point in found)
        assert (self.model.generation + 1 if stored else 0) == number
        if number:
            named = whole if sliced else asked
            self.model.masks.append((number, {axis: set(values) for axis, values in named.items()}))


def subset(data: st.DataObject, values: list[Any], *, repeats: bool = False) -> list[Any]:
    """Some values, in any order."""
    return data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=len(values) + 2, unique=not repeats))


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_any_history(data: st.DataObject, kind: str) -> None:
    """Whatever was stored, adopted and superseded: a point is computed if and only if no layer has it."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"a": list(range(6)), "b": list(range(10, 15)), "c": [20, 21]}

        def party(name: str, axes: str) -> Party:
            declared = {axis: subset(data, values[axis]) for axis in axes}
            spec = {axis: data.draw(st.integers(1, 4)) for axis in axes}
            order = data.draw(st.permutations(list(axes)))
            return Party(Path(folder), name, kind, declared, chunk_spec=spec, axis_order=order)

        parties = [party("one", "ab"), party("two", "ab"), party("wide", "abc")]
        one, two, wide = parties
        for _ in range(data.draw(st.integers(2, 12))):
            chosen = data.draw(st.sampled_from(parties))
            asked = {
                axis: subset(data, list(chosen.cache.grid.axis(axis).values), repeats=True)
                for axis in chosen.cache.axis_order
                if data.draw(st.booleans())
            }
            step = data.draw(st.sampled_from(["ask", "ask", "ask", "adopt", "invalidate", "renew", "extend"]))
            if step == "ask":
                chosen.ask(asked, how=data.draw(st.sampled_from(["run", "run", "stream", "chunks"])))
            elif step == "adopt":
                other = one if chosen is not one else two
                pinned = {"c": data.draw(st.sampled_from([20, 21]))} if chosen is wide else {}
                if other.cache.path.exists() and not any(o is other.model for o, _ in chosen.model.adopted):
                    chosen.cache.adopt(other.name, pinned=pinned)
                    chosen.cache.adopt(other.name, pinned=pinned)
                    chosen.model.adopted.append((other.model, pinned))
                    assert len(chosen.model.adopted) == len(chosen.cache.adopted)
            elif step == "invalidate":
                chosen.invalidate(asked, sliced=data.draw(st.booleans()))
            elif step == "renew":
                chosen.options["chunk_spec"] = {axis: data.draw(st.integers(1, 4)) for axis in chosen.axes}
            elif step == "extend":
                axis = data.draw(st.sampled_from(chosen.model.axes))
                fresh = [value for value in values[axis] if value not in chosen.axes[axis]]
                chosen.axes[axis] = [*chosen.axes[axis], *fresh]
            for each in parties:  # other objects take in records when they open the cache
                each.cache = each.opened()
        for each in parties:
            each.ask({})
            before = dict(each.model.stored)
            each.ask({})
            assert before == each.model.stored
            live = sum(1 for _ in each.cache.path.rglob("chunks/**/*.h5"))
            report = each.cache.gc()
            assert live - report.superseded - report.parts == sum(
                1 for _ in each.cache.path.rglob("chunks/**/*.h5")
            )
            assert [] == each.cache.superseded_files()
        for each in parties:
            each.cache = each.opened()
            each.ask({})


# --- adoption ------------------------------------------------------------------------------------------------

XS, YS = list(range(6)), list(range(4))


def opened(root: Path, name: str, **options: Any) -> ChunkCache:
    """Return a cache over 3 by 2 chunks, or another grid."""
    axes = options.pop("axes", {"x": XS, "y": YS})
    options = {"chunk_spec": {"x": 2, "y": 2}, "durability": "fast", **options}
    return ChunkCache(root, name, axis_values=axes, verbose=0, **options)


class Counted:
    """A function that counts the points that it computes; each of its instances has outputs of its own."""

    def __init__(self, number: float = 0.0) -> None:
        self.number, self.points = number, 0

    def __call__(self, **axes: list[int]) -> list[float]:
        """Return a number for each point."""
        points = list(itertools.product(*(axes[axis] for axis in sorted(axes))))
        self.points += len(points)
        return [self.number + sum(10**n * value for n, value in enumerate(point)) for point in points]


def computed(cache: ChunkCache, number: float = 0.0) -> tuple[list[float], int]:
    """Run a request; return its outputs, and how many points were computed."""
    function = Counted(number)
    plan = cache.plan()
    output, diagnostics = run(cache, function)
    assert plan.executed_points == function.points == diagnostics.executed_points
    return output, function.points


def warned(cache: Callable[[], ChunkCache], number: float) -> tuple[list[str], int]:
    """Open a cache and run it; return the damage that was told, and how many points were computed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output, points = computed(cache(), number)
    assert {warning.category for warning in caught} <= {DamageWarning}
    assert Counted(number)(x=XS, y=YS) == output or points < 24
    return [str(warning.message) for warning in caught], points


class TestAdoption:
    """Results of other caches count."""

    def test_chains_and_circles(self, tmp_path: Path) -> None:
        """What an adopted cache adopted counts, too, and caches may adopt each other."""
        assert 24 == computed(opened(tmp_path, "first"), 0.5)[1]
        names = ["first", "second", "third"]
        for one, other in [("second", "first"), ("third", "second"), ("third", "first"), ("second", "third")]:
            opened(tmp_path, one).adopt(other)
        opened(tmp_path, "first").adopt("third")
        for name in names:
            assert (Counted(0.5)(x=XS, y=YS), 0) == computed(opened(tmp_path, name), 0.75)
        assert ["second", "first"] == [record.cache_id for record in opened(tmp_path, "third").adopted]

    def test_a_param_becomes_an_axis(self, tmp_path: Path) -> None:
        """A cache with fewer axes counts at the pinned value; arrays and single points come out as computed."""
        narrow = opened(tmp_path, "narrow")
        output, _ = run(narrow, lambda x, y: np.add.outer(np.array(x) * 100.0, y))
        axes = {"b": [0.5, 1.5], "x": XS, "y": YS}
        wide = opened(
            tmp_path, "wide", axes=axes, chunk_spec={"b": 1, "x": 4, "y": 4}, axis_order=["x", "b", "y"]
        )
        wide.adopt("narrow", pinned={"b": np.float64(1.5)})
        plan = wide.plan()
        assert (48, 24) == (plan.total_points, plan.executed_points)
        requests: list[dict[str, Any]] = [
            {"b": [1.5]},
            {"b": [1.5], "x": [5, 0, 0], "y": [3]},
            {"b": [1.5, 1.5]},
        ]
        for request in requests:
            found, diagnostics = run(wide.slice(**request), lambda **axes: pytest.fail("computed"))
            at = np.ix_(request.get("x", XS), request.get("y", YS))
            expected = np.stack([output[at]] * len(request["b"]), axis=1)
            np.testing.assert_array_equal(expected, found)
            assert 0 == diagnostics.executed_points

    def test_refusals(self, tmp_path: Path) -> None:
        """A cache that is not there, itself, or one of other axes is refused, and nothing is written."""
        computed(opened(tmp_path, "one"))
        computed(opened(tmp_path, "line", axes={"x": XS}, chunk_spec={}))
        cache = opened(tmp_path, "new")
        with pytest.raises(CacheNotFoundError, match="no cache 'none'"):
            cache.adopt("none")
        with pytest.raises(SpecError, match="cannot adopt itself"):
            opened(tmp_path, "one").adopt("one")
        for name, pinned in [("line", {}), ("one", {"y": 0}), ("line", {"z": 0}), ("one", {"z": 0})]:
            with pytest.raises(SpecError, match="pin each axis"):
                cache.adopt(name, pinned=pinned)
        with pytest.raises(SpecError, match="names a folder"):
            cache.adopt("../one")
        assert not cache.path.exists()

    def test_an_id_that_stands_for_something_else(self, tmp_path: Path) -> None:
        """Results of a cache whose identity changed do not count; that is told once."""
        computed(opened(tmp_path, "old", identity=b"this"))
        opened(tmp_path, "new").adopt("old")
        shutil.rmtree(tmp_path / "old")
        assert 24 == computed(opened(tmp_path, "old", identity=b"that"))[1]
        with pytest.warns(DamageWarning, match="stands for other params") as told:
            assert 24 == computed(opened(tmp_path, "new"), 0.5)[1]
        assert 1 == len(told)

    def test_an_adopted_cache_that_is_gone(self, tmp_path: Path) -> None:
        """Its points are computed."""
        computed(opened(tmp_path, "old"))
        opened(tmp_path, "new").adopt("old")
        shutil.rmtree(tmp_path / "old")
        assert (Counted(0.5)(x=XS, y=YS), 24) == computed(opened(tmp_path, "new"), 0.5)

    def test_nothing_that_is_stored_is_touched(self, tmp_path: Path) -> None:
        """Adopting again writes nothing, and a warm call of an adopting cache changes no file."""
        computed(opened(tmp_path, "old"))
        before = snapshot(tmp_path / "old")
        opened(tmp_path, "new").adopt("old")
        computed(opened(tmp_path, "new"))
        adopted = snapshot(tmp_path)
        opened(tmp_path, "new").adopt("old")
        computed(opened(tmp_path, "new"))
        assert adopted == snapshot(tmp_path)
        assert before == snapshot(tmp_path / "old")

    def test_opaque_outputs(self, tmp_path: Path) -> None:
        """One output for a whole chunk serves the chunk of the same values, and nothing else."""
        old = opened(tmp_path, "old", outputs="opaque")
        output, _ = run(old, lambda x, y: (tuple(x), tuple(y)))
        same = opened(tmp_path, "same", outputs="opaque")
        same.adopt("old")
        assert output == run(same, lambda **axes: pytest.fail("computed"))[0]
        assert 0 == run_streaming(same, lambda **axes: pytest.fail("computed")).executed_points
        other = opened(tmp_path, "other", outputs="opaque", chunk_spec={"x": 3, "y": 2})
        other.adopt("old")
        assert 24 == run(other, lambda x, y: (tuple(x), tuple(y)))[1].executed_points

    @pytest.mark.parametrize("own", ["chunk_hash_fn", "path_fn"])
    def test_names_of_a_users_own(self, tmp_path: Path, own: str) -> None:
        """Files that a user names, or places, are found in adopted caches and in every generation."""
        functions: dict[str, Any] = {
            "chunk_hash_fn": lambda params, key, version: "-".join(str(values[0]) for _, values in key),
            "path_fn": lambda params, key, version, name: f"mine/{key[0][1][0]}/{key[1][1][0]}.h5",
        }
        options: dict[str, Any] = {own: functions[own], "metadata": {"params": {"alpha": 1}}}
        computed(opened(tmp_path, "old", **options))
        cache = opened(tmp_path, "new", **options)
        cache.adopt("old")
        assert 0 == computed(opened(tmp_path, "new", **options))[1]
        assert 1 == cache.invalidate(x=[1, 2])
        assert 8 == computed(opened(tmp_path, "new", **options), 0.5)[1]
        assert 2 == opened(tmp_path, "new", **options).invalidate(x=1)
        assert 4 == computed(opened(tmp_path, "new", **options), 0.25)[1]
        assert 0 == computed(opened(tmp_path, "new", **options), 0.25)[1]


# --- generations ---------------------------------------------------------------------------------------------


class TestGenerations:
    """Superseded points are computed again, and no others."""

    def test_reasons(self, tmp_path: Path) -> None:
        """A plan says that points were superseded only where they were stored; else what it always said."""
        cache = opened(tmp_path, "one")
        cache.miss_reason = "code changed: function 'scale'"
        assert ["code changed: function 'scale'"] == [group.reason for group in cache.slice(x=[0]).plan().groups]
        assert 0 == cache.invalidate()
        computed(cache.slice(x=[0, 1]))
        assert 0 == cache.invalidate(x=[2, 3])
        assert 1 == cache.invalidate()
        groups = {group.reason: group.points for group in cache.plan().groups}
        assert {"superseded by invalidate() or refresh": 8, "not computed yet": 16} == groups
        assert 0 == cache.invalidate()
        computed(cache, 0.5)
        grown = opened(tmp_path, "one", axes={"x": [*XS, 9], "y": YS})
        assert ["new on axis 'x': 9"] == [group.reason for group in grown.plan().groups]

    def test_slices_name_their_points(self, tmp_path: Path) -> None:
        """A cache's axes that are left out mean every value; a slice means its own points."""
        computed(opened(tmp_path, "one", axes={"x": [*XS, 7], "y": YS}))
        opened(tmp_path, "one").slice(y=[0]).invalidate()
        assert 0 == computed(opened(tmp_path, "one", axes={"x": [7], "y": YS}))[1]
        opened(tmp_path, "one").invalidate(y=[0])
        assert 1 == computed(opened(tmp_path, "one", axes={"x": [7], "y": YS}), 0.5)[1]

    def test_results_that_were_under_way(self, tmp_path: Path) -> None:
        """What began to be computed before it was superseded does not count when it is stored at last."""
        cache = opened(tmp_path, "one")
        computed(cache)
        cache.invalidate(x=0)

        def overtaken(**axes: list[int]) -> list[float]:
            opened(tmp_path, "one").invalidate()
            return Counted(0.5)(**axes)

        output, _ = run(cache.slice(x=0, y=[0, 1]), overtaken)
        assert [0.5, 10.5] == output
        assert (Counted(0.75)(x=XS, y=YS), 24) == computed(opened(tmp_path, "one"), 0.75)

    def test_others_take_it_in_when_they_miss_something(self, tmp_path: Path) -> None:
        """Views of one object see it at once, other objects before they compute anything."""
        cache, other = opened(tmp_path, "one"), opened(tmp_path, "one")
        view, wider = cache.slice(x=[0]), cache.with_axis_values({"x": [0, 1]})
        computed(cache.slice(x=XS[:4]))
        computed(other.slice(x=XS[:4]))
        assert 1 == cache.invalidate(x=[0, 1])
        assert (4, 8) == (view.plan().executed_points, wider.plan().executed_points)
        output, diagnostics = run(other, Counted(0.5))
        assert 16 == diagnostics.executed_points
        assert output[:8] == Counted(0.5)(x=[0, 1], y=YS)
        assert output[8:16] == Counted(0.0)(x=[2, 3], y=YS)

    def test_one_point(self, tmp_path: Path) -> None:
        """The short way to one point never returns what was superseded."""
        cache = opened(tmp_path, "one")
        computed(cache)
        computed(cache)
        found = cache.read_point([1, 2])
        assert found is not None
        assert [21.0] == found[0]
        cache.invalidate(x=1)
        assert cache.read_point([1, 2]) is None
        computed(cache.slice(x=[0, 1]), 0.5)
        assert [21.5] == run(cache.slice(x=1, y=2), Counted())[0]
        computed(cache, 0.5)
        cache.invalidate()
        computed(cache, 0.75)
        computed(cache)
        found = cache.read_point([1, 2])
        assert found is not None
        assert [21.75] == found[0]

    def test_without_axes(self, tmp_path: Path) -> None:
        """A cache of one point has generations, too."""
        cache = opened(tmp_path, "one", axes={}, chunk_spec={})
        assert ["a"] == run(cache, lambda: "a")[0]
        assert 1 == cache.invalidate()
        assert 0 == cache.invalidate()
        assert ["b"] == run(cache, lambda: "b")[0]
        assert ["b"] == run(opened(tmp_path, "one", axes={}, chunk_spec={}), lambda: "c")[0]

    def test_many_chunks_are_read_by_regions(self, tmp_path: Path) -> None:
        """Of 2,500 chunks some are superseded whole, some in part; outputs come from where they belong."""
        axes = {"x": list(range(100)), "y": list(range(100))}
        cache = opened(tmp_path, "one", axes=axes)
        table = np.add.outer(np.arange(100.0) * 1000, np.arange(100.0))
        run(cache, lambda x, y: table[np.ix_(x, y)])
        cache.invalidate(x=range(40, 60), y=range(10, 31))
        fresh = table.copy()
        fresh[40:60, 10:31] += 0.5
        _, diagnostics = run(cache, lambda x, y: fresh[np.ix_(x, y)])
        assert 20 * 21 == diagnostics.executed_points
        output, diagnostics = run(opened(tmp_path, "one", axes=axes), lambda **axes: pytest.fail("computed"))
        np.testing.assert_array_equal(fresh, output)
        assert 10 * 11 == 2500 + 10 * 11 - diagnostics.cached_chunks


# --- gc ------------------------------------------------------------------------------------------------------


def test_gc(tmp_path: Path) -> None:
    """Files that no request needs go, and only these; a dry run tells the same and deletes nothing."""
    cache = opened(tmp_path, "one")
    computed(cache)
    cache.invalidate(x=[0, 1, 2])
    computed(cache, 0.5)
    chunks = cache.path / "chunks"
    temporary, young, odd = chunks / ".tmp-1", cache.path / ".tmp-2", cache.path / "notes.txt"
    aside = cache.path / "quarantine" / "file.h5"
    aside.parent.mkdir()
    for path in (temporary, young, odd, aside):
        path.write_bytes(b"12345678")
    for path in (temporary, odd, aside):
        os.utime(path, (0, 0))
    before = snapshot(tmp_path)
    report = cache.gc(dry_run=True)
    assert before == snapshot(tmp_path)
    assert report == cache.gc()
    gone = set(before) - set(snapshot(tmp_path))
    assert (2, 0, 1, 0) == (report.superseded, report.parts, report.temporary, report.quarantined)
    assert temporary in gone
    assert 3 == len(gone)
    assert sum(before[path][1] for path in gone) == report.nbytes
    assert GcReport(quarantined=1, folders=1, nbytes=8) == cache.gc(quarantine=True)
    assert {young, odd} <= set(snapshot(tmp_path))
    assert 0 == computed(opened(tmp_path, "one"))[1]


def test_gc_of_parts(tmp_path: Path) -> None:
    """Parts go where the complete file is intact; else they are kept."""
    cache = opened(tmp_path, "one")
    computed(cache.slice(x=[0], y=[0]))
    ((part, _),) = ((path, path.stat()) for path in cache.path.glob("chunks/*.parts/*.h5"))
    data = part.read_bytes()
    computed(cache)
    (whole,) = (path for path in cache.path.glob("chunks/*.h5") if path.stem == part.parent.stem)
    part.parent.mkdir()
    part.write_bytes(data)
    good = whole.read_bytes()
    whole.write_bytes(good[:-1])
    assert GcReport() == cache.gc()
    whole.write_bytes(good)
    assert GcReport(parts=1, folders=1, nbytes=len(data)) == cache.gc()
    assert not part.parent.exists()


# --- files that are opened -----------------------------------------------------------------------------------


def test_one_layer_opens_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that adopted nothing is opened by two listings and its layout, and read by its chunk files."""
    computed(opened(tmp_path, "one"))
    calls: list[tuple[str, str]] = []

    def watch(patch: pytest.MonkeyPatch, name: str) -> None:
        true = getattr(os, name)

        def called(path: Any = ".", *rest: Any, **options: Any) -> Any:
            if not isinstance(path, int):
                calls.append((name, os.path.basename(os.fspath(path).rstrip("/"))))
            return true(path, *rest, **options)

        patch.setattr(os, name, called)

    with monkeypatch.context() as patch:
        for name in ("open", "listdir", "scandir"):
            watch(patch, name)
        run(opened(tmp_path, "one"), Counted())
    layout = next((tmp_path / "one" / "layouts").iterdir()).name
    assert [("listdir", "layouts"), ("listdir", "one")] == sorted(call for call in calls if call[0] != "open")
    others = [name for _, name in calls if name not in ("one", "layouts", "chunks") and not name.endswith(".h5")]
    assert {layout, "metadata.json"} == set(others)


# --- records that are damaged, and writers that are killed ---------------------------------------------------


def record_of(root: Path, kind: str) -> Path:
    """Return the one record of a kind."""
    (path,) = (root / "new" / kind).glob("*.json")
    return path


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A cache that adopted another, and superseded some of it."""
    computed(opened(tmp_path, "old"))
    cache = opened(tmp_path, "new")
    cache.adopt("old")
    cache.invalidate(x=[0])
    assert 4 == computed(cache, 0.5)[1]
    return tmp_path


class TestDamagedRecords:
    """Damage costs recomputation, with one warning that names the file; never a wrong result."""

    @pytest.mark.parametrize("cut", [0, 1, 40, -2])
    @pytest.mark.parametrize(("kind", "points"), [("adopted", 20), ("superseded", 20)])
    def test_damage(self, both: Path, kind: str, points: int, cut: int) -> None:
        """An adoption is forgotten; where a superseding record is lost, all before its generation is."""
        path = record_of(both, kind)
        path.write_bytes(path.read_bytes()[:cut])
        told, count = warned(lambda: opened(both, "new"), 0.75)
        assert (1, points) == (len(told), count)
        assert str(path) in told[0]
        assert ([], 0) == warned(lambda: opened(both, "new"), 0.75)
        assert 1 == len(list((both / "new" / "quarantine").iterdir()))

    def test_damage_of_the_replacement(self, both: Path) -> None:
        """What stands for a damaged record may be damaged itself."""
        for number in range(1, 4):
            path = record_of(both, "superseded")
            path.write_bytes(b"")
            told, count = warned(lambda: opened(both, "new"), 0.75)
            assert (1, 20 if number == 1 else 0) == (len(told), count)
        assert 0 == computed(opened(both, "new"), 0.75)[1]

    def test_swapped_names(self, both: Path) -> None:
        """A record under the name of another is no record."""
        path = record_of(both, "superseded")
        computed(opened(both, "new"))
        opened(both, "new").invalidate(x=[1])
        (other,) = set((both / "new" / "superseded").iterdir()) - {path}
        shutil.copy(other, path)
        told, count = warned(lambda: opened(both, "new"), 0.75)
        assert (1, 20) == (len(told), count)

    @pytest.mark.parametrize("kind", ["adopted", "superseded"])
    def test_unreadable(self, both: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        """A record that cannot be read just now is left alone; until it can be, its points are computed."""
        path, true, failed = record_of(both, kind), os.open, 0
        before = path.read_bytes()

        def refused(name: Any, *rest: Any, **options: Any) -> int:
            nonlocal failed
            if str(name) == str(path):
                failed += 1
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            return true(name, *rest, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refused)
            assert 20 == opened(both, "new").plan().executed_points
        assert failed >= 3
        assert before == path.read_bytes()
        assert 0 == computed(opened(both, "new"))[1]

    def test_later_version(self, both: Path) -> None:
        """A record of a later version stops the call, says so, and is left alone."""
        content = {"format": 2, "all": "new"}
        later = both / "new" / "adopted" / f"{digest_of_text(text_of(content))}.json"
        later.write_bytes(sealed({"created_at": 0, "record": content}))
        with pytest.raises(FormatVersionError, match="upgrade chunk_memo"):
            opened(both, "new").plan()
        assert later.exists()


FAULTS = ("open", "write", "writev", "link", "unlink", "mkdir", "fsync", "listdir", "close")
"""The system calls that writing a record makes."""


def counting(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call something before each system call."""

    def watched(true: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            act()
            return true(*arguments, **options)

        return called

    for name in FAULTS:
        patch.setattr(os, name, watched(getattr(os, name)))


def half(root: Path) -> None:
    """Store a cache, and half of another."""
    computed(opened(root, "old", durability="full"))
    computed(opened(root, "new").slice(x=[0, 1]), 0.5)


def assert_valid(root: Path, *, began: bool = True) -> tuple[bool, bool]:
    """The cache is with or without each record, and right either way; return which."""
    cache = opened(root, "new")
    adopted, superseded = bool(cache.adopted), bool(cache.generation)
    expected = (0 if adopted else 16) + (4 if superseded else 0)
    output, points = computed(cache, 0.75)
    assert expected == points
    first = Counted(0.75 if superseded else 0.5)(x=[0], y=YS)
    middle = Counted(0.5)(x=[1], y=YS)
    assert output == [*first, *middle, *Counted(0.0 if adopted else 0.75)(x=XS[2:], y=YS)]
    assert [] == list(root.rglob("quarantine"))
    return adopted, superseded


def act(root: Path) -> None:
    """Write both records."""
    cache = opened(root, "new")
    cache.adopt("old")
    cache.invalidate(x=[0])


def test_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever system call fails while records are written: the cache is valid, and trying again does it."""
    outcomes, number, fired = set(), 0, True
    while fired:
        root, left, fired = tmp_path / str(number), number, False
        half(root)

        def fail() -> None:
            nonlocal left, fired
            left -= 1
            if left == -1:
                fired = True
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        with monkeypatch.context() as patch:
            counting(patch, fail)
            with suppress(OSError):
                act(root)
        if number % 3 == 0:
            outcomes.add(assert_valid(root))
        else:
            act(root)
            assert (True, True) == assert_valid(root)
        number += 1
    assert number > 20
    assert {(False, False), (True, True)} <= outcomes


KILLS = """
import os, random, signal, sys
from pathlib import Path
import pytest
import h5py
from test_layers import act, counting, half

def kill():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

for number in range(int(sys.argv[2])):
    root = Path(sys.argv[1]) / str(number)
    half(root)
    child = os.fork()
    if not child:
        left = number % 60
        counting(pytest.MonkeyPatch(), kill)
        act(root)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def killed(tmp_path: Path, count: int) -> None:
    """Kill so many writers, each at another system call, and look at what they left."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, tmp_path, str(count)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert "" == done.stderr
    codes = [int(line) for line in done.stdout.split()]
    assert count == len(codes)
    assert -signal.SIGKILL in codes
    for number in range(count):
        root = tmp_path / str(number)
        if number % 2:
            assert_valid(root)
        else:
            act(root)
            assert (True, True) == assert_valid(root)


def test_kill(tmp_path: Path) -> None:
    """10 writers of records are killed: each cache is with or without them, and trying again writes them."""
    killed(tmp_path, 10)


@pytest.mark.long
def test_kill_long(tmp_path: Path) -> None:
    """100 of them."""
    killed(tmp_path, 100)


REFRESH = """
import sys
from pathlib import Path
from chunk_memo import run
from test_layers import Counted, opened

root, number = Path(sys.argv[1]), int(sys.argv[2])
import h5py
print("ready", flush=True)
sys.stdin.readline()
for turn in range(10):
    cache = opened(root, "new")
    view = cache.slice(x=[(number + turn) % 6, turn % 6])
    view.invalidate()
    function = Counted(100000.0 * number + 1000.0 * (turn + 1))
    output, diagnostics = run(view, function)
    parts = {int(value) // 1000 for value in output}
    if not parts <= {100 * who + 1 + when for who in (1, 2) for when in range(10)}:
        print("stale", turn, output)
print("done", flush=True)
"""


def test_two_processes_refresh_at_once(tmp_path: Path) -> None:
    """Both may compute a point; neither ever gets an outdated result, and all is stored in the end."""
    half(tmp_path)
    opened(tmp_path, "new").adopt("old")
    command = [sys.executable, "-W", "error", "-c", REFRESH, str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*command, str(n)], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in (1, 2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert ["done\n", "done\n"] == [process.communicate()[0] for process in processes]
    output, points = computed(opened(tmp_path, "new"))
    assert 0 == points
    assert min(output) >= 1000
    assert opened(tmp_path, "new").generation >= 10


def test_another_object_of_this_process_sees_at_once_what_was_superseded(tmp_path: Path) -> None:
    """Two memos over one root, both warm: what one computes anew, the other returns, for a point and for all."""
    factor = [1]

    def opened() -> Any:
        memo = ChunkMemo(tmp_path, {"x": 2}, {"x": [1, 2, 3, 4]}, verbose=0, durability="fast")
        return memo.cache(version="1", name="scaled")(lambda x: np.array([factor[0] * value for value in x]))

    one, other = opened(), opened()
    assert [1, 2, 3, 4] == one()[0].tolist() == other()[0].tolist()
    assert 2 == other(x=2)[0].item()
    factor[0] = 10
    one(x=2, refresh=True)
    assert 20 == other(x=2)[0].item()
    assert [1, 20, 3, 4] == other()[0].tolist()
    one.invalidate(x=3)
    assert [1, 20, 30, 4] == other()[0].tolist()
    assert 0 == one()[1].executed_points


def test_truth_values_among_numbers_stay_what_they_are(tmp_path: Path) -> None:
    """One output per point: True beside 1 is returned as a list, which keeps both."""
    memo = ChunkMemo(tmp_path, {"x": 2}, {"x": [0, 1, 2]}, verbose=0, durability="fast")
    mixed = [1, 2.5, True]
    pick = memo.cache(vectorize=True, version="1", name="pick")(lambda x: mixed[x])
    output, _ = pick(x=[2, 0])
    assert [bool, int] == [type(value) for value in output]
