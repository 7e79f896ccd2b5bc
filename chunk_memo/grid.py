"""Axes and bins: how axis values become chunks; pure arithmetic, no files.

An *axis* has a name and unique values. A *bin* is an ordered group of values of one axis; a *chunk* is the
product of one bin per axis. :class:`AxisBins` keeps the bins of one axis as flat arrays (values, keys,
starts), because a grid may have a million of them and an object for each would cost more than the results.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.errors import SpecError, UnknownAxisError, UnknownValueError
from chunk_memo.identity import (
    canonical_bytes,
    canonical_many,
    digest_of_bytes,
    normalize,
    second_digest,
)

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
    keys: tuple[bytes, ...]
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
        return _axis_from(self.name, (*self.values, *fresh.values()), (*self.keys, *fresh), dict(self.lookup))


def _axis_from(name: str, values: tuple[Any, ...], keys: tuple[bytes, ...], lookup: dict[bytes, int]) -> Axis:
    for position in range(len(lookup), len(keys)):
        lookup[keys[position]] = position
    return Axis(name, values, keys, lookup)


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
    keys = canonical_many(items, name)
    unique = dict(zip(reversed(keys), reversed(items), strict=True)) if items else {}
    if not unique:
        raise SpecError(f"axis {name!r} has no values; give it at least one, or leave the axis out")
    if len(unique) < len(keys):
        keys = list(dict.fromkeys(keys))
        items = [unique[key] for key in keys]
    return _axis_from(name, tuple(items), tuple(keys), {})


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

    Examples
    --------
    >>> sequence_of_values(np.arange(3))
    [0, 1, 2]
    >>> sequence_of_values("abc") is None
    True
    """
    if isinstance(values, list | tuple | range):
        return [normalize(value) for value in values]
    if hasattr(values, "__array__") and not isinstance(values, np.generic):
        array = np.asarray(values)
        if array.ndim == 0:
            return None
        if array.ndim == 1 and array.dtype in _PYTHON_DTYPES:
            return list(array.tolist())
        return [normalize(value) for value in array]
    return None


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


class AxisBins:
    """The bins of one axis, as flat lists; a value may lie in several bins.

    Examples
    --------
    >>> bins = AxisBins()
    >>> bins.add([1, 2], canonical_many([1, 2]))
    0
    >>> bins.add([3], canonical_many([3]))
    1
    >>> bins.values_of(0), len(bins)
    ([1, 2], 2)
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.keys: list[bytes] = []
        self.starts: list[int] = [0]
        self.regular: list[bool] = []
        self._bound: set[bytes] = set()
        self._first: dict[bytes, int] = {}
        self._more: dict[bytes, list[int]] = {}
        self._digests: dict[int, tuple[bytes, bytes]] = {}
        self._starts_array: IntArray = np.zeros(1, np.intp)

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.regular)

    def __contains__(self, key: object) -> bool:
        """Tell whether a value of that key lies in a bin."""
        return key in self._first

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
        if regular:
            self._bound.update(keys)
        there = self.find(keys)
        if there is not None:
            self.regular[there] = self.regular[there] or regular
            return there
        position = len(self.keys)
        self.values.extend(values)
        self.keys.extend(keys)
        self.starts.append(position + len(keys))
        self.regular.append(regular)
        for key in keys:  # last, so that another thread never finds a key whose bin is not there yet
            if key in self._first:
                self._more.setdefault(key, []).append(position)
            else:
                self._first[key] = position
            position += 1
        return len(self.regular) - 1

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
            if self.starts[number] == position and self.keys_of(number) == list(keys):
                return number
        return None

    def unbound(self, axis: Axis, start: int = 0) -> list[int]:
        """Return the positions of those values of an axis that lie in no bin that any chunk may use.

        Parameters
        ----------
        axis : Axis
            A declared axis.
        start : int, default 0
            Only positions from here on are looked at.

        Returns
        -------
        list of int
            Positions in the axis, ascending.
        """
        return [i for i in range(start, len(axis)) if axis.keys[i] not in self._bound]

    def copied(self) -> AxisBins:
        """Return a table with the same bins, to which others can be added.

        Returns
        -------
        AxisBins
            The copy.
        """
        twin = AxisBins()
        twin.values, twin.keys = list(self.values), list(self.keys)
        twin.starts, twin.regular = list(self.starts), list(self.regular)
        twin._bound = set(self._bound)
        twin._first = dict(self._first)
        twin._more = {key: list(positions) for key, positions in self._more.items()}
        twin._digests = dict(self._digests)
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
        first = self._first.get(key)
        if first is None:
            return []
        return [first, *self._more.get(key, ())]

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
        get = self._first.get
        return np.fromiter((get(key, -1) for key in keys), np.intp, len(keys))

    @property
    def overlapping(self) -> bool:
        """Whether some value lies in more than one bin."""
        return bool(self._more)

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
            return np.asarray([bisect_right(self.starts, p) - 1 for p in positions.tolist()], np.intp)
        if len(self._starts_array) != len(self.starts):
            self._starts_array = np.asarray(self.starts, np.intp)
        return np.searchsorted(self._starts_array, positions, side="right") - 1

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
        return self.starts[number + 1] - self.starts[number]

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
        return self.values[self.starts[number] : self.starts[number + 1]]

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
        return self.keys[self.starts[number] : self.starts[number + 1]]

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

    def unbinned(self, axis: Axis, start: int = 0) -> list[int]:
        """Return the positions of those declared values that have no bin that all chunks may use.

        Parameters
        ----------
        axis : Axis
            A declared axis.
        start : int, default 0
            Only positions from here on are looked at.

        Returns
        -------
        list of int
            Positions in the axis, in declared order.
        """
        return self.of(axis.name).unbound(axis, start)

    def missing_groups(self, grid: Grid, known: Grid | None = None) -> dict[str, list[list[int]]]:
        """Return the bins that declared values still need, as groups of positions in their axis.

        Values are grouped by the chunk size in declared order, whichever of them were asked for, so that
        processes that never met make the same bins.

        Parameters
        ----------
        grid : Grid
            The declared grid.
        known : Grid, optional
            An earlier state of it, of which `grid` is an extension, and whose values all have bins.

        Returns
        -------
        dict of str to list of list of int
            For each axis that needs bins, the groups.
        """
        groups = {}
        for axis in grid.axes:
            size = grid.sizes[axis.name]
            loose = self.unbinned(axis, len(known.axis(axis.name)) if known is not None else 0)
            if loose:
                groups[axis.name] = [loose[i : i + size] for i in range(0, len(loose), size)]
        return groups


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
