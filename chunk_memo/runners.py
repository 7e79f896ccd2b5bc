"""The runners: ``run``, ``run_streaming``, ``run_chunks`` and ``run_chunks_streaming``.

Collecting runs gather the outputs; streaming runs drop them once they are stored. Any cache
that plans, reads and writes will do; a user's own :class:`CacheProtocol` object goes
through one adapter. What happens in between is the business of :mod:`chunk_memo.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack

from chunk_memo import maps
from chunk_memo.cache import ChunkCache
from chunk_memo.engine import Diagnostics, Engine
from chunk_memo.errors import ChunkFormatError, SpecError
from chunk_memo.events import Observer
from chunk_memo.grid import ChunkKey
from chunk_memo.options import Options, RunOptions
from chunk_memo.outputs import Collector
from chunk_memo.protocol import PROTOCOL_METHODS, CacheProtocol, ProtocolCache, RunnerContext
from chunk_memo.selection import Selection

__all__ = [
    "Diagnostics",
    "Running",
    "run",
    "run_chunks",
    "run_chunks_streaming",
    "run_streaming",
    "verbs_of",
]


def run(
    cache: ChunkCache | CacheProtocol,
    exec_fn: Callable[..., Any],
    *,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    on_partial: str = "compute",
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
    **options: Unpack[RunOptions],
) -> tuple[Any, Diagnostics]:
    """Return the outputs of a function over all that a cache or slice covers; compute only what is missing.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache, sliced to what is wanted.
    exec_fn : callable
        Called with one list of values per axis, or with single values where the cache was made with
        ``vectorize=True``.
    collate_fn : callable, optional
        Used in place of the cache's own; called with a list of chunk outputs.
    on_partial : {"compute", "return"}, default "compute"
        What to do with a chunk of which only some of the points asked are stored: compute the others, or
        return those that are there (for list outputs only).
    context : RunnerContext, optional
        Used for ``verbose``, ``profile`` and ``collate_fn`` in place of the cache.
    observers : iterable of Observer, optional
        Called with the events of the run.
    **options : object
        Where it computes, and what it does when a point fails: see :class:`Options`.

    Returns
    -------
    tuple of object, Diagnostics
        The outputs in the order asked, and what was done.

    Raises
    ------
    OutputError
        Where the function returned something that does not fit its points.
    StoreError
        Where results could not be stored; its ``output`` holds them.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2, 3]})
    >>> run(cache, lambda s: [v * v for v in s])[0]
    [1, 4, 9]
    """
    verbs = verbs_of(cache)
    chosen = [verbs.selection()]
    return _collected(cache, verbs, exec_fn, chosen, collate_fn, on_partial, context, observers, options)


def run_streaming(
    cache: ChunkCache | CacheProtocol,
    exec_fn: Callable[..., Any],
    *,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
    **options: Unpack[RunOptions],
) -> Diagnostics:
    """Compute and store what is missing, and keep no outputs; at most one chunk is in memory.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache, sliced to what is wanted.
    exec_fn : callable
        As in :func:`run`.
    collate_fn : callable, optional
        Accepted for symmetry with :func:`run`; there is nothing to collate.
    context : RunnerContext, optional
        Used for ``verbose`` and ``profile`` in place of the cache.
    observers : iterable of Observer, optional
        Called with the events of the run.
    **options : object
        Where it computes, and what it does when a point fails: see :class:`Options`.

    Returns
    -------
    Diagnostics
        What was done.
    """
    verbs = verbs_of(cache)
    return _streamed(cache, verbs, exec_fn, [verbs.selection()], context, observers, options)


def run_chunks(
    chunk_keys: Sequence[ChunkKey],
    exec_fn: Callable[..., Any],
    *,
    cache: ChunkCache | CacheProtocol,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    on_partial: str = "compute",
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
    **options: Unpack[RunOptions],
) -> tuple[Any, Diagnostics]:
    """Return the outputs of explicit chunks; compute only what is missing.

    Parameters
    ----------
    chunk_keys : sequence of ChunkKey
        Chunks as pairs of axis name and values, for example of ``cache.cache_status()["missing_chunks"]``.
    exec_fn : callable
        As in :func:`run`.
    cache : ChunkCache or CacheProtocol
        The cache.
    collate_fn : callable, optional
        Used in place of the cache's own; called with one entry per chunk key.
    on_partial : {"compute", "return"}, default "compute"
        As in :func:`run`.
    context : RunnerContext, optional
        As in :func:`run`.
    observers : iterable of Observer, optional
        Called with the events of the run.
    **options : object
        As in :func:`run`.

    Returns
    -------
    tuple of object, Diagnostics
        Lists of outputs one after the other; for arrays a list with one entry per chunk key.
    """
    verbs = verbs_of(cache)
    selections = [verbs.selection_of_key(key) for key in chunk_keys]
    return _collected(
        cache, verbs, exec_fn, selections, collate_fn, on_partial, context, observers, options, by_key=True
    )


def run_chunks_streaming(
    chunk_keys: Sequence[ChunkKey],
    exec_fn: Callable[..., Any],
    *,
    cache: ChunkCache | CacheProtocol,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    context: RunnerContext | None = None,
    observers: Iterable[Observer] = (),
    **options: Unpack[RunOptions],
) -> Diagnostics:
    """Compute and store what is missing of explicit chunks, and keep no outputs.

    Parameters
    ----------
    chunk_keys : sequence of ChunkKey
        Chunks as pairs of axis name and values.
    exec_fn : callable
        As in :func:`run`.
    cache : ChunkCache or CacheProtocol
        The cache.
    collate_fn : callable, optional
        Accepted for symmetry with :func:`run_chunks`; there is nothing to collate.
    context : RunnerContext, optional
        As in :func:`run`.
    observers : iterable of Observer, optional
        Called with the events of the run.
    **options : object
        As in :func:`run`.

    Returns
    -------
    Diagnostics
        What was done.
    """
    verbs = verbs_of(cache)
    selections = [verbs.selection_of_key(key) for key in chunk_keys]
    return _streamed(cache, verbs, exec_fn, selections, context, observers, options)


class Running:
    """A run that has begun: what it runs over, and how it ends.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache.
    verbs : ChunkCache or ProtocolCache
        The same, as :func:`verbs_of` gives it.
    exec_fn : callable
        The function.
    context : RunnerContext or None
        Used for settings in place of the cache.
    observers : iterable of Observer
        Called with the events of the run.
    options : mapping
        As :class:`Options` has them.
    """

    def __init__(
        self,
        cache: Any,
        verbs: ChunkCache | ProtocolCache,
        exec_fn: Callable[..., Any],
        context: RunnerContext | None,
        observers: Iterable[Observer],
        options: Mapping[str, Any],
    ) -> None:
        self._settings = cache if context is None else context
        how = Options().updated(options)
        maps.check(how)
        self.engine = Engine(verbs, exec_fn, _watchers(self._settings, observers), how)
        self.engine.describe()

    @property
    def collate_fn(self) -> Callable[[list[Any]], Any] | None:
        """What puts chunk outputs together, where the call names nothing else."""
        return getattr(self._settings, "collate_fn", None)

    def refuse_unstored(self) -> None:
        """Raise at once where the cache cannot even be described, and outputs would not be kept."""
        if self.engine.unstored is not None:
            raise self.engine.store_error() from self.engine.unstored

    def finished(self, output: Any) -> tuple[Any, Diagnostics]:
        """End the run: log and sum up, and raise where outputs could not be stored.

        Parameters
        ----------
        output : object
            What the call returns.

        Returns
        -------
        tuple of object, Diagnostics
            That, and what was done.

        Raises
        ------
        StoreError
            Where outputs could not be stored; it holds them.
        """
        engine = self.engine
        if getattr(self._settings, "profile", False):
            _log(engine)
        engine.sum_up()
        if engine.unstored is not None:
            error = engine.store_error()
            error.output = output
            raise error from engine.unstored
        return output, engine.diagnostics


def verbs_of(cache: Any) -> ChunkCache | ProtocolCache:
    """Return what the engine runs: a subclass that replaces one of the document's methods is run by those.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The user's.

    Returns
    -------
    ChunkCache or ProtocolCache
        The cache itself, or an adapter to it.
    """
    own = isinstance(cache, ChunkCache) and all(
        getattr(type(cache), name) is getattr(ChunkCache, name) for name in PROTOCOL_METHODS
    )
    return cache if own else ProtocolCache(cache)


def _collected(
    cache: Any,
    verbs: ChunkCache | ProtocolCache,
    exec_fn: Callable[..., Any],
    selections: Sequence[Selection],
    collate_fn: Callable[[list[Any]], Any] | None,
    on_partial: str,
    context: RunnerContext | None,
    observers: Iterable[Observer],
    options: Mapping[str, Any],
    *,
    by_key: bool = False,
) -> tuple[Any, Diagnostics]:
    if on_partial not in ("compute", "return"):
        raise SpecError(f"on_partial must be 'compute' or 'return', got {on_partial!r}")
    running = Running(cache, verbs, exec_fn, context, observers, options)
    engine, collate = running.engine, collate_fn or running.collate_fn
    by_chunk = collate is not None and not by_key

    def gathered() -> Any:
        collectors = engine.collect(selections, by_chunk=by_chunk, on_partial=on_partial)
        return _put_together(collectors, collate, by_key)

    try:
        output = gathered()
    except ChunkFormatError:  # what a file holds is looked at in detail only when it is put together
        if not verbs.weed():
            raise
        engine.start_again()
        output = gathered()
    engine.diagnostics.merges = 1
    return running.finished(output)


def _put_together(collectors: list[Collector], collate: Callable[[list[Any]], Any] | None, by_key: bool) -> Any:
    if not by_key:
        (collector,) = collectors
        return collector.result() if collate is None else collate(collector.entries())
    entries = [collector.result() for collector in collectors]
    if collate is not None:
        return collate(entries)
    if all(isinstance(entry, list) for entry in entries):
        return [output for entry in entries for output in entry]
    return entries


def _streamed(
    cache: Any,
    verbs: ChunkCache | ProtocolCache,
    exec_fn: Callable[..., Any],
    selections: Sequence[Selection],
    context: RunnerContext | None,
    observers: Iterable[Observer],
    options: Mapping[str, Any],
) -> Diagnostics:
    running = Running(cache, verbs, exec_fn, context, observers, options)
    running.refuse_unstored()
    running.engine.stream([(selection, None) for selection in selections])
    return running.finished(None)[1]


def _watchers(settings: Any, observers: Iterable[Observer]) -> list[Observer]:
    """Return who watches a run: the user's observers, a heartbeat, and a bar unless ``verbose=0``."""
    from chunk_memo.display.heartbeat import Heartbeat

    silent = getattr(settings, "read_only", False)  # a heartbeat lies in the cache's folder
    watchers: list[Observer] = [*observers] if silent else [*observers, Heartbeat()]
    if getattr(settings, "verbose", 0):
        from chunk_memo.display.progress import ProgressBar

        watchers.append(ProgressBar())
    return watchers


def _log(engine: Engine) -> None:
    import logging

    d = engine.diagnostics
    logging.getLogger("chunk_memo").info(
        "%s: plan %.3f s, read %.3f s, execute %.3f s, write %.3f s; %d of %d points executed",
        engine.cache.name or engine.cache.cache_id,
        d.plan_seconds,
        d.read_seconds,
        d.execute_seconds,
        d.write_seconds,
        d.executed_points,
        d.total_points,
    )
