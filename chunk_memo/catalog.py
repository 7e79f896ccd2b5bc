"""Which caches lie in a root, and what is known of each: ``metadata.json`` held against its layouts."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.disk.layouts import Folder
from chunk_memo.errors import (
    CacheNotFoundError,
    CollisionError,
    DamageWarning,
    MetadataError,
    PackageVersionWarning,
)
from chunk_memo.grid import Grid, chunk_sizes, make_axis
from chunk_memo.identity import canonical_bytes, canonical_many, from_jsonable

__all__ = [
    "FORGOTTEN",
    "Narrower",
    "check_identity",
    "covers",
    "described",
    "differences",
    "discover",
    "find",
    "function_of",
    "known",
    "missing_cache",
    "narrower",
    "stored_values",
]

FORGOTTEN = ".forgotten-"
"""Names of folders that are being deleted begin with this; they are no caches any more."""


def known(root: str | os.PathLike[str], cache_id: str) -> dict[str, Any] | None:
    """Return what is known of a cache on disk.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id : str
        The cache.

    Returns
    -------
    dict or None
        Its metadata, with ``axis_values`` as they are now; None where there is no such cache.

    Raises
    ------
    MetadataError
        Where its ``metadata.json`` is damaged.
    """
    folder = Folder(Path(root) / cache_id, "")
    metadata = folder.read_metadata()
    if metadata is not None:
        folder.version = metadata["version"]
        folder.refresh()
        metadata["axis_values"] = stored_values(metadata, folder)
    return metadata


def described(root: str | os.PathLike[str], cache_id: str) -> dict[str, Any] | None:
    """Return what a cache's ``metadata.json`` says, and nothing that would take another look.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id : str
        The cache.

    Returns
    -------
    dict or None
        Its metadata; None where there is none that can be read.
    """
    if cache_id.startswith(FORGOTTEN):
        return None
    try:
        return Folder(Path(root) / cache_id, "").read_metadata()
    except (MetadataError, NotADirectoryError):
        return None


def function_of(root: str | os.PathLike[str], cache_id: str) -> tuple[dict[str, Any], str] | None:
    """Return what a cache says of the function that made it, without checking the rest of its metadata.

    A root may hold thousands of caches, and to check each checksum takes four times as long.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id : str
        The cache.

    Returns
    -------
    tuple of dict, str, or None
        What is known of the function, and when the cache came to be; None where it was made by params, or
        where that cannot be read.
    """
    if cache_id.startswith(FORGOTTEN):
        return None
    try:
        document = json.loads(files.read_whole(Path(root) / cache_id / "metadata.json"))
        metadata = document["metadata"]
        if "function" not in metadata:  # where one of the user's own entries is no JSON, all are encoded
            metadata = from_jsonable(metadata)
        return dict(metadata["function"]), str(document["created_at"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Narrower:
    """A cache made by params, of which the params asked for hold more, or which an axis was a param of."""

    cache_id: str
    """the cache"""
    params: int
    """number of its params that are params still"""
    pinned: Mapping[str, Any]
    """axes that were params, with their values"""


def narrower(
    root: str | os.PathLike[str], params: Mapping[str, Any], axes: Collection[str] | None
) -> list[Narrower]:
    """List the caches whose results hold for more params, or for some values of further axes.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    params : mapping of str to object
        The params asked for.
    axes : collection of str or None
        The axes asked for; None for those that there are.

    Returns
    -------
    list of Narrower
        Of the caches made by params those with the most params in common; of several that say nothing of any
        value of an axis the newest.
    """
    keys = {name: canonical_bytes(value) for name, value in params.items()}
    found: list[tuple[str, Narrower]] = []
    for name in sorted(files.list_folder(root)):
        metadata = described(root, name)
        if metadata is None or "function" in metadata["metadata"]:
            continue
        there = metadata["metadata"].get("params", {})
        shared = {n for n in there if n in keys and keys[n] == canonical_bytes(there[n])}
        pinned = {n: there[n] for n in there.keys() - shared}
        wanted = set(metadata["axis_order"] if axes is None else axes)
        sure = metadata["identity"] == canonical_bytes(dict(there))
        if len(shared) == len(keys) and not pinned:
            continue  # that is the cache asked for
        if sure and set(pinned) <= wanted == {*metadata["axis_order"], *pinned}:
            found.append((metadata["created_at"], Narrower(name, len(shared), pinned)))
    most = max((each.params for _, each in found), default=0)
    ends = sorted((created, each.cache_id, each) for created, each in found if each.params == most)
    newest = [each for *_, each in ends if not each.pinned][-1:]
    return [*newest, *(each for *_, each in ends if each.pinned)]


def stored_values(metadata: Mapping[str, Any], folder: Folder) -> dict[str, list[Any]]:
    """Return the axis values of a cache on disk: those of its metadata, then those of its layouts.

    Parameters
    ----------
    metadata : mapping
        What ``metadata.json`` says.
    folder : Folder
        The cache's folder, its layouts read.

    Returns
    -------
    dict of str to list
        Axis name to values.
    """
    values = {name: list(vs) for name, vs in metadata["axis_values"].items()}
    for name, more in folder.axis_values().items():
        if name in values:
            there = set(canonical_many(values[name]))
            values[name] += [v for v in more if canonical_bytes(v) not in there]
    return values


def discover(root: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """List the caches in a root.

    Parameters
    ----------
    root : path-like
        A folder of caches; one that does not exist has none.

    Returns
    -------
    list of dict
        For each cache ``cache_id``, ``path`` and ``metadata``; the latter is None where it is damaged.
    """
    found = []
    for name in sorted(files.list_folder(root)):
        path = Path(root) / name
        if name.startswith(FORGOTTEN) or not files.is_folder(path):
            continue
        try:
            metadata = known(root, name)
        except MetadataError as error:
            warnings.warn(str(error), DamageWarning, stacklevel=3)
            found.append({"cache_id": name, "path": path, "metadata": None})
            continue
        if metadata is not None:
            found.append({"cache_id": name, "path": path, "metadata": metadata})
    return found


def find(
    root: str | os.PathLike[str],
    cache_id: str | None = None,
    axis_values: Mapping[str, Any] | None = None,
    chunk_spec: Mapping[str, Any] | None = None,
    version: str | None = None,
    axis_order: Sequence[str] | None = None,
    allow_superset: bool = False,
) -> list[dict[str, Any]]:
    """List the caches in a root that fit what is given; what is left out fits all.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id, axis_values, chunk_spec, version, axis_order : object, optional
        What a cache must have.
    allow_superset : bool, default False
        Whether a cache with more values, or further axes, fits `axis_values`.

    Returns
    -------
    list of dict
        As :func:`discover`.
    """

    def fits(entry: Mapping[str, Any]) -> bool:
        metadata = entry["metadata"]
        if metadata is None or (cache_id is not None and entry["cache_id"] != cache_id):
            return False
        if version is not None and metadata["version"] != version:
            return False
        if axis_order is not None and list(metadata["axis_order"]) != list(axis_order):
            return False
        there = metadata["axis_values"]
        if chunk_spec is not None and metadata["chunk_spec"] != _sizes(chunk_spec, there):
            return False
        return axis_values is None or covers(there, axis_values, superset=allow_superset)

    return [entry for entry in discover(root) if fits(entry)]


def _sizes(chunk_spec: Mapping[str, Any], values: Mapping[str, list[Any]]) -> dict[str, int] | None:
    if not set(chunk_spec) <= set(values):
        return None
    axes = [make_axis(name, vs) for name, vs in values.items()]
    return chunk_sizes(chunk_spec, values, axes)


def covers(there: Mapping[str, list[Any]], asked: Mapping[str, Any], *, superset: bool) -> bool:
    """Tell whether a cache's axis values are those asked for, or hold them.

    Parameters
    ----------
    there : mapping of str to list
        The cache's axis values.
    asked : mapping
        Axis name to values.
    superset : bool
        Whether more values, and further axes, will do.

    Returns
    -------
    bool
        Whether they fit.
    """
    axes = {name: make_axis(name, values) for name, values in asked.items()}
    if not set(axes) <= set(there) or (not superset and len(axes) < len(there)):
        return False
    for name, axis in axes.items():
        keys = canonical_many(there[name])
        if not (set(axis.keys) <= set(keys) if superset else list(axis.keys) == keys):
            return False
    return True


def check_identity(
    metadata: Mapping[str, Any], cache_id: str, identity: bytes | None, own: Mapping[str, Any]
) -> None:
    """Refuse to let one id stand for two things, and tell where its results rest on other packages.

    Parameters
    ----------
    metadata : mapping
        What the ``metadata.json`` that is there says.
    cache_id : str
        The cache.
    identity : bytes or None
        Canonical bytes that the id was made from; None where that is not known.
    own : mapping
        The metadata that this program would write.

    Raises
    ------
    CollisionError
        Where they differ, or where an explicit ``version=`` joins functions of two modules.
    """
    if identity is not None and metadata["identity"] not in (b"", identity):
        raise CollisionError(
            f"the cache id {cache_id!r} already stands for other params or another function; give this one"
            f" another name (name=…) or version"
        )
    there, here = metadata["metadata"].get("function"), own.get("function")
    if not isinstance(there, Mapping) or not isinstance(here, Mapping):
        return
    if here.get("version") is None:
        _tell_of_packages(there.get("packages"), here.get("packages"), str(here.get("name")))
        return
    modules = {there.get("module"), here.get("module")}
    if len(modules) > 1 and "__main__" not in modules:
        raise CollisionError(
            f"{here.get('name')!r} of version {here.get('version')!r} in module {here.get('module')!r} would"
            f" share results with the function of that name and version in module {there.get('module')!r};"
            f" give one of them another name with name=…"
        )


_told: set[tuple[str, str, str]] = set()


def _tell_of_packages(there: Any, here: Any, name: str) -> None:
    """Say which packages have other versions than those that results were made with; of each once."""
    if not isinstance(there, Mapping) or not isinstance(here, Mapping) or there == here:
        return
    changed = {(each, str(there[each]), str(here[each])) for each in there.keys() & here.keys()}
    news = sorted((each, then, now) for each, then, now in changed - _told if then != now)
    _told.update(news)
    if news:
        shown = ", ".join(f"{each} {then} (now {now})" for each, then, now in news)
        warnings.warn(
            f"results of {name!r} were made with {shown}; they are used as they are. Where that matters, compute"
            f" anew: call with refresh=True, or give another version=",
            PackageVersionWarning,
            stacklevel=3,
        )


def differences(metadata: Mapping[str, Any], stored: Mapping[str, list[Any]], grid: Grid) -> Iterator[str]:
    """Iterate over what tells a cache on disk from a declared grid.

    Parameters
    ----------
    metadata : mapping
        What ``metadata.json`` says.
    stored : mapping of str to list
        The axis values on disk.
    grid : Grid
        The declared grid.

    Yields
    ------
    str
        The name of what differs, then in which axis and how.
    """
    for name in sorted({*stored, *grid.order}):
        if name not in stored or name not in grid.order:
            yield f"axis_values (axis {name!r} is only in the {'stored' if name in stored else 'new'} one)"
            continue
        axis = grid.axis(name)
        there = set(canonical_many(stored[name]))
        if there != set(axis.keys):
            common = len(there & set(axis.keys))
            yield (f"axis_values (axis {name!r}: {len(there)} stored, {len(axis)} asked for, {common} in common)")
    sizes = metadata["chunk_spec"]
    for name, size in grid.sizes.items():
        if name in sizes and sizes[name] != size:
            yield f"chunk_spec (axis {name!r}: {sizes[name]} stored, {size} asked for)"


def missing_cache(root: str | os.PathLike[str], cache_id: str) -> CacheNotFoundError:
    """Return the error that says that a root has no such cache.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id : str
        The cache.

    Returns
    -------
    CacheNotFoundError
        The error, with the number of caches that are there.
    """
    there = [name for name in files.list_folder(root) if not name.startswith(FORGOTTEN)]
    count = sum(files.is_folder(Path(root) / name) for name in there)
    return CacheNotFoundError(
        f"there is no cache {cache_id!r} in '{root}', which holds {count} caches; pass axis_values to make one"
    )
