"""Owns Python outputs <-> named arrays: columnar, recursive, exact in types.

A block of outputs is one *column* of n values. A column of containers is taken apart into columns
of their members until only numbers, text, bytes, times and arrays are left, so that a list of
dictionaries of numbers is one array per key. A JSON-able *tree* of nodes says how to build the
outputs again; the arrays alone say how many there are.

Where every array has one row per output the encoding is *pointwise*: rows may be selected and
scattered without a look at the tree. Columns whose members differ in number or form (ragged lists,
a dictionary in one output and an array in the next) are not. Rows of several blocks may be
concatenated where their trees are equal and the dtypes and trailing shapes of their arrays too;
the arrays that `widenable` names may differ in the size of their dtype.

Decoding runs no code that a file could name. Classes are found only among those that the program
has already loaded, their ``__init__`` is never called, and pickles are opened only on request.
What counts as the same is the value with its exact type; that two outputs share one object, the
memory order of an array, and whether it may be written to, are not kept.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import gc
import itertools
import operator
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunk_memo.disk import classes, converters, frames_encoding
from chunk_memo.disk.array_columns import (
    ARRAY_DECODERS,
    SCALAR_ENCODERS,
    array_form,
    encode_arrays,
    restore_array,
    store_array,
)
from chunk_memo.disk.classes import Record, register_encoding
from chunk_memo.disk.columns import (
    LEAF_DECODERS,
    LEAF_ENCODERS,
    ColumnDecoder,
    ColumnEncoder,
    ColumnReader,
    ColumnWriter,
    Node,
    NoExactForm,
    Refused,
    Unpicklable,
    put_bytes,
    take_bytes,
)
from chunk_memo.disk.container_columns import (
    CONTAINER_DECODERS,
    CONTAINER_ENCODERS,
    encode_mix,
    encode_objects,
    form_of,
)
from chunk_memo.disk.signing import SIGNATURE_BYTES
from chunk_memo.errors import ChunkFormatError, EncodingError, PickleRefusedError

__all__ = [
    "Encoded",
    "PickledPart",
    "Record",
    "are_copies",
    "decode",
    "decode_array",
    "encode",
    "encode_array",
    "pickled_parts",
    "register_encoding",
    "widenable",
]


@dataclass(frozen=True)
class Encoded:
    """Outputs as named arrays."""

    tree: Any
    """JSON-able; how to build the outputs from the arrays. Blocks of one form have equal trees."""

    arrays: dict[str, np.ndarray]
    """C-contiguous arrays of fixed-size dtypes (neither object nor Unicode) by their names."""

    pointwise: bool
    """True when the leading axis of every array runs over the outputs."""


@dataclass(frozen=True)
class PickledPart:
    """One column of pickled values inside an encoding."""

    array: str
    """The name of the array that holds the pickles."""

    types: tuple[str, ...]
    """The types that were pickled, as ``"module:qualname"``."""

    lengths: str = ""
    """The name of the array that holds the lengths of the pickles."""

    signature: str = ""
    """The name of the array that takes a signature of both; zeros where there is none yet."""


# --- the front door ------------------------------------------------------------------------------


def encode(
    values: Sequence[Any],
    *,
    coords: Mapping[str, Sequence[Any]] | None = None,
    allow_pickle: bool = False,
    where: str = "output",
) -> Encoded:
    """Turn outputs into named arrays.

    Parameters
    ----------
    values : sequence
        The outputs of n points.
    coords : mapping of str to sequence, optional
        The n values of each axis. Where every output is a dictionary and the entry of that name
        repeats the axis, with the same types, the entry is not stored.
    allow_pickle : bool, optional
        Whether values without a form of their own may be pickled. Such columns have an array of zeros besides,
        for a signature.
    where : str, optional
        What the outputs are called in messages.

    Returns
    -------
    Encoded
        The arrays and the tree that `decode` needs.

    Raises
    ------
    PickleRefusedError
        If a value can only be pickled and `allow_pickle` is False.
    EncodingError
        If a value cannot be pickled either.

    Examples
    --------
    >>> encoded = encode([{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2}])
    >>> encoded.arrays["loss"]
    array([0.5 , 0.25])
    >>> decode(encoded.tree, encoded.arrays, 2)
    [{'loss': 0.5, 'step': 1}, {'loss': 0.25, 'step': 2}]
    """
    column = list(values)
    writer = ColumnWriter(_encode_column, allow_pickle)
    writer.coords = coords or {}
    try:
        with _collector_off():
            tree = writer.column(column, "")
    except Refused as refused:
        if not (allow_pickle and refused.too_deep):
            raise _refusal(where, column, refused) from None
        writer = ColumnWriter(_encode_column, allow_pickle)
        tree = _pickled_whole(writer, column, where)
    except Unpicklable as unpicklable:
        raise _unpicklable(where, column, unpicklable) from unpicklable.reason
    return Encoded(tree, writer.arrays, not writer.loose)


def decode(
    tree: Any,
    arrays: Mapping[str, np.ndarray],
    count: int,
    *,
    coords: Mapping[str, Sequence[Any]] | None = None,
    allow_pickle: bool = False,
) -> list[Any]:
    """Build outputs from named arrays.

    Parameters
    ----------
    tree : object
        The tree from `encode`, possibly after a trip through JSON.
    arrays : mapping of str to numpy.ndarray
        The arrays from `encode`; for pointwise encodings, any selection of their rows.
    count : int
        The number of outputs.
    coords : mapping of str to sequence, optional
        The values of each axis for these outputs; needed where entries were left out by `encode`.
    allow_pickle : bool, optional
        Whether pickled values may be loaded. Loading a pickle can run any code, so this is for
        callers that have checked a signature.

    Returns
    -------
    list
        The outputs; arrays in them are fresh copies.

    Raises
    ------
    ChunkFormatError
        If tree and arrays do not fit together.
    PickleRefusedError
        If there are pickles and `allow_pickle` is False.
    EncodingError
        If something is needed that this program lacks, such as a package or a working decoder.
    """
    try:
        reader = ColumnReader(_decode_column, arrays, count, coords or {}, allow_pickle)
        with _collector_off():
            return reader.column(tree, count)
    except (ChunkFormatError, EncodingError, MemoryError):
        raise
    except ImportError as error:
        raise EncodingError(
            f"{error.name!r}: expected this package to be installed, since the outputs hold "
            f"objects of it; run `pip install {error.name}`"
        ) from error
    except Exception as error:
        raise ChunkFormatError(
            f"'tree': expected a tree that fits its arrays, got {type(error).__name__}: {error}"
        ) from error


def encode_array(array: np.ndarray, name: str = "output") -> Encoded:
    """Turn one array whose leading axis runs over points into named arrays.

    Parameters
    ----------
    array : numpy.ndarray
        An array of shape (n, ...).
    name : str, optional
        The name of the array, or of the first one.

    Returns
    -------
    Encoded
        The arrays and the tree that `decode_array` needs; pointwise for all fixed-size dtypes.

    Raises
    ------
    PickleRefusedError
        If the array holds objects without a form of their own.

    Examples
    --------
    >>> encoded = encode_array(np.array([["a", "bc"], ["d", "e"]]), "label")
    >>> encoded.arrays["label"].dtype, encoded.pointwise
    (dtype('S2'), True)
    >>> decode_array(encoded.tree, encoded.arrays)[1]
    array(['d', 'e'], dtype='<U2')
    """
    if array.ndim == 0:
        raise EncodingError(
            f"{name!r}: expected an array of shape (n, ...), got a single value; use `array[None]` for one point"
        )
    try:
        form, stored = store_array(array)
    except NoExactForm as error:
        if array.dtype.kind not in "OT":
            raise _refusal(name, array, Refused(array, str(error))) from None
        return _encode_object_array(array, name)
    stored = np.ascontiguousarray(stored) if stored.nbytes > _COPIED else np.array(stored, order="C")
    return Encoded({"k": "whole", **form, "a": name}, {name: stored}, True)


_COPIED = 1 << 16
"""Arrays of up to so many bytes are copied, so that what was returned may be changed at once."""


def are_copies(arrays: Mapping[str, np.ndarray]) -> bool:
    """Tell whether arrays of :func:`encode_array` share no memory with what they were made of.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        The arrays.

    Returns
    -------
    bool
        Whether they are so small that they were copied.

    Examples
    --------
    >>> are_copies(encode_array(np.arange(3)).arrays), are_copies(encode_array(np.zeros(100_000)).arrays)
    (True, False)
    """
    return all(array.nbytes <= _COPIED for array in arrays.values())


def decode_array(tree: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the array that `encode_array` was given, with its exact dtype.

    Parameters
    ----------
    tree : object
        The tree from `encode_array`.
    arrays : mapping of str to numpy.ndarray
        The arrays from `encode_array`, or a selection of their rows.

    Returns
    -------
    numpy.ndarray
        The array; it may share memory with `arrays`.

    Raises
    ------
    ChunkFormatError
        If tree and arrays do not fit together.
    """
    try:
        if tree["k"] == "objects":
            return _decode_object_array(tree, arrays)
        stored = arrays[tree["a"]]
        if tree["k"] != "whole" or stored.ndim == 0:
            raise ChunkFormatError("'tree': expected the tree of an array, got another")
        return restore_array(tree, stored)
    except (ChunkFormatError, EncodingError, MemoryError):
        raise
    except Exception as error:
        raise ChunkFormatError(
            f"'tree': expected a tree that fits its array, got {type(error).__name__}: {error}"
        ) from error


def _encode_object_array(array: np.ndarray, name: str) -> Encoded:
    items = array.ravel().tolist()
    writer = ColumnWriter(_encode_column)
    rows = writer.put(name, np.zeros(len(array), np.int8), ".rows")
    try:
        node, folded = writer.flat(items, name, None if not items else len(items) // len(array))
    except Refused as refused:
        raise _refusal(name, array, refused) from None
    form = "objects" if array.dtype.kind == "O" else "strings"
    tree = {"k": "objects", "as": form, "rows": rows, "shape": list(array.shape[1:]), "of": node}
    return Encoded({**tree, "folded": folded}, writer.arrays, not writer.loose)


def _decode_object_array(tree: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    count = len(arrays[tree["rows"]])
    reader = ColumnReader(_decode_column, arrays, count, {}, False)
    shape = tuple(tree["shape"])
    items = reader.flat(tree["of"], count, int(np.prod(shape)), tree["folded"] is True)
    converter = converters.converter_of_kind(tree["as"])
    assert converter is not None
    restored: np.ndarray = converter.restore({"items": items, "shape": (count, *shape)})
    return restored


def pickled_parts(tree: Any) -> tuple[PickledPart, ...]:
    """List the columns of a tree that hold pickles, with the types that were pickled.

    Parameters
    ----------
    tree : object
        A tree from `encode`.

    Returns
    -------
    tuple of PickledPart
        One entry per column; empty when nothing was pickled.

    Examples
    --------
    >>> encoded = encode([{"model": print}], allow_pickle=True)
    >>> [(part.array, part.types) for part in pickled_parts(encoded.tree)]
    [('model', ('builtins:builtin_function_or_method',))]
    """
    return tuple(_find_pickles(tree))


def widenable(tree: Any) -> frozenset[str]:
    """Name the arrays whose dtype may be widened without a change in what is decoded.

    Columns of Python's own integers and strings are stored in the narrowest dtype that fits, which
    may differ from block to block; the dtype of every other array is part of the outputs.

    Parameters
    ----------
    tree : object
        A tree from `encode`.

    Returns
    -------
    frozenset of str
        The names of the arrays.

    Examples
    --------
    >>> encoded = encode([{"step": 1, "weights": np.zeros(2, np.float32)}])
    >>> sorted(encoded.arrays), sorted(widenable(encoded.tree))
    (['step', 'weights'], ['step'])
    """
    return frozenset(_find_widenable(tree))


def _find_widenable(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if tree.get("k") in ("int", "str"):
            yield tree["a"]
        if tree.get("k") == "mix":
            yield tree["codes"]
        for child in tree.values():
            yield from _find_widenable(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _find_widenable(child)


def _find_pickles(tree: Any) -> Iterator[PickledPart]:
    if isinstance(tree, dict):
        if tree.get("k") == "pickle":
            names = (str(tree.get(each, "")) for each in ("a", "lengths", "signature"))
            types = tree.get("types")
            yield PickledPart(next(names), tuple(map(str, types if isinstance(types, list) else ())), *names)
        for child in tree.values():
            yield from _find_pickles(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _find_pickles(child)


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the garbage collector from walking again and again over a growing list of records."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --- one column ----------------------------------------------------------------------------------


def _encode_column(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    if not values:
        return {"k": "empty"}
    types = set(map(type, values))
    if len(types) > 1:
        return encode_mix(writer, values, path)
    cls = types.pop()
    mark = writer.mark()
    try:
        if writer.depth > writer.max_depth:
            raise Refused(values[0], "nested more than 100 levels deep", too_deep=True)
        return _encoder_for(cls)(writer, values, path)
    except NoExactForm as error:
        writer.rollback(mark)
        if not writer.allow_pickle:
            raise Refused(values[0], str(error)) from error
        return _encode_pickles(writer, values, path)


def _decode_column(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    decoder = _DECODERS.get(node["k"])
    if decoder is None:
        raise ChunkFormatError(f"'k': expected a kind of column, got {node['k']!r}")
    values = decoder(reader, node, count)
    if len(values) != count:
        raise ChunkFormatError(f"{node['k']!r}: expected {count} values, got {len(values)}")
    return values


def _encoder_for(cls: type) -> ColumnEncoder:
    native = _ENCODERS.get(cls)
    if native is not None:
        return native
    if classes.registration_for(cls) is None:
        converter = converters.converter_for_type(cls)
        converter = converter or frames_encoding.table_converter_for_type(cls)
        if converter is not None:
            return _converting(converter)
    if classes.is_class_form(cls):
        return encode_objects
    if cls is np.memmap:
        return _encode_array_likes
    if not issubclass(cls, _BUILTIN) and (hasattr(cls, "__array__") or hasattr(cls, "__dlpack__")):
        return _encode_array_likes
    return _encode_unknown


_BUILTIN = (
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    dict,
    set,
    frozenset,
    np.ndarray,
)


def _converting(converter: converters.Converter) -> ColumnEncoder:
    def encode_converted(writer: ColumnWriter, values: list[Any], path: str) -> Node:
        node: Node = {"k": "as", "as": converter.kind}
        plain = converter.plain_values(values)
        if not converter.parts:
            return {**node, "of": writer.column(plain, path)}
        pairs = zip(converter.parts, zip(*plain, strict=True), strict=True)
        stem = f"{path}/" if path else ""
        return {**node, "parts": [writer.column(list(column), stem + name) for name, column in pairs]}

    return encode_converted


def _decode_converted(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    kind = node["as"]
    converter = converters.converter_of_kind(kind)
    converter = converter or frames_encoding.table_converter_of_kind(kind)
    if converter is None:
        raise ChunkFormatError(f"'as': expected a known kind of object, got {kind!r}")
    children = node["parts"] if converter.parts else [node["of"]]
    if len(children) != max(1, len(converter.parts)):
        raise ChunkFormatError(f"{kind!r}: expected the parts {converter.parts}, got {len(children)}")
    return converter.restored_values(*(reader.column(child, count) for child in children))


def _encode_datetimes(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    zones, folds = (map(operator.attrgetter(name), values) for name in ("tzinfo", "fold"))
    if all(map(operator.is_, zones, itertools.repeat(None))) and not any(folds):
        return LEAF_ENCODERS[type(values[0])](writer, values, path)
    return _converting(converters.ZONED)(writer, values, path)


# --- arrays --------------------------------------------------------------------------------------


def _encode_ndarrays(writer: ColumnWriter, values: list[np.ndarray], path: str) -> Node:
    dtype = values[0].dtype
    alike = all(value.dtype is dtype for value in values)
    if len({value.ndim if alike else array_form(value) for value in values}) > 1:
        return encode_mix(writer, values, path)
    special = {"O": converters.OBJECT_ARRAY, "T": converters.STRING_ARRAY}
    converter = special.get(dtype.kind)
    if converter is not None:
        return _converting(converter)(writer, values, path)
    return encode_arrays(writer, values, path)


def _encode_numpy_scalars(writer: ColumnWriter, values: list[np.generic], path: str) -> Node:
    if len(set(map(form_of, values))) > 1:
        return encode_mix(writer, values, path)
    return SCALAR_ENCODERS[type(values[0])](writer, values, path)


def _encode_array_likes(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    return writer.column(list(map(_as_array, values)), path)


def _as_array(value: Any) -> np.ndarray:
    try:
        if hasattr(value, "__array__"):
            return np.asarray(value)
        return np.from_dlpack(value)
    except Exception as error:
        raise NoExactForm(f"it could not be turned into an array: {error}") from error


# --- pickles -------------------------------------------------------------------------------------


def _refusal(where: str, values: Any, refused: Refused) -> PickleRefusedError:
    place = where if refused.too_deep else where + _place_of(refused.value, values)
    cls = type(refused.value)
    return PickleRefusedError(
        f"{place!r}: expected a value that can be stored as arrays, got "
        f"{classes.class_name_of(cls)!r} ({refused}); say how with "
        f"register_encoding({cls.__name__}, encode, decode), return arrays or plain values, or "
        f"set allow_pickle=True"
    )


def _pickled_whole(writer: ColumnWriter, column: list[Any], where: str) -> Node:
    try:
        return _encode_pickles(writer, column, "")
    except Unpicklable as unpicklable:
        raise _unpicklable(where, column, unpicklable) from unpicklable.reason


def _unpicklable(where: str, values: Any, unpicklable: Unpicklable) -> EncodingError:
    cls = type(unpicklable.value)
    return EncodingError(
        f"{where + _place_of(unpicklable.value, values)!r}: expected a value that can be stored as arrays or "
        f"pickled, got {classes.class_name_of(cls)!r} ({unpicklable.reason}); say how with "
        f"register_encoding({cls.__name__}, encode, decode), or return arrays or plain values"
    )


def _place_of(target: Any, values: Any, depth: int = 0) -> str:
    """Return where an object lies inside the outputs, such as ``"[3]['model']"``."""
    if depth > ColumnWriter.max_depth:
        return ""
    for step, member in _members(values):
        if member is target:
            return step
        below = _place_of(target, member, depth + 1)
        if below:
            return step + below
    return ""


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if type(value) in (list, tuple, set, frozenset):
        yield from ((f"[{row}]", member) for row, member in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", member) for key, member in value.items())
        yield from ((f".keys()[{row}]", key) for row, key in enumerate(value))
    elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
        for index in np.ndindex(value.shape):
            yield f"[{', '.join(map(str, index))}]", value[index]
    elif not isinstance(value, type | enum.Enum) and classes.is_class_form(type(value)):
        with contextlib.suppress(NoExactForm, EncodingError):
            parts = classes.take_apart(value)
            yield from ((f".{n}", v) for n, v in zip(parts.names, parts.values, strict=True))


def _encode_unknown(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    raise NoExactForm("a type that is not known")


def _encode_pickles(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    types = sorted({classes.class_name_of(type(value)) for value in values})
    chunks = list(map(_pickled, values))
    node = {"k": "pickle", "types": types, **put_bytes(writer, chunks, path, even=False)}
    node["signature"] = writer.put(path, np.zeros((1, SIGNATURE_BYTES), np.uint8), ".signature")
    writer.loose.add(node["signature"])
    return node


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        raise Unpicklable(value, error) from error


def _decode_pickles(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    if not reader.allow_pickle:
        raise PickleRefusedError(
            f"{node['a']!r}: expected arrays only, got pickles of {node['types']}; they can run "
            f"any code, so load them with allow_pickle=True only if you trust who wrote them"
        )
    chunks = take_bytes(reader, node, count)
    try:
        return list(map(pickle.loads, chunks))
    except Exception as error:
        raise EncodingError(
            f"{node['a']!r}: expected that {node['types']} can be loaded here, got {error!r}; "
            f"import what defines them, or compute again"
        ) from error


# --- the tables ----------------------------------------------------------------------------------


def _decode_empty(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    return []


_ENCODERS: dict[type, ColumnEncoder] = {
    **LEAF_ENCODERS,
    **CONTAINER_ENCODERS,
    **dict.fromkeys(SCALAR_ENCODERS, _encode_numpy_scalars),
    datetime.datetime: _encode_datetimes,
    np.ndarray: _encode_ndarrays,
}

_DECODERS: dict[str, ColumnDecoder] = {
    **LEAF_DECODERS,
    **ARRAY_DECODERS,
    **CONTAINER_DECODERS,
    "as": _decode_converted,
    "empty": _decode_empty,
    "pickle": _decode_pickles,
}
