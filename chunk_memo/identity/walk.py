"""Owns the walk over values that hold values: its depth, its end at circles, and its refusals.

How a value of some type is encoded is not known here: a `Walk` carries a function that finds the
encoder of a value. So the encoders can stand in modules of their own, all of which call `encode`.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from chunk_memo.identity.grammar import LEAVES, record, text

__all__ = [
    "IDENTITY_METHOD",
    "MAX_DEPTH",
    "Encoder",
    "Unidentified",
    "Walk",
    "class_name",
    "encode",
    "encode_at",
    "encode_unknown",
    "made_of",
    "refuse",
    "short",
    "type_name",
    "version_of",
]

MAX_DEPTH: Final = 64
"""Containers may be nested this deep; CPython's own limit leaves no room for much more."""

IDENTITY_METHOD: Final = "__chunk_memo_identity__"
"""The method by which a class says what the identity of its instances is."""


class Unidentified(Exception):
    """Something without an identity was met; the steps that lead to it are added on the way up.

    Parameters
    ----------
    reason : str
        What was expected and what came.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def message(self, name: str) -> str:
        """Return the message for the user.

        Parameters
        ----------
        name : str
            What the user calls the value that the walk began with.

        Returns
        -------
        str
            Where the thing lies, and the reason.
        """
        return f"'{name}{''.join(reversed(self.steps))}' has no sound identity: {self.reason}"


@dataclasses.dataclass(slots=True)
class Walk:
    """Where an encoding stands."""

    encoder_of: Callable[[Any], Encoder]
    """finds the encoder of a value that is not plain"""
    active: list[int] = dataclasses.field(default_factory=list)
    """ids of the containers that the present value lies in"""
    notes: list[str] | None = None
    """where what has no identity counts by its type, and is noted here; None refuses it"""
    reach: Callable[[Any], bytes | None] | None = None
    """what stands for a function, class or module that some code reaches; None where no code is looked at"""


Encoder = Callable[[Any, Walk], bytes]
"""``encode(value, walk) -> canonical bytes`` for values of some type."""


_leaf_encoder: Final = LEAVES.get  # bound here: CPython is slow on methods of imported names


def encode(value: Any, walk: Walk) -> bytes:
    """Return the canonical bytes of a value that a walk has come to.

    Parameters
    ----------
    value : object
        The value.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.

    Raises
    ------
    Unidentified
        The value, or something in it, has no sound identity.
    """
    leaf_encoder = _leaf_encoder(type(value))
    if leaf_encoder is not None:
        return leaf_encoder(value)
    active = walk.active
    if id(value) in active:
        return refuse(value, walk, "it holds itself; pass a value without a cycle")
    if len(active) >= MAX_DEPTH:
        return refuse(value, walk, f"it is nested over {MAX_DEPTH} levels deep; pass a flatter one")
    encoder_of = walk.encoder_of  # not a method, and faster when not called like one
    encoder = encoder_of(value)
    active.append(id(value))
    data = encoder(value, walk)
    active.pop()
    return data


def encode_at(value: Any, walk: Walk, step: str) -> bytes:
    """Return the canonical bytes of a value, naming the step to it if it is refused.

    Parameters
    ----------
    value : object
        The value.
    walk : Walk
        Where the encoding stands.
    step : str
        The way from the present value, such as ``".name"``.

    Returns
    -------
    bytes
        The canonical bytes.

    Raises
    ------
    Unidentified
        The value, or something in it, has no sound identity.
    """
    try:
        return encode(value, walk)
    except Unidentified as trouble:
        trouble.steps.append(step)
        raise


def made_of(kind: str, walk: Walk, **parts: Any) -> bytes:
    """Return the encoding of a value of some kind, made of parts that may fail by name.

    Parameters
    ----------
    kind : str
        The word that tells such values from others.
    walk : Walk
        Where the encoding stands.
    **parts : object
        What the value is made of; the names are those of its attributes.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    return record(kind, [encode_at(part, walk, f".{name}") for name, part in parts.items()])


# --- refusals ------------------------------------------------------------------------------------


def refuse(value: Any, walk: Walk, reason: str) -> bytes:
    """Refuse a value; in a function's closure, count it by its type and note that instead.

    Parameters
    ----------
    value : object
        The value.
    walk : Walk
        Where the encoding stands.
    reason : str
        What was expected and what came.

    Returns
    -------
    bytes
        The encoding of the type, where that is enough.

    Raises
    ------
    Unidentified
        The walk takes no notes.
    """
    if walk.notes is None:
        raise Unidentified(reason)
    walk.notes.append(f"an object of type '{type_name(type(value))}' counts by its type only")
    return record("type only", [class_name(type(value), walk)])


def encode_unknown(value: Any, walk: Walk) -> bytes:
    """Encode a value that no encoder knows: a module by what code reaches of it; else refuse.

    Parameters
    ----------
    value : object
        The value.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        What stands for the value in a closure.

    Raises
    ------
    Unidentified
        The walk takes no notes.
    """
    name = type_name(type(value))
    if isinstance(value, types.ModuleType):
        reached = walk.reach(value) if walk.reach is not None else None
        if reached is not None:
            return reached
        reason = (
            f"expected plain data, got the module '{value.__name__}'; pass its name, or the values that matter"
        )
    else:
        reason = (
            f"expected plain data (numbers, text, arrays, containers, enums, dataclasses, "
            f"functions), got an object of type '{name}'; pass a plain value, give the class a "
            f"method {IDENTITY_METHOD}() that returns one, or call "
            f"register_identity({type(value).__name__}, function)"
        )
    return refuse(value, walk, reason)


# --- names ---------------------------------------------------------------------------------------


def class_name(kind: type, walk: Walk | None = None) -> bytes:
    """Return what stands for a class: its name, or what some code reaches with it.

    Parameters
    ----------
    kind : type
        The class.
    walk : Walk, optional
        Where the encoding stands; a walk that follows code knows the project's classes by theirs.

    Returns
    -------
    bytes
        The encoding of a tuple of module and qualified name, or that of the code.
    """
    reached = walk.reach(kind) if walk is not None and walk.reach is not None else None
    if reached is not None:
        return reached
    return b"t\x02" + text(str(kind.__module__)) + text(kind.__qualname__)


def type_name(kind: type) -> str:
    """Return the name of a class as messages give it.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    str
        Module and qualified name; the latter alone for builtins.
    """
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def version_of(module: str) -> str | None:
    """Return the version of the package that a module belongs to.

    Parameters
    ----------
    module : str
        The module's name.

    Returns
    -------
    str or None
        None for the standard library, and where the package tells no version.
    """
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package == "__main__":
        return None
    version = getattr(sys.modules.get(package), "__version__", None)
    return version if isinstance(version, str) else None


def short(value: Any, length: int = 60) -> str:
    """Return a short text for people to read; nothing is ever keyed on it.

    Parameters
    ----------
    value : object
        Anything; its ``__repr__`` may fail.
    length : int, optional
        Characters that the text may have.

    Returns
    -------
    str
        One line.
    """
    try:
        shown = " ".join(_REPR.repr(value).split())
    except Exception:  # a user's __repr__ may raise anything
        shown = f"<{type_name(type(value))}>"
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= length else shown[: length - 3] + "..."


_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxlist = _REPR.maxdict = 8
