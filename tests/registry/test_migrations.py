"""Migrations of data: a database with rows at the former migration is migrated, and its rows are found again."""

from __future__ import annotations

import importlib
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from accounts.actors import SYSTEM
from console.templatetags.audit_log import event_words
from registry import trash, undo
from registry.models import CleanupLine, CleanupRun, Event, Manifest, Repository, Severity
from scanning.models import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMER = [("registry", "0005_reviews_of_projects"), ("scanning", "0003_judged_again")]
# What the events say, by action: with the former names, and with those of now.
DETAILS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "repository.create": (
        {"public": False, "tag_overwrite": True, "scan_on_push": True},
        {"public": False, "tag_overwrite": True, "auto_scan": True},
    ),
    "repository.update": (
        {
            "before": {"scan_on_push": True, "gate": 0, "gate_hours": None, "description": ""},
            "after": {"scan_on_push": False, "gate": 4, "gate_hours": 24, "description": "gate"},
        },
        {
            "before": {"auto_scan": True, "block_severity": 0, "unscanned_grace_hours": None, "description": ""},
            "after": {"auto_scan": False, "block_severity": 4, "unscanned_grace_hours": 24, "description": "gate"},
        },
    ),
    "notice.change": (
        {"subscription": 1, "before": {"least": "low"}, "after": {"least": "high", "moment": "each"}},
        {"subscription": 1, "before": {"min_severity": "low"}, "after": {"min_severity": "high", "frequency": "each"}},
    ),
    "cleanup.run": (
        {"run": 1, "state": "done", "considered": 5, "doomed": 3, "deleted": 2, "left": 1},
        {"run": 1, "state": "done", "considered": 5, "to_delete": 3, "deleted": 2, "skipped": 1},
    ),
    "repository.role": ({"user": "a@acme.test", "before": "", "after": "left"},) * 2,
}


@pytest.fixture
def empty_database(django_db_blocker: Any, tmp_path: Path) -> Iterator[None]:
    """A database without tables in the place of the default one, and the default one again afterwards."""
    connection = connections.create_connection("default")
    settings = connection.settings_dict = deepcopy(connection.settings_dict)
    settings["OPTIONS"].pop("pool", None)  # pools are by alias: this one leads to the other database
    settings["TEST"]["NAME"] = str(tmp_path / "db.sqlite3") if connection.vendor == "sqlite" else "migrations"
    with django_db_blocker.unblock():
        former, connections["default"] = connections["default"], connection
        name = settings["NAME"]
        try:
            settings["NAME"] = connection.creation._create_test_db(0, autoclobber=True)
            yield
        finally:
            connection.close()
            connection.creation.destroy_test_db(name, 0)
            connections["default"] = former


def migrate(*, to: list[tuple[str, str]] | None = None) -> Any:
    """Migrate, to the newest state or ``to`` another; returns the models of that state."""
    executor = MigrationExecutor(connections["default"])
    targets = to or executor.loader.graph.leaf_nodes()
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


def make_rows(apps: Any) -> None:
    """A repository, a manifest, a cleanup, a subscription and events, with the models of that state."""

    def make(app: str, model: str, **values: Any) -> Any:
        return apps.get_model(app, model).objects.create(**values)

    organization = make("accounts", "Organization", name="acme")
    project = make("accounts", "Project", organization=organization, name="demo")
    repository = make(
        "registry", "Repository", project=project, name="web", scan_on_push=False, gate=4, gate_hours=24,
        description="gate",
    )  # fmt: skip
    image = make("registry", "Image", repository=repository, name="app", path="demo/web/app")
    for number, risk in enumerate((5, None)):
        make(
            "registry", "Manifest", image=image, digest=f"sha256:{number:064}", media_type="m", content=b"{}", size=2,
            total_size=2, risk=risk,
        )  # fmt: skip
    run = make("registry", "CleanupRun", repository=repository, state="held", considered=5, doomed=3, left=1)
    make("registry", "CleanupLine", run=run, path="demo/web/app", tag="1", digest="d", outcome="doomed", meaning=77)
    make("scanning", "Subscription", project=project, channel="webhook", least=2, moment="daily")
    for action, (detail, _) in list(DETAILS.items()) * 2:
        make(
            "registry", "Event", action=action, project=project, repository=repository, path="demo/web", actor="a",
            detail=detail,
        )  # fmt: skip


def test_columns_and_events_have_plain_names(empty_database, monkeypatch):
    module = importlib.import_module("registry.migrations.0006_plain_names")
    monkeypatch.setattr(module, "ROWS", 3)  # ten events: several rounds
    make_rows(migrate(to=FORMER))
    migrate()

    repository = Repository.objects.get()
    assert (repository.auto_scan, repository.block_severity, repository.unscanned_grace_hours) == (
        False,
        Severity.HIGH,
        24,
    )
    assert list(Manifest.objects.order_by("pk").values_list("worst_severity", flat=True)) == [Severity.CRITICAL, None]
    run = CleanupRun.objects.get(state=CleanupRun.State.AWAITING_APPROVAL)
    assert (run.to_delete, run.skipped) == (3, 1)
    assert CleanupLine.objects.get(outcome=CleanupLine.Outcome.TO_DELETE).tag_version == 77
    subscription = Subscription.objects.get()
    assert (subscription.min_severity, subscription.frequency) == (Severity.LOW, Subscription.Frequency.DAILY)

    assert [event.detail for event in Event.objects.order_by("pk")] == [new for _, new in DETAILS.values()] * 2
    changed = Event.objects.filter(action="repository.update").order_by("pk")[0]
    words = event_words(changed)
    for change in ("automatic scan: yes → no", "gate: off → High", "grace of the gate: always → 24 h"):
        assert change in words
    undone = undo.undo(SYSTEM, Event.objects.filter(action="repository.update"), trash.restore)
    assert (len(undone.done), undone.left) == (4, [])
    repository.refresh_from_db()
    assert (repository.auto_scan, repository.block_severity, repository.unscanned_grace_hours) == (True, 0, None)


def test_the_former_names_come_back(empty_database):
    make_rows(migrate(to=FORMER))
    migrate()
    apps = migrate(to=FORMER)
    repository = apps.get_model("registry", "Repository").objects.get()
    assert (repository.scan_on_push, repository.gate, repository.gate_hours) == (False, 4, 24)
    events = apps.get_model("registry", "Event").objects.order_by("pk")
    assert [event.detail for event in events] == [former for former, _ in DETAILS.values()] * 2
