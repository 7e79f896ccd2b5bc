"""What it takes to store outputs of a cache: checks them, turns them into blocks, writes their files.

A :class:`Writer` is the side of a cache that a worker needs: no axes, no bins but those of the chunk at hand, no
memory of what was read. It pickles small, and is the same object that a run in one process uses.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunk_memo import items
from chunk_memo.chunks import ChunkStore, Written
from chunk_memo.disk import files
from chunk_memo.disk.encoding import pickled_parts
from chunk_memo.errors import ChunkMemoError, PickleWarning, caller_level
from chunk_memo.grid import IntArray
from chunk_memo.outputs import Block, Form, PointCoords, make_block
from chunk_memo.tasks import Task

__all__ = ["Writer"]

_MOST_LOOKED_AT = 8
"""So many files are looked at to learn the form of a cache's outputs."""


_TOLD: set[tuple[str, str]] = set()
"""Functions of which it was said that their outputs are pickled, each with its root."""


def _note_of_pickles(block: Block, name: str) -> str:
    """Return what to say of the pickles in a block; nothing where there are none."""
    parts = [
        (column if isinstance(column, str) else "", part)
        for column, values in block.columns.items()
        if not values.pointwise
        for part in pickled_parts(values.tree)
    ]
    if not parts:
        return ""
    found = "; ".join(f"{', '.join(part.types)} at {(column or part.array)!r}" for column, part in parts)
    return (
        f"outputs of {name or 'the function'!r} hold {found}, which has no native form: it is pickled and signed,"
        f" and loads only where your key is known. register_encoding(type, encode, decode) gives it a form,"
        f" allow_pickle=False refuses it"
    )


class Writer:
    """Stores outputs of one cache.

    Parameters
    ----------
    store : ChunkStore
        The chunks.
    name : str
        What messages call the function.
    outputs : str or None
        The kind of output, where the user said it.
    vectorize : bool
        Whether the function is called with single values.
    durability : Durability
        Whether files are synced.
    """

    def __init__(
        self,
        store: ChunkStore,
        name: str,
        outputs: str | None,
        vectorize: bool,
        durability: files.Durability,
    ) -> None:
        self.store = store
        self.name = name
        self.outputs = outputs
        self.vectorize = vectorize
        self.durability = durability
        self.form: Form | None = None
        self.prepare: Callable[[files.Syncer], None] | None = None
        self.pickled = ""
        """What to say of outputs that had to be pickled, once there are some."""
        self._told = False
        self._away = False

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to a worker."""
        return {**self.__dict__, "prepare": None, "_away": True}

    def syncer(self) -> files.Syncer:
        """Return what takes note of files that must be on disk.

        Returns
        -------
        Syncer
            A new one, for a run or a worker.
        """
        return files.Syncer(self.durability)

    def learn(self, block: Block) -> None:
        """Take note of the form of a block of this cache, where none is known yet.

        Parameters
        ----------
        block : Block
            A block that was read or made.
        """
        if self.form is None:
            self.form = block.form

    def block(self, task: Task, output: Any, rows: IntArray | None = None) -> Block:
        """Return what the function returned for a task as a block, checked.

        Parameters
        ----------
        task : Task
            The points that it was called with.
        output : object
            What it returned; with ``vectorize`` a list of what it returned for each point.
        rows : ndarray of intp, optional
            Which of the task's points these are; all of them by default.

        Returns
        -------
        Block
            The outputs.

        Raises
        ------
        OutputError
            Where they do not fit the points, or other outputs of the cache.
        """
        if self.form is None:
            self._recall_form()
        outputs = "point" if self.vectorize else self.outputs
        if not task.order:
            output, outputs = ([output], "list") if not self.vectorize else (output, "point")
        block = make_block(
            output,
            PointCoords(task.order, task.values, rows),
            task.shape if rows is None else (len(rows),),
            name=self.name or "the function",
            outputs=outputs,
            recorded=self.form,
            allow_pickle=self.store.allow_pickle,
        )
        self.learn(block)
        if self.store.allow_pickle and not self.pickled:
            self.pickled = _note_of_pickles(block, self.name)
        return block

    def tell_of_pickles(self, note: str) -> None:
        """Say that outputs had to be pickled, once for each function and root.

        Parameters
        ----------
        note : str
            :attr:`pickled`, of this writer or of one that travelled.
        """
        function = (os.fspath(self.store.folder.path.parent), self.name)
        if not self._told and function not in _TOLD:
            _TOLD.add(function)
            self._told = True
            warnings.warn(note, PickleWarning, stacklevel=caller_level())
        self._told = True

    def write(
        self,
        task: Task,
        block: Block,
        seconds: float,
        syncer: files.Syncer,
        rows: IntArray | None = None,
    ) -> Written:
        """Store a block; of a cache that can only be read nothing is stored.

        Parameters
        ----------
        task : Task
            The points that were computed.
        block : Block
            Their outputs.
        seconds : float
            Seconds of compute.
        syncer : Syncer
            Takes note of what must be on disk.
        rows : ndarray of intp, optional
            Which of the task's points the block holds; all of them by default.

        Returns
        -------
        Written
            How much was written, and whether other outputs were there before.
        """
        if self.store.folder.read_only:
            return Written(0)
        if self.prepare is not None:
            self.prepare(syncer)
        points = task.points
        if rows is not None:
            points = rows if points is None else points[rows]
        written = self.store.write(task.ref, points, block, seconds, syncer)
        if self.pickled and not (self._told or self._away):  # from workers it comes with their receipts
            self.tell_of_pickles(self.pickled)
        return written

    def holds(self, task: Task) -> bool:
        """Tell whether all points of a task were stored meanwhile.

        Parameters
        ----------
        task : Task
            The points.

        Returns
        -------
        bool
            Whether they are there, verified.
        """
        chunk = self.store.load(task.ref)
        if chunk is not None:
            chunk.close()
            return True
        if task.points is None:
            return False
        parts: Sequence[IntArray] = [part.points for part in self.store.parts(task.ref, passing=True)]
        return bool(parts) and bool(np.isin(task.points, np.concatenate(parts)).all())

    def recalled(self) -> Form | None:
        """Learn the form of outputs from what is stored, unless it is known.

        Returns
        -------
        Form or None
            The form; None where nothing is stored.
        """
        if self.form is None:
            self._recall_form()
        return self.form

    def _recall_form(self) -> None:
        """Learn the recorded form from any complete chunk that is stored."""
        for path in itertools.islice(self.store.folder.chunk_files(), _MOST_LOOKED_AT):
            try:
                with self.store.opened(path) as chunk:
                    own = items.own_bins(self.store, chunk)
                    if own is None or chunk.constant["part"] is not None:
                        continue
                    ref = self.store.ref(own[0], (0,) * len(own[0]), own[1])
                    if self.store.owns(ref, chunk.identity):
                        self.learn(self.store.everything(ref, chunk)[0])
                        return
            except (ChunkMemoError, OSError):
                continue
