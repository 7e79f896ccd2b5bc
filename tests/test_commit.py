"""The commit protocol as users meet it: two writers, failing syncs, modes, roots, and roots only to be read."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    ChunkCache,
    ChunkMemo,
    DamageWarning,
    DurabilityWarning,
    NondeterminismWarning,
    OwnerWarning,
    ReadOnlyWarning,
    RootError,
    SpecError,
    StoreError,
    run,
    run_streaming,
)
from chunk_memo import cache as cache_module
from chunk_memo.disk import files

AXES = {"s": [1, 2, 3]}

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has neither owners nor modes in this sense")
root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become other users, and mount"
)


def doubled(s: list[int]) -> list[int]:
    """Return each value twice as large."""
    return [2 * value for value in s]


def refuse(s: list[int]) -> list[int]:
    """Fail: everything should be stored."""
    raise AssertionError(s)


def opened(root: Path, **options: Any) -> ChunkCache:
    """Return the cache as a process opens it that starts."""
    settings: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"s": 3}, "verbose": 0, "durability": "fast"}
    return ChunkCache(root, "some", **settings | options)


def chunk_file(root: Path) -> Path:
    """Return the one complete file."""
    (path,) = root.glob("some/chunks/*.h5")
    return path


# --- two writers of one chunk --------------------------------------------------------------------------------


class Overtaken:
    """A function during whose first call another process stores the same chunk."""

    def __init__(self, root: Path, other: Callable[..., Any], own: Callable[..., Any]) -> None:
        self.root, self.other, self.own, self.fired = root, other, own, False

    def __call__(self, s: list[int]) -> Any:
        """Return what the own function does."""
        if not self.fired:
            self.fired = True
            run(opened(self.root), self.other)
        return self.own(s)


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        (lambda s: [1.5, None, "é"], lambda s: [1.5, None, "é"], False),
        (lambda s: [float("nan")] * 3, lambda s: [float("-nan")] * 3, False),
        (lambda s: np.array([0.1, 0.2, 0.3]), lambda s: np.array([0.1, 0.2, 0.3]), False),
        (lambda s: np.array([0.1, 0.2, 0.3]), lambda s: np.array([0.1, 0.2, 0.4]), True),
        (lambda s: ["a", "b", "c"], lambda s: ["a", "b", "longer"], True),
        (lambda s: [1, 2, 3], lambda s: [1.0, 2.0, 3.0], True),
        (lambda s: [[1], [], [2, 3]], lambda s: [[1], [2], [3]], True),
        (lambda s: [{"a": 1}] * 3, lambda s: [{"b": 1}] * 3, True),
    ],
    ids=["equal", "nan", "array", "other array", "longer text", "other type", "ragged", "other key"],
)
def test_the_first_writer_wins(tmp_path: Path, first: Any, second: Any, differ: bool) -> None:
    """Equal outputs are one; of others the first are kept and counted, and it is said what that means."""
    function = Overtaken(tmp_path, first, second)
    cache = opened(tmp_path, name="measure")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, diagnostics = run(cache, function)
    assert function.fired
    assert int(differ) == diagnostics.nondeterministic_chunks
    assert [NondeterminismWarning] * differ == [each.category for each in told]
    assert all("'measure' is not deterministic: 1 of the chunks" in str(each.message) for each in told)
    output, _ = run(opened(tmp_path), refuse)
    np.testing.assert_equal(output, first(AXES["s"]))


def test_a_damaged_file_in_the_way_is_replaced(tmp_path: Path) -> None:
    """Who finds a file of the same name relies on it only if it is whole."""

    def damage(s: list[int]) -> list[int]:
        path = chunk_file(tmp_path)
        data = bytearray(path.read_bytes())
        data[2000] ^= 1
        path.write_bytes(data)
        return doubled(s)

    function = Overtaken(tmp_path, doubled, damage)
    with pytest.warns(DamageWarning):
        assert [2, 4, 6] == run(opened(tmp_path), function)[0]
    assert function.fired
    assert [2, 4, 6] == run(opened(tmp_path), refuse)[0]


# --- syncs that fail -----------------------------------------------------------------------------------------


def test_what_is_not_confirmed_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of fsync after the link is a warning: the outputs are there, stored and readable."""
    run(opened(tmp_path).slice(s=[1]), doubled)  # the layout is there
    failed = []

    def fsync(fd: int) -> None:
        failed.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.warns(DurabilityWarning, match="not confirmed durable"):
            output, diagnostics = run(opened(tmp_path, durability="full"), doubled)
    assert failed
    assert ([2, 4, 6], 2) == (output, diagnostics.executed_points)
    assert [2, 4, 6] == run(opened(tmp_path), refuse)[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_finds_no_room_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Some file systems tell only then that the disk is full; the outputs are in the error."""
    run(opened(tmp_path).slice(s=[1]), doubled)

    def fsync(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StoreError, match="disk is full") as caught:
            run(opened(tmp_path, durability="full"), doubled)
    assert ([2, 4, 6], number) == (caught.value.output, caught.value.errno)


# --- how files get their names -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("refused", [("link",), ("link", "rename")])
def test_what_is_refused_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refused: tuple[str, ...]
) -> None:
    """A device that has no links, or no renames either, is told so once, and files are whole all the same."""
    calls = []

    def no(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        for name in refused:
            patch.setattr(os, name, no)
        assert [2, 4, 6] == run(opened(tmp_path, chunk_spec={"s": 1}), doubled)[0]
        assert len(refused) == len(calls)
        assert {"link": "rename", "rename": "create"}[refused[-1]] == files.commit_method(tmp_path)
    assert [2, 4, 6] == run(opened(tmp_path, chunk_spec={"s": 1}), refuse)[0]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_method_is_found_out(tmp_path: Path) -> None:
    """The probe leaves nothing behind."""
    assert "link" == files.commit_method(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        files.commit_method(tmp_path / "nowhere")


# --- modes ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set the umask."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(root: Path) -> tuple[set[int], set[int]]:
    """Return the modes of files and of folders."""
    paths = [root, *root.rglob("*")]
    found: tuple[set[int], set[int]] = (set(), set())
    for path in paths:
        found[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
    return found


@posix_only
@pytest.mark.usefixtures("umask")
def test_files_are_private(tmp_path: Path) -> None:
    """0600 and 0700, whatever the umask is."""
    run(opened(tmp_path / "root").slice(s=[1]), doubled)
    run(opened(tmp_path / "root", chunk_spec={"s": 1}), doubled)
    assert ({0o600}, {0o700}) == modes(tmp_path / "root")


@posix_only
@pytest.mark.usefixtures("umask")
def test_files_are_shared(tmp_path: Path) -> None:
    """0660 and 2770, whatever the umask is, also for who opens the root without saying so."""
    run(opened(tmp_path / "root", shared="group").slice(s=[1]), doubled)
    run(opened(tmp_path / "root", chunk_spec={"s": 1}), doubled)
    run(opened(tmp_path / "root", chunk_spec={"s": 1}, version="v2"), doubled)
    assert ({0o660}, {0o2770}) == modes(tmp_path / "root")


@posix_only
def test_what_is_there_is_shared(tmp_path: Path) -> None:
    """A cache that was private so far is opened to the group with all that it holds."""
    run(opened(tmp_path / "root"), doubled)
    memo = ChunkMemo(tmp_path / "root", {"s": 3}, AXES, shared="group", verbose=0)
    assert "root" in repr(memo)
    run(opened(tmp_path / "root", shared="group"), refuse)
    assert ({0o660}, {0o2770}) == modes(tmp_path / "root")
    with pytest.raises(SpecError, match="shared must be 'group' or None, got 'all'"):
        opened(tmp_path / "root", shared="all")


# --- roots ---------------------------------------------------------------------------------------------------


@posix_only
def test_a_root_that_is_open_to_all_is_refused(tmp_path: Path) -> None:
    """The error names the ways out, and each of them is one."""
    root = tmp_path / "root"
    run(opened(root), doubled)
    root.chmod(0o777)
    with pytest.raises(RootError, match=r"written to by everybody \(mode 0777\).*chmod o-w.*chmod \+t") as caught:
        opened(root)
    assert isinstance(caught.value, OSError)
    for mode in (0o1777, 0o775):
        root.chmod(mode)
        assert [2, 4, 6] == run(opened(root), refuse)[0]
    facts = files.facts_of(root)
    assert facts is not None
    assert (0o775, False, True) == (facts.mode, facts.open_to_all, facts.ours)


@root_only
def test_the_root_of_somebody_else_is_served(tmp_path: Path) -> None:
    """It is said once whose it is; with ``shared`` it is not said."""
    root = tmp_path / "root"
    run(opened(root), doubled)
    os.chown(root, 12345, -1)
    with pytest.warns(OwnerWarning, match="belongs to user 12345"):
        assert [2, 4, 6] == run(opened(root), refuse)[0]
    assert [2, 4, 6] == run(opened(root), refuse)[0]
    cache_module._FOREIGN.clear()
    assert [2, 4, 6] == run(opened(root, shared="group"), refuse)[0]


def test_the_root_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another working directory nor another target of a link moves a memo that is there."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    memo = ChunkMemo("link/root", {"s": 3}, AXES, verbose=0)
    function = memo.cache()(doubled)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "two")
    monkeypatch.chdir(tmp_path / "two")
    function()
    assert (1, 0) == (len(list(tmp_path.glob("one/root/*"))), len(list((tmp_path / "two").iterdir())))


# --- too large -----------------------------------------------------------------------------------------------


def test_a_chunk_that_is_too_large_is_not_stored(tmp_path: Path) -> None:
    """The outputs are in the error, which names both ways out."""

    def large(s: list[int]) -> Any:
        return np.zeros((len(s), 300_000))

    with pytest.raises(StoreError, match=r"max_chunk_bytes=4194304 allows: make chunks smaller") as caught:
        run(opened(tmp_path, max_chunk_bytes=4 << 20), large)
    assert (3, 300_000) == caught.value.output.shape
    for compression in (None, "gzip"):
        root = tmp_path / str(compression)
        run(opened(root, compression=compression), large)
        with pytest.raises(SpecError, match="pass a larger max_chunk_bytes"):
            run(opened(root, max_chunk_bytes=4 << 20), refuse)
        assert (3, 300_000) == run(opened(root), refuse)[0].shape
    with pytest.raises(SpecError, match="max_chunk_bytes must be a number of bytes"):
        opened(tmp_path, max_chunk_bytes=17)


# --- roots that can only be read -----------------------------------------------------------------------------


def everything(root: Path) -> dict[Path, tuple[int, bytes]]:
    """Return names, times and contents of all that is in a root."""
    paths = sorted(root.rglob("*"))
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


@pytest.mark.parametrize("map_fn", [None, "threads", "processes"])
def test_read_only_serves_and_computes(tmp_path: Path, map_fn: str | None) -> None:
    """What is stored is served; what is missing is computed and returned, with one warning; nothing changes."""
    run(opened(tmp_path).slice(s=[1]), doubled)
    before = everything(tmp_path)
    cache = opened(tmp_path, read_only=True)
    assert [2] == run(cache.slice(s=[1]), refuse)[0]
    for _ in range(2):
        with pytest.warns(ReadOnlyWarning, match="2 points of .* were computed and not stored") as told:
            output, diagnostics = run(cache, doubled, map_fn=map_fn)
        assert ([2, 4, 6], 2, 1) == (output, diagnostics.executed_points, len(told))
    with pytest.raises(RootError, match="read_only=True"):
        run_streaming(cache, doubled)
    for change in (cache.invalidate, cache.gc):
        with pytest.raises(RootError, match="read_only=True"):
            change()
    assert before == everything(tmp_path)


def test_read_only_moves_nothing_aside(tmp_path: Path) -> None:
    """A damaged file is told of and left where it is; a root that is not there is not made."""
    run(opened(tmp_path / "root"), doubled)
    path = chunk_file(tmp_path / "root")
    path.write_bytes(path.read_bytes()[:-1] + b"?" * 9)
    before = everything(tmp_path)
    with pytest.warns((DamageWarning, ReadOnlyWarning)) as told:
        assert [2, 4, 6] == run(opened(tmp_path / "root", read_only=True), doubled)[0]
    assert {DamageWarning, ReadOnlyWarning} == {each.category for each in told}
    with pytest.warns(ReadOnlyWarning):
        assert [2, 4, 6] == run(opened(tmp_path / "nowhere", read_only=True), doubled)[0]
    assert before == everything(tmp_path)


def test_read_only_memos(tmp_path: Path) -> None:
    """A decorated function of such a memo serves what another stored."""
    ChunkMemo(tmp_path, {"s": 3}, AXES, verbose=0).cache()(doubled)()
    before = everything(tmp_path)
    function = ChunkMemo(tmp_path, {"s": 3}, AXES, verbose=0, read_only=True).cache()(doubled)
    output, diagnostics = function()
    assert ([2, 4, 6], 0) == (output, diagnostics.executed_points)
    assert before == everything(tmp_path)


PROGRAM = """
import os, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from chunk_memo import ChunkCache, OwnerWarning, ReadOnlyWarning, RootError, StoreError, run
import test_commit as t
here, root = Path(sys.argv[1]), Path(sys.argv[1]) / "root"
for which in ("full", "fast"):  # whatever is imported late is there
    t.run(t.opened(here / "warm up", durability=which), t.doubled)
    t.run(t.opened(here / "warm up", durability=which, read_only=True), t.refuse)
try:
    t.run(t.opened(here / "file" / "x"), t.doubled)
except OSError:
    pass
if sys.argv[3] == "user":
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
warnings.simplefilter("ignore", OwnerWarning)
assert [2] == run(t.opened(root).slice(s=[1]), t.refuse)[0]
try:
    run(t.opened(root), t.doubled)
    print("stored")
except (RootError, StoreError) as error:
    print(type(error).__name__, error.errno, getattr(error, "output", None))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    print(run(t.opened(root, read_only=True), t.doubled)[0], [each.category.__name__ for each in told])
"""


@root_only
@pytest.mark.parametrize("how", ["user", "mount"])
def test_a_root_without_permission(tmp_path: Path, how: str) -> None:
    """For another user, and on a mount that can only be read: what is there is served, the rest is an error."""
    root = tmp_path / "root"
    run(opened(root).slice(s=[1]), doubled)
    (tmp_path / "file").touch()
    before = everything(root)
    for path in (*root.rglob("*"), root, *tmp_path.parents[:3], tmp_path):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent), how]
    if how == "mount":
        bind = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec "
        command = ["unshare", "-m", "sh", "-c", bind + '"$0" "$@"', *command]
        if subprocess.run(["unshare", "-m", "sh", "-c", bind + "true"], check=False).returncode:
            pytest.skip("this machine allows no mounts")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    number = {"user": errno.EACCES, "mount": errno.EROFS}[how]
    assert f"StoreError {number} [2, 4, 6]\n[2, 4, 6] ['ReadOnlyWarning']\n" == done.stdout
    after = everything(root)
    assert {path: data for path, (_, data) in before.items()} == {path: data for path, (_, data) in after.items()}
