"""Checkpoints of long runs: whole and verified files, the newest good of which can always be loaded.

::

    <checkpoint_dir>/
      {name}_iter_{000100}.ckpt     a state saved at an iteration
      {name}_ckpt_{0001}.ckpt       one saved without, as by AutoCheckpoint
      {name}_index.json             what is there, for people and other programs; derived, and never read here

A checkpoint is a file of the format that chunks have (:mod:`chunk_memo.disk.chunkfile`), so every byte of it is
checked when it is loaded, and HDF5 and netCDF readers open it: an array of the state is a dataset of its name.
States are encoded like outputs (:mod:`chunk_memo.disk.encoding`), exact in types; what has no form of its own
is a signed pickle. What a file is stands in its head as JSON (its *label*): experiment, iteration, and a
sequence number by which the newest is known, whatever its iteration and the clock say.

The files are the truth. A file is written beside its name, synced and renamed, so a kill at any moment leaves the
checkpoints that were there, or those and the new one. Files are removed only once a newer one was read back and
found good.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import operator
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from chunk_memo.disk import chunkfile, files, hdf5image, signing
from chunk_memo.disk.encoding import Encoded, decode, encode, pickled_parts
from chunk_memo.disk.filters import checked_compression
from chunk_memo.errors import (
    CheckpointNotFoundError,
    ChunkFormatError,
    ChunkMemoError,
    ChunkMemoWarning,
    DamageWarning,
    PickleRefusedError,
    PickleWarning,
    SpecError,
    caller_level,
)
from chunk_memo.plainjson import now_text, plain, time_text

__all__ = [
    "AutoCheckpoint",
    "CheckpointInfo",
    "CheckpointManager",
    "Terminated",
    "backup_checkpoint",
    "create_checkpoint_manager",
    "find_experiments",
    "read_info",
    "restore_rng",
    "resume_from_checkpoint",
    "verify_checkpoint",
]

_PathLike = str | os.PathLike[str]

_KIND = "checkpoint"
_FORMAT = 1
_ANY_SIZE = 1 << 62
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a file of intact checksums may lead to whose content is none of ours."""

_LOOKS = 3
_PICKLES = ""
"""Stands for the warning of pickles among the names of files that were warned of."""

_DAY = 86400.0
_NAME = re.compile(r"(?P<name>.+)_(iter_\d{6,}|ckpt_\d{4,})\.ckpt", re.DOTALL)
_UNFINISHED = re.compile(re.escape(files.TEMPORARY_PREFIX) + r"(\d+)-([0-9a-f]{8})-[0-9a-f]{32}")

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
"""This machine, in the names of unfinished files."""


# --- one file ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What the head of a checkpoint file says."""

    path: Path
    """The file."""
    experiment_name: str
    """The experiment that saved it."""
    iteration: int | None
    """The iteration; None where none was given and the state names none."""
    checkpoint_id: str
    """What its name says after the experiment's: ``"iter_000100"`` or ``"ckpt_0001"``."""
    sequence: int
    """Number of the save: a higher one is newer."""
    created_at: int
    """When it was saved, in nanoseconds since 1970 (UTC)."""
    nbytes: int
    """Length of the file in bytes."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The metadata, as far as JSON can say them."""

    @property
    def timestamp(self) -> str:
        """When it was saved: ISO 8601, UTC."""
        return time_text(self.created_at)


def read_info(path: _PathLike) -> CheckpointInfo:
    """Read the head of a checkpoint file, and check it.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    CheckpointInfo
        What it says; the state was not looked at.

    Raises
    ------
    ChunkFormatError
        Where it is damaged, or no checkpoint.
    CheckpointNotFoundError
        Where there is no such file.
    """
    with _open(path) as chunk:
        return _info(chunk)


def _open(path: _PathLike) -> chunkfile.Chunk:
    try:
        return chunkfile.load(path, max_bytes=_ANY_SIZE)
    except FileNotFoundError:
        raise _no_file(path) from None


def _no_file(path: _PathLike) -> CheckpointNotFoundError:
    folder = Path(path).parent
    there = sorted(name for name in files.list_folder(folder) if name.endswith(".ckpt"))
    found = f"; there are {', '.join(there[-5:])}" if there else ""
    return CheckpointNotFoundError(f"'{os.fspath(path)}': expected a checkpoint, found no such file{found}")


def _info(chunk: chunkfile.Chunk) -> CheckpointInfo:
    try:
        if chunk.constant["kind"] != _KIND:
            raise ValueError(f"its kind is {chunk.constant['kind']!r}")
        label = json.loads(chunk.identity)
        iteration = label["iteration"]
        return CheckpointInfo(
            Path(chunk.subject),
            str(label["experiment_name"]),
            None if iteration is None else int(iteration),
            str(label["checkpoint_id"]),
            int(label["sequence"]),
            chunk.created_at,
            chunk.nbytes,
            dict(label["metadata"]),
        )
    except _MALFORMED as error:
        raise ChunkFormatError(f"'{chunk.subject}' is no checkpoint: {error!r}") from None


def _load(path: _PathLike, allow_pickle: bool) -> dict[str, Any]:
    with _open(path) as chunk:
        info = _info(chunk)
        try:
            parts = [chunk.constant[part] for part in ("state", "extra")]
            state, extra = (_decoded(chunk, part, allow_pickle) for part in parts)
            metadata, rng = extra["metadata"], extra["rng"]
        except ChunkMemoError:
            raise
        except _MALFORMED as error:
            raise ChunkFormatError(f"'{chunk.subject}' is no checkpoint: {error!r}") from None
    return {
        "state": state,
        "iteration": info.iteration,
        "timestamp": info.timestamp,
        "metadata": metadata,
        "checkpoint_id": info.checkpoint_id,
        "experiment_name": info.experiment_name,
        "rng": rng,
        "path": Path(path),
    }


def _decoded(chunk: chunkfile.Chunk, part: Mapping[str, Any], allow_pickle: bool) -> Any:
    tree = part["tree"]
    arrays = {
        label: chunk.array(name)[None] if alone else chunk.array(name)
        for label, (name, alone) in part["arrays"].items()
    }
    for pickled in pickled_parts(tree) if allow_pickle else ():
        signature, types = arrays[pickled.signature].tobytes(), ", ".join(pickled.types)
        subject = f"the pickles of {types} in '{chunk.subject}'"
        _signer().check(_signed(tree, pickled, arrays), signature, subject)
    return decode(tree, arrays, 1, allow_pickle=allow_pickle)[0]


def _signer() -> signing.Signer:
    return signing.Signer("checkpoints")


def _signed(tree: Any, part: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[bytes | memoryview]:
    """Return what a signature covers: where in which state the pickles lie, and their bytes."""
    place = json.dumps([tree, part.array], sort_keys=True, separators=(",", ":")).encode("ascii")
    return [place, arrays[part.array].tobytes(), arrays[part.lengths].tobytes()]


@dataclass(frozen=True, slots=True)
class _Packed:
    """A state as arrays, before it has a name."""

    constant: dict[str, Any]
    arrays: dict[str, np.ndarray[Any, Any]]
    dims: dict[str, tuple[str, ...]]
    pickled: dict[str, tuple[str, ...]]
    """Where something had to be pickled, and the types of it."""


def _pack(state: Any, extra: Any, allow_pickle: bool) -> _Packed:
    packed = _Packed({"kind": _KIND, "format": _FORMAT}, {}, {}, {})
    _add(packed, "state", encode([state], allow_pickle=allow_pickle, where="state"), "")
    _add(packed, "extra", encode([extra], allow_pickle=allow_pickle, where="metadata"), "checkpoint/")
    return packed


def _add(packed: _Packed, part: str, encoded: Encoded, prefix: str) -> None:
    """Add the arrays of one encoding; a leading axis of length 1, there for the state as such, is left out."""
    for pickled in pickled_parts(encoded.tree):
        signature = _signer().sign(_signed(encoded.tree, pickled, encoded.arrays))
        encoded.arrays[pickled.signature][0] = np.frombuffer(signature, np.uint8)
        packed.pickled[pickled.array] = pickled.types
    names: dict[str, tuple[str, bool]] = {}
    for label, array in encoded.arrays.items():
        name = prefix + label
        while name in packed.arrays:
            name += "~"
        alone = array.ndim > 0 and len(array) == 1
        kept = np.asarray(array[0]) if alone else array
        packed.arrays[name] = kept
        if hdf5image.form_of(kept) != "raw":
            packed.dims[name] = ()
        names[label] = name, alone
    packed.constant[part] = {"tree": encoded.tree, "arrays": names}


def verify_checkpoint(path: _PathLike) -> CheckpointInfo:
    """Check every byte of a checkpoint file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    CheckpointInfo
        What its head says.

    Raises
    ------
    ChunkFormatError
        Where something is wrong, saying what.
    CheckpointNotFoundError
        Where there is no such file.
    """
    info = read_info(path)
    chunkfile.verify(path)
    return info


def resume_from_checkpoint(checkpoint_path: _PathLike, *, allow_pickle: bool = True) -> dict[str, Any]:
    """Load one checkpoint file.

    Parameters
    ----------
    checkpoint_path : path-like
        The file.
    allow_pickle : bool, default True
        Whether pickles that one's own key signed, or one that is trusted, may be loaded; others never are.

    Returns
    -------
    dict
        As :meth:`CheckpointManager.load_checkpoint` returns it.

    Raises
    ------
    CheckpointNotFoundError
        A ``FileNotFoundError``, where there is no such file.
    ChunkFormatError
        A ``ValueError``, where it is damaged.
    PickleRefusedError
        Where it holds pickles that must not be loaded.

    Examples
    --------
    >>> import tempfile
    >>> manager = CheckpointManager(tempfile.mkdtemp(), "exp")
    >>> path = manager.save_checkpoint({"theta": np.arange(3)}, iteration=5000)
    >>> resume_from_checkpoint(path)["state"]
    {'theta': array([0, 1, 2])}
    """
    try:
        return _load(checkpoint_path, allow_pickle)
    except ChunkFormatError as error:
        error.add_note("CheckpointManager.load_checkpoint() without a path finds the newest one that is intact")
        raise


def backup_checkpoint(checkpoint_path: _PathLike, backup_dir: _PathLike) -> Path:
    """Copy a checkpoint to another folder, verified before and after.

    Parameters
    ----------
    checkpoint_path : path-like
        The file.
    backup_dir : path-like
        The folder; it is made if need be.

    Returns
    -------
    Path
        The copy. A copy that is there already and equal is left alone.

    Raises
    ------
    ChunkFormatError
        Where the checkpoint is damaged: nothing is copied.
    SpecError
        Where the folder holds another file of that name.
    CheckpointNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> path = CheckpointManager(folder, "exp").save_checkpoint({"loss": 0.5}, iteration=1000)
    >>> backup_checkpoint(path, folder / "backups").name
    'exp_iter_001000.ckpt'
    """
    source = Path(checkpoint_path)
    verify_checkpoint(source)
    target = Path(backup_dir) / source.name
    with files.Syncer() as syncer:
        made = files.commit(target, [_mapped(source).data], syncer)
    if not made and not np.array_equal(_mapped(source), _mapped(target)):
        raise SpecError(
            f"'{target}': expected no file of that name, or the same checkpoint, found another; remove it, or"
            " back up to another folder"
        )
    verify_checkpoint(target)
    return target


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    return np.memmap(path, np.uint8, "r")


def find_experiments(folder: _PathLike) -> list[str]:
    """Name the experiments that have checkpoints in a folder.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    list of str
        Their names, sorted.
    """
    matches = map(_NAME.fullmatch, files.list_folder(folder))
    return sorted({match["name"] for match in matches if match})


# --- random numbers ----------------------------------------------------------------------------------------


def _global_rng() -> dict[str, Any]:
    """Return the state of the generators that whole programs share."""
    return {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)}


def restore_rng(checkpoint: Mapping[str, Any]) -> None:
    """Set the global random numbers of ``random`` and ``numpy.random`` to where they were when it was saved.

    Generators of one's own, as :func:`numpy.random.default_rng` makes them, belong into the state instead; they
    come back as they were.

    Parameters
    ----------
    checkpoint : mapping
        What :meth:`CheckpointManager.load_checkpoint` returned.

    Examples
    --------
    >>> import tempfile
    >>> manager = CheckpointManager(tempfile.mkdtemp(), "exp")
    >>> _ = manager.save_checkpoint({}, iteration=1)
    >>> first = np.random.rand()
    >>> restore_rng(manager.load_checkpoint())
    >>> first == np.random.rand()
    True
    """
    saved = checkpoint["rng"] or {}
    if "python" in saved:
        random.setstate(saved["python"])
    if "numpy" in saved:
        np.random.set_state(saved["numpy"])


# --- the manager -------------------------------------------------------------------------------------------


class CheckpointManager:
    """Saves and loads the checkpoints of one experiment.

    Parameters
    ----------
    checkpoint_dir : path-like
        The folder; it is made with the first checkpoint. Several experiments may share it.
    experiment_name : str
        What the files' names begin with.
    keep_last_n : int or None, default 3
        How many of the newest checkpoints are kept, those of earlier processes included; 0 or None keeps all.
    save_frequency : int, optional
        :meth:`should_save_checkpoint` says yes every so many iterations.
    save_every_seconds : float, optional
        It says yes, too, when the last save is so many seconds ago.
    allow_pickle : bool, default True
        Whether objects without a native form may be saved as signed pickles, and those be loaded. Pickles that
        neither one's own key nor a trusted one signed are never loaded.
    save_rng : bool, default True
        Whether the states of the global generators of ``random`` and ``numpy.random`` are saved, too; see
        :func:`restore_rng`.
    compression : {"zstd", "blosc2", "gzip"}, optional
        How large arrays are packed.
    durability : {"full", "fast"}
        With "full" a checkpoint is on disk when :meth:`save_checkpoint` returns.

    Raises
    ------
    SpecError
        For a name that cannot begin a file's name, and for counts that cannot be.

    Examples
    --------
    >>> import tempfile
    >>> manager = CheckpointManager(tempfile.mkdtemp(), "long_exp", keep_last_n=2, save_frequency=100)
    >>> for iteration in range(301):
    ...     if manager.should_save_checkpoint(iteration):
    ...         path = manager.save_checkpoint({"iteration": iteration}, iteration=iteration)
    >>> [path.name for path in manager.list_checkpoints()]
    ['long_exp_iter_000200.ckpt', 'long_exp_iter_000300.ckpt']
    >>> manager.load_checkpoint()["state"]
    {'iteration': 300}
    """

    def __init__(
        self,
        checkpoint_dir: _PathLike,
        experiment_name: str,
        keep_last_n: int | None = 3,
        save_frequency: int | None = None,
        *,
        save_every_seconds: float | None = None,
        allow_pickle: bool = True,
        save_rng: bool = True,
        compression: str | None = None,
        durability: files.Durability | str = files.Durability.FULL,
    ) -> None:
        self.checkpoint_dir = Path(checkpoint_dir)
        self.experiment_name = files.file_stem(experiment_name, "experiment_name")
        self.keep_last_n = 0 if keep_last_n is None else _count("keep_last_n", keep_last_n, 0)
        self.save_frequency = None if save_frequency is None else _count("save_frequency", save_frequency, 1)
        if save_every_seconds is not None and not save_every_seconds > 0:
            raise SpecError(f"'save_every_seconds': expected seconds above 0, got {save_every_seconds!r}")
        self.save_every_seconds = save_every_seconds
        self.allow_pickle = allow_pickle
        self.save_rng = save_rng
        self.compression = checked_compression(compression)
        self.durability = files.Durability(durability)
        self._lock = threading.RLock()
        self._known: dict[str, tuple[tuple[int, int, int], CheckpointInfo]] = {}
        self._told: set[str] = set()
        self._asked: int | None = None
        self._saved_at = time.monotonic()
        own = re.escape(self.experiment_name)
        self._pattern = re.compile(rf"{own}_(iter_\d{{6,}}|ckpt_\d{{4,}})\.ckpt")

    def __repr__(self) -> str:
        """Return what it was made with."""
        return f"CheckpointManager({str(self.checkpoint_dir)!r}, {self.experiment_name!r})"

    # --- saving ---

    def should_save_checkpoint(self, iteration: int) -> bool:
        """Tell whether it is time to save.

        Parameters
        ----------
        iteration : int
            The iteration that is done.

        Returns
        -------
        bool
            True at multiples of `save_frequency`, and where a multiple was passed since the iteration that was
            asked about before, or saved by an earlier process; True also when the last save is
            `save_every_seconds` ago.
        """
        number = _count("iteration", iteration, 0)
        before = self._saved_before(number) if self._asked is None else self._asked
        self._asked = number
        if self.save_every_seconds is not None and time.monotonic() - self._saved_at >= self.save_every_seconds:
            return True
        every = self.save_frequency
        if every is None:
            return False
        return number % every == 0 or (before is not None and number // every > before // every)

    def _saved_before(self, number: int) -> int | None:
        """Return the last iteration before this one that was saved, as by an earlier process."""
        saved = (info.iteration for info in self.infos())
        return max((i for i in saved if i is not None and i < number), default=None)

    def save_checkpoint(
        self, state: Any, iteration: int | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Path:
        """Save a state.

        Parameters
        ----------
        state : object
            What is needed to go on: as a rule a dict of numbers, arrays, generators of random numbers and the
            like.
        iteration : int, optional
            The iteration, 0 or more. A checkpoint of the same iteration is replaced. Without it the checkpoint
            gets the next number of its own.
        metadata : mapping, optional
            What else there is to say.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        EncodingError
            For a value that cannot be stored, saying where in the state it lies. What was saved before is
            untouched.
        SpecError
            For an iteration that cannot be.
        OSError
            Where it could not be written. What was saved before is untouched.

        Warns
        -----
        PickleWarning
            Once, where something of the state has no form but a pickle.
        """
        number = None if iteration is None else _count("iteration", iteration, 0)
        given = dict(metadata or {})
        extra = {"metadata": given, "rng": _global_rng() if self.save_rng else None}
        packed = _pack(state, extra, self.allow_pickle)
        with self._lock:
            there, _ = self._look()
            checkpoint_id = self._next_id() if number is None else f"iter_{number:06d}"
            path = self.checkpoint_dir / f"{self.experiment_name}_{checkpoint_id}.ckpt"
            label = {
                "experiment_name": self.experiment_name,
                "iteration": _iteration_in(state) if number is None else number,
                "checkpoint_id": checkpoint_id,
                "sequence": 1 + max((info.sequence for info in there), default=0),
                "metadata": _for_reading(given),
            }
            self._write(path, packed, label)
            self._saved_at = time.monotonic()
            self._tidy()
        self._tell_of_pickles(packed.pickled)  # at last, for where warnings are errors
        return path

    def _write(self, path: Path, packed: _Packed, label: Mapping[str, Any]) -> None:
        content = chunkfile.Content(
            packed.constant,
            json.dumps(label, separators=(",", ":")).encode("ascii"),
            packed.arrays,
            packed.dims,
            {},
            time.time_ns(),
            0.0,
            {"title": self.experiment_name},
            self.compression,
        )
        files.save(path, chunkfile.image(content), self.durability, label=f"{os.getpid()}-{_HOST}-")

    def _tell_of_pickles(self, pickled: Mapping[str, tuple[str, ...]]) -> None:
        """Say once that something had to be pickled."""
        if pickled and _PICKLES not in self._told:
            self._told.add(_PICKLES)
            what = "; ".join(f"{name!r}: {', '.join(types)}" for name, types in pickled.items())
            warnings.warn(
                f"the checkpoints of {self.experiment_name!r} hold pickles ({what}), which only holders of your"
                " key can load; save arrays and plain values, or give the types a form by register_encoding(type,"
                " encode, decode)",
                PickleWarning,
                stacklevel=caller_level(),
            )

    def _next_id(self) -> str:
        taken = [int(name[5:]) for name in self._ids() if name.startswith("ckpt_")]
        return f"ckpt_{1 + max(taken, default=0):04d}"

    def _ids(self) -> list[str]:
        """List what the names of this experiment's files say after its own name, damaged ones included."""
        matches = map(self._pattern.fullmatch, files.list_folder(self.checkpoint_dir))
        return [match[1] for match in matches if match]

    def _tidy(self) -> None:
        """Remove what is older than the last n, and bring the index up to date."""
        there, _ = self._look()
        old = there[: -self.keep_last_n] if self.keep_last_n else []
        if old:
            for info in self._superfluous(old, there[-self.keep_last_n :]):
                files.remove(info.path)
                there.remove(info)
        self._remove_unfinished()
        try:
            self._write_index(there)
        except OSError as error:
            warnings.warn(
                f"the index of the checkpoints of {self.experiment_name!r} could not be written: {error}; the"
                " checkpoints themselves are complete",
                ChunkMemoWarning,
                stacklevel=caller_level(),
            )

    def _superfluous(self, old: Sequence[CheckpointInfo], kept: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
        """Return which of the old ones can go: all, once one that is kept was read back and is good."""
        if any(map(self._is_good, reversed(kept))):
            return list(old)
        last_good = next(filter(self._is_good, reversed(old)), None)
        return [] if last_good is None else [info for info in old if info.sequence < last_good.sequence]

    @staticmethod
    def _is_good(info: CheckpointInfo) -> bool:
        try:
            verify_checkpoint(info.path)
        except (ChunkMemoError, OSError):
            return False
        return True

    def _remove_unfinished(self) -> None:
        """Remove what processes that were killed left of files they had begun."""
        for name in files.list_folder(self.checkpoint_dir):
            match = _UNFINISHED.fullmatch(name)
            if match and _is_abandoned(self.checkpoint_dir / name, int(match[1]), match[2]):
                files.remove(self.checkpoint_dir / name)

    def _write_index(self, there: Iterable[CheckpointInfo]) -> None:
        entries = [
            {
                "file": info.path.name,
                "iteration": info.iteration,
                "checkpoint_id": info.checkpoint_id,
                "timestamp": info.timestamp,
                "bytes": info.nbytes,
                "metadata": info.metadata,
            }
            for info in there
        ]
        index = {
            "experiment_name": self.experiment_name,
            "timestamp": now_text(),
            "checkpoint_count": len(entries),
            "checkpoints": entries,
        }
        text = json.dumps(index, indent=2) + "\n"
        label = f"{os.getpid()}-{_HOST}-"
        files.save(self.index_path, [text.encode("ascii")], files.Durability.FAST, label=label)

    @property
    def index_path(self) -> Path:
        """The index file."""
        return self.checkpoint_dir / f"{self.experiment_name}_index.json"

    # --- what is there ---

    def _look(self) -> tuple[list[CheckpointInfo], list[tuple[Path, Exception]]]:
        """Return what is there, oldest first, and the files whose heads cannot be read, with the reasons."""
        found: list[CheckpointInfo] = []
        unreadable: list[tuple[Path, Exception]] = []
        known = {}
        for checkpoint_id in self._ids():
            path = self.checkpoint_dir / f"{self.experiment_name}_{checkpoint_id}.ckpt"
            try:
                status = os.stat(path)
                mark = (status.st_ino, status.st_size, status.st_mtime_ns)
                old_mark, info = self._known.get(path.name, (None, None))
                if info is None or old_mark != mark:
                    info = read_info(path)
            except FileNotFoundError:
                continue
            except (ChunkMemoError, OSError) as error:
                unreadable.append((path, error))
                continue
            known[path.name] = mark, info
            found.append(info)
        self._known = known
        return sorted(found, key=lambda info: (info.sequence, info.created_at, info.path.name)), unreadable

    def infos(self) -> list[CheckpointInfo]:
        """Return what the heads of this experiment's checkpoints say.

        Returns
        -------
        list of CheckpointInfo
            The oldest first; files whose heads are damaged are left out.
        """
        with self._lock:
            return self._look()[0]

    def list_checkpoints(self) -> list[Path]:
        """List the files of this experiment's checkpoints.

        Returns
        -------
        list of Path
            The oldest first; files whose heads are damaged are left out.
        """
        return [info.path for info in self.infos()]

    def get_latest_checkpoint(self) -> Path | None:
        """Return the file of the newest checkpoint.

        Returns
        -------
        Path or None
            The file; None where there is none.
        """
        return next(iter(self.list_checkpoints()[::-1]), None)

    def verify(self) -> dict[Path, str | None]:
        """Check every byte of this experiment's checkpoints.

        Returns
        -------
        dict of Path to str or None
            For each file what is wrong with it; None where nothing is. The oldest first, then those whose heads
            cannot be read.
        """
        with self._lock:
            found, unreadable = self._look()
        outcome: dict[Path, str | None] = {}
        for info in found:
            try:
                verify_checkpoint(info.path)
                outcome[info.path] = None
            except FileNotFoundError:
                continue
            except (ChunkMemoError, OSError) as error:
                outcome[info.path] = str(error)
        return outcome | {path: str(error) for path, error in unreadable}

    def delete_all_checkpoints(self) -> int:
        """Remove this experiment's checkpoints, damaged ones included, and their index.

        Returns
        -------
        int
            Number of checkpoints removed.
        """
        with self._lock:
            ids = self._ids()
            for checkpoint_id in ids:
                files.remove(self.checkpoint_dir / f"{self.experiment_name}_{checkpoint_id}.ckpt")
            files.remove(self.index_path)
            return len(ids)

    # --- loading ---

    def load_checkpoint(self, checkpoint_path: _PathLike | None = None) -> dict[str, Any]:
        """Load a checkpoint, by default the newest that is intact.

        Parameters
        ----------
        checkpoint_path : path-like, optional
            A file; a plain name is looked for in this manager's folder, too. Without it, a damaged newest
            checkpoint costs a warning, and the one before it is loaded.

        Returns
        -------
        dict
            ``state`` as it was saved, ``iteration``, ``timestamp`` (ISO 8601, UTC), ``metadata``,
            ``checkpoint_id``, ``experiment_name``, ``rng`` (for :func:`restore_rng`) and ``path``.

        Raises
        ------
        CheckpointNotFoundError
            A ``FileNotFoundError``, where there is none, not even a damaged one.
        ChunkFormatError
            A ``ValueError``, where that one, or every one, is damaged.
        PickleRefusedError
            Where that one, or the newest of those that are intact, holds pickles that must not be loaded, and no
            other can be loaded either.

        Warns
        -----
        DamageWarning
            For each newer one that could not be loaded.
        """
        if checkpoint_path is not None:
            return resume_from_checkpoint(self._resolved(checkpoint_path), allow_pickle=self.allow_pickle)
        for last in reversed(range(_LOOKS)):
            with self._lock:
                found, unreadable = self._look()
            try:
                return self._newest_good(found, unreadable, last=last == 0)
            except _Vanished:  # another process saved, and removed what we had seen
                continue
        raise AssertionError("the last look does not end so")

    def _resolved(self, path: _PathLike) -> Path:
        given = Path(path)
        inside = self.checkpoint_dir / given
        return inside if not given.exists() and not given.is_absolute() and inside.exists() else given

    def _newest_good(
        self,
        found: Sequence[CheckpointInfo],
        unreadable: Sequence[tuple[Path, Exception]],
        *,
        last: bool,
    ) -> dict[str, Any]:
        failed, vanished = list(unreadable), False
        for info in reversed(found):
            try:
                checkpoint = _load(info.path, self.allow_pickle)
            except FileNotFoundError:
                vanished = True
                continue
            except (ChunkMemoError, OSError) as error:
                failed.append((info.path, error))
                continue
            self._tell(failed, checkpoint)
            return checkpoint
        if vanished and not last:
            raise _Vanished
        raise self._none(failed)

    def _tell(self, failed: Iterable[tuple[Path, Exception]], instead: Mapping[str, Any]) -> None:
        for path, error in failed:
            if path.name not in self._told:
                self._told.add(path.name)
                warnings.warn(
                    f"the checkpoint '{path}' cannot be loaded: {error}; the newest good one is used instead,"
                    f" '{instead['path'].name}' of iteration {instead['iteration']}",
                    DamageWarning,
                    stacklevel=caller_level(),
                )

    def _none(self, failed: Sequence[tuple[Path, Exception]]) -> ChunkMemoError:
        subject = f"{self.experiment_name!r} in '{self.checkpoint_dir}'"
        if not failed:
            return CheckpointNotFoundError(f"No checkpoints found of {subject}; save one first, or begin anew")
        refused = next((error for _, error in failed if isinstance(error, PickleRefusedError)), None)
        kind = ChunkFormatError if refused is None else type(refused)
        reasons = "; ".join(f"'{path.name}': {error}" for path, error in failed)
        return kind(
            f"none of the {len(failed)} checkpoints of {subject} can be loaded ({reasons}). Restore one from a"
            " backup, or begin anew by delete_all_checkpoints()"
        )


class _Vanished(Exception):
    """What was listed is gone."""


def _count(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise SpecError(f"{name!r}: expected an int of {least} or more, got {value!r}")
    return number


def _iteration_in(state: Any) -> int | None:
    """Return the iteration that a state names itself, if it does."""
    named = state.get("iteration") if isinstance(state, Mapping) else None
    if isinstance(named, int | np.integer) and not isinstance(named, bool):
        return int(named)
    return None


def _for_reading(metadata: Mapping[str, Any]) -> Any:
    """Return metadata as JSON for lists of checkpoints; they are kept exactly elsewhere."""
    try:
        return plain(dict(metadata))
    except ChunkMemoError:
        return {str(key): repr(value)[:200] for key, value in metadata.items()}


def _is_abandoned(path: Path, pid: int, host: str) -> bool:
    """Tell whether nobody goes on writing an unfinished file."""
    changed = files.modified_at(path)
    if changed is None:
        return False
    age = time.time() - changed / 1e9
    if host != _HOST or os.name == "nt":  # there signal 0 would end the process
        return age > _DAY
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return age > _DAY and pid != os.getpid()


def create_checkpoint_manager(
    experiment_name: str,
    checkpoint_dir: _PathLike,
    keep_last_n: int | None = 3,
    save_frequency: int | None = None,
    **options: Any,
) -> CheckpointManager:
    """Return a manager of an experiment's checkpoints.

    Parameters
    ----------
    experiment_name : str
        What the files' names begin with.
    checkpoint_dir : path-like
        The folder.
    keep_last_n : int or None, default 3
        How many of the newest checkpoints are kept; 0 or None keeps all.
    save_frequency : int, optional
        Every how many iterations to save.
    **options : object
        The other parameters of :class:`CheckpointManager`.

    Returns
    -------
    CheckpointManager
        The manager.

    Examples
    --------
    >>> create_checkpoint_manager("long_run", "checkpoints", save_frequency=100)
    CheckpointManager('checkpoints', 'long_run')
    """
    return CheckpointManager(checkpoint_dir, experiment_name, keep_last_n, save_frequency, **options)


# --- saved however it ends ---------------------------------------------------------------------------------


class Terminated(SystemExit):
    """A signal that ends the program, as an exception, so that what is to be saved and closed is.

    Parameters
    ----------
    signum : int
        The signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)  # what a shell says of a program that a signal ended
        self.signum = signum


class AutoCheckpoint:
    """Saves a checkpoint when a block ends by an exception, by Ctrl-C or by a signal, and lets it pass.

    SIGTERM, which a scheduler sends before it kills, is raised as :class:`Terminated` inside of the block, so
    that outer ``with`` and ``finally`` blocks run as well; the program then ends by that very signal, as it
    would have. A handler that the program has set for it is called once the checkpoint is saved; a signal that
    the program ignores stays ignored. Signals are caught in the main thread only.

    The checkpoint gets a number of its own, so it replaces none, and the metadata ``error``, ``error_type`` and
    ``interrupted``. Where saving fails, the exception passes all the same, with a note and a warning.

    Parameters
    ----------
    checkpoint_manager : CheckpointManager
        Where it is saved.
    get_state : callable
        Called without arguments; returns the state to be saved.
    signals : sequence of signal.Signals, default (SIGTERM,)
        The signals that are caught.

    Attributes
    ----------
    saved : Path or None
        The file, once there is one.

    Examples
    --------
    >>> import tempfile
    >>> manager = CheckpointManager(tempfile.mkdtemp(), "exp")
    >>> step = 0
    >>> try:
    ...     with AutoCheckpoint(manager, lambda: {"iteration": step}):
    ...         for step in range(10):
    ...             _ = 1 / (5 - step)
    ... except ZeroDivisionError:
    ...     pass
    >>> checkpoint = manager.load_checkpoint()
    >>> checkpoint["state"], checkpoint["metadata"]["error"]
    ({'iteration': 5}, 'division by zero')
    """

    def __init__(
        self,
        checkpoint_manager: CheckpointManager,
        get_state: Callable[[], Any],
        *,
        signals: Sequence[signal.Signals] = (signal.SIGTERM,),
    ) -> None:
        self.checkpoint_manager = checkpoint_manager
        self.get_state = get_state
        self.saved: Path | None = None
        self._signals = tuple(signals)
        self._before: dict[int, Any] = {}
        self._ending = False

    def __enter__(self) -> AutoCheckpoint:
        """Begin to catch signals."""
        self._ending = False
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals:
                before = signal.getsignal(signum)
                if before not in (signal.SIG_IGN, None):
                    self._before[signum] = before
                    signal.signal(signum, self._caught)
        return self

    def _caught(self, signum: int, frame: FrameType | None) -> None:
        if not self._ending:  # a second one must not cut the saving short
            raise Terminated(signum)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Save a checkpoint where the block raised, and let that pass."""
        self._ending = True
        try:
            if error is not None and not isinstance(error, GeneratorExit):
                self._save(error)
        finally:
            before, self._before = self._before, {}
            for signum, handler in before.items():
                signal.signal(signum, handler)
        if isinstance(error, Terminated) and error.signum in before:
            handler = before[error.signum]
            if handler is signal.SIG_DFL:
                _end_by(error.signum)
            elif getattr(handler, "__func__", None) is not AutoCheckpoint._caught:
                signal.raise_signal(error.signum)

    def _save(self, error: BaseException) -> None:
        metadata = {"error": str(error), "error_type": type(error).__name__, "interrupted": True}
        try:
            self.saved = self.checkpoint_manager.save_checkpoint(self.get_state(), metadata=metadata)
        except Exception as failure:
            text = f"no checkpoint was saved on the way out: {type(failure).__name__}: {failure}"
            error.add_note(text)
            with contextlib.suppress(ChunkMemoWarning):  # where warnings are errors, the first one still passes
                warnings.warn(text, ChunkMemoWarning, stacklevel=caller_level())


def _end_by(signum: int) -> None:
    """Let this program end by a signal, after everything else that it does at its end."""

    def end() -> None:
        atexit.unregister(end)
        atexit._run_exitfuncs()  # all others, which come after this one
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    atexit.register(end)
