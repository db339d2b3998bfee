"""What a web process writes beside its requests, so that a pull never writes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from django.db import close_old_connections, connection

from accounts.keys import last_used
from registry.counts import counts

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

SECONDS = 5.0
BUFFERS: tuple[Callable[[], object], ...] = (last_used.flush, counts.flush)


class Flusher(threading.Thread):
    """Writes down every few seconds what requests have gathered in memory; what a crash takes is only statistics."""

    def __init__(self) -> None:
        super().__init__(name="flusher", daemon=True)

    def run(self) -> None:
        """For as long as the process lives."""
        pause = threading.Event()
        while not pause.wait(SECONDS):
            flush()


def flush() -> None:
    """Write every buffer; a failure is logged, and what it lost is not tried again."""
    for write in BUFFERS:
        try:
            close_old_connections()
            write()
        except Exception:
            logger.exception("a buffer could not be written")
            connection.close()
