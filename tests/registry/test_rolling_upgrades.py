"""Processes of a release go on while the next release's migrations are applied, and beside its processes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import models
from django.db.migrations import operations as kinds
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration

from registry.database.operations import AddIndexOnline
from tests.support.images import sha256
from tests.support.migrations import problems
from tests.support.programs import PostgresServer
from tests.support.server import SOURCE, LiveServer
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

# ── The rule ─────────────────────────────────────────────────────────────────────────────────────────────────────────
#: Migrations that break the rule, with the reason. CHANGELOG.md says "this upgrade needs a stop".
WITH_A_STOP: dict[str, str] = {}
#: Migrations with operations that need a look, with the reason why the release before survives them.
LOOKED_AT: dict[str, str] = {}
#: Migrations that remove what the code of the release before does not use, with the migration of that release.
SECOND_STEPS: dict[str, str] = {}


def test_new_migrations_survive_a_rolling_upgrade():
    loader = MigrationLoader(None)
    for app, name in loader.graph._generate_plan(loader.graph.leaf_nodes(), at_end=True):
        migration = loader.disk_migrations[app, name]
        known = migration.initial or f"{app}.{name}" in WITH_A_STOP | LOOKED_AT | SECOND_STEPS
        if app in {"accounts", "registry", "scanning"} and not known:
            state = loader.project_state((app, name), at_end=False)
            assert list(problems(migration, state)) == [], f"{app}.{name}"


def test_release_that_needs_a_stop_says_so():
    assert not WITH_A_STOP or "this upgrade needs a stop" in (SOURCE / "CHANGELOG.md").read_text()


def made(*operations: Any, atomic: bool = True) -> list[str]:
    """The problems of a migration of registry with these operations."""
    loader = MigrationLoader(None)
    migration = Migration("next", "registry")
    migration.operations, migration.atomic = operations, atomic
    return list(problems(migration, loader.project_state()))


TEXT = models.CharField(max_length=10)
TEXT_OR_NULL = models.CharField(max_length=10, null=True)


@pytest.mark.parametrize(
    "operation",
    [
        kinds.RemoveField("blob", "size"),
        kinds.RenameField("blob", "size", "bytes"),
        kinds.DeleteModel("Readme"),
        kinds.RenameModel("Readme", "Description"),
        kinds.AlterModelTable("Readme", "readmes"),
        kinds.AddField("blob", "colour", TEXT),
        kinds.AddField("blob", "colour", models.CharField(max_length=10, default="red")),
        kinds.AddField("readme", "colour", models.CharField(max_length=10, null=True, unique=True)),
        kinds.AddField("event", "blob", models.ForeignKey("registry.Blob", models.CASCADE, null=True)),
        kinds.AddIndex("event", models.Index(fields=["digest"], name="events_by_digest")),
        kinds.AddConstraint("blob", models.CheckConstraint(condition=models.Q(size__gt=0), name="some")),
        kinds.AlterField("event", "image", models.ForeignKey("registry.Image", models.CASCADE)),
        kinds.AlterField("event", "path", models.CharField(max_length=10)),
        kinds.AlterField("blob", "size", models.CharField(max_length=10)),
        kinds.RunSQL("UPDATE registry_blob SET size = 0"),
        kinds.SeparateDatabaseAndState([kinds.RemoveField("blob", "size")]),
        AddIndexOnline("event", models.Index(fields=["digest"], name="events_by_digest")),
    ],
    ids=str,
)
def test_migration_that_old_code_does_not_survive_is_refused(operation):
    assert len(made(operation)) == 1


@pytest.mark.parametrize(
    "operation",
    [
        kinds.CreateModel("Colour", [("id", models.BigAutoField(primary_key=True)), ("name", TEXT)]),
        kinds.AddField("blob", "colour", models.CharField(max_length=10, null=True)),
        kinds.AddField("blob", "colour", models.CharField(max_length=10, db_default="red")),
        kinds.AddField("readme", "blob", models.ForeignKey("registry.Blob", models.CASCADE, null=True)),
        kinds.AddIndex("readme", models.Index(fields=["text"], name="readmes_by_text")),
        kinds.RemoveIndex("event", "events_by_time"),
        kinds.AlterField("blob", "storage_key", models.CharField(max_length=200, unique=True)),
        kinds.AlterField("blob", "size", models.BigIntegerField(null=True, help_text="bytes")),
        kinds.SeparateDatabaseAndState(state_operations=[kinds.RemoveField("blob", "size")]),
    ],
    ids=str,
)
def test_migration_that_old_code_survives_is_allowed(operation):
    assert made(operation) == []


def test_index_of_a_large_table_is_made_online():
    assert made(AddIndexOnline("event", models.Index(fields=["digest"], name="events_by_digest")), atomic=False) == []


def test_migration_locks_one_table_at_a_time():
    columns = [kinds.AddField(name, "colour", TEXT_OR_NULL) for name in ("blob", "event")]
    assert "deadlock" in made(*columns)[0]
    assert made(*columns, atomic=False) == made(columns[0]) == []


# ── Old processes beside new ones ────────────────────────────────────────────────────────────────────────────────────
class NextRelease(LiveServer):
    """A server of the next release, on the database and the blobs of an old one."""

    def __init__(self, old: LiveServer) -> None:
        super().__init__("next", old.settings | {"KCR_STORAGE_URL": (old.data / "storage").as_uri()})
        self.key = old.key
        self.data.mkdir(mode=0o700)
        (self.data / "secret_key").write_bytes((old.data / "secret_key").read_bytes())

    FUTURE: ClassVar = {"DJANGO_SETTINGS_MODULE": "tests.future.settings"}

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.FUTURE


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with PostgresServer("rolling") as running:
        yield running


@pytest.mark.real
@pytest.mark.sqlite_only
def test_old_processes_go_on_during_and_after_the_migrations_of_the_next_release(database):
    with LiveServer("old", {"KCR_DATABASE_URL": database.url, "KCR_WEB_WORKERS": "1"}) as old:
        old.people()
        admin = old.visitor("admin@acme.test", "--project", "demo:admin")
        use(old, admin, "before")
        next_release = NextRelease(old)
        try:
            during(old, next_release.migrate)
            with psycopg.connect(database.url) as asked:
                names = asked.execute("SELECT name FROM django_migrations WHERE name LIKE '999%'").fetchall()
                valid = asked.execute("SELECT bool_and(indisvalid) FROM pg_index").fetchone()
            assert len(names) == 6
            assert valid == (True,)
            use(old, admin, "after")

            next_release.serve()
            use(next_release, Visitor(next_release, "admin@acme.test"), "new")
            upload = urlsplit(old.api().start()).path
            assert next_release.api().ask("PUT", f"{upload}?digest={sha256(b'shared')}", b"shared")[0] == 201
            assert old.api().ask("GET", f"blobs/{sha256(b'shared')}")[2] == b"shared"

            old.end()
            old.serve()  # an old process also starts on the new tables
            use(old, admin, "again")
            assert len(old.work("database", "fill")) > 50  # old code writes a row of each kind, a useless key included
        finally:
            next_release.close()


def use(server: LiveServer, visitor: Visitor, tag: str) -> None:
    """Push, pull, move a tag, delete, recover, and look at pages."""
    api = server.api()
    for data in (tag.encode(), tag.encode() * 2):
        assert api.push_blob(data) == 201
        assert api.push_manifest(tag, data) == 201
        assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data
    assert api.ask("DELETE", f"manifests/{tag}")[0] == 202
    assert api.ask("GET", f"manifests/{tag}")[0] == 404
    page = visitor.see("/projects/demo/recovery")
    newest = page.partition('name="deletion" value="')[2].partition('"')[0]
    assert visitor.post(*visitor.filled("/projects/demo/recovery", deletion=newest))[0] == 302
    assert api.ask("GET", f"manifests/{tag}")[0] == 200
    for path in ("/projects/demo/", "/projects/demo/audit-log", "/projects/demo/scans"):
        visitor.see(path)


def during(server: LiveServer, act: Any) -> None:
    """Push and pull without a pause while something is done; every answer is a success."""
    is_over = threading.Event()
    answers: list[int] = []

    def work() -> None:
        api = server.api()
        while not is_over.is_set():
            data = b"during %d" % len(answers)
            answers.append(api.push_blob(data))
            answers.append(api.push_manifest("during", data))
            answers.append(api.ask("GET", "manifests/during")[0])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        act()
    finally:
        is_over.set()
        thread.join()
    assert set(answers) == {200, 201}, answers
