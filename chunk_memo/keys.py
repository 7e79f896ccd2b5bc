"""Canonical bytes of many values, and where each stands: as arrays where they are numbers.

A million bytes objects and a dict of them take 145 MB and 0.6 s. Ints and floats have nine canonical
bytes each, so a long row of them is one string (:class:`PackedKeys`, 9 MB), and looking them up is a search in
sorted 64-bit numbers. Shorter rows, and values of other types, are what they always were: sequences of bytes,
and a dict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from chunk_memo.identity import canonical_many
from chunk_memo.identity.grammar import packed

__all__ = [
    "KeyIndex",
    "PackedKeys",
    "first_positions",
    "index_of",
    "joined",
    "keys_of_values",
    "locate",
    "take",
]

_WIDTH = 9
"""Canonical bytes of an int of 64 bits or of a float: a tag and eight bytes."""

_MANY = 4096
"""Rows of fewer keys are not packed: a dict is quicker for them."""

_TAGGED = np.dtype([("tag", "S1"), ("bits", "<u8")])


class PackedKeys(Sequence[bytes]):
    """Keys of nine bytes with one tag, as one string.

    Parameters
    ----------
    data : bytes
        The keys, joined.

    Examples
    --------
    >>> keys = PackedKeys(b"".join(canonical_many([1, 2, 3])))
    >>> len(keys), keys[1] == canonical_many([2])[0], keys[1:]
    (3, True, PackedKeys(2 keys))
    """

    __slots__ = ("__dict__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        """Return the number of keys."""
        return f"PackedKeys({len(self)} keys)"

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.data) // _WIDTH

    @overload
    def __getitem__(self, index: SupportsIndex) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> PackedKeys: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one key, or some of them."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return PackedKeys(self.data[start * _WIDTH : max(start, stop) * _WIDTH])
            return self.taken(np.arange(start, stop, step))
        at = range(len(self))[index] * _WIDTH
        return self.data[at : at + _WIDTH]

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the keys."""
        data = self.data
        return (data[at : at + _WIDTH] for at in range(0, len(data), _WIDTH))

    def __eq__(self, other: object) -> bool:
        """Tell whether another sequence has the same keys in the same order."""
        if isinstance(other, PackedKeys):
            return self.data == other.data
        return isinstance(other, list | tuple) and len(self) == len(other) and list(self) == list(other)

    def __hash__(self) -> int:
        """Return the hash of the joined keys."""
        return hash(self.data)

    @property
    def tag(self) -> bytes:
        """The first byte of every key."""
        return self.data[:1]

    @cached_property
    def bits(self) -> npt.NDArray[np.uint64]:
        """What follows the tags, as numbers; equal where keys are."""
        return np.ascontiguousarray(np.frombuffer(self.data, _TAGGED)["bits"])

    def taken(self, positions: npt.NDArray[np.intp]) -> PackedKeys:
        """Return the keys at some positions.

        Parameters
        ----------
        positions : ndarray of intp
            The positions.

        Returns
        -------
        PackedKeys
            Their keys, in the order of `positions`.
        """
        return PackedKeys(np.frombuffer(self.data, _TAGGED)[positions].tobytes())


def keys_of_values(values: Sequence[Any], name: str = "values") -> Sequence[bytes]:
    """Return the canonical bytes of values, packed where there are many and all are ints or all floats.

    Parameters
    ----------
    values : sequence
        The values.
    name : str, optional
        What to call the sequence in an error message.

    Returns
    -------
    sequence of bytes
        One key for each value.
    """
    if len(values) >= _MANY:
        kinds = set(map(type, values))
        joined = packed(values, *kinds) if len(kinds) == 1 else None
        if joined is not None:
            return PackedKeys(joined)
    return canonical_many(values, name)


def take(keys: Sequence[bytes], positions: Sequence[int] | npt.NDArray[np.intp]) -> Sequence[bytes]:
    """Return the keys at some positions.

    Parameters
    ----------
    keys : sequence of bytes
        Keys.
    positions : sequence of int
        The positions wanted.

    Returns
    -------
    sequence of bytes
        Their keys, in the order of `positions`.
    """
    if isinstance(keys, PackedKeys) and len(positions) >= _MANY:
        return keys.taken(np.asarray(positions, np.intp))
    return tuple(keys[position] for position in positions)


class KeyIndex(Mapping[bytes, int]):
    """The position of each of many keys, which are sorted when one is first looked up.

    Parameters
    ----------
    keys : PackedKeys
        Keys that all differ.

    Examples
    --------
    >>> index = KeyIndex(PackedKeys(b"".join(canonical_many([3, 1]))))
    >>> index.get(canonical_many([1])[0]), canonical_many([1.0])[0] in index
    (1, False)
    """

    def __init__(self, keys: PackedKeys) -> None:
        self._keys = keys

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._keys)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the keys in the order of their positions."""
        return iter(self._keys)

    def __getitem__(self, key: bytes) -> int:
        """Return the position of a key."""
        if len(key) == _WIDTH and key[:1] == self._keys.tag:
            found = int(self.locate(PackedKeys(key))[0])
            if found >= 0:
                return found
        raise KeyError(key)

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp] | None]:
        """Sorted bits and their positions; no positions where the keys came sorted."""
        bits = self._keys.bits
        if _rises(bits):
            return bits, None
        order = np.argsort(bits, kind="stable")
        return bits[order], order

    def locate(self, keys: Sequence[bytes]) -> npt.NDArray[np.intp]:
        """Return the position of each of some keys, -1 for one that is not there.

        Parameters
        ----------
        keys : sequence of bytes
            Keys.

        Returns
        -------
        ndarray of intp
            Their positions.
        """
        if keys is self._keys:
            return np.arange(len(keys))
        if not isinstance(keys, PackedKeys):
            return np.fromiter((self.get(key, -1) for key in keys), np.intp, len(keys))
        if keys.tag != self._keys.tag:
            return np.full(len(keys), -1, np.intp)
        bits, order = self._sorted
        wanted = keys.bits
        place = np.minimum(np.searchsorted(bits, wanted), len(bits) - 1)
        there = bits[place] == wanted
        return np.where(there, place if order is None else order[place], -1)


def index_of(keys: Sequence[bytes]) -> Mapping[bytes, int]:
    """Return the position of each of some keys that all differ.

    Parameters
    ----------
    keys : sequence of bytes
        The keys.

    Returns
    -------
    mapping of bytes to int
        A dict, or a :class:`KeyIndex` for packed keys.
    """
    return KeyIndex(keys) if isinstance(keys, PackedKeys) else dict(zip(keys, range(len(keys)), strict=True))


def locate(index: Mapping[bytes, int], keys: Sequence[bytes]) -> npt.NDArray[np.intp]:
    """Return the position of each of some keys, -1 for one that is not there.

    Parameters
    ----------
    index : mapping of bytes to int
        As :func:`index_of` makes it.
    keys : sequence of bytes
        Keys.

    Returns
    -------
    ndarray of intp
        Their positions.

    Examples
    --------
    >>> locate(index_of([b"a", b"b"]), [b"b", b"c"])
    array([ 1, -1])
    """
    if isinstance(index, KeyIndex):
        return index.locate(keys)
    if not index:
        return np.full(len(keys), -1, np.intp)
    return np.fromiter(map(index.get, keys, itertools.repeat(-1)), np.intp, len(keys))


def joined(keys: Sequence[bytes], more: Sequence[bytes]) -> Sequence[bytes]:
    """Return keys with others behind them, packed where the first are and the others can be.

    Parameters
    ----------
    keys : sequence of bytes
        Keys.
    more : sequence of bytes
        Those to come behind.

    Returns
    -------
    sequence of bytes
        All of them.
    """
    if not keys:
        return more
    if isinstance(keys, PackedKeys):
        if isinstance(more, PackedKeys) and more.tag == keys.tag:
            return PackedKeys(keys.data + more.data)
        if all(len(key) == _WIDTH and key[:1] == keys.tag for key in more):
            return PackedKeys(keys.data + b"".join(more))
    return (*keys, *more)


def first_positions(keys: Sequence[bytes]) -> npt.NDArray[np.intp] | None:
    """Return the position of the first of each set of equal keys, ascending; None where all differ.

    Parameters
    ----------
    keys : sequence of bytes
        The keys.

    Returns
    -------
    ndarray of intp or None
        The positions.
    """
    if isinstance(keys, PackedKeys):
        if _rises(keys.bits) or _rises(np.sort(keys.bits)):
            return None
        return np.sort(np.unique(keys.bits, return_index=True)[1])
    if len(set(keys)) == len(keys):
        return None
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return np.sort(np.fromiter(first.values(), np.intp, len(first)))


def _rises(bits: npt.NDArray[np.uint64]) -> bool:
    return bool((bits[1:] > bits[:-1]).all())
