"""Owns the identity of functions: code as it was written, defaults, closure, and what is bound.

A function is identified by its code as it was written, not by its text: by its syntax tree, which
counts only where compiling it gives the code that runs. Builtins, NumPy's functions and classes
are identified by name and version.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import operator
import sys
import types
import warnings
import weakref
from typing import Any, Final

import numpy as np
import xxhash

from chunk_memo.errors import IdentityWarning
from chunk_memo.identity.grammar import leaf, leaf_tuple, record, simple, text
from chunk_memo.identity.instances import UNSET, encode_fields
from chunk_memo.identity.source import code_bytes, written_form
from chunk_memo.identity.syntax import tree_bytes
from chunk_memo.identity.walk import (
    Encoder,
    Unidentified,
    Walk,
    class_name,
    encode,
    encode_at,
    short,
    version_of,
)

__all__ = [
    "FUNCTION_ENCODERS",
    "FUNCTION_FAMILIES",
    "SCHEME",
    "FunctionIdentity",
    "encode_function",
    "identify",
    "unwrap",
]

SCHEME: Final = 1
"""Number of the rules by which functions are digested; a change of the rules changes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """What a function is known by.

    Examples
    --------
    >>> from chunk_memo.identity import identify_function
    >>> identify_function(len)
    FunctionIdentity('len', basis='name')
    """

    qualname: str
    """The qualified name, without the module."""
    module: str
    """Where it was defined; for people, and no part of the digest of a Python function."""
    digest: str
    """32 hexadecimal characters over everything that counts."""
    scheme: int
    """The number of the rules that the digest follows."""
    basis: str
    """``"source"``, ``"code object"`` where there is no source to trust, or ``"name"``."""
    source: str | None = None
    """The text of the function, where that is the basis."""
    notes: tuple[str, ...] = ()
    """What the digest does not cover, or depends on more than one would think."""

    def __repr__(self) -> str:
        """Return name and basis; digest and source are long."""
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"FunctionIdentity({self.qualname!r}, basis={self.basis!r}{notes})"


def unwrap(func: Any) -> Any:
    """Return the plain function underneath wrappers.

    Parameters
    ----------
    func : callable
        A function, possibly under ``functools.wraps``, partial, a bound method, static or class
        method, ``lru_cache``, or a compiler such as Numba's that keeps ``py_func``.

    Returns
    -------
    callable
        The innermost function; `func` itself where nothing wraps it.

    Examples
    --------
    >>> import functools
    >>> unwrap(functools.partial(functools.lru_cache(print), "x")) is print
    True
    """
    return _layers(func)[-1]


def _layers(func: Any) -> list[Any]:
    """Return a callable, what it wraps, what that wraps, and so on."""
    layers = [func]
    while (inner := _inside(layers[-1])) is not None:
        if any(inner is layer for layer in layers):
            break
        layers.append(inner)
    return layers


def _inside(func: Any) -> Any:
    if isinstance(func, functools.partial):
        return func.func
    if isinstance(func, types.MethodType):
        return func.__func__
    if isinstance(func, (type, *_NAMED_TYPES)) or _is_mock(func):
        return None
    inner = getattr(func, "__wrapped__", None)
    if callable(inner):
        return inner
    inner = None if isinstance(func, types.FunctionType) else getattr(func, "py_func", None)
    return inner if isinstance(inner, types.FunctionType) else None


def _is_mock(func: Any) -> bool:
    return type(func).__module__ == "unittest.mock"


_NAMED_TYPES: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    np.ufunc,
    type(np.sum),  # NumPy's dispatchers: what they do lies in the version, not in their few lines
)


def identify(func: Any, outer: Walk) -> FunctionIdentity:
    """Return what a function is known by, where it is, or lies in, what is being encoded.

    Parameters
    ----------
    func : callable
        The function.
    outer : Walk
        Where the encoding stands; takes the notes, if it takes any.

    Returns
    -------
    FunctionIdentity
        With notes on what could not be covered.

    Raises
    ------
    Unidentified
        `func` is not callable, or a callable object without an identity.

    Warns
    -----
    IdentityWarning
        There are notes and `outer` takes none; once per function.
    """
    layers = _layers(func)
    plain = layers[-1]
    notes: list[str] = []
    walk = Walk(
        outer.encoder_of,
        functions=(*outer.functions, plain),
        home=outer.home or getattr(plain, "__module__", None),
        notes=notes,
    )
    bound = b"".join([_bound(layer, walk) for layer in layers[:-1]])
    if isinstance(plain, types.FunctionType):
        identity = _identify_python(plain, bound, walk)
    else:
        identity = _identify_named(plain, bound, walk)
    if outer.notes is not None:
        outer.notes += [f"the function '{identity.qualname}': {note}" for note in notes]
    elif notes:
        _warn_once(plain, identity.qualname, notes)
    return dataclasses.replace(identity, notes=(*identity.notes, *notes))


def _bound(layer: Any, walk: Walk) -> bytes:
    """Return the encoding of the arguments that a wrapper has bound."""
    if isinstance(layer, functools.partial):
        args = _noted("arguments of the partial", layer.args, walk)
        return record("partial", [args, _noted("arguments of the partial", layer.keywords, walk)])
    if isinstance(layer, types.MethodType):
        return record("method", [_noted("the object of the method", layer.__self__, walk)])
    return b""


def _noted(subject: str, value: Any, walk: Walk) -> bytes:
    """Return the encoding of a value, naming it in the notes that it causes."""
    assert walk.notes is not None
    before = len(walk.notes)
    data = encode(value, walk)
    walk.notes[before:] = [f"{subject}: {note}" for note in walk.notes[before:]]
    return data


def _identify_python(func: types.FunctionType, bound: bytes, walk: Walk) -> FunctionIdentity:
    written = written_form(func, walk)
    if written is None:
        magic = importlib.util.MAGIC_NUMBER
        basis, source = "code object", None
        code = record(basis, [leaf(magic), code_bytes(func.__code__, walk)])
        notes: tuple[str, ...] = (
            "there is no source that compiles to the code that runs, so the compiled code counts, "
            "which another version of Python compiles otherwise",
        )
    else:
        basis, source, notes = "source", written.source, ()
        code = record(basis, [leaf(tree_bytes(written.node))])
    parts = [
        leaf(SCHEME),
        text(func.__qualname__),
        code,
        _noted("defaults", func.__defaults__, walk),
        _noted("keyword defaults", func.__kwdefaults__, walk),
        *_closure(func, walk),
        bound,
    ]
    data = xxhash.xxh3_128_hexdigest(record("function", parts))
    return FunctionIdentity(func.__qualname__, func.__module__, data, SCHEME, basis, source, notes)


def _closure(func: types.FunctionType, walk: Walk) -> list[bytes]:
    parts = []
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=True)
    for name, cell in sorted(cells, key=lambda pair: pair[0]):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            parts += [text(name), UNSET]
        else:
            parts += [text(name), _noted(f"closure variable '{name}'", value, walk)]
    return parts


def _identify_named(func: Any, bound: bytes, walk: Walk) -> FunctionIdentity:
    if not callable(func):
        raise Unidentified(f"expected a function, got {short(func)}")
    if isinstance(func, type):
        module, qualname = func.__module__, func.__qualname__
        version = version_of(module)
        owner = class_name(func, None)
    elif _is_named(func):
        module, qualname = _qualified(func)
        version = version_of(module)
        owner = leaf_tuple((module, qualname)) + _owner(func, walk)
    else:
        return _identify_object(func, walk)
    parts = [leaf(SCHEME), owner, leaf(version), bound]
    data = xxhash.xxh3_128_hexdigest(record("named function", parts))
    return FunctionIdentity(qualname, module, data, SCHEME, "name")


def _identify_object(func: Any, walk: Walk) -> FunctionIdentity:
    """Return the identity of a callable object: that of its class's ``__call__``, and its own."""
    call = identify(type(func).__call__, Walk(walk.encoder_of, home=walk.home))
    own = encode(func, Walk(walk.encoder_of, functions=walk.functions, home=walk.home))
    parts = [leaf(SCHEME), text(call.digest), own]
    data = xxhash.xxh3_128_hexdigest(record("callable object", parts))
    kind = type(func)
    return FunctionIdentity(kind.__qualname__, kind.__module__, data, SCHEME, call.basis, call.source, call.notes)


def _is_named(func: Any) -> bool:
    return isinstance(func, _NAMED_TYPES) or type(func).__name__ == "cython_function_or_method"


def _owner(func: Any, walk: Walk) -> bytes:
    """Return the encoding of the object that a builtin method is bound to."""
    owner = getattr(func, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return b""
    return encode_at(owner, Walk(walk.encoder_of), ".__self__")


def _qualified(func: Any) -> tuple[str, str]:
    """Return module and qualified name under which a compiled function is found."""
    qualname = getattr(func, "__qualname__", func.__name__)
    owner = getattr(func, "__objclass__", None)
    bound = getattr(func, "__self__", None)
    if owner is not None:
        return owner.__module__, qualname
    if bound is not None and not isinstance(bound, types.ModuleType):
        return type(bound).__module__, qualname
    for module in (getattr(func, "__module__", None), "numpy", "scipy.special"):
        if isinstance(module, str) and _look_up(module, qualname) is func:
            return module, qualname
    raise Unidentified(
        f"'{qualname}' is compiled and cannot be found under its name, so its name says nothing; "
        f"wrap it in a Python function"
    )


def _look_up(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


_warned: weakref.WeakSet[Any] = weakref.WeakSet()


def _warn_once(func: Any, qualname: str, notes: list[str]) -> None:
    try:
        if func in _warned:
            return
        _warned.add(func)
    except TypeError:  # neither hashable nor weakly referenced: no way to remember it
        pass
    warnings.warn(
        f"the identity of '{qualname}' rests on less than one would think: {'; '.join(notes)}; "
        f"name what else its results depend on with depends_on=",
        IdentityWarning,
        stacklevel=2,
    )


def encode_function(value: Any, walk: Walk) -> bytes:
    """Encode a function that is, or lies in, a value.

    Parameters
    ----------
    value : callable
        The function.
    walk : Walk
        Where the encoding stands.

    Returns
    -------
    bytes
        The canonical bytes.
    """
    plain = unwrap(value)
    for distance, outer in enumerate(reversed(walk.functions)):
        if outer is plain:
            return simple("function above", distance)
    identity = identify(value, walk)
    return simple("function", identity.qualname, bytes.fromhex(identity.digest))


def _partial(value: functools.partial[Any], walk: Walk) -> bytes:
    func = encode_at(value.func, walk, ".func")
    args = encode_at(value.args, walk, ".args")
    return record("partial", [func, args, encode_at(value.keywords, walk, ".keywords")])


def _method(value: types.MethodType, walk: Walk) -> bytes:
    func = encode_at(value.__func__, walk, ".__func__")
    return record("method", [func, encode_at(value.__self__, walk, ".__self__")])


def _operator(value: Any, walk: Walk) -> bytes:
    kind, arguments = value.__reduce__()[:2]
    return record("operator", [class_name(kind, walk.home), encode(arguments, walk)])


def _vectorize(value: np.vectorize, walk: Walk) -> bytes:
    return encode_fields(value, ("pyfunc", "otypes", "signature", "excluded"), "numpy.vectorize", walk)


FUNCTION_ENCODERS: Final[dict[type, Encoder]] = {
    types.FunctionType: encode_function,
    types.MethodType: _method,
    functools.partial: _partial,
    np.vectorize: _vectorize,
    operator.attrgetter: _operator,
    operator.itemgetter: _operator,
    **dict.fromkeys(_NAMED_TYPES, encode_function),
}
"""The encoder of each exact type."""

FUNCTION_FAMILIES: Final[tuple[tuple[type, Encoder], ...]] = ((type(functools.lru_cache(len)), encode_function),)
"""The encoder of each type that is recognised by a base class."""
