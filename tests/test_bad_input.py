"""What is wrong is said: the error is the builtin one would catch, and names the way out."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chunk_memo import ChunkCache, ChunkMemo, OverlapWarning, RunHistory, StoreError, run
from chunk_memo.disk import chunkfile

AXES: dict[str, list[int]] = {"x": [1, 2, 3], "y": [10, 20]}


def products(x: list[int], y: list[int]) -> list[int]:
    """Return one output per point."""
    return [i * j for i in x for j in y]


def with_params(x: list[int], y: list[int], params: Any = None) -> list[int]:
    """Return one output per point; params are taken and not used."""
    return [0] * len(x) * len(y)


def lacks_an_axis(x: list[int]) -> list[int]:
    """Take one axis of two."""
    return x


def too_few(x: list[int], y: list[int]) -> list[int]:
    """Return one output too few."""
    return [0] * (len(x) * len(y) - 1)


async def waits(x: list[int], y: list[int]) -> list[int]:
    """Return a coroutine where outputs are expected."""
    return products(x, y)


def yields(x: list[int], y: list[int]) -> Any:
    """Return a generator where outputs are expected."""
    yield from products(x, y)


def sweep(root: Path, function: Any = products, **options: Any) -> Any:
    """Return a decorated function over `AXES`."""
    settings: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 1}, "verbose": 0}
    return ChunkMemo(root=root, **settings | options).cache()(function)


def stream(root: Path, function: Callable[..., Any] = products, **options: Any) -> Any:
    """Return a decorated function over `AXES` that only stores."""
    settings: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 1}, "verbose": 0}
    return ChunkMemo(root=root, **settings | options).stream_cache()(function)


def cache(root: Path, cache_id: Any = "some", **options: Any) -> ChunkCache:
    """Return a cache over `AXES`."""
    settings: dict[str, Any] = {"axis_values": AXES, "chunk_spec": {"x": 1}, "verbose": 0}
    return ChunkCache(root, cache_id, **settings | options)


def damaged(root: Path) -> ChunkCache:
    """Open a cache by its id alone whose metadata is not JSON."""
    run(cache(root), products)
    (root / "some" / "metadata.json").write_text("{", encoding="utf-8")
    return ChunkCache.load_from_cache(root, "some")


def in_a_file(root: Path) -> Any:
    """Call with a root that is a file."""
    (root / "file").write_text("", encoding="utf-8")
    return sweep(root / "file")()


def below_a_file(root: Path) -> Any:
    """Call with a root below a file."""
    (root / "file").write_text("", encoding="utf-8")
    return sweep(root / "file" / "root")()


def decorated_twice(root: Path) -> Any:
    """Decorate a decorated function."""
    memo = ChunkMemo(root=root, axis_values=AXES, verbose=0)
    return memo.cache()(memo.cache()(products))


def overlapping(root: Path, **options: Any) -> Path:
    """Write a cache, then another of the same id."""
    cache(root).write_metadata()
    return cache(root, **options).write_metadata()


@dataclass(frozen=True)
class Bad:
    """One thing that cannot be."""

    does: Callable[[Path], object]
    """Do it in a root."""
    error: type[Exception]
    """The builtin error that a user would catch."""
    said: tuple[str, ...]
    """Fragments of the message: the subject, what came, the way out."""


BAD = {
    "an empty axis": Bad(
        lambda root: sweep(root, axis_values={"x": [], "y": [1]})(),
        ValueError,
        ("'x' has no values", "at least one"),
    ),
    "a text as an axis": Bad(
        lambda root: sweep(root, axis_values={"x": "abc", "y": [1]})(),
        ValueError,
        ("'x'", "'abc'", "iterable of values"),
    ),
    "an unknown axis": Bad(lambda root: cache(root).slice(z=1), KeyError, ("no axis 'z'", "['x', 'y']")),
    "an unknown axis by index": Bad(
        lambda root: sweep(root)(axis_indices={"z": 1}), KeyError, ("no axis 'z'", "['x', 'y']")
    ),
    "no value of an axis": Bad(
        lambda root: sweep(root)(x=None), KeyError, ("'x' has no value None", "leave it out", "all its 3 values")
    ),
    "a slice for values": Bad(
        lambda root: sweep(root)(x=slice(0, 2)),
        KeyError,
        ("'x' has no value slice(0, 2, None)", "axis_indices={'x': slice(0, 2, None)}"),
    ),
    "a text where there are numbers": Bad(
        lambda root: sweep(root)(x="12"),
        KeyError,
        ("'x' has no value '12'; it has 1, 2, 3;", "extend_cache=True"),
    ),
    "an index that is not there": Bad(
        lambda root: sweep(root)(axis_indices={"x": 7}), IndexError, ("7", "'x'", "3 values")
    ),
    "a value that is not there": Bad(
        lambda root: sweep(root)(x=[4]),
        KeyError,
        ("'x' has no value 4", "nearest is 3", "extend_cache=True"),
    ),
    **{
        f"a chunk size of {size!r}": Bad(
            lambda root, size=size: sweep(root, chunk_spec={"x": size})(),  # type: ignore[misc]
            ValueError,
            ("'x'", "integer of at least 1", f"got {size!r}"),
        )
        for size in (0, -1, 1.5, "2", True)
    },
    "a chunk size for an unknown axis": Bad(
        lambda root: sweep(root, chunk_spec={"q": 1})(), KeyError, ("'q'", "['x', 'y']")
    ),
    "chunk sizes that are no mapping": Bad(
        lambda root: sweep(root, chunk_spec=3)(), ValueError, ("chunk_spec must map", "got 3")
    ),
    "axis values that are no mapping": Bad(
        lambda root: sweep(root, axis_values=[1, 2])(),
        ValueError,
        ("axis_values must map axis names to values", "got [1, 2]", "auto_load"),
    ),
    "axis values left out": Bad(
        lambda root: ChunkCache(root, "some"), ValueError, ("axis_values is missing", "load_from_cache")
    ),
    "an axis whose name is no text": Bad(
        lambda root: sweep(root, axis_values={1: [1]}, chunk_spec={})(),
        ValueError,
        ("non-empty strings", "got 1"),
    ),
    "an axis order that leaves one out": Bad(
        lambda root: cache(root, axis_order=["x"]), ValueError, ("axis_order", "['x', 'y']", "got ['x']")
    ),
    "an axis value without identity": Bad(
        lambda root: sweep(root, axis_values={"x": [1, object()], "y": [1]})(),
        TypeError,
        ("'x[1]' has no sound identity", "register_identity"),
    ),
    "no values along an axis": Bad(
        lambda root: sweep(root)(x=[]), ValueError, ("no values were asked for along axis 'x'", "leave it out")
    ),
    "an argument that is a value and several": Bad(
        lambda root: sweep(root, axis_values={"x": [1, (1,)], "y": [1]})(x=(1,)),
        ValueError,
        ("(1,) is both one value of axis 'x' and a sequence", "axis_indices={'x'"),
    ),
    "indices that are no mapping": Bad(
        lambda root: sweep(root)(axis_indices=[0]), ValueError, ("axis_indices must map axis names", "got [0]")
    ),
    "indices that are no numbers": Bad(
        lambda root: sweep(root)(axis_indices={"x": 0.5}),
        ValueError,
        ("axis 'x'", "int, slice, range", "got 0.5"),
    ),
    "values and indices": Bad(
        lambda root: sweep(root)(x=[1], axis_indices={"y": 0}),
        ValueError,
        ("axis_indices cannot be combined", "['x']", "use one"),
    ),
    "params twice": Bad(
        lambda root: sweep(root, with_params)([1], [10], {"a": 1}, params={"a": 1}),
        ValueError,
        ("both positional and keyword", "give it once"),
    ),
    "an unknown argument": Bad(
        lambda root: sweep(root)(z=[1]),
        TypeError,
        ("'products' cannot be called like that", "unexpected keyword argument 'z'", "['x', 'y']"),
    ),
    "too many arguments": Bad(
        lambda root: sweep(root)([1], [10], 3), TypeError, ("'products' cannot be called", "too many positional")
    ),
    "a missing argument": Bad(
        lambda root: sweep(root, lambda alpha, x, y: [])(),
        TypeError,
        ("<lambda>' needs the argument 'alpha'", "pass alpha="),
    ),
    "params that are no dict": Bad(
        lambda root: sweep(root)(params=3), ValueError, ("'params' must be a dict", "got 3")
    ),
    "indices without axes": Bad(
        lambda root: sweep(root, lambda: 1, axis_values={}, chunk_spec={})(axis_indices={"x": 0}),
        ValueError,
        ("Cannot pass axis arguments", "leave axis_indices out"),
    ),
    "axis arguments without axes": Bad(
        lambda root: cache(root, axis_values={}, chunk_spec={}).slice(x=[1]),
        ValueError,
        ("Cannot pass axis arguments", "leave them out"),
    ),
    "a function that lacks an axis": Bad(
        lambda root: sweep(root, lacks_an_axis)(), TypeError, ("lacks_an_axis", "axis 'y'")
    ),
    "an axis argument that gathers": Bad(
        lambda root: sweep(root, lambda x, *y: []), TypeError, ("axis 'y'", "'*y'", "ordinary argument")
    ),
    "something that is no function": Bad(lambda root: sweep(root, 3), TypeError, ("only functions", "got 3")),
    "an unknown kind of output": Bad(
        lambda root: ChunkMemo(root, {}, AXES).cache(outputs="tree")(products),
        ValueError,
        ("outputs must be one of", "'grid'", "got 'tree'"),
    ),
    "an unknown durability": Bad(
        lambda root: cache(root, durability="none"), ValueError, ("'full' or 'fast'", "got 'none'")
    ),
    "a version that is no text": Bad(
        lambda root: cache(root, version=2), ValueError, ("version", "got 2", "'2'")
    ),
    "an output without a form": Bad(
        lambda root: sweep(root, lambda x, y: [object() for _ in x for _ in y], allow_pickle=False)(),
        TypeError,
        ("'output[0]'", "builtins:object", "register_encoding", "allow_pickle=True"),
    ),
    "an output in the wrong order": Bad(
        lambda root: sweep(root, lambda x, y: [{"x": i, "y": j} for j in y[::-1] for i in x])(),
        ValueError,
        ("output 0", "{'x': 1, 'y': 20}", "{'x': 1, 'y': 10} is expected", "('x', 'y')", "axis_order="),
    ),
    "a wrong number of outputs": Bad(
        lambda root: sweep(root, too_few)(),
        ValueError,
        ("too_few", "2 points", "list of 1 output", "outputs="),
    ),
    "params without identity": Bad(
        lambda root: sweep(root, with_params)(params={"a": object()}),
        TypeError,
        ("'a'", "no sound identity", "register_identity"),
    ),
    "an empty cache id": Bad(
        lambda root: cache(root, ""), ValueError, ("cache_id", "non-empty", "params_to_cache_id")
    ),
    "a cache id that is no text": Bad(
        lambda root: cache(root, 3),
        ValueError,
        ("cache_id", "got 3", "params_to_cache_id"),
    ),
    "a cache id that leaves the root": Bad(
        lambda root: cache(root, "../x"), ValueError, ("'../x'", "params_to_cache_id")
    ),
    "a root that is a file": Bad(in_a_file, OSError, ("root", "is a file", "another root")),
    "a root below a file": Bad(
        below_a_file, OSError, ("root", "lies in the file", "a folder of caches", "another root")
    ),
    "axes for a root": Bad(
        lambda root: ChunkMemo({"x": [1]}),  # type: ignore[arg-type]
        ValueError,
        ("root must be the path of a folder", "{'x': [1]}", "write axis_values={'x': [1]}"),
    ),
    "a number for a root": Bad(
        lambda root: ChunkMemo(3, axis_values=AXES),  # type: ignore[arg-type]
        ValueError,
        ("root", "got 3", "write root='3'"),
    ),
    "more values than memory holds": Bad(
        lambda root: sweep(root, axis_values={"x": range(10**30), "y": [1]})(),
        ValueError,
        ("100,000,000 at most", "range(0, 1000000000000000000000000000000)", "sample()"),
    ),
    "a keyword misspelt": Bad(
        lambda root: sweep(root)(map_fun="threads"),
        TypeError,
        ("'map_fun' (did you mean 'map_fn'?)", "'refresh'"),
    ),
    "a param misspelt": Bad(
        lambda root: sweep(root, with_params)(parms=1), TypeError, ("'parms' (did you mean 'params'?)",)
    ),
    "a keyword of a decorator misspelt": Bad(
        lambda root: ChunkMemo(root, axis_values=AXES).cache(vectorise=True),  # type: ignore[call-overload]
        ValueError,
        ("'vectorise' is no keyword of cache() (did you mean 'vectorize'?)", "'depends_on'", "'map_fn'"),
    ),
    "a map misspelt, in a decorator": Bad(
        lambda root: ChunkMemo(root, axis_values=AXES).cache(map_fn="process"),
        ValueError,
        ("map_fn", "got 'process' (did you mean 'processes'?)"),
    ),
    "a text for a switch": Bad(
        lambda root: sweep(root)(refresh="no"), ValueError, ("refresh must be True or False, got 'no'",)
    ),
    "a history without a list": Bad(
        lambda root: sweep(root)(observers=RunHistory()), ValueError, ("got one RunHistory; write observers=[…]",)
    ),
    "a keyword cut short": Bad(
        lambda root: sweep(root)(x=4, extend=True), TypeError, ("'extend' (did you mean 'extend_cache'?)",)
    ),
    "an observer without a list": Bad(
        lambda root: sweep(root)(observers=print), ValueError, ("observers must be a list", "observers=[…]")
    ),
    "the class of an observer": Bad(
        lambda root: run(cache(root), products, observers=[RunHistory]),  # type: ignore[list-item]
        ValueError,
        ("the class 'RunHistory'", "write RunHistory()"),
    ),
    "an observer that cannot be called": Bad(
        lambda root: run(cache(root), products, observers=[3]),  # type: ignore[list-item]
        ValueError,
        ("called with an event, got 3",),
    ),
    "no workers": Bad(
        lambda root: sweep(root)(map_fn="threads", map_fn_kwargs={"workers": 0}),
        ValueError,
        ("workers must be a whole number from 1 up, got 0",),
    ),
    "workers of joblib": Bad(
        lambda root: sweep(root)(map_fn="joblib", map_fn_kwargs={"workers": 2}),
        ValueError,
        ("map_fn='joblib'", "write n_jobs"),
    ),
    "a function decorated twice": Bad(
        decorated_twice, TypeError, ("'products' is decorated already", "products.__wrapped__")
    ),
    "a return forgotten": Bad(
        lambda root: sweep(root, lambda x, y: None)(),
        ValueError,
        ("2 points (x: 1, y: 2)", "returned None", "is a return missing?", "vectorize=True", "outputs='opaque'"),
    ),
    "no such cache": Bad(
        lambda root: ChunkCache.load_from_cache(root, "nope"),
        FileNotFoundError,
        ("no cache 'nope'", "axis_values"),
    ),
    "damaged metadata": Bad(damaged, ValueError, ("metadata.json", "damaged", "No result is lost")),
    "an async function": Bad(
        lambda root: sweep(root, waits), TypeError, ("waits", "async function", "return a list")
    ),
    "a generator function": Bad(
        lambda root: sweep(root, yields), TypeError, ("yields", "generator", "return a list")
    ),
    "another chunk_spec, exclusively": Bad(
        lambda root: overlapping(root, chunk_spec={"x": 2}, exclusive=True),
        ValueError,
        ("cache_id already exists with different chunk_spec", "'x'", "exclusive=False"),
    ),
    "other axis values, exclusively": Bad(
        lambda root: overlapping(root, axis_values={"x": [1], "y": [10, 20]}, exclusive=True),
        ValueError,
        ("cache_id already exists with different axis_values", "'x'", "exclusive=False"),
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(tmp_path: Path, bad: Bad) -> None:
    """The error is of the expected builtin class, and its message holds the expected parts."""
    with pytest.raises(bad.error) as caught:
        bad.does(tmp_path)
    assert [] == [part for part in bad.said if part not in str(caught.value)]
    assert type(caught.value).__module__ == "chunk_memo.errors"


@pytest.mark.parametrize(
    "bad", ["an unknown axis", "a value that is not there", "no such cache", "a root that is a file"]
)
def test_messages_are_plain_text(tmp_path: Path, bad: str) -> None:
    """A KeyError or OSError of ours is shown as its message, without quotes around it or a number before it."""
    with pytest.raises(BAD[bad].error) as caught:
        BAD[bad].does(tmp_path)
    message = str(caught.value)
    assert message[0].isalpha()
    assert BAD[bad].said[0] in message


def test_what_is_wrong_leaves_nothing_behind(tmp_path: Path) -> None:
    """What is refused before anything was computed writes no file."""
    for name in (
        "an unknown axis by index",
        "values and indices",
        "an unknown argument",
        "params without identity",
    ):
        with pytest.raises(BAD[name].error):
            BAD[name].does(tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a ValueError that says to upgrade, never damage: the file stays, and nothing is computed over it."""
    with monkeypatch.context() as patch:
        patch.setattr(chunkfile, "FORMAT_VERSION", 99)
        patch.setattr(chunkfile, "_templates", chunkfile._Templates())
        run(cache(tmp_path), products)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.h5")}
    with pytest.raises(
        ValueError, match=r"later chunk_memo: expected format version 1 at most, found 99; upgrade"
    ):
        run(cache(tmp_path), products)
    assert 3 == len(before)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.h5")}


def test_an_overlap_is_warned_of(tmp_path: Path) -> None:
    """``warn_on_overlap=True`` warns where ``exclusive=True`` would refuse, in the same words."""
    with pytest.warns(OverlapWarning, match=r"cache_id already exists with different chunk_spec"):
        overlapping(tmp_path, chunk_spec={"x": 2}, warn_on_overlap=True)


def test_no_axes_is_one_point(tmp_path: Path) -> None:
    """A function without axes has one output, which is stored like any other."""
    calls = []

    def answer(scale: int = 1) -> int:
        calls.append(scale)
        return 42 * scale

    sweep_of_one = sweep(tmp_path, answer, axis_values={}, chunk_spec={})
    assert [[42], [42]] == [sweep_of_one()[0], sweep_of_one()[0]]
    assert [1] == calls


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be made the error is an OSError that names the root."""

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    for runner in (sweep(tmp_path / "readonly"), stream(tmp_path / "readonly")):
        with pytest.raises(OSError, match=r"cannot be written .*another root") as caught:
            runner()
        assert str(tmp_path / "readonly") in str(caught.value)
        assert errno.EACCES == caught.value.errno


def test_a_root_where_no_folder_can_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system such as ``/proc`` says of every new folder that the one above is missing: that is told."""
    tried: list[str] = []

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        tried.append(os.fspath(path))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    (tmp_path / "proc").mkdir()
    known = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, *rest: (refuse if "foo" in str(path) else known)(path, *rest))
    with pytest.raises(OSError, match=r"foo' cannot be written .*makes no folders.*another root") as caught:
        sweep(tmp_path / "proc" / "foo")()
    assert tried
    assert "chunk_memo.errors" == type(caught.value).__module__


def test_a_root_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in a folder into which this user may not look is not taken for a file."""
    known = os.stat

    def closed(path: Any, *rest: Any, **options: Any) -> os.stat_result:
        if "closed" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return known(path, *rest, **options)

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(OSError, match=r"closed/root' cannot be reached \(Permission denied\); pass another root"):
        sweep(tmp_path / "closed" / "root")()


@pytest.mark.parametrize("stored", [0, 1])
def test_a_full_disk_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: int) -> None:
    """When nothing can be written the error carries the output, and says what to do."""
    function = sweep(tmp_path)
    function(x=AXES["x"][:stored]) if stored else None

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "writev", full)
        with pytest.raises(StoreError, match=r"could not be stored.*make room") as caught:
            function()
    assert errno.ENOSPC == caught.value.errno
    assert products(AXES["x"], AXES["y"]) == caught.value.output
    assert products(AXES["x"], AXES["y"]) == function()[0]


def test_a_full_disk_stops_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream has nobody to give outputs to, so it stops at once; what was stored before is kept."""
    stream(tmp_path)(x=[1])

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "writev", full)
        with pytest.raises(StoreError, match=r"the disk is full.*make room and call again") as caught:
            stream(tmp_path)()
    assert (errno.ENOSPC, 2) == (caught.value.errno, caught.value.diagnostics.cached_points)
    done = stream(tmp_path)()
    assert (2, 4) == (done.cached_points, done.executed_points)


def test_a_function_of_single_values_is_told_of_vectorize(tmp_path: Path) -> None:
    """What cannot be done with lists is a TypeError, and the note says how the function gets single values."""
    with pytest.raises(TypeError, match="sequence") as caught:
        sweep(tmp_path, lambda x, y: x * y)()
    [note] = caught.value.__notes__
    assert note.endswith("where it takes one value of each, decorate it with vectorize=True")
    with pytest.raises(TypeError, match="str") as caught:
        ChunkMemo(tmp_path, axis_values=AXES, verbose=0).cache(vectorize=True)(lambda x, y: x + "1")()
    assert ["vectorize=True" in note for note in caught.value.__notes__] == [False]


def test_a_wrapper_of_a_decorated_function_is_a_function(tmp_path: Path) -> None:
    """What ``functools.wraps`` copies from a decorated function does not make another one of it."""
    inner = sweep(tmp_path)

    @functools.wraps(inner)
    def outer(x: list[int], y: list[int]) -> Any:
        return inner(x=x, y=y)[0]

    assert products(**AXES) == sweep(tmp_path, outer)()[0]


def test_a_function_that_raises_is_told_where(tmp_path: Path) -> None:
    """The exception reaches the caller with a note; the chunks finished before are kept."""

    def fails_late(x: list[int], y: list[int]) -> list[int]:
        if 2 in x:
            raise ArithmeticError("boom")
        return products(x, y)

    function = sweep(tmp_path, fails_late)
    with pytest.raises(ArithmeticError, match="boom") as caught:
        function()
    [note] = caught.value.__notes__
    assert [] == [part for part in ("fails_late", "x=[2]", "y=[10, 20]") if part not in note]
    assert 2 == function(x=[1])[1].cached_points
