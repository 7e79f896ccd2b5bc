"""When code changes: what is computed, what is said, and what ``versions``, ``accept`` and ``forget`` do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from programs import Programs

from chunk_memo import ChunkCache, ChunkMemo, IdentityError, SpecError, catalog
from chunk_memo.errors import CodeChangedError, CodeChangedWarning, PackageVersionWarning
from chunk_memo.versions import CodeVersion, Versions

HERE = Path(__file__).parent

FIRST = """\
RATE = 2


def scaled(v):
    return v * RATE


def f(x, y, alpha=1):
    return [alpha * scaled(i) * j for i in x for j in y]
"""
SECOND = FIRST.replace("RATE = 2", "RATE = 3")
SAME = FIRST.replace("v * RATE", "RATE * v")
"""Another way to compute what `FIRST` does."""

OUTPUT = {1: [20, 40, 40, 80], 2: [40, 80, 80, 160]}
"""What `FIRST` returns for each alpha."""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Return a function that imports the function ``f`` of a program."""
    with Programs(tmp_path / "programs") as programs:
        yield programs.function


def memo(root: Path, **options: Any) -> ChunkMemo:
    """Return a memo over four points; every call opens it anew."""
    axes = {"x": [1, 2], "y": [10, 20]}
    return ChunkMemo(root, {"x": 1}, axes, verbose=0, durability="fast", **options)


def executed(call: tuple[Any, Any]) -> int:
    """Return the number of points that a call computed."""
    return int(call[1].executed_points)


def reason(function: Any, **request: Any) -> str:
    """Return why a call would compute."""
    [group] = function.plan(**request).groups
    return str(group.reason)


# --- policy ------------------------------------------------------------------------------------------------


def test_going_back_finds_the_old_results(tmp_path: Path, load: Any) -> None:
    """Code v1, v2 and v1 again: the third run executes nothing; each returns its own results."""
    runs = [memo(tmp_path / "root").cache()(load(text))() for text in (FIRST, SECOND, FIRST)]
    assert [4, 4, 0] == [executed(run) for run in runs]
    assert [OUTPUT[1], [30, 60, 60, 120], OUTPUT[1]] == [output for output, _ in runs]


def test_plan_names_what_changed(tmp_path: Path, load: Any) -> None:
    """The reason names the changed parts; other params, and a function without a past, have other reasons."""
    root = tmp_path / "root"
    assert "nothing is stored for these params" == reason(memo(root).cache()(load(FIRST)))
    memo(root).cache()(load(FIRST))()
    changed = memo(root).cache()(load(SECOND))
    before = sorted(root.rglob("*"))
    assert "code changed: constant 'RATE'" == reason(changed)
    assert "nothing is stored for these params" == reason(changed, alpha=7)
    assert before == sorted(root.rglob("*"))
    assert "code changed: function 'scaled'" == reason(memo(root).cache()(load(SAME)))
    changed(x=1)
    assert "not computed yet" == reason(changed)


def test_what_is_nearest_is_compared_with(tmp_path: Path, load: Any) -> None:
    """Of several versions the plan compares with the one that differs least, not with the one stored last."""
    root = tmp_path / "root"
    for text in (FIRST, SECOND):
        memo(root).cache()(load(text))()
    assert "code changed: function 'scaled'" == reason(memo(root).cache()(load(SAME)))


def test_a_plan_says_how_results_are_kept(tmp_path: Path) -> None:
    """Where a param is new, or has another name, the reason is the line that lets older results count."""

    def f(x: list[int], y: list[int], alpha: int = 1) -> list[int]:
        return [alpha * i * j for i in x for j in y]

    def newer(x: list[int], y: list[int], alpha: int = 1, beta: int = 0) -> list[int]:
        return [alpha * i * j + beta for i in x for j in y]

    def renamed(x: list[int], y: list[int], a: int = 1) -> list[int]:
        return [a * i * j for i in x for j in y]

    root, nothing = tmp_path / "root", "nothing is stored for these params"
    assert nothing == reason(memo(root).cache(name="f")(newer))
    memo(root).cache(name="f")(f)()
    assert (
        f"{nothing}: what is stored was made before there was 'beta', and counts for one value of it with"
        " new_params={'beta': …}"
    ) == reason(memo(root).cache(name="f")(newer))
    assert 0 == executed(memo(root).cache(name="f", new_params={"beta": 0})(newer)())
    assert nothing == reason(memo(root).cache(name="f")(newer), alpha=7)
    assert nothing == reason(memo(root).cache(name="g")(newer))
    other = tmp_path / "other"
    memo(other).cache(name="f")(f)()
    assert (
        f"{nothing}: what is stored has 'alpha' in place of 'a', and counts with renamed_from={{'a': 'alpha'}},"
        " if only the name is new"
    ) == reason(memo(other).cache(name="f")(renamed))


def test_a_change_within_one_process(tmp_path: Path, load: Any) -> None:
    """A constant rebound between two calls is a change of code like any other."""
    plain = load(FIRST)
    function = memo(tmp_path / "root").cache(on_code_change="error")(plain)
    assert OUTPUT[1] == function()[0]
    sys.modules[plain.__module__].RATE = 3  # type: ignore[attr-defined]
    with pytest.raises(CodeChangedError, match="constant 'RATE'"):
        function()
    sys.modules[plain.__module__].RATE = 2  # type: ignore[attr-defined]
    assert (OUTPUT[1], 0) == (lambda call: (call[0], executed(call)))(function())


def test_warn_says_what_changed_and_computes(tmp_path: Path, load: Any) -> None:
    """``on_code_change="warn"`` tells once for each combination of params, and computes."""
    root = tmp_path / "root"
    first = memo(root).cache()(load(FIRST))
    first(), first(alpha=2)
    function = memo(root).cache(on_code_change="warn")(load(SECOND))
    for alpha in (1, 2):
        with pytest.warns(CodeChangedWarning, match=r"'f' has results for .* computes anew: .*'RATE'") as told:
            assert 4 == executed(function(alpha=alpha))
        assert [__file__] == [each.filename for each in told]
    assert 0 == executed(function())
    assert 4 == executed(function(alpha=3))


def test_error_names_the_ways_out(tmp_path: Path, load: Any) -> None:
    """``on_code_change="error"`` raises at each call, and computes nothing, until one decides."""
    root = tmp_path / "root"
    memo(root).cache()(load(FIRST))()
    function = memo(root).cache(on_code_change="error")(load(SAME))
    for _ in range(2):
        with pytest.raises(
            CodeChangedError, match=r"'scaled'.*f\.accept\(\).*version=.*on_code_change="
        ) as error:
            function()
        assert isinstance(error.value, RuntimeError)
    assert 4 == executed(function(alpha=2)), "nothing is there for these params"
    assert 1 == function.accept()
    assert (OUTPUT[1], 0) == (lambda call: (call[0], executed(call)))(function())


def test_a_cache_without_results_changes_nothing(tmp_path: Path, load: Any) -> None:
    """What a killed ``accept`` left, or a function that failed, is no result."""
    root = tmp_path / "root"
    failing = memo(root).cache()(load(FIRST.replace("RATE = 2", "RATE = None")))
    with pytest.raises(TypeError, match="unsupported operand"):
        failing()
    function = memo(root).cache(on_code_change="error")(load(SECOND))
    assert "nothing is stored for these params" == reason(function)
    memo(root).cache()(load(FIRST))()
    function = memo(root).cache(on_code_change="error")(load(SECOND))
    function.cache_for().write_metadata()
    with pytest.raises(CodeChangedError, match="'RATE'"):
        function()


def test_many_threads_may_look_at_the_past(tmp_path: Path, load: Any) -> None:
    """Calls of several functions of one memo, each with a past, may be made at the same time."""
    root = tmp_path / "root"
    first = memo(root).cache()(load(FIRST))
    for alpha in range(8):
        first(alpha=alpha)
    shared = memo(root)
    functions = [shared.cache()(load(text)) for text in (SECOND, SAME, FIRST)]
    calls = [(function, alpha) for function in functions for alpha in range(8)]
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda call: executed(call[0](alpha=call[1])), calls))
    assert [4] * 16 + [0] * 8 == counts


def test_streams_keep_to_the_policy(tmp_path: Path, load: Any) -> None:
    """``stream_cache`` has the same policy."""
    memo(tmp_path / "root").stream_cache()(load(FIRST))()
    with pytest.raises(CodeChangedError):
        memo(tmp_path / "root").stream_cache(on_code_change="error")(load(SECOND))()


def test_an_explicit_version_decides(tmp_path: Path) -> None:
    """With ``version=`` other code finds the results; another version computes, and only the plan says why."""

    def decorated(rate: int, version: str | None) -> Any:
        return memo(tmp_path).cache(version=version, name="f", on_code_change="error")(
            lambda x, y: [rate * i * j for i in x for j in y]
        )

    assert [4, 0] == [executed(decorated(rate, "1")()) for rate in (1, 2)]
    other = decorated(2, "2")
    assert "version changed: 1 before, 2 now" == reason(other)
    assert 4 == executed(other())
    assert ["1", "2"] == [each.version for each in other.versions()]
    assert 1 == other.accept("1")
    assert "version changed: 2 before, none given now" == reason(decorated(2, None))


def test_a_policy_that_there_is_not(tmp_path: Path, load: Any) -> None:
    """Any other policy is refused when decorating."""
    with pytest.raises(SpecError, match=r"on_code_change must be one of .*got 'ignore'"):
        memo(tmp_path).cache(on_code_change="ignore")(load(FIRST))  # type: ignore[call-overload]


# --- versions ----------------------------------------------------------------------------------------------


def test_versions_are_listed_with_what_they_left(tmp_path: Path, load: Any) -> None:
    """Oldest first, the current code last and only with results; with points, bytes, source and diff."""
    root = tmp_path / "root"
    first, second = (memo(root).cache()(load(text)) for text in (FIRST, SECOND))
    assert (0, "no results yet") == (len(first.versions()), str(first.versions()))
    first(), first(alpha=2, x=1)
    [only] = first.versions()
    assert (True, 6, 2, "") == (only.current, only.points, len(only.caches), only.diff)
    [old] = second.versions()
    assert (False, "f", None) == (old.current, old.name, old.version)
    assert "# code changed: constant 'RATE'" == old.diff
    second()
    versions = second.versions()
    assert [False, True] == [each.current for each in versions]
    assert versions[-1] == versions[1] != versions[0] == old
    assert isinstance(versions[:1], Versions)
    assert old.bytes == sum(path.stat().st_size for c in old.caches for path in (root / c).rglob("*.*"))
    assert [True, False] == [each.current for each in first.versions()][::-1], "the current code stands last"
    table = str(versions).splitlines()
    assert ["code", "since", "params", "points", "bytes"] == table[0].split()
    assert ["1", "f", versions[1].digest[:8], "(current)"] == table[2].split()[:4]


def test_the_diff_shows_the_edit(tmp_path: Path, load: Any) -> None:
    """What was changed in a helper stands in the diff from the old code to the current one."""
    memo(tmp_path / "root").cache()(load(FIRST))()
    [old] = memo(tmp_path / "root").cache()(load(SAME)).versions()
    assert ["-    return v * RATE", "+    return RATE * v"] == [
        line for line in old.diff.splitlines() if line[:2] in ("- ", "+ ")
    ]


@pytest.mark.parametrize("which", ["object", "digest", "prefix", "number", "from the end", "nothing"])
def test_accept_lets_old_results_count(tmp_path: Path, load: Any, which: str) -> None:
    """However the version is named, all its params are there for the new code, and nothing is executed."""
    root = tmp_path / "root"
    first = memo(root).cache()(load(FIRST))
    first(), first(alpha=2)
    function = memo(root).cache()(load(SAME))
    [old] = function.versions()
    names: dict[str, Any] = {
        "object": old,
        "digest": old.digest,
        "prefix": old.digest[:6],
        "number": 0,
        "from the end": -1,
    }
    assert 2 == function.accept(names.get(which))
    assert 2 == function.accept(old), "again is no harm"
    for alpha, output in OUTPUT.items():
        assert 0 == function.plan(alpha=alpha).executed_points
        assert (output, 0) == (lambda call: (call[0], executed(call)))(function(alpha=alpha))
    assert (output[:1], 0) == (lambda call: (call[0], executed(call)))(function(x=1, y=10, alpha=2))
    assert [8, 8] == [each.points for each in function.versions()]


def test_accept_refuses_what_it_cannot_know(tmp_path: Path, load: Any) -> None:
    """No version, an unknown one, and the current one are errors that say which there are."""
    function = memo(tmp_path / "root").cache()(load(FIRST))
    with pytest.raises(SpecError, match="there is no other version"):
        function.accept()
    function()
    refused: list[tuple[Any, str]] = [
        (None, "there is no other version"),
        ("ffffffff", r"'ffffffff' names 0 versions, expected one of \['"),
        (5, "5 names 0 versions"),
        (0, "is the code that runs"),
        (1.5, r"expected a version, .* got 1\.5"),
    ]
    for which, said in refused:
        with pytest.raises(SpecError, match=said):
            function.accept(which)


def test_accept_of_params_that_are_gone(tmp_path: Path, load: Any) -> None:
    """Results for a param that the function does not take any more cannot count, and that is said."""
    memo(tmp_path / "root").cache()(load(FIRST))(alpha=2)
    gone = FIRST.replace("x, y, alpha=1", "x, y").replace("alpha * ", "")
    with pytest.raises(SpecError, match=r"'alpha' cannot count for 'f'.*renamed_from"):
        memo(tmp_path / "root").cache()(load(gone)).accept()


def test_a_param_that_became_an_axis_is_accepted(tmp_path: Path, load: Any) -> None:
    """Old results count at the one value of the new axis for which they were made."""
    root = tmp_path / "root"
    memo(root).cache()(load(FIRST))(alpha=2)
    text = FIRST.replace("alpha=1", "alpha").replace(
        "alpha * scaled(i) * j for i in x for j in y", "a * scaled(i) * j for i in x for j in y for a in alpha"
    )
    wide = ChunkMemo(root, axis_values={"x": [1, 2], "y": [10, 20], "alpha": [1, 2]}, verbose=0)
    function = wide.cache()(load(text))
    assert 1 == function.accept()
    assert (OUTPUT[2], 0) == (lambda call: (call[0], executed(call)))(function(alpha=2))
    assert 4 == executed(function())


# --- forget ------------------------------------------------------------------------------------------------


def test_forget_deletes_a_version(tmp_path: Path, load: Any) -> None:
    """The folders of its caches go, nothing else does; a dry run only tells."""
    root = tmp_path / "root"
    first, second = (memo(root).cache()(load(text)) for text in (FIRST, SECOND))
    first(), first(alpha=2), second()
    old = second.versions()[0]
    before = sorted(root.rglob("*"))
    told = second.forget(0, dry_run=True)
    assert (old.caches, old.bytes, True, before) == (*_fields(told), sorted(root.rglob("*")))
    assert (old.caches, old.bytes, False) == _fields(second.forget(old.digest))
    assert [True] == [each.current for each in second.versions()]
    assert 1 == len(os.listdir(root))
    assert (0, 4) == (executed(second()), executed(first()))


def _fields(forgotten: Any) -> tuple[Any, ...]:
    return forgotten.caches, forgotten.bytes, forgotten.dry_run


def test_forget_refuses_what_is_in_use(tmp_path: Path, load: Any) -> None:
    """The current version, and one whose results count for other code, go only with ``force=True``."""
    root = tmp_path / "root"
    first, same = (memo(root).cache()(load(text)) for text in (FIRST, SAME))
    first()
    with pytest.raises(SpecError, match=r"is the code that runs; forget\(…, force=True\)"):
        first.forget(0)
    same.accept()
    with pytest.raises(SpecError, match=r"count for 1 other caches.*force=True"):
        same.forget(0)
    assert 0 == executed(same())
    same.forget(0, force=True)
    assert (4, OUTPUT[1]) == (lambda call: (executed(call), call[0]))(memo(root).cache()(load(SAME))())
    current = memo(root).cache()(load(SAME))
    assert 4 == len(current()[0])
    current.forget(-1, force=True)
    assert [] == os.listdir(root)
    assert (4, 0) == (executed(current()), executed(current()))


def test_what_a_killed_forget_left_is_no_cache(tmp_path: Path, load: Any) -> None:
    """A folder renamed and not yet deleted is no cache any more, and the next deletion takes it along."""
    root = tmp_path / "root"
    first, second = (memo(root).cache()(load(text)) for text in (FIRST, SECOND))
    first(), second()
    old = second.versions()[0]
    (root / old.caches[0]).rename(root / f"{catalog.FORGOTTEN}{old.caches[0]}-1")
    assert 1 == len(ChunkCache.discover_caches(root))
    assert [True] == [each.current for each in second.versions()]
    second.forget(-1, force=True)
    assert [] == os.listdir(root)


# --- metadata ----------------------------------------------------------------------------------------------


def test_metadata_tells_of_the_code(tmp_path: Path, load: Any) -> None:
    """Source and parts stand beside the digest."""
    function = memo(tmp_path / "root").cache()(load(FIRST))
    function()
    [path] = (tmp_path / "root").glob("*/metadata.json")
    record = json.loads(path.read_text(encoding="utf-8"))["metadata"]["function"]
    assert "def scaled(v):" in record["source"]
    assert {"f", "scaled", "RATE"} <= {part["name"] for part in record["parts"]}
    assert ["alpha"] == record["arguments"]


def test_other_versions_of_packages_are_told_once(tmp_path: Path, load: Any, monkeypatch: Any) -> None:
    """Results made with another NumPy are used, and that is said once in a process."""
    text = "import numpy as np\n\n\ndef f(x, y, alpha=1):\n    return np.multiply.outer(x, y) * alpha\n"
    monkeypatch.setattr(catalog, "_told", set())
    root = tmp_path / "root"
    function = memo(root).cache()(load(text))
    function(), function(alpha=2)
    for path in root.glob("*/metadata.json"):
        _with_numpy(path, "0.9")
    again = memo(root).cache()(load(text))
    with pytest.warns(PackageVersionWarning, match=r"'f' were made with numpy 0\.9 \(now .*refresh=True") as told:
        assert 0 == executed(again())
    assert 1 == len(told)
    assert 0 == executed(again(alpha=2))


def _with_numpy(path: Path, version: str) -> None:
    """Let a cache say that its results were made with another NumPy."""
    cache = ChunkCache.load_from_cache(path.parent.parent, path.parent.name)
    function = {**cache.metadata["function"], "packages": {"numpy": version}}
    known = cache._state.folder.read_metadata()
    assert known is not None
    cache.metadata["function"], cache._identity = function, known["identity"]
    data = cache._metadata_document()
    path.unlink()
    path.write_bytes(data)


# --- doing it again ----------------------------------------------------------------------------------------


def counting(root: Path, log: list[Any], **settings: Any) -> Any:
    """Return a function whose outputs are the number of its call."""

    def f(x: list[int], y: list[int], alpha: int = 1) -> list[int]:
        log.append((x, y))
        return [len(log)] * len(x) * len(y)

    return memo(root).cache(version="1", name="f", **settings)(f)


def test_refresh_computes_what_is_asked_for(tmp_path: Path) -> None:
    """``refresh=True`` executes the points of the call, and only those; the new results stay."""
    log: list[Any] = []
    function = counting(tmp_path, log)
    assert [1, 1, 2, 2] == function()[0]
    assert ([3], 1) == (lambda call: (call[0], executed(call)))(function(x=1, y=10, refresh=True))
    assert [3, 1, 2, 2] == function()[0] == counting(tmp_path, log)()[0]
    assert 4 == executed(function(refresh=True))
    assert 0 == executed(function(refresh=False))
    assert 4 == executed(function(alpha=2))


def test_refresh_of_a_stream(tmp_path: Path) -> None:
    """Streams take ``refresh=True``, too."""
    function = memo(tmp_path).stream_cache()(lambda x, y: [0] * len(x) * len(y))
    assert [4, 0, 2] == [
        diagnostics.executed_points for diagnostics in (function(), function(), function(x=1, refresh=True))
    ]


def test_refresh_may_be_an_argument(tmp_path: Path) -> None:
    """Where the function has an argument of that name, it is the function's own."""
    function = memo(tmp_path).cache()(lambda x, y, refresh: [refresh] * len(x) * len(y))
    assert [4, 0] == [executed(function(refresh=True)) for _ in range(2)]


def test_invalidate_takes_a_call(tmp_path: Path) -> None:
    """Params choose the cache, axes the points; nothing is computed before the next call."""
    log: list[Any] = []
    function = counting(tmp_path, log)
    assert 0 == function.invalidate()
    function(), function(alpha=2)
    assert 1 == function.invalidate(alpha=2, x=[2])
    assert (0, 2) == (function.plan().executed_points, function.plan(alpha=2).executed_points)
    assert "superseded" in reason(function, alpha=2)
    assert (0, 2) == (executed(function()), executed(function(alpha=2)))
    assert 2 == function.invalidate(2, 10, alpha=2)
    assert 1 == executed(function(alpha=2))


def test_gc_removes_what_is_superseded(tmp_path: Path) -> None:
    """After ``gc`` results are the same, and the files are fewer; of the function, or of all in the root."""
    log: list[Any] = []
    function = counting(tmp_path, log)
    function(), function(refresh=True)
    files = len(list(tmp_path.rglob("*.h5")))
    told = function.gc(grace=0.0, dry_run=True)
    assert files == len(list(tmp_path.rglob("*.h5")))
    assert told.superseded == function.gc(grace=0.0).superseded == 2
    assert files - 2 == len(list(tmp_path.rglob("*.h5")))
    assert [3, 3, 4, 4] == counting(tmp_path, log)()[0]
    function(refresh=True)
    assert 2 == memo(tmp_path).gc(grace=0.0).superseded
    assert 0 == executed(function())


# --- what counts -------------------------------------------------------------------------------------------


def test_ignored_arguments_do_not_count(tmp_path: Path) -> None:
    """``ignore=`` leaves arguments out, positional or by keyword; the function gets them all the same."""
    seen = []

    def f(x: list[int], y: list[int], alpha: int = 1, n_jobs: int = 1, verbose: Any = None) -> list[int]:
        seen.append((n_jobs, verbose))
        return [alpha] * len(x) * len(y)

    function = memo(tmp_path).cache(version="1", ignore=["n_jobs", "verbose"])(f)
    assert 4 == executed(function(n_jobs=4, verbose=object()))
    assert 0 == executed(function([1, 2], [10, 20], 1, 8)) == executed(function(1, 10, 1, 8, object()))
    assert 4 == executed(function([1, 2], [10, 20], 2, 8))
    assert (4, (8, None)) == (seen[0][0], seen[-1])
    assert {"alpha": 1} == function.cache_status()["params"]
    assert 1 == executed(memo(tmp_path).cache(ignore=["b"])(lambda x, y, **more: [len(more)])(x=1, y=10, b=1))
    assert 0 == executed(memo(tmp_path).cache(ignore=["b"])(lambda x, y, **more: [len(more)])(x=1, y=10, b=2))


def test_a_stored_point_is_found_whatever_is_ignored(tmp_path: Path) -> None:
    """One stored point comes by the short path, with arguments that are ignored, too."""
    function = memo(tmp_path).cache(ignore=["n"])(lambda x, y, n=1: [i * j for i in x for j in y])
    function()
    for n in (1, 2, object(), [3]):
        output, diagnostics = function(2, 20, n)
        assert ([40], 0, 1) == (output, diagnostics.executed_points, diagnostics.total_chunks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ignore": ["x"]}, "ignore names params, and 'x' is an axis"),
        ({"ignore": ["n_job"]}, r"ignore names 'n_job', which 'f' does not take; its arguments are \['x', 'y'"),
        ({"ignore": "alpha"}, r"ignore takes a list, got 'alpha'; write ignore=\[…\]"),
        ({"depends_on": "data.csv"}, "depends_on takes a list"),
        ({"new_params": {"beta": 1}}, "new_params names 'beta'"),
        ({"new_params": [1]}, r"new_params must map new params to values, got \[1\]"),
        ({"renamed_from": {"y": "z"}}, "renamed_from names params, and 'y' is an axis"),
        ({"renamed_from": {"beta": "b"}}, "renamed_from names 'beta'"),
        ({"renamed_from": [3]}, r"renamed_from takes a name .*, got 3"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, load: Any, given: dict[str, Any], said: str) -> None:
    """What names no argument, or an axis, is refused when decorating."""
    with pytest.raises(SpecError, match=said):
        memo(tmp_path).cache(**given)(load(FIRST))


def test_depends_on_adds_to_the_identity(tmp_path: Path, load: Any) -> None:
    """A file, a module or a function that is named counts by its content."""
    data, root = tmp_path / "data.csv", tmp_path / "root"
    data.write_text("1")
    plain = load(FIRST)
    assert [4, 0] == [executed(memo(root).cache(depends_on=[data])(plain)()) for _ in range(2)]
    data.write_text("2")
    changed = memo(root).cache(depends_on=[data])(plain)
    assert "data.csv" in reason(changed)
    assert 4 == executed(changed())
    with pytest.raises(IdentityError, match="depends_on= takes functions"):
        memo(root).cache(depends_on=["data.csv"])(plain)()


def test_a_subclass_that_overrides_a_method(tmp_path: Path, load: Any) -> None:
    """A decorated method counts what the class of its object makes of the methods that it calls."""
    text = """\
from dataclasses import dataclass


@dataclass
class Base:
    n: int

    def weight(self):
        return 1

    def f(self, x, y):
        return [self.weight() * self.n * i * j for i in x for j in y]


class Child(Base):
    def weight(self):
        return WEIGHT


def f():
    return Base, Child
"""
    runs = []
    for weight in ("5", "6", "5"):
        base, child = load(text.replace("WEIGHT", weight))()
        base.f = memo(tmp_path / "root").cache(ignore=["self"])(base.f)
        runs.append([executed(base(2).f()), executed(child(2).f()), child(2).f(x=1, y=10)[0]])
    assert [[4, 4, [100]], [0, 4, [120]], [0, 0, [100]]] == runs


def test_explain_identity_before_any_call(tmp_path: Path, load: Any) -> None:
    """What is noticed can be asked for at any time."""
    function = memo(tmp_path / "root").cache()(load(FIRST))
    text = str(function.explain_identity())
    assert all(name in text for name in ("function 'f'", "function 'scaled'", "constant 'RATE'"))
    assert not (tmp_path / "root").exists()


# --- kills -------------------------------------------------------------------------------------------------

KILLED = """\
import os, signal, sys
sys.path[:0] = {path!r}
from programs import Programs
from pathlib import Path
from chunk_memo import ChunkMemo
import test_versions

def stop(after):
    calls = 0
    def counted(event, args):
        nonlocal calls
        if event in ("open", "os.mkdir", "os.link", "os.rename", "os.remove", "os.listdir", "os.scandir"):
            calls += 1
            if calls == after:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(counted)
    return lambda: calls

with Programs(Path({programs!r})) as programs:
    function = programs.function(test_versions.SAME)
    for line in sys.stdin:
        root, after = line.split()
        accept = test_versions.memo(Path(root)).cache()(function).accept
        child = os.fork()
        if not child:
            seen = stop(int(after))
            accept()
            print(seen(), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_in_the_middle_of_accept(tmp_path: Path, load: Any, kills: int) -> None:
    """A killed ``accept`` leaves caches that are right, and repeating it does the rest."""
    root = tmp_path / "root"
    first = memo(root).cache()(load(FIRST))
    first(), first(alpha=2)
    program = KILLED.format(path=[str(HERE.parent), str(HERE)], programs=str(tmp_path / "killed"))
    killer = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killer.stdin is not None
    assert killer.stdout is not None

    def accept(after: int) -> tuple[Path, list[int]]:
        copy = shutil.copytree(root, tmp_path / f"copy {after}".replace(" ", "-"))
        killer.stdin.write(f"{copy} {after}\n")  # type: ignore[union-attr]
        killer.stdin.flush()  # type: ignore[union-attr]
        said = [int(killer.stdout.readline())]  # type: ignore[union-attr]
        if said[0] != -signal.SIGKILL:
            said.append(int(killer.stdout.readline()))  # type: ignore[union-attr]
        return copy, said

    same = load(SAME)
    _, [calls, status] = accept(10**9)
    assert (0, True) == (status, calls > 20)
    for after in sorted({1 + number * (calls - 1) // (kills - 1) for number in range(kills)}):
        copy, said = accept(after)
        assert [-signal.SIGKILL] == said
        one = shutil.copytree(copy, tmp_path / "one")
        for alpha, output in OUTPUT.items():
            assert output == memo(one).cache()(same)(alpha=alpha)[0]
        shutil.rmtree(one)
        function = memo(copy).cache()(same)
        assert 2 == function.accept()
        for alpha, output in OUTPUT.items():
            assert (output, 0) == (lambda call: (call[0], executed(call)))(function(alpha=alpha))
    killer.communicate()


def test_a_version_prints_on_one_line() -> None:
    """Its source and diff are long, and stay out of its repr."""
    version = CodeVersion(
        "ab" * 16, None, "f", "m", "2026-01-01T00:00:00+00:00", ("c",), 3, 9, "def f", "-a", False
    )
    assert "CodeVersion('f', abababab, 2026-01-01T00:00:00+00:00, 1 caches, 3 points)" == repr(version)
