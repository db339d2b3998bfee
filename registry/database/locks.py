"""SELECT ... FOR KEY SHARE, which Django does not offer."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


def lock_row_for_share(model: type[models.Model], key: Any) -> bool:
    """Lock a row against deletion. Return whether that was necessary: then read the row again, in a new statement.

    It may have changed, or be gone, since the lock may have waited. SQLite needs no lock. Run inside a transaction.
    """
    if connection.vendor != "postgresql":
        return False
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {table} WHERE id = %s FOR KEY SHARE", [key])  # noqa: S608  a table of ours
    return True


class KeyShareQuerySet(models.QuerySet[Row]):
    """Rows that several transactions may lock against deletion at the same time."""

    def lock_for_share(self) -> Self:
        """Lock the rows FOR KEY SHARE in id order: they cannot be deleted before this transaction ends.

        SQLite needs no lock, because it has one write transaction at a time. Run inside a transaction.
        """
        if connection.vendor != "postgresql":
            return self.all()
        identifiers = sorted(self.values_list("pk", flat=True))
        table = connection.ops.quote_name(self.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE", [identifiers])  # noqa: S608  a quoted table of ours
            # Read the rows in a new statement: the first one may have waited for a transaction that changed them.
            return self.filter(pk__in=[row[0] for row in cursor.fetchall()])
