"""The caches below a root, found and opened without the code that made them: :func:`open`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from chunk_memo.cache import ChunkCache
from chunk_memo.catalog import described
from chunk_memo.disk import files
from chunk_memo.errors import CacheNotFoundError, RootError
from chunk_memo.survey import CacheSummary, details, survey

__all__ = ["CacheEntry", "Caches", "open"]

_MOST_FILES = 500
"""Of a cache with more files than this, points are not counted for a table."""

_MOST_DEPTH = 3
"""So many folders below the one that was named a root is looked for."""


@dataclass(frozen=True)
class CacheEntry:
    """One cache that was found, not yet opened."""

    root: Path
    """The folder of caches that it lies in."""
    summary: CacheSummary
    """What its folder tells."""

    @property
    def cache_id(self) -> str:
        """Its id, the name of its folder."""
        return self.summary.cache_id

    @property
    def name(self) -> str:
        """The function's name; empty for a cache made by hand."""
        return self.summary.name

    @property
    def axes(self) -> Mapping[str, int]:
        """Number of values of each axis."""
        return self.summary.axes

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""
        return self.summary.nbytes

    @property
    def created_at(self) -> str:
        """When it came to be: ISO 8601, UTC."""
        return self.summary.created_at

    @cached_property
    def params(self) -> dict[str, Any]:
        """The params that its results hold for."""
        known = described(self.root, self.cache_id)
        params = {} if known is None else known["metadata"].get("params")
        return dict(params) if isinstance(params, Mapping) else {}

    @cached_property
    def points(self) -> int:
        """Number of points stored, in the grid and besides; the head of each of its files is read for that."""
        return sum(self._points)

    @cached_property
    def _points(self) -> tuple[int, int]:
        found = details(self.root, self.cache_id)
        return found.points, found.scattered_points

    @property
    def points_text(self) -> str:
        """How many points are stored of those of the grid, and how many that form no grid; … if many files."""
        total = math.prod(self.axes.values())
        if self.summary.damage:
            return "damaged"
        if self.summary.chunk_files + self.summary.part_files > _MOST_FILES:
            return f"… of {total:,}"
        grid, besides = self._points
        return f"{grid:,} of {total:,}" + (f", {besides:,} besides" if besides else "")

    def open(self, **options: Any) -> ChunkCache:
        """Open the cache.

        Parameters
        ----------
        **options : object
            Further keywords of :class:`ChunkCache`.

        Returns
        -------
        ChunkCache
            The cache, with the axis values that it has on disk.
        """
        return ChunkCache.load_from_cache(self.root, self.cache_id, **options)

    def __repr__(self) -> str:
        """Return name, params and axes in one line."""
        axes = ", ".join(f"{name}: {count}" for name, count in self.axes.items())
        return f"CacheEntry({self.name or self.cache_id!r}, {_params_text(self.params)}; {axes or 'no axes'})"


class Caches(Sequence[ChunkCache]):
    """The caches below a root; prints as a table, and opens each when it is taken.

    Parameters
    ----------
    root : Path
        The folder that was named.
    entries : iterable of CacheEntry
        What was found.

    Examples
    --------
    >>> import tempfile, chunk_memo
    >>> memo = chunk_memo.ChunkMemo(folder := tempfile.mkdtemp(), axis_values={"s": [1, 2]}, verbose=0)
    >>> @memo.cache()
    ... def double(s, alpha=1):
    ...     return [2 * alpha * value for value in s]
    >>> _ = double(), double(alpha=3)
    >>> caches = chunk_memo.open(folder)
    >>> len(caches), caches.where(alpha=3)[0].to_numpy()
    (2, array([ 6, 12]))
    """

    def __init__(self, root: Path, entries: Iterable[CacheEntry]) -> None:
        self.root = root
        self.entries = tuple(entries)

    def __len__(self) -> int:
        """Return the number of caches."""
        return len(self.entries)

    @overload
    def __getitem__(self, index: int | str) -> ChunkCache: ...
    @overload
    def __getitem__(self, index: slice) -> Caches: ...
    def __getitem__(self, index: Any) -> Any:
        """Open a cache by its place in the table, by its id, or by the function's name where it has one."""
        if isinstance(index, slice):
            return Caches(self.root, self.entries[index])
        if isinstance(index, str):
            return self._named(index).open()
        return self.entries[index].open()

    def __iter__(self) -> Iterator[ChunkCache]:
        """Open one cache after the other."""
        return (entry.open() for entry in self.entries)

    def _named(self, name: str) -> CacheEntry:
        for found in (
            [entry for entry in self.entries if entry.cache_id == name],
            [entry for entry in self.entries if name in (entry.name, entry.name.rpartition(".")[2])],
        ):
            if len(found) == 1:
                return found[0]
            if found:
                shown = "; ".join(_params_text(entry.params) for entry in found[:5])
                raise CacheNotFoundError(
                    f"{len(found)} caches below '{self.root}' are of {name!r} ({shown}); choose by params:"
                    f" where({name!r}, …)"
                )
        raise CacheNotFoundError(
            f"there is no cache {name!r} below '{self.root}'; the functions there are"
            f" {sorted({entry.name for entry in self.entries if entry.name})}"
        )

    def where(self, name: str | None = None, **params: Any) -> Caches:
        """Return the caches of a function, or of some params.

        Parameters
        ----------
        name : str, optional
            The function's name.
        **params : object
            Values that params must have; or functions that are called with the value and tell whether it fits.

        Returns
        -------
        Caches
            Those that fit.
        """

        def fits(entry: CacheEntry) -> bool:
            if name is not None and name not in (entry.name, entry.name.rpartition(".")[2]):
                return False
            return all(key in entry.params and _equal(entry.params[key], wish) for key, wish in params.items())

        return Caches(self.root, filter(fits, self.entries))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each cache.

        Returns
        -------
        list of dict
            ``cache_id``, ``root``, ``name``, ``params``, ``axes``, ``points``, ``nbytes`` and ``created_at``.
        """
        return [
            {
                "cache_id": entry.cache_id,
                "root": entry.root,
                "name": entry.name,
                "params": entry.params,
                "axes": dict(entry.axes),
                "points": entry.points,
                "nbytes": entry.nbytes,
                "created_at": entry.created_at,
            }
            for entry in self.entries
        ]

    def rows(self) -> list[tuple[str, str, str, str, int, str]]:
        """Return what a table shows of each cache.

        Returns
        -------
        list of tuple
            Function, params, axes, points stored of those of the grid, bytes, and date, as texts but the bytes.
        """
        return [_row(entry) for entry in self.entries]

    def __repr__(self) -> str:
        """Return the table."""
        return str(self)

    def __str__(self) -> str:
        """Return the table as text."""
        from chunk_memo.display.history import size_text, table_lines

        if not self.entries:
            return f"no caches below '{self.root}'"
        head = ("", "function", "params", "axes", "points", "size", "created")
        rows = [
            (str(n), name, params, axes, points, size_text(nbytes), created)
            for n, (name, params, axes, points, nbytes, created) in enumerate(self.rows())
        ]
        return "\n".join(table_lines(head, rows, left=(1, 2, 3, 6)))

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from chunk_memo.display.notebook import html_of_caches

        return html_of_caches(self)


def _row(entry: CacheEntry) -> tuple[str, str, str, str, int, str]:
    axes = ", ".join(f"{name}: {count}" for name, count in entry.axes.items())
    name = entry.name or entry.cache_id[:12]
    created = entry.created_at[:16].replace("T", " ")
    return (
        name,
        _params_text(entry.params),
        axes,
        entry.points_text,
        entry.nbytes,
        created,
    )


def _params_text(params: Mapping[str, Any]) -> str:
    import reprlib

    short = reprlib.Repr()
    short.maxstring = short.maxother = 30
    shown = [f"{name}={short.repr(value)}" for name, value in list(params.items())[:6]]
    return ", ".join(shown) + (", …" if len(params) > 6 else "")


def _equal(value: Any, wish: Any) -> bool:
    if callable(wish):
        try:
            return bool(wish(value))
        except TypeError:  # a value that it cannot compare
            return False
    try:
        return bool(value == wish)
    except (TypeError, ValueError):
        return False


def open(root: str | os.PathLike[str]) -> Caches:
    """Return the caches below a folder, as a sequence that prints as a table and opens any of them.

    No code is needed, and none is run: neither that of the functions, nor pickles.

    Parameters
    ----------
    root : path-like
        A folder of caches, or a folder that has some below it, down to three levels.

    Returns
    -------
    Caches
        The caches, by function and date.

    Raises
    ------
    RootError
        Where there is no such folder.
    """
    path = Path(root)
    if not files.is_folder(path):
        raise RootError(
            2, f"there is no folder '{path}' to look for caches in; pass a root, such as '.chunk_memo'"
        )
    entries = [CacheEntry(place, summary) for place in _roots(path, _MOST_DEPTH) for summary in survey(place)]
    return Caches(path, sorted(entries, key=lambda entry: (entry.name, entry.created_at, entry.cache_id)))


def _roots(path: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below a folder in which caches lie directly."""
    inner = []
    holds = False
    try:
        names = files.list_folder(path)
    except OSError:
        return
    for name in names:
        below = path / name
        seen = files.look_at(below, follow=False)
        if seen is None or not seen.is_folder:
            continue
        if files.is_there(below / "metadata.json"):
            holds = True
        else:
            inner.append(below)
    if holds:
        yield path
    for folder in sorted(inner) if depth and not holds else ():
        yield from _roots(folder, depth - 1)
