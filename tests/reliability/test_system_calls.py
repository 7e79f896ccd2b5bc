"""A fault at any system call, from inside and from outside, leaves nothing that is not whole, lost or wrong."""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest
from forking import program
from injecting import SCENARIOS

import chunk_memo

KINDS = (faults.KILL_BEFORE, *faults.ERRORS)
NAMED = ("commit", "fold", "quarantine", "layout", "points")
"""What must stand each fault at each call on every commit of this library."""


@pytest.mark.parametrize("name", NAMED)
def test_every_call(tmp_path: Path, name: str) -> None:
    """KILL, EIO, ENOSPC and EDQUOT at every call: at least 150 cases each, of which each fault fired."""
    told = program("injecting", tmp_path / "store", name, 1, *KINDS)
    print(name, told)
    assert set(KINDS) == set(told["cases"])
    assert sum(told["cases"].values()) >= 150


def test_some_calls_of_everything_else(tmp_path: Path) -> None:
    """A kill at every seventh call of all the others that write."""
    for name in sorted(set(SCENARIOS) - set(NAMED)):
        told = program("injecting", tmp_path / "store", name, 7, faults.KILL_BEFORE)
        print(name, told)
        assert told["cases"][faults.KILL_BEFORE] >= told["calls"] // 10


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_call_of_everything(tmp_path: Path, name: str) -> None:
    """All faults, kills before and after the call, at every call of everything that writes."""
    told = program("injecting", tmp_path / "store", name, 1, timeout=3600)
    print(name, told)
    assert set(faults.KINDS) == set(told["cases"])


def cannot_trace() -> str:
    """Say why strace cannot be used here; nothing where it can."""
    if platform.system() != "Linux" or shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


@pytest.mark.skipif(bool(cannot_trace()), reason=cannot_trace())
@pytest.mark.parametrize("name", NAMED)
def test_by_strace(tmp_path: Path, name: str) -> None:
    """The same from outside, by strace: each call once, with kills and errors in turn."""
    told = program("tracing", tmp_path / "store", name, "rotate")
    print(name, told)
    assert {"signal=KILL", "error=EIO"} <= set(told["cases"])
    assert sum(told["cases"].values()) >= 0.9 * told["calls"] > 20


@pytest.mark.long
@pytest.mark.skipif(bool(cannot_trace()), reason=cannot_trace())
@pytest.mark.parametrize("name", NAMED)
def test_by_strace_long(tmp_path: Path, name: str) -> None:
    """The same with every fault at every call."""
    print(name, program("tracing", tmp_path / "store", name, "all", timeout=3600))


# --- that faults are injected where all calls go through -------------------------------------------------------

HOME = Path(chunk_memo.__file__).parent

# What touches files that are no part of a store, or does so for people only; each with the reason.
ELSEWHERE = {
    "disk/files.py": "the one place",
    "disk/leases.py": "/proc: which process holds a claim",
    "disk/mounts.py": "/proc: which file systems are mounted",
    "identity/functions.py": "the user's source code",
    "identity/project.py": "the user's source code",
    "identity/reach.py": "the user's source code, and data that depends_on names",
    "identity/source.py": "the user's source code",
    "identity/watch.py": "the user's source code",
}
ROOMS_OF_THEIR_OWN = (
    *("tables/", "lab/", "display/", "cli/datasets.py", "cli/experiments.py", "provenance.py"),
    *("disk/results.py", "disk/runimport.py", "disk/runindex.py", "disk/signing.py", "store.py"),
)
"""Results in other formats, databases, keys and pictures, which are not what these promises are about."""

METHODS = {
    *("chmod", "exists", "glob", "hardlink_to", "is_dir", "is_file", "is_symlink", "iterdir", "mkdir"),
    *("read_bytes", "read_text", "readlink", "rglob", "rmdir", "samefile", "symlink_to", "touch", "unlink"),
    *("write_bytes", "write_text"),
}
"""Methods of paths that reach the system; ``open``, ``stat`` and ``rename`` have other meanings, too."""


def touching(tree: ast.Module) -> Iterator[str]:
    """Yield what reaches the file system in a module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield f"open (line {node.lineno})"
        elif isinstance(called, ast.Attribute):
            base = ast.unparse(called.value)
            if base == "os" and called.attr in faults.CALLS | {"walk", "makedirs", "removedirs", "remove"}:
                yield f"os.{called.attr} (line {node.lineno})"
            elif base == "os.path" and called.attr in (
                "exists",
                "getsize",
                "isdir",
                "isfile",
                "islink",
                "lexists",
            ):
                yield f"os.path.{called.attr} (line {node.lineno})"
            elif base in ("shutil", "tempfile") and called.attr not in ("get_terminal_size", "which"):
                yield f"{base}.{called.attr} (line {node.lineno})"
            elif called.attr in METHODS and base not in ("files", "self", "signing"):
                yield f"….{called.attr} (line {node.lineno})"


def test_every_call_goes_through_one_module() -> None:
    """No module but ``disk/files`` reaches for the file system, so faults that are injected there reach all."""
    wrong = []
    for path in sorted(HOME.rglob("*.py")):
        name = path.relative_to(HOME).as_posix()
        if name not in ELSEWHERE and not name.startswith(ROOMS_OF_THEIR_OWN):
            wrong += [f"{name}: {what}" for what in touching(ast.parse(path.read_text(encoding="utf-8")))]
    assert [] == wrong


@pytest.mark.parametrize(
    "source",
    ["open('x')", "os.stat(p)", "os.path.exists(p)", "Path(p).unlink()", "shutil.rmtree(p)", "root.mkdir()"],
)
def test_a_call_elsewhere_would_be_seen(source: str) -> None:
    """The checker finds what was planted."""
    assert 1 == len([*touching(ast.parse(source))])


def test_a_stored_point_costs_known_calls(tmp_path: Path) -> None:
    """The calls of a commit are seen by what stands in for :mod:`os`: none goes around it."""
    told = program("injecting", tmp_path / "store", "commit", 1000, faults.KILL_BEFORE)
    assert told["calls"] > 20
