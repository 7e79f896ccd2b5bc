"""Owns the way from a function to its source: the tree and text that compile to the code that runs.

A file may have changed since it was imported, and lines of it may look alike, so the place that a
code object names is not trusted. The text as it is now is compiled, and the function is found by
its equal among the code objects that come out. That one tells the lines of which a tree is made: of a
file of thousands of lines those of the functions that are reached are parsed, and no others.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from chunk_memo.identity.grammar import leaf, leaf_tuple, record, text
from chunk_memo.identity.names import Names, names_of_tree
from chunk_memo.identity.syntax import FunctionNode, expression_bytes, tree_bytes
from chunk_memo.identity.walk import Walk, encode

__all__ = ["COMPILING", "Texts", "Written", "code_bytes", "written_fields"]

COMPILING: Final = threading.Lock()
"""To be held where warnings are caught while something is compiled: that changes what all threads see."""

_SHAPE_FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
"""Flags of a code object that say what it is: *args, **kwargs, generator, coroutine, …"""

_OPTIMIZED: Final = 0x01
"""The flag of a function's code, which that of a class's body has not."""

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

    tree: bytes
    """what counts of its syntax tree"""
    names: Names
    """what its body says of the world outside of it"""
    source: str
    """its text"""


class _Module(NamedTuple):
    """A source text, what it compiles to, and what is known of it so far.

    No syntax tree is kept: one has ten nodes for each line, through which the garbage collector would go
    again and again for as long as the process runs.
    """

    lines: list[str]
    """the text"""
    codes: dict[str, list[types.CodeType]]
    """what it compiles to, by qualified name"""
    flags: int
    """what the compiler is told"""
    quiet: bool
    """whether compiling it gives no warning"""
    functions: dict[int, Written | None]
    """functions that were asked for, by the id of their code"""
    fields: dict[int, dict[str, bytes]]
    """annotations of classes that were asked for, by the id of the code of their body"""


_Definition = FunctionNode | ast.ClassDef


class Texts:
    """Source texts as one identification finds them: each file is looked at once, not for each function."""

    def __init__(self) -> None:
        self._modules: dict[tuple[str, int], _Module | None] = {}
        self._trees: dict[int, _Trees] = {}

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
        if id(twin) not in module.functions:
            module.functions[id(twin)] = self._look(twin, module)
        return module.functions[id(twin)]

    def _look(self, code: types.CodeType, module: _Module) -> Written | None:
        """Return the written form of a function by its code, parsing as little of the file as will do."""
        node, lines = (None, []) if code.co_name == "<lambda>" else _alone(code, module)
        if node is None:
            lines = module.lines
            if id(lines) not in self._trees:
                self._trees[id(lines)] = _whole(module)
            nodes = self._trees[id(lines)].get((code.co_name, code.co_firstlineno), [])
            node = nodes[0] if len(nodes) == 1 else _node_of(code, nodes)
        if node is None or isinstance(node, ast.ClassDef):
            return None
        return Written(tree_bytes(node), names_of_tree(node), _segment(node, lines))


def written_fields(filename: str, space: dict[str, Any], qualname: str) -> dict[str, bytes] | None:
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
        What counts of the last annotation of each name; None where there is no text, or not just one such class.
    """
    module = _module(filename, space, 0)
    found = [] if module is None else module.codes.get(qualname, [])
    bodies = [each for each in found if not each.co_flags & _OPTIMIZED]
    if module is None or len(bodies) != 1:
        return None
    key = id(bodies[0])
    if key not in module.fields:
        module.fields[key] = _fields(bodies[0], module)
    return module.fields[key]


def _fields(code: types.CodeType, module: _Module) -> dict[str, bytes]:
    """Return the annotations of a class by the code of its body."""
    alone, _ = _alone(code, module)
    nodes = [alone] if alone is not None else _whole(module).get((code.co_name, code.co_firstlineno), [])
    body = [each for node in nodes if isinstance(node, ast.ClassDef) for each in node.body]
    return {
        each.target.id: expression_bytes(each.annotation)
        for each in body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }


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
        module: _Module | None = _compiled(lines, flags)
    except _NOT_COMPILED:
        module = None
    while len(_compiled_lines) >= _MOST_FILES:
        _compiled_lines.pop(next(iter(_compiled_lines)), None)
    _compiled_lines[filename, flags] = lines, module
    return module


_MOST_FILES: Final = 256
_compiled_lines: Final[dict[tuple[str, int], tuple[list[str], _Module | None]]] = {}
_NOT_COMPILED: Final = (SyntaxError, ValueError, RecursionError, MemoryError)


def _compiled(lines: list[str], flags: int) -> _Module:
    source = "".join(lines)
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # notebooks await in cells
    with COMPILING, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        module = compile(source, "<source>", "exec", flags, dont_inherit=True)
    codes: dict[str, list[types.CodeType]] = {}
    for code in _code_tree(module):
        codes.setdefault(code.co_qualname, []).append(code)
    return _Module(source.split("\n"), codes, flags, not told, {}, {})


def _code_tree(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _code_tree(const)


# --- from code to its tree -----------------------------------------------------------------------

_Trees = dict[tuple[str, int], list[_Definition]]
"""Functions and classes of a text by name and first line; only lambdas can share both."""


def _parse(source: str, module: _Module) -> ast.Module:
    flags = module.flags | ast.PyCF_ONLY_AST
    if module.quiet:
        tree = compile(source, "<source>", "exec", flags, dont_inherit=True)
    else:
        with COMPILING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = compile(source, "<source>", "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def _whole(module: _Module) -> _Trees:
    """Return all functions and classes of a text."""
    found: _Trees = {}
    try:
        tree = _parse("\n".join(module.lines), module)
    except _NOT_COMPILED:
        return found
    for node in ast.walk(tree):
        if isinstance(node, _Definition):
            # a code object's first line is that of its first decorator, if there is one
            first = [node, *getattr(node, "decorator_list", [])][:2][-1]
            found.setdefault((getattr(node, "name", "<lambda>"), first.lineno), []).append(node)
    return found


def _alone(code: types.CodeType, module: _Module) -> tuple[_Definition | None, list[str]]:
    """Return the tree of a function or class and the lines that it stands for; None where more lines are needed.

    Its lines begin where the code says, and end before the next that is not indented more. Where that is wrong,
    as such a line lies in brackets or in a text, they are not a whole statement.
    """
    first, text = code.co_firstlineno - 1, module.lines
    head = text[first] if 0 <= first < len(text) else ""
    indent = len(head) - len(head.lstrip())
    end = first
    while not text[end : end + 1] or not text[end].startswith(("def ", "async ", "class "), indent):
        if not head.startswith("@", indent) or end >= len(text):
            return None, []
        end += 1
    end += 1
    while end < len(text):
        start = text[end][: indent + 1]
        if start and not start.isspace() and text[end].lstrip()[0] not in _NO_STATEMENT:
            break
        end += 1
    lines = [*(["if 1:"] if indent else []), *text[first:end]]
    try:
        body: list[Any] = _parse("\n".join(lines), module).body
    except _NOT_COMPILED:
        return None, []
    if indent and len(body) == 1:
        body = body[0].body
    node = body[0]
    if len(body) != 1 or not isinstance(node, _Definition) or getattr(node, "name", "") != code.co_name:
        return None, []
    return node, lines


_NO_STATEMENT: Final = frozenset("#)]}")
"""What no statement begins with: a comment, or the end of a signature that takes more lines than one."""


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


def _node_of(code: types.CodeType, nodes: list[_Definition]) -> _Definition | None:
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


def _body_span(node: _Definition) -> tuple[tuple[int, int], tuple[int, int], _Definition]:
    body = node.body
    first, last = (body, body) if isinstance(body, ast.expr) else (body[0], body[-1])
    start = (first.lineno, first.col_offset)
    return start, (last.end_lineno or 0, last.end_col_offset or 0), node


def _segment(node: FunctionNode, lines: list[str]) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment("\n".join(lines), node) or ""
    text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return textwrap.dedent(text) if node.col_offset else text
