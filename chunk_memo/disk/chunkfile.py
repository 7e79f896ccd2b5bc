"""The chunk file: arrays to bytes and back, checked; it knows nothing of kinds, grids or caches.

A chunk file is a *user block* followed by an HDF5 image, which is a netCDF-4 file. HDF5 readers
skip the user block; this library reads nothing else to find the arrays, and never uses the HDF5
library to read. All integers are little-endian, offsets count from byte 0 of the file, and
checksums are xxh3-64 with seed 0.

The user block begins with a header of 96 bytes:

====== ==== ======= ====================================================================
offset size type    field
====== ==== ======= ====================================================================
0      8    bytes   magic ``89 43 48 4D 0D 0A 1A 0A``
8      8    uint64  checksum of bytes 16 … covered
16     8    uint64  covered: where the checked stretch ends (exclusive)
24     4    uint32  format version, now 1
28     4    uint32  flags, now 0
32     8    uint64  length of the file
40     8    uint64  skeleton checksum
48     8    uint64  length of the user block, where the HDF5 image begins
56     4    uint32  length of the constant part
60     4    uint32  length of the identity
64     4    uint32  number of checksums
68     4    uint32  number of stored pieces of compressed arrays
72     8    int64   created_at, nanoseconds since 1970-01-01 UTC
80     8    float64 seconds of compute
88     8    uint64  reserved, 0
====== ==== ======= ====================================================================

The first five fields keep their places in every version; a version is believed only once the
checksum holds. Behind the header lie, without gaps,

========================= ==============================================================
from                      what
========================= ==============================================================
96                        the constant part: ASCII JSON, the same for all chunks of a template
96 + constant             the identity, any bytes
96 + constant + identity  the checksums, one uint64 each, in the order of the array table
behind the checksums      the pieces' lengths in bytes, one uint64 each, in the same order; the
                          highest bit is set where a piece is stored without its filters
========================= ==============================================================

and zeros up to the length of the user block, which is 2048 or the next power of two that fits.

The constant part is an object with the members ``arrays`` (a list), ``coords`` (a list, in the
order of the dimensions) and ``constant`` (the caller's). An entry of ``arrays`` has ``name``,
``dtype``, ``shape``, ``offset``, ``nbytes``, ``checksums`` (how many), ``dims`` (names of the
leading dimensions, or null for a raw array) and ``path`` (of the HDF5 dataset). An entry of
``coords`` is the same without ``dims``, or has ``name`` and ``length`` only, for a dimension
without coordinates. A ``dtype`` is NumPy's string; or an object with ``names``, ``formats``,
``offsets``, ``itemsize`` (and ``titles``, ``record``) for a structured one; or a pair of dtype
and shape for a subarray.

A *compressed* array lies in pieces of some rows each, as HDF5 filters leave them (see
:mod:`chunk_memo.disk.filters`). Its entry has no ``offset``, but ``compression`` (the name),
``rows`` (of a piece) and ``width`` (bytes of an item for the shuffle filter, 1 without), and one
checksum for each piece, over its stored bytes. The pieces of all such arrays come behind everything
else, from the place that the member ``pieces`` of the constant part says, one after the other, each
with zeros up to a multiple of 8 bytes. Compression is no part of what a chunk is.

In files of at most 65536 bytes that compress nothing there are no separate checksums: the covered
stretch ends with the last array, so one checksum guards all that is read. In others it ends with
the lengths of the pieces; an array of at most 1 MiB has one checksum, a longer one has one for each
block of 64 KiB, an empty one has none. The *skeleton* is every byte that is neither covered nor part of
an array; its checksum, over all of it in file order, is what :func:`verify` adds.

The HDF5 image is described in :mod:`chunk_memo.disk.hdf5image`. Writing is cheap because it is
built once per *template* (names, dtypes, shapes, dimensions, attributes) and then only patched.
"""

from __future__ import annotations

import json
import operator
import os
import re
import struct
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, count, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import xxhash

from chunk_memo.disk import files, filters, hdf5image
from chunk_memo.disk.filters import Packing
from chunk_memo.disk.hdf5image import ArraySpec, ImageSpec
from chunk_memo.errors import ChunkFormatError, EncodingError, FormatVersionError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from typing_extensions import Buffer

__all__ = [
    "BLOCK_SIZE",
    "FORMAT_VERSION",
    "HEADER",
    "MAGIC",
    "MAX_BYTES",
    "SMALL_FILE",
    "WHOLE_ARRAY",
    "Chunk",
    "Content",
    "Extent",
    "Header",
    "Piece",
    "Press",
    "image",
    "is_unfinished",
    "load",
    "parse",
    "verify",
]

Piece: TypeAlias = bytes | bytearray | memoryview
"""What an image is made of; its length is its number of bytes."""

_Array: TypeAlias = np.ndarray[Any, Any]
_Dtype: TypeAlias = np.dtype[Any]

MAGIC = b"\x89CHM\r\n\x1a\n"
"""The first eight bytes of every chunk file."""

FORMAT_VERSION = 1
"""The version that this library writes, and the latest that it reads."""

HEADER = struct.Struct("<8sQQIIQQQIIIIqdQ")
"""The header's fields, as in the table above."""

MAX_BYTES = 4 << 30
"""Longest file that is read, and most bytes of arrays that one may unpack to, unless more is allowed."""

SMALL_FILE = 65536
"""Files up to this many bytes are guarded by one checksum, and read at once."""

WHOLE_ARRAY = 1 << 20
"""Arrays up to this many bytes have one checksum, where they have their own."""

BLOCK_SIZE = 65536
"""Bytes per checksum in longer arrays."""

_PLAIN_PIECE = 1 << 63
_CHECKED_FROM = 16
_MIN_USER_BLOCK = 2048
_TEMPLATE_BYTES = 64 << 20
_PLANS = 512
_CACHED_CONSTANT = 65536
_LEAST_CONSTANT = 1 << 20
_MOST_CONSTANT = 64 << 20
_PLAIN_DTYPE = re.compile(r"[<>|][biufcSVmM][0-9]{1,10}(\[[0-9]{0,9}[a-zA-Z]{1,3}\])?")


class Header(NamedTuple):
    """The fixed part of a manifest; the fields are those of the table above."""

    magic: bytes
    """The first eight bytes."""
    checksum: int
    """xxh3-64 of the bytes from 16 to `covered`."""
    covered: int
    """Where the checked stretch ends."""
    version: int
    """The format version."""
    flags: int
    """None are defined yet."""
    file_size: int
    """Length of the file in bytes."""
    skeleton: int
    """xxh3-64 of what is neither covered nor part of an array."""
    user_block: int
    """Length of the user block in bytes."""
    constant_size: int
    """Length of the constant part in bytes."""
    identity_size: int
    """Length of the identity in bytes."""
    checksum_count: int
    """How many checksums follow the identity."""
    piece_count: int
    """How many lengths of stored pieces follow the checksums."""
    created_at: int
    """Nanoseconds since 1970-01-01 UTC."""
    seconds: float
    """Seconds of compute."""
    reserved_2: int
    """Zero."""

    @property
    def manifest_size(self) -> int:
        """Bytes from the start of the file to the end of the checksums and lengths of pieces."""
        return (
            HEADER.size + self.constant_size + self.identity_size + 8 * (self.checksum_count + self.piece_count)
        )


class Extent(NamedTuple):
    """Where an array lies in a file, and in which form."""

    dtype: _Dtype
    """Its dtype."""
    shape: tuple[int, ...]
    """Its shape."""
    offset: int
    """Where its first byte lies, from the start of the file."""
    nbytes: int
    """Number of its bytes."""
    checksum: int | None
    """Number of its first checksum in the manifest; None where the head's covers it."""
    checksums: int
    """How many checksums it has."""


@dataclass(frozen=True)
class Content:
    """What goes into one chunk file.

    Examples
    --------
    >>> content = Content(
    ...     constant={"kind": "grid"},
    ...     identity=b"square(x)",
    ...     arrays={"value": np.array([0.0, 1.0, 4.0])},
    ...     dims={"value": ("x",)},
    ...     coords={"x": np.array([0, 1, 2])},
    ...     created_at=0,
    ...     seconds=0.5,
    ... )
    >>> chunk = parse(b"".join(image(content)))
    >>> chunk.array("value"), chunk.coords("x"), chunk.constant
    (array([0., 1., 4.]), array([0, 1, 2]), {'kind': 'grid'})
    """

    constant: Any
    """What is the same for all chunks of one template; anything that JSON can say."""
    identity: bytes
    """The chunk's identity in canonical bytes; stored, and compared by the reader's caller."""
    arrays: Mapping[str, _Array]
    """The arrays by their logical names, of any dtype of fixed size but object and U."""
    dims: Mapping[str, tuple[str, ...]]
    """The dimensions of each array's leading axes; an array that is not in here lies in `_raw`."""
    coords: Mapping[str, _Array | int]
    """For each dimension its coordinates (one axis), or only its length."""
    created_at: int
    """When the chunk was computed, in nanoseconds since 1970-01-01 UTC."""
    seconds: float
    """How long that took."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the HDF5 file's root group, the same for all chunks of one template."""
    compression: str | None = None
    """How arrays that are worth it are compressed: a name of :data:`~chunk_memo.disk.filters.COMPRESSIONS`."""

    def values(self) -> list[_Array]:
        """Return what changes from chunk to chunk of one template.

        Returns
        -------
        list of numpy.ndarray
            The arrays, then the coordinates of those dimensions that have some.
        """
        return [*self.arrays.values(), *(c for c in self.coords.values() if isinstance(c, np.ndarray))]


# --- dtypes in the manifest ---------------------------------------------------------------


def _describe_dtype(dtype: _Dtype) -> Any:
    """Say in JSON what a dtype is, exactly."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe_dtype(base), list(shape)]
    if dtype.names is None:
        text = dtype.str
        if dtype.char in "gG" and dtype.itemsize > (8 if dtype.char == "g" else 16):
            # Machines differ in what a long double is; the mantissa tells them apart.
            return {"longdouble": text, "mantissa": int(np.finfo(dtype).nmant)}
        return text
    fields = [dtype.fields[name] for name in dtype.names] if dtype.fields else []
    described: dict[str, Any] = {
        "names": list(dtype.names),
        "formats": [_describe_dtype(entry[0]) for entry in fields],
        "offsets": [entry[1] for entry in fields],
        "itemsize": dtype.itemsize,
    }
    titles = [entry[2] if len(entry) > 2 else None for entry in fields]
    if any(title is not None for title in titles):
        described["titles"] = titles
    if dtype.type is np.record:
        described["record"] = True
    return described


def _read_dtype(described: Any) -> _Dtype:
    """Build the dtype again; raises one of many errors where the description is none."""
    if isinstance(described, str):
        if not _PLAIN_DTYPE.fullmatch(described):
            raise ValueError(f"expected a dtype of fixed size, found {described!r}")
        return np.dtype(described)
    if isinstance(described, list):
        base, shape = described
        return np.dtype((_read_dtype(base), tuple(_sizes(shape))))
    if "longdouble" in described:
        dtype = _read_dtype(described["longdouble"])
        if np.finfo(dtype).nmant != described["mantissa"]:
            raise FormatVersionError("it holds long doubles of another kind of machine")
        return dtype
    spec: Any = {key: described[key] for key in ("names", "offsets", "itemsize")}
    spec["formats"] = [_read_dtype(entry) for entry in described["formats"]]
    if "titles" in described:
        spec["titles"] = described["titles"]
    dtype = np.dtype(spec)
    return np.dtype((np.record, dtype)) if described.get("record") else dtype


def _sizes(values: Any) -> list[int]:
    """Pass a list of lengths on, if it is one."""
    if not isinstance(values, list) or not all(type(size) is int and size >= 0 for size in values):
        raise ValueError(f"expected a list of lengths, found {values!r}")
    return values


# --- templates: what chunks of one form have in common -----------------------------------------


@dataclass(frozen=True)
class _Template:
    """A chunk file without identity, times, checksums and values."""

    user_block: int
    size: int
    """Length of the file."""
    offsets: tuple[int, ...]
    """Where each array goes."""
    sizes: tuple[int, ...]
    """Bytes of each array."""
    end: int
    """Where the last array ends."""
    table: bytes
    """The constant part up to the caller's own value."""
    whole: bytes
    """In small files the whole file, with zeros for what is missing; else empty."""
    tail: int
    """In small files the checksum of what follows the last array."""
    pieces: tuple[tuple[bytes, int | None], ...]
    """In longer files the bytes behind the user block, each piece with the array after it."""
    packings: tuple[Packing | None, ...]
    """How each array is compressed."""
    slots: hdf5image.Slots | None
    """Where the HDF5 image is told of stored pieces; None where nothing is compressed."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the template holds, about."""
        return len(self.whole) + sum(len(p[0]) for p in self.pieces) + len(self.table) + 1024


@dataclass(frozen=True)
class _Plan:
    """A layout, and how long the manifests of its chunks can be but for the caller's parts."""

    layout: hdf5image.Layout
    entries: tuple[dict[str, Any], ...]
    """The array table without offsets, one entry for each dataset."""
    coords: tuple[int | dict[str, Any], ...]
    """For each dimension the number of its entry, or the whole entry."""
    sizes: tuple[int, ...]
    """Bytes of each dataset inside the skeleton."""
    packings: tuple[Packing | None, ...]
    small_bound: int
    large_bound: int


def _plan(spec: ImageSpec) -> _Plan:
    layout = hdf5image.lay_out(spec)
    described = [*spec.arrays, *(c for c in spec.coords if isinstance(c, ArraySpec))]
    entries = [
        {
            "name": array.name,
            "path": dataset.path,
            "dtype": _describe_dtype(array.dtype),
            "shape": list(array.shape),
        }
        for array, dataset in zip(described, layout.datasets, strict=True)
    ]
    for entry, array in zip(entries, spec.arrays, strict=False):
        entry["dims"] = None if array.dims is None else list(array.dims)
    numbers = count(len(spec.arrays))
    coords: list[int | dict[str, Any]] = [
        next(numbers) if isinstance(coord, ArraySpec) else {"name": coord[0], "length": coord[1]}
        for coord in spec.coords
    ]
    for entry, dataset in zip(entries, layout.datasets, strict=True):
        entry["nbytes"] = dataset.nbytes
        if dataset.packing is not None:
            packing = dataset.packing
            entry |= {"compression": packing.compression, "rows": packing.rows, "width": packing.width}
    sizes = tuple(dataset.stretch for dataset in layout.datasets)
    packings = tuple(dataset.packing for dataset in layout.datasets)
    counts = _checksum_counts(sizes, packings)
    far = [1 << 63] * len(sizes)
    bound = HEADER.size + len(_table(entries, coords, far, counts, 1 << 63))
    pieces = sum(packing.count for packing in packings if packing is not None)
    large_bound = bound + 8 * (sum(counts) + pieces)
    return _Plan(layout, tuple(entries), tuple(coords), sizes, packings, bound, large_bound)


def _table(
    entries: Sequence[dict[str, Any]],
    coords: Sequence[int | dict[str, Any]],
    offsets: Sequence[int],
    checksums: Sequence[int],
    pieces: int,
) -> bytes:
    """Write the constant part up to the caller's own value."""
    full = []
    for entry, offset, number in zip(entries, offsets, checksums, strict=True):
        place = {} if "compression" in entry else {"offset": offset}
        full.append({**entry, **place, "checksums": number})
    table: dict[str, Any] = {
        "arrays": [entry for entry in full if "dims" in entry],
        "coords": [full[coord] if isinstance(coord, int) else coord for coord in coords],
    }
    if any("compression" in entry for entry in full):
        table["pieces"] = pieces
    return json.dumps(table, separators=(",", ":"))[:-1].encode("ascii") + b',"constant":'


def _checksum_counts(sizes: Sequence[int], packings: Sequence[Packing | None]) -> list[int]:
    pairs = zip(sizes, packings, strict=True)
    return [_checksum_count(size) if packing is None else packing.count for size, packing in pairs]


def _checksum_count(size: int) -> int:
    if size <= WHOLE_ARRAY:
        return 1 if size else 0
    return -(-size // BLOCK_SIZE)


def _build(plan: _Plan, user_block: int) -> _Template:
    skeleton = hdf5image.write_skeleton(plan.layout, user_block)
    small = skeleton.size <= SMALL_FILE and skeleton.slots is None
    checksums = [0] * len(plan.sizes) if small else _checksum_counts(plan.sizes, plan.packings)
    whole = _fill(skeleton, user_block, plan.sizes) if small else b""
    return _Template(
        user_block=user_block,
        size=skeleton.size,
        offsets=skeleton.offsets,
        sizes=plan.sizes,
        end=skeleton.end,
        table=_table(plan.entries, plan.coords, skeleton.offsets, checksums, _aligned(skeleton.size)),
        whole=whole,
        tail=xxhash.xxh3_64_intdigest(whole[skeleton.end :]),
        pieces=() if small else skeleton.pieces,
        packings=plan.packings,
        slots=skeleton.slots,
    )


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _fill(skeleton: hdf5image.Skeleton, user_block: int, sizes: Sequence[int]) -> bytes:
    """Put zeros where the user block and the values go."""
    parts = [bytes(user_block)]
    for piece, number in skeleton.pieces:
        parts.append(piece)
        if number is not None:
            parts.append(bytes(sizes[number]))
    return b"".join(parts)


class _Templates:
    """The templates in use, the least recently used dropped first; shared by all threads."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew; also in a forked child, whose lock may have been held elsewhere."""
        self._lock = threading.Lock()
        self._plans: OrderedDict[ImageSpec, _Plan] = OrderedDict()
        self._templates: OrderedDict[tuple[ImageSpec, int], _Template] = OrderedDict()
        self._nbytes = 0

    def plan(self, spec: ImageSpec) -> _Plan:
        """Return the plan of a spec."""
        with self._lock:
            plan = self._plans.get(spec)
            if plan is not None:
                self._plans.move_to_end(spec)
                return plan
        plan = _plan(spec)
        with self._lock:
            self._plans[spec] = plan
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan

    def template(self, spec: ImageSpec, plan: _Plan, user_block: int) -> _Template:
        """Return the template for a spec and a length of the user block."""
        key = (spec, user_block)
        with self._lock:
            template = self._templates.get(key)
            if template is not None:
                self._templates.move_to_end(key)
                return template
        template = _build(plan, user_block)
        if template.nbytes <= _TEMPLATE_BYTES // 4:
            self._keep(key, template)
        return template

    def _keep(self, key: tuple[ImageSpec, int], template: _Template) -> None:
        with self._lock:
            replaced = self._templates.pop(key, None)
            self._templates[key] = template
            self._nbytes += template.nbytes - (replaced.nbytes if replaced else 0)
            while self._nbytes > _TEMPLATE_BYTES:
                self._nbytes -= self._templates.popitem(last=False)[1].nbytes


_templates = _Templates()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_templates.forget)


# --- writing ----------------------------------------------------------------------------------


def image(content: Content) -> list[Piece]:
    """Write a chunk as the bytes of its file.

    Parameters
    ----------
    content : Content
        What the chunk holds.

    Returns
    -------
    list of bytes-like
        The file's bytes in order. Those of large arrays are the caller's own memory, not copies.

    Raises
    ------
    EncodingError
        For a dtype without a fixed size (object, U).
    SpecError
        For dimensions that do not fit their arrays.
    TypeError
        For a constant value that JSON cannot say.

    Examples
    --------
    >>> content = Content({}, b"", {"value": np.zeros(1000)}, {"value": ("x",)}, {"x": 1000}, 0, 0.0)
    >>> sum(len(buffer) for buffer in image(content)) > 8000
    True
    """
    return Press(content).image(content.values(), content.identity, content.created_at, content.seconds)


class Press:
    """Makes the files of chunks that differ in their values, identities and times alone.

    All that the first of them tells of the others is worked out once; a further file of up to 64 KiB is a copy
    of bytes, in which values and header are put in place, and one checksum.

    Parameters
    ----------
    content : Content
        What one of the chunks holds.

    Raises
    ------
    EncodingError, SpecError, TypeError
        As :func:`image` does.

    Examples
    --------
    >>> content = Content({}, b"1", {"value": np.zeros(3)}, {"value": ("x",)}, {"x": 3}, 0, 0.0)
    >>> press = Press(content)
    >>> parse(b"".join(press.image([np.ones(3)], b"2", 0, 0.0))).array("value")
    array([1., 1., 1.])
    """

    def __init__(self, content: Content) -> None:
        arrays = {name: _storable(name, array) for name, array in content.arrays.items()}
        coords = {
            name: _storable(name, coord) if isinstance(coord, np.ndarray) else operator.index(coord)
            for name, coord in content.coords.items()
        }
        self._spec = _spec(content, arrays, coords)
        self._plan = _templates.plan(self._spec)
        self._constant = json.dumps(content.constant, separators=(",", ":")).encode("ascii") + b"}"
        stored = [*self._spec.arrays, *(c for c in self._spec.coords if isinstance(c, ArraySpec))]
        self._dtypes = [array.dtype for array in stored]
        self._mould: tuple[int, _Mould] | None = None

    def image(self, values: Sequence[_Array], identity: bytes, created_at: int, seconds: float) -> list[Piece]:
        """Write a chunk as the bytes of its file.

        Parameters
        ----------
        values : sequence of numpy.ndarray
            Its arrays and coordinates, as :meth:`Content.values` lists them; of the same dtypes and numbers of
            items as those of the first chunk, and such that :func:`~chunk_memo.disk.hdf5image.form_of` says
            the same of them.
        identity : bytes
            Its identity.
        created_at : int
            Nanoseconds since 1970-01-01 UTC.
        seconds : float
            Seconds of compute.

        Returns
        -------
        list of bytes-like
            The file's bytes in order. Those of large arrays are the caller's own memory, not copies.
        """
        mould = self._mould
        if mould is None or mould[0] != len(identity):
            mould = self._mould = len(identity), self._moulded(len(identity))
        pairs = zip(values, self._dtypes, strict=True)
        arrays = [np.asarray(array, dtype, order="C") for array, dtype in pairs]
        stamp = _Stamp(identity, created_at, seconds)
        if mould[1].template.whole:
            return [_small_image(mould[1], stamp, arrays)]
        return _large_image(mould[1], stamp, arrays)

    def _moulded(self, identity_size: int) -> _Mould:
        template = _fitting_template(self._spec, self._plan, len(self._constant) + identity_size)
        constant = template.table + self._constant
        start = template.whole or bytes(template.user_block)
        end = HEADER.size + len(constant)
        return _Mould(template, len(constant), start[: HEADER.size] + constant + start[end:])


class _Stamp(NamedTuple):
    """What is one chunk's own besides its values."""

    identity: bytes
    created_at: int
    seconds: float


class _Mould(NamedTuple):
    """A template for identities of one length."""

    template: _Template
    constant_size: int
    start: bytes
    """In small files the whole file, else the user block; with the constant part in place."""


def _storable(name: str, array: _Array) -> _Array:
    dtype = array.dtype
    if dtype.hasobject or dtype.kind not in "biufcSVmM":
        raise EncodingError(
            f"{name!r}: expected an array whose items have a fixed size in bytes, got dtype "
            f"{dtype.name!r}; store it as fixed-width S or as offsets and bytes"
        )
    if dtype.kind == "S" and not dtype.itemsize:
        return np.asarray(array, "S1", order="C")
    return np.asarray(array, order="C")


def _spec(
    content: Content,
    arrays: Mapping[str, _Array],
    coords: Mapping[str, _Array | int],
) -> ImageSpec:
    lengths = {name: _length(name, coord) for name, coord in coords.items()}
    described = []
    for name, array in arrays.items():
        dims = content.dims.get(name)
        if dims is not None:
            dims = tuple(dims)
            _check_dims(name, array.shape, dims, lengths)
        described.append(_describe(name, array, dims))
    described_coords = [
        (name, coord) if isinstance(coord, int) else _describe(name, coord, (name,))
        for name, coord in coords.items()
    ]
    attributes = tuple(content.attributes.items())
    return ImageSpec(tuple(described), tuple(described_coords), attributes, content.compression)


def _describe(name: str, array: _Array, dims: tuple[str, ...] | None) -> ArraySpec:
    form = hdf5image.form_of(array)
    return ArraySpec(name, array.dtype, array.dtype.type, array.shape, form, dims)


def _length(name: str, coord: _Array | int) -> int:
    if not isinstance(coord, int):
        if coord.ndim != 1:
            raise SpecError(f"{name!r}: expected coordinates with one axis, got {coord.shape!r}")
        return len(coord)
    if coord < 0:
        raise SpecError(f"{name!r}: expected a length of 0 or more, got {coord!r}")
    return coord


def _check_dims(name: str, shape: tuple[int, ...], dims: tuple[str, ...], lengths: Mapping[str, int]) -> None:
    unknown = [dim for dim in dims if dim not in lengths]
    if unknown:
        raise SpecError(f"{name!r}: expected dimensions of {list(lengths)!r}, got {unknown!r}")
    expected = tuple(lengths[dim] for dim in dims)
    if shape[: len(dims)] != expected or len(set(dims)) != len(dims):
        raise SpecError(
            f"{name!r}: expected a shape that begins with {expected!r} for dimensions "
            f"{dims!r}, each once, got {shape!r}"
        )


def _fitting_template(spec: ImageSpec, plan: _Plan, extra: int) -> _Template:
    """Find the template whose user block is just large enough for the manifest."""
    if sum(plan.sizes) <= SMALL_FILE and not any(plan.packings):
        template = _templates.template(spec, plan, _user_block(plan.small_bound + extra))
        if template.whole:
            return template
    return _templates.template(spec, plan, _user_block(plan.large_bound + extra))


def _user_block(size: int) -> int:
    return max(_MIN_USER_BLOCK, 1 << (size - 1).bit_length())


def _small_image(mould: _Mould, stamp: _Stamp, values: Sequence[_Array]) -> bytearray:
    """Copy the template, and put values and manifest in place."""
    template = mould.template
    data = bytearray(mould.start)
    for offset, size, array in zip(template.offsets, template.sizes, values, strict=True):
        if size:
            data[offset : offset + size] = array.tobytes()
    at = HEADER.size + mould.constant_size
    data[at : at + len(stamp.identity)] = stamp.identity
    _put_header(data, mould, stamp, (0, 0), template.size, template.end, template.tail)
    return data


def _large_image(mould: _Mould, stamp: _Stamp, values: Sequence[_Array]) -> list[Piece]:
    """Put skeleton and values one after the other, without copying the values."""
    template = mould.template
    views = [_bytes_of(array) for array in values]
    packed = [
        None if packing is None else list(packing.pack(view))
        for packing, view in zip(template.packings, views, strict=True)
    ]
    sums: list[int] = []
    for view, found in zip(views, packed, strict=True):
        sums += _checksums(view) if found is None else [xxhash.xxh3_64_intdigest(piece.data) for piece in found]
    stored = [piece for found in packed if found is not None for piece in found]
    lengths = [piece.size | (_PLAIN_PIECE if piece.plain else 0) for piece in stored]
    manifest = stamp.identity + struct.pack(f"<{len(sums) + len(lengths)}Q", *sums, *lengths)
    at = HEADER.size + mould.constant_size
    covered = at + len(manifest)
    block = bytearray(mould.start)
    block[at:covered] = manifest
    buffers: list[Piece] = [block]
    skeleton = xxhash.xxh3_64(memoryview(block)[covered:])
    size = template.size
    pieces: Sequence[tuple[bytes, int | None]] = template.pieces
    if template.slots is not None:
        pieces, size = _told_of_pieces(template, template.slots, stored)
    for piece, number in pieces:
        skeleton.update(piece)
        buffers.append(piece)
        if number is not None:
            buffers.append(views[number])
    for padded in stored:
        gap = bytes(-padded.size % 8)
        skeleton.update(gap)
        buffers += [memoryview(padded.data), gap]
    _put_header(block, mould, stamp, (len(sums), len(lengths)), size, covered, skeleton.intdigest())
    return buffers


def _told_of_pieces(
    template: _Template, slots: hdf5image.Slots, stored: Sequence[filters.Piece]
) -> tuple[list[tuple[bytes, int | None]], int]:
    """Write lengths and places of stored pieces into the HDF5 image; return it, and the file's length."""
    starts, at = [], template.user_block
    for piece, number in template.pieces:
        starts.append(at)
        at += len(piece) + (0 if number is None else template.sizes[number])
    data = [bytearray(piece) for piece, _ in template.pieces]

    def put(form: str, offset: int, *numbers: int) -> None:
        which = bisect_right(starts, offset) - 1
        struct.pack_into(form, data[which], offset - starts[which], *numbers)

    masks = [packing.plain_mask for packing in template.packings if packing for _ in range(packing.count)]
    end = _aligned(template.size)
    data[-1] += bytes(end - template.size)
    for own, mask, length, place in zip(stored, masks, slots.pieces, slots.places, strict=True):
        put("<II", length, own.size, mask if own.plain else 0)
        put("<Q", place, end - template.user_block)
        end += _aligned(own.size)
    put("<Q", slots.length, end)
    return [(bytes(part), number) for part, (_, number) in zip(data, template.pieces, strict=True)], end


def _bytes_of(array: _Array) -> memoryview:
    if not array.nbytes:
        return memoryview(b"")
    return array.reshape(-1).view(np.uint8).data


def _checksums(view: memoryview) -> list[int]:
    if not _checksum_count(len(view)) > 1:
        return [xxhash.xxh3_64_intdigest(view)] if len(view) else []
    return [
        xxhash.xxh3_64_intdigest(view[start : start + BLOCK_SIZE]) for start in range(0, len(view), BLOCK_SIZE)
    ]


def _put_header(
    data: bytearray,
    mould: _Mould,
    stamp: _Stamp,
    counts: tuple[int, int],
    size: int,
    covered: int,
    skeleton: int,
) -> None:
    HEADER.pack_into(
        data,
        0,
        MAGIC,
        0,
        covered,
        FORMAT_VERSION,
        0,
        size,
        skeleton,
        mould.template.user_block,
        mould.constant_size,
        len(stamp.identity),
        *counts,
        stamp.created_at,
        stamp.seconds,
        0,
    )
    checksum = xxhash.xxh3_64_intdigest(memoryview(data)[_CHECKED_FROM:covered])
    struct.pack_into("<Q", data, 8, checksum)


# --- reading ----------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """One array of the table."""

    dtype: _Dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    first: int
    """Number of its first checksum."""
    checksums: int
    packing: Packing | None
    """How it is compressed."""
    first_piece: int
    """Number of its first piece."""


@dataclass(frozen=True)
class _Table:
    """A constant part, parsed."""

    constant: Any
    arrays: Mapping[str, _Entry]
    dims: Mapping[str, tuple[str, ...] | None]
    coords: Mapping[str, _Entry | int]
    stretches: tuple[tuple[int, int], ...]
    """Where the arrays lie, (start, stop), in file order; those that are compressed left out."""
    checksums: int
    """How many checksums they have together."""
    pieces: int
    """How many pieces compressed arrays have."""
    pieces_at: int
    """Where the first of them lies."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all arrays and coordinates take, once they are unpacked."""
        implied = sum(8 * coord for coord in self.coords.values() if isinstance(coord, int))
        return implied + sum(entry.nbytes for entry in self.entries())

    def entries(self) -> list[_Entry]:
        """Return the arrays and coordinates."""
        return [*self.arrays.values(), *(c for c in self.coords.values() if isinstance(c, _Entry))]


def _parse_table(data: bytes) -> _Table:
    """Read a constant part; any error means that it is none."""
    document = json.loads(data)
    counted = _Counted()
    arrays: dict[str, _Entry] = {}
    dims: dict[str, tuple[str, ...] | None] = {}
    for member in document["arrays"]:
        arrays[_text(member["name"])] = counted.entry(member)
        names = member["dims"]
        dims[member["name"]] = None if names is None else tuple(_text(name) for name in names)
    coords: dict[str, _Entry | int] = {}
    for member in document["coords"]:
        if "length" in member:
            coords[_text(member["name"])] = _sizes([member["length"]])[0]
        else:
            coords[_text(member["name"])] = counted.entry(member)
    if len(arrays) != len(document["arrays"]) or len(coords) != len(document["coords"]):
        raise ValueError("names are used twice")
    _check_table_dims(arrays, dims, coords)
    plain = [entry for entry in counted.entries if entry.nbytes and entry.packing is None]
    stretches = sorted((entry.offset, entry.offset + entry.nbytes) for entry in plain)
    (pieces_at,) = _sizes([document["pieces"] if counted.pieces else 0])
    ends = [*stretches, (pieces_at, pieces_at)] if counted.pieces else stretches
    if any(before[1] > after[0] for before, after in pairwise(ends)):
        raise ValueError("arrays overlap")
    constant = document["constant"]
    return _Table(constant, arrays, dims, coords, tuple(stretches), counted.checksums, counted.pieces, pieces_at)


class _Counted:
    """Reads the entries of a table, and counts their checksums and pieces."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.checksums = 0
        self.pieces = 0

    def entry(self, member: Any) -> _Entry:
        """Read an entry."""
        entry = _parse_entry(member, self.checksums, self.pieces)
        self.entries.append(entry)
        self.checksums += entry.checksums
        self.pieces += entry.packing.count if entry.packing is not None else 0
        return entry


_parse_table_once = lru_cache(maxsize=256)(_parse_table)


def _parse_entry(member: Any, first: int, first_piece: int) -> _Entry:
    dtype = _read_dtype(member["dtype"])
    shape = tuple(_sizes(member["shape"]))
    nbytes, checksums = _sizes([member["nbytes"], member["checksums"]])
    length = dtype.itemsize
    for size in shape:
        length *= size
    packing = _parse_packing(member, shape, nbytes) if "compression" in member else None
    (offset,) = _sizes([member["offset"] if packing is None else 0])
    counts = (0, _checksum_count(nbytes)) if packing is None else (packing.count,)
    if dtype.hasobject or nbytes != length or checksums not in counts:
        raise ValueError(f"the sizes of array {member['name']!r} contradict each other")
    np.broadcast_to(np.zeros((), dtype), shape)  # raises where NumPy has no such shape
    return _Entry(dtype, shape, offset, nbytes, first, checksums, packing, first_piece)


def _parse_packing(member: Any, shape: tuple[int, ...], nbytes: int) -> Packing:
    name, (rows, width) = member["compression"], _sizes([member["rows"], member["width"]])
    if name not in filters.COMPRESSIONS:
        raise FormatVersionError(f"it holds an array of the unknown compression {name!r}")
    if not shape or not 0 < rows <= shape[0] or not width or not nbytes or nbytes // shape[0] * rows % width:
        raise ValueError(f"the pieces of array {member['name']!r} contradict its shape")
    return Packing(name, rows, nbytes // shape[0], width, -(-shape[0] // rows))


def _check_table_dims(
    arrays: Mapping[str, _Entry],
    dims: Mapping[str, tuple[str, ...] | None],
    coords: Mapping[str, _Entry | int],
) -> None:
    lengths: dict[str, int] = {}
    for name, coord in coords.items():
        (lengths[name],) = (coord,) if isinstance(coord, int) else coord.shape
    for name, entry in arrays.items():
        leading = tuple(lengths[dim] for dim in dims[name] or ())
        if entry.shape[: len(leading)] != leading:
            raise ValueError(f"the dimensions of array {name!r} contradict its shape")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a name, found {value!r}")
    return value


def _damaged(subject: str, what: str) -> ChunkFormatError:
    return ChunkFormatError(
        f"{subject!r} is not an intact chunk file: {what}; remove it, and what it held is computed again"
    )


def _read_header(head: Buffer, size: int, subject: str) -> Header:
    """Read the header of a file, once the checksum says that it can be believed."""
    if size < HEADER.size:
        raise _damaged(subject, f"expected at least {HEADER.size} bytes, found {size}")
    header = Header(*HEADER.unpack_from(head))
    if header.magic != MAGIC:
        raise _damaged(subject, f"expected it to begin with {MAGIC!r}, found {header.magic!r}")
    view = memoryview(head)
    if not HEADER.size <= header.covered <= len(view):
        raise _damaged(subject, f"the checked stretch ends at {header.covered} of {size} bytes")
    if xxhash.xxh3_64_intdigest(view[_CHECKED_FROM : header.covered]) != header.checksum:
        raise _damaged(subject, "the checksum of its head does not hold")
    if header.version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{subject!r} was written by a later chunk_memo: expected format version "
            f"{FORMAT_VERSION} at most, found {header.version}; upgrade chunk_memo"
        )
    if header.version < 1 or header.file_size != size:
        raise _damaged(subject, f"expected {header.file_size} bytes, found {size}")
    _check_sizes(header, subject)
    return header


def _check_sizes(header: Header, subject: str) -> None:
    block, manifest = header.user_block, header.manifest_size
    small = _is_small(header)
    if (
        not manifest <= block <= header.file_size
        or (header.covered < manifest if small else header.covered != manifest)
        or (small and header.checksum_count)
    ):
        raise _damaged(subject, "the sizes in its header contradict each other")


def _is_small(header: Header) -> bool:
    """Whether one checksum guards all that is read."""
    return header.file_size <= SMALL_FILE and not header.piece_count


def _read_table(head: Buffer, header: Header, subject: str) -> _Table:
    constant = bytes(memoryview(head)[HEADER.size : HEADER.size + header.constant_size])
    parse_table = _parse_table_once if len(constant) <= _CACHED_CONSTANT else _parse_table
    try:
        table = parse_table(constant)
    except FormatVersionError as error:
        raise FormatVersionError(f"{subject!r} cannot be read here: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise _damaged(subject, f"its array table cannot be read ({error})") from None
    end = table.stretches[-1][1] if table.stretches else 0
    limit = header.covered if _is_small(header) else header.file_size
    if (
        table.checksums != header.checksum_count
        or table.pieces != header.piece_count
        or end > limit
        or (table.stretches and table.stretches[0][0] < header.user_block)
    ):
        raise _damaged(subject, "its array table does not fit its length")
    return table


class _StoredPiece(NamedTuple):
    """Some rows of a compressed array."""

    offset: int
    size: int
    plain: bool
    """Whether they are stored without their filters."""


def _is_possible(entry: _Entry, sizes: list[int]) -> bool:
    """Whether an entry's pieces, of these stored sizes, can hold so much."""
    packing = entry.packing
    assert packing is not None
    return packing.is_possible(sizes[entry.first_piece : entry.first_piece + packing.count])


class Chunk:
    """A chunk file that was opened, its manifest checked.

    Arrays are read when they are asked for, and checked then. Made by :func:`parse` and
    :func:`load`; a chunk of a longer file holds it open until it is closed, and works as a
    context manager.

    Parameters
    ----------
    head : bytes-like
        The file's first bytes, at least to the end of the checked stretch.
    size : int
        Length of the file in bytes.
    read : callable
        Called with an offset and a number of bytes; returns those bytes of the file.
    subject : str
        What messages call the file.
    file_id : (int, int), optional
        Device and inode of the file.
    max_bytes : int, optional
        Length of the file, and bytes of its arrays, that are not to be exceeded.

    Attributes
    ----------
    checked : bool
        For callers to note that they looked at the constant value.
    constant : object
        The caller's constant value. It is shared by all chunks of a template: not to be changed.
    identity : bytes
        The chunk's identity, to be compared with the one that was asked for.
    created_at : int
        Nanoseconds since 1970-01-01 UTC.
    seconds : float
        Seconds of compute.
    nbytes : int
        Length of the file in bytes.
    file_id : (int, int) or None
        Device and inode of the file; None for bytes in memory.
    subject : str
        The file's path.
    """

    __slots__ = (
        "__weakref__",
        "_checksums",
        "_finalizer",
        "_header",
        "_pieces",
        "_read",
        "_table",
        "checked",
        "constant",
        "created_at",
        "file_id",
        "identity",
        "nbytes",
        "seconds",
        "subject",
    )

    def __init__(
        self,
        head: Buffer,
        size: int,
        read: Callable[[int, int], Buffer],
        subject: str,
        file_id: files.FileId | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        header = _read_header(head, size, subject)
        if header.constant_size > max(_LEAST_CONSTANT, min(max_bytes // 16, _MOST_CONSTANT)):
            raise _damaged(subject, f"a constant part of {header.constant_size} bytes is too long")
        self._header = header
        self._table = _read_table(head, header, subject)
        if max(size, self._table.nbytes) > max_bytes:
            raise SpecError(
                f"{subject!r} is a chunk of {max(size, self._table.nbytes)} bytes, expected at most {max_bytes};"
                f" pass a larger max_chunk_bytes to read it, or remove it"
            )
        start = HEADER.size + header.constant_size
        self.identity = bytes(memoryview(head)[start : start + header.identity_size])
        start += header.identity_size
        self._checksums = struct.unpack_from(f"<{header.checksum_count}Q", head, start)
        self._read = read
        self.subject = subject
        self._pieces = self._found_pieces(head, start + 8 * header.checksum_count) if header.piece_count else []
        self._finalizer: weakref.finalize[..., Any] | None = None
        self.constant = self._table.constant
        self.checked = False
        self.created_at = header.created_at
        self.seconds = header.seconds
        self.nbytes = size
        self.file_id = file_id

    def _found_pieces(self, head: Buffer, start: int) -> list[_StoredPiece]:
        """Tell where the pieces of compressed arrays lie."""
        lengths = struct.unpack_from(f"<{self._header.piece_count}Q", head, start)
        sizes = [length & ~_PLAIN_PIECE for length in lengths]
        ends = list(accumulate(map(_aligned, sizes), initial=self._table.pieces_at))
        packed = (entry for entry in self._table.entries() if entry.packing is not None)
        if ends[-1] != self._header.file_size or not all(_is_possible(entry, sizes) for entry in packed):
            raise _damaged(self.subject, "the lengths of its compressed pieces do not fit")
        plain = (length >= _PLAIN_PIECE for length in lengths)
        return [_StoredPiece(*piece) for piece in zip(ends[:-1], sizes, plain, strict=True)]

    def __repr__(self) -> str:
        return f"Chunk({self.subject!r}, names={self.names!r}, nbytes={self.nbytes})"

    def __enter__(self) -> Chunk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays, more cannot be read."""
        if self._finalizer is not None:
            self._finalizer()
            self._read = _closed

    @property
    def plain(self) -> bool:
        """Whether no array is compressed, so that each lies at its place in every file of this template."""
        return not self._table.pieces

    @property
    def shares_constant(self) -> bool:
        """Whether other chunks of this template have the very same constant object."""
        return self._header.constant_size <= _CACHED_CONSTANT

    @property
    def names(self) -> list[str]:
        """The names of the arrays, without the coordinates."""
        return list(self._table.arrays)

    @property
    def dims(self) -> dict[str, tuple[str, ...] | None]:
        """For each array the dimensions of its leading axes; None for raw arrays."""
        return dict(self._table.dims)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension."""
        return {
            name: coord if isinstance(coord, int) else coord.shape[0]
            for name, coord in self._table.coords.items()
        }

    def dtype(self, name: str) -> _Dtype:
        """Return an array's dtype without reading it.

        Parameters
        ----------
        name : str
            The array.

        Returns
        -------
        numpy.dtype
            Its dtype.
        """
        return self._entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Return an array's shape without reading it.

        Parameters
        ----------
        name : str
            The array.

        Returns
        -------
        tuple of int
            Its shape.
        """
        return self._entry(name).shape

    def extent(self, name: str) -> Extent:
        """Return where an array lies in a plain file, for who reads many files of one template.

        Parameters
        ----------
        name : str
            The array.

        Returns
        -------
        Extent
            Its place, form and checksum.
        """
        entry = self._entry(name)
        first = entry.first if entry.checksums else None
        return Extent(entry.dtype, entry.shape, entry.offset, entry.nbytes, first, entry.checksums)

    def array(self, name: str) -> _Array:
        """Read an array.

        Parameters
        ----------
        name : str
            The array.

        Returns
        -------
        numpy.ndarray
            The array, checked and read-only.

        Raises
        ------
        KeyError
            When the chunk has no such array.
        ChunkFormatError
            When the bytes do not fit their checksums.
        OSError
            When they cannot be read.
        """
        return self._whole(self._entry(name), name)

    def rows(self, name: str, start: int, stop: int) -> _Array:
        """Read a range of an array's leading axis, and no more blocks than it takes.

        Parameters
        ----------
        name : str
            The array.
        start, stop : int
            The range, with ``0 <= start <= stop <= length``.

        Returns
        -------
        numpy.ndarray
            The rows, checked and read-only.

        Raises
        ------
        KeyError
            When the chunk has no such array.
        SpecError
            When there are no such rows.
        ChunkFormatError
            When the bytes do not fit their checksums.
        OSError
            When they cannot be read.
        """
        entry = self._entry(name)
        if not entry.shape or not 0 <= start <= stop <= entry.shape[0]:
            raise SpecError(f"{name!r}: expected rows within shape {entry.shape!r}, got {start!r} to {stop!r}")
        if entry.packing is not None:
            low, high = start // entry.packing.rows, -(-stop // entry.packing.rows)
            first = low * entry.packing.rows
            rows = min(high * entry.packing.rows, entry.shape[0]) - first
            data = self._unpacked(entry, name, low, rows * entry.packing.row_bytes)
            return _as_array(data, entry.dtype, (rows, *entry.shape[1:]))[start - first : stop - first]
        if entry.checksums <= 1:
            return self._whole(entry, name)[start:stop]
        row = entry.nbytes // entry.shape[0]
        low = start * row // BLOCK_SIZE * BLOCK_SIZE
        high = min(-(-stop * row // BLOCK_SIZE) * BLOCK_SIZE, entry.nbytes)
        data = self._verified(entry, name, low, high)
        return _as_array(
            data[start * row - low : stop * row - low],
            entry.dtype,
            (stop - start, *entry.shape[1:]),
        )

    def coords(self, name: str) -> _Array:
        """Read a dimension's coordinates.

        Parameters
        ----------
        name : str
            The dimension.

        Returns
        -------
        numpy.ndarray
            Its coordinates, checked and read-only; for a dimension that has only a length, the
            numbers from 0.

        Raises
        ------
        KeyError
            When the chunk has no such dimension.
        ChunkFormatError
            When the bytes do not fit their checksums.
        OSError
            When they cannot be read.
        """
        try:
            coord = self._table.coords[name]
        except KeyError:
            raise KeyError(self._no_such("dimension", name, self._table.coords)) from None
        if isinstance(coord, int):
            numbers = np.arange(coord)
            numbers.flags.writeable = False
            return numbers
        return self._whole(coord, name)

    def _entry(self, name: str) -> _Entry:
        try:
            return self._table.arrays[name]
        except KeyError:
            raise KeyError(self._no_such("array", name, self._table.arrays)) from None

    def _no_such(self, kind: str, name: str, known: Iterable[str]) -> str:
        return f"{self.subject!r} has no {kind} {name!r}; it has {list(known)!r}"

    def _whole(self, entry: _Entry, name: str) -> _Array:
        if entry.packing is not None:
            return _as_array(self._unpacked(entry, name, 0, entry.nbytes), entry.dtype, entry.shape)
        return _as_array(self._verified(entry, name, 0, entry.nbytes), entry.dtype, entry.shape)

    def _verified(self, entry: _Entry, name: str, low: int, high: int) -> memoryview:
        """Read bytes of an array, from one block border to another, and check them."""
        data = memoryview(self._read(entry.offset + low, high - low))
        if entry.checksums == 1:
            found = [xxhash.xxh3_64_intdigest(data)]
        elif entry.checksums:
            found = [
                xxhash.xxh3_64_intdigest(data[at : at + BLOCK_SIZE]) for at in range(0, high - low, BLOCK_SIZE)
            ]
        else:  # one checksum covered the whole file, or there are no bytes
            return data
        first = entry.first + low // BLOCK_SIZE
        if tuple(found) != self._checksums[first : first + len(found)]:
            raise _damaged(self.subject, f"the checksum of array {name!r} does not hold")
        return data

    def _unpacked(self, entry: _Entry, name: str, first: int, size: int) -> memoryview:
        """Read so many bytes of a compressed array, from one of its pieces on, and check those."""
        packing = entry.packing
        assert packing is not None
        out: memoryview = np.empty(size, np.uint8).data
        for number, low in enumerate(range(0, size, packing.piece_bytes), first):
            data, plain = self._stored(entry, name, number)
            try:
                packing.unpack(data, plain, out[low : low + packing.piece_bytes])
            except ValueError as error:
                raise _damaged(self.subject, f"array {name!r} cannot be unpacked ({error})") from None
        return out

    def _stored(self, entry: _Entry, name: str, number: int) -> tuple[memoryview, bool]:
        """Read one stored piece of a compressed array, and check it."""
        piece = self._pieces[entry.first_piece + number]
        data = memoryview(self._read(piece.offset, piece.size))
        if xxhash.xxh3_64_intdigest(data) != self._checksums[entry.first + number]:
            raise _damaged(self.subject, f"the checksum of array {name!r} does not hold")
        return data, piece.plain

    def _verify_all(self) -> None:
        """Check every byte of the file."""
        for name, entry in (*self._table.arrays.items(), *self._table.coords.items()):
            if isinstance(entry, _Entry) and entry.packing is not None:
                for number in range(entry.packing.count):
                    self._stored(entry, name, number)
            elif isinstance(entry, _Entry):
                step = max(entry.nbytes, 1) if entry.checksums <= 1 else 16 * BLOCK_SIZE
                for low in range(0, entry.nbytes, step):
                    self._verified(entry, name, low, min(low + step, entry.nbytes))
        skeleton = xxhash.xxh3_64()
        for start, stop in self._skeleton():
            for at in range(start, stop, 1 << 20):
                skeleton.update(self._read(at, min(stop - at, 1 << 20)))
        if skeleton.intdigest() != self._header.skeleton:
            raise _damaged(self.subject, "the checksum of its HDF5 skeleton does not hold")

    def _skeleton(self) -> Iterator[tuple[int, int]]:
        at = self._header.covered
        packed = ((piece.offset, piece.offset + piece.size) for piece in self._pieces)
        for start, stop in (*self._table.stretches, *packed):
            if start > at:
                yield at, start
            at = max(at, stop)
        if self.nbytes > at:
            yield at, self.nbytes


def _as_array(data: Buffer, dtype: _Dtype, shape: tuple[int, ...]) -> _Array:
    view = memoryview(data)
    array: _Array = np.ndarray(shape, dtype, buffer=view if len(view) else b"")
    array.flags.writeable = False
    return array


def _closed(offset: int, size: int) -> Buffer:
    raise SpecError("the chunk was closed; load it again to read more")


def parse(data: Buffer) -> Chunk:
    """Read a chunk from the bytes of its file.

    Parameters
    ----------
    data : bytes-like
        The whole file.

    Returns
    -------
    Chunk
        The chunk, its manifest checked. In files of at most 64 KiB that check covers the arrays;
        those of longer ones are checked when they are asked for.

    Raises
    ------
    ChunkFormatError
        When these are not the bytes of an intact chunk file.
    FormatVersionError
        When they were written by a later version of the format.

    Examples
    --------
    >>> parse(b"")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.ChunkFormatError: '<bytes>' is not an intact chunk file: ...
    """
    return _from_memory(data, "<bytes>", None)


def _from_memory(data: Buffer, subject: str, file_id: files.FileId | None, max_bytes: int = MAX_BYTES) -> Chunk:
    view = memoryview(data).cast("B")
    return Chunk(view, len(view), lambda at, size: view[at : at + size], subject, file_id, max_bytes)


def load(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Chunk:
    """Open a chunk file.

    A file of at most 64 KiB is read at once and closed. Of a longer one the manifest is read;
    the file stays open, and arrays are read when they are asked for.

    Parameters
    ----------
    path : path-like
        The file.
    max_bytes : int
        Longer files are refused, and those whose arrays take more than that once they are unpacked.

    Returns
    -------
    Chunk
        The chunk, its manifest checked.

    Raises
    ------
    ChunkFormatError
        When it is not an intact chunk file. Its attribute ``seen`` is (device, inode) of the
        file that was read.
    FormatVersionError
        When it was written by a later version of the format.
    SpecError
        When it is an intact chunk file, and larger than `max_bytes`.
    OSError
        When it cannot be read; FileNotFoundError when it does not exist.
    """
    data, status = files.read_file(path, SMALL_FILE)
    try:
        if status.size <= SMALL_FILE:
            return _from_memory(data, os.fspath(path), status.file_id, max_bytes)
        return _load_large(path, max_bytes, data, status)
    except ChunkFormatError as error:
        vars(error).setdefault("seen", status.file_id)
        raise


def _load_large(path: str | os.PathLike[str], max_bytes: int, head: bytes, first: files.FileStat) -> Chunk:
    """Keep the file open; `head` is its beginning, if it still is the file of the first look."""
    fd = files.open_for_reading(path)
    try:
        status = files.file_stat(fd)
        if status != first:
            head = files.pread_exact(fd, min(status.size, SMALL_FILE), 0)
        if len(head) >= HEADER.size:
            covered = Header(*HEADER.unpack_from(head)).covered
            if len(head) < covered <= min(status.size, max_bytes):
                head = files.pread_exact(fd, covered, 0)
        chunk = Chunk(head, status.size, _reader(fd), os.fspath(path), status.file_id, max_bytes)
    except BaseException as error:
        files.close(fd)
        if isinstance(error, ChunkFormatError):
            vars(error)["seen"] = status.file_id
        raise
    chunk._finalizer = weakref.finalize(chunk, files.close, fd)
    return chunk


def _reader(fd: int) -> Callable[[int, int], Buffer]:
    def read(offset: int, size: int) -> Buffer:
        view = np.empty(size, np.uint8).data  # unlike a bytearray's, its bytes are not zeroed
        files.pread_into(fd, view, offset)
        return view

    return read


def verify(path: str | os.PathLike[str], *, max_bytes: int = 1 << 62) -> None:
    """Check every byte of a chunk file, also those that reading passes over.

    Parameters
    ----------
    path : path-like
        The file.
    max_bytes : int
        Length of the file, and bytes of its arrays, that are not to be exceeded; no limit by default.

    Raises
    ------
    ChunkFormatError
        When something is wrong, saying what.
    OSError
        When the file cannot be read.
    """
    with load(path, max_bytes=max_bytes) as chunk:
        try:
            chunk._verify_all()
        except ChunkFormatError as error:
            vars(error)["seen"] = chunk.file_id
            raise


def is_unfinished(head: Buffer) -> bool:
    """Tell whether a file is still being written, or was given up, by an exclusive create.

    Such a file has no magic number yet. While it is young it counts as absent, not as damaged.

    Parameters
    ----------
    head : bytes-like
        The file's first bytes: eight or more, or all that it has.

    Returns
    -------
    bool
        True when the first eight are zero or missing.

    Examples
    --------
    >>> is_unfinished(b""), is_unfinished(bytes(4096)), is_unfinished(MAGIC)
    (True, True, False)
    """
    return not any(memoryview(head)[: len(MAGIC)])
