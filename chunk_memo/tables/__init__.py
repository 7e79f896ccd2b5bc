"""Results as tables and files for other programs.

A name is imported when it is first asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chunk_memo.plainjson import NumpyEncoder
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

__all__ = [
    "NumpyEncoder",
    "create_results_dataframe",
    "export_all_formats",
    "export_results_csv",
    "export_results_json",
    "export_results_pickle",
    "export_summary_statistics",
    "load_results_json",
    "load_results_pickle",
]

_HOMES = {
    "chunk_memo.plainjson": ("NumpyEncoder",),
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
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a checker shall go on naming what is not there

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_HOME_OF[name]), name)
        return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
