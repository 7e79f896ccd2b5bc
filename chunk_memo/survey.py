"""What lies in a root, at a glance and in detail; nothing is changed, and nothing is adopted, by looking."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chunk_memo import catalog, items
from chunk_memo.chunks import ChunkStore, Naming
from chunk_memo.disk import files
from chunk_memo.disk.layouts import ROOMS, Folder, in_room, is_cache, parsed_layout
from chunk_memo.disk.sealing import DAMAGE, unsealed
from chunk_memo.errors import ChunkFormatError, MetadataError

__all__ = ["AxisSummary", "CacheDetails", "CacheSummary", "details", "survey"]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """One cache, as far as its folder tells without its chunk files being opened."""

    cache_id: str
    """The cache."""
    name: str
    """The function's name; empty for a cache made by hand."""
    version: str
    """Its namespace."""
    created_at: str
    """ISO 8601, UTC; empty where that is not known."""
    axes: Mapping[str, int]
    """Number of values of each axis, in axis order."""
    chunk_files: int
    """Number of complete chunk files, those of points that form no grid included."""
    part_files: int
    """Number of files with some points of a chunk, likewise."""
    nbytes: int
    """Bytes of all its files."""
    changed_at: float
    """When a file last came or went, in seconds since 1970-01-01 UTC."""
    quarantined: int = 0
    """Number of damaged files that were set aside."""
    unfinished: int = 0
    """Number of files that a writer began, and has not finished yet, or never will."""
    failures: int = 0
    """Number of records of failed points."""
    damage: str = ""
    """What is wrong with its ``metadata.json``; empty where nothing is."""
    scattered_files: int = 0
    """How many of its files, complete or not, hold points that form no grid."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields.
        """
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AxisSummary:
    """One axis of a cache."""

    name: str
    """Its name."""
    count: int
    """Number of values."""
    first: str
    """The first value, as text; empty where there is none."""
    last: str
    """The last one."""
    chunk_size: int
    """Number of values to a chunk."""


@dataclass(frozen=True, slots=True)
class CacheDetails:
    """One cache, with what its manifests say."""

    summary: CacheSummary
    """What its folder tells."""
    axes: tuple[AxisSummary, ...]
    """Its axes, in axis order."""
    params: Mapping[str, str]
    """The params that identify it, as text."""
    function: Mapping[str, str]
    """What is known of the function: ``name``, ``module``, ``digest``, ``version``."""
    chunks: int
    """Number of chunks of which something is stored."""
    points: int
    """Number of points of the grid stored, as chunk files count them; those that were superseded included."""
    total_points: int
    """Number of points of the grid."""
    layouts: int
    """Number of layout files."""
    adopted: tuple[str, ...]
    """Ids of caches whose results count here, too."""
    generation: int
    """How often results were superseded."""
    user: Mapping[str, str] = field(default_factory=dict)
    """The user's own metadata, as text."""
    scattered_points: int = 0
    """Number of points stored that form no grid, counted in the same way."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The summary's fields, and these.
        """
        own = asdict(self)
        summary = own.pop("summary")
        return {**summary, **own}


def survey(root: str | os.PathLike[str]) -> list[CacheSummary]:
    """List the caches in a root.

    Parameters
    ----------
    root : path-like
        A folder of caches.

    Returns
    -------
    list of CacheSummary
        The caches, by id.

    Examples
    --------
    >>> import tempfile
    >>> survey(tempfile.mkdtemp())
    []
    """
    return [_summary(Path(root, name)) for name in _caches(root)]


def _caches(root: str | os.PathLike[str]) -> Iterator[str]:
    for name in sorted(files.list_folder(root)):
        if not name.startswith((catalog.FORGOTTEN, files.TEMPORARY_PREFIX)) and is_cache(Path(root, name)):
            yield name


def _summary(path: Path) -> CacheSummary:
    damage, metadata = "", None
    try:
        metadata = _metadata(path)
    except MetadataError as error:
        damage = str(error)
    counts = {"chunk": 0, "part": 0, "quarantined": 0, "unfinished": 0, "failures": 0, "scattered": 0}
    nbytes = 0
    changed = 0.0
    for folder, _, names in files.walk(path):
        room, place = in_room(os.path.relpath(folder, path).replace(os.sep, "/"))
        seen = files.look_at(folder)
        changed = max(changed, seen.modified if seen is not None and place.startswith("chunks") else 0.0)
        for name in names:
            kind = _kind(place, name)
            counts[kind] = counts.get(kind, 0) + 1
            counts["scattered"] += bool(room) and kind in ("chunk", "part")
            found = files.look_at(f"{folder}/{name}", follow=False)
            nbytes += found.size if found is not None else 0
    return CacheSummary(
        path.name,
        _function(metadata).get("name", ""),
        str(metadata["version"]) if metadata is not None else "",
        str(metadata["created_at"]) if metadata is not None else "",
        _counts(metadata),
        *(counts["chunk"], counts["part"], nbytes, changed),
        *(counts["quarantined"], counts["unfinished"], counts["failures"]),
        damage,
        counts["scattered"],
    )


def _kind(place: str, name: str) -> str:
    if name.startswith(files.TEMPORARY_PREFIX):
        return "unfinished"
    if place.startswith("chunks") and name.endswith(".h5"):
        return "part" if place.endswith(".parts") else "chunk"
    return {"quarantine": "quarantined", "failures": "failures"}.get(place.partition("/")[0], "other")


def _counts(metadata: Mapping[str, Any] | None) -> dict[str, int]:
    if metadata is None:
        return {}
    return {name: len(metadata["axis_values"].get(name, ())) for name in metadata["axis_order"]}


def _function(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    function = metadata["metadata"].get("function") if metadata is not None else None
    if not isinstance(function, Mapping):
        return {}
    names = ("name", "module", "digest", "version")
    return {name: str(function[name]) for name in names if function.get(name) is not None}


def details(root: str | os.PathLike[str], cache_id: str) -> CacheDetails:
    """Say what is known of one cache; the manifests of all its chunk files are read.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    cache_id : str
        The cache.

    Returns
    -------
    CacheDetails
        What is known.

    Raises
    ------
    CacheNotFoundError
        Where there is no such cache.
    """
    path = Path(root) / cache_id
    if cache_id not in _caches(root):
        raise catalog.missing_cache(root, cache_id)
    summary = _summary(path)
    metadata = None if summary.damage else _metadata(path)
    folder = Folder(path, summary.version)
    store = ChunkStore(folder, cache_id, Naming({}), allow_pickle=False, title="")
    entries = _entries(store)
    scattered = [entry for room in store.rooms()[1:] for entry in _entries(room)]
    known = metadata["metadata"] if metadata is not None else {}
    params = known.get("params")
    axes = _axes(metadata)
    total = 1
    for axis in axes:
        total *= axis.count
    records = files.list_folder(path / "superseded")
    generations = [int(name.partition("-")[0]) for name in records if name.partition("-")[0].isdecimal()]
    return CacheDetails(
        summary,
        axes,
        {name: _SHORT.repr(value) for name, value in params.items()} if isinstance(params, Mapping) else {},
        _function(metadata),
        len(entries),
        sum(entry["points"] for entry in entries),
        total if axes else 0,
        sum(len(files.list_folder(path / room / "layouts")) for room in ROOMS),
        tuple(_adopted(path)),
        max(generations, default=0),
        {str(k): _SHORT.repr(v) for k, v in known.items() if k not in ("params", "function")},
        sum(entry["points"] for entry in scattered),
    )


def _entries(store: ChunkStore) -> list[dict[str, Any]]:
    """Return what the files of each chunk in a room say of it."""
    entries: dict[str, dict[str, Any]] = {}
    for name, entry, _ in items.index(store.folder, store):
        entries[name] = items.joined(entries.get(name), entry)
    return list(entries.values())


def _metadata(path: Path) -> dict[str, Any] | None:
    """Return what is known of a cache, with its axis values as they are now."""
    metadata = Folder(path, "").read_metadata()
    if metadata is None:
        return None
    folder = Folder(path, metadata["version"])
    for name in files.list_folder(path / "layouts"):
        try:
            digest, layout = parsed_layout(files.read_whole(path / "layouts" / name), name)
        except (ChunkFormatError, OSError):
            continue
        if layout.version == folder.version:
            folder.layouts[digest] = layout
    metadata["axis_values"] = catalog.stored_values(metadata, folder)
    return metadata


def _axes(metadata: Mapping[str, Any] | None) -> tuple[AxisSummary, ...]:
    if metadata is None:
        return ()
    found = []
    for name in metadata["axis_order"]:
        values: Sequence[Any] = metadata["axis_values"].get(name, ())
        first, last = (_SHORT.repr(values[number]) if values else "" for number in (0, -1))
        found.append(AxisSummary(name, len(values), first, last, int(metadata["chunk_spec"].get(name, 0))))
    return tuple(found)


def _adopted(path: Path) -> Iterator[str]:
    for name in sorted(files.list_folder(path / "adopted")):
        try:
            yield str(unsealed(files.read_whole(path / "adopted" / name))[0]["record"]["cache_id"])
        except (*DAMAGE, OSError):
            continue
