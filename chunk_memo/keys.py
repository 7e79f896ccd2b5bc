"""Canonical bytes of many values, and where each stands: as arrays where they are numbers.

A million bytes objects and a dict of them take 145 MB and 0.6 s. Ints and floats have nine canonical
bytes each, so a long row of them is one string (:class:`PackedKeys`, 9 MB), and looking them up is a search in
sorted 64-bit numbers. A long row of short texts is one string, too, with the place of each
(:class:`PackedTexts`); there the numbers are hashes, so what a search finds is compared. Shorter rows, and values
of other types, are what they always were: sequences of bytes, and a dict.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from chunk_memo.identity import canonical_many
from chunk_memo.identity.grammar import packed, short_texts

__all__ = [
    "KeyIndex",
    "PackedKeys",
    "PackedTexts",
    "first_positions",
    "index_of",
    "joined",
    "keys_of_values",
    "locate",
    "packed_texts",
    "take",
]

_WIDTH = 9
"""Canonical bytes of an int of 64 bits or of a float: a tag and eight bytes."""

_MANY = 4096
"""Rows of fewer keys are not packed: a dict is quicker for them."""

_BATCH = 1 << 16
"""So many keys at a time are Python objects."""

_ODD, _ALL = 0x9E3779B97F4A7C15, (1 << 64) - 1

_Flags = npt.NDArray[np.bool_]

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

    def spans(self, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> list[bytes]:
        """Return stretches of keys, the keys of each joined.

        Parameters
        ----------
        starts, ends : ndarray of intp
            Position of the first key of each stretch, and one behind the last.

        Returns
        -------
        list of bytes
            One for each stretch.
        """
        size = int(ends[0] - starts[0]) if len(starts) else 0
        if size and bool((ends - starts == size).all()) and bool((starts[1:] == ends[:-1]).all()):
            joined = np.dtype((np.void, size * _WIDTH))
            found: list[bytes] = np.frombuffer(self.data, joined, len(starts), int(starts[0]) * _WIDTH).tolist()
            return found
        data, places = self.data, zip((starts * _WIDTH).tolist(), (ends * _WIDTH).tolist(), strict=True)
        return [data[start:end] for start, end in places]

    def alike(self, keys: Sequence[bytes]) -> PackedKeys | None:
        """Return other keys packed as these are, None where they cannot be.

        Parameters
        ----------
        keys : sequence of bytes
            Keys.

        Returns
        -------
        PackedKeys or None
            The keys.
        """
        if isinstance(keys, PackedKeys):
            return keys if keys.tag == self.tag else None
        fits = all(len(key) == _WIDTH and key[:1] == self.tag for key in keys)
        return PackedKeys(b"".join(keys)) if fits else None

    def followed_by(self, more: PackedKeys) -> PackedKeys:
        """Return these keys with others of the kind behind them.

        Parameters
        ----------
        more : PackedKeys
            Keys of the same tag.

        Returns
        -------
        PackedKeys
            All of them.
        """
        return PackedKeys(self.data + more.data)

    def same_at(self, positions: npt.NDArray[np.intp], others: PackedKeys) -> _Flags:
        """Tell which keys, of those whose bits are equal, are equal themselves.

        Parameters
        ----------
        positions : ndarray of intp
            A position for each of the others.
        others : PackedKeys
            Keys of the same tag.

        Returns
        -------
        ndarray of bool
            All of them, as bits are all of a number.
        """
        return np.ones(len(positions), bool)


class PackedTexts(PackedKeys):
    """Keys of texts of less than 255 bytes, as one string.

    Parameters
    ----------
    data : bytes
        The keys, joined.
    starts : ndarray of int64
        Where each begins, and where the last ends.

    Examples
    --------
    >>> keys = packed_texts(["a", "bc", "d"])
    >>> keys, keys[1] == canonical_many(["bc"])[0], list(keys[1:]) == canonical_many(["bc", "d"])
    (PackedTexts(3 keys), True, True)
    """

    __slots__ = ("starts",)

    def __init__(self, data: bytes, starts: npt.NDArray[np.int64]) -> None:
        super().__init__(data)
        self.starts = starts

    def __repr__(self) -> str:
        """Return the number of keys."""
        return f"PackedTexts({len(self)} keys)"

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> PackedTexts: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one key, or some of them."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.taken(np.arange(start, stop, step))
            places = self.starts[start : max(start, stop) + 1]
            return PackedTexts(self.data[int(places[0]) : int(places[-1])], places - places[0])
        at = range(len(self))[index]
        return self.data[int(self.starts[at]) : int(self.starts[at + 1])]

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the keys."""
        for at in range(0, len(self), _MANY):
            yield from self._pieces(self.starts[at : at + _MANY + 1])

    def _pieces(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        data, bounds = self.data, places.tolist()
        return [data[start:end] for start, end in itertools.pairwise(bounds)]

    @cached_property
    def bits(self) -> npt.NDArray[np.uint64]:
        """Hashes of the keys; equal where keys are, and hardly elsewhere."""
        return np.concatenate(
            [self._hashed(at) for at in range(0, len(self), _BATCH)] or [np.zeros(0, np.uint64)]
        )

    def _hashed(self, at: int) -> npt.NDArray[np.uint64]:
        """Return the hashes of a batch of keys, word by word; the zeros at the end of short ones add nothing."""
        places = self.starts[at : at + _BATCH + 1]
        lengths = np.diff(places)
        padded = np.zeros((len(lengths), -(-int(lengths.max()) // 8) * 8), np.uint8)
        padded[np.arange(padded.shape[1]) < lengths[:, np.newaxis]] = np.frombuffer(
            self.data, np.uint8, int(places[-1] - places[0]), int(places[0])
        )
        found = np.zeros(len(lengths), np.uint64)
        for number, words in enumerate(padded.view("<u8").T):
            mixed = words * np.uint64(_ODD)
            mixed ^= mixed >> np.uint64(32)
            found += mixed * np.uint64((2 * number + 1) * _ODD & _ALL)
        return found

    def taken(self, positions: npt.NDArray[np.intp]) -> PackedTexts:
        """Return the keys at some positions.

        Parameters
        ----------
        positions : ndarray of intp
            The positions.

        Returns
        -------
        PackedTexts
            Their keys, in the order of `positions`.
        """
        starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[positions])])
        return PackedTexts(b"".join(self.spans(positions, positions + 1)), starts)

    def spans(self, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> list[bytes]:
        """Return stretches of keys, the keys of each joined.

        Parameters
        ----------
        starts, ends : ndarray of intp
            Position of the first key of each stretch, and one behind the last.

        Returns
        -------
        list of bytes
            One for each stretch.
        """
        data = self.data
        places = zip(self.starts[starts].tolist(), self.starts[ends].tolist(), strict=True)
        return [data[start:end] for start, end in places]

    def alike(self, keys: Sequence[bytes]) -> PackedTexts | None:
        """Return other keys packed as these are, None where they cannot be.

        Parameters
        ----------
        keys : sequence of bytes
            Keys.

        Returns
        -------
        PackedTexts or None
            The keys.
        """
        if isinstance(keys, PackedKeys):
            return keys if isinstance(keys, PackedTexts) else None
        if not all(key[:1] == b"s" and len(key) == 2 + key[1] for key in keys):
            return None
        starts = np.cumsum([0, *map(len, keys)])
        return PackedTexts(b"".join(keys), starts)

    def followed_by(self, more: PackedKeys) -> PackedTexts:
        """Return these keys with others of the kind behind them.

        Parameters
        ----------
        more : PackedTexts
            Keys of texts.

        Returns
        -------
        PackedTexts
            All of them.
        """
        assert isinstance(more, PackedTexts)
        starts = np.concatenate([self.starts, more.starts[1:] + self.starts[-1]])
        return PackedTexts(self.data + more.data, starts)

    def same_at(self, positions: npt.NDArray[np.intp], others: PackedKeys) -> _Flags:
        """Tell which keys are equal to others, where their hashes are.

        Parameters
        ----------
        positions : ndarray of intp
            A position for each of the others.
        others : PackedTexts
            Keys of texts.

        Returns
        -------
        ndarray of bool
            One for each of the others.
        """
        mine = map(self.__getitem__, positions.tolist())
        return np.fromiter(map(operator.eq, mine, others), bool, len(positions))


def packed_texts(values: Sequence[str]) -> PackedTexts | None:
    """Return the keys of texts, packed.

    Parameters
    ----------
    values : sequence of str
        The texts.

    Returns
    -------
    PackedTexts or None
        None where one is long, or has a lone surrogate.
    """
    pieces, lengths = [], [np.zeros(1, np.int64)]
    for at in range(0, len(values), _BATCH):  # so many bytes objects at a time
        keys = short_texts(values[at : at + _BATCH])
        if keys is None:
            return None
        pieces.append(b"".join(keys))
        lengths.append(np.fromiter(map(len, keys), np.int64, len(keys)))
    return PackedTexts(b"".join(pieces), np.cumsum(np.concatenate(lengths)))


def keys_of_values(values: Sequence[Any], name: str = "values") -> Sequence[bytes]:
    """Return the canonical bytes of values, packed where there are many, all ints, all floats or all short texts.

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
        kinds = {int} if isinstance(values, range) else set(map(type, values))
        joined = packed(values, *kinds) if len(kinds) == 1 else None
        if joined is not None:
            return PackedKeys(joined)
        texts = packed_texts(values) if kinds == {str} else None
        if texts is not None:
            return texts
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
        one = self._keys.alike([key])
        found = -1 if one is None else int(self.locate(one)[0])
        if found < 0:
            raise KeyError(key)
        return found

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
        if keys is self._keys or (isinstance(keys, PackedKeys) and keys.data == self._keys.data):
            return np.arange(len(keys))
        if not isinstance(keys, PackedKeys):
            alike = self._keys.alike(keys) if len(keys) else None
            if alike is None:
                return np.fromiter((self.get(key, -1) for key in keys), np.intp, len(keys))
            keys = alike
        if keys.tag != self._keys.tag:
            return np.full(len(keys), -1, np.intp)
        bits, order = self._sorted
        if self._hashes_met:
            return np.fromiter(map(self._exact.get, keys, itertools.repeat(-1)), np.intp, len(keys))
        wanted = keys.bits
        place = np.minimum(np.searchsorted(bits, wanted), len(bits) - 1)
        found = np.where(bits[place] == wanted, place if order is None else order[place], -1)
        there = np.flatnonzero(found >= 0)
        some = keys if len(there) == len(keys) else keys.taken(there)
        found[there[~self._keys.same_at(found[there], some)]] = -1
        return found

    @cached_property
    def _hashes_met(self) -> bool:
        """Whether different texts have the same hash."""
        return not _rises(self._sorted[0])

    @cached_property
    def _exact(self) -> dict[bytes, int]:
        return dict(zip(self._keys, range(len(self._keys)), strict=True))


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
        rest = keys.alike(more)
        if rest is not None:
            return keys.followed_by(rest)
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
        if isinstance(keys, PackedTexts):
            return first_positions(list(keys))
        return np.sort(np.unique(keys.bits, return_index=True)[1])
    if len(set(keys)) == len(keys):
        return None
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return np.sort(np.fromiter(first.values(), np.intp, len(first)))


def _rises(bits: npt.NDArray[np.uint64]) -> bool:
    return bool((bits[1:] > bits[:-1]).all())
