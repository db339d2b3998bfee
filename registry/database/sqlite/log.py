"""Makes commits durable: threads that have committed share one sync of SQLite's write-ahead log.

With synchronous=FULL each commit syncs the log itself, one after the other, while it holds SQLite's lock. With NORMAL a
commit only writes to the log. The log is in the order of commits, so one sync makes every commit before it durable.

A commit that is no longer in the log when it is synced is durable already: SQLite syncs the log before it moves commits
from there into the database, and syncs the database before it writes to the log from the beginning again. The log
cannot be deleted in between, because the connection that has committed is open.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from registry.server.threads import about_to_wait

if TYPE_CHECKING:
    from pathlib import Path


class Log:
    """The write-ahead log of one database, and the syncs of it by this process, which have numbers from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Reset: a forked process has none of the threads."""
        self._changed = threading.Condition()
        self._begun = self._ended = self._failed = 0  # numbers of syncs

    def next_sync(self) -> int:
        """The number of the next sync. It makes durable what is committed now; one that has begun may not."""
        with self._changed:
            return self._begun + 1

    def wait(self, number: int) -> None:
        """Wait for the sync of this number. One of the threads that wait does it. Raises OSError."""
        about_to_wait()
        with self._changed:
            while self._ended < number:
                if self._begun > self._ended:
                    self._changed.wait()
                else:
                    self._sync()
            if number <= self._failed:
                raise OSError(f"{self._path} could not be synced")

    def _sync(self) -> None:
        """Sync, without the lock: other threads commit meanwhile, and wait for the next sync."""
        self._begun += 1
        self._changed.release()
        error: BaseException | None = None
        try:
            _sync_file(self._path)
        except BaseException as caught:
            error = caught
        self._changed.acquire()
        self._ended = self._begun
        if error is not None:
            # The threads that share this sync must not try again: the kernel reports lost bytes once only.
            self._failed = self._begun
        self._changed.notify_all()
        if error is not None:
            raise error


def _sync_file(path: Path) -> None:
    """Sync the file of this name: SQLite may have made it again since the last time.

    SQLite has no lock on this file, so that closing it is harmless.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


_known: dict[Path, Log] = {}
_lock_of_known = threading.Lock()


def of(path: Path) -> Log:
    """The log with this path."""
    with _lock_of_known:
        if path not in _known:
            _known[path] = Log(path)
        return _known[path]


def _forget() -> None:
    global _lock_of_known  # noqa: PLW0603  a thread of the parent may hold it
    _lock_of_known = threading.Lock()
    for log in _known.values():
        log.forget()


os.register_at_fork(after_in_child=_forget)
