"""Kills an experiment that saves checkpoints and logs, again and again; prints what it saw as JSON.

Run as a program, so that what it forks are processes of one thread that have imported everything: then a kill
costs milliseconds, not a start of Python. Used by tests/test_lab_kills.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from chunk_memo.lab import CheckpointManager, ExperimentLogger, analyze_logs, load_structured_logs

Shown = dict[str, Any]


def step(state: Shown) -> None:
    """Make one iteration, which draws random numbers."""
    state["iteration"] += 1
    state["x"] = state["x"] * 0.99 + state["rng"].normal(size=state["x"].shape)


def experiment(folder: Path, iterations: int, tell: int | None = None) -> Shown:
    """Run the experiment from its last checkpoint on; tell each iteration that is saved to a descriptor."""
    manager = CheckpointManager(folder / "checkpoints", "exp", keep_last_n=2, save_frequency=1)
    try:
        state: Shown = manager.load_checkpoint()["state"]
    except FileNotFoundError:
        state = {"iteration": 0, "x": np.zeros((40, 50)), "rng": np.random.default_rng(7)}
    logger = ExperimentLogger("exp", folder / "logs", log_to_console=False, max_bytes=200_000, backups=1000)
    while state["iteration"] < iterations:
        step(state)
        logger.log_progress(state["iteration"], iterations, {"x": state["x"][0]})
        manager.save_checkpoint(state, state["iteration"])
        if tell is not None:
            os.write(tell, state["iteration"].to_bytes(8, "little"))
    logger.finalize()
    return state


def killed(folder: Path, after: int, share: float) -> list[int]:
    """Run the experiment in a process and kill it; return the iterations that it said were saved.

    It is killed when so many were saved, and a share of the time that one takes has passed; thus at any moment
    of an iteration, and with nothing saved also while it starts, however busy the machine is.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        experiment(folder, 1 << 30, writing)
        os._exit(1)
    os.close(writing)
    started = time.monotonic()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        told = [pipe.read(8) for _ in range(after)]
        time.sleep(share * (time.monotonic() - started) / after if after else share * 0.02)
        os.kill(pid, signal.SIGKILL)
        while said := pipe.read(8):
            told.append(said)
    _, status = os.waitpid(pid, 0)
    assert -signal.SIGKILL == os.waitstatus_to_exitcode(status)
    return [int.from_bytes(said, "little") for said in told if len(said) == 8]


def unreadable_lines(folder: Path) -> int:
    """Count the finished lines of the logs that are not JSON."""
    wrong = 0
    for path in folder.glob("logs/*.jsonl*"):
        *finished, _ = path.read_bytes().split(b"\n")
        for line in finished:
            try:
                json.loads(line)
            except ValueError:
                wrong += 1
    return wrong


def main(folder: Path, kills: int, seed: int) -> Shown:
    """Kill so many times, then run to the end, and compare with a run that nobody killed."""
    warnings.simplefilter("error")
    dice = random.Random(seed)
    experiment(folder / "warm", 2)  # what is imported on first use is here then, and costs the processes nothing
    saved, wrong, lost, effective = 0, 0, 0, 0
    for _ in range(kills):
        told = killed(folder, dice.randrange(4), dice.random())
        effective += bool(told)
        saved = max([saved, *told])
        if saved:
            found = CheckpointManager(folder / "checkpoints", "exp").load_checkpoint()
            lost += found["state"]["iteration"] < saved
        wrong += unreadable_lines(folder)
    end = saved + 5
    resumed, whole = experiment(folder, end), experiment(folder / "whole", end)
    log = folder / "logs" / "exp_structured.jsonl"
    events = load_structured_logs(log)
    logged = {event["data"]["iteration"] for event in events if event["event_type"] == "progress"}
    return {
        "lost": lost,
        "wrong": wrong,
        "lives with a checkpoint": effective,
        "iterations": end,
        "same": [resumed[name].tobytes() == whole[name].tobytes() for name in ("x",)]
        + [resumed["rng"].bit_generator.state == whole["rng"].bit_generator.state],
        "logged": logged >= set(range(1, end + 1)),
        "starts": analyze_logs(log)["starts"],
        "left over": [name for name in os.listdir(folder / "checkpoints") if name.startswith(".tmp-")],
        "kept": len(list((folder / "checkpoints").glob("*.ckpt"))),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
