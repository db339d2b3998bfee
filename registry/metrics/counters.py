"""Count requests in memory that all web processes of a host share: a file of each in PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.multiprocess import mark_process_dead

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

requests = Counter("kcr_http_requests", "Answered requests.", ["route", "method", "status"])
durations = Histogram(
    "kcr_http_request_duration_seconds",
    "Seconds in the application, without the transfer of the answer.",
    ["route", "method"],
    buckets=SECONDS,
)
received = Counter("kcr_http_request_bytes", "Bytes of request bodies, as Content-Length says.", ["route"])
sent = Counter("kcr_http_response_bytes", "Bytes of answers, as Content-Length says.", ["route"])
connections = Gauge("kcr_web_connections", "Open connections.", multiprocess_mode="livesum")
threads = Gauge("kcr_web_threads", "Threads for requests.", multiprocess_mode="livesum")
pool = Gauge("kcr_database_pool_connections", "Connections to PostgreSQL.", ["state"], multiprocess_mode="livesum")
pool_waiting = Gauge(
    "kcr_database_pool_waiting", "Requests that wait for a connection to PostgreSQL.", multiprocess_mode="livesum"
)


def observe(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """Count one request. Labels have few values: the name of the route, never its arguments."""
    match = request.resolver_match
    route = (match.view_name if match else "") or "none"
    method = request.method if request.method in METHODS else "other"
    requests.labels(route, method, str(response.status_code)).inc()
    durations.labels(route, method).observe(seconds)
    for counter, length in (
        (received, request.META.get("CONTENT_LENGTH", "")),
        (sent, "" if method == "HEAD" else response.headers.get("Content-Length", "")),
    ):
        if length.isascii() and length.isdigit():
            counter.labels(route).inc(int(length))


def observe_process(worker: Any) -> None:
    """Take the state of a web process: connections, threads, and its pool of database connections."""
    connections.set(len(worker.connections))
    threads.set(worker.threads.count)
    if database := getattr(connection, "pool", None):
        stats = database.get_stats()
        idle = stats.get("pool_available", 0)
        pool.labels("idle").set(idle)
        pool.labels("used").set(stats.get("pool_size", 0) - idle)
        pool_waiting.set(stats.get("requests_waiting", 0))


def forget_process(pid: int) -> None:
    """Drop the gauges of a web process that has ended; its counters remain."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
