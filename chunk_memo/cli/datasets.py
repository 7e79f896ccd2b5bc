"""``chunk-memo convert``, ``query``, ``rollup`` and ``export``: datasets of rows, from the shell."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from chunk_memo.tables.convert import Converted

__all__ = ["convert", "describe_dataset", "describe_datasets", "export", "query", "rollup"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_OUT = click.Path(file_okay=False, path_type=Path)


def _told(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a command say on standard error, by one line, how to install a package that is missing."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return command(*args, **kwargs)
        except ImportError as error:
            raise click.ClickException(str(error)) from error

    return wrapped


@click.command()
@click.argument("csv_dir", type=_FOLDER)
@click.argument("out", type=_OUT)
@click.option("--granularity", type=click.Choice(["seed", "event"]), default="seed", show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what would be converted, and write nothing.")
@click.option("--folder", type=_FOLDER, help="Convert only the files directly in this folder below CSV_DIR.")
@_told
def convert(csv_dir: Path, out: Path, granularity: str, dry_run: bool, folder: Path | None) -> None:
    """Convert the CSV files below CSV_DIR to Parquet in OUT, those that are new or have changed.

    Files that cannot be read are listed on standard error, and the others are converted.

    Exit codes: 0 all went well, also where some files were skipped; 1 no file could be converted; 2 CSV_DIR is no
    folder.
    """
    from chunk_memo.tables.convert import convert_csv_to_parquet

    done = convert_csv_to_parquet(csv_dir, out, granularity, dry_run=dry_run, folder=folder)
    if dry_run:
        for path in done.converted:
            click.echo(f"would convert {path}")
    _tell(done)
    click.echo(str(done))


def _tell(done: Converted) -> None:
    """Name the files that were skipped; where nothing else was there, that is an error."""
    for each in done.skipped:
        click.echo(f"skipped {each.path}: {each.reason}", err=True)
    if done.skipped and not (done.converted or done.up_to_date or done.empty):
        raise click.ClickException(f"none of the {len(done.skipped)} CSV files could be converted")


@click.command()
@click.argument("base_out", type=_FOLDER)
@click.argument("table", type=click.Choice(["seeds", "events", "seeds_summary", "events_summary", "rollups"]))
@click.option("--where", metavar="SQL", help='A condition, such as "loss < 0.1", or one whole SELECT.')
@click.option("--limit", type=click.IntRange(min=0), help="The most rows.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a .csv, .json or .parquet."
)
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", help="How rows are printed."
)
@_told
def query(
    base_out: Path, table: str, where: str | None, limit: int | None, output: Path | None, form: str
) -> None:
    """Print rows of TABLE of the datasets in BASE_OUT.

    Exit codes: 0 all went well, also where no row was found; 1 the query was refused; 2 BASE_OUT is no folder.
    """
    from chunk_memo.tables import queries

    suffixes = {".csv": "csv", ".json": "json", ".parquet": "parquet"}
    if output is not None and output.suffix not in suffixes:
        raise click.BadParameter(f"'{output}' must end in .csv, .json or .parquet", param_hint="'--output'")
    connection = queries.create_connection_and_views(base_out)
    rows = queries.query(connection, table, where, limit, returns="arrow")
    if output is not None:
        _write(rows, output, suffixes[output.suffix])
        click.echo(f"{rows.num_rows:,} rows written to {output}")
        return
    click.echo(_shown(rows, form))


def _shown(rows: Any, form: str) -> str:
    if form == "csv":
        return str(rows.to_pandas().to_csv(index=False)).rstrip("\n")
    if form == "json":
        return "\n".join(json.dumps(row, default=str) for row in rows.to_pylist())
    count = f"{rows.num_rows:,} row{'' if rows.num_rows == 1 else 's'}"
    return f"{rows.to_pandas().to_string(index=False)}\n{count}" if rows.num_rows else count


def _write(rows: Any, output: Path, form: str) -> None:
    if form == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(rows, output)
    else:
        output.write_text(_shown(rows, form) + "\n", encoding="utf-8")


def describe_dataset(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe one dataset of rows, such as the export of a cache.

    Parameters
    ----------
    path : Path
        Its folder.

    Returns
    -------
    document : dict
        What JSON can hold.
    lines : list of str
        The same as text.
    """
    from chunk_memo.tables.dataset import Dataset
    from chunk_memo.tables.queries import info_of

    found = info_of(Dataset(path).contents())
    return found, [str(path), *_lines_of("rows", found)]


def describe_datasets(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe the datasets of a folder: seeds, events, rollups and grids.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    document : dict
        What JSON can hold.
    lines : list of str
        The same as text.
    """
    from chunk_memo.tables.queries import folder_info

    found = folder_info(path)
    lines = [str(path)]
    for name, held in found.items():
        if isinstance(held, dict):
            lines += _lines_of(name, held)
    lines.append(f"grids: {found['grids']:,} parameter set{'' if found['grids'] == 1 else 's'}")
    lines.append(f"views: {', '.join(found['views']) or 'none'}")
    return found, lines


def _lines_of(name: str, held: Mapping[str, Any]) -> Iterator[str]:
    by = f", partitioned by {', '.join(held['partition_by'])}" if held["partition_by"] else ""
    yield f"{name}: {held['rows']:,} in {held['files']:,} files{by}; written {held['updated_at'][:19]}Z"
    for column, kind in held["columns"].items():
        yield f"    {column}  {kind}"


@click.command()
@click.option("--csv-dir", type=_FOLDER, help="The folder of the CSV sweep.")
@click.option("--base-out", type=_OUT, default=Path("parquet_out"), show_default=True, help="Where datasets lie.")
@click.option("--granularity", type=click.Choice(["seed", "event", "both"]), default="seed", show_default=True)
@click.option("--cores", type=click.IntRange(min=1), help="Run the Snakemake workflow on so many cores.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--aggregate-only", is_flag=True, help="Convert nothing; sum up the seeds that are there.")
@click.option("--snakefile", is_flag=True, help="Print the path of the Snakemake workflow, for snakemake -s.")
@_told
def rollup(
    csv_dir: Path | None,
    base_out: Path,
    granularity: str,
    cores: int | None,
    dry_run: bool,
    aggregate_only: bool,
    snakefile: bool,
) -> None:
    """Convert what is new of a CSV sweep, and sum its seeds up by grid.

    Without --cores it runs here; with it, by Snakemake, one job for each folder of CSV files.

    Exit codes: 0 all went well; 1 something went wrong; 2 the command was wrong.
    """
    from chunk_memo.tables import rollups as home

    if snakefile:
        click.echo(str(home.workflow_path()))
        return
    if aggregate_only:
        grids, known = home.aggregate(base_out)
        click.echo(str(home.RolledUp((), grids, known)))
        return
    if csv_dir is None:
        raise click.UsageError("give the folder of the CSV sweep: --csv-dir results/")
    if cores is not None:
        home.run_workflow(csv_dir, base_out, granularity, cores=cores, dry_run=dry_run)
        return
    done = home.rollup(csv_dir, base_out, granularity, dry_run=dry_run)
    for each in done.converted:
        _tell(each)
    click.echo(str(done))


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_OUT)
@click.option("--partition-by", multiple=True, metavar="COLUMN", help="A partition column; may be repeated.")
@_told
def export(source: Path, out: Path, partition_by: tuple[str, ...]) -> None:
    """Export SOURCE, a cache or a folder of caches, as a tidy Parquet dataset; the next time only what is new.

    Exit codes: 0 all went well; 1 something went wrong; 2 SOURCE is no folder.
    """
    from chunk_memo.tables.parquet import export_root

    done = export_root(source, out, partition_by)
    click.echo(
        f"{done.chunks:,} chunks written ({done.rows:,} rows in {done.files:,} files),"
        f" {done.chunks_known:,} up to date"
    )
