"""Owns the encoding of NumPy's arrays, scalars and dtypes.

An array is its dtype without byte order, its shape and its elements in C order, little-endian,
without padding; all NaNs are alike. So two arrays of equal content have the same bytes on every
machine, in whichever order memory holds them.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np

from chunk_memo.identity.grammar import (
    PLAIN_SCALARS,
    constant,
    leaf,
    leaf_tuple,
    normalize,
    record,
    simple,
    size,
    text,
)
from chunk_memo.identity.walk import Encoder, Unidentified, Walk, encode, encode_unknown, made_of

__all__ = [
    "ARRAY_CLASSES",
    "ARRAY_ENCODERS",
    "ARRAY_FAMILIES",
    "LONG_BYTES",
    "LONG_KIND",
    "encode_array",
    "encode_masked_constant",
    "is_long",
    "is_masked_constant",
]

_MANTISSA: Final = int(np.finfo(np.longdouble).nmant)

LONG_KIND: Final = {52: "", 63: "x87", 112: "quad", 105: "double-double"}.get(_MANTISSA, "other")
"""What a long double is on this machine; empty where it is a float of 64 bits."""

LONG_BYTES: Final = 10 if LONG_KIND == "x87" else np.dtype(np.longdouble).itemsize
"""Bytes of a long double that are not padding."""


def is_long(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype is of long doubles that are longer than a float.

    Parameters
    ----------
    dtype : numpy.dtype
        The dtype.

    Returns
    -------
    bool
        True for real and complex ones.
    """
    return dtype.char in "gG" and LONG_KIND != ""


def _dtype(dtype: np.dtype[Any], walk: Walk) -> bytes:
    """Return the encoding of a dtype as far as it concerns an array's content."""
    if dtype.names is not None:
        fields = []
        for name in dtype.names:
            field = dtype.fields[name][0]  # type: ignore[index]
            base, shape = field.subdtype or (field, ())
            fields += [text(name), _dtype(base, walk), leaf_tuple(shape)]
        return b"t" + size(len(fields)) + b"".join(fields)
    if is_long(dtype):
        return text(dtype.char + LONG_KIND)
    if dtype.kind == "T":
        code = text("T1" if getattr(dtype, "coerce", True) else "T0")
        if hasattr(dtype, "na_object"):
            return b"o" + code + encode(dtype.na_object, walk)
        return code
    if dtype.kind == "O":
        return text("O")
    if dtype.kind not in "biufcSUVmM":
        raise Unidentified(f"expected an array of a dtype of NumPy's own, got {dtype!r}")
    return text(dtype.str[1:])


def _elements(array: np.ndarray, walk: Walk) -> bytes:
    """Return every element in C order, little-endian, without padding, NaNs alike."""
    dtype = array.dtype
    if dtype.names is not None:
        return b"".join([_elements(np.asarray(array[name]), walk) for name in dtype.names])
    if dtype.kind in "OT":
        return _objects(array, walk)
    flat = np.asarray(array, dtype=dtype.newbyteorder("<"), order="C").reshape(-1)
    if dtype.kind == "b":
        return bytes(flat.view(np.uint8) != 0)
    if dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    if dtype.kind in "fc":
        missing = np.isnan(flat)
        if missing.any():
            flat = flat.copy()
            flat[missing] = np.nan
        if is_long(dtype):
            flat = flat.view(np.uint8).reshape(len(flat), -1)[:, :LONG_BYTES]
    return flat.tobytes()


def _objects(array: np.ndarray, walk: Walk) -> bytes:
    parts: list[bytes] = []
    try:
        for value in array.flat:
            parts.append(encode(value, walk))  # noqa: PERF401  len(parts) tells which one failed
    except Unidentified as trouble:
        at = np.unravel_index(len(parts), array.shape)
        trouble.steps.append(f"[{', '.join(str(int(index)) for index in at)}]")
        raise
    return b"".join(parts)


def encode_array(value: np.ndarray, walk: Walk) -> bytes:
    """Encode a plain array: dtype, shape and elements, whatever its memory looks like.

    Parameters
    ----------
    value : numpy.ndarray
        The array.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    dtype = value.dtype
    head = b"a" + _dtype(dtype, walk) + size(value.ndim)
    return head + b"".join(map(size, value.shape)) + _elements(np.asarray(value), walk)


def _array_subclass(value: np.ndarray, walk: Walk) -> bytes:
    # this also keeps numpy.ma, which takes as long to import as all of this package, from being
    # imported: whoever has a masked array has imported it
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray):
        return _masked_array(value, walk)
    kind = type(value)
    if kind not in ARRAY_CLASSES.values():
        return encode_unknown(value, walk)  # it may carry what the elements do not show, such as units
    return record("array class", [text(kind.__name__), encode_array(np.asarray(value), walk)])


ARRAY_CLASSES: Final[dict[str, Any]] = {
    "matrix": np.matrix,
    "recarray": np.recarray,
}
"""The subclasses of arrays that hold nothing but the array, by the name they are written under."""


def _masked_array(value: Any, walk: Walk) -> bytes:
    if type(value) is not np.ma.MaskedArray:
        return encode_unknown(value, walk)
    hidden: Any = np.zeros((), value.dtype)
    shown = value.filled(hidden)
    parts = (np.ma.getmaskarray(value), shown, np.asarray(value.fill_value))
    return record("masked array", [encode_array(part, walk) for part in parts])


def is_masked_constant(kind: type) -> bool:
    """Tell whether a class is that of ``numpy.ma.masked``.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    bool
        Found out without importing `numpy.ma`.
    """
    return issubclass(kind, np.ndarray) and "numpy.ma" in sys.modules and kind is type(np.ma.masked)


def encode_masked_constant(value: Any, walk: Walk) -> bytes:
    """Encode ``numpy.ma.masked``.

    Parameters
    ----------
    value : numpy.ma.core.MaskedConstant
        The constant.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    return constant("numpy.ma.masked")


def _numpy_scalar(value: np.generic, walk: Walk) -> bytes:
    if value.dtype.str[1:] in PLAIN_SCALARS:
        return leaf(normalize(value))
    if type(value).__module__.partition(".")[0] != "numpy":
        return encode_unknown(value, walk)
    array = np.asarray(value)
    return b"n" + _dtype(array.dtype, walk) + _elements(array, walk)


def _dtype_value(value: np.dtype[Any], walk: Walk) -> bytes:
    """Return the encoding of a dtype that is itself the value: byte order and layout count."""
    if value.subdtype is not None:
        base, shape = value.subdtype
        return record("dtype", [encode(base, walk), leaf_tuple(shape)])
    if value.names is None:
        if value.kind == "T":
            missing = {"na_object": value.na_object} if hasattr(value, "na_object") else {}
            coerce = bool(getattr(value, "coerce", True))
            return made_of("string dtype", walk, coerce=coerce, **missing)
        return simple("dtype", value.str)
    parts = [leaf(value.itemsize), leaf(value.isalignedstruct)]
    for name in value.names:
        field, offset = value.fields[name][:2]  # type: ignore[index]
        parts += [text(name), encode(field, walk), leaf(offset)]
    return record("dtype", parts)


ARRAY_ENCODERS: Final[dict[type, Encoder]] = {np.ndarray: encode_array, np.memmap: encode_array}
"""The encoder of each exact type."""

ARRAY_FAMILIES: Final[tuple[tuple[type, Encoder], ...]] = (
    (np.ndarray, _array_subclass),
    (np.generic, _numpy_scalar),
    (np.dtype, _dtype_value),
)
"""The encoder of each type that is recognised by a base class."""
