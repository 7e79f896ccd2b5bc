"""Owns what belongs to the user's project, and which package and version everything else comes from.

The project is all code that lies neither in the standard library nor among installed packages, this
library excepted. Code without a file, of a notebook or of ``exec``, is the project's.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

__all__ = ["OutOfReach", "Project", "is_own_file", "module_of", "outside"]


class OutOfReach(NamedTuple):
    """Something that code reaches and that is known by its name only.

    Examples
    --------
    >>> import numpy
    >>> outside("numpy.sqrt") == OutOfReach("numpy.sqrt", "numpy", numpy.__version__)
    True
    """

    name: str
    """Module and qualified name, or the type of an object without a name."""
    package: str
    """The package; ``"python"`` for the standard library, and empty where there is none."""
    version: str
    """The package's version, empty where it tells none."""


_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


@functools.cache
def _folders() -> tuple[str, ...]:
    """Return the folders of the standard library, of installed packages and of this library."""
    import site
    import sysconfig  # both take long to import

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    found.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    both = {form for path in found if path for form in (os.path.abspath(path), os.path.realpath(path))}
    return tuple(sorted(path + os.sep for path in both))


@functools.lru_cache(maxsize=4096)
def is_own_file(path: str) -> bool:
    """Tell whether a file lies elsewhere than packages and the standard library do.

    Parameters
    ----------
    path : str
        Its path.

    Returns
    -------
    bool
        True for the project's.
    """
    full = os.path.abspath(path)
    if _INSTALLED.intersection(full.split(os.sep)):
        return False
    return not full.startswith(_folders()) and not os.path.realpath(full).startswith(_folders())


def module_of(name: str) -> types.ModuleType | None:
    """Return a module that is loaded.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    module or None
        None where there is none, or something else in its place.
    """
    found = sys.modules.get(name)
    return found if isinstance(found, types.ModuleType) else None


class Project:
    """What counts by its code.

    Parameters
    ----------
    also : iterable of str
        Names of modules that count wherever they lie.
    """

    def __init__(self, also: Iterable[str] = ()) -> None:
        self._also = frozenset(also)
        self._modules: dict[str, bool] = {}
        self._functions: dict[tuple[Any, str], bool] = {}

    def has_module(self, name: str) -> bool:
        """Tell whether a module is the project's.

        Parameters
        ----------
        name : str
            The module's name; it may not be loaded, as that of code that was made by ``exec``.

        Returns
        -------
        bool
            True for what lies elsewhere than packages do, and for what lies nowhere.
        """
        known = self._modules.get(name)
        if known is None:
            known = self._modules[name] = name in self._also or self._finds(name)
        return known

    def _finds(self, name: str) -> bool:
        if name == "__main__":
            return True
        module = module_of(name)
        path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if isinstance(path, str):
            return is_own_file(path)
        return name.partition(".")[0] not in sys.stdlib_module_names

    def has_function(self, function: types.FunctionType) -> bool:
        """Tell whether a function is the project's.

        Parameters
        ----------
        function : function
            A Python function; the file of its code counts, as wrappers borrow the module's name.

        Returns
        -------
        bool
            True for the project's.
        """
        home = function.__globals__.get("__name__")
        path = function.__code__.co_filename
        known = self._functions.get((home, path))
        if known is None:
            known = self._functions[home, path] = self._holds(home, path)
        return known

    def _holds(self, home: Any, path: str) -> bool:
        if isinstance(home, str) and home in self._also:
            return True
        if path.startswith("<"):
            return not isinstance(home, str) or self.has_module(home)
        return is_own_file(path)

    def has_class(self, kind: type) -> bool:
        """Tell whether a class is the project's.

        Parameters
        ----------
        kind : type
            The class.

        Returns
        -------
        bool
            True for the project's.
        """
        return bool(kind.__flags__ & _HEAP_TYPE) and self.has_module(str(kind.__module__))


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE; the others are made in C


def outside(name: str) -> OutOfReach:
    """Return where something comes from that is known by its name only.

    Parameters
    ----------
    name : str
        Module and qualified name.

    Returns
    -------
    OutOfReach
        With the version that the package tells today.
    """
    package = name.partition(".")[0]
    if package in sys.stdlib_module_names:
        return OutOfReach(name, "python", ".".join(map(str, sys.version_info[:3])))
    return OutOfReach(name, package, _version(package))


@functools.lru_cache(maxsize=1024)
def _version(package: str) -> str:
    version: Any = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    from importlib import metadata  # takes long to import, and few packages need it

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
