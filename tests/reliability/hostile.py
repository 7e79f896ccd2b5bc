"""Run apart by ``test_hostile.py``: reads files that somebody made up, while an audit hook sees what they do.

Prints one line of JSON: how many files were read, what became of each kind, what the hook saw, and the memory.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.ma
from fuzz_chunks import Recipe, functions, made
from strategies import same

from chunk_memo import ChunkCache, run
from chunk_memo.disk import chunkfile, signing
from chunk_memo.disk.chunkfile import HEADER, Header
from chunk_memo.disk.encoding import pickled_parts
from chunk_memo.errors import ChunkMemoError

CAP = 64 << 20
"""Most bytes that a chunk may have here."""

FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
"""What no file may bring about."""

SWEEPS = functions()


class Gadget:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self) -> Any:
        """Return a call."""
        return os.system, ("touch owned",)


class Place:
    """One cache of one chunk, in which hostile files are put."""

    def __init__(self, root: Path, name: str, compression: str | None = None) -> None:
        self.root, self.name, self.compression = root, name, compression
        self.expected = self.read()
        (self.path,) = (root / name / "chunks").glob("*.h5")
        self.good = self.path.read_bytes()

    def read(self) -> Any:
        """Return what a call returns in a process that starts."""
        cache = ChunkCache(
            self.root,
            self.name,
            axis_values={"s": list(range(5))},
            verbose=0,
            durability="fast",
            max_chunk_bytes=CAP,
            compression=self.compression,
            outputs={"opaque": "opaque", "mixed": "list"}.get(self.name),
        )
        return run(cache, SWEEPS[self.name])[0]

    def contents(self) -> tuple[chunkfile.Chunk, dict[str, Any], dict[str, Any], dict[str, tuple[str, ...]]]:
        """Return the good file, its arrays, coordinates and dimensions."""
        chunk = chunkfile.parse(self.good)
        arrays = {name: chunk.array(name) for name in chunk.names}
        coords = {name: chunk.coords(name) for name in chunk.sizes}
        return chunk, arrays, coords, {name: dims for name, dims in chunk.dims.items() if dims is not None}


def forged_pickle(rng: random.Random, places: dict[str, Place]) -> tuple[Place, bytes]:
    """Return a file with a gadget: unsigned, signed at random, or with a signature of something else."""
    place = places["pickles"]
    chunk, arrays, coords, dims = place.contents()
    ((_, _, tree, _, where),) = chunk.constant["columns"]
    (part,) = pickled_parts(tree)
    gadget = pickle.dumps(Gadget())
    count = len(arrays[where[part.lengths]])
    arrays[where[part.array]] = np.frombuffer(gadget * count, np.uint8)
    arrays[where[part.lengths]] = np.full(count, len(gadget), arrays[where[part.lengths]].dtype)
    key = signing.own_key()
    assert key is not None
    signature = [
        bytes(signing.SIGNATURE_BYTES),
        rng.randbytes(signing.SIGNATURE_BYTES),
        bytes.fromhex(key.key_id) + rng.randbytes(32),
        arrays[where[part.signature]].tobytes(),
        key.scoped("cache another").sign([b"chunk_memo pickles 1", gadget * count]),
    ][rng.randrange(5)]
    arrays[where[part.signature]] = np.frombuffer(signature, np.uint8)[None]
    content = chunkfile.Content(chunk.constant, chunk.identity, arrays, dims, coords, 0, 0.0)
    return place, b"".join(chunkfile.image(content))


def linked(rng: random.Random, places: dict[str, Place]) -> tuple[Place, bytes]:
    """Return an HDF5 file that points elsewhere, as it is, or behind the user block of a good file."""
    place = places["grid"]
    made_at = place.root.parent / "made.h5"
    with h5py.File(made_at, "w", userblock_size=2048) as file:
        choice = rng.randrange(3)
        if choice == 0:
            file["value"] = h5py.ExternalLink("/etc/passwd", "/")
        elif choice == 1:
            file.create_dataset("value", (5, 6), "f8", external=[("/etc/passwd", 0, 240)])
        else:
            layout = h5py.VirtualLayout((5, 6), "f8")
            layout[...] = h5py.VirtualSource("/etc/hostname", "a", (5, 6))
            file.create_virtual_dataset("value", layout)
    data = made_at.read_bytes()
    made_at.unlink()
    if rng.randrange(2):
        block = bytearray(place.good[:2048])
        header = Header(*HEADER.unpack_from(block))
        HEADER.pack_into(block, 0, *header._replace(file_size=len(data)))
        data = bytes(block) + data[2048:]
    return place, data


def bomb(rng: random.Random, places: dict[str, Place]) -> tuple[Place, bytes]:
    """Return a small file that asks for much memory, its checksums right."""
    import xxhash

    place = places["large" if rng.randrange(2) else "records"]
    data = bytearray(place.good)
    header = Header(*HEADER.unpack_from(data))
    document = json.loads(data[HEADER.size : HEADER.size + header.constant_size])
    many = rng.choice([10**9, 10**12, 2**40, 2**62])
    choice = rng.randrange(5)
    if choice == 0:
        document["coords"].append({"name": "bomb", "length": many})
    elif choice == 1:
        entry = rng.choice(document["arrays"])
        entry["shape"], entry["nbytes"] = [many], many
    elif choice == 2:
        document["constant"]["columns"][0][2] = {"k": "list", "n": many, "of": {"k": "none"}, "folded": False}
    elif choice == 3:
        deep: Any = []
        for _ in range(rng.choice([500, 5000])):
            deep = [deep]
        document["constant"]["columns"][0][2] = deep if rng.randrange(2) else {"k": "list", "of": deep}
        return place, _with_text(data, header, "[" * rng.choice([1000, 100_000]))
    else:
        document["arrays"] = document["arrays"] * 1000
    constant = json.dumps(document, separators=(",", ":")).encode()
    grown = len(constant) - header.constant_size
    rest = data[HEADER.size + header.constant_size : header.manifest_size]
    block = bytearray(HEADER.size) + constant + rest
    room = max(header.user_block, 1 << (len(block) - 1).bit_length())
    data = block + bytes(room - len(block)) + data[header.user_block :]
    covered = header.covered + (0 if header.file_size <= chunkfile.SMALL_FILE else grown)
    fields = header._replace(
        constant_size=len(constant), user_block=room, file_size=len(data), covered=min(covered, len(data))
    )
    HEADER.pack_into(data, 0, *fields)
    struct.pack_into("<Q", data, 8, xxhash.xxh3_64_intdigest(bytes(data[16 : fields.covered])))
    return place, bytes(data)


def _with_text(data: bytearray, header: Header, text: str) -> bytes:
    """Return a file whose constant part is some text."""
    import xxhash

    constant = text.encode()
    block = bytearray(HEADER.size) + constant
    room = max(2048, 1 << (len(block) - 1).bit_length())
    data = block + bytes(room - len(block)) + data[header.user_block :]
    covered = len(data) if len(data) <= chunkfile.SMALL_FILE else HEADER.size + len(constant)
    fields = header._replace(
        constant_size=len(constant),
        identity_size=0,
        checksum_count=0,
        piece_count=0,
        user_block=room,
        file_size=len(data),
        covered=covered,
    )
    HEADER.pack_into(data, 0, *fields)
    struct.pack_into("<Q", data, 8, xxhash.xxh3_64_intdigest(bytes(data[16:covered])))
    return bytes(data)


def mutated(rng: random.Random, places: dict[str, Place]) -> tuple[Place, bytes]:
    """Return a file whose manifest and arrays were changed, put where a good one was."""
    data, ref = made(Recipe(rng.randbytes(rng.choice([20, 60, 200]))))
    for place in places.values():
        mine = chunkfile.parse(place.good).identity
        if len(mine) == len(ref.identity):
            return rng.choice(list(places.values())), data.replace(ref.identity, mine)
    return rng.choice(list(places.values())), data


def own_mutated(rng: random.Random, places: dict[str, Place]) -> tuple[Place, bytes]:
    """Return a file of this very chunk with its tree changed."""
    from fuzz_chunks import changed, resealed

    place = rng.choice(list(places.values()))
    data = bytearray(place.good)
    header = Header(*HEADER.unpack_from(data))
    document = json.loads(data[HEADER.size : HEADER.size + header.constant_size])
    recipe = Recipe(rng.randbytes(100))
    document["constant"] = changed(document["constant"], recipe)
    return place, resealed(data, json.dumps(document, separators=(",", ":")).encode(), Recipe(b"\1" * 8))


def peak() -> int:
    """Return the most bytes that this program held; ``ru_maxrss`` may be of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main(count: int, seed: int, home: Path) -> dict[str, Any]:
    """Read so many hostile files; return what happened."""
    warnings.simplefilter("ignore")
    os.chdir(home)
    root = home / "root"
    places = {name: Place(root, name, "gzip" if name == "large" else None) for name in SWEEPS}
    made(Recipe(b""))
    seen: Counter[str] = Counter()
    watching = [False]
    config = os.fspath(signing.config_folder())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching[0]:
            return
        if event in FORBIDDEN and arguments != ("builtins", "complex"):  # the outputs of "pickles", made anew
            seen[f"{event} {arguments!r}"] += 1
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.fsdecode(arguments[0])
            alone = os.sep not in path  # a name in a folder that was opened before
            if not alone and not os.path.abspath(path).startswith((os.fspath(root), config)):
                seen[f"open {path}"] += 1

    sys.addaudithook(hook)
    kinds = (forged_pickle, linked, bomb, mutated, own_mutated)
    outcomes: Counter[str] = Counter()
    for place in places.values():  # all that is imported late is there
        place.path.write_bytes(b"warm up")
        place.read()
    before = peak()
    rng = random.Random(seed)
    for number in range(count):
        place, data = kinds[number % len(kinds)](rng, places)
        place.path.write_bytes(data)
        if number % 50 == 7:
            with place.path.open("r+b") as file:
                file.truncate(2**43)  # a sparse file of 8 TB
        os.utime(place.path, (0, 0))
        watching[0] = True
        try:
            output = place.read()
            outcome = "right" if same(place.expected, output) else "other values"
        except ChunkMemoError as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = f"crash: {type(error).__name__}: {error} of {kinds[number % len(kinds)].__name__} {number}"
        watching[0] = False
        outcomes[f"{kinds[number % len(kinds)].__name__}: {outcome}"] += 1
        shutil.rmtree(root / place.name / "quarantine", ignore_errors=True)
        place.path.write_bytes(place.good)
    grown = peak() - before
    owned = (home / "owned").exists()
    return {"count": count, "outcomes": outcomes, "seen": seen, "grown": grown, "owned": owned}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
