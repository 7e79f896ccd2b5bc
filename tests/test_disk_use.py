"""What caches cost on disk: few inodes where there is little, few layouts however they grew."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checking import check_root

from chunk_memo import ChunkCache, ChunkMemo, run
from chunk_memo.disk import files
from chunk_memo.disk.layouts import MOST_LAYOUTS, Folder, Layout


def inodes(folder: Path) -> int:
    """Count the inodes that a cache takes, its folder included."""
    return len({path.stat().st_ino for path in (folder, *folder.rglob("*"))})


def squares(root: Path, values: list[int], **options: Any) -> Callable[..., Any]:
    """Return a decorated function; its identity is the same whatever is declared."""
    memo = ChunkMemo(root, options.pop("spec", None), {"x": values}, verbose=0, durability="fast", **options)
    decorated = memo.cache(version="1", name="square")(lambda x: np.square(x))
    return decorated


def executed(root: Path, values: list[int]) -> int:
    """Ask for values; return how many were computed."""
    output, diagnostics = squares(root, values)()
    assert [value * value for value in values] == output.tolist()
    return int(diagnostics.executed_points)


def cache_folder(root: Path) -> Path:
    """Return the folder of a root's only cache."""
    (folder,) = root.iterdir()
    return folder


class TestOneChunk:
    """A cache of one chunk takes four inodes, and is worth as much as any other."""

    def test_decorated(self, tmp_path: Path) -> None:
        """A decorated call of one chunk: folder, metadata, folder of chunks, chunk."""
        assert 3 == executed(tmp_path, [1, 2, 3])
        assert 4 == inodes(cache_folder(tmp_path))

    def test_metadata_first(self, tmp_path: Path) -> None:
        """A cache whose metadata was written before anything ran."""
        cache = ChunkCache(tmp_path, "one", axis_values={"x": [1, 2], "y": ["a"]}, verbose=0)
        cache.write_metadata()
        assert 2 == inodes(tmp_path / "one")
        run(cache, lambda x, y: [0] * (len(x) * len(y)))
        assert 4 == inodes(tmp_path / "one")

    def test_no_axes(self, tmp_path: Path) -> None:
        """A cache without axes."""
        run(ChunkCache(tmp_path, "one", axis_values={}, verbose=0), lambda: 1)
        assert 4 >= inodes(tmp_path / "one")

    def test_opened_by_id(self, tmp_path: Path) -> None:
        """Loading a cache, asking it for everything and for its index adds nothing."""
        executed(tmp_path, [1, 2, 3])
        cache = ChunkCache.load_from_cache(tmp_path, cache_folder(tmp_path).name)
        assert 1 == len(cache.load_chunk_index())
        assert 0 == executed(tmp_path, [3, 1])
        assert 4 == inodes(cache_folder(tmp_path))

    def test_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there are no hard links nothing changes."""

        def link(*_: Any) -> None:
            raise PermissionError(1, "not permitted")

        monkeypatch.setattr(os, "link", link)
        assert 3 == executed(tmp_path, [1, 2, 3])
        assert 0 == executed(tmp_path, [2, 3])
        assert 4 == inodes(cache_folder(tmp_path))

    def test_it_grows(self, tmp_path: Path) -> None:
        """A second chunk finds the first."""
        executed(tmp_path, [1, 2, 3])
        assert 2 == executed(tmp_path, [4, 1, 2, 3, 5])
        assert 0 == executed(tmp_path, [5, 4, 3, 2, 1])


def copied_over(source: Path, target: Path) -> None:
    """Copy as ``cp -r`` does: what is there is overwritten in place."""
    shutil.copytree(source, target, dirs_exist_ok=True)


def copied_beside(source: Path, target: Path) -> None:
    """Copy as ``rsync`` does: what is there is replaced."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copy(path, place.with_name("beside"))
            os.replace(place.with_name("beside"), place)


def copied_unless_there(source: Path, target: Path) -> None:
    """Copy as ``cp -n`` does: what is there stays."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            shutil.copy(path, place)


def copied_with_links(source: Path, target: Path) -> None:
    """Copy as ``cp -a`` does: in place, hard links kept."""
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)


@pytest.mark.parametrize("copy", [copied_over, copied_beside, copied_unless_there, copied_with_links])
class TestMerging:
    """Caches merge by copying files, whatever program copies them; nothing is computed again."""

    def test_two_single_chunks(self, tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
        """Two caches of one chunk each."""
        one, other = tmp_path / "one", tmp_path / "other"
        executed(one, [1, 2, 3])
        executed(other, [5, 4])
        copy(other, one)
        assert 0 == executed(one, [4, 1, 5, 2, 3])
        assert 0 == executed(one, [3, 5])
        assert 2 == check_root(one)

    def test_into_a_larger_one(self, tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
        """A cache of one chunk into one of several, and the other way round."""
        one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
        executed(one, [1, 2, 3])
        executed(one, [1, 2, 3, 8, 9])
        executed(other, [5, 4])
        executed(third, [7])
        copy(other, one)
        copy(one, third)
        assert 0 == executed(third, [7, 4, 1, 5, 2, 3, 9, 8])

    def test_the_same_chunk(self, tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
        """Two caches that hold the same."""
        one, other = tmp_path / "one", tmp_path / "other"
        executed(one, [1, 2, 3])
        executed(other, [1, 2, 3])
        copy(other, one)
        assert 0 == executed(one, [3, 2, 1])
        assert 5 >= inodes(cache_folder(one))  # a copy may have parted hard links


class TestManyExtensions:
    """However often a cache grew, its layouts are few, and none of its bins is lost."""

    @staticmethod
    def check(root: Path, count: int) -> None:
        """Extend a cache by one value so many times."""
        function = squares(root, [-1], spec={"x": 10})
        for value in range(count):
            output, diagnostics = function(x=value, extend_cache=True)
            assert ([value * value], 1) == (np.ravel(output).tolist(), diagnostics.executed_points)
        folder = cache_folder(root)
        layouts = list(folder.glob("layouts/*.json")) + list(folder.glob("layout-*.json"))
        assert len(layouts) <= 100
        cache = ChunkCache.load_from_cache(root, folder.name)
        assert [-1, *range(count)] == cache.axis_values["x"]
        assert count == len(list(folder.glob("chunks/**/*.h5")))
        assert 0 == executed(root, list(range(count)))

    def test_thousand(self, tmp_path: Path) -> None:
        """1,000 extensions by one value each leave at most 100 layouts."""
        self.check(tmp_path, 1_000)

    @pytest.mark.long
    def test_ten_thousand(self, tmp_path: Path) -> None:
        """10,000 extensions by one value each leave at most 100 layouts."""
        self.check(tmp_path, 10_000)


class TestUnion:
    """Layouts are united without losing a bin, a named chunk or their order."""

    @pytest.mark.parametrize("named", [False, True])
    def test_union(self, tmp_path: Path, named: bool) -> None:
        """A fresh reader of united layouts has the bins, and the named chunks, in the order of their making."""
        folder, syncer = Folder(tmp_path, "v1"), files.Syncer("fast")
        count = 5 * MOST_LAYOUTS
        for number in range(count):
            chunks = [[0, 0]] if named else None
            bins: dict[str, Any] = {"x": [[number, -number - 1]], "y": [["a"]]}
            layout = Layout("v1", ("x", "y"), {"x": 2, "y": 1}, bins, chunks, created_at=number)
            folder.commit_layout(layout, syncer)
        assert MOST_LAYOUTS >= len(list(tmp_path.glob("layouts/*.json")))
        fresh = Folder(tmp_path, "v1")
        assert fresh.refresh()
        assert [v for n in range(count) for v in (n, -n - 1)] == fresh.bins.of("x").values
        assert folder.axis_values() == fresh.axis_values()
        assert folder.bins.boxes == fresh.bins.boxes
        assert (count if named else 0) == len(fresh.bins.boxes)

    def test_a_writer_that_unites_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader that lists layouts just before they are united finds their bins all the same."""
        folder, syncer = Folder(tmp_path, "v1"), files.Syncer("fast")

        def commit(number: int) -> None:
            folder.commit_layout(Layout("v1", ("x",), {"x": 1}, {"x": [[number]]}, None, number), syncer)

        for number in range(MOST_LAYOUTS):
            commit(number)
        true_read = files.read_whole
        done: list[Any] = []

        def read(path: Any) -> bytes:
            if not done:
                done.append(path)
                commit(MOST_LAYOUTS)
            return true_read(path)

        fresh = Folder(tmp_path, "v1")
        monkeypatch.setattr(files, "read_whole", read)
        fresh.refresh()
        assert done
        assert set(range(MOST_LAYOUTS + 1)) == set(fresh.bins.of("x").values)


def test_many_bins_load_at_once(tmp_path: Path) -> None:
    """10,000 bins come back from one layout, whether or not some are known already."""
    groups = [[number] for number in range(10_000)]
    layout = Layout("v1", ("x",), {"x": 1}, {"x": groups}, None, 1)
    Folder(tmp_path, "v1").commit_layout(layout, files.Syncer("fast"))
    fresh = Folder(tmp_path, "v1")
    Layout("v1", ("x",), {"x": 1}, {"x": groups[::2]}, None, 1).add_to(fresh.bins)
    fresh.refresh()
    assert sorted(range(10_000)) == sorted(fresh.bins.of("x").values)
    assert 10_000 == len(fresh.bins.of("x"))


def test_a_part_that_was_copied_in_twice(tmp_path: Path) -> None:
    """A part without its layout is found also after it was deleted and copied in again."""
    here, there = tmp_path / "a", tmp_path / "b"
    calls: list[int] = []

    def sweep(root: Path, values: list[int]) -> Any:
        def double(s: list[int]) -> list[int]:
            calls.extend(s)
            return [2 * value for value in s]

        return ChunkMemo(root, {"s": 10}, {"s": values}, verbose=0).cache(version="1", name="f")(double)

    def merge() -> None:
        for path in there.rglob("*.h5"):
            target = here / path.relative_to(there)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    sweep(here, [1])()
    sweep(there, [3, 4])(s=3)
    merge()
    function = sweep(here, [1, 5, 3])
    next(here.rglob("*.parts/*.h5")).unlink()
    assert [10] == function(s=5)[0]
    merge()
    calls.clear()
    assert [2, 10, 6] == function()[0]
    assert [] == calls
