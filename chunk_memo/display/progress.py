"""A progress bar that watches a run: one line in a terminal, a widget in a notebook, rare lines in a log.

It appears only where the work outlasts half a second, however long its first chunk takes, since the clock is
looked at by a :mod:`~chunk_memo.display.ticker` and not when a chunk is done. All drawing is the ticker's: what
happens in the run only moves counters. Of several runs at once the oldest has the line, and says how many others
there are. In a log a run writes one line per half minute, and none if it takes less.

The bar is tqdm's, of the kind that ``tqdm.auto`` would choose; that module itself is passed over, because it
warns where ipywidgets are missing, and changes the warning filters while the user's function runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, TextIO

from chunk_memo.display import ticker
from chunk_memo.display.meter import Meter, clock_text, duration_text, rate_text
from chunk_memo.events import Event, RunFinished, RunStarted

__all__ = ["ProgressBar", "bar_line", "log_line"]

DELAY = 0.5
"""Seconds of work before a bar appears."""

REDRAW = 0.25
"""Seconds from one drawing of a bar to the next."""

LOG_INTERVAL = 30.0
"""Seconds from one line in a log to the next."""

_RIGHT_MARGIN = 3
"""Columns left free, so that the ``^C`` that a terminal shows does not begin another line."""

_SHORTEST_BAR = 8


class ProgressBar:
    """An observer that shows points done, reused, failed and to do.

    Parameters
    ----------
    stream : file, optional
        Where it is shown; standard error by default.

    Examples
    --------
    >>> bar = ProgressBar()
    >>> bar(RunStarted("foo", "id", chunks=2, points=10, cached_points=4))
    >>> bar(RunFinished(seconds=0.1, complete=True))
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._meter: Meter | None = None
        self._face: _Face | None = None
        self._appointment: ticker.Appointment | None = None

    def __call__(self, event: Event, /) -> None:
        """Move the counters."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif self._meter is not None:
            self._meter.note(event)
            if isinstance(event, RunFinished):
                self._finish()

    def _start(self, event: RunStarted) -> None:
        stream = sys.stderr if self._stream is None else self._stream
        self._finish()
        if stream is None or _in_worker():
            return
        self._meter = Meter(event)
        self._face = _face(self._meter, stream)
        self._appointment = ticker.every(self._face.draw, self._face.delay, self._face.interval)

    def _finish(self) -> None:
        if self._appointment is not None and self._face is not None:
            self._appointment.cancel()
            self._face.close()
        self._meter = self._face = self._appointment = None


class _Face(Protocol):
    """Shows a meter."""

    delay: float
    interval: float

    def draw(self) -> None:
        """Show how things are."""

    def close(self) -> None:
        """Take away what was shown."""


def _face(meter: Meter, stream: TextIO) -> _Face:
    if _in_notebook():
        return _Bar(meter, stream, notebook=True)
    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):  # no real file, or closed
        terminal = False
    return _Bar(meter, stream, notebook=False) if terminal else _Log(meter, stream)


def _in_worker() -> bool:
    """Tell whether another process started this one to work for it; whose terminal it is then."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _in_notebook() -> bool:
    return "ipykernel.zmqshell" in sys.modules


class _Log:
    """A line now and then."""

    delay = interval = LOG_INTERVAL

    def __init__(self, meter: Meter, stream: TextIO) -> None:
        self._meter, self._stream = meter, stream

    def draw(self) -> None:
        self._stream.write(_printable(log_line(self._meter), self._stream) + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class _Bar:
    """A bar of tqdm's."""

    delay = DELAY

    _shown: list[_Bar] = []  # noqa: RUF012  # those of all runs, the oldest first
    _lock = threading.RLock()

    def __init__(self, meter: Meter, stream: TextIO, *, notebook: bool) -> None:
        self._meter, self._stream, self._notebook = meter, stream, notebook
        self.interval = 2 * REDRAW if notebook else REDRAW
        self._bar: Any = None
        self._shown.append(self)

    def draw(self) -> None:
        with self._lock:
            if not self._shown or self._shown[0] is not self:
                return
            if self._bar is None:
                self._bar = _new_bar(self, self._stream, notebook=self._notebook)
            else:
                self._bar.n = self._meter.stored
                self._bar.refresh()

    def close(self) -> None:
        with self._lock:
            if self in self._shown:
                self._shown.remove(self)
            if self._bar is not None and not self._bar.disable:  # TQDM_DISABLE=1
                self._bar.n = self._meter.stored
                self._bar.close()
                self._wipe()

    def _wipe(self) -> None:
        """Remove from the line what the terminal itself wrote behind the bar when Ctrl-C was pressed."""
        columns = self.columns()
        if columns is not None and getattr(self._bar, "pos", 0) == 0:
            self._stream.write("\r" + " " * (columns - 1) + "\r")
            self._stream.flush()

    def columns(self) -> int | None:
        """Return the width of the terminal; None where there is none."""
        if self._notebook:
            return None
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (AttributeError, OSError, ValueError):
            columns = 0
        return columns or _number(os.environ.get("COLUMNS")) or 80

    def fields(self) -> dict[str, Any]:
        """Return what tqdm is to know; all of the line but the bar itself is ours."""
        columns = self.columns()
        width = None if columns is None else max(1, columns - _RIGHT_MARGIN)
        line = bar_line(self._meter, width, others=len(self._shown) - 1)
        head, bar, tail = _printable(line, self._stream).partition("{bar}")
        template = head.replace("{", "{{").replace("}", "}}") + bar + tail
        return {"bar_format": template, "ncols": width, "total": self._meter.total, "n": self._meter.stored}


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


class _NotebookLine:
    """The line of a bar in a notebook without widgets, replaced in place: a saved notebook keeps none of it."""

    disable = False

    def __init__(self, owner: _Bar) -> None:
        from IPython.display import display

        self._owner = owner
        self.n = 0
        show: Any = display  # it comes without types
        self._handle: Any = show(self._bundle(), raw=True, display_id=True)

    def _bundle(self) -> dict[str, str]:
        from tqdm.std import tqdm

        return {"text/plain": tqdm.format_meter(elapsed=0.0, **self._owner.fields())}

    def refresh(self) -> None:
        self._handle.update(self._bundle(), raw=True)

    def close(self) -> None:
        self._handle.update({"text/plain": ""}, raw=True)


def _new_bar(owner: _Bar, stream: TextIO, *, notebook: bool) -> Any:
    """Return a new bar, shown already."""
    if notebook and find_spec("ipywidgets") is None:
        return _NotebookLine(owner)
    if notebook:
        from tqdm.notebook import tqdm
    else:
        from tqdm.std import tqdm
    from tqdm.std import tqdm as plain

    class Bar(tqdm):  # type: ignore[misc]  # it comes without types
        monitor_interval = 0  # it is refreshed by the ticker, and needs no thread of its own
        # tqdm's own lock would fix the way in which the user's program starts processes.
        _lock = plain.__dict__.get("_lock") or threading.RLock()

        @property
        def format_dict(self) -> dict[str, Any]:
            return {**super().format_dict, **owner.fields()}

    options: dict[str, Any] = {} if tqdm is not plain else {"file": stream}
    first = owner.fields()
    return Bar(total=first["total"], initial=first["n"], leave=False, dynamic_ncols=True, **options)


def bar_line(meter: Meter, width: int | None, others: int = 0) -> str:
    """Return the line of a bar, with ``{bar}`` in the place of the bar itself.

    Where it would be wider than the terminal, what matters least is left out first.

    Parameters
    ----------
    meter : Meter
        What there is to tell.
    width : int or None
        Columns that there are; None where that does not matter.
    others : int, default 0
        How many other runs there are at the moment.

    Returns
    -------
    str
        The line.

    Examples
    --------
    >>> meter = Meter(RunStarted("foo", "id", chunks=10, points=1000, cached_points=300))
    >>> bar_line(meter, None)
    'foo:  30%|{bar}| 300/1000 points [00:00<?, ? point/s, 300 reused]'
    >>> bar_line(meter, 40)
    'foo:  30%|{bar}| 300/1000 [00:00<?]'
    """
    name = meter.name
    for unit, tail in _tails(meter, others):
        line = _line(name, meter, unit, tail)
        if width is None or len(line) - len("{bar}") + _SHORTEST_BAR <= width:
            return line
        if len(name) > 20:
            spare = width - (len(line) - len("{bar}") - len(name) + _SHORTEST_BAR)
            if spare >= 20:
                return _line(_cut(name, spare), meter, unit, tail)
    return _line(_cut(name, max(1, (width or 0) // 3)), meter, "", [])


def _tails(meter: Meter, others: int) -> Iterator[tuple[str, Sequence[str]]]:
    """Return what may stand behind the bar, shorter and shorter."""
    clock = f"{clock_text(meter.elapsed)}<{clock_text(meter.remaining())}"
    reused = [f"{meter.reused} reused"] if meter.reused else []
    failed = [f"{meter.failed} failed"] if meter.failed else []
    more = [f"+{others} run{'s' if others > 1 else ''}"] if others else []
    pace = [rate_text(meter.rate)]
    yield " points", [clock, *pace, *reused, *failed, *more]
    yield " points", [clock, *pace, *failed, *more]
    yield "", [clock, *pace, *failed, *more]
    yield "", [clock, *failed, *more]
    yield "", [clock, *failed]
    yield "", failed


def _line(name: str, meter: Meter, unit: str, tail: Sequence[str]) -> str:
    behind = f" [{', '.join(tail)}]" if tail else ""
    return f"{name}: {meter.percent:3d}%|{{bar}}| {meter.stored}/{meter.total}{unit}{behind}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def log_line(meter: Meter) -> str:
    """Return the line that a log gets.

    Parameters
    ----------
    meter : Meter
        What there is to tell.

    Returns
    -------
    str
        The line.

    Examples
    --------
    >>> log_line(Meter(RunStarted("foo", "id", chunks=10, points=1000, cached_points=300)))
    'foo: 300 of 1000 points (300 reused), 0 s'
    """
    asides = [f"{meter.reused} reused"] if meter.reused else []
    asides += [f"{meter.failed} failed"] if meter.failed else []
    aside = f" ({', '.join(asides)})" if asides else ""
    left = meter.remaining()
    ahead = "" if left is None else f", about {duration_text(left)} to go"
    return f"{meter.name}: {meter.stored} of {meter.total} points{aside}, {duration_text(meter.elapsed)}{ahead}"


def _printable(text: str, stream: TextIO) -> str:
    """Return a text with ``?`` in place of what a stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
