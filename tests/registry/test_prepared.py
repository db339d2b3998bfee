"""Prepared queries: each run uses its own values and its own time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from django.db.models import DateTimeField, Q, TextField, Value
from django.db.models.functions import Now
from django.utils import timezone

from accounts.actors import ANONYMOUS, SYSTEM
from accounts.models import AccessKey, Project, RefreshToken
from registry import access
from registry.database.prepared import FrozenMoment, prepare
from registry.models import Repository, Tag


class Row(NamedTuple):
    pk: int
    name: str


@prepare(Row, name=TextField())
def by_name(actor, name):
    found = access.permitted(Repository.objects.filter(name=name), actor, access.Action.PULL)
    return found.order_by("pk").values_list("pk", "name")


def test_each_run_has_its_own_actor_and_values(world):
    web, secret = world.repository("web"), world.repository("secret")
    assert by_name.first(world.viewer.actor, name="web") == Row(pk=web.pk, name="web")
    assert by_name.first(world.viewer.actor, name="secret") is None
    assert by_name.first(world.stranger.actor, name="web") is None
    assert by_name.first(world.owner.actor, name="secret").pk == secret.pk
    assert by_name.first(ANONYMOUS, name="web") is None
    assert by_name.first(SYSTEM, name="web").pk == web.pk
    assert by_name.first(world.viewer.actor, name="web").name == "web"
    assert [row.name for row in by_name.all(world.member.actor, name="public")] == ["public"]


def test_a_value_is_never_mistaken_for_a_constant_of_the_query(world, django_assert_num_queries):
    """A value that equals a constant of the SQL, or looks like a placeholder, stays a value."""
    for name in ("pull_repository", "owner", "%s", "'; --"):
        with django_assert_num_queries(1):
            assert by_name.first(world.viewer.actor, name=name) is None


def test_datetime_is_converted_for_the_database(world):
    @prepare(Row, moment=DateTimeField())
    def created_by(actor, moment):
        return Project.objects.filter(created_at__lte=moment).order_by("pk").values_list("pk", "name")

    demo = world.projects["demo"]
    assert created_by.first(SYSTEM, moment=datetime(2001, 1, 1, tzinfo=UTC)) is None
    assert created_by.first(SYSTEM, moment=demo.created_at).pk == demo.pk
    assert {row.name for row in created_by.all(SYSTEM, moment=timezone.now())} >= {"demo", "lab", "rival"}


@pytest.mark.parametrize(
    "query",
    [
        lambda: Project.objects.filter(created_at__lte=timezone.now()),
        lambda: Project.objects.filter(Q(name="demo") | Q(created_at__lte=timezone.now())),
        lambda: Project.objects.annotate(now=Value(timezone.now(), DateTimeField())).order_by("now"),
        lambda: Project.objects.filter(repositories__images__tags__in=Tag.objects.filter(ended_at=timezone.now())),
        lambda: Project.objects.filter(created_at__date=timezone.now().date()),
        lambda: Project.objects.filter(pk__in=RefreshToken.objects.alive().values("key__project")),
    ],
)
def test_a_query_that_calls_timezone_now_cannot_be_prepared(db, query):
    prepared = prepare(Row)(lambda actor: query().values_list("pk", "name"))
    with pytest.raises(FrozenMoment, match="holds the moment"):
        prepared.first(SYSTEM)


def test_a_query_that_asks_the_database_for_the_time_can_be_prepared(db):
    keys = AccessKey.objects.alive().filter(created_at__lte=Now()).values("project")
    prepared = prepare(Row)(lambda actor: Project.objects.filter(pk__in=keys).values_list("pk", "name"))
    assert prepared.all(SYSTEM) == []
