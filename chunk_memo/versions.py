"""Versions of a function's code: which ones left results in a root, and whose results may count for a call.

Each cache of a decorated function says in its ``metadata.json`` which code made it. A :class:`History` reads
those files once per process and file; that happens at the first call for params that have no cache, because a
root of 10,000 caches takes a second to look through. Afterwards the cache that other code would have for the
same params is found by its id, which is computed, not searched for.

Declarations (``renamed_from=``, ``new_params=``) stay in a program long after the code has moved on, so they must
not hand old results to later code. They hold for the version that came with them: going back in time from the
current version, results count as long as each step is a declared one, and not beyond the first step that is an
ordinary edit. Of two versions that a declaration could mean, the one counts whose text is the current one but
for the names; else the newer one.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

from chunk_memo import catalog
from chunk_memo.disk import files
from chunk_memo.errors import SpecError
from chunk_memo.identity import (
    FunctionIdentity,
    Part,
    canonical_bytes,
    decode_canonical,
    differences,
    digest_of_bytes,
)

__all__ = [
    "Code",
    "CodeVersion",
    "Evolution",
    "Forgotten",
    "History",
    "Predecessor",
    "Version",
    "Versions",
    "code_of",
    "diff_of",
    "identity_of",
    "made_before",
    "narrower",
    "of_module",
    "other_params",
    "params_of",
    "predecessor",
    "what_changed",
]

_Versioned = TypeVar("_Versioned", "Version", "CodeVersion")

Code = tuple[str, ...]
"""What stands for the code in an identity: ``("code", digest)``, or ``("version", text)`` where one is given."""


def code_of(name: str, digest: str, version: str | None) -> Code:
    """Return what stands for a function's code in its identity.

    Parameters
    ----------
    name : str
        The function's name.
    digest : str
        The digest of its code.
    version : str or None
        The ``version=`` that replaces the digest.

    Returns
    -------
    tuple of str
        The digest, or the version; with a version the digest too where every function is called that.

    Examples
    --------
    >>> code_of("f", "00ff", None), code_of("f", "00ff", "2"), code_of("<lambda>", "00ff", "2")
    (('code', '00ff'), ('version', '2'), ('version', '2', '00ff'))
    """
    if version is None:
        return ("code", digest)
    return ("version", version, digest) if name.endswith("<lambda>") else ("version", version)


def identity_of(name: str, code: Code, params: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes that a decorated function's cache is known by.

    Parameters
    ----------
    name : str
        The function's name.
    code : tuple of str
        What stands for its code.
    params : mapping of str to object
        Its arguments that are not axes, and what is bound.

    Returns
    -------
    bytes
        The canonical bytes.

    Raises
    ------
    IdentityError
        Where a param has no sound identity.
    """
    return canonical_bytes(("function", name, code, dict(params)))


# --- what lies in a root -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Version:
    """One version of a function's code, as the caches that it left tell of it."""

    name: str
    """the function's name"""
    code: Code
    """what stands for the code in the caches' identities"""
    record: Mapping[str, Any]
    """what the first cache says of the function: digest, source, parts, module …"""
    recorded_at: int
    """when the first cache came to be, in nanoseconds since 1970-01-01 UTC"""
    created_at: str
    """the same, in ISO 8601"""
    caches: set[str] = field(default_factory=set)
    """ids of the caches"""
    shapes: set[frozenset[str]] = field(default_factory=set)
    """names of the params that the caches were made for"""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the code consisted of."""
        try:
            return tuple(Part(**part) for part in self.record.get("parts") or ())
        except TypeError:  # of a later version of the library
            return ()

    @property
    def module(self) -> str:
        """The module that defined it when its first results were stored."""
        return str(self.record.get("module"))

    @property
    def source(self) -> str | None:
        """The text of the code."""
        text = self.record.get("source")
        return text if isinstance(text, str) else None


class History:
    """What the caches of a root say of the code that made them; each file is read once.

    Parameters
    ----------
    root : path-like
        A folder of caches.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(os.path.abspath(root))
        self._lock = threading.RLock()
        self._seen: dict[str, tuple[str, Code] | None] = {}
        self._versions: dict[tuple[str, Code], Version] = {}

    def refresh(self) -> None:
        """Take in the caches that came since the last look, and drop those that went."""
        with self._lock:
            names = set(files.list_folder(self._root))
            for gone in self._seen.keys() - names:
                self.drop(gone)
            for name in sorted(names - self._seen.keys()):
                found = catalog.function_of(self._root, name)
                if found is not None:
                    self._seen[name] = self._take_in(name, *found)

    def drop(self, cache_id: str) -> None:
        """Forget a cache.

        Parameters
        ----------
        cache_id : str
            The cache.
        """
        with self._lock:
            key = self._seen.pop(cache_id, None)
            version = self._versions.get(key) if key else None
            if key and version is not None:
                version.caches.discard(cache_id)
                if not version.caches:
                    del self._versions[key]

    def _take_in(self, cache_id: str, record: Mapping[str, Any], created_at: str) -> tuple[str, Code] | None:
        try:
            name, digest = str(record["name"]), str(record["digest"])
            key = name, code_of(name, digest, record["version"])
            shape, at = frozenset(record["arguments"]), int(record["recorded_at"])
        except (KeyError, TypeError, ValueError):  # written by hand, or by an early version of the library
            return None
        version = self._versions.get(key)
        if version is None or at < version.recorded_at:
            known = version or Version(*key, record, at, "")
            version = Version(*key, record, at, created_at, known.caches, known.shapes)
            self._versions[key] = version
        version.caches.add(cache_id)
        version.shapes.add(shape)
        return key

    def of(self, names: Iterable[str]) -> list[Version]:
        """Return the versions of a function, oldest first.

        Parameters
        ----------
        names : iterable of str
            The function's name, and those that it had.

        Returns
        -------
        list of Version
            The versions that have caches.
        """
        wanted = set(names)
        with self._lock:
            found = [version for version in self._versions.values() if version.name in wanted]
        return sorted(found, key=lambda version: (version.recorded_at, version.code))


def what_changed(version: Version, identity: FunctionIdentity, label: str | None = None) -> str:
    """Say what tells the current code from a version of it.

    Parameters
    ----------
    version : Version
        The version.
    identity : FunctionIdentity
        The current code.
    label : str, optional
        The ``version=`` of the current code.

    Returns
    -------
    str
        Such as ``code changed: function 'scale', constant 'RATE'``.
    """
    stored = version.record.get("version")
    if label is not None or stored is not None:
        return f"version changed: {stored or 'none given'} before, {label or 'none given'} now"
    scheme = version.record.get("scheme")
    if scheme != identity.scheme:
        return f"code changed, or its rules: digests followed scheme {scheme} before, {identity.scheme} now"
    names = differences(version.parts, identity.parts)
    return f"code changed: {', '.join(names) or 'a name stands for another thing'}"


# --- declared changes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evolution:
    """How a function says that it has changed: names that it had, and params that are renamed or new.

    Examples
    --------
    >>> evolution = Evolution.of(("fall", {"drag": "k"}), {"beta": 0.0})
    >>> evolution.backward({"drag": 2, "beta": 0.0}, frozenset({"k"}))
    {'k': 2}
    >>> evolution.forward({"k": 2})
    {'drag': 2, 'beta': 0.0}
    """

    names: tuple[str, ...] = ()
    """names that the function had"""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """new name of a param to its old one"""
    added: Mapping[str, Any] = field(default_factory=dict)
    """new param to the value at which older results hold"""

    @classmethod
    def of(cls, renamed_from: Any, new_params: Mapping[str, Any] | None) -> Evolution:
        """Return what the decorator's arguments declare.

        Parameters
        ----------
        renamed_from : str, mapping, or sequence of these
            A name that the function had, or ``{new name: old name}`` of params.
        new_params : mapping, optional
            New param to the value at which older results hold.

        Returns
        -------
        Evolution
            The declaration.

        Raises
        ------
        SpecError
            Where they are something else.
        """
        given = (renamed_from,) if isinstance(renamed_from, str | Mapping) else tuple(renamed_from or ())
        names, renamed = [], dict[str, str]()
        for each in given:
            if isinstance(each, str):
                names.append(each)
            elif isinstance(each, Mapping) and all(isinstance(old, str) for old in each.values()):
                renamed |= each
            else:
                raise SpecError(
                    f"renamed_from takes a name that the function had, a dict of params {{new: old}}, or a"
                    f" sequence of these, got {each!r}"
                )
        if new_params is not None and not isinstance(new_params, Mapping):
            raise SpecError(f"new_params must map new params to values, got {new_params!r}")
        return cls(tuple(names), renamed, dict(new_params or {}))

    def without(self, names: Iterable[str]) -> Evolution:
        """Return the same, but for new params of some names.

        Parameters
        ----------
        names : iterable of str
            The names, such as those of axes.

        Returns
        -------
        Evolution
            The declaration.
        """
        added = {name: value for name, value in self.added.items() if name not in set(names)}
        return Evolution(self.names, self.renamed, added)

    def __bool__(self) -> bool:
        """Tell whether anything is declared."""
        return bool(self.names or self.renamed or self.added)

    def backward(self, params: Mapping[str, Any], shape: frozenset[str]) -> dict[str, Any] | None:
        """Return params as an older version had them.

        Parameters
        ----------
        params : mapping of str to object
            Those of a call now.
        shape : frozenset of str
            Names of the params of the older version.

        Returns
        -------
        dict or None
            The older version's params; None where the declaration does not lead to it.
        """
        older: dict[str, Any] = {}
        for name, value in params.items():
            source = name if name in shape else self.renamed.get(name)
            if source is not None and source in shape and source not in older:
                older[source] = value
            elif name not in self.added or canonical_bytes(self.added[name]) != canonical_bytes(value):
                return None
        return older if older.keys() == shape else None

    def forward(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return an older version's params under the names that they have now, and those that were added.

        Parameters
        ----------
        params : mapping of str to object
            Those of the older version.

        Returns
        -------
        dict of str to object
            The params now.
        """
        newer = {old: new for new, old in self.renamed.items()}
        now = {newer.get(name, name): value for name, value in params.items()}
        return {**now, **{name: value for name, value in self.added.items() if name not in now}}

    def text(self, source: str, name: str) -> str:
        """Return older code with the names that it would have now.

        Parameters
        ----------
        source : str
            The older code.
        name : str
            The function's name now.

        Returns
        -------
        str
            The text.
        """
        short = name.rpartition(".")[2]
        names = {old.rpartition(".")[2]: short for old in self.names}
        names |= {old: new for new, old in self.renamed.items()}
        if not names:
            return source
        return re.sub(rf"\b({'|'.join(map(re.escape, names))})\b", lambda found: names[found[0]], source)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A cache of other code that has results for the params of a call."""

    version: Version
    """the code that made it"""
    cache_id: str
    """the cache"""
    declared: bool
    """whether a declaration says that its results count"""
    pinned: Mapping[str, Any] = field(default_factory=dict)
    """the axes that it lacks, each with the value at which its results hold"""


def predecessor(
    history: History,
    name: str,
    identity: FunctionIdentity,
    code: Code,
    params: Mapping[str, Any],
    evolution: Evolution,
    exists: Callable[[str], bool],
) -> Predecessor | None:
    """Return the cache that other code has for the params of a call.

    Parameters
    ----------
    history : History
        What lies in the root.
    name : str
        The function's name.
    identity : FunctionIdentity
        The current code.
    code : tuple of str
        What stands for it.
    params : mapping of str to object
        The params of the call.
    evolution : Evolution
        What the function declares.
    exists : callable
        Tells whether there is a cache of an id.

    Returns
    -------
    Predecessor or None
        The one whose results count by declaration; else, of those for these params, the one that differs least
        from the current code, and of several the newest.
    """
    versions = history.of((name, *evolution.names))
    current = [version.recorded_at for version in versions if (version.name, version.code) == (name, code)]
    others = [version for version in reversed(versions) if (version.name, version.code) != (name, code)]
    older = [version for version in others if version.recorded_at < min(current, default=math.inf)]
    alike = [version for version in older if _is_same_text(version, name, identity, evolution)]
    others, older = ([*of_module(line, identity.module)] for line in (others, older))
    for line in (alike, older):
        for version, cache_id in _declared(line, name, params, evolution):
            if exists(cache_id):
                return Predecessor(version, cache_id, True)
    for version in sorted(others, key=lambda version: _distance(version, identity)):
        for _, before in _leading(version, params, evolution):
            cache_id = _cache_id(version, before)
            if exists(cache_id):
                return Predecessor(version, cache_id, False)
    return None


def made_before(new: Iterable[str]) -> str:
    """Say how results from before there were some params or axes count.

    Parameters
    ----------
    new : iterable of str
        What is new.

    Returns
    -------
    str
        A clause without a subject.

    Examples
    --------
    >>> made_before(["beta"])
    "was made before there was 'beta', and counts for one value of it with new_params={'beta': …}"
    """
    names = sorted(new)
    added = ", ".join(f"{each!r}: …" for each in names)
    return (
        f"was made before there was {' and '.join(map(repr, names))}, and counts for one value of it with"
        f" new_params={{{added}}}"
    )


def narrower(
    history: History,
    name: str,
    code: Code,
    module: str,
    params: Mapping[str, Any],
    evolution: Evolution,
    pinned: Mapping[str, Any],
    lacking: Callable[[str], frozenset[str] | None],
) -> Predecessor | None:
    """Return the cache from before there were some axes, if it is what the current code comes from.

    Parameters
    ----------
    history : History
        What lies in the root.
    name : str
        The function's name.
    code : tuple of str
        What stands for its code.
    module : str
        The module that defines it.
    params : mapping of str to object
        The params of the call.
    evolution : Evolution
        What the function declares besides.
    pinned : mapping of str to object
        The axes that it declares to be new, each with the value at which older results hold.
    lacking : callable
        Takes the id of a cache; returns the axes that it lacks, None where there is none or it differs otherwise.

    Returns
    -------
    Predecessor or None
        The newest older cache for these params, where it lacks axes; an axis may have been a param.
    """
    versions = history.of((name, *evolution.names))
    own = [version for version in versions if (version.name, version.code) == (name, code)]
    since = min((version.recorded_at for version in own), default=math.inf)
    older = [version for version in reversed(versions) if version not in own and version.recorded_at < since]
    as_params = {**params, **pinned}
    for version, tried in [(each, as_params) for each in own] + [
        (each, asked) for each in of_module(older, module) for asked in (params, as_params)
    ]:
        for _, before in _leading(version, tried, evolution):
            cache_id = _cache_id(version, before)
            lacks = lacking(cache_id)
            if lacks is None:
                continue
            if lacks and lacks <= pinned.keys():
                return Predecessor(version, cache_id, True, {axis: pinned[axis] for axis in sorted(lacks)})
            return None
        if version not in own and any(lacking(cache_id) == frozenset() for cache_id in version.caches):
            return None  # it had these axes already: what was before it is not what the current code comes from
    return None


def _distance(version: Version, identity: FunctionIdentity) -> float:
    """Return in how many parts a version differs from the current code."""
    if version.record.get("scheme") != identity.scheme:
        return math.inf
    return len(differences(version.parts, identity.parts))


def other_params(
    history: History,
    name: str,
    module: str,
    params: Mapping[str, Any],
    evolution: Evolution,
    axes: Iterable[str],
    exists: Callable[[str], bool],
) -> str | None:
    """Say what to declare where all results of a function were made when its params had other names.

    Parameters
    ----------
    history : History
        What lies in the root.
    name : str
        The function's name.
    module : str
        The module that defines it.
    params : mapping of str to object
        The params of the call.
    evolution : Evolution
        What the function declares.
    axes : iterable of str
        The function's axes, which may have been params.
    exists : callable
        Tells whether there is a cache of an id.

    Returns
    -------
    str or None
        Such as ``nothing is stored for these params: what is stored was made before there was 'beta', and counts
        for one value of it with new_params={'beta': …}``; None where results have these names, or there are none.
    """
    now = frozenset(params)
    versions = of_module(history.of((name, *evolution.names)), module)
    shapes = {shape for version in versions if any(map(exists, version.caches)) for shape in version.shapes}
    if not shapes or now in shapes:
        return None
    nearest = min(shapes, key=lambda shape: (len(shape ^ now), sorted(shape)))
    new, gone = sorted(now - nearest), sorted(nearest - now)
    if new and not gone:
        way = made_before(new)
    elif gone and not new and set(gone) <= set(axes):
        way = f"has {gone[0]!r} as a param, and counts for one value of it with new_params={{{gone[0]!r}: …}}"
    elif len(new) == len(gone) == 1:
        way = (
            f"has {gone[0]!r} in place of {new[0]!r}, and counts with renamed_from={{{new[0]!r}: {gone[0]!r}}},"
            f" if only the name is new"
        )
    else:
        return None
    return f"nothing is stored for these params: what is stored {way}"


def _leading(
    version: Version, params: Mapping[str, Any], evolution: Evolution
) -> list[tuple[frozenset[str], dict[str, Any]]]:
    """Return params as a version had them, for each set of names that it has caches for."""
    shapes = [(shape, evolution.backward(params, shape)) for shape in sorted(version.shapes, key=sorted)]
    return [(shape, before) for shape, before in shapes if before is not None]


def of_module(versions: Sequence[_Versioned], module: str) -> Sequence[_Versioned]:
    """Return the versions that a module defined; all where there is none, because the function was moved.

    Functions of two modules may have one name, and results of one must not be taken for those of the other.

    Parameters
    ----------
    versions : sequence
        Versions.
    module : str
        The module.

    Returns
    -------
    sequence
        Those of the module, or all.
    """
    return [version for version in versions if version.module == module] or versions


def _cache_id(version: Version, params: Mapping[str, Any]) -> str:
    return digest_of_bytes(identity_of(version.name, version.code, params)).hex()


def _declared(
    older: Sequence[Version], name: str, params: Mapping[str, Any], evolution: Evolution
) -> Iterator[tuple[Version, str]]:
    """Iterate back in time over the caches that declarations lead to, up to the first ordinary edit."""
    shape = frozenset(params)
    for version in older if evolution else ():
        if version.name == name and shape in version.shapes:
            return
        found = _leading(version, params, evolution)
        if not found:
            return
        for _, before in found:
            yield version, _cache_id(version, before)
        name, shape = version.name, found[0][0]


def _is_same_text(version: Version, name: str, identity: FunctionIdentity, evolution: Evolution) -> bool:
    """Tell whether a version is the current code but for the names that were changed."""
    if not (evolution.names or evolution.renamed) or version.source is None or identity.source is None:
        return False
    if version.name == name and version.code == ("code", identity.digest):
        return False
    rest = [(part.kind, part.digest) for part in version.parts[1:]]
    return (
        rest == [(part.kind, part.digest) for part in identity.parts[1:]]
        and evolution.text(version.source, name) == identity.source
    )


# --- what people see ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """One version of a function's code that has results."""

    digest: str
    """32 hexadecimal characters over the code, taken when its first results were stored"""
    version: str | None
    """the ``version=`` that it had"""
    name: str
    """the function's name"""
    module: str
    """the module that defined it then"""
    created_at: str
    """when its first results were stored: ISO 8601, UTC"""
    caches: tuple[str, ...]
    """ids of its caches, one for each combination of params"""
    points: int
    """number of points stored, adopted ones too"""
    bytes: int
    """bytes of its files"""
    source: str | None
    """the text of the code, where there is any"""
    diff: str
    """what was changed since, as a unified diff; empty for the current code"""
    current: bool
    """whether it is the code that runs"""

    def __repr__(self) -> str:
        """Return name, digest and the numbers; source and diff are long."""
        label = "" if self.version is None else f", version {self.version!r}"
        now = ", current" if self.current else ""
        return (
            f"CodeVersion({self.name!r}, {self.digest[:8]}{label}, {self.created_at},"
            f" {len(self.caches)} caches, {self.points} points{now})"
        )

    def __str__(self) -> str:
        """Return the same."""
        return repr(self)


class Versions(Sequence[CodeVersion]):
    """The versions of a function's code that have results, oldest first; prints as a table.

    Parameters
    ----------
    versions : iterable of CodeVersion
        The versions.
    """

    __slots__ = ("_versions",)

    def __init__(self, versions: Iterable[CodeVersion]) -> None:
        self._versions = tuple(versions)

    def __len__(self) -> int:
        """Return the number of versions."""
        return len(self._versions)

    @overload
    def __getitem__(self, index: int) -> CodeVersion: ...
    @overload
    def __getitem__(self, index: slice) -> Versions: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one version, or some."""
        return Versions(self._versions[index]) if isinstance(index, slice) else self._versions[index]

    def __eq__(self, other: object) -> bool:
        """Tell whether others are the same."""
        return isinstance(other, Versions) and self._versions == other._versions

    def __hash__(self) -> int:
        """Return a hash of the versions."""
        return hash(self._versions)

    def __repr__(self) -> str:
        """Return the table."""
        return str(self)

    def __str__(self) -> str:
        """Return a line for each version."""
        rows = [("", "code", "since", "params", "points", "bytes")]
        for number, each in enumerate(self):
            label = each.digest[:8] if each.version is None else f"version {each.version!r}"
            now = " (current)" if each.current else ""
            counts = (str(len(each.caches)), str(each.points), str(each.bytes))
            rows.append((str(number), f"{each.name} {label}{now}", each.created_at, *counts))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines) if len(self) else "no results yet"

    def chosen(self, which: CodeVersion | str | int | None, module: str = "") -> CodeVersion:
        """Return the version that is meant.

        Parameters
        ----------
        which : CodeVersion, str, int or None
            A version, its digest or ``version=`` or the start of its digest, its number, or None for the newest
            that is not current.
        module : str, optional
            With None the newest of this module is meant, where there is one.

        Returns
        -------
        CodeVersion
            The version.

        Raises
        ------
        SpecError
            Where none, or more than one, is meant.
        """
        found = self._meant(which, module)
        if len(found) == 1:
            return found[0]
        shown = [each.version or each.digest[:8] for each in found or self]
        what = "there is no other version" if which is None else f"{which!r} names {len(found)} versions"
        raise SpecError(f"{what}, expected one of {shown}; versions() lists them")

    def _meant(self, which: Any, module: str) -> Sequence[CodeVersion]:
        if which is None:
            return of_module([each for each in self if not each.current], module)[-1:]
        if isinstance(which, int):
            return [self[which]] if -len(self) <= which < len(self) else []
        if isinstance(which, CodeVersion):
            key = which.name, which.digest, which.version
            return [each for each in self if (each.name, each.digest, each.version) == key]
        if not isinstance(which, str) or not which:
            raise SpecError(f"expected a version, a digest or the start of one, or a number, got {which!r}")
        exact = [each for each in self if which in (each.version, each.digest)]
        return exact or [each for each in self if each.digest.startswith(which)]


def diff_of(old: str | None, new: str | None, label: str) -> str:
    """Return what was changed from one text of code to another.

    Parameters
    ----------
    old, new : str or None
        The texts.
    label : str
        What to call the old one.

    Returns
    -------
    str
        A unified diff; empty where they are equal, or where one is not known.
    """
    if old is None or new is None:
        return ""
    import difflib  # for the few who look at versions

    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), label, "now", lineterm="")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What :meth:`forget` deleted, or would delete."""

    caches: tuple[str, ...]
    """ids of the caches"""
    bytes: int
    """bytes of their files"""
    dry_run: bool
    """whether they are still there"""


def params_of(identity: bytes) -> dict[str, Any]:
    """Return the params in the identity of a decorated function's cache.

    Parameters
    ----------
    identity : bytes
        What :func:`identity_of` returned.

    Returns
    -------
    dict of str to object
        The params; those that cannot be rebuilt here are opaque, and have the same identity.
    """
    _, _, _, params = decode_canonical(identity)
    return dict(params)
