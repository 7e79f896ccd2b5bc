"""The same sweep by chunk_memo and by its rivals, each used as its documentation tells for a sweep.

`contestants` holds one class per library; `old_package` runs the older package of the same import name in a
process of its own; `contest` lets them take turns and counts places.
"""

from __future__ import annotations

from benchmarks.rivals.contest import run

__all__ = ["run"]
