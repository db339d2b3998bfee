"""SELECT ... FOR KEY SHARE, which Django does not offer."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import connection, models

from .drivers import Statement

if TYPE_CHECKING:
    from collections.abc import Collection

Row = TypeVar("Row", bound=models.Model)


def lock_row_for_share(model: type[models.Model], key: Any) -> bool:
    """Lock a row against deletion. Return whether that was necessary: then read the row again, in a new statement.

    It may have changed, or be gone, since the lock may have waited. SQLite needs no lock. Run inside a transaction.
    """
    if connection.vendor != "postgresql":
        return False
    _lock(model, "id = %s").all([key])
    return True


def lock_rows_for_share(model: type[models.Model], field: str, values: Collection[str]) -> None:
    """Lock the rows with these values against deletion, in id order. SQLite needs no lock. Run inside a transaction.

    Read the rows afterwards: the lock may have waited for a transaction that changed or deleted them.
    """
    if connection.vendor == "postgresql":
        _lock(model, f"{field} = ANY(%s) ORDER BY id").all([list(values)])


@cache
def _lock(model: type[models.Model], which: str) -> Statement:
    table = connection.ops.quote_name(model._meta.db_table)
    return Statement(f"SELECT id FROM {table} WHERE {which} FOR KEY SHARE")  # noqa: S608  a table of ours


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
