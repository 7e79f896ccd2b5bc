"""Caches that do not fit into memory: they open at once, and Dask goes through them chunk by chunk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import ChunkMemo

CHUNK = {"x": 1000, "y": 2000}
"""16 MB of numbers."""

MOST = 500
"""Megabytes that a program may take that computes a mean through Dask; without a cache it takes some 160."""

SCRIPT = """
import json
import sys

import dask
import xarray as xr

import chunk_memo


def peak():
    '''Return the most memory that this program held, in MB.

    ru_maxrss counts what the program held that this one was forked from, so Linux is asked for that of this one.
    '''
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1000


folder, how = sys.argv[1:]
if how == "engine":
    dataset = xr.open_dataset(folder, engine="chunk_memo", chunks={})
else:
    (listed,) = chunk_memo.open(folder.rsplit("/", 1)[0])
    dataset = listed.to_xarray(chunks={})
opened = peak()
with dask.config.set(scheduler="threads", num_workers=2):
    mean = dataset["field"].mean("x").compute()
report = {"bytes": dataset.nbytes, "opened": opened, "peak": peak(), "first": mean.values[:5].tolist()}
print(json.dumps({**report, "last": float(mean.sel(y=mean["y"][-1])), "points": mean.size}))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((12_000, 11_000), id="1 GB"),
        pytest.param((50_000, 50_000), id="20 GB", marks=[pytest.mark.long]),
    ],
)
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[Path, int, int]]:
    """Return the folder of a cache that holds x + 2 y at each point, and the lengths of its axes."""
    size, width = request.param
    root = Path(tempfile.mkdtemp())  # not one of those that pytest keeps
    try:
        needed = 1.1 * size * width * 8
        if shutil.disk_usage(root).free < needed:
            pytest.skip(f"{needed / 1e9:.0f} GB of disk are needed in '{root}'")
        axes = {"x": list(range(size)), "y": list(range(width))}
        memo = ChunkMemo(root, CHUNK, axes, verbose=0, durability="fast")

        @memo.stream_cache(version="1", name="field")
        def field(x: list[int], y: list[int]) -> Any:
            return np.add.outer(np.array(x, float), 2.0 * np.array(y))

        assert size * width == field().executed_points
        yield field.cache_for().path, size, width
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("how", ["engine", "open"])
def test_a_mean_through_dask_takes_little_memory(filled: tuple[Path, int, int], how: str, tmp_path: Path) -> None:
    """A cache larger than memory allows opens lazily, and its mean along an axis takes less than 500 MB."""
    folder, size, width = filled
    script = tmp_path / "mean.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, folder, how], check=True, capture_output=True, text=True, timeout=1800
    )
    report = json.loads(done.stdout)
    print(f"{how}: {report}")
    assert size * width * 8 <= report["bytes"]
    assert 2 * MOST * 1e6 < report["bytes"]
    assert [(size - 1) / 2 + 2.0 * y for y in range(5)] == report["first"]
    assert (width, (size - 1) / 2 + 2.0 * (width - 1)) == (report["points"], report["last"])
    assert report["opened"] < 300
    assert report["peak"] < MOST
