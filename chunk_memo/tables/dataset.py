"""A dataset of Parquet files that grows: hive folders beside a log, which alone says what belongs to it.

A write puts its files in place first, under names made from their bytes, and then commits one file to the log
(``_log/<number>.json``). A reader takes the files that the log names: it sees a write as a whole or not at all,
and what a killed writer left behind is no part of the dataset. Commits are numbered and made exclusively: of two
writers one is first, and the other looks again at what there is. Every 32 commits the log is summed up in a
checkpoint.

Rows are a multiset: of a row that was written before, and comes again, as many are added as came more than are
there. The schema is that of all files together: columns may be added, a type may not change. Partition columns
stand in the paths, their types in the log.

Other programs read the folders as they are (``read_parquet('…/**/*.parquet', hive_partitioning=true)``), and
see a write as its files appear.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128_hexdigest

from chunk_memo.disk import files
from chunk_memo.errors import ColumnTypeError, TableError
from chunk_memo.tables.hive import duckdb_type, partitions, segment
from chunk_memo.tables.needs import needed

pa = needed("pyarrow")
pq = needed("pyarrow.parquet")

__all__ = ["Contents", "Dataset", "Group", "Update", "Written", "arrow_of", "fitted", "identifier", "literal"]

_LOG = "_log"
_DIGITS = 12
_CHECKPOINT = ".checkpoint.json"
_CHECKPOINT_EVERY = 32
_FORMAT = 1
_TRIES = 1000
_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True, slots=True)
class Group:
    """Files that were made from the same sources, and are replaced together."""

    sources: tuple[str, ...]
    """What they were made from."""
    files: tuple[str, ...]
    """Their paths, relative to the dataset."""


@dataclass(slots=True)
class Contents:
    """What a dataset holds, as its log says."""

    number: int = 0
    """The number of the next commit."""
    partition_by: tuple[str, ...] | None = None
    """The partition columns; None where nothing was written yet."""
    schema: Any = None
    """A ``pyarrow.Schema`` of all columns, in the order in which they first came."""
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each file, by its path, its number of rows and the number of its columns' schema."""
    columns: list[dict[str, str]] = field(default_factory=list)
    """The columns of files and their types, by number."""
    groups: dict[str, Group] = field(default_factory=dict)
    """Groups of files with sources, by name."""
    subject: str = ""
    """What the dataset is an export of."""
    updated_at: str = ""
    """When the last commit was made, ISO 8601 in UTC."""
    _folders: dict[str, list[str]] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(count for count, _ in self.files.values())

    def folders(self) -> dict[str, list[str]]:
        """Return the files of each folder.

        Returns
        -------
        dict of str to list of str
            Paths, by the folder that they lie in; not to be changed.
        """
        if self._folders is None:
            self._folders = {}
            for path in self.files:
                self._folders.setdefault(path.rpartition("/")[0], []).append(path)
        return self._folders

    def files_of(self, wanted: Mapping[str, Sequence[Any]]) -> list[str]:
        """Return the files that may hold rows of some partitions.

        Parameters
        ----------
        wanted : mapping of str to sequence
            Column to the values of which one is wanted; columns by which nothing is partitioned say nothing.

        Returns
        -------
        list of str
            Paths.
        """
        found = list(self.files)
        for depth, column in enumerate(self.partition_by or ()):
            if column in wanted:
                kind = self.schema.field(column).type
                try:
                    values = pa.array(list(wanted[column])).cast(kind).to_pylist()
                except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
                    continue
                segments = {segment(column, value) for value in values}
                found = [path for path in found if path.split("/", depth + 1)[depth] in segments]
        return found

    def apply(self, commit: Mapping[str, Any]) -> None:
        """Take in one commit, or a checkpoint.

        Parameters
        ----------
        commit : mapping
            What the file holds.
        """
        if commit["format"] != _FORMAT:
            raise TableError(
                f"the log of this dataset has format {commit['format']}, and this library reads {_FORMAT};"
                f" install a later version of chunk-memo"
            )
        self.number = commit["number"] + 1
        self.partition_by = tuple(commit["partition_by"])
        self.schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(commit["schema"])))
        self.columns = [dict(columns) for columns in commit["file_columns"]]
        self.subject = commit["subject"]
        self.updated_at = commit["created_at"]
        self._folders = None
        for path in commit["removed"]:
            self.files.pop(path, None)
        for name in commit["removed_groups"]:
            self.groups.pop(name, None)
        self.files.update({path: (rows, number) for path, rows, number in commit["added"]})
        for name, group in commit["groups"].items():
            self.groups[name] = Group(tuple(group["sources"]), tuple(group["files"]))

    def add(self, path: str, rows: Any) -> None:
        """Take in a file.

        Parameters
        ----------
        path : str
            Its path.
        rows : pyarrow.Table
            What it holds.
        """
        columns = {each.name: str(each.type) for each in rows.schema if not pa.types.is_null(each.type)}
        if columns not in self.columns:
            self.columns.append(columns)
        if path not in self.files and self._folders is not None:
            self._folders.setdefault(path.rpartition("/")[0], []).append(path)
        self.files[path] = rows.num_rows, self.columns.index(columns)

    def drop_group(self, name: str) -> list[str]:
        """Take out a group, and of its files those that no other has.

        Parameters
        ----------
        name : str
            The group.

        Returns
        -------
        list of str
            The files taken out.
        """
        group = self.groups.pop(name)
        shared = {path for other in self.groups.values() for path in other.files}
        gone = [path for path in group.files if path not in shared and path in self.files]
        for path in gone:
            del self.files[path]
        if gone:
            self._folders = None
        return gone


@dataclass(frozen=True, slots=True)
class Written:
    """What one write did."""

    rows: int = 0
    """Number of rows added."""
    files: int = 0
    """Number of files added."""
    rows_known: int = 0
    """Number of rows that were there already."""
    files_removed: int = 0
    """Number of files taken out because their sources have changed."""


class Update:
    """One change of a dataset, before it is committed; :meth:`Dataset.update` makes one.

    Parameters
    ----------
    dataset : Dataset
        The dataset.
    contents : Contents
        What it holds; here as it will be.
    syncer : Syncer
        Puts new files on disk before the log names them.
    """

    def __init__(self, dataset: Dataset, contents: Contents, syncer: files.Syncer) -> None:
        self.dataset = dataset
        self.contents = contents
        self.syncer = syncer
        self.added: dict[str, None] = {}
        self.removed: dict[str, None] = {}
        self.groups: dict[str, None] = {}
        self.removed_groups: dict[str, None] = {}
        self._fresh = contents.number == 0
        self._rows_known = 0
        self._met: dict[str, Any] = {}
        self._schema = contents.schema

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        touched = self.added or self.removed or self.groups or self.removed_groups
        return self.contents.schema is not None and bool(
            touched or self._fresh or self.contents.schema != self._schema
        )

    @property
    def written(self) -> Written:
        """What was changed so far."""
        added = [path for path in self.added if path in self.contents.files]
        gone = [path for path in self.removed if path not in self.contents.files]
        rows = sum(self.contents.files[path][0] for path in added)
        return Written(rows, len(added), self._rows_known, len(gone))

    def add(
        self,
        table: Any,
        partition_by: Sequence[str] | None = None,
        *,
        usual: Sequence[str] = (),
        widen: bool = False,
        group: str = "",
        sources: Sequence[str] = (),
    ) -> None:
        """Add rows, those that are new.

        Parameters
        ----------
        table : pyarrow.Table
            The rows.
        partition_by : sequence of str, optional
            The partition columns.
        usual : sequence of str
            As in :meth:`Dataset.append`.
        widen : bool, default False
            Whether a column of whole numbers may become one of floats.
        group : str, optional
            The group that the files belong to; one that is there is replaced.
        sources : sequence of str
            What they were made from.
        """
        table = fitted(self.dataset, self.contents, table, partition_by, usual=usual, widen=widen)
        if group in self.contents.groups:
            self.drop(group)
        there = self.contents.folders()
        mine, again = [], []
        for folder, rows in partitions(table, self.contents.partition_by or ()):
            path, data = _file_of(folder, rows)
            if path in self.contents.files:
                self._rows_known += rows.num_rows
                mine.append(path)
            elif folder in there:
                again.append((folder, rows))
            else:
                mine.append(self._put(path, rows, data))
        counts = {folder: rows.num_rows for folder, rows in again}
        for folder, rows in self.dataset.news(self.contents, again, there):
            self._rows_known += counts[folder] - rows.num_rows
            if rows.num_rows:
                path, data = _file_of(folder, rows)
                mine.append(self._put(path, rows, data))
        if group:
            self.contents.groups[group] = Group(tuple(sources), tuple(mine))
            self.groups[group] = None

    def put(self, table: Any) -> tuple[str, ...]:
        """Write files of rows that are known to be new, and of the dataset's schema.

        Parameters
        ----------
        table : pyarrow.Table
            The rows.

        Returns
        -------
        tuple of str
            The files' paths.
        """
        return tuple(
            self._put(path, rows, data)
            for folder, rows in partitions(table, self.contents.partition_by or ())
            for path, data in [_file_of(folder, rows)]
        )

    def _put(self, path: str, rows: Any, data: Any) -> str:
        if not files.commit(f"{self.dataset.path}/{path}", [data], self.syncer):
            self._met[path] = data
        self.contents.add(path, rows)
        self.added[path] = None
        return path

    def put_again(self) -> None:
        """Write files again that were there already, should another writer have been about to remove them."""
        for path, data in self._met.items():
            files.commit(f"{self.dataset.path}/{path}", [data], self.syncer)

    def keep(self, group: str, sources: Sequence[str], paths: Sequence[str]) -> None:
        """Say what some files were made from.

        Parameters
        ----------
        group : str
            Their group.
        sources : sequence of str
            What they were made from.
        paths : sequence of str
            Their paths.
        """
        self.contents.groups[group] = Group(tuple(sources), tuple(paths))
        self.groups[group] = None

    def drop(self, group: str) -> None:
        """Take a group and its files out.

        Parameters
        ----------
        group : str
            The group.
        """
        self.removed.update(dict.fromkeys(self.contents.drop_group(group)))
        self.removed_groups[group] = None


class Dataset:
    """A folder of Parquet files with its log.

    Parameters
    ----------
    path : path-like
        The folder.
    durability : {"full", "fast"}
        Whether files are synced before a write returns.

    Examples
    --------
    >>> import tempfile
    >>> dataset = Dataset(tempfile.mkdtemp())
    >>> rows = pa.table({"seed": [1, 2], "loss": [0.5, 0.25]})
    >>> dataset.append(rows, ["seed"])
    Written(rows=2, files=2, rows_known=0, files_removed=0)
    >>> dataset.append(rows).rows
    0
    >>> sorted(dataset.contents().folders())
    ['seed=1', 'seed=2']
    """

    def __init__(self, path: str | os.PathLike[str], durability: str = "full") -> None:
        self.path = Path(os.path.abspath(path))
        self.durability = durability

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.path / _LOG

    def exists(self) -> bool:
        """Tell whether something was ever committed.

        Returns
        -------
        bool
            Whether the log has an entry.
        """
        return bool(self._numbers()[1])

    def _numbers(self) -> tuple[int | None, list[int]]:
        """Return the newest checkpoint, and the commits after it."""
        checkpoint, commits = None, []
        for name in files.list_folder(self.log):
            if name.startswith(files.TEMPORARY_PREFIX) or not name[:_DIGITS].isdecimal():
                continue
            number = int(name[:_DIGITS])
            if name.endswith(_CHECKPOINT):
                checkpoint = number if checkpoint is None else max(checkpoint, number)
            elif name[_DIGITS:] == ".json":
                commits.append(number)
        return checkpoint, sorted(commits)

    def latest(self) -> int:
        """Return the number of the next commit; it tells whether something has changed.

        Returns
        -------
        int
            0 where nothing was committed.
        """
        return max(self._numbers()[1], default=-1) + 1

    def contents(self) -> Contents:
        """Read the log.

        Returns
        -------
        Contents
            What the dataset holds.

        Raises
        ------
        TableError
            Where an entry is damaged or missing.
        """
        checkpoint, commits = self._numbers()
        contents = Contents()
        if checkpoint is not None:
            contents.apply(self._entry(f"{checkpoint:0{_DIGITS}d}{_CHECKPOINT}"))
        for number in commits:
            if number < contents.number:
                continue
            if number > contents.number:
                raise TableError(
                    f"the log of '{self.path}' lacks entry {contents.number}; copy the dataset again, with all of"
                    f" '{_LOG}/', or delete it and write the rows again"
                )
            contents.apply(self._entry(f"{number:0{_DIGITS}d}.json"))
        return contents

    def _entry(self, name: str) -> dict[str, Any]:
        path = self.log / name
        try:
            entry: dict[str, Any] = json.loads(files.read_whole(path))
            digest = entry.pop("digest")
            if digest != _digest(entry):
                raise ValueError("the checksum does not fit")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(
                f"'{path}' is damaged ({error}), so it is not known what belongs to the dataset; copy it again"
                f" from where it came, or delete the dataset and write the rows again"
            ) from error
        return entry

    # --- writing -------------------------------------------------------------------------------------------

    def append(
        self, table: Any, partition_by: Sequence[str] | None = None, *, usual: Sequence[str] = ()
    ) -> Written:
        """Add rows, those that are new.

        Parameters
        ----------
        table : pyarrow.Table
            The rows.
        partition_by : sequence of str, optional
            The partition columns, outermost first; those that the dataset has by default.
        usual : sequence of str
            The partition columns of a new dataset, where `partition_by` is left out.

        Returns
        -------
        Written
            What was added.

        Raises
        ------
        ColumnTypeError
            Where a column came with another type than it has.
        TableError
            Where the partition columns are others, or cannot be.
        """

        def change(update: Update) -> None:
            update.add(table, partition_by, usual=usual)

        return self.update(change)

    def update(self, change: Callable[[Update], None]) -> Written:
        """Change the dataset by one entry of the log, and so at once.

        Parameters
        ----------
        change : callable
            Called with an :class:`Update`; once more where another writer was first.

        Returns
        -------
        Written
            What was changed.
        """
        with files.Syncer(self.durability) as syncer:
            for _ in range(_TRIES):
                update = Update(self, self.contents(), syncer)
                change(update)
                if self._commit(update):
                    return update.written
        raise TableError(f"'{self.path}' was written by others {_TRIES} times in a row; try again later")

    def _commit(self, update: Update) -> bool:
        """Write one entry to the log; False where another writer was first."""
        contents, syncer = update.contents, update.syncer
        if not update.changed:
            return True
        syncer.flush()
        removed = [path for path in update.removed if path not in contents.files]
        entry = {
            "format": _FORMAT,
            "number": contents.number,
            "created_at": datetime.now(UTC).isoformat(),
            "subject": contents.subject,
            "partition_by": list(contents.partition_by or ()),
            "columns": {each.name: str(each.type) for each in contents.schema},
            "schema": base64.b64encode(contents.schema.serialize().to_pybytes()).decode(),
            "file_columns": contents.columns,
            "added": [[path, *contents.files[path]] for path in update.added if path in contents.files],
            "removed": removed,
            "groups": _listed({name: contents.groups[name] for name in update.groups if name in contents.groups}),
            "removed_groups": [name for name in update.removed_groups if name not in contents.groups],
        }
        name = f"{contents.number:0{_DIGITS}d}"
        if not files.commit(self.log / f"{name}.json", [_document(entry)], syncer):
            return False
        syncer.flush()
        if (contents.number + 1) % _CHECKPOINT_EVERY == 0:
            added = [[path, *known] for path, known in contents.files.items()]
            everything = {**entry, "added": added, "removed": [], "groups": _listed(contents.groups)}
            files.commit(
                self.log / f"{name}{_CHECKPOINT}", [_document({**everything, "removed_groups": []})], syncer
            )
        update.put_again()
        for path in removed:
            files.remove(self.path / path)
        return True

    def news(
        self, contents: Contents, pieces: Sequence[tuple[str, Any]], there: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, Any]]:
        """Find out which rows are not in a dataset yet, copies counted.

        Parameters
        ----------
        contents : Contents
            What it holds.
        pieces : sequence of tuple of str, pyarrow.Table
            Folders, and rows of one schema that came for them.
        there : mapping of str to sequence of str
            The files of each folder.

        Yields
        ------
        tuple of str, pyarrow.Table
            The folder, and those of its rows that are new, in their order.
        """
        if not pieces:
            return
        names = [each.name for each in pieces[0][1].schema if not pa.types.is_null(each.type)]
        counts = [rows.num_rows for _, rows in pieces]
        new = pa.concat_tables([rows.select(names) for _, rows in pieces])
        new = new.append_column("\tfolder", pa.array(np.repeat(np.arange(len(pieces)), counts)))
        old = [(path, number) for number, (folder, _) in enumerate(pieces) for path in there[folder]]
        paths = [f"{self.path}/{path}" for path, _ in old]
        places = pa.table({_FILE: paths, "\tfolder": [number for _, number in old]})
        with needed("duckdb").connect() as connection:
            connection.register("new", new)
            connection.register("places", places)
            query = _difference(contents, self.path, names, [path for path, _ in old])
            left = arrow_of(connection.sql(query))
        ends = np.searchsorted(left.column("\tfolder").to_numpy(), np.arange(len(pieces) + 1))
        for number, (folder, rows) in enumerate(pieces):
            fresh = left.slice(ends[number], ends[number + 1] - ends[number])
            yield folder, fresh.select(names).cast(rows.select(names).schema)

    # --- reading -------------------------------------------------------------------------------------------

    def sql(self, contents: Contents | None = None, only: Iterable[str] | None = None) -> str:
        """Return a SELECT over the dataset, for DuckDB.

        Parameters
        ----------
        contents : Contents, optional
            What the dataset holds; its log is read by default.
        only : iterable of str, optional
            The files to read; all of them by default.

        Returns
        -------
        str
            One SELECT with all columns, in their own types. No data is read for it.
        """
        contents = self.contents() if contents is None else contents
        if contents.schema is None:
            raise TableError(f"'{self.path}' holds no dataset; write rows into it first")
        by_columns: dict[int, list[str]] = {}
        for path in contents.files if only is None else only:
            by_columns.setdefault(contents.files[path][1], []).append(path)
        kinds = {each.name: each.type for each in contents.schema}
        types = {name: duckdb_type(name, kinds[name]) for name in contents.partition_by or ()}
        hive = ", ".join(f"{literal(name)}: {kind}" for name, kind in types.items())
        options = f", hive_partitioning=true, hive_types={{{hive}}}" if types else ", hive_partitioning=false"
        selects = []
        for number, paths in sorted(by_columns.items()):
            there = {*contents.columns[number], *types}
            chosen = ", ".join(identifier(name) for name in contents.schema.names if name in there)
            listed = ", ".join(literal(f"{self.path}/{path}") for path in paths)
            selects.append(f"SELECT {chosen} FROM read_parquet([{listed}]{options})")
        covered = set(types).union(*(contents.columns[number] for number in by_columns))
        names = ", ".join(
            identifier(name) if name in covered else f"NULL AS {identifier(name)}"
            for name in contents.schema.names
        )
        if not selects:
            return f"SELECT {', '.join(f'NULL AS {identifier(n)}' for n in contents.schema.names)} LIMIT 0"
        if len(selects) == 1 and len(covered) == len(contents.schema):
            return selects[0]
        return f"SELECT {names} FROM ({' UNION ALL BY NAME '.join(selects)})"


def identifier(name: str) -> str:
    """Return a name as SQL writes it.

    Parameters
    ----------
    name : str
        The name of a column, a table or a view.

    Returns
    -------
    str
        The name in double quotes.

    Examples
    --------
    >>> print(identifier('the "mean" loss'))
    "the ""mean"" loss"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The text in single quotes.

    Examples
    --------
    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def fitted(
    dataset: Dataset,
    contents: Contents,
    table: Any,
    partition_by: Sequence[str] | None = None,
    *,
    usual: Sequence[str] = (),
    widen: bool = False,
) -> Any:
    """Return rows with the types that a dataset has, and take their new columns in.

    Parameters
    ----------
    dataset : Dataset
        The dataset.
    contents : Contents
        What it holds; new columns are added to it.
    table : pyarrow.Table
        The rows.
    partition_by : sequence of str, optional
        The partition columns.
    usual : sequence of str
        As in :meth:`Dataset.append`.
    widen : bool, default False
        Whether a column of whole numbers may become one of floats.

    Returns
    -------
    pyarrow.Table
        The rows, with all partition columns.

    Raises
    ------
    ColumnTypeError
        Where a column came with another type than it has.
    TableError
        Where columns cannot be.
    """
    _check_names(table.column_names, contents.schema)
    chosen = contents.partition_by
    if chosen is None:
        chosen = tuple(usual if partition_by is None else partition_by)
        absent = [name for name in partition_by or () if name not in table.column_names]
        if absent:
            raise TableError(
                f"partition column {absent[0]!r} is not among the columns {table.column_names}; name others in"
                f" partition_by="
            )
    elif partition_by is not None and tuple(partition_by) != chosen:
        raise TableError(
            f"'{dataset.path}' is partitioned by {list(chosen)}, not by {list(partition_by)}; leave partition_by="
            f" out, or write to another folder"
        )
    types = {} if contents.schema is None else {each.name: each.type for each in contents.schema}
    made = {}
    for name in table.column_names:
        wanted = types.get(name)
        column = _plain_type(table.column(name))
        if widen and wanted is not None:
            column, wanted = _widened(column, wanted)
        made[name] = column = _fitting(name, column, wanted)
        types[name] = column.type if wanted is None or pa.types.is_null(wanted) else wanted
    for name in chosen:
        duckdb_type(name, types.setdefault(name, pa.null()))
        made.setdefault(name, pa.nulls(table.num_rows, types[name]))
    contents.partition_by, contents.schema = chosen, pa.schema(list(types.items()))
    return pa.table(made)


def _widened(column: Any, wanted: Any) -> tuple[Any, Any]:
    """Return a column and the type that it is to have, one being of whole numbers and one of floats."""
    if pa.types.is_integer(column.type) and pa.types.is_floating(wanted):
        return column.cast(wanted, safe=False), wanted
    if pa.types.is_floating(column.type) and pa.types.is_integer(wanted):
        return column, column.type
    return column, wanted


# --- helpers -----------------------------------------------------------------------------------------------


def _listed(groups: Mapping[str, Group]) -> dict[str, Any]:
    return {name: {"sources": group.sources, "files": group.files} for name, group in groups.items()}


def arrow_of(answer: Any) -> Any:
    """Return the rows of an answer as an Arrow table, in every version of DuckDB.

    Parameters
    ----------
    answer : duckdb.DuckDBPyRelation
        The answer.

    Returns
    -------
    pyarrow.Table
        Its rows.
    """
    fetch = getattr(answer, "to_arrow_table", None) or answer.fetch_arrow_table
    return fetch()


def _document(entry: Mapping[str, Any]) -> bytes:
    return json.dumps({**entry, "digest": _digest(entry)}, separators=(",", ":")).encode() + b"\n"


def _digest(entry: Mapping[str, Any]) -> str:
    return xxh3_128_hexdigest(json.dumps(entry, separators=(",", ":"), sort_keys=True).encode())


def _file_of(folder: str, rows: Any) -> tuple[str, Any]:
    """Return the path and the bytes of a file; the name tells the bytes, so that the same rows are one file."""
    sink = pa.BufferOutputStream()
    named = [each.name for each in rows.schema if not pa.types.is_null(each.type)]
    # A row of which all stands in the path is a row, and a Parquet file needs a column.
    written = rows.select(named) if named else pa.table({"_row": pa.nulls(rows.num_rows, pa.int8())})
    # Floats seldom repeat: to look for that costs a fifth of the time.
    repeating = [name for name in named if not pa.types.is_floating(rows.schema.field(name).type)]
    pq.write_table(written, sink, use_dictionary=repeating)
    data = sink.getvalue()
    name = f"{xxh3_128_hexdigest(data)}.parquet"
    return f"{folder}/{name}" if folder else name, data


def _check_names(names: Sequence[str], schema: Any) -> None:
    """Refuse columns that SQL could not tell apart."""
    known = {} if schema is None else {name.lower(): name for name in schema.names}
    for name in names:
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise TableError(
                f"the columns {other!r} and {name!r} differ in case only, which SQL cannot tell; rename one"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise TableError(f"there are several columns {twice!r}; rename them, so that each is one")
    if any(not name or "\0" in name for name in names):
        raise TableError(f"a column needs a name, got {list(names)!r}")


def _fitting(name: str, column: Any, wanted: Any) -> Any:
    """Return a column in the type that it has in the dataset."""
    if wanted is None or column.type == wanted or pa.types.is_null(wanted):
        return column
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), wanted)])
    if _widens(column.type, wanted):
        return column.cast(wanted)
    raise ColumnTypeError(
        f"column {name!r} is of type {wanted} in this dataset, and came as {column.type}; convert the rows, or"
        f" write them under another name or to another folder"
    )


def _plain_type(column: Any) -> Any:
    """Return a column without the encodings that one library has and another has not."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain_type(column.cast(kind.value_type))
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return column.cast(pa.string())
    if pa.types.is_large_binary(kind) or str(kind) == "binary_view":
        return column.cast(pa.binary())
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        wanted = pa.list_(_plain_of(kind.value_type))
        return column if kind == wanted else column.cast(wanted)
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    return column


def _plain_of(kind: Any) -> Any:
    return _plain_type(pa.chunked_array([pa.array([], kind)])).type


def _widens(came: Any, wanted: Any) -> bool:
    """Tell whether a narrower number of the same kind came, which loses nothing."""
    kinds: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_signed_integer,
        pa.types.is_unsigned_integer,
        pa.types.is_floating,
    )
    if any(kind(came) and kind(wanted) for kind in kinds):
        return bool(came.bit_width <= wanted.bit_width)
    if pa.types.is_list(came) and pa.types.is_list(wanted):
        inner = came.value_type
        return inner == wanted.value_type or pa.types.is_null(inner) or _widens(inner, wanted.value_type)
    return bool(
        pa.types.is_timestamp(came)
        and pa.types.is_timestamp(wanted)
        and came.tz == wanted.tz
        and _UNITS.index(came.unit) <= _UNITS.index(wanted.unit)
    )


def _difference(contents: Contents, root: Path, names: Sequence[str], old: Sequence[str]) -> str:
    """Return the SELECT of the rows of ``new`` that are not in some files, copies counted, in their order.

    ``new`` has the column ``<tab>folder``; ``places`` says the folder of each file. A tab in front keeps these
    names from those of users.
    """
    by_columns: dict[int, list[str]] = {}
    for path in old:
        by_columns.setdefault(contents.files[path][1], []).append(path)
    selects = []
    for number, paths in by_columns.items():
        there = contents.columns[number]
        chosen = [identifier(n) if n in there else f"NULL AS {identifier(n)}" for n in names]
        # A column that did not come is null: only rows where it is null, too, can be the same.
        where = " AND ".join([f"{identifier(n)} IS NULL" for n in there if n not in names] or ["true"])
        listed = ", ".join(literal(f"{root}/{path}") for path in paths)
        selects.append(
            f"SELECT {', '.join([*chosen, _FOLDER])} FROM (SELECT * FROM read_parquet([{listed}],"
            f" hive_partitioning=false, filename={literal(_FILE)}) WHERE {where})"
            f" JOIN places USING ({identifier(_FILE)})"
        )
    each = [*(identifier(n) for n in names), _FOLDER]
    keys = ", ".join(each)
    same = " AND ".join(f"n.{key} IS NOT DISTINCT FROM o.{key}" for key in each)
    return (
        f"WITH old AS ({' UNION ALL '.join(selects)}),"
        f" counted AS (SELECT {keys}, count(*) AS {_COUNT} FROM old GROUP BY ALL),"
        f" numbered AS (SELECT *, row_number() OVER () AS {_ROW} FROM new),"
        f" copies AS (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {_ROW}) AS {_COPY} FROM numbered)"
        f" SELECT n.* EXCLUDE ({_ROW}, {_COPY}) FROM copies n LEFT JOIN counted o ON {same}"
        f" WHERE n.{_COPY} > coalesce(o.{_COUNT}, 0) ORDER BY n.{_FOLDER}, n.{_ROW}"
    )


_FILE = "\tfile"
_FOLDER, _COUNT, _ROW, _COPY = (identifier(f"\t{name}") for name in ("folder", "count", "row", "copy"))
