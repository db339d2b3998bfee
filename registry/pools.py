"""The pool of PostgreSQL connections of a process, by the number of its threads. SQLite has none."""

from __future__ import annotations

import logging

from django.db import connection, connections

logger = logging.getLogger(__name__)

SMALL = 4  # connections of a command
ONE_EACH = 32  # up to so many threads never wait for each other


def size(threads: int) -> int:
    """How many connections so many threads get: one each, or from 256 threads on one for eight.

    A thread holds a connection while it asks the database, never while bytes move.
    """
    return max(min(threads, ONE_EACH), threads // 8)


def resize(threads: int) -> None:
    """Give this process, and those that it forks, a pool for so many threads. Call it before the first query."""
    if pool := connections.settings["default"]["OPTIONS"].get("pool"):
        pool["max_size"] = size(threads)


def warn_if_short(processes: int) -> None:
    """Log a warning if the pools of so many processes are larger than the number of connections of PostgreSQL."""
    pool = connections.settings["default"]["OPTIONS"].get("pool")
    if not pool:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        )
        allowed = cursor.fetchone()[0]
    if (wanted := processes * pool["max_size"]) > allowed:
        logger.warning(
            "PostgreSQL gives users %d connections, and the web server may want %d (%d processes with %d each): set"
            " max_connections of PostgreSQL higher, or KCR_WEB_WORKERS or KCR_WEB_THREADS lower",
            *(allowed, wanted, processes, pool["max_size"]),
        )


def close() -> None:
    """Close all connections before a fork: the threads of a pool do not survive it."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]
