"""What commands share: roots that must exist, ``--json``, lines that fit the terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from chunk_memo.disk import files

__all__ = ["FOLDER", "ROOT", "TARGET", "as_json", "columns", "echo_json", "echo_lines", "shortened"]

_F = TypeVar("_F", bound=Callable[..., object])

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
"""A folder that is there."""


class _Root(click.Path):
    """A folder of caches that is there, and is not itself a cache."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)
        if files.is_there(path / "metadata.json"):
            self.fail(f"'{path}' is a cache; give the folder that holds it", param, ctx)
        return path


class _Target(_Root):
    """The same, for what is written to: where it is missing, the way to make it is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not files.is_there(value):
            self.fail(f"'{value}' does not exist; make it first: mkdir '{value}'", param, ctx)
        return super().convert(value, param, ctx)


ROOT = _Root(exists=True, file_okay=False, path_type=Path)
"""A folder of caches that is there."""

TARGET = _Target(exists=True, file_okay=False, path_type=Path)
"""A folder of caches that is there, to be written to."""


def as_json(command: _F) -> _F:
    """Give a command the flag ``--json``, as the argument `as_json`.

    Parameters
    ----------
    command : callable
        The command's function.

    Returns
    -------
    callable
        The same, with the flag.
    """
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def echo_json(document: Mapping[str, Any]) -> None:
    """Print a document.

    Parameters
    ----------
    document : mapping
        What JSON can hold; anything else is printed as text.
    """
    click.echo(json.dumps(document, indent=1, default=str))


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines of text; what a terminal would take for commands is shown as signs.

    Parameters
    ----------
    lines : iterable of str
        The lines.
    """
    for line in lines:
        click.echo("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line))


def shortened(rows: Iterable[list[str]], column: int, excess: int, least: int = 8) -> list[list[str]]:
    """Cut the cells of one column, so that a table becomes narrower.

    Parameters
    ----------
    rows : iterable of list of str
        The rows.
    column : int
        Which column.
    excess : int
        By how many characters the table is too wide.
    least : int, default 8
        How many characters cells keep at least.

    Returns
    -------
    list of list of str
        The rows.
    """
    kept = [[*row] for row in rows]
    width = max(least, max((len(row[column]) for row in kept), default=0) - max(0, excess))
    for row in kept:
        row[column] = row[column] if len(row[column]) <= width else row[column][: width - 1] + "…"
    return kept


def columns() -> int:
    """Return how wide the terminal is.

    Returns
    -------
    int
        Characters to a line; 100 where there is no terminal.
    """
    return shutil.get_terminal_size(fallback=(100, 24)).columns
