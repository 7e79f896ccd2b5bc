"""Small documents: JSON with a checksum in it, named by the digest of what it says; rows of values in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.identity import digest_of_bytes, from_jsonable, to_jsonable

__all__ = ["DAMAGE", "check_record", "digest_of_text", "from_row", "sealed", "text_of", "to_row", "unsealed"]

DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged document may raise."""

_LONG = 16
"""Shorter rows of equally spaced ints are written out, for people to read."""


def to_row(values: Sequence[Any]) -> Any:
    """Return values in a form that JSON can hold exactly; at once where they are plain.

    Parameters
    ----------
    values : sequence
        The values.

    Returns
    -------
    object
        A list, or ``{"range": [start, stop, step]}``.
    """
    kinds = set(map(type, values))
    if kinds == {int} and (numbers := _int64(values)) is not None:
        return _to_range(numbers) or list(values)
    if kinds == {float} and bool(np.isfinite(np.array(values)).all()):
        return list(values)
    if kinds == {str} and "".join(values).isascii():
        return list(values)
    return [to_jsonable(value) for value in values]


def _int64(values: Sequence[int]) -> npt.NDArray[np.int64] | None:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return None


def _to_range(numbers: npt.NDArray[np.int64]) -> dict[str, list[int]] | None:
    """Return equally spaced numbers as a range, None where they are not, or are few."""
    if len(numbers) < _LONG:
        return None
    first, second, last = (int(number) for number in (numbers[0], numbers[1], numbers[-1]))
    step = second - first
    if step == 0 or not bool((np.diff(numbers) == step).all()) or first + step * (len(numbers) - 1) != last:
        return None
    return {"range": [first, last + (1 if step > 0 else -1), step]}


def from_row(row: Any) -> Sequence[Any]:
    """Return the values that :func:`to_row` gave a form of.

    Parameters
    ----------
    row : object
        That form.

    Returns
    -------
    sequence
        The values.
    """
    if isinstance(row, dict):
        return range(*row["range"])
    if set(map(type, row)) <= {int, float, str, bool, type(None)}:
        return list(row)
    return [from_jsonable(value) for value in row]


def text_of(content: Any) -> str:
    """Return JSON that depends on the content alone.

    Parameters
    ----------
    content : object
        What JSON can hold.

    Returns
    -------
    str
        Its one text.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of_text(text: str) -> str:
    """Return the digest of a text.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        32 hex characters.
    """
    return digest_of_bytes(text.encode()).hex()


def _checksum(texts: Mapping[str, str]) -> str:
    """Return the digest of a document, of which the text of each member is given."""
    return digest_of_text("{" + ",".join(f"{text_of(name)}:{texts[name]}" for name in sorted(texts)) + "}")


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, a line for each member, with a checksum in it.

    Parameters
    ----------
    document : mapping
        Its members.

    Returns
    -------
    bytes
        The content of its file.
    """
    texts = {name: text_of(content) for name, content in document.items()}
    members = {**document, "checksum": _checksum(texts)}
    lines = (f" {json.dumps(name)}: {json.dumps(what, ensure_ascii=False)}" for name, what in members.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "surrogatepass")


def unsealed(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the document in a file, and the text of each member.

    Parameters
    ----------
    data : bytes
        The content of the file.

    Returns
    -------
    document : dict
        Its members, the checksum left out.
    texts : dict of str
        The text of each, as :func:`text_of` gives it.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, RecursionError
        Where it is damaged; :data:`DAMAGE` holds them all.
    """
    document: dict[str, Any] = json.loads(data)
    checksum = document.pop("checksum")
    texts = {name: text_of(content) for name, content in document.items()}
    if checksum != _checksum(texts):
        raise ValueError("its checksum does not hold")
    return document, texts


def check_record(name: str, data: bytes) -> None:
    """Check a document that is named by the digest of its member ``record``.

    Parameters
    ----------
    name : str
        The name of its file.
    data : bytes
        The content of the file.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, RecursionError
        Where it is damaged, or has another one's name.
    """
    _, texts = unsealed(data)
    if not name.endswith(f"{digest_of_text(texts['record'])}.json"):
        raise ValueError("it says something else than its name")
