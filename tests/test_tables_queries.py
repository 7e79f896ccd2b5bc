"""Hostile filters and names: no statement is executed, no file outside the dataset is read."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_memo import ChunkMemoError, QueryError, SpecError
from chunk_memo.tables import (
    create_connection_and_views,
    query_events,
    query_seeds,
    write_event_rows,
    write_seed_rows,
)
from chunk_memo.tables.dataset import identifier, literal
from chunk_memo.tables.filters import checked_condition, checked_select, where_clause

SECRET = "the-secret-of-another-folder"

_READERS = [
    "read_text({path})",
    "read_blob({path})",
    "read_csv({path})",
    "read_csv_auto({path})",
    "read_json({path})",
    "read_json_auto({path})",
    "read_parquet({path})",
    "parquet_scan({path})",
    "parquet_metadata({path})",
    "sniff_csv({path})",
    "glob({path})",
    "read_duckdb({path})",
]
_PATHS = [
    "'{secret}'",
    "['{secret}']",
    "'file://{secret}'",
    "'{base}/../secret.csv'",
    "'{base}/seeds/../../secret.csv'",
]
_FRAMES = [
    "loss IN (SELECT 1.0 FROM {reader})",
    "EXISTS (FROM {reader})",
    "1=1 OR (SELECT count(*) FROM {reader}) > 0",
    "SELECT * FROM {reader}",
    "WITH t AS (FROM {reader}) SELECT * FROM t",
    "FROM {reader}",
]
_STATEMENTS = [
    "DROP VIEW seeds",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW seeds AS SELECT 1",
    "COPY (SELECT 1) TO '{base}/seeds/evil.parquet'",
    "COPY seeds TO '{secret}'",
    "EXPORT DATABASE '{base}/evil'",
    "ATTACH '{base}/evil.db' AS evil",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL pragma_version()",
    "INSERT INTO seeds VALUES (1)",
    "UPDATE seeds SET loss = 0",
    "DELETE FROM seeds",
    "BEGIN TRANSACTION",
    "CHECKPOINT",
    "VACUUM",
    "CREATE SECRET (TYPE s3)",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "USE memory",
    "EXPLAIN ANALYZE SELECT 1",
    "CREATE MACRO f(x) AS x",
    "ALTER VIEW seeds RENAME TO s",
    "DETACH memory",
    "COMMENT ON VIEW seeds IS 'x'",
]
_WAYS = [
    "{statement}",
    "1=1; {statement}",
    "1=1); {statement}; SELECT (1",
    "1=1) OR (SELECT 1) IN ({statement}",
    "1=1 -- \n; {statement}",
    "1=1 /* */; {statement} --",
    "'a'; {statement}; --",
    "SELECT 1; {statement}",
    "(SELECT 1 FROM ({statement}))",
    "SELECT * FROM query('{quoted}')",
]
_ESCAPES = [
    "1=1) UNION ALL (SELECT * FROM seeds",
    "1=1) OR (1=1",
    "1=1) --",
    "1=1) /*",
    ")(",
    "1=1))((",
    "",
    " ",
    ";",
    "--",
    "/*",
    "'",
    '"',
    "$$",
    "\x00",
    "1=1\x00; DROP VIEW seeds",
    "loss < ?",
    "loss < $1",
    "1=1 LIMIT 1",
    "1=1 ORDER BY 1",
    "1=1 GROUP BY ALL",
    "\u037e",
    "loss < 1\u2028; DROP VIEW seeds",
    "nosuch = 1",
    "\ud800",
]


def hostile(base: Path, secret: Path) -> list[str]:
    """Return 500 conditions that try to read, to write, or to run something."""
    paths = [path.format(secret=secret, base=base) for path in _PATHS]
    readers = [reader.format(path=path) for reader, path in itertools.product(_READERS, paths)]
    reads = [frame.format(reader=reader) for frame, reader in itertools.product(_FRAMES, readers)]
    statements = [statement.format(base=base, secret=secret) for statement in _STATEMENTS]
    runs = [
        way.format(statement=statement, quoted=statement.replace("'", "''"))
        for way, statement in itertools.product(_WAYS, statements)
    ]
    chosen = random.Random(0)
    return [*_ESCAPES, *chosen.sample(reads, 245), *chosen.sample(runs, 230)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of a dataset, and a file beside it that no query may read."""
    top = tmp_path_factory.mktemp("hostile")
    secret = top / "secret.csv"
    secret.write_text(f"loss\n{SECRET}\n")
    base = top / "data"
    write_seed_rows([{"grid_id": "a", "seed": seed, "loss": seed / 2} for seed in range(3)], base)
    return base, secret


def test_500_hostile_filters(place: tuple[Path, Path]) -> None:
    """Nothing is read outside the dataset, nothing is executed, and every refusal is an error of ours."""
    base, secret = place
    filters = hostile(base, secret)
    assert 500 == len(filters)
    before = _state(base.parent)
    refused = 0
    own = duckdb.connect()  # a connection of the user's, which may do everything
    for connection in (create_connection_and_views(base), create_connection_and_views(base, own)):
        views = connection.execute("SELECT view_name, sql FROM duckdb_views() ORDER BY 1").fetchall()
        for where in filters:
            try:
                found = query_seeds(connection, where, returns="arrow").to_pylist()
            except ChunkMemoError:
                refused += 1
            else:
                assert SECRET not in str(found), where
                assert "root:" not in str(found), where
        assert views == connection.execute("SELECT view_name, sql FROM duckdb_views() ORDER BY 1").fetchall()
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        databases = connection.execute("SELECT count(*) FROM duckdb_databases() WHERE NOT internal").fetchone()
        assert ([], (1,)) == (tables, databases)
    assert before == _state(base.parent)
    assert refused > 900


def _state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NAMES = [
    'q"; DROP VIEW seeds; --',
    "it's",
    "x) OR (1=1",
    "SELECT",
    "a.b",
    " leading",
    "tab\tname",
    "new\nline",
    "per%cent",
    "名前",
    "\\",
    "{}",
    "$1",
    "?",
    "*",
    "--",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_of_columns_and_values(name: str, tmp_path: Path) -> None:
    """A column, a text, an id or a folder of any name is written and found, and means nothing else."""
    folder = tmp_path / name.replace("\n", "_")
    rows = [{"grid_id": name, "seed": 1, name: name}, {"grid_id": "other", "seed": 2, name: "x"}]
    write_seed_rows(rows, folder)
    write_event_rows(rows, folder)
    connection = create_connection_and_views(folder)
    assert [rows[0]] == query_seeds(connection, {name: name}, returns="arrow").to_pylist()
    assert [rows[0]] == query_seeds(connection, {"grid_id": name}, returns="arrow").to_pylist()
    assert [rows[1]] == query_events(connection, [(name, "!=", name)], returns="arrow").to_pylist()
    sql = f"{identifier(name)} = {literal(name)}"
    assert [rows[0]] == query_seeds(connection, sql, returns="arrow").to_pylist()
    with pytest.raises(SpecError, match="there is no column"):
        query_seeds(connection, {f"{name}!": 1})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"seed": 1}, [1]),
        ({"seed": 1.0}, [1]),
        (("seed", ">", 1), [2, 3]),
        ([("seed", ">=", 1), ("seed", "<=", 2)], [1, 2]),
        ([("seed", "in", [0, 3, 9])], [0, 3]),
        ([("seed", "in", [])], []),
        ([("seed", "not in", [0, 3])], [1, 2]),
        ([("loss", "in", [None, 0.5])], [1, 3]),
        ([("loss", "not in", [0.5])], [0, 2, 3]),
        ({"loss": None}, [3]),
        ([("loss", "!=", None)], [0, 1, 2]),
        ("loss > 0.25 AND seed < 9", [1, 2]),
        ("tag LIKE '%;%' -- a comment", [0, 1, 2, 3]),
        ("tag = 'a;b)('", [0, 1, 2, 3]),
        ("/* one */ SELECT * FROM seeds WHERE seed = 2;", [2]),
        ("seed = (SELECT max(seed) FROM seeds)", [3]),
        ({"fit.beta": 1.5}, [3]),
        ({}, [0, 1, 2, 3]),
        (None, [0, 1, 2, 3]),
    ],
)
def test_filters(where: Any, expected: list[int], tmp_path: Path) -> None:
    """Filters and conditions find what they say; null is a value like others."""
    rows = [
        {"seed": s, "loss": None if s == 3 else s / 2, "tag": "a;b)(", "fit": {"beta": s / 2}} for s in range(4)
    ]
    write_seed_rows(rows, tmp_path)
    found = query_seeds(create_connection_and_views(tmp_path), where, returns="arrow")
    assert expected == sorted(found["seed"].to_pylist())


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("seed = 1; DROP VIEW seeds", QueryError, "is no SQL"),
        ("SELECT 1; SELECT 2", QueryError, "holds 2 statements"),
        ("1=1) OR (1=1", QueryError, "is not closed in itself"),
        (5, SpecError, "'where' must be"),
        ({"seed": [1, 2]}, SpecError, "is compared with several values"),
        ([("seed", "~", 1)], SpecError, "'where' must be"),
        ("nosuch = 1", QueryError, "DuckDB refuses the query"),
    ],
)
def test_refusals_say_why(where: Any, error: type[Exception], said: str, tmp_path: Path) -> None:
    """What is refused is named, with the way out."""
    write_seed_rows([{"seed": 1}], tmp_path)
    with pytest.raises(error, match=said):
        query_seeds(create_connection_and_views(tmp_path), where)


@given(st.text(max_size=30))
def test_a_condition_cannot_leave_its_brackets(text: str) -> None:
    """Any text is refused, or stays one SELECT whose WHERE is one expression."""
    try:
        condition = checked_condition(text)
    except QueryError:
        return
    found = duckdb.extract_statements(f"SELECT 1 WHERE {condition} AND false")
    assert [duckdb.StatementType.SELECT] == [statement.type for statement in found]


def test_only_selects_pass() -> None:
    """Statements of other kinds are named by their kind."""
    assert "FROM seeds" == checked_select("FROM seeds")
    with pytest.raises(QueryError, match="is a statement of the kind COPY, and only SELECT is run"):
        checked_select("COPY (SELECT 1) TO 'x'")
    assert ("true", []) == where_clause(None, [])
