"""Fit an epidemic by a random search, kill it in the middle, and go on as if nothing had happened.

The data are those of `quickstart.py`: how many of 763 boys lay in bed with influenza on each of
fourteen days (British Medical Journal, 4 March 1978, p. 587). Simulated annealing looks for the
`beta` and `gamma` of the SIR model with the smallest squared error. Every step draws random
numbers, so a run that went on with another state of its generator would end elsewhere.

The experiment runs three times, in processes of its own: once to its end; once until it is killed
(SIGKILL, which no program can catch); and once more in the folder of the one that was killed. The
last one ends with the same bits as the first.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from chunk_memo.lab import analyze_logs, create_checkpoint_manager, create_experiment_logger
from chunk_memo.tables import export_all_formats, load_results_pickle

RESULTS = Path(__file__).parent / "results"

PUPILS = 763
IN_BED = [3, 8, 28, 75, 221, 291, 255, 235, 190, 125, 70, 28, 12, 5]  # 22 January to 4 February
STEPS_PER_DAY = 10
ITERATIONS = 1000
SEED = 1978
START = np.array([2.5, 0.6])  # beta and gamma per day


def misfit(beta, gamma):
    """Return the sum of squared differences between the model and the fourteen days, in boys squared."""
    s, i, error, h = 760.0, 3.0, 0.0, 1 / STEPS_PER_DAY

    def slope(s, i):
        caught = beta * s * i / PUPILS
        return -caught, caught - gamma * i

    for observed in IN_BED[1:]:
        for _ in range(STEPS_PER_DAY):  # the midpoint method
            ds, di = slope(s, i)
            ds, di = slope(s + h / 2 * ds, i + h / 2 * di)
            s, i = s + h * ds, i + h * di
        error += (i - observed) ** 2
    return error


def run_logged_experiment(experiment_name):
    """Run the experiment, or what is left of it."""
    output_dir = RESULTS / experiment_name
    checkpoints = create_checkpoint_manager(
        experiment_name, output_dir / "checkpoints", keep_last_n=3, save_frequency=50
    )
    with create_experiment_logger(experiment_name, output_dir / "logs", log_to_console=False) as logger:
        config = {"seed": SEED, "iterations": ITERATIONS, "start": START}
        logger.log_config(config)
        try:
            state = checkpoints.load_checkpoint()["state"]
            logger.info("Resuming from iteration %s", state["iteration"] + 1)
        except FileNotFoundError:
            loss, rng = misfit(*START), np.random.default_rng(SEED)
            state = {"iteration": 0, "theta": START, "loss": loss, "best": START, "best_loss": loss}
            state |= {"rng": rng, "results": []}
            logger.info("Starting new experiment")

        for iteration in range(state["iteration"] + 1, ITERATIONS + 1):
            anneal(state, iteration)
            if iteration % 100 == 0:
                logger.log_progress(iteration, ITERATIONS, {"loss": state["best_loss"]})
                state["results"].append({"iteration": iteration, "loss": state["loss"], "theta": state["theta"]})
            if checkpoints.should_save_checkpoint(iteration):
                logger.log_checkpoint(checkpoints.save_checkpoint(state, iteration))

        beta, gamma = state["best"]
        logger.log_result({"beta": beta, "gamma": gamma, "squared error": state["best_loss"]})
        export_all_formats(state["results"], output_dir, experiment_name, {**config, "best": state["best"]})


def anneal(state, iteration):
    """Make one step: a random move, taken if it is better, or with luck while it is still warm."""
    state["iteration"] = iteration
    rng, share = state["rng"], iteration / ITERATIONS
    moved = state["theta"] * np.exp(rng.normal(0, 0.1 * (1 - share) + 0.001, 2))
    loss = misfit(*moved)
    warmth = 1e4 * (1 - share) ** 3 + 1
    if loss < state["loss"] or rng.random() < math.exp((state["loss"] - loss) / warmth):
        state["theta"], state["loss"] = moved, loss
    if loss < state["best_loss"]:
        state["best"], state["best_loss"] = moved, loss


def start(experiment_name):
    """Start the experiment in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "--run", experiment_name])


def main():
    """Run it whole; run it, kill it, and run it again; compare."""
    shutil.rmtree(RESULTS, ignore_errors=True)

    assert start("whole").wait() == 0

    killed = start("killed")
    while not (RESULTS / "killed" / "checkpoints" / "killed_iter_000300.ckpt").exists():
        time.sleep(0.002)
    killed.kill()
    print(f"killed after iteration 300: the process ended with {killed.wait()}")

    assert start("killed").wait() == 0
    log = analyze_logs(RESULTS / "killed" / "logs" / "killed_structured.jsonl")
    print(f"run again: its log tells of {log['starts']} starts, and is {log['final_status']}")

    whole, resumed = (load_results_pickle(RESULTS / name / f"{name}.pkl") for name in ("whole", "killed"))
    pairs = zip(whole["results"], resumed["results"], strict=True)
    same = all(one["theta"].tobytes() == other["theta"].tobytes() for one, other in pairs)
    print(f"the same {len(whole['results'])} results, bit by bit: {same}")

    beta, gamma = resumed["metadata"]["best"]
    print(f"best fit: beta {beta:.2f} per day, gamma {gamma:.2f} per day")
    print("written:", *sorted(path.name for path in (RESULTS / "killed").iterdir() if path.is_file()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_logged_experiment(sys.argv[2])
    else:
        main()
