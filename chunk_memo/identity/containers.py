"""Owns the encoding of the standard library's values that hold values: lists, dicts, sets, times.

Sets and dicts are written in the order of their encoded elements, as they have no other order that
every process would agree on.
"""

from __future__ import annotations

import collections
import datetime as dt
import functools
import types
import zoneinfo
from collections.abc import Iterable, Sequence
from typing import Any, Final

from chunk_memo.identity.grammar import leaf, packed, record, simple, size
from chunk_memo.identity.walk import Encoder, Unidentified, Walk, encode, encode_at, refuse, short

__all__ = ["CONTAINER_ENCODERS", "encode_list"]


def encode_list(value: list[Any], walk: Walk) -> bytes:
    """Encode a list.

    Parameters
    ----------
    value : list
        The list.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    return _sequence(b"l", value, walk)


def _tuple(value: tuple[Any, ...], walk: Walk) -> bytes:
    return _sequence(b"t", value, walk)


def _sequence(tag: bytes, value: Sequence[Any], walk: Walk) -> bytes:
    kinds = set(map(type, value))
    numbers = packed(value, *kinds) if len(kinds) == 1 else None
    return tag + size(len(value)) + (_items(value, walk) if numbers is None else numbers)


def _items(values: Iterable[Any], walk: Walk) -> bytes:
    """Return the joined encodings of the elements of a list or tuple."""
    parts: list[bytes] = []
    try:
        for value in values:
            parts.append(encode(value, walk))  # noqa: PERF401  len(parts) tells which one failed
    except Unidentified as trouble:
        trouble.steps.append(f"[{len(parts)}]")
        raise
    return b"".join(parts)


def _dict(value: dict[Any, Any], walk: Walk) -> bytes:
    pairs = []
    for key, item in value.items():
        try:
            coded = encode(key, walk)
        except Unidentified as trouble:
            trouble.steps.append(f" (the key {short(key)})")
            raise
        try:
            pairs.append((coded, encode(item, walk)))
        except Unidentified as trouble:
            trouble.steps.append(f"[{short(key)}]")
            raise
    pairs.sort()
    return b"m" + size(len(pairs)) + b"".join([part for pair in pairs for part in pair])


def _set(tag: bytes, value: Iterable[Any], walk: Walk) -> bytes:
    parts = []
    for item in value:
        try:
            parts.append(encode(item, walk))
        except Unidentified as trouble:
            trouble.steps.append(f" (the element {short(item)})")
            raise
    parts.sort()
    return tag + size(len(parts)) + b"".join(parts)


def _slice(value: slice, walk: Walk) -> bytes:
    parts = [encode(part, walk) for part in (value.start, value.stop, value.step)]
    return b"x" + b"".join(parts)


def _namespace(value: types.SimpleNamespace, walk: Walk) -> bytes:
    return record("namespace", [_dict(vars(value), walk)])


def _ordered_dict(value: collections.OrderedDict[Any, Any], walk: Walk) -> bytes:
    # compares by order, so order is part of it
    return record("ordered dict", [encode_list([*value.items()], walk)])


def _default_dict(value: collections.defaultdict[Any, Any], walk: Walk) -> bytes:
    factory = encode_at(value.default_factory, walk, ".default_factory")
    return record("default dict", [factory, _dict(value, walk)])


def _deque(value: collections.deque[Any], walk: Walk) -> bytes:
    return record("deque", [leaf(value.maxlen), encode_list(list(value), walk)])


def _mapping_proxy(value: types.MappingProxyType[Any, Any], walk: Walk) -> bytes:
    return record("mapping proxy", [_dict(dict(value), walk)])


# --- times, which hold their zone ----------------------------------------------------------------


def _time(value: dt.time, walk: Walk) -> bytes:
    fields = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    zone = encode_at(value.tzinfo, walk, ".tzinfo")
    return record("time", [*map(leaf, fields), zone])


def _datetime(value: dt.datetime, walk: Walk) -> bytes:
    # the offset too: what a zone's name means changes with the time zone database
    zone = encode_at(value.tzinfo, walk, ".tzinfo")
    fields = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    parts = [*map(leaf, fields), leaf(value.microsecond), leaf(value.fold), zone]
    return record("datetime", [*parts, leaf(value.utcoffset())])


def _timezone(value: dt.timezone, walk: Walk) -> bytes:
    return simple("timezone", *value.__getinitargs__())  # type: ignore[attr-defined]


def _zoneinfo(value: zoneinfo.ZoneInfo, walk: Walk) -> bytes:
    key: str | None = value.key  # the stubs know nothing of ZoneInfo.from_file
    if key is None:
        return refuse(value, walk, "expected a ZoneInfo with a key; use ZoneInfo(name)")
    return simple("zoneinfo", key)


CONTAINER_ENCODERS: Final[dict[type, Encoder]] = {
    list: encode_list,
    tuple: _tuple,
    dict: _dict,
    set: functools.partial(_set, b"S"),
    frozenset: functools.partial(_set, b"Z"),
    slice: _slice,
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    collections.deque: _deque,
    types.MappingProxyType: _mapping_proxy,
    types.SimpleNamespace: _namespace,
}
"""The encoder of each exact type."""
