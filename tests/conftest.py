"""What every test shares: Hypothesis profiles, time for the long sizes, programs run apart, a PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from servers import Postgres

pytest.register_assert_rewrite("checking", "workers")

# A shared machine can be slow at any moment: neither an example's duration nor the time it takes
# to draw one says anything about the code, so no deadline and no check on slow generation.
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("ci"), max_examples=10_000)

_LONG_TIMEOUT = 4 * 3600
"""Seconds that a test marked ``long`` may take."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile: HYPOTHESIS_PROFILE if set, else "long" under ``-m long``, else "ci"."""
    wanted = "long" if config.option.markexpr == "long" else "ci"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", wanted))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests marked ``long`` the time they need, unless they say themselves."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_TIMEOUT))


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and the processes that they start, away from the key of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path_factory.mktemp("configuration") / "chunk_memo"))
        patch.delenv("CHUNK_MEMO_KEY_FILE", raising=False)
        yield


@pytest.fixture(autouse=True)
def mounts_as_they_are() -> Iterator[None]:
    """Let no test inherit what another's file system refused."""
    from chunk_memo.disk import files

    files.forget_mounts()
    yield
    files.forget_mounts()


@pytest.fixture(scope="session", autouse=True)
def others_read_what_is_written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let h5py and both netCDF engines of xarray open what the tests wrote: a file of each template, or of some.

    Under ``-m long`` it is every template, else 50 for each process.
    """
    from checking import Written

    written = Written()
    with pytest.MonkeyPatch.context() as patch:
        written.watch(patch)
        yield
    written.check(tmp_path_factory.mktemp("written"), None if request.config.option.markexpr == "long" else 50)


@pytest.fixture(scope="session")
def run_program() -> Callable[[Path], str]:
    """Return a function that runs a program in its own folder and returns what it prints.

    The program gets the ``chunk_memo`` of this checkout. Warnings are errors, a failure or
    anything on its standard error fails the test.
    """
    # A progress bar comes or stays away with the machine's speed, so it is off here.
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}

    def run(program: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=program.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (0, "") == (done.returncode, done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL for the tests of this process that ask for it, and stop it in the end."""
    from servers import postgres_started

    with postgres_started() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """Return where SQLAlchemy finds an empty database of a real PostgreSQL."""
    return postgres.new_database()
