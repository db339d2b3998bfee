"""Transactions that a database may ask to be tried again, and connections that others may need."""

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
    """Give the database connection back before slow work: a slow client must not keep one from others.

    A connection of one thread of its own (SQLite's) is kept; one from a pool goes back to it.
    """
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def retried(function: Callable[P, T]) -> Callable[P, T]:
    """Run the function up to three times when PostgreSQL ends its transaction for the sake of another one.

    The function must open its own transaction and read nothing that the first try consumed. Raises Unavailable.
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
