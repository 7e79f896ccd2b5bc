"""Calls before and after each edit of the corpus: never a stale result, never a result computed twice."""

from __future__ import annotations

import functools
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mutations.corpus import COSMETIC, LIVE, LIVE_COSMETIC, PROGRAMS, SEMANTIC, Edit, Live, edited
from programs import Programs

from chunk_memo import ChunkMemo


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Return what writes and imports programs."""
    with Programs(tmp_path_factory.mktemp("programs")) as made:
        yield made


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, programs: Programs) -> Path:
    """Return a folder with a root for each program, in which the result of the program as it is lies."""
    folder = tmp_path_factory.mktemp("roots")
    for name, program in PROGRAMS.items():
        for expected in (1, 0):
            again = programs.package(program.files, program.entry)
            assert expected == executed(decorated(folder / name, again))
    return folder


@pytest.fixture
def root(bases: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of the root of the program that is edited."""
    edit = request.node.callspec.params.get("edit") or request.node.callspec.params["live"]
    return shutil.copytree(bases / edit.program, tmp_path / "root")


def decorated(root: Path, function: Any) -> Any:
    """Return a program's entry, decorated; of a method, what calls that of an object."""
    memo = ChunkMemo(root, axis_values={"x": [2]}, verbose=0, durability="fast")
    owner, _, name = function.__qualname__.rpartition(".")
    sweep = memo.cache(vectorize=True, ignore=["self"] if owner else [])(function)
    if not owner:
        return sweep
    kind = getattr(sys.modules[function.__module__], owner)
    setattr(kind, name, sweep)
    call = functools.partial(sweep, kind(2))
    call.plan = functools.partial(sweep.plan, kind(2))  # type: ignore[attr-defined]
    return call


def executed(function: Any) -> int:
    """Return how many points a call computes; 1 for one that ends in an error of the program's own."""
    try:
        return int(function()[1].executed_points)
    except Exception as error:
        if not any(note.startswith("while ") for note in getattr(error, "__notes__", ())):
            raise  # not an error of the program
        return 1


def after(programs: Programs, edit: Edit) -> Any:
    """Return the entry after an edit."""
    entry = edit.entry or PROGRAMS[edit.program].entry
    if "name of the function" in edit.name:
        entry = "main:g"
    return programs.package(edited(edit), entry)


@pytest.mark.filterwarnings("ignore:.is not. with:SyntaxWarning")
@pytest.mark.parametrize("edit", SEMANTIC, ids=lambda edit: edit.name)
def test_a_semantic_edit_is_computed(programs: Programs, root: Path, edit: Edit) -> None:
    """After an edit that can change the results, a call executes the point; after that, none."""
    function = decorated(root, after(programs, edit))
    assert 1 == function.plan().executed_points
    assert 1 == executed(function)


@pytest.mark.parametrize("edit", COSMETIC, ids=lambda edit: edit.name)
def test_a_cosmetic_edit_is_not(programs: Programs, root: Path, edit: Edit) -> None:
    """After an edit that cannot change the results, a call executes nothing."""
    assert 0 == executed(decorated(root, after(programs, edit)))


def around(programs: Programs, root: Path, live: Live) -> int:
    """Return how many points a call computes once code has run after a first call."""
    plain = programs.package(PROGRAMS[live.program].files, PROGRAMS[live.program].entry)
    function = decorated(root, plain)
    assert 0 == executed(function)
    package = plain.__module__.partition(".")[0]
    exec(live.code, vars(importlib.import_module(f"{package}.{live.module}")))
    return int(function.plan().executed_points)


@pytest.mark.parametrize("live", LIVE, ids=lambda live: live.name)
def test_a_change_between_two_calls_is_computed(programs: Programs, root: Path, live: Live) -> None:
    """What is rebound or changed while the process runs makes the next call execute the point."""
    assert 1 == around(programs, root, live)


@pytest.mark.parametrize("live", LIVE_COSMETIC, ids=lambda live: live.name)
def test_a_change_of_nothing_is_not(programs: Programs, root: Path, live: Live) -> None:
    """What does not matter makes the next call execute nothing."""
    assert 0 == around(programs, root, live)
