"""The cache as a state machine against a plain set of stored points."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sweeping import Point, decorated, flat, value

from chunk_memo import ChunkCache, DamageWarning

XS: list[Any] = [0, 1, 2, 3, 4, 5, 1.0, True, -0.0, "a"]
YS: list[Any] = ["u", "v", "w", (1, 2), None, 2.5]
SCALES = [1, 2.0]

Key = tuple[str, str]


def key_of(point: Any) -> Key:
    """Tell points apart as a cache must: 1, 1.0 and True are three values."""
    return (repr([type(part).__name__ for part in point]), repr(point))


def subset(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    """Some of these values in any order."""
    return st.lists(st.sampled_from(range(len(values))), min_size=1, unique=True).map(
        lambda picks: [values[i] for i in picks]
    )


class SweepMachine(RuleBasedStateMachine):
    """Requests, growth, merges and damage in any order; each point is computed once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.roots = [self.folder / "a", self.folder / "b"]
        self.stored: list[set[Key]] = [set(), set()]
        self.superseded: set[str] = set()
        self.calls: list[Point] = []
        self.vectorize = False
        self.damaged: dict[Path, int] = {}
        self.processes = 0

    def teardown(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(
        kind=st.sampled_from(["grid", "dicts", "mixed"]),
        xs=subset(XS),
        ys=subset(YS),
        size=st.integers(1, 4),
        other=st.integers(1, 3),
    )
    def start(self, kind: str, xs: list[Any], ys: list[Any], size: int, other: int) -> None:
        """Declare a first grid."""
        self.kind, self.xs, self.ys = kind, xs, ys
        self.spec = {"x": size, "y": other}
        self.scale: Any = SCALES[0]
        self.renew()

    def setup(self, root: int = 0) -> dict[str, Any]:
        """Return what makes the decorated function."""
        return {
            "root": str(self.roots[root]),
            "kind": self.kind,
            "xs": self.xs,
            "ys": self.ys,
            "spec": self.spec,
            "vectorize": self.vectorize,
        }

    @rule()
    def renew(self) -> None:
        """A new instance over the same folder."""
        self.function = decorated(calls=self.calls, **self.setup())

    # --- requests ------------------------------------------------------------------------------

    def check(self, calls: list[Point], text: str, asked: list[Point], root: int = 0) -> None:
        """Each point not stored was computed once; outputs are right and in the order asked."""
        expected = {key_of(point) for point in asked} - self.stored[root]
        assert sorted(expected) == sorted(key_of(call) for call in calls)
        assert repr([value(self.kind, *point) for point in asked]) == text
        self.stored[root] |= expected

    def ask(self, xs: list[Any], ys: list[Any], root: int = 0, **request: Any) -> None:
        """Ask in this process, and check."""
        function = self.function if root == 0 else decorated(calls=self.calls, **self.setup(root))
        self.calls.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output, diagnostics = function(self.scale, **request)
        assert all(issubclass(warning.category, DamageWarning) for warning in caught)
        assert len(self.calls) == diagnostics.executed_points
        asked = [(self.scale, x, y) for x in xs for y in ys]
        self.check(self.calls, repr(flat(output)), asked, root)

    @rule()
    def ask_for_all(self) -> None:
        """The full axes."""
        self.ask(self.xs, self.ys)

    @rule(data=st.data())
    def ask_for_some(self, data: st.DataObject) -> None:
        """A sub-grid in any order."""
        xs, ys = data.draw(subset(self.xs)), data.draw(subset(self.ys))
        self.ask(xs, ys, x=xs, y=ys)

    @rule(data=st.data())
    def ask_twice_for_a_value(self, data: st.DataObject) -> None:
        """Repetitions are returned, and run once."""
        xs = data.draw(st.lists(st.sampled_from(self.xs), min_size=1, max_size=4))
        self.ask(xs, self.ys, x=xs)

    @rule(data=st.data())
    def ask_by_index(self, data: st.DataObject) -> None:
        """By position."""
        start = data.draw(st.integers(0, len(self.xs) - 1))
        self.ask(self.xs[start:], self.ys, axis_indices={"x": slice(start, None)})

    @precondition(lambda self: self.processes == 0)
    @rule(data=st.data())
    def ask_in_a_new_process(self, data: st.DataObject) -> None:
        """By a process that knows nothing yet."""
        self.processes += 1
        xs, ys = data.draw(subset(self.xs)), data.draw(subset(self.ys))
        request = (self.setup(), self.scale, {"x": xs, "y": ys})
        done = subprocess.run(
            [sys.executable, "-W", "ignore", Path(__file__).with_name("sweeping.py")],
            input=repr(request),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        calls, text, _ = ast.literal_eval(done.stdout)
        self.check(calls, text, [(self.scale, x, y) for x in xs for y in ys])

    # --- growth --------------------------------------------------------------------------------

    @rule(data=st.data())
    def redeclare(self, data: st.DataObject) -> None:
        """Append, prepend, insert, reorder and drop values, all at once."""
        self.xs, self.ys = data.draw(subset(XS)), data.draw(subset(YS))
        self.renew()

    @rule(data=st.data())
    def insert(self, data: st.DataObject) -> None:
        """One value, anywhere in the axis."""
        known = {key_of([x]) for x in self.xs}
        fresh = [x for x in XS if key_of([x]) not in known]
        if fresh:
            at = data.draw(st.integers(0, len(self.xs)))
            self.xs = [*self.xs[:at], data.draw(st.sampled_from(fresh)), *self.xs[at:]]
            self.renew()

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        """Values added by ``extend_cache`` stay in this cache's axis."""
        xs = data.draw(subset(XS))
        self.ask(xs, self.ys, x=xs, extend_cache=True)
        self.renew()

    @rule(size=st.integers(1, 5), other=st.integers(1, 3))
    def change_chunk_spec(self, size: int, other: int) -> None:
        """Stored chunks keep serving."""
        self.spec = {"x": size, "y": other}
        self.renew()

    @rule(scale=st.sampled_from(SCALES))
    def change_params(self, scale: Any) -> None:
        """Change params, and back."""
        self.scale = scale

    @rule()
    def change_vectorize(self) -> None:
        """Per point or per block."""
        self.vectorize = not self.vectorize
        self.renew()

    # --- merges and damage ---------------------------------------------------------------------

    @rule(data=st.data())
    def ask_in_another_root(self, data: st.DataObject) -> None:
        """By somebody who works elsewhere."""
        xs, ys = data.draw(subset(self.xs)), data.draw(subset(self.ys))
        self.ask(xs, ys, root=1, x=xs, y=ys)

    @rule()
    def merge_by_copying(self) -> None:
        """Copy the files of the other root that are not here."""
        for source in sorted(self.roots[1].rglob("*")):
            target = self.roots[0] / source.relative_to(self.roots[1])
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not target.exists() or target in self.damaged:
                target.unlink(missing_ok=True)
                shutil.copy(source, target)
                self.damaged.pop(target, None)
        self.stored[0] |= {key for key in self.stored[1] if not self.is_superseded(key)}

    def is_superseded(self, key: Key) -> bool:
        """Whether what others stored of a point counts no more here."""
        return any(key[1].startswith(f"({scale}, ") for scale in self.superseded)

    @rule()
    def start_over(self) -> None:
        """Nothing that is stored for some params counts any more; files copied in later do not, either."""
        for folder in self.roots[0].iterdir() if self.roots[0].exists() else ():
            cache = ChunkCache.load_from_cache(self.roots[0], folder.name)
            scale = repr(cache.params["scale"])
            if scale == repr(self.scale):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DamageWarning)
                    generation = cache.invalidate()
                if generation:
                    self.superseded.add(scale)
                self.stored[0] = {key for key in self.stored[0] if not key[1].startswith(f"({scale}, ")}
        self.renew()

    @rule()
    def collect_garbage(self) -> None:
        """Files that no request needs are deleted."""
        for folder in self.roots[0].iterdir() if self.roots[0].exists() else ():
            ChunkCache.load_from_cache(self.roots[0], folder.name).gc(grace=0, quarantine=True)

    def points_by_file(self) -> dict[Path, set[Key]]:
        """Return the points in each intact file."""
        found = {}
        for folder in self.roots[0].iterdir() if self.roots[0].exists() else ():
            cache = ChunkCache.load_from_cache(self.roots[0], folder.name)
            outdated = set(cache.superseded_files())
            for path in set(folder.glob("chunks/**/*.h5")) - set(self.damaged) - outdated:
                payload = cache.load_payload(path)
                assert payload is not None
                scale = cache.params["scale"]
                found[path] = {key_of((scale, p["x"], p["y"])) for p in payload["spec"].values()}
        return found

    def lose(self, data: st.DataObject) -> Path | None:
        """Choose a file, and expect only what no other file holds to be computed again."""
        self.damaged = {
            path: inode for path, inode in self.damaged.items() if path.exists() and path.stat().st_ino == inode
        }
        files = self.points_by_file()
        stored = set().union(*files.values()) if files else set()
        assert self.stored[0] <= stored
        if not files:
            return None
        path = data.draw(st.sampled_from(sorted(files)))
        others = [points for other, points in files.items() if other != path]
        self.stored[0] -= files[path] - set().union(*others)
        return path

    @rule(data=st.data())
    def delete_a_file(self, data: st.DataObject) -> None:
        """Somebody deletes a file."""
        path = self.lose(data)
        if path is not None:
            path.unlink()

    @rule(data=st.data())
    def damage_a_file(self, data: st.DataObject) -> None:
        """A disk rots."""
        path = self.lose(data)
        if path is not None:
            self.damaged[path] = path.stat().st_ino
            size = os.path.getsize(path)
            with path.open("r+b") as file:
                how = data.draw(st.sampled_from(["flip", "truncate", "empty"]))
                if how == "flip":
                    file.seek(data.draw(st.integers(0, 600)))
                    byte = file.read(1)
                    file.seek(-1, 1)
                    file.write(bytes([byte[0] ^ (1 << data.draw(st.integers(0, 7)))]))
                else:
                    file.truncate(size // 2 if how == "truncate" else 0)


def machine(examples: int) -> Any:
    """Return the machine as a test case of a size."""
    case = SweepMachine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


class TestSweepMachine(machine(150)):  # type: ignore[misc]
    """150 runs of 30 steps."""


@pytest.mark.long
def test_sweep_machine_long() -> None:
    """1,000 runs of 30 steps."""
    case = machine(1000)("runTest")
    case.runTest()
