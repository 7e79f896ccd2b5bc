"""Names of chunks, many at a time: the digest of a cache and one bin per axis, for products of bins.

A name takes 0.2 µs: what is digested is put together as one array of bytes, a row for each chunk, since joining
two bytes objects for each would take as long as their digest. Whoever needs more than the name of a chunk asks
:meth:`ChunkStore.ref`, which costs ten times that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from chunk_memo.grid import Bins, IntArray
from chunk_memo.identity import canonical_bytes

__all__ = ["chunk_digests", "chunk_names", "which_of"]

_BATCH = 1 << 13
"""So many digests at a time are Python objects."""


def chunk_names(prefix: bytes, order: Sequence[str], numbers: Sequence[IntArray], bins: Bins) -> list[str]:
    """Return the names of the chunks of a product of bins.

    Parameters
    ----------
    prefix : bytes
        Canonical bytes of the cache and its version.
    order : sequence of str
        Names of the axes.
    numbers : sequence of ndarray of intp
        For each axis the numbers of its bins.
    bins : Bins
        The table that the numbers refer to.

    Returns
    -------
    list of str
        The names, row-major in `order`: 32 hexadecimal characters each.
    """
    text = chunk_digests(prefix, order, numbers, bins).tobytes().hex()
    return [text[at : at + 32] for at in range(0, len(text), 32)]


def chunk_digests(
    prefix: bytes, order: Sequence[str], numbers: Sequence[IntArray], bins: Bins
) -> npt.NDArray[np.uint8]:
    """Return the names of the chunks of a product of bins as bytes.

    Parameters
    ----------
    prefix, order, numbers, bins : object
        As in :func:`chunk_names`.

    Returns
    -------
    ndarray of uint8
        One dimension per axis, in `order`, and one of 16 bytes.
    """
    joined = b"".join(b"".join(batch) for batch in _batches(prefix, order, numbers, bins))
    ranks = _ranks(order)
    shape = [len(numbers[rank]) for rank in ranks]
    digests = np.frombuffer(joined, np.uint8).reshape(*shape, 16)
    return digests.transpose(*np.argsort(ranks), len(ranks))


def which_of(
    sets: Sequence[Set[bytes]], prefix: bytes, order: Sequence[str], numbers: Sequence[IntArray], bins: Bins
) -> list[npt.NDArray[np.bool_]]:
    """Tell which chunks of a product of bins have a name in some sets.

    Parameters
    ----------
    sets : sequence of set of bytes
        Sets of names, as digests of 16 bytes.
    prefix, order, numbers, bins : object
        As in :func:`chunk_names`.

    Returns
    -------
    list of ndarray of bool
        For each set one entry per chunk, one dimension per axis, in `order`.
    """
    ranks = _ranks(order)
    shape = [len(numbers[rank]) for rank in ranks]
    found = [np.zeros(math.prod(shape), bool) for _ in sets]
    asked = [(names, _beginnings(names), flags) for names, flags in zip(sets, found, strict=True) if names]
    at = 0
    for batch in _batches(prefix, order, numbers, bins):
        begins = np.frombuffer(b"".join(batch), np.uint32)[::4] & _MASK
        for names, beginnings, flags in asked:
            places = np.flatnonzero(beginnings[begins])  # most that are not there are left out here
            chosen = map(batch.__getitem__, places.tolist())
            flags[at + places] = np.fromiter(map(names.__contains__, chosen), bool, len(places))
        at += len(batch)
    return [flags.reshape(shape).transpose(np.argsort(ranks)) for flags in found]


_MASK = (1 << 22) - 1


def _beginnings(names: Set[bytes]) -> npt.NDArray[np.bool_]:
    """Return a table of the bits that digests begin with; it lies in the processor's cache, as no set does."""
    table = np.zeros(_MASK + 1, bool)
    table[np.frombuffer(b"".join(names), np.uint32)[::4] & _MASK] = True
    return table


def _ranks(order: Sequence[str]) -> list[int]:
    """Return the ranks of the axes sorted by name, which is their order in a chunk's name."""
    return sorted(range(len(order)), key=order.__getitem__)


def _batches(
    prefix: bytes, order: Sequence[str], numbers: Sequence[IntArray], bins: Bins
) -> Iterator[list[bytes]]:
    """Iterate over digests in lists of at most a batch, row-major over the axes sorted by name."""
    digest = xxhash.xxh3_128_digest
    ranks = _ranks(order)
    if not ranks:
        yield [digest(prefix)]
        return
    *outer, last = [(order[rank], numbers[rank]) for rank in ranks]
    heads = map(b"".join, itertools.product([prefix], *(_marks(axis, chosen, bins) for axis, chosen in outer)))
    step = max(1, _BATCH // max(1, len(last[1])))
    while rows := list(itertools.islice(heads, step)):
        before = _as_rows(rows)
        for at in range(0, len(last[1]), _BATCH):
            tails = _mark_rows(last[0], last[1][at : at + _BATCH], bins)
            length = before.shape[1]
            named = np.empty((len(before), len(tails), length + tails.shape[1]), np.uint8)
            named[:, :, :length] = before[:, np.newaxis]
            named[:, :, length:] = tails
            yield list(map(digest, _as_bytes(named)))


def _marks(axis: str, numbers: IntArray, bins: Bins) -> list[bytes]:
    """Return what bins of an axis add to the names of their chunks."""
    return _as_bytes(_mark_rows(axis, numbers, bins))


def _mark_rows(axis: str, numbers: IntArray, bins: Bins) -> npt.NDArray[np.uint8]:
    """Return the same as rows of bytes."""
    text = np.frombuffer(canonical_bytes(axis), np.uint8)
    digests = bins.of(axis).first_digests(numbers)
    return np.concatenate([np.broadcast_to(text, (len(digests), len(text))), digests], axis=1)


def _as_rows(texts: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return bytes objects of one length as the rows of an array."""
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), -1)


def _as_bytes(rows: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return the rows of an array, its last axis, as bytes objects."""
    whole: npt.NDArray[Any] = rows.view(np.dtype((np.void, rows.shape[-1])))
    found: list[bytes] = whole.reshape(-1).tolist()
    return found
