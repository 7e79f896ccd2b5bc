"""DataFrames as columns of plain values, and back: pandas and polars, dtypes kept.

A column is an array where NumPy has its dtype, else a list of Python values. What NumPy cannot say of a column
is kept as a *note*, which JSON can hold. Neither package is imported unless a frame of it is at hand or stored.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chunk_memo.errors import OutputError
from chunk_memo.identity import from_jsonable, to_jsonable

__all__ = ["Note", "columns_of", "common_note", "library_of", "make_frame"]

Note = dict[str, Any]
"""The ``library`` of a column, and its ``dtype`` where the values do not say it; JSON can hold it."""


def library_of(output: Any) -> str | None:
    """Return the library of a DataFrame, None for anything else.

    Parameters
    ----------
    output : object
        What a function returned.

    Returns
    -------
    {"pandas", "polars"} or None
        The library.
    """
    for library in ("pandas", "polars"):
        module = sys.modules.get(library)
        if module is not None and isinstance(output, getattr(module, "DataFrame", ())):
            return library
    return None


def columns_of(frame: Any) -> dict[Any, tuple[Any, Note]]:
    """Return the columns of a DataFrame.

    Parameters
    ----------
    frame : pandas.DataFrame or polars.DataFrame
        The frame.

    Returns
    -------
    dict of object to tuple of object, Note
        For each label the values (an array or a list) and the note.

    Raises
    ------
    OutputError
        Where labels repeat, rows are labelled, or a dtype would be lost.
    """
    labels = list(frame.columns)
    if not labels:
        raise OutputError("a DataFrame without columns holds no outputs; return one column at least")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise OutputError(f"the DataFrame has several columns {twice!r}; rename them, so that each is one")
    if library_of(frame) == "polars":
        return {label: _polars_column(frame[label]) for label in labels}
    _check_index(frame.index)
    return {_label(label): _pandas_column(label, frame[label]) for label in labels}


def common_note(notes: Sequence[Note]) -> Note:
    """Return the note of a column that several blocks hold.

    Parameters
    ----------
    notes : sequence of Note
        The notes of the blocks, at least one.

    Returns
    -------
    Note
        That of all of them; without a dtype where they differ.
    """
    first = notes[0]
    return first if all(note == first for note in notes) else {"library": first["library"]}


def make_frame(columns: Mapping[Any, tuple[Any, Note]]) -> Any:
    """Return the DataFrame that has these columns.

    Parameters
    ----------
    columns : mapping of object to tuple of object, Note
        For each label the values and the note, as :func:`columns_of` returns them.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame
        The frame; rows are numbered from 0.
    """
    libraries = {note["library"] for _, note in columns.values()}
    if libraries == {"polars"}:
        import polars

        return polars.DataFrame([_polars_series(label, *column) for label, column in columns.items()])
    import pandas

    return pandas.DataFrame({label: _pandas_series(*column) for label, column in columns.items()})


# --- pandas ------------------------------------------------------------------------------------------------


def _label(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _check_index(index: Any) -> None:
    """Refuse row labels, which would be lost; numbers without a name are what filtering leaves behind."""
    plain = index.nlevels == 1 and index.name is None
    if not (plain and isinstance(index.dtype, np.dtype) and index.dtype.kind in "iu"):
        raise OutputError(
            f"the DataFrame's rows are labelled by {type(index).__name__} {list(index.names)!r}, which would be"
            f" lost: rows are points; call reset_index() to make the labels columns"
        )


def _pandas_column(label: Any, series: Any) -> tuple[Any, Note]:
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return np.asarray(series), {"library": "pandas"}
    return series.to_list(), {"library": "pandas", "dtype": _pandas_dtype(label, dtype)}


def _pandas_dtype(label: Any, dtype: Any) -> Any:
    import pandas

    if isinstance(dtype, pandas.CategoricalDtype):
        return {"categories": to_jsonable(dtype.categories.to_list()), "ordered": bool(dtype.ordered)}
    try:
        if pandas.api.types.pandas_dtype(str(dtype)) == dtype:
            return str(dtype)
    except TypeError:  # not a name that pandas knows
        pass
    raise OutputError(
        f"column {label!r} of the DataFrame has the dtype {dtype}, which a chunk cannot keep; convert it with"
        f" astype(…)"
    )


def _pandas_series(values: Any, note: Note) -> Any:
    import pandas

    if isinstance(values, np.ndarray):
        return pandas.Series(values)
    dtype = note.get("dtype", "object")
    if isinstance(dtype, Mapping):
        dtype = pandas.CategoricalDtype(from_jsonable(dtype["categories"]), dtype["ordered"])
    return pandas.Series(values, dtype=dtype)


# --- polars ------------------------------------------------------------------------------------------------


def _polars_column(series: Any) -> tuple[Any, Note]:
    note = {"library": "polars", "dtype": _polars_dtype(series)}
    plain = series.to_physical() if series.dtype.is_temporal() else series
    if plain.null_count() == 0 and (plain.dtype.is_integer() or plain.dtype.is_float()):
        return plain.to_numpy(), note
    values = plain.to_list()
    if not _polars_series(series.name, values, note).equals(series, check_dtypes=True):
        raise OutputError(
            f"column {series.name!r} of the DataFrame has the dtype {series.dtype}, which a chunk cannot keep;"
            f" convert it with cast(…)"
        )
    return values, note


def _polars_dtype(series: Any) -> str:
    """Return a dtype as text: an empty stream in Arrow's format, which is exact."""
    stream = io.BytesIO()
    try:
        series.clear().to_frame("").write_ipc_stream(stream)
    except BaseException as error:  # polars' panics are no Exceptions
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise OutputError(
            f"column {series.name!r} of the DataFrame has the dtype {series.dtype}, which Arrow cannot hold;"
            f" convert it with cast(…)"
        ) from error
    return base64.b64encode(stream.getvalue()).decode()


def _polars_series(label: str, values: Any, note: Note) -> Any:
    import polars

    if "dtype" not in note:
        return polars.Series(label, values, strict=False)
    empty = polars.read_ipc_stream(base64.b64decode(note["dtype"])).to_series()
    if not empty.dtype.is_temporal():
        return polars.Series(label, values, dtype=empty.dtype)
    return polars.Series(label, values, dtype=empty.to_physical().dtype).cast(empty.dtype)
