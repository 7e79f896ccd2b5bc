"""What the README shows is what happens."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

SHOWN = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.S)
"""The README's programs, each with the output that it shows."""

COMMANDS = re.findall(r"^python3 -m venv .*$", README, re.M)
"""The README's two commands that set everything up."""


@pytest.mark.parametrize(("program", "output"), SHOWN)
def test_programs_run_as_pasted(
    program: str, output: str, tmp_path: Path, run_program: Callable[[Path], str]
) -> None:
    """A program of the README prints, in an empty folder, what the README shows."""
    path = tmp_path / "pasted.py"
    path.write_text(program, encoding="utf-8")
    assert output == run_program(path)


def test_a_program_run_again_executes_nothing(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """The README's first program, run a second time, says "executed 0" of each call."""
    path = tmp_path / "pasted.py"
    path.write_text(SHOWN[0][0], encoding="utf-8")
    first, second = run_program(path), run_program(path)
    assert ["4", "8", "1"] == re.findall(r"executed (\d+)", first)
    assert ["0", "0", "0"] == re.findall(r"executed (\d+)", second)


def test_every_program_shows_its_output() -> None:
    """No program of the README goes unchecked."""
    assert len(SHOWN) == README.count("```python\n") > 0


def test_two_commands_set_everything_up() -> None:
    """The README has two such commands; the first runs the quick start, the second the tests."""
    first, second = COMMANDS
    assert first.endswith(".venv/bin/python examples/quickstart.py")
    assert '".[test]"' in second
    assert "-m pytest" in second


def test_the_ci_runs_the_second_command() -> None:
    """The README's second command stands in ``.ci/run``, word for word."""
    lines = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert COMMANDS[1] in [line.strip() for line in lines]


def test_the_first_page_is_short() -> None:
    """The README stays under 260 lines."""
    assert len(README.splitlines()) < 260


def test_links_lead_somewhere() -> None:
    """Each file that the README links to or names by its path is there."""
    named = re.findall(r"\]\(([^):#]+)\)|`((?:examples|\.ci)/[^`]+)`", README)
    paths = {link or path for link, path in named}
    assert [] == sorted(path for path in paths if not (REPOSITORY / path).exists())


@pytest.mark.long
def test_the_first_command_works_in_a_clean_copy(tmp_path: Path) -> None:
    """The README's first command installs into a clean copy, and ends with the fit."""
    unwanted = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", ".chunk_memo")
    copy = shutil.copytree(REPOSITORY, tmp_path / "copy", ignore=unwanted)
    done = subprocess.run(["bash", "-c", COMMANDS[0]], cwd=copy, capture_output=True, text=True, check=True)
    assert "best fit: beta 1.69" in done.stdout
    assert re.search(r"same call +executed +0 ", done.stdout)
