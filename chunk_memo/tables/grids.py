"""Ids of parameter sets: what counts of them, their hash, and the ``params.json`` that says what an id means.

Two runs have one ``grid_id`` where their parameters are equal as numbers and texts, whatever their seed, their
host, or the folders they wrote to. ``1`` and ``1.0`` are equal, ``True`` is no number; floats count to 12
significant digits, so that tiny ones stay apart. An id is a shortened SHA-256, and ids can be given by hand; so
``params.json`` keeps the parameters, and an id that comes again with others is an error, never a mix-up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunk_memo.disk import files
from chunk_memo.errors import CollisionError, SpecError, TableError
from chunk_memo.runparams import plain_params, significant

__all__ = ["GRID_ID", "attach_grid_id", "canonicalize_params", "grid_hash", "is_volatile", "keep_params"]

GRID_ID = "grid_id"
"""The column that holds the id."""

_VOLATILE = frozenset(
    {
        *("base_out", "out_dir", "output_dir", "results_dir", "parquet_out", "figs_dir", "figs", "log_dir"),
        *("timestamp", "created_at", "started_at", "hostname", "host", "user", "commit_results", "run_id"),
        *("seed", "seeds", "grid_id"),
    }
)
_VOLATILE_WORDS = frozenset({"path", "paths", "dir", "dirs", "folder", "folders", "file", "files", "filename"})
_NOTE = "_grid_id_note"
_DERIVED = "_params_from"


def is_volatile(name: str) -> bool:
    """Tell whether a parameter says where, when or with which seed, and so does not count.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    bool
        True for ``seed``, ``timestamp``, ``host`` and the like, and for names with a word such as ``dir`` or
        ``path`` in them; ``direction`` and ``profile`` count.

    Examples
    --------
    >>> [name for name in ("seed", "log_dir", "csvPath", "direction", "profile") if not is_volatile(name)]
    ['csvPath', 'direction', 'profile']
    """
    lower = name.lower()
    return lower in _VOLATILE or not _VOLATILE_WORDS.isdisjoint(lower.replace("-", "_").split("_"))


def canonicalize_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that count, in one form.

    Parameters
    ----------
    params : mapping of str to object
        Parameters of a run.

    Returns
    -------
    dict
        A copy: keys sorted, volatile ones left out at every depth (see :func:`is_volatile`), floats to 12
        significant digits, NumPy's scalars as Python's, tuples as lists, enums as their values.

    Raises
    ------
    SpecError
        Where `params` are no mapping.
    IdentityError
        Where a name is no string, or a value has no sound identity.

    Examples
    --------
    >>> canonicalize_params({"rho": 0.1 + 0.2, "seed": 3, "algo": "sgd", "shape": (2, 2)})
    {'algo': 'sgd', 'rho': 0.3, 'shape': [2, 2]}
    """
    counted: dict[str, Any] = _counted(plain_params(params))
    return counted


def _counted(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _counted(plain[name]) for name in sorted(plain) if not is_volatile(name)}
    if isinstance(plain, list):
        return [_counted(item) for item in plain]
    return significant(plain) + 0.0 if isinstance(plain, float) and not plain.is_integer() else plain


def _hashed(plain: Any) -> Any:
    """Return canonical parameters with whole numbers in one form."""
    if isinstance(plain, dict):
        return {name: _hashed(value) for name, value in plain.items()}
    if isinstance(plain, list):
        return [_hashed(item) for item in plain]
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _text(canonical: Mapping[str, Any]) -> str:
    return json.dumps(_hashed(canonical), sort_keys=True, separators=(",", ":"), allow_nan=False)


def grid_hash(params: Mapping[str, Any], length: int = 16) -> str:
    """Return the id of a parameter set.

    Parameters
    ----------
    params : mapping of str to object
        Parameters of a run.
    length : int, default 16
        Number of hex characters, 1 to 64. Of 10,000 sets two share an id of 8 with a chance of one percent, an
        id of 16 with one in 10¹¹.

    Returns
    -------
    str
        The first characters of the SHA-256 of the canonical parameters as JSON.

    Raises
    ------
    SpecError
        Where `length` is out of range.

    Examples
    --------
    >>> grid_hash({"gamma": 1, "algo": "sgd"}) == grid_hash({"algo": "sgd", "gamma": 1.0, "seed": 7})
    True
    >>> grid_hash({"gamma": 1e-13}) == grid_hash({"gamma": 2e-13})
    False
    """
    given: Any = length
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= 64:
        raise SpecError(f"length must be a number of hex characters from 1 to 64, got {length!r}")
    return hashlib.sha256(_text(canonicalize_params(params)).encode()).hexdigest()[:length]


def attach_grid_id(params: Mapping[str, Any], length: int = 16) -> dict[str, Any]:
    """Return parameters with their ``grid_id``.

    Parameters
    ----------
    params : mapping of str to object
        Parameters of a run; left as they are. A ``grid_id`` among them does not count.
    length : int, default 16
        Number of hex characters.

    Returns
    -------
    dict
        A copy with ``grid_id`` added, or set anew.

    Examples
    --------
    >>> params = attach_grid_id({"algo": "sgd", "gamma": 0.5})
    >>> attach_grid_id(params) == params
    True
    """
    return {**params, GRID_ID: grid_hash(params, length)}


# --- params.json -------------------------------------------------------------------------------------------


def keep_params(
    base_out: str, grid_id: str, params: Mapping[str, Any], syncer: files.Syncer, *, derived: str = ""
) -> None:
    """Write what an id stands for, or hold it against what is written.

    Parameters
    ----------
    base_out : str
        The folder that holds ``grids``.
    grid_id : str
        The id.
    params : mapping
        The parameters.
    syncer : Syncer
        Takes care that the file is on disk.
    derived : str, optional
        Where the parameters were taken from, if they were not given; they then yield to given ones.

    Raises
    ------
    CollisionError
        Where the id stands for other parameters.
    """
    canonical = canonicalize_params(params)
    path = params_path(base_out, grid_id)
    known = read_params(base_out, grid_id)
    if known is not None:
        there, from_where = known
        if _text(there) == _text(canonical) or derived:
            return
        if not from_where:
            raise CollisionError(
                f"grid_id {grid_id!r} stands for {there!r} in '{path}', and came with {canonical!r}; give runs of"
                f" other params another id: attach_grid_id(params) makes one, length=32 a longer one"
            )
        files.remove(path)
    files.commit(path, [_document(grid_id, canonical, derived)], syncer)


def params_path(base_out: str, grid_id: str) -> str:
    """Return the path of an id's ``params.json``.

    Parameters
    ----------
    base_out : str
        The folder that holds ``grids``.
    grid_id : str
        The id.

    Returns
    -------
    str
        The path.
    """
    from chunk_memo.tables.hive import segment

    return f"{base_out}/grids/{segment(GRID_ID, grid_id)}/params.json"


def _document(grid_id: str, canonical: dict[str, Any], derived: str) -> bytes:
    document = dict(canonical)
    if derived:
        document[_DERIVED] = derived
    own = hashlib.sha256(_text(canonical).encode()).hexdigest()
    if not own.startswith(grid_id):
        document[_NOTE] = (
            f"the hash of these parameters is {own[: max(16, len(grid_id))]}, not the grid_id of the rows"
            f" ({grid_id}): the id was made by hand, or from parameters that are not here"
        )
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_params(base_out: str | Path, grid_id: str) -> tuple[dict[str, Any], str] | None:
    """Return what an id stands for.

    Parameters
    ----------
    base_out : path-like
        The folder that holds ``grids``.
    grid_id : str
        The id.

    Returns
    -------
    tuple of dict, str, or None
        The parameters, and where they were taken from ("" where they were given); None where nothing is known.

    Raises
    ------
    TableError
        Where the file is damaged.
    """
    path = params_path(str(base_out), grid_id)
    try:
        document = json.loads(files.read_whole(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise TableError(f"'{path}' is no JSON ({error}); delete it, and write the rows again") from error
    if not isinstance(document, dict):
        raise TableError(f"'{path}' must hold an object, got {document!r}; delete it, and write the rows again")
    document.pop(_NOTE, None)
    return document, document.pop(_DERIVED, "")
