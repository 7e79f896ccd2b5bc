"""Names of chunks, many at a time: the digest of a cache and one bin per axis, for products of bins.

A name takes 0.3 µs as long as what the chunks of a row share is joined once, and no object is made for a
chunk. Whoever needs more than the name of a chunk asks :meth:`ChunkStore.ref`, which costs ten times that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence, Set

import numpy as np
import numpy.typing as npt
import xxhash

from chunk_memo.grid import Bins, IntArray
from chunk_memo.identity import canonical_bytes

__all__ = ["chunk_digests", "chunk_names", "which_of"]

_BATCH = 1 << 16
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
    asked = [(names, flags) for names, flags in zip(sets, found, strict=True) if names]
    at = 0
    for batch in _batches(prefix, order, numbers, bins):
        for names, flags in asked:
            flags[at : at + len(batch)] = np.fromiter(map(names.__contains__, batch), bool, len(batch))
        at += len(batch)
    return [flags.reshape(shape).transpose(np.argsort(ranks)) for flags in found]


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
        for at in range(0, len(last[1]), _BATCH):
            tails = _marks(last[0], last[1][at : at + _BATCH], bins)
            yield [digest(head + tail) for head in rows for tail in tails]


def _marks(axis: str, numbers: IntArray, bins: Bins) -> list[bytes]:
    """Return what bins of an axis add to the names of their chunks."""
    text = canonical_bytes(axis)
    digests = bins.of(axis).first_digests(numbers).tobytes()
    return [text + digests[at : at + 16] for at in range(0, len(digests), 16)]
