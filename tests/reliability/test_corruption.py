"""Rot: bits that flip, files cut short, pages of zeros, files under each other's names, over all encodings.

Whatever is done to a file, a call returns what the function returns, raises nothing, and the file is set aside.
Where the damage lies in the HDF5 skeleton, which is not read to serve results, ``verify`` finds it.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_chunks import functions
from strategies import same

from chunk_memo import ChunkCache, DamageWarning, run
from chunk_memo.disk import chunkfile
from chunk_memo.errors import ChunkFormatError

FLIPS, CUTS, PAGES, SWAPS = 10_000, 2_000, 2_000, 2_000
"""How many of each there are under ``-m long``; a fortieth of that in the default run."""

_SHARE = 40
_PAGE = 4096
_FORMS = [
    (name, compression, part)
    for name in functions()
    for compression in ((None, "gzip", "zstd", "blosc2") if name in ("large", "records") else (None,))
    for part in ((False, True) if name != "opaque" else (False,))
]


@dataclass
class Store:
    """A cache of two chunks in which everything is stored."""

    root: Path
    name: str
    compression: str | None
    part: bool
    expected: Any
    files: dict[Path, bytes]

    def cache(self) -> ChunkCache:
        """Return the cache as a process opens it that starts."""
        cache = ChunkCache(
            self.root / "root",
            self.name,
            axis_values={"s": list(range(10))},
            chunk_spec={"s": 5},
            verbose=0,
            compression=self.compression,
            outputs={"opaque": "opaque", "mixed": "list"}.get(self.name),
            durability="fast",
        )
        return cache.slice(s=[1, 3, 4, 6, 8, 9]) if self.part else cache

    def read(self) -> tuple[Any, int]:
        """Return what a call returns, and how many points it computed."""
        output, diagnostics = run(self.cache(), functions()[self.name])
        return output, diagnostics.executed_points

    def damage(self, path: Path, data: bytes) -> None:
        """Put other bytes in the place of a file, which are old by now."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        long_ago = time.time() - 3600
        os.utime(fresh, (long_ago, long_ago))
        fresh.replace(path)

    def restore(self) -> None:
        """Put everything back."""
        shutil.rmtree(self.root / "root" / self.name / "quarantine", ignore_errors=True)
        for path in set((self.root / "root").rglob("*.h5")) - set(self.files):
            path.unlink()
        for path, data in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def quarantined(self) -> list[Path]:
        """Return what was set aside."""
        return sorted((self.root / "root" / self.name / "quarantine").glob("*"))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Return a store of each encoding and compression, complete and in parts."""
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, form in enumerate(_FORMS):
            store = Store(tmp_path_factory.mktemp(f"store{number}"), *form, None, {})
            store.expected, _ = store.read()
            store.files = {path: path.read_bytes() for path in (store.root / "root").rglob("*.h5")}
            assert 2 == len(store.files)
            made.append(store)
    return made


def flipped(rng: random.Random, store: Store) -> dict[Path, bytes]:
    """Flip one bit of one file."""
    path = rng.choice(list(store.files))
    data = bytearray(store.files[path])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return {path: bytes(data)}


def cut(rng: random.Random, store: Store) -> dict[Path, bytes]:
    """Cut one file short."""
    path = rng.choice(list(store.files))
    return {path: store.files[path][: rng.randrange(len(store.files[path]))]}


def zeroed(rng: random.Random, store: Store) -> dict[Path, bytes]:
    """Fill one page of one file with zeros, of those that hold anything else."""
    path = rng.choice(list(store.files))
    data = store.files[path]
    starts = [at for at in range(0, len(data), _PAGE) if any(data[at : at + _PAGE])]
    at = rng.choice(starts)
    size = min(_PAGE, len(data) - at)
    return {path: data[:at] + bytes(size) + data[at + size :]}


def swapped(rng: random.Random, store: Store) -> dict[Path, bytes]:
    """Put each of two files under the other's name."""
    (one, first), (two, second) = store.files.items()
    return {one: second, two: first} if rng.randrange(2) else {one: second}


def assert_survives(store: Store, damaged: dict[Path, bytes]) -> None:
    """A call returns what it should, and every damaged file is set aside or found by ``verify``."""
    for path, data in damaged.items():
        store.damage(path, data)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        output, executed = store.read()
    assert same(store.expected, output)
    aside = store.quarantined()
    for path, data in damaged.items():
        mine = [each for each in aside if each.name.startswith(path.name) and each.read_bytes() == data]
        if not mine:  # only what nobody reads is wrong
            assert data == path.read_bytes()
            with pytest.raises(ChunkFormatError):
                chunkfile.verify(path)
    assert len(aside) == sum(issubclass(each.category, DamageWarning) for each in told)
    assert (len(aside) > 0) == (executed > 0)
    store.restore()


def cases(count: int, seed: str, stores: list[Store]) -> Iterator[tuple[random.Random, Store]]:
    """Yield so many random generators, each with a store; every store comes in turn."""
    rng = random.Random(seed)
    for number in range(count):
        yield rng, stores[number % len(stores)]


DAMAGES = [(flipped, FLIPS), (cut, CUTS), (zeroed, PAGES), (swapped, SWAPS)]


@pytest.mark.parametrize(("damage", "count"), DAMAGES, ids=lambda each: getattr(each, "__name__", ""))
def test_damage(stores: list[Store], damage: Callable[[random.Random, Store], Any], count: int) -> None:
    """No damage gives a wrong result or an error, and all of it is found."""
    for rng, store in cases(max(count // _SHARE, len(stores)), damage.__name__, stores):
        assert_survives(store, damage(rng, store))


@pytest.mark.long
@pytest.mark.parametrize(("damage", "count"), DAMAGES, ids=lambda each: getattr(each, "__name__", ""))
def test_much_damage(stores: list[Store], damage: Callable[[random.Random, Store], Any], count: int) -> None:
    """The same at full size: 10,000 flips, 2,000 cuts, 2,000 pages, 2,000 swaps."""
    for rng, store in cases(count, f"long {damage.__name__}", stores):
        assert_survives(store, damage(rng, store))
