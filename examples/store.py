"""Foxes and rabbits: run a simulation for each set of parameters once, find the runs again, compare them.

The Lotka-Volterra model has rabbits x that breed and are eaten, and foxes y that eat and die:

    dx/dt = alpha x - beta x y        dy/dt = delta x y - gamma y

Each run is integrated by the classical Runge-Kutta method, or by Euler's, and written by `np.save`. Along a
true solution V = delta x - gamma ln x + beta y - alpha ln y stays what it is, so its drift says how good a run
is. Run it twice if you like: it clears its own results first.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from chunk_memo import Store

HERE = Path(__file__).parent / ".store"

BASE = {"alpha": 1.1, "beta": 0.4, "delta": 0.1, "gamma": 0.4, "start": [10.0, 10.0], "days": 60.0}


def simulate(params, result_path):
    """Integrate the model; write one row of (day, rabbits, foxes) for each step."""
    alpha, beta, delta, gamma = (params[name] for name in ("alpha", "beta", "delta", "gamma"))
    h, method = params["solver"]["step"], params["solver"]["method"]

    def slope(state):
        x, y = state
        return np.array([alpha * x - beta * x * y, delta * x * y - gamma * y])

    steps = round(params["days"] / h)
    rows = np.empty((steps + 1, 3))
    rows[:, 0] = h * np.arange(steps + 1)
    state = rows[0, 1:] = np.array(params["start"])
    for step in range(steps):
        k1 = slope(state)
        if method == "euler":
            state = state + h * k1
        else:
            k2 = slope(state + h / 2 * k1)
            k3 = slope(state + h / 2 * k2)
            k4 = slope(state + h * k3)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        rows[step + 1, 1:] = state
    np.save(result_path, rows)


def drift(run):
    """Return by how much the conserved quantity went astray, relative to its start."""
    p = run.params
    _, x, y = np.load(run.result_path).T
    v = p["delta"] * x - p["gamma"] * np.log(x) + p["beta"] * y - p["alpha"] * np.log(y)
    return float(abs(v[-1] / v[0] - 1))


def wanted():
    """Yield the parameters of all runs: two methods, three steps, three appetites."""
    for method in ("euler", "rk4"):
        for step in (0.1, 0.05, 0.025):
            for beta in (0.3, 0.4, 0.5):
                yield {**BASE, "beta": beta, "solver": {"method": method, "step": step}}


def ask(store, what):
    """Run or retrieve all runs in two processes, and say how many there were and how many are new."""
    before, start = len(store.list()), time.perf_counter()
    runs = list(store.sweep(wanted(), simulate, map_fn="processes", map_fn_kwargs={"workers": 2}))
    took, new = (time.perf_counter() - start) * 1e3, len(store.list()) - before
    print(f"{what:<14} {len(runs)} runs, {new:>2} of them new   {took:6.0f} ms", flush=True)


def main():
    """Run, run again, filter, compare, and add a run that was made elsewhere."""
    shutil.rmtree(HERE, ignore_errors=True)
    store = Store(HERE / "results", HERE / "runs.db")

    ask(store, "first sweep")
    ask(store, "same sweep")

    fine = store.list([("solver.method", "==", "rk4"), ("solver.step", "<", 0.1)])
    print(f"\nrk4 with steps below 0.1: {len(fine)} runs, which differ in {fine.differing}")

    print("\ndrift of the conserved quantity, beta = 0.4")
    print("step      Euler        RK4")
    for step in (0.1, 0.05, 0.025):
        row = []
        for method in ("euler", "rk4"):
            [run] = store.list({"beta": 0.4, "solver": {"method": method, "step": step}})
            row.append(drift(run))
        print(f"{step:<6}  {row[0]:.1e}    {row[1]:.1e}")

    best = [params for params in wanted() if params["solver"] == {"method": "rk4", "step": 0.025}]
    worst = max(store.map(drift, best, simulate))
    print(f"\nworst drift of the best runs, over all beta: {worst:.1e}")

    params = {**BASE, "solver": {"method": "symplectic", "step": 0.1}}
    elsewhere = HERE / "elsewhere.npy"
    np.save(elsewhere, np.ones((2, 3)))
    store.register(params, elsewhere, made_by="another program")
    registered = store.run_or_retrieve(params, simulate)
    print("registered, and found:", registered.metadata["made_by"])

    first = store.run_or_retrieve(next(wanted()), simulate)
    size = first.result_path.stat().st_size
    print(f"\na run's record: {first.result_path.suffix} file, {size:,} bytes, hash {first.params_hash}")
    print("kept with it:", ", ".join(name for name in sorted(first.metadata) if not name.startswith("git")))


if __name__ == "__main__":
    main()
