"""``run_parallel``: a function over a list of items, or over a whole cache, on a map of the user's choice.

Items are points in any order; they need not form a grid. They become one request over the values that they have
along each axis, of which only the points named are read or run; so they meet the same chunks as every other call.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from chunk_memo.cache import ChunkCache
from chunk_memo.engine import Diagnostics
from chunk_memo.errors import SpecError, UnknownAxisError
from chunk_memo.events import Observer
from chunk_memo.grid import ChunkKey, IntArray
from chunk_memo.identity import canonical_many
from chunk_memo.options import RunOptions, WorkOptions
from chunk_memo.outputs import Block, Collector
from chunk_memo.overrides import with_overrides
from chunk_memo.protocol import CacheProtocol, ProtocolCache, RunnerContext
from chunk_memo.runners import Running, run, run_streaming, verbs_of
from chunk_memo.selection import Cell, Selection

__all__ = ["PointOutputs", "PointRequest", "Points", "named_points", "run_parallel"]

_MOST_POINTS = 4_000_000
"""Items whose values would span a larger grid are done in several requests."""


def run_parallel(
    items: Iterable[Any] | ChunkCache | CacheProtocol,
    *,
    exec_fn: Callable[..., Any],
    cache: ChunkCache | CacheProtocol | None = None,
    map_fn: Any = "processes",
    map_fn_kwargs: Mapping[str, Any] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    flush_on_chunk: bool = False,
    return_output: bool = True,
    extend_cache: bool = False,
    write_metadata: Callable[[], Path] | None = None,
    chunk_hash: Callable[[ChunkKey], str] | None = None,
    resolve_cache_path: Callable[[ChunkKey, str], Path] | None = None,
    load_payload: Callable[[Path], dict[str, Any] | None] | None = None,
    write_chunk_payload: Callable[..., Path] | None = None,
    update_chunk_index: Callable[[str, ChunkKey], None] | None = None,
    load_chunk_index: Callable[[], dict[str, Any] | None] | None = None,
    build_item_maps_from_axis_values: Callable[..., Any] | None = None,
    build_item_maps_from_chunk_output: Callable[..., Any] | None = None,
    reconstruct_output_from_items: Callable[..., Any] | None = None,
    collect_chunk_data: Callable[..., Any] | None = None,
    item_hash: Callable[[ChunkKey, tuple[Any, ...]], str] | None = None,
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
    **options: Unpack[WorkOptions],
) -> tuple[Any, Diagnostics]:
    """Return the outputs of a function at the items given; run what is missing on a map.

    Parameters
    ----------
    items : iterable, ChunkCache or CacheProtocol
        Points: each a mapping of axis name to value, a tuple or list in axis order, or, where there is
        one axis, its value. Or a cache, for all that it covers.
    exec_fn : callable
        Called once per missing item with single values, as keywords named after the axes; for a whole
        cache, as in :func:`run`.
    cache : ChunkCache or CacheProtocol, optional
        The cache, where `items` is none.
    map_fn : object, default "processes"
        As in :class:`Options`; None and the default are a pool of processes.
    map_fn_kwargs : mapping, optional
        Keywords for `map_fn`.
    collate_fn : callable, optional
        Used in place of the cache's own; called with a list of lists, the outputs of items that stand
        next to each other and belong to one chunk.
    flush_on_chunk : bool, default False
        Accepted for the document's sake: every chunk is stored when it is done.
    return_output : bool, default True
        Whether outputs are gathered; else an empty list is returned, and memory stays small.
    extend_cache : bool, default False
        Whether values that the axes do not have yet are added to them.
    write_metadata, chunk_hash, resolve_cache_path, load_payload : callable, optional
        Used in place of the cache's methods of these names, as are the eight that follow. With any of them
        workers only compute, and this process stores.
    write_chunk_payload, update_chunk_index, load_chunk_index : callable, optional
        Likewise.
    build_item_maps_from_axis_values, build_item_maps_from_chunk_output : callable, optional
        Likewise.
    reconstruct_output_from_items, collect_chunk_data, item_hash : callable, optional
        Likewise.
    context : RunnerContext, optional
        Used for ``verbose``, ``profile`` and ``collate_fn`` in place of the cache.
    observers : iterable of Observer, optional
        Called with the events of the run.
    **options : object
        As in :func:`run`.

    Returns
    -------
    tuple of object, Diagnostics
        The outputs in the order of the items, and what was done.

    Raises
    ------
    SpecError
        Where an item has not the form of a point.
    UnknownValueError
        Where an item has a value that its axis does not have, and `extend_cache` is False.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", {}, {"s": 2}, {"s": [1, 2, 3]})
    >>> run_parallel([3, 1], exec_fn=lambda s: s * s, cache=cache, map_fn="threads")[0]
    [9, 1]
    """
    given = {name: value for name, value in locals().items() if name in _OVERRIDES and value is not None}
    whole, cache = _cache_of(items, cache)
    points_given: Any = items
    cache = with_overrides(cache, given) if given else cache
    how = RunOptions(map_fn="processes" if map_fn is None else map_fn, map_fn_kwargs=map_fn_kwargs, **options)
    if whole and return_output:
        return run(cache, exec_fn, collate_fn=collate_fn, context=context, observers=observers, **how)
    if whole:
        return [], run_streaming(cache, exec_fn, context=context, observers=observers, **how)
    order = verbs_of(cache).axis_order
    points = Points(list(named_points(points_given, order)), order)
    if extend_cache:
        _extend(cache, points)
    verbs = _of_single_values(verbs_of(cache), whole=extend_cache)
    running = Running(cache, verbs, exec_fn, context, observers, how)
    output = _run_items(running, verbs, points, collate_fn, return_output=return_output)
    return running.finished(output)


_OVERRIDES = frozenset(
    {
        "build_item_maps_from_axis_values",
        "build_item_maps_from_chunk_output",
        "chunk_hash",
        "collect_chunk_data",
        "item_hash",
        "load_chunk_index",
        "load_payload",
        "reconstruct_output_from_items",
        "resolve_cache_path",
        "update_chunk_index",
        "write_chunk_payload",
        "write_metadata",
    }
)


def _cache_of(items: Any, cache: Any) -> tuple[bool, Any]:
    """Tell whether a whole cache is meant, and which one."""
    whole = isinstance(items, ChunkCache) or (
        not isinstance(items, Sequence | Mapping) and isinstance(items, CacheProtocol)
    )
    if whole and cache is not None:
        raise SpecError("run_parallel was given two caches; pass items and cache=…, or a cache alone")
    if not whole and cache is None:
        raise SpecError("run_parallel needs cache=…; without items, pass the cache in their place")
    return whole, items if whole else cache


def _extend(cache: Any, points: Points) -> None:
    """Let the axes have the values of the items."""
    extend = getattr(cache, "extend_axis_values", None)
    if extend is None:
        raise SpecError(
            f"extend_cache=True needs a cache with the method extend_axis_values, and {type(cache).__name__!r}"
            f" has none; leave out items whose values the cache does not have"
        )
    extend(points.values())


def _of_single_values(verbs: ChunkCache | ProtocolCache, *, whole: bool) -> ChunkCache | ProtocolCache:
    """Return the same cache for a function that is called with single values; of a slice the whole if asked."""
    if not isinstance(verbs, ChunkCache):
        verbs.vectorize = True
        return verbs
    return verbs.for_points(whole=whole)


def named_points(items: Iterable[Any], order: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield each item's values in axis order.

    Parameters
    ----------
    items : iterable
        Points: each a mapping of axis name to value, a tuple or list in axis order, or that of the only axis.
    order : sequence of str
        Names of the axes.

    Yields
    ------
    tuple
        The value on each axis.

    Raises
    ------
    SpecError
        Where an item has not the form of a point.
    UnknownAxisError
        Where it names something that is no axis.
    """
    for item in items:
        if isinstance(item, Mapping):
            strange = [name for name in item if name not in order]
            if strange:
                raise UnknownAxisError(f"the item {item!r} names {strange[0]!r}; the axes are {list(order)}")
            lacking = [name for name in order if name not in item]
            if lacking:
                raise SpecError(f"the item {item!r} has no value for the axis {lacking[0]!r}; name every axis")
            yield tuple(item[name] for name in order)
        elif isinstance(item, tuple | list) and len(item) == len(order):
            yield tuple(item)
        elif len(order) == 1:
            yield (item,)
        else:
            raise SpecError(
                f"the item {item!r} is no point of the axes {list(order)}: pass a mapping of their names, or a"
                f" tuple of {len(order)} values in that order"
            )


class Points:
    """Items by their places along each axis.

    Parameters
    ----------
    items : sequence of tuple
        For each point its value on each axis.
    order : sequence of str
        Names of the axes.
    """

    def __init__(self, items: Sequence[tuple[Any, ...]], order: Sequence[str]) -> None:
        self.items = items
        self.order = tuple(order)
        self.keys = [canonical_many([item[axis] for item in items]) for axis in range(len(order))]

    def values(self) -> dict[str, list[Any]]:
        """Return the values that items have along each axis, once each, in the order of the items.

        Returns
        -------
        dict of str to list
            Axis name to values.
        """
        return {name: list(self._distinct(axis, range(len(self.items)))) for axis, name in enumerate(self.order)}

    def _distinct(self, axis: int, chosen: Iterable[int]) -> Iterator[Any]:
        seen = {self.keys[axis][number]: self.items[number][axis] for number in chosen}
        return iter(seen.values())

    def requests(self) -> Iterator[PointRequest]:
        """Cut the items into requests that span no grid too large.

        Yields
        ------
        PointRequest
            Some items, as a request over the values that they have.
        """
        pending = [np.arange(len(self.items))] if self.items else []
        while pending:
            chosen = pending.pop(0)
            request = self._request(chosen)
            if math.prod(request.shape) <= max(_MOST_POINTS, len(chosen)) or len(chosen) == 1:
                yield request
            else:
                pending[:0] = np.array_split(chosen, 2)

    def _request(self, chosen: IntArray) -> PointRequest:
        numbers = chosen.tolist()
        asked, along = {}, []
        for axis, name in enumerate(self.order):
            asked[name] = list(self._distinct(axis, numbers))
            place = {key: at for at, key in enumerate(dict.fromkeys(self.keys[axis][n] for n in numbers))}
            along.append(np.array([place[self.keys[axis][n]] for n in numbers], np.intp))
        shape = tuple(len(values) for values in asked.values())
        flat = np.ravel_multi_index(along, shape) if shape else np.zeros(len(numbers), np.intp)
        return PointRequest(chosen, asked, shape, flat)


@dataclass(frozen=True, slots=True, eq=False)
class PointRequest:
    """Some items as a request over the values that they have."""

    numbers: IntArray
    """The items, by number."""
    asked: dict[str, list[Any]]
    """Axis name to distinct values."""
    shape: tuple[int, ...]
    """Number of values along each axis."""
    flat: IntArray
    """For each item its row-major position in the request."""

    @property
    def wanted(self) -> npt.NDArray[np.bool_]:
        """For each point of the request whether an item names it."""
        flags = np.zeros(self.shape, bool)
        flags.reshape(-1)[self.flat] = True
        return flags


class PointOutputs(Collector):
    """Gathers one output for each point of a request, whatever their kind.

    Parameters
    ----------
    selection : Selection
        The request.
    """

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection, by_chunk=True)
        self.of_point: dict[int, tuple[int, Any]] = {}
        """Position in the request to the cell's rank and the output."""

    def add(self, rank: int, cell: Cell, block: Block, points: IntArray | None = None) -> None:
        """Take a block.

        Parameters
        ----------
        rank : int
            The cell's rank in the request.
        cell : Cell
            The cell.
        block : Block
            Outputs.
        points : ndarray of intp, optional
            Row-major positions in the cell; all of them by default.
        """
        self._put_outputs(rank, cell, points, block.outputs())

    def fail(self, rank: int, cell: Cell, points: IntArray | None, markers: Any) -> None:
        """Take markers in place of outputs.

        Parameters
        ----------
        rank : int
            The cell's rank in the request.
        cell : Cell
            The cell.
        points : ndarray of intp, optional
            Row-major positions in the cell; all of them by default.
        markers : object or ndarray of object
            What stands there.
        """
        each = np.empty(cell.points if points is None else len(points), object)
        each[...] = markers
        self._put_outputs(rank, cell, points, each.tolist())

    def _put_outputs(self, rank: int, cell: Cell, points: IntArray | None, outputs: list[Any]) -> None:
        shape = self._shape
        sources = [axis.source for axis in cell.axes]
        places = np.ravel_multi_index(np.ix_(*sources), shape).reshape(-1) if sources else np.zeros(1, np.intp)
        places = places if points is None else places[points]
        self.of_point.update(zip(places.tolist(), zip(itertools.repeat(rank), outputs), strict=False))


def _run_items(
    running: Running,
    verbs: ChunkCache | ProtocolCache,
    points: Points,
    collate_fn: Callable[[list[Any]], Any] | None,
    *,
    return_output: bool,
) -> Any:
    engine = running.engine
    found: list[Any] = [None] * len(points.items)
    for number, request in enumerate(points.requests()):
        asked = [(verbs.selection(request.asked), request.wanted)]
        if not return_output:
            engine.stream(asked)
            continue
        (gathered,) = engine.gather(asked, PointOutputs)
        for item, place in zip(request.numbers.tolist(), request.flat.tolist(), strict=True):
            rank, output = gathered.of_point[place]
            found[item] = ((number, rank), output)
    if not return_output:
        return []
    collate = collate_fn or running.collate_fn
    if collate is None:
        return [output for _, output in found]
    groups = itertools.groupby(found, key=operator.itemgetter(0))
    return collate([[output for _, output in group] for _, group in groups])
