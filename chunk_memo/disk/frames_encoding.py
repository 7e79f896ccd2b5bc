"""Owns tables as outputs: pandas, polars, pyarrow and xarray objects <-> plain values.

pandas and xarray objects become dictionaries of their columns, dtypes, labels and attributes, so
that tables of one form share columns across outputs; polars and pyarrow objects become the bytes
of the Arrow stream format, which is exact for them. An object that these forms do not cover
exactly, such as a sparse column or an index of one's own class, raises `NoExactForm`.

None of the packages is imported unless an object of it is at hand or stored. What is not kept:
the ``encoding`` of xarray variables, laziness (Dask arrays are computed), the memory layout.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from chunk_memo.disk.columns import NoExactForm
from chunk_memo.disk.converters import Converter

__all__ = ["table_converter_for_type", "table_converter_of_kind"]


def table_converter_for_type(klass: type) -> Converter | None:
    """Return the converter of tables of exactly this type, if there is one.

    Parameters
    ----------
    klass : type
        The type.

    Returns
    -------
    Converter or None
        The converter.
    """
    package = klass.__module__.partition(".")[0]
    if package not in _PACKAGES:
        return None
    return next((c for known, c in _PACKAGES[package]().items() if known is klass), None)


def table_converter_of_kind(kind: str) -> Converter | None:
    """Return the converter that tables of this kind were stored with, if there is one.

    Parameters
    ----------
    kind : str
        The kind, from a node.

    Returns
    -------
    Converter or None
        The converter.

    Raises
    ------
    ImportError
        If the package of that kind is not installed.
    """
    package = kind.partition(".")[0]
    if package not in _PACKAGES:
        return None
    return next((c for c in _PACKAGES[package]().values() if c.kind == kind), None)


# --- pandas --------------------------------------------------------------------------------------


@functools.cache
def _pandas() -> dict[type, Converter]:
    import pandas as pd

    indexes = [
        pd.Index,
        pd.RangeIndex,
        pd.MultiIndex,
        pd.CategoricalIndex,
        pd.DatetimeIndex,
        pd.TimedeltaIndex,
        pd.PeriodIndex,
        pd.IntervalIndex,
    ]
    return {
        pd.DataFrame: Converter("pandas.frame", _frame_plain, _frame_restore),
        pd.Series: Converter("pandas.series", _series_plain, _series_restore),
        **{cls: Converter("pandas.index", _index_plain, _index_restore) for cls in indexes},
        pd.Categorical: Converter("pandas.array", _cells_plain, _cells_restore),
        pd.Timestamp: Converter("pandas.timestamp", _timestamp_plain, _timestamp_restore),
        pd.Timedelta: Converter("pandas.timedelta", _timedelta_plain, pd.Timedelta),
        type(pd.NA): Converter("pandas.na", lambda _: None, lambda _: pd.NA),
        type(pd.NaT): Converter("pandas.nat", lambda _: None, lambda _: pd.NaT),
    }


def _frame_plain(frame: Any) -> Any:
    cells: Any = tuple(_cells_plain(frame.iloc[:, n].array) for n in range(frame.shape[1]))
    labels = list(frame.columns)
    if labels and set(map(type, labels)) == {str} and len(set(labels)) == len(labels):
        cells = dict(zip(labels, cells, strict=True))
    return {
        "columns": _index_plain(frame.columns),
        "index": _index_plain(frame.index),
        "cells": cells,
        "attrs": dict(frame.attrs),
        "duplicates": frame.flags.allows_duplicate_labels,
    }


def _frame_restore(plain: Any) -> Any:
    import pandas as pd

    cells = plain["cells"]
    index = _index_restore(plain["index"])
    columns = cells.values() if isinstance(cells, dict) else cells
    frame = pd.DataFrame(
        {n: _series(_cells_restore(column), index) for n, column in enumerate(columns)},
        index=index,
    )
    frame.columns = _index_restore(plain["columns"])
    return _with_flags(frame, plain)


def _series_plain(series: Any) -> Any:
    return {
        "index": _index_plain(series.index),
        "cells": _cells_plain(series.array),
        "name": series.name,
        "attrs": dict(series.attrs),
        "duplicates": series.flags.allows_duplicate_labels,
    }


def _series_restore(plain: Any) -> Any:
    series = _series(_cells_restore(plain["cells"]), _index_restore(plain["index"]))
    series.name = plain["name"]
    return _with_flags(series, plain)


def _series(cells: Any, index: Any) -> Any:
    import pandas as pd

    return pd.Series(cells, index=index, dtype=cells.dtype)  # else pandas infers a dtype


def _with_flags(table: Any, plain: Any) -> Any:
    table.attrs.update(plain["attrs"])
    if not plain["duplicates"]:
        table.flags.allows_duplicate_labels = False
    return table


def _index_plain(index: Any) -> Any:
    import pandas as pd

    if type(index) is pd.RangeIndex:
        return {"range": (index.start, index.stop, index.step), "name": index.name}
    if type(index) is pd.MultiIndex:
        return {
            "levels": tuple(map(_index_plain, index.levels)),
            "codes": tuple(np.asarray(codes) for codes in index.codes),
            "names": tuple(index.names),
        }
    if type(index) not in _pandas():
        raise NoExactForm(f"its index is a {type(index).__name__}")
    timed = isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex)
    return {
        "cells": _cells_plain(index.array),
        "name": index.name,
        "freq": index.freq.freqstr if timed and index.freq is not None else None,
    }


def _index_restore(plain: Any) -> Any:
    import pandas as pd

    if "range" in plain:
        return pd.RangeIndex(*plain["range"], name=plain["name"])
    if "levels" in plain:
        levels = list(map(_index_restore, plain["levels"]))
        return pd.MultiIndex(levels=levels, codes=plain["codes"], names=plain["names"])
    cells = _cells_restore(plain["cells"])
    index = pd.Index(cells, dtype=cells.dtype, name=plain["name"])
    if plain["freq"] is not None:
        index.freq = plain["freq"]
    return index


def _cells_plain(cells: Any) -> Any:
    """Return the cells of one column or index, which come as a pandas array."""
    import pandas as pd

    dtype = cells.dtype
    if isinstance(dtype, np.dtype) or type(cells) is pd.arrays.NumpyExtensionArray:
        return {"numpy": np.asarray(cells)}
    for cls, (plain, _) in _pandas_dtypes().items():
        if type(dtype) is cls:
            found = {"dtype": cls.__name__, **plain(cells)}
            return found
    if isinstance(dtype, pd.ArrowDtype):
        return {"dtype": "ArrowDtype", "arrow": cells.__arrow_array__()}
    raise NoExactForm(f"it has a column of dtype {dtype}")


def _cells_restore(plain: Any) -> Any:
    import pandas as pd

    if "numpy" in plain:
        return plain["numpy"]
    if plain["dtype"] == "ArrowDtype":
        return pd.arrays.ArrowExtensionArray(plain["arrow"])
    forms = {cls.__name__: restore for cls, (_, restore) in _pandas_dtypes().items()}
    return forms[plain["dtype"]](plain)


_PandasForm = tuple[Callable[[Any], Any], Callable[[Any], Any]]


@functools.cache
def _pandas_dtypes() -> dict[type, _PandasForm]:
    import pandas as pd

    sizes = ("8", "16", "32", "64")
    whole = [getattr(pd, f"{sign}Int{n}Dtype") for sign in ("", "U") for n in sizes]
    masked: dict[Any, _PandasForm] = {
        **{cls: (_masked_plain, _masked(pd.arrays.IntegerArray)) for cls in whole},
        pd.Float32Dtype: (_masked_plain, _masked(pd.arrays.FloatingArray)),
        pd.Float64Dtype: (_masked_plain, _masked(pd.arrays.FloatingArray)),
        pd.BooleanDtype: (_masked_plain, _masked(pd.arrays.BooleanArray)),
    }
    return {
        **masked,
        pd.StringDtype: (_strings_plain, _strings_restore),
        pd.CategoricalDtype: (_categories_plain, _categories_restore),
        pd.DatetimeTZDtype: (_zoned_plain, _zoned_restore),
        pd.PeriodDtype: (_periods_plain, _periods_restore),
        pd.IntervalDtype: (_intervals_plain, _intervals_restore),
    }


def _masked_plain(cells: Any) -> Any:
    dtype = cells.dtype.numpy_dtype
    return {"data": cells.to_numpy(dtype=dtype, na_value=dtype.type(0)), "mask": cells.isna()}


def _masked(cls: Any) -> Callable[[Any], Any]:
    return lambda plain: cls(plain["data"], plain["mask"])


def _strings_plain(cells: Any) -> Any:
    missing = getattr(cells.dtype, "na_value", None)
    texts = [None if gap else text for text, gap in zip(cells, cells.isna(), strict=True)]
    return {"storage": cells.dtype.storage, "nan": isinstance(missing, float), "texts": texts}


def _strings_restore(plain: Any) -> Any:
    import pandas as pd

    more: dict[str, Any] = {"na_value": np.nan} if plain["nan"] else {}
    return pd.array(plain["texts"], dtype=pd.StringDtype(plain["storage"], **more))


def _categories_plain(cells: Any) -> Any:
    categories = _index_plain(cells.categories)
    return {"codes": np.asarray(cells.codes), "categories": categories, "ordered": cells.ordered}


def _categories_restore(plain: Any) -> Any:
    import pandas as pd

    dtype = pd.CategoricalDtype(_index_restore(plain["categories"]), plain["ordered"])
    return pd.Categorical.from_codes(plain["codes"], dtype=dtype)


def _zoned_plain(cells: Any) -> Any:
    return {"utc": np.asarray(cells, f"M8[{cells.dtype.unit}]"), "zone": cells.dtype.tz}


def _zoned_restore(plain: Any) -> Any:
    import pandas as pd

    return pd.DatetimeIndex(plain["utc"]).tz_localize("UTC").tz_convert(plain["zone"]).array


def _periods_plain(cells: Any) -> Any:
    return {"ordinals": np.asarray(cells.asi8), "period": str(cells.dtype)}


def _periods_restore(plain: Any) -> Any:
    import pandas as pd

    dtype = pd.PeriodDtype.construct_from_string(plain["period"])
    return pd.arrays.PeriodArray(plain["ordinals"], dtype=dtype)


def _intervals_plain(cells: Any) -> Any:
    left, right = _index_plain(cells.left), _index_plain(cells.right)
    return {"left": left, "right": right, "closed": cells.closed}


def _intervals_restore(plain: Any) -> Any:
    import pandas as pd

    left, right = _index_restore(plain["left"]), _index_restore(plain["right"])
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=plain["closed"])


def _timestamp_plain(stamp: Any) -> Any:
    return {
        "utc": stamp.tz_convert(None).to_datetime64() if stamp.tz else stamp.to_datetime64(),
        "zone": stamp.tz,
        "fold": stamp.fold,
    }


def _timestamp_restore(plain: Any) -> Any:
    import pandas as pd

    stamp = pd.Timestamp(plain["utc"])
    if plain["zone"] is None:
        return stamp.replace(fold=plain["fold"]) if plain["fold"] else stamp
    return stamp.tz_localize("UTC").tz_convert(plain["zone"])


def _timedelta_plain(delta: Any) -> Any:
    return delta.to_timedelta64()


# --- polars and pyarrow --------------------------------------------------------------------------


@functools.cache
def _polars() -> dict[type, Converter]:
    import polars as pl

    return {
        pl.DataFrame: Converter("polars.frame", _polars_plain, _polars_restore),
        pl.Series: Converter(
            "polars.series",
            lambda series: _polars_plain(series.to_frame()),
            lambda data: _polars_restore(data).to_series(),
        ),
    }


def _polars_plain(frame: Any) -> bytes:
    stream = io.BytesIO()
    try:
        frame.write_ipc_stream(stream)
    except BaseException as error:  # polars' panics are no Exceptions
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise NoExactForm(f"Arrow cannot hold it: {error}") from error
    return stream.getvalue()


def _polars_restore(data: bytes) -> Any:
    import polars as pl

    try:
        return pl.read_ipc_stream(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"no Arrow stream: {error}") from error


@functools.cache
def _pyarrow() -> dict[type, Converter]:
    import pyarrow as pa

    arrays = {type(pa.array([], kind)) for kind in _arrow_types(pa)}
    return {
        pa.Table: Converter("pyarrow.table", _arrow_plain, _arrow_table),
        pa.RecordBatch: Converter("pyarrow.batch", _arrow_batch_plain, _arrow_batch),
        pa.ChunkedArray: Converter("pyarrow.chunked", _arrow_chunked_plain, _arrow_chunked),
        **{cls: Converter("pyarrow.array", _arrow_array_plain, _arrow_array) for cls in arrays},
    }


def _arrow_types(pa: Any) -> list[Any]:
    simple = "null bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    dated = "date32 date64 string large_string binary large_binary"
    made = [getattr(pa, name)() for name in f"{simple} {dated}".split()]
    nested = [pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.struct([]), pa.list_(pa.int8(), 1)]
    timed = [pa.timestamp("us"), pa.duration("us"), pa.time32("s"), pa.time64("us")]
    other = [pa.decimal128(4), pa.binary(2), pa.map_(pa.int8(), pa.int8())]
    return [*made, *nested, *timed, *other, pa.dictionary(pa.int8(), pa.string())]


def _arrow_plain(table: Any) -> bytes:
    import pyarrow as pa

    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write(table)
    return stream.getvalue()


def _arrow_table(data: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    table.validate(full=True)  # else a bad offset would be found by the first reader, as a crash
    return table


def _arrow_batch_plain(batch: Any) -> bytes:
    import pyarrow as pa

    return _arrow_plain(pa.Table.from_batches([batch]))


def _arrow_batch(data: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
    (batch,) = batches or [pa.RecordBatch.from_pylist([], schema=reader.schema)]
    batch.validate(full=True)
    return batch


def _arrow_chunked_plain(chunked: Any) -> bytes:
    import pyarrow as pa

    return _arrow_plain(pa.table([chunked], names=["value"]))


def _arrow_chunked(data: bytes) -> Any:
    return _arrow_table(data).column(0)


def _arrow_array_plain(array: Any) -> bytes:
    import pyarrow as pa

    return _arrow_batch_plain(pa.record_batch([array], names=["value"]))


def _arrow_array(data: bytes) -> Any:
    return _arrow_batch(data).column(0)


# --- xarray --------------------------------------------------------------------------------------


@functools.cache
def _xarray() -> dict[type, Converter]:
    import xarray as xr

    return {
        xr.Variable: Converter("xarray.variable", _variable_plain, _variable_restore),
        xr.DataArray: Converter("xarray.array", _data_array_plain, _data_array_restore),
        xr.Dataset: Converter("xarray.dataset", _dataset_plain, _dataset_restore),
    }


def _variable_plain(variable: Any) -> Any:
    data = variable.data
    package = type(data).__module__.partition(".")[0]
    if type(data) is not np.ndarray and package != "dask":
        raise NoExactForm(f"it holds data of type {type(data).__name__}")
    attrs = dict(variable.attrs)
    return {"dims": tuple(variable.dims), "data": np.asarray(data), "attrs": attrs}


def _variable_restore(plain: Any) -> Any:
    import xarray as xr

    return xr.Variable(plain["dims"], plain["data"], plain["attrs"])


def _dataset_plain(dataset: Any) -> Any:
    import xarray as xr

    multi: dict[Hashable, Any] = {}
    levels: set[Hashable] = set()
    for index, coords in dataset.xindexes.group_by_index():
        if type(index) is xr.indexes.PandasMultiIndex:
            multi[index.dim] = index.index
            levels |= set(coords)
        elif type(index) is not xr.indexes.PandasIndex or list(coords) != [index.dim]:
            raise NoExactForm(f"it has an index of type {type(index).__name__}")
    attrs = {name: dict(dataset[name].attrs) for name in levels if dataset[name].attrs}
    return {
        "values": {n: _variable_plain(v.variable) for n, v in dataset.data_vars.items()},
        "coords": {n: _variable_plain(v.variable) for n, v in dataset.coords.items() if n not in levels},
        "indexed": [n for n in dataset.xindexes if n not in levels],
        "multi": multi,
        "multi_attrs": attrs,
        "attrs": dict(dataset.attrs),
    }


def _dataset_restore(plain: Any) -> Any:
    import xarray as xr

    coords = {name: _variable_restore(value) for name, value in plain["coords"].items()}
    values = {name: _variable_restore(value) for name, value in plain["values"].items()}
    dataset = xr.Dataset(values, coords, plain["attrs"])
    for dim, index in plain["multi"].items():
        dataset = dataset.assign_coords(xr.Coordinates.from_pandas_multiindex(index, dim))
    for name, attrs in plain["multi_attrs"].items():
        dataset[name].attrs.update(attrs)
    bare = [name for name in dataset.xindexes if name in coords and name not in plain["indexed"]]
    return dataset.drop_indexes(bare) if bare else dataset


_TEMPORARY = "<chunk_memo array>"


def _data_array_plain(array: Any) -> Any:
    return {"name": array.name, "dataset": _dataset_plain(array.to_dataset(name=_TEMPORARY))}


def _data_array_restore(plain: Any) -> Any:
    return _dataset_restore(plain["dataset"])[_TEMPORARY].rename(plain["name"])


_PACKAGES: dict[str, Callable[[], dict[type, Converter]]] = {
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "xarray": _xarray,
}
