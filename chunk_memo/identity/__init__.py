"""When two values are the same: canonical bytes, digests, and the identity of functions.

Canonical bytes are typed and self-delimiting, so different values never share them, and they can
be decoded again. Nothing in them depends on ``repr``, ``hash``, memory addresses, the order of a
set or the version of Python. A digest is a short name for them.

This is the front door; the modules behind it import downward only:

======================================  ==========================================================
`jsonable`                              values as JSON, by way of canonical bytes
`decoding`, `rebuilding`                from canonical bytes back to values
`digests`                               digests of values, and ids of caches
`canonical`                             which type is encoded how
`functions`, `source`, `syntax`         the identity of functions, and the code as it was written
`tables`, `arrays`                      values of pandas, xarray, Arrow, polars and NumPy
`containers`, `instances`               values of the standard library and of users' classes
`walk`                                  the walk over values that hold values
`grammar`                               the bytes of plain values, and the marks between them
======================================  ==========================================================
"""

from __future__ import annotations

from chunk_memo.identity.canonical import (
    canonical_bytes,
    canonical_many,
    identify_function,
    register_identity,
)
from chunk_memo.identity.decoding import decode_canonical
from chunk_memo.identity.digests import digest, digest_of_bytes, params_to_cache_id, second_digest
from chunk_memo.identity.functions import SCHEME, FunctionIdentity, unwrap
from chunk_memo.identity.grammar import Opaque, normalize
from chunk_memo.identity.jsonable import from_jsonable, to_jsonable
from chunk_memo.identity.parts import Explanation, Part, differences
from chunk_memo.identity.project import OutOfReach
from chunk_memo.identity.walk import MAX_DEPTH

__all__ = [
    "MAX_DEPTH",
    "SCHEME",
    "Explanation",
    "FunctionIdentity",
    "Opaque",
    "OutOfReach",
    "Part",
    "canonical_bytes",
    "canonical_many",
    "decode_canonical",
    "differences",
    "digest",
    "digest_of_bytes",
    "from_jsonable",
    "identify_function",
    "normalize",
    "params_to_cache_id",
    "register_identity",
    "second_digest",
    "to_jsonable",
    "unwrap",
]
