"""Carries out one whole run: calls the runner, commits what it wrote; knows no index.

It travels to other processes, and only a small :class:`Made` comes back: the result itself lies on disk by then.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chunk_memo import travel
from chunk_memo.disk import results
from chunk_memo.errors import OutputError, SignatureError, SpecError
from chunk_memo.provenance import surroundings
from chunk_memo.runparams import from_json
from chunk_memo.runs import FileMark, RunRecord

__all__ = ["Job", "Made", "RunWork", "Runner", "check_not_inside", "check_runner", "is_sweep"]

Runner = Callable[[dict[str, Any], Path], Any]
"""What runs: ``(params, result_path) -> None``; it writes its result to the path."""

_running = threading.local()


@dataclass(frozen=True, slots=True)
class Job:
    """One run that is to be made."""

    number: int
    """Its place among those asked for."""
    params: dict[str, Any]
    """The params as the caller gave them."""
    params_hash: str
    """Their hash."""
    exact: str
    """Their exact JSON, which is what the record keeps."""

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"run {self.params_hash}"


@dataclass(frozen=True, slots=True)
class Made:
    """How a run ended."""

    record: RunRecord | None
    """What is to be inserted, its path absolute; None where the run failed."""
    error: BaseException | None = None
    """Why it failed."""


def check_runner(runner: Any) -> None:
    """Refuse what cannot be a runner before anything is run.

    Parameters
    ----------
    runner : object
        What was given.

    Raises
    ------
    SpecError
        Where it cannot be called.
    SignatureError
        Where calling it would not run it: async and generator functions.
    """
    if not callable(runner):
        raise SpecError(f"'runner' must be a function (params, result_path), got {runner!r}")
    for kind, is_one in (("async", inspect.iscoroutinefunction), ("a generator", inspect.isgeneratorfunction)):
        if is_one(runner):
            raise SignatureError(
                f"{_named(runner)!r} is {kind} function, and calling it runs nothing; give a runner that does"
                f" its work and writes to result_path before it returns"
            )


def is_sweep(runner: Any) -> bool:
    """Tell whether a runner is a function that ``memo.cache()`` decorated.

    Parameters
    ----------
    runner : object
        A runner.

    Returns
    -------
    bool
        Whether it keeps its results itself.
    """
    return callable(getattr(runner, "cache_for", None)) and callable(getattr(runner, "plan", None))


def check_not_inside(results_dir: Path, job: Job) -> None:
    """Refuse a run that is asked for by the runner that makes it, which would wait for itself.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie.
    job : Job
        The run.

    Raises
    ------
    SpecError
        Where this thread is making it.
    """
    if (results_dir, job.params_hash) in _made_here():
        raise SpecError(
            f"a runner asked for {job} of {str(results_dir)!r}, which it is making itself; give the inner call"
            f" other params"
        )


def _made_here() -> set[tuple[Path, str]]:
    """Return the runs that this thread is making."""
    made: set[tuple[Path, str]] = _running.__dict__.setdefault("runs", set())
    return made


class RunWork:
    """What is done for each run, here or in another process.

    Parameters
    ----------
    results_dir : pathlib.Path
        Where results lie; absolute.
    suffix : str
        The suffix of result files.
    runner : callable
        What runs.
    metadata : mapping
        The caller's keywords.
    again : bool
        Whether a decorated function shall compute what it has stored.
    """

    def __init__(
        self, results_dir: Path, suffix: str, runner: Any, metadata: Mapping[str, Any], *, again: bool = False
    ) -> None:
        self._results_dir = results_dir
        self._suffix = suffix
        self._runner = runner
        self._metadata = dict(metadata)
        self._again = again
        self._keep: Callable[[RunRecord], Any] | None = None

    def __call__(self, job: Job) -> Made:
        """Carry out a run; what it raises comes back, so that one bad run does not end the map."""
        try:
            made = Made(self.carry_out(job))
            if self._keep is not None and made.record is not None:
                self._keep(made.record)
            return made
        except Exception as error:
            return Made(None, _portable(error))

    def keep_by_yourself(self, keep: Callable[[RunRecord], Any]) -> None:
        """Let threads that cannot be ended insert what they finish after nobody waits for it any more.

        Parameters
        ----------
        keep : callable
            Inserts a record.
        """
        self._keep = keep

    def __getstate__(self) -> bytes:
        """Return what travels: the runner by value where it cannot be imported."""
        return travel.packed({**self.__dict__, "_keep": None})

    def __setstate__(self, data: bytes) -> None:
        self.__dict__.update(travel.unpacked(data))

    def carry_out(self, job: Job, keep: Callable[[RunRecord], RunRecord] = lambda record: record) -> RunRecord:
        """Run, and commit what was written.

        Parameters
        ----------
        job : Job
            The run.
        keep : callable, optional
            Inserts the record while this run still counts as alive, so that nobody else does.

        Returns
        -------
        RunRecord
            What is to be inserted; its path is absolute.

        Raises
        ------
        OutputError
            Where the runner wrote nothing; what it returned is in ``.output``.
        SpecError
            Where the runner asks for the very run that it is making.
        """
        check_not_inside(self._results_dir, job)
        running = _made_here()
        running.add((self._results_dir, job.params_hash))
        try:
            return keep(self._swept(job)) if is_sweep(self._runner) else self._written(job, keep)
        except BaseException as error:
            if not isinstance(getattr(error, "output", None), RunRecord):
                error.add_note(
                    f"while {_named(self._runner)!r} made {job} of {self._results_dir}; nothing was recorded"
                )
            raise
        finally:
            running.discard((self._results_dir, job.params_hash))

    def _written(self, job: Job, keep: Callable[[RunRecord], RunRecord]) -> RunRecord:
        with results.workplace(self._results_dir, job.params_hash, self._suffix) as place:
            given = copy.deepcopy(job.params)  # whatever the runner does to it
            started = time.perf_counter()
            returned = self._runner(given, place.path)
            seconds = time.perf_counter() - started
            if not place.written():
                raise self._nothing(returned)
            return keep(place.commit(lambda path, mark: self._record(job, path, mark, seconds, {})))

    def _nothing(self, returned: Any) -> OutputError:
        error = OutputError(
            f"the runner {_named(self._runner)!r} returned {type(returned).__name__} and wrote nothing; it must"
            f" write its result to the result_path that it is given. What it returned is in .output"
        )
        error.output = returned
        return error

    def _swept(self, job: Job) -> RunRecord:
        started = time.perf_counter()
        options = {"refresh": True} if self._again else {}
        returned = self._runner(**copy.deepcopy(job.params), **options)
        seconds = time.perf_counter() - started
        done = returned[1] if isinstance(returned, tuple) else returned
        cache = self._runner.cache_for(**job.params)
        more = {
            "cache_id": cache.cache_id,
            "executed_points": done.executed_points,
            "cached_points": done.cached_points,
        }
        return self._record(job, Path(cache.path).absolute(), None, seconds, more)

    def _record(
        self, job: Job, path: Path, mark: FileMark | None, seconds: float, more: Mapping[str, Any]
    ) -> RunRecord:
        known = {"elapsed_seconds": round(seconds, 6), **surroundings(self._runner), **more}
        return RunRecord(
            params=from_json(job.exact),
            result_path=path,
            params_hash=job.params_hash,
            created_at=datetime.now(UTC).isoformat(),
            metadata={**known, **self._metadata},
            file=mark,
        )


def _named(runner: Any) -> str:
    return str(getattr(runner, "__qualname__", None) or repr(runner))


def _portable(error: Exception) -> BaseException:
    """Return an error as it can travel."""
    try:
        copied: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        return plain
    return error if type(copied) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")
