"""The tests of what stores and serves pass where file systems can do less: no hard links, no renaming, neither.

In every process of such a run calls of ``disk/files`` fail, with errors that file systems give
(``refusing/sitecustomize.py``). On each commit each kind runs some modules of the tests, in the long
size all of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent

REFUSED = {
    "link:EPERM": ["reliability/test_concurrency.py", "test_leases.py"],
    "link:EOPNOTSUPP": ["test_items.py", "test_inserts.py"],
    "link:ENOSYS": ["test_cache.py"],
    "rename:EPERM": ["test_items.py", "test_leases.py"],
    "link:EPERM,rename:EPERM": ["test_cache.py", "test_items.py"],
}
"""What fails, and how; and the modules that run on each commit."""

NOT_ABOUT_FILES = ("test_maps_", "test_identity", "test_readme", "test_examples", "test_notebooks", "reliability")


def run(refused: str, modules: list[str], timeout: float) -> tuple[int, str]:
    """Run modules of the tests where something is refused; return the exit code and the last lines."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE / "refusing"),
        "CHUNK_MEMO_TEST_REFUSED": refused,
    }
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *modules]
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("refused", REFUSED)
def test_refused(refused: str) -> None:
    """Some modules of the tests."""
    code, told = run(refused, REFUSED[refused], 290)
    assert 0 == code, told


def test_calls_are_refused(tmp_path: Path) -> None:
    """In those runs files do get their names in another way."""
    program = (
        "import sys; from chunk_memo.disk import files\n"
        "print(files.commit(sys.argv[1] + '/name', [b'bytes'], files.Syncer()), files.commit_method(sys.argv[1]))"
    )
    told = []
    for refused in ("", "link:EPERM", "link:ENOSYS,rename:EPERM"):
        folder = tmp_path / (re.sub(r"\W", "-", refused) or "nothing")
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(HERE / "refusing"), "CHUNK_MEMO_TEST_REFUSED": refused}
        command = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout.split())
    assert [["True", "link"], ["True", "rename"], ["True", "create"]] == told


@pytest.mark.long
@pytest.mark.parametrize("refused", REFUSED)
def test_refused_long(refused: str) -> None:
    """All modules that store anything."""
    names = sorted(path.name for path in TESTS.glob("test_*.py"))
    modules = [name for name in names if not name.startswith(NOT_ABOUT_FILES)]
    code, told = run(refused, [*modules, "reliability/test_concurrency.py", "reliability/test_faults.py"], 7200)
    print(told.splitlines()[-1])
    assert 0 == code, told
