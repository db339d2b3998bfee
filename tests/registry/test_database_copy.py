"""``copydatabase``: all rows move from SQLite to PostgreSQL and back, and KCR goes on with them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import uuid
from contextlib import closing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.documents import blocks, carry_out, here
from tests.support.images import sha256
from tests.support.programs import PostgresServer, run
from tests.support.server import SOURCE, LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

DATA = os.urandom(3_000)
RECOVERY = "/projects/demo/recovery"
UNDO = "/projects/demo/undo?who=member%40acme.test&hours=24"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer("copies") as running:
        yield running


def address(postgres: PostgresServer, name: str) -> str:
    """The address of a database of the server."""
    return postgres.url.removesuffix("kcr") + name


def create(postgres: PostgresServer, template: str) -> str:
    """Create a database; return its address."""
    name = f"kcr_{uuid.uuid4().hex}"
    with psycopg.connect(address(postgres, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return address(postgres, name)


@pytest.fixture
def target(postgres, migrated) -> str:
    """The address of a database with tables and without rows."""
    return create(postgres, "kcr")


class Stopped(LiveServer):
    """An installation whose server does not run."""

    def start(self) -> None:
        self.migrate()

    @property
    def file(self) -> Path:
        """The SQLite database."""
        return self.data / "kcr.sqlite3"


@pytest.fixture(scope="module")
def filled() -> Iterator[Stopped]:
    """A row with unusual values in each table."""
    with Stopped("filled") as stopped:
        stopped.work("database", "fill")
        stopped.work("database", "forget_events")
        yield stopped


@pytest.fixture(scope="module")
def migrated(postgres, filled) -> None:
    """Migrating takes many seconds, so most tests copy into copies of this database."""
    environment = filled.environment | {"KCR_DATABASE_URL": postgres.url}
    run(filled.command("migrate"), environment=environment, directory=SOURCE, timeout=400)


@pytest.fixture
def small(filled, tmp_path) -> Path:
    """A copy of that database, which a test may damage."""
    with closing(sqlite3.connect(filled.file)) as source, closing(sqlite3.connect(tmp_path / "kcr.sqlite3")) as copy:
        source.backup(copy)
    return tmp_path / "kcr.sqlite3"


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


def copied(server: LiveServer, source: str, target: str, *, succeeds: bool = True) -> Any:
    """Run copydatabase. Return its JSON, or the last words of a refusal."""
    environment = server.environment | {"KCR_DATABASE_URL": target}
    result = run(
        server.command("copydatabase", source),
        environment=environment,
        directory=SOURCE,
        timeout=400,
        succeeds=succeeds,
    )
    return result.json() if succeeds else result.errors[result.errors.index("CommandError: ") :]


def can_start(server: LiveServer, target: str) -> bool:
    """Whether all migrations are applied: ``serve`` refuses to start otherwise."""
    environment = server.environment | {"KCR_DATABASE_URL": target}
    return (
        run(
            server.command("migrate", "--check"), environment=environment, directory=SOURCE, timeout=400, succeeds=None
        ).status
        == 0
    )


# ── Reading both databases without Django ────────────────────────────────────────────────────────────────────────────
def in_sqlite(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows by table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
            for name in names
            if name != "sqlite_sequence"
        }


def in_postgresql(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows by table."""
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        connection.execute("SET TIME ZONE 'UTC'")
        return {
            name["tablename"]: connection.execute(f"SELECT * FROM {name['tablename']}").fetchall()  # type: ignore[arg-type]
            for name in names
        }


def as_stored(value: Any, like: Any) -> Any:
    """Convert a value of SQLite to the type that PostgreSQL returned."""
    if value is None or isinstance(like, str):
        return value
    if isinstance(like, bool):
        return bool(value)
    if isinstance(like, datetime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    if isinstance(like, date):
        return date.fromisoformat(value)
    if isinstance(like, uuid.UUID):
        return uuid.UUID(value)
    return json.loads(value) if isinstance(like, dict | list) else value


def assert_same(path: Path, url: str) -> None:
    """Every table has the same rows, value by value."""
    left, right = in_sqlite(path), in_postgresql(url)
    assert left.keys() == right.keys()
    for name, rows in right.items():
        assert len(rows) == len(left[name]), name
        if rows:
            key = "id" if "id" in rows[0] else next(iter(rows[0]))
            some = {column: next((row[column] for row in rows if row[column] is not None), None) for column in rows[0]}
            expected = [{column: as_stored(row[column], some[column]) for column in row} for row in left[name]]
            assert sorted(rows, key=lambda row: str(row[key])) == sorted(expected, key=lambda row: str(row[key])), name


# ── Moving ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_installation_moves_to_postgresql_and_back_and_goes_on(postgres, tmp_path):
    target = create(postgres, "template0")
    with LiveServer("moves", {"KCR_WEB_WORKERS": "1"}) as server:
        server.people()
        api = server.api()
        for tag in ("kept", "deleted"):
            assert api.push_blob(tag.encode()) == 201
            assert api.push_manifest(tag, tag.encode()) == 201
        admin = server.visitor("admin@acme.test", "--project", "demo:admin")
        api = server.api()
        assert api.ask("DELETE", "manifests/deleted")[0] == 202
        assert server.end() is None
        file = server.data / "kcr.sqlite3"
        before = in_sqlite(file)
        assert copied(server, f"sqlite://{file}", target)["rows"] > 100
        assert in_sqlite(file) == before
        assert_same(file, target)

        server.settings["KCR_DATABASE_URL"] = target
        server.serve()
        assert "admin@acme.test" in admin.see("/profile")  # the session goes on
        api = server.api()  # and the key
        assert api.ask("GET", "manifests/kept")[0] == 200
        assert api.ask("GET", f"blobs/{sha256(b'kept')}")[2] == b"kept"
        assert api.ask("GET", "manifests/deleted")[0] == 404
        (deletion,) = before["registry_deletion"]
        assert admin.post(*admin.filled(RECOVERY, deletion=str(deletion["id"])))[0] == 302
        assert api.ask("GET", "manifests/deleted")[0] == 200
        assert api.push_blob(DATA) == 201
        assert api.push_manifest("kept", DATA) == 201  # moves the tag
        assert "Undone" in admin.post(*admin.filled(UNDO, who="member@acme.test", hours="24"))[2]
        assert api.ask("GET", "manifests/kept")[0] == 404  # its first push is undone, too
        server.end()

        second = tmp_path / "kcr.sqlite3"
        back = blocks("upgrade.md", "Move to PostgreSQL")[1]
        commands = here(back, {"postgres://kcr@db.example.com/kcr": target})
        carry_out(commands, server, KCR_DATA_DIR=str(tmp_path))
        assert_same(second, target)
        file.unlink()
        second.rename(file)
        del server.settings["KCR_DATABASE_URL"]
        server.serve()
        assert server.api().push_blob(b"afterwards") == 201


def test_every_table_and_unusual_values_survive_both_ways(filled, target, tmp_path):
    numbers = copied(filled, f"sqlite://{filled.file}", target)
    with psycopg.connect(target) as connection:
        (tables,) = connection.execute("SELECT count(*) - 1 FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert numbers["tables"] == tables
    assert numbers["rows"] > tables
    assert_same(filled.file, target)
    assert can_start(filled, target)
    environment = filled.environment | {"KCR_DATABASE_URL": target}
    command = ["-m", "tests.workers", "database", "next_event"]
    made = run([filled.command()[0], *command], environment=environment, directory=SOURCE, timeout=400)
    assert made.json() == 77_778  # not an id of a deleted event

    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("DELETE FROM registry_event WHERE id = 77778")
    environment = filled.environment | {"KCR_DATA_DIR": str(tmp_path), "KCR_DATABASE_URL": ""}
    run(filled.command("copydatabase", target), environment=environment, directory=SOURCE, timeout=400)
    assert_same(tmp_path / "kcr.sqlite3", target)
    assert run([filled.command()[0], *command], environment=environment, directory=SOURCE, timeout=400).json() == 77_779


def test_constraints_are_those_of_a_new_database(filled, target, postgres):
    def schema(url: str) -> list[tuple[str, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint"
                " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
            ).fetchall()

    copied(filled, f"sqlite://{filled.file}", target)
    assert schema(target) == schema(postgres.url)
    assert any("FOREIGN KEY" in row[2] for row in schema(target))


# ── Values that do not fit ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("table", "column", "value", "words"),
    [
        ("registry_event", "actor", "a\0b", "a NUL character"),
        ("registry_event", "client", "x" * 201, "201 characters, where 200 have room"),
        ("registry_event", "detail", '{"a": ["\\u0000"]}', "a NUL character"),
        ("registry_event", "detail", '{"\\ud800": 1}', "bytes or characters that are no text (UTF-8)"),
        ("accounts_project", "tag_limit", 2**31, "2,147,483,648 is not between 0 and 2,147,483,647"),
    ],
)
def test_value_that_does_not_fit_is_named_before_anything_is_copied(filled, small, target, table, column, value, words):
    change(small, f"UPDATE {table} SET {column} = ?", value)
    said = copied(filled, f"sqlite://{small}", target, succeeds=False)
    assert f"{table}.{column} of the row 7: {words}" in said
    assert "nothing was copied" in said
    assert not any(in_postgresql(target)[table])
    assert not can_start(filled, target)


def test_bytes_that_are_no_text_are_named(filled, small, target):
    change(small, "UPDATE registry_event SET actor = CAST(x'61ff' AS TEXT)")
    assert "registry_event.actor of the row 7: bytes" in copied(filled, f"sqlite://{small}", target, succeeds=False)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_source_that_is_in_use_is_refused(filled, small, target, tmp_path):
    with closing(sqlite3.connect(small)) as reader:
        reader.execute("SELECT count(*) FROM registry_event").fetchall()
        assert "is in use: stop KCR" in copied(filled, f"sqlite://{small}", target, succeeds=False)
    copied(filled, f"sqlite://{small}", target)
    with psycopg.connect(target):
        environment = filled.environment | {"KCR_DATA_DIR": str(tmp_path / "new"), "KCR_DATABASE_URL": ""}
        command = filled.command("copydatabase", target)
        result = run(command, environment=environment, directory=SOURCE, timeout=400, succeeds=False)
    assert "is in use: stop KCR" in result.errors


def test_target_with_rows_is_refused_and_stays(filled, small, target):
    copied(filled, f"sqlite://{small}", target)
    before = in_postgresql(target)
    said = copied(filled, f"sqlite://{small}", target, succeeds=False)
    assert "the new database is not empty: accounts_accesskey has rows" in said
    assert in_postgresql(target) == before


def test_target_of_another_program_is_refused(filled, small, target):
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS one")
    assert "theirs has rows" in copied(filled, f"sqlite://{small}", target, succeeds=False)
    there = in_postgresql(target)
    assert there["theirs"] == [{"one": 1}]
    assert there["django_migrations"]
    assert not there["accounts_user"]


def test_source_that_cannot_be_copied_is_refused(filled, small, target, tmp_path):
    assert "there is no file" in copied(filled, f"sqlite://{tmp_path}/none", target, succeeds=False)
    assert "cannot be used" in copied(filled, "mysql://host/kcr", target, succeeds=False)
    change(small, "DELETE FROM accounts_organization")
    assert "the source is damaged" in copied(filled, f"sqlite://{small}", target, succeeds=False)
    change(small, "DELETE FROM django_migrations WHERE app = 'registry' AND name = '0001_first_release'")
    assert "another version" in copied(filled, f"sqlite://{small}", target, succeeds=False)


# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_copy_that_is_stopped_goes_on(filled, small, target, how):
    stop(filled, small, target, how)
    there = in_postgresql(target)
    assert there["accounts_organization"]
    assert not there["scanning_severityday"]
    assert not can_start(filled, target)
    copied(filled, f"sqlite://{small}", target)
    assert_same(small, target)
    assert can_start(filled, target)


def test_source_that_changes_between_two_runs_is_noticed(filled, small, target):
    stop(filled, small, target, signal.SIGKILL)
    change(small, "UPDATE accounts_organization SET display_name = 'another'")
    said = copied(filled, f"sqlite://{small}", target, succeeds=False)
    assert "accounts_organization has 1 rows, or others than the 1 of the source" in said
    assert not can_start(filled, target)


def stop(server: LiveServer, source: Path, target: str, how: signal.Signals) -> None:
    """Stop a copy when it has copied the first tables."""
    process = subprocess.Popen(
        # A shell's background processes, such as these tests may be, ignore SIGINT.
        ["/usr/bin/env", "--default-signal=INT", *server.command("copydatabase", f"sqlite://{source}")],
        env=server.environment | {"KCR_DATABASE_URL": target},
        cwd=SOURCE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert any(line.startswith("copied accounts_organization") for line in process.stderr)
        process.send_signal(how)
        process.stderr.read()
    assert process.returncode not in (0, None)
