"""The PostgreSQL of the tests is a real one, and its own: no network, no data, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from servers import Postgres

HERE = Path(__file__).parent

ABANDON = """
import os
from servers import postgres_started

with postgres_started() as server:
    print(server.socket, flush=True)
    os._exit(0)
"""


def test_databases_are_empty_and_apart(postgres: Postgres) -> None:
    """Each database is new; what is written to one is not seen in another."""
    one, other = (sa.create_engine(postgres.new_database()) for _ in range(2))
    with one.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x int)"))
    assert (["t"], []) == (sa.inspect(one).get_table_names(), sa.inspect(other).get_table_names())
    one.dispose()
    other.dispose()


def test_it_is_reached_by_its_socket_only(postgres: Postgres, postgres_url: str) -> None:
    """The server listens on no address of a network."""
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        assert "" == connection.scalar(sa.text("SHOW listen_addresses"))
        assert str(postgres.socket) == connection.scalar(sa.text("SHOW unix_socket_directories"))
    engine.dispose()


def test_it_ends_with_its_starter() -> None:
    """A process that ends without a word leaves no server running."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-c", ABANDON], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    folder = Path(done.stdout.strip())
    while (folder / "data" / "postmaster.pid").exists():
        os.sched_yield()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"host={folder} user=postgres")
    shutil.rmtree(folder)
