"""Files and names that somebody made up: nothing runs, nothing elsewhere is touched, memory is bounded."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import ChunkCache, SpecError, run
from chunk_memo.errors import ChunkMemoError

FILES, NAMES = 10_000, 5_000
"""How many there are under ``-m long``; a fraction of that in the default run."""

CAP, ROOM = 64 << 20, 256 << 20
"""``max_chunk_bytes`` of the caches that read them, and what a process may take besides."""

HERE = Path(__file__).parent

ALLOWED = {
    "forged_pickle": {"UntrustedPickleError"},
    "linked": {"right"},
    "bomb": {"right", "SpecError"},
    # Whoever may write into a cache may write other numbers; a later format version is left alone.
    "mutated": {"right", "other values", "FormatVersionError", "EncodingError", "SpecError", "OutputError"},
    "own_mutated": {
        *("right", "other values", "FormatVersionError", "EncodingError", "SpecError", "OutputError"),
        *("PickleRefusedError", "UntrustedPickleError"),
    },
}
"""What may become of hostile files of each kind; anything else is a crash."""


def read_hostile_files(count: int, seed: int, home: Path) -> None:
    """Read so many in a process of its own, and look at what it says."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parent.parent))),
        "CHUNK_MEMO_CONFIG": str(home / "config"),
    }
    home.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile.py"), str(count), str(seed), str(home)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    outcomes = {tuple(name.split(": ", 1)): number for name, number in told["outcomes"].items()}
    assert [] == [name for name in outcomes if name[1] not in ALLOWED[name[0]]]
    assert count == sum(outcomes.values())
    assert {name for name, _ in outcomes} == set(ALLOWED)
    assert {} == told["seen"]
    assert not told["owned"]
    assert told["grown"] <= CAP + ROOM


def test_hostile_files(tmp_path: Path) -> None:
    """Forged pickles, links, bombs and mutated manifests: no code, no process, no open outside of the root."""
    read_hostile_files(300, 1, tmp_path / "home")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_many_hostile_files(tmp_path: Path, seed: int) -> None:
    """The same at full size: 10,000 files over four processes."""
    read_hostile_files(FILES // 4, 100 + seed, tmp_path / "home")


# --- names -------------------------------------------------------------------------------------------------

PIECES = [
    *("..", ".", "/", "\\", "\0", "~", "//", "../../..", "/etc/passwd", "C:", "con", "nul.h5", "\n", "\r", " "),
    *("é", "ı", "‮", "\ud800", "a" * 300, "%2e%2e%2f", "$HOME", "`id`", "; rm -rf", "'", '"', "|", "*", "?"),
    *("metadata.json", "layouts", "chunks", "quarantine", "failures", ".tmp-", ".h5", ".parts", "-", "_raw", "#"),
]


def hostile_name(rng: random.Random) -> str:
    """Return something that nobody should call a cache, an axis or a file."""
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 5)))


def as_id(root: Path, name: str) -> None:
    """Take a name for a cache's id."""
    run(ChunkCache(root, name, axis_values={"s": [1]}, verbose=0, durability="fast"), lambda s: s)


def as_axis(root: Path, name: str) -> None:
    """Take a name for an axis, and for a value of it."""
    cache = ChunkCache(root, "axis", axis_values={name: [name]}, verbose=0, durability="fast")
    output, _ = run(cache, lambda **axes: [axes[name][0]])
    assert [name] == output


def as_column(root: Path, name: str) -> None:
    """Take a name for a key of outputs."""
    cache = ChunkCache(
        root, "column", {"params": {"a": name}}, axis_values={"s": [1]}, verbose=0, durability="fast"
    )
    output, _ = run(cache, lambda s: [{name: 1}])
    assert [{name: 1}] == output


def as_hash(root: Path, name: str) -> None:
    """Take a name for that of a chunk's file."""
    hooks: dict[str, Any] = {"chunk_hash_fn": lambda params, key, version: name}
    run(ChunkCache(root, "hash", axis_values={"s": [name]}, verbose=0, durability="fast", **hooks), lambda s: s)


def as_path(root: Path, name: str) -> None:
    """Take a name for a part of a relative path."""
    hooks: dict[str, Any] = {"path_fn": lambda params, key, version, digest: f"mine/{name}/{digest}.h5"}
    run(ChunkCache(root, "path", axis_values={"s": [name]}, verbose=0, durability="fast", **hooks), lambda s: s)


def use_hostile_names(count: int, tmp_path: Path) -> None:
    """Use so many names in all places; nothing outside of the root may come into being."""
    rng = random.Random(count)
    inner = tmp_path / "a" / "b" / "c" / "d" / "e"
    inner.mkdir(parents=True)
    uses: list[Callable[[Path, str], None]] = [as_id, as_axis, as_column, as_hash, as_path]
    refused = 0
    for number in range(count):
        root = inner / f"root{number}"
        try:
            uses[number % len(uses)](root, hostile_name(rng))
        except ChunkMemoError:
            refused += 1
        if number % 50 == 49:
            strangers = [path for path in tmp_path.rglob("*") if not path.is_relative_to(inner)]
            assert {tmp_path / "a", *inner.parents} >= set(strangers)
            assert all(path.name.startswith("root") for path in inner.iterdir())
    assert 0 < refused < count


def test_hostile_names(tmp_path: Path) -> None:
    """Ids, axes, keys, hashes and relative paths: no file outside of the root."""
    use_hostile_names(500, tmp_path)


@pytest.mark.long
def test_many_hostile_names(tmp_path: Path) -> None:
    """The same with 5,000 names."""
    use_hostile_names(NAMES, tmp_path)


@pytest.mark.parametrize("path", ["../../far.h5", "../far.h5", "metadata.json", 3, "a\0b", "/tmp/../etc/x.h5"])
def test_paths_that_leave_the_root(tmp_path: Path, path: Any) -> None:
    """A relative path may not leave the root, nor take the place of what describes the cache."""
    hooks: dict[str, Any] = {"path_fn": lambda params, key, version, digest: path}
    with pytest.raises(SpecError, match=r"path_fn must return .* root"):
        run(ChunkCache(tmp_path / "root", "some", axis_values={"s": [1]}, verbose=0, **hooks), lambda s: s)
    assert not (tmp_path / "far.h5").exists()
