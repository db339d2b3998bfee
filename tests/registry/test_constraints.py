"""Every constraint of the models is one of the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from tests.workers.database import MEETING_CHECKS, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

APPS = ("accounts", "registry", "scanning")
MODELS = [model for app in APPS for model in apps.get_app_config(app).get_models(include_auto_created=True)]
FREE_ID = 10**9  # rows of other tests have smaller ids
SERVICE_ACCOUNT = {
    "kind": "service",
    "organization": FREE_ID,
    "email": "ci@acme.organization.invalid",
    "password": "!",
    "is_superuser": False,
    "deleted_at": None,
}
#: Values that break each check. A new check needs its own.
BROKEN_CHECKS: dict[str, list[dict[str, Any]]] = {
    "person_or_service_account": [
        {"organization": FREE_ID},
        {"deleted_at": timezone.now(), "is_active": False},
        *({**SERVICE_ACCOUNT, **wrong} for wrong in ({"organization": None}, {"email": "ci@acme.test"})),
        *({**SERVICE_ACCOUNT, **wrong} for wrong in ({"password": "hash"}, {"is_superuser": True})),
    ],
    "deleted_users_are_not_active": [{**SERVICE_ACCOUNT, "deleted_at": timezone.now(), "is_active": True}],
    "cleanup_numbers_are_positive": [{name: 0} for name in ("keep_last", "tag_days", "unpulled_days", "untagged_days")],
    "cleanup_percent_is_one": [{"most_percent": 101}],
    "a_warning_has_one_owner": [{"organization": FREE_ID}, {"project": None}],
}
#: Values of the rows of a unique constraint, where those of MEETING_CHECKS have NULL in one of its columns.
MEETING_UNIQUE: dict[str, dict[str, Any]] = {
    "one_warning_an_organization_and_quota": {"project": None, "organization": FREE_ID},
}


def unique() -> Iterator[Any]:
    """Yield model, columns, condition and given values of each unique constraint and unique column, but primary keys."""
    for model in MODELS:
        name = model._meta.label
        for constraint in model._meta.constraints:
            if isinstance(constraint, models.UniqueConstraint):
                found = [
                    each.name for it in constraint.expressions for each in it.flatten() if isinstance(each, models.F)
                ]
                fields = constraint.fields or found
                given = met(constraint.condition) | MEETING_UNIQUE.get(constraint.name, {})
                yield pytest.param(model, fields, constraint.condition, given, id=f"{name}-{constraint.name}")
        for together in model._meta.unique_together:
            yield pytest.param(model, together, None, {}, id=f"{name}-{'-'.join(together)}")
        for field in model._meta.concrete_fields:
            if field.unique and not field.primary_key:
                yield pytest.param(model, (field.name,), None, {}, id=f"{name}-{field.name}")


def met(condition: models.Q | None) -> dict[str, Any]:
    """Values that meet the condition of a unique constraint."""
    found = {}
    for lookup, value in condition.children if condition else ():
        name, _, kind = lookup.partition("__")
        found[name] = value[0] if kind == "in" else value
    return found


def row(model: type[models.Model], number: int, **given: Any) -> models.Model:
    """A row whose values differ from those of the row of any other number."""
    values = {}
    for field in model._meta.concrete_fields:
        value = value_of(field)
        if isinstance(value, str) and not field.choices:
            value = f"{number}{value[1:]}"
        elif isinstance(value, int) and not isinstance(value, bool) and not field.choices:
            value = FREE_ID + number if value == value_of(model._meta.pk) else value - number
        elif isinstance(field, models.DateField):
            value -= timedelta(days=number)
        elif isinstance(field, models.UUIDField):
            value = type(value)(int=value.int - number)
        values[field.attname] = value
    values |= MEETING_CHECKS.get(model._meta.label, {})
    return model(**values | {model._meta.get_field(name).attname: value for name, value in given.items()})


def insert(*rows: models.Model) -> None:
    """Insert rows in a savepoint. The rows that they refer to need not exist: see no_foreign_keys."""
    with transaction.atomic():
        for each in rows:
            type(each)._base_manager.bulk_create([each])


@pytest.fixture(autouse=True)
def no_foreign_keys() -> Iterator[None]:
    """Roll back before foreign keys are checked."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize(("model", "fields", "condition", "given"), list(unique()))
def test_second_row_with_the_same_unique_values_is_refused(model, fields, condition, given):
    first, second = row(model, 1, **given), row(model, 2, **given)
    insert(first)
    same = {name: getattr(first, model._meta.get_field(name).attname) for name in fields}
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        insert(row(model, 2, **given | same))
    insert(second)  # all but these values may be the same as well
    if condition:
        insert(row(model, 3, **same))  # where the condition is not met, they may


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_checks_of_numbers(model):
    for field in model._meta.concrete_fields:
        if field.get_internal_type().startswith("Positive"):
            with pytest.raises(IntegrityError, match=r"(?i)check"):
                insert(row(model, 1, **{field.name: -1}))
    insert(row(model, 1))


def test_checks_of_models():
    checks = {
        constraint.name: model
        for model in MODELS
        for constraint in model._meta.constraints
        if isinstance(constraint, models.CheckConstraint)
    }
    assert checks.keys() == BROKEN_CHECKS.keys()
    for name, broken in BROKEN_CHECKS.items():
        for values in broken:
            with pytest.raises(IntegrityError, match=name):
                insert(row(checks[name], 1, **values))
