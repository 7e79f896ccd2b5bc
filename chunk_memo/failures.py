"""Points whose function failed: one failure, its marker among the outputs, and the table of all.

A failure says which points, what was raised, where and when. It holds the values along each axis of the call that
it belongs to, and the numbers of the points that failed out of these: so a thousand failures of one chunk share
their values, in memory, on the way from a worker and on disk (:mod:`chunk_memo.ledger`), and none of them depends
on how a cache numbers its points.
"""

from __future__ import annotations

import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from chunk_memo.errors import SpecError
from chunk_memo.grid import IntArray
from chunk_memo.identity import Opaque
from chunk_memo.travel import packed, unpacked

__all__ = ["Failed", "Failure", "Failures", "Tally", "shown_arguments"]

_MOST_MESSAGE = 10_000
"""Characters that are kept of what an exception said."""

_MOST_TRACEBACK = 100_000
"""Characters that are kept of a traceback; of a longer one the last."""

_MOST_SHOWN = 100
"""Rows that a table prints."""

_PACKAGE = str(Path(__file__).parent) + os.sep


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failure:
    """Points of one call that failed together: the one of a function of single values, or all of a chunk.

    Examples
    --------
    >>> try:
    ...     1 / 0
    ... except ZeroDivisionError as error:
    ...     failure = Failure.of(error, "0" * 32, ("s",), ((0,),), worker="here:1", failed_at=0)
    >>> failure
    Failure(ZeroDivisionError: division by zero, at s=[0])
    >>> failure.reproduce(lambda s: [1 / value for value in s])
    Traceback (most recent call last):
        ...
    ZeroDivisionError: division by zero
    """

    chunk_hash: str
    """Name of the chunk's file, without suffix."""
    order: tuple[str, ...]
    """Names of the axes in axis order."""
    values: tuple[Sequence[Any], ...]
    """Values along each axis of the call, or of all calls of the chunk."""
    rows: IntArray | None
    """Which points of their product failed, row-major; None for all of them."""
    vectorize: bool
    """Whether the function takes single values."""
    cause: str
    """``"raised"``, ``"misfit"`` (what it returned does not fit), ``"killed"`` or ``"timed out"``."""
    error_type: str
    """Name of the exception's class."""
    message: str
    """What it said."""
    traceback: str
    """The traceback as text."""
    worker: str
    """Host and process id, ``"host:pid"``."""
    failed_at: int
    """When, in nanoseconds since 1970 (UTC)."""
    seconds: float
    """Seconds that the attempt took."""
    attempts: int = 1
    """How often these points failed so far."""
    record: tuple[str, int] | None = None
    """Name of the file that holds it, and its number there; None where it is not on disk."""
    function: Callable[..., Any] | None = None
    """The function of the axes, where it is known; it is not kept on disk."""
    held: Any = None
    """The exception, or the bytes that it travelled as; see :attr:`exception`."""

    @classmethod
    def of(
        cls,
        error: BaseException,
        chunk_hash: str,
        order: tuple[str, ...],
        values: tuple[Sequence[Any], ...],
        rows: IntArray | None = None,
        *,
        vectorize: bool = False,
        worker: str,
        failed_at: int,
        seconds: float = 0.0,
        cause: str = "raised",
    ) -> Failure:
        """Return the failure that an exception stands for.

        Parameters
        ----------
        error : BaseException
            The exception.
        chunk_hash : str
            Name of the chunk's file.
        order : tuple of str
            Names of the axes.
        values : tuple of sequence
            Values along each.
        rows : ndarray of intp, optional
            Which points of their product failed; all of them by default.
        vectorize : bool, default False
            Whether the function takes single values.
        worker : str
            Host and process id.
        failed_at : int
            Nanoseconds since 1970.
        seconds : float, default 0.0
            Seconds that the attempt took.
        cause : str, default "raised"
            What kind of failure it is.

        Returns
        -------
        Failure
            The failure.
        """
        return cls(
            chunk_hash,
            order,
            values,
            rows,
            vectorize,
            cause,
            type(error).__qualname__,
            _said(error),
            _traced(error),
            worker,
            failed_at,
            seconds,
            held=error,
        )

    @property
    def exception(self) -> BaseException | None:
        """The exception itself, in the process that made or received it; it is not kept on disk."""
        if isinstance(self.held, bytes):
            error = _received(self.held) or RuntimeError(f"{self.error_type}: {self.message}")
            error.__cause__ = _ElsewhereError(self.traceback)
            object.__setattr__(self, "held", error)
        held: BaseException | None = self.held
        return held

    @property
    def points(self) -> int:
        """Number of points that failed."""
        return math.prod(map(len, self.values)) if self.rows is None else len(self.rows)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the function was called with, of its axes: lists, or single values where it takes such."""
        if self.vectorize and self.points == 1:
            return next(self.each())
        return {name: list(values) for name, values in zip(self.order, self.values, strict=True)}

    def each(self) -> Iterator[dict[str, Any]]:
        """Iterate over the points that failed.

        Yields
        ------
        dict
            Axis name to value.
        """
        shape = tuple(map(len, self.values))
        rows = np.arange(math.prod(shape)) if self.rows is None else self.rows
        along = [at.tolist() for at in np.unravel_index(rows, shape)] if shape else []
        for number in range(len(rows)):
            named = zip(self.order, self.values, along, strict=True)
            yield {name: values[at[number]] for name, values, at in named}

    def reproduce(self, function: Callable[..., Any] | None = None) -> Any:
        """Call the function again as it was called then, in this process: what it raises, a debugger can look at.

        A function of single values is called for each point that failed. Nothing is stored.

        Parameters
        ----------
        function : callable, optional
            The function of the axes; of a failure out of ``foo.failures()`` it is known.

        Returns
        -------
        object
            What it returned, should it not fail this time: a list where it was called for several points.

        Raises
        ------
        SpecError
            Where the function is not known, or an argument of then cannot be had again.
        """
        function = function or self.function
        if function is None:
            raise SpecError(
                f"{self!r} does not know its function; pass it: failure.reproduce(foo), or take the failure from"
                f" foo.failures(…), which knows"
            )
        for name, values in zip(self.order, self.values, strict=True):
            if any(isinstance(value, Opaque) for value in values):
                raise SpecError(
                    f"a value of {name!r} cannot be rebuilt from its record; import the module that defines its"
                    f" class, or open the cache with the values declared, and take failures() again"
                )
        if not self.vectorize:
            return function(**self.arguments)
        outputs = [function(**point) for point in self.each()]
        return outputs[0] if len(outputs) == 1 else outputs

    def to_dict(self, *, as_text: bool = False) -> dict[str, Any]:
        """Return what is known as a row of a table.

        Parameters
        ----------
        as_text : bool, default False
            Whether arguments and the time come as texts, so that JSON can hold the row.

        Returns
        -------
        dict
            Its ``chunk``, ``points``, ``arguments``, ``cause``, ``error``, ``message``, ``worker``, ``time``
            (UTC), ``attempts``, ``seconds`` and ``traceback``.
        """
        from datetime import UTC, datetime

        when = datetime.fromtimestamp(self.failed_at / 1e9, UTC)
        return {
            "chunk": self.chunk_hash,
            "points": self.points,
            "arguments": shown_arguments(self.arguments) if as_text else self.arguments,
            "cause": self.cause,
            "error": self.error_type,
            "message": self.message,
            "worker": self.worker,
            "time": when.isoformat(timespec="seconds") if as_text else when,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "traceback": self.traceback,
        }

    def without_exception(self) -> Failure:
        """Return the same without the exception, which would keep alive whatever the function worked on.

        Returns
        -------
        Failure
            The failure.
        """
        return replace(self, held=None)

    def __repr__(self) -> str:
        """Return the error, shortened, and the arguments."""
        return f"Failure({_headline(self)}, at {shown_arguments(self.arguments)})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels; an exception that cannot is left behind."""
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        held = self.held if self.held is None or isinstance(self.held, bytes) else _sent(self.held)
        return {**state, "held": held, "function": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what travelled."""
        for name, value in state.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failed:
    """What stands among the outputs in place of that of a point that failed; it is false.

    Examples
    --------
    >>> failure = Failure.of(ValueError("too small"), "0" * 32, (), (), worker="here:1", failed_at=0)
    >>> [output for output in (1.5, Failed(failure), 2.5) if output]
    [1.5, 2.5]
    >>> Failed(failure)
    Failed(ValueError: too small)
    """

    failure: Failure
    """What is known of it."""

    def __bool__(self) -> bool:
        """Return False."""
        return False

    def __repr__(self) -> str:
        """Return the error, shortened."""
        return f"Failed({_headline(self.failure)})"


def _headline(failure: Failure) -> str:
    said = _cut(_line(failure.message), 200).rstrip()
    return f"{failure.error_type}: {said}" if said else failure.error_type


def shown_arguments(arguments: Mapping[str, Any]) -> str:
    """Return arguments for people, long lists cut short.

    Parameters
    ----------
    arguments : mapping
        Name to value.

    Returns
    -------
    str
        A line.

    Examples
    --------
    >>> shown_arguments({"s": list(range(100)), "strat": ["a"]})
    "s=[0, …, 99] (100 values), strat=['a']"
    """
    texts = []
    for name, value in arguments.items():
        if isinstance(value, list) and len(value) > 6:
            texts.append(f"{name}=[{value[0]!r}, …, {value[-1]!r}] ({len(value)} values)")
        else:
            texts.append(f"{name}={value!r}")
    return ", ".join(texts) or "its one point"


# --- exceptions ----------------------------------------------------------------------------------------------


def _said(error: BaseException) -> str:
    try:
        return str(error)[:_MOST_MESSAGE]
    except Exception as wrong:  # a class may fail at that, too
        return f"<its message cannot be had: {type(wrong).__name__}>"


def _traced(error: BaseException) -> str:
    """Return the traceback from the first frame on that is not this library's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_ours(trace):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception as wrong:  # it looks into the exception, which may refuse
        text = f"{type(error).__qualname__}: its traceback cannot be had ({type(wrong).__name__})\n"
    return text if len(text) <= _MOST_TRACEBACK else f"…\n{text[-_MOST_TRACEBACK:]}"


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)


class _ElsewhereError(Exception):
    """Shows the traceback of another process above the exception that came from there."""

    def __str__(self) -> str:
        return f"in the worker\n\n{self.args[0]}"


def _sent(error: BaseException) -> bytes | None:
    """Return an exception as bytes; of one whose class needs other arguments than it keeps, what it holds."""
    for form in (error, _Bare(type(error), error.args, error.__dict__)):
        try:
            data = packed(form)
            if isinstance(unpacked(data), type(error)):
                return data
        except Exception:
            continue
    return b""


class _Bare:
    """An exception as class, arguments and members."""

    def __init__(self, kind: type[BaseException], args: tuple[Any, ...], members: dict[str, Any]) -> None:
        self._parts = (kind, args, members)

    def __reduce__(self) -> Any:
        return _rebuilt, self._parts


def _rebuilt(kind: type[BaseException], args: tuple[Any, ...], members: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(members)
    return error


def _received(data: bytes) -> BaseException | None:
    try:
        error = unpacked(data) if data else None
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


# --- the table -----------------------------------------------------------------------------------------------


class Failures(Sequence[Failure]):
    """Points that failed and are not stored since; prints as a table.

    Parameters
    ----------
    failures : iterable of Failure
        The failures, in the order in which they are listed.
    forget : callable, optional
        Called with failures whose records shall go.

    Examples
    --------
    >>> Failures([])
    no failures
    """

    __slots__ = ("_failures", "_forget")

    def __init__(
        self, failures: Iterable[Failure], forget: Callable[[Sequence[Failure]], None] | None = None
    ) -> None:
        self._failures = tuple(failures)
        self._forget = forget

    def __len__(self) -> int:
        """Return the number of failures."""
        return len(self._failures)

    @overload
    def __getitem__(self, index: int) -> Failure: ...
    @overload
    def __getitem__(self, index: slice) -> Failures: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one failure, or some."""
        if isinstance(index, slice):
            return Failures(self._failures[index], self._forget)
        return self._failures[index]

    @property
    def points(self) -> int:
        """Number of points that failed."""
        return sum(failure.points for failure in self)

    def of(self, function: Callable[..., Any]) -> Failures:
        """Return the same as failures of a function, which they then can call.

        Parameters
        ----------
        function : callable
            The function of the axes.

        Returns
        -------
        Failures
            The failures.
        """
        return Failures((replace(each, function=function) for each in self), self._forget)

    def only(self, chosen: Callable[[Failure], bool]) -> Failures:
        """Return some of the failures.

        Parameters
        ----------
        chosen : callable
            Tells which.

        Returns
        -------
        Failures
            Those.
        """
        return Failures(filter(chosen, self), self._forget)

    def clear(self) -> None:
        """Delete the records of these failures: their points count as never run, and ``retry=`` runs them."""
        if self._forget is not None and self._failures:
            self._forget(self._failures)
        self._failures = ()

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each failure.

        Returns
        -------
        list of dict
            As :meth:`Failure.to_dict` returns them.
        """
        return [failure.to_dict() for failure in self]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each failure.

        Returns
        -------
        pandas.DataFrame
            The columns are those of :meth:`Failure.to_dict`.

        Raises
        ------
        ImportError
            Where pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise ImportError(
                "a DataFrame of failures needs the package 'pandas', which is not installed; run"
                " `pip install 'chunk-memo[frames]'`, or use to_dicts()"
            ) from None
        return pd.DataFrame(self.to_dicts(), columns=list(_EMPTY.to_dict()))

    def __repr__(self) -> str:
        """Return the table."""
        return str(self)

    def __str__(self) -> str:
        """Return a line for each failure, no wider than the terminal."""
        if not self._failures:
            return "no failures"
        import shutil

        rows = [_row(failure) for failure in self._failures[:_MOST_SHOWN]]
        lines = _aligned(rows, shutil.get_terminal_size().columns)
        return "\n".join((*lines, *self._more()))

    def _more(self) -> list[str]:
        left = len(self) - _MOST_SHOWN
        return [f"… and {left} more; to_dicts() and to_frame() give all"] if left > 0 else []

    def _repr_html_(self) -> str:
        """Return the table, for a notebook."""
        from chunk_memo.display.notebook import html_of_failures

        return html_of_failures(self)


_EMPTY = Failure("", (), (), None, False, "", "", "", "", "", 0, 0.0)

_COLUMNS = ("chunk", "points", "arguments", "cause", "error", "message", "worker", "time", "attempts")
_WIDE = {"message": 24, "arguments": 40, "worker": 12, "error": 20}
"""Columns that are cut to fit, from the one that is cut first, and how far before others are left out."""
_DISPENSABLE = ("worker", "cause", "time", "chunk", "attempts")
"""Columns that are left out where even that is not enough, from the first on."""
_LEAST = 8
"""Characters that any column keeps."""


def _row(failure: Failure) -> dict[str, str]:
    """Return the cells of a failure in the printed table."""
    local = time.localtime(failure.failed_at / 1e9)
    return {
        "chunk": failure.chunk_hash[:8],
        "points": str(failure.points),
        "arguments": _line(shown_arguments(failure.arguments)),
        "cause": failure.cause,
        "error": failure.error_type,
        "message": _line(failure.message),
        "worker": failure.worker,
        "time": time.strftime("%Y-%m-%d %H:%M:%S", local),
        "attempts": str(failure.attempts),
    }


def _line(text: str) -> str:
    """Return a text without what would break a line, or move the cursor."""
    text = " ".join(text[:1000].split())
    return "".join(char if char.isprintable() else "�" for char in text)


def _aligned(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """Return lines no longer than that, if that can be: columns are cut first, and left out then."""
    names = list(_COLUMNS)
    full = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    sizes = dict(full)
    _narrow(names, sizes, width, _WIDE)
    for name in _DISPENSABLE:
        if _total(names, sizes) > width:
            names.remove(name)
    _narrow(names, sizes, width, dict.fromkeys(_WIDE, _LEAST))
    for name in reversed(_WIDE):  # what was left out may have made room
        if name in names:
            sizes[name] = min(full[name], sizes[name] + max(0, width - _total(names, sizes)))
    head = {name: name for name in names}
    return ["  ".join(_cut(row[name], sizes[name]) for name in names).rstrip() for row in (head, *rows)]


def _narrow(names: Sequence[str], sizes: dict[str, int], width: int, least: Mapping[str, int]) -> None:
    """Cut wide columns to fit, none to less than that."""
    for name in _WIDE:
        if name in names and sizes[name] > least[name]:
            sizes[name] = max(least[name], sizes[name] - max(0, _total(names, sizes) - width))


def _total(names: Sequence[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] for name in names) + 2 * (len(names) - 1)


def _cut(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[: size - 1]}…"


# --- the end of a run ----------------------------------------------------------------------------------------


class Tally:
    """What a run remembers of failures to sum them up at the end: counts, and the first.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add(Failure.of(ValueError("too small"), "0" * 32, ("s",), ((0, 1),), worker="here:1", failed_at=0))
    >>> print(tally.text("foo", kept=True))
    2 points of 'foo' failed, in 1 chunk: 2 × ValueError
    first: ValueError: too small, at s=[0, 1] (chunk 00000000000000000000000000000000, here:1)
    What did not fail is stored. cache.failures(), or foo.failures() of the decorated function, lists the ...
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._chunks: set[str] = set()
        self._first: Failure | None = None

    def __bool__(self) -> bool:
        """Tell whether anything failed, now or before."""
        return self._first is not None

    def add(self, failure: Failure, left_out: int = 0) -> None:
        """Take note of a failure.

        Parameters
        ----------
        failure : Failure
            The failure.
        left_out : int, default 0
            How many of its points were left out because of it; 0 for one of this run.
        """
        if self._first is None or (left_out == 0 and not self._counts):
            self._first = failure
        if left_out:
            self._left_out[failure.error_type] += left_out
        else:
            self._counts[failure.error_type] += failure.points
        self._chunks.add(failure.chunk_hash)

    def text(self, name: str, *, kept: bool) -> str:
        """Return the summary.

        Parameters
        ----------
        name : str
            The function's name, empty where it is not known.
        kept : bool
            Whether there are records on disk.

        Returns
        -------
        str
            A few lines.
        """
        assert self._first is not None
        called = repr(name) if name else "the function"
        where = f"in {_counted(len(self._chunks), 'chunk')}"
        lines = []
        if self._counts:
            total = _counted(self._counts.total(), "point")
            lines.append(f"{total} of {called} failed, {where}: {_by_type(self._counts)}")
        if self._left_out:
            total = _counted(self._left_out.total(), "point")
            more = "" if self._counts else f", {where}"
            again = " more" if self._counts else f" of {called}"
            lines.append(f"{total}{again} failed before and were left out{more}: {_by_type(self._left_out)}")
        first = self._first
        lines.append(
            f"first: {first.error_type}: {first.message[:1000]}, at {shown_arguments(first.arguments)}"
            f" (chunk {first.chunk_hash}, {first.worker})"
        )
        lines.append(f"What did not fail is stored. {self._way_out(name, kept=kept)}")
        return "\n".join(lines)

    def _way_out(self, name: str, *, kept: bool) -> str:
        if not kept:
            return "This cache keeps no records of failures: the next call runs these points again"
        short = name.rpartition(".")[2]
        decorated = f", or {short}.failures() of the decorated function," if short.isidentifier() else ""
        again = "retry='failed' runs these points again"
        if self._counts:
            again = "the next call runs these points again, unless retry= says otherwise"
        return (
            f"cache.failures(){decorated} lists the records; failure.reproduce() calls the function as it was"
            f" called then; {again}"
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _by_type(counts: Counter[str]) -> str:
    shown = [f"{count} × {kind}" for kind, count in counts.most_common(_MOST_TYPES)]
    rest = counts.total() - sum(count for _, count in counts.most_common(_MOST_TYPES))
    return ", ".join(shown) + (f", {rest} of other types" if rest else "")


_MOST_TYPES = 5
"""So many types of errors are named."""
