"""Document 001's snippets run as pasted, but for their import lines."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import IndexBackend, RunRecord, Store

QUICK_START = """
from chunk_memo import Store

store = Store("./results", "./runs.json")

# Define a runner: receives (params, result_path), writes results to result_path
def my_simulation(params, result_path):
    import numpy as np
    data = np.random.randn(params["n"], params["steps"])
    np.save(result_path, data)

# Run or retrieve from cache
record = store.run_or_retrieve(
    params={"n": 100, "steps": 5000, "dt": 0.01},
    runner=my_simulation,
)
print(record.result_path)   # ./results/1769854174.763568_a3f8c1d2e4b6f7a8.npy
print(record.params)         # {"n": 100, "steps": 5000, "dt": 0.01}
print(record.metadata)       # {"elapsed_seconds": 0.042}

# Second call with same params → instant cache hit, no re-run
first = record
record = store.run_or_retrieve(
    params={"n": 100, "steps": 5000, "dt": 0.01},
    runner=my_simulation,
)
"""
"""With one line added, ``first = record``, so that the two can be compared."""

CORE = """
store = Store(
    results_dir="./results",     # where result files live
    db_path="./entropic.json",   # TinyDB metadata index
    file_suffix=".h5",           # extension for auto-generated filenames
    index=None,                  # custom IndexBackend (default: TinyDB)
)

record = store.run_or_retrieve(
    params={"n": 50, "method": "rk4"},
    runner=my_sim,
    git_sha="abc123",  # optional metadata
)

store.register(
    params={"n": 50, "method": "euler"},
    result_path="./results/my_external_run.h5",
)

all_runs = store.list()
rk4_runs = store.list(where={"method": "rk4"})
specific = store.list(where={"method": "rk4", "n": 50})

record.params        # dict — the simulation parameters
record.result_path   # Path — path to the result file
record.params_hash   # str — 16-char hex hash of params
record.created_at    # str — ISO 8601 timestamp
record.metadata      # dict — user-defined extras (elapsed_seconds auto-added)
"""

BACK_END = """
from chunk_memo import IndexBackend
from chunk_memo import RunRecord

class PostgresIndex:
    def find_by_hash(self, params_hash: str) -> RunRecord | None: ...
    def find_by_params(self, params: dict) -> list[RunRecord]: ...
    def insert(self, record: RunRecord) -> None: ...
    def all(self) -> list[RunRecord]: ...
    def delete_by_hash(self, params_hash: str) -> bool: ...
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each snippet in an empty folder."""
    monkeypatch.chdir(tmp_path)


def pasted(snippet: str, **names: Any) -> dict[str, Any]:
    """Run a snippet; return its names."""
    space: dict[str, Any] = {"__name__": "pasted", **names}
    exec(textwrap.dedent(snippet), space)
    return space


def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The quick start runs, its file is where the record says, and the second call runs nothing."""
    space = pasted(QUICK_START)
    record = space["record"]
    assert space["first"] == record
    assert (100, 5000) == np.load(record.result_path).shape
    path, params, metadata = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*/results/\d+\.\d{6}_[0-9a-f]{16}\.npy", path)
    assert "{'n': 100, 'steps': 5000, 'dt': 0.01}" == params
    assert metadata.startswith("{'elapsed_seconds': 0.")
    assert [record.result_path.name] == [path.name for path in Path("results").iterdir()]


def test_core() -> None:
    """Each call of the core's section does what its text says."""

    def my_sim(params: dict[str, Any], result_path: Path) -> None:
        result_path.write_text(params["method"])

    Path("results").mkdir()
    Path("results/my_external_run.h5").write_text("made elsewhere")
    space = pasted(CORE, Store=Store, my_sim=my_sim)
    record = space["record"]
    assert "abc123" == record.metadata["git_sha"]
    assert ["rk4", "euler"] == [run.params["method"] for run in space["all_runs"]]
    assert [record] == space["rk4_runs"] == space["specific"]
    assert (".h5", "rk4") == (record.result_path.suffix, record.result_path.read_text())


def test_a_back_end_of_ones_own() -> None:
    """The class as it is pasted is an IndexBackend; with bodies for its five methods a store works with it."""
    bare = pasted(BACK_END)["PostgresIndex"]
    assert isinstance(bare(), IndexBackend)

    class Filled(bare):  # type: ignore[misc, valid-type]
        def __init__(self, conn_string: str) -> None:
            self.records: list[RunRecord] = []

        def find_by_hash(self, params_hash: str) -> RunRecord | None:
            return next((each for each in self.records if each.params_hash == params_hash), None)

        def find_by_params(self, params: dict[str, Any]) -> list[RunRecord]:
            return [each for each in self.records if params.items() <= each.params.items()]

        def insert(self, record: RunRecord) -> None:
            self.records.append(record)

    calls = []

    def runner(params: dict[str, Any], result_path: Path) -> None:
        calls.append(params["n"])
        result_path.write_text("done")

    store = pasted(
        'store = Store("./results", index=PostgresIndex(conn_string="..."))', Store=Store, PostgresIndex=Filled
    )
    records = [store["store"].run_or_retrieve({"n": n}, runner) for n in (1, 2, 1)]
    assert ([1, 2], records[0]) == (calls, records[2])


def test_runner_contract() -> None:
    """A runner is any callable of that signature, and gets a dict and a Path."""
    seen = []

    def runner(params: dict[str, Any], result_path: Path) -> None:
        seen.append((type(params), isinstance(result_path, Path), result_path.parent.is_dir()))
        result_path.write_bytes(b"")

    assert 0 == Store().run_or_retrieve({}, runner).result_path.stat().st_size
    assert [(dict, True, True)] == seen
