"""Labelled results: what is stored of a sweep, by the names and values of its axes, read when it is looked at.

A :class:`SweepResult` holds no outputs. It knows what was asked for, and reads chunk files each time somebody
looks: so it opens a cache of any size at once, shows a sweep that is still running as it stands, and a selection
reads the chunks that it touches and no others. What the function returned becomes *variables*: one array, one
for each entry of its dicts, or one for each column of its DataFrames, all over the same dimensions.

A point is stored, missing, or failed, and ``status`` says which: a NaN that the function returned is stored, and
what lacks is masked. This module needs NumPy alone; what makes Datasets and tables of it lives in
:mod:`chunk_memo.tables`.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from chunk_memo import plan as plans
from chunk_memo.cache import ChunkCache
from chunk_memo.dataframes import library_of
from chunk_memo.disk.encoding import Record
from chunk_memo.errors import OutputError, SpecError, UnknownAxisError, UnknownIndexError, UnknownValueError
from chunk_memo.failures import Failed, Failures
from chunk_memo.grid import IntArray
from chunk_memo.identity import canonical_bytes, normalize
from chunk_memo.keys import keys_of_values, take
from chunk_memo.ledger import Ledger
from chunk_memo.selection import Cell, Selection

if TYPE_CHECKING:
    from chunk_memo.engine import Diagnostics
    from chunk_memo.plan import Plan

__all__ = [
    "FAILED",
    "MISSING",
    "STATUS",
    "STORED",
    "Design",
    "GridDesign",
    "Read",
    "SweepResult",
    "Variable",
    "filled",
    "forms_of",
    "name_of",
    "spread",
    "variables_of",
]

MISSING, STORED, FAILED = 0, 1, 2
"""What became of a point."""

STATUS = ("missing", "stored", "failed")
"""What these numbers mean."""

Array = npt.NDArray[Any]


class _Absent:
    """What stands in place of the output of a point that is not stored."""

    def __repr__(self) -> str:
        """Return what it says."""
        return "<not stored>"


_ABSENT = _Absent()


# --- variables ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """Outputs of all points under one name."""

    name: str
    """The name."""
    values: Array
    """Dimensions of the request first, then those of one output; masked where points lack."""
    axes: int
    """Number of dimensions of the request."""

    @property
    def trailing(self) -> tuple[int, ...]:
        """The shape of one output."""
        return self.values.shape[self.axes :]


def variables_of(outputs: Sequence[Any], name: str) -> dict[str, Array]:
    """Return outputs as arrays, one row for each: dicts, dataclasses and tuples as several.

    Parameters
    ----------
    outputs : sequence
        One output per point.
    name : str
        What an output that is one value is called.

    Returns
    -------
    dict of str to ndarray
        Arrays of ``len(outputs)`` rows. Numbers, datetimes without a zone, and arrays of one shape keep their
        dtype; texts, and what has no dtype, are objects.

    Examples
    --------
    >>> variables_of([1.5, 2.5], "speed")
    {'speed': array([1.5, 2.5])}
    >>> variables_of([{"mean": 1, "of": {"n": 2}}, {"mean": 3, "of": {"n": 4}}], "speed")
    {'mean': array([1, 3]), 'of.n': array([2, 4])}
    """
    fields = [_fields(output) for output in outputs]
    if not fields or any(each is None for each in fields):
        return {name: _column(outputs)}
    return _flattened([each for each in fields if each is not None], "", name)


def _fields(output: Any) -> Mapping[str, Any] | None:
    """Return the named parts of an output; None where it is one value."""
    if isinstance(output, Mapping):
        return output if output and all(isinstance(key, str) for key in output) else None
    if isinstance(output, Record):
        return output.fields if output.fields else None
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)} or None
    names = getattr(output, "_fields", None)
    if isinstance(output, tuple) and names:
        return dict(zip(names, output, strict=True))
    if isinstance(output, tuple) and output:
        return {str(number): value for number, value in enumerate(output)}
    return None


def _flattened(rows: Sequence[Mapping[str, Any]], prefix: str, name: str) -> dict[str, Array]:
    """Return columns of rows, those of dicts inside dicts by names with a dot."""
    found: dict[str, Array] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        label = f"{prefix}{key}" if prefix or not key.isdecimal() else f"{name}_{key}"
        values = [row.get(key, _ABSENT) for row in rows]
        inner = [_fields(value) if isinstance(value, Mapping) else None for value in values]
        if all(each is not None for each in inner):
            found |= _flattened([each for each in inner if each is not None], f"{label}.", name)
        elif any(value is _ABSENT for value in values):
            found[label] = _objects([None if value is _ABSENT else value for value in values])
        else:
            found[label] = _column(values)
    return found


def _objects(values: Sequence[Any]) -> Array:
    return np.fromiter(values, object, len(values))


def _column(values: Sequence[Any]) -> Array:
    """Return values as an array in which each is what it was."""
    types = set(map(type, values))
    if types and all(issubclass(kind, np.ndarray | np.generic) for kind in types):
        dtypes = {value.dtype for value in values}
        if len({value.shape for value in values}) == 1 and len(dtypes) == 1 and not dtypes.pop().hasobject:
            return np.stack(values)
        if not all(issubclass(kind, np.number | np.bool_) for kind in types):
            return _objects(values)
    if types == {datetime.datetime} and all(value.tzinfo is None and not value.fold for value in values):
        return np.array(values, "datetime64[us]")
    if types == {datetime.timedelta}:
        return np.array(values, "timedelta64[us]")
    if types == {list} and len(set(map(len, values))) == 1 and len(values[0]):
        inner = _numbers([item for value in values for item in value])
        return _objects(values) if inner is None else inner.reshape(len(values), -1)
    array = _numbers(values)
    return _objects(values) if array is None else array


def _numbers(values: Sequence[Any]) -> Array | None:
    """Return numbers as one array, None where that would change one of them."""
    types = set(map(type, values))
    if not types or not types <= {bool, int, float, complex} | {
        kind for kind in types if issubclass(kind, np.number | np.bool_)
    }:
        return None
    truths = {kind for kind in types if issubclass(kind, bool | np.bool_)}
    if truths and truths != types:
        return None
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        return None
    if array.dtype.kind in "fc" and any(issubclass(kind, int | np.integer) for kind in types):
        whole = (value for value in values if isinstance(value, int | np.integer))
        if any(abs(int(value)) > 2**53 for value in whole):
            return None
    return array


# --- designs: which points, and how they are read -----------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What was read of a request."""

    variables: dict[str, Variable]
    """The variables by name; none where nothing was stored."""
    status: npt.NDArray[np.int8]
    """For each point MISSING, STORED or FAILED."""
    bytes_read: int = 0
    """Bytes of the files read."""


class Design(Protocol):
    """The points that a result is about."""

    @property
    def cache(self) -> ChunkCache:
        """Where they are stored."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each."""

    @property
    def coords(self) -> dict[str, tuple[str, Sequence[Any]]]:
        """Axis name to the dimension that it runs along, and its values."""

    def taken(self, picks: Sequence[IntArray | None]) -> Design:
        """Return some of the points: positions along each dimension, None for all.

        Parameters
        ----------
        picks : sequence of ndarray of intp or None
            Positions along each dimension; None for all.

        Returns
        -------
        Design
            Those points.
        """

    def read(self) -> Read:
        """Read their outputs."""

    def status(self) -> npt.NDArray[np.int8]:
        """Return what became of each, without decoding outputs."""

    def plan(self) -> Plan:
        """Return what a run would read and run."""

    def failures(self) -> Failures:
        """Return what failed of them, and is not stored since."""

    def stored_places(self) -> Iterator[list[IntArray]]:
        """Yield positions along each dimension at which something is stored, few at a time."""

    def whole(self) -> Design:
        """Return all points of the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class GridDesign:
    """All combinations of some values of each axis."""

    cache: ChunkCache
    """Where they are stored."""
    selection: Selection
    """The values."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return self.selection.order

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each."""
        return self.selection.shape

    @property
    def coords(self) -> dict[str, tuple[str, Sequence[Any]]]:
        """Each axis runs along itself."""
        named = zip(self.selection.order, self.selection.values, strict=True)
        return {name: (name, values) for name, values in named}

    def taken(self, picks: Sequence[IntArray | None]) -> GridDesign:
        """Return some of the values.

        Parameters
        ----------
        picks : sequence of ndarray of intp or None
            Positions along each dimension; None for all.

        Returns
        -------
        Design
            Those points.
        """
        values, keys = [], []
        for own, names, chosen in zip(self.selection.values, self.selection.keys, picks, strict=True):
            values.append(own if chosen is None else tuple([own[i] for i in chosen.tolist()]))
            keys.append(names if chosen is None else take(names, chosen))
        return GridDesign(self.cache, Selection(self.selection.order, tuple(values), tuple(keys)))

    def read(self) -> Read:
        """Read their outputs.

        Returns
        -------
        Read
            Variables and status.
        """
        selection, cache = self.selection, self.cache
        if not selection.points:
            return Read({}, np.zeros(selection.shape, np.int8))
        collector = cache.collector(selection, by_chunk=False)
        reading = cache.read_stored(selection, collector)
        status = self._status(reading.missing, collector.fail)
        if collector.kinds == {"opaque"}:
            raise OutputError(
                f"{cache.name or cache.cache_id!r} returned one piece for each call, not an output for each point"
                f" (outputs='opaque'), so its results have no labels; call it to get the pieces, or return one"
                f" output per point"
            )
        output = collector.result() if collector.kinds else None
        found = _variables(output, status, name_of(cache), selection.order)
        return Read(found, status, reading.bytes_read)

    def status(self) -> npt.NDArray[np.int8]:
        """Return what became of each.

        Returns
        -------
        ndarray of int8
            For each point MISSING, STORED or FAILED.
        """
        if not self.selection.points:
            return np.zeros(self.selection.shape, np.int8)
        return self._status(self.cache.read_stored(self.selection, None).missing, None)

    def _status(
        self, missing: Sequence[Any], fail: Callable[[int, Cell, IntArray | None, Any], None] | None
    ) -> npt.NDArray[np.int8]:
        """Tell what became of each point; mark those that lack among the outputs."""
        status = np.full(self.selection.shape, STORED, np.int8)
        if not missing:
            return status
        cache = self.cache
        ledger = Ledger(cache.recorded_failures(), self.selection.order, cache.failures_elsewhere)
        never, failed = ledger.sift(self.selection, missing, "never")
        for rank, cell, points in never:
            _put(status, cell, points, MISSING)
            if fail is not None:
                fail(rank, cell, points, _ABSENT)
        for (rank, cell, points), failure in failed:
            _put(status, cell, points, FAILED)
            if fail is not None:
                fail(rank, cell, points, Failed(failure))
        return status

    def plan(self) -> Plan:
        """Return what a run would read and run.

        Returns
        -------
        Plan
            The plan.
        """
        return self.cache.plan(self.selection)

    def failures(self) -> Failures:
        """Return what failed of them, and is not stored since.

        Returns
        -------
        Failures
            The failures.
        """
        return self.cache.viewing(self.selection).failures()

    def stored_places(self) -> Iterator[list[IntArray]]:
        """Yield a point of the first chunk that is stored whole, then the chunks that are stored in part.

        Yields
        ------
        list of ndarray of intp
            Positions along each dimension.
        """
        if not self.selection.points:
            return
        plan = self.plan()
        for cell in itertools.islice(plan.of_state(plans.STORED), 1):
            yield [axis.source[:1] for axis in cell.axes]
        for cell in plan.of_state(plans.PARTIAL):
            yield [axis.source for axis in cell.axes]

    def whole(self) -> GridDesign:
        """Return all points of the cache.

        Returns
        -------
        Design
            All points.
        """
        cache = self.cache.for_points(whole=True)
        return GridDesign(cache, cache.selection())


def forms_of(design: Design) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return what is known of each variable from one stored point, be it one of those asked for or another.

    Parameters
    ----------
    design : Design
        The points.

    Returns
    -------
    dict of str to tuple of numpy.dtype, tuple of int
        Its dtype, and the shape of one output; nothing where nothing is stored.
    """
    for each in (design, design.whole()):
        for places in each.stored_places():
            found = each.taken(places).read().variables
            if found:
                return {name: (one.values.dtype, one.trailing) for name, one in found.items()}
    return {}


def _put(status: npt.NDArray[np.int8], cell: Cell, points: IntArray | None, state: int) -> None:
    """Set the state of some points of a cell, at each position of the request that asks for them."""
    wanted = np.zeros(cell.shape, bool)
    wanted.reshape(-1)[slice(None) if points is None else points] = True
    picks = [np.arange(len(a.request)) if a.pick is None else a.pick for a in cell.axes]
    where = np.ix_(*(axis.request for axis in cell.axes)) if cell.axes else ()
    chosen = wanted[np.ix_(*picks)] if cell.axes else wanted
    status[where] = np.where(chosen, np.int8(state), status[where])


def name_of(cache: ChunkCache) -> str:
    """Return what a function's only output is called: the function's own name.

    Parameters
    ----------
    cache : ChunkCache
        The cache.

    Returns
    -------
    str
        The name; ``"output"`` where there is none that can be used.
    """
    function = cache.metadata.get("function")
    known = str(function.get("name") or "") if isinstance(function, Mapping) else ""
    name = (cache.name or known).rpartition(".")[2]
    return name if name.isidentifier() and name not in cache.axis_order else "output"


def _variables(output: Any, status: npt.NDArray[np.int8], name: str, taken: Iterable[str]) -> dict[str, Variable]:
    """Return what a collector gathered as variables over the request."""
    shape, axes = status.shape, status.ndim
    lacking = status != STORED
    if output is None:
        return {}
    if isinstance(output, Mapping):
        found = {str(key): _as_array(values, shape) for key, values in output.items()}
    elif isinstance(output, np.ndarray):
        found = {name: output}
    elif library_of(output) is not None:
        rows = {str(label): _frame_column(output[label]) for label in output.columns}
        found = {label: spread(values, lacking) for label, values in rows.items()}
    else:
        there = ~lacking.reshape(-1)
        outputs = (
            output if there.all() else [entry for entry, is_there in zip(output, there, strict=True) if is_there]
        )
        found = {label: spread(values, lacking) for label, values in variables_of(outputs, name).items()}
    found = {key: values for key, values in found.items() if not _repeats_axis(key, taken)}
    return {key: Variable(key, values, axes) for key, values in found.items()}


def _repeats_axis(name: str, taken: Iterable[str]) -> bool:
    """Tell whether outputs carry a coordinate along, which the labels say already."""
    return name in taken


def _as_array(values: Any, shape: tuple[int, ...]) -> Array:
    return values if isinstance(values, np.ndarray) else _objects(values).reshape(shape)


def _frame_column(series: Any) -> Array:
    """Return a column of a DataFrame as an array, values as they are."""
    values = series.to_list()
    plain = getattr(series, "dtype", None)
    if isinstance(plain, np.dtype) and plain.kind in "biufcmM":
        return np.asarray(series)
    return _column([None if value is None else value for value in values])


def spread(rows: Array, lacking: npt.NDArray[np.bool_]) -> Array:
    """Return rows in the request's shape, masked where there are none.

    Parameters
    ----------
    rows : ndarray
        Outputs of the points that are stored.
    lacking : ndarray of bool
        For each point whether it has no row.

    Returns
    -------
    ndarray
        As many dimensions as the request has, then those of one output.
    """
    if not lacking.any():
        return rows.reshape((*lacking.shape, *rows.shape[1:]))
    values = np.zeros((*lacking.shape, *rows.shape[1:]), rows.dtype)
    values[~lacking] = rows
    values[lacking] = _blank(rows.dtype)
    mask = np.zeros(values.shape, bool)
    mask[lacking] = True
    return np.ma.MaskedArray(values, mask)


def _blank(dtype: np.dtype[Any]) -> Any:
    """Return what stands below the mask."""
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind in "mM":
        return np.array("NaT", dtype)[()]
    return None if dtype.kind == "O" else np.zeros((), dtype)[()]


def filled(values: Array) -> Array:
    """Return a variable without its mask: NaN, NaT or None where points lack, in a dtype that can say it.

    Parameters
    ----------
    values : ndarray
        Values, masked or not.

    Returns
    -------
    ndarray
        Integers with a hole are floats, as long as no digit is lost, else objects; other dtypes without a value
        for nothing are objects.

    Examples
    --------
    >>> filled(np.ma.MaskedArray([1, 2], [False, True]))
    array([ 1., nan])
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    mask = np.ma.getmaskarray(values)
    if not mask.any():
        return np.asarray(values.data)
    data = np.array(values.data)
    if mask.dtype.names is not None or data.dtype.kind not in "iufcmMO":
        data = data.astype(object)
    elif data.dtype.kind in "iu":
        exact = (np.abs(data[~mask].astype(object)) <= 2**53).all() if data.dtype.itemsize == 8 else True
        data = data.astype(np.float64 if exact else object)
    data[_plain_mask(mask)] = _blank(data.dtype)
    return data


def _plain_mask(mask: Array) -> Array:
    """Return a mask of whole elements."""
    names = mask.dtype.names
    if names is None:
        return mask
    found: Array = np.logical_and.reduce([_plain_mask(mask[name]) for name in names])
    return found


# --- the result ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SweepResult:
    """Labelled results of a sweep, read from its cache when they are looked at.

    What ``foo.sweep(…)`` returns, and ``cache.result()`` of a cache that was opened. Nothing is held in memory,
    so that a result shows what is stored at the moment.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkMemo
    >>> memo = ChunkMemo(tempfile.mkdtemp(), axis_values={"a": [1, 2], "b": [10, 20, 30]}, verbose=0)
    >>> @memo.cache()
    ... def product(a, b, power=1):
    ...     return [(x * y) ** power for x in a for y in b]
    >>> result = product.sweep(b=[10, 30])
    >>> result
    SweepResult(product, a: 2, b: 2; 4 points: 4 stored)
    >>> result.to_numpy()
    array([[10, 30],
           [20, 60]])
    >>> result.sel(a=2).to_numpy()
    array([20, 60])
    >>> result.diagnostics.executed_points
    4
    """

    design: Design
    """The points that it is about."""
    diagnostics: Diagnostics | None = None
    """What the run did that it comes from; None where nothing was run."""
    squeezed: frozenset[str] = frozenset()
    """Dimensions of one point that were selected by a single label."""
    function: Callable[..., Any] | None = None
    """The function of the axes, where it is known; failures can call it again."""
    rerun: Callable[[], object] | None = None
    """Computes again what a read found damaged; None where nothing was run."""

    @classmethod
    def of(cls, cache: ChunkCache, diagnostics: Diagnostics | None = None) -> SweepResult:
        """Return the results of all that a cache or slice covers.

        Parameters
        ----------
        cache : ChunkCache
            The cache.
        diagnostics : Diagnostics, optional
            What a run did.

        Returns
        -------
        SweepResult
            The results.
        """
        return cls(GridDesign(cache, cache.selection()), diagnostics)

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def cache(self) -> ChunkCache:
        """The cache that it is read from."""
        return self.design.cache

    @property
    def name(self) -> str:
        """What the function's only output is called."""
        return name_of(self.cache)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions; those that were selected by a single label are left out."""
        return tuple(name for name in self.design.dims if name not in self.squeezed)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each dimension."""
        named = zip(self.design.dims, self.design.shape, strict=True)
        return tuple(size for name, size in named if name not in self.squeezed)

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def coords(self) -> dict[str, Any]:
        """Axis name to its values; to the single value, where one label was selected."""
        return {
            name: values[0] if dim in self.squeezed else list(values)
            for name, (dim, values) in self.design.coords.items()
        }

    @property
    def params(self) -> dict[str, Any]:
        """The params that the results hold for."""
        return self.cache.params

    @property
    def status(self) -> npt.NDArray[np.int8]:
        """For each point 0 (missing), 1 (stored) or 2 (failed), as it is now; of the shape :attr:`shape`."""
        return self.design.status().reshape(self.shape)

    @property
    def failures(self) -> Failures:
        """The points at which the function failed, and which are not stored since."""
        found = self.design.failures()
        return found if self.function is None else found.of(self.function)

    def plan(self) -> Plan:
        """Return what a run over these points would read and run, as it is now.

        Returns
        -------
        Plan
            The plan.
        """
        return self.design.plan()

    def __repr__(self) -> str:
        """Return the dimensions, and how many points are stored."""
        named = ", ".join(f"{name}: {size}" for name, size in zip(self.dims, self.shape, strict=True))
        status = self.status
        counts = [(int((status == state).sum()), STATUS[state]) for state in (STORED, MISSING, FAILED)]
        told = ", ".join(f"{count} {what}" for count, what in counts if count or what == "stored")
        return f"SweepResult({self.name}{', ' if named else ''}{named}; {self.points} points: {told})"

    def _repr_html_(self) -> str:
        """Return what it is and a map of what is stored, for a notebook."""
        from chunk_memo.display.notebook import html_of_result

        return html_of_result(self)

    # --- selecting -----------------------------------------------------------------------------------------

    def isel(self, **indices: Any) -> SweepResult:
        """Return results at some positions along the dimensions.

        Parameters
        ----------
        **indices : object
            Name of a dimension to an int (the dimension is left out then), a slice, a boolean mask, or a
            sequence of ints.

        Returns
        -------
        SweepResult
            Their results.

        Raises
        ------
        UnknownAxisError
            Where there is no such dimension.
        UnknownIndexError
            Where a position is out of range.
        """
        picks: list[IntArray | None] = [None] * len(self.design.dims)
        squeezed = set(self.squeezed)
        for name, index in indices.items():
            axis = self._axis(name)
            found, single = _positions(name, index, self.design.shape[axis])
            picks[axis] = found
            squeezed |= {name} if single else set()
        return replace(self, design=self.design.taken(picks), squeezed=frozenset(squeezed), diagnostics=None)

    def sel(self, *, method: str | None = None, **labels: Any) -> SweepResult:
        """Return results at some values of the axes.

        Only the chunks that hold these points are read, and only when the results are looked at.

        Parameters
        ----------
        method : {"nearest"}, optional
            Take the nearest value of an axis of numbers or dates, in place of one that is not there.
        **labels : object
            Axis name to one value (the dimension is left out then), a list of values, or a slice of values,
            both ends included.

        Returns
        -------
        SweepResult
            Their results.

        Raises
        ------
        UnknownAxisError
            Where there is no such axis.
        UnknownValueError
            Where an axis does not have a value.
        """
        if method not in (None, "nearest"):
            raise SpecError(f"method must be 'nearest' or None, got {method!r}")
        indices: dict[str, Any] = {}
        for name, label in labels.items():
            dim, values = self._coord(name)
            found = _places(name, values, label, nearest=method == "nearest")
            if dim in indices:
                raise SpecError(
                    f"{name!r} runs along {dim!r}, as another axis named does; select them one by one"
                )
            indices[dim] = found
        return self.isel(**indices)

    def _axis(self, name: str) -> int:
        if name not in self.dims:
            raise UnknownAxisError(f"there is no dimension {name!r}; the dimensions are {list(self.dims)}")
        return self.design.dims.index(name)

    def _coord(self, name: str) -> tuple[str, Sequence[Any]]:
        there = self.design.coords
        if name not in there or there[name][0] in self.squeezed:
            left = [axis for axis, (dim, _) in there.items() if dim not in self.squeezed]
            raise UnknownAxisError(f"there is no axis {name!r} to select on; the axes are {left}")
        return there[name]

    # --- reading -------------------------------------------------------------------------------------------

    def read(self) -> Read:
        """Read all outputs.

        Returns
        -------
        Read
            The variables over all dimensions, those left out by a single label too, and the status.
        """
        read = self.design.read()
        if self.rerun is not None and bool((read.status == MISSING).any()):
            self.rerun()  # a file of a complete run was damaged since
            read = self.design.read()
        if read.variables or not read.status.size:
            return read
        shape = read.status.shape
        lacking = {
            name: Variable(name, spread(np.zeros((0, *trailing), dtype), np.ones(shape, bool)), len(shape))
            for name, (dtype, trailing) in forms_of(self.design).items()
        }
        return replace(read, variables=lacking)

    def to_numpy(self) -> Any:
        """Return the outputs as arrays.

        Returns
        -------
        ndarray, or dict of str to ndarray
            An array of the shape :attr:`shape` and, behind it, that of one output; a dict of such arrays where
            the function returns dicts, dataclasses, tuples or DataFrames. Where points are missing or failed,
            the arrays are masked, so that these are not taken for a NaN that the function returned.
        """
        read = self.read()
        found = {name: self._shaped(variable) for name, variable in read.variables.items()}
        if not found:
            return np.ma.MaskedArray(np.full(self.shape, np.nan), np.ones(self.shape, bool))
        return found[self.name] if list(found) == [self.name] else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return what :func:`numpy.asarray` makes of the results; what lacks is NaN, NaT or None.

        Parameters
        ----------
        dtype : dtype, optional
            That of the array.
        copy : bool, optional
            False is refused: the values are read.

        Returns
        -------
        ndarray
            The array.

        Raises
        ------
        SpecError
            Where there are several variables.
        """
        if copy is False:
            raise ValueError("the results are read from files, so that an array of them is always a copy")
        found = self.to_numpy()
        if isinstance(found, dict):
            raise SpecError(f"{self!r} has the variables {list(found)}; choose one by to_numpy()[…]")
        return np.asarray(filled(found), dtype)

    def _shaped(self, variable: Variable) -> Array:
        return variable.values.reshape((*self.shape, *variable.trailing))

    def to_xarray(
        self,
        *,
        chunks: Any = None,
        lazy: bool | None = None,
        dims: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
        status: bool | None = None,
    ) -> Any:
        """Return the results as an xarray Dataset.

        Parameters
        ----------
        chunks : mapping, int, "auto" or {}, optional
            Make Dask arrays that read chunk files in parallel: axis name to size; ``{}`` follows the stored
            chunks, ``"auto"`` puts neighbours together to about 64 MB.
        lazy : bool, optional
            Whether files are read when values are looked at. By default small results (64 MB) are read at once,
            and larger ones when looked at.
        dims : sequence of str, or mapping, optional
            Names of the dimensions of one output, where it is an array; a mapping from the name of a variable
            for several. Else ``metadata={"dims": …}`` of the memo counts, else they are numbered.
        status : bool, optional
            Whether a coordinate ``status`` (0 missing, 1 stored, 2 failed) is there; by default where not all
            points are stored.

        Returns
        -------
        xarray.Dataset
            The axes are coordinates, params are attributes, and ``metadata={"units": {…}, "long_name": {…}}``
            of the memo are those of the variables and axes. Where points lack there is NaN, NaT or None.

        Raises
        ------
        ImportError
            Where xarray is not installed.
        """
        from chunk_memo.tables import arrays

        return arrays.dataset(self, chunks=chunks, lazy=lazy, dims=dims, status=status)

    def to_arrow(self) -> Any:
        """Return the results as an Arrow table, one row for each point.

        Returns
        -------
        pyarrow.Table
            A column for each axis and each variable, and ``status`` where not all points are stored; arrays of
            one output are lists.

        Raises
        ------
        ImportError
            Where pyarrow is not installed.
        """
        from chunk_memo.tables import frames

        return frames.arrow_table(self)

    def to_pandas(self) -> Any:
        """Return the results as a pandas DataFrame, one row for each point.

        Returns
        -------
        pandas.DataFrame
            A column for each axis and each variable, and ``status`` where not all points are stored.

        Raises
        ------
        ImportError
            Where pandas is not installed.
        """
        from chunk_memo.tables import frames

        return frames.pandas_frame(self)

    def to_polars(self) -> Any:
        """Return the results as a polars DataFrame, one row for each point.

        Returns
        -------
        polars.DataFrame
            A column for each axis and each variable, and ``status`` where not all points are stored.

        Raises
        ------
        ImportError
            Where polars is not installed.
        """
        from chunk_memo.tables import frames

        return frames.polars_frame(self)

    def plot(
        self,
        x: str | None = None,
        y: str | None = None,
        *,
        hue: str | None = None,
        col: str | None = None,
        value: str | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw the results: a line for one axis, lines in colours or a map for two, a row of them for three.

        Parameters
        ----------
        x, y : str, optional
            Axes to draw along; without `y` the value is drawn as a line.
        hue : str, optional
            The axis whose values are lines of their own.
        col : str, optional
            The axis whose values are pictures of their own.
        value : str, optional
            The variable, where there are several.
        ax : matplotlib.axes.Axes, optional
            Where to draw a single picture.

        Returns
        -------
        matplotlib.axes.Axes, or ndarray of them
            What was drawn on.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        """
        from chunk_memo.display import plots

        return plots.plot_result(self, x=x, y=y, hue=hue, col=col, value=value, ax=ax)

    def plot_coverage(self, *, ax: Any = None) -> Any:
        """Draw which points are stored, missing and failed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        from chunk_memo.display import plots

        return plots.plot_coverage(self, ax=ax)


# --- labels to positions ------------------------------------------------------------------------------------


def _positions(name: str, index: Any, length: int) -> tuple[IntArray, bool]:
    """Return the positions that an index names, and whether it is a single one."""
    if isinstance(index, slice):
        return np.arange(*index.indices(length)), False
    array = np.asarray(index)
    if array.dtype == np.bool_ and array.ndim == 1:
        if len(array) != length:
            raise SpecError(f"a mask for {name!r} must have {length} entries, got {len(array)}")
        return np.flatnonzero(array), False
    if array.ndim == 1 and not array.size:
        return np.zeros(0, np.intp), False
    if array.ndim > 1 or array.dtype.kind not in "iu":
        raise SpecError(f"isel({name}=…) takes an int, a slice, a mask or a sequence of ints, got {index!r}")
    outside = array[(array < -length) | (array >= length)] if array.ndim else array
    if outside.size and (array.ndim or not -length <= operator.index(index) < length):
        raise UnknownIndexError(
            f"index {int(outside.reshape(-1)[0])} is out of range for {name!r} with {length} values"
        )
    return np.atleast_1d(array).astype(np.intp) % max(length, 1), array.ndim == 0


def _places(name: str, values: Sequence[Any], label: Any, *, nearest: bool) -> Any:
    """Return the positions at which labels stand along an axis."""
    if isinstance(label, slice):
        return _span(name, values, label)
    own = normalize(label)
    keys = keys_of_values(list(values), name)
    lookup: dict[bytes, int] = {}
    for position, key in enumerate(keys):
        lookup.setdefault(key, position)
    at = lookup.get(_key(own))
    if at is not None:
        return at
    several = own if isinstance(own, list | tuple | range | set | frozenset | np.ndarray) else None
    if several is None or (isinstance(several, np.ndarray) and not several.ndim):
        return _place(name, values, lookup, own, nearest=nearest)
    return [_place(name, values, lookup, normalize(one), nearest=nearest) for one in several]


def _key(value: Any) -> bytes:
    try:
        return canonical_bytes(value)
    except TypeError:
        return b""


def _place(name: str, values: Sequence[Any], lookup: Mapping[bytes, int], label: Any, *, nearest: bool) -> int:
    at = lookup.get(_key(label))
    if at is not None:
        return at
    try:
        for position, value in enumerate(values):  # 1 for 1.0: labels are told apart by value, as in xarray
            if type(value) is not bool and type(label) is not bool and bool(value == label):
                return position
        if nearest:
            distances = [abs(value - label) for value in values]
            return min(range(len(values)), key=distances.__getitem__)
    except (TypeError, ValueError):
        pass
    few = ", ".join(repr(value)[:80] for value in values[:5])
    more = f", … ({len(values)} values)" if len(values) > 5 else ""
    hint = "" if nearest else "; for the nearest number pass method='nearest'"
    raise UnknownValueError(f"axis {name!r} has no value {label!r:.200} here; it has {few}{more}{hint}")


def _span(name: str, values: Sequence[Any], label: slice) -> list[int]:
    """Return the positions of the values from one to another, both included."""
    if label.step is not None:
        raise SpecError(f"sel({name}=slice(…)) takes no step; use isel, whose slices are positions")
    try:
        return [
            position
            for position, value in enumerate(values)
            if (label.start is None or value >= label.start) and (label.stop is None or value <= label.stop)
        ]
    except TypeError:
        raise SpecError(
            f"the values of axis {name!r} have no order with {label.start!r} and {label.stop!r}; name the values"
            f" one by one, or use isel"
        ) from None
