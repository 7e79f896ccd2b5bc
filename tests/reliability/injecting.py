"""Line 2: a fault at every system call of everything that writes: commits, folds, quarantines, layouts, records.

For each scenario the calls are numbered by a run without a fault. Then each fault happens at each of them, in a
store that is prepared anew, and the store is held against the oracle. A case counts only if its fault fired.

    python injecting.py FOLDER SCENARIO STRIDE [KIND ...]    prints figures as JSON
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
import h5py
import oracle
from forking import Ended, in_child
from oracle import Point, Sweep

from chunk_memo.errors import ChunkMemoError, ChunkMemoWarning, StoreError
from chunk_memo.merging import merge
from chunk_memo.upkeep import collect
from chunk_memo.verification import verify


@dataclass(frozen=True)
class Scenario:
    """Something that a store goes through."""

    prepare: Callable[[Sweep], set[Point]]
    """Makes the store; returns the points that were acknowledged."""
    act: Callable[[Sweep], set[Point]]
    """What is disturbed; returns the points that it acknowledges."""
    sweep: dict[str, Any]
    """Settings of the sweep."""
    warned: bool = False
    """Whether damage is told."""


CASES = [(2, 0), (3, 1), (0, 1)]
"""Points that form no grid."""


def nothing(sweep: Sweep) -> set[Point]:
    """A root that is not there yet."""
    return set()


def one_chunk(sweep: Sweep) -> set[Point]:
    """A cache whose layout is known."""
    return sweep.call([0, 1], [0, 1])


def three_quarters(sweep: Sweep) -> set[Point]:
    """A chunk of which one point misses."""
    return sweep.call([2], [0, 1]) | sweep.call([3], [0])


def seven_parts(sweep: Sweep) -> set[Point]:
    """A chunk with as many parts as may be, before a writer unites them."""
    return set().union(*(sweep.call([x], [0]) for x in range(7)))


def damaged(pattern: str, cases: Collection[Point] = ()) -> Callable[[Sweep], set[Point]]:
    """A whole cache, or one that has some points, in which one file is damaged."""

    def prepare(sweep: Sweep) -> set[Point]:
        there = sweep.cases(cases) if cases else sweep.call()
        path = sorted(sweep.root.glob(pattern))[0]
        data = bytearray(path.read_bytes())
        data[min(200, len(data) // 2)] ^= 1  # in what every reader looks at
        path.write_bytes(data)
        return there & oracle.stored(sweep.root)

    return prepare


def superseded(sweep: Sweep) -> set[Point]:
    """Points that count no more, beside the new ones, and litter."""
    sweep.call()
    sweep.cache().invalidate(x=[0, 1])
    sweep.call()
    (sweep.root / "sweep" / "chunks" / ".tmp-litter").write_bytes(b"litter")
    return sweep.points


def another_root(sweep: Sweep) -> set[Point]:
    """Two roots that share some chunks, one with parts of what the other has the rest of."""
    other = Sweep(sweep.root.with_name("source"))
    other.call([0, 1, 2], [0, 1])
    return sweep.call([2, 3], [0, 1])


def merged(sweep: Sweep) -> set[Point]:
    """Merge the other root."""
    done = merge(sweep.root.with_name("source"), sweep.root)
    assert done.is_whole, done
    return {(x, y) for x in range(3) for y in range(2)}


def another_root_of_points(sweep: Sweep) -> set[Point]:
    """Two roots that share some points that form no grid, each in files of its own."""
    Sweep(sweep.root.with_name("source"), 4, 2).cases(CASES)
    return sweep.cases(CASES[1:]) | sweep.call([1], [0, 1])


def merged_points(sweep: Sweep) -> set[Point]:
    """Merge the other root."""
    done = merge(sweep.root.with_name("source"), sweep.root)
    assert done.is_whole, done
    return set(CASES)


def extended(x: list[int] | None) -> Callable[[Sweep], set[Point]]:
    """Ask for values that have no bin yet."""

    def act(sweep: Sweep) -> set[Point]:
        sweep.xs = 6
        return sweep.call(x)

    return act


def invalidated(sweep: Sweep) -> set[Point]:
    """Supersede some points and compute them anew."""
    sweep.cache().invalidate(x=[0])
    return sweep.call([0], [0, 1])


def collected(sweep: Sweep) -> set[Point]:
    """Collect garbage."""
    collect(sweep.root, grace=0)
    return sweep.points


def repaired(sweep: Sweep) -> set[Point]:
    """Verify with repair."""
    verify(sweep.root, repair=True)
    return set()


SMALL = {"xs": 4, "ys": 2}
SCENARIOS = {
    "first": Scenario(nothing, lambda sweep: sweep.call([0, 1], [0, 1]), SMALL),
    "commit": Scenario(one_chunk, lambda sweep: sweep.call([2, 3], [0, 1]), SMALL),
    "large commit": Scenario(one_chunk, lambda sweep: sweep.call([2, 3], [0, 1]), {**SMALL, "width": 30_000}),
    "part": Scenario(one_chunk, lambda sweep: sweep.call([2], [0, 1]), SMALL),
    "fold": Scenario(three_quarters, lambda sweep: sweep.call([3], [1]), SMALL),
    "union": Scenario(seven_parts, lambda sweep: sweep.call([7], [0]), {"xs": 10, "ys": 2, "spec": (10, 2)}),
    "layout": Scenario(one_chunk, extended([4, 5]), SMALL),
    "quarantine": Scenario(damaged("sweep/chunks/*.h5"), Sweep.call, SMALL, warned=True),
    "damaged layout": Scenario(damaged("sweep/layouts/*.json"), extended(None), SMALL, warned=True),
    "points": Scenario(one_chunk, lambda sweep: sweep.cases(CASES), SMALL),
    "points repair": Scenario(damaged("sweep/points/chunks/*.h5", CASES), repaired, SMALL, warned=True),
    "points merge": Scenario(another_root_of_points, merged_points, SMALL),
    "record": Scenario(lambda sweep: sweep.call(), invalidated, SMALL),
    "gc": Scenario(superseded, collected, SMALL),
    "merge": Scenario(another_root, merged, SMALL),
    "repair": Scenario(damaged("sweep/chunks/*.h5"), repaired, SMALL, warned=True),
}


def acted(scenario: Scenario, sweep: Sweep, calls: Any) -> dict[str, Any]:
    """Do what is disturbed, in a child; say what it acknowledged, and whether the fault fired."""
    done: set[Point] = set()
    error: Exception | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChunkMemoWarning)
        with faults.injected(calls):
            try:
                done = scenario.act(sweep)
            except (ChunkMemoError, OSError) as caught:
                error = caught
    if isinstance(error, StoreError):
        # A stream keeps no outputs: those of a chunk whose file could not be synced are in that file.
        kept = error.output is not None or set(sweep.executed) <= oracle.stored(sweep.root)
        assert kept, "the outputs did not come with the error"
    elif error is not None:
        assert not sweep.executed, f"what was computed did not come with {error!r}"
    told = type(error).__name__ if error is not None else ""
    return {"acknowledged": sorted(done), "fired": calls.fired[:1], "calls": calls.count, "told": told}


def one_case(folder: Path, scenario: Scenario, template: Path, calls: Any) -> Ended:
    """Disturb a copy of a prepared store."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return in_child(lambda: acted(scenario, Sweep(folder / "root", **scenario.sweep), calls))


def judged(scenario: Scenario, folder: Path, acknowledged: set[Point], case: str) -> None:
    """Hold what a case left behind against the oracle."""
    try:
        # What was superseded does not count, so what is stored is no measure there.
        sweep = Sweep(folder / "root", **scenario.sweep)
        if scenario.act in (invalidated, collected):
            found = verify(sweep.root)
            assert found.is_intact, found.findings
            sweep.call()
            sweep.call()
            assert [] == sweep.executed
        else:
            oracle.check(sweep, acknowledged & sweep.points, warned=scenario.warned)
    except Exception as error:
        raise AssertionError(f"{case}: {error}") from error


def disturb(folder: Path, name: str, kinds: list[str], stride: int) -> dict[str, Any]:
    """Let each fault happen at each call of a scenario, or at each n-th; return how many cases there were."""
    scenario = SCENARIOS[name]
    template = folder / "template"
    template.mkdir(parents=True)
    prepared = in_child(lambda: sorted(scenario.prepare(Sweep(template / "root", **scenario.sweep))))
    assert prepared.code == 0, prepared.error
    before = oracle.as_points(prepared.said)
    undisturbed = one_case(folder / "case", scenario, template, faults.Calls())
    assert undisturbed.code == 0, undisturbed.error
    judged(scenario, folder / "case", before | oracle.as_points(undisturbed.said["acknowledged"]), "undisturbed")
    cases: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for kind in kinds:
        at = 0
        while True:
            case = f"{name}, {kind} at call {at}"
            only = faults.WRITING if kind in ("ENOSPC", "EDQUOT") else faults.CALLS
            ended = one_case(folder / "case", scenario, template, faults.Calls(kind, at, only=only))
            if ended.was_killed:
                said: dict[str, Any] = {"acknowledged": [], "fired": ["killed"], "told": "killed"}
            else:
                assert ended.code == 0, f"{case}: {ended.error}"
                said = ended.said
            if not said["fired"]:
                break
            assert ended.was_killed == kind.startswith("KILL"), case
            judged(scenario, folder / "case", before | oracle.as_points(said["acknowledged"]), case)
            cases[kind] += 1
            outcomes[said["told"] or "returned"] += 1
            at += stride
        assert at > 0, f"{name}, {kind}: no call was reached"
    return {"calls": undisturbed.said["calls"], "cases": cases, "outcomes": outcomes}


def main() -> None:
    """Run one scenario."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    print(json.dumps(disturb(folder, name, sys.argv[4:] or [*faults.KINDS], int(sys.argv[3]))))
    assert h5py  # imported once, before any fork


if __name__ == "__main__":
    main()
