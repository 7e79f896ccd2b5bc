"""``chunk-memo doctor``: what the file system of a folder can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from chunk_memo import doctor as doctor_
from chunk_memo.cli import common

__all__ = ["doctor"]

_SIGNS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@click.command(short_help="Find out what the file system of DIR can do.")
@click.argument("folder", metavar="DIR", type=common.FOLDER)
@common.as_json
def doctor(folder: Path, as_json: bool) -> None:
    """Find out what the file system of DIR can do, by trying it in a folder that is removed again.

    Hard links, renaming, fsync, whether another process sees new files, the clock, space, modes. The last line is
    the way in which files will be committed there.

    Exit codes: 0 results can be kept there; 1 something stands in the way; 2 DIR is no folder.
    """
    found = doctor_.examine(folder)
    if as_json:
        common.echo_json(found.to_dict())
    else:
        common.echo_lines(_lines(found))
    if not found.is_sound:
        raise SystemExit(1)


def _lines(found: doctor_.Examination) -> Iterator[str]:
    width = max(len(probe.name) for probe in found.probes)
    for probe in found.probes:
        way_out = f"; {probe.way_out}" if probe.way_out else ""
        yield f"{_SIGNS[probe.verdict]}  {probe.name:<{width}}  {probe.what}{way_out}"
    yield f"files are committed by: {found.mode}"
