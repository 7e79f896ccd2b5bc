"""What is known of a run, and what keeps it: :class:`RunRecord`, :class:`Runs` and the :class:`IndexBackend`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from chunk_memo.errors import MetadataError
from chunk_memo.identity.jsonable import from_jsonable, to_jsonable
from chunk_memo.runparams import from_json, plain_params

__all__ = ["FileMark", "IndexBackend", "RunFailure", "RunFailures", "RunRecord", "Runs"]


@dataclass(frozen=True, slots=True)
class FileMark:
    """By what a result file is known again: its length, its time, and a digest of its bytes."""

    size: int
    """Length in bytes; of a folder, that of all its files."""
    modified_ns: int
    """When it was last changed, in nanoseconds since 1970-01-01 UTC; of a folder, the latest of its files."""
    digest: str
    """xxh3-128 of the bytes, 32 hex characters; of a folder, over names and bytes of its files."""


@dataclass(frozen=True)
class RunRecord:
    """One run: what it was run with, and where its result lies.

    Examples
    --------
    >>> record = RunRecord({"n": 3}, Path("results/a.npy"), "0" * 16, "2026-01-01T00:00:00+00:00")
    >>> RunRecord.from_dict(record.to_dict()) == record
    True
    """

    params: dict[str, Any]
    """The params: values as JSON has them (a tuple as a list, an enum as its value), others unchanged."""
    result_path: Path
    """The result file or folder."""
    params_hash: str
    """16 hex characters: the first of the SHA-256 of the params' canonical JSON."""
    created_at: str
    """When the run ended, or was registered: UTC, ISO 8601 with offset."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The caller's keywords and what is kept of each run: ``elapsed_seconds``, ``host``, ``python``, …"""
    file: FileMark | None = None
    """By what the result file is known again; None where only its existence is checked."""

    @classmethod
    def from_texts(
        cls,
        params: str,
        result_path: str,
        params_hash: str,
        created_at: str,
        metadata: str,
        file: FileMark | None,
    ) -> RunRecord:
        """Return a record whose texts are read when they are first looked at: most of a long list never is.

        Parameters
        ----------
        params : str
            Exact JSON.
        result_path, params_hash, created_at : str
            As they are stored.
        metadata : str
            Exact JSON.
        file : FileMark or None
            By what the result file is known again.

        Returns
        -------
        RunRecord
            The record.
        """
        record = object.__new__(cls)
        record.__dict__.update(
            params_hash=params_hash,
            created_at=created_at,
            file=file,
            _texts={"params": params, "metadata": metadata, "result_path": result_path},
        )
        return record

    def __getattr__(self, name: str) -> Any:
        """Read what is still a text."""
        texts = self.__dict__.get("_texts")
        if texts is None or name not in texts:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        text, folder = texts[name], self.__dict__.get("_folder")
        if name == "result_path":
            value: Any = Path(text) if folder is None else folder / text  # of two, an absolute one is the answer
        else:
            value = from_json(text)
        return self.__dict__.setdefault(name, value)

    def located(self, folder: Path) -> RunRecord:
        """Return the record with a relative path taken as one inside a folder.

        Parameters
        ----------
        folder : pathlib.Path
            Where results lie.

        Returns
        -------
        RunRecord
            The record, or a copy.
        """
        if "result_path" not in self.__dict__:
            copied = object.__new__(type(self))
            copied.__dict__.update(self.__dict__)
            copied.__dict__["_folder"] = folder
            return copied
        path = Path(self.result_path)
        return self if path.is_absolute() else replace(self, result_path=folder / path)

    def _repr_html_(self) -> str:
        """Return the record, for a notebook."""
        from chunk_memo.display.notebook import html_of_run

        return html_of_run(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it, for index back ends of one's own.

        Returns
        -------
        dict
            Field to value.
        """
        mark = self.file
        return {
            "params": plain_params(self.params),
            "result_path": str(self.result_path),
            "params_hash": self.params_hash,
            "created_at": self.created_at,
            "metadata": to_jsonable(self.metadata, "metadata"),
            "file": None if mark is None else [mark.size, mark.modified_ns, mark.digest],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunRecord:
        """Return the record that :meth:`to_dict` made a dict of.

        Parameters
        ----------
        data : mapping
            Field to value.

        Returns
        -------
        RunRecord
            The record.

        Raises
        ------
        MetadataError
            Where a field is missing.
        """
        try:
            mark = data.get("file")
            return cls(
                params=from_jsonable(dict(data["params"])),
                result_path=Path(data["result_path"]),
                params_hash=str(data["params_hash"]),
                created_at=str(data["created_at"]),
                metadata=from_jsonable(dict(data.get("metadata") or {})),
                file=None if mark is None else FileMark(int(mark[0]), int(mark[1]), str(mark[2])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MetadataError(
                f"a run's record must hold what RunRecord.to_dict() gives, got {data!r}"
            ) from error


class Runs(list[RunRecord]):
    """A list of runs that can be looked at as a table.

    Parameters
    ----------
    iterable : iterable of RunRecord
        The runs.

    Examples
    --------
    >>> run = RunRecord({"n": 3, "dt": 0.1}, Path("a.npy"), "0" * 16, "2026-01-01T00:00:00+00:00")
    >>> Runs([run]).table()["n"]
    [3]
    """

    def _repr_html_(self) -> str:
        """Return the table, for a notebook."""
        from chunk_memo.display.notebook import html_of_runs

        return html_of_runs(self)

    @property
    def params(self) -> tuple[str, ...]:
        """The names of all params, in the order in which they first come."""
        return tuple(dict.fromkeys(name for run in self for name in run.params))

    @property
    def differing(self) -> tuple[str, ...]:
        """The names of those params that are not the same in all runs."""
        return tuple(name for name in self.params if len({_shown(run, name) for run in self}) > 1)

    def table(self) -> dict[str, list[Any]]:
        """Return the runs by columns: their params, then what else is known of them.

        Returns
        -------
        dict
            Column to one value per run, None where a run has no such param. A param that is called like one of
            ``result_path``, ``created_at``, ``elapsed_seconds`` goes before it.
        """
        known: dict[str, list[Any]] = {
            "created_at": [run.created_at for run in self],
            "elapsed_seconds": [run.metadata.get("elapsed_seconds") for run in self],
            "result_path": [str(run.result_path) for run in self],
        }
        params = {name: [run.params.get(name) for run in self] for name in self.params}
        return params | {name: column for name, column in known.items() if name not in params}


def _shown(run: RunRecord, name: str) -> str:
    return repr(plain_params({name: run.params[name]})) if name in run.params else ""


@dataclass(frozen=True)
class RunFailure:
    """One run that failed, in the place of its record; false where a record is true.

    Examples
    --------
    >>> failure = RunFailure.of(ZeroDivisionError("by zero"), {"n": 0}, "0" * 16)
    >>> bool(failure), failure.error_type, failure.message
    (False, 'ZeroDivisionError', 'by zero')
    >>> RunFailure.from_dict(failure.to_dict()) == failure
    True
    """

    params: dict[str, Any]
    """The params, as a record has them."""
    params_hash: str
    """Their hash."""
    error_type: str
    """Name of the exception's class."""
    message: str
    """What it says."""
    traceback: str
    """The traceback as text."""
    failed_at: str
    """When: UTC, ISO 8601 with offset."""
    attempts: int = 1
    """How often the run failed so far."""
    exception: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception; None for a failure that was read from disk."""

    @classmethod
    def of(
        cls, error: BaseException, params: Mapping[str, Any], params_hash: str, attempts: int = 1
    ) -> RunFailure:
        """Return the failure that an exception stands for.

        Parameters
        ----------
        error : BaseException
            The exception.
        params : mapping
            The run's params.
        params_hash : str
            Their hash.
        attempts : int, default 1
            How often the run failed so far.

        Returns
        -------
        RunFailure
            The failure.
        """
        lines = "".join(traceback.format_exception(error))
        try:
            said = str(error)
        except Exception:  # what an exception says of itself is the user's code, too
            said = f"<{type(error).__name__}, whose text cannot be made>"
        when = datetime.now(UTC).isoformat()
        return cls(dict(params), params_hash, type(error).__name__, said, lines, when, attempts, error)

    def __bool__(self) -> bool:
        """Return False, so that ``if run:`` tells records from failures."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as JSON can hold it.

        Returns
        -------
        dict
            Field to value, the exception itself left out.
        """
        names = ("params_hash", "error_type", "message", "traceback", "failed_at", "attempts")
        return {"params": plain_params(self.params), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunFailure:
        """Return the failure that :meth:`to_dict` made a dict of.

        Parameters
        ----------
        data : mapping
            Field to value.

        Returns
        -------
        RunFailure
            The failure.
        """
        return cls(
            params=from_jsonable(dict(data["params"])),
            params_hash=str(data["params_hash"]),
            error_type=str(data["error_type"]),
            message=str(data["message"]),
            traceback=str(data["traceback"]),
            failed_at=str(data["failed_at"]),
            attempts=int(data["attempts"]),
        )


class RunFailures(list[RunFailure]):
    """A list of runs that failed; prints as a table.

    Parameters
    ----------
    iterable : iterable of RunFailure
        The failures.

    Examples
    --------
    >>> print(RunFailures())
    no failures
    """

    def __str__(self) -> str:
        """Return a line for each: its params, and the error."""
        lines = [
            f"{each.failed_at[:19].replace('T', ' ')}  {each.error_type}: {each.message}"[:200]
            + f"  {each.params}"
            for each in self
        ]
        return "\n".join(lines) or "no failures"

    def _repr_html_(self) -> str:
        """Return the table, for a notebook."""
        from chunk_memo.display.notebook import html_of_run_failures

        return html_of_run_failures(self)


@runtime_checkable
class IndexBackend(Protocol):
    """Where a :class:`~chunk_memo.Store` keeps its records: any object with these five methods.

    Paths come as they are to be kept: relative to the store's ``results_dir`` where they lie in it. Several
    records may have one hash, as re-runs are kept.
    """

    def find_by_hash(self, params_hash: str) -> RunRecord | None:
        """Return the oldest record of a hash.

        Parameters
        ----------
        params_hash : str
            16 hex characters.

        Returns
        -------
        RunRecord or None
            None where there is none.
        """
        ...

    def find_by_params(self, params: dict[str, Any]) -> list[RunRecord]:
        """Return the records whose params have these values, among others.

        Parameters
        ----------
        params : dict
            Names to values; all records for an empty one.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        ...

    def insert(self, record: RunRecord) -> None:
        """Keep a record.

        Parameters
        ----------
        record : RunRecord
            The record; others of the same hash stay.
        """
        ...

    def all(self) -> list[RunRecord]:
        """Return all records.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        ...

    def delete_by_hash(self, params_hash: str) -> bool:
        """Forget all records of a hash.

        Parameters
        ----------
        params_hash : str
            16 hex characters.

        Returns
        -------
        bool
            Whether there was any.
        """
        ...
