"""What it costs to import chunk_memo, and what reading a warm cache imports."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.apart import figures_of
from benchmarks.grids import filled
from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned

__all__ = ["HEAVY", "heavy_imports", "import_time", "run"]

TITLE = "Imports"
HEAVY = ("h5py", "joblib")
"""What reading does without."""

_IMPORT = """
import json, time
start = time.perf_counter()
{statement}
print(json.dumps({{"seconds": time.perf_counter() - start}}))
"""

_READ = """
import json, pathlib, sys
from benchmarks.grids import sweep_over
output, diagnostics = sweep_over(pathlib.Path(sys.argv[1]), (20, 20), (10, 10))()
assert diagnostics.executed_points == 0
print(json.dumps({"heavy": len(set(sys.argv[2:]) & set(sys.modules))}))
"""


def import_time(folder: Path, statement: str) -> Case:
    """Import in fresh processes, all modules compiled and in the page cache.

    Parameters
    ----------
    folder : Path
        An empty folder, for the compiled modules.
    statement : str
        What is measured.

    Returns
    -------
    Case
        Against ``import numpy``.
    """

    def seconds(what: str) -> float:
        return float(figures_of(_IMPORT.format(statement=what), compiled=folder)["seconds"])

    against = Against("import numpy", partial(seconds, "import numpy"), bound=1.6)
    return Case(statement, partial(seconds, statement), (against,), gauge=returned)


def heavy_imports(folder: Path) -> Case:
    """Count which of `HEAVY` a process imports that reads a warm cache by a decorated call."""
    filled(folder / "cache", (20, 20), (10, 10))

    def ours() -> float:
        return float(figures_of(_READ, folder / "cache", *HEAVY)["heavy"])

    names = " and ".join(HEAVY)
    return Case(
        f"of {names}, imported by a warm call",
        ours,
        (Against("none", value=0.0, bound=0.0),),
        gauge=returned,
        unit="",
    )


def run(folder: Path, quick: bool) -> Section:
    """Measure 20 processes each; quick: 3."""
    statements = ("import chunk_memo", "from chunk_memo import ChunkMemo")
    jobs = [Job(partial(import_time, statement=each), 3 if quick else 20) for each in statements]
    return measured(TITLE, [*jobs, Job(heavy_imports, 1)], folder)
