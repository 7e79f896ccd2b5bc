"""Processes and threads in one root need no coordinator: nothing is lost, wrong, or there twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checking import chunk_files
from workers import Job, Workers, computed, started, sweep, value, work

from chunk_memo import ChunkCache
from chunk_memo.disk import chunkfile, files

XS, YS = list(range(12)), list(range(8))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Eight processes."""
    with started(8) as found:
        yield found


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A grid of 12 by 8 points in 3 by 2 chunks."""
    return Job(str(tmp_path / "root"), str(tmp_path / "log"), XS, YS, {"x": 4, "y": 4}, [{}])


def shuffled(values: list[int], seed: int) -> list[int]:
    """Return values in another order."""
    return random.Random(seed).sample(values, len(values))


def layouts(root: str) -> list[str]:
    """Return the names of all files under a root that hold a layout."""
    return [path.name for path in Path(root).rglob("*.json") if "layout" in json.loads(path.read_bytes())]


def assert_whole(job: Job, chunks: int) -> None:
    """Exactly one intact file per chunk, nothing else; the index says the same, and all is served from it."""
    root = Path(job.root)
    paths = chunk_files(root)
    for path in paths:
        chunkfile.verify(path)
    assert chunks == len({path.stem for path in paths}) == len(paths)
    assert [] == [path for path in root.rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".parts"]
    (folder,) = root.iterdir()
    index = ChunkCache.load_from_cache(root, folder.name).load_chunk_index()
    assert {path.stem for path in paths} == set(index)
    assert all(entry["complete"] for entry in index.values())
    assert sum(entry["points"] for entry in index.values()) == len(job.xs) * len(job.ys)
    before = computed(job)
    assert [] == work(replace(job, requests=[{}]))
    assert before == computed(job)


class TestProcesses:
    """Real processes, in one root at the same time."""

    @pytest.mark.parametrize("size", [3, 12], ids=["chunks", "one chunk"])
    def test_different_orders(self, job: Job, workers: Workers, size: int) -> None:
        """Eight processes that ask for one grid in different orders leave one layout and one file per chunk."""
        job = replace(job, spec={"x": size, "y": 8})
        jobs = [replace(job, requests=[{"x": shuffled(XS, seed), "y": shuffled(YS, -seed)}]) for seed in range(8)]
        assert [[]] * 8 == workers.work(jobs)
        assert 1 == len(layouts(job.root))
        assert {(x, y) for x in XS for y in YS} == set(computed(job))
        assert_whole(job, 12 // size)

    def test_overlapping_halves(self, job: Job, workers: Workers) -> None:
        """Four processes fill one cache by halves that overlap and cut chunks: every chunk becomes whole."""
        halves = [XS[:6], XS[3:9], XS[6:], XS[9:] + XS[:3]]
        assert [[]] * 4 == workers.work([replace(job, requests=[{"x": half}]) for half in halves])
        assert {(x, y) for x in XS for y in YS} == set(computed(job))
        assert_whole(job, 6)

    def test_points_of_one_chunk(self, job: Job, workers: Workers) -> None:
        """Eight processes that store one chunk point by point fold it, whoever comes last."""
        job = replace(job, xs=XS[:6], ys=YS[:4], spec={"x": 6, "y": 4})
        orders = [shuffled(list(range(24)), seed) for seed in range(8)]
        jobs = [
            replace(job, requests=[{"x": [point % 6], "y": [point // 6]} for point in order]) for order in orders
        ]
        assert [[]] * 8 == workers.work(jobs)
        assert_whole(job, 1)

    def test_other_declarations(self, job: Job, workers: Workers) -> None:
        """Processes that declare other values and chunk sizes share what overlaps, and agree in the end."""
        declared = [XS[:7], XS[4:], XS[::2], XS[1::2], XS[::-1], XS, XS[2:5], XS[5:3:-1]]
        jobs = [
            replace(job, xs=xs, spec={"x": 2 + n % 3, "y": 8 - n}, requests=[{}, {"x": xs[1:]}])
            for n, xs in enumerate(declared)
        ]
        assert [[]] * 8 == workers.work(jobs)
        for path in chunk_files(Path(job.root)):
            chunkfile.verify(path)
        before = computed(job)
        assert [[], []] == [work(job), work(replace(job, spec={"x": 5, "y": 3}))]
        assert before == computed(job)

    def test_merge_while_running(self, job: Job, workers: Workers, tmp_path: Path) -> None:
        """Files copied in from another root while a process runs are simply there."""
        other = replace(job, root=str(tmp_path / "other"), log=str(tmp_path / "other log"))
        assert [] == work(replace(other, spec={"x": 1, "y": 8}, requests=[{"x": XS[6:]}]))
        requests = [{"x": [x], "y": [y]} for x in XS for y in YS]
        workers.start([replace(job, requests=requests)])
        for source in sorted(Path(other.root).rglob("*")):
            target = Path(job.root) / source.relative_to(other.root)
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not target.exists():
                beside = target.with_name(f"{target.name}.copying")
                shutil.copy(source, beside)
                os.replace(beside, target)
        assert [[]] == workers.results(1)
        again = computed(job)
        assert [] == work(job)
        assert again == computed(job)
        assert max(again.values()) == 1

    def test_kept_when_another_folds(self, job: Job, workers: Workers) -> None:
        """Readers find every point at every moment while writers fold parts: nothing is computed twice."""
        first = replace(job, requests=[{"x": [x], "y": [y]} for x in XS for y in YS[:7]])
        assert [] == work(first)
        before = computed(job)
        finish = replace(job, requests=[{"x": [x], "y": YS[7:]} for x in XS])
        read = replace(job, requests=[{"x": shuffled(XS, seed), "y": YS[:7]} for seed in range(30)])
        assert [[]] * 4 == workers.work([finish, read, read, read])
        assert all(count == 1 for point, count in computed(job).items() if point in before)
        assert_whole(job, 6)


class TestThreads:
    """Threads that share one memo."""

    def test_one_memo(self, job: Job) -> None:
        """Eight threads ask one decorated function for overlapping parts; all get what is right."""
        function = sweep(job)
        wrong: list[Any] = []
        start = threading.Barrier(8)

        def ask(seed: int) -> None:
            try:
                start.wait()
                for turn in range(6):
                    xs, ys = shuffled(XS, seed + turn)[:7], shuffled(YS, turn - seed)[:5]
                    if not np.array_equal(value(xs, ys), function(x=xs, y=ys)[0]):
                        wrong.append((xs, ys))
                function()
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == wrong
        assert_whole(job, 6)

    def test_extending_one_cache(self, job: Job) -> None:
        """Threads that extend one axis at once lose none of its values."""
        function = sweep(replace(job, xs=[0]))
        wrong: list[Any] = []

        def extend(start: int) -> None:
            try:
                for x in range(start, 40, 4):
                    output, _ = function(x=[x], extend_cache=True)
                    if not np.array_equal(value([x], YS), output):
                        wrong.append(x)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=extend, args=(start,)) for start in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == wrong
        job = replace(job, xs=list(range(41)))
        assert [] == work(job)
        assert all(count == 1 for count in computed(job).values())


class TestBetween:
    """What another writer does just between two steps of this one, at every place where it matters."""

    @staticmethod
    def meanwhile(patch: pytest.MonkeyPatch, name: str, action: Callable[[], object]) -> list[str]:
        """Do something once, before a function of `files` is called for parts; tell whether that was so."""
        true = getattr(files, name)
        done: list[str] = []

        def first(path: Any, *rest: Any) -> Any:
            if not done and ".parts" in str(path):
                done.append(str(path))
                action()
            return true(path, *rest)

        patch.setattr(files, name, first)
        return done

    def test_the_other_half_comes(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two writers that saw nothing of each other store a half each: the last of them folds both."""
        other = replace(job, requests=[{"x": XS[2:4], "y": YS[:4]}])
        done = self.meanwhile(monkeypatch, "commit", lambda: work(other))
        sweep(job)(x=XS[:2], y=YS[:4])
        assert done
        (path,) = chunk_files(Path(job.root))
        assert "chunks" == path.parent.name
        assert [] == list(Path(job.root).rglob("*.parts"))
        assert [] == work(replace(job, requests=[{"x": XS[:4], "y": YS[:4]}]))
        assert {1} == set(computed(job).values())

    def test_the_whole_comes(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points that another process folded meanwhile are not left beside the complete file."""
        function = sweep(job)
        function(x=XS[:2], y=YS[:4])
        other = replace(job, requests=[{"x": XS[:4], "y": YS[:4]}])
        done = self.meanwhile(monkeypatch, "commit", lambda: work(other))
        function(x=XS[2:3], y=YS[:4])
        assert done
        (path,) = chunk_files(Path(job.root))
        assert "chunks" == path.parent.name
        assert [] == list(Path(job.root).rglob("*.parts"))

    @pytest.mark.parametrize("step", ["list_folder", "read_file"])
    def test_parts_go_while_they_are_looked_for(
        self, job: Job, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A reader that finds no complete file, and then parts no more, looks for the complete file again."""
        assert [] == work(replace(job, requests=[{"x": XS[:2], "y": YS[:4]}]))
        function = sweep(job)
        done = self.meanwhile(
            monkeypatch, step, lambda: work(replace(job, requests=[{"x": XS[2:4], "y": YS[:4]}]))
        )
        output, diagnostics = function(x=XS[:2], y=YS[:4])
        assert done
        np.testing.assert_array_equal(value(XS[:2], YS[:4]), output)
        assert 0 == diagnostics.executed_points
        assert {1} == set(computed(job).values())


def test_parts_are_kept_until_the_whole_is_intact(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete file that is damaged, and cannot be moved, stands for nothing: its points stay in parts."""
    work(replace(job, requests=[{"x": XS[:4], "y": YS[:4]}]))
    (path,) = chunk_files(Path(job.root))
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)

    def rename(*_: Any) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "rename", rename)
    function = sweep(job)
    with pytest.warns(UserWarning, match="left where it is"):
        function(x=XS[:2], y=YS[:4])
    function(x=XS[2:4], y=YS[:4])
    assert (0, 0) == (
        function(x=XS[:2], y=YS[:4])[1].executed_points,
        function(x=XS[2:4], y=YS[:4])[1].executed_points,
    )
    assert 2 == len([found for found in chunk_files(Path(job.root)) if found != path])
