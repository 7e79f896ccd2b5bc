"""Python and NumPy values as standard JSON: what every other program reads.

What lies in a cache is kept exactly, by :mod:`chunk_memo.disk.encoding` and :mod:`chunk_memo.identity`. This
module is for what people and other programs read: tuples become lists, dates become text, and a NaN, for which
JSON has no word, becomes ``null`` or a *mark*, a short string from which :func:`unmarked` makes it again.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import os
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, ClassVar

import numpy as np

from chunk_memo.errors import EncodingError, SpecError

__all__ = ["NON_FINITE", "NumpyEncoder", "now_text", "plain", "time_text", "unmarked"]

NON_FINITE = ("null", "mark")
"""What can stand for NaN and the infinities: ``null``, or a string, ``"@nan"``, ``"@inf"`` or ``"@-inf"``."""

_MARKS = {"@nan": math.nan, "@inf": math.inf, "@-inf": -math.inf}
_LOOKS_MARKED = re.compile(r"@+(nan|inf|-inf)")
_MAX_DEPTH = 200


class NumpyEncoder(json.JSONEncoder):
    """Encodes NumPy values, dates, paths, sets, dataclasses and their like, and writes standard JSON only.

    Arrays become nested lists, NaN and the infinities become what `non_finite` says, keys become text, and
    complex numbers become ``{"real": …, "imag": …}``. For types of one's own, override :meth:`default` and
    leave the rest to it.

    Parameters
    ----------
    **options : object
        Those of :class:`json.JSONEncoder`.

    Examples
    --------
    >>> json.dumps({"loss": np.float32(0.5), "theta": np.arange(3), "gap": float("nan")}, cls=NumpyEncoder)
    '{"loss": 0.5, "theta": [0, 1, 2], "gap": null}'
    >>> class Encoder(NumpyEncoder):
    ...     def default(self, obj):
    ...         if isinstance(obj, memoryview):
    ...             return {"bytes": list(obj)}
    ...         return super().default(obj)
    >>> json.dumps([memoryview(b"ab")], cls=Encoder)
    '[{"bytes": [97, 98]}]'
    """

    non_finite: ClassVar[str] = "null"
    """What stands for NaN and the infinities, one of :data:`NON_FINITE`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._given = options.get("default")

    def iterencode(self, o: Any, _one_shot: bool = False) -> Iterator[str]:
        """Return the pieces of an object's JSON.

        Parameters
        ----------
        o : object
            The object.
        _one_shot : bool
            As :mod:`json` passes it.

        Returns
        -------
        iterator of str
            The pieces.
        """
        return super().iterencode(plain(o, non_finite=self.non_finite, default=self._known), _one_shot)

    def default(self, o: Any) -> Any:
        """Return something nearer to JSON in place of an object.

        Parameters
        ----------
        o : object
            What is no dict with text as keys, list, text, finite number, bool or None.

        Returns
        -------
        object
            What stands for it; it may hold such objects again.

        Raises
        ------
        EncodingError
            A ``TypeError``, where nothing can.
        """
        return _nearer(o)

    def _known(self, value: Any) -> Any:
        return self.default(value) if self._given is None else self._given(value)


def plain(
    value: Any, *, non_finite: str = "null", default: Callable[[Any], Any] | None = None, where: str = "value"
) -> Any:
    """Return a form of a value that consists of dicts, lists, text, finite numbers, bools and None only.

    Parameters
    ----------
    value : object
        The value.
    non_finite : {"null", "mark"}
        What stands for NaN and the infinities.
    default : callable, optional
        Called with each object that JSON does not know; returns something nearer to JSON.
    where : str
        What messages call the value.

    Returns
    -------
    object
        For ``json.dumps``.

    Raises
    ------
    EncodingError
        For an object that has no such form, saying where it lies.
    SpecError
        For two keys of a dict that would become the same text, and for a value that holds itself.

    Examples
    --------
    >>> plain({"shape": (2, 3), "step": np.int64(7), "gap": float("inf")}, non_finite="mark")
    {'shape': [2, 3], 'step': 7, 'gap': '@inf'}
    """
    if non_finite not in NON_FINITE:
        raise SpecError(f"'non_finite': expected one of {list(NON_FINITE)}, got {non_finite!r}")
    return _Walk(non_finite == "mark", default or _nearer).of(value, where, 0)


def unmarked(value: Any) -> Any:
    """Return what :func:`plain` was given, as far as marks go: ``"@nan"`` becomes NaN.

    Parameters
    ----------
    value : object
        What ``json.loads`` returned; its dicts and lists are changed in place.

    Returns
    -------
    object
        The value.

    Examples
    --------
    >>> unmarked(["@inf", "@@inf", "text"])
    [inf, '@inf', 'text']
    """
    if isinstance(value, dict):
        for key, member in value.items():
            value[key] = unmarked(member)
    elif isinstance(value, list):
        value[:] = map(unmarked, value)
    elif isinstance(value, str) and _LOOKS_MARKED.fullmatch(value):
        return _MARKS.get(value, value[1:])
    return value


def now_text() -> str:
    """Return the time, in the form that every record of this library has.

    Returns
    -------
    str
        ISO 8601 in UTC, with microseconds and the offset.

    Examples
    --------
    >>> len(now_text())
    32
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def time_text(nanoseconds: int) -> str:
    """Return a moment in the form of :func:`now_text`.

    Parameters
    ----------
    nanoseconds : int
        Nanoseconds since 1970-01-01 UTC.

    Returns
    -------
    str
        ISO 8601 in UTC, with microseconds and the offset.

    Examples
    --------
    >>> time_text(1_500_000_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    moment = start + datetime.timedelta(microseconds=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds")


class _Walk:
    """One walk through a value."""

    def __init__(self, marked: bool, default: Callable[[Any], Any]) -> None:
        self._marked = marked
        self._default = default

    def of(self, value: Any, where: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise SpecError(f"{where[:200]!r}: expected at most {_MAX_DEPTH} levels; does it hold itself?")
        kind = type(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            return value if math.isfinite(value) else self._stand_in(value)
        if kind is str:
            return f"@{value}" if self._marked and _LOOKS_MARKED.fullmatch(value) else value
        if kind is dict:
            return self._dict(value, where, depth)
        if kind is list or kind is tuple:
            return [self.of(member, f"{where}[{row}]", depth + 1) for row, member in enumerate(value)]
        return self._other(value, where, depth)

    def _stand_in(self, value: float) -> str | None:
        if not self._marked:
            return None
        return "@nan" if math.isnan(value) else "@inf" if value > 0 else "@-inf"

    def _dict(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, member in value.items():
            text = _key_text(key)
            if text in made:
                raise SpecError(f"{where!r}: two of its keys would both be {text!r} in JSON; rename one of them")
            made[text] = self.of(member, f"{where}[{key!r}]", depth + 1)
        return made

    def _other(self, value: Any, where: str, depth: int) -> Any:
        try:
            nearer = self._default(value)
        except EncodingError as error:
            raise EncodingError(f"{where!r}: {error}") from error.__cause__
        if nearer is value:
            if isinstance(value, str | int | float):  # of a class of its own
                base = next(base for base in (str, int, float) if isinstance(value, base))
                return self.of(base(value), where, depth)
            return _Walk(self._marked, _nearer)._other(value, where, depth)
        return self.of(nearer, where, depth + 1)


def _key_text(key: Any) -> str:
    """Return a key of a dict as text; like ``json`` for the keys that it takes."""
    if type(key) is str:
        return key
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, enum.Enum):
        return _key_text(key.value)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return os.fspath(key) if isinstance(key, os.PathLike) else str(key)


def _nearer(value: Any) -> Any:
    """Return something nearer to JSON; the table first, then what the value can do."""
    for kinds, nearer in _NEARER:
        if isinstance(value, kinds):
            return nearer(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for name in ("to_dict", "to_dicts"):
        if _is_frame(value) and callable(getattr(value, name, None)):
            return value.to_dict("records") if name == "to_dict" else value.to_dicts()
    if _is_missing(value):
        return None
    if hasattr(value, "__array__"):
        return _nearer_array(np.asarray(value))
    cls = type(value)
    raise EncodingError(
        f"expected a value that JSON can say, got {cls.__module__}.{cls.__qualname__}; convert it, export a"
        " pickle, or say how in the method default of a subclass of NumpyEncoder"
    )


def _is_frame(value: Any) -> bool:
    return type(value).__name__ == "DataFrame" and type(value).__module__.split(".")[0] in ("pandas", "polars")


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas")


def _nearer_date(value: Any) -> Any:
    return None if _is_missing(value) else value.isoformat()


def _nearer_scalar(value: Any) -> Any:
    if value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    if value.dtype.kind in "mM":
        return None if np.isnat(value) else str(value) if value.dtype.kind == "M" else _seconds(value)
    if value.dtype.kind == "V":
        return value.tobytes()
    if value.dtype.char in "gG":  # item() would return the same long double
        return complex(value) if value.dtype.char == "G" else float(value)
    return value.item()


def _seconds(value: Any) -> Any:
    unit = np.datetime_data(value.dtype)[0]
    return value.astype(np.int64).item() if unit in ("generic", "Y", "M") else value / np.timedelta64(1, "s")


def _nearer_array(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind in "biufUSO" and array.dtype.char != "g":
        return array.tolist()  # masked elements become None
    if array.ndim == 0:
        return array[()]
    return list(array)


def _nearer_set(value: Set[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=repr)


_NEARER: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: value.value),
    (np.ndarray, _nearer_array),
    (np.generic, _nearer_scalar),
    ((str, int, float), lambda value: value),
    (complex, lambda value: {"real": value.real, "imag": value.imag}),
    ((datetime.datetime, datetime.date, datetime.time), _nearer_date),
    (datetime.timedelta, datetime.timedelta.total_seconds),
    (os.PathLike, os.fspath),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode("ascii")),
    (decimal.Decimal, str),
    (fractions.Fraction, str),
    (uuid.UUID, str),
    (Mapping, dict),
    (Set, _nearer_set),
    ((list, tuple, range, deque), list),
    (BaseException, lambda value: f"{type(value).__name__}: {value}"),
)
