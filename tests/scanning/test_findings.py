"""Findings: results of an index follow those of its platforms, and a repeated acceptance is stored once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import Event, Manifest, Severity
from scanning import acceptances, findings
from scanning.models import Acceptance, Finding, Report
from scanning.trivy.report import PackageName
from tests.support.factories import found, make_report
from tests.support.images import OCI_INDEX, image_of, index_of, sha256

pytestmark = pytest.mark.django_db


@pytest.fixture
def index(docker):
    """Return an index of two platforms, and both platforms."""
    parts = [image_of("one"), image_of("two", "arm64")]
    for part in parts:
        docker("member").push("web/app", part.digest, part)
    content = index_of(*(part.manifest.descriptor(platform={"os": "linux"}) for part in parts))
    docker("member").push_manifest("web/app", "1", content, OCI_INDEX)
    first, second = (Manifest.objects.get(digest=part.digest) for part in parts)
    return Manifest.objects.get(digest=sha256(content)), first, second


def test_rescan_with_the_same_findings_updates_the_age_of_the_index(index):
    parent, first, second = index
    old, new = timezone.now() - timedelta(days=9), timezone.now()
    for moment in (old, new):
        for part in (first, second):
            make_report(part, [found()], database_at=moment)
    assert Report.objects.get(manifest=parent).database_at == new


def test_platform_without_packages_makes_the_index_unrecognised(index):
    parent, first, second = index
    make_report(first, packages=[PackageName("debian", "bash", "5")])
    make_report(second)
    assert Report.objects.get(manifest=parent).state == "unrecognised"
    findings.refresh_index(parent.pk)
    make_report(second, [found(severity=Severity.LOW)])
    assert Report.objects.get(manifest=parent).state == "scanned"


def test_form_sent_twice_creates_one_acceptance(index, world):
    _, first, _ = index
    make_report(first, [found()])
    made = [
        acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-1000", reason="known")
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert Acceptance.objects.count() == 1
    assert Event.objects.filter(action="vulnerability.accept").count() == 1
    acceptances.withdraw(world.member.actor, made[0])
    acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-1000", reason="known")
    assert Acceptance.objects.count() == 2


# ── The worst platform ───────────────────────────────────────────────────────────────────────────────────────────────
NOW = timezone.now()


def report(state: str = "scanned", **more) -> Report:
    return Report(state=state, **{"database_at": NOW, "packages": 1} | more)


def values(*platforms: Report | None) -> dict:
    said = findings.values_of_index(platforms)
    assert said is not None
    return said


def test_index_has_the_values_of_its_worst_platform_and_the_oldest_database():
    old = NOW - timedelta(days=5)
    said = values(report(low=9), report(critical=1, system="debian 12"), report(high=3, database_at=old))
    assert (said["critical"], said["high"], said["low"]) == (1, 0, 0)
    assert (said["system"], said["database_at"], said["unknown_parts"]) == ("debian 12", old, 0)


@pytest.mark.parametrize(
    ("other", "state", "unknown_parts"),
    [
        (report("unrecognised"), "unrecognised", 0),
        (report("uncovered"), "uncovered", 0),
        (report("unsupported"), "scanned", 0),
        (report("failed", problem="timeout", database_at=None), "scanned", 1),
        (None, "scanned", 1),
    ],
)
def test_index_beside_a_clean_platform(other, state, unknown_parts):
    said = values(report(), other)
    assert (said["state"], said["unknown_parts"]) == (state, unknown_parts)
    assert said["problem"] == (other.problem if other else "")
    assert said["database_at"] == NOW


def test_index_counts_platforms_that_are_not_covered_beside_a_worse_one():
    said = values(report(high=1), report("uncovered"), report("uncovered", low=1, is_end_of_life=True))
    assert (said["state"], said["high"], said["unknown_parts"], said["is_end_of_life"]) == ("scanned", 1, 2, True)


def test_index_of_failures_has_failed():
    said = values(report("failed", problem="disk", database_at=None), None, report("unsupported"))
    assert (said["state"], said["problem"], said["unknown_parts"]) == ("failed", "disk", 2)
    assert said["database_at"] is None


def test_index_is_unsupported_when_all_platforms_are():
    said = values(report("unsupported", detail="a chart"), report("unsupported"))
    assert (said["state"], said["detail"], said["critical"]) == ("unsupported", "a chart", 0)


@pytest.mark.parametrize("platforms", [[], [None], [None, report("unsupported")]])
def test_index_has_no_result_without_results_of_its_platforms(platforms):
    assert findings.values_of_index(platforms) is None


# ── The same finding ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_finding_is_the_same_in_another_version_or_path_but_not_of_another_kind(index):
    _, first, _ = index
    make_report(
        first,
        [
            found("CVE-1", "urllib3", kind="debian"),
            found("CVE-1", "urllib3", kind="python-pkg", path="a", severity=Severity.LOW),
            found("CVE-1", "urllib3", "2.0", kind="python-pkg", path="b", severity=Severity.CRITICAL),
        ],
    )
    rows = Finding.objects.current().filter(manifest=first)
    assert rows.count() == 3
    found_keys = rows.by_key()
    assert {kind: severity for (_cve, kind, _name), severity in found_keys.items()} == {
        "debian": Severity.HIGH,
        "python-pkg": Severity.CRITICAL,
    }
    assert {row.key for row in rows.select_related("package")} == set(found_keys)
