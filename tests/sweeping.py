"""A sweep function that counts its calls, as the state machine and its subprocesses run it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo import ChunkMemo

Point = tuple[Any, Any, Any]


def value(kind: str, scale: Any, x: Any, y: Any) -> Any:
    """Return the output of one point, evaluated directly."""
    number = float(sum(map(ord, f"{scale!r}{x!r}{y!r}")))
    if kind == "grid":
        return number
    if kind == "dicts":
        return {"x": x, "y": y, "number": number, "text": f"{x!r}/{y!r}"}
    mixed: list[Any] = [number, None, f"{x!r}", {"a": x}, [y, number], (x,), np.arange(3) * number]
    return mixed[int(number) % len(mixed)]


def sweep(kind: str, calls: list[Point], *, vectorize: bool) -> Callable[..., Any]:
    """Return a sweep function that notes each point that it computes."""

    def one(scale: Any, x: Any, y: Any) -> Any:
        calls.append((scale, x, y))
        return value(kind, scale, x, y)

    def block(scale: Any, x: Any, y: Any) -> Any:
        outputs = [one(scale, a, b) for a in x for b in y]
        return np.array(outputs).reshape(len(x), len(y)) if kind == "grid" else outputs

    return one if vectorize else block


def decorated(
    root: str | Path,
    calls: list[Point],
    *,
    kind: str,
    xs: list[Any],
    ys: list[Any],
    spec: dict[str, int],
    vectorize: bool = False,
) -> Any:
    """Return the decorated sweep function; its identity is the same for every grid and form."""
    memo = ChunkMemo(root, spec, {"x": xs, "y": ys}, verbose=0, durability="fast")
    function = sweep(kind, calls, vectorize=vectorize)
    return memo.cache(version="1", name="f", vectorize=vectorize)(function)


def flat(output: Any) -> list[Any]:
    """Return a result as a list in the order asked."""
    if not isinstance(output, np.ndarray):
        return list(output)
    rows = output.reshape(-1, *output.shape[2:])
    return list(rows.tolist()) if rows.ndim == 1 else list(rows)


def main() -> None:
    """Run one request in a process of its own; print what it computed and returned."""
    setup, scale, request = ast.literal_eval(sys.stdin.read())
    calls: list[Point] = []
    function = decorated(calls=calls, **setup)
    output, diagnostics = function(scale, **request)
    sys.stdout.write(repr((calls, repr(flat(output)), diagnostics.executed_points)))


if __name__ == "__main__":
    main()
