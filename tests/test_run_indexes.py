"""One contract for all index back ends: a base class, one subclass for each."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunk_memo import IndexBackend, MemoryIndex, PostgresIndex, RunRecord, SQLiteIndex, Store
from chunk_memo.disk import mounts
from chunk_memo.disk.runindex import RunIndex
from chunk_memo.errors import MetadataError, RootError, SpecError
from chunk_memo.runparams import OPERATORS, conditions, matches, params_hash, plain_params
from chunk_memo.runs import FileMark

MOMENT = "2026-01-01T00:00:00+00:00"


def record(params: dict[str, Any], path: str = "a.h5", moment: str = MOMENT, **metadata: Any) -> RunRecord:
    """Return a record of a run that nobody made."""
    return RunRecord(params, Path(path), params_hash(params), moment, metadata, FileMark(3, 5, "f" * 32))


HOSTILE = [
    "'; DROP TABLE runs; --",
    '" OR 1=1 --',
    "') OR ('1'='1",
    "a\0b",
    "%",
    "_",
    "\\",
    ":name0",
    "$1",
    "?",
    "%s",
    "{}",
    "../../etc/passwd",
    "x" * 5000,
    "é\u202e\U0001f600",
    "",
    " ",
    "\n",
    "NULL",
    "params_hash",
    "1; ATTACH 'x' AS y",
    "\x01",
    "solver.tol",
    ".",
    "..",
]
"""Names and texts that would do harm where values become statements."""

numbers = st.integers(-5, 5) | st.sampled_from([0.5, 1.0, 1e300, -1e300, 1e-13, 2e-13, 2**70, -(2**70), 10**400])
texts = st.sampled_from(["a", "b", "ab", "b" * 64, "b" * 65, "b" * 64 + "c", *HOSTILE[:8]]) | st.text(max_size=3)
scalars = numbers | texts | st.booleans() | st.none()
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("xyz"), scalars, max_size=2)
params_of = st.dictionaries(st.sampled_from(["n", "m", "n.x", "deep"]), values, max_size=3)
columns = st.sampled_from(["n", "m", "n.x", "deep.y", "nowhere"])
asked = st.lists(
    st.tuples(columns, st.sampled_from(["==", "!="]), values)
    | st.tuples(columns, st.sampled_from(["<", "<=", ">", ">="]), numbers | texts)
    | st.tuples(columns, st.sampled_from(["in", "not in"]), st.lists(values, max_size=3)),
    min_size=1,
    max_size=3,
)


class Contract:
    """What every back end must do."""

    @pytest.fixture
    def opened(self) -> Callable[[], RunIndex]:
        """Return a function that opens the same index once more."""
        raise NotImplementedError

    @pytest.fixture
    def index(self, opened: Callable[[], RunIndex]) -> RunIndex:
        """Return an empty index."""
        return opened()

    def test_it_is_a_back_end(self, index: RunIndex) -> None:
        """It has the five methods, and starts empty."""
        assert isinstance(index, IndexBackend)
        assert ([], None, [], False) == (
            index.all(),
            index.find_by_hash("0" * 16),
            index.find_by_params({"n": 1}),
            index.delete_by_hash("0" * 16),
        )

    def test_records_come_back(self, index: RunIndex, opened: Callable[[], RunIndex]) -> None:
        """A record comes back equal, from another object, too."""
        made = record({"n": 1, "x": 0.1 + 0.2, "t": [1, None, {"a": "é\0"}], "big": 2**80}, note={"k": [1.5]})
        bare = RunRecord({}, Path("/far/away.npy"), params_hash({}), MOMENT)
        index.insert(made)
        index.insert(bare)
        again = opened()
        assert [made, bare] == again.all()
        assert (made, bare) == (again.find_by_hash(made.params_hash), again.find_by_hash(bare.params_hash))

    def test_the_oldest_comes_first(self, index: RunIndex) -> None:
        """Of several records of a hash all are kept, and the first is found."""
        runs = [record({"n": 1}, f"{name}.h5") for name in "zay"]
        index.insert_many(runs)
        assert (runs[0], runs, runs) == (
            index.find_by_hash(runs[0].params_hash),
            index.find_each(runs[0].params_hash),
            index.find_by_params({"n": 1}),
        )

    def test_deleting(self, index: RunIndex) -> None:
        """A hash goes with all its records, a discarded record alone."""
        runs = [record({"n": n}, f"{name}.h5") for n in (1, 2) for name in "ab"]
        index.insert_many(runs)
        assert [True, False] == [index.discard(runs[0]) for _ in range(2)]
        assert runs[1:] == index.all()
        assert [True, False] == [index.delete_by_hash(runs[2].params_hash) for _ in range(2)]
        assert [runs[1]] == index.all() == index.find_by_params({"n": 1})
        assert [] == index.find_by_params({"n": 2})

    def test_paths_in_use(self, index: RunIndex) -> None:
        """A file that a record names is in use."""
        index.insert(record({"n": 1}, "folder/a.h5"))
        assert (True, False) == (index.uses(Path("folder/a.h5")), index.uses(Path("a.h5")))

    def test_threads(self, index: RunIndex) -> None:
        """One object may be used from several threads."""

        def insert(first: int) -> None:
            for n in range(first, first + 20):
                index.insert(record({"n": n}))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(insert, (0, 20, 40)))
        assert list(range(60)) == sorted(each.params["n"] for each in index.all())

    def test_hostile_names_and_values(self, index: RunIndex) -> None:
        """What looks like SQL is a name or a value like any other: it finds what is equal, and runs nothing."""
        harmless = record({"n": 1, "s": "harmless"})
        index.insert(harmless)
        for hostile in HOSTILE:
            wanted = record({hostile: 1, "s": hostile, "deep": {hostile: [hostile]}})
            index.insert(wanted)
            for where in (
                {"s": hostile},
                {hostile: 1},
                {"deep": {hostile: [hostile]}},
                [(hostile, ">=", 1), ("s", "in", [hostile, "other"])],
                [("s", "<=", hostile), ("s", ">=", hostile), (hostile, "!=", hostile)],
            ):
                assert [wanted] == index.search(conditions(where))
            assert None is index.find_by_hash(hostile)
            assert not index.delete_by_hash(hostile)
            assert not index.uses(Path(hostile))
            assert [harmless, wanted] == index.all()
            assert index.discard(wanted)

    def test_filters_agree_with_python(self, index: RunIndex) -> None:
        """Whatever is stored and asked, the index finds what the params say, in the order of insertion."""

        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(params_of, max_size=5), asked)
        def check(stored: list[dict[str, Any]], where: list[Any]) -> None:
            for each in index.all():
                index.delete_by_hash(each.params_hash)
            runs = [record(params, f"{number}.h5") for number, params in enumerate(stored)]
            index.insert_many(runs)
            wanted = conditions(where)
            expected = [run.result_path for run in runs if matches(plain_params(run.params), wanted)]
            assert expected == [run.result_path for run in index.search(wanted)]

        check()

    def test_many_values_and_conditions(self, index: RunIndex) -> None:
        """Lists of thousands of values and tens of conditions are answered."""
        index.insert_many([record({"n": n, "m": n % 2}) for n in range(5)])
        many = [("n", "in", list(range(1, 3000)))] + [("n", ">", -k) for k in range(30)]
        assert [1, 2, 3, 4] == [each.params["n"] for each in index.search(conditions(many))]


class TestMemory(Contract):
    """Records in memory."""

    @pytest.fixture
    def opened(self) -> Callable[[], RunIndex]:
        """Return a function that gives the one index."""
        index = MemoryIndex()
        return lambda: index

    def test_it_does_not_travel(self, index: RunIndex) -> None:
        """Another process would have a copy: pickling is refused, with the way out."""
        with pytest.raises(SpecError, match="give the store a db_path"):
            pickle.dumps(index)


class TestSqlite(Contract):
    """Records in an SQLite file."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], RunIndex]:
        """Return a function that opens the file."""
        return lambda: SQLiteIndex(tmp_path / "runs.json")

    def test_it_travels(self, index: RunIndex) -> None:
        """A pickle opens the same file."""
        copied = pickle.loads(pickle.dumps(index))
        index.insert(record({"n": 1}))
        assert index.all() == copied.all()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_fork_opens_its_own(self, index: RunIndex) -> None:
        """A forked child uses a connection of its own, and the parent's stays sound."""
        index.insert(record({"n": 1}))
        child = os.fork()
        if child == 0:
            try:
                index.insert(record({"n": 2}))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        index.insert(record({"n": 3}))
        assert [1, 2, 3] == [each.params["n"] for each in index.all()]

    def test_an_unfinished_insert_is_none(self, index: RunIndex) -> None:
        """Records that are inserted together are all there or none is."""

        class Odd(dict[str, Any]):
            def items(self) -> Any:
                raise RuntimeError("no params")

        with pytest.raises(RuntimeError, match="no params"):
            index.insert_many([record({"n": 1}), RunRecord(Odd(), Path("x"), "0" * 16, MOMENT)])
        assert [] == index.all()


class TestPostgres(Contract):
    """Records in a real PostgreSQL."""

    @pytest.fixture
    def opened(self, postgres_url: str) -> Iterator[Callable[[], RunIndex]]:
        """Return a function that connects to an empty database."""
        made: list[PostgresIndex] = []

        def connect() -> PostgresIndex:
            made.append(PostgresIndex(postgres_url))
            return made[-1]

        yield connect
        for each in made:
            each.close()

    def test_it_travels(self, index: RunIndex) -> None:
        """A pickle connects to the same database."""
        index.insert(record({"n": 1}))
        copied = pickle.loads(pickle.dumps(index))
        assert index.all() == copied.all()
        copied.close()

    def test_tables_have_names(self, postgres_url: str) -> None:
        """Stores of one database are apart by the names of their tables; hostile names are refused."""
        one, other = PostgresIndex(postgres_url, "one"), PostgresIndex(postgres_url, "other")
        one.insert(record({"n": 1}))
        assert (1, 0) == (len(one.all()), len(other.all()))
        one.close()
        other.close()
        for name in [*sorted({*HOSTILE} - {"_", "params_hash"}), "Runs", "1a", "a b", 'a"b']:
            with pytest.raises(SpecError, match="table must be"):
                PostgresIndex(postgres_url, name)

    def test_many_open_at_once(self, postgres_url: str) -> None:
        """Those that make the tables at the same moment do not get into each other's way."""
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(PostgresIndex, [postgres_url] * 8))
        assert [[]] * 8 == [each.all() for each in opened]
        for each in opened:
            each.close()

    def test_a_store_by_its_url(self, postgres_url: str, tmp_path: Path) -> None:
        """``db_path`` may be the URL; the store's repr hides the password."""
        store = Store(tmp_path, postgres_url.replace("postgres@", "postgres:secret@"))
        run = store.run_or_retrieve({"n": 1}, lambda params, path: path.write_text("x"))
        assert [run] == store.list(("n", "<", 2))
        assert "secret" not in repr(store)
        assert isinstance(store.index, PostgresIndex)
        store.index.close()

    @pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///x.db", "no url"])
    def test_other_urls(self, url: str) -> None:
        """What is no PostgreSQL is refused, with what is expected."""
        with pytest.raises(SpecError, match="postgresql://"):
            PostgresIndex(url)


@pytest.mark.parametrize("package", ["psycopg", "sqlalchemy"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error gives the line that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'chunk-memo\[postgres\]'"):
        PostgresIndex("postgresql://host/db")


# --- what lies at db_path --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runs.json", "runs", "runs.db", "a b'c.sqlite3", "deep/er/runs.txt"])
def test_a_new_path_becomes_sqlite(tmp_path: Path, name: str) -> None:
    """Whatever its suffix; folders above are made; an empty file counts as new."""
    for number in range(2):
        path = tmp_path / str(number) / name
        if number:
            path.parent.mkdir(parents=True)
            path.touch()
        Store(tmp_path / "results", path)
        assert path.read_bytes().startswith(b"SQLite format 3\0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"n,x\n1,2\n", "is no SQLite database"),
        (b"\x89HDF\r\n\x1a\n" * 100, "is no SQLite database"),
        (b'{"runs": []}', "no index that TinyDB wrote"),
        (b'{"_default": {"1": {"n": 1}}}', "no index that TinyDB wrote"),
        (b'{"_default": {"1": {"n"', "no index that TinyDB wrote"),
        (b'{"_default": []}', "no index that TinyDB wrote"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no index is refused by name, and not a byte of it changes."""
    path = tmp_path / "runs.json"
    path.write_bytes(content)
    with pytest.raises(MetadataError, match=message):
        Store(tmp_path / "results", path)
    assert content == path.read_bytes()


def test_other_databases_are_left_alone(tmp_path: Path) -> None:
    """An SQLite file of something else is refused, and neither its tables nor its settings change."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(MetadataError, match="SQLite database of something else"):
        SQLiteIndex(path)
    assert before == path.read_bytes()
    with pytest.raises(SpecError, match="is a folder"):
        Store(tmp_path / "results", tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    """An index of a later version is not written to."""
    SQLiteIndex(tmp_path / "runs.db").close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(MetadataError, match="later format 2"):
        SQLiteIndex(tmp_path / "runs.db")


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /home rw - {kind} server:/home rw
31 30 0:41 / /home/me/local\040disk rw - ext4 /dev/sdb1 rw
32 21 0:42 / /tmp rw,nosuid - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("kind", "name"),
    [("nfs", "NFS"), ("nfs4", "NFS"), ("cifs", "SMB"), ("smb3", "SMB"), ("lustre", "Lustre"), ("gpfs", "GPFS")],
)
def test_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    """On a file system of several machines the error names it, PostgreSQL and a local db_path."""
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.replace("{kind}", kind))
    monkeypatch.setattr(mounts, "MOUNTS", str(table))
    assert [kind, kind, "ext4", "ext4", "tmpfs"] == [
        mounts.file_system(path)
        for path in ("/home", "/home/me/x/runs.db", "/home/me/local disk/runs.db", "/homes", "/tmp/x")
    ]
    with pytest.raises(RootError, match=rf"would lie on {name}.*local disk.*PostgresIndex"):
        SQLiteIndex("/home/me/runs.db")


def test_file_systems_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own table is read where there is one; where there is none nothing is known."""
    if sys.platform == "linux":
        assert "proc" == mounts.file_system("/proc/self/status")
    monkeypatch.setattr(mounts, "MOUNTS", "/no/such/table")
    assert mounts.file_system("/") is None


# --- the older layout ------------------------------------------------------------------------------------------


def older(path: str, **params: Any) -> dict[str, Any]:
    """Return a record as TinyDB's index holds it: params flat, beside its own fields."""
    return {
        **params,
        "params_hash": "0123456789abcdef",
        "result_path": path,
        "created_at": f"2025-0{len(params)}-01T00:00:00+00:00",
        "metadata": {"elapsed_seconds": 0.5},
    }


def test_a_json_index_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs are found under their params, whole files and all; the JSON stays as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for name in ("a.h5", "b.npy"):
        (tmp_path / "results" / name).write_text(name)
    (tmp_path / "far.h5").write_text("far")
    documents = [
        older("results/a.h5", n=1, x=1e-13),
        older("results/b.npy", n=1, x=2e-13, m="rk4"),
        older(str(tmp_path / "far.h5"), n=3, a=1, b=2, c={"d": 4}),
    ]
    content = json.dumps({"_default": {str(number): each for number, each in enumerate(documents, 1)}})
    Path("runs.json").write_text(content)
    store = Store("results", "runs.json")
    assert ["a.h5", "b.npy", "far.h5"] == [run.result_path.name for run in store.list()]
    run = store.retrieve({"n": 1, "x": 2e-13, "m": "rk4"})
    assert run is not None
    assert ("b.npy", 0.5) == (run.result_path.read_text(), run.metadata["elapsed_seconds"])
    assert [3] == [each.params["n"] for each in store.list(("c.d", ">", 3))]
    assert content == Path("runs.json").read_text()
    assert (tmp_path / "runs.json.sqlite").exists()
    store.delete({"n": 1, "x": 1e-13})
    store.run({"n": 9}, lambda params, path: path.write_text("new"))
    again = Store("results", "runs.json")
    assert [1, 3, 9] == [each.params["n"] for each in again.list()]
    grown = json.loads(content)
    grown["_default"]["4"] = older("results/a.h5", n=4)
    Path("runs.json").write_text(json.dumps(grown))
    assert 4 in [each.params["n"] for each in Store("results", "runs.json").list()]


def test_an_empty_json_index(tmp_path: Path) -> None:
    """An index without runs is one."""
    (tmp_path / "runs.json").write_text("{}")
    assert [] == Store(tmp_path / "results", tmp_path / "runs.json").list()


def test_operators_are_all_tested() -> None:
    """The strategies above know each operator."""
    assert {"==", "!=", "<", "<=", ">", ">=", "in", "not in"} == set(OPERATORS)


@pytest.mark.parametrize(
    "where",
    [
        "n = 1; DROP TABLE runs",
        ("n", "LIKE", "%"),
        ("n", "==", 1, 2),
        ("n",),
        [("n", "=="), 3],
        {1: 2},
        5,
        ("n", "<", [1]),
        ("n", "<", None),
        ("n", "in", "abc"),
        ("n", "in", 3),
        [["n", "; --", 1]],
        {"n": object()},
        (None, "==", 1),
        b"bytes",
    ],
)
def test_bad_filters(tmp_path: Path, where: Any) -> None:
    """What is no filter is refused by name: it never reaches a database."""
    store = Store(tmp_path, index=MemoryIndex())
    with pytest.raises((SpecError, TypeError), match=r"where|needs a|n"):
        store.list(where)
