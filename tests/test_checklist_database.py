"""Document 003, line by line: each item of the checklist from 100 to 126 has its test, named so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import inspect, select

from chunk_memo.cli import main
from chunk_memo.errors import CollisionError, SpecError, StoreError
from chunk_memo.lab import (
    AgentModel,
    AgentStateModel,
    ExperimentDatabase,
    ExperimentModel,
    InMemorySimulationDatabase,
    SimulationModel,
    SimulationStepModel,
    create_database,
)

AGENTS = [{"agent_id": "agent_0", "position_x": 1.0}, {"agent_id": "agent_1", "position_x": 2.0}]
RESOURCES = [{"resource_id": 0, "amount": 5.0}]
METRICS = {"total_agents": 2, "total_resources": 5.0}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document's paths are relative."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def db() -> Any:
    """Return an open database."""
    with ExperimentDatabase("experiments/my_experiment.db", "exp_001") as opened:
        yield opened


def logged(db: ExperimentDatabase, simulation_id: str, steps: int = 2, **parameters: Any) -> None:
    """Log a simulation in the document's way."""
    context = db.create_simulation_context(simulation_id=simulation_id, parameters=parameters)
    for step in range(steps):
        metrics = METRICS | {"total_agents": step}
        context.logger.log_step(step_number=step, agent_states=AGENTS, resource_states=RESOURCES, metrics=metrics)
    context.flush_all_buffers()


def test_100_many_simulations_in_one_file(db: ExperimentDatabase) -> None:
    """The document's first example, as pasted."""
    experiment_db, agent_states, resource_states, metrics = db, AGENTS, RESOURCES, METRICS
    for i in range(10):
        sim_id = f"sim_{i:03d}"
        sim_context = experiment_db.create_simulation_context(
            simulation_id=sim_id, parameters={"run": i, "seed": i * 100}
        )
        sim_context.logger.log_step(
            step_number=0, agent_states=agent_states, resource_states=resource_states, metrics=metrics
        )
        sim_context.flush_all_buffers()
        experiment_db.update_simulation_status(
            simulation_id=sim_id, status="completed", results_summary={"final_agents": 100}
        )
    experiment_db.close()
    with sqlite3.connect("experiments/my_experiment.db") as connection:
        assert (10,) == connection.execute(
            "SELECT count(*) FROM simulations WHERE status = 'completed'"
        ).fetchone()
        assert (20,) == connection.execute("SELECT count(*) FROM agent_states").fetchone()
    connection.close()


def test_101_every_data_row_carries_its_simulation(db: ExperimentDatabase) -> None:
    """Each data table has the column; equal ids of agents in two simulations are two agents."""
    for name in ("sim_0", "sim_1"):
        db.create_simulation_context(name).log_agent("agent_0", agent_type=name)
    db.flush_all_buffers()
    for table in db.table_names():
        assert "simulation_id" in db.table(table).columns
    with db.Session() as session:
        kinds = session.scalars(select(AgentModel.agent_type).order_by(AgentModel.simulation_id)).all()
    assert ["sim_0", "sim_1"] == kinds


def test_102_a_context_is_made_with_and_without_parameters(db: ExperimentDatabase) -> None:
    """Parameters may be left out, and given later."""
    db.create_simulation_context("sim")
    db.create_simulation_context("sim", {"a": 1})
    assert 1 == db.simulations().loc["sim", "parameters.a"]


def test_103_a_step_is_logged(db: ExperimentDatabase) -> None:
    """Agents, resources and metrics of one step."""
    logged(db, "sim", steps=1)
    counts = {name: len(db.rows(name)) for name in ("simulation_steps", "agent_states", "resource_states")}
    assert {"simulation_steps": 1, "agent_states": 2, "resource_states": 1} == counts


def test_104_a_failed_flush_can_be_repeated() -> None:
    """Rows wait until the database takes them."""
    with ExperimentDatabase("lab.db", "exp", {"db_busy_timeout": 0.01}) as db:
        context = db.create_simulation_context("sim")
        context.log_step(0, AGENTS, RESOURCES, METRICS)
        holder = sqlite3.connect("lab.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="kept"):
            context.flush_all_buffers()
        holder.execute("ROLLBACK")
        holder.close()
        assert 4 == context.flush_all_buffers()


def test_105_a_simulation_has_a_status_and_a_summary(db: ExperimentDatabase) -> None:
    """Both are stored; an update without a summary leaves it."""
    logged(db, "sim")
    db.update_simulation_status("sim", "running", {"half": 1})
    db.update_simulation_status("sim", "completed")
    row = db.simulations().loc["sim"]
    assert ("completed", 1) == (row["status"], row["results.half"])


def test_106_an_experiment_has_a_status_and_a_summary(db: ExperimentDatabase) -> None:
    """Both are stored."""
    db.update_experiment_status(status="completed", results_summary={"total_simulations": 10})
    with db.Session() as session:
        found = session.get(ExperimentModel, "exp_001")
    assert found is not None
    assert ("completed", {"total_simulations": 10}) == (found.status, found.results_summary)


def test_107_simulation_ids_are_listed(db: ExperimentDatabase) -> None:
    """In the order in which they were begun."""
    for name in ("b", "a", "c"):
        db.create_simulation_context(name)
    assert ["b", "a", "c"] == db.get_simulation_ids()


def test_108_closing_flushes_first() -> None:
    """What waits is written by close."""
    db = ExperimentDatabase("lab.db", "exp")
    db.create_simulation_context("sim").log_step(0, AGENTS, RESOURCES, METRICS)
    db.close()
    with ExperimentDatabase("lab.db", "exp") as again:
        assert 2 == len(again.rows("agent_states"))


def test_109_a_context_stands_for_a_database_of_its_own(db: ExperimentDatabase) -> None:
    """A runner that takes a database works with a context: logger, sessions, flush, close."""

    def run(own: Any) -> int:
        own.logger.log_step(0, AGENTS, RESOURCES, METRICS)
        own.flush_all_buffers()
        with own.Session() as session:
            count: int = session.query(AgentStateModel).count()
        own.close()
        return count

    assert 2 == run(db.create_simulation_context("sim"))
    assert 2 == run(create_database("own.db"))


def test_110_the_experiments_record_has_its_columns(db: ExperimentDatabase) -> None:
    """As the document lists them."""
    columns = {column["name"] for column in inspect(db.engine).get_columns("experiments")}
    assert {"experiment_id", "name", "description", "creation_date", "status", "results_summary"} <= columns


def test_111_the_simulations_record_has_its_columns(db: ExperimentDatabase) -> None:
    """As the document lists them."""
    columns = {column["name"] for column in inspect(db.engine).get_columns("simulations")}
    listed = {"simulation_id", "experiment_id", "start_time", "end_time", "status", "parameters"}
    assert listed | {"results_summary", "simulation_db_path"} <= columns


@pytest.mark.parametrize(("status", "ended"), [("pending", 0), ("running", 0), ("completed", 1), ("failed", 1)])
def test_112_statuses_and_their_ends(db: ExperimentDatabase, status: str, ended: int) -> None:
    """The time of the end is set for both ends, and taken back when a simulation goes on."""
    db.create_simulation_context("sim")
    db.update_simulation_status("sim", status)
    with db.Session() as session:
        found = session.get(SimulationModel, "sim")
        assert found is not None
        assert (status, ended) == (found.status, found.end_time is not None)
    db.create_simulation_context("sim")
    with db.Session() as session:
        found = session.get(SimulationModel, "sim")
        assert found is not None
        assert found.end_time is None


def test_113_one_simulation_is_queried_by_a_session(db: ExperimentDatabase) -> None:
    """The document's query, as pasted."""
    experiment_db = db
    logged(db, "sim_001")
    logged(db, "sim_002")
    session = experiment_db.Session()
    states = session.query(AgentStateModel).filter(AgentStateModel.simulation_id == "sim_001").all()
    session.close()
    assert [("sim_001", 0), ("sim_001", 0), ("sim_001", 1), ("sim_001", 1)] == [
        (state.simulation_id, state.step_number) for state in states
    ]


def test_114_last_values_are_compared_as_a_table(db: ExperimentDatabase) -> None:
    """The document's comparison, as pasted, and the same in one line."""
    import pandas as pd

    experiment_db = db
    for steps, name in enumerate(("one", "two"), start=2):
        logged(db, name, steps=steps)
    session = experiment_db.Session()
    results = []
    for sim_id in experiment_db.get_simulation_ids():
        final_step = (
            session.query(SimulationStepModel)
            .filter(SimulationStepModel.simulation_id == sim_id)
            .order_by(SimulationStepModel.step_number.desc())
            .first()
        )
        if final_step:
            results.append(
                {
                    "simulation_id": sim_id,
                    "final_population": final_step.total_agents,
                    "final_resources": final_step.total_resources,
                }
            )
    df = pd.DataFrame(results)
    session.close()
    assert [1, 2] == df["final_population"].tolist()
    assert 2.0 == df.describe().loc["count", "final_resources"]
    assert [1, 2] == db.compare_simulations("total_agents", last=True)["total_agents"].tolist()


def test_115_filtering_by_simulation_uses_an_index(db: ExperimentDatabase) -> None:
    """No table of data is scanned as a whole for the rows of one simulation."""
    for name in db.table_names():
        table = db.table(name)
        plan = " ".join(db.explain(select(table).where(table.c.simulation_id == "sim")))
        assert "SEARCH" in plan
        assert "SCAN" not in plan


def test_116_the_batch_example_continues_one_experiment() -> None:
    """The document's batch of twelve, as pasted but for the simulation's code."""

    def run_single_simulation(args: tuple[str, str, str, dict[str, Any]]) -> None:
        experiment_db_path, experiment_id, sim_id, params = args
        experiment_db = ExperimentDatabase(db_path=experiment_db_path, experiment_id=experiment_id)
        sim_context = experiment_db.create_simulation_context(simulation_id=sim_id, parameters=params)
        sim_context.logger.log_step(0, AGENTS, RESOURCES, METRICS)
        sim_context.flush_all_buffers()
        experiment_db.update_simulation_status(sim_id, "completed")
        experiment_db.close()

    experiment_id = "param_sweep_001"
    db_path = f"experiments/{experiment_id}.db"
    tasks = []
    for i, learning_rate in enumerate([0.01, 0.1, 0.5, 1.0]):
        for j, population in enumerate([10, 50, 100]):
            sim_id = f"sim_lr{i}_pop{j}"
            params = {"learning_rate": learning_rate, "population": population}
            tasks.append((db_path, experiment_id, sim_id, params))
    for task in tasks:
        run_single_simulation(task)
    with ExperimentDatabase(db_path, experiment_id) as db:
        assert 12 == len(db.get_simulation_ids("completed"))
        assert {0.01, 0.1, 0.5, 1.0} == set(db.simulations()["parameters.learning_rate"])


def test_117_two_connections_write_one_file(db: ExperimentDatabase) -> None:
    """Two open databases on one file lose nothing; whole processes do so in test_lab_database.py."""
    with ExperimentDatabase("experiments/my_experiment.db", "exp_001") as other:
        contexts = [db.create_simulation_context("one"), other.create_simulation_context("two")]
        for step in range(20):
            for context in contexts:
                context.log_step(step, AGENTS)
                context.flush_all_buffers()
        assert 80 == len(db.rows("agent_states"))


def test_118_databases_of_workers_are_merged(db: ExperimentDatabase) -> None:
    """By a method and by the command line."""
    for worker in range(2):
        with ExperimentDatabase(f"worker_{worker}.db", "exp_001") as own:
            logged(own, f"sim_{worker}")
    db.merge("worker_0.db")
    done = CliRunner().invoke(main, ["experiments", "merge", "experiments/my_experiment.db", "worker_1.db"])
    assert (0, "worker_1.db: 1 simulations copied (8 rows), 0 there already\n") == (done.exit_code, done.output)
    assert ["sim_0", "sim_1"] == sorted(db.get_simulation_ids())


def test_119_a_database_in_memory_is_persisted() -> None:
    """The document's example, as pasted, twice into one file."""
    config = None
    for sim_id in ("sim_a", "sim_b"):
        in_memory_db = InMemorySimulationDatabase(memory_limit_mb=1000, config=config, simulation_id=sim_id)
        in_memory_db.logger.log_step(0, AGENTS, RESOURCES, METRICS)
        stats = in_memory_db.persist_to_disk(db_path="experiments/exp_001.db")
        assert (4, 3) == (stats["rows_copied"], stats["tables_copied"])
        in_memory_db.close()
    with ExperimentDatabase("experiments/exp_001.db", "exp_001") as db:
        assert ["sim_a", "sim_b"] == sorted(db.get_simulation_ids())


def test_120_storage_is_set_by_the_configuration() -> None:
    """Journal, cache and timeout come from the user's configuration."""
    config = {"db_journal_mode": "DELETE", "db_cache_size_mb": 1, "db_busy_timeout": 2, "learning_rate": 0.1}
    with ExperimentDatabase("lab.db", "exp", config) as db, db.engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {each}").scalar()
            for each in ("journal_mode", "cache_size", "busy_timeout")
        ]
    assert ["delete", -1000, 2000] == found


def test_121_code_moves_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment sends the same lines to a central database."""
    monkeypatch.setenv("USE_EXPERIMENT_DB", "1")
    monkeypatch.setenv("EXPERIMENT_ID", "exp_001")
    monkeypatch.setenv("EXPERIMENT_DB_PATH", "experiments/my_experiment.db")
    for run_id in range(3):
        db = create_database(f"simulation_{run_id}.db")
        db.logger.log_step(0, AGENTS, RESOURCES, METRICS)
        db.close()
    assert [] == list(Path().glob("simulation_*.db"))
    with ExperimentDatabase("experiments/my_experiment.db", "exp_001") as central:
        assert ["simulation_0", "simulation_1", "simulation_2"] == central.get_simulation_ids()


def test_122_parameters_and_summaries_are_read_without_their_rows(db: ExperimentDatabase) -> None:
    """One query on the simulations' record gives both."""
    logged(db, "sim", steps=1, learning_rate=0.1)
    db.update_simulation_status("sim", "completed", {"final_agents": 3})
    row = db.simulations().loc["sim"]
    assert (0.1, 3) == (row["parameters.learning_rate"], row["results.final_agents"])


def test_123_a_clash_of_ids_is_reported(db: ExperimentDatabase) -> None:
    """Another run under an id that is taken is an error, in this experiment and in another."""
    db.create_simulation_context("sim", {"seed": 1})
    with pytest.raises(CollisionError, match="other parameters"):
        db.create_simulation_context("sim", {"seed": 2})
    with (
        ExperimentDatabase("experiments/my_experiment.db", "exp_002") as other,
        pytest.raises(CollisionError, match='belongs to the experiment "exp_001"'),
    ):
        other.create_simulation_context("sim")


def test_124_a_simulation_is_exported_and_removed(db: ExperimentDatabase) -> None:
    """Files first, then the rows go."""
    logged(db, "sim_old")
    for format in ("csv", "json"):
        names = {path.name for path in db.export_simulation("sim_old", f"backup_{format}", format)}
        tables = {f"{name}.{format}" for name in ("simulation_steps", "agent_states", "resource_states")}
        assert tables | {"simulation.json"} == names
    assert 8 == db.remove_simulation("sim_old")
    assert [] == db.get_simulation_ids()


def test_125_size_compaction_and_plans(db: ExperimentDatabase) -> None:
    """A database tells its size, gives room back, and says how it would find rows."""
    logged(db, "big", steps=2000)
    logged(db, "small", steps=1)
    db.remove_simulation("big")
    before, after = db.vacuum()
    assert after < before
    assert after == db.size()
    assert db.explain(select(SimulationStepModel.total_agents))


def test_126_the_complete_runner_works(run_program: Callable[[Path], str]) -> None:
    """The document's last example, as pasted but for its imports and the simulation's code."""
    code = """
from datetime import datetime
import os

from chunk_memo.lab import ExperimentDatabase


class SimulationConfig:
    seed = 42

    @classmethod
    def from_centralized_config(cls):
        return cls()


def main():
    experiment_id = f"exp_{datetime.now().strftime('%Y%m%d_%H%M%S')}"
    db_path = f"experiments/{experiment_id}.db"
    os.makedirs("experiments", exist_ok=True)
    config = SimulationConfig.from_centralized_config()
    experiment_db = ExperimentDatabase(
        db_path=db_path,
        experiment_id=experiment_id,
        config=config
    )
    n_simulations = 10
    for i in range(n_simulations):
        print(f"Running simulation {i+1}/{n_simulations}")
        sim_id = f"sim_{i:03d}"
        sim_context = experiment_db.create_simulation_context(
            simulation_id=sim_id,
            parameters={"run_number": i, "seed": i * 100}
        )
        for step in range(5):
            sim_context.logger.log_step(step, [("agent_0", float(step))], [], {"total_agents": 1})
        sim_context.flush_all_buffers()
        experiment_db.update_simulation_status(
            simulation_id=sim_id,
            status="completed",
            results_summary={"steps": 1000}
        )
    experiment_db.update_experiment_status(
        status="completed",
        results_summary={"total_simulations": n_simulations}
    )
    experiment_db.close()
    print(f"\\nExperiment complete! Database: {db_path}")


if __name__ == "__main__":
    main()
"""
    program = Path("runner.py")
    program.write_text(code)
    printed = run_program(program.absolute())
    path = printed.rpartition("Database: ")[2].strip()
    assert "Running simulation 10/10" in printed
    found = next(each for each in Path.cwd().rglob("*.db") if each.name == Path(path).name)
    done = CliRunner().invoke(main, ["experiments", "ls", str(found), "--json"])
    (row,) = json.loads(done.output)
    assert (10, "completed") == (row["completed"], row["status"])


def test_the_command_line_shows_compares_and_exports(db: ExperimentDatabase) -> None:
    """Each command as text and as JSON; wrong words end with their codes."""
    for number, name in enumerate(("one", "two")):
        logged(db, name, steps=2, seed=number)
        db.update_simulation_status(name, "completed", {"final_agents": number})
    path = "experiments/my_experiment.db"

    def invoked(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["experiments", *words])
        assert code == done.exit_code, done.output
        return done.output

    assert "exp_001" in invoked("ls", path)
    shown = invoked("show", path)
    assert "seed=1" in shown
    assert "final_agents=1" in shown
    (first, second) = json.loads(invoked("show", path, "--json"))["simulations"]
    assert ({"parameters.seed": 0}, 1) == (
        {"parameters.seed": first["parameters.seed"]},
        second["parameters.seed"],
    )
    assert [{"step_number": 0, "one": 0, "two": 0}, {"step_number": 1, "one": 1, "two": 1}] == json.loads(
        invoked("compare", path, "total_agents", "--json")
    )
    invoked("compare", path, "total_agents", "--last", "--save-results", "results.json")
    saved = json.loads(Path("results.json").read_text())
    assert ["one", "two"] == [row["simulation_id"] for row in saved["results"]]
    assert "4 files" in invoked("export", path, "out", "--simulation", "one")
    assert Path("out/one/agent_states.csv").is_file()
    assert "has no simulation 'x'" in invoked("export", path, "out", "--simulation", "x", code=1)
    assert "there are total_agents" in invoked("compare", path, "nothing", code=1)
    assert "is no file" in invoked("ls", "nothing.db", code=2)
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    assert "is no experiment database" in invoked("ls", "other.db", code=1)
    ExperimentDatabase(path, "exp_002").close()
    assert "give one of exp_001, exp_002" in invoked("show", path, code=2)
    assert "exp_002: 0 simulations" in invoked("show", path, "--experiment", "exp_002")


def test_names_that_mean_harm_do_none(db: ExperimentDatabase) -> None:
    """Ids and names are values, whatever they look like; files stay in their folder."""
    evil = "x'; DROP TABLE simulations; --"
    for name in (evil, "../../up", "a/b", "<script>", "%s", "."):
        with db.create_simulation_context(name, {name: name}) as context:
            context.log_step(0, [{"agent_id": name, name: name}], None, {name: 1.0})
            context.log_metric(name, 1.0)
        made = db.export_simulation(name, "out")
        assert {Path("out").resolve()} == {path.resolve().parent.parent for path in made}
        assert 1 == len(db.compare_simulations(name))
    assert 6 == len(db.get_simulation_ids())
    with pytest.raises(SpecError):
        db.define_table(evil, a=int)


def test_moments_are_utc_and_say_so(db: ExperimentDatabase) -> None:
    """Stored text carries its offset, and what is read is aware."""
    before = datetime.now(UTC)
    logged(db, "sim", steps=1)
    assert before <= db.simulations().loc["sim", "start_time"] <= datetime.now(UTC)
    with sqlite3.connect("experiments/my_experiment.db") as connection:
        (text,) = connection.execute("SELECT start_time FROM simulations").fetchone()
    connection.close()
    assert text.endswith("+00:00")
