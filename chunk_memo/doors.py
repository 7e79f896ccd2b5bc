"""Front doors of packages: a public name is imported when it is first asked for (PEP 562).

A door lists its names by the module that each lives in, and imports them once more below ``TYPE_CHECKING``, where
type checkers and editors see them. This module imports next to nothing, as every door imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

__all__ = ["door"]


def door(
    package: str, homes: Mapping[str, Iterable[str]], extras: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return what a package needs to import its public names lazily.

    Parameters
    ----------
    package : str
        Name of the package, ``__name__`` in its ``__init__``.
    homes : mapping of str to iterable of str
        Module to the public names that are imported from it.
    extras : mapping of str to str, optional
        Package that a module may need to the extra of this library that installs it.

    Returns
    -------
    getattr : callable
        ``__getattr__`` of the package: returns one of these names, or a module of the package, and keeps it.
    dir : callable
        ``__dir__`` of the package: lists all public names, imported or not.

    Examples
    --------
    >>> get, names = door("chunk_memo", {"chunk_memo.errors": ["StoreError"]})
    >>> get("StoreError")
    <class 'chunk_memo.errors.StoreError'>
    >>> "StoreError" in names()
    True
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of this package, when it is first asked for."""
        home = home_of.get(name)
        try:
            value = import_module(f"{package}.{name}") if home is None else getattr(import_module(home), name)
        except ModuleNotFoundError as error:
            if home is None and error.name == f"{package}.{name}":
                raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
            extra = (extras or {}).get(error.name or "")
            if extra is None:
                raise
            raise ImportError(
                f"{package}.{name} needs the package {error.name!r}, which is not installed; run"
                f" `pip install 'chunk-memo[{extra}]'`"
            ) from error
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        """Return the public names, imported or not."""
        return sorted({*vars(sys.modules[package]), *home_of})

    return __getattr__, __dir__
