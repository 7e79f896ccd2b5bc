"""Owns the digests of things that refer to each other, in circles too.

A thing's bytes hold the digests of what it refers to. Around a circle that has no beginning, so the
things of a circle are told apart in rounds, each of which looks one reference further, until no round
tells more of them apart; then each is known by its last round, and by that of all others in the circle.
So a digest depends on what can be reached from a thing, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import xxhash

from chunk_memo.identity.grammar import leaf, record, simple

__all__ = ["Node", "Resolve", "digests_from"]

Resolve = Callable[["Node"], bytes]
"""Returns the bytes by which one thing refers to another."""


@dataclass(slots=True, eq=False)
class Node:
    """A thing that refers to others."""

    kind: str
    """what it is, in a word for people"""
    name: str
    """its qualified name"""
    encode: Callable[[Resolve], bytes] = field(repr=False, default=lambda resolve: b"")
    """returns what it is made of"""
    targets: Callable[[], Iterable[Node]] = field(repr=False, default=lambda: ())
    """returns what it refers to, in an order of its own"""
    inline: bool = False
    """whether it is referred to by its bytes, in place of a digest; never part of a circle by itself"""
    encode_bound: Callable[[Resolve, bytes], bytes] = field(repr=False, default=lambda resolve, bound: b"")
    """the same, with what wrappers add to it"""
    outline: Callable[[Resolve], bytes] | None = field(repr=False, default=None)
    """returns what it is made of, without its details; as `encode` if there is none"""
    details: list[tuple[str, str, Node, Hashable]] = field(default_factory=list)
    """kind, name, value and place of what it holds: defaults, variables of its closure"""
    mark: bytes = b""
    """a digest of its code alone, to tell things of the same name apart"""
    basis: str = "value"
    """what the bytes rest on"""
    place: str = ""
    """where it stands, for people"""
    source: str | None = None
    """its text, if it has one"""
    notes: list[str] = field(default_factory=list)
    """what the bytes do not cover"""


def digests_from(root: Node) -> tuple[dict[Node, bytes], Resolve]:
    """Return the digest of everything that is reached from a thing.

    Parameters
    ----------
    root : Node
        Where to begin.

    Returns
    -------
    dict
        Node to 16 bytes, without those that are referred to by their bytes.
    callable
        The `Resolve` that the digests were made with.

    Examples
    --------
    >>> even, odd = Node("function", "even"), Node("function", "odd")
    >>> even.encode, even.targets = lambda resolve: b"even" + resolve(odd), lambda: [odd]
    >>> odd.encode, odd.targets = lambda resolve: b"odd" + resolve(even), lambda: [even]
    >>> one, two = digests_from(even)[0], digests_from(odd)[0]
    >>> one[even] == two[even] != one[odd]
    True
    """
    known: dict[Node, bytes] = {}

    def resolve(node: Node) -> bytes:
        if node.inline:
            return node.encode(resolve)
        return simple(node.kind, node.name, known[node])

    circles, selfish = _circles(root)
    for circle in circles:
        if len(circle) == 1 and circle[0] not in selfish:
            known[circle[0]] = xxhash.xxh3_128_digest(circle[0].encode(resolve))
        else:
            _digest_circle(circle, known, resolve)
    return known, resolve


def _digest_circle(circle: list[Node], known: dict[Node, bytes], resolve: Resolve) -> None:
    known.update(dict.fromkeys(circle, b""))
    apart = 0
    while True:
        coming = {node: xxhash.xxh3_128_digest(node.encode(resolve)) for node in circle}
        known.update(coming)
        if len({*coming.values()}) == apart:
            break
        apart = len({*coming.values()})
    everyone = [leaf(each) for each in sorted({*coming.values()})]
    for node, last in coming.items():
        known[node] = xxhash.xxh3_128_digest(record("circle", [leaf(last), *everyone]))


def _referred(node: Node) -> Iterator[Node]:
    """Yield what a thing refers to by digest, also through what is referred to by its bytes."""
    for target in node.targets():
        if target.inline:
            yield from _referred(target)
        else:
            yield target


def _circles(root: Node) -> tuple[list[list[Node]], set[Node]]:
    """Return the strongly connected components, each after those that it refers to (Tarjan, 1972).

    Also those things that refer to themselves.
    """
    selfish: set[Node] = set()
    order: dict[Node, int] = {root: 0}
    lowest = {root: 0}
    path, on_path = [root], {root}
    stack = [(root, iter([*_referred(root)]))]
    found: list[list[Node]] = []
    while stack:
        node, rest = stack[-1]
        target = next(rest, None)
        if target is None:
            stack.pop()
            if stack:
                above = stack[-1][0]
                lowest[above] = min(lowest[above], lowest[node])
            if lowest[node] == order[node]:
                at = path.index(node)
                found.append(path[at:])
                on_path.difference_update(path[at:])
                del path[at:]
        elif target not in order:
            order[target] = lowest[target] = len(order)
            path.append(target)
            on_path.add(target)
            stack.append((target, iter([*_referred(target)])))
        elif target in on_path:
            lowest[node] = min(lowest[node], order[target])
            if target is node:
                selfish.add(node)
    return found, selfish
