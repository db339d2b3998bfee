"""Renames keep what is in the tables."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.actors import SYSTEM
from registry import manifests
from registry.models import Manifest, Severity
from registry.oci.names import ImageName
from scanning.models import Notification, Report, Scan, Subscription
from scanning.notifications import messages
from tests.support.factories import high, make_index, make_manifest, open_scan, scanned, subscribe

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


def test_manifests_that_an_earlier_rule_called_unsupported_are_scanned_again(world, latest):
    web = world.repository("web")
    deleted, live, clean = (make_manifest(web, name, image=name) for name in ("deleted", "live", "clean"))
    index = make_index(live)
    for manifest in (deleted, live, index):
        Report.objects.create(manifest=manifest, state="unsupported")
    Report.objects.create(manifest=clean, state="scanned")
    Manifest.objects.update(worst_severity=Severity.NONE)
    manifests.delete(SYSTEM, web, ImageName("demo", "web", "deleted"), deleted.digest)
    old = migrate([("scanning", "0003_judged_again"), ("registry", "0005_reviews_of_projects")])
    migration = import_module("scanning.migrations.0003_judged_again")
    for _ in range(2):
        migration.judge_again(old, None)
    migrate(latest)
    severities = dict(Manifest.objects.values_list("pk", "worst_severity"))
    assert [severities[each.pk] for each in (deleted, live, clean)] == [None, None, Severity.NONE]
    assert [scan.manifest_id for scan in Scan.objects.open()] == [live.pk]
    assert set(Report.objects.values_list("manifest", flat=True)) == {index.pk, clean.pk}
