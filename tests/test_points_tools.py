"""Points that form no grid are looked after as chunks are: checked, mended, counted, merged, exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import chunk_memo
from chunk_memo import ChunkMemo, SweepResult
from chunk_memo.cli import main
from chunk_memo.disk import chunkfile
from chunk_memo.errors import DamageWarning, FailureWarning, UnknownValueError
from chunk_memo.merging import merge
from chunk_memo.survey import details, survey
from chunk_memo.upkeep import collect
from chunk_memo.verification import verify

OUTSIDE = [(number / 8 + 10, "u") for number in range(40)]
"""Points of values that no grid declares."""


def product(x: float, y: str) -> float:
    """Return an output that tells the point."""
    return x * 2 + len(y)


def decorated(root: Path, version: str | None = "1", *, add: float = 0.0, **options: Any) -> Any:
    """Return a function over the test's axes."""
    memo = ChunkMemo(root, {"x": 2, "y": 1}, {"x": [0.0, 1.0], "y": ["u", "v"]}, verbose=0, **options)

    def function(x: float, y: str) -> float:
        return product(x, y) + add

    return memo.cache(version=version, name="f", vectorize=True)(function)


def executed(result: SweepResult) -> int:
    """Return how many points a run executed."""
    assert result.diagnostics is not None
    return result.diagnostics.executed_points


def point_files(root: Path, pattern: str = "chunks/**/*.h5") -> list[Path]:
    """Return files in the rooms of points."""
    return sorted(root.glob(f"*/points/{pattern}"))


def kinds(root: Path, **options: Any) -> list[tuple[str, bool]]:
    """Return what is found, and whether something was done about it."""
    return [(finding.kind, bool(finding.fate)) for finding in verify(root, **options).findings]


def snapshot(root: Path) -> dict[str, bytes]:
    """Return all files."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


class TestVerify:
    """Every byte of every file of points is checked, and what is wrong is set aside."""

    def test_nothing_wrong(self, tmp_path: Path) -> None:
        """A root with grids, points and points that failed has no findings; each of its files is counted."""
        function = decorated(tmp_path)
        function()
        function.cases(OUTSIDE)
        with pytest.warns(FailureWarning):
            function.cases([(None, "u")], on_error="record")
        before = snapshot(tmp_path)
        counted = {path: data for path, data in before.items() if "/runs/" not in path}
        assert any("/points/failures/" in path for path in counted)
        found = verify(tmp_path)
        assert (1, len(counted), ()) == (found.caches, found.files, found.findings)
        assert before == snapshot(tmp_path)
        assert before == (verify(tmp_path, repair=True), snapshot(tmp_path))[1]

    def test_each_byte(self, tmp_path: Path) -> None:
        """A flipped bit anywhere in a file of points, or in a layout of theirs, is found."""
        decorated(tmp_path).cases(OUTSIDE)
        rng = np.random.default_rng(3)
        for path in [*point_files(tmp_path), *point_files(tmp_path, "layouts/*.json")]:
            good = path.read_bytes()
            for at in rng.integers(0, len(good), 15).tolist():
                flip(path, at)
                found = verify(tmp_path)
                same = path.suffix == ".json" and found.is_intact and good[at : at + 1].isspace()
                assert same or "damaged" in [finding.kind for finding in found.findings], (path, at)
                path.write_bytes(good)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: flip(path, 5000),
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            lambda path: path.write_bytes(b""),
        ],
        ids=["flipped", "truncated", "emptied"],
    )
    def test_repair(self, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        """A damaged file is moved to the quarantine of its room, and only its points are run again."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        path, *others = point_files(tmp_path)
        with chunkfile.load(path) as chunk:
            lost = chunk.sizes["case"]
        assert others
        assert 0 < lost < len(OUTSIDE)
        damage(path)
        assert [("damaged", False)] == kinds(tmp_path)
        assert [("damaged", True)] == kinds(tmp_path, repair=True)
        assert [("quarantined", False)] == kinds(tmp_path)
        assert 1 == len(point_files(tmp_path, "quarantine/*"))
        assert lost == executed(function.cases(OUTSIDE))
        assert [product(*point) for point in OUTSIDE] == function.cases(OUTSIDE).to_numpy().tolist()

    def test_swapped_files(self, tmp_path: Path) -> None:
        """Files of points under each other's names are told, and put right."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        first, second, *_ = point_files(tmp_path)
        data = first.read_bytes(), second.read_bytes()
        first.write_bytes(data[1])
        second.write_bytes(data[0])
        assert [("misplaced", False)] * 2 == kinds(tmp_path)
        assert [("misplaced", True)] * 2 == kinds(tmp_path, repair=True)
        assert data == (first.read_bytes(), second.read_bytes())
        assert 0 == executed(function.cases(OUTSIDE))

    @pytest.mark.parametrize("whose", ["another cache's points", "the cache's own grid", "another cache's grid"])
    def test_the_file_of_another(self, tmp_path: Path, whose: str) -> None:
        """A file that belongs elsewhere is set aside, and what stood there is computed again."""
        function, other = decorated(tmp_path), decorated(tmp_path, "2")
        result = function.cases(OUTSIDE)
        for each in (function, other):
            each()
        there = other.cases(OUTSIDE).cache.path
        sources = {
            "another cache's points": there / "points" / "chunks",
            "the cache's own grid": result.cache.path / "chunks",
            "another cache's grid": there / "chunks",
        }
        path = sorted((result.cache.path / "points" / "chunks").glob("*.h5"))[0]
        path.write_bytes(sorted(sources[whose].glob("*.h5"))[0].read_bytes())
        assert [("misplaced", False)] == kinds(tmp_path)
        assert [("misplaced", True)] == kinds(tmp_path, repair=True)
        assert 0 < executed(function.cases(OUTSIDE)) < len(OUTSIDE)
        assert 0 == function.sweep().diagnostics.executed_points

    def test_points_in_the_place_of_chunks(self, tmp_path: Path) -> None:
        """A file of points among the chunks of the grid is told, and set aside."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        function()
        path = sorted(tmp_path.glob("*/chunks/*.h5"))[0]
        path.write_bytes(point_files(tmp_path)[0].read_bytes())
        assert [("misplaced", False)] == kinds(tmp_path)
        assert [("misplaced", True)] == kinds(tmp_path, repair=True)

    def test_without_layout(self, tmp_path: Path) -> None:
        """Files of points that no layout names are told, and adopted when asked to."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        count = len(point_files(tmp_path))
        shutil.rmtree(point_files(tmp_path, "layouts")[0])
        assert [("unnamed", False)] * count == kinds(tmp_path)
        assert [("unnamed", True)] * count == kinds(tmp_path, repair=True)
        assert [] == kinds(tmp_path)
        assert 0 == executed(function.cases(OUTSIDE))

    def test_points_that_were_superseded(self, tmp_path: Path) -> None:
        """Files of several generations are intact, and adopted as such."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        assert 1 == function.invalidate(x=OUTSIDE[0][0])
        assert 1 == executed(function.cases(OUTSIDE))
        assert [("part", False)] == kinds(tmp_path)
        shutil.rmtree(point_files(tmp_path, "layouts")[0])
        assert {("unnamed", True)} == set(kinds(tmp_path, repair=True))
        assert 0 == executed(function.cases(OUTSIDE))

    def test_subsets_and_strangers(self, tmp_path: Path) -> None:
        """Every file of points lies in one of t subsets; files of others beside them are told, and left."""
        decorated(tmp_path).cases(OUTSIDE)
        whole = verify(tmp_path).files
        small = whole - len(point_files(tmp_path))
        assert whole - small == sum(verify(tmp_path, subset=(n, 3)).files - small for n in (1, 2, 3))
        room = point_files(tmp_path, "chunks")[0].parent
        for name in ("notes.txt", "metadata.json", "superseded/1-a.json", ".tmp-x"):
            (room / name).parent.mkdir(exist_ok=True)
            (room / name).write_text("x")
        assert {"stray": 3, "unfinished": 1} == {
            kind: [each.kind for each in verify(tmp_path, repair=True).findings].count(kind)
            for kind in ("stray", "unfinished")
        }

    def test_a_renamed_cache(self, tmp_path: Path) -> None:
        """Points in a folder with another cache's name are told, and left alone."""
        function = decorated(tmp_path)
        place = function.cases(OUTSIDE).cache.path
        place.rename(tmp_path / "other")
        assert {"misplaced"} == {kind for kind, done in kinds(tmp_path, repair=True) if not done}
        (tmp_path / "other").rename(place)
        assert 0 == executed(function.cases(OUTSIDE))


class TestGc:
    """Points that count are never deleted; files without any are."""

    def test_what_counts_stays(self, tmp_path: Path) -> None:
        """A cache that has only points keeps all of them, and layouts that hold a bin of its own."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        before = snapshot(tmp_path)
        assert 0 == collect(tmp_path, grace=0).total.superseded
        kept = {path for path in before if "/runs/" not in path}
        assert kept == {path for path in snapshot(tmp_path) if "/runs/" not in path}
        assert 0 == executed(function.cases(OUTSIDE))

    def test_what_does_not_count_goes(self, tmp_path: Path) -> None:
        """Files all of whose points were superseded are deleted, those with one that counts are kept."""
        function = decorated(tmp_path)
        result = function.cases(OUTSIDE)
        files = len(point_files(tmp_path))
        assert 0 == function.invalidate(y="v")
        assert 1 == function.invalidate(x=[x for x, _ in OUTSIDE[:-1]])
        assert files - 1 == collect(tmp_path, dry_run=True).total.superseded
        assert files - 1 == len(result.cache.superseded_files())
        report = collect(tmp_path).total
        assert (files - 1, 1) == (report.superseded, len(point_files(tmp_path)))
        assert len(OUTSIDE) - 1 == executed(function.cases(OUTSIDE))
        function.invalidate()
        assert 0 < collect(tmp_path).total.superseded
        assert [] == [*tmp_path.glob("*/points/chunks/*.h5")]
        assert len(OUTSIDE) == executed(function.cases(OUTSIDE))

    def test_litter(self, tmp_path: Path) -> None:
        """What killed writers left among points goes after the grace; quarantined files go when asked to."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        flip(point_files(tmp_path)[0], 5000)
        verify(tmp_path, repair=True)
        (point_files(tmp_path)[0].parent / ".tmp-1").write_text("x")
        assert 0 == collect(tmp_path, grace=1000).total.temporary
        assert (1, 0) == ((found := collect(tmp_path, grace=-10).total).temporary, found.quarantined)
        assert 1 == collect(tmp_path, grace=-10, quarantine=True).total.quarantined
        assert [] == kinds(tmp_path)

    def test_undeclared_points_can_be_invalidated(self, tmp_path: Path) -> None:
        """Invalidating all, or values that only points have, makes them run again."""
        function = decorated(tmp_path)
        cache = function.cases(OUTSIDE).cache
        assert 1 == cache.invalidate()
        assert len(OUTSIDE) == executed(function.cases(OUTSIDE))
        assert 2 == function.invalidate(x=OUTSIDE[3][0])
        with pytest.raises(UnknownValueError, match=r"'x' has no value -5\.0"):
            function.invalidate(x=-5.0)
        assert 1 == executed(function.cases(OUTSIDE))


class TestMerge:
    """Points of two roots are united by content."""

    def test_union(self, tmp_path: Path) -> None:
        """After a merge all points of both are there, none is run again, and merging again copies nothing."""
        one, two = tmp_path / "a", tmp_path / "b"
        decorated(one).cases(OUTSIDE[:25])
        decorated(two).cases(OUTSIDE[20:])
        found = merge(one, two)
        assert (True, len(point_files(one))) == (found.is_whole, found.copied)
        assert 0 == executed(decorated(two).cases(OUTSIDE))
        assert [] == kinds(two)
        again = merge(one, two)
        assert (0, found.copied) == (again.copied, again.present)

    def test_into_nothing(self, tmp_path: Path) -> None:
        """A cache that has only points is copied into an empty root, generations and failures included."""
        one, two = tmp_path / "a", tmp_path / "b"
        two.mkdir()
        function = decorated(one)
        function.cases(OUTSIDE)
        function.invalidate(x=OUTSIDE[0][0])
        function.cases(OUTSIDE)
        with pytest.warns(FailureWarning):
            function.cases([(None, "u")], on_error="record")
        assert merge(one, two).is_whole
        assert 0 == executed(decorated(two).cases(OUTSIDE))
        assert 1 == len(decorated(two).failures())

    def test_without_layout(self, tmp_path: Path) -> None:
        """Points of a source whose layouts are lost are adopted by the target."""
        one, two = tmp_path / "a", tmp_path / "b"
        two.mkdir()
        decorated(one).cases(OUTSIDE)
        shutil.rmtree(point_files(one, "layouts")[0])
        assert merge(one, two).is_whole
        assert 1 == len(point_files(two, "layouts/*.json"))
        assert 0 == executed(decorated(two).cases(OUTSIDE))

    def test_damage_and_conflicts(self, tmp_path: Path) -> None:
        """Damage in the source is passed over, in the target healed; other outputs are conflicts."""
        roots = [tmp_path / name for name in "abc"]
        for root, add in zip(roots, (0.0, 0.0, 1.0), strict=True):
            decorated(root, add=add).cases(OUTSIDE)
        files = [point_files(root)[0] for root in roots]
        flip(files[1], 5000)
        assert 1 == merge(roots[0], roots[1]).healed
        assert files[0].read_bytes() == files[1].read_bytes()
        flip(files[0], 5000)
        ((path, _),) = merge(roots[0], roots[1]).passed_over
        assert path.endswith(f"points/chunks/{files[0].name}")
        assert len(point_files(roots[2])) == len(merge(roots[1], roots[2]).conflicts)


class TestLooking:
    """Points are counted, shown and opened."""

    def test_survey_and_info(self, tmp_path: Path) -> None:
        """``ls`` and ``info`` count files and points that form no grid."""
        function = decorated(tmp_path)
        cache = function.cases(OUTSIDE).cache
        files = len(point_files(tmp_path))
        (found,) = survey(tmp_path)
        assert (files, files) == (found.chunk_files, found.scattered_files)
        assert found.changed_at > 0
        function()
        shown = details(tmp_path, cache.cache_id)
        assert (4, len(OUTSIDE)) == (shown.points, shown.scattered_points)
        assert files + 2 == shown.summary.chunk_files
        told = CliRunner().invoke(main, ["info", str(cache.path)]).output
        assert f"{len(OUTSIDE)} points that form no grid in {files} files" in told
        listed = json.loads(CliRunner().invoke(main, ["status", str(tmp_path), "--json"]).output)
        assert files + 2 == listed["caches"][0]["chunk_files"]

    def test_a_quarantined_file_is_counted(self, tmp_path: Path) -> None:
        """Damaged files of points that were set aside are told."""
        decorated(tmp_path).cases(OUTSIDE)
        flip(point_files(tmp_path)[0], 5000)
        verify(tmp_path, repair=True)
        assert 1 == survey(tmp_path)[0].quarantined

    def test_discovery(self, tmp_path: Path) -> None:
        """A cache that has only points is found, shown with them, and read without its code."""
        function = decorated(tmp_path)
        function.cases(OUTSIDE)
        caches = chunk_memo.open(tmp_path)
        assert len(OUTSIDE) == caches.entries[0].points
        assert f"0 of 4, {len(OUTSIDE)} besides" in str(caches)
        assert f"{len(OUTSIDE)} besides" in caches._repr_html_()
        result = caches["f"].cases()
        assert [x for x, _ in OUTSIDE] == result.coords["x"]
        assert [product(*point) for point in OUTSIDE] == result.to_numpy().tolist()
        assert [product(*OUTSIDE[5])] == caches["f"].cases([OUTSIDE[5]]).to_numpy().tolist()

    def test_all_points_of_a_cache(self, tmp_path: Path) -> None:
        """``cases()`` shows points once, those that failed as failed, and of a slice those that it covers."""
        function = decorated(tmp_path)
        points: list[Any] = [(0.0, "u"), (0.5, "u"), (0.5, "v")]
        function.cases(points)
        with pytest.warns(FailureWarning):
            cache = function.cases([(None, "v")], on_error="record").cache
        assert [1, 1, 1, 2] == cache.cases().status.tolist()
        assert [0.5, 0.5] == cache.with_axis_values({"x": [0.5], "y": ["u", "v"]}).slice(x=0.5).cases().coords[
            "x"
        ]
        assert 3 == cache.count_points()
        function(x=0.0)
        assert 4 == cache.count_points()
        function.invalidate(x=0.5)
        assert (2, 1) == (cache.count_points(), len(cache.scattered_points()["x"]))


class TestVersions:
    """A version of the code that has only points is one with results."""

    def test_listed_accepted_forgotten(self, tmp_path: Path) -> None:
        """It is counted, its points count for other code once accepted, and it can be forgotten."""
        old, new = decorated(tmp_path, "1"), decorated(tmp_path, "2")
        old.cases(OUTSIDE)
        (current,) = old.versions()
        assert (True, len(OUTSIDE)) == (current.current, current.points)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) >= current.bytes > 0
        (other,) = new.versions()
        assert (False, len(OUTSIDE)) == (other.current, other.points)
        assert 1 == new.accept()
        assert 0 == executed(new.cases(OUTSIDE))
        assert [("2", len(OUTSIDE))] == [(v.version, v.points) for v in new.versions() if v.current]
        forgotten = new.forget("1", force=True)
        assert 1 == len(forgotten.caches)
        assert len(OUTSIDE) == executed(new.cases(OUTSIDE))

    def test_points_that_were_accepted_can_be_invalidated(self, tmp_path: Path) -> None:
        """Adopted points count no more where they were superseded, and stay with the version that made them."""
        old, new = decorated(tmp_path, "1"), decorated(tmp_path, "2")
        old.cases(OUTSIDE)
        new.accept()
        assert 1 == new.invalidate(x=OUTSIDE[0][0])
        assert 1 == executed(new.cases(OUTSIDE))
        assert 0 == executed(old.cases(OUTSIDE))


def test_the_form_of_outputs_is_known_from_points(tmp_path: Path) -> None:
    """Tables of a cache that has only points know the columns of its outputs."""
    function = decorated(tmp_path)
    cache = function.cases(OUTSIDE).cache
    assert {"point"} == {block.kind for block in cache.sample_blocks()}


class TestTables:
    """Exports and SQL have a row for each stored point, of a grid or not, and each once."""

    @staticmethod
    def rows(folder: Path) -> list[tuple[Any, ...]]:
        """Return what a dataset holds."""
        import pyarrow.dataset as pads

        table = pads.dataset(folder, format="parquet", partitioning="hive", exclude_invalid_files=True).to_table()
        return sorted(zip(*(table.column(name).to_pylist() for name in ("x", "y", "value")), strict=True))

    @staticmethod
    def expected(*points: Any) -> list[tuple[Any, ...]]:
        """Return the rows of points."""
        return sorted((x, y, product(x, y)) for x, y in points)

    def test_an_export_grows(self, tmp_path: Path) -> None:
        """A cache that has only points is exported; more points, and a grid over some of them, follow."""
        function, folder = decorated(tmp_path / "root"), tmp_path / "table"
        points: list[Any] = [*OUTSIDE, (0.0, "u")]
        cache = function.cases(points[:20]).cache
        assert (2, 20) == ((first := cache.to_parquet(folder)).chunks, first.rows)
        assert self.expected(*points[:20]) == self.rows(folder)
        function.cases(points)
        assert 21 == cache.to_parquet(folder).rows
        assert 0 == cache.to_parquet(folder).rows
        assert self.expected(*points) == self.rows(folder)
        function()  # the grid, one of whose points is there
        cache.to_parquet(folder)
        grid = [(x, y) for x in (0.0, 1.0) for y in ("u", "v")]
        assert self.expected(*OUTSIDE, *grid) == self.rows(folder)
        function.invalidate(x=OUTSIDE[0][0])
        cache.to_parquet(folder)
        assert self.expected(*OUTSIDE[1:], *grid) == self.rows(folder)

    def test_memo_and_sql(self, tmp_path: Path) -> None:
        """``memo.to_parquet`` and SQL over the root have them, too; values of other types are united."""
        root, folder = tmp_path / "root", tmp_path / "table"
        memo = ChunkMemo(root, axis_values={"x": [0, 1], "y": ["u"]}, verbose=0)
        function = memo.cache(version="1", name="f", vectorize=True)(product)
        function()
        function.cases(OUTSIDE)
        memo.to_parquet(folder)
        assert self.expected((0.0, "u"), (1.0, "u"), *OUTSIDE) == self.rows(folder)
        from chunk_memo.tables.duckdb import connect

        connection = connect(root)
        assert [(len(OUTSIDE) + 2,)] == connection.execute("SELECT count(*) FROM f").fetchall()
        found = connection.execute("SELECT x, value FROM f WHERE x > 14.7 ORDER BY x").fetchall()
        assert [(x, product(x, y)) for x, y in OUTSIDE if x > 14.7] == found


def test_damage_met_by_a_reader(tmp_path: Path) -> None:
    """A file swapped in from another cache is met by a read, told once, and its points run again."""
    one, two = decorated(tmp_path / "a"), decorated(tmp_path / "b", "2")
    one.cases(OUTSIDE)
    two.cases(OUTSIDE)
    path = point_files(tmp_path / "a")[0]
    path.write_bytes(point_files(tmp_path / "b")[0].read_bytes())
    with pytest.warns(DamageWarning):
        again = one.cases(OUTSIDE)
    assert 0 < executed(again) < len(OUTSIDE)
    assert [product(*point) for point in OUTSIDE] == again.to_numpy().tolist()
