"""Owns columns of containers: dictionaries, lists, tuples, objects, and columns of several forms.

Each container column is taken apart into columns of its members. Members that every container has
keep one row per container; members that differ in number are laid end to end with their lengths;
values that differ in form are sorted into one sub-column per form.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunk_memo.disk import classes
from chunk_memo.disk.array_columns import SCALAR_ENCODERS, array_form
from chunk_memo.disk.columns import (
    LEAF_ENCODERS,
    ColumnDecoder,
    ColumnEncoder,
    ColumnReader,
    ColumnWriter,
    Node,
    NoExactForm,
    Refused,
    ends_of,
)
from chunk_memo.errors import ChunkFormatError, EncodingError

__all__ = ["CONTAINER_DECODERS", "CONTAINER_ENCODERS", "encode_mix", "encode_objects", "form_of"]

_MAX_FORMS = 16  # dictionaries of more forms than this are stored as lists of keys and values
_MAX_POSITIONS = 32  # longer sequences are not split into one column per position
_MAX_KEYS = 64  # dictionaries of more keys are not split into one column per key
_PADDING: dict[type, Any] = {
    type(None): None,
    bool: False,
    int: 0,
    float: 0.0,
    complex: 0j,
    str: "",
}


# --- dictionaries --------------------------------------------------------------------------------


def _encode_dicts(writer: ColumnWriter, values: list[dict[Any, Any]], path: str) -> Node:
    forms = _dict_forms(values)
    if forms is None or len(forms) > _MAX_FORMS:
        return _encode_entries(writer, values, path)
    if len(forms) > 1:
        return encode_mix(writer, values, path)
    keys = list(values[0])
    node: Node = {"k": "dict", "keys": list(map(_key_token, keys))}
    if len(keys) > _MAX_KEYS:
        rows = [tuple(value.values()) for value in values]
        return {**node, "rows": writer.column(rows, path)}
    coords = writer.coords if writer.depth == 1 else {}
    columns = []
    for key in keys:
        column = list(map(operator.itemgetter(key), values))
        if isinstance(key, str) and key in coords and _same_column(writer, column, coords[key]):
            columns.append({"k": "axis", "axis": key})
        else:
            columns.append(writer.column(column, _below(path, key)))
    return {**node, "of": columns}


def _dict_forms(values: list[dict[Any, Any]]) -> set[Any] | None:
    """Return the distinct sequences of keys, or None where keys cannot be told apart exactly."""
    key_types = set(map(type, itertools.chain.from_iterable(values)))
    if key_types <= {str, int, type(None)}:  # equal ones are the same; not so 1, 1.0 and True
        return set(map(tuple, values))
    forms = set(map(form_of, values))
    return None if (dict,) in forms else forms


def _decode_dicts(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    keys = list(map(_key_of, node["keys"]))
    if "rows" in node:
        rows = reader.column(node["rows"], count)
        return [dict(zip(keys, row, strict=True)) for row in rows]
    columns = [reader.column(child, count) for child in node["of"]]
    if len(columns) != len(keys) or len(set(keys)) != len(keys):
        raise ChunkFormatError(f"'keys': expected {len(columns)} different keys, got {keys!r}")
    return _zip_dicts(keys, columns, count)


def _zip_dicts(keys: list[Any], columns: list[list[Any]], count: int) -> list[Any]:
    """Join columns into dictionaries; displays of fixed size are twice as fast as ``dict(zip)``."""
    if not keys:
        return [{} for _ in range(count)]
    rows = zip(*columns[:4], strict=True)
    if len(keys) == 1:
        (a,) = keys
        return [{a: x} for x in columns[0]]
    if len(keys) == 2:
        a, b = keys
        return [{a: x, b: y} for x, y in rows]
    if len(keys) == 3:
        a, b, c = keys
        return [{a: x, b: y, c: z} for x, y, z in rows]
    a, b, c, d = keys[:4]
    made: list[Any] = [{a: w, b: x, c: y, d: z} for w, x, y, z in rows]
    for key, column in zip(keys[4:], columns[4:], strict=True):
        for row, value in zip(made, column, strict=True):
            row[key] = value
    return made


def _decode_axis(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    if node["axis"] not in reader.coords:
        raise ChunkFormatError(f"{node['axis']!r}: expected the values of this axis in 'coords'")
    return list(reader.coords[node["axis"]])


def _encode_entries(writer: ColumnWriter, values: list[dict[Any, Any]], path: str) -> Node:
    """Store dictionaries of many forms as one column of keys and one of values."""
    keys = list(map(tuple, values))
    contents = [tuple(value.values()) for value in values]
    return {
        "k": "entries",
        "keys": writer.column(keys, _below(path, "keys")),
        "values": writer.column(contents, _below(path, "values")),
    }


def _decode_entries(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    keys = reader.column(node["keys"], count)
    contents = reader.column(node["values"], count)
    if not all(map(operator.eq, map(len, keys), map(len, contents))):
        raise ChunkFormatError("'entries': expected as many values as keys")
    return list(map(dict, map(zip, keys, contents)))


def _key_token(key: Any) -> Any:
    """Return a key of a simple type as JSON, exactly; raises TypeError for other keys."""
    cls = type(key)
    if cls is str:
        return key if key.isascii() or _encodable(key) else ["s", list(map(ord, key))]
    if key is None or cls is bool:
        return [key]
    if cls is int:
        return ["i", str(key) if abs(key) < 2**1000 else hex(key)]
    if cls is float and key == key:
        return ["f", key.hex()]
    if cls is bytes:
        return ["b", key.hex()]
    if cls is tuple:
        return ["t", *map(_key_token, key)]
    raise TypeError(f"{key!r}")


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def _key_of(token: Any) -> Any:
    if isinstance(token, str):
        return token
    if len(token) == 1 and (token[0] is None or isinstance(token[0], bool)):
        return token[0]
    tag, *rest = token
    if tag == "t":
        return tuple(map(_key_of, rest))
    (text,) = rest
    if tag == "s":
        return "".join(map(chr, text))
    if tag == "i":
        return int(text, 0)
    if tag == "f":
        return float.fromhex(text)
    if tag == "b":
        return bytes.fromhex(text)
    raise ChunkFormatError(f"'keys': expected a key, got {token!r}")


def _below(path: str, key: Any) -> str:
    """Return the path of a dictionary entry; names are for readers and need not be exact."""
    text = key if isinstance(key, str) else repr(key)
    text = text[:80].encode("utf-8", "backslashreplace").decode()
    return f"{path}/{text}" if path else text


def _same_column(writer: ColumnWriter, column: list[Any], axis: Sequence[Any]) -> bool:
    """Tell whether a column repeats the values of an axis, types included."""
    if len(column) != len(axis):
        return False
    if all(map(operator.is_, column, axis)):
        return True
    if list(map(type, column)) != list(map(type, axis)):
        return False
    try:
        first, second = writer.fresh(), writer.fresh()
        same_tree = first.column(column, "") == second.column(list(axis), "")
    except (EncodingError, Refused):
        return False
    return same_tree and all(
        one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
        for one, two in zip(first.arrays.values(), second.arrays.values(), strict=True)
    )


# --- lists and tuples ----------------------------------------------------------------------------


def _encode_sequences(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    node: Node = {"k": "list" if type(values[0]) is list else "tuple"}
    lengths = list(map(len, values))
    flat = list(itertools.chain.from_iterable(values))
    size = lengths[0]
    if lengths.count(size) != len(lengths):
        ends = writer.put(path, np.array(lengths, np.int32), ".lengths")
        child, _ = writer.flat(flat, path, None)
        return {**node, "lengths": ends, "of": child}
    if size == 0 or (size <= _MAX_POSITIONS and not _uniform(flat, type(values[0]))):
        columns = zip(*values, strict=True)
        items = [writer.column(list(c), f"{path}[{i}]") for i, c in enumerate(columns)]
        return {**node, "items": items}
    child, folded = writer.flat(flat, path, size)
    return {**node, "size": size, "folded": folded, "of": child}


def _uniform(members: list[Any], within: type) -> bool:
    """Tell whether the members of all sequences fit into one column."""
    types = set(map(type, members))
    if len(types) > 1:
        return False
    cls = types.pop()
    if cls in _PADDING:
        return True
    if cls is np.ndarray:
        return len({(array_form(member), member.shape) for member in members}) == 1
    if within is tuple and cls in (list, tuple):  # (x, y) of two lists is a pair, not a matrix
        return len(set(map(len, members))) == 1
    return len(set(map(form_of, members))) == 1


def _decode_sequences(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    make = list if node["k"] == "list" else tuple
    if "items" in node:
        columns = [reader.column(child, count) for child in node["items"]]
        if not columns:
            return [make() for _ in range(count)]
        rows = zip(*columns, strict=True)
        return list(rows) if make is tuple else list(map(list, rows))
    if "lengths" in node:
        ends = ends_of(reader, node["lengths"], count)
        flat = reader.column(node["of"], ends[-1] if ends else 0)
        pairs = zip([0, *ends], ends, strict=False)
        return [flat[a:b] for a, b in pairs] if make is list else [tuple(flat[a:b]) for a, b in pairs]
    size = node["size"]
    if not isinstance(size, int) or size < 1:
        raise ChunkFormatError(f"'size': expected a number from 1, got {size!r}")
    flat = reader.flat(node["of"], count, size, node["folded"] is True)
    if make is tuple:
        return list(zip(*[iter(flat)] * size, strict=True))
    return [flat[start : start + size] for start in range(0, len(flat), size)]


# --- objects of user classes ---------------------------------------------------------------------


def encode_objects(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    """Encode objects of user classes by their fields.

    Parameters
    ----------
    writer : ColumnWriter
        Where the arrays go.
    values : list
        The column's values.
    path : str
        Where the column stands inside the outputs.

    Returns
    -------
    dict
        The node.
    """
    taken = classes.take_all_apart(values)
    if taken is None:
        return encode_mix(writer, values, path)
    (form, class_name, names), columns = taken
    single = form in ("enum", "flag", "registered")
    children = [
        writer.column(column, path if single else _below(path, name))
        for name, column in zip(names, columns, strict=True)
    ]
    return {"k": "class", "form": form, "class": class_name, "names": list(names), "of": children}


def _decode_objects(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    rebuild = classes.rebuilder((node["form"], node["class"], tuple(node["names"])))
    columns = [reader.column(child, count) for child in node["of"]]
    if len(columns) != len(node["names"]):
        raise ChunkFormatError(f"'names': expected {len(columns)} names, got {node['names']!r}")
    if not columns:
        return [rebuild(()) for _ in range(count)]
    if node["form"] == "enum" and len(columns) == 1:
        return _members(columns[0], rebuild)
    return list(map(rebuild, zip(*columns, strict=True)))


def _members(names: list[str], rebuild: Callable[..., Any]) -> list[Any]:
    """Look each member up once; records that stand for unknown members are not to be shared."""
    found = {name: rebuild((name,)) for name in set(names)}
    if any(type(member) is classes.Record for member in found.values()):
        return [rebuild((name,)) for name in names]
    return list(map(found.__getitem__, names))


# --- columns of several forms --------------------------------------------------------------------


def form_of(value: Any) -> tuple[Any, ...]:
    """Return a key that values of one sub-column share.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    tuple
        A hashable key; its first entry is the value's type.
    """
    cls = type(value)
    if cls is dict:
        try:
            return cls, str(list(map(_key_token, value)))
        except TypeError:
            return (cls,)
    if cls is np.ndarray:
        return cls, *array_form(value)
    if cls in (np.void, np.record, np.datetime64, np.timedelta64):
        return cls, value.dtype, str(value.dtype)
    if cls not in _PLAIN and classes.is_class_form(cls):
        try:
            return cls, classes.take_apart(value).kind
        except NoExactForm:
            return (cls,)
    return (cls,)


def encode_mix(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    """Encode values of several forms: which form each has, and one sub-column per form.

    Parameters
    ----------
    writer : ColumnWriter
        Where the arrays go.
    values : list
        The column's values.
    path : str
        Where the column stands inside the outputs.

    Returns
    -------
    dict
        The node.
    """
    forms = _forms_of(values)
    order = sorted(set(forms), key=_form_label)
    number = {form: position for position, form in enumerate(order)}
    dtype = np.int8 if len(order) < 128 else np.int32
    codes = np.fromiter(map(number.__getitem__, forms), dtype, len(values))
    dense = all(form[0] in _PADDING for form in order)
    node: Node = {"k": "mix", "codes": writer.put(path, codes, ".kind"), "dense": dense}
    named = sum(form[0] is not type(None) for form in order)
    children = []
    for position, form in enumerate(order):
        below = path if named == 1 else f"{path}:{form[0].__name__}"
        if dense:
            padded = values.copy()
            for row in np.flatnonzero(codes != position).tolist():
                padded[row] = _PADDING[form[0]]
            children.append(writer.column(padded, below))
        else:
            rows = np.flatnonzero(codes == position).tolist()
            children.append(_encode_loose(writer, [values[row] for row in rows], below))
    return {**node, "of": children}


def _forms_of(values: list[Any]) -> list[tuple[Any, ...]]:
    types = list(map(type, values))
    if set(types) <= _PADDING.keys():
        return list(zip(types, strict=True))
    forms = list(map(form_of, values))
    if len({form for form in forms if form[0] is dict}) > _MAX_FORMS:
        return [(dict,) if form[0] is dict else form for form in forms]
    return forms


def _encode_loose(writer: ColumnWriter, values: list[Any], path: str) -> Node:
    mark = writer.mark()
    node = writer.column(values, path)
    writer.loose.update(writer.since(mark))
    return node


def _form_label(form: tuple[Any, ...]) -> str:
    return f"{form[0].__module__}:{form[0].__qualname__}:{form[1:]!r}"


def _take_codes(reader: ColumnReader, name: Any, count: int, limit: int) -> np.ndarray:
    codes = reader.take(name, count, "iu").astype(np.int64)
    if count and not 0 <= codes.min() <= codes.max() < limit:
        raise ChunkFormatError(f"{name!r}: expected numbers below {limit}")
    return codes


def _decode_mix(reader: ColumnReader, node: Node, count: int) -> list[Any]:
    children = node["of"]
    codes = _take_codes(reader, node["codes"], count, len(children))
    counts = np.bincount(codes, minlength=len(children)).tolist()
    if node["dense"]:
        return _merge_dense([reader.column(child, count) for child in children], codes, counts)
    pairs = zip(children, counts, strict=True)
    queues = [iter(reader.column(child, size)) for child, size in pairs]
    return [next(queues[code]) for code in codes.tolist()]


def _merge_dense(columns: list[list[Any]], codes: np.ndarray, counts: list[int]) -> list[Any]:
    """Return the most frequent column with the others' rows put into it."""
    most = counts.index(max(counts))
    merged = columns[most]
    for code, column in enumerate(columns):
        if code != most:
            for row in np.flatnonzero(codes == code).tolist():
                merged[row] = column[row]
    return merged


# --- the tables ----------------------------------------------------------------------------------

CONTAINER_ENCODERS: dict[type, ColumnEncoder] = {
    dict: _encode_dicts,
    list: _encode_sequences,
    tuple: _encode_sequences,
}
"""Encoders of columns of containers, by their exact type."""

CONTAINER_DECODERS: dict[str, ColumnDecoder] = {
    "axis": _decode_axis,
    "class": _decode_objects,
    "dict": _decode_dicts,
    "entries": _decode_entries,
    "list": _decode_sequences,
    "mix": _decode_mix,
    "tuple": _decode_sequences,
}
"""Decoders by the kind of a node."""

_PLAIN = {*LEAF_ENCODERS, *SCALAR_ENCODERS, *CONTAINER_ENCODERS}
