"""Many small chunk files of one template: one buffer, one read each, and checks by NumPy over all of them.

Opening a file, reading it and closing it costs some microseconds, and everything else that is done for a file
must be small beside that. So a :class:`Template` is made once, from a file that was read and checked in the
ordinary way, and a :class:`Batch` then holds further files to it: their manifests must be byte for byte the
template's where they do not differ by nature, their identities those that were asked for, their checksums right.
A file for which any of this does not hold is no error here; whoever asked reads it in the ordinary way, which
tells what is wrong with it. A checksum takes one call per file; the rest is a few NumPy calls per batch, and the
arrays are strided views of the buffer. Only as much of a file is read as the checksums cover: the HDF5 structure
behind the arrays is a third of a small file, and its length is looked up instead.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from chunk_memo.disk import chunkfile, files

__all__ = ["LONGEST", "Batch", "Template"]

LONGEST = 1 << 20
"""Longer files are read one by one: there is nothing to win."""

_BATCH_BYTES = 1 << 21
_MOST_FILES = 512
_ALIGNED = 64

_WORD = struct.Struct("<Q")


class Template:
    """What files written from one template have in common, as seen in one of them.

    Parameters
    ----------
    data : bytes
        The bytes of a whole file.
    chunk : Chunk
        The same, parsed.
    names : sequence of str
        The arrays that are to be read, none of them compressed.

    Attributes
    ----------
    size : int
        Length of a file in bytes.
    needed : int
        How many of them are read: up to the last array wanted, and to the end of what the checksums cover.
    extents : mapping of str to Extent
        Where the arrays lie.
    """

    def __init__(self, data: bytes, chunk: chunkfile.Chunk, names: Sequence[str]) -> None:
        header = chunkfile.Header(*chunkfile.HEADER.unpack_from(data))
        end = chunkfile.HEADER.size + header.constant_size
        self.size = header.file_size
        self.extents = {name: chunk.extent(name) for name in names}
        self.covered = header.covered
        self.identity = slice(end, end + header.identity_size)
        self.checksums = self.identity.stop
        self.needed = max([self.covered, *(e.offset + e.nbytes for e in self.extents.values())])
        guarded = ((extent, extent.checksum) for extent in self.extents.values())
        self.guarded = [(extent, number) for extent, number in guarded if number is not None]
        # By words of eight bytes, but for the header's checksum, created_at and seconds; then what is left.
        words = end // 8
        alike = np.frombuffer(data, "<u8", words)
        self.alike = [(part, alike[part]) for part in (slice(0, 1), slice(2, 9), slice(11, words))]
        self.rest = data[words * 8 : end]
        self._bytes = [(slice(p.start * 8, p.stop * 8), data[p.start * 8 : p.stop * 8]) for p, _ in self.alike]
        common = b"".join([self.rest, *(part for _, part in self._bytes)])
        self._likeness = (self.size, self.needed, self.covered, end, self.checksums, self.extents, common)

    def is_like(self, other: Template) -> bool:
        """Tell whether files of another template are held to the same bytes, and lie the same way.

        Parameters
        ----------
        other : Template
            The other.

        Returns
        -------
        bool
            Whether what reads files of one reads those of the other.
        """
        return self is other or self._likeness == other._likeness

    def fits(self, data: bytes, identity: bytes) -> bool:
        """Tell whether these are the bytes of an intact file of this template, and of that chunk.

        Parameters
        ----------
        data : bytes
            As much of the file as is needed; its length was looked at.
        identity : bytes
            The identity that is expected.

        Returns
        -------
        bool
            Whether all that a batch checks holds for it.
        """
        start = self.identity.start - len(self.rest)
        if data[start : self.identity.stop] != self.rest + identity:
            return False
        for part, expected in self._bytes:
            if data[part] != expected:
                return False
        digest, word = xxhash.xxh3_64_intdigest, _WORD.unpack_from
        view = memoryview(data)
        if digest(view[16 : self.covered]) != word(data, 8)[0]:
            return False
        return not self.guarded or all(
            digest(view[array.offset : array.offset + array.nbytes]) == word(data, self.checksums + 8 * number)[0]
            for array, number in self.guarded
        )

    @staticmethod
    def of(data: bytes, chunk: chunkfile.Chunk, names: Sequence[str]) -> Template | None:
        """Return the template of a file, if its arrays can be read in batches.

        Parameters
        ----------
        data : bytes
            The bytes of a whole file.
        chunk : Chunk
            The same, parsed.
        names : sequence of str
            The arrays that are to be read.

        Returns
        -------
        Template or None
            The template; None where an array has several checksums.
        """
        extents = [chunk.extent(name) for name in names]
        if not chunk.plain or len(data) > LONGEST or any(extent.checksums > 1 for extent in extents):
            return None
        return Template(data, chunk, names)


class Batch:
    """A buffer with room for several files of a template; used again and again.

    Parameters
    ----------
    template : Template
        What the files must be like.
    most : int
        More files than this will never be read at once.
    """

    def __init__(self, template: Template, most: int) -> None:
        self.template = template
        self._slot = -(-template.needed // _ALIGNED) * _ALIGNED
        self.full = max(1, min(_MOST_FILES, _BATCH_BYTES // self._slot))
        self.room = max(1, min(most, self.full))
        self._rows = np.empty((self.room, self._slot), np.uint8)
        self._words = self._rows.view("<u8")
        memory = self._rows.reshape(-1).data
        slots = [memory[at : at + self._slot] for at in range(0, self.room * self._slot, self._slot)]
        self._places = [[slot[: template.needed]] for slot in slots]
        # What is hashed of each file, and the word that holds the checksum.
        self._guarded = [([slot[16 : template.covered] for slot in slots], self._words[:, 1])]
        for extent, number in template.guarded:
            views = [slot[extent.offset : extent.offset + extent.nbytes] for slot in slots]
            stored = self._view(np.dtype("<u8"), (), template.checksums + 8 * number, self.room)
            self._guarded.append((views, stored))
        rest = slice(template.identity.start - len(template.rest), template.identity.start)
        self._alike = [(self._words[:, part], expected) for part, expected in template.alike]
        self._alike.append((self._rows[:, rest], np.frombuffer(template.rest, np.uint8)))
        self._identities = self._rows[:, template.identity]

    @classmethod
    def taken(cls, template: Template, most: int) -> Batch:
        """Return a batch for a template, one that was left by an earlier request where there is one.

        Parameters
        ----------
        template : Template
            What the files must be like.
        most : int
            More files than this will never be read at once.

        Returns
        -------
        Batch
            A batch that nobody else has.
        """
        while _spare:
            try:
                batch = _spare.pop()
            except IndexError:  # another thread took it
                break
            if batch.template.is_like(template) and batch.room >= min(most, batch.full):
                return batch
        return cls(template, most)

    def leave(self) -> None:
        """Leave the batch to a later request."""
        _spare.append(self)

    def read(
        self, folder: str, names: Sequence[str], identities: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """Read files into the buffer, and check them.

        Parameters
        ----------
        folder : str
            The folder that the names are relative to.
        names : sequence of str
            At most :attr:`room` files.
        identities : ndarray of uint8, shape (len(names), bytes of an identity)
            The identities that are expected.

        Returns
        -------
        good : ndarray of bool, shape (len(names),)
            Which of them are whole, intact, of this template, and the chunks that they should be.
        counts : list of int
            As :func:`chunk_memo.disk.files.read_each` returns them.
        """
        count, needed = len(names), self.template.needed
        counts = files.read_each(folder, names, self._places, self.template.size)
        if identities.shape[1] != self._identities.shape[1]:
            return np.zeros(count, bool), counts
        if counts.count(needed) == count and self._all_good(count, identities):
            return np.ones(count, bool), counts
        good = np.fromiter((found == needed for found in counts), bool, count)
        good &= (self._identities[:count] == identities).all(axis=1)
        for found, expected in self._alike:
            good &= (found[:count] == expected).all(axis=1)
        for views, stored in self._guarded:
            good &= np.fromiter(map(xxhash.xxh3_64_intdigest, views[:count]), np.uint64, count) == stored[:count]
        return good, counts

    def _all_good(self, count: int, identities: npt.NDArray[np.uint8]) -> bool:
        """Tell at once what is nearly always so."""
        digest = xxhash.xxh3_64_intdigest
        return (
            all([*map(digest, views[:count])] == stored[:count].tolist() for views, stored in self._guarded)
            and bool((self._identities[:count] == identities).all())
            and all(bool((found[:count] == expected).all()) for found, expected in self._alike)
        )

    def _view(self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, count: int) -> npt.NDArray[Any]:
        inner = np.empty(0, dtype).reshape((0, *shape)).strides[1:] if 0 in shape else _strides(dtype, shape)
        return np.ndarray((count, *shape), dtype, self._rows, offset, (self._slot, *inner))

    def arrays(self, count: int) -> Mapping[str, npt.NDArray[Any]]:
        """Return the arrays of the files read last; they change with the next read.

        Parameters
        ----------
        count : int
            How many files were read.

        Returns
        -------
        mapping of str to ndarray
            For each array of the template one of shape ``(count, *shape)``, a view of the buffer.
        """
        found = self.template.extents.items()
        return {name: self._view(e.dtype, e.shape, e.offset, count) for name, e in found}


_spare: deque[Batch] = deque(maxlen=2)


def _strides(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a C-contiguous array."""
    strides, step = [], dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
