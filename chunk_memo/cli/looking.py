"""``chunk-memo ls`` and ``chunk-memo info``: what lies in a folder of caches, and what is known of one place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from chunk_memo import survey
from chunk_memo.cli import common
from chunk_memo.disk import files
from chunk_memo.disk.layouts import POINTS
from chunk_memo.display.history import size_text, table_lines
from chunk_memo.display.meter import duration_text

__all__ = ["info", "ls"]


@click.command(short_help="List the caches in ROOT.")
@click.argument("root", type=common.ROOT)
@common.as_json
def ls(root: Path, as_json: bool) -> None:
    """List the caches in ROOT, a folder of caches: their functions, axes, files and bytes.

    Exit codes: 0 all went well; 1 the metadata of a cache is damaged; 2 ROOT is no folder of caches.
    """
    found = survey.survey(root)
    if as_json:
        common.echo_json({"root": str(root), "caches": [cache.to_dict() for cache in found]})
    else:
        common.echo_lines(_listing(found))
        common.echo_lines(() if found else _elsewhere(root))
    if any(cache.damage for cache in found):
        raise SystemExit(1)


def _listing(found: list[survey.CacheSummary]) -> Iterator[str]:
    if found:
        head = ["cache", "function", "axes", "chunks", "parts", "size", "changed"]
        rows = [_row(cache) for cache in found]
        excess = max(map(len, table_lines(head, rows, range(3)))) - common.columns()
        if excess > 0:
            rows = common.shortened(rows, 2, excess)
            excess = max(map(len, table_lines(head, rows, range(3)))) - common.columns()
            rows = common.shortened(rows, 0, excess)
        yield from table_lines(head, rows, range(3))
    total = sum(cache.nbytes for cache in found)
    yield f"{len(found)} cache{'s' if len(found) != 1 else ''}, {size_text(total)}"
    for cache in found:
        if cache.damage:
            yield f"damaged: {cache.damage}"


def _elsewhere(root: Path) -> Iterator[str]:
    """Name folders of caches directly below, for whom it looked in the wrong place."""
    for below in sorted(files.list_folder(root)):
        count = 0
        with contextlib.suppress(OSError):  # no folder, or not this user's
            names = files.list_folder(root / below)
            count = sum(files.is_there(root / below / name / "metadata.json") for name in names)
        if count:
            yield f"'{root / below}' holds {count} cache{'s' if count != 1 else ''}"


def _row(cache: survey.CacheSummary) -> list[str]:
    axes = " × ".join(f"{name} {count}" for name, count in cache.axes.items())
    counts = [str(cache.chunk_files), str(cache.part_files) if cache.part_files else ""]
    name = cache.name or ("(damaged)" if cache.damage else "")
    return [cache.cache_id, name, axes, *counts, size_text(cache.nbytes), _ago(cache.changed_at)]


def _ago(when: float) -> str:
    return f"{duration_text(max(0.0, time.time() - when))} ago" if when else "never"


# --- one place ---------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A kind of folder that ``info`` can describe."""

    kind: str
    """What it is called, also in JSON."""
    marks: tuple[str, ...]
    """Names of which one lies in every such folder."""
    home: str
    """``module:function``; the function takes the folder and returns what JSON can hold, and lines of text."""


PLACES = [
    Place("cache", ("metadata.json", "chunks", f"{POINTS}/chunks"), "chunk_memo.cli.looking:describe_cache"),
    Place("dataset", ("_log",), "chunk_memo.cli.datasets:describe_dataset"),
    Place("datasets", ("seeds", "events"), "chunk_memo.cli.datasets:describe_datasets"),
    Place("root", (), "chunk_memo.cli.looking:describe_root"),
]
"""The kinds of folders, tried in this order; the last one fits any folder."""


@click.command()
@click.argument("path", type=common.FOLDER)
@common.as_json
def info(path: Path, as_json: bool) -> None:
    """Say what is known of PATH, a cache, a folder of caches, or datasets of rows.

    Of a cache: its function, params, axes, points and files. Of a folder of caches: their number and size. Of
    datasets: their rows, columns and views.

    Exit codes: 0 all went well; 1 its metadata is damaged; 2 PATH is no folder.
    """
    place = next(
        place for place in PLACES if not place.marks or any(_lies_in(path, mark) for mark in place.marks)
    )
    module, _, name = place.home.partition(":")
    describe: Callable[[Path], tuple[dict[str, Any], list[str]]] = getattr(import_module(module), name)
    document, lines = describe(path)
    if as_json:
        common.echo_json({"kind": place.kind, "path": str(path), **document})
    else:
        common.echo_lines(lines)
    if document.get("damage"):
        raise SystemExit(1)


def _lies_in(folder: Path, name: str) -> bool:
    return files.is_there(folder / name)


def describe_cache(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a cache.

    Parameters
    ----------
    path : Path
        Its folder.

    Returns
    -------
    document : dict
        What JSON can hold.
    lines : list of str
        The same as text.
    """
    path = path.absolute()
    found = survey.details(path.parent, path.name)
    return found.to_dict(), [*_cache_lines(found)]


def _cache_lines(found: survey.CacheDetails) -> Iterator[str]:
    summary, function = found.summary, found.function
    yield from _pair("cache", summary.cache_id)
    module = f" of module {function['module']}" if "module" in function else ""
    yield from _pair("function", f"{function['name']}{module}" if "name" in function else "")
    yield from _pair("code", function.get("version") or function.get("digest", ""))
    yield from _pair("namespace", summary.version)
    yield from _pair("created", summary.created_at)
    yield from _pair("params", ", ".join(f"{name}={value}" for name, value in found.params.items()))
    for number, axis in enumerate(found.axes):
        values = f"{axis.first} … {axis.last}" if axis.count > 1 else axis.first
        to_chunk = f", {axis.chunk_size} to a chunk" if axis.chunk_size else ""
        yield from _pair("axes" if not number else "", f"{axis.name}: {axis.count} values, {values}{to_chunk}")
    yield from _pair("points", f"{found.points:,} stored of {found.total_points:,} in {found.chunks:,} chunks")
    parts = f", {summary.part_files} with parts" if summary.part_files else ""
    besides = f"{found.scattered_points:,} points that form no grid in {summary.scattered_files} files"
    yield from _pair("besides", besides if summary.scattered_files else "")
    yield from _pair("files", f"{summary.chunk_files} complete{parts}, {found.layouts} layouts")
    yield from _pair("size", size_text(summary.nbytes))
    yield from _pair("changed", _ago(summary.changed_at))
    yield from _pair("adopted", ", ".join(found.adopted))
    yield from _pair("superseded", f"{found.generation} times" if found.generation else "")
    aside = {"failures": summary.failures, "quarantined": summary.quarantined, "unfinished": summary.unfinished}
    yield from _pair("set aside", ", ".join(f"{count} {name}" for name, count in aside.items() if count))
    yield from _pair("metadata", ", ".join(f"{name}={value}" for name, value in found.user.items()))
    yield from _pair("damaged", summary.damage)


def _pair(name: str, value: str) -> Iterator[str]:
    if value:
        yield f"{name:<11}{value}"


def describe_root(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Describe a folder of caches.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    document : dict
        What JSON can hold.
    lines : list of str
        The same as text.
    """
    found = survey.survey(path)
    sums: dict[str, Any] = {
        "caches": len(found),
        "functions": sorted({cache.name for cache in found if cache.name}),
        "chunk_files": sum(cache.chunk_files for cache in found),
        "part_files": sum(cache.part_files for cache in found),
        "nbytes": sum(cache.nbytes for cache in found),
        "changed_at": max((cache.changed_at for cache in found), default=0.0),
        "quarantined": sum(cache.quarantined for cache in found),
        "damage": "; ".join(cache.damage for cache in found if cache.damage),
    }
    functions = ", ".join(sums["functions"])
    lines = [
        *_pair("root", str(path)),
        *_pair("caches", str(sums["caches"])),
        *_pair("functions", functions),
        *_pair("files", f"{sums['chunk_files']} complete, {sums['part_files']} with parts"),
        *_pair("size", size_text(sums["nbytes"])),
        *_pair("changed", _ago(sums["changed_at"])),
        *_pair("set aside", f"{sums['quarantined']} quarantined" if sums["quarantined"] else ""),
        *_pair("damaged", sums["damage"]),
    ]
    return sums, lines
