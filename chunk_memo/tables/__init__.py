"""Results as tables: tidy Arrow batches, Parquet datasets, SQL over both, and the conversion of CSV sweeps.

A name is imported when it is first asked for, and with it the package that it needs.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chunk_memo.tables.tidy import tidy_batches, tidy_reader, tidy_schema, tidy_table

__all__ = [
    "tidy_batches",
    "tidy_reader",
    "tidy_schema",
    "tidy_table",
]

_HOMES = {
    "chunk_memo.tables.tidy": ("tidy_batches", "tidy_reader", "tidy_schema", "tidy_table"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a checker shall go on naming what is not there

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(_import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
