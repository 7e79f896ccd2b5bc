"""The experiment database: many simulations in one place, every row there, once."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import inspect, select, text

from chunk_memo.errors import (
    ChunkMemoError,
    CollisionError,
    FlushWarning,
    MemoryLimitError,
    MemoryLimitWarning,
    RootError,
    SpecError,
    StoreError,
    UnknownSimulationError,
)
from chunk_memo.lab import (
    AgentStateModel,
    ExperimentDatabase,
    ExperimentManager,
    ExperimentModel,
    InMemorySimulationDatabase,
    SimulationDatabase,
    SimulationModel,
    SimulationStepModel,
    create_database,
)
from chunk_memo.lab.owntables import data_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty database may be made: a file, and a server."""
    if request.param == "sqlite":
        return str(tmp_path / "folder" / "lab.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def db(place: str) -> Iterator[ExperimentDatabase]:
    """Return an open database of the experiment ``exp``."""
    with ExperimentDatabase(place, "exp") as opened:
        yield opened


def filled(db: ExperimentDatabase, simulation_id: str, steps: int = 3, **parameters: Any) -> None:
    """Log a small simulation of every kind of row."""
    with db.create_simulation_context(simulation_id, parameters or None) as context:
        for step in range(steps):
            context.log_step(
                step,
                [{"agent_id": "a", "position_x": step, "mood": "calm"}, ("b", 1.0, 2.0)],
                [("r", 10.0 - step)],
                {"total_agents": 2, "own": step * 0.5},
            )
            context.log_agent_action(step, "a", "eat", reward=1.0, what="grass")
            context.log_metric("loss", 1 / (step + 1), step)
        context.log_agent("a", agent_type="grazer", colour="brown")
        context.log_artifact("results/out.h5")


class TestRows:
    """What is logged is there, in its columns and in the JSON column."""

    def test_steps_hold_metrics_agents_and_resources(self, db: ExperimentDatabase) -> None:
        """Known names lie in columns, others in the JSON column; tuples follow the columns' order."""
        filled(db, "sim")
        with db.Session() as session:
            states = session.query(AgentStateModel).filter(AgentStateModel.simulation_id == "sim").all()
            last = session.query(SimulationStepModel).order_by(SimulationStepModel.step_number.desc()).first()
        assert 6 == len(states)
        assert {"a": {"mood": "calm"}, "b": None} == {each.agent_id: each.extra for each in states}
        assert last is not None
        assert (2, 2, {"own": 1.0}) == (last.step_number, last.total_agents, last.extra)
        assert [10.0, 9.0, 8.0] == [row["amount"] for row in db.rows("resource_states", "sim")]

    def test_every_kind_of_row_is_kept(self, db: ExperimentDatabase) -> None:
        """Agents, actions, metrics and artifacts, with fields of one's own."""
        filled(db, "sim")
        assert "brown" == db.rows("agents")[0]["colour"]
        actions = [(row["action_type"], row["what"], row["reward"]) for row in db.rows("actions")]
        assert [("eat", "grass", 1.0)] * 3 == actions
        assert [1.0, 0.5, 1 / 3] == [row["value"] for row in db.rows("metrics")]
        (artifact,) = db.rows("artifacts")
        assert ("file", "out.h5") == (artifact["kind"], artifact["name"])
        assert timedelta(0) == artifact["created_at"].utcoffset()

    def test_events_of_agents_are_actions(self, db: ExperimentDatabase) -> None:
        """Health incidents, births and learning are actions of their own types."""
        with db.create_simulation_context("sim") as context:
            context.log_health_incident(1, "a", 1.0, 0.5, cause="hunger")
            context.log_reproduction_event(2, "a", "b", success=True)
            context.log_learning_experience(3, "b", 0.25, loss=2.0)
        found = {row["action_type"]: row for row in db.rows("actions")}
        assert ("hunger", 0.5) == (found["health_incident"]["cause"], found["health_incident"]["health_after"])
        assert "b" == found["reproduction"]["action_target_id"]
        assert (0.25, 2.0) == (found["learning"]["reward"], found["learning"]["loss"])

    def test_agent_ids_repeat_in_other_simulations(self, db: ExperimentDatabase) -> None:
        """An agent's id is unique within its simulation only."""
        for simulation in ("one", "two"):
            filled(db, simulation)
        assert 12 == len(db.rows("agent_states"))
        assert 2 == len(db.rows("agents"))

    def test_a_step_logged_again_takes_the_place_of_the_first(self, db: ExperimentDatabase) -> None:
        """The same step of the same simulation is one row."""
        context = db.create_simulation_context("sim")
        for agents in (1, 2):
            context.log_step(0, metrics={"total_agents": agents})
            context.flush_all_buffers()
        assert [2] == [row["total_agents"] for row in db.rows("simulation_steps")]

    def test_numpy_values_go_everywhere(self, db: ExperimentDatabase) -> None:
        """NumPy scalars and arrays are taken in columns, JSON, parameters and results."""
        with db.create_simulation_context("sim", {"lr": np.float32(0.5), "grid": np.arange(3)}) as context:
            metrics = {"total_agents": np.int64(3), "average_reward": np.float32(0.5), "profile": np.ones(2)}
            context.log_step(np.int64(0), [{"agent_id": np.int64(7), "age": np.int16(4)}], None, metrics)
        db.update_simulation_status("sim", "completed", {"best": np.float64(2.0), "where": Path("x")})
        (step,) = db.rows("simulation_steps")
        assert (3, 0.5, [1.0, 1.0]) == (step["total_agents"], step["average_reward"], step["profile"])
        assert "7" == db.rows("agent_states")[0]["agent_id"]
        row = db.simulations().loc["sim"]
        assert (0.5, [0, 1, 2], 2.0, "x") == (
            row["parameters.lr"],
            row["parameters.grid"],
            row["results.best"],
            row["results.where"],
        )

    def test_nan_is_missing_in_columns_and_kept_in_json(self, db: ExperimentDatabase) -> None:
        """Both databases treat NaN alike; infinities are numbers."""
        with db.create_simulation_context("sim") as context:
            context.log_step(0, metrics={"average_reward": float("nan"), "own": float("nan")})
            context.log_step(1, metrics={"average_reward": float("inf"), "own": float("-inf")})
        first, second = db.rows("simulation_steps")
        assert first["average_reward"] is None
        assert np.isnan(first["own"])
        assert (np.inf, -np.inf) == (second["average_reward"], second["own"])

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda c: c.log_step(-1), '"step_number" expects an integer of at least 0, got -1'),
            (lambda c: c.log_step(1.5), '"step_number"'),
            (lambda c: c.log_step(0, [{"position_x": 1}]), '"agent_states.agent_id" is missing'),
            (lambda c: c.log_step(0, [{"agent_id": "a", "age": "old"}]), '"agent_states.age" expects an integer'),
            (lambda c: c.log_step(0, {"agent_id": "a"}), "expects a list of rows"),
            (lambda c: c.log_step(0, [("a", 1, 2, 3, 4, 5, 6, 7)]), "at most 7 values"),
            (lambda c: c.log_step(0, metrics={"total_agents": 1.5}), '"simulation_steps.total_agents" expects'),
            (lambda c: c.log_step(0, metrics={"own": object()}), "expected a value that JSON can say"),
            (lambda c: c.log_step(0, [{"agent_id": "a", "simulation_id": "other"}]), "the row itself says"),
            (lambda c: c.log_step(0, [{"agent_id": "a\x00"}]), "NUL"),
            (lambda c: c.log_metric("loss", "high"), '"metrics.value" expects a number'),
            (lambda c: c.log_agent_action(0, "a", None), '"actions.action_type" is missing'),
            (lambda c: c.log_row("nothing", a=1), "has no table 'nothing'"),
            (lambda c: c.log_artifact(3), '"artifact" expects a path'),
        ],
    )
    def test_a_bad_row_is_an_error_where_it_is_logged(self, tmp_path: Path, call: Any, message: str) -> None:
        """It names the column, and spoils none of the good rows beside it."""
        with ExperimentDatabase(tmp_path / "lab.db", "exp") as db:
            context = db.create_simulation_context("sim")
            context.log_step(5, metrics={"total_agents": 1})
            with pytest.raises(ChunkMemoError, match=re.escape(message)):
                call(context)
            assert 1 == context.waiting
            assert 1 == context.flush_all_buffers()

    def test_simulation_id_leads_an_index_of_every_data_table(self, db: ExperimentDatabase) -> None:
        """Rows of one simulation are found by an index, as the plan of a query says."""
        db.define_table("epochs", "epoch", epoch=int)
        for table in data_tables(db.engine):
            key = inspect(db.engine).get_pk_constraint(table.name)["constrained_columns"]
            assert "simulation_id" == key[0]
        if db.engine.dialect.name == "sqlite":
            plan = db.explain(select(AgentStateModel.agent_id).where(AgentStateModel.simulation_id == "sim"))
            assert any("SEARCH agent_states USING PRIMARY KEY (simulation_id=?)" in line for line in plan)


class TestExperiments:
    """Experiments and simulations have their records."""

    def test_an_experiment_is_recorded_and_continued(self, place: str) -> None:
        """Opening the same id again continues it; another id is another experiment in the same place."""
        with ExperimentDatabase(place, "exp", name="Grazing", description="how they graze") as db:
            filled(db, "one", steps=1)
        with ExperimentDatabase(place, "exp") as db:
            filled(db, "two", steps=1)
            db.update_experiment_status("completed", {"total_simulations": 2})
            assert ["one", "two"] == db.get_simulation_ids()
            with db.Session() as session:
                found = session.get(ExperimentModel, "exp")
            assert found is not None
            assert ("Grazing", "how they graze", "completed") == (found.name, found.description, found.status)
            assert {"total_simulations": 2} == found.results_summary
            assert timedelta(0) == found.creation_date.utcoffset()
        with ExperimentDatabase(place, "other") as db:
            assert [] == db.get_simulation_ids()

    def test_a_simulation_has_its_times_and_its_end(self, db: ExperimentDatabase) -> None:
        """Both ends set the time; a failed one says with what."""
        before = datetime.now(UTC)
        for name in ("good", "bad", "open"):
            db.create_simulation_context(name, {"seed": 1})
        db.update_simulation_status("good", "completed", {"final_agents": 100})
        db.update_simulation_status("bad", "failed")
        with db.Session() as session:
            found = {each.simulation_id: each for each in session.query(SimulationModel).all()}
        assert {"seed": 1} == found["good"].parameters
        assert {"final_agents": 100} == found["good"].results_summary
        assert found["open"].end_time is None
        for name in ("good", "bad"):
            end = found[name].end_time
            assert end is not None
            assert before <= found[name].start_time <= end <= datetime.now(UTC)
        assert ["bad"] == db.get_simulation_ids("failed")

    def test_a_context_sets_the_status_at_its_end(self, db: ExperimentDatabase) -> None:
        """Completed, or failed with the error; what was set inside stays."""
        with db.create_simulation_context("good") as context:
            context.log_metric("loss", 1.0)
        with pytest.raises(ZeroDivisionError), db.create_simulation_context("bad") as context:  # noqa: PT012
            context.log_metric("loss", 2.0)
            raise ZeroDivisionError("by zero")
        with db.create_simulation_context("own") as context:
            context.update_status("failed", {"reason": "mine"})
        table = db.simulations()
        assert ["completed", "failed", "failed"] == table["status"].tolist()
        assert "ZeroDivisionError: by zero" == table.loc["bad", "results.error"]
        assert "mine" == table.loc["own", "results.reason"]
        assert 2 == len(db.rows("metrics"))

    def test_a_clash_of_ids_is_reported(self, place: str) -> None:
        """Neither other parameters nor another experiment take an id over."""
        with ExperimentDatabase(place, "exp") as db:
            db.create_simulation_context("sim", {"seed": 1})
            db.create_simulation_context("sim", {"seed": 1})
            with pytest.raises(CollisionError, match="other parameters"):
                db.create_simulation_context("sim", {"seed": 2})
        with ExperimentDatabase(place, "other") as db:
            with pytest.raises(CollisionError, match='belongs to the experiment "exp"'):
                db.create_simulation_context("sim")
            with pytest.raises(UnknownSimulationError, match="has no simulation 'sim'"):
                db.update_simulation_status("sim", "failed")

    def test_wrong_words_are_errors(self, db: ExperimentDatabase) -> None:
        """Statuses, ids and unknown simulations are named."""
        db.create_simulation_context("sim")
        with pytest.raises(SpecError, match='"status" expects one of pending, running, completed, failed'):
            db.update_simulation_status("sim", "done")
        with pytest.raises(SpecError, match='"status"'):
            db.update_experiment_status("over")
        with pytest.raises(SpecError, match='"simulation_id" expects a text'):
            db.create_simulation_context("")
        with pytest.raises(UnknownSimulationError, match="it has sim"):
            db.update_simulation_status("nobody", "completed")
        assert ["sim"] == db.get_simulation_ids()

    def test_the_manager_sets_the_experiment_s_status(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Completed at the end of the block, failed with the error otherwise; it makes its folder."""
        monkeypatch.chdir(tmp_path)
        with ExperimentManager("good", name="Good") as manager:
            manager.create_simulation("sim", {"a": 1})
            manager.complete_simulation("sim", {"b": 2})
            assert ["sim"] == manager.get_simulation_ids()
        with pytest.raises(RuntimeError), ExperimentManager("bad", "experiments/good.db"):
            raise RuntimeError("no")
        with ExperimentDatabase("experiments/good.db", "good") as db, db.Session() as session:
            found = {each.experiment_id: each for each in session.query(ExperimentModel).all()}
        assert ("completed", "failed") == (found["good"].status, found["bad"].status)
        assert {"error": "RuntimeError: no"} == found["bad"].results_summary


class TestComparing:
    """Simulations side by side."""

    def test_a_metric_is_pivoted(self, db: ExperimentDatabase) -> None:
        """Columns, metrics of one's own and log_metric's alike; rows are steps."""
        filled(db, "one", steps=2)
        filled(db, "two", steps=3)
        for metric in ("total_agents", "own", "loss"):
            table = db.compare_simulations(metric)
            assert ["one", "two"] == table.columns.tolist()
            assert [0, 1, 2] == table.index.tolist()
            assert np.isnan(table.loc[2, "one"])
        assert [0.0, 0.5, 1.0] == db.compare_simulations("own")["two"].tolist()
        last = db.compare_simulations("loss", last=True)
        assert {"one": 0.5, "two": 1 / 3} == last["loss"].to_dict()
        with pytest.raises(UnknownSimulationError, match=r"no simulation .* 'lost'; there are .*own"):
            db.compare_simulations("lost")

    def test_the_document_s_comparison_works(self, db: ExperimentDatabase) -> None:
        """The last step of each simulation by a session's query."""
        for name in ("one", "two"):
            filled(db, name)
        with db.Session() as session:
            final = [
                session.query(SimulationStepModel)
                .filter(SimulationStepModel.simulation_id == name)
                .order_by(SimulationStepModel.step_number.desc())
                .first()
                for name in db.get_simulation_ids()
            ]
        assert [2, 2] == [each.total_agents for each in final if each is not None]

    def test_simulations_are_a_table(self, db: ExperimentDatabase) -> None:
        """Parameters and results are columns; an empty experiment has an empty table."""
        assert 0 == len(db.simulations())
        filled(db, "one", steps=1, lr=0.1)
        assert 0.1 == db.simulations().loc["one", "parameters.lr"]


class TestTablesOfOnesOwn:
    """Domains without agents define their tables."""

    def test_rows_go_in_and_replace_by_key(self, db: ExperimentDatabase) -> None:
        """A key makes rows replace each other; without one each is new."""
        db.define_table("epochs", "epoch", epoch=int, loss=float, note=str, good=bool, more=dict)
        db.define_table("events", what=str, when=datetime)
        when = datetime(2026, 1, 2, tzinfo=UTC)
        with db.create_simulation_context("net") as context:
            context.log_row("epochs", epoch=0, loss=1.0)
            context.log_row("epochs", {"epoch": 0, "loss": 0.5, "good": True, "more": {"a": [1]}, "own": 3})
            context.log_rows("events", [("start", when), ("stop", when)])
        assert [
            {
                "simulation_id": "net",
                "epoch": 0,
                "loss": 0.5,
                "note": None,
                "good": True,
                "more": {"a": [1]},
                "own": 3,
            }
        ] == db.rows("epochs")
        assert [("start", when), ("stop", when)] == [(row["what"], row["when"]) for row in db.rows("events")]

    def test_a_definition_is_kept(self, place: str) -> None:
        """A table is known when the database is opened again; another definition is a clash."""
        with ExperimentDatabase(place, "exp") as db:
            db.define_table("epochs", "epoch", epoch=int)
        with ExperimentDatabase(place, "exp") as db:
            db.define_table("epochs", "epoch", epoch=int)
            with pytest.raises(CollisionError, match='table "epochs"'):
                db.define_table("epochs", epoch=int)
            assert ["epoch", "extra", "simulation_id"] == sorted(db.table("epochs").columns.keys())

    @pytest.mark.parametrize(
        ("name", "columns"),
        [
            ("agents", {"a": int}),
            ("no good", {"a": int}),
            ('x"; DROP TABLE agents; --', {"a": int}),
            ("x", {}),
            ("x", {"a": complex}),
            ("x", {"simulation_id": str}),
            ("x", {"a b": int}),
        ],
    )
    def test_names_and_types_are_checked(self, tmp_path: Path, name: str, columns: Any) -> None:
        """What cannot be a table is an error, and nothing of it reaches the database."""
        with ExperimentDatabase(tmp_path / "lab.db", "exp") as db:
            before = db.table_names()
            with pytest.raises(SpecError):
                db.define_table(name, **columns)
            assert before == db.table_names()


class TestNothingIsLost:
    """A failed flush keeps its rows, and can be repeated."""

    def test_a_held_lock_loses_no_row(self, tmp_path: Path) -> None:
        """Another process holds the database: the flush fails, the rows wait, the next flush writes them."""
        path = tmp_path / "lab.db"
        with ExperimentDatabase(path, "exp", {"db_busy_timeout": 0.05}) as db:
            context = db.create_simulation_context("sim")
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            for step in range(10):
                context.log_step(step, [("a",)], None, {"total_agents": 1})
            with pytest.raises(StoreError, match=r"20 rows .* locked.*kept"):
                context.flush_all_buffers()
            with pytest.raises(StoreError, match="kept"):
                db.close()
            assert 20 == context.waiting
            context.log_metric("late", 1.0)
            holder.execute("ROLLBACK")
            holder.close()
            assert 21 == context.flush_all_buffers()
            assert (10, 10, 1) == tuple(
                len(db.rows(name)) for name in ("simulation_steps", "agent_states", "metrics")
            )

    def test_a_simulation_goes_on_while_the_database_is_held(self, tmp_path: Path) -> None:
        """A buffer that is full and cannot be written warns once, and grows."""
        path = tmp_path / "lab.db"
        with ExperimentDatabase(path, "exp", {"db_busy_timeout": 0.01, "db_buffer_size": 4}) as db:
            context = db.create_simulation_context("sim")
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            with pytest.warns(FlushWarning, match="the simulation goes on") as told:  # noqa: PT031
                for step in range(20):
                    context.log_metric("loss", step, step)
            assert 1 == len(told)
            holder.execute("ROLLBACK")
            holder.close()
            context.log_metric("loss", 20, 20)
            assert 0 == context.waiting
            assert 21 == len(db.rows("metrics"))

    def test_rows_are_written_when_enough_wait(self, tmp_path: Path) -> None:
        """The buffer's size and the interval bound what a kill would lose."""
        with ExperimentDatabase(tmp_path / "lab.db", "exp", {"db_buffer_size": 10}) as db:
            context = db.create_simulation_context("sim")
            for step in range(25):
                context.log_metric("loss", step, step)
            assert 5 == context.waiting
            assert 20 == len(db.rows("metrics"))
        with ExperimentDatabase(tmp_path / "lab.db", "exp", {"db_commit_interval": 0}) as db:
            context = db.create_simulation_context("sim")
            context.log_metric("other", 0)
            assert 0 == context.waiting

    def test_an_error_of_the_user_s_passes_through_a_held_lock(self, tmp_path: Path) -> None:
        """The user's exception is the one that is raised; that rows wait is a warning."""
        path = tmp_path / "lab.db"
        with ExperimentDatabase(path, "exp", {"db_busy_timeout": 0.01}) as db:
            context = db.create_simulation_context("sim")
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            with pytest.warns(FlushWarning, match="kept"), pytest.raises(KeyError), context:  # noqa: PT012, PT031
                context.log_metric("loss", 1.0)
                raise KeyError("mine")
            holder.execute("ROLLBACK")
            holder.close()
            assert 1 == context.waiting

    def test_threads_log_at_once(self, db: ExperimentDatabase) -> None:
        """Eight threads log to one context; each row is there, once."""
        context = db.create_simulation_context("sim")

        def log(thread: int) -> None:
            for step in range(200):
                context.log_metric(f"m{thread}", step, step)
                if step % 50 == 0:
                    context.flush_all_buffers()

        threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        context.flush_all_buffers()
        assert 1600 == len(db.rows("metrics"))

    def test_a_child_leaves_the_parent_s_rows_alone(self, place: str) -> None:
        """After a fork the child writes its own rows, and those of the parent are written by the parent."""
        with ExperimentDatabase(place, "exp") as db:
            context = db.create_simulation_context("sim")
            context.log_agent_action(0, "parent", "wait")
            pid = os.fork()
            if pid == 0:
                try:
                    context.log_agent_action(0, "child", "wait")
                    written = context.flush_all_buffers()
                    os._exit(written)
                except BaseException:
                    os._exit(99)
            assert 1 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert 1 == context.flush_all_buffers()
            assert ["child", "parent"] == sorted(row["agent_id"] for row in db.rows("actions"))

    def test_what_waits_is_written_when_a_program_ends(self, tmp_path: Path) -> None:
        """A program that forgets to flush loses nothing."""
        import subprocess
        import sys

        code = (
            "from chunk_memo.lab import ExperimentDatabase\n"
            f"db = ExperimentDatabase({str(tmp_path / 'lab.db')!r}, 'exp')\n"
            "db.create_simulation_context('sim').log_metric('loss', 1.0)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        with ExperimentDatabase(tmp_path / "lab.db", "exp") as db:
            assert 1 == len(db.rows("metrics"))


def simulate(task: tuple[str, int, int, int]) -> int:
    """Run simulations of one worker into a shared database; return the rows logged."""
    place, worker, simulations, steps = task
    with ExperimentDatabase(place, "exp", {"db_busy_timeout": 120.0}) as db:
        for number in range(simulations):
            with db.create_simulation_context(f"sim_{worker}_{number}", {"worker": worker}) as context:
                for step in range(steps):
                    context.log_step(step, [("a", step, 0.0)], [("r", 1.0)], {"total_agents": step})
    return simulations * steps * 3


def check_many_writers(place: str, workers: int, simulations: int, steps: int) -> None:
    """Many processes fill one fresh database; every row is there, once."""
    tasks = [(place, worker, simulations, steps) for worker in range(workers)]
    with multiprocessing.get_context("forkserver").Pool(workers) as pool:
        assert workers * simulations * steps * 3 == sum(pool.map(simulate, tasks, chunksize=1))
    with ExperimentDatabase(place, "exp") as db:
        assert workers * simulations == len(db.get_simulation_ids("completed"))
        with db.engine.connect() as connection:
            for table in ("simulation_steps", "agent_states", "resource_states"):
                count = connection.execute(
                    text(f"SELECT count(*), count(DISTINCT simulation_id) FROM {table}")
                ).one()
                assert (workers * simulations * steps, workers * simulations) == tuple(count)


def test_many_processes_write_one_database(place: str) -> None:
    """Processes that start at once on a fresh database lose and double nothing."""
    check_many_writers(place, workers=6, simulations=3, steps=40)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sixteen_processes_write_one_database(place: str) -> None:
    """16 processes × 20 simulations × 500 steps: every row is there, once."""
    check_many_writers(place, workers=16, simulations=20, steps=500)


class TestInMemory:
    """A database in memory is written into a central one afterwards."""

    def test_it_is_persisted_beside_others(self, place: str) -> None:
        """Two simulations with the same ids of agents land in one database that holds another already."""
        with ExperimentDatabase(place, "exp_001") as db:
            filled(db, "there")
        for name in ("one", "two"):
            memory = InMemorySimulationDatabase(memory_limit_mb=100, simulation_id=name, parameters={"n": name})
            memory.log_step(0, [{"agent_id": "a", "mood": "calm"}], None, {"total_agents": 1})
            memory.log_agent_action(0, "a", "wait")
            done = memory.persist_to_disk(place)
            assert (3, 3, "exp_001") == (done["rows_copied"], done.tables_copied, done.experiment_id)
            memory.close()
        with ExperimentDatabase(place, "exp_001") as db:
            assert ["there", "one", "two"] == db.get_simulation_ids()
            assert "calm" == db.rows("agent_states", "two")[0]["mood"]
            assert {"n": "two"} == {"n": db.simulations().loc["two", "parameters.n"]}

    def test_a_new_file_makes_its_experiment(self, tmp_path: Path) -> None:
        """Without an id, a new database gets an experiment of the file's name, and several ask for one."""
        memory = InMemorySimulationDatabase(simulation_id="sim")
        memory.define = None  # type: ignore[attr-defined]
        memory.log_metric("loss", 1.0)
        assert "exp_007" == memory.persist_to_disk(tmp_path / "new" / "exp_007.db").experiment_id
        with pytest.raises(CollisionError, match='has a simulation "sim" already'):
            memory.persist_to_disk(tmp_path / "new" / "exp_007.db")
        for name in ("a", "b"):
            ExperimentDatabase(tmp_path / "two.db", name).close()
        with pytest.raises(SpecError, match=r'"experiment_id" must be given: .* a, b'):
            memory.persist_to_disk(tmp_path / "two.db")
        assert "b" == memory.persist_to_disk(tmp_path / "two.db", experiment_id="b").experiment_id
        memory.close()

    def test_tables_can_be_left_out(self, tmp_path: Path) -> None:
        """Only the named tables are written; the others are listed."""
        memory = InMemorySimulationDatabase(simulation_id="sim")
        memory.log_step(0, [("a",)], None, {})
        done = memory.persist_to_disk(tmp_path / "lab.db", tables=["simulation_steps"])
        assert (1, ("agent_states",)) == (done.rows_copied, done.tables_skipped)
        with pytest.raises(SpecError, match="'nothing'"):
            memory.persist_to_disk(tmp_path / "lab.db", tables=["nothing"])
        memory.close()

    def test_tables_of_ones_own_go_along(self, tmp_path: Path) -> None:
        """A definition is copied with its rows."""
        memory = InMemorySimulationDatabase(simulation_id="net")
        memory.parent_db.define_table("epochs", "epoch", epoch=int, loss=float)
        memory.log_row("epochs", epoch=1, loss=0.5)
        memory.persist_to_disk(tmp_path / "lab.db")
        memory.close()
        with ExperimentDatabase(tmp_path / "lab.db", "lab") as db:
            assert [{"simulation_id": "net", "epoch": 1, "loss": 0.5}] == db.rows("epochs")

    def test_the_limit_warns_and_then_stops(self, tmp_path: Path) -> None:
        """At 70 and 90 per cent it warns; beyond, it is an error, and what is there can be written."""
        memory = InMemorySimulationDatabase(memory_limit_mb=0.5, simulation_id="sim")

        def log() -> None:
            for step in range(100_000):
                memory.log_step(step, [("agent", 1.0, 2.0)], None, {"note": "x" * 100})

        warned = pytest.warns(MemoryLimitWarning, match=r"of its 0.5 MB")
        with warned, pytest.raises(MemoryLimitError, match=r"persist_to_disk\(\)"):
            log()
        assert memory.get_memory_usage() > 0.5
        done = memory.persist_to_disk(tmp_path / "lab.db")
        assert done.rows_copied > 1000
        memory.close()


class TestMoving:
    """Merging, exporting, removing, compacting."""

    def test_databases_of_workers_are_merged(self, place: str, tmp_path: Path) -> None:
        """Each worker has a file; merging twice changes nothing."""
        for worker in range(3):
            with ExperimentDatabase(tmp_path / f"{worker}.db", "exp") as db:
                filled(db, f"sim_{worker}", seed=worker)
        with ExperimentDatabase(place, "exp") as db:
            for worker in range(3):
                done = db.merge(tmp_path / f"{worker}.db")
                assert ((f"sim_{worker}",), 20) == (done.copied, done.rows)
            assert ("sim_0",) == db.merge(tmp_path / "0.db").there
            assert ["sim_0", "sim_1", "sim_2"] == sorted(db.get_simulation_ids())
            assert {0: 0, 1: 1, 2: 2} == dict(
                enumerate(db.simulations().sort_index()["parameters.seed"].tolist())
            )
            assert 18 == len(db.rows("agent_states"))

    def test_a_clash_stops_a_merge(self, tmp_path: Path) -> None:
        """The same id with other contents: nothing is copied, or the clash is left out on request."""
        with ExperimentDatabase(tmp_path / "other.db", "exp") as db:
            filled(db, "sim", steps=2)
            filled(db, "new")
        with ExperimentDatabase(tmp_path / "lab.db", "exp") as db:
            filled(db, "sim", steps=3)
            with pytest.raises(CollisionError, match="nothing was copied"):
                db.merge(tmp_path / "other.db")
            assert ["sim"] == db.get_simulation_ids()
            done = db.merge(tmp_path / "other.db", on_clash="skip")
            assert (("new",), ("sim",)) == (done.copied, done.clashed)
            assert 3 == len(db.rows("simulation_steps", "sim"))
            with pytest.raises(RootError, match="is no file"):
                db.merge(tmp_path / "nothing.db")
            (tmp_path / "text.db").write_text("no database, and long enough to be told from one")
            with pytest.raises(RootError, match="cannot be opened as a SQLite database"):
                db.merge(tmp_path / "text.db")

    def test_a_simulation_moves_to_another_kind_of_database(self, tmp_path: Path, postgres_url: str) -> None:
        """From a file to a server and back, a simulation stays the same."""
        with ExperimentDatabase(tmp_path / "a.db", "exp") as first:
            filled(first, "sim", lr=0.1)
            with (
                ExperimentDatabase(postgres_url, "exp") as server,
                ExperimentDatabase(tmp_path / "b.db", "exp") as back,
            ):
                assert ("sim",) == server.merge(first).copied
                assert ("sim",) == back.merge(server).copied
                assert ("sim",) == back.merge(first).there
                for table in first.table_names():
                    assert first.rows(table) == back.rows(table)

    @pytest.mark.parametrize("format", ["csv", "json", "parquet"])
    def test_a_simulation_is_exported(self, tmp_path: Path, format: str) -> None:
        """One file per table with rows, and one for the simulation itself."""
        import pandas

        with ExperimentDatabase(tmp_path / "lab.db", "exp") as db:
            filled(db, "sim/../1", lr=0.1)
            made = db.export_simulation("sim/../1", tmp_path / "out", format)
        assert {tmp_path / "out"} == {path.parent.parent for path in made}
        head = json.loads(made[0].read_text())
        assert ({"lr": 0.1}, "completed") == (head["parameters"], head["status"])
        reads: Any = {"csv": pandas.read_csv, "json": pandas.read_json, "parquet": pandas.read_parquet}[format]
        by_name = {path.stem: path for path in made}
        assert {"agent_states", "actions", "simulation_steps"} <= by_name.keys()
        states = reads(by_name["agent_states"])
        assert (6, 2) == (len(states), states["agent_id"].nunique())
        assert 3 == (states["mood"] == "calm").sum()

    def test_a_removed_simulation_is_gone_and_its_room_given_back(self, place: str) -> None:
        """All its rows go, none of another's."""
        with ExperimentDatabase(place, "exp") as db:
            filled(db, "gone", steps=300)
            filled(db, "stays", steps=2)
            removed = db.remove_simulation("gone")
            assert 300 * 6 + 2 == removed
            assert ["stays"] == db.get_simulation_ids()
            assert {"stays"} == {row["simulation_id"] for row in db.rows("agent_states")}
            before, after = db.vacuum()
            assert after <= before
            with pytest.raises(UnknownSimulationError):
                db.remove_simulation("gone")


class TestOpening:
    """Where a database is, and how it is written."""

    def test_configuration_comes_from_what_the_user_has(self, tmp_path: Path) -> None:
        """A dict of all settings, an object with attributes, a profile; a wrong one is named."""

        class Config:
            seed = 3
            db_busy_timeout = 5.0

        for config, pragma, expected in [
            ({"db_profile": "safety", "lr": 0.1}, "synchronous", 2),
            ({"db_profile": "performance"}, "synchronous", 0),
            (Config(), "busy_timeout", 5000),
            ({"db_cache_size_mb": 16}, "cache_size", -16000),
            (None, "foreign_keys", 1),
        ]:
            with ExperimentDatabase(tmp_path / "lab.db", "exp", config) as db, db.engine.connect() as connection:
                assert expected == connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
                assert "wal" == connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        for wrong in ({"db_profile": "fast"}, {"db_busy_timout": 1}, {"db_journal_mode": "x; DROP"}):
            with pytest.raises(SpecError, match=r'"?(db_|journal)'):
                ExperimentDatabase(tmp_path / "lab.db", "exp", wrong)

    def test_a_wrong_place_is_told(self, tmp_path: Path) -> None:
        """A folder, a file that is no database, a URL of another kind."""
        (tmp_path / "notes.txt").write_text("not a database, but some text that is long enough")
        for place, message in [
            (tmp_path, "is a folder"),
            (tmp_path / "notes.txt", "cannot be opened as a SQLite database"),
            (tmp_path / "notes.txt" / "lab.db", "cannot be made"),
        ]:
            with pytest.raises(RootError, match=message):
                ExperimentDatabase(place, "exp")
        for url in ("mysql://localhost/x", "nonsense://"):
            with pytest.raises(SpecError, match=r"expected dialect|kept by SQLite or PostgreSQL"):
                ExperimentDatabase(url, "exp")

    def test_a_password_is_shown_nowhere(self, postgres_url: str) -> None:
        """Neither the representation nor the stored path tells it."""
        from sqlalchemy import make_url

        url = make_url(postgres_url).set(password="secret").render_as_string(hide_password=False)
        with ExperimentDatabase(url, "exp") as db:
            filled(db, "sim", steps=1)
            with db.Session() as session:
                found = session.get(SimulationModel, "sim")
            assert found is not None
            assert "secret" not in found.simulation_db_path
            assert "secret" not in repr(db)

    def test_a_database_travels_to_workers(self, place: str) -> None:
        """A pickle connects anew where it is loaded."""
        with ExperimentDatabase(place, "exp") as db:
            filled(db, "sim")
            with pickle.loads(pickle.dumps(db)) as other:
                assert ["sim"] == other.get_simulation_ids()

    def test_a_closed_database_says_so(self, tmp_path: Path) -> None:
        """Closing twice is no error; using it is."""
        db = ExperimentDatabase(tmp_path / "lab.db", "exp")
        db.close()
        db.close()
        with pytest.raises(SpecError, match="is closed: open it again"):
            db.get_simulation_ids()

    def test_code_moves_to_a_central_database_by_its_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same lines write a database of their own, or into a central one."""
        monkeypatch.chdir(tmp_path)

        def run() -> None:
            db = create_database("run_1.db", parameters={"seed": 1})
            db.logger.log_step(step_number=0, metrics={"total_agents": 1})
            db.close()

        run()
        monkeypatch.setenv("USE_EXPERIMENT_DB", "1")
        with pytest.raises(SpecError, match="EXPERIMENT_ID is not"):
            run()
        monkeypatch.setenv("EXPERIMENT_ID", "central")
        run()
        for path, experiment in (("run_1.db", "run_1"), ("experiments/central.db", "central")):
            with ExperimentDatabase(path, experiment) as db:
                assert ["run_1"] == db.get_simulation_ids()
                assert 1 == db.simulations().loc["run_1", "parameters.seed"]
                assert 1 == len(db.rows("simulation_steps"))

    def test_a_database_of_one_simulation_has_the_same_interface(self, tmp_path: Path) -> None:
        """What a context has, it has."""
        db = SimulationDatabase(tmp_path / "simulation_7.db")
        db.logger.log_step(0, [("a",)], metrics={"total_agents": 1})
        db.flush_all_buffers()
        with db.Session() as session:
            assert 1 == session.query(AgentStateModel).count()
        assert "simulation_7" == db.simulation_id
        db.close()

    def test_queries_while_a_simulation_logs(self, place: str) -> None:
        """An open session does not hinder a flush, nor one in memory."""
        for where in (place, ":memory:"):
            with ExperimentDatabase(where, "exp") as db:
                context = db.create_simulation_context("sim")
                context.log_metric("loss", 1.0)
                context.flush_all_buffers()
                with db.Session() as session:
                    assert 1 == len(session.execute(select(db.table("metrics"))).all())
                    context.log_metric("loss", 2.0, 1)
                    context.flush_all_buffers()
                assert 2 == len(db.rows("metrics"))
