"""Owns how values are rebuilt from the kind and the parts that stand in canonical bytes.

Bytes may be damaged or made up, so nothing is imported, no constructor of a user's class is called
and no attribute is set past a slot or an instance's dict. Whoever calls these functions checks that
what comes out has the same canonical bytes again.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import sys
import types
import uuid
import warnings
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from chunk_memo.identity.arrays import ARRAY_CLASSES
from chunk_memo.identity.grammar import Opaque
from chunk_memo.identity.instances import UNSET, base_of, slots_of
from chunk_memo.identity.source import COMPILING
from chunk_memo.identity.walk import IDENTITY_METHOD

__all__ = ["BUILDERS", "build_string_dtype"]


def _found_class(name: tuple[str, str]) -> Any:
    """Return a class that is imported already; only dicts are read, so nothing runs."""
    module, qualname = name
    found: Any = sys.modules[module]
    if not isinstance(found, types.ModuleType):
        raise LookupError(module)
    space = object.__getattribute__(found, "__dict__")
    for part in qualname.split("."):
        found = space[part]
        if not isinstance(found, type):
            raise LookupError(qualname)
        space = type.__getattribute__(found, "__dict__")
    return found


def _bare(kind: type) -> Any:
    """Return an instance that no constructor has touched, of a class that is safe to make so."""
    if hasattr(kind, "__del__") or hasattr(kind, IDENTITY_METHOD):
        raise LookupError(kind)  # its own code would run
    return object.__new__(kind)


def _filled(instance: Any, state: Mapping[str, Any]) -> Any:
    """Return an instance with attributes set where they are stored, past any ``__setattr__``."""
    slots = dict(slots_of(type(instance)))
    for name, value in state.items():
        if isinstance(value, Opaque) and value.data == UNSET:
            continue
        if name in slots:
            slots[name].__set__(instance, value)
        else:
            object.__getattribute__(instance, "__dict__")[name] = value
    return instance


def _build_fields(name: tuple[str, str], *parts: Any) -> Any:
    state = dict(zip(parts[::2], parts[1::2], strict=True))
    return _filled(_bare(_found_class(name)), state)


def _build_enum(name: tuple[str, str], member: Any) -> Any:
    kind = _found_class(name)
    if not issubclass(kind, enum.Enum):
        raise LookupError(name)
    space = type.__getattribute__(kind, "__dict__")
    if type(member) is str:
        return space["_member_map_"][member]
    return space["_value2member_map_"][member]


def _build_namedtuple(name: tuple[str, str], fields: tuple[str, ...], *parts: Any) -> Any:
    kind = _found_class(name)
    if hasattr(kind, "__del__"):
        raise LookupError(name)
    return tuple.__new__(kind, parts)


def _build_subclass(name: tuple[str, str], plain: Any, state: dict[str, Any]) -> Any:
    kind: Any = _found_class(name)
    base = base_of(kind)
    if base is None or type(plain) is not base or hasattr(kind, "__del__"):
        raise LookupError(name)
    make: Any = base.__new__
    if base in (int, float, complex, str, bytes, tuple, frozenset):
        return _filled(make(kind, plain), state)
    instance = make(kind)
    if base in (list, bytearray):
        base.extend(instance, plain)
    elif base in (set, dict):
        base.update(instance, plain)
    else:
        raise LookupError(name)
    return _filled(instance, state)


def _build_datetime(*parts: Any) -> dt.datetime:
    year, month, day, *clock, fold, zone, _ = parts
    hour, minute, second, micro = clock
    return dt.datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _build_time(*parts: Any) -> dt.time:
    hour, minute, second, micro, fold, zone = parts
    return dt.time(hour, minute, second, micro, zone, fold=fold)


def _build_pattern(pattern: Any, flags: int) -> re.Pattern[Any]:
    if flags & re.DEBUG:
        raise ValueError("a pattern that prints")
    with COMPILING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


def _build_default_dict(factory: Any, items: dict[Any, Any]) -> Any:
    return collections.defaultdict(factory, items)


def _build_array_class(name: str, array: np.ndarray) -> Any:
    return array.view(ARRAY_CLASSES[name])


def _build_masked_array(mask: np.ndarray, data: np.ndarray, fill_value: np.ndarray) -> Any:
    value: Any = fill_value[()]
    return np.ma.MaskedArray(data, mask, fill_value=value)


def _build_dtype(*parts: Any) -> Any:
    if type(parts[0]) is str:
        return np.dtype(parts[0])
    if isinstance(parts[0], np.dtype):
        return np.dtype((parts[0], parts[1]))
    itemsize, aligned, *fields = parts
    described: Any = {
        "names": fields[::3],
        "formats": fields[1::3],
        "offsets": fields[2::3],
        "itemsize": itemsize,
    }
    return np.dtype(described, align=aligned)


def build_string_dtype(coerce: bool, *missing: Any) -> Any:
    """Return a dtype of NumPy's strings of any length.

    Parameters
    ----------
    coerce : bool
        Whether arrays of it turn what is no str into one.
    *missing : object
        What stands for a missing text, if there is such a thing.

    Returns
    -------
    numpy.dtypes.StringDType
        The dtype.
    """
    if missing:
        return np.dtypes.StringDType(coerce=coerce, na_object=missing[0])
    return np.dtypes.StringDType(coerce=coerce)


BUILDERS: Final[dict[str, Callable[..., Any]]] = {
    "decimal": lambda sign, digits, exponent: decimal.Decimal((sign, tuple(digits), exponent)),
    "fraction": fractions.Fraction,
    "uuid": lambda data: uuid.UUID(bytes=data),
    "timedelta": dt.timedelta,
    "date": dt.date,
    "time": _build_time,
    "datetime": _build_datetime,
    "timezone": dt.timezone,
    "zoneinfo": zoneinfo.ZoneInfo,
    "path": pathlib.Path,
    "pattern": _build_pattern,
    "class": _found_class,
    "enum": _build_enum,
    "dataclass": _build_fields,
    "attrs": _build_fields,
    "namedtuple": _build_namedtuple,
    "namespace": lambda state: types.SimpleNamespace(**state),
    "ordered dict": collections.OrderedDict,
    "default dict": _build_default_dict,
    "deque": lambda maxlen, items: collections.deque(items, maxlen),
    "mapping proxy": types.MappingProxyType,
    "subclass": _build_subclass,
    "array class": _build_array_class,
    "masked array": _build_masked_array,
    "dtype": _build_dtype,
    "string dtype": build_string_dtype,
}
"""How values are rebuilt from their parts; kinds that are missing stay `Opaque`."""
