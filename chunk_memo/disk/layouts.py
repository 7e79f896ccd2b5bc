"""Which bins a cache has, and which chunk files exist; a cache's folder as it lies on disk.

::

    <root>/<cache_id>/
      metadata.json                                 who this cache is, and the bins of a cache of one chunk
      layouts/<digest>.json                         bins that a run brought into being
      adopted/…  superseded/…                       see :mod:`chunk_memo.disk.records`
      chunks/[<hh>/]<chunk_hash>.h5                 a complete chunk
      chunks/[<hh>/]<chunk_hash>.parts/<digest>.h5  some points of a chunk
      failures/…                                    points whose function raised
      quarantine/…                                  damaged files, moved aside
      points/layouts/… chunks/… failures/… quarantine/…  the same for points that form no grid

The folder itself and ``points/`` are the cache's *rooms*: each has chunk files, and the bins that name them, of
its own, and whoever goes through what a cache holds goes through all of its rooms (:data:`ROOMS`). Who the cache
is, and which of its results count, is said once, outside of them.

A layout is immutable and named by the digest of its content, ``created_at`` left out, so processes that make
the same bins write the same file. A cache of one chunk shall cost four inodes and no more, so its layout
lies in ``metadata.json``. Where that is lost, because files were copied into a folder that has one, or because
it was damaged, the bins are read from the chunk files' own manifests, and written as a new layout: chunk files
that no known bins name are looked for whenever points are about to be run.

A grid may have a million bins, so in memory and in the file those of an axis are one row of values and the
sizes of the bins: ``{"values": [1, 2, 3, 4, 5], "sizes": [[2, 2], [1, 1]]}`` for two bins of two values and one
of one. Long rows of equally spaced ints are ``{"range": [start, stop, step]}``. A million bins of one float each,
as a list for each, took 9 s to write and 9 s to read where this takes 2.7 and 1.5. What a file holds is turned
into text once more to check it, and the name of the layout comes from the same text.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from chunk_memo.disk import files
from chunk_memo.disk.records import FOLDERS, Records
from chunk_memo.disk.sealing import digest_of_text, from_row, sealed, text_of, to_row, unsealed
from chunk_memo.errors import ChunkFormatError, DamageWarning, FormatVersionError, MetadataError
from chunk_memo.grid import Bins, Grid, IntArray
from chunk_memo.identity import from_jsonable, to_jsonable
from chunk_memo.keys import keys_of_values

__all__ = [
    "MOST_LAYOUTS",
    "POINTS",
    "ROOMS",
    "SHARD_ABOVE",
    "Folder",
    "Groups",
    "Layout",
    "in_room",
    "is_cache",
    "parsed_layout",
]

POINTS = "points"
"""The folder inside a cache's that holds points that form no grid."""

ROOMS = ("", POINTS)
"""The folders of a cache that hold chunk files, relative to its own."""

MOST_LAYOUTS = 64
"""Above this number of layouts a writer commits their union and removes those it holds."""

SHARD_ABOVE = 4096
"""Grids of more chunks than this spread their files over 256 folders."""

_FORMAT_VERSION = 1
"""Version of the layouts that this library writes, and the latest that it reads."""

_METADATA = (
    "cache_id",
    "version",
    "axis_order",
    "chunk_spec",
    "axis_values",
    "metadata",
    "identity",
    "created_at",
)

_TRIES = 3
"""How often layouts are listed again when one vanished, as it does when others are united."""


class Groups(Sequence[Sequence[Any]]):
    """Groups of values as one row and the size of each group.

    Parameters
    ----------
    values : sequence
        The values of all groups, one group behind the other.
    sizes : ndarray of intp
        The number of values in each group.

    Examples
    --------
    >>> groups = Groups([1, 2, 3], np.array([2, 1]))
    >>> list(groups)
    [[1, 2], [3]]
    >>> groups.to_json()
    {'values': [1, 2, 3], 'sizes': [[2, 1], [1, 1]]}
    """

    __slots__ = ("_ends", "sizes", "values")

    def __init__(self, values: Sequence[Any], sizes: IntArray) -> None:
        self.values = values
        self.sizes = sizes
        self._ends: list[int] = []

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Sequence[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Any]]: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one group, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not self._ends:
            self._ends = np.cumsum(self.sizes).tolist()
        end = self._ends[index]
        return list(self.values[end - int(self.sizes[index]) : end])

    def __eq__(self, other: object) -> bool:
        """Tell whether other groups hold the same."""
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the numbers of groups and of values."""
        return f"Groups({len(self)} groups of {len(self.values)} values)"

    @classmethod
    def of(cls, groups: Sequence[Sequence[Any]]) -> Groups:
        """Return groups as such, whatever they came as.

        Parameters
        ----------
        groups : sequence of sequence
            The values of each group.

        Returns
        -------
        Groups
            The same.
        """
        if isinstance(groups, Groups):
            return groups
        sizes = np.fromiter(map(len, groups), np.intp, len(groups))
        return cls([value for group in groups for value in group], sizes)

    def to_json(self) -> dict[str, Any]:
        """Return what a layout's file says of them.

        Returns
        -------
        dict
            The row of values, and the sizes in pairs: a size, and how many groups in succession have it.
        """
        starts = np.flatnonzero(np.r_[True, self.sizes[1:] != self.sizes[:-1]]) if len(self) else self.sizes
        counts = np.diff(np.r_[starts, len(self)])
        sizes = [list(pair) for pair in zip(self.sizes[starts].tolist(), counts.tolist(), strict=True)]
        return {"values": to_row(self.values), "sizes": sizes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Groups:
        """Return what :meth:`to_json` wrote.

        Parameters
        ----------
        content : mapping
            The content.

        Returns
        -------
        Groups
            The groups.

        Raises
        ------
        ValueError
            Where the sizes are not those of the values.
        """
        values = from_row(content["values"])
        pairs = [(int(size), int(count)) for size, count in content["sizes"]]
        if any(size < 1 or count < 1 for size, count in pairs) or sum(a * b for a, b in pairs) != len(values):
            raise ValueError(f"bins of the sizes {content['sizes']!r} cannot hold {len(values)} values")
        sizes = np.repeat([size for size, _ in pairs], [count for _, count in pairs])
        return cls(values, np.asarray(sizes, np.intp))


@dataclass(frozen=True, slots=True)
class Layout:
    """Bins that a run brought into being, with the declaration that they came from."""

    version: str
    """The namespace that the bins belong to."""
    axis_order: tuple[str, ...]
    """Axis order of the cache that wrote it."""
    chunk_spec: Mapping[str, int]
    """Chunk sizes of the cache that wrote it."""
    bins: Mapping[str, Sequence[Sequence[Any]]]
    """For each axis the new bins, each a list of values; kept as :class:`Groups`."""
    chunks: Sequence[Sequence[int]] | None = None
    """Chunks named one by one: for each, the number of its bin in `bins` per axis, axes sorted by name."""
    created_at: int = field(default=0, compare=False)
    """Nanoseconds since 1970-01-01 UTC."""

    def __post_init__(self) -> None:
        """Keep the bins as rows of values."""
        object.__setattr__(self, "bins", {axis: Groups.of(groups) for axis, groups in self.bins.items()})

    def rows(self) -> dict[str, Groups]:
        """Return the bins of each axis as a row of values and the sizes of the bins.

        Returns
        -------
        dict of str to Groups
            Axis name to bins.
        """
        return {axis: Groups.of(groups) for axis, groups in self.bins.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what the digest covers.

        Returns
        -------
        dict
            The content, ``created_at`` left out.
        """
        return {
            "format": _FORMAT_VERSION,
            "version": self.version,
            "axis_order": list(self.axis_order),
            "chunk_spec": dict(self.chunk_spec),
            "bins": {axis: groups.to_json() for axis, groups in self.rows().items()},
            "chunks": [list(chunk) for chunk in self.chunks] if self.chunks is not None else None,
        }

    def add_to(self, bins: Bins) -> None:
        """Add this layout's bins to a table.

        Parameters
        ----------
        bins : Bins
            The table.
        """
        numbers = {}
        for axis, groups in self.rows().items():
            keys = keys_of_values(groups.values)
            regular = self.chunks is None
            numbers[axis] = bins.of(axis).extend(groups.values, keys, groups.sizes, regular=regular)
        for chunk in self.chunks or ():
            named = zip(sorted(numbers), chunk, strict=True)
            box = tuple((axis, int(numbers[axis][number])) for axis, number in named)
            bins.boxes.setdefault(box, len(bins.boxes))

    @classmethod
    def from_json(cls, content: Mapping[str, Any], created_at: int) -> Layout:
        """Return the layout that :meth:`to_json` wrote.

        Parameters
        ----------
        content : mapping
            The content.
        created_at : int
            Nanoseconds since 1970-01-01 UTC.

        Returns
        -------
        Layout
            The layout.
        """
        bins = {axis: Groups.from_json(groups) for axis, groups in content["bins"].items()}
        return cls(
            content["version"],
            tuple(content["axis_order"]),
            dict(content["chunk_spec"]),
            bins,
            content["chunks"],
            created_at,
        )


def _youngest(group: Sequence[tuple[str, Layout]]) -> dict[str, Layout]:
    """Choose layouts to unite: half of what there may be, and older ones until the union is small beside them.

    So each bin is written anew a few times only, however many follow, and layouts keep their order in time.
    """
    taken: dict[str, Layout] = {}
    size = 0
    for digest, layout in sorted(group, key=lambda part: (part[1].created_at, part[0]), reverse=True):
        bins = sum(map(len, layout.bins.values()))
        if len(taken) >= MOST_LAYOUTS // 2 and bins > 2 * size:
            break
        taken[digest] = layout
        size += bins
    return dict(reversed(taken.items()))


def _union(parts: Sequence[Layout]) -> Layout:
    """Return one layout with the bins of several, which are in the order of their creation."""
    bins: dict[str, list[Groups]] = {}
    counts: dict[str, int] = {}
    chunks: list[list[int]] | None = None if parts[0].chunks is None else []
    for part in parts:
        base = {axis: counts.get(axis, 0) for axis in part.bins}
        for axis, groups in part.rows().items():
            bins.setdefault(axis, []).append(groups)
            counts[axis] = counts.get(axis, 0) + len(groups)
        for chunk in part.chunks or ():
            assert chunks is not None
            named = zip(sorted(part.bins), chunk, strict=True)
            chunks.append([base[axis] + number for axis, number in named])
    last = parts[-1]
    united = {axis: _concatenated(groups) for axis, groups in bins.items()}
    return Layout(last.version, last.axis_order, last.chunk_spec, united, chunks, parts[0].created_at)


def _concatenated(groups: Sequence[Groups]) -> Groups:
    values = [value for part in groups for value in part.values]
    return Groups(values, np.concatenate([part.sizes for part in groups]))


def _document(layout: Layout) -> tuple[str, dict[str, Any]]:
    """Return the digest of a layout, and what its file holds."""
    content = layout.to_json()
    return digest_of_text(text_of(content)), {"layout_created_at": layout.created_at, "layout": content}


def parsed_layout(data: bytes, subject: str) -> tuple[str, Layout]:
    """Return the layout in a file, and the digest of its content.

    Parameters
    ----------
    data : bytes
        The content of the file.
    subject : str
        What messages call it.

    Returns
    -------
    digest : str
        The name that it should have.
    layout : Layout
        The layout.

    Raises
    ------
    ChunkFormatError
        Where it is damaged.
    FormatVersionError
        Where a later version of the library wrote it.
    """
    try:
        document, texts = unsealed(data)
        content = document["layout"]
        if content["format"] <= _FORMAT_VERSION:
            return digest_of_text(texts["layout"]), Layout.from_json(content, int(document["layout_created_at"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ChunkFormatError(f"{type(error).__name__}: {error}") from error
    raise FormatVersionError(
        f"layout '{subject}' was written by a later chunk_memo: expected format version {_FORMAT_VERSION} at"
        f" most, found {content['format']}; upgrade chunk_memo"
    )


def in_room(path: str) -> tuple[str, str]:
    """Return the room of a cache that something lies in, and where it lies there.

    Parameters
    ----------
    path : str
        A path relative to the cache's folder, with ``/`` between names.

    Returns
    -------
    room : str
        One of :data:`ROOMS`.
    inside : str
        The path relative to the room.

    Examples
    --------
    >>> in_room("points/chunks/00.h5"), in_room("chunks/00.h5")
    (('points', 'chunks/00.h5'), ('', 'chunks/00.h5'))
    """
    first, _, inside = path.partition("/")
    return (first, inside) if first in ROOMS else ("", path)


def is_cache(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is that of a cache, even of one that has lost its ``metadata.json``.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    bool
        Whether something of a cache lies in it.
    """
    inside = (Path(path, room, name) for room in ROOMS for name in ("chunks", "layouts"))
    return files.is_there(Path(path, "metadata.json")) or any(map(files.is_there, inside))


class Folder:
    """The folder of one cache, or of one of its rooms: its metadata, its layouts, the names of its files.

    Parameters
    ----------
    path : Path
        ``<root>/<cache_id>``.
    version : str
        Only layouts of this version count.
    read_only : bool, default False
        Whether nothing is written, moved or removed.
    outer : Folder, optional
        For a room inside a cache's folder that folder, whose records hold for it, too.
    """

    def __init__(self, path: Path, version: str, *, read_only: bool = False, outer: Folder | None = None) -> None:
        self.path = path
        self.version = version
        self.read_only = read_only
        self.bins = Bins()
        self.records: Records = outer.records if outer is not None else Records(path, read_only=read_only)
        self._is_inner = outer is not None
        self.layouts: dict[str, Layout] = {}
        self.rebuild: Callable[[], Layout | None] | None = None
        self._passed_over: set[str] = set()
        self._text = os.fspath(path)
        self.chunks = os.path.join(self._text, "chunks", "")

    # --- layouts -------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the layouts and records that are new on disk; bins of damaged ones are found in the chunk files.

        Returns
        -------
        bool
            Whether any was new.

        Raises
        ------
        FormatVersionError
            Where a later version of the library wrote one.
        """
        known, told = len(self.layouts), self.records.names
        lost: dict[str, str] = {}
        for _ in range(_TRIES):
            names = [*self._documents()]
            records = [name for name in names if name.startswith(FOLDERS)]
            again = not self._is_inner and self.records.read(records, self.version)
            fresh, wrong, vanished = self._read_new(names)
            again |= vanished
            for digest, layout in sorted(fresh, key=lambda item: (item[1].created_at, item[0])):
                if digest not in self.layouts:
                    self._adopt(digest, layout)
            lost |= wrong
            if not again:
                break
        if lost:
            self._replace(lost)
        return len(self.layouts) != known or self.records.names != told

    def _read_new(self, names: Sequence[str]) -> tuple[list[tuple[str, Layout]], dict[str, str], bool]:
        """Read what is new; return layouts, what is wrong with others by name, and whether one vanished."""
        fresh, wrong, again = [], {}, False
        for name in names:
            digest = name.removeprefix("layouts/").removesuffix(".json")
            if digest in self.layouts or name in self._passed_over or name.startswith(FOLDERS):
                continue
            try:
                data = files.read_whole(self.path / name)
                if name == "metadata.json":
                    self._passed_over.add(name)
                    fresh += self._layout_in_metadata(data)
                    continue
                found = parsed_layout(data, f"{self._text}/{name}")
            except FileNotFoundError:
                again = True
                continue
            except FormatVersionError:
                raise
            except ChunkFormatError as error:
                wrong[name] = str(error)
                continue
            except OSError as error:
                if error.errno not in files.TRANSIENT:
                    raise
                continue
            if found[0] != digest:  # another file was copied over it: that is no damage
                wrong[name] = ""
            if found[1].version == self.version:
                fresh.append(found)
            else:
                self._passed_over.add(name)
        return fresh, wrong, again

    def _layout_in_metadata(self, data: bytes) -> list[tuple[str, Layout]]:
        """Return the layout of a cache that began with a single chunk; damage is told by who needs the rest."""
        try:
            found = parsed_layout(data, f"{self._text}/metadata.json")
        except ChunkFormatError:
            return []
        return [found] if found[1].version == self.version else []

    def inside(self, room: str) -> Folder:
        """Return a room of this cache.

        Parameters
        ----------
        room : str
            One of :data:`ROOMS`, not this folder's own.

        Returns
        -------
        Folder
            It, with nothing read yet but the records, which are the cache's.
        """
        return Folder(self.path / room, self.version, read_only=self.read_only, outer=self)

    def _documents(self) -> Iterator[str]:
        for name in files.list_folder(self.path):
            if name == "metadata.json" and not self._is_inner:
                yield name
            elif name == "layouts" or (name in FOLDERS and not self._is_inner):
                inner = files.list_folder(self.path / name)
                yield from (f"{name}/{document}" for document in inner if document.endswith(".json"))

    def _replace(self, lost: Mapping[str, str]) -> None:
        """Write the bins of layouts that are lost as a new one, and set aside what stood in their places."""
        self._passed_over.update(lost)
        fate = "its chunks are adopted from their own manifests by load_chunk_index()"
        if self.rebuild is not None:
            layout = self.rebuild()
            if layout is not None:
                self.commit_if_possible(layout)
            fate = "its bins were read from the chunk files instead"
        for name, why in lost.items():
            moved = None if self.rebuild is None else self._set_aside(name)
            place = f"it was moved to '{moved}'" if moved else "it was left where it is"
            if why:
                warnings.warn(
                    f"layout '{self._text}/{name}' is damaged ({why}); {place}, and {fate}",
                    DamageWarning,
                    stacklevel=2,
                )

    def commit_if_possible(self, layout: Layout) -> None:
        """Write a layout and adopt it; where the root can only be read, adopt it for this process.

        Parameters
        ----------
        layout : Layout
            Bins that chunk files name.
        """
        try:
            if self.read_only:
                raise files.read_only_error(self.path)
            self.commit_layout(layout, files.Syncer())
        except OSError:  # a root that can only be read: the bins hold for this process
            self._adopt(_document(layout)[0], layout)

    def _set_aside(self, name: str) -> Path | None:
        path = self.path / name
        seen = None if self.read_only else files.look_at(path)
        if seen is None:
            return None
        return files.quarantine(path, self.path / "quarantine", seen.file_id, lambda _: False)

    def _adopt(self, digest: str, layout: Layout) -> None:
        self.layouts[digest] = layout
        layout.add_to(self.bins)

    def commit_layout(self, layout: Layout, syncer: files.Syncer, metadata: bytes | None = None) -> float:
        """Write a layout and adopt it; it is on disk when this returns.

        Parameters
        ----------
        layout : Layout
            The new bins.
        syncer : Syncer
            Takes note of what must be on disk.
        metadata : bytes, optional
            Content of ``metadata.json``, given where the layout may be one file with it.

        Returns
        -------
        float
            Seconds that writing and syncing took.
        """
        started = time.perf_counter()
        digest, document = _document(layout)
        if metadata is None or not self._commit_as_one(digest, document, metadata, syncer):
            files.commit(self._layout_path(digest), [sealed(document)], syncer)
        syncer.flush()
        written = time.perf_counter()
        if digest not in self.layouts:
            self._adopt(digest, layout)
        self._unite(syncer)
        return written - started

    def _layout_path(self, digest: str) -> Path:
        return self.path / "layouts" / f"{digest}.json"

    def _commit_as_one(
        self, digest: str, document: Mapping[str, Any], metadata: bytes, syncer: files.Syncer
    ) -> bool:
        """Write ``metadata.json`` with the layout in it; tell whether that is what lies there now."""
        path = self.path / "metadata.json"
        data = sealed({**unsealed(metadata)[0], **document})
        return files.commit(path, [data], syncer) or self._holds(path, digest)

    def _holds(self, path: Path, digest: str) -> bool:
        """Tell whether another process wrote a layout into ``metadata.json`` a moment before."""
        try:
            return parsed_layout(files.read_whole(path), os.fspath(path))[0] == digest
        except (ChunkFormatError, OSError):
            return False

    def _unite(self, syncer: files.Syncer) -> None:
        """Replace many layouts by their union, so that opening a cache stays cheap."""
        names = [name for name in files.list_folder(self.path / "layouts") if name.endswith(".json")]
        if len(names) <= MOST_LAYOUTS:
            return
        self.refresh()
        known = ((name.removesuffix(".json"), self.layouts.get(name.removesuffix(".json"))) for name in names)
        parts = [(digest, layout) for digest, layout in known if layout is not None]
        for named in (False, True):
            group = [part for part in parts if (part[1].chunks is not None) == named]
            if len(group) > 1:
                self._write_union(_youngest(group), syncer)

    def _write_union(self, parts: Mapping[str, Layout], syncer: files.Syncer) -> None:
        union = _union(list(parts.values()))
        digest, document = _document(union)
        files.commit(self._layout_path(digest), [sealed(document)], syncer)
        syncer.flush()
        self.layouts[digest] = union
        if not self._holds(self._layout_path(digest), digest):
            return
        for old in parts:
            if old != digest:
                files.remove(self._layout_path(old))

    def contained_layouts(self) -> list[Path]:
        """Return the layouts that say nothing an older one does not say.

        Returns
        -------
        list of Path
            Their files. Values keep their order without them, and so do bins.
        """
        self.refresh()
        there = set(files.list_folder(self.path / "layouts"))
        known = sorted(self.layouts.items(), key=lambda item: (item[1].created_at, item[0]))
        on_disk = [(digest, each) for digest, each in known if f"{digest}.json" in there and each.chunks is None]
        said: set[tuple[str, bytes]] = set()
        idle = []
        for digest, layout in on_disk:
            named = ((axis, group) for axis, groups in layout.bins.items() for group in groups)
            own = {(axis, b"".join(keys_of_values(group))) for axis, group in named}
            if own <= said:
                idle.append(self._layout_path(digest))
            said |= own
        return idle

    def axis_values(self) -> dict[str, list[Any]]:
        """Return the values that layouts name, in the order of their creation.

        Returns
        -------
        dict of str to list
            Axis name to values, each once.
        """
        values: dict[str, dict[bytes, Any]] = {}
        for _, layout in sorted(self.layouts.items(), key=lambda item: (item[1].created_at, item[0])):
            for axis, groups in layout.rows().items():
                known = values.setdefault(axis, {})
                for key, value in zip(keys_of_values(groups.values), groups.values, strict=True):
                    known.setdefault(key, value)
        return {axis: list(known.values()) for axis, known in values.items()}

    # --- metadata ------------------------------------------------------------------------------------------

    def read_metadata(self) -> dict[str, Any] | None:
        """Return what ``metadata.json`` says, None where there is none.

        Returns
        -------
        dict or None
            ``cache_id``, ``axis_values``, ``chunk_spec``, ``axis_order``, ``version``, ``metadata``, and
            the function of a decorated cache.

        Raises
        ------
        MetadataError
            Where the file cannot be read as what this library writes.
        """
        path = self.path / "metadata.json"
        try:
            raw = files.read_whole(path)
        except FileNotFoundError:
            return None
        try:
            document, _ = unsealed(raw)
            values = document["axis_values"]
            document["axis_values"] = {axis: list(from_row(row)) for axis, row in values.items()}
            document["metadata"] = from_jsonable(document["metadata"])
            document["identity"] = bytes.fromhex(document["identity"])
            document["chunk_spec"] = {str(a): int(n) for a, n in document["chunk_spec"].items()}
            document = {name: document[name] for name in _METADATA}  # a missing one is damage
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MetadataError(
                f"'{path}' is damaged ({type(error).__name__}: {error}); expected what chunk_memo writes."
                f" No result is lost: delete the file, and call the function (or open ChunkCache with its"
                f" axis_values) once to write it anew"
            ) from error
        return document

    def metadata_document(self, cache_id: str, grid: Grid, identity: bytes, metadata: Mapping[str, Any]) -> bytes:
        """Return the content of ``metadata.json``.

        Parameters
        ----------
        cache_id : str
            Name of the folder.
        grid : Grid
            The declared grid.
        identity : bytes
            Canonical bytes that the cache id was made from.
        metadata : mapping
            The user's own, with ``params`` and what is known of the function.

        Returns
        -------
        bytes
            JSON.
        """
        document = {
            "cache_id": cache_id,
            "version": self.version,
            "axis_order": list(grid.order),
            "chunk_spec": dict(grid.sizes),
            "axis_values": {axis.name: to_row(axis.values) for axis in grid.axes},
            "metadata": to_jsonable(dict(metadata)),
            "identity": identity.hex(),
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }
        return sealed(document)

    def commit_metadata(self, document: bytes, syncer: files.Syncer) -> Path:
        """Write ``metadata.json`` unless it is there.

        Parameters
        ----------
        document : bytes
            Its content.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        Path
            The file's path.
        """
        path = self.path / "metadata.json"
        files.commit(path, [document], syncer)
        return path

    # --- names of files ------------------------------------------------------------------------------------

    def stamp(self) -> int | None:
        """Return when a name last came or went in ``chunks/``.

        Returns
        -------
        int or None
            Nanoseconds; None where there is no such folder.
        """
        return files.modified_at(f"{self._text}/chunks")

    def flat_names(self) -> tuple[set[str], bool]:
        """Return the names of the chunks that lie directly in ``chunks/``, whole or in part.

        Returns
        -------
        names : set of str
            Names without suffix.
        complete : bool
            Whether these are all: no files are spread over folders.
        """
        listed = files.list_folder(f"{self._text}/chunks")
        names = {name[:-3] for name in listed if name[-3:] == ".h5"}
        if len(names) < len(listed):
            names.update([name[:-6] for name in listed if name[-6:] == ".parts"])
        return names, 2 not in set(map(len, listed))

    def stored(self, limit: int | None) -> tuple[set[str], set[str]] | None:
        """List the chunks of which something is stored, wherever it lies in ``chunks/``.

        Parameters
        ----------
        limit : int or None
            How many names to meet before giving up; None for as many as there are.

        Returns
        -------
        tuple of set of str, or None
            Names without suffix: of the chunks that are complete, and of those with parts; None where there
            are more files and folders than the limit.
        """
        complete: set[str] = set()
        parts: set[str] = set()
        left = sys.maxsize if limit is None else limit
        folders = [self.chunks]
        while folders:
            names = files.some_names(folder := folders.pop(), left)
            left -= len(names)
            if left < 0:
                return None
            whole = [name[:-3] for name in names if name[-3:] == ".h5"]
            complete.update(whole)
            for name in names if len(whole) < len(names) else ():
                if name.endswith(".parts"):
                    parts.add(name[:-6])
                elif len(name) == 2:
                    folders.append(f"{folder}{name}/")
        return complete, parts

    def stored_of(self, names: Iterable[str]) -> tuple[set[str], set[str]]:
        """Look for each of some chunks.

        Parameters
        ----------
        names : iterable of str
            Names without suffix.

        Returns
        -------
        tuple of set of str
            As :meth:`stored`, for those names.
        """
        complete: set[str] = set()
        parts: set[str] = set()
        for name in names:
            paths = self.chunk_paths(name, spread=False)
            if any(files.is_there(f"{path}.h5") for path in paths):
                complete.add(name)
            elif any(files.is_there(f"{path}.parts") for path in paths):
                parts.add(name)
        return complete, parts

    def chunk_paths(self, name: str, *, spread: bool) -> tuple[str, str]:
        """Return where a chunk may lie: first where this cache puts it, then the other place.

        Parameters
        ----------
        name : str
            The chunk's hash.
        spread : bool
            Whether this cache spreads its files over folders.

        Returns
        -------
        tuple of str, str
            Two paths without suffix.
        """
        flat = f"{self._text}/chunks/{name}"
        deep = f"{self._text}/chunks/{name[:2]}/{name}"
        return (deep, flat) if spread else (flat, deep)

    def chunk_files(self) -> Iterator[Path]:
        """Iterate over every file that holds points of a chunk, complete files and parts.

        Yields
        ------
        Path
            One file.
        """
        folders = [self.path / "chunks"]
        while folders:
            folder = folders.pop()
            for name in sorted(files.list_folder(folder)):
                if name.endswith(".h5"):
                    yield folder / name
                elif name.endswith(".parts") or len(name) == 2:
                    folders.append(folder / name)
