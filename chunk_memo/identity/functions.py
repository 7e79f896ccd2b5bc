"""Owns the identity of functions: code as it was written, what it reaches, and what is bound.

A function is identified by its code as it was written, not by its text: by its syntax tree, which
counts only where compiling it gives the code that runs; and by what that code reaches in the same
project. Builtins, NumPy's functions and classes of other packages are identified by name and version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import operator
import os
import types
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import xxhash

from chunk_memo.errors import IdentityWarning
from chunk_memo.identity.grammar import leaf, leaf_tuple, record, simple
from chunk_memo.identity.graph import Node, Resolve, digests_from
from chunk_memo.identity.instances import encode_fields
from chunk_memo.identity.parts import Explanation, Part
from chunk_memo.identity.project import OutOfReach, Project
from chunk_memo.identity.reach import NAMED_TYPES, SCHEME, Reach, layers_of, qualified
from chunk_memo.identity.walk import (
    Encoder,
    Unidentified,
    Walk,
    class_name,
    encode,
    encode_at,
    refuse,
    short,
    version_of,
)
from chunk_memo.identity.watch import Watch

__all__ = [
    "FUNCTION_ENCODERS",
    "FUNCTION_FAMILIES",
    "SCHEME",
    "FunctionIdentity",
    "encode_function",
    "identify",
    "unwrap",
]


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
    """``"source"``, ``"code object"`` without a source to trust, ``"contents"`` of classes, or ``"name"``."""
    source: str | None = None
    """The text of the function, then of what it reaches; where there is any."""
    notes: tuple[str, ...] = ()
    """What the digest does not cover, or depends on more than one would think."""
    parts: tuple[Part, ...] = ()
    """What the digest rests on, the function first."""
    out_of_reach: tuple[OutOfReach, ...] = ()
    """What is reached and counts by its name only, with package and version."""
    state: tuple[str, ...] = ()
    """Names that the reached code itself rebinds, and containers that it changes; they do not count."""
    _current: _Current | None = dataclasses.field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        """Return name and basis; digest and source are long."""
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"FunctionIdentity({self.qualname!r}, basis={self.basis!r}{notes})"

    def unchanged(self) -> bool:
        """Tell whether everything that was reached is what it was; takes microseconds.

        Returns
        -------
        bool
            False where `again` may give another digest.

        Examples
        --------
        >>> from chunk_memo.identity import identify_function
        >>> rates = [1, 2]
        >>> identity = identify_function(lambda x, rates=rates: [x * rate for rate in rates])
        >>> before = identity.unchanged()
        >>> rates.append(3)
        >>> before, identity.unchanged()
        (True, False)
        """
        return self._current is None or self._current.watch.unchanged()

    def again(self) -> FunctionIdentity:
        """Return the identity of the same function now.

        Returns
        -------
        FunctionIdentity
            Itself where nothing changed. What has changed while the function ran is not looked at.
        """
        return self if self._current is None or self.unchanged() else self._current.again()

    @contextlib.contextmanager
    def running(self) -> Iterator[list[str]]:
        """Let the function run: what changes meanwhile is its state, and does not change its identity.

        Yields
        ------
        list of str
            Filled at the end with the names of what has turned out to be state, each once.

        Examples
        --------
        >>> from chunk_memo.identity import identify_function
        >>> seen = []
        >>> def f(x, log=seen):
        ...     return log.append(x)
        >>> identity = identify_function(f)
        >>> with identity.running() as state:
        ...     f(1)
        >>> state, identity.unchanged()
        (['defaults of f'], True)
        """
        if self._current is None:
            yield []
        else:
            with self._current.watch.running() as told:
                yield told

    def explain(self) -> Explanation:
        """Return what is noticed when it changes, and what is not.

        Returns
        -------
        Explanation
            It prints well.
        """
        return Explanation(self.qualname, self.parts, self.out_of_reach, self.state, self.notes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Current:
    """An identity's hold on this process; it does not travel to others."""

    watch: Watch
    again: Callable[[], FunctionIdentity]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


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
    return layers_of(func)[-1]


# --- taking an identity --------------------------------------------------------------------------


def identify(
    func: Any,
    encoder_of: Callable[[Any], Encoder],
    depends_on: Iterable[Any] = (),
    state: Mapping[Hashable, bytes] | None = None,
    *,
    warn: bool = True,
) -> FunctionIdentity:
    """Return what a function is known by.

    Parameters
    ----------
    func : callable
        The function.
    encoder_of : callable
        Finds the encoder of a value.
    depends_on : iterable, optional
        Functions, classes, modules and paths that count, too.
    state : mapping, optional
        Places whose values have changed while the function ran, and what stands for them.
    warn : bool, default True
        Whether an `IdentityWarning` tells of notes, once per function.

    Returns
    -------
    FunctionIdentity
        With notes on what could not be covered.

    Raises
    ------
    Unidentified
        `func` is not callable, or a callable object without an identity.
    """
    if not callable(func):
        raise Unidentified(f"expected a function, got {short(func)}")
    with _uncollected():
        return _identify(func, encoder_of, (*depends_on,), state or {}, warn=warn)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector off, which would go through syntax trees again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _identify(
    func: Any,
    encoder_of: Callable[[Any], Encoder],
    depends_on: tuple[Any, ...],
    state: Mapping[Hashable, bytes],
    *,
    warn: bool,
) -> FunctionIdentity:
    modules = [each.__name__ for each in depends_on if isinstance(each, types.ModuleType)]
    reach = Reach(encoder_of, Project(modules), state)
    root = _root(func, reach)
    others = [_depended(each, reach) for each in depends_on]
    top = _together(root, others) if others else root
    reach.follow(top)
    digests, resolve = digests_from(top)
    watch = Watch(reach.record, {*reach.state, *reach.fixed})

    def again() -> FunctionIdentity:
        kept = reach.standing_for({*watch.state} - {*reach.state}, resolve)
        return identify(func, encoder_of, depends_on, kept, warn=warn)

    named = functools.cache(_by_name)
    reached = sorted((each for each in digests if each is root or each is not top), key=reach.rank)
    changing = {*reach.state}
    plainest = root if root.basis else next(iter(root.targets()))
    main = {root, plainest}
    notes = [note for each in reached for note in _notes_of(each, main)]
    plain = unwrap(func)
    identity = FunctionIdentity(
        root.name,
        str(getattr(plain, "__module__", type(plain).__module__)),
        digests[top].hex(),
        SCHEME,
        plainest.basis,
        _source(reached, main),
        (*_compiled(reached, main), *notes),
        tuple(part for each in reached for part in _parts(each, changing, named)),
        tuple(sorted(reach.outside)),
        tuple(sorted({*reach.state.values()})),
        _Current(watch, again),
    )
    if notes and warn:
        _warn_once(plain, root.name, notes)
    return identity


def _root(func: Any, reach: Reach) -> Node:
    """Return the node of a callable: of the plain function, with what its wrappers add."""
    *wrappers, plain = layers_of(func)
    if isinstance(plain, types.FunctionType):
        node = reach.function(plain)
    elif isinstance(plain, type) and reach.project.has_class(plain):
        node = reach.klass(plain)
    elif isinstance(plain, type) or is_named(plain):
        node = _named(plain, reach)
    else:
        node = _object(plain, reach)
    bound = [(kind, nodes) for layer in wrappers for kind, nodes in _bound(layer, reach) if node not in nodes]
    return _with_bound(node, bound) if bound else node


_Bound = tuple[str, list[Node]]


def _bound(layer: Any, reach: Reach) -> Iterator[_Bound]:
    """Yield what a wrapper adds to what it wraps: arguments, or code of the project's own."""
    if isinstance(layer, functools.partial):
        subject = "arguments of the partial"
        yield "partial", [reach.value(value, subject) for value in (layer.args, layer.keywords)]
    elif isinstance(layer, types.MethodType):
        yield "method", [reach.value(layer.__self__, "the object of the method")]
    elif isinstance(layer, types.FunctionType):
        target = reach.target(layer)
        if isinstance(target, Node):
            yield "wrapper", [target]


def _with_bound(node: Node, bound: list[_Bound]) -> Node:
    """Return a node of a function together with what is bound."""

    def encode(resolve: Resolve) -> bytes:
        added = b"".join([record(kind, [resolve(each) for each in nodes]) for kind, nodes in bound])
        return node.encode_bound(resolve, added)

    top = Node("bound function", node.name, encode, basis="")
    held = [each for _, nodes in bound for each in nodes]
    top.targets = lambda: [node, *held]
    top.notes = [f"{each.name}: {note}" for each in held if each.inline for note in each.notes]
    top.details = [("bound", node.name, each, None) for each in held if each.inline]
    return top


def _together(root: Node, others: list[Node]) -> Node:
    """Return a node of a function and of what it was said to depend on."""

    def encode(resolve: Resolve) -> bytes:
        return record("depends on", [resolve(root), *sorted({resolve(each) for each in others})])

    return Node(root.kind, root.name, encode, lambda: [root, *others])


def _depended(value: Any, reach: Reach) -> Node:
    """Return the node of something that the user says a function depends on."""
    if isinstance(value, os.PathLike):
        try:
            return reach.file(os.fspath(value))
        except OSError as error:
            raise Unidentified(
                f"depends_on= names a file that cannot be read ({error}); expected a file"
            ) from None
    if isinstance(value, types.ModuleType):
        return reach.module(value)
    if isinstance(value, type) or callable(value):
        return reach.klass(value) if isinstance(value, type) else _root(value, reach)
    raise Unidentified(
        f"depends_on= takes functions, classes, modules and paths, got {short(value)}; "
        f"wrap the name of a file in pathlib.Path"
    )


def _named(func: Any, reach: Reach) -> Node:
    """Return the node of a builtin, or of another package's class: name and version."""
    if isinstance(func, type):
        module, qualname = func.__module__, func.__qualname__
        owner = class_name(func)
    else:
        module, qualname = qualified(func)
        owner = leaf_tuple((module, qualname)) + _owner(func, reach)
    parts = [leaf(SCHEME), owner, leaf(version_of(module))]
    node = Node("function", qualname, basis="name")
    node.encode_bound = lambda resolve, added: record("named function", [*parts, added])
    node.encode = lambda resolve: node.encode_bound(resolve, b"")
    return node


def _object(func: Any, reach: Reach) -> Node:
    """Return the node of a callable object: its class's ``__call__``, its class, and what it holds."""
    kind = type(func)
    call = reach.target(kind.__call__)
    whole = reach.target(kind)
    reach.require(func)
    own = reach.value(func, "the object")
    held = [each for each in (call, whole, own) if isinstance(each, Node)]
    main = call if isinstance(call, Node) else own
    node = Node("object", kind.__qualname__, basis="", place=str(kind.__module__))
    node.targets = lambda: [main, *held]

    def encode(resolve: Resolve, added: bytes) -> bytes:
        parts = [resolve(each) if isinstance(each, Node) else each or b"" for each in (call, whole, own)]
        return record("callable object", [leaf(SCHEME), *parts, added])

    node.encode_bound = encode
    node.encode = lambda resolve: encode(resolve, b"")
    return node


def is_named(func: Any) -> bool:
    """Tell whether a callable is known by its name: a builtin, a ufunc, or compiled by Cython.

    Parameters
    ----------
    func : callable
        The callable.

    Returns
    -------
    bool
        True if so.
    """
    return isinstance(func, NAMED_TYPES) or type(func).__name__ == "cython_function_or_method"


def _owner(func: Any, reach: Reach) -> bytes:
    """Return the encoding of the object that a builtin method is bound to."""
    owner = getattr(func, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return b""
    return encode_at(owner, Walk(reach.encoder_of), ".__self__")


# --- what people are told ------------------------------------------------------------------------


def _parts(node: Node, state: set[Hashable], named: Resolve) -> Iterator[Part]:
    if node.kind != "bound function":
        data = (node.outline or node.encode)(named)
        yield Part(node.kind, node.name, xxhash.xxh3_128_hexdigest(data), node.basis, node.place)
    for kind, name, value, key in node.details:
        data = value.encode(named)
        if data != leaf(None) and key not in state:
            yield Part(kind, name, xxhash.xxh3_128_hexdigest(data), "value", node.place)


def _by_name(node: Node) -> bytes:
    if node.inline:
        return node.encode(_by_name)
    return simple(node.kind, node.name, node.mark if node.name.endswith("<lambda>") else b"")


def _notes_of(node: Node, main: set[Node]) -> list[str]:
    if node in main or node.kind != "function":
        return node.notes
    return [f"the function '{node.name}': {note}" for note in node.notes]


def _compiled(reached: list[Node], main: set[Node]) -> Iterator[str]:
    for each in reached:
        if each.basis == "code object" and each.kind == "function":
            subject = "" if each in main else f"the function '{each.name}': "
            yield (
                f"{subject}there is no source that compiles to the code that runs, so the compiled code counts, "
                f"which another version of Python compiles otherwise"
            )


def _source(reached: list[Node], main: set[Node]) -> str | None:
    """Return the text of all functions, the main one first, the others under their names."""
    texts = []
    for each in reached:
        if each.source is not None:
            text = "\n".join([line.rstrip() for line in each.source.splitlines()])
            texts.append(text if each in main else f"# {each.name}\n{text}")
    return "\n\n\n".join(texts) if texts else None


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


# --- functions as values -------------------------------------------------------------------------


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
    if walk.reach is None:
        identity = _identity_of_value(value, walk)
        return simple("function", identity.qualname, bytes.fromhex(identity.digest))
    reached = walk.reach(value)
    if reached is not None:
        return reached
    if not is_named(value):
        return encode(value.__wrapped__, walk)
    try:
        name = leaf_tuple(qualified(value))
    except Unidentified as trouble:
        return refuse(value, walk, trouble.reason)
    return record("named method", [name, encode_at(value.__self__, walk, ".__self__")])


_MOST_VALUES: Final = 256
_identities: dict[int, tuple[Any, FunctionIdentity]] = {}


def _identity_of_value(value: Any, walk: Walk) -> FunctionIdentity:
    """Return the identity of a function that is passed around, taken again only when it has changed."""
    found, identity = _identities.get(id(value), (None, None))
    if identity is None or found is not value or not identity.unchanged():
        identity = identify(value, walk.encoder_of)
        while len(_identities) >= _MOST_VALUES:
            _identities.pop(next(iter(_identities)), None)
        _identities[id(value)] = value, identity
    return identity


def _partial(value: functools.partial[Any], walk: Walk) -> bytes:
    func = encode_at(value.func, walk, ".func")
    args = encode_at(value.args, walk, ".args")
    return record("partial", [func, args, encode_at(value.keywords, walk, ".keywords")])


def _method(value: types.MethodType, walk: Walk) -> bytes:
    func = encode_at(value.__func__, walk, ".__func__")
    return record("method", [func, encode_at(value.__self__, walk, ".__self__")])


def _operator(value: Any, walk: Walk) -> bytes:
    kind, arguments = value.__reduce__()[:2]
    return record("operator", [class_name(kind, walk), encode(arguments, walk)])


def _vectorize(value: np.vectorize, walk: Walk) -> bytes:
    return encode_fields(value, ("pyfunc", "otypes", "signature", "excluded"), "numpy.vectorize", walk)


FUNCTION_ENCODERS: Final[dict[type, Encoder]] = {
    types.FunctionType: encode_function,
    types.MethodType: _method,
    functools.partial: _partial,
    np.vectorize: _vectorize,
    operator.attrgetter: _operator,
    operator.itemgetter: _operator,
    **dict.fromkeys(NAMED_TYPES, encode_function),
}
"""The encoder of each exact type."""

FUNCTION_FAMILIES: Final[tuple[tuple[type, Encoder], ...]] = ((type(functools.lru_cache(len)), encode_function),)
"""The encoder of each type that is recognised by a base class."""
