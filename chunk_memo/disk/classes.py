"""Owns outputs of user classes: enums, dataclasses, named tuples, and registered types.

An object of such a class is stored as the name of its class and the columns of its fields. It is
rebuilt only when the reading program knows the class already: found by dictionary look-ups in the
modules that are loaded, or met by an encoder in the same process (which is how local classes come
back). Nothing is imported, and neither ``__init__`` nor ``__post_init__`` runs. Where the class is
not known, or has other fields now, a `Record` stands for the object.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import operator
import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chunk_memo.disk.columns import NoExactForm
from chunk_memo.errors import EncodingError

__all__ = [
    "Parts",
    "Record",
    "class_name_of",
    "is_class_form",
    "rebuilder",
    "register_encoding",
    "registration_for",
    "registration_named",
    "take_all_apart",
    "take_apart",
]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by a class statement
_SEEN: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Record:
    """A plain stand-in for an object whose class the reading program does not know.

    Examples
    --------
    >>> Record("shop:Order", {"item": "tea", "count": 2})
    Record(class_name='shop:Order', fields={'item': 'tea', 'count': 2})
    """

    class_name: str
    """The class as ``"module:qualname"``."""

    fields: dict[str, Any]
    """Field names and values: ``{"name": …}`` for an enum member, ``{"value": …}`` for a flag or
    for an object of a registered type."""

    form: str = field(default="dataclass", compare=False, repr=False)
    """How the object was stored; so that a record that is stored again can still be rebuilt."""

    def __hash__(self) -> int:
        """Hash the names only, since values may be unhashable."""
        return hash((self.class_name, tuple(self.fields)))


@dataclass(frozen=True)
class Parts:
    """An object of a user class, taken apart."""

    form: str
    """One of ``"dataclass"``, ``"enum"``, ``"flag"``, ``"namedtuple"``, ``"registered"``."""

    class_name: str
    """The class as ``"module:qualname"``."""

    names: tuple[str, ...]
    """The names of the fields."""

    values: tuple[Any, ...]
    """The values of the fields."""

    @property
    def kind(self) -> tuple[str, str, tuple[str, ...]]:
        """What objects must have in common to share columns.

        Returns
        -------
        tuple
            Form, class name and field names.
        """
        return self.form, self.class_name, self.names


def class_name_of(klass: type) -> str:
    """Return a class as ``"module:qualname"``.

    Parameters
    ----------
    klass : type
        The class.

    Returns
    -------
    str
        Its module and its qualified name.

    Examples
    --------
    >>> import fractions
    >>> class_name_of(fractions.Fraction)
    'fractions:Fraction'
    """
    # A child of multiprocessing's "spawn" knows the main script by this other name.
    module = "__main__" if klass.__module__ == "__mp_main__" else klass.__module__
    return f"{module}:{klass.__qualname__}"


# --- registered types ----------------------------------------------------------------------------

_REGISTERED: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}
_REGISTERED_NAMES: dict[str, Callable[[Any], Any]] = {}


def register_encoding(type: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Say how objects of a type are stored.

    The registration also holds for subclasses that have none of their own. A program that reads
    without having registered the type gets a `Record` in place of each object.

    Parameters
    ----------
    type : type
        The type. Types with a form of their own (``int``, ``dict``, …) keep it.
    encode : callable
        ``encode(object)`` returns anything that can be stored, such as numbers or arrays.
    decode : callable
        ``decode(value)`` returns the object again.

    Raises
    ------
    EncodingError
        If `type` is not a class.

    Examples
    --------
    >>> class Celsius:
    ...     def __init__(self, degrees):
    ...         self.degrees = degrees
    >>> register_encoding(Celsius, lambda t: t.degrees, Celsius)
    """
    if not isinstance(type, _TYPE):
        raise EncodingError(f"'type': expected a class, got {type!r}; pass the class itself")
    _REGISTERED[type] = (encode, decode)
    _REGISTERED_NAMES[class_name_of(type)] = decode


_TYPE = type


def registration_for(klass: type) -> type | None:
    """Return the registered type that objects of this class are stored as, if there is one.

    Parameters
    ----------
    klass : type
        The class.

    Returns
    -------
    type or None
        The class itself or the nearest registered base.
    """
    return next((base for base in klass.__mro__ if base in _REGISTERED), None)


def registration_named(class_name: str) -> Callable[[Any], Any] | None:
    """Return the function that rebuilds objects registered under this name, if there is one.

    Parameters
    ----------
    class_name : str
        The class as ``"module:qualname"``.

    Returns
    -------
    callable or None
        The decoder that was registered.
    """
    return _REGISTERED_NAMES.get(class_name)


# --- taking apart --------------------------------------------------------------------------------


def is_class_form(klass: type) -> bool:
    """Tell whether objects of this class are stored by their fields.

    Parameters
    ----------
    klass : type
        The class.

    Returns
    -------
    bool
        True for enums, dataclasses, named tuples, registered types and `Record`.

    Examples
    --------
    >>> import types
    >>> is_class_form(types.SimpleNamespace), is_class_form(Record)
    (False, True)
    """
    return (
        klass is Record
        or registration_for(klass) is not None
        or issubclass(klass, enum.Enum)
        or _is_named_tuple(klass)
        or _is_dataclass(klass)
    )


def _is_named_tuple(cls: type) -> bool:
    names = getattr(cls, "_fields", None)
    if not issubclass(cls, tuple) or not isinstance(names, tuple):
        return False
    return all(isinstance(name, str) for name in names) and _base_is(cls, tuple)


def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) and _base_is(cls, object)


def _base_is(cls: type, base: type) -> bool:
    """Tell whether a class inherits its memory layout from `base`, so nothing else is in it."""
    found = {c for c in cls.__mro__ if not c.__flags__ & _HEAP_TYPE}
    return found <= {base, object}


def take_apart(value: Any) -> Parts:
    """Return the fields of an object for which `is_class_form` holds.

    Parameters
    ----------
    value : object
        The object.

    Returns
    -------
    Parts
        Its class and its fields.

    Raises
    ------
    NoExactForm
        If the object holds more, or less, than its fields.
    """
    cls = type(value)
    if cls is Record:
        return Parts(value.form, value.class_name, *_pairs(value.fields))
    base = registration_for(cls)
    if base is not None:
        name = class_name_of(base)
        return Parts("registered", name, ("value",), (_encoded(base, value),))
    name = class_name_of(cls)
    _SEEN[name] = cls
    if isinstance(value, enum.Enum):
        known = cls.__members__.get(value._name_) is value if value._name_ else False
        if known:
            return Parts("enum", name, ("name",), (value._name_,))
        return Parts("flag", name, ("value",), (value._value_,))
    if isinstance(value, tuple):
        return _named_tuple_parts(name, value)
    return _dataclass_parts(name, value)


def take_all_apart(values: list[Any]) -> tuple[tuple[str, str, tuple[str, ...]], list[list[Any]]] | None:
    """Return the fields of objects of one class as columns, where all of them have the same fields.

    Parameters
    ----------
    values : list
        The objects, at least one.

    Returns
    -------
    kind : tuple
        Form, class name and field names, as in `Parts.kind`.
    columns : list of list
        For each field its value in every object. None instead of both where the objects differ.

    Raises
    ------
    NoExactForm
        If an object holds more, or less, than its fields.

    Examples
    --------
    >>> take_all_apart([Record("shop:Order", {"count": 1}), Record("shop:Order", {"count": 2})])
    (('dataclass', 'shop:Order', ('count',)), [[1, 2]])
    """
    first = take_apart(values[0])
    columns = _columns_at_once(first, values)
    if columns is not None:
        return first.kind, columns
    parts = list(map(take_apart, values))
    if len({part.kind for part in parts}) > 1:
        return None
    return first.kind, list(map(list, zip(*(part.values for part in parts), strict=True)))


def _columns_at_once(first: Parts, values: list[Any]) -> list[list[Any]] | None:
    """Return columns taken without a look at each object, a tenth of the work; None where that may err."""
    cls, names = type(values[0]), first.names
    if issubclass(cls, enum.Enum):
        found = {id(value): value for value in values}
        parts = {key: take_apart(value) for key, value in found.items()}
        if {part.kind for part in parts.values()} != {first.kind}:
            return None
        return [[parts[key].values[0] for key in map(id, values)]]
    if first.form == "namedtuple" and not cls.__dictoffset__:
        return list(map(list, zip(*values, strict=True))) if set(map(len, values)) == {len(names)} else None
    if first.form == "dataclass" and cls is not Record and cls.__dictoffset__ and not _slots(cls):
        rows = list(map(vars, values))
        if "__orig_class__" in names or set(map(tuple, rows)) != {names}:
            return None
        return [list(map(operator.itemgetter(name), rows)) for name in names]
    return None


def _encoded(base: type, value: Any) -> Any:
    try:
        return _REGISTERED[base][0](value)
    except Exception as error:
        raise EncodingError(
            f"{class_name_of(base)!r}: the encoder that was registered for it failed: {error!r}"
        ) from error


def _pairs(fields: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    return tuple(fields), tuple(fields.values())


def _named_tuple_parts(name: str, value: Any) -> Parts:
    if getattr(value, "__dict__", None) or len(value) != len(value._fields):
        raise NoExactForm("it holds more than its fields")
    return Parts("namedtuple", name, tuple(value._fields), tuple(value))


def _dataclass_parts(name: str, value: Any) -> Parts:
    fields = {f.name: None for f in dataclasses.fields(value)}
    slots = [n for n in _slots(type(value)) if n not in fields]
    inner = vars(value) if hasattr(value, "__dict__") else {}
    missing = object()
    found: dict[str, Any] = {}
    for key in (*fields, *slots, *inner):
        item = inner[key] if key in inner else getattr(value, key, missing)
        if item is not missing and key != "__orig_class__":
            found[key] = item
        elif key in fields:
            raise NoExactForm(f"its field {key!r} is not set")
    return Parts("dataclass", name, *_pairs(found))


def _slots(cls: type) -> list[str]:
    """Return the names of a class's slots, as their descriptors spell them."""
    return [
        name
        for base in cls.__mro__
        for name, item in vars(base).items()
        if isinstance(item, types.MemberDescriptorType)
    ]


# --- putting together ----------------------------------------------------------------------------


def rebuilder(kind: tuple[str, str, tuple[str, ...]]) -> Callable[[tuple[Any, ...]], Any]:
    """Return the function that builds an object of a kind from the values of its fields.

    Parameters
    ----------
    kind : tuple
        Form, class name and field names, as in `Parts.kind`.

    Returns
    -------
    callable
        ``rebuild(values) -> object``; it gives a `Record` where the class is not known.
    """
    form, class_name, names = kind

    def record(values: tuple[Any, ...]) -> Any:
        return Record(class_name, dict(zip(names, values, strict=True)), form)

    if form == "registered":
        decode = registration_named(class_name)
        return record if decode is None else _registered(class_name, decode)
    cls = _known_class(class_name)
    if cls is None:
        return record
    makers = {
        "enum": _enum_maker,
        "flag": _flag_maker,
        "namedtuple": _named_tuple_maker,
        "dataclass": _dataclass_maker,
    }
    return makers[form](cls, names, record) or record


_Maker = Callable[[tuple[Any, ...]], Any]


def _known_class(class_name: str) -> type | None:
    """Find a class by dictionary look-ups only, so that no code runs and nothing is imported."""
    module, _, qualname = class_name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        space = vars(found) if isinstance(found, type | types.ModuleType) else {}
        found = space.get(part)
    return found if isinstance(found, type) else _SEEN.get(class_name)


def _registered(class_name: str, decode: Callable[[Any], Any]) -> _Maker:
    def make(values: tuple[Any, ...]) -> Any:
        (value,) = values
        try:
            return decode(value)
        except Exception as error:
            raise EncodingError(
                f"{class_name!r}: the decoder that was registered for it failed: {error!r}"
            ) from error

    return make


def _enum_maker(cls: type, names: tuple[str, ...], record: _Maker) -> _Maker | None:
    if not issubclass(cls, enum.Enum):
        return None
    members = dict(cls.__members__)

    def make(values: tuple[Any, ...]) -> Any:
        (name,) = values
        return members[name] if name in members else record(values)

    return make


def _flag_maker(cls: type, names: tuple[str, ...], record: _Maker) -> _Maker | None:
    plain = issubclass(cls, enum.Flag) and "_missing_" not in {
        name for base in cls.__mro__ if base not in enum.Flag.__mro__ for name in vars(base)
    }
    if not plain:  # a flag with a look-up of its own would run it
        return None

    def make(values: tuple[Any, ...]) -> Any:
        try:
            return cls(*values)
        except ValueError:  # bits that this program's class does not have
            return record(values)

    return make


def _named_tuple_maker(cls: type, names: tuple[str, ...], record: _Maker) -> _Maker | None:
    if not _is_named_tuple(cls) or tuple(cls._fields) != names:  # type: ignore[attr-defined]
        return None
    return lambda values: tuple.__new__(cls, values)


def _dataclass_maker(cls: type, names: tuple[str, ...], record: _Maker) -> _Maker | None:
    # Data from elsewhere must not reach a __del__, which may delete what its fields name.
    if not _is_dataclass(cls) or any("__del__" in vars(base) for base in cls.__mro__):
        return None
    if inspect.isabstract(cls):
        return None
    fields = {f.name for f in dataclasses.fields(cls)}
    slots = {
        name: item
        for base in cls.__mro__
        for name, item in vars(base).items()
        if isinstance(item, types.MemberDescriptorType)
    }
    loose = [name for name in names if name not in slots]
    has_dict = cls.__dictoffset__ != 0
    if not fields <= set(names) or (loose and not has_dict):
        return None

    def make(values: tuple[Any, ...]) -> Any:
        made: Any = object.__new__(cls)
        for name, value in zip(names, values, strict=True):
            if name in slots:
                slots[name].__set__(made, value)
            else:
                made.__dict__[name] = value
        return made

    return make
