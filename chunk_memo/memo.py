"""Many caches under one root: :class:`ChunkMemo`, the ``cache`` and ``stream_cache`` decorators, ``auto_load``.

A decorated function is part of its cache's identity: its name, a digest of its code (or an explicit
``version=``) and its arguments that are not axes; what a method or a partial has bound counts like an argument.
The wrapper is a plain function, so it decorates methods too (``cache_status``, ``plan`` and ``cache_for`` of a
decorated method take the object as their first argument).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.disk.filters import checked_compression
from chunk_memo.errors import (
    IdentityError,
    IdentityWarning,
    MetadataError,
    SignatureError,
    SpecError,
)
from chunk_memo.grid import ChunkKey, Grid, chunk_sizes, make_axis
from chunk_memo.identity import (
    FunctionIdentity,
    canonical_bytes,
    digest_of_bytes,
    identify_function,
    params_to_cache_id,
    unwrap,
)
from chunk_memo.outputs import KINDS
from chunk_memo.plan import Plan
from chunk_memo.runners import Diagnostics, run, run_streaming
from chunk_memo.status import CacheStatus

__all__ = ["ChunkMemo", "SweepFunction", "auto_load"]

_MOST_CACHES = 256
_CALL_OPTIONS = ("axis_indices", "extend_cache")

Returned = TypeVar("Returned", covariant=True)
"""What a decorated function returns."""


class SweepFunction(Protocol[Returned]):
    """A decorated function: called like the function itself, with axis values that may be left out."""

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Returned:
        """Return the outputs of a request and its diagnostics; those of ``stream_cache`` the latter alone."""

    def cache_status(self, *args: Any, **kwargs: Any) -> CacheStatus:
        """Return what is stored of a call; see :meth:`ChunkCache.cache_status`.

        Parameters
        ----------
        *args, **kwargs : object
            As in a call.

        Returns
        -------
        CacheStatus
            What is stored and what is missing.
        """

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """Return what a call would read and run, and why; see :meth:`ChunkCache.plan`.

        Parameters
        ----------
        *args, **kwargs : object
            As in a call.

        Returns
        -------
        Plan
            The plan, which prints well.
        """

    def cache_for(self, *args: Any, **kwargs: Any) -> ChunkCache:
        """Return the cache of a call's params.

        Parameters
        ----------
        *args, **kwargs : object
            As in a call.

        Returns
        -------
        ChunkCache
            The cache, over the full axes.
        """


class ChunkMemo:
    """A root folder and a grid; makes caches and decorates functions.

    Parameters
    ----------
    root : path-like, optional
        Folder of caches, ``.chunk_memo`` in the working directory by default.
    chunk_spec : mapping, optional
        Axis name to chunk size. Left out: the full length for list, tuple, range and array, 1 for others.
    axis_values : mapping
        Axis name to values.
    metadata : mapping, optional
        The user's own, kept in each cache's ``metadata.json``.
    collate_fn, chunk_enumerator, chunk_hash_fn, path_fn : callable, optional
        As in :class:`ChunkCache`.
    version : str, default "v1"
        A namespace; it enters every chunk's hash, and replaces nothing of a function's identity.
    axis_order : sequence of str, optional
        The order in which outputs run over the axes. By default lexicographic for caches made directly, and
        the order of the signature for decorated functions.
    verbose : int, default 1
        0 hides the progress bar, which otherwise appears when work outlasts half a second.
    profile : bool, default False
        Whether each run logs where its seconds went.
    exclusive, warn_on_overlap : bool, default False
        Refuse, or warn, where a cache exists with other axis values or chunk sizes.
    durability : {"full", "fast"}, default "full"
        Whether files are synced before a call returns.
    compression : {"zstd", "blosc2", "gzip"}, optional
        How the arrays of new files are compressed, as in :class:`ChunkCache`.

    Examples
    --------
    >>> import tempfile
    >>> memo = ChunkMemo(tempfile.mkdtemp(), {"s": 2}, {"s": [1, 2, 3, 4]})
    >>> @memo.cache()
    ... def scaled(alpha, s):
    ...     return [alpha * value for value in s]
    >>> output, diagnostics = scaled(alpha=10, s=[1, 2, 3])
    >>> output, diagnostics.executed_points
    ([10, 20, 30], 3)
    >>> output, diagnostics = scaled(alpha=10)
    >>> output, diagnostics.executed_points
    ([10, 20, 30, 40], 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        chunk_spec: Mapping[str, Any] | None = None,
        axis_values: Mapping[str, Any] | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        chunk_enumerator: Callable[[dict[str, Any]], Sequence[ChunkKey]] | None = None,
        chunk_hash_fn: Callable[[dict[str, Any], ChunkKey, str], str] | None = None,
        path_fn: Callable[[dict[str, Any], ChunkKey, str, str], Path | str] | None = None,
        version: str = "v1",
        axis_order: Sequence[str] | None = None,
        verbose: int = 1,
        profile: bool = False,
        exclusive: bool = False,
        warn_on_overlap: bool = False,
        durability: str = "full",
        compression: str | None = None,
    ) -> None:
        if not isinstance(axis_values, Mapping):
            raise SpecError(
                f"axis_values must map axis names to values, got {axis_values!r}; pass {{}} for no axes, or"
                f" open an existing cache with auto_load(root, params)"
            )
        self.root = Path(root) if root is not None else Path(".chunk_memo")
        self.metadata = dict(metadata or {})
        self._options: dict[str, Any] = {
            "collate_fn": collate_fn,
            "chunk_enumerator": chunk_enumerator,
            "chunk_hash_fn": chunk_hash_fn,
            "path_fn": path_fn,
            "version": version,
            "verbose": verbose,
            "profile": profile,
            "exclusive": exclusive,
            "warn_on_overlap": warn_on_overlap,
            "durability": durability,
            "compression": checked_compression(compression),
        }
        axes = tuple(make_axis(name, values) for name, values in axis_values.items())
        self._axes = {axis.name: axis for axis in axes}
        self._sizes = chunk_sizes(chunk_spec, axis_values, axes)
        self._axis_order = None if axis_order is None else tuple(axis_order)
        self._caches: dict[tuple[bytes, tuple[str, ...], Any], ChunkCache] = {}
        self._lock = threading.Lock()
        self._grid(self._axis_order or ())

    @property
    def axis_values(self) -> dict[str, list[Any]]:
        """The declared values of each axis."""
        return {name: list(axis.values) for name, axis in self._axes.items()}

    @property
    def chunk_spec(self) -> dict[str, int]:
        """The chunk size of each axis, in values."""
        return dict(self._sizes)

    @property
    def version(self) -> str:
        """The namespace."""
        return str(self._options["version"])

    def __repr__(self) -> str:
        """Return the root and the grid."""
        axes = ", ".join(f"{name}: {len(axis)}" for name, axis in self._axes.items())
        return f"ChunkMemo('{self.root}', {axes or 'no axes'})"

    def _grid(self, order: Sequence[str]) -> Grid:
        order = tuple(order) or tuple(sorted(self._axes))
        if sorted(order) != sorted(self._axes):
            raise SpecError(f"axis_order must name each of {sorted(self._axes)} once, got {list(order)}")
        return Grid(tuple(self._axes[name] for name in order), self._sizes)

    def cache_for_params(self, params: Mapping[str, Any]) -> ChunkCache:
        """Return the cache of these params, with this memo's grid.

        Parameters
        ----------
        params : mapping of str to object
            What identifies the cache.

        Returns
        -------
        ChunkCache
            The cache; its id is ``params_to_cache_id(params)``.

        Raises
        ------
        IdentityError
            Where a param has no sound identity.

        Examples
        --------
        >>> import tempfile
        >>> memo = ChunkMemo(tempfile.mkdtemp(), {"s": 2}, {"s": [1, 2, 3]})
        >>> memo.cache_for_params({"alpha": 1}).cache_id == params_to_cache_id({"alpha": 1})
        True
        """
        cache_id = params_to_cache_id(params)
        metadata = {**self.metadata, "params": dict(params)}
        identity = canonical_bytes(dict(params))
        order = self._axis_order or tuple(sorted(self._axes))
        return self._cached(identity, order, None, lambda: self._make(cache_id, metadata, identity, order))

    def _cached(
        self, identity: bytes, order: tuple[str, ...], kind: Any, make: Callable[[], ChunkCache]
    ) -> ChunkCache:
        key = (identity, order, kind)
        cache = self._caches.get(key)
        if cache is None:
            made = make()
            with self._lock:
                cache = self._caches.setdefault(key, made)
                while len(self._caches) > _MOST_CACHES:
                    self._caches.pop(next(iter(self._caches)))
        return cache

    def _make(
        self,
        cache_id: str,
        metadata: Mapping[str, Any],
        identity: bytes,
        order: Sequence[str],
        **options: Any,
    ) -> ChunkCache:
        given = {**self._options, **{k: v for k, v in options.items() if v is not None}}
        return ChunkCache(self.root, cache_id, metadata, grid=self._grid(order), identity=identity, **given)

    # --- decorators ----------------------------------------------------------------------------------------

    def cache(
        self,
        params_arg: str = "params",
        *,
        version: str | None = None,
        name: str | None = None,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        axis_order: Sequence[str] | None = None,
        allow_pickle: bool | None = None,
        compression: str | None = None,
    ) -> Callable[[Callable[..., Any]], SweepFunction[tuple[Any, Diagnostics]]]:
        """Return a decorator that memoizes a sweep function.

        The decorated function is called with values for its axes (one, several, or none for the full axis),
        or with ``axis_indices={axis: int | slice | range | sequence}``, and with its other arguments, which are
        the params. ``extend_cache=True`` adds values that an axis does not have yet. It returns
        ``(output, diagnostics)`` and carries ``cache_status``, ``plan`` and ``cache_for``, each called with
        the same arguments, and ``__wrapped__``.

        Parameters
        ----------
        params_arg : str, default "params"
            Name of an argument that takes a dict of params.
        version : str, optional
            Replaces the digest of the function's code in its identity.
        name : str, optional
            Replaces the function's qualified name in its identity.
        vectorize : bool, default False
            Whether the function takes single values and is called once per point.
        outputs : str, optional
            The kind of output, recognised by default; see :mod:`chunk_memo.outputs`.
        collate_fn : callable, optional
            Used in place of the memo's own.
        axis_order : sequence of str, optional
            The order in which outputs run over the axes; that of the signature by default.
        allow_pickle : bool, optional
            Whether outputs without a native form may be pickled.
        compression : {"zstd", "blosc2", "gzip"}, optional
            Used in place of the memo's own.

        Returns
        -------
        callable
            The decorator.

        Raises
        ------
        SignatureError
            Where the function is async, a generator, or lacks an argument for an axis.
        SpecError
            Where `outputs`, `version` or `name` cannot be, or a lambda has a version and no name.
        """
        settings = _Settings(
            params_arg,
            version,
            name,
            vectorize,
            outputs,
            collate_fn,
            axis_order,
            allow_pickle,
            checked_compression(compression),
            streaming=False,
        )
        decorator: Callable[[Callable[..., Any]], SweepFunction[tuple[Any, Diagnostics]]]
        decorator = self._decorator(settings)
        return decorator

    def stream_cache(
        self,
        params_arg: str = "params",
        *,
        version: str | None = None,
        name: str | None = None,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        axis_order: Sequence[str] | None = None,
        allow_pickle: bool | None = None,
        compression: str | None = None,
    ) -> Callable[[Callable[..., Any]], SweepFunction[Diagnostics]]:
        """Return a decorator like :meth:`cache` whose functions only store, and return the diagnostics.

        Parameters
        ----------
        params_arg, version, name, vectorize, outputs, collate_fn, axis_order, allow_pickle, compression : optional
            As in :meth:`cache`.

        Returns
        -------
        callable
            The decorator; the functions keep at most one chunk's outputs in memory.
        """
        settings = _Settings(
            params_arg,
            version,
            name,
            vectorize,
            outputs,
            collate_fn,
            axis_order,
            allow_pickle,
            checked_compression(compression),
            streaming=True,
        )
        decorator: Callable[[Callable[..., Any]], SweepFunction[Diagnostics]] = self._decorator(settings)
        return decorator

    def _decorator(self, settings: _Settings) -> Any:
        settings.check()
        if callable(settings.params_arg):  # @memo.cache without parentheses
            function, settings = settings.params_arg, settings.plain()
            return _Sweep(self, function, settings).wrapper()

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return _Sweep(self, function, settings).wrapper()

        return decorate

    def grid_for(self, order: Sequence[str]) -> Grid:
        """Return the declared grid in an axis order.

        Parameters
        ----------
        order : sequence of str
            Names of the axes.

        Returns
        -------
        Grid
            The grid.
        """
        return self._grid(order)

    def cache_for_function(
        self,
        identity: bytes,
        metadata: Mapping[str, Any],
        order: tuple[str, ...],
        name: str,
        **options: Any,
    ) -> ChunkCache:
        """Return the cache of a decorated function and its params.

        Parameters
        ----------
        identity : bytes
            Canonical bytes of the function and its params.
        metadata : mapping
            What is known of both.
        order : tuple of str
            Names of the axes in axis order.
        name : str
            The function's name, for messages.
        **options : object
            Further keywords of :class:`ChunkCache`.

        Returns
        -------
        ChunkCache
            The cache.
        """
        plain = (str, bool, type(None))
        kind = tuple((k, v if isinstance(v, plain) else id(v)) for k, v in sorted(options.items()))

        def make() -> ChunkCache:
            cache_id = digest_of_bytes(identity).hex()
            return self._make(cache_id, metadata, identity, order, name=name, **options)

        return self._cached(identity, order, kind, make)

    # --- opening -------------------------------------------------------------------------------------------

    @classmethod
    def auto_load(
        cls,
        root: str | os.PathLike[str] | None,
        params: Mapping[str, Any],
        axis_values: Mapping[str, Any] | None = None,
        chunk_spec: Mapping[str, Any] | None = None,
        *,
        allow_superset: bool = False,
        extend_cache: bool = False,
        version: str = "v1",
        axis_order: Sequence[str] | None = None,
        **options: Any,
    ) -> ChunkMemo:
        """Return a memo over the cache of these params: the one that is there, or a new one.

        Parameters
        ----------
        root : path-like or None
            Folder of caches, ``.chunk_memo`` by default.
        params : mapping of str to object
            What identifies the cache.
        axis_values : mapping, optional
            Axis name to values. Left out: those of the cache on disk.
        chunk_spec : mapping, optional
            Axis name to chunk size; by default that of the cache on disk.
        allow_superset : bool, default False
            Whether axes left out of `axis_values` are taken from a cache on disk that covers the request.
        extend_cache : bool, default False
            Whether the values on disk count too, before those of `axis_values`.
        version : str, default "v1"
            The namespace.
        axis_order : sequence of str, optional
            The order in which outputs run over the axes; by default that of the cache on disk.
        **options : object
            Further keywords of :class:`ChunkMemo`, such as ``collate_fn``, ``exclusive``, ``warn_on_overlap``.

        Returns
        -------
        ChunkMemo
            The memo; ``cache_for_params(params)`` is its cache.

        Raises
        ------
        CacheNotFoundError
            Where `axis_values` is left out and there is no cache.
        OverlapError
            Where ``exclusive=True`` and the cache has another grid.
        """
        root = Path(root) if root is not None else Path(".chunk_memo")
        known = _known(root, params, needed=axis_values is None)
        given = _walked_once(axis_values or {})
        covering = known is not None and catalog.covers(known["axis_values"], given, superset=True)
        if known is not None and (axis_values is None or (allow_superset and covering)):
            given = {**known["axis_values"], **given}
            if allow_superset:
                options["exclusive"] = options["warn_on_overlap"] = False
        elif known is not None and extend_cache:
            given = _united(known["axis_values"], given)
            options["exclusive"] = options["warn_on_overlap"] = False
        if known is not None:
            sizes = {n: s for n, s in known["chunk_spec"].items() if n in given}
            chunk_spec = chunk_spec if chunk_spec is not None else sizes
            order = known["axis_order"]
            if axis_order is None and sorted(order) == sorted(given):
                axis_order = order
        memo = cls(root, chunk_spec, given, version=version, axis_order=axis_order, **options)
        if options.get("exclusive") or options.get("warn_on_overlap"):
            memo.cache_for_params(params)
        return memo


def _walked_once(axis_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return axis values that can be looked at again and again, which iterators cannot."""
    return {n: deque(vs) if isinstance(vs, Iterator) else vs for n, vs in axis_values.items()}


def _known(root: Path, params: Mapping[str, Any], *, needed: bool) -> dict[str, Any] | None:
    """Return what is known of a cache on disk."""
    cache_id = params_to_cache_id(params)
    try:
        known = catalog.known(root, cache_id)
    except MetadataError:
        if needed:
            raise
        return None
    if known is None and needed:
        raise catalog.missing_cache(root, cache_id)
    return known


def _united(known: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    united = {name: list(values) for name, values in known.items()}
    for name, values in asked.items():
        united[name] = [*united.get(name, []), *make_axis(name, values).values]
    return united


auto_load = ChunkMemo.auto_load
"""Module function of the same behaviour as :meth:`ChunkMemo.auto_load`."""


# --- decorated functions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the decorator was called with."""

    params_arg: Any
    version: str | None
    name: str | None
    vectorize: bool
    outputs: str | None
    collate_fn: Callable[[list[Any]], Any] | None
    axis_order: Sequence[str] | None
    allow_pickle: bool | None
    compression: str | None
    streaming: bool

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

    def plain(self) -> _Settings:
        """Return the same with the default name of the params argument."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _Settings(**{**values, "params_arg": "params"})


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, taken apart."""

    params: dict[str, Any]
    axes: dict[str, Any]
    axis_indices: Mapping[str, Any] | None
    extend_cache: bool


class _Sweep:
    """A decorated function: takes calls apart, finds the cache, runs."""

    def __init__(self, memo: ChunkMemo, function: Callable[..., Any], settings: _Settings) -> None:
        self._memo = memo
        self._function = function
        self._settings = settings
        _refuse_async(function)
        self._signature = _signature(function)
        self._parameters = self._signature.parameters
        kinds = [p.kind for p in self._parameters.values()]
        self._takes_any = inspect.Parameter.VAR_KEYWORD in kinds
        self._axes = list(memo.axis_values)
        self._check_axes()
        self._order = self._axis_order()
        self._grid = memo.grid_for(self._order)
        self._name = settings.name or _qualname(function)
        self._identity: FunctionIdentity | None = None
        plain = inspect.isfunction(function) and all(
            kind in (_EITHER, inspect.Parameter.KEYWORD_ONLY) for kind in kinds
        )
        self._names = [p.name for p in self._parameters.values() if p.kind is _EITHER] if plain else None
        self._defaults = {n: p.default for n, p in self._parameters.items() if n not in self._axes}
        self._plain_caches: dict[tuple[Any, ...], ChunkCache] = {}
        self._plain_identity: FunctionIdentity | None = None

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

    def _axis_order(self) -> tuple[str, ...]:
        chosen = self._settings.axis_order or self._memo._axis_order
        if chosen is not None:
            return tuple(chosen)
        named = [name for name in self._parameters if name in self._axes]
        return (*named, *sorted(set(self._axes) - set(named)))

    def wrapper(self) -> Callable[..., Any]:
        """Return the function that users call; chosen once."""
        if self._settings.streaming:

            @functools.wraps(self._function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                cache, function = self._prepared(args, kwargs)
                with self._running():
                    return run_streaming(cache, function)

        else:

            @functools.wraps(self._function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                found = self._stored_point(args, kwargs)
                if found is not None:
                    return found
                cache, function = self._prepared(args, kwargs)
                with self._running():
                    return run(cache, function)

        def cache_status(*args: Any, **kwargs: Any) -> CacheStatus:
            """Return what is stored of a call; see :meth:`ChunkCache.cache_status`."""
            call = self._taken_apart(args, kwargs)
            return self._cache(call).cache_status(
                axis_indices=call.axis_indices, extend_cache=call.extend_cache, **call.axes
            )

        def plan(*args: Any, **kwargs: Any) -> Plan:
            """Return what a call would read and run, and why; see :meth:`ChunkCache.plan`."""
            return cache_status(*args, **kwargs).plan

        def cache_for(*args: Any, **kwargs: Any) -> ChunkCache:
            """Return the cache of a call's params, over the full axes."""
            return self._cache(self._taken_apart(args, kwargs))

        parts: dict[str, Any] = {"cache_status": cache_status, "plan": plan, "cache_for": cache_for}
        for name, part in parts.items():
            setattr(wrapper, name, part)
        return wrapper

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Let the function run; what it changes meanwhile is its state, and that is said once."""
        assert self._identity is not None
        with self._identity.running() as state:
            yield
        if state and self._settings.version is None:
            warnings.warn(
                f"{self._name!r} changes {', '.join(state)} while it runs: that is state, and no part of what its"
                f" results are known by; pass as an argument what results depend on",
                IdentityWarning,
                stacklevel=3,
            )

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
        if given:
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
        identity = self._identified(self._function)
        if identity is not self._plain_identity:
            self._plain_caches, self._plain_identity = {}, identity
        cache = self._plain_caches.get(key)
        if cache is None:
            cache = self._cache(self._taken_apart(args, dict(kwargs)))
            if len(self._plain_caches) >= _MOST_CACHES:
                self._plain_caches.clear()
            self._plain_caches[key] = cache
        return cache

    def _prepared(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[ChunkCache, Callable[..., Any]]:
        call = self._taken_apart(args, kwargs)
        cache = self._cache(call)
        if call.extend_cache and call.axes:
            cache.extend_axis_values(call.axes)
        if call.axes or call.axis_indices:
            cache = cache.slice(axis_indices=call.axis_indices, **call.axes)
        return cache, functools.partial(self._execute, call.params)

    def _taken_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Tell axis values, params and options of the call from each other."""
        options = {
            name: kwargs.pop(name) for name in _CALL_OPTIONS if name in kwargs and name not in self._parameters
        }
        kwargs = self._with_params(args, kwargs)
        try:
            given = dict(self._signature.bind_partial(*args, **kwargs).arguments)
        except TypeError as error:
            raise SignatureError(
                f"{_qualname(self._function)!r} cannot be called like that: {error}; its arguments are"
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
        return _Call(given, axes, options.get("axis_indices"), bool(options.get("extend_cache", False)))

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

    def _execute(self, params: dict[str, Any], **axes: Any) -> Any:
        """Call the function with params and axis values, each in its place."""
        arguments = {**params, **axes}
        bound = inspect.BoundArguments(self._signature, OrderedDict())
        for name, parameter in self._parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                more = {
                    **params.get(name, {}),
                    **{a: v for a, v in axes.items() if a not in self._parameters},
                }
                bound.arguments[name] = more
            elif name in arguments:
                bound.arguments[name] = arguments[name]
        return self._function(*bound.args, **bound.kwargs)

    def _cache(self, call: _Call) -> ChunkCache:
        settings = self._settings
        function, bound = _unbound(self._function)
        self._check(bound)
        identity = self._identified(function)
        code: tuple[str, ...] = ("code", identity.digest)
        if settings.version is not None:
            nameless = self._name.endswith("<lambda>")  # every lambda is called that; only its code tells it
            code = ("version", settings.version, *([identity.digest] if nameless else []))
        try:
            key = canonical_bytes(("function", self._name, code, {**call.params, **bound}))
        except IdentityError:
            self._check(call.params)
            raise
        return self._memo.cache_for_function(
            key,
            self._metadata(call, identity),
            self._order,
            self._name,
            vectorize=settings.vectorize,
            outputs=settings.outputs,
            collate_fn=settings.collate_fn,
            allow_pickle=settings.allow_pickle,
            compression=settings.compression,
        )

    def _check(self, params: Mapping[str, Any]) -> None:
        """Name the function and the argument that has no sound identity."""
        for name, value in params.items():
            try:
                canonical_bytes(value, name)
            except IdentityError as error:
                raise IdentityError(f"argument {name!r} of {self._name!r}: {error}") from None

    def _metadata(self, call: _Call, identity: FunctionIdentity) -> dict[str, Any]:
        params = dict(call.params)
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
        }
        return {**self._memo.metadata, "params": params, "function": function}

    def _identified(self, function: Callable[..., Any]) -> FunctionIdentity:
        """Return the function's identity; taken again only when something that it is made of has changed."""
        identity = self._identity
        if identity is None:
            versioned = self._settings.version is not None
            identity = self._identity = identify_function(function, warn=not versioned)
        elif not identity.unchanged():
            identity = self._identity = identity.again()
        return identity


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
