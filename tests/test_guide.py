"""The guide runs from top to bottom in a kernel of its own, and its page can be read by day and by night."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from pages import chromium, look, outline, page

GUIDE = Path(__file__).parents[1] / "examples" / "guide.ipynb"

pytestmark = [
    # What the kernel's client and its event loop say of each other and of later Pythons is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook, executed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(GUIDE.parents[1]))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        notebook = nbformat.read(GUIDE, as_version=4)  # type: ignore[no-untyped-call]
        resources = {"metadata": {"path": str(tmp_path_factory.mktemp("guide"))}}
        client = nbclient.NotebookClient(notebook, timeout=170, kernel_name="python3", resources=resources)
        return client.execute()


def outputs(guide: Any, kind: str) -> list[str]:
    """Return what cells show in one form."""
    shown = [output for cell in guide.cells for output in cell.get("outputs", ())]
    return [output["data"][kind] for output in shown if kind in output.get("data", {})]


def printed(guide: Any) -> str:
    """Return what cells print, and the plain results."""
    shown = [output for cell in guide.cells for output in cell.get("outputs", ())]
    printed = [output for output in shown if output["output_type"] == "stream" and output["name"] == "stdout"]
    streams = [output["text"] for output in printed]
    return "\n".join([*streams, *outputs(guide, "text/plain")])


def test_the_guide_is_kept_without_outputs() -> None:
    """The file holds no outputs and no counts, so that a run changes nothing in it."""
    notebook = nbformat.read(GUIDE, as_version=4)  # type: ignore[no-untyped-call]
    assert [] == [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


def test_the_guide_tells_the_truth(guide: Any) -> None:
    """It runs without an error or a word on stderr, and what it says of executed points is so."""
    shown = [output for cell in guide.cells for output in cell.get("outputs", ())]
    assert [] == [output for output in shown if output["output_type"] == "error"]
    assert [] == [output["text"] for output in shown if output.get("name") == "stderr"]
    said = printed(guide)
    assert "executed 1" in said  # of two cases one was there
    assert "(800, 170)" in said
    assert "again: division by zero" in said
    assert len(outputs(guide, "image/png")) == 4
    counting = [cell for cell in guide.cells if _ends(cell, ".executed_points")]
    results = [cell["outputs"][-1]["data"]["text/plain"] for cell in counting]
    assert ["100", "0", "200"] == [text for text in results if text.isdecimal()]
    last = [cell for cell in guide.cells if _ends(cell, "a longer sample begins with the shorter one")]
    assert "100" == last[0]["outputs"][-1]["data"]["text/plain"]


def _ends(cell: Any, ending: str) -> bool:
    return cell["cell_type"] == "code" and ending in cell["source"].splitlines()[-1]


def test_its_cards_load_nothing(guide: Any) -> None:
    """What this library shows in the guide is whole, and asks for nothing from anywhere."""
    ours = [shown for shown in outputs(guide, "text/html") if "cm-card" in shown]
    assert 8 <= len(ours)
    for shown in ours:
        assert outline(shown).balanced
        assert [] == outline(shown).links


@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed: the guide was not looked at")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_page_in_a_browser(guide: Any, theme: str) -> None:
    """At 400 pixels its cards and pictures do not overflow, texts stand out, and nothing is requested."""
    seen = look(guide_page(guide, theme), width=400, height=4000).report
    assert seen["width"] <= 400
    assert [] == [sizes for sizes in seen["cards"] if sizes[0] > sizes[1]]
    assert [] == seen["low"]
    assert [] == [name for name in seen["requests"] if not name.startswith("data:")]


def guide_page(guide: Any, theme: str) -> str:
    """Return texts, cards and pictures of the guide as a page."""
    parts = []
    colour = "#e6edf3" if theme == "dark" else "#1b1f24"
    for cell in guide.cells:
        if cell["cell_type"] == "markdown":
            parts.append(f'<p style="color:{colour};font:14px sans-serif">{html.escape(cell["source"])}</p>')
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "cm-card" in data.get("text/html", ""):
                parts.append(data["text/html"])
            elif "image/png" in data:
                picture = re.sub(r"\s", "", data["image/png"])
                parts.append(f'<img style="max-width:100%" src="data:image/png;base64,{picture}">')
    return page(parts, theme=theme)
