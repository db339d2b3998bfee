"""A process starts only on a database that has the tables of its code; newer tables are no problem."""

from __future__ import annotations

import sys

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from registry import migrated
from tests.support.programs import run
from tests.support.server import SOURCE, LiveServer


def test_unknown_migrations_are_tolerated_and_missing_ones_are_not(db):
    migrated.require()
    recorder = MigrationRecorder(connection)
    recorder.record_applied("registry", "9999_next_release")
    migrated.require()
    app, name = MigrationLoader(connection).graph.leaf_nodes("scanning")[0]
    for each in [(app, name), *MigrationLoader(None).disk_migrations[app, name].replaces]:
        recorder.record_unapplied(*each)
    with pytest.raises(migrated.NotMigrated, match=rf"lacks 1 migrations \({app}\.{name}\): run manage.py migrate"):
        migrated.require()


def test_database_from_before_the_first_release_has_its_tables_or_is_refused(db):
    recorder = MigrationRecorder(connection)
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if migration.replaces:
            recorder.record_unapplied(app, name)
        for former in migration.replaces:
            recorder.record_applied(*former)
    migrated.require()
    recorder.record_unapplied("registry", "0026_no_index_of_tag_names_alone")
    with pytest.raises(migrated.NotMigrated, match="from before the first release"):
        migrated.require()
    assert migrated.missing(MigrationExecutor(connection)) == ["registry.0001_first_release"]
    with pytest.raises(SystemCheckError, match="from before the first release"):
        call_command("migrate", skip_checks=False)


@pytest.mark.real
@pytest.mark.sqlite_only
def test_web_server_and_worker_refuse_a_database_without_tables():
    with LiveServer("empty") as server:
        server.end()
        (server.data / "kcr.sqlite3").unlink()
        worker = [sys.executable, "-m", "celery", "--app=registry", "worker", "--concurrency=1"]
        for command in (server.command("serve"), worker):
            result = run(command, environment=server.environment, directory=SOURCE, succeeds=False, timeout=300)
            assert "migrations (" in result.errors
            assert "run manage.py migrate" in result.errors
