"""Checklist 33 to 53, document 001, one test or more for each line."""

from __future__ import annotations

import enum
import inspect
import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import DamageWarning, IndexBackend, MemoryIndex, RunRecord, SQLiteIndex, Store
from chunk_memo.runparams import canonical_json, params_hash, plain_params


class Counted:
    """A runner that writes its params and counts its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, params: dict[str, Any], result_path: Path) -> None:
        """Write the params as JSON."""
        self.calls.append(dict(params))
        result_path.write_text(json.dumps(params, default=str))


class Method(enum.Enum):
    """A param that is one of a few."""

    RK4 = "rk4"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store in an empty folder."""
    return Store(tmp_path / "results", tmp_path / "runs.db")


@pytest.fixture
def runner() -> Counted:
    """Return a runner that counts."""
    return Counted()


def test_33_the_documented_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Store()`` has the four arguments of the text with its defaults."""
    defaults = {name: each.default for name, each in inspect.signature(Store).parameters.items()}
    assert {
        "results_dir": "./results",
        "db_path": "./entropic.json",
        "file_suffix": ".h5",
        "index": None,
    } == defaults
    monkeypatch.chdir(tmp_path)
    store = Store()
    assert (tmp_path / "results", ".h5") == (store.results_dir, store.file_suffix)
    assert (tmp_path / "entropic.json").read_bytes().startswith(b"SQLite format 3")


def test_34_a_hit_returns_and_a_miss_runs(store: Store, runner: Counted) -> None:
    """A miss runs and is stored; a hit returns the same record, with metadata of the first call."""
    first = store.run_or_retrieve({"n": 1}, runner, note="first")
    again = store.run_or_retrieve({"n": 1}, runner, note="second")
    assert first == again
    assert ([{"n": 1}], "first") == (runner.calls, again.metadata["note"])
    other = store.run_or_retrieve({"n": 2}, runner)
    assert (2, True) == (len(runner.calls), other.params_hash != first.params_hash)


def test_35_run_always_runs(store: Store, runner: Counted) -> None:
    """``run`` runs again and keeps both results; the oldest stays the answer."""
    first, second = store.run({"n": 1}, runner), store.run({"n": 1}, runner)
    assert 2 == len(runner.calls)
    assert first.result_path != second.result_path
    assert [first, second] == store.list({"n": 1})
    assert first == store.retrieve({"n": 1})


def test_36_retrieve_is_exact(store: Store, runner: Counted) -> None:
    """Exactly equal params are found, whatever their order; a subset or a superset is None."""
    record = store.run({"n": 1, "dt": 0.5}, runner)
    assert record == store.retrieve({"dt": 0.5, "n": 1})
    for other in ({"n": 1}, {"n": 1, "dt": 0.5, "x": None}, {"n": 1.0, "dt": 0.5}, {"n": True, "dt": 0.5}, {}):
        assert store.retrieve(other) is None


def test_37_register(store: Store, tmp_path: Path, runner: Counted) -> None:
    """A file made elsewhere is found and not run; a missing one is an error that names it."""
    path = tmp_path / "elsewhere.dat"
    path.write_bytes(b"made elsewhere")
    record = store.register({"n": 1}, path, machine="cluster")
    assert (path, "cluster") == (record.result_path, record.metadata["machine"])
    assert record == store.run_or_retrieve({"n": 1}, runner)
    assert [] == runner.calls
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dat.*write it first"):
        store.register({"n": 2}, tmp_path / "nowhere.dat")
    assert store.retrieve({"n": 2}) is None


def test_38_list_returns_all(store: Store, runner: Counted) -> None:
    """All runs, oldest first; none in an empty store."""
    assert [] == store.list()
    made = [store.run({"n": n}, runner) for n in (3, 1, 2, 1)]
    assert made == store.list()


def test_39_list_by_a_subset(store: Store, runner: Counted) -> None:
    """Several fields must all hold; a field that no run has finds nothing."""
    for n in (1, 2):
        for method in ("rk4", "euler"):
            store.run({"n": n, "method": method}, runner)
    assert [1, 2] == [run.params["n"] for run in store.list({"method": "rk4"})]
    assert [{"n": 2, "method": "rk4"}] == [run.params for run in store.list({"method": "rk4", "n": 2})]
    assert [] == store.list({"method": "rk4", "colour": "red"})
    assert 4 == len(store.list({})) == len(store.list(None))


def test_40_delete(store: Store, runner: Counted) -> None:
    """The record goes, re-runs with it; the files only when asked; False where there was none."""
    kept = store.run({"n": 1}, runner)
    assert store.delete({"n": 1}) is True
    assert (None, True) == (store.retrieve({"n": 1}), kept.result_path.exists())
    both = [store.run({"n": 2}, runner) for _ in range(2)]
    assert store.delete({"n": 2}, remove_file=True) is True
    assert [False, False] == [run.result_path.exists() for run in both]
    assert store.delete({"n": 2}) is False


def test_41_metadata_of_the_user(store: Store, runner: Counted) -> None:
    """Keywords are kept with the record, and come back as they were."""
    given = {"git_sha": "abc123", "notes": ["a", 1], "when": datetime(2026, 1, 1, tzinfo=UTC)}
    record = store.run({"n": 1}, runner, **given)
    for each in (record, store.retrieve({"n": 1})):
        assert each is not None
        assert given == {name: each.metadata[name] for name in given}


def test_42_elapsed_seconds(store: Store, runner: Counted) -> None:
    """The seconds are added, and a value of the user's own goes before."""
    assert 0 <= store.run({"n": 1}, runner).metadata["elapsed_seconds"] < 60
    assert 7 == store.run({"n": 1}, runner, elapsed_seconds=7).metadata["elapsed_seconds"]


def test_43_a_record_is_immutable(store: Store, runner: Counted) -> None:
    """The five fields have the types of the text, and cannot be set."""
    record = store.run({"n": 1}, runner)
    assert (dict, str, str, dict) == (
        type(record.params),
        type(record.params_hash),
        type(record.created_at),
        type(record.metadata),
    )
    assert isinstance(record.result_path, Path)
    assert re.fullmatch("[0-9a-f]{16}", record.params_hash)
    moment = datetime.fromisoformat(record.created_at)
    assert moment.tzinfo is not None
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    with pytest.raises(FrozenInstanceError):
        record.params_hash = "other"  # type: ignore[misc]


GOLDEN: dict[str, dict[str, Any]] = {
    "44136fa355b3678a": {},
    "f444a074a2e52bf9": {"n": 100, "steps": 5000, "dt": 0.01},
    "5e63321feac83d1d": {"method": Method.RK4, "shape": (2, 3), "on": True, "none": None, "é": "ü"},
    "785b348b9fda74e3": {"x": np.arange(3), "inf": float("inf"), "nested": {"b": 1, "a": [1.5, {}]}},
}
"""Hash to params; it must never change, or stored runs are lost."""


def test_44_the_hash_never_changes() -> None:
    """Golden hashes hold."""
    assert list(GOLDEN) == [params_hash(params) for params in GOLDEN.values()]


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_44_the_hash_is_that_of_every_process(seed: str) -> None:
    """Other processes, with other hash seeds, get the same."""
    code = "from chunk_memo.runparams import params_hash; print(params_hash({'b': {'y', 'x'}, 'a': 1e-300}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
    )
    assert params_hash({"a": 1e-300, "b": {"x", "y"}}) == done.stdout.strip()


def test_44_it_is_sha256_of_canonical_json() -> None:
    """For plain params anybody can compute it: SHA-256 of sorted, compact JSON."""
    import hashlib

    text = json.dumps({"a": 1, "b": [True, None, "x"]}, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == params_hash({"b": (True, None, "x"), "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x": 0.1 + 0.2}, {"x": 0.3}),
        ({"x": 1e22}, {"x": 1.00000000000001e22}),
        ({"m": Method.RK4}, {"m": "rk4"}),
        ({"n": np.int64(3), "x": np.float64(0.5), "y": np.float32(0.5)}, {"n": 3, "x": 0.5, "y": 0.5}),
        ({"b": np.bool_(True), "t": (1, 2)}, {"b": True, "t": [1, 2]}),
        ({"d": {"z": 1, "a": [0.1 + 0.2]}}, {"d": {"a": [0.3], "z": 1}}),
    ],
)
def test_45_equal_params_hash_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Order, float noise, enums, NumPy's scalars and tuples make no difference."""
    assert params_hash(one) == params_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1e-13}, {"x": 2e-13}),
        ({"x": 1e-300}, {"x": 0.0}),
        ({"x": 1}, {"x": 1.0}),
        ({"x": 1}, {"x": True}),
        ({"x": "1"}, {"x": 1}),
        ({"x": np.zeros(5000)}, {"x": np.r_[np.zeros(2500), 1.0, np.zeros(2499)]}),
        ({"x": [1, [2]]}, {"x": [1, 2]}),
        ({"x": None}, {}),
        ({"x": {}}, {"x": []}),
        ({"x": 10**5000}, {"x": 10**5000 + 1}),
        ({"x": "\ud83d\ude00"}, {"x": "\U0001f600"}),
    ],
)
def test_45_different_params_do_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Tiny values, types, long arrays: what differs has another hash."""
    assert params_hash(one) != params_hash(other)


def test_45_the_record_keeps_what_was_given(store: Store, runner: Counted) -> None:
    """Rounding is for the hash alone; the record has the float itself, and the array."""
    given: dict[str, Any] = {"x": 0.1 + 0.2, "grid": np.linspace(0, 1, 5)}
    store.run(given, runner)
    found = store.retrieve({"x": 0.3, "grid": np.linspace(0, 1, 5)})
    assert found is not None
    assert 0.1 + 0.2 == found.params["x"]
    assert np.array_equal(given["grid"], found.params["grid"])


def test_46_a_lookup_uses_the_index(tmp_path: Path) -> None:
    """SQLite finds a hash by its index, and never scans the runs; benchmarks/store.py has the times."""
    index = SQLiteIndex(tmp_path / "runs.db")
    import sqlite3

    connection = sqlite3.connect(index.path)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM runs WHERE params_hash = 'x' ORDER BY id"
    ).fetchall()
    connection.close()
    assert ["SEARCH runs USING INDEX runs_by_hash (params_hash=?)"] == [row[3] for row in plan]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (("n", ">", 1), [2, 3]),
        (("n", ">=", 1.5), [2, 3]),
        (("n", "!=", 2), [1, 3]),
        (("n", "in", [1, 3, 7]), [1, 3]),
        (("n", "not in", {1, 3}), [2]),
        ([("n", ">", 1), ("n", "<", 3)], [2]),
        ([("solver.tol", "<=", 1e-3), ("name", ">", "a")], [3]),
        ({"solver": {"tol": 1e-2}}, [1, 2]),
        (("solver.tol", "==", 1e-3), [3]),
        ({"solver.tol": 1e-3}, [3]),
        (("solver", "==", {"tol": 1e-3, "order": 4}), [3]),
        (("solver", "==", {"tol": 1e-3}), []),
        ({"n": 2.0}, [2]),
        ({"n": True}, []),
        ({"list": [1, 2]}, [1, 2, 3]),
        (("n", "=", 3), [3]),
        ([], [1, 2, 3]),
        (("n", "in", []), []),
    ],
)
def test_47_fields_can_be_queried(store: Store, runner: Counted, where: Any, expected: list[int]) -> None:
    """Each param is a column: compared, nested, in a list of values."""
    for n, tol, name in ((1, 1e-2, "a"), (2, 1e-2, "b"), (3, 1e-3, "c")):
        store.run({"n": n, "name": name, "solver": {"tol": tol, "order": 4}, "list": [1, 2]}, runner)
    assert expected == [run.params["n"] for run in store.list(where)]


def test_48_a_back_end_of_five_methods(tmp_path: Path, runner: Counted) -> None:
    """Any object with the five methods serves, even one that counts as false; one without them is refused."""

    class Own:
        def __init__(self) -> None:
            self.kept: dict[str, list[dict[str, Any]]] = {}

        def __len__(self) -> int:
            return 0

        def find_by_hash(self, params_hash: str) -> RunRecord | None:
            return next((RunRecord.from_dict(each) for each in self.kept.get(params_hash, [])), None)

        def find_by_params(self, params: dict[str, Any]) -> list[RunRecord]:
            return [each for each in self.all() if params.items() <= each.params.items()]

        def insert(self, record: RunRecord) -> None:
            self.kept.setdefault(record.params_hash, []).append(json.loads(json.dumps(record.to_dict())))

        def all(self) -> list[RunRecord]:
            return [RunRecord.from_dict(each) for some in self.kept.values() for each in some]

        def delete_by_hash(self, params_hash: str) -> bool:
            return self.kept.pop(params_hash, None) is not None

    own = Own()
    assert isinstance(own, IndexBackend)
    store = Store(tmp_path / "results", tmp_path / "no.db", index=own)
    first = store.run_or_retrieve({"n": 1, "s": "a"}, runner)
    assert first == store.run_or_retrieve({"n": 1, "s": "a"}, runner)
    second = store.run({"n": 1, "s": "a"}, runner)
    assert [first, second] == store.list({"n": 1}) == store.list(("n", "<", 2)) == store.list()
    first.result_path.unlink()
    with pytest.warns(DamageWarning, match="is missing"):
        assert second == store.retrieve({"n": 1, "s": "a"})
    assert store.delete({"n": 1, "s": "a"}, remove_file=True)
    assert (False, {}) == (second.result_path.exists(), own.kept)
    assert not (tmp_path / "no.db").exists()
    with pytest.raises(ValueError, match=r"lacks \['find_by_hash'"):
        Store(tmp_path / "results", index={"find_by_hash": 1})  # type: ignore[arg-type]


def test_49_the_default_needs_no_server(tmp_path: Path) -> None:
    """A store with the default index loads no database package, and is found again by another process."""
    code = (
        "import sys\nfrom chunk_memo import Store\nstore = Store('results', 'runs.db')\n"
        "run = store.run_or_retrieve({'n': 1}, lambda params, path: path.write_text('x'))\n"
        "print(run.created_at, sorted({'sqlalchemy', 'psycopg', 'tinydb', 'h5py'} & set(sys.modules)))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert said[0].stdout == said[1].stdout
    assert said[0].stdout.endswith(" []\n")


def test_50_any_format(store: Store) -> None:
    """What the runner writes is kept to the byte, and never read as anything."""
    data = bytes(range(256)) * 100

    def runner(params: dict[str, Any], result_path: Path) -> None:
        assert not result_path.exists()
        result_path.write_bytes(data)

    assert data == store.run({"n": 1}, runner).result_path.read_bytes()


def test_51_the_path_is_made(store: Store, runner: Counted) -> None:
    """Timestamp, hash and suffix; re-runs have paths of their own."""
    paths = [store.run({"n": 1}, runner).result_path for _ in range(20)]
    assert 20 == len(set(paths))
    expected = params_hash({"n": 1})
    assert all(re.fullmatch(rf"\d{{10,}}\.\d{{6}}_{expected}\.h5", path.name) for path in paths)
    assert sorted(paths) == paths


def test_52_a_suffix_that_is_added(store: Store) -> None:
    """``np.save`` and others that add a suffix: the record's path is the file that they wrote."""

    def save(params: dict[str, Any], result_path: Path) -> None:
        np.save(result_path, np.arange(params["n"]))

    record = store.run_or_retrieve({"n": 5}, save)
    assert ".npy" == record.result_path.suffix
    assert np.array_equal(np.arange(5), np.load(record.result_path))
    assert record == store.run_or_retrieve({"n": 5}, save)


def test_53_few_dependencies() -> None:
    """A store needs nothing beyond the core packages, on the Pythons that the package supports."""
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    names = {re.split("[>=]", each)[0] for each in project["dependencies"]}
    assert {"click", "h5py", "joblib", "numpy", "tqdm", "xxhash"} == names
    assert ">=3.11" == project["requires-python"]  # 3.10 ends its life before the first release of this library


def test_the_form_of_params() -> None:
    """Exact and canonical texts are what the docstrings say."""
    assert {"a": [1, 2], "b": "rk4"} == plain_params({"a": (1, 2), "b": Method.RK4})
    assert '{"x":0.3}' == canonical_json({"x": 0.1 + 0.2})
    assert isinstance(MemoryIndex(), IndexBackend)
