"""All pages of a project count tags, and show the same number for the same thing."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from console.queries import scans as queries
from registry.models import Manifest, Severity, Tag
from scanning import acceptances, findings
from scanning.models import SeverityDay
from tests.support.factories import found, make_report
from tests.support.images import Index, image_of
from tests.support.pages import Page, see
from tests.support.scan_images import attestation, signature

CRITICAL = found("CVE-2026-1", severity=Severity.CRITICAL, fixed="2")
LOW = found("CVE-2026-2", "zlib", severity=Severity.LOW)
ACCEPTED = found("CVE-2026-3", "curl", severity=Severity.CRITICAL)


@pytest.fixture
def project(world, docker):
    """Four tags that can run, two of them critical; a signature, an attestation, an untagged and an unscanned image."""
    member = docker("member")
    amd64, arm64 = image_of("app"), image_of("app", "arm64")
    member.push("web/app", "1.0", Index((amd64, arm64, attestation(amd64))))
    member.push("web/app", "stable", Index((amd64, arm64, attestation(amd64))))
    member.push("web/app", amd64.digest.replace(":", "-") + ".sig", signature(amd64))
    old, fine, unknown = image_of("old"), image_of("fine"), image_of("unknown")
    member.push("web/app", "old", old)
    member.push("web/app", "old", image_of("the one that follows"))  # "old" is without a tag now
    member.push("web/api", "1.0", fine)
    member.push("public/site", "1.0", unknown)
    held = {
        amd64.digest: [LOW],
        arm64.digest: [CRITICAL, LOW, ACCEPTED],
        old.digest: [CRITICAL],
        fine.digest: [ACCEPTED],
    }
    for manifest in Manifest.objects.exclude(media_type__contains="index"):
        if manifest.digest in held:
            make_report(manifest, held[manifest.digest])
    acceptances.accept(
        world.admin.actor, world.projects["demo"], "CVE-2026-3", package="", reason="no curl is run", covers_fixed=False
    )
    for sealed in (attestation(amd64), signature(amd64)):
        findings.store_unsupported(Manifest.objects.get(digest=sealed.digest).pk, "no client runs it")
    return world.projects["demo"]


def test_pages_of_a_project_agree(console, project):
    member = console("member")

    def page(name: str, *words: str) -> Page:
        return see(member, reverse(f"console:{name}", args=["demo", *words]))

    overview, scans = page("overview"), page("scans")
    for each in (overview, scans):
        assert "3 of 5 tags scanned" in each.text or "; 3 of 5 scanned" in each.text
        assert "Critical 2" in each.text
        assert "Not scanned 2" in each.text
    assert "1 critical vulnerability has a fix. Tags with critical vulnerabilities: 2 of 5." in overview.text
    assert "1 critical vulnerability, with a fix: 1" in overview.text

    (worst, low) = scans.table("Vulnerability", "Tags")
    assert (worst["Tags"], worst["With a fix"]) == ("2", "2")
    assert low["Tags"] == "2"
    (repository,) = scans.table("Repository", "Tags")
    assert repository["Tags"] == "4"
    listed = {row["Name"].split()[0]: row["Vulnerabilities"] for row in page("repositories").table("Name", "Images")}
    assert "in 2 of 4 tags" in listed["web"]
    images = {
        row["Image"].split()[0]: row["Vulnerabilities"] for row in page("images").table("Image", "Vulnerabilities")
    }
    assert "in 2 of 3 tags" in images["web/app"]
    tags = see(member, reverse("console:image", args=["demo", "web", "app"])).table("Tag", "Vulnerabilities")
    assert sum("Critical" in row["Vulnerabilities"] for row in tags) == 2

    accepted = page("acceptances")
    assert "In force 1" in accepted.text
    assert "Accepted 1" in scans.text
    assert "found" in accepted.table("Vulnerability", "Now")[0]["Now"]
    cve = see(member, reverse("console:cve", args=["CVE-2026-1"]) + "?project=demo&tags=tagged")
    assert {link.text for link in cve.links if "/manifests/" in link.href} - {"Accept"} == {"1.0", "stable"}


def test_recorded_day_is_what_the_pages_show(console, project):
    findings.record_day(timezone.now())
    day = SeverityDay.objects.get(project=project)
    assert (day.tags, day.scanned, day.critical, day.low) == (5, 3, 2, 0)


def test_a_large_project_counts_vulnerabilities_of_its_newest_tags(console, project, monkeypatch):
    monkeypatch.setattr(queries, "MOST", 1)
    text = see(console("member"), reverse("console:scans", args=["demo"])).text
    assert "in the 1 newest tags" in text
    newest = Tag.objects.live().latest("pk")
    total = queries.add_up(queries.by_repository(project))
    assert queries.cves(project, Severity.LOW, total) == []
    make_report(newest.manifest, [CRITICAL])
    (only,) = queries.cves(project, Severity.LOW, total)
    assert (only["tags"], only["fixable"]) == (1, 1)


def test_acceptances_show_whether_they_are_needed(console, project, world):
    """Found; gone from every image; freed by a fix that appeared."""
    member, page = console("member"), reverse("console:acceptances", args=["demo"])

    def now() -> str:
        return see(member, page).table("Vulnerability", "Now")[0]["Now"]

    assert now() == "found"
    fixed = found("CVE-2026-3", "curl", severity=Severity.CRITICAL, fixed="9")
    for manifest in Manifest.objects.filter(findings__vulnerability__name="CVE-2026-3").distinct():
        make_report(manifest, [fixed])
    assert now() == "has a fix now"
    for manifest in Manifest.objects.filter(findings__vulnerability__name="CVE-2026-3").distinct():
        make_report(manifest, [LOW])
    assert now() == "not found any more"
