"""Axes and bins: how axis values become chunks; pure arithmetic, no files.

An *axis* has a name and unique values. A *bin* is an ordered group of values of one axis; a *chunk* is the
product of one bin per axis. :class:`AxisBins` keeps the bins of one axis as flat arrays (values, keys,
starts), because a grid may have a million of them and an object for each would cost more than the results:
added one by one a million bins took 2.5 s and 230 MB, added at once they take 0.15 s and 50 MB.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest

from chunk_memo.errors import SpecError, UnknownAxisError, UnknownValueError
from chunk_memo.identity import (
    canonical_bytes,
    canonical_many,
    digest_of_bytes,
    normalize,
    second_digest,
)
from chunk_memo.keys import PackedKeys, first_positions, index_of, joined, keys_of_values, locate, take

__all__ = [
    "Axis",
    "AxisBins",
    "Bins",
    "ChunkKey",
    "Grid",
    "IntArray",
    "chunk_sizes",
    "enumerate_boxes",
    "in_stable_order",
    "make_axis",
    "sequence_of_values",
]

ChunkKey = tuple[tuple[str, tuple[Any, ...]], ...]
"""One chunk as the document writes it: ``(("strat", ("a",)), ("s", (1, 2, 3)))``."""

IntArray = npt.NDArray[np.intp]
"""An array of positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of a grid: a name and its unique values in order.

    Examples
    --------
    >>> axis = make_axis("s", [1, 2, 2, 3])
    >>> axis
    Axis('s', 3 values)
    >>> axis.values
    (1, 2, 3)
    """

    name: str
    """The axis's name, which is also the name of the function's argument."""
    values: tuple[Any, ...]
    """The values, without duplicates, in their declared order."""
    keys: Sequence[bytes]
    """Canonical bytes of each value."""
    lookup: Mapping[bytes, int] = field(repr=False)
    """Position of each key."""

    def __repr__(self) -> str:
        """Return the name and the number of values."""
        return f"Axis({self.name!r}, {len(self.values)} values)"

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def extended(self, values: Sequence[Any], keys: Sequence[bytes]) -> Axis:
        """Return this axis with those of `values` appended that it does not have.

        Parameters
        ----------
        values : sequence
            Values in the order in which they shall be appended.
        keys : sequence of bytes
            Their canonical bytes.

        Returns
        -------
        Axis
            A new axis, or this one where there is nothing to append.
        """
        fresh = {key: value for key, value in zip(keys, values, strict=True) if key not in self.lookup}
        if not fresh:
            return self
        united = joined(self.keys, tuple(fresh))
        return Axis(self.name, (*self.values, *fresh.values()), united, index_of(united))


def make_axis(name: Any, values: Any) -> Axis:
    """Return an axis from what a user gives as its values.

    Parameters
    ----------
    name : str
        The axis's name.
    values : iterable
        Lists, tuples, ranges and arrays keep their order; other iterables are sorted (by value where they
        can be compared, else by canonical bytes). Duplicates collapse.

    Returns
    -------
    Axis
        The axis.

    Raises
    ------
    SpecError
        Where `values` is a callable, a string, not an iterable, or empty.
    IdentityError
        Where a value has no sound identity.

    Examples
    --------
    >>> make_axis("s", {3, 1, 2}).values
    (1, 2, 3)
    """
    if not isinstance(name, str) or not name:
        raise SpecError(f"axis names are non-empty strings, got {name!r}; rename the axis")
    items, ordered = _materialize(name, values)
    if not ordered:
        items = in_stable_order(items)
    if not items:
        raise SpecError(f"axis {name!r} has no values; give it at least one, or leave the axis out")
    keys = keys_of_values(items, name)
    first = first_positions(keys)
    if first is not None:
        items = [items[i] for i in first.tolist()]
        keys = keys_of_values(items, name)
    if not isinstance(keys, PackedKeys):
        keys = tuple(keys)
    return Axis(name, tuple(items), keys, index_of(keys))


def _materialize(name: str, values: Any) -> tuple[list[Any], bool]:
    """Return the values as a list, and whether their order is the user's."""
    if callable(values):
        raise SpecError(
            f"axis {name!r} must be a list, tuple, range, array or other iterable of values, got the callable"
            f" {values!r}; call it first"
        )
    sequence = sequence_of_values(values)
    if sequence is not None:
        return sequence, True
    if isinstance(values, str | bytes | bytearray) or not isinstance(values, Iterable) or _is_0d(values):
        raise SpecError(
            f"axis {name!r} must be an iterable of values, got {values!r}; write [{values!r}] for one value"
        )
    return [normalize(value) for value in values], False


def _is_0d(values: Any) -> bool:
    return getattr(values, "ndim", None) == 0


def sequence_of_values(values: Any) -> list[Any] | None:
    """Return the values of a list, tuple, range or array in order, None for anything else.

    Parameters
    ----------
    values : object
        What a user gave as values of an axis.

    Returns
    -------
    list or None
        The values, NumPy scalars with a Python counterpart as that.

    Raises
    ------
    SpecError
        Where there are more than memory holds.

    Examples
    --------
    >>> sequence_of_values(np.arange(3))
    [0, 1, 2]
    >>> sequence_of_values("abc") is None
    True
    """
    if isinstance(values, range | np.ndarray) and _count(values) > _MOST_VALUES:
        raise SpecError(
            f"an axis has its values in memory, {_MOST_VALUES:,} at most, got {values!r}; give those that are"
            f" wanted, or draw points by sample(), which needs no list of them"
        )
    if isinstance(values, range):
        return list(values)
    if isinstance(values, list | tuple):
        return [normalize(value) for value in values] if _has_numpy(values) else list(values)
    if hasattr(values, "__array__") and not isinstance(values, np.generic):
        array = np.asarray(values)
        if array.ndim == 0:
            return None
        if array.ndim == 1 and array.dtype in _PYTHON_DTYPES:
            return list(array.tolist())
        return [normalize(value) for value in array]
    return None


def _count(values: range | npt.NDArray[Any]) -> int:
    if isinstance(values, range):
        return (values.stop - values.start) // values.step  # no len() of a range beyond 2**63
    return values.size


def _has_numpy(values: Sequence[Any]) -> bool:
    return any(issubclass(kind, np.generic) for kind in set(map(type, values)))


_MOST_VALUES = 100_000_000
"""Values of an axis: so many take some twenty gigabytes."""

_PYTHON_DTYPES = (np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_))


def in_stable_order(items: Sequence[Any]) -> list[Any]:
    """Return values that came without an order in one that is the same in every process.

    Parameters
    ----------
    items : sequence
        The values.

    Returns
    -------
    list
        Sorted by value where all are numbers or of one type of text, NaN last; else by canonical bytes.

    Examples
    --------
    >>> in_stable_order([2, 10, 1.5])
    [1.5, 2, 10]
    """
    kinds = {type(item) for item in items}
    if kinds <= {int, float} or kinds in ({str}, {bytes}):
        return sorted(items, key=lambda item: (item != item, item, canonical_bytes(item)))
    return sorted(items, key=canonical_bytes)


def chunk_sizes(
    chunk_spec: Mapping[str, Any] | None, axis_values: Mapping[str, Any], axes: Sequence[Axis]
) -> dict[str, int]:
    """Return the chunk size of every axis.

    Parameters
    ----------
    chunk_spec : mapping or None
        Axis name to size: an int, or a dict with the key ``"size"``.
    axis_values : mapping
        The axis values as the user gave them; their type decides the default: the full length for list,
        tuple, range and array, 1 for other iterables.
    axes : sequence of Axis
        The axes.

    Returns
    -------
    dict of str to int
        The size for each axis, at least 1.

    Raises
    ------
    UnknownAxisError
        Where `chunk_spec` names an axis that is not there.
    SpecError
        Where a size is not an integer of at least 1.
    """
    if chunk_spec is not None and not isinstance(chunk_spec, Mapping):
        raise SpecError(f"chunk_spec must map axis names to sizes, got {chunk_spec!r}")
    spec = dict(chunk_spec or {})
    names = [axis.name for axis in axes]
    for name in spec:
        if name not in names:
            raise UnknownAxisError(f"chunk_spec names the axis {name!r}; the axes are {names}")
    sizes = {}
    for axis in axes:
        if axis.name in spec:
            sizes[axis.name] = _size(axis.name, spec[axis.name])
        else:
            whole = sequence_of_values(axis_values.get(axis.name)) is not None
            sizes[axis.name] = len(axis) if whole else 1
    return sizes


def _size(name: str, given: Any) -> int:
    size: Any = given.get("size") if isinstance(given, Mapping) else given
    try:
        number = None if isinstance(size, bool) else operator.index(size)
    except TypeError:
        number = None
    if number is None or number < 1:
        raise SpecError(
            f"the chunk size of axis {name!r} must be an integer of at least 1, got {given!r};"
            f" leave the axis out of chunk_spec for its default"
        )
    return number


@dataclass(frozen=True, slots=True)
class Grid:
    """Declared axes in axis order, with their chunk sizes.

    Examples
    --------
    >>> grid = Grid((make_axis("strat", ["a", "b"]), make_axis("s", [1, 2, 3])), {"strat": 1, "s": 2})
    >>> grid.shape, grid.points
    ((2, 3), 6)
    """

    axes: tuple[Axis, ...]
    """The axes, in the order in which outputs run over them."""
    sizes: Mapping[str, int]
    """Chunk size for each axis, in values."""

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the axes in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def points(self) -> int:
        """Number of points: the product of the shape, 1 without axes."""
        count = 1
        for axis in self.axes:
            count *= len(axis)
        return count

    def axis(self, name: str) -> Axis:
        """Return the axis of that name.

        Parameters
        ----------
        name : str
            The axis's name.

        Returns
        -------
        Axis
            The axis.

        Raises
        ------
        UnknownAxisError
            Where the grid has no such axis.
        """
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise UnknownAxisError(f"there is no axis {name!r}; the axes are {list(self.order)}")


class _Rows(NamedTuple):
    """Values and keys of all bins of an axis; replaced as a whole, so that other threads see it whole."""

    head: Sequence[bytes]
    """Packed keys; never changed in place."""
    head_values: Sequence[Any]
    """Their values; never changed in place."""
    tail: list[bytes]
    """The other keys."""
    tail_values: list[Any]
    """Their values."""


class AxisBins:
    """The bins of one axis, as flat arrays; a value may lie in several bins.

    Positions count the values of all bins, one bin behind the other. The first of them, the head, came at once
    and have packed keys (:class:`~chunk_memo.keys.PackedKeys`); those behind, the tail, are lists. A bin lies in
    one of the two.

    Examples
    --------
    >>> bins = AxisBins()
    >>> bins.add([1, 2], canonical_many([1, 2]))
    0
    >>> bins.extend([3, 4, 5], canonical_many([3, 4, 5]), [1, 2])
    array([1, 2])
    >>> bins.values_of(2), len(bins)
    ([4, 5], 3)
    """

    kept: tuple[Any, int, Any] | None = None
    """What was worked out for the last request: its keys, the number of bins then, and the result."""

    def __init__(self) -> None:
        self._rows = _Rows((), (), [], [])
        self._starts: array[int] = array("q", [0])
        self.regular = bytearray()
        self._irregular = 0
        self._in_head: Mapping[bytes, int] = {}
        self._in_tail: dict[bytes, int] = {}
        self._more: dict[bytes, list[int]] = {}
        self._digests: dict[int, tuple[bytes, bytes]] = {}
        self._first_digests = (np.zeros((0, 16), np.uint8), np.zeros(0, bool))
        self._starts_array: IntArray = np.zeros(1, np.intp)

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.regular)

    def __contains__(self, key: object) -> bool:
        """Tell whether a value of that key lies in a bin."""
        return key in self._in_tail or key in self._in_head

    @property
    def starts(self) -> IntArray:
        """Position of the first value of each bin, and one behind the last of all."""
        if len(self._starts_array) != len(self._starts):
            self._starts_array = np.array(self._starts, np.intp)  # a view would keep others from adding bins
        return self._starts_array

    @property
    def values(self) -> list[Any]:
        """The values of all bins."""
        return [*self._rows.head_values, *self._rows.tail_values]

    @property
    def keys(self) -> Sequence[bytes]:
        """Canonical bytes of the values of all bins."""
        return joined(self._rows.head, self._rows.tail)

    def add(self, values: Sequence[Any], keys: Sequence[bytes], *, regular: bool = True) -> int:
        """Add a bin, unless an equal one is there, and return its number.

        Parameters
        ----------
        values : sequence
            The bin's values in order.
        keys : sequence of bytes
            Their canonical bytes.
        regular : bool, default True
            False for a bin that only chunks named one by one (``chunk_enumerator``) may use.

        Returns
        -------
        int
            The bin's number.
        """
        there = self.find(keys)
        if there is not None:
            if regular and not self.regular[there]:
                self.regular[there] = True
                self._irregular -= 1
            return there
        position = self._starts[-1]
        self._append(values, keys, [len(keys)], regular=regular)
        for key in keys:  # last, so that another thread never finds a key whose bin is not there yet
            if key in self:
                self._more.setdefault(key, []).append(position)
            else:
                self._in_tail[key] = position
            position += 1
        return len(self) - 1

    def extend(
        self,
        values: Sequence[Any],
        keys: Sequence[bytes],
        sizes: Sequence[int] | IntArray,
        *,
        regular: bool = True,
    ) -> IntArray:
        """Add many bins, unless equal ones are there, and return their numbers.

        Parameters
        ----------
        values : sequence
            The values of all these bins, one bin behind the other.
        keys : sequence of bytes
            Their canonical bytes.
        sizes : sequence of int
            The number of values in each bin.
        regular : bool, default True
            As in :meth:`add`.

        Returns
        -------
        ndarray of intp
            The number of each bin.
        """
        if bool((self.locate(keys) >= 0).any()) or first_positions(keys) is not None:
            ends = np.cumsum(sizes).tolist()
            spans = zip([0, *ends], ends, strict=False)
            added = [self.add(values[a:b], list(keys[a:b]), regular=regular) for a, b in spans]
            return np.asarray(added, np.intp)
        self._fold_tail(keys)
        position, count = self._starts[-1], len(self)
        head = self._rows.head
        if isinstance(keys, PackedKeys) and not self._rows.tail and _can_join(head, keys):
            head_values = [*self._rows.head_values, *values] if head else values
            self._rows = _Rows(joined(head, keys), head_values, [], [])
            self._append((), (), sizes, regular=regular)
            self._in_head = index_of(self._rows.head)
        else:
            self._append(values, keys, sizes, regular=regular)
            self._in_tail.update(zip(keys, range(position, position + len(keys)), strict=True))
        return np.arange(count, len(self))

    def _append(
        self, values: Sequence[Any], keys: Sequence[bytes], sizes: Sequence[int] | IntArray, *, regular: bool
    ) -> None:
        start = self._starts[-1]
        self._rows.tail_values.extend(values)
        self._rows.tail.extend(keys)
        self._starts.frombytes((start + np.cumsum(sizes, dtype=np.int64)).tobytes())
        self._irregular += 0 if regular else len(sizes)
        self.regular.extend(bytes([regular]) * len(sizes))

    def _fold_tail(self, keys: Sequence[bytes]) -> None:
        """Pack the keys that were added one by one, so that a long row can be packed behind them."""
        if not isinstance(keys, PackedKeys) or not self._rows.tail or self._more:
            return
        tail = keys.alike(self._rows.tail)
        head = None if tail is None else joined(self._rows.head, tail)
        if isinstance(head, PackedKeys):
            self._rows = _Rows(head, self.values, [], [])
            self._in_head = index_of(head)
            self._in_tail = {}  # after the other, so that each key is always found

    def find(self, keys: Sequence[bytes]) -> int | None:
        """Return the number of the bin with exactly these values in this order.

        Parameters
        ----------
        keys : sequence of bytes
            Canonical bytes of the values.

        Returns
        -------
        int or None
            The bin's number; None where there is no such bin.
        """
        for position in self.positions(keys[0]):
            number = self.number_of(position)
            if self._starts[number] == position and self.keys_of(number) == list(keys):
                return number
        return None

    def unbound(self, axis: Axis, start: int = 0) -> IntArray:
        """Return the positions of those values of an axis that lie in no bin that any chunk may use.

        Parameters
        ----------
        axis : Axis
            A declared axis.
        start : int, default 0
            Only positions from here on are looked at.

        Returns
        -------
        ndarray of intp
            Positions in the axis, ascending.
        """
        keys = axis.keys[start:] if start else axis.keys
        loose = self.locate(keys) < 0
        if self._irregular:
            for place in np.flatnonzero(~loose).tolist():
                numbers = self.numbers_of(np.asarray(self.positions(keys[place]), np.intp))
                loose[place] = not any(self.regular[number] for number in numbers.tolist())
        return np.flatnonzero(loose) + start

    def copied(self) -> AxisBins:
        """Return a table with the same bins, to which others can be added.

        Returns
        -------
        AxisBins
            The copy.
        """
        twin = AxisBins()
        twin._starts, twin.regular = self._starts[:], self.regular[:]
        twin._irregular = self._irregular
        head, head_values, tail, tail_values = self._rows
        twin._rows = _Rows(head, head_values, tail[:], tail_values[:])
        twin._in_tail, twin._in_head = dict(self._in_tail), self._in_head
        twin._more = {key: list(positions) for key, positions in self._more.items()}
        twin._digests = dict(self._digests)
        twin._first_digests = self._first_digests  # of the same bins; longer arrays are new ones
        return twin

    def positions(self, key: bytes) -> list[int]:
        """Return the flat positions at which a key stands, one per bin that holds it.

        Parameters
        ----------
        key : bytes
            Canonical bytes of a value.

        Returns
        -------
        list of int
            Positions in ``values`` and ``keys``; empty where no bin holds it.
        """
        first = self._in_tail.get(key)
        if first is None:
            first = self._in_head.get(key)
        if first is None:
            return []
        return [first, *self._more.get(key, ())] if self._more else [first]

    def locate(self, keys: Sequence[bytes]) -> IntArray:
        """Return the first flat position of each key, -1 where no bin holds it.

        Parameters
        ----------
        keys : sequence of bytes
            Canonical bytes of values.

        Returns
        -------
        ndarray of intp, shape (len(keys),)
            Flat positions.
        """
        in_tail, in_head = self._in_tail, self._in_head
        if not in_head:
            return locate(in_tail, keys)
        found = locate(in_head, keys)
        lacking = np.flatnonzero(found < 0) if in_tail else ()
        if len(lacking):
            found[lacking] = locate(in_tail, take(keys, lacking))
        return found

    @property
    def overlapping(self) -> bool:
        """Whether some value lies in more than one bin."""
        return bool(self._more)

    @property
    def shared(self) -> Container[bytes]:
        """The keys of values that lie in more than one bin."""
        return self._more

    def number_of(self, position: int) -> int:
        """Return the number of the bin that a flat position lies in.

        Parameters
        ----------
        position : int
            A flat position.

        Returns
        -------
        int
            The bin's number.
        """
        return int(self.numbers_of(np.asarray([position], np.intp))[0])

    def numbers_of(self, positions: IntArray) -> IntArray:
        """Return the numbers of the bins that flat positions lie in.

        Parameters
        ----------
        positions : ndarray of intp
            Flat positions.

        Returns
        -------
        ndarray of intp
            Bin numbers, of the same shape.
        """
        if positions.size <= 8:  # an array of a growing list would cost more than it saves
            return np.asarray([bisect_right(self._starts, p) - 1 for p in positions.tolist()], np.intp)
        return np.searchsorted(self.starts, positions, side="right") - 1

    def size(self, number: int) -> int:
        """Return the number of values in a bin.

        Parameters
        ----------
        number : int
            The bin's number.

        Returns
        -------
        int
            Its size.
        """
        return self._starts[number + 1] - self._starts[number]

    def values_of(self, number: int) -> list[Any]:
        """Return the values of a bin.

        Parameters
        ----------
        number : int
            The bin's number.

        Returns
        -------
        list
            Its values in order.
        """
        head, head_values, _, tail_values = self._rows
        start, end, packed = self._starts[number], self._starts[number + 1], len(head)
        return list(head_values[start:end]) if start < packed else tail_values[start - packed : end - packed]

    def keys_of(self, number: int) -> list[bytes]:
        """Return the canonical bytes of a bin's values.

        Parameters
        ----------
        number : int
            The bin's number.

        Returns
        -------
        list of bytes
            The keys in order.
        """
        head, _, tail, _ = self._rows
        start, end, packed = self._starts[number], self._starts[number + 1], len(head)
        return list(head[start:end]) if start < packed else tail[start - packed : end - packed]

    def digests(self, number: int) -> tuple[bytes, bytes]:
        """Return two independent digests of a bin's canonical bytes, 16 bytes each.

        Parameters
        ----------
        number : int
            The bin's number.

        Returns
        -------
        tuple of bytes, bytes
            The xxh3-128, which names chunks, and the blake2b, which tells a collision from a match.
        """
        found = self._digests.get(number)
        if found is None:
            data = b"".join(self.keys_of(number))
            found = self._digests[number] = (digest_of_bytes(data), second_digest(data))
        return found

    def first_digests(self, numbers: IntArray) -> npt.NDArray[np.uint8]:
        """Return the first of the :meth:`digests` of many bins.

        Parameters
        ----------
        numbers : ndarray of intp
            The bins' numbers.

        Returns
        -------
        ndarray of uint8, shape (len(numbers), 16)
            One digest in each row.
        """
        rows, known = self._first_digests
        if len(rows) < len(self):
            lacking = len(self) - len(rows)
            rows = np.concatenate([rows, np.zeros((lacking, 16), np.uint8)])
            known = np.concatenate([known, np.zeros(lacking, bool)])
            self._first_digests = (rows, known)
        fresh = numbers[~known[numbers]]
        for at in range(0, len(fresh), _BATCH):
            batch = fresh[at : at + _BATCH]
            digests = b"".join(map(xxh3_128_digest, self._joined_keys(batch)))
            rows[batch] = np.frombuffer(digests, np.uint8).reshape(-1, 16)
            known[batch] = True
        return rows[numbers]

    def _joined_keys(self, numbers: IntArray) -> list[bytes]:
        """Return the joined keys of bins; slices of one string where they are packed."""
        starts, head = self.starts, self._rows.head
        if not isinstance(head, PackedKeys) or bool((starts[numbers] >= len(head)).any()):
            return [b"".join(self.keys_of(number)) for number in numbers.tolist()]
        return head.spans(starts[numbers], starts[numbers + 1])


_BATCH = 1 << 13
"""So many digests at a time are Python objects."""


def _can_join(head: Sequence[bytes], keys: PackedKeys) -> bool:
    return not head or (isinstance(head, PackedKeys) and head.tag == keys.tag)


@dataclass(slots=True)
class Bins:
    """The bins of every axis, and the chunks that were named one by one."""

    axes: dict[str, AxisBins] = field(default_factory=dict)
    """Bins for each axis."""
    boxes: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)
    """Chunks named one by one: (axis, bin number) pairs sorted by axis, with their rank."""

    def of(self, axis: str) -> AxisBins:
        """Return the bins of an axis, an empty table for a new one.

        Parameters
        ----------
        axis : str
            The axis's name.

        Returns
        -------
        AxisBins
            Its bins.
        """
        found = self.axes.get(axis)
        return found if found is not None else self.axes.setdefault(axis, AxisBins())

    def copied(self) -> Bins:
        """Return the same bins, to which others can be added.

        Returns
        -------
        Bins
            The copy.
        """
        return Bins({name: table.copied() for name, table in self.axes.items()}, dict(self.boxes))

    def unbinned(self, grid: Grid, known: Grid | None = None) -> dict[str, IntArray]:
        """Return the positions of those declared values that have no bin that all chunks may use.

        Parameters
        ----------
        grid : Grid
            The declared grid.
        known : Grid, optional
            An earlier state of it, of which `grid` is an extension, and whose values all have bins.

        Returns
        -------
        dict of str to ndarray of intp
            For each axis that needs bins, positions in declared order, whichever values were asked for, so that
            processes that never met make the same bins of them.
        """
        loose = {}
        for axis in grid.axes:
            start = len(known.axis(axis.name)) if known is not None else 0
            positions = self.of(axis.name).unbound(axis, start)
            if len(positions):
                loose[axis.name] = positions
        return loose


def enumerate_boxes(
    enumerator: Callable[[dict[str, Any]], Sequence[ChunkKey]], grid: Grid
) -> list[dict[str, list[int]]]:
    """Call a ``chunk_enumerator`` and check what it returns.

    Parameters
    ----------
    enumerator : callable
        Called with the axis values (a dict of lists); returns chunk keys.
    grid : Grid
        The declared grid.

    Returns
    -------
    list of dict of str to list of int
        For each chunk the positions of its values in their axes.

    Raises
    ------
    SpecError
        Where a chunk lacks an axis, is empty, or overlaps another.
    UnknownAxisError, UnknownValueError
        Where a chunk names an axis or value that the grid does not have.
    """
    values = {axis.name: list(axis.values) for axis in grid.axes}
    boxes = [_box(key, grid) for key in enumerator(values)]
    seen = np.zeros(grid.shape, np.uint8)
    for box in boxes:
        where = np.ix_(*(box[name] for name in grid.order))
        if seen[where].any():
            point = tuple(int(i) for i in np.argwhere(seen & _mask(grid.shape, where))[0])
            at = {axis.name: axis.values[i] for axis, i in zip(grid.axes, point, strict=True)}
            raise SpecError(f"chunk_enumerator returned chunks that overlap at {at}; chunks must be disjoint")
        seen[where] = 1
    return boxes


def _mask(shape: tuple[int, ...], where: tuple[IntArray, ...]) -> npt.NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[where] = 1
    return mask


def _box(key: ChunkKey, grid: Grid) -> dict[str, list[int]]:
    try:
        parts = {name: list(values) for name, values in key}
    except (TypeError, ValueError):
        parts = {}
    if set(parts) != set(grid.order) or any(not values for values in parts.values()):
        raise SpecError(
            f"chunk_enumerator must return chunk keys, (axis, values) pairs with values for each of"
            f" {list(grid.order)}, got {key!r}"
        )
    box = {}
    for axis in grid.axes:
        keys = canonical_many([normalize(value) for value in parts[axis.name]])
        for value_key, value in zip(keys, parts[axis.name], strict=True):
            if value_key not in axis.lookup:
                raise UnknownValueError(
                    f"chunk_enumerator returned {value!r} for axis {axis.name!r}, which has no such value"
                )
        box[axis.name] = [axis.lookup[value_key] for value_key in dict.fromkeys(keys)]
    return box
