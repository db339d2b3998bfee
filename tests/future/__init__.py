"""The next release, as tests see it: migrations of all kinds that old code must survive, for every table.

``DJANGO_SETTINGS_MODULE=tests.future.settings manage.py migrate`` applies them. The models are those of this release.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import models
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AddField, CreateModel
from django.utils import timezone

from registry.database.operations import AddIndexOnline

if TYPE_CHECKING:
    from django.db.migrations.operations.base import Operation


def folder(app: str) -> str:
    """The folder of the app's own migrations."""
    return import_module(f"{app}.migrations").__path__[0]


def last(app: str) -> str:
    """The name of the app's newest own migration."""
    return max(path.stem for path in Path(folder(app)).glob("*.py") if re.match(r"\d{4}_", path.name))


def columns(app: str) -> type[Migration]:
    """A migration that adds a table, and to each table a column that may be empty and columns with defaults."""
    operations: list[Operation] = [
        CreateModel(
            "Future",
            [("id", models.BigAutoField(primary_key=True)), ("moment", models.DateTimeField(default=timezone.now))],
        )
    ]
    for model in apps.get_app_config(app).get_models():
        name = model._meta.model_name or ""
        operations += [
            AddField(name, "future_note", models.CharField(max_length=100, null=True)),
            AddField(name, "future_number", models.PositiveIntegerField(default=1, db_default=1)),
            AddField(name, "future_document", models.JSONField(default=dict, db_default={})),
        ]
    return made(app, last(app), operations)


def indexes(app: str) -> type[Migration]:
    """A migration that adds an index to each table while it is written to."""
    operations: list[Operation] = [
        AddIndexOnline(
            model._meta.model_name or "", models.Index(fields=["future_number"], name=f"future_{number}_{app}")
        )
        for number, model in enumerate(apps.get_app_config(app).get_models())
    ]
    return made(app, "9998_columns", operations)


def made(app: str, after: str, operations: list[Operation]) -> type[Migration]:
    """A migration whose operations are a transaction each: together they would wait for transactions of the old code
    that wait for them.
    """
    return type("Migration", (Migration,), {"dependencies": [(app, after)], "operations": operations, "atomic": False})
