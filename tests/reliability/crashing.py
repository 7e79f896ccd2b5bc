"""Line 3: what may be on the disk after a power cut, enumerated from the file operations of a real session.

Nothing that was written is on the disk for sure until it was synced: the bytes of a file by an fsync of the file,
its name by an fsync of the folder. Until then each may be there or not, in any order, and bytes also in part: an
empty file, zeros of the right length, a torn one. (So pessimistic a model is POSIX's own; ALICE, OSDI 2014, found
most crash faults with it.) A state is a prefix of the session, with a choice for everything that was not synced.

    python crashing.py FOLDER full|fast COUNT SEED    prints figures as JSON
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
from oracle import Point, Sweep

from chunk_memo.errors import ChunkMemoWarning
from chunk_memo.verification import verify

TEARS = ("full", "empty", "zeros", "half", "half and zeros", "page of zeros")


@dataclass(frozen=True)
class Done:
    """One operation of the session."""

    what: str
    """``mkdir``, ``rmdir``, ``write``, ``link`` (of a name), ``unlink``, ``rename``, ``sync``, ``ack``."""
    path: str = ""
    """The name; of a rename the new one."""
    file: int = -1
    """Which file, numbered in the order of creation."""
    data: bytes = b""
    """What was written."""
    other: str = ""
    """The old name, of a rename."""
    points: frozenset[Point] = frozenset()
    """What was acknowledged."""


class Recorder(faults.Calls):
    """Records what is done to the disk."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.done: list[Done] = []
        self.names: dict[str, int] = {}
        self.opened: dict[int, tuple[str, int]] = {}
        self.files = 0

    def _wrap(self, name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        own = getattr(self, f"_{name}", None)

        def call(*arguments: Any, **options: Any) -> Any:
            result = true(*arguments, **options)
            if own is not None:
                with self._lock:
                    own(result, *arguments)
            return result

        return call

    def _put(self, what: str, path: Any = "", **more: Any) -> None:
        inside = os.path.relpath(os.fspath(path), self.root) if path else ""
        self.done.append(Done(what, inside, **more))

    def _open(self, fd: int, path: Any, flags: int, *_: Any) -> None:
        text = os.path.abspath(os.fspath(path))
        if flags & os.O_CREAT:
            self.names[text] = self.files
            self._put("link", text, file=self.files)
            self.files += 1
        self.opened[fd] = text, self.names.get(text, -1)

    def _write(self, count: int, fd: int, data: Any) -> None:
        self._put("write", file=self.opened[fd][1], data=bytes(memoryview(data).cast("B")[:count]))

    def _writev(self, count: int, fd: int, pieces: Any) -> None:
        self._put("write", file=self.opened[fd][1], data=b"".join(map(bytes, pieces))[:count])

    def _fsync(self, _: None, fd: int) -> None:
        path, file = self.opened[fd]
        self._put("sync", path if file < 0 else "", file=file)

    def _mkdir(self, _: None, path: Any, *__: Any) -> None:
        self._put("mkdir", path)

    def _link(self, _: None, source: Any, target: Any) -> None:
        self.names[os.path.abspath(target)] = self.names[os.path.abspath(source)]
        self._put("link", target, file=self.names[os.path.abspath(target)])

    def _rename(self, _: None, source: Any, target: Any) -> None:
        file = self.names.pop(os.path.abspath(source), -1)
        self.names[os.path.abspath(target)] = file
        self._put("rename", target, file=file, other=os.path.relpath(os.fspath(source), self.root))

    _replace = _rename

    def _unlink(self, _: None, path: Any) -> None:
        self.names.pop(os.path.abspath(path), None)
        self._put("unlink", path)

    def _rmdir(self, _: None, path: Any) -> None:
        self._put("rmdir", path)

    def acknowledge(self, points: set[Point]) -> None:
        """Note that a call has returned."""
        self.done.append(Done("ack", points=frozenset(points)))


def session(sweep: Sweep, acknowledge: Callable[[set[Point]], None], dice: random.Random) -> None:
    """Everything that writes: a first chunk, others, parts, folds, new values; some of it at random."""
    acknowledge(sweep.call([0, 1], [0, 1]))
    acknowledge(sweep.call([2], [0, 1]))
    acknowledge(sweep.call([3], [0]))
    for _ in range(3):
        xs, ys = dice.sample(range(4), dice.randint(1, 3)), dice.sample(range(4), dice.randint(1, 2))
        acknowledge(sweep.call(xs, ys))
    sweep.xs = 6
    acknowledge(sweep.call([5], [0, 1, 2]))
    sweep.xs = 8
    acknowledge(sweep.call())


def recorded(folder: Path, durability: str, seed: int) -> list[Done]:
    """Record the session."""
    sweep = Sweep(folder / "root", 4, 4, durability=durability)
    recorder = Recorder(folder)
    with faults.injected(recorder):
        session(sweep, recorder.acknowledge, random.Random(seed))
    return recorder.done


@dataclass
class State:
    """What is on the disk."""

    folders: set[str] = field(default_factory=lambda: {"."})
    names: dict[str, int] = field(default_factory=dict)
    """Which file has which name."""
    contents: dict[int, bytes] = field(default_factory=dict)

    def key(self) -> int:
        """Tell states apart."""
        there = sorted(
            (path, self.contents.get(file, b"")) for path, file in self.names.items() if self.holds(path)
        )
        return hash((tuple(sorted(filter(self.holds, self.folders))), tuple(there)))

    def holds(self, path: str) -> bool:
        """Whether all folders above a name are there."""
        above = os.path.dirname(path)
        while above:
            if above not in self.folders:
                return False
            above = os.path.dirname(above)
        return True

    def write(self, folder: Path) -> None:
        """Bring it about."""
        for path in sorted(self.folders, key=len):
            if self.holds(path):
                (folder / path).mkdir(exist_ok=True)
        for path, file in self.names.items():
            if self.holds(path):
                (folder / path).write_bytes(self.contents.get(file, b""))


def synced(done: list[Done], upto: int) -> list[bool]:
    """Tell for each operation of a prefix whether it is on the disk for sure."""
    sure = [False] * upto
    files: set[int] = set()
    folders: set[str] = set()
    for number in range(upto - 1, -1, -1):
        each = done[number]
        if each.what == "sync":
            files.add(each.file)
            folders.add(each.path)
        elif each.what == "write":
            sure[number] = each.file in files
        elif each.what != "ack":
            sure[number] = (os.path.dirname(each.path) or ".") in folders
    return sure


def torn(data: bytes, how: str, dice: random.Random) -> bytes:
    """Return what may be there of bytes that were not synced."""
    half = len(data) // 2
    if how == "page of zeros":
        start = dice.randrange(0, max(1, len(data)), 512)
        return data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :]
    return {
        "full": data,
        "empty": b"",
        "zeros": bytes(len(data)),
        "half": data[:half],
        "half and zeros": data[:half] + bytes(len(data) - half),
    }[how]


def state_of(done: list[Done], applied: list[bool], tears: Mapping[int, str], dice: random.Random) -> State:
    """Apply operations in their order."""
    state = State()
    whole: dict[int, bool] = {}
    for each, counts in zip(done, applied, strict=False):
        if each.what == "write":
            state.contents[each.file] = state.contents.get(each.file, b"") + each.data
            whole[each.file] = whole.get(each.file, True) and counts
        elif not counts:
            continue
        elif each.what == "mkdir":
            state.folders.add(each.path)
        elif each.what == "link":
            state.names[each.path] = each.file
        elif each.what == "unlink":
            state.names.pop(each.path, None)
        elif each.what == "rmdir":
            state.folders.discard(each.path)
        elif each.what == "rename":
            state.names.pop(each.other, None)
            state.names[each.path] = each.file
    for file, is_whole in whole.items():
        if not is_whole:
            state.contents[file] = torn(state.contents[file], tears.get(file, "full"), dice)
    return state


def states(done: list[Done], count: int, seed: int) -> Iterator[tuple[State, frozenset[Point], str]]:
    """Iterate over different states, with what was acknowledged by then, until there are so many."""
    dice = random.Random(seed)
    seen: set[tuple[int, int]] = set()
    acknowledged = [frozenset[Point]()]
    for each in done:
        acknowledged.append(acknowledged[-1] | each.points)
    rounds = 0
    while len(seen) < count and rounds < 400:
        order = list(range(len(done) + 1))
        dice.shuffle(order)
        for upto in order:
            sure = synced(done, upto)
            open_ones = [n for n in range(upto) if not sure[n] and done[n].what not in ("sync", "ack")]
            for kept, how in _choices(open_ones, rounds, dice):
                applied = [sure[n] or n in kept for n in range(upto)]
                chosen = {n: how or dice.choice(TEARS) for n in range(upto)}
                state = state_of(done[:upto], applied, chosen, dice)
                key = state.key(), len(acknowledged[upto])
                if key not in seen:
                    seen.add(key)
                    yield (
                        state,
                        acknowledged[upto],
                        f"after {upto} of {len(done)} operations, {len(kept)} kept, {how}",
                    )
                if len(seen) >= count:
                    return
        rounds += 1


def _choices(open_ones: list[int], rounds: int, dice: random.Random) -> Iterator[tuple[set[int], str]]:
    """Iterate over what may be there of operations that were not synced: systematically first, then at random."""
    if rounds == 0:
        for how in TEARS:
            yield set(), how
            yield set(open_ones), how
        for one in open_ones:
            yield set(open_ones) - {one}, "full"
            yield {one}, "full"
    else:
        for _ in range(3):
            share = dice.random()
            yield {n for n in open_ones if dice.random() < share}, dice.choice([*TEARS, ""])


def judge(folder: Path, state: State, acknowledged: frozenset[Point], durability: str, *, deeply: bool) -> None:
    """Hold a state against the oracle: a program opens the store and asks for everything."""
    state.write(folder)
    sweep = Sweep(folder / "root", 8, 4, durability="fast")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChunkMemoWarning)
        sweep.call()
        if durability == "full":
            lost = set(sweep.executed) & acknowledged
            assert not lost, f"{len(lost)} acknowledged points are lost: {sorted(lost)[:5]}"
        if deeply:
            sweep.call()
            assert [] == sweep.executed, "a second call computed something"
            found = verify(sweep.root, repair=True)
            assert found.is_intact, found.findings


def explore(folder: Path, durability: str, count: int, seed: int, *, without: str = "") -> dict[str, Any]:
    """Judge so many states; return how many, and of how many operations."""
    (folder / "session").mkdir(parents=True)
    done = recorded(folder / "session", durability, seed)
    if without:
        done = [each for each in done if not (each.what == "sync" and bool(each.path) == (without == "folders"))]
    judged = 0
    here = folder / "state"
    for state, acknowledged, which in states(done, count, seed):
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        try:
            judge(here, state, acknowledged, durability, deeply=judged % 20 == 0)
        except Exception as error:
            raise AssertionError(f"{which}: {error}") from error
        judged += 1
    return {"states": judged, "operations": len(done)}


def main() -> None:
    """Explore."""
    folder, durability, count, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(explore(folder, durability, count, seed, without="".join(sys.argv[5:]))))


if __name__ == "__main__":
    main()
