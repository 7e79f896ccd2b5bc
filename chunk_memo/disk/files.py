"""Every system call that touches a store: write beside and link, read, fsync, quarantine.

A file comes into being in three steps. All its bytes are written to a uniquely named file
beside the target; that file is linked to the final name, never over an existing one, so that
the first writer wins; the temporary name is removed. A reader therefore finds a whole file or
none. Where hard links are not supported the temporary file is renamed, and where that is
refused too the target is created exclusively and its first 4096 bytes are written last, after
an fsync of the rest: a file whose head is still empty is "in progress". What a file system
refuses is found out once for each device and process.

An error up to the link means that there is no file. One after it, when the file has its name
and is synced, means that nobody knows whether the file would survive a power cut; it is
:class:`NotConfirmedError`, and nobody calls the file lost.

Files and folders are for their owner alone (0600, 0700), whatever the umask is; in a folder
that is shared with its group (set-group-ID, and writable for it) they are for the group too
(0660, 2770), whoever makes them.

Nothing here knows what the bytes mean, and nothing here takes a lock.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from chunk_memo.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Buffer

__all__ = [
    "HEAD_SIZE",
    "TEMPORARY_PREFIX",
    "TRANSIENT",
    "Durability",
    "FileId",
    "FileStat",
    "FolderFacts",
    "NotConfirmedError",
    "Seen",
    "Syncer",
    "Volume",
    "adopt",
    "claim",
    "close",
    "commit",
    "commit_method",
    "facts_of",
    "file_stat",
    "file_stem",
    "forget_mounts",
    "identity_of",
    "is_folder",
    "is_ours",
    "is_there",
    "link",
    "list_folder",
    "look_at",
    "make_folder",
    "modified_at",
    "now",
    "open_for_reading",
    "pread_exact",
    "pread_into",
    "quarantine",
    "read_each",
    "read_file",
    "read_only_error",
    "read_private",
    "read_start",
    "read_whole",
    "remove",
    "remove_folder",
    "remove_tree",
    "rename",
    "replace",
    "save",
    "share",
    "some_names",
    "touch",
    "volume",
    "walk",
    "write_over",
    "writes_in_place",
]

_T = TypeVar("_T")

HEAD_SIZE = 4096
"""Bytes at the start of a file that an exclusive create writes last."""

TEMPORARY_PREFIX = ".tmp-"
"""How the names of unfinished files begin; readers of folders pass over them."""

TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.EINTR})
"""Errors of a device or a network, which say nothing about the file; tried again, and never damage."""

FileId = tuple[int, int]
"""What tells one file from another of the same name: (device, inode)."""

_MANY_NAMES = 1 << 20  # a limit above that keeps no folder from being listed as a whole, in a third of the time
_MAX_TRIES = 3
_YOUNG = 60.0  # seconds for which a file without its head counts as being written
_MAX_FOLDERS = 100  # how often others may remove an empty folder before a file lies in it
_FLUSH_SECONDS = 1.0
_FLUSH_FILES = 256
_MANY_FILES = 16
_SYNC_THREADS = 4
_ANCESTORS = 5
_MAX_BUFFERS = 512
_MAX_WRITE = 1 << 30  # macOS refuses more than 2 GiB - 1 per call, Linux cuts it short
_NO_LINK = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.ENOSYS,
        errno.EXDEV,
        errno.EMLINK,
        errno.EINVAL,
    }
)
_REFUSED_HERE = frozenset({errno.EMLINK, errno.EXDEV, errno.EACCES})
"""Refusals that say something of a file or a folder, and nothing of the whole device."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_FSYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CREATE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
# Windows syncs only what is open for writing, and no folders at all.
_SYNC_FILE_FLAGS = (os.O_RDWR if os.name == "nt" else os.O_RDONLY) | getattr(os, "O_CLOEXEC", 0)
_SYNC_FOLDERS = os.name != "nt"
_RELATIVE = os.open in os.supports_dir_fd


class Durability(enum.StrEnum):
    """What a run promises about power cuts.

    Examples
    --------
    >>> Durability("fast") is Durability.FAST
    True
    """

    FULL = "full"
    """Everything reported as stored is on disk when the run returns."""
    FAST = "fast"
    """Files are whole or absent, but the last seconds may be lost in a power cut."""


class NotConfirmedError(OSError):
    """Files have their names and are whole, but the system could not say that they are on disk."""


class FileStat(NamedTuple):
    """What an open file is: where it lies and how long it is."""

    device: int
    """Number of the device."""
    inode: int
    """Number of the file on that device."""
    size: int
    """Length in bytes."""

    @property
    def file_id(self) -> FileId:
        """The pair (device, inode)."""
        return (self.device, self.inode)


class FolderFacts(NamedTuple):
    """Whose a folder is, and who may use it."""

    owner: int
    """Number of its owner; -1 where there are none."""
    ours: bool
    """Whether that is the user whom this process acts for."""
    mode: int
    """Its permissions, as in ``0o700``."""
    shared: bool
    """Whether all that comes into it is for its group, too."""
    open_to_all: bool
    """Whether anybody may put files there, and take away those of others."""


class Syncer:
    """Collects what must be on disk before a run returns, and puts it there.

    Parameters
    ----------
    durability : {"full", "fast"}
        With "fast" nothing is ever synced.

    Notes
    -----
    Files are synced in batches: when 256 are pending, or when a second has passed since the
    last flush at the moment that a file is committed. There is no thread behind it; whoever
    is about to compute for long calls :meth:`flush_if_due` first.

    Not to be shared between threads; one per run and worker.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with Syncer() as syncer:
    ...     commit(folder / "a", [b"bytes"], syncer)
    True
    >>> syncer.pending
    0
    """

    def __init__(self, durability: Durability | str = Durability.FULL) -> None:
        self.durability = Durability(durability)
        self._files: dict[str, None] = {}
        self._folders: dict[str, None] = {}
        self._known_folders: set[str] = set()
        self._last_flush = time.monotonic()
        self._unconfirmed: NotConfirmedError | None = None

    @property
    def pending(self) -> int:
        """How many files and folders wait to be synced."""
        return len(self._files) + len(self._folders)

    def committed(self, path: str | os.PathLike[str]) -> None:
        """Note a file that has its final name, whoever wrote it, and the folder that holds it.

        Parameters
        ----------
        path : path-like
            The file.

        Raises
        ------
        OSError
            When a flush was due and the disk turned out to be full. What else it finds is raised by the next one.
        """
        if self.durability is Durability.FAST:
            return
        text = os.fspath(path)
        self._files[text] = None
        folder = os.path.dirname(text) or os.curdir
        self._folders[folder] = None
        if folder not in self._known_folders:
            self._note_ancestors(folder)
        try:
            self.flush_if_due()
        except NotConfirmedError as error:
            self.keep(error)

    def keep(self, error: NotConfirmedError) -> None:
        """Keep an error for the next flush to raise.

        Parameters
        ----------
        error : NotConfirmedError
            What a flush raised where it could not be told.
        """
        self._unconfirmed = error

    def folder(self, path: str | os.PathLike[str]) -> None:
        """Note a folder whose names changed.

        Parameters
        ----------
        path : path-like
            The folder.
        """
        if self.durability is Durability.FULL:
            self._folders[os.fspath(path) or os.curdir] = None

    def flush_if_due(self) -> None:
        """Flush when 256 files wait, or when any wait and the last flush is a second old.

        Raises
        ------
        OSError
            When something could not be synced.
        """
        if not self._files:
            return
        waited = time.monotonic() - self._last_flush
        if len(self._files) >= _FLUSH_FILES or waited >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Sync every pending file, then every pending folder.

        What vanished in the meantime is no error. Nothing stays pending, not even what failed:
        after a failed fsync the system calls the pages clean, and a second try would succeed
        without having written them.

        Raises
        ------
        NotConfirmedError
            The first error met, after all the others were tried.
        OSError
            In its place, where it says that the disk is full: on some file systems that is told only now.
        """
        files, folders = list(self._files), list(self._folders)
        self._files.clear()
        self._folders.clear()
        first = _sync_all(files, _SYNC_FILE_FLAGS)
        if _SYNC_FOLDERS:
            first = first or _sync_all(folders, _READ_FLAGS, folders=True)
        self._last_flush = time.monotonic()
        unconfirmed, self._unconfirmed = self._unconfirmed, None
        if first is not None and first.errno in _NO_ROOM:
            raise first
        if first is not None:
            raise NotConfirmedError(first.errno, first.strerror, first.filename)
        if unconfirmed is not None:
            raise unconfirmed

    def __enter__(self) -> Syncer:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush, also when the block raised: what was committed stays committed."""
        if error is None:
            self.flush()
        else:
            with contextlib.suppress(OSError):
                self.flush()

    def _note_ancestors(self, folder: str) -> None:
        # Another process may have made the folders above and not have synced them yet.
        for _ in range(_ANCESTORS):
            self._known_folders.add(folder)
            folder = os.path.dirname(folder)
            if not folder or folder in self._known_folders:
                return
            self._folders[folder] = None


def _sync_all(paths: Sequence[str], flags: int, *, folders: bool = False) -> OSError | None:
    """Sync each path, and return the first error."""

    def sync(path: str) -> OSError | None:
        try:
            _sync_path(path, flags)
        except OSError as error:
            unreadable = folders and error.errno in (errno.EACCES, errno.EPERM)
            return None if error.errno in _GONE or unreadable else error
        return None

    errors = _in_threads(sync, paths) if len(paths) >= _MANY_FILES else map(sync, paths)
    return next((error for error in [*errors] if error is not None), None)


def _in_threads(sync: Callable[[str], OSError | None], paths: Sequence[str]) -> list[OSError | None]:
    # A file system writes what several threads wait for in one go: half the time with four.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        return list(pool.map(sync, paths))


def _sync_path(path: str, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        _sync_fd(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def _sync_fd(fd: int) -> None:
    os.fsync(fd)
    if sys.platform == "darwin":  # there fsync alone stops at the drive's cache
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)


def commit(target: str | os.PathLike[str], buffers: Sequence[Buffer], syncer: Syncer) -> bool:
    """Write a file so that it is there whole, or not at all; never over an existing one.

    Missing folders are made. The target, whoever wrote it, is handed to the syncer.

    Parameters
    ----------
    target : path-like
        The final name.
    buffers : sequence of bytes-like
        The file's bytes, in order. They must not change before this function returns.
    syncer : Syncer
        Takes care that the file is on disk before the run returns.

    Returns
    -------
    bool
        True when this call made the file, False when the name was there already.

    Raises
    ------
    OSError
        When the bytes could not be written. Nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "chunk"
    >>> syncer = Syncer("fast")
    >>> commit(target, [b"first ", b"writer"], syncer)
    True
    >>> commit(target, [b"second"], syncer)
    False
    >>> target.read_bytes()
    b'first writer'
    """
    name = os.fspath(target)
    ours = _committed(name, buffers, syncer, sole=False)
    syncer.committed(name)
    return ours


def claim(target: str | os.PathLike[str], data: bytes) -> bool:
    """Make a small file by one of many that try at once, whatever the file system can do; it is not synced.

    Where nothing can be linked a reader may find the file empty for a moment.

    Parameters
    ----------
    target : path-like
        The file. Missing folders are made.
    data : bytes
        Its content.

    Returns
    -------
    bool
        True when this call made the file, False when the name was there already.

    Raises
    ------
    OSError
        When it could not be written. Nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "claims" / "one"
    >>> claim(target, b"mine"), claim(target, b"yours"), target.read_bytes()
    (True, False, b'mine')
    """
    return _committed(os.fspath(target), [data], None, sole=True)


def _committed(name: str, buffers: Sequence[Buffer], syncer: Syncer | None, *, sole: bool) -> bool:
    folder = os.path.dirname(name)
    for attempt in range(_MAX_FOLDERS):
        try:
            return _commit_once(name, folder, buffers, sole=sole)
        except FileNotFoundError:
            # The folder is not there yet, or was removed before we wrote into it.
            if attempt == _MAX_FOLDERS - 1:
                raise
            make_folder(folder, syncer)
    raise AssertionError("unreachable")


def file_stem(name: str, what: str = "name") -> str:
    """Return a name that files are to begin with, if it can only ever name files in the folder meant.

    Parameters
    ----------
    name : str
        The name.
    what : str
        What messages call it.

    Returns
    -------
    str
        The name as it is.

    Raises
    ------
    SpecError
        Where it is empty, longer than 200 bytes, begins with a dot, or holds a separator or a control character.

    Examples
    --------
    >>> file_stem("exp 001")
    'exp 001'
    >>> file_stem("../exp")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.SpecError: 'name': expected a name for files, without separators and dots in front, ...
    """
    if not isinstance(name, str):
        raise SpecError(f"{what!r}: expected a str, got {type(name).__name__} {name!r}")
    printable = name.replace(" ", "").isprintable() and not any(c in name for c in '/\\:*?"<>|')
    if not name.strip() or not printable or name.startswith(".") or len(name.encode("utf-8", "replace")) > 200:
        raise SpecError(
            f"{what!r}: expected a name for files, without separators and dots in front, got {name!r:.100}"
        )
    return name


def save(
    target: str | os.PathLike[str],
    buffers: Sequence[Buffer],
    durability: Durability | str = Durability.FULL,
    *,
    label: str = "",
) -> None:
    """Write a file in place of the one that has its name: a reader finds the old one or the new one, whole.

    Missing folders are made. Unlike chunk files, what is written here is a user's own file: it gets the mode of
    the file that it replaces, else that which the umask leaves, and a symbolic link is followed.

    Parameters
    ----------
    target : path-like
        The final name.
    buffers : sequence of bytes-like
        The file's bytes, in order.
    durability : {"full", "fast"}
        With "full" the file is on disk when this function returns.
    label : str, optional
        What the name of the unfinished file begins with, after :data:`TEMPORARY_PREFIX`.

    Raises
    ------
    OSError
        When the bytes could not be written. The old file is still there, and nothing else is left behind.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "results.json"
    >>> save(target, [b"{}"])
    >>> save(target, [b"[]"])
    >>> target.read_bytes()
    b'[]'
    """
    full = Durability(durability) is Durability.FULL
    name = os.path.realpath(target)
    folder = os.path.dirname(name)
    os.makedirs(folder, exist_ok=True)
    try:
        mode = stat.S_IMODE(os.stat(name).st_mode)
    except FileNotFoundError:
        mode = None
    _write_in_place(name, buffers, full=full, mode=mode, label=label)
    if full and _SYNC_FOLDERS:
        first = _sync_all([folder], _READ_FLAGS, folders=True)
        if first is not None:
            raise first


def _write_in_place(
    name: str, buffers: Sequence[Buffer], *, full: bool, mode: int | None, label: str = ""
) -> None:
    """Write a file beside another and give it that one's name; without a mode it gets what the umask leaves."""
    temporary = f"{os.path.dirname(name) or os.curdir}/{TEMPORARY_PREFIX}{label}{os.urandom(16).hex()}"
    fd = os.open(temporary, _CREATE_FLAGS, 0o666 if mode is None else 0o600)
    try:
        try:
            if mode is not None:
                _with_mode(fd, mode)
            _write_all(fd, buffers)
            if full:
                _sync_quietly(fd)
        finally:
            os.close(fd)
        os.replace(temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def adopt(source: str | os.PathLike[str], target: str | os.PathLike[str], syncer: Syncer) -> bool:
    """Give a file or folder that somebody else wrote its final name; never over an existing one.

    Parameters
    ----------
    source : path-like
        A finished and synced file, or folder, on the file system of the target.
    target : path-like
        The final name.
    syncer : Syncer
        Takes care that the name is on disk before the run returns.

    Returns
    -------
    bool
        True when the target is what the source was, False when the name was there already.

    Raises
    ------
    OSError
        When it could not be renamed.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "written"
    >>> _ = source.write_bytes(b"bytes")
    >>> adopt(source, source.with_name("final"), Syncer("fast"))
    True
    """
    name, final = os.fspath(source), os.fspath(target)
    if os.path.isdir(name) and not os.path.islink(name):
        if os.path.lexists(final):
            return False
        os.rename(name, final)  # of two folders the second is refused, unless the first is empty
    else:
        ours = _publish(name, final, os.stat(name).st_dev)
        if ours is None:
            raise OSError(errno.EPERM, "the file system neither links nor renames", final)
        if not ours:
            return False
        remove(name)
    syncer.committed(final)
    return True


_METHODS: dict[int, str] = {}
"""How files get their final names on each device where that is not by a link."""


def forget_mounts() -> None:
    """Find out anew what file systems refuse, as a process does that starts."""
    _METHODS.clear()
    _SHARED.clear()


def commit_method(folder: str | os.PathLike[str]) -> str:
    """Find out how files get their final names in a folder, by making one and removing it.

    Parameters
    ----------
    folder : path-like
        The folder; it must be there.

    Returns
    -------
    {"link", "rename", "create"}
        Hard links; renaming; or creating them exclusively, with the head written last.

    Raises
    ------
    OSError
        Where nothing can be written there.

    Examples
    --------
    >>> import tempfile
    >>> commit_method(tempfile.mkdtemp())
    'link'
    """
    device = os.stat(folder).st_dev
    known = _METHODS.pop(device, None)
    target = os.path.join(os.fspath(folder), f"{TEMPORARY_PREFIX}{os.urandom(16).hex()}")
    try:
        _commit_once(target, os.fspath(folder), [b"probe"])
        return _METHODS.get(device, "link")
    finally:
        remove(target)
        if known is not None:
            _METHODS[device] = known


def _commit_once(target: str, folder: str, buffers: Sequence[Buffer], *, sole: bool = False) -> bool:
    folder = folder or os.curdir
    mode = _file_mode(folder)
    method = _METHODS.get(os.stat(folder).st_dev) if _METHODS else None
    if method == "create" or (sole and method is not None):
        return _create_exclusively(target, buffers, mode)
    temporary = f"{folder}/{TEMPORARY_PREFIX}{os.urandom(16).hex()}"
    fd = os.open(temporary, _CREATE_FLAGS, mode)
    try:
        try:
            device = _with_mode(fd, mode)
            _write_all(fd, buffers)
        finally:
            os.close(fd)
        ours = _publish(temporary, target, device, sole)
    finally:
        try:
            os.unlink(temporary)
        except OSError:
            pass
    return _create_exclusively(target, buffers, mode) if ours is None else ours


def _with_mode(fd: int, mode: int) -> int:
    """Give a new file the mode that it shall have, whatever the umask took from it; return its device."""
    status = os.fstat(fd)
    if stat.S_IMODE(status.st_mode) != mode and hasattr(os, "fchmod"):
        try:
            os.fchmod(fd, mode)
        except OSError as error:
            if error.errno not in _NO_MODES:
                raise
    return status.st_dev


def _publish(temporary: str, target: str, device: int, sole: bool = False) -> bool | None:
    """Give the file its final name; None when neither link nor rename can, or only rename could, and may not."""
    if _METHODS.get(device) == "rename":
        return _rename_if_absent(temporary, target, device)
    try:
        os.link(temporary, target)
    except OSError as error:
        # A server may have done it although its answer was lost.
        if _link_count(temporary) >= 2:
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINK:
            raise
        if error.errno not in _REFUSED_HERE:
            _METHODS[device] = "rename"
        return None if sole else _rename_if_absent(temporary, target, device)
    return True


def _link_count(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_nlink
    except OSError:
        return 0


def _rename_if_absent(temporary: str, target: str, device: int) -> bool | None:
    if os.path.lexists(target):
        return False
    try:
        os.rename(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if not os.path.lexists(temporary) and os.path.lexists(target):
            return True  # done, although the answer was lost
        if error.errno not in _NO_LINK:
            raise
        if error.errno not in _REFUSED_HERE:
            _METHODS[device] = "create"
        return None
    return True


def _create_exclusively(target: str, buffers: Sequence[Buffer], mode: int) -> bool:
    """Write in place, the first block last, so that a torn file is seen to be unfinished."""
    try:
        fd = os.open(target, _CREATE_FLAGS, mode)
    except FileExistsError:
        return False
    done = ours = False
    try:
        _with_mode(fd, mode)
        head, rest = _split_head(buffers)
        os.lseek(fd, len(head), os.SEEK_SET)
        _write_all(fd, rest)
        _sync_quietly(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        _write_all(fd, [head])
        done = True
        ours = _is_named(fd, target)
    finally:
        os.close(fd)
        if not done:
            with contextlib.suppress(OSError):
                os.unlink(target)
    return ours or _create_exclusively(target, buffers, mode)


def _is_named(fd: int, path: str) -> bool:
    """Tell whether an open file has that name still; who waited for it in vain may have taken it away."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


# --- modes ---------------------------------------------------------------------------------------------------

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_GROUP_FILE, _GROUP_FOLDER = 0o660, 0o2770
_GROUP_BITS = 0o2070
_NO_MODES = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
"""What file systems say that have no modes."""

_MOST_KNOWN = 4096

_SHARED: dict[str, bool] = {}
"""Folders, and whether they are shared with their group."""


def _is_shared(folder: str) -> bool:
    known = _SHARED.get(folder)
    if known is None:
        known = os.name != "nt" and os.stat(folder).st_mode & _GROUP_BITS == _GROUP_BITS
        if len(_SHARED) >= _MOST_KNOWN:
            _SHARED.clear()
        _SHARED[folder] = known
    return known


def _file_mode(folder: str) -> int:
    return _GROUP_FILE if _is_shared(folder) else _PRIVATE_FILE


def facts_of(folder: str | os.PathLike[str]) -> FolderFacts | None:
    """Tell whose a folder is, and who may use it.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    FolderFacts or None
        None where it is not there.

    Examples
    --------
    >>> import tempfile
    >>> facts = facts_of(tempfile.mkdtemp())
    >>> facts.ours, oct(facts.mode), facts.open_to_all
    (True, '0o700', False)
    """
    try:
        status = os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "nt":
        return FolderFacts(-1, True, mode, False, False)
    open_to_all = bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
    return FolderFacts(status.st_uid, is_ours(status), mode, mode & _GROUP_BITS == _GROUP_BITS, open_to_all)


def read_only_error(place: str | os.PathLike[str]) -> OSError:
    """Return the error that says that nothing is written here on purpose.

    Parameters
    ----------
    place : path-like
        The cache, or its root.

    Returns
    -------
    OSError
        With the number of a file system that can only be read.
    """
    return OSError(errno.EROFS, "it was opened with read_only=True", os.fspath(place))


def share(folder: str | os.PathLike[str]) -> None:
    """Make a folder, or share one that is there: its group may use it, what is in it and what comes into it.

    Parameters
    ----------
    folder : path-like
        The folder; those above it must be there. What others own in it is left as it is.

    Raises
    ------
    OSError
        PermissionError where it belongs to somebody else and is not shared yet.
    """
    _SHARED.clear()
    name = os.fspath(folder)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _PRIVATE_FOLDER)
    if os.name == "nt" or _is_shared(name):
        return
    os.chmod(name, _GROUP_FOLDER)
    for home, folders, files in os.walk(name):
        for names, mode in ((folders, _GROUP_FOLDER), (files, _GROUP_FILE)):
            for each in names:
                with contextlib.suppress(OSError):  # somebody else's, or gone
                    if not os.path.islink(path := os.path.join(home, each)):
                        os.chmod(path, mode)
    _SHARED.clear()


def _sync_quietly(fd: int) -> None:
    try:
        _sync_fd(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _split_head(buffers: Sequence[Buffer]) -> tuple[bytes, list[memoryview]]:
    head = bytearray()
    rest: list[memoryview] = []
    for view in _views(buffers):
        missing = HEAD_SIZE - len(head)
        head += view[:missing]
        rest.append(view[missing:])
    return bytes(head), rest


def _views(buffers: Iterable[Buffer]) -> list[memoryview]:
    return [view for view in (memoryview(buffer).cast("B") for buffer in buffers) if len(view)]


def _write_all(fd: int, buffers: Sequence[Buffer]) -> None:
    """Write every byte; what the system wrote less than asked for is written again."""
    pieces = [
        view[start : start + _MAX_WRITE] for view in _views(buffers) for start in range(0, len(view), _MAX_WRITE)
    ]
    at = 0
    while at < len(pieces):
        written = _write_some(fd, pieces, at)
        if written <= 0:
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
        while at < len(pieces) and written >= len(pieces[at]):
            written -= len(pieces[at])
            at += 1
        if written:
            pieces[at] = pieces[at][written:]


def _write_some(fd: int, pieces: Sequence[memoryview], at: int) -> int:
    if len(pieces) - at == 1 or not hasattr(os, "writev"):
        return os.write(fd, pieces[at])
    batch = [pieces[at]]
    size = len(pieces[at])
    for piece in pieces[at + 1 : at + _MAX_BUFFERS]:
        size += len(piece)
        if size > _MAX_WRITE:
            break
        batch.append(piece)
    return os.writev(fd, batch)


def _retried(action: Callable[[], _T]) -> _T:
    """Try three times what a network file system may refuse once."""
    for _ in range(_MAX_TRIES - 1):
        try:
            return action()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
    return action()


def read_file(path: str | os.PathLike[str], limit: int = 65536) -> tuple[bytes, FileStat]:
    """Read a file from its start, with one open and, as a rule, one read.

    Parameters
    ----------
    path : path-like
        The file.
    limit : int
        At most this many bytes are read.

    Returns
    -------
    data : bytes
        The whole content where the file is no longer than `limit`, else its first `limit` bytes.
    status : FileStat
        Device, inode and full length of the file that was read.

    Raises
    ------
    OSError
        FileNotFoundError where there is no such file. EIO, ESTALE, EINTR and reads that end
        before the file does are tried three times.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "file"
    >>> _ = path.write_bytes(b"0123456789")
    >>> data, status = read_file(path, limit=4)
    >>> data, status.size
    (b'0123', 10)
    """

    def attempt() -> tuple[bytes, FileStat]:
        fd = os.open(path, _READ_FLAGS)
        try:
            status = file_stat(fd)
            return _read_exact(fd, min(status.size, limit)), status
        finally:
            os.close(fd)

    return _retried(attempt)


def read_private(path: str | os.PathLike[str], limit: int) -> tuple[bytes, os.stat_result]:
    """Read a small file that must be no symbolic link, with what is known of the very file that was read.

    Parameters
    ----------
    path : path-like
        The file.
    limit : int
        At most this many bytes are read.

    Returns
    -------
    data : bytes
        Its first bytes.
    status : os.stat_result
        Owner, mode and the like.

    Raises
    ------
    OSError
        ELOOP (on some systems EMLINK) where it is a symbolic link; FileNotFoundError where there is none.
    """
    if os.name == "nt" and os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    fd = os.open(path, _READ_FLAGS | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(fd)
        return os.read(fd, limit) if stat.S_ISREG(status.st_mode) else b"", status
    finally:
        os.close(fd)


def is_ours(status: os.stat_result) -> bool:
    """Tell whether a file or folder belongs to this user; on Windows that is not looked at.

    Parameters
    ----------
    status : os.stat_result
        What is known of it.

    Returns
    -------
    bool
        Whether its owner is the user that this process acts for.
    """
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def read_start(path: str, count: int, size: int) -> bytes | None:
    """Read the first bytes of a file of known length with one read, if that is all it takes.

    Parameters
    ----------
    path : str
        The file.
    count : int
        So many bytes are read.
    size : int
        The length that the file is expected to have.

    Returns
    -------
    bytes or None
        The bytes; None where the file is not there, cannot be read just now, or has another length.
    """
    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            data = os.read(fd, count)
            return data if len(data) == count and os.lseek(fd, 0, 2) == size else None
        finally:
            os.close(fd)
    except OSError:
        return None


def read_each(folder: str, names: Iterable[str], places: Iterable[Sequence[memoryview]], size: int) -> list[int]:
    """Read the starts of many small files, each with one read.

    They are opened relative to their folder, whose path is then walked once and not for each of them.

    Parameters
    ----------
    folder : str
        The folder that the names are relative to.
    names : iterable of str
        The files.
    places : iterable of sequence of memoryview
        For each file where its bytes go: one writable buffer in a sequence.
    size : int
        The length that each file is expected to have.

    Returns
    -------
    list of int
        For each file how many bytes were read; -1 where there is none, -2 where it could not be read or has
        another length.
    """
    try:
        home = os.open(folder, _READ_FLAGS) if _RELATIVE else None
    except (FileNotFoundError, NotADirectoryError):
        return [-1 for _ in names]
    except OSError:
        return [-2 for _ in names]
    try:
        wanted = names if home is not None else (os.path.join(folder, name) for name in names)
        return _read_each(home, wanted, places, size)
    finally:
        if home is not None:
            os.close(home)


def _read_each(
    home: int | None, names: Iterable[str], places: Iterable[Sequence[memoryview]], size: int
) -> list[int]:
    opened, read, seek, closed = os.open, getattr(os, "readv", _read_with_copy), os.lseek, os.close
    counts = []
    for name, place in zip(names, places, strict=False):
        try:
            fd = opened(name, _READ_FLAGS, dir_fd=home)
        except (FileNotFoundError, NotADirectoryError):
            counts.append(-1)
            continue
        except OSError:
            counts.append(-2)
            continue
        try:
            count = read(fd, place)
            counts.append(count if seek(fd, 0, 2) == size else -2)
        except OSError:
            counts.append(-2)
        finally:
            closed(fd)
    return counts


def _read_with_copy(fd: int, place: Sequence[memoryview]) -> int:
    data = os.read(fd, len(place[0]))
    place[0][: len(data)] = data
    return len(data)


def _read_exact(fd: int, count: int) -> bytes:
    data = os.read(fd, count)
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            raise _short_read(count, len(data))
        data += more
    return data


def _short_read(count: int, got: int) -> OSError:
    return OSError(errno.EIO, f"a read of {count} bytes ended after {got}")


def open_for_reading(path: str | os.PathLike[str]) -> int:
    """Open a file for :func:`pread_exact` and :func:`pread_into`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    int
        A file descriptor, to be given to :func:`close`.

    Raises
    ------
    OSError
        FileNotFoundError where there is no such file.
    """
    return _retried(lambda: os.open(path, _READ_FLAGS))


def file_stat(fd: int) -> FileStat:
    """Look up device, inode and length of an open file.

    Parameters
    ----------
    fd : int
        A file descriptor.

    Returns
    -------
    FileStat
        Device, inode and length in bytes.
    """
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return FileStat(status.st_dev, status.st_ino, status.st_size)


def close(fd: int) -> None:
    """Close a file descriptor that was open for reading only.

    Parameters
    ----------
    fd : int
        A file descriptor.
    """
    with contextlib.suppress(OSError):
        os.close(fd)


def pread_exact(fd: int, count: int, offset: int) -> bytes:
    """Read so many bytes from a place in an open file.

    Parameters
    ----------
    fd : int
        A file descriptor.
    count : int
        Bytes to read.
    offset : int
        Where the first of them lies, in bytes from the start of the file.

    Returns
    -------
    bytes
        Exactly `count` bytes.

    Raises
    ------
    OSError
        EIO where the file ends before; tried three times first, as EIO, ESTALE and EINTR are.
    """
    buffer = bytearray(count)
    pread_into(fd, buffer, offset)
    return bytes(buffer)


def pread_into(fd: int, buffer: Buffer, offset: int) -> None:
    """Fill a buffer from a place in an open file.

    Parameters
    ----------
    fd : int
        A file descriptor.
    buffer : writable bytes-like
        What is to be filled.
    offset : int
        Where its first byte lies, in bytes from the start of the file.

    Raises
    ------
    OSError
        EIO where the file ends before; tried three times first, as EIO, ESTALE and EINTR are.
    """
    view = memoryview(buffer).cast("B")

    def attempt() -> None:
        done = 0
        while done < len(view):
            got = _pread_some(fd, view[done : done + _MAX_WRITE], offset + done)
            if not got:
                raise _short_read(len(view), done)
            done += got

    _retried(attempt)


def _pread_some(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    if hasattr(os, "pread"):
        data = os.pread(fd, len(view), offset)
    else:  # Windows: the descriptor belongs to one reader, so that seeking disturbs nobody
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def quarantine(path: Path, folder: Path, seen: FileId, is_good: Callable[[Path], bool]) -> Path | None:
    """Move a damaged file aside, if it still is the one that was seen to be damaged.

    The moved file is verified again and put back if it is good after all, as when another
    writer had replaced it in between. A file that cannot be read then is put back, too: an
    error of the device is no damage.

    Parameters
    ----------
    path : pathlib.Path
        The damaged file.
    folder : pathlib.Path
        Where it goes, on the same file system; made if needed.
    seen : (int, int)
        Device and inode of the file that was read.
    is_good : callable
        Called with the path of the moved file; True when it is intact.

    Returns
    -------
    pathlib.Path or None
        Where the damaged file lies now; None when nothing was moved for good: the file is gone,
        is another one, is good after all, or may not be renamed.
    """
    moved = folder / f"{path.name}.{os.urandom(8).hex()}"
    try:
        status = os.stat(path, follow_symlinks=False)
        if (status.st_dev, status.st_ino) != seen:
            return None
        make_folder(folder)
        os.rename(path, moved)
    except OSError:
        return None
    try:
        good = is_good(moved)
    except OSError:
        good = True
    return _put_back(moved, path) if good else moved


def _put_back(moved: Path, path: Path) -> Path | None:
    try:
        os.link(moved, path)
    except FileExistsError:
        pass  # somebody wrote the file anew in the meantime; one good file is enough
    except OSError:
        return _rename_back(moved, path)
    remove(moved)
    return None


def _rename_back(moved: Path, path: Path) -> Path | None:
    try:
        if os.path.lexists(path):
            os.unlink(moved)
        else:
            os.rename(moved, path)
    except OSError:
        return moved
    return None


def list_folder(path: str | os.PathLike[str]) -> list[str]:
    """List the names in a folder, in no particular order.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    list of str
        Its names; none where there is no such folder.

    Examples
    --------
    >>> list_folder("/no/such/folder")
    []
    """
    try:
        return _retried(lambda: os.listdir(path))
    except FileNotFoundError:
        return []


def is_there(path: str | os.PathLike[str]) -> bool:
    """Tell whether something has that name; where that cannot be told, it may.

    Parameters
    ----------
    path : path-like
        The name.

    Returns
    -------
    bool
        False only where there is no such name.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def identity_of(path: str | os.PathLike[str]) -> FileId | None:
    """Return what tells the file of a name from others that had it, or will.

    Parameters
    ----------
    path : path-like
        The name.

    Returns
    -------
    (int, int) or None
        Device and inode; None where there is no such name.
    """
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file, if it is there.

    Parameters
    ----------
    path : path-like
        The file.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """Read all of a small file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    OSError
        FileNotFoundError where there is no such file, or where its head is still to be written by whoever
        creates it exclusively: such a file is absent while it is young.
    """
    data = read_file(path, sys.maxsize)[0]
    if not any(data[:8]) and writes_in_place(os.path.dirname(path) or os.curdir):
        seen = look_at(path)
        if seen is not None and time.time() - seen.modified < _YOUNG:
            raise FileNotFoundError(errno.ENOENT, "it is still being written", os.fspath(path))
    return data


def modified_at(path: str | os.PathLike[str]) -> int | None:
    """Return when a file or folder was last changed.

    Parameters
    ----------
    path : path-like
        The file or folder.

    Returns
    -------
    int or None
        Nanoseconds since 1970-01-01 UTC by the file system's clock; None where it is not there.
    """
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Remove a folder, if it is there and empty.

    Parameters
    ----------
    path : path-like
        The folder.
    """
    with contextlib.suppress(OSError):
        os.rmdir(path)


def make_folder(path: str | os.PathLike[str], syncer: Syncer | None = None) -> None:
    """Make a folder and those above it, for this user only (mode 0700), or for the group where the one above is.

    Parameters
    ----------
    path : path-like
        The folder; it may be there already.
    syncer : Syncer, optional
        Told of each folder that got a new name in it.

    Raises
    ------
    OSError
        FileExistsError where a file has that name, PermissionError where no folder can be made.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "a" / "b"
    >>> make_folder(folder)
    >>> folder.is_dir()
    True
    """
    name = os.fspath(path)
    for _ in range(_MOST_ATTEMPTS):
        try:
            _make_one_folder(name)
        except FileExistsError:
            if _is_no_folder(name):
                raise
            return
        except FileNotFoundError:  # the one above is not there, or was removed since it was made
            parent = os.path.dirname(name)
            if parent in ("", name):
                raise
            make_folder(parent, syncer)
        else:
            if syncer is not None:
                syncer.folder(os.path.dirname(name))
            return
    raise PermissionError(errno.EPERM, "its file system makes no folders there", name)


_MOST_ATTEMPTS = 100
"""So often a folder is tried for whose parent is gone again; in ``/proc`` none is ever made."""


def _make_one_folder(name: str) -> None:
    os.mkdir(name, _PRIVATE_FOLDER)
    if os.name == "nt":
        return
    _SHARED.pop(name, None)
    try:
        wanted = _GROUP_FOLDER if _is_shared(os.path.dirname(name) or os.curdir) else _PRIVATE_FOLDER
        have = stat.S_IMODE(os.stat(name).st_mode)
        if have | 0o2000 != wanted | 0o2000:
            os.chmod(name, wanted)
    except OSError as error:
        if error.errno not in _NO_MODES and not isinstance(error, FileNotFoundError):
            raise


def _is_no_folder(path: str) -> bool:
    """Tell whether something else has that name; what was removed in the meantime is not there."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


# --- small calls: for those who look after folders, rather than read and write chunks ------------------------


class Seen(NamedTuple):
    """What a name stands for."""

    file_id: FileId
    """Device and inode."""
    size: int
    """Length in bytes."""
    modified: float
    """Seconds since 1970-01-01 UTC by the file system's clock."""
    mode: int
    """Kind and permissions, as ``stat`` gives them."""
    owner: int
    """The user's number."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file."""
        return stat.S_ISREG(self.mode)


def look_at(path: str | os.PathLike[str], *, follow: bool = True) -> Seen | None:
    """Look at a name without opening what it stands for.

    Parameters
    ----------
    path : path-like
        The name.
    follow : bool, default True
        Whether to look at what a symbolic link leads to, rather than at the link.

    Returns
    -------
    Seen or None
        What is there; None where nothing is, or where it may not be looked at.

    Examples
    --------
    >>> look_at("/no/such/file") is None
    True
    """
    try:
        status = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    return Seen((status.st_dev, status.st_ino), status.st_size, status.st_mtime, status.st_mode, status.st_uid)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether a name stands for a folder.

    Parameters
    ----------
    path : path-like
        The name.

    Returns
    -------
    bool
        Whether it does.
    """
    seen = look_at(path)
    return seen is not None and seen.is_folder


def some_names(folder: str | os.PathLike[str], limit: int) -> list[str]:
    """List the names in a folder, of more than so many only one more than that.

    Parameters
    ----------
    folder : path-like
        The folder.
    limit : int
        How many are wanted.

    Returns
    -------
    list of str
        Names, in no particular order; none where there is no such folder.
    """
    if limit > _MANY_NAMES:
        return list_folder(folder)
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, min(limit + 1, sys.maxsize))]
    except FileNotFoundError:
        return []
    except OSError:
        return list_folder(folder)  # which tries again


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Iterate over a folder and those below it; symbolic links are not followed.

    Parameters
    ----------
    folder : path-like
        The folder.

    Yields
    ------
    tuple of str, list of str, list of str
        A folder, the names of the folders in it, and all its other names, both sorted. What vanishes meanwhile
        is passed over.
    """
    left = [os.fspath(folder)]
    while left:
        here = left.pop()
        folders: list[str] = []
        others: list[str] = []
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        except OSError:
            continue
        yield here, sorted(folders), sorted(others)
        left += [os.path.join(here, name) for name in sorted(folders, reverse=True)]


def rename(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> None:
    """Give a file or folder another name.

    Parameters
    ----------
    path : path-like
        The name that it has.
    other : path-like
        The name that it gets.

    Raises
    ------
    OSError
        FileNotFoundError where it is gone.
    """
    os.rename(path, other)


def link(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> None:
    """Give a file a second name, if that is free.

    Parameters
    ----------
    path : path-like
        The name that it has.
    other : path-like
        The name that it gets.

    Raises
    ------
    OSError
        FileExistsError where the name is taken.
    """
    os.link(path, other)


def writes_in_place(folder: str | os.PathLike[str]) -> bool:
    """Tell whether this process found that files cannot get their names there but by being created with them.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    bool
        Whether a file without its head may be one that somebody is writing.
    """
    try:
        return _METHODS.get(os.stat(folder).st_dev) == "create"
    except OSError:
        return True


def replace(path: str | os.PathLike[str], buffers: Sequence[Buffer], syncer: Syncer) -> None:
    """Write a file over the one that has its name; one of both is there whole at every moment.

    Parameters
    ----------
    path : path-like
        The file.
    buffers : sequence of bytes-like
        Its new bytes, in order.
    syncer : Syncer
        With it the new file is on disk before the old one goes.

    Raises
    ------
    OSError
        When the bytes could not be written, or files cannot be renamed there. The old file stays.
    """
    name = os.fspath(path)
    mode = _file_mode(os.path.dirname(name) or os.curdir)
    _write_in_place(name, buffers, full=syncer.durability is Durability.FULL, mode=mode)
    syncer.committed(name)


def touch(path: str | os.PathLike[str]) -> None:
    """Give a file the present time.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    OSError
        FileNotFoundError where it is gone.
    """
    os.utime(path)


def now(folder: str | os.PathLike[str]) -> float:
    """Return the time by the clock of the file system, which may be another machine's.

    Parameters
    ----------
    folder : path-like
        A folder on it; where nothing can be written there it is this machine's clock.

    Returns
    -------
    float
        Seconds since 1970-01-01 UTC, to be compared with :attr:`Seen.modified`.
    """
    probe = f"{os.fspath(folder)}/{TEMPORARY_PREFIX}{os.urandom(16).hex()}"
    try:
        os.close(os.open(probe, _CREATE_FLAGS, _PRIVATE_FILE))
    except OSError:
        return time.time()
    seen = look_at(probe)
    with contextlib.suppress(OSError):
        os.unlink(probe)
    return time.time() if seen is None else seen.modified


def write_over(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a small file over the one that has its name; whole at every moment, but not synced.

    Nothing is raised where that fails: the file stays as it was. The folder is made, those above it are not.

    Parameters
    ----------
    path : path-like
        The file.
    data : bytes
        Its content.
    """
    name = os.fspath(path)
    folder = os.path.dirname(name)
    with contextlib.suppress(OSError):
        if not is_there(folder) and is_there(os.path.dirname(folder)):
            make_folder(folder)
        _write_in_place(name, [data], full=False, mode=_file_mode(folder))


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that can be done.

    Parameters
    ----------
    path : path-like
        The folder.
    """
    for folder, _, names in [*walk(path)][::-1]:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
        remove_folder(folder)


class Volume(NamedTuple):
    """What is left on a file system for this user."""

    free_bytes: int
    """Bytes that can still be written."""
    free_files: int | None
    """Files that can still be made; None where the file system has no limit of its own, or does not say."""
    longest_name: int | None
    """Bytes that a file's name may have; None where the file system does not say."""


def volume(folder: str | os.PathLike[str]) -> Volume:
    """Ask what is left on the file system of a folder.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    Volume
        What is left.
    """
    if not hasattr(os, "statvfs"):  # Windows
        import shutil

        return Volume(shutil.disk_usage(folder).free, None, None)
    told = os.statvfs(folder)
    return Volume(told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None, told.f_namemax)
