"""Other methods in the place of a cache's own, for the keywords of ``run_parallel``.

The cache is wrapped once; what runs it sees an object with the methods of :class:`CacheProtocol` and asks no
further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chunk_memo.errors import SpecError

__all__ = ["with_overrides"]


class _Overridden:
    """A cache with some methods replaced."""

    def __init__(self, cache: Any, methods: Mapping[str, Callable[..., Any]]) -> None:
        self._cache = cache
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._cache, name)


def with_overrides(cache: Any, methods: Mapping[str, Callable[..., Any]]) -> Any:
    """Return a cache in which some methods are replaced.

    Parameters
    ----------
    cache : ChunkCache or CacheProtocol
        The cache; it stays as it is.
    methods : mapping of str to callable
        Name to what is called in its place.

    Returns
    -------
    CacheProtocol
        What a runner runs.

    Raises
    ------
    SpecError
        Where one cannot be called.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo import ChunkCache
    >>> cache = ChunkCache(tempfile.mkdtemp(), "demo", axis_values={"s": [1, 2]})
    >>> with_overrides(cache, {"chunk_hash": lambda key: "mine"}).chunk_hash(())
    'mine'
    """
    for name, method in methods.items():
        if not callable(method):
            raise SpecError(f"{name} must be callable, got {method!r}")
    return _Overridden(cache, methods)
