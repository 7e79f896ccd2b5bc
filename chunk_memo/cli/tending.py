"""``chunk-memo verify``, ``gc`` and ``merge``: what keeps a folder of caches sound, small and together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from chunk_memo import merging, upkeep, verification
from chunk_memo.cli import common
from chunk_memo.display.history import size_text
from chunk_memo.errors import RootError

__all__ = ["gc", "merge", "verify"]

_MOST_SHOWN = 50


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _subset(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Return what ``n/t`` means."""
    found = re.fullmatch(r"(\d+)/(\d+)", value)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= numbers[0] <= numbers[1]:
        raise click.BadParameter(f"expected N/T with 1 <= N <= T, such as 2/7, got {value!r}")
    return numbers


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Return what a number with a unit of time means."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    if not found:
        raise click.BadParameter(f"expected a number with s, m, h or d, such as 24h, got {value!r}")
    return float(found[1]) * _UNITS[found[2]]


# --- verify ------------------------------------------------------------------------------------------------


@click.command(short_help="Read every file in ROOT, and check every byte.")
@click.argument("root", type=common.ROOT)
@click.option("--subset", callback=_subset, default="1/1", metavar="N/T", help="Check the N-th of T parts only.")
@click.option("--repair", is_flag=True, help="Set damaged files aside, adopt chunk files, fold parts.")
@common.as_json
def verify(root: Path, subset: tuple[int, int], repair: bool, as_json: bool) -> None:
    """Read every file of every cache in ROOT, and check every byte.

    Without --repair nothing is written. With it damaged files are moved to the quarantine of their cache, chunk
    files that no layout names are adopted, and parts that hold all points of their chunk are folded. What a
    damaged file held is computed again by the next call that asks for it. --subset 1/7 to --subset 7/7 share the
    chunk files of a large root among the days of a week.

    Exit codes: 0 all is as it should be, or was repaired; 1 something is wrong; 2 ROOT is no folder of caches.
    """
    found = verification.verify(root, subset=subset, repair=repair)
    if as_json:
        common.echo_json(found.to_dict())
    else:
        common.echo_lines(_verified(found, repair))
    if not found.is_intact:
        raise SystemExit(1)


def _verified(found: verification.Verification, repair: bool) -> Iterator[str]:
    for finding in found.findings[:_MOST_SHOWN]:
        fate = f"; {finding.fate}" if finding.fate else ""
        yield f"{finding.kind}: {finding.path}: {finding.what}{fate}"
    if len(found.findings) > _MOST_SHOWN:
        yield f"… and {len(found.findings) - _MOST_SHOWN} more; --json shows all"
    counts = Counter(finding.kind for finding in found.findings)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing to tell"
    over = f", {found.passed_over} outside of the subset" if found.passed_over else ""
    yield f"{found.files} files of {_caches(found.caches)} read ({size_text(found.nbytes)}{over}): {told}"
    wrong = sum(finding.is_wrong for finding in found.findings)
    if wrong:
        yield f"{wrong} wrong" + ("" if repair else "; --repair sets damaged files aside")


def _caches(count: int) -> str:
    return f"{count} cache{'s' if count != 1 else ''}"


# --- gc ----------------------------------------------------------------------------------------------------


@click.command(short_help="Delete from ROOT what no call can ever need.")
@click.argument("root", type=common.ROOT)
@click.option(
    "--grace",
    callback=_seconds,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How old an unfinished or quarantined file must be: seconds, or with s, m, h, d.",
)
@click.option("--dry-run", is_flag=True, help="Tell only; delete nothing.")
@click.option("--quarantine", is_flag=True, help="Delete damaged files that were set aside, too.")
@common.as_json
def gc(root: Path, grace: float, dry_run: bool, quarantine: bool, as_json: bool) -> None:
    """Delete from every cache in ROOT what no call can ever need; never a point that counts.

    These are files none of whose points count any more, parts of chunks whose complete file is intact, layouts
    that say nothing of their own, what killed writers left behind, signs of runs that ended, and empty folders.
    Ages are taken by the clock of the file system.

    Exit codes: 0 all went well; 1 a cache had to be passed over; 2 ROOT is no folder of caches.
    """
    found = upkeep.collect(root, grace=grace, dry_run=dry_run, quarantine=quarantine)
    if as_json:
        common.echo_json(found.to_dict())
    else:
        common.echo_lines(_collected(found))
    if found.passed_over:
        raise SystemExit(1)


def _collected(found: upkeep.Collected) -> Iterator[str]:
    for cache_id, report in found.caches.items():
        yield f"{cache_id}: {_counts(asdict(report))}"
    for cache_id, why in found.passed_over.items():
        yield f"{cache_id}: passed over: {why}"
    verb = "would be deleted" if found.dry_run else "deleted"
    left = f", {found.leftovers} leftovers beside caches" if found.leftovers else ""
    yield f"{verb}: {_counts(asdict(found.total))}{left}"


def _counts(report: dict[str, int]) -> str:
    nbytes = report.pop("nbytes")
    told = ", ".join(f"{count} {kind}" for kind, count in report.items() if count)
    return f"{told} ({size_text(nbytes)})" if told else "nothing"


# --- merge -------------------------------------------------------------------------------------------------


@click.command(short_help="Copy to TARGET what SOURCE has and TARGET has not.")
@click.argument("source", type=common.ROOT)
@click.argument("target", type=common.TARGET)
@common.as_json
def merge(source: Path, target: Path, as_json: bool) -> None:
    """Copy to TARGET, a folder of caches, what SOURCE has and TARGET has not; SOURCE is only read.

    Every file is checked before it is written. Where both have a chunk with other outputs, TARGET's stays. Runs
    may go on in both. A merge that was killed goes on where it ended when it is started again.

    Exit codes: 0 TARGET has everything that SOURCE has; 1 something was passed over or is a conflict; 2 one of
    them is no folder of caches.
    """
    try:
        found = merging.merge(source, target)
    except RootError as error:
        raise click.BadParameter(str(error.strerror), param_hint="'SOURCE' and 'TARGET'") from error
    if as_json:
        common.echo_json(found.to_dict())
    else:
        common.echo_lines(_merged(found))
    if not found.is_whole:
        raise SystemExit(1)


def _merged(found: merging.Merge) -> Iterator[str]:
    for path in found.conflicts[:_MOST_SHOWN]:
        yield f"conflict: {path}: the target's has other outputs, and stays"
    for path, why in found.passed_over[:_MOST_SHOWN]:
        yield f"passed over: {path}: {why}"
    yield (
        f"{_caches(found.caches)}: {found.copied} chunk files copied ({size_text(found.nbytes)}),"
        f" {found.present} there already, {len(found.conflicts)} conflicts, {len(found.passed_over)} passed over"
    )
    rest = {"healed": found.healed, "chunks completed": found.folded}
    if any(rest.values()):
        yield ", ".join(f"{count} {name}" for name, count in rest.items() if count)
