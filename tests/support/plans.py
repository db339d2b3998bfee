"""How a database would find rows: a test of an index that does not depend on how full or fast it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    from django.db.models import QuerySet


def plan(queryset: QuerySet) -> str:  # type: ignore[type-arg]
    """What the database would do, were its tables too large to be read or sorted. Run it inside a transaction."""
    with connection.cursor() as cursor:
        sql, parameters = queryset.query.sql_with_params()
        if connection.vendor == "postgresql":
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
            cursor.execute(f"EXPLAIN {sql}", parameters)
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())
