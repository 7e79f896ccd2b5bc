"""Values as standard JSON, so that any database can hold and search them.

NumPy scalars and arrays, paths, moments in time, enums and sets become what JSON has for them. JSON has no NaN
and no infinity; they become ``{"$float": "nan"}`` and come back as floats.
"""

from __future__ import annotations

import enum
import json
import math
import os
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from chunk_memo.errors import EncodingError

__all__ = ["from_plain", "plain_text", "to_plain"]

_FLOAT = "$float"
_SIMPLE = frozenset({type(None), bool, int, str})


def to_plain(value: Any, name: str = "value") -> Any:
    """Return a value in the types that standard JSON has.

    Parameters
    ----------
    value : object
        None, numbers, text, NumPy scalars and arrays, paths, dates, enums, and mappings, lists, tuples and sets
        of these.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    object
        For ``json.dumps``.

    Raises
    ------
    EncodingError
        A value that has no form in JSON; the message says where it stands.

    Examples
    --------
    >>> import numpy as np
    >>> to_plain({"rate": np.float32(0.5), "best": float("nan"), "shape": (2, 3)})
    {'rate': 0.5, 'best': {'$float': 'nan'}, 'shape': [2, 3]}
    """
    if type(value) in _SIMPLE:
        return value
    if isinstance(value, enum.Enum):
        return to_plain(value.value, name)
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else {_FLOAT: str(number)}
    if isinstance(value, Mapping):
        return {_key(key, name): to_plain(each, f"{name}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each, f"{name}[{place}]") for place, each in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((to_plain(each, name) for each in value), key=json.dumps)
    if isinstance(value, bool | int | str):  # a subclass, such as IntEnum has
        return type(value).__mro__[-2](value) if type(value).__mro__[-2] in _SIMPLE else int(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy, and of those that follow it
        return to_plain(value.tolist(), name)
    raise EncodingError(
        f'"{name}" cannot be written as JSON: expected numbers, text, dates, paths, arrays, or dicts and lists of'
        f" these, got {type(value).__qualname__}; turn it into one of these first"
    )


def _key(key: Any, name: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, enum.Enum):
        return _key(key.value, name)
    if isinstance(key, bool | int | float) or hasattr(key, "tolist"):
        return str(key)
    raise EncodingError(f'"{name}" has the key {key!r}, and keys of JSON are text: use str keys')


def from_plain(value: Any) -> Any:
    """Return a value of parsed JSON with its floats that JSON lacks.

    Parameters
    ----------
    value : object
        What ``json.loads`` returned.

    Returns
    -------
    object
        The same, with NaN and infinities in their places.

    Examples
    --------
    >>> from_plain([{"$float": "inf"}, 1])
    [inf, 1]
    """
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get(_FLOAT), str):
            return float(value[_FLOAT])
        return {key: from_plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [from_plain(each) for each in value]
    return value


def plain_text(value: Any, name: str = "value") -> str:
    """Return a value as standard JSON text.

    Parameters
    ----------
    value : object
        As `to_plain` takes it.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    str
        One line.

    Raises
    ------
    EncodingError
        A value that has no form in JSON.

    Examples
    --------
    >>> plain_text({"lr": 0.1})
    '{"lr": 0.1}'
    """
    return json.dumps(to_plain(value, name), allow_nan=False, ensure_ascii=False)
