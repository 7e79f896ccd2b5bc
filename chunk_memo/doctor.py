"""What a file system can do, found out by doing it: the same calls that a run makes, in a folder of their own.

A cluster's file system may lack hard links, lie about fsync, or show a new file to another process late. None of
that makes a result wrong, but it decides how files are committed and what a power cut may cost; so it is worth
one look before a sweep of a week. Everything happens in one new folder inside the one that is asked about, and
that folder is removed again.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.disk.mounts import NETWORK, file_system
from chunk_memo.errors import RootError

__all__ = ["Examination", "Probe", "examine"]

_GOOD, _NOTE, _BAD = "good", "note", "bad"
_BLOCK = bytes(range(256)) * 4096  # 1 MiB
_SKEW = 2.0  # seconds by which clocks may differ before it is worth a word
_LATE = 1.0  # seconds after which another process should have seen a file
_PATIENCE = 30.0
_LITTLE_SPACE = 1 << 30
_FEW_FILES = 10_000

_ASYNC = "an export with the option 'async' loses what was synced when the server fails"
_EMULATED = "hard links and modes are emulated"
_HINTS = {
    "nfs": _ASYNC,
    "nfs4": _ASYNC,
    "cifs": _EMULATED,
    "smb3": _EMULATED,
    "fuse.sshfs": "it is slow for many small files, and what another client wrote shows late",
    "lustre": "each small file costs its metadata server several calls: prefer larger chunks",
    "overlay": "what a container writes there goes with it: mount a volume",
    "tmpfs": "it is memory: everything is gone after a restart",
}

_WATCHER = """
import os, sys, time
path, answer, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
print("ready", flush=True)
end = time.monotonic() + patience
while time.monotonic() < end:
    try:
        whole = os.stat(path).st_size == 5
    except OSError:
        whole = False
    if whole:
        with open(path, "rb") as file:
            data = file.read()
        print(time.time(), data.decode(), flush=True)
        with open(answer, "xb") as file:
            file.write(b"world")
        break
    time.sleep(0.001)
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that was tried."""

    name: str
    """What."""
    verdict: str
    """``good``; ``note``: it works with less than the best; ``bad``: results cannot be kept there as they are."""
    what: str
    """What was found."""
    way_out: str = ""
    """What can be done about it."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about a folder.

    Examples
    --------
    >>> import tempfile
    >>> found = examine(tempfile.mkdtemp())
    >>> found.mode in ("link", "rename", "exclusive create")
    True
    """

    folder: str
    """The folder."""
    mode: str
    """How files are committed there: ``link``, ``rename`` or ``exclusive create``; ``read only``, or ``none``."""
    probes: tuple[Probe, ...]
    """What was tried, in this order."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing stands in the way of keeping results there."""
        return not any(probe.verdict == _BAD for probe in self.probes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields, and ``is_sound``.
        """
        return {**asdict(self), "is_sound": self.is_sound}


def examine(folder: str | os.PathLike[str]) -> Examination:
    """Find out what the file system of a folder can do, by trying it.

    Parameters
    ----------
    folder : path-like
        The folder, such as a root or where one is to be.

    Returns
    -------
    Examination
        What was found.

    Raises
    ------
    RootError
        Where there is no such folder.
    """
    path = Path(os.path.realpath(folder))
    seen = files.look_at(path)
    if seen is None or not seen.is_folder:
        raise RootError(
            errno.ENOENT, f"'{folder}' does not exist or is no folder; make it first: mkdir '{folder}'"
        )
    probes = [_file_system(path), _owner(path, seen), _space(path)]
    inside = path / f"{files.TEMPORARY_PREFIX}{os.urandom(16).hex()}"
    try:
        files.make_folder(inside)
    except OSError as error:
        why = error.strerror or str(error)
        probes.append(Probe("write", _NOTE, f"nothing can be written there ({why})", "what is stored is served"))
        return Examination(os.fspath(folder), "read only", tuple(probes))
    try:
        mode, committing = _committing(inside)
        probes += [*committing, *_syncing(inside), _modes(inside), _clock(inside), *_other_process(inside)]
    finally:
        files.remove_tree(inside)
    return Examination(os.fspath(folder), mode, tuple(probes))


# --- what it is ----------------------------------------------------------------------------------------------


def _file_system(folder: Path) -> Probe:
    kind = file_system(folder)
    if kind is None:
        return Probe("file system", _NOTE, "its type cannot be told on this system")
    hint = _HINTS.get(kind, "")
    what = f"{NETWORK[kind]} ({kind}), which other machines may write to" if kind in NETWORK else kind
    return Probe("file system", _NOTE if hint else _GOOD, what, hint)


def _owner(folder: Path, seen: files.Seen) -> Probe:
    mode = stat.filemode(seen.mode)
    mine = not hasattr(os, "geteuid") or seen.owner == os.geteuid()
    if seen.mode & stat.S_IWOTH and not seen.mode & stat.S_ISVTX:
        return Probe(
            "owner",
            _BAD,
            f"everybody may replace files there ({mode})",
            f"chmod o-w '{folder}', or another folder",
        )
    if not mine:
        return Probe(
            "owner", _NOTE, f"it belongs to user {seen.owner} ({mode})", "what is stored there is served"
        )
    if seen.mode & stat.S_IWOTH:
        return Probe(
            "owner", _NOTE, f"everybody may write there ({mode})", "use a folder of your own inside of it"
        )
    return Probe("owner", _GOOD, f"it is yours ({mode})")


def _space(folder: Path) -> Probe:
    try:
        left = files.volume(folder)
    except OSError as error:
        return Probe("space", _NOTE, f"it cannot be told ({error.strerror})")
    count = "" if left.free_files is None else f", {left.free_files:,} files"
    what = f"{left.free_bytes / 1e9:,.1f} GB{count} can be written"
    few = left.free_files is not None and left.free_files < _FEW_FILES
    if left.longest_name is not None and left.longest_name < 200:
        return Probe("space", _BAD, f"names may have {left.longest_name} bytes only", "another file system")
    return Probe("space", _NOTE if few or left.free_bytes < _LITTLE_SPACE else _GOOD, what)


# --- what it does --------------------------------------------------------------------------------------------


def _tried(action: Callable[[], object]) -> OSError | None:
    try:
        action()
    except OSError as error:
        return error
    return None


def _said(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"


def _committing(folder: Path) -> tuple[str, Iterator[Probe]]:
    """Try how a file gets its name; return the way that runs will take, too."""
    probes = []
    source, taken = folder / "source", folder / "taken"
    with files.Syncer("fast") as syncer:
        files.commit(source, [b"source"], syncer)
        files.commit(taken, [b"taken"], syncer)
    refused = _tried(lambda: files.link(source, folder / "linked"))
    over = _tried(lambda: files.link(source, taken))
    if refused is not None:
        probes.append(
            Probe("link", _NOTE, f"hard links are refused ({_said(refused)})", "files are renamed instead")
        )
    elif not isinstance(over, FileExistsError):
        what = "a link replaced a file" if over is None else f"a taken name gives {_said(over)}"
        probes.append(Probe("link", _BAD, what, "another file system: the first writer would not win"))
    else:
        probes.append(Probe("link", _GOOD, "hard links work, and none replaces a file"))
    renamed = _tried(lambda: files.rename(source, folder / "renamed"))
    if renamed is not None:
        probes.append(
            Probe("rename", _NOTE, f"renaming is refused ({_said(renamed)})", "damaged files stay where they are")
        )
    else:
        probes.append(Probe("rename", _GOOD, "files can be renamed, so damaged ones are set aside"))
    with files.Syncer("fast") as syncer:
        kept = not files.commit(taken, [b"second"], syncer) and files.read_whole(taken) == b"taken"
        fresh = files.commit(folder / "fresh", [_BLOCK], syncer)
    whole = fresh and files.read_whole(folder / "fresh") == _BLOCK
    probes.append(
        Probe("commit", _GOOD, "files are whole or absent, and the first writer's stays")
        if kept and whole
        else Probe("commit", _BAD, "a file came back otherwise than it was written", "another file system")
    )
    mode = "link" if refused is None else "rename" if renamed is None else "exclusive create"
    return mode, iter(probes)


def _syncing(folder: Path) -> Iterator[Probe]:
    started = time.perf_counter()
    with files.Syncer("fast") as fast:
        files.commit(folder / "written", [_BLOCK], fast)
    written = time.perf_counter() - started
    started = time.perf_counter()

    def synced() -> None:
        with files.Syncer("full") as syncer:
            syncer.committed(folder / "written")

    error = _tried(synced)
    seconds = time.perf_counter() - started
    if error is not None:
        yield Probe("fsync", _BAD, f"files cannot be synced ({_said(error)})", 'pass durability="fast"')
    else:
        what = f"1 MB is written in {1e3 * written:.1f} ms, and on disk after {1e3 * seconds:.1f} ms more"
        yield Probe("fsync", _GOOD if seconds < 1 else _NOTE, what)


def _modes(folder: Path) -> Probe:
    seen = files.look_at(folder / "fresh")
    inner = files.look_at(folder)
    bits = [stat.S_IMODE(each.mode) & 0o077 for each in (seen, inner) if each is not None]
    if any(bits):
        return Probe(
            "modes", _NOTE, "new files can be read by others, whatever was asked for", "a private folder"
        )
    return Probe("modes", _GOOD, "new files are for you only")


def _clock(folder: Path) -> Probe:
    before = time.time()
    there = files.now(folder)
    after = time.time()
    skew = min(0.0, there - before) + max(0.0, there - after)
    if abs(skew) > _SKEW:
        what = f"the clock of the file system is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
        return Probe("clock", _NOTE, what, "ages are taken by its own clock, so nothing is wrong")
    return Probe("clock", _GOOD, "the clock of the file system is that of this machine")


def _other_process(folder: Path) -> Iterator[Probe]:
    """Let another process wait for a file, and answer with one."""
    path, answer = folder / "hello", folder / "answer"
    command = [sys.executable, "-c", _WATCHER, os.fspath(path), os.fspath(answer), str(_PATIENCE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watcher:
        assert watcher.stdout is not None
        if watcher.stdout.readline() != "ready\n":
            yield Probe("visibility", _NOTE, "no second process could be started")
            return
        with files.Syncer("fast") as syncer:
            files.commit(path, [b"hello"], syncer)
        committed = time.time()
        said = watcher.stdout.readline().split()
        heard = files.is_there(answer) and files.read_whole(answer) == b"world"
    if len(said) != 2 or said[1] != "hello":
        yield Probe(
            "visibility",
            _NOTE,
            f"another process saw no new file for {_PATIENCE:.0f} s",
            "work may be done twice",
        )
        return
    seconds = max(0.0, float(said[0]) - committed)
    late = seconds > _LATE or not heard
    what = f"another process of this machine sees a new file after {1e3 * seconds:.0f} ms"
    yield Probe("visibility", _NOTE if late else _GOOD, what, "work may be done twice" if late else "")
