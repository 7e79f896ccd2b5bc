"""The HDF5 part of a chunk file: which datasets it has, how they are named and typed, and where.

Arrays with dimensions lie in the root group with a dimension scale attached to every dimension,
as netCDF readers need it; a coordinate is the scale itself, under the name of its dimension.
What netCDF cannot express lies in the group ``_raw``, which its readers pass over: natively
where that is safe, otherwise as bytes with the attribute ``dtype``, because the netCDF library
crashes on some types (float16, long double). True names stand in the attribute ``long_name``.

The HDF5 library writes the image into a sparse file in memory. Arrays are allocated early and
never filled, so that file holds only the *skeleton*, the bytes around the values, and costs the
same for arrays of a kilobyte and of a terabyte. Whoever has the skeleton and the offsets can
make the files of any number of chunks by putting values between its pieces.

Compressed arrays (:mod:`chunk_memo.disk.filters`) come behind all this, since their lengths are
known last. The skeleton then has *slots*: one in the superblock for the length of the file, and
one in an index (a B-tree of version 1, which has no checksums) for each stored piece.
"""

from __future__ import annotations

import struct
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from chunk_memo.disk.filters import Packing, packing_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Buffer

__all__ = [
    "ArraySpec",
    "Dataset",
    "Dimension",
    "ImageSpec",
    "Layout",
    "Skeleton",
    "Slots",
    "form_of",
    "lay_out",
    "write_skeleton",
]

_Array: TypeAlias = np.ndarray[Any, Any]
_Dtype: TypeAlias = np.dtype[Any]

_RAW = "_raw"
_MAX_NAME = 200
_MAX_TEXT = 32000
_MAX_AXES = 32
# HDF5 and netCDF give these attribute names a meaning of their own.
_RESERVED_ATTRIBUTES = ("CLASS", "DIMENSION_LIST", "NAME", "REFERENCE_LIST")
_NOT_A_VARIABLE = "This is a netCDF dimension but not a netCDF variable.%10d"
_SIGNATURE = b"\x89HDF\r\n\x1a\n\0"  # of a file, then the version of its superblock
_END = 40  # where that holds the length of the file
_PLACEHOLDER = b"\0" * 8
_NAT = np.iinfo(np.int64).min
_CF_UNITS = {
    "ns": ("nanoseconds", 1),
    "us": ("microseconds", 10**3),
    "ms": ("milliseconds", 10**6),
    "s": ("seconds", 10**9),
    "m": ("minutes", 60 * 10**9),
    "h": ("hours", 3600 * 10**9),
    "D": ("days", 86400 * 10**9),
}


# --- what is asked for ------------------------------------------------------------------------


class ArraySpec(NamedTuple):
    """An array as far as the image cares: everything but its values."""

    name: str
    """The true name; it may hold any character, or none."""
    dtype: _Dtype
    """The dtype; of fixed size, without objects."""
    type: type
    """The dtype's scalar type, which tells records from other structured dtypes."""
    shape: tuple[int, ...]
    """The shape."""
    form: str
    """What :func:`form_of` says about the values."""
    dims: tuple[str, ...] | None
    """The dimensions of the leading axes; None for an array that goes to ``_raw``."""


class ImageSpec(NamedTuple):
    """What two chunks must have in common to have the same skeleton."""

    arrays: tuple[ArraySpec, ...]
    """The arrays."""
    coords: tuple[ArraySpec | tuple[str, int], ...]
    """For each dimension its coordinates, or its name and length."""
    attributes: tuple[tuple[str, str], ...]
    """Attributes of the root group."""
    compression: str | None = None
    """How the arrays are compressed; coordinates never are."""


# --- which form an array has ------------------------------------------------------------------


def form_of(array: _Array) -> str:
    """Say in which form netCDF can express an array.

    The form depends on the values, too: text that is not UTF-8, and dates beyond the years that
    readers can decode, would make a file that cannot be opened.

    Parameters
    ----------
    array : numpy.ndarray
        The array, of a dtype of fixed size.

    Returns
    -------
    {"number", "bool", "text", "time", "raw"}
        The form; "raw" where netCDF has none.

    Examples
    --------
    >>> form_of(np.array([b"text"])), form_of(np.zeros(3)), form_of(np.zeros(3, complex))
    ('text', 'number', 'raw')
    """
    dtype = array.dtype
    if array.ndim > _MAX_AXES:
        return "raw"
    if _is_plain_number(dtype):
        return "number"
    if dtype.kind == "b":
        return "bool"
    if dtype.kind == "S":
        return "text" if _is_text(array) else "raw"
    if dtype.kind in "mM":
        return "time" if _is_readable_time(array) else "raw"
    return "raw"


def _is_plain_number(dtype: _Dtype) -> bool:
    return dtype.kind in "iu" or dtype.char in "fd"


def _is_text(array: _Array) -> bool:
    width = array.dtype.itemsize
    flat = array.reshape(-1)
    step = max(1, (1 << 22) // width)  # so that a large array is not copied as a whole
    return all(_is_utf8(flat[start : start + step], width) for start in range(0, len(flat), step))


def _is_utf8(items: _Array, width: int) -> bool:
    if items.tobytes().isascii():
        return True
    try:
        # One byte wider, so that every item ends in NUL and none can lend bytes to the next.
        items.astype(f"S{width + 1}").tobytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_readable_time(array: _Array) -> bool:
    unit, step = np.datetime_data(array.dtype)
    if unit not in _CF_UNITS or step != 1:
        return False
    numbers = array.view(_as_integers(array.dtype))
    bound = (2**63 - 1) // _CF_UNITS[unit][1]
    known = numbers[numbers != _NAT]
    return known.size == 0 or bool(known.min() >= -bound and known.max() <= bound)


def _as_integers(dtype: _Dtype) -> _Dtype:
    return np.dtype(dtype.str[0] + "i8")


def _stored_as(array: ArraySpec) -> tuple[_Dtype, tuple[int, ...]]:
    """Choose dtype and shape in the HDF5 file; the bytes are the same in any case."""
    dtype, shape = array.dtype, array.shape
    if len(shape) > _MAX_AXES:
        return np.dtype("u1"), (array.dtype.itemsize * int(np.prod(shape, dtype=object)),)
    if dtype.kind == "b":
        return np.dtype("i1"), shape
    if dtype.kind in "mM":
        return _as_integers(dtype), shape
    if array.form != "raw" or _is_safe_natively(dtype):
        return dtype, shape
    if len(shape) == _MAX_AXES:
        return np.dtype("u1"), (*shape[:-1], shape[-1] * dtype.itemsize)
    return np.dtype("u1"), (*shape, dtype.itemsize)


def _is_safe_natively(dtype: _Dtype) -> bool:
    """Whether the netCDF library survives the type; it need not understand it."""
    if dtype.fields is not None:
        return bool(dtype.names) and all(_is_plain_number(entry[0].base) for entry in dtype.fields.values())
    return dtype.char in "FD"


def _type_attributes(dtype: _Dtype, form: str) -> list[tuple[str, Any]]:
    """List the attributes by which netCDF readers find the true type again."""
    if form == "bool":
        return [("dtype", "bool")]
    if form == "raw":
        return [("dtype", str(dtype))]
    if form != "time":
        return []
    unit = _CF_UNITS[np.datetime_data(dtype)[0]][0]
    fill = ("_FillValue", np.array([_NAT], _as_integers(dtype)))
    if dtype.kind == "m":
        return [("units", unit), ("dtype", "timedelta64[ns]"), fill]
    return [("units", f"{unit} since 1970-01-01"), ("calendar", "proleptic_gregorian"), fill]


# --- names -----------------------------------------------------------------------------------


class _Names:
    """Hands out HDF5 names: readable, legal in netCDF, at most 200 bytes, each only once."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return a free name that looks like this one."""
        base = candidate = _legal(name)
        while candidate in self._taken:
            number = self._numbers[base] = self._numbers.get(base, 1) + 1
            suffix = f"_{number}"
            candidate = _cut(base, _MAX_NAME - len(suffix)) + suffix
        self._taken.add(candidate)
        return candidate


def _legal(name: str) -> str:
    text = unicodedata.normalize("NFC", name)
    text = "".join(c if c.isalnum() or c in "_.-+@" else "_" for c in text)
    while "_nc4_non_coord_" in text:  # netCDF readers take it out of names, wherever it stands
        text = text.replace("_nc4_non_coord_", "_non_coord_")
    if not text or not (text[0].isalnum() or text[0] == "_"):
        text = "x" + text
    return _cut(text, _MAX_NAME)


def _legal_attribute(name: str) -> str:
    # netCDF keeps names that begin with an underscore for itself.
    return _legal("x" + name if name.startswith("_") else name)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _long_name(name: str, legal: str) -> tuple[tuple[str, str], ...]:
    return () if name == legal else (("long_name", name),)


# --- layout: what the image will hold ---------------------------------------------------------


class Dataset(NamedTuple):
    """One HDF5 dataset that holds an array."""

    name: str
    """Its name within its group."""
    raw: bool
    """Whether it lies in the group ``_raw``."""
    text: bool
    """Whether it holds UTF-8 strings of fixed length."""
    dtype: _Dtype
    """Its dtype in the HDF5 file."""
    shape: tuple[int, ...]
    """Its shape in the HDF5 file."""
    nbytes: int
    """Its length in bytes."""
    scales: tuple[int, ...]
    """The dimensions of its axes, by number; none for raw datasets and coordinates."""
    attributes: tuple[tuple[str, Any], ...]
    """Its attributes."""
    packing: Packing | None
    """How it is compressed; None where its values are stored as they are, in one stretch."""

    @property
    def stretch(self) -> int:
        """Bytes of its values inside the skeleton; 0 where they come behind it."""
        return 0 if self.packing is not None else self.nbytes

    @property
    def path(self) -> str:
        """Where it lies in the HDF5 file."""
        return f"/{_RAW}/{self.name}" if self.raw else f"/{self.name}"


class Dimension(NamedTuple):
    """One netCDF dimension: with coordinates, or only a length."""

    name: str
    """Its name, also that of its coordinates."""
    length: int
    """Its length."""
    coordinate: int | None
    """The dataset of its coordinates, by number."""
    attributes: tuple[tuple[str, Any], ...]
    """The attributes of a dimension without coordinates."""


@dataclass(frozen=True)
class Layout:
    """What an HDF5 image will hold, before any offset is known.

    Examples
    --------
    >>> value = ArraySpec("fit/beta", np.dtype("f8"), np.float64, (3, 2), "number", ("x",))
    >>> layout = lay_out(ImageSpec((value,), (("x", 3),), ()))
    >>> [dataset.path for dataset in layout.datasets], [d.name for d in layout.dimensions]
    (['/fit_beta'], ['x', 'fit_beta_dim1'])
    """

    datasets: tuple[Dataset, ...]
    """One for each array, then one for each dimension that has coordinates."""
    dimensions: tuple[Dimension, ...]
    """Those that were asked for, then those of trailing axes."""
    attributes: tuple[tuple[str, str], ...]
    """Attributes of the root group."""


def lay_out(spec: ImageSpec) -> Layout:
    """Find names, types and dimensions for the datasets of an image.

    Parameters
    ----------
    spec : ImageSpec
        What the image is to hold.

    Returns
    -------
    Layout
        The datasets in the order of the arrays and coordinates.
    """
    return _Planner(spec).plan()


class _Planner:
    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.names = _Names([_RAW])
        self.datasets: list[Dataset] = []
        self.dimensions: list[Dimension] = []
        self.numbers: dict[str, int] = {}

    def plan(self) -> Layout:
        """Name the dimensions first: they are the words of the file."""
        for coord in self.spec.coords:
            self._add_dimension(coord)
        for array in self.spec.arrays:
            self._add_array(array)
        for coord in self.spec.coords:
            if isinstance(coord, ArraySpec):
                self._add_coordinate(coord)
        names = _Names(_RESERVED_ATTRIBUTES)
        attributes = [(names.take(_legal_attribute(name)), text) for name, text in self.spec.attributes]
        return Layout(tuple(self.datasets), tuple(self.dimensions), tuple(attributes))

    def _add_dimension(self, coord: ArraySpec | tuple[str, int]) -> None:
        true_name = coord[0]
        length = coord.shape[0] if isinstance(coord, ArraySpec) else coord[1]
        name = self.names.take(true_name)
        self.numbers[true_name] = len(self.dimensions)
        self.dimensions.append(Dimension(name, length, None, _long_name(true_name, name)))

    def _add_array(self, array: ArraySpec) -> None:
        name = self.names.take(array.name)
        raw = array.dims is None or array.form == "raw"
        self._add(array, name, raw, () if raw else self._scales(array, name), self.spec.compression)

    def _add_coordinate(self, coord: ArraySpec) -> None:
        number = self.numbers[coord.name]
        dimension = self.dimensions[number]
        raw = coord.form == "raw"
        if not raw:
            self.dimensions[number] = dimension._replace(coordinate=len(self.datasets))
        self._add(coord, dimension.name, raw, ())

    def _add(
        self,
        array: ArraySpec,
        name: str,
        raw: bool,
        scales: tuple[int, ...],
        compression: str | None = None,
    ) -> None:
        dtype, shape = _stored_as(array)
        nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        attributes = _long_name(array.name, name) + tuple(_type_attributes(array.dtype, array.form))
        text = array.form == "text"
        packing = packing_for(compression, shape, dtype.itemsize) if len(array.shape) <= _MAX_AXES else None
        self.datasets.append(Dataset(name, raw, text, dtype, shape, nbytes, scales, attributes, packing))

    def _scales(self, array: ArraySpec, name: str) -> tuple[int, ...]:
        """Give each axis its dimension by number; trailing axes get dimensions of their own."""
        numbers = [self.numbers[dim] for dim in array.dims or ()]
        for axis in range(len(numbers), len(array.shape)):
            numbers.append(len(self.dimensions))
            own = self.names.take(f"{_cut(name, _MAX_NAME - 10)}_dim{axis}")
            self.dimensions.append(Dimension(own, array.shape[axis], None, ()))
        return tuple(numbers)


# --- skeleton: what the HDF5 library makes of it ----------------------------------------------


@dataclass(frozen=True)
class Slots:
    """Where a skeleton is to be told of the pieces of compressed arrays, which come behind it."""

    length: int
    """Where the length of the file goes, as uint64."""
    pieces: tuple[int, ...]
    """For each piece, in the order of the arrays, where its length and filter mask go, as uint32 each."""
    places: tuple[int, ...]
    """For each piece where its place goes, as uint64, counted from the end of the user block."""


@dataclass(frozen=True)
class Skeleton:
    """An HDF5 file without its user block and without the values of its arrays."""

    size: int
    """Length of the file in bytes, with user block and values."""
    offsets: tuple[int, ...]
    """Where each dataset's values lie in the file; 0 for empty and compressed ones."""
    end: int
    """Where the last of them ends; where there are none, the end of the user block."""
    pieces: tuple[tuple[bytes, int | None], ...]
    """The bytes from the user block on, each piece with the number of the dataset behind it."""
    slots: Slots | None
    """None where nothing is compressed."""


def write_skeleton(layout: Layout, user_block: int) -> Skeleton:
    """Let the HDF5 library write the image of a layout, and take its skeleton.

    Parameters
    ----------
    layout : Layout
        What the image is to hold.
    user_block : int
        Bytes before the image: 0, 512, or a higher power of two.

    Returns
    -------
    Skeleton
        Everything but the user block and the values.

    Examples
    --------
    >>> value = ArraySpec("v", np.dtype("f8"), np.float64, (10**12,), "number", ("x",))
    >>> skeleton = write_skeleton(lay_out(ImageSpec((value,), (("x", 10**12),), ())), 4096)
    >>> skeleton.size > 8 * 10**12 > 10**6 > sum(len(piece) for piece, _ in skeleton.pieces)
    True
    """
    file = _SparseFile()
    offsets, entries = _write_hdf5(layout, user_block, file)
    sizes = [dataset.stretch for dataset in layout.datasets]
    stretches = sorted(
        (offset, offset + size, number)
        for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True))
        if size
    )
    starts = [user_block, *(stop for _, stop, _ in stretches)]
    stops = [*(start for start, _, _ in stretches), file.size]
    gaps = file.gaps(starts, stops)
    numbers = [*(number for _, _, number in stretches), None]
    pieces = tuple(zip(gaps, numbers, strict=True))
    slots = _slots(starts, gaps, entries, file.size) if entries else None
    return Skeleton(file.size, tuple(offsets), starts[-1], pieces, slots)


def _slots(starts: Sequence[int], gaps: Sequence[bytes], entries: Sequence[bytes], size: int) -> Slots:
    """Find the places in a skeleton that compressed pieces change."""
    if gaps[0][: len(_SIGNATURE)] != _SIGNATURE or gaps[0][_END : _END + 8] != struct.pack("<Q", size):
        raise RuntimeError("expected an HDF5 superblock of version 0, which ends with the file's length")
    found = []
    for entry in entries:
        places = [start + at for start, gap in zip(starts, gaps, strict=True) for at in _all_in(gap, entry)]
        if len(places) != 1:
            raise RuntimeError(f"expected each piece once in an index of the HDF5 image, found {len(places)}")
        found.append(places[0])
    last = [place + len(entry) - 8 for place, entry in zip(found, entries, strict=True)]
    return Slots(starts[0] + _END, tuple(found), tuple(last))


def _all_in(data: bytes, wanted: bytes) -> Iterator[int]:
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)


class _SparseFile:
    """A file in memory that holds only what was written; what h5py writes an image into."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self.size = 0
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; from the start, the position or the end."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Buffer) -> int:
        """Remember the bytes and where they go."""
        kept = bytes(data)
        self.writes.append((self._position, kept))
        self._position += len(kept)
        self.size = max(self.size, self._position)
        return len(kept)

    def read(self, size: int = -1) -> bytes:
        """Read; h5py asks for this method, but calls `readinto`."""
        data = bytearray(self.size - self._position if size < 0 else size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer with what was written there, and zeros."""
        view = memoryview(buffer).cast("B")
        stop = self._position + len(view)
        view[:] = self.gaps([self._position], [stop])[0]
        self._position = stop
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self.size = self._position if size is None else size
        return self.size

    def flush(self) -> None:
        """Do nothing; there is nothing behind this file."""

    def gaps(self, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Return the bytes of stretches that lie in order; later writes win."""
        stretches = [bytearray(stop - start) for start, stop in zip(starts, stops, strict=True)]
        for at, data in self.writes:
            end = at + len(data)
            number = max(bisect_right(starts, at) - 1, 0)
            while number < len(starts) and starts[number] < end:
                start = starts[number]
                low, high = max(at, start), min(end, stops[number])
                if low < high:
                    stretches[number][low - start : high - start] = data[low - at : high - at]
                number += 1
        return [bytes(stretch) for stretch in stretches]


def _write_hdf5(layout: Layout, user_block: int, target: _SparseFile) -> tuple[list[int], list[bytes]]:
    """Write an HDF5 file whose arrays are allocated and not written.

    Returns their offsets, and what its indices hold for the pieces of those that will be compressed.
    """
    import h5py
    from h5py import h5ds, h5g

    with h5py.File(
        target,
        "w",
        userblock_size=user_block,
        alignment_threshold=1,
        alignment_interval=8,
        track_order=False,
    ) as file:
        root = file.id
        raw = h5g.create(root, _RAW.encode()) if any(d.raw for d in layout.datasets) else None
        datasets = [_create(raw if dataset.raw else root, dataset) for dataset in layout.datasets]
        scales = [
            _create_scale(root, number, dimension, datasets) for number, dimension in enumerate(layout.dimensions)
        ]
        for dataset, created in zip(layout.datasets, datasets, strict=True):
            for axis, number in enumerate(dataset.scales):
                h5ds.attach_scale(created, scales[number], axis)
        for name, text in layout.attributes:
            _set_attribute(root, name, text)
        packed = [(d, c) for d, c in zip(layout.datasets, datasets, strict=True) if d.packing is not None]
        entries = [entry for dataset, created in packed for entry in _placeholders(dataset, created, user_block)]
        # h5py counts the user block in these offsets; HDF5's addresses inside the file do not.
        pairs = zip(layout.datasets, datasets, strict=True)
        return [0 if d.packing is not None else created.get_offset() or 0 for d, created in pairs], entries


def _placeholders(dataset: Dataset, created: Any, user_block: int) -> Iterator[bytes]:
    """Store a few bytes for each piece; yield what the index says of it: length, mask, rows, place."""
    assert dataset.packing is not None
    rest = (0,) * (len(dataset.shape) - 1)
    for number in range(dataset.packing.count):
        first = (number * dataset.packing.rows, *rest)
        created.write_direct_chunk(first, _PLACEHOLDER)
        place = created.get_chunk_info_by_coord(first).byte_offset - user_block
        yield struct.pack(f"<II{len(first) + 1}QQ", len(_PLACEHOLDER), 0, *first, 0, place)


def _create(parent: Any, dataset: Dataset) -> Any:
    from h5py import h5d, h5p, h5t, h5z

    properties = h5p.create(h5p.DATASET_CREATE)
    if dataset.packing is None:
        properties.set_layout(h5d.CONTIGUOUS)
        properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    else:
        properties.set_chunk((dataset.packing.rows, *dataset.shape[1:]))
        for number, values in dataset.packing.filters():
            # Optional, because HDF5 need not have the filter to write what it has not to compress.
            properties.set_filter(number, h5z.FLAG_OPTIONAL, values)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    dtype = dataset.dtype
    stored = _text_type(dtype.itemsize) if dataset.text else h5t.py_create(dtype)
    name = dataset.name.encode()
    created = h5d.create(parent, name, stored, _dataspace(dataset.shape), properties)
    for attribute, value in dataset.attributes:
        _set_attribute(created, attribute, value)
    return created


def _create_scale(root: Any, number: int, dimension: Dimension, datasets: list[Any]) -> Any:
    """Make a dimension; without coordinates it is a scale that netCDF knows to be no variable."""
    from h5py import h5d, h5ds, h5p, h5t

    if dimension.coordinate is None:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_obj_track_times(False)
        # It is allocated late and never written, so it takes no bytes.
        name, space = dimension.name.encode(), _dataspace((dimension.length,))
        scale = h5d.create(root, name, h5t.IEEE_F32BE, space, properties)
        h5ds.set_scale(scale, (_NOT_A_VARIABLE % dimension.length).encode())
        for attribute, value in dimension.attributes:
            _set_attribute(scale, attribute, value)
    else:
        scale = datasets[dimension.coordinate]
        h5ds.set_scale(scale, dimension.name.encode())
    _set_attribute(scale, "_Netcdf4Dimid", np.array(number, np.int32))
    return scale


def _dataspace(shape: tuple[int, ...]) -> Any:
    from h5py import h5s

    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)


def _set_attribute(owner: Any, name: str, value: str | _Array) -> None:
    from h5py import h5a, h5t

    if isinstance(value, str):
        text = _attribute_text(value)
        stored = _text_type(max(len(text), 1))
        value = np.array(text, f"S{max(len(text), 1)}")
    else:
        stored = h5t.py_create(value.dtype)
    h5a.create(owner, name.encode(), stored, _dataspace(value.shape)).write(value, stored)


def _attribute_text(text: str) -> bytes:
    """Encode what people read, so that no reader stumbles: no NUL, no lone surrogate."""
    data = text.replace("\0", "\\0").encode(errors="backslashreplace")
    return data[:_MAX_TEXT].decode(errors="ignore").encode()


def _text_type(size: int) -> Any:
    from h5py import h5t

    kind = h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(h5t.STR_NULLPAD)
    kind.set_cset(h5t.CSET_UTF8)
    return kind
