"""The snippets of document 002 (export, logging, checkpoints) run as they are printed there, but for imports."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo.lab import CheckpointManager, ExperimentLogger, analyze_logs, load_structured_logs
from chunk_memo.tables import load_results_json, load_results_pickle

SNIPPETS = {
    "quick_export": """
from chunk_memo.tables import export_all_formats

# Export results in all formats
export_all_formats(
    results=experiment_results,
    output_dir=Path("./results"),
    base_name="my_experiment",
    metadata={'description': 'Test run'}
)

# Creates:
# - my_experiment.json (JSON with metadata)
# - my_experiment.csv (CSV for spreadsheets)
# - my_experiment.pkl (Pickle for exact types)
# - my_experiment_summary.json (Statistics)
""",
    "quick_log": """
from chunk_memo.lab import create_experiment_logger

# Create logger
logger = create_experiment_logger(
    experiment_name="exp001",
    output_dir=Path("./logs"),
    verbose=True
)

# Log throughout experiment
logger.log_config({'samples': 512, 'dimension': 8})
logger.log_progress(iteration=100, total=1000, metrics={'loss': 0.5})
logger.log_result({'accuracy': 0.95})
logger.finalize(final_status='completed')

# Creates:
# - exp001.log (Human-readable log)
# - exp001_structured.jsonl (Machine-readable JSONL)
""",
    "quick_checkpoint": """
from chunk_memo.lab import create_checkpoint_manager

# Create manager
ckpt_mgr = create_checkpoint_manager(
    experiment_name="long_run",
    checkpoint_dir=Path("./checkpoints"),
    keep_last_n=3,
    save_frequency=100  # Save every 100 iterations
)

# Save checkpoint
state = {'iteration': 500, 'theta': best_theta, 'loss': current_loss}
ckpt_mgr.save_checkpoint(state, iteration=500)

# Resume from checkpoint
checkpoint = ckpt_mgr.load_checkpoint()
theta = checkpoint['state']['theta']
start_iter = checkpoint['state']['iteration']
""",
    "json": """
from chunk_memo.tables import export_results_json

export_results_json(
    results=[{'acc': 0.95, 'loss': 0.1}],
    output_path=Path("results.json"),
    metadata={'experiment': 'test', 'version': '1.0'},
    pretty=True  # Indented output
)
""",
    "csv": """
from chunk_memo.tables import export_results_csv

export_results_csv(
    results=[{'p_dep': 0.0, 'acc': 0.95}, {'p_dep': 0.1, 'acc': 0.90}],
    output_path=Path("results.csv")
)
""",
    "pickle": """
from chunk_memo.tables import export_results_pickle

export_results_pickle(
    results=results,
    output_path=Path("results.pkl"),
    metadata={'numpy_arrays': True}
)
""",
    "summary": """
from chunk_memo.tables import export_summary_statistics

export_summary_statistics(
    results=[{'acc': 0.95}, {'acc': 0.90}, {'acc': 0.92}],
    output_path=Path("summary.json")
)
""",
    "all_formats": """
from chunk_memo.tables import export_all_formats

export_all_formats(
    results=results,
    output_dir=Path("./output"),
    base_name="experiment_001"
)

# Creates 4 files:
# - experiment_001.json
# - experiment_001.csv
# - experiment_001.pkl
# - experiment_001_summary.json
""",
    "loading": """
from chunk_memo.tables import load_results_json, load_results_pickle

# Load JSON
data = load_results_json(Path("results.json"))
results = data['results']
metadata = data['metadata']

# Load Pickle
data = load_results_pickle(Path("results.pkl"))
""",
    "logger": """
from chunk_memo.lab import ExperimentLogger

logger = ExperimentLogger(
    experiment_name="my_exp",
    output_dir=Path("./logs"),
    log_to_file=True,
    log_to_console=True,
    level=logging.INFO
)
""",
    "config": """
logger.log_config({
    'samples': 512,
    'dimension': 8,
    'seed': 42
})
""",
    "progress": """
for i in range(1000):
    # Your code here
    if i % 100 == 0:
        logger.log_progress(
            iteration=i,
            total=1000,
            metrics={'loss': current_loss}
        )
""",
    "metrics": """
logger.log_metrics(
    metrics={'accuracy': 0.95, 'f1': 0.93},
    step=100
)
""",
    "result": """
logger.log_result({
    'final_accuracy': 0.95,
    'param_error': 0.05,
    'identifiability': 0.001
})
""",
    "errors": """
try:
    risky_operation()
except Exception as e:
    logger.log_error(e, context={'step': current_step})
    raise
""",
    "finalize": """
logger.finalize(final_status='completed')  # or 'failed', 'interrupted'
""",
    "analysis": """
from chunk_memo.lab import load_structured_logs, analyze_logs

# Load logs
events = load_structured_logs(Path("logs/my_exp_structured.jsonl"))

# Analyze
analysis = analyze_logs(Path("logs/my_exp_structured.jsonl"))
print(f"Total events: {analysis['total_events']}")
print(f"Event counts: {analysis['event_counts']}")
print(f"Status: {analysis['final_status']}")
""",
    "manager": """
from chunk_memo.lab import CheckpointManager

ckpt_mgr = CheckpointManager(
    checkpoint_dir=Path("./checkpoints"),
    experiment_name="long_exp",
    keep_last_n=3,  # Keep only 3 most recent
    save_frequency=100  # Auto-save every 100 iterations
)
""",
    "manual_save": """
state = {
    'iteration': 500,
    'theta': best_theta,
    'loss': current_loss,
    'rng_state': rng.bit_generator.state
}

checkpoint_path = ckpt_mgr.save_checkpoint(
    state=state,
    iteration=500,
    metadata={'note': 'Good convergence point'}
)
""",
    "automatic_save": """
for iteration in range(1000):
    # Your training code

    if ckpt_mgr.should_save_checkpoint(iteration):
        state = get_current_state()
        ckpt_mgr.save_checkpoint(state, iteration=iteration)
""",
    "load_latest": """
checkpoint = ckpt_mgr.load_checkpoint()  # Load most recent

# Extract state
iteration = checkpoint['iteration']
theta = checkpoint['state']['theta']
timestamp = checkpoint['timestamp']
""",
    "load_specific": """
checkpoints = ckpt_mgr.list_checkpoints()
checkpoint = ckpt_mgr.load_checkpoint(checkpoints[0])
""",
    "resume": """
from chunk_memo.lab import resume_from_checkpoint

# Resume
checkpoint = resume_from_checkpoint(Path("checkpoints/exp_iter_005000.ckpt"))

# Continue from where you left off
start_iteration = checkpoint['state']['iteration'] + 1
theta = checkpoint['state']['theta']

for iteration in range(start_iteration, total_iterations):
    # Continue training
    pass
""",
    "auto_checkpoint": """
from chunk_memo.lab import AutoCheckpoint

def get_state():
    return {'theta': current_theta, 'iteration': current_iter}

with AutoCheckpoint(ckpt_mgr, get_state):
    # Your code - checkpoint saved automatically on exception
    run_long_experiment()
""",
    "complete": """
from pathlib import Path
from chunk_memo.lab import create_experiment_logger
from chunk_memo.lab import create_checkpoint_manager
from chunk_memo.tables import export_all_formats
import numpy as np

def run_logged_experiment(experiment_name="exp001"):
    # Setup
    output_dir = Path(f"./results/{experiment_name}")

    # Create logger
    logger = create_experiment_logger(
        experiment_name=experiment_name,
        output_dir=output_dir / "logs",
        verbose=True
    )

    # Create checkpoint manager
    ckpt_mgr = create_checkpoint_manager(
        experiment_name=experiment_name,
        checkpoint_dir=output_dir / "checkpoints",
        keep_last_n=3,
        save_frequency=100
    )

    # Log configuration
    config = {
        'samples': 512,
        'dimension': 8,
        'seed': 42,
        'iterations': 1000
    }
    logger.log_config(config)

    # Check for existing checkpoint
    try:
        checkpoint = ckpt_mgr.load_checkpoint()
        start_iter = checkpoint['state']['iteration'] + 1
        logger.info(f"Resuming from iteration {start_iter}")
    except FileNotFoundError:
        start_iter = 0
        logger.info("Starting new experiment")

    # Run experiment
    results = []
    try:
        for iteration in range(start_iter, 1000):
            # Your training code
            loss = np.random.rand()  # Placeholder

            # Log progress
            if iteration % 100 == 0:
                logger.log_progress(
                    iteration=iteration,
                    total=1000,
                    metrics={'loss': loss}
                )

            # Save checkpoint
            if ckpt_mgr.should_save_checkpoint(iteration):
                state = {'iteration': iteration, 'loss': loss}
                ckpt_mgr.save_checkpoint(state, iteration=iteration)
                logger.log_checkpoint({'iteration': iteration})

            # Collect results
            if iteration % 200 == 0:
                result = {'iteration': iteration, 'loss': loss}
                results.append(result)

        # Export results
        export_all_formats(
            results=results,
            output_dir=output_dir,
            base_name=experiment_name,
            metadata=config
        )

        logger.info("Results exported")
        logger.finalize(final_status='completed')

    except Exception as e:
        logger.log_error(e, context={'iteration': iteration})
        logger.finalize(final_status='failed')
        raise
""",
    "custom_encoder": """
from chunk_memo.tables import NumpyEncoder
import json

class CustomEncoder(NumpyEncoder):
    def default(self, obj):
        if isinstance(obj, MyCustomType):
            return {'__custom__': True, 'data': obj.to_dict()}
        return super().default(obj)

with open('output.json', 'w') as f:
    json.dump(data, f, cls=CustomEncoder)
""",
    "backup": """
from chunk_memo.lab import backup_checkpoint

# Backup important checkpoints
checkpoint_path = Path("checkpoints/exp_iter_001000.ckpt")
backup_checkpoint(checkpoint_path, Path("./backups"))
""",
    "filtering": """
from chunk_memo.lab import load_structured_logs

events = load_structured_logs(Path("logs/exp_structured.jsonl"))

# Filter by event type
progress_events = [e for e in events if e['event_type'] == 'progress']
error_events = [e for e in events if e['event_type'] == 'error']
""",
}
"""By a name of our own, in the order of the document."""


class MyCustomType:
    """The type that a snippet of the document writes as JSON."""

    def to_dict(self) -> dict[str, int]:
        """Return what is in it."""
        return {"a": 1}


def risky_operation() -> None:
    """Fail, as the document's snippet on errors expects."""
    raise ArithmeticError("it went wrong")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that the snippets take for granted, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(42)
    return {
        "Path": Path,
        "np": np,
        "logging": logging,
        "rng": rng,
        "experiment_results": [{"acc": 0.9, "theta": np.arange(2)}, {"acc": 0.8}],
        "results": [{"acc": 0.9, "theta": np.arange(2)}, {"acc": 0.8, "extra": MyCustomType}],
        "best_theta": rng.normal(size=8),
        "current_loss": 0.25,
        "current_step": 7,
        "current_theta": rng.normal(size=8),
        "current_iter": 77,
        "total_iterations": 5003,
        "get_current_state": lambda: {"iteration": 1},
        "risky_operation": risky_operation,
        "run_long_experiment": risky_operation,
        "MyCustomType": MyCustomType,
        "data": {"own": MyCustomType(), "array": np.arange(3)},
    }


def run(names: dict[str, Any], *snippets: str) -> None:
    """Run snippets one after the other."""
    for snippet in snippets:
        exec(compile(SNIPPETS[snippet], snippet, "exec"), names)


def test_the_quick_starts_run(names: dict[str, Any]) -> None:
    """They leave the files that the document lists, and the checkpoint brings back what was saved."""
    run(names, "quick_export", "quick_log", "quick_checkpoint")
    expected = {"my_experiment.json", "my_experiment.csv", "my_experiment.pkl", "my_experiment_summary.json"}
    assert expected == {path.name for path in Path("results").iterdir()}
    assert {"exp001.log", "exp001_structured.jsonl"} == {path.name for path in Path("logs").iterdir()}
    assert 500 == names["start_iter"]
    assert names["best_theta"].tobytes() == names["theta"].tobytes()


def test_the_export_functions_run(names: dict[str, Any]) -> None:
    """Their files hold what the document prints; its std 0.0208 is neither kind, ours is the population's."""
    run(names, "json", "csv")
    printed = json.loads(Path("results.json").read_text())
    assert ["timestamp", "num_experiments", "metadata", "results"] == list(printed)
    assert {"experiment": "test", "version": "1.0"} == printed["metadata"]
    assert [{"acc": 0.95, "loss": 0.1}] == printed["results"]
    assert [["acc", "p_dep"], ["0.95", "0.0"], ["0.9", "0.1"]] == list(
        csv.reader(Path("results.csv").read_text().splitlines())
    )

    run(names, "summary")
    summary = json.loads(Path("summary.json").read_text())
    assert 3 == summary["num_experiments"]
    found = {name: round(value, 4) for name, value in summary["statistics"]["acc"].items()}
    assert {"count": 3, "mean": 0.9233, "std": 0.0205, "min": 0.9, "max": 0.95, "median": 0.92} == found

    names["results"] = [{"acc": 0.9, "theta": np.arange(2)}]
    run(names, "pickle", "all_formats")
    assert 4 == len(list(Path("output").glob("experiment_001*")))
    run(names, "loading")
    assert np.array_equal(np.arange(2), names["data"]["results"][0]["theta"])
    assert {"experiment": "test", "version": "1.0"} == names["metadata"]


def test_the_logger_runs(names: dict[str, Any]) -> None:
    """Every method of the document logs, and the analysis tells of it."""
    run(names, "logger", "config", "progress", "metrics", "result")
    with pytest.raises(ArithmeticError):
        run(names, "errors")
    run(names, "finalize", "analysis")
    expected = {
        "experiment_start": 1,
        "config": 1,
        "progress": 10,
        "metrics": 1,
        "result": 1,
        "error": 1,
        "experiment_end": 1,
    }
    assert expected == names["analysis"]["event_counts"]
    assert "completed" == names["analysis"]["final_status"]
    text = Path("logs/my_exp.log").read_text()
    assert " - experiment.my_exp - INFO - Experiment configuration:\n" in text
    assert " - experiment.my_exp - INFO -   samples: 512\n" in text
    assert " - experiment.my_exp - INFO - Progress: 100/1000 (10.0%) | loss=0.2500\n" in text


def test_the_checkpoints_run(names: dict[str, Any]) -> None:
    """Saved by hand, on time, on the way out; loaded as the newest, by name, resumed and backed up."""
    run(names, "manager", "manual_save")
    state = names["rng"].bit_generator.state
    run(names, "load_latest")
    assert (500, names["best_theta"].tobytes()) == (names["iteration"], names["theta"].tobytes())
    assert state == names["checkpoint"]["state"]["rng_state"]
    assert {"note": "Good convergence point"} == names["checkpoint"]["metadata"]

    run(names, "automatic_save", "load_specific")
    assert [700, 800, 900] == [info.iteration for info in names["ckpt_mgr"].infos()]
    assert 700 == names["checkpoint"]["iteration"]

    with pytest.raises(ArithmeticError):
        run(names, "auto_checkpoint")
    saved = names["ckpt_mgr"].load_checkpoint()
    assert 77 == saved["state"]["iteration"]

    manager = CheckpointManager("checkpoints", "exp", keep_last_n=0)
    for iteration in (1000, 5000):
        manager.save_checkpoint({"iteration": iteration, "theta": names["best_theta"]}, iteration)
    run(names, "resume", "backup")
    assert 5001 == names["start_iteration"]
    assert ["exp_iter_001000.ckpt"] == [path.name for path in Path("backups").iterdir()]


def test_the_advanced_snippets_run(names: dict[str, Any]) -> None:
    """An encoder of one's own, and events filtered by their type."""
    run(names, "custom_encoder")
    assert {"own": {"__custom__": True, "data": {"a": 1}}, "array": [0, 1, 2]} == json.loads(
        Path("output.json").read_text()
    )
    with ExperimentLogger("exp", "logs", log_to_console=False) as logger:
        logger.log_progress(1, 2)
        logger.log_error(ValueError("x"))
    run(names, "filtering")
    assert (1, 1) == (len(names["progress_events"]), len(names["error_events"]))


def test_the_complete_example_runs(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It logs, saves and exports in the recommended layout; started again, it goes on at its last checkpoint."""
    run(names, "complete")
    names["run_logged_experiment"]("experiment_001")
    folder = Path("results/experiment_001")
    expected = [
        "checkpoints/experiment_001_index.json",
        "checkpoints/experiment_001_iter_000700.ckpt",
        "checkpoints/experiment_001_iter_000800.ckpt",
        "checkpoints/experiment_001_iter_000900.ckpt",
        "experiment_001.csv",
        "experiment_001.json",
        "experiment_001.pkl",
        "experiment_001_summary.json",
        "logs/experiment_001.log",
        "logs/experiment_001_structured.jsonl",
    ]
    assert expected == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    first = load_results_json(folder / "experiment_001.json")
    assert [0, 200, 400, 600, 800] == [result["iteration"] for result in first["results"]]
    assert first["results"] == load_results_pickle(folder / "experiment_001.pkl")["results"]

    names["run_logged_experiment"]("experiment_001")
    events = load_structured_logs(folder / "logs" / "experiment_001_structured.jsonl")
    messages = [event["data"]["message"] for event in events if event["event_type"] == "message"]
    assert ["Starting new experiment", "Results exported"] == messages[:2]
    assert ["Resuming from iteration 901", "Results exported"] == messages[2:]
    assert [] == load_results_json(folder / "experiment_001.json")["results"]


def test_the_complete_example_logs_its_failure(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the loop is logged with its iteration, the status is failed, and the error is raised."""
    run(names, "complete")
    calls = iter([0.5] * 250)
    monkeypatch.setattr(np.random, "rand", lambda: next(calls))
    with pytest.raises(StopIteration):
        names["run_logged_experiment"]("failing")
    path = Path("results/failing/logs/failing_structured.jsonl")
    assert "failed" == analyze_logs(path)["final_status"]
    [error] = [event["data"] for event in load_structured_logs(path) if event["event_type"] == "error"]
    assert ("StopIteration", {"iteration": 250}) == (error["error_type"], error["context"])
    assert [200] == [
        info.iteration for info in CheckpointManager(path.parent.parent / "checkpoints", "failing").infos()
    ][-1:]
