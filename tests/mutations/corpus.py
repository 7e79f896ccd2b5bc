"""The programs and their edits, as data: each edit replaces one text of one file, which it occurs in once.

A program is a package of a few files, in whose text ``PKG`` stands for the package's name, and whose entry
is a function of one number. A *semantic* edit can change what the entry returns or does; a *cosmetic* one
cannot. A *live* edit is code that runs between two calls in one process, in a module of the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["COSMETIC", "LIVE", "LIVE_COSMETIC", "PROGRAMS", "SEMANTIC", "Edit", "Live", "Program", "edited"]


@dataclass(frozen=True)
class Program:
    """A package of a few files."""

    files: dict[str, str]
    """name to text"""
    entry: str = "main:f"
    """module and qualified name of the function whose identity is taken"""


@dataclass(frozen=True)
class Edit:
    """One change of one file."""

    name: str
    """what is edited, for people"""
    program: str
    """the name of the program"""
    file: str
    """the file"""
    old: str
    """what is replaced, and occurs once in the file"""
    new: str
    """what replaces it"""
    renamed: tuple[tuple[str, str], ...] = ()
    """files that get another name, after the change"""
    entry: str = ""
    """the entry, if it moves"""


@dataclass(frozen=True)
class Live:
    """Code that runs between two calls."""

    name: str
    """what is changed, for people"""
    program: str
    """the name of the program"""
    module: str
    """the module in whose globals the code runs"""
    code: str
    """the code"""


def edited(edit: Edit) -> dict[str, str]:
    """Return the files of a program after an edit.

    Parameters
    ----------
    edit : Edit
        The edit.

    Returns
    -------
    dict of str to str
        Name to text.
    """
    files = dict(PROGRAMS[edit.program].files)
    assert 1 == files[edit.file].count(edit.old), f"{edit.name}: {edit.old!r}"
    files[edit.file] = files[edit.file].replace(edit.old, edit.new)
    for old, new in edit.renamed:
        files[new] = files.pop(old)
    return files


HELPERS = Program(
    {
        "main.py": '''\
"""Sweep."""

import functools
import math
from operator import add as combine

import numpy as np

from . import helpers
from .deep import floor_of as lowest
from .helpers import scale as stretch
from .tables import OPERATIONS, PAIR, by_name

RATE = 3
OFFSETS = [1, 2, 3]
LIMITS = {"low": -100.0, "high": 1e9}
NAMES = ("a", "b")
WEIGHTS = np.array([1.0, 2.0, 3.0])
KINDS = {1, 2}
PATTERN = "x{}"


def make(power, *, shift=0):
    """Make a power."""

    def inner(x):
        return x**power + shift

    return inner


cube = make(3, shift=1)
half = functools.partial(stretch, factor=0.5)


def f(x, bonus=1, *, rounds=2):
    """Return a number."""
    total = stretch(x) * RATE + bonus
    for offset in OFFSETS:
        total += helpers.shift(offset) + lowest(x)
    total = max(total, LIMITS["low"])
    total += OPERATIONS["double"](x) + PAIR[0](x) + by_name("square")(x)
    total += float(np.sum(WEIGHTS)) + len(KINDS) + math.floor(cube(x)) + half(x)
    total += helpers.cached(x) + helpers.timed(x) + helpers.doubled(x)
    total += combine(1, sum(helpers.numbers(rounds)))
    total += sum(helpers.nested(y) for y in range(rounds))
    total += len(PATTERN.format(x)) + len(NAMES)
    return total + helpers.local(x) + helpers.mutual(3) + helpers.sub.inside(x)
''',
        "helpers.py": """\
import contextlib
import functools

from . import sub
from .deep import base, twice

FACTOR = 2.0
STEP = 5


def scale(x, factor=FACTOR):
    # stretch
    return x * factor + base(x)


def shift(y):
    return y + STEP


def other(x, factor=1):
    return x


@functools.lru_cache(maxsize=None)
def cached(x):
    return x + 10


def watched(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 0

    return wrapper


def times(n):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * n

        return wrapper

    return decorate


@watched
def timed(x):
    return x + 20


@times(2)
@twice
def doubled(x):
    return x + 30


def numbers(n):
    for i in range(n):
        yield i * 2


def nested(y):
    def inner(z):
        return (lambda w: w + STEP)(z)

    return inner(y)


def local(x):
    from .late import lazily
    from . import later

    return lazily(x) + later.much(x)


def mutual(n):
    return 0 if n <= 0 else 1 + _back(n)


def _back(n):
    return mutual(n - 1)


@contextlib.contextmanager
def opened(x):
    yield x + 1


def unused(x):
    return x - 1
""",
        "deep.py": """\
DEPTH = 4
FLOOR = -1.5


def base(x):
    return bottom(x) + DEPTH


def bottom(x):
    return x - FLOOR


def floor_of(x):
    return x // 2


def twice(function):
    return lambda x: function(x) * 2


SPARE = 1
""",
        "tables.py": """\
OPERATIONS = {"double": lambda v: v * 2, "triple": lambda v: v * 3}
PAIR = (lambda v: v + 1, lambda v: v + 2)


def square(v):
    return v * v


def root(v):
    return v**0.5


REGISTRY = {"square": square, "root": root}


def by_name(name):
    return REGISTRY[name]
""",
        "late.py": "AMOUNT = 6\n\n\ndef lazily(x):\n    return x + AMOUNT\n",
        "later.py": "def much(x):\n    return x * 100\n",
        "sub/__init__.py": "from .part import inside\n",
        "sub/part.py": "from .. import deep\n\n\ndef inside(x):\n    return x + deep.SPARE\n",
        "__init__.py": "",
    }
)

CLASSES = Program(
    {
        "main.py": '''\
import enum
from dataclasses import dataclass, field

from .models import Base, Mixin, Settings, Tool
from . import models


class Mode(enum.Enum):
    """How."""

    FAST = 1
    SLOW = 2

    def factor(self):
        return self.value * 10


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


@dataclass(frozen=True)
class Config:
    rate: float = 1.5
    names: list = field(default_factory=lambda: [1, 2])
    size: int = 4

    def area(self):
        return self.size * self.rate


class Model(Mixin, Base):
    kind = "linear"
    table = {"a": 1, "b": 2}
    scale = 2

    def __init__(self, rate=3):
        self.rate = rate

    def run(self, x):
        return self.step(x) + self.bias() + self.double + self.make().rate + super().run(x)

    def bias(self):
        return 0.5

    def step(self, x):
        return x * self.scale + self.__hidden()

    def __hidden(self):
        return 7

    @property
    def double(self):
        return self.rate * 2

    @double.setter
    def double(self, value):
        self.rate = value / 2

    @staticmethod
    def plus(x):
        return x + 1

    @classmethod
    def make(cls):
        return cls(4)

    def __call__(self, x):
        return x - 1

    def __len__(self):
        return 5

    class Inner:
        depth = 1

        def go(self):
            return self.depth


CONFIG = Config(size=5)
MODEL = Model(2)
TOOL = Tool(3)
SETTINGS = Settings("fast", 2)


def f(x):
    model = Model()
    total = model.run(x) + Model.plus(x) + MODEL(x) + len(model) + Model.Inner().go()
    total += Mode.FAST.factor() + Level.HIGH + CONFIG.area() + len(Config().names)
    total += Model.table["a"] + len(Model.kind) + TOOL.use(x) + SETTINGS.amount
    total += models.Late.value + models.describe(model)
    return total
''',
        "models.py": """\
import abc
import functools
from typing import NamedTuple


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)


class Root:
    origin = 1

    def run(self, x):
        return self.origin + self.hook(x)

    def hook(self, x):
        return 0


class Base(Root):
    def run(self, x):
        return super().run(x) + 3

    def hook(self, x):
        return x + 8

    def __add__(self, other):
        return 11


class Mixin:
    extra = 12

    def bonus(self):
        return self.extra


class Alternative:
    extra = 12

    def bonus(self):
        return self.extra + 1


class Tool(metaclass=Meta):
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight

    def use(self, x):
        return x * self.weight


class Settings(NamedTuple):
    mode: str
    amount: int = 1
    more: float = 0.5

    def both(self):
        return self.amount + self.more


def registered(kind):
    kind.order = 1
    return kind


class Late(abc.ABC):
    value = 6

    @functools.cached_property
    def slow(self):
        return 13


@functools.singledispatch
def describe(value):
    return 14


@describe.register
def _(value: Root):
    return 15
""",
        "__init__.py": "",
    }
)

SYNTAX = Program(
    {
        "main.py": '''\
import math

LOG = []
COUNT = 0


def f(x, n=3, *rest, scale: float = 1.0, **more) -> float:
    """Say something."""
    total = 0.0
    for i in range(n):
        if i % 2 == 0 and x > 1:
            total += math.sqrt(abs(x) * i) * scale
        else:
            total -= x**2
    words = [f"{total:.3f}" for word in ("a", "b") if word != "c"]
    table = {key: value + 1 for key, value in {"k": 1}.items()}
    unique = {y % 3 for y in range(5)}
    lazy = sum(y * y for y in unique)

    def inner(y, z=2):
        return y + z

    try:
        total = inner(total, z=4)
    except (ValueError, TypeError) as error:
        raise RuntimeError("bad") from error
    finally:
        lazy += 1
    match n:
        case 3 if x > 0:
            total += 1
        case [first, *others]:
            total += first
        case {"k": value}:
            total += value
        case int() | None:
            total += 2
    if (m := n * 2) > 5:
        total += m
    while total > 1e6:
        total /= 10
        if total < 7:
            break
    key = lambda v, w=1: -v * w  # noqa: E731
    with open(__file__) as file:
        text = file.readline()
    assert x is not None, "no x"
    first, *others = sorted([3, 1, 2], key=key)
    label = "neg" if x < 0 else "pos"
    flags = not x or x in (1, 2)
    bits = (int(x) << 2) ^ 5 | 1
    part = [1, 2, 3, 4][1:3]
    text = b"ab".decode() + "q" * 3 + "%d" % 4 + str(-0.0) + str(1 + 2j)
    del table["k"]
    global COUNT
    COUNT += 1
    LOG.append(x)
    return total + lazy + len(words) + first + len(label) + flags + bits + sum(part) + len(text) + len(others)
''',
        "__init__.py": "",
    }
)

METHOD = Program(
    {
        "main.py": """\
from .parts import Parent, helper


class Solver(Parent):
    tolerance = 1e-6
    unrelated = 0

    def __init__(self, n=1):
        self.n = n

    def solve(self, x):
        return self.refine(x) + self.tolerance + self.order() + helper(x) + self._twice(x)

    def refine(self, x):
        return x / 2 + self.n

    @staticmethod
    def _twice(x):
        return x * 2

    def aside(self, x):
        return x


SOLVE = Solver(2).solve


def f(x):
    return SOLVE(x)
""",
        "parts.py": """\
class Parent:
    level = 2

    def order(self):
        return self.level


def helper(x):
    return x + 1
""",
        "__init__.py": "",
    },
    "main:Solver.solve",
)

REGISTRY = Program(
    {
        "main.py": """\
import importlib
from importlib import import_module

from .plugins import Box, Config, Hooks, Registry, Tally, registry


@Registry.add
def square(x):
    return x * x


@registry.put
def cube(x):
    return x**3


@Hooks.join
def hook(x):
    return x + 1


def chosen(x):
    return x + 2


def other(x):
    return x + 3


FOUND = 4
Config.use(5)
BOX = Box()
BOX.keep(chosen)


def f(x):
    total = Registry.items["square"](x) + registry.kept["cube"](x) + Hooks.all[0](x) + Config.rate
    total += importlib.import_module(".late", __package__).first(x)
    module = import_module(".late", package=__package__)
    total += module.second(x) + __import__("deep.low", globals(), None, ["low"], 1).low(x)
    total += globals()["other"](x) + globals().get("FOUND") + Tally.count(x) + BOX.held[0](x)
    return total
""",
        "plugins.py": """\
class Registry:
    items = {}
    kept = {}

    @classmethod
    def add(cls, function):
        Registry.items[function.__name__] = function
        return function

    def put(self, function):
        Registry.kept.update({function.__name__: function})
        return function


registry = Registry()


class Hooks:
    all = []

    @staticmethod
    def join(function):
        Hooks.all.append(function)
        return function


class Config:
    rate = 1

    @staticmethod
    def use(rate):
        Config.rate = rate


class Tally:
    seen = {}

    @classmethod
    def count(cls, x):
        Tally.seen[x] = x
        return cls.__total()

    @classmethod
    def __total(cls):
        Tally.last = 1
        return 1

    last = 0


class Box:
    held = []

    def keep(self, function):
        Box.held.append(function)
""",
        "late.py": """\
def first(x):
    return x * 7


def second(x):
    return x * 8


def third(x):
    return x * 9
""",
        "deep/__init__.py": "",
        "deep/low.py": "def low(x):\n    return x - 1\n\n\ndef lower(x):\n    return x - 2\n",
        "__init__.py": "",
    }
)

PROGRAMS = {"helpers": HELPERS, "classes": CLASSES, "syntax": SYNTAX, "method": METHOD, "registry": REGISTRY}


def _edits(program: str, file: str, edits: list[tuple[str, str, str]]) -> Iterator[Edit]:
    for name, old, new in edits:
        yield Edit(f"{program}: {name}", program, file, old, new)


SEMANTIC: tuple[Edit, ...] = (
    *_edits(
        "helpers",
        "main.py",
        [
            ("constant", "RATE = 3", "RATE = 4"),
            ("constant of another type", "RATE = 3", "RATE = 3.0"),
            ("bool constant", "RATE = 3", "RATE = True"),
            ("list constant", "[1, 2, 3]", "[1, 2, 4]"),
            ("list constant longer", "[1, 2, 3]", "[1, 2, 3, 3]"),
            ("list for tuple", "[1, 2, 3]", "(1, 2, 3)"),
            ("list order", "[1, 2, 3]", "[1, 3, 2]"),
            ("dict value", "-100.0", "-101.0"),
            ("dict key", '{"low"', '{"Low"'),
            ("tuple of text", '("a", "b")', '("a", "c")'),
            ("array element", "[1.0, 2.0, 3.0]", "[1.0, 2.5, 3.0]"),
            ("array dtype", "[1.0, 2.0, 3.0]", "[1, 2, 3]"),
            ("array shape", "[1.0, 2.0, 3.0]", "[[1.0, 2.0, 3.0]]"),
            ("set element", "{1, 2}", "{1, 3}"),
            ("text constant", '"x{}"', '"y{}"'),
            ("default", "bonus=1", "bonus=2"),
            ("keyword default", "rounds=2", "rounds=3"),
            ("closure value", "make(3,", "make(4,"),
            ("closure keyword", "shift=1)", "shift=2)"),
            ("code of a closure", "x**power + shift", "x**power - shift"),
            ("argument of a partial", "factor=0.5", "factor=0.25"),
            ("function of a partial", "partial(stretch,", "partial(helpers.other,"),
            ("import of another name", "import scale as stretch", "import other as stretch"),
            ("import of another module's name", "from .deep import floor_of as", "from .deep import base as"),
            ("import from the standard library", "import add as combine", "import sub as combine"),
            ("import of another module", "import math\n", "import cmath as math\n"),
            ("import of a module under a name", "from . import helpers", "from . import deep as helpers"),
            ("attribute of a module", "helpers.shift(", "helpers.nested("),
            ("name of a global", "* RATE", "* bonus"),
            ("operator", "total += helpers.shift", "total -= helpers.shift"),
            ("function of NumPy", "np.sum", "np.prod"),
            ("key of a table", 'OPERATIONS["double"]', 'OPERATIONS["triple"]'),
            ("index of a pair", "PAIR[0]", "PAIR[1]"),
            ("argument", 'by_name("square")', 'by_name("root")'),
            ("builtin", "max(total", "min(total"),
            ("a builtin is hidden", "RATE = 3", "RATE = 3\nmax = min"),
            (
                "a builtin is replaced by an import",
                "import math\n",
                "import math\nfrom builtins import min as max\n",
            ),
            ("name of the function", "def f(x, bonus", "def g(x, bonus"),
            ("order of arguments", "f(x, bonus=1, *, rounds=2)", "f(x, rounds=2, *, bonus=1)"),
            ("a wrapper around the function", "def f(x, bonus", "@helpers.watched\ndef f(x, bonus"),
            ("another function of the name", "RATE = 3", "RATE = 3\n\n\ndef stretch(x, factor=1):\n    return x"),
            ("a constant becomes a function", "RATE = 3", "RATE = len(str(stretch))"),
            ("a method of a text", "PATTERN.format", "PATTERN.join"),
            ("a generator's source", "for y in range(rounds)", "for y in range(rounds + 1)"),
        ],
    ),
    *_edits(
        "helpers",
        "helpers.py",
        [
            ("constant of a helper", "STEP = 5", "STEP = 6"),
            ("default of a helper by a constant", "FACTOR = 2.0", "FACTOR = 3.0"),
            ("default of a helper", "factor=FACTOR", "factor=2.5"),
            ("code of a helper", "x * factor + base", "x / factor + base"),
            ("helper of a helper", "+ base(x)", "+ twice(x)"),
            ("attribute helper", "return y + STEP", "return y - STEP"),
            ("code under lru_cache", "return x + 10", "return x + 11"),
            ("code of a decorated helper", "return x + 20", "return x + 21"),
            ("code of a decorator", "function(*args) + 0", "function(*args) + 1"),
            ("decorator removed", "@watched\n", ""),
            ("decorator added", "def numbers(n)", "@watched\ndef numbers(n)"),
            ("argument of a decorator", "@times(2)", "@times(3)"),
            ("one of two decorators", "@twice\n", ""),
            ("order of decorators", "@times(2)\n@twice\n", "@twice\n@times(2)\n"),
            ("code of a decorator with arguments", "function(x) * n", "function(x) + n"),
            ("code of a doubly decorated helper", "x + 30", "x + 31"),
            ("generator", "yield i * 2", "yield i * 3"),
            ("generator to list", "yield i * 2", "return [i * 2]"),
            ("inner function", "(lambda w: w + STEP)", "(lambda w: w - STEP)"),
            ("argument of an inner function", "return inner(y)", "return inner(y + 1)"),
            ("import in a function, another name", "import lazily", "import AMOUNT as lazily"),
            ("import in a function, another module", "from . import later", "from . import tables as later"),
            ("recursion, the far end", "mutual(n - 1)", "mutual(n - 2)"),
            ("recursion, the near end", "1 + _back(n)", "2 + _back(n)"),
            ("another module under the name", "from . import sub", "from . import deep as sub"),
            ("another name from two modules away", "import base, twice", "import bottom as base, twice"),
            ("return of nothing", "return y + STEP", "y + STEP"),
            ("helper rebound at the end of its module", "def unused(x)", "scale = other\n\n\ndef unused(x)"),
            (
                "helper wrapped at the end of its module",
                "def unused(x)",
                "shift = watched(shift)\n\n\ndef unused(x)",
            ),
            ("helper bound to a lambda", "def unused(x)", "shift = lambda y: y\n\n\ndef unused(x)"),
            (
                "conditional definition",
                "def unused(x)",
                "if STEP:\n    def shift(y):\n        return y\n\n\ndef unused(x)",
            ),
        ],
    ),
    *_edits(
        "helpers",
        "deep.py",
        [
            ("constant two modules away", "DEPTH = 4", "DEPTH = 5"),
            ("constant three steps away", "FLOOR = -1.5", "FLOOR = -1.25"),
            ("sign of zero", "FLOOR = -1.5", "FLOOR = -0.0"),
            ("function two modules away", "+ DEPTH", "- DEPTH"),
            ("function three steps away", "x - FLOOR", "x + FLOOR"),
            ("function under another name", "x // 2", "x // 3"),
            ("decorator two modules away", "function(x) * 2", "function(x) * 3"),
            ("decorator without wraps", "return lambda x: function(x) * 2", "return function"),
            ("constant read through a package", "SPARE = 1", "SPARE = 2"),
            ("default given to a helper", "def bottom(x)", "def bottom(x, y=1)"),
        ],
    ),
    *_edits(
        "helpers",
        "tables.py",
        [
            ("lambda in a dict", "v * 2", "v * 20"),
            ("other lambda in a dict on the line", "v * 3", "v * 30"),
            ("key of a dict of lambdas", '"double": lambda', '"doubled": lambda'),
            ("dict entry added", '"triple"', '"other": abs, "triple"'),
            ("first lambda of two on a line", "v + 1", "v + 10"),
            ("second lambda of two on a line", "v + 2", "v + 20"),
            ("lambdas swapped", "lambda v: v + 1, lambda v: v + 2", "lambda v: v + 2, lambda v: v + 1"),
            ("function in a registry", "return v * v", "return v * v * v"),
            ("other function in a registry", "v**0.5", "v**0.25"),
            ("registry entries swapped", '"square": square, "root": root', '"square": root, "root": square'),
            ("lookup", "REGISTRY[name]", "REGISTRY.get(name)"),
            ("builtin in a registry", '"root": root', '"root": abs'),
        ],
    ),
    *_edits(
        "helpers", "late.py", [("imported late", "x + AMOUNT", "x - AMOUNT"), ("constant late", "= 6", "= 7")]
    ),
    *_edits("helpers", "later.py", [("imported late as a module", "x * 100", "x * 101")]),
    *_edits("helpers", "sub/part.py", [("function of a subpackage", "x + deep", "x - deep")]),
    *_edits(
        "helpers",
        "sub/__init__.py",
        [("name exported by a package", "from .part import inside", "from ..deep import base as inside")],
    ),
    *_edits(
        "classes",
        "main.py",
        [
            ("enum member", "FAST = 1", "FAST = 3"),
            ("enum member renamed", "SLOW = 2", "SLOWER = 2"),
            ("enum member added", "SLOW = 2", "SLOW = 2\n    MEDIUM = 3"),
            ("enum method", "self.value * 10", "self.value * 11"),
            ("enum members swapped", "FAST = 1\n    SLOW = 2", "FAST = 2\n    SLOW = 1"),
            ("int enum member", "HIGH = 9", "HIGH = 8"),
            ("kind of enum", "enum.IntEnum", "enum.IntFlag"),
            ("dataclass default", "rate: float = 1.5", "rate: float = 2.5"),
            ("dataclass default factory", "lambda: [1, 2]", "lambda: [1, 2, 3]"),
            ("dataclass factory kind", "default_factory=lambda: [1, 2]", "default_factory=list"),
            ("dataclass method", "self.size * self.rate", "self.size + self.rate"),
            ("dataclass option", "frozen=True", "frozen=False"),
            ("dataclass field option", "lambda: [1, 2])", "lambda: [1, 2], repr=False)"),
            ("dataclass field added", "size: int = 4", "size: int = 4\n    more: int = 0"),
            ("dataclass field renamed", "    names: list", "    labels: list"),
            ("dataclass field uncompared", "float = 1.5", "float = field(default=1.5, compare=False)"),
            ("dataclass other option", "frozen=True", "frozen=True, eq=False"),
            ("dataclass instance", "Config(size=5)", "Config(size=6)"),
            ("class attribute", 'kind = "linear"', 'kind = "cubic"'),
            ("class attribute, a dict", '{"a": 1, "b": 2}', '{"a": 2, "b": 2}'),
            ("class attribute read by self", "scale = 2", "scale = 3"),
            ("bases swapped", "Model(Mixin, Base)", "Model(Base, Mixin)"),
            ("base removed", "Model(Mixin, Base)", "Model(Base)"),
            ("default of init", "rate=3)", "rate=4)"),
            ("code of init", "self.rate = rate", "self.rate = rate + 1"),
            ("method", "return 0.5", "return 0.6"),
            ("method calling others", "self.step(x) + self.bias()", "self.step(x) - self.bias()"),
            ("private method", "return 7", "return 8"),
            ("property", "return self.rate * 2", "return self.rate * 3"),
            ("setter", "value / 2", "value / 3"),
            ("setter removed", "    @double.setter\n    def double", "    def halve"),
            ("a second property", "    def bias(self):", "    @property\n    def bias(self):"),
            ("staticmethod", "return x + 1\n", "return x + 2\n"),
            ("staticmethod to function", "    @staticmethod\n", ""),
            ("staticmethod to classmethod", "@staticmethod\n", "@classmethod\n"),
            ("classmethod", "return cls(4)", "return cls(5)"),
            ("call", "return x - 1", "return x - 2"),
            ("dunder method", "return 5", "return 6"),
            ("dunder method renamed", "def __len__", "def __bool__"),
            ("nested class attribute", "depth = 1", "depth = 2"),
            ("nested class method", "return self.depth", "return -self.depth"),
            ("instance of a class", "Model(2)", "Model(3)"),
            ("instance with slots", "Tool(3)", "Tool(4)"),
            ("instance of a named tuple", 'Settings("fast", 2)', 'Settings("fast", 3)'),
            (
                "method added",
                "    def bias(self):",
                "    def __neg__(self):\n        return 1\n\n    def bias(self):",
            ),
            ("super removed", " + super().run(x)", ""),
            ("attribute added", '    kind = "linear"', '    kind = "linear"\n    extra = 1'),
            ("class decorated", "class Model(", "@models.registered\nclass Model("),
        ],
    ),
    *_edits(
        "classes",
        "models.py",
        [
            ("metaclass", "super().__call__(*args)", "None or super().__call__(*args)"),
            ("metaclass removed", "Tool(metaclass=Meta)", "Tool"),
            ("base class attribute", "origin = 1", "origin = 2"),
            ("base class method", "self.origin + self.hook(x)", "self.origin - self.hook(x)"),
            ("base class method, overridden", "return 0\n", "return 1\n"),
            ("overriding method", "return x + 8", "return x + 9"),
            ("overriding method removed", "    def hook(self, x):\n        return x + 8\n", ""),
            ("super call", "super().run(x) + 3", "super().run(x) + 4"),
            ("operator method", "return 11", "return 12"),
            (
                "mixin attribute",
                "    extra = 12\n\n    def bonus(self):\n        return self.extra\n",
                "    extra = 13\n",
            ),
            ("mixin by another class", "class Mixin:", "class Mixin(Root):"),
            ("slots", '__slots__ = ("weight",)', '__slots__ = ("weight", "height")'),
            ("slots removed", '    __slots__ = ("weight",)\n', ""),
            ("method of a slotted class", "x * self.weight", "x / self.weight"),
            ("named tuple default", "amount: int = 1", "amount: int = 2"),
            ("named tuple other default", "more: float = 0.5", "more: float = 0.6"),
            ("named tuple field", "    mode: str\n", "    kind: str\n"),
            ("named tuple method", "self.amount + self.more", "self.amount - self.more"),
            ("class read through a module", "value = 6", "value = 7"),
            ("cached property", "return 13", "return 14"),
            ("cached property to property", "@functools.cached_property", "@property"),
            ("single dispatch", "return 14", "return 16"),
            ("single dispatch implementation", "return 15", "return 17"),
            ("single dispatch type", "_(value: Root)", "_(value: Base)"),
            ("single dispatch unregistered", "@describe.register\n", ""),
            ("abstract base", "Late(abc.ABC)", "Late(Root)"),
        ],
    ),
    *_edits(
        "syntax",
        "main.py",
        [
            ("constant", "total = 0.0", "total = 0.5"),
            ("int for float", "total = 0.0", "total = 0"),
            ("minus zero", "str(-0.0)", "str(0.0)"),
            ("complex", "1 + 2j", "1 + 3j"),
            ("bool for int", "x > 1:", "x > True:"),
            ("bytes", 'b"ab"', 'b"ac"'),
            ("operator", "total -= x**2", "total += x**2"),
            ("operands", "return y + z", "return z + y"),
            ("power", "x**2", "x**3"),
            ("comparison", "x > 1:", "x >= 1:"),
            ("and", "== 0 and x", "== 0 or x"),
            ("not", "flags = not x", "flags = x"),
            ("is not", "x is not None", "x is None"),
            ("in", "x in (1, 2)", "x not in (1, 2)"),
            ("function", "math.sqrt", "math.exp"),
            ("keyword", "inner(total, z=4)", "inner(total, y=4)"),
            ("positional", "inner(total, z=4)", "inner(total, 4)"),
            ("statement removed", '    del table["k"]\n', ""),
            ("statement added", "    del table", "    print(x)\n    del table"),
            ("format", ":.3f", ":.4f"),
            ("conversion", "{total:.3f}", "{total!r}"),
            ("text of an f-string", 'f"{total', 'f"t{total'),
            ("debug f-string", "{total:.3f}", "{total=:.3f}"),
            ("percent format", '"%d" % 4', '"%d" % 5'),
            ("comprehension element", 'f"{total:.3f}" for', "word for"),
            ("comprehension condition", 'if word != "c"', 'if word == "c"'),
            ("comprehension source", '("a", "b")', '("a", "d")'),
            ("comprehension kind", "{y % 3 for y in range(5)}", "[y % 3 for y in range(5)]"),
            ("dict comprehension", "value + 1 for key", "value + 2 for key"),
            ("set comprehension", "y % 3", "y % 4"),
            ("generator expression", "y * y", "y + y"),
            ("inner default", "z=2", "z=3"),
            ("inner decorator", "    def inner", "    @abs\n    def inner"),
            ("exceptions", "(ValueError, TypeError)", "(ValueError,)"),
            ("raised exception", "RuntimeError", "KeyError"),
            ("message", '"bad"', '"worse"'),
            ("cause", "from error", "from None"),
            ("finally", "lazy += 1", "lazy += 2"),
            ("case value", "case 3 if", "case 4 if"),
            ("case guard", "if x > 0:", "if x > 2:"),
            ("case star", "[first, *others]:", "[first, others]:"),
            ("case key", 'case {"k": value}', 'case {"l": value}'),
            ("case rest", '{"k": value}:', '{"k": value, **kept}:'),
            ("case class", "case int() | None", "case str() | None"),
            ("case alternatives", "int() | None", "int()"),
            ("case body", "total += 2", "total += 3"),
            ("walrus", "(m := n * 2)", "(m := n * 3)"),
            (
                "walrus target",
                "if (m := n * 2) > 5:\n        total += m",
                "if (k := n * 2) > 5:\n        total += k",
            ),
            ("while", "while total > 1e6", "while total > 1e7"),
            ("break", "            break", "            continue"),
            ("lambda", "-v * w", "v * w"),
            ("lambda default", "w=1", "w=2"),
            ("with", "with open(__file__) as file", "with open(__file__, 'rb') as file"),
            ("assertion", "x is not None, ", "x is not False, "),
            ("star target", "first, *others = sorted", "first, _, *others = sorted"),
            ("conditional expression", '"neg" if x < 0 else "pos"', '"pos" if x < 0 else "neg"'),
            ("shift", "<< 2", "<< 3"),
            ("xor", "^ 5", "& 5"),
            ("slice", "[1:3]", "[1:4]"),
            ("slice step", "[1:3]", "[1:3:1]"),
            ("return", "return total + lazy", "return total - lazy"),
            ("default", "n=3", "n=4"),
            ("keyword default", "scale: float = 1.0", "scale: float = 2.0"),
            ("kind of argument", "*rest, ", "*, "),
            ("positional only", "n=3, *rest", "n=3, /, *rest"),
            ("loop else", "    words = [", "    else:\n        total = 1\n    words = ["),
            ("unreachable code", "    assert x", "    if False:\n        return 1\n    assert x"),
            ("global removed", "    global COUNT\n    COUNT += 1\n", ""),
            ("string repeated", '"q" * 3', '"q" * 4'),
        ],
    ),
    *_edits(
        "method",
        "main.py",
        [
            ("own method", "x / 2 + self.n", "x / 3 + self.n"),
            ("own attribute", "tolerance = 1e-6", "tolerance = 1e-7"),
            ("own staticmethod", "x * 2", "x * 3"),
            ("base removed", "Solver(Parent)", "Solver"),
            ("body", "self.refine(x) +", "self.refine(x) -"),
        ],
    ),
    *_edits(
        "method",
        "parts.py",
        [
            ("method of the base", "return self.level", "return -self.level"),
            ("attribute of the base", "level = 2", "level = 3"),
            ("function", "x + 1", "x + 2"),
        ],
    ),
    *_edits(
        "registry",
        "main.py",
        [
            ("registered by a class method", "return x * x", "return x + x"),
            ("registered by a method", "return x**3", "return x**4"),
            ("registered by a static method", "return x + 1\n", "return x + 10\n"),
            ("registered twice", "@Registry.add\ndef square", "@Hooks.join\n@Registry.add\ndef square"),
            ("set by a method that is not called", "Config.use(5)", "Config.use(6)"),
            ("kept by an instance", "return x + 2", "return x + 20"),
            ("function by its name in globals()", "return x + 3", "return x + 30"),
            ("constant by its name in globals()", "FOUND = 4", "FOUND = 5"),
        ],
    ),
    *_edits(
        "registry",
        "late.py",
        [
            ("function of a module by its name", "return x * 7", "return x * 70"),
            ("function of a module by its name, under a name", "return x * 8", "return x * 80"),
        ],
    ),
    *_edits("registry", "deep/low.py", [("function of a module by __import__", "return x - 1", "return x - 3")]),
)
"""Edits that must give the entry a new identity."""

COSMETIC: tuple[Edit, ...] = (
    *_edits(
        "helpers",
        "main.py",
        [
            ("comment", "RATE = 3", "RATE = 3  # per second"),
            ("comment line", "    for offset", "    # all of them\n    for offset"),
            ("docstring", "Return a number.", "Return some number."),
            ("docstring removed", '    """Return a number."""\n', ""),
            ("docstring of the module", '"""Sweep."""', '"""Sweep it."""'),
            ("default of a maker that is not called again", "shift=0", "shift=5"),
            ("docstring of a maker", "Make a power.", "Make another."),
            ("blank lines", "RATE = 3", "\n\nRATE = 3"),
            ("annotation of an argument", "f(x, bonus=1", "f(x: float, bonus=1"),
            ("annotation of a keyword", "rounds=2", "rounds: int = 2"),
            ("annotation of a local", "    total = stretch", "    total: float = stretch"),
            ("bare annotation", "    total = stretch", "    total: float\n    total = stretch"),
            ("annotation of a constant", "RATE = 3", "RATE: int = 3"),
            ("constant written otherwise", "RATE = 3", "RATE = 1 + 2"),
            ("hexadecimal", "RATE = 3", "RATE = 0x3"),
            ("constant moved", "RATE = 3\n", "RATES = 1\nRATE = 3\n"),
            ("unused constant", "RATE = 3", "RATE = 3\nSPEED = 4"),
            ("unused function", "cube = make", "def unused():\n    return 1\n\n\ncube = make"),
            ("unused import", "import math\n", "import math\nimport json\n"),
            ("import order", "import functools\nimport math\n", "import math\nimport functools\n"),
            ("import of a name with another", "import floor_of as lowest", "import floor_of as lowest, base"),
            ("import by the full name", "from .deep import floor_of", "from PKG.deep import floor_of"),
            ("parentheses", "stretch(x) * RATE + bonus", "(stretch(x) * RATE) + bonus"),
            ("line continuation", "* RATE + bonus", "* RATE \\\n        + bonus"),
            ("line break", 'max(total, LIMITS["low"])', 'max(\n        total,\n        LIMITS["low"],\n    )'),
            ("quotes", 'LIMITS["low"]', "LIMITS['low']"),
            ("quotes of a constant", '"x{}"', "'x{}'"),
            ("dict order", '{"low": -100.0, "high": 1e9}', '{"high": 1e9, "low": -100.0}'),
            ("set order", "{1, 2}", "{2, 1}"),
            ("default by an expression", "bonus=1", "bonus=2 - 1"),
            ("array written otherwise", "np.array([1.0, 2.0, 3.0])", "np.arange(1.0, 4.0)"),
            ("future import", "import functools\n", "from __future__ import annotations\nimport functools\n"),
            ("seen through", "def f(x, bonus", "@functools.lru_cache\ndef f(x, bonus"),
            ("type checking import", "RATE = 3", "if False:\n    import nowhere\nRATE = 3"),
            ("main block", "cube = make", 'if __name__ == "__main__":\n    print(1)\n\ncube = make'),
            ("a type alias", "RATE = 3", "Number = float\nRATE = 3"),
            ("__all__", "RATE = 3", '__all__ = ["f"]\nRATE = 3'),
        ],
    ),
    *_edits(
        "helpers",
        "helpers.py",
        [
            ("comment in a helper", "# stretch", "# stretch it"),
            ("docstring in a helper", "    # stretch", '    """Stretch."""\n    # stretch'),
            ("annotation in a helper", "def shift(y):", "def shift(y: float) -> float:"),
            ("unused helper", "return x - 1", "return x - 2"),
            ("unused helper with the default", "def other(x, factor=1)", "def other(x, factor=2)"),
            ("unused context manager", "yield x + 1", "yield x + 2"),
            ("parentheses in a helper", "for i in range(n)", "for i in range((n))"),
            ("helper moved", "STEP = 5\n", "def first():\n    return 1\n\n\nSTEP = 5\n"),
            ("default written otherwise", "factor=FACTOR", "factor=2.0"),
            ("annotation of an inner function", "def inner(z)", "def inner(z: int)"),
            (
                "blank line in a decorator",
                "    return wrapper\n\n\ndef times",
                "\n    return wrapper\n\n\ndef times",
            ),
            ("cache size", "lru_cache(maxsize=None)", "lru_cache(maxsize=128)"),
        ],
    ),
    *_edits(
        "helpers",
        "deep.py",
        [
            ("comment two modules away", "DEPTH = 4", "DEPTH = 4  # deep"),
            ("formatting two modules away", "x // 2", "x//2"),
            ("type comment", "return x - FLOOR", "return x - FLOOR  # type: ignore"),
        ],
    ),
    *_edits(
        "helpers",
        "tables.py",
        [
            ("lambdas on lines of their own", 'v * 2, "triple"', 'v * 2,\n    "triple"'),
            ("parenthesised lambda", "lambda v: v + 1,", "(lambda v: (v + 1)),"),
            ("dict order of functions", '"square": square, "root": root', '"root": root, "square": square'),
        ],
    ),
    *_edits(
        "classes",
        "main.py",
        [
            ("docstring of a class", "How.", "In which way."),
            ("comment in a class", "    scale = 2", "    scale = 2  # twice"),
            ("annotation of a method", "def bias(self):", "def bias(self) -> float:"),
            (
                "attribute order",
                '    kind = "linear"\n    table = {"a": 1, "b": 2}',
                '    table = {"a": 1, "b": 2}\n    kind = "linear"',
            ),
            ("docstring of a method", "        return 0.5", '        """Bias."""\n        return 0.5'),
            ("dataclass option by its default", "frozen=True", "frozen=True, order=False"),
            ("field by its default", "size: int = 4", "size: int = field(default=4)"),
            ("blank lines in a class", "    scale = 2\n", "\n    scale = 2\n\n"),
            ("import order", "import Base, Mixin, Settings, Tool", "import Tool, Settings, Mixin, Base"),
        ],
    ),
    *_edits(
        "classes",
        "models.py",
        [
            ("unused class", "class Alternative:\n    extra = 12", "class Alternative:\n    extra = 13"),
            ("docstring of a base", "class Root:\n", 'class Root:\n    """The root."""\n\n'),
            ("class moved", "class Mixin:", "LINE = 1\n\n\nclass Mixin:"),
            (
                "annotation of a base's method",
                "def hook(self, x):\n        return 0",
                "def hook(self, x: int):\n        return 0",
            ),
        ],
    ),
    *_edits(
        "syntax",
        "main.py",
        [
            ("u prefix", '"c"', 'u"c"'),
            ("implicit join", '"bad"', '"b" "ad"'),
            ("semicolon", "total = 0.0\n", "total = 0.0;\n"),
            ("state begins otherwise", "COUNT = 0", "COUNT = 5"),
            ("log begins otherwise", "LOG = []", "LOG = [1]"),
            ("comment", "# noqa: E731", "# why not"),
        ],
    ),
    *_edits(
        "method",
        "main.py",
        [
            ("unread attribute", "unrelated = 0", "unrelated = 1"),
            ("uncalled method", "        return x\n", "        return -x\n"),
        ],
    ),
    *_edits(
        "registry",
        "plugins.py",
        [
            ("state of a class begins otherwise", "seen = {}", "seen = {1: 1}"),
            ("state of a class begins otherwise, deeper", "last = 0", "last = 5"),
        ],
    ),
    *_edits(
        "registry", "late.py", [("unread function of a module by its name", "return x * 9", "return x * 90")]
    ),
    *_edits("registry", "deep/low.py", [("unread function by __import__", "return x - 2", "return x - 4")]),
    Edit(
        "helpers: module renamed",
        "helpers",
        "main.py",
        "from .tables import",
        "from .lists import",
        renamed=(("tables.py", "lists.py"),),
    ),
    Edit(
        "helpers: module renamed under its old name",
        "helpers",
        "main.py",
        "from . import helpers\nfrom .deep import floor_of as lowest\nfrom .helpers",
        "from . import tools as helpers\nfrom .deep import floor_of as lowest\nfrom .tools",
        renamed=(("helpers.py", "tools.py"),),
    ),
    Edit("helpers: entry renamed", "helpers", "deep.py", "x // 2", "x // 2", (("main.py", "run.py"),), "run:f"),
    Edit("classes: entry renamed", "classes", "models.py", "x + 8", "x + 8", (("main.py", "run.py"),), "run:f"),
    Edit("syntax: entry renamed", "syntax", "main.py", "n=3", "n=3", (("main.py", "run.py"),), "run:f"),
)
"""Edits that must keep the entry's identity."""


def _live(program: str, module: str, edits: list[tuple[str, str]]) -> Iterator[Live]:
    for name, code in edits:
        yield Live(f"{program}: {name}", program, module, code)


LIVE: tuple[Live, ...] = (
    *_live(
        "helpers",
        "main",
        [
            ("global rebound", "RATE = 4"),
            ("global rebound to an equal of another type", "RATE = 3.0"),
            ("global rebound to True", "RATE = True"),
            ("global deleted", "del RATE"),
            ("builtin hidden", "max = min"),
            ("helper rebound", "stretch = helpers.other"),
            ("list changed", "OFFSETS.append(4)"),
            ("element of a list replaced by an equal one", "OFFSETS[0] = 1.0"),
            ("dict changed", "LIMITS['low'] = 3.0"),
            ("key of a dict replaced", "LIMITS['lower'] = LIMITS.pop('high')"),
            ("set changed", "KINDS.add(7)"),
            ("array changed", "WEIGHTS[1] = 9.0"),
            ("array reshaped", "WEIGHTS.shape = (3, 1)"),
            ("closure cell rebound", "cube.__closure__[0].cell_contents = 7"),
            ("default rebound", "f.__defaults__ = (5,)"),
            ("keyword default rebound", "f.__kwdefaults__ = {'rounds': 5}"),
            ("keyword default changed", "f.__kwdefaults__['rounds'] = 5"),
            ("code replaced", "f.__code__ = (lambda x, bonus=1, *, rounds=2: x).__code__"),
            ("partial rebound", "half = functools.partial(stretch, factor=9)"),
            (
                "module rebound",
                (
                    "import types\n"
                    "helpers = types.SimpleNamespace(**{k: v for k, v in vars(helpers).items() if k[0] != '_'})"
                ),
            ),
        ],
    ),
    *_live(
        "helpers",
        "helpers",
        [
            ("constant of a helper rebound", "STEP = 50"),
            ("helper of a helper rebound", "base = lambda x: x"),
            ("default of a helper rebound", "scale.__defaults__ = (7.0,)"),
            ("code of a helper replaced", "shift.__code__ = (lambda y: -y).__code__"),
            ("cell of a decorator rebound", "timed.__closure__[0].cell_contents = other"),
            ("constant two modules away rebound", "import sys\nsys.modules[base.__module__].DEPTH = 44"),
        ],
    ),
    *_live(
        "helpers",
        "tables",
        [
            ("lambda in a dict replaced", "OPERATIONS['double'] = abs"),
            ("function in a registry replaced", "REGISTRY['square'] = root"),
            ("code of a lambda replaced", "PAIR[0].__code__ = (lambda v: v - 1).__code__"),
        ],
    ),
    *_live(
        "classes",
        "main",
        [
            ("method rebound", "Model.bias = lambda self: 9"),
            ("method added", "Model.__neg__ = lambda self: 9"),
            ("method of the base added", "Base.bonus2 = lambda self: 9"),
            ("class attribute rebound", "Model.scale = 9"),
            ("class attribute changed", "Model.table['a'] = 9"),
            ("code of a method replaced", "Model.bias.__code__ = (lambda self: 9).__code__"),
            ("default of a method rebound", "Model.__init__.__defaults__ = (9,)"),
            ("bases rebound", "Model.__bases__ = (Base,)"),
            ("instance changed", "MODEL.rate = 9"),
            ("slot changed", "TOOL.weight = 9"),
            ("class rebound", "Config = Model"),
            ("static method rebound", "Model.plus = staticmethod(lambda x: x)"),
        ],
    ),
    *_live(
        "registry",
        "main",
        [
            ("function registered anew", "Registry.items['square'] = abs"),
            ("function registered by a method", "@registry.put\ndef cube(x):\n    return x"),
            ("attribute set by a method", "Config.use(7)"),
            ("function by its name in globals()", "other = abs"),
        ],
    ),
)
"""Changes between two calls in one process that must give the entry a new identity."""

LIVE_COSMETIC: tuple[Live, ...] = (
    *_live(
        "helpers",
        "main",
        [
            ("unread global", "SPEED = 1"),
            ("unread builtin", "zip = 3"),
            ("docstring", "f.__doc__ = 'other'"),
            ("an equal list", "OFFSETS = list(OFFSETS)"),
            ("an equal array", "WEIGHTS = WEIGHTS.copy()"),
            ("dict order", "LIMITS['low'] = LIMITS.pop('low')"),
            ("list changed and changed back", "OFFSETS.append(4)\nOFFSETS.pop()"),
        ],
    ),
    *_live("registry", "main", [("state of a class", "Tally.seen[9] = 9\nTally.last = 9")]),
    *_live("helpers", "helpers", [("unread helper", "unused = 3"), ("unread constant", "NEW = 3")]),
    *_live(
        "classes",
        "main",
        [
            ("docstring of a class", "Model.__doc__ = 'other'"),
            ("an equal dict", "Model.table = dict(Model.table)"),
        ],
    ),
)
"""Changes between two calls that must keep the entry's identity."""
