"""What objects look like in a notebook: small cards of HTML, and maps of what is stored as inline SVG.

Every text goes through one door (:func:`text`), which cuts it to a length, takes out what would move a cursor or
turn a line around, and escapes it; nothing is loaded from anywhere, and there is no script. A card brings its own
background and colours, light by default, dark where the reader's system, JupyterLab, VS Code or Colab is: so it
never depends on what the page behind it looks like. Contrasts are at least 4.5 (tests hold them, and look at the
cards in a browser); no card is wider than the cell that it stands in.
"""

from __future__ import annotations

import html
import itertools
import math
import reprlib
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunk_memo.display.history import size_text
from chunk_memo.display.meter import duration_text
from chunk_memo.failures import Failure, Failures
from chunk_memo.plan import FAILED, Plan

if TYPE_CHECKING:
    from chunk_memo.cache import ChunkCache
    from chunk_memo.discovery import Caches
    from chunk_memo.engine import Diagnostics
    from chunk_memo.memo import ChunkMemo
    from chunk_memo.results import SweepResult
    from chunk_memo.runs import RunFailures, RunRecord, Runs
    from chunk_memo.store import Store

__all__ = [
    "DARK",
    "LIGHT",
    "axes_facts",
    "card",
    "coverage_map",
    "facts",
    "html_of_cache",
    "html_of_caches",
    "html_of_diagnostics",
    "html_of_failures",
    "html_of_memo",
    "html_of_plan",
    "html_of_result",
    "html_of_run",
    "html_of_runs",
    "html_of_store",
    "params_facts",
    "rows_table",
    "text",
    "value_text",
]

LIGHT = {
    "bg": "#ffffff",
    "fg": "#1b1f24",
    "mute": "#57606a",
    "line": "#d0d7de",
    "head": "#f3f5f7",
    "stored": "#1a6fb5",
    "part": "#9cc6ea",
    "missing": "#e4e7eb",
    "failed": "#c62828",
}
"""Colours by day."""

DARK = {
    "bg": "#1c2128",
    "fg": "#e6edf3",
    "mute": "#a3adb8",
    "line": "#444c56",
    "head": "#262c36",
    "stored": "#58a6f0",
    "part": "#2d5480",
    "missing": "#3a424d",
    "failed": "#ff7b72",
}
"""Colours by night."""

_DARK_PAGES = (
    '[data-jp-theme-light="false"] .cm-card',
    "body.vscode-dark .cm-card",
    "body.vscode-high-contrast:not(.vscode-high-contrast-light) .cm-card",
    'html[theme="dark"] .cm-card',
    'html[data-theme="dark"] .cm-card',
)
"""Pages that say themselves that they are dark."""

_LIGHT_PAGES = (
    '[data-jp-theme-light="true"] .cm-card',
    "body.vscode-light .cm-card",
    'html[theme="light"] .cm-card',
    'html[data-theme="light"] .cm-card',
)

_MOST_TEXT = 120
"""Characters that a text has on a card."""

_MOST_ROWS = 50
"""Rows that a table shows."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _MOST_TEXT
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdeque = 6
_SHORT.maxdict = 6
_SHORT.maxlevel = 3


# --- texts --------------------------------------------------------------------------------------------------


def text(value: object, most: int = _MOST_TEXT) -> str:
    r"""Return a text that can stand anywhere in HTML: short, without control characters, escaped.

    Parameters
    ----------
    value : object
        What is shown by its ``str``.
    most : int, default 120
        Characters to keep.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> text("<b>bold</b>\x1b[31m" + "x" * 1000, 30)
    '&lt;b&gt;bold&lt;/b&gt;�[31mxxxxxxxxxxxxx…'
    """
    said = value if isinstance(value, str) else str(value)
    long = len(said) > most
    said = said[: most - 1 if long else most]
    said = "".join(_visible(char) for char in said)
    return html.escape(said + ("…" if long else ""), quote=True)


def _visible(char: str) -> str:
    if char in "\n\t":
        return " "
    # Control characters, surrogates, and those that turn the direction of a line around.
    return "�" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char


def value_text(value: object, most: int = _MOST_TEXT) -> str:
    """Return a value as Python writes it, cut short, escaped.

    Parameters
    ----------
    value : object
        The value, which may be huge.
    most : int, default 120
        Characters to keep.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> value_text("<script>"), value_text(list(range(100)))
    ('&#x27;&lt;script&gt;&#x27;', '[0, 1, 2, 3, 4, 5, ...]')
    """
    if isinstance(value, str | bytes):
        return text(repr(value[: most + 1]), most)
    if isinstance(value, np.ndarray):
        return text(f"array of {value.dtype}, shape {value.shape}", most)
    if isinstance(value, float | int | bool | type(None)):
        return text(repr(value), most)
    try:
        return text(_SHORT.repr(value), most)
    except Exception as error:  # a class of the user's may fail at that
        return text(f"<{type(value).__name__}: {type(error).__name__}>", most)


# --- cards --------------------------------------------------------------------------------------------------


def _variables(colours: Mapping[str, str]) -> str:
    return ";".join(f"--cm-{name}:{colour}" for name, colour in colours.items())


def _style() -> str:
    light, dark = _variables(LIGHT), _variables(DARK)
    return (
        "<style>"
        f".cm-card{{{light}}}"
        f"@media (prefers-color-scheme:dark){{.cm-card{{{dark}}}}}"
        f"{','.join(_LIGHT_PAGES)}{{{light}}}"
        f"{','.join(_DARK_PAGES)}{{{dark}}}"
        ".cm-card{background:var(--cm-bg);color:var(--cm-fg);border:1px solid var(--cm-line);border-radius:6px;"
        "padding:8px 12px;margin:4px 0;max-width:640px;box-sizing:border-box;overflow:hidden;"
        "font:13px/1.45 system-ui,sans-serif;overflow-wrap:anywhere;text-align:left}"
        ".cm-card *{box-sizing:border-box}"
        ".cm-card .cm-title{font-weight:600}.cm-card .cm-mute{color:var(--cm-mute)}"
        ".cm-card .cm-failed{color:var(--cm-failed)}"
        ".cm-card dl{display:grid;grid-template-columns:minmax(72px,max-content) 1fr;gap:1px 12px;margin:6px 0}"
        ".cm-card dt{color:var(--cm-mute);margin:0;font-weight:400}.cm-card dd{margin:0;min-width:0}"
        ".cm-card .cm-scroll{overflow-x:auto;max-width:100%}"
        ".cm-card table{border-collapse:collapse;margin:6px 0;color:inherit;background:none;font-size:12px}"
        ".cm-card th,.cm-card td{text-align:left;vertical-align:top;padding:2px 10px 2px 0;border:0;"
        "border-bottom:1px solid var(--cm-line);background:var(--cm-bg);color:var(--cm-fg);max-width:320px;"
        "overflow-wrap:break-word}"
        ".cm-card th{color:var(--cm-mute);font-weight:400;white-space:nowrap}"
        ".cm-card td.cm-n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
        ".cm-card svg{display:block;max-width:100%;height:auto;margin:6px 0}"
        ".cm-card svg text{fill:var(--cm-mute);font:11px system-ui,sans-serif}"
        ".cm-card pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;font-size:12px;"
        "background:none;color:inherit}"
        ".cm-card summary{cursor:pointer}"
        ".cm-card .cm-key{display:inline-block;width:10px;height:10px;margin:0 4px 0 10px;border-radius:2px;"
        "border:1px solid var(--cm-line)}"
        "</style>"
    )


def card(title: str, about: str = "", *parts: str) -> str:
    """Return a card.

    Parameters
    ----------
    title : str
        What it is; escaped here.
    about : str, optional
        What stands behind the title; escaped here.
    *parts : str
        What stands below, as HTML.

    Returns
    -------
    str
        The card as HTML.
    """
    said = f' <span class="cm-mute">{text(about, 400)}</span>' if about else ""
    return (
        f'{_style()}<div class="cm-card"><div><span class="cm-title">{text(title)}</span>{said}</div>'
        f"{''.join(parts)}</div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names with what is said of each.

    Parameters
    ----------
    pairs : iterable of tuple of str
        A name, escaped here, and HTML.

    Returns
    -------
    str
        A list; nothing where there are no pairs.
    """
    inner = "".join(f"<dt>{text(name, 60)}</dt><dd>{said}</dd>" for name, said in pairs)
    return f"<dl>{inner}</dl>" if inner else ""


def rows_table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Return a table, which scrolls by itself where it is wider than the cell.

    Parameters
    ----------
    head : sequence of str
        Names of the columns; escaped here.
    rows : sequence of sequence of str
        Cells as HTML.
    numbers : iterable of int, optional
        Which columns are numbers.

    Returns
    -------
    str
        The table.
    """
    right = set(numbers)
    top = "".join(f"<th>{text(name, 60)}</th>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="cm-n">{cell}</td>' if column in right else f"<td>{cell}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    more = f'<div class="cm-mute">… and {len(rows) - _MOST_ROWS:,} more</div>' if len(rows) > _MOST_ROWS else ""
    return f'<div class="cm-scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def axes_facts(coords: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
    """Return what is said of axes: how many values, the first ones and the last.

    Parameters
    ----------
    coords : mapping of str to sequence
        Axis name to values.

    Returns
    -------
    list of tuple of str
        Pairs for :func:`facts`.
    """
    found = []
    for name, values in coords.items():
        shown = [value_text(value, 40) for value in values[:3]]
        if len(values) > 4:
            shown.append("…")
        shown += [value_text(value, 40) for value in values[3:][-1:]]
        count = f'<span class="cm-mute">({len(values):,})</span>'
        found.append((name, f"{', '.join(shown)} {count}"))
    return found


def params_facts(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of params.

    Parameters
    ----------
    params : mapping
        Name to value.

    Returns
    -------
    list of tuple of str
        Pairs for :func:`facts`.
    """
    rows = [(str(name), value_text(value)) for name, value in itertools.islice(params.items(), 20)]
    if len(params) > 20:
        rows.append(("…", f"and {len(params) - 20:,} more"))
    return rows


# --- the map of what is stored ------------------------------------------------------------------------------

_COLUMNS, _ROWS = 40, 20
"""Fields of a map, at most."""


def _legend(states: Iterable[str]) -> str:
    names = {"stored": "stored", "part": "in part", "missing": "missing", "failed": "failed"}
    inner = "".join(
        f'<span class="cm-key" style="background:var(--cm-{state})"></span>{names[state]}'
        for state in names
        if state in states
    )
    return f'<div class="cm-mute" style="margin-left:-10px">{inner}</div>' if inner else ""


def _named_states(there: npt.NDArray[Any], failed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    names = np.where(there >= 1, "stored", np.where(there > 0, "part", "missing"))
    return np.where(failed, "failed", names)


def _reduced(array: npt.NDArray[Any], axis: int, most: int) -> npt.NDArray[Any]:
    """Return sums over neighbours, so that no more than so many fields are left along an axis."""
    size = array.shape[axis]
    if size <= most:
        return array
    edges = np.linspace(0, size, most + 1).astype(int)[:-1]
    return np.add.reduceat(array, edges, axis=axis)


def coverage_map(plan: Plan) -> str:
    """Return a map of the chunks of a request: which are stored, in part, missing, failed.

    Of the two axes with the most chunks one runs down and the other to the right; other axes lie upon each other,
    and so do neighbours where there are too many chunks to be told apart.

    Parameters
    ----------
    plan : Plan
        The plan of the request.

    Returns
    -------
    str
        Inline SVG and its legend.
    """
    selection = plan.selection
    cells = plan.cells
    states, missing = plan.states, plan.missing
    if cells.ranking is not None:
        order = np.argsort(cells.ranking)
        states, missing = states[order], missing[order]
    shape = cells.shape or (1,)
    points = np.ones(1, np.intp)
    for axis in cells.axes:
        points = np.multiply.outer(points, axis.lengths).reshape(-1)
    failed = (states == FAILED).astype(np.intp).reshape(shape)
    points, missing = points.reshape(shape), missing.reshape(shape)
    shown = sorted(sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2])
    others = tuple(axis for axis in range(len(shape)) if axis not in shown)
    arrays = [array.sum(axis=others) for array in (points, missing, failed)]
    arrays = [array[np.newaxis] if array.ndim == 1 else array for array in arrays]
    arrays = [_reduced(_reduced(array, 0, _ROWS), 1, _COLUMNS) for array in arrays]
    points, missing, failed = arrays
    names = _named_states(1 - missing / np.maximum(points, 1), failed > 0)
    named = [selection.order[axis] for axis in shown] if selection.order else []
    return _grid_svg(names, points, missing, named) + _legend(set(names.reshape(-1).tolist()))


def _grid_svg(
    names: npt.NDArray[Any], points: npt.NDArray[Any], missing: npt.NDArray[Any], axes: Sequence[str]
) -> str:
    rows, columns = names.shape
    wide = max(4, min(24, 480 // columns))
    high = max(4, min(18, 160 // rows))
    left, top = 4, 16
    width, height = left + columns * wide + 4, top + rows * high + 16
    parts = []
    for row in range(rows):
        for name, group in itertools.groupby(range(columns), key=lambda column: names[row, column]):
            run = list(group)
            there = int((points - missing)[row, run].sum())
            asked = int(points[row, run].sum())
            parts.append(
                f'<rect x="{left + run[0] * wide}" y="{top + row * high}" width="{len(run) * wide - 1}"'
                f' height="{high - 1}" fill="var(--cm-{name})"><title>{there:,} of {asked:,} points stored'
                f"</title></rect>"
            )
    across = f"→ {axes[-1]}" if axes else "the one point"
    down = f"   ↓ {axes[0]}" if len(axes) > 1 else ""
    label = f'<text x="{left}" y="11">{text(across + down, 70)}</text>'
    more = f"{int(points.sum()):,} points"
    foot = f'<text x="{left}" y="{height - 4}">{more}</text>'
    return (
        f'<svg role="img" viewBox="0 0 {max(width, 240)} {height}" width="{max(width, 240)}" height="{height}"'
        f' aria-label="map of what is stored">{label}{"".join(parts)}{foot}</svg>'
    )


def _case_map(result: SweepResult) -> str:
    """Return a map of points that form no grid: over two axes of numbers, or as a strip."""
    status = result.design.status()
    states = {0: "missing", 1: "stored", 2: "failed"}
    numeric = [
        (name, np.asarray(values, float))
        for name, (_, values) in result.design.coords.items()
        if values
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
        and max(map(abs, values)) < 1e300
    ]
    if len(numeric) < 2 or not len(status):
        return ""
    (first, xs), (second, ys) = numeric[:2]
    step = max(1, len(status) // 400)
    width, height, edge = 320, 180, 18

    def scaled(values: npt.NDArray[Any], size: float) -> npt.NDArray[Any]:
        low, high = float(values.min()), float(values.max())
        return (values - low) / ((high - low) or 1.0) * size

    at_x, at_y = scaled(xs, width - 2 * edge) + edge, height - edge - scaled(ys, height - 2 * edge)
    dots = "".join(
        f'<circle cx="{at_x[i]:.1f}" cy="{at_y[i]:.1f}" r="2" fill="var(--cm-{states[int(status[i])]})"/>'
        for i in range(0, len(status), step)
    )
    names = f'<text x="{edge}" y="11">{text(f"→ {first}   ↑ {second}", 60)}</text>'
    told = {states[int(state)] for state in np.unique(status)}
    return (
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' aria-label="map of the points">{names}{dots}</svg>{_legend(told)}'
    )


# --- what is shown of what ----------------------------------------------------------------------------------


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _costs(plan: Plan) -> list[tuple[str, str]]:
    if not plan.executed_points or plan.seconds is None or plan.bytes is None:
        return []
    said = f"about {_seconds(plan.seconds)} of compute, {size_text(int(plan.bytes))} of files"
    return [("would take", text(said))]


def html_of_plan(plan: Plan) -> str:
    """Return a plan as a card.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    str
        HTML.
    """
    whole, part = plan.cached_chunks, plan.partial_chunks
    places = [_plural(whole, "whole chunk")] if whole else []
    places += [f"{_plural(part, 'chunk')} stored in part"] if part else []
    rows = [
        ("to read", " in ".join([_plural(plan.cached_points, "point"), *filter(None, [" and ".join(places)])])),
        ("to run", f"<b>{_plural(plan.executed_points, 'point')}</b>"),
        *(("because", f"{_plural(g.points, 'point')}: {text(g.reason, 200)}") for g in plan.groups),
        *_costs(plan),
    ]
    about = f"{_plural(plan.total_points, 'point')} in {_plural(plan.total_chunks, 'chunk')}"
    return card("Plan", about, facts(rows), coverage_map(plan))


def html_of_diagnostics(diagnostics: Diagnostics) -> str:
    """Return diagnostics as a card.

    Parameters
    ----------
    diagnostics : Diagnostics
        What a run did.

    Returns
    -------
    str
        HTML.
    """
    d = diagnostics
    points = [("executed", d.executed_points), ("cached", d.cached_points), ("failed", d.failed_points)]
    said = ", ".join(f"{count:,} {what}" for what, count in points if count or what != "failed")
    times = [("plan", d.plan_seconds), ("read", d.read_seconds), ("execute", d.execute_seconds)]
    times.append(("write", d.write_seconds))
    widths = [max(0.0, float(seconds)) for _, seconds in times]
    total = sum(widths)
    seconds_said = ", ".join(f"{what} {_seconds(seconds)}" for what, seconds in times)
    chunks = f"{d.total_chunks:,}: {d.executed_chunks:,} executed, {d.cached_chunks:,} cached"
    if d.partial_chunks:
        chunks += f", {d.partial_chunks:,} in part"
    bytes_said = f"{size_text(d.bytes_read)} read, {size_text(d.bytes_written)} written"
    rows = [("points", said), ("chunks", chunks), ("seconds", seconds_said), ("bytes", bytes_said)]
    others = {field.name for field in fields(d)}  # all of them, for those who want to know
    detail = rows_table(["what", "value"], [[text(name), text(getattr(d, name))] for name in sorted(others)], [1])
    bar = _bar(dict(zip((what for what, _ in times), widths, strict=True)), total)
    return card(
        "Diagnostics",
        f"{d.total_points:,} points",
        facts((name, text(said, 300)) for name, said in rows),
        bar,
        f"<details><summary class='cm-mute'>all fields</summary>{detail}</details>",
    )


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 10 else duration_text(seconds)


def _bar(shares: Mapping[str, float], total: float) -> str:
    """Return where the seconds went, as a bar."""
    if total <= 0:
        return ""
    shades = ("missing", "part", "stored", "mute")
    at, parts = 0.0, []
    for (what, seconds), shade in zip(shares.items(), shades, strict=False):
        width = 400 * seconds / total
        parts.append(
            f'<rect x="{at:.1f}" y="0" width="{width:.1f}" height="8" fill="var(--cm-{shade})">'
            f"<title>{text(what)} {_seconds(seconds)}</title></rect>"
        )
        at += width
    return (
        f'<svg role="img" viewBox="0 0 400 8" width="400" height="8" aria-label="where the seconds went">'
        f"{''.join(parts)}</svg>"
    )


def html_of_result(result: SweepResult) -> str:
    """Return a labelled result as a card.

    Parameters
    ----------
    result : SweepResult
        The result.

    Returns
    -------
    str
        HTML.
    """
    plan = result.plan()
    design = result.design
    grid = len(design.coords) == len(design.dims) and all(dim == name for name, (dim, _) in design.coords.items())
    failed = len(result.failures)
    said = f"{plan.cached_points:,} of {plan.total_points:,} points stored" + (
        f", {failed:,} failed" if failed else ""
    )
    shown = [*params_facts(result.params), *axes_facts({n: list(vs) for n, (_, vs) in design.coords.items()})]
    run = result.diagnostics
    more = [("this run", f"{run.executed_points:,} executed, {run.cached_points:,} cached")] if run else []
    return card(
        f"SweepResult {result.name}",
        said,
        facts([*shown, *more]),
        coverage_map(plan) if grid else _case_map(result),
    )


def html_of_cache(cache: ChunkCache) -> str:
    """Return a cache, or a slice of one, as a card.

    Parameters
    ----------
    cache : ChunkCache
        The cache.

    Returns
    -------
    str
        HTML.
    """
    plan = cache.plan()
    function = cache.metadata.get("function")
    name = cache.name or (str(function.get("name")) if isinstance(function, Mapping) else "")
    scattered = len(next(iter(cache.scattered_points(besides=True).values()), ()))
    rows = [
        *params_facts(cache.params),
        *axes_facts(cache.axis_values),
        ("stored", f"{plan.cached_points:,} of {_plural(plan.total_points, 'point')}"),
        *([("besides", f"{_plural(scattered, 'point')} that form no grid")] if scattered else []),
        *((f"{group.points:,} miss", text(group.reason, 200)) for group in plan.groups),
        *_costs(plan),
        ("folder", text(cache.path, 300)),
    ]
    return card(f"ChunkCache {name}".strip(), cache.cache_id, facts(rows), coverage_map(plan))


def html_of_memo(memo: ChunkMemo) -> str:
    """Return a memo as a card.

    Parameters
    ----------
    memo : ChunkMemo
        The memo.

    Returns
    -------
    str
        HTML.
    """
    sizes = ", ".join(f"{name}: {size:,}" for name, size in memo.chunk_spec.items())
    points = math.prod(len(values) for values in memo.axis_values.values())
    rows = [("root", text(memo.root, 300)), *axes_facts(memo.axis_values), ("chunks", text(sizes, 300))]
    return card("ChunkMemo", f"{points:,} points for each combination of params", facts(rows))


def html_of_failures(failures: Failures) -> str:
    """Return points that failed as a card: a row for each, the traceback behind its message.

    Parameters
    ----------
    failures : Failures
        The failures.

    Returns
    -------
    str
        HTML.
    """
    if not len(failures):
        return card("Failures", "no failures")
    rows = [_failure_row(failure) for failure in failures[: 2 * _MOST_ROWS]]
    table = rows_table(["points", "arguments", "error", "time", "attempts"], rows, [0, 4])
    left = len(failures) - len(rows)
    more = f'<div class="cm-mute">… and {left:,} more; to_dicts() and to_frame() give all</div>' if left else ""
    return card("Failures", f"{failures.points:,} points in {_plural(len(failures), 'record')}", table, more)


def _failure_row(failure: Failure) -> list[str]:
    shown = ", ".join(f"{text(name, 40)}={value_text(value, 60)}" for name, value in failure.arguments.items())
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(failure.failed_at / 1e9))
    said = f'<span class="cm-failed">{text(failure.error_type, 60)}</span>: {text(failure.message, 200)}'
    trace = "".join(_traced(line) for line in failure.traceback[-20_000:].splitlines()[-60:])
    worker = text(f"{failure.cause} in {failure.worker}, chunk {failure.chunk_hash}", 200)
    message = f"<details><summary>{said}</summary><pre>{worker}\n{trace}</pre></details>"
    when = f'<span style="white-space:nowrap">{text(local)}</span>'
    return [f"{failure.points:,}", shown or "its one point", message, when, str(failure.attempts)]


def _traced(line: str) -> str:
    return text(line, 300) + "\n"


# --- roots, stores and runs ---------------------------------------------------------------------------------


def html_of_caches(caches: Caches) -> str:
    """Return the caches below a root as a card with a table.

    Parameters
    ----------
    caches : Caches
        The caches.

    Returns
    -------
    str
        HTML.
    """
    rows = [
        [
            str(number),
            text(name, 60),
            text(params, 160),
            text(axes, 80),
            text(points, 40),
            size_text(nbytes),
            created,
        ]
        for number, (name, params, axes, points, nbytes, created) in enumerate(caches[:_MOST_ROWS].rows())
    ]
    table = rows_table(["", "function", "params", "axes", "points", "size", "created"], rows, [0, 4, 5])
    left = len(caches) - len(rows)
    more = f'<div class="cm-mute">… and {left:,} more</div>' if left > 0 else ""
    about = f"{_plural(len(caches), 'cache')} below {caches.root}"
    return card("Caches", about, table if rows else "", more)


def html_of_run_failures(failures: RunFailures) -> str:
    """Return runs that failed as a card: a row for each, the traceback behind its message.

    Parameters
    ----------
    failures : RunFailures
        The failures.

    Returns
    -------
    str
        HTML.
    """
    rows = []
    for each in failures[:_MOST_ROWS]:
        shown = ", ".join(f"{text(name, 40)}={value_text(value, 60)}" for name, value in each.params.items())
        said = f'<span class="cm-failed">{text(each.error_type, 60)}</span>: {text(each.message, 200)}'
        trace = "".join(_traced(line) for line in each.traceback[-20_000:].splitlines()[-60:])
        message = f"<details><summary>{said}</summary><pre>{trace}</pre></details>"
        rows.append([shown, message, text(each.failed_at[:19].replace("T", " ")), str(each.attempts)])
    table = rows_table(["params", "error", "time (UTC)", "attempts"], rows, [3]) if rows else ""
    left = len(failures) - len(rows)
    more = f'<div class="cm-mute">… and {left:,} more</div>' if left > 0 else ""
    return card("Failures", _plural(len(failures), "run") if rows else "no failures", table, more)


def html_of_runs(runs: Runs, title: str = "Runs") -> str:
    """Return runs as a card with a table: the params that differ, then when, how long and where.

    Parameters
    ----------
    runs : Runs
        The runs.
    title : str, default "Runs"
        What the card is called.

    Returns
    -------
    str
        HTML.
    """
    if not runs:
        return card(title, "no runs")
    shown = type(runs)(runs[:_MOST_ROWS])
    names = (shown.differing or shown.params)[:8]
    rows = [
        [
            *(value_text(run.params[name], 60) if name in run.params else "" for name in names),
            text(run.created_at[:19].replace("T", " ")),
            _elapsed(run),
            text(run.result_path.name, 60),
        ]
        for run in shown
    ]
    table = rows_table([*names, "created", "took", "result"], rows, [len(names) + 1])
    left = len(runs) - len(rows)
    more = f'<div class="cm-mute">… and {left:,} more</div>' if left > 0 else ""
    return card(title, _plural(len(runs), "run"), table, more)


def _elapsed(run: RunRecord) -> str:
    seconds = run.metadata.get("elapsed_seconds")
    return text(_seconds(float(seconds))) if isinstance(seconds, int | float) and seconds >= 0 else ""


def html_of_run(run: RunRecord) -> str:
    """Return one run as a card.

    Parameters
    ----------
    run : RunRecord
        The run.

    Returns
    -------
    str
        HTML.
    """
    rows = [
        *params_facts(run.params),
        ("result", text(run.result_path, 300)),
        ("created", text(run.created_at)),
        *((("size", size_text(run.file.size)),) if run.file is not None else ()),
        *((str(name), value_text(value)) for name, value in itertools.islice(run.metadata.items(), 20)),
    ]
    return card("RunRecord", run.params_hash, facts(rows))


def html_of_store(store: Store) -> str:
    """Return a store as a card, with its newest runs.

    Parameters
    ----------
    store : Store
        The store.

    Returns
    -------
    str
        HTML.
    """
    runs = store.list()
    newest = type(runs)(sorted(runs, key=lambda run: run.created_at, reverse=True)[:10])
    rows = [("results", text(store.results_dir, 300)), ("index", text(repr(store.index), 300))]
    inner = html_of_runs(newest, "newest runs").partition("</style>")[2] if newest else ""
    return card("Store", _plural(len(runs), "run"), facts(rows), inner)
