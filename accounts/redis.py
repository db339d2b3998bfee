"""The Redis of KCR_REDIS_URL. No request needs it, and none waits for it more than once while it is away."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import cache
from kombu.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

logger = logging.getLogger(__name__)

TIMEOUT = 0.5  # seconds until an answer
PAUSE = 5.0  # seconds between two attempts while Redis is away


class Away(OperationalError):
    """Redis did not answer lately, and is not asked now."""


class SharedRedis:
    """A connection that is left alone for PAUSE seconds after each failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._is_away, self._next_attempt = False, 0.0

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a block that talks to Redis. Raises Away without running it if an attempt failed lately.

        Without Redis it runs every block.
        """
        if not self._url:
            yield
            return
        with self._lock:
            if time.monotonic() < self._next_attempt:
                raise Away("Redis is away")
            if self._is_away:  # one request tries it, others do not wait meanwhile
                self._next_attempt = time.monotonic() + PAUSE
        try:
            yield
        except _failures() as error:
            self._is_away, self._next_attempt = True, time.monotonic() + PAUSE
            logger.warning("Redis is away: %s", error)
            raise
        self._is_away, self._next_attempt = False, 0.0

    def count(self, name: str, seconds: int) -> int:
        """Count one more under this name; return the number since the first one, ``seconds`` ago at most.

        All processes count together. While Redis is away, and without Redis, each process counts alone.
        """
        if self._url:
            try:
                with self.attempt(), self._client.pipeline(transaction=True) as pipeline:
                    pipeline.set(name, 0, ex=seconds, nx=True)
                    pipeline.incr(name)
                    return int(pipeline.execute()[1])
            except _failures():
                pass
        cache.add(name, 0, seconds)
        try:
            return cache.incr(name)
        except ValueError:  # forgotten meanwhile
            return 1

    @cached_property
    def _client(self) -> Redis:
        from redis import Redis  # noqa: PLC0415  see _failures

        return Redis.from_url(self._url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)


def _failures() -> tuple[type[Exception], ...]:
    # redis-py imports parts of OpenTelemetry. Processes without Redis start without both.
    from redis.exceptions import RedisError  # noqa: PLC0415

    return RedisError, OperationalError, OSError


shared = SharedRedis(settings.REDIS_URL)
