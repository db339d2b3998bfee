"""Retry transactions that PostgreSQL aborts, release connections before slow work, say which commits may be lost."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections

from registry.errors import Unavailable
from registry.server.threads import leads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3
KEPT_SECONDS = 1.0
_TRY_AGAIN = frozenset({"40001", "40P01"})  # serialization failure, deadlock detected


def release_connection() -> None:
    """Return a pooled connection to its pool before slow work, so slow clients do not exhaust the pool.

    A connection of SQLite belongs to its thread and stays open.
    """
    database = connections[DEFAULT_DB_ALIAS]
    if not database.in_atomic_block:
        database.close_if_unusable_or_obsolete()


def keep_connection() -> None:
    """End a request: keep a pooled connection if this thread leads, since it answers the next request; else return it.

    The pool asks a connection whether it still works, which takes longer than the query of a pull. The web server
    returns a kept connection when its thread stops to lead (``registry.server.worker``).
    """
    if _has_pool() and leads() and not (database := connections[DEFAULT_DB_ALIAS]).errors_occurred:
        database.kept_at = time.monotonic()  # type: ignore[attr-defined]  # of registry.database.postgresql
    else:
        release_connection()


def renew_connection() -> None:
    """Begin a request: return a connection that was kept for KEPT_SECONDS, since its server may have ended it."""
    if _has_pool() and time.monotonic() - connections[DEFAULT_DB_ALIAS].kept_at > KEPT_SECONDS:  # type: ignore[attr-defined]
        release_connection()


@cache
def _has_pool() -> bool:
    return str(connections.settings[DEFAULT_DB_ALIAS]["ENGINE"]).endswith("postgresql")


@contextmanager
def may_be_lost() -> Iterator[None]:
    """Do not wait for the disk after commits in the block. Each use says why a power cut may undo them.

    A crash of the process does not. The next commit outside of such a block makes them durable. On PostgreSQL each
    commit waits.
    """
    before = getattr(connection, "may_be_lost", False)
    connection.may_be_lost = True  # type: ignore[attr-defined]  # of registry.database.sqlite
    try:
        yield
    finally:
        connection.may_be_lost = before  # type: ignore[attr-defined]


def retried(function: Callable[P, T]) -> Callable[P, T]:
    """Run the function up to TRIES times if PostgreSQL aborts it for a deadlock or serialization failure.

    The function must open its own transaction and must not consume iterators. Raises Unavailable after the last try.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(TRIES):
            try:
                return function(*args, **kwargs)
            except OperationalError as error:
                if connection.in_atomic_block or getattr(error.__cause__, "sqlstate", "") not in _TRY_AGAIN:
                    raise
        raise Unavailable

    return run
