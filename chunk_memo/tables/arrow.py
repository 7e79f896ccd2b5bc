"""What a column of Python values or a NumPy array is in Arrow: one rule for caches, rows and params.

Arrow's own inference stands first, since it is quick; what it refuses is taken apart here. A table is for
reading and comparing, so every value finds a form: numbers of several kinds become one kind that holds all of
them, a complex number a struct of ``real`` and ``imag``, an array nested lists, and what has no form of its own a
text. Nothing is ever keyed on that text.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np

from chunk_memo.disk.classes import Record
from chunk_memo.errors import ColumnTypeError
from chunk_memo.tables.needs import needed

pa = needed("pyarrow")

__all__ = ["cast", "columns_of_array", "columns_of_values", "from_array", "from_values", "unite", "unite_schemas"]

Array = Any
"""A ``pyarrow.Array``."""

_COMPLEX = pa.struct([("real", pa.float64()), ("imag", pa.float64())])
_WIDE = pa.decimal128(38, 0)
_UNITS = {
    "Y": "s",
    "M": "s",
    "W": "s",
    "D": "s",
    "h": "s",
    "m": "s",
    "s": "s",
    "ms": "ms",
    "us": "us",
    "ns": "ns",
}
_FINE = ("ps", "fs", "as")


# --- values ------------------------------------------------------------------------------------------------


def columns_of_values(name: str, values: Sequence[Any]) -> dict[str, Array]:
    """Return the columns that a list of Python values makes: one, or one for each entry of dictionaries.

    Parameters
    ----------
    name : str
        What the column is called; entries are ``name.key``, or ``key`` where the name is empty.
    values : sequence
        The values; None stands for one that is not there.

    Returns
    -------
    dict of str to pyarrow.Array
        The columns, each as long as `values`.

    Examples
    --------
    >>> found = columns_of_values("", [{"loss": 0.5, "fit": {"steps": 3}}, {"loss": 0.25}])
    >>> {name: column.to_pylist() for name, column in found.items()}
    {'loss': [0.5, 0.25], 'fit.steps': [3, None]}
    """
    parts = [None if value is None else _entries(value) for value in values]
    there = [part for part in parts if part is not None]
    if not there or len(there) < sum(value is not None for value in values):
        return {name or "value": from_values(values)}
    found: dict[str, Array] = {}
    for key in dict.fromkeys(key for part in there for key in part):
        column = [None if part is None else part.get(key) for part in parts]
        label = f"{name}.{key}" if name else str(key)
        found.update(columns_of_values(label, column))
    return found


def _entries(value: Any) -> Mapping[str, Any] | None:
    """Return what a value holds by name, None where it is not such a one."""
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()} or None
    if isinstance(value, Record):
        return value.fields
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {str(key): entry for key, entry in zip(value._fields, value, strict=True)}
    return None


def from_values(values: Sequence[Any]) -> Array:
    """Return a list of Python values as one Arrow array.

    Parameters
    ----------
    values : sequence
        The values; None becomes null.

    Returns
    -------
    pyarrow.Array
        One entry for each value.
    """
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.generic | np.ndarray) and first.dtype.kind in "biufc":
        form = type(first), first.dtype, first.ndim
        if all(value is None or form == (type(value), value.dtype, value.ndim) for value in values):
            return pa.array([_plain(value) for value in values], _type_of(first))
    return _inferred([_plain(value) for value in values])


def _type_of(value: Any) -> Any:
    """Return the type of a NumPy scalar, or of an array as nested lists."""
    if value.ndim == 0:
        return from_array(np.asarray([value])).type
    return pa.list_(from_array(value).type)


def _inferred(plain: list[Any]) -> Array:
    kinds = {type(value) for value in plain if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return _numbers(plain)
    if len(kinds) <= 1 or kinds <= {list, dict}:
        try:
            return pa.array(plain)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
            pass
    if kinds <= {int}:
        return _integers(plain)
    if kinds == {list}:
        return _lists(plain)
    if kinds <= {int, float, decimal.Decimal}:
        return _numbers(plain)
    return pa.array([None if value is None else text_of(value) for value in plain], pa.string())


def _numbers(plain: list[Any]) -> Array:
    return pa.array([None if value is None else float(value) for value in plain], pa.float64())


def _integers(plain: list[Any]) -> Array:
    try:
        return pa.array([None if value is None else decimal.Decimal(value) for value in plain], _WIDE)
    except (pa.ArrowInvalid, decimal.InvalidOperation):
        return pa.array([None if value is None else str(value) for value in plain], pa.string())


def _lists(plain: list[Any]) -> Array:
    """Return lists whose members Arrow refused together, their members made alike."""
    members = _inferred([member for value in plain if value is not None for member in value])
    ends = np.cumsum([0, *(0 if value is None else len(value) for value in plain)])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), members)
    if any(value is None for value in plain):
        present = pa.array([None if value is None else at for at, value in enumerate(plain)], pa.int64())
        return lists.take(present)
    return lists


def text_of(value: Any) -> str:
    """Return a value as a text for people.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    str
        The text itself where it is one, else as Python shows it; without the characters that are no Unicode.
    """
    text = value if isinstance(value, str) else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


_AS_THEY_ARE = (
    bool,
    int,
    float,
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
)


def _plain(value: Any) -> Any:
    """Return a value as one of those that Arrow infers a type for; lists and dictionaries all through."""
    if value is None or type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, np.generic):
        return _plain_scalar(value)
    if isinstance(value, np.ndarray):
        return _plain(value[()]) if value.ndim == 0 else from_array(value).to_pylist()
    if isinstance(value, complex):
        return {"real": value.real, "imag": value.imag}
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Fraction | PurePath | range):
        return _plain(list(value)) if isinstance(value, range) else str(value)
    entries = _entries(value)
    if entries is not None:
        return {name: _plain(entry) for name, entry in entries.items()}
    if isinstance(value, Set):
        return sorted((_plain(member) for member in value), key=repr)
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if type(value).__module__.partition(".")[0] in ("pandas", "polars") and hasattr(value, "to_dict"):
        return _plain_frame(value)
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value))
    return text_of(value)


def _plain_scalar(value: Any) -> Any:
    if value.dtype.kind in "mM":
        return None if np.isnat(value) else from_array(np.asarray([value])).to_pylist()[0]
    item = value.item()
    return text_of(item) if isinstance(item, np.generic) else _plain(item)


def _plain_frame(value: Any) -> Any:
    if hasattr(value, "isoformat"):  # a timestamp of pandas
        return value.to_pydatetime(warn=False)
    rows = value.to_dict("records") if "pandas" in type(value).__module__ else value.to_dicts()
    return [_plain(row) for row in rows] if isinstance(rows, list) else text_of(value)


# --- arrays ------------------------------------------------------------------------------------------------


def columns_of_array(name: str, array: np.ndarray) -> dict[str, Array]:
    """Return the columns that an array makes whose leading axis runs over points.

    Parameters
    ----------
    name : str
        What the column is called.
    array : numpy.ndarray
        An array of shape (n, ...); records make a column for each field.

    Returns
    -------
    dict of str to pyarrow.Array
        The columns, each of length n.
    """
    if array.dtype.names is not None:
        found: dict[str, Array] = {}
        for field in array.dtype.names:
            found.update(columns_of_array(f"{name}.{field}" if name else field, array[field]))
        return found
    if array.dtype.kind == "O" and array.ndim == 1:
        return columns_of_values(name, array.tolist())
    return {name or "value": from_array(array)}


def from_array(array: np.ndarray) -> Array:
    """Return an array as an Arrow array whose entries run over its leading axis.

    Parameters
    ----------
    array : numpy.ndarray
        An array of shape (n, ...).

    Returns
    -------
    pyarrow.Array
        Numbers, or nested lists of them where there are further axes.

    Examples
    --------
    >>> from_array(np.zeros((2, 3), "float32")).type
    ListType(list<item: float>)
    """
    members = _from_flat(np.ascontiguousarray(array).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count, size = math.prod(array.shape[:axis]), array.shape[axis]
        ends = pa.array(np.arange(count + 1, dtype=np.int64) * size)
        large = size * count > 2**31 - 1
        members = (
            pa.LargeListArray.from_arrays(ends, members)
            if large
            else pa.ListArray.from_arrays(ends.cast(pa.int32()), members)
        )
    return members


def _from_flat(flat: np.ndarray) -> Array:
    kind = flat.dtype.kind
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    if kind in "biu":
        return pa.array(flat)
    if kind == "f":
        return pa.array(flat.astype(np.float32 if flat.itemsize <= 4 else np.float64, copy=False))
    if kind == "c":
        parts = [pa.array(np.ascontiguousarray(part).astype(np.float64)) for part in (flat.real, flat.imag)]
        return pa.StructArray.from_arrays(parts, names=["real", "imag"])
    if kind in "mM":
        return _from_times(flat)
    if flat.dtype.names is not None:
        return pa.StructArray.from_arrays([from_array(flat[n]) for n in flat.dtype.names], list(flat.dtype.names))
    return from_values(flat.tolist())


def _from_times(flat: np.ndarray) -> Array:
    unit, step = np.datetime_data(flat.dtype)
    if flat.dtype.kind == "M" and unit == "D" and step == 1:
        return pa.array(flat)
    wanted = "ns" if unit in _FINE else _UNITS.get(unit)
    if wanted is None:  # NaT of no unit
        return pa.nulls(len(flat))
    if flat.dtype.kind == "m" and unit in ("Y", "M"):
        return pa.array(flat.astype(np.int64))
    return pa.array(flat.astype(f"{flat.dtype.kind}8[{wanted}]"))


# --- types -------------------------------------------------------------------------------------------------


def unite(one: Any, other: Any) -> Any:
    """Return the type that holds the values of two.

    Parameters
    ----------
    one, other : pyarrow.DataType
        The types.

    Returns
    -------
    pyarrow.DataType
        One of them, a wider number, lists and structs of such; text where nothing else holds both.

    Examples
    --------
    >>> unite(pa.int64(), pa.float32()), unite(pa.int64(), pa.string())
    (DataType(double), DataType(string))
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(unite(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        schemas = [pa.schema(list(each)) for each in (one, other)]
        return pa.struct(list(unite_schemas(schemas)))
    if _is_number(one) and _is_number(other):
        return _wider(one, other)
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz == other.tz:
        return max((one, other), key=lambda each: ("s", "ms", "us", "ns").index(each.unit))
    return pa.string()


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _wider(one: Any, other: Any) -> Any:
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        if pa.types.is_signed_integer(one) == pa.types.is_signed_integer(other):
            return max((one, other), key=lambda each: each.bit_width)
        return _WIDE if pa.uint64() in (one, other) else pa.int64()
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return max((one, other), key=lambda each: each.bit_width)
    if not (pa.types.is_floating(one) or pa.types.is_floating(other)):
        return _WIDE if _WIDE in (one, other) else pa.float64()
    return pa.float64()


def unite_schemas(schemas: Iterable[Any]) -> Any:
    """Return the schema that has the columns of several, in the order in which they first occur.

    Parameters
    ----------
    schemas : iterable of pyarrow.Schema
        The schemas.

    Returns
    -------
    pyarrow.Schema
        Each column with a type that holds its values in all of them.
    """
    types: dict[str, Any] = {}
    for schema in schemas:
        for field in schema:
            types[field.name] = unite(types[field.name], field.type) if field.name in types else field.type
    return pa.schema(list(types.items()))


def cast(array: Array, wanted: Any, name: str) -> Array:
    """Return an array in a type that holds its values.

    Parameters
    ----------
    array : pyarrow.Array
        The array.
    wanted : pyarrow.DataType
        The type.
    name : str
        What the column is called, for messages.

    Returns
    -------
    pyarrow.Array
        The array.

    Raises
    ------
    ColumnTypeError
        Where the type does not hold them.
    """
    if array.type == wanted:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), wanted)
    if unite(array.type, wanted) != wanted:
        raise ColumnTypeError(
            f"column {name!r} holds {array.type} here and {wanted} in what was looked at before; take the batches"
            f" one by one with tidy_batches(cache), or return values of one type from every call"
        )
    if pa.types.is_string(wanted):
        return pa.array([None if value is None else text_of(value) for value in array.to_pylist()], wanted)
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid:  # integers that a float does not hold exactly
        return array.cast(wanted, safe=False)
    except pa.ArrowNotImplementedError:
        return pa.array(array.to_pylist(), wanted)
