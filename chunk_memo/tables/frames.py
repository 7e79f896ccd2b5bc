"""Results as Arrow tables and DataFrames, one row for each point in the order asked.

Which column a value becomes is the business of :mod:`chunk_memo.tables.arrow`, for grids also that of
:mod:`chunk_memo.tables.tidy`, whose tables these are in another order: rows stand as the points were asked for,
and points that lack have rows, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunk_memo.results import STATUS, STORED, GridDesign, SweepResult, forms_of
from chunk_memo.tables.arrow import columns_of_array, columns_of_values, from_values
from chunk_memo.tables.needs import needed
from chunk_memo.tables.tidy import STATE, Box, Tidy

__all__ = ["arrow_table", "pandas_frame", "polars_frame"]


def arrow_table(result: SweepResult) -> Any:
    """Return results as an Arrow table; see :meth:`SweepResult.to_arrow`.

    Parameters
    ----------
    result : SweepResult
        The results.

    Returns
    -------
    pyarrow.Table
        One row for each point.
    """
    pa = needed("pyarrow")
    design = result.design
    if isinstance(design, GridDesign):
        lacking = design.plan().executed_points > 0
        tidy = Tidy(design.cache.viewing(design.selection), missing="mark" if lacking else "omit")
        batch = tidy.read(Box((), tidy.selection, (STORED,)))
        return _named(result, pa.Table.from_batches([batch], batch.schema))
    read = result.read()
    count = result.points
    columns: dict[str, Any] = {}
    for name, value in result.params.items():
        for label, column in columns_of_values(str(name), [value]).items():
            columns[label] = pa.repeat(column[0], count)
    columns |= {name: from_values(list(values)) for name, (_, values) in design.coords.items()}
    for name, variable in read.variables.items():
        taken = f"output.{name}" if name in columns else name
        columns |= _columns(taken, variable.values)
    if bool((read.status != STORED).any()):
        columns[STATE] = pa.array([STATUS[state] for state in read.status.tolist()])
    return pa.table(columns)


def _named(result: SweepResult, table: Any) -> Any:
    """Call the column of an output without a name as Datasets do: by the function's name."""
    names = table.column_names
    if list(forms_of(result.design)) != [result.name] or result.name in names:
        return table
    return table.rename_columns([result.name if name == "value" else name for name in names])


def _columns(name: str, values: Any) -> dict[str, Any]:
    """Return the columns of a variable; nulls where points lack."""
    if isinstance(values, np.ma.MaskedArray):
        mask: Any = np.ma.getmaskarray(values).reshape(len(values), -1).all(axis=1).tolist()
        rows = [None if lacks else row for lacks, row in zip(mask, values.data, strict=True)]
        return columns_of_values(name, rows)
    if values.dtype == object:
        return columns_of_values(name, values.tolist())
    found: dict[str, Any] = columns_of_array(name, values)
    return found


def pandas_frame(result: SweepResult) -> Any:
    """Return results as a pandas DataFrame; see :meth:`SweepResult.to_pandas`.

    Parameters
    ----------
    result : SweepResult
        The results.

    Returns
    -------
    pandas.DataFrame
        One row for each point.
    """
    needed("pandas", "frames")
    return arrow_table(result).to_pandas()


def polars_frame(result: SweepResult) -> Any:
    """Return results as a polars DataFrame; see :meth:`SweepResult.to_polars`.

    Parameters
    ----------
    result : SweepResult
        The results.

    Returns
    -------
    polars.DataFrame
        One row for each point.
    """
    return needed("polars", "frames").from_arrow(arrow_table(result))
