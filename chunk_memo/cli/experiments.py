"""``chunk-memo experiments``: what an experiment database holds, compared, exported and merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select

from chunk_memo.cli.saving import save_results, saving_option
from chunk_memo.display.history import size_text, table_lines
from chunk_memo.lab import owntables
from chunk_memo.lab.database import ExperimentDatabase
from chunk_memo.lab.engines import DatabaseConfig, connect, is_url, shown
from chunk_memo.lab.models import ExperimentModel, SimulationModel
from chunk_memo.plainjson import plain

__all__ = ["experiments"]

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_of = click.option("--experiment", metavar="ID", help="The experiment; needed where DB holds several.")
_db = click.argument("db", metavar="DB")


@click.group()
def experiments() -> None:
    """Look into experiment databases; DB is a file, or the URL of a server."""


@experiments.command()
@_db
@_as_json
@saving_option
def ls(db: str, as_json: bool, save_to: Path | None) -> None:
    """List the experiments in DB, with their numbers of simulations.

    Exit codes: 0 all went well; 1 DB is no experiment database; 2 there is no DB.
    """
    rows = _experiments(db)
    save_results(save_to, rows, {"db": db})
    if as_json:
        click.echo(_text(rows))
        return
    cells = [
        (
            row["experiment_id"],
            row["status"],
            f"{row['simulations']:,}",
            f"{row['completed']:,}",
            f"{row['failed']:,}",
            row["creation_date"].isoformat()[:19],
        )
        for row in rows
    ]
    head = ("experiment", "status", "simulations", "completed", "failed", "created (UTC)")
    click.echo("\n".join(table_lines(head, cells, left=(0, 1, 5))))


@experiments.command()
@_db
@_of
@_as_json
@saving_option
def show(db: str, experiment: str | None, as_json: bool, save_to: Path | None) -> None:
    """Show one experiment of DB: its simulations with status, parameters and results, and its size.

    Exit codes: 0 all went well; 1 DB is no experiment database; 2 there is no DB, or no such experiment.
    """
    with _opened(db, experiment) as opened:
        table = opened.simulations().reset_index()
        # A missing value is no column of this row: pandas fills the rows up.
        rows = [
            {key: value for key, value in row.items() if not _is_missing(value)}
            for row in table.astype(object).to_dict("records")
        ]
        counts, size = _counts(opened), opened.size()
        found = {
            "experiment_id": opened.experiment_id,
            "bytes": size,
            "rows": counts,
            "simulations": rows,
        }
    save_results(save_to, rows, {"db": db, "experiment_id": found["experiment_id"]})
    if as_json:
        click.echo(_text(found))
        return
    click.echo(f"{opened.experiment_id}: {len(rows)} simulations, {size_text(size)} in '{db}'")
    click.echo("rows  " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count))
    cells = [
        (row["simulation_id"], row["status"], _seconds(row), _pairs(row, "parameters."), _pairs(row, "results."))
        for row in rows
    ]
    head = ("simulation", "status", "seconds", "parameters", "results")
    click.echo("\n".join(table_lines(head, cells, left=(0, 1, 3, 4))))


@experiments.command()
@_db
@click.argument("metric")
@_of
@click.option("--last", is_flag=True, help="Only the last value of each simulation.")
@_as_json
@saving_option
def compare(
    db: str, metric: str, experiment: str | None, last: bool, as_json: bool, save_to: Path | None
) -> None:
    """Compare METRIC over the simulations of an experiment; one column for each.

    Exit codes: 0 all went well; 1 no simulation has METRIC; 2 there is no DB, or no such experiment.
    """
    with _opened(db, experiment) as opened:
        table = opened.compare_simulations(metric, last=last)
    rows = table.reset_index().to_dict("records")
    save_results(save_to, rows, {"db": db, "metric": metric})
    click.echo(_text(rows) if as_json else table.to_string())


@experiments.command()
@_db
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_of
@click.option("--simulation", "ids", metavar="ID", multiple=True, help="Only this one; may be repeated.")
@click.option("--format", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@_as_json
def export(
    db: str, directory: Path, experiment: str | None, ids: tuple[str, ...], format: str, as_json: bool
) -> None:
    """Write simulations of DB to files, a folder of DIR for each.

    Exit codes: 0 all went well; 1 there is no such simulation; 2 there is no DB, or no such experiment.
    """
    with _opened(db, experiment) as opened:
        made = {
            each: [str(path) for path in opened.export_simulation(each, directory, format)]
            for each in ids or opened.get_simulation_ids()
        }
    if as_json:
        click.echo(_text(made))
        return
    for each, paths in made.items():
        click.echo(f"{each}  {len(paths)} files in '{Path(paths[0]).parent}'")


@experiments.command()
@_db
@click.argument("others", metavar="OTHER...", nargs=-1, required=True)
@click.option("--skip", is_flag=True, help="Leave out simulations that both have with different contents.")
@_as_json
def merge(db: str, others: tuple[str, ...], skip: bool, as_json: bool) -> None:
    """Copy all experiments of OTHER databases into DB, which is made where there is none.

    Simulations that DB has already are left as they are, so a merge may be repeated.

    Exit codes: 0 all went well; 1 a simulation is in both with different contents; 2 there is no OTHER.
    """
    for other in others:
        _must_be_there(other)
    first = next((row["experiment_id"] for other in others for row in _experiments(other)), None)
    if first is None:
        raise click.BadParameter(f"'{others[0]}' holds no experiment", param_hint="'OTHER'")
    done = {}
    with ExperimentDatabase(db, _one_of(db) or first) as opened:
        for other in others:
            done[other] = opened.merge(other, on_clash="skip" if skip else "error")
    if as_json:
        click.echo(
            _text({other: {key: getattr(each, key) for key in each.__slots__} for other, each in done.items()})
        )
        return
    for other, each in done.items():
        clashed = f", {len(each.clashed)} left out" if each.clashed else ""
        click.echo(
            f"{other}: {len(each.copied)} simulations copied ({each.rows:,} rows), {len(each.there)} there"
            f" already{clashed}"
        )


def _must_be_there(db: str) -> None:
    if not is_url(db) and not Path(db).is_file():
        raise click.BadParameter(f"'{db}' is no file; give an experiment database", param_hint="'DB'")


def _one_of(db: str) -> str | None:
    """Return an experiment that a database holds, if there is one."""
    if not is_url(db) and not Path(db).is_file():
        return None
    return next((row["experiment_id"] for row in _experiments(db)), None)


def _experiments(db: str) -> list[dict[str, Any]]:
    _must_be_there(db)
    engine = connect(db, DatabaseConfig())
    simulations, table = SimulationModel.__table__, ExperimentModel.__table__
    try:
        if not engine.dialect.has_table(engine.connect(), "simulations"):
            raise click.ClickException(
                f"'{shown(engine)}' is no experiment database: it has no table 'simulations'"
            )
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(select(table)).mappings()]
            query = select(simulations.c.experiment_id, simulations.c.status, func.count())
            counts = {
                (experiment, status): count
                for experiment, status, count in connection.execute(
                    query.group_by(simulations.c.experiment_id, simulations.c.status)
                )
            }
    finally:
        engine.dispose()
    for row in found:
        mine = {status: count for (owner, status), count in counts.items() if owner == row["experiment_id"]}
        row |= {
            "simulations": sum(mine.values()),
            "completed": mine.get("completed", 0),
            "failed": mine.get("failed", 0),
        }
    return sorted(found, key=lambda row: (row["creation_date"], row["experiment_id"]))


def _opened(db: str, experiment: str | None) -> ExperimentDatabase:
    there = [row["experiment_id"] for row in _experiments(db)]
    if experiment is None and len(there) == 1:
        experiment = there[0]
    if experiment not in there:
        asked = "give one of" if experiment is None else f"there is no {experiment!r}, but"
        raise click.BadParameter(f"'{db}': {asked} {', '.join(there) or 'none'}", param_hint="'--experiment'")
    return ExperimentDatabase(db, str(experiment))


def _counts(db: ExperimentDatabase) -> dict[str, int]:
    counts = {}
    with db.engine.connect() as connection:
        for table in owntables.data_tables(db.engine):
            simulations = SimulationModel.__table__
            query = select(func.count()).select_from(table.join(simulations))
            query = query.where(simulations.c.experiment_id == db.experiment_id)
            counts[table.name] = int(connection.scalar(query) or 0)
    return counts


def _seconds(row: Mapping[str, Any]) -> str:
    end = row.get("end_time")
    return "" if end is None else f"{(end - row['start_time']).total_seconds():.1f}"


def _pairs(row: Mapping[str, Any], prefix: str) -> str:
    pairs = (
        f"{key.removeprefix(prefix)}={value:.6g}"
        if isinstance(value, float)
        else f"{key.removeprefix(prefix)}={value}"
        for key, value in row.items()
        if key.startswith(prefix)
    )
    text = ", ".join(pairs)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ == "NaTType"


def _text(value: Any) -> str:
    return json.dumps(plain(value), indent=1)
