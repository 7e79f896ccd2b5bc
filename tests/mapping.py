"""Functions for the tests of maps, importable in every worker, and what the tests of several maps need."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

FOREVER = 600.0
"""Seconds that no test takes: what sleeps for so long is ended."""


def square(task: int) -> int:
    """Return the square."""
    return task * task


def killed_at_seven(task: int) -> int:
    """Return the square; kill the worker at 7."""
    if task == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def exits_at_seven(task: int) -> int:
    """Return the square; leave the interpreter at once at 7."""
    if task == 7:
        os._exit(3)
    return task * task


def sleeps_at_seven(task: int) -> int:
    """Return the square; never at 7."""
    if task == 7:
        time.sleep(FOREVER)
    return task * task


def raises_at_seven(task: int) -> int:
    """Return the square; raise at 7."""
    if task == 7:
        raise ValueError("seven")
    return task * task


class Again:
    """Tasks that are given once more, as if they were lost, after the iterator had ended."""

    def __init__(self, tasks: list[Any]) -> None:
        self.tasks = tasks
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next task, if there is one now."""
        if not self.tasks:
            raise StopIteration
        self.taken += 1
        return self.tasks.pop(0)


class Loaded:
    """Squares, and writes a line to a file each time that it is unpickled; heavy, if wanted."""

    def __init__(self, log: str, weight: bytes = b"") -> None:
        self.log = log
        self.weight = weight

    def __call__(self, task: int) -> int:
        """Return the square."""
        return task * task

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled, and say so."""
        self.__dict__.update(state)
        with open(self.log, "a") as file:
            file.write("loaded\n")


class Unknown:
    """A function that needs a module which the workers do not have."""

    def __call__(self, task: int) -> int:
        """Return the square."""
        return task * task

    def __reduce__(self) -> Any:
        """Import the module where this is unpickled."""
        return importlib.import_module, ("a_module_that_is_not_there",)


def writes_into_its_task(task: Any) -> Any:
    """Add 1 to an array in place, which a view of shared memory does not allow."""
    task += 1
    return task


def killed_at_two_and_three(task: int) -> int:
    """Return the square; kill the worker at 2 and 3."""
    if task in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


let_go = threading.Event()
"""What a task in this process waits for."""


def waits_to_be_let_go(task: int) -> int:
    """Return the square, when it is let go."""
    let_go.wait(FOREVER)
    return task * task
