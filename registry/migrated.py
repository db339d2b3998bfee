"""Whether the database has the tables that this code needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

if TYPE_CHECKING:
    from django.db.migrations.loader import MigrationLoader

IN_BETWEEN = "the database is from before the first release and lacks tables: see docs/operate/upgrade.md"


class NotMigrated(Exception):
    """The message says what to do."""


def is_in_between(loader: MigrationLoader) -> bool:
    """Whether only some of the migrations that others replace are applied. Django leaves out the others then."""
    return bool(loader.replacements.keys() - loader.graph.nodes.keys())


def missing(executor: MigrationExecutor) -> list[str]:
    """The names ("app.name") of the migrations of this code that are not applied."""
    left_out = executor.loader.replacements.keys() - executor.loader.graph.nodes.keys()
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    planned = [(migration.app_label, migration.name) for migration, _backwards in plan]
    return [f"{app}.{name}" for app, name in (*sorted(left_out), *planned)]


def require() -> None:
    """Raise NotMigrated if a migration of this code is not applied.

    Migrations that this code does not know are no problem: they are of the next release, in a rolling upgrade.
    """
    executor = MigrationExecutor(connection)
    if is_in_between(executor.loader):
        raise NotMigrated(IN_BETWEEN)
    if names := missing(executor):
        more = ", …" if len(names) > 3 else ""
        raise NotMigrated(
            f"the database lacks {len(names)} migrations ({', '.join(names[:3])}{more}): run manage.py migrate"
        )
