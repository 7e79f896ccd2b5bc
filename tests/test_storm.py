"""Chunks that raise and chunks that kill their worker cost themselves, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clusters
import pytest
from storm import Storm

from chunk_memo import FailureWarning, run


@contextlib.contextmanager
def engine(name: str) -> Iterator[Any]:
    """Start what a map needs; give its keywords."""
    if name == "dask":
        with clusters.dask_client():
            yield {}
    elif name == "ray":
        with clusters.ray_started():
            yield {}
    else:
        yield {"n_jobs": 2} if name == "joblib" else {"workers": 2}


def weather(folder: Path, name: str, chunks: int, raising: int, killing: int) -> None:
    """Run a sweep through a storm, and once more when it has cleared."""
    storm = Storm(folder, chunks, raising, killing)
    with engine(name) as kwargs:
        with pytest.warns(FailureWarning, match=f"{raising + killing} points of 'storm' failed"):
            output, done = run(storm.cache, storm, map_fn=name, map_fn_kwargs=kwargs, on_error="record")
        # What a worker had stored before it died came without a receipt, and was found.
        assert chunks - raising - killing == done.executed_points + done.cached_points
        assert raising + killing == done.failed_points
        failures = storm.cache.failures()
        causes = {int(failure.arguments["x"][0]): failure.cause for failure in failures}
        expected = dict.fromkeys(storm.raising, "raised") | dict.fromkeys(storm.killing, "killed")
        assert expected == causes
        assert all(f"no {f.arguments['x'][0]}" in f.traceback for f in failures if f.cause == "raised")
        assert all(
            "SIGKILL" in f.message or "died" in f.message or "worker" in f.message
            for f in failures
            if f.cause == "killed"
        )
        assert [value * value for value in range(chunks) if value not in expected] == [
            each for each in output if each is not None and not hasattr(each, "failure")
        ]
        storm.clear()
        output, done = run(storm.cache, storm, map_fn=name, map_fn_kwargs=kwargs, on_error="record")
    assert [value * value for value in range(chunks)] == output
    assert sorted(expected) == storm.calls()
    assert [] == list(storm.cache.failures())


@pytest.mark.parametrize("name", ["processes", "joblib", "dask", "ray"])
def test_a_storm(tmp_path: Path, name: str) -> None:
    """The others are stored, all failures are listed, and the next run computes those alone."""
    weather(tmp_path, name, 60, 3, 1)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["processes", "joblib", "dask", "ray"])
def test_a_storm_long(tmp_path: Path, name: str) -> None:
    """The same with 1,000 chunks, of which 50 raise and 20 kill."""
    weather(tmp_path, name, 1000, 50, 20)
