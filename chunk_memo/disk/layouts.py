"""Which bins a cache has, and which chunk files exist; a cache's folder as it lies on disk.

::

    <root>/<cache_id>/
      metadata.json                                 who this cache is; written once
      layouts/<digest>.json                         bins that a run brought into being
      layout-<digest>.json                          the same, of a cache that began with a single chunk
      chunks/[<hh>/]<chunk_hash>.h5                 a complete chunk
      chunks/[<hh>/]<chunk_hash>.parts/<digest>.h5  some points of a chunk
      quarantine/…                                  damaged files, moved aside

A layout is immutable and named by the digest of its content, ``created_at`` left out, so processes that make
the same bins write the same file. A cache of one chunk shall cost four inodes and no more, yet its bins must
survive being copied into another cache: its layout is therefore the very file that is also ``metadata.json``,
under a second name. Both are read; neither is ever changed.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.errors import DamageWarning, MetadataError
from chunk_memo.grid import Bins, Grid
from chunk_memo.identity import canonical_many, digest_of_bytes, from_jsonable, to_jsonable

__all__ = ["Folder", "Layout", "MOST_LAYOUTS"]

MOST_LAYOUTS = 64
"""Above this number of layouts a writer commits their union and removes those it holds."""

SHARD_ABOVE = 4096
"""Grids of more chunks than this spread their files over 256 folders."""


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
        self._damaged: set[str] = set()
        self._foreign: set[str] = set()
        self._text = os.fspath(path)

    # --- layouts -------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the layouts that are new on disk.

        Returns
        -------
        bool
            Whether any was new.
        """
        fresh = [layout for name in self._layout_names() if (layout := self._load(name)) is not None]
        for name, layout in sorted(fresh, key=lambda item: (item[1].created_at, item[0])):
            self._adopt(name, layout)
        return bool(fresh)

    def _layout_names(self) -> Iterator[str]:
        for name in files.list_folder(self.path):
            if name.startswith("layout-") and name.endswith(".json"):
                yield name
            elif name == "layouts":
                yield from (f"layouts/{inner}" for inner in files.list_folder(self.path / "layouts"))

    def _load(self, name: str) -> tuple[str, Layout] | None:
        digest = name.removeprefix("layouts/").removeprefix("layout-").removesuffix(".json")
        if digest in self.layouts or digest in self._damaged or digest in self._foreign:
            return None
        if not name.endswith(".json"):
            return None
        try:
            data = json.loads(files.read_whole(self.path / name))
            content = data["layout"]
            if _digest(content) != digest:
                raise ValueError("its name is not the digest of its content")
            layout = Layout.from_json(content, int(data["layout_created_at"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._damaged.add(digest)
            warnings.warn(
                f"layout {name!r} of cache {self._text!r} is damaged ({error}); it is left out, and its"
                f" chunks are adopted from their own manifests by load_chunk_index()",
                DamageWarning,
                stacklevel=2,
            )
            return None
        if layout.version != self.version:
            self._foreign.add(digest)
            return None
        return digest, layout

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
        content = layout.to_json()
        digest = _digest(content)
        if metadata is None or not self._commit_as_one(digest, layout, metadata, syncer):
            document = {"layout_created_at": layout.created_at, "layout": content}
            data = json.dumps(document, ensure_ascii=True).encode()
            files.commit(self.path / "layouts" / f"{digest}.json", [data], syncer)
        syncer.flush()
        if digest not in self.layouts:
            self._adopt(digest, layout)
        self._unite(syncer)

    def _commit_as_one(self, digest: str, layout: Layout, metadata: bytes, syncer: files.Syncer) -> bool:
        """Write ``metadata.json`` with the layout in it, and give it the layout's name too."""
        document = json.loads(metadata)
        document["layout_created_at"] = layout.created_at
        document["layout"] = layout.to_json()
        path = self.path / "metadata.json"
        if not files.commit(path, [_pretty(document)], syncer):
            return False
        return files.second_name(path, self.path / f"layout-{digest}.json", syncer)

    def _unite(self, syncer: files.Syncer) -> None:
        """Replace many layouts by their union, so that opening a cache stays cheap."""
        names = [n for n in files.list_folder(self.path / "layouts") if n.endswith(".json")]
        if len(names) <= MOST_LAYOUTS:
            return
        self.refresh()
        parts = [self.layouts[n[:-5]] for n in names if n[:-5] in self.layouts]
        for chunks in (False, True):
            group = [part for part in parts if (part.chunks is not None) == chunks]
            if len(group) > 1:
                self._write_union(group, syncer)

    def _write_union(self, parts: list[Layout], syncer: files.Syncer) -> None:
        parts.sort(key=lambda part: (part.created_at, _digest(part.to_json())))
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
        union = Layout(last.version, last.axis_order, last.chunk_spec, bins, chunks, parts[0].created_at)
        digest = _digest(union.to_json())
        document = {"layout_created_at": union.created_at, "layout": union.to_json()}
        data = json.dumps(document).encode()
        files.commit(self.path / "layouts" / f"{digest}.json", [data], syncer)
        syncer.flush()
        self.layouts[digest] = union
        for part in parts:
            old = _digest(part.to_json())
            if old != digest:
                files.remove(self.path / "layouts" / f"{old}.json")

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
            document = json.loads(raw)
            if not isinstance(document, dict):
                raise TypeError(f"expected an object, got {type(document).__name__}")
            document.pop("layout", None)
            document.pop("layout_created_at", None)
            values = document["axis_values"]
            document["axis_values"] = {axis: [from_jsonable(v) for v in vs] for axis, vs in values.items()}
            document["metadata"] = from_jsonable(document["metadata"])
            document["identity"] = bytes.fromhex(document["identity"])
            document["chunk_spec"] = {str(a): int(n) for a, n in document["chunk_spec"].items()}
            for name in ("cache_id", "version", "axis_order", "created_at"):
                document[name]  # noqa: B018  a missing key is damage
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MetadataError(
                f"'{path}' is damaged ({type(error).__name__}: {error}); expected what chunk_memo writes."
                f" No result is lost: delete the file, and call the function (or open ChunkCache with its"
                f" axis_values) once to write it anew"
            ) from error
        return document

    def metadata_document(
        self, cache_id: str, grid: Grid, identity: bytes, metadata: Mapping[str, Any]
    ) -> bytes:
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
        return _pretty(document)

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


def _pretty(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
