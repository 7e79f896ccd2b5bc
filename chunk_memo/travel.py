"""How functions, exceptions and settings travel to other processes: cloudpickle, which joblib brings along.

What can be imported goes by name, everything else by value: functions of scripts, notebooks and shells, closures,
lambdas, and their classes. Code keeps the name of its file, so that a traceback from elsewhere shows its lines.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

__all__ = ["packed", "unpacked"]


def packed(thing: Any) -> bytes:
    """Return an object as bytes for another process of the same program.

    Parameters
    ----------
    thing : object
        What travels.

    Returns
    -------
    bytes
        A pickle; it never lies in a cache.

    Examples
    --------
    >>> unpacked(packed(lambda value: value + 1))(1)
    2
    """
    with io.BytesIO() as buffer:
        _pickler()(buffer).dump(thing)
        return buffer.getvalue()


@functools.cache
def _pickler() -> type[pickle.Pickler]:
    try:
        import cloudpickle
    except ImportError:  # joblib up to 1.5 carries it inside
        from joblib.externals import cloudpickle
    table = cloudpickle.CloudPickler.dispatch_table
    reduced = table[CodeType]

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined, unused-ignore]
        """cloudpickle's own, which from 3.1 on calls every file ``<dynamic-code>``."""

        dispatch_table: ClassVar = ChainMap(
            {CodeType: lambda code: (_code, (code.co_filename, *reduced(code)))}, table
        )

    return Pickler


def _code(file: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> CodeType:
    return make(*arguments).replace(co_filename=file)


def unpacked(data: bytes) -> Any:
    """Return the object that :func:`packed` packed.

    Parameters
    ----------
    data : bytes
        What came from the process that this one belongs to.

    Returns
    -------
    object
        The object.
    """
    return pickle.loads(data)
