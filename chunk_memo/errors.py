"""What can go wrong, as one tree; each error is also the builtin that one would catch.

::

    ChunkMemoError
    ├── UnknownAxisError          KeyError           an axis that the cache does not have
    ├── UnknownValueError         KeyError           a value that the axis does not have
    ├── UnknownIndexError         IndexError         an index beyond the end of an axis
    ├── UnknownSimulationError    KeyError           a simulation, experiment or table that a database lacks
    ├── SpecError                 ValueError         a size, a count or a combination that cannot be
    │   ├── OverlapError                             ``exclusive=True`` and the cache is already there
    │   └── CollisionError                           one id or name, two identities
    ├── OutputError               ValueError         what a function returned does not fit its points
    ├── SignatureError            TypeError, ValueError  a function that cannot be swept over these axes
    ├── IdentityError             TypeError          a value that has no sound identity
    ├── EncodingError             TypeError          an output that cannot be stored
    │   └── PickleRefusedError                       … without a pickle, and pickles are refused
    │       └── UntrustedPickleError                 … a pickle that no trusted key signed; never loaded
    ├── KeyFileError              PermissionError    the key that signs pickles cannot be used
    ├── MemoryLimitError          MemoryError        a database in memory that holds more than it may
    ├── CodeChangedError          RuntimeError       ``on_code_change="error"`` and the code has changed
    ├── MapBrokenError            RuntimeError       a map function that cannot go on
    ├── ChunkLostError            RuntimeError       a chunk that ended its workers again and again
    │   └── ChunkTimeoutError     TimeoutError       … or that took longer than ``timeout``
    ├── CacheNotFoundError        FileNotFoundError  no cache of that id
    ├── CheckpointNotFoundError   FileNotFoundError  no checkpoint of that experiment, or of that name
    ├── RootError                 OSError            a root that is no folder or cannot be written
    ├── StoreError                OSError            results that could not be stored
    ├── MetadataError             ValueError         a ``metadata.json`` that cannot be read
    ├── TableError                ValueError         rows or a dataset of rows that cannot be
    │   ├── ColumnTypeError       TypeError          a column came with another type than it has
    │   └── QueryError                               a query that is not one SELECT
    └── ChunkFormatError          ValueError         bytes that are no intact chunk file
        └── FormatVersionError                       … of a later format version

    ChunkMemoWarning              UserWarning
    ├── DamageWarning                                a damaged file was set aside
    ├── MemoryLimitWarning                           a database in memory that soon holds all that it may
    ├── OverlapWarning                               ``warn_on_overlap=True`` and the cache is there
    ├── IdentityWarning                              identity rests on less than one would think
    ├── CodeChangedWarning                           ``on_code_change="warn"`` and the code has changed
    ├── FlushWarning                                 rows that wait could not be written yet
    ├── FailureWarning                               points failed, and ``on_error="record"`` keeps that
    ├── PackageVersionWarning                        results were made with other versions of packages
    ├── PickleWarning                                an output had to be pickled
    ├── NondeterminismWarning                        two runs of one chunk gave different outputs
    ├── DurabilityWarning                            stored, but not confirmed to be on disk
    ├── OwnerWarning                                 the root belongs to another user
    └── ReadOnlyWarning                              computed, and not stored: the root can only be read

Messages name the subject in quotes, what was expected, what came, and the way out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

__all__ = [
    "CacheNotFoundError",
    "CheckpointNotFoundError",
    "ChunkFormatError",
    "ChunkLostError",
    "ChunkMemoError",
    "ChunkMemoWarning",
    "ChunkTimeoutError",
    "CodeChangedError",
    "CodeChangedWarning",
    "CollisionError",
    "ColumnTypeError",
    "DamageWarning",
    "DurabilityWarning",
    "EncodingError",
    "FailureWarning",
    "FlushWarning",
    "FormatVersionError",
    "IdentityError",
    "IdentityWarning",
    "KeyFileError",
    "MapBrokenError",
    "MemoryLimitError",
    "MemoryLimitWarning",
    "MetadataError",
    "NondeterminismWarning",
    "OutputError",
    "OverlapError",
    "OverlapWarning",
    "OwnerWarning",
    "PackageVersionWarning",
    "PickleRefusedError",
    "PickleWarning",
    "QueryError",
    "ReadOnlyWarning",
    "RootError",
    "SignatureError",
    "SpecError",
    "StoreError",
    "TableError",
    "UnknownAxisError",
    "UnknownIndexError",
    "UnknownSimulationError",
    "UnknownValueError",
    "UntrustedPickleError",
    "caller_level",
    "did_you_mean",
]


class ChunkMemoError(Exception):
    """Base of every error that this library raises on purpose."""

    def __str__(self) -> str:
        """Return the message as it is; ``KeyError`` would show its ``repr``."""
        return str(self.args[-1]) if self.args else ""


class UnknownAxisError(ChunkMemoError, KeyError):
    """An axis was named that the cache does not have."""


class UnknownValueError(ChunkMemoError, KeyError):
    """A value was asked for that is not one of the axis's values."""


class UnknownIndexError(ChunkMemoError, IndexError):
    """An index was asked for that lies beyond the end of an axis."""


class UnknownSimulationError(ChunkMemoError, KeyError):
    """A simulation, an experiment or a table was named that the database does not have."""


class SpecError(ChunkMemoError, ValueError):
    """A chunk size, a count or a combination of arguments that cannot be."""


class OverlapError(SpecError):
    """``exclusive=True`` was asked for, and the cache exists with another grid."""


class CollisionError(SpecError):
    """One id, or one name, was about to stand for two different things."""


class OutputError(ChunkMemoError, ValueError):
    """What a function returned does not fit the points that it was called with."""

    output: Any = None
    """What the function returned, so that the work is not lost."""


class SignatureError(ChunkMemoError, TypeError, ValueError):
    """A function that cannot be swept: async, a generator, or without an axis argument."""


class IdentityError(ChunkMemoError, TypeError):
    """A parameter or axis value has no sound identity."""


class EncodingError(ChunkMemoError, TypeError):
    """An output cannot be turned into arrays."""

    output: Any = None
    """What the function returned, so that the work is not lost."""


class PickleRefusedError(EncodingError):
    """An output can only be pickled, and pickles are refused here."""


class UntrustedPickleError(PickleRefusedError):
    """A pickle that is unsigned, forged, moved, or signed by a key that nobody trusted; it was not loaded."""


class KeyFileError(ChunkMemoError, PermissionError):
    """The key that signs pickles cannot be read or made, or must not be used."""


class MemoryLimitError(ChunkMemoError, MemoryError):
    """A simulation's database in memory holds more than its limit; nothing of it is lost."""


class CodeChangedError(ChunkMemoError, RuntimeError):
    """``on_code_change="error"`` was asked for, and the code is not that of the results on disk."""


class MapBrokenError(ChunkMemoError, RuntimeError):
    """A map function, or an executor, cannot go on; what was done is kept."""


class ChunkLostError(ChunkMemoError, RuntimeError):
    """A chunk ended its workers again and again, and was set aside."""


class ChunkTimeoutError(ChunkLostError, TimeoutError):
    """A chunk took longer than ``timeout``, and its worker was ended."""


class CacheNotFoundError(ChunkMemoError, FileNotFoundError):
    """There is no cache of that id in the root."""


class CheckpointNotFoundError(ChunkMemoError, FileNotFoundError):
    """There is no checkpoint of that experiment, or none of that name; no damaged one either."""


class RootError(ChunkMemoError, OSError):
    """The root is not a folder, or cannot be written."""


class StoreError(ChunkMemoError, OSError):
    """Results were computed and could not be stored; they are not lost.

    Parameters
    ----------
    errno : int
        The system's error number, for example ``errno.ENOSPC``.
    message : str
        What could not be stored, why, and the way out.

    Attributes
    ----------
    output : object
        What the call would have returned, stored or not. A stream keeps nothing and ends with the first chunk
        that cannot be stored: there it is what the function returned for that chunk's points.
    diagnostics : Diagnostics or None
        The diagnostics of the call.
    """

    output: Any = None
    diagnostics: Any = None


class MetadataError(ChunkMemoError, ValueError):
    """A ``metadata.json`` is damaged, so its cache cannot be opened by id alone."""


class TableError(ChunkMemoError, ValueError):
    """Rows, or a dataset of rows, that cannot be."""


class ColumnTypeError(TableError, TypeError):
    """A column came with another type than it has."""


class QueryError(TableError):
    """A query, or a condition, that is not exactly one SELECT."""


class ChunkFormatError(ChunkMemoError, ValueError):
    """Bytes that are not an intact chunk file."""

    seen: tuple[int, int] | None = None
    """Device and inode of the file that was read, where there was one."""


class FormatVersionError(ChunkFormatError):
    """A chunk file of a later format version; it is intact, and left alone."""


class ChunkMemoWarning(UserWarning):
    """Base of every warning that this library gives."""


class DamageWarning(ChunkMemoWarning):
    """A damaged file was set aside; what it held is computed again."""


class MemoryLimitWarning(ChunkMemoWarning):
    """A simulation's database in memory will soon hold all that it may."""


class OverlapWarning(ChunkMemoWarning):
    """The cache exists with another grid that overlaps this one."""


class IdentityWarning(ChunkMemoWarning):
    """An identity rests on less than one would think."""


class CodeChangedWarning(ChunkMemoWarning):
    """Results of other code are on disk, and are not used for this one."""


class FailureWarning(ChunkMemoWarning):
    """Points failed; ``on_error="record"`` keeps a record of each, and the sweep went on."""


class FlushWarning(ChunkMemoWarning):
    """Rows that wait for an experiment database could not be written yet; they are kept."""


class PackageVersionWarning(ChunkMemoWarning):
    """Results on disk were made with other versions of the packages that the code uses."""


class PickleWarning(ChunkMemoWarning):
    """An output had no native form and was pickled."""


class NondeterminismWarning(ChunkMemoWarning):
    """A chunk was computed twice, and the outputs differ; those stored first are kept."""


class DurabilityWarning(ChunkMemoWarning):
    """Results are stored, but the system could not confirm that they would survive a power cut."""


class OwnerWarning(ChunkMemoWarning):
    """The root belongs to another user, who can change what is stored in it."""


class ReadOnlyWarning(ChunkMemoWarning):
    """Points were computed and not stored, because the root can only be read."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a clause that names what somebody probably meant to write.

    Parameters
    ----------
    name : str
        What was written.
    names : iterable of str
        What there is.

    Returns
    -------
    str
        Such as ``" (did you mean 'map_fn'?)"``; empty where nothing is near.

    Examples
    --------
    >>> did_you_mean("map_fun", ["map_fn", "retry"])
    " (did you mean 'map_fn'?)"
    >>> did_you_mean("gravity", ["map_fn", "retry"])
    ''
    """
    import difflib

    close = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def caller_level() -> int:
    """Return the ``stacklevel`` at which a warning names the line of the user's that led to it.

    Returns
    -------
    int
        For a :func:`warnings.warn` in the function that asks.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: str) -> bool:
    return module.startswith("chunk_memo.") or module == "contextlib"
