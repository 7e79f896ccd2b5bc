"""Functions: what changes an identity, what does not, and what it rests on."""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.util
import itertools
import json
import linecache
import subprocess
import sys
import textwrap
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo.errors import IdentityError, IdentityWarning
from chunk_memo.identity import (
    SCHEME,
    FunctionIdentity,
    canonical_bytes,
    digest,
    identify_function,
    params_to_cache_id,
    unwrap,
)

GOLDEN = Path(__file__).with_name("golden_digests.json")

Load = Callable[..., Any]
_names = itertools.count()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Return a function that writes a module, imports it, and returns one of its names."""
    loaded = []

    def load(text: str, name: str = "f", path: Path | None = None) -> Any:
        module_name = f"written_{next(_names)}"
        path = path or tmp_path / f"{module_name}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        loaded.append(module_name)
        spec.loader.exec_module(module)
        return functools.reduce(getattr, name.split("."), module)

    yield load
    for module_name in loaded:
        del sys.modules[module_name]


BASE = """
import numpy as np

def f(x, n=3, *rest, scale: float = 1.0, **more) -> float:
    '''Say something.'''
    total = 0.0
    for i in range(n):
        if i % 2 == 0 and x > 1:
            total += np.sqrt(x * i) * scale
        else:
            total -= x ** 2
    words = [f"{total:.3f}" for word in ("a", "b") if word != 'c']
    def inner(y, z=2):
        return y + z
    try:
        total = inner(total, z=4)
    except (ValueError, TypeError) as error:
        raise RuntimeError("bad") from error
    return total, words
"""


def edited(old: str, new: str) -> str:
    """Return the base text with one thing replaced."""
    assert old in BASE
    return BASE.replace(old, new, 1)


COSMETIC = {
    "comment": edited("total = 0.0", "total = 0.0  # the sum so far"),
    "comment line": edited("    for i", "    # go through all\n    for i"),
    "blank lines": edited("    for i", "\n\n    for i"),
    "docstring": edited("Say something.", "Say something else."),
    "no docstring": edited("    '''Say something.'''\n", ""),
    "signature annotation": edited("scale: float", "scale: 'np.float64'"),
    "no annotation": edited("scale: float = 1.0", "scale=1.0"),
    "annotation of x": edited("f(x,", "f(x: int,"),
    "return annotation": edited("-> float", "-> tuple[float, list[str]]"),
    "no return annotation": edited(" -> float", ""),
    "local annotation": edited("total = 0.0", "total: float = 0.0"),
    "bare annotation": edited("    total = 0.0", "    total: float\n    total = 0.0"),
    "bare annotation in a loop": edited("        if i", "        i: int\n        if i"),
    "quotes": edited("'c'", '"c"'),
    "u prefix": edited("'c'", "u'c'"),
    "parentheses": edited("x ** 2", "(x ** 2)"),
    "spaces": edited("x * i", "x*i"),
    "indentation": BASE.replace("    ", "  "),
    "line break": edited("if i % 2 == 0 and x > 1:", "if (i % 2 == 0\n            and x > 1):"),
    "other default text": edited("n=3", "n=1 + 2"),
    "decorator": edited("def f", "import functools\n@functools.lru_cache\ndef f"),
    "moved": "import os\n\nSOMETHING = 1\n\n\n" + BASE,
    "neighbour": BASE + "\ndef g(x):\n    return x\n",
    "inner docstring": edited("        return y + z", "        'Add.'\n        return y + z"),
    "inner annotation": edited("inner(y, z=2)", "inner(y: int, z: int = 2) -> int"),
    "future": "from __future__ import annotations\n" + BASE,
    "number text": edited("range(n)", "range((n))"),
    "string join": edited('"bad"', '"b" "ad"'),
    "hexadecimal": edited("x > 1", "x > 0x1"),
    "type comment": edited("total = 0.0", "total = 0.0  # type: float"),
    "semicolon": edited("total = 0.0\n", "total = 0.0;\n"),
    "windows lines": BASE.replace("\n", "\r\n"),
    "form feed": edited("def f", "\x0c\ndef f"),
}

SEMANTIC = {
    "constant": edited("total = 0.0", "total = 0.5"),
    "int for float": edited("total = 0.0", "total = 0"),
    "minus zero": edited("total = 0.0", "total = -0.0"),
    "bool for int": edited("x > 1", "x > True"),
    "bytes for str": edited("'c'", "b'c'"),
    "operator": edited("total -= ", "total += "),
    "operands swapped": edited("y + z", "z + y"),
    "power": edited("x ** 2", "x ** 3"),
    "comparison": edited("x > 1", "x >= 1"),
    "and": edited(" and ", " or "),
    "not": edited("i % 2 == 0", "not i % 2 == 0"),
    "global name": edited("np.sqrt", "np.cbrt"),
    "local name of a global": edited("range(n)", "reversed(n)"),
    "keyword": edited("z=4", "y=4"),
    "statement removed": edited("        total = inner(total, z=4)\n", "        pass\n"),
    "statement added": edited("total = 0.0", "total = 0.0; print(x)"),
    "statements swapped": edited("total = 0.0", "words = total = 0.0"),
    "format": edited(":.3f", ":.4f"),
    "conversion": edited("{total:.3f}", "{total!r}"),
    "format text": edited('f"{total', 'f"t {total'),
    "default": edited("n=3", "n=4"),
    "default type": edited("n=3", "n=3.0"),
    "keyword default": edited("scale: float = 1.0", "scale: float = 2.0"),
    "no default": edited("n=3", "n"),
    "parameter name": edited("**more", "**options"),
    "parameter kind": edited("*rest, ", "*, "),
    "positional only": edited("n=3, ", "n=3, /, "),
    "inner default": edited("z=2", "z=3"),
    "inner decorator": edited("    def inner", "    @np.vectorize\n    def inner"),
    "exception": edited("ValueError, ", ""),
    "exception order": edited("(ValueError, TypeError)", "(TypeError, ValueError)"),
    "cause": edited(" from error", " from None"),
    "return": edited("return total, words", "return words, total"),
    "return None": edited("return total, words", "return"),
    "list for set": edited('[f"{total', '{f"{total').replace("!= 'c']", "!= 'c'}"),
    "async comprehension shape": edited("for word in", "for word, in"),
    "global": edited("    total = 0.0", "    global total\n    total = 0.0"),
    "assert": edited("    total = 0.0", "    assert x\n    total = 0.0"),
    "literal order": edited('("a", "b")', '("b", "a")'),
    "tuple for list": edited('("a", "b")', '["a", "b"]'),
    "loop else": edited("    words", "    else:\n        total = 1\n    words"),
    "class annotation": edited("    total = 0.0", "    class C:\n        a: int\n    total = 0.0"),
    "name": BASE.replace("def f", "def g"),
    "class annotation type": edited("    total = 0.0", "    class C:\n        a: str\n    total = 0.0"),
    "class empty": edited("    total = 0.0", "    class C:\n        pass\n    total = 0.0"),
    "async": edited("def inner", "async def inner"),
    "yield": edited("return y + z", "yield y + z"),
    "walrus": edited("x > 1", "(k := x) > 1"),
    "star": edited("(total, z=4)", "(*[total], z=4)"),
    "lambda": edited("    words", "    key = lambda v: v\n    words"),
    "lambda default": edited("    words", "    key = lambda v=1: v\n    words"),
}


def name_of(text: str) -> str:
    """Return the name that the function has in a text."""
    return "g" if "def g(x, n" in text else "f"


@pytest.mark.parametrize("text", COSMETIC.values(), ids=COSMETIC)
def test_cosmetic_edits_keep_the_digest(load: Load, text: str) -> None:
    """What does not change what a function does, or is no part of it, does not count."""
    one, two = identify_function(load(BASE)), identify_function(load(text))
    assert ("source", "source") == (one.basis, two.basis)
    assert one.digest == two.digest


def test_semantic_edits_change_the_digest(load: Load) -> None:
    """No two of many variants of a function share a digest."""
    variants = {"as it is": BASE, **SEMANTIC}
    found = {name: identify_function(load(text, name_of(text))) for name, text in variants.items()}
    assert {"source"} == {identity.basis for identity in found.values()}
    digests: dict[str, list[str]] = {}
    for name, identity in found.items():
        digests.setdefault(identity.digest, []).append(name)
    assert [] == [names for names in digests.values() if len(names) > 1]


def test_a_bare_annotation_that_makes_a_name_local_counts(load: Load) -> None:
    """Where nothing else makes a name local, its annotation does, and so it counts."""
    one = load("x = 1\ndef f():\n    return x\n")
    two = load("x = 1\ndef f():\n    x: int\n    return x\n")
    assert identify_function(one).digest != identify_function(two).digest


GOLDEN_SOURCE = '''
import functools

def f(x, n=3, *, scale=1.0):
    """Documented."""
    total: float = 0.0
    for i in range(n):
        total += scale * x**i
    return f"{total:>{n}.2f} {x!r:} {n=}"

square = lambda x: x * x

def outer(power):
    def inner(x):
        return x**power
    return inner

cube = outer(3)
half = functools.partial(f, n=2)

class Model:
    kind = "linear"

    def run(self, x, table={"a": (1, 2.5)}):
        match x:
            case {"a": [first, *_]} if first:
                return first
            case None | int():
                return None
        with open(x) as file, open(x):
            return [line for line in file if line] or {**table}

async def later(x):
    async for y in x:
        yield await y
'''


def test_digests_are_those_of_the_golden_file(load: Load) -> None:
    """A function's digest is the same in every process and Python, and on every day."""
    golden = json.loads(GOLDEN.read_text())["functions"]
    names = ("f", "square", "outer", "cube", "half", "Model.run", "later")
    module: Any = sys.modules[load(GOLDEN_SOURCE).__module__]
    found = {name: identify_function(functools.reduce(getattr, name.split("."), module)).digest for name in names}
    assert golden == found
    assert len(names) == len(set(found.values()))


def test_an_identity_tells_what_it_rests_on(load: Load) -> None:
    """Name, module, scheme, basis and text of a function can be read off."""
    func = load("@staticmethod\ndef f(x):\n    return x\n")
    identity = identify_function(func)
    expected = ("f", func.__module__, SCHEME, "source", ())
    assert expected == (
        identity.qualname,
        identity.module,
        identity.scheme,
        identity.basis,
        identity.notes,
    )
    assert identity.source == "def f(x):\n    return x"
    assert 32 == len(identity.digest)
    assert "FunctionIdentity('f', basis='source')" == repr(identity)
    assert identity == dataclasses.replace(identity)


def test_module_and_file_do_not_count(load: Load, tmp_path: Path) -> None:
    """A function that moves to another file, or runs as a script, keeps its identity."""
    one = identify_function(load(BASE))
    (tmp_path / "elsewhere").mkdir()
    two = identify_function(load(BASE, path=tmp_path / "elsewhere" / "script.py"))
    assert one.module != two.module
    assert one.digest == two.digest


def test_classes_of_the_own_module_count_without_it(load: Load) -> None:
    """A default whose class lies beside the function does not bring the module's name in."""
    text = """
    import enum
    class Mode(enum.Enum):
        FAST = 1
        SLOW = 2
    class Solver:
        def run(self, x, mode=Mode.FAST):
            return super().__repr__()
    """
    one, two = load(text, "Solver.run"), load(text, "Solver.run")
    other = load(text.replace("=Mode.FAST", "=Mode.SLOW"), "Solver.run")
    assert one.__module__ != two.__module__
    assert identify_function(one).digest == identify_function(two).digest
    assert identify_function(one).digest != identify_function(other).digest


# -- the code that runs ----


def test_an_edited_file_that_was_not_reloaded_is_not_believed(load: Load, tmp_path: Path) -> None:
    """Source counts only if compiling it gives the code that runs."""
    path = tmp_path / "module.py"
    old = load("def f(x):\n    return x + 1\n", path=path)
    before = identify_function(old)
    path.write_text("def f(x):\n    return x + 22\n")
    stale = identify_function(old)
    assert ("source", "code object") == (before.basis, stale.basis)
    assert before.digest != stale.digest
    assert "no source that compiles to the code that runs" in stale.notes[0]
    new = load("def f(x):\n    return x + 22\n", path=path)
    assert identify_function(new).digest not in (before.digest, stale.digest)


def test_an_edit_elsewhere_in_the_file_does_not_matter(load: Load, tmp_path: Path) -> None:
    """A function that only moved within its file is still found there."""
    path = tmp_path / "module.py"
    func = load("def f(x):\n    return x + 1\n", path=path)
    before = identify_function(func)
    path.write_text("import os\n\n\ndef g():\n    pass\n\n\ndef f(x):\n    return x + 1  # one\n")
    assert before.digest == identify_function(func).digest


@pytest.mark.parametrize("text", ["def f(:\n", "", "\0", "x = " + "(" * 500])
def test_a_file_that_cannot_be_compiled_is_not_believed(load: Load, tmp_path: Path, text: str) -> None:
    """A file that is damaged by now leaves the code object."""
    path = tmp_path / "module.py"
    func = load("def f(x):\n    return x + 1\n", path=path)
    path.write_text(text)
    assert "code object" == identify_function(func).basis


def made(text: str, name: str = "f", filename: str = "<string>") -> Any:
    """Return a function of a text that no file holds."""
    space: dict[str, Any] = {"__name__": "made"}
    exec(compile(text, filename, "exec"), space)
    return space[name]


def test_code_without_source_counts_as_compiled() -> None:
    """A function without source is known by its code object: constants, names and all."""
    texts = [
        "def f(x): return x + 1",
        "def f(x): return x + 1.0",
        "def f(x): return x + True",
        "def f(x): return x - 1",
        "def f(x, y): return x + 1",
        "def f(*x): return x + 1",
        "def f(x, *, y): return x + 1",
        "def f(x): return y + 1",
        "def f(x): return z + 1",
        "def f(x): return x.a + 1",
        "def f(x): return [x + 1 for x in (1, 2)]",
        "def f(x): return [x + 1 for x in (1, 3)]",
        "def f(x): return lambda: 1",
        "def f(x): return lambda: 2",
        "def f(x): return x in {1, 2}",
        "def f(x): return x in {1, 3}",
        "def f(x): yield x + 1",
    ]
    ones = [identify_function(made(text)) for text in texts]
    twos = [identify_function(made("\n\n" + text, filename="<other>")) for text in texts]
    assert {"code object"} == {identity.basis for identity in ones}
    assert [one.digest for one in ones] == [two.digest for two in twos]
    assert len(texts) == len({one.digest for one in ones})


def test_source_of_another_function_is_not_believed(load: Load, tmp_path: Path) -> None:
    """A code object that claims a file in which other code stands is digested itself."""
    path = tmp_path / "module.py"
    load("def f(x):\n    return x + 1\n", path=path)
    assert "code object" == identify_function(made("def f(x): return x * 9", filename=str(path))).basis
    assert "source" == identify_function(made("def f(x): return x + 1", filename=str(path))).basis


def test_notebook_cells_work_like_files() -> None:
    """A function in a cell has a source, and neither the cell's name nor the line counts."""
    digests = []
    for number, text in enumerate(("def f(x):\n    return x\n", "y = 1\nawait_ = 2\ndef f(x):\n    return x\n")):
        name = f"<ipython-input-{number}-abc>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        try:
            identity = identify_function(made(text, filename=name))
        finally:
            del linecache.cache[name]
        assert "source" == identity.basis
        digests.append(identity.digest)
    assert digests[0] == digests[1]


def test_a_cell_that_awaits_has_source() -> None:
    """Top-level await, which notebooks allow, does not hide the functions of a cell."""
    text = "def f(x):\n    return x\n\nawait something()\n"
    name = "<ipython-input-7-abc>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    try:
        func = made("def f(x):\n    return x\n", filename=name)
        assert "source" == identify_function(func).basis
    finally:
        del linecache.cache[name]


def test_a_program_given_on_the_command_line_has_an_identity() -> None:
    """A function of ``python -c`` is known by its code object, or by its source where kept."""
    script = (
        "from chunk_memo.identity import identify_function as i\n"
        "def f(x): return x\n"
        "print(i(f).digest, i(f).basis)"
    )
    root = str(Path(sys.modules["chunk_memo"].__file__ or "").parent.parent)
    run = [sys.executable, "-W", "error", "-c", script]
    outs = {subprocess.run(run, cwd=root, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert 1 == len(outs)


def test_syntax_warnings_of_a_file_stay_silent(load: Load) -> None:
    """Compiling a file again does not repeat its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        func = load("def f(x):\n    return x is 'a\\d'\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "source" == identify_function(func).basis


@pytest.mark.parametrize(
    "module", ["json.decoder", "argparse", "ast", "functools", "tarfile", "typing", "dataclasses"]
)
def test_functions_of_the_standard_library_have_source(module: str) -> None:
    """What is written is found for all functions of large modules, and tells them apart."""
    space = vars(importlib.import_module(module))
    funcs = [each for each in space.values() if isinstance(each, types.FunctionType)]
    for each in space.values():
        if isinstance(each, type) and each.__module__ == module:
            funcs += [one for one in vars(each).values() if isinstance(one, types.FunctionType)]
    written = {func for func in funcs if not func.__code__.co_filename.startswith("<")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentityWarning)
        found = {func: identify_function(func) for func in written}
    assert {"source"} == {identity.basis for identity in found.values()}
    for func, identity in found.items():
        assert identity.source is not None
        assert unwrap(func).__code__.co_name.replace("<lambda>", "lambda") in identity.source


# -- lambdas ----


LAMBDAS = """
import functools

fs = [lambda x: x + 1, lambda x: x + 2, lambda x: (lambda y: y * x), lambda x: lambda y: y / x]
pair = (lambda: 2 * 3, lambda: 6)
same = (lambda x: x + 1, lambda x: x + 1)
long = (lambda x:
        x + 1)
nested = (lambda: (lambda: (lambda: 1)))
def g(key=lambda v: -v): return sorted([1], key=key), (lambda v: v)
"""


def test_lambdas_on_one_line_are_told_apart(load: Load) -> None:
    """Each of several lambdas on a line has an identity and a text of its own."""
    fs = load(LAMBDAS, "fs")
    found = [identify_function(f) for f in (*fs, fs[2](1), fs[3](1))]
    assert ["source"] * 6 == [identity.basis for identity in found]
    assert 6 == len({identity.digest for identity in found})
    assert [
        "lambda x: x + 1",
        "lambda x: x + 2",
        "lambda x: (lambda y: y * x)",
        "lambda x: lambda y: y / x",
        "lambda y: y * x",
        "lambda y: y / x",
    ] == [identity.source for identity in found]


def test_lambdas_that_compile_alike_keep_their_own_text(load: Load) -> None:
    """Two lambdas that compile to the same code are told apart by their columns."""
    pair = [identify_function(f).source for f in load(LAMBDAS, "pair")]
    assert ["lambda: 2 * 3", "lambda: 6"] == pair


def test_equal_lambdas_share_an_identity(load: Load) -> None:
    """The same lambda twice is one, wherever it stands."""
    same = load(LAMBDAS, "same")
    long = load(LAMBDAS, "long")
    assert 1 == len({identify_function(f).digest for f in (*same, long)})


def test_lambdas_in_lambdas_are_found(load: Load) -> None:
    """Nested lambdas, and lambdas in defaults, are found by where their code lies."""
    nested = load(LAMBDAS, "nested")
    g = load(LAMBDAS, "g")
    texts = [identify_function(f).source for f in (nested, nested(), nested()(), *g.__defaults__)]
    expected = ["lambda: (lambda: (lambda: 1))", "lambda: (lambda: 1)", "lambda: 1", "lambda v: -v"]
    assert expected == texts


# -- closures and defaults ----


CLOSURE = """
def make(a, b=None):
    def f(x):
        return x, a, b
    return f
"""


def test_closures_count_by_value(load: Load) -> None:
    """What a closure holds is part of the function, by the rules for values."""
    make = load(CLOSURE, "make")
    values = [1, 1.0, True, "1", [1], (1,), {"a": 1}, np.arange(3), np.arange(4), len, max, None]
    digests = [identify_function(make(value)).digest for value in values]
    assert len(values) == len({*digests})
    assert digests == [identify_function(make(value)).digest for value in values]
    assert identify_function(make(1)).digest == identify_function(make(np.int64(1))).digest
    assert identify_function(make(1, 2)).digest != identify_function(make(2, 1)).digest


def test_functions_in_closures_count_by_code(load: Load) -> None:
    """A function that a closure holds counts by what it does, not by where it lies."""
    make = load(CLOSURE, "make")
    one, two = load("def h(x):\n    return 1\n", "h"), load("def h(x):\n    return 2\n", "h")
    again = load("def h(x):\n    # the same\n    return 1\n", "h")
    found = [identify_function(make(func)).digest for func in (one, two, again)]
    assert found[0] == found[2] != found[1]


def test_a_closure_that_holds_its_own_function_ends(load: Load) -> None:
    """Recursive and mutually recursive inner functions have an identity."""
    text = """
    def make(n):
        def f(x):
            return g(x) if x else n
        def g(x):
            return f(x - 1)
        both = [f, g]
        def h():
            return both, h
        return f, g, h
    """
    make = load(text, "make")
    ones = [identify_function(f).digest for f in make(1)]
    assert ones == [identify_function(f).digest for f in make(1)]
    assert 6 == len({*ones, *(identify_function(f).digest for f in make(2))})


def test_modules_in_closures_count_by_name(load: Load) -> None:
    """An import in an enclosing function needs no note."""
    make = load(CLOSURE, "make")
    found = [identify_function(make(module)) for module in (np, json, json)]
    assert [(), (), ()] == [identity.notes for identity in found]
    assert found[0].digest != found[1].digest == found[2].digest


def test_an_unset_closure_variable_is_no_error(load: Load) -> None:
    """A variable that is assigned later counts as unset."""
    text = """
    def make():
        def f():
            return later
        yield f
        later = 1
        yield f
    """
    states = load(text, "make")()
    before = identify_function(next(states)).digest
    assert before != identify_function(next(states)).digest


def test_what_has_no_identity_counts_by_type_with_one_warning(load: Load) -> None:
    """A lock in a closure or default is noted and warned of once, with the way out."""
    make = load(CLOSURE, "make")
    func = make(threading.Lock(), [1, object()])
    with pytest.warns(IdentityWarning, match=r"'make.<locals>.f' .* depends_on=") as caught:
        identity = identify_function(func)
    assert 1 == len(caught)
    notes = (
        "closure variable 'a': an object of type '_thread.lock' counts by its type only",
        "closure variable 'b': an object of type 'object' counts by its type only",
    )
    assert notes == identity.notes
    assert identity == identify_function(func), "and warns no second time"
    with pytest.warns(IdentityWarning):
        other = identify_function(make(threading.Lock(), [2, object()]))
    assert identity.digest != other.digest, "what lies beside it still counts"


def test_notes_of_inner_functions_are_those_of_the_outer_one(load: Load) -> None:
    """A function in a closure passes its notes on, and only the outermost function warns."""
    make = load(CLOSURE, "make")
    with pytest.warns(IdentityWarning) as caught:
        identity = identify_function(make(make(threading.Lock())))
    assert 1 == len(caught)
    assert (
        "the function 'make.<locals>.f': closure variable 'a': "
        "an object of type '_thread.lock' counts by its type only",
    ) == identity.notes


def test_a_default_without_identity_counts_by_type(load: Load) -> None:
    """A default without an identity is noted, too."""
    func = load("import threading\ndef f(x, *, lock=threading.Lock()):\n    return x\n")
    with pytest.warns(IdentityWarning, match="keyword defaults: an object of type '_thread.lock'"):
        identify_function(func)


def test_changed_defaults_count(load: Load) -> None:
    """Defaults count as they are, not as they are written."""
    func = load("def f(x, n=1):\n    return x\n")
    before = identify_function(func).digest
    func.__defaults__ = (2,)
    assert before != identify_function(func).digest


# -- wrappers ----


def plain(x: Any, y: Any = 1) -> Any:
    """Return the arguments."""
    return x, y


class Compiled:
    """A callable that keeps the Python function, as a compiler's does."""

    def __init__(self, func: Any) -> None:
        self.py_func = func

    def __call__(self, x: Any) -> Any:
        """Call the function."""
        return self.py_func(x)


def wrapped(func: Any) -> Any:
    """Return a function that passes everything on."""

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        return func(*args)

    return wrapper


class Runner:
    """A callable object with an identity of its own."""

    def __init__(self, speed: Any) -> None:
        self.speed = speed

    def __chunk_memo_identity__(self) -> Any:
        return self.speed

    def run(self, x: Any) -> Any:
        """Return the argument."""
        return x

    def __call__(self, x: Any) -> Any:
        """Return the argument."""
        return x


@pytest.mark.parametrize(
    "wrap",
    [functools.lru_cache, functools.cache, Compiled, staticmethod, lambda func: functools.cache(Compiled(func))],
)
def test_wrappers_are_seen_through(wrap: Any) -> None:
    """A wrapper of another package changes neither what is found underneath nor the identity."""
    assert plain is unwrap(wrap(plain))
    assert identify_function(plain).digest == identify_function(wrap(plain)).digest
    assert digest(plain) == digest(wrap(plain)) or wrap is staticmethod


def test_wrappers_of_the_project_count() -> None:
    """What a wrapper does that was written beside the function is part of what the function does."""
    assert plain is unwrap(wrapped(plain))
    assert identify_function(plain).digest != identify_function(wrapped(plain)).digest
    assert ("plain", "source") == (identify_function(wrapped(plain)).qualname, identify_function(plain).basis)
    names = [part.name for part in identify_function(wrapped(plain)).parts]
    assert {"plain", "wrapped.<locals>.wrapper"} <= {*names}


def test_a_wrapper_that_wraps_itself_ends() -> None:
    """A cycle of ``__wrapped__`` is no endless loop."""
    one, two = wrapped(plain), wrapped(plain)
    one.__wrapped__, two.__wrapped__ = two, one
    assert unwrap(one) is two


def test_arguments_of_a_partial_count() -> None:
    """A partial is its function and what is bound, as a value and as a function."""
    parts: list[Any] = [
        plain,
        functools.partial(plain, 1),
        functools.partial(plain, 2),
        functools.partial(plain, y=1),
        functools.partial(functools.partial(plain, 1), 2),
    ]
    assert [plain] * 5 == [unwrap(part) for part in parts]
    assert 5 == len({identify_function(part).digest for part in parts})
    assert 5 == len({digest(part) for part in parts})
    assert digest(functools.partial(plain, 1)) == digest(functools.partial(plain, np.int64(1)))


def test_the_object_of_a_bound_method_counts() -> None:
    """A bound method is its function and its object."""
    methods: list[Any] = [Runner.run, Runner(1).run, Runner(2).run]
    assert [Runner.run] * 3 == [unwrap(method) for method in methods]
    assert 3 == len({identify_function(method).digest for method in methods})
    assert identify_function(Runner(1).run).digest == identify_function(Runner(1).run).digest
    assert digest(Runner(1).run) != digest(Runner(2).run)
    with pytest.raises(IdentityError, match=r"'value.__self__' has no sound identity"):
        digest(types.MethodType(plain, object()))


def test_callable_objects_count_by_class_and_content() -> None:
    """An object that is called has the identity of its ``__call__`` and its own."""
    one, two = identify_function(Runner(1)), identify_function(Runner(2))
    assert ("Runner", "source") == (one.qualname, one.basis)
    assert one.digest != two.digest
    assert one == identify_function(Runner(1))
    with pytest.raises(IdentityError, match="'func' has no sound identity"):
        identify_function(type("Nameless", (), {"__call__": lambda self: 1})())


@pytest.mark.parametrize("wrong", [5, None, "f"])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    """Only callables have a function's identity."""
    with pytest.raises(IdentityError, match="expected a function, got"):
        identify_function(wrong)


# -- by name ----


def test_compiled_functions_count_by_name() -> None:
    """Builtins, ufuncs, methods of types and classes are known by their qualified names."""
    funcs: list[Any] = [len, max, np.sin, np.cos, np.sum, np.linalg.norm, str.upper, bytes.upper, int, float]
    funcs += [
        "a".upper,
        "b".upper,
        dict.fromkeys,
        collections.OrderedDict.fromkeys,
        collections.OrderedDict,
        json.loads,
    ]
    elsewhere = type("int", (), {"__module__": "elsewhere", "__qualname__": "int"})
    found = [identify_function(func) for func in (*funcs[:-1], elsewhere, funcs[-1])]
    assert len(found) == len({identity.digest for identity in found})
    assert {"name"} == {identity.basis for identity in found[:-2]}
    assert ["contents", "source"] == [identity.basis for identity in found[-2:]], "the project's, and Python's"
    assert ("len", "builtins") == (found[0].qualname, found[0].module)
    assert ("sin", "numpy") == (found[2].qualname, found[2].module)
    assert FunctionIdentity is type(found[0])


def test_the_version_of_a_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled function of another version of its package is another function."""
    before = [identify_function(func).digest for func in (np.sin, len)]
    monkeypatch.setattr(np, "__version__", "99.0")
    after = [identify_function(func).digest for func in (np.sin, len)]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_compiled_function_under_another_name_is_refused() -> None:
    """A ufunc made of a Python function says nothing by its name."""
    with pytest.raises(IdentityError, match="wrap it in a Python function"):
        params_to_cache_id({"f": np.frompyfunc(plain, 2, 1)})


def test_functions_as_values_count_by_code(load: Load) -> None:
    """A function in params counts like a decorated one: by code, not by place."""
    one, two = load(BASE), load(COSMETIC["comment"])
    other = load(SEMANTIC["constant"])
    assert digest({"f": [one]}) == digest({"f": [two]}) != digest({"f": [other]})
    assert digest(one) != digest(identify_function(one).digest)
    assert canonical_bytes(one) == canonical_bytes(two)
    assert digest(np.vectorize(plain)) != digest(np.vectorize(plain, otypes=[int]))


def test_threads_agree(load: Load) -> None:
    """Functions that are identified in many threads at once have one identity each."""
    funcs = [load(text, name_of(text)) for text in SEMANTIC.values()]
    expected = [identify_function(func).digest for func in funcs]
    results: list[list[str]] = [[] for _ in range(4)]

    def work(out: list[str]) -> None:
        out += [identify_function(func).digest for func in funcs]

    threads = [threading.Thread(target=work, args=(out,)) for out in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [expected] * 4 == results
