"""Many caches under one root: :class:`ChunkMemo`, the ``cache`` and ``stream_cache`` decorators, ``auto_load``.

What a decorated function does with its calls is the business of :mod:`chunk_memo.sweeps`.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.decorated import (
    Block,
    BlockDecorator,
    DecoratorOptions,
    Given,
    Merged,
    SweepDecorator,
    SweepFunction,
)
from chunk_memo.disk import files
from chunk_memo.disk.chunkfile import MAX_BYTES
from chunk_memo.disk.filters import checked_compression
from chunk_memo.errors import MetadataError, SpecError, did_you_mean
from chunk_memo.grid import ChunkKey, Grid, chunk_sizes, make_axis
from chunk_memo.identity import canonical_bytes, digest_of_bytes, params_to_cache_id
from chunk_memo.layers import GcReport
from chunk_memo.lineage import collected
from chunk_memo.options import OPTION_NAMES, Options, RunOptions
from chunk_memo.runners import Diagnostics
from chunk_memo.sweeps import Settings, Sweep
from chunk_memo.versions import Evolution, History

if TYPE_CHECKING:
    from chunk_memo.tables.parquet import Exported

__all__ = ["ChunkMemo", "SweepFunction", "auto_load"]

_MOST_CACHES = 256


_PLACING = ("chunk_hash_fn", "path_fn", "allow_pickle", "max_chunk_bytes", "shared", "read_only")
"""Options that hold for every cache of a memo, also for those that are opened by their id."""


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
    max_chunk_bytes, shared, read_only : optional
        As in :class:`ChunkCache`.
    compression : {"zstd", "blosc2", "gzip"}, optional
        How the arrays of new files are compressed, as in :class:`ChunkCache`.
    allow_pickle : bool, default True
        Whether outputs without a native form may be pickled, and signed pickles loaded; see :class:`ChunkCache`.

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
        max_chunk_bytes: int = MAX_BYTES,
        shared: str | None = None,
        read_only: bool = False,
        compression: str | None = None,
        allow_pickle: bool = True,
    ) -> None:
        _check_root(root)
        if not isinstance(axis_values, Mapping):
            raise SpecError(
                f"axis_values must map axis names to values, got {axis_values!r}; pass {{}} for no axes, or"
                f" open an existing cache with auto_load(root, params)"
            )
        self.root = Path(root) if root is not None else Path(".chunk_memo")
        self._home = Path(os.path.realpath(self.root))
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
            "max_chunk_bytes": max_chunk_bytes,
            "shared": shared,
            "read_only": read_only,
            "compression": checked_compression(compression),
            "allow_pickle": allow_pickle,
        }
        axes = tuple(make_axis(name, values) for name, values in axis_values.items())
        self._axes = {axis.name: axis for axis in axes}
        self._sizes = chunk_sizes(chunk_spec, axis_values, axes)
        self._axis_order = None if axis_order is None else tuple(axis_order)
        self._caches: dict[tuple[bytes, tuple[str, ...], Any], ChunkCache] = {}
        self._lock = threading.Lock()
        self.history = History(self._home)
        self._grid(self._axis_order or ())

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: the settings, and the root as an absolute path."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_lock", "history")}
        return {**state, "root": self._home, "_caches": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what travelled; caches are opened anew."""
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self.history = History(self._home)

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

    def _repr_html_(self) -> str:
        """Return the root and the axes, for a notebook."""
        from chunk_memo.display.notebook import html_of_memo

        return html_of_memo(self)

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
        return ChunkCache(self._home, cache_id, metadata, grid=self._grid(order), identity=identity, **given)

    # --- decorators ----------------------------------------------------------------------------------------

    @overload
    def cache(self, function: Callable[Given, Block], /) -> SweepFunction[Given, tuple[Block, Diagnostics]]: ...

    @overload
    def cache(self, function: Callable[Given, Any], /) -> SweepFunction[Given, tuple[Any, Diagnostics]]: ...

    @overload
    def cache(
        self,
        params_arg: str = "params",
        *,
        vectorize: Literal[False] = False,
        outputs: Literal["list", "grid", "flat", "columns", "frame"] | None = None,
        collate_fn: None = None,
        **options: Unpack[DecoratorOptions],
    ) -> BlockDecorator: ...

    @overload
    def cache(
        self,
        params_arg: str = "params",
        *,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Merged],
        **options: Unpack[DecoratorOptions],
    ) -> SweepDecorator[tuple[Merged, Diagnostics]]: ...

    @overload
    def cache(
        self,
        params_arg: str = "params",
        *,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: None = None,
        **options: Unpack[DecoratorOptions],
    ) -> SweepDecorator[tuple[Any, Diagnostics]]: ...

    def cache(
        self,
        params_arg: Any = "params",
        *,
        version: str | None = None,
        name: str | None = None,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        axis_order: Sequence[str] | None = None,
        allow_pickle: bool | None = None,
        compression: str | None = None,
        depends_on: Sequence[Any] = (),
        ignore: Sequence[str] = (),
        on_code_change: Literal["recompute", "warn", "error"] = "recompute",
        new_params: Mapping[str, Any] | None = None,
        renamed_from: str | Mapping[str, str] | Sequence[str | Mapping[str, str]] = (),
        **options: Unpack[RunOptions],
    ) -> Any:
        """Return a decorator that memoizes a sweep function.

        The decorated function is called with values for its axes (one, several, or none for the full axis),
        or with ``axis_indices={axis: int | slice | range | sequence}``, and with its other arguments, which are
        the params. ``extend_cache=True`` adds values that an axis does not have yet. It returns
        ``(output, diagnostics)`` and carries ``cache_status``, ``plan``, ``cache_for`` and ``invalidate``, each
        called with the same arguments, and what else :class:`SweepFunction` names. ``refresh=True`` computes anew
        what is asked for; ``map_fn="processes"`` and the other :class:`Options`, and ``observers=[…]``, say how.

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
            Used in place of the memo's own: False refuses outputs that can only be pickled, and all pickles.
        compression : {"zstd", "blosc2", "gzip"}, optional
            Used in place of the memo's own.
        depends_on : sequence, optional
            Functions, classes, modules and :class:`~pathlib.Path` files that results depend on, too.
        ignore : sequence of str, optional
            Arguments that results do not depend on, such as ``["n_jobs", "verbose"]``.
        on_code_change : {"recompute", "warn", "error"}, default "recompute"
            What to do where results for the params of a call were made by other code.
        new_params : mapping of str to object, optional
            ``{"beta": 0.0}``: results from before there was the param, or the axis, `beta` count for this value
            of it.
        renamed_from : str, mapping, or sequence of these, optional
            ``"old_name"`` of the function, ``{"beta": "b"}`` of params (new: old), or both as
            ``("old_name", {"beta": "b"})``: results under the old names count. A function that moves to
            another module needs no word.
        **options : object
            Where calls compute, and what they do when a point fails: see :class:`Options`. A call's own
            options go before these.

        Returns
        -------
        callable
            The decorator.

        Raises
        ------
        SignatureError
            Where the function is async, a generator, or lacks an argument for an axis.
        SpecError
            Where `outputs`, `version`, `name`, `map_fn` or `on_code_change` cannot be, or a setting names an axis
            or an argument that is not there.
        """
        settings = Settings(
            params_arg=params_arg,
            version=version,
            name=name,
            vectorize=vectorize,
            outputs=outputs,
            collate_fn=collate_fn,
            axis_order=axis_order or self._axis_order,
            allow_pickle=allow_pickle,
            compression=checked_compression(compression),
            depends_on=_several("depends_on", depends_on),
            ignore=_several("ignore", ignore),
            on_code_change=on_code_change,
            evolution=Evolution.of(renamed_from, new_params),
            streaming=False,
            options=_options(options),
        )
        return self._decorator(settings)

    @overload
    def stream_cache(self, function: Callable[Given, Any], /) -> SweepFunction[Given, Diagnostics]: ...

    @overload
    def stream_cache(
        self,
        params_arg: str = "params",
        *,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        **options: Unpack[DecoratorOptions],
    ) -> SweepDecorator[Diagnostics]: ...

    def stream_cache(
        self,
        params_arg: Any = "params",
        *,
        version: str | None = None,
        name: str | None = None,
        vectorize: bool = False,
        outputs: str | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        axis_order: Sequence[str] | None = None,
        allow_pickle: bool | None = None,
        compression: str | None = None,
        depends_on: Sequence[Any] = (),
        ignore: Sequence[str] = (),
        on_code_change: Literal["recompute", "warn", "error"] = "recompute",
        new_params: Mapping[str, Any] | None = None,
        renamed_from: str | Mapping[str, str] | Sequence[str | Mapping[str, str]] = (),
        **options: Unpack[RunOptions],
    ) -> Any:
        """Return a decorator like :meth:`cache` whose functions only store, and return the diagnostics.

        Parameters
        ----------
        params_arg, version, name, vectorize, outputs, collate_fn, axis_order, allow_pickle : optional
            As in :meth:`cache`.
        compression, depends_on, ignore, on_code_change, new_params, renamed_from : optional
            As in :meth:`cache`.
        **options : object
            As in :meth:`cache`.

        Returns
        -------
        callable
            The decorator; the functions keep at most one chunk's outputs in memory.
        """
        settings = Settings(
            params_arg=params_arg,
            version=version,
            name=name,
            vectorize=vectorize,
            outputs=outputs,
            collate_fn=collate_fn,
            axis_order=axis_order or self._axis_order,
            allow_pickle=allow_pickle,
            compression=checked_compression(compression),
            depends_on=_several("depends_on", depends_on),
            ignore=_several("ignore", ignore),
            on_code_change=on_code_change,
            evolution=Evolution.of(renamed_from, new_params),
            streaming=True,
            options=_options(options),
        )
        return self._decorator(settings)

    def _decorator(self, settings: Settings) -> Any:
        settings.check()
        if callable(settings.params_arg):  # @memo.cache without parentheses
            function, settings = settings.params_arg, settings.plain()
            return Sweep(self, function, settings).wrapper()

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return Sweep(self, function, settings).wrapper()

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
        describe: Callable[[], Mapping[str, Any]],
        order: tuple[str, ...],
        name: str,
        **options: Any,
    ) -> ChunkCache:
        """Return the cache of a decorated function and its params.

        Parameters
        ----------
        identity : bytes
            Canonical bytes of the function and its params.
        describe : callable
            Returns what is known of both, for ``metadata.json``.
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
            return self._make(cache_id, describe(), identity, order, name=name, **options)

        return self._cached(identity, order, kind, make)

    def placing(self) -> dict[str, Any]:
        """Return how caches of this memo name, place and guard their files.

        Returns
        -------
        dict of str to object
            Keywords of :class:`ChunkCache`.
        """
        return {name: self._options[name] for name in _PLACING}

    def drop(self, cache_ids: Iterable[str]) -> None:
        """Close caches, because they were deleted.

        Parameters
        ----------
        cache_ids : iterable of str
            The caches.
        """
        gone = set(cache_ids)
        with self._lock:
            for key in [key for key, cache in self._caches.items() if cache.cache_id in gone]:
                del self._caches[key]

    def gc(self, *, grace: float = 3600.0, dry_run: bool = False, quarantine: bool = False) -> GcReport:
        """Remove files that no call reads any more from all caches in the root; see :meth:`ChunkCache.gc`.

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
            What was removed.
        """
        found = (entry["cache_id"] for entry in catalog.discover(self._home) if entry["metadata"] is not None)
        caches = (ChunkCache.load_from_cache(self._home, cache_id, **self.placing()) for cache_id in found)
        return collected(caches, grace=grace, dry_run=dry_run, quarantine=quarantine)

    def to_parquet(
        self, path: str | os.PathLike[str], partition_by: Sequence[str] = (), *, durability: str = "full"
    ) -> Exported:
        """Export the results of all functions and params over this memo's axes as one tidy Parquet dataset.

        Parameters
        ----------
        path : path-like
            The dataset's folder.
        partition_by : sequence of str, optional
            Columns whose values name folders, such as ``["function"]``.
        durability : {"full", "fast"}
            Whether files are synced before this returns.

        Returns
        -------
        Exported
            How many chunks were written, and how many were there.

        Raises
        ------
        TableError
            Where the folder holds something else, or is partitioned otherwise.

        Notes
        -----
        The columns ``function`` and ``cache_id`` stand before params, axes and outputs. Of several versions of a
        function with the same params the newest is exported; of outputs and params that differ in type, text.
        """
        from chunk_memo.tables.parquet import export_memo

        return export_memo(self, path, partition_by, durability=durability)

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
            Whether the values on disk count too, before those of `axis_values`; and the results of a cache of
            fewer params, or of one to which an axis was a param.
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
        given = _walked_once(axis_values or {})
        known = _known(root, params, needed=axis_values is None)
        adopted: list[catalog.Narrower] = []
        if extend_cache and not (known is not None and files.is_there(root / known["cache_id"] / "adopted")):
            adopted = catalog.narrower(root, params, given if axis_values is not None else None)
        if known is None and axis_values is None and not adopted:
            raise catalog.missing_cache(root, params_to_cache_id(params))
        covering = known is not None and catalog.covers(known["axis_values"], given, superset=True)
        if known is not None and (axis_values is None or (allow_superset and covering)):
            given = {**known["axis_values"], **given}
            if allow_superset:
                options["exclusive"] = options["warn_on_overlap"] = False
        elif known is not None and extend_cache:
            given = _united(known["axis_values"], given)
            options["exclusive"] = options["warn_on_overlap"] = False
        for each in adopted:
            there = catalog.known(root, each.cache_id) or {"axis_values": {}}
            given = _united({**there["axis_values"], **{n: [v] for n, v in each.pinned.items()}}, given)
        if known is not None:
            sizes = {n: s for n, s in known["chunk_spec"].items() if n in given}
            chunk_spec = chunk_spec if chunk_spec is not None else sizes
            order = known["axis_order"]
            if axis_order is None and sorted(order) == sorted(given):
                axis_order = order
        memo = cls(root, chunk_spec, given, version=version, axis_order=axis_order, **options)
        if adopted or options.get("exclusive") or options.get("warn_on_overlap"):
            cache = memo.cache_for_params(params)
            for each in adopted:
                cache.adopt(each.cache_id, pinned=each.pinned or None)
        return memo


def _check_root(root: Any) -> None:
    if root is not None and not isinstance(root, str | os.PathLike):
        way = f"axis_values={root!r}" if isinstance(root, Mapping) else f"root={str(root)!r}"
        raise SpecError(f"root must be the path of a folder, got {root!r}; write {way}")


def _options(given: RunOptions) -> Options:
    """Return the options of runs that a decorator was given, which may be misspelt keywords of its own."""
    unknown = next((name for name in given if name not in OPTION_NAMES), None)
    if unknown is not None:
        own = [name for name in inspect.signature(ChunkMemo.cache).parameters if name not in ("self", "options")]
        near = did_you_mean(unknown, [*own, *OPTION_NAMES])
        raise SpecError(
            f"{unknown!r} is no keyword of cache(){near}; its keywords are {own}, and those of a run"
            f" {sorted(OPTION_NAMES)}"
        )
    return Options().updated(given)


def _several(name: str, given: Any) -> tuple[Any, ...]:
    """Return the entries of a setting that takes several."""
    if isinstance(given, str) or not isinstance(given, Sequence | set | frozenset):
        raise SpecError(f"{name} takes a list, got {given!r}; write {name}=[…]")
    return tuple(given)


def _walked_once(axis_values: Mapping[str, Any]) -> dict[str, Any]:
    """Return axis values that can be looked at again and again, which iterators cannot."""
    return {n: deque(vs) if isinstance(vs, Iterator) else vs for n, vs in axis_values.items()}


def _known(root: Path, params: Mapping[str, Any], *, needed: bool) -> dict[str, Any] | None:
    """Return what is known of a cache on disk."""
    try:
        return catalog.known(root, params_to_cache_id(params))
    except MetadataError:
        if needed:
            raise
        return None


def _united(known: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    united = {name: list(values) for name, values in known.items()}
    for name, values in asked.items():
        united[name] = [*united.get(name, []), *make_axis(name, values).values]
    return united


auto_load = ChunkMemo.auto_load
"""Module function of the same behaviour as :meth:`ChunkMemo.auto_load`."""
