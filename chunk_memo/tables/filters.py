"""Conditions on rows: as data (``{column: value}``, triples), bound as parameters, or as SQL, parsed first.

SQL comes from users, and from their users. It is let through only as part of exactly one SELECT, as DuckDB's own
parser sees it, and only on a connection that can open no file outside the dataset, load no extension, and change
no setting (:func:`locked`). A condition must also be closed in itself, so that it ends nothing around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chunk_memo.errors import QueryError, SpecError
from chunk_memo.identity import from_jsonable
from chunk_memo.runparams import conditions
from chunk_memo.tables.dataset import arrow_of, identifier, literal
from chunk_memo.tables.needs import needed

duckdb = needed("duckdb")

__all__ = ["Where", "checked_condition", "checked_select", "locked", "result_of", "where_clause"]

Where = str | Mapping[str, Any] | Sequence[Any] | None
"""A condition as users write it."""

_WAY_OUT = "pass one condition, such as \"loss < 0.1 AND op = 'x'\", filters such as {'op': 'x'}, or one SELECT"


def locked(*folders: str | Path) -> Any:
    """Return a connection in memory that reads files below some folders, and nothing else.

    Parameters
    ----------
    *folders : path-like
        The folders.

    Returns
    -------
    duckdb.DuckDBPyConnection
        The connection; its settings cannot be changed any more.

    Examples
    --------
    >>> locked().execute("SELECT * FROM read_text('/etc/passwd')")
    Traceback (most recent call last):
        ...
    _duckdb.PermissionException: Permission Error: Cannot access file "/etc/passwd" - ...
    """
    connection = duckdb.connect()
    listed = ", ".join(literal(f"{folder}/") for folder in folders)
    connection.execute(f"SET allowed_directories = [{listed}]")
    for setting in (
        "enable_external_access = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def checked_select(sql: str) -> str:
    """Return a query, where it is exactly one SELECT.

    Parameters
    ----------
    sql : str
        The query.

    Returns
    -------
    str
        The query as it is.

    Raises
    ------
    QueryError
        Where it is none, or more than one, or something else.

    Examples
    --------
    >>> checked_select("SELECT 1; DROP TABLE seeds")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.QueryError: 'SELECT 1; DROP TABLE seeds' holds 2 statements; ...
    """
    given: Any = sql
    if not isinstance(given, str) or any("\ud800" <= char <= "\udfff" for char in given):
        raise QueryError(f"a query must be a text, got {sql!r:.200}; {_WAY_OUT}")
    try:
        found = duckdb.extract_statements(sql)
    except (duckdb.Error, ValueError, UnicodeError) as error:
        raise QueryError(f"{_shown(sql)} is no SQL ({_first_line(error)}); {_WAY_OUT}") from error
    if len(found) != 1:
        raise QueryError(f"{_shown(sql)} holds {len(found)} statements; {_WAY_OUT}")
    if found[0].type != duckdb.StatementType.SELECT:
        kind = str(found[0].type).rpartition(".")[2]
        raise QueryError(f"{_shown(sql)} is a statement of the kind {kind}, and only SELECT is run; {_WAY_OUT}")
    return sql


def checked_condition(condition: str) -> str:
    """Return a condition in brackets, where it is closed in itself.

    Parameters
    ----------
    condition : str
        What stands behind WHERE.

    Returns
    -------
    str
        The condition, in brackets.

    Raises
    ------
    QueryError
        Where it is no condition, or would end the query around it.

    Examples
    --------
    >>> print(checked_condition("regret < 0.2 -- small"))
    (
    regret < 0.2 -- small
    )
    >>> checked_condition("1=1) UNION SELECT (1")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.QueryError: '1=1) UNION SELECT (1' is not closed in itself; ...
    """
    given: Any = condition
    if not isinstance(given, str) or "\0" in given:
        raise QueryError(f"a condition must be a text, got {condition!r:.200}; {_WAY_OUT}")
    whole = f"(\n{condition}\n)"
    checked_select(f"SELECT 1 WHERE {whole}")
    depth = 0
    data = condition.encode("utf-8")
    for at, kind in duckdb.tokenize(condition):
        if kind != duckdb.token_type.operator:
            continue
        sign = data[at : at + 1]
        depth += (sign == b"(") - (sign == b")")
        if depth < 0 or sign == b";":
            raise QueryError(f"{_shown(condition)} is not closed in itself; {_WAY_OUT}")
    return whole


def where_clause(where: Where, columns: Sequence[str] | None) -> tuple[str, list[Any]]:
    """Return a filter as what stands behind WHERE, with the values to be bound.

    Parameters
    ----------
    where : str, mapping, triple, or sequence of triples
        SQL; ``{column: value}``, which all must be equal; or ``(column, op, value)``, one or several, with an op
        of ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``. None as a value is null.
    columns : sequence of str, or None
        The columns that there are; None where that is not known.

    Returns
    -------
    tuple of str, list
        The condition, and the values of its parameters.

    Raises
    ------
    SpecError
        Where a column is named that there is not.
    QueryError
        Where SQL is no condition.

    Examples
    --------
    >>> where_clause([("seed", "in", [1, 2]), ("algo", "==", "sgd")], ["seed", "algo"])
    ('"seed" IN (?, ?) AND "algo" IS NOT DISTINCT FROM ?', [1, 2, 'sgd'])
    """
    if where is None:
        return "true", []
    if isinstance(where, str):
        return checked_condition(where), []
    parts, values = [], []
    for condition in conditions(where):
        name = _column_of(condition.path, columns)
        if condition.op in ("in", "not in"):
            members = [_value(member) for member in condition.value]
            marks = ", ".join("?" for _ in members) or "NULL"
            inside = f"{name} IN ({marks})"
            if None in members:
                inside = f"({inside} OR {name} IS NULL)"
            parts.append(inside if condition.op == "in" else f"(NOT coalesce({inside}, false))")
            values += members
            continue
        if isinstance(condition.value, list):
            raise SpecError(f"{name} is compared with several values; write ({name}, 'in', [...])")
        sign = {"==": "IS NOT DISTINCT FROM", "!=": "IS DISTINCT FROM"}.get(condition.op, condition.op)
        parts.append(f"{name} {sign} ?")
        values.append(_value(condition.value))
    return " AND ".join(parts) or "true", values


def _value(plain: Any) -> Any:
    """Return a value as it was given: dates and the like have a form of their own in JSON."""
    return from_jsonable(plain) if isinstance(plain, dict) else plain


def _column_of(path: tuple[str, ...], columns: Sequence[str] | None) -> str:
    name = ".".join(path)
    if columns is None or name in columns:
        return identifier(name)
    head, *rest = name.split(".")
    if head in columns:
        return ".".join(map(identifier, [head, *rest]))
    raise SpecError(f"there is no column {name!r}; the columns are {list(columns)}")


def result_of(connection: Any, sql: str, values: Sequence[Any], returns: str) -> Any:
    """Run a SELECT, and return its rows.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The connection.
    sql : str
        The query.
    values : sequence
        Values of its parameters.
    returns : {"pandas", "polars", "arrow"}
        What the rows come as.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        The rows.

    Raises
    ------
    QueryError
        Where DuckDB refuses the query.
    """
    if returns not in ("pandas", "polars", "arrow"):
        raise SpecError(f"returns must be 'pandas', 'polars' or 'arrow', got {returns!r}")
    if returns != "arrow":
        needed(returns)
    try:
        if returns == "pandas":
            return connection.execute(sql, list(values)).df()
        answer = connection.sql(sql, params=list(values)) if values else connection.sql(sql)
        return answer.pl() if returns == "polars" else arrow_of(answer)
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise QueryError(f"DuckDB refuses the query: {_first_line(error)}") from error


def _shown(sql: str) -> str:
    return repr(sql if len(sql) <= 120 else sql[:119] + "…")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
