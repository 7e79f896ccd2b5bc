"""``verify``, ``gc``, ``merge``, ``ls``, ``info``, ``doctor`` and ``key``: what they find, do and leave alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from chunk_memo import ChunkCache, ChunkMemo, RootError, run
from chunk_memo.chunks import ChunkStore, Naming
from chunk_memo.cli import main
from chunk_memo.disk import files, signing
from chunk_memo.disk.layouts import Folder, Layout
from chunk_memo.doctor import examine
from chunk_memo.errors import PickleWarning
from chunk_memo.merging import merge
from chunk_memo.survey import details, survey
from chunk_memo.upkeep import collect, resign
from chunk_memo.verification import verify

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

XS, YS = [0, 1, 2, 3], [0, 1]


def invoked(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, list(map(str, arguments)))


def sweep(root: Path, cache_id: str = "one", *, add: float = 0.0, **request: Any) -> int:
    """Ask for points, all by default; what comes is right. Return how many were computed."""
    cache = ChunkCache(root, cache_id, {}, {"x": 2, "y": 2}, {"x": XS, "y": YS}, verbose=0, name="f")
    cache = cache.slice(axis_indices=None, **request) if request else cache

    def function(x: list[int], y: list[int]) -> Any:
        return np.add.outer(np.multiply(x, 10.0), y) + add

    output, told = run(cache, function)
    np.testing.assert_array_equal(function(request.get("x", XS), request.get("y", YS)), output)
    return told.executed_points


def chunks(root: Path, pattern: str = "one/chunks/**/*.h5") -> list[Path]:
    """Return chunk files."""
    return sorted(root.glob(pattern))


def damage(path: Path, at: int = 200) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def snapshot(root: Path) -> dict[str, bytes]:
    """Return all files."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kinds(root: Path, **options: Any) -> list[tuple[str, bool]]:
    """Return what is found, and whether something was done about it."""
    return [(finding.kind, bool(finding.fate)) for finding in verify(root, **options).findings]


class TestVerify:
    """Every byte of every file is looked at, and every name."""

    def test_nothing_wrong(self, tmp_path: Path) -> None:
        """A whole root has no findings, and nothing changes."""
        sweep(tmp_path)
        before = snapshot(tmp_path)
        found = verify(tmp_path)
        assert (1, len(before), sum(map(len, before.values())), ()) == (
            found.caches,
            found.files,
            found.nbytes,
            found.findings,
        )
        assert before == snapshot(tmp_path)

    def test_each_byte_of_each_file(self, tmp_path: Path) -> None:
        """A flipped bit anywhere is found: in skeleton, manifest and arrays, in layouts and metadata."""
        sweep(tmp_path)
        rng = np.random.default_rng(5)
        for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
            good = path.read_bytes()
            for at in rng.integers(0, len(good), 25).tolist():
                damage(path, at)
                found = verify(tmp_path)
                # In JSON some changes of spaces say the same.
                same = path.suffix == ".json" and found.is_intact and good[at : at + 1].isspace()
                assert same or "damaged" in [finding.kind for finding in found.findings], (path, at)
                path.write_bytes(good)

    @pytest.mark.parametrize("pattern", ["chunks/*.h5", "layouts/*", "metadata.json"])
    def test_repair_sets_aside(self, tmp_path: Path, pattern: str) -> None:
        """What is damaged goes to ``quarantine/``, and all that was intact keeps serving."""
        sweep(tmp_path)
        path = chunks(tmp_path, f"one/{pattern}")[0]
        damage(path, len(path.read_bytes()) // 2 if path.suffix == ".json" else 200)
        assert ("damaged", False) in kinds(tmp_path)
        assert ("damaged", True) in kinds(tmp_path, repair=True)
        assert 1 == len(chunks(tmp_path, "one/quarantine/*"))
        assert (4 if path.suffix == ".h5" else 0) == sweep(tmp_path)
        assert ("quarantined", False) in kinds(tmp_path)

    def test_swapped_files(self, tmp_path: Path) -> None:
        """Files under each other's names are found, and put right: nothing is computed again."""
        sweep(tmp_path)
        first, second = chunks(tmp_path)
        data = first.read_bytes(), second.read_bytes()
        first.write_bytes(data[1])
        second.write_bytes(data[0])
        assert [("misplaced", False)] * 2 == kinds(tmp_path)
        assert [("misplaced", True)] * 2 == kinds(tmp_path, repair=True)
        assert 0 == sweep(tmp_path)

    def test_the_file_of_another_cache(self, tmp_path: Path) -> None:
        """It is set aside, whatever it is called."""
        sweep(tmp_path)
        sweep(tmp_path, "two")
        chunks(tmp_path)[0].write_bytes(chunks(tmp_path, "two/chunks/*.h5")[1].read_bytes())
        assert [("misplaced", False)] == kinds(tmp_path)
        assert [("misplaced", True)] == kinds(tmp_path, repair=True)
        assert 4 == sweep(tmp_path)

    def test_a_renamed_cache(self, tmp_path: Path) -> None:
        """A folder with another cache's name is told once, and left alone."""
        sweep(tmp_path)
        (tmp_path / "one").rename(tmp_path / "other")
        found = verify(tmp_path, repair=True)
        assert "rename the folder" in next(each.what for each in found.findings if "metadata" in each.path)
        (tmp_path / "other").rename(tmp_path / "one")
        assert 0 == sweep(tmp_path)

    def test_chunks_without_layout(self, tmp_path: Path) -> None:
        """They are told, and adopted when asked to."""
        sweep(tmp_path)
        shutil.rmtree(tmp_path / "one" / "layouts")
        assert [("unnamed", False)] * 2 == kinds(tmp_path)
        assert [("unnamed", True)] * 2 == kinds(tmp_path, repair=True)
        assert [] == kinds(tmp_path)
        assert 0 == sweep(tmp_path)

    def test_parts(self, tmp_path: Path) -> None:
        """Parts of which all are there, as after copying, are folded; others wait."""
        other = tmp_path / "other"
        sweep(tmp_path / "root", x=[0], y=[0, 1])
        sweep(other, x=[1], y=[0, 1])
        assert [("part", False)] == kinds(tmp_path / "root", repair=True)
        shutil.copytree(other, tmp_path / "root", dirs_exist_ok=True)
        assert [("part", True)] == kinds(tmp_path / "root", repair=True)
        assert [] == kinds(tmp_path / "root")
        assert 0 == sweep(tmp_path / "root", x=[0, 1])

    def test_litter_and_strangers(self, tmp_path: Path) -> None:
        """Files that are not of this library are told, and left alone."""
        sweep(tmp_path)
        for name in (".tmp-1", "one/.tmp-2", "one/notes.txt", "notes.txt"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "empty").mkdir()
        found = verify(tmp_path, repair=True)
        assert {"unfinished": 2, "stray": 3} == {
            kind: sum(each.kind == kind for each in found.findings) for kind in ("unfinished", "stray")
        }
        assert found.is_intact
        assert (tmp_path / "notes.txt").exists()

    def test_subsets(self, tmp_path: Path) -> None:
        """Each chunk file is in one of them, the same each time."""
        for name in "abcdef":
            sweep(tmp_path, name)
        counts = [verify(tmp_path, subset=(n, 3)) for n in (1, 2, 3)]
        documents = verify(tmp_path).files - 12
        assert 12 == sum(found.files - documents for found in counts)
        assert [12] * 3 == [found.files - documents + found.passed_over for found in counts]
        with pytest.raises(ValueError, match="n <= t"):
            verify(tmp_path, subset=(4, 3))

    def test_names_by_the_user(self, tmp_path: Path) -> None:
        """Files that a ``chunk_hash_fn`` named are right under their names."""
        cache = ChunkCache(
            *(tmp_path, "one", {}, {"x": 2}, {"x": XS}),
            verbose=0,
            chunk_hash_fn=lambda params, key, version: f"chunk-{key[0][1][0]}",
        )
        run(cache, lambda x: [float(v) for v in x])
        assert [] == kinds(tmp_path, repair=True)
        assert 2 == len(chunks(tmp_path))


class TestGc:
    """What nobody needs goes, and nothing else."""

    def test_what_goes(self, tmp_path: Path) -> None:
        """Superseded files, old litter, idle layouts, signs of old runs, dead claims, empty folders."""
        sweep(tmp_path)
        folder = tmp_path / "one"
        ChunkCache.load_from_cache(tmp_path, "one").invalidate()
        sweep(tmp_path, add=0.0)
        store = Folder(folder, "v1")
        store.refresh()
        (layout,) = store.layouts.values()
        idle = Layout("v1", ("y", "x"), {"x": 9}, {"x": [[0, 1]]}, None, layout.created_at + 1)
        store.commit_layout(idle, files.Syncer("fast"))
        for name in ("runs/host-1-1.json", "leases/chunk.json", ".tmp-1", "chunks/.tmp-2"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"{}")
            os.utime(folder / name, (0, 0))
        (tmp_path / ".forgotten-gone-1").mkdir()
        (folder / "chunks" / "ab").mkdir()
        before = snapshot(tmp_path)
        told = collect(tmp_path, dry_run=True)
        assert before == snapshot(tmp_path)
        done = collect(tmp_path)
        assert told.total == done.total
        total = done.total
        assert (2, 1, 2, 2, 3) == (total.superseded, total.layouts, total.temporary, total.signs, total.folders)
        assert 1 == done.leftovers
        gone = set(before) - set(snapshot(tmp_path))
        assert 7 == len(gone)
        assert 0 == sweep(tmp_path)
        assert collect(tmp_path).caches == {}

    def test_grace(self, tmp_path: Path) -> None:
        """What is young is kept, by the clock of the file system."""
        sweep(tmp_path)
        young = tmp_path / "one" / "chunks" / ".tmp-young"
        young.write_bytes(b"x")
        assert 0 == collect(tmp_path).total.temporary
        assert young.exists()
        now = files.now(tmp_path)
        os.utime(young, (now - 100, now - 100))
        assert 0 == json.loads(invoked("gc", tmp_path, "--grace", "2m", "--json").output)["total"]["temporary"]
        assert 1 == json.loads(invoked("gc", tmp_path, "--grace", "90s", "--json").output)["total"]["temporary"]

    def test_a_damaged_cache_is_passed_over(self, tmp_path: Path) -> None:
        """And said, with exit code 1."""
        sweep(tmp_path)
        damage(tmp_path / "one" / "metadata.json", 40)
        shown = invoked("gc", tmp_path)
        assert (1, True) == (shown.exit_code, "one: passed over" in shown.output)


class TestMerge:
    """What one root has the other gets, by content."""

    def test_union(self, tmp_path: Path) -> None:
        """Caches, chunks and parts of both; the source is only read, and the second merge copies nothing."""
        source, target = tmp_path / "source", tmp_path / "target"
        sweep(source, x=[0, 1])
        sweep(source, "two")
        sweep(source, x=[2], y=[0])
        sweep(target, x=[3], y=[0, 1])
        sweep(target, x=[2], y=[1])
        before = snapshot(source)
        done = merge(source, target)
        assert done.is_whole
        assert (2, 4, 0, 1) == (done.caches, done.copied, done.present, done.folded)
        assert before == snapshot(source)
        assert (0, 0) == (sweep(target), sweep(target, "two"))
        assert [] == kinds(target)
        again = merge(source, target)
        assert (0, 4, ()) == (again.copied, again.present, again.conflicts)

    def test_equal_outputs_of_other_moments(self, tmp_path: Path) -> None:
        """Both computed the same: no conflict, whatever time it was."""
        for root in ("source", "target"):
            sweep(tmp_path / root)
        done = merge(tmp_path / "source", tmp_path / "target")
        assert (0, 2, (), 0) == (done.copied, done.present, done.conflicts, done.documents)

    def test_conflicts_are_counted(self, tmp_path: Path) -> None:
        """Other outputs of the same points: the target's stay."""
        sweep(tmp_path / "source", add=0.5)
        sweep(tmp_path / "target")
        done = merge(tmp_path / "source", tmp_path / "target")
        assert (0, 2, False) == (done.copied, len(done.conflicts), done.is_whole)
        assert 0 == sweep(tmp_path / "target")
        shown = invoked("merge", tmp_path / "source", tmp_path / "target")
        assert (1, 2) == (shown.exit_code, shown.output.count("conflict:"))

    def test_damage(self, tmp_path: Path) -> None:
        """Damaged files are not copied; where the target's are, the source's take their place."""
        source, target = tmp_path / "source", tmp_path / "target"
        sweep(source)
        sweep(target)
        damage(chunks(target)[0])
        done = merge(source, target)
        assert (1, 1, 1) == (done.copied, done.present, done.healed)
        assert 0 == sweep(target)
        damage(chunks(source)[1])
        assert ["is damaged" in why or "checksum" in why for _, why in merge(source, target).passed_over] == [
            True
        ]

    def test_another_cache_of_that_name(self, tmp_path: Path) -> None:
        """A cache id that stands for something else there is left out, and said."""
        for root, params in (("source", {"k": 1}), ("target", {"k": 2})):
            memo = ChunkMemo(tmp_path / root, {"s": 2}, {"s": [1, 2]}, verbose=0)
            memo.cache(version="1", name="f")(lambda s, k: [k * v for v in s])(k=params["k"])
        (there,), (here,) = ((tmp_path / root).iterdir() for root in ("target", "source"))
        there.rename(tmp_path / "target" / here.name)
        done = merge(tmp_path / "source", tmp_path / "target")
        assert (0, 1) == (done.copied, len(done.passed_over))

    def test_killed_in_between(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was copied stays, and the next merge goes on from there."""
        sweep(tmp_path / "source")
        (tmp_path / "target").mkdir()
        true, left = files.commit, [3]

        def commit(target: Any, *rest: Any) -> bool:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return true(target, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(files, "commit", commit)
            with pytest.raises(KeyboardInterrupt):
                merge(tmp_path / "source", tmp_path / "target")
        left_over = merge(tmp_path / "source", tmp_path / "target")
        assert 2 == left_over.copied + left_over.present > left_over.copied
        assert 0 == sweep(tmp_path / "target")

    def test_one_in_the_other(self, tmp_path: Path) -> None:
        """A root cannot be merged with itself, nor with what lies in it."""
        sweep(tmp_path)
        (tmp_path / "inner").mkdir()
        for target in (tmp_path, tmp_path / "inner"):
            with pytest.raises(RootError, match="same folder"):
                merge(tmp_path, target)
            assert 2 == invoked("merge", tmp_path, target).exit_code


class TestLooking:
    """What lies where, at a glance and in detail; nothing changes by looking."""

    def test_ls_and_info(self, tmp_path: Path) -> None:
        """The same figures as text and as JSON."""
        sweep(tmp_path)
        sweep(tmp_path, "two", x=[0], y=[1])
        before = snapshot(tmp_path)
        one, two = survey(tmp_path)
        assert ("one", {"x": 4, "y": 2}, 2, 0) == (one.cache_id, one.axes, one.chunk_files, one.part_files)
        assert (0, 1) == (two.chunk_files, two.part_files)
        assert sum(map(len, before.values())) == one.nbytes + two.nbytes
        assert [one.to_dict(), two.to_dict()] == json.loads(invoked("ls", tmp_path, "--json").output)["caches"]
        listed = invoked("ls", tmp_path).output.splitlines()
        assert ["cache", "one", "two"] == [line.split()[0] for line in listed[:3]]
        assert "x 4 × y 2" in listed[1]
        found = details(tmp_path, "two")
        assert (1, 1, 8) == (found.chunks, found.points, found.total_points)
        told = json.loads(invoked("info", tmp_path / "two", "--json").output)
        assert ("cache", 1, "two") == (told["kind"], told["points"], told["cache_id"])
        assert "1 stored of 8 in 1 chunks" in invoked("info", tmp_path / "two").output
        assert ("root", 2) == tuple(
            json.loads(invoked("info", tmp_path, "--json").output)[k] for k in ("kind", "caches")
        )
        assert before == snapshot(tmp_path)

    def test_damaged_metadata(self, tmp_path: Path) -> None:
        """It is told, with exit code 1, and the others are listed."""
        sweep(tmp_path)
        sweep(tmp_path, "two")
        damage(tmp_path / "one" / "metadata.json", 40)
        for command in ("ls", "info"):
            shown = invoked(command, tmp_path if command == "ls" else tmp_path / "one")
            assert (1, True) == (shown.exit_code, "damaged" in shown.output), shown.output
        assert "two" in invoked("ls", tmp_path).output

    def test_terminal_codes_are_shown_as_signs(self, tmp_path: Path) -> None:
        """A cache id cannot write to the terminal."""
        sweep(tmp_path, "red\x1b[31m")
        assert "\x1b" not in invoked("ls", tmp_path).output


class TestDoctor:
    """What a folder's file system can do, found out by doing it."""

    def test_here(self, tmp_path: Path) -> None:
        """Everything is tried, the way of committing is named, and nothing is left behind."""
        found = examine(tmp_path)
        names = [
            "file system",
            "owner",
            "space",
            "link",
            "rename",
            "commit",
            "fsync",
            "modes",
            "clock",
            "visibility",
        ]
        assert names == [probe.name for probe in found.probes]
        assert found.is_sound
        assert [] == list(tmp_path.iterdir())
        shown = invoked("doctor", tmp_path)
        assert (0, f"files are committed by: {found.mode}") == (shown.exit_code, shown.output.splitlines()[-1])

    def test_open_to_everybody(self, tmp_path: Path) -> None:
        """A folder in which anybody may replace files is no place for results: exit code 1, with the way out."""
        root = tmp_path / "open"
        root.mkdir()
        root.chmod(0o777)
        shown = invoked("doctor", root, "--json")
        bad = [probe for probe in json.loads(shown.output)["probes"] if probe["verdict"] == "bad"]
        assert (1, ["owner"]) == (shown.exit_code, [probe["name"] for probe in bad])
        assert "chmod o-w" in bad[0]["way_out"]

    @pytest.mark.parametrize(
        ("refused", "mode"), [(["link"], "rename"), (["link", "rename"], "exclusive create")], ids=str
    )
    def test_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: list[str], mode: str
    ) -> None:
        """Where links or renaming are refused it says how files are committed instead."""

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        files.forget_mounts()
        try:
            with monkeypatch.context() as patch:
                for name in refused:
                    patch.setattr(os, name, refuse)
                found = examine(tmp_path)
        finally:
            files.forget_mounts()
        assert mode == found.mode
        assert refused == [probe.name for probe in found.probes if "refused" in probe.what]
        assert found.is_sound


class TestKeys:
    """Whose pickles are loaded."""

    @pytest.fixture
    def people(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Be another user, as far as keys go."""

        def be(name: str) -> None:
            monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / f"config of {name}"))

        monkeypatch.delenv("CHUNK_MEMO_KEY_FILE", raising=False)
        return be

    @staticmethod
    def pickled(root: Path) -> int:
        """Store something that has no form as arrays; return how many points were computed."""
        cache = ChunkCache(root, "one", {}, {"x": 2}, {"x": XS}, verbose=0, name="f", allow_pickle=True)
        with pytest.warns(PickleWarning) if not root.exists() else pytest.MonkeyPatch.context():
            _, told = run(cache, lambda x: [re.compile(f"a{v}").finditer for v in x] and [print for _ in x])
        return told.executed_points

    def test_trust_resign_revoke(self, tmp_path: Path, people: Any) -> None:
        """A colleague's pickles load once the key is trusted, and, signed anew, after it is revoked."""
        root = tmp_path / "root"
        people("ann")
        assert 4 == self.pickled(root)
        exported = json.loads(invoked("key", "export", tmp_path / "ann.key", "--json").output)["exported"]
        assert exported == json.loads(invoked("key", "show", "--json").output)["key"]
        assert 1 == invoked("key", "export", tmp_path / "ann.key").exit_code
        people("bob")
        refused = invoked("key", "resign", root)
        assert (1, 2) == (refused.exit_code, refused.output.count("refused:"))
        assert 1 == invoked("key", "trust", tmp_path / "ann.key", "--id", "0" * 16).exit_code
        assert 0 == invoked("key", "trust", tmp_path / "ann.key", "--id", exported).exit_code
        assert [exported] == json.loads(invoked("key", "show", "--json").output)["trusted"]
        assert 0 == self.pickled(root)
        done = resign(root)
        assert (2, 2, ()) == (done.files, done.signed, done.refused)
        assert 0 == invoked("key", "revoke", exported).exit_code
        assert 1 == invoked("key", "revoke", exported).exit_code
        assert 0 == self.pickled(root)
        assert verify(root).is_intact
        assert (2, 0) == (resign(root).files, resign(root).signed)

    def test_the_key_is_never_shown(self, tmp_path: Path, people: Any) -> None:
        """Neither as text nor as JSON."""
        people("ann")
        invoked("key", "export", tmp_path / "ann.key")
        secret = (tmp_path / "ann.key").read_text().split()[-1]
        own = signing.own_key(create=False)
        assert own is not None
        for arguments in (["show"], ["show", "--json"], ["trust", tmp_path / "ann.key"]):
            shown = invoked("key", *arguments)
            assert secret not in shown.output


class TestCommands:
    """What all commands have in common."""

    COMMANDS = ("ls", "verify", "gc", "status")

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("kind", ["missing", "file", "cache"])
    def test_what_is_no_root(self, tmp_path: Path, command: str, kind: str) -> None:
        """Exit code 2, with the reason."""
        if kind == "cache":
            sweep(tmp_path / "root")
        elif kind == "file":
            (tmp_path / "root").touch()
        path = tmp_path / "root" / "one" if kind == "cache" else tmp_path / "root"
        shown = invoked(command, path)
        assert (2, "") == (shown.exit_code, shown.stdout)
        said = {"missing": "does not exist", "file": "is a file", "cache": "is a cache"}[kind]
        assert said in " ".join(shown.stderr.split())

    def test_merge_info_and_doctor_of_nothing(self, tmp_path: Path) -> None:
        """Exit code 2, too."""
        sweep(tmp_path / "root")
        nothing = tmp_path / "nothing"
        for arguments in (
            ["merge", nothing, tmp_path / "root"],
            ["merge", tmp_path / "root", nothing],
            ["info", nothing],
            ["doctor", nothing],
            ["key", "resign", nothing],
            ["key", "trust", nothing],
        ):
            assert 2 == invoked(*arguments).exit_code, arguments
        assert not nothing.exists()

    def test_a_target_that_is_missing_is_to_be_made(self, tmp_path: Path) -> None:
        """A name misspelt is no new root, so the way to make one is said."""
        sweep(tmp_path / "root")
        shown = invoked("merge", tmp_path / "root", tmp_path / "new")
        assert f"does not exist; make it first: mkdir '{tmp_path / 'new'}'" in " ".join(shown.stderr.split())

    def test_ls_of_the_folder_above_names_the_roots(self, tmp_path: Path) -> None:
        """Who lists a project sees where its caches lie."""
        sweep(tmp_path / "root")
        (tmp_path / "file").touch()
        (tmp_path / "empty").mkdir()
        assert f"0 caches, 0 B\n'{tmp_path / 'root'}' holds 1 cache\n" == invoked("ls", tmp_path).stdout

    def test_exit_codes_of_verify(self, tmp_path: Path) -> None:
        """0, 1 where something is wrong, 0 once it was repaired."""
        sweep(tmp_path)
        codes = [invoked("verify", tmp_path).exit_code]
        damage(chunks(tmp_path)[0])
        codes += [invoked("verify", tmp_path, *each).exit_code for each in ([], ["--json"], ["--repair"], [])]
        assert [0, 1, 1, 0, 0] == codes

    def test_bad_options(self, tmp_path: Path) -> None:
        """Exit code 2, and what was expected."""
        for arguments, said in (
            (["verify", tmp_path, "--subset", "3/2"], "1 <= N <= T"),
            (["verify", tmp_path, "--subset", "all"], "such as 2/7"),
            (["gc", tmp_path, "--grace", "soon"], "such as 24h"),
        ):
            shown = invoked(*arguments)
            assert (2, True) == (shown.exit_code, said in " ".join(shown.stderr.split()))

    def test_every_command_has_json_and_exit_codes(self) -> None:
        """And says so in its help."""
        for command in ("ls", "info", "verify", "gc", "merge", "doctor", "status"):
            shown = invoked(command, "--help").output
            assert "--json" in shown, command
            assert "Exit codes: 0" in shown, command
        for command in ("show", "trust", "revoke", "export", "resign"):
            shown = invoked("key", command, "--help").output
            assert "--json" in shown, command
            assert "Exit codes: 0" in shown, command

    def test_the_readme_names_every_command_and_option(self) -> None:
        """The commands of this part stand in the README as their help has them, with options that are there."""
        shown = re.findall(r"^chunk-memo (.+?)(?:  +#.*)?$", README, re.M)
        named = {line.split()[0] for line in shown}
        assert {"ls", "info", "verify", "gc", "merge", "doctor", "key", "status"} <= named
        for line in shown:
            words = line.split()
            inner = words[1].split("|") if words[0] == "key" else [""]
            for command in ([words[0], each] if each else [words[0]] for each in inner):
                helped = invoked(*command, "--help")
                assert 0 == helped.exit_code, line
                for option in re.findall(r"--[a-z-]+", line):
                    assert option in helped.output, (line, option)


def test_unread_layouts_of_other_versions(tmp_path: Path) -> None:
    """A folder may hold chunks of several namespaces: none is taken for damage."""
    for version in ("v1", "v2"):
        cache = ChunkCache(tmp_path, "one", {}, {"x": 2}, {"x": XS}, version=version, verbose=0)
        run(cache, lambda x: [float(v) for v in x])
    assert [] == kinds(tmp_path, repair=True)
    assert 4 == len(chunks(tmp_path))
    assert ChunkStore(Folder(tmp_path / "one", "v2"), "one", Naming({}), allow_pickle=False, title="").plain
