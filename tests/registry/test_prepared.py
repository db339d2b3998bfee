"""Prepared queries: each run uses its own values and its own time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import BigIntegerField, DateTimeField, Exists, OuterRef, Q, TextField, Value
from django.db.models.functions import Now
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.actors import ANONYMOUS, SYSTEM
from accounts.models import AccessKey, Project, RefreshToken
from registry import access
from registry.database import drivers
from registry.database.drivers import Statement
from registry.database.prepared import (
    FrozenMoment,
    ListOf,
    PreparedInsert,
    number_of,
    prepare,
    prepare_models,
    prepare_update,
)
from registry.database.sqlite.base import DatabaseWrapper
from registry.models import Blob, BlobReview, Repository, Tag, UploadSession


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
    actor = world.viewer.actor
    for name in ("pull_repository", "owner", "%s", "'; --"):
        with django_assert_num_queries(1):
            assert by_name.first(actor, name=name) is None


def test_rows_stay_as_they_are(world):
    query = prepare(tuple, name=TextField())(
        lambda _actor, name: Repository.objects.filter(name=name).values_list("pk", "name")
    )
    web = world.repository("web")
    assert query.all(name="web") == [(web.pk, "web")]
    assert query.first(name="nothing") is None


@pytest.mark.parametrize("name", ["web", "nothing"])
def test_rows_are_counted(world, name, django_assert_num_queries):
    query = prepare(int, name=TextField())(lambda _actor, name: number_of(Repository.objects.filter(name=name)))
    expected = Repository.objects.filter(name=name).count()
    with django_assert_num_queries(1):
        assert query.first(name=name) == expected


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


@prepare_models(Repository, name=TextField())
def whole(actor, name):
    action = access.Action.PUSH
    return access.permitted(Repository.objects.select_related("project"), actor, action).filter(name=name)


def test_instances_are_those_of_a_queryset(world, django_assert_num_queries):
    expected, actor = (
        Repository.objects.select_related("project__organization", "deletion").get(name="web"),
        world.member.actor,
    )
    with django_assert_num_queries(1):
        found = whole.first(actor, name="web")
        assert str(found) == "demo/web"
    assert whole.all(world.member.actor, name="web") == [found]
    assert found._state.db == "default"
    assert not found._state.adding
    for field in Repository._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(expected, field.attname), field
    for field in Project._meta.concrete_fields:
        assert getattr(found.project, field.attname) == getattr(expected.project, field.attname), field
    assert whole.first(world.viewer.actor, name="web") is None
    assert whole.all(world.viewer.actor, name="web") == []


@prepare_models(Repository, wanted=ListOf(TextField()), ids=ListOf(BigIntegerField()))
def listed(actor, wanted, ids):
    found = Repository.objects.filter(name__in=wanted, pk__in=ids)
    return found.annotate(is_web=Exists(found.filter(pk=OuterRef("pk"), name="web"))).order_by("pk")


def test_lists_of_every_length_are_one_value(world, django_assert_num_queries):
    rows = [world.repository(name) for name in ("web", "secret", "public")]
    ids, wanted = [row.pk for row in rows], [row.name for row in rows]
    assert listed.all(wanted=wanted, ids=ids) == sorted(rows, key=lambda row: row.pk)
    with django_assert_num_queries(4):
        assert listed.all(wanted=["secret", "secret", "'; --", "%s", 'a "quote"', "é"], ids=ids) == [rows[1]]
        assert listed.all(wanted=set(wanted), ids=ids[:1]) == [rows[0]]
        assert listed.all(wanted=[], ids=ids) == []
        assert listed.all(wanted=[f"name {number}" for number in range(5_000)], ids=range(5_000)) == []


def test_instances_have_their_annotations(world):
    found = listed.all(wanted=["web", "secret"], ids=[world.repository(name).pk for name in ("web", "secret")])
    assert {row.name: bool(row.is_web) for row in found} == {"web": True, "secret": False}


def test_a_query_that_can_have_no_row_is_not_asked(world, django_assert_num_queries):
    pull_only = replace(world.member.actor, actions=frozenset({"pull"}))
    with django_assert_num_queries(0):
        assert whole.first(pull_only, name="web") is None
        assert whole.all(pull_only, name="web") == []


# ── The driver's own cursor ──────────────────────────────────────────────────────────────────────────────────────────
ROWS = Statement("SELECT %s, '100%%' UNION ALL SELECT %s, '%%s' ORDER BY 1")


def test_watched_statements_are_the_same_and_are_seen(db):
    """Tests count queries with both ways of watching; in production nothing watches."""
    expected = [("a", "100%"), ("b", "%s")]
    assert ROWS.all(["a", "b"]) == expected
    assert ROWS.first(["a", "b"]) == expected[0]
    with CaptureQueriesContext(connection) as captured:
        assert ROWS.all(["a", "b"]) == expected
        assert ROWS.first(["a", "b"]) == expected[0]
    assert len(captured) == 2
    seen = []

    def watch(execute, sql, params, many, context):
        seen.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        assert ROWS.first(["a", "b"]) == expected[0]
    assert seen == [(ROWS.sql, ["a", "b"])]


def test_no_row_is_none(db):
    none = Statement("SELECT id FROM accounts_project WHERE name = %s")
    assert none.first(["none"]) is None
    assert none.all(["none"]) == []


def test_errors_are_those_of_django(db):
    with pytest.raises(DatabaseError), transaction.atomic():
        Statement("SELECT nothing FROM nowhere").all([])
    assert connection.errors_occurred, "Django tests the connection before it is used again"
    assert Statement("SELECT %s").first(["x"]) == ("x",)


def test_a_failed_transaction_is_not_asked(db):
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            Statement("SELECT %s").first(["x"])


def test_a_closed_connection_is_opened_again(db):
    def ask() -> list[object]:
        try:
            first = Statement("SELECT %s").first(["x"])
            connection.close()
            return [first, Statement("SELECT %s").first(["y"])]
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other_thread:  # has a connection of its own, without the transaction of the test
        assert other_thread.submit(ask).result() == [("x",), ("y",)]


if connection.vendor == "postgresql":

    def test_postgresql_plans_a_statement_once(world):
        by_name.first(world.viewer.actor, name="web")
        by_name.first(world.viewer.actor, name="secret")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["%registry_repository%"]
            )
            assert cursor.fetchone() == (1,)


# ── Writes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
insert_blob = PreparedInsert(Blob)
insert_or_leave = PreparedInsert(Blob, ignores=True)
insert_or_update = PreparedInsert(BlobReview, updates=["review_after"], unique=["blob", "project"])


@prepare_update(digest=TextField(), size=BigIntegerField(), moment=DateTimeField())
def resize(digest, size, moment):
    return Blob.objects.filter(digest=digest), {"size": size, "created_at": moment}


def test_inserted_row_is_that_of_the_model(db, django_assert_num_queries):
    for number in range(2):  # the SQL is written by the first one
        row = Blob(digest=f"sha256:{number}", size=2**40 + number, storage_key=f"key {number} %s '")
        with django_assert_num_queries(1):
            insert_blob.run(row)
        found = Blob.objects.get(digest=row.digest)
        assert (found.size, found.storage_key, found.created_at) == (row.size, row.storage_key, row.created_at)


def test_uuids_and_moments_are_stored_as_the_database_takes_them(world):
    wanted = UploadSession(
        repository=world.repository("web"),
        image_name="app",
        user=world.member.user,
        algorithm="sha256",
        expires_at=timezone.now(),
    )
    PreparedInsert(UploadSession).run(wanted)
    found = UploadSession.objects.get(pk=wanted.pk)
    for field in UploadSession._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(wanted, field.attname), field


def test_conflict_raises_leaves_or_updates_the_row(world):
    first = Blob(digest="sha256:1", size=1, storage_key="first")
    insert_blob.run(first)
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_blob.run(Blob(digest="sha256:1", size=2, storage_key="second"))
    insert_or_leave.run(Blob(digest="sha256:1", size=2, storage_key="second"))
    blob = Blob.objects.get()
    assert (blob.size, blob.storage_key) == (1, "first")
    for day in (1, 2):
        moment = datetime(2026, 9, day, tzinfo=UTC)
        insert_or_update.run(BlobReview(blob=blob, project=world.projects["demo"], review_after=moment))
        assert BlobReview.objects.get().review_after == moment


insert_and_tell = PreparedInsert(Blob, ignores=True, returns_key=True)


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.django_db(transaction=True)
def test_key_of_an_inserted_row_is_known(in_transaction):
    with transaction.atomic() if in_transaction else nullcontext():
        first, again = (Blob(digest="sha256:1", size=1, storage_key="first") for _ in range(2))
        insert_and_tell.run(first)
        insert_and_tell.run(again)
    assert first == Blob.objects.get()
    assert not first._state.adding
    assert again.pk is None, "the row was there"


def test_many_rows_are_one_statement(db, django_assert_num_queries):
    rows = [Blob(digest=f"sha256:{number}", size=number, storage_key=f"{number}") for number in range(300)]
    with django_assert_num_queries(1):
        insert_blob.run_all(rows)
        insert_blob.run_all([])
    assert list(Blob.objects.order_by("size").values_list("digest", flat=True)) == [row.digest for row in rows]
    insert_blob.run_all([Blob(digest="sha256:a", size=1, storage_key="a")])  # nothing watches: the driver's own cursor
    assert Blob.objects.count() == 301
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_blob.run_all([Blob(digest=f"sha256:{digest}", size=1, storage_key=digest) for digest in "bca"])
    assert Blob.objects.count() == 301


def test_update_changes_the_rows_of_its_values_only(db, django_assert_num_queries):
    for number in (1, 2):
        insert_blob.run(Blob(digest=f"sha256:{number}", size=number, storage_key=f"{number}"))
    moment = datetime(2026, 9, 1, 12, 30, 15, 999, tzinfo=UTC)
    with django_assert_num_queries(2):
        assert resize.run(digest="sha256:1", size=10, moment=moment) == 1
        assert resize.run(digest="sha256:3", size=10, moment=moment) == 0
    assert list(Blob.objects.order_by("pk").values_list("size", flat=True)) == [10, 2]
    assert Blob.objects.get(size=10).created_at == moment


def test_update_that_holds_a_moment_cannot_be_prepared(db):
    frozen = prepare_update(size=BigIntegerField())(lambda size: (Blob.objects.all(), {"created_at": timezone.now()}))
    with pytest.raises(FrozenMoment, match="holds the moment"):
        frozen.run(size=1)


@pytest.mark.sqlite_only
def test_write_outside_of_a_transaction_waits_for_its_turn(db, tmp_path, monkeypatch):
    """Such as that of PATCH: it is one statement. Without a turn it would overtake the queue of writers."""
    taken = []
    settings = {**connection.settings_dict, "NAME": str(tmp_path / "other.sqlite3")}
    other = DatabaseWrapper(settings, "other")
    monkeypatch.setattr(other, "take_turn", lambda: taken.append(1) or SimpleNamespace(give=lambda: taken.append(-1)))
    monkeypatch.setattr(drivers, "connections", {"default": other})
    try:
        Statement("CREATE TABLE t (i integer)").change([])
        assert Statement("INSERT INTO t VALUES (%s)").change([1]) == 1
        assert Statement("UPDATE t SET i = i + %s").change([1]) == 1
        assert taken == [1, -1] * 3
        assert Statement("SELECT i FROM t").all([]) == [(2,)]
        assert taken == [1, -1] * 3
    finally:
        other.close()
