"""Owns the objects that are stored as plain values, such as fractions, paths and sets.

A converter is a pair of functions, from the object to values that columns can hold and back. It is
found by the exact type of the object and stored under its kind, a short fixed word; no class is
ever looked up by a name that comes from a file. Types of modules that few programs need are known by
the name of their module until one is at hand or stored, since importing ``numpy.ma`` alone takes a tenth
of what importing NumPy does.
"""

from __future__ import annotations

import collections
import datetime
import functools
import operator
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunk_memo.disk.columns import NoExactForm
from chunk_memo.errors import EncodingError
from chunk_memo.identity import canonical_bytes

__all__ = [
    "OBJECT_ARRAY",
    "STRING_ARRAY",
    "ZONED",
    "Converter",
    "converter_for_type",
    "converter_of_kind",
]


@dataclass(frozen=True)
class Converter:
    """How objects of one type are turned into plain values and back."""

    kind: str
    """The word under which the objects are stored."""

    plain: Callable[[Any], Any]
    """From the object to a value that columns can hold; may raise `NoExactForm`."""

    restore: Callable[..., Any]
    """From that value to the object; where there are `parts`, from the parts."""

    parts: tuple[str, ...] = ()
    """What the members of the tuples that `plain` returns are called, where each is a column of its own."""

    shared: bool = False
    """Whether one object may stand for all that are equal in their plain values; they must be immutable."""

    def plain_values(self, values: list[Any]) -> list[Any]:
        """Return objects as plain values.

        Parameters
        ----------
        values : list
            The objects.

        Returns
        -------
        list
            Their plain values.
        """
        if not self.shared:
            return list(map(self.plain, values))
        known = {id(value): value for value in values}  # not by equality, which may be loose
        plain = {key: self.plain(value) for key, value in known.items()}
        return [plain[key] for key in map(id, values)]

    def restored_values(self, *columns: list[Any]) -> list[Any]:
        """Return the objects that plain values stand for.

        Parameters
        ----------
        *columns : list
            The plain values, or one list for each of `parts`.

        Returns
        -------
        list
            The objects.
        """
        restore = functools.cache(self.restore) if self.shared else self.restore
        return list(map(restore, *columns))


def converter_for_type(klass: type) -> Converter | None:
    """Return the converter of objects of exactly this type, if there is one.

    Parameters
    ----------
    klass : type
        The type.

    Returns
    -------
    Converter or None
        The converter.
    """
    found = _TABLE.get(klass)
    if found is None and klass.__module__ in _BY_MODULE:
        return _BY_MODULE[klass.__module__]().get(klass)
    return found


def converter_of_kind(kind: str) -> Converter | None:
    """Return the converter that objects of this kind were stored with, if there is one.

    Parameters
    ----------
    kind : str
        The kind, from a node.

    Returns
    -------
    Converter or None
        The converter.
    """
    if kind in _ELSEWHERE:
        return next(c for c in _ELSEWHERE[kind]().values() if c.kind == kind)
    return _BY_KIND.get(kind)


# --- times ---------------------------------------------------------------------------------------


def _datetime_plain(value: datetime.datetime) -> Any:
    return value.replace(tzinfo=None, fold=0), value.fold, value.tzinfo


def _datetime_restore(local: datetime.datetime, fold: int, zone: datetime.tzinfo | None) -> datetime.datetime:
    # Not by replace() alone, which takes several times as long.
    made = datetime.datetime.combine(local, local.time(), zone)
    return made.replace(fold=fold) if fold else made


def _time_plain(value: datetime.time) -> Any:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    ticks = datetime.timedelta(seconds=seconds, microseconds=value.microsecond)
    return ticks, value.fold, value.tzinfo


def _time_restore(clock: datetime.timedelta, fold: int, zone: datetime.tzinfo | None) -> datetime.time:
    local = (datetime.datetime.min + clock).time()
    return local.replace(tzinfo=zone, fold=fold) if fold or zone is not None else local


def _timezone_plain(zone: datetime.timezone) -> Any:
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return offset, name[0] if name else None


def _timezone_restore(plain: Any) -> datetime.timezone:
    offset, name = plain
    return datetime.timezone(offset) if name is None else datetime.timezone(offset, name)


# --- containers ----------------------------------------------------------------------------------


def _sorted_members(members: Iterable[Any]) -> list[Any]:
    found = list(members)
    try:
        return sorted(found, key=canonical_bytes)
    except TypeError:  # members without an identity keep the order that they have
        return found


def _deque_plain(value: collections.deque[Any]) -> Any:
    return {"items": list(value), "maxlen": value.maxlen}


def _deque_restore(plain: Any) -> collections.deque[Any]:
    return collections.deque(plain["items"], plain["maxlen"])


# --- NumPy ---------------------------------------------------------------------------------------


def _objects_plain(array: np.ndarray) -> Any:
    return {"shape": array.shape, "items": array.ravel().tolist()}


def _objects_restore(plain: Any) -> np.ndarray:
    items = plain["items"]
    return np.fromiter(items, object, len(items)).reshape(plain["shape"])


def _strings_plain(array: np.ndarray) -> Any:
    if array.dtype != np.dtypes.StringDType():
        raise NoExactForm(f"its dtype {array.dtype!r} has a missing value of its own")
    return {"shape": array.shape, "items": array.ravel().tolist()}


def _strings_restore(plain: Any) -> np.ndarray:
    if not hasattr(np.dtypes, "StringDType"):
        raise EncodingError("'StringDType': expected NumPy 2, got an older one; upgrade NumPy")
    return np.array(plain["items"], np.dtypes.StringDType()).reshape(plain["shape"])


# --- the table -----------------------------------------------------------------------------------


def _path_plain(path: pathlib.PurePath) -> str:
    text = str(path)
    if type(path)(text).parts != path.parts:  # some odd network paths are not what they print
        raise NoExactForm(f"the path {text!r} reads back as another")
    return text


def _path_restore(cls: type[pathlib.PurePath], pure: type[pathlib.PurePath]) -> Callable[..., Any]:
    def restore(text: str) -> pathlib.PurePath:
        try:
            return cls(text)
        except NotImplementedError:  # the other system's paths can be named here, not opened
            return pure(text)

    return restore


def _by_parts(cls: type, *names: str) -> Converter:
    def plain(value: Any) -> Any:
        return tuple(getattr(value, name) for name in names)

    return Converter(cls.__name__, plain, cls, names)


_TABLE: dict[type, Converter] = {
    datetime.time: Converter("time", _time_plain, _time_restore, ("clock", "fold", "zone")),
    datetime.timezone: Converter("timezone", _timezone_plain, _timezone_restore, shared=True),
    range: _by_parts(range, "start", "stop", "step"),
    slice: _by_parts(slice, "start", "stop", "step"),
    type(...): Converter("ellipsis", lambda _: None, lambda _: ...),
    type(NotImplemented): Converter("notimplemented", lambda _: None, lambda _: NotImplemented),
    bytearray: Converter("bytearray", bytes, bytearray),
    set: Converter("set", _sorted_members, set),
    frozenset: Converter("frozenset", _sorted_members, frozenset),
    collections.OrderedDict: Converter("ordereddict", dict, collections.OrderedDict),
    collections.Counter: Converter("counter", dict, collections.Counter),
    collections.deque: Converter("deque", _deque_plain, _deque_restore),
    # str() and bytes() of these would drop a trailing NUL.
    np.str_: Converter("np.str", str.__str__, np.str_),
    np.bytes_: Converter("np.bytes", bytes.__bytes__, np.bytes_),
}
_PATHS: list[tuple[type[pathlib.PurePath], type[pathlib.PurePath]]] = [
    (pathlib.PurePosixPath, pathlib.PurePosixPath),
    (pathlib.PosixPath, pathlib.PurePosixPath),
    (pathlib.PureWindowsPath, pathlib.PureWindowsPath),
    (pathlib.WindowsPath, pathlib.PureWindowsPath),
]
_TABLE |= {cls: Converter(cls.__name__, _path_plain, _path_restore(cls, pure)) for cls, pure in _PATHS}

ZONED = Converter("zoned", _datetime_plain, _datetime_restore, ("local", "fold", "zone"))
"""Datetimes of which one at least has a time zone or a fold."""

OBJECT_ARRAY = Converter("objects", _objects_plain, _objects_restore)
"""Arrays of Python objects, element by element."""

STRING_ARRAY = Converter("strings", _strings_plain, _strings_restore)
"""Arrays of NumPy's variable-width strings."""

_BY_KIND = {c.kind: c for c in (*_TABLE.values(), ZONED, OBJECT_ARRAY, STRING_ARRAY)}


# --- types of modules that are not imported before they are needed -------------------------------


@functools.cache
def _decimals() -> dict[type, Converter]:
    from decimal import Decimal

    return {Decimal: Converter("decimal", str, Decimal)}


@functools.cache
def _fractions() -> dict[type, Converter]:
    from fractions import Fraction

    return {Fraction: _by_parts(Fraction, "numerator", "denominator")}


@functools.cache
def _uuids() -> dict[type, Converter]:
    from uuid import UUID

    return {UUID: Converter("uuid", lambda value: value.bytes, lambda data: UUID(bytes=data))}


@functools.cache
def _zones() -> dict[type, Converter]:
    from zoneinfo import ZoneInfo

    return {ZoneInfo: Converter("zoneinfo", _zone_plain, _zone_restore, shared=True)}


def _zone_plain(zone: Any) -> Any:
    if zone.key is None:
        raise NoExactForm("it is a time zone without a key")
    return zone.key


def _zone_restore(key: str) -> Any:
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise EncodingError(
            f"{key!r}: expected a time zone that is known here; install the package 'tzdata'"
        ) from error


@functools.cache
def _masked() -> dict[type, Converter]:
    return {
        np.ma.MaskedArray: Converter("masked", _masked_plain, _masked_restore),
        type(np.ma.masked): Converter("nomask", lambda _: None, lambda _: np.ma.masked),
    }


def _masked_plain(array: np.ma.MaskedArray[Any, Any]) -> Any:
    fill = array._fill_value  # type: ignore[attr-defined]
    return {
        "data": np.asarray(array.data),
        "mask": None if array.mask is np.ma.nomask else np.asarray(array.mask),
        "fill": None if fill is None else np.asarray(fill, array.dtype),
        "hard": array.hardmask,
    }


def _masked_restore(plain: Any) -> np.ma.MaskedArray[Any, Any]:
    mask = np.ma.nomask if plain["mask"] is None else plain["mask"]
    array = np.ma.MaskedArray(plain["data"], mask, hard_mask=plain["hard"])
    if plain["fill"] is not None:
        array.fill_value = plain["fill"]
    return array


@functools.cache
def _random_numbers() -> dict[type, Converter]:
    """Return those of random numbers, which go on exactly where they were; sharing a stream is not kept."""
    from numpy import random

    seeds = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    streams = (random.MT19937, random.PCG64, random.PCG64DXSM, random.Philox, random.SFC64)
    return {
        random.Generator: Converter("np.generator", operator.attrgetter("bit_generator"), random.Generator),
        random.RandomState: Converter("np.randomstate", _random_state_plain, _random_state_restore),
        random.SeedSequence: Converter("np.seedsequence", operator.attrgetter(*seeds), _seeds_restore, seeds),
        **{cls: Converter(f"np.{cls.__name__}", _stream_plain, _stream_restore(cls)) for cls in streams},
    }


def _stream_plain(stream: Any) -> Any:
    from numpy.random import SeedSequence

    seeds = stream.seed_seq  # what spawn() goes on from
    return {"state": stream.state, "seeds": seeds if type(seeds) is SeedSequence else None}


def _stream_restore(cls: type) -> Callable[[Any], Any]:
    def restore(plain: Any) -> Any:
        stream: Any = cls(0 if plain["seeds"] is None else plain["seeds"])
        stream.state = plain["state"]
        return stream

    return restore


def _seeds_restore(entropy: Any, spawn_key: Any, pool_size: int, n_children_spawned: int) -> Any:
    from numpy.random import SeedSequence

    return SeedSequence(entropy, spawn_key=spawn_key, pool_size=pool_size, n_children_spawned=n_children_spawned)


def _random_state_plain(state: Any) -> Any:
    return state.get_state(legacy=False)


def _random_state_restore(plain: Any) -> Any:
    from numpy import random

    streams: tuple[Any, ...] = (random.MT19937, random.PCG64, random.PCG64DXSM, random.Philox, random.SFC64)
    named = {cls.__name__: cls for cls in streams}
    made = random.RandomState(named[plain["bit_generator"]](0))
    made.set_state(plain)
    return made


@functools.cache
def _plain_random_numbers() -> dict[type, Converter]:
    from random import Random

    return {Random: Converter("random", Random.getstate, _random_restore)}


def _random_restore(state: Any) -> Any:
    from random import Random

    made = Random()
    made.setstate(state)
    return made


_BY_MODULE: dict[str, Callable[[], dict[type, Converter]]] = {
    "decimal": _decimals,
    "fractions": _fractions,
    "numpy.ma": _masked,
    "numpy.ma.core": _masked,
    "numpy.random._generator": _random_numbers,
    "numpy.random._mt19937": _random_numbers,
    "numpy.random._pcg64": _random_numbers,
    "numpy.random._philox": _random_numbers,
    "numpy.random._sfc64": _random_numbers,
    "numpy.random.bit_generator": _random_numbers,
    "numpy.random.mtrand": _random_numbers,
    "random": _plain_random_numbers,
    "uuid": _uuids,
    "zoneinfo": _zones,
}

_ELSEWHERE: dict[str, Callable[[], dict[type, Converter]]] = {
    "Fraction": _fractions,
    "decimal": _decimals,
    "masked": _masked,
    "nomask": _masked,
    "np.MT19937": _random_numbers,
    "np.PCG64": _random_numbers,
    "np.PCG64DXSM": _random_numbers,
    "np.Philox": _random_numbers,
    "np.SFC64": _random_numbers,
    "np.generator": _random_numbers,
    "np.randomstate": _random_numbers,
    "np.seedsequence": _random_numbers,
    "random": _plain_random_numbers,
    "uuid": _uuids,
    "zoneinfo": _zones,
}
