"""What a decorated function does about its past: adopt declared results, keep to its policy, accept, forget.

Finding out what other code left takes a look at the whole root, so it is done at the first call for params that
have no cache yet, and once more where the function declares that it has evolved. A warm call asks a set.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.disk import files
from chunk_memo.disk.layouts import ROOMS
from chunk_memo.errors import (
    CacheNotFoundError,
    CodeChangedError,
    CodeChangedWarning,
    MetadataError,
    SpecError,
    caller_level,
)
from chunk_memo.identity import FunctionIdentity
from chunk_memo.layers import GcReport
from chunk_memo.versions import (
    Code,
    CodeVersion,
    Evolution,
    Forgotten,
    History,
    Predecessor,
    Version,
    Versions,
    diff_of,
    made_before,
    narrower,
    other_params,
    params_of,
    predecessor,
    what_changed,
)

__all__ = ["POLICIES", "Lineage", "collected", "delete_caches"]

POLICIES = ("recompute", "warn", "error")
"""What ``on_code_change`` can be."""

MakeCache = Callable[[dict[str, Any]], tuple[ChunkCache, dict[str, Any]]]
"""Returns the cache for the params of an older one, and the values of axes that were params."""

_RESULTS = (*[os.path.join(room, "chunks") for room in ROOMS], "adopted")
"""Folders of a cache that say that it has results."""

_MOST_SETTLED = 100_000


class Lineage:
    """A decorated function and the results that other versions of it left in a root.

    Parameters
    ----------
    history : History
        What lies in the root.
    root : path-like
        The root.
    name : str
        The function's name.
    policy : {"recompute", "warn", "error"}
        What to do where other code has results for the params of a call.
    label : str or None
        The ``version=`` that replaces the digest of the code; whoever gives one has decided, so only plans say
        that it differs.
    evolution : Evolution
        What the function declares.
    options : mapping of str to object
        Keywords with which :class:`ChunkCache` opens caches of the function.
    pinned : mapping of str to object, optional
        Axes that are new, each with the value at which results from before hold.
    """

    def __init__(
        self,
        history: History,
        root: str | os.PathLike[str],
        name: str,
        policy: str,
        label: str | None,
        evolution: Evolution,
        options: Mapping[str, Any],
        pinned: Mapping[str, Any] | None = None,
    ) -> None:
        self._pinned = dict(pinned or {})
        self._history = history
        self._root = Path(os.path.abspath(root))
        self._name = name
        self._policy = policy
        self._label = label
        self._evolution = evolution
        self._options = dict(options)
        self._settled: set[str] = set()
        self._scanned: set[Code] = set()

    # --- at a call -----------------------------------------------------------------------------------------

    def find(
        self, cache: ChunkCache, identity: FunctionIdentity, code: Code, params: Mapping[str, Any]
    ) -> Predecessor | None:
        """Return the cache of other code that matters for a call; None where that is settled.

        Parameters
        ----------
        cache : ChunkCache
            The call's own cache.
        identity : FunctionIdentity
            The current code.
        code : tuple of str
            What stands for it.
        params : mapping of str to object
            The params that identify the cache.

        Returns
        -------
        Predecessor or None
            The cache.
        """
        if cache.cache_id in self._settled:
            return None
        there = self._exists(cache.cache_id)
        if there and (not (self._evolution or self._pinned) or cache.adopted):
            self._settle(cache)
            return None
        if code not in self._scanned:
            self._history.refresh()
            self._scanned.add(code)
        found = self._narrower(cache, identity, code, params) or predecessor(
            self._history, self._name, identity, code, params, self._evolution, exists=self._exists
        )
        if found is not None and not found.declared:
            cache.miss_reason = what_changed(found.version, identity, self._label)
            lacks = self._lacking(cache, found.cache_id)
            if lacks and not self._pinned:
                cache.miss_reason += f"; what is stored {made_before(lacks)}"
            return None if there else found
        if found is None and not there:
            cache.miss_reason = other_params(
                self._history,
                self._name,
                identity.module,
                params,
                self._evolution,
                cache.axis_order,
                self._exists,
            )
        return found

    def _narrower(
        self, cache: ChunkCache, identity: FunctionIdentity, code: Code, params: Mapping[str, Any]
    ) -> Predecessor | None:
        """Return the cache from before there were the axes that the function declares to be new."""
        if not self._pinned:
            return None
        return narrower(
            self._history,
            self._name,
            code,
            identity.module,
            params,
            self._evolution,
            self._pinned,
            lambda cache_id: self._lacking(cache, cache_id),
        )

    def _lacking(self, cache: ChunkCache, cache_id: str) -> frozenset[str] | None:
        """Return the axes that another cache lacks; None where it is not there, or has others."""
        known = catalog.known(self._root, cache_id) if self._exists(cache_id) else None
        if known is None or not set(known["axis_order"]) <= set(cache.axis_order):
            return None
        return frozenset(cache.axis_order) - set(known["axis_order"])

    def _exists(self, cache_id: str) -> bool:
        """Tell whether a cache has results: none where the function failed, or an adoption was cut short."""
        folder = self._root / cache_id
        if self._options.get("path_fn") is not None:  # they lie where the user wants them
            return files.is_there(folder)
        return any(files.is_there(folder / name) for name in _RESULTS)

    def _settle(self, cache: ChunkCache) -> None:
        if len(self._settled) >= _MOST_SETTLED:
            self._settled.clear()
        self._settled.add(cache.cache_id)

    def settle(self, cache: ChunkCache, found: Predecessor | None) -> None:
        """Do what is to be done before a call is answered.

        Parameters
        ----------
        cache : ChunkCache
            The call's own cache.
        found : Predecessor or None
            What :meth:`find` returned.

        Raises
        ------
        CodeChangedError
            Where the policy is ``"error"``, and other code has results for these params.
        """
        if found is not None and found.declared:
            try:
                cache.adopt(found.cache_id, pinned=found.pinned)
            except (CacheNotFoundError, MetadataError, SpecError):
                pass  # deleted or damaged, or over other axes: then its results cannot count
        elif found is not None and self._label is None and self._policy != "recompute":
            self._tell(found.version, str(cache.miss_reason))
        self._settle(cache)

    def _tell(self, version: Version, reason: str) -> None:
        made = f"results for these params, made by the code of {version.created_at}"
        if self._policy == "error":
            short = self._name.rpartition(".")[2]
            raise CodeChangedError(
                f"{self._name!r} has {made} ({_short(version)}): {reason}. {short}.accept() lets them count"
                f" for the code as it is now, {short}.versions() shows what was changed; version='…' on the"
                f" decorator replaces the digest of the code, and on_code_change='recompute' computes anew"
            )
        warnings.warn(
            f"{self._name!r} has {made} ({_short(version)}), and computes anew: {reason}",
            CodeChangedWarning,
            stacklevel=caller_level(),
        )

    def preview(self, cache: ChunkCache, found: Predecessor | None) -> ChunkCache:
        """Return a cache whose plan is that of a call, without adopting anything.

        Parameters
        ----------
        cache : ChunkCache
            The call's own cache.
        found : Predecessor or None
            What :meth:`find` returned.

        Returns
        -------
        ChunkCache
            The call's own cache; or, under its id, the one whose results it would adopt.
        """
        if found is None or not found.declared:
            return cache
        if found.pinned:
            return cache.as_adopting(found.cache_id, found.pinned)
        view = copy.copy(cache)
        view.exclusive = view.warn_on_overlap = False
        view.set_identity(found.cache_id)
        view.cache_id = cache.cache_id
        return view

    # --- on request ----------------------------------------------------------------------------------------

    def caches(self) -> Iterator[ChunkCache]:
        """Open every cache that the function has in the root.

        Yields
        ------
        ChunkCache
            The cache, with the axis values that it has on disk.
        """
        self._history.refresh()
        for version in self._found():
            yield from self._opened(sorted(version.caches))

    def _found(self) -> list[Version]:
        return self._history.of((self._name, *self._evolution.names))

    def _opened(self, cache_ids: Iterable[str]) -> Iterator[ChunkCache]:
        for cache_id in cache_ids:
            try:
                yield ChunkCache.load_from_cache(self._root, cache_id, **self._options)
            except (CacheNotFoundError, MetadataError):  # it was deleted or damaged a moment ago
                continue

    def versions(self, identity: FunctionIdentity, codes: Iterable[Code], *, count: bool = True) -> Versions:
        """Return the versions of the code that have results.

        Parameters
        ----------
        identity : FunctionIdentity
            The current code.
        codes : iterable of tuple of str
            What stands for it.
        count : bool, default True
            Whether to count points and bytes.

        Returns
        -------
        Versions
            The versions, oldest first, the current one last.
        """
        self._history.refresh()
        current = set(codes)
        listed = [
            self._described(version, identity, current=version.name == self._name and version.code in current)
            for version in self._found()
        ]
        if count:
            listed = [self._counted(version) for version in listed]
            listed = [version for version in listed if version.points or not version.current]
        return Versions(sorted(listed, key=lambda version: version.current))

    def _described(self, version: Version, identity: FunctionIdentity, *, current: bool) -> CodeVersion:
        diff = diff_of(version.source, identity.source, _short(version))
        if not diff and not current:  # a constant was changed, say, of which no text is kept
            diff = f"# {what_changed(version, identity, self._label)}"
        return CodeVersion(
            digest=str(version.record["digest"]),
            version=version.record.get("version"),
            name=version.name,
            module=version.module,
            created_at=version.created_at,
            caches=tuple(sorted(version.caches)),
            points=0,
            bytes=0,
            source=version.source,
            diff="" if current else diff,
            current=current,
        )

    def _counted(self, version: CodeVersion) -> CodeVersion:
        points = sum(cache.count_points() for cache in self._opened(version.caches))
        size = sum(_bytes_in(self._root / cache_id) for cache_id in version.caches)
        return dataclasses.replace(version, points=points, bytes=size)

    def accept(self, version: CodeVersion, make: MakeCache) -> int:
        """Let the results of other code count for the current code, for all params.

        A kill in the middle leaves some params done and others not; repeating does the rest.

        Parameters
        ----------
        version : CodeVersion
            The other code.
        make : callable
            Takes the params of an older cache; returns the current code's cache for them, and values of axes
            that were params.

        Returns
        -------
        int
            Number of params.
        """
        done = 0
        for cache_id in version.caches:
            metadata = catalog.described(self._root, cache_id)
            if metadata is None:
                continue
            cache, pinned = make(params_of(metadata["identity"]))
            cache.adopt(cache_id, pinned=pinned or None)
            done += 1
        return done

    def forget(self, version: CodeVersion, *, dry_run: bool, force: bool) -> Forgotten:
        """Delete the caches of a version.

        Parameters
        ----------
        version : CodeVersion
            The version.
        dry_run : bool
            Whether to tell only.
        force : bool
            Whether to delete results of the current code, and such as count for other caches.

        Returns
        -------
        Forgotten
            What was deleted.

        Raises
        ------
        SpecError
            Where that takes `force`.
        """
        if version.current and not force:
            raise SpecError(f"{version!r} is the code that runs; forget(…, force=True) deletes its results too")
        users = [] if force else self._users(version.caches)
        if users:
            raise SpecError(
                f"results of {version!r} count for {len(users)} other caches, such as {users[0]!r}, which would"
                f" compute them anew; forget(…, force=True) deletes them nevertheless"
            )
        size = sum(_bytes_in(self._root / cache_id) for cache_id in version.caches)
        if not dry_run:
            delete_caches(self._root, version.caches)
            for cache_id in version.caches:
                self._settled.discard(cache_id)
                self._history.drop(cache_id)
        return Forgotten(version.caches, size, dry_run)

    def _users(self, cache_ids: Sequence[str]) -> list[str]:
        """Return which other caches read from some caches."""
        wanted = set(cache_ids)
        others = [name for name in sorted(files.list_folder(self._root)) if name not in wanted]
        adopting = [name for name in others if files.is_there(self._root / name / "adopted")]
        return [
            cache.cache_id
            for cache in self._opened(adopting)
            if any(record.cache_id in wanted for record in cache.adopted)
        ]


def _short(version: Version) -> str:
    label = version.record.get("version")
    return f"{version.name} {str(version.record['digest'])[:8]}" if label is None else f"{version.name} {label}"


def _bytes_in(folder: Path) -> int:
    """Return the sizes of all files in a folder, those that vanish left out."""
    paths = (f"{inner}/{name}" for inner, _, names in files.walk(folder) for name in names)
    found = (files.look_at(path, follow=False) for path in paths)
    return sum(seen.size for seen in found if seen is not None)


def delete_caches(root: str | os.PathLike[str], cache_ids: Iterable[str]) -> None:
    """Delete caches: each at once under another name, then file by file.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_ids : iterable of str
        The caches.
    """
    for cache_id in cache_ids:
        try:
            files.rename(Path(root) / cache_id, Path(root) / f"{catalog.FORGOTTEN}{cache_id}-{os.getpid()}")
        except FileNotFoundError:
            continue
        except OSError:  # renaming is refused; without its metadata it is no cache any more
            files.remove(Path(root) / cache_id / "metadata.json")
            files.remove_tree(Path(root) / cache_id)
    for name in files.list_folder(root):
        if name.startswith(catalog.FORGOTTEN):  # those of a process that was killed here, too
            files.remove_tree(Path(root) / name)


def collected(caches: Iterable[ChunkCache], *, grace: float, dry_run: bool, quarantine: bool) -> GcReport:
    """Remove from caches what no call reads any more.

    Parameters
    ----------
    caches : iterable of ChunkCache
        The caches.
    grace : float
        Seconds for which files are kept that another process might be writing or reading.
    dry_run : bool
        Whether to tell only.
    quarantine : bool
        Whether to remove damaged files that were set aside, too.

    Returns
    -------
    GcReport
        What was removed.
    """
    report = GcReport()
    for cache in caches:
        report += cache.gc(grace=grace, dry_run=dry_run, quarantine=quarantine)
    return report
