"""Where a store's records lie: in SQLite, in PostgreSQL, or in memory.

Both databases hold the same two tables and are asked by the same statements: one row per run, and one per param
of it, under an index by name and value. What a filter asks is first narrowed by that index, to no less than what
is right, and then decided in Python on the params themselves, so that every back end gives the same answer. For
the index a number is its nearest of 12 digits, and a text its first 64 characters; everything else is a digest.

Values reach a statement as bound parameters alone. The only name that a caller may give, that of PostgreSQL's
tables, is checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from chunk_memo.disk.mounts import NETWORK, file_system
from chunk_memo.errors import MetadataError, RootError, SpecError
from chunk_memo.identity.jsonable import to_jsonable
from chunk_memo.runparams import (
    Condition,
    canonical_json,
    conditions,
    exact_json,
    matches,
    plain_params,
    significant,
)
from chunk_memo.runs import FileMark, RunRecord

__all__ = ["MemoryIndex", "PostgresIndex", "RunIndex", "SQLiteIndex"]

Result = TypeVar("Result")

_PATIENCE: Final = 60.0
"""Seconds for which a statement waits for others that write."""
_MOST_TEXT: Final = 64
_MOST_NAME: Final = 200
_TWELVE_DIGITS: Final = 10**11
_MOST_VALUES: Final = 400
"""Databases take only so many values in one statement."""
_FEW: Final = 1000
"""Of several conditions the one that fewest runs meet goes first; beyond so many they are not counted."""

_FIELDS: Final = (
    "r.id, r.params_hash, r.params, r.result_path, r.created_at, r.metadata, r.size, r.modified, r.digest"
)


class RunIndex(ABC):
    """What this library's back ends can do beyond the five methods of an ``IndexBackend``."""

    @abstractmethod
    def find_each(self, params_hash: str) -> list[RunRecord]:
        """Return all records of a hash.

        Parameters
        ----------
        params_hash : str
            16 hex characters.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """

    @abstractmethod
    def search(self, asked: Sequence[Condition]) -> list[RunRecord]:
        """Return the records that meet a filter.

        Parameters
        ----------
        asked : sequence of Condition
            The filter.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """

    @abstractmethod
    def insert_many(self, records: Iterable[RunRecord]) -> None:
        """Keep records, all of them or none.

        Parameters
        ----------
        records : iterable of RunRecord
            The records.
        """

    @abstractmethod
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

    @abstractmethod
    def discard(self, record: RunRecord) -> bool:
        """Forget one record, and none of its re-runs.

        Parameters
        ----------
        record : RunRecord
            As it was found.

        Returns
        -------
        bool
            Whether it was there.
        """

    @abstractmethod
    def uses(self, path: Path) -> bool:
        """Tell whether a record names a file.

        Parameters
        ----------
        path : pathlib.Path
            As records name it.

        Returns
        -------
        bool
            Whether there is such a record.
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
        return next(iter(self.find_each(params_hash)), None)

    def find_by_params(self, params: dict[str, Any]) -> list[RunRecord]:
        """Return the records whose params have these values, among others.

        Parameters
        ----------
        params : dict
            Names to values.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        return self.search(conditions(params))

    def insert(self, record: RunRecord) -> None:
        """Keep a record.

        Parameters
        ----------
        record : RunRecord
            The record; others of the same hash stay.
        """
        self.insert_many([record])

    def all(self) -> list[RunRecord]:
        """Return all records.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        return self.search(())


class MemoryIndex(RunIndex):
    """Records in memory, for one process: tests, and stores that shall leave no index behind.

    Examples
    --------
    >>> index = MemoryIndex()
    >>> index.insert(RunRecord({"n": 3}, Path("a.npy"), "0" * 16, "2026-01-01T00:00:00+00:00"))
    >>> [record.params for record in index.find_by_params({"n": 3})]
    [{'n': 3}]
    """

    def __init__(self) -> None:
        self._records: dict[str, list[tuple[int, RunRecord]]] = {}
        self._count = 0
        self._lock = _OwnLock()
        self._pid = os.getpid()

    def __reduce__(self) -> Any:
        """Refuse to travel: another process would have a copy, and its records would be lost."""
        raise SpecError(_ONE_PROCESS)

    def find_each(self, params_hash: str) -> list[RunRecord]:
        """Return all records of a hash.

        Parameters
        ----------
        params_hash : str
            16 hex characters.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        with self._lock:
            return [record for _, record in self._records.get(params_hash, ())]

    def search(self, asked: Sequence[Condition]) -> list[RunRecord]:
        """Return the records that meet a filter.

        Parameters
        ----------
        asked : sequence of Condition
            The filter.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        with self._lock:
            numbered = sorted(
                (each for some in self._records.values() for each in some), key=lambda each: each[0]
            )
        if not asked:
            return [record for _, record in numbered]
        return [record for _, record in numbered if matches(plain_params(record.params), asked)]

    def insert_many(self, records: Iterable[RunRecord]) -> None:
        """Keep records, all of them or none.

        Parameters
        ----------
        records : iterable of RunRecord
            The records.
        """
        if self._pid != os.getpid():
            raise SpecError(_ONE_PROCESS)
        given = list(records)
        with self._lock:
            for record in given:
                self._count += 1
                self._records.setdefault(record.params_hash, []).append((self._count, record))

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
        with self._lock:
            return self._records.pop(params_hash, None) is not None

    def discard(self, record: RunRecord) -> bool:
        """Forget one record, and none of its re-runs.

        Parameters
        ----------
        record : RunRecord
            As it was found.

        Returns
        -------
        bool
            Whether it was there.
        """
        with self._lock:
            there = self._records.get(record.params_hash, [])
            left = [each for each in there if _name(each[1]) != _name(record)]
            if left:
                self._records[record.params_hash] = left
            else:
                self._records.pop(record.params_hash, None)
            return len(left) < len(there)

    def uses(self, path: Path) -> bool:
        """Tell whether a record names a file.

        Parameters
        ----------
        path : pathlib.Path
            As records name it.

        Returns
        -------
        bool
            Whether there is such a record.
        """
        with self._lock:
            return any(record.result_path == path for some in self._records.values() for _, record in some)


_ONE_PROCESS: Final = "a MemoryIndex is of one process; give the store a db_path, and others find its records"


def _name(record: RunRecord) -> tuple[str, str]:
    """Return what tells re-runs apart."""
    return record.created_at, record.result_path.as_posix()


class _OwnLock:
    """A lock of this process: what another thread held when the process was forked is free in the child."""

    def __init__(self) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.RLock()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


# --- what both databases share ---------------------------------------------------------------------------------

Values = Mapping[str, Any]
"""Values of a statement, by the names that it has for them."""


class _Session(ABC):
    """Statements of one transaction, with parameters written ``:name``."""

    @abstractmethod
    def rows(self, statement: str, values: Values) -> Sequence[Sequence[Any]]:
        """Return the rows that a statement gives."""

    @abstractmethod
    def change(self, statement: str, values: Values | Sequence[Values]) -> int:
        """Run a statement that changes something; return how many rows."""


class _SqlIndex(RunIndex):
    """Records in two tables of a database."""

    _runs = "runs"
    _params = "run_params"

    @abstractmethod
    def _read(self, work: Callable[[_Session], Result]) -> Result:
        """Call with a session that sees one state of the database."""

    @abstractmethod
    def _write(self, work: Callable[[_Session], Result]) -> Result:
        """Call with a session whose changes are all made durably, or none."""

    def find_each(self, params_hash: str) -> list[RunRecord]:
        """Return all records of a hash.

        Parameters
        ----------
        params_hash : str
            16 hex characters.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        if "\0" in params_hash:
            return []  # not every database takes it, and no hash has it
        statement = f"SELECT {_FIELDS} FROM {self._runs} r WHERE r.params_hash = :hash ORDER BY r.id"
        rows = self._read(lambda session: session.rows(statement, {"hash": params_hash}))
        return [_record(row) for row in rows]

    def search(self, asked: Sequence[Condition]) -> list[RunRecord]:
        """Return the records that meet a filter.

        Parameters
        ----------
        asked : sequence of Condition
            The filter.

        Returns
        -------
        list of RunRecord
            Oldest first.
        """
        rows = self._read(lambda session: self._narrowed(session, asked))
        inexact = [each for each in asked if not _is_exact(each)]
        if not inexact:
            return [_record(row) for row in rows]
        return [_record(row) for row in rows if matches(json.loads(row[2]), inexact)]

    def _narrowed(self, session: _Session, asked: Sequence[Condition]) -> Sequence[Sequence[Any]]:
        """Return the rows of all runs that meet a filter, and maybe of some others."""
        if not asked:
            return session.rows(f"SELECT {_FIELDS} FROM {self._runs} r ORDER BY r.id", {})
        asked = self._fewest_first(session, asked)
        values: dict[str, Any] = {}
        clauses = [_clause(each, number, values) for number, each in enumerate(asked)]
        also = "".join(
            f" AND EXISTS (SELECT 1 FROM {self._params} p WHERE p.run = r.id AND {clause})"
            for clause in clauses[1:]
        )
        runs = f"SELECT p.run FROM {self._params} p WHERE {clauses[0]}"
        return session.rows(
            f"SELECT {_FIELDS} FROM {self._runs} r WHERE r.id IN ({runs}){also} ORDER BY r.id", values
        )

    def _fewest_first(self, session: _Session, asked: Sequence[Condition]) -> Sequence[Condition]:
        if len(asked) == 1:
            return asked
        counts = []
        for condition in asked:
            values: dict[str, Any] = {"few": _FEW}
            some = f"SELECT 1 FROM {self._params} p WHERE {_clause(condition, 0, values)} LIMIT :few"
            counts.append(session.rows(f"SELECT count(*) FROM ({some}) AS found", values)[0][0])
        return [asked[i] for i in sorted(range(len(asked)), key=counts.__getitem__)]

    def insert_many(self, records: Iterable[RunRecord]) -> None:
        """Keep records, all of them or none.

        Parameters
        ----------
        records : iterable of RunRecord
            The records.
        """
        rows = [_row(record) for record in records]

        def work(session: _Session) -> None:
            ids = self._new_ids(session, len(rows))
            session.change(
                f"INSERT INTO {self._runs} VALUES (:id, :hash, :params, :path, :created_at, :metadata, :size,"
                " :modified, :digest)",
                [{"id": number, **row} for number, (row, _) in zip(ids, rows, strict=True)],
            )
            places = [
                {"run": number, "place": place, **value}
                for number, (_, values) in zip(ids, rows, strict=True)
                for place, value in enumerate(values)
            ]
            if places:
                session.change(f"INSERT INTO {self._params} VALUES (:run, :place, :name, :number, :text)", places)

        if rows:
            self._write(work)

    @abstractmethod
    def _new_ids(self, session: _Session, count: int) -> Sequence[int]:
        """Return numbers for new runs, beyond those of all that are there."""

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
        return "\0" not in params_hash and self._forget("params_hash = :hash", {"hash": params_hash})

    def discard(self, record: RunRecord) -> bool:
        """Forget one record, and none of its re-runs.

        Parameters
        ----------
        record : RunRecord
            As it was found.

        Returns
        -------
        bool
            Whether it was there.
        """
        created_at, path = _name(record)
        return self._forget(
            "params_hash = :hash AND created_at = :created_at AND result_path = :path",
            {"hash": record.params_hash, "created_at": created_at, "path": path},
        )

    def _forget(self, clause: str, values: Values) -> bool:
        def work(session: _Session) -> bool:
            there = f"SELECT id FROM {self._runs} WHERE {clause}"
            session.change(f"DELETE FROM {self._params} WHERE run IN ({there})", values)
            return session.change(f"DELETE FROM {self._runs} WHERE {clause}", values) > 0

        return self._write(work)

    def uses(self, path: Path) -> bool:
        """Tell whether a record names a file.

        Parameters
        ----------
        path : pathlib.Path
            As records name it.

        Returns
        -------
        bool
            Whether there is such a record.
        """
        statement = f"SELECT 1 FROM {self._runs} WHERE result_path = :path LIMIT 1"
        text = path.as_posix()
        return "\0" not in text and bool(self._read(lambda session: session.rows(statement, {"path": text})))


def _record(row: Sequence[Any]) -> RunRecord:
    _, params_hash, params, path, created_at, metadata, size, modified, digest = row
    mark = None if digest is None else FileMark(size, modified, digest)
    return RunRecord.from_texts(params, path, params_hash, created_at, metadata, mark)


def _row(record: RunRecord) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a record as a row of the runs, and its params as rows of theirs."""
    plain, mark = plain_params(record.params), record.file
    row = {
        "hash": record.params_hash,
        "params": exact_json(plain),
        "path": record.result_path.as_posix(),
        "created_at": record.created_at,
        "metadata": exact_json(to_jsonable(record.metadata, "metadata")),
        "size": None if mark is None else mark.size,
        "modified": None if mark is None else mark.modified_ns,
        "digest": None if mark is None else mark.digest,
    }
    return row, list(_values((), plain))


def _values(path: tuple[str, ...], plain: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the index knows of params: each value, and each dict both whole and by its members."""
    for name, value in plain.items():
        here = (*path, name)
        number, text = _key(value)
        yield {"name": _indexed_name(".".join(here)), "number": number, "text": text}
        if isinstance(value, dict):
            yield from _values(here, value)


def _indexed_name(key: str) -> str:
    """Return a column as the index knows it; a long name, or one that not every database takes, as a digest."""
    if len(key) <= _MOST_NAME and "\0" not in key:
        return key
    return f"\x01{hashlib.sha256(key.encode()).hexdigest()}"


def _key(value: Any) -> tuple[float | None, str | None]:
    """Return a value as the index knows it: a number, or a text that begins with its kind.

    Of two numbers, or two texts, the smaller never has the larger key; equal values have equal keys.
    """
    if isinstance(value, bool):
        return None, f"b{value}"
    if isinstance(value, int | float):
        try:
            return significant(float(value)), None
        except OverflowError:
            return (float("inf") if value > 0 else float("-inf")), None
    if isinstance(value, str):
        return None, "s" + value[:_MOST_TEXT].replace("\0", "\x01")
    return None, "j" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _is_exact(condition: Condition) -> bool:
    """Tell whether the index finds what is equal, and nothing more."""
    value = condition.value
    if condition.op != "==" or len(condition.path) > 1:
        return False
    if isinstance(value, str):
        return len(value) <= _MOST_TEXT and "\0" not in value and "\x01" not in value
    return not isinstance(value, int | float) or abs(value) < _TWELVE_DIGITS


def _clause(condition: Condition, at: int, values: dict[str, Any]) -> str:
    """Return the SQL for what meets a condition, and maybe for more; `values` gets what it binds."""
    values[f"name{at}"] = _indexed_name(condition.key)
    named = f"p.name = :name{at}"
    if condition.op in ("!=", "not in"):
        return named
    if condition.op in ("==", "in"):
        wanted = [_key(each) for each in (condition.value if condition.op == "in" else [condition.value])]
        if len(wanted) > _MOST_VALUES:
            return named
        columns: dict[str, list[str]] = {}
        for number, (amount, text) in enumerate(wanted):
            columns.setdefault("number" if text is None else "text", []).append(f":value{at}_{number}")
            values[f"value{at}_{number}"] = amount if text is None else text
        either = " OR ".join(f"p.{column} IN ({', '.join(bound)})" for column, bound in columns.items())
        return f"{named} AND ({either or '1 = 0'})"
    sign = condition.op if condition.op.endswith("=") else f"{condition.op}="
    amount, text = _key(condition.value)
    values[f"value{at}"] = amount if text is None else text
    if text is None:
        return f"{named} AND p.number {sign} :value{at}"
    return f"{named} AND p.text {sign} :value{at} AND p.text >= 's' AND p.text < 't'"


# --- SQLite ----------------------------------------------------------------------------------------------------

_SQLITE_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, params_hash TEXT NOT NULL, params TEXT NOT NULL, result_path TEXT NOT NULL,
    created_at TEXT NOT NULL, metadata TEXT NOT NULL, size INTEGER, modified INTEGER, digest TEXT);
CREATE INDEX IF NOT EXISTS runs_by_hash ON runs (params_hash);
CREATE TABLE IF NOT EXISTS run_params (
    run INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL, number REAL, text TEXT,
    PRIMARY KEY (run, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_params_by_number ON run_params (name, number) WHERE number IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_params_by_text ON run_params (name, text) WHERE text IS NOT NULL;
CREATE TABLE IF NOT EXISTS imports (digest TEXT PRIMARY KEY);
PRAGMA application_id = 0x636d7372;
PRAGMA user_version = 1;
"""
_APPLICATION_ID: Final = 0x636D7372  # "cmsr"
_SCHEMA_VERSION: Final = 1
_orphans: list[Any] = []
"""Connections of a parent process, which a child must neither use nor close: its locks would go."""


class SQLiteIndex(_SqlIndex):
    """Records in one SQLite file; any number of processes of one machine may use it at once.

    Parameters
    ----------
    path : path-like
        The file, made when it is not there, whatever its suffix.

    Raises
    ------
    RootError
        Where the file would lie on a file system that several machines share (NFS, SMB, Lustre, GPFS and the
        like), on which SQLite's locks do not hold.
    MetadataError
        Where there is a file that is no SQLite database of this library.

    Examples
    --------
    >>> import tempfile
    >>> index = SQLiteIndex(Path(tempfile.mkdtemp()) / "runs.db")
    >>> index.insert(RunRecord({"n": 3}, Path("a.npy"), "0" * 16, "2026-01-01T00:00:00+00:00"))
    >>> [record.params for record in index.find_by_params({"n": 3})]
    [{'n': 3}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        kind = file_system(self.path)
        if kind in NETWORK:
            raise RootError(
                f"the index {str(self.path)!r} would lie on {NETWORK[kind]}, where several machines can write and"
                f" SQLite's locks do not hold; give a db_path on a local disk, or share records by PostgreSQL:"
                f" Store(results_dir, index=PostgresIndex('postgresql://…')). The results may stay where they are"
            )
        self._lock = _OwnLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._connected()

    def __repr__(self) -> str:
        """Return what made it."""
        return f"SQLiteIndex({str(self.path)!r})"

    def __getstate__(self) -> str:
        """Return what travels: the path."""
        return str(self.path)

    def __setstate__(self, path: str) -> None:
        self.__init__(path)  # type: ignore[misc]

    def __del__(self) -> None:
        """Close the file; leaving that to the connection gives a ResourceWarning."""
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._owner == os.getpid():
                connection.close()
            else:
                _orphans.append(connection)

    def _connected(self) -> sqlite3.Connection:
        """Return the connection of this process."""
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        self.close()
        connection = sqlite3.connect(
            self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._owner = connection, os.getpid()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            if not self._is_ours(connection):
                connection.executescript(f"BEGIN IMMEDIATE; {_SQLITE_SCHEMA} COMMIT;")
            _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA mmap_size = 4294967296")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise MetadataError(
                f"{str(self.path)!r} is no SQLite database, and no JSON index either ({error}); it was left as"
                f" it is: give the store another db_path"
            ) from error

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the tables are there; a database of something else is refused before it is touched."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application == _APPLICATION_ID:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise MetadataError(
                    f"the index {str(self.path)!r} is of the later format {version}; this version of chunk_memo"
                    f" reads up to {_SCHEMA_VERSION}: install a newer one"
                )
            return True
        if application or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise MetadataError(
                f"{str(self.path)!r} is an SQLite database of something else, and was left as it is; give the"
                f" store a db_path of its own"
            )
        return False

    def _read(self, work: Callable[[_Session], Result]) -> Result:
        with self._lock:
            return work(_SqliteSession(self._connected()))

    def _write(self, work: Callable[[_Session], Result]) -> Result:
        with self._lock:
            connection = self._connected()
            _patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
            try:
                result = work(_SqliteSession(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _new_ids(self, session: _Session, count: int) -> Sequence[int]:
        last = session.rows("SELECT coalesce(max(id), 0) FROM runs", {})[0][0]
        return range(last + 1, last + 1 + count)

    def take_over(self, digest: str, records: Iterable[RunRecord]) -> int:
        """Keep the records of another index, once.

        Parameters
        ----------
        digest : str
            What tells that index, as it is, from others.
        records : iterable of RunRecord
            Its records.

        Returns
        -------
        int
            How many were new: those whose hash, time and path no record has.
        """
        with self._lock:
            connection = self._connected()
            if connection.execute("SELECT 1 FROM imports WHERE digest = ?", [digest]).fetchone():
                return 0
            known = {(record.params_hash, *_name(record)) for record in self.all()}
            new = [record for record in records if (record.params_hash, *_name(record)) not in known]
            self.insert_many(new)
            connection.execute("INSERT OR IGNORE INTO imports VALUES (?)", [digest])
            return len(new)


class _SqliteSession(_Session):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Values) -> Sequence[Sequence[Any]]:
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Values | Sequence[Values]) -> int:
        if isinstance(values, Mapping):
            return self._connection.execute(statement, values).rowcount
        return self._connection.executemany(statement, values).rowcount


def _patiently(work: Callable[[], Result]) -> Result:
    """Try again while others write: of some statements SQLite itself does not wait."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


# --- PostgreSQL ------------------------------------------------------------------------------------------------

_TABLE_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class PostgresIndex(_SqlIndex):
    """Records in a PostgreSQL database, for processes of many machines; ``pip install 'chunk-memo[postgres]'``.

    Parameters
    ----------
    url : str
        Where it is, as SQLAlchemy writes it: ``"postgresql://user@host/database"``.
    table : str, default "chunk_memo_runs"
        Name of its tables: small letters, digits and underscores. Stores with the same name share their records.

    Raises
    ------
    SpecError
        Where the name of the tables or the URL cannot be.
    ImportError
        Where SQLAlchemy or psycopg is not installed.

    Examples
    --------
    ::

        store = Store("./results", index=PostgresIndex("postgresql://me@database.example/runs"))
    """

    def __init__(self, url: str, table: str = "chunk_memo_runs") -> None:
        if not _TABLE_NAME.fullmatch(str(table)):
            raise SpecError(
                f"table must be up to 41 small letters, digits and underscores, no digit first, got {table!r}"
            )
        self._url = str(url)
        self._runs, self._params = table, f"{table}_params"
        self._engine: Any = None
        self._owner = 0
        self._lock = _OwnLock()
        self._write(self._make)

    def __repr__(self) -> str:
        """Return what made it, without the password."""
        return f"PostgresIndex({_parsed(self._url).render_as_string(hide_password=True)!r}, {self._runs!r})"

    def __getstate__(self) -> tuple[str, str]:
        """Return what travels: where it is."""
        return self._url, self._runs

    def __setstate__(self, state: tuple[str, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is not None:
                _dispose(engine, self._owner)

    def _connected(self) -> Any:
        with self._lock:
            if self._engine is None or self._owner != os.getpid():
                if self._engine is not None:
                    _orphans.append(self._engine)
                self._engine = _sqlalchemy().create_engine(_parsed(self._url), pool_pre_ping=True, pool_size=2)
                self._owner = os.getpid()
                weakref.finalize(self, _dispose, self._engine, self._owner)
            return self._engine

    def _make(self, session: _Session) -> None:
        # Two that make a table at once are refused in spite of IF NOT EXISTS, so one waits for the other.
        runs, params = self._runs, self._params
        number = int.from_bytes(hashlib.sha256(runs.encode()).digest()[:8], "big", signed=True)
        session.rows("SELECT pg_advisory_xact_lock(:number)", {"number": number})
        for statement in (
            f"CREATE TABLE IF NOT EXISTS {runs} (id BIGSERIAL PRIMARY KEY, params_hash TEXT NOT NULL,"
            " params TEXT NOT NULL, result_path TEXT NOT NULL, created_at TEXT NOT NULL, metadata TEXT NOT NULL,"
            " size BIGINT, modified BIGINT, digest TEXT)",
            f"CREATE INDEX IF NOT EXISTS {runs}_by_hash ON {runs} (params_hash)",
            f"CREATE TABLE IF NOT EXISTS {params} (run BIGINT NOT NULL, place INTEGER NOT NULL, name TEXT NOT"
            f" NULL,"
            ' number DOUBLE PRECISION, text TEXT COLLATE "C", PRIMARY KEY (run, place))',
            f"CREATE INDEX IF NOT EXISTS {params}_by_number ON {params} (name, number) WHERE number IS NOT NULL",
            f"CREATE INDEX IF NOT EXISTS {params}_by_text ON {params} (name, text) WHERE text IS NOT NULL",
        ):
            session.change(statement, {})

    def _read(self, work: Callable[[_Session], Result]) -> Result:
        return self._write(work)

    def _write(self, work: Callable[[_Session], Result]) -> Result:
        with self._connected().begin() as connection:
            return work(_AlchemySession(connection))

    def _new_ids(self, session: _Session, count: int) -> Sequence[int]:
        rows = session.rows(
            "SELECT nextval(pg_get_serial_sequence(:runs, 'id')) FROM generate_series(1, :count)",
            {"runs": self._runs, "count": count},
        )
        return [row[0] for row in rows]


def _dispose(engine: Any, owner: int) -> None:
    """Close the connections, if they are of this process."""
    if owner == os.getpid():
        engine.dispose()
    else:
        _orphans.append(engine)


class _AlchemySession(_Session):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Values) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = self._connection.execute(_text(statement), values).all()
        return found

    def change(self, statement: str, values: Values | Sequence[Values]) -> int:
        return int(self._connection.execute(_text(statement), values).rowcount)


def _text(statement: str) -> Any:
    return _sqlalchemy().text(statement)


def _parsed(url: str) -> Any:
    sqlalchemy = _sqlalchemy()
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise SpecError("url must be like 'postgresql://user@host/database', got something else") from None
    if parsed.get_backend_name() != "postgresql":
        raise SpecError(
            f"url must begin with 'postgresql://', got {parsed.drivername!r}; for SQLite give the store a db_path"
        )
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _sqlalchemy() -> Any:
    try:
        import psycopg  # noqa: F401
        import sqlalchemy
    except ModuleNotFoundError as error:
        if error.name not in ("psycopg", "sqlalchemy"):
            raise
        raise ImportError(
            f"PostgresIndex needs the package {error.name!r}, which is not installed; run"
            f" `pip install 'chunk-memo[postgres]'`"
        ) from None
    return sqlalchemy
