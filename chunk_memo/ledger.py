"""The records of failed points in a cache's folder, and what one run knows of them.

::

    <root>/<cache_id>/failures/<chunk_hash>-<digest>.json   the points of one task that failed

A record is written like a chunk: once, whole, synced; it is sealed with a checksum, and its name ends with the
digest of what it says. It never changes: where some of its points are stored since, or failed again, it is
replaced by one that holds the others, and goes last. So a crash leaves at worst a point recorded twice (the
newer record counts), or one that is stored by now (it is left out where failures are listed, and means nothing to
a run, which asks about points that miss).

Points are known by the canonical bytes of their values on the axes sorted by name: an axis may have grown since,
and may stand elsewhere in the order. The folder is listed once in a run that misses points, and not at all on the
warm path; what was read of it is kept for the next run.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.disk import files
from chunk_memo.disk.sealing import DAMAGE, digest_of_text, from_row, sealed, text_of, to_row, unsealed
from chunk_memo.errors import DamageWarning, FormatVersionError
from chunk_memo.failures import Failure
from chunk_memo.grid import Axis, Grid, IntArray
from chunk_memo.identity import canonical_many
from chunk_memo.keys import locate
from chunk_memo.selection import Cell, Selection
from chunk_memo.tasks import Missing, Task

__all__ = ["FailureLog", "Known", "Ledger", "PointKey", "PointKeys", "known_failures", "outstanding"]

_FORMAT_VERSION = 1
"""Version of the records that this library writes, and the latest that it reads."""

PointKey = tuple[bytes, ...]
"""Canonical bytes of a point's value on each axis, axes sorted by name."""

Known = Mapping[PointKey, Failure]
"""The last failure of each point that is recorded."""


class FailureLog:
    """The records of one cache.

    Parameters
    ----------
    folder : Path
        The cache's folder.
    namespace : str
        The cache's version; records of others are passed over.
    """

    def __init__(self, folder: Path, namespace: str) -> None:
        self._folder = folder / "failures"
        self._namespace = namespace
        self._known: dict[str, tuple[Failure, ...]] = {}
        self._passed_over: set[str] = set()

    def read(self) -> list[Failure]:
        """Return what is recorded, whatever became of the points since.

        Returns
        -------
        list of Failure
            The failures, in no particular order.
        """
        known: dict[str, tuple[Failure, ...]] = {}
        for name in self._names():
            found = self._known.get(name) or self._read(name)
            if found:
                known[name] = found
        self._known = known
        return [failure for found in known.values() for failure in found]

    def _names(self) -> list[str]:
        try:
            names = files.list_folder(self._folder)
        except OSError:  # what cannot be listed stands in nobody's way
            return []
        return sorted(name for name in names if name.endswith(".json") and name not in self._passed_over)

    def _read(self, name: str) -> tuple[Failure, ...]:
        try:
            return self._parsed(name, files.read_whole(self._folder / name))
        except FormatVersionError:
            self._passed_over.add(name)
        except DAMAGE as error:
            self._passed_over.add(name)
            warnings.warn(
                f"the record of failed points '{self._folder / name}' is damaged ({type(error).__name__}:"
                f" {error}); it is passed over, and its points count as not computed yet",
                DamageWarning,
                stacklevel=2,
            )
        except OSError:  # gone, or out of reach for now
            pass
        return ()

    def _parsed(self, name: str, data: bytes) -> tuple[Failure, ...]:
        document, texts = unsealed(data)
        content = document["record"]
        if content["format"] > _FORMAT_VERSION:
            raise FormatVersionError(f"record '{name}' was written by a later chunk_memo; upgrade chunk_memo")
        if not name.endswith(f"-{digest_of_text(texts['record'])}.json"):
            raise ValueError("it says something else than its name")
        if content["namespace"] != self._namespace:
            self._passed_over.add(name)
            return ()
        return tuple(_failures_of(name, content))

    def commit(self, failures: Sequence[Failure], syncer: files.Syncer) -> None:
        """Write one record of failures of one task.

        Parameters
        ----------
        failures : sequence of Failure
            Failures that share their chunk and their values.
        syncer : Syncer
            Takes note of what must be on disk.
        """
        content = _content(failures, self._namespace)
        name = f"{failures[0].chunk_hash}-{digest_of_text(text_of(content))}.json"
        document = {"created_at": time.time_ns(), "record": content}
        files.commit(self._folder / name, [sealed(document)], syncer)

    def remove(self, names: Iterable[str]) -> None:
        """Delete records; what cannot be deleted is left.

        Parameters
        ----------
        names : iterable of str
            Names of their files.
        """
        for name in names:
            self._known.pop(name, None)
            try:
                files.remove(self._folder / name)
            except OSError:
                continue
        if not self._known:
            files.remove_folder(self._folder)  # if nobody else's are in it

    def forget(self, failures: Sequence[Failure], syncer: files.Syncer) -> None:
        """Delete what is recorded of some failures.

        Parameters
        ----------
        failures : sequence of Failure
            Failures that were read from here.
        syncer : Syncer
            Takes note of what must be on disk.
        """
        gone: dict[str, set[int]] = {}
        for failure in failures:
            if failure.record is not None:
                gone.setdefault(failure.record[0], set()).add(failure.record[1])
        for name, numbers in gone.items():
            known = self._known.get(name, ())
            self.replace(name, [f for f in known if f.record is not None and f.record[1] not in numbers], syncer)

    def replace(self, name: str, left: Sequence[Failure], syncer: files.Syncer) -> None:
        """Put a record of fewer failures in the place of one.

        Parameters
        ----------
        name : str
            Name of the file.
        left : sequence of Failure
            What is still to be recorded of it, which may be nothing.
        syncer : Syncer
            Takes note of what must be on disk.
        """
        if left:
            self.commit(left, syncer)
        self.remove([name])


def _content(failures: Sequence[Failure], namespace: str) -> dict[str, Any]:
    """Return failures of one task in a form that JSON can hold."""
    first = failures[0]
    return {
        "format": _FORMAT_VERSION,
        "namespace": namespace,
        "chunk": first.chunk_hash,
        "axes": [[name, to_row(values)] for name, values in zip(first.order, first.values, strict=True)],
        "vectorize": first.vectorize,
        "failures": [
            {
                "rows": None if each.rows is None else to_row(each.rows.tolist()),
                "cause": each.cause,
                "error": each.error_type,
                "message": each.message,
                "traceback": each.traceback,
                "worker": each.worker,
                "failed_at": each.failed_at,
                "seconds": each.seconds,
                "attempts": each.attempts,
            }
            for each in failures
        ],
    }


def _failures_of(name: str, content: Mapping[str, Any]) -> Iterator[Failure]:
    order = tuple(axis for axis, _ in content["axes"])
    values = tuple(tuple(from_row(row)) for _, row in content["axes"])
    for number, each in enumerate(content["failures"]):
        rows = each["rows"]
        yield Failure(
            content["chunk"],
            order,
            values,
            None if rows is None else np.asarray(from_row(rows), np.intp),
            content["vectorize"],
            each["cause"],
            each["error"],
            each["message"],
            each["traceback"],
            each["worker"],
            each["failed_at"],
            each["seconds"],
            each["attempts"],
            (name, number),
        )


# --- points --------------------------------------------------------------------------------------------------


class PointKeys:
    """Tells what points are known by; the values that failures of one task share are looked at once."""

    def __init__(self) -> None:
        self._ready: dict[int, tuple[Any, list[Sequence[bytes]]]] = {}

    def of(self, thing: Failure | Task, rows: IntArray | None) -> list[PointKey]:
        """Return what points are known by.

        Parameters
        ----------
        thing : Failure or Task
            What has values along each axis.
        rows : ndarray of intp or None
            Which points of their product, row-major; None for all.

        Returns
        -------
        list of tuple of bytes
            A key for each point.
        """
        if not thing.order:
            return [()]
        keys = self._of_values(thing.values)
        sizes = tuple(map(len, keys))
        places = np.arange(math.prod(sizes)) if rows is None else rows
        along = np.unravel_index(places, sizes)
        turn = sorted(range(len(sizes)), key=thing.order.__getitem__)
        return list(zip(*([keys[axis][i] for i in along[axis].tolist()] for axis in turn), strict=True))

    def _of_values(self, values: tuple[Sequence[Any], ...]) -> list[Sequence[bytes]]:
        found = self._ready.get(id(values))
        if found is None:  # the values are kept, so that their id stays their own
            found = self._ready[id(values)] = values, [canonical_many(list(along)) for along in values]
        return found[1]


def known_failures(failures: Iterable[Failure]) -> dict[PointKey, Failure]:
    """Return the last failure of each point.

    Parameters
    ----------
    failures : iterable of Failure
        What is recorded.

    Returns
    -------
    dict
        Key of a point to its failure.
    """
    known: dict[PointKey, Failure] = {}
    keys = PointKeys()
    for failure in sorted(failures, key=_age):
        known.update(dict.fromkeys(keys.of(failure, failure.rows), failure))
    return known


def _age(failure: Failure) -> tuple[int, int]:
    return failure.attempts, failure.failed_at


class Ledger:
    """What one run knows of earlier failures of its points, and what it adds.

    Parameters
    ----------
    log : FailureLog or None
        The records; None where a cache keeps none.
    order : sequence of str
        Names of the axes.
    elsewhere : callable, optional
        Returns failures of the same points that are recorded elsewhere; called once, where they matter.
    """

    def __init__(
        self,
        log: FailureLog | None,
        order: Sequence[str],
        elsewhere: Callable[[], Iterable[Failure]] = tuple,
    ) -> None:
        self._log = log
        self._elsewhere = elsewhere
        self._known_elsewhere: dict[PointKey, Failure] | None = None
        self._known: dict[PointKey, Failure] = {}
        self._records: dict[PointKey, list[str]] = {}
        self._open: dict[str, set[PointKey]] = {}
        self._of: dict[str, list[Failure]] = {}
        self._touched: set[str] = set()
        if log is not None:
            self._take([f for f in log.read() if sorted(f.order) == sorted(order)])

    def _take(self, failures: Sequence[Failure]) -> None:
        keys = PointKeys()
        for failure in sorted(failures, key=_age):
            assert failure.record is not None
            name = failure.record[0]
            self._of.setdefault(name, []).append(failure)
            for key in keys.of(failure, failure.rows):
                self._known[key] = failure
                self._records.setdefault(key, []).append(name)
                self._open.setdefault(name, set()).add(key)

    def sift(
        self, selection: Selection, missing: Sequence[Missing], retry: str | int
    ) -> tuple[list[Missing], list[tuple[Missing, Failure]]]:
        """Tell the points that are to be run from those that failed before and are left out.

        Parameters
        ----------
        selection : Selection
            A request.
        missing : sequence of Missing
            What a read of it did not find.
        retry : str or int
            ``"failed"``, ``"never"`` or a number of attempts.

        Returns
        -------
        run : list of Missing
            What is to be run.
        left : list of tuple of Missing, Failure
            What is left out, with its failure.
        """
        most = 0 if retry == "never" else retry
        if self._known_elsewhere is None:
            self._known_elsewhere = known_failures(self._elsewhere())
        known = {**self._known_elsewhere, **self._known}
        out = {key: f for key, f in known.items() if isinstance(most, int) and f.attempts >= most}
        if not out:
            return list(missing), []
        where = _Finder(selection, out)
        run: list[Missing] = []
        left: list[tuple[Missing, Failure]] = []
        for rank, cell, points in missing:
            found = where.of(cell, points)
            if not found:
                run.append((rank, cell, points))
                continue
            wanted = np.ones(cell.points, bool) if points is None else np.zeros(cell.points, bool)
            if points is not None:
                wanted[points] = True
            for failure, places in found:
                wanted[places] = False
                left.append(((rank, cell, places), failure))
            if wanted.any():
                run.append((rank, cell, np.flatnonzero(wanted)))
        return run, left

    def stored(self, task: Task, rows: IntArray | None) -> None:
        """Take note that points are stored; records of which nothing is left go.

        Parameters
        ----------
        task : Task
            The task.
        rows : ndarray of intp or None
            Which of its points; None for all.
        """
        if self._records:
            self._resolve(PointKeys().of(task, rows))

    def failed(self, task: Task, failures: Sequence[Failure], syncer: files.Syncer) -> list[Failure]:
        """Record failures of a task; they take the place of earlier ones of the same points.

        Parameters
        ----------
        task : Task
            The task.
        failures : sequence of Failure
            Its failures.
        syncer : Syncer
            Takes note of what must be on disk.

        Returns
        -------
        list of Failure
            The same, with their attempts counted.
        """
        keys: list[PointKey] = []
        if self._known:
            counted = []
            named = PointKeys()
            for failure in failures:
                own = named.of(task, failure.rows)
                before = [self._known[key].attempts for key in own if key in self._known]
                counted.append(replace(failure, attempts=1 + max(before, default=0)))
                keys += own
            failures = counted
        if self._log is not None:
            self._log.commit(failures, syncer)
        self._resolve(keys)
        return list(failures)

    def _resolve(self, keys: Iterable[PointKey]) -> None:
        done = []
        for key in keys:
            for name in self._records.pop(key, ()):
                left = self._open[name]
                left.discard(key)
                if left:
                    self._touched.add(name)
                else:
                    self._touched.discard(name)
                    done.append(name)
        if done and self._log is not None:
            self._log.remove(done)

    def settle(self, syncer: files.Syncer) -> None:
        """Replace records of which only some points are left; where that cannot be, they stay.

        Parameters
        ----------
        syncer : Syncer
            Takes note of what must be on disk.
        """
        for name in sorted(self._touched):
            named = PointKeys()
            left = [_trimmed(failure, named, self._open[name]) for failure in self._of[name]]
            try:
                if self._log is not None:
                    self._log.replace(name, [failure for failure in left if failure.points], syncer)
            except OSError:
                continue
        self._touched.clear()


def _trimmed(failure: Failure, named: PointKeys, open_keys: set[PointKey]) -> Failure:
    """Return a failure of those of its points that are in a set."""
    keys = named.of(failure, failure.rows)
    kept = np.array([number for number, key in enumerate(keys) if key in open_keys], np.intp)
    if len(kept) == len(keys):
        return failure
    return replace(failure, rows=kept if failure.rows is None else failure.rows[kept])


class _Finder:
    """Finds points of a set in the cells of a request; in most cells there are none."""

    def __init__(self, selection: Selection, known: Known) -> None:
        self._known = known
        self._keys = selection.keys
        self._turn = sorted(range(len(selection.order)), key=selection.order.__getitem__)
        self._flags = []
        for axis, keys in enumerate(selection.keys):
            place = self._turn.index(axis)
            among = {key[place] for key in known}
            self._flags.append(np.fromiter((key in among for key in keys), bool, len(keys)))

    def of(self, cell: Cell, points: IntArray | None) -> list[tuple[Failure, IntArray]]:
        """Return failures with the row-major positions of their points in a cell, of the points given."""
        along = [np.flatnonzero(flags[axis.source]) for flags, axis in zip(self._flags, cell.axes, strict=True)]
        if not all(map(len, along)):
            return []
        wanted = None if points is None else set(points.tolist())
        found: dict[int, tuple[Failure, list[int]]] = {}
        for picks in itertools.product(*(at.tolist() for at in along)):
            place = int(np.ravel_multi_index(picks, cell.shape)) if picks else 0
            failure = self._known.get(self._key(cell, picks))
            if failure is not None and (wanted is None or place in wanted):
                found.setdefault(id(failure), (failure, []))[1].append(place)
        return [(failure, np.asarray(places, np.intp)) for failure, places in found.values()]

    def _key(self, cell: Cell, picks: Sequence[int]) -> PointKey:
        return tuple([self._keys[a][int(cell.axes[a].source[picks[a]])] for a in self._turn])


# --- the list of them ----------------------------------------------------------------------------------------


def outstanding(
    failures: Iterable[Failure],
    grid: Grid,
    within: Selection | None,
    stored: Callable[[Selection], npt.NDArray[np.bool_]],
) -> list[Failure]:
    """Return the failures whose points are not stored since, oldest first, each point with its last one.

    Parameters
    ----------
    failures : iterable of Failure
        What is recorded.
    grid : Grid
        The declared grid; its own values take the place of those that were read.
    within : Selection or None
        The points that are asked about; None for all.
    stored : callable
        Tells which points of a request are stored.

    Returns
    -------
    list of Failure
        The failures, with the points that are left of each.
    """
    point_keys = PointKeys()
    fitting = [failure for failure in failures if sorted(failure.order) == sorted(grid.order)]
    last = known_failures(fitting)
    asked = None if within is None else dict(zip(within.order, map(frozenset, within.keys), strict=True))
    by_record: dict[str, list[Failure]] = {}
    for failure in fitting:
        by_record.setdefault(failure.record[0] if failure.record else "", []).append(failure)
    left = []
    for group in by_record.values():
        first = group[0]
        read = tuple([tuple(values) for values in first.values])
        keys = tuple([canonical_many(values) for values in read])
        wanted = ~stored(Selection(first.order, read, keys))
        for axis, name in enumerate(first.order if asked is not None else ()):
            chosen = np.array([key in (asked or {})[name] for key in keys[axis]], bool)
            wanted = wanted & chosen.reshape([-1 if axis == other else 1 for other in range(wanted.ndim)])
        named = zip(first.order, keys, read, strict=True)
        values = tuple([_declared(grid.axis(name), own, along) for name, own, along in named])
        for failure in group:
            own = point_keys.of(failure, failure.rows)
            rows = np.arange(len(own)) if failure.rows is None else failure.rows
            open_rows = wanted.reshape(-1)[rows] & np.array([last[key] is failure for key in own], bool)
            if open_rows.any():
                kept = failure.rows if open_rows.all() else rows[open_rows]
                left.append(replace(failure, values=values, rows=kept))
    return sorted(left, key=lambda failure: (failure.failed_at, failure.chunk_hash))


def _declared(axis: Axis, keys: Sequence[bytes], values: Sequence[Any]) -> tuple[Any, ...]:
    """Return values as they were declared, which may be of a class that is not rebuilt from a file."""
    places = locate(axis.lookup, keys).tolist()
    return tuple([value if at < 0 else axis.values[at] for at, value in zip(places, values, strict=True)])
