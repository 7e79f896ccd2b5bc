"""What is stored of a request, as the mapping that the document describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from chunk_memo.grid import ChunkKey, Grid
from chunk_memo.plan import FAILED, MISSING, PARTIAL, STORED, Plan
from chunk_memo.selection import Cell

__all__ = ["CacheStatus"]


_MOST_SHOWN = 1000
"""Lists of more chunks are not printed."""


class CacheStatus(Mapping[str, Any]):
    """What is stored of a request.

    The keys are ``cache_id``, ``params``, ``metadata``, ``axis_values``, ``axis_order``, ``total_chunks``,
    ``cached_chunks``, ``cached_chunk_indices``, ``missing_chunks`` and ``missing_chunk_indices``. Lists are made
    when they are looked at. A chunk of which only some of the points asked are stored is among the missing.

    Parameters
    ----------
    plan : Plan
        The plan of the request.
    head : mapping
        What is known without looking at chunks.
    grid : Grid
        The declared grid, which indices refer to.
    """

    _LISTS = ("cached_chunks", "cached_chunk_indices", "missing_chunks", "missing_chunk_indices")

    def __init__(self, plan: Plan, head: Mapping[str, Any], grid: Grid) -> None:
        self.plan = plan
        self._head = {**head, "total_chunks": plan.total_chunks}
        self._grid = grid
        self._made: dict[str, list[Any]] = {}

    def __getitem__(self, key: str) -> Any:
        """Return one entry."""
        if key not in self._LISTS:
            return self._head[key]
        if key not in self._made:
            states = (STORED,) if key.startswith("cached") else (MISSING, PARTIAL, FAILED)
            make = self._indices if key.endswith("indices") else self._key
            self._made[key] = [make(cell) for cell in self.plan.of_state(*states)]
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter((*self._head, *self._LISTS))

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._head) + len(self._LISTS)

    def __repr__(self) -> str:
        """Return what a dict of the same content would show, of long lists only the length, and no source."""
        shown = ", ".join(f"{key!r}: {self._shown(key)}" for key in self)
        return f"{{{shown}}}"

    def _shown(self, key: str) -> str:
        if key == "metadata":
            return repr(_readable(self[key]))
        states = (STORED,) if key.startswith("cached") else (MISSING, PARTIAL, FAILED)
        count = int(np.isin(self.plan.states, states).sum()) if key in self._LISTS else 0
        return repr(self[key]) if count <= _MOST_SHOWN else f"[… {count} chunks]"

    def chunk_keys(self) -> list[ChunkKey]:
        """Return the chunk keys of the request, stored or not, in grid order.

        Returns
        -------
        list of ChunkKey
            For each chunk touched the values asked of it.
        """
        return [self._key(cell) for cell in self.plan.cells]

    def _asked(self, cell: Cell) -> Iterator[tuple[str, list[int]]]:
        selection = self.plan.selection
        for name, axis in zip(selection.order, cell.axes, strict=True):
            yield name, [int(i) for i in np.sort(axis.source)]

    def _key(self, cell: Cell) -> ChunkKey:
        values = dict(zip(self.plan.selection.order, self.plan.selection.values, strict=True))
        return tuple((name, tuple(values[name][i] for i in asked)) for name, asked in self._asked(cell))

    def _indices(self, cell: Cell) -> dict[str, list[int]]:
        keys = dict(zip(self.plan.selection.order, self.plan.selection.keys, strict=True))
        return {
            name: [self._grid.axis(name).lookup[keys[name][i]] for i in asked]
            for name, asked in self._asked(cell)
        }


_UNREAD = frozenset({"source", "parts"})
"""What is kept of a function for the comparison with later code, and may be thousands of lines."""


def _readable(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata without what no person reads."""
    function = metadata.get("function")
    if not isinstance(function, Mapping):
        return metadata
    return {**metadata, "function": {name: value for name, value in function.items() if name not in _UNREAD}}
