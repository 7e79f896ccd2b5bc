"""Compressed chunk files: standard HDF5 filters, read without the HDF5 library, and safe from damage."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  # its import makes the filters known to h5py
import numpy as np
import pytest
import xarray as xr
from checking import resealed
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo import ChunkCache, ChunkMemo, run
from chunk_memo.disk import chunkfile, filters
from chunk_memo.disk.chunkfile import Content
from chunk_memo.errors import ChunkFormatError, EncodingError, SpecError

pytest.importorskip("blosc2")

Array = np.ndarray[Any, Any]

DTYPES = ["<f8", ">f4", "<i2", "u1", "?", "<c16", "S5", "S24", "M8[ns]", "m8[s]", "<f2", "V3"]
every_compression = pytest.mark.parametrize("compression", filters.COMPRESSIONS)


def values(dtype: str, shape: tuple[int, ...], seed: int, smooth: bool) -> Array:
    """Return an array that compresses well, or one that does not."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if dtype in ("S5", "S24"):
        data = bytes(97 + i % 26 for i in range(count))
    elif dtype == "?":
        data = bytes(i % 2 for i in range(count))
    else:
        data = bytes(count) if smooth else np.random.default_rng(seed).bytes(count)
    return np.frombuffer(data, dtype).reshape(shape)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Draw chunks with one array that is worth compressing, and one that is not."""
    shape = draw(st.sampled_from([(20_000,), (6001, 3), (7, 30_000), (1, 1, 200_000), (300_000,), (3, 600_000)]))
    array = values(draw(st.sampled_from(DTYPES)), shape, draw(st.integers(0, 99)), draw(st.booleans()))
    raw = draw(st.booleans())
    return Content(
        constant={"kind": "grid"},
        identity=draw(st.binary(max_size=40)),
        arrays={"value": array, "few": np.arange(3.0)},
        dims={} if raw else {"value": ("x",)},
        coords={"x": np.arange(shape[0])},
        created_at=1,
        seconds=0.5,
        compression=draw(st.sampled_from(filters.COMPRESSIONS)),
    )


def written(content: Content) -> bytes:
    """Return the file's bytes."""
    return b"".join(chunkfile.image(content))


def example(compression: str | None, rows: int = 300_000) -> Content:
    """Return a chunk of several pieces, some of which do not compress."""
    array = np.r_[np.zeros(rows // 2), np.random.default_rng(1).random(rows - rows // 2)]
    return Content({}, b"id", {"v": array}, {"v": ("x",)}, {"x": rows}, 0, 0.0, compression=compression)


def same_bytes(expected: Array, actual: Array) -> None:
    """Assert that two arrays hold the same bytes."""
    assert expected.shape == actual.shape
    assert expected.tobytes() == actual.tobytes()


class TestRoundTrip:
    """What was compressed comes back, by this library and by others."""

    @settings(max_examples=40, deadline=None)
    @given(contents(), st.data())
    def test_everyone_reads_the_same(self, content: Content, data: st.DataObject) -> None:
        """Both this library and h5py with the registered filters read what was written."""
        array = content.arrays["value"]
        file = written(content)
        chunk = chunkfile.parse(file)
        assert not chunk.plain
        assert array.dtype == chunk.dtype("value")
        same_bytes(array, chunk.array("value"))
        same_bytes(content.arrays["few"], chunk.array("few"))
        start = data.draw(st.integers(0, len(array)))
        stop = data.draw(st.integers(start, len(array)))
        same_bytes(array[start:stop], chunk.rows("value", start, stop))
        with h5py.File(io.BytesIO(file)) as opened:
            found = [name for name in ("value", "_raw/value") if name in opened]
            dataset = opened[found[0]]
            assert dataset.chunks is not None
            assert array.tobytes() == dataset[...].tobytes()

    @every_compression
    def test_verify(self, compression: str, tmp_path: Path) -> None:
        """A file of any length is loaded from disk and verified; the last piece may be shorter."""
        for rows in (2048, 5000, 131_072, 131_073, 400_001):
            content = example(compression, rows)
            path = tmp_path / f"{rows}.h5"
            path.write_bytes(written(content))
            chunkfile.verify(path)
            with chunkfile.load(path) as chunk:
                same_bytes(content.arrays["v"], chunk.array("v"))

    @pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
    def test_netcdf_readers(self, engine: Any, tmp_path: Path) -> None:
        """Files compressed by gzip are read by xarray's engines without any plugin."""
        content = example("gzip")
        (tmp_path / "a.nc").write_bytes(written(content))
        with xr.open_dataset(tmp_path / "a.nc", engine=engine) as dataset:
            same_bytes(content.arrays["v"], dataset["v"].values)

    @every_compression
    def test_smaller(self, compression: str) -> None:
        """What repeats itself takes a small part of the bytes, and small arrays are left alone."""
        smooth = Content({}, b"", {"v": np.arange(1e5) // 100}, {}, {}, 0, 0.0)
        plain, packed = (written(replace(smooth, compression=c)) for c in (None, compression))
        assert 10 * len(packed) < len(plain)
        few = Content({}, b"", {"v": np.zeros(100)}, {}, {}, 0, 0.0)
        assert written(few) == written(replace(few, compression=compression))

    @every_compression
    def test_template_of_other_values(self, compression: str) -> None:
        """One press makes files whose pieces differ in length."""
        first = example(compression)
        press = chunkfile.Press(first)
        for seed in range(3):
            array = np.random.default_rng(seed).integers(0, 3**seed, 300_000).astype(float)
            file = b"".join(press.image([array], b"other", 0, 0.0))
            same_bytes(array, chunkfile.parse(file).array("v"))
            with h5py.File(io.BytesIO(file)) as opened:
                same_bytes(array, opened["v"][...])


class TestDamage:
    """Damage to compressed bytes is seen, and no piece grows beyond what it should hold."""

    @every_compression
    def test_flips(self, compression: str, tmp_path: Path) -> None:
        """A flipped bit anywhere is noticed by verify, and never gives a wrong value."""
        content = example(compression, 150_000)
        good = written(content)
        rng = random.Random(5)
        for _ in range(60):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            path = tmp_path / "bad.h5"
            path.write_bytes(bad)
            with pytest.raises(ChunkFormatError):
                chunkfile.verify(path)
            try:
                value = chunkfile.parse(bytes(bad)).array("v")
            except ChunkFormatError:
                continue
            same_bytes(content.arrays["v"], value)

    @every_compression
    def test_truncated(self, compression: str) -> None:
        """A file that was cut short or got longer is damaged."""
        good = written(example(compression, 20_000))
        for bad in (good[:-1], good[:-4000], good + b"\0", good[:5000]):
            with pytest.raises(ChunkFormatError):
                chunkfile.parse(bad)

    @every_compression
    @given(st.data())
    @settings(max_examples=30, deadline=None)
    def test_foreign_bytes(self, compression: str, data: st.DataObject) -> None:
        """Bytes that are no such piece, or a piece of another length, are a ValueError."""
        packing = filters.packing_for(compression, (4000,), 8)
        assert packing is not None
        (piece,) = packing.pack(memoryview((np.arange(4000) % 7).tobytes()))
        stored = bytes(piece.data)
        out = memoryview(bytearray(32_000))
        longer = filters.packing_for(compression, (8000,), 8)
        assert longer is not None
        (much,) = longer.pack(memoryview(bytes(64_000)))
        cut = stored[: data.draw(st.integers(0, len(stored) - 1))]
        for wrong in (cut, data.draw(st.binary(max_size=100)), bytes(much.data)):
            with pytest.raises(ValueError, match=r"."):
                packing.unpack(wrong, False, out)

    def test_bomb(self) -> None:
        """A stream that would become a gigabyte is given up at the length of its piece."""
        packing = filters.packing_for("gzip", (20_000,), 1)
        assert packing is not None
        machine = zlib.compressobj()
        bomb = b"".join(machine.compress(bytes(1 << 20)) for _ in range(64)) + machine.flush()
        with pytest.raises(ValueError, match="longer or shorter"):
            packing.unpack(bomb, False, memoryview(bytearray(20_000)))

    def test_impossible_lengths(self) -> None:
        """Pieces that cannot hold what the table says are refused before memory is asked for."""
        packing = filters.Packing("gzip", 1 << 30, 8, 8, 1)
        assert not packing.is_possible([100])
        assert not packing.is_possible([0])
        file = bytearray(written(example("zstd", 20_000)))
        header = chunkfile.Header(*chunkfile.HEADER.unpack_from(file))
        at = chunkfile.HEADER.size + header.constant_size + header.identity_size + 8 * header.checksum_count
        struct.pack_into("<Q", file, at, 8)
        with pytest.raises(ChunkFormatError, match="pieces do not fit"):
            chunkfile.parse(resealed(bytes(file)))


class TestCaches:
    """Compression is how files are written, and no part of what they are."""

    @every_compression
    def test_mixed(self, compression: str, tmp_path: Path) -> None:
        """Chunks written with and without compression serve one request, and none is run again."""

        def sweep(x: list[int], y: list[int]) -> Array:
            output: Array = np.add.outer(np.asarray(x), np.asarray(y) % 10) * 1.0
            return output

        def opened(kind: str | None) -> ChunkCache:
            grid = {"x": list(range(4)), "y": list(range(5000))}
            return ChunkCache(tmp_path, "mixed", {}, {"x": 1}, grid, compression=kind, verbose=0)

        run(opened(compression).slice(x=[0, 2]), sweep)
        run(opened(None).slice(x=[1]), sweep)
        output, done = run(opened("gzip"), sweep)
        assert (1, 3) == (done.executed_chunks, done.cached_chunks)
        again, done = run(opened(None), sweep)
        assert 0 == done.executed_points
        expected = sweep(list(range(4)), list(range(5000)))
        same_bytes(expected, output)
        same_bytes(expected, again)
        some, done = run(opened(None).slice(x=[3, 0], y=[4999, 0, 7]), sweep)
        assert 0 == done.executed_points
        same_bytes(expected[np.ix_([3, 0], [4999, 0, 7])], some)

    def test_parts(self, tmp_path: Path) -> None:
        """Parts are compressed, too, and fold into a compressed file."""

        def opened() -> ChunkCache:
            return ChunkCache(
                tmp_path, "parts", axis_values={"x": list(range(9000))}, compression="zstd", verbose=0
            )

        def sweep(x: list[int]) -> Array:
            return np.asarray(x) % 5 * 1.0

        run(opened().slice(x=list(range(6000))), sweep)
        (part,) = tmp_path.rglob("*.parts/*.h5")
        with chunkfile.load(part) as chunk:
            assert not chunk.plain
        output, done = run(opened(), sweep)
        assert 3000 == done.executed_points
        same_bytes(np.arange(9000) % 5 * 1.0, output)
        (whole,) = tmp_path.rglob("*.h5")
        with chunkfile.load(whole) as chunk:
            assert not chunk.plain

    def test_memo(self, tmp_path: Path) -> None:
        """The memo's compression holds for its functions, unless the decorator names another."""
        memo = ChunkMemo(tmp_path, {}, {"x": list(range(9000))}, compression="gzip", verbose=0)

        @memo.cache(version="1")
        def first(x: list[int]) -> Array:
            return np.asarray(x) * 0.0

        @memo.stream_cache(version="1", compression="zstd")
        def second(x: list[int]) -> Array:
            return np.asarray(x) * 0.0

        first()
        second()
        for function, name in ((first, "gzip"), (second, "zstd")):
            cache = function.cache_for()
            assert name == cache.compression
            (path,) = cache.path.rglob("*.h5")
            with chunkfile.load(path) as chunk:
                assert not chunk.plain
        assert 0 == first()[1].executed_points

    @pytest.mark.parametrize("wrong", ["lz4", "", 3, True])
    def test_unknown(self, wrong: Any, tmp_path: Path) -> None:
        """An unknown compression is refused, with those that there are."""
        with pytest.raises(SpecError, match="compression must be one of"):
            ChunkCache(tmp_path, "id", axis_values={}, compression=wrong)

    @pytest.mark.parametrize("package", ["zstandard", "blosc2"])
    def test_missing_package(self, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a package is missing the error says how to install it, before anything is computed."""
        name = {"zstandard": "zstd", "blosc2": "blosc2"}[package]
        monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None)
        monkeypatch.setitem(sys.modules, package, None)
        packing = filters.packing_for(name, (9000,), 8)
        assert packing is not None
        if package == "blosc2" or sys.version_info < (3, 14):
            with pytest.raises(EncodingError, match=r"pip install 'chunk-memo\[compression\]'"):
                filters.checked_compression(name)
            with pytest.raises(EncodingError, match=r"pip install 'chunk-memo\[compression\]'"):
                list(packing.pack(memoryview(bytes(72_000))))
        else:
            assert name == filters.checked_compression(name)
