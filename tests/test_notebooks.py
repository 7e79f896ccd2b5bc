"""Notebooks: the identity of a cell's function depends on neither file name, cell number nor kernel."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import nbclient
import nbformat
import pytest

HERE = Path(__file__).parents[1]

pytestmark = [
    # What the kernel's client and its event loop say of each other and of later Pythons is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETUP = """\
from chunk_memo import ChunkMemo
memo = ChunkMemo({root!r}, {{"x": 2}}, {{"x": [1, 2, 3]}}, verbose=0)
"""

DEFINE = """\
RATE = 2

def scaled(v):
    return RATE * v

@memo.cache()
def f(x, alpha=1):
    return [alpha * scaled(i) for i in x]
"""

CALL = """\
output, diagnostics = f()
print(output, diagnostics.executed_points)
"""

OTHER = DEFINE.replace("RATE * v", "RATE - v")
COSMETIC = DEFINE.replace("@memo", "# as in the paper\n@memo").replace("RATE * v", "RATE  *  v  # linear")


@pytest.fixture(autouse=True)
def own_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels import the ``chunk_memo`` of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def executed(path: Path, cells: Sequence[str]) -> list[str]:
    """Write a notebook, run it in a kernel of its own, and return the lines that it prints."""
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in cells]
    content = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(content), encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(path.parent)}}
    done = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert {"stdout"} == {output.get("name") for output in outputs}
    return "".join(output["text"] for output in outputs).splitlines()


def test_notebooks_share_code_and_nothing_else(tmp_path: Path) -> None:
    """Cells run again, kernels started again, and other notebooks with the same code execute 0 points.

    A notebook whose function of that name has other code executes all; neither sees the other's results.
    """
    setup = SETUP.format(root=str(tmp_path / "root"))
    ours, theirs = "[2, 4, 6]", "[1, 0, -1]"
    cells = [setup, DEFINE, CALL, DEFINE, CALL, COSMETIC, CALL]
    assert [f"{ours} 3", f"{ours} 0", f"{ours} 0"] == executed(tmp_path / "one.ipynb", cells)
    cells = ["import math", setup, OTHER, CALL, DEFINE, CALL, OTHER, CALL]
    assert [f"{theirs} 3", f"{ours} 0", f"{theirs} 0"] == executed(tmp_path / "two.ipynb", cells)
    cells = [DEFINE.partition("@memo")[0], setup, COSMETIC, CALL]
    assert [f"{ours} 0"] == executed(tmp_path / "renamed.ipynb", cells)


def test_a_script_shares_with_a_notebook(tmp_path: Path) -> None:
    """What a script run as ``__main__`` stored is there for a notebook, and for a program that imports it."""
    setup = SETUP.format(root=str(tmp_path / "root"))
    script = tmp_path / "script.py"
    script.write_text(setup + DEFINE + CALL, encoding="utf-8")

    def said(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert "[2, 4, 6] 3" == said("script.py")
    assert "[2, 4, 6] 0" == said("-c", "import script")
    assert ["[2, 4, 6] 0"] == executed(tmp_path / "after.ipynb", [setup, textwrap.dedent(DEFINE), CALL])
