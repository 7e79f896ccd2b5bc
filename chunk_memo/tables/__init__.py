"""Results as tables: exports, tidy Arrow batches, Parquet datasets, SQL over both, and CSV sweeps converted.

A name is imported when it is first asked for, and with it the package that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chunk_memo.doors import door as _door

if TYPE_CHECKING:
    from chunk_memo.plainjson import NumpyEncoder
    from chunk_memo.tables.convert import Converted, convert_csv_to_parquet
    from chunk_memo.tables.dataset import Dataset, Written
    from chunk_memo.tables.export import (
        create_results_dataframe,
        export_all_formats,
        export_results_csv,
        export_results_json,
        export_results_pickle,
        export_summary_statistics,
        load_results_json,
        load_results_pickle,
    )
    from chunk_memo.tables.grids import attach_grid_id, canonicalize_params, grid_hash
    from chunk_memo.tables.queries import create_connection_and_views, query_events, query_seeds, refresh_views
    from chunk_memo.tables.rollups import RolledUp, rollup
    from chunk_memo.tables.rows import PARTITION_COLUMNS, write_event_rows, write_seed_rows
    from chunk_memo.tables.tidy import tidy_batches, tidy_reader, tidy_schema, tidy_table

__all__ = [
    "PARTITION_COLUMNS",
    "Converted",
    "Dataset",
    "NumpyEncoder",
    "RolledUp",
    "Written",
    "attach_grid_id",
    "canonicalize_params",
    "convert_csv_to_parquet",
    "create_connection_and_views",
    "create_results_dataframe",
    "export_all_formats",
    "export_results_csv",
    "export_results_json",
    "export_results_pickle",
    "export_summary_statistics",
    "grid_hash",
    "load_results_json",
    "load_results_pickle",
    "query_events",
    "query_seeds",
    "refresh_views",
    "rollup",
    "tidy_batches",
    "tidy_reader",
    "tidy_schema",
    "tidy_table",
    "write_event_rows",
    "write_seed_rows",
]

_HOMES = {
    "chunk_memo.plainjson": ("NumpyEncoder",),
    "chunk_memo.tables.convert": ("Converted", "convert_csv_to_parquet"),
    "chunk_memo.tables.dataset": ("Dataset", "Written"),
    "chunk_memo.tables.export": (
        "create_results_dataframe",
        "export_all_formats",
        "export_results_csv",
        "export_results_json",
        "export_results_pickle",
        "export_summary_statistics",
        "load_results_json",
        "load_results_pickle",
    ),
    "chunk_memo.tables.grids": ("attach_grid_id", "canonicalize_params", "grid_hash"),
    "chunk_memo.tables.queries": (
        "create_connection_and_views",
        "query_events",
        "query_seeds",
        "refresh_views",
    ),
    "chunk_memo.tables.rollups": ("RolledUp", "rollup"),
    "chunk_memo.tables.rows": ("PARTITION_COLUMNS", "write_event_rows", "write_seed_rows"),
    "chunk_memo.tables.tidy": ("tidy_batches", "tidy_reader", "tidy_schema", "tidy_table"),
}

if not TYPE_CHECKING:  # a checker shall go on naming what is not there
    __getattr__, __dir__ = _door(__name__, _HOMES)
