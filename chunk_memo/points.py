"""One stored point by the shortest way: from axis values to its output, without a plan.

A call for one point of a warm cache takes about as long as opening its file and checking its checksum, if
nothing else is done per call: the bin of a value, the chunk of some bins, and what its file is like are
remembered. Making a selection, cells, runs, index arrays and a collector, as any other request does, costs ten
times as much.
Whatever is not the plain case (a value in several bins, a file of another form than the last one of its shape,
nothing there) is left to the reader of whole requests, by returning None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chunk_memo.chunks import ChunkStore
from chunk_memo.disk import files
from chunk_memo.disk.encoding import decode, decode_array
from chunk_memo.grid import Axis, AxisBins, Bins, Grid
from chunk_memo.identity import canonical_bytes
from chunk_memo.outputs import PointCoords, single_result
from chunk_memo.regions import Pattern, Patterns

__all__ = ["PointReader"]

_MOST_PLACES = 1 << 16
_MOST_CHUNKS = 4096


class _Place(NamedTuple):
    """Where a value lies, as long as its axis has so many bins."""

    bins: int
    number: int
    position: int


class _Known(NamedTuple):
    """A chunk that was asked for before."""

    path: str
    identity: bytes
    sizes: tuple[int, ...]
    patterns: list[Pattern]


class _Line(NamedTuple):
    """An axis, its bins, and the places of values that were asked for before, by type and value."""

    axis: Axis
    table: AxisBins
    places: dict[tuple[type, Any], _Place]


class PointReader:
    """Reads single points of one cache; what it learned is kept from call to call.

    Parameters
    ----------
    store : ChunkStore
        The cache's chunks.
    patterns : Patterns
        What is known of the cache's files.
    """

    def __init__(self, store: ChunkStore, patterns: Patterns) -> None:
        self.store = store
        self._patterns = patterns
        self._grid: Grid | None = None
        self._bins: Bins | None = None
        self._order: tuple[str, ...] = ()
        self._lines: tuple[_Line, ...] = ()
        self._chunks: dict[tuple[Any, ...], _Known] = {}

    def read(self, bins: Bins, grid: Grid, values: Sequence[Any]) -> tuple[Any, int] | None:
        """Return the output at one point.

        Parameters
        ----------
        bins : Bins
            The cache's bins.
        grid : Grid
            The declared grid.
        values : sequence
            The value on each axis: plain ints, floats, strings and the like.

        Returns
        -------
        tuple of object, int, or None
            What a run over this one point would return, and the bytes of the file read; None where it takes
            more than this.
        """
        if bins.boxes:
            return None
        if grid is not self._grid or bins is not self._bins:
            self._look_at(bins, grid)
        numbers, positions = [], []
        for line, value in zip(self._lines, values, strict=True):
            place = line.places.get((type(value), value))
            # Zeros are equal and yet two values; they are looked up each time.
            if place is None or place.bins != len(line.table) or not value:
                place = self._place(line, value)
                if place is None:
                    return None
            numbers.append(place.number)
            positions.append(place.position)
        path, identity, sizes, patterns = self._known(bins, tuple(numbers))
        for pattern in patterns:
            if pattern.kind == "frame":  # made whole by what collects outputs
                return None
            template = pattern.template
            data = files.read_start(path, template.needed, template.size)
            if data is not None and template.fits(data, identity):
                return _output(pattern, data, sizes, positions, self._order, values), template.size
        return None

    def _look_at(self, bins: Bins, grid: Grid) -> None:
        """Forget what was learned of another grid."""
        self._grid, self._bins, self._order, self._chunks = grid, bins, grid.order, {}
        self._lines = tuple(_Line(axis, bins.of(axis.name), {}) for axis in grid.axes)

    def _place(self, line: _Line, value: Any) -> _Place | None:
        axis, table, places = line
        key = canonical_bytes(value)
        found = table.positions(key) if key in axis.lookup else []
        if len(found) != 1:
            return None
        number = table.number_of(found[0])
        if len(places) >= _MOST_PLACES:
            places.clear()
        place = _Place(len(table), number, found[0] - int(table.starts[number]))
        places[type(value), value] = place
        return place

    def _known(self, bins: Bins, numbers: tuple[int, ...]) -> _Known:
        key = (self.store.spread, numbers)
        known = self._chunks.get(key)
        if known is None:
            ref = self.store.ref(self._order, numbers, bins)
            patterns = self._patterns.of((self._order, ref.sizes))
            if len(self._chunks) >= _MOST_CHUNKS:
                self._chunks.clear()
            known = _Known(self.store.paths(ref)[0], ref.identity, ref.sizes, patterns)
            self._chunks[key] = known
        return known


def _output(
    pattern: Pattern,
    data: bytes,
    sizes: Sequence[int],
    positions: Sequence[int],
    order: tuple[str, ...],
    values: Sequence[Any],
) -> Any:
    """Return the output at one place of a chunk, as a run over that point alone would."""
    turn = pattern.turn
    if turn is not None:  # the file's axes in another order
        axes = sorted(range(len(turn)), key=turn.__getitem__)
        sizes, positions = [sizes[a] for a in axes], [positions[a] for a in axes]
    row = 0
    for size, position in zip(sizes, positions, strict=True):
        row = row * size + position
    if pattern.single is not None:
        dtype, shape, offset, step = pattern.single
        return np.ndarray(shape, dtype, data, offset + row * step).copy()
    outputs = {}
    for name, form, tree, sources in pattern.rows:
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for label, dtype, trailing, count, offset in sources:
            one = np.frombuffer(data, dtype, count, offset + row * count * dtype.itemsize)
            arrays[label] = one.reshape(1, *trailing) if trailing else one
        coords = PointCoords(order, [[value] for value in values])
        array = form == "array"
        outputs[name] = decode_array(tree, arrays) if array else decode(tree, arrays, 1, coords=coords)
    return single_result(pattern.kind, outputs, len(order))
