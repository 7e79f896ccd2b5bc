"""What is stored of which cells, by the names of files alone, and so the plan of a request.

Cells are never made for that: a request of a million chunks is a few arrays over its cells, the names of the
chunks are digests that are looked for in one listing of the folder (or each by itself where that is cheaper), and
no name is computed where nothing is stored. What made a plan slow was objects and four ``stat`` calls per
chunk, 97 µs in all, where a digest and a look into a set take 0.3. Cells of several candidates, chunks stored in
part, and names of a user's own are counted one by one, as they must be: by manifests.

Of a cache with several layers each is surveyed that way, and a point counts where reading would take it from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.chunks import ChunkRef, ChunkStore, Part
from chunk_memo.disk import files
from chunk_memo.grid import IntArray
from chunk_memo.layers import Layer, Request, View, walk
from chunk_memo.ledger import Known
from chunk_memo.naming import chunk_digests, which_of
from chunk_memo.plan import FAILED, MISSING, PARTIAL, STORED, Costs, Plan, PlanGroup
from chunk_memo.scattered import Nearby
from chunk_memo.selection import AxisCells, Cell, Cells

__all__ = ["count_stored", "make_plan", "which_stored"]

_Flags = npt.NDArray[np.bool_]

_FEW_TIMES = 8
"""To list so many names costs as much as to look for one."""

_NOT_YET, _NOTHING, _IN_PART, _LOST, _SUPERSEDED, _NEW = 0, 1, 2, 3, 4, 5
"""Why points miss; from the last on, that a value is new on the first axis, on the second …"""

_REASONS = (
    "not computed yet",
    "nothing is stored for these params",
    "the chunk is stored in part",
    "a damaged file was set aside",
    "superseded by invalidate() or refresh",
)


def make_plan(
    cells: Cells,
    fresh: Mapping[str, Sequence[int]],
    layers: Sequence[Layer],
    costs: Callable[[], tuple[Costs | None, Costs | None]],
    why: str | None = None,
    known: Callable[[], Known] = dict,
    nearby: Callable[[], Sequence[Nearby]] = tuple,
) -> Plan:
    """Return what a run would read and run, and why.

    Parameters
    ----------
    cells : Cells
        The request, all of whose values have bins.
    fresh : mapping of str to sequence of int
        Axis name to positions in the request of values that had no bin before this plan.
    layers : sequence of Layer
        Where points may be stored, newest first; `cells` are those of the first.
    costs : callable
        Returns seconds and bytes of what is stored; called where some points are stored and some miss.
    why : str, optional
        Why nothing at all is stored, where that is known.
    known : callable, optional
        Returns what is recorded of points that failed; called where points miss.
    nearby : callable, optional
        Returns the points that form no grid.

    Returns
    -------
    Plan
        The plan.
    """
    named = zip(cells.selection.order, cells.axes, strict=True)
    new = [axis.touched(fresh[name]) if name in fresh else np.zeros(len(axis), bool) for name, axis in named]
    stores = [layer.store for layer in layers]
    nothing = all(store.plain_places and not files.is_there(store.folder.chunks) for store in stores)
    survey = _Survey.of(cells)
    if not nothing and len(layers) == 1:
        survey.look(cells, stores[0])
    scattered = nearby() if nothing or len(layers) > 1 or bool((survey.stored < survey.points).any()) else ()
    nothing = nothing and not scattered
    if len(layers) == 1:
        for points_of in scattered:
            survey.look_nearby(cells, points_of)
    elif not nothing:
        survey.look_through(cells, layers, scattered)
    missing = survey.points - survey.stored
    states = np.where(survey.stored > 0, np.uint8(PARTIAL), np.uint8(MISSING))
    failed = _failed_before(cells, known() if missing.any() else {}, survey, missing)
    states[failed == missing] = FAILED
    states[missing == 0] = STORED
    codes = np.full(len(states), _NOTHING, np.uint8) if nothing else _codes(cells, new, survey)
    before = PlanGroup("failed before", int((failed > 0).sum()), int(failed.sum()))
    groups = tuple(_groups(cells, codes, missing - failed, new, why or _REASONS[_NOTHING]))
    groups = (*groups, before) if before.points else groups
    seconds, size = costs() if groups and not nothing else (None, None)
    if cells.ranking is not None:
        states, missing = states[cells.ranking], missing[cells.ranking]
    return Plan(cells.selection, cells, states, missing, groups, seconds, size)


# --- what is stored ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Survey:
    """What is known of each cell, in grid order."""

    points: IntArray
    """Number of distinct points."""
    stored: IntArray
    """How many of them are stored."""
    lost: _Flags
    """Whether a file of the cell's chunk was set aside."""
    superseded: _Flags
    """Whether points are stored that do not count any more."""
    held: dict[int, _Flags]
    """Which points are stored of cells that were looked at one by one, and not found whole."""

    @classmethod
    def of(cls, cells: Cells) -> _Survey:
        """Return the survey of cells of which nothing is stored."""
        points = np.ones(1, np.intp)
        for axis in cells.axes:
            points = np.multiply.outer(points, axis.lengths).reshape(-1)
        none = np.zeros(len(points), bool)
        return cls(points, np.zeros(len(points), np.intp), none, none.copy(), {})

    def look_through(self, cells: Cells, layers: Sequence[Layer], scattered: Sequence[Nearby]) -> None:
        """Count what is stored of each in any layer."""
        request = Request(cells.selection)
        home = View(layers[0], request, cells, [None] * len(cells.axes), {})
        wanted = np.ones(request.shape, bool)
        superseded = np.zeros(request.shape, bool)

        def look(view: View, own: _Flags, hidden: _Flags | None) -> _Flags:
            held, lost = _survey_of(view, own)
            if view.layer.own and lost.any():
                lost_points = np.zeros(request.shape, bool)
                view.put(lost_points, view.over_points(lost))
                self.lost |= home.per_cell(np.logical_or, home.of_points(lost_points))
            if hidden is None:
                return held
            view.put(superseded, view.of_points(superseded) | (own & held & hidden))
            return held & ~hidden

        walk(layers, request, wanted, look)
        for points_of in scattered:
            points_of.fill(home, wanted, None)
        self.stored += self.points - home.per_cell(np.add, home.of_points(wanted).astype(np.intp))
        self.superseded |= home.per_cell(np.logical_or, home.of_points(wanted & superseded))

    def look(self, cells: Cells, store: ChunkStore, wanted: _Flags | None = None) -> None:
        """Count what is stored of each, of new values too: files may have come without their layout."""
        quarantined = files.list_folder(store.folder.path / "quarantine")
        damaged = {name.partition(".")[0] for name in quarantined}
        left = np.ones(len(self.points), bool)
        if store.plain and not cells.bins.boxes:
            left = self._look_for_names(cells, store, damaged)
        if wanted is not None:
            left &= wanted
        for index in np.flatnonzero(left).tolist():
            cell = cells.in_grid_order(index)
            refs = _candidates(cell, cells, store)
            held = _held_of(cell, refs, store)
            self.stored[index] = cell.points if held is None else int(held.sum())
            if held is not None:
                self.held[index] = held
            self.lost[index] = any(ref.name in damaged for _, ref in refs)

    def look_nearby(self, cells: Cells, points_of: Nearby) -> None:
        """Count points that form no grid, where chunks do not hold them."""
        request = Request(cells.selection)
        flats, numbers = points_of.within(request)
        if not len(flats):
            return
        home = View(points_of.layer, request, cells, [None] * len(cells.axes), {})
        where = home.where(numbers)
        indices = np.ravel_multi_index([along for along, _ in where], home.counts)
        for index in np.unique(indices).tolist():
            if self.stored[index] == self.points[index]:
                continue
            chosen = np.flatnonzero(indices == index)
            shape = cells.in_grid_order(index).shape
            ranks = np.ravel_multi_index([along[chosen] for _, along in where], shape)
            held = self.held.setdefault(index, np.zeros(int(self.points[index]), bool))
            lacking = ~held[ranks]
            held[ranks[lacking]] |= points_of.held(flats[chosen[lacking]])
            self.stored[index] = int(held.sum())

    def _look_for_names(self, cells: Cells, store: ChunkStore, damaged: set[str]) -> _Flags:
        """Count cells of one chunk each by its name; return which cells are left."""
        numbers = [axis.numbers for axis in cells.axes]
        single = [chosen >= 0 for chosen in numbers]
        numbers = [chosen[alone] for chosen, alone in zip(numbers, single, strict=True)]
        where = _product(single)
        left = ~where
        if not where.any():
            return left
        order, bins = cells.selection.order, cells.bins

        def digests() -> npt.NDArray[np.uint8]:
            return chunk_digests(store.prefix, order, numbers, bins)

        complete, parts = _stored(store, math.prod(map(len, numbers)), digests)
        sets = [complete, parts, _as_digests(damaged)]
        if not any(sets):
            return left
        whole, in_part, lost = (f.reshape(-1) for f in which_of(sets, store.prefix, order, numbers, bins))
        self.stored[where] = np.where(whole, self.points[where], 0)
        self.lost[where] = lost
        left[where] = in_part & ~whole
        return left


def _survey_of(view: View, own: _Flags) -> tuple[_Flags, _Flags]:
    """Tell which points are stored in a layer, and which cells lost a file, of those that hold wanted points."""
    survey = _Survey.of(view.cells)
    survey.look(view.cells, view.layer.store, view.per_cell(np.logical_or, own))
    held = view.over_points(survey.stored == survey.points)
    for index, points in survey.held.items():
        view.mark(held, index, np.flatnonzero(points))
    return held, survey.lost


def _product(flags: Sequence[_Flags]) -> _Flags:
    """Return for each cell, in grid order, whether the flags of all its axes are set."""
    found = np.ones(1, bool)
    for axis in flags:
        found = np.logical_and.outer(found, axis).reshape(-1)
    return found


def _stored(
    store: ChunkStore, wanted: int, digests: Callable[[], npt.NDArray[np.uint8]]
) -> tuple[set[bytes], set[bytes]]:
    """Return which chunks are complete and which have parts: by a listing, or by looking for each wanted one."""
    listed = store.folder.stored(_FEW_TIMES * wanted + 64)
    if listed is None:
        text = digests().tobytes().hex()
        listed = store.folder.stored_of(text[at : at + 32] for at in range(0, len(text), 32))
    return _as_digests(listed[0]), _as_digests(listed[1])


def _as_digests(names: set[str]) -> set[bytes]:
    """Return the digests that names spell; at once, unless another program or a user made one."""
    try:
        data = bytes.fromhex("".join(names)) if set(map(len, names)) == {32} else b""
    except ValueError:
        data = b""
    if len(data) == 16 * len(names):
        return set(np.frombuffer(data, "V16").tolist())
    return {digest for name in names if (digest := _digest(name))}


def _digest(name: str) -> bytes:
    """Return the digest that a name spells; nothing for the name of another program or of a user."""
    try:
        return bytes.fromhex(name) if len(name) == 32 else b""
    except ValueError:
        return b""


# --- cells that are counted one by one ---------------------------------------------------------------------


def count_stored(cell: Cell, cells: Cells, store: ChunkStore) -> int:
    """Return how many points of a cell are stored, by the names and manifests of files alone.

    Parameters
    ----------
    cell : Cell
        The cell.
    cells : Cells
        The request that it belongs to.
    store : ChunkStore
        The cache's chunks.

    Returns
    -------
    int
        Number of points.
    """
    held = _held_of(cell, _candidates(cell, cells, store), store)
    return cell.points if held is None else int(held.sum())


def _candidates(cell: Cell, cells: Cells, store: ChunkStore) -> list[tuple[tuple[int, ...], ChunkRef]]:
    """Return the chunks that may hold a cell, best first, each with its choice among the bins."""
    order, bins = cells.selection.order, cells.bins
    refs = []
    for choice in cell.candidates(bins, order):
        numbers = tuple(axis.bins[i] for axis, i in zip(cell.axes, choice, strict=True))
        refs.append((choice, store.ref(order, numbers, bins)))
    return refs


def _held_of(cell: Cell, refs: Sequence[tuple[tuple[int, ...], ChunkRef]], store: ChunkStore) -> _Flags | None:
    """Tell which points of a cell are stored; None where all are."""
    if any(files.is_there(path) for _, ref in refs for path in store.paths(ref)):
        return None
    covered = np.zeros(cell.points, bool)
    for choice, ref in refs:
        parts = _parts(store, ref)
        if parts:
            wanted = _points(cell, choice, ref)
            for part in parts:
                covered |= _held(part, wanted)
    return covered


def _parts(store: ChunkStore, ref: ChunkRef) -> list[Part]:
    if not any(files.list_folder(folder) for folder in store.parts_folders(ref)):
        return []
    try:
        return store.parts(ref, outputs=False)
    except FileNotFoundError:
        return []


def _points(cell: Cell, choice: tuple[int, ...], ref: ChunkRef) -> IntArray:
    """Return the row-major positions of a cell's points in a chunk."""
    if not cell.axes:
        return np.zeros(1, np.intp)
    positions = [axis.positions[i] for axis, i in zip(cell.axes, choice, strict=True)]
    return np.ravel_multi_index(np.ix_(*positions), ref.sizes).reshape(-1)


def _held(part: Part, wanted: IntArray) -> _Flags:
    """Tell which of some points of a chunk a part holds; one opaque output serves exactly its own."""
    if part.block.kind == "opaque" and not np.array_equal(part.points, wanted):
        return np.zeros(len(wanted), bool)
    return np.isin(wanted, part.points)


def which_stored(cell: Cell, cells: Cells, store: ChunkStore) -> npt.NDArray[np.bool_]:
    """Tell which points of a cell are stored, by the names and manifests of files alone.

    Parameters
    ----------
    cell : Cell
        The cell.
    cells : Cells
        The request that it belongs to.
    store : ChunkStore
        The cache's chunks.

    Returns
    -------
    ndarray of bool
        One entry for each point, row-major.
    """
    held = _held_of(cell, _candidates(cell, cells, store), store)
    return np.ones(cell.points, bool) if held is None else held


# --- points that failed -------------------------------------------------------------------------------------


def _failed_before(cells: Cells, known: Known, survey: _Survey, missing: IntArray) -> IntArray:
    """Return for each cell, in grid order, how many of its missing points are recorded as failed."""
    failed = np.zeros(len(missing), np.intp)
    if not known:
        return failed
    selection = cells.selection
    turn = sorted(range(len(selection.order)), key=selection.order.__getitem__)
    among = [{key[turn.index(axis)] for key in known} for axis in range(len(turn))]
    places = [_places(axis, keys, own) for axis, keys, own in zip(cells.axes, selection.keys, among, strict=True)]
    for key in known:
        at = [places[axis].get(key[turn.index(axis)]) for axis in range(len(turn))]
        if None in at:
            continue
        numbers, ranks = zip(*at, strict=True) if at else ((), ())
        index = int(np.ravel_multi_index(numbers, cells.shape)) if at else 0
        held = survey.held.get(index)
        shape = [int(axis.lengths[number]) for axis, number in zip(cells.axes, numbers, strict=True)]
        if held is None or not held[int(np.ravel_multi_index(ranks, shape)) if at else 0]:
            failed[index] += 1
    return np.minimum(failed, missing)


def _places(axis: AxisCells, keys: Sequence[bytes], among: set[bytes]) -> dict[bytes, tuple[int, int]]:
    """Return for each value of a set that an axis is asked for its group, and its rank there."""
    found = {}
    for number, group in enumerate(axis):
        for rank, position in enumerate(group.source.tolist()):
            if keys[position] in among:
                found[keys[position]] = number, rank
    return found


# --- why points miss ---------------------------------------------------------------------------------------


def _codes(cells: Cells, new: Sequence[_Flags], survey: _Survey) -> npt.NDArray[np.uint8]:
    """Return for each cell, in grid order, why points of it miss, should any."""
    codes = np.full(cells.shape, _NOT_YET, np.uint8)
    for number in reversed(range(len(new))):  # the first axis with a new value is the one to name
        at: list[Any] = [slice(None)] * len(new)
        at[number] = new[number]
        codes[tuple(at)] = _NEW + number
    codes = codes.reshape(-1)
    codes[survey.lost] = _LOST
    codes[survey.stored > 0] = _IN_PART
    codes[survey.superseded] = _SUPERSEDED
    return codes


def _groups(
    cells: Cells, codes: npt.NDArray[np.uint8], missing: IntArray, new: Sequence[_Flags], nothing: str
) -> Iterator[PlanGroup]:
    """Iterate over the cells that miss points by reason, in the order in which the reasons first occur."""
    if cells.ranking is not None:
        codes, missing = codes[cells.ranking], missing[cells.ranking]
    found, first = np.unique(np.where(missing > 0, codes, np.uint8(255)), return_index=True)
    for code in found[np.argsort(first)].tolist():
        if code == 255:
            continue
        chosen = (codes == code) & (missing > 0)
        reason = nothing if code == _NOTHING else _REASONS[min(code, _SUPERSEDED)]
        if code >= _NEW:
            reason = _new(cells, code - _NEW, new[code - _NEW])
        yield PlanGroup(reason, int(chosen.sum()), int(missing[chosen].sum()))


def _new(cells: Cells, number: int, flags: _Flags) -> str:
    """Say which values are new on an axis; a few of them."""
    axis, selection = cells.axes[number], cells.selection
    places = np.flatnonzero(flags)
    shown: list[str] = []
    for place in places[:_SHOWN].tolist():
        shown += [repr(selection.values[number][i]) for i in axis[place].source[:_SHOWN]]
    more = _total(axis, places) - len(shown[:_SHOWN])
    return f"new on axis {selection.order[number]!r}: {', '.join(shown[:_SHOWN])}" + (
        f" and {more} more" if more else ""
    )


_SHOWN = 3
"""So many new values are named."""


def _total(axis: AxisCells, places: IntArray) -> int:
    return int(axis.lengths[places].sum())
