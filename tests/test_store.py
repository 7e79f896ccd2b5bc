"""What a store promises beyond the document: whole or absent, once, kept, told."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    ChunkLostError,
    ChunkMemo,
    CollisionError,
    DamageWarning,
    FailureWarning,
    IdentityError,
    MemoryIndex,
    OutputError,
    RootError,
    RunFailure,
    RunRecord,
    SignatureError,
    SpecError,
    SQLiteIndex,
    Store,
    StoreError,
)
from chunk_memo.disk import results
from chunk_memo.runparams import params_hash


def note(params: dict[str, Any], result_path: Path) -> None:
    """Write the params, and a line to the log that they name."""
    if "log" in params:
        with open(params["log"], "a") as log:
            log.write(f"{params['n']}\n")
    result_path.write_text(json.dumps(params, default=str))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store in an empty folder."""
    return Store(tmp_path / "results", tmp_path / "runs.db", ".json")


def left(store: Store) -> list[str]:
    """Return what lies in the folder of results."""
    return sorted(path.relative_to(store.results_dir).as_posix() for path in store.results_dir.rglob("*"))


def saved(path: Path) -> str:
    """Save an array, by a writer that adds its suffix; return the name."""
    np.save(path, [1])
    return f"{path}.npy"


# --- whole or absent -------------------------------------------------------------------------------------------


def test_a_runner_that_raises_leaves_nothing(store: Store) -> None:
    """Its error comes through, with a note of what ran; neither record nor file is left, the next call runs."""

    def half(params: dict[str, Any], result_path: Path) -> None:
        result_path.write_text("half")
        raise ZeroDivisionError("half way")

    for call in (store.run, store.run_or_retrieve):
        with pytest.raises(ZeroDivisionError, match="half way") as caught:
            call({"n": 1}, half)
        assert "half' made run " in caught.value.__notes__[0]
        assert ([], []) == (store.list(), left(store))
    assert store.run_or_retrieve({"n": 1}, note).result_path.exists()


def test_a_runner_that_writes_nothing(store: Store) -> None:
    """It is an error that says so, and what it returned is not lost."""
    with pytest.raises(OutputError, match="wrote nothing; it must write its result to the result_path") as caught:
        store.run_or_retrieve({"n": 1}, lambda params, path: np.arange(3))
    assert [0, 1, 2] == caught.value.output.tolist()
    assert ([], []) == (store.list(), left(store))


def test_nothing_is_seen_before_it_is_whole(store: Store) -> None:
    """While a runner writes, the folder of results has no result, and the index no record."""

    def look(params: dict[str, Any], result_path: Path) -> None:
        result_path.write_text("half")
        assert [] == [path for path in store.results_dir.iterdir() if path.name != ".runs"]
        assert [] == store.list()
        assert result_path.is_relative_to(store.results_dir)

    record = store.run({"n": 1}, look)
    assert [record.result_path.name] == left(store)


def test_the_file_goes_before_the_record(tmp_path: Path) -> None:
    """When a record is inserted its file has its final name."""
    seen = []

    class Watched(MemoryIndex):
        def insert(self, record: RunRecord) -> None:
            seen.append((tmp_path / record.result_path).read_text())
            super().insert(record)

    Store(tmp_path, index=Watched()).run({"n": 1}, lambda params, path: path.write_text("whole"))
    assert ["whole"] == seen


def test_an_index_that_fails_loses_no_work(tmp_path: Path) -> None:
    """The error names the file that is kept, and how to record it; when the index works again, it is recorded."""

    class Full(MemoryIndex):
        room = 0

        def insert(self, record: RunRecord) -> None:
            if not self.room:
                raise OSError(28, "No space left on device")
            super().insert(record)

    index = Full()
    store = Store(tmp_path, index=index)
    with pytest.raises(StoreError, match=r"is stored, but its record is not.*store\.recover") as caught:
        store.run_or_retrieve({"n": 1}, note)
    assert 28 == caught.value.errno
    made = caught.value.output
    assert {"n": 1} == json.loads(made.result_path.read_text())
    index.room = 1
    assert made == store.run_or_retrieve({"n": 1}, forbidden)
    assert not (tmp_path / ".runs").exists()


@pytest.mark.parametrize(
    ("write", "suffix", "extra"),
    [
        (lambda path: path.write_text("x"), ".h5", []),
        (lambda path: np.save(path, [1]), ".npy", []),
        (lambda path: np.savez(path, a=[1]), ".npz", []),
        (lambda path: path.with_suffix(".csv").write_text("x"), ".csv", []),
        (lambda path: Path(f"{path}.tar.gz").write_text("x"), ".tar.gz", []),
        (lambda path: (path.parent / "own_name.txt").write_text("x"), ".txt", []),
        (lambda path: (path.parent / "own_name").write_text("x"), ".h5", []),
        (lambda path: shutil.make_archive(str(path), "zip", path.parent.parent / "leases"), ".zip", []),
        (
            lambda path: [path.write_text("x"), path.with_suffix(".log").write_text("l"), saved(path)],
            ".h5",
            [".h5.npy", ".log"],
        ),
        (lambda path: (path.write_text("x"), (path.parent / "plot.png").write_text("p")), ".h5", ["_plot.png"]),
    ],
)
def test_what_writers_do_to_the_name(tmp_path: Path, write: Any, suffix: str, extra: list[str]) -> None:
    """A suffix that is added or replaced is recognised; other files go along under the result's name."""
    store = Store(tmp_path / "results", index=MemoryIndex())
    record = store.run_or_retrieve({"n": 1}, lambda params, path: write(path))
    stem = record.result_path.name.removesuffix(suffix)
    assert stem.endswith(f"_{record.params_hash}")
    assert sorted([record.result_path.name, *(f"{stem}{each}" for each in extra)]) == left(store)
    assert record == store.run_or_retrieve({"n": 1}, note)


def test_folders(store: Store) -> None:
    """A folder is a result as well: one of the given name, or all files where none has it."""

    def zarr(params: dict[str, Any], result_path: Path) -> None:
        (result_path / "c" / "0").mkdir(parents=True)
        (result_path / "c" / "0" / "1").write_bytes(b"chunk")

    def several(params: dict[str, Any], result_path: Path) -> None:
        for name in ("a.csv", "b.csv"):
            (result_path.parent / name).write_text(name)

    one, two = store.run_or_retrieve({"n": 1}, zarr), store.run_or_retrieve({"n": 2}, several)
    assert b"chunk" == (one.result_path / "c" / "0" / "1").read_bytes()
    assert ["a.csv", "b.csv"] == sorted(path.name for path in two.result_path.iterdir())
    assert [one, two] == [store.run_or_retrieve({"n": n}, note) for n in (1, 2)]
    (one.result_path / "c" / "0" / "1").write_bytes(b"other")
    with pytest.warns(DamageWarning, match="other content"):
        assert store.retrieve({"n": 1}) is None
    assert store.delete({"n": 1}, remove_file=True)
    assert not one.result_path.exists()


# --- missing and damaged results -------------------------------------------------------------------------------


def changed(path: Path, how: str) -> None:
    """Damage a file."""
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "words"), [("missing", "is missing"), ("short", "bytes in place of"), ("flipped", "other content")]
)
def test_a_damaged_result_is_a_miss(store: Store, how: str, words: str) -> None:
    """One warning names the file; the run is made again, and its old record is forgotten then."""
    first = store.run_or_retrieve({"n": 1}, note)
    changed(first.result_path, how)
    with pytest.warns(DamageWarning, match=words) as told:
        assert store.retrieve({"n": 1}) is None
    assert (1, True) == (len(told), str(first.result_path) in str(told[0].message))
    assert __file__ == told[0].filename
    assert store.retrieve({"n": 1}) is None  # told once; further warnings would be errors
    assert [first] == store.list() == store.verify()
    second = store.run_or_retrieve({"n": 1}, note)
    assert first.result_path != second.result_path
    assert ([second], []) == (store.list(), store.verify())


def test_a_rerun_stands_in_for_a_damaged_one(store: Store) -> None:
    """Where a re-run is whole it is the answer, and nothing runs."""
    first, second = store.run({"n": 1}, note), store.run({"n": 1}, note)
    changed(first.result_path, "flipped")
    with pytest.warns(DamageWarning, match="other content"):
        assert second == store.run_or_retrieve({"n": 1}, lambda params, path: None)


def test_a_copy_is_whole(store: Store) -> None:
    """Another time of the same bytes is no damage: they are read once, and then known."""
    record = store.run({"n": 1}, note)
    os.utime(record.result_path, ns=(1, 1))
    assert record == store.retrieve({"n": 1})
    read: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_digest", lambda path: read.append(path))
        assert record == store.retrieve({"n": 1})
    assert [] == read


def test_verify_reads_every_byte(store: Store) -> None:
    """A flipped bit under an unchanged length and time is found when it is asked for."""
    whole, rotten = store.run({"n": 1}, note), store.run({"n": 2}, note)
    status = rotten.result_path.stat()
    changed(rotten.result_path, "flipped")
    os.utime(rotten.result_path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ([rotten], []) == (store.verify(), store.verify({"n": 1}))
    assert whole == store.retrieve({"n": 1})


def test_a_moved_folder_works(tmp_path: Path) -> None:
    """Results and index move together, by rename or by copy, and are found by their params."""
    here = Store(tmp_path / "here" / "results", tmp_path / "here" / "runs.db")
    record = here.run({"n": 1}, note)
    outside = tmp_path / "outside.dat"
    outside.write_text("outside")
    here.register({"n": 2}, outside)
    assert isinstance(here.index, SQLiteIndex)
    here.index.close()
    shutil.copytree(tmp_path / "here", tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "here").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        there = Store(tmp_path / name / "results", tmp_path / name / "runs.db")
        found = there.run_or_retrieve({"n": 1}, lambda params, path: None)
        assert tmp_path / name / "results" / record.result_path.name == found.result_path
        other = there.retrieve({"n": 2})
        assert other is not None
        assert outside == other.result_path


def test_a_relative_store_survives_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is where it was made, wherever the program goes."""
    monkeypatch.chdir(tmp_path)
    store = Store("results", "runs.db")
    record = store.run({"n": 1}, note)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert record == store.retrieve({"n": 1})


def test_deleting_keeps_what_others_name(store: Store, tmp_path: Path) -> None:
    """A file that another record names is not removed with a record."""
    shared = tmp_path / "shared.dat"
    shared.write_text("both")
    for n in (1, 2):
        store.register({"n": n}, shared)
    assert store.delete({"n": 1}, remove_file=True)
    assert shared.exists()
    assert store.delete({"n": 2}, remove_file=True)
    assert not shared.exists()


# --- params ----------------------------------------------------------------------------------------------------


def test_a_collision_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two params of one hash: neither is given for the other, nor deleted."""
    record = store.run({"n": 1}, note)
    monkeypatch.setattr("chunk_memo.store.hash_of", lambda canonical: record.params_hash)
    for call in (
        lambda: store.retrieve({"n": 2}),
        lambda: store.run_or_retrieve({"n": 2}, note),
        lambda: store.delete({"n": 2}),
    ):
        with pytest.raises(CollisionError, match=r"\{'n': 1\}.*\{'n': 2\}.*same hash"):
            call()
    assert [record] == store.list()


def test_a_runner_may_change_its_params(store: Store) -> None:
    """Neither the record nor the caller's dict has what a runner does to its params."""

    def greedy(params: dict[str, Any], result_path: Path) -> None:
        params["nested"]["x"].append(4)
        result_path.write_text(str(params.pop("n")))

    given = {"n": 1, "nested": {"x": [1]}}
    record = store.run_or_retrieve(given, greedy)
    assert {"n": 1, "nested": {"x": [1]}} == given == record.params
    record.params["n"] = 7
    found = store.retrieve(given)
    assert found is not None
    assert 1 == found.params["n"]


def test_params_of_many_types(store: Store) -> None:
    """What JSON does not know comes back as it was, from the store and from a run."""
    given = {
        "array": np.eye(2),
        "day": date(2026, 1, 1),
        "moment": datetime(2026, 1, 1, tzinfo=UTC),
        "mesh": Path("a/b.msh"),
        "set": {1, 2},
        "bytes": b"\0",
        "nan": float("nan"),
        "complex": 1 + 2j,
    }
    for record in (store.run(given, lambda params, path: path.write_text("x")), store.retrieve(given)):
        assert record is not None
        back = record.params
        assert np.array_equal(np.eye(2), back["array"])
        assert np.isnan(back["nan"])
        for name in ("day", "moment", "mesh", "set", "bytes", "complex"):
            assert given[name] == back[name]
    assert 1 == len(store.list({"mesh": Path("a/b.msh"), "nan": float("nan")}))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"f": object()}, IdentityError, "f"),
        ({1: 2}, IdentityError, "names of params must be text"),
        ({"a": {2: 1}}, IdentityError, "names of params must be text"),
        ([("n", 1)], SpecError, "must map names to values"),
        (None, SpecError, "must map names to values"),
        ({"$canonical": 1}, IdentityError, "uses itself"),
    ],
)
def test_bad_params(store: Store, params: Any, error: type[Exception], message: str) -> None:
    """Params without a sound identity are refused before anything runs."""

    def never(params: dict[str, Any], result_path: Path) -> None:
        raise AssertionError("it ran")

    for call in (store.retrieve, store.delete, lambda each: store.run_or_retrieve(each, never)):
        with pytest.raises(error, match=message):
            call(params)


def test_params_that_hold_themselves(store: Store) -> None:
    """A cycle is refused, and does not exhaust the stack."""
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    with pytest.raises(IdentityError, match="holds itself"):
        store.retrieve(cyclic)


async def waits(params: dict[str, Any], result_path: Path) -> None:
    """Do nothing, later."""


def yields(params: dict[str, Any], result_path: Path) -> Iterator[int]:
    """Do nothing, in parts."""
    yield 1


@pytest.mark.parametrize(
    ("runner", "error"),
    [(waits, SignatureError), (yields, SignatureError), (None, SpecError), ("run.sh", SpecError)],
)
def test_bad_runners(store: Store, runner: Any, error: type[Exception]) -> None:
    """What would not run when it is called is refused."""
    for call in (store.run, store.run_or_retrieve, lambda params, each: store.sweep([params], each)):
        with pytest.raises(error, match=r"runner|function"):
            call({"n": 1}, runner)


def test_bad_metadata_is_refused_before_the_run(store: Store) -> None:
    """Metadata that could not be stored does not cost a run."""
    ran: list[int] = []
    with pytest.raises(IdentityError, match="metadata"):
        store.run({"n": 1}, lambda params, path: ran.append(1), lock=threading.Lock())
    assert [] == ran


def test_bad_places(tmp_path: Path) -> None:
    """A results_dir that is a file, a suffix with a slash, a db_path that is no path: each is named."""
    (tmp_path / "file").touch()
    with pytest.raises(RootError, match="results_dir"):
        Store(tmp_path / "file")
    with pytest.raises(SpecError, match="file_suffix"):
        Store(tmp_path, tmp_path / "x.db", "/../../etc/passwd")
    with pytest.raises(SpecError, match="db_path"):
        Store(tmp_path, 5)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="path or a ChunkCache"):
        Store(tmp_path, index=MemoryIndex()).register({"n": 1}, 5)


# --- metadata --------------------------------------------------------------------------------------------------


def test_surroundings_are_kept(store: Store) -> None:
    """Host, Python and the versions of the packages that are loaded stand in each record."""
    import platform
    import socket

    metadata = store.run({"n": 1}, note).metadata
    assert (socket.gethostname(), platform.python_version()) == (metadata["host"], metadata["python"])
    assert np.__version__ == metadata["packages"]["numpy"]


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder."""
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a repository the commit of the runner's code and whether files differ from it; elsewhere neither."""
    from chunk_memo import provenance

    monkeypatch.setattr(provenance, "_LEAST", 0.0)
    monkeypatch.setattr(provenance, "_WORTH", 0.0)
    repository = tmp_path / "code"
    repository.mkdir()
    (repository / "model.py").write_text("def run(params, result_path):\n    result_path.write_text('x')\n")
    git(repository, "init", "-q")
    # What a hostile repository would have run at every look at its state.
    git(repository, "config", "core.fsmonitor", f"touch {tmp_path / 'executed'}; false")
    git(repository, "add", "model.py")
    git(repository, "commit", "-qm", "first")
    space: dict[str, Any] = {}
    exec(compile((repository / "model.py").read_text(), repository / "model.py", "exec"), space)
    store = Store(tmp_path / "results", index=MemoryIndex())
    clean = store.run({"n": 1}, space["run"]).metadata
    assert (git(repository, "rev-parse", "HEAD"), False) == (clean["git_commit"], clean["git_dirty"])
    (tmp_path / "executed").unlink(missing_ok=True)
    with open(repository / "model.py", "a") as file:
        file.write("\n")
    assert store.run({"n": 2}, space["run"]).metadata["git_dirty"] is True
    assert not (tmp_path / "executed").exists()
    monkeypatch.chdir(tmp_path)
    outside = store.run({"n": 3}, eval("lambda params, path: path.write_text('x')")).metadata
    assert "git_commit" not in outside


def test_without_git_there_is_no_commit(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git is not installed a run is stored without it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("chunk_memo.provenance._said", {})
    assert "git_commit" not in store.run({"n": 1}, note).metadata


# --- once ------------------------------------------------------------------------------------------------------


def test_threads_run_once(store: Store) -> None:
    """Of many threads that ask for equal params one runs, and all get its record."""
    started = threading.Barrier(8)
    calls = []

    def slow(params: dict[str, Any], result_path: Path) -> None:
        calls.append(params["n"])
        result_path.write_text("x")

    def ask(number: int) -> RunRecord:
        started.wait()
        return store.run_or_retrieve({"n": number % 2}, slow)

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(ask, range(8)))
    assert [0, 1] == sorted(calls)
    assert 2 == len({record.result_path for record in records})
    assert not (store.results_dir / ".runs").exists()


def test_those_who_wait_run_if_the_first_fails(store: Store) -> None:
    """A failure is that of its caller; another that waited runs itself."""
    inside, go = threading.Event(), threading.Event()

    def fails(params: dict[str, Any], result_path: Path) -> None:
        inside.set()
        go.wait()
        raise ValueError("the first fails")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.run_or_retrieve, {"n": 1}, fails)
        inside.wait()
        second = pool.submit(store.run_or_retrieve, {"n": 1}, note)
        go.set()
        with pytest.raises(ValueError, match="the first fails"):
            first.result()
        assert second.result() == store.retrieve({"n": 1})


def test_a_runner_that_asks_for_itself(store: Store) -> None:
    """It is an error, and does not wait for ever; other params may be asked for."""

    def recursive(params: dict[str, Any], result_path: Path) -> None:
        if params["n"] > 0:
            below = store.run_or_retrieve({"n": params["n"] - 1}, recursive)
            result_path.write_text(below.result_path.read_text() + "x")
        elif params["n"] == 0:
            result_path.write_text("")
        else:
            store.run_or_retrieve(params, recursive)

    assert "xxx" == store.run_or_retrieve({"n": 3}, recursive).result_path.read_text()
    with pytest.raises(SpecError, match="which it is making itself"):
        store.run_or_retrieve({"n": -1}, recursive)


# --- sweeps ----------------------------------------------------------------------------------------------------

MAPS: list[Any] = [None, map, "threads", "processes", "joblib"]


@pytest.mark.parametrize("map_fn", MAPS)
def test_a_sweep_in_order(store: Store, tmp_path: Path, map_fn: Any) -> None:
    """Records in the order of the params; what is stored, or asked for twice, is not run."""
    log = str(tmp_path / "log")
    store.run({"n": 3, "log": log}, note)
    wanted = [{"n": n, "log": log} for n in (5, 3, 1, 5, 2, 3, 4)]
    kwargs = {"workers": 2} if map_fn in ("threads", "processes") else None
    records = list(store.sweep(wanted, note, map_fn=map_fn, map_fn_kwargs=kwargs, batch="b1"))
    assert wanted == [record.params for record in records]
    assert ["1", "2", "3", "4", "5"] == sorted(Path(log).read_text().split())
    assert [True] * 7 == [record.result_path.exists() for record in records]
    assert ("b1", records[0]) == (records[0].metadata["batch"], records[3])
    assert records == list(store.sweep(wanted, note, map_fn=map_fn, map_fn_kwargs=kwargs))
    assert 5 == len(store.list())
    assert not (store.results_dir / ".runs").exists()


@pytest.mark.parametrize("map_fn", [None, map, "threads"])
def test_a_sweep_is_lazy(store: Store, map_fn: Any) -> None:
    """Endless params are taken as records are; what is not asked for is not run."""
    taken = itertools.count()
    made = store.sweep(({"n": n} for n in taken), note, map_fn=map_fn)
    assert 0 == next(taken)
    assert [1, 2, 3] == [record.params["n"] for record in itertools.islice(made, 3)]
    made.close()  # type: ignore[attr-defined]
    assert len(store.list()) < 100
    if map_fn != "threads":  # those that are at work cannot be ended; what they finish is kept
        assert not (store.results_dir / ".runs").exists()


def test_endless_hits_are_lazy(store: Store) -> None:
    """A map does not keep the caller from records that need no worker."""
    for n in range(3):
        store.run({"n": n}, note)
    made = store.sweep(({"n": n % 3} for n in itertools.count()), note, map_fn="threads")
    assert [0, 1, 2, 0, 1] == [record.params["n"] for record in itertools.islice(made, 5)]
    made.close()  # type: ignore[attr-defined]


def fails_at_two(params: dict[str, Any], result_path: Path) -> None:
    """Raise at 2."""
    if params["n"] == 2:
        raise ValueError("two is bad")
    result_path.write_text("x")


@pytest.mark.parametrize("map_fn", MAPS)
def test_a_failing_run_of_a_sweep(store: Store, map_fn: Any) -> None:
    """The records before it come first, then its error; what was made is kept, no claim is left."""
    made = store.sweep(({"n": n} for n in range(50)), fails_at_two, map_fn=map_fn)
    got: list[int] = []
    with pytest.raises(ValueError, match="two is bad") as caught:
        got.extend(record.params["n"] for record in made)
    assert "fails_at_two' made run" in caught.value.__notes__[0]
    assert len(store.list()) >= 2
    assert store.retrieve({"n": 2}) is None
    assert not (store.results_dir / ".runs").exists()
    again = store.sweep(({"n": n} for n in (0, 1, 3)), note, map_fn=map_fn)
    assert [0, 1, 3] == [record.params["n"] for record in again]


@pytest.mark.parametrize("map_fn", [None, "threads"])
def test_bad_params_in_a_sweep(store: Store, map_fn: Any) -> None:
    """They are refused when it is their turn, after the records before them."""
    made = store.sweep([{"n": 1}, 5, {"n": 2}], note, map_fn=map_fn)  # type: ignore[list-item]
    assert 1 == next(made).params["n"]
    with pytest.raises(SpecError, match="must map names to values"):
        next(made)


def dies_once(params: dict[str, Any], result_path: Path) -> None:
    """Kill the process at the first call for params that say so, or always."""
    flag = Path(params["flag"])
    if params["n"] == 2 and (params["always"] or not flag.exists()):
        flag.touch()
        os.kill(os.getpid(), 9)
    result_path.write_text("x")


@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_dies(store: Store, tmp_path: Path, always: bool) -> None:
    """Its run is made once more; one that ends workers again is given up, and the others are kept."""
    wanted = [{"n": n, "flag": str(tmp_path / "flag"), "always": always} for n in range(5)]
    made = store.sweep(wanted, dies_once, map_fn="processes", map_fn_kwargs={"workers": 2})
    if always:
        with pytest.raises(ChunkLostError, match=r"SIGKILL while it made run .*'n': 2"):
            list(made)
        assert len(store.list()) >= 2
    else:
        assert wanted == [record.params for record in made]
    assert (tmp_path / "flag").exists()
    store.run_or_retrieve({"n": 9}, note)
    assert not (store.results_dir / ".runs" / "leases").exists()


def test_a_sweep_waits_for_others(store: Store) -> None:
    """Runs that another caller is making are not made again: their records are waited for."""
    inside, go = threading.Event(), threading.Event()

    def slow(params: dict[str, Any], result_path: Path) -> None:
        inside.set()
        go.wait()
        result_path.write_text("theirs")

    def quick(params: dict[str, Any], result_path: Path) -> None:
        go.set()
        result_path.write_text("ours")

    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(store.run_or_retrieve, {"n": 1}, slow)
        inside.wait()
        made = list(store.sweep([{"n": 1}, {"n": 2}], quick, map_fn="threads"))
        assert [theirs.result(), store.retrieve({"n": 2})] == made
    assert ["theirs", "ours"] == [record.result_path.read_text() for record in made]


def test_map_reads_results(store: Store) -> None:
    """A function is called with each record, in order, as they are asked for."""
    read = store.map(
        lambda run: json.loads(run.result_path.read_text())["n"] ** 2, ({"n": n} for n in range(9)), note
    )
    assert (0, 1) == (next(read), next(read))
    assert 2 == len(store.list())
    assert [4, 9, 16] == list(itertools.islice(read, 3))
    threaded = store.map(lambda run: run.params["n"], [{"n": 7}, {"n": 0}], note, map_fn="threads")
    assert [7, 0] == list(threaded)
    with pytest.raises(SpecError, match="must take a RunRecord"):
        store.map(None, [], note)  # type: ignore[call-overload]


def test_bad_maps(store: Store) -> None:
    """A map that is none is refused at once, as is one mapping in place of many."""
    with pytest.raises(SpecError, match="map_fn"):
        store.sweep([{"n": 1}], note, map_fn="prozesse")
    with pytest.raises(SpecError, match="map_fn_kwargs"):
        store.sweep([{"n": 1}], note, map_fn_kwargs={"workers": 2})
    with pytest.raises(SpecError, match="pass \\[params\\]"):
        store.sweep({"n": 1}, note)  # type: ignore[dict-item]


def test_a_memory_index_and_processes(tmp_path: Path) -> None:
    """Workers only make files; their records come home, also to an index of this process."""
    store = Store(tmp_path, index=MemoryIndex())
    made = list(store.sweep([{"n": n} for n in range(4)], note, map_fn="processes", map_fn_kwargs={"workers": 2}))
    assert made == sorted(store.list(), key=lambda run: run.params["n"])  # listed as they were finished


# --- with caches -----------------------------------------------------------------------------------------------


def test_a_decorated_sweep_as_runner(store: Store, tmp_path: Path) -> None:
    """It is called with the params, computes what is missing, and its cache is the result."""
    memo = ChunkMemo(tmp_path / "memo", {"s": 2}, {"s": [1, 2, 3, 4]}, verbose=0)
    calls: list[list[int]] = []

    @memo.cache()
    def scaled(alpha: float, s: Any) -> Any:
        calls.append(list(s))
        return [alpha * value for value in s]

    first = store.run_or_retrieve({"alpha": 2.0, "s": [1, 2]}, scaled, note="first")
    assert (2, 0, "first") == (
        first.metadata["executed_points"],
        first.metadata["cached_points"],
        first.metadata["note"],
    )
    assert first == store.run_or_retrieve({"alpha": 2.0, "s": [1, 2]}, scaled)
    whole = store.run_or_retrieve({"alpha": 2.0}, scaled)
    assert (2, 2) == (whole.metadata["executed_points"], whole.metadata["cached_points"])
    assert [[1, 2], [3, 4]] == calls
    assert first.result_path == whole.result_path == scaled.cache_for(alpha=2.0).path
    assert [1, 2] == first.params["s"]
    shutil.rmtree(whole.result_path)
    assert 4 == store.run_or_retrieve({"alpha": 2.0}, scaled).metadata["executed_points"]
    assert 4 == store.run({"alpha": 2.0}, scaled).metadata["executed_points"]
    made = list(store.sweep([{"alpha": 3.0}, {"alpha": 2.0}], scaled, map_fn="threads"))
    assert [4, 2] == [record.metadata["executed_points"] for record in made]  # the second is `whole`


def test_another_function_is_no_hit(store: Store, tmp_path: Path) -> None:
    """A record of one decorated function is not given for another, or for other code."""
    memo = ChunkMemo(tmp_path / "memo", {"s": 2}, {"s": [1, 2]}, verbose=0)

    @memo.cache()
    def doubled(s: Any) -> Any:
        return [2 * value for value in s]

    @memo.cache()
    def tripled(s: Any) -> Any:
        return [3 * value for value in s]

    records = [store.run_or_retrieve({}, function) for function in (doubled, tripled, doubled)]
    assert records[0].result_path != records[1].result_path
    assert records[0] == records[2]


def test_a_cache_is_registered(store: Store, tmp_path: Path) -> None:
    """``register`` takes a ChunkCache; its record leads back to the results."""
    memo = ChunkMemo(tmp_path / "memo", {"s": 2}, {"s": [1, 2]}, verbose=0)

    @memo.cache()
    def squared(alpha: int, s: Any) -> Any:
        return [alpha * value**2 for value in s]

    squared(alpha=5)
    cache = squared.cache_for(alpha=5)
    record = store.register({"alpha": 5}, cache)
    assert record == store.retrieve({"alpha": 5})
    assert [] == store.verify()
    assert cache.path == record.result_path
    squared(alpha=5, s=[1, 2, 3], extend_cache=True)
    assert record == store.retrieve({"alpha": 5})  # a cache that grew is no damage


# --- results without a record ----------------------------------------------------------------------------------

ORPHANED = """
import os, signal, sys
from pathlib import Path
from chunk_memo import Store
from chunk_memo.disk.runindex import SQLiteIndex

def runner(params, result_path):
    result_path.write_text("whole")
    result_path.with_suffix(".log").write_text("beside")

SQLiteIndex.insert = lambda self, record: os.kill(os.getpid(), signal.SIGKILL)
getattr(Store(sys.argv[1], sys.argv[2]), sys.argv[3])({"n": 1}, runner, tag="kept")
"""


def forbidden(params: dict[str, Any], result_path: Path) -> None:
    """Fail the test."""
    raise AssertionError("was run again")


def orphaned(tmp_path: Path, method: str = "run_or_retrieve") -> Store:
    """Return a store whose only run was killed between its result's final name and its record."""
    places = str(tmp_path / "results"), str(tmp_path / "runs.db")
    done = subprocess.run([sys.executable, "-c", ORPHANED, *places, method], check=False)
    assert -signal.SIGKILL == done.returncode
    store = Store(*places)
    assert [] == store.list()
    assert {".h5", ".log"} == {path.suffix for path in store.results_dir.iterdir() if path.is_file()}
    return store


def settled(store: Store) -> None:
    """Assert that the killed run is recorded, once, as it would have been."""
    (run,) = store.list()
    assert ("whole", "kept") == (run.result_path.read_text(), run.metadata["tag"])
    assert {"elapsed_seconds", "host", "python"} <= set(run.metadata)
    assert [] == store.verify()
    assert [] == store.recover()
    assert not (store.results_dir / ".runs").exists()
    assert [run] == store.list()


@pytest.mark.parametrize("method", ["run_or_retrieve", "run"])
@pytest.mark.parametrize("way", ["asked", "swept", "mapped", "another", "called"])
def test_a_kill_between_file_and_record(tmp_path: Path, method: str, way: str) -> None:
    """The result is recorded by whoever asks for it, by the next run of any, or by recover(); never redone."""
    store = orphaned(tmp_path, method)
    if way == "asked":
        store.run_or_retrieve({"n": 1}, forbidden)
    elif way == "swept":
        assert 1 == len(list(store.sweep([{"n": 1}], forbidden)))
    elif way == "mapped":
        assert 1 == len(list(store.sweep([{"n": 1}], forbidden, map_fn="threads")))
    elif way == "another":
        store.run({"n": 2}, note)
        store.delete({"n": 2}, remove_file=True)
    else:
        assert [{"n": 1}] == [run.params for run in store.recover()]
    settled(store)


@pytest.mark.parametrize("harm", ["removed", "changed", "registered", "note damaged"])
def test_what_is_not_recorded_after_a_kill(tmp_path: Path, harm: str) -> None:
    """A result that is gone, is another by now, or has a record, gets none; the note of it goes."""
    store = orphaned(tmp_path)
    (path,) = store.results_dir.glob("*.h5")
    if harm == "removed":
        path.unlink()
    elif harm == "changed":
        path.write_text("whose?")
    elif harm == "registered":
        store.register({"n": 1}, path)
    else:
        (noted,) = store.results_dir.glob(".runs/notes/*.json")
        noted.write_bytes(noted.read_bytes()[:-20])
        os.utime(noted, (1e9, 1e9))
    assert [] == store.recover()
    assert (1 if harm == "registered" else 0) == len(store.list())
    assert (harm == "removed") != path.exists()
    assert not (store.results_dir / ".runs").exists()


def test_a_run_that_is_alive_is_not_recorded_by_others(store: Store) -> None:
    """While a process is about to record a result, no other does."""
    insert, found = store.index.insert, list[RunRecord]()

    def watched(record: RunRecord) -> None:
        found.extend(Store(store.results_dir, index=store.index).recover())
        insert(record)

    store.index.insert = watched  # type: ignore[method-assign]
    store.run({"n": 1}, note)
    store.run_or_retrieve({"n": 2}, note)
    assert [] == found
    assert 2 == len(store.list())


DIES = """
import os, signal, sys, time
from pathlib import Path
from chunk_memo import MemoryIndex, Store
from chunk_memo.runwork import RunWork

class Dying(RunWork):
    def carry_out(self, job, keep=None):
        record = super().carry_out(job)
        if job.params["n"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

import chunk_memo.store
chunk_memo.store.RunWork = Dying

def runner(params, result_path):
    with open(sys.argv[1] + ".log", "a") as log:
        log.write(f"{params['n']}\\n")
    result_path.write_text(str(params["n"]))

if __name__ == "__main__":
    store = Store(sys.argv[1], index=MemoryIndex())
    options = {"map_fn": "processes", "map_fn_kwargs": {"workers": 1}}
    runs = list(store.sweep([{"n": n} for n in range(3)], runner, **options))
    print([run.result_path.read_text() for run in runs], len(store.list()))
"""


def test_a_worker_that_is_killed_after_its_result(tmp_path: Path) -> None:
    """The run is taken from what the worker left, and no other worker makes it again."""
    program = tmp_path / "program.py"
    program.write_text(DIES)
    done = subprocess.run(
        [sys.executable, program, tmp_path / "results"], capture_output=True, text=True, check=False
    )
    assert "['0', '1', '2'] 3\n" == done.stdout, done.stderr
    assert ["0", "1", "2"] == sorted((tmp_path / "results.log").read_text().split())


# --- runs that fail --------------------------------------------------------------------------------------------


def inverse(params: dict[str, Any], result_path: Path) -> None:
    """Write what no n of 0 allows."""
    result_path.write_text(str(1 / params["n"]))


@pytest.mark.parametrize("map_fn", [None, "threads", "processes"])
def test_failures_are_recorded(tmp_path: Path, map_fn: str | None) -> None:
    """With on_error="record" a failure stands in its run's place, is kept and shown, and goes with its cause."""
    store = Store(tmp_path / "results", tmp_path / "runs.db")
    asked = [{"n": 2}, {"n": 0}, {"n": 4}, {"n": 0}]
    options: dict[str, Any] = {"map_fn": map_fn} if map_fn else {}
    with pytest.warns(FailureWarning, match=r"2 of 4 runs of 'inverse' failed; store\.failures\(\) lists them"):
        runs = list(store.sweep(asked, inverse, on_error="record", tag="x", **options))
    assert [True, False, True, False] == [bool(run) for run in runs]
    assert [{"n": 2}, {"n": 0}, {"n": 4}, {"n": 0}] == [run.params for run in runs]
    failure = runs[1]
    assert isinstance(failure, RunFailure)
    assert isinstance(failure.exception, ZeroDivisionError)
    assert 2 == len(store.list())
    (kept,) = Store(store.results_dir, tmp_path / "runs.db").failures()
    assert ({"n": 0}, "ZeroDivisionError", "division by zero") == (kept.params, kept.error_type, kept.message)
    assert 'params["n"]' in kept.traceback or map_fn == "processes"
    assert "ZeroDivisionError: division by zero" in str(store.failures())
    assert "division by zero" in store.failures()._repr_html_()
    assert ([], [kept]) == (store.failures({"n": 2}), store.failures(("n", "<", 1)))
    with pytest.warns(FailureWarning, match="1 of 1 runs"):
        (again,) = store.map(lambda run: run.params, [{"n": 0}], inverse, on_error="record", **options)
    assert isinstance(again, RunFailure)
    assert kept.attempts < store.failures()[0].attempts
    assert 1 == len(list(store.sweep([{"n": 0}], note, **options)))
    assert [] == store.failures()
    assert not (store.results_dir / ".failures").exists()


def test_what_no_record_of_failures_hides(tmp_path: Path) -> None:
    """Errors of the caller, of the index, and interrupts are raised; without on_error the first failure is."""

    class Full(MemoryIndex):
        def insert(self, record: RunRecord) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="its record is not"):
        list(Store(tmp_path / "full", index=Full()).sweep([{"n": 1}], note, on_error="record"))
    store = Store(tmp_path / "results", index=MemoryIndex())
    with pytest.raises(IdentityError):
        list(store.sweep([{"n": object()}], note, on_error="record"))
    with pytest.raises(SpecError, match="on_error must be 'raise' or 'record'"):
        store.sweep([{"n": 1}], note, on_error="ignore")  # type: ignore[call-overload]

    def interrupted(params: dict[str, Any], result_path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(store.sweep([{"n": 1}], interrupted, on_error="record"))
    with pytest.raises(ZeroDivisionError):
        list(store.sweep([{"n": 0}], inverse))
    assert [] == store.failures()


# --- remains ---------------------------------------------------------------------------------------------------


def test_remains_of_the_dead_are_removed(store: Store) -> None:
    """What a killed run left is removed by the next one; what is alive is not touched."""
    dead = store.results_dir / ".runs" / ("0" * 32)
    dead.mkdir(parents=True)
    (dead / "half.json").write_text("half")
    with results.workplace(store.results_dir, "a" * 16, ".json") as alive:
        alive.path.write_text("half")
        store.run({"n": 1}, note)
        assert alive.path.exists()
        assert not dead.exists()
    assert 1 == len(left(store))


def test_runs_as_a_table(store: Store) -> None:
    """Runs can be looked at by columns, and say in which params they differ."""
    for n in (1, 2):
        store.run({"n": n, "method": "rk4"} | ({"extra": [1]} if n == 2 else {}), note)
    runs = store.list()
    assert (("n", "method", "extra"), ("n", "extra")) == (runs.params, runs.differing)
    table = runs.table()
    assert ([1, 2], ["rk4", "rk4"], [None, [1]]) == (table["n"], table["method"], table["extra"])
    assert [str(run.result_path) for run in runs] == table["result_path"]
    assert {2} == {len(column) for column in table.values()}


def test_a_damaged_record_names_what_is_missing() -> None:
    """A dict that is no record is refused with what came."""
    with pytest.raises(ValueError, match=r"RunRecord\.to_dict"):
        RunRecord.from_dict({"params": {}})


def test_two_of_one_microsecond(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two results of one name do not overwrite each other."""
    moments = iter([1.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr("chunk_memo.disk.results.time.time", lambda: next(moments, 3.0))
    one, two = store.run({"n": 1}, note), store.run({"n": 1}, note)
    expected = [f"{moment}.000000_{params_hash({'n': 1})}.json" for moment in (1, 2)]
    assert expected == [one.result_path.name, two.result_path.name]


def test_a_store_warns_of_nothing_by_itself(store: Store) -> None:
    """A whole life of a store passes without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started = time.perf_counter()
        store.run_or_retrieve({"n": 1}, note)
        store.delete({"n": 1}, remove_file=True)
        assert time.perf_counter() > started
    assert [] == left(store)


class Unsteady(MemoryIndex):
    """An index that may be down."""

    is_down = False

    def insert(self, record: RunRecord) -> None:
        """Insert, unless it is down."""
        if self.is_down:
            raise OSError(5, "the index is down")
        super().insert(record)


def written(params: Any, result_path: Path) -> None:
    """Write a result."""
    result_path.write_text(str(params["n"]))


@pytest.mark.parametrize("map_fn", [None, "threads"])
def test_an_index_that_comes_back_finds_nobody_waiting(tmp_path: Path, map_fn: str | None) -> None:
    """A run that was made while it was down is asked for again in vain, and recorded when it is up."""
    index = Unsteady()
    index.is_down = True
    store = Store(tmp_path, index=index)
    with pytest.raises(StoreError, match="its record is not"):
        store.run_or_retrieve({"n": 1}, written)
    with pytest.raises(StoreError, match="its record is not"):
        list(store.sweep([{"n": 1}], written, map_fn=map_fn))
    assert not list((tmp_path / ".runs").glob("leases/*"))
    index.is_down = False
    assert "1" == store.run_or_retrieve({"n": 1}, refuses).result_path.read_text()


def refuses(params: Any, result_path: Path) -> None:
    """Stand where nothing is to be run."""
    raise AssertionError(params)


def test_what_an_index_refuses_is_in_nobody_s_way(tmp_path: Path) -> None:
    """A result that could not be recorded raises in its own run; others are made, and go on being made."""

    class Choosy(Unsteady):
        def insert(self, record: RunRecord) -> None:
            self.is_down = record.params["n"] == 1
            super().insert(record)

    with pytest.raises(StoreError, match="its record is not"):
        Store(tmp_path, index=Choosy()).run_or_retrieve({"n": 1}, written)
    store = Store(tmp_path, index=Choosy())
    assert {"n": 2} == store.run_or_retrieve({"n": 2}, written).params
    assert 2 == len(list(store.sweep([{"n": 3}, {"n": 4}], written, map_fn="threads")))
    with pytest.raises(StoreError, match="its record is not"):
        store.recover()


def test_deleted_records_do_not_come_back(tmp_path: Path) -> None:
    """Not even where the index took a record and failed to say so."""

    class Mute(Unsteady):
        def insert(self, record: RunRecord) -> None:
            MemoryIndex.insert(self, record)
            if self.is_down:
                raise OSError(5, "connection lost")

    index = Mute()
    index.is_down = True
    store = Store(tmp_path, index=index)
    with pytest.raises(StoreError):
        store.run_or_retrieve({"n": 1}, written)
    index.is_down = False
    assert store.delete({"n": 1})
    assert [] == list(store.recover())
    made = []
    store.run_or_retrieve({"n": 1}, lambda params, path: made.append(path.write_text("again")))
    assert 1 == len(made)
