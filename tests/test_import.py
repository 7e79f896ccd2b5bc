"""The front door imports what is asked for, when it is asked for, and no more."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import chunk_memo

HERE = Path(__file__).parents[1]

FIRST = "import chunk_memo; chunk_memo.ChunkMemo"
"""What a program does that uses a cache."""

FILL = """
import sys
from chunk_memo import ChunkMemo, auto_load
memo = ChunkMemo(sys.argv[1], {"x": 2}, {"x": [1, 2, 3]}, verbose=0)
"""
READS = {
    "a decorated call": """
@memo.cache(version="1")
def double(x):
    return [2 * each for each in x]
print(double()[0], double()[1].executed_points, end=" ")
""",
    "ChunkCache": """
from chunk_memo import run
cache = memo.cache_for_params({"a": 1})
output, diagnostics = run(cache, lambda x: [2 * each for each in x])
print(output, diagnostics.executed_points, end=" ")
""",
    "one point": """
@memo.cache(version="1")
def double(x):
    return [2 * each for each in x]
double()
print(double(x=2)[0], double(x=2)[1].executed_points, end=" ")
""",
}
"""Programs that compute when they are run first, and read from then on."""

AFTERWARDS = """
print(sorted({"h5py", "joblib", "tqdm", "click"} & set(sys.modules)))
"""


def said(program: str, *words: object) -> str:
    """Return what a program prints, run in a fresh process, in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, words)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("program", READS.values(), ids=list(READS))
def test_reading_needs_no_heavy_package(program: str, tmp_path: Path) -> None:
    """A second process reads what a first one stored, and imports neither h5py nor joblib."""
    first, second = (said(FILL + program + AFTERWARDS, tmp_path / "root") for _ in range(2))
    assert "'h5py'" in first
    assert second.endswith(" 0 []")
    assert first.split("]")[0] == second.split("]")[0]


def test_the_package_alone_loads_nothing() -> None:
    """``import chunk_memo`` loads what opens its doors, no other module of the package, and no NumPy."""
    program = "import sys, chunk_memo; print([m for m in sys.modules if m.startswith(('chunk_memo.', 'numpy'))])"
    assert "['chunk_memo.doors']" == said(program)


def test_errors_cost_no_numpy() -> None:
    """A program that only catches our errors does not load NumPy."""
    assert "False" == said("import sys; from chunk_memo import SpecError; print('numpy' in sys.modules)")


@pytest.mark.parametrize("module", ["logging", "difflib", "importlib.util"])
def test_what_is_seldom_used_is_not_loaded(module: str) -> None:
    """A module that only errors, profiles or rare values need is not imported with ``ChunkMemo``."""
    assert "False" == said(f"{FIRST}; import sys; print({module!r} in sys.modules)")


@pytest.mark.parametrize("name", sorted(set(chunk_memo.__all__) - {"__version__"}))
def test_each_name_is_that_of_its_home(name: str) -> None:
    """A public name of the package is the one that its module defines."""
    value = getattr(chunk_memo, name)
    assert value is getattr(importlib.import_module(value.__module__), name)


def test_all_names_are_listed() -> None:
    """``dir`` and a star import give every public name."""
    assert set(chunk_memo.__all__) <= set(dir(chunk_memo))
    missing = "import chunk_memo; from chunk_memo import *; print(set(chunk_memo.__all__) - set(globals()))"
    assert "set()" == said(missing)
    assert "open" in dir(chunk_memo)
    assert "True" == said("import builtins; from chunk_memo import *; print(open is builtins.open)")


def test_modules_are_attributes() -> None:
    """A module of the package is there as an attribute, without an import of its own."""
    assert "chunk_memo.grid" == said("import chunk_memo; print(chunk_memo.grid.__name__)")


@pytest.mark.parametrize("name", ["nothing", "_private", "__wrapped__"])
def test_a_name_that_is_not_there(name: str) -> None:
    """What the package does not have is an AttributeError, and ``from`` an ImportError."""
    with pytest.raises(AttributeError, match=f"module 'chunk_memo' has no attribute '{name}'"):
        getattr(chunk_memo, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
        exec(f"from chunk_memo import {name}")


def test_a_module_that_lacks_something_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing package that one of our modules needs is not taken for a name that is not there."""
    (tmp_path / "attic.py").write_text("import a_package_that_is_not_there")
    monkeypatch.setattr(chunk_memo, "__path__", [*chunk_memo.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        getattr(chunk_memo, "attic")  # noqa: B009


FRAMES = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
from chunk_memo import ChunkMemo
memo = ChunkMemo(sys.argv[1], axis_values={"x": [1, 2, 3]}, verbose=0)
result = memo.cache(vectorize=True, version="1", name="double")(lambda x: 2 * x).sweep()
print(result.to_pandas()["double"].tolist(), result.to_polars()["x"].to_list(), end=" ")
print(result.to_xarray()["double"].sum().item())
"""


def test_the_extra_for_frames_brings_what_frames_need(tmp_path: Path) -> None:
    """Labelled results become frames and Datasets where only ``chunk-memo[frames]`` is installed."""
    extras = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[\[><=;]", each)[0].strip() for each in extras[extra]} for extra in extras}
    others = {"duckdb", "sqlalchemy", *names["notebook"], *names["dask"]} - {"chunk-memo", *names["frames"]}
    assert {"matplotlib", "scipy"} <= others
    assert "[2, 4, 6] [1, 2, 3] 12" == said(FRAMES, tmp_path, *sorted(others))
