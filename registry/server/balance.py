"""Numbers of connections of all processes of the web server, in memory that they share."""

from __future__ import annotations

import mmap
import time

SLOTS = 64  # processes at a time
STALE = 3.0  # seconds after which a process that says nothing counts as ended


class Balance:
    """A slot for each process. Make it before the processes are forked. ``slot``: the age of a worker."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, SLOTS * 16)).cast("d")  # a number and a time, seconds, for each slot

    def note(self, slot: int, number: int) -> None:
        """Note the number of connections of a process. Call it at least once a second."""
        at = slot % SLOTS * 2
        self._numbers[at], self._numbers[at + 1] = number, time.monotonic()

    def leave(self, slot: int) -> None:
        """The process takes no connections any more."""
        self._numbers[slot % SLOTS * 2 + 1] = float("-inf")

    def least(self) -> float:
        """The number of connections of the process that has fewest; infinity if there is none."""
        since = time.monotonic() - STALE
        numbers = self._numbers.tolist()
        return min(
            (number for number, at in zip(numbers[::2], numbers[1::2], strict=True) if at > since), default=float("inf")
        )
