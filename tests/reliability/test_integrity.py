"""Every file of a cache is read by others, and damage to it costs recomputation, never a wrong result."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checking import check_root, chunk_files, header_of, members, resealed
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import columns, same

from chunk_memo import ChunkCache, ChunkMemo, DamageWarning, FormatVersionError, MetadataError, run
from chunk_memo.disk import chunkfile, files
from chunk_memo.disk.chunkfile import HEADER, SMALL_FILE
from chunk_memo.errors import ChunkFormatError

Function = Callable[..., Any]

# --- other readers -------------------------------------------------------------------------------------------


def listed(make: Callable[[int, int], Any]) -> Function:
    """Return a sweep function that returns a list, one output per point."""
    return lambda a, b: [make(i, j) for i in range(len(a)) for j in range(len(b))]


def gridded(dtype: Any, *trailing: int) -> Function:
    """Return a sweep function that returns an array over both axes."""

    def function(a: list[Any], b: list[Any]) -> Any:
        shape = (len(a), len(b), *trailing)
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        return numbers.astype("i8").astype(dtype) if np.dtype(dtype).kind in "mM" else numbers.astype(dtype)

    return function


def frame(a: list[Any], b: list[Any]) -> Any:
    """Return a DataFrame with a row for each point."""
    import pandas

    count = len(a) * len(b)
    return pandas.DataFrame({"value": np.arange(count) / 2, "a/b": ["é"] * count, "": np.arange(count) > 1})


def table(a: list[Any], b: list[Any]) -> Any:
    """Return columns of several shapes and types."""
    shape = (len(a), len(b))
    return {"": np.ones(shape), "a/b": np.zeros((*shape, 2), "c8"), "_raw": np.full(shape, "x")}


MIXED = [1.5, None, "text", {"k": [1, 2]}, (1, "a"), 10**40, b"\xff", 1j, {2, 3}]

OUTPUTS: dict[str, Function] = {
    "numbers": listed(lambda i, j: i + j / 2),
    "large integers": listed(lambda i, j: (-10) ** (30 * i + j)),
    "words": listed(lambda i, j: "abc"[(i + j) % 3]),
    "texts of many lengths": listed(lambda i, j: "é\0" * i**4 + "x" * j),
    "bytes": listed(lambda i, j: bytes([i, j])),
    "dicts": listed(lambda i, j: {"number": i / 7, "word": "word", "flag": i > j}),
    "dicts with the axes": lambda a, b: [{"a": v, "b": w, "word": "word"} for v in a for w in b],
    "odd keys": listed(lambda i, j: {"": i, "a/b": j, ".": 1.0, "_raw": "x", "point": 2, "a values": None}),
    "one letter in lists": listed(lambda i, j: ["a", "b"]),
    "ragged lists": listed(lambda i, j: list(range(i))),
    "mixed types": listed(lambda i, j: MIXED[(3 * i + j) % len(MIXED)]),
    "nothing": listed(lambda i, j: None),
    "dates": listed(lambda i, j: datetime.datetime(2020, 1, 1 + i, j)),
    "arrays in lists": listed(lambda i, j: np.arange(3, dtype="f2") * i),
    "ragged arrays": listed(lambda i, j: np.arange(i, dtype="i4")),
    "floats": gridded("f8"),
    "half floats": gridded("f2", 2),
    "complex": gridded("c16"),
    "long doubles": gridded("g"),
    "flags": gridded("?"),
    "letters": gridded("U1"),
    "byte letters": gridded("S1", 2),
    "days": gridded("M8[D]"),
    "years": gridded("M8[Y]"),
    "spans": gridded("m8[ms]"),
    "records": gridded([("x", "<f4"), ("y", "S3")]),
    "flat": lambda a, b: np.arange(float(len(a) * len(b))),
    "columns": table,
    "frame": frame,
    "opaque": lambda a, b: {"sizes": (len(a), len(b))},
}

AXES: dict[str, list[Any]] = {
    "integers": [3, 1, 2],
    "floats": [0.1, -0.0, 1e300],
    "letters": ["a", "b", "c"],
    "words": ["", "é", "x" * 200],
    "flags": [True, False],
    "look alike": [1, 1.0, True, None, "1"],
    "tuples": [(1, 2), (1, "b"), ()],
    "lists": [[1, 2], [3], []],
    "dicts": [{"a": 1}, {"b": [2]}],
    "arrays": [np.arange(3), np.zeros((2, 2)), np.arange(3.0)],
    "complex": [1j, 2 + 0j],
    "large integers": [10**30, -(10**30), 1],
    "dates": [datetime.date(2020, 1, 1), datetime.date(1, 1, 1)],
    "numpy": [np.float32(0.1), np.float32(2)],
    "bytes": [b"a", b"\xff\0"],
    "odd texts": ["\ud800", "\0", "a/b\n"],
    "none": [None],
}

ODD_NAMES = ["a/b", "é", " ", ".", "point", "_raw", "output", "b values", "x" * 250, "\n", "CLASS"]


def filled(root: Path, function: Function, xs: list[Any], ys: list[Any], names: tuple[str, str]) -> None:
    """Store a part of a chunk, then everything, and look at every file both times."""
    first, second = names

    def called(**axes: Any) -> Any:
        return function(axes[first], axes[second])

    cache = ChunkCache(
        root,
        "cache",
        axis_values={first: xs, second: ys},
        chunk_spec={first: 2, second: 3},
        axis_order=names,
        verbose=0,
        durability="fast",
    )
    run(cache.slice(axis_indices={second: 0}), called)
    assert check_root(root) > 0
    run(cache, called)
    assert check_root(root) > 0
    assert 0 == run(cache, called)[1].executed_points


class TestOtherReaders:
    """h5py, and xarray with both netCDF engines, read every file that a sweep writes."""

    @pytest.mark.parametrize("kind", OUTPUTS)
    def test_outputs(self, tmp_path: Path, kind: str) -> None:
        """Files of every kind and type of output, parts and complete ones."""
        filled(tmp_path, OUTPUTS[kind], [1, 2, 3], ["u", "v", "w"], ("a", "b"))

    @pytest.mark.parametrize("kind", AXES)
    def test_axis_values(self, tmp_path: Path, kind: str) -> None:
        """Files over axis values of every type, unhashable ones included; they are coordinates."""
        filled(tmp_path, OUTPUTS["dicts"], AXES[kind], ["u", "v", "w"], ("a", "b"))

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_axis_names(self, tmp_path: Path, name: str) -> None:
        """Files over axes of odd names, whose outputs have such names, too."""

        def function(other: list[Any], odd: list[Any]) -> list[Any]:
            return [{"other": v, name: w, f"{name}'": 1} for v in other for w in odd]

        filled(tmp_path, function, [1, 2, 3], ["u", "v", "w"], ("other", name))

    def test_no_axes(self, tmp_path: Path) -> None:
        """A cache without axes is a file like the others."""
        run(ChunkCache(tmp_path, "cache", axis_values={}, verbose=0), lambda: {"a": 1.5, "b": "x"})
        assert 1 == check_root(tmp_path)

    @settings(max_examples=40)
    @given(data=st.data())
    def test_any_outputs(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        """Whatever outputs are, others read the files, and a second run returns the same without a call."""
        root = tmp_path_factory.mktemp("any")
        outputs = data.draw(columns.filter(lambda outputs: 1 < len(outputs) < 8))
        points = list(range(len(outputs)))
        cache = ChunkCache(
            root, "cache", axis_values={"p": points}, chunk_spec={"p": 3}, verbose=0, durability="fast"
        )

        def function(p: list[int]) -> list[Any]:
            return [outputs[i] for i in p]

        run(cache.slice(p=points[1:2]), function)
        run(cache, function)
        again, diagnostics = run(cache, function)
        assert 0 == diagnostics.executed_points
        assert all(same(one, two) for one, two in zip(outputs, again, strict=True))
        assert check_root(root) == -(-len(outputs) // 3)


# --- damage --------------------------------------------------------------------------------------------------


@dataclass
class Sweep:
    """A decorated sweep whose calls are counted, over chunks of 4 by 4 points."""

    root: Path
    width: int
    """Numbers per point."""
    part: bool
    """Whether only one row of each chunk is asked for."""

    def __post_init__(self) -> None:
        self.executed = 0
        memo = ChunkMemo(
            self.root, {"x": 4, "y": 4}, {"x": list(range(8)), "y": list(range(8))}, verbose=0, durability="fast"
        )
        self.function = memo.cache(version="1", name=f"width {self.width}")(lambda x, y: self.values(x, y))

    def values(self, x: list[int], y: list[int]) -> Any:
        """Return an array of shape (x, y, width)."""
        self.executed += len(x) * len(y)
        return np.add.outer(np.multiply.outer(x, np.add(y, 0.5)), np.arange(self.width))

    def request(self, chunk: int) -> dict[str, list[int]]:
        """Return what asks for all that is stored of one of the four chunks."""
        x, y = 4 * (chunk // 2), 4 * (chunk % 2)
        return {"x": [x + 1] if self.part else [*range(x, x + 4)], "y": [*range(y, y + 4)]}

    def call(self, chunk: int) -> tuple[int, list[str]]:
        """Ask for a chunk; return how many points were executed, and the warnings. The result is right."""
        request = self.request(chunk)
        self.executed = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output, diagnostics = self.function(**request)
        executed = self.executed
        assert executed == diagnostics.executed_points
        np.testing.assert_array_equal(self.values(**request), output)
        assert all(issubclass(warning.category, DamageWarning) for warning in caught)
        return executed, [str(warning.message) for warning in caught]

    @property
    def count(self) -> int:
        """Points in one request."""
        return 4 if self.part else 16

    def file(self, chunk: int) -> Path:
        """Return the file that holds a chunk, or the part of it that is stored."""
        names = {path: self.chunk_of(path) for path in chunk_files(self.root)}
        (path,) = (path for path, number in names.items() if number == chunk)
        return path

    def chunk_of(self, path: Path) -> int:
        """Tell which chunk a file holds."""
        with chunkfile.load(path) as chunk:
            return int(chunk.coords("x")[0] // 4 * 2 + chunk.coords("y")[0] // 4)

    def quarantined(self) -> list[Path]:
        """Return the files that were moved aside."""
        return list(self.root.glob("*/quarantine/*"))


def read_stretches(path: Path) -> list[tuple[int, int]]:
    """Return the stretches of a file that reading its outputs covers."""
    covered = header_of(path.read_bytes()).covered
    if path.stat().st_size <= SMALL_FILE:
        return [(0, covered)]
    with chunkfile.load(path) as chunk:
        used = {name for column in chunk.constant["columns"] for name in column[4].values()}
        used.add(chunk.constant["part"])
        read = [entry for entry, _ in members(path, chunk) if entry["name"] in used]
    return [(0, covered), *((e["offset"], e["offset"] + e["nbytes"]) for e in read)]


def flip(path: Path, offset: int, bit: int) -> None:
    """Flip one bit in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


SIZES = [(1, 200), (40, 150), (2_500, 100), (10_000, 50)]
"""Numbers per point (files of 7 KB to 1.3 MB; parts have a fourth of that), and how many bits are flipped."""


class TestFlippedBits:
    """1,000 bits at random places of chunk files: no wrong result, no exception, no silent loss."""

    @pytest.mark.parametrize("part", [False, True], ids=["complete", "parts"])
    @pytest.mark.parametrize(("width", "count"), SIZES)
    def test_flips(self, tmp_path: Path, width: int, count: int, part: bool) -> None:
        """What a read covers is set aside and recomputed with one warning; the rest is found by verify."""
        sweep = Sweep(tmp_path, width, part)
        paths = []
        for chunk in range(4):
            assert (sweep.count, []) == sweep.call(chunk)
            paths.append(sweep.file(chunk))
        size = paths[0].stat().st_size
        assert (size > SMALL_FILE) == (width >= 2_500)
        read, rng = read_stretches(paths[0]), random.Random(width)
        seen = {True: 0, False: 0}
        for number in range(count):
            chunk, bit = rng.randrange(4), rng.randrange(8)
            # Every second place lies anywhere, the others where a read goes and where it does not.
            offset = rng.randrange(size) if number % 2 else rng.randrange(min(size, 12_000))
            covered = any(start <= offset < stop for start, stop in read)
            seen[covered] += 1
            flip(paths[chunk], offset, bit)
            if covered:
                executed, messages = sweep.call(chunk)
                assert sweep.count == executed
                (message,) = messages
                assert str(paths[chunk]) in message
                (moved,) = sweep.quarantined()
                assert str(moved) in message
                moved.unlink()
                chunkfile.verify(paths[chunk])
            else:
                assert (0, []) == sweep.call(chunk)
                with pytest.raises(ChunkFormatError, match="intact"):
                    chunkfile.verify(paths[chunk])
                flip(paths[chunk], offset, bit)
        assert min(seen.values()) > 0
        assert [(0, [])] * 4 == [sweep.call(chunk) for chunk in range(4)]


def truncated(data: bytes) -> bytes:
    """Lose the end."""
    return data[: len(data) * 2 // 3]


def emptied(data: bytes) -> bytes:
    """Lose everything."""
    return b""


def extended(data: bytes) -> bytes:
    """Get a byte more."""
    return data + b"\0"


def zeroed_head(data: bytes) -> bytes:
    """Zero the first page, magic number and all."""
    return bytes(4096) + data[4096:]


def zeroed_page(data: bytes) -> bytes:
    """Zero the page in which the outputs lie."""
    start = min(len(data) // 2, SMALL_FILE) // 4096 * 4096
    return data[:start] + bytes(4096) + data[start + 4096 :]


def of_another_format(data: bytes) -> bytes:
    """Begin like a file of another format."""
    return b"PK\3\4" + data[4:]


@pytest.mark.parametrize("part", [False, True], ids=["complete", "parts"])
@pytest.mark.parametrize("width", [40, 2_500])
class TestOtherDamage:
    """Whatever was done to a file, it is set aside with one warning, and its points are computed again."""

    @pytest.mark.parametrize(
        "damage", [truncated, emptied, extended, zeroed_head, zeroed_page, of_another_format]
    )
    def test_content(self, tmp_path: Path, width: int, part: bool, damage: Callable[[bytes], bytes]) -> None:
        """Content that is not what was written."""
        sweep = Sweep(tmp_path, width, part)
        sweep.call(0)
        path = sweep.file(0)
        good = path.read_bytes()
        assert damage(good) != good
        path.write_bytes(damage(good))
        os.utime(path, (0, 0))  # a young file without its head might still be being written
        executed, (message,) = sweep.call(0)
        assert sweep.count == executed
        assert str(path) in message
        assert [damage(good)] == [moved.read_bytes() for moved in sweep.quarantined()]
        assert (0, []) == sweep.call(0)

    def test_young_file_without_a_head(self, tmp_path: Path, width: int, part: bool) -> None:
        """A young file without its head is being written: a miss, no damage; who computes it replaces it."""
        sweep = Sweep(tmp_path, width, part)
        sweep.call(0)
        path = sweep.file(0)
        path.write_bytes(zeroed_head(path.read_bytes()))
        assert (sweep.count, []) == sweep.call(0)
        assert [] == sweep.quarantined()
        assert (0, []) == sweep.call(0)

    @pytest.mark.parametrize("other", ["another chunk", "another cache"])
    def test_swapped_files(self, tmp_path: Path, width: int, part: bool, other: str) -> None:
        """An intact file of another chunk, or of another cache's chunk, is never believed."""
        sweep = Sweep(tmp_path / "a", width, part)
        stranger = sweep if other == "another chunk" else Sweep(tmp_path / "b", width - 1, part)
        sweep.call(0)
        stranger.call(1)
        path, strange = sweep.file(0), stranger.file(1).read_bytes()
        path.write_bytes(strange)
        executed, (message,) = sweep.call(0)
        assert sweep.count == executed
        assert f"'{path}'" in message
        assert "another chunk" in message
        assert [strange] == [moved.read_bytes() for moved in sweep.quarantined()]

    def test_later_version(self, tmp_path: Path, width: int, part: bool) -> None:
        """A file of a later format version stops the call, says so, and is left alone."""
        sweep = Sweep(tmp_path, width, part)
        sweep.call(0)
        path = sweep.file(0)
        later = resealed(path.read_bytes(), version=chunkfile.FORMAT_VERSION + 1)
        path.write_bytes(later)
        with pytest.raises(FormatVersionError, match="upgrade chunk_memo"):
            sweep.call(0)
        assert later == path.read_bytes()
        assert [] == sweep.quarantined()

    def test_rename_refused(
        self, tmp_path: Path, width: int, part: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a damaged file cannot be moved, calls are served without it, with one warning in all."""
        sweep = Sweep(tmp_path, width, part)
        sweep.call(0)
        path = sweep.file(0)
        flip(path, HEADER.size + 1, 0)
        monkeypatch.setattr(os, "rename", refused)
        executed, (message,) = sweep.call(0)
        assert sweep.count == executed
        assert "left where it is" in message
        assert (sweep.count, []) == sweep.call(0)
        assert path.exists()


def refused(*arguments: Any) -> None:
    """Stand in for a system call that is not permitted."""
    raise PermissionError(1, "not permitted")


def test_damage_while_looking(tmp_path: Path) -> None:
    """A file that is good when it is looked at again goes back to its place, and is not lost."""
    sweep = Sweep(tmp_path, 1, False)
    sweep.call(0)
    path = sweep.file(0)
    good = path.read_bytes()
    flip(path, HEADER.size + 1, 0)
    true_quarantine = files.quarantine

    def quarantine(*arguments: Any) -> Any:
        flip(path, HEADER.size + 1, 0)
        return true_quarantine(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "quarantine", quarantine)
        executed, (message,) = sweep.call(0)
    assert 0 == executed
    assert "left where it is" in message
    assert good == path.read_bytes()
    assert [] == sweep.quarantined()


def test_a_file_may_be_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is read, also beyond the length up to which files of others are opened."""
    sweep = Sweep(tmp_path, 2_500, False)
    sweep.call(0)
    defaults = chunkfile.load.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "max_bytes", SMALL_FILE + 1)
    assert (0, []) == sweep.call(0)


# --- metadata and layouts ------------------------------------------------------------------------------------


def damages(data: bytes) -> Iterator[bytes]:
    """Yield what a text file may become: bits flipped, cut, emptied, another file's content."""
    rng = random.Random(1)
    for _ in range(8):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield bytes(changed)
    yield from (data[:-20], b"", b"[1]", b"\xff", b"[" * 100_000)


def fresh_call(root: Path, values: list[int]) -> tuple[int, list[str]]:
    """Ask for values with a new memo, in bins that only a layout or a manifest can tell."""
    memo = ChunkMemo(root, {"x": 3}, {"x": values}, verbose=0, durability="fast")
    function = memo.cache(version="1", name="square")(lambda x: np.square(x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output, diagnostics = function()
    assert [value * value for value in values] == output.tolist()
    return diagnostics.executed_points, [str(warning.message) for warning in caught]


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A root with a cache whose bins no declaration gives: values came in three steps, parts among them."""
    fresh_call(tmp_path, [4, 5, 6, 7])
    fresh_call(tmp_path, [1, 4, 2, 5, 3, 7])
    memo = ChunkMemo(tmp_path, {"x": 3}, {"x": [8, 9, 10, 11]}, verbose=0, durability="fast")
    memo.cache(version="1", name="square")(lambda x: np.square(x))(x=[9, 11])
    return tmp_path


ALL = [*range(1, 8), 9, 11]


class TestMetadata:
    """A damaged ``metadata.json`` is set aside and written anew; no result is lost."""

    def test_damage(self, grown: Path) -> None:
        """Each damage is seen: by id the cache cannot be opened, a call warns once and writes the file anew."""
        path = next(grown.glob("*/metadata.json"))
        good = path.read_bytes()
        for number, damaged in enumerate(damages(good)):
            assert damaged != good
            path.unlink()
            path.write_bytes(damaged)
            with pytest.raises(MetadataError, match="is damaged"):
                ChunkCache.load_from_cache(grown, path.parent.name)
            executed, messages = fresh_call(grown, ALL)
            assert 0 == executed
            assert [True] == [str(path) in message for message in messages]
            assert number + 1 == len(list(path.parent.glob("quarantine/*")))
            ChunkCache.load_from_cache(grown, path.parent.name)
        assert (0, []) == fresh_call(grown, ALL)

    def test_other_caches_are_still_found(self, grown: Path) -> None:
        """A cache with a damaged ``metadata.json`` hides no other."""
        ChunkCache(grown, "other", axis_values={"x": [1]}).write_metadata()
        path = next(path for path in grown.glob("*/metadata.json") if path.parent.name != "other")
        path.write_bytes(b"{")
        with pytest.warns(DamageWarning, match="metadata.json"):
            found = ChunkCache.discover_caches(grown)
        assert {True: 1, False: 1} == {
            known: sum((cache["metadata"] is not None) == known for cache in found) for known in (True, False)
        }


class TestLayouts:
    """A damaged layout is set aside, and its bins are read from the chunk files: nothing is computed again."""

    def test_damage(self, grown: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Each damage of each layout is seen, warned of once, and mended."""
        names = sorted(path.relative_to(grown) for path in grown.glob("*/layouts/*.json"))
        assert 3 == len(names)
        for name in names:
            for damaged in damages((grown / name).read_bytes()):
                root = tmp_path_factory.mktemp("copy") / "root"
                shutil.copytree(grown, root)
                (root / name).write_bytes(damaged)
                executed, messages = fresh_call(root, ALL)
                assert (0, 1) == (executed, len(messages))
                assert str(root / name) in messages[0]
                assert [damaged] == [path.read_bytes() for path in root.glob("*/quarantine/*")]
                assert (0, []) == fresh_call(root, ALL)
                shutil.rmtree(root)

    def test_all_of_them(self, grown: Path) -> None:
        """Where every layout is damaged, one is made of what the chunk files say."""
        for path in grown.glob("*/layouts/*.json"):
            path.write_bytes(b"\0" * 100)
        executed, messages = fresh_call(grown, ALL)
        assert (0, 3) == (executed, len(messages))
        assert 1 == len(list(grown.glob("*/layouts/*.json")))
        assert (0, []) == fresh_call(grown, ALL)

    def test_a_root_that_cannot_be_written(self, grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing can be written the bins hold for this process."""
        path = next(grown.glob("*/layouts/*.json"))
        path.write_bytes(b"")
        for name in ("link", "rename", "mkdir"):
            monkeypatch.setattr(os, name, refused)
        executed, (message,) = fresh_call(grown, ALL)
        assert 0 == executed
        assert "left where it is" in message
        assert path.exists()

    def test_later_version(self, grown: Path) -> None:
        """A layout of a later version stops the call, says so, and is left alone."""
        import json

        from chunk_memo.identity import digest_of_bytes

        def digest(content: Any) -> str:
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            return digest_of_bytes(text.encode()).hex()

        path = next(grown.glob("*/layouts/*.json"))
        document = {"layout_created_at": 0, "layout": {"format": 2, "all": "new"}}
        later = path.with_name(f"{digest(document['layout'])}.json")
        later.write_text(json.dumps({**document, "checksum": digest(document)}))
        with pytest.raises(FormatVersionError, match="upgrade chunk_memo"):
            fresh_call(grown, ALL)
        assert later.exists()

    def test_no_layout_at_all(self, grown: Path) -> None:
        """Chunk files that came without layouts are adopted when the index is loaded."""
        for path in grown.glob("*/layouts/*.json"):
            path.unlink()
        cache = ChunkCache.load_from_cache(grown, next(grown.iterdir()).name)
        assert 5 == len(cache.load_chunk_index())
        assert (0, []) == fresh_call(grown, ALL)
