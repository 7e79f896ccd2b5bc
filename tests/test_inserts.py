"""A value more in the middle of an axis tears no region, opens no file in vain, and moves no output."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_memo import ChunkCache, run
from chunk_memo.disk import files
from chunk_memo.grid import AxisBins
from chunk_memo.keys import keys_of_values
from chunk_memo.selection import AxisCells


def axis_cells(sizes: list[int], asked: list[int]) -> AxisCells:
    """Return the cells of a request for some of the values 0, 1, 2, …, in bins of these sizes."""
    bins = AxisBins()
    values = list(range(sum(sizes)))
    bins.extend(values, keys_of_values(values), sizes)
    return AxisCells(bins, keys_of_values(asked))


def surface(x: list[int], y: list[int]) -> Any:
    """Return a number for each point."""
    return np.add.outer(100.0 * np.array(x), np.array(y))


def opened(root: Path, x: list[int]) -> ChunkCache:
    """Return a new cache over these values and twenty of another axis, in chunks of four by one."""
    return ChunkCache(
        root, "c", axis_values={"x": x, "y": list(range(20))}, chunk_spec={"x": 4, "y": 1}, verbose=0
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Draw sizes of bins and what is asked of them: most in their order, some moved, left out or repeated."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    asked = draw(st.lists(st.sampled_from(range(sum(sizes))), max_size=4)) + list(range(sum(sizes)))
    for _ in range(draw(st.integers(0, 6))):
        asked.insert(draw(st.integers(0, len(asked))), asked.pop(draw(st.integers(0, len(asked) - 1))))
    start = draw(st.integers(0, len(asked) - 1))
    return sizes, asked[start:]


class TestRuns:
    """What is asked along an axis, as runs of cells."""

    @given(requests(), st.data())
    def test_pieces(self, request: tuple[list[int], list[int]], data: st.DataObject) -> None:
        """The pieces of all runs, however these are cut, put each value where it was asked for, and no other."""
        sizes, asked = request
        cells = axis_cells(sizes, asked)
        starts = np.cumsum([0, *sizes])
        out = np.full(len(asked), -1)
        seen = []
        for each in cells.runs():
            seen += each.ranks.tolist()
            stored = starts[each.numbers][:, np.newaxis] + np.arange(each.size)
            cut = data.draw(st.integers(0, len(each)))
            for start, stop in ((0, cut), (cut, len(each))):
                for rows, places, wanted in each.pieces(start, stop) if start < stop else ():
                    out[wanted] = stored[start:stop][rows][:, places].reshape(-1)
        assert asked == out.tolist()
        assert list(range(len(cells))) == sorted(seen)

    @pytest.mark.parametrize("at", [0, 5, 8, 12, 16], ids=str)
    def test_inserted(self, at: int) -> None:
        """A value before, inside, between or behind bins of one size leaves them one run."""
        asked = list(range(16))
        asked.insert(at, 16)
        whole, new = sorted(axis_cells([4, 4, 4, 4, 1], asked).runs(), key=len, reverse=True)
        assert ([0, 1, 2, 3], [4]) == (whole.numbers, new.numbers)
        assert len(whole.pieces(0, 4)) <= 4


class TestInsert:
    """One value more, declared by a new instance."""

    @pytest.mark.parametrize("at", [0, 2, 4, 8], ids=str)
    def test_outputs(self, tmp_path: Path, at: int) -> None:
        """Only the new points are executed, and all outputs stand where they were asked for."""
        x = list(range(8))
        run(opened(tmp_path, x), surface)
        x.insert(at, 99)
        output, diagnostics = run(opened(tmp_path, x), surface)
        assert (20, 160) == (diagnostics.executed_points, diagnostics.cached_points)
        assert np.array_equal(surface(x, list(range(20))), output)

    def test_nothing_in_vain(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Chunks of a new bin are known to be absent from the listing that was made for it."""
        x = list(range(8))
        run(opened(tmp_path, x), surface)
        outcomes = []
        read_file = files.read_file

        def watched(path: Any, limit: int = 65536) -> Any:
            try:
                found = read_file(path, limit)
            except FileNotFoundError:
                outcomes.append(errno.ENOENT)
                raise
            outcomes.append(0)
            return found

        monkeypatch.setattr(files, "read_file", watched)
        cache = opened(tmp_path, [*x, 99])
        reading = cache.read(cache.selection(), cache.collector(cache.selection(), by_chunk=False))
        assert (20, 160) == (len(reading.missing), reading.cached_points)
        assert {0} == set(outcomes)

    def test_few_in_vain(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of chunks that have bins and no files a few are tried, and a listing tells of the others."""
        cache = opened(tmp_path, list(range(8)))
        run(cache.slice(x=[0, 1, 2, 3]), surface)
        tried = []
        read_file = files.read_file

        def watched(path: Any, limit: int = 65536) -> Any:
            tried.append(path)
            return read_file(path, limit)

        monkeypatch.setattr(files, "read_file", watched)
        selection = cache.selection({"x": [4, 5, 6, 7]})
        reading = cache.read(selection, cache.collector(selection, by_chunk=False))
        assert 20 == len(reading.missing)
        assert 0 < len(tried) < 20

    def test_writing_is_counted_as_writing(self, tmp_path: Path) -> None:
        """A read that had to write a layout says so, and one that had not says that, too."""
        x = list(range(8))
        run(opened(tmp_path, x), surface)
        for values, wrote in (([*x, 99], True), ([*x, 99], False), (x, False)):
            cache = opened(tmp_path, values)
            reading = cache.read(cache.selection(), cache.collector(cache.selection(), by_chunk=False))
            assert wrote == (reading.write_seconds > 0)
            assert reading.plan_seconds > 0
