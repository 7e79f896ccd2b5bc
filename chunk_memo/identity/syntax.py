"""Owns what of a function's syntax tree counts: not comments, docstrings, positions, annotations.

Neither do the decorators and the defaults of the function itself: what they amount to is known
when the function is there, and counts by its value.

A digest takes as long as this walk and a second compilation take. So names, constants and operators, half of all
nodes, are written in one piece, and the fields of others are fetched by one `attrgetter`.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from chunk_memo.identity.grammar import LEAVES, leaf, leaf_tuple, size, text

__all__ = ["FunctionNode", "expression_bytes", "getter", "tree_bytes"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
"""The tree of a function."""

_IGNORED_FIELDS: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params", "returns"})


def tree_bytes(node: FunctionNode) -> bytes:
    """Return the encoding of a function's tree, the same in every version of Python.

    Nodes are written as class and non-empty fields, so a field that a later Python adds changes
    nothing until it is used. Not recursive: ``a + b + c + …`` nests as deep as it is long.

    Parameters
    ----------
    node : syntax tree
        The function, or lambda.

    Returns
    -------
    bytes
        What its identity rests on, and no canonical bytes of any value.

    Examples
    --------
    >>> def tree(text):
    ...     return ast.parse(text).body[0]
    >>> one, two = tree("def f(x): return x + 1"), tree("def f(x: int) -> int: return (x + 1)  # why")
    >>> tree_bytes(one) == tree_bytes(two)
    True
    """
    return _tree_bytes(_Top(node), _Locals(node))


def expression_bytes(node: ast.expr) -> bytes:
    """Return the encoding of an expression's tree, such as the annotation of a class's field.

    Parameters
    ----------
    node : syntax tree
        The expression; of a str that holds one, the expression counts.

    Returns
    -------
    bytes
        As `tree_bytes`.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return _tree_bytes(node, _Locals(node))


def getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gets attributes as a tuple, of however many names.

    Parameters
    ----------
    names : sequence of str
        The names.

    Returns
    -------
    callable
        ``get(node) -> tuple``.

    Examples
    --------
    >>> getter(["id"])(ast.Name("x"))
    ('x',)
    """
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda item: tuple([getattr(item, name) for name in names])


def _tree_bytes(node: ast.AST | _Top, declared: _Locals) -> bytes:
    out: list[bytes] = []
    stack: list[Any] = [node]
    write, pop = out.append, stack.pop
    in_class = False
    while stack:
        item = pop()
        kind = type(item)
        if kind is list:
            write(_LISTS[len(item)] if len(item) < len(_LISTS) else b"l" + size(len(item)))
            stack += item[::-1]
        elif kind is ast.Name:
            write(_name(item.id))
        elif kind is str:
            write(_text(item))
        elif kind in _WHOLE:
            write(_WHOLE[kind](item))
        elif kind is _Leave:
            in_class = item.in_class
        elif (plain := _PLAIN[kind] if kind in _PLAIN else _plain(kind)) is not None and (
            plain.bodies is None or not _annotates(plain.bodies(item))
        ):
            values = plain.get(item)
            if all(values):
                write(plain.head)
                stack += values[::-1]
            else:
                present = tuple([value is not None and value != [] for value in values])
                head = plain.heads.get(present)
                if head is None:
                    names = tuple(itertools.compress(plain.names, present))
                    head = plain.heads[present] = _head(plain.name, names)
                write(head)
                stack += [*itertools.compress(values, present)][::-1]
        else:
            name, fields, within = _node(item, in_class, declared)
            write(_head(name, tuple([field for field, _ in fields])))
            if within is not in_class:
                stack.append(_Leave(in_class))
                in_class = within
            stack += [value for _, value in fields[::-1]]
    return b"".join(out)


@functools.cache
def _head(name: str, fields: tuple[str, ...]) -> bytes:
    return b"(" + leaf_tuple((name, *fields))


class _Plain(NamedTuple):
    """A class of nodes all of whose fields count as they are, unless a body has bare annotations."""

    name: str
    """its name"""
    names: tuple[str, ...]
    """the fields that count"""
    get: Callable[[Any], tuple[Any, ...]]
    """returns their values"""
    head: bytes
    """what a node begins with that lacks none of them"""
    bodies: Callable[[Any], tuple[list[ast.stmt], ...]] | None
    """returns its bodies; None where it has none"""
    heads: dict[tuple[bool, ...], bytes]
    """what others begin with, by which fields they have"""


_PLAIN: Final[dict[type, _Plain | None]] = {}


def _plain(kind: type) -> _Plain | None:
    """Return how nodes of a class are written; None where something of a node is left out."""
    names = tuple(name for name in getattr(kind, "_fields", ()) if name not in _IGNORED_FIELDS)
    bodies = tuple(name for name in names if name in _BODIES)
    if not issubclass(kind, ast.AST) or issubclass(kind, _SPECIAL):
        _PLAIN[kind] = None
    else:
        within = getter(bodies) if bodies else None
        _PLAIN[kind] = _Plain(kind.__name__, names, getter(names), _head(kind.__name__, names), within, {})
    return _PLAIN[kind]


def _annotates(bodies: Iterable[list[ast.stmt]]) -> bool:
    """Tell whether a statement of some bodies is an annotation, and may be left out."""
    return any(ast.AnnAssign in map(type, body) for body in bodies)


class _Leave(NamedTuple):
    """Stands behind the content of a body, where another begins or goes on."""

    in_class: bool
    """whether that is a class's"""


_BODIES: Final = ("body", "orelse", "finalbody")
"""Fields that hold statements, of which bare annotations are left out."""

_SPECIAL: Final = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.AnnAssign, ast.JoinedStr, ast.FormattedValue),
    *(ast.IfExp, ast.Expression),  # whose ``body`` is no list
)
"""Nodes of which something is left out, or that are written with care for other reasons."""

_OPERATORS: Final = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop)

_NAME, _CONSTANT, _ARG = _head("Name", ("id",)), _head("Constant", ("value",)), _head("arg", ("arg",))

_LISTS: Final = [b"l" + size(length) for length in range(32)]
"""What lists begin with, of most lengths that there are."""

_text: Final = functools.lru_cache(maxsize=4096)(text)


@functools.lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    return _NAME + text(name)


_WHOLE: Final[dict[type, Callable[[Any], bytes]]] = {
    **LEAVES,
    ast.Constant: lambda node: _CONSTANT + leaf(node.value),
    ast.arg: lambda node: _ARG + text(node.arg),
    **{
        kind: functools.partial(lambda data, node: data, _head(kind.__name__, ()))
        for kinds in _OPERATORS
        for kind in kinds.__subclasses__()
    },
}
"""What is written in one piece, and how."""


class _Locals:
    """The names that are local anyway, without any bare annotation; found when asked for, which is seldom."""

    __slots__ = ("_names", "_node")

    def __init__(self, node: ast.AST) -> None:
        self._node = node
        self._names: set[str] | None = None

    def __contains__(self, name: str) -> bool:
        if self._names is None:
            self._names = self._found()
        return name in self._names

    def _found(self) -> set[str]:
        nodes = [*ast.walk(self._node)]
        bare = [each.target for each in nodes if isinstance(each, ast.AnnAssign) and not each.value]
        names = {each.arg for each in nodes if isinstance(each, ast.arg)}
        return names | {
            each.id
            for each in nodes
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store) and each not in bare
        }


class _Top(NamedTuple):
    """The function whose identity is taken: its decorators and its defaults do not count here."""

    node: FunctionNode


_Fields = list[tuple[str, Any]]


def _node(item: ast.AST | _Top, in_class: bool, declared: _Locals) -> tuple[str, _Fields, bool]:
    """Return a node's name, the fields that count, and whether they lie in a class's body."""
    if isinstance(item, _Top):
        args = _kept(_SIGNATURE, _signature(item.node.args))
        body = item.node.body
        kept = body if isinstance(body, ast.expr) else _body(body, declared, in_class=False)
        return type(item.node).__name__, [*args, ("body", kept)], False
    name = type(item).__name__
    fields = _plain_fields(item)
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        in_class = isinstance(item, ast.ClassDef)
    if isinstance(item, ast.AnnAssign) and not in_class and item.value is not None:
        return "Assign", [("targets", [item.target]), ("value", item.value)], False
    elif isinstance(item, ast.JoinedStr):
        fields = [("values", _joined(item.values))]
    elif isinstance(item, ast.FormattedValue):
        fields = [pair for pair in fields if not (pair[0] == "format_spec" and _is_empty(pair[1]))]
    return (
        name,
        [(key, _tidied(item, key, value, declared, in_class)) for key, value in fields],
        in_class,
    )


_SIGNATURE: Final = ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg")
_signature: Final = operator.attrgetter(*_SIGNATURE)


def _plain_fields(node: ast.AST) -> _Fields:
    names = [name for name in node._fields if name not in _IGNORED_FIELDS]
    return _kept(names, [getattr(node, name, None) for name in names])


def _kept(names: Iterable[str], values: Iterable[Any]) -> _Fields:
    """Return the fields that are not empty."""
    pairs = zip(names, values, strict=True)
    return [(name, value) for name, value in pairs if value is not None and value != []]


def _tidied(node: ast.AST, name: str, value: Any, declared: _Locals, in_class: bool) -> Any:
    """Return a field without docstrings, and without bare annotations that declare nothing new."""
    if not isinstance(value, list) or name not in _BODIES:
        return value
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if documented:
        return _body(value, declared, in_class)
    return _without_annotations(value, declared, in_class)


def _body(statements: list[ast.stmt], declared: _Locals, in_class: bool) -> list[ast.stmt]:
    first = statements[0] if statements else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        statements = statements[1:]
    return _without_annotations(statements, declared, in_class)


def _without_annotations(statements: list[ast.stmt], declared: _Locals, in_class: bool) -> list[ast.stmt]:
    if in_class or not _annotates([statements]):  # in a class they make fields
        return statements or [ast.Pass()]
    kept = [
        each
        for each in statements
        if not isinstance(each, ast.AnnAssign)
        or each.value is not None
        or not isinstance(each.target, ast.Name)
        or each.target.id not in declared
    ]
    return kept or [ast.Pass()]


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string, of which Pythons cut the text differently."""
    out: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant):
            if not value.value:
                continue
            if out and isinstance(out[-1], ast.Constant):
                out[-1] = ast.Constant(str(out[-1].value) + str(value.value))
                continue
        out.append(value)
    return out


def _is_empty(value: Any) -> bool:
    return isinstance(value, ast.JoinedStr) and not _joined(value.values)
