"""A sweep in which some chunks raise and some kill their worker; run by :mod:`test_storm` over the maps."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo import ChunkCache


class Storm:
    """A function over one axis: some values raise, some kill the process, until the weather clears."""

    def __init__(self, folder: Path, chunks: int, raising: int, killing: int) -> None:
        self.calm = str(folder / "calm")
        self.log = str(folder / "log")
        order = np.random.default_rng(chunks).permutation(chunks).tolist()
        self.raising = frozenset(order[:raising])
        self.killing = frozenset(order[raising : raising + killing])
        self.cache = ChunkCache(
            folder / "root", "storm", {}, {"x": 1}, {"x": list(range(chunks))}, verbose=0, name="storm"
        )

    def __call__(self, x: list[int]) -> list[int]:
        """Return the squares, or fail."""
        (value,) = x
        if not os.path.exists(self.calm):
            if value in self.raising:
                raise ValueError(f"no {value}")
            if value in self.killing:
                os.kill(os.getpid(), signal.SIGKILL)
        else:
            handle = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            os.write(handle, f"{value}\n".encode())
            os.close(handle)
        return [value * value]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache behind."""
        return {**self.__dict__, "cache": None}

    def clear(self) -> None:
        """Let nothing fail from now on, and note each call."""
        Path(self.calm).touch()

    def calls(self) -> list[int]:
        """Return the values of the calls since the weather cleared, sorted."""
        path = Path(self.log)
        return sorted(map(int, path.read_text().split())) if path.exists() else []
