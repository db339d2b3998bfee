"""Threads that take turns to lead. The leader waits for the next event and handles it itself: no other thread is woken.

A short request costs no switch between threads. A leader that is about to wait for a client calls ``step_aside``. Code
below the web server, which knows no leader, calls ``about_to_wait`` before it waits for a disk or a lock. ``watch``,
called every few milliseconds, replaces a leader that waits without having said so.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_SECONDS = 0.02
_here = threading.local()  # threads: those that the calling thread is one of


def about_to_wait() -> None:
    """Make another thread of the web server the leader, before the calling thread waits. Elsewhere it does nothing."""
    threads: Threads | None = getattr(_here, "threads", None)
    if threads is not None:
        threads.step_aside()


def leads() -> bool:
    """Whether the calling thread is the leader of the web server, and so handles the next event."""
    threads: Threads | None = getattr(_here, "threads", None)
    return threads is not None and threads.is_led_here()


class _Seat:
    """One thread: ``gate`` is locked while it is parked."""

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()


class Threads:
    """At most ``maximum`` threads, made when they are needed.

    ``wait`` returns the next event and may block; ``handle`` handles it. Only the leader calls ``wait``. A thread calls
    ``let_go`` before it parks: it gives up what a leader keeps from event to event.
    """

    def __init__(
        self,
        wait: Callable[[], int],
        handle: Callable[[int], None],
        maximum: int,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self._wait, self._handle, self.maximum, self._let_go = wait, handle, maximum, let_go
        self._lock = threading.Lock()
        self._parked: list[_Seat] = []
        self._leader: _Seat | None = None
        self._busy_since = 0.0  # when the leader began to handle an event; 0.0 while it waits for one
        self.count = 0

    def start(self) -> None:
        """Start the first leader."""
        with self._lock:
            self._appoint()

    def is_led_here(self) -> bool:
        """Whether the calling thread is the leader."""
        seat = getattr(_here, "seat", None)
        return seat is not None and self._leader is seat

    def step_aside(self) -> None:
        """Make another thread the leader, before the calling thread waits. A repeated call does nothing."""
        if self.is_led_here():
            with self._lock:
                if self.is_led_here():
                    self._appoint()

    def watch(self) -> None:
        """Replace a leader that has been busy with one event for longer than BUSY_SECONDS."""
        since, leader = self._busy_since, self._leader
        if leader is not None and since and time.monotonic() - since > BUSY_SECONDS:
            with self._lock:
                if self._leader is leader and self._busy_since == since:
                    self._appoint()

    def _appoint(self) -> None:
        """Choose a leader, under the lock: a parked thread, else a new one, else the next that has nothing to do."""
        self._busy_since = 0.0
        if self._parked:
            self._leader = self._parked.pop()
            self._leader.gate.release()
        elif self.count < self.maximum:
            self._leader = _Seat()
            thread = threading.Thread(target=self._run, args=(self._leader,), name=f"web-{self.count}", daemon=True)
            self.count += 1
            try:
                thread.start()
            except RuntimeError:  # the kernel refuses more threads
                self._leader = None
                self.count -= 1
        else:
            self._leader = None

    def _run(self, seat: _Seat) -> None:
        _here.threads, _here.seat = self, seat
        while True:
            event = self._wait()
            if self._leader is seat:
                self._busy_since = time.monotonic()
            self._handle(event)
            self._lead_or_park(seat)

    def _lead_or_park(self, seat: _Seat) -> None:
        """Return when this thread is the leader; park it until then."""
        if self._leader is not seat:
            self._let_go()
        with self._lock:
            if self._leader is None:
                self._leader = seat
            if self._leader is seat:
                self._busy_since = 0.0
                return
            self._parked.append(seat)
        seat.gate.acquire()
