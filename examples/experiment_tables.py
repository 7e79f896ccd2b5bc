"""Runs of a small experiment as Parquet datasets: ids, rows, views, files, and a cache beside them.

A toy of unlearning is run for two settings and three seeds each. Every run leaves one row of seeds and a row for
each event; DuckDB looks at both, and at a chunk cache, which becomes the same kind of dataset.

Run it with ``python examples/experiment_tables.py``; it needs ``pip install "chunk-memo[tables]"``.
"""

import random
import shutil
from pathlib import Path

from chunk_memo import ChunkMemo
from chunk_memo.tables import (
    attach_grid_id,
    create_connection_and_views,
    grid_hash,
    query_events,
    query_seeds,
    write_event_rows,
    write_seed_rows,
)
from chunk_memo.tables.duckdb import connect

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "experiment_tables"
CACHES = HERE / "results" / "experiment_tables_caches"


def simulate(gamma, seed, events=40):
    """Return the events of one run: learning by inserts, and now and then a delete that costs regret."""
    rng = random.Random(f"{gamma} {seed}")
    regret, rows = 0.0, []
    for event in range(events):
        op = "delete" if event % 5 == 4 else "insert"
        regret += gamma * rng.random() * (2.0 if op == "delete" else 1.0) / (1 + event)
        rows.append({"event": event, "op": op, "regret": round(regret, 4), "acc": 1 - 0.5 / (1 + event)})
    return rows


def main():
    """Write, query and look at what lies on disk."""
    for folder in (RESULTS, CACHES):
        shutil.rmtree(folder, ignore_errors=True)

    print("--- ids")
    params = {"algo": "memorypair", "accountant": "zcdp", "gamma_bar": 1.0, "rho_total": 1.0}
    print("the id of the parameters:", grid_hash(params))
    print("the same for another seed and folder:", grid_hash({**params, "seed": 7, "out_dir": "elsewhere"}))
    print("another for another gamma:", grid_hash({**params, "gamma_bar": 0.5}))

    print("\n--- rows")
    for gamma in (1.0, 0.5):
        setting = attach_grid_id({**params, "gamma_bar": gamma})
        for seed in (1, 2, 3):
            events = [{**setting, "seed": seed, **row} for row in simulate(gamma, seed)]
            mean = sum(row["regret"] for row in events) / len(events)
            write_event_rows(events, RESULTS, setting)
            write_seed_rows([{**setting, "seed": seed, "avg_regret": mean}], RESULTS, setting)
            write_event_rows(events, RESULTS, setting)  # once more: nothing is added

    connection = create_connection_and_views(RESULTS)
    counts = [connection.execute(f"SELECT count(*) FROM {view}").fetchone()[0] for view in ("seeds", "events")]
    print(f"{counts[0]} seeds, {counts[1]} events")

    print("\n--- queries")
    best = query_seeds(connection, "avg_regret < 2", limit=3)
    print("runs with little regret:", len(best), "all of gamma", sorted(set(best["gamma_bar"])))
    deletes = query_events(connection, {"op": "delete", "gamma_bar": 1.0}, returns="arrow")
    print("deletes at gamma 1.0:", deletes.num_rows)
    print(
        connection.sql(
            "SELECT gamma_bar, seeds, round(avg_regret_mean, 3) AS regret FROM seeds_summary ORDER BY 1"
        )
    )

    print("--- files")
    for path in sorted(RESULTS.rglob("*"))[:400]:
        if path.name == "params.json" or ("seeds" in path.parts and path.suffix == ".parquet"):
            print(path.relative_to(RESULTS).parent)

    print("\n--- a cache, looked at in place and exported")
    memo = ChunkMemo(CACHES, {"gamma": 1, "seed": 3}, {"gamma": [0.5, 1.0], "seed": [1, 2, 3]}, verbose=0)

    @memo.cache()
    def regrets(events, gamma, seed):
        return [{"regret": simulate(g, s, events)[-1]["regret"]} for g in gamma for s in seed]

    regrets(events=40)
    tables = connect(CACHES)
    print(tables.sql("SELECT gamma, round(avg(regret), 3) AS regret FROM regrets GROUP BY gamma ORDER BY gamma"))
    print("export:", memo.to_parquet(RESULTS / "regrets", partition_by=["gamma"]))
    print("again: ", memo.to_parquet(RESULTS / "regrets", partition_by=["gamma"]))


if __name__ == "__main__":
    main()
