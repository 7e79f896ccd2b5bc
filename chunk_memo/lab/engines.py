"""How an experiment database is opened: a path means SQLite, a URL whatever SQLAlchemy and its driver reach.

SQLite is opened with a write-ahead log, a busy timeout and foreign keys, and what writes begins with ``BEGIN
IMMEDIATE``: a transaction that reads first and then wants to write is refused at once, whatever the timeout, when
another one has written in between. The pages on how SQLite locks are https://sqlite.org/wal.html and
https://sqlite.org/lang_transaction.html.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable, MetaData

from chunk_memo.errors import RootError, SpecError, StoreError

__all__ = ["DatabaseConfig", "connect", "create_tables", "in_memory", "is_url", "shown", "writing"]

_TABLES_LOCK = 0x63686D6D  # any number; it keeps two processes from creating PostgreSQL's tables at once
_SHARED = {"mode": "memory", "cache": "shared", "uri": "true"}
_WAL_TRIES = 600
_WAL_PAUSE = 0.05

_PROFILES: dict[str, dict[str, Any]] = {
    "balanced": {},
    "performance": {"synchronous": "OFF", "cache_size_mb": 512},
    "safety": {"synchronous": "FULL", "cache_size_mb": 64},
    "memory": {"cache_size_mb": 8},
}


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """How a database is written.

    The first four are for SQLite alone; PostgreSQL has its own configuration.

    Examples
    --------
    >>> DatabaseConfig.of({"db_profile": "safety", "learning_rate": 0.1}).synchronous
    'FULL'
    """

    journal_mode: str = "WAL"
    """SQLite's journal: ``WAL``, ``DELETE``, ``TRUNCATE``, ``PERSIST`` or ``MEMORY``."""
    synchronous: str = "NORMAL"
    """When SQLite syncs: ``OFF``, ``NORMAL``, ``FULL`` or ``EXTRA``. With ``NORMAL`` a power cut may lose the
    last transactions, a killed process none."""
    cache_size_mb: float = 200.0
    """SQLite's page cache for each connection, in MB."""
    busy_timeout: float = 30.0
    """How long to wait for another process that writes, in seconds."""
    buffer_size: int = 1000
    """Rows that wait until they are written together."""
    commit_interval: float = 30.0
    """Seconds after which waiting rows are written with the next one that is logged."""

    def __post_init__(self) -> None:
        self._one_of("journal_mode", "WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY")
        self._one_of("synchronous", "OFF", "NORMAL", "FULL", "EXTRA")
        for name in ("cache_size_mb", "busy_timeout", "buffer_size", "commit_interval"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise SpecError(f'"{name}" expects a number of at least 0, got {value!r}')

    def _one_of(self, name: str, *known: str) -> None:
        value = getattr(self, name)
        if value not in known:
            raise SpecError(f'"{name}" expects one of {", ".join(known)}, got {value!r}')

    @classmethod
    def of(cls, config: Any) -> DatabaseConfig:
        """Return the configuration that an object of the user's gives.

        Parameters
        ----------
        config : None, DatabaseConfig, mapping or object
            A mapping, or an object with attributes, may hold the settings of a whole simulation; those that count
            here are ``db_profile`` (``"balanced"``, ``"performance"``, ``"safety"`` or ``"memory"``) and the
            fields of this class with ``db_`` before them, such as ``db_busy_timeout``.

        Returns
        -------
        DatabaseConfig
            With defaults for what is not given.

        Raises
        ------
        SpecError
            A profile or a value that cannot be, or a key ``db_…`` of a mapping that means nothing.
        """
        if isinstance(config, cls):
            return config
        given = _settings(config)
        profile = given.pop("profile", "balanced")
        if profile not in _PROFILES:
            raise SpecError(f'"db_profile" expects one of {", ".join(_PROFILES)}, got {profile!r}')
        return replace(cls(), **(_PROFILES[profile] | given))


def _settings(config: Any) -> dict[str, Any]:
    known = {"profile", *(field.name for field in fields(DatabaseConfig))}
    if config is None:
        return {}
    if isinstance(config, Mapping):
        found = {str(key)[3:]: value for key, value in config.items() if str(key).startswith("db_")}
        wrong = sorted(set(found) - known - {"path"})
        if wrong:
            names = ", ".join(f"db_{name}" for name in sorted(known))
            raise SpecError(f'"db_{wrong[0]}" is no setting of an experiment database; there are {names}')
        return {name: value for name, value in found.items() if name in known and value is not None}
    values = {name: getattr(config, f"db_{name}", None) for name in known}
    return {name: value for name, value in values.items() if value is not None}


def is_url(place: str | os.PathLike[str]) -> bool:
    """Return whether a place is a database URL, and no path.

    Parameters
    ----------
    place : str or path-like
        Where a database is.

    Returns
    -------
    bool
        False for a path.

    Examples
    --------
    >>> is_url("postgresql+psycopg://localhost/lab"), is_url("experiments/lab.db")
    (True, False)
    """
    return isinstance(place, str) and "://" in place


def in_memory(url: URL) -> bool:
    """Return whether a URL is that of a database of this process alone.

    Parameters
    ----------
    url : sqlalchemy.URL
        The URL.

    Returns
    -------
    bool
        False for files and servers.
    """
    return url.get_backend_name() == "sqlite" and (
        url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"
    )


def shown(engine: Engine) -> str:
    """Return where a database is, without a password.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.

    Returns
    -------
    str
        A path, or a URL.
    """
    if engine.dialect.name == "sqlite":
        return ":memory:" if in_memory(engine.url) else str(engine.url.database)
    return engine.url.render_as_string(hide_password=True)


def connect(place: str | os.PathLike[str], config: DatabaseConfig) -> Engine:
    """Open a database; a SQLite file and its folder are made where there are none.

    Parameters
    ----------
    place : str or path-like
        A path, or a database URL. ``":memory:"`` is a database of this process alone.
    config : DatabaseConfig
        How it is written.

    Returns
    -------
    sqlalchemy.Engine
        It does not survive a fork unharmed; a child gets connections of its own.

    Raises
    ------
    RootError
        A path that is a folder, no database, or cannot be written.
    SpecError
        A URL that SQLAlchemy cannot read.
    ImportError
        Where the URL's driver is not installed.
    """
    url = _url(place)
    if url.get_backend_name() != "sqlite":
        return _server(url)
    if in_memory(url):
        # Connections of one process share it; the first that comes back to the pool keeps it alive.
        engine = create_engine(
            URL.create("sqlite", database=f"file:chunk-memo-{os.urandom(8).hex()}", query=_SHARED),
            poolclass=QueuePool,
            connect_args={"check_same_thread": False},
        )
    else:
        _prepare(Path(str(url.database)))
        # The timeout counts from the first moment, also for the pragmas below.
        engine = create_engine(url, connect_args={"timeout": config.busy_timeout})
    _pragmas(engine, config)
    _own_connections_after_fork(engine)
    _check(engine)
    return engine


def _url(place: str | os.PathLike[str]) -> URL:
    if not is_url(place):
        text = os.fspath(place)
        return URL.create("sqlite", database=text if text == ":memory:" else os.path.abspath(text))
    try:
        url = make_url(str(place))
    except ArgumentError as error:
        raise SpecError(
            "the database URL cannot be read: expected dialect+driver://user:password@host/name, as in"
            " postgresql+psycopg://localhost/lab"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _server(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise SpecError(
            f'experiment databases are kept by SQLite or PostgreSQL, not by "{url.get_backend_name()}": give a'
            " path, or postgresql://host/name"
        )
    try:
        engine = create_engine(url, paramstyle="format", pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'the database URL needs the package "{error.name}", which is not installed; run'
            " `pip install 'chunk-memo[postgres]'`"
        ) from error
    _own_connections_after_fork(engine)
    return engine


def _prepare(path: Path) -> None:
    if path.is_dir():
        raise RootError(f'"{path}" is a folder: expected the path of a database file, as in "{path}/lab.db"')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RootError(
            f'the folder of "{path}" cannot be made ({error}): give a path that can be written'
        ) from error


def _pragmas(engine: Engine, config: DatabaseConfig) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, and by nobody else
        execute = connection.execute
        execute(f"PRAGMA busy_timeout = {int(config.busy_timeout * 1000)}")
        if in_memory(engine.url):
            execute("PRAGMA read_uncommitted = ON")  # a session that reads must not shut out what is logged
        else:
            _set_journal(connection, config.journal_mode)
        execute(f"PRAGMA synchronous = {config.synchronous}")
        execute(f"PRAGMA cache_size = {-int(config.cache_size_mb * 1000)}")
        execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_journal(connection: sqlite3.Connection, mode: str) -> None:
    """Set the journal where it is another; the change wants the file for itself, and does not wait for it."""
    for _ in range(_WAL_TRIES):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0].upper() == mode:
                return
            connection.execute(f"PRAGMA journal_mode = {mode}")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(_WAL_PAUSE)


def _own_connections_after_fork(engine: Engine) -> None:
    held = weakref.ref(engine)

    def renew() -> None:
        engine = held()
        if engine is not None:
            engine.dispose(close=False)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def _check(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    except Exception as error:
        engine.dispose()
        cause = getattr(error, "orig", error)
        raise RootError(
            f'"{shown(engine)}" cannot be opened as a SQLite database ({cause}): give the path of one, or of a'
            " file that is not there yet in a folder that can be written"
        ) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes; it is committed at the end, and rolled back on an error.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        As `connect` returned it.

    Yields
    ------
    sqlalchemy.Connection
        In the transaction.

    Raises
    ------
    StoreError
        The database refused something, or is held by another process for longer than the timeout; nothing of the
        transaction is stored then.
    """
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection
    except DBAPIError as error:
        busy = "locked" in str(error.orig) or "busy" in str(error.orig)
        raise StoreError(
            errno.EAGAIN if busy else errno.EIO,
            f'"{shown(engine)}" could not be written ({str(error.orig).strip()}); nothing of this step is stored,'
            " and it may be repeated",
        ) from error


def create_tables(engine: Engine, metadata: MetaData) -> None:
    """Create the tables that are not there; any number of processes may do so at once.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        As `connect` returned it.
    metadata : sqlalchemy.MetaData
        The tables.

    Raises
    ------
    RootError
        Where the database cannot be written.
    """
    if {table.name for table in metadata.sorted_tables} <= set(inspect(engine).get_table_names()):
        return  # so that a database that may only be read can be
    try:
        with writing(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})")
            for table in metadata.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in sorted(table.indexes, key=lambda index: str(index.name)):
                    connection.execute(CreateIndex(index, if_not_exists=True))
    except StoreError as error:
        raise RootError(
            error.errno, f'"{shown(engine)}" cannot be used: its tables cannot be made; {error}'
        ) from error
