"""``/metrics`` at KCR_METRICS_LISTEN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import close_old_connections
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from .rows import Installation

if TYPE_CHECKING:
    from collections.abc import Iterable

PORT = settings.METRICS_LISTEN.rpartition(":")[2]


def is_asked(environ: dict[str, Any]) -> bool:
    """Whether the request came in at KCR_METRICS_LISTEN. The port is that of the socket, not of the Host header."""
    return bool(PORT) and environ.get("SERVER_PORT") == PORT


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """WSGI: answer ``GET /metrics`` in the text format of Prometheus, and 404 to all else."""
    if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Installation())
    close_old_connections()
    body = generate_latest(registry)
    close_old_connections()  # as at the end of a request
    start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST), ("Content-Length", str(len(body)))])
    return [body]
