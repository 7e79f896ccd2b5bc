"""The packages that tables need: imported when a table is asked for, with a way out where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["needed"]


def needed(name: str, extra: str = "tables") -> Any:
    """Import a package that an extra installs.

    Parameters
    ----------
    name : str
        The module.
    extra : str, default "tables"
        The extra that brings it.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        Where it is not installed; the message says how to.

    Examples
    --------
    >>> needed("no_such_package")
    Traceback (most recent call last):
        ...
    ImportError: this needs the package 'no_such_package', ...; run: pip install "chunk-memo[tables]"
    """
    try:
        return import_module(name)
    except ImportError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ImportError(
            f'this needs the package {name!r}, which is not installed; run: pip install "chunk-memo[{extra}]"',
            name=error.name,
        ) from error
