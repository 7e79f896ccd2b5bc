"""Which bins a cache has, and which chunk files exist; a cache's folder as it lies on disk.

::

    <root>/<cache_id>/
      metadata.json                                 who this cache is, and the bins of a cache of one chunk
      layouts/<digest>.json                         bins that a run brought into being
      chunks/[<hh>/]<chunk_hash>.h5                 a complete chunk
      chunks/[<hh>/]<chunk_hash>.parts/<digest>.h5  some points of a chunk
      quarantine/…                                  damaged files, moved aside

A layout is immutable and named by the digest of its content, ``created_at`` left out, so processes that make
the same bins write the same file. A cache of one chunk shall cost four inodes and no more, so its layout
lies in ``metadata.json``. Where that is lost, because files were copied into a folder that has one, or because
it was damaged, the bins are read from the chunk files' own manifests, and written as a new layout: chunk files
that no known bins name are looked for whenever points are about to be run.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.errors import ChunkFormatError, DamageWarning, FormatVersionError, MetadataError
from chunk_memo.grid import Bins, Grid
from chunk_memo.identity import canonical_many, digest_of_bytes, from_jsonable, to_jsonable

__all__ = ["MOST_LAYOUTS", "SHARD_ABOVE", "Folder", "Layout"]

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
    """For each axis the new bins, each a list of values."""
    chunks: Sequence[Sequence[int]] | None = None
    """Chunks named one by one: for each, the number of its bin in `bins` per axis, axes sorted by name."""
    created_at: int = field(default=0, compare=False)
    """Nanoseconds since 1970-01-01 UTC."""

    def to_json(self) -> dict[str, Any]:
        """Return what the digest covers.

        Returns
        -------
        dict
            The content, ``created_at`` left out.
        """
        bins = {
            axis: [[to_jsonable(value) for value in values] for values in groups]
            for axis, groups in self.bins.items()
        }
        return {
            "format": _FORMAT_VERSION,
            "version": self.version,
            "axis_order": list(self.axis_order),
            "chunk_spec": dict(self.chunk_spec),
            "bins": bins,
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
        for axis, groups in self.bins.items():
            table, regular = bins.of(axis), self.chunks is None
            numbers[axis] = [table.add(vs, canonical_many(vs), regular=regular) for vs in groups]
        for chunk in self.chunks or ():
            named = zip(sorted(numbers), chunk, strict=True)
            box = tuple((axis, numbers[axis][number]) for axis, number in named)
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
        bins = {
            axis: [[from_jsonable(value) for value in values] for values in groups]
            for axis, groups in content["bins"].items()
        }
        return cls(
            content["version"],
            tuple(content["axis_order"]),
            dict(content["chunk_spec"]),
            bins,
            content["chunks"],
            created_at,
        )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return digest_of_bytes(text.encode()).hex()


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
    bins: dict[str, list[Sequence[Any]]] = {}
    chunks: list[list[int]] | None = None if parts[0].chunks is None else []
    for part in parts:
        base = {axis: len(bins.get(axis, ())) for axis in part.bins}
        for axis, groups in part.bins.items():
            bins.setdefault(axis, []).extend(groups)
        for chunk in part.chunks or ():
            assert chunks is not None
            named = zip(sorted(part.bins), chunk, strict=True)
            chunks.append([base[axis] + number for axis, number in named])
    last = parts[-1]
    return Layout(last.version, last.axis_order, last.chunk_spec, bins, chunks, parts[0].created_at)


def _document(layout: Layout) -> tuple[str, dict[str, Any]]:
    """Return the digest of a layout, and what its file holds."""
    content = layout.to_json()
    return _digest(content), {"layout_created_at": layout.created_at, "layout": content}


def _sealed(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return a document as JSON with a checksum in it."""
    text = json.dumps({**document, "checksum": _digest(document)}, indent=indent, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "surrogatepass")


def _unsealed(data: bytes) -> dict[str, Any]:
    """Return the document in a file; any of many errors where it is not what was written."""
    document: dict[str, Any] = json.loads(data)
    if document.pop("checksum") != _digest(document):
        raise ValueError("its checksum does not hold")
    return document


def _parsed(data: bytes, subject: str) -> tuple[str, Layout]:
    """Return the layout in a file, and the digest of its content."""
    try:
        document = _unsealed(data)
        content = document["layout"]
        digest = _digest(content)
        if content["format"] <= _FORMAT_VERSION:
            return digest, Layout.from_json(content, int(document["layout_created_at"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ChunkFormatError(f"{type(error).__name__}: {error}") from error
    raise FormatVersionError(
        f"layout '{subject}' was written by a later chunk_memo: expected format version {_FORMAT_VERSION} at"
        f" most, found {content['format']}; upgrade chunk_memo"
    )


class Folder:
    """The folder of one cache: its metadata, its layouts, the names of its files.

    Parameters
    ----------
    path : Path
        ``<root>/<cache_id>``.
    version : str
        Only layouts of this version count.
    """

    def __init__(self, path: Path, version: str) -> None:
        self.path = path
        self.version = version
        self.bins = Bins()
        self.layouts: dict[str, Layout] = {}
        self.rebuild: Callable[[], Layout | None] | None = None
        self._passed_over: set[str] = set()
        self._text = os.fspath(path)

    # --- layouts -------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the layouts that are new on disk; where one is damaged, find its bins in the chunk files.

        Returns
        -------
        bool
            Whether any was new.

        Raises
        ------
        FormatVersionError
            Where a later version of the library wrote one.
        """
        known = len(self.layouts)
        lost: dict[str, str] = {}
        for _ in range(_TRIES):
            fresh, wrong, again = self._read_new()
            for digest, layout in sorted(fresh, key=lambda item: (item[1].created_at, item[0])):
                if digest not in self.layouts:
                    self._adopt(digest, layout)
            lost |= wrong
            if not again:
                break
        if lost:
            self._replace(lost)
        return len(self.layouts) != known

    def _read_new(self) -> tuple[list[tuple[str, Layout]], dict[str, str], bool]:
        """Read what is new; return layouts, what is wrong with others by name, and whether one vanished."""
        fresh, wrong, again = [], {}, False
        for name in self._layout_names():
            digest = name.removeprefix("layouts/").removesuffix(".json")
            if digest in self.layouts or name in self._passed_over:
                continue
            try:
                data = files.read_whole(self.path / name)
                if name == "metadata.json":
                    self._passed_over.add(name)
                    fresh += self._layout_in_metadata(data)
                    continue
                found = _parsed(data, f"{self._text}/{name}")
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
            found = _parsed(data, f"{self._text}/metadata.json")
        except ChunkFormatError:
            return []
        return [found] if found[1].version == self.version else []

    def _layout_names(self) -> Iterator[str]:
        for name in files.list_folder(self.path):
            if name == "metadata.json":
                yield name
            elif name == "layouts":
                inner = files.list_folder(self.path / "layouts")
                yield from (f"layouts/{layout}" for layout in inner if layout.endswith(".json"))

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
            self.commit_layout(layout, files.Syncer())
        except OSError:  # a root that can only be read: the bins hold for this process
            self._adopt(_digest(layout.to_json()), layout)

    def _set_aside(self, name: str) -> Path | None:
        path = self.path / name
        try:
            status = os.stat(path)
        except OSError:
            return None
        seen = (status.st_dev, status.st_ino)
        return files.quarantine(path, self.path / "quarantine", seen, lambda _: False)

    def _adopt(self, digest: str, layout: Layout) -> None:
        self.layouts[digest] = layout
        layout.add_to(self.bins)

    def commit_layout(self, layout: Layout, syncer: files.Syncer, metadata: bytes | None = None) -> None:
        """Write a layout and adopt it; it is on disk when this returns.

        Parameters
        ----------
        layout : Layout
            The new bins.
        syncer : Syncer
            Takes note of what must be on disk.
        metadata : bytes, optional
            Content of ``metadata.json``, given where the layout may be one file with it.
        """
        digest, document = _document(layout)
        if metadata is None or not self._commit_as_one(digest, document, metadata, syncer):
            files.commit(self._layout_path(digest), [_sealed(document)], syncer)
        syncer.flush()
        if digest not in self.layouts:
            self._adopt(digest, layout)
        self._unite(syncer)

    def _layout_path(self, digest: str) -> Path:
        return self.path / "layouts" / f"{digest}.json"

    def _commit_as_one(
        self, digest: str, document: Mapping[str, Any], metadata: bytes, syncer: files.Syncer
    ) -> bool:
        """Write ``metadata.json`` with the layout in it; tell whether that is what lies there now."""
        path = self.path / "metadata.json"
        data = _sealed({**_unsealed(metadata), **document}, indent=1)
        return files.commit(path, [data], syncer) or self._holds(path, digest)

    def _holds(self, path: Path, digest: str) -> bool:
        """Tell whether another process wrote a layout into ``metadata.json`` a moment before."""
        try:
            return _parsed(files.read_whole(path), os.fspath(path))[0] == digest
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
        files.commit(self._layout_path(digest), [_sealed(document)], syncer)
        syncer.flush()
        self.layouts[digest] = union
        if not self._holds(self._layout_path(digest), digest):
            return
        for old in parts:
            if old != digest:
                files.remove(self._layout_path(old))

    def axis_values(self) -> dict[str, list[Any]]:
        """Return the values that layouts name, in the order of their creation.

        Returns
        -------
        dict of str to list
            Axis name to values, each once.
        """
        values: dict[str, dict[bytes, Any]] = {}
        for _, layout in sorted(self.layouts.items(), key=lambda item: (item[1].created_at, item[0])):
            for axis, groups in layout.bins.items():
                known = values.setdefault(axis, {})
                for group in groups:
                    for key, value in zip(canonical_many(group), group, strict=True):
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
            document = _unsealed(raw)
            values = document["axis_values"]
            document["axis_values"] = {axis: [from_jsonable(v) for v in vs] for axis, vs in values.items()}
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
            "axis_values": {axis.name: [to_jsonable(v) for v in axis.values] for axis in grid.axes},
            "metadata": to_jsonable(dict(metadata)),
            "identity": identity.hex(),
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }
        return _sealed(document, indent=1)

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

    def flat_names(self) -> set[str]:
        """Return the names of the chunks that lie directly in ``chunks/``, whole or in part.

        Returns
        -------
        set of str
            Names without suffix.
        """
        names = files.list_folder(f"{self._text}/chunks")
        return {name.rpartition(".")[0] for name in names if name.endswith((".h5", ".parts"))}

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
