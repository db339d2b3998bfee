"""Which migrations the code of the release before survives, and PostgreSQL applies while KCR serves.

See "Rolling upgrades" in docs/operate/upgrade.md and "Migrations" in docs/contributing/setup.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.migrations import operations as kinds
from django.db.models.fields import NOT_PROVIDED

from registry.database.operations import AddIndexOnline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.migrations.migration import Migration
    from django.db.migrations.operations.base import Operation
    from django.db.migrations.state import ProjectState

#: Tables that may have more than a million rows: they grow with every push, pull, scan or change.
BIG = {
    *("accounts.auditevent", "registry.blob", "registry.bloblease", "registry.blobreview", "registry.cleanupline"),
    *("registry.deletion", "registry.event", "registry.image", "registry.manifest", "registry.manifestblob"),
    *("registry.manifestchild", "registry.tag", "registry.tagday", "scanning.component", "scanning.finding"),
    *("scanning.notification", "scanning.delivery", "scanning.report", "scanning.sbom", "scanning.scan"),
}
HARMLESS = (
    *(kinds.CreateModel, kinds.AlterModelOptions, kinds.AlterModelManagers, kinds.RemoveIndex, kinds.RenameIndex),
    *(kinds.RemoveConstraint, AddIndexOnline),
)


def problems(migration: Migration, state: ProjectState) -> Iterator[str]:
    """Yield what is wrong with a migration. ``state``: before it; it is changed to the state after it."""
    created = {each.name_lower for each in migration.operations if isinstance(each, kinds.CreateModel)}
    altered = {str(getattr(each, "model_name", "")).lower() for each in migration.operations} - created - {""}
    if migration.atomic and len(altered) > 1:
        yield f"it locks {', '.join(sorted(altered))} at once, a deadlock with writers: a migration for each table"
    for operation in migration.operations:
        yield from _problems(operation, migration, state, created)
        operation.state_forwards(migration.app_label, state)


def _problems(operation: Operation, migration: Migration, state: ProjectState, created: set[str]) -> Iterator[str]:
    said = operation.describe()
    table = str(getattr(operation, "model_name", "")).lower()
    if isinstance(operation, AddIndexOnline) and migration.atomic:
        yield f"{said}: set atomic = False"
    if isinstance(operation, HARMLESS) or (table and table in created):
        return
    if isinstance(operation, kinds.SeparateDatabaseAndState):
        for inner in operation.database_operations:
            yield from _problems(inner, migration, state, created)
    elif isinstance(operation, kinds.AddField):
        yield from (f"{said}: {problem}" for problem in _of_new_column(operation.field, _is_big(migration, table)))
    elif isinstance(operation, kinds.AlterField):
        before = state.models[migration.app_label, table].fields[operation.name]
        if not _is_wider(before, operation.field):
            yield f"{said}: only NULL and more characters may be allowed to a column of the release before"
    elif isinstance(operation, kinds.AddIndex):
        if _is_big(migration, table):
            yield f"{said}: it stops writers of a large table: use registry.database.operations.AddIndexOnline"
    else:
        yield f"{said}: the code of the release before does not survive it, or it needs a look ({type(operation).__name__})"


def _is_big(migration: Migration, table: str) -> bool:
    return f"{migration.app_label}.{table}" in BIG


def _of_new_column(field: models.Field[Any, Any], is_big: bool) -> Iterator[str]:
    if field.many_to_many:
        return
    if not field.null and field.db_default is NOT_PROVIDED:
        yield "rows of the release before have no value for it: null=True or db_default=…"
    if isinstance(field, models.GeneratedField):
        yield "PostgreSQL writes the whole table again"
    if is_big and (field.unique or getattr(field, "db_index", False)):
        yield "its index stops writers of a large table: db_index=False, and AddIndexOnline"
    elif field.unique:
        yield "the release before does not know that it is unique"


def _is_wider(before: models.Field[Any, Any], after: models.Field[Any, Any]) -> bool:
    """Whether the column takes all values of before, and its rows stay as they are."""
    path, _, attributes = _described(before)
    new_path, _, new_attributes = _described(after)
    changed = {name for name in attributes | new_attributes if attributes.get(name) != new_attributes.get(name)}
    if path != new_path:
        return False
    if "null" in changed and not after.null:
        return False
    if "max_length" in changed and (after.max_length or 0) < (before.max_length or 0):
        return False
    return changed <= {"null", "max_length", *before.non_db_attrs}


def _described(field: models.Field[Any, Any]) -> tuple[str, Any, dict[str, Any]]:
    _name, path, arguments, attributes = field.deconstruct()
    return path, arguments, attributes
