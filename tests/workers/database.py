"""Rows of tests/registry/test_database_copy.py."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction

MOMENT = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
TEXT = "한글 \U0001f600 \\ \t\r\n\x01'\"%s"
DOCUMENT = {"z": 1, "a": [1.5, -0.0, 1e22, 10**30, None, True, {"": TEXT}], "ab": "\\u0000 \\N"}

#: Values that meet the checks of a model, where a row with a value in each column breaks one.
MEETING_CHECKS: dict[str, dict[str, Any]] = {
    "accounts.User": {"kind": "person", "organization_id": None, "project_id": None, "deleted_at": None},
    "registry.QuotaWarning": {"organization_id": None},
}


def fill() -> list[str]:
    """Make a row with unusual values in each table. Return the tables."""
    found = apps.get_models(include_auto_created=True)
    with connection.constraint_checks_disabled(), transaction.atomic():
        for model in found:
            if not model._base_manager.filter(pk=value_of(model._meta.pk)).exists():
                values = {field.attname: value_of(field) for field in model._meta.concrete_fields}
                row = model(**values | MEETING_CHECKS.get(model._meta.label, {}))
                model._base_manager.bulk_create([row])
    return [model._meta.db_table for model in found]


def forget_events() -> None:
    """Let ids of events be used that no row has any more."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sqlite_sequence SET seq = 77777 WHERE name = 'registry_event'")


def next_event() -> int:
    """Make an event as an application does; return its id."""
    model = apps.get_model("registry", "Event")
    return int(model.objects.create(project_id=7, path="p", actor="a", action="tag.add").pk)


def value_of(field: models.Field[Any, Any]) -> Any:
    """A value that is not zero, empty or round. All ids are 7, or their text."""
    stored: Any = field
    while stored.remote_field:
        stored = stored.target_field
    if stored.primary_key:
        if isinstance(stored, models.IntegerField):
            return 7
        return uuid.UUID(int=7) if isinstance(stored, models.UUIDField) else "7" * 20
    if isinstance(stored, models.CharField):
        return stored.choices[-1][0] if stored.choices else (TEXT * 9)[: min(stored.max_length or 9, 30)]
    values: dict[type[models.Field[Any, Any]], Any] = {
        models.TextField: TEXT,
        models.DateTimeField: MOMENT,
        models.DateField: date(2026, 2, 28),
        models.BooleanField: True,
        models.UUIDField: uuid.UUID(int=2**128 - 1),
        models.JSONField: DOCUMENT,
        models.BinaryField: bytes(range(256)),
        models.FloatField: 0.1 + 0.2,
        models.PositiveSmallIntegerField: 5,
        models.PositiveIntegerField: 2**31 - 1,
        models.BigIntegerField: 2**63 - 1,
    }
    return next(value for kind, value in values.items() if isinstance(stored, kind))
