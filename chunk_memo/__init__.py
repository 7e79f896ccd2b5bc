"""Memoize a function over a grid of parameters, in chunks that any netCDF reader can open.

A name is imported when it is first asked for (PEP 562), so ``import chunk_memo`` costs next to nothing, and a
program pays for the rooms that it enters: one that only catches our errors loads no NumPy, and one that reads
what is stored loads neither h5py nor joblib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chunk_memo.doors import door as _door

if TYPE_CHECKING:
    from chunk_memo.cache import ChunkCache
    from chunk_memo.decorated import SweepFunction
    from chunk_memo.discovery import Caches
    from chunk_memo.discovery import open as open
    from chunk_memo.disk.encoding import Record, register_encoding
    from chunk_memo.display.history import RunHistory
    from chunk_memo.errors import (
        CacheNotFoundError,
        CheckpointNotFoundError,
        ChunkFormatError,
        ChunkLostError,
        ChunkMemoError,
        ChunkMemoWarning,
        ChunkTimeoutError,
        CodeChangedError,
        CodeChangedWarning,
        CollisionError,
        ColumnTypeError,
        DamageWarning,
        DurabilityWarning,
        EncodingError,
        FailureWarning,
        FlushWarning,
        FormatVersionError,
        IdentityError,
        IdentityWarning,
        KeyFileError,
        MapBrokenError,
        MemoryLimitError,
        MemoryLimitWarning,
        MetadataError,
        NondeterminismWarning,
        OutputError,
        OverlapError,
        OverlapWarning,
        OwnerWarning,
        PackageVersionWarning,
        PickleRefusedError,
        PickleWarning,
        QueryError,
        ReadOnlyWarning,
        RootError,
        SignatureError,
        SpecError,
        StoreError,
        TableError,
        UnknownAxisError,
        UnknownIndexError,
        UnknownSimulationError,
        UnknownValueError,
        UntrustedPickleError,
    )
    from chunk_memo.failures import Failed, Failure, Failures
    from chunk_memo.identity import params_to_cache_id, register_identity
    from chunk_memo.memo import ChunkMemo, auto_load
    from chunk_memo.options import Options
    from chunk_memo.parallel import run_parallel
    from chunk_memo.plan import Plan
    from chunk_memo.protocol import CacheProtocol, RunnerContext
    from chunk_memo.results import SweepResult
    from chunk_memo.runners import (
        Diagnostics,
        run,
        run_chunks,
        run_chunks_streaming,
        run_streaming,
    )
    from chunk_memo.status import CacheStatus
    from chunk_memo.store import (
        IndexBackend,
        MemoryIndex,
        PostgresIndex,
        RunFailure,
        RunRecord,
        SQLiteIndex,
        Store,
    )

__version__ = "0.1.0.dev0"

# `open` is public, too, but no star import shall take Python's own away.
__all__ = [
    "CacheNotFoundError",
    "CacheProtocol",
    "CacheStatus",
    "Caches",
    "CheckpointNotFoundError",
    "ChunkCache",
    "ChunkFormatError",
    "ChunkLostError",
    "ChunkMemo",
    "ChunkMemoError",
    "ChunkMemoWarning",
    "ChunkTimeoutError",
    "CodeChangedError",
    "CodeChangedWarning",
    "CollisionError",
    "ColumnTypeError",
    "DamageWarning",
    "Diagnostics",
    "DurabilityWarning",
    "EncodingError",
    "Failed",
    "Failure",
    "FailureWarning",
    "Failures",
    "FlushWarning",
    "FormatVersionError",
    "IdentityError",
    "IdentityWarning",
    "IndexBackend",
    "KeyFileError",
    "MapBrokenError",
    "MemoryIndex",
    "MemoryLimitError",
    "MemoryLimitWarning",
    "MetadataError",
    "NondeterminismWarning",
    "Options",
    "OutputError",
    "OverlapError",
    "OverlapWarning",
    "OwnerWarning",
    "PackageVersionWarning",
    "PickleRefusedError",
    "PickleWarning",
    "Plan",
    "PostgresIndex",
    "QueryError",
    "ReadOnlyWarning",
    "Record",
    "RootError",
    "RunFailure",
    "RunHistory",
    "RunRecord",
    "RunnerContext",
    "SQLiteIndex",
    "SignatureError",
    "SpecError",
    "Store",
    "StoreError",
    "SweepFunction",
    "SweepResult",
    "TableError",
    "UnknownAxisError",
    "UnknownIndexError",
    "UnknownSimulationError",
    "UnknownValueError",
    "UntrustedPickleError",
    "__version__",
    "auto_load",
    "params_to_cache_id",
    "register_encoding",
    "register_identity",
    "run",
    "run_chunks",
    "run_chunks_streaming",
    "run_parallel",
    "run_streaming",
]

_HOMES = {
    "chunk_memo.cache": ("ChunkCache",),
    "chunk_memo.decorated": ("SweepFunction",),
    "chunk_memo.disk.encoding": (
        "Record",
        "register_encoding",
    ),
    "chunk_memo.discovery": ("Caches", "open"),
    "chunk_memo.display.history": ("RunHistory",),
    "chunk_memo.errors": (
        "CacheNotFoundError",
        "CheckpointNotFoundError",
        "ChunkFormatError",
        "ChunkLostError",
        "ChunkMemoError",
        "ChunkMemoWarning",
        "ChunkTimeoutError",
        "CodeChangedError",
        "CodeChangedWarning",
        "CollisionError",
        "ColumnTypeError",
        "DamageWarning",
        "DurabilityWarning",
        "EncodingError",
        "FailureWarning",
        "FlushWarning",
        "FormatVersionError",
        "IdentityError",
        "IdentityWarning",
        "KeyFileError",
        "MapBrokenError",
        "MemoryLimitError",
        "MemoryLimitWarning",
        "MetadataError",
        "NondeterminismWarning",
        "OutputError",
        "OverlapError",
        "OverlapWarning",
        "OwnerWarning",
        "PackageVersionWarning",
        "PickleRefusedError",
        "PickleWarning",
        "QueryError",
        "ReadOnlyWarning",
        "RootError",
        "SignatureError",
        "SpecError",
        "StoreError",
        "TableError",
        "UnknownAxisError",
        "UnknownIndexError",
        "UnknownSimulationError",
        "UnknownValueError",
        "UntrustedPickleError",
    ),
    "chunk_memo.failures": (
        "Failed",
        "Failure",
        "Failures",
    ),
    "chunk_memo.identity": (
        "params_to_cache_id",
        "register_identity",
    ),
    "chunk_memo.memo": (
        "ChunkMemo",
        "auto_load",
    ),
    "chunk_memo.options": ("Options",),
    "chunk_memo.parallel": ("run_parallel",),
    "chunk_memo.plan": ("Plan",),
    "chunk_memo.protocol": (
        "CacheProtocol",
        "RunnerContext",
    ),
    "chunk_memo.results": ("SweepResult",),
    "chunk_memo.runners": (
        "Diagnostics",
        "run",
        "run_chunks",
        "run_chunks_streaming",
        "run_streaming",
    ),
    "chunk_memo.status": ("CacheStatus",),
    "chunk_memo.store": (
        "IndexBackend",
        "MemoryIndex",
        "PostgresIndex",
        "RunFailure",
        "RunRecord",
        "SQLiteIndex",
        "Store",
    ),
}

if not TYPE_CHECKING:  # a checker shall go on naming what is not there
    __getattr__, __dir__ = _door(__name__, _HOMES)
