"""Refuses requests to an S3 that takes connections and never answers, so that they hold no thread of the web server.

A request about an object's head is answered in milliseconds. When one has waited for PATIENCE seconds, and S3 has
answered no other request meanwhile, further requests fail at once. The last request that timed out may be repeated, and
after PAUSE seconds another one tries S3.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from .contract import Unanswered

PATIENCE = 3.0  # seconds
PAUSE = 5.0  # seconds
_HEADS = (".HeadObject", ".HeadBucket")


class Silence:
    """What one process knows of the answers of S3. ``watch`` the clients of one endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[int, tuple[float, bool]] = {}  # thread: when its request was sent, and whether for a head
        self._answered_at, self._silent_until = 0.0, 0.0
        self._trying = 0  # the thread that may ask a silent S3

    def watch(self, client: Any) -> None:
        """Have each request of a client of boto3, and each repetition, raise Unanswered while S3 is silent."""
        client.meta.events.register("before-send.s3", self._before)
        client.meta.events.register("response-received.s3", self._after)

    def _before(self, event_name: str, **_: Any) -> None:
        now = time.monotonic()
        with self._lock:
            oldest = min((sent for sent, is_head in self._asked.values() if is_head), default=now)
            is_silent = now < self._silent_until or self._answered_at < oldest < now - PATIENCE
            if is_silent and self._trying != threading.get_ident():
                raise Unanswered("S3 is silent: no request waits for it at the moment")
            if self._silent_until:
                # This request tries S3, the others do not wait meanwhile.
                self._silent_until, self._trying = now + PAUSE, threading.get_ident()
            self._asked[threading.get_ident()] = now, event_name.endswith(_HEADS)

    def _after(self, exception: Exception | None = None, **_: Any) -> None:
        now = time.monotonic()
        with self._lock:
            sent, _is_head = self._asked.pop(threading.get_ident(), (now, False))
            if exception is None:
                self._answered_at, self._silent_until, self._trying = now, 0.0, 0
            elif isinstance(exception, (ConnectTimeoutError, ReadTimeoutError)) and self._answered_at < sent:
                self._silent_until, self._trying = now + PAUSE, threading.get_ident()
