"""Which pickles may be loaded: those signed with this user's key, or with a key trusted by name.

Loading a pickle runs any code that its writer chose, so a pickle is loaded only where HMAC-SHA256 shows that a
holder of a known key wrote it, for this very place. What is signed is the pickle's bytes together with a
*context* (the identity of the chunk, column and array; or the purpose of a file), so that a good pickle cannot be
put elsewhere. Nothing here restricts what a pickle may do: that is no boundary.

**The signing API**, for whoever writes pickled files::

    data = signing.dump(results, "export results")  # bytes with a magic number, the signature, the pickle
    results = signing.load(data, "export results", "results.pkl")

The context is a text that says what kind of file it is; :func:`load` takes the same. It raises
:class:`UntrustedPickleError` before it looks at a single byte of the pickle.

**The key** is a file of one line, ``chunk-memo-key 1`` and 64 hex characters, which comes into being when it is
first needed. It lies in the user's configuration folder:

=================================== ===============================================================
where                               when
=================================== ===============================================================
``$CHUNK_MEMO_KEY_FILE``            set; the trusted keys lie in ``trusted/`` beside it
``$CHUNK_MEMO_CONFIG/key``          set
``$XDG_CONFIG_HOME/chunk_memo/key`` set to an absolute path
``~/.config/chunk_memo/key``        else; ``~/Library/Application Support`` on macOS, ``%APPDATA%`` on
                                    Windows in place of ``~/.config``
=================================== ===============================================================

The key itself is never taken from an environment variable or an argument, and never shown. A file that is a
symbolic link, belongs to somebody else, may be read by others, lies in a folder that others may write to, or lies
inside a cache or a root of caches is refused, since who can read the key can make pickles that run here.

**Keys that travel.** What a worker gets is derived from the key for one cache, so that the log of a worker, or
its memory, gives away no more than that cache. A worker never looks for a key of its own.

**Trust.** :func:`export_key` writes the key to a file for people who shall read one's pickles; :func:`trust`
takes such a file in, under the *key id* that errors and ``chunk-memo key show`` name; :func:`revoke` takes it out
again. HMAC is symmetric: who holds a key can sign with it, so giving one's key away means that its holders may
run code as oneself, and trusting a key that its holders may run code here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import pickle
import re
import stat
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunk_memo.disk import files
from chunk_memo.errors import KeyFileError, SpecError, UntrustedPickleError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "SIGNATURE_BYTES",
    "Key",
    "ScopedKey",
    "Signer",
    "config_folder",
    "dump",
    "export_key",
    "key_file",
    "load",
    "own_key",
    "revoke",
    "trust",
    "trusted_folder",
    "trusted_keys",
]

KEY_ID_BYTES = 8
_MAC_BYTES = 32

SIGNATURE_BYTES = KEY_ID_BYTES + _MAC_BYTES
"""Length of a signature: 8 bytes of the key's id, 32 of HMAC-SHA256."""

_MAGIC = b"\x93CM-SIG\x01"
"""The first eight bytes of a signed file; no pickle begins so."""

_LINE = re.compile(rb"chunk-memo-key 1 ([0-9a-f]{64})\s*")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_LONGEST_LINE = 200
_FOREIGN = 0o022
_READABLE = 0o077
_LOOKS = 50
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class ScopedKey:
    """A key for one cache, or one purpose; the key that it was derived from cannot be told from it.

    Examples
    --------
    >>> key = Key(bytes(32)).scoped("cache abc")
    >>> key.check([b"pickle"], key.sign([b"pickle"]))
    True
    >>> key.check([b"other"], key.sign([b"pickle"]))
    False
    """

    key_id: str
    """The id of the key that it was derived from: 16 hex characters."""
    secret: bytes = field(repr=False)
    """32 bytes."""

    def sign(self, parts: Iterable[bytes | memoryview]) -> bytes:
        """Return the signature of some bytes.

        Parameters
        ----------
        parts : iterable of bytes-like
            What is signed; where one part ends and the next begins is signed, too.

        Returns
        -------
        bytes
            :data:`SIGNATURE_BYTES` bytes.
        """
        return bytes.fromhex(self.key_id) + self._mac(parts)

    def check(self, parts: Iterable[bytes | memoryview], signature: bytes) -> bool:
        """Tell whether a signature is that of these bytes by this key.

        Parameters
        ----------
        parts : iterable of bytes-like
            What was signed.
        signature : bytes
            The signature.

        Returns
        -------
        bool
            Whether it is; the time this takes tells nothing.
        """
        return hmac.compare_digest(self._mac(parts), signature[KEY_ID_BYTES:])

    def _mac(self, parts: Iterable[bytes | memoryview]) -> bytes:
        mac = hmac.new(self.secret, b"", hashlib.sha256)
        for part in parts:
            mac.update(memoryview(part).nbytes.to_bytes(8, "little"))
            mac.update(part)
        return mac.digest()


@dataclass(frozen=True, slots=True)
class Key:
    """A user's key.

    Examples
    --------
    >>> Key(bytes(32))
    Key(key_id='08778d4d252883b1')
    """

    secret: bytes = field(repr=False)
    """32 bytes."""
    key_id: str = field(init=False)
    """16 hex characters by which people know the key; it tells nothing of the secret."""

    def __post_init__(self) -> None:
        """Derive the id."""
        digest = hmac.digest(self.secret, b"chunk_memo key id", "sha256")
        object.__setattr__(self, "key_id", digest[:KEY_ID_BYTES].hex())

    def scoped(self, scope: str) -> ScopedKey:
        """Return the key for one cache or one purpose.

        Parameters
        ----------
        scope : str
            Its name.

        Returns
        -------
        ScopedKey
            The derived key.
        """
        derived = hmac.digest(
            self.secret, b"chunk_memo scope " + scope.encode("utf-8", "surrogatepass"), "sha256"
        )
        return ScopedKey(self.key_id, derived)

    def line(self) -> bytes:
        """Return the content of the key's file.

        Returns
        -------
        bytes
            One line.
        """
        return b"chunk-memo-key 1 " + self.secret.hex().encode() + b"\n"


# --- where keys lie ------------------------------------------------------------------------------------------


def config_folder() -> Path:
    """Return the folder of this user's configuration, whether it is there or not.

    Returns
    -------
    pathlib.Path
        An absolute path; see the table at the top of this module.

    Raises
    ------
    KeyFileError
        Where this user has no home folder.
    """
    named = os.environ.get("CHUNK_MEMO_CONFIG")
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "chunk_memo"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise KeyFileError(
            errno.ENOENT,
            f"this user has no home folder for the key that signs pickles ({error}); {_ELSEWHERE}",
        ) from None
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "chunk_memo"
    if os.name == "nt":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming") / "chunk_memo"
    return home / ".config" / "chunk_memo"


def key_file() -> Path:
    """Return where this user's key lies, whether it is there or not.

    Returns
    -------
    pathlib.Path
        An absolute path.

    Raises
    ------
    KeyFileError
        Where this user has no home folder.
    """
    named = os.environ.get("CHUNK_MEMO_KEY_FILE")
    return Path(os.path.abspath(os.path.expanduser(named))) if named else config_folder() / "key"


def trusted_folder() -> Path:
    """Return the folder of the keys that this user trusts, whether it is there or not.

    Returns
    -------
    pathlib.Path
        ``trusted`` beside the key; each file in it is named by the id of its key.

    Raises
    ------
    KeyFileError
        Where this user has no home folder.
    """
    return key_file().parent / "trusted"


def own_key(*, create: bool = True, outside: str | os.PathLike[str] | None = None) -> Key | None:
    """Return this user's key, made where there is none yet.

    Processes that come at once agree on one key.

    Parameters
    ----------
    create : bool, default True
        Whether to make one.
    outside : path-like, optional
        A root of caches; a key that lies in there is refused.

    Returns
    -------
    Key or None
        The key; None where there is none and none shall be made.

    Raises
    ------
    KeyFileError
        Where it cannot be read or made, or must not be used.
    """
    path = key_file()
    _refuse_inside(path, outside)
    for _ in range(_LOOKS):
        try:
            found = _known_key(path)
        except FileNotFoundError:
            if not create:
                return None
            _make_key(path)
            continue
        if found is not None:
            return found
        time.sleep(_PAUSE)  # another process is writing it where neither link nor rename is to be had
    raise _unusable(path, "it is empty", "remove it, and a new one is made")


_ELSEWHERE = (
    "set CHUNK_MEMO_CONFIG to a private folder outside of any cache, or return arrays and plain values, which"
    " need no pickle"
)


def _make_key(path: Path) -> None:
    line = Key(os.urandom(32)).line()
    try:
        files.commit(path, [line], files.Syncer())
    except OSError as error:
        raise KeyFileError(
            error.errno or errno.EIO,
            f"the key that signs pickles cannot be made at '{path}' ({error.strerror or error}); {_ELSEWHERE}",
        ) from None


_KNOWN: dict[str, tuple[tuple[int, ...], Key]] = {}
"""Keys by the path of their file, with what the file looked like when they were read."""


def _known_key(path: Path) -> Key | None:
    """Return the key in a file, read anew when that changed."""
    text = os.fspath(path)
    try:
        status = os.stat(path, follow_symlinks=False)
        _refuse_open_folder(path)
    except (FileNotFoundError, KeyFileError):
        raise
    except OSError as error:
        raise _unusable(path, str(error.strerror or error), _ELSEWHERE) from None
    looks = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid)
    known = _KNOWN.get(text)
    if known is not None and known[0] == looks:
        return known[1]
    key = _read_key(path)
    if key is not None:
        _KNOWN[text] = (looks, key)
    return key


def _read_key(path: Path) -> Key | None:
    """Return the key in a file; None where it is being written."""
    try:
        data, status = files.read_private(path, _LONGEST_LINE)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # the answers to O_NOFOLLOW
            raise _unusable(path, "it is a symbolic link", "put the key itself there") from None
        raise _unusable(path, str(error.strerror or error), "see that it can be read") from None
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "it is no regular file", "remove it, and a new one is made")
    if not files.is_ours(status):
        raise _unusable(path, f"it belongs to user {status.st_uid}", "remove it, and one of your own is made")
    if os.name != "nt" and status.st_mode & _READABLE:
        mode = stat.S_IMODE(status.st_mode)
        raise _unusable(
            path,
            f"others may read or change it (mode {mode:04o})",
            f"if nobody did, run `chmod 600 {path}`; else remove it, and a new one is made",
        )
    if not data.strip(b"\0"):
        return None
    line = _LINE.fullmatch(data)
    if line is None:
        raise _unusable(path, "it does not hold a key", "restore it, or remove it, and a new one is made")
    return Key(bytes.fromhex(line[1].decode()))


def _refuse_open_folder(path: Path) -> None:
    folder = os.stat(path.parent)
    if os.name == "nt":
        return
    if not (files.is_ours(folder) or folder.st_uid == 0):
        raise _unusable(path, f"its folder belongs to user {folder.st_uid}", "move it to a folder of your own")
    if folder.st_mode & _FOREIGN:
        mode = stat.S_IMODE(folder.st_mode)
        raise _unusable(
            path, f"others may write to its folder (mode {mode:04o})", f"run `chmod 700 {path.parent}`"
        )


def _refuse_inside(path: Path, root: str | os.PathLike[str] | None) -> None:
    """Refuse a key that lies in a root of caches, or in any cache."""
    real = Path(os.path.realpath(path.parent))
    way_out = (
        "set CHUNK_MEMO_CONFIG to a private folder outside of it, and treat a key that lay there as known to all"
    )
    if root is not None and real.is_relative_to(os.path.realpath(root)):
        raise _unusable(path, f"it lies inside the root '{os.fspath(root)}'", way_out)
    for folder in (real, *real.parents):
        if files.is_there(folder / "metadata.json") and any(
            files.is_there(folder / name) for name in ("chunks", "points")
        ):
            raise _unusable(path, f"it lies inside the cache '{folder}'", way_out)


def _unusable(path: Path, why: str, way_out: str) -> KeyFileError:
    return KeyFileError(errno.EPERM, f"the key file '{path}' is not used, because {why}; {way_out}")


# --- trust ---------------------------------------------------------------------------------------------------


def trusted_keys() -> list[str]:
    """List the ids of the keys that this user trusts besides the own one.

    Returns
    -------
    list of str
        Key ids in alphabetical order.
    """
    return sorted(name for name in files.list_folder(trusted_folder()) if _KEY_ID.fullmatch(name))


def _trusted_key(key_id: str) -> Key | None:
    path = trusted_folder() / key_id
    try:
        key = _read_key(path)
    except FileNotFoundError:
        return None
    if key is not None and key.key_id != key_id:
        raise _unusable(path, f"it holds the key {key.key_id}", "remove it, and trust that key by `trust`")
    return key


def export_key(path: str | os.PathLike[str]) -> str:
    """Write this user's key to a file, for people who shall be able to read this user's pickles.

    Whoever gets the file can also sign in this user's name: it means that they may run code as this user.

    Parameters
    ----------
    path : path-like
        The new file, mode 0600.

    Returns
    -------
    str
        The key's id.

    Raises
    ------
    FileExistsError
        Where there is something of that name.
    KeyFileError
        Where the key cannot be read or made.
    """
    key = own_key()
    assert key is not None
    if not files.commit(path, [key.line()], files.Syncer()):
        raise FileExistsError(
            errno.EEXIST, "the key is not written over an existing file; name another", os.fspath(path)
        )
    return key.key_id


def trust(path: str | os.PathLike[str], key_id: str | None = None) -> str:
    """Trust the key in a file that its owner exported: pickles that it signed are loaded from now on.

    That means that its holders may run code as this user.

    Parameters
    ----------
    path : path-like
        The file.
    key_id : str, optional
        The id that the key must have, as its owner or an error named it.

    Returns
    -------
    str
        The key's id.

    Raises
    ------
    SpecError
        Where the file holds no key, or another one.
    KeyFileError
        Where the key cannot be kept.
    """
    data, _ = files.read_file(path, _LONGEST_LINE)
    line = _LINE.fullmatch(data)
    if line is None:
        raise SpecError(
            f"'{os.fspath(path)}' holds no key; expected the file that its owner made by `chunk-memo key export`"
        )
    key = Key(bytes.fromhex(line[1].decode()))
    if key_id is not None and key.key_id != key_id:
        raise SpecError(
            f"'{os.fspath(path)}' holds the key {key.key_id}, expected {key_id}; ask its owner which one it is"
            f" (`chunk-memo key show`)"
        )
    kept = trusted_folder() / key.key_id
    try:
        files.commit(kept, [key.line()], files.Syncer())
    except OSError as error:
        raise KeyFileError(
            error.errno or errno.EIO, f"the trusted key cannot be kept at '{kept}': {error.strerror or error}"
        ) from None
    _trusted_key(key.key_id)
    return key.key_id


def revoke(key_id: str) -> bool:
    """Trust a key no longer.

    Parameters
    ----------
    key_id : str
        The key's id.

    Returns
    -------
    bool
        Whether it was trusted.

    Raises
    ------
    SpecError
        Where that is no key id.
    """
    if not _KEY_ID.fullmatch(str(key_id)):
        raise SpecError(
            f"a key id has 16 hex characters, got {key_id!r}; `chunk-memo key show` lists those in use"
        )
    kept = trusted_folder() / key_id
    there = files.is_there(kept)
    files.remove(kept)
    return there


# --- signing and checking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Travelled:
    """What a worker has: keys for one scope, or why there is none."""

    own: ScopedKey | None
    trusted: tuple[ScopedKey, ...]
    reason: str


class Signer:
    """Signs the pickles of one cache, or of one purpose, and tells which may be loaded.

    It pickles to what a worker needs: keys for this scope, and no others.

    Parameters
    ----------
    scope : str
        What its keys are for.
    root : path-like, optional
        The root of caches in which the key must not lie.
    """

    def __init__(self, scope: str, root: str | os.PathLike[str] | None = None) -> None:
        self._scope = scope
        self._root = None if root is None else os.path.abspath(root)
        self._travelled: _Travelled | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels."""
        state = dict(self.__dict__)
        if self._travelled is None:
            state["_travelled"] = self._for_travel()
        return state

    def _for_travel(self) -> _Travelled:
        try:
            own = self._own()
        except KeyFileError as error:
            return _Travelled(None, (), str(error))
        trusted = []
        for key_id in trusted_keys():
            with contextlib.suppress(KeyFileError):
                trusted.append(self._of_id(key_id))
        return _Travelled(own, tuple(key for key in trusted if key is not None), "")

    def _own(self) -> ScopedKey:
        """Return the key that signs."""
        if self._travelled is not None:
            if self._travelled.own is None:
                raise KeyFileError(errno.EPERM, f"no key came with the task: {self._travelled.reason}")
            return self._travelled.own
        key = own_key(outside=self._root)
        assert key is not None
        return key.scoped(self._scope)

    def _of_id(self, key_id: str) -> ScopedKey | None:
        """Return a key that may be believed; None where that id is neither one's own nor trusted."""
        if self._travelled is not None:
            known = (self._travelled.own, *self._travelled.trusted)
            return next((key for key in known if key is not None and key.key_id == key_id), None)
        own = own_key(create=False, outside=self._root)
        key = own if own is not None and own.key_id == key_id else _trusted_key(key_id)
        return None if key is None else key.scoped(self._scope)

    def sign(self, parts: Iterable[bytes | memoryview]) -> bytes:
        """Return the signature of some bytes, with this user's key.

        Parameters
        ----------
        parts : iterable of bytes-like
            The context, and the pickles.

        Returns
        -------
        bytes
            :data:`SIGNATURE_BYTES` bytes.

        Raises
        ------
        KeyFileError
            Where there is no key, and none can be made.
        """
        return self._own().sign(parts)

    def check(self, parts: Sequence[bytes | memoryview], signature: bytes, subject: str) -> None:
        """Raise an error unless these bytes were signed by a key that may be believed.

        Parameters
        ----------
        parts : sequence of bytes-like
            The context, and the pickles.
        signature : bytes
            The signature that came with them.
        subject : str
            What messages call them.

        Raises
        ------
        UntrustedPickleError
            Where there is no signature, it does not hold, or nobody vouches for its key.
        """
        if len(signature) != SIGNATURE_BYTES or not any(signature):
            raise UntrustedPickleError(f"{subject} are not signed, so they are not loaded; {_RECOMPUTE}")
        key_id = signature[:KEY_ID_BYTES].hex()
        key = self._of_id(key_id)
        if key is None:
            raise UntrustedPickleError(
                f"{subject} were signed with the key {key_id}, which is neither yours nor trusted, so they are"
                f" not loaded. If you trust its holders to run code as you, get their key (`chunk-memo key export"
                f" FILE` makes a copy) and run `chunk-memo key trust FILE --id {key_id}`; else {_RECOMPUTE}"
            )
        if not key.check(parts, signature):
            raise UntrustedPickleError(
                f"{subject} carry a signature by the key {key_id} that does not hold: they were changed, or put"
                f" into another place, after they were signed, so they are not loaded; {_RECOMPUTE}"
            )


_RECOMPUTE = (
    "compute again, by refresh=True in the call of a decorated function or by removing the file. Arrays and plain"
    " values need no pickle, and register_encoding(type, encode, decode) gives other types a form"
)


# --- signed files --------------------------------------------------------------------------------------------


def _file_parts(context: str, payload: bytes | memoryview) -> list[bytes | memoryview]:
    return [_MAGIC, context.encode("utf-8", "surrogatepass"), payload]


def dump(obj: Any, context: str) -> bytes:
    """Return an object as a signed pickle, for a file.

    Parameters
    ----------
    obj : object
        What is pickled.
    context : str
        What kind of file it is; :func:`load` must be given the same.

    Returns
    -------
    bytes
        8 bytes of a magic number, 40 of the signature, the pickle.

    Raises
    ------
    KeyFileError
        Where there is no key, and none can be made.
    Exception
        What pickle raises for objects that cannot be pickled.

    Examples
    --------
    >>> import tempfile
    >>> os.environ["CHUNK_MEMO_CONFIG"] = tempfile.mkdtemp()  # a key for this example alone
    >>> load(dump({"a": 1}, "an example"), "an example")
    {'a': 1}
    >>> load(dump({"a": 1}, "an example"), "another")
    Traceback (most recent call last):
        ...
    chunk_memo.errors.UntrustedPickleError: the pickles in these bytes carry a signature ... does not hold: ...
    """
    payload = pickle.dumps(obj, protocol=5)
    return _MAGIC + Signer("file").sign(_file_parts(context, payload)) + payload


def load(data: Buffer, context: str, subject: str = "") -> Any:
    """Return the object in a signed pickle, if a key that may be believed signed it for this purpose.

    Parameters
    ----------
    data : bytes-like
        What :func:`dump` returned.
    context : str
        What kind of file it should be.
    subject : str, optional
        The file, for messages.

    Returns
    -------
    object
        The object.

    Raises
    ------
    UntrustedPickleError
        Where the data are no signed pickle, or it must not be loaded.
    """
    view = memoryview(data).cast("B")
    name = f"'{subject}'" if subject else "these bytes"
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise UntrustedPickleError(
            f"{name} hold no signed pickle, so nothing is loaded from there; write it with this library again"
        )
    start = len(_MAGIC) + SIGNATURE_BYTES
    payload = view[start:]
    Signer("file").check(
        _file_parts(context, payload), bytes(view[len(_MAGIC) : start]), f"the pickles in {name}"
    )
    return pickle.loads(payload)
