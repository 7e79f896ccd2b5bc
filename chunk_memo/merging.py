"""What one root has is given to another: caches are merged by their content, file by file.

Files are named by what they hold, so a merge is a copy of those that are missing. Each is read whole and checked
before it is written, with the same protocol as a chunk that was computed: killed at any moment, a merge leaves
nothing that is not whole, and the next one goes on where it ended. The source is only read. Layouts come first,
and are synced, so that no chunk is there without its bins; those of files that came without are adopted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.chunks import ChunkRef, ChunkStore, Naming
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.layouts import ROOMS, Folder, is_cache, parsed_layout
from chunk_memo.disk.sealing import DAMAGE, check_record
from chunk_memo.errors import ChunkFormatError, ChunkMemoError, MetadataError, RootError
from chunk_memo.grid import Bins
from chunk_memo.identity import canonical_many
from chunk_memo.verification import checked_root

__all__ = ["Merge", "merge", "says_the_same"]

_RECORDS = ("adopted", "superseded", "failures")  # a room inside a cache has only the last


@dataclass(frozen=True, slots=True)
class Merge:
    """What a merge did.

    Examples
    --------
    >>> import tempfile
    >>> merge(tempfile.mkdtemp(), tempfile.mkdtemp()).copied
    0
    """

    source: str
    """The root that was read."""
    target: str
    """The root that was written."""
    caches: int = 0
    """Number of caches of the source that were merged."""
    copied: int = 0
    """Number of chunk files that were copied, parts included."""
    present: int = 0
    """Number of chunk files whose content was there already."""
    healed: int = 0
    """Number of chunk files that took the place of damaged ones, which were set aside."""
    documents: int = 0
    """Number of layouts, records and metadata that were copied."""
    folded: int = 0
    """Number of chunks that became complete by parts of both."""
    nbytes: int = 0
    """Bytes of the chunk files that were copied."""
    conflicts: tuple[str, ...] = ()
    """Chunk files that hold other outputs in the source: those of the target stay."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """Files and caches of the source that were not merged, each with the reason."""

    @property
    def is_whole(self) -> bool:
        """Whether the target now has everything that the source has."""
        return not self.conflicts and not self.passed_over

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields, and ``is_whole``.
        """
        return {**asdict(self), "is_whole": self.is_whole}


def merge(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    durability: str = "full",
    told: Callable[[str, int], object] = lambda path, size: None,
) -> Merge:
    """Copy what is stored in one root, and not in another, into the other.

    Parameters
    ----------
    source : path-like
        A folder of caches, which is only read.
    target : path-like
        The folder of caches that gets them.
    durability : {"full", "fast"}
        Whether files are synced.
    told : callable, optional
        Called with the path and the length in bytes of each chunk file of the source.

    Returns
    -------
    Merge
        What was done.

    Raises
    ------
    RootError
        Where a root does not exist, or one lies in the other.
    """
    here, there = checked_root(source), checked_root(target)
    real = [Path(os.path.realpath(path)) for path in (here, there)]
    if real[0] == real[1] or real[0] in real[1].parents or real[1] in real[0].parents:
        raise RootError(22, f"'{source}' and '{target}' are the same folder, or one lies in the other")
    done = _Done()
    for name in sorted(files.list_folder(here)):
        if name.startswith((catalog.FORGOTTEN, files.TEMPORARY_PREFIX)):
            continue
        if is_cache(here / name):
            _Room(name, here / name, there / name, files.Syncer(durability), done, told).merge()
        else:
            done.passed_over.append((name, "is no cache"))
    return Merge(
        os.fspath(source),
        os.fspath(target),
        *(done.caches, done.copied, done.present, done.healed, done.documents, done.folded, done.nbytes),
        tuple(done.conflicts),
        tuple(done.passed_over),
    )


@dataclass(slots=True)
class _Done:
    caches: int = 0
    copied: int = 0
    present: int = 0
    healed: int = 0
    documents: int = 0
    folded: int = 0
    nbytes: int = 0
    conflicts: list[str] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Room:
    """One cache of the source, or a room inside its folder, and its place in the target."""

    name: str
    source: Path
    target: Path
    syncer: files.Syncer
    done: _Done
    told: Callable[[str, int], object]
    outer: _Room | None = None
    stores: dict[str, ChunkStore] = field(default_factory=dict)

    def merge(self) -> None:
        """Copy what is missing: who the cache is, its bins, its records, its chunks, in this order."""
        refusal = self._refusal()
        if refusal:
            self.done.passed_over.append((self.name, refusal))
            return
        self.done.caches += 1
        with self.syncer:
            self._copy_metadata()
            self._copy(_RECORDS)
            for room in ROOMS:
                if room and files.is_folder(self.source / room):
                    places = self.source / room, self.target / room
                    inner = _Room(f"{self.name}/{room}", *places, self.syncer, self.done, self.told, self)
                    inner._copy(_RECORDS[-1:])

    def _copy(self, records: Iterable[str]) -> None:
        """Copy what is missing in one room; the syncer is that of the whole cache."""
        for path in self._documents("layouts"):
            self._copy_document(path, _check_layout)
        for kind in records:
            for path in self._documents(kind):
                self._copy_document(path, check_record)
        self.syncer.flush()
        copied = [ref for path in self._chunk_files() if (ref := self._copy_chunk(path)) is not None]
        self.syncer.flush()
        self._adopt(copied)
        self._fold(copied)

    # --- who it is -----------------------------------------------------------------------------------------

    def _refusal(self) -> str:
        """Say why the cache cannot be merged; nothing where it can."""
        try:
            here, there = Folder(self.source, "").read_metadata(), Folder(self.target, "").read_metadata()
        except MetadataError as error:
            return str(error)
        if here is not None and here["cache_id"] != self.source.name:
            return f"is of the cache {here['cache_id']!r}: rename the folder to that"
        if here is None or there is None:
            return ""
        if b"" not in (here["identity"], there["identity"]) and here["identity"] != there["identity"]:
            return "stands for other params or another function in the target"
        return ""

    def _copy_metadata(self) -> None:
        path = self.source / "metadata.json"
        try:
            data = files.read_whole(path)
        except FileNotFoundError:
            return
        if files.commit(self.target / "metadata.json", [data], self.syncer):
            self.done.documents += 1
        elif b'"layout"' in data:  # the bins of a cache of one chunk lie in there
            _, layout = parsed_layout(data, os.fspath(path))
            folder = self._store(layout.version).folder
            folder.refresh()
            if any(_lacks(folder.bins, axis, group) for axis, bins in layout.bins.items() for group in bins):
                folder.commit_layout(layout, self.syncer)
                self.done.documents += 1

    def _documents(self, kind: str) -> Iterator[str]:
        for name in sorted(files.list_folder(self.source / kind)):
            if name.endswith(".json"):
                yield f"{kind}/{name}"

    def _copy_document(self, path: str, check: Callable[[str, bytes], object]) -> None:
        if files.is_there(self.target / path):
            return
        try:
            data = files.read_whole(self.source / path)
            check(path, data)
        except FileNotFoundError:
            return
        except DAMAGE as error:  # ChunkFormatError is a ValueError
            self.done.passed_over.append((f"{self.name}/{path}", f"is damaged ({error})"))
            return
        self.done.documents += files.commit(self.target / path, [data], self.syncer)

    # --- chunks --------------------------------------------------------------------------------------------

    def _store(self, version: str) -> ChunkStore:
        if version not in self.stores:
            if self.outer is not None:
                store = self.outer._store(version).inside(self.target.name)
            else:
                folder = Folder(self.target, version)
                store = ChunkStore(folder, self.name, Naming({}), allow_pickle=True, title="")
            self.stores[version] = store
        return self.stores[version]

    def _chunk_files(self) -> Iterator[str]:
        for path in Folder(self.source, "").chunk_files():
            yield path.relative_to(self.source).as_posix()

    def _copy_chunk(self, path: str) -> tuple[str, ChunkRef] | None:
        """Copy one file; return its chunk and version where it was missing."""
        subject = f"{self.name}/{path}"
        try:
            chunkfile.verify(self.source / path)
            data = files.read_whole(self.source / path)
            chunk = chunkfile.parse(data)
        except FileNotFoundError:
            return None
        except (ChunkMemoError, OSError) as error:
            self.done.passed_over.append((subject, str(error)))
            return None
        self.told(path, len(data))
        there = self._place(path)
        if there is not None and self._stays(there, chunk, subject):
            return None
        if not files.commit(self.target / (there or path), [data], self.syncer):
            self.done.present += 1  # another process was quicker
            return None
        self.done.copied += 1
        self.done.nbytes += len(data)
        return self._described(chunk)

    def _place(self, path: str) -> str | None:
        """Return where the target has a file of that name, or the complete one of the same chunk."""
        folder, name = os.path.split(path)
        if folder.endswith(".parts"):
            stem = os.path.basename(folder).removesuffix(".parts")
            places = [f"{place}.h5" for place in _places(stem)]
            places += [f"{place}.parts/{name}" for place in _places(stem)]
        else:
            places = [f"{place}.h5" for place in _places(name.removesuffix(".h5"))]
        return next((place for place in places if files.is_there(self.target / place)), None)

    def _stays(self, there: str, chunk: chunkfile.Chunk, subject: str) -> bool:
        """Tell whether the target's file is intact; it is set aside otherwise."""
        try:
            chunkfile.verify(self.target / there)
            with chunkfile.load(self.target / there, max_bytes=1 << 62) as own:
                if own.constant["part"] is not None or chunk.constant["part"] is None:
                    same = says_the_same(own, chunk)
                else:
                    same = own.identity == chunk.identity  # the complete file of the part's chunk
        except FileNotFoundError:
            return False
        except ChunkFormatError as error:
            seen = error.seen
            moved = seen and files.quarantine(
                self.target / there, self.target / "quarantine", seen, lambda _: False
            )
            self.done.healed += moved is not None
            return moved is None
        except OSError as error:
            self.done.passed_over.append((subject, f"the target's cannot be read: {error}"))
            return True
        self.done.present += same
        if not same:
            self.done.conflicts.append(subject)
        return True

    def _described(self, chunk: chunkfile.Chunk) -> tuple[str, ChunkRef] | None:
        """Return version and chunk of a file of this cache, as far as that is known here."""
        for version in self._versions():
            store = self._store(version)
            for number in range(store.folder.records.generation + 1):
                ref = store.of_generation(number).ref_of(chunk)
                if ref is not None and ref.identity == chunk.identity:
                    return version, ref
        return None

    def _versions(self) -> list[str]:
        if not self.stores:
            versions = set(self.outer._versions()) if self.outer is not None else set()
            for folder in (self.source, self.target):
                metadata = Folder(folder, "").read_metadata()
                versions |= {metadata["version"]} if metadata is not None else set()
                for name in files.list_folder(folder / "layouts"):
                    try:
                        data = files.read_whole(folder / "layouts" / name)
                        versions.add(parsed_layout(data, name)[1].version)
                    except (ChunkFormatError, OSError):
                        continue
            for version in versions:
                self._store(version).folder.refresh()
        return sorted(self.stores)

    def _adopt(self, copied: list[tuple[str, ChunkRef]]) -> None:
        """Write layouts for chunks that no layout names."""
        for version, store in self.stores.items():
            bins = store.folder.bins
            refs = [ref for own, ref in copied if own == version]
            if any(_lacks(bins, axis, ref.values(axis)) for ref in refs for axis in ref.order):
                layout = store.orphans({ref.name for ref in refs})
                if layout is not None:
                    store.folder.commit_layout(layout, self.syncer)
                    self.done.documents += 1

    def _fold(self, copied: list[tuple[str, ChunkRef]]) -> None:
        """Make chunks complete whose points were divided between the two."""
        for version, ref in {(version, ref.name): (version, ref) for version, ref in copied}.values():
            store = self._store(version)
            if any(files.is_there(folder) for folder in store.parts_folders(ref)):
                twins = (
                    store.of_generation(n) if n else store for n in range(store.folder.records.generation + 1)
                )
                twin = next(twin for twin in twins if ref.identity.startswith(twin.prefix))
                self.done.folded += twin.fold(ref, self.syncer)


def says_the_same(one: chunkfile.Chunk, other: chunkfile.Chunk) -> bool:
    """Tell whether two files hold the same outputs of the same points, whenever and by whomever computed.

    Parameters
    ----------
    one : Chunk
        An opened file.
    other : Chunk
        The other.

    Returns
    -------
    bool
        Whether they do; how they are compressed does not matter.
    """
    if one.identity != other.identity or one.constant != other.constant or one.names != other.names:
        return False
    return all(one.array(name).tobytes() == other.array(name).tobytes() for name in one.names)


def _places(name: str) -> tuple[str, str]:
    return f"chunks/{name}", f"chunks/{name[:2]}/{name}"


def _lacks(bins: Bins, axis: str, values: Any) -> bool:
    return bins.of(axis).find(canonical_many(values)) is None


def _check_layout(path: str, data: bytes) -> None:
    if f"layouts/{parsed_layout(data, path)[0]}.json" != path:
        raise ValueError("it says something else than its name")
