"""A terminal for programs under test: what they write is read, and shown as a screen would show it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType

from workers import ENVIRONMENT

PATIENCE = 120.0
"""Seconds after which a program is taken to be stuck."""


class Screen:
    """The lines that a terminal of some width shows; it knows line ends, returns to the left, and ``ESC[2J``."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """Show a text."""
        for part in text.replace("\x1b[2J\x1b[1;1H", "\f"):
            if part == "\f":
                self.lines, self._row, self._column = [""], 0, 0
            elif part == "\r":
                self._column = 0
            elif part == "\n":
                self._down()
            else:
                if self._column == self.columns:
                    self._down()
                    self._column = 0
                line = self.lines[self._row].ljust(self._column)
                self.lines[self._row] = line[: self._column] + part + line[self._column + 1 :]
                self._column += 1

    def _down(self) -> None:
        self._row += 1
        self.lines += [""] * (self._row + 1 - len(self.lines))

    def shown(self) -> list[str]:
        """Return the lines, without space at their ends."""
        return [line.rstrip() for line in self.lines]


class Program:
    """Python code in a process of its own, in a terminal; from the pipe ``GO`` it reads when it may go on."""

    def __init__(self, code: str, columns: int, *arguments: str) -> None:
        self._terminal, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        go, self._leave = os.pipe()
        environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
        starter = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); GO = {go}\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", starter + code, *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
            start_new_session=True,
            pass_fds=[go],
        )
        os.close(inside)
        os.close(go)
        self._bytes = b""
        self.written = ""
        """All that came so far."""
        self.columns = columns

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)
        os.close(self._leave)

    def go(self) -> None:
        """Let the program go on."""
        os.write(self._leave, b"x")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._terminal, b"\x03")

    def until(self, condition: Callable[[], bool]) -> None:
        """Read what the program writes until something holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.written[-2000:]
            assert self._process.poll() is None or condition(), self.written[-2000:]
            self._read(0.05)

    def until_written(self, text: str) -> None:
        """Read what the program writes until it wrote a text."""
        self.until(lambda: text in self.written)

    def ended(self) -> int:
        """Read to the end; return the exit code."""
        while self._read(PATIENCE):
            pass
        return self._process.wait(PATIENCE)

    def _read(self, patience: float) -> bool:
        if not select.select([self._terminal], [], [], patience)[0]:
            return False
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self._bytes += data
        self.written = self._bytes.decode(errors="ignore")
        return bool(data)

    def screen(self) -> list[str]:
        """Return what the terminal shows now."""
        screen = Screen(self.columns)
        screen.write(self.written)
        return screen.shown()
