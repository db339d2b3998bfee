"""Database helpers: rollback of a block, and query plans independent of size and speed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connection, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet


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
