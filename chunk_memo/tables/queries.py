"""SQL over the datasets of a folder: the views ``seeds``, ``events`` and their summaries, and filtered queries.

Views read nothing when they are made. They show what the log named at that moment, so several queries see one
state; ``query_seeds`` and ``query_events`` look first whether there is more by now.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chunk_memo.errors import SpecError, TableError
from chunk_memo.runparams import conditions
from chunk_memo.tables.dataset import Dataset, identifier, literal
from chunk_memo.tables.filters import Where, checked_select, locked, result_of, where_clause

__all__ = [
    "create_connection_and_views",
    "folder_info",
    "query",
    "query_events",
    "query_seeds",
    "refresh_views",
]

_NAMES = ("seeds", "events", "rollups")
_KEYS = {
    "seeds": ("grid_id", "algo", "accountant", "gamma_bar", "gamma_split"),
    "events": ("grid_id", "seed"),
}
"""What a summary has a row for, of these columns those that there are."""


def create_connection_and_views(base_out: str | os.PathLike[str], connection: Any = None) -> Any:
    """Return a DuckDB connection with views of the datasets of a folder.

    Parameters
    ----------
    base_out : path-like
        The folder that holds ``seeds`` and ``events``; views are made of those that are there.
    connection : duckdb.DuckDBPyConnection, optional
        Where to make the views; by default a connection of its own, which reads files below `base_out` only.

    Returns
    -------
    duckdb.DuckDBPyConnection
        The connection, with the views ``seeds``, ``events``, ``seeds_summary`` and ``events_summary``, and
        ``rollups`` where :func:`rollup` made some. A summary
        has a row for each grid_id (with algo, accountant, gamma_bar, gamma_split), or for each grid_id and seed:
        the number of rows, and of each number its mean, standard deviation (of the sample), smallest and largest.

    Raises
    ------
    TableError
        Where a dataset's log is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo.tables import write_seed_rows
    >>> base_out = tempfile.mkdtemp()
    >>> _ = write_seed_rows([{"grid_id": "a", "seed": s, "loss": s / 2} for s in range(3)], base_out)
    >>> connection = create_connection_and_views(base_out)
    >>> connection.execute("SELECT count(*) FROM seeds").fetchone()
    (3,)
    >>> connection.execute("SELECT grid_id, rows, loss_mean FROM seeds_summary").fetchall()
    [('a', 3, 0.5)]
    """
    base = Path(os.path.abspath(base_out))
    if connection is None:
        connection = locked(base)
    _make_views(connection, base)
    return connection


def _make_views(connection: Any, base: Path) -> None:
    for name in _NAMES:
        made = _select_of(base / name)
        if made is None:
            continue
        number, select = made
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {select}")
        note = json.dumps({"base_out": str(base), "number": number})
        connection.execute(f"COMMENT ON VIEW {name} IS {literal(note)}")
        if name not in _KEYS:
            continue
        connection.execute(
            f"CREATE OR REPLACE VIEW {name}_summary AS {summary_of(connection, name, _KEYS[name])}"
        )


def _select_of(folder: Path) -> tuple[int, str] | None:
    """Return the number of the newest commit, and the SELECT over a dataset; of others' files over them all."""
    dataset = Dataset(folder)
    contents = dataset.contents()
    if contents.number:
        return contents.number, dataset.sql(contents)
    if next(folder.rglob("*.parquet"), None) is None:
        return None
    pattern = f"{folder}/**/*.parquet"
    return 0, f"SELECT * FROM read_parquet({literal(pattern)}, hive_partitioning=true, union_by_name=true)"


def summary_of(connection: Any, name: str, keys: Sequence[str]) -> str:
    """Return the SELECT that sums a view up.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The connection.
    name : str
        The view.
    keys : sequence of str
        What it has a row for; of these the columns that there are.

    Returns
    -------
    str
        The SELECT: the number of rows (and seeds), and mean, standard deviation, smallest and largest of numbers.
    """
    columns = {row[0]: str(row[1]) for row in connection.execute(f"DESCRIBE {name}").fetchall()}
    keys = [key for key in keys if key in columns]
    made = [*(identifier(key) for key in keys), 'count(*) AS "rows"']
    if "seed" in columns and "seed" not in keys:
        made.append('count(DISTINCT "seed") AS "seeds"')
    for column, kind in columns.items():
        if column in (*keys, "seed") or not _is_number(kind):
            continue
        for function, label in (("avg", "mean"), ("stddev_samp", "std"), ("min", "min"), ("max", "max")):
            made.append(f"{function}({identifier(column)}) AS {identifier(f'{column}_{label}')}")
    grouped = f" GROUP BY {', '.join(map(identifier, keys))}" if keys else ""
    return f"SELECT {', '.join(made)} FROM {name}{grouped}"


def _is_number(kind: str) -> bool:
    return kind.removeprefix("U") in (
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "FLOAT",
        "DOUBLE",
    ) or (kind.startswith("DECIMAL"))


def refresh_views(connection: Any) -> bool:
    """Let the views show what was written since they were made.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        One with views.

    Returns
    -------
    bool
        Whether there was anything new.
    """
    base, numbers = _known(connection)
    if base is None:
        return False
    if all(Dataset(base / name).latest() == numbers.get(name, 0) for name in _NAMES):
        return False
    _make_views(connection, base)
    return True


def _known(connection: Any) -> tuple[Path | None, dict[str, int]]:
    """Return the folder that a connection's views show, and the commit that each was made at."""
    rows = connection.execute(
        "SELECT view_name, comment FROM duckdb_views()"
        " WHERE view_name IN ('seeds', 'events', 'rollups') AND NOT internal"
    ).fetchall()
    base, numbers = None, {}
    for name, comment in rows:
        try:
            note = json.loads(comment or "")
            base, numbers[name] = Path(note["base_out"]), int(note["number"])
        except (ValueError, KeyError, TypeError):
            continue
    return base, numbers


def query_seeds(conn: Any, where: Where = None, limit: int | None = None, *, returns: str = "pandas") -> Any:
    """Return rows of the view ``seeds``.

    Parameters
    ----------
    conn : duckdb.DuckDBPyConnection
        From :func:`create_connection_and_views`; what was written since then counts.
    where : str, mapping, triple, or sequence of triples, optional
        Which rows: filters such as ``{"algo": "sgd"}`` or ``[("seed", "<", 5)]``, whose values are bound; or SQL,
        as what stands behind WHERE, or as one whole SELECT. SQL is parsed, and run where no file outside the
        dataset can be read.
    limit : int, optional
        The most rows; 0 is none.
    returns : {"pandas", "polars", "arrow"}
        What the rows come as.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        The rows, all columns in the types that they were written with.

    Raises
    ------
    QueryError
        Where SQL is not one condition or one SELECT.
    SpecError
        Where a filter names a column that there is not.
    TableError
        Where there are no seeds.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo.tables import write_seed_rows
    >>> base_out = tempfile.mkdtemp()
    >>> _ = write_seed_rows([{"grid_id": "a", "seed": s, "loss": s / 2} for s in range(4)], base_out)
    >>> connection = create_connection_and_views(base_out)
    >>> query_seeds(connection, "loss > 0.5", returns="arrow")["seed"].to_pylist()
    [2, 3]
    >>> query_seeds(connection, [("seed", "in", [0, 3])], limit=1, returns="arrow")["loss"].to_pylist()
    [0.0]
    """
    return query(conn, "seeds", where, limit, returns=returns)


def query_events(conn: Any, where: Where = None, limit: int | None = None, *, returns: str = "pandas") -> Any:
    """Return rows of the view ``events``.

    Parameters
    ----------
    conn : duckdb.DuckDBPyConnection
        From :func:`create_connection_and_views`.
    where : str, mapping, triple, or sequence of triples, optional
        As in :func:`query_seeds`.
    limit : int, optional
        The most rows; 0 is none.
    returns : {"pandas", "polars", "arrow"}
        What the rows come as.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        The rows.

    Raises
    ------
    QueryError
        Where SQL is not one condition or one SELECT.
    SpecError
        Where a filter names a column that there is not.
    TableError
        Where there are no events.
    """
    return query(conn, "events", where, limit, returns=returns)


def query(conn: Any, view: str, where: Where = None, limit: int | None = None, *, returns: str = "pandas") -> Any:
    """Return rows of one of the views.

    Parameters
    ----------
    conn : duckdb.DuckDBPyConnection
        From :func:`create_connection_and_views`.
    view : str
        ``"seeds"``, ``"events"``, one of their summaries, or ``"rollups"``.
    where : str, mapping, triple, or sequence of triples, optional
        As in :func:`query_seeds`.
    limit : int, optional
        The most rows; 0 is none.
    returns : {"pandas", "polars", "arrow"}
        What the rows come as.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        The rows.
    """
    views = (*_NAMES, *(f"{name}_summary" for name in _KEYS))
    if view not in views:
        raise SpecError(f"view must be one of {list(views)}, got {view!r}")
    given: Any = limit
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise SpecError(f"limit must be a number of rows, 0 or more, got {limit!r}")
    refresh_views(conn)
    base, _ = _known(conn)
    there = {row[0] for row in conn.execute("SELECT view_name FROM duckdb_views()").fetchall()}
    kind = "event" if view.startswith("event") else "seed"
    if base is None or view not in there:
        raise TableError(
            f"there is no view {view!r} on this connection; write rows with write_{kind}_rows(rows, base_out),"
            f" and connect with create_connection_and_views(base_out)"
        )
    safe = conn.cursor() if _is_locked(conn) else create_connection_and_views(base)
    try:
        sql, values = _query_of(base, view, where)
        if limit is not None:
            sql = f"SELECT * FROM (\n{sql}\n) LIMIT {limit}"
        return result_of(safe, sql, values, returns)
    finally:
        safe.close()


def _query_of(base: Path, view: str, where: Where) -> tuple[str, list[Any]]:
    if where is None:
        return f"SELECT * FROM {view}", []
    if isinstance(where, str):
        if _is_whole_query(where):
            return checked_select(where).rstrip().rstrip(";"), []
        return f"SELECT * FROM {view} WHERE {where_clause(where, ())[0]}", []
    dataset = Dataset(base / view)
    contents = dataset.contents()
    if not contents.number:
        condition, values = where_clause(where, None)
        return f"SELECT * FROM {view} WHERE {condition}", values
    condition, values = where_clause(where, contents.schema.names)
    exact = {"==": lambda value: [value], "in": list}
    wanted = {c.key: exact[c.op](c.value) for c in conditions(where) if c.op in exact and _is_plain(c.value)}
    source = dataset.sql(contents, contents.files_of(wanted))
    return f"SELECT * FROM ({source}) WHERE {condition}", values


def _is_plain(value: Any) -> bool:
    return not any(isinstance(each, dict) for each in (value if isinstance(value, list) else [value]))


def _is_whole_query(where: str) -> bool:
    """Tell whether SQL begins as a statement does; a condition cannot begin with these words."""
    bare = re.sub(r"\A(\s|--[^\n]*\n|/\*.*?\*/)*", "", where, flags=re.S)
    return re.match(r"(select|with|from)\b", bare, re.I) is not None


def _is_locked(connection: Any) -> bool:
    rows = connection.execute(
        "SELECT name, value FROM duckdb_settings() WHERE name IN ('enable_external_access', 'lock_configuration')"
    ).fetchall()
    settings = {name: str(value).lower() for name, value in rows}
    return settings == {"enable_external_access": "false", "lock_configuration": "true"}


def folder_info(base_out: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the datasets of a folder hold, from their logs alone.

    Parameters
    ----------
    base_out : path-like
        The folder.

    Returns
    -------
    dict
        For ``seeds`` and ``events`` the number of ``rows``, ``files`` and ``partitions``, the ``columns`` with
        their types, ``partition_by`` and ``updated_at``; ``grids``, the number of parameter sets; and ``views``.
    """
    base = Path(os.path.abspath(base_out))
    found: dict[str, Any] = {}
    for name in _NAMES:
        contents = Dataset(base / name).contents()
        if contents.number:
            found[name] = info_of(contents)
    grids = base / "grids"
    found["grids"] = sum(1 for _ in grids.glob("*/params.json")) if grids.is_dir() else 0
    found["views"] = [
        view for name in _NAMES if name in found for view in (name, f"{name}_summary")[: 1 + (name in _KEYS)]
    ]
    return found


def info_of(contents: Any) -> dict[str, Any]:
    """Return what one dataset holds.

    Parameters
    ----------
    contents : Contents
        Its log.

    Returns
    -------
    dict
        Its numbers of rows, files and partitions, its columns, and when it was written last.
    """
    return {
        "rows": contents.rows,
        "files": len(contents.files),
        "partitions": len(contents.folders()),
        "partition_by": list(contents.partition_by or ()),
        "columns": {each.name: str(each.type) for each in contents.schema},
        "updated_at": contents.updated_at,
    }
