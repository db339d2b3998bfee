"""Limits per client: Shares limit units that a client holds; Turns queue the requests of a client."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


T = TypeVar("T")


class NoShare(OSError):
    """The client or all clients together are at their limit."""


class Shares:
    """All clients together hold at most ``total`` units at a time; one client holds at most ``each``.

    A client is any hashable key: a network address, a user. The caller says what a unit is: a thread, a byte.
    """

    def __init__(self, total: int, each: int) -> None:
        self.total, self.each = total, each
        self._lock = threading.Lock()
        self._held: Counter[Hashable] = Counter()
        self._sum = 0

    @property
    def held(self) -> int:
        """Units that are taken now, by all clients."""
        return self._sum

    def take(self, client: Hashable, units: int = 1) -> bool:
        """Take units for the client. Return False, and take none, if ``each`` or ``total`` would be exceeded."""
        with self._lock:
            if self._sum + units > self.total or self._held[client] + units > self.each:
                return False
            self._held[client] += units
            self._sum += units
            return True

    def give_back(self, client: Hashable, units: int = 1) -> None:
        """Return units that ``take`` gave."""
        with self._lock:
            self._held[client] -= units
            self._sum -= units
            if self._held[client] <= 0:
                del self._held[client]

    @contextmanager
    def taken(self, client: Hashable) -> Iterator[bool]:
        """Hold one unit for the block. Yields False, and runs the block without a unit, at the limit."""
        is_taken = self.take(client)
        try:
            yield is_taken
        finally:
            if is_taken:
                self.give_back(client)


class Turns(Generic[T]):
    """At most ``each`` requests of a client run at a time; its other requests wait in order.

    So a client with a thousand requests delays its own requests, and others at most by ``each`` of them.
    """

    def __init__(self, each: int) -> None:
        self.each = each
        self._lock = threading.Lock()
        self._begun: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[T]] = {}

    def begin(self, client: Hashable, thing: T) -> bool:
        """Return True if ``thing`` may begin; else queue it until ``end`` returns it."""
        with self._lock:
            if self._begun[client] < self.each:
                self._begun[client] += 1
                return True
            self._waiting.setdefault(client, deque()).append(thing)
            return False

    def end(self, client: Hashable) -> T | None:
        """End one of the client's turns. Return the next queued thing, which begins now; None if none waits."""
        with self._lock:
            if waiting := self._waiting.get(client):
                thing = waiting.popleft()
                if not waiting:
                    del self._waiting[client]
                return thing
            self._begun[client] -= 1
            if not self._begun[client]:
                del self._begun[client]
            return None
