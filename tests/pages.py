"""HTML of objects on a page of their own, and Chromium to look at it: sizes, colours, requests, pictures."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

__all__ = ["Look", "Outline", "chromium", "contrast", "look", "outline", "page"]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

PROBE = """
const report = {width: document.documentElement.scrollWidth, view: window.innerWidth, cards: [], low: [],
  scripts: document.querySelectorAll('body script:not(#probe)').length,
  requests: performance.getEntriesByType('resource').map(each => each.name), hit: window.hit || 0};
function channel(part) { part /= 255; return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; }
function light(colour) { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); }
function ratio(one, two) { const [low, high] = [light(one), light(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05); }
function ground(element) { for (; element; element = element.parentElement) {
  const colour = getComputedStyle(element).backgroundColor;
  if (colour !== 'rgba(0, 0, 0, 0)' && colour !== 'transparent') return colour; } return 'rgb(255, 255, 255)'; }
for (const card of document.querySelectorAll('.cm-card')) {
  report.cards.push([card.scrollWidth, card.clientWidth]);
  const walker = document.createTreeWalker(card, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ['STYLE', 'TITLE', 'title'].includes(parent.tagName)) continue;
    const style = getComputedStyle(parent);
    const colour = parent.closest('svg') ? style.fill : style.color;
    const found = ratio(colour, ground(parent));
    if (found < 4.5) report.low.push([walker.currentNode.data.slice(0, 40), colour, ground(parent), found]);
  }
}
document.body.setAttribute('data-report', JSON.stringify(report));
"""


@dataclass(frozen=True)
class Look:
    """What a browser saw."""

    report: dict[str, Any]
    """Width of the page and of its cards, texts of low contrast, scripts, requests."""
    picture: Path | None
    """A screenshot, where one was asked for."""


def chromium() -> str | None:
    """Return the program, None where it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page(parts: Iterable[str], *, theme: str = "light", head: str = "") -> str:
    """Return a page as JupyterLab shows outputs: its own theme, whatever the system's is."""
    ground = "#111111" if theme == "dark" else "#ffffff"
    light = "false" if theme == "dark" else "true"
    body = "".join(f'<div class="output">{part}</div>' for part in parts)
    return (
        f'<!doctype html><html><head><meta charset="utf-8">{head}</head>'
        f'<body data-jp-theme-light="{light}" style="margin:8px;background:{ground}">{body}</body></html>'
    )


def look(text: str, *, width: int = 400, picture: Path | None = None, height: int = 1600) -> Look:
    """Open a page in Chromium, and return what is seen.

    A window is never narrower than 500 pixels there, so the page stands in a frame of the width asked for.
    """
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, "inner.html")
        probed = text.replace("</body>", f"<script id='probe'>{PROBE}</script></body>")
        inner.write_text(probed, encoding="utf-8")
        outer = Path(folder, "outer.html")
        outer.write_text(
            "<!doctype html><body style='margin:0'>"
            f"<iframe id='frame' src='inner.html' style='border:0;width:{width}px;height:{height}px'></iframe>"
            "<script>window.addEventListener('load', () => document.body.setAttribute('data-report',"
            " document.getElementById('frame').contentDocument.body.getAttribute('data-report')))</script>"
            "</body>",
            encoding="utf-8",
        )
        common = [program, *FLAGS, "--allow-file-access-from-files", f"--user-data-dir={folder}/user"]
        common.append(f"--window-size={max(width, 500)},{height}")
        run = {"capture_output": True, "text": True, "timeout": 120, "env": {**os.environ, "HOME": folder}}
        dumped = subprocess.run([*common, "--dump-dom", outer.as_uri()], check=True, **run)  # type: ignore[call-overload]
        found = re.search(r'data-report="([^"]*)"', dumped.stdout)
        assert found is not None, dumped.stdout[-2000:] + dumped.stderr[-2000:]
        if picture is not None:
            shot = [*common, f"--screenshot={picture}", outer.as_uri()]
            subprocess.run(shot, check=True, **run)  # type: ignore[call-overload]
    return Look(json.loads(html.unescape(found[1])), picture)


# --- without a browser -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outline:
    """What a piece of HTML consists of."""

    tags: frozenset[str]
    """Its elements."""
    attributes: frozenset[str]
    """The names of their attributes."""
    links: Sequence[str]
    """What it would load or lead to."""
    text: str
    """What is read."""
    balanced: bool
    """Whether each element that was opened was closed."""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.balanced = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "href", "action", "data", "xlink:href", "srcset", "poster"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def outline(text: str) -> Outline:
    """Return what a piece of HTML consists of."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    links = [*parser.links, *re.findall(r"url\(|@import", text)]
    return Outline(
        frozenset(parser.tags),
        frozenset(parser.attributes),
        links,
        "".join(parser.text),
        parser.balanced and not parser.open,
    )


def contrast(one: str, two: str) -> float:
    """Return the contrast of two colours, ``#rrggbb``, as WCAG 2.1 defines it."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)
