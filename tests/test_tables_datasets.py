"""Datasets of rows: whole writes, no row twice, types that survive, schemas that grow, many writers."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from chunk_memo import CollisionError, ColumnTypeError, SpecError, TableError
from chunk_memo.disk import files
from chunk_memo.tables import (
    Dataset,
    create_connection_and_views,
    query_events,
    query_seeds,
    write_event_rows,
    write_seed_rows,
)
from chunk_memo.tables.hive import segment


def rows_of(folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the seeds of a folder."""
    rows: list[dict[str, Any]] = query_seeds(
        create_connection_and_views(folder), returns="arrow", **options
    ).to_pylist()
    return rows


# --- rows --------------------------------------------------------------------------------------------------

ROWS = [{"algo": "a", "seed": seed, "loss": seed / 4, "n": seed, "tags": ["x"] * seed} for seed in (1, 2)]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        iter(ROWS),
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        pa.Table.from_pylist(ROWS),
        pa.RecordBatch.from_pylist(ROWS),
        pa.Table.from_pylist(ROWS).to_reader(),
    ],
    ids=["dicts", "iterator", "pandas", "polars", "table", "batch", "stream"],
)
def test_rows_of_every_kind(rows: Any, tmp_path: Path) -> None:
    """Dictionaries, DataFrames and Arrow tables make the same dataset."""
    write_seed_rows(rows, tmp_path)
    assert sorted(map(str, ROWS)) == sorted(map(str, rows_of(tmp_path)))


VALUES: dict[str, tuple[Any, str]] = {
    "bool": (True, "bool"),
    "int": (3, "int64"),
    "float": (1.0, "double"),
    "tiny": (5e-324, "double"),
    "text": ('it\'s "é" / = % \\ ..', "string"),
    "digits": ("007", "string"),
    "null_name": ("__HIVE_DEFAULT_PARTITION__", "string"),
    "empty": ("", "string"),
    "day": (datetime.date(2024, 2, 29), "date32[day]"),
    "when": (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "timestamp[us]"),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("partitioned", [True, False])
def test_types_survive(name: str, partitioned: bool, tmp_path: Path) -> None:
    """A value comes back with its type, from a file and from the name of a folder."""
    value, kind = VALUES[name]
    rows = [{name: value, "x": 1}, {name: None, "x": 2}]
    write_seed_rows(rows, tmp_path, partition_by=[name] if partitioned else [])
    found = query_seeds(create_connection_and_views(tmp_path), returns="arrow")
    assert kind == str(found.schema.field(name).type)
    assert rows == sorted(found.to_pylist(), key=lambda row: row["x"])
    assert [rows[0]] == rows_of(tmp_path, where={name: value})
    assert [rows[1]] == rows_of(tmp_path, where={name: None})


def test_nan_and_infinity_name_folders(tmp_path: Path) -> None:
    """NaN and infinity are values of partitions, and not null."""
    values = [float("nan"), float("inf"), -0.0]
    write_seed_rows([{"g": value, "x": n} for n, value in enumerate(values)], tmp_path, partition_by=["g"])
    found = sorted(rows_of(tmp_path), key=lambda row: row["x"])
    assert ["nan", "inf", "-0.0"] == [str(row["g"]) for row in found]


def test_the_same_rows_are_not_added_again(tmp_path: Path) -> None:
    """Of a row that comes again as many are added as came more, in any order, beside new ones."""
    event = {"seed": 1, "op": "insert", "x": float("nan")}
    write_event_rows([event, event], tmp_path)
    write_event_rows([event, event], tmp_path)
    write_event_rows([{"op": "new", "seed": 1, "x": 0.5}, event], tmp_path)
    write_event_rows([event, event, event], tmp_path)
    found = query_events(create_connection_and_views(tmp_path))
    assert {"insert": 3, "new": 1} == found["op"].value_counts().to_dict()


def test_rows_that_grow_by_a_column(tmp_path: Path) -> None:
    """Columns are united; an old row is null in a new column, and equal to one that says so."""
    write_seed_rows([{"seed": 1, "a": 1}], tmp_path)
    write_seed_rows([{"seed": 1, "b": [0.5]}], tmp_path)
    write_seed_rows([{"seed": 1, "a": 1, "b": None}, {"seed": 2, "c": None}], tmp_path)
    expected = [
        {"seed": 1, "a": 1, "b": None, "c": None},
        {"seed": 1, "a": None, "b": [0.5], "c": None},
        {"seed": 2, "a": None, "b": None, "c": None},
    ]
    assert expected == sorted(rows_of(tmp_path), key=lambda row: (row["seed"], row["a"] is None))
    write_seed_rows([{"seed": 3, "c": "text"}], tmp_path)
    assert ["text"] == [row["c"] for row in rows_of(tmp_path, where={"seed": 3})]


@pytest.mark.parametrize("value", ["x", 1, True, [1.0], {"a": 1}])
def test_a_changed_type_is_an_error(value: Any, tmp_path: Path) -> None:
    """Another type than a column has is an error that names both, and nothing is written."""
    write_seed_rows([{"seed": 1, "loss": 0.5}], tmp_path)
    with pytest.raises(ColumnTypeError, match="column 'loss' is of type double in this dataset, and came as"):
        write_seed_rows([{"seed": 1, "loss": value}], tmp_path)
    assert [{"seed": 1, "loss": 0.5}] == rows_of(tmp_path)


def test_narrower_numbers_fit(tmp_path: Path) -> None:
    """A float32 of a DataFrame goes into a column of doubles; categories are texts."""
    write_seed_rows([{"seed": 1, "loss": 0.5, "kind": "a"}], tmp_path)
    frame = pd.DataFrame({"seed": [2], "loss": np.array([0.25], "float32"), "kind": pd.Categorical(["b"])})
    write_seed_rows(frame, tmp_path)
    assert [{"seed": 2, "loss": 0.25, "kind": "b"}] == rows_of(tmp_path, where={"seed": 2})


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ("text", {}, "rows must be dictionaries, a DataFrame or an Arrow table, got 'text'"),
        ([1], {}, "got among them 1"),
        ([{1: 2}], {}, "a row has the key 1; names of columns must be texts: use '1'"),
        ([{}], {}, "rows are empty dictionaries"),
        ([{"a": 1}, {"a": "x"}], {}, r"column 'a' holds values of the types \['int', 'str'\]"),
        ([{"a": 1, "A": 2}], {}, "the columns 'a' and 'A' differ in case only"),
        ([{"a": 1}], {"partition_by": ["b"]}, r"partition column 'b' is not among the columns \['a'\]"),
        ([{"a": [1]}], {"partition_by": ["a"]}, "partition column 'a' is of type list<item: int64>"),
        ([{"a": "x" * 300}], {"partition_by": ["a"]}, "too long for a folder's name"),
        ([{"a/b": 1}], {"partition_by": ["a/b"]}, "column 'a/b' cannot name a folder"),
        ([{"grid_id": 3}], {}, "grid_id must be a text, got 3"),
        ([{"a": 1}], {"params": {"grid_id": 3}}, "params carry the grid_id 3"),
        (pd.DataFrame({0: [1]}), {}, "the DataFrame has the column 0"),
    ],
)
def test_bad_rows_are_named(rows: Any, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Rows that cannot be written are an error that says why, and nothing is left behind."""
    with pytest.raises(TableError, match=said):
        write_seed_rows(rows, tmp_path, **options)
    assert [] == [path for path in tmp_path.rglob("*") if path.suffix in (".parquet", ".json")]


def test_other_partitions_are_refused(tmp_path: Path) -> None:
    """A dataset keeps its partition columns; rows that lack one have none of its values."""
    write_seed_rows([{"algo": "x", "seed": 1, "v": 1}], tmp_path)
    with pytest.raises(TableError, match=r"is partitioned by \['algo', 'seed'\], not by \['seed'\]"):
        write_seed_rows([{"seed": 1}], tmp_path, partition_by=["seed"])
    write_seed_rows([{"seed": 1, "target_PT": 0.5, "v": 2}], tmp_path)
    assert [{"algo": None, "seed": 1, "v": 2, "target_PT": 0.5}] == rows_of(tmp_path, where={"algo": None})


def test_params_replace_what_was_derived(tmp_path: Path) -> None:
    """``params.json`` made of partition columns yields to given params; given ones are held against it."""
    write_seed_rows([{"grid_id": "abc", "algo": "x", "seed": 1}], tmp_path)
    write_seed_rows([{"seed": 2}], tmp_path, {"grid_id": "abc", "algo": "x", "depth": 3})
    path = tmp_path / "grids" / "grid_id=abc" / "params.json"
    assert 3 == json.loads(path.read_text())["depth"]
    with pytest.raises(CollisionError, match="grid_id 'abc' stands for"):
        write_seed_rows([{"seed": 3}], tmp_path, {"grid_id": "abc", "algo": "x", "depth": 4})
    path.write_text("{")
    with pytest.raises(TableError, match="is no JSON"):
        write_seed_rows([{"seed": 3}], tmp_path, {"grid_id": "abc", "algo": "x", "depth": 3})


def test_many_partitions(tmp_path: Path) -> None:
    """1,500 partitions in one write are more than pyarrow takes by itself; an aggregate over them is right."""
    n = 4500
    table = pa.table(
        {"grid_id": [f"g{i % 500}" for i in range(n)], "seed": np.arange(n) // 500 % 3, "v": np.arange(n)}
    )
    write_event_rows(table, tmp_path)
    write_event_rows(table, tmp_path)
    connection = create_connection_and_views(tmp_path)
    assert (n, n * (n - 1) // 2) == connection.execute("SELECT count(*), sum(v) FROM events").fetchone()
    assert 1500 == len(Dataset(tmp_path / "events").contents().folders())
    expected = [i for i in range(n) if i % 500 == 7 and i // 500 % 3 == 2]
    assert expected == query_events(connection, {"grid_id": "g7", "seed": 2})["v"].to_list()


def test_segments_are_safe() -> None:
    """A value cannot leave its folder, nor hide it."""
    for value in ("..", "../x", "/etc", ".", "a\0b", "x ", "x.", "C:\\x", "\u202e"):
        name = segment("c", value)
        assert "/" not in name
        assert "\0" not in name
        assert not name.endswith((" ", "."))


# --- the log -----------------------------------------------------------------------------------------------


def test_a_moved_dataset_and_a_damaged_log(tmp_path: Path) -> None:
    """A moved folder works; a damaged or missing entry of the log is an error that names it."""
    for seed in range(3):
        write_seed_rows([{"seed": seed, "v": seed}], tmp_path / "a")
    moved = (tmp_path / "a").rename(tmp_path / "it's")
    assert [0, 1, 2] == sorted(row["v"] for row in rows_of(moved))
    entry = moved / "seeds" / "_log" / "000000000001.json"
    whole = entry.read_bytes()
    os.chmod(entry, 0o600)
    entry.write_bytes(whole.replace(b'"seed"', b'"sead"', 1))
    with pytest.raises(TableError, match="is damaged"):
        rows_of(moved)
    entry.unlink()
    with pytest.raises(TableError, match="lacks entry 1"):
        rows_of(moved)


def test_checkpoints_say_the_same(tmp_path: Path) -> None:
    """Past 32 commits a checkpoint sums the log up; what it says is what all entries say."""
    dataset = Dataset(tmp_path)
    for number in range(70):
        dataset.append(pa.table({"n": [number]}))
    names = sorted(path.name for path in dataset.log.glob("*.checkpoint.json"))
    assert ["000000000031.checkpoint.json", "000000000063.checkpoint.json"] == names
    before = dataset.contents()
    for name in names:
        (dataset.log / name).unlink()
    after = dataset.contents()
    assert (before.files, before.schema, before.number) == (after.files, after.schema, after.number)
    assert 70 == after.rows


def test_files_of_others_are_views_too(tmp_path: Path) -> None:
    """A folder of Parquet files without a log is shown as it is."""
    import pyarrow.parquet as pq

    (tmp_path / "seeds" / "seed=3").mkdir(parents=True)
    pq.write_table(pa.table({"v": [1]}), tmp_path / "seeds" / "seed=3" / "x.parquet")
    connection = create_connection_and_views(tmp_path)
    assert (1, 3) == connection.execute("SELECT v, seed FROM seeds").fetchone()
    assert [1] == query_seeds(connection, {"seed": 3})["v"].to_list()


# --- kills and crowds --------------------------------------------------------------------------------------

_WRITER = """
import sys, pyarrow as pa
from chunk_memo.tables import write_event_rows
print("ready", flush=True)
for batch in range(1000):
    write_event_rows(pa.table({"seed": [i % 20 for i in range(100)], "batch": [batch] * 100}), sys.argv[1])
"""


def test_a_killed_writer_leaves_whole_writes(tmp_path: Path) -> None:
    """Whenever a writer is killed, and while it writes, a reader sees whole batches."""
    seen = []
    for turn in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            counts = _batches(tmp_path)
            assert set(counts.values()) <= {100}
            if len(counts) > 2 * turn + 1:
                break
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        counts = _batches(tmp_path)
        assert set(counts.values()) == {100}
        seen.append(len(counts))
    assert seen[-1] > 4


def _batches(folder: Path) -> dict[int, int]:
    if not Dataset(folder / "events").exists():
        return {}
    connection = create_connection_and_views(folder)
    return dict(connection.execute("SELECT batch, count(*) FROM events GROUP BY 1").fetchall())


def _write(folder: str, start: int) -> None:
    for number in range(start, start + 6):
        rows = [{"seed": seed, "v": number} for seed in range(5)]
        write_seed_rows(rows, folder)


def test_many_writers_add_each_row_once(tmp_path: Path) -> None:
    """Four processes that write overlapping rows at the same time leave each row once."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(str(tmp_path), 2 * n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert 0 == worker.exitcode
    found = sorted((row["v"], row["seed"]) for row in rows_of(tmp_path))
    assert [(v, seed) for v in range(12) for seed in range(5)] == found


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while files are written is an error, and readers see what was there before."""
    write_seed_rows([{"seed": 0, "v": 0}], tmp_path)
    whole, calls = files.commit, []

    def full(target: Any, buffers: Any, syncer: Any) -> bool:
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return whole(target, buffers, syncer)

    monkeypatch.setattr(files, "commit", full)
    with pytest.raises(OSError, match="No space left"):
        write_seed_rows([{"seed": seed, "v": seed} for seed in range(1, 6)], tmp_path)
    assert 3 == len(calls)
    monkeypatch.undo()
    assert [{"seed": 0, "v": 0}] == rows_of(tmp_path)
    write_seed_rows([{"seed": seed, "v": seed} for seed in range(1, 6)], tmp_path)
    assert 6 == len(rows_of(tmp_path))


def test_bad_limits_and_views(tmp_path: Path) -> None:
    """What is asked for wrongly is named."""
    connection = create_connection_and_views(tmp_path)
    with pytest.raises(
        TableError, match="there is no view 'seeds' on this connection; write rows with write_seed_rows"
    ):
        query_seeds(connection)
    write_seed_rows([{"seed": 1}], tmp_path)
    connection = create_connection_and_views(tmp_path)
    with pytest.raises(SpecError, match="returns must be 'pandas', 'polars' or 'arrow', got 'xml'"):
        query_seeds(connection, returns="xml")
    with pytest.raises(SpecError, match=r"there is no column 'loss'; the columns are \['seed'\]"):
        query_seeds(connection, {"loss": 1})
