"""Whole runs, one result each: :class:`Store` maps params to the file that a runner wrote for them.

A result is written in a folder of its own, committed under its final name, and only then recorded; so a record
always has its whole file, wherever a process is killed. Where the records lie is the business of an index; the
store looks at a file before it calls a record a hit.

Of several runs with equal params the oldest whole one is the answer: what was returned once stays the answer,
and re-runs are found by ``list``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

from chunk_memo.disk import files, results
from chunk_memo.disk.leases import Lease
from chunk_memo.disk.runimport import is_json_index, read_json_index
from chunk_memo.disk.runindex import MemoryIndex, PostgresIndex, RunIndex, SQLiteIndex
from chunk_memo.errors import (
    CollisionError,
    DamageWarning,
    FailureWarning,
    RootError,
    SpecError,
    StoreError,
    caller_level,
)
from chunk_memo.identity.jsonable import to_jsonable
from chunk_memo.options import Options
from chunk_memo.provenance import surroundings
from chunk_memo.runparams import (
    Condition,
    Where,
    canonical_json,
    conditions,
    exact_json,
    from_json,
    hash_of,
    matches,
    params_hash,
    plain_params,
)
from chunk_memo.runqueue import RunQueue
from chunk_memo.runs import FileMark, IndexBackend, RunFailure, RunFailures, RunRecord, Runs
from chunk_memo.runwork import Job, Runner, RunWork, check_not_inside, check_runner, is_sweep

__all__ = [
    "FileMark",
    "IndexBackend",
    "MemoryIndex",
    "PostgresIndex",
    "RunFailure",
    "RunFailures",
    "RunRecord",
    "Runner",
    "Runs",
    "SQLiteIndex",
    "Store",
    "params_hash",
]

Result = TypeVar("Result")

_METHODS = ("find_by_hash", "find_by_params", "insert", "all", "delete_by_hash")
_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.1

_told: set[tuple[str, str]] = set()
"""Damaged results that this process has told of."""


class Store:
    """Runs by their params: each is made once, and its result file found again.

    Parameters
    ----------
    results_dir : path-like, default "./results"
        Folder of the result files.
    db_path : path-like, default "./entropic.json"
        The index: one SQLite file, whatever its suffix, or the URL of a PostgreSQL database. Where a JSON index
        of TinyDB lies under that name, its records are taken over, it stays as it is, and the SQLite file lies
        beside it as ``<db_path>.sqlite``. The default is the older package's, whose users find their runs.
    file_suffix : str, default ".h5"
        Suffix of result files; one that a writer such as ``np.save`` adds takes its place.
    index : IndexBackend, optional
        Any object with the five methods of :class:`IndexBackend`, in place of `db_path`.

    Raises
    ------
    RootError
        Where `results_dir` is no folder, or `db_path` lies on a network's file system.
    SpecError
        Where another argument cannot be.
    MetadataError
        Where the file at `db_path` is no index.

    Notes
    -----
    Paths inside `results_dir` are kept relative to it, so that results and index may move.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = Store(folder / "results", folder / "runs.db", file_suffix=".txt")
    >>> def simulate(params, result_path):
    ...     result_path.write_text(str(params["n"] ** 2))
    >>> record = store.run_or_retrieve({"n": 12}, simulate)
    >>> record.result_path.read_text()
    '144'
    >>> store.run_or_retrieve({"n": 12}, simulate) == record  # found, not run
    True
    >>> [run.params for run in store.list(where=("n", ">", 10))]
    [{'n': 12}]
    """

    def __init__(
        self,
        results_dir: str | os.PathLike[str] = "./results",
        db_path: str | os.PathLike[str] = "./entropic.json",
        file_suffix: str = ".h5",
        index: IndexBackend | None = None,
    ) -> None:
        if index is not None:
            lacking = [name for name in _METHODS if not callable(getattr(index, name, None))]
            if lacking:
                raise SpecError(f"index must have the methods {list(_METHODS)}; {index!r} lacks {lacking}")
        self.results_dir = Path(os.path.abspath(results_dir))
        self.file_suffix = _checked_suffix(file_suffix)
        _make_root(self.results_dir)
        self.index: IndexBackend = index if index is not None else _index_at(db_path, self.results_dir)
        self._cleared = 0

    def __repr__(self) -> str:
        """Return what made it."""
        return f"Store({str(self.results_dir)!r}, index={self.index!r})"

    def _repr_html_(self) -> str:
        """Return what it holds, for a notebook."""
        from chunk_memo.display.notebook import html_of_store

        return html_of_store(self)

    # --- the document's methods --------------------------------------------------------------------------------

    def run_or_retrieve(self, params: Mapping[str, Any], runner: Runner, **metadata: Any) -> RunRecord:
        """Return the record of a run; run it first if there is none whose result is whole.

        Any number of threads and processes that ask for equal params make one run: the others wait for it.

        Parameters
        ----------
        params : mapping
            The run's params: names to values that have an identity.
        runner : callable
            ``(params, result_path) -> None``: writes its result to ``result_path``, in any format. A file of that
            name or with a suffix added, or a folder of that name, is the result. Or a function that
            ``memo.cache()`` decorated: it is called with the params, computes only the points that are missing,
            and the result is its cache.
        **metadata : object
            Kept with a new record; values need an identity, too.

        Returns
        -------
        RunRecord
            The record.

        Raises
        ------
        CollisionError
            Where other params have the same hash.
        OutputError
            Where the runner wrote nothing.
        IdentityError
            Where a param has no sound identity; nothing was run.
        """
        job = self.job(0, params)
        check_runner(runner)
        found = self._stored(job, runner)
        if found is not None:
            return found
        return self._made(job, runner, _checked(metadata))

    def run(self, params: Mapping[str, Any], runner: Runner, **metadata: Any) -> RunRecord:
        """Run, also where a result is stored; the earlier records stay.

        Parameters
        ----------
        params : mapping
            The run's params.
        runner : callable
            As for :meth:`run_or_retrieve`.
        **metadata : object
            Kept with the record.

        Returns
        -------
        RunRecord
            The new record. Lookups go on to give the oldest; :meth:`list` gives all.
        """
        job = self.job(0, params)
        check_runner(runner)
        return self._work(runner, _checked(metadata), again=True).carry_out(job, self.keep)

    def retrieve(self, params: Mapping[str, Any]) -> RunRecord | None:
        """Return the record of a run with exactly these params.

        Parameters
        ----------
        params : mapping
            The run's params.

        Returns
        -------
        RunRecord or None
            None where there is none, or none whose result is whole, of which one warning tells.
        """
        return self.stored(self.job(0, params))

    def register(self, params: Mapping[str, Any], result_path: Any, **metadata: Any) -> RunRecord:
        """Record a result that was made elsewhere.

        Parameters
        ----------
        params : mapping
            What it was made with.
        result_path : path-like or ChunkCache
            The file or folder, which stays where it is; of a :class:`ChunkCache` its folder.
        **metadata : object
            Kept with the record.

        Returns
        -------
        RunRecord
            The record.

        Raises
        ------
        FileNotFoundError
            Where there is no such file.
        """
        job = self.job(0, params)
        kept = _checked(metadata)
        path, mark = self._registered(result_path)
        record = RunRecord(
            params=from_json(job.exact),
            result_path=path,
            params_hash=job.params_hash,
            created_at=datetime.now(UTC).isoformat(),
            metadata={**surroundings(), **kept},
            file=mark,
        )
        return self.keep(record)

    def list(self, where: Where = None) -> Runs:
        """Return runs, oldest first.

        Parameters
        ----------
        where : mapping, triple or sequence of triples, optional
            ``{column: value}`` for equality, several of which must all hold; ``(column, op, value)`` or a list of
            these, with ``==  !=  <  <=  >  >=  in  not in``. A column is a param's name; ``"solver.tol"`` is a
            nested one, as is ``{"solver": {"tol": 1e-6}}``. All runs by default.

        Returns
        -------
        Runs
            A list of records; files are not looked at.

        Raises
        ------
        SpecError
            Where `where` is anything else.
        """
        asked = conditions(where)
        return Runs(self._here(record) for record in self._searched(asked, where))

    def delete(self, params: Mapping[str, Any], remove_file: bool = False) -> bool:
        """Forget all runs with exactly these params.

        Parameters
        ----------
        params : mapping
            The runs' params.
        remove_file : bool, default False
            Whether to remove their files, too, save those that other records name.

        Returns
        -------
        bool
            Whether there was any.
        """
        job = self.job(0, params)
        records = self._each(job)
        if not self.index.delete_by_hash(job.params_hash):
            return False
        for record in records:
            results.drop_note(self.results_dir, self._here(record).result_path)
        if remove_file:
            for record in records:
                if not self._uses(record.result_path):
                    _remove(self._here(record).result_path)
        return True

    @overload
    def sweep(
        self,
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: Literal["record"],
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[RunRecord | RunFailure]: ...
    @overload
    def sweep(
        self,
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: Literal["raise"] = "raise",
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[RunRecord]: ...
    def sweep(
        self,
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: str = "raise",
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[Any]:
        """Run or retrieve many, lazily, in their order.

        Parameters
        ----------
        params_iter : iterable of mapping
            The params of each run; may be endless.
        runner : callable
            As for :meth:`run_or_retrieve`.
        on_error : {"raise", "record"}
            What a run that fails does: ``"raise"`` ends the sweep as said below; with ``"record"`` a
            :class:`RunFailure` stands in the place of its record, the sweep goes on, and one warning sums up in
            the end. Failures are kept, :meth:`failures` lists them, and the next sweep makes these runs again.
        map_fn : object, optional
            Where runs are made, as in :class:`Options`: a function like ``map``, an executor, or a name such as
            ``"processes"``. One after the other in this process by default.
        map_fn_kwargs : mapping, optional
            Keywords for it.
        **metadata : object
            Kept with new records.

        Returns
        -------
        iterator of RunRecord
            One for each of `params_iter`. Equal params are run once. Where a run fails, those that are under way
            are finished and kept, and its error is raised when it is its turn.

        Examples
        --------
        >>> import tempfile, warnings
        >>> store = Store(tempfile.mkdtemp(), index=MemoryIndex())
        >>> def inverse(params, result_path):
        ...     result_path.write_text(str(1 / params["n"]))
        >>> with warnings.catch_warnings(action="ignore"):
        ...     runs = list(store.sweep([{"n": 2}, {"n": 0}], inverse, on_error="record"))
        >>> [run.result_path.read_text() if run else run.message for run in runs]
        ['0.5', 'division by zero']
        >>> [failure.params for failure in store.failures()]
        [{'n': 0}]
        """
        check_runner(runner)
        kept = _checked(metadata)
        if isinstance(params_iter, Mapping):
            raise SpecError("'params_iter' must be an iterable of params, got one mapping; pass [params]")
        options = Options().updated({"map_fn": map_fn, "map_fn_kwargs": map_fn_kwargs, "on_error": on_error})
        from chunk_memo import maps

        maps.check(options)
        record = on_error == "record"
        if map_fn is None:
            runs: Iterator[Any] = (self._one(params, runner, kept, record=record) for params in params_iter)
        else:
            task_map = maps.task_map(options.map_fn, options.map_fn_kwargs)
            runs = self._mapped(params_iter, runner, kept, task_map, record=record)
        return _summed_up(runs, runner) if record else runs

    @overload
    def map(
        self,
        function: Callable[[RunRecord], Result],
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: Literal["record"],
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[Result | RunFailure]: ...
    @overload
    def map(
        self,
        function: Callable[[RunRecord], Result],
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: Literal["raise"] = "raise",
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[Result]: ...
    def map(
        self,
        function: Callable[[RunRecord], Result],
        params_iter: Iterable[Mapping[str, Any]],
        runner: Runner,
        *,
        on_error: Any = "raise",
        map_fn: Any = None,
        map_fn_kwargs: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator[Any]:
        """Run or retrieve many, and call a function with each record, lazily, in their order.

        Parameters
        ----------
        function : callable
            Called in this process with each record; it may read the result.
        params_iter : iterable of mapping
            The params of each run.
        runner : callable
            As for :meth:`run_or_retrieve`.
        on_error : {"raise", "record"}
            As for :meth:`sweep`; `function` is not called with failures, which come as they are.
        map_fn, map_fn_kwargs : object, optional
            As for :meth:`sweep`.
        **metadata : object
            Kept with new records.

        Returns
        -------
        iterator
            What `function` returned for each.

        Examples
        --------
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp(), index=MemoryIndex())
        >>> def simulate(params, result_path):
        ...     result_path.write_text(str(params["n"] ** 2))
        >>> list(store.map(lambda run: run.result_path.read_text(), [{"n": 3}, {"n": 4}], simulate))
        ['9', '16']
        """
        if not callable(function):
            raise SpecError(f"'function' must take a RunRecord, got {function!r}")
        where = {"map_fn": map_fn, "map_fn_kwargs": map_fn_kwargs}
        records: Iterator[Any] = self.sweep(params_iter, runner, on_error=on_error, **where, **metadata)
        return (record if isinstance(record, RunFailure) else function(record) for record in records)

    def failures(self, where: Where = None) -> RunFailures:
        """Return the runs that failed under ``on_error="record"`` and were not made since, oldest first.

        Parameters
        ----------
        where : mapping, triple or sequence of triples, optional
            As for :meth:`list`.

        Returns
        -------
        RunFailures
            A list, which prints as a table; each says what the run was called with, and why it failed.
        """
        asked = conditions(where)
        found = (each for each in results.failures(self.results_dir) if matches(plain_params(each.params), asked))
        return RunFailures(sorted(found, key=lambda each: each.failed_at))

    def verify(self, where: Where = None) -> Runs:
        """Read the bytes of all results, or of some, and return the runs whose result is missing or changed.

        Parameters
        ----------
        where : mapping, triple or sequence of triples, optional
            As for :meth:`list`.

        Returns
        -------
        Runs
            The damaged ones. Of registered caches only the existence is checked: they check their chunks
            themselves.
        """
        return Runs(run for run in self.list(where) if not _is_whole(run))

    def recover(self) -> Runs:
        """Record the results of runs whose process was killed before it could, and remove what such runs left.

        The first run of each process does so by itself. A result counts as one of these where its process noted
        down, before it gave the result its name, what it was about to record; where nobody is at work on that
        run any more; and where the result is whole. Files that no record names otherwise are left alone: they
        may be those of records that were deleted.

        Returns
        -------
        Runs
            What is recorded now and was not before.
        """
        found: Any = []
        refused: StoreError | None = None
        claims = results.claims(self.results_dir)
        for note in results.notes(self.results_dir):
            lease = claims.claim(note.record.params_hash) if claims.is_free(note.token) else None
            if lease is not None:
                try:
                    with lease:
                        found += self._taken_up(note)
                except StoreError as error:
                    refused = refused or error
        results.clear_remains(self.results_dir)
        if refused is not None:
            raise refused
        return Runs(found)

    def _recover_quietly(self) -> None:
        """Record what can be, on the way to something else: what the index refuses stays noted down."""
        with contextlib.suppress(StoreError):
            self.recover()

    def recovered(self, job: Job) -> bool:
        """Record what a killed process wrote of a run that is claimed by whoever calls this.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        bool
            Whether there was anything.
        """
        claims = results.claims(self.results_dir)
        noted = [*results.notes(self.results_dir, job.params_hash)]
        return bool([record for note in noted if claims.is_free(note.token) for record in self._taken_up(note)])

    def _taken_up(self, note: results.Note) -> Sequence[RunRecord]:
        """Record what a note says, if its result is there and whole; the note goes in any case."""
        path = note.record.result_path
        if not results.has_note(self.results_dir, path):
            return []  # another process was quicker
        if results.what_is_wrong(path, note.record.file) or self._uses(Path(path.name)):
            results.drop_note(self.results_dir, path)
            return []
        return [self.keep(note.record)]

    # --- lookups -----------------------------------------------------------------------------------------------

    def job(self, number: int, params: Any) -> Job:
        """Return params as a run that is to be made or found.

        Parameters
        ----------
        number : int
            Its place among others.
        params : mapping
            The params.

        Returns
        -------
        Job
            The run, with its hash.

        Raises
        ------
        IdentityError
            Where a value has no sound identity.
        """
        plain = plain_params(params)
        return Job(number, dict(params), hash_of(canonical_json(plain)), exact_json(plain))

    def stored(self, job: Job) -> RunRecord | None:
        """Return the oldest record of a run whose result is whole.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        RunRecord or None
            None where there is none; of damaged results one warning tells.
        """
        record = self.index.find_by_hash(job.params_hash)
        if record is None:
            return None
        _compare(job, record)
        here = self._here(record)
        if not self._is_damaged(here):
            return here
        for other in self._each(job):
            here = self._here(other)
            if other != record and not self._is_damaged(here):
                return here
        return None

    def _stored(self, job: Job, runner: Any) -> RunRecord | None:
        """Return the record of a run; of a decorated function only one of this very code, with every point."""
        if not is_sweep(runner):
            return self.stored(job)
        path = Path(runner.cache_for(**job.params).path).absolute()
        for record in map(self._here, self._each(job)):
            if record.result_path == path and path.is_dir():
                return record if runner.plan(**job.params).executed_points == 0 else None
        return None

    def _each(self, job: Job) -> Sequence[RunRecord]:
        """Return all records of a run as the index has them, oldest first."""
        if isinstance(self.index, RunIndex):
            found = self.index.find_each(job.params_hash)
        else:
            some = self.index.find_by_params(from_json(job.exact))
            found = [record for record in some if record.params_hash == job.params_hash]
            first = self.index.find_by_hash(job.params_hash)
            found = found or ([] if first is None else [first])
        for record in found:
            _compare(job, record)
        return found

    def _searched(self, asked: tuple[Condition, ...], where: Where) -> Iterable[RunRecord]:
        if isinstance(self.index, RunIndex):
            return self.index.search(asked)
        if not asked:
            return self.index.all()
        equal = {each.path[0]: each.value for each in asked if each.op == "==" and len(each.path) == 1}
        # A back end of one's own compares as it likes: where more than plain values is asked, it gives all.
        plain = isinstance(where, Mapping) and len(equal) == len(asked) and not any("." in name for name in equal)
        found = self.index.find_by_params(dict(cast("Mapping[str, Any]", where))) if plain else self.index.all()
        return [record for record in found if matches(plain_params(record.params), asked)]

    def _uses(self, path: Path) -> bool:
        if isinstance(self.index, RunIndex):
            return self.index.uses(path)
        return any(record.result_path == path for record in self.index.all())

    def _here(self, record: RunRecord) -> RunRecord:
        """Return a record with its path as it is on this machine."""
        return record.located(self.results_dir)

    def _is_damaged(self, record: RunRecord) -> bool:
        try:
            wrong = results.what_is_wrong(record.result_path, record.file)
        except OSError as error:
            wrong = f"cannot be read just now ({error})"
        if wrong and (name := (str(record.result_path), record.created_at)) not in _told:
            _told.add(name)
            warnings.warn(
                f"the result {str(record.result_path)!r} of run {record.params_hash} {wrong}; the run counts as"
                f" not stored, and is made again when it is asked for. If it was changed on purpose, register"
                f" it anew: store.register(params, path)",
                DamageWarning,
                stacklevel=caller_level(),
            )
        return bool(wrong)

    # --- runs --------------------------------------------------------------------------------------------------

    def _one(self, params: Any, runner: Runner, metadata: Mapping[str, Any], *, record: bool) -> Any:
        job = self.job(0, params)
        found = self._stored(job, runner)
        return self._made_or_failed(job, runner, metadata, record=record) if found is None else found

    def _made_or_failed(self, job: Job, runner: Any, metadata: Mapping[str, Any], *, record: bool) -> Any:
        """Make a run, or wait for whoever makes it; return its failure where that is wanted."""
        try:
            return self._made(job, runner, metadata)
        except Exception as error:
            if not record or isinstance(getattr(error, "output", None), RunRecord):
                raise  # the index failed, not the run
            return self.failed(job, error)

    def failed(self, job: Job, error: BaseException) -> RunFailure:
        """Keep a failure.

        Parameters
        ----------
        job : Job
            The run.
        error : BaseException
            Why it failed.

        Returns
        -------
        RunFailure
            The failure, also where it cannot be kept.
        """
        failure = RunFailure.of(error, from_json(job.exact), job.params_hash)
        try:
            return results.save_failure(self.results_dir, failure)
        except OSError:  # a full disk: the caller still has it
            return failure

    def _made(self, job: Job, runner: Any, metadata: Mapping[str, Any]) -> RunRecord:
        """Make a run that nobody else makes, or wait for whoever makes it."""
        check_not_inside(self.results_dir, job)
        wait = _FIRST_WAIT
        while (lease := self.claim(job)) is None:
            while not results.claims(self.results_dir).is_free(job.params_hash):
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
        try:
            with lease:
                found = self._stored(job, runner)
                if found is None and self.recovered(job):
                    found = self._stored(job, runner)
                if found is None:
                    work = self._work(runner, metadata)
                    found = work.carry_out(job, lambda record: self._replaced(job, record))
        finally:
            results.sweep_up(self.results_dir)
        return found

    def claim(self, job: Job) -> Lease | None:
        """Claim a run for this process.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        Lease or None
            None where another thread or process makes it.
        """
        return results.claims(self.results_dir).claim(job.params_hash)

    def _work(self, runner: Any, metadata: Mapping[str, Any], *, again: bool = False) -> RunWork:
        if self._cleared != os.getpid():
            self._cleared = os.getpid()
            self._recover_quietly()
        return RunWork(self.results_dir, self.file_suffix, runner, metadata, again=again)

    def keep(self, record: RunRecord) -> RunRecord:
        """Insert the record of a result that lies at its final place.

        Parameters
        ----------
        record : RunRecord
            Its path is absolute.

        Returns
        -------
        RunRecord
            The same.

        Raises
        ------
        StoreError
            Where the index failed; the record is in ``.output``.
        """
        path = record.result_path
        relative = path.relative_to(self.results_dir) if path.is_relative_to(self.results_dir) else path
        noted = path.parent == self.results_dir
        try:
            self.index.insert(replace(record, result_path=relative))
        except Exception as error:
            failed = StoreError(
                getattr(error, "errno", None) or 5,
                f"the result {str(path)!r} is stored, but its record is not ({type(error).__name__}: {error});"
                f" when the index can be written again, the next run records it, and so does"
                f" {'store.recover()' if noted else f'store.register(params, {str(path)!r})'}",
            )
            failed.output = record
            raise failed from error
        if noted:
            results.drop_note(self.results_dir, path)
        results.drop_failure(self.results_dir, record.params_hash)
        return record

    def _replaced(self, job: Job, record: RunRecord) -> RunRecord:
        """Insert a record, and forget those of the same params whose result is not there any more."""
        dead = [each for each in self._each(job) if self._is_gone(self._here(each))]
        kept = self.keep(record)
        if isinstance(self.index, RunIndex):
            for each in dead:
                self.index.discard(each)
        return kept

    def _is_gone(self, record: RunRecord) -> bool:
        try:
            return bool(results.what_is_wrong(record.result_path, record.file))
        except OSError:
            return False

    def _mapped(
        self,
        params_iter: Iterable[Any],
        runner: Runner,
        metadata: Mapping[str, Any],
        task_map: Any,
        *,
        record: bool,
    ) -> Iterator[RunRecord | RunFailure]:
        """Run many by a map."""
        from contextlib import closing

        from chunk_memo.maps.base import Lost

        work = self._work(runner, metadata)
        queue = RunQueue(_Keeper(self, runner, metadata, record), params_iter)
        try:
            while queue.has_work:
                queue.go_on()
                first = next(queue, None)
                if first is not None:
                    with closing(task_map.run(work, _with_first(first, queue))) as done:
                        for each in done:
                            if isinstance(each, Lost):
                                queue.lost(each.task, each.reason, each.deaths, each.timed_out)
                            else:
                                queue.took(each.task, each.result)
                            yield from queue.answers()
                yield from queue.answers(all_done=True)
        finally:
            work.keep_by_yourself(self.keep)
            queue.give_up()
            self._recover_quietly()  # what workers that were killed left behind
            results.sweep_up(self.results_dir)

    def _registered(self, thing: Any) -> tuple[Path, FileMark | None]:
        """Return where a result lies that is to be registered, and by what it is known again."""
        try:
            path = Path(os.path.abspath(thing))
        except TypeError:
            folder = getattr(thing, "path", None)
            if not isinstance(folder, Path) or not hasattr(thing, "cache_id"):
                raise SpecError(f"'result_path' must be a path or a ChunkCache, got {thing!r}") from None
            return folder.absolute(), None
        if not path.exists():
            raise FileNotFoundError(
                f"there is no result file {str(path)!r} to register; write it first, or let run_or_retrieve run"
                f" it"
            )
        return path, results.mark_of(path)


class _Keeper:
    """A store as the queue of a sweep sees it."""

    def __init__(self, store: Store, runner: Runner, metadata: Mapping[str, Any], record: bool) -> None:
        self._store, self._runner, self._metadata, self._record = store, runner, metadata, record
        self.job, self.claim, self.recovered = store.job, store.claim, store.recovered

    def stored(self, job: Job) -> RunRecord | None:
        return self._store._stored(job, self._runner)

    def keep(self, record: RunRecord) -> RunRecord:
        return self._store.keep(record)

    def make(self, job: Job) -> RunRecord | RunFailure:
        made: RunRecord | RunFailure = self._store._made_or_failed(
            job, self._runner, self._metadata, record=self._record
        )
        return made

    def failed(self, job: Job, error: BaseException) -> RunFailure | None:
        return self._store.failed(job, error) if self._record else None


def _summed_up(runs: Iterator[Any], runner: Any) -> Iterator[Any]:
    """Go through runs, and say in the end how many failed."""
    count = failed = 0
    for run in runs:
        count += 1
        failed += isinstance(run, RunFailure)
        yield run
    if failed:
        name = getattr(runner, "__qualname__", repr(runner))
        warnings.warn(
            f"{failed} of {count} runs of {name!r} failed; store.failures() lists them, and the next sweep makes"
            f" them again",
            FailureWarning,
            stacklevel=caller_level(),
        )


def _with_first(first: Job, queue: RunQueue) -> Iterator[Job]:
    return _Prepended(first, queue)


class _Prepended:
    """An iterator that gives one thing before another's, and like that one may go on after its end."""

    def __init__(self, first: Job, rest: Iterator[Job]) -> None:
        self._first: Job | None = first
        self._rest = rest

    def __iter__(self) -> _Prepended:
        return self

    def __next__(self) -> Job:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._rest)


def _checked_suffix(suffix: Any) -> str:
    if not isinstance(suffix, str) or any(char in suffix for char in "/\\\0"):
        raise SpecError(f"file_suffix must be text without '/', such as '.npy', got {suffix!r}")
    return suffix


def _index_at(db_path: Any, results_dir: Path) -> IndexBackend:
    if isinstance(db_path, str) and db_path.startswith("postgresql"):
        return PostgresIndex(db_path)
    try:
        path = Path(os.path.abspath(db_path))
    except TypeError:
        raise SpecError(
            f"db_path must be the path of a file, or a URL 'postgresql://…', got {db_path!r}; an object that"
            f" keeps records is given as index="
        ) from None
    if path.is_dir():
        raise SpecError(f"db_path {str(path)!r} is a folder; give the name of a file in it, such as 'runs.db'")
    if not is_json_index(path):
        return SQLiteIndex(path)
    digest, records = read_json_index(path, results_dir)
    index = SQLiteIndex(path.with_name(f"{path.name}.sqlite"))
    inside = [
        replace(each, result_path=each.result_path.relative_to(results_dir))
        if each.result_path.is_relative_to(results_dir)
        else each
        for each in records
    ]
    index.take_over(digest, inside)
    return index


def _make_root(path: Path) -> None:
    try:
        files.make_folder(path)
    except OSError as error:
        raise RootError(
            f"results_dir {str(path)!r} must be a folder that can be written to ({error.strerror}); give"
            f" another one"
        ) from error


def _checked(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata, refused before anything runs where it could not be stored."""
    to_jsonable(dict(metadata), "metadata")
    return dict(metadata)


def _compare(job: Job, record: RunRecord) -> None:
    """Refuse a record of other params."""
    try:
        if exact_json(record.params) == job.exact:
            return
    except (TypeError, ValueError):
        pass  # JSON does not hold all of it as it is
    if canonical_json(plain_params(record.params)) == canonical_json(plain_params(job.params)):
        return
    raise CollisionError(
        f"run {job.params_hash} is stored with the params {record.params!r}, and was asked for with"
        f" {job.params!r}, which have the same hash; neither is given for the other: add a param that tells"
        f" them apart"
    )


def _is_whole(run: RunRecord) -> bool:
    if run.file is None:
        return run.result_path.exists()
    return results.has_its_bytes(run.result_path, run.file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        files.remove(path)
