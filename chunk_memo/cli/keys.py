"""``chunk-memo key``: whose pickles are loaded here; the key itself is never shown."""

from __future__ import annotations

from pathlib import Path

import click

from chunk_memo import upkeep
from chunk_memo.cli import common
from chunk_memo.disk import signing

__all__ = ["key"]


@click.group(short_help="Tell, and change, whose pickles are loaded.")
def key() -> None:
    """Tell, and change, whose pickles are loaded.

    Outputs that have no form as arrays are pickled, and loading a pickle runs code. So each is signed, and loaded
    only if this user's own key signed it, or one that was trusted by its id.

    Exit codes, of every command: 0 all went well; 1 something went wrong, which is said; 2 the command was wrong.
    """


@key.command()
@common.as_json
def show(as_json: bool) -> None:
    """Show the id of this user's own key, where it lies, and which other keys are trusted.

    Exit codes: 0 all went well; 1 the key cannot be used.
    """
    own = signing.own_key(create=False)
    path, trusted = signing.key_file(), signing.trusted_keys()
    if as_json:
        own_id = None if own is None else own.key_id
        common.echo_json({"key": own_id, "file": str(path), "trusted": trusted})
        return
    there = f"{own.key_id} in '{path}'" if own is not None else f"none yet; '{path}' is made when it is needed"
    common.echo_lines([f"own key  {there}", *(f"trusted  {key_id}" for key_id in trusted)])


@key.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "key_id", metavar="KEYID", help="The id that the key must have, as its owner names it.")
@common.as_json
def trust(file: Path, key_id: str | None, as_json: bool) -> None:
    """Trust the key in FILE, which its owner exported: its holders may then run code as you.

    Exit codes: 0 it is trusted; 1 FILE holds no key, or another one; 2 there is no FILE.
    """
    trusted = signing.trust(file, key_id)
    _tell("trusted", trusted, as_json)


@key.command()
@click.argument("keyid")
@common.as_json
def revoke(keyid: str, as_json: bool) -> None:
    """Trust the key KEYID no longer; `key resign` first where its results are still wanted.

    Exit codes: 0 it is trusted no more; 1 it was not trusted, or is no key id.
    """
    if not signing.revoke(keyid):
        raise click.ClickException(f"the key {keyid} was not trusted; `chunk-memo key show` lists those that are")
    _tell("revoked", keyid, as_json)


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@common.as_json
def export(file: Path, as_json: bool) -> None:
    """Write this user's own key to FILE, for people who shall be able to load your pickles.

    Whoever gets it can also sign in your name, and so run code as you. Send it as you would send a password.

    Exit codes: 0 it is written; 1 it is not, as where FILE is there already.
    """
    _tell("exported", signing.export_key(file), as_json)


@key.command()
@click.argument("root", type=common.ROOT)
@common.as_json
def resign(root: Path, as_json: bool) -> None:
    """Sign with your own key the pickles in ROOT that another trusted key signed.

    So they can still be loaded when that key is revoked. What no trusted key signed is left as it is.

    Exit codes: 0 all went well; 1 some pickles were signed by no trusted key; 2 ROOT is no folder of caches.
    """
    found = upkeep.resign(root)
    if as_json:
        common.echo_json(found.to_dict())
    else:
        refused = (f"refused: {path}: {why}" for path, why in found.refused)
        summary = f"{found.signed} of {found.files} chunk files signed anew, {len(found.refused)} refused"
        common.echo_lines([*refused, summary])
    if found.refused:
        raise SystemExit(1)


def _tell(what: str, key_id: str, as_json: bool) -> None:
    if as_json:
        common.echo_json({what: key_id})
    else:
        common.echo_lines([f"{what} {key_id}"])
