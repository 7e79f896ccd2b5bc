"""Whether a root is what it should be: every file of every cache is read and checked, and damage set aside.

A run checks what it reads; this checks the rest. Every byte of every file is looked at: HDF5 skeletons,
manifests, arrays, parts, metadata, layouts and records, and that each lies under the name that its content gives
it. Without ``repair`` nothing is written. With it damaged files go to ``quarantine/``, where runs put them, too;
chunk files that no layout names are adopted; parts that hold all points of their chunk become its complete file.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.chunks import ChunkRef, ChunkStore, Naming
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.layouts import ROOMS, Folder, Layout, in_room, is_cache, parsed_layout
from chunk_memo.disk.sealing import DAMAGE, check_record
from chunk_memo.errors import ChunkFormatError, DamageWarning, FormatVersionError, MetadataError, RootError
from chunk_memo.grid import Bins
from chunk_memo.identity import canonical_many, decode_canonical, digest_of_bytes

__all__ = ["Finding", "Verification", "checked_root", "verify"]

DAMAGED, MISPLACED, UNREADABLE = "damaged", "misplaced", "unreadable"
_WRONG = frozenset({DAMAGED, MISPLACED, UNREADABLE})
_YOUNG = 60.0  # seconds for which a file without its head counts as being written, as for those who read
_RECORDS = ("failures", "superseded", "adopted")  # a room inside a cache has only the first
_REPLACED = ("superseded/", "adopted/")
_PASSING = frozenset({"runs", "leases"})  # signs of what goes on now, which are nobody's results


@dataclass(frozen=True, slots=True)
class Finding:
    """One file that is not simply as it should be."""

    path: str
    """The file, relative to the root."""
    kind: str
    """``damaged``, ``misplaced`` or ``unreadable``: something is wrong. ``unnamed``: an intact chunk file that no
    layout names. ``part``: waits for the other points of its chunk. ``unfinished``: left by a writer that ended,
    or still being written. ``quarantined``: was set aside before. ``newer``: of a later version of the library.
    ``stray``: not of this library."""
    what: str
    """What was found."""
    fate: str = ""
    """What was done about it; empty where nothing was."""

    @property
    def is_wrong(self) -> bool:
        """Whether something is wrong, and nothing was done about it."""
        return self.kind in _WRONG and not self.fate


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked in a root, and what was found.

    Examples
    --------
    >>> import tempfile
    >>> found = verify(tempfile.mkdtemp())
    >>> found.files, found.is_intact
    (0, True)
    """

    root: str
    """The folder of caches."""
    caches: int = 0
    """Number of caches."""
    files: int = 0
    """Number of files that were read and checked."""
    passed_over: int = 0
    """Number of chunk files outside of the subset."""
    nbytes: int = 0
    """Bytes of the files that were read."""
    findings: tuple[Finding, ...] = ()
    """Everything that is not simply as it should be."""

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong, or all that was wrong was repaired."""
        return not any(finding.is_wrong for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields, and ``is_intact``.
        """
        return {**asdict(self), "is_intact": self.is_intact}


def checked_root(root: str | os.PathLike[str]) -> Path:
    """Return a root that exists, as a path.

    Parameters
    ----------
    root : path-like
        A folder of caches.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    RootError
        Where it does not exist, or is no folder, or is itself a cache.
    """
    path = Path(root)
    if not files.is_folder(path):
        what = "is no folder" if files.is_there(path) else "does not exist"
        raise RootError(2, f"the root '{root}' {what}; expected a folder of caches")
    if files.is_there(path / "metadata.json"):
        raise RootError(2, f"'{root}' is a cache; give the folder that holds it, '{path.parent}'")
    return path


def verify(
    root: str | os.PathLike[str],
    *,
    subset: tuple[int, int] = (1, 1),
    repair: bool = False,
    told: Callable[[str, int], object] = lambda path, size: None,
) -> Verification:
    """Read and check every file of every cache in a root.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    subset : (int, int), default (1, 1)
        ``(n, t)`` checks only the n-th of t parts into which the chunk files are divided by their names: the
        same files each time, and all of them after ``(1, t)`` to ``(t, t)``. Small documents are always checked.
    repair : bool, default False
        Whether to set damaged files aside, adopt chunk files that no layout names, and fold parts.
    told : callable, optional
        Called with the path and the length in bytes of each file that was read.

    Returns
    -------
    Verification
        What was found.

    Raises
    ------
    RootError
        Where there is no such root.
    ValueError
        Where the subset is none.
    """
    number, total = subset
    if not 1 <= number <= total:
        raise ValueError(f"subset must be (n, t) with 1 <= n <= t, got {subset!r}")
    path = checked_root(root)
    caches = 0
    findings: list[Finding] = []
    tally = _Tally(told)
    for name in sorted(files.list_folder(path)):
        if not files.is_folder(path / name):
            findings.append(_stray(name))
        elif name.startswith(catalog.FORGOTTEN):
            findings.append(Finding(name, "unfinished", "a cache that was being deleted; gc removes the rest"))
        else:
            caches += is_cache(path / name)
            for room in _Room(path, name, subset, tally).with_inner():
                room.check()
                if repair:
                    room.repair()
                findings += room.findings
    found = tuple(sorted(findings, key=lambda finding: (finding.kind not in _WRONG, finding.path)))
    return Verification(os.fspath(root), caches, tally.files, tally.passed_over, tally.nbytes, found)


def _stray(path: str) -> Finding:
    kind = "unfinished" if os.path.basename(path).startswith(files.TEMPORARY_PREFIX) else "stray"
    what = (
        "left by a writer that ended, or still being written" if kind == "unfinished" else "not of this library"
    )
    return Finding(path, kind, what)


@dataclass(slots=True)
class _Tally:
    told: Callable[[str, int], object]
    files: int = 0
    passed_over: int = 0
    nbytes: int = 0

    def read(self, path: str, size: int) -> None:
        self.files += 1
        self.nbytes += size
        self.told(path, size)


@dataclass(slots=True)
class _File:
    """A chunk file whose every byte is right."""

    path: str
    ref: ChunkRef | None
    version: str
    generation: int
    is_part: bool

    @property
    def name(self) -> str:
        """The name of its chunk, as it lies there."""
        folder, name = os.path.split(self.path)
        return os.path.basename(folder).removesuffix(".parts") if self.is_part else name.removesuffix(".h5")


@dataclass(slots=True)
class _Room:
    """One folder in a root, or a room inside a cache's, while it is checked."""

    root: Path
    cache_id: str
    """The cache, as its chunks name it: with the room's name behind it."""
    subset: tuple[int, int]
    tally: _Tally
    outer: _Room | None = None
    """The cache's own folder, for a room inside it."""
    findings: list[Finding] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    layouts: list[Layout] = field(default_factory=list)
    good: list[_File] = field(default_factory=list)
    seen: dict[str, files.FileId] = field(default_factory=dict)
    moved: dict[str, Path] = field(default_factory=dict)
    stores: dict[tuple[str, int], ChunkStore] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.root / self.cache_id

    @property
    def cache(self) -> _Room:
        """The cache's own folder."""
        return self if self.outer is None else self.outer

    def with_inner(self) -> Iterator[_Room]:
        """Iterate over this folder, and then, when it was checked, over the rooms inside."""
        yield self
        for room in ROOMS if is_cache(self.path) else ():
            if room and files.is_folder(self.path / room):
                name = f"{self.cache_id}/{room}"
                yield _Room(self.root, name, self.subset, self.tally, self, metadata=self.metadata)

    # --- checking ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at every file; change nothing."""
        if not is_cache(self.cache.path):
            self.findings.append(_stray(self.cache_id))
            return
        for folder, _, names in files.walk(self.path):
            place = os.path.relpath(folder, self.path)
            place = "" if place == os.curdir else place.replace(os.sep, "/")
            if self.outer is None and in_room(place)[0]:
                continue  # has its own turn
            for name in names:
                self._check_file(place, name)
        self._check_names()

    def _find(self, path: str, kind: str, what: str) -> None:
        self.findings.append(Finding(f"{self.cache_id}/{path}", kind, what))

    def _check_file(self, place: str, name: str) -> None:
        path = f"{place}/{name}" if place else name
        kind = place.partition("/")[0]
        if name.startswith(files.TEMPORARY_PREFIX):
            self.findings.append(_stray(f"{self.cache_id}/{path}"))
        elif kind == "quarantine":
            self._find(path, "quarantined", "was damaged, and is not used; gc --quarantine removes it")
        elif kind in _PASSING:
            return
        elif kind == "chunks" and name.endswith(".h5"):
            self._check_chunk(path)
        elif path == "metadata.json" and self.outer is None:
            self._checked(path, self._check_metadata)
        elif kind == "layouts" and name.endswith(".json"):
            self._checked(path, self._check_layout)
        elif kind in (_RECORDS if self.outer is None else _RECORDS[:1]) and name.endswith(".json"):
            self._checked(path, check_record)
        else:
            self.findings.append(_stray(f"{self.cache_id}/{path}"))

    def _checked(self, path: str, check: Callable[[str, bytes], object]) -> None:
        """Read a small document, and note what is wrong with it."""
        try:
            seen = files.look_at(self.path / path)
            data = files.read_whole(self.path / path)
            self.tally.read(path, len(data))
            if seen is not None:
                self.seen[path] = seen.file_id
            check(path, data)
        except FileNotFoundError:
            return  # another process replaced it
        except FormatVersionError as error:
            self._find(path, "newer", str(error))
        except MetadataError as error:
            self._find(path, DAMAGED, repr(error.__cause__))
        except DAMAGE as error:
            self._find(path, DAMAGED, f"{type(error).__name__}: {error}")
        except OSError as error:
            self._find(path, UNREADABLE, error.strerror or str(error))

    def _check_metadata(self, path: str, data: bytes) -> None:
        self.metadata = Folder(self.path, "").read_metadata()
        if b'"layout"' in data:
            self.layouts.append(parsed_layout(data, path)[1])
        there = self.metadata["cache_id"] if self.metadata is not None else self.cache_id
        if there != self.cache_id:
            self._find(path, MISPLACED, f"is of the cache {there!r}: rename the folder to that")

    def _check_layout(self, path: str, data: bytes) -> None:
        digest, layout = parsed_layout(data, path)
        if f"layouts/{digest}.json" != path:
            raise ValueError("it says something else than its name")
        self.layouts.append(layout)

    def _check_chunk(self, path: str) -> None:
        number, total = self.subset
        if total > 1 and int.from_bytes(digest_of_bytes(path.encode())[:8], "big") % total != number - 1:
            self.tally.passed_over += 1
            return
        full = self.path / path
        try:
            chunkfile.verify(full)
            with chunkfile.load(full, max_bytes=1 << 62) as chunk:
                self.tally.read(path, chunk.nbytes)
                self._check_identity(path, chunk)
        except FileNotFoundError:
            return  # folded meanwhile
        except FormatVersionError as error:
            self._find(path, "newer", str(error))
        except ChunkFormatError as error:
            self._note_damage(path, error)
        except OSError as error:
            self._find(path, UNREADABLE, error.strerror or str(error))

    def _note_damage(self, path: str, error: ChunkFormatError) -> None:
        if error.seen is not None:
            self.seen[path] = error.seen
        seen = files.look_at(self.path / path)
        if seen is not None and seen.size > files.HEAD_SIZE and time.time() - seen.modified < _YOUNG:
            try:
                if chunkfile.is_unfinished(files.read_file(self.path / path, files.HEAD_SIZE)[0]):
                    self._find(path, "unfinished", "still being written, or given up by its writer")
                    return
            except OSError:
                pass
        self.tally.read(path, seen.size if seen is not None else 0)
        self._find(path, DAMAGED, str(error))

    def _check_identity(self, path: str, chunk: chunkfile.Chunk) -> None:
        """Tell whose chunk an intact file holds."""
        self.seen[path] = chunk.file_id or (0, 0)
        version = str(self.metadata["version"]) if self.metadata is not None else ""
        is_part = chunk.constant["part"] is not None
        if is_part != (os.path.dirname(path).endswith(".parts")):
            self._find(path, DAMAGED, "it holds a part of a chunk where complete files lie, or the reverse")
            return
        ref = self._store(version, 0).ref_of(chunk)
        if ref is None:  # its values are of classes that are not known here; the head of its identity still tells
            if not any(chunk.identity.startswith(head) for head in self._heads(version)):
                self._find(path, MISPLACED, "it holds a chunk of another cache")
            return
        rest = ref.identity[len(self._store(version, 0).prefix) :]
        whose = decode_canonical(chunk.identity.removesuffix(rest)) if chunk.identity.endswith(rest) else ()
        if not isinstance(whose, tuple) or len(whose) not in (2, 3):
            self._find(path, DAMAGED, "its identity is not that of the axis values that it holds")
        elif whose[0] != self.cache_id:
            self._find(path, MISPLACED, f"it holds a chunk of the cache {whose[0]!r}")
        else:
            generation = int(whose[2]) if len(whose) == 3 else 0
            own = self._store(str(whose[1]), generation).ref_of(chunk)
            self.good.append(_File(path, own, str(whose[1]), generation, is_part))

    def _heads(self, version: str) -> Iterator[bytes]:
        """Iterate over what the identities of this cache's chunks begin with, one for each generation."""
        yield self._store(version, 0).prefix
        for name in files.list_folder(self.cache.path / "superseded"):
            number = name.partition("-")[0]
            if number.isdecimal():
                yield self._store(version, int(number)).prefix

    def _store(self, version: str, generation: int) -> ChunkStore:
        if (version, generation) not in self.stores:
            if generation:
                store = self._store(version, 0).of_generation(generation)
            elif self.outer is not None:
                store = self.outer._store(version, 0).inside(self.path.name)
            else:
                folder = Folder(self.path, version)
                store = ChunkStore(folder, self.cache_id, Naming({}), allow_pickle=True, title=self._title())
            self.stores[version, generation] = store
        return self.stores[version, generation]

    def _title(self) -> str:
        function = self.metadata["metadata"].get("function") if self.metadata is not None else None
        return str(function.get("name", "")) if isinstance(function, Mapping) else ""

    def _check_names(self) -> None:
        """Hold the names of files against their content, and the bins that they need against the layouts."""
        content = {file.ref.name for file in self.good if file.ref is not None}
        known: dict[str, Bins] = {}
        for layout in self.layouts:
            layout.add_to(known.setdefault(layout.version, Bins()))
        parts: set[str] = set()
        for file in self.good:
            if file.ref is None:
                continue
            # A user's chunk_hash_fn may give any name, but not that of another chunk.
            if file.name != file.ref.name and file.name in content:
                self._find(file.path, MISPLACED, f"it holds the chunk '{file.ref.name}'")
            elif not self._is_named(file.ref, known.get(file.version)):
                self._find(file.path, "unnamed", "no layout names its bins; runs that need it adopt it")
            elif file.is_part and file.name not in parts:
                parts.add(file.name)
                self._find(os.path.dirname(file.path), "part", "parts of a chunk, until all its points are there")

    @staticmethod
    def _is_named(ref: ChunkRef, bins: Bins | None) -> bool:
        if bins is None:
            return not ref.order
        return all(bins.of(axis).find(canonical_many(ref.values(axis))) is not None for axis in ref.order)

    # --- repairing -----------------------------------------------------------------------------------------

    def repair(self) -> None:
        """Do something about each finding for which something can be done."""
        self.findings = [self._set_aside(finding) for finding in self.findings]
        for path, moved in self.moved.items():
            self._put_right(path, moved)  # what it stood in the way of, where two were swapped
        if any(finding.kind in (*_WRONG, "unnamed") for finding in self.findings):
            adopted = self._adopt()
            self.findings = [self._told_of_adoption(finding, adopted) for finding in self.findings]
        self.findings = [self._folded(finding) for finding in self.findings]

    def _set_aside(self, finding: Finding) -> Finding:
        """Move a damaged file to ``quarantine/``; records go with their readers, who replace them first."""
        path = finding.path.removeprefix(f"{self.cache_id}/")
        if finding.kind not in (DAMAGED, MISPLACED) or path.startswith(_REPLACED):
            return finding
        if finding.kind == MISPLACED:
            if path == "metadata.json" or self._is_foreign():
                return finding
            self._put_right(path, self.path / path)
        seen = self.seen.get(path)
        if seen is None:
            return finding
        is_good = self._is_good if finding.kind == DAMAGED and path.endswith(".h5") else lambda _: False
        moved = files.quarantine(self.path / path, self.path / "quarantine", seen, is_good)
        fate = "" if moved is None else f"moved to '{os.path.relpath(moved, self.root)}'"
        if moved is not None and finding.kind == MISPLACED:
            self.moved[path] = moved
        if fate and path == "metadata.json":
            fate += "; the next call of the function, or ChunkCache with its axis_values, writes it anew"
        return replace(finding, fate=fate)

    def _is_foreign(self) -> bool:
        """Whether the folder as a whole has another cache's name: its files are right where they are."""
        return self.metadata is not None and self.metadata["cache_id"] != self.cache.cache_id

    def _put_right(self, path: str, now: Path) -> None:
        """Give an intact file that lay under a wrong name, wherever it is now, the right one, if that is free."""
        file = next((file for file in self.good if file.path == path), None)
        if file is None or file.ref is None or file.is_part:
            return
        store = self._store(file.version, file.generation)
        if not any(files.is_there(target) for target in store.paths(file.ref)):
            with files.Syncer() as syncer:
                files.commit(store.paths(file.ref)[0], [files.read_whole(now)], syncer)

    @staticmethod
    def _is_good(moved: Path) -> bool:
        """Tell whether another writer had replaced a damaged file a moment before it was moved."""
        try:
            chunkfile.verify(moved)
        except ChunkFormatError:
            return False
        return True

    def _adopt(self) -> bool:
        """Let the readers of layouts and records do what they do about damage; adopt what no layout names."""
        adopted = False
        for version in sorted({file.version for file in self.good} | {each.version for each in self.layouts}):
            store = self._store(version, 0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamageWarning)
                self.cache._store(version, 0).folder.refresh()
                store.folder.refresh()
            layout = store.orphans()
            if layout is not None:
                with files.Syncer() as syncer:
                    store.folder.commit_layout(layout, syncer)
                adopted = True
        return adopted

    def _told_of_adoption(self, finding: Finding, adopted: bool) -> Finding:
        path = finding.path.removeprefix(f"{self.cache_id}/")
        if finding.kind == "unnamed" and adopted:
            return replace(finding, fate="adopted: a layout names its bins now")
        if finding.is_wrong and path.startswith(_REPLACED):
            seen = files.look_at(self.path / path)
            if seen is None or seen.file_id != self.seen.get(path):
                is_replaced = path.startswith("superseded/")
                fate = "what was superseded stays so" if is_replaced else "what was adopted is to be adopted anew"
                return replace(finding, fate=f"set aside; {fate}")
        return finding

    def _folded(self, finding: Finding) -> Finding:
        if finding.kind != "part":
            return finding
        path = finding.path.removeprefix(f"{self.cache_id}/")
        file = next(f for f in self.good if f.is_part and os.path.dirname(f.path) == path)
        if file.ref is None or file.ref.name != file.name:
            return finding  # named by the user's own function, which is not known here
        store = self._store(file.version, file.generation)
        with files.Syncer() as syncer:
            done = store.fold(file.ref, syncer)
        return replace(finding, fate="folded into the complete file") if done else finding
