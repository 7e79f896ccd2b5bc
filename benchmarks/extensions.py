"""``python -m benchmarks.extensions``: what one more value costs a cache that has grown by many, one by one."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.report import machine, table
from benchmarks.timing import Case, measure
from chunk_memo import ChunkMemo

__all__ = ["one_more_value"]


class _Grown:
    """A cache that grew by one value at a time."""

    def __init__(self, root: Path, count: int) -> None:
        memo = ChunkMemo(root, {"x": 10}, {"x": [-1]}, verbose=0, durability="fast")
        self._sweep = memo.cache(version="1", name="double")(lambda x: np.multiply(x, 2.0))
        self._values = itertools.count()
        for _ in range(count):
            self.extend()

    def extend(self) -> np.ndarray:
        """Ask for a value that the axis does not have yet."""
        output, diagnostics = self._sweep(x=next(self._values), extend_cache=True)
        assert diagnostics.executed_points == 1
        return np.asarray(output)


def one_more_value(folder: Path, few: int, many: int) -> Case:
    """Extend a cache by one value after many extensions, against the same after few.

    Parameters
    ----------
    folder : Path
        An empty folder to work in.
    few, many : int
        How often each cache was extended before.

    Returns
    -------
    Case
        Both ways.
    """
    young, old = _Grown(folder / "young", few), _Grown(folder / "old", many)
    return Case(
        f"one more value after {many:,} extensions by one value",
        old.extend,
        f"the same after {few}",
        young.extend,
    )


def main() -> None:
    """Measure and print; the number of extensions may be given."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="chunk-memo-") as folder:
        result = measure(one_more_value(Path(folder), 100, many), 257)  # several unions of layouts among them
    print(f"{machine()}\n\n{table([result])}")


if __name__ == "__main__":
    main()
