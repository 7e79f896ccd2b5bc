"""Lookups in a store of a thousand and of a million records."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case
from chunk_memo import RunRecord, SQLiteIndex, Store
from chunk_memo.disk.results import mark_of
from chunk_memo.runparams import params_hash

__all__ = ["few_of_many", "lookup", "run"]

TITLE = "Store"
_CALLS = 100
_BATCH = 20_000
_HITS = 10
_MOMENT = "2026-01-01T00:00:00+00:00"


def _params(n: int) -> dict[str, Any]:
    return {"n": n, "dt": 1e-3 * n, "method": "rk4", "group": n // _HITS}


def filled(folder: Path, count: int) -> Store:
    """Return a store of so many runs, all of which name one file.

    Parameters
    ----------
    folder : Path
        An empty folder.
    count : int
        Number of records.

    Returns
    -------
    Store
        Over SQLite.
    """
    store = Store(folder / "results", folder / "runs.db")
    path = store.results_dir / "result.dat"
    path.write_bytes(b"result")
    mark, metadata = mark_of(path), {"elapsed_seconds": 1.5, "host": "node-17", "python": "3.11.7"}

    def record(n: int) -> RunRecord:
        params = _params(n)
        return RunRecord(params, Path(path.name), params_hash(params), _MOMENT, metadata, mark)

    assert isinstance(store.index, SQLiteIndex)
    for first in range(0, count, _BATCH):
        store.index.insert_many(map(record, range(first, min(first + _BATCH, count))))
    return store


def _cycled(things: list[Any], function: Callable[[Any], Any]) -> Callable[[], None]:
    turns = itertools.cycle(things)

    def call() -> None:
        for thing in itertools.islice(turns, _CALLS):
            function(thing)

    return call


def lookup(folder: Path, few: int, many: int) -> Case:
    """Retrieve random runs of a large store, and of a small one.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    few, many : int
        How many records the stores hold.

    Returns
    -------
    Case
        Both ways.
    """
    dice = Random(0)

    def of(count: int) -> Callable[[], None]:
        store = filled(folder / str(count), count)
        wanted = [_params(dice.randrange(count)) for _ in range(20 * _CALLS)]
        assert all(store.retrieve(params) is not None for params in wanted)
        return _cycled(wanted, store.retrieve)

    return Case(
        f"retrieve one of {many:,} runs",
        of(many),
        (Against(f"one of {few:,}", of(few), bound=1.5),),
        per=_CALLS,
    )


def few_of_many(folder: Path, count: int) -> Case:
    """List the ten runs that have a value, and select the same rows with ``sqlite3`` alone.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    count : int
        How many records there are.

    Returns
    -------
    Case
        Both ways.
    """
    store = filled(folder / "ours", count)
    bare = _bare(folder / "bare.db", store)
    groups = [Random(0).randrange(count // _HITS) for _ in range(20 * _CALLS)]

    def select(group: int) -> list[Any]:
        return bare.execute("SELECT * FROM runs WHERE grp = ?", (group,)).fetchall()

    for group in groups[:3]:
        ours = [run.params for run in store.list({"group": group})]
        assert ours == [json.loads(row[1]) for row in select(group)]
    return Case(
        f"list(where=…): {_HITS} hits of {count:,} runs",
        _cycled(groups, lambda group: store.list({"group": group})),
        (Against("sqlite3, the same rows by an indexed column", _cycled(groups, select), bound=5.0),),
        per=_CALLS,
    )


def _bare(path: Path, store: Store) -> sqlite3.Connection:
    """Return the same rows in a table of their own, with an index on the column that is asked for."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE runs (grp INTEGER, params TEXT, path TEXT, hash TEXT, at TEXT, more TEXT)")

    def rows() -> Iterator[tuple[Any, ...]]:
        assert isinstance(store.index, SQLiteIndex)
        with contextlib.closing(sqlite3.connect(store.index.path)) as other:
            for params, *rest in other.execute(
                "SELECT params, result_path, params_hash, created_at, metadata FROM runs"
            ):
                yield (json.loads(params)["group"], params, *rest)

    connection.execute("BEGIN")
    connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", rows())
    connection.execute("CREATE INDEX by_group ON runs (grp)")
    connection.execute("COMMIT")
    return connection


def run(folder: Path, quick: bool) -> Section:
    """Measure stores of 1,000 and 1,000,000 records; quick: of 100 and 10,000."""
    few, many, turns = (100, 10_000, 5) if quick else (1_000, 1_000_000, 31)
    jobs = [Job(partial(lookup, few=few, many=many), turns), Job(partial(few_of_many, count=many), turns)]
    return measured(TITLE, jobs, folder)
