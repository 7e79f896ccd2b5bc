"""Random SIGKILLs lose nothing that was acknowledged, and cost at most one chunk each; nothing needs a hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from forking import program


def checked(folder: Path, who: str, kills: int, seed: int, timeout: float) -> dict[str, Any]:
    """Kill, and look at the figures."""
    told: dict[str, Any] = program("killing", folder, who, kills, seed, timeout=timeout)
    print(told)
    assert kills == told["kills"]
    assert (0, 0) == (told["lost"], told["wrong"])
    assert told["computed again"] <= kills
    assert told["stored"] >= told["acknowledged"] > kills / 10, "so little was done that kills hit nothing"
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_writers(tmp_path: Path, seed: int) -> None:
    """Over eight writers of one root: 500 kills, twice."""
    checked(tmp_path / "kills", "writers", 500, seed, 280)


def test_driver(tmp_path: Path) -> None:
    """Over a driver with a pool of processes, itself or a worker: 150 kills."""
    told = checked(tmp_path / "kills", "driver", 150, 1, 280)
    assert min(told["driver"], told["worker"]) > 20


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_writers_long(tmp_path: Path, seed: int) -> None:
    """Over eight writers: 10,000 kills in all."""
    checked(tmp_path / "kills", "writers", 1000, seed, 3600)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 14))
def test_driver_long(tmp_path: Path, seed: int) -> None:
    """Over a driver with a pool of processes: 1,000 kills in all."""
    checked(tmp_path / "kills", "driver", 250, seed, 3600)
