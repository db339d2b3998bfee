"""A first-in, first-out queue of writers to one SQLite database.

SQLite has no queue. A writer that finds the database locked sleeps longer after each try, so later writers overtake it:
with many writers it may wait for half a minute.

Threads of a process wait in a deque. The first thread takes a ticket for its process from a file beside the database,
and waits for the ticket before it. A ticket is a number with a lock on one byte of the file; the kernel releases the
lock when the process ends. The queue only provides fairness. SQLite's own lock protects the data, also from programs
that do not use the queue, and when the file cannot be used.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from registry.server.threads import about_to_wait

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.005  # seconds between two looks at another process's ticket
_NUMBER = 8  # bytes at the beginning of the file: the next ticket; the first of them is locked to take one
_BYTES_OF_TICKETS = 16  # the byte of ticket 0


class TookTooLong(Exception):
    """The wait for the turn exceeded its timeout."""


class Turn:
    """The right to write, until ``give``. The destructor gives it too."""

    def __init__(self, turns: Turns, ticket: int | None) -> None:
        self._turns, self._ticket, self._process = turns, ticket, os.getpid()
        self._is_given = False

    def give(self) -> None:
        """End the turn. Does nothing in a forked process."""
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
        """Reset the queue: a forked process has none of the waiting threads."""
        self._lock = threading.RLock()  # a Turn may end, and give itself back, while its thread holds the lock
        self._waiting: deque[threading.Lock] = deque()  # each is released when its thread is called
        self._is_taken = False

    def take(self, seconds: float) -> Turn:
        """Wait up to ``seconds`` for the turn. Raises TookTooLong."""
        deadline = time.monotonic() + seconds
        called = threading.Lock()
        with self._lock:
            if self._is_taken:
                called.acquire()
                self._waiting.append(called)
            self._is_taken = True
        if called.locked():
            about_to_wait()
        if not called.acquire(timeout=max(0, seconds)):
            self._leave(called)
        try:
            return Turn(self, self._tickets.take(deadline) if self._tickets else None)
        except BaseException:
            self._call_next()
            raise

    def _leave(self, called: threading.Lock) -> None:
        """Leave the queue and raise TookTooLong, unless the turn has just come."""
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
        """Number of waiting threads of this process."""
        return len(self._waiting)


class _Tickets:
    """The file of tickets. Only one thread of a process uses it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, deadline: float) -> int | None:
        """Take the next ticket and wait for the one before. Return None if the file fails. Raises TookTooLong."""
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
        """Release the lock of a ticket: the process with the next one continues."""
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
        """Poll until the byte is locked. Only the holder of the next ticket polls, so this is fair."""
        pause = FIRST_PAUSE
        while True:
            try:
                fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # POSIX allows both
                if time.monotonic() > deadline:
                    raise TookTooLong from None
                about_to_wait()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file(), fcntl.LOCK_UN, 1, byte)

    def _file(self) -> int:
        """Open the file once. A forked process may share the descriptor: fcntl locks belong to processes."""
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
    global _lock_of_known  # noqa: PLW0603  a thread of the parent may hold it
    _lock_of_known = threading.Lock()
    for turns in _known.values():
        turns.forget()


os.register_at_fork(after_in_child=_forget)
