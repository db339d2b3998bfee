"""Data migrations of scanning."""

from __future__ import annotations

from importlib import import_module

from django.db import connections
from django.utils import timezone

from scanning.models import Notification, Subscription
from tests.registry.test_migrations import FORMER, empty_database, migrate  # noqa: F401  a fixture

INDEX = "application/vnd.oci.image.index.v1+json"


class Rows:
    """Creates rows with the models of a former migration: a project with one image."""

    def __init__(self, apps):
        self.apps = apps
        organization = self.make("accounts", "Organization", name="acme")
        self.project = self.make("accounts", "Project", organization=organization, name="demo")
        repository = self.make("registry", "Repository", project=self.project, name="web")
        self.image = self.make("registry", "Image", repository=repository, name="app", path="demo/web/app")

    def make(self, app, model, **values):
        return self.apps.get_model(app, model).objects.create(**values)

    def manifest(self, number, **values):
        said = {"media_type": "m", "content": b"{}", "size": 2, "total_size": 2} | values
        return self.make("registry", "Manifest", image=self.image, digest=f"sha256:{number:064}", **said)

    def scan(self, number):
        return self.make(
            "scanning", "Scan", manifest=self.manifest(number), project=self.project, trigger=1, state="done"
        )


def test_notifications_and_channels_survive_the_renames(empty_database):  # noqa: F811
    rows = Rows(migrate(to=FORMER))
    mail = rows.make("scanning", "Subscription", project=rows.project, channel="mail", recipients=["mina@acme.test"])
    hook = rows.make("scanning", "Subscription", project=rows.project, channel="webhook", url="https://x", secret="s")
    delivery = rows.make("scanning", "Delivery", subscription=mail)
    first, second = rows.scan(1), rows.scan(2)
    for subscription, scan, written in ((mail, first, delivery), (mail, second, None), (hook, first, None)):
        rows.make("scanning", "Notice", subscription=subscription, scan=scan, delivery=written, new=[7], fixed=scan.pk)
    told = list(rows.apps.get_model("scanning", "Notice").objects.order_by("pk").values())
    assert len(told) == 3

    migrate()
    assert list(Notification.objects.order_by("pk").values()) == told
    assert Subscription.objects.get(pk=mail.pk).notifications.filter(delivery=None).count() == 1
    assert list(Subscription.objects.order_by("pk").values_list("channel", "secret")) == [
        ("mail", ""),
        ("webhook", "s"),
    ]
    with connections["default"].cursor() as cursor:
        found = connections["default"].introspection.get_constraints(cursor, "scanning_notification")
    assert {"one_notification_a_scan", "notifications_to_gather"} <= found.keys()
    assert not {"one_notice_a_scan", "notices_to_gather"} & found.keys()

    former = migrate(to=FORMER)
    assert list(former.get_model("scanning", "Notice").objects.order_by("pk").values()) == told


def test_manifests_unsupported_by_an_earlier_rule_are_scanned_again(empty_database):  # noqa: F811
    rows = Rows(migrate(to=FORMER))
    event = rows.make("registry", "Event", action="image.delete", project=rows.project, path="demo/web/app", actor="a")
    deletion = rows.make(
        "registry", "Deletion", kind="manifest", project=rows.project, path="x", event=event, purge_after=timezone.now()
    )
    deleted = rows.manifest(1, risk=0, deletion=deletion)
    live, clean, index = rows.manifest(2, risk=0), rows.manifest(3, risk=0), rows.manifest(4, risk=0, media_type=INDEX)
    for manifest in (deleted, live, index):
        rows.make("scanning", "Report", manifest=manifest, state="unsupported")
    rows.make("scanning", "Report", manifest=clean, state="scanned")
    migration = import_module("scanning.migrations.0003_judged_again")
    for _ in range(2):
        migration.judge_again(rows.apps, None)
    risks = dict(rows.apps.get_model("registry", "Manifest").objects.values_list("pk", "risk"))
    assert [risks[each.pk] for each in (deleted, live, clean)] == [None, None, 0]
    open_scans = rows.apps.get_model("scanning", "Scan").objects.filter(state="waiting")
    assert list(open_scans.values_list("manifest", flat=True)) == [live.pk]
    reports = rows.apps.get_model("scanning", "Report").objects.values_list("manifest", flat=True)
    assert set(reports) == {index.pk, clean.pk}
