"""What is done to a whole root when asked for: what nobody needs is deleted, pickles are signed anew."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.chunks import ChunkStore, Naming
from chunk_memo.disk import files
from chunk_memo.disk.layouts import Folder
from chunk_memo.errors import ChunkMemoError, KeyFileError
from chunk_memo.layers import GcReport
from chunk_memo.verification import checked_root

__all__ = ["Collected", "Resigned", "collect", "resign"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted from a root, or would be.

    Examples
    --------
    >>> import tempfile
    >>> collect(tempfile.mkdtemp()).total
    GcReport(superseded=0, parts=0, layouts=0, temporary=0, signs=0, quarantined=0, folders=0, nbytes=0)
    """

    root: str
    """The folder of caches."""
    dry_run: bool
    """Whether nothing was deleted."""
    caches: dict[str, GcReport]
    """What each cache held of it, those that held nothing left out."""
    leftovers: int
    """Number of caches whose deletion was begun and is finished now, and of unfinished files beside caches."""
    passed_over: dict[str, str]
    """Caches that were left alone, each with the reason."""

    @property
    def total(self) -> GcReport:
        """The sums over all caches."""
        return sum(self.caches.values(), GcReport())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields, and ``total``.
        """
        return {**asdict(self), "total": asdict(self.total)}


def collect(
    root: str | os.PathLike[str], *, grace: float = 3600.0, dry_run: bool = False, quarantine: bool = False
) -> Collected:
    """Delete from every cache in a root what no request can ever need.

    Never a point that counts: files none of whose points do any more, parts of chunks whose complete file is
    intact, layouts that say nothing an older one does not say, what writers that were killed left behind, signs
    of runs that ended, and folders in which nothing is left.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    grace : float, default 3600.0
        Seconds, by the clock of the file system, that an unfinished or quarantined file must be old.
    dry_run : bool, default False
        Whether to tell only.
    quarantine : bool, default False
        Whether damaged files that were set aside are deleted, too.

    Returns
    -------
    Collected
        What was deleted.

    Raises
    ------
    RootError
        Where there is no such root.
    """
    path = checked_root(root)
    caches: dict[str, GcReport] = {}
    passed_over: dict[str, str] = {}
    for name in sorted(files.list_folder(path)):
        if name.startswith(catalog.FORGOTTEN) or not files.is_there(path / name / "metadata.json"):
            continue
        try:
            cache = ChunkCache.load_from_cache(path, name, verbose=0)
            report = cache.gc(grace=grace, dry_run=dry_run, quarantine=quarantine)
        except (ChunkMemoError, OSError) as error:
            passed_over[name] = str(error)
            continue
        if report != GcReport():
            caches[name] = report
    leftovers = [*_leftovers(path, grace, dry_run)]
    for each in leftovers if not dry_run else ():
        files.remove_tree(each)
        if not files.is_folder(each):
            files.remove(each)
    return Collected(os.fspath(root), dry_run, caches, len(leftovers), passed_over)


def _leftovers(root: Path, grace: float, dry_run: bool) -> Iterator[Path]:
    """Iterate over what is no cache any more, and what never became one."""
    names = [
        name for name in files.list_folder(root) if name.startswith((catalog.FORGOTTEN, files.TEMPORARY_PREFIX))
    ]
    before = (time.time() if dry_run or not names else files.now(root)) - grace
    for name in names:
        seen = files.look_at(root / name, follow=False)
        if seen is not None and (seen.modified < before or name.startswith(catalog.FORGOTTEN)):
            yield root / name


@dataclass(frozen=True, slots=True)
class Resigned:
    """Which pickles of a root carry this user's own signature now."""

    root: str
    """The folder of caches."""
    files: int = 0
    """Number of chunk files that were read."""
    signed: int = 0
    """Number of files whose pickles were signed anew."""
    refused: tuple[tuple[str, str], ...] = ()
    """Files whose pickles no trusted key signed, or that could not be read, each with the reason."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it.

        Returns
        -------
        dict
            The fields.
        """
        return asdict(self)


def resign(root: str | os.PathLike[str]) -> Resigned:
    """Sign the pickles in every cache of a root with this user's own key, where another trusted key signed them.

    So they stay readable when that key is revoked. Pickles that no trusted key signed are left as they are.

    Parameters
    ----------
    root : path-like
        A folder of caches.

    Returns
    -------
    Resigned
        What was done.

    Raises
    ------
    RootError
        Where there is no such root.
    KeyFileError
        Where there is no key to sign with.
    """
    path = checked_root(root)
    read = signed = 0
    refused: list[tuple[str, str]] = []
    for name in sorted(files.list_folder(path)):
        for stores in _stores(path, name):
            for file in stores[0].folder.chunk_files():
                read += 1
                try:
                    with files.Syncer() as syncer:
                        signed += any(store.sign_anew(file, syncer) for store in stores)
                except FileNotFoundError:
                    continue
                except KeyFileError:
                    raise
                except (ChunkMemoError, OSError) as error:
                    refused.append((file.relative_to(path).as_posix(), str(error)))
    return Resigned(os.fspath(root), read, signed, tuple(refused))


def _stores(root: Path, cache_id: str) -> list[list[ChunkStore]]:
    """Return the chunks of each room of a cache by generation; none where it is no cache that can be read."""
    try:
        metadata = catalog.described(root, cache_id)
    except OSError:
        return []
    if metadata is None:
        return []
    function = metadata["metadata"].get("function")
    title = str(function.get("name", "")) if isinstance(function, Mapping) else ""
    folder = Folder(root / cache_id, metadata["version"])
    folder.refresh()
    store = ChunkStore(folder, cache_id, Naming({}), allow_pickle=True, title=title)
    numbers = range(folder.records.generation + 1)
    return [[room.of_generation(number) for number in numbers] for room in store.rooms()]
