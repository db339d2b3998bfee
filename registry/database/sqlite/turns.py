"""Turns of those who write to one SQLite database: first come, first served.

SQLite has no queue. A writer that finds the database locked sleeps and tries again, longer each time, so one that has
waited loses against later ones: beside many writers it may wait for half a minute.

Threads of a process stand in a queue. The first of them takes a ticket for its process from a file beside the database,
and waits for the ticket before: so processes take turns. A ticket is a number with a lock on one byte of the file; the
system ends the lock with its process. The queue is for fairness alone. SQLite's own lock keeps the database whole, also
against programs that do not stand in it, and where the file cannot be used.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.005  # seconds between two looks at another process's ticket
_NUMBER = 8  # bytes at the beginning of the file: the next ticket; the first of them is locked to take one
_BYTES_OF_TICKETS = 16  # the byte of ticket 0


class TookTooLong(Exception):
    """The turn did not come in time."""


class Turn:
    """The right to write, until it is given back. One that its holder has lost gives itself back."""

    def __init__(self, turns: Turns, ticket: int | None) -> None:
        self._turns, self._ticket, self._process = turns, ticket, os.getpid()
        self._is_given = False

    def give(self) -> None:
        """Let the next one write. A copy in a forked process gives nothing."""
        if not self._is_given:
            self._is_given = True
            if self._process == os.getpid():
                self._turns.give(self._ticket)

    def __del__(self) -> None:
        self.give()


class Turns:
    """The queue of one database. ``path`` is the file of tickets; None: no other process uses the database."""

    def __init__(self, path: Path | None) -> None:
        self._tickets = _Tickets(path) if path else None
        self.forget()

    def forget(self) -> None:
        """Forget who waits and who has the turn: a forked process has none of these threads."""
        self._lock = threading.RLock()  # a Turn may end, and give itself back, while its thread holds the lock
        self._waiting: deque[threading.Lock] = deque()  # each is released when its thread is called
        self._is_taken = False

    def take(self, seconds: float) -> Turn:
        """Wait for the turn, at most so long. Raises TookTooLong."""
        deadline = time.monotonic() + seconds
        called = threading.Lock()
        with self._lock:
            if self._is_taken:
                called.acquire()
                self._waiting.append(called)
            self._is_taken = True
        if not called.acquire(timeout=max(0, seconds)):
            self._leave(called)
        try:
            return Turn(self, self._tickets.take(deadline) if self._tickets else None)
        except BaseException:
            self._call_next()
            raise

    def _leave(self, called: threading.Lock) -> None:
        """Stop waiting, unless the turn has come at this moment. Raises TookTooLong."""
        with self._lock:
            if called.locked():
                self._waiting.remove(called)
                raise TookTooLong

    def give(self, ticket: int | None) -> None:
        """End the turn with this ticket."""
        try:
            if self._tickets is not None and ticket is not None:
                self._tickets.give(ticket)
        finally:
            self._call_next()

    def _call_next(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False

    @property
    def waiting(self) -> int:
        """How many threads of this process wait."""
        return len(self._waiting)


class _Tickets:
    """The file of tickets. Only one thread of a process is here at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, deadline: float) -> int | None:
        """Take the next ticket, and wait for the one before. None: the file cannot be used. Raises TookTooLong."""
        try:
            number = self._next(deadline)
            try:
                self._await(_BYTES_OF_TICKETS + number - 1, deadline)
                self._unlock(_BYTES_OF_TICKETS + number - 1)
            except BaseException:
                self.give(number)
                raise
        except OSError:
            logger.warning("%s cannot be used: writers of other processes are not waited for", self._path)
            return None
        return number

    def give(self, number: int) -> None:
        """End a ticket: the process with the next one goes on."""
        self._unlock(_BYTES_OF_TICKETS + number)

    def _next(self, deadline: float) -> int:
        self._await(0, deadline)
        try:
            number = int.from_bytes(os.pread(self._file(), _NUMBER, 0), "little")
            os.pwrite(self._file(), (number + 1).to_bytes(_NUMBER, "little"), 0)
            fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _BYTES_OF_TICKETS + number)
        finally:
            self._unlock(0)
        return number

    def _await(self, byte: int, deadline: float) -> None:
        """Lock a byte. The order is that of the tickets, so looking again and again is fair."""
        pause = FIRST_PAUSE
        while True:
            try:
                fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # POSIX allows both
                if time.monotonic() > deadline:
                    raise TookTooLong from None
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file(), fcntl.LOCK_UN, 1, byte)

    def _file(self) -> int:
        """The file, open. A forked process may use it: a lock belongs to the process that takes it."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return self._descriptor


_known: dict[Path | None, Turns] = {}
_lock_of_known = threading.Lock()


def of(path: Path | None) -> Turns:
    """The queue of the database with this file of tickets."""
    with _lock_of_known:
        if path not in _known:
            _known[path] = Turns(path)
        return _known[path]


def _forget() -> None:
    global _lock_of_known  # noqa: PLW0603  a thread that is not here may hold it
    _lock_of_known = threading.Lock()
    for turns in _known.values():
        turns.forget()


os.register_at_fork(after_in_child=_forget)
