"""What type checkers say of decorated functions: each line ends with what is revealed, or with the error's word.

It is checked by tests/test_typing.py, and never run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, reveal_type

import numpy as np
import numpy.typing as npt
import polars as pl

from chunk_memo import ChunkMemo, Diagnostics, SweepFunction

memo = ChunkMemo(axis_values={"x": [0.5, 1.0]})


@memo.cache()
def block(x: list[float], scale: float = 1.0) -> list[float]:
    """Return a list of outputs."""
    return [scale * a for a in x]


@memo.cache
def bare(x: list[float]) -> npt.NDArray[np.float64]:
    """Return an array, under a decorator without parentheses."""
    return np.array(x)


@memo.cache(version="2", on_error="record", map_fn="threads")
def columns(x: list[float]) -> dict[str, npt.NDArray[np.float64]]:
    """Return a dict of arrays, under a decorator with options."""
    return {"y": np.array(x)}


@memo.cache()
def frame(x: list[float]) -> pl.DataFrame:
    """Return a DataFrame."""
    return pl.DataFrame({"y": [2 * a for a in x]})


@memo.cache(vectorize=True)
def point(x: float, scale: float = 1.0) -> float:
    """Return one output."""
    return scale * x


@memo.cache()
def piece(x: list[float]) -> int:
    """Return one piece for all points."""
    return len(x)


def joined(parts: list[Any]) -> str:
    """Merge outputs."""
    return ", ".join(map(str, parts))


@memo.cache(collate_fn=joined)
def collated(x: list[float]) -> list[float]:
    """Return a list, which becomes a text."""
    return [2 * a for a in x]


@memo.stream_cache()
def stored(x: list[float], scale: float = 1.0) -> list[float]:
    """Return a list, which is only stored."""
    return [scale * a for a in x]


@memo.stream_cache
def stored_bare(x: list[float]) -> list[float]:
    """Return a list, which is only stored."""
    return [2 * a for a in x]


class Lab:
    """An object with a decorated method."""

    @memo.cache(ignore=["self"])
    def run(self, x: list[float], scale: float = 1.0) -> list[float]:
        """Return a list of outputs."""
        return [scale * a for a in x]


# Parameters are kept.
reveal_type(block)  # SweepFunction[(x: list[float], scale: float = ...), tuple[list[float], Diagnostics]]
reveal_type(point)  # SweepFunction[(x: float, scale: float = ...), tuple[Any, Diagnostics]]
reveal_type(bare)  # SweepFunction[(x: list[float]), tuple[NDArray[float64], Diagnostics]]
reveal_type(stored)  # SweepFunction[(x: list[float], scale: float = ...), Diagnostics]
reveal_type(stored_bare)  # SweepFunction[(x: list[float]), Diagnostics]
reveal_type(Lab.run(Lab(), [0.5]))  # tuple[list[float], Diagnostics]
reveal_type(block.plan)  # SweepCall[(x: list[float], scale: float = ...), Plan]

# The function itself takes what it says, and nothing else.
reveal_type(block.__wrapped__)  # (x: list[float], scale: float = ...) -> Any
block.__wrapped__([0.5], scale=2.0)
block.__wrapped__([0.5], scale="2")  # error: call
block.__wrapped__([0.5], refresh=True)  # error: call

# What comes back.
reveal_type(block([0.5], scale=2.0))  # tuple[list[float], Diagnostics]
reveal_type(bare([0.5]))  # tuple[NDArray[float64], Diagnostics]
reveal_type(columns([0.5]))  # tuple[dict[str, NDArray[float64]], Diagnostics]
reveal_type(frame())  # tuple[DataFrame, Diagnostics]
reveal_type(point(0.5))  # tuple[Any, Diagnostics]
reveal_type(piece())  # tuple[Any, Diagnostics]
reveal_type(collated())  # tuple[str, Diagnostics]
reveal_type(stored())  # Diagnostics
reveal_type(Lab().run([0.5]))  # tuple[list[float], Diagnostics]
reveal_type(block()[1].executed_points)  # int

# Calls as the library takes them: single values and lists, axes left out, keywords of the call.
reveal_type(block())  # tuple[list[float], Diagnostics]
reveal_type(block(0.5))  # tuple[list[float], Diagnostics]
reveal_type(point(x=[0.5, 1.0], scale=2.0))  # tuple[Any, Diagnostics]
reveal_type(block(x=[3.0], extend_cache=True, refresh=True))  # tuple[list[float], Diagnostics]
reveal_type(block(axis_indices={"x": slice(0, 1)}))  # tuple[list[float], Diagnostics]
reveal_type(block(map_fn="processes", map_fn_kwargs={"workers": 2}))  # tuple[list[float], Diagnostics]
reveal_type(block(params={"scale": 2.0}, observers=[print]))  # tuple[list[float], Diagnostics]

# What it carries.
reveal_type(block.sweep(x=0.5))  # SweepResult
reveal_type(block.cases([{"x": 0.5}], scale=2.0))  # SweepResult
reveal_type(block.cases.plan([(0.5)]))  # Plan
reveal_type(block.sample(10, 1, x=(0.0, 1.0), method="sobol"))  # SweepResult
reveal_type(block.sample.plan(10))  # Plan
reveal_type(block.plan(x=0.5).seconds)  # float | None
reveal_type(block.cache_status())  # CacheStatus
reveal_type(block.cache_for(scale=2.0))  # ChunkCache
reveal_type(block.failures(x=[0.5])[0])  # Failure
reveal_type(block.invalidate(x=0.5))  # int
reveal_type(block.versions())  # Versions
reveal_type(block.accept())  # int
reveal_type(block.explain_identity())  # Explanation
reveal_type(block.__name__)  # str
reveal_type(Lab().run.plan(Lab(), x=0.5))  # Plan

# What is no part of a decorated function, and no option of a decorator.
block.plans()  # error: attribute
memo.cache(vectorise=True)  # error: call
memo.cache(on_code_change="ignore")  # error: call
memo.cache(version=2)  # error: call
block.forget()  # error: call
block.sample()  # error: call
block.cases()  # error: call


# They go where functions go, and have a name in annotations.
def total(of: Callable[..., tuple[list[float], Diagnostics]]) -> float:
    """Add up outputs."""
    return sum(of()[0])


def again(of: SweepFunction[..., tuple[list[float], Diagnostics]]) -> Diagnostics:
    """Compute anew."""
    return of(refresh=True)[1]


total(block)
again(block)
total(columns)  # error: call
