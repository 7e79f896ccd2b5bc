"""Owns the digests: short names for canonical bytes, of values and of a cache's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash

from chunk_memo.errors import IdentityError
from chunk_memo.identity.canonical import canonical_bytes

__all__ = ["digest", "digest_of_bytes", "params_to_cache_id", "second_digest"]


def digest(value: Any, name: str = "value") -> str:
    """Return the xxh3-128 digest of a value's canonical bytes, as 32 hexadecimal characters.

    Parameters
    ----------
    value : object
        Anything that has an identity.
    name : str, optional
        What to call the value in an error message.

    Returns
    -------
    str
        32 hexadecimal characters.

    Raises
    ------
    IdentityError
        The value has no sound identity.

    Examples
    --------
    >>> len(digest([1, 2.0, "three"]))
    32
    """
    return xxhash.xxh3_128_hexdigest(canonical_bytes(value, name))


def digest_of_bytes(data: bytes) -> bytes:
    """Return the xxh3-128 digest of bytes: fast, and not made against adversaries.

    Parameters
    ----------
    data : bytes
        Usually canonical bytes.

    Returns
    -------
    bytes
        16 bytes.

    Examples
    --------
    >>> digest_of_bytes(b"").hex()
    '99aa06d3014798d86001c324468d497f'
    """
    return xxhash.xxh3_128_digest(data)


def second_digest(data: bytes) -> bytes:
    """Return a BLAKE2b digest of bytes, to be compared where xxh3 digests are equal.

    Parameters
    ----------
    data : bytes
        Usually canonical bytes.

    Returns
    -------
    bytes
        16 bytes.

    Examples
    --------
    >>> second_digest(b"").hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    import hashlib  # takes long to import, and serves collisions only

    return hashlib.blake2b(data, digest_size=16).digest()


def params_to_cache_id(params: Mapping[str, Any]) -> str:
    """Return the id of the cache that belongs to parameters.

    Parameters
    ----------
    params : mapping of str to object
        Names and values; their order does not matter.

    Returns
    -------
    str
        32 hexadecimal characters.

    Raises
    ------
    IdentityError
        A key is no str, or a value has no sound identity.

    Examples
    --------
    >>> params_to_cache_id({"n": 3, "tol": 1e-6}) == params_to_cache_id({"tol": 1e-6, "n": 3})
    True
    """
    for key in params:
        if not isinstance(key, str):
            raise IdentityError(
                f"'params' has a key that is no str: expected names, got {key!r}; use {str(key)!r} instead"
            )
    return xxhash.xxh3_128_hexdigest(canonical_bytes(dict(params), "params"))
