"""The examples run from where a reader would put them, and what they print is true."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

BETAS, GAMMAS = 201, 201
"""Values per axis of the quick start's grid."""


def copy_of(name: str, folder: Path) -> Path:
    """Return the path of a copy of an example, so that two tests never share its cache."""
    return Path(shutil.copy(EXAMPLES / name, folder))


def counts(printed: str, what: str) -> tuple[int, int]:
    """Return (executed, reused) of the quick start's line about one call."""
    found = re.search(rf"^{re.escape(what)} +executed +([\d,]+) +reused +([\d,]+)", printed, re.M)
    assert found, f"no line about {what!r} in:\n{printed}"
    executed, reused = (int(number.replace(",", "")) for number in found.groups())
    return executed, reused


def test_the_quick_start_tells_the_truth(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """Each point is executed once, over five calls and two processes, and the fit is the known."""
    printed = run_program(copy_of("quickstart.py", tmp_path))
    whole = BETAS * GAMMAS
    expected = {
        "first call": (whole, 0),
        "same call": (0, whole),
        "beta 1.695 put in the middle": (GAMMAS, whole),
        "a subset in another order": (0, 15 * 101),
        "a second process": (0, whole),
    }
    assert expected == {what: counts(printed, what) for what in expected}

    fits = re.findall(r"best fit: beta ([\d.]+) per day, gamma ([\d.]+) per day", printed)
    assert [("1.690", "0.450"), ("1.695", "0.452")] == fits
    assert "one chunk file, read by h5py" in printed
    assert "<xarray.Dataset>" in printed


def test_the_quick_start_repeats_its_story(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """A second run begins from nothing again: the numbers it prints are those of the first."""
    program = copy_of("quickstart.py", tmp_path)
    first, second = (re.sub(r" +\d+ ms$", "", run_program(program), flags=re.M) for _ in range(2))
    assert first == second


def test_the_map_is_that_of_the_quick_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_program: Callable[[Path], str]
) -> None:
    """It reads what the quick start stored, or computes it, and draws the picture that the README shows."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    copy_of("quickstart.py", tmp_path)
    program = copy_of("epidemic_map.py", tmp_path)
    first = run_program(program)
    drawn = (tmp_path / "epidemic_map.svg").read_bytes()
    second = run_program(program)
    whole = BETAS * GAMMAS
    assert f"Plan({whole} points: 0 cached, {whole} to run; 11 chunks" in first
    assert f"Plan({whole} points: {whole} cached, 0 to run; 11 chunks" in second
    assert "best fit: beta 1.690 per day, gamma 0.450 per day" in second
    assert drawn == (tmp_path / "epidemic_map.svg").read_bytes()
    kept = (EXAMPLES / "epidemic_map.svg").read_bytes()
    assert labels(drawn) == labels(kept)
    assert {"beta [per day]", "gamma [per day]", "misfit [boys²]", "β = 1.69, γ = 0.45"} < set(labels(kept))
    assert len(kept) < 100_000


def labels(picture: bytes) -> list[str]:
    """Return the texts of a picture of matplotlib's, whose letters are shapes; check that it loads nothing."""
    root = ElementTree.fromstring(
        picture, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    )
    links = [value for each in root.iter() for name, value in each.attrib.items() if name.endswith("href")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    comment: Any = ElementTree.Comment  # the tag of comments, whatever its stubs say
    return [(each.text or "").strip() for each in root.iter() if each.tag == comment]


def test_the_store_tells_the_truth(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """The second sweep runs nothing, halving the step divides RK4's drift by far more than Euler's."""
    printed = run_program(copy_of("store.py", tmp_path))
    assert [("first sweep", "18", "18"), ("same sweep", "18", "0")] == re.findall(
        r"^(first sweep|same sweep) +(\d+) runs, +(\d+) of them new", printed, re.M
    )
    assert "rk4 with steps below 0.1: 6 runs, which differ in ('beta', 'solver')" in printed
    rows = re.findall(r"^(0\.\d+) +(\S+) +(\S+)$", printed, re.M)
    assert ["0.1", "0.05", "0.025"] == [step for step, _, _ in rows]
    euler, rk4 = ([float(row[column]) for row in rows] for column in (1, 2))
    assert all(one / other > 10 for one, other in itertools.pairwise(rk4))
    assert all(2 < one / other < 4 for one, other in itertools.pairwise(euler))
    assert "registered, and found: another program" in printed
    assert "a run's record: .npy file" in printed


@pytest.mark.parametrize(
    ("part", "claim"),
    [
        ("a decorated function", "executed 2 chunks (4 points), cached 0 chunks (0 points)"),
        ("the whole grid", "(4 points), cached"),
        ("a subset, in another order", "[4.0, 2.5] True\nexecuted 0 chunks (0 points)"),
        ("what is stored", "alpha 0.5: 4 of 4 chunks\nalpha 0.6: 0 of 4 chunks"),
        ("streaming", "executed 4 chunks (8 points), cached 0 chunks (0 points)"),
        ("a cache made by hand", "executed 0 chunks (0 points), cached 1 chunks (2 points)"),
        ("auto_load", "executed 0 chunks (0 points), cached 1 chunks (1 points)"),
    ],
)
def test_the_walk_tells_the_truth(walk: list[str], part: str, claim: str) -> None:
    """Each part of the basic example prints what the library promises."""
    [printed] = [each for each in walk if each.startswith(part)]
    assert claim in printed


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, run_program: Callable[[Path], str]) -> list[str]:
    """Return what the basic example prints, part by part, each from its headline on."""
    printed = run_program(copy_of("basic.py", tmp_path_factory.mktemp("walk")))
    return printed.split("\n--- ")[1:]


def test_the_logged_experiment_tells_the_truth(tmp_path: Path, run_program: Callable[[Path], str]) -> None:
    """Killed and run again, it ends with the same bits as undisturbed, near the fit that is known."""
    printed = run_program(copy_of("logged_experiment.py", tmp_path)).splitlines()
    assert [
        "killed after iteration 300: the process ended with -9",
        "run again: its log tells of 2 starts, and is completed",
        "the same 10 results, bit by bit: True",
        "best fit: beta 1.69 per day, gamma 0.45 per day",
        "written: killed.csv killed.json killed.pkl killed_summary.json",
    ] == printed
    layout = {path.relative_to(tmp_path / "results" / "killed").parts[0] for path in tmp_path.rglob("killed*.*")}
    assert {"logs", "checkpoints", "killed.json", "killed.csv", "killed.pkl", "killed_summary.json"} == layout


def test_the_central_database_is_filled_by_parallel_workers(
    tmp_path: Path, run_program: Callable[[Path], str]
) -> None:
    """Ten simulations are run, recorded once and compared; a second run finds all of them recorded."""
    program = copy_of("central_database.py", tmp_path)
    first, second = run_program(program), run_program(program)
    assert "10 simulations run, 0 were recorded before" in first
    assert "0 simulations run, 10 were recorded before" in second
    compared = [printed.partition("size of the herds")[2] for printed in (first, second)]
    assert compared[0] == compared[1]
    assert "growth_0.40_herd_60" in compared[0]
