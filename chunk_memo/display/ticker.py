"""One thread that looks after what must go on while a function computes: bars are drawn, files are touched.

A bar that moves only when a chunk is done would not even appear during an hour's first chunk, so somebody has
to look at the clock. A thread begun and ended for each run was measured to cost half as much again as a run of
one chunk on a busy machine, where both wait for the scheduler; so the thread stays for some seconds after the
last run, looks at the clock four times a second, and is never woken: an appointment that is cancelled before it
is due costs an entry in a list. Before this process forks the thread ends, and begins again in the parent, so
that nothing is held in the child that nobody would release, and Python finds no thread of ours to warn of.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable

__all__ = ["Appointment", "Ticker", "every"]

PACE = 0.25
"""Seconds from one look at the clock to the next."""

LINGER = 10.0
"""Seconds for which the thread stays without an appointment."""


class Appointment:
    """Something that is called again and again, until it is cancelled.

    Parameters
    ----------
    ticker : Ticker
        Whose it is.
    call : callable
        Called without arguments; where it raises, it is not called again.
    first : float
        Seconds until the first time.
    interval : float
        Seconds from one time to the next.
    """

    def __init__(self, ticker: Ticker, call: Callable[[], object], first: float, interval: float) -> None:
        self._ticker = ticker
        self.call = call
        self.interval = interval
        self.at = time.monotonic() + first

    def cancel(self) -> None:
        """See that it is not called any more; it is not under way either when this returns."""
        self._ticker.cancel(self)


class Ticker:
    """Keeps appointments in one thread, one after the other, a fraction of a second late.

    Examples
    --------
    >>> ticker, called = Ticker(), threading.Event()
    >>> appointment = ticker.every(called.set, first=0.0, interval=60.0)
    >>> called.wait(10)
    True
    >>> appointment.cancel()
    >>> ticker.stop()
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._appointments: list[Appointment] = []
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        """Set where the present thread is to end."""
        self._idle_since = 0.0

    def every(self, call: Callable[[], object], first: float, interval: float) -> Appointment:
        """Make an appointment.

        Parameters
        ----------
        call : callable
            Called without arguments, in the ticker's thread.
        first : float
            Seconds until the first time.
        interval : float
            Seconds from one time to the next.

        Returns
        -------
        Appointment
            To be cancelled.
        """
        appointment = Appointment(self, call, first, interval)
        with self._lock:
            self._appointments.append(appointment)
            if self._thread is None:
                self._begin()
        return appointment

    def cancel(self, appointment: Appointment) -> None:
        """Cancel an appointment, if it still stands.

        Parameters
        ----------
        appointment : Appointment
            The appointment.
        """
        with self._lock:
            if appointment in self._appointments:
                self._appointments.remove(appointment)
            self._idle_since = time.monotonic()

    def stop(self) -> None:
        """End the thread; appointments stand, and are kept once another is made."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._ended.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _begin(self) -> None:
        self._ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._ended,), name="chunk_memo ticker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there is no thread to be had: nothing is shown, and all else goes on
            return
        self._thread = thread

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(PACE):
            with self._lock:
                now = time.monotonic()
                for appointment in list(self._appointments) if not ended.is_set() else ():
                    if appointment.at <= now:
                        self._keep(appointment, now)
                if not self._appointments and now - self._idle_since > LINGER and not ended.is_set():
                    self._thread = None
                    return

    def _keep(self, appointment: Appointment, now: float) -> None:
        appointment.at = now + appointment.interval
        try:
            appointment.call()
        except Exception:  # nothing that is only for eyes may end what computes
            if appointment in self._appointments:
                self._appointments.remove(appointment)

    def before_fork(self) -> None:
        """End the thread, and let nobody begin it."""
        self.stop()
        self._lock.acquire(timeout=1.0)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._appointments:
            self._begin()
        try:
            self._lock.release()
        except RuntimeError:  # it could not be had in time
            pass

    def after_fork_in_child(self) -> None:
        """Forget appointments: they are the parent's."""
        self._reset()


_TICKER = Ticker()

every = _TICKER.every
"""Make an appointment with the ticker of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_TICKER.before_fork,
        after_in_parent=_TICKER.after_fork_in_parent,
        after_in_child=_TICKER.after_fork_in_child,
    )
atexit.register(_TICKER.stop)
