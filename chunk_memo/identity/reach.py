"""Owns what a function reaches: functions, classes and constants of the same project, by name.

Names are taken from the text of the code and looked up where the running code would look them up:
closure, globals, attributes of modules. What they stand for is followed in turn; a class is followed
with its bases and all that its dict holds; a value with the functions and classes in it. What belongs
to other packages stands by its name, so that an upgrade of NumPy loses no results.

How a thing is named on the way to it, in which file or module it lies, is no part of its digest.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os
import sys
import types
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

from chunk_memo.identity.classes import attributes_of, described, pieces_of
from chunk_memo.identity.grammar import LEAVES, leaf, leaf_tuple, record, simple, text
from chunk_memo.identity.graph import Node, Resolve
from chunk_memo.identity.instances import BY_ATTRIBUTES, UNSET, slots_of
from chunk_memo.identity.names import Imported, Names, Path, names_of_code
from chunk_memo.identity.project import OutOfReach, Project, is_own_file, module_of, outside
from chunk_memo.identity.source import Texts, code_bytes
from chunk_memo.identity.walk import Encoder, Unidentified, Walk, class_name, encode, refuse
from chunk_memo.identity.watch import MISSING, Recorder, held_in

__all__ = ["NAMED_TYPES", "SCHEME", "Edge", "Reach", "layers_of", "qualified"]

SCHEME: Final = 1
"""Number of the rules by which functions are digested; a change of the rules changes it."""

NAMED_TYPES: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    np.ufunc,
    type(np.sum),  # NumPy's dispatchers: what they do lies in the version, not in their few lines
)
"""Types of what is known by its name."""

_NEVER_WRAPPERS: Final = (type, *NAMED_TYPES)

_OF_THE_MODULE: Final = frozenset(
    [
        "__builtins__",
        "__cached__",
        "__debug__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    ]
)
"""Globals that say where code lies, which is no part of its identity."""

_AT_CREATION: Final = frozenset({"__init_subclass__", "__set_name__"})
"""Methods that run when a class is made: what they change is there before the first call, and is no state."""

_NOTHING: Final = leaf(None)

_CONTAINERS: Final = (list, dict, set, deque, bytearray, np.ndarray)


_LANGUAGE: Final = frozenset({"abc", "builtins", "enum", "typing"})
"""Modules whose classes are of the language, and nothing to tell of."""


class Edge(NamedTuple):
    """How one thing refers to another."""

    label: bytes
    """by which name"""
    target: Node | bytes
    """to what; or what stands for it"""
    key: Hashable = None
    """the place where it was looked up, if code could rebind it"""


def layers_of(func: Any) -> list[Any]:
    """Return a callable, what it wraps, what that wraps, and so on.

    Parameters
    ----------
    func : callable
        Anything that is called.

    Returns
    -------
    list
        The callable first, the plain function last.
    """
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
    if isinstance(func, _NEVER_WRAPPERS) or type(func).__module__ == "unittest.mock":
        return None
    inner = getattr(func, "__wrapped__", None)
    if callable(inner):
        return inner
    inner = None if isinstance(func, types.FunctionType) else getattr(func, "py_func", None)
    return inner if isinstance(inner, types.FunctionType) else None


def qualified(func: Any) -> tuple[str, str]:
    """Return module and qualified name under which a compiled function is found.

    Parameters
    ----------
    func : callable
        A builtin, a ufunc or the like.

    Returns
    -------
    tuple of str
        Module and qualified name.

    Raises
    ------
    Unidentified
        There is another thing, or none, under its name.
    """
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


class Reach:
    """What is reached from some code, found out step by step.

    Parameters
    ----------
    encoder_of : callable
        Finds the encoder of a value.
    project : Project
        What counts by its code.
    state : mapping
        Places whose values have turned out to change while the code runs, with what stands for them.
    """

    def __init__(
        self, encoder_of: Callable[[Any], Encoder], project: Project, state: Mapping[Hashable, bytes]
    ) -> None:
        self.project = project
        self.record = Recorder(self._momentary, self._by_attributes)
        self.outside: dict[OutOfReach, None] = {}
        self.edges: dict[Node, list[Edge]] = {}
        self.fixed: dict[Hashable, bytes] = dict(state)
        self.encoder_of = encoder_of
        self._nodes: dict[Any, Node] = {}
        self._held: list[Any] = []  # what is held keeps its id
        self._waiting: deque[Callable[[], None]] = deque()
        self._rebound: dict[Hashable, str] = {}
        self._texts = Texts()
        self._says: dict[Node, tuple[types.FunctionType, Names]] = {}
        self._open: set[Node] = set()
        self._ranks: dict[Node, int] | None = None

    # --- what a value is reached as ---

    def follow(self, top: Node) -> None:
        """Go on until everything that was reached has been looked at, and it is known what is state.

        Parameters
        ----------
        top : Node
            The node from which all others were reached.
        """
        while self._waiting:
            self._waiting.popleft()()
        self._texts = Texts()  # the trees of whole files, where some were needed
        if any(names.rebinds or names.changes for _, names in self._says.values()):
            self._find_state(top)

    def target(self, value: Any) -> Node | bytes | None:
        """Return what stands for a function, class or module.

        Parameters
        ----------
        value : object
            Anything.

        Returns
        -------
        Node, bytes or None
            A node for what is the project's; None for values, which stand for themselves.
        """
        if isinstance(value, types.FunctionType):
            return self._function_or_wrapper(value)
        if isinstance(value, type):
            return self._class_or_name(value)
        if isinstance(value, types.ModuleType):
            return self._module_or_name(value)
        if isinstance(value, NAMED_TYPES) or type(value).__name__ == "cython_function_or_method":
            return self._named(value)
        if isinstance(value, functools.partial | types.MethodType):
            return None
        inner = _inside(value) if callable(value) else None
        return None if inner is None else self.target(inner)

    def _function_or_wrapper(self, value: types.FunctionType) -> Node | bytes | None:
        if self.project.has_function(value):
            return self.function(value)
        inner = _inside(value)
        if str(value.__globals__.get("__name__")).partition(".")[0] == "chunk_memo" and inner is not None:
            return self.target(inner)  # a memoized function counts as the function
        return self._foreign(value, inner)

    def _class_or_name(self, value: type) -> Node | bytes | None:
        if self.project.has_class(value):
            return self.klass(value)
        if value.__module__ not in _LANGUAGE:
            self._name(f"{value.__module__}.{value.__qualname__}")
        return None

    def _module_or_name(self, value: types.ModuleType) -> Node | bytes:
        if self.project.has_module(value.__name__):
            return self.module(value)
        return self._name(value.__name__)

    def _name(self, name: str) -> bytes:
        if not name.startswith("builtins."):
            self.outside[outside(name)] = None
        return simple("outside", name)

    def _named(self, value: Any) -> bytes | None:
        try:
            name = self._name(".".join(qualified(value)))
        except Unidentified:
            return None
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType | type):
            return name
        return None

    def _foreign(self, value: types.FunctionType, inner: Any) -> Node | bytes:
        """Return what stands for another package's function, which may hold some of the project's."""
        known = self._nodes.get(id(value))
        if known is not None:
            return known
        name = f"{value.__module__}.{value.__qualname__}"
        targets = [
            self.target(each) for each in (inner, *map(held_in, value.__closure__ or ())) if callable(each)
        ]
        for kind, implementation in getattr(value, "registry", {}).items():  # of functools.singledispatch
            targets += [self._by_class(b"", kind).target, self.target(implementation)]
        if not any(isinstance(each, Node) for each in targets):
            return self._name(name)
        name = f"{value.__globals__.get('__name__')}.{value.__code__.co_qualname}"
        node = Node("wrapper", name, basis="name")
        self._add(node, value)
        edges = self.edges[node]
        edges += [Edge(leaf(at), each) for at, each in enumerate(targets) if each is not None]
        for cell in value.__closure__ or ():
            if callable(held_in(cell)):
                self.record.cell(cell)
        node.encode = lambda resolve: record("wrapper", [self._name(name), self._encoded(edges, resolve)])
        return node

    # --- functions ---

    def function(self, function: types.FunctionType) -> Node:
        """Return the node of a Python function, which is looked at later.

        Parameters
        ----------
        function : function
            The function.

        Returns
        -------
        Node
            The same for the same function.
        """
        known = self._nodes.get(id(function))
        if known is None:
            place = f"{function.__module__}:{function.__code__.co_firstlineno}"
            wraps = "__wrapped__" in vars(function)  # and then borrows the name, too
            name = function.__code__.co_qualname if wraps else function.__qualname__
            known = Node("function", name, place=place)
            self._add(known, function)
            self._waiting.append(functools.partial(self._look_into, known, function))
        return known

    def _add(self, node: Node, value: Any) -> None:
        """Register a node under a value, which is held so that its id stays its own."""
        self._nodes[id(value)] = node
        self._held.append(value)
        edges = self.edges[node] = []
        node.targets = lambda: [
            edge.target for edge in edges if isinstance(edge.target, Node) and self._instead(edge.key) is None
        ]

    def _look_into(self, node: Node, function: types.FunctionType) -> None:
        self.record.function(function)
        code, names = self._written(node, function)
        if not self.project.has_function(function):
            names = Names()  # another package's function counts by its code, and reaches its own package
        self._says[node] = function, names
        held = [
            self._held_value(node, function.__defaults__, "defaults", ("defaults", id(function))),
            self._held_value(node, function.__kwdefaults__, "keyword defaults", ("keywords", id(function))),
            *self._closure(node, function),
        ]
        reached = [*self._reads(function, names), *self._own(function, names)]
        inner = _inside(function)
        if inner is not None and not any(held_in(cell) is inner for cell in function.__closure__ or ()):
            reached.append(self._edge(leaf("wrapped"), inner, None, ""))
        self.edges[node] += [*held, *reached]

        def encode(resolve: Resolve, bound: bytes) -> bytes:
            values = []
            for label, target, key in held:
                values += [*filter(None, [label]), self._bytes(target, key, resolve)]
            end = bound + self._encoded(reached, resolve)
            return record("function", [leaf(SCHEME), text(node.name), code, *values, end])

        node.mark = xxhash.xxh3_128_digest(code)
        node.outline = lambda resolve: text(node.name) + code + self._encoded(reached, resolve)
        node.encode_bound = encode
        node.encode = lambda resolve: encode(resolve, b"")

    def _written(self, node: Node, function: types.FunctionType) -> tuple[bytes, Names]:
        walk = Walk(self.encoder_of)
        written = self._texts.written_form(function, walk)
        if written is not None:
            node.basis, node.source = "source", written.source
            return record("source", [leaf(written.tree)]), written.names
        node.basis = "code object"
        import importlib.util  # here and below, as it takes long to import

        magic = leaf(importlib.util.MAGIC_NUMBER)
        code = record(node.basis, [magic, code_bytes(function.__code__, walk)])
        return code, names_of_code(function.__code__)

    def _held_value(self, node: Node, value: Any, kind: str, key: Hashable, variable: str = "") -> Edge:
        """Return the edge to a value that a function holds, and that counts with it."""
        if value is None:
            return Edge(b"", _NOTHING, key)
        name = f"{variable} of {node.name}" if variable else node.name
        target = self._value(value, kind, name, key)
        if variable != "__class__":  # a method's own class, by which super() works
            node.details.append((kind, name, target, key))
        subject = f"{kind} '{variable}'" if variable else kind
        node.notes += [f"{subject}: {note}" for note in target.notes]
        return Edge(b"", target, key)

    def _closure(self, node: Node, function: types.FunctionType) -> Iterator[Edge]:
        if not function.__closure__:
            return
        cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
        for name, cell in sorted(cells, key=lambda pair: pair[0]):
            self.record.cell(cell)
            value = held_in(cell)
            if value is MISSING:
                yield Edge(text(name), UNSET, ("cell", id(cell)))
            elif isinstance(value, types.ModuleType) and self.project.has_module(value.__name__):
                yield Edge(text(name), b"")  # what is read of it counts
            else:
                held = self._held_value(node, value, "closure variable", ("cell", id(cell)), name)
                yield held._replace(label=text(name))

    # --- names ---

    def _reads(self, function: types.FunctionType, names: Names) -> Iterator[Edge]:
        for path in names.reads:
            if path.base in _OF_THE_MODULE:
                continue
            found = self._find(path, function)
            if found is not None:
                yield self._edge(_label(path), found.value, found.key, found.name)

    def _find(self, path: Path, function: types.FunctionType) -> _Found | None:
        """Look a path up where the running code would; None for what holds nothing that counts."""
        attributes = [*path.attributes]
        space = function.__globals__
        if isinstance(path.base, Imported):
            name = path.base.name or path.base.module
            value, key = self._imported(path.base, space)
        elif path.base in function.__code__.co_freevars:
            name = path.base
            cell = (function.__closure__ or ())[function.__code__.co_freevars.index(name)]
            value, key = held_in(cell), ("cell", id(cell))
            if not isinstance(value, types.ModuleType):
                return None  # counts with the closure
        else:
            name, key = path.base, (id(space), path.base)
            value = space.get(name, MISSING)
            self.record.read(space, name, value)
            if value is MISSING and hasattr(builtins, name):
                return None
        while attributes and isinstance(value, types.ModuleType):
            if not self.project.has_module(value.__name__):
                return _Found(_Name(".".join([value.__name__, *attributes])), key, name)
            space, name = vars(value), attributes.pop(0)
            key, value = (id(space), name), self._attribute(value, name)
        return _Found(value, key, name)

    def _attribute(self, module: types.ModuleType, name: str) -> Any:
        space = vars(module)
        value = space.get(name, MISSING)
        if value is MISSING:  # a submodule that an import will bring in, as it would when the code runs
            value = _loaded(f"{module.__name__}.{name}")
        self.record.read(space, name, space.get(name, MISSING))
        return space.get("__getattr__", MISSING) if value is MISSING else value

    def _imported(self, what: Imported, space: dict[str, Any]) -> tuple[Any, Hashable]:
        """Return what an import inside of a function brings in; modules of the project are loaded."""
        import importlib.util

        package = space.get("__package__") or str(space.get("__name__", "")).rpartition(".")[0]
        try:
            name = importlib.util.resolve_name("." * what.level + what.module, package)
        except ImportError:
            return MISSING, None
        module = _loaded(name) if self._is_own(name) else module_of(name)
        if not isinstance(module, types.ModuleType) or not self.project.has_module(name):
            return _Name(f"{name}.{what.name}" if what.name else name), None
        if not what.name:
            return module, None
        return self._attribute(module, what.name), (id(vars(module)), what.name)

    def _is_own(self, name: str) -> bool:
        """Tell whether a module that may not be loaded yet would be the project's."""
        top = name.partition(".")[0]
        if top in sys.modules:
            return self.project.has_module(top)
        import importlib.util

        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return False
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        return any(is_own_file(place) for place in places if place and os.path.exists(place))

    def _own(self, function: types.FunctionType, names: Names) -> Iterator[Edge]:
        """Yield what a method reads of its own class, by the first argument and by ``super()``."""
        owner = self._owner(function) if names.of_self or names.bare_self else None
        if owner is None:
            return
        if names.bare_self:
            yield self._edge(b"self", owner, None, "")
        for name in names.of_self:
            name = f"_{owner.__name__.lstrip('_')}{name}" if _is_mangled(name) else name
            for at, kind in enumerate(owner.__mro__):
                if self.project.has_class(kind):
                    self.record.klass(kind)
                    found = dict(attributes_of(kind)).get(name, MISSING)
                    if found is not MISSING:
                        yield from self._of_class(kind, name, found, leaf_tuple(("self", at)))

    def _owner(self, function: types.FunctionType) -> type | None:
        """Return the class that a method was defined in, if it can be found."""
        code = function.__code__
        if "__class__" in code.co_freevars and function.__closure__:
            found = held_in(function.__closure__[code.co_freevars.index("__class__")])
            return found if isinstance(found, type) and self.project.has_class(found) else None
        first, *rest = function.__qualname__.split(".")
        found = function.__globals__.get(first)
        for name in rest[:-1]:
            found = vars(found).get(name) if isinstance(found, type) else None
        if not rest or not isinstance(found, type) or not self.project.has_class(found):
            return None
        pieces = [piece for _, piece in pieces_of(vars(found).get(rest[-1])) or ()]
        if isinstance(vars(found).get(rest[-1]), staticmethod):
            return None
        methods = [vars(found).get(rest[-1]), *pieces]
        return found if any(layers_of(each)[-1] is function for each in methods) else None

    # --- state ---

    def _find_state(self, top: Node) -> None:
        """Note the state of all code that may run.

        Everything in a class counts, but that of a method which no code mentions does not run, as one by which a
        registry was filled: what it changes is no state then, and counts like anything else. The same holds for
        the functions of a module that counts as a whole.
        """
        mentioned: set[str] = set()
        dormant: dict[str, list[Node]] = {}
        seen: set[Node] = set()
        waiting = [top]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self._says:
                function, names = self._says[node]
                if function.__name__ not in _AT_CREATION:
                    self._note_state(function, names)
                for name in names.mentions & dormant.keys():
                    waiting += dormant.pop(name)
                mentioned |= names.mentions
            for target, names_of_it in self._may_run(node):
                if not names_of_it or not mentioned.isdisjoint(names_of_it):
                    waiting.append(target)
                else:
                    for name in names_of_it:
                        dormant.setdefault(name, []).append(target)

    def _may_run(self, node: Node) -> Iterator[tuple[Node, set[str]]]:
        """Yield what a thing refers to, with names where it runs only if some code mentions one of them."""
        if node not in self.edges:
            yield from ((target, set()) for target in node.targets())
            return
        by_name = node.kind in ("class", "module") and node not in self._open
        for _, target, key in self.edges[node]:
            if isinstance(target, Node):
                method = by_name and target.kind == "function" and isinstance(key, tuple)
                yield target, _called(key[1], node.name) if method and isinstance(key, tuple) else set()

    def _note_state(self, function: types.FunctionType, names: Names) -> None:
        """Note what the code rebinds, and which containers it changes: both are its state."""
        for path in sorted(names.rebinds | names.changes, key=str):
            rebinds = path in names.rebinds
            *before, last = [path.base, *path.attributes]
            if not before:
                key, name, value = self._named_place(function, path)
                if key is not None and (rebinds or isinstance(value, _CONTAINERS)):
                    self._rebound[key] = name
                continue
            found = self._find(Path(path.base, path.attributes[:-1]), function)
            owner = None if found is None else found.value
            if isinstance(owner, types.ModuleType):
                value, key = vars(owner).get(last), (id(vars(owner)), last)
            elif isinstance(owner, type):
                value, key = owner.__dict__.get(last), (id(owner), last)
            else:
                continue
            if rebinds or isinstance(value, _CONTAINERS):
                self._rebound[key] = str(last)

    def _named_place(self, function: types.FunctionType, path: Path) -> tuple[Hashable, str, Any]:
        """Return key, name and value of what a name without attributes stands for in a function."""
        variables = function.__code__.co_freevars
        if path.base in variables:
            cell = (function.__closure__ or ())[variables.index(path.base)]
            return ("cell", id(cell)), str(path.base), held_in(cell)
        found = self._find(path, function)
        return (None, "", None) if found is None else (found.key, found.name, found.value)

    # --- what names stand for ---

    def _edge(self, label: bytes, value: Any, key: Hashable, name: str) -> Edge:
        """Return the edge to what a name stands for."""
        if isinstance(value, _Name):
            return Edge(label, self._name(value.name), key)
        if value is MISSING:
            return Edge(label, UNSET, key)
        target = self.target(value)
        if target is None:
            target = self._constant(value, "constant", name, key)
        return Edge(label, target, key)

    def _constant(self, value: Any, kind: str, name: str, key: Hashable) -> Node:
        """Return the node of a value that a name stands for."""
        place = ("value", id(value)) if key is None else key
        known = self._nodes.get(place)
        if known is None:
            known = self._value(value, kind, name, place)
            known.inline = False
            known.notes = [f"{kind} '{name}': {each}" for each in known.notes]
            self._nodes[place] = known
            self._held.append(value)
        return known

    def _value(self, value: Any, kind: str, name: str, key: Hashable) -> Node:
        """Return the node of a value, which counts by its canonical bytes."""
        node = Node(kind, name, inline=True)
        encoder = LEAVES.get(type(value))
        if encoder is not None:
            plain = encoder(value)
            node.encode = lambda resolve: plain
            return node
        met: dict[Node, None] = {}

        def note(inner: Any) -> bytes | None:
            target = self.target(inner)
            if isinstance(target, Node):
                met[target] = None
                return b""
            return target

        def encoded(resolve: Callable[[Any], bytes | None], notes: list[str]) -> bytes:
            walk = Walk(self.encoder_of, notes=notes, reach=resolve)
            try:
                return encode(value, walk)
            except (Unidentified, RecursionError):
                return refuse(value, walk, "")

        data = encoded(note, node.notes)
        self.record.content(key, f"{kind} of {name}" if "efault" in kind else name, value)
        if met:
            node.targets = lambda: met
            node.encode = lambda resolve: encoded(lambda inner: self._referred(inner, resolve), [])
        else:
            node.encode = lambda resolve: data
        return node

    def _referred(self, value: Any, resolve: Resolve) -> bytes | None:
        target = self.target(value)
        return resolve(target) if isinstance(target, Node) else target

    def value(self, value: Any, subject: str) -> Node:
        """Return the node of a value that a wrapper has bound.

        Parameters
        ----------
        value : object
            Any value.
        subject : str
            What to call it.

        Returns
        -------
        Node
            It counts by its canonical bytes.
        """
        self._held.append(value)
        return self._value(value, "bound", subject, ("value", id(value)))

    def require(self, value: Any) -> None:
        """Refuse a value without a sound identity.

        Parameters
        ----------
        value : object
            Any value.

        Raises
        ------
        Unidentified
            It, or something in it, has none.
        """
        encode(value, Walk(self.encoder_of))

    def _momentary(self, value: Any) -> bytes:
        """Return bytes that tell whether a value has changed while this process runs."""
        walk = Walk(self.encoder_of, notes=[], reach=self._by_id)
        try:
            return encode(value, walk)
        except (Unidentified, RecursionError):
            return b""

    def _by_attributes(self, value: Any) -> bool:
        """Tell whether an instance has the identity that its attributes have."""
        kind = type(value)
        if not hasattr(value, "__dict__") or not self.project.has_class(kind):
            return False
        return self.encoder_of(value) in BY_ATTRIBUTES and not any(slots_of(kind))

    def _by_id(self, value: Any) -> bytes | None:
        followed = not isinstance(value, type) or self.project.has_class(value)
        return leaf(id(value)) if followed else None

    # --- classes and modules ---

    def klass(self, kind: type) -> Node:
        """Return the node of a class, which is looked at later.

        Parameters
        ----------
        kind : type
            The class.

        Returns
        -------
        Node
            The same for the same class.
        """
        known = self._nodes.get(id(kind))
        if known is None:
            known = Node("class", kind.__qualname__, basis="contents", place=str(kind.__module__))
            self._add(known, kind)
            self._waiting.append(functools.partial(self._look_into_class, known, kind))
        return known

    def _look_into_class(self, node: Node, kind: type) -> None:
        self.record.klass(kind)
        edges = self.edges[node]
        if any(self._is_foreign(each) for each in (*kind.__mro__, type(kind))):
            self._open.add(node)
        for at, base in enumerate(kind.__bases__):
            edges.append(self._by_class(leaf_tuple(("base", at)), base))
        edges.append(self._by_class(leaf("metaclass"), type(kind)))
        for name, value in attributes_of(kind):
            edges += self._of_class(kind, name, value, leaf("attribute"))
        own = record("class", [text(kind.__qualname__), described(kind)])
        node.encode = lambda resolve: record("class code", [own, self._encoded(edges, resolve)])

    def _is_foreign(self, kind: type) -> bool:
        """Tell whether a class is of a package that may call what its subclasses define."""
        return kind.__module__ not in _LANGUAGE and not self.project.has_class(kind)

    def _by_class(self, label: bytes, kind: type) -> Edge:
        target = self.target(kind)
        return Edge(label, class_name(kind) if target is None else target)

    def _of_class(self, kind: type, name: str, value: Any, label: bytes) -> Iterator[Edge]:
        pieces = pieces_of(value)
        label += text(name)
        if pieces is not None:
            for piece, inner in pieces:
                place = (id(kind), name, piece)
                yield self._edge(label + text(piece), inner, place, f"{kind.__qualname__}.{name}")
            return
        target = self._by_class(label, value).target if isinstance(value, type) else self.target(value)
        if target is None:
            target = self._constant(value, "attribute", f"{kind.__qualname__}.{name}", (id(kind), name))
        yield Edge(label, target, (id(kind), name))

    def module(self, module: types.ModuleType) -> Node:
        """Return the node of a module: of everything that its globals hold.

        Parameters
        ----------
        module : module
            The module.

        Returns
        -------
        Node
            The same for the same module.
        """
        known = self._nodes.get(id(module))
        if known is None:
            known = Node("module", module.__name__, basis="contents", place=str(getattr(module, "__file__", "")))
            self._add(known, module)
            self._waiting.append(functools.partial(self._look_into_module, known, module))
        return known

    def _look_into_module(self, node: Node, module: types.ModuleType) -> None:
        edges, space = self.edges[node], vars(module)
        for name, value in sorted(space.items()):
            if name in _OF_THE_MODULE or (name.startswith("__") and name.endswith("__")):
                continue
            self.record.read(space, name, value)
            edges.append(self._edge(text(name), value, (id(space), name), name))
        node.name = ""  # a module may be renamed
        node.encode = lambda resolve: record("module code", [self._encoded(edges, resolve)])

    def file(self, path: str) -> Node:
        """Return the node of a file, which counts by its content.

        Parameters
        ----------
        path : str
            Its path.

        Returns
        -------
        Node
            A new one.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        self.record.file(path)
        content = xxhash.xxh3_128()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        data = content.digest()
        return Node("file", os.path.basename(path), lambda resolve: data, basis="content", place=path)

    # --- encoding ---

    def rank(self, node: Node) -> int:
        """Return when a node was found, so that what is told has an order.

        Parameters
        ----------
        node : Node
            The node.

        Returns
        -------
        int
            Small for what was found early; files come last, what wraps the function first.
        """
        if self._ranks is None:
            self._ranks = {each: at for at, each in enumerate(self._nodes.values())}
        return self._ranks.get(node, -1 if node.kind != "file" else len(self._ranks))

    def standing_for(self, keys: Iterable[Hashable], resolve: Resolve) -> dict[Hashable, bytes]:
        """Return what stands for places, so that it can stand for them whatever they hold later.

        Parameters
        ----------
        keys : iterable
            The places.
        resolve : callable
            How things refer to each other.

        Returns
        -------
        dict
            Place to bytes, of those that were read.
        """
        wanted = {*keys}
        found = [edge for edges in self.edges.values() for edge in edges if edge.key in wanted]
        return {key: self._bytes(target, key, resolve) for _, target, key in found} | {
            key: self.fixed[key] for key in wanted & self.fixed.keys()
        }

    @property
    def state(self) -> dict[Hashable, str]:
        """The places that the reached code rebinds, or whose containers it changes, with names."""
        return dict(self._rebound)

    def _instead(self, key: Hashable) -> bytes | None:
        """Return what stands for a place whatever it holds: one that is state."""
        if key in self._rebound:
            return simple("state")
        return self.fixed.get(key)

    def _bytes(self, target: Node | bytes, key: Hashable, resolve: Resolve) -> bytes:
        instead = None if key is None else self._instead(key)
        if instead is not None:
            return instead
        return target if isinstance(target, bytes) else resolve(target)

    def _encoded(self, edges: Iterable[Edge], resolve: Resolve) -> bytes:
        """Return the encoding of edges, in the order of their labels; nothing for none."""
        pairs = sorted({(each.label, self._bytes(each.target, each.key, resolve)) for each in edges})
        return record("reached", [part for pair in pairs for part in pair]) if pairs else b""


class _Name(NamedTuple):
    """Something of another package, by its name."""

    name: str


class _Found(NamedTuple):
    value: Any
    key: Hashable
    name: str


@functools.lru_cache(maxsize=4096)
def _label(path: Path) -> bytes:
    base = path.base if isinstance(path.base, Imported) else (path.base,)
    return leaf_tuple(base) + leaf_tuple(path.attributes)


def _called(name: str, owner: str) -> set[str]:
    """Return by which names code calls a method of a class; none where Python itself may call it."""
    if name.startswith("_") and name.endswith("_"):
        return set()
    mangled = f"_{owner.rpartition('.')[2].lstrip('_')}__"
    return {name, name.replace(mangled, "__", 1) if name.startswith(mangled) else name}


def _loaded(name: str) -> Any:
    """Return a module, which is loaded if there is one."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except Exception:  # a module may raise anything when it is loaded
        return MISSING


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")
