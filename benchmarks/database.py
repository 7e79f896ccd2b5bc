"""The experiment database: steps logged and flushed, against SQLite's own executemany of the same rows."""

from __future__ import annotations

import shutil
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import Job, Section, measured
from benchmarks.timing import Against, Case, returned

__all__ = ["run", "steps_logged"]

TITLE = "Experiment database"
BOUND = 1 / 0.15
"""Steps per second are to be at least 0.15 times those of executemany."""

_TABLES = {
    "simulation_steps": (
        "simulation_id TEXT, step_number INTEGER, total_agents INTEGER, total_resources REAL, extra TEXT,"
        " PRIMARY KEY (simulation_id, step_number)",
        5,
    ),
    "agent_states": (
        "simulation_id TEXT, step_number INTEGER, agent_id TEXT, position_x REAL, position_y REAL,"
        " resource_level REAL, extra TEXT, PRIMARY KEY (simulation_id, step_number, agent_id)",
        7,
    ),
    "resource_states": (
        "simulation_id TEXT, step_number INTEGER, resource_id TEXT, amount REAL,"
        " PRIMARY KEY (simulation_id, step_number, resource_id)",
        4,
    ),
}
_FLUSH_EVERY = 50


def _step(step: int, agents: int) -> tuple[list[dict[str, Any]], list[tuple[str, float]], dict[str, Any]]:
    states = [
        {"agent_id": f"agent_{i}", "position_x": i * 0.5, "position_y": step * 0.25, "resource_level": 1.0}
        for i in range(agents)
    ]
    return states, [("meadow", 100.0 - step)], {"total_agents": agents, "total_resources": 100.0, "own": step}


def _ours(folder: Path, steps: list[Any]) -> float:
    from chunk_memo.lab import ExperimentDatabase

    shutil.rmtree(folder, ignore_errors=True)
    with ExperimentDatabase(folder / "lab.db", "exp", {"db_buffer_size": 10**9}) as db:
        context = db.create_simulation_context("sim")
        start = time.perf_counter()
        for number, (states, resources, metrics) in enumerate(steps):
            context.log_step(number, states, resources, metrics)
            if number % _FLUSH_EVERY == _FLUSH_EVERY - 1:
                context.flush_all_buffers()
        return time.perf_counter() - start


def _bare(folder: Path, steps: list[Any]) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    for name, (columns, _) in _TABLES.items():
        connection.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
    rows: dict[str, list[list[tuple[Any, ...]]]] = {name: [] for name in _TABLES}
    for number, (states, resources, metrics) in enumerate(steps):
        if number % _FLUSH_EVERY == 0:
            for batches in rows.values():
                batches.append([])
        own = f'{{"own": {metrics["own"]}}}'
        rows["simulation_steps"][-1].append(
            ("sim", number, metrics["total_agents"], metrics["total_resources"], own)
        )
        rows["agent_states"][-1].extend(("sim", number, *each.values(), None) for each in states)
        rows["resource_states"][-1].extend(("sim", number, *each) for each in resources)
    start = time.perf_counter()
    for batch in range(len(rows["agent_states"])):
        connection.execute("BEGIN IMMEDIATE")
        for name, (_, width) in _TABLES.items():
            marks = ", ".join("?" * width)
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name][batch])
        connection.execute("COMMIT")
    took = time.perf_counter() - start
    connection.close()
    return took


def steps_logged(folder: Path, steps: int, agents: int) -> Case:
    """Log steps of a simulation and flush every 50; the same rows by executemany in the same transactions."""
    made = [_step(number, agents) for number in range(steps)]
    bare = partial(_bare, folder / "bare", made)
    against = Against("sqlite3.executemany, same rows and transactions", bare, bound=BOUND)
    work = f"{steps:,} steps of {agents} agents, logged and flushed every {_FLUSH_EVERY}"
    return Case(work, partial(_ours, folder / "ours", made), (against,), gauge=returned)


def run(folder: Path, quick: bool) -> Section:
    """Measure 2,000 steps of 20 agents; quick: 200 of 5."""
    steps, agents = (200, 5) if quick else (2000, 20)
    turns = 2 if quick else 7
    jobs = [Job(partial(steps_logged, steps=steps, agents=agents), turns)]
    return measured(TITLE, jobs, folder)
