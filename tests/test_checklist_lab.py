"""The checklist's lines 54 to 99 (document 002: export, log, checkpoints), one test or more for each.

Tests are named after the lines that they prove. Lines 91 and 92 (the complete example and its layout) are proved
by tests/test_document_lab.py. Left out by decision, as the document's future work: 96 (cloud storage), 97 (a live
dashboard), 99 (distributed checkpoints); 95 (database) and 98 (comparison) are the experiment database's.
"""

from __future__ import annotations

import csv
import inspect
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner
from workers import ENVIRONMENT

from chunk_memo.cli import main
from chunk_memo.errors import CheckpointNotFoundError, DamageWarning
from chunk_memo.lab import (
    AutoCheckpoint,
    CheckpointManager,
    ExperimentLogger,
    analyze_logs,
    backup_checkpoint,
    create_checkpoint_manager,
    create_experiment_logger,
    load_structured_logs,
    restore_rng,
    resume_from_checkpoint,
)
from chunk_memo.tables import (
    NumpyEncoder,
    create_results_dataframe,
    export_all_formats,
    export_results_csv,
    export_results_json,
    export_results_pickle,
    export_summary_statistics,
    load_results_json,
    load_results_pickle,
)

RESULTS = [
    {"acc": 0.95, "theta": np.array([1.0, 2.0]), "fit": {"chi2": np.float32(0.5), "ok": np.bool_(True)}},
    {"acc": 0.90, "note": "second", "steps": np.int64(7)},
]


def names_of(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first parameters."""
    return list(inspect.signature(function).parameters)[:count]


def quiet(name: str, folder: Path, **options: Any) -> ExperimentLogger:
    """Return a logger that does not write to the console."""
    return ExperimentLogger(name, folder, log_to_console=False, **options)


def events_of(logger: ExperimentLogger, kind: str) -> list[Any]:
    """Return the data of a logger's events of one kind."""
    return [
        event["data"] for event in load_structured_logs(logger.structured_path) if event["event_type"] == kind
    ]


def lines_of(logger: ExperimentLogger) -> list[str]:
    """Return the lines of the text log, without their times."""
    return [line.partition(" - ")[2] for line in logger.log_path.read_text().splitlines()]


# --- exports -----------------------------------------------------------------------------------------------


def test_054_json_holds_time_count_metadata_and_results(tmp_path: Path) -> None:
    """The file is standard JSON; `pretty` indents it."""
    assert ["results", "output_path", "metadata", "pretty"] == names_of(export_results_json, 4)
    path = export_results_json(RESULTS, tmp_path / "new" / "r.json", {"version": "1.0"}, pretty=True)
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert ["timestamp", "num_experiments", "metadata", "results"] == list(found)
    assert (2, {"version": "1.0"}) == (found["num_experiments"], found["metadata"])
    assert {"acc": 0.95, "theta": [1.0, 2.0], "fit": {"chi2": 0.5, "ok": True}} == found["results"][0]
    assert 0 <= (datetime.now(UTC) - datetime.fromisoformat(found["timestamp"])).total_seconds() < 600
    assert path.read_text().count("\n") > 10
    export_results_json(RESULTS, path, pretty=False)
    assert 1 == path.read_text().count("\n")


def test_055_csv_has_the_sorted_union_of_columns(tmp_path: Path) -> None:
    """Nested dicts are columns, missing cells are empty."""
    path = export_results_csv(RESULTS, tmp_path / "r.csv")
    with path.open() as file:
        rows = list(csv.reader(file))
    assert [
        ["acc", "fit.chi2", "fit.ok", "note", "steps", "theta"],
        ["0.95", "0.5", "True", "", "", "[1.0, 2.0]"],
        ["0.9", "", "", "second", "7", ""],
    ] == rows


def test_056_pickle_keeps_exact_types(tmp_path: Path) -> None:
    """Arrays, NumPy scalars and objects come back as they were, with the metadata."""
    path = export_results_pickle([*RESULTS, {"when": datetime(2026, 1, 2)}], tmp_path / "r.pkl", {"a": (1,)})
    found = load_results_pickle(path)
    assert ({"a": (1,)}, 3) == (found["metadata"], found["num_experiments"])
    assert np.array_equal(RESULTS[0]["theta"], found["results"][0]["theta"])  # type: ignore[arg-type]
    assert (np.int64, datetime) == (type(found["results"][1]["steps"]), type(found["results"][2]["when"]))


def test_057_the_summary_covers_every_numeric_field(tmp_path: Path) -> None:
    """Whatever it is called, wherever it lies; missing values are left out; std is the population's."""
    results = [
        {"a": 1, "n": {"b": np.float32(2)}, "text": "x", "part": None, "flag": True, "mixed": "no"},
        {"a": 3, "n": {"b": np.int8(4)}, "text": "y", "part": 5.0, "flag": False, "mixed": 1},
        {"a": float("nan"), "text": "z", "part": pd.NA},
    ]
    path = export_summary_statistics(results, tmp_path / "s.json")
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert 3 == found["num_experiments"]
    one = {"count": 1, "mean": 5.0, "std": 0.0, "min": 5.0, "max": 5.0, "median": 5.0}
    assert {
        "a": {"count": 2, "mean": 2.0, "std": 1.0, "min": 1, "max": 3, "median": 2.0},
        "mixed": {"count": 1, "mean": 1.0, "std": 0.0, "min": 1, "max": 1, "median": 1.0},
        "n.b": {"count": 2, "mean": 3.0, "std": 1.0, "min": 2.0, "max": 4, "median": 3.0},
        "part": one,
    } == found["statistics"]


@pytest.mark.parametrize("results", [RESULTS, []])
def test_058_all_formats_are_four_files(tmp_path: Path, results: list[Any]) -> None:
    """Also for an empty list."""
    assert ["results", "output_dir", "base_name", "metadata"] == names_of(export_all_formats, 4)
    export_all_formats(results, tmp_path, "run.1", {"a": 1})
    assert ["run.1.csv", "run.1.json", "run.1.pkl", "run.1_summary.json"] == sorted(
        path.name for path in tmp_path.iterdir()
    )
    assert len(results) == load_results_json(tmp_path / "run.1.json")["num_experiments"]


def test_059_the_loaders_return_results_and_metadata(tmp_path: Path) -> None:
    """Both of them."""
    written = export_all_formats([{"a": 1}], tmp_path, "r", {"b": 2})
    for load, kind in ((load_results_json, "json"), (load_results_pickle, "pickle")):
        found = load(written[kind])
        assert ([{"a": 1}], {"b": 2}, 1) == (found["results"], found["metadata"], found["num_experiments"])


def test_060_numpy_types_are_taken_everywhere(tmp_path: Path) -> None:
    """In every export and in the logger: scalars of all kinds, arrays, dates, keys."""
    value = {
        "f2": np.float16(0.5),
        "g": np.longdouble(0.25),
        "i": np.uint8(3),
        "b": np.bool_(False),
        "s": np.str_("text"),
        "c": np.complex64(1j),
        "t": np.datetime64("2026-01-01"),
        "d": np.timedelta64(90, "s"),
        "void": np.array([(1, 2.0)], [("x", "i4"), ("y", "f8")]),
        "nested": {np.int64(1): np.array([[1, 2]], np.int16)},
        "masked": np.ma.MaskedArray([1, 2], [False, True]),
    }
    export_all_formats([value], tmp_path, "r")
    expected = {
        "f2": 0.5,
        "g": 0.25,
        "i": 3,
        "b": False,
        "s": "text",
        "c": {"real": 0.0, "imag": 1.0},
        "t": "2026-01-01",
        "d": 90.0,
        "void": [{"x": 1, "y": 2.0}],
        "nested": {"1": [[1, 2]]},
        "masked": [1, None],
    }
    assert [expected] == load_results_json(tmp_path / "r.json")["results"]
    with quiet("log", tmp_path) as logger:
        for method in (logger.log_config, logger.log_metrics, logger.log_result, logger.log_checkpoint):
            method(value)
        logger.log_progress(np.int64(1), np.int32(2), value)  # type: ignore[arg-type]
        logger.log_error(ValueError("x"), value)
        logger.log_event("own", value)
    for kind in ("config", "result", "checkpoint", "own"):
        assert [expected] == events_of(logger, kind)
    assert expected == events_of(logger, "metrics")[0]["metrics"] == events_of(logger, "error")[0]["context"]
    assert (1, 2, 50.0) == tuple(events_of(logger, "progress")[0].values())[:3]


def test_061_the_encoder_can_be_subclassed(tmp_path: Path) -> None:
    """Types of one's own first, the rest by the base; the exports take it, too."""

    class Encoder(NumpyEncoder):
        def default(self, o: Any) -> Any:
            if isinstance(o, slice):
                return {"__slice__": [o.start, o.stop]}
            return super().default(o)

    data = {"own": slice(1, np.int64(3)), "array": np.array([np.nan, 1])}
    expected = {"own": {"__slice__": [1, 3]}, "array": [None, 1.0]}
    assert expected == json.loads(json.dumps(data, cls=Encoder))
    path = export_results_json([data], tmp_path / "r.json", encoder=Encoder)
    assert [expected] == load_results_json(path)["results"]
    with pytest.raises(TypeError, match="subclass of NumpyEncoder"):
        json.dumps(data, cls=NumpyEncoder)


@pytest.mark.parametrize("library", [pd, pl])
def test_062_results_may_be_a_dataframe(tmp_path: Path, library: Any) -> None:
    """Of pandas or polars; and they can become one."""
    frame = library.DataFrame({"x": [1, 2], "y": [0.5, None]})
    written = export_all_formats(frame, tmp_path, "r")
    assert [{"x": 1, "y": 0.5}, {"x": 2, "y": None}] == load_results_json(written["json"])["results"]
    assert {"pandas": "x,y\n1,0.5\n2,nan\n", "polars": "x,y\n1,0.5\n2,\n"}[library.__name__] == written[
        "csv"
    ].read_text()
    assert frame.equals(load_results_pickle(written["pickle"])["results"])
    assert [1, 2] == create_results_dataframe(frame)["x"].tolist()
    assert ["a", "b.c"] == list(create_results_dataframe([{"a": 1, "b": {"c": 2}}]))


# --- the logger --------------------------------------------------------------------------------------------


def test_063_the_logger_takes_the_documented_arguments(tmp_path: Path, capsys: Any) -> None:
    """Files, console and level can be chosen."""
    arguments = ["experiment_name", "output_dir", "log_to_file", "log_to_console", "level"]
    assert arguments == names_of(ExperimentLogger, 5)
    logger = ExperimentLogger("exp", tmp_path, False, True, logging.WARNING)
    logger.info("low")
    logger.warning("high")
    logger.finalize()
    assert not logger.log_path.exists()
    assert "WARNING: high\n" == capsys.readouterr().err


def test_064_verbose_means_debug(tmp_path: Path, capsys: Any) -> None:
    """With verbose=True messages of the level DEBUG are logged."""
    assert ["experiment_name", "output_dir", "verbose"] == names_of(create_experiment_logger, 3)
    for verbose in (False, True):
        with create_experiment_logger(f"exp{verbose}", tmp_path, verbose=verbose) as logger:
            logger.debug("detail")
    assert 1 == capsys.readouterr().err.count("DEBUG: detail")


def test_065_people_read_a_file_and_the_console(tmp_path: Path, capsys: Any) -> None:
    """The same message stands in both; the file gives time (UTC), name and level."""
    with ExperimentLogger("exp", tmp_path) as logger:
        logger.info("begun at %s", 5)
    line = logger.log_path.read_text().splitlines()[0]
    time, _, rest = line.partition(" - ")
    assert datetime.fromisoformat(time).tzinfo == UTC
    assert "experiment.exp - INFO - begun at 5" == rest
    assert "INFO: begun at 5" in capsys.readouterr().err.splitlines()


def test_066_programs_read_json_lines(tmp_path: Path) -> None:
    """Each has timestamp, event_type and data."""
    with quiet("exp", tmp_path) as logger:
        logger.log_config({"samples": 512})
    assert logger.structured_path == tmp_path / "exp_structured.jsonl"
    lines = [json.loads(line) for line in logger.structured_path.read_text().splitlines()]
    assert all(["timestamp", "event_type", "data"] == list(line) for line in lines)
    assert all(datetime.fromisoformat(line["timestamp"]).tzinfo == UTC for line in lines)


def test_067_log_config(tmp_path: Path) -> None:
    """A line for each entry, and one event."""
    with quiet("exp", tmp_path) as logger:
        logger.log_config({"samples": 512, "where": tmp_path})
    assert [{"samples": 512, "where": str(tmp_path)}] == events_of(logger, "config")
    assert "experiment.exp - INFO -   samples: 512" in lines_of(logger)


def test_068_log_progress(tmp_path: Path) -> None:
    """With percentage and formatted metrics; tiny numbers are not rounded away; no total is no error."""
    with quiet("exp", tmp_path) as logger:
        logger.log_progress(100, 1000, {"loss": 0.5, "gap": 1e-7, "n": 3})
        logger.log_progress(5, 0)
        logger.log_progress(6)
    assert [
        "experiment.exp - INFO - Progress: 100/1000 (10.0%) | loss=0.5000, gap=1.0000e-07, n=3",
        "experiment.exp - INFO - Progress: 5/0",
        "experiment.exp - INFO - Progress: 6",
    ] == lines_of(logger)[:3]
    assert [10.0, None, None] == [data["progress_pct"] for data in events_of(logger, "progress")]


def test_069_log_metrics(tmp_path: Path) -> None:
    """With a step or without."""
    with quiet("exp", tmp_path) as logger:
        logger.log_metrics({"f1": 0.93}, step=100)
        logger.log_metrics({"f1": 0.94})
    assert [{"step": 100, "metrics": {"f1": 0.93}}, {"step": None, "metrics": {"f1": 0.94}}] == events_of(
        logger, "metrics"
    )
    assert "experiment.exp - INFO - Metrics (step 100): f1=0.9300" == lines_of(logger)[0]


def test_070_log_result(tmp_path: Path) -> None:
    """To six digits for people, exactly for programs."""
    with quiet("exp", tmp_path) as logger:
        logger.log_result({"acc": 1 / 3})
    assert [{"acc": 1 / 3}] == events_of(logger, "result")
    assert "experiment.exp - INFO - Result: acc=0.333333" == lines_of(logger)[0]


def test_071_log_error(tmp_path: Path) -> None:
    """Type, message, context and traceback."""
    with quiet("exp", tmp_path) as logger:
        try:
            raise ValueError("no convergence")
        except ValueError as error:
            logger.log_error(error, context={"step": 3})
    [data] = events_of(logger, "error")
    assert ("ValueError", "no convergence", {"step": 3}) == tuple(data.values())[:3]
    assert "raise ValueError" in data["traceback"]
    assert "experiment.exp - ERROR - ValueError: no convergence | step=3" == lines_of(logger)[0]


def test_072_log_checkpoint(tmp_path: Path) -> None:
    """A dict, or the path that was saved."""
    with quiet("exp", tmp_path) as logger:
        logger.log_checkpoint({"iteration": 5})
        logger.log_checkpoint(tmp_path / "x.ckpt")
    assert [{"iteration": 5}, {"path": str(tmp_path / "x.ckpt")}] == events_of(logger, "checkpoint")


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_073_finalize(tmp_path: Path, status: str) -> None:
    """It says how the experiment ended, once."""
    logger = quiet("exp", tmp_path)
    logger.finalize(final_status=status)
    logger.finalize("completed")
    [data] = events_of(logger, "experiment_end")
    assert status == data["status"]


def test_073_finalize_by_with_and_at_exit(tmp_path: Path) -> None:
    """The block's end decides; a program that ends without it is interrupted, or failed by its error."""
    for error, expected in ((ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)), quiet(expected, tmp_path) as logger:
            raise error
        assert expected == analyze_logs(logger.structured_path)["final_status"]
    program = "from chunk_memo.lab import ExperimentLogger\nlogger = ExperimentLogger('{0}', '{1}')\n{2}"
    for name, end, expected in (
        ("a", "", "interrupted"),
        ("b", "1 / 0", "failed"),
        ("c", "exit(3)", "interrupted"),
    ):
        text = program.format(name, tmp_path, end)
        subprocess.run(
            [sys.executable, "-c", text], env=ENVIRONMENT, capture_output=True, timeout=60, check=False
        )
        assert expected == analyze_logs(tmp_path / f"{name}_structured.jsonl")["final_status"]


def test_074_levels_are_respected(tmp_path: Path) -> None:
    """Messages below the level are left out, in both files."""
    with quiet("exp", tmp_path, level=logging.WARNING) as logger:
        for method in (logger.debug, logger.info, logger.warning, logger.error):
            method("text")
    assert ["WARNING", "ERROR"] == [data["level"] for data in events_of(logger, "message")]
    assert ["experiment.exp - WARNING - text", "experiment.exp - ERROR - text"] == lines_of(logger)


def test_075_logs_are_loaded_and_filtered(tmp_path: Path) -> None:
    """As dicts, in order; a torn last line is passed over."""
    with quiet("exp", tmp_path) as logger:
        for iteration in range(3):
            logger.log_progress(iteration, 3)
    with logger.structured_path.open("a") as file:
        file.write('{"timestamp": "2026')
    events = load_structured_logs(logger.structured_path)
    assert [0, 1, 2] == [e["data"]["iteration"] for e in events if e["event_type"] == "progress"]


def test_076_logs_are_analyzed(tmp_path: Path) -> None:
    """Totals, counts by type, the status."""
    with quiet("exp", tmp_path) as logger:
        logger.log_config({})
        logger.log_error(ValueError())
    analysis = analyze_logs(logger.structured_path)
    assert 4 == analysis["total_events"]
    assert {"experiment_start": 1, "config": 1, "error": 1, "experiment_end": 1} == analysis["event_counts"]
    assert ("completed", {"ValueError": 1}, 0) == (
        analysis["final_status"],
        analysis["errors"],
        analysis["damaged_lines"],
    )


# --- checkpoints -------------------------------------------------------------------------------------------


def test_077_the_manager_takes_the_documented_arguments(tmp_path: Path) -> None:
    """By class and by function."""
    expected = ["checkpoint_dir", "experiment_name", "keep_last_n", "save_frequency"]
    assert expected == names_of(CheckpointManager, 4)
    assert [expected[1], expected[0], *expected[2:]] == names_of(create_checkpoint_manager, 4)
    made = create_checkpoint_manager("exp", tmp_path, keep_last_n=2, save_frequency=10)
    assert ("exp", tmp_path, 2, 10) == (
        made.experiment_name,
        made.checkpoint_dir,
        made.keep_last_n,
        made.save_frequency,
    )


def test_078_a_checkpoint_is_named_by_its_iteration(tmp_path: Path) -> None:
    """With six digits or more; without an iteration it gets a number."""
    manager = CheckpointManager(tmp_path, "exp", keep_last_n=0)
    names = [manager.save_checkpoint({}, i, metadata={"a": 1}).name for i in (100, 0, 12_345_678, None, None)]
    assert [
        "exp_iter_000100.ckpt",
        "exp_iter_000000.ckpt",
        "exp_iter_12345678.ckpt",
        "exp_ckpt_0001.ckpt",
        "exp_ckpt_0002.ckpt",
    ] == names


def test_079_it_is_time_to_save_every_so_many_iterations(tmp_path: Path) -> None:
    """At multiples, and where a multiple was stepped over; without a frequency never; or after a time."""
    manager = CheckpointManager(tmp_path, "exp", save_frequency=100)
    assert [0, 100, 200] == [i for i in range(250) if manager.should_save_checkpoint(i)]
    manager = CheckpointManager(tmp_path, "exp", save_frequency=100)
    assert [0, 128, 256, 320] == [i for i in range(0, 400, 64) if manager.should_save_checkpoint(i)][:4]
    manager.save_checkpoint({}, 256)
    manager = CheckpointManager(tmp_path, "exp", save_frequency=100)  # as in another process, later
    assert [320, 448] == [i for i in range(320, 500, 64) if manager.should_save_checkpoint(i)]
    assert not CheckpointManager(tmp_path, "exp").should_save_checkpoint(0)
    assert CheckpointManager(tmp_path, "exp", save_every_seconds=1e-9).should_save_checkpoint(7)
    assert not CheckpointManager(tmp_path, "exp", save_every_seconds=3600.0).should_save_checkpoint(7)


def test_080_the_latest_is_loaded(tmp_path: Path) -> None:
    """With iteration, state and timestamp."""
    manager = CheckpointManager(tmp_path, "exp")
    for iteration in (5, 3):
        manager.save_checkpoint({"theta": np.full(2, iteration)}, iteration)
    found = manager.load_checkpoint()
    assert 3 == found["iteration"]  # the one saved last, whatever its number
    assert [3, 3] == found["state"]["theta"].tolist()
    assert datetime.fromisoformat(found["timestamp"]).tzinfo == UTC


def test_081_one_of_several_is_loaded(tmp_path: Path) -> None:
    """They are listed, the oldest first; a path or a name will do."""
    manager = CheckpointManager(tmp_path, "exp")
    for iteration in (1, 2):
        manager.save_checkpoint({"i": iteration}, iteration)
    first, second = manager.list_checkpoints()
    assert {"i": 1} == manager.load_checkpoint(first)["state"]
    assert {"i": 2} == manager.load_checkpoint(second.name)["state"]


def test_082_only_the_last_n_are_kept(tmp_path: Path) -> None:
    """Across restarts, repeated iterations and experiments whose names share a prefix."""
    for start in (0, 3):
        manager, other = (CheckpointManager(tmp_path, name, keep_last_n=2) for name in ("exp", "exp_iter_000001"))
        for iteration in range(start, start + 3):
            manager.save_checkpoint({"i": iteration}, iteration)
            other.save_checkpoint({"i": -iteration}, iteration)
    assert [4, 5] == [info.iteration for info in manager.infos()]
    assert [4, 5] == [info.iteration for info in other.infos()]
    assert ({"i": 5}, {"i": -5}) == (manager.load_checkpoint()["state"], other.load_checkpoint()["state"])

    alone = CheckpointManager(tmp_path, "alone", keep_last_n=1)
    for turn in range(3):
        alone.save_checkpoint({"turn": turn}, iteration=7)
    assert {"turn": 2} == alone.load_checkpoint()["state"]


def test_083_without_a_checkpoint_it_is_file_not_found(tmp_path: Path) -> None:
    """Whether the folder is there or not."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="No checkpoints found"):
            CheckpointManager(folder, "exp").load_checkpoint()
    assert not (tmp_path / "none").exists()


def test_084_a_damaged_newest_falls_back(tmp_path: Path) -> None:
    """To the one before, with a warning that names both; a truncated one, too."""
    manager = CheckpointManager(tmp_path, "exp")
    for iteration in range(3):
        path = manager.save_checkpoint({"i": iteration, "theta": np.arange(9000.0)}, iteration)
    data = path.read_bytes()
    for damaged in (data[:-100], data[:50], b"", data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]):
        path.write_bytes(damaged)
        with pytest.warns(DamageWarning, match=r"exp_iter_000002\.ckpt.*exp_iter_000001\.ckpt"):
            assert 1 == CheckpointManager(tmp_path, "exp").load_checkpoint()["state"]["i"]


def test_085_resume_from_a_path(tmp_path: Path) -> None:
    """One file, without a manager."""
    path = CheckpointManager(tmp_path, "exp").save_checkpoint({"iteration": 5}, 5)
    assert 5 == resume_from_checkpoint(path)["state"]["iteration"]
    with pytest.raises(CheckpointNotFoundError, match=r"there are exp_iter_000005\.ckpt"):
        resume_from_checkpoint(tmp_path / "exp_iter_000006.ckpt")


def test_086_auto_checkpoint_saves_and_lets_pass(tmp_path: Path) -> None:
    """On an exception; without one nothing is saved."""
    assert ["checkpoint_manager", "get_state"] == names_of(AutoCheckpoint, 2)
    manager = CheckpointManager(tmp_path, "exp")
    with AutoCheckpoint(manager, lambda: {"iteration": 3}):
        pass
    assert [] == manager.list_checkpoints()
    with pytest.raises(ZeroDivisionError), AutoCheckpoint(manager, lambda: {"iteration": 3}) as auto:
        _ = 1 / 0
    found = manager.load_checkpoint()
    assert (3, {"iteration": 3}, auto.saved) == (found["iteration"], found["state"], found["path"])
    assert ("division by zero", True) == (found["metadata"]["error"], found["metadata"]["interrupted"])


def test_087_a_checkpoint_is_backed_up(tmp_path: Path) -> None:
    """Verified; the same again is fine, another of that name is an error."""
    manager = CheckpointManager(tmp_path, "exp")
    path = manager.save_checkpoint({"i": 1}, 1)
    copy = backup_checkpoint(path, tmp_path / "backups")
    assert (path.name, path.read_bytes()) == (copy.name, copy.read_bytes())
    assert copy == backup_checkpoint(path, tmp_path / "backups")
    manager.save_checkpoint({"i": 2}, 1)
    with pytest.raises(ValueError, match="found another"):
        backup_checkpoint(path, tmp_path / "backups")
    assert {"i": 1} == resume_from_checkpoint(copy)["state"]


def test_088_the_index_lists_what_is_there(tmp_path: Path) -> None:
    """It is derived: it may be lost or lie, and nothing else changes."""
    manager = CheckpointManager(tmp_path, "exp", keep_last_n=2)
    for iteration in range(3):
        manager.save_checkpoint({}, iteration, {"note": np.float32(0.5)})
    path = tmp_path / "exp_index.json"
    index = json.loads(path.read_text())
    assert ["experiment_name", "timestamp", "checkpoint_count", "checkpoints"] == list(index)
    assert ["exp_iter_000001.ckpt", "exp_iter_000002.ckpt"] == [entry["file"] for entry in index["checkpoints"]]
    assert (2, {"note": 0.5}) == (index["checkpoint_count"], index["checkpoints"][0]["metadata"])
    path.write_text("{")
    assert 2 == CheckpointManager(tmp_path, "exp").load_checkpoint()["iteration"]
    manager.save_checkpoint({}, 3)
    assert 2 == json.loads(path.read_text())["checkpoint_count"]


def test_089_metadata_come_back(tmp_path: Path) -> None:
    """With their exact types."""
    manager = CheckpointManager(tmp_path, "exp")
    manager.save_checkpoint({}, 1, metadata={"note": "good", "at": (1, 2), "where": tmp_path})
    assert {"note": "good", "at": (1, 2), "where": tmp_path} == manager.load_checkpoint()["metadata"]


def test_090_arrays_and_random_numbers_go_on_exactly(tmp_path: Path) -> None:
    """Arrays of every dtype; generators, their states as dicts, and the global ones."""
    manager = CheckpointManager(tmp_path, "exp")
    rng = np.random.default_rng(5)
    rng.integers(0, 9, dtype=np.uint32)  # half of a 64-bit number is kept for the next one
    old = np.random.RandomState(5)
    old.standard_normal(3)
    arrays = [
        np.arange(6, dtype=dtype).reshape(2, 3) for dtype in ("f2", "f4", "f8", "g", "c16", "i1", "u8", "m8[s]")
    ]
    state = {"arrays": arrays, "rng": rng, "old": old, "state": rng.bit_generator.state}
    manager.save_checkpoint(state, 1)
    found = manager.load_checkpoint()
    for expected, array in zip(arrays, found["state"]["arrays"], strict=True):
        assert (expected.dtype, expected.tobytes()) == (array.dtype, array.tobytes())
    again = np.random.default_rng()
    again.bit_generator.state = found["state"]["state"]
    expected = rng.random(9)
    assert expected.tobytes() == found["state"]["rng"].random(9).tobytes() == again.random(9).tobytes()
    assert rng.spawn(1)[0].random() == found["state"]["rng"].spawn(1)[0].random()
    assert old.standard_normal(9).tobytes() == found["state"]["old"].standard_normal(9).tobytes()

    manager.save_checkpoint({}, 2)
    expected = np.random.rand(5)
    restore_rng(manager.load_checkpoint())
    assert expected.tobytes() == np.random.rand(5).tobytes()


def test_093_commands_save_their_results(tmp_path: Path) -> None:
    """``--save-results FILE`` in the format that its suffix names."""
    CheckpointManager(tmp_path, "exp").save_checkpoint({}, 5, {"note": "x"})
    for suffix in ("json", "csv", "pkl"):
        target = tmp_path / f"results.{suffix}"
        done = CliRunner().invoke(main, ["checkpoints", "ls", str(tmp_path), "--save-results", str(target)])
        assert 0 == done.exit_code, done.output
    assert 5 == load_results_json(tmp_path / "results.json")["results"][0]["iteration"]
    assert "metadata.note" in (tmp_path / "results.csv").read_text().splitlines()[0]
    assert 5 == load_results_pickle(tmp_path / "results.pkl")["results"][0]["iteration"]


def test_094_logs_rotate(tmp_path: Path) -> None:
    """At `max_bytes`, keeping `backups`; the structured log is read across them, so that nothing is missed."""
    with quiet("exp", tmp_path, max_bytes=4000, backups=50) as logger:
        for iteration in range(100):
            logger.log_progress(iteration, 100)
    renamed = list(tmp_path.glob("exp_structured.jsonl.*"))
    assert len(renamed) > 2
    assert all(path.stat().st_size <= 4000 for path in renamed)
    assert list(range(100)) == [data["iteration"] for data in events_of(logger, "progress")]
    assert 102 == analyze_logs(logger.structured_path)["total_events"]
    assert list(tmp_path.glob("exp.log.*"))


def test_no_pickle_of_the_tests_is_plain(tmp_path: Path) -> None:
    """An exported pickle cannot be taken for one that ``pickle.load`` should open."""
    path = export_results_pickle([], tmp_path / "r.pkl")
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())
