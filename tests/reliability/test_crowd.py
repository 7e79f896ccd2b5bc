"""Many processes in one root, each doing whatever it wants: nothing wrong, and no error reaches anybody."""

from __future__ import annotations

from pathlib import Path

import pytest
from forking import program


def checked(folder: Path, processes: int, seconds: float, timeout: float) -> None:
    """Let them live, and look at the figures."""
    told = program("crowding", folder, processes, seconds, timeout=timeout)
    print(told)
    assert (0, 0) == (told["wrong"], told["errors"])
    assert told["writes"] > processes
    assert told["reads"] > 0


def test_crowd(tmp_path: Path) -> None:
    """32 processes for 8 seconds."""
    checked(tmp_path / "crowd", 32, 8, 280)


@pytest.mark.long
def test_crowd_long(tmp_path: Path) -> None:
    """32 processes for 60 seconds."""
    checked(tmp_path / "crowd", 32, 60, 900)
