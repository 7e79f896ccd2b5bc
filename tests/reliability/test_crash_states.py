"""Whatever a power cut leaves: ``full`` loses nothing that was acknowledged, ``fast`` serves nothing bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from forking import program


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("durability", ["full", "fast"])
def test_states(tmp_path: Path, durability: str, seed: int) -> None:
    """1,300 different states of each of eight sessions, 10,400 in all: prefixes, dropped, reordered, torn."""
    told = program("crashing", tmp_path / "store", durability, 1300, seed)
    print(durability, told)
    assert 1300 == told["states"]


@pytest.mark.parametrize("kind", ["folders", "files"])
def test_a_missing_sync_would_be_seen(tmp_path: Path, kind: str) -> None:
    """Without the syncs of folders, or of files, acknowledged points are found to be lost."""
    with pytest.raises(AssertionError, match="acknowledged points are lost"):
        program("crashing", tmp_path / "store", "full", 2000, 1, kind)


@pytest.mark.long
@pytest.mark.parametrize("durability", ["full", "fast"])
@pytest.mark.parametrize("seed", range(10, 50))
def test_states_long(tmp_path: Path, durability: str, seed: int) -> None:
    """104,000 states of 80 sessions."""
    assert 1300 == program("crashing", tmp_path / "store", durability, 1300, seed, timeout=3600)["states"]
