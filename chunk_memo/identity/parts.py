"""Owns what people are told of an identity: its parts, how two of them differ, and what it does not cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chunk_memo.identity.project import OutOfReach

__all__ = ["Explanation", "Part", "differences"]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that an identity rests on.

    Examples
    --------
    >>> Part("constant", "RATE", "99aa06d3014798d86001c324468d497f", "value", "")
    Part(constant 'RATE', by value)
    """

    kind: str
    """``"function"``, ``"class"``, ``"constant"``, ``"attribute"``, ``"defaults"``, ``"module"``, …"""
    name: str
    """the qualified name, without the module"""
    digest: str
    """32 hexadecimal characters over the thing itself, without what it reaches in turn"""
    basis: str
    """``"source"``, ``"code object"``, ``"value"``, ``"contents"``, ``"content"`` or ``"name"``"""
    place: str
    """where it stood when the identity was taken, for people"""

    def __repr__(self) -> str:
        """Return kind, name and basis."""
        return f"Part({self.kind} {self.name!r}, by {self.basis})"

    def __str__(self) -> str:
        """Return kind and name."""
        return f"{self.kind} '{self.name}'"


def differences(old: Iterable[Part], new: Iterable[Part]) -> tuple[str, ...]:
    """Return what changed from one identity to another, by kind and name.

    Parameters
    ----------
    old, new : iterable of Part
        The parts of both.

    Returns
    -------
    tuple of str
        Such as ``("function 'scale'", "constant 'RATE'")``, in the order of the new parts, then of the
        old ones that are gone. Empty where no part changed: then another thing of the same name is read.

    Examples
    --------
    >>> one = [Part("function", "f", "0", "source", ""), Part("constant", "RATE", "1", "value", "")]
    >>> two = [Part("function", "f", "0", "source", ""), Part("constant", "RATE", "2", "value", "")]
    >>> differences(one, two)
    ("constant 'RATE'",)
    """
    before, after = [*old], [*new]
    count = Counter((each.kind, each.name, each.digest) for each in before)
    left = Counter((each.kind, each.name, each.digest) for each in after)
    changed = [*_beyond(after, left - count), *_beyond(before, count - left)]
    return tuple(dict.fromkeys(map(str, changed)))


def _beyond(parts: list[Part], more: Counter[tuple[str, str, str]]) -> Iterator[Part]:
    return (each for each in parts if more[each.kind, each.name, each.digest] > 0)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is noticed of a function when it changes, and what is not; prints well."""

    name: str
    """the function's qualified name"""
    parts: tuple[Part, ...]
    """what counts"""
    out_of_reach: tuple[OutOfReach, ...]
    """what counts by its name only"""
    state: tuple[str, ...]
    """names that the code itself rebinds, and containers that it changes"""
    notes: tuple[str, ...]
    """what counts by less than one would think"""

    def __repr__(self) -> str:
        """Return the text, as notebooks and the prompt show it."""
        return str(self)

    def __str__(self) -> str:
        """Return what is noticed and what is not, in lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"The results of '{self.name}' are computed anew when one of these changes:"
        for each in self.parts:
            place = f" ({each.place})" if each.place else ""
            yield f"  {each}, by its {_BASES.get(each.basis, each.basis)}{place}"
        yield "Comments, docstrings, formatting, annotations of signatures and the place in a file do not count."
        if self.out_of_reach:
            yield "Not noticed, but for the name (versions are recorded, and a new one is told once):"
            yield from (f"  {each.name}{_version(each)}" for each in self.out_of_reach)
        if self.state:
            yield f"State, which the code itself changes, and which does not count: {', '.join(self.state)}"
        if self.notes:
            yield "To be known:"
            yield from (f"  {note}" for note in self.notes)
        yield "Never noticed: files, databases and services that it reads, the clock and random numbers."
        yield "Whatever else the results depend on can be named with depends_on=[function, module, Path]."


_BASES = {"source": "code", "code object": "compiled code", "contents": "methods and attributes"}


def _version(each: OutOfReach) -> str:
    return f", {each.package} {each.version}".rstrip() if each.package else ""
