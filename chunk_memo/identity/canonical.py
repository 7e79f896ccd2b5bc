"""Owns the choice of an encoder for each type, and so what has an identity and what has none.

The encoders themselves stand below, and get the choice handed in with the walk: functions and
values hold each other, so neither module could import the other.
"""

from __future__ import annotations

import builtins
import enum
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from chunk_memo.errors import IdentityError
from chunk_memo.identity.arrays import (
    ARRAY_ENCODERS,
    ARRAY_FAMILIES,
    encode_masked_constant,
    is_masked_constant,
)
from chunk_memo.identity.containers import CONTAINER_ENCODERS
from chunk_memo.identity.functions import (
    FUNCTION_ENCODERS,
    FUNCTION_FAMILIES,
    FunctionIdentity,
    encode_function,
    identify,
    unwrap,
)
from chunk_memo.identity.grammar import LEAVES, packed, record, short_texts
from chunk_memo.identity.instances import encode_class, encode_enum, encode_plain_instance, encoder_of_instance
from chunk_memo.identity.tables import TABLE_ENCODERS
from chunk_memo.identity.walk import (
    IDENTITY_METHOD,
    Encoder,
    Unidentified,
    Walk,
    class_name,
    encode,
    encode_at,
)

__all__ = ["canonical_bytes", "canonical_many", "identify_function", "register_identity"]


_leaf_encoder: Final = LEAVES.get  # bound here: CPython is slow on methods of imported names


def canonical_bytes(value: Any, name: str = "value") -> bytes:
    """Return the bytes that stand for a value, the same in every process and Python.

    Parameters
    ----------
    value : object
        Numbers, text, arrays, containers, enums, dataclasses, functions, tables and the like.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    bytes
        Typed and self-delimiting; `decode_canonical` is the inverse.

    Raises
    ------
    IdentityError
        The value, or something in it, has no sound identity. The message says where it lies.

    Examples
    --------
    >>> import numpy as np
    >>> canonical_bytes(1) == canonical_bytes(1.0)
    False
    >>> canonical_bytes({"a": 1, "b": 2}) == canonical_bytes({"b": 2, "a": 1})
    True
    >>> canonical_bytes(np.int64(1)) == canonical_bytes(1)
    True
    """
    leaf_encoder = _leaf_encoder(type(value))
    if leaf_encoder is not None:
        return leaf_encoder(value)
    try:
        return encode(value, Walk(_encoder_of))
    except Unidentified as trouble:
        raise IdentityError(trouble.message(name)) from None
    except RecursionError:
        raise IdentityError(
            f"'{name}' has no sound identity: it is nested too deeply for the stack that is left; "
            f"pass a flatter value"
        ) from None


def canonical_many(values: Sequence[Any], name: str = "values") -> list[bytes]:
    """Return the canonical bytes of each value, quickly where all are of one plain type.

    Parameters
    ----------
    values : sequence
        The values.
    name : str, optional
        What to call the sequence in an error message.

    Returns
    -------
    list of bytes
        As ``[canonical_bytes(value) for value in values]``.

    Raises
    ------
    IdentityError
        A value has no sound identity.

    Examples
    --------
    >>> canonical_many([1.0, 2.0])[1] == canonical_bytes(2.0)
    True
    """
    kinds = set(map(type, values))
    if len(kinds) == 1:
        numbers = packed(values, *kinds)
        if numbers is not None:
            return list(np.frombuffer(numbers, "V9").tolist()) if numbers else []
    if kinds == {str} and (texts := short_texts(values)) is not None:
        return texts
    if kinds <= LEAVES.keys():
        return [LEAVES[type(value)](value) for value in values]
    return [canonical_bytes(value, f"{name}[{at}]") for at, value in enumerate(values)]


def identify_function(
    func: Callable[..., Any], *, depends_on: Iterable[Any] = (), warn: bool = True
) -> FunctionIdentity:
    """Return what a function is known by: its name, its code, and what it reaches in its project.

    That is its defaults, its closure, and by name: module-level constants, functions and classes that
    lie neither in the standard library nor among installed packages, and what these reach in turn.
    Comments, docstrings, annotations, the module and the place in the file do not count. Wrappers of
    other packages are seen through; what a partial or a method has bound counts.

    Parameters
    ----------
    func : callable
        A function, a lambda, a method, a partial, a builtin or a class.
    depends_on : iterable, optional
        What else its results depend on: functions, classes, modules, and files as `pathlib.Path`. A
        module counts wherever it lies.
    warn : bool, default True
        Whether an `IdentityWarning` tells what counts by its type only.

    Returns
    -------
    FunctionIdentity
        With notes on what could not be covered.

    Raises
    ------
    IdentityError
        `func` is not callable, or a callable object without an identity; or `depends_on` holds
        something else, or a file that cannot be read.

    Warns
    -----
    IdentityWarning
        Something in closure, defaults or constants counts by its type only; once per function.

    Examples
    --------
    >>> one = identify_function(lambda x: x + 1)
    >>> two = identify_function(lambda x: x + 1)  # spaces do not count
    >>> one.digest == two.digest
    True
    """
    try:
        return identify(func, _encoder_of, depends_on, warn=warn)
    except Unidentified as trouble:
        raise IdentityError(trouble.message("func")) from None


def register_identity(type: type, function: Callable[[Any], Any]) -> None:
    """Say what the identity of a type's instances is.

    The class counts too, so instances of different classes never meet. A class of one's own can
    have a method ``__chunk_memo_identity__()`` instead.

    Parameters
    ----------
    type : type
        The class; subclasses follow it unless they are registered themselves.
    function : callable
        Takes an instance, and returns a value that has an identity: everything that matters.

    Raises
    ------
    IdentityError
        `type` is no class, or has an identity that cannot be replaced.

    Examples
    --------
    >>> from chunk_memo.identity import digest
    >>> class Solver:
    ...     def __init__(self, order):
    ...         self.order = order
    >>> register_identity(Solver, lambda solver: solver.order)
    >>> digest(Solver(2)) == digest(Solver(2))
    True
    """
    if not isinstance(type, builtins.type):
        raise IdentityError(f"'type' must be a class, got {type!r}")
    if type is object or type in LEAVES or type in _EXACT or is_masked_constant(type):
        raise IdentityError(
            f"'{type.__name__}' has an identity already, which cannot be replaced; register a subclass of it"
        )
    _REGISTERED[type] = function


# --- which type is encoded how -------------------------------------------------------------------

_EXACT: Final[dict[type, Encoder]] = {
    **CONTAINER_ENCODERS,
    **ARRAY_ENCODERS,
    **FUNCTION_ENCODERS,
    type: encode_class,
}
"""Exact types that hold values, or need a walk for another reason."""

_FAMILIES: Final[tuple[tuple[type, Encoder], ...]] = (
    (enum.Enum, encode_enum),
    *ARRAY_FAMILIES,
    (type, encode_class),
    *FUNCTION_FAMILIES,
)
"""Types that are recognised by a base class; the first that fits counts."""

_REGISTERED: Final[dict[type, Callable[[Any], Any]]] = {}


def _encoder_of(value: Any) -> Encoder:
    return _EXACT.get(type(value)) or _encoder_by_kind(value)


def _encoder_by_kind(value: Any) -> Encoder:
    """Return the encoder for a value whose exact type is in no table."""
    kind = type(value)
    if is_masked_constant(kind):
        return encode_masked_constant
    if any(base in _REGISTERED for base in kind.__mro__):
        return _by_registration
    if hasattr(kind, IDENTITY_METHOD) and not isinstance(value, type):
        return _by_method
    for base, encoder in _FAMILIES:
        if issubclass(kind, base):
            return encoder
    package = str(kind.__module__).partition(".")[0]
    if package in TABLE_ENCODERS:
        return TABLE_ENCODERS[package]
    by_recipe = encoder_of_instance(value)
    if by_recipe is not None:
        return by_recipe
    if callable(value) and isinstance(unwrap(value), types.FunctionType):
        return encode_function
    return encode_plain_instance


def _by_method(value: Any, walk: Walk) -> bytes:
    inner = encode_at(getattr(type(value), IDENTITY_METHOD)(value), walk, f".{IDENTITY_METHOD}()")
    return record("identity", [class_name(type(value), walk), inner])


def _by_registration(value: Any, walk: Walk) -> bytes:
    function = next(_REGISTERED[base] for base in type(value).__mro__ if base in _REGISTERED)
    step = f" (by the function registered for '{type(value).__name__}')"
    inner = encode_at(function(value), walk, step)
    return record("identity", [class_name(type(value), walk), inner])
