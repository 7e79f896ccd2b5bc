"""Owns the form of values in JSON: plain where JSON is exact, else canonical bytes and a short text."""

from __future__ import annotations

import math
from typing import Any, Final

from chunk_memo.errors import ChunkFormatError
from chunk_memo.identity.canonical import canonical_bytes
from chunk_memo.identity.decoding import decode_canonical
from chunk_memo.identity.grammar import normalize
from chunk_memo.identity.walk import short

__all__ = ["from_jsonable", "to_jsonable"]

_JSON_TAG: Final = "$canonical"
_JSON_BITS: Final = 4096  # json cannot read ints of more than 4,300 digits


def to_jsonable(value: Any, name: str = "value") -> Any:
    """Return a form of a value that JSON can hold exactly, and people can read.

    None, bool, int, float, str, lists and dicts with str keys stay as they are. Anything else
    becomes ``{"$canonical": <base64 of the canonical bytes>, "repr": <short text>}``.

    Parameters
    ----------
    value : object
        Anything that has an identity.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    object
        For ``json.dumps``; `from_jsonable` is the inverse.

    Raises
    ------
    IdentityError
        The value has no sound identity.

    Examples
    --------
    >>> to_jsonable({"tol": 1e-6, "shape": (2, 3)})["shape"]["repr"]
    '(2, 3)'
    """
    canonical_bytes(value, name)  # refuses what has no identity, and what holds itself
    return _jsonable(value)


def from_jsonable(obj: Any) -> Any:
    """Return the value that `to_jsonable` made a form of.

    Parameters
    ----------
    obj : object
        What ``json.loads`` returned.

    Returns
    -------
    object
        A value with the same canonical bytes; an `Opaque` where it cannot be rebuilt here.

    Raises
    ------
    ChunkFormatError
        `obj` is not such a form.

    Examples
    --------
    >>> from_jsonable(to_jsonable((2, 3)))
    (2, 3)
    """
    if isinstance(obj, list):
        return [from_jsonable(item) for item in obj]
    if isinstance(obj, dict):
        if _JSON_TAG in obj:
            return _from_tagged(obj[_JSON_TAG])
        return {key: from_jsonable(item) for key, item in obj.items()}
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    raise ChunkFormatError(f"'obj' must be what json.loads returns, got {obj!r}")


def _jsonable(value: Any) -> Any:
    value = normalize(value)
    kind = type(value)
    if kind is list:
        return [_jsonable(item) for item in value]
    if kind is dict:
        keys = [normalize(key) for key in value]
        if _JSON_TAG not in keys and all(type(key) is str and _is_unicode(key) for key in keys):
            return dict(zip(keys, map(_jsonable, value.values()), strict=True))
    elif (
        value is None
        or kind is bool
        or (kind is int and value.bit_length() <= _JSON_BITS)
        or (kind is float and math.isfinite(value))
        or (kind is str and _is_unicode(value))
    ):
        return value
    import base64

    data = base64.b64encode(canonical_bytes(value)).decode()
    return {_JSON_TAG: data, "repr": short(value)}


def _is_unicode(text: str) -> bool:
    """Tell whether a str is free of surrogates, of which JSON would make one character of two."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _from_tagged(data: Any) -> Any:
    import base64

    try:
        return decode_canonical(base64.b64decode(data, validate=True))
    except (TypeError, ValueError) as error:
        if isinstance(error, ChunkFormatError):
            raise
        raise ChunkFormatError(f"'{_JSON_TAG}' must be base64 of canonical bytes, got {short(data)}") from error
