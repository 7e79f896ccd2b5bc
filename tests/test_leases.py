"""Claims on chunks: one claimant wins, the living keep theirs, what the dead held is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from chunk_memo.disk import leases as module
from chunk_memo.disk.leases import Lease, Leases


def held(root: Path) -> list[str]:
    """Return the names in the folder of leases."""
    return sorted(os.listdir(root / "leases")) if (root / "leases").exists() else []


def test_one_claimant_wins(tmp_path: Path) -> None:
    """Of many threads that claim one chunk at once, one has it."""
    barrier, won = threading.Barrier(8), []

    def claim() -> None:
        leases = Leases(tmp_path)
        barrier.wait()
        lease = leases.claim("chunk")
        if lease is not None:
            won.append(lease)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(won)
    assert ["chunk.json"] == held(tmp_path)
    won[0].release()
    assert [] == held(tmp_path)


def test_a_chunk_is_free_after_its_lease(tmp_path: Path) -> None:
    """Leaving the context gives the claim up, also by an exception."""
    leases = Leases(tmp_path)
    assert leases.is_free("chunk")
    claimed = leases.claim("chunk")
    assert claimed is not None
    assert not leases.is_free("chunk")
    with pytest.raises(KeyError), claimed:
        raise KeyError
    assert leases.is_free("chunk")
    leases.sweep_up()
    assert not (tmp_path / "leases").exists()


def test_the_dead_lose_their_claims(tmp_path: Path) -> None:
    """What a process held that is gone from this machine is taken over at once."""
    program = (
        "import os, sys; from chunk_memo.disk.leases import Leases; "
        "Leases(sys.argv[1]).claim('chunk'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ["chunk.json"] == held(tmp_path)
    taken = Leases(tmp_path).claim("chunk")
    assert taken is not None
    assert os.getpid() == json.loads(Path(taken.path).read_bytes())["pid"]
    taken.release()


def written_by_another_machine(root: Path, age: float) -> Path:
    """Leave a lease of a process on another machine, last renewed so many seconds ago."""
    path = root / "leases" / "chunk.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"token": "x", "host": "far", "pid": 1, "machine": "another"}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


@pytest.mark.parametrize(("age", "taken"), [(0.0, False), (50.0, False), (70.0, True)])
def test_a_lease_expires(tmp_path: Path, age: float, taken: bool) -> None:
    """One of another machine counts until it was not renewed for the time to live."""
    written_by_another_machine(tmp_path, age)
    leases = Leases(tmp_path, ttl=60.0)
    assert taken is leases.is_free("chunk")
    lease = leases.claim("chunk")
    assert taken is (lease is not None)
    if lease is not None:
        lease.release()


def test_the_clock_is_that_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose own clock is an hour ahead takes nothing away from the living."""
    written_by_another_machine(tmp_path, 1.0)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert Leases(tmp_path, ttl=60.0).claim("chunk") is None


def test_a_damaged_lease_expires_by_its_time(tmp_path: Path) -> None:
    """Bytes that say nothing count as a lease until they are old."""
    path = written_by_another_machine(tmp_path, 0.0)
    path.write_bytes(b"\0garbage")
    assert Leases(tmp_path).claim("chunk") is None
    old = path.stat().st_mtime - 100
    os.utime(path, (old, old))
    lease = Leases(tmp_path).claim("chunk")
    assert lease is not None
    lease.release()


def test_a_holder_renews(tmp_path: Path) -> None:
    """The thread behind held leases goes on renewing them."""
    renewed = threading.Event()

    class Watched(Lease):
        def renew(self) -> None:
            super().renew()
            renewed.set()

    path = written_by_another_machine(tmp_path, 1000.0)
    lease = Watched(str(path), "x", 0.4)
    module._heart.add(lease)
    assert renewed.wait(20)
    assert Leases(tmp_path, ttl=60.0).claim("chunk") is None
    lease.release()
    assert [] == held(tmp_path)


def test_what_was_taken_over_is_left_alone(tmp_path: Path) -> None:
    """A holder that comes back late does not give up the claim of its successor."""
    leases = Leases(tmp_path)
    late = leases.claim("chunk")
    assert late is not None
    path = Path(late.path)
    path.write_text(json.dumps({"token": "successor", "host": "far", "pid": 1, "machine": "another"}))
    late.release()
    assert "successor" in path.read_text()


def test_a_fresh_claim_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was renewed between the look and the taking stays its holder's."""
    path = written_by_another_machine(tmp_path, 100.0)
    leases, rename = Leases(tmp_path), os.rename

    def renewed_meanwhile(source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # where it is put back by another renaming
            os.utime(path)
        rename(source, target)

    monkeypatch.setattr(os, "rename", renewed_meanwhile)
    assert leases.claim("chunk") is None
    assert "another" in path.read_text()
    assert ["chunk.json"] == held(tmp_path)
