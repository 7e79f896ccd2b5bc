"""Ten simulations in parallel workers, recorded in one database, and compared.

Each simulation lets grazers roam a meadow that grows back: how many can it feed? The workers log to one SQLite
file at once; afterwards their herds are compared side by side. Run it again, and what was recorded is compared
without being simulated again.
"""

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chunk_memo.lab import ExperimentDatabase

HERE = Path(__file__).parent / ".chunk_memo" / "central_database"
DATABASE = HERE / "grazing.db"
STEPS = 60
SIZE = 24


@dataclass
class Cow:
    """A grazer: where it is, what it lives on, and how long it has lived."""

    name: str
    x: int
    y: int
    energy: float
    age: int = 0


def simulate(task):
    """Run one simulation, and log every step of it."""
    simulation_id, parameters = task
    rng = np.random.default_rng(parameters["seed"])
    meadow = np.full((SIZE, SIZE), 0.5)
    herd = [
        Cow(f"cow_{i}", int(rng.integers(SIZE)), int(rng.integers(SIZE)), 2.0)
        for i in range(parameters["grazers"])
    ]
    born = len(herd)

    db = ExperimentDatabase(DATABASE, "grazing")
    with db, db.create_simulation_context(simulation_id, parameters) as context:
        for step in range(STEPS):
            meadow += parameters["growth"] * meadow * (1 - meadow)
            eaten, births = 0.0, 0
            for cow in list(herd):
                cow.x = (cow.x + int(rng.integers(-1, 2))) % SIZE
                cow.y = (cow.y + int(rng.integers(-1, 2))) % SIZE
                bite = 0.8 * float(meadow[cow.x, cow.y])
                meadow[cow.x, cow.y] -= bite
                eaten += bite
                cow.energy += bite - 0.3
                cow.age += 1
                if cow.energy > 3.0:
                    cow.energy -= 1.5
                    herd.append(Cow(f"cow_{born}", cow.x, cow.y, 1.0))
                    context.log_reproduction_event(step, cow.name, f"cow_{born}")
                    born, births = born + 1, births + 1
            before = len(herd)
            herd = [cow for cow in herd if cow.energy > 0]
            context.log_step(
                step_number=step,
                agent_states=[
                    {
                        "agent_id": cow.name,
                        "position_x": cow.x,
                        "position_y": cow.y,
                        "resource_level": cow.energy,
                        "age": cow.age,
                    }
                    for cow in herd
                ],
                metrics={
                    "total_agents": len(herd),
                    "total_resources": meadow.sum(),
                    "births": births,
                    "deaths": before - len(herd),
                    "grass_per_cow": eaten / max(1, before),
                },
            )
        context.update_status("completed", {"final_herd": len(herd), "final_grass": meadow.mean()})
    return simulation_id


def main():
    """Run what is missing, then compare."""
    HERE.mkdir(parents=True, exist_ok=True)
    tasks = [
        (f"growth_{growth:.2f}_herd_{grazers}", {"growth": growth, "grazers": grazers, "seed": 7})
        for growth in (0.02, 0.05, 0.1, 0.2, 0.4)
        for grazers in (10, 60)
    ]
    with ExperimentDatabase(DATABASE, "grazing", description="how large a herd a meadow feeds") as db:
        done = set(db.get_simulation_ids("completed"))
    missing = [task for task in tasks if task[0] not in done]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for simulation_id in pool.imap_unordered(simulate, missing):
            print(f"recorded {simulation_id}")
    print(f"{len(missing)} simulations run, {len(done)} were recorded before")

    with ExperimentDatabase(DATABASE, "grazing") as db:
        herds = db.compare_simulations("total_agents")
        print(f"\nsize of the herds, every 15 steps:\n{herds.iloc[14::15].T.to_string()}")
        table = db.simulations()
        columns = ["parameters.growth", "parameters.grazers", "results.final_herd", "results.final_grass"]
        print(f"\n{table.sort_values(columns[:2])[columns].round(3).to_string(index=False)}")
        best = table["results.final_herd"].astype(float).idxmax()
        exported = db.export_simulation(best, HERE / "export")
        print(f"\nlargest herd: {best}; exported to {len(exported)} files, {db.size() // 1000:,} kB in all")


if __name__ == "__main__":
    main()
