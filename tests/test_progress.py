"""The bar: what it says at any width, when it appears, and that it leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminals import Program, Screen
from workers import ENVIRONMENT

from chunk_memo.display import progress, ticker
from chunk_memo.display.meter import Meter, clock_text, duration_text, rate_text
from chunk_memo.display.progress import ProgressBar, bar_line, log_line
from chunk_memo.events import ChunkDone, ChunkFound, PointFailed, RunFinished, RunStarted

SWEEP = """
import os, sys
from chunk_memo import ChunkCache, run

def cache(name="foo", **options):
    axes = {"s": list(range(10))}
    return ChunkCache(sys.argv[1], name, axis_values=axes, chunk_spec={"s": 2}, name=name, **options)

def waits(s):
    os.read(GO, 1)
    if 4 in s:
        raise ValueError("boom")
    return [v * v for v in s]

run(cache(verbose=0).slice(s=[0, 1]), lambda s: [v * v for v in s])
"""


def meter(now: list[float], **points: int) -> Meter:
    """Return a meter of a run of 1000 points, whose clock shows ``now``."""
    return Meter(
        RunStarted("foo", "id", chunks=10, points=1000, cached_points=points.get("cached", 0)), lambda: now[0]
    )


def done(name: str, points: int) -> ChunkDone:
    """Return the event of a chunk that is done."""
    return ChunkDone(name, points, seconds=1.0, bytes_written=10)


class TestMeter:
    """Rate and remaining time."""

    def test_reused_points_count_for_neither_rate_nor_remaining_time(self) -> None:
        """300 points that were stored, and 20 that another process stored, leave the rate alone."""
        now = [0.0]
        one = meter(now, cached=300)
        assert (None, None, 30) == (one.rate, one.remaining(), one.percent)
        now[0] = 10.0
        one.note(done("a", 100))
        one.note(ChunkFound("b", 20))
        assert (10.0, 58.0, 420, 320) == (one.rate, one.remaining(), one.stored, one.reused)

    def test_remaining_time_falls_while_a_chunk_is_under_way(self) -> None:
        """It falls until the next chunk is due, and waits then; the rate stays."""
        now = [0.0]
        one = meter(now)
        now[0] = 10.0
        one.note(done("a", 100))
        seen = []
        for now[0] in (10.0, 14.0, 20.0, 500.0):
            seen.append((one.rate, one.remaining()))
        assert [(10.0, 90.0), (10.0, 86.0), (10.0, 80.0), (10.0, 80.0)] == seen

    def test_failed_points_took_time(self) -> None:
        """They count for the rate, and are not waited for again; several of one chunk came in at once."""
        now = [0.0]
        one = meter(now)
        now[0] = 10.0
        one.note(done("a", 90))
        for _ in range(10):
            one.note(PointFailed("a", {}, ValueError("boom\nand more")))
        assert (10.0, 90.0, 90, 10, "ValueError: boom") == (
            *(one.rate, one.remaining(), one.stored, one.failed, one.error),
        )
        now[0] = 15.0
        assert 85.0 == one.remaining()

    def test_points_left_out_are_not_waited_for(self) -> None:
        """What failed before and is not run again does not belong to what is to come."""
        now = [0.0]
        one = Meter(RunStarted("foo", "id", 10, 1000, 0, left_out=400), lambda: now[0])
        now[0] = 10.0
        one.note(done("a", 100))
        assert 50.0 == one.remaining()

    def test_a_run_is_complete_only_where_all_is_there(self) -> None:
        """99.9 % are shown as 99 %."""
        one = meter([0.0], cached=999)
        assert 99 == one.percent


@given(st.floats(0, 1e9))
def test_durations_are_told_in_two_units(seconds: float) -> None:
    """A clock counts whole seconds, words have one or two units; both can be read back."""
    parts = [int(part) for part in clock_text(seconds).replace("d ", ":").split(":")]
    assert int(seconds) == sum(n * unit for n, unit in zip(parts[::-1], (1, 60, 3600, 86400), strict=False))
    words = duration_text(seconds).split()
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    told = sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert len(words) in (2, 4)
    assert 0 <= round(seconds) - told < (units[words[1]] / 10 if words[1] != "min" else 1)


@given(st.floats(1e-6, 1e9))
def test_a_rate_is_never_nothing(rate: float) -> None:
    """Points per unit, or units per point, whichever is more than one."""
    assert float(rate_text(rate).split()[0].replace(",", "")) >= 1


class TestLine:
    """What the bar's line says."""

    def test_it_says_everything_where_there_is_room(self) -> None:
        """Percent, points, both times, rate, reused and failed points, other runs."""
        now = [0.0]
        one = meter(now, cached=300)
        now[0] = 12.0
        one.note(done("a", 118))
        one.note(PointFailed("a", {}, ValueError(), points=2))
        line = "foo:  41%|{bar}| 418/1000 points [00:12<00:58, 10.0 point/s, 300 reused, 2 failed"
        assert f"{line}]" == bar_line(one, None) == bar_line(one, 100)
        assert f"{line}, +2 runs]" == bar_line(one, None, others=2)
        assert "foo: 418 of 1000 points (300 reused, 2 failed), 12 s, about 58 s to go" == log_line(one)

    @given(
        width=st.integers(24, 300),
        name=st.text("abc_{}", max_size=80),
        cached=st.integers(0, 10**6),
        took=st.integers(0, 10**6),
        count=st.integers(1, 10**6),
        failed=st.integers(0, 10**6),
        others=st.integers(0, 9),
    )
    def test_it_fits(
        self, width: int, name: str, cached: int, took: int, count: int, failed: int, others: int
    ) -> None:
        """Whatever the counts are, the line is no wider than the terminal, and tells the points."""
        now = [0.0]
        started = RunStarted(name, "id", 1, cached + count + failed, cached)
        one = Meter(started, lambda: now[0])
        now[0] = float(took)
        one.note(done("a", count))
        if failed:
            one.note(PointFailed("a", {}, ValueError(), points=failed))
        line = bar_line(one, width, others)
        assert f"{cached + count}/{started.points}" in line
        least = len(f"a: 100%|| {one.stored}/{one.total}")
        if least + 8 + width // 3 <= width:
            assert len(line) - len("{bar}") <= width

    def test_at_60_columns_failures_stay_and_details_go(self) -> None:
        """The narrower the terminal, the less is told; failed points are told to the last."""
        now = [0.0]
        one = meter(now, cached=300)
        now[0] = 12.0
        one.note(PointFailed("a", {}, ValueError(), points=2))
        assert [
            "foo:  30%|{bar}| 300/1000 points [00:12<1:09:48, 6.0 s/point, 2 failed]",
            "foo:  30%|{bar}| 300/1000 [00:12<1:09:48, 2 failed]",
            "foo:  30%|{bar}| 300/1000 [2 failed]",
        ] == [bar_line(one, width) for width in (78, 60, 46)]


@pytest.mark.parametrize("columns", [60, 200])
def test_a_terminal_shows_a_bar_and_keeps_nothing_of_it(tmp_path: Path, columns: int) -> None:
    """It appears during the first chunk, moves, tells failed points, takes one line, and is gone at the end."""
    code = SWEEP + "print('before', flush=True)\nrun(cache(), waits, on_error='record')\nprint('after')"
    with Program(f"import warnings; warnings.simplefilter('ignore')\n{code}", columns, str(tmp_path)) as program:
        program.until_written("foo:  20%|")
        for text in ("foo:  40%|", "2 failed", "foo:  60%|"):
            program.go()
            program.until_written(text)
        assert "before" == program.screen()[0]
        assert program.screen()[1].startswith("foo:  60%|")
        assert (columns == 200) == ("2 reused" in program.written)
        program.go()
        assert 0 == program.ended()
        assert ["before", "after", ""] == program.screen()
    drawn = [part for line in program.written.split("\n") for part in line.split("\r") if part]
    assert max(map(len, drawn)) < columns


def test_ctrl_c_leaves_no_bar_and_says_how_to_go_on(tmp_path: Path) -> None:
    """In the middle of a chunk it ends the run, keeps what is done, and clears the line."""
    with Program(SWEEP + "run(cache(), waits)", 60, str(tmp_path)) as program:
        program.until_written("foo:  20%|")
        program.go()
        program.until_written("foo:  40%|")
        program.interrupt()
        assert 0 != program.ended()
        shown = program.screen()
    assert "Traceback (most recent call last):" == shown[0]
    text = " ".join("".join(line.ljust(60) for line in shown).split())
    assert "KeyboardInterrupt" in text
    assert "the same call goes on from there" in text
    assert [] == [line for line in shown if "|" in line]
    assert 2 == len(list(tmp_path.rglob("*.h5")))


def test_ctrl_c_ends_processes_and_keeps_what_they_stored(tmp_path: Path) -> None:
    """With workers in other processes as with none."""
    code = """
def stuck(s):
    import threading
    if 8 in s:
        threading.Event().wait(600)
    return [v * v for v in s]

one = {"workers": 1, "start_method": "spawn"}
run(cache(), stuck, map_fn="processes", map_fn_kwargs=one, timeout=3600)  # so that each chunk travels alone
"""
    with Program(SWEEP + code, 100, str(tmp_path)) as program:
        program.until_written("foo:  80%|")
        program.interrupt()
        assert 0 != program.ended()
        shown = program.screen()
    text = " ".join("".join(line.ljust(100) for line in shown).split())
    assert "the same call goes on from there" in text
    assert [] == [line for line in shown if "|" in line]
    assert 4 == len(list(tmp_path.rglob("*.h5")))


def test_runs_in_threads_share_one_line(tmp_path: Path) -> None:
    """The oldest has the line, and tells that there is another; the next one takes over when it is done."""
    code = """
import threading
begun, first_done = threading.Event(), threading.Event()

def first(s):
    begun.set()
    os.read(GO, 1)
    return list(s)

def second(s):
    if 8 in s:
        first_done.wait()
        os.read(GO, 1)
    return list(s)

one = threading.Thread(target=run, args=(cache("one"), first))
two = threading.Thread(target=run, args=(cache("two"), second))
one.start()
begun.wait()
two.start()
one.join()
first_done.set()
two.join()
"""
    with Program(SWEEP + code, 100, str(tmp_path)) as program:
        program.until_written("+1 run]")
        for _ in range(5):
            program.go()
        program.until_written("two:  80%|")
        program.go()
        assert 0 == program.ended()
        assert [""] == program.screen()
    firsts = [part[:3] for part in program.written.split("\r") if part.strip()]
    assert sorted(firsts) == firsts
    assert {"one", "two"} == set(firsts)


def test_a_log_gets_a_line_per_half_minute(tmp_path: Path) -> None:
    """Into a file go whole lines, one per interval, and nothing else."""
    assert (30.0, 30.0) == (progress.LOG_INTERVAL, progress._Log.interval)
    code = """
import threading
from chunk_memo.display import progress
progress._Log.delay = progress._Log.interval = 0.0
class Log:
    encoding, lines, more = "ascii", [], threading.Event()
    def isatty(self): return False
    def write(self, text): self.lines.append(text); self.more.set()
    def flush(self): pass
def logged(s):
    sys.stderr.more.clear()
    sys.stderr.more.wait()
    return list(s)
true, sys.stderr = sys.stderr, Log()
run(cache("Größe"), logged)
lines, sys.stderr = sys.stderr.lines, true
assert len(lines) >= 5
for line in lines:
    assert line.startswith("Gr??e: ") and line.endswith(("s\\n", "s to go\\n")), line
    assert " of 10 points, " in line, line
"""
    ran = run_code(SWEEP + code, tmp_path)
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


def run_code(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process without a terminal."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)


def test_short_work_in_a_file_prints_nothing(tmp_path: Path) -> None:
    """Less than half a minute leaves no trace; tqdm is not even imported."""
    code = "run(cache(), lambda s: list(s))\nassert 'tqdm' not in sys.modules"
    ran = run_code(SWEEP + code, tmp_path)
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_verbose_0_is_silent_in_a_terminal(tmp_path: Path) -> None:
    """Not even a long run says anything: the ticker has passed by when the chunk ends."""
    code = """
import threading
from chunk_memo.display import ticker
def passes(s):
    passed = threading.Event()
    appointment = ticker.every(passed.set, 1.0, 60.0)
    passed.wait()
    return list(s)
run(cache(verbose=0).slice(s=[2]), passes)
"""
    with Program(SWEEP + code, 80, str(tmp_path)) as program:
        assert 0 == program.ended()
        assert "" == program.written


def test_workers_show_no_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal is that of the process that started them."""
    made: list[Any] = []
    monkeypatch.setattr(progress, "_face", lambda *given: made.append(given))
    monkeypatch.setattr("multiprocessing.process.parent_process", lambda: object())
    bar = ProgressBar(io.StringIO())
    bar(RunStarted("foo", "id", 1, 10, 0))
    bar(done("a", 10))
    bar(RunFinished(1.0, complete=True))
    assert [] == made


NOTEBOOK = """
import threading
from chunk_memo import ChunkCache, run
from chunk_memo.display import ticker

def waits(s):
    passed = threading.Event()
    appointment = ticker.every(passed.set, 1.5, 60.0)
    passed.wait()
    appointment.cancel()
    return list(s)

cache = ChunkCache({root!r}, "id", axis_values={{"s": [1, 2]}}, chunk_spec={{"s": 1}}, name="foo")
_ = run(cache, waits)
print("after")
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_notebook_without_widgets_shows_a_line_and_saves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is replaced in place while the cell runs; no warning tells of missing widgets."""
    for name in ("PYTHONPATH", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, ENVIRONMENT["PYTHONPATH"] if name == "PYTHONPATH" else "default")
    code = "from chunk_memo.display import progress; progress.find_spec = lambda name: None"
    cells = [code, NOTEBOOK.format(root=str(tmp_path))]
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in cells]
    content = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    notebook = nbformat.reads(json.dumps(content), as_version=4)  # type: ignore[no-untyped-call]
    seen: list[str] = []

    class Client(nbclient.NotebookClient):
        def process_message(self, msg: Any, *given: Any) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                seen.append(msg["content"]["data"]["text/plain"])
            return super().process_message(msg, *given)

    Client(notebook, timeout=120, kernel_name="python3").execute()
    assert ("", True) == (seen[-1], seen[0].startswith("foo:   0%|          | 0/2 points [00:00<?"))
    assert [] == [text for text in seen[:-1] if not text.startswith("foo: ")]
    assert any(text.startswith("foo:  50%|█████     | 1/2 points") for text in seen)
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert [{"text/plain": ""}, "after\n"] == [output.get("data", output.get("text")) for output in outputs]


class TestTicker:
    """One thread keeps all appointments."""

    def test_what_raises_is_not_called_again(self) -> None:
        """Others go on."""
        ticks, raised, again = ticker.Ticker(), [], threading.Semaphore(0)

        def fails() -> None:
            raised.append(1)
            raise ValueError

        ticks.every(fails, 0.0, 0.0)
        other = ticks.every(again.release, 0.0, 0.0)
        for _ in range(3):
            assert again.acquire(timeout=60)
        other.cancel()
        ticks.stop()
        assert [1] == raised

    def test_a_cancelled_appointment_is_not_kept(self) -> None:
        """Not even where it was due already."""
        ticks, called, done_ = ticker.Ticker(), [], threading.Event()
        ticks.every(lambda: called.append(1), 0.0, 0.0).cancel()
        ticks.every(done_.set, 0.0, 60.0)
        assert done_.wait(60)
        ticks.stop()
        assert [] == called

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_fork_takes_no_thread_along_and_the_parent_goes_on(self) -> None:
        """At the moment of the fork there is one thread; afterwards appointments are kept again."""
        code = """
import os, threading
from chunk_memo.display import ticker
again = threading.Semaphore(0)
appointment = ticker.every(again.release, 0.0, 0.0)
assert again.acquire(timeout=60)
child = os.fork()
if child == 0:
    assert threading.active_count() == 1
    ticker.every(again.release, 0.0, 60.0)
    while again.acquire(blocking=False): pass
    os._exit(0 if again.acquire(timeout=60) else 1)
assert os.waitpid(child, 0)[1] == 0
while again.acquire(blocking=False): pass
assert again.acquire(timeout=60)
"""
        ran = run_code(code)
        assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)

    def test_the_thread_ends_when_there_is_nothing_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It stays for a while, and begins anew with the next appointment."""
        monkeypatch.setattr(ticker, "LINGER", 0.0)
        ticks = ticker.Ticker()
        for _ in range(2):
            threads: list[threading.Thread] = []
            met = threading.Event()

            def meet(threads: list[threading.Thread] = threads, met: threading.Event = met) -> None:
                threads.append(threading.current_thread())
                met.set()

            appointment = ticks.every(meet, 0.0, 60.0)
            assert met.wait(60)
            appointment.cancel()
            threads[0].join(60)
            assert not threads[0].is_alive()


def test_the_screen_of_these_tests_shows_lines_that_are_left_behind() -> None:
    """A bar that is not cleared, or that is wider than the terminal, would be seen."""
    screen = Screen(5)
    screen.write("a\r\nbars\rx\r\n1234567\r    ")
    assert ["a", "xars", "12345", ""] == screen.shown()
    screen.write("\x1b[2J\x1b[1;1Hb")
    assert ["b"] == screen.shown()
