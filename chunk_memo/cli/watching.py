"""``chunk-memo status``: the runs at work in a folder of caches, once or again and again."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import click

from chunk_memo.disk import files
from chunk_memo.display import statusview

__all__ = ["status"]

_ROOT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(short_help="Show the runs at work in ROOT.")
@click.argument("root", type=_ROOT)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one document per line.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time from one look to the next with --watch.",
)
def status(root: Path, watch: bool, as_json: bool, interval: float) -> None:
    """Show the runs at work in ROOT, a folder of caches, and what is stored there.

    Runs are listed once they have computed for two seconds; one that was interrupted or failed stays listed for a
    day, or until the next one of its cache succeeds.

    Exit codes: 0 all went well, also where Ctrl-C ends --watch; 2 ROOT is no folder.
    """
    if files.is_there(root / "metadata.json"):
        raise click.BadParameter(f"'{root}' is a cache; give the folder that holds it", param_hint="'ROOT'")
    if not watch:
        click.echo(_json(root, indent=1) if as_json else _screen(root))
        return
    try:
        while True:
            _show_again(root, as_json)
            time.sleep(interval)
    except KeyboardInterrupt:
        click.echo()


def _show_again(root: Path, as_json: bool) -> None:
    if as_json:
        click.echo(_json(root))
        return
    text = _screen(root)  # made before the old one is cleared, so that nothing flickers
    click.clear()
    click.echo(text)


def _screen(root: Path) -> str:
    columns = shutil.get_terminal_size(fallback=(100, 24)).columns
    return "\n".join(statusview.status_lines(statusview.look(root), columns))


def _json(root: Path, indent: int | None = None) -> str:
    found: dict[str, Any] = statusview.look(root).to_dict()
    return json.dumps(found, indent=indent)
