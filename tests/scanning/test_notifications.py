"""Notifications: grouping of scans into messages, schedule, comparison with earlier scans, acceptances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM
from registry.models import Manifest, Severity
from registry.models.audit import Deletion
from scanning.models import Acceptance, Delivery, Notification, Scan, Subscription
from scanning.notifications import messages, subscriptions
from tests.support.factories import (
    critical,
    high,
    low,
    make_index,
    make_manifest,
    open_scan,
    scanned,
    set_tag,
    subscribe,
)

Frequency = Subscription.Frequency


def gathered() -> list[dict]:
    """Gather the due messages. Return their contents."""
    return [Delivery.objects.get(pk=pk).content for pk in messages.gather()]


def the(contents: list[dict]) -> dict:
    (content,) = contents
    return content


def names(image: dict) -> list[str]:
    return [finding["vulnerability"] for finding in image["new"]]


def accept(project, name: str, **more) -> Acceptance:
    more = {"reason": "lived with", "accepted_by": "mina@acme.test", "covers_fixed": True} | more
    return Acceptance.objects.create(project=project, vulnerability=name, **more)


# ── One message ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_images_of_one_push_are_one_message(project, web):
    subscribe(project)
    manifests = [make_manifest(web, f"app {number}", image=f"app{number}", tag="1") for number in range(5)]
    waiting = [open_scan(manifest) for manifest in manifests[1:]]
    scanned(manifests[0], critical("CVE-1"), high("CVE-2", "zlib"))
    assert gathered() == []  # four scans are not finished
    for scan, manifest in zip(waiting, manifests[1:], strict=True):
        scan.delete()
        scanned(manifest, high("CVE-1"))
    content = the(gathered())
    assert content["images"][0]["path"] == "demo/web/app0"
    assert content["totals"] == {
        "images": 5,
        "new": 6,
        "new_counts": {"critical": 1, "high": 5},
        "counts": {"critical": 1, "high": 5},
        "fixable": 6,
        "fixed": 0,
        "accepted": 0,
        "worst": "critical",
    }
    assert gathered() == []


def test_message_has_the_facts_of_an_image(project, web):
    subscribe(project, web, min_severity=Severity.MEDIUM)
    manifest = make_manifest(web, "app", tag="1.0")
    set_tag(manifest, "latest")
    url = "https://avd.aquasec.com/nvd/cve-1"
    scan = scanned(
        manifest,
        critical("CVE-1", "curl", version="8.0", fixed="8.1", title="A hole", url=url, score=9.8),
        low("CVE-2"),
    )
    content = the(gathered())
    assert {name: content[name] for name in ("version", "event", "project", "repository", "moment", "least")} == {
        "version": 1,
        "event": "scan.findings",
        "project": "demo",
        "repository": "web",
        "moment": "new",
        "least": "medium",
    }
    assert content["url"] == "http://localhost:8080/projects/demo/repositories/web/"
    (image,) = content["images"]
    assert image.pop("scanned_at") == scan.finished_at.isoformat(timespec="seconds")
    assert image.pop("database_at")
    assert image == {
        "state": "scanned",
        "system": "debian 12.5",
        "end_of_life": False,
        "project": "demo",
        "repository": "web",
        "image": "app",
        "path": "demo/web/app",
        "digest": manifest.digest,
        "tags": ["latest", "1.0"],
        "platform": "linux/amd64",
        "url": f"http://localhost:8080/projects/demo/repositories/web/app/-/manifests/{manifest.digest}/vulnerabilities",
        "counts": {"critical": 1},  # the low finding is below the chosen severity
        "fixable": 1,
        "accepted": 0,
        "fixed": 0,
        "new_total": 1,
        "new_counts": {"critical": 1},
        "new": [
            {
                "vulnerability": "CVE-1",
                "severity": "critical",
                "score": 9.8,
                "title": "A hole",
                "url": url,
                "package": "curl",
                "kind": "debian",
                "installed": "8.0",
                "fixed": "8.1",
                "path": "",
            }
        ],
    }


def test_message_waits_at_most_ten_minutes(project, web):
    subscribe(project)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    open_scan(make_manifest(web, "slow", tag="2"))
    assert gathered() == []
    Notification.objects.update(noted_at=timezone.now() - timedelta(minutes=10))
    assert the(gathered())["totals"]["new"] == 1


def test_message_waits_only_for_scans_of_its_repositories(project, web, world):
    subscribe(project, web)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    open_scan(make_manifest(world.repository("public"), "other"))
    open_scan(make_manifest(world.repository("secret"), "elsewhere"))
    assert the(gathered())["totals"]["new"] == 1


def test_message_lists_only_its_repositories(project, web, world):
    subscribe(project, world.repository("public"))
    subscribe(world.projects["lab"])
    subscribe(project, web, is_active=False)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    assert gathered() == []
    assert not Notification.objects.exists()


def test_message_lists_fifty_images_and_findings_and_counts_all(project, web):
    subscribe(project)
    for number in range(52):
        scanned(make_manifest(web, f"app {number}", image=f"a{number}", tag="1"), high("CVE-1"))
    many = make_manifest(web, "many", image="many", tag="1")
    scanned(many, *(critical(f"CVE-{number}", f"p{number}") for number in range(60)))
    content = the(gathered())
    assert len(content["images"]) == 50
    first = content["images"][0]
    assert (first["image"], first["new_total"], len(first["new"])) == ("many", 60, 50)
    assert (content["totals"]["images"], content["totals"]["new"]) == (53, 112)


# ── When ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_new_findings_are_new_since_the_previous_scan(project, web):
    subscribe(project)
    manifest = make_manifest(web, "app", tag="1")
    scanned(manifest, high("CVE-1"))
    assert the(gathered())["totals"]["new"] == 1
    scanned(manifest, high("CVE-1"))
    assert gathered() == []
    scanned(manifest, high("CVE-1"), critical("CVE-2"))
    (image,) = the(gathered())["images"]
    assert names(image) == ["CVE-2"]
    assert image["counts"] == {"critical": 1, "high": 1}


def test_new_findings_below_the_severity_are_left_out(project, web):
    subscribe(project, min_severity=Severity.CRITICAL)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    assert gathered() == []


def test_each_scan_with_findings_is_reported(project, web):
    subscribe(project, frequency=Frequency.EACH)
    manifest = make_manifest(web, "app", tag="1")
    for _ in range(2):
        scanned(manifest, high("CVE-1"))
    content = the(gathered())  # two scans of one digest are one entry
    assert content["totals"]["images"] == 1
    scanned(manifest, high("CVE-1"))
    content = the(gathered())
    assert (content["totals"]["new"], content["totals"]["counts"], content["totals"]["worst"]) == (
        0,
        {"high": 1},
        "high",
    )
    scanned(manifest, low("CVE-3"))
    assert gathered() == []


def test_daily_message_is_sent_at_midnight(project, web):
    subscribe(project, frequency=Frequency.DAILY)
    scanned(make_manifest(web, "one", image="one", tag="1"), high("CVE-1"))
    assert gathered() == []
    Notification.objects.update(noted_at=timezone.now() - timedelta(days=1))
    scanned(make_manifest(web, "two", image="two", tag="1"), high("CVE-1"))
    content = the(gathered())
    # The message of tomorrow has the findings of today.
    assert [image["image"] for image in content["images"]] == ["one"]
    assert gathered() == []
    Notification.objects.filter(delivery=None).update(noted_at=timezone.now() - timedelta(days=1))
    assert [image["image"] for image in the(gathered())["images"]] == ["two"]


def test_midnight_is_in_utc(project, web, monkeypatch):
    subscribe(project, frequency=Frequency.DAILY)
    scanned(make_manifest(web, "one", tag="1"), high("CVE-1"))
    messages.gather()
    Notification.objects.update(noted_at=datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    monkeypatch.setattr(messages.timezone, "now", lambda: datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC))
    assert gathered() == []
    monkeypatch.setattr(messages.timezone, "now", lambda: datetime(2026, 3, 2, tzinfo=UTC))
    assert len(gathered()) == 1


def test_day_without_findings_sends_no_message(project, web):
    subscribe(project, frequency=Frequency.DAILY)
    scanned(make_manifest(web, "one", tag="1"))
    messages.gather()
    Notification.objects.update(noted_at=timezone.now() - timedelta(days=1))
    assert gathered() == []


def test_failed_scan_sends_no_message(project, web):
    subscribe(project, frequency=Frequency.EACH)
    manifest = make_manifest(web, "app", tag="1")
    scanned(manifest, high("CVE-1"))
    messages.gather()
    open_scan(manifest, state=Scan.State.FAILED, problem="timeout")
    assert gathered() == []
    assert Notification.objects.count() == 1


def test_deleted_images_are_left_out(project, web, world):
    subscribe(project)
    manifest, other = make_manifest(web, "app", tag="1"), make_manifest(web, "other", image="other", tag="1")
    scanned(manifest, high("CVE-1"))
    scanned(other, high("CVE-1"))
    open_scan(make_manifest(web, "slow"))
    messages.gather()
    event = world.repository("web").events.first()
    deletion = Deletion.objects.create(
        kind="manifest", project=project, path="x", event=event, purge_after=timezone.now()
    )
    Manifest.objects.filter(pk=manifest.pk).update(deletion=deletion)
    Scan.objects.open().delete()
    assert [image["image"] for image in the(gathered())["images"]] == ["other"]
    assert not Notification.objects.filter(delivery=None).exists()


# ── New against the digest before ────────────────────────────────────────────────────────────────────────────────────
def test_first_scan_of_a_digest_is_compared_with_the_previous_digest_of_the_tag(project, web):
    subscribe(project)
    scanned(make_manifest(web, "old", tag="stable"), high("CVE-1"), high("CVE-2", "zlib"))
    scanned(make_manifest(web, "unrelated", tag="canary"), high("CVE-9", "bash"))
    messages.gather()
    newer = make_manifest(web, "new", tag="stable")
    scanned(newer, high("CVE-1", version="1.0.1"), critical("CVE-9", "bash"))
    (image,) = the(gathered())["images"]
    assert names(image) == ["CVE-9"]  # CVE-1 was known in another build of the package; canary is another tag
    assert image["fixed"] == 1  # CVE-2


def test_new_tag_is_compared_with_the_previous_digest_of_the_image(project, web):
    subscribe(project)
    scanned(make_manifest(web, "1.0", tag="1.0"), high("CVE-1"))
    scanned(make_manifest(web, "elsewhere", image="other", tag="1.0"), high("CVE-2"))
    messages.gather()
    scanned(make_manifest(web, "1.1", tag="1.1"), high("CVE-1"), high("CVE-2"))
    (image,) = the(gathered())["images"]
    assert names(image) == ["CVE-2"]


def test_unscanned_digest_is_skipped_in_the_comparison(project, web):
    subscribe(project)
    scanned(make_manifest(web, "scanned", tag="stable"), high("CVE-1"))
    messages.gather()
    make_manifest(web, "not scanned", tag="stable")
    scanned(make_manifest(web, "new", tag="stable"), high("CVE-1"), high("CVE-2"))
    (image,) = the(gathered())["images"]
    assert names(image) == ["CVE-2"]


def test_a_platform_is_compared_with_the_same_platform(project, web):
    subscribe(project)
    amd, arm = (make_manifest(web, f"1 {name}", platform=f"linux/{name}") for name in ("amd64", "arm64"))
    make_index(amd, arm, tag="stable")
    scanned(amd, high("CVE-1"))
    scanned(arm, high("CVE-2"))
    messages.gather()
    amd, arm = (make_manifest(web, f"2 {name}", platform=f"linux/{name}") for name in ("amd64", "arm64"))
    make_index(amd, arm, tag="stable")
    scanned(amd, high("CVE-1"), high("CVE-2"))
    scanned(arm, high("CVE-2"))
    (image,) = the(gathered())["images"]
    assert (image["platform"], names(image), image["tags"]) == ("linux/amd64", ["CVE-2"], ["stable"])


def test_the_same_finding_under_another_version_of_the_package_is_not_new(project, web):
    """A newer Trivy may write the version in another form."""
    subscribe(project)
    manifest = make_manifest(web, "app", tag="1")
    scanned(manifest, high("CVE-1"))
    messages.gather()
    scanned(manifest, high("CVE-1", version="1:1.0"))
    assert gathered() == []


def test_fixed_findings_are_listed_only_beside_new_ones(project, web):
    subscribe(project)
    better, worse = make_manifest(web, "app", tag="1"), make_manifest(web, "other", image="other", tag="1")
    scanned(better, high("CVE-1"), high("CVE-2", "zlib"))
    messages.gather()
    scanned(better, high("CVE-1"))
    assert gathered() == []
    assert not Notification.objects.filter(delivery=None).exists()
    scanned(better)
    scanned(worse, high("CVE-1"))
    content = the(gathered())
    assert [(image["image"], image["new_total"], image["fixed"]) for image in content["images"]] == [
        ("other", 1, 0),
        ("app", 0, 1),
    ]
    assert content["totals"]["fixed"] == 1


def test_events_during_a_pause_are_not_sent_afterwards(project, web):
    subscription = subscribe(project)
    scanned(make_manifest(web, "one", image="one", tag="1"), high("CVE-1"))
    waiting = open_scan(make_manifest(web, "slow"))
    messages.gather()
    subscriptions.set_active(SYSTEM, subscription, is_active=False)
    waiting.delete()
    scanned(make_manifest(web, "two", image="two", tag="1"), high("CVE-1"))
    assert gathered() == []
    subscriptions.set_active(SYSTEM, subscription, is_active=True)
    assert gathered() == []
    scanned(make_manifest(web, "three", image="three", tag="1"), high("CVE-1"))
    assert [image["image"] for image in the(gathered())["images"]] == ["three"]


# ── Accepted ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("frequency", [Frequency.NEW, Frequency.EACH])
def test_accepted_findings_are_counted_apart_and_never_new(project, web, frequency):
    subscribe(project, frequency=frequency)
    accept(project, "CVE-1")
    manifest = make_manifest(web, "app", tag="1")
    scanned(manifest, high("CVE-1"))
    assert gathered() == []
    scanned(manifest, high("CVE-1"), high("CVE-2"))
    content = the(gathered())
    (image,) = content["images"]
    assert names(image) == ["CVE-2"]
    assert (image["counts"], image["accepted"], content["totals"]["accepted"]) == ({"high": 1}, 1, 1)


def test_findings_accepted_before_sending_are_left_out(project, web):
    subscribe(project)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    waiting = open_scan(make_manifest(web, "slow"))
    messages.gather()
    accept(project, "CVE-1")
    waiting.delete()
    assert gathered() == []
    assert not Notification.objects.filter(delivery=None).exists()


def test_ended_acceptance_covers_nothing(project, web):
    subscribe(project)
    accept(project, "CVE-1", expires_at=timezone.now() - timedelta(seconds=1))
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    assert the(gathered())["totals"]["new"] == 1


def test_invalid_links_are_left_out(project, web):
    subscribe(project)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1", url="javascript:alert(1)"))
    assert the(gathered())["images"][0]["new"][0]["url"] == ""
