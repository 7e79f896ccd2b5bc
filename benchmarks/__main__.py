"""``python -m benchmarks``: measure everything in one go; print the machine and tables of ratios, as Markdown."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    database,
    extensions,
    growth,
    identity,
    imports,
    inserts,
    parallel,
    planning,
    points,
    reads,
    records,
    rivals,
    safety,
    store,
    streaming,
    tables,
    writes,
)
from benchmarks.report import Section, as_json, changes, digest, machine, markdown

SUBJECTS: dict[str, Callable[[Path, bool], Section]] = {
    "reads": reads.run,
    "writes": writes.run,
    "points": points.run,
    "records": records.run,
    "inserts": inserts.run,
    "planning": planning.run,
    "streaming": streaming.run,
    "imports": imports.run,
    "identity": identity.run,
    "extensions": extensions.run,
    "parallel": parallel.run,
    "safety": safety.run,
    "database": database.run,
    "tables": tables.run,
    "store": store.run,
    "rivals": rivals.run,
    "growth": growth.run,
}
"""What can be measured: each makes its section in an empty folder, and quickly if asked to."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked to.

    Parameters
    ----------
    words : sequence of str, optional
        The command line's arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"what to measure: {', '.join(SUBJECTS)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, and roughly how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="show how the ratios changed since that JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the growth curves here (.svg or .png)")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="put the bounds, in short, between this page's marks"
    )
    parser.add_argument("--dir", type=Path, help="work below this folder (default: the system's)")
    arguments = parser.parse_args(words)
    unknown = sorted(set(arguments.subjects) - set(SUBJECTS))
    if unknown:
        parser.error(f"unknown subject {unknown[0]!r}; choose from {', '.join(SUBJECTS)}")

    print(machine())
    sections: dict[str, Section] = {}
    for name in arguments.subjects or SUBJECTS:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="chunk-memo-", dir=arguments.dir) as folder:
            sections[name] = SUBJECTS[name](Path(folder), arguments.quick)
        print(f"\n{markdown(sections[name])}", flush=True)  # what is known is told, whatever comes after it
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    found = list(sections.values())
    if arguments.quick:
        print("\nThese are the small sizes; the bounds are those of the full ones.")
    if arguments.compare:
        old = json.loads(arguments.compare.read_text(encoding="utf-8"))
        print(f"\n### Changes\n\n{changes(old, found)}")
    if arguments.json:
        arguments.json.write_text(as_json(found) + "\n", encoding="utf-8")
    if arguments.page:
        arguments.page.write_text(
            _marked(arguments.page.read_text(encoding="utf-8"), digest(found)), encoding="utf-8"
        )
    if arguments.picture and "growth" in sections:
        growth.draw(sections["growth"].figures, arguments.picture)


def _marked(page: str, text: str) -> str:
    """Return a page with what stands between its two marks replaced."""
    before, mark, rest = page.partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end of figures -->")
    if not mark or not end:
        raise SystemExit(
            "--page: expected the lines '<!-- figures -->' and '<!-- end of figures -->' in the page"
        )
    return f"{before}{mark}\n{text}\n\n{end}{after}"


if __name__ == "__main__":
    main()
