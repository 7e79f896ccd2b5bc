"""Owns the way from a function to its source: the tree and text that compile to the code that runs.

A file may have changed since it was imported, and lines of it may look alike, so the place that a
code object names is not trusted. The text as it is now is compiled, and the function is found by
its equal among the code objects that come out.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
import threading
import types
import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from chunk_memo.identity.grammar import leaf, leaf_tuple, record, text
from chunk_memo.identity.syntax import FunctionNode
from chunk_memo.identity.walk import Walk, encode

__all__ = ["COMPILING", "Texts", "Written", "code_bytes", "written_fields"]

COMPILING: Final = threading.Lock()
"""To be held where warnings are caught while something is compiled: that changes what all threads see."""

_SHAPE_FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
"""Flags of a code object that say what it is: *args, **kwargs, generator, coroutine, …"""

_FUTURE_FLAGS: Final = 0x1000000 | 0x400000  # annotations, barry_as_FLUFL


def code_bytes(code: types.CodeType, walk: Walk) -> bytes:
    """Return the encoding of everything in a code object but names of files and positions.

    Parameters
    ----------
    code : code object
        The code.
    walk : Walk
        Where the encoding stands; the constants are encoded as if on their own.

    Returns
    -------
    bytes
        It differs between versions of Python.
    """
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    parts = [text(code.co_name), leaf_tuple((*counts, code.co_flags & _SHAPE_FLAGS))]
    parts += [leaf(code.co_code), leaf(code.co_exceptiontable)]
    parts += [leaf_tuple(some) for some in names]
    alone = Walk(walk.encoder_of)
    for const in code.co_consts:
        inner = isinstance(const, types.CodeType)
        parts.append(code_bytes(const, walk) if inner else encode(const, alone))
    return record("code", parts)


class Written(NamedTuple):
    """A function as it stands in its file."""

    node: FunctionNode
    """The tree."""
    source: str
    """The text."""


class _Module(NamedTuple):
    """A source text: its functions as trees, and what they compile to."""

    source: str
    """the text"""
    lines: list[str]
    """its lines"""
    nodes: dict[tuple[str, int], list[FunctionNode]]
    """by name and first line; only lambdas can share both"""
    codes: dict[str, list[types.CodeType]]
    """by qualified name"""
    classes: dict[str, list[ast.ClassDef]]
    """by qualified name"""


class Texts:
    """Source texts as one identification finds them: each file is looked at once, not for each function."""

    def __init__(self) -> None:
        self._modules: dict[tuple[str, int], _Module | None] = {}

    def written_form(self, func: types.FunctionType, walk: Walk) -> Written | None:
        """Return the written form of a function, where compiling it gives the code that runs.

        Parameters
        ----------
        func : function
            A Python function.
        walk : Walk
            Where the encoding stands; knows how constants are encoded.

        Returns
        -------
        Written or None
            None where there is no text, or one that compiles to something else.
        """
        code = func.__code__
        key = code.co_filename, code.co_flags & _FUTURE_FLAGS
        if key not in self._modules:
            self._modules[key] = _module(code.co_filename, func.__globals__, key[1])
        module = self._modules[key]
        if module is None:
            return None
        twin = _twin(code, module.codes.get(code.co_qualname, []), walk)
        if twin is None:
            return None
        nodes = module.nodes.get((twin.co_name, twin.co_firstlineno), [])
        node = nodes[0] if len(nodes) == 1 else _node_of(twin, nodes)
        return None if node is None else Written(node, _segment(node, module))


def written_fields(filename: str, space: dict[str, Any], qualname: str) -> dict[str, ast.expr] | None:
    """Return the annotations of a class's body, where its text is there and tells one class.

    Parameters
    ----------
    filename : str
        Where the class should stand.
    space : dict
        The globals of its module.
    qualname : str
        Its qualified name.

    Returns
    -------
    dict or None
        The last annotation of each name; None where there is no text, or not just one such class.
    """
    module = _module(filename, space, 0)
    nodes = [] if module is None else module.classes.get(qualname, [])
    if len(nodes) != 1:
        return None
    fields = [each for each in nodes[0].body if isinstance(each, ast.AnnAssign)]
    return {each.target.id: each.annotation for each in fields if isinstance(each.target, ast.Name)}


def _module(filename: str, space: dict[str, Any], flags: int) -> _Module | None:
    """Return what the text of a file compiles to, if it does."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, space)
    if not lines:
        return None
    known = _compiled_lines.get((filename, flags))
    if known is not None and known[0] is lines:  # linecache makes a new list of a file that has changed
        return known[1]
    try:
        with COMPILING:
            module: _Module | None = _compiled("".join(lines), flags)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        module = None
    while len(_compiled_lines) >= _MOST_FILES:
        _compiled_lines.pop(next(iter(_compiled_lines)), None)
    _compiled_lines[filename, flags] = lines, module
    return module


_MOST_FILES: Final = 256
_compiled_lines: Final[dict[tuple[str, int], tuple[list[str], _Module | None]]] = {}


def _twin(code: types.CodeType, compiled: list[types.CodeType], walk: Walk) -> types.CodeType | None:
    """Return the code object that equals one that runs, at its place if several do."""
    if len(compiled) == 1 and compiled[0] == code:  # strict, and quick
        return compiled[0]
    wanted = code_bytes(code, walk)
    places = set(code.co_positions())

    def distance(each: types.CodeType) -> tuple[int, int]:
        shared = len(places.intersection(each.co_positions()))
        return -shared, abs(each.co_firstlineno - code.co_firstlineno)

    equal = (each for each in compiled if code_bytes(each, walk) == wanted)
    return min(equal, key=distance, default=None)


def _node_of(code: types.CodeType, nodes: list[FunctionNode]) -> FunctionNode | None:
    """Return the lambda, of several on one line, whose body all of the code lies in."""
    places = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column  # the first has no width
    ]
    holding = [
        (start, end, node)
        for start, end, node in map(_body_span, nodes)
        if places and all(start <= first and last <= end for first, last in places)
    ]
    # of lambdas within lambdas the innermost: the latest start, then the earliest end
    holding.sort(key=lambda span: (span[0], [-each for each in span[1]]))
    return holding[-1][2] if holding else None


def _body_span(node: FunctionNode) -> tuple[tuple[int, int], tuple[int, int], FunctionNode]:
    body = node.body
    first, last = (body, body) if isinstance(body, ast.expr) else (body[0], body[-1])
    start = (first.lineno, first.col_offset)
    return start, (last.end_lineno or 0, last.end_col_offset or 0), node


def _compiled(source: str, flags: int) -> _Module:
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # notebooks await in cells
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = compile(source, "<source>", "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        module = compile(tree, "<source>", "exec", flags, dont_inherit=True)
    nodes: dict[tuple[str, int], list[FunctionNode]] = {}
    classes: dict[str, list[ast.ClassDef]] = {}
    for node, prefix in _definitions(tree, lambdas="lambda" in source):
        if isinstance(node, ast.ClassDef):
            classes.setdefault(prefix + node.name, []).append(node)
            continue
        # a code object's first line is that of its first decorator, if there is one
        first = [node, *getattr(node, "decorator_list", [])][:2][-1]
        key = getattr(node, "name", "<lambda>"), first.lineno
        nodes.setdefault(key, []).append(node)
    codes: dict[str, list[types.CodeType]] = {}
    for code in _code_tree(module):
        codes.setdefault(code.co_qualname, []).append(code)
    return _Module(source, source.split("\n"), nodes, codes, classes)


def _definitions(tree: ast.AST, *, lambdas: bool) -> Iterator[tuple[FunctionNode | ast.ClassDef, str]]:
    """Yield functions and classes, each with what stands before its name in its qualified name."""
    fields: dict[type, tuple[str, ...]] = {}
    waiting: deque[tuple[ast.AST, str]] = deque([(tree, "")])
    while waiting:
        node, prefix = waiting.popleft()
        if isinstance(node, FunctionNode | ast.ClassDef):
            yield node, prefix
            within = "." if isinstance(node, ast.ClassDef) else ".<locals>."
            prefix += getattr(node, "name", "<lambda>") + within
        kind = type(node)
        if kind not in fields:
            fields[kind] = tuple(name for name in kind._fields if lambdas or name in _BODIES)
        for name in fields[kind]:
            child = getattr(node, name, None)
            if isinstance(child, list):
                waiting.extend([(each, prefix) for each in child if isinstance(each, ast.AST)])
            elif isinstance(child, ast.AST) and child._fields:
                waiting.append((child, prefix))


_BODIES: Final = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
"""Fields that hold statements, and what holds some in turn; no other holds a ``def`` or a class."""


def _segment(node: FunctionNode, module: _Module) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment(module.source, node) or ""
    text = "\n".join(module.lines[node.lineno - 1 : node.end_lineno])
    return textwrap.dedent(text) if node.col_offset else text


def _code_tree(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _code_tree(const)
