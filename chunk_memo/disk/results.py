"""Result files of whole runs: written in a folder of their own, committed whole, known again by a mark.

A runner writes to ``<results_dir>/.runs/<token>/``; nothing of it is seen until the file, or the folder, that it
wrote is moved to its final name. A lease of that token says that the run is alive: what a killed one leaves
behind is removed by the next store that runs something.

Between a result's final name and its record in an index a process may be killed, and the index may fail. So a
*note*, ``<results_dir>/.runs/notes/<name of the result>.json``, is written before the result gets its name: it
holds the whole record, and is removed once that is inserted. What a note whose run is not alive any more says of
a result that is there, whole, is what the killed process was about to record. Notes are not synced, which would
take a third of the time of a small run; after a power cut such a run may have to be made again. A result without
note and record is nobody's to judge: ``delete`` leaves files on purpose.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from chunk_memo.disk import files
from chunk_memo.disk.leases import Leases
from chunk_memo.disk.sealing import DAMAGE, sealed, unsealed
from chunk_memo.errors import MetadataError
from chunk_memo.runs import FileMark, RunFailure, RunRecord

__all__ = [
    "Note",
    "Workplace",
    "claims",
    "clear_remains",
    "drop_failure",
    "drop_note",
    "failures",
    "has_its_bytes",
    "has_note",
    "mark_of",
    "notes",
    "save_failure",
    "sweep_up",
    "what_is_wrong",
    "workplace",
]

_RUNS = ".runs"
_NOTES, _LEASES = "notes", "leases"
_FAILURES = ".failures"
_BLOCK = 1 << 20
_MAX_TRIES = 100
_OLD = 3600.0
_known: dict[tuple[str, int, int], str] = {}
"""Digests that were taken in this process, by path, length and time."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where one run writes."""

    folder: Path
    """A folder of its own."""
    path: Path
    """The file in it that the runner is given."""
    results_dir: Path
    """Where results lie."""
    name: str
    """The name of the result without its suffix."""
    params_hash: str
    """What that name ends with."""

    def written(self) -> bool:
        """Tell whether the runner wrote anything.

        Returns
        -------
        bool
            Whether the folder holds anything.
        """
        return bool(files.list_folder(self.folder))

    def commit(self, describe: Callable[[Path, FileMark], RunRecord]) -> RunRecord:
        """Give what the runner wrote its final name, after noting down what is to be recorded of it.

        That is the file, or folder, of the name that the runner was given; else the only one that it wrote, such
        as ``….h5.npy`` of ``np.save``, with the suffix that this has; else the whole folder. Other files beside
        the first go along under names that begin like its own.

        Parameters
        ----------
        describe : callable
            ``(path, mark) -> record``: what is to be recorded of a result that lies there, and is known by that.

        Returns
        -------
        RunRecord
            What was described, with the path where the result lies now; its note is there until the record is.

        Raises
        ------
        OSError
            Where it could not be moved or synced.
        """
        source, suffix = self._result()
        beside = [] if source == self.folder else [each for each in self.folder.iterdir() if each != source]
        with files.Syncer() as syncer:
            for path in _all_files(source):
                syncer.committed(path)
            syncer.flush()  # the bytes first, then the name
            mark, name = mark_of(source), self.name
            while files.is_there(self.results_dir / f"{name}{suffix}"):
                name = _result_name(self.params_hash)  # two of the same microsecond
            for extra in beside:  # first, as with its own name a result counts as whole
                rest = extra.name.removeprefix(self.name)
                extra_name = f"{name}{rest}" if rest != extra.name else f"{name}_{rest}"
                files.adopt(extra, self.results_dir / extra_name, syncer)
            while True:
                record = describe(self.results_dir / f"{name}{suffix}", mark)
                self._note(record)
                if files.adopt(source, record.result_path, syncer):
                    break
                drop_note(self.results_dir, record.result_path)
                name = _result_name(self.params_hash)  # taken since
        return record

    def _note(self, record: RunRecord) -> None:
        """Note down what is to be recorded, for as long as the machine lives."""
        content = {**record.to_dict(), "result_path": record.result_path.name}
        path = _note_path(self.results_dir, record.result_path)
        files.commit(path, [sealed({"token": self.folder.name, "record": content})], files.Syncer("fast"))

    def _result(self) -> tuple[Path, str]:
        """Return what the runner wrote, and its suffix."""
        given = self.path.suffix if self.path.name != self.name else ""
        if os.path.lexists(self.path):
            return self.path, self.path.name[len(self.name) :]
        found = list(self.folder.iterdir())
        if len(found) != 1:
            return self.folder, ""
        (only,) = found
        if only.name.startswith(self.path.name) and len(only.name) > len(self.path.name):
            return only, only.name[len(self.path.name) :]  # a writer put its own suffix behind ours
        if only.name.startswith(f"{self.name}."):
            return only, only.name[len(self.name) :]
        return only, only.suffix or given


def claims(results_dir: Path) -> Leases:
    """Return the claims of those that run something for a store.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.

    Returns
    -------
    Leases
        Claims on hashes of params, and on work places.
    """
    return Leases(results_dir / _RUNS)


@dataclass(frozen=True, slots=True)
class Note:
    """What a process was about to record."""

    token: str
    """The claim that the process held while it ran."""
    record: RunRecord
    """The record; its path is absolute."""


def _note_path(results_dir: Path, result_path: Path) -> Path:
    return results_dir / _RUNS / _NOTES / f"{result_path.name}.json"


def notes(results_dir: Path, params_hash: str = "") -> Iterator[Note]:
    """Iterate over the notes of results that are not recorded yet, as far as those are known.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    params_hash : str, optional
        Only notes of this hash.

    Yields
    ------
    Note
        One note; those that are damaged are passed over.
    """
    folder = results_dir / _RUNS / _NOTES
    for name in sorted(files.list_folder(folder)):
        note = _read_note(results_dir, name) if params_hash in name and name.endswith(".json") else None
        if note is not None:
            yield note


def _read_note(results_dir: Path, name: str) -> Note | None:
    try:
        document, _ = unsealed(files.read_whole(results_dir / _RUNS / _NOTES / name))
        record = RunRecord.from_dict(document["record"]).located(results_dir)
        path = record.result_path
        is_its_own = name == f"{path.name}.json" and path.parent == results_dir
        return Note(str(document["token"]), record) if is_its_own else None
    except (OSError, MetadataError, *DAMAGE):
        return None


def has_note(results_dir: Path, result_path: Path) -> bool:
    """Tell whether a result is noted down as one that is to be recorded.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    result_path : pathlib.Path
        The result.

    Returns
    -------
    bool
        Whether there is a note.
    """
    return files.is_there(_note_path(results_dir, result_path))


def drop_note(results_dir: Path, result_path: Path) -> None:
    """Remove the note of a result, because it is recorded now, or never will be.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    result_path : pathlib.Path
        The result.
    """
    with contextlib.suppress(OSError):  # another process did, or nothing may be removed there
        files.remove(_note_path(results_dir, result_path))


@contextlib.contextmanager
def workplace(results_dir: Path, params_hash: str, suffix: str) -> Iterator[Workplace]:
    """Make a place for one run to write to; what is left in it is removed in the end.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    params_hash : str
        What the name of the result ends with.
    suffix : str
        Its suffix.

    Yields
    ------
    Workplace
        The place.
    """
    leases, token = claims(results_dir), os.urandom(16).hex()
    lease = leases.claim(token)
    folder = results_dir / _RUNS / token
    try:
        _make(folder)
        name = _result_name(params_hash)
        yield Workplace(folder, folder / f"{name}{suffix}", results_dir, name, params_hash)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lease is not None:
            lease.release()
        sweep_up(results_dir)


def _result_name(params_hash: str) -> str:
    return f"{time.time():.6f}_{params_hash}"


def _make(folder: Path) -> None:
    for attempt in range(_MAX_TRIES):
        try:
            os.makedirs(folder, 0o700)
            return
        except FileNotFoundError:  # another run took the empty folder above away
            if attempt == _MAX_TRIES - 1:
                raise


def sweep_up(results_dir: Path) -> None:
    """Remove the folder of runs if nothing runs.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    """
    claims(results_dir).sweep_up()
    files.remove_folder(results_dir / _RUNS / _NOTES)
    files.remove_folder(results_dir / _RUNS)


def clear_remains(results_dir: Path) -> int:
    """Remove what runs left behind whose process was killed.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.

    Returns
    -------
    int
        How many runs had left something.
    """
    leases, home, removed = claims(results_dir), results_dir / _RUNS, 0
    names = files.list_folder(home)
    _clear_scraps(home / _LEASES, lambda name: not name.endswith(".json"))
    _clear_scraps(home / _NOTES, lambda name: _read_note(results_dir, name) is None)
    claimed = [name.removesuffix(".json") for name in files.list_folder(home / _LEASES) if name.endswith(".json")]
    for name in {*names, *claimed} - {_LEASES, _NOTES}:
        with contextlib.suppress(OSError):
            if not leases.is_free(name):
                continue
            if name in names:
                shutil.rmtree(home / name, ignore_errors=True)
                removed += 1
            lease = leases.claim(name)
            if lease is not None:
                lease.release()
    if names:
        sweep_up(results_dir)
    return removed


def _clear_scraps(folder: Path, is_scrap: Callable[[str], bool]) -> None:
    """Remove what a process that was killed left of a claim or a note; nobody is at work on one for an hour."""
    for name in files.list_folder(folder):
        if is_scrap(name):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(folder / name).st_mtime > _OLD:
                    os.unlink(folder / name)


# --- runs that failed ------------------------------------------------------------------------------------------


def save_failure(results_dir: Path, failure: RunFailure) -> RunFailure:
    """Keep a failure, in the place of an earlier one of the same run.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    failure : RunFailure
        The failure.

    Returns
    -------
    RunFailure
        The same, with the number of attempts that are known.

    Raises
    ------
    OSError
        Where it could not be written.
    """
    before = [each.attempts for each in failures(results_dir, failure.params_hash)]
    failure = replace(failure, attempts=failure.attempts + max(before, default=0))
    path = results_dir / _FAILURES / f"{failure.params_hash}.json"
    files.save(path, [sealed({"failure": failure.to_dict()})], "fast")
    return failure


def failures(results_dir: Path, params_hash: str = "") -> Iterator[RunFailure]:
    """Iterate over the failures that are kept; those that cannot be read are passed over.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    params_hash : str, optional
        Only that of this hash.

    Yields
    ------
    RunFailure
        One failure.
    """
    folder = results_dir / _FAILURES
    names = [f"{params_hash}.json"] if params_hash else sorted(files.list_folder(folder))
    for name in names:
        try:
            found = RunFailure.from_dict(unsealed(files.read_whole(folder / name))[0]["failure"])
        except (OSError, *DAMAGE):
            continue
        yield found


def drop_failure(results_dir: Path, params_hash: str) -> None:
    """Forget the failure of a run.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    params_hash : str
        The run's hash.
    """
    with contextlib.suppress(OSError):
        files.remove(results_dir / _FAILURES / f"{params_hash}.json")
        files.remove_folder(results_dir / _FAILURES)


# --- marks -----------------------------------------------------------------------------------------------------


def mark_of(path: Path) -> FileMark:
    """Return by what a result is known again.

    Parameters
    ----------
    path : pathlib.Path
        A file or a folder.

    Returns
    -------
    FileMark
        Its length, its time and a digest of its bytes, all of which are read.
    """
    size, modified = _measured(path)
    return FileMark(size, modified, _digest(path))


def what_is_wrong(path: Path, mark: FileMark | None) -> str:
    """Tell in words what is wrong with a result.

    Its bytes are read only where length and time do not speak for themselves: a copy has the length, but not the
    time of what it was copied from.

    Parameters
    ----------
    path : pathlib.Path
        The file or folder.
    mark : FileMark or None
        By what it is known; None where only its existence counts.

    Returns
    -------
    str
        Empty where nothing is wrong.
    """
    try:
        if mark is None:
            os.stat(path)
            return ""
        size, modified = _measured(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    if size != mark.size:
        return f"has {size} bytes in place of {mark.size}"
    if modified != mark.modified_ns and _remembered(path, size, modified) != mark.digest:
        return "has other content than the run wrote"
    return ""


def has_its_bytes(path: Path, mark: FileMark) -> bool:
    """Tell whether a result has the very bytes that its run wrote; reads them all.

    Parameters
    ----------
    path : pathlib.Path
        The file or folder.
    mark : FileMark
        By what it is known.

    Returns
    -------
    bool
        Whether it is there and unchanged.
    """
    try:
        return _digest(path) == mark.digest
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remembered(path: Path, size: int, modified: int) -> str:
    key = (str(path), size, modified)
    if key not in _known:
        _known[key] = _digest(path)
    return _known[key]


def _all_files(path: Path) -> list[Path]:
    """Return the files of a folder, in the order of their names; of a file itself."""
    if not path.is_dir():
        return [path]
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    return sorted(found, key=lambda each: each.relative_to(path).as_posix())


def _measured(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime_ns
    each = [os.stat(file) for file in _all_files(path)]
    return sum(one.st_size for one in each), max((one.st_mtime_ns for one in each), default=0)


def _digest(path: Path) -> str:
    if not path.is_dir():
        return _file_digest(path)
    digest = xxhash.xxh3_128()
    for file in _all_files(path):
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{_file_digest(file)}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
