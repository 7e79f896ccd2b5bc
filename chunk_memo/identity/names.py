"""Owns the names that code reads, rebinds and changes in place, as far as its text says so.

A *path* is a name from outside of the code with the attributes that follow it, ``helpers.scale``, or
what an ``import`` inside of the code brings in, also one that is written as a call with the module's name as
text, ``importlib.import_module("helpers").scale``; ``globals()["RATE"]`` is the path ``RATE``. Where a name may
or may not be local it is counted: one name too many costs a lookup, one too few a stale result.

Most of the time goes into nodes, of which a function has some 25 for each line: so what a node does is looked
up by its class, and the children of one that does nothing by the names of its fields.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from chunk_memo.identity.syntax import FunctionNode, getter

__all__ = ["Imported", "Names", "Path", "names_of_code", "names_of_tree"]


class Imported(NamedTuple):
    """What an import inside of code brings in."""

    level: int
    """dots before the name of the module"""
    module: str
    """the module's name"""
    name: str
    """what is taken from it; empty for the module itself"""


class Path(NamedTuple):
    """A name from outside, and the attributes that follow it."""

    base: str | Imported
    """the name, or what is imported"""
    attributes: tuple[str, ...] = ()
    """the attributes, as far as they are written one after the other"""


@dataclass(frozen=True, slots=True)
class Names:
    """What code says of the world outside of it."""

    reads: tuple[Path, ...] = ()
    """what it reads, in the order of its text, each once"""
    rebinds: frozenset[Path] = frozenset()
    """what it assigns to or deletes"""
    changes: frozenset[Path] = frozenset()
    """what it assigns elements of, or calls a method of that changes containers"""
    of_self: tuple[str, ...] = ()
    """attributes of the first argument, and of ``super()``"""
    bare_self: bool = False
    """whether the first argument is used in other ways"""
    mentions: frozenset[str] = frozenset()
    """attributes of anything that it reads or sets, and texts that may name some: what it may call a method by"""


_CHANGING: Final = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "difference_update",
        "extend",
        "extendleft",
        "fill",
        "insert",
        "intersection_update",
        "itemset",
        "move_to_end",
        "partition",
        "pop",
        "popitem",
        "popleft",
        "put",
        "remove",
        "resize",
        "reverse",
        "rotate",
        "setdefault",
        "setflags",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
        "__setitem__",
        "__delitem__",
    ]
)
"""Methods by which containers change."""

_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True, eq=False)
class _Scope:
    """A scope of a tree: what is bound there, and what lies around it."""

    kind: str
    around: _Scope | None
    bound: set[str] = field(default_factory=set)
    imported: dict[str, list[Imported]] = field(default_factory=dict)
    outer: set[str] = field(default_factory=set)

    def binding(self, name: str | Imported) -> _Scope | None:
        """Return the scope in which a name that is used here is bound; None for one from outside."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.outer:
                return None
            if name in scope.bound and scope.kind != "class":
                return scope
            scope = scope.around
        return None

    def function(self) -> _Scope:
        """Return the scope that a walrus binds in."""
        scope = self
        while scope.kind == "comprehension" and scope.around is not None:
            scope = scope.around
        return scope


_Use = tuple[str, _Scope, str | Imported, tuple[str, ...]]
"""How something is used, where, and its path."""


class _Collector:
    """Goes through a tree once; not recursive, as ``a + b + c + …`` nests as deep as it is long.

    Among the nodes that wait lie scopes: what comes after one lies in it.
    """

    def __init__(self) -> None:
        self.uses: dict[_Use, None] = {}
        self.stack: list[Any] = []
        self.super_names: list[str] = []
        self.mentions: set[str] = set()
        self.module = _Scope("module", None)

    def go(self, nodes: list[Any], scope: _Scope) -> None:
        stack, uses, visits, load = self.stack, self.uses, _VISITS, ast.Load
        stack += nodes[::-1]
        while stack:
            node = stack.pop()
            kind = type(node)
            if kind is ast.Name and type(node.ctx) is load:
                uses["read", scope, node.id, ()] = None
            elif kind is _Scope:
                scope = node
            elif kind in visits:
                visits[kind](self, node, scope)
            elif kind not in _HOLD_NOTHING:
                stack += _children(node)[::-1]

    def push(self, nodes: list[Any]) -> None:
        """Let nodes come next, in their order."""
        self.stack += nodes[::-1]

    def use(self, how: str, node: ast.AST, scope: _Scope) -> None:
        """Note how a name, or a name with attributes, is used; go through anything else."""
        attributes: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        self.mentions.update(attributes)
        if isinstance(inner, ast.Name):
            self.uses[how, scope, inner.id, tuple(attributes[::-1])] = None
        elif how == "read":
            brought = _by_text(inner)
            if brought is not None:
                self.uses[how, self.module, brought, tuple(attributes[::-1])] = None
                self.push(_children(inner))
                return
            if attributes and _is_super(inner):
                self.super_names.append(attributes[-1])
            self.stack.append(inner)

    # --- what a name does ---

    def stored(self, node: ast.Name, scope: _Scope) -> None:
        scope.bound.add(node.id)
        self.uses["bind", scope, node.id, ()] = None

    def constant(self, node: ast.Constant, scope: _Scope) -> None:
        if isinstance(node.value, str):
            self.mentions.add(node.value)

    def attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.use("rebind", node, scope)
            self.use("read", node.value, scope)
        else:
            self.use("read", node, scope)

    def subscript(self, node: ast.Subscript, scope: _Scope) -> None:
        brought = _by_text(node)
        if not isinstance(node.ctx, ast.Load):
            self.use("change", _innermost(node.value), scope)
            if brought is not None:
                self.uses["rebind", self.module, brought, ()] = None
        elif brought is not None:
            self.use("read", node, scope)
            return
        self.push([node.value, node.slice])

    def assigned(self, node: ast.Assign, scope: _Scope) -> None:
        brought = _by_text(node.value)
        names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        if isinstance(brought, Imported) and len(names) == len(node.targets) and scope.outer.isdisjoint(names):
            for name in names:  # as by ``import``: what is read of it counts
                scope.imported.setdefault(name, []).append(brought)
            self.push([*node.targets, *_children(node.value)])
        else:
            self.push([*node.targets, node.value])

    def augmented(self, node: ast.AugAssign, scope: _Scope) -> None:
        self.use("read", node.target, scope)
        self.push([node.target, node.value])

    def call(self, node: ast.Call, scope: _Scope) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            self.use("change", _innermost(node.func.value), scope)
        if _by_text(node) is not None:
            self.use("read", node, scope)
        else:
            self.push([node.func, *node.args, *node.keywords])

    def walrus(self, node: ast.NamedExpr, scope: _Scope) -> None:
        target = scope.function()
        target.bound.add(node.target.id)
        self.use("bind", node.target, target)
        self.stack.append(node.value)

    def imports(self, node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                brought = Imported(node.level, node.module or "", alias.name)
                bound = alias.asname or alias.name
            else:  # ``import a.b`` binds a
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                brought, bound = Imported(0, whole, ""), alias.asname or whole
            scope.bound.add(bound)
            scope.imported.setdefault(bound, []).append(brought)

    def declared(self, node: ast.Global | ast.Nonlocal, scope: _Scope) -> None:
        if isinstance(node, ast.Global) or not any(_bound_around(scope, name) for name in node.names):
            scope.outer.update(node.names)

    def handler(self, node: ast.ExceptHandler, scope: _Scope) -> None:
        scope.bound.update([node.name] if node.name else [])
        self.push([node.type, *node.body])

    def captured(self, node: Any, scope: _Scope) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        scope.bound.update([name] if name else [])
        self.push(_children(node))

    def annotated(self, node: ast.AnnAssign, scope: _Scope) -> None:
        if node.value is None and isinstance(node.target, ast.Name):
            scope.bound.add(node.target.id)
        else:
            self.push([node.target, node.value])

    # --- what makes a scope ---

    def function(self, node: FunctionNode, scope: _Scope) -> None:
        args = node.args
        if not isinstance(node, ast.Lambda):
            scope.bound.add(node.name)
            self.use("bind", ast.Name(node.name, ast.Store()), scope)
            self.push(node.decorator_list)
        self.push([*args.defaults, *args.kw_defaults])
        self.body(node, scope)

    def body(self, node: FunctionNode, scope: _Scope) -> None:
        """Go into a function's body, in a scope of its own."""
        inner = _Scope("function", scope, {each.arg for each in _arguments(node.args)})
        body = node.body
        self.push([inner, *([body] if isinstance(body, ast.expr) else body), scope])

    def klass(self, node: ast.ClassDef, scope: _Scope) -> None:
        scope.bound.add(node.name)
        self.use("bind", ast.Name(node.name, ast.Store()), scope)
        inner = _Scope("class", scope)
        self.push([*node.decorator_list, *node.bases, *node.keywords, inner, *node.body, scope])

    def comprehension(self, node: Any, scope: _Scope) -> None:
        inner = _Scope("comprehension", scope)
        first = node.generators[0]
        made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        within = [first.target, *first.ifs, *node.generators[1:], *made]
        self.push([first.iter, inner, *within, scope])


_VISITS: Final[dict[type, Any]] = {
    ast.Name: _Collector.stored,
    ast.Constant: _Collector.constant,
    ast.Attribute: _Collector.attribute,
    ast.Subscript: _Collector.subscript,
    ast.Assign: _Collector.assigned,
    ast.AugAssign: _Collector.augmented,
    ast.Call: _Collector.call,
    ast.NamedExpr: _Collector.walrus,
    ast.Import: _Collector.imports,
    ast.ImportFrom: _Collector.imports,
    ast.Global: _Collector.declared,
    ast.Nonlocal: _Collector.declared,
    ast.ExceptHandler: _Collector.handler,
    ast.MatchAs: _Collector.captured,
    ast.MatchStar: _Collector.captured,
    ast.MatchMapping: _Collector.captured,
    ast.AnnAssign: _Collector.annotated,
    ast.FunctionDef: _Collector.function,
    ast.AsyncFunctionDef: _Collector.function,
    ast.Lambda: _Collector.function,
    ast.ClassDef: _Collector.klass,
    **dict.fromkeys(_COMPREHENSIONS, _Collector.comprehension),
}


_LEAVES: Final = frozenset({"ctx", "op", "ops", "id", "attr", "type_comment", "kind", "level"})
"""Fields of nodes that hold no name."""


_HOLD_NOTHING: Final = frozenset(
    [type(None), bool, int, str, ast.Pass, ast.Break, ast.Continue, ast.alias, ast.MatchSingleton]
)
"""What lies among nodes and holds no name."""

_GETTERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {}


def _children(node: ast.AST) -> list[Any]:
    """Return what lies in a node, and may hold names; also texts, which do not."""
    kind = type(node)
    if kind not in _GETTERS:
        _GETTERS[kind] = getter([name for name in kind._fields if name not in _LEAVES])
    found: list[Any] = []
    for value in _GETTERS[kind](node):
        if type(value) is list:
            found += value
        else:
            found.append(value)
    return found


# --- names that are written as text --------------------------------------------------------------

_IMPORTING: Final = frozenset({"import_module", "__import__"})


def _by_text(node: ast.AST) -> str | Imported | None:
    """Return what a call or a subscript brings in by a name that is written as text; None for others."""
    if isinstance(node, ast.Subscript):
        return _text(node.slice) if _is_globals(node.value) else None
    if not isinstance(node, ast.Call) or not node.args:
        return None
    func = node.func
    if isinstance(func, ast.Attribute):
        if func.attr == "get" and _is_globals(func.value):
            return _text(node.args[0])
        return _import_by_text(func.attr, node) if func.attr in _IMPORTING else None
    return _import_by_text(func.id, node) if isinstance(func, ast.Name) and func.id in _IMPORTING else None


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_globals(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "globals"


def _import_by_text(how: str, node: ast.Call) -> Imported | None:
    """Return the module that a call loads, whose name is text, and that of the package, if it has one."""
    name = _text(node.args[0])
    if name is None:
        return None
    if how == "__import__":
        whole = len(node.args) > 3 or any(each.arg == "fromlist" for each in node.keywords)
        levels = [*node.args[4:], *(each.value for each in node.keywords if each.arg == "level")]
        dots = sum(
            each.value for each in levels if isinstance(each, ast.Constant) and isinstance(each.value, int)
        )
        return Imported(dots, name if whole else name.partition(".")[0], "")
    level = len(name) - len(name.lstrip("."))
    package = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "package")]
    if level and package and not isinstance(package[0], ast.Name):
        above = _text(package[0])
        before = [] if above is None else above.split(".")
        kept = before[: len(before) - level + 1]
        return Imported(0, ".".join([*kept, name[level:]]), "") if kept else None
    return Imported(level, name[level:], "")


def _arguments(args: ast.arguments) -> list[ast.arg]:
    more = [each for each in (args.vararg, args.kwarg) if each is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *more]


def _innermost(node: ast.expr) -> ast.expr:
    """Return what subscripts are taken of: of ``TABLE["a"][0]`` the name."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _bound_around(scope: _Scope, name: str) -> bool:
    around = scope.around
    while around is not None:
        if around.kind == "function" and name in around.bound:
            return True
        around = around.around
    return False


def names_of_tree(node: FunctionNode) -> Names:
    r"""Return what a function's body says of the world outside of it.

    Parameters
    ----------
    node : syntax tree
        The function; its decorators, defaults and annotations are left out.

    Returns
    -------
    Names
        What it reads, rebinds and changes.

    Examples
    --------
    >>> tree = ast.parse("def f(x):\n    return helpers.scale(x) * RATE").body[0]
    >>> [(path.base, path.attributes) for path in names_of_tree(tree).reads]
    [('helpers', ('scale',)), ('RATE', ())]
    """
    collector = _Collector()
    body = node.body
    top = _Scope("function", None, {each.arg for each in _arguments(node.args)})
    collector.go([body] if isinstance(body, ast.expr) else body, top)
    first = [*node.args.posonlyargs, *node.args.args][:1]
    return _sorted_out(collector, top, first[0].arg if first else None)


def _sorted_out(collector: _Collector, top: _Scope, own: str | None) -> Names:
    reads: dict[Path, None] = {}
    found: dict[str, set[Path]] = {"rebind": set(), "change": set()}
    of_self: dict[str, None] = dict.fromkeys(collector.super_names)
    bare_self = False
    for how, scope, name, attributes in collector.uses:
        if how == "bind" and name not in scope.outer:
            continue
        if scope is top:  # nearly always
            home = top if name in top.bound and name not in top.outer else None
        else:
            home = scope.binding(name)
        if home is top and name == own:
            of_self.update(dict.fromkeys(attributes[:1]))
            bare_self |= not attributes and how == "read"
        elif home is not None:
            if how == "read":
                reads.update({Path(each, attributes): None for each in home.imported.get(str(name), ())})
        elif how == "read":
            reads[Path(name, attributes)] = None
        elif how in found:
            found[how].add(Path(name, attributes))
        else:
            found["rebind"].add(Path(name))
    return Names(
        tuple(reads),
        frozenset(found["rebind"]),
        frozenset(found["change"]),
        tuple(of_self),
        bare_self,
        frozenset(collector.mentions),
    )


# --- code objects --------------------------------------------------------------------------------

_READING: Final = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"}
    | {"LOAD_FROM_DICT_OR_DEREF"}
)
_FOLLOWING: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_REBINDING: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_SILENT: Final = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PRECALL"})


def names_of_code(code: types.CodeType) -> Names:
    """Return what compiled code says of the world outside of it, where it has no text.

    Parameters
    ----------
    code : code object
        The code of a function.

    Returns
    -------
    Names
        Changes of containers are not seen, and the first argument may be used in any way.

    Examples
    --------
    >>> list(names_of_code((lambda x: helpers.scale(x)).__code__).reads)
    [Path(base='helpers', attributes=('scale',))]
    """
    reads: dict[Path, None] = {}
    rebinds: set[Path] = set()
    mentions: set[str] = set()
    for each in _with_inner(code):
        _read_instructions(each, reads, rebinds)
        mentions.update(each.co_names, (const for const in each.co_consts if isinstance(const, str)))
    return Names(tuple(reads), frozenset(rebinds), bare_self=True, mentions=frozenset(mentions))


def _with_inner(code: types.CodeType) -> list[types.CodeType]:
    found = [code]
    for each in found:
        found += [const for const in each.co_consts if isinstance(const, types.CodeType)]
    return found


def _read_instructions(code: types.CodeType, reads: dict[Path, None], rebinds: set[Path]) -> None:
    import dis  # takes long to import, and serves code without source only

    path: Path | None = None
    constants: list[Any] = []
    module = Imported(0, "", "")
    for step in dis.get_instructions(code):
        name, value = step.opname, step.argval
        if name in _SILENT:
            continue
        if path is not None and name in _FOLLOWING:
            path = Path(path.base, (*path.attributes, value))
            continue
        if path is not None:
            reads[path] = None
        path = None
        if name in _READING:
            path = Path(value)
        elif name in _REBINDING:
            rebinds.add(Path(value))
        elif name == "IMPORT_NAME":
            level = constants[-2] if len(constants) > 1 and isinstance(constants[-2], int) else 0
            module = Imported(level, value, "")
            reads[Path(module)] = None
        elif name == "IMPORT_FROM":
            reads[Path(module._replace(name=value))] = None
        if name.startswith("LOAD_CONST") or name == "LOAD_SMALL_INT":
            constants.append(value)
    if path is not None:
        reads[path] = None
