"""The history of runs: a row for whatever became of a chunk, as dicts, DataFrame, Parquet and text."""

from __future__ import annotations

import builtins
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from chunk_memo import ChunkCache, run
from chunk_memo.display.history import RunHistory
from chunk_memo.events import ChunkDone, ChunkFound, ChunkLost, PointFailed, RunFinished, RunStarted

COLUMNS = [
    *("name", "chunk", "outcome", "points", "seconds", "bytes", "worker", "host"),
    *("started_at", "ended_at", "error"),
]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
AT_NOON = int(NOON.timestamp()) * 10**9


def filled() -> RunHistory:
    """Return a history with a row of each outcome."""
    history = RunHistory()
    history(RunStarted("foo", "id", 4, 40, 0))
    history(ChunkDone("a", 10, 2.0, 5000, "node:7", AT_NOON))
    history(ChunkDone("b", 10, 4.0, 5000, "no:de:8", AT_NOON))
    history(ChunkFound("c", 10))
    history(ChunkLost("d", "its worker was killed by SIGKILL", 1, retried=True))
    history(PointFailed("d", {"s": 1}, ValueError("boom\nmore"), 10, 1.0, "node:7", AT_NOON))
    history(RunFinished(10.0, complete=False))
    return history


def test_a_run_fills_a_history(tmp_path: Path) -> None:
    """One row per chunk, of every run that it watches; seconds and bytes add up to what the run reports."""
    history = RunHistory()
    cache = ChunkCache(
        tmp_path, "id", axis_values={"s": list(range(6))}, chunk_spec={"s": 2}, name="foo", verbose=0
    )
    _, first = run(cache.slice(s=[0, 1]), lambda s: s, observers=[history])
    _, second = run(cache, lambda s: s, observers=[history])
    run(cache, lambda s: s, observers=[history])
    rows = history.to_dicts()
    assert 3 == len(rows) == len(history)
    assert COLUMNS == list(rows[0])
    assert {("foo", "done", 2)} == {(row["name"], row["outcome"], row["points"]) for row in rows}
    assert {path.stem for path in tmp_path.rglob("*.h5")} == {row["chunk"] for row in rows}
    assert first.bytes_written + second.bytes_written == sum(row["bytes"] for row in rows)
    assert first.execute_seconds + second.execute_seconds == pytest.approx(sum(row["seconds"] for row in rows))
    assert all(row["started_at"] <= row["ended_at"] for row in rows)
    history.clear()
    assert (0, []) == (len(history), history.to_dicts())


def test_each_outcome_has_a_row() -> None:
    """Done, found, lost and failed, with what is known of each."""
    rows = filled().to_dicts()
    assert [
        ("a", "done", 10, 2.0, 5000, "node:7", "node", ""),
        ("b", "done", 10, 4.0, 5000, "no:de:8", "no:de", ""),
        ("c", "found", 10, 0.0, 0, "", "", ""),
        ("d", "lost", 0, 0.0, 0, "", "", "its worker was killed by SIGKILL"),
        ("d", "failed", 10, 1.0, 0, "node:7", "node", "ValueError: boom"),
    ] == [tuple(row[name] for name in (*COLUMNS[1:8], "error")) for row in rows]
    assert (NOON, 2.0) == (rows[0]["ended_at"], (NOON - rows[0]["started_at"]).total_seconds())


def test_it_prints_as_a_short_table() -> None:
    """Totals in a line, then a line per worker, the busiest first."""
    assert [
        "2 chunks done: 20 points in 6 s of compute, 10.0 kB written; 10 points found; 10 points failed;"
        " 1 chunk lost with their workers",
        "worker   chunks  points  seconds  written         rate",
        "no:de:8       1      10      4.0   5.0 kB  2.5 point/s",
        "node:7        1      10      3.0   5.0 kB  3.3 point/s",
    ] == repr(filled()).splitlines()
    assert "0 chunks done: 0 points in 0 s of compute, 0 B written" == repr(RunHistory())


def test_many_workers_are_summed_up() -> None:
    """Twenty are listed, the others counted."""
    history = RunHistory()
    for number in range(30):
        history(ChunkDone("a", 1, 1.0, 1, f"node:{number}", AT_NOON))
    lines = repr(history).splitlines()
    assert (23, "… and 10 more workers") == (len(lines), lines[-1])


@pytest.mark.parametrize("history", [filled(), RunHistory()])
def test_frame_and_parquet_hold_the_rows(history: RunHistory, tmp_path: Path) -> None:
    """Columns have their dtypes even where there are no rows; both tables hold what the dicts hold."""
    frame = history.to_frame()
    assert COLUMNS == list(frame.columns)
    assert ["int64", "float64", "int64"] == [str(frame.dtypes[name]) for name in ("points", "seconds", "bytes")]
    assert {"datetime64[us, UTC]"} == {str(frame.dtypes[name]) for name in ("started_at", "ended_at")}
    rows = history.to_dicts()
    assert rows == [
        {**row, "started_at": row["started_at"].to_pydatetime(), "ended_at": row["ended_at"].to_pydatetime()}
        for row in frame.to_dict("records")
    ]
    history.to_parquet(tmp_path / "history.parquet")
    table = pq.read_table(tmp_path / "history.parquet")
    assert rows == table.to_pylist()
    assert ["int64", "timestamp[us, tz=UTC]"] == [
        str(table.schema.field(name).type) for name in ("points", "ended_at")
    ]
    pd.testing.assert_frame_equal(frame, table.to_pandas(), check_dtype=False)


@pytest.mark.parametrize(
    ("package", "extra", "export"),
    [
        ("pandas", "frames", lambda history, path: history.to_frame()),
        ("pyarrow", "tables", lambda history, path: history.to_parquet(path)),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, extra: str, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    true_import = builtins.__import__

    def without(name: str, *given: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return true_import(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"'{package}'.*pip install 'chunk-memo\[{extra}\]'"):
        export(filled(), tmp_path / "out.parquet")


def test_runs_in_threads_keep_their_names() -> None:
    """Of two runs at once each row has the name of its own."""
    history = RunHistory()
    turns = [threading.Event(), threading.Event()]

    def one(name: str, mine: threading.Event, other: threading.Event) -> None:
        history(RunStarted(name, "id", 1, 1, 0))
        other.set()
        assert mine.wait(60)
        history(ChunkDone(name, 1, 1.0, 1, "node:1", AT_NOON))

    threads = [threading.Thread(target=one, args=(name, *turns[:: 1 - 2 * n])) for n, name in enumerate("ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {("a", "a"), ("b", "b")} == {(row["name"], row["chunk"]) for row in history.to_dicts()}
