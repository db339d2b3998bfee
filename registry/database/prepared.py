"""Queries that are asked with every pull: Django writes their SQL once, afterwards only the values change.

Building the query of a pull takes a hundred times as long as running it. So it is built with marks in the places of its
values; a CompiledQuery keeps the SQL and puts the values where the marks were.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import Model, QuerySet


def text_mark(name: str) -> str:
    """A mark for a text; no text that users may write is like it."""
    return f"\ue000{name}"


MOMENT_MARK = datetime(1, 1, 1, tzinfo=UTC)


def stored(moment: datetime) -> Any:
    """A moment as this database takes it: for the value of MOMENT_MARK, and for the mark itself."""
    return connection.ops.adapt_datetimefield_value(moment)


def number_mark(number: int) -> int:
    """A mark for an id; ids are positive."""
    return -1_000_000 - number


class CompiledQuery:
    """The SQL of a queryset of tuples (``values_list``) that was built with marks."""

    def __init__(self, marked: QuerySet[Model, tuple[Any, ...]]) -> None:
        self._sql, self._parameters = marked.query.sql_with_params()

    def first(self, values: Mapping[Any, Any]) -> tuple[Any, ...] | None:
        """The first row, as the database gives it, with these values in the places of their marks."""
        parameters = [values.get(parameter, parameter) for parameter in self._parameters]
        with connection.cursor() as cursor:
            cursor.execute(self._sql, parameters)
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row
