"""What a map sends to other processes and gets back, as bytes that arrive in any case.

A pool that pickles by itself gives up, or waits for ever, where something cannot be unpickled on the other side,
for its own threads and loops break. So functions, tasks and results travel as bytes that only the code here
reads, in workers within a ``try``; and a worker that cannot go on says so in its answer.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from chunk_memo import travel
from chunk_memo.errors import MapBrokenError

__all__ = ["answer", "complaint", "load", "named", "opened", "packed_function", "packed_task"]

_PROTOCOL = 5


def named(task: Any) -> str:
    """Return a short text for a task.

    Parameters
    ----------
    task : object
        The task.

    Returns
    -------
    str
        What it says of itself, cut to one short line.
    """
    text = str(task).partition("\n")[0]
    return text if len(text) <= 80 else f"{text[:79]}…"


def packed_function(func: Callable[[Any], Any]) -> bytes:
    """Return a function as bytes, by value where it cannot be imported.

    Parameters
    ----------
    func : callable
        The function.

    Returns
    -------
    bytes
        What :func:`load` reads.

    Raises
    ------
    MapBrokenError
        Where it cannot be pickled.
    """
    try:
        return travel.packed(func)
    except Exception as error:
        raise _unsendable("the function", error) from error


def packed_task(task: Any) -> bytes:
    """Return a task as bytes.

    Parameters
    ----------
    task : object
        The task.

    Returns
    -------
    bytes
        What :func:`answer` reads.

    Raises
    ------
    MapBrokenError
        Where it cannot be pickled.
    """
    try:
        return pickle.dumps(task, _PROTOCOL)
    except Exception as error:
        raise _unsendable(f"the task {named(task)}", error) from error


def _unsendable(what: str, error: Exception) -> MapBrokenError:
    return MapBrokenError(
        f"{what} cannot be sent to other processes ({type(error).__name__}: {error}); map_fn='threads' needs no"
        f" sending"
    )


# --- in workers ---------------------------------------------------------------------------------------------

_loaded: tuple[bytes, Callable[[Any], Any]] | None = None
"""The function that was loaded last, by what it was loaded from."""


def load(packed: bytes) -> Callable[[Any], Any]:
    """Return a function from bytes; from the same bytes again, the same function.

    Parameters
    ----------
    packed : bytes
        From :func:`packed_function`.

    Returns
    -------
    callable
        The function.
    """
    global _loaded
    known = _loaded  # read once, for other threads may load, too
    if known is None or known[0] != packed:
        known = _loaded = (packed, travel.unpacked(packed))
    return known[1]


def answer(packed_func: bytes, packed: bytes) -> bytes:
    """Carry out a task; return its result, or what went wrong on the way, for :func:`opened`.

    Parameters
    ----------
    packed_func : bytes
        The function, from :func:`packed_function`.
    packed : bytes
        The task, from :func:`packed_task`.

    Returns
    -------
    bytes
        The answer.
    """
    what = "the function cannot be loaded"
    try:
        func = load(packed_func)
        what = "a task cannot be loaded"
        task = pickle.loads(packed)
        what = f"the task {named(task)} raised what its function did not catch"
        result = func(task)
        what = f"the result of the task {named(task)} cannot be sent"
        return pickle.dumps((True, result), _PROTOCOL)
    except BaseException as error:
        return complaint(what, error)


def complaint(what: str, error: BaseException) -> bytes:
    """Return the answer of a worker that cannot go on.

    Parameters
    ----------
    what : str
        What failed, in words.
    error : BaseException
        The error.

    Returns
    -------
    bytes
        An answer at which :func:`opened` raises.
    """
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps(error, _PROTOCOL)
    except Exception:
        packed = b""
    return pickle.dumps((False, (what, packed, text)), _PROTOCOL)


# --- in the driver ------------------------------------------------------------------------------------------


def opened(message: bytes, where: str) -> Any:
    """Return the result that an answer holds.

    Parameters
    ----------
    message : bytes
        From :func:`answer`.
    where : str
        What messages call the map.

    Returns
    -------
    object
        The result.

    Raises
    ------
    MapBrokenError
        Where the worker could not go on, or the result cannot be unpickled here.
    """
    try:
        done, content = pickle.loads(message)
    except Exception as error:
        raise MapBrokenError(
            f"{where} cannot go on: what a worker sent cannot be read here ({type(error).__name__}: {error})"
        ) from error
    if not done:
        raise _broken(where, *content)
    return content


def _broken(where: str, what: str, packed: bytes, text: str) -> MapBrokenError:
    """Return the error that a worker told of, caused by the worker's own."""
    try:
        cause = pickle.loads(packed)
        cause.add_note(f"in the worker:\n{text}")
    except Exception:
        cause = RuntimeError(text)
    remedy = "what was done is kept"
    if isinstance(cause, ModuleNotFoundError):
        remedy = (
            f"the module {cause.name!r} cannot be imported in the workers: install it where they run, or put its"
            f" folder on sys.path or PYTHONPATH before they start"
        )
    said = text.strip().rpartition("\n")[2]
    error = MapBrokenError(f"{where} cannot go on: in a worker, {what} ({said}); {remedy}")
    error.__cause__ = cause
    return error
