"""Peak memory of ``stream_cache`` over far more outputs than memory should hold."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.apart import TAIL, figures_of
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned

__all__ = ["run", "stream"]

TITLE = "Streaming"
LIMIT = 400e6
CHUNK = 64 << 20

_PROGRAM = (
    """
import sys
import numpy as np
from chunk_memo import ChunkMemo
root, chunks, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memo = ChunkMemo(root, {"x": 1}, {"x": list(range(chunks))}, verbose=0)

@memo.stream_cache(version="1")
def block(x):
    return np.full((len(x), size // 8), x[0], dtype=np.float64)

figures = {"executed": block().executed_points}
"""
    + TAIL
)


def stream(folder: Path, chunks: int, size: int = CHUNK) -> Case:
    """Fill a cache by streaming, in a process of its own.

    Parameters
    ----------
    folder : Path
        An empty folder to work in, on a disk with room for all chunks.
    chunks, size : int
        How many chunks, and bytes in each.

    Returns
    -------
    Case
        Its peak memory in bytes, against what it may take.
    """

    def ours() -> float:
        root = folder / "cache"
        found = figures_of(_PROGRAM, root, chunks, size, timeout=1800)
        assert chunks == found["executed"]
        shutil.rmtree(root)
        return float(found["peak"])

    return Case(
        f"stream_cache over {chunks * size / 1e9:.3g} GB in chunks of {size / 2**20:.0f} MB: peak memory",
        ours,
        (Against("limit", value=LIMIT, bound=1.0),),
        gauge=returned,
        unit="B",
        practice=False,
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure 10 GB; quick: 0.5 GB."""
    return measured(TITLE, [Job(partial(stream, chunks=8 if quick else 150), 1)], folder)
