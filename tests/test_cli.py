"""The command line: what ``chunk-memo status`` shows, at any width, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from terminals import Program
from workers import ENVIRONMENT

from chunk_memo import ChunkMemo
from chunk_memo.cli import main
from chunk_memo.display.heartbeat import Beat, Heartbeat
from chunk_memo.display.statusview import CacheLine, RootStatus, look, status_lines
from chunk_memo.events import ChunkDone, RunFinished, RunStarted

RUNNING = Beat(
    name="foo",
    cache_id="0123456789abcdef",
    host="node7",
    pid=4711,
    state="running",
    map="processes",
    started_at="2026-11-21T12:00:00.000+00:00",
    updated_at="2026-11-21T12:00:12.000+00:00",
    seconds=12.0,
    total=1000,
    cached=300,
    done=120,
    failed=2,
    rate=10.2,
    to_go=57.0,
    error="ValueError: no convergence",
    age=1.2,
    is_gone=False,
)
SILENT = replace(RUNNING, name="bar", age=95.0, failed=0, error="")
GONE = replace(RUNNING, name="baz", is_gone=True, age=1000.0, error="")
STOPPED = replace(RUNNING, name="qux", state="interrupted", to_go=None, age=3700.0, error="")


def invoked(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, list(map(str, arguments)))


def sweep(root: Path) -> Any:
    """Return a decorated function."""
    memo = ChunkMemo(root, {"s": 2}, {"s": [1, 2, 3]}, verbose=0)
    return memo.cache(version="1", name="squares")(lambda s: [v * v for v in s])


def status_of(*runs: Beat) -> RootStatus:
    """Return a root in which these runs are."""
    caches = [CacheLine("0123456789abcdef", "foo", 42, 1e9), CacheLine("fedcba9876543210", "", 0, 0.0)]
    return RootStatus("/root", runs, caches, 12)


def test_every_run_has_a_line() -> None:
    """Progress, rate and remaining time; whether it gives a sign, and whether its process is there."""
    lines = status_lines(status_of(RUNNING, SILENT, GONE, STOPPED), 200)
    assert "/root: 4 runs, 12 caches" == lines[0]
    done = ["████████············", "42%", "420/1000"]
    cells = [[cell for cell in line.split("  ") if cell] for line in lines[2:7]]
    known = ["0123456789ab", "node7:4711"]
    assert [
        ["run", "cache", "where", "state", "done", "points", "failed", "rate", "to go", "last sign"],
        ["foo", *known, "running", *done, "2", "10.2 point/s", "00:57", "1 s ago"],
        ["bar", *known, "no sign for 1 min 35 s", *done, "0", "10.2 point/s", "00:57", "1 min 35 s ago"],
        ["baz", *known, "process is gone", *done, "2", "10.2 point/s", "16 min 40 s ago"],
        ["qux", *known, "interrupted", *done, "2", "10.2 point/s", "1 h 1 min ago"],
    ] == [[cell.strip() for cell in row] for row in cells]
    assert "foo: ValueError: no convergence" == lines[7]
    assert ["0123456789abcdef", "foo", "42"] == lines[10].split()[:3]
    assert ["fedcba9876543210", "0", "never"] == lines[11].split()
    assert "… and 10 caches that changed before" == lines[12]


@given(
    names=st.lists(st.text("abc_", max_size=60), min_size=1, max_size=3),
    columns=st.sampled_from([60, 80, 100, 200]),
    runs=st.sampled_from([RUNNING, SILENT, GONE, STOPPED]),
)
def test_it_fits_into_the_terminal(names: list[str], columns: int, runs: Beat) -> None:
    """Columns that matter least go first, then names are cut; state and points are shown at any width."""
    found = status_of(*(replace(runs, name=name, cache_id=name * 4) for name in names))
    lines = status_lines(found, columns)
    assert max(map(len, lines)) <= columns
    for line in lines[3 : 3 + len(names)]:
        assert "420/1000" in line
        assert "42%" in line
        assert runs.state in line or "no sign for" in line or "process is gone" in line


def test_a_root_tells_its_caches_and_runs(tmp_path: Path) -> None:
    """Chunk files are counted and functions named; a run is there from its first beat to its end."""
    sweep(tmp_path)()
    (folder,) = tmp_path.iterdir()
    beat = Heartbeat()
    beat(RunStarted("squares", folder.name, 2, 10, 4, path=str(folder), started_at=1))
    beat(ChunkDone("a", 2, 1.0, 10))
    beat.beat()
    shown = invoked("status", tmp_path)
    assert 0 == shown.exit_code
    assert f"{tmp_path.name}: 1 run, 1 cache\n" in shown.output
    assert "6/10" in shown.output
    assert f"{folder.name}  squares" in shown.output
    told = json.loads(invoked("status", tmp_path, "--json").output)
    assert ["root", "runs", "caches", "cache_count"] == list(told)
    (run,) = told["runs"]
    assert ("squares", "running", 60, False) == (run["name"], run["state"], run["percent"], run["is_silent"])
    (cache,) = told["caches"]
    assert ("squares", 2) == (cache["name"], cache["chunk_files"])
    beat(RunFinished(1.0, complete=True))
    assert [] == json.loads(invoked("status", tmp_path, "--json").output)["runs"]


def test_of_many_caches_the_latest_are_listed(tmp_path: Path) -> None:
    """Ten, and how many others there are; what is no cache is passed over."""
    for number in range(12):
        (tmp_path / f"c{number:02}").mkdir()
        (tmp_path / f"c{number:02}" / "metadata.json").write_text("{}")
    (tmp_path / "none").mkdir()
    (tmp_path / "file").touch()
    found = look(tmp_path)
    assert (12, 10) == (found.cache_count, len(found.caches))
    assert "… and 2 caches that changed before" == status_lines(found, 60)[-1]


def test_an_empty_root_has_nothing_to_show(tmp_path: Path) -> None:
    """Which is said, with exit code 0."""
    shown = invoked("status", tmp_path)
    assert (0, True) == (shown.exit_code, shown.output.strip().endswith("0 runs, 0 caches"))


@pytest.mark.parametrize("kind", ["missing", "file", "cache"])
def test_what_is_no_root_is_refused(kind: str, tmp_path: Path) -> None:
    """Exit code 2, with the reason on standard error; a cache's own folder is told apart."""
    path = tmp_path / kind
    if kind == "file":
        path.touch()
    elif kind == "cache":
        sweep(path)()
        (path,) = path.iterdir()
    shown = invoked("status", path)
    said = {
        "missing": "does not exist",
        "file": "is a file",
        "cache": "is a cache; give the folder that holds it",
    }
    assert 2 == shown.exit_code
    assert said[kind] in " ".join(shown.stderr.split())
    assert "" == shown.stdout


def test_watch_redraws_in_place_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    """The screen shows the latest look only; exit code 0, nothing on the screen but a new line after ``^C``."""
    code = "import sys\nfrom chunk_memo.cli import main\nmain(sys.argv[1:])"
    with Program(code, 60, "status", str(tmp_path), "--watch", "--interval", "0.1") as program:
        program.until_written("0 caches")
        sweep(tmp_path)()
        program.until_written("1 cache")
        program.until(lambda: program.screen()[-2].endswith("ago"))
        shown = program.screen()
        program.interrupt()
        assert 0 == program.ended()
        assert "Traceback" not in program.written
    assert 1 == len([line for line in shown if "0 runs" in line])
    assert max(map(len, shown)) <= 60
    assert "squares" in "\n".join(shown)


def test_watched_json_is_one_document_per_line(tmp_path: Path) -> None:
    """For programs that follow it."""
    code = "import sys\nfrom chunk_memo.cli import main\nmain(sys.argv[1:])"
    command = [sys.executable, "-c", code, "status", str(tmp_path), "--watch", "--json", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as program:
        assert program.stdout is not None
        told = [json.loads(program.stdout.readline()) for _ in range(3)]
        program.kill()
    assert [0, 0, 0] == [each["cache_count"] for each in told]


def test_help_tells_the_exit_codes() -> None:
    """Of the group and of the command."""
    assert "status" in invoked("--help").output
    assert "Exit codes: 0" in invoked("status", "--help").output


def test_a_command_without_its_package_hinders_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of commands is shown, and the one that cannot run says how to install what it lacks."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.delitem(sys.modules, "chunk_memo.cli.experiments", raising=False)
    for asked in (("--help",), ("ls", "--help"), ("experiments", "--help")):
        assert 0 == invoked(*asked).exit_code
    assert "Not available: pip install 'chunk-memo[lab]'" in invoked("--help").output
    ran = invoked("experiments", "ls", "lab.db", "--json")
    assert (1, "") == (ran.exit_code, ran.stdout)
    assert (
        "Error: `chunk-memo experiments` needs the package 'sqlalchemy', which is not installed; run"
        " `pip install 'chunk-memo[lab]'`\n"
    ) == ran.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """A pipe that is closed early, as by ``head``, ends ``status --watch`` without a word."""
    command = [sys.executable, "-m", "chunk_memo.cli", "status", str(tmp_path), "--watch", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert b": 0 runs, 0 caches" in watching.stdout.readline()
        watching.stdout.close()
        assert b"" == watching.stderr.read()


def test_the_package_installs_the_command() -> None:
    """The console script is the group of commands."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert {"chunk-memo": "chunk_memo.cli:main"} == project["scripts"]
