"""The log of an experiment: lines for people, and a JSON document per event for programs.

::

    <output_dir>/
      {name}.log                 2026-11-24 09:30:00+00:00 - experiment.{name} - INFO - Progress: 100/1000 (10.0%)
      {name}_structured.jsonl    {"timestamp": …, "event_type": "progress", "data": {"iteration": 100, …}}

Both are written by handlers of the standard library's :mod:`logging`, on a logger that hangs below no other: the
root logger is neither used nor changed. A line reaches the system in one write, so a kill costs at most the last
one, and readers pass over it. Times are UTC.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import logging
import logging.handlers
import os
import platform
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from chunk_memo.disk import files
from chunk_memo.errors import (
    ChunkFormatError,
    ChunkMemoError,
    ChunkMemoWarning,
    DamageWarning,
    SpecError,
    caller_level,
)
from chunk_memo.events import ChunkDone, ChunkFound, ChunkLost, Event, PointFailed, RunFinished, RunStarted
from chunk_memo.plainjson import NON_FINITE, NumpyEncoder, now_text, plain, unmarked

__all__ = ["ExperimentLogger", "analyze_logs", "create_experiment_logger", "load_structured_logs"]

_PathLike = str | os.PathLike[str]

_BUFFER = 1 << 20
"""Bytes of a line that are surely written at once."""

_TEXT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
_TORN = "torn_line"
"""The event that holds what a kill left of a line."""

_STATUSES = ("completed", "failed", "interrupted")
_unfinished: set[ExperimentLogger] = set()
"""Loggers of this process that are to be finalized at its end."""


# --- handlers ----------------------------------------------------------------------------------------------


class _LineFile(logging.handlers.RotatingFileHandler):
    """A file to which lines are appended, each in one write; what cannot be written is told once."""

    def __init__(self, path: Path, max_bytes: int, backups: int, mend: Callable[[str], None]) -> None:
        self._told = False
        self._mend = mend
        self.closes = False
        """Whether the file is closed after each line, as once the experiment has ended."""
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True)

    def _open(self) -> Any:
        if _ends_torn(self.baseFilename):
            self._mend(self.baseFilename)
        return open(
            self.baseFilename, "a", buffering=_BUFFER, encoding="utf-8", errors="backslashreplace", newline="\n"
        )

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if self.closes:
            self.let_go()

    def let_go(self) -> None:
        """Close the file; the next line opens it again."""
        with self.lock or contextlib.nullcontext():
            if self.stream is not None:
                stream, self.stream = self.stream, None
                with contextlib.suppress(OSError):
                    stream.close()

    def sync(self) -> None:
        """Put what was written onto the disk."""
        with self.lock or contextlib.nullcontext():
            if self.stream is not None:
                with contextlib.suppress(OSError):
                    self.stream.flush()
                    os.fsync(self.stream.fileno())

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn once: the experiment goes on, but nobody shall believe that its log is whole."""
        error = sys.exc_info()[1]
        if not self._told:
            self._told = True
            warnings.warn(
                f"'{self.baseFilename}': a line of the log could not be written: {error}; the experiment goes on,"
                " and later lines are tried",
                ChunkMemoWarning,
                stacklevel=2,
            )


def _ends_torn(path: str) -> bool:
    """Tell whether a file's last line was left unfinished, as by a kill."""
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # not there, or empty
        return False


def _end_line(path: str) -> None:
    """End the last line of a file."""
    with open(path, "ab") as file:
        file.write(b"\n")


def _keep_torn(path: str) -> None:
    """Put the torn last line of a file into an event of its own, so that every line of the file is JSON."""
    with open(path, "r+b") as file:
        at = file.seek(0, os.SEEK_END)
        tail = b""
        while at and b"\n" not in tail:
            step = min(at, _BUFFER)
            at = file.seek(at - step)
            tail = file.read(step) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        if _parsed(torn) is not None:  # only the end of the line is missing
            torn, event = b"", b""
        else:
            data = {"text": torn.decode("utf-8", "backslashreplace")}
            event = json.dumps({"timestamp": now_text(), "event_type": _TORN, "data": data}).encode("ascii")
        file.seek(-len(torn), os.SEEK_END)
        file.write(event + b"\n")


class _Console(logging.StreamHandler[TextIO]):
    """Standard error, whichever that is at the moment, as in notebooks and tests."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        pass


class _TextFormatter(logging.Formatter):
    """Formats lines for people: UTC, and lines that go on are indented, so that none can be forged."""

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format = "%Y-%m-%d %H:%M:%S+00:00"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        lines = re.split(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", super().format(record))
        return "\n    ".join(lines)


class _JsonFormatter(logging.Formatter):
    """Formats the event of a record as one line of standard JSON."""

    def __init__(self, non_finite: str, encoder: type[NumpyEncoder]) -> None:
        super().__init__()
        self._non_finite = non_finite
        self._encoder = encoder()

    def format(self, record: logging.LogRecord) -> str:
        kind, data = vars(record)["event"]
        line: dict[str, Any] = {"timestamp": now_text(), "event_type": kind, "data": self._data(data)}
        if self._non_finite == "mark":
            line["non_finite"] = "mark"
        return json.dumps(line, allow_nan=False)

    def _data(self, data: Mapping[Any, Any]) -> Any:
        try:
            return plain(data, non_finite=self._non_finite, default=self._encoder.default)
        except ChunkMemoError:
            return self._lenient(data)

    def _lenient(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """Return what JSON can say of data, member by member: a log must not end an experiment."""
        said: dict[str, Any] = {}
        for key, member in data.items():
            text = str(key)
            while text in said:
                text += "'"
            said[text] = self._member(member)
        return said

    def _member(self, member: Any) -> Any:
        try:
            return plain(member, non_finite=self._non_finite, default=self._encoder.default)
        except ChunkMemoError:
            return self._lenient(member) if isinstance(member, Mapping) else _shown(member)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:1000]
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


# --- the logger --------------------------------------------------------------------------------------------


class ExperimentLogger:
    """Writes the log of an experiment: a text file, a file of JSON lines, and the console.

    It is a context manager, which finalizes as completed, failed or interrupted, and an observer of runs: pass
    it in ``observers=[logger]``. A logger that nobody finalized is finalized when the program ends. NumPy
    values, paths, dates and the like are accepted everywhere; what JSON cannot say at all is logged as its
    ``repr``. A logger that is pickled goes on in the other process, which appends to the same files and
    finalizes nothing.

    Parameters
    ----------
    experiment_name : str
        What the files' names begin with.
    output_dir : path-like
        The folder; it is made if need be. Files that are there are appended to.
    log_to_file : bool, default True
        Whether to write the text log.
    log_to_console : bool, default True
        Whether to write to standard error.
    level : int, default logging.INFO
        The least level of messages; what the ``log_*`` methods are given goes to the JSON lines at any level.
    structured : bool, default True
        Whether to write the JSON lines.
    max_bytes : int, default 0
        Length in bytes at which a file is renamed to ``….1``, what was ``….1`` to ``….2``, and so on; 0 for
        never. Only one process may write then.
    backups : int, default 5
        How many renamed files are kept.
    non_finite : {"null", "mark"}
        What stands for NaN and the infinities in the JSON lines: ``null``, or strings such as ``"@nan"``, from
        which :func:`load_structured_logs` makes them again.
    encoder : type, default NumpyEncoder
        A subclass for types of one's own.

    Raises
    ------
    SpecError
        For a name that cannot begin a file's name, and for counts that cannot be.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with ExperimentLogger("exp001", folder, log_to_console=False) as logger:
    ...     logger.log_config({"samples": np.int64(512)})
    ...     logger.log_progress(100, 1000, {"loss": 0.5})
    >>> print((folder / "exp001.log").read_text().splitlines()[-2].partition(" - ")[2])
    experiment.exp001 - INFO - Progress: 100/1000 (10.0%) | loss=0.5000
    >>> [event["event_type"] for event in load_structured_logs(folder / "exp001_structured.jsonl")]
    ['experiment_start', 'config', 'progress', 'experiment_end']
    """

    def __init__(
        self,
        experiment_name: str,
        output_dir: _PathLike,
        log_to_file: bool = True,
        log_to_console: bool = True,
        level: int = logging.INFO,
        *,
        structured: bool = True,
        max_bytes: int = 0,
        backups: int = 5,
        non_finite: str = "null",
        encoder: type[NumpyEncoder] = NumpyEncoder,
    ) -> None:
        counts: dict[str, Any] = {"max_bytes": max_bytes, "backups": backups}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SpecError(f"{name!r}: expected an int of 0 or more, got {value!r}")
        if max_bytes and not backups:
            raise SpecError("'backups': expected 1 or more where files are renamed, got 0: lines would be lost")
        if non_finite not in NON_FINITE:
            raise SpecError(f"'non_finite': expected one of {list(NON_FINITE)}, got {non_finite!r}")
        self.experiment_name = files.file_stem(experiment_name, "experiment_name")
        self.output_dir = Path(output_dir)
        self._settings = {
            "log_to_file": log_to_file,
            "log_to_console": log_to_console,
            "level": level,
            "structured": structured,
            "max_bytes": max_bytes,
            "backups": backups,
            "non_finite": non_finite,
            "encoder": encoder,
        }
        self._set_up(owner=True)
        self._pid: int | None = os.getpid()
        self._event(
            "experiment_start",
            {
                "experiment_name": experiment_name,
                "pid": self._pid,
                "host": platform.node(),
                "python": platform.python_version(),
            },
        )
        _unfinished.add(self)

    def _set_up(self, *, owner: bool) -> None:
        chosen: dict[str, Any] = self._settings
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._started = time.monotonic()
        self._status: str | None = None
        self._runs: dict[int, str] = {}
        self.logger = logging.Logger(f"experiment.{self.experiment_name}", chosen["level"])
        self._files: list[_LineFile] = []
        self._lines: _LineFile | None = None
        if chosen["log_to_file"]:
            text = self._file(self.log_path, _end_line)
            text.setFormatter(_TextFormatter(_TEXT))
            self.logger.addHandler(text)
        if chosen["log_to_console"]:
            console = _Console()
            console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
            self.logger.addHandler(console)
        if chosen["structured"]:
            # A process that goes on with another's log must not touch the lines that others write just now.
            self._lines = self._file(self.structured_path, _keep_torn if owner else _end_line)
            self._lines.setFormatter(_JsonFormatter(chosen["non_finite"], chosen["encoder"]))

    def _file(self, path: Path, mend: Callable[[str], None]) -> _LineFile:
        chosen: dict[str, Any] = self._settings
        made = _LineFile(path, chosen["max_bytes"], chosen["backups"], mend)
        self._files.append(made)
        return made

    @property
    def log_path(self) -> Path:
        """The text log."""
        return self.output_dir / f"{self.experiment_name}.log"

    @property
    def structured_path(self) -> Path:
        """The file of JSON lines."""
        return self.output_dir / f"{self.experiment_name}_structured.jsonl"

    def __repr__(self) -> str:
        """Return its name and folder."""
        return f"ExperimentLogger({self.experiment_name!r}, {str(self.output_dir)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process."""
        return {
            "experiment_name": self.experiment_name,
            "output_dir": self.output_dir.absolute(),
            "_settings": self._settings,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on in another process."""
        self.__dict__.update(state)
        self._pid = None
        self._set_up(owner=False)

    # --- events ---

    def _event(self, kind: str, data: Mapping[Any, Any], level: int = logging.INFO) -> None:
        """Write a line of JSON."""
        if self._lines is not None:
            record = logging.LogRecord(self.logger.name, level, __file__, 0, kind, None, None)
            vars(record)["event"] = kind, data
            self._lines.handle(record)

    def log_event(
        self, event_type: str, data: Mapping[str, Any] | None = None, level: int = logging.INFO
    ) -> None:
        """Log an event of a kind of one's own.

        Parameters
        ----------
        event_type : str
            The kind.
        data : mapping, optional
            What there is to say.
        level : int, default logging.INFO
            The level of the line for people.
        """
        known = _mapping(data)
        self._event(event_type, known, level)
        said = f" | {_pairs(known)}" if known else ""
        self.logger.log(level, "%s%s", event_type, said)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log the configuration.

        Parameters
        ----------
        config : mapping
            Names and values.
        """
        known = _mapping(config)
        self._event("config", known)
        self.logger.info("Experiment configuration:")
        for name, value in known.items():
            self.logger.info("  %s: %s", name, _text(value))

    def log_progress(
        self, iteration: int, total: int | None = None, metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Log how far the experiment is.

        Parameters
        ----------
        iteration : int
            The iteration that is done.
        total : int, optional
            How many there will be.
        metrics : mapping, optional
            Figures of this moment.
        """
        known = _mapping(metrics)
        share = 100.0 * float(iteration) / float(total) if total else None
        data = {"iteration": iteration, "total": total, "progress_pct": share, "metrics": known}
        self._event("progress", data)
        of = f"/{total}" if total is not None else ""
        percent = f" ({share:.1f}%)" if share is not None else ""
        figures = f" | {_pairs(known)}" if known else ""
        self.logger.info("Progress: %s%s%s%s", iteration, of, percent, figures)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log figures.

        Parameters
        ----------
        metrics : mapping
            Names and values.
        step : int, optional
            The step that they belong to.
        """
        known = _mapping(metrics)
        self._event("metrics", {"step": step, "metrics": known})
        self.logger.info("Metrics%s: %s", "" if step is None else f" (step {step})", _pairs(known))

    def log_result(self, result: Mapping[str, Any]) -> None:
        """Log a result.

        Parameters
        ----------
        result : mapping
            Names and values.
        """
        known = _mapping(result)
        self._event("result", known)
        self.logger.info("Result: %s", _pairs(known, 6))

    def log_error(self, error: BaseException, context: Mapping[str, Any] | None = None) -> None:
        """Log an exception, with its traceback.

        Parameters
        ----------
        error : BaseException
            The exception.
        context : mapping, optional
            Where the experiment was.
        """
        known = _mapping(context)
        lines = traceback.format_exception(error)
        data = {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "context": known,
            "traceback": "".join(lines),
        }
        self._event("error", data, logging.ERROR)
        where = f" | {_pairs(known)}" if known else ""
        self.logger.error("%s: %s%s\n%s", type(error).__name__, error, where, "".join(lines).rstrip())

    def log_checkpoint(self, checkpoint_info: Mapping[str, Any] | _PathLike) -> None:
        """Log that a checkpoint was saved.

        Parameters
        ----------
        checkpoint_info : mapping or path-like
            What there is to say of it, or its file.
        """
        if isinstance(checkpoint_info, str | os.PathLike):
            checkpoint_info = {"path": os.fspath(checkpoint_info)}
        known = _mapping(checkpoint_info)
        self._event("checkpoint", known)
        self.logger.info("Checkpoint: %s", _pairs(known))

    # --- messages ---

    def debug(self, message: object, *args: object) -> None:
        """Log a message for those who look for an error.

        Parameters
        ----------
        message : object
            The message, which may have ``%s`` in it.
        *args : object
            What stands in their place.
        """
        self._message(logging.DEBUG, message, args)

    def info(self, message: object, *args: object) -> None:
        """Log a message.

        Parameters
        ----------
        message : object
            The message, which may have ``%s`` in it.
        *args : object
            What stands in their place.
        """
        self._message(logging.INFO, message, args)

    def warning(self, message: object, *args: object) -> None:
        """Log a warning.

        Parameters
        ----------
        message : object
            The message, which may have ``%s`` in it.
        *args : object
            What stands in their place.
        """
        self._message(logging.WARNING, message, args)

    def error(self, message: object, *args: object) -> None:
        """Log that something went wrong.

        Parameters
        ----------
        message : object
            The message, which may have ``%s`` in it.
        *args : object
            What stands in their place.
        """
        self._message(logging.ERROR, message, args)

    def _message(self, level: int, message: object, args: tuple[object, ...]) -> None:
        if not self.logger.isEnabledFor(level):
            return
        text = str(message)
        if args:
            try:
                text = text % args
            except (TypeError, ValueError):
                text = f"{text} {args!r}"
        self._event("message", {"level": logging.getLevelName(level), "message": text}, level)
        self.logger.log(level, "%s", text)

    # --- runs ---

    def __call__(self, event: Event, /) -> None:
        """Log an event of a run."""
        thread = threading.get_ident()
        if isinstance(event, RunStarted):
            self._runs[thread] = event.name
        name = self._runs.get(thread, "")
        kind, level, said = _told(event, name)
        data = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        self._event(kind, {"name": name, **data}, level)
        self.logger.log(level, "%s", said)

    # --- the end ---

    def finalize(self, final_status: str = "completed") -> None:
        """Say how the experiment ended, put the log onto the disk, and close the files.

        A second call changes nothing. What is logged afterwards is still written.

        Parameters
        ----------
        final_status : str, default "completed"
            ``"completed"``, ``"failed"`` or ``"interrupted"``.

        Raises
        ------
        SpecError
            For another status.
        """
        if final_status not in _STATUSES:
            raise SpecError(f"'final_status': expected one of {list(_STATUSES)}, got {final_status!r}")
        _unfinished.discard(self)
        if self._status is not None:
            return
        self._status = final_status
        seconds = time.monotonic() - self._started
        self._event("experiment_end", {"status": final_status, "duration_seconds": seconds})
        self.logger.info("Experiment %s after %.1f s", final_status, seconds)
        for file in self._files:
            file.sync()
            file.closes = True
            file.let_go()

    def flush(self) -> None:
        """Put what was logged so far onto the disk, so that a power cut cannot take it."""
        for file in self._files:
            file.sync()

    def __enter__(self) -> ExperimentLogger:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finalize as the block ended."""
        if error is None:
            self.finalize("completed")
        elif isinstance(error, Exception):
            if self._status is None:
                self.log_error(error)
            self.finalize("failed")
        else:
            self.finalize("interrupted")

    def _at_exit(self) -> None:
        if self._pid == os.getpid():
            raised = getattr(sys, "last_type", None)
            self.finalize("failed" if raised is not None and issubclass(raised, Exception) else "interrupted")


@atexit.register
def _finalize_all() -> None:
    for logger in list(_unfinished):
        logger._at_exit()


def _mapping(data: Any) -> dict[Any, Any]:
    """Return data as a dict, whatever they are: a log must not end an experiment."""
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return dict(data)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    if isinstance(data, tuple) and hasattr(data, "_asdict"):
        return dict(data._asdict())
    return {"value": data}


def _pairs(data: Mapping[Any, Any], digits: int = 4) -> str:
    return ", ".join(f"{name}={_text(value, digits)}" for name, value in data.items())


def _text(value: Any, digits: int | None = None) -> str:
    """Return a value for people: numbers to so many digits, arrays by their shape."""
    if isinstance(value, float | np.floating) and digits is not None:
        size = abs(float(value))
        return f"{value:.{digits}f}" if size == 0 or 10.0**-digits <= size < 1e9 else f"{value:.{digits}e}"
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"array of shape {value.shape}, {value.dtype}"
    if isinstance(value, np.generic | np.ndarray):
        return str(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, os.PathLike) else _shown(value)


def _told(event: Event, name: str) -> tuple[str, int, str]:
    """Return an event's kind, its level, and what people read."""
    what = name or "run"
    match event:
        case RunStarted():
            to_do = event.points - event.cached_points - event.left_out
            return "run_started", logging.INFO, f"{what}: {to_do} of {event.points} points to be computed"
        case ChunkDone():
            return "chunk_done", logging.DEBUG, f"{what}: {event.points} points done in {event.seconds:.3g} s"
        case ChunkFound():
            return "chunk_found", logging.DEBUG, f"{what}: {event.points} points found, stored by another process"
        case ChunkLost():
            return "chunk_lost", logging.WARNING, f"{what}: chunk {event.chunk_hash} lost: {event.reason}"
        case PointFailed():
            said = f"{type(event.error).__name__}: {event.error}"
            return (
                "point_failed",
                logging.WARNING,
                f"{what}: {event.points} points failed at {event.arguments}: {said}",
            )
        case RunFinished():
            how = "complete" if event.complete else "interrupted" if event.interrupted else "incomplete"
            level = logging.INFO if event.error is None else logging.ERROR
            failed = f", {event.failed_points} failed" if event.failed_points else ""
            said = f"{what}: {how} after {event.seconds:.3g} s, {event.executed_points} points computed{failed}"
            return "run_finished", level, said


def create_experiment_logger(
    experiment_name: str, output_dir: _PathLike, verbose: bool = False, **options: Any
) -> ExperimentLogger:
    """Return the logger of an experiment.

    Parameters
    ----------
    experiment_name : str
        What the files' names begin with.
    output_dir : path-like
        The folder.
    verbose : bool, default False
        Whether messages of the level DEBUG are logged, too.
    **options : object
        The other parameters of :class:`ExperimentLogger`.

    Returns
    -------
    ExperimentLogger
        The logger.

    Examples
    --------
    >>> import tempfile
    >>> logger = create_experiment_logger("exp001", tempfile.mkdtemp(), log_to_console=False)
    >>> logger.finalize("completed")
    """
    options.setdefault("level", logging.DEBUG if verbose else logging.INFO)
    return ExperimentLogger(experiment_name, output_dir, **options)


# --- reading -----------------------------------------------------------------------------------------------


def load_structured_logs(log_path: _PathLike, *, backups: bool = True) -> list[dict[str, Any]]:
    r"""Read the events of a file of JSON lines, and of those that it was renamed to before.

    A last line that a kill left unfinished is passed over, also where the log was gone on with later; other lines
    that are no events cost a warning.

    Parameters
    ----------
    log_path : path-like
        The file.
    backups : bool, default True
        Whether to read ``….1``, ``….2`` and so on first.

    Returns
    -------
    list of dict
        ``timestamp`` (ISO 8601), ``event_type`` and ``data`` of each event, the oldest first.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.

    Warns
    -----
    DamageWarning
        For lines that are damaged.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "exp_structured.jsonl"
    >>> _ = path.write_text('{"timestamp": "", "event_type": "config", "data": {}}\n{"timesta')
    >>> load_structured_logs(path)
    [{'timestamp': '', 'event_type': 'config', 'data': {}}]
    """
    return _read(Path(log_path), backups)[0]


def _read(path: Path, backups: bool) -> tuple[list[dict[str, Any]], int]:
    """Return the events, and the number of lines that are none."""
    if path.is_dir():
        raise ChunkFormatError(f"'{path}': expected a file of JSON lines, found a folder; name the file in it")
    events: list[dict[str, Any]] = []
    bad = 0
    for part in [*(_renamed(path) if backups else ()), path]:
        damaged: list[int] = []
        torn = 0
        for number, event in _numbered(part):
            if event is None:
                damaged.append(number)
                continue
            if event["event_type"] == _TORN:
                torn += 1
                continue
            if damaged and damaged[-1] == number - 1 and event["event_type"] == "experiment_start":
                torn += 1
                del damaged[-1]
            events.append(event)
        if damaged and _ends_torn(str(part)) and damaged[-1] == number:
            torn += 1
            del damaged[-1]
        bad += torn + len(damaged)
        if damaged:
            warnings.warn(
                f"'{part}': {len(damaged)} lines are no events and are passed over, the first of them line"
                f" {damaged[0]}",
                DamageWarning,
                stacklevel=caller_level(),
            )
    return events, bad


def _renamed(path: Path) -> list[Path]:
    """Return the files that a log was renamed to, the oldest first."""
    numbered = re.compile(re.escape(path.name) + r"\.(\d+)")
    found = [match for match in map(numbered.fullmatch, files.list_folder(path.parent)) if match]
    return [path.parent / match[0] for match in sorted(found, key=lambda match: -int(match[1]))]


def _numbered(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield number and event of each line that is not blank; None for one that is no event."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not {"timestamp", "event_type", "data"} <= event.keys():
        return None
    return unmarked(event) if event.pop("non_finite", None) == "mark" else event


def analyze_logs(log_path: _PathLike, *, backups: bool = True) -> dict[str, Any]:
    """Summarize a file of JSON lines.

    Parameters
    ----------
    log_path : path-like
        The file.
    backups : bool, default True
        Whether to read ``….1``, ``….2`` and so on first.

    Returns
    -------
    dict
        ``total_events``; ``event_counts`` by type; ``start_time`` and ``end_time`` of the first and the last
        event (ISO 8601; None without events); ``final_status`` of the last start of the experiment, None where
        it has not ended, or was killed; ``starts``, how often it was started; ``duration_seconds`` from the
        first event to the last; ``last_progress``, the data of the last such event, or None; ``errors``,
        counted by type; ``damaged_lines``, how many were passed over.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> with ExperimentLogger("exp", tempfile.mkdtemp(), log_to_console=False) as logger:
    ...     logger.log_progress(5, 10, {"loss": 0.25})
    >>> analysis = analyze_logs(logger.structured_path)
    >>> analysis["total_events"], analysis["final_status"], analysis["last_progress"]["metrics"]
    (3, 'completed', {'loss': 0.25})
    """
    events, bad = _read(Path(log_path), backups)
    counts = Counter(str(event["event_type"]) for event in events)
    times = [event["timestamp"] for event in events]
    return {
        "total_events": len(events),
        "event_counts": dict(counts),
        "start_time": times[0] if times else None,
        "end_time": times[-1] if times else None,
        "duration_seconds": _seconds(times),
        "final_status": _final_status(events),
        "starts": counts["experiment_start"],
        "last_progress": next((e["data"] for e in reversed(events) if e["event_type"] == "progress"), None),
        "errors": dict(Counter(str(_get(e, "error_type")) for e in events if e["event_type"] == "error")),
        "damaged_lines": bad,
    }


def _final_status(events: list[dict[str, Any]]) -> Any:
    for event in reversed(events):
        if event["event_type"] == "experiment_end":
            return _get(event, "status")
        if event["event_type"] == "experiment_start":
            return None
    return None


def _get(event: Mapping[str, Any], name: str) -> Any:
    return event["data"].get(name) if isinstance(event["data"], dict) else None


def _seconds(times: list[Any]) -> float | None:
    from datetime import datetime

    try:
        moments = [datetime.fromisoformat(times[at]) for at in (0, -1)]
        return (moments[1] - moments[0]).total_seconds()
    except (IndexError, ValueError, TypeError):
        return None
