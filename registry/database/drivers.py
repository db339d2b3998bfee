"""Statements that are written once run on the driver's own cursor.

Django's cursor does work for each run that such a statement does not need: for SQLite it rewrites the placeholders, for
PostgreSQL it writes the values into the SQL, so that PostgreSQL plans the query each time.
"""

from __future__ import annotations

from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.sqlite3.base import FORMAT_QMARK_REGEX
from psycopg import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    Row = tuple[Any, ...]

_fetch_one: Callable[[Any], Any] = methodcaller("fetchone")
_fetch_all: Callable[[Any], Any] = methodcaller("fetchall")
_row_count: Callable[[Any], Any] = attrgetter("rowcount")


class Statement:
    """A statement in Django's SQL: ``%s`` for each value, ``%%`` for a percent sign."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._with_question_marks = FORMAT_QMARK_REGEX.sub("?", sql).replace("%%", "%")

    def first(self, values: Sequence[Any]) -> Row | None:
        """The first row, as the database has it; None when there is none."""
        row: Row | None = self._run(values, _fetch_one)
        return row

    def all(self, values: Sequence[Any]) -> list[Row]:
        """Every row, as the database has it."""
        rows: list[Row] = self._run(values, _fetch_all)
        return rows

    def change(self, values: Sequence[Any]) -> int:
        """Run an INSERT, UPDATE or DELETE; return the number of rows that it changed."""
        changed: int = self._run(values, _row_count, writes=True)
        return changed

    def insert(self, values: Sequence[Any]) -> Row | None:
        """Run an INSERT with RETURNING; return the row that it returns, None if it inserted none."""
        row: Row | None = self._run(values, _fetch_one, writes=True)
        return row

    def change_all(self, values: Sequence[Sequence[Any]]) -> int:
        """Run an INSERT, UPDATE or DELETE once for each of these values; return the number of rows that it changed."""
        changed: int = self._run(values, _row_count, writes=True, many=True)
        return changed

    def _run(
        self, values: Sequence[Any], fetch: Callable[[Any], Any], *, writes: bool = False, many: bool = False
    ) -> Any:
        database = connections[DEFAULT_DB_ALIAS]
        # Outside of a transaction Django's cursor waits for the turn to write to SQLite (registry.database.sqlite).
        of_django = writes and not database.in_atomic_block
        if of_django or database.execute_wrappers or database.queries_logged:  # they hear of Django's cursor only
            with database.cursor() as cursor:
                (cursor.executemany if many else cursor.execute)(self.sql, values)
                return fetch(cursor)
        database.ensure_connection()
        database.validate_no_broken_transaction()
        with database.wrap_database_errors:
            cursor = self._execute(database, values, many=many)
            found = fetch(cursor)
            cursor.close()  # a row that is not fetched would keep the read transaction of SQLite open
            return found

    def _execute(self, database: BaseDatabaseWrapper, values: Sequence[Any], *, many: bool) -> Any:
        if database.vendor == "sqlite":
            run = database.connection.executemany if many else database.connection.execute
            return run(self._with_question_marks, values)
        database.renew_plans()  # type: ignore[attr-defined]  # of registry.database.postgresql
        cursor = Cursor(database.connection)
        if not many:
            return cursor.execute(self.sql, values, prepare=True)
        cursor.executemany(self.sql, values)  # sends all of them before it waits for an answer, and prepares them
        return cursor
