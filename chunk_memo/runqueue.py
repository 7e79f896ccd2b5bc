"""Many runs by a map: which are stored, which are given out, which another process makes; answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from chunk_memo.disk.leases import Lease
from chunk_memo.errors import ChunkLostError, ChunkTimeoutError
from chunk_memo.runs import RunFailure, RunRecord
from chunk_memo.runwork import Job, Made

__all__ = ["Keeper", "RunQueue"]

_AHEAD = 1000
"""So many runs that need no worker are looked up before the caller gets one of them."""
_MOST_DEATHS = 2
"""A run that ended so many workers is given up."""


class Keeper(Protocol):
    """What the queue needs of a store."""

    def job(self, number: int, params: Any) -> Job:
        """Return a run that is to be made or found.

        Parameters
        ----------
        number : int
            Its place among others.
        params : mapping
            The params.

        Returns
        -------
        Job
            The run.
        """

    def stored(self, job: Job) -> RunRecord | None:
        """Return the record of a run, if its result is whole.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        RunRecord or None
            None where there is none.
        """

    def claim(self, job: Job) -> Lease | None:
        """Claim a run for this process.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        Lease or None
            None where another one makes it.
        """

    def recovered(self, job: Job) -> bool:
        """Record what a worker that was killed wrote of a run that this process has claimed.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        bool
            Whether there was anything.
        """

    def keep(self, record: RunRecord) -> RunRecord:
        """Insert a record.

        Parameters
        ----------
        record : RunRecord
            Its path is absolute.

        Returns
        -------
        RunRecord
            The same.
        """

    def make(self, job: Job) -> RunRecord | RunFailure:
        """Wait for another process that makes a run, or make it here.

        Parameters
        ----------
        job : Job
            The run.

        Returns
        -------
        RunRecord or RunFailure
            Its record, or its failure.
        """

    def failed(self, job: Job, error: BaseException) -> RunFailure | None:
        """Keep the failure of a run, where failures do not end the sweep.

        Parameters
        ----------
        job : Job
            The run.
        error : BaseException
            Why it failed.

        Returns
        -------
        RunFailure or None
            The failure; None where the error is to be raised.
        """


class RunQueue:
    """The runs of one sweep; an iterator over those that workers shall make.

    It ends when there is nothing to give out at the moment, and may give more after :meth:`go_on`.

    Parameters
    ----------
    keeper : Keeper
        The store.
    source : iterable
        Params, as many as there are; taken as workers become free.
    """

    def __init__(self, keeper: Keeper, source: Iterable[Any]) -> None:
        self._keeper = keeper
        self._source = iter(source)
        self._asked = 0
        """How many params were taken."""
        self._given = 0
        """How many records the caller has."""
        self._records: dict[int, RunRecord | RunFailure] = {}
        self._errors: dict[int, BaseException] = {}
        self._elsewhere: dict[int, Job] = {}
        self._under_way: dict[str, list[int]] = {}
        """Hash to the places that wait for it."""
        self._leases: dict[str, Lease] = {}
        self._again: deque[Job] = deque()
        self._deaths: dict[str, int] = {}
        self._is_over = False
        self._is_paused = False

    @property
    def has_work(self) -> bool:
        """Whether params are left, or runs have to be given out again."""
        return not self._is_over or bool(self._again)

    def go_on(self) -> None:
        """Look at further params, after so many that needed no worker."""
        self._is_paused = False

    def __iter__(self) -> Iterator[Job]:
        """Return itself."""
        return self

    def __next__(self) -> Job:
        """Return the next run that a worker shall make."""
        if self._again:
            return self._again.popleft()
        for _ in range(_AHEAD):
            if self._is_over or self._is_paused:
                raise StopIteration
            job = self._taken()
            if job is not None:
                return job
        self._is_paused = True
        raise StopIteration

    def _taken(self) -> Job | None:
        """Take the next params; return them as a run if a worker shall make it."""
        number = self._asked
        try:
            params = next(self._source)
        except StopIteration:
            self._is_over = True
            return None
        except Exception as error:
            self._fail(number, error)
            return None
        self._asked += 1
        lease = None
        try:
            job = self._keeper.job(number, params)
            if job.params_hash in self._under_way:
                self._under_way[job.params_hash].append(number)
                return None
            record = self._keeper.stored(job)
            if record is None:
                lease = self._keeper.claim(job)
                if lease is not None:
                    self._keeper.recovered(job)
                    record = self._keeper.stored(job)
        except Exception as error:
            if lease is not None:
                lease.release()
            self._fail(number, error)
            return None
        if record is not None:
            self._records[number] = record
            if lease is not None:
                lease.release()
            return None
        if lease is None:
            self._elsewhere[number] = job
            return None
        self._leases[job.params_hash] = lease
        self._under_way[job.params_hash] = [number]
        return job

    def _fail(self, number: int, error: BaseException) -> None:
        """Take nothing more; the error is raised when it is its turn."""
        self._errors[number] = error
        self._is_over = True
        for job in self._again:
            self._end(job)
        self._again.clear()

    def took(self, job: Job, made: Made) -> None:
        """Note how a run ended.

        Parameters
        ----------
        job : Job
            The run.
        made : Made
            What came of it.
        """
        error = made.error
        record: RunRecord | RunFailure | None = None
        if error is not None:
            record = self._keeper.failed(job, error)
        elif made.record is not None:
            try:
                record = self._keeper.keep(made.record)
            except Exception as failed:
                error = failed
        places = self._end(job)
        if record is not None:
            self._records.update(dict.fromkeys(places, record))
        else:
            for number in places:
                self._fail(number, error or RuntimeError(f"{job} came back without a record"))

    def lost(self, job: Job, reason: str, deaths: int, timed_out: bool) -> None:
        """Give out a run again whose worker ended before its result was there, or give it up.

        Parameters
        ----------
        job : Job
            The run.
        reason : str
            How the worker ended.
        deaths : int
            How many workers it cost.
        timed_out : bool
            Whether it took too long.
        """
        record = self._keeper.stored(job) if self._keeper.recovered(job) else None
        if record is not None:
            self._records.update(dict.fromkeys(self._end(job), record))
            return
        total = self._deaths[job.params_hash] = self._deaths.get(job.params_hash, 0) + deaths
        if total < _MOST_DEATHS and not timed_out and not self._errors:
            self._again.append(job)
            return
        kind = ChunkTimeoutError if timed_out else ChunkLostError
        error = kind(
            f"{reason} while it made {job} of {job.params!r}; other runs are kept: look at it by running it alone"
        )
        failure = self._keeper.failed(job, error)
        for number in self._end(job):
            if failure is None:
                self._fail(number, error)
            else:
                self._records[number] = failure

    def _end(self, job: Job) -> list[int]:
        lease = self._leases.pop(job.params_hash, None)
        if lease is not None:
            lease.release()
        return self._under_way.pop(job.params_hash, [])

    def answers(self, *, all_done: bool = False) -> Iterator[RunRecord | RunFailure]:
        """Yield the records whose turn it is, or failures in their places.

        Parameters
        ----------
        all_done : bool, default False
            Whether no worker is at work, so that runs of other processes can be waited for.

        Yields
        ------
        RunRecord or RunFailure
            In the order of the params.
        """
        while True:
            number = self._given
            if number in self._elsewhere:
                if not all_done:
                    return
                record = self._keeper.make(self._elsewhere.pop(number))
            elif number in self._records:
                record = self._records.pop(number)
            elif number in self._errors and not self._under_way:
                raise self._errors[number]
            else:
                return
            self._given += 1
            yield record

    def give_up(self) -> None:
        """Give up what is claimed."""
        for lease in self._leases.values():
            lease.release()
        self._leases.clear()
