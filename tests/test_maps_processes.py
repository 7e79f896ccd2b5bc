"""Processes: what a death costs, what travels, and that nothing is left behind."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mapping
import numpy as np
import pytest
from workers import ENVIRONMENT

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps import processes
from chunk_memo.maps.base import Done, Lost
from chunk_memo.maps.processes import Processes

METHODS = [each for each in ("forkserver", "spawn", "fork") if each in multiprocessing.get_all_start_methods()]


def outcomes(
    func: Callable[[Any], Any], tasks: Iterator[Any], **kwargs: Any
) -> tuple[dict[Any, Any], list[Lost[Any]]]:
    """Run tasks on two processes; return results by task, and what was lost."""
    came = list(Processes(**{"workers": 2, **kwargs}).run(func, tasks))
    done = {each.task: each.result for each in came if isinstance(each, Done)}
    lost = [each for each in came if isinstance(each, Lost)]
    assert len(came) == len(done) + len(lost)
    return done, lost


def squares(count: int, without: int | None = None) -> dict[int, int]:
    """Return the squares by number."""
    return {task: task * task for task in range(count) if task != without}


def crew() -> list[Any]:
    """Return the workers that this process has."""
    return [each for each in multiprocessing.active_children() if each.name == "chunk_memo worker"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail where a worker is left after a test."""
    yield
    assert [] == crew()


@pytest.mark.parametrize("method", METHODS)
# Python tells of forks in processes with threads, as those of pytest and BLAS; here the fork is asked for.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_each_task_is_done_once(method: str) -> None:
    """Every task gives its result once, however processes start."""
    assert (squares(30), []) == outcomes(mapping.square, iter(range(30)), start_method=method)


@pytest.mark.parametrize(
    ("func", "reason"),
    [
        (mapping.killed_at_seven, "its worker was killed by SIGKILL"),
        (mapping.exits_at_seven, "its worker ended with exit code 3"),
    ],
)
def test_a_death_costs_one_task(func: Callable[[Any], Any], reason: str) -> None:
    """A worker that dies costs its task alone, and the map says how it ended."""
    assert (squares(20, without=7), [Lost(7, reason)]) == outcomes(func, iter(range(20)))


def test_all_workers_may_die() -> None:
    """Where each task kills its worker, each is lost, and there is always another worker."""
    done, lost = outcomes(mapping.killed_at_seven, iter([7] * 6))
    assert ({}, 6) == (done, len(lost))


def test_a_task_that_takes_too_long() -> None:
    """A task over its time is lost, and said to be so; the others are done."""
    expected = Lost(7, "it took longer than 0.5 s", timed_out=True)
    assert (squares(12, without=7), [expected]) == outcomes(mapping.sleeps_at_seven, iter(range(12)), timeout=0.5)


def test_time_begins_with_the_task() -> None:
    """What a worker takes to start and to load the function is no part of a task's time."""
    slow = SlowToLoad(seconds=0.6)
    assert (squares(3), []) == outcomes(slow, iter(range(3)), timeout=0.5)


class SlowToLoad:
    """A square that is slow to unpickle."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, task: int) -> int:
        """Return the square."""
        return task * task

    def __reduce__(self) -> Any:
        return _slowly, (self.seconds,)


def _slowly(seconds: float) -> SlowToLoad:
    threading.Event().wait(seconds)
    return SlowToLoad(seconds)


def test_lost_tasks_may_come_again() -> None:
    """An iterator that had ended is asked again after each result, and what it gives then is done."""
    tasks = mapping.Again([7])
    came = []
    for each in Processes(2).run(mapping.killed_at_seven, iter(tasks)):
        came.append(each)
        if isinstance(each, Lost) and len(came) < 3:
            tasks.tasks.append(7)
        elif isinstance(each, Lost):
            tasks.tasks.append(2)
    assert [7, 7, 7, 2] == [each.task for each in came]


def test_tasks_are_taken_as_workers_become_free() -> None:
    """No more tasks are taken than there are workers for."""
    tasks = mapping.Again(list(range(50)))
    for count, _ in enumerate(Processes(2).run(mapping.square, iter(tasks)), 1):
        assert tasks.taken <= count + 4


def test_few_tasks_start_few_workers() -> None:
    """There are never more workers than tasks."""
    run = Processes(50).run(mapping.square, iter(range(2)))
    next(run)
    assert len(crew()) <= 2
    assert 1 == len(list(run))


def test_large_messages_both_ways() -> None:
    """Tasks and results of 10 MB pass, with both sides sending."""
    array = np.arange(1_250_000.0)
    came = list(Processes(2).run(functools.partial(np.add, 1.0), (array + n for n in range(5))))
    assert {float(n + 1) for n in range(5)} == {each.result[0] for each in came if isinstance(each, Done)}
    assert all(np.array_equal(each.task + 1.0, each.result) for each in came if isinstance(each, Done))


def test_functions_travel_by_value() -> None:
    """A closure travels."""
    offset = 5
    assert ({1: 6}, []) == outcomes(lambda task: task + offset, iter([1]))


def test_a_function_may_start_processes() -> None:
    """Workers may have workers."""
    done, lost = outcomes(nested, iter([3]), workers=1)
    assert ({3: [0, 1, 4]}, []) == (done, lost)


def nested(task: int) -> list[int]:
    """Return squares that other processes computed."""
    return sorted(
        each.result for each in Processes(1).run(mapping.square, iter(range(task))) if isinstance(each, Done)
    )


def test_workers_are_deaf_to_ctrl_c() -> None:
    """SIGINT, which a terminal sends to all, does nothing in a worker."""
    assert ({1: 2}, []) == outcomes(interrupted, iter([1]), workers=1)


def interrupted(task: int) -> int:
    """Return one more, after an interrupt."""
    os.kill(os.getpid(), signal.SIGINT)
    return task + 1


def test_workers_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was set after the fork server started is set in the workers; one that is gone is gone."""
    outcomes(mapping.square, iter([1]))
    monkeypatch.setenv("MAPPED_ONLY_NOW", "yes")
    assert ({"MAPPED_ONLY_NOW": "yes"}, []) == outcomes(os.environ.get, iter(["MAPPED_ONLY_NOW"]))
    monkeypatch.delenv("MAPPED_ONLY_NOW")
    assert ({"MAPPED_ONLY_NOW": None}, []) == outcomes(os.environ.get, iter(["MAPPED_ONLY_NOW"]))


def test_closing_ends_the_workers() -> None:
    """When the generator is closed while a task would run for ever, no worker is left."""
    run = Processes(2).run(mapping.sleeps_at_seven, iter([7, 1, 2]))
    next(run)
    assert [] != crew()
    run.close()
    assert [] == crew()


def test_an_interrupt_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt in the midst of waiting comes out, and no worker is left."""

    def interrupting(*given: Any) -> Any:
        if [] != crew():
            raise KeyboardInterrupt
        return connection.wait(*given)

    run = Processes(2).run(mapping.sleeps_at_seven, iter([7, 7]))
    monkeypatch.setattr(processes, "connection", SimpleNamespace(wait=interrupting))
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert [] == crew()


def test_an_error_of_the_tasks_ends_the_workers() -> None:
    """What the iterator of tasks raises comes out as it is."""
    run = Processes(2).run(mapping.square, (1 // (2 - n) for n in range(5)))
    with pytest.raises(ZeroDivisionError):
        list(run)


def test_a_module_that_workers_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a module that cannot be imported there is an error that names the module and the way out."""
    (tmp_path / "gone_by_then.py").write_text("def f(task):\n    return task\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        module: Any = importlib.import_module("gone_by_then")
    (tmp_path / "gone_by_then.py").unlink()
    with pytest.raises(
        MapBrokenError, match=r"'gone_by_then' cannot be imported in the workers.*PYTHONPATH"
    ) as caught:
        outcomes(module.f, iter(range(3)))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "Traceback" in caught.value.__cause__.__notes__[0]


def test_workers_that_never_come_to_work() -> None:
    """Where workers end before they take a task, the map gives up and says how they ended."""
    with pytest.raises(MapBrokenError, match=r"3 workers in a row .* exit code 5"):
        outcomes(DeadlyToLoad(), iter(range(9)))


class DeadlyToLoad:
    """A function that ends the process that unpickles it."""

    def __call__(self, task: int) -> int:
        """Return the task."""
        return task

    def __reduce__(self) -> Any:
        return os._exit, (5,)


@pytest.mark.parametrize("bad", ["the function", "a task", "the result"])
def test_what_cannot_be_sent(bad: str) -> None:
    """A function, a task or a result that cannot be pickled is an error that says which."""
    lock = threading.Lock()
    func: Any = {"the function": lock.acquire, "a task": mapping.square, "the result": unsendable}[bad]
    with pytest.raises(MapBrokenError, match=f"{bad.split()[-1]}.* cannot be sent"):
        list(Processes(1).run(func, iter([lock if bad == "a task" else 1])))


def unsendable(task: int) -> Any:
    """Return what cannot be pickled."""
    return threading.Lock()


def test_an_error_that_the_function_lets_out() -> None:
    """What the function raises on its own account ends the run, with its traceback."""
    with pytest.raises(MapBrokenError, match=r"the task 7 raised .*ValueError: seven") as caught:
        outcomes(mapping.raises_at_seven, iter(range(9)))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_daemonic_process_may_have_no_workers() -> None:
    """In a worker of a multiprocessing.Pool the map says that it cannot work there."""
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        said = pool.apply(refusal)
    pool.join()
    assert "daemonic" in said


def refusal() -> str:
    """Return what the map says here."""
    try:
        list(Processes(1).run(mapping.square, iter([1])))
    except MapBrokenError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "given",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"timeout": 0},
        {"timeout": -1.0},
        {"start_method": "magic"},
    ],
)
def test_values_that_cannot_be(given: dict[str, Any]) -> None:
    """A value that cannot be is refused at once, by name."""
    with pytest.raises(SpecError, match=next(iter(given))):
        Processes(**given)


def test_settings_travel() -> None:
    """A map can be pickled, as arguments of functions are."""
    assert 3 == pickle.loads(pickle.dumps(Processes(3))).workers


# --- programs of their own ----------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from chunk_memo.maps.processes import Processes
from beside import offset

print("once", flush=True)

class Result:
    def __init__(self, value):
        self.value = value

def function(task):
    return Result(task + offset).value

print(sorted(done.result for done in Processes(2).run(function, iter(range(4)))))
"""


def said(*command: Any, cwd: Path, program: str | None = None) -> str:
    """Run Python with warnings as errors; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env=ENVIRONMENT,
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program, and a module beside it."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "program.py").write_text(PROGRAM)
    (tmp_path / "inner" / "beside.py").write_text("offset = 10\n")
    return tmp_path


@pytest.mark.parametrize("way", ["script", "standard input", "module", "-c"])
def test_programs_need_no_guard(folder: Path, way: str) -> None:
    """A program without a guard runs once, from wherever it came, and workers find the modules beside it."""
    expected = "once\n[10, 11, 12, 13]\n"
    if way == "script":
        assert expected == said("inner/program.py", cwd=folder)
    elif way == "standard input":
        assert expected == said("-", cwd=folder / "inner", program=PROGRAM)
    elif way == "module":
        assert expected == said("-m", "program", cwd=folder / "inner")
    else:
        assert expected == said("-c", PROGRAM, cwd=folder / "inner")


PRELOADS = """
import sys
from multiprocessing import get_context
from chunk_memo.maps.processes import Processes
SETTING
names = iter(["chunk_memo.work", "colorsys"])
loaded = Processes(1).run(lambda name: name in sys.modules, names)
print(sorted(each.task for each in loaded if each.result))
"""


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", "['chunk_memo.work']"),
        ('get_context("forkserver").set_forkserver_preload(["colorsys"])', "['colorsys']"),
    ],
)
def test_what_the_fork_server_has_loaded(tmp_path: Path, setting: str, expected: str) -> None:
    """The server has our worker's side loaded, unless the program has set what it should load."""
    assert f"{expected}\n" == said("-c", PRELOADS.replace("SETTING", setting), cwd=tmp_path)


LEFT = """
import time
from chunk_memo.maps.processes import Processes

run = Processes(2).run(lambda task: time.sleep(600 if task else 0), iter([0, 1, 1]))
print(next(run).task)
"""


def test_a_program_may_end_in_the_midst(tmp_path: Path) -> None:
    """A program that ends while a run is half consumed does not wait for it."""
    assert "0\n" == said("-c", LEFT, cwd=tmp_path)


DRIVER = """
import os, sys, time
from chunk_memo.maps.processes import Processes

def function(task):
    if task:
        time.sleep(600)

method, forked = sys.argv[1:]
for done in Processes(2, start_method=method).run(function, iter([0, 1, 1])):
    if forked == "forked" and os.fork() == 0:
        os.close(1)
        sys.stdin.read()  # until the test is over it holds all pipes that the driver has
        os._exit(0)
    print("begun", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize(("method", "forked"), [(each, "alone") for each in METHODS] + [("fork", "forked")])
def test_workers_end_with_the_driver(tmp_path: Path, method: str, forked: str) -> None:
    """When the driver is killed, busy workers end; also where another process keeps their pipes open."""
    command = [sys.executable, "-c", DRIVER, method, forked]
    with subprocess.Popen(
        command, env=ENVIRONMENT, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert "begun\n" == driver.stdout.readline()
        driver.kill()
        driver.wait()
        assert "" == driver.stdout.read()  # that it ends means that nobody is left who could write to it
