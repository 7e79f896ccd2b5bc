"""Owns the encoding of classes and of their instances: enums, dataclasses, named tuples, subclasses.

An instance is the name of its class and what it holds; where the class extends a plain type, what
the class overrides is passed by.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator
from types import MemberDescriptorType
from typing import Any, Final, Generic, Protocol

from chunk_memo.identity.grammar import constant, leaf_tuple, record, text
from chunk_memo.identity.walk import Encoder, Walk, class_name, encode, encode_at, encode_unknown

__all__ = [
    "BY_ATTRIBUTES",
    "UNSET",
    "base_of",
    "encode_class",
    "encode_enum",
    "encode_fields",
    "encode_plain_instance",
    "encoder_of_instance",
    "slots_of",
]

UNSET: Final = constant("unset")
"""What stands for an attribute, or a closure's variable, that has no value."""


def encode_class(value: type, walk: Walk) -> bytes:
    """Encode a class, which is known by its name.

    Parameters
    ----------
    value : type
        The class.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    return record("class", [class_name(value, walk)])


def encode_enum(value: enum.Enum, walk: Walk) -> bytes:
    """Encode a member of an enum, by name, or by value where Pythons disagree on the name.

    Parameters
    ----------
    value : enum.Enum
        The member.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    kind = type(value)
    name: str | None = value.name  # None for some combinations of flags
    declared = kind.__members__.get(name) if name is not None else None
    # a combination of flags has no name of its own that all Pythons agree on
    member = text(name or "") if declared is value else encode(value.value, walk)
    return record("enum", [class_name(kind, walk), member])


def encode_fields(value: Any, names: Iterable[str], kind: str, walk: Walk) -> bytes:
    """Encode an object by its class and named attributes.

    Parameters
    ----------
    value : object
        The object.
    names : iterable of str
        Its attributes that count, in their order.
    kind : str
        The word that tells such values from others.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    parts = [class_name(type(value), walk)]
    for name in names:
        parts.append(text(name))
        try:
            field = getattr(value, name)
        except AttributeError:
            parts.append(UNSET)
        else:
            parts.append(encode_at(field, walk, f".{name}"))
    return record(kind, parts)


def encoder_of_instance(value: Any) -> Encoder | None:
    """Return the encoder of an instance of a class that was made by a usual recipe.

    Parameters
    ----------
    value : object
        The instance.

    Returns
    -------
    callable or None
        None where the class follows none of the recipes.
    """
    kind = type(value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and not _state(value):
        return _namedtuple
    if hasattr(kind, "n_sequence_fields"):
        return encode_unknown  # a time.struct_time and its like hold more than they show
    if base_of(kind) is not None:
        return _subclass
    if dataclasses.is_dataclass(kind):
        return _dataclass
    if hasattr(kind, "__attrs_attrs__"):
        return _attrs
    return None


def encode_plain_instance(value: Any, walk: Walk) -> bytes:
    """Encode an instance of classes whose code is followed, by its class and its attributes.

    Parameters
    ----------
    value : object
        The instance.
    walk : Walk
        Where the encoding stands; one that follows no code knows too little of the class.

    Returns
    -------
    bytes
        The canonical bytes, where all that the classes do is known.
    """
    reach = walk.reach
    kinds = [kind for kind in type(value).__mro__ if kind not in _EMPTY]
    if reach is None or not kinds or any(reach(kind) is None for kind in kinds):
        return encode_unknown(value, walk)
    return record("instance", [class_name(type(value), walk), encode_at(_state(value), walk, ".__dict__")])


_EMPTY: Final = (object, abc.ABC, Generic, Protocol)
"""Classes that add nothing to their instances."""


def _dataclass(value: Any, walk: Walk) -> bytes:
    names = [field.name for field in dataclasses.fields(value)]
    return encode_fields(value, names, "dataclass", walk)


def _attrs(value: Any, walk: Walk) -> bytes:
    names = [field.name for field in type(value).__attrs_attrs__]
    return encode_fields(value, names, "attrs", walk)


BY_ATTRIBUTES: Final[frozenset[Encoder]] = frozenset({encode_plain_instance, _dataclass, _attrs})
"""The encoders that look at an instance's class and attributes, and at nothing else."""


def _namedtuple(value: Any, walk: Walk) -> bytes:
    names = leaf_tuple(value._fields)
    parts = [encode_at(part, walk, f".{name}") for name, part in zip(value._fields, value, strict=True)]
    return record("namedtuple", [class_name(type(value), walk), names, *parts])


# --- subclasses of plain types -------------------------------------------------------------------

_BASES: Final[dict[type, Callable[[Any], Any]]] = {
    int: lambda value: int.__int__(value),
    float: lambda value: float.__float__(value),
    complex: lambda value: complex.__complex__(value),
    str: lambda value: str.__str__(value),
    bytes: lambda value: b"".join((value, b"")),
    bytearray: lambda value: bytearray(bytes(memoryview(value))),
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: (*tuple.__iter__(value),),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    collections.OrderedDict: lambda value: collections.OrderedDict([*value.items()]),
    collections.defaultdict: lambda value: collections.defaultdict(value.default_factory, dict.items(value)),
    collections.deque: lambda value: collections.deque([*value], value.maxlen),
}
"""How an instance of a subclass becomes one of the plain type, past what the subclass overrides."""


def base_of(kind: type) -> Any:
    """Return the plain type that a class extends, if any.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    type or None
        The nearest plain type among its bases.
    """
    return next((base for base in kind.__mro__ if base in _BASES), None)


def _subclass(value: Any, walk: Walk) -> bytes:
    """Encode an instance of a subclass of a plain type: class, plain value and attributes."""
    kind = type(value)
    base = base_of(kind)
    assert base is not None
    plain = _BASES[base](value)
    state = encode_at(_state(value), walk, ".__dict__")
    return record("subclass", [class_name(kind, walk), encode(plain, walk), state])


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes that an instance holds, in its dict or in slots."""
    state = dict(getattr(value, "__dict__", ()))
    for name, member in slots_of(type(value)):
        try:
            state[name] = member.__get__(value)
        except AttributeError:
            continue
    return state


def slots_of(kind: type) -> Iterator[tuple[str, MemberDescriptorType]]:
    """Yield the slots that a class and its bases keep attributes in.

    Parameters
    ----------
    kind : type
        The class.

    Yields
    ------
    tuple of str and member descriptor
        The name, and the descriptor that reads and sets the attribute.
    """
    for base in reversed(kind.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType) and base.__module__ != "builtins":
                yield name, member
