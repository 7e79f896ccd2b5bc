"""Compression: arrays to the pieces that a standard HDF5 filter would store, and back.

HDF5 stores a compressed array as pieces, each some of its rows, and each piece as its *filters* leave it; an
index in the file says where the pieces lie. Filters are public formats, so this module applies them itself:

====== ============================================ ====================
name   filters, by their registered numbers         packages
====== ============================================ ====================
gzip   shuffle (2), deflate (1)                     none
zstd   shuffle (2), Zstandard (32015)               zstandard; none from Python 3.14 on
blosc2 Blosc2 (32026), which shuffles by itself     blosc2
====== ============================================ ====================

A piece that does not get smaller is stored as it is, and its filters are marked as passed over. The last piece
is filled up with zeros to the length of the others, as HDF5 wants it. Whoever unpacks says how many bytes a
piece must give, and no more are ever made of it.

.. [1] https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from chunk_memo.errors import EncodingError, SpecError

Bytes: TypeAlias = bytes | bytearray | memoryview
"""What pieces are made of."""

__all__ = ["COMPRESSIONS", "Bytes", "Packing", "Piece", "checked_compression", "packing_for"]

COMPRESSIONS = ("zstd", "blosc2", "gzip")
"""The names that ``compression=`` may have."""

_PIECE = 1 << 20
_SMALLEST = 16384
_LARGEST = 1 << 31
_WIDEST = 16
_MOST_AXES = 32
_MOST_PER_BYTE = 1 << 16
_LEVELS = {"gzip": 4, "zstd": 3, "blosc2": 5}
_NUMBERS = {"gzip": 1, "zstd": 32015, "blosc2": 32026}
_PACKAGES = {"zstd": "zstandard", "blosc2": "blosc2"}
_SHUFFLE = 2


class Piece(NamedTuple):
    """Some rows of an array as they are stored."""

    data: Bytes
    """The stored bytes."""
    size: int
    """How many they are."""
    plain: bool
    """Whether the filters were passed over."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How an array is cut into pieces, and how those are compressed.

    Examples
    --------
    >>> packing = packing_for("gzip", (4000,), 8)
    >>> pieces = list(packing.pack(memoryview(bytes(32000))))
    >>> len(pieces), pieces[0].size < 200
    (1, True)
    >>> out = bytearray(32000)
    >>> packing.unpack(pieces[0].data, False, memoryview(out))
    """

    compression: str
    """Name of the compression."""
    rows: int
    """Rows of a piece."""
    row_bytes: int
    """Bytes of a row."""
    width: int
    """Bytes of an item as far as shuffling cares; 1 where it is left out."""
    count: int
    """Number of pieces."""

    @property
    def piece_bytes(self) -> int:
        """Bytes of a piece before it is compressed."""
        return self.rows * self.row_bytes

    def filters(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the HDF5 filters in the order in which a writer applies them.

        Returns
        -------
        list of tuple of int, tuple of int
            Registered number and parameters of each.
        """
        level = _LEVELS[self.compression]
        values: tuple[int, ...] = (level,)
        if self.compression == "blosc2":  # revision, unused, item size, piece size, level, shuffle, codec
            values = (1, 0, self.width, self.piece_bytes, level, 1, 0)
        shuffle = [(_SHUFFLE, (self.width,))] if self._shuffles else []
        return [*shuffle, (_NUMBERS[self.compression], values)]

    @property
    def _shuffles(self) -> bool:
        return self.width > 1 and self.compression != "blosc2"

    @property
    def plain_mask(self) -> int:
        """The filter mask of a piece that all filters were passed over for."""
        return (1 << len(self.filters())) - 1

    def pack(self, view: memoryview) -> Iterator[Piece]:
        """Cut an array into pieces and compress them.

        Parameters
        ----------
        view : memoryview
            The array's bytes.

        Yields
        ------
        Piece
            One piece.
        """
        deflate = _DEFLATE[self.compression]()
        for start in range(0, len(view), self.piece_bytes):
            rows: Bytes = view[start : start + self.piece_bytes]
            if start + self.piece_bytes > len(view):
                rows = bytes(rows) + bytes(start + self.piece_bytes - len(view))
            data = deflate(_shuffled(rows, self.width) if self._shuffles else rows, self.width)
            if len(data) < self.piece_bytes:
                yield Piece(data, len(data), False)
            else:
                yield Piece(rows, self.piece_bytes, True)

    def unpack(self, data: Bytes, plain: bool, out: memoryview) -> None:
        """Turn a stored piece into rows again.

        Parameters
        ----------
        data : bytes-like
            The stored bytes.
        plain : bool
            Whether the filters were passed over.
        out : memoryview
            Where the rows go; shorter than a piece for the last ones.

        Raises
        ------
        ValueError
            When the bytes are not such a piece.
        EncodingError
            When a package is missing.
        """
        size = self.piece_bytes
        rows = memoryview(data) if plain else memoryview(_INFLATE[self.compression]()(data, size)).cast("B")
        if len(rows) != size:
            raise ValueError(f"expected a piece of {size} bytes, got {len(rows)}")
        if self._shuffles and not plain:
            rows = memoryview(_unshuffled(rows, self.width))
        out[:] = rows[: len(out)]

    def is_possible(self, sizes: list[int]) -> bool:
        """Tell whether pieces of these stored sizes could hold so much.

        Parameters
        ----------
        sizes : list of int
            Stored bytes of each piece.

        Returns
        -------
        bool
            False where memory would be asked for that no compression can fill.
        """
        return all(size > 0 and self.piece_bytes <= max(_PIECE, size * _MOST_PER_BYTE) for size in sizes)


def packing_for(compression: str | None, shape: tuple[int, ...], itemsize: int) -> Packing | None:
    """Return how an array is to be compressed.

    Parameters
    ----------
    compression : str or None
        Name of the compression.
    shape : tuple of int
        Shape of the array.
    itemsize : int
        Bytes of an item.

    Returns
    -------
    Packing or None
        None where it is to be stored as it is: without compression, where HDF5 cannot cut it, and where it is
        so small that the index of its pieces would take more than compression saves.
    """
    if compression is None or not shape or len(shape) > _MOST_AXES:
        return None
    size = itemsize
    for length in shape:
        size *= length
    row = size // shape[0] if shape[0] else 0
    if size < _SMALLEST or row >= _LARGEST:
        return None
    count = min(-(-size // _PIECE), shape[0])
    rows = -(-shape[0] // count)
    width = itemsize if itemsize <= _WIDEST else 1
    return Packing(compression, rows, row, width, -(-shape[0] // rows))


def checked_compression(compression: Any) -> str | None:
    """Return the name of a compression, if it is one and its package is there.

    Parameters
    ----------
    compression : object
        What a user gave.

    Returns
    -------
    str or None
        The name.

    Raises
    ------
    SpecError
        Where it is something else.
    EncodingError
        Where a package is missing.

    Examples
    --------
    >>> checked_compression("gzip")
    'gzip'
    """
    if compression is None:
        return None
    if compression not in COMPRESSIONS:
        raise SpecError(f"compression must be one of {list(COMPRESSIONS)} or None, got {compression!r}")
    from importlib.util import find_spec

    package = _PACKAGES.get(compression)
    built_in = compression == "zstd" and sys.version_info >= (3, 14)
    if package is not None and not built_in and find_spec(package) is None:
        raise _missing(compression, package)
    return str(compression)


def _missing(compression: str, package: str) -> EncodingError:
    return EncodingError(
        f"compression {compression!r} needs the package {package!r}, which is not installed; run"
        f" `pip install 'chunk-memo[compression]'`, or use compression='gzip'"
    )


# --- shuffling: the first bytes of all items, then the second ones, … ----------------------------------------


def _shuffled(data: Bytes, width: int) -> bytes:
    items: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return items.T.tobytes()


def _unshuffled(data: Bytes, width: int) -> bytes:
    planes: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(width, -1)
    return planes.T.tobytes()


# --- the three formats: made when they are used, since their packages need not be there ----------------------

_Deflate = Callable[[Bytes, int], bytes]
_Inflate = Callable[[Bytes, int], Bytes]


def _gzip_deflate() -> _Deflate:
    import zlib

    return lambda data, width: zlib.compress(data, _LEVELS["gzip"])


def _gzip_inflate() -> _Inflate:
    import zlib

    def inflate(data: Bytes, size: int) -> bytes:
        machine = zlib.decompressobj()
        try:
            rows = machine.decompress(data, size)
            # A stream that gives exactly as much as it may has its end still before it.
            more = b"" if machine.eof else machine.decompress(machine.unconsumed_tail, 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if more or not machine.eof or machine.unused_data:
            raise ValueError("the deflated stream is longer or shorter than its rows")
        return rows

    return inflate


def _zstd_deflate() -> _Deflate:
    level = _LEVELS["zstd"]
    if sys.version_info >= (3, 14):
        from compression import zstd

        return lambda data, width: zstd.compress(data, level)
    compressor = _zstandard().ZstdCompressor(level=level)
    return lambda data, width: bytes(compressor.compress(data))


def _zstd_inflate() -> _Inflate:
    if sys.version_info >= (3, 14):
        from compression import zstd

        def inflate(data: Bytes, size: int) -> bytes:
            machine = zstd.ZstdDecompressor()
            try:
                rows = machine.decompress(data, size + 1)
            except zstd.ZstdError as error:
                raise ValueError(str(error)) from None
            if not machine.eof or machine.unused_data:
                raise ValueError("the Zstandard frame is longer or shorter than its rows")
            return rows

        return inflate
    zstandard = _zstandard()

    def inflate_by_package(data: Bytes, size: int) -> bytes:
        try:
            # The package makes as many bytes as the frame says it has, whatever it was allowed.
            if zstandard.frame_content_size(data) != size:
                raise ValueError("the Zstandard frame is longer or shorter than its rows")
            rows: bytes = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
        return rows

    return inflate_by_package


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise _missing("zstd", "zstandard") from None
    return zstandard


def _blosc2_deflate() -> _Deflate:
    blosc2 = _blosc2()

    def deflate(data: Bytes, width: int) -> bytes:
        cparams = blosc2.CParams(typesize=width, clevel=_LEVELS["blosc2"], nthreads=1)
        frame: bytes = blosc2.SChunk(chunksize=len(memoryview(data)), data=data, cparams=cparams).to_cframe()
        return frame

    return deflate


def _blosc2_inflate() -> _Inflate:
    blosc2 = _blosc2()

    def inflate(data: Bytes, size: int) -> bytearray:
        rows = bytearray(size)
        try:
            frame = blosc2.schunk_from_cframe(bytes(data), copy=True)
            if frame.nchunks != 1 or frame.nbytes != size:
                raise ValueError("the Blosc2 frame is longer or shorter than its rows")
            frame.decompress_chunk(0, rows)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        return rows

    return inflate


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError:
        raise _missing("blosc2", "blosc2") from None
    return blosc2


_DEFLATE: dict[str, Callable[[], _Deflate]] = {
    "gzip": _gzip_deflate,
    "zstd": _zstd_deflate,
    "blosc2": _blosc2_deflate,
}
_INFLATE: dict[str, Callable[[], _Inflate]] = {
    "gzip": _gzip_inflate,
    "zstd": _zstd_inflate,
    "blosc2": _blosc2_inflate,
}
