"""Faults of the system: a full disk, unreadable files, a root that cannot be written, kill -9 at any moment."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checking import chunk_files
from workers import ENVIRONMENT, Counted, Job, computed, killed, nursery, work

from chunk_memo import StoreError
from chunk_memo.disk import chunkfile
from chunk_memo.errors import RootError

XS, YS = Counted.xs, Counted.ys


def assert_clean(root: Path) -> None:
    """Every file in a root is whole, and none was left over."""
    for path in chunk_files(root):
        chunkfile.verify(path)
    assert [] == list(root.rglob(".tmp-*"))
    assert [] == list(root.rglob("quarantine"))


# --- full disk -----------------------------------------------------------------------------------------------


class TestFullDisk:
    """A disk that is full at any write loses no result, and leaves nothing that is not whole."""

    @pytest.mark.parametrize("width", [1, 3000], ids=["small files", "large files"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_every_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, number: int) -> None:
        """Whichever write is the first to find it full, and whether or not half of it still fits."""
        true = {name: getattr(os, name) for name in ("write", "writev")}
        left = 0

        def patched(name: str) -> Callable[..., int]:
            def write(fd: int, data: Any) -> int:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError(number, os.strerror(number))
                if left == 0:  # the last that fits does so in part
                    first = data if name == "write" else data[0]
                    return int(true["write"](fd, memoryview(first)[: max(1, len(first) // 2)]))
                return int(true[name](fd, data))

            return write

        writes = 0
        while True:
            root = tmp_path / str(writes)
            sweep, left = Counted(root, width), writes
            with monkeypatch.context() as patch:
                for name in true:
                    patch.setattr(os, name, patched(name))
                try:
                    sweep.call()
                    break
                except StoreError as caught:
                    error = caught
            assert number == error.errno
            np.testing.assert_array_equal(sweep.expected(XS, YS), error.output)
            assert sweep.executed == len(XS) * len(YS)
            assert_clean(root)
            stored = len(chunk_files(root))
            assert len(XS) * len(YS) - 4 * stored == Counted(root, width).call()
            assert 0 == Counted(root, width).call()
            writes += 1
        assert writes > 6

    @pytest.mark.parametrize("limit", [0, 9_000, 150_000])
    def test_limit_of_the_system(self, tmp_path: Path, limit: int) -> None:
        """A real limit on the length of files: the result arrives in the error, and the next call stores it."""
        program = (
            "import resource, signal, sys, pathlib\n"
            "from chunk_memo import StoreError\n"
            "from workers import Counted\n"
            "sweep = Counted(pathlib.Path(sys.argv[1]), 6000)\n"
            "import h5py, numpy\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
            "try:\n"
            "    sweep.call()\n"
            "except StoreError as error:\n"
            "    numpy.testing.assert_array_equal(sweep.expected(), error.output)\n"
            "    print(error.errno, sweep.executed)\n"
        )
        root = tmp_path / "root"
        done = subprocess.run(
            [sys.executable, "-c", program, root, str(limit)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"{errno.EFBIG} 24\n" == done.stdout
        assert_clean(root)
        assert 24 == Counted(root, 6000).call()


# --- files that cannot be read -------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[None]:
    """No warning at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Unreadable:
    """Reads of files whose paths match fail so many times."""

    def __init__(self, patch: pytest.MonkeyPatch, pattern: str, call: str, number: int, times: int) -> None:
        self.pattern, self.number, self.left, self.failed = re.compile(pattern), number, times, 0
        self.paths: dict[int, str] = {}
        true_open = os.open

        def opened(path: Any, *rest: Any, **options: Any) -> int:
            if call == "open":
                self.fail(str(path))
            fd = true_open(path, *rest, **options)
            self.paths[fd] = str(path)
            return fd

        def failing(true_call: Any) -> Any:
            def read(fd: int, *rest: Any) -> Any:
                self.fail(self.paths.get(fd, ""))
                return true_call(fd, *rest)

            return read

        patch.setattr(os, "open", opened)
        for name in ("read", "readv") if call == "read" else ("preadv",) if call == "preadv" else ():
            patch.setattr(os, name, failing(getattr(os, name)))

    def fail(self, path: str) -> None:
        """Raise while it is due."""
        if self.left and self.pattern.search(path):
            self.left -= 1
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number), path)


@pytest.mark.usefixtures("silent")
class TestUnreadable:
    """An error of the device is tried again, then a miss; it is never damage."""

    @pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
    @pytest.mark.parametrize(("call", "width"), [("open", 1), ("read", 1), ("read", 6000), ("preadv", 70000)])
    @pytest.mark.parametrize("part", [False, True], ids=["complete", "part"])
    def test_chunk_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str, width: int, part: bool
    ) -> None:
        """Two failures cost nothing; a file that stays unreadable is computed again and left alone."""
        request = {"x": XS[:1] if part else XS[:2], "y": YS[:2]}
        count = len(request["x"]) * 2
        assert count == Counted(tmp_path, width).call(**request)
        (path,) = chunk_files(tmp_path)
        content = path.read_bytes()
        for times, expected in ((2, 0), (10**6, count)):
            with monkeypatch.context() as patch:
                fault = Unreadable(patch, re.escape(path.name), call, number, times)
                assert expected == Counted(tmp_path, width).call(**request)
            assert fault.failed >= 2
        assert content == path.read_bytes()
        assert 0 == Counted(tmp_path, width).call(**request)
        assert_clean(tmp_path)

    def test_layouts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What layouts say that cannot be read is found in the chunk files; they are left alone."""
        assert 24 == Counted(tmp_path).call()
        layouts = {path: path.read_bytes() for path in tmp_path.glob("*/layouts/*")}
        with monkeypatch.context() as patch:
            fault = Unreadable(patch, "/layouts/", "read", errno.EIO, 10**6)
            assert 0 == Counted(tmp_path).call()
        assert fault.failed >= 3
        assert layouts == {path: path.read_bytes() for path in layouts}
        assert 0 == Counted(tmp_path).call()
        assert_clean(tmp_path)


# --- a root that cannot be written ---------------------------------------------------------------------------


def forbidden(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Refuse everything that would change a folder; return where that was tried."""
    tried: list[str] = []
    true_open = os.open

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        tried.append(str(path))
        raise OSError(number, os.strerror(number), str(path))

    def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return true_open(path, flags, *rest, **options)

    for name in ("mkdir", "link", "rename", "replace", "unlink", "rmdir"):
        patch.setattr(os, name, refuse)
    patch.setattr(os, "open", opened)
    return tried


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
class TestReadOnlyRoot:
    """What is stored in a root that cannot be written is served; what is not is an error that names it."""

    def test_stored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        """Warm calls, in any order and of any part, change nothing and need no permission to."""
        Counted(tmp_path).call()
        tried = forbidden(monkeypatch, number)
        assert 0 == Counted(tmp_path).call()
        assert 0 == Counted(tmp_path).call(x=[5, 0], y=[3])
        assert [] == tried

    @pytest.mark.parametrize("known", [False, True])
    def test_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, known: bool) -> None:
        """A cold call says that the root cannot be written, and nothing is left behind."""
        if known:
            Counted(tmp_path).call(x=[0], y=[0])
        before = sorted(tmp_path.rglob("*"))
        with monkeypatch.context() as patch:
            tried = forbidden(patch, number)
            with pytest.raises(OSError, match=r"written|stored") as raised:
                Counted(tmp_path).call()
        error = raised.value
        assert number == error.errno
        if known:  # only a chunk could not be written, so the outputs are there
            assert isinstance(error, StoreError)
            np.testing.assert_array_equal(Counted(tmp_path).expected(), error.output)
        else:
            assert isinstance(error, RootError)
            assert str(tmp_path) in str(error)
        assert tried
        assert before == sorted(tmp_path.rglob("*"))


# --- what is on disk when a call returns ---------------------------------------------------------------------


class Watched:
    """The order in which files get their names, lose them and are synced."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, Any]] = []
        for name in ("link", "unlink", "fsync"):
            patch.setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, noting what it is for."""

        def call(*arguments: Any) -> Any:
            subject: Any = str(arguments[-1])
            if name == "fsync":
                subject = os.fstat(arguments[0]).st_ino
            result = true(*arguments)
            self.events.append((name, subject))
            return result

        return call

    def synced(self) -> set[int]:
        """The inodes that were synced."""
        return {subject for name, subject in self.events if name == "fsync"}

    def when(self, name: str, subject: Any) -> int:
        """When something last happened."""
        return max(when for when, event in enumerate(self.events) if event == (name, subject))


def inode(path: Path) -> int:
    """Return a file's inode."""
    return path.stat().st_ino


class TestDurability:
    """With "full" everything is on disk when a call returns; with "fast" nothing is waited for."""

    def test_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every file, and every folder that got a name, is synced."""
        with monkeypatch.context() as patch:
            watched = Watched(patch)
            Counted(tmp_path / "root", durability="full").call()
        everything = [tmp_path / "root", *(tmp_path / "root").rglob("*")]
        assert len(everything) > 8
        assert {inode(path) for path in everything} <= watched.synced()
        assert inode(tmp_path) in watched.synced()

    def test_fast(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No call of fsync at all."""
        with monkeypatch.context() as patch:
            watched = Watched(patch)
            Counted(tmp_path).call(x=[0])
            Counted(tmp_path).call()
        assert watched.events
        assert set() == watched.synced()

    def test_layout_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A layout is synced, with its folder, before the first chunk that needs it has its name."""
        with monkeypatch.context() as patch:
            watched = Watched(patch)
            Counted(tmp_path, durability="full").call()
        first = min(watched.when("link", str(path)) for path in chunk_files(tmp_path))
        (layout,) = tmp_path.glob("*/layouts/*")
        before = {subject for name, subject in watched.events[:first] if name == "fsync"}
        assert {inode(layout), inode(layout.parent), inode(layout.parent.parent)} <= before

    @pytest.mark.skipif("link" in os.environ.get("CHUNK_MEMO_TEST_REFUSED", ""), reason="it watches links")
    def test_complete_before_parts_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A complete file is synced, with its folder, before the parts that it replaces are removed."""
        Counted(tmp_path).call(x=[0], y=[0, 1])
        (part,) = chunk_files(tmp_path)
        with monkeypatch.context() as patch:
            watched = Watched(patch)
            Counted(tmp_path, durability="full").call(x=[0, 1], y=[0, 1])
        (path,) = chunk_files(tmp_path)
        gone = watched.when("unlink", str(part))
        assert watched.when("link", str(path)) < watched.when("fsync", inode(path)) < gone
        synced = [subject for name, subject in watched.events[:gone] if name == "fsync"]
        assert inode(path.parent) in synced

    def test_of_another_writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that another process wrote a moment before is synced all the same."""

        class Overtaken(Counted):
            def values(self, x: list[int], y: list[int]) -> Any:
                Counted(tmp_path).call()
                return super().values(x, y)

        with monkeypatch.context() as patch:
            watched = Watched(patch)
            assert 24 == Overtaken(tmp_path, durability="full").call()
        assert {inode(path) for path in chunk_files(tmp_path)} <= watched.synced()


# --- kill -9 -------------------------------------------------------------------------------------------------


def stored_points(job: Job) -> set[tuple[int, int]]:
    """Return the points that intact files hold."""
    found: set[tuple[int, int]] = set()
    for path in chunk_files(Path(job.root)):
        chunkfile.verify(path)
        with chunkfile.load(path) as chunk:
            grid = [(int(x), int(y)) for x in chunk.coords("x") for y in chunk.coords("y")]
            part = chunk.constant["part"]
            found.update(grid if part is None else (grid[point] for point in chunk.coords(part)))
    return found


@pytest.mark.parametrize("durability", ["full", "fast"])
def test_kill(tmp_path: Path, durability: str) -> None:
    """A sweep killed 20 times at random moments computes only what was not stored; all stays readable."""
    rng = random.Random(durability)
    xs, ys = list(range(24)), list(range(10))
    job = Job(str(tmp_path / "root"), str(tmp_path / "log"), xs, ys, {"x": 4, "y": 5}, [], durability)
    stored: set[tuple[int, int]] = set()
    kills = 0
    with nursery() as forker:
        while kills < 20:
            log = str(tmp_path / f"log {kills}")
            requests = [{"x": rng.sample(xs, 2), "y": rng.sample(ys, 3)} for _ in range(3)]
            run = replace(job, log=log, requests=[*requests, {}])
            if len(stored) > 150:  # all over again, in another root
                run = job = replace(run, root=str(tmp_path / f"root {kills}"))
                stored = set()
            after = rng.randrange(1, 40)
            status = killed(forker, run, after, rng.randrange(3000))
            kills += status == -signal.SIGKILL
            assert status in (0, -signal.SIGKILL)
            assert not set(computed(run)) & stored
            now = stored_points(job)
            assert stored <= now
            stored = now
    assert [] == work(replace(job, log=str(tmp_path / "last"), requests=[{}]))
    last = computed(replace(job, log=str(tmp_path / "last")))
    assert {(x, y) for x in xs for y in ys} - stored == set(last)
    assert set(last.values()) <= {1}
