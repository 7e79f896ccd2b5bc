"""Owns the params of whole runs: their form in JSON, their hash, and the filters that pick runs by them.

A run is known by its params as JSON knows them: a tuple is a list, an enum is its value, NumPy's scalars are
Python's, and what JSON cannot hold exactly (arrays, sets, dates, paths, NaN) stands in its canonical bytes,
whole. Only here in this library do floats count to 12 significant digits, as the store's users are promised: a
step of ``0.1 + 0.2`` finds the run of ``0.3``, while ``1e-13`` and ``2e-13`` stay apart. What is stored is exact.

A filter is data, never SQL: ``{column: value}``, or triples ``(column, op, value)``.
"""

from __future__ import annotations

import enum
import hashlib
import json
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from chunk_memo.errors import IdentityError, SpecError
from chunk_memo.identity.jsonable import from_jsonable, to_jsonable
from chunk_memo.identity.walk import short

__all__ = [
    "OPERATORS",
    "Condition",
    "Where",
    "canonical_json",
    "conditions",
    "exact_json",
    "from_json",
    "hash_of",
    "matches",
    "params_hash",
    "plain_params",
    "significant",
]

OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
"""What a filter may ask; ``=`` is read as ``==``."""

Where: TypeAlias = "Mapping[str, Any] | Sequence[Any] | None"
"""A filter as users write it."""

_TAG: Final = "$canonical"
_DEEPEST: Final = 100
_SMALL: Final = 1 << 64
_BITS: Final = 4096  # json reads no ints of more than 4,300 digits
_HASH_LENGTH: Final = 16


# --- one form for equal params ---------------------------------------------------------------------------------


def plain_params(params: Any, name: str = "params") -> dict[str, Any]:
    """Return params as JSON can hold them, exactly.

    Parameters
    ----------
    params : mapping
        Names to values.
    name : str, default "params"
        What to call them in an error message.

    Returns
    -------
    dict
        A copy that shares nothing with `params`; :func:`from_json` gives the values back.

    Raises
    ------
    SpecError
        Where `params` are no mapping.
    IdentityError
        Where a name is no string, or a value has no sound identity.

    Examples
    --------
    >>> import numpy as np
    >>> plain_params({"n": np.int64(3), "shape": (2, 3)})
    {'n': 3, 'shape': [2, 3]}
    """
    if not isinstance(params, Mapping):
        raise SpecError(f"{name!r} must map names to values, got {short(params)}; pass a dict")
    return _plain_mapping(params, name, 0)


def _plain_mapping(mapping: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
    made = {}
    for key, value in mapping.items():
        if type(key) is str and key.isascii() and key != _TAG and _is_plain(value):
            made[key] = value  # nearly all there is
            continue
        key = key.value if isinstance(key, enum.Enum) else key
        if not isinstance(key, str) or not _is_unicode(key):
            raise IdentityError(f"{name!r} has the name {key!r}; names of params must be text: use {str(key)!r}")
        if key == _TAG:
            raise IdentityError(f"{name!r} has the name {_TAG!r}, which this library uses itself; rename it")
        made[str(key)] = _plain(value, f"{name}[{key!r}]", depth + 1)
    return made


def _is_plain(value: Any) -> bool:
    """Tell at a glance that a value is what it is in JSON."""
    kind = type(value)
    if kind is int:
        return bool(-_SMALL < value < _SMALL)
    if kind is float:
        return bool(value - value == 0)
    return bool(value.isascii()) if kind is str else kind is bool or value is None


def _plain(value: Any, name: str, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise IdentityError(f"{name[:80]!r}… is nested more than {_DEEPEST} levels deep, or holds itself")
    while isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if _is_unicode(value) else to_jsonable(str(value), name)
    if isinstance(value, Mapping):
        return _plain_mapping(value, name, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{number}]", depth + 1) for number, item in enumerate(value)]
    if isinstance(value, numbers.Integral):
        whole = int(value)
        return whole if whole.bit_length() <= _BITS else to_jsonable(whole, name)
    if isinstance(value, float) or _is_small_float(value):
        number = float(value)
        return number if number - number == 0 else to_jsonable(number, name)
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    return to_jsonable(value, name)


def _is_small_float(value: Any) -> bool:
    """Tell whether this is a NumPy float that a Python float holds exactly."""
    return type(value).__module__ == "numpy" and type(value).__name__ in ("float16", "float32")


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def significant(number: float) -> float:
    """Return a number as it counts in a hash: rounded to 12 significant digits.

    Parameters
    ----------
    number : float
        A finite number.

    Returns
    -------
    float
        The nearest number of 12 digits.

    Examples
    --------
    >>> significant(0.1 + 0.2), significant(2e-13)
    (0.3, 2e-13)
    """
    return float(format(number, ".12g"))


def exact_json(plain: Any) -> str:
    """Return the text under which params are stored.

    Parameters
    ----------
    plain : object
        From :func:`plain_params`.

    Returns
    -------
    str
        JSON in ASCII, names in their own order.
    """
    return _EXACT.encode(plain)


def canonical_json(plain: Any) -> str:
    """Return the text that params are compared by: names sorted, floats to 12 significant digits.

    Parameters
    ----------
    plain : object
        From :func:`plain_params`.

    Returns
    -------
    str
        JSON in ASCII.

    Examples
    --------
    >>> canonical_json({"n": 3, "dt": 0.1 + 0.2})
    '{"dt":0.3,"n":3}'
    """
    return _CANONICAL.encode(_rounded(plain))


_EXACT: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_CANONICAL: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True)


def _rounded(plain: Any) -> Any:
    kind = type(plain)
    if kind is float:
        return significant(plain)
    if kind is dict:
        if _TAG in plain:
            return {_TAG: plain[_TAG]}  # its short text beside it is for people
        return {name: _rounded(value) for name, value in plain.items()}
    if kind is list:
        return [_rounded(value) for value in plain]
    return plain


def hash_of(canonical: str) -> str:
    """Return the hash of a canonical text.

    Parameters
    ----------
    canonical : str
        From :func:`canonical_json`.

    Returns
    -------
    str
        The first 16 hex characters of its SHA-256.
    """
    return hashlib.sha256(canonical.encode()).hexdigest()[:_HASH_LENGTH]


def params_hash(params: Mapping[str, Any]) -> str:
    """Return the hash that a run with these params is stored under.

    Parameters
    ----------
    params : mapping
        Names to values.

    Returns
    -------
    str
        16 hex characters: the first of the SHA-256 of the params' canonical JSON.

    Raises
    ------
    IdentityError
        Where a value has no sound identity.

    Examples
    --------
    >>> params_hash({"n": 100, "dt": 0.01}) == params_hash({"dt": 0.01, "n": 100})
    True
    """
    return hash_of(canonical_json(plain_params(params)))


def from_json(text: str) -> dict[str, Any]:
    """Return the params of a stored text.

    Parameters
    ----------
    text : str
        From :func:`exact_json`.

    Returns
    -------
    dict
        Names to values.
    """
    plain = json.loads(text)
    values: dict[str, Any] = from_jsonable(plain) if _TAG in text else plain
    return values


# --- filters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is asked of a run's params.

    Examples
    --------
    >>> conditions({"method": "rk4"})
    (Condition(path=('method',), op='==', value='rk4'),)
    """

    path: tuple[str, ...]
    """The param's name, and for nested ones the names below it; one name may be ``"solver.tol"`` for both."""
    op: str
    """One of :data:`OPERATORS`."""
    value: Any
    """What is compared with, in the form of :func:`plain_params`; a list of such for ``in`` and ``not in``."""

    @property
    def key(self) -> str:
        """The path in one text."""
        return ".".join(self.path)


def conditions(where: Where) -> tuple[Condition, ...]:
    """Return a filter taken apart.

    Parameters
    ----------
    where : mapping, triple, or sequence of triples
        ``{column: value}``: each must be equal, in nested dicts each value named; ``(column, op, value)``, or
        several of them: each must hold. A column is a param's name, or ``"solver.tol"`` for a nested one.

    Returns
    -------
    tuple of Condition
        None for no filter.

    Raises
    ------
    SpecError
        Where the filter is anything else.

    Examples
    --------
    >>> [each.key for each in conditions({"solver": {"tol": 1e-6}, "n": 3})]
    ['solver.tol', 'n']
    >>> conditions([("n", ">=", 3), ("method", "in", ["rk4", "euler"])])[0].op
    '>='
    """
    if where is None:
        return ()
    if isinstance(where, Mapping):
        return tuple(_equalities((), where))
    if isinstance(where, str) or not isinstance(where, Sequence):
        raise SpecError(f"{_EXPECTED}, got {short(where)}")
    if len(where) == 3 and isinstance(where[0], str) and isinstance(where[1], str):
        where = [where]
    return tuple(map(_condition, where))


_EXPECTED: Final = (
    "'where' must be {column: value}, (column, op, value) or a list of such triples, with an op of"
    f" {list(OPERATORS)}; it is never SQL"
)


def _equalities(path: tuple[str, ...], where: Mapping[Any, Any]) -> Iterator[Condition]:
    for column, value in where.items():
        if not isinstance(column, str):
            raise SpecError(f"{_EXPECTED}; got the column {column!r}")
        if isinstance(value, Mapping) and value:
            yield from _equalities((*path, column), value)
        else:
            yield Condition((*path, column), "==", _plain(value, f"where[{column!r}]"))


def _condition(triple: Any) -> Condition:
    if isinstance(triple, str) or not isinstance(triple, Sequence) or len(triple) != 3:
        raise SpecError(f"{_EXPECTED}, got {short(triple)}")
    column, op, value = triple
    op = "==" if op == "=" else op
    if not isinstance(column, str) or op not in OPERATORS:
        raise SpecError(f"{_EXPECTED}, got {short(triple)}")
    name = f"where: {column!r}"
    if op in ("in", "not in"):
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise SpecError(f"{column!r} {op} needs a list of values, got {short(value)}")
        members = sorted(value, key=repr) if isinstance(value, AbstractSet) else value
        return Condition((column,), op, [_plain(member, name) for member in members])
    plain = _plain(value, name)
    if op not in ("==", "!=") and not (_is_number(plain) or isinstance(plain, str)):
        raise SpecError(f"{column!r} {op} needs a number or a text, got {short(value)}")
    return Condition((column,), op, plain)


def matches(plain: Mapping[str, Any], asked: Iterable[Condition]) -> bool:
    """Tell whether a run's params meet a filter.

    A run that lacks a param meets no condition on it. Numbers are compared as numbers (``1`` finds ``1.0``), to
    12 significant digits; True and False are no numbers.

    Parameters
    ----------
    plain : mapping
        From :func:`plain_params`.
    asked : iterable of Condition
        The filter.

    Returns
    -------
    bool
        Whether each condition holds.

    Examples
    --------
    >>> matches({"n": 3, "solver": {"tol": 1e-6}}, conditions([("solver.tol", "<", 1e-3)]))
    True
    """
    return all(any(_holds(each, value) for value in _found(plain, each.path)) for each in asked)


def _found(plain: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield what a column stands for: the param of that very name, and those nested under parts of it."""
    if not isinstance(plain, Mapping):
        return
    name, rest = path[0], path[1:]
    if name in plain:
        if rest:
            yield from _found(plain[name], rest)
        else:
            yield plain[name]
    if not rest and "." in name:
        for at, char in enumerate(name):
            if char == "." and name[:at] in plain:
                yield from _found(plain[name[:at]], (name[at + 1 :],))


def _holds(condition: Condition, value: Any) -> bool:
    op, other = condition.op, condition.value
    if op == "==":
        return _equal(value, other)
    if op == "!=":
        return not _equal(value, other)
    if op == "in":
        return any(_equal(value, each) for each in other)
    if op == "not in":
        return not any(_equal(value, each) for each in other)
    if isinstance(value, str) and isinstance(other, str):
        left: Any = value
        right: Any = other
    elif _is_number(value) and _is_number(other):
        left, right = _counted(value), _counted(other)
    else:
        return False
    if op == "<":
        return bool(left < right)
    if op == "<=":
        return bool(left <= right)
    return bool(left > right) if op == ">" else bool(left >= right)


def _equal(one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        return bool(_counted(one) == _counted(other))
    if type(one) is not type(other):
        return False
    return bool(one == other) if isinstance(one, str) else canonical_json(one) == canonical_json(other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _counted(number: Any) -> Any:
    return significant(number) if isinstance(number, float) else number
