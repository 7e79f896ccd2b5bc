"""What one cache says of results that it did not make, or that no longer count: small immutable records.

::

    <root>/<cache_id>/
      adopted/<digest>.json                   results of another cache count for this one
      superseded/<generation>-<digest>.json   these points count only if stored in that generation or later

A record is written like a layout: once, whole, synced, named by the digest of what it says; two processes that
say the same write the same file, and ``created_at`` lies outside of the digest. So no crash and no race can leave
half of one. An adoption that is damaged is set aside, and its results are computed again. One that supersedes
must not be lost, for that would bring outdated results back: its generation stands in its name, and while it
cannot be read, or where it is damaged, it supersedes *every* point of the generations before.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.disk.sealing import DAMAGE, digest_of_text, from_row, sealed, text_of, to_row, unsealed
from chunk_memo.errors import DamageWarning, FormatVersionError
from chunk_memo.identity import from_jsonable, to_jsonable

__all__ = ["FOLDERS", "Adopted", "Records", "Superseded"]

FOLDERS = ("adopted", "superseded")
"""Where records lie in a cache's folder."""

_FORMAT_VERSION = 1
"""Version of the records that this library writes, and the latest that it reads."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Results of another cache in the same root count for this one."""

    cache_id: str
    """The other cache."""
    version: str
    """Its namespace."""
    pinned: Mapping[str, Any]
    """Axes that it does not have, each with the one value at which its results hold."""
    identity: bytes = b""
    """Canonical bytes that its id was made from, empty where they are not known."""
    namespace: str = ""
    """The version of the adopting cache."""
    created_at: int = field(default=0, compare=False)
    """Nanoseconds since 1970-01-01 UTC."""

    def to_json(self) -> dict[str, Any]:
        """Return what the digest covers.

        Returns
        -------
        dict
            The content, ``created_at`` left out.
        """
        return {
            "format": _FORMAT_VERSION,
            "namespace": self.namespace,
            "cache_id": self.cache_id,
            "version": self.version,
            "pinned": {axis: to_jsonable(value) for axis, value in self.pinned.items()},
            "identity": self.identity.hex(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], created_at: int) -> Adopted:
        """Return the record that :meth:`to_json` wrote.

        Parameters
        ----------
        content : mapping
            The content.
        created_at : int
            Nanoseconds since 1970-01-01 UTC.

        Returns
        -------
        Adopted
            The record.
        """
        return cls(
            content["cache_id"],
            content["version"],
            {axis: from_jsonable(value) for axis, value in content["pinned"].items()},
            bytes.fromhex(content["identity"]),
            content["namespace"],
            created_at,
        )

    @property
    def path(self) -> str:
        """Where it lies in the cache's folder."""
        return f"adopted/{digest_of_text(text_of(self.to_json()))}.json"


@dataclass(frozen=True, slots=True)
class Superseded:
    """Points that count only if they were stored in some generation, or later."""

    generation: int
    """The generation, from 1 on."""
    axes: Mapping[str, Sequence[Any]] | None
    """Values of some axes, whose product with all values of the others is meant; None for every point."""
    namespace: str = ""
    """The version of the cache."""
    created_at: int = field(default=0, compare=False)
    """Nanoseconds since 1970-01-01 UTC."""

    def to_json(self) -> dict[str, Any]:
        """Return what the digest covers.

        Returns
        -------
        dict
            The content, ``created_at`` left out.
        """
        axes = None if self.axes is None else {axis: to_row(values) for axis, values in self.axes.items()}
        return {
            "format": _FORMAT_VERSION,
            "namespace": self.namespace,
            "generation": self.generation,
            "axes": axes,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], created_at: int) -> Superseded:
        """Return the record that :meth:`to_json` wrote.

        Parameters
        ----------
        content : mapping
            The content.
        created_at : int
            Nanoseconds since 1970-01-01 UTC.

        Returns
        -------
        Superseded
            The record.
        """
        axes = content["axes"]
        named = None if axes is None else {axis: tuple(from_row(row)) for axis, row in axes.items()}
        return cls(int(content["generation"]), named, content["namespace"], created_at)

    @property
    def path(self) -> str:
        """Where it lies in the cache's folder."""
        return f"superseded/{self.generation}-{digest_of_text(text_of(self.to_json()))}.json"


_written: dict[str, int] = {}
"""How many records this process wrote into each folder: several objects may stand for one cache."""


class Records:
    """The records of one cache.

    Parameters
    ----------
    folder : Path
        The cache's folder.
    read_only : bool
        Whether nothing is to be written or moved.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        self._adopted: dict[str, Adopted] = {}
        self._superseded: dict[str, Superseded] = {}
        self._unread: dict[str, Superseded] = {}
        self._passed_over: set[str] = set()
        self._key = os.fspath(folder)
        self._seen = _written.get(self._key, 0)

    @property
    def outdated(self) -> bool:
        """Whether another object of this process has written a record since the folder was listed."""
        return _written.get(self._key, 0) != self._seen

    @property
    def adopted(self) -> tuple[Adopted, ...]:
        """What was adopted, oldest first."""
        found = sorted(self._adopted.items(), key=lambda item: (item[1].created_at, item[0]))
        return tuple(record for _, record in found)

    @property
    def superseded(self) -> tuple[Superseded, ...]:
        """What was superseded, in no particular order."""
        return (*self._superseded.values(), *self._unread.values())

    @property
    def generation(self) -> int:
        """The newest generation, 0 where nothing was ever superseded."""
        return max((record.generation for record in self.superseded), default=0)

    @property
    def names(self) -> frozenset[str]:
        """What tells these records from others."""
        return frozenset((*self._adopted, *self._superseded, *self._unread))

    def presume(self, record: Adopted) -> None:
        """Take in a record that is not on disk, for this object alone.

        Parameters
        ----------
        record : Adopted
            The record.
        """
        self._adopted[record.path] = record

    def read(self, names: Iterable[str], version: str) -> bool:
        """Read the records that are new on disk; replace and set aside those that are damaged.

        Parameters
        ----------
        names : iterable of str
            Paths of the records in the cache's folder, as it was listed.
        version : str
            Only records of this version count.

        Returns
        -------
        bool
            Whether one vanished, so that listing again is worth it.

        Raises
        ------
        FormatVersionError
            Where a later version of the library wrote one.
        """
        again = False
        self._seen = _written.get(self._key, 0)
        self._unread.clear()
        for name in names:
            if name in self._adopted or name in self._superseded or name in self._passed_over:
                continue
            try:
                self._take(name, files.read_whole(self._folder / name), version)
            except FileNotFoundError:
                again = True
            except FormatVersionError:
                raise
            except DAMAGE as error:
                self._replace(name, version, f"{type(error).__name__}: {error}")
            except OSError as error:
                if error.errno not in files.TRANSIENT:
                    raise
                if not name.startswith("adopted/"):
                    self._unread[name] = self._everything(name, version)
        return again

    def _take(self, name: str, data: bytes, version: str) -> None:
        document, texts = unsealed(data)
        content = document["record"]
        if content["format"] > _FORMAT_VERSION:
            raise FormatVersionError(
                f"record '{self._folder / name}' was written by a later chunk_memo: expected format version"
                f" {_FORMAT_VERSION} at most, found {content['format']}; upgrade chunk_memo"
            )
        if not name.endswith(f"{digest_of_text(texts['record'])}.json"):
            raise ValueError("it says something else than its name")
        if content["namespace"] != version:
            self._passed_over.add(name)
        elif name.startswith("adopted/"):
            self._adopted[name] = Adopted.from_json(content, int(document["created_at"]))
        else:
            self._superseded[name] = Superseded.from_json(content, int(document["created_at"]))

    def _everything(self, name: str, version: str) -> Superseded:
        """Return what supersedes all that an unreadable record may have superseded."""
        number = name.removeprefix("superseded/").partition("-")[0]
        generation = int(number) if number.isdecimal() else self.generation + 1
        record = Superseded(generation, {}, version, time.time_ns())
        # The name of a damaged file is taken until it is set aside, and that comes last.
        return record if record.path != name else replace(record, axes=None)

    def _replace(self, name: str, version: str, why: str) -> None:
        """Set a damaged record aside; one that superseded is replaced first."""
        fate = "the results that it adopted are computed again, unless they are adopted anew"
        if name.startswith("superseded/"):
            record = self._everything(name, version)
            fate = f"all results of generations before {record.generation} are computed again"
            try:
                self.commit(record, files.Syncer())
            except OSError:  # a root that can only be read: it holds for this process
                self._superseded[record.path] = record
        self._passed_over.add(name)
        moved = self._set_aside(name)
        place = f"it was moved to '{moved}'" if moved else "it was left where it is"
        warnings.warn(
            f"record '{self._folder / name}' is damaged ({why}); {place}, and {fate}", DamageWarning, stacklevel=2
        )

    def _set_aside(self, name: str) -> Path | None:
        path = self._folder / name
        seen = None if self._read_only else files.look_at(path)
        if seen is None:
            return None
        return files.quarantine(path, self._folder / "quarantine", seen.file_id, lambda _: False)

    def commit(self, record: Adopted | Superseded, syncer: files.Syncer) -> None:
        """Write a record; it is on disk, and counts, when this returns.

        Parameters
        ----------
        record : Adopted or Superseded
            The record.
        syncer : Syncer
            Takes note of what must be on disk.
        """
        if self._read_only:
            raise files.read_only_error(self._folder)
        name = record.path
        document = {"created_at": record.created_at or time.time_ns(), "record": record.to_json()}
        if name in self._adopted or name in self._superseded:
            syncer.committed(self._folder / name)  # whoever wrote it
        else:
            files.commit(self._folder / name, [sealed(document)], syncer)
            _written[self._key] = _written.get(self._key, 0) + 1
        syncer.flush()
        if isinstance(record, Adopted):
            self._adopted.setdefault(name, record)
        else:
            self._superseded.setdefault(name, record)
