"""The chunk file: what is written is read back, by anyone, and damage is always seen."""

from __future__ import annotations

import io
import itertools
import json
import random
import string
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from checking import header_of, resealed
from hypothesis import given, settings
from hypothesis import strategies as st

from chunk_memo.disk import chunkfile, files, hdf5image
from chunk_memo.disk.chunkfile import HEADER, Content, Header
from chunk_memo.errors import (
    ChunkFormatError,
    EncodingError,
    FormatVersionError,
    SpecError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENGINES: list[Any] = ["h5netcdf", "netcdf4"]
SIMPLE_DTYPES = [
    "?", "<i1", "<u1", "<i2", ">i2", "<u2", "<i4", "<u4", ">u4", "<i8", "<u8", ">i8",
    "<f4", ">f4", "<f8", ">f8", "S1", "S4", "S16",
]  # fmt: skip
TIME_DTYPES = [
    "M8[ns]", "M8[us]", "M8[ms]", "M8[s]", "M8[m]", "M8[h]", "M8[D]", ">M8[ms]",
    "m8[ns]", "m8[s]", ">m8[D]",
]  # fmt: skip
RAW_DTYPES: list[Any] = [
    "<f2", ">f2", "g", "<c8", "<c16", ">c16", "G", "V1", "V5", "M8[Y]", "M8[W]", "M8[25us]",
    "m8[as]", "m8[M]", "m8", "S0", "V0",
    [("a", "<i4"), ("b", "<f8", (2,))],
    [("a", "?"), ("b", "S3")],
    [("a", [("x", "<c16")]), ("h", "<f2")],
    np.dtype({"names": ["a", "b"], "formats": ["u1", ">f8"], "offsets": [3, 8], "itemsize": 24}),
    np.dtype((np.record, [("x", "<f4"), ("ü", "<M8[D]")])),
    np.dtype([(("title", "name"), "<i2")]),
]  # fmt: skip
COORD_DTYPES = ["<i8", "<f8", ">f4", "S4", "?", "M8[D]", "M8[ns]", "m8[s]", "<u2", "<c16", "<f2"]
ODD_NAMES = [
    "", " ", ".", "..", "/", "//", "a/b", "/a", "a/", "_raw", "_nc4_non_coord_x", "[0]", "x ",
    "fit/beta.offsets", "value", "value_dim1", "value_2", "\0", "\ud800", "é", "e\u0301", "日本語",
    "x" * 300, "é" * 150, "CLASS", "NAME", "_FillValue", "1", "-", "x\n",
]  # fmt: skip


def filled(dtype: Any, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Make an array of random bytes that are values of the dtype."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape, dtype=object))
    if dtype.kind == "?" or dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "S" and seed % 4:
        letters = np.frombuffer(string.ascii_letters.encode() + b"\0", np.uint8)
        data = rng.choice(letters, count * dtype.itemsize).tobytes()
    elif dtype.kind in "mM" and seed % 4:
        numbers = rng.integers(-100_000, 100_000, count)
        numbers[rng.random(count) < 0.1] = np.iinfo(np.int64).min
        data = numbers.astype(dtype.str[0] + "i8").tobytes()
    elif dtype.names is not None and "a" in dtype.names and dtype["a"].kind == "b":
        return np.zeros(shape, dtype)
    else:
        data = rng.bytes(count * dtype.itemsize)
    return np.ndarray(shape, dtype, buffer=data if data else b"")


names = st.one_of(st.sampled_from(ODD_NAMES), st.text(max_size=6), st.just("value"))
seeds = st.integers(0, 2**32)
any_dtype = st.one_of(st.sampled_from(SIMPLE_DTYPES), st.sampled_from(TIME_DTYPES), st.sampled_from(RAW_DTYPES))


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Draw chunks of every form: odd names, all dtypes, empty axes, raw arrays."""
    coords: dict[str, np.ndarray[Any, Any] | int] = {}
    for name in draw(st.lists(names, max_size=3, unique=True)):
        length = draw(st.sampled_from([0, 1, 2, 3, 5]))
        dtype = draw(st.one_of(st.none(), st.sampled_from(COORD_DTYPES)))
        coords[name] = length if dtype is None else filled(dtype, (length,), draw(seeds))
    arrays, dims = {}, {}
    for name in draw(st.lists(names, max_size=5, unique=True)):
        order = draw(st.permutations(list(coords)))
        leading = tuple(order[: draw(st.integers(0, len(order)))])
        shape = tuple(length_of(coords[dim]) for dim in leading)
        shape += tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=2)))
        arrays[name] = filled(draw(any_dtype), shape, draw(seeds))
        if draw(st.integers(0, 4)):
            dims[name] = leading
    return Content(
        constant=draw(st.sampled_from([None, {"kind": "grid"}, ["é", 1.5, {"": [None]}]])),
        identity=draw(st.binary(max_size=40)),
        arrays=arrays,
        dims=dims,
        coords=coords,
        created_at=draw(st.integers(-(2**63), 2**63 - 1)),
        seconds=draw(st.floats(allow_nan=False)),
        attributes=draw(st.dictionaries(names, st.text(max_size=5), max_size=2)),
    )


def length_of(coord: np.ndarray[Any, Any] | int) -> int:
    """Return the length of a dimension."""
    return coord if isinstance(coord, int) else len(coord)


def written(content: Content) -> bytes:
    """Return the file's bytes."""
    return b"".join(chunkfile.image(content))


def stored(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what is read for this array: S0 has become S1."""
    return array.astype("S1") if array.dtype == np.dtype("S0") else array


def assert_same(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> None:
    """Equal in dtype, shape and every byte."""
    expected = stored(expected)
    assert (expected.dtype, expected.dtype.type) == (actual.dtype, actual.dtype.type)
    assert expected.shape == actual.shape
    assert expected.tobytes() == actual.tobytes()
    assert not actual.flags.writeable


def assert_reads_as(content: Content, chunk: chunkfile.Chunk) -> None:
    """The chunk holds what was written."""
    assert content.constant == chunk.constant
    assert content.identity == chunk.identity
    assert content.created_at == chunk.created_at
    assert content.seconds == chunk.seconds
    assert list(content.arrays) == chunk.names
    assert {n: content.dims.get(n) for n in content.arrays} == chunk.dims
    for name, array in content.arrays.items():
        assert_same(array, chunk.array(name))
        assert stored(array).dtype == chunk.dtype(name)
        assert array.shape == chunk.shape(name)
    assert {n: length_of(c) for n, c in content.coords.items()} == chunk.sizes
    for name, coord in content.coords.items():
        expected = np.arange(coord) if isinstance(coord, int) else coord
        assert_same(expected, chunk.coords(name))


def constant_of(data: bytes) -> Any:
    """Return the parsed constant part."""
    return json.loads(data[HEADER.size : HEADER.size + header_of(data).constant_size])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that examples of one test share."""
    return tmp_path_factory.mktemp("chunks")


paths = itertools.count()


def saved(folder: Path, data: bytes) -> Path:
    """Save a file under a name of its own."""
    path = folder / f"{next(paths)}.h5"
    path.write_bytes(data)
    return path


def grid(rows: int, **changes: Any) -> Content:
    """A plain chunk: a matrix over x, a label and a flag for each x."""
    x = np.arange(rows, dtype=float) / 8
    content = Content(
        constant={"kind": "grid"},
        identity=b"identity",
        arrays={
            "value": np.arange(rows * 3, dtype=float).reshape(rows, 3),
            "label": np.arange(rows).astype("S8"),
            "flag": np.arange(rows) % 2 == 0,
            "phase": np.arange(rows) * 1j,
        },
        dims={"value": ("x",), "label": ("x",), "flag": ("x",), "phase": ("x",)},
        coords={"x": x},
        created_at=1,
        seconds=0.5,
    )
    return replace(content, **changes)


# --- round trips ------------------------------------------------------------------------------


class TestRoundTrip:
    """What was written is what is read."""

    @settings(max_examples=150, deadline=None)
    @given(contents())
    def test_memory(self, content: Content) -> None:
        """Every chunk of every form comes back from its bytes, exact in dtype and bytes."""
        assert_reads_as(content, chunkfile.parse(written(content)))

    @pytest.mark.long
    @settings(max_examples=5000, deadline=None)
    @given(contents())
    def test_memory_long(self, content: Content) -> None:
        """The same for many more chunks."""
        assert_reads_as(content, chunkfile.parse(written(content)))

    @settings(max_examples=40, deadline=None)
    @given(contents())
    def test_file(self, folder: Path, content: Content) -> None:
        """A chunk that was committed is loaded and verified."""
        path = folder / f"{next(paths)}.h5"
        assert files.commit(path, chunkfile.image(content), files.Syncer("fast"))
        chunkfile.verify(path)
        with chunkfile.load(path) as chunk:
            assert_reads_as(content, chunk)
            status = path.stat()
            assert (status.st_dev, status.st_ino) == chunk.file_id
            assert status.st_size == chunk.nbytes

    @pytest.mark.parametrize("rows", [0, 1, 1000, 10_000, 50_000])
    def test_sizes(self, tmp_path: Path, rows: int) -> None:
        """Small files, long ones, and arrays with a checksum per block all come back."""
        content = grid(rows)
        data = written(content)
        assert_reads_as(content, chunkfile.parse(data))
        path = saved(tmp_path, data)
        chunkfile.verify(path)
        with chunkfile.load(path) as chunk:
            assert_reads_as(content, chunk)

    def test_large_manifest(self, tmp_path: Path) -> None:
        """A manifest that is longer than the first read is read to its end."""
        content = grid(10, constant={"text": "x" * 100_000}, identity=b"i" * 70_000)
        path = saved(tmp_path, written(content))
        with chunkfile.load(path) as chunk:
            assert_reads_as(content, chunk)

    @pytest.mark.parametrize("identity_size", [3000, 4096, 8000])
    def test_user_block_grows(self, identity_size: int) -> None:
        """The user block is the power of two that fits the manifest."""
        data = written(grid(10, identity=b"i" * identity_size))
        header = header_of(data)
        assert header.user_block.bit_count() == 1
        assert header.user_block // 2 < header.manifest_size + 200
        assert data[header.user_block : header.user_block + 8] == b"\x89HDF\r\n\x1a\n"

    @given(st.integers(0, 200_000), st.integers(0, 200_000))
    @settings(max_examples=60, deadline=None)
    def test_rows(self, big_file: BigFile, a: int, b: int) -> None:
        """Rows of an array are those of the whole array, whatever blocks they lie in."""
        start, stop = min(a, b), max(a, b)
        with chunkfile.load(big_file.path) as chunk:
            assert_same(big_file.value[start:stop], chunk.rows("value", start, stop))

    def test_rows_read_only_their_blocks(self, big_file: BigFile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A row costs one block of 64 KiB, not the array."""
        read: list[int] = []
        true_pread = files.pread_into

        def counted(fd: int, buffer: Any, offset: int) -> None:
            read.append(len(buffer))
            true_pread(fd, buffer, offset)

        with chunkfile.load(big_file.path) as chunk:
            monkeypatch.setattr(files, "pread_into", counted)
            chunk.rows("value", 100_000, 100_001)
        assert [65536] == read

    @pytest.mark.parametrize("rows", [(0, 11), (-1, 2), (5, 4)])
    def test_no_such_rows(self, rows: tuple[int, int]) -> None:
        """Rows that are not there are refused."""
        with pytest.raises(SpecError, match="expected rows within shape"):
            chunkfile.parse(written(grid(10))).rows("value", *rows)

    def test_unknown_names(self) -> None:
        """An unknown array or dimension is a KeyError that lists those that there are."""
        chunk = chunkfile.parse(written(grid(3)))
        with pytest.raises(KeyError, match=r"'valu'.*'value', 'label'"):
            chunk.array("valu")
        with pytest.raises(KeyError, match=r"dimension 'y'.*'x'"):
            chunk.coords("y")

    def test_closed(self, big_file: BigFile) -> None:
        """A closed chunk says so, and what was read from it stays."""
        chunk = chunkfile.load(big_file.path)
        value = chunk.array("value")
        chunk.close()
        chunk.close()
        assert_same(big_file.value, value)
        with pytest.raises(SpecError, match="closed"):
            chunk.array("value")

    def test_no_descriptor_is_kept(self, big_file: BigFile) -> None:
        """A chunk that is forgotten closes its file."""
        before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
        for _ in range(20):
            chunkfile.load(big_file.path)
        after = len(list(Path("/proc/self/fd").iterdir())) if before else 0
        assert before == after

    def test_reading_does_not_import_h5py(self, tmp_path: Path) -> None:
        """A process that only reads never loads the HDF5 library."""
        path = saved(tmp_path, written(grid(10)))
        code = (
            "import sys; from chunk_memo.disk import chunkfile; "
            f"chunkfile.load({str(path)!r}).array('value'); chunkfile.verify({str(path)!r}); "
            "print('h5py' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "False" == done.stdout.strip()

    def test_max_bytes(self, big_file: BigFile) -> None:
        """A file beyond max_bytes is refused, and not called damaged."""
        with pytest.raises(SpecError, match="pass a larger max_chunk_bytes"):
            chunkfile.load(big_file.path, max_bytes=100_000)


@dataclass(frozen=True)
class BigFile:
    """A chunk file with an array of several blocks."""

    path: Path
    value: np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def big_file(folder: Path) -> BigFile:
    """A file whose array has 200,000 rows of 12 bytes, so that rows cross block borders."""
    value = np.arange(600_000, dtype="<i4").reshape(200_000, 3)
    content = Content({}, b"", {"value": value}, {"value": ("x",)}, {"x": 200_000}, 0, 0.0)
    return BigFile(saved(folder, written(content)), value)


class TestRefusals:
    """What cannot be stored is refused in words."""

    @pytest.mark.parametrize("dtype", ["O", "U3"])
    def test_dtypes(self, dtype: str) -> None:
        """Objects and U strings have no fixed bytes."""
        with pytest.raises(EncodingError, match=r"'a': expected .* fixed size"):
            chunkfile.image(Content({}, b"", {"a": np.zeros(3, dtype)}, {}, {}, 0, 0.0))

    @pytest.mark.parametrize(
        ("dims", "coords", "message"),
        [
            (("y",), {"x": 3}, "expected dimensions of"),
            (("x",), {"x": 4}, "shape that begins with"),
            (("x", "x"), {"x": 3}, "each once"),
            (("x",), {"x": np.zeros((3, 1))}, "one axis"),
            (("x",), {"x": -3}, "0 or more"),
        ],
    )
    def test_dims(self, dims: tuple[str, ...], coords: Mapping[str, Any], message: str) -> None:
        """Dimensions that do not fit are refused."""
        content = Content({}, b"", {"a": np.zeros((3, 3))}, {"a": dims}, coords, 0, 0.0)
        with pytest.raises(SpecError, match=message):
            chunkfile.image(content)


# --- other readers ----------------------------------------------------------------------------


def assert_h5py_agrees(data: bytes) -> None:
    """The HDF5 library finds every array of the manifest with the same bytes."""
    chunk = chunkfile.parse(data)
    document = constant_of(data)
    arrays = [(entry, chunk.array(entry["name"])) for entry in document["arrays"]]
    arrays += [(e, chunk.coords(e["name"])) for e in document["coords"] if "path" in e]
    with h5py.File(io.BytesIO(data)) as file:
        for entry, array in arrays:
            dataset = file[entry["path"]]
            assert array.tobytes() == dataset[...].tobytes()
            assert array.nbytes == 0 or dataset.id.get_offset() == entry["offset"]
            assert len(entry["path"].rpartition("/")[2].encode()) <= 200


def assert_everyone_reads(path: Path) -> None:
    """Open a file with each netCDF reader, and read all that it finds."""
    for engine in ENGINES:
        with xr.open_dataset(path, engine=engine) as dataset:
            dataset.load()
    with netCDF4.Dataset(path) as dataset:
        everything = [dataset, *dataset.groups.values()]
        variables = [v for group in everything for v in group.variables.values()]
        for variable in variables:
            variable.set_auto_maskandscale(False)
            assert np.shape(variable[...]) == variable.shape
        with h5py.File(path) as file:
            # netCDF lists what it can express, and skips some of what lies in _raw.
            root = [name for name in file if isinstance(file[name], h5py.Dataset)]
            assert len(root) >= len(dataset.variables)


def assert_scales_are_attached(content: Content, data: bytes) -> None:
    """Every axis of every array in the root group has one scale, that of its dimension."""
    document = constant_of(data)
    with h5py.File(io.BytesIO(data)) as file:
        scales = {file[name].id.__hash__(): name for name in file if isinstance(file[name], h5py.Dataset)}
        assert len(scales) == len([n for n in file if n != "_raw"])
        for entry in document["arrays"]:
            dataset = file[entry["path"]]
            if entry["path"].startswith("/_raw/"):
                continue
            assert [1] * dataset.ndim == [len(dim) for dim in dataset.dims]
            attached = [dim[0] for dim in dataset.dims]
            assert len({scale.name for scale in attached}) == dataset.ndim
            assert [len(scale) for scale in attached] == list(dataset.shape)
            for name, scale in zip(content.dims[entry["name"]], attached, strict=False):
                assert name == true_name(scale)


def true_name(dataset: Any) -> str:
    """Return the name that a dataset stands for."""
    text = dataset.attrs.get("long_name", dataset.name[1:].encode())
    return str(text.decode() if isinstance(text, bytes) else text)


def readable(name: str) -> str:
    """Return a name as it stands in long_name."""
    return name.replace("\0", "\\0").encode(errors="backslashreplace").decode()


class TestOtherReaders:
    """HDF5 and netCDF libraries read every file."""

    @settings(max_examples=60, deadline=None)
    @given(contents())
    def test_h5py(self, content: Content) -> None:
        """h5py finds the same bytes at the same places."""
        assert_h5py_agrees(written(content))

    @settings(max_examples=40, deadline=None)
    @given(contents())
    def test_every_engine_opens_every_file(self, folder: Path, content: Content) -> None:
        """Both xarray engines and netCDF4 open and read every file, groups included."""
        assert_everyone_reads(saved(folder, written(content)))

    @pytest.mark.long
    @settings(max_examples=5000, deadline=None)
    @given(contents())
    def test_every_engine_opens_every_file_long(self, folder: Path, content: Content) -> None:
        """The same for many more files."""
        path = saved(folder, written(content))
        assert_everyone_reads(path)
        path.unlink()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_odd_names(self, tmp_path: Path, engine: Any) -> None:
        """Every odd name, of a dimension or an array, opens and tells the true name."""
        for coord in (np.arange(2.0), 2):
            for name in ODD_NAMES:
                content = Content(
                    {}, b"", {f"{name}'": np.zeros(2)}, {f"{name}'": (name,)}, {name: coord}, 0, 0.0
                )
                path = saved(tmp_path, written(content))
                with xr.open_dataset(path, engine=engine) as dataset:
                    dataset.load()
                    (array,) = dataset.data_vars.values()
                    assert readable(name) + "'" == array.attrs["long_name"]
                    for dimension in dataset.coords.values():
                        found = dimension.attrs.get("long_name", dimension.name)
                        assert readable(name) == found

    @pytest.mark.parametrize("engine", ENGINES)
    def test_values(self, tmp_path: Path, engine: Any) -> None:
        """What netCDF can express is read with its type, over its coordinates."""
        time = np.array(["2020-01-01", "NaT", "1999-12-31T23:59:59.123456789"], "M8[ns]")
        content = Content(
            constant={},
            identity=b"",
            arrays={
                "value": np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]]),
                "flag": np.array([True, False, True]),
                "when": time,
                "long": np.array([1, 2, 3], "m8[h]"),
                "count": np.array([1, 2, 2**64 - 1], np.uint64),
                "big": np.array([1, 2, 3], ">i4"),
                "phase": np.array([1j, 2j, 3j]),
                "fit/beta": np.array([0.5, 0.25, 0.125]),
                "scalar": np.array(2.5),
            },
            dims={
                "value": ("day", "point"),
                "flag": ("day",),
                "when": ("day",),
                "long": ("day",),
                "count": ("day",),
                "big": ("day",),
                "phase": ("day",),
                "fit/beta": ("day",),
                "scalar": (),
            },
            coords={
                "day": np.array(["2020-01-01", "2020-01-02", "2020-01-05"], "M8[D]"),
                "point": 2,
            },
            created_at=0,
            seconds=0.0,
            attributes={"function": "größe"},
        )
        path = saved(tmp_path, written(content))
        with xr.open_dataset(path, engine=engine) as dataset:
            assert {"day"} == set(dataset.coords)
            assert {"day": 3, "point": 2} == dict(dataset.sizes)
            assert content.coords["day"].tolist() == dataset["day"].values.astype("M8[D]").tolist()  # type: ignore[union-attr]
            for name in ["value", "flag", "when", "count", "big"]:
                np.testing.assert_array_equal(content.arrays[name], dataset[name].values)
                assert content.arrays[name].dtype.kind == dataset[name].dtype.kind
            assert (
                content.arrays["long"].astype("m8[ns]").tolist()
                == dataset["long"].values.astype("m8[ns]").tolist()
            )
            assert "fit/beta" == dataset["fit_beta"].attrs["long_name"]
            assert ("day", "point") == dataset["value"].dims
            assert 2.5 == dataset["scalar"].item()
            assert "größe" == dataset.attrs["function"]
            assert "phase" not in dataset
        with h5py.File(path) as file:
            assert [1j, 2j, 3j] == file["_raw/phase"][...].tolist()

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        "coord",
        [
            np.array([b"low", b"high", "größ".encode()]),
            np.array([3, 1, 2], np.uint8),
            np.array([True, False, True]),
            np.array([0.5, np.nan, -1.0]),
            np.array([1, 2, 3], "m8[s]"),
            np.array(["2001-01-01", "NaT", "2001-01-02"], "M8[s]"),
        ],
    )
    def test_coordinates(self, tmp_path: Path, engine: Any, coord: np.ndarray[Any, Any]) -> None:
        """Coordinates of every kind that netCDF has are the coordinates of the dataset."""
        content = Content({}, b"", {"v": np.zeros(3)}, {"v": ("my axis",)}, {"my axis": coord}, 0, 0.0)
        with xr.open_dataset(saved(tmp_path, written(content)), engine=engine) as dataset:
            assert ["my_axis"] == list(dataset.coords)
            assert "my axis" == dataset["my_axis"].attrs["long_name"]
            found = dataset["my_axis"].values
            if coord.dtype.kind == "S":
                words = [w.decode() if isinstance(w, bytes) else w for w in found.tolist()]
                assert [word.decode() for word in coord.tolist()] == words
            else:
                np.testing.assert_array_equal(coord, found)

    def test_coordinate_that_netcdf_lacks(self, tmp_path: Path) -> None:
        """A complex coordinate lies in _raw, and its dimension has only a length."""
        coord = np.array([1j, 2j, 3j])
        content = Content({}, b"", {"v": np.zeros(3)}, {"v": ("z",)}, {"z": coord}, 0, 0.0)
        path = saved(tmp_path, written(content))
        assert_same(coord, chunkfile.load(path).coords("z"))
        for engine in ENGINES:
            with xr.open_dataset(path, engine=engine) as dataset:
                assert {"z": 3} == dict(dataset.sizes)
                assert [] == list(dataset.coords)
        with h5py.File(path) as file:
            assert coord.tolist() == file["_raw/z"][...].tolist()

    @settings(max_examples=40, deadline=None)
    @given(contents())
    def test_scales(self, content: Content) -> None:
        """Every axis in the root group has a scale of its own, that of its dimension."""
        readable_names = {name: readable(name) for name in content.coords}
        content = replace(
            content,
            coords={readable_names[name]: c for name, c in content.coords.items()},
            dims={name: tuple(readable_names[dim] for dim in dims) for name, dims in content.dims.items()},
        )
        if len(content.coords) == len(readable_names):
            assert_scales_are_attached(content, written(content))

    @pytest.mark.parametrize("dtype", ["M8[D]", "M8[s]", "m8[ms]", "M8[ns]"])
    def test_dates_out_of_reach(self, tmp_path: Path, dtype: str) -> None:
        """Dates that readers cannot decode do not keep them from opening the file."""
        when = np.array([2**62, -(2**62), 0]).view(dtype)
        content = Content({}, b"", {"t": when}, {"t": ("x",)}, {"x": when}, 0, 0.0)
        path = saved(tmp_path, written(content))
        assert_same(when, chunkfile.load(path).array("t"))
        for engine in ENGINES:
            with xr.open_dataset(path, engine=engine) as dataset:
                dataset.load()

    def test_many_axes(self) -> None:
        """An array with more axes than HDF5 has is stored flat."""
        most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
        for ndim in (31, 32, most):
            for dtype in ("i4", "f2"):
                array = np.arange(2, dtype=dtype).reshape((1,) * (ndim - 1) + (2,))
                content = Content({}, b"", {"a": array}, {"a": ()}, {}, 0, 0.0)
                data = written(content)
                assert_reads_as(content, chunkfile.parse(data))
                assert_h5py_agrees(data)

    def test_long_texts(self) -> None:
        """Long names and attributes are cut in the HDF5 part only."""
        content = grid(3, attributes={f"a{n}": "é" * 50_000 for n in range(20)})
        name = "n" * 100_000
        content = replace(content, arrays={name: np.zeros(3)}, dims={name: ("x",)})
        data = written(content)
        assert_reads_as(content, chunkfile.parse(data))
        assert_h5py_agrees(data)


# --- templates --------------------------------------------------------------------------------


class TestTemplates:
    """The HDF5 library writes once per form."""

    @pytest.mark.parametrize("rows", [5, 1000, 10_000])
    def test_only_patched_bytes_differ(self, rows: int) -> None:
        """Two images of one template differ in manifest and arrays only, and h5py agrees."""
        first = grid(rows)
        second = replace(
            first,
            arrays={name: array[::-1].copy() for name, array in first.arrays.items()},
            coords={"x": -np.asarray(first.coords["x"])},
            identity=b"another!",
            created_at=2,
        )
        one, two = written(first), written(second)
        may_differ = np.zeros(len(one), bool)
        may_differ[: header_of(one).manifest_size] = True
        document = constant_of(one)
        for entry in document["arrays"] + document["coords"]:
            may_differ[entry["offset"] : entry["offset"] + entry["nbytes"]] = True
        differ = np.frombuffer(one, np.uint8) != np.frombuffer(two, np.uint8)
        assert differ.any()
        assert not (differ & ~may_differ).any()
        assert_h5py_agrees(two)
        assert_reads_as(second, chunkfile.parse(two))

    def test_built_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The HDF5 library is asked once per form, and again for another one."""
        built = []
        true_write = hdf5image.write_skeleton

        def counted(layout: hdf5image.Layout, user_block: int) -> hdf5image.Skeleton:
            built.append(user_block)
            return true_write(layout, user_block)

        monkeypatch.setattr(hdf5image, "write_skeleton", counted)
        for n in range(5):
            written(grid(7, attributes={"test": "built once"}, created_at=n))
        assert [2048] == built
        written(grid(7, attributes={"test": "built twice"}))
        assert [2048, 2048] == built

    def test_equal_forms_of_other_dtypes(self) -> None:
        """Forms that differ only in the dtype do not share a template."""
        for dtype in ["i8", ">i8", "u8", "f8", "M8[s]", "M8[ms]", "m8[s]", "c8", "S8", "V8"]:
            array = np.zeros(3, dtype)
            content = Content({}, b"", {"a": array}, {"a": ("x",)}, {"x": 3}, 0, 0.0)
            assert_same(array, chunkfile.parse(written(content)).array("a"))

    def test_records_and_structures(self) -> None:
        """A record array and a structured one are equal dtypes, and yet each comes back."""
        fields = [("a", "<i4")]
        for dtype in [np.dtype(fields), np.dtype((np.record, fields))]:
            content = Content({}, b"", {"a": np.zeros(3, dtype)}, {}, {}, 0, 0.0)
            assert dtype.type is chunkfile.parse(written(content)).array("a").dtype.type

    def test_huge_arrays_cost_no_copy(self) -> None:
        """The image of a long file holds the caller's memory, not a copy."""
        value = np.zeros((1000, 1000))
        content = Content({}, b"", {"v": value}, {"v": ("x",)}, {"x": 1000}, 0, 0.0)
        views = [np.asarray(memoryview(buffer)) for buffer in chunkfile.image(content)]
        assert [value.nbytes] == [len(view) for view in views if np.shares_memory(view, value)]

    def test_threads(self) -> None:
        """Threads that write the same and other forms at once all write intact files."""
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for n in range(20):
                    content = grid(1 + n % 4, identity=b"%d" % number)
                    assert_reads_as(content, chunkfile.parse(written(content)))
            except BaseException as error:  # shown by the assertion below
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == failed


# --- damage -----------------------------------------------------------------------------------


def read_all(chunk: chunkfile.Chunk) -> tuple[Any, ...]:
    """Read everything that a chunk can tell."""
    arrays = [(name, chunk.dims[name], chunk.array(name)) for name in chunk.names]
    coords = [(name, chunk.coords(name)) for name in chunk.sizes]
    plain = [(name, dims, array.dtype.str, array.shape, array.tobytes()) for name, dims, array in arrays] + [
        (name, None, array.dtype.str, array.shape, array.tobytes()) for name, array in coords
    ]
    return (chunk.constant, chunk.identity, chunk.created_at, chunk.seconds, plain)


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield the file with one random bit turned over, again and again."""
    rng = random.Random(seed)
    header = header_of(data)
    for number in range(count):
        # Half of the flips go to where they could do the most harm.
        end = header.manifest_size if number % 2 else len(data)
        at = rng.randrange(end)
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        yield bytes(changed)


def assert_damage_is_seen(folder: Path, data: bytes, damaged: Iterator[bytes]) -> int:
    """Each damaged file fails, or reads right and fails to verify; return how many read."""
    truth = read_all(chunkfile.parse(data))
    path = folder / "damaged.h5"
    unseen = 0
    for changed in damaged:
        path.write_bytes(changed)
        for opened in (partial(chunkfile.parse, changed), partial(chunkfile.load, path)):
            try:
                with opened() as chunk:
                    found = read_all(chunk)
            except ChunkFormatError:
                continue
            unseen += 1
            assert truth == found
        with pytest.raises(ChunkFormatError):
            chunkfile.verify(path)
    return unseen


SAMPLES = {
    "empty": Content(None, b"", {}, {}, {}, 0, 0.0),
    "tiny": grid(3),
    "small": grid(500),
    "text": grid(20, constant={"t": "x" * 5000}),
    "long": grid(6000),
    "blocks": grid(50_000),
}


class TestDamage:
    """No damaged byte is ever served."""

    @pytest.mark.parametrize("name", SAMPLES)
    def test_bit_flips(self, tmp_path: Path, name: str) -> None:
        """A flipped bit is an error, or lies where no reader looks, and then verify sees it."""
        data = written(SAMPLES[name])
        count = 60 if name == "blocks" else 250
        assert_damage_is_seen(tmp_path, data, flips(data, count, seed=1))

    @pytest.mark.long
    @pytest.mark.parametrize("name", SAMPLES)
    def test_bit_flips_long(self, tmp_path: Path, name: str) -> None:
        """The same for thousands of flips."""
        data = written(SAMPLES[name])
        count = 500 if name == "blocks" else 5000
        assert_damage_is_seen(tmp_path, data, flips(data, count, seed=2))

    def test_every_bit_of_a_tiny_file(self) -> None:
        """In a small file no bit before the end of the last array can turn over unseen."""
        data = written(SAMPLES["tiny"])
        covered = header_of(data).covered
        last = max(e["offset"] + e["nbytes"] for e in constant_of(data)["arrays"])
        assert covered >= last
        for at in range(covered):
            changed = bytearray(data)
            changed[at] ^= 1 << at % 8
            with pytest.raises(ChunkFormatError):
                chunkfile.parse(changed)

    @pytest.mark.parametrize("name", SAMPLES)
    def test_truncation_and_extension(self, tmp_path: Path, name: str) -> None:
        """A file of another length than the one that was written is damaged."""
        data = written(SAMPLES[name])
        rng = random.Random(3)
        lengths = {0, 1, 7, 8, 95, 96, 4096, len(data) - 1}
        lengths |= {rng.randrange(len(data)) for _ in range(40)}
        for length in sorted(lengths & set(range(len(data)))):
            with pytest.raises(ChunkFormatError):
                chunkfile.parse(data[:length])
            with pytest.raises(ChunkFormatError):
                chunkfile.load(saved(tmp_path, data[:length]))
        for extra in (b"\0", b"x" * 100, data):
            with pytest.raises(ChunkFormatError, match=r"expected .* bytes, found"):
                chunkfile.parse(data + extra)
            with pytest.raises(ChunkFormatError, match=r"expected .* bytes, found"):
                chunkfile.load(saved(tmp_path, data + extra))

    def test_zeroed_pages(self, tmp_path: Path) -> None:
        """A page that a power cut left empty is damage."""
        data = written(grid(6000))
        pages = range(0, len(data), 4096)
        zeroed = (data[:at] + bytes(len(data[at : at + 4096])) + data[at + 4096 :] for at in pages)
        changed = (page for page in zeroed if page != data)
        assert_damage_is_seen(tmp_path, data, changed)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Bytes that are no chunk file are a ChunkFormatError, with or without the magic."""
        for candidate in (data, chunkfile.MAGIC + data):
            with pytest.raises(ChunkFormatError):
                chunkfile.parse(candidate)

    def test_later_version(self, tmp_path: Path) -> None:
        """A later version is told from damage, and only when the checksum holds."""
        for sample in ("tiny", "long"):
            data = written(SAMPLES[sample])
            later = resealed(data, version=2)
            with pytest.raises(FormatVersionError, match=r"later chunk_memo.*upgrade"):
                chunkfile.parse(later)
            with pytest.raises(FormatVersionError, match=r"later chunk_memo.*upgrade"):
                chunkfile.verify(saved(tmp_path, later))
            damaged = bytearray(data)
            damaged[24] ^= 2
            with pytest.raises(ChunkFormatError, match="checksum") as caught:
                chunkfile.parse(damaged)
            assert not isinstance(caught.value, FormatVersionError)

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from([f for f in Header._fields if f not in ("magic", "checksum", "version", "seconds")]),
        st.one_of(st.integers(0, 2**32 - 1), st.integers(-300, 300), st.integers(0, 2**63 - 1)),
        st.sampled_from(["tiny", "long"]),
    )
    def test_forged_headers(self, field: str, value: int, sample: str) -> None:
        """A header that lies with a checksum that holds leads to an error or to the truth."""
        data = written(SAMPLES[sample])
        header = header_of(data)
        value = value + getattr(header, field) if -300 <= value <= 300 else value
        try:
            forged = resealed(data, **{field: value})
        except struct.error:
            return
        try:
            found = read_all(chunkfile.parse(forged))
        except ChunkFormatError:
            return
        assert found[-1] == read_all(chunkfile.parse(data))[-1]

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_forged_tables(self, data: st.DataObject) -> None:
        """An array table that lies with a checksum that holds is a ChunkFormatError."""
        original = written(SAMPLES["tiny"])
        document = constant_of(original)
        hostile: st.SearchStrategy[Any] = st.sampled_from(
            [None, -1, 0, 1, 2**40, 2**70, 1.5, True, "O", "", "<i8", "f8,f8", [], [1] * 70, [[]],
             {}, {"names": []}, "V0", "|O", ["<f8", [2]], [2**62, 2**62], "M8[ns]", ["O", [1]]]
        )  # fmt: skip
        where = data.draw(st.sampled_from(["arrays", "coords", "entry", "top"]))
        if where == "top":
            document[data.draw(st.sampled_from(["arrays", "coords"]))] = data.draw(hostile)
        elif where == "entry":
            data.draw(st.sampled_from(document["arrays"])).clear()
        else:
            entry = data.draw(st.sampled_from(document[where]))
            entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(hostile)
        try:
            chunk = chunkfile.parse(with_constant(original, json.dumps(document).encode()))
            read_all(chunk)
        except ChunkFormatError:
            return
        # What was accepted all the same reads nothing but bytes of the file.
        assert sum(chunk.array(name).nbytes for name in chunk.names) <= len(original)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.binary(max_size=50), st.text(max_size=50).map(str.encode)))
    def test_forged_constants(self, constant: bytes) -> None:
        """A constant part that is no table, under a checksum that holds, is an error."""
        forged = with_constant(written(SAMPLES["tiny"]), constant)
        with pytest.raises(ChunkFormatError):
            chunkfile.parse(forged)

    @pytest.mark.parametrize("depth", [100, 100_000])
    def test_deep_constants(self, depth: int) -> None:
        """JSON that is nested beyond all reason is an error, and no crash."""
        original = written(grid(3, constant="x" * 2 * depth))
        forged = with_constant(original, b"[" * depth + b"]" * depth)
        with pytest.raises(ChunkFormatError):
            chunkfile.parse(forged)

    def test_overlapping_arrays(self) -> None:
        """Two arrays cannot share bytes."""
        data = written(grid(8))
        document = constant_of(data)
        document["arrays"][1]["offset"] = document["arrays"][0]["offset"]
        with pytest.raises(ChunkFormatError, match="overlap"):
            chunkfile.parse(with_constant(data, json.dumps(document).encode()))

    def test_errors_name_the_file(self, tmp_path: Path) -> None:
        """A damaged file is named, with device and inode of the one that was read."""
        for sample in ("tiny", "long"):
            data = bytearray(written(SAMPLES[sample]))
            data[100] ^= 1
            path = saved(tmp_path, bytes(data))
            with pytest.raises(ChunkFormatError) as caught:
                chunkfile.load(path)
            assert repr(str(path)) in str(caught.value)
            status = path.stat()
            assert (status.st_dev, status.st_ino) == caught.value.seen

    def test_unfinished(self) -> None:
        """A file without a magic number is unfinished, a file with one is not."""
        data = written(SAMPLES["tiny"])
        unfinished = [b"", b"\0", bytes(5000), bytes(4096) + data[4096:]]
        assert [True] * 4 == [chunkfile.is_unfinished(head) for head in unfinished]
        finished = [data, b"\x89HDF", data[:9]]
        assert [False] * 3 == [chunkfile.is_unfinished(head) for head in finished]

    def test_missing_file(self, tmp_path: Path) -> None:
        """A file that is not there is FileNotFoundError, not damage."""
        with pytest.raises(FileNotFoundError):
            chunkfile.load(tmp_path / "none.h5")
        with pytest.raises(IsADirectoryError):
            chunkfile.load(tmp_path)


def with_constant(data: bytes, constant: bytes) -> bytes:
    """Put another constant part into a file, and make its checksum hold."""
    header = header_of(data)
    room = header.user_block - HEADER.size - header.identity_size
    constant = constant[:room]
    changed = bytearray(data)
    changed[HEADER.size : header.user_block] = bytes(header.user_block - HEADER.size)
    changed[HEADER.size : HEADER.size + len(constant)] = constant
    covered = header.covered
    if len(data) > chunkfile.SMALL_FILE:
        covered = HEADER.size + len(constant) + header.identity_size + 8 * header.checksum_count
    return resealed(bytes(changed), constant_size=len(constant), covered=covered)
