"""Reads the JSON index that TinyDB wrote for stores of an older layout; it is never changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chunk_memo.errors import MetadataError
from chunk_memo.runparams import params_hash
from chunk_memo.runs import RunRecord

__all__ = ["is_json_index", "read_json_index"]

_OWN: Final = ("params_hash", "result_path", "created_at", "metadata")
"""What such a record has beside its params."""


def is_json_index(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is JSON, as that index is, and no database.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    bool
        False where there is none, or an empty one.
    """
    try:
        with open(path, "rb") as file:
            return file.read(256).lstrip()[:1] == b"{"
    except FileNotFoundError:
        return False


def read_json_index(path: str | os.PathLike[str], results_dir: Path) -> tuple[str, list[RunRecord]]:
    """Return the records of a JSON index.

    Their hashes are taken anew, since that index rounds tiny floats to nothing.

    Parameters
    ----------
    path : path-like
        The file.
    results_dir : pathlib.Path
        Where results lie. Relative paths in the index are of the folder that the program was started in: of
        that, of the index's folder and of `results_dir` the first is taken that has the file.

    Returns
    -------
    digest : str
        Of the file's bytes.
    records : list of RunRecord
        Oldest first.

    Raises
    ------
    MetadataError
        Where the file is no such index.
    """
    data = Path(path).read_bytes()
    try:
        tables = json.loads(data)
        documents = tables.get("_default", {}) if isinstance(tables, Mapping) else None
        if not isinstance(documents, Mapping) or (tables and "_default" not in tables):
            raise TypeError("it has no table '_default'")
        records = [_record(each, Path(path), results_dir) for each in documents.values()]
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataError(
            f"{os.fspath(path)!r} is JSON, but no index that TinyDB wrote ({error}); it was left as it is: mend"
            f" it, or give the store another db_path"
        ) from error
    records.sort(key=lambda record: record.created_at)
    return hashlib.sha256(data).hexdigest(), records


def _record(document: Mapping[str, Any], index: Path, results_dir: Path) -> RunRecord:
    params = {name: value for name, value in document.items() if name not in _OWN}
    return RunRecord(
        params=params,
        result_path=_found(Path(document["result_path"]), index, results_dir),
        params_hash=params_hash(params),
        created_at=str(document["created_at"]),
        metadata=dict(document.get("metadata") or {}),
    )


def _found(path: Path, index: Path, results_dir: Path) -> Path:
    tried = [Path.cwd() / path, index.absolute().parent / path, results_dir / path.name]
    return next((each for each in tried if each.exists()), tried[-1])
