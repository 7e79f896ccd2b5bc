"""How functions, exceptions and settings travel to other processes: cloudpickle, which joblib brings along.

What can be imported goes by name, everything else by value: functions of scripts, notebooks and shells, closures,
lambdas, and their classes.
"""

from __future__ import annotations

import pickle
from typing import Any

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
    try:
        import cloudpickle
    except ImportError:  # joblib up to 1.5 carries it inside
        from joblib.externals import cloudpickle

    return bytes(cloudpickle.dumps(thing))


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
