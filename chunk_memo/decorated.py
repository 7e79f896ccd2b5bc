"""Decorated functions as users and their editors see them: :class:`SweepFunction`, and what decorators return.

There is no code here, only types; :mod:`chunk_memo.sweeps` makes what they describe. A decorated function is
called with more than its signature says: axes may be left out, lists stand for single values and single values
for lists, and a call has keywords of its own, such as ``refresh=``. The type system can keep the parameters of a
function (PEP 612), but neither loosen some of them nor add keywords. So each call has two overloads. The first is
the function's own signature: editors show it, complete its names, and tell the type of what comes back. The
second takes anything, so no call that works is reported; nor is one with a wrong argument, which is an error when
it is made. ``function.__wrapped__`` has the first signature only.

What comes back is known where blocks of outputs are put together by what they are: lists, arrays, dicts of
arrays and DataFrames come as they are returned. It is Any with ``vectorize=True``, which makes a list or an array
of what the function returns, and for outputs of other types, which come in a list, one entry for each block. A
``collate_fn`` of the memo is not seen; one of the decorator is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from chunk_memo.options import RunOptions

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt

    from chunk_memo.cache import ChunkCache
    from chunk_memo.failures import Failures
    from chunk_memo.identity import Explanation
    from chunk_memo.layers import GcReport
    from chunk_memo.plan import Plan
    from chunk_memo.results import SweepResult
    from chunk_memo.runners import Diagnostics
    from chunk_memo.status import CacheStatus
    from chunk_memo.versions import CodeVersion, Forgotten, Versions

__all__ = [
    "Block",
    "BlockDecorator",
    "CasesCall",
    "DecoratorOptions",
    "FrameLike",
    "Given",
    "Merged",
    "SampleCall",
    "SweepCall",
    "SweepDecorator",
    "SweepFunction",
    "SweepMethod",
    "Took",
]

Given = ParamSpec("Given")
"""The parameters of a function."""

Rest = ParamSpec("Rest")
"""The parameters of a method but for the object."""

Took = TypeVar("Took", covariant=True)
"""What a call returns."""

Merged = TypeVar("Merged")
"""What a ``collate_fn`` returns."""


class FrameLike(Protocol):
    """A DataFrame, as type checkers recognise those of pandas and polars."""

    @property
    def columns(self) -> Any:
        """The names of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""


Block = TypeVar("Block", bound="list[Any] | npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]] | FrameLike")
"""Outputs of many points, in a type that comes back as it is."""


class DecoratorOptions(RunOptions, total=False):
    """Keywords of the decorators that do not matter to types; see :meth:`ChunkMemo.cache`."""

    version: str | None
    name: str | None
    axis_order: Sequence[str] | None
    allow_pickle: bool | None
    compression: str | None
    depends_on: Sequence[Any]
    ignore: Sequence[str]
    on_code_change: Literal["recompute", "warn", "error"]
    new_params: Mapping[str, Any] | None
    renamed_from: str | Mapping[str, str] | Sequence[str | Mapping[str, str]]


class SweepCall(Protocol[Given, Took]):
    """What is called like the decorated function, with axis values that may be left out."""

    @overload
    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Took: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Took: ...


class CasesCall(Protocol):
    """What ``function.cases`` is; see :attr:`SweepFunction.cases`."""

    def __call__(self, points: Iterable[Any], /, *args: Any, **kwargs: Any) -> SweepResult:
        """Compute what is missing of a list of points, and return the results."""

    def plan(self, points: Iterable[Any], /, *args: Any, **kwargs: Any) -> Plan:
        """Return what that would read and run, and why.

        Parameters
        ----------
        points : iterable
            As in a call of ``cases``.
        *args, **kwargs : object
            As in a call of ``cases``.

        Returns
        -------
        Plan
            The plan, which prints well. Nothing is computed, and nothing on disk changes.
        """


class SampleCall(Protocol):
    """What ``function.sample`` is; see :attr:`SweepFunction.sample`."""

    def __call__(
        self, count: int, seed: int = 0, /, *, method: str = "random", log: Sequence[str] = (), **kwargs: Any
    ) -> SweepResult:
        """Compute what is missing of points drawn from ranges, and return the results."""

    def plan(
        self, count: int, seed: int = 0, /, *, method: str = "random", log: Sequence[str] = (), **kwargs: Any
    ) -> Plan:
        """Return what that would read and run, and why.

        Parameters
        ----------
        count : int
            Number of points.
        seed : int, default 0
            The seed.
        method : {"random", "sobol"}, default "random"
            How points are drawn.
        log : sequence of str, optional
            Axes whose range is drawn on a logarithmic scale.
        **kwargs : object
            As in a call of ``sample``.

        Returns
        -------
        Plan
            The plan, which prints well. Nothing is computed, and nothing on disk changes.
        """


class Parts(Protocol[Given]):
    """What a decorated function carries."""

    @property
    def __wrapped__(self) -> Callable[Given, Any]:
        """The function itself."""

    @property
    def __name__(self) -> str:
        """The function's name."""

    @property
    def sweep(self) -> SweepCall[Given, SweepResult]:
        """Compute what is missing of a call, and return its results with labels, read when they are looked at.

        It is called as the function is. The :class:`SweepResult` has ``to_xarray``, ``to_pandas``, ``sel``,
        ``plot`` and their like, and the run's ``diagnostics``.
        """

    @property
    def cases(self) -> CasesCall:
        """Compute what is missing of a list of points, which need not form a grid.

        ``cases(points, …)`` takes points as dicts of axis name to value, as tuples in axis order, or as values of
        the only axis; besides them the params, as in a call, and its options. An axis named there has that one
        value at all points. They may have values that no axis declares. What grids hold of them is read from
        there, and grids read what was computed here; a function that takes lists is called with a list of one
        value for each axis. It returns a :class:`SweepResult` along one dimension, ``case``, with the axes as its
        coordinates. ``cases.plan(points, …)`` says what that would read and run.
        """

    @property
    def sample(self) -> SampleCall:
        """Compute what is missing of points drawn from ranges.

        ``sample(count, seed, axis=…)`` takes for each axis a range ``(low, high)`` (of whole numbers where both
        are ints), a list of values to choose from, or one value; of axes left out declared values are drawn. The
        same seed draws the same points, and more of them begin with those. ``method="sobol"`` covers ranges more
        evenly, and needs SciPy; ``log=["axis"]`` draws on a logarithmic scale. Besides these it takes params and
        options as a call does, and returns what :attr:`cases` returns. ``sample.plan(count, seed, …)`` says what
        that would read and run.
        """

    @property
    def cache_status(self) -> SweepCall[Given, CacheStatus]:
        """Return what is stored of a call, and what is missing; see :meth:`ChunkCache.cache_status`."""

    @property
    def plan(self) -> SweepCall[Given, Plan]:
        """Return what a call would read and run, and why; see :meth:`ChunkCache.plan`."""

    @property
    def cache_for(self) -> SweepCall[Given, ChunkCache]:
        """Return the cache of a call's params, over the full axes."""

    @property
    def invalidate(self) -> SweepCall[Given, int]:
        """Let stored points of a call count as missing, so that the next call computes them anew.

        It returns the generation that supersedes them, 0 where none of them is stored.
        """

    @property
    def failures(self) -> SweepCall[Given, Failures]:
        """Return the points of a call at which the function failed; see :meth:`ChunkCache.failures`.

        They are a sequence, which prints as a table; ``failures()[0].reproduce()`` calls the function again as it
        was called then.
        """

    def versions(self) -> Versions:
        """Return the versions of the code that have results, oldest first, the current one last.

        Returns
        -------
        Versions
            A sequence, which prints as a table; each with dates, points and bytes, and the ``diff`` of the code
            from then to now: ``print(foo.versions()[0].diff)``.
        """

    def accept(self, version: CodeVersion | str | int | None = None) -> int:
        """Let the results of other code count for the code as it is now, for all params.

        A param that the other code did not have gets the value of ``new_params=``, else the default of the
        argument; its results count for that value. Nothing is copied, and nothing is executed.

        Parameters
        ----------
        version : CodeVersion, str, int or None
            One of :meth:`versions`, its digest or the start of it, its number; the newest other one by default.

        Returns
        -------
        int
            Number of combinations of params whose results count now.
        """

    def forget(
        self, version: CodeVersion | str | int, *, dry_run: bool = False, force: bool = False
    ) -> Forgotten:
        """Delete the results of a version of the code.

        Parameters
        ----------
        version : CodeVersion, str or int
            One of :meth:`versions`, its digest or the start of it, or its number.
        dry_run : bool, default False
            Whether to tell only.
        force : bool, default False
            Whether to delete results of the current code, and such as were accepted for other code.

        Returns
        -------
        Forgotten
            What was deleted.
        """

    def gc(self, *, grace: float = 3600.0, dry_run: bool = False, quarantine: bool = False) -> GcReport:
        """Remove files that no call reads any more; see :meth:`ChunkCache.gc`.

        Parameters
        ----------
        grace : float, default 3600.0
            Seconds for which files are kept that another process might be writing or reading.
        dry_run : bool, default False
            Whether to tell only.
        quarantine : bool, default False
            Whether to remove damaged files that were set aside, too.

        Returns
        -------
        GcReport
            What was removed of all caches of the function.
        """

    def explain_identity(self) -> Explanation:
        """Return what is noticed when it changes, and what is not.

        Returns
        -------
        Explanation
            It prints well.
        """


class SweepFunction(Parts[Given], Protocol[Given, Took]):
    """A decorated function: called like the function itself, with axis values that may be left out.

    A call returns the outputs of a request and its diagnostics; of ``stream_cache`` the latter alone.
    """

    @overload
    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Took: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Took: ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...

    @overload
    def __get__(
        self: SweepFunction[Concatenate[Any, Rest], Took], instance: object, owner: type | None = None, /
    ) -> SweepMethod[Rest, Concatenate[Any, Rest], Took]: ...


class SweepMethod(Parts[Given], Protocol[Rest, Given, Took]):
    """A decorated method of an object: what it carries takes the object as its first argument."""

    @overload
    def __call__(self, *args: Rest.args, **kwargs: Rest.kwargs) -> Took: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Took: ...


class SweepDecorator(Protocol[Took]):
    """A decorator after which a call returns the same, whatever the function does."""

    def __call__(self, function: Callable[Given, Any], /) -> SweepFunction[Given, Took]:
        """Return the decorated function."""


class BlockDecorator(Protocol):
    """A decorator after which a call returns outputs as the function does, where their type is one of blocks."""

    @overload
    def __call__(
        self, function: Callable[Given, Block], /
    ) -> SweepFunction[Given, tuple[Block, Diagnostics]]: ...

    @overload
    def __call__(self, function: Callable[Given, Any], /) -> SweepFunction[Given, tuple[Any, Diagnostics]]: ...
