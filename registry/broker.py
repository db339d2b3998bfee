"""The file broker of an installation on one machine: kombu's filesystem transport with atomic writes.

kombu writes a message into the file that readers poll: a reader can find it half written, fail, and end the worker.
This transport writes a temporary file and renames it. It renames an unreadable message to *.broken.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from kombu import transport
from kombu.exceptions import OperationalError
from kombu.transport import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

SCHEME = "files"
MAX_WAITING = 10_000  # messages; with more, queueing fails
_LOCK = ".lock"
_binding = threading.Lock()


class Channel(filesystem.Channel):
    """Messages are files in one folder, named by time and queue."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Add a message. Raises OperationalError when too many wait, or the disk is full."""
        folder = Path(self.data_folder_out)
        try:
            if len(os.listdir(folder)) >= MAX_WAITING:  # noqa: PTH208  names are enough
                raise OperationalError(f"{MAX_WAITING} messages wait already")
            _write(folder / f"{time.time_ns():020}_{uuid.uuid4()}.{queue}.msg", payload)
        except OSError as error:
            raise OperationalError(f"no message can be queued: {error.strerror}") from error

    def _get(self, queue: str) -> Any:  # type: ignore[override]
        """Take the oldest message of a queue. Raises Empty."""
        taken = Path(self.processed_folder)
        for path in self._waiting(queue):
            mine = taken / path.name
            try:
                path.rename(mine)
            except FileNotFoundError:  # another worker was faster
                continue
            try:
                payload = json.loads(mine.read_bytes())
            except ValueError:
                mine.rename(taken / f"{path.name}.broken")
                logger.exception("the message %s cannot be read and was put aside", path.name)
                continue
            mine.unlink()
            return payload
        raise Empty

    def _waiting(self, queue: str) -> Iterator[Path]:
        for name in sorted(os.listdir(self.data_folder_in)):  # noqa: PTH208  names are enough
            if name.partition(".")[2] == f"{queue}.msg":
                yield Path(self.data_folder_in, name)

    def get_table(self, exchange: str) -> list[Any]:
        """Return the queues that are bound to an exchange."""
        try:
            return [filesystem.exchange_queue_t(*row) for row in json.loads(self._table(exchange).read_bytes())]
        except FileNotFoundError:
            return []
        except ValueError:
            logger.exception("the table of the exchange %s cannot be read: it is written again", exchange)
            return []

    def _table(self, exchange: str) -> Path:
        return Path(self._exchange_file(exchange))  # type: ignore[attr-defined]  # kombu's own, which the stubs lack

    def queue_bind(self, *args: Any, **kwargs: Any) -> None:
        """Bind a queue. Return when its exchange's table is written, whichever thread writes it.

        kombu notes the binding in the memory of the process before the table is written. Without the lock, a second
        thread finds the note, publishes, reads a table without the queue, and its message goes to the dead letters.
        """
        with _binding:
            super().queue_bind(*args, **kwargs)

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        path = self._table(exchange)
        row = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        if row in self.get_table(exchange):
            return
        with (path.parent / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(path, [row, *(other for other in self.get_table(exchange) if other != row)])


def _write(path: Path, content: Any) -> None:
    """Write JSON to a temporary file, then rename it."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(content).encode())
        Path(temporary).rename(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


class Transport(filesystem.Transport):
    """kombu's filesystem transport with Channel."""

    Channel = Channel


def register(redis_url: str = "") -> str:
    """Register this transport and registry.redis_broker with kombu. Return the broker URL for Celery."""
    for scheme in ("redis", "rediss"):  # by name: processes without Redis start without redis-py
        transport.TRANSPORT_ALIASES[scheme] = "registry.redis_broker:Transport"
    transport.TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
    return redis_url or f"{SCHEME}://localhost"
