"""Rows of experiments, written into datasets: one of seeds (a row per run), one of events, and their grids.

::

    <base_out>/seeds/algo=…/…/grid_id=…/seed=…/<digest>.parquet     and its log, seeds/_log/
    <base_out>/events/…                                             the same
    <base_out>/grids/grid_id=…/params.json                          what each grid_id stands for
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chunk_memo.disk import files
from chunk_memo.errors import TableError
from chunk_memo.tables.arrow import from_values
from chunk_memo.tables.dataset import Dataset, fitted
from chunk_memo.tables.grids import GRID_ID, grid_hash, keep_params
from chunk_memo.tables.needs import needed

pa = needed("pyarrow")

__all__ = ["PARTITION_COLUMNS", "table_of_rows", "write_event_rows", "write_rows", "write_seed_rows"]

PARTITION_COLUMNS = (
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
)
"""The columns by which rows are partitioned by default, where they occur; outermost first."""


def write_seed_rows(
    rows: Any,
    base_out: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    *,
    partition_by: Sequence[str] | None = None,
) -> str:
    """Add a row per run to ``<base_out>/seeds``.

    Parameters
    ----------
    rows : sequence of dict, pandas.DataFrame, polars.DataFrame, or Arrow table
        The rows. Those that are there already, with the same values in all columns, are not added again.
    base_out : path-like
        The folder of the datasets.
    params : mapping, optional
        The parameters that the rows belong to. Rows without a ``grid_id`` get theirs: the one that `params`
        carries, else their hash. Without params, ``params.json`` is made of the rows' partition columns.
    partition_by : sequence of str, optional
        The partition columns, outermost first. By default those of `PARTITION_COLUMNS` that occur in the first
        rows written; later rows keep to them.

    Returns
    -------
    str
        The dataset's folder; an empty string where there are no rows, and then nothing is made.

    Raises
    ------
    ColumnTypeError
        Where a column came with another type than it has.
    CollisionError
        Where a ``grid_id`` stands for other parameters.
    TableError
        Where rows cannot be written as they are.

    Examples
    --------
    >>> import tempfile
    >>> from chunk_memo.tables import attach_grid_id, create_connection_and_views, query_seeds
    >>> base_out = tempfile.mkdtemp()
    >>> params = attach_grid_id({"algo": "sgd", "gamma_bar": 1.0})
    >>> path = write_seed_rows([{**params, "seed": 1, "regret": 0.5}], base_out, params)
    >>> query_seeds(create_connection_and_views(base_out), returns="arrow").to_pylist()
    [{'algo': 'sgd', 'gamma_bar': 1.0, 'grid_id': '85a0a89f2daee52e', 'seed': 1, 'regret': 0.5}]
    """
    return write_rows("seeds", rows, base_out, params, partition_by=partition_by)


def write_event_rows(
    rows: Any,
    base_out: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    *,
    partition_by: Sequence[str] | None = None,
) -> str:
    """Add a row per event to ``<base_out>/events``; two equal rows of one call are two events.

    Parameters
    ----------
    rows : sequence of dict, pandas.DataFrame, polars.DataFrame, or Arrow table
        The rows; of a row that is there already as many are added as came more.
    base_out : path-like
        The folder of the datasets.
    params : mapping, optional
        As in :func:`write_seed_rows`.
    partition_by : sequence of str, optional
        As in :func:`write_seed_rows`.

    Returns
    -------
    str
        The dataset's folder; an empty string where there are no rows.

    Raises
    ------
    ColumnTypeError
        Where a column came with another type than it has.
    CollisionError
        Where a ``grid_id`` stands for other parameters.
    TableError
        Where rows cannot be written as they are.
    """
    return write_rows("events", rows, base_out, params, partition_by=partition_by)


def write_rows(
    name: str,
    rows: Any,
    base_out: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    *,
    partition_by: Sequence[str] | None = None,
) -> str:
    """Add rows to one of the datasets of a folder.

    Parameters
    ----------
    name : str
        ``"seeds"`` or ``"events"``.
    rows : object
        The rows.
    base_out : path-like
        The folder of the datasets.
    params : mapping, optional
        The parameters that the rows belong to.
    partition_by : sequence of str, optional
        The partition columns.

    Returns
    -------
    str
        The dataset's folder; an empty string where there are no rows.
    """
    table = table_of_rows(rows)
    if not table.num_rows:
        return ""
    base = os.path.abspath(base_out)
    dataset = Dataset(f"{base}/{name}")
    if params is not None:
        table = _with_grid_id(table, _id_of(params))
    # What can go wrong with the rows is found before anything is written.
    contents = dataset.contents()
    usual = [name for name in PARTITION_COLUMNS if name in table.column_names]
    fitted(dataset, contents, table, partition_by, usual=usual)
    with files.Syncer() as syncer:
        for grid_id, given, derived in _params_of(table, params, contents.partition_by):
            keep_params(base, grid_id, given, syncer, derived=derived)
    dataset.append(table, partition_by, usual=usual)
    return f"{os.fspath(base_out).rstrip('/') or '/'}/{name}"


def _id_of(params: Mapping[str, Any]) -> str:
    given = params.get(GRID_ID)
    if given is None:
        return grid_hash(params)
    if not isinstance(given, str) or not given:
        raise TableError(
            f"params carry the grid_id {given!r}; it must be a text: attach_grid_id(params) makes one"
        )
    return given


def _with_grid_id(table: Any, grid_id: str) -> Any:
    if GRID_ID not in table.column_names:
        return table.append_column(GRID_ID, pa.repeat(pa.scalar(grid_id), table.num_rows))
    column = table.column(GRID_ID)
    if not column.null_count:
        return table
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    at = table.column_names.index(GRID_ID)
    return table.set_column(at, GRID_ID, column.fill_null(grid_id))


def _params_of(
    table: Any, params: Mapping[str, Any] | None, partition_by: Sequence[str] | None
) -> Iterable[tuple[str, Mapping[str, Any], str]]:
    """Yield for each id of the rows its parameters, and where they were taken from where they were not given."""
    if GRID_ID not in table.column_names:
        return
    own = None if params is None else _id_of(params)
    columns = [n for n in partition_by or () if n in table.column_names and n not in (GRID_ID, "seed")]
    groups = table.select([GRID_ID, *columns]).group_by([GRID_ID, *columns], use_threads=False).aggregate([])
    by_id: dict[Any, list[dict[str, Any]]] = {}
    for row in groups.to_pylist():
        by_id.setdefault(row.pop(GRID_ID), []).append(row)
    for grid_id, found in by_id.items():
        if grid_id is None:
            continue
        if not isinstance(grid_id, str):
            raise TableError(
                f"grid_id must be a text, got {grid_id!r} in the rows; attach_grid_id(params) makes one"
            )
        if grid_id == own and params is not None:
            yield grid_id, params, ""
            continue
        single = {
            name: found[0][name]
            for name in columns
            if found[0][name] is not None and all(row[name] == found[0][name] for row in found)
        }
        yield grid_id, single, "the partition columns of the rows, since no params were given"


def table_of_rows(rows: Any) -> Any:
    """Return rows as an Arrow table.

    Parameters
    ----------
    rows : object
        Dictionaries, a DataFrame of pandas or polars, an Arrow table, batch or stream, or what has Arrow's
        C stream interface.

    Returns
    -------
    pyarrow.Table
        The rows; a column that some dictionaries lack is null there.

    Raises
    ------
    TableError
        Where they are none of these.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pa.RecordBatchReader):
        return rows.read_all()
    if type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns"):
        return _table_of_pandas(rows)
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise TableError(f"rows must be dictionaries, a DataFrame or an Arrow table, got {rows!r:.200}")
    listed = list(rows)
    wrong = next((row for row in listed if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise TableError(
            f"rows must be dictionaries, a DataFrame or an Arrow table, got among them {wrong!r:.200}"
        )
    names = list(dict.fromkeys(name for row in listed for name in row))
    bad = next((name for name in names if not isinstance(name, str)), None)
    if bad is not None:
        raise TableError(f"a row has the key {bad!r}; names of columns must be texts: use {str(bad)!r}")
    if listed and not names:
        raise TableError("rows are empty dictionaries; give each at least one column")
    return pa.table({name: _column(name, [row.get(name) for row in listed]) for name in names})


def _column(name: str, values: list[Any]) -> Any:
    """Return the values of one column, which must be of one kind, so that no type is lost silently."""
    kinds = {
        bool if isinstance(v, bool) else str if isinstance(v, str) else None for v in values if v is not None
    }
    if len(kinds) > 1:
        found = sorted({type(value).__name__ for value in values if value is not None})
        raise TableError(f"column {name!r} holds values of the types {found}; give it one, or convert them")
    return from_values(values)


def _table_of_pandas(frame: Any) -> Any:
    if any(not isinstance(label, str) for label in frame.columns):
        bad = next(label for label in frame.columns if not isinstance(label, str))
        raise TableError(
            f"the DataFrame has the column {bad!r}; names of columns must be texts: use {str(bad)!r}"
        )
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
