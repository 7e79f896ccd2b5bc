"""What a function reaches: edits that count, edits that do not, and changes while a process runs."""

from __future__ import annotations

import copy
import functools
import importlib
import itertools
import json
import linecache
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations.corpus import COSMETIC, LIVE, LIVE_COSMETIC, PROGRAMS, SEMANTIC, Edit, Live, edited

from chunk_memo.errors import IdentityError, IdentityWarning
from chunk_memo.identity import FunctionIdentity, differences, digest, identify_function

_numbers = itertools.count()

Made = Callable[..., Any]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Return a function that writes a package, and imports its entry."""
    root = tmp_path_factory.mktemp("programs")
    names: list[str] = []

    def make(files: dict[str, str], entry: str = "main:f") -> Any:
        name = f"program_{next(_numbers)}"
        names.append(name)
        for file, text in files.items():
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PKG", name))
        importlib.invalidate_caches()
        module, _, qualname = entry.partition(":")
        return functools.reduce(getattr, qualname.split("."), importlib.import_module(f"{name}.{module}"))

    sys.path.insert(0, str(root))
    yield make
    sys.path.remove(str(root))
    for name in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[name]


def program(make: Made, name: str) -> Any:
    """Return the entry of a program as it is."""
    return make(PROGRAMS[name].files, PROGRAMS[name].entry)


@pytest.fixture(scope="module")
def bases(make: Made) -> dict[str, FunctionIdentity]:
    """Return the identity of each program's entry."""
    return {name: identify_function(program(make, name)) for name in PROGRAMS}


def after(make: Made, edit: Edit) -> FunctionIdentity:
    """Return the identity of the entry after an edit."""
    entry = edit.entry or PROGRAMS[edit.program].entry
    if "name of the function" in edit.name:
        entry = "main:g"
    return identify_function(make(edited(edit), entry))


# -- the corpus ----


def test_the_corpus_is_large_enough() -> None:
    """There are at least 200 semantic and 60 cosmetic edits, all of them different."""
    assert 200 <= len(SEMANTIC)
    assert 60 <= len(COSMETIC)
    for edits in (SEMANTIC, COSMETIC):
        assert len(edits) == len({edit.name for edit in edits}) == len({str(edited(edit)) for edit in edits})


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_run(make: Made, name: str) -> None:
    """The entry of each program can be called, and everything in it has a text and an identity."""
    func = program(make, name)
    identity = identify_function(func)
    assert {"source", "value", "contents", "name"} >= {part.basis for part in identity.parts}
    assert () == identity.notes
    main = sys.modules[func.__module__]
    assert isinstance(float(main.f(2)), float)


@pytest.mark.parametrize("edit", SEMANTIC, ids=lambda edit: edit.name)
def test_a_semantic_edit_gives_a_new_identity(make: Made, bases: dict[str, FunctionIdentity], edit: Edit) -> None:
    """What can change the results changes the digest, and the plan can say what it was."""
    before, now = bases[edit.program], after(make, edit)
    assert before.digest != now.digest
    assert differences(before.parts, now.parts) or before.qualname != now.qualname


@pytest.mark.parametrize("edit", COSMETIC, ids=lambda edit: edit.name)
def test_a_cosmetic_edit_keeps_the_identity(make: Made, bases: dict[str, FunctionIdentity], edit: Edit) -> None:
    """What cannot change the results keeps the digest."""
    before, now = bases[edit.program], after(make, edit)
    assert () == differences(before.parts, now.parts)
    assert before.digest == now.digest


def run_live(make: Made, live: Live) -> tuple[FunctionIdentity, FunctionIdentity]:
    """Return the identity before and after code has run between two calls."""
    func = program(make, live.program)
    package = func.__module__.partition(".")[0]
    before = identify_function(func)
    assert before.unchanged()
    exec(live.code, vars(importlib.import_module(f"{package}.{live.module}")))
    return before, before.again()


@pytest.mark.parametrize("live", LIVE, ids=lambda live: live.name)
def test_a_change_between_two_calls_is_noticed(make: Made, live: Live) -> None:
    """What is rebound or changed while the process runs is seen at the next call."""
    before, now = run_live(make, live)
    assert not before.unchanged()
    assert before.digest != now.digest
    assert now.unchanged()


@pytest.mark.parametrize("live", LIVE_COSMETIC, ids=lambda live: live.name)
def test_a_change_of_nothing_keeps_the_identity(make: Made, live: Live) -> None:
    """What does not matter, or is as it was, keeps the digest while the process runs."""
    before, now = run_live(make, live)
    assert before.digest == now.digest
    assert now.unchanged()


# -- the process goes on ----


def test_a_helper_edited_without_a_reload_is_not_believed(make: Made) -> None:
    """The digest is that of the code that runs, which the file does not tell any more."""
    func = program(make, "helpers")
    before = identify_function(func)
    helpers = sys.modules[func.__module__.replace("main", "helpers")]
    path = Path(str(helpers.__file__))
    path.write_text(path.read_text().replace("return y + STEP", "return y - 2 * STEP"))
    assert before.unchanged(), "the running code is what it was"
    stale = identify_function(func)
    assert ["shift"] == [part.name for part in stale.parts if part.basis == "code object"]
    assert any("'shift'" in note for note in stale.notes)
    fresh = identify_function(make({**PROGRAMS["helpers"].files, "helpers.py": path.read_text()}))
    assert 3 == len({before.digest, stale.digest, fresh.digest})


def test_a_reloaded_helper_is_believed(make: Made) -> None:
    """A module that is loaded again is seen through its attributes, and has its source."""
    func = make(
        {
            "main.py": "from . import tools\n\n\ndef f(x):\n    return tools.g(x)\n",
            "tools.py": "def g(x):\n    return x\n",
            "__init__.py": "",
        }
    )
    before = identify_function(func)
    tools = sys.modules[func.__module__.replace("main", "tools")]
    Path(str(tools.__file__)).write_text("def g(x):\n    return x + 100\n")
    importlib.invalidate_caches()
    importlib.reload(tools)
    assert not before.unchanged()
    now = before.again()
    assert ("function 'g'",) == differences(before.parts, now.parts)
    assert {"source"} == {part.basis for part in now.parts}


STATE = """
CALLS = []
CACHE = {}
SEEN = {"n": 0}
COUNT = 0
HANDLE = None


def remember(x):
    CALLS.append(x)


def connect():
    global HANDLE
    HANDLE = object()


def note(log):
    log["n"] += 1


def f(x):
    global COUNT
    COUNT += 1
    connect()
    remember(x)
    CACHE[x] = COUNT
    note(SEEN)
    return x
"""


def test_what_the_code_itself_rebinds_is_state(make: Made) -> None:
    """Counters, caches and handles neither enter the identity nor warn, and calls do not change it."""
    func = make({"main.py": STATE, "__init__.py": ""})
    identity = identify_function(func)
    assert ("CACHE", "CALLS", "COUNT", "HANDLE") == identity.state
    other = make({"main.py": STATE.replace("COUNT = 0", "COUNT = 7"), "__init__.py": ""})
    assert identity.digest == identify_function(other).digest
    with identity.running() as told:
        func(1)
    assert ["SEEN"] == told, "what is changed behind a name is found out"
    with identity.running() as told:
        func(2)
    assert [] == told, "and told once"
    assert identity.unchanged()
    assert identity is identity.again()


def test_a_list_in_a_closure_that_the_code_changes_is_state() -> None:
    """A list that a closure keeps a record in neither enters the identity nor changes it."""
    calls: list[int] = []

    def f(x: int) -> int:
        calls.append(x)
        return x

    identity = identify_function(f)
    assert ("calls",) == identity.state
    assert ["function"] == [part.kind for part in identity.parts]
    f(1)
    assert identity.unchanged()
    assert identity.digest == identify_function(f).digest


def test_state_that_was_found_out_stays_out(make: Made) -> None:
    """Another change gives a new identity, in which what is state counts as it was at first."""
    func = make(
        {"main.py": STATE + "\nRATE = 1\ng = f\n\n\ndef f(x):\n    return g(x) * RATE\n", "__init__.py": ""}
    )
    space = func.__globals__
    first = identify_function(func)
    with first.running():
        func(1)
    space["RATE"] = 2
    second = first.again()
    assert first.digest != second.digest
    with second.running() as told:
        func(2)
    assert [] == told
    space["RATE"] = 1
    assert first.digest == second.again().digest


def test_while_a_function_runs_its_containers_are_not_compared(make: Made) -> None:
    """A call that begins while another one changes a list sees the same identity."""
    func = make({"main.py": STATE, "__init__.py": ""})
    identity = identify_function(func)
    with identity.running():
        func(1)
        assert identity.unchanged()


def test_identities_travel(make: Made) -> None:
    """An identity can be copied and pickled; the copy says the same, and watches nothing."""
    identity = identify_function(program(make, "classes"))
    for other in (pickle.loads(pickle.dumps(identity)), copy.deepcopy(identity)):
        assert identity == other
        assert other.unchanged()
        assert other is other.again()
    assert json.loads(json.dumps([asdict(part) for part in identity.parts]))[0]["name"] == "f"


# -- what is out of reach ----


def test_other_packages_count_by_name(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of NumPy and Python are listed with their versions, which do not enter the digest."""
    text = (
        "import math\n"
        "import numpy as np\n\n\n"
        "def f(x):\n"
        "    return np.linalg.norm(x) + math.sqrt(x) + len(str(x))\n"
    )
    func = make({"main.py": text, "__init__.py": ""})
    before = identify_function(func)
    assert ["math.sqrt", "numpy.linalg.norm"] == [each.name for each in before.out_of_reach]
    assert np.__version__ == before.out_of_reach[1].version
    monkeypatch.setattr(np, "__version__", "99.0")
    assert before.digest == identify_function(func).digest


def test_objects_without_identity_warn_once(make: Made) -> None:
    """A logger or lock that is read counts by its type, is told of, and is warned of once."""
    text = (
        "import logging\n"
        "import threading\n\n"
        "LOG = logging.getLogger('x')\n"
        "LOCK = threading.Lock()\n\n\n"
        "def f(x):\n"
        "    with LOCK:\n"
        "        LOG.info(x)\n"
        "    return x\n"
    )
    func = make({"main.py": text, "__init__.py": ""})
    with pytest.warns(IdentityWarning, match=r"'LOCK'.*'LOG'.*depends_on=") as caught:
        identity = identify_function(func)
    assert 1 == len(caught)
    assert 2 == len(identity.notes)
    assert identity.digest == identify_function(func).digest
    other = make({"main.py": text.replace("'x'", "'y'"), "__init__.py": ""})
    assert identity.digest == identify_function(other, warn=False).digest


def test_an_explanation_prints_well(make: Made) -> None:
    """What is noticed and what is not can be read off, state and remarks included."""
    func = make(
        {
            "main.py": (
                "import math\n"
                "N = 0\n"
                "RATE = 2\n\n\n"
                "def f(x):\n"
                "    global N\n"
                "    N += 1\n"
                "    return math.sqrt(x) * RATE\n"
            ),
            "__init__.py": "",
        }
    )
    told = str(identify_function(func).explain())
    for words in (
        "function 'f', by its code",
        "constant 'RATE'",
        "math.sqrt, python",
        "State",
        ": N",
        "depends_on=",
    ):
        assert words in told
    assert told == repr(identify_function(func).explain())


# -- what is named ----


def test_what_is_named_counts(make: Made, tmp_path: Path) -> None:
    """Functions, classes, modules and files can be added, whose changes then count."""
    files = {
        "main.py": "def f(x):\n    return x\n",
        "tools.py": "N = 1\n\n\ndef g(x):\n    return x\n\n\nclass A:\n    n = 1\n",
        "__init__.py": "",
    }
    data = tmp_path / "data.txt"
    data.write_text("one")

    def digests(**changed: str) -> list[str]:
        func = make({**files, **{f"{name}.py": text for name, text in changed.items()}})
        tools = sys.modules.get(func.__module__.replace("main", "tools"))
        tools = tools or importlib.import_module(func.__module__.replace("main", "tools"))
        named: list[Any] = [tools.g, tools.A, tools, data]
        return [identify_function(func, depends_on=[each]).digest for each in named] + [
            identify_function(func, depends_on=named).digest,
            identify_function(func, depends_on=named[::-1]).digest,
        ]

    base = digests()
    assert base == digests()
    assert 5 == len({*base}), "the order does not count"
    edits = {
        (0, 2): files["tools.py"].replace("return x", "return -x"),
        (1, 2): files["tools.py"].replace("n = 1", "n = 2"),
        (2,): files["tools.py"].replace("N = 1", "N = 2"),
    }
    for changed, text in edits.items():
        assert [*changed, 4, 5] == [
            at for at, pair in enumerate(zip(base, digests(tools=text), strict=True)) if len({*pair}) == 2
        ]
    data.write_text("two")
    assert [3, 4, 5] == [at for at, pair in enumerate(zip(base, digests(), strict=True)) if len({*pair}) == 2]


def test_a_file_that_changes_is_noticed(make: Made, tmp_path: Path) -> None:
    """A file on depends_on= is looked at before each call."""
    data = tmp_path / "data.txt"
    data.write_text("one")
    identity = identify_function(
        make({"main.py": "def f(x):\n    return x\n", "__init__.py": ""}), depends_on=[data]
    )
    assert identity.unchanged()
    data.write_text("three")
    assert not identity.unchanged()
    assert ("file 'data.txt'",) == differences(identity.parts, identity.again().parts)


def test_a_module_that_is_named_counts_wherever_it_lies() -> None:
    """A function of the standard library that is reached counts by its code if its module is named."""
    space: dict[str, Any] = {"__name__": "made"}
    exec("import textwrap\ndef f(x):\n    return textwrap.dedent(x)\n", space)
    plain, named = identify_function(space["f"]), identify_function(space["f"], depends_on=[textwrap], warn=False)
    assert "dedent" not in [part.name for part in plain.parts]
    assert "dedent" in [part.name for part in named.parts]


@pytest.mark.parametrize("wrong", ["data.txt", 3, None, Path("/nowhere/at/all")])
def test_what_cannot_be_named_is_refused(wrong: Any) -> None:
    """A string, a number or a file that is not there is refused with the way out."""
    with pytest.raises(IdentityError, match=r"depends_on= .*(pathlib.Path|expected a file)"):
        identify_function(lambda x: x, depends_on=[wrong])


# -- notebooks ----


def cell(text: str, number: int, space: dict[str, Any]) -> None:
    """Run a text as a notebook runs a cell."""
    name = f"/tmp/ipykernel_{number}/{number}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), space)


def test_a_notebook_is_known_by_its_code_alone() -> None:
    """Neither the number of a cell nor the kernel counts; other code under the same name does."""
    helper, main = "RATE = 2\ndef helper(x):\n    return x * RATE\n", "def f(x):\n    return helper(x)\n"

    def identity(*cells: str, kernel: int) -> FunctionIdentity:
        space: dict[str, Any] = {"__name__": "__main__"}
        for at, text in enumerate(cells):
            cell(text, 100 * kernel + at, space)
        return identify_function(space["f"])

    one = identity(helper, main, kernel=1)
    assert {"source", "value"} == {part.basis for part in one.parts}
    assert one.digest == identity(helper, "x = 1\n", main, main, kernel=2).digest
    assert one.digest == identity(main, helper, kernel=3).digest
    assert one.digest != identity(helper.replace("2", "3"), main, kernel=4).digest
    assert one.digest != identity(helper.replace("* RATE", "+ RATE"), main, kernel=5).digest


def test_a_cell_that_runs_again_is_noticed() -> None:
    """Running a cell again unchanged keeps the identity, and an edited one changes it."""
    space: dict[str, Any] = {"__name__": "__main__"}
    cell("def helper(x):\n    return x\n", 901, space)
    cell("def f(x):\n    return helper(x)\n", 902, space)
    before = identify_function(space["f"])
    cell("def helper(x):\n    return x  # the same\n", 903, space)
    assert not before.unchanged()
    again = before.again()
    assert before.digest == again.digest
    cell("def helper(x):\n    return -x\n", 904, space)
    assert before.digest != again.again().digest


# -- shapes of callables ----


def test_circles_of_functions_have_one_identity_each(make: Made) -> None:
    """Functions that call each other are told apart, and an edit of one changes all of them."""
    text = (
        "def a(x):\n"
        "    return b(x)\n\n\n"
        "def b(x):\n"
        "    return c(x) + 1\n\n\n"
        "def c(x):\n"
        "    return a(x) if x else TABLE\n\n\n"
        "TABLE = {'a': a, 'b': [b]}\n"
        "ALL = {a, b, c}\n"
    )

    def digests(text: str) -> list[str]:
        func = make({"main.py": text, "__init__.py": ""}, "main:a")
        return [identify_function(func.__globals__[name]).digest for name in "abc"]

    one = digests(text)
    assert one == digests(text + "\n# end\n")
    assert 6 == len({*one, *digests(text.replace("+ 1", "+ 2"))})


def test_sets_of_functions_do_not_depend_on_addresses(make: Made) -> None:
    """The functions in a set count in an order of their own."""
    text = (
        "def a(x):\n"
        "    return x\n\n\n"
        "def b(x):\n"
        "    return -x\n\n\n"
        "ALL = {a, b, abs}\n\n\n"
        "def f(x):\n"
        "    return [each(x) for each in ALL]\n"
    )
    assert 1 == len({identify_function(make({"main.py": text, "__init__.py": ""})).digest for _ in range(8)})


def test_a_function_in_params_counts_with_what_it_reaches(make: Made) -> None:
    """A function that is passed as a param has the identity of its helpers, and of no old ones."""
    func = program(make, "helpers")
    before = digest({"model": func})
    assert before == digest({"model": func})
    func.__globals__["RATE"] = 99
    assert before != digest({"model": func})


def test_two_helpers_of_one_name_are_not_mixed_up(make: Made) -> None:
    """Two modules whose functions of equal name change places give another identity."""
    one, two = "def g(x):\n    return x + 1\n", "def g(x):\n    return x + 2\n"
    main = "from . import a, b\n\n\ndef f(x):\n    return a.g(x) - b.g(x)\n"
    digests = {
        identify_function(make({"main.py": main, "a.py": first, "b.py": second, "__init__.py": ""})).digest
        for first, second in ((one, two), (two, one))
    }
    assert 2 == len(digests)


def test_source_is_that_of_all_functions(make: Made) -> None:
    """The text that is kept for a diff holds the function, then what it reaches."""
    func = make({"main.py": "def g(x):\n    return x   \n\n\ndef f(x):\n    return g(x)\n", "__init__.py": ""})
    assert "def f(x):\n    return g(x)\n\n\n# g\ndef g(x):\n    return x" == identify_function(func).source


def test_importing_by_the_full_name_inside_a_function(make: Made) -> None:
    """An import inside a function reaches the module, though it was not loaded before."""
    main = "def f(x):\n    import PKG.tools\n    from PKG.tools import N as n\n    return PKG.tools.g(x) + n\n"
    func = make({"main.py": main, "tools.py": "N = 1\n\n\ndef g(x):\n    return x\n", "__init__.py": ""})
    assert ["f", "g", "N"] == [part.name for part in identify_function(func).parts]


def test_a_subclass_is_reached_by_naming_it(make: Made) -> None:
    """A method's own class is seen by itself; what a subclass overrides counts when it is named."""
    text = (
        "class A:\n"
        "    def run(self, x):\n"
        "        return self.step(x)\n\n"
        "    def step(self, x):\n"
        "        return x\n\n\n"
        "class B(A):\n"
        "    def step(self, x):\n"
        "        return -x\n"
    )
    run = make({"main.py": text, "__init__.py": ""}, "main:A.run")
    assert ["A.run", "A.step"] == [part.name for part in identify_function(run).parts]
    named = identify_function(run, depends_on=[run.__globals__["B"]])
    assert "B.step" in [part.name for part in named.parts]


def test_what_making_a_class_registers_is_no_state(make: Made) -> None:
    """A list of subclasses that the base class fills counts, with the classes in it."""
    text = (
        "class Base:\n"
        "    known = []\n\n"
        "    def __init_subclass__(cls):\n"
        "        Base.known.append(cls)\n\n\n"
        "class Part(Base):\n"
        "    rate = 1\n\n\n"
        "def f(x):\n"
        "    return x * sum(part.rate for part in Base.known)\n"
    )
    first = identify_function(make({"main.py": text, "__init__.py": ""}))
    assert () == first.state
    edited_text = text.replace("rate = 1", "rate = 2")
    assert first.digest != identify_function(make({"main.py": edited_text, "__init__.py": ""})).digest
