"""Owns what of a function's syntax tree counts: not comments, docstrings, positions, annotations.

Neither do the decorators and the defaults of the function itself: what they amount to is known
when the function is there, and counts by its value.

A digest takes as long as this walk and a second compilation take. So names, constants and operators, half of all
nodes, are written in one piece, and the fields of others are fetched by one `attrgetter`.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from chunk_memo.identity.grammar import LEAVES, leaf, leaf_tuple, size, text

__all__ = ["FunctionNode", "expression_bytes", "tree_bytes"]

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
    return _tree_bytes(_Top(node), functools.cache(functools.partial(_declared, node)))


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
    return _tree_bytes(node, set)


def _tree_bytes(node: ast.AST | _Top, declared: _Declared) -> bytes:
    out: list[bytes] = []
    stack: list[Any] = [node]
    in_class = False
    while stack:
        item = stack.pop()
        kind = type(item)
        whole = _WHOLE.get(kind)
        if whole is not None:
            out.append(whole(item))
        elif kind is list:
            out.append(b"l" + size(len(item)))
            stack += item[::-1]
        elif kind is _Leave:
            in_class = item.in_class
        elif (plain := _PLAIN[kind] if kind in _PLAIN else _plain(kind)) is not None:  # nearly all
            values = plain.get(item)
            if all(values):
                out.append(plain.head)
                stack += values[::-1]
            else:
                fields = _kept(plain.names, values)
                out.append(_head(plain.name, tuple([name for name, _ in fields])))
                stack += [value for _, value in reversed(fields)]
        else:
            name, fields, within = _node(item, in_class, declared)
            out.append(_head(name, tuple([field for field, _ in fields])))
            if within is not in_class:
                stack.append(_Leave(in_class))
                in_class = within
            stack += [value for _, value in reversed(fields)]
    return b"".join(out)


@functools.cache
def _head(name: str, fields: tuple[str, ...]) -> bytes:
    return b"(" + leaf_tuple((name, *fields))


class _Plain(NamedTuple):
    """A class of nodes all of whose fields count as they are."""

    name: str
    """its name"""
    names: tuple[str, ...]
    """the fields that count"""
    get: Callable[[Any], tuple[Any, ...]]
    """returns their values"""
    head: bytes
    """what a node begins with that lacks none of them"""


_PLAIN: Final[dict[type, _Plain | None]] = {}


def _plain(kind: type) -> _Plain | None:
    """Return how nodes of a class are written; None where something of a node is left out."""
    names = tuple(name for name in getattr(kind, "_fields", ()) if name not in _IGNORED_FIELDS)
    bodies = {"body", "orelse", "finalbody"} & {*names}
    if not issubclass(kind, ast.AST) or issubclass(kind, _SPECIAL) or bodies:
        _PLAIN[kind] = None
    else:
        _PLAIN[kind] = _Plain(kind.__name__, names, _getter(names), _head(kind.__name__, names))
    return _PLAIN[kind]


class _Leave(NamedTuple):
    """Stands behind the content of a body, where another begins or goes on."""

    in_class: bool
    """whether that is a class's"""


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gets attributes as a tuple, of however many names."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda item: tuple([getattr(item, name) for name in names])


_SPECIAL: Final = (ast.AnnAssign, ast.JoinedStr, ast.FormattedValue)
"""Nodes of which something is left out, beside those that have a body."""

_OPERATORS: Final = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop)

_NAME, _CONSTANT, _ARG = _head("Name", ("id",)), _head("Constant", ("value",)), _head("arg", ("arg",))

_WHOLE: Final[dict[type, Callable[[Any], bytes]]] = {
    **LEAVES,
    ast.Name: lambda node: _NAME + text(node.id),
    ast.Constant: lambda node: _CONSTANT + leaf(node.value),
    ast.arg: lambda node: _ARG + text(node.arg),
    **{
        kind: functools.partial(lambda data, node: data, _head(kind.__name__, ()))
        for kinds in _OPERATORS
        for kind in kinds.__subclasses__()
    },
}
"""What is written in one piece, and how."""

_Declared = Callable[[], set[str]]
"""Returns the names that are local anyway; seldom called, as it goes through the whole tree."""


def _declared(node: FunctionNode) -> set[str]:
    """Return the names that are local anyway, without any bare annotation."""
    nodes = [*ast.walk(node)]
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


def _node(item: ast.AST | _Top, in_class: bool, declared: _Declared) -> tuple[str, _Fields, bool]:
    """Return a node's name, the fields that count, and whether they lie in a class's body."""
    if isinstance(item, _Top):
        args = [(name, value) for name, value in _plain_fields(item.node.args) if "defaults" not in name]
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


def _plain_fields(node: ast.AST) -> _Fields:
    names = [name for name in node._fields if name not in _IGNORED_FIELDS]
    return _kept(names, [getattr(node, name, None) for name in names])


def _kept(names: Iterable[str], values: Iterable[Any]) -> _Fields:
    """Return the fields that are not empty."""
    pairs = zip(names, values, strict=True)
    return [(name, value) for name, value in pairs if value is not None and value != []]


def _tidied(node: ast.AST, name: str, value: Any, declared: _Declared, in_class: bool) -> Any:
    """Return a field without docstrings, and without bare annotations that declare nothing new."""
    if not isinstance(value, list) or name not in ("body", "orelse", "finalbody"):
        return value
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if documented:
        return _body(value, declared, in_class)
    return _without_annotations(value, declared, in_class)


def _body(statements: list[ast.stmt], declared: _Declared, in_class: bool) -> list[ast.stmt]:
    first = statements[0] if statements else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        statements = statements[1:]
    return _without_annotations(statements, declared, in_class)


def _without_annotations(statements: list[ast.stmt], declared: _Declared, in_class: bool) -> list[ast.stmt]:
    kept = [
        each
        for each in statements
        if in_class  # where they make fields
        or not (
            isinstance(each, ast.AnnAssign)
            and each.value is None
            and isinstance(each.target, ast.Name)
            and each.target.id in declared()
        )
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
