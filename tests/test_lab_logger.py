"""The experiment logger: what it is given stands in its files, whatever that is, and whatever happens."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from workers import ENVIRONMENT

import chunk_memo.lab
from chunk_memo import ChunkMemo
from chunk_memo.cli import main
from chunk_memo.errors import ChunkMemoWarning, DamageWarning, FailureWarning, SpecError
from chunk_memo.lab import ExperimentLogger, analyze_logs, load_structured_logs


def quiet(folder: Path, name: str = "exp", **options: Any) -> ExperimentLogger:
    """Return a logger that does not write to the console."""
    return ExperimentLogger(name, folder, log_to_console=False, **options)


def kinds(logger: ExperimentLogger) -> list[str]:
    """Return the types of a logger's events."""
    return [event["event_type"] for event in load_structured_logs(logger.structured_path)]


def test_the_root_logger_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It gets neither handlers nor messages, and no logger of the process is made."""
    before = (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict))
    with quiet(tmp_path) as logger:
        logger.info("text")
    assert [] == caplog.records
    assert before == (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict))
    assert isinstance(logger.logger, logging.Logger)


def test_two_loggers_of_one_name_stay_apart(tmp_path: Path) -> None:
    """Each writes to its own folder only, once."""
    first, second = quiet(tmp_path / "a"), quiet(tmp_path / "b")
    first.info("one")
    second.info("two")
    for logger, text in ((first, "one"), (second, "two")):
        logger.finalize()
        assert [text] == [
            e["data"]["message"]
            for e in load_structured_logs(logger.structured_path)
            if e["event_type"] == "message"
        ]


def test_nothing_that_is_logged_ends_an_experiment(tmp_path: Path) -> None:
    """Objects that JSON cannot say, that cannot even be shown, keys that clash, data that are no dicts."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with quiet(tmp_path) as logger:
        data: Any = {"odd": Odd(), "lock": threading.Lock(), "n": {"odd": Odd(), "fine": 1}, 1: "a", "1": "b"}
        logger.log_config(data)
        logger.log_metrics(None)  # type: ignore[arg-type]
        logger.log_result(0.5)  # type: ignore[arg-type]
        logger.info("100 % done: %d", "x")
        logger.info({"a": 1})
        logger.log_event("own")
    [config] = [e["data"] for e in load_structured_logs(logger.structured_path) if e["event_type"] == "config"]
    assert "<Odd whose repr raised RuntimeError>" == config["odd"] == config["n"]["odd"]
    assert (1, ["a", "b"]) == (config["n"]["fine"], [config["1"], config["1'"]])
    assert "unlocked" in config["lock"]
    assert [
        "experiment_start",
        "config",
        "metrics",
        "result",
        "message",
        "message",
        "own",
        "experiment_end",
    ] == kinds(logger)


def test_lines_cannot_be_forged(tmp_path: Path) -> None:
    """A message of several lines is indented from its second line on."""
    forged = "x\n2026-01-01 00:00:00+00:00 - experiment.exp - INFO - forged\r\u2028again"
    with quiet(tmp_path) as logger:
        logger.info(forged)
    lines = logger.log_path.read_text(encoding="utf-8").splitlines()
    assert "    2026-01-01 00:00:00+00:00 - experiment.exp - INFO - forged" == lines[1]
    assert ["    ", "    again"] == lines[2:4]
    assert 2 == sum(not line.startswith(" ") for line in lines)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """NaN is null in the JSON lines; or a mark, from which it comes back; people read nan."""
    for choice, expected in (("null", None), ("mark", math.nan)):
        with quiet(tmp_path, choice, non_finite=choice) as logger:
            logger.log_metrics({"loss": np.float32("nan")})
        for line in logger.structured_path.read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)
        loss = load_structured_logs(logger.structured_path)[1]["data"]["metrics"]["loss"]
        assert repr(expected) == repr(loss)
        assert "loss=nan" in logger.log_path.read_text()


def test_a_log_is_gone_on_with(tmp_path: Path) -> None:
    """A second start appends; the status is that of the last one, None while it runs or where it was killed."""
    quiet(tmp_path).finalize("failed")
    second = quiet(tmp_path)
    analysis = analyze_logs(second.structured_path)
    assert (2, None) == (analysis["starts"], analysis["final_status"])
    second.finalize()
    assert "completed" == analyze_logs(second.structured_path)["final_status"]


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_line_is_kept_and_hurts_nobody(tmp_path: Path, cut: int) -> None:
    """What a kill left of a line becomes an event, so that every line is JSON; or is a line after all."""
    first = quiet(tmp_path)
    first.log_config({"a": 1})
    first.finalize()
    data = first.structured_path.read_bytes()
    first.structured_path.write_bytes(data[:-cut])
    first.log_path.write_bytes(first.log_path.read_bytes()[:-3])
    whole = 3 if cut == 1 else 2
    assert whole == len(load_structured_logs(first.structured_path))
    with quiet(tmp_path) as second:
        second.log_config({"b": 2})
    lines = [json.loads(line) for line in second.structured_path.read_text().splitlines()]
    torn = [line["data"]["text"] for line in lines if line["event_type"] == "torn_line"]
    assert ([] if cut == 1 else [data[:-cut].splitlines()[-1].decode()]) == torn
    assert whole + 3 == len(load_structured_logs(second.structured_path))
    assert len(torn) == analyze_logs(second.structured_path)["damaged_lines"]
    assert all(" - experiment.exp - " in line for line in second.log_path.read_text().splitlines())


def test_damaged_lines_are_told(tmp_path: Path) -> None:
    """Those that no kill explains cost a warning with the number of the first; the others are read."""
    with quiet(tmp_path) as logger:
        logger.log_config({"a": 1})
    lines = logger.structured_path.read_text().splitlines()
    logger.structured_path.write_text("\n".join([lines[0], "damage", "[1]", "", *lines[1:]]) + "\n")
    with pytest.warns(DamageWarning, match=r"2 lines are no events.*line 2"):
        assert 3 == len(load_structured_logs(logger.structured_path))
    with pytest.warns(DamageWarning):
        assert 2 == analyze_logs(logger.structured_path)["damaged_lines"]
    with pytest.raises(FileNotFoundError):
        load_structured_logs(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="found a folder"):
        load_structured_logs(tmp_path)


def test_an_empty_log_is_analyzed(tmp_path: Path) -> None:
    """Nothing is known, and nothing fails."""
    (tmp_path / "x.jsonl").touch()
    found = analyze_logs(tmp_path / "x.jsonl")
    assert (0, {}, None, None, None) == tuple(
        found[name] for name in ("total_events", "event_counts", "start_time", "final_status", "duration_seconds")
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_ends_no_experiment(tmp_path: Path) -> None:
    """What cannot be written is told once, in a warning; where there is room again, all of it is there."""
    with quiet(tmp_path) as logger:
        logger.info("first")
        streams: list[Any] = [file.stream for file in logger._files]
        closed = [os.dup(stream.fileno()) for stream in streams]
        for stream in streams:  # a device that takes nothing
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, stream.fileno())
            os.close(full)
        with pytest.warns(ChunkMemoWarning, match=r"could not be written.*No space left") as told:
            logger.info("lost? 0")
        for number in (1, 2):
            logger.info("lost? %s", number)
        assert len(logger._files) == len(told)
        for stream, descriptor in zip(streams, closed, strict=True):
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)
        logger.info("last")
    messages = [
        e["data"]["message"] for e in load_structured_logs(logger.structured_path) if "message" in e["data"]
    ]
    assert ["first", "lost? 0", "lost? 1", "lost? 2", "last"] == messages
    assert 6 == len(logger.log_path.read_text().splitlines())


def test_what_comes_after_the_end_is_still_written(tmp_path: Path) -> None:
    """And no file stays open."""
    logger = quiet(tmp_path)
    logger.finalize()
    logger.info("late")
    assert ["experiment_start", "experiment_end", "message"] == kinds(logger)
    assert all(file.stream is None for file in logger._files)
    assert "completed" == analyze_logs(logger.structured_path)["final_status"]


def test_threads_and_processes_write_whole_lines(tmp_path: Path) -> None:
    """Lines of several threads and of pickled loggers in other processes do not mix."""

    def work(number: int) -> None:
        for i in range(30):
            logger.log_metrics({"x": "y" * 500}, number * 100 + i)

    with quiet(tmp_path) as logger:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        program = "import pickle, sys; logger = pickle.load(sys.stdin.buffer)\n" + (
            "for i in range(60): logger.log_metrics({'x': 'y' * 3000}, -i)"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, env=ENVIRONMENT)
        for thread in threads:
            thread.start()
        process.communicate(pickle.dumps(logger))
        for thread in threads:
            thread.join()
    events = [event["data"] for event in load_structured_logs(logger.structured_path)]
    steps = sorted(data["step"] for data in events if "step" in data)
    assert sorted([n * 100 + i for n in range(4) for i in range(30)] + [-i for i in range(60)]) == steps
    assert ["experiment_start", "experiment_end"] == [k for k in kinds(logger) if k != "metrics"]


def test_a_child_does_not_end_the_log_of_its_parent(tmp_path: Path) -> None:
    """A forked process that ends says nothing of the experiment's end."""
    program = (
        "import os, sys; from chunk_memo.lab import ExperimentLogger\n"
        f"logger = ExperimentLogger('exp', {str(tmp_path)!r}, log_to_console=False)\n"
        "if os.fork() == 0: sys.exit(0)\n"
        "os.wait(); logger.finalize('completed')\n"
    )
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True)
    assert ["experiment_start", "experiment_end"] == [
        event["event_type"] for event in load_structured_logs(tmp_path / "exp_structured.jsonl")
    ]


def test_a_logger_observes_runs(tmp_path: Path) -> None:
    """Start, chunks, failures and end of each run are events; people read those that matter."""
    memo = ChunkMemo(tmp_path / "root", {"n": 1}, {"n": [0, 1, 2]}, verbose=0)

    @memo.cache(version="1")
    def inverse(n: list[int]) -> list[float]:
        return [1 / value for value in n]

    with quiet(tmp_path) as logger, pytest.warns(FailureWarning):
        inverse(observers=[logger], on_error="record")
    expected = ["run_started", "chunk_done", "chunk_done", "point_failed", "run_finished"]
    assert sorted(expected) == sorted(kinds(logger)[1:-1])
    events = {event["event_type"]: event["data"] for event in load_structured_logs(logger.structured_path)}
    assert 3 == events["run_started"]["points"]
    name = events["run_started"]["name"]
    assert name.endswith("inverse")
    assert ({"n": [0]}, "ZeroDivisionError: division by zero") == (
        events["point_failed"]["arguments"],
        events["point_failed"]["error"],
    )
    assert 2 == events["run_finished"]["executed_points"]
    text = logger.log_path.read_text()
    assert f"WARNING - {name}: 1 points failed at {{'n': [0]}}: ZeroDivisionError" in text
    assert f"INFO - {name}: 3 of 3 points to be computed" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"experiment_name": "a/b"}, "experiment_name"),
        ({"experiment_name": ".."}, "experiment_name"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"max_bytes": 10, "backups": 0}, "backups"),
        ({"non_finite": "x"}, "non_finite"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], named: str) -> None:
    """With what was expected and what came; no file is made."""
    with pytest.raises(SpecError, match=f"'{named}': expected"):
        ExperimentLogger(**{"experiment_name": "exp", "output_dir": tmp_path / "in", **arguments})
    assert [] == list(tmp_path.iterdir())


def test_a_status_is_one_of_three(tmp_path: Path) -> None:
    """Another is an error that names them."""
    with quiet(tmp_path) as logger, pytest.raises(SpecError, match=r"completed.*failed.*interrupted.*'done'"):
        logger.finalize("done")


def test_the_command_analyzes_a_log(tmp_path: Path) -> None:
    """For people, as JSON, and into a file; a file without events is an error."""
    with quiet(tmp_path) as logger:
        logger.log_progress(5, 10, {"loss": 0.25})
        logger.log_error(ValueError("x"))
    run = CliRunner().invoke
    shown = run(main, ["log", "analyze", str(logger.structured_path)])
    assert 0 == shown.exit_code
    assert (
        "events    4: 1 experiment_start, 1 progress, 1 error, 1 experiment_end" == shown.output.splitlines()[0]
    )
    assert "progress  5 of 10  loss=0.25" in shown.output.splitlines()
    target = tmp_path / "analysis.json"
    found = run(main, ["log", "analyze", str(logger.structured_path), "--json", "--save-results", str(target)])
    assert analyze_logs(logger.structured_path) == json.loads(found.output)
    assert json.loads(found.output) == json.loads(target.read_text())["results"][0]
    empty = run(main, ["log", "analyze", str(logger.log_path)])
    assert (1, True) == (empty.exit_code, "holds no events" in empty.output)
    assert 2 == run(main, ["log", "analyze", str(tmp_path / "none")]).exit_code


def test_the_room_is_lazy() -> None:
    """Importing it loads neither NumPy nor h5py; its names are listed; a wrong one is an error."""
    program = (
        "import sys, chunk_memo.lab, chunk_memo.tables; print({'numpy', 'h5py', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert "set()\n" == done.stdout
    for name in chunk_memo.lab.__all__:
        assert getattr(chunk_memo.lab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chunk_memo.lab.nothing  # type: ignore[attr-defined]
