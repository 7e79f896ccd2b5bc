"""Rollups: a CSV sweep converted, and its seeds summed up by grid, of both only what is new.

``<base_out>/rollups`` has a row for each ``grid_id``: how many seeds there are, and of each number of theirs the
mean, the standard deviation (of the sample), the smallest and the largest. A row is made anew when the files of
its seeds have changed. The Snakemake workflow beside this module calls the same functions, one job for each
folder of CSV files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from chunk_memo.errors import SpecError, TableError
from chunk_memo.tables.convert import GRANULARITIES, Converted, convert_csv_to_parquet, csv_files
from chunk_memo.tables.dataset import Dataset, Update, arrow_of
from chunk_memo.tables.filters import locked
from chunk_memo.tables.grids import GRID_ID
from chunk_memo.tables.hive import segment
from chunk_memo.tables.needs import needed
from chunk_memo.tables.queries import summary_of

pa = needed("pyarrow")

__all__ = ["RolledUp", "aggregate", "rollup", "run_workflow", "workflow_folders", "workflow_path"]


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What one rollup did.

    Examples
    --------
    >>> print(RolledUp((Converted("seed", ("a.csv",), rows=1),), grids=1, grids_known=3))
    1 file converted to 1 seed row; 1 grid summed up, 3 up to date
    """

    converted: tuple[Converted, ...]
    """The conversions, one for each granularity."""
    grids: int = 0
    """Number of grids summed up."""
    grids_known: int = 0
    """Number of grids whose seeds have not changed."""

    def __str__(self) -> str:
        """Return the numbers in one line."""
        grids = f"{self.grids} grid{'' if self.grids == 1 else 's'} summed up, {self.grids_known} up to date"
        return "; ".join([*map(str, self.converted), grids])


def rollup(
    csv_dir: str | os.PathLike[str],
    base_out: str | os.PathLike[str],
    granularity: str = "seed",
    *,
    dry_run: bool = False,
) -> RolledUp:
    r"""Convert what is new of a CSV sweep, and sum up what has changed.

    Parameters
    ----------
    csv_dir : path-like
        The folder of the sweep.
    base_out : path-like
        The folder of the datasets.
    granularity : {"seed", "event", "both"}
        Whether events are kept, too; grids are summed up from seeds.
    dry_run : bool, default False
        Whether to tell only.

    Returns
    -------
    RolledUp
        What was done.

    Raises
    ------
    SpecError
        Where the granularity is another.
    FileNotFoundError
        Where there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> sweep, out = Path(tempfile.mkdtemp()), tempfile.mkdtemp()
    >>> for seed in (1, 2):
    ...     _ = (sweep / f"seed_{seed}_sgd.csv").write_text(f"op,regret\ninsert,{seed / 2}\n")
    >>> print(rollup(sweep, out))
    2 files converted to 2 seed rows; 1 grid summed up, 0 up to date
    """
    done = [
        convert_csv_to_parquet(csv_dir, base_out, each, dry_run=dry_run) for each in _granularities(granularity)
    ]
    grids, known = (0, 0) if dry_run else aggregate(base_out)
    return RolledUp(tuple(done), grids, known)


def _granularities(granularity: str) -> tuple[str, ...]:
    if granularity == "both":
        return GRANULARITIES
    if granularity not in GRANULARITIES:
        raise SpecError(f"granularity must be 'seed', 'event' or 'both', got {granularity!r}")
    return (granularity,)


def aggregate(base_out: str | os.PathLike[str]) -> tuple[int, int]:
    """Sum up the seeds of each grid, where its files have changed.

    Parameters
    ----------
    base_out : path-like
        The folder of the datasets.

    Returns
    -------
    tuple of int, int
        Number of grids summed up, and of grids that were up to date.
    """
    base = os.path.abspath(base_out)
    seeds, target = Dataset(f"{base}/seeds"), Dataset(f"{base}/rollups")
    contents = seeds.contents()
    if contents.schema is None or GRID_ID not in contents.schema.names:
        return 0, 0
    if GRID_ID not in (contents.partition_by or ()):
        raise TableError(f"'{base}/seeds' is not partitioned by grid_id, so that a grid's files cannot be told")
    depth = (contents.partition_by or ()).index(GRID_ID)
    files: dict[str, list[str]] = {}
    for path in contents.files:
        files.setdefault(path.split("/")[depth], []).append(path)
    columns = xxh3_64_hexdigest(str(contents.schema).encode())
    sources = {
        grid: (columns, xxh3_64_hexdigest("\n".join(sorted(paths)).encode())) for grid, paths in files.items()
    }
    counts = 0, 0

    def change(update: Update) -> None:
        nonlocal counts
        known = update.contents.groups
        stale = [grid for grid, made in sources.items() if grid not in known or known[grid].sources != made]
        for name in [grid for grid in known if grid not in sources]:
            update.drop(name)
        for grid, table in _summed_up(seeds, contents, {grid: files[grid] for grid in stale}).items():
            update.add(table, [GRID_ID], widen=True, group=grid, sources=sources[grid])
        counts = len(stale), len(sources) - len(stale)

    target.update(change)
    return counts


def _summed_up(seeds: Dataset, contents: Any, files: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the row of each grid, by its folder."""
    if not files:
        return {}
    keys = [name for name in contents.partition_by if name != "seed"]
    with locked(seeds.path) as connection:
        source = seeds.sql(contents, [path for paths in files.values() for path in paths])
        connection.execute(f"CREATE VIEW seeds AS {source}")
        table = arrow_of(connection.sql(summary_of(connection, "seeds", keys)))
    grids = table.column(GRID_ID).to_pylist()
    found: dict[str, Any] = {}
    for number, grid_id in enumerate(grids):
        row = table.slice(number, 1)
        name = segment(GRID_ID, grid_id)
        found[name] = row if name not in found else pa.concat_tables([found[name], row])
    return found


# --- the workflow ------------------------------------------------------------------------------------------


def workflow_path() -> Path:
    """Return the path of the Snakefile that this package brings; ``config.yaml`` lies beside it.

    Returns
    -------
    Path
        For ``snakemake -s``.

    Examples
    --------
    >>> workflow_path().name
    'Snakefile'
    """
    return Path(__file__).parent / "workflow" / "Snakefile"


def workflow_folders(csv_dir: str | os.PathLike[str], base_out: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return the jobs of the workflow: the folders that hold CSV files, each with its files.

    Parameters
    ----------
    csv_dir : path-like
        The folder of the sweep.
    base_out : path-like
        The folder of the datasets, which is passed over.

    Returns
    -------
    dict of str to list of str
        Files by the relative path of their folder.
    """
    found: dict[str, list[str]] = {}
    top = os.path.abspath(csv_dir)
    for path in csv_files(csv_dir, base_out):
        found.setdefault(os.path.relpath(os.path.dirname(path), top), []).append(path)
    return found


def run_workflow(
    csv_dir: str | os.PathLike[str],
    base_out: str | os.PathLike[str],
    granularity: str = "seed",
    *,
    cores: int = 1,
    dry_run: bool = False,
) -> None:
    """Run the Snakemake workflow that this package brings.

    Parameters
    ----------
    csv_dir : path-like
        The folder of the sweep.
    base_out : path-like
        The folder of the datasets.
    granularity : {"seed", "event", "both"}
        As in :func:`rollup`.
    cores : int, default 1
        How many folders are converted at the same time.
    dry_run : bool, default False
        Whether to tell only.

    Raises
    ------
    ImportError
        Where Snakemake is not installed.
    TableError
        Where the workflow failed; what it says stands on standard error.
    """
    _granularities(granularity)
    csv_files(csv_dir)
    needed("snakemake", "snakemake")
    base = os.path.abspath(base_out)
    os.makedirs(base, exist_ok=True)
    config = {"csv_dir": os.path.abspath(csv_dir), "base_out": base, "granularity": granularity}
    command = [sys.executable, "-m", "snakemake", "-s", str(workflow_path()), "--cores", str(cores)]
    command += ["--directory", base, "--config", *(f"{name}={value}" for name, value in config.items())]
    command += ["--dry-run"] if dry_run else []
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise TableError(f"the workflow ended with code {done.returncode}; Snakemake says above what went wrong")
