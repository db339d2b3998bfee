"""Run functions in threads: all at the same moment, or one while another one pauses in the middle of its work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
U = TypeVar("U")
PATIENCE = 60.0  # seconds


def at_once(*acts: Callable[[], T]) -> list[T]:
    """Run the acts in threads that start together. Return their results in order; the first error is raised."""
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], T]) -> T:
        gate.wait()
        try:
            return act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


class Overtaking:
    """A lock, and a thread that pauses while it holds it. Another thread overtakes it, unless it waits for the lock.

    Put this in place of the lock under test, and have something within the locked block call ``pause``.
    """

    def __init__(self) -> None:
        self._lock, self._first = threading.Lock(), threading.Lock()
        self.paused, self.go_on = threading.Event(), threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock. A thread that has to wait for it lets the other thread go on."""
        if self._lock.acquire(blocking=False):
            return True
        if not blocking:
            return False
        self.go_on.set()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()

    def pause(self) -> None:
        """Stop the first thread that comes here until ``go_on``. Do nothing for others."""
        if self._first.acquire(blocking=False):
            self.paused.set()
            assert self.go_on.wait(PATIENCE), "nothing overtakes this thread, and nothing waits for the lock"

    def run(self, first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
        """Run ``first`` in a thread, and ``second`` in this one when the other pauses. Return both results."""
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(first)
            running.add_done_callback(lambda _: self.paused.set())
            assert self.paused.wait(PATIENCE), "the first thread does not come to the pause"
            try:
                overtook = second()
            finally:
                self.go_on.set()
            return running.result(), overtook
