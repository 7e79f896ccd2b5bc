"""``python -m benchmarks``: measure everything, print the machine and a table of ratios."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cases import cold_write, one_point, warm_read
from benchmarks.report import as_json, machine, table
from benchmarks.timing import Case, Result, measure

GRID = (1000, 1000)

# How to make each case in a folder, and how often to time it.
CASES: tuple[tuple[Callable[[Path], Case], int], ...] = (
    (lambda folder: warm_read(folder, GRID, (100, 100)), 15),
    (lambda folder: warm_read(folder, GRID, (100, 10)), 15),
    (lambda folder: warm_read(folder, GRID, (10, 10)), 7),
    (lambda folder: cold_write(folder, chunks=1000, points=1000), 5),
    (lambda folder: one_point(folder, GRID, (1, 1000)), 1001),
)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked to.

    Parameters
    ----------
    words : sequence of str, optional
        The command line's arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--dir", type=Path, help="work below this folder (default: the system's)")
    arguments = parser.parse_args(words)

    results: list[Result] = []
    for make, repeats in CASES:
        with tempfile.TemporaryDirectory(prefix="chunk-memo-", dir=arguments.dir) as folder:
            results.append(measure(make(Path(folder)), repeats))
    print(f"{machine()}\n\n{table(results)}")
    if arguments.json:
        arguments.json.write_text(as_json(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
