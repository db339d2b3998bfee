"""Retry transactions that PostgreSQL aborts, and release connections before slow work."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import OperationalError, connection

from registry.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3
_TRY_AGAIN = frozenset({"40001", "40P01"})  # serialization failure, deadlock detected


def release_connection() -> None:
    """Return a pooled connection to its pool before slow work, so slow clients do not exhaust the pool.

    A connection of SQLite belongs to its thread and stays open.
    """
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


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
