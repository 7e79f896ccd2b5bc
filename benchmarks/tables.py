"""Datasets of rows against pyarrow and DuckDB alone, and the export of a cache against one written table."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case
from chunk_memo import ChunkCache
from chunk_memo import run as run_cache
from chunk_memo.tables import Dataset, create_connection_and_views, query_events, tidy_table, write_event_rows

__all__ = ["exporting", "pruning", "run", "writing"]

TITLE = "Tables"


def events(rows: int, partitions: int) -> Any:
    """Return a table of events in no order, spread over partitions of grid_id and seed."""
    random = np.random.default_rng(0)
    grids = max(1, partitions // 10)
    names = np.array([f"{grid:016x}" for grid in range(grids)])
    return pa.table(
        {
            "grid_id": names[random.integers(0, grids, rows)],
            "seed": random.integers(0, 10, rows),
            "op": np.array(["insert", "delete"])[random.integers(0, 2, rows)],
            "regret": random.random(rows),
            "acc": random.random(rows),
            "event": np.arange(rows),
        }
    )


def writing(folder: Path, rows: int, partitions: int) -> Case:
    """Write events into partitions; twice, the count is the same.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    rows, partitions : int
        How many there are.

    Returns
    -------
    Case
        The time against ``pyarrow.dataset.write_dataset``, which syncs nothing.
    """
    table = events(rows, partitions)
    keys = pa.schema([("grid_id", pa.string()), ("seed", pa.int64())])

    def clear() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def ours() -> None:
        write_event_rows(table, folder / "ours")

    def other() -> None:
        hive = ds.partitioning(keys, flavor="hive")
        ds.write_dataset(
            table, folder / "other", format="parquet", partitioning=hive, max_partitions=9999, max_open_files=9999
        )

    ours()
    ours()
    counted = create_connection_and_views(folder / "ours").execute("SELECT count(*) FROM events").fetchone()
    assert (rows,) == counted
    against = Against("write_dataset", other, bound=1.5)
    return Case(f"write {rows:,} events in {partitions:,} partitions", ours, (against,), clear, practice=False)


def pruning(folder: Path, rows: int, partitions: int) -> Case:
    """Ask for the events of one partition.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    rows, partitions : int
        How many there are.

    Returns
    -------
    Case
        The time by SQL on the view, and by a filter, against DuckDB over the same files.
    """
    table = events(rows, partitions)
    write_event_rows(table, folder)
    grid, seed = table["grid_id"][0].as_py(), table["seed"][0].as_py()
    connection, raw = create_connection_and_views(folder), duckdb.connect()
    where = f"WHERE grid_id = '{grid}' AND seed = {seed}"
    hive = f"read_parquet('{folder}/events/**/*.parquet', hive_partitioning=true)"

    def ours() -> Any:
        return connection.execute(f"SELECT count(*), sum(event) FROM events {where}").fetchall()

    def other() -> Any:
        return raw.execute(f"SELECT count(*), sum(event) FROM {hive} {where}").fetchall()

    assert ours() == other()
    assert ours()[0][0] == len(query_events(connection, {"grid_id": grid, "seed": seed}))
    return Case(f"a query of one of {partitions:,} partitions", ours, (Against("DuckDB, raw", other, bound=1.5),))


def exporting(folder: Path, side: int, chunk: int) -> Case:
    """Export a cache of a square grid to Parquet.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    side, chunk : int
        Values along each axis of the grid, and of a chunk.

    Returns
    -------
    Case
        The time against ``pyarrow.parquet.write_table`` of the same table, held in memory.
    """
    axes = {"x": list(range(side)), "y": list(range(side))}
    cache = ChunkCache(folder / "c", "big", chunk_spec={"x": chunk, "y": chunk}, axis_values=axes, verbose=0)
    run_cache(cache, lambda x, y: np.add.outer(np.asarray(x, float), np.sin(y)))
    table = tidy_table(cache).combine_chunks()

    def clear() -> None:
        shutil.rmtree(folder / "ours", ignore_errors=True)

    def ours() -> None:
        cache.to_parquet(folder / "ours")

    def other() -> None:
        pq.write_table(table, folder / "other.parquet")

    ours()
    [(mean,)] = duckdb.execute(f"SELECT avg(value) FROM ({Dataset(folder / 'ours').sql()})").fetchall()
    assert np.isclose(mean, np.mean(table["value"].to_numpy()))
    against = Against("write_table, in memory", other, bound=3.0)
    return Case(f"export a cache of {side * side:,} points", ours, (against,), clear)


def run(folder: Path, quick: bool) -> Section:
    """Measure writing, pruned queries and exports.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    quick : bool
        Whether to take small sizes.

    Returns
    -------
    Section
        The figures.
    """
    rows, partitions, side = (20_000, 100, 200) if quick else (1_000_000, 2_000, 1_000)
    jobs = [
        Job(partial(writing, rows=rows, partitions=partitions), 2),
        Job(partial(pruning, rows=rows, partitions=partitions), 5),
        Job(partial(exporting, side=side, chunk=side // 10), 9),
    ]
    return measured(TITLE, jobs, folder)
