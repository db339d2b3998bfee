"""What a web process does beside its requests: it writes what they gathered, and looks after its connections."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.db import close_old_connections, connection

from accounts.keys import last_used
from registry.statistics.pulls import counter

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

SECONDS = 5.0
BUFFERS: tuple[Callable[[], object], ...] = (last_used.flush, counter.flush)


class Flusher(threading.Thread):
    """Writes down every few seconds what requests have gathered in memory; what a crash takes is only statistics."""

    def __init__(self) -> None:
        super().__init__(name="flusher", daemon=True)

    def run(self) -> None:
        """For as long as the process lives."""
        pause, lost = threading.Event(), 0
        while not pause.wait(SECONDS):
            flush()
            try:
                lost = forget_dead_connections(lost)
            except Exception:
                logger.exception("the connections could not be looked at")


def forget_dead_connections(known: int) -> int:
    """Look at all pooled connections when more were found dead than were ``known``; returns how many are known now.

    The pool by itself finds one dead connection after the other, with pauses: after an outage of the database it would
    be away for most of a minute more.
    """
    pool = getattr(connection, "pool", None)
    lost: int = pool.get_stats().get("connections_lost", 0) if pool else 0
    if pool and lost > known:
        pool.check()
    return lost


def flush() -> None:
    """Write every buffer; a failure is logged, and what it lost is not tried again."""
    for write in BUFFERS:
        try:
            close_old_connections()
            write()
        except Exception:
            logger.exception("a buffer could not be written")
            connection.close()
