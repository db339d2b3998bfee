"""The lock that Django has no word for."""

from __future__ import annotations

from typing import Self, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


class KeyShareQuerySet(models.QuerySet[Row]):
    """Rows that transactions may lock against deletion, several at a time."""

    def lock_for_share(self) -> Self:
        """Lock the rows FOR KEY SHARE in id order: they cannot be deleted before this transaction ends.

        SQLite needs no lock: its write transactions follow one another. Call it inside a transaction.
        """
        if connection.vendor != "postgresql":
            return self.all()
        identifiers = sorted(self.values_list("pk", flat=True))
        table = connection.ops.quote_name(self.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE", [identifiers])  # noqa: S608  a quoted table of ours
            # A second look, in a new statement: the first may have waited for somebody who changed the rows.
            return self.filter(pk__in=[row[0] for row in cursor.fetchall()])
