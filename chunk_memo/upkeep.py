"""What can be deleted from a whole root: from each cache, and what deletions that were killed left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chunk_memo import catalog
from chunk_memo.cache import ChunkCache
from chunk_memo.disk import files
from chunk_memo.errors import ChunkMemoError
from chunk_memo.layers import GcReport
from chunk_memo.verification import checked_root

__all__ = ["Collected", "collect"]


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
