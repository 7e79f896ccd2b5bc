"""Checkpoints: exact, whole, never without a good one; nothing in a damaged or foreign file runs."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from workers import ENVIRONMENT

from chunk_memo.cli import main
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.encoding import encode
from chunk_memo.errors import (
    CheckpointNotFoundError,
    ChunkFormatError,
    ChunkMemoWarning,
    DamageWarning,
    EncodingError,
    PickleRefusedError,
    PickleWarning,
    SpecError,
    UntrustedPickleError,
)
from chunk_memo.lab import (
    AutoCheckpoint,
    CheckpointManager,
    Terminated,
    backup_checkpoint,
    resume_from_checkpoint,
)
from chunk_memo.lab.checkpoint import verify_checkpoint


class Model:
    """An object that only a pickle can hold."""

    def __init__(self, weight: float) -> None:
        self.weight = weight


class Evil:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


GOOD_LABEL = b'{"experiment_name": "exp", "iteration": 1, "checkpoint_id": "x", "sequence": 2, "metadata": {}}'


def invoked(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, list(map(str, arguments)))


# --- what a file is ----------------------------------------------------------------------------------------


def test_h5py_reads_the_arrays_of_a_state(tmp_path: Path) -> None:
    """Each array and number of the state is a dataset of its name and shape."""
    theta = np.arange(6.0).reshape(2, 3)
    state = {"theta": theta, "loss": 0.5, "opt": {"m": theta[0]}, "name": "run"}
    path = CheckpointManager(tmp_path, "exp").save_checkpoint(state, 1)
    with h5py.File(path) as file:
        assert np.array_equal(theta, file["theta"][()])
        assert 0.5 == file["loss"][()]
        assert np.array_equal(theta[0], file["opt_m"][()])
        assert b"exp" == file.attrs["title"]


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=12,
    )
)
def test_states_come_back_exactly(state: Any) -> None:
    """With their types, whatever they are made of; and so do metadata."""
    with files_in_memory() as folder:
        manager = CheckpointManager(folder, "exp", durability="fast", save_rng=False)
        manager.save_checkpoint(state, 1, {"state": state})
        found = manager.load_checkpoint()
    assert repr(state) == repr(found["state"])
    assert repr(state) == repr(found["metadata"]["state"])


class files_in_memory:
    """A temporary folder, in memory where the system has one there."""

    def __enter__(self) -> Path:
        import tempfile

        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
        return self.folder

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder)


def test_a_large_state_is_stored_and_read_piece_by_piece(tmp_path: Path) -> None:
    """Compression packs it, and changes nothing else."""
    state = {"a": np.zeros(1_000_000), "b": np.arange(300_000)}
    plain = CheckpointManager(tmp_path, "plain").save_checkpoint(state, 1)
    packed = CheckpointManager(tmp_path, "packed", compression="gzip").save_checkpoint(state, 1)
    assert plain.stat().st_size > 8_000_000 > 20 * packed.stat().st_size
    for path in (plain, packed):
        found = resume_from_checkpoint(path)["state"]
        assert all(np.array_equal(array, found[name]) for name, array in state.items())


def test_the_file_belongs_to_its_user(tmp_path: Path) -> None:
    """It gets the mode that the umask leaves, or that of the file it replaces."""
    before = os.umask(0o027)
    try:
        manager = CheckpointManager(tmp_path, "exp")
        path = manager.save_checkpoint({}, 1)
        assert 0o640 == path.stat().st_mode & 0o777
        path.chmod(0o604)
        manager.save_checkpoint({}, 1)
        assert 0o604 == path.stat().st_mode & 0o777
    finally:
        os.umask(before)


# --- saving ------------------------------------------------------------------------------------------------


def test_a_state_that_cannot_be_saved_changes_nothing(tmp_path: Path) -> None:
    """The error says where in the state it lies; what was saved before is there."""
    manager = CheckpointManager(tmp_path, "exp")
    manager.save_checkpoint({"i": 1}, 1)
    before = sorted(path.name for path in tmp_path.iterdir())
    for state in ({"i": 2, "f": lambda: 0}, {"i": 2, "deep": [{"lock": threading.Lock()}]}):
        with pytest.raises(EncodingError, match=r"state\[0\]\['(f|deep)'\]"):
            manager.save_checkpoint(state, 2)
    with pytest.raises(PickleRefusedError, match="Model"):
        CheckpointManager(tmp_path, "exp", allow_pickle=False).save_checkpoint({"m": Model(1)}, 2)
    assert before == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A full disk or a failing device: the old checkpoint of that iteration is whole, nothing is left behind."""
    manager = CheckpointManager(tmp_path, "exp", keep_last_n=1)
    manager.save_checkpoint({"i": "old"}, 1)
    fired = []

    def fail(*arguments: Any, **options: Any) -> Any:
        fired.append(at)
        raise OSError(28, "No space left on device")

    names = {"write": ["write", "writev"], "fsync": ["fsync"], "replace": ["replace"]}
    with monkeypatch.context() as patch:
        for name in names[at]:
            patch.setattr(os, name, fail)
        with pytest.raises(OSError, match="No space left"):
            manager.save_checkpoint({"i": "new"}, 1)
    assert fired
    assert {"exp_iter_000001.ckpt", "exp_index.json"} == {path.name for path in tmp_path.iterdir()}
    assert "old" == CheckpointManager(tmp_path, "exp").load_checkpoint()["state"]["i"]


def test_the_last_good_one_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what was written since cannot be read back, nothing that can be is removed."""
    manager = CheckpointManager(tmp_path, "exp", keep_last_n=2)
    manager.save_checkpoint({"i": 0, "x": np.arange(20000)}, 0)
    real = files.save

    def rotten(target: Any, buffers: Any, *arguments: Any, **options: Any) -> None:
        data = bytearray(b"".join(buffers))
        if str(target).endswith(".ckpt"):
            data[-50_000] ^= 1
        real(target, [data], *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(files, "save", rotten)
        for iteration in range(1, 6):
            manager.save_checkpoint({"i": iteration, "x": np.arange(20000)}, iteration)
    assert 0 in [info.iteration for info in manager.infos()]
    with pytest.warns(DamageWarning) as told:
        assert 0 == manager.load_checkpoint()["state"]["i"]
    assert 5 == len(told)
    manager.save_checkpoint({"i": 6}, 6)
    assert [5, 6] == [info.iteration for info in manager.infos()]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """Unfinished files of processes that are gone; those of others at work stay."""
    manager = CheckpointManager(tmp_path, "exp")
    manager.save_checkpoint({}, 1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    from chunk_memo.lab import checkpoint

    host = checkpoint._HOST
    left = [tmp_path / f".tmp-{pid}-{host}-{'0' * 32}" for pid in (gone.pid, os.getppid())]
    left.append(tmp_path / f".tmp-{gone.pid}-00000000-{'0' * 32}")
    for path in left:
        path.touch()
    manager.save_checkpoint({}, 2)
    assert [False, True, True] == [path.exists() for path in left]
    os.utime(left[2], (0, 0))
    manager.save_checkpoint({}, 3)
    assert [False, True, False] == [path.exists() for path in left]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"experiment_name": "../exp"}, "experiment_name"),
        ({"experiment_name": "a/b"}, "experiment_name"),
        ({"experiment_name": ""}, "experiment_name"),
        ({"experiment_name": "a\nb"}, "experiment_name"),
        ({"experiment_name": 5}, "experiment_name"),
        ({"keep_last_n": -1}, "keep_last_n"),
        ({"save_frequency": 0}, "save_frequency"),
        ({"save_frequency": 2.5}, "save_frequency"),
        ({"save_every_seconds": 0}, "save_every_seconds"),
        ({"compression": "rar"}, "compression"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], named: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(SpecError, match=f"{named}.*(expected|must be)"):
        CheckpointManager(**{"checkpoint_dir": tmp_path, "experiment_name": "exp", **arguments})


@pytest.mark.parametrize("iteration", [-1, 1.5, True, "5"])
def test_bad_iterations_are_named(tmp_path: Path, iteration: Any) -> None:
    """They are ints of 0 or more; NumPy's will do."""
    manager = CheckpointManager(tmp_path, "exp")
    with pytest.raises(SpecError, match="'iteration': expected an int of 0 or more"):
        manager.save_checkpoint({}, iteration)
    assert "exp_iter_000007.ckpt" == manager.save_checkpoint({}, np.int64(7)).name  # type: ignore[arg-type]


def test_processes_save_at_the_same_time(tmp_path: Path) -> None:
    """Several processes of one experiment in one folder disturb nothing, and the last n are kept."""
    program = (
        "import sys; from chunk_memo.lab import CheckpointManager\n"
        f"manager = CheckpointManager({str(tmp_path)!r}, 'exp', keep_last_n=3, durability='fast')\n"
        "for i in range(20):\n"
        "    manager.save_checkpoint({'i': i}, 20 * int(sys.argv[1]) + i)\n"
        "    manager.load_checkpoint()\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program, str(number)], env=ENVIRONMENT)
        for number in range(2)
    ]
    assert [0, 0] == [each.wait() for each in running]
    assert len(CheckpointManager(tmp_path, "exp").list_checkpoints()) in (3, 4)
    assert all(error is None for error in CheckpointManager(tmp_path, "exp").verify().values())


def test_all_can_be_removed(tmp_path: Path) -> None:
    """Only when it is asked for, and only those of the experiment."""
    for name in ("exp", "exp2"):
        CheckpointManager(tmp_path, name).save_checkpoint({}, 1)
    assert 1 == CheckpointManager(tmp_path, "exp").delete_all_checkpoints()
    assert ["exp2_index.json", "exp2_iter_000001.ckpt"] == sorted(path.name for path in tmp_path.iterdir())


# --- damage ------------------------------------------------------------------------------------------------


def damages(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """Return a file's bytes, damaged in one of many ways."""
    at = dice.randrange(len(data))
    kind = dice.randrange(7)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        page = at // 4096 * 4096
        return data[:page] + bytes(min(4096, len(data) - page)) + data[page + 4096 :]
    if kind == 3:
        return data + dice.randbytes(1 + at % 99)
    if kind == 4:
        return dice.randbytes(at)
    if kind == 5:
        return data[:at] + other[at:]
    return data[at:] + data[:at]


pickles_are_expected = pytest.mark.filterwarnings("ignore::chunk_memo.errors.PickleWarning")


def damage(folder: Path, count: int, seed: int) -> Counter[str]:
    """Damage the newest of three checkpoints again and again; count what loading it came to."""
    dice, outcomes = random.Random(seed), Counter[str]()
    manager = CheckpointManager(folder, "exp", durability="fast")
    for iteration in range(3):
        state = {
            "i": iteration,
            "theta": np.full(300 * iteration, iteration + 0.5),
            "rng": np.random.PCG64(iteration),
        }
        if iteration != 1:
            state["model"] = Model(iteration)
        path = manager.save_checkpoint(state, iteration)
    newest, middle = path.read_bytes(), manager.list_checkpoints()[1].read_bytes()
    for _ in range(count):
        path.write_bytes(damages(dice, newest, middle))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = CheckpointManager(folder, "exp").load_checkpoint()["state"]
        if found["i"] == 2:  # what was damaged is no part of the state
            assert 300 * 2 * [2.5] == found["theta"].tolist()
            assert (2, []) == (found["model"].weight, told)
            outcomes["harmless"] += 1
        else:
            assert (1, 300 * [1.5]) == (found["i"], found["theta"].tolist())
            assert [DamageWarning] == [warning.category for warning in told]
            outcomes["older one"] += 1
        with (
            pytest.raises((ChunkFormatError, PickleRefusedError)) if found["i"] < 2 else warnings.catch_warnings()
        ):
            resume_from_checkpoint(path)
    return outcomes


@pickles_are_expected
def test_damaged_files_fall_back(tmp_path: Path) -> None:
    """Flipped, cut, zeroed, spliced: the checkpoint before, with one warning; never a wrong state."""
    outcomes = damage(tmp_path, 120, 1)
    assert outcomes["older one"] > 90


@pytest.mark.long
@pickles_are_expected
def test_damaged_files_fall_back_long(tmp_path: Path) -> None:
    """The same for 1,000 files of each of three seeds."""
    for seed in range(3):
        outcomes = damage(tmp_path / str(seed), 1000, seed)
        assert outcomes["older one"] > 750


def test_where_all_are_damaged_nobody_begins_anew_by_mistake(tmp_path: Path) -> None:
    """It is a ValueError that names each, not the FileNotFoundError on which programs begin anew."""
    manager = CheckpointManager(tmp_path, "exp")
    for iteration in range(2):
        manager.save_checkpoint({}, iteration).write_bytes(b"no checkpoint")
    with pytest.raises(ChunkFormatError, match=r"none of the 2 checkpoints of 'exp'.*delete_all") as caught:
        CheckpointManager(tmp_path, "exp").load_checkpoint()
    assert not isinstance(caught.value, FileNotFoundError)


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    """A chunk of a cache, or a folder, under the name of a checkpoint is told apart."""
    content = chunkfile.Content({"kind": "list"}, b"id", {"a": np.zeros(3)}, {}, {}, 0, 0.0)
    (tmp_path / "exp_iter_000001.ckpt").write_bytes(b"".join(chunkfile.image(content)))
    (tmp_path / "exp_iter_000002.ckpt").mkdir()
    with pytest.raises(ChunkFormatError, match="is no checkpoint"):
        CheckpointManager(tmp_path, "exp").load_checkpoint()
    CheckpointManager(tmp_path, "exp").save_checkpoint({}, 3)
    with pytest.warns(DamageWarning):
        assert 3 == CheckpointManager(tmp_path, "exp").load_checkpoint()["iteration"]


@pytest.mark.parametrize(
    ("label", "constant"),
    [
        (b"[1]", {}),
        (
            b'{"experiment_name": "exp", "iteration": 1, "checkpoint_id": "", "sequence": 1e999, "metadata": {}}',
            {},
        ),
        (b'{"experiment_name": "exp", "iteration": [], "checkpoint_id": "", "sequence": 1, "metadata": {}}', {}),
        (GOOD_LABEL, {"state": 5}),
        (GOOD_LABEL, {"state": {"tree": {"k": "pickle"}, "arrays": {}}}),
        (GOOD_LABEL, {"state": {"tree": [], "arrays": {"a": 5}}}),
        (GOOD_LABEL, {"state": {"tree": [], "arrays": {"a": ["none", True]}}}),
        (
            GOOD_LABEL,
            {"state": {"tree": {"k": "none"}, "arrays": {}}, "extra": {"tree": {"k": "none"}, "arrays": {}}},
        ),
    ],
)
def test_malformed_content_is_a_clear_error(tmp_path: Path, label: bytes, constant: dict[str, Any]) -> None:
    """Checksums hold, and what they guard is nonsense: a ChunkFormatError, and the older one is loaded."""
    CheckpointManager(tmp_path, "exp").save_checkpoint({"i": 0}, 0)
    path = tmp_path / "exp_iter_000001.ckpt"
    content = chunkfile.Content({"kind": "checkpoint", **constant}, label, {"a": np.zeros(3)}, {}, {}, 0, 0.0)
    path.write_bytes(b"".join(chunkfile.image(content)))
    with pytest.raises(ChunkFormatError):
        resume_from_checkpoint(path)
    with pytest.warns(DamageWarning):
        assert {"i": 0} == CheckpointManager(tmp_path, "exp").load_checkpoint()["state"]


# --- pickles -----------------------------------------------------------------------------------------------


def test_own_objects_are_signed_pickles(tmp_path: Path) -> None:
    """They come back; not where pickles are refused, nor under another user's key."""
    manager = CheckpointManager(tmp_path, "exp")
    with pytest.warns(PickleWarning, match=r"'model': test_checkpoints:Model"):
        path = manager.save_checkpoint({"model": Model(0.5), "x": 1}, 1)
    path = manager.save_checkpoint({"model": Model(0.5), "x": 1}, 1)
    assert 0.5 == manager.load_checkpoint()["state"]["model"].weight
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        CheckpointManager(tmp_path, "exp", allow_pickle=False).load_checkpoint()
    with foreign_key(tmp_path / "other"), pytest.raises(PickleRefusedError, match="neither yours nor trusted"):
        resume_from_checkpoint(path)


@contextlib.contextmanager
def foreign_key(folder: Path) -> Iterator[None]:
    """Let another user's key be the one in use, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNK_MEMO_CONFIG", str(folder))
        yield


def forged(path: Path, state: Any, signature: Callable[[dict[str, Any], Any], None] | None = None) -> None:
    """Write a checkpoint file, intact by its checksums, that holds pickles nobody signed."""
    with chunkfile.load(path) as chunk:
        label = chunk.identity
    constant: dict[str, Any] = {"kind": "checkpoint", "format": 1}
    arrays: dict[str, Any] = {}
    for part, value in (("state", state), ("extra", {"metadata": {}, "rng": None})):
        encoded = encode([value], allow_pickle=True)
        names = {name: f"{part}/{name}" for name in encoded.arrays}
        arrays |= {names[name]: array for name, array in encoded.arrays.items()}
        constant[part] = {"tree": encoded.tree, "arrays": {name: [names[name], False] for name in names}}
        for name in arrays:
            if signature is not None and name.endswith(".signature"):
                signature(arrays, name)
    content = chunkfile.Content(constant, label, arrays, {}, {}, 0, 0.0)
    path.write_bytes(b"".join(chunkfile.image(content)))


@pickles_are_expected
def test_nothing_in_a_foreign_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsigned, signed at random, with another pickle's signature, or by another key: no byte is unpickled."""
    trap = tmp_path / "sprung"
    manager = CheckpointManager(tmp_path / "mine", "exp")
    manager.save_checkpoint({"i": 0}, 0)
    good = manager.save_checkpoint({"i": 1, "evil": Model(1)}, 1)
    with chunkfile.load(good) as chunk:
        [name] = [name for name in chunk.names if name.endswith(".signature")]
        signed = chunk.array(name)

    def take(arrays: dict[str, Any], name: str) -> None:
        arrays[name] = signed.reshape(arrays[name].shape)

    def at_random(arrays: dict[str, Any], name: str) -> None:
        arrays[name] = np.random.default_rng(1).integers(1, 255, arrays[name].shape, np.uint8)

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail("a pickle was opened")

    newest = manager.checkpoint_dir / "exp_iter_000002.ckpt"
    files_of_others = []
    for signature in (None, take, at_random):
        shutil.copy(good, newest)
        forged(newest, {"evil": Evil(trap)}, signature)
        files_of_others.append(newest.read_bytes())
    with foreign_key(tmp_path / "other"):
        other = CheckpointManager(tmp_path / "theirs", "exp").save_checkpoint({"evil": Evil(trap)}, 2)
    files_of_others.append(other.read_bytes())
    files_of_others.append(pickle.dumps({"state": Evil(trap)}))

    kinds: list[type[BaseException]] = []
    with monkeypatch.context() as patch:
        patch.setattr(pickle, "loads", refuse)
        patch.setattr(pickle, "load", refuse)
        for data in files_of_others:
            newest.write_bytes(data)
            with pytest.raises((PickleRefusedError, ChunkFormatError)) as refused:
                resume_from_checkpoint(newest)
            kinds.append(refused.type)
            assert 3 == len(manager.verify())
        good.unlink()
        for data in files_of_others:
            newest.write_bytes(data)
            with pytest.warns(DamageWarning, match="exp_iter_000002"):
                assert {"i": 0} == CheckpointManager(tmp_path / "mine", "exp").load_checkpoint()["state"]
    assert [UntrustedPickleError] * 4 + [ChunkFormatError] == kinds
    assert not trap.exists()
    newest.unlink()
    manager.save_checkpoint({"evil": Evil(trap)}, 3)
    manager.load_checkpoint()
    assert trap.exists()  # one's own do run, so the trap was set


# --- on the way out ----------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, threading
from chunk_memo.lab import AutoCheckpoint, CheckpointManager, ExperimentLogger
folder, how = sys.argv[1:]
manager = CheckpointManager(folder, "exp")
state = {"iteration": 41}
if how == "handled":
    signal.signal(signal.SIGTERM, lambda *_: print("handler called"))
if how == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    with ExperimentLogger("exp", folder, log_to_console=False), AutoCheckpoint(manager, lambda: state):
        with AutoCheckpoint(CheckpointManager(folder, "inner"), lambda: state):
            state["iteration"] += 1
            try:
                if how == "error":
                    raise ValueError("no convergence")
                os.kill(os.getpid(), signal.SIGINT if how == "interrupt" else signal.SIGTERM)
                signal.pause() if how != "ignored" else None
            except Exception:
                if how != "error":
                    print("swallowed")
                raise
finally:
    print("cleaned up")
print("went on")
"""


@pytest.mark.parametrize(
    ("how", "code", "printed", "status", "error"),
    [
        ("error", 1, ["cleaned up"], "failed", "ValueError"),
        ("interrupt", -signal.SIGINT, ["cleaned up"], "interrupted", "KeyboardInterrupt"),
        ("terminate", -signal.SIGTERM, ["cleaned up"], "interrupted", "Terminated"),
        ("handled", 143, ["handler called", "cleaned up"], "interrupted", "Terminated"),
        ("ignored", 0, ["cleaned up", "went on"], "completed", None),
    ],
)
def test_each_way_out_leaves_a_checkpoint(
    tmp_path: Path, how: str, code: int, printed: list[str], status: str, error: str | None
) -> None:
    """And passes: the program ends as it would have, outer blocks run, and the log says so."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), how]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert code == done.returncode, done.stderr
    assert printed == done.stdout.splitlines()
    for name in ("exp", "inner"):
        manager = CheckpointManager(tmp_path, name)
        if error is None:
            assert [] == manager.list_checkpoints()
            continue
        found = manager.load_checkpoint()
        assert (42, {"iteration": 42}) == (found["iteration"], found["state"])
        assert (error, True) == (found["metadata"]["error_type"], found["metadata"]["interrupted"])
    lines = (tmp_path / "exp_structured.jsonl").read_text().splitlines()
    assert status == json.loads(lines[-1])["data"]["status"]


def test_a_state_that_cannot_be_saved_hides_no_error(tmp_path: Path) -> None:
    """The block's own error passes, with a note and a warning on what went wrong besides."""
    manager = CheckpointManager(tmp_path, "exp")
    for get_state in (lambda: {"f": lambda: 0}, lambda: 1 / 0):
        with (
            pytest.raises(KeyError) as caught,
            pytest.warns(ChunkMemoWarning, match="no checkpoint was saved"),
            AutoCheckpoint(manager, get_state),
        ):
            raise KeyError("own")
        assert "no checkpoint was saved on the way out" in caught.value.__notes__[0]
    with pytest.raises(KeyError), AutoCheckpoint(manager, lambda: 1 / 0):  # here warnings are errors
        raise KeyError("own")


def test_a_checkpoint_on_the_way_out_replaces_none(tmp_path: Path) -> None:
    """The state of a broken iteration stands beside the one that was saved of it, and is the newest."""
    manager = CheckpointManager(tmp_path, "exp")
    manager.save_checkpoint({"iteration": 5, "sound": True}, 5)
    with pytest.raises(RuntimeError), AutoCheckpoint(manager, lambda: {"iteration": 5, "sound": False}):
        raise RuntimeError
    assert [True, False] == [manager.load_checkpoint(p)["state"]["sound"] for p in manager.list_checkpoints()]


def test_threads_and_signals(tmp_path: Path) -> None:
    """In other threads exceptions are caught all the same; handlers are as before once the block has ended."""
    manager, raised = CheckpointManager(tmp_path, "exp"), []

    def work() -> None:
        try:
            with AutoCheckpoint(manager, lambda: {"iteration": 1}):
                raise ValueError
        except ValueError as error:
            raised.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (1, 1) == (len(raised), len(manager.list_checkpoints()))
    with AutoCheckpoint(manager, dict):
        assert before != signal.getsignal(signal.SIGTERM)
    assert before == signal.getsignal(signal.SIGTERM)
    assert 143 == Terminated(signal.SIGTERM).code


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_lists_verifies_and_backs_up(tmp_path: Path) -> None:
    """For people and as JSON; damaged files are told, and left out of a backup."""
    folder = tmp_path / "checkpoints"
    for name in ("exp", "exp2"):
        for iteration in (100, 200):
            path = CheckpointManager(folder, name).save_checkpoint({"x": np.zeros(20000)}, iteration, {"n": 1})
    listed = invoked("checkpoints", "ls", folder)
    assert (0, 5) == (listed.exit_code, len(listed.output.splitlines()))
    assert ["file", "iteration", "saved", "at", "(UTC)", "size"] == listed.output.splitlines()[0].split()
    [row] = json.loads(invoked("checkpoints", "ls", folder, "--name", "exp", "--json").output)[:1]
    assert ("exp", "exp_iter_000100.ckpt", 100, {"n": 1}) == (
        row["experiment"],
        row["file"],
        row["iteration"],
        row["metadata"],
    )
    assert (0, "4 checkpoints, 0 damaged") == (
        invoked("checkpoints", "verify", folder).exit_code,
        invoked("checkpoints", "verify", folder).output.splitlines()[-1],
    )
    assert 0 == invoked("checkpoints", "backup", folder, tmp_path / "copies").exit_code
    assert 4 == len(list((tmp_path / "copies").glob("*.ckpt")))

    data = path.read_bytes()
    path.write_bytes(data[:99_999] + b"x" + data[100_000:])
    verified = invoked("checkpoints", "verify", folder)
    assert (1, "4 checkpoints, 1 damaged") == (verified.exit_code, verified.output.splitlines()[-1])
    assert "exp2_iter_000200.ckpt  DAMAGED" in verified.output
    found = json.loads(invoked("checkpoints", "verify", folder, "--json").output)
    assert [True, True, True, False] == [row["ok"] for row in found]
    backed = invoked("checkpoints", "backup", folder, tmp_path / "others", "--json")
    assert (1, 3) == (backed.exit_code, len(list((tmp_path / "others").glob("*.ckpt"))))
    assert ["exp2_iter_000200.ckpt"] == [row["file"] for row in json.loads(backed.output) if row["error"]]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """A folder that is not there, an experiment that is not in it, a suffix that means nothing: exit code 2."""
    assert 2 == invoked("checkpoints", "ls", tmp_path / "none").exit_code
    CheckpointManager(tmp_path, "exp").save_checkpoint({}, 1)
    wrong = invoked("checkpoints", "verify", tmp_path, "--name", "ex")
    assert 2 == wrong.exit_code
    assert "no checkpoints of 'ex'" in wrong.output
    assert 2 == invoked("checkpoints", "ls", tmp_path, "--save-results", tmp_path / "x.xls").exit_code


def test_a_backup_of_nothing_is_an_error(tmp_path: Path) -> None:
    """A damaged checkpoint is not copied, a missing one is named."""
    path = CheckpointManager(tmp_path, "exp").save_checkpoint({}, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChunkFormatError):
        backup_checkpoint(path, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()
    with pytest.raises(CheckpointNotFoundError, match="no such file"):
        verify_checkpoint(tmp_path / "nothing.ckpt")
