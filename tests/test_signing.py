"""Pickles load only where a key that may be believed signed them, for the very place where they lie."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_memo import (
    ChunkCache,
    ChunkMemo,
    DamageWarning,
    EncodingError,
    KeyFileError,
    PickleRefusedError,
    PickleWarning,
    SpecError,
    StoreError,
    UntrustedPickleError,
    run,
    writing,
)
from chunk_memo.disk import chunkfile, signing
from chunk_memo.disk.encoding import pickled_parts

AXES = {"s": [1, 2, 3]}

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has neither owners nor modes in this sense")


class Model:
    """A result without a native form."""

    def __init__(self, size: int) -> None:
        self.size = size


def models(s: list[int]) -> list[Model]:
    """Return objects that can only be pickled."""
    return [Model(value) for value in s]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of configuration that is this test's own."""
    monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def other_user(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes this process somebody else, with a key of their own."""

    def become() -> None:
        monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / "other"))

    return become


def sizes(output: list[Model]) -> list[int]:
    """Return what tells models apart."""
    return [model.size for model in output]


def store(root: Path, **options: Any) -> Any:
    """Return the decorated function, of which everything is stored."""
    settings: dict[str, Any] = {"chunk_spec": {"s": 2}, "axis_values": AXES, "verbose": 0}
    function = ChunkMemo(root, **settings | options).cache()(models)
    with pytest.warns(PickleWarning):
        function()
    return function


def opened(root: Path, **options: Any) -> Any:
    """Return the decorated function as a program that starts anew has it."""
    settings: dict[str, Any] = {"chunk_spec": {"s": 2}, "axis_values": AXES, "verbose": 0}
    return ChunkMemo(root, **settings | options).cache()(models)


def chunk_files(root: Path) -> list[Path]:
    """Return the complete files of the one cache in a root."""
    return sorted(root.glob("*/chunks/*.h5"))


# --- own pickles ----------------------------------------------------------------------------------------------


def test_own_pickles_just_work(tmp_path: Path, config: Path) -> None:
    """What this user pickled comes back, in this object and in one that starts anew."""
    function = store(tmp_path / "root")
    for again in (function, opened(tmp_path / "root")):
        output, diagnostics = again()
        assert ([1, 2, 3], 0) == (sizes(output), diagnostics.executed_points)
    assert (config / "key").is_file()
    assert 0o600 == stat.S_IMODE((config / "key").stat().st_mode)
    assert 0o700 == stat.S_IMODE(config.stat().st_mode)


def test_no_key_is_made_where_nothing_is_pickled(tmp_path: Path, config: Path) -> None:
    """Arrays and plain values need no key."""
    memo = ChunkMemo(tmp_path / "root", {"s": 2}, AXES, verbose=0)
    function = memo.cache()(lambda s: [2 * value for value in s])
    assert [2, 4, 6] == function()[0] == function()[0]
    assert not config.exists()


def test_parts_and_folds_are_signed(tmp_path: Path, config: Path) -> None:
    """Points that come one by one lie in signed parts, and fold into a signed file."""
    cache = ChunkCache(tmp_path / "root", "some", axis_values=AXES, chunk_spec={"s": 3}, verbose=0)
    with pytest.warns(PickleWarning):
        run(cache.slice(s=[1]), models)
    assert [path.suffix for path in (tmp_path / "root/some/chunks").iterdir()] == [".parts"]
    run(cache.slice(s=[3]), models)
    assert [1, 3] == sizes(run(cache.slice(s=[1, 3]), models)[0])
    output, diagnostics = run(cache, models)
    assert ([1, 2, 3], 1) == (sizes(output), diagnostics.executed_points)
    again = ChunkCache(tmp_path / "root", "some", axis_values=AXES, chunk_spec={"s": 3}, verbose=0)
    output, diagnostics = run(again, models)
    assert ([1, 2, 3], 0) == (sizes(output), diagnostics.executed_points)


def test_an_opaque_output_is_signed(tmp_path: Path, config: Path) -> None:
    """An output that stands for a whole chunk is pickled and signed as any other."""
    memo = ChunkMemo(tmp_path / "root", {"s": 3}, AXES, verbose=0)
    function = memo.cache(outputs="opaque")(lambda s: Model(sum(s)))
    with pytest.warns(PickleWarning):
        function()
    output, diagnostics = function()
    assert ([6], 0) == (sizes(output), diagnostics.executed_points)


def test_workers_sign_with_a_key_for_their_cache_alone(tmp_path: Path, config: Path) -> None:
    """One warning for all workers; what travels to them is not the key."""
    memo = ChunkMemo(tmp_path / "root", {"s": 1}, AXES, verbose=0)
    function = memo.cache(map_fn="processes", map_fn_kwargs={"workers": 2})(models)
    with pytest.warns(PickleWarning) as caught:
        output, _ = function()
    assert ([1, 2, 3], 1) == (sizes(output), len(caught))
    assert ([1, 2, 3], 0) == (sizes(function()[0]), function()[1].executed_points)
    key = signing.own_key()
    assert key is not None
    sent = pickle.dumps(signing.Signer("cache some"))
    assert key.secret not in sent
    assert key.scoped("cache some").secret in sent


# --- pickles of others ----------------------------------------------------------------------------------------


def test_pickles_of_others_never_load(tmp_path: Path, other_user: Callable[[], None]) -> None:
    """The error names the key, how to trust it, and how to compute again; nothing is computed in silence."""
    store(tmp_path / "root")
    key = signing.own_key()
    assert key is not None
    other_user()
    with pytest.raises(UntrustedPickleError, match=key.key_id) as caught:
        opened(tmp_path / "root")()
    for word in ("test_signing:Model", "neither yours nor trusted", "key trust FILE", "refresh=True"):
        assert word in str(caught.value)
    assert isinstance(caught.value, PickleRefusedError | EncodingError)
    _tell_again()
    with pytest.warns(PickleWarning):
        output, diagnostics = opened(tmp_path / "root")(refresh=True)
    assert ([1, 2, 3], 3) == (sizes(output), diagnostics.executed_points)


def _tell_again() -> None:
    """Let the warning of pickles be given again, as in a new program."""
    writing._TOLD.clear()


def test_a_trusted_key_opens_them(tmp_path: Path, other_user: Callable[[], None]) -> None:
    """Export, trust, revoke: the three steps of lending one's pickles."""
    store(tmp_path / "root")
    key_id = signing.export_key(tmp_path / "exported")
    assert 0o600 == stat.S_IMODE((tmp_path / "exported").stat().st_mode)
    other_user()
    assert key_id == signing.trust(tmp_path / "exported", key_id)
    assert [key_id] == signing.trusted_keys()
    output, diagnostics = opened(tmp_path / "root")()
    assert ([1, 2, 3], 0) == (sizes(output), diagnostics.executed_points)
    assert signing.revoke(key_id)
    assert not signing.revoke(key_id)
    with pytest.raises(UntrustedPickleError, match=key_id):
        opened(tmp_path / "root")()


def test_trust_asks_for_a_key(tmp_path: Path, config: Path) -> None:
    """A file without a key, a file with another key, and an id that is none are refused."""
    (tmp_path / "file").write_text("no key")
    with pytest.raises(SpecError, match="holds no key"):
        signing.trust(tmp_path / "file")
    signing.export_key(tmp_path / "exported")
    with pytest.raises(SpecError, match="expected 0123456789abcdef"):
        signing.trust(tmp_path / "exported", "0123456789abcdef")
    with pytest.raises(FileExistsError, match="over an existing file"):
        signing.export_key(tmp_path / "exported")
    with pytest.raises(SpecError, match=r"16 hex characters, got '\.\./key'"):
        signing.revoke("../key")
    assert (config / "key").is_file()


def test_unsigned_and_moved_pickles_never_load(tmp_path: Path, config: Path) -> None:
    """A pickle without a signature, and a signed one at another place, are refused; a gadget does not run."""
    for kept, reason in ((False, "are not signed"), (True, "does not hold")):
        root = tmp_path / f"root {kept}"
        store(root)
        _forge(root, kept=kept)
        with pytest.raises(UntrustedPickleError, match=reason):
            opened(root)()
    assert not (tmp_path / "owned").exists()


class Gadget:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        """Return a call that leaves a trace."""
        return os.mkdir, (str(self.path),)


def _forge(root: Path, *, kept: bool) -> None:
    """Write files anew with other pickles in them, all checksums right."""
    gadget = pickle.dumps(Gadget(root.parent / "owned"))
    for path in chunk_files(root):
        with chunkfile.load(path) as chunk:
            arrays = {name: chunk.array(name) for name in chunk.names}
            coords: dict[str, Any] = {name: chunk.coords(name) for name in chunk.sizes}
            dims = {name: dim for name, dim in chunk.dims.items() if dim is not None}
            ((_, _, tree, _, where),) = chunk.constant["columns"]
            (part,) = pickled_parts(tree)
            count = len(arrays[where[part.lengths]])
            arrays[where[part.array]] = np.frombuffer(gadget * count, np.uint8)
            arrays[where[part.lengths]] = np.full(count, len(gadget), np.int16)
            if not kept:
                arrays[where[part.signature]] = np.zeros((1, signing.SIGNATURE_BYTES), np.uint8)
            content = chunkfile.Content(
                chunk.constant, chunk.identity, arrays, dims, coords, chunk.created_at, chunk.seconds
            )
            data = b"".join(chunkfile.image(content))
        path.write_bytes(data)


def test_a_pointwise_column_never_holds_a_pickle(tmp_path: Path, config: Path) -> None:
    """A manifest that calls pickles rows of a plain column contradicts itself, and its file is set aside."""
    root = tmp_path / "root"
    memo = ChunkMemo(root, {"s": 3}, AXES, verbose=0)
    function = memo.cache()(lambda s: [f"{value:05}" for value in s])
    function()
    (path,) = chunk_files(root)
    with chunkfile.load(path) as chunk:
        ((name, form, tree, pointwise, where),) = chunk.constant["columns"]
        hostile = {"k": "pickle", "types": [], "a": tree["a"]}
        constant = {**chunk.constant, "columns": [[name, form, hostile, pointwise, where]]}
        arrays = {each: chunk.array(each) for each in chunk.names}
        coords: dict[str, Any] = {each: chunk.coords(each) for each in chunk.sizes}
        dims = {each: dim for each, dim in chunk.dims.items() if dim is not None}
        content = chunkfile.Content(constant, chunk.identity, arrays, dims, coords, 0, 0.0)
        data = b"".join(chunkfile.image(content))
    path.write_bytes(data)
    again = ChunkMemo(root, {"s": 3}, AXES, verbose=0).cache()(function.__wrapped__)
    with pytest.warns(DamageWarning, match="pickles in column '', whose rows stand alone"):
        output, diagnostics = again()
    assert (["00001", "00002", "00003"], 3) == (output, diagnostics.executed_points)


def test_allow_pickle_false_refuses_outright(tmp_path: Path, config: Path) -> None:
    """Neither are pickles written, nor are one's own read."""
    store(tmp_path / "root")
    with pytest.raises(PickleRefusedError, match="allow_pickle"):
        opened(tmp_path / "root", allow_pickle=False)()
    with pytest.raises(PickleRefusedError, match=r"output\[0\].*test_signing:Model"):
        opened(tmp_path / "empty", allow_pickle=False)()
    assert not chunk_files(tmp_path / "empty")


def test_parts_of_others_do_not_stop_a_writer(tmp_path: Path, other_user: Callable[[], None]) -> None:
    """A point is stored beside a part that may not be read; only asking for that one is an error."""
    root = tmp_path / "root"

    def cache() -> ChunkCache:
        return ChunkCache(root, "some", axis_values=AXES, chunk_spec={"s": 3}, verbose=0)

    with pytest.warns(PickleWarning):
        run(cache().slice(s=[1]), models)
    other_user()
    _tell_again()
    with pytest.raises(UntrustedPickleError):
        run(cache().slice(s=[2]), models)
    # The part is in the way of a reader; once it counts no more, nothing is.
    fresh = cache()
    assert 1 == fresh.invalidate()
    with pytest.warns(PickleWarning):
        output, _ = run(fresh, models)
    assert [1, 2, 3] == sizes(output)


# --- the key file ---------------------------------------------------------------------------------------------


def _own_key_of(folder: str) -> str:
    os.environ["CHUNK_MEMO_CONFIG"] = folder
    key = signing.own_key()
    assert key is not None
    return key.key_id


def test_processes_that_come_at_once_make_one_key(tmp_path: Path) -> None:
    """Sixteen processes, one key, nothing left beside it."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(8) as pool:
        for turn in range(4):
            folder = tmp_path / str(turn)
            assert 1 == len(set(pool.map(_own_key_of, [str(folder)] * 16, chunksize=1)))
            assert ["key"] == os.listdir(folder)


@posix_only
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda key: (key.rename(key.parent / "real"), key.symlink_to("real")), "symbolic link"),
        (lambda key: key.chmod(0o640), r"others may read or change it \(mode 0640\)"),
        (lambda key: key.parent.chmod(0o770), r"others may write to its folder \(mode 0770\)"),
        (lambda key: key.write_text("something else"), "does not hold a key"),
        (lambda key: (key.unlink(), key.mkdir()), "no regular file"),
        (lambda key: (key.unlink(), subprocess.run(["mkfifo", key], check=True)), "no regular file"),
    ],
    ids=["symlink", "loose file", "loose folder", "no key", "a folder", "a pipe"],
)
def test_a_doubtful_key_is_refused(config: Path, harm: Callable[[Path], Any], reason: str) -> None:
    """The error names the file, what is wrong with it, and the way out."""
    signing.own_key()
    harm(config / "key")
    with pytest.raises(KeyFileError, match=reason) as caught:
        signing.own_key()
    assert f"'{config / 'key'}' is not used" in str(caught.value)
    assert isinstance(caught.value, PermissionError)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_the_key_of_somebody_else_is_refused(config: Path) -> None:
    """A key that another user owns is not used, nor one in another user's folder."""
    signing.own_key()
    os.chown(config / "key", 12345, -1)
    with pytest.raises(KeyFileError, match="belongs to user 12345"):
        signing.own_key()
    os.chown(config / "key", 0, -1)
    os.chown(config, 12345, -1)
    with pytest.raises(KeyFileError, match="its folder belongs to user 12345"):
        signing.own_key()


def test_a_key_inside_a_root_or_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets a copy of a cache must not get the key with it; the outputs reach the caller."""
    root = tmp_path / "root"
    monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(root / "config"))
    function = ChunkMemo(root, {"s": 3}, AXES, verbose=0).cache()(models)
    with pytest.raises(StoreError, match="inside the root") as caught:
        function()
    assert [1, 2, 3] == sizes(caught.value.output)
    assert not chunk_files(root)
    ChunkMemo(root, {"s": 3}, AXES, verbose=0).cache()(lambda s: list(s))()
    (folder,) = (path.parent for path in root.glob("*/chunks"))
    monkeypatch.setenv("CHUNK_MEMO_KEY_FILE", str(folder / "key"))
    with pytest.raises(KeyFileError, match="inside the cache"):
        signing.own_key()


def test_without_a_place_for_a_key_outputs_reach_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no key can be made, pickles are not written unsigned; outputs without pickles are stored."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / "file" / "config"))
    with pytest.raises(StoreError, match="CHUNK_MEMO_CONFIG") as caught:
        opened(tmp_path / "root")()
    assert [1, 2, 3] == sizes(caught.value.output)
    numbers = ChunkMemo(tmp_path / "root", {"s": 3}, AXES, verbose=0).cache()(lambda s: list(s))
    assert ([1, 2, 3], 1, 0) == (numbers()[0], numbers()[1].cached_chunks, numbers()[1].executed_points)


def test_what_cannot_be_pickled_names_type_and_place(tmp_path: Path, config: Path) -> None:
    """The error names both, and carries what the function returned."""
    fit = {"fit": {"model": lambda: 0}}
    function = ChunkMemo(tmp_path / "root", {"s": 3}, AXES, verbose=0).cache()(lambda s: [fit for _ in s])
    with pytest.raises(EncodingError, match=r"output\[0\]\['fit'\]\['model'\].*builtins:function") as caught:
        function()
    assert 3 == len(caught.value.output)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Key file, configuration folder, XDG folder, home: in that order; a relative XDG folder is passed over."""
    monkeypatch.delenv("CHUNK_MEMO_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    home = {"darwin": "Library/Application Support", "win32": "AppData/Roaming"}.get(sys.platform, ".config")
    assert tmp_path / home / "chunk_memo" / "key" == signing.key_file()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert tmp_path / "xdg/chunk_memo/key" == signing.key_file()
    monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / "config"))
    assert tmp_path / "config/key" == signing.key_file()
    monkeypatch.setenv("CHUNK_MEMO_KEY_FILE", str(tmp_path / "apart/my key"))
    assert tmp_path / "apart/my key" == signing.key_file()
    assert tmp_path / "apart/trusted" == signing.trusted_folder()


# --- signed files ---------------------------------------------------------------------------------------------


def test_signed_files_load_for_their_purpose_only(config: Path) -> None:
    """A signed file is bound to its context, to every byte, and to a key that is known."""
    data = signing.dump({"model": Model(3)}, "checkpoint")
    assert 3 == signing.load(data, "checkpoint")["model"].size
    with pytest.raises(UntrustedPickleError, match=r"'x\.ckpt'.*does not hold"):
        signing.load(data, "export", "x.ckpt")
    for place in (9, 20, 50, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(UntrustedPickleError):
            signing.load(changed, "checkpoint")
    for other in (b"", data[:20], data[1:], pickle.dumps(3)):
        with pytest.raises(UntrustedPickleError, match=r"no signed pickle|not signed"):
            signing.load(other, "checkpoint")


def test_signed_files_of_others_are_refused(tmp_path: Path, other_user: Callable[[], None]) -> None:
    """The gadget in a file that another key signed does not run."""
    data = signing.dump(Gadget(tmp_path / "owned"), "export")
    other_user()
    with pytest.raises(UntrustedPickleError, match="neither yours nor trusted"):
        signing.load(data, "export")
    assert not (tmp_path / "owned").exists()
