"""Renames keep what is in the tables."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from scanning.models import Notification, Subscription
from scanning.notifications import messages
from tests.support.factories import high, make_manifest, open_scan, scanned, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = [("scanning", "0004_plain_names")]


def migrate(targets):
    """Migrate to these, and return the models of that time."""
    executor = MigrationExecutor(connection)
    return executor.migrate(targets).apps


@pytest.fixture
def latest():
    """The newest migrations; the schema is there again after the test, whatever it did."""
    targets = MigrationExecutor(connection).loader.graph.leaf_nodes()
    yield targets
    migrate(targets)


def test_notifications_and_channels_survive_the_renames(world, latest):
    project, web = world.projects["demo"], world.repository("web")
    mail = subscribe(project)
    hook = subscribe(project, web, channel="webhook", recipients=[], url="https://hooks.test/", secret="sealed")
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    messages.gather()
    scanned(make_manifest(web, "other", image="other", tag="1"), high("CVE-2"))
    open_scan(make_manifest(web, "slow", image="slow"))
    messages.gather()  # the second waits for the third
    told = list(Notification.objects.order_by("pk").values())
    assert len(told) == 4
    assert {row["delivery_id"] is None for row in told} == {True, False}

    old = migrate(BEFORE)
    rows = old.get_model("scanning", "Notice").objects.order_by("pk")
    assert list(rows.values()) == told
    assert not [name for name in connection.introspection.table_names() if name == "scanning_notification"]

    migrate(latest)
    assert list(Notification.objects.order_by("pk").values()) == told
    kinds = dict(Subscription.objects.values_list("pk", "channel"))
    assert kinds == {mail.pk: "mail", hook.pk: "webhook"}
    assert Subscription.objects.get(pk=hook.pk).secret == "sealed"
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, "scanning_notification")
    assert {"one_notification_a_scan", "notifications_to_gather"} <= constraints.keys()
    assert not {"one_notice_a_scan", "notices_to_gather"} & constraints.keys()
