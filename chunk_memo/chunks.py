"""One chunk on disk: its name, its complete file, its parts; blocks to files and back.

A chunk is named by what it holds and nothing else: cache id, version, and the digest of its bin for each axis,
axes sorted by name. A complete file holds every point; a part holds some, as a list of points, and is folded
into the complete file when all are there. This module joins the file format (which knows no kinds) and the
kinds of output (which know no files).
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.encoding import decode, encode
from chunk_memo.disk.layouts import Folder
from chunk_memo.errors import (
    ChunkFormatError,
    ChunkMemoError,
    CollisionError,
    DamageWarning,
    FormatVersionError,
    SpecError,
)
from chunk_memo.grid import AxisBins, Bins, ChunkKey, IntArray
from chunk_memo.identity import canonical_bytes, digest_of_bytes, from_jsonable, to_jsonable
from chunk_memo.outputs import Block, Column, PointCoords, combine

__all__ = ["MOST_PARTS", "ChunkRef", "ChunkStore", "Naming", "Part"]

MOST_PARTS = 8
"""A writer that finds this many parts of a chunk writes their union."""

_TRIES = 3
"""How often a part that vanished sends a reader back to the complete file."""

_YOUNG = 60.0
"""Seconds for which a file without its head counts as being written."""


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk by its bins, as one reader sees it."""

    order: tuple[str, ...]
    """Names of the axes in the reader's order."""
    numbers: tuple[int, ...]
    """The number of the bin along each axis."""
    sizes: tuple[int, ...]
    """Number of values along each axis."""
    name: str
    """The file's name without suffix."""
    identity: bytes
    """Canonical identity, compared with that in the file."""
    bins: Bins = field(repr=False, compare=False)
    """The table that the numbers refer to."""

    def values(self, axis: str) -> list[Any]:
        """Return the chunk's values along one axis.

        Parameters
        ----------
        axis : str
            The axis's name.

        Returns
        -------
        list
            Its values in order.
        """
        return self.bins.of(axis).values_of(self.numbers[self.order.index(axis)])

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(self.sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some points of a chunk, as read from a file."""

    path: Path
    """The file."""
    points: IntArray
    """Row-major positions in the chunk, in the reader's axis order."""
    block: Block
    """Their outputs."""
    nbytes: int
    """Length of the file in bytes."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A user's own ways to name and to place files."""

    params: Mapping[str, Any]
    """The cache's params, which both functions are called with."""
    chunk_hash_fn: Callable[[dict[str, Any], ChunkKey, str], str] | None = None
    """``(params, chunk_key, version) -> name``."""
    path_fn: Callable[[dict[str, Any], ChunkKey, str, str], Path | str] | None = None
    """``(params, chunk_key, version, chunk_hash) -> path`` of the complete file."""

    @property
    def plain(self) -> bool:
        """Whether files have the names that their content gives them."""
        return self.chunk_hash_fn is None and self.path_fn is None

    def name(self, key: ChunkKey, version: str, default: str) -> str:
        """Return the name of a chunk's file.

        Parameters
        ----------
        key : ChunkKey
            The chunk.
        version : str
            The cache's version.
        default : str
            The name by content.

        Returns
        -------
        str
            A name that is safe as a file's name.

        Raises
        ------
        SpecError
            Where ``chunk_hash_fn`` returned something else.
        """
        if self.chunk_hash_fn is None:
            return default
        name = self.chunk_hash_fn(dict(self.params), key, version)
        safe = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
        if not safe or name.startswith(".") or any(c in name for c in "/\\:"):
            raise SpecError(
                f"chunk_hash_fn must return a file name (1 to 200 characters, no '/', no leading '.'),"
                f" got {name!r}"
            )
        return name


class ChunkStore:
    """The chunks of one cache.

    Parameters
    ----------
    folder : Folder
        The cache's folder, with its bins.
    cache_id : str
        Name of the cache.
    naming : Naming
        The user's own ways to name files.
    allow_pickle : bool
        Whether outputs without a native form may be pickled, and pickles loaded.
    title : str
        What the HDF5 files are called: the function's name.
    """

    def __init__(
        self, folder: Folder, cache_id: str, naming: Naming, *, allow_pickle: bool, title: str
    ) -> None:
        self.folder = folder
        self.allow_pickle = allow_pickle
        self.spread = False
        self._naming = naming
        self._title = title
        self._prefix = canonical_bytes((cache_id, folder.version))
        self._axis_bytes: dict[str, bytes] = {}
        self._coords: dict[bytes, _AxisCoords] = {}

    # --- names ---------------------------------------------------------------------------------------------

    def ref(self, order: tuple[str, ...], numbers: tuple[int, ...], bins: Bins) -> ChunkRef:
        """Return the chunk that is the product of these bins.

        Parameters
        ----------
        order : tuple of str
            Names of the axes in the reader's order.
        numbers : tuple of int
            The number of the bin along each axis.
        bins : Bins
            The table that the numbers refer to.

        Returns
        -------
        ChunkRef
            The chunk.
        """
        named, identity, sizes = [self._prefix], [self._prefix], []
        by_axis = dict(zip(order, numbers, strict=True))
        for axis in sorted(by_axis):
            first, second = bins.of(axis).digests(by_axis[axis])
            text = self._axis_bytes.get(axis) or self._axis_bytes.setdefault(axis, canonical_bytes(axis))
            named += (text, first)
            identity += (text, first, second)
        for axis, number in by_axis.items():
            sizes.append(bins.of(axis).size(number))
        name = digest_of_bytes(b"".join(named)).hex()
        ref = ChunkRef(order, numbers, tuple(sizes), name, b"".join(identity), bins)
        if self._naming.chunk_hash_fn is None:
            return ref
        return replace(ref, name=self._naming.name(self.key(ref), self.folder.version, name))

    def key(self, ref: ChunkRef) -> ChunkKey:
        """Return a chunk as the document writes it.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        ChunkKey
            Pairs of axis name and values.
        """
        return tuple((axis, tuple(ref.values(axis))) for axis in ref.order)

    def paths(self, ref: ChunkRef) -> tuple[str, ...]:
        """Return where the complete file may lie, best first.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        tuple of str
            Paths.
        """
        if self._naming.path_fn is not None:
            version = self.folder.version
            path = self._naming.path_fn(dict(self._naming.params), self.key(ref), version, ref.name)
            return (os.fspath(self.folder.path / path),)
        first, second = self.folder.chunk_paths(ref.name, spread=self.spread)
        return f"{first}.h5", f"{second}.h5"

    def parts_folders(self, ref: ChunkRef) -> tuple[str, ...]:
        """Return where parts may lie, best first.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        tuple of str
            Folders.
        """
        first, second = self.folder.chunk_paths(ref.name, spread=self.spread)
        return f"{first}.parts", f"{second}.parts"

    # --- reading -------------------------------------------------------------------------------------------

    def load(self, ref: ChunkRef) -> chunkfile.Chunk | None:
        """Open the complete file of a chunk.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        Chunk or None
            The opened file; None where there is none, or where it was damaged and set aside.

        Raises
        ------
        FormatVersionError
            Where a later version of the library wrote it.
        CollisionError
            Where the user's own name stands for two chunks.
        """
        for path in self.paths(ref):
            chunk = self._open(path, ref)
            if chunk is not None:
                return chunk
        return None

    def _open(self, path: str, ref: ChunkRef) -> chunkfile.Chunk | None:
        try:
            chunk = chunkfile.load(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FormatVersionError:
            raise
        except ChunkFormatError as error:
            if not _being_written(path):
                self.set_aside(path, ref, error.seen, str(error))
            return None
        if chunk.identity == ref.identity:
            return chunk
        chunk.close()
        if not self._naming.plain:
            raise CollisionError(
                f"'{path}' holds another chunk of this or another cache: chunk_hash_fn or path_fn gave one"
                f" name to two chunks; make the name depend on every axis and on the version"
            )
        self.set_aside(path, ref, chunk.file_id, "it holds another chunk than its name says")
        return None

    def set_aside(self, path: str, ref: ChunkRef, seen: files.FileId | None, why: str) -> None:
        """Move a damaged file to ``quarantine/`` and say so, once for each file.

        Parameters
        ----------
        path : str
            The file.
        ref : ChunkRef
            The chunk that it should hold.
        seen : tuple of int, int, or None
            Device and inode of the file that was read.
        why : str
            What is wrong with it.
        """

        def is_good(moved: Path) -> bool:
            try:
                chunkfile.verify(moved)
                with chunkfile.load(moved) as chunk:
                    return chunk.identity == ref.identity
            except ChunkMemoError:
                return False

        moved = None
        if seen is not None:
            moved = files.quarantine(Path(path), self.folder.path / "quarantine", seen, is_good)
        place = f"it was moved to '{moved}'" if moved else "it was left where it is"
        warnings.warn(
            f"chunk file '{path}' is damaged ({why}); {place}, and its points are computed again",
            DamageWarning,
            stacklevel=2,
        )

    def block(
        self, ref: ChunkRef, chunk: chunkfile.Chunk, positions: Sequence[IntArray] | None
    ) -> Block | None:
        """Return outputs of a complete file.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        chunk : Chunk
            Its opened file.
        positions : sequence of ndarray, or None
            Positions along each axis of the points wanted; None for all of them.

        Returns
        -------
        Block or None
            The outputs, row-major in the reader's axis order; None where the file turned out to be damaged
            (it is set aside), or holds one opaque output for other points.
        """
        picks = positions
        if picks is not None and all(
            len(pick) == size and bool((pick == np.arange(size)).all())
            for pick, size in zip(picks, ref.sizes, strict=True)
        ):
            picks = None
        try:
            return _Rows(self, ref, chunk, picks).block()
        except FormatVersionError:
            raise
        except ChunkFormatError as error:
            self.set_aside(chunk_path(chunk, self.paths(ref)), ref, chunk.file_id, str(error))
            return None

    def parts(self, ref: ChunkRef) -> list[Part]:
        """Return the parts of a chunk, those with the smaller digest first.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        list of Part
            The parts; of two that hold a point the first counts.

        Raises
        ------
        FileNotFoundError
            Where a part vanished: somebody is folding; look at the complete file again.
        """
        found = []
        for folder in self.parts_folders(ref):
            names = sorted(name for name in files.list_folder(folder) if name.endswith(".h5"))
            for name in names:
                path = f"{folder}/{name}"
                chunk = self._open(path, ref)
                if chunk is None:
                    if not os.path.lexists(path) and not self._has_quarantined(name):
                        raise FileNotFoundError(path)
                    continue
                part = self._part(ref, chunk, path)
                if part is not None:
                    found.append(part)
        return found

    def _has_quarantined(self, name: str) -> bool:
        return any(moved.startswith(name) for moved in files.list_folder(self.folder.path / "quarantine"))

    def _part(self, ref: ChunkRef, chunk: chunkfile.Chunk, path: str) -> Part | None:
        try:
            with chunk:
                rows = _Rows(self, ref, chunk, None)
                return Part(Path(path), rows.points(), rows.block_of_part(), chunk.nbytes)
        except FormatVersionError:
            raise
        except ChunkFormatError as error:
            self.set_aside(path, ref, chunk.file_id, str(error))
            return None

    def everything(self, ref: ChunkRef, chunk: chunkfile.Chunk) -> tuple[Block, IntArray | None]:
        """Return all that a file holds.

        Parameters
        ----------
        ref : ChunkRef
            The chunk that it belongs to.
        chunk : Chunk
            The opened file.

        Returns
        -------
        tuple of Block, ndarray or None
            The outputs, and the positions of their points in the chunk where the file is a part.

        Raises
        ------
        ChunkFormatError
            Where it is damaged.
        """
        rows = _Rows(self, ref, chunk, None)
        if chunk.constant["part"] is not None:
            return rows.block_of_part(), rows.points()
        block = rows.block()
        if block is None:
            raise ChunkFormatError(f"{chunk!r} holds one opaque output for axes in another order")
        return block, None

    def values(self, chunk: chunkfile.Chunk) -> dict[str, list[Any]]:
        """Return the axis values that a chunk's own manifest names, for chunks that no layout names.

        Parameters
        ----------
        chunk : Chunk
            An opened file.

        Returns
        -------
        dict of str to list
            Axis name to values; empty where some axis has values that cannot be rebuilt.
        """
        sizes = chunk.sizes
        values = {}
        for name, tree, arrays in chunk.constant["axes"]:
            if tree is None:
                return {}
            read = {a: chunk.coords(name) if at is None else chunk.array(at) for a, at in arrays.items()}
            values[name] = decode(tree, read, sizes[name])
        return values

    # --- writing -------------------------------------------------------------------------------------------

    def write(
        self,
        ref: ChunkRef,
        points: IntArray | None,
        block: Block,
        seconds: float,
        syncer: files.Syncer,
    ) -> int:
        """Store a block: as the complete file, as a part, or folded with the parts that are there.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        points : ndarray of intp or None
            Row-major positions of the block's points in the chunk; None for all of them in order.
        block : Block
            The outputs.
        seconds : float
            Seconds of compute.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        int
            Bytes written.
        """
        if points is None:
            return self._commit(ref, None, block, seconds, syncer)
        try:
            parts = [] if block.kind == "opaque" else self.parts(ref)
        except FileNotFoundError:
            parts = []
        pieces = _disjoint([(points, block), *((part.points, part.block) for part in parts)])
        total = sum(len(rows) for _, rows, _ in pieces)
        if parts and (total == ref.points or len(parts) >= MOST_PARTS):
            return self._fold(ref, pieces, parts, seconds, syncer)
        return self._commit(ref, points, block, seconds, syncer)

    def _fold(
        self,
        ref: ChunkRef,
        pieces: list[tuple[IntArray, IntArray, Block]],
        parts: list[Part],
        seconds: float,
        syncer: files.Syncer,
    ) -> int:
        """Write the union of a new block and the parts that are there; then remove those."""
        points = np.concatenate([points for points, _, _ in pieces])
        order = np.argsort(points)
        points = points[order]
        whole = len(points) == ref.points
        coords = self.coords(ref, None if whole else points)
        block = combine([(b, rows) for _, rows, b in pieces], order, coords, self.allow_pickle)
        written = self._commit(ref, None if whole else points, block, seconds, syncer)
        syncer.flush()
        if not whole or self._is_intact(ref):
            kept = self._part_path(ref, points, block) if not whole else None
            for part in parts:
                if str(part.path) != kept:
                    files.remove(part.path)
            if whole:
                for folder in self.parts_folders(ref):
                    files.remove_folder(folder)
        return written

    def _is_intact(self, ref: ChunkRef) -> bool:
        """Tell whether the complete file, whoever wrote it, may stand for its parts."""
        for path in self.paths(ref):
            try:
                chunkfile.verify(path)
                return True
            except (FileNotFoundError, ChunkFormatError):
                continue
        return False

    def _commit(
        self,
        ref: ChunkRef,
        points: IntArray | None,
        block: Block,
        seconds: float,
        syncer: files.Syncer,
    ) -> int:
        path = self.paths(ref)[0] if points is None else self._part_path(ref, points, block)
        buffers = chunkfile.image(self._content(ref, points, block, seconds))
        files.commit(Path(path), buffers, syncer)
        return sum(len(buffer) for buffer in buffers)

    def _part_path(self, ref: ChunkRef, points: IntArray, block: Block) -> str:
        content = [ref.identity, points.tobytes()]
        for name, column in block.columns.items():
            content += [canonical_bytes(name), canonical_bytes(repr_of_tree(column.tree))]
            for label, array in column.arrays.items():
                data = np.ascontiguousarray(array)
                content += [label.encode(), str(data.dtype).encode(), data.tobytes()]
        return f"{self.parts_folders(ref)[0]}/{digest_of_bytes(b''.join(content)).hex()}.h5"

    def _content(
        self, ref: ChunkRef, points: IntArray | None, block: Block, seconds: float
    ) -> chunkfile.Content:
        draft = _Draft(ref, None if points is None else _free_name("point", ref.order))
        for name, number in zip(ref.order, ref.numbers, strict=True):
            draft.add_axis(name, self._axis_coords(ref.bins.of(name), number))
        if points is not None and draft.part is not None:
            draft.coords[draft.part] = points.astype(np.int64)
        for name, column in block.columns.items():
            draft.add_column(name, column)
        constant = {
            "kind": block.kind,
            "axes": draft.axes,
            "columns": draft.columns,
            "part": draft.part,
        }
        return chunkfile.Content(
            constant,
            ref.identity,
            draft.arrays,
            draft.dims,
            draft.coords,
            time.time_ns(),
            seconds,
            {"title": self._title} if self._title else {},
        )

    def _axis_coords(self, table: AxisBins, number: int) -> _AxisCoords:
        digest = table.digests(number)[0]
        found = self._coords.get(digest)
        if found is None:
            found = self._coords[digest] = _axis_coords(table.values_of(number))
            if len(self._coords) > 4096:
                self._coords.pop(next(iter(self._coords)))
        return found

    def coords(self, ref: ChunkRef, points: IntArray | None) -> PointCoords:
        """Return the axis values at each point of a chunk.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        points : ndarray of intp or None
            Row-major positions; None for all points.

        Returns
        -------
        PointCoords
            The values.
        """
        return PointCoords(ref.order, [ref.values(axis) for axis in ref.order], points)


def chunk_path(chunk: chunkfile.Chunk, paths: Iterable[str]) -> str:
    """Return which of these paths an opened file lies at.

    Parameters
    ----------
    chunk : Chunk
        The opened file.
    paths : iterable of str
        Where it may lie.

    Returns
    -------
    str
        Its path.
    """
    known = list(paths)
    for path in known:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == chunk.file_id:
            return path
    return known[0]


def repr_of_tree(tree: Any) -> str:
    """Return a tree as one text.

    Parameters
    ----------
    tree : object
        What JSON can say.

    Returns
    -------
    str
        The text.
    """
    import json

    return json.dumps(tree, sort_keys=True)


def _being_written(path: str) -> bool:
    """Tell whether a file without its head is young enough to be still being written."""
    try:
        status = os.stat(path)
        return (
            status.st_size > files.HEAD_SIZE  # a truncated file is damage
            and time.time() - status.st_mtime < _YOUNG
            and chunkfile.is_unfinished(files.read_file(path, files.HEAD_SIZE)[0])
        )
    except OSError:
        return False


def _free_name(wish: str, taken: Iterable[str]) -> str:
    names = set(taken)
    while wish in names:
        wish += "_"
    return wish


def _disjoint(
    pieces: list[tuple[IntArray, Block]],
) -> list[tuple[IntArray, IntArray, Block]]:
    """Return for each piece the points that no earlier one holds, and its rows for them."""
    seen = np.zeros(0, np.intp)
    out = []
    for points, block in pieces:
        rows = np.flatnonzero(~np.isin(points, seen))
        if len(rows):
            out.append((points[rows], rows, block))
            seen = np.concatenate([seen, points[rows]])
    return out


# --- what lies in a file -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _AxisCoords:
    """A bin's values as a file holds them."""

    coord: Any
    """The coordinate array, or the number of values."""
    tree: Any
    """The tree that rebuilds the values exactly; None where they have no native form."""
    label: str | None
    """The name that the tree has for the coordinate array."""
    raw: Mapping[str, Any]
    """Further arrays where one coordinate array does not say it all."""


def _axis_coords(values: list[Any]) -> _AxisCoords:
    try:
        encoded = encode(values)
    except ChunkMemoError:
        return _AxisCoords(len(values), None, None, {})
    if len(encoded.arrays) == 1 and encoded.pointwise:
        ((label, array),) = encoded.arrays.items()
        if array.ndim == 1:
            return _AxisCoords(array, encoded.tree, label, {})
    return _AxisCoords(len(values), encoded.tree, None, encoded.arrays)


class _Draft:
    """The members of a file, gathered under names that do not clash."""

    def __init__(self, ref: ChunkRef, part: str | None) -> None:
        self.ref = ref
        self.part = part
        self.arrays: dict[str, Any] = {}
        self.dims: dict[str, tuple[str, ...]] = {}
        self.coords: dict[str, Any] = {}
        self.axes: list[Any] = []
        self.columns: list[Any] = []

    def add_axis(self, name: str, found: _AxisCoords) -> None:
        self.coords[name] = found.coord
        where: dict[str, str | None] = {}
        if found.label is not None:
            where[found.label] = None
        for label, array in found.raw.items():
            where[label] = self._put(f"{name} values {label}".strip(), array, None)
        self.axes.append([name, found.tree, where])

    def add_column(self, name: Any, column: Column) -> None:
        shape = (-1,) if self.part is not None else self.ref.sizes
        dims = (self.part,) if self.part is not None else self.ref.order
        where = {}
        for label, array in column.arrays.items():
            wish = str(name) if label in ("", str(name), "output") else label
            if name != "" and wish == label != str(name):
                wish = f"{name}/{label}"
            if column.pointwise:
                rows = len(array) if shape == (-1,) else None
                lead = shape if rows is None else (rows,)
                where[label] = self._put(wish or "output", array.reshape(*lead, *array.shape[1:]), dims)
            else:
                where[label] = self._put(wish or "output", array, None)
        self.columns.append([to_jsonable(name), column.form, column.tree, column.pointwise, where])

    def _put(self, wish: str, array: Any, dims: tuple[str, ...] | None) -> str:
        name = _free_name(wish, [*self.arrays, *self.ref.order, *self.coords])
        self.arrays[name] = array
        if dims is not None:
            self.dims[name] = dims
        return name


class _Rows:
    """Rows of a file, in the reader's axis order."""

    def __init__(
        self,
        store: ChunkStore,
        ref: ChunkRef,
        chunk: chunkfile.Chunk,
        picks: Sequence[IntArray] | None,
    ) -> None:
        self._store = store
        self._ref = ref
        self._chunk = chunk
        self._picks = picks
        names = tuple(name for name, _, _ in chunk.constant["axes"])
        if sorted(names) != sorted(ref.order):
            raise ChunkFormatError(f"its axes are {names}, expected {ref.order}")
        self._perm = tuple(names.index(name) for name in ref.order)
        self._sizes = tuple(ref.sizes[ref.order.index(name)] for name in names)
        self._names = names

    def block(self) -> Block | None:
        """The rows picked of a complete file."""
        ref, kind = self._ref, self._chunk.constant["kind"]
        straight = self._perm == tuple(range(len(self._perm)))
        if kind == "opaque":
            return self._opaque(None) if self._picks is None and straight else None
        columns = {}
        for name, form, tree, pointwise, where in self._chunk.constant["columns"]:
            column = self._column(form, tree, pointwise, where, straight)
            columns[from_jsonable(name)] = column
        values = [ref.values(axis) for axis in ref.order]
        if self._picks is not None:
            values = [[v[i] for i in pick] for v, pick in zip(values, self._picks, strict=True)]
        count = math.prod(len(v) for v in values)
        return Block(kind, count, columns, PointCoords(ref.order, values))

    def _column(
        self, form: str, tree: Any, pointwise: bool, where: Mapping[str, str], straight: bool
    ) -> Column:
        if not pointwise:
            arrays = {label: self._chunk.array(name) for label, name in where.items()}
            column = Column(form, tree, arrays, False)
            objects = column.objects(
                self._ref.points, self._own_coords(), allow_pickle=self._store.allow_pickle
            )
            return Column("objects", None, {"": self._taken(objects.reshape(self._sizes))}, True)
        if self._picks is None and straight:
            arrays = {label: self._chunk.array(name) for label, name in where.items()}
            rows = {n: a.reshape(self._ref.points, *a.shape[len(self._sizes) :]) for n, a in arrays.items()}
            return Column(form, tree, rows, True)
        return Column(form, tree, {label: self._rows(name) for label, name in where.items()}, True)

    def _rows(self, name: str) -> Any:
        """Read no more of an array than the rows picked along its first axis span."""
        if self._picks is None or not self._names:
            return self._taken(self._chunk.array(name))
        picks = list(self._picks)
        first = self._ref.order.index(self._names[0])
        low, high = int(picks[first].min()), int(picks[first].max()) + 1
        array = self._chunk.rows(name, low, high)
        picks[first] = picks[first] - low
        return self._taken(array, picks)

    def _taken(self, array: Any, picks: Sequence[IntArray] | None = None) -> Any:
        """Turn an array to the reader's axis order and take the points picked."""
        axes = len(self._perm)
        array = array.transpose(*self._perm, *range(axes, array.ndim))
        picks = picks if picks is not None else self._picks
        if picks is not None:
            array = array[np.ix_(*picks)]
        return array.reshape(math.prod(array.shape[:axes]), *array.shape[axes:])

    def _own_coords(self) -> PointCoords:
        """The axis values at each point, in the file's order."""
        return PointCoords(self._names, [self._ref.values(name) for name in self._names])

    def points(self) -> IntArray:
        """Positions of a part's points, in the reader's axis order."""
        dim = self._chunk.constant["part"]
        if dim is None:
            raise ChunkFormatError("it is a complete chunk where a part was expected")
        points = self._chunk.coords(dim).astype(np.intp)
        if len(points) and not 0 <= points.min() <= points.max() < self._ref.points:
            raise ChunkFormatError("its points lie outside of the chunk")
        if self._perm == tuple(range(len(self._perm))):
            return points
        index = np.unravel_index(points, self._sizes)
        return np.ravel_multi_index(tuple(index[i] for i in self._perm), self._ref.sizes)

    def block_of_part(self) -> Block:
        """Every row of a part."""
        kind, points = self._chunk.constant["kind"], self.points()
        coords = self._store.coords(self._ref, points)
        if kind == "opaque":
            return self._opaque(points)
        columns = {}
        for name, form, tree, pointwise, where in self._chunk.constant["columns"]:
            arrays = {label: np.array(self._chunk.array(at)) for label, at in where.items()}
            column = Column(form, tree, arrays, pointwise)
            if not pointwise:
                objects = column.objects(len(points), coords, allow_pickle=self._store.allow_pickle)
                column = Column("objects", None, {"": objects}, True)
            columns[from_jsonable(name)] = column
        return Block(kind, len(points), columns, coords)

    def _opaque(self, points: IntArray | None) -> Block:
        ((name, form, tree, _, where),) = self._chunk.constant["columns"]
        arrays = {label: np.array(self._chunk.array(at)) for label, at in where.items()}
        coords = self._store.coords(self._ref, points)
        count = self._ref.points if points is None else len(points)
        return Block("opaque", count, {from_jsonable(name): Column(form, tree, arrays, False)}, coords)
