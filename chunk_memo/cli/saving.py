"""``--save-results FILE``: the results that a command shows, as a file besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["save_results", "saving_option"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SUFFIXES = (".json", ".csv", ".pkl")


def _checked(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in _SUFFIXES:
        raise click.BadParameter(f"expected a name that ends in {', '.join(_SUFFIXES)}, got '{path.name}'")
    return path


def saving_option(function: _Function) -> _Function:
    """Give a command the option ``--save-results FILE``, its parameter `save_to`.

    Parameters
    ----------
    function : callable
        The command's function.

    Returns
    -------
    callable
        The function.
    """
    option = click.option(
        "--save-results",
        "save_to",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_checked,
        metavar="FILE",
        help="Write the results to a file, too: .json, .csv or .pkl.",
    )
    return option(function)


def save_results(save_to: Path | None, results: Any, metadata: Mapping[str, Any]) -> None:
    """Write what a command found to the file that was asked for, if any.

    Parameters
    ----------
    save_to : Path or None
        The file; its suffix says in which format.
    results : object
        What :func:`~chunk_memo.tables.export.rows_of` takes.
    metadata : mapping
        What they are.
    """
    if save_to is None:
        return
    from chunk_memo.tables import export

    suffix = save_to.suffix.lower()
    if suffix == ".json":
        export.export_results_json(results, save_to, metadata)
    elif suffix == ".csv":
        export.export_results_csv(results, save_to)
    else:
        export.export_results_pickle(results, save_to, metadata)
