"""The command line, ``chunk-memo``: a face only; what it shows and does lives in the rooms below.

A command's module is imported when the command is named, so that ``chunk-memo status`` pays for no database,
and a command whose extra is missing hinders no other.

Exit codes, of every command: 0 all went well, and nothing was found wrong; 1 something is wrong, or went wrong,
which is said; 2 the command itself was wrong, as where a root does not exist. Ctrl-C ends ``status --watch`` with
0, and any other command with 1.
"""

from __future__ import annotations

from importlib import import_module

import click

from chunk_memo.errors import ChunkMemoError

__all__ = ["main"]

_HOMES = {
    "checkpoints": "chunk_memo.cli.lab",
    "convert": "chunk_memo.cli.datasets",
    "doctor": "chunk_memo.cli.examining",
    "experiments": "chunk_memo.cli.experiments",
    "export": "chunk_memo.cli.datasets",
    "gc": "chunk_memo.cli.tending",
    "info": "chunk_memo.cli.looking",
    "key": "chunk_memo.cli.keys",
    "log": "chunk_memo.cli.lab",
    "ls": "chunk_memo.cli.looking",
    "merge": "chunk_memo.cli.tending",
    "query": "chunk_memo.cli.datasets",
    "rollup": "chunk_memo.cli.datasets",
    "status": "chunk_memo.cli.watching",
    "verify": "chunk_memo.cli.tending",
}
"""The module in which each command is a function of the command's name (``-`` being ``_``)."""

_EXTRAS = {"experiments": "lab"}
"""The extra that brings the packages without which a command's module cannot be imported."""


class _Commands(click.Group):
    """A group whose commands are imported when they are named; errors of this library are told, not traced."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        try:
            command = getattr(import_module(_HOMES[cmd_name]), cmd_name.replace("-", "_"))
        except ModuleNotFoundError as error:
            return _lacking(cmd_name, error)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read what is printed has seen enough; click ends quietly
            raise
        except (ChunkMemoError, OSError) as error:
            raise click.ClickException(str(error)) from error


def _lacking(name: str, error: ModuleNotFoundError) -> click.Command:
    """Stand in for a command whose package is not installed: listed with the others, it says what it lacks."""
    package = (error.name or "").partition(".")[0]
    if name not in _EXTRAS or package == "chunk_memo":
        raise error
    install = f"pip install 'chunk-memo[{_EXTRAS[name]}]'"
    what = f"needs the package {package!r}, which is not installed; run `{install}`"

    @click.command(
        name,
        help=f"Not available: {what}",
        short_help=f"Not available: {install}",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def lacking() -> None:
        raise click.ClickException(f"`chunk-memo {name}` {what}")

    return lacking


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chunk-memo", prog_name="chunk-memo")
def main() -> None:
    """Look after caches, stores and experiments of chunk_memo.

    Exit codes: 0 all went well, and nothing was found wrong; 1 something is wrong, or went wrong; 2 the command
    itself was wrong, as where a root does not exist.
    """
