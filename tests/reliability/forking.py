"""Children that are forked from a process which has imported everything: a fault costs milliseconds, not seconds.

Only programs that run these harnesses fork, never pytest itself, which has threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent), str(HERE)]),
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    """Its exit code; -9 where it was killed."""
    said: Any
    """What its action returned; None where it did not get that far."""
    error: str = ""
    """The traceback of what it raised."""

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


@dataclass
class Child:
    """A child at work."""

    pid: int
    pipe: int

    def wait(self) -> Ended:
        """Wait for its end."""
        data = b""
        while more := os.read(self.pipe, 1 << 16):
            data += more
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        said = json.loads(data) if data else {}
        return Ended(os.waitstatus_to_exitcode(status), said.get("said"), said.get("error", ""))

    def kill(self) -> Ended:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def has_ended(self) -> bool:
        """Whether it ended by itself; it is still to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def start(action: Callable[[], Any], gate: int | None = None) -> Child:
    """Fork a child that does something and says what came of it; with a gate it waits for a byte there first."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading)
    code = 1
    try:
        os.close(reading)
        if gate is not None:
            select.select([gate], [], [])  # no read, whose number would depend on when a tracer came
        try:
            said = {"said": action()}
            code = 0
        except BaseException:
            said = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(said).encode())
    finally:
        os._exit(code)


def in_child(action: Callable[[], Any]) -> Ended:
    """Do something in a child, and wait for its end."""
    return start(action).wait()


def program(name: str, *arguments: object, timeout: float = 280, check: bool = True) -> Any:
    """Run a harness of this folder as a program of its own; return what its last line says."""
    command = [sys.executable, "-W", "error", str(HERE / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])
