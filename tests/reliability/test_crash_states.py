"""Whatever a power cut leaves: ``full`` loses nothing that was acknowledged, ``fast`` serves nothing bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from forking import program


@pytest.mark.parametrize("durability", ["full", "fast"])
@pytest.mark.parametrize("seed", [1, 2])
def test_states(tmp_path: Path, durability: str, seed: int) -> None:
    """2,600 different states each, so more than 10,000 in all: prefixes, dropped, reordered and torn writes."""
    told = program("crashing", tmp_path / "store", durability, 2600, seed)
    print(durability, told)
    assert 2600 == told["states"]


@pytest.mark.parametrize("kind", ["folders", "files"])
def test_a_missing_sync_would_be_seen(tmp_path: Path, kind: str) -> None:
    """Without the syncs of folders, or of files, acknowledged points are found to be lost."""
    with pytest.raises(AssertionError, match="acknowledged points are lost"):
        program("crashing", tmp_path / "store", "full", 2000, 1, kind)


@pytest.mark.long
@pytest.mark.parametrize("durability", ["full", "fast"])
@pytest.mark.parametrize("seed", range(10, 15))
def test_states_long(tmp_path: Path, durability: str, seed: int) -> None:
    """100,000 states in all."""
    assert 10_000 == program("crashing", tmp_path / "store", durability, 10_000, seed, timeout=3600)["states"]
