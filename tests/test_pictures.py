"""Pictures pick lines, maps or several pictures by the number of axes; names and units come from the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunk_memo
from chunk_memo import ChunkMemo, RunHistory
from chunk_memo.errors import CacheNotFoundError, RootError, SpecError, UnknownAxisError
from chunk_memo.events import ChunkDone, RunStarted

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    """Draw into memory, and leave no figure open."""
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def swept(root: Path) -> Any:
    """Return a decorated function of three axes and its results."""
    memo = ChunkMemo(
        root,
        axis_values={"x": [0.0, 1.0, 2.0], "k": [1, 2], "who": ["a", "$b"]},
        metadata={"units": {"x": "m", "f": "N"}, "long_name": {"f": "force"}},
        verbose=0,
    )

    @memo.cache(vectorize=True)
    def f(x: float, k: int, who: str, alpha: float = 0.5) -> float:
        if (x, k, who) == (2.0, 2, "a"):
            raise ValueError("no")
        return x * k * alpha

    with warnings.catch_warnings(action="ignore"):
        f.sweep(on_error="record")
    return f


def test_the_number_of_axes_picks_the_picture(tmp_path: Path) -> None:
    """One axis is a line, two are lines in colours, or a map where asked; three are several pictures."""
    result = swept(tmp_path).cache_for().result()
    line = result.sel(k=2, who="$b").plot()
    assert [[0.0, 1.0, 2.0]] == [each.get_ydata().tolist() for each in line.lines]
    assert ("x [m]", "force [N]") == (line.get_xlabel(), line.get_ylabel())
    assert "f (alpha=0.5, k=2, who=\\$b)" == line.get_title()
    lines = result.sel(who="$b").plot()
    assert (2, "k") == (len(lines.lines), lines.get_legend().get_title().get_text())
    image = result.sel(who="$b").plot(x="x", y="k")
    assert np.array_equal([[0.0, 0.5, 1.0], [0.0, 1.0, 2.0]], image.collections[0].get_array())
    several = result.plot()
    shown = [axes.get_title() for axes in several.reshape(-1) if axes.get_visible()]
    assert 2 == len(shown)
    assert all("=" in title for title in shown)
    plt.gcf().canvas.draw()


def test_pictures_of_what_is_stored_and_done(tmp_path: Path) -> None:
    """Coverage counts what is stored, missing and failed; a timeline has a bar for each chunk."""
    cache = swept(tmp_path).cache_for()
    axes = cache.plot_coverage()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert ["stored (11)", "failed (1)"] == texts
    history = RunHistory()
    history(RunStarted("foo", "id", chunks=3, points=3, cached_points=0))
    for number in range(3):
        history(ChunkDone(f"{number}", 1, 0.5, 10, f"host:{number % 2}", 10**18 + number * 10**8))
    drawn = history.plot_timeline()
    assert 3 == len(drawn.collections) or 3 == len(drawn.patches)
    assert ["host:0", "host:1"] == [tick.get_text() for tick in drawn.get_yticklabels()]
    assert "foo: 3 chunks, 3 points" == drawn.get_title()
    plt.gcf().canvas.draw()


def test_pictures_of_cases(tmp_path: Path) -> None:
    """Points that form no grid are dots over two axes of numbers."""
    result = swept(tmp_path).cases([(0.5, 1, "a"), (0.7, 2, "a")])
    axes = result.plot()
    assert ("x [m]", "k") == (axes.get_xlabel(), axes.get_ylabel())
    assert [[0.5, 1.0], [0.7, 2.0]] == axes.collections[0].get_offsets().tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": "z"}, UnknownAxisError, "x='z' is no axis"),
        ({"x": "x", "y": "x"}, SpecError, "one part only"),
        ({"y": "k", "hue": "who"}, SpecError, "hue= has no place"),
        ({"value": "g"}, SpecError, "no variable 'g'"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, options: Any, error: type[Exception], message: str) -> None:
    """What cannot be drawn is refused with the way out."""
    result = swept(tmp_path).cache_for().result()
    with pytest.raises(error, match=message):
        result.plot(**options)


def test_words_are_no_picture(tmp_path: Path) -> None:
    """Where no output is a number the way to look at them is said."""
    memo = ChunkMemo(tmp_path, axis_values={"x": [1, 2]}, verbose=0)
    result = memo.cache(vectorize=True, name="word")(lambda x: "a" * x).sweep()
    with pytest.raises(SpecError, match=r"none of \['word'\] is one number per point.*result\.to_pandas\(\)"):
        result.plot()


# --- discovery -------------------------------------------------------------------------------------------------


def test_caches_are_found_and_opened_without_code(tmp_path: Path) -> None:
    """open() lists the caches below a folder with functions, params, axes, points, bytes, and opens them."""
    f = swept(tmp_path / "deep" / "root")
    f(x=0.0, k=1, who="$b", alpha=2.0)
    caches = chunk_memo.open(tmp_path)
    assert 2 == len(caches)
    shown = str(caches)
    assert "alpha=2.0" in shown
    assert "11 of 12" in shown
    assert "x: 3, k: 2, who: 2" in shown
    assert [0.5, 2.0] == sorted(cache.params["alpha"] for cache in caches)
    (cache,) = caches.where("f", alpha=lambda value: value > 1)
    assert 0.0 == float(cache.sel(x=0.0, k=1, who="$b").to_numpy())
    assert caches.entries[0].cache_id == caches[caches.entries[0].cache_id].cache_id
    assert "<table" in caches._repr_html_()
    with pytest.raises(CacheNotFoundError, match="2 caches below"):
        caches["f"]
    with pytest.raises(CacheNotFoundError, match="there is no cache 'g'"):
        caches["g"]
    with pytest.raises(RootError, match="there is no folder"):
        chunk_memo.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "no caches below" in str(chunk_memo.open(tmp_path / "empty"))


# --- plans that predict ----------------------------------------------------------------------------------------


def test_a_plan_predicts_the_seconds_of_a_run_like_the_last(tmp_path: Path, monkeypatch: Any) -> None:
    """A sweep of chunks of 0.2 s is predicted within a quarter, in whole and in part, by the stored timings."""
    import time

    import chunk_memo.work

    clock = [0.0]

    class Clock:
        """Time that passes in the function alone."""

        perf_counter = staticmethod(lambda: clock[0])
        time_ns = staticmethod(time.time_ns)

    monkeypatch.setattr(chunk_memo.work, "time", Clock)
    memo = ChunkMemo(tmp_path, {"s": 5}, {"s": list(range(50))}, verbose=0)

    @memo.cache(version="1")
    def slow(s: list[int]) -> list[int]:
        clock[0] += 0.2
        return s

    assert slow.plan().seconds is None
    slow.sweep(s=list(range(20)))
    assert 6 * 0.2 == pytest.approx(slow.plan().seconds, rel=0.25)
    slow.sweep()
    assert 0 == slow.plan().executed_points
    slow.invalidate()
    plan = slow.plan()
    assert 50 == plan.executed_points
    assert 2.0 == pytest.approx(plan.seconds, rel=0.25)
    before = clock[0]
    slow.sweep()
    assert clock[0] - before == pytest.approx(plan.seconds, rel=0.25)
