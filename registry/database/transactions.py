"""Retry transactions that PostgreSQL aborts, release connections before slow work, say which commits may be lost."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import OperationalError, connection

from registry.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
