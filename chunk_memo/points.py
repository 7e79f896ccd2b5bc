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
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunk_memo.chunks import ChunkRef, ChunkStore
from chunk_memo.disk import files
from chunk_memo.disk.encoding import decode, decode_array
from chunk_memo.grid import Axis, AxisBins, Bins, Grid
from chunk_memo.identity import canonical_bytes
from chunk_memo.outputs import PointCoords, single_result
from chunk_memo.regions import Pattern, Patterns

__all__ = ["PointReader"]

_MOST_PLACES = 1 << 16
_MOST_CHUNKS = 4096


@dataclass(slots=True, eq=False)
class _Place:
    """Where a value lies, as long as its axis is this one and has so many bins."""

    axis: Axis
    bins: int
    number: int
    position: int


@dataclass(slots=True, eq=False)
class _Known:
    """A chunk that was asked for before."""

    ref: ChunkRef
    path: str


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
        self._store = store
        self._patterns = patterns
        self._places: dict[tuple[str, type, Any], _Place] = {}
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
        places = []
        for axis, value in zip(grid.axes, values, strict=True):
            place = self._place(bins.of(axis.name), axis, value)
            if place is None:
                return None
            places.append(place)
        order = grid.order
        known = self._known(bins, order, tuple([place.number for place in places]))
        for pattern in self._patterns.of((order, known.ref.sizes)):
            template = pattern.template
            data = files.read_start(known.path, template.needed, template.size)
            if data is not None and template.fits(data, known.ref.identity):
                positions = [place.position for place in places]
                return _output(pattern, data, known.ref.sizes, positions, order, values), template.size
        return None

    def _place(self, table: AxisBins, axis: Axis, value: Any) -> _Place | None:
        place = self._places.get((axis.name, type(value), value))
        # Zeros are equal and yet two values; they are looked up each time.
        if place is not None and place.axis is axis and place.bins == len(table) and value:
            return place
        key = canonical_bytes(value)
        positions = table.positions(key) if key in axis.lookup else []
        if len(positions) != 1:
            return None
        number = table.number_of(positions[0])
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        place = _Place(axis, len(table), number, positions[0] - int(table.starts[number]))
        self._places[axis.name, type(value), value] = place
        return place

    def _known(self, bins: Bins, order: tuple[str, ...], numbers: tuple[int, ...]) -> _Known:
        known = self._chunks.get((order, self._store.spread, *numbers))
        if known is None or known.ref.bins is not bins:
            ref = self._store.ref(order, numbers, bins)
            known = _Known(ref, self._store.paths(ref)[0])
            if len(self._chunks) >= _MOST_CHUNKS:
                self._chunks.clear()
            self._chunks[order, self._store.spread, *numbers] = known
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
