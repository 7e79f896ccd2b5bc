"""The chunks of one cache on disk: their names, their complete files, their parts; folding and quarantine.

A chunk is named by what it holds and nothing else: cache id, version, and the digest of its bin for each
axis, axes sorted by name. A complete file holds every point; a part holds some, as a list of points. Whoever
writes the last missing part folds all of them into the complete file. What a file holds is the business of
:mod:`chunk_memo.blockfile`; here it is opened, believed or set aside, and replaced.

Three rules keep every point through any race of writers: a file is removed only after the one that holds the
same points was verified and synced; a writer of a part looks for the complete file, and for other parts,
*after* its own is there; and a file that cannot be read just now is a miss, never damage.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.blockfile import (
    BlockWriter,
    ChunkRef,
    axis_values,
    check_manifest,
    read_complete,
    read_part,
    same_outputs,
    signed_by,
)
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.encoding import decode_array
from chunk_memo.disk.layouts import ROOMS, Folder, Layout
from chunk_memo.disk.signing import Signer, own_key
from chunk_memo.errors import (
    ChunkFormatError,
    ChunkMemoError,
    CollisionError,
    DamageWarning,
    EncodingError,
    FormatVersionError,
    SpecError,
)
from chunk_memo.grid import AxisBins, Bins, ChunkKey, IntArray
from chunk_memo.identity import canonical_bytes, canonical_many, digest_of_bytes
from chunk_memo.naming import chunk_names
from chunk_memo.outputs import Block, Column, combine

__all__ = ["MOST_PARTS", "ChunkRef", "ChunkStore", "Naming", "Part", "Written"]

_MOST_PRODUCTS = 64
"""Up to this many possible chunks per file it is quicker to name them all than to read the files."""

_MOST_KEPT = 8192
"""Up to this many names are kept from a look for files without a layout to the read that follows it."""

MOST_PARTS = 8
"""A writer that finds this many parts of a chunk, its own included, writes their union."""

_TRIES = 100
"""How often parts are listed again when one vanished."""

_MOST_COMMITS = 5
"""How often a file is committed where a damaged one is in the way."""

_ROOM = 1 << 20
"""Bytes of a file besides its outputs, at most."""

_PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Seconds to wait for a file that another process is writing, where it can neither be linked nor renamed."""

_NO_POINTS: IntArray = np.zeros(0, np.intp)

_YOUNG = 60.0
"""Seconds for which a file without its head counts as being written."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some points of a chunk, as read from a file or about to be written."""

    path: str
    """The file; empty for one that is still to be written."""
    points: IntArray
    """Row-major positions in the chunk, in the reader's axis order."""
    block: Block
    """Their outputs."""
    seconds: float
    """Seconds of compute."""
    nbytes: int = 0
    """Length of the file in bytes."""
    differs: bool = False
    """Whether the file was there already, and holds other outputs."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of outputs that were to be stored."""

    nbytes: int
    """Bytes written."""
    differs: bool = False
    """Whether the chunk was stored already with other outputs, which are kept."""


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
        name: Any = self.chunk_hash_fn(dict(self.params), key, version)
        safe = isinstance(name, str) and name.isprintable() and 0 < len(name.encode()) <= 200
        if not safe or name.startswith(".") or any(c in name for c in "/\\:"):
            raise SpecError(
                f"chunk_hash_fn must return a file name (1 to 200 bytes, no '/', no leading '.'), got {name!r}"
            )
        return str(name)


def _store_alone(
    place: tuple[Path, str, bool],
    cache_id: str,
    naming: Naming,
    settings: Mapping[str, Any],
    spread: bool,
    generation: int,
) -> ChunkStore:
    """Return the chunks of a cache as a worker has them."""
    path, version, read_only = place
    store = ChunkStore(Folder(path, version, read_only=read_only), cache_id, naming, **settings)
    store.spread = spread
    return store.of_generation(generation) if generation else store


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """The names and identities of all products of some bins, by their numbers."""

    bins: Bins
    """The table that the numbers refer to."""
    order: tuple[str, ...]
    """Names of the axes."""
    names: npt.NDArray[np.object_]
    """The names, one dimension for each axis."""
    identities: npt.NDArray[np.uint8]
    """The identities, with one dimension more."""


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
        Whether outputs without a native form may be pickled, and pickles loaded that a trusted key signed.
    title : str
        What the HDF5 files are called: the function's name.
    compression : str, optional
        How the arrays of new files are compressed; any file can be read.
    signer : Signer, optional
        Signs pickles, and tells which may be loaded; by default one with this user's key for this cache.
    max_bytes : int, optional
        Length of a file, and bytes of its arrays, that are neither read nor written.
    """

    def __init__(
        self,
        folder: Folder,
        cache_id: str,
        naming: Naming,
        *,
        allow_pickle: bool,
        title: str,
        compression: str | None = None,
        signer: Signer | None = None,
        max_bytes: int = chunkfile.MAX_BYTES,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.allow_pickle = allow_pickle
        self.spread = False
        self.generation = 0
        self.cache_id = cache_id
        self._naming = naming
        if allow_pickle and signer is None:
            signer = Signer(f"cache {cache_id}", folder.path.parent)
        self._signer = signer if allow_pickle else None
        self._writer = BlockWriter(title, compression, self._signer)
        self._prefix = canonical_bytes((cache_id, folder.version))
        self._turns: dict[tuple[str, ...], list[tuple[int, bytes]]] = {}
        self._told: set[tuple[str, files.FileId | None]] = set()
        self._named: set[str] = set()
        self._named_all = False
        self._whole: _Whole | None = None
        self._stamp: int | None = None
        folder.rebuild = self.orphans

    def of_generation(self, generation: int) -> ChunkStore:
        """Return the chunks that the same cache holds of another generation; their files lie side by side.

        Parameters
        ----------
        generation : int
            The generation, 0 for what was stored before anything was superseded.

        Returns
        -------
        ChunkStore
            Its chunks.
        """
        twin = copy.copy(self)
        twin.generation = generation
        twin._prefix = self._prefix_of(generation)
        twin._whole = None
        return twin

    def inside(self, room: str) -> ChunkStore:
        """Return the chunks of another grid that belong to this cache, in a room inside its folder.

        Parameters
        ----------
        room : str
            The room's name; it enters the names of the chunks.

        Returns
        -------
        ChunkStore
            The chunks, of the same generation.
        """
        inner = ChunkStore(
            self.folder.inside(room),
            f"{self.cache_id}/{room}",
            Naming({}),
            allow_pickle=self.allow_pickle,
            title=self._writer.title,
            compression=self._writer.compression,
            signer=self._signer,
            max_bytes=self.max_bytes,
        )
        return inner.of_generation(self.generation) if self.generation else inner

    def rooms(self) -> list[ChunkStore]:
        """Return the chunks of this cache's rooms: those of the grid, and others as far as they are there.

        Whoever goes through all that a cache holds goes through these: a file in one of them is opened, told
        whose it is, adopted, folded and signed by the store of its room.

        Returns
        -------
        list of ChunkStore
            This one, then those of the rooms inside, of which nothing was read yet.
        """
        inner = [room for room in ROOMS if room and files.is_folder(self.folder.path / room)]
        return [self, *map(self.inside, inner)]

    def __copy__(self) -> ChunkStore:
        """Return another view of the same folder."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> Any:
        """Return what travels to a worker: where files lie and what they are called, nothing that was read."""
        settings: dict[str, Any] = {"allow_pickle": self.allow_pickle, "title": self._writer.title}
        settings |= {"compression": self._writer.compression, "signer": self._signer}
        settings |= {"max_bytes": self.max_bytes}
        place = (self.folder.path, self.folder.version, self.folder.read_only)
        return _store_alone, (place, self.cache_id, self._naming, settings, self.spread, self.generation)

    def _prefix_of(self, generation: int) -> bytes:
        name = (self.cache_id, self.folder.version)
        return canonical_bytes((*name, generation) if generation else name)

    def owns(self, ref: ChunkRef, identity: bytes) -> bool:
        """Tell whether an identity is that of a chunk of this cache, whatever the generation.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        identity : bytes
            What its file says.

        Returns
        -------
        bool
            Whether it is.
        """
        return identity == ref.identity or self.generation_of(ref, identity) is not None

    def generation_of(self, ref: ChunkRef, identity: bytes) -> int | None:
        """Return the generation in which a chunk of this cache was stored.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        identity : bytes
            What its file says.

        Returns
        -------
        int or None
            The generation; None where it is no such chunk.
        """
        rest = ref.identity[len(self._prefix) :]
        known = range(self.folder.records.generation + 1)
        return next((n for n in known if identity == self._prefix_of(n) + rest), None)

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
        tables = [bins.of(axis) for axis in order]
        named, identity = [self._prefix], [self._prefix]
        for place, text in self._by_name(order):
            first, second = tables[place].digests(numbers[place])
            named += (text, first)
            identity += (text, first, second)
        sizes = tuple([table.size(number) for table, number in zip(tables, numbers, strict=True)])
        ref = ChunkRef(order, numbers, sizes, digest_of_bytes(b"".join(named)).hex(), b"".join(identity), bins)
        if self._naming.chunk_hash_fn is None:
            return ref
        own = self._naming.name(self.key(ref), self.folder.version, ref.name)
        return replace(ref, name=own + self._mark)

    @property
    def _mark(self) -> str:
        """What tells the names that a user gives to files of later generations from the first one's."""
        return f"-{self.generation}" if self.generation else ""

    def named(
        self, order: tuple[str, ...], numbers: Sequence[Sequence[int]], bins: Bins
    ) -> tuple[list[str], npt.NDArray[np.uint8]]:
        """Return names and identities of many chunks: every product of some bins of each axis.

        Parameters
        ----------
        order : tuple of str
            Names of the axes in the reader's order.
        numbers : sequence of sequence of int
            For each axis the numbers of the bins.
        bins : Bins
            The table that the numbers refer to.

        Returns
        -------
        names : list of str
            Names by content, row-major in the reader's order.
        identities : ndarray of uint8, shape (len(names), bytes)
            Canonical identities, one in each row.
        """
        whole = self._whole
        if whole is not None and whole.bins is bins and whole.order == order:
            chosen = [np.asarray(along, np.intp) for along in numbers]
            if all(bool((along < n).all()) for along, n in zip(chosen, whole.names.shape, strict=True)):
                where = np.ix_(*chosen)
                identities = whole.identities[where]
                return whole.names[where].reshape(-1).tolist(), identities.reshape(-1, identities.shape[-1])
        return self._named_anew(order, numbers, bins)

    def _named_anew(
        self, order: tuple[str, ...], numbers: Sequence[Sequence[int]], bins: Bins
    ) -> tuple[list[str], npt.NDArray[np.uint8]]:
        shape = [len(chosen) for chosen in numbers]
        columns = [np.frombuffer(self._prefix, np.uint8)]
        for axis, text in self._by_name(order):
            table = bins.of(order[axis])
            whole = b"".join([part for n in numbers[axis] for part in (text, *table.digests(n))])
            around = [1] * len(shape)
            around[axis] = shape[axis]
            columns.append(np.frombuffer(whole, np.uint8).reshape(*around, -1))
        widths = [column.shape[-1] for column in columns]
        identities = np.empty((*shape, sum(widths)), np.uint8)
        for column, end in zip(columns, itertools.accumulate(widths), strict=True):
            identities[..., end - column.shape[-1] : end] = column
        names = chunk_names(self._prefix, order, [np.asarray(chosen, np.intp) for chosen in numbers], bins)
        return names, identities.reshape(len(names), -1)

    def _name_whole(self, order: tuple[str, ...], tables: Sequence[AxisBins]) -> list[str]:
        """Return the names of all products of known bins, and keep them for whoever reads some of them next."""
        bins, shape = self.folder.bins, tuple(map(len, tables))
        if not all(shape):
            return []
        names, identities = self._named_anew(order, [range(count) for count in shape], bins)
        if order and 0 < len(names) <= _MOST_KEPT:
            by_bins = np.array(names, object).reshape(shape)
            self._whole = _Whole(bins, order, by_bins, identities.reshape(*shape, -1))
        return names

    def _by_name(self, order: tuple[str, ...]) -> list[tuple[int, bytes]]:
        """Return the places of axes in the order in which names have them, each with its canonical bytes."""
        found = self._turns.get(order)
        if found is None:
            turn = sorted(range(len(order)), key=order.__getitem__)
            found = self._turns[order] = [(place, canonical_bytes(order[place])) for place in turn]
        return found

    @property
    def plain(self) -> bool:
        """Whether files have the names and places that their content gives them."""
        return self._naming.plain

    def places(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return where complete files of these names may lie: in the usual places, and in the others.

        Parameters
        ----------
        names : sequence of str
            Names by content.

        Returns
        -------
        tuple of list of str, list of str
            Paths relative to the folder ``chunks/``.
        """
        flat = [f"{name}.h5" for name in names]
        deep = [f"{name[:2]}/{name}.h5" for name in names]
        return (deep, flat) if self.spread else (flat, deep)

    @property
    def plain_places(self) -> bool:
        """Whether files lie where this library puts them."""
        return self._naming.path_fn is None

    @property
    def prefix(self) -> bytes:
        """What the names of all chunks are made from: canonical bytes of the cache and its version."""
        return self._prefix

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
            stem, suffix = os.path.splitext(self._within(path))
            return (f"{stem}{self._mark}{suffix}",)
        first, second = self.folder.chunk_paths(ref.name, spread=self.spread)
        return f"{first}.h5", f"{second}.h5"

    def _within(self, path: Any) -> str:
        """Return where a user's function places a file: by a relative path no higher than the root."""
        root = os.fspath(self.folder.path.parent)
        text = os.path.normpath(self.folder.path / path) if isinstance(path, str | os.PathLike) else "\0"
        inside = text.startswith(os.path.join(root, "")) and os.path.dirname(text) != root
        chosen = isinstance(path, str | os.PathLike) and os.path.isabs(path) and ".." not in Path(path).parts
        lone = any("\ud800" <= character <= "\udfff" for character in text)
        if lone or "\0" in text or not (inside or chosen) or os.path.basename(text) == "metadata.json":
            raise SpecError(
                f"path_fn must return an absolute path, or one relative to the cache's folder that stays inside"
                f" the root '{root}', got {path!r}"
            )
        return text

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

    def _part_paths(self, ref: ChunkRef) -> list[str]:
        """List the parts that are there now, those with the smaller digest first."""
        found = (
            (name, f"{folder}/{name}")
            for folder in self.parts_folders(ref)
            for name in files.list_folder(folder)
            if name.endswith(".h5")
        )
        return [path for _, path in sorted(found)]

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
            The opened file; None where there is none, where it cannot be read just now, or where it was
            damaged and set aside.

        Raises
        ------
        FormatVersionError
            Where a later version of the library wrote it.
        CollisionError
            Where the user's own name stands for two chunks.
        """
        for path in self.paths(ref):
            try:
                chunk = self._open(path, ref)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if chunk is not None:
                return chunk
        return None

    def opened(self, path: str | os.PathLike[str]) -> chunkfile.Chunk:
        """Open any file of this cache, within its limits.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        Chunk
            The opened file; whose chunk it is was not looked at.

        Raises
        ------
        ChunkFormatError
            Where it is damaged.
        SpecError
            Where it is larger than ``max_chunk_bytes``.
        """
        chunk = chunkfile.load(path, max_bytes=self.max_bytes)
        try:
            check_manifest(chunk)
        except ChunkFormatError as error:
            chunk.close()
            error.seen = chunk.file_id
            raise
        return chunk

    def _open(self, path: str, ref: ChunkRef) -> chunkfile.Chunk | None:
        """Open a file that should hold points of a chunk; None where it cannot be believed."""
        try:
            chunk = self.opened(path)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except (ChunkFormatError, OSError) as error:
            if not (isinstance(error, ChunkFormatError) and _being_written(path)):
                self._give_up(path, ref, None, error)
            return None
        if chunk.identity == ref.identity:
            return chunk
        chunk.close()
        if not self._naming.plain:
            raise CollisionError(
                f"'{path}' holds another chunk of this or another cache: chunk_hash_fn or path_fn gave one"
                f" name to two chunks; make the name depend on every axis and on the version"
            )
        self._set_aside(path, ref, chunk.file_id, "it holds another chunk than its name says")
        return None

    def _give_up(
        self, path: str, ref: ChunkRef, seen: files.FileId | None, error: ChunkFormatError | OSError
    ) -> None:
        """Set a damaged file aside; pass over one that cannot be read just now; raise what is neither."""
        if isinstance(error, FormatVersionError):
            raise error
        if isinstance(error, ChunkFormatError):
            self._set_aside(path, ref, error.seen or seen, str(error))
        elif error.errno not in files.TRANSIENT:
            raise error

    def _set_aside(self, path: str, ref: ChunkRef, seen: files.FileId | None, why: str) -> None:
        """Move a damaged file to ``quarantine/`` and say so, once for each file."""
        moved = None
        if seen is not None and not self.folder.read_only:
            folder = self.folder.path / "quarantine"
            moved = files.quarantine(
                Path(path), folder, seen, lambda found: self._is_intact(found, ref, decoded=True)
            )
        if moved is None and (path, seen) in self._told:
            return
        self._told.add((path, seen))
        place = f"it was moved to '{moved}'" if moved else "it was left where it is"
        warnings.warn(
            f"chunk file '{path}' is damaged ({why}); {place}, and its points are computed again",
            DamageWarning,
            stacklevel=2,
        )

    def _is_intact(self, path: str | Path, ref: ChunkRef, *, decoded: bool = False) -> bool:
        """Tell whether every byte of a file is right, and of that chunk, and whether all of it can be decoded."""
        try:
            chunkfile.verify(path, max_bytes=self.max_bytes)
            with self.opened(path) as chunk:
                if decoded and chunk.identity == ref.identity:
                    self._decode(ref, chunk)
                return chunk.identity == ref.identity
        except (ChunkMemoError, FileNotFoundError, NotADirectoryError):
            return False

    def _decode(self, ref: ChunkRef, chunk: chunkfile.Chunk) -> None:
        """Make every output of a file; what this program lacks for it, or may not load, is no fault."""
        try:
            self.everything(ref, chunk)[0].outputs()
        except EncodingError:
            pass

    def weed(self, path: str | os.PathLike[str], ref: ChunkRef) -> bool:
        """Set a file aside that is whole, and of which some output cannot be made; tell whether it is one.

        Parameters
        ----------
        path : path-like
            The file.
        ref : ChunkRef
            The chunk that it belongs to.

        Returns
        -------
        bool
            Whether there is such a fault.
        """
        with self.opened(path) as chunk:
            try:
                self._decode(ref, chunk)
            except ChunkFormatError as error:
                self._set_aside(os.fspath(path), ref, chunk.file_id, str(error))
                return True
        return False

    def block(self, ref: ChunkRef, chunk: chunkfile.Chunk, positions: Sequence[IntArray] | None) -> Block | None:
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
            (it is set aside) or cannot be read, or holds one opaque output for other points.
        """
        try:
            return read_complete(ref, chunk, positions, signer=self._signer)
        except (ChunkFormatError, OSError) as error:
            self._give_up(chunk.subject, ref, chunk.file_id, error)
            return None

    def parts(self, ref: ChunkRef, *, outputs: bool = True, passing: bool = False) -> list[Part]:
        """Return the parts of a chunk, those with the smaller digest first.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        outputs : bool, default True
            Whether outputs are read; without, blocks have no columns.
        passing : bool, default False
            Whether parts are passed over that hold pickles which may not be loaded, as a writer does.

        Returns
        -------
        list of Part
            The parts; of two that hold a point the first counts.

        Raises
        ------
        FileNotFoundError
            Where a part vanished: somebody is folding; look at the complete file again.
        PickleRefusedError
            Where a part holds pickles that may not be loaded.
        """
        found = (self._part(path, ref, outputs, passing) for path in self._part_paths(ref))
        return [part for part in found if part is not None]

    def _part(self, path: str, ref: ChunkRef, outputs: bool, passing: bool) -> Part | None:
        chunk = self._open(path, ref)
        if chunk is None:
            return None
        with chunk:
            try:
                points, block = read_part(ref, chunk, signer=self._signer, outputs=outputs)
            except (ChunkFormatError, OSError) as error:
                self._give_up(path, ref, chunk.file_id, error)
                return None
            except EncodingError:
                if not passing:
                    raise
                return None
            return Part(path, points, block, chunk.seconds, chunk.nbytes)

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
        block : Block
            The outputs.
        points : ndarray of intp or None
            The positions of their points in the chunk where the file is a part, else None.

        Raises
        ------
        ChunkFormatError
            Where it is damaged.
        """
        if chunk.constant["part"] is not None:
            points, block = read_part(ref, chunk, signer=self._signer)
            return block, points
        whole = read_complete(ref, chunk, None, signer=self._signer)
        if whole is None:
            raise ChunkFormatError(f"{chunk!r} holds one opaque output for axes in another order")
        return whole, None

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
        return axis_values(chunk)

    def adopt_unnamed(self, order: tuple[str, ...]) -> Set[str] | None:
        """Adopt chunk files that no bins name: those that came without the layout that made them.

        Only files directly in ``chunks/`` are looked at, since caches of one chunk do not spread theirs, and
        only when that folder changed other than by this object's own writes (as far as its time tells).

        Parameters
        ----------
        order : tuple of str
            Names of the axes in axis order.

        Returns
        -------
        set of str or None
            The names of all chunks of which something is stored, perhaps with others, for whoever reads at
            once; None where that is not known.
        """
        stamp = self.folder.stamp()
        if stamp is None or self._naming.path_fn is not None:
            return None
        if stamp == self._stamp:
            return self._named if self._named_all else None
        names, self._named_all = self.folder.flat_names()
        unnamed = names - self._named
        if unnamed:
            tables = [self.folder.bins.of(axis) for axis in order]
            if math.prod(len(table) for table in tables) <= _MOST_PRODUCTS * len(unnamed):
                unnamed -= self._possible_names(order, tables)
        unread = set(unnamed)
        if unnamed:
            layout = self.orphans(unnamed, unread)
            if layout is not None:
                self.folder.commit_if_possible(layout)
        self._named |= names - unread
        self._stamp = None if unread else stamp
        return names if self._named_all else None

    def _possible_names(self, order: tuple[str, ...], tables: Sequence[AxisBins]) -> set[str]:
        """Return the names of all products of known bins."""
        bins = self.folder.bins
        names: set[str] = set()
        for generation in range(self.folder.records.generation + 1):
            store = self.of_generation(generation)
            if self._naming.chunk_hash_fn is None:
                names.update((self if store.prefix == self.prefix else store)._name_whole(order, tables))
            else:
                products = itertools.product(*(range(len(table)) for table in tables))
                names.update(store.ref(order, product, bins).name for product in products)
        return names

    def orphans(self, names: Container[str] | None = None, unread: set[str] | None = None) -> Layout | None:
        """Return the bins that chunk files of this cache need and no layout has.

        Parameters
        ----------
        names : container of str, optional
            Only chunks of these names are looked at.
        unread : set of str, optional
            The names of chunks with an intact file are taken out of it.

        Returns
        -------
        Layout or None
            Those bins, read from the files' own manifests; None where there are none.
        """
        lacking: dict[str, dict[bytes, list[Any]]] = {}
        order: tuple[str, ...] = ()
        for values in self._manifests(names, unread if unread is not None else set()):
            order = tuple(values)
            for name, group in values.items():
                keys = canonical_many(group)
                if self.folder.bins.of(name).find(keys) is None:
                    lacking.setdefault(name, {}).setdefault(b"".join(keys), group)
        if not lacking:
            return None
        bins = {name: list(groups.values()) for name, groups in lacking.items()}
        sizes = {name: max(map(len, groups)) for name, groups in bins.items()}
        return Layout(self.folder.version, order, sizes, bins, None, time.time_ns())

    def _manifests(self, names: Container[str] | None, unread: set[str]) -> Iterator[dict[str, list[Any]]]:
        """Iterate over the axis values that files of this cache name themselves."""
        for path in self.folder.chunk_files():
            name = path.parent.stem if path.parent.suffix == ".parts" else path.stem
            if names is not None and name not in names:
                continue
            try:
                with self.opened(path) as chunk:
                    values = axis_values(chunk)
                    identity = chunk.identity
            except (ChunkMemoError, OSError):
                continue
            unread.discard(name)
            own = Bins()
            for axis, group in values.items():
                own.of(axis).add(group, canonical_many(group))
            if values and self.owns(self.ref(tuple(values), (0,) * len(values), own), identity):
                yield values

    # --- writing -------------------------------------------------------------------------------------------

    def write(
        self,
        ref: ChunkRef,
        points: IntArray | None,
        block: Block,
        seconds: float,
        syncer: files.Syncer,
    ) -> Written:
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
        Written
            How much was written, and whether other outputs were there before.
        """
        own = Part("", _NO_POINTS if points is None else points, block, seconds)
        if points is None:
            made = self._commit(ref, None, own, syncer)
            written = Written(made.nbytes, made.differs)
        elif block.kind == "opaque":
            written = Written(self._commit_part(ref, own, syncer).nbytes)
        else:
            written = self._write_points(ref, own, syncer)
        if block.kind != "opaque":
            self._remove_if_complete(ref, syncer)
        return written

    def _write_points(self, ref: ChunkRef, own: Part, syncer: files.Syncer) -> Written:
        """Store some points of a chunk, and fold where that makes it whole, or where parts are many."""
        parts = self._parts_like(ref, own.block)
        made = self._fold(ref, [*parts, own], syncer) or self._commit_part(ref, own, syncer)
        written, differs = made.nbytes, made.differs
        seen = {part.path for part in (*parts, made)}
        # Whoever writes last sees what all the others wrote, so a chunk of which all is there becomes whole.
        while not seen.issuperset(now := self._part_paths(ref)):
            union = self._fold(ref, self._parts_like(ref, own.block), syncer)
            seen.update(now)
            if union is not None:
                seen.add(union.path)
                written, differs = written + union.nbytes, differs or union.differs
        return Written(written, differs)

    def _parts_like(self, ref: ChunkRef, block: Block) -> list[Part]:
        """Return the parts that can be joined to a block without changing any output."""
        for _ in range(_TRIES):
            try:
                return [part for part in self.parts(ref, passing=True) if _are_alike(part.block, block)]
            except FileNotFoundError:
                continue
        return []

    def _fold(self, ref: ChunkRef, parts: list[Part], syncer: files.Syncer) -> Part | None:
        """Write the union of parts and remove them; None where it is neither whole nor made of many."""
        pieces = _disjoint(parts)
        points = np.concatenate([part.points[rows] for part, rows in pieces] or [_NO_POINTS])
        whole = len(points) == ref.points
        if not whole and len(parts) < MOST_PARTS:
            return None
        order = np.argsort(points)
        points = points[order]
        coords = ref.coords(None if whole else points)
        block = combine([(part.block, rows) for part, rows in pieces], order, coords, self.allow_pickle)
        union = Part("", points, block, sum(part.seconds for part in parts))
        union = self._commit(ref, None, union, syncer) if whole else self._commit_part(ref, union, syncer)
        if not self._is_safe(union.path, ref, syncer):
            return None
        self._remove_parts(ref, {part.path for part in parts} - {"", union.path})
        return union

    def _remove_if_complete(self, ref: ChunkRef, syncer: files.Syncer) -> None:
        """Remove parts of a chunk whose complete file is there, whoever wrote it, and a folder without any."""
        if not any(files.is_there(folder) for folder in self.parts_folders(ref)):
            return
        parts = self._part_paths(ref)
        if not parts or any(self._is_safe(path, ref, syncer) for path in self.paths(ref)):
            self._remove_parts(ref, parts)

    def covered_parts(self, ref: ChunkRef) -> list[str]:
        """Return the parts of a chunk, where its complete file is there, intact, and on disk.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.

        Returns
        -------
        list of str
            Their paths; none where they are still needed.
        """
        parts = self._part_paths(ref)
        whole = parts and any(self._is_safe(path, ref, files.Syncer()) for path in self.paths(ref))
        return parts if whole else []

    def ref_of(self, chunk: chunkfile.Chunk) -> ChunkRef | None:
        """Return the chunk that a file would be in this cache, by its own manifest and in its own axis order.

        Parameters
        ----------
        chunk : Chunk
            The opened file, of this cache or another; compare its identity.

        Returns
        -------
        ChunkRef or None
            The chunk; None where some axis has values that cannot be rebuilt.

        Raises
        ------
        ChunkFormatError
            Where the file is damaged.
        """
        names = tuple(name for name, _, _ in chunk.constant["axes"])
        values = axis_values(chunk)
        if len(values) < len(names):
            return None
        bins = Bins()
        for name in names:
            bins.of(name).add(values[name], canonical_many(values[name]))
        return self.ref(names, (0,) * len(names), bins)

    def fold(self, ref: ChunkRef, syncer: files.Syncer) -> bool:
        """Replace the parts of a chunk by its complete file, if together they hold all of its points.

        Parameters
        ----------
        ref : ChunkRef
            The chunk.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        bool
            Whether there are no parts any more.
        """
        self._remove_if_complete(ref, syncer)
        try:
            found = self.parts(ref, passing=True)
        except FileNotFoundError:  # another process is folding them
            return False
        if found and found[0].block.kind == "opaque":
            return False
        parts = self._parts_like(ref, found[0].block) if found else []
        if sum(len(rows) for _, rows in _disjoint(parts)) == ref.points:
            self._fold(ref, parts, syncer)
        self._remove_if_complete(ref, syncer)
        return not self._part_paths(ref)

    def sign_anew(self, path: Path, syncer: files.Syncer) -> bool:
        """Sign the pickles in a file with this user's own key, if only other trusted keys signed them.

        Parameters
        ----------
        path : Path
            A chunk file of this cache.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        bool
            Whether there were any; the file was replaced by one that holds the same outputs.

        Raises
        ------
        UntrustedPickleError
            Where no key that is trusted signed them.
        ChunkFormatError
            Where the file is damaged.
        """
        with self.opened(path) as chunk:
            keys = signed_by(chunk)
            own = own_key(outside=self.folder.path.parent) if keys else None
            if own is None or keys == {own.key_id}:
                return False
            ref = self.ref_of(chunk)
            if ref is None or ref.identity != chunk.identity:
                return False
            block, points = self.everything(ref, chunk)
            if block.kind != "opaque":
                rows = np.arange(block.count)
                block = combine([(block, rows)], rows, ref.coords(points), self.allow_pickle)
            buffers = self._writer.image(ref, points, block, chunk.seconds)
        files.replace(path, buffers, syncer)
        return True

    def _remove_parts(self, ref: ChunkRef, paths: Iterable[str]) -> None:
        for path in paths:
            files.remove(path)
        for folder in self.parts_folders(ref):
            files.remove_folder(folder)

    def _is_safe(self, path: str, ref: ChunkRef, syncer: files.Syncer) -> bool:
        """Tell whether a file, whoever wrote it, is intact; it is on disk then."""
        try:
            if not self._is_intact(path, ref):
                return False
        except OSError:
            return False
        syncer.committed(path)
        try:
            syncer.flush()
        except files.NotConfirmedError as error:
            syncer.keep(error)
            return False
        return True

    def _commit_part(self, ref: ChunkRef, part: Part, syncer: files.Syncer) -> Part:
        return self._commit(ref, self._part_path(ref, part), part, syncer)

    def _commit(self, ref: ChunkRef, path: str | None, part: Part, syncer: files.Syncer) -> Part:
        """Write points to a file, the complete one where no path is given; return them as written."""
        points = None if path is None else part.points
        path = self.paths(ref)[0] if path is None else path
        self._refuse_large(path, sum(column.nbytes for column in part.block.columns.values()))
        buffers = self._writer.image(ref, points, part.block, part.seconds)
        quiet = not self.spread and self.folder.stamp() == self._stamp
        differs: bool | None = None
        for _ in range(_MOST_COMMITS):
            differs = False if files.commit(path, buffers, syncer) else self._differs(path, ref, part.block)
            if differs is not None:
                break
        else:
            raise OSError(
                errno.EBUSY, "other processes begin to write it again and again, and none finishes", path
            )
        if not self.spread:
            self._named.add(ref.name)
        if quiet:
            self._stamp = self.folder.stamp()
        return Part(path, part.points, part.block, part.seconds, sum(map(len, buffers)), bool(differs))

    def _refuse_large(self, path: str, nbytes: int) -> None:
        """Refuse to write what would not be read again."""
        if nbytes + _ROOM > self.max_bytes:
            raise OSError(
                errno.EFBIG,
                f"a chunk of {nbytes} bytes is larger than max_chunk_bytes={self.max_bytes} allows: make chunks"
                f" smaller by chunk_spec, or pass a larger max_chunk_bytes",
                path,
            )

    def _differs(self, path: str, ref: ChunkRef, block: Block) -> bool | None:
        """Tell whether a file that was there first holds other outputs; None where it is gone by now.

        A run that relies on somebody else's file must be able to: one that is damaged is set aside, and one that
        is still being written after a while makes way. Where that is refused, the points are computed again by
        each run.
        """
        for pause in (*_PAUSES, None):
            try:
                with self.opened(path) as chunk:
                    if chunk.identity == ref.identity:
                        return not same_outputs(ref, chunk, block)
                self._open(path, ref)  # tells where one name stands for two chunks, and sets aside
                return None
            except (FileNotFoundError, NotADirectoryError):
                return None
            except FormatVersionError:
                return False
            except ChunkFormatError as error:
                if not _being_written(path):
                    self._set_aside(path, ref, error.seen, str(error))
                    return None if files.identity_of(path) != error.seen else False
                if pause is None or not files.writes_in_place(os.path.dirname(path)):
                    break
            except OSError:
                return False
            time.sleep(pause or 0.0)
        with contextlib.suppress(OSError):
            files.remove(path)
        return None if files.identity_of(path) is None else False

    def _part_path(self, ref: ChunkRef, part: Part) -> str:
        """Return where a part lies: it is named by the digest of its points and their outputs."""
        content = [ref.identity, part.points.tobytes()]
        for name, column in part.block.columns.items():
            content += [canonical_bytes(name), json.dumps(column.tree, sort_keys=True).encode()]
            for label, array in column.arrays.items():
                content += [label.encode(), str(array.dtype).encode(), array.tobytes()]
        return f"{self.parts_folders(ref)[0]}/{digest_of_bytes(b''.join(content)).hex()}.h5"


def _being_written(path: str) -> bool:
    """Tell whether a file without its head is young enough to be still being written."""
    seen = files.look_at(path)
    try:
        return (
            seen is not None
            and seen.size > files.HEAD_SIZE  # a truncated file is damage
            and time.time() - seen.modified < _YOUNG
            and chunkfile.is_unfinished(files.read_file(path, files.HEAD_SIZE)[0])
        )
    except OSError:
        return False


def _disjoint(parts: Sequence[Part]) -> list[tuple[Part, IntArray]]:
    """Return for each part the rows of the points that no earlier one holds."""
    seen = _NO_POINTS
    pieces = []
    for part in parts:
        rows = np.flatnonzero(~np.isin(part.points, seen))
        if len(rows):
            pieces.append((part, rows))
            seen = np.concatenate([seen, part.points[rows]])
    return pieces


def _are_alike(a: Block, b: Block) -> bool:
    """Whether joining two blocks changes no output: same kind, columns and dtypes."""
    kinds = {a.kind, b.kind}
    return (
        (len(kinds) == 1 or kinds in ({"list", "point"}, {"grid", "flat"}))
        and kinds != {"opaque"}
        and a.columns.keys() == b.columns.keys()
        and all(_join_exactly(column, b.columns[name]) for name, column in a.columns.items())
    )


def _join_exactly(a: Column, b: Column) -> bool:
    """Whether two columns can be one: lists always, arrays where no dtype is promoted."""
    if a.form != "array" or b.form != "array":
        return "array" not in (a.form, b.form)
    one, other = decode_array(a.tree, a.arrays), decode_array(b.tree, b.arrays)
    same_dtype = one.dtype == other.dtype or one.dtype.kind == other.dtype.kind in "SU"
    return same_dtype and one.shape[1:] == other.shape[1:]
