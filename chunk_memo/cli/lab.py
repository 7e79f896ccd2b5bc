"""``chunk-memo log`` and ``chunk-memo checkpoints``: what an experiment has written, looked at from outside."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click

from chunk_memo.cli import common
from chunk_memo.cli.saving import save_results, saving_option
from chunk_memo.display.history import size_text, table_lines
from chunk_memo.errors import ChunkMemoError, DamageWarning
from chunk_memo.lab import checkpoint as checkpoints_room
from chunk_memo.lab import logger as logger_room
from chunk_memo.lab.checkpoint import CheckpointManager

__all__ = ["checkpoints", "log"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_of = click.option("--name", metavar="EXPERIMENT", help="Only this experiment; by default every one in DIR.")


@click.group()
def log() -> None:
    """Look into the log of an experiment."""


@log.command()
@click.argument("file", type=_FILE)
@common.as_json
@saving_option
def analyze(file: Path, as_json: bool, save_to: Path | None) -> None:
    """Summarize FILE, the JSON lines of an experiment, and what it was renamed to before.

    Exit codes: 0 all went well; 1 no line of FILE is an event; 2 there is no FILE.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DamageWarning)
        found = logger_room.analyze_logs(file)
    for warning in told:
        click.echo(f"Warning: {warning.message}", err=True)
    save_results(save_to, [found], {"log": file})
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        common.echo_lines(_analysis_lines(found))
    if not found["total_events"]:
        raise click.ClickException(
            f"'{file}' holds no events; expected the file …_structured.jsonl of an experiment"
        )


def _analysis_lines(found: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {kind}" for kind, count in found["event_counts"].items())
    lines = [f"events    {found['total_events']}: {counts}" if counts else "events    0"]
    lines.append(f"from      {found['start_time']}")
    lines.append(f"to        {found['end_time']}")
    lines.append(f"status    {found['final_status'] or 'not ended, or killed'}")
    progress = found["last_progress"]
    if progress:
        metrics = ", ".join(f"{name}={value}" for name, value in (progress.get("metrics") or {}).items())
        lines.append(f"progress  {progress.get('iteration')} of {progress.get('total')}  {metrics}".rstrip())
    if found["errors"]:
        lines.append("errors    " + ", ".join(f"{count} {kind}" for kind, count in found["errors"].items()))
    if found["damaged_lines"]:
        lines.append(f"passed over {found['damaged_lines']} lines that are torn or damaged")
    return lines


@click.group()
def checkpoints() -> None:
    """Look after the checkpoints of experiments."""


@checkpoints.command()
@click.argument("folder", metavar="DIR", type=common.FOLDER)
@_of
@common.as_json
@saving_option
def ls(folder: Path, name: str | None, as_json: bool, save_to: Path | None) -> None:
    """List the checkpoints in DIR, the oldest first.

    Exit codes: 0 all went well; 2 there is no DIR.
    """
    infos = [info for manager in _managers(folder, name) for info in manager.infos()]
    rows = [
        {
            "experiment": info.experiment_name,
            "file": info.path.name,
            "iteration": info.iteration,
            "saved_at": info.timestamp,
            "bytes": info.nbytes,
            "metadata": dict(info.metadata),
        }
        for info in infos
    ]
    save_results(save_to, rows, {"checkpoints": folder})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    cells = [(i.path.name, str(i.iteration), i.timestamp[:19], size_text(i.nbytes)) for i in infos]
    common.echo_lines(table_lines(("file", "iteration", "saved at (UTC)", "size"), cells, left=(0, 2)))


@checkpoints.command()
@click.argument("folder", metavar="DIR", type=common.FOLDER)
@_of
@common.as_json
@saving_option
def verify(folder: Path, name: str | None, as_json: bool, save_to: Path | None) -> None:
    """Check every byte of the checkpoints in DIR.

    Exit codes: 0 all are intact; 1 some are damaged; 2 there is no DIR.
    """
    checked = {
        path.name: error for manager in _managers(folder, name) for path, error in manager.verify().items()
    }
    rows = [{"file": file, "ok": error is None, "error": error} for file, error in checked.items()]
    save_results(save_to, rows, {"checkpoints": folder})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        common.echo_lines(
            f"{file}  {'intact' if error is None else f'DAMAGED: {error}'}" for file, error in checked.items()
        )
        damaged = sum(error is not None for error in checked.values())
        click.echo(f"{len(checked)} checkpoints, {damaged} damaged")
    if any(checked.values()):
        raise click.exceptions.Exit(1)


@checkpoints.command()
@click.argument("folder", metavar="DIR", type=common.FOLDER)
@click.argument("target", metavar="TARGET", type=click.Path(file_okay=False, path_type=Path))
@_of
@common.as_json
def backup(folder: Path, target: Path, name: str | None, as_json: bool) -> None:
    """Copy the checkpoints in DIR to the folder TARGET, each verified before and after.

    Those that are damaged are left out and told.

    Exit codes: 0 all were copied; 1 some were not; 2 there is no DIR.
    """
    rows: list[dict[str, Any]] = []
    for manager in _managers(folder, name):
        for info in manager.infos():
            try:
                copy = checkpoints_room.backup_checkpoint(info.path, target)
                rows.append({"file": info.path.name, "copy": str(copy), "error": None})
            except (ChunkMemoError, OSError) as error:
                rows.append({"file": info.path.name, "copy": None, "error": str(error)})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        common.echo_lines(f"{row['file']}  {row['copy'] or 'NOT COPIED: ' + row['error']}" for row in rows)
    if any(row["error"] for row in rows):
        raise click.exceptions.Exit(1)


def _managers(folder: Path, name: str | None) -> list[CheckpointManager]:
    """Return the managers of the experiments asked for."""
    there = checkpoints_room.find_experiments(folder)
    if name is not None and name not in there:
        raise click.BadParameter(
            f"no checkpoints of {name!r} in '{folder}'; there are those of {there}", param_hint="'--name'"
        )
    return [CheckpointManager(folder, each) for each in (there if name is None else [name])]
