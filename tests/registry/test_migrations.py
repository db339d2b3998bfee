"""Data migrations: rows of the former schema are migrated and checked."""

from __future__ import annotations

import importlib
import json
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.actors import SYSTEM
from console.templatetags.audit_log import event_words
from registry import tag_rules, undo
from registry.models import CleanupLine, CleanupRun, Deletion, Event, Image, Manifest, Repository, Severity, Tag
from scanning.models import Subscription
from tests.support.images import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMER = [("registry", "0005_reviews_of_projects"), ("scanning", "0003_judged_again")]
# The detail of events by action, with the former and with the present names.
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
    """Replace the default database by one without tables, and restore it afterwards."""
    connection = connections.create_connection("default")
    settings = connection.settings_dict = deepcopy(connection.settings_dict)
    settings["OPTIONS"].pop("pool", None)  # pools are cached by alias: this one belongs to the other database
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
    """Migrate to the newest state or to ``to``. Return the models of that state."""
    executor = MigrationExecutor(connections["default"])
    targets = to or executor.loader.graph.leaf_nodes()
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


def make_rows(apps: Any) -> None:
    """Create a repository, a manifest, a cleanup policy, a subscription and events with the models of that state."""

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
    monkeypatch.setattr(module, "ROWS", 3)  # ten events need several rounds
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
    for change in (
        "automatic scan: yes → no",
        "pull policy: off → High",
        "grace period of the pull policy: always → 24 h",
    ):
        assert change in words
    undone = undo.undo(SYSTEM, Event.objects.filter(action="repository.update"))
    assert (len(undone.done), undone.skipped) == (4, [])
    repository.refresh_from_db()
    assert (repository.auto_scan, repository.block_severity, repository.unscanned_grace_hours) == (True, 0, None)


def test_reverse_migration_restores_the_former_names(empty_database):
    make_rows(migrate(to=FORMER))
    migrate()
    apps = migrate(to=FORMER)
    repository = apps.get_model("registry", "Repository").objects.get()
    assert (repository.scan_on_push, repository.gate, repository.gate_hours) == (False, 4, 24)
    events = apps.get_model("registry", "Event").objects.order_by("pk")
    assert [event.detail for event in events] == [former for former, _ in DETAILS.values()] * 2


class Past:
    """Rows of a deletion before 0007: its name is cut, everything else is in events."""

    def __init__(self, apps) -> None:
        self.model = lambda name: apps.get_model("registry", name).objects
        organization = apps.get_model("accounts", "Organization").objects.create(name="acme")
        self.project = apps.get_model("accounts", "Project").objects.create(name="demo", organization=organization)
        self.repository = self.model("Repository").create(project=self.project, name="web")
        self.image = self.add_image("app")
        self.at = timezone.now() - timedelta(days=1)

    def add_image(self, name: str):
        return self.model("Image").create(repository=self.repository, name=name, path=f"demo/web/{name}")

    def add_manifest(self, digest: str, deletion=None, image=None):
        return self.model("Manifest").create(
            image=image or self.image,
            digest=digest,
            media_type="m",
            content=b"",
            size=0,
            total_size=0,
            deletion=deletion,
        )

    def add_tag(self, name: str, digest: str, deletion=None, closed_by=None) -> None:
        manifest = self.model("Manifest").get(digest=digest)
        ended = {"ended_at": self.at, "closed_by": closed_by, "deletion": deletion} if deletion else {}
        self.model("Tag").create(image=self.image, name=name, manifest=manifest, started_at=self.at, **ended)

    def record(self, action: str, *, image=True, tag: str = "", digest: str = "", actor: str = "ann", **detail):
        self.at += timedelta(milliseconds=1)
        return self.model("Event").create(
            project=self.project,
            repository=self.repository,
            image=(self.image if image is True else image) or None,
            path="demo/web/app",
            action=action,
            tag=tag,
            digest=digest,
            detail=detail,
            actor=actor,
            at=self.at,
        )

    def delete(self, kind: str, name: str, event, **more):
        self.at += timedelta(milliseconds=1)
        return self.model("Deletion").create(
            kind=kind,
            project=self.project,
            path=event.path,
            name=name[:255],
            event=event,
            at=self.at,
            purge_after=self.at + timedelta(days=7),
            **more,
        )


def test_deletions_are_filled_from_their_events(empty_database):
    past = Past(migrate(to=[("registry", "0006_plain_names")]))
    digests = [f"sha256:{number:064x}" for number in range(8)]
    made = {}

    tag = past.record("tag.delete", tag="1.0", digest=digests[0])
    made["tag"] = past.delete("tag", "1.0", tag, hold=True)
    past.add_manifest(digests[0])
    past.add_tag("1.0", digests[0], made["tag"], tag)

    few = past.record("image.delete", digest=digests[1], tags=["a", "b"], actor="cleanup policy")
    made["digest and tag"] = past.delete("manifest", f"{digests[1]}, 2.0", few)

    # Seven digests and a tag: the name has room for three. Another act of the same image follows at once.
    first, *_ = [past.record("image.delete", digest=digest, tags=[f"t{digest[-1]}"]) for digest in digests[1:8]]
    past.record("tag.delete", tag="alone", digest=digests[0])
    made["many"] = past.delete("manifest", ", ".join([*digests[1:8], "alone"]), first)
    past.record("image.delete", digest=digests[0], tags=[])
    for digest in digests[2:8]:  # the first one was pushed again: it is live
        past.add_manifest(digest, made["many"])
    past.add_manifest(digests[1])

    other = past.add_image("other")
    names = [f"v{number:02}" for number in range(20)]
    image = past.record("image.delete", image=other, tags=names, digests=3)
    made["image"] = past.delete("image", "", image)
    past.model("Image").filter(pk=other.pk).update(deletion=made["image"])

    repository = past.record("repository.delete", image=None, images=2, tags=30, digests=4)
    made["repository"] = past.delete("repository", "", repository)
    past.model("Repository").filter(pk=past.repository.pk).update(deletion=made["repository"])

    migrate()
    found = {name: Deletion.objects.get(pk=row.pk) for name, row in made.items()}
    assert {name: row.requested for name, row in found.items()} == {
        "tag": ["1.0"],
        "digest and tag": [digests[1], "2.0"],
        "many": [*digests[1:8], "alone"],
        "image": [],
        "repository": [],
    }
    assert {name: row.summary for name, row in found.items()} == {
        "tag": {"tags": 0, "tag_names": []},
        "digest and tag": {"tags": 2, "tag_names": ["a", "b"]},
        "many": {"tags": 1, "tag_names": ["t1"]},
        "image": {"tags": 20, "tag_names": names[:12]},
        "repository": {"images": 2, "tags": 30},
    }
    assert {row.repository_id for row in found.values()} == {past.repository.pk}
    assert {name: row.image_id for name, row in found.items()} == {
        **dict.fromkeys(("tag", "digest and tag", "many"), past.image.pk),
        "image": other.pk,
        "repository": None,
    }
    assert {name: row.actor for name, row in found.items()} == {
        **dict.fromkeys(made, "ann"),
        "digest and tag": "cleanup policy",
    }
    assert [name for name, row in found.items() if row.hold] == ["tag"]
    assert {name: row.event_id for name, row in found.items()} == {name: row.event_id for name, row in made.items()}
    assert Manifest.objects.filter(deletion=made["many"].pk).count() == 6


def test_deletions_are_filled_in_batches(empty_database, monkeypatch):
    monkeypatch.setattr(importlib.import_module("registry.migrations.0007_deletions"), "ROWS", 5)
    past = Past(migrate(to=[("registry", "0006_plain_names")]))
    names = [[f"tag-{number:03}-{'x' * 20}" for number in range(number * 5)] for number in range(1, 14)]
    for tags in names:
        first, *_ = [past.record("tag.delete", tag=tag) for tag in tags]
        past.delete("tag", ", ".join(tags), first)
    migrate()
    assert list(Deletion.objects.order_by("pk").values_list("requested", flat=True)) == names


def test_tags_get_the_columns_computed_from_their_names(empty_database, monkeypatch):
    monkeypatch.setattr(importlib.import_module("registry.migrations.0009_tag_names"), "ROWS", 2)
    past = Past(migrate(to=[("registry", "0008_risk_summary")]))
    digest = f"sha256:{1:064x}"
    past.add_manifest(digest)
    signature = digest.replace(":", "-") + ".sig"
    for name in ("1.10.0", "1.9.0", "1.9.0-rc.1", signature):
        past.add_tag(name, digest)
    migrate()
    assert list(Tag.objects.order_by("natural_name").values_list("name", flat=True)) == [
        *("1.9.0-rc.1", "1.9.0", "1.10.0"),
        signature,
    ]
    assert dict(Tag.objects.exclude(subject="").values_list("name", "subject")) == {signature: digest}


def test_tags_and_digests_get_the_last_push_from_the_statistics(empty_database):
    apps = migrate(to=[("registry", "0009_tag_names")])
    past = Past(apps)
    digests = [f"sha256:{number:064x}" for number in range(3)]
    began = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for digest, name in zip(digests, ("again", "once", "moved"), strict=True):
        past.add_manifest(digest)
        past.add_tag(name, digest)
    for model in ("Manifest", "Image"):
        past.model(model).update(pushed_at=began)
    past.model("Tag").update(started_at=began)
    for name, day, pushes in (("again", 1, 1), ("again", 9, 2), ("again", 20, 0), ("once", 1, 1), ("moved", 9, 1)):
        past.model("TagDay").create(image=past.image, tag=name, day=date(2026, 3, day), pushes=pushes)
    past.model("Tag").filter(name="moved").update(started_at=began + timedelta(days=8, hours=1))
    migrate()
    again, moved = datetime(2026, 3, 9, tzinfo=UTC), began + timedelta(days=8, hours=1)
    assert dict(Tag.objects.values_list("name", "pushed_at")) == {"again": again, "once": began, "moved": moved}
    assert dict(Manifest.objects.values_list("digest", "last_pushed_at")) == dict(
        zip(digests, (again, began, moved), strict=True)
    )
    assert Image.objects.get().pushed_at == moved


def test_indexes_get_the_platforms_of_their_entries(empty_database, monkeypatch):
    monkeypatch.setattr(importlib.import_module("registry.migrations.0012_platforms_of_indexes"), "ROWS", 1)
    past = Past(migrate(to=[("registry", "0011_empty_images")]))
    child, provenance, inner, outer = (f"sha256:{number:064x}" for number in range(4))
    arm64 = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    rows = {
        child: ("m", [], "linux/amd64"),
        provenance: ("m", [], "linux/riscv64"),
        inner: (
            OCI_INDEX,
            [
                {"digest": child, "platform": arm64},
                {"digest": provenance, "annotations": annotations},
                {"digest": child},
            ],
            "linux/amd64",
        ),
        outer: (OCI_INDEX, [{"digest": inner}], "linux/amd64"),
    }
    made = {}
    for digest, (media_type, entries, platforms) in rows.items():
        content = json.dumps({"manifests": entries}).encode()
        made[digest] = past.model("Manifest").create(
            image=past.image,
            digest=digest,
            media_type=media_type,
            content=content,
            size=1,
            total_size=1,
            platforms=platforms,
        )
        for entry in {entry["digest"] for entry in entries}:
            past.model("ManifestChild").create(parent=made[digest], child=made[entry])
    migrate()
    both = "linux/amd64 linux/arm64/v8"
    assert dict(Manifest.objects.values_list("digest", "platforms")) == {
        child: "linux/amd64",
        provenance: "linux/riscv64",
        inner: both,
        outer: both,
    }


def test_images_without_digests_are_marked_empty(empty_database):
    past = Past(migrate(to=[("registry", "0010_last_pushes")]))
    past.add_manifest(f"sha256:{1:064x}")
    trashed, _never = past.add_image("trashed"), past.add_image("never")
    event = past.record("image.delete", image=trashed)
    deletion = past.model("Deletion").create(
        kind="manifest",
        project=past.project,
        path=event.path,
        at=past.at,
        purge_after=past.at,
        actor="ann",
        image=trashed,
    )
    past.add_manifest(f"sha256:{2:064x}", deletion, trashed)
    before = timezone.now()
    migrate()
    found = dict(Image.objects.values_list("name", "emptied_at"))
    assert found["app"] is None
    assert found["trashed"] >= before
    assert found["never"] >= before


def test_reasons_of_cleanups_become_codes(empty_database, monkeypatch):
    monkeypatch.setattr(importlib.import_module("registry.migrations.0013_cleanup_reasons"), "ROWS", 4)
    past = Past(migrate(to=[("registry", "0012_platforms_of_indexes")]))
    run = past.model("CleanupRun").create(repository=past.repository, state="failed", problem="no such thing")
    by = past.model("CleanupRun").create(repository=past.repository, state="dismissed", problem="dismissed by ann")
    day = {"since": "2026-01-02"}
    reasons = {
        "belongs to sha256:ab": ("attached", {"digest": "sha256:ab"}),
        "its name matches v*": ("pattern", {"pattern": "v*"}),
        "one of the newest 8 of its image": ("newest", {"number": 8}),
        "the newest 8 of its image are kept, and this is none of them": ("not-newest", {"number": 8}),
        "no rule takes it": ("no-rule", {}),
        "no tag names it since 2026-01-02": ("untagged", day),
        "no tag names it since 2026-01-02, more than 1 day": ("untagged-long", day | {"days": 1}),
        "older than 30 days: means this since 2026-01-02": ("old", day | {"days": 30}),
        "older than 1 day: last pushed 2026-01-02": ("old", day | {"days": 1}),
        "not pulled for 30 days: last wanted 2026-01-02": ("unpulled", day | {"days": 30}),
        "left: it was changed, or is needed, since it was judged": ("changed", {}),
        "left: the index sha256:a still names sha256:b: delete the index first": ("needed", {}),
        "left: there is no image demo/web/app (any more)": ("gone", {}),
        "a sentence of nobody": ("", {"words": "a sentence of nobody"}),
    }
    for reason in reasons:
        past.model("CleanupLine").create(run=run, path="demo/web/app", digest="d", outcome="kept", reason=reason)
    migrate()
    found = CleanupLine.objects.order_by("pk").values_list("reason", "facts")
    assert list(found) == list(reasons.values())
    runs = dict(CleanupRun.objects.values_list("pk", "problem_detail"))
    assert runs == {run.pk: "no such thing", by.pk: "ann"}
    assert set(CleanupRun.objects.values_list("problem", flat=True)) == {"error", "dismissed"}


@pytest.mark.parametrize("tag_overwrite", [True, False])
def test_tag_overwrite_becomes_the_last_rule(empty_database, tag_overwrite):
    apps = migrate(to=[("registry", "0016_doctor_runs"), ("accounts", "0011_operators")])
    organization = apps.get_model("accounts", "Organization").objects.create(name="acme")
    project = apps.get_model("accounts", "Project").objects.create(organization=organization, name="demo")
    apps.get_model("registry", "Repository").objects.create(project=project, name="web", tag_overwrite=tag_overwrite)
    migrate()
    repository = Repository.objects.select_related("project").get()
    (last,) = tag_rules.effective(repository)
    assert (last.patterns, last.mode) == (("*",), "movable" if tag_overwrite else "immutable")
    assert (repository.tag_rules, repository.project.tag_rules) == ([], [])
