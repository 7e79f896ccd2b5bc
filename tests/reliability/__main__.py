"""``python -m tests.reliability``: the harnesses at their short sizes; with ``--long`` at their full ones.

It runs pytest on this folder, prints the figures of each harness as it ends, and a table of all of them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run the harnesses; return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--long", action="store_true", help="full sizes, which take about an hour")
    parser.add_argument("-k", metavar="EXPRESSION", default="", help="only tests that match, as in pytest")
    parser.add_argument("-n", metavar="PROCESSES", default="2", help="how many at once")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-rA", "-q", "-p", "no:cacheprovider", "-n", options.n, str(HERE)]
    command += ["-m", "long" if options.long else "not long", *(["-k", options.k] if options.k else [])]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line.rstrip("\n"))
            print(lines[-1], flush=True)
    table(lines, time.monotonic() - started)
    return run.returncode


def table(lines: list[str], seconds: float) -> None:
    """Print one line for each test: how it ended, and the figures that it printed."""
    print(f"\n{'=' * 20} reliability, {seconds:.0f} s {'=' * 20}")
    name = ""
    figures: dict[str, str] = {}
    for line in lines:
        heading = re.fullmatch(r"_+ (\S.*?) _+", line)
        if heading:
            name = heading[1]
        elif name and "{" in line and not line.startswith(("E ", ">")):
            figures.setdefault(name, line)
    for line in lines:
        ended = re.match(r"(PASSED|FAILED|SKIPPED|ERROR)\b (.*)", line)
        if ended:
            name = ended[2].partition("::")[2].partition(" - ")[0] or ended[2]
            print(f"{ended[1]:<8}{name:<50} {figures.get(name, '')}")


if __name__ == "__main__":
    sys.exit(main())
