"""Owns the check that nothing has changed of what an identity rests on, which every call makes.

What code reaches is held and compared by ``is``: globals as the values of dicts, the code and defaults
of functions, cells, the dicts of classes. Immutable values need no more than that. Lists, dicts and sets
are compared with the elements that they had, by ``is`` again, about 20 ns for each; arrays by xxh3 of
their memory, about 0.1 ms per megabyte; anything else that may change by its canonical bytes.

Looping over functions and names in Python costs three times what `map` and `itemgetter` cost; comparing
tuples of functions with ``==`` takes a quarter of comparing their elements with ``is``, and is the same
where a type compares by identity.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import os
import threading
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from operator import attrgetter, is_, itemgetter
from typing import Any, Final

import numpy as np
import xxhash

from chunk_memo.identity.grammar import LEAVES

__all__ = ["MISSING", "Recorder", "Watch", "held_in"]


class _Missing(enum.Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""What a name has that is not there."""

_code: Final = attrgetter("__code__")
_defaults: Final = attrgetter("__defaults__")
_keywords: Final = attrgetter("__kwdefaults__")


class Watch:
    """Compares what an identity rests on with what it was.

    Parameters
    ----------
    record : Recorder
        What to compare.
    state : iterable, optional
        Places that are not compared.
    """

    __slots__ = (
        "__weakref__",
        "_absent",
        "_by_equality",
        "_by_identity",
        "_cells",
        "_classes",
        "_codes",
        "_functions",
        "_inside",
        "_keyword",
        "_lock",
        "_positional",
        "_record",
        "_running",
        "_state",
    )

    def __init__(self, record: Recorder, state: Iterable[Hashable] = ()) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._running = 0
        self._state: set[Hashable] = {*state}
        self._arrange()

    def _arrange(self) -> None:
        record, state = self._record, self._state
        self._by_equality: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self._by_identity: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self._absent: list[tuple[Any, tuple[str, ...]]] = []
        for space, names in record.reads.values():
            kept = {name: value for name, value in names.items() if (id(space), name) not in state}
            absent = tuple(name for name, value in kept.items() if value is MISSING)
            if absent:
                self._absent.append((space, absent))
            for groups, wanted in ((self._by_equality, True), (self._by_identity, False)):
                chosen = {n: v for n, v in kept.items() if v is not MISSING and _by_identity(v) is wanted}
                if chosen:
                    first = next(iter(chosen))  # itemgetter gives a tuple from two names on
                    values = (chosen[first], *chosen.values())
                    groups.append((space, itemgetter(first, *chosen), values))
        self._functions = [each for each, _, _ in record.functions]
        self._codes = [each.__code__ for each in self._functions]
        # a function without defaults that gets some does what it did, for calls that gave every argument
        self._positional = _column([(each, given) for each, given, _ in record.functions if given is not None])
        self._keyword = _column([(each, given) for each, _, given in record.functions if given is not None])
        self._cells = [each for each in record.cells if ("cell", id(each[0])) not in state]
        self._classes = []
        for kind, known in record.classes.items():
            kept = {name: value for name, value in known.items() if (id(kind), name) not in state}
            attributes = kind.__dict__
            row = (attributes, len(attributes), [*kept], [*kept.values()], kind, kind.__bases__)
            self._classes.append(row)
        self._inside = [(key, name, check) for key, name, check in record.inside if key not in state]

    def unchanged(self) -> bool:
        """Tell whether everything is as it was.

        Returns
        -------
        bool
            False at the first difference. While the function runs, what containers hold is not compared.
        """
        try:
            for space, get, values in self._by_equality:
                if get(space) != values:
                    return False
            for space, get, values in self._by_identity:
                if not all(map(is_, get(space), values)):
                    return False
            for space, absent in self._absent:
                if not space.keys().isdisjoint(absent):
                    return False
            if [*map(_code, self._functions)] != self._codes:
                return False
            for functions, defaults in self._positional:
                if not all(map(is_, map(_defaults, functions), defaults)):
                    return False
            for functions, defaults in self._keyword:
                if not all(map(is_, map(_keywords, functions), defaults)):
                    return False
            for cell, value in self._cells:
                if cell.cell_contents is not value:
                    return False
            for attributes, size, names, held, kind, bases in self._classes:
                if len(attributes) != size or kind.__bases__ != bases:
                    return False
                if not all(map(is_, map(attributes.__getitem__, names), held)):
                    return False
        except (KeyError, ValueError):  # a name is gone, a cell is empty, an array was compared
            return False
        if self._running:
            return True
        return not self._inside or all(check() for _, _, check in self._inside)

    @contextlib.contextmanager
    def running(self) -> Iterator[list[str]]:
        """Let a function run: what changes meanwhile is its state, and no longer compared.

        Yields
        ------
        list of str
            Filled at the end with the names of what has turned out to be state, each told once.
        """
        told: list[str] = []
        with self._lock:
            self._running += 1
        try:
            yield told
        finally:
            with self._lock:
                self._running -= 1
                if not self.unchanged():
                    told += self._settle()

    def _settle(self) -> list[str]:
        changed = self._changed()
        self._state.update(changed)
        self._arrange()
        return sorted({*changed.values()})

    def _changed(self) -> dict[Hashable, str]:
        """Return what is not as it was: keys, and names for people."""
        found: dict[Hashable, str] = {}
        for space, names in self._record.reads.values():
            for name, value in names.items():
                if space.get(name, MISSING) is not value:
                    found[id(space), name] = name
        for cell, value in self._record.cells:
            if held_in(cell) is not value:
                found["cell", id(cell)] = "a variable of the closure"
        for kind, known in self._record.classes.items():
            for name, value in known.items():
                if kind.__dict__.get(name, MISSING) is not value:
                    found[id(kind), name] = f"{kind.__qualname__}.{name}"
        found |= {key: name for key, name, check in self._inside if not check()}
        return {key: name for key, name in found.items() if key not in self._state}

    @property
    def state(self) -> frozenset[Hashable]:
        """The places whose values have changed while the function ran."""
        return frozenset(self._state)


def _column(pairs: list[tuple[Any, Any]]) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Return functions and what they had, as one pair of tuples; nothing for none."""
    return [(tuple(each for each, _ in pairs), tuple(had for _, had in pairs))] if pairs else []


def _by_identity(value: Any) -> bool:
    kind = type(value)
    return kind in _COMPARED_BY_IDENTITY


_COMPARED_BY_IDENTITY: Final = frozenset({types.FunctionType, types.ModuleType, type, types.BuiltinFunctionType})


def held_in(cell: types.CellType) -> Any:
    """Return what a cell of a closure holds.

    Parameters
    ----------
    cell : cell
        The cell.

    Returns
    -------
    object
        `MISSING` if the cell is empty.
    """
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class Recorder:
    """What an identity rests on, while it is taken.

    Parameters
    ----------
    encoded : callable
        Returns the canonical bytes of a value that may change in ways unknown.
    by_attributes : callable
        Tells whether an instance changes only by its attributes.
    """

    def __init__(self, encoded: Callable[[Any], bytes], by_attributes: Callable[[Any], bool]) -> None:
        self._encoded = encoded
        self._by_attributes = by_attributes
        self._seen: dict[Hashable, Any] = {}
        self.reads: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.functions: list[tuple[types.FunctionType, Any, Any]] = []
        self.cells: list[tuple[types.CellType, Any]] = []
        self.classes: dict[type, dict[str, Any]] = {}
        self.inside: list[tuple[Hashable, str, Callable[[], bool]]] = []

    def read(self, space: dict[str, Any], name: str, value: Any) -> None:
        """Note a name that was looked up.

        Parameters
        ----------
        space : dict
            Where; the globals of a module.
        name : str
            The name.
        value : object
            What it stood for, or `MISSING`.
        """
        self.reads.setdefault(id(space), (space, {}))[1].setdefault(name, value)

    def function(self, function: types.FunctionType) -> None:
        """Note a function: its code and its defaults.

        Parameters
        ----------
        function : function
            The function.
        """
        self.functions.append((function, function.__defaults__, function.__kwdefaults__))

    def cell(self, cell: types.CellType) -> None:
        """Note a cell of a closure.

        Parameters
        ----------
        cell : cell
            The cell, which may be empty.
        """
        self.cells.append((cell, held_in(cell)))

    def klass(self, kind: type) -> None:
        """Note a class: what its dict holds, and its bases.

        Parameters
        ----------
        kind : type
            The class.
        """
        self.classes.setdefault(kind, dict(kind.__dict__))

    def content(self, key: Hashable, name: str, value: Any) -> None:
        """Note what a value holds, as far as it may change.

        Parameters
        ----------
        key : hashable
            The place that the value was found in.
        name : str
            What to call it.
        value : object
            Any value.
        """
        waiting = [value]
        while waiting:
            each = waiting.pop()
            if type(each) in LEAVES or isinstance(each, _UNCHANGING) or ("content", id(each)) in self._seen:
                continue
            self._seen["content", id(each)] = each  # held, so that its id stays its own
            check, inner = self._compared(each)
            waiting += inner
            if check is not None:
                self.inside.append((key, name, check))

    def _compared(self, value: Any) -> tuple[Callable[[], bool] | None, list[Any]]:
        if not self._by_attributes(value):
            return _compared(value, self._encoded)
        attributes = dict(vars(value))
        return partial(_same_attributes, value, attributes), [*attributes.values()]

    def file(self, path: str) -> None:
        """Note a file.

        Parameters
        ----------
        path : str
            Its path; size and time of change count.
        """
        before = _stamp(path)
        self.inside.append((("file", path), path, lambda: _stamp(path) == before))


_UNCHANGING: Final = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    enum.Enum,
    np.generic,
    np.dtype,
    np.ufunc,
)
"""Types whose values cannot change, or are watched as code."""


def _compared(value: Any, encoded: Callable[[Any], bytes]) -> tuple[Callable[[], bool] | None, list[Any]]:
    """Return what tells whether a value still holds what it does, and what it holds."""
    kind = type(value)
    if kind in (tuple, frozenset) or (isinstance(value, tuple) and not hasattr(value, "__dict__")):
        return None, [*value]
    if kind is dict:
        keys, values = tuple(value), tuple(value.values())
        return partial(_same_dict, value, keys, values), [*keys, *values]
    if kind in (list, set, collections.deque):
        elements = tuple(value)
        return partial(_same_elements, value, elements), [*elements]
    if kind is np.ndarray and not value.dtype.hasobject:
        return partial(_same_array, value, value.dtype, value.shape, _sum(value)), []
    if kind is partial:
        return None, [value.func, value.args, value.keywords]
    if kind is types.MethodType:
        return None, [value.__self__]
    return partial(_same_encoded, value, encoded(value), encoded), []


def _same_dict(value: dict[Any, Any], keys: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    return len(value) == len(keys) and all(map(is_, value.values(), values)) and all(map(is_, value, keys))


def _same_attributes(value: Any, attributes: dict[str, Any]) -> bool:
    now = vars(value)
    return now.keys() == attributes.keys() and all(
        map(is_, map(now.__getitem__, attributes), attributes.values())
    )


def _same_elements(value: Any, elements: tuple[Any, ...]) -> bool:
    return len(value) == len(elements) and all(map(is_, value, elements))


def _same_array(value: np.ndarray, dtype: Any, shape: tuple[int, ...], before: int) -> bool:
    return value.shape == shape and value.dtype is dtype and _sum(value) == before


def _sum(array: np.ndarray) -> int:
    plain = np.ascontiguousarray(array).reshape(-1)
    return xxhash.xxh3_64_intdigest(plain.view(np.uint8).data if plain.size else b"")


def _same_encoded(value: Any, before: bytes, encoded: Callable[[Any], bytes]) -> bool:
    return encoded(value) == before


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
