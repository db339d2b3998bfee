"""Whether the database has the tables that this code needs."""

from __future__ import annotations

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


class NotMigrated(Exception):
    """The message says what to do."""


def require() -> None:
    """Raise NotMigrated if a migration of this code is not applied.

    Migrations that this code does not know are no problem: they are of the next release, in a rolling upgrade.
    """
    executor = MigrationExecutor(connection)
    # Django leaves out a migration if only some of those that it replaces are applied.
    if executor.loader.replacements.keys() - executor.loader.graph.nodes.keys():
        raise NotMigrated("the database is from before the first release and lacks tables: see docs/operate/upgrade.md")
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:3])
        more = ", …" if len(plan) > 3 else ""
        raise NotMigrated(f"the database lacks {len(plan)} migrations ({names}{more}): run manage.py migrate")
