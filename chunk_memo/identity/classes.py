"""Owns what of a class counts: its bases, fields and members, and what its dict holds.

What Python, `dataclasses`, `enum` and the like add by themselves is left out, as each version of Python
adds something else.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chunk_memo.identity.grammar import leaf, record, text
from chunk_memo.identity.instances import UNSET
from chunk_memo.identity.source import written_fields

__all__ = ["attributes_of", "described", "pieces_of"]

_ADDED: Final = frozenset(
    [
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__attrs_attrs__",
        "__attrs_own_setattr__",
        "__attrs_props__",
        "__classcell__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__protocol_attrs__",
        "__qualname__",
        "__signature__",
        "__slotnames__",
        "__slots__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
        "_field_defaults",
        "_fields",
        "_is_protocol",
        "_is_runtime_protocol",
    ]
)
"""Attributes that say where a class lies, or what is known of it otherwise."""

_GENERATED: Final = frozenset(
    [
        "__class_getitem__",
        "__copy__",
        "__deepcopy__",
        "__delattr__",
        "__dir__",
        "__eq__",
        "__format__",
        "__ge__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getstate__",
        "__gt__",
        "__hash__",
        "__init__",
        "__le__",
        "__lt__",
        "__ne__",
        "__new__",
        "__reduce__",
        "__reduce_ex__",
        "__replace__",
        "__repr__",
        "__setattr__",
        "__setstate__",
        "__str__",
        "_asdict",
        "_make",
        "_replace",
    ]
)
"""Methods that may have been generated, and then follow from the fields."""

_OPTIONS: Final = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
"""The options of a dataclass that every Python knows."""

_FIELD: Final = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only", "metadata")
"""What counts of a field of a dataclass, beside its name."""


def described(kind: type) -> bytes:
    """Return the encoding of what is said of a class as a whole.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    bytes
        Its fields with their annotations, as far as its text is there, and options of a dataclass.
    """
    parts = []
    options = kind.__dict__.get("__dataclass_params__")
    if options is not None:
        parts += [leaf(bool(getattr(options, name, False))) for name in _OPTIONS]
    names = kind.__dict__.get("_fields")
    if isinstance(names, tuple) and issubclass(kind, tuple):
        parts += [text(str(name)) for name in names]
    slots = kind.__dict__.get("__slots__", ())
    parts += [text(str(name)) for name in ((slots,) if isinstance(slots, str) else slots)]
    return record("described", [*parts, *_annotated(kind)])


def _annotated(kind: type) -> Iterator[bytes]:
    declared = _declared(kind)
    written = written_fields(*_place(kind), kind.__qualname__) if declared else {}
    for name in declared:
        yield text(name)
        if written is not None and {*declared} <= {*written}:
            yield leaf(written[name])


def _declared(kind: type) -> list[str]:
    """Return the names that a class's body annotates."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return [*annotationlib.get_annotations(kind, format=annotationlib.Format.FORWARDREF)]
    import inspect  # takes long to import

    return [*inspect.get_annotations(kind)]


def _place(kind: type) -> tuple[str, dict[str, Any]]:
    """Return the file that a class should stand in, and the globals of its module."""
    for value in vars(kind).values():
        own = isinstance(value, types.FunctionType) and not _is_generated(value)
        if own and value.__qualname__ == f"{kind.__qualname__}.{value.__name__}":
            return value.__code__.co_filename, value.__globals__
    space: dict[str, Any] = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    return str(space.get("__file__", "")), space


def attributes_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class's dict holds, and fields and members, as far as it counts.

    Parameters
    ----------
    kind : type
        The class.

    Yields
    ------
    tuple of str and object
        A name, sorted, and what it stands for.
    """
    found = {name: value for name, value in vars(kind).items() if _counts(name, value)}
    if issubclass(kind, enum.Enum):
        found = {name: value for name, value in found.items() if _counts_in_enum(kind, name, value)}
        found |= {name: member._value_ for name, member in kind.__members__.items()}
    for name, field in kind.__dict__.get("__dataclass_fields__", {}).items():
        values = {what: getattr(field, what) for what in _FIELD}
        found[name] = {
            what: UNSET if value is dataclasses.MISSING else dict(value) if isinstance(value, Mapping) else value
            for what, value in values.items()
        }
    for field in kind.__dict__.get("__attrs_attrs__", ()):
        found[field.name] = {what: getattr(field, what) for what in ("default", "validator", "converter")}
    if issubclass(kind, tuple):
        found |= dict(kind.__dict__.get("_field_defaults", {}))
    yield from sorted(found.items())


def _counts(name: str, value: Any) -> bool:
    if name in _ADDED or name.startswith(("__pydantic_", "__attrs_")):
        return False
    if name == "__hash__" and value is None:
        return False
    return name not in _GENERATED or not _is_generated(value)


def _is_generated(value: Any) -> bool:
    """Tell whether a method was written by a program, or is another class's."""
    plain = getattr(value, "__wrapped__", getattr(value, "__func__", value))
    if not isinstance(plain, types.FunctionType):
        return not isinstance(value, functools.partialmethod)
    code = plain.__code__
    if plain.__globals__.get("__name__") in ("dataclasses", "enum", "collections", "typing", "functools"):
        return True
    name = str(plain.__globals__.get("__name__", ""))
    return code.co_qualname.startswith("__create_fn__") or name.startswith("namedtuple_") or _by_attrs(code)


def _by_attrs(code: types.CodeType) -> bool:
    return code.co_filename.startswith("<attrs generated")


def _counts_in_enum(kind: type[enum.Enum], name: str, value: Any) -> bool:
    if name in kind.__members__ or (name.startswith("_") and _is_generated(value)):
        return False
    own = isinstance(value, types.FunctionType | property | staticmethod | classmethod)
    return own or not name.startswith("_")


_SLOTS: Final = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(vars(collections.namedtuple("_", "field"))["field"]),
)


def pieces_of(value: Any) -> list[tuple[str, Any]] | None:
    """Return what a descriptor consists of.

    Parameters
    ----------
    value : object
        What a class's dict holds.

    Returns
    -------
    list of tuple or None
        A name for each piece; None for what is no descriptor that is known.
    """
    if isinstance(value, staticmethod | classmethod):
        return [(type(value).__name__, value.__func__)]
    if isinstance(value, property):
        pieces = {"get": value.fget, "set": value.fset, "delete": value.fdel}
        return [(f"property {name}", piece) for name, piece in pieces.items() if piece is not None]
    if isinstance(value, functools.cached_property):
        return [("cached property", value.func)]
    if isinstance(value, functools.partialmethod):
        return [("function", value.func), ("arguments", (value.args, value.keywords))]
    if isinstance(value, functools.singledispatchmethod):
        registered = value.dispatcher.registry
        return [(f"for {kind.__name__}", registered[kind]) for kind in registered]
    if isinstance(value, _SLOTS):
        return []  # what lies there belongs to instances
    return None
