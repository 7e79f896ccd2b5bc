"""Owns the encoding of tables and labelled arrays, by content: pandas, xarray, Arrow and polars.

None of these packages is imported before a value of its own has come. What counts is types,
labels, missing values and elements, not how a column is cut, offset or laid out in memory.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from chunk_memo.identity.arrays import encode_array
from chunk_memo.identity.containers import encode_list
from chunk_memo.identity.grammar import constant, leaf, record, simple, text
from chunk_memo.identity.walk import Encoder, Walk, encode, encode_at, encode_unknown, made_of

__all__ = ["TABLE_ENCODERS"]


def _pandas(value: Any, walk: Walk) -> bytes:
    import pandas as pd

    if type(value) is pd.DataFrame:
        columns = [_pandas_column(value.iloc[:, at].array, walk) for at in range(value.shape[1])]
        labels = [encode(index, walk) for index in (value.index, value.columns)]
        attrs = encode_at(value.attrs, walk, ".attrs")
        return record("pandas.DataFrame", [attrs, *labels, *columns])
    if type(value) is pd.Series:
        labels = [encode(part, walk) for part in (value.index, value.name)]
        attrs = encode_at(value.attrs, walk, ".attrs")
        return record("pandas.Series", [attrs, *labels, _pandas_column(value.array, walk)])
    if isinstance(value, pd.MultiIndex):
        levels = [encode(value.get_level_values(at), walk) for at in range(value.nlevels)]
        return record("pandas.MultiIndex", levels)
    if isinstance(value, pd.Index):
        freq = getattr(value, "freqstr", None)
        parts = [encode(value.name, walk), leaf(freq)]
        return record("pandas.Index", [*parts, _pandas_column(value.array, walk)])
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return record("pandas.array", [_pandas_column(value, walk)])
    return _pandas_scalar(value, walk)


def _pandas_column(array: Any, walk: Walk) -> bytes:
    """Return the dtype and the values of a pandas array of any kind."""
    import pandas as pd

    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        return record("column", [encode(np.asarray(array), walk)])
    name = [text(type(dtype).__name__), text(str(dtype))]
    if isinstance(dtype, pd.ArrowDtype):
        return record("column", [*name, _arrow_column(array.__arrow_array__(), walk)])
    if isinstance(dtype, pd.CategoricalDtype):
        parts = (array.codes.astype("int64"), array.categories, bool(array.ordered))
        return record("column", [name[0], *[encode(part, walk) for part in parts]])
    if isinstance(dtype, pd.DatetimeTZDtype):
        zone = encode(dtype.tz, walk)
        return record("column", [*name, zone, encode(pd.DatetimeIndex(array).asi8, walk)])
    if isinstance(dtype, pd.PeriodDtype):
        return record("column", [*name, encode(pd.PeriodIndex(array).asi8, walk)])
    if isinstance(dtype, pd.IntervalDtype):
        sides = [encode(side, walk) for side in (array.left, array.right)]
        return record("column", [*name, text(array.closed), *sides])
    values = np.empty(len(array), dtype=object)
    missing = np.asarray(pd.isna(array), dtype=bool)
    for at, item in enumerate(array):
        values[at] = item
    if dtype.na_value is pd.NA or isinstance(dtype, pd.StringDtype):
        values[missing & [item is dtype.na_value or item is pd.NA for item in values]] = None
    return record("column", [*name, encode_array(values, walk)])


def _pandas_scalar(value: Any, walk: Walk) -> bytes:
    import pandas as pd

    if value is pd.NaT or value is pd.NA:
        return constant(f"pandas.{'NaT' if value is pd.NaT else 'NA'}")
    if type(value) is pd.Timestamp:
        zone, offset = value.tzinfo, value.utcoffset()
        return made_of("pandas.Timestamp", walk, asm8=value.asm8, tzinfo=zone, offset=offset, fold=value.fold)
    if type(value) is pd.Timedelta:
        return record("pandas.Timedelta", [encode(value.asm8, walk)])
    if type(value) is pd.Period:
        return simple("pandas.Period", value.ordinal, value.freqstr)
    if type(value) is pd.Interval:
        left, right = value.left, value.right
        return made_of("pandas.Interval", walk, left=left, right=right, closed=value.closed)
    return encode_unknown(value, walk)


def _xarray(value: Any, walk: Walk) -> bytes:
    import xarray as xr

    if type(value) is xr.DataArray:
        coords = {name: coord.variable for name, coord in value.coords.items()}
        return made_of("xarray.DataArray", walk, name=value.name, variable=value.variable, coords=coords)
    if type(value) is xr.Dataset:
        names: Any = {*value.coords}
        named, attrs = dict(value.variables), dict(value.attrs)
        return made_of("xarray.Dataset", walk, variables=named, coords=names, attrs=attrs)
    if type(value) in (xr.Variable, xr.IndexVariable):
        attrs, data = dict(value.attrs), _xarray_data(value)
        return made_of("xarray.Variable", walk, dims=value.dims, attrs=attrs, data=data)
    return encode_unknown(value, walk)


def _xarray_data(variable: Any) -> Any:
    """Return a variable's elements; a foreign array (of pint, say) must identify itself."""
    data = variable.data
    foreign = type(data).__module__.partition(".")[0] not in ("numpy", "dask", "pandas", "xarray")
    return data if foreign else variable.values


def _pyarrow(value: Any, walk: Walk) -> bytes:
    import pyarrow as pa

    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [_arrow_column(column, walk) for column in value.columns]
        return record(f"pyarrow.{type(value).__name__}", [encode(value.schema, walk), *columns])
    if isinstance(value, pa.ChunkedArray | pa.Array):
        kind = "ChunkedArray" if isinstance(value, pa.ChunkedArray) else "Array"
        return record(f"pyarrow.{kind}", [_arrow_column(value, walk)])
    if isinstance(value, pa.Schema):
        fields = [encode(field, walk) for field in value]
        return record("pyarrow.Schema", [encode(value.metadata, walk), *fields])
    if isinstance(value, pa.Field):
        about = {"nullable": value.nullable, "metadata": value.metadata}
        return made_of("pyarrow.Field", walk, name=value.name, type=value.type, **about)
    if isinstance(value, pa.DataType):
        return simple("pyarrow.DataType", str(value))  # Arrow's own complete name of the type
    if isinstance(value, pa.Scalar):
        return record("pyarrow.Scalar", [_arrow_column(pa.array([value], value.type), walk)])
    return encode_unknown(value, walk)


def _arrow_column(column: Any, walk: Walk) -> bytes:
    """Return type, validity and values of an Arrow array, however it is cut and offset."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    kind = column.type
    parts = [text(str(kind)), encode_array(np.asarray(column.is_valid()), walk)]
    present = column.drop_null()
    if isinstance(column, pa.ExtensionArray):
        parts.append(_arrow_column(column.storage, walk))
    elif pa.types.is_dictionary(kind):
        parts.append(_arrow_column(column.dictionary_decode(), walk))
    elif pa.types.is_struct(kind):
        parts += [_arrow_column(child, walk) for child in column.flatten()]
    elif pa.types.is_map(kind):
        offsets = np.asarray(present.offsets)
        parts.append(encode_array(np.diff(offsets), walk))
        for child in (present.keys, present.items):
            parts.append(_arrow_column(child[int(offsets[0]) : int(offsets[-1])], walk))
    elif pa.types.is_fixed_size_list(kind):
        parts.append(_arrow_column(present.flatten(), walk))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts.append(encode_array(np.asarray(present.value_lengths()), walk))
        parts.append(_arrow_column(present.flatten(), walk))
    elif pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        parts.append(encode_array(np.asarray(present.view(f"int{kind.bit_width}")), walk))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        parts.append(encode_array(np.asarray(present), walk))
    else:
        parts.append(encode_list(present.to_pylist(), walk))
    return record("arrow", parts)


def _polars(value: Any, walk: Walk) -> bytes:
    import polars as pl

    if type(value) is pl.DataFrame:
        columns = [encode(column, walk) for column in value.get_columns()]
        return record("polars.DataFrame", [leaf(value.height), *columns])
    if type(value) is pl.Series:
        return record("polars.Series", [text(value.name), _polars_column(value, walk)])
    if isinstance(value, pl.DataType):
        return simple("polars.DataType", str(value))
    return encode_unknown(value, walk)


def _polars_column(series: Any, walk: Walk) -> bytes:
    """Return type, validity and values of a polars series; its lists would lose nanoseconds."""
    import polars as pl

    kind = series.dtype
    parts = [text(str(kind)), encode_array(series.is_not_null().to_numpy(), walk)]
    if isinstance(kind, pl.Struct):
        children = [series.struct.field(field.name) for field in kind.fields]
        parts += [encode(child, walk) for child in children]
    elif isinstance(kind, pl.List | pl.Array):
        if isinstance(kind, pl.List):
            parts.append(encode_array(series.drop_nulls().list.len().to_numpy(), walk))
        parts.append(_polars_column(series.drop_nulls().explode(), walk))
    elif kind == pl.Enum:
        parts += [encode(kind.categories.to_list(), walk), encode(series.to_list(), walk)]
    elif kind.is_temporal() or (kind.is_numeric() and kind != pl.Decimal):
        parts.append(encode_array(series.drop_nulls().to_physical().to_numpy(), walk))
    else:
        parts.append(encode(series.to_list(), walk))
    return record("column", parts)


TABLE_ENCODERS: Final[dict[str, Encoder]] = {
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "xarray": _xarray,
}
"""The encoder of what each package defines, by the package's name."""
