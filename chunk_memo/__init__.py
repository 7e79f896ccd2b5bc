"""Memoize a function over a grid of parameters, in chunks that any netCDF reader can open."""

from __future__ import annotations

from chunk_memo.cache import ChunkCache
from chunk_memo.disk.encoding import Record, register_encoding
from chunk_memo.errors import (
    CacheNotFoundError,
    ChunkFormatError,
    ChunkMemoError,
    ChunkMemoWarning,
    CollisionError,
    DamageWarning,
    EncodingError,
    FormatVersionError,
    IdentityError,
    IdentityWarning,
    MetadataError,
    OutputError,
    OverlapError,
    OverlapWarning,
    PickleRefusedError,
    PickleWarning,
    RootError,
    SignatureError,
    SpecError,
    StoreError,
    UnknownAxisError,
    UnknownIndexError,
    UnknownValueError,
)
from chunk_memo.identity import params_to_cache_id, register_identity
from chunk_memo.memo import ChunkMemo, auto_load
from chunk_memo.plan import Plan
from chunk_memo.protocol import CacheProtocol, RunnerContext
from chunk_memo.runners import (
    Diagnostics,
    run,
    run_chunks,
    run_chunks_streaming,
    run_streaming,
)
from chunk_memo.status import CacheStatus

__version__ = "0.1.0.dev0"

__all__ = [
    "CacheNotFoundError",
    "CacheProtocol",
    "CacheStatus",
    "ChunkCache",
    "ChunkFormatError",
    "ChunkMemo",
    "ChunkMemoError",
    "ChunkMemoWarning",
    "CollisionError",
    "DamageWarning",
    "Diagnostics",
    "EncodingError",
    "FormatVersionError",
    "IdentityError",
    "IdentityWarning",
    "MetadataError",
    "OutputError",
    "OverlapError",
    "OverlapWarning",
    "PickleRefusedError",
    "PickleWarning",
    "Plan",
    "Record",
    "RootError",
    "RunnerContext",
    "SignatureError",
    "SpecError",
    "StoreError",
    "UnknownAxisError",
    "UnknownIndexError",
    "UnknownValueError",
    "__version__",
    "auto_load",
    "params_to_cache_id",
    "register_encoding",
    "register_identity",
    "run",
    "run_chunks",
    "run_chunks_streaming",
    "run_streaming",
]
