"""What objects look like in a notebook: inert, short, readable by day and by night, no wider than the cell."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import chromium, contrast, look, outline, page

import chunk_memo
from chunk_memo import ChunkCache, ChunkMemo, Store, run
from chunk_memo.display.notebook import DARK, LIGHT, card, text, value_text

EVIL = "<script>window.hit=1</script>"
HOSTILE: list[str] = [
    EVIL,
    "\"'><img src=x onerror=window.hit=1>",
    "</style><script>window.hit=1</script>",
    "</title></svg><script>window.hit=1</script>",
    "\x1b[31mred\x1b[0m\x07",
    "a\u202egnp.exe\u2066",
    "&lt;b&gt; &amp;",
    "\ud800",
    "x" * 10_000_000,
    "<b>" * 3_000_000,
    "line\none\r\ntwo",
]

ALLOWED_TAGS = {
    *("style", "div", "span", "dl", "dt", "dd", "b", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect"),
    *("text", "title", "circle", "details", "summary", "pre"),
}
ALLOWED_ATTRIBUTES = {
    *("class", "style", "role", "viewbox", "width", "height", "aria-label", "x", "y", "fill", "cx", "cy", "r"),
}


def objects(root: Path, words: list[str]) -> dict[str, Any]:
    """Return one of each object that a notebook shows, with these words as names, values, params and errors."""
    first, second = words[0], words[1 % len(words)]
    axis = "axis " + "".join(c for c in first[:50] if c.isprintable())
    memo = ChunkMemo(root / "memo", {axis: 2}, {axis: [*words, "fine"], "n": [1, 2, 3]}, verbose=0)
    cache = ChunkCache(
        root / "cache",
        "hostile",
        {"params": {"alpha": second, first[:200]: 1.5, "many": list(range(100)), "array": np.zeros(3)}},
        {axis: 2, "n": 2},
        {axis: [*words, "fine"], "n": [1, 2, 3]},
        verbose=0,
        vectorize=True,
        name=first[:300],
    )

    def evil(**point: Any) -> float:
        if point["n"] == 2:
            raise ValueError(first)
        return math.pi

    with warnings.catch_warnings(action="ignore"):
        _, diagnostics = run(cache.slice(n=[1, 2]), evil, on_error="record")
    store = Store(root / "store", root / "runs.db", file_suffix=".txt")
    for word in words[:3]:
        params = {"word": word[:5000], "n": 1}
        store.run_or_retrieve(params, lambda params, path: path.write_text("x"), note=word[:100])

    @memo.cache(vectorize=True, version="1", name=second[:100] or "f")
    def f(n: int, **axes: Any) -> float:
        return float(n)

    cases = f.cases([{axis: word, "n": number} for number, word in enumerate(words[:4])])
    return {
        "ChunkMemo": memo,
        "ChunkCache": cache,
        "slice": cache.slice(n=1),
        "Plan": cache.plan(),
        "Diagnostics": diagnostics,
        "SweepResult": cache.result(),
        "cases": cases,
        "Failures": cache.failures(),
        "no failures": cache.slice(n=1).failures(),
        "Store": store,
        "Runs": store.list(),
        "RunRecord": store.list()[0],
        "Caches": chunk_memo.open(root),
    }


def ordinary(root: Path) -> dict[str, Any]:
    """Return what a user would have after an hour's work."""
    memo = ChunkMemo(
        root / "memo",
        {"temperature": 4, "pressure": 5, "catalyst": 1},
        {
            "temperature": [300.0 + 10 * i for i in range(30)],
            "pressure": [1.0 + i / 4 for i in range(40)],
            "catalyst": ["none", "platinum on carbon", "zeolite"],
        },
        verbose=0,
        durability="fast",
    )

    @memo.cache(vectorize=True)
    def conversion(temperature: float, pressure: float, catalyst: str, time: float = 3600.0) -> float:
        if temperature > 500 and pressure > 8 and catalyst == "zeolite":
            raise ArithmeticError(f"the catalyst sinters at {temperature} K")
        return 1 - math.exp(-time * pressure / temperature**2)

    with warnings.catch_warnings(action="ignore"):
        result = conversion.sweep(
            temperature=[300.0 + 10 * i for i in range(22)],
            catalyst=["none", "zeolite"],
            on_error="record",
        )
    conversion.sweep(pressure=[1.0, 2.0, 2.25], time=60.0, catalyst="none")
    sample = conversion.sample(200, 4, temperature=(300.0, 600.0), pressure=(1.0, 10.0), catalyst="none")
    store = Store(root / "store", root / "runs.db", file_suffix=".txt")
    for rate in (0.1, 0.01, 0.001):
        params = {"rate": rate, "layers": [64, 64], "optimizer": "adam"}
        store.run_or_retrieve(params, lambda params, path: path.write_text("x"), git_sha="0f3a")
    cache = conversion.cache_for()
    return {
        "ChunkMemo": memo,
        "ChunkCache": cache,
        "Plan": conversion.plan(),
        "Diagnostics": result.diagnostics,
        "SweepResult": result,
        "one line": result.sel(catalyst="none", temperature=310.0),
        "cases": sample,
        "Failures": conversion.failures(),
        "Store": store,
        "Runs": store.list(),
        "RunRecord": store.list()[0],
        "Caches": chunk_memo.open(root),
    }


def cards(made: dict[str, Any]) -> dict[str, str]:
    """Return the HTML of each object."""
    return {name: thing._repr_html_() for name, thing in made.items()}


@pytest.fixture(scope="module")
def hostile_cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The HTML of objects that are full of hostile texts."""
    return cards(objects(tmp_path_factory.mktemp("hostile"), HOSTILE))


@pytest.fixture(scope="module")
def ordinary_cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The HTML of objects as they are."""
    return cards(ordinary(tmp_path_factory.mktemp("ordinary")))


def test_hostile_texts_are_inert_and_short(hostile_cards: dict[str, str]) -> None:
    """Names, values, params and errors of any text are shown as text: no tag, attribute or link of theirs."""
    for name, shown in hostile_cards.items():
        found = outline(shown)
        assert found.tags <= ALLOWED_TAGS, name
        assert found.attributes <= ALLOWED_ATTRIBUTES, name
        assert [] == found.links, name
        assert found.balanced, name
        assert len(shown) < 60_000, (name, len(shown))
        assert not any(ord(char) < 32 and char != "\n" for char in shown), name
        assert not {"\u202e", "\u2066"} & set(shown), name
        shown.encode("utf-8")


@pytest.mark.parametrize("word", HOSTILE)
def test_any_text_is_short_and_escaped(word: str) -> None:
    """A text is cut, loses control characters, and has no markup of its own."""
    for shown in (text(word), value_text(word), value_text([word, {word: (word,)}]), card(word, word)):
        assert len(shown) < 12_000
        assert "<script" not in shown
        assert "<img" not in shown
        assert "\x1b" not in shown
        assert outline(shown).tags <= ALLOWED_TAGS


def test_a_value_whose_repr_fails() -> None:
    """A value that cannot say what it is is named by its class."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Bad" in value_text(Bad())
    assert "Bad" in value_text([Bad()])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_stand_out_in_both_themes(colours: dict[str, str]) -> None:
    """Texts have a contrast of 4.5 at least against the card; states of the map one of 3 against each other."""
    for ink in ("fg", "mute", "failed"):
        for ground in ("bg", "head"):
            assert contrast(colours[ink], colours[ground]) >= 4.5
    assert contrast(colours["stored"], colours["missing"]) >= 3
    assert contrast(colours["failed"], colours["missing"]) >= 3


def test_nothing_is_loaded_and_what_matters_is_said(ordinary_cards: dict[str, str]) -> None:
    """Cards hold no links, and say how many points are stored, missing and failed, and why."""
    shown = ordinary_cards
    for name, each in shown.items():
        assert [] == outline(each).links, name
        assert outline(each).balanced, name
        assert len(each) < 60_000, name
    assert "of 3,600 points" in outline(shown["ChunkCache"]).text
    assert "200 points that form no grid" in outline(shown["ChunkCache"]).text
    assert "not computed yet" in outline(shown["Plan"]).text or "new on axis" in outline(shown["Plan"]).text
    assert "1,749 points in 80 whole chunks and 16 chunks stored in part" in outline(shown["Plan"]).text
    assert "the catalyst sinters at" in outline(shown["Failures"]).text
    assert "conversion" in outline(shown["Caches"]).text
    assert "adam" in outline(shown["RunRecord"]).text
    assert "<svg" in shown["SweepResult"]
    assert "<circle" in shown["cases"]


needs_browser = pytest.mark.skipif(
    chromium() is None, reason="Chromium is not installed: cards were not looked at"
)


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("made", ["ordinary_cards", "hostile_cards"])
def test_in_a_browser(made: str, theme: str, request: pytest.FixtureRequest) -> None:
    """At 400 pixels nothing overflows, texts have a contrast of 4.5, nothing is run, nothing is requested."""
    parts = list(request.getfixturevalue(made).values())
    seen = look(page(parts, theme=theme), width=400).report
    assert len(parts) <= len(seen["cards"])
    assert seen["width"] <= 400
    assert [] == [sizes for sizes in seen["cards"] if sizes[0] > sizes[1]]
    assert [] == seen["low"]
    assert (0, 0) == (seen["scripts"], seen["hit"])
    assert [] == seen["requests"]
