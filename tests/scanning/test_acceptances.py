"""Risk acceptances: their scope, their end, and the counts."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from registry import trash
from registry.errors import RequestInvalid
from registry.models import Event, Manifest, Severity
from registry.oci.names import ImageName
from scanning import acceptances, findings, scans
from scanning.models import Acceptance, Finding, Report
from tests.support import scan_images
from tests.support.factories import found, make_report

pytestmark = pytest.mark.django_db

ONE = found("CVE-2026-1", severity=Severity.CRITICAL)
OTHER = found("CVE-2026-1", severity=Severity.CRITICAL, package="curl")
FIXABLE = found("CVE-2026-2", severity=Severity.HIGH, fixed="1.1")


@pytest.fixture
def push(docker):
    """Push an image, whose content differs by repository. Return its manifest."""

    def make(name="web/app"):
        digest = docker("member").push(name, "1.0", scan_images.debian()).digest
        return Manifest.objects.get(digest=digest, image__path=f"demo/{name}")

    return make


@pytest.fixture
def accept(world):
    """Accept a vulnerability in the project, or in ``repository``."""

    def make(name, **options):
        options = {"reason": "no way to reach it"} | options
        where = options.pop("repository", world.projects["demo"])
        return acceptances.accept(world.member.actor, where, name, **options)

    return make


def counts(manifest: Manifest) -> tuple[int, int, int]:
    report = Report.objects.get(manifest=manifest)
    return report.critical, report.high, report.accepted


def risk_summary(manifest: Manifest) -> dict[str, object]:
    return Manifest.objects.get(pk=manifest.pk).risk_summary


def test_accepted_findings_are_counted_apart_and_stay_visible(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE, FIXABLE])
    assert counts(manifest) == (1, 1, 0)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-1", "CVE-2026-2"], "total": 2}
    made = accept("CVE-2026-1")
    assert counts(manifest) == (0, 1, 1)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-2"], "total": 1}
    rows = Finding.objects.current().filter(manifest=manifest).with_acceptance(timezone.now())
    assert {row.vulnerability.name: row.acceptance for row in rows} == {"CVE-2026-1": made.pk, "CVE-2026-2": None}
    assert Manifest.objects.get(pk=manifest.pk).worst_severity == Severity.HIGH
    event = Event.objects.get(action=Event.Action.VULNERABILITY_ACCEPT)
    assert (event.actor, event.detail["vulnerability"], event.detail["reason"]) == (
        world.member.user.email,
        "CVE-2026-1",
        "no way to reach it",
    )


def test_withdrawn_acceptance_reopens_the_finding_once(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE])
    made = accept("CVE-2026-1")
    assert acceptances.withdraw(world.admin.actor, made)
    assert not acceptances.withdraw(world.admin.actor, made)
    assert counts(manifest) == (1, 0, 0)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-1"], "total": 1}
    assert Event.objects.filter(action=Event.Action.VULNERABILITY_WITHDRAW).count() == 1


def test_acceptance_covers_one_package_or_all(push, accept):
    manifest = push()
    make_report(manifest, [ONE, OTHER])
    accept("CVE-2026-1", package="curl")
    assert counts(manifest) == (1, 0, 1)
    accept("CVE-2026-1")
    assert counts(manifest) == (0, 0, 2)


def test_acceptance_covers_one_repository_or_the_project(push, accept, world):
    here, there = push("web/app"), push("fixed/app")
    for manifest in (here, there):
        make_report(manifest, [ONE])
    accept("CVE-2026-1", repository=world.repository("web"))
    assert (counts(here), counts(there)) == ((0, 0, 1), (1, 0, 0))
    accept("CVE-2026-1")
    assert counts(there) == (0, 0, 1)


def test_acceptance_of_unfixed_findings_ends_with_a_fix(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    accept("CVE-2026-1")
    make_report(manifest, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2")])
    assert counts(manifest) == (1, 0, 0)


def test_accepting_a_fixed_finding_needs_the_known_fix(push, accept):
    manifest = push()
    make_report(manifest, [FIXABLE])
    with pytest.raises(RequestInvalid):
        accept("CVE-2026-2")
    accept("CVE-2026-2", covers_fixed=True)
    make_report(manifest, [FIXABLE, ONE])
    assert counts(manifest) == (1, 0, 1)


def test_deleted_manifests_are_ignored_when_accepting(push, accept, world):
    gone, here = push(), push("web/other")
    make_report(gone, [ONE])
    make_report(here, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2")])
    trash.delete_references(world.member.actor, world.repository("web"), ImageName("demo", "web", "app"), [gone.digest])
    with pytest.raises(RequestInvalid, match="found nowhere"):
        accept("CVE-2026-1")
    accept("CVE-2026-1", covers_fixed=True)
    assert counts(here) == (0, 0, 1)


def test_acceptance_covers_later_pushes(push, accept, docker):
    make_report(push(), [ONE])
    accept("CVE-2026-1")
    later = push("web/later")
    make_report(later, [ONE])
    assert counts(later) == (0, 0, 1)


def test_acceptance_ends_at_its_date(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    now = timezone.now()
    accept("CVE-2026-1", expires_at=now + timedelta(days=1))
    assert Report.objects.get(manifest=manifest).recount_at == now + timedelta(days=1)
    assert scans.recount_acceptances(now) == 0
    Acceptance.objects.update(expires_at=now - timedelta(seconds=1))
    Report.objects.update(recount_at=now - timedelta(seconds=1))
    assert scans.recount_acceptances(now) == 1
    assert counts(manifest) == (1, 0, 0)
    assert scans.recount_acceptances(now) == 0


def test_longest_acceptance_counts(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    accept("CVE-2026-1", expires_at=timezone.now() + timedelta(days=1))
    accept("CVE-2026-1")
    Acceptance.objects.exclude(expires_at=None).update(expires_at=timezone.now() - timedelta(seconds=1))
    findings.recount(Report.objects.all())
    assert counts(manifest) == (0, 0, 1)


def test_acceptance_does_not_affect_another_project(push, accept, docker, world):
    here = push()
    outsider = docker("outsider", host="rival.kr-central-2.kcr.localhost:8080")
    foreign = Manifest.objects.get(digest=outsider.push("rivals/app", "1.0", scan_images.python()).digest)
    for manifest in (here, foreign):
        make_report(manifest, [ONE])
    accept("CVE-2026-1")
    assert (counts(here), counts(foreign)) == ((0, 0, 1), (1, 0, 0))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reason": "  "}, "say why"),
        ({"reason": "x" * 501}, "say why"),
        ({"expires_at": "past"}, "already passed"),
        ({"package": "nothing"}, "found nowhere"),
    ],
)
def test_invalid_acceptances_are_refused(push, accept, options, why):
    make_report(push(), [ONE])
    if "expires_at" in options:
        options = {"expires_at": timezone.now() - timedelta(days=1)}
    with pytest.raises(RequestInvalid, match=why):
        accept("CVE-2026-1", **options)
    assert not Acceptance.objects.exists()


def test_counts_are_computed_under_the_lock_of_their_report(push, accept):
    """Otherwise an acceptance that ends during the count would be counted for ever."""
    manifest = push()
    make_report(manifest, [ONE])
    with CaptureQueriesContext(connection) as queries:
        findings.recount(Report.objects.filter(manifest=manifest))
    said = [query["sql"] for query in queries]
    begun = next(number for number, sql in enumerate(said) if sql.startswith("SAVEPOINT"))
    counted = next(number for number, sql in enumerate(said) if "COUNT(" in sql)
    locked = [number for number, sql in enumerate(said) if 'FROM "scanning_report"' in sql and "critical" in sql]
    assert begun < locked[0] < counted
    if connection.features.has_select_for_update:
        assert "FOR UPDATE" in said[locked[0]]


def test_openvex_document_lists_acceptances(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE, FIXABLE])
    accept("CVE-2026-1", justification="vulnerable_code_not_in_execute_path", reason="never called")
    accept("CVE-2026-2", reason="mended next week", covers_fixed=True)
    document = json.loads(acceptances.as_file(acceptances.openvex(world.projects["demo"])))
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    first, second = document["statements"]
    product = f"pkg:oci/app@{manifest.digest.replace(':', '%3A')}?repository_url=localhost:8080/demo/web/app"
    assert first["vulnerability"] == {"name": "CVE-2026-1"}
    assert first["products"] == [{"@id": product}]
    assert (first["status"], first["justification"], first["impact_statement"]) == (
        "not_affected",
        "vulnerable_code_not_in_execute_path",
        "never called",
    )
    assert (second["status"], second["action_statement"]) == ("affected", "mended next week")
    assert acceptances.openvex(world.projects["demo"], world.repository("fixed"))["statements"][0]["products"] == []
    make_report(manifest, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2"), FIXABLE])
    void, holding = acceptances.openvex(world.projects["demo"])["statements"]
    assert (void["products"], holding["products"]) == ([], [{"@id": product}])
