"""Caches as Parquet datasets, exported by what is new, and as tables of DuckDB without an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

from chunk_memo import CacheNotFoundError, ChunkCache, ChunkMemo, TableError, run
from chunk_memo.cli import main
from chunk_memo.tables import Dataset, tidy_table
from chunk_memo.tables.duckdb import connect, dataset_of

S, T = [1, 2, 3, 4, 5, 6], ["a", "b", "c"]


def cache_in(folder: Path, **options: Any) -> ChunkCache:
    """Return a cache over s and t."""
    settings: dict[str, Any] = {"chunk_spec": {"s": 2, "t": 3}, "axis_values": {"s": S, "t": T}, "verbose": 0}
    return ChunkCache(folder, "demo", {"params": {"alpha": 0.5}}, **{**settings, **options})


def loss(s: list[int], t: list[str]) -> Any:
    """Return a number and a list for each point."""
    return [{"loss": a * 10.0 + ord(b), "path": list(range(a))} for a in s for b in t]


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """Return the rows of a dataset, sorted by text."""
    return sorted(duckdb.execute(Dataset(folder).sql()).fetchall(), key=str)


def expected_rows(cache: ChunkCache) -> list[tuple[Any, ...]]:
    """Return the rows that a cache's table has, sorted by text."""
    return sorted((tuple(row.values()) for row in tidy_table(cache).to_pylist()), key=str)


def test_only_new_chunks_are_written(tmp_path: Path) -> None:
    """The first export writes all, the second nothing, the next what is new; files stay as they are."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache.slice(s=[1, 2]), loss)
    assert (1, 0, 6, 1) == _numbers(cache.to_parquet(out))
    [first] = out.glob("*.parquet")
    stamp = first.stat().st_mtime_ns
    assert (0, 1, 0, 0) == _numbers(cache.to_parquet(out))
    run(cache, loss)
    assert (2, 1, 12, 1) == _numbers(cache.to_parquet(out))
    assert stamp == first.stat().st_mtime_ns
    assert expected_rows(cache) == rows(out)
    wider = cache_in(tmp_path / "c", axis_values={"s": [0, *S], "t": T})
    run(wider, loss)
    assert (1, 3, 3, 1) == _numbers(wider.to_parquet(out))
    assert (0, 4, 0, 0) == _numbers(cache.to_parquet(out))  # values that it does not declare stay
    assert expected_rows(wider) == rows(out)


def _numbers(done: Any) -> tuple[int, int, int, int]:
    return done.chunks, done.chunks_known, done.rows, done.files


def test_a_chunk_that_was_stored_in_part(tmp_path: Path) -> None:
    """Its points are exported once: when it is complete, its file is replaced."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache.slice(s=[1, 3, 4]), loss)
    cache.to_parquet(out)
    run(cache, loss)
    done = cache.to_parquet(out)
    assert (2, 1, 1) == (done.chunks, done.chunks_known, done.files_removed)
    assert expected_rows(cache) == rows(out)
    assert 3 == len(list(out.glob("*.parquet")))  # for other programs, too, no point is there twice


def test_superseded_results_are_replaced(tmp_path: Path) -> None:
    """After ``invalidate`` the rows go, and after a new run the new ones come."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache, loss)
    cache.to_parquet(out)
    cache.invalidate(s=[1, 2])
    cache.to_parquet(out)
    assert expected_rows(cache.slice(s=[3, 4, 5, 6])) == rows(out)
    run(cache, lambda s, t: [{"loss": -1.0, "path": []} for _ in s for _ in t])
    cache.to_parquet(out)
    assert {-1.0} == {row[3] for row in rows(out) if row[1] in (1, 2)}
    assert 18 == len(rows(out))


def test_partitions_of_an_export(tmp_path: Path) -> None:
    """Columns name folders, and come back with their types; an unknown one is an error."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache, loss)
    cache.to_parquet(out, partition_by=["t", "alpha"])
    assert ["t=a", "t=b", "t=c"] == sorted(path.name for path in out.iterdir() if path.name != "_log")
    assert expected_rows(cache) == rows(out)
    with pytest.raises(TableError, match=r"is partitioned by \['t', 'alpha'\], not by \['s'\]"):
        cache.to_parquet(out, partition_by="s")
    with pytest.raises(TableError, match="no column 'q' to partition by"):
        cache.to_parquet(tmp_path / "other", partition_by="q")
    with pytest.raises(TableError, match="partition column 'path' is of type list<item: int64>"):
        cache.to_parquet(tmp_path / "other", partition_by="path")


def test_a_folder_holds_one_export(tmp_path: Path) -> None:
    """A slice, another cache, or rows that were written are refused where another export lies."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache, loss)
    cache.to_parquet(out)
    with pytest.raises(
        TableError, match="holds an export of the cache demo v1, and this is the cache demo v1 slice"
    ):
        cache.slice(s=[1]).to_parquet(out)
    assert 3 == cache.slice(s=[1]).to_parquet(tmp_path / "slice").rows


def test_a_type_that_changes_writes_all_anew(tmp_path: Path) -> None:
    """Where whole numbers were, and floats come, the export is made anew with one type."""
    cache, out = cache_in(tmp_path / "c"), tmp_path / "out"
    run(cache.slice(s=[1, 2]), lambda s, t: [a for a in s for _ in t])
    cache.to_parquet(out)
    run(cache, lambda s, t: [a / 2 for a in s for _ in t])
    cache.to_parquet(out)
    assert "double" == str(Dataset(out).contents().schema.field("value").type)
    assert sorted([1.0, 2.0, 1.5, 2.0, 2.5, 3.0] * 3) == sorted(row[3] for row in rows(out))


def memo_in(folder: Path) -> tuple[ChunkMemo, Callable[..., Any], Callable[..., Any]]:
    """Return a memo with two functions of different params and outputs."""
    memo = ChunkMemo(folder, {"s": 2, "t": 2}, {"s": S, "t": T}, verbose=0)

    @memo.cache()
    def scaled(alpha: float, s: list[int], t: list[str]) -> Any:
        return [{"loss": alpha * a, "label": b} for a in s for b in t]

    @memo.cache()
    def ones(kind: str, s: list[int], t: list[str]) -> Any:
        return np.ones((len(s), len(t)))

    scaled(alpha=0.5, s=[1, 2, 3])
    scaled(alpha=2.0)
    ones(kind="x", s=[1])
    return memo, scaled, ones


def test_a_memo_is_one_dataset(tmp_path: Path) -> None:
    """All functions and params are rows of one table; what one lacks is null there."""
    memo, scaled, _ = memo_in(tmp_path / "c")
    memo.to_parquet(tmp_path / "out", partition_by=["function"])
    query = "SELECT function, alpha, kind, count(*), sum(loss), sum(value) FROM ({}) GROUP BY ALL ORDER BY 1, 2"
    found = duckdb.execute(query.format(Dataset(tmp_path / "out").sql())).fetchall()
    expected = [
        ("ones", None, "x", 3, None, 3.0),
        ("scaled", 0.5, None, 9, 9.0, None),
        ("scaled", 2.0, None, 18, 126.0, None),
    ]
    assert expected == found
    scaled(alpha=0.5)
    done = memo.to_parquet(tmp_path / "out")
    assert 9 <= done.rows < 30
    assert 3 + 18 + 18 == len(rows(tmp_path / "out"))


def test_export_by_command(tmp_path: Path) -> None:
    """``chunk-memo export`` takes a cache or a folder of caches."""
    memo_in(tmp_path / "c")
    done = CliRunner().invoke(
        main, ["export", f"{tmp_path}/c/", f"{tmp_path}/out/", "--partition-by", "function"]
    )
    assert (0, True) == (done.exit_code, "(30 rows in " in done.output)
    cache_id = next(path.name for path in (tmp_path / "c").iterdir() if (path / "metadata.json").exists())
    assert 0 == CliRunner().invoke(main, ["export", f"{tmp_path}/c/{cache_id}", f"{tmp_path}/one"]).exit_code
    info = CliRunner().invoke(main, ["info", f"{tmp_path}/out"])
    assert "rows: 30 in " in info.output
    (tmp_path / "none").mkdir()
    missing = CliRunner().invoke(main, ["export", f"{tmp_path}/none", f"{tmp_path}/x"])
    assert (1, True) == (missing.exit_code, "there is no cache in" in missing.stderr)


# --- without an export -------------------------------------------------------------------------------------


def test_select_over_caches(tmp_path: Path) -> None:
    """A function's caches are a table of its name; what is computed later is seen; ``caches`` lists them."""
    _, scaled, _ = memo_in(tmp_path)
    connection = connect(tmp_path)
    query = "SELECT alpha, count(*), sum(loss) FROM scaled GROUP BY alpha ORDER BY alpha"
    assert [(0.5, 9, 9.0), (2.0, 18, 126.0)] == connection.execute(query).fetchall()
    scaled(alpha=0.5)
    assert [(0.5, 18, 31.5), (2.0, 18, 126.0)] == connection.execute(query).fetchall()
    joined = "SELECT count(*) FROM scaled JOIN ones USING (s, t) WHERE alpha = 2.0"
    assert [(3,)] == connection.execute(joined).fetchall()
    listed = connection.execute("SELECT table_name, params FROM caches ORDER BY ALL").fetchall()
    assert [("ones", '{"kind": "x"}'), ("scaled", '{"alpha": 0.5}'), ("scaled", '{"alpha": 2.0}')] == listed


def test_only_chunks_that_may_matter_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition on params and axes is asked before chunks are opened."""
    cache = cache_in(tmp_path, axis_values={"s": list(range(400)), "t": T}, chunk_spec={"s": 2, "t": 3})
    run(cache, loss)
    monkeypatch.setattr("chunk_memo.tables.tidy.Tidy.boxes", _small(_boxes()))
    read, whole = [], ChunkCache.read

    def counted(self: ChunkCache, selection: Any, *rest: Any, **more: Any) -> Any:
        read.append(selection.points)
        return whole(self, selection, *rest, **more)

    monkeypatch.setattr(ChunkCache, "read", counted)
    connection = duckdb.connect()
    connection.register("points", dataset_of(cache))
    found = connection.execute("SELECT loss FROM points WHERE s = 77 AND t = 'b'").fetchall()
    assert [(770.0 + ord("b"),)] == found
    assert [6] == read
    assert [] == connection.execute("SELECT * FROM points WHERE s > 1000").fetchall()
    assert [6] == read


def _boxes() -> Callable[..., Any]:
    from chunk_memo.tables.tidy import Tidy

    return Tidy.boxes


def _small(boxes: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: boxes(self, 6)


def test_a_cache_by_its_folder_and_none(tmp_path: Path) -> None:
    """One cache's folder is one table; a folder without caches is an error; no file can be opened."""
    cache = cache_in(tmp_path)
    run(cache, loss)
    connection = connect(tmp_path / "demo")
    assert [(18,)] == connection.execute("SELECT count(*) FROM cache_demo").fetchall()
    with pytest.raises(duckdb.PermissionException):
        connection.execute(f"SELECT * FROM read_text('{tmp_path}/demo/metadata.json')")
    own = connect(tmp_path, duckdb.connect())
    assert [(18,)] == own.execute("SELECT count(*) FROM cache_demo").fetchall()
    with pytest.raises(CacheNotFoundError, match="there is no cache in"):
        connect(tmp_path / "nowhere")


def test_aggregates_are_numpys(tmp_path: Path) -> None:
    """DuckDB's sums over an export, and over the cache in place, are NumPy's."""
    values = np.random.default_rng(0).integers(-1000, 1000, (100, 100))
    axes = {"x": list(range(100)), "y": list(range(100))}
    cache = ChunkCache(tmp_path / "c", "big", chunk_spec={"x": 10, "y": 10}, axis_values=axes, verbose=0)
    run(cache, lambda x, y: values[np.ix_(x, y)])
    cache.to_parquet(tmp_path / "out")
    query = "SELECT y, sum(value)::BIGINT FROM ({}) GROUP BY y ORDER BY y"
    expected = list(enumerate(values.sum(axis=0).tolist()))
    assert expected == duckdb.execute(query.format(Dataset(tmp_path / "out").sql())).fetchall()
    assert expected == connect(tmp_path / "c").execute(query.format("FROM cache_big")).fetchall()
