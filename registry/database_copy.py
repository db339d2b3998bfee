"""Copy all rows from another database into the one of this installation, such as from SQLite to PostgreSQL.

KCR must be stopped: the source is locked. Unfinished, the target has a table of notes (NOTES), no foreign keys, and no
applied migration, so that no process of KCR starts on it. Each batch is one transaction with a note of its last key,
so the next run continues where one was stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import IntegrityError, OperationalError, connection, connections, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F, TextField
from django.db.models.functions import Cast

from registry import env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field

SOURCE = "source"
NOTES = "database_copy"
BATCH = 5_000  # rows of a transaction
FETCH = 50  # rows in memory at once: a manifest may have 4 MiB
MOST_PROBLEMS = 20
MADE_BY_MIGRATIONS = {"django_migrations", "django_content_type", "auth_permission", NOTES}
_NO_TEXT = re.compile("[\ud800-\udfff]")


class Refused(Exception):
    """The copy cannot begin or go on. The message says why."""


class Unfit(Refused):
    """The target does not take some values. ``problems``: a sentence each, the first MOST_PROBLEMS of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("some values do not fit into the other database: nothing was copied")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one table is. ``step``: "checked", "copied" or "compared"; ``rows`` of ``total``."""

    step: str
    table: str
    rows: int
    total: int


def copy(source_url: str) -> Iterator[Progress]:
    """Copy every table of the database at ``source_url`` (see ``env.database_at``) into that of this installation.

    Checks all values first, and compares the number and the checksum of the rows of each table at the end. Raises
    Refused, ValueError for the URL, and OperationalError when a database fails.
    """
    source = _open(source_url)
    tables = [Table(model) for model in apps.get_models(include_auto_created=True)]
    with _locked(source, tables):
        _require_same_migrations(source)
        _require_foreign_keys(source)
        _prepare(tables)
        sums: dict[str, Sum] = {}
        problems: list[str] = []
        for table in tables:
            sums[table.name] = table.checked(SOURCE, problems)
            yield Progress("checked", table.name, sums[table.name].rows, sums[table.name].rows)
        if problems:
            raise Unfit(problems)
        with connection.constraint_checks_disabled():  # of SQLite
            for table in tables:
                for rows in table.copied():
                    yield Progress("copied", table.name, rows, sums[table.name].rows)
        _restore_foreign_keys()
        for table in tables:
            found, wanted = table.checked("default", []), sums[table.name]
            if found != wanted:
                raise Refused(
                    f"{table.name} has {found.rows:,} rows, or others than the {wanted.rows:,} of the source. Was the"
                    " source changed since the copy began? Empty the target, and begin again"
                )
            yield Progress("compared", table.name, found.rows, wanted.rows)
        _finish([*tables, Table(MigrationRecorder.Migration)])


# ── Source and target ────────────────────────────────────────────────────────────────────────────────────────────────
def _open(url: str) -> BaseDatabaseWrapper:
    """Connect to the source. Its settings are those of the application, but the connection excludes all others."""
    found = env.database_at(url)
    if "sqlite" in found["ENGINE"]:
        if not Path(found["NAME"]).is_file():
            raise Refused(f"there is no file {found['NAME']}")
        # The first statement takes the lock of the file, which every open connection of another process prevents.
        only = {"init_command": "PRAGMA locking_mode=EXCLUSIVE;", "transaction_mode": "EXCLUSIVE", "timeout": 1}
        found |= {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": only}
    connections.settings[SOURCE] = connections.configure_settings({"default": {}, SOURCE: found})[SOURCE]
    opened = connections[SOURCE]
    opened.connect()
    if opened.vendor == "sqlite":
        # Text that is not UTF-8 is reported with its row instead of ending the copy.
        opened.connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    return opened


@contextmanager
def _locked(source: BaseDatabaseWrapper, tables: list[Table]) -> Iterator[None]:
    """Run the block in one transaction of the source that keeps all writers out. Raises Refused if there are some."""
    with ExitStack() as stack:
        stack.callback(source.close)
        try:
            stack.enter_context(transaction.atomic(using=SOURCE))
            is_free = source.vendor == "sqlite" or _is_locked(source, tables)
        except OperationalError:
            is_free = False
        if not is_free:
            raise Refused(
                f"the database {Path(source.settings_dict['NAME']).name} is in use: stop KCR (web servers, workers,"
                " scanners, scheduler) and every other program that has it open"
            )
        yield


def _is_locked(source: BaseDatabaseWrapper, tables: list[Table]) -> bool:
    """Keep writers out, and see the rows of this moment. False if this user of PostgreSQL has other connections."""
    names = ", ".join(source.ops.quote_name(table.name) for table in tables)
    with source.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(f"LOCK TABLE {names} IN SHARE MODE NOWAIT")
    return not _has_others(source)


def _has_others(database: BaseDatabaseWrapper) -> bool:
    """Whether this user of PostgreSQL has other connections to the database."""
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid())"
        )
        return bool(cursor.fetchone()[0])


def _known_migrations() -> list[list[str]]:
    return sorted(map(list, MigrationLoader(None).disk_migrations or {}))


def _require_same_migrations(source: BaseDatabaseWrapper) -> None:
    replaced = {name for each in MigrationLoader(None).disk_migrations.values() for name in each.replaces}
    applied = set(MigrationRecorder(source).applied_migrations()) - replaced
    if sorted(map(list, applied)) != _known_migrations():
        raise Refused("the source is of another version of KCR: start this version on it, or migrate it, then copy")


def _require_foreign_keys(source: BaseDatabaseWrapper) -> None:
    try:
        source.check_constraints()
    except IntegrityError as error:
        raise Refused(f"the source is damaged: {error}") from error


def _prepare(tables: list[Table]) -> None:
    """Create the tables of the target and remove what would refuse rows in between. Raises Refused if it has rows."""
    if connection.vendor == "postgresql" and _has_others(connection):
        raise Refused("the new database is in use: stop KCR there, too")
    if NOTES in connection.introspection.table_names():
        if _noted("migrations") != _known_migrations():
            raise Refused("another version of KCR began this copy: empty the target, and begin again")
        return
    for name in sorted({*connection.introspection.table_names()} - MADE_BY_MIGRATIONS):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(name)} LIMIT 1")  # noqa: S608  a quoted name
            if cursor.fetchone():
                raise Refused(f"the new database is not empty: {name} has rows")
    call_command("migrate", verbosity=0, interactive=False)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {NOTES} (name varchar(200) PRIMARY KEY, value text NOT NULL)")
        _note("migrations", _known_migrations())
        _remove_foreign_keys()
        names = [*(table.name for table in tables), MigrationRecorder.Migration._meta.db_table]
        for sql in connection.ops.sql_flush(no_style(), names):
            with connection.cursor() as cursor:
                cursor.execute(sql)


def _remove_foreign_keys() -> None:
    """Drop the foreign keys and note how to add them. Tables refer to each other in circles: no order fits them."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'f' AND connamespace = current_schema()::regnamespace ORDER BY 1, 2"
        )
        found = [list(row) for row in cursor.fetchall()]
        for table, name, _definition in found:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    _note("foreign keys", found)


def _restore_foreign_keys() -> None:
    """Add the foreign keys again: the database checks every row."""
    if connection.vendor != "postgresql":
        connection.check_constraints()
        return
    while found := _noted("foreign keys"):
        table, name, definition = found.pop()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
            _note("foreign keys", found)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _finish(tables: list[Table]) -> None:
    """Set the sequences, and note the migrations as applied: from now on KCR starts on the target."""
    with transaction.atomic(), connection.cursor() as cursor:
        for _ in tables[-1].copied():
            pass
        for table in tables:
            table.set_sequence()
        cursor.execute(f"DROP TABLE {NOTES}")


# ── Notes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _note(name: str, value: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {NOTES} WHERE name = %s", [name])  # noqa: S608  a constant
        cursor.execute(f"INSERT INTO {NOTES} (name, value) VALUES (%s, %s)", [name, json.dumps(value)])  # noqa: S608


def _noted(name: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT value FROM {NOTES} WHERE name = %s", [name])  # noqa: S608  a constant
        row = cursor.fetchone()
    return json.loads(row[0]) if row else None


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class Sum:
    """Number and checksum of rows, in any order: two databases sort texts differently."""

    rows: int = 0
    digest: int = 0

    def add(self, row: tuple[Any, ...]) -> None:
        """Count a row."""
        self.rows += 1
        self.digest += int.from_bytes(hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest())
        self.digest %= 2**256


class Table:
    """One table, by its model."""

    def __init__(self, model: type[models.Model]) -> None:
        self.model, self.name = model, model._meta.db_table
        self.fields: list[Field[Any, Any]] = list(model._meta.concrete_fields)
        self.columns = [str(field.column) for field in self.fields]
        self.key = self.fields.index(model._meta.pk)

    def _rows(self, alias: str) -> Any:
        """All rows as tuples in the order of ``fields``. JSON is text, so that none of it changes."""
        texts = {f"{f.attname}_text": Cast(F(f.attname), TextField()) for f in self.fields if _is_json(f)}
        names = [f"{f.attname}_text" if _is_json(f) else f.attname for f in self.fields]
        rows = self.model._base_manager.using(alias)
        return rows.annotate(**texts).order_by("pk").values_list(*names)

    def checked(self, alias: str, problems: list[str]) -> Sum:
        """Read all rows; return their sum. Append what the target would refuse to ``problems``."""
        ways = [_comparable(field) for field in self.fields]
        found = Sum()
        for row in self._rows(alias).iterator(FETCH):
            try:
                found.add(tuple(way(value) for way, value in zip(ways, row, strict=True)))
            except ValueError:
                for field, way, value in zip(self.fields, ways, row, strict=True):
                    try:
                        way(value)
                    except ValueError as error:
                        if len(problems) < MOST_PROBLEMS:
                            problems.append(f"{self.name}.{field.column} of the row {row[self.key]!r}: {error}")
        return found

    def copied(self) -> Iterator[int]:
        """Copy the rows that are not noted as copied, one batch a transaction. Yield the number of rows so far."""
        last, rows = _noted(self.name) or (None, 0)
        while True:
            with transaction.atomic():
                batch = self._rows(SOURCE) if last is None else self._rows(SOURCE).filter(pk__gt=last)
                count, last = self._write(batch[:BATCH].iterator(FETCH), last)
                rows += count
                _note(self.name, (last, rows))
            if not count:
                return
            yield rows

    def _write(self, rows: Iterator[tuple[Any, ...]], last: Any) -> tuple[int, Any]:
        """Insert the rows. Return their number, and the last key as JSON can have it."""
        count = 0
        names = ", ".join(map(connection.ops.quote_name, self.columns))
        into = f"{connection.ops.quote_name(self.name)} ({names})"

        def prepared() -> Iterator[list[Any]]:
            nonlocal count, last
            for row in rows:
                count, last = count + 1, row[self.key]
                yield [
                    value if _is_json(field) else field.get_db_prep_save(value, connection)
                    for field, value in zip(self.fields, row, strict=True)
                ]

        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.copy(f"COPY {into} FROM STDIN") as stream:
                    for row in prepared():
                        stream.write_row(row)
            else:
                places = ", ".join(["%s"] * len(self.fields))
                written = prepared()
                while some := list(islice(written, FETCH)):
                    cursor.executemany(f"INSERT INTO {into} VALUES ({places})", some)  # noqa: S608  quoted names
        return count, last if isinstance(last, int | None) else str(last)

    def set_sequence(self) -> None:
        """Give no id again, not even one of a deleted row: audit logs name ids."""
        if not isinstance(self.model._meta.pk, models.AutoField):
            return
        highest = self.model._base_manager.using(SOURCE).aggregate(highest=models.Max("pk"))["highest"] or 0
        if number := max(highest, self._last_of_sequence()):
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [*self._column, number])
                else:
                    cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [self.name])
                    cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [self.name, number])

    @property
    def _column(self) -> list[str]:
        return [connection.ops.quote_name(self.name), self.columns[self.key]]

    def _last_of_sequence(self) -> int:
        source = connections[SOURCE]
        with source.cursor() as cursor:
            if source.vendor == "postgresql":
                cursor.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, %s)::regclass)", self._column)
            else:
                cursor.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = %s", [self.name])
            return cursor.fetchone()[0] or 0


# ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _is_json(field: Field[Any, Any]) -> bool:
    return isinstance(field, models.JSONField)


def _comparable(field: Field[Any, Any]) -> Callable[[Any], Any]:
    """A function that turns a value of the field into its form in every database, or raises ValueError."""
    stored: Any = field
    while stored.remote_field:
        stored = stored.target_field
    if _is_json(stored):
        way: Callable[[Any], Any] = _json
    elif isinstance(stored, models.CharField | models.TextField):
        way = partial(_text, stored.max_length)
    elif isinstance(stored, models.IntegerField):
        way = partial(_integer, *connection.ops.integer_field_range(stored.get_internal_type()))
    else:
        way = _other
    return partial(_unless_empty, way, field.null)


def _unless_empty(way: Callable[[Any], Any], may_be_empty: bool, value: Any) -> Any:
    if value is None:
        if not may_be_empty:
            raise ValueError("it is empty")
        return None
    return way(value)


def _text(longest: int | None, value: str) -> str:
    _require_storable(value)
    if longest is not None and len(value) > longest:
        raise ValueError(f"{len(value):,} characters, where {longest:,} have room")
    return value


def _require_storable(value: str) -> None:
    if "\0" in value:
        raise ValueError("a NUL character")
    if not value.isascii() and _NO_TEXT.search(value):
        raise ValueError("bytes or characters that are no text (UTF-8)")


def _integer(least: int | None, most: int | None, value: int) -> int:
    if (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(f"{value:,} is not between {least:,} and {most:,}")
    return value


def _json(value: str) -> str:
    """The document with sorted names, and numbers by their value: PostgreSQL writes both in its own way."""
    document = json.loads(value, parse_int=_number, parse_float=_number, parse_constant=_no_number)
    _require_storable_parts(document)
    return json.dumps(document, sort_keys=True)


def _number(digits: str) -> str:
    return f"number {(Decimal(digits) + 0).normalize()}"


def _no_number(word: str) -> str:
    raise ValueError(f"{word} is no number of JSON")


def _require_storable_parts(document: Any) -> None:
    if isinstance(document, str):
        _require_storable(document)
    elif isinstance(document, dict):
        for name, value in document.items():
            _require_storable(name)
            _require_storable_parts(value)
    elif isinstance(document, list):
        for value in document:
            _require_storable_parts(value)


def _other(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    return bytes(value) if isinstance(value, memoryview) else value
