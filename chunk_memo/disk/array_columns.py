"""Owns columns of NumPy arrays and NumPy scalars, with their exact dtypes.

Arrays of one dtype and shape are stacked, so that one array of shape (n, ...) holds them all; of
one dtype and several shapes they lie end to end. Plain numbers are stored as they are. Unicode
becomes UTF-8 bytes and structured types with members that HDF5 lacks become rows of bytes, both
with a form in the node that says what they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from chunk_memo.disk.columns import (
    ColumnDecoder,
    ColumnEncoder,
    ColumnReader,
    ColumnWriter,
    Node,
    NoExactForm,
    narrow,
    text_of,
)
from chunk_memo.errors import ChunkFormatError

__all__ = [
    "ARRAY_DECODERS",
    "SCALAR_ENCODERS",
    "array_form",
    "encode_arrays",
    "restore_array",
    "store_array",
]

_DTYPE = re.compile(r"[<>|][biufcSUV]\d+|[<>][mM]8(\[\d*[a-zA-Z]+\])?")


def _describe(dtype: np.dtype) -> Any:
    """Return a JSON-able description of a dtype, without loss."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base), list(shape)]
    if dtype.fields is None:
        if not _DTYPE.fullmatch(dtype.str):
            raise NoExactForm(f"its dtype {dtype} cannot be stored")
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names or ()]
    titles = [field[2] if len(field) > 2 else None for field in fields]
    if any(title is not None and type(title) is not str for title in titles):
        raise NoExactForm(f"its dtype {dtype} has titles that are not strings")
    return {
        "names": list(dtype.names or ()),
        "formats": [_describe(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": titles,
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
        "record": dtype.type is np.record,
    }


def _described(form: Any) -> np.dtype:
    """Return the dtype that a description stands for; never one that holds objects."""
    if isinstance(form, str):
        if not _DTYPE.fullmatch(form):
            raise ChunkFormatError(f"'dtype': expected a fixed-size dtype, got {form!r}")
        return np.dtype(form)
    if isinstance(form, list):
        base, shape = form
        return np.dtype((_described(base), tuple(shape)))
    fields: Any = {
        "names": form["names"],
        "formats": list(map(_described, form["formats"])),
        "offsets": form["offsets"],
        "itemsize": form["itemsize"],
    }
    if any(title is not None for title in form["titles"]):
        fields["titles"] = form["titles"]
    dtype = np.dtype(fields, align=form["aligned"])
    return np.dtype((np.record, dtype)) if form["record"] else dtype


def _field_names(dtype: np.dtype) -> Iterator[str]:
    """Iterate over the names of a structured dtype's fields, and of those inside."""
    for name in dtype.base.names or ():
        yield name
        yield from _field_names(dtype.base[name])


def _leaf_dtypes(dtype: np.dtype) -> Iterable[np.dtype]:
    if dtype.subdtype is not None:
        yield from _leaf_dtypes(dtype.base)
    elif dtype.fields is not None:
        for field in dtype.fields.values():
            yield from _leaf_dtypes(field[0])
    else:
        yield dtype


def store_array(array: np.ndarray) -> tuple[Node, np.ndarray]:
    """Turn an array into one that a chunk file can hold.

    Parameters
    ----------
    array : numpy.ndarray
        An array of at least one dimension and any dtype but object.

    Returns
    -------
    form : dict
        What `restore_array` needs beside the stored array; empty for plain numbers.
    stored : numpy.ndarray
        The array to store; its leading axes are those of `array`.

    Raises
    ------
    NoExactForm
        If the dtype has no exact form.
    """
    dtype = array.dtype
    if dtype.type.__module__ != "numpy" or dtype.hasobject or dtype.itemsize == 0:
        raise NoExactForm(f"its dtype {dtype} cannot be stored")
    if dtype.kind in "biufcmMS":
        return {}, array
    if dtype.kind == "U":
        return _store_unicode(array)
    form = {"dtype": _describe(dtype)}
    leaves = all(leaf.kind in "biufcS" and leaf.itemsize for leaf in _leaf_dtypes(dtype))
    if leaves and not any("\0" in name for name in _field_names(dtype)):  # where HDF5 would cut the name off
        return form, array.view(np.dtype((np.void, dtype)))
    return {**form, "raw": True}, _raw_bytes(array)


def _store_unicode(array: np.ndarray) -> tuple[Node, np.ndarray]:
    width = array.dtype.itemsize // 4
    form: Node = {} if array.dtype.isnative else {"order": array.dtype.str[0]}
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    points = native.reshape(-1).view(np.uint32).reshape(*array.shape, width)
    if not points.size or points.max() < 128:
        # Not by astype("S"), which looks at each string by itself and takes fifty times as long.
        stored = points.astype(np.uint8).reshape(-1).view(f"S{width}").reshape(array.shape)
        return {"text": "ascii", **form}, stored
    try:
        stored = np.char.encode(native, "utf-8")
    except UnicodeEncodeError:
        return {"text": "ucs4", **form}, points
    return {"text": "utf-8", "width": width, **form}, stored.astype(f"S{max(width, stored.dtype.itemsize)}")


def _restore_unicode(form: Node, stored: np.ndarray) -> np.ndarray:
    if form["text"] == "ucs4":
        if stored.dtype.kind != "u" or stored.ndim < 2 or stored.shape[-1] == 0:
            raise ChunkFormatError("text: expected code points")
        width = stored.shape[-1]
        points = np.ascontiguousarray(stored, np.uint32)
        array = points.reshape(-1).view(f"U{width}").reshape(stored.shape[:-1])
    else:
        if stored.dtype.kind != "S":
            raise ChunkFormatError(f"text: expected bytes, got dtype {stored.dtype}")
        array = text_of(stored)
        if "width" in form:
            array = array.astype(_with_width(array.dtype, 4 * form["width"]))
    return array.astype(array.dtype.newbyteorder(form.get("order", "=")), copy=False)


def _raw_bytes(array: np.ndarray) -> np.ndarray:
    data = np.frombuffer(array.tobytes(), np.uint8)
    return data.reshape(*array.shape, array.dtype.itemsize)


def restore_array(form: Node, stored: np.ndarray) -> np.ndarray:
    """Return the array that `store_array` was given.

    Parameters
    ----------
    form : dict
        The form from `store_array`.
    stored : numpy.ndarray
        The stored array, or some of its rows.

    Returns
    -------
    numpy.ndarray
        The array with its exact dtype; possibly `stored` itself.

    Raises
    ------
    ChunkFormatError
        If the two do not fit together.
    """
    if "text" in form:
        return _restore_unicode(form, stored)
    if "dtype" not in form:
        if stored.dtype.kind not in "biufcmMS":
            raise ChunkFormatError(f"array: expected plain numbers, got dtype {stored.dtype}")
        return stored
    dtype = _described(form["dtype"])
    if "raw" in form:
        if stored.dtype != np.uint8 or stored.ndim < 2 or stored.shape[-1] != dtype.itemsize:
            raise ChunkFormatError(f"array: expected rows of {dtype.itemsize} bytes")
        return np.frombuffer(stored.tobytes(), dtype).reshape(stored.shape[:-1])
    if stored.dtype.kind != "V" or stored.dtype.itemsize != dtype.itemsize:
        raise ChunkFormatError(f"array: expected the dtype {dtype}, got {stored.dtype}")
    return stored.view(dtype)


def array_form(array: np.ndarray) -> tuple[Any, ...]:
    """Return what arrays of one column must have in common, widths of strings aside.

    Parameters
    ----------
    array : numpy.ndarray
        The array.

    Returns
    -------
    tuple
        A hashable key.
    """
    dtype = array.dtype
    if dtype.kind in "SU":
        return dtype.kind, dtype.isnative, array.ndim
    # str() keeps apart what == does not, such as field titles; dtype itself what str() does not.
    return dtype, str(dtype), array.ndim


def encode_arrays(writer: ColumnWriter, values: list[np.ndarray], path: str) -> Node:
    """Encode arrays of one `array_form`: stacked where their shapes agree, else end to end.

    Parameters
    ----------
    writer : ColumnWriter
        Where the arrays go.
    values : list of numpy.ndarray
        The arrays.
    path : str
        Where the column stands inside the outputs.

    Returns
    -------
    dict
        The node.
    """
    first = values[0]
    widths = {value.dtype.itemsize for value in values}
    if len(widths) == 1 and all(value.shape == first.shape for value in values):
        stacked = np.zeros((len(values), *first.shape), first.dtype)
        if first.ndim:  # four times as fast as stack, which needs a view of each array
            rows = len(values) * first.shape[0]
            np.concatenate(values, out=stacked.reshape(rows, *first.shape[1:]))
        else:
            np.stack(values, out=stacked)
        form, stored = store_array(stacked)
        return {"k": "array", **form, "a": writer.put(path, stored)}
    dtype = max((value.dtype for value in values), key=lambda dtype: dtype.itemsize)
    ends = np.cumsum([value.size for value in values])
    data = np.zeros(int(ends[-1]), dtype)
    for value, end in zip(values, ends.tolist(), strict=True):
        data[end - value.size : end] = value.ravel()
    form, stored = store_array(data)
    name = writer.put(path, stored)
    writer.loose.add(name)
    node = {"k": "ragged", **form, "a": name}
    shapes = np.array([value.shape for value in values], np.int64)
    node["shapes"] = writer.put(path, narrow(shapes), ".shapes")
    if len(widths) > 1:
        sizes = np.array([value.dtype.itemsize for value in values], np.int64)
        node["widths"] = writer.put(path, narrow(sizes), ".widths")
    return node


def _decode_arrays(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    """Decode stacked arrays; each may be written to without touching the others.

    Parameters
    ----------
    reader : ColumnReader
        Where the arrays come from.
    node : dict
        The node.
    count : int
        How many arrays there are.

    Returns
    -------
    list of numpy.ndarray
        The arrays.
    """
    stacked = restore_array(node, reader.take(node["a"], count, "biufcmMSV", None)).copy()
    return [stacked[row, ...] for row in range(count)]


def _decode_ragged(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    shapes = reader.take(node["shapes"], count, "iu", 2).tolist()
    stored = reader.arrays.get(node["a"])
    if not isinstance(stored, np.ndarray) or stored.ndim < 1:
        raise ChunkFormatError(f"{node['a']!r}: expected an array of this name")
    data = restore_array(node, stored)
    widths = reader.take(node["widths"], count, "iu").tolist() if "widths" in node else None
    arrays, start = [], 0
    for row, shape in enumerate(shapes):
        end = start + _size(shape)
        array = data[start:end].reshape(shape)
        if widths is not None:
            array = array.astype(_with_width(data.dtype, widths[row]))
        arrays.append(array.copy())
        start = end
    if start != len(data):
        raise ChunkFormatError(f"{node['a']!r}: expected {start} elements, got {len(data)}")
    return arrays


def _with_width(dtype: np.dtype, itemsize: int) -> np.dtype:
    if not 0 < itemsize <= dtype.itemsize or dtype.kind not in "SU":
        raise ChunkFormatError(f"'widths': expected at most {dtype.itemsize}, got {itemsize}")
    width = itemsize if dtype.kind == "S" else itemsize // 4
    return np.dtype(f"{dtype.str[0]}{dtype.kind}{width}")


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        if length < 0:
            raise ChunkFormatError(f"'shapes': expected lengths from 0, got {length}")
        size *= length
    return size


def _encode_numpy_scalars(writer: ColumnWriter, values: list[np.generic], path: str) -> Node:
    array = np.zeros(len(values), values[0].dtype)
    array[:] = values
    form, stored = store_array(array)
    return {"k": "scalar", **form, "a": writer.put(path, stored)}


def _decode_numpy_scalars(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    array = restore_array(node, reader.take(node["a"], count, "biufcmMVu", None))
    if array.ndim != 1 or array.dtype.kind == "S":
        raise ChunkFormatError(f"{node['a']!r}: expected numbers, got dtype {array.dtype}")
    # Items of a structured array are views, so they must not share memory with the file's buffer.
    return list(array.copy())


# --- the tables ----------------------------------------------------------------------------------

_NUMPY_SCALARS = [
    *(np.dtype(code).type for code in "?bhilqBHILQefdgFDG"),
    np.datetime64,
    np.timedelta64,
    np.void,
    np.record,
]

SCALAR_ENCODERS: dict[type, ColumnEncoder] = dict.fromkeys(_NUMPY_SCALARS, _encode_numpy_scalars)
"""Encoders of columns of NumPy scalars of one dtype, by their exact type."""

ARRAY_DECODERS: dict[str, ColumnDecoder] = {
    "array": _decode_arrays,
    "ragged": _decode_ragged,
    "scalar": _decode_numpy_scalars,
}
"""Decoders by the kind of a node."""
