"""Database helpers: rollback of a block, and plans and work of queries independent of size and speed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from django.db import connection, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet


STEPS = 20  # of SQLite's virtual machine, in a unit of work


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back all database changes of the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def plan(queryset: QuerySet) -> str:  # type: ignore[type-arg]
    """Return the query plan as for tables too large to be scanned or sorted. Run it inside a transaction."""
    with connection.cursor() as cursor:
        sql, parameters = queryset.query.sql_with_params()
        if connection.vendor == "postgresql":
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
            cursor.execute(f"EXPLAIN {sql}", parameters)
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


class Work:
    """Counts the work of the database while it is open: ``done``, on PostgreSQL the rows that it reads."""

    def __enter__(self) -> Self:
        self.done = 0
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            connection.connection.set_progress_handler(self._step, STEPS)
        else:
            self.done = -_rows_read()
        return self

    def __exit__(self, *error: object) -> None:
        if connection.vendor == "sqlite":
            connection.connection.set_progress_handler(None, STEPS)
        else:
            self.done += _rows_read()

    def _step(self) -> None:
        self.done += 1


def _rows_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
        return int(cursor.fetchone()[0])
