"""Designs that are no grid: a list of points, or a sample of ranges, over the same stored points as every grid.

A point that some chunk of a grid holds is read from there; the others are run one by one, and stored together
(:mod:`chunk_memo.scattered`), where grids will find them. Running them is the business of the one engine: to it
they are the chunks of a cache with a single axis, whose values are points (:class:`PointCache`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo import plan as plans
from chunk_memo.cache import ChunkCache
from chunk_memo.chunks import ChunkRef, ChunkStore
from chunk_memo.disk.files import Syncer
from chunk_memo.disk.layouts import POINTS, Groups, Layout
from chunk_memo.engine import Diagnostics
from chunk_memo.errors import OutputError, SpecError
from chunk_memo.events import Observer
from chunk_memo.failures import Failure, Failures
from chunk_memo.grid import Bins, IntArray
from chunk_memo.identity import canonical_bytes, normalize
from chunk_memo.keys import keys_of_values
from chunk_memo.layers import Asked
from chunk_memo.ledger import FailureLog
from chunk_memo.outputs import Block, PointCoords, combine, make_block
from chunk_memo.parallel import PointOutputs, Points, named_points
from chunk_memo.plan import Plan, PlanGroup
from chunk_memo.reading import Reader, Reading
from chunk_memo.regions import Patterns
from chunk_memo.results import FAILED, MISSING, STORED, Read, Variable, name_of, spread, variables_of
from chunk_memo.runners import Running
from chunk_memo.scattered import CASE, POINTS_PER_FILE, case_keys
from chunk_memo.selection import Cells, Selection
from chunk_memo.tasks import Missing, Task, tasks_for
from chunk_memo.writing import Writer

__all__ = ["CaseDesign", "PointCache", "PointList", "run_cases", "sampled"]

_FEWEST, _MOST_FILES = 16, 64
"""So many points lie in a file at least, and so many files are made of a design that needs no more."""


# --- points -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PointList:
    """Points in the order in which they were asked for.

    Examples
    --------
    >>> points = PointList.of([{"x": 1, "y": "a"}, {"x": 2, "y": "a"}], ("x", "y"))
    >>> len(points), points.values["x"]
    (2, [1, 2])
    """

    order: tuple[str, ...]
    """Names of the axes, in axis order."""
    values: Mapping[str, list[Any]]
    """Axis name to the value at each point."""

    @classmethod
    def of(cls, points: Iterable[Any], order: Sequence[str], fixed: Mapping[str, Any] | None = None) -> PointList:
        """Return points in any of their forms.

        Parameters
        ----------
        points : iterable
            Each a mapping of axis name to value, a tuple or list in axis order, or the value of the only axis.
        order : sequence of str
            Names of the axes.
        fixed : mapping, optional
            Axis name to the value that all points have there, which they need not name then.

        Returns
        -------
        PointList
            The points.

        Raises
        ------
        SpecError, UnknownAxisError
            Where something is no point of these axes.
        """
        fixed = dict(fixed or {})
        if isinstance(points, str | bytes | Mapping) or not isinstance(points, Iterable):
            raise SpecError(f"cases are a list of points, each a dict of axis values, got {points!r:.200}")
        left = [name for name in order if name not in fixed]
        rows: list[tuple[Any, ...]] = []
        for point in points:
            given = point
            if isinstance(point, Mapping):
                twice = [name for name in point if name in fixed]
                if twice:
                    raise SpecError(
                        f"{twice[0]!r} is given both for all cases and in {point!r:.200}; give it once"
                    )
                given = {**fixed, **point}
                rows += named_points([given], order)
            else:
                (own,) = named_points([point], left)
                named = {**fixed, **dict(zip(left, own, strict=True))}
                rows.append(tuple(named[name] for name in order))
        columns = zip(*rows, strict=True) if rows else [()] * len(order)
        named = {name: [normalize(v) for v in column] for name, column in zip(order, columns, strict=True)}
        return cls(tuple(order), named)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(next(iter(self.values.values()), ()))

    @cached_property
    def keys(self) -> dict[str, Sequence[bytes]]:
        """Axis name to the canonical bytes of the value at each point."""
        return {name: keys_of_values(along, name) for name, along in self.values.items()}

    @cached_property
    def case_keys(self) -> list[bytes]:
        """The canonical bytes of each point."""
        return case_keys([self.keys[name] for name in sorted(self.order)])

    def taken(self, chosen: IntArray) -> PointList:
        """Return some of the points.

        Parameters
        ----------
        chosen : ndarray of intp
            Which.

        Returns
        -------
        PointList
            Those, in that order.
        """
        numbers = chosen.tolist()
        return PointList(self.order, {name: [along[i] for i in numbers] for name, along in self.values.items()})

    def once(self) -> IntArray:
        """Return where each distinct point stands first.

        Returns
        -------
        ndarray of intp
            Positions, ascending.
        """
        first: dict[bytes, int] = {}
        for place, key in enumerate(self.case_keys):
            first.setdefault(key, place)
        return np.fromiter(first.values(), np.intp, len(first))

    def cases(self) -> list[tuple[Any, ...]]:
        """Return each point as the tuple of its values, axes sorted by name.

        Returns
        -------
        list of tuple
            The tuples.
        """
        return list(zip(*(self.values[name] for name in sorted(self.order)), strict=True))


# --- looking points up --------------------------------------------------------------------------------------


def _from_grid(cache: ChunkCache, points: PointList, *, decode: bool) -> tuple[dict[int, Any], int]:
    """Return the outputs that chunks of a grid hold, by number of the point, and the bytes read."""
    if not len(points):
        return {}, 0
    may = np.flatnonzero(cache.bins_may_hold(points.keys))
    if not len(may):
        return {}, 0
    items = list(zip(*(points.values[name] for name in points.order), strict=True))
    found: dict[int, Any] = {}
    nbytes = 0
    for request in Points([items[i] for i in may.tolist()], points.order).requests():
        asked = [request.asked[name] for name in points.order]
        keys = tuple(keys_of_values(along) for along in asked)
        selection = Selection(points.order, tuple(map(tuple, asked)), keys)
        outputs = PointOutputs(selection)
        reading = cache.read_stored(selection, outputs if decode else None, request.wanted, grid_only=True)
        nbytes += reading.bytes_read
        there = request.wanted
        for _, cell, lacking in reading.missing:
            where = np.ix_(*(axis.source for axis in cell.axes))
            flags = there[where]
            flags.reshape(-1)[slice(None) if lacking is None else lacking] = False
            there[where] = flags
        for number, place in zip(request.numbers.tolist(), request.flat.tolist(), strict=True):
            if there.reshape(-1)[place]:
                found[int(may[number])] = outputs.of_point[place][1] if decode else True
    return found, nbytes


def _from_points(cache: ChunkCache, points: PointList, *, decode: bool) -> tuple[dict[int, Any], int]:
    """Return the outputs that are stored among points that form no grid, likewise."""
    found: dict[int, Any] = {}
    nbytes = 0
    left = np.arange(len(points))
    for nearby in cache.nearby():
        if not len(left):
            break
        part = points.taken(left)
        flats = nearby.find(part.keys)
        there = np.flatnonzero(flats >= 0)
        if decode:
            for block, ranks, size in nearby.read(flats[there]):
                nbytes += size
                outputs = block.outputs()
                found |= zip(left[there[ranks]].tolist(), outputs, strict=True)
        else:
            held = nearby.held(flats[there], verify=True)
            found |= dict.fromkeys(left[there[held]].tolist(), True)
        left = np.array([number for number in left.tolist() if number not in found], np.intp)
    return found, nbytes


def stored_outputs(cache: ChunkCache, points: PointList, *, decode: bool = True) -> tuple[dict[int, Any], int]:
    """Return what is stored of some points, in chunks of a grid or elsewhere.

    Parameters
    ----------
    cache : ChunkCache
        The cache.
    points : PointList
        The points.
    decode : bool, default True
        Whether outputs are read; else True stands for each.

    Returns
    -------
    found : dict of int to object
        Number of a point to its output; those that are not stored are not there.
    nbytes : int
        Bytes of the files read.
    """
    cache.refresh()
    found, nbytes = _from_points(cache, points, decode=decode)
    left = np.array([number for number in range(len(points)) if number not in found], np.intp)
    more, size = _from_grid(cache, points.taken(left), decode=decode)
    found |= {int(left[number]): output for number, output in more.items()}
    return found, nbytes + size


# --- running them -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaseFunction:
    """The function of the axes, called with a whole point."""

    function: Callable[..., Any]
    """The function."""
    axes: tuple[str, ...]
    """Names of the axes, sorted."""
    single: bool
    """Whether it takes single values; else it gets a list of one for each axis."""

    def __call__(self, **point: Any) -> Any:
        """Call it."""
        values = dict(zip(self.axes, point[CASE], strict=True))
        return self.function(**(values if self.single else {name: [value] for name, value in values.items()}))


class PointWriter(Writer):
    """Stores outputs of points that form no grid, in the form in which chunks of the cache have theirs.

    Parameters
    ----------
    store : ChunkStore
        The chunks of the points.
    beside : Writer
        The writer of the grid's chunks.
    order : tuple of str
        Names of the axes in axis order.
    """

    def __init__(self, store: ChunkStore, beside: Writer, order: tuple[str, ...]) -> None:
        super().__init__(store, beside.name, beside.outputs, True, beside.durability)
        self.single = beside.vectorize
        self.order = order
        self._beside = beside

    def block(self, task: Task, output: Any, rows: IntArray | None = None) -> Block:
        """Return outputs of single points as one block, checked; see :meth:`Writer.block`.

        Parameters
        ----------
        task : Task
            The points.
        output : list
            What the function returned for each.
        rows : ndarray of intp, optional
            Which of the task's points these are; all of them by default.

        Returns
        -------
        Block
            The outputs.

        Raises
        ------
        OutputError
            Where an output does not fit its point, or other outputs of the cache.
        """
        coords = PointCoords(task.order, task.values, rows)
        self.recall()
        if self.single:
            block = self._made(output, coords, "point")
        else:
            turn = sorted(self.order)
            pieces = []
            for point, one in zip(coords[CASE], output, strict=True):
                named = dict(zip(turn, point, strict=True))
                own = PointCoords(self.order, [[named[name]] for name in self.order])
                pieces.append((self._made(one, own, self.outputs), np.zeros(1, np.intp)))
            block = combine(pieces, np.arange(len(pieces)), coords, self.store.allow_pickle)
        self.learn(block)
        return block

    def _made(self, output: Any, coords: PointCoords, outputs: str | None) -> Block:
        name = self.name or "the function"
        shape = (len(output),) if outputs == "point" else (1,) * len(coords)
        allow = self.store.allow_pickle
        block = make_block(
            output, coords, shape, name=name, outputs=outputs, recorded=self.form, allow_pickle=allow
        )
        if block.kind == "opaque":
            raise OutputError(
                f"{name!r} was called with one point and returned a {type(output).__name__}, which is no"
                f" output of that point: expected a list of one output, an array of shape {(*shape, ...)}, or a"
                f" dict of such arrays. A function of single values needs vectorize=True".replace("Ellipsis", "…")
            )
        return block

    def recall(self) -> None:
        """Learn the form of outputs from what is stored, in chunks of the grid first."""
        if self.form is None:
            self.form = self._beside.recalled()
        if self.form is None:
            self.recalled()


@dataclass(slots=True)
class PointCache:
    """Points that form no grid, as the engine sees a cache: one axis, whose values are the points."""

    cache: ChunkCache
    """The cache that they belong to."""
    portable: bool = True
    """Whether workers can store by themselves."""
    made: PointWriter | None = None
    """What stores outputs, once it was asked for."""

    @property
    def cache_id(self) -> str:
        """Name of the cache."""
        return self.cache.cache_id

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.cache.name

    @property
    def path(self) -> Path:
        """The cache's folder."""
        return self.cache.path

    @property
    def read_only(self) -> bool:
        """Whether nothing is to be stored."""
        return self.cache.read_only

    @property
    def store(self) -> ChunkStore:
        """The chunks of the points."""
        return self.cache.scattered_store()

    def write_metadata(self) -> Path:
        """Write what describes the cache, unless it is there.

        Returns
        -------
        Path
            Path of ``metadata.json``.
        """
        return self.cache.write_metadata()

    def syncer(self) -> Syncer:
        """Return what takes note of files that must be on disk.

        Returns
        -------
        Syncer
            A new one.
        """
        return self.cache.syncer()

    def collector(self, selection: Selection, *, by_chunk: bool) -> PointOutputs:
        """Return what gathers outputs.

        Parameters
        ----------
        selection : Selection
            The request.
        by_chunk : bool
            Accepted for symmetry; outputs are kept by point.

        Returns
        -------
        PointOutputs
            The collector.
        """
        return PointOutputs(selection)

    def read(self, selection: Selection, collector: Any, wanted: npt.NDArray[np.bool_] | None = None) -> Reading:
        """Read what is stored; points without a place get one.

        Parameters
        ----------
        selection : Selection
            The request.
        collector : Collector or None
            Takes the outputs.
        wanted : ndarray of bool, optional
            Accepted for symmetry; all points are wanted.

        Returns
        -------
        Reading
            What was found and what was not.
        """
        started = time.perf_counter()
        store = self.store
        store.folder.refresh()
        written = self._bin(selection, store)
        cells = Cells(selection, store.folder.bins)
        planned = time.perf_counter() - started - written
        reading = Reader(store, cells.bins, (CASE,)).read_all(cells, collector, Patterns())
        reading.plan_seconds, reading.write_seconds, reading.settled = planned, written, True
        return reading

    def _bin(self, selection: Selection, store: ChunkStore) -> float:
        """Say which points lie together, for those that have no place; return the seconds that writing took."""
        with self.cache.lock:
            lacking = Cells(selection, store.folder.bins).unbinned
            if not lacking:
                return 0.0
            points = [selection.values[0][place] for place in lacking[CASE]]
            size = _file_size(len(points))
            groups = Groups(points, np.asarray(_sizes(len(points), size), np.intp))
            layout = Layout(self.cache.version, (CASE,), {CASE: size}, {CASE: groups}, None, time.time_ns())
            if self.read_only:
                layout.add_to(store.folder.bins)
                return 0.0
            return store.folder.commit_layout(layout, self.syncer())

    def read_back(
        self, cells: Cells, stored: Sequence[tuple[int, IntArray | None]], collector: Any
    ) -> Sequence[Missing]:
        """Read what workers stored; return what was not there.

        Parameters
        ----------
        cells : Cells
            The request, as an earlier read had it.
        stored : sequence of tuple
            Ranks of cells, and positions in them that are stored by now.
        collector : Collector or None
            Takes the outputs.

        Returns
        -------
        sequence of Missing
            What was not there.
        """
        whole = np.zeros(len(cells), bool)
        whole[[rank for rank, points in stored if points is None]] = True
        parts = [(rank, points) for rank, points in stored if points is not None]
        reader = Reader(self.store, cells.bins, (CASE,))
        return reader.read_all(cells, collector, Patterns(), Asked(whole, parts)).missing

    def settle(self) -> bool:
        """Look for what other processes stored; tell whether reading again is worth it.

        Returns
        -------
        bool
            Whether there were new bins.
        """
        return self.store.folder.refresh()

    def tasks(self, selection: Selection, missing: Iterable[Missing]) -> Iterator[Task]:
        """Cut missing points into tasks, one for each file.

        Parameters
        ----------
        selection : Selection
            The request.
        missing : iterable of Missing
            What a read did not find.

        Returns
        -------
        iterator of Task
            The tasks.
        """
        store = self.store
        bins: Bins = store.folder.bins

        def make_ref(order: tuple[str, ...], numbers: tuple[int, ...]) -> ChunkRef:
            return store.ref(order, numbers, bins)

        return tasks_for(selection, missing, bins, make_ref)

    def writer(self) -> PointWriter:
        """Return what checks and stores outputs.

        Returns
        -------
        PointWriter
            The same one each time.
        """
        if self.made is None:
            self.made = PointWriter(self.store, self.cache.writer(), self.cache.axis_order)
        return self.made

    def failure_log(self) -> FailureLog | None:
        """Return the records of points that failed.

        Returns
        -------
        FailureLog or None
            None with ``read_only``.
        """
        return None if self.read_only else FailureLog(self.cache.path / POINTS, self.cache.version)

    def failures_elsewhere(self) -> Iterator[Failure]:
        """Iterate over the recorded failures of grids, as failures of points.

        Yields
        ------
        Failure
            One for each point.
        """
        turn = sorted(self.cache.axis_order)
        for failure in self.cache.recorded_failures().read():
            for point in failure.each() if sorted(failure.order) == turn else ():
                values = ((tuple(point[name] for name in turn),),)
                yield replace(failure, order=(CASE,), values=values, rows=None)


def _file_size(points: int) -> int:
    """Return how many points go into a file: few enough to be shared out, and many enough to be few files."""
    return min(POINTS_PER_FILE, max(_FEWEST, -(-points // _MOST_FILES)))


def _sizes(points: int, size: int) -> list[int]:
    return [min(size, points - start) for start in range(0, points, size)]


def run_cases(
    cache: ChunkCache,
    exec_fn: Callable[..., Any],
    points: PointList,
    *,
    observers: Iterable[Observer] = (),
    options: Mapping[str, Any] | None = None,
) -> Diagnostics:
    """Compute what is missing of some points, and store it.

    Parameters
    ----------
    cache : ChunkCache
        The cache.
    exec_fn : callable
        The function of the axes.
    points : PointList
        The points.
    observers : iterable of Observer, optional
        Called with the events of the run.
    options : mapping, optional
        As :class:`Options` has them.

    Returns
    -------
    Diagnostics
        What was done.
    """
    started = time.perf_counter()
    points = points.taken(points.once())
    found, nbytes = stored_outputs(cache, points, decode=False)
    left = points.taken(np.array([n for n in range(len(points)) if n not in found], np.intp))
    looked = time.perf_counter() - started
    verbs: Any = PointCache(cache)
    function = CaseFunction(exec_fn, tuple(sorted(cache.axis_order)), cache.vectorize)
    running = Running(cache, verbs, function, None, observers, dict(options or {}))
    running.refuse_unstored()
    if len(left):
        running.engine.stream([(Selection((CASE,), (tuple(left.cases()),), (tuple(left.case_keys),)), None)])
    done = running.finished(None)[1]
    done.total_points += len(found)
    done.cached_points += len(found)
    done.bytes_read += nbytes
    done.plan_seconds += looked
    return done


# --- results ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CaseDesign:
    """Points that form no grid, along one dimension ``case``."""

    cache: ChunkCache
    """Where they are stored."""
    points: PointList
    """The points."""
    dims: tuple[str, ...] = field(default=(CASE,))
    """The only dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points."""
        return (len(self.points),)

    @property
    def coords(self) -> dict[str, tuple[str, Sequence[Any]]]:
        """All axes run along the cases."""
        return {name: (CASE, along) for name, along in self.points.values.items()}

    def taken(self, picks: Sequence[IntArray | None]) -> CaseDesign:
        """Return some of the points.

        Parameters
        ----------
        picks : sequence of ndarray of intp or None
            Positions along each dimension; None for all.

        Returns
        -------
        Design
            Those points.
        """
        (chosen,) = picks
        return self if chosen is None else replace(self, points=self.points.taken(chosen))

    def read(self) -> Read:
        """Read their outputs.

        Returns
        -------
        Read
            Variables and status.
        """
        found, nbytes = stored_outputs(self.cache, self.points)
        status = self._status(found)
        outputs = [found[number] for number in sorted(found)]
        name = name_of(self.cache)
        columns = variables_of(outputs, name) if outputs else {}
        lacking = status != STORED
        variables = {
            key: Variable(key, spread(rows, lacking), 1)
            for key, rows in columns.items()
            if key not in self.points.order
        }
        return Read(variables, status, nbytes)

    def status(self) -> npt.NDArray[np.int8]:
        """Return what became of each.

        Returns
        -------
        ndarray of int8
            For each point MISSING, STORED or FAILED.
        """
        return self._status(stored_outputs(self.cache, self.points, decode=False)[0])

    def _status(self, found: Mapping[int, Any]) -> npt.NDArray[np.int8]:
        status = np.full(len(self.points), MISSING, np.int8)
        status[sorted(found)] = STORED
        if len(found) < len(self.points):
            turn = sorted(self.points.order)
            recorded = [*self.cache.recorded_failures().read(), *self.cache.failures_elsewhere()]
            known = {
                canonical_bytes(tuple(point[name] for name in turn))
                for failure in recorded
                for point in (failure.each() if sorted(failure.order) == turn else ())
            }
            for number, key in enumerate(self.points.case_keys if known else ()):
                if status[number] == MISSING and key in known:
                    status[number] = FAILED
        return status

    def plan(self) -> Plan:
        """Return what a run would read and run.

        Returns
        -------
        Plan
            The plan.
        """
        points = self.points.taken(self.points.once())
        found, _ = stored_outputs(self.cache, points, decode=False)
        selection = Selection((CASE,), (tuple(points.cases()),), (tuple(points.case_keys),))
        bins = self.cache.scattered_store().folder.bins.copied()
        lacking = Cells(selection, bins).unbinned.get(CASE, ())
        size = _file_size(len(lacking))
        for start in range(0, len(lacking), size):
            places = lacking[start : start + size]
            bins.of(CASE).add(
                [selection.values[0][place] for place in places], [selection.keys[0][place] for place in places]
            )
        cells = Cells(selection, bins)
        status = CaseDesign(self.cache, points)._status(found)
        counts = np.array([np.bincount(status[cell.axes[0].source], minlength=3) for cell in cells], np.intp)
        fresh, stored, failed = counts.reshape(-1, 3).T
        missing = fresh + failed
        states = np.where(stored > 0, np.uint8(plans.PARTIAL), np.uint8(plans.MISSING))
        states[failed == missing] = plans.FAILED
        states[missing == 0] = plans.STORED
        why = (("not computed yet", fresh), ("failed before", failed))
        groups = tuple(PlanGroup(reason, int((n > 0).sum()), int(n.sum())) for reason, n in why if n.any())
        return Plan(selection, cells, states, missing, groups, *(self.cache.costs() if groups else (None, None)))

    def failures(self) -> Failures:
        """Return what failed of them, and is not stored since.

        Returns
        -------
        Failures
            The failures.
        """
        asked = set(self.points.case_keys)
        turn = sorted(self.points.order)
        found = self.cache.failures()
        return found.only(
            lambda failure: any(canonical_bytes(tuple(p[name] for name in turn)) in asked for p in failure.each())
        )

    def stored_places(self) -> Iterator[list[IntArray]]:
        """Yield the first point that is stored.

        Yields
        ------
        list of ndarray of intp
            Positions along each dimension.
        """
        states = self.status()
        for place in np.flatnonzero(states == STORED)[:1].tolist():
            yield [np.array([place], np.intp)]

    def whole(self) -> CaseDesign:
        """Return the same: of a grid nothing is known here.

        Returns
        -------
        Design
            All points.
        """
        return self


# --- samples ------------------------------------------------------------------------------------------------


def sampled(
    count: int,
    seed: int,
    method: str,
    order: Sequence[str],
    declared: Mapping[str, Sequence[Any]],
    given: Mapping[str, Any],
    log: Sequence[str] = (),
) -> PointList:
    """Draw points from ranges.

    Parameters
    ----------
    count : int
        Number of points.
    seed : int
        The seed; a longer sample of the same seed begins with the shorter one.
    method : {"random", "sobol"}
        Independent points, or a scrambled Sobol sequence, which needs SciPy.
    order : sequence of str
        Names of the axes.
    declared : mapping of str to sequence
        The declared values of each axis.
    given : mapping
        Axis name to a range ``(low, high)`` (whole numbers, both ends included, where both are ints), to a list
        of values to choose from, or to the one value that all points have. Of other axes declared values count.
    log : sequence of str, optional
        Ranges that are drawn on a logarithmic scale.

    Returns
    -------
    PointList
        The points.

    Raises
    ------
    SpecError
        Where a range cannot be drawn from.

    Examples
    --------
    >>> points = sampled(3, 1, "random", ("x", "n"), {"x": [], "n": []}, {"x": (0.0, 1.0), "n": (1, 6)})
    >>> [round(x, 3) for x in points.values["x"]], points.values["n"]
    ([0.506, 0.623, 0.329], [5, 2, 5])
    """
    number: Any = count
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
        raise SpecError(f"sample takes a number of points, got {count!r}")
    if method not in ("random", "sobol"):
        raise SpecError(f"method must be 'random' or 'sobol', got {method!r}")
    strange = [name for name in (*given, *log) if name not in order]
    if strange:
        raise SpecError(f"{strange[0]!r} is no axis; a sample draws values of {list(order)}")
    drawn = {name: _range_of(name, given.get(name, list(declared[name])), name in log) for name in sorted(order)}
    varied = [name for name, each in drawn.items() if each is not None]
    units = _sobol(int(count), len(varied), seed) if method == "sobol" else _random(int(count), varied, seed)
    values = {}
    for name in order:
        take = drawn[name]
        values[name] = (
            [normalize(given[name])] * int(count) if take is None else take(units[:, varied.index(name)])
        )
    return PointList(tuple(order), values)


def _random(count: int, names: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1): a stream for each axis, moved by no longer sample and no other axis."""
    columns = [
        np.random.default_rng([seed, *name.encode()]).random(count)  # the name counts, not its place
        for name in names
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


def _sobol(count: int, axes: int, seed: int) -> npt.NDArray[np.float64]:
    import warnings

    try:
        from scipy.stats import qmc
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        raise ImportError(
            "method='sobol' needs the package 'scipy', which is not installed; run"
            " `pip install 'chunk-memo[notebook]'`, or use method='random'"
        ) from None
    if not axes or not count:
        return np.zeros((count, axes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a power of two would be balanced
        units: npt.NDArray[np.float64] = qmc.Sobol(axes, scramble=True, rng=np.random.default_rng(seed)).random(
            count
        )
    return units


def _range_of(name: str, given: Any, log: bool) -> Callable[[npt.NDArray[np.float64]], list[Any]] | None:
    """Return what turns numbers in [0, 1) into values; None for a single value."""
    numbers = isinstance(given, tuple) and len(given) == 2 and all(_is_number(end) for end in given)
    if numbers:
        low, high = (end.item() if isinstance(end, np.generic) else end for end in given)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
            need = "finite, ascending and above 0" if log else "finite and ascending"
            raise SpecError(f"the range of {name!r} must be {need}, got {given!r}")
        if isinstance(low, int) and isinstance(high, int):
            return partial(_whole_numbers, low, high, log)
        return partial(_floats, float(low), float(high), log)
    if log:
        raise SpecError(f"log names {name!r}, which has no range (low, high), got {given!r:.200}")
    if isinstance(given, list | range | np.ndarray) or (isinstance(given, tuple) and len(given) != 2):
        choices = [normalize(value) for value in (given.tolist() if isinstance(given, np.ndarray) else given)]
        if not choices:
            raise SpecError(f"there are no values of {name!r} to choose from; pass a range (low, high) or a list")
        return partial(_choices, choices)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _floats(low: float, high: float, log: bool, units: npt.NDArray[np.float64]) -> list[Any]:
    drawn = low + units * (high - low)
    if log:
        drawn = np.exp(math.log(low) + units * (math.log(high) - math.log(low)))
    found: list[Any] = drawn.clip(low, high).tolist()
    return found


def _whole_numbers(low: int, high: int, log: bool, units: npt.NDArray[np.float64]) -> list[Any]:
    if log:
        drawn = np.exp(math.log(low) + units * (math.log(high + 1) - math.log(low)))
        return [min(high, max(low, int(value))) for value in drawn.tolist()]
    return [min(high, low + int(unit * (high - low + 1))) for unit in units.tolist()]


def _choices(values: Sequence[Any], units: npt.NDArray[np.float64]) -> list[Any]:
    return [values[min(len(values) - 1, int(unit * len(values)))] for unit in units.tolist()]
