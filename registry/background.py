"""A thread of each web process that writes buffered statistics and replaces dead database connections."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.db import close_old_connections, connection

from accounts.keys import last_used
from registry.database.transactions import may_be_lost
from registry.statistics.pulls import counter

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

SECONDS = 5.0
BUFFERS: tuple[Callable[[], object], ...] = (last_used.flush, counter.flush)


class Flusher(threading.Thread):
    """Writes the BUFFERS every SECONDS, then calls ``observe``. A crash loses at most that much of the statistics."""

    def __init__(self, observe: Callable[[], object]) -> None:
        super().__init__(name="flusher", daemon=True)
        self._observe = observe

    def run(self) -> None:
        """Flush until the process ends."""
        pause, lost = threading.Event(), 0
        while not pause.wait(SECONDS):
            flush()
            try:
                lost = forget_dead_connections(lost)
                self._observe()
            except Exception:
                logger.exception("the connections could not be replaced, or not be observed")


def forget_dead_connections(known: int) -> int:
    """Replace all idle connections if the pool has lost more than ``known``. Return the number lost so far.

    The pool alone finds dead connections one by one, with pauses: after an outage of the database, requests would fail
    for most of another minute. A test of each connection would wait for those that are silent.
    """
    pool = getattr(connection, "pool", None)
    stats = pool.get_stats() if pool else {}
    lost: int = stats.get("connections_lost", 0) + stats.get("returns_bad", 0)
    if pool and lost > known:
        pool.drain()
    return lost


def flush() -> None:
    """Write every buffer. Log a failure; its statistics are lost."""
    for write in BUFFERS:
        try:
            close_old_connections()
            with may_be_lost():  # statistics, and when a key was used last
                write()
        except Exception:
            logger.exception("a buffer could not be written")
            connection.close()
