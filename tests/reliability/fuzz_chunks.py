"""What readers of manifests and encodings do with bytes that nobody wrote: they refuse them, and nothing else.

The target takes bytes as a recipe: which file to begin with, what to change in its table, its arrays and its
header, and whether the checksums are made to hold again, so that the changes reach the code behind them. It is
driven by Hypothesis in ``test_fuzz.py``, and by atheris, which looks for new paths through the code, in ::

    python tests/reliability/fuzz_chunks.py -max_total_time=3600

atheris is no dependency of the tests: ``pip install atheris``.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import json
import struct
import sys
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from chunk_memo import ChunkCache, run
from chunk_memo.blockfile import axis_values, check_manifest, read_complete, read_part, same_outputs
from chunk_memo.chunks import ChunkRef
from chunk_memo.disk import chunkfile
from chunk_memo.disk.chunkfile import HEADER, Header
from chunk_memo.disk.encoding import decode, decode_array
from chunk_memo.errors import ChunkFormatError, EncodingError, SpecError
from chunk_memo.grid import Bins
from chunk_memo.identity import canonical_many
from chunk_memo.outputs import Block

CAP = 16 << 20
"""Most bytes that a chunk may have here."""

REFUSALS = (ChunkFormatError, EncodingError, SpecError)
"""What a reader may raise: damage; what this program lacks or may not load; too large."""


def functions() -> dict[str, Any]:
    """Return a sweep function for each kind of output and encoding, by name."""

    def records(s: list[int]) -> list[Any]:
        return [{"a": i, "b": f"é{i}" * (i + 1), "c": [1.5] * i, "d": (None, True), "e": 2**70 + i} for i in s]

    def times(s: list[int]) -> list[Any]:
        day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        return [{"t": day + datetime.timedelta(days=i), "d": Decimal(i) / 7, "x": {i, str(i)}} for i in s]

    def mixed(s: list[int]) -> list[Any]:
        return [[i, "text", {"k": np.arange(i)}, 1j, b"bytes"][i % 5] for i in s]

    return {
        "grid": lambda s: np.arange(6.0 * len(s)).reshape(len(s), 2, 3),
        "columns": lambda s: {"x": np.arange(len(s)), "y": np.array([f"{i}" for i in s])},
        "records": records,
        "times": times,
        "mixed": mixed,
        "raw": lambda s: np.zeros(len(s), [("a", "f2"), ("b", "S3", 2)]),
        "large": lambda s: np.arange(9000.0 * len(s)).reshape(len(s), -1),
        "pickles": lambda s: [complex for _ in s],
        "opaque": lambda s: {"whole": [1, 2, 3]},
    }


@functools.cache
def seeds() -> list[tuple[bytes, ChunkRef]]:
    """Return files of all kinds of outputs, complete ones, parts and compressed ones, each with its chunk."""
    found = []
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name, function in functions().items():
            for compression in (None, "gzip", "zstd", "blosc2") if name == "large" else (None,):
                for part in (False, True) if name != "opaque" else (False,):
                    root = Path(folder) / f"{name} {compression} {part}"
                    options: dict[str, Any] = {"compression": compression, "durability": "fast", "verbose": 0}
                    cache = ChunkCache(root, "c", axis_values={"s": [0, 1, 2, 3, 4]}, **options)
                    outputs = {"opaque": "opaque", "mixed": "list"}.get(name)
                    cache.outputs = outputs
                    run(cache.slice(s=[1, 3, 4]) if part else cache, function)
                    (path,) = root.rglob("*.h5")
                    with chunkfile.load(path) as chunk:
                        found.append((path.read_bytes(), _ref(cache, axis_values(chunk), chunk.identity)))
    return found


def _ref(cache: ChunkCache, values: dict[str, list[Any]], identity: bytes) -> ChunkRef:
    bins = Bins()
    for name, group in values.items():
        bins.of(name).add(group, canonical_many(group))
    ref = cache.writer().store.ref(tuple(values), (0,) * len(values), bins)
    assert identity == ref.identity
    return ref


class Recipe:
    """Bytes, taken one after the other; zeros once there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, below: int) -> int:
        """Return a number from 0 to below that."""
        size = 1 if below <= 256 else 4
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "little") % max(1, below)

    def bytes(self, most: int) -> bytes:
        """Return a few bytes."""
        size = self.number(most + 1)
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)


_VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 8, 255, 2**31, 2**63, 10**30, 0.5, 1e308, True, False, None),
    *("", "a", "s", "int", "float", "str", "text", "bytes", "list", "dict", "mix", "pickle", "objects", "whole"),
    *("none", "empty", "as", "coord", "bigint", "date", "datetime", "record", "value", "<f8", "|S0", "|O", "<U4"),
    *("V99999999", "grid", "opaque", "columns", "frame", "point", "array", "gzip", "blosc2", "zstd", ".lengths"),
    *([], {}, [[]], [0], {"k": "none"}, {"k": "list"}, ["|O", [2]], {"names": [], "formats": []}),
)
_KEYS = (
    "k",
    "a",
    "of",
    "as",
    "parts",
    "lengths",
    "shape",
    "dtype",
    "nbytes",
    "offset",
    "kind",
    "part",
    "n",
    "rows",
)


def changed(value: Any, recipe: Recipe, depth: int = 0) -> Any:
    """Return what JSON can hold with something in it changed."""
    choice = recipe.number(8)
    inside = isinstance(value, dict | list) and bool(value)
    if inside and choice < 5 and depth < 20:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        at = keys[recipe.number(len(keys))]
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if choice == 4 and recipe.number(4) == 0:
            del copy[at]
        else:
            copy[at] = changed(value[at], recipe, depth + 1)
        return copy
    if choice == 5 and isinstance(value, dict):
        return {**value, _KEYS[recipe.number(len(_KEYS))]: _VALUES[recipe.number(len(_VALUES))]}
    if choice == 6 and isinstance(value, int):
        return value + [1, -1, 2, 7, 256, 2**32][recipe.number(6)]
    if choice == 7:
        for _ in range(1 + recipe.number(256)):
            value = [value]
        return value
    return _VALUES[recipe.number(len(_VALUES))]


_FIELDS = [name for name in Header._fields if name not in ("magic", "checksum", "seconds")]


def resealed(data: bytearray, constant: bytes, recipe: Recipe) -> bytes:
    """Put another constant part into a file, make lengths and checksums fit, or leave some of that out."""
    header = Header(*HEADER.unpack_from(data))
    rest = bytes(data[HEADER.size + header.constant_size : header.user_block]).rstrip(b"\0")
    rest += bytes(max(0, header.manifest_size - HEADER.size - header.constant_size - len(rest)))
    block = bytearray(HEADER.size) + constant + rest
    room = max(header.user_block, 1 << (len(block) - 1).bit_length())
    if room != header.user_block and recipe.number(4):
        room = header.user_block  # arrays keep their places
        block = block[:room]
    data = block + bytes(room - len(block)) + data[header.user_block :]
    small = len(data) <= chunkfile.SMALL_FILE and not header.piece_count
    grown = len(constant) - header.constant_size
    covered = header.covered if small else header.covered + grown
    fields = header._replace(
        constant_size=len(constant), file_size=len(data), user_block=room, covered=min(covered, len(data))
    )
    if recipe.number(8) == 0:
        changes: dict[str, Any] = {_FIELDS[recipe.number(len(_FIELDS))]: recipe.number(2**31)}
        fields = fields._replace(**changes)
    try:
        HEADER.pack_into(data, 0, *fields)
    except struct.error:
        return bytes(data)
    if recipe.number(16):
        stretch = memoryview(data)[16 : max(16, min(fields.covered, len(data)))]
        struct.pack_into("<Q", data, 8, xxhash.xxh3_64_intdigest(stretch))
        del stretch
    return bytes(data)


def made(recipe: Recipe) -> tuple[bytes, ChunkRef]:
    """Return a file as the recipe has it, with the chunk that it is taken for."""
    data, ref = seeds()[recipe.number(len(seeds()))]
    if recipe.number(16) == 0:
        return recipe.bytes(4096), ref
    changing = bytearray(data)
    header = Header(*HEADER.unpack_from(data))
    document = json.loads(data[HEADER.size : HEADER.size + header.constant_size])
    for _ in range(recipe.number(6)):
        document = changed(document, recipe)
    for _ in range(recipe.number(6)):
        at, piece = recipe.number(len(changing)), recipe.bytes(16)
        if at >= header.user_block:
            changing[at : at + len(piece)] = piece[: len(changing) - at]
    if recipe.number(16) == 0:
        del changing[recipe.number(len(changing)) :]
        if len(changing) < HEADER.size:
            return bytes(changing), ref
    try:
        constant = json.dumps(document, separators=(",", ":")).encode()
    except RecursionError:
        constant = b"[" * 5000
    if recipe.number(16) == 0:
        constant = recipe.bytes(255)
    return resealed(changing, constant, recipe), ref


def read(data: bytes, ref: ChunkRef) -> Block | None:
    """Do with a file all that readers do; return its outputs."""
    chunk = chunkfile._from_memory(data, "<fuzz>", None, CAP)
    for name in chunk.names:
        chunk.array(name)
        chunk.rows(name, 0, 1) if chunk.shape(name)[:1] not in ((), (0,)) else None
    for name in chunk.sizes:
        chunk.coords(name)
    check_manifest(chunk)
    axis_values(chunk)
    if chunk.constant["part"] is None:
        block = read_complete(ref, chunk, None, signer=None)
    else:
        block = read_part(ref, chunk, signer=None)[1]
    if block is not None:
        block.outputs()
        same_outputs(ref, chunk, block)
    return block


def one_file(data: bytes) -> bool:
    """Try a file made by a recipe; tell whether it was taken for a good one."""
    try:
        read(*made(Recipe(data)))
    except REFUSALS:
        return False
    return True


def one_tree(data: bytes) -> bool:
    """Try a changed tree on the arrays of an encoding; tell whether it was decoded."""
    recipe = Recipe(data)
    whole, _ = seeds()[recipe.number(len(seeds()))]
    chunk = chunkfile.parse(whole)
    columns = chunk.constant["columns"]
    _, form, tree, _, where = columns[recipe.number(len(columns))]
    arrays = {label: chunk.array(name) for label, name in where.items()}
    for _ in range(1 + recipe.number(6)):
        tree = changed(tree, recipe)
    count = recipe.number(8) if recipe.number(4) == 0 else 5
    try:
        if form == "array":
            decode_array(tree, arrays)
        else:
            decode(tree, arrays, count, coords={"s": list(range(count))})
    except REFUSALS:
        return False
    return True


def try_one_input(data: bytes) -> None:
    """Try one input of the fuzzer."""
    one_tree(data[1:]) if data[:1] and data[0] % 4 == 0 else one_file(data[1:])


def _instrument(owner: Any, instrumented: Any) -> None:
    """Let the fuzzer see which way functions of a module, or methods of a class, were gone."""
    for member in list(vars(owner).values()):
        if inspect.isfunction(member) and member.__module__.startswith("chunk_memo"):
            instrumented(member)
        elif inspect.isclass(member) and member.__module__ == getattr(owner, "__name__", None):
            _instrument(member, instrumented)


def main() -> None:
    """Let atheris look for inputs that raise anything else."""
    import atheris

    seeds()
    for name, module in list(sys.modules.items()):
        if name == "chunk_memo" or name.startswith("chunk_memo."):
            _instrument(module, atheris.instrument_func)
    atheris.Setup(sys.argv, try_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
