"""How a run goes about its work: where it computes, what it does when a point fails, how often it commits.

None of this is part of what a result is known by. The same options are taken by the runners, by the decorators
and by a single call; what a call says goes before what the decorator said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict

from chunk_memo.errors import SpecError, did_you_mean

__all__ = ["OPTION_NAMES", "Options", "RunOptions", "WorkOptions"]


class WorkOptions(TypedDict, total=False):
    """Keywords that every runner takes; what they mean is said at :class:`Options`."""

    by_value: bool
    share: bool
    on_error: Literal["raise", "record"]
    retry: Literal["failed", "never"] | int
    timeout: float | None
    flush_every: float


class RunOptions(WorkOptions, total=False):
    """Keywords that every runner, the decorators and a decorated function's calls take."""

    map_fn: Any
    map_fn_kwargs: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes about its work.

    Examples
    --------
    >>> Options().updated({"on_error": "record"}).on_error
    'record'
    """

    map_fn: Any = None
    """Where chunks are computed: None for this process, one chunk after the other; a function like ``map``; a
    ``concurrent.futures.Executor``, a ``multiprocessing.Pool``, a Dask ``Client``; or the name of a map:
    ``"processes"``, ``"threads"``, ``"joblib"``, ``"dask"``, ``"ray"``, ``"mpi"``."""
    map_fn_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keywords for ``map_fn``: of a function those that it takes, of a name such as ``workers``."""
    by_value: bool = False
    """Whether outputs travel back and are stored by this process, for workers that do not see the root."""
    share: bool = False
    """Whether other processes may be at work on the same call: each chunk is claimed before it is computed."""
    on_error: Literal["raise", "record"] = "raise"
    """``"raise"``: finish what is running, keep it, and raise the first error; ``"record"``: keep a record of
    each point that failed, go on, and sum up at the end."""
    retry: Literal["failed", "never"] | int = "failed"
    """What to do with points that failed before: run them again (``"failed"``), never, or while they failed less
    often than so many times."""
    timeout: float | None = None
    """Seconds that one chunk may take, where workers can be ended; None for no limit."""
    flush_every: float = 30.0
    """Seconds after which the points done of a chunk are committed, for functions of single points."""

    def updated(self, given: Mapping[str, Any]) -> Options:
        """Return these options with others in their place.

        Parameters
        ----------
        given : mapping
            Option to value; ``map_fn`` with None means this process.

        Returns
        -------
        Options
            Checked options.

        Raises
        ------
        SpecError
            Where a name or a value cannot be.
        """
        if not given:
            return self
        unknown = sorted(set(given) - OPTION_NAMES)
        if unknown:
            near = did_you_mean(unknown[0], OPTION_NAMES)
            raise SpecError(f"{unknown[0]!r} is no option of a run{near}; the options are {sorted(OPTION_NAMES)}")
        kept = {name: value for name, value in given.items() if name != "map_fn_kwargs"}
        if "map_fn_kwargs" in given:
            kept["map_fn_kwargs"] = _checked_kwargs(given["map_fn_kwargs"])
        elif "map_fn" in given:
            kept["map_fn_kwargs"] = {}
        made = replace(self, **kept)
        made.check()
        return made

    def given(self) -> RunOptions:
        """Return the options as keywords of a runner.

        Returns
        -------
        dict
            Option to value.
        """
        return RunOptions(
            map_fn=self.map_fn,
            map_fn_kwargs=self.map_fn_kwargs,
            by_value=self.by_value,
            share=self.share,
            on_error=self.on_error,
            retry=self.retry,
            timeout=self.timeout,
            flush_every=self.flush_every,
        )

    def check(self) -> None:
        """Refuse values that cannot be."""
        for name in ("by_value", "share"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.on_error not in ("raise", "record"):
            raise SpecError(f"on_error must be 'raise' or 'record', got {self.on_error!r}")
        if self.retry not in ("failed", "never") and not _is_count(self.retry):
            raise SpecError(f"retry must be 'failed', 'never' or a number of attempts, got {self.retry!r}")
        if self.timeout is not None and not _is_duration(self.timeout):
            raise SpecError(f"timeout must be a number of seconds above 0, or None, got {self.timeout!r}")
        if not _is_duration(self.flush_every):
            raise SpecError(f"flush_every must be a number of seconds above 0, got {self.flush_every!r}")


OPTION_NAMES = frozenset(each.name for each in fields(Options))
"""The names of all options."""


def _checked_kwargs(given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise SpecError(f"map_fn_kwargs must map keywords of map_fn to values, got {given!r}")
    return dict(given or {})


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_duration(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value > 0 and not math.isnan(value)
