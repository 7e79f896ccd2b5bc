"""Decorated functions: :class:`Sweep` takes calls apart and runs them.

Users, and their editors, see a :class:`~chunk_memo.decorated.SweepFunction`.

A decorated function is part of its cache's identity: its name, a digest of its code (or an explicit
``version=``) and its arguments that are not axes; what a method or a partial has bound counts like an argument.
The wrapper is a plain function, so it decorates methods too (``cache_status``, ``plan`` and the like of a
decorated method take the object as their first argument). A call for one stored point with plain arguments has
a short path of its own, which asks whether the code is what it was and otherwise touches a dict and a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import operator
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chunk_memo import maps
from chunk_memo.cache import ChunkCache
from chunk_memo.errors import (
    IdentityError,
    IdentityWarning,
    SignatureError,
    SpecError,
    caller_level,
    did_you_mean,
)
from chunk_memo.events import Observer, checked_observers
from chunk_memo.failures import Failures
from chunk_memo.grid import Grid
from chunk_memo.identity import (
    Explanation,
    FunctionIdentity,
    canonical_bytes,
    identify_function,
    normalize,
    unwrap,
)
from chunk_memo.layers import GcReport
from chunk_memo.lineage import POLICIES, Lineage, collected
from chunk_memo.options import OPTION_NAMES, Options
from chunk_memo.outputs import KINDS
from chunk_memo.plan import Plan
from chunk_memo.runners import Diagnostics, run, run_streaming
from chunk_memo.status import CacheStatus
from chunk_memo.versions import (
    Code,
    CodeVersion,
    Evolution,
    Forgotten,
    History,
    Predecessor,
    Versions,
    code_of,
    identity_of,
)

if TYPE_CHECKING:
    from chunk_memo.cases import PointList
    from chunk_memo.results import SweepResult

__all__ = ["Settings", "Sweep"]

_MOST_CACHES = 256
_CALL_OPTIONS = ("axis_indices", "extend_cache", "observers", "refresh", *sorted(OPTION_NAMES))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a decorator was called with; see :meth:`ChunkMemo.cache`."""

    params_arg: Any
    """name of an argument that takes a dict of params; the function, under a decorator without parentheses"""
    version: str | None
    """replaces the digest of the code"""
    name: str | None
    """replaces the qualified name"""
    vectorize: bool
    """whether the function takes single values"""
    outputs: str | None
    """the kind of output"""
    collate_fn: Callable[[list[Any]], Any] | None
    """used in place of the memo's own"""
    axis_order: Sequence[str] | None
    """the order in which outputs run over the axes"""
    allow_pickle: bool | None
    """whether outputs may be pickled"""
    compression: str | None
    """used in place of the memo's own"""
    depends_on: tuple[Any, ...]
    """what counts besides what is reached"""
    ignore: tuple[str, ...]
    """arguments that are no part of the identity"""
    on_code_change: str
    """one of ``POLICIES``"""
    evolution: Evolution
    """what ``renamed_from`` and ``new_params`` declare"""
    streaming: bool
    """whether outputs are stored only"""
    options: Options
    """how runs go about their work, where a call says nothing else"""

    def check(self) -> None:
        """Refuse what no function could be decorated with."""
        if self.outputs is not None and self.outputs not in KINDS:
            raise SpecError(f"outputs must be one of {list(KINDS)} or None, got {self.outputs!r}")
        if self.outputs is not None and self.vectorize:
            raise SpecError(
                f"outputs={self.outputs!r} says what a call for many points returns, and with vectorize=True a"
                f" call is for one; leave one of the two out"
            )
        given: dict[str, Any] = {"version": self.version, "name": self.name}
        for name, value in given.items():
            if value is not None and (not isinstance(value, str) or not value):
                raise SpecError(f"{name} must be a non-empty string, got {value!r}; write {name}={str(value)!r}")
        if self.on_code_change not in POLICIES:
            raise SpecError(f"on_code_change must be one of {list(POLICIES)}, got {self.on_code_change!r}")
        if self.options.map_fn is not None:
            maps.check(self.options)

    def plain(self) -> Settings:
        """Return the same with the default name of the params argument.

        Returns
        -------
        Settings
            The settings.
        """
        return dataclasses.replace(self, params_arg="params")


class _Memo(Protocol):
    """What a decorated function needs of its memo."""

    root: Path
    """The folder of caches."""
    metadata: dict[str, Any]
    """The user's own."""
    history: History
    """What lies in the root."""

    @property
    def axis_values(self) -> dict[str, list[Any]]:
        """The declared values of each axis."""

    def grid_for(self, order: Sequence[str]) -> Grid:
        """Return the declared grid in an axis order."""

    def cache_for_function(
        self,
        identity: bytes,
        describe: Callable[[], Mapping[str, Any]],
        order: tuple[str, ...],
        name: str,
        **options: Any,
    ) -> ChunkCache:
        """Return the cache of a decorated function and its params."""

    def drop(self, cache_ids: Sequence[str]) -> None:
        """Forget caches that were deleted."""

    def placing(self) -> dict[str, Any]:
        """Return how caches of this memo name and place their files."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, taken apart."""

    params: dict[str, Any]
    axes: dict[str, Any]
    axis_indices: Mapping[str, Any] | None
    extend_cache: bool
    refresh: bool
    observers: tuple[Observer, ...]
    options: dict[str, Any]


class Sweep:
    """A decorated function: takes calls apart, finds the cache, runs.

    Parameters
    ----------
    memo : ChunkMemo
        The memo that it belongs to.
    function : callable
        The function.
    settings : Settings
        What the decorator was called with.

    Raises
    ------
    SignatureError
        Where the function is async, a generator, or lacks an argument for an axis.
    SpecError
        Where the settings name arguments that it does not have.
    """

    def __init__(self, memo: _Memo, function: Callable[..., Any], settings: Settings) -> None:
        self._memo = memo
        self._function = function
        self._settings = settings
        _refuse_async(function)
        _refuse_twice(function)
        self._signature = _signature(function)
        self._parameters = self._signature.parameters
        kinds = [p.kind for p in self._parameters.values()]
        self._takes_any = inspect.Parameter.VAR_KEYWORD in kinds
        self._axes = list(memo.axis_values)
        self._check_axes()
        self._check_names()
        self._order = self._axis_order()
        self._grid = memo.grid_for(self._order)
        self._check_new_axes()
        self._name = settings.name or _qualname(function)
        self._ignored = frozenset(settings.ignore)
        self._code, self._bound = _unbound(function)
        self._identities: dict[type | None, FunctionIdentity] = {}
        self._lineage = self._new_lineage()
        place, _, self._short_name = _qualname(function).rpartition(".")
        self._may_be_method = bool(place) and not place.endswith("<locals>")
        plain = inspect.isfunction(function) and not self._may_be_method
        plain = plain and all(kind in (_EITHER, inspect.Parameter.KEYWORD_ONLY) for kind in kinds)
        self._names = [p.name for p in self._parameters.values() if p.kind is _EITHER] if plain else None
        apart = {*self._axes, *self._ignored}
        self._defaults = {n: p.default for n, p in self._parameters.items() if n not in apart}
        self._plain_caches: dict[tuple[Any, ...], ChunkCache] = {}
        self._plain_identity: FunctionIdentity | None = None
        self._wrapper: Callable[..., Any] = function

    def _new_lineage(self) -> Lineage:
        memo, settings = self._memo, self._settings
        return Lineage(
            memo.history,
            memo.root,
            self._name,
            settings.on_code_change,
            settings.version,
            settings.evolution.without(self._axes),
            memo.placing(),
            {name: value for name, value in settings.evolution.added.items() if name in self._axes},
        )

    def _check_axes(self) -> None:
        lacking = [name for name in self._axes if name not in self._parameters]
        if lacking and not self._takes_any:
            raise SignatureError(
                f"{_qualname(self._function)!r} has no argument for the axis {lacking[0]!r}; its arguments are"
                f" {list(self._parameters)}: add one, or leave the axis out of axis_values"
            )
        for name in self._axes:
            parameter = self._parameters.get(name)
            if parameter is not None and parameter.kind in _GATHERING:
                raise SignatureError(
                    f"axis {name!r} of {_qualname(self._function)!r} cannot be '{parameter}'; make it an ordinary"
                    f" argument"
                )

    def _check_names(self) -> None:
        """Refuse settings that name an axis as a param, or an argument that is not there."""
        evolution = self._settings.evolution
        named = {
            "ignore": self._settings.ignore,
            "renamed_from": evolution.renamed,
            "new_params": evolution.added,
        }
        for setting, names in named.items():
            for name in names:
                if name in self._axes and setting != "new_params":
                    raise SpecError(f"{setting} names params, and {name!r} is an axis; leave it out")
                if name not in self._parameters and not self._takes_any:
                    raise SpecError(
                        f"{setting} names {name!r}, which {_qualname(self._function)!r} does not take; its"
                        f" arguments are {list(self._parameters)}"
                    )

    def _check_new_axes(self) -> None:
        """Refuse a value at which older results would hold, and which the new axis does not have."""
        for name, value in self._settings.evolution.added.items():
            if name not in self._axes:
                continue
            axis = self._grid.axis(name)
            if self._settings.version is not None:
                raise SpecError(
                    f"new_params says that older results hold for {name}={value!r} of a new axis, and with"
                    f" version= they go by the same name as new ones; leave version out, or {name!r} out of"
                    f" new_params"
                )
            if canonical_bytes(normalize(value), name) not in axis.lookup:
                raise SpecError(
                    f"new_params says that older results hold for {name}={value!r}, and axis {name!r} has no such"
                    f" value; add it to axis_values, or leave {name!r} out of new_params"
                )

    def _axis_order(self) -> tuple[str, ...]:
        if self._settings.axis_order is not None:
            return tuple(self._settings.axis_order)
        named = [name for name in self._parameters if name in self._axes]
        return (*named, *sorted(set(self._axes) - set(named)))

    def wrapper(self) -> Callable[..., Any]:
        """Return the function that users call; chosen once.

        Returns
        -------
        callable
            A :class:`~chunk_memo.decorated.SweepFunction`.
        """
        if self._settings.streaming:

            @functools.wraps(self._function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return self._run(run_streaming, args, kwargs)

        else:

            @functools.wraps(self._function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                found = self._stored_point(args, kwargs)
                if found is not None:
                    return found
                return self._run(run, args, kwargs)

        self._wrapper = wrapper
        parts: dict[str, Any] = {
            "sweep": self._sweep,
            "cases": _Design(self._cases, self._plan_cases),
            "sample": _Design(self._sample, self._plan_sample),
            "cache_status": self._cache_status,
            "plan": self._plan,
            "cache_for": self._cache_for,
            "versions": self._versions,
            "accept": self._accept,
            "forget": self._forget,
            "invalidate": self._invalidate,
            "gc": self._gc,
            "explain_identity": self._explain_identity,
            "failures": self._failures,
        }
        for name, part in parts.items():
            setattr(wrapper, name, part)
        return wrapper

    def decorates(self, function: Callable[..., Any]) -> bool:
        """Tell whether a function is the one that users call.

        Parameters
        ----------
        function : callable
            A function.

        Returns
        -------
        bool
            Whether it is.
        """
        return function is self._wrapper

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: everything but what is known of this process, and of the disk.

        The code's identity is taken first. Where it goes there may be no source that compiles to the code.
        """
        if not self._identities:
            self._current()
        left = ("_parameters", "_lineage", "_plain_caches", "_plain_identity")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what travelled; the code's identity is that of the process it came from."""
        self.__dict__.update(state)
        self._parameters = self._signature.parameters
        self._plain_caches, self._plain_identity = {}, None
        self._lineage = self._new_lineage()

    # --- what the wrapper carries; see SweepFunction -------------------------------------------------------

    def _sweep(self, /, *args: Any, **kwargs: Any) -> SweepResult:
        """Compute what is missing of a call, and return its results with labels."""
        from chunk_memo.results import SweepResult

        call = self._taken_apart(args, kwargs)
        cache, identity = self._prepared(call)
        options = self._settings.options.updated(call.options)
        function = Execution(self._function, call.params, self._signature)

        def compute(observers: Iterable[Observer] = ()) -> Diagnostics:
            with self._running(identity):
                return run_streaming(cache, function, observers=observers, **options.given())

        result = SweepResult.of(cache, compute(call.observers))
        return dataclasses.replace(result, function=function, rerun=compute)

    def _cases(self, points: Any, /, *args: Any, **kwargs: Any) -> SweepResult:
        """Compute what is missing of a list of points."""
        return self._run_cases(*self._listed(points, args, kwargs))

    def _plan_cases(self, points: Any, /, *args: Any, **kwargs: Any) -> Plan:
        """Return what that would read and run, and why."""
        return self._planned_cases(*self._listed(points, args, kwargs))

    def _listed(self, points: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[_Call, PointList]:
        from chunk_memo.cases import PointList

        call = self._taken_apart(args, kwargs)
        return call, PointList.of(points, self._order, call.axes)

    def _sample(self, count: int, seed: int = 0, /, *args: Any, **kwargs: Any) -> SweepResult:
        """Compute what is missing of points drawn from ranges."""
        return self._run_cases(*self._drawn(count, seed, args, **kwargs))

    def _plan_sample(self, count: int, seed: int = 0, /, *args: Any, **kwargs: Any) -> Plan:
        """Return what that would read and run, and why."""
        return self._planned_cases(*self._drawn(count, seed, args, **kwargs))

    def _drawn(
        self,
        count: int,
        seed: int,
        args: tuple[Any, ...],
        /,
        method: str = "random",
        log: Sequence[str] = (),
        **kwargs: Any,
    ) -> tuple[_Call, PointList]:
        from chunk_memo.cases import sampled

        call = self._taken_apart(args, kwargs)
        return call, sampled(count, seed, method, self._order, self._memo.axis_values, call.axes, log)

    def _run_cases(self, call: _Call, points: PointList) -> SweepResult:
        from chunk_memo.cases import CaseDesign, run_cases
        from chunk_memo.results import SweepResult

        self._check_cases(call)
        cache, identity = self._prepared(dataclasses.replace(call, axes={}))
        options = self._settings.options.updated(call.options)
        function = Execution(self._function, call.params, self._signature)

        def compute(observers: Iterable[Observer] = ()) -> Diagnostics:
            with self._running(identity):
                return run_cases(cache, function, points, observers=observers, options=options.given())

        return SweepResult(CaseDesign(cache, points), compute(call.observers), function=function, rerun=compute)

    def _planned_cases(self, call: _Call, points: PointList) -> Plan:
        from chunk_memo.cases import CaseDesign

        self._check_cases(call)
        return CaseDesign(self._previewed(call), points).plan()

    def _check_cases(self, call: _Call) -> None:
        """Refuse what lists of points cannot be asked for with."""
        if not self._order:
            raise SpecError(f"{self._name!r} has no axes, so there are no cases of it; call it")
        refused = {name: getattr(call, name) for name in ("axis_indices", "extend_cache", "refresh")}
        for name, given in refused.items():
            if given:
                raise SpecError(f"cases and samples name their points themselves; leave {name} out")

    def _cache_status(self, /, *args: Any, **kwargs: Any) -> CacheStatus:
        """Return what is stored of a call."""
        return self._status_of(self._taken_apart(args, kwargs))

    def _plan(self, /, *args: Any, **kwargs: Any) -> Plan:
        """Return what a call would read and run, and why."""
        call = self._taken_apart(args, kwargs)
        plan = self._status_of(call).plan
        return plan.anew(self._previewed(call).costs) if call.refresh else plan

    def _status_of(self, call: _Call) -> CacheStatus:
        cache = self._previewed(call)
        return cache.cache_status(axis_indices=call.axis_indices, extend_cache=call.extend_cache, **call.axes)

    def _previewed(self, call: _Call) -> ChunkCache:
        """Return a cache that holds what a call would find, without adopting anything."""
        identity = self._identified(call.params)
        cache = self._cache(call.params, identity)
        return self._lineage.preview(cache, self._found(cache, call.params, identity))

    def _cache_for(self, /, *args: Any, **kwargs: Any) -> ChunkCache:
        """Return the cache of a call's params, over the full axes."""
        params = self._taken_apart(args, kwargs).params
        return self._cache(params, self._identified(params))

    def _failures(self, /, *args: Any, **kwargs: Any) -> Failures:
        """Return the points of a call at which the function failed."""
        call = self._taken_apart(args, kwargs)
        cache = self._cache(call.params, self._identified(call.params))
        if call.axes or call.axis_indices:
            cache = cache.slice(axis_indices=call.axis_indices, **call.axes)
        return cache.failures().of(Execution(self._function, call.params, self._signature))

    def _invalidate(self, /, *args: Any, **kwargs: Any) -> int:
        """Let stored points of a call count as missing."""
        call = self._taken_apart(args, kwargs)
        identity = self._identified(call.params)
        cache = self._cache(call.params, identity)
        found = self._found(cache, call.params, identity)
        if found is not None and found.declared:
            self._lineage.settle(cache, found)
        return cache.invalidate(axis_indices=call.axis_indices, **call.axes)

    def _versions(self) -> Versions:
        """Return the versions of the code that have results."""
        return self._lineage.versions(*self._current())

    def _accept(self, version: CodeVersion | str | int | None = None) -> int:
        """Let the results of other code count for the code as it is now."""
        identity, codes = self._current()
        listed = self._lineage.versions(identity, codes, count=False)
        chosen = listed.chosen(version, identity.module)
        if chosen.current:
            raise SpecError(f"{chosen!r} is the code that runs: its results count")
        return self._lineage.accept(chosen, self._accepting)

    def _forget(
        self, version: CodeVersion | str | int, *, dry_run: bool = False, force: bool = False
    ) -> Forgotten:
        """Delete the results of a version of the code."""
        chosen = self._lineage.versions(*self._current(), count=False).chosen(version)
        forgotten = self._lineage.forget(chosen, dry_run=dry_run, force=force)
        if not dry_run:
            self._memo.drop(forgotten.caches)
            self._plain_caches = {}
        return forgotten

    def _gc(self, *, grace: float = 3600.0, dry_run: bool = False, quarantine: bool = False) -> GcReport:
        """Remove files that no call reads any more."""
        return collected(self._lineage.caches(), grace=grace, dry_run=dry_run, quarantine=quarantine)

    def _explain_identity(self) -> Explanation:
        """Return what is noticed when it changes, and what is not."""
        return self._identified(None).explain()

    def _current(self) -> tuple[FunctionIdentity, list[Code]]:
        """Return the current code, and what stands for it; for a method, whatever objects it was called with."""
        identity = self._identified(None)
        return identity, [self._code_of(each) for each in {**self._identities, None: identity}.values()]

    def _accepting(self, older: dict[str, Any]) -> tuple[ChunkCache, dict[str, Any]]:
        """Return the current cache for the params of an older one, and the values of axes that were params."""
        params = {**self._bound, **self._settings.evolution.forward(older)}
        pinned = {name: params.pop(name) for name in self._axes if name in params}
        params = {name: value for name, value in params.items() if name not in self._ignored}
        known = self._parameters.keys() | self._bound.keys()
        strange = [name for name in params if name not in known]
        if strange:
            raise SpecError(
                f"results for the param {strange[0]!r} cannot count for {self._name!r}, which does not take it;"
                f" where it has another name now, say renamed_from={{'new name': {strange[0]!r}}}"
            )
        for name, parameter in self._parameters.items():
            if name not in params and name not in self._axes and name not in self._ignored:
                self._fill(name, parameter, params)
        return self._cache(params, self._identified(params)), pinned

    @contextlib.contextmanager
    def _running(self, identity: FunctionIdentity) -> Iterator[None]:
        """Let the function run; what it changes meanwhile is its state, and that is said once."""
        with identity.running() as state:
            yield
        if state and self._settings.version is None:
            warnings.warn(
                f"{self._name!r} changes {', '.join(state)} while it runs: that is state, and no part of what its"
                f" results are known by; pass as an argument what results depend on",
                IdentityWarning,
                stacklevel=caller_level(),
            )

    # --- calls ---------------------------------------------------------------------------------------------

    def _stored_point(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Diagnostics] | None:
        """Return the result of a call for one stored point with plain arguments; None for any other call."""
        if self._names is None or len(args) > len(self._names):
            return None
        started = time.perf_counter()
        given = dict(zip(self._names, args, strict=False))
        if kwargs:
            if not given.keys().isdisjoint(kwargs):
                return None
            given.update(kwargs)
        values = [given.pop(name, ...) for name in self._order]
        if not values or not _PLAIN.issuperset(map(type, values)):
            return None
        key: list[Any] = []
        for name, default in self._defaults.items():
            value = given.pop(name, default)
            kind = type(value)
            if kind not in _PLAIN:
                return None
            key += (kind, value.hex() if kind is float else value)
        if given and not self._ignored.issuperset(given):
            return None
        cache = self._plain_cache(tuple(key), args, kwargs)
        found = cache.read_point(values) if cache is not None else None
        if found is None:
            return None
        output, nbytes = found
        seconds = time.perf_counter() - started
        return output, Diagnostics(1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, nbytes, 0, 0.0, seconds)

    def _plain_cache(
        self, key: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ChunkCache | None:
        """Return the cache of plain params, remembered as long as the function's identity stays."""
        identity = self._identities.get(None)
        if identity is None or not identity.unchanged():
            identity = self._identified(None)
        if identity is not self._plain_identity:
            self._plain_caches, self._plain_identity = {}, identity
        cache = self._plain_caches.get(key)
        if cache is None:
            cache = self._cache(self._taken_apart(args, dict(kwargs)).params, identity)
            if len(self._plain_caches) >= _MOST_CACHES:
                self._plain_caches.clear()
            self._plain_caches[key] = cache
        return cache

    def _run(self, runner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run what a call asks for."""
        call = self._taken_apart(args, kwargs)
        cache, identity = self._prepared(call)
        options = self._settings.options.updated(call.options)
        function = Execution(self._function, call.params, self._signature)
        with self._running(identity):
            return runner(cache, function, observers=call.observers, **options.given())

    def _prepared(self, call: _Call) -> tuple[ChunkCache, FunctionIdentity]:
        """Return what a call runs over, and what the function is known by."""
        identity = self._identified(call.params)
        cache = self._cache(call.params, identity)
        self._lineage.settle(cache, self._found(cache, call.params, identity))
        if call.extend_cache and call.axes:
            cache.extend_axis_values(call.axes)
        if call.axes or call.axis_indices or call.refresh:
            cache = cache.slice(axis_indices=call.axis_indices, **call.axes)
        if call.refresh:
            cache.invalidate()
        return cache, identity

    def _found(
        self, cache: ChunkCache, params: Mapping[str, Any], identity: FunctionIdentity
    ) -> Predecessor | None:
        """Return what other code left for these params, where that matters."""
        return self._lineage.find(cache, identity, self._code_of(identity), self._counting(params))

    def _taken_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Tell axis values, params and options of the call from each other."""
        options = {
            name: kwargs.pop(name) for name in _CALL_OPTIONS if name in kwargs and name not in self._parameters
        }
        kwargs = self._with_params(args, kwargs)
        try:
            given = dict(self._signature.bind_partial(*args, **kwargs).arguments)
        except TypeError as error:
            strange = next((name for name in kwargs if name not in self._parameters), "")
            near = did_you_mean(strange, [*self._parameters, *_CALL_OPTIONS])
            raise SignatureError(
                f"{_qualname(self._function)!r} cannot be called like that: {error}{near}; its arguments are"
                f" {list(self._parameters)}, and the call's own {list(_CALL_OPTIONS)}"
            ) from None
        axes = {name: given.pop(name) for name in self._axes if name in given}
        axes = {name: list(v) if isinstance(v, Iterator) else v for name, v in axes.items()}
        for name, parameter in self._parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and name in given:
                more = dict(given.pop(name))
                axes.update({axis: more.pop(axis) for axis in self._axes if axis in more})
                given.update({name: more} if more else {})
            elif name not in given and name not in self._axes:
                self._fill(name, parameter, given)
        if not self._axes and options.get("axis_indices"):
            raise SpecError("Cannot pass axis arguments to a function without axes; leave axis_indices out")
        extend, refresh = (_switch(options, name) for name in ("extend_cache", "refresh"))
        indices, observers = options.pop("axis_indices", None), checked_observers(options.pop("observers", ()))
        return _Call(given, axes, indices, extend, refresh, observers, options)

    def _fill(self, name: str, parameter: inspect.Parameter, given: dict[str, Any]) -> None:
        if parameter.default is not inspect.Parameter.empty:
            given[name] = parameter.default
        elif parameter.kind not in _GATHERING:
            raise SignatureError(
                f"{_qualname(self._function)!r} needs the argument {name!r}, which is no axis and has no default;"
                f" pass {name}=…"
            )

    def _with_params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Spread an explicit dict of params over the arguments, where the function has none of that name."""
        name = self._settings.params_arg
        if name not in kwargs:
            return kwargs
        if name in self._parameters:
            if list(self._parameters).index(name) < len(args):
                raise SpecError(
                    f"{name!r} of {_qualname(self._function)!r} was given both positional and keyword;"
                    f" give it once"
                )
            return kwargs
        params = kwargs[name]
        rest = {key: value for key, value in kwargs.items() if key != name}
        if not isinstance(params, Mapping):
            raise SpecError(f"{name!r} must be a dict of params, got {params!r}")
        twice = sorted(set(params) & (set(rest) | set(list(self._parameters)[: len(args)])))
        if twice:
            raise SpecError(f"{twice[0]!r} was given both in {name!r} and as an argument; give it once")
        return {**rest, **params}

    # --- identity ------------------------------------------------------------------------------------------

    def _cache(self, params: Mapping[str, Any], identity: FunctionIdentity) -> ChunkCache:
        """Return the cache of these params."""
        settings = self._settings
        counting = self._counting(params)
        try:
            key = identity_of(self._name, self._code_of(identity), counting)
        except IdentityError:
            self._check(counting)
            raise
        return self._memo.cache_for_function(
            key,
            functools.partial(self._metadata, counting, identity),
            self._order,
            self._name,
            vectorize=settings.vectorize,
            outputs=settings.outputs,
            collate_fn=settings.collate_fn,
            allow_pickle=settings.allow_pickle,
            compression=settings.compression,
        )

    def _counting(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what identifies a cache: the params that are not ignored, and what is bound."""
        counting = {**params, **self._bound}
        if not self._ignored:
            return counting
        counting = {name: value for name, value in counting.items() if name not in self._ignored}
        for name, parameter in self._parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and name in counting:
                more = {each: value for each, value in counting.pop(name).items() if each not in self._ignored}
                counting.update({name: more} if more else {})
        return counting

    def _code_of(self, identity: FunctionIdentity) -> Code:
        return code_of(self._name, identity.digest, self._settings.version)

    def _check(self, params: Mapping[str, Any]) -> None:
        """Name the function and the argument that has no sound identity."""
        for name, value in params.items():
            try:
                canonical_bytes(value, name)
            except IdentityError as error:
                raise IdentityError(f"argument {name!r} of {self._name!r}: {error}") from None

    def _metadata(self, counting: Mapping[str, Any], identity: FunctionIdentity) -> dict[str, Any]:
        """Return what a cache says of itself."""
        params = {name: value for name, value in counting.items() if name not in self._bound}
        explicit = params.get(self._settings.params_arg)
        if isinstance(explicit, Mapping) and not set(explicit) & set(params):
            params.pop(self._settings.params_arg)
            params = {**explicit, **params}
        function = {
            "name": self._name,
            "module": identity.module,
            "digest": identity.digest,
            "scheme": identity.scheme,
            "basis": identity.basis,
            "version": self._settings.version,
            "arguments": sorted(counting),
            "packages": {each.package: each.version for each in identity.out_of_reach if each.package},
            "source": identity.source,
            "parts": [dataclasses.asdict(part) for part in identity.parts],
            "recorded_at": time.time_ns(),
        }
        return {**self._memo.metadata, "params": params, "function": function}

    def _identified(self, params: Mapping[str, Any] | None) -> FunctionIdentity:
        """Return the function's identity; taken again only when something that it is made of has changed.

        A method knows what it calls of its own class; of an object of a subclass, that class counts, too.
        """
        owner = self._owner(params)
        identity = self._identities.get(owner)
        if identity is None:
            versioned = self._settings.version is not None
            depends_on = self._settings.depends_on if owner is None else (*self._settings.depends_on, owner)
            identity = identify_function(self._code, depends_on=depends_on, warn=not versioned)
            self._identities[owner] = identity
        elif not identity.unchanged():
            identity = self._identities[owner] = identity.again()
        return identity

    def _owner(self, params: Mapping[str, Any] | None) -> type | None:
        """Return the class of the object whose method this is, where that inherited it; else None."""
        if "self" in self._bound:
            kind, name, member = type(self._bound["self"]), self._code.__name__, self._code
        elif params is not None and self._may_be_method:
            kind, name = type(params.get(next(iter(self._parameters), ""))), self._short_name
            member = self._wrapper
        else:
            return None
        heirs = [vars(base).get(name) is member for base in kind.__mro__]
        return kind if any(heirs) and not heirs[0] else None


@dataclass(frozen=True, slots=True)
class _Design:
    """A way to name points: called, it computes them."""

    run: Callable[..., SweepResult]
    """Computes what is missing of them."""
    plan: Callable[..., Plan]
    """Says what that would read and run."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> SweepResult:
        """Compute what is missing of the points, and return the results."""
        return self.run(*args, **kwargs)


def _switch(options: dict[str, Any], name: str) -> bool:
    given = options.pop(name, False)
    if given not in (True, False):
        raise SpecError(f"{name} must be True or False, got {given!r}")
    return bool(given)


class Execution:
    """The function with its params: called with axis values, each argument gets its place.

    To other processes it goes by name where the decorated function can be imported there, else by value.

    Parameters
    ----------
    function : callable
        The function itself.
    params : mapping
        Its arguments that are not axes, by name.
    signature : Signature, optional
        Its signature, where that is known.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        params: Mapping[str, Any],
        signature: inspect.Signature | None = None,
    ) -> None:
        self._function = function
        self._params = params
        self._signature = signature or inspect.signature(function)

    def __call__(self, **axes: Any) -> Any:
        """Call the function with values of the axes."""
        arguments = {**self._params, **axes}
        parameters = self._signature.parameters
        bound = inspect.BoundArguments(self._signature, OrderedDict())
        for name, parameter in parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                more = {axis: value for axis, value in axes.items() if axis not in parameters}
                bound.arguments[name] = {**self._params.get(name, {}), **more}
            elif name in arguments:
                bound.arguments[name] = arguments[name]
        return self._function(*bound.args, **bound.kwargs)

    def __reduce__(self) -> Any:
        """Return what travels."""
        place = _place_of(self._function)
        return _execution, (place or self._function, place is not None, self._params)


def _place_of(function: Any) -> tuple[str, str] | None:
    """Return module and name under which a decorated function can be imported; None where it has to travel."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module in (None, "__main__") or name is None or "<locals>" in name:
        return None
    return (module, name) if _imported(module, name) is function else None


def _imported(module: str, name: str) -> Any:
    """Return what the decorated function of that name wraps."""
    try:
        found: Any = operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return getattr(found, "__wrapped__", None)


def _execution(function: Any, named: bool, params: Mapping[str, Any]) -> Execution:
    """Return what travelled."""
    return Execution(_imported(*function) if named else function, params)


def _refuse_twice(function: Callable[..., Any]) -> None:
    """Refuse a decorated function, whose calls return diagnostics, too; what wraps one is another function."""
    sweep = getattr(getattr(function, "plan", None), "__self__", None)
    if isinstance(sweep, Sweep) and sweep.decorates(function):
        name = _qualname(function)
        raise SignatureError(
            f"{name!r} is decorated already, and memoized once; leave one of the decorators out, or decorate"
            f" the function itself, {name}.__wrapped__"
        )


_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})
"""Types of arguments that cannot change and are told apart by type and value."""

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_GATHERING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _unbound(function: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Tell the code from what it carries along, which may change between calls and so counts like arguments."""
    bound: dict[str, Any] = {}
    while True:
        if isinstance(function, functools.partial):
            bound[f"partial {len(bound)}"] = (function.args, function.keywords)
            function = function.func
        elif inspect.ismethod(function):
            bound["self"] = function.__self__
            function = function.__func__
        elif not isinstance(function, type) and inspect.isfunction(type(function).__call__):
            bound["self"] = function
            function = type(function).__call__
        else:
            return function, bound


def _qualname(function: Callable[..., Any]) -> str:
    plain = unwrap(function)
    return str(getattr(plain, "__qualname__", type(plain).__qualname__))


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        raise SignatureError(
            f"{_qualname(function)!r} does not say which arguments it takes; wrap it in a function that names"
            f" them"
        ) from None


def _refuse_async(function: Callable[..., Any]) -> None:
    if not callable(function):
        raise SignatureError(f"only functions can be decorated, got {function!r}")
    plain = unwrap(function)
    call = plain if inspect.isroutine(plain) else type(plain).__call__
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        kind = "an async function"
    elif inspect.isgeneratorfunction(call):
        kind = "a generator function"
    else:
        return
    raise SignatureError(
        f"{_qualname(function)!r} is {kind}; a sweep function returns its outputs: return a list or an array"
        f" (an async function can be run inside one by asyncio.run)"
    )
