"""How the cost of a chunk and of a point grows with the number of chunks: a table and a picture.

Nothing is synced here: what a disk takes to sync 100,000 files would hide what the library adds. Seconds are
those of the processor, the operating system's work for this process included, so that neighbours do not bend the
curves.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.grids import Shape, sweep_over, through_call
from benchmarks.report import Section, quantity, remove

__all__ = ["CURVES", "costs", "draw", "run"]

TITLE = "Growth"
CHUNK: Shape = (10, 10)
SIZES: tuple[Shape, ...] = ((10, 10), (25, 40), (100, 100), (250, 400))
"""Chunks along both axes: 100, 1,000, 10,000 and 100,000."""

CURVES = {
    "cold": "cold sweep, not synced, per chunk",
    "warm": "warm read, per chunk",
    "extend": "one value more, per chunk",
    "plan": "plan, per chunk",
    "one": "one point, per call",
}
"""What is measured; all but the last are divided by the number of chunks."""


def costs(folder: Path, chunks: Shape, turns: int) -> dict[str, float]:
    """Return what each kind of work costs at a size, in the processor's seconds for the whole.

    Parameters
    ----------
    folder : Path
        An empty folder.
    chunks : tuple of int
        Chunks along both axes.
    turns : int
        How often each is measured; the median counts.

    Returns
    -------
    dict
        By the names of `CURVES`; ``one`` is the mean of a hundred calls.
    """
    shape = (chunks[0] * CHUNK[0], chunks[1] * CHUNK[1])
    seconds: dict[str, list[float]] = {name: [] for name in CURVES}

    @contextmanager
    def timed(name: str, calls: int = 1) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[name].append((time.process_time() - start) / calls)

    random = Random(0)
    for _ in range(turns):
        remove(folder / "cache")
        sweep = sweep_over(folder / "cache", shape, CHUNK, durability="fast")
        with timed("cold"):
            sweep()
        with timed("plan"):
            sweep_over(folder / "cache", shape, CHUNK).plan().executed_points  # type: ignore[attr-defined]  # noqa: B018
        sweep = sweep_over(folder / "cache", shape, CHUNK, durability="fast")
        with timed("warm"):
            through_call(sweep)
        points = [(random.randrange(shape[0]), random.randrange(shape[1])) for _ in range(100)]
        with timed("one", len(points)):
            for x, y in points:
                sweep(x=x, y=y)
        with timed("extend"):
            sweep(x=list(range(shape[0] + 1)), extend_cache=True)
    remove(folder / "cache")
    return {name: statistics.median(each) for name, each in seconds.items()}


def run(folder: Path, quick: bool) -> Section:
    """Measure caches of 100 to 100,000 chunks; quick: of 100 and 400."""
    sizes = ((10, 10), (20, 20)) if quick else SIZES
    found = {}
    for chunks in sizes:
        count = math.prod(chunks)
        turns = 1 if quick or count > 50_000 else 3 if count > 5_000 else 7
        found[count] = costs(folder, chunks, turns)
    points = math.prod(CHUNK)
    lines = [
        "| chunks | points | " + " | ".join(name for name in CURVES.values()) + " | warm read, per point |",
        "|---:|---:|" + "---:|" * (len(CURVES) + 1),
    ]
    for count, each in found.items():
        cells = [quantity(each[name] / (1 if name == "one" else count), "s") for name in CURVES]
        cells.append(f"{each['warm'] / count / points * 1e9:.3g} ns")
        lines.append(f"| {count:,} | {count * points:,} | {' | '.join(cells)} |")
    least, most = min(found), max(found)
    ratios = {
        f"{CURVES[name]}: {most:,} over {least:,} chunks": _cost(found, name, most) / _cost(found, name, least)
        for name in CURVES
    }
    return Section(TITLE, "\n".join(lines), ratios, {str(count): each for count, each in found.items()})


def _cost(found: Mapping[Any, Mapping[str, float]], name: str, count: Any) -> float:
    """Return the seconds of one chunk, or of one call."""
    return found[count][name] / (1 if name == "one" else int(count))


_COLOURS = {"cold": "#d95f02", "warm": "#1b84c4", "extend": "#7570b3", "plan": "#3a9a5b", "one": "#d6408a"}
_INK = "#808890"


def draw(found: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw the curves; the ground is left clear and the ink is grey, so both dark and light pages show them.

    Parameters
    ----------
    found : mapping
        By the number of chunks (as text, as JSON has it): the seconds by the names of `CURVES`.
    path : Path
        An ``.svg`` or ``.png`` file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "chunk_memo", "font.size": 11, "text.color": _INK}
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
        counts = sorted(found, key=int)
        ends: list[tuple[float, str]] = []
        for name, colour in _COLOURS.items():
            micro = [_cost(found, name, count) * 1e6 for count in counts]
            axes.plot([int(count) for count in counts], micro, "o-", color=colour, linewidth=2, markersize=5)
            ends.append((micro[-1], name))
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="chunks in the cache, of 100 points each",
            ylabel="µs of the processor",
        )
        _label(axes, ends, int(counts[-1]))
        axes.set_title("What a chunk, or a call, costs as the cache grows", color=_INK, loc="left")
        axes.grid(True, which="major", color=_INK, alpha=0.25, linewidth=0.6)
        axes.tick_params(which="both", colors=_INK)
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
        axes.yaxis.set_major_formatter(lambda number, _: f"{number:,.0f}" if number >= 1 else f"{number:g}")
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _label(axes: Any, ends: list[tuple[float, str]], last: int) -> None:
    """Write each curve's name behind its end, moved apart where two would overlap."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    below = -math.inf
    for micro, name in sorted(ends):
        height = max(math.log10(micro), below + (high - low) / 20)
        below = height
        axes.annotate(
            CURVES[name],
            (last, 10**height),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=_COLOURS[name],
            annotation_clip=False,
        )
