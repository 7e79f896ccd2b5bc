"""The document of the experiment engine (checklist 1 to 32), line by line, and its examples as pasted."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from chunk_memo.cli import main
from chunk_memo.tables import (
    PARTITION_COLUMNS,
    attach_grid_id,
    canonicalize_params,
    convert_csv_to_parquet,
    create_connection_and_views,
    grid_hash,
    query_events,
    query_seeds,
    rollup,
    write_event_rows,
    write_seed_rows,
)

PARAMS = {"algo": "memorypair", "accountant": "zcdp", "gamma_bar": 1.0, "gamma_split": 0.5, "rho_total": 1.0}

QUICK_START = """
from chunk_memo.tables import write_seed_rows, write_event_rows, attach_grid_id

# 1. Define experiment parameters
params = {
    "algo": "memorypair",
    "accountant": "zcdp",
    "gamma_bar": 1.0,
    "gamma_split": 0.5,
    "rho_total": 1.0
}

# 2. Generate content-addressed grid_id
params_with_grid = attach_grid_id(params)
print(f"Grid ID: {params_with_grid['grid_id']}")

# 3. Write seed-level results
seed_data = [{
    **params_with_grid,
    "seed": 1,
    "avg_regret_empirical": 0.15,
    "N_star_emp": 100,
    "m_emp": 10
}]
write_seed_rows(seed_data, "results")

# 4. Write event-level results
event_data = [{
    **params_with_grid,
    "seed": 1,
    "op": "insert",
    "regret": 0.05,
    "acc": 0.8
}]
write_event_rows(event_data, "results")

# 5. Query with DuckDB
from chunk_memo.tables import create_connection_and_views, query_seeds

conn = create_connection_and_views("results")
df = query_seeds(conn, "avg_regret_empirical < 0.2")
print(df)
"""

REFERENCE = """
from chunk_memo.tables import canonicalize_params, grid_hash, attach_grid_id

canonical = canonicalize_params(params)
hash_str = grid_hash(params)
params_with_id = attach_grid_id(params)

from chunk_memo.tables import write_seed_rows, write_event_rows

write_seed_rows(seed_data, base_out, params)
write_event_rows(event_data, base_out, params)

from chunk_memo.tables import create_connection_and_views, query_seeds, query_events

conn = create_connection_and_views(base_out)
seeds_df = query_seeds(conn, "grid_id = 'abc12345'", limit=100)
events_df = query_events(conn, "op = 'insert'")
result = conn.execute("SELECT COUNT(*) FROM seeds").fetchone()
"""

RUNNER = """
from chunk_memo.tables import write_seed_rows, write_event_rows, attach_grid_id

class ExperimentRunner:
    def __init__(self, config):
        self.config = config
        # Generate grid_id from config
        config_params = self._extract_config_params()
        self.params_with_grid = attach_grid_id(config_params)

    def aggregate_and_save(self, summaries, csv_paths):
        # NEW: Also save as Parquet
        base_out = getattr(self.config, "parquet_out", "results/parquet")
        try:
            write_seed_rows(summaries, base_out, self.params_with_grid)
        except Exception as e:
            print(f"Warning: Parquet save failed: {e}")
"""

GRID_RUNNER = """
from chunk_memo.tables import write_seed_rows

def process_seed_output(csv_files, grid_id, output_dir, mandatory_fields, base_out):
    processed_files = []

    # NEW: Also create Parquet output
    try:
        seed_data = extract_seed_summaries(csv_files, mandatory_fields)
        write_seed_rows(seed_data, base_out, {"grid_id": grid_id, **mandatory_fields})
    except Exception as e:
        print(f"Warning: Parquet conversion failed: {e}")

    return processed_files
"""


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work inside an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(folder: Path, seeds: range = range(1, 3), grids: tuple[str, ...] = ("grid_a", "grid_b")) -> Path:
    """Make a sweep of CSV files: two settings, some seeds each, ten events in each file."""
    for number, grid in enumerate(grids):
        home = folder / grid
        home.mkdir(parents=True, exist_ok=True)
        setting = {"accountant": "zcdp", "gamma_bar": 0.5 + number}
        (home / "params.json").write_text(json.dumps(setting))
        for seed in seeds:
            write_csv(home / f"seed_{seed:03d}_memorypair.csv", seed)
    return folder


def write_csv(path: Path, seed: int) -> None:
    """Write the events of one run; every fifth is a delete, and the mean regret is seed / 100."""
    rows = [f"{n},{'delete' if n % 5 == 4 else 'insert'},{seed / 100},{0.5 + n / 100}" for n in range(10)]
    path.write_text("event,op,regret,acc\n" + "\n".join(rows) + "\n")


def called(*arguments: str) -> Result:
    """Run a command in this process; what it says on both streams is in the result."""
    return CliRunner().invoke(main, arguments)


# --- 1 to 5: ids -------------------------------------------------------------------------------------------


def test_01_canonicalize_params_drops_volatile_keys() -> None:
    """Seed, paths, hosts and timestamps do not count, at any depth; ``profile`` and ``direction`` do."""
    volatile = {"seed": 1, "out_dir": "x", "csv_path": "y", "hostname": "h", "timestamp": 3, "run_id": "r"}
    counted = {"algo": "sgd", "profile": "p", "direction": "up", "model": {"depth": 2}}
    params = {**counted, **volatile, "model": {"depth": 2, "log_dir": "z"}}
    assert counted == canonicalize_params(params)
    assert sorted(counted) == list(canonicalize_params(params))


def test_02_numerically_equal_params_hash_alike() -> None:
    """0.1 + 0.2 is 0.3, 1 is 1.0, -0.0 is 0.0; NumPy's numbers are Python's; tiny values stay distinct."""
    import numpy as np

    assert canonicalize_params({"a": 0.1 + 0.2}) == {"a": 0.3}
    alike: list[dict[str, Any]] = [{"a": 1}, {"a": 1.0}, {"a": np.float64(1)}, {"a": np.int32(1)}]
    assert 1 == len({grid_hash(params) for params in alike})
    assert grid_hash({"a": 0.0}) == grid_hash({"a": -0.0})
    apart: list[dict[str, Any]] = [
        {"a": 1e-11},
        {"a": 2e-11},
        {"a": True},
        {"a": "1"},
        {"a": [1]},
        {"a": np.arange(5000)},
    ]
    apart += [{"a": np.r_[np.arange(4999), 0]}]
    assert len(apart) == len({grid_hash(params) for params in apart})


def test_03_grid_hash_is_short_hex_and_stable() -> None:
    """An id has 16 hex characters, or as many as asked for, the same in every process."""
    assert "80bf4fa4577de3c6" == grid_hash(PARAMS)
    assert grid_hash(PARAMS)[:8] == grid_hash(PARAMS, length=8)
    assert re.fullmatch("[0-9a-f]{64}", grid_hash(PARAMS, 64))
    code = f"from chunk_memo.tables import grid_hash; print(grid_hash({PARAMS!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert grid_hash(PARAMS) == other.stdout.strip()


def test_04_attach_grid_id_leaves_its_input() -> None:
    """The parameters come back with their id, and the caller's are as they were."""
    before = dict(PARAMS)
    assert {**PARAMS, "grid_id": grid_hash(PARAMS)} == attach_grid_id(PARAMS)
    assert before == PARAMS


def test_05_seed_and_output_path_do_not_count() -> None:
    """The same parameters with another seed or folder have one id."""
    assert grid_hash(PARAMS) == grid_hash({**PARAMS, "seed": 9, "base_out": "elsewhere"})


# --- 6 to 13: rows and their layout ------------------------------------------------------------------------


def test_06_rows_that_carry_their_id(tmp_path: Path) -> None:
    """Rows with a ``grid_id`` are written as they are; the folder is returned."""
    row = {**attach_grid_id(PARAMS), "seed": 1, "loss": 0.5}
    assert f"{tmp_path}/seeds" == write_seed_rows([row], tmp_path)
    assert [row] == query_seeds(create_connection_and_views(tmp_path), returns="arrow").to_pylist()
    assert "" == write_seed_rows([], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_07_params_give_rows_their_id(tmp_path: Path) -> None:
    """Rows without an id get that of the params."""
    write_seed_rows([{"seed": 1, "loss": 0.5}], tmp_path, PARAMS)
    assert [grid_hash(PARAMS)] == query_seeds(create_connection_and_views(tmp_path))["grid_id"].to_list()


def test_08_event_rows(tmp_path: Path) -> None:
    """Events are written like seeds; two equal events of one call are two."""
    event = {"seed": 1, "op": "insert", "regret": 0.5}
    assert f"{tmp_path}/events" == write_event_rows([event, event], tmp_path, PARAMS)
    assert 2 == len(query_events(create_connection_and_views(tmp_path)))


def test_09_one_line_imports_them() -> None:
    """All three come from the package in one line, and importing the package loads no pyarrow."""
    code = "import sys, chunk_memo.tables as t; from chunk_memo.tables import grid_hash; print(len(t.__all__))"
    code += "; print(sorted({'pyarrow', 'duckdb', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[1]
    namespace: dict[str, Any] = {}
    exec("from chunk_memo.tables import write_seed_rows, write_event_rows, attach_grid_id", namespace)
    assert callable(namespace["write_event_rows"])


def test_10_hive_layout(tmp_path: Path) -> None:
    """Other programs read the folders as a Hive dataset."""
    import pyarrow.dataset as ds

    write_seed_rows([{**attach_grid_id(PARAMS), "seed": seed, "loss": seed / 2} for seed in (1, 2)], tmp_path)
    folder = "algo=memorypair/accountant=zcdp/gamma_bar=1.0/gamma_split=0.5/rho_total=1.0"
    [path] = (tmp_path / "seeds" / folder / f"grid_id={grid_hash(PARAMS)}" / "seed=2").iterdir()
    assert ".parquet" == path.suffix
    assert 1.5 == sum(ds.dataset(tmp_path / "seeds", partitioning="hive").to_table()["loss"].to_pylist())


def test_11_partition_columns(tmp_path: Path) -> None:
    """The document's columns that occur are the partitions, in its order; others can be named."""
    names = [
        "algo",
        "accountant",
        "gamma_bar",
        "gamma_split",
        "target_PT",
        "target_ST",
        "delete_ratio",
        "rho_total",
        "grid_id",
        "seed",
    ]
    assert names == list(PARTITION_COLUMNS)
    write_seed_rows([{"seed": 1, "loss": 1.0, "algo": "x"}], tmp_path / "a")
    assert (tmp_path / "a" / "seeds" / "algo=x" / "seed=1").is_dir()
    write_seed_rows([{"seed": 1, "loss": 1.0, "algo": "x"}], tmp_path / "b", partition_by=["seed"])
    assert ["_log", "seed=1"] == sorted(path.name for path in (tmp_path / "b" / "seeds").iterdir())


def test_12_params_json(tmp_path: Path) -> None:
    """``grids/grid_id=…/params.json`` says what an id stands for, and an id that stands for something else."""
    write_seed_rows([{"seed": 1, "loss": 0.5}], tmp_path, {**PARAMS, "seed": 4})
    path = tmp_path / "grids" / f"grid_id={grid_hash(PARAMS)}" / "params.json"
    assert PARAMS == json.loads(path.read_text())
    # Rows that come without params: what their partition columns say, and whether that is all.
    write_seed_rows([{**attach_grid_id(PARAMS), "seed": 1}], tmp_path / "b")
    derived = json.loads((tmp_path / "b" / path.relative_to(tmp_path)).read_text())
    assert PARAMS == {name: value for name, value in derived.items() if not name.startswith("_")}
    assert "_grid_id_note" not in derived
    write_seed_rows([{"grid_id": "abc12345", "algo": "x", "seed": 1}], tmp_path / "b")
    note = json.loads((tmp_path / "b" / "grids" / "grid_id=abc12345" / "params.json").read_text())
    assert "x" == note["algo"]
    assert "not the grid_id of the rows (abc12345)" in note["_grid_id_note"]


def test_13_views(tmp_path: Path) -> None:
    """The connection has views of the datasets that are there, and their summaries."""
    assert create_connection_and_views(tmp_path).execute("SHOW TABLES").fetchall() == []
    rows = [{**attach_grid_id(PARAMS), "seed": seed, "loss": seed / 2} for seed in (1, 2)]
    write_seed_rows(rows, tmp_path)
    write_event_rows(rows, tmp_path)
    connection = create_connection_and_views(tmp_path)
    names = [name for (name,) in connection.execute("SHOW TABLES").fetchall()]
    assert ["events", "events_summary", "seeds", "seeds_summary"] == names
    summary = connection.execute("SELECT algo, rows, seeds, loss_mean, loss_max FROM seeds_summary").fetchall()
    assert [("memorypair", 2, 2, 0.75, 1.0)] == summary
    assert [(1, 0.5), (1, 1.0)] == connection.execute(
        "SELECT rows, loss_mean FROM events_summary ORDER BY 2"
    ).fetchall()


# --- 14 to 17: queries -------------------------------------------------------------------------------------


def test_14_views_read_lazily(tmp_path: Path) -> None:
    """A view over files that are gone is made all the same, and a query opens only the partitions it needs."""
    rows = [{"grid_id": "a", "seed": seed, "loss": seed / 2} for seed in range(4)]
    write_seed_rows(rows, tmp_path)
    for path in (tmp_path / "seeds" / "grid_id=a" / "seed=2").iterdir():
        path.write_bytes(b"no Parquet any more")
    connection = create_connection_and_views(tmp_path)
    assert (0.5,) == connection.execute("SELECT loss FROM seeds WHERE seed = 1").fetchone()
    assert [1.5] == query_seeds(connection, {"seed": 3})["loss"].to_list()


def test_15_query_seeds(tmp_path: Path) -> None:
    """Conditions, limits and kinds of frames; a limit of 0 is no row, one below is an error."""
    import polars as pl
    import pyarrow as pa

    write_seed_rows([{"seed": seed, "loss": seed / 2} for seed in range(5)], tmp_path)
    connection = create_connection_and_views(tmp_path)
    frame = query_seeds(connection, "loss >= 1", limit=2)
    assert isinstance(frame, pd.DataFrame)
    assert (5, 2, 0) == tuple(len(query_seeds(connection, limit=n)) for n in (None, 2, 0))
    assert isinstance(query_seeds(connection, returns="polars"), pl.DataFrame)
    assert isinstance(query_seeds(connection, returns="arrow"), pa.Table)
    with pytest.raises(ValueError, match="limit must be a number of rows, 0 or more, got -1"):
        query_seeds(connection, limit=-1)


def test_16_query_events(tmp_path: Path) -> None:
    """Events are asked for in the same way, and what was written since then counts."""
    write_event_rows([{"seed": 1, "op": "insert"}], tmp_path)
    connection = create_connection_and_views(tmp_path)
    write_event_rows([{"seed": 1, "op": "delete"}, {"seed": 2, "op": "insert"}], tmp_path)
    assert [1, 2] == sorted(query_events(connection, "op = 'insert'")["seed"])


def test_17_custom_sql(tmp_path: Path) -> None:
    """The connection is DuckDB's own."""
    write_seed_rows([{"seed": 1}, {"seed": 2}], tmp_path)
    connection = create_connection_and_views(tmp_path)
    assert (2,) == connection.execute("SELECT COUNT(*) FROM seeds").fetchone()


# --- 18 to 21: commands ------------------------------------------------------------------------------------


def test_18_convert(inside: Path) -> None:
    """``convert`` takes folders as they are written, with a slash at the end."""
    sweep(inside / "experiments" / "results")
    done = called("convert", "experiments/results/", "parquet_out/")
    assert (0, "4 files converted to 4 seed rows\n") == (done.exit_code, done.output)


def test_19_query(inside: Path) -> None:
    """``query`` prints the rows of a condition; a refused one goes to standard error, with code 1."""
    convert_csv_to_parquet(sweep(inside / "csv"), "out")
    done = called("query", "out/", "seeds", "--where", "avg_regret_empirical < 0.015")
    assert (0, "2 rows") == (done.exit_code, done.output.splitlines()[-1])
    lines = called("query", "out", "seeds", "--limit", "1", "--format", "csv").stdout.splitlines()
    assert ("accountant,gamma_bar,seed,algo", 2) == (lines[0][:30], len(lines))
    assert 0 == called("query", "out", "seeds", "--output", "rows.csv").exit_code
    assert 4 == len(pd.read_csv("rows.csv"))
    refused = called("query", "out", "seeds", "--where", "1=1; DROP TABLE seeds")
    assert (1, "") == (refused.exit_code, refused.stdout)
    assert refused.stderr.startswith("Error: ")


def test_20_info(inside: Path) -> None:
    """``info`` shows the numbers of rows, the columns and the views."""
    convert_csv_to_parquet(sweep(inside / "csv"), "out")
    text = called("info", "out/").output
    assert "seeds: 4 in 4 files, partitioned by algo, accountant, gamma_bar, grid_id, seed" in text
    assert "views: seeds, seeds_summary" in text
    assert "grids: 2 parameter sets" in text
    assert 4 == json.loads(called("info", "out", "--json").output)["seeds"]["rows"]


def test_21_rollup(inside: Path) -> None:
    """``rollup`` converts and sums up by grid."""
    sweep(inside / "experiments" / "results")
    done = called("rollup", "--csv-dir", "experiments/results/", "--base-out", "parquet_out/")
    expected = "4 files converted to 4 seed rows; 2 grids summed up, 0 up to date\n"
    assert (0, expected) == (done.exit_code, done.output)
    rows = create_connection_and_views("parquet_out").execute(
        "SELECT gamma_bar, seeds, round(avg_regret_empirical_mean, 6) FROM rollups ORDER BY 1"
    )
    assert [(0.5, 2, 0.015), (1.5, 2, 0.015)] == rows.fetchall()


# --- 22 to 29: conversion and the workflow ------------------------------------------------------------------


def test_22_granularity_seed(tmp_path: Path) -> None:
    """A file is one row: mean regret, inserts, deletes, the last accuracy, the number of events."""
    convert_csv_to_parquet(
        sweep(tmp_path / "csv", range(7, 8), ("grid_a",)), tmp_path / "out", granularity="seed"
    )
    [row] = query_seeds(create_connection_and_views(tmp_path / "out"), returns="arrow").to_pylist()
    expected = {
        "accountant": "zcdp",
        "gamma_bar": 0.5,
        "seed": 7,
        "algo": "memorypair",
        "grid_id": grid_hash({"algo": "memorypair", "accountant": "zcdp", "gamma_bar": 0.5}),
        "N_star_emp": 8,
        "m_emp": 2,
        "avg_regret_empirical": pytest.approx(0.07),
        "final_acc": 0.59,
        "total_events": 10,
    }
    assert expected == row


def test_23_granularity_event(tmp_path: Path) -> None:
    """Each row of a file is a row, in the order of the file."""
    convert_csv_to_parquet(sweep(tmp_path / "csv"), tmp_path / "out", granularity="event")
    found = query_events(create_connection_and_views(tmp_path / "out"), {"seed": 2, "gamma_bar": 0.5})
    assert list(range(10)) == found["event"].to_list()


def test_24_dry_run(tmp_path: Path) -> None:
    """A dry run names the files, and writes nothing."""
    done = called("convert", str(sweep(tmp_path / "csv")), str(tmp_path / "out"), "--dry-run")
    assert "4 files would be converted" == done.output.splitlines()[-1]
    assert f"would convert {tmp_path}/csv/grid_a/seed_001_memorypair.csv" == done.output.splitlines()[0]
    assert not (tmp_path / "out").exists()


def test_28_incremental_and_never_double(tmp_path: Path) -> None:
    """A second run does nothing, a new file is the only one taken, a changed one replaces its own row."""
    csv, out = sweep(tmp_path / "csv"), tmp_path / "out"
    assert 4 == len(convert_csv_to_parquet(csv, out).converted)
    assert (0, 4) == tuple(map(len, _of(convert_csv_to_parquet(csv, out))))
    write_csv(csv / "grid_a" / "seed_003_memorypair.csv", 3)
    assert (1, 4) == tuple(map(len, _of(convert_csv_to_parquet(csv, out))))
    write_csv(csv / "grid_a" / "seed_003_memorypair.csv", 30)
    assert (1, 4) == tuple(map(len, _of(convert_csv_to_parquet(csv, out))))
    rows = query_seeds(create_connection_and_views(out), {"seed": 3})
    assert [pytest.approx(0.3)] == rows["avg_regret_empirical"].to_list()
    # The same sweep in another place is the same rows.
    assert 0 == convert_csv_to_parquet(sweep(tmp_path / "copy"), out).rows
    done = rollup(csv, out)
    write_csv(csv / "grid_b" / "seed_009_memorypair.csv", 9)
    assert ((2, 0), (1, 1)) == ((done.grids, done.grids_known), _grids(rollup(csv, out)))


def _of(done: Any) -> tuple[Any, Any]:
    return done.converted, done.up_to_date


def _grids(done: Any) -> tuple[int, int]:
    return done.grids, done.grids_known


def test_29_added_to_a_runner(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The runner's recipe keeps the id that it announces; a failed write is an exception that it catches."""
    namespace: dict[str, Any] = {}
    exec(RUNNER, namespace)
    config = type("Config", (), {"parquet_out": "results/parquet"})()
    runner_class = type(
        "Runner", (namespace["ExperimentRunner"],), {"_extract_config_params": lambda self: dict(PARAMS)}
    )
    runner = runner_class(config)
    runner.aggregate_and_save([{"seed": 1, "loss": 0.5}, {"seed": 2, "loss": 0.25}], [])
    found = query_seeds(create_connection_and_views("results/parquet"))
    assert {grid_hash(PARAMS)} == set(found["grid_id"])
    runner.aggregate_and_save([{"seed": 1, "loss": "much"}], [])
    said = capsys.readouterr().out
    assert (
        "Warning: Parquet save failed: column 'loss' is of type double in this dataset, and came as string"
        in said
    )


def test_30_params_that_carry_an_id(inside: Path) -> None:
    """The grid runner's recipe keeps the id that it was given; attaching twice changes nothing."""
    namespace: dict[str, Any] = {"extract_seed_summaries": lambda files, fields: [{"seed": 1, "loss": 0.5}]}
    exec(GRID_RUNNER, namespace)
    namespace["process_seed_output"]([], "abc12345", "out", {"algo": "x", "gamma_bar": 1.0}, "base")
    assert ["abc12345"] == query_seeds(create_connection_and_views("base"))["grid_id"].to_list()
    once = attach_grid_id(PARAMS)
    assert once == attach_grid_id(once)
    with pytest.raises(ValueError, match="grid_id 'abc12345' stands for"):
        write_seed_rows([{"seed": 2, "loss": 1.0}], "base", {"grid_id": "abc12345", "algo": "y"})


def test_31_the_demo(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """The example shows ids, rows, views and files, and a second write adds nothing."""
    program = tmp_path / "experiment_tables.py"
    program.write_text((Path(__file__).parent.parent / "examples" / program.name).read_text(encoding="utf-8"))
    printed = run_program(program)
    assert "the id of the parameters: 465b8b5c4653e91b" in printed
    assert "6 seeds, 240 events" in printed
    assert "│       0.5 │     3 │  0.986 │" in printed
    assert (
        "seeds/algo=memorypair/accountant=zcdp/gamma_bar=0.5/rho_total=1.0/grid_id=a81160674a7a0533/seed=1"
        in printed
    )
    assert "again:  Exported(chunks=0, chunks_known=2, rows=0, files=0, files_removed=0)" in printed


@pytest.mark.parametrize("package", ["pyarrow", "duckdb"])
def test_32_a_missing_package_is_named(package: str, tmp_path: Path) -> None:
    """Without a package the error gives the line that installs it."""
    code = f"""
        import sys
        sys.modules[{package!r}] = None
        from chunk_memo.tables import create_connection_and_views
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert 1 == done.returncode
    assert 'run: pip install "chunk-memo[tables]"' in done.stderr


# --- as pasted ---------------------------------------------------------------------------------------------


def test_the_quick_start_as_pasted(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """The document's quick start runs as it stands but for its imports, and leaves the layout that it shows."""
    path = tmp_path / "pasted.py"
    path.write_text(QUICK_START)
    printed = run_program(path)
    assert f"Grid ID: {grid_hash(PARAMS)}" in printed
    assert "memorypair" in printed
    assert "[1 rows x 10 columns]" in printed
    assert (tmp_path / "results" / "grids" / f"grid_id={grid_hash(PARAMS)}" / "params.json").is_file()


def test_the_module_reference_as_pasted(tmp_path: Path) -> None:
    """So do the calls of the module reference."""
    namespace: dict[str, Any] = {
        "params": PARAMS,
        "base_out": str(tmp_path),
        "seed_data": [{"seed": 1, "loss": 0.5}],
        "event_data": [{"seed": 1, "op": "insert"}],
    }
    exec(REFERENCE, namespace)
    assert ((1,), 0, 1) == (namespace["result"], len(namespace["seeds_df"]), len(namespace["events_df"]))


COMMANDS = """
python -m chunk_memo.cli convert experiments/results/ parquet_out/
python -m chunk_memo.cli query parquet_out/ seeds --where "avg_regret_empirical < 0.1"
python -m chunk_memo.cli info parquet_out/
python -m chunk_memo.cli rollup --csv-dir experiments/results/ --base-out parquet_out/
python CHUNK_MEMO/tables/convert.py experiments/results/ parquet_out/ --granularity event
""".strip().splitlines()
"""The document's commands, its package's name but for; two of the converter's are the same but for an option."""


def test_the_commands_as_pasted(inside: Path) -> None:
    """The document's command lines run in a shell."""
    import chunk_memo

    sweep(inside / "experiments" / "results")
    said = []
    for line in COMMANDS:
        words = shlex.split(line.replace("CHUNK_MEMO", str(Path(chunk_memo.__file__).parent)))
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr), line
        said.append(done.stdout.splitlines()[-1])
    expected = [
        "4 files converted to 4 seed rows",
        "4 rows",
        "views: seeds, seeds_summary",
        "0 files converted to 0 seed rows, 4 up to date; 2 grids summed up, 0 up to date",
        "4 files converted to 40 event rows",
    ]
    assert expected == said
    for more in (["--granularity", "seed"], ["--dry-run"]):
        assert 0 == called("convert", "experiments/results/", "parquet_out/", *more).exit_code


def test_25_26_27_the_workflow(inside: Path) -> None:
    """Snakemake: the first run processes all, the second nothing, a third after one new CSV only that."""
    sweep(inside / "experiments" / "results")
    plain = "snakemake -s SNAKEFILE --configfile CONFIGFILE"

    first = run(plain, inside)
    assert 2 == first.count("2 files converted to 2 seed rows")
    assert "2 grids summed up, 0 up to date" in first
    assert "Nothing to be done" in run("snakemake -s SNAKEFILE --cores 8", inside)
    write_csv(inside / "experiments" / "results" / "grid_b" / "seed_005_memorypair.csv", 5)
    third = run(plain, inside)
    assert ["1 file converted to 1 seed row, 2 up to date"] == re.findall(r".*converted.*", third)
    assert "1 grid summed up, 1 up to date" in third
    assert 5 == len(query_seeds(create_connection_and_views("parquet_out")))


@pytest.mark.long
def test_26_the_workflow_elsewhere(inside: Path) -> None:
    """``--config base_out=… csv_dir=…`` overrides the configuration."""
    sweep(inside / "my_experiments", range(1, 2), ("only",))
    said = run("snakemake -s SNAKEFILE --config base_out=my_results csv_dir=my_experiments", inside)
    assert "1 file converted to 1 seed row" in said
    assert 1 == len(query_seeds(create_connection_and_views("my_results")))


def run(line: str, inside: Path) -> str:
    """Run Snakemake as a line of the document says; return what it and its jobs say."""
    from chunk_memo.tables.rollups import workflow_path

    names = {"SNAKEFILE": workflow_path(), "CONFIGFILE": workflow_path().parent / "config.yaml"}
    words = [str(names.get(word, word)) for word in shlex.split(line)]
    environment = {**os.environ, "HOME": str(inside), "XDG_CACHE_HOME": str(inside / ".cache")}
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout + done.stderr


def test_25_rollup_by_snakemake_needs_snakemake(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``rollup --cores`` runs the workflow; without Snakemake the error gives the line that installs it."""
    sweep(inside / "csv")
    monkeypatch.setitem(sys.modules, "snakemake", None)
    done = called("rollup", "--csv-dir", "csv", "--base-out", "out", "--cores", "2")
    assert 1 == done.exit_code
    assert 'run: pip install "chunk-memo[snakemake]"' in done.stderr
    assert called("rollup", "--snakefile").output.strip().endswith("tables/workflow/Snakefile")
