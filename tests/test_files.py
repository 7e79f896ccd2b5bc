"""Files come into being whole or not at all, and are on disk when the syncer says so."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_memo.disk import files
from chunk_memo.disk.files import FileStat, Syncer

if TYPE_CHECKING:
    from collections.abc import Callable

UNSUPPORTED = [errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK]


def refuse(number: int, calls: list[Any] | None = None) -> Callable[..., Any]:
    """Return a system call that always fails; `calls` shows that it was made."""

    def refused(*arguments: Any, **options: Any) -> Any:
        if calls is not None:
            calls.append(arguments)
        raise OSError(number, os.strerror(number))

    return refused


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(os.listdir(folder))


def commit(target: Path, *buffers: bytes) -> bool:
    """Commit without syncing."""
    return files.commit(target, buffers, Syncer("fast"))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (device, inode) of everything that is fsynced, which it truly is."""
    done: list[tuple[int, int]] = []
    true_fsync = os.fsync

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        done.append((status.st_dev, status.st_ino))
        true_fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def file_id(path: Path) -> tuple[int, int]:
    """Return (device, inode)."""
    status = path.stat()
    return (status.st_dev, status.st_ino)


# --- commit -----------------------------------------------------------------------------------


class TestCommit:
    """A target is there whole, or not at all, and never replaced."""

    @given(st.lists(st.binary(max_size=5000), max_size=8))
    def test_bytes(self, tmp_path_factory: pytest.TempPathFactory, buffers: list[bytes]) -> None:
        """The file holds the buffers' bytes in order, and nothing else is left."""
        target = tmp_path_factory.mktemp("commit") / "file"
        assert commit(target, *buffers)
        assert b"".join(buffers) == target.read_bytes()
        assert ["file"] == names_in(target.parent)

    def test_many_buffers(self, tmp_path: Path) -> None:
        """More buffers than one system call takes are all written."""
        buffers = [b"%d," % number for number in range(5000)]
        assert commit(tmp_path / "file", *buffers)
        assert b"".join(buffers) == (tmp_path / "file").read_bytes()

    def test_first_writer_wins(self, tmp_path: Path) -> None:
        """The second commit of a name is told so, and changes nothing."""
        target = tmp_path / "file"
        assert commit(target, b"first")
        assert not commit(target, b"second")
        assert b"first" == target.read_bytes()
        assert ["file"] == names_in(tmp_path)

    def test_mode(self, tmp_path: Path) -> None:
        """Files and new folders are for this user only."""
        target = tmp_path / "new" / "file"
        assert commit(target, b"x")
        assert 0o600 == target.stat().st_mode & 0o777
        assert 0o700 == target.parent.stat().st_mode & 0o777

    def test_missing_folders(self, tmp_path: Path) -> None:
        """Folders are made as needed, however deep."""
        target = tmp_path / "a" / "b" / "c" / "file"
        assert commit(target, b"x")
        assert b"x" == target.read_bytes()

    def test_relative_target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name without a folder lies in the current one."""
        monkeypatch.chdir(tmp_path)
        with Syncer() as syncer:
            assert files.commit(Path("file"), [b"x"], syncer)
            assert files.commit(Path("new/file"), [b"x"], syncer)
        assert ["file", "new"] == names_in(tmp_path)

    def test_folder_that_vanishes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that is removed between writing and linking is made again."""
        target = tmp_path / "folder" / "file"
        true_link = os.link
        vanished: list[str] = []

        def link(source: str, name: str) -> None:
            if not vanished:
                vanished.append(source)
                os.unlink(source)
                os.rmdir(target.parent)
            true_link(source, name)

        monkeypatch.setattr(os, "link", link)
        assert commit(target, b"x")
        assert 1 == len(vanished)
        assert b"x" == target.read_bytes()

    def test_target_in_a_file(self, tmp_path: Path) -> None:
        """A folder's name that belongs to a file is an error, not a loop."""
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(NotADirectoryError):
            commit(tmp_path / "file" / "target", b"x")

    def test_symlink_is_not_followed(self, tmp_path: Path) -> None:
        """A link under the final name counts as taken, and is not written through."""
        (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
        assert not commit(tmp_path / "file", b"x")
        assert not (tmp_path / "elsewhere").exists()

    def test_many_writers(self, tmp_path: Path) -> None:
        """Of many writers exactly one is told that it won, and its bytes are there."""
        target = tmp_path / "new" / "file"
        barrier = threading.Barrier(8)
        won: list[bytes] = []

        def write(number: int) -> None:
            data = b"%d" % number * 10_000
            barrier.wait()
            if commit(target, data):
                won.append(data)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [target.read_bytes()] == won
        assert ["file"] == names_in(target.parent)

    def test_short_writes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the system did not write at once is written after."""
        true_write = os.write
        calls = []

        def write(fd: int, data: memoryview) -> int:
            calls.append(len(data))
            return true_write(fd, data[:3])

        monkeypatch.setattr(os, "writev", lambda fd, pieces: write(fd, pieces[0]))
        monkeypatch.setattr(os, "write", write)
        assert commit(tmp_path / "file", b"0123456789", b"abc", b"defg")
        assert b"0123456789abcdefg" == (tmp_path / "file").read_bytes()
        assert 7 == len(calls)

    def test_without_writev(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system has no writev, buffers are written one by one."""
        monkeypatch.delattr(os, "writev")
        assert commit(tmp_path / "file", b"012", b"345")
        assert b"012345" == (tmp_path / "file").read_bytes()

    def test_write_that_writes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that makes no progress ends in an error."""
        monkeypatch.setattr(os, "write", lambda fd, data: 0)
        with pytest.raises(OSError, match="wrote nothing") as caught:
            commit(tmp_path / "file", b"x")
        assert errno.EIO == caught.value.errno
        assert [] == names_in(tmp_path)


class TestCommitWithoutLink:
    """Where hard links are not supported, other ways are taken."""

    @pytest.fixture
    def no_link(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Any]:
        """Refuse links with the error that the test names."""
        calls: list[Any] = []
        monkeypatch.setattr(os, "link", refuse(request.param, calls))
        return calls

    @pytest.mark.parametrize("no_link", UNSUPPORTED, indirect=True)
    def test_rename(self, tmp_path: Path, no_link: list[Any], request: pytest.FixtureRequest) -> None:
        """The file is renamed, and still never over an existing one."""
        target = tmp_path / "new" / "file"
        assert commit(target, b"first")
        assert not commit(target, b"second")
        assert b"first" == target.read_bytes()
        assert ["file"] == names_in(target.parent)
        remembered = errno.EXDEV, errno.EMLINK, errno.EACCES  # which say something of this file alone
        assert (2 if request.node.callspec.params["no_link"] in remembered else 1) == len(no_link)

    @pytest.mark.parametrize("no_link", [errno.EPERM], indirect=True)
    @pytest.mark.parametrize("number", UNSUPPORTED)
    @pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
    def test_exclusive_create(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        no_link: list[Any],
        number: int,
        size: int,
    ) -> None:
        """Where renaming is refused too, the target itself is created, by one writer only."""
        renamed: list[Any] = []
        monkeypatch.setattr(os, "rename", refuse(number, renamed))
        data = bytes(range(256)) * (size // 256 + 1)
        target = tmp_path / "file"
        assert commit(target, data[: size // 2], data[size // 2 : size])
        assert not commit(target, b"second")
        assert data[:size] == target.read_bytes()
        assert ["file"] == names_in(tmp_path)
        assert 1 == len(renamed)

    @pytest.mark.parametrize("no_link", [errno.EPERM], indirect=True)
    def test_head_is_written_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_link: list[Any]
    ) -> None:
        """The first 4096 bytes come after an fsync of the rest."""
        monkeypatch.setattr(os, "rename", refuse(errno.EPERM))
        target = tmp_path / "file"
        seen: list[bytes] = []
        true_fsync = os.fsync

        def fsync(fd: int) -> None:
            seen.append(target.read_bytes())
            true_fsync(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        assert commit(target, b"h" * 4000, b"h" * 96 + b"rest")
        assert [bytes(4096) + b"rest"] == seen
        assert b"h" * 4096 + b"rest" == target.read_bytes()

    @pytest.mark.parametrize("no_link", [errno.EPERM], indirect=True)
    def test_exclusive_create_that_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_link: list[Any]
    ) -> None:
        """A target that could not be finished is removed again."""
        monkeypatch.setattr(os, "rename", refuse(errno.EPERM))
        monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            commit(tmp_path / "file", b"x" * 5000)
        assert [] == names_in(tmp_path)

    @pytest.mark.parametrize("no_link", [errno.EPERM], indirect=True)
    @pytest.mark.parametrize("other", [b"", b"another's"])
    def test_a_file_that_was_taken_away_while_it_was_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_link: list[Any], other: bytes
    ) -> None:
        """It is written again, unless somebody else's has its name by then."""
        monkeypatch.setattr(os, "rename", refuse(errno.EPERM))
        target, data = tmp_path / "file", b"h" * 4096 + b"rest"
        true_fsync, taken = os.fsync, list[int]()

        def fsync(fd: int) -> None:
            true_fsync(fd)
            if not taken:
                taken.append(fd)
                target.unlink()
                if other:
                    target.write_bytes(other)

        monkeypatch.setattr(os, "fsync", fsync)
        assert (not other) is commit(target, data)
        assert (other or data) == target.read_bytes()

    @pytest.mark.parametrize("number", [errno.EIO, errno.EEXIST, errno.EPERM])
    def test_link_whose_answer_was_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """A link that was made in spite of an error counts as ours."""
        true_link = os.link

        def link(source: str, name: str) -> None:
            true_link(source, name)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", link)
        assert commit(tmp_path / "file", b"x")
        assert b"x" == (tmp_path / "file").read_bytes()
        assert ["file"] == names_in(tmp_path)

    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
    def test_other_errors_are_raised(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        """An error that says nothing about links is raised, and nothing is left."""
        monkeypatch.setattr(os, "link", refuse(number))
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            commit(tmp_path / "file", b"x")
        assert number == caught.value.errno
        assert [] == names_in(tmp_path)


class TestFullDisk:
    """A disk that is full leaves no file behind."""

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    @pytest.mark.parametrize("call", ["write", "writev"])
    def test_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str) -> None:
        """The error is raised as it is, and the temporary file is gone."""
        calls: list[Any] = []
        monkeypatch.setattr(os, call, refuse(number, calls))
        buffers = [b"x"] if call == "write" else [b"x", b"y"]
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            commit(tmp_path / "file", *buffers)
        assert number == caught.value.errno
        assert 1 == len(calls)
        assert [] == names_in(tmp_path)

    def test_half_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fills up in the middle of a file leaves nothing either."""
        true_write = os.write
        written: list[int] = []

        def write(fd: int, data: memoryview) -> int:
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(true_write(fd, data[:10]))
            return written[0]

        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            commit(tmp_path / "file", b"x" * 100)
        assert [10] == written
        assert [] == names_in(tmp_path)

    def test_interrupt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C in the middle leaves nothing."""

        def interrupted(fd: int, data: memoryview) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit(tmp_path / "file", b"x")
        assert [] == names_in(tmp_path)

    @pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
    def test_limit_of_the_system(self, tmp_path: Path) -> None:
        """A real limit on the length of files is met and survived; smaller files still go."""
        code = f"""
import errno, resource
from pathlib import Path
from chunk_memo.disk import files
folder = Path({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for size in [49_999, 50_000, 50_001, 100_000, 10_000_000]:
    try:
        print(files.commit(folder / str(size), [b"x" * size], files.Syncer()))
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ["True", "True", "EFBIG", "EFBIG", "EFBIG"] == done.stdout.split()
        assert ["49999", "50000"] == names_in(tmp_path)


# --- syncing ----------------------------------------------------------------------------------


class TestSyncer:
    """What was committed is on disk after a flush."""

    def test_files_and_folders(self, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
        """Each file, its folder, and every folder that was made are synced, files first."""
        target = tmp_path / "a" / "b" / "file"
        with Syncer() as syncer:
            files.commit(target, [b"x"], syncer)
            assert [] == synced
        expected = [target, target.parent, tmp_path / "a", tmp_path]
        assert file_id(target) == synced[0]
        assert {file_id(path) for path in expected} <= set(synced)

    def test_loser_syncs_the_winner(self, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
        """Who lost the race syncs the file of the winner."""
        target = tmp_path / "file"
        assert commit(target, b"winner")
        assert [] == synced
        with Syncer() as syncer:
            assert not files.commit(target, [b"loser"], syncer)
        assert {file_id(target), file_id(tmp_path)} <= set(synced)

    def test_folders_above_are_synced_once(self, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
        """Folders that another process may have made are synced with the first file only."""
        folder = tmp_path / "a" / "b"
        folder.mkdir(parents=True)
        with Syncer() as syncer:
            files.commit(folder / "1", [b"x"], syncer)
            syncer.flush()
            assert {file_id(tmp_path), file_id(tmp_path / "a")} <= set(synced)
            synced.clear()
            files.commit(folder / "2", [b"x"], syncer)
        assert [file_id(folder / "2"), file_id(folder)] == synced

    def test_fast(self, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
        """With durability="fast" nothing is synced."""
        with Syncer("fast") as syncer:
            files.commit(tmp_path / "a" / "file", [b"x"], syncer)
            syncer.flush()
            assert 0 == syncer.pending
        assert [] == synced

    def test_unknown_durability(self) -> None:
        """Only the two words are known."""
        with pytest.raises(ValueError, match="'slow'"):
            Syncer("slow")

    def test_flushes_at_256_files(
        self, tmp_path: Path, synced: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The 256th pending file starts a flush of all, with no second passing."""
        monkeypatch.setattr(time, "monotonic", lambda: 0.0)
        syncer = Syncer()
        for number in range(255):
            files.commit(tmp_path / str(number), [b"x"], syncer)
        assert [] == synced
        files.commit(tmp_path / "255", [b"x"], syncer)
        assert {file_id(tmp_path / str(number)) for number in range(256)} <= set(synced)
        assert 0 == syncer.pending

    def test_flushes_after_a_second(
        self, tmp_path: Path, synced: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A commit a second after the last flush starts one, and so does flush_if_due."""
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        syncer = Syncer()
        files.commit(tmp_path / "1", [b"x"], syncer)
        now = 100.9
        syncer.flush_if_due()
        assert [] == synced
        now = 101.0
        syncer.flush_if_due()
        assert file_id(tmp_path / "1") in synced
        now = 102.5
        files.commit(tmp_path / "2", [b"x"], syncer)
        assert file_id(tmp_path / "2") in synced
        synced.clear()
        now = 200.0
        syncer.flush_if_due()
        assert [] == synced

    def test_what_vanished(self, tmp_path: Path) -> None:
        """A file or a folder that was removed in the meantime is no error."""
        syncer = Syncer()
        files.commit(tmp_path / "a" / "file", [b"x"], syncer)
        os.unlink(tmp_path / "a" / "file")
        os.rmdir(tmp_path / "a")
        assert syncer.pending > 1
        syncer.flush()
        assert 0 == syncer.pending

    @pytest.mark.parametrize("count", [1, 40])
    def test_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        """An fsync that fails is raised with the file's name, after the others were tried."""
        syncer = Syncer()
        for number in range(count):
            files.commit(tmp_path / str(number), [b"x"], syncer)
        bad = file_id(tmp_path / "0")
        tried = []
        true_fsync = os.fsync

        def fsync(fd: int) -> None:
            status = os.fstat(fd)
            tried.append((status.st_dev, status.st_ino))
            if bad == tried[-1]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            true_fsync(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
            syncer.flush()
        assert str(tmp_path / "0") == caught.value.filename
        assert {file_id(tmp_path / str(number)) for number in range(count)} <= set(tried)
        assert 0 == syncer.pending

    def test_unsupported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system that knows no fsync is no error."""
        calls: list[Any] = []
        monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL, calls))
        with Syncer() as syncer:
            files.commit(tmp_path / "file", [b"x"], syncer)
        assert len(calls) >= 2

    def test_block_that_raises(self, tmp_path: Path, synced: list[tuple[int, int]]) -> None:
        """What was committed before an exception is synced all the same."""

        def work() -> None:
            with Syncer() as syncer:
                files.commit(tmp_path / "file", [b"x"], syncer)
                raise KeyError("work")

        with pytest.raises(KeyError, match="work"):
            work()
        assert file_id(tmp_path / "file") in synced


# --- reading ----------------------------------------------------------------------------------


class TestReading:
    """Reads are whole, and what a network file system may refuse once is tried again."""

    @given(st.binary(max_size=300), st.integers(0, 300))
    def test_read_file(self, tmp_path_factory: pytest.TempPathFactory, data: bytes, limit: int) -> None:
        """The start of the file is read, up to the limit, with the file's true length."""
        path = tmp_path_factory.mktemp("read") / "file"
        path.write_bytes(data)
        read, status = files.read_file(path, limit)
        assert data[:limit] == read
        assert FileStat(*file_id(path), len(data)) == status
        assert file_id(path) == status.file_id

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is FileNotFoundError."""
        with pytest.raises(FileNotFoundError):
            files.read_file(tmp_path / "none")
        with pytest.raises(FileNotFoundError):
            files.open_for_reading(tmp_path / "none")

    def test_folder(self, tmp_path: Path) -> None:
        """A folder is no file."""
        with pytest.raises(IsADirectoryError):
            files.read_file(tmp_path)

    @pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EINTR])
    @pytest.mark.parametrize(("failures", "succeeds"), [(1, True), (2, True), (3, False)])
    def test_retries(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        failures: int,
        succeeds: bool,
    ) -> None:
        """A passing error is met by three tries in all."""
        (tmp_path / "file").write_bytes(b"bytes")
        calls = []
        true_read = os.read

        def read(fd: int, count: int) -> bytes:
            calls.append(count)
            if len(calls) <= failures:
                raise OSError(number, os.strerror(number))
            return true_read(fd, count)

        monkeypatch.setattr(os, "read", read)
        if succeeds:
            assert b"bytes" == files.read_file(tmp_path / "file")[0]
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                files.read_file(tmp_path / "file")
        assert min(failures + 1, 3) == len(calls)

    def test_short_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A read that brings less than asked for is continued."""
        (tmp_path / "file").write_bytes(b"0123456789")
        true_read = os.read
        monkeypatch.setattr(os, "read", lambda fd, count: true_read(fd, min(count, 3)))
        assert b"0123456789" == files.read_file(tmp_path / "file")[0]

    def test_file_that_ends_early(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that ends before its length is an EIO, after three tries."""
        (tmp_path / "file").write_bytes(b"0123456789")
        calls: list[int] = []

        def read(fd: int, count: int) -> bytes:
            calls.append(count)
            return b""

        monkeypatch.setattr(os, "read", read)
        with pytest.raises(OSError, match="ended after 0") as caught:
            files.read_file(tmp_path / "file")
        assert errno.EIO == caught.value.errno
        assert 3 * [10, 10] == calls  # each try looks twice before it gives up

    @pytest.mark.parametrize("missing", [[], ["preadv"], ["preadv", "pread"]])
    def test_pread(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
        """Bytes from anywhere, with preadv, with pread, and where there is neither."""
        for name in missing:
            monkeypatch.delattr(os, name)
        data = bytes(range(256)) * 10
        (tmp_path / "file").write_bytes(data)
        fd = files.open_for_reading(tmp_path / "file")
        try:
            assert len(data) == files.file_stat(fd).size
            assert data[300:700] == files.pread_exact(fd, 400, 300)
            assert data[:10] == files.pread_exact(fd, 10, 0)
            assert b"" == files.pread_exact(fd, 0, 5)
            buffer = bytearray(7)
            files.pread_into(fd, buffer, 2553)
            assert data[-7:] == buffer
            with pytest.raises(OSError, match="ended after 3") as caught:
                files.pread_exact(fd, 10, len(data) - 3)
            assert errno.EIO == caught.value.errno
        finally:
            files.close(fd)
        files.close(fd)  # once more does no harm

    def test_list_folder(self, tmp_path: Path) -> None:
        """A folder's names; none where there is no folder."""
        commit(tmp_path / "folder" / "b", b"")
        commit(tmp_path / "folder" / "a", b"")
        assert ["a", "b"] == sorted(files.list_folder(tmp_path / "folder"))
        assert [] == files.list_folder(tmp_path / "none")

    def test_remove(self, tmp_path: Path) -> None:
        """A file is removed; one that is not there is no error."""
        commit(tmp_path / "file", b"")
        files.remove(tmp_path / "file")
        files.remove(tmp_path / "file")
        assert [] == names_in(tmp_path)

    def test_remove_folder(self, tmp_path: Path) -> None:
        """An empty folder is removed; one that is gone or holds something is no error."""
        commit(tmp_path / "folder" / "file", b"")
        files.remove_folder(tmp_path / "folder")
        assert ["file"] == names_in(tmp_path / "folder")
        files.remove(tmp_path / "folder" / "file")
        files.remove_folder(tmp_path / "folder")
        files.remove_folder(tmp_path / "folder")
        assert [] == names_in(tmp_path)

    def test_make_folder(self, tmp_path: Path) -> None:
        """Folders are made once; a file in their place is an error."""
        files.make_folder(tmp_path / "a" / "b")
        files.make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
        commit(tmp_path / "file", b"")
        with pytest.raises(FileExistsError):
            files.make_folder(tmp_path / "file")


# --- quarantine -------------------------------------------------------------------------------


def bad(path: Path) -> bool:
    """Say that a file is damaged."""
    return False


class TestQuarantine:
    """Only the file that was seen to be damaged is set aside."""

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        """A damaged file."""
        path = tmp_path / "chunks" / "file.h5"
        commit(path, b"damaged")
        return path

    @pytest.fixture
    def aside(self, tmp_path: Path) -> Path:
        """Where damaged files go; not there yet."""
        return tmp_path / "quarantine"

    def test_moved(self, damaged: Path, aside: Path) -> None:
        """A damaged file lies in the folder afterwards, under its name and something random."""
        checked = []

        def is_good(path: Path) -> bool:
            checked.append(path)
            return path.read_bytes() != b"damaged"

        moved = files.quarantine(damaged, aside, file_id(damaged), is_good)
        assert moved is not None
        assert [moved] == checked
        assert aside == moved.parent
        assert moved.name.startswith("file.h5.")
        assert b"damaged" == moved.read_bytes()
        assert [] == names_in(damaged.parent)

    def test_same_name_twice(self, damaged: Path, aside: Path) -> None:
        """Two damaged files of one name are both kept."""
        first = files.quarantine(damaged, aside, file_id(damaged), bad)
        commit(damaged, b"damaged again")
        second = files.quarantine(damaged, aside, file_id(damaged), bad)
        assert first is not None
        assert second is not None
        assert sorted([first.name, second.name]) == names_in(aside)

    def test_gone(self, tmp_path: Path, aside: Path) -> None:
        """A file that is gone is nothing to do."""
        assert files.quarantine(tmp_path / "none", aside, (1, 1), bad) is None

    def test_another_file(self, damaged: Path, aside: Path) -> None:
        """A file that took the place of the damaged one stays."""
        seen = file_id(damaged)
        keep = damaged.rename(damaged.with_name("kept"))  # so that its inode is not used again
        commit(damaged, b"good")
        assert files.quarantine(damaged, aside, seen, bad) is None
        assert b"good" == damaged.read_bytes()
        assert b"damaged" == keep.read_bytes()
        assert not aside.exists()

    def test_replaced_at_the_last_moment(
        self, damaged: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A good file that came between look and rename is put back."""
        true_rename = os.rename
        replaced: list[Any] = []

        def rename(source: Any, target: Any) -> None:
            if not replaced:
                replaced.append(source)
                os.unlink(source)
                commit(damaged, b"good")
            true_rename(source, target)

        monkeypatch.setattr(os, "rename", rename)
        seen = file_id(damaged)
        assert files.quarantine(damaged, aside, seen, lambda p: p.read_bytes() == b"good") is None
        assert [damaged] == replaced
        assert b"good" == damaged.read_bytes()
        assert [] == names_in(aside)

    def test_put_back_where_another_is(self, damaged: Path, aside: Path) -> None:
        """A good file is not put back over one that was written in the meantime."""

        def is_good(path: Path) -> bool:
            commit(damaged, b"newer")
            return True

        assert files.quarantine(damaged, aside, file_id(damaged), is_good) is None
        assert b"newer" == damaged.read_bytes()
        assert [] == names_in(aside)

    @pytest.mark.parametrize("number", UNSUPPORTED)
    def test_put_back_without_link(
        self, damaged: Path, aside: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Where links are not supported, a good file is renamed back."""
        monkeypatch.setattr(os, "link", refuse(number))
        assert files.quarantine(damaged, aside, file_id(damaged), lambda path: True) is None
        assert b"damaged" == damaged.read_bytes()
        assert [] == names_in(aside)

    def test_unreadable_is_no_damage(self, damaged: Path, aside: Path) -> None:
        """A file that cannot be read again is put back."""

        def is_good(path: Path) -> bool:
            raise OSError(errno.EIO, "no")

        assert files.quarantine(damaged, aside, file_id(damaged), is_good) is None
        assert b"damaged" == damaged.read_bytes()

    @pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EROFS, errno.EXDEV])
    def test_rename_refused(
        self, damaged: Path, aside: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Where renaming is refused, the file stays."""
        monkeypatch.setattr(os, "rename", refuse(number))
        assert files.quarantine(damaged, aside, file_id(damaged), bad) is None
        assert b"damaged" == damaged.read_bytes()


# --- killed -----------------------------------------------------------------------------------


@pytest.fixture
def killed_writers(tmp_path: Path) -> Path:
    """A folder in which writers were killed at any moment of their work."""
    code = f"""
import os
from pathlib import Path
from chunk_memo.disk import files
folder, number = Path({str(tmp_path)!r}), 0
syncer = files.Syncer("fast")
print("ready", flush=True)
while True:
    number += 1
    data = b"%d." % number * 20_000
    files.commit(folder / f"{{os.getpid()}}-{{number}}", [data[:100], data[100:]], syncer)
"""
    for count in range(5, 35, 5):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while len(os.listdir(tmp_path)) < count:
            pass
        writer.kill()
        writer.wait()
        writer.stdout.close()
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill(killed_writers: Path) -> None:
    """After kills at any moment every file with a final name is whole."""
    final = [n for n in names_in(killed_writers) if not n.startswith(files.TEMPORARY_PREFIX)]
    assert len(final) >= 5
    for name in final:
        number = int(name.partition("-")[2])
        assert b"%d." % number * 20_000 == (killed_writers / name).read_bytes()
