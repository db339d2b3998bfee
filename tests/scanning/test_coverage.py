"""Coverage: a system without rows in the vulnerability database is never clean, in results and at pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.actors import SYSTEM
from registry import repositories
from registry.models import Event, Severity
from scanning import scans
from scanning.models import Scan
from scanning.models.scans import Problem
from scanning.trivy import coverage
from scanning.trivy.report import PackageName
from tests.support import scan_images, vulnerability_db
from tests.support.factories import critical, found, make_report
from tests.support.scan_images import ALPINE_FINDINGS, DEBIAN_FINDINGS, PYTHON_FINDINGS
from tests.support.vulnerability_db import FACTS, Advisory

from .conftest import found_in, manifest_of, report_of

if TYPE_CHECKING:
    from tests.support.images import Image

PACKAGE = PackageName("debian", "bash", "5.2")
UNCOVERED = scan_images.uncovered()
KNOWN = frozenset(
    {
        *("debian 12", "alpine 3.20", "alpine edge", "ubuntu 22.04", "rocky 9", "alma 9", "wolfi", "chainguard"),
        *("Oracle Linux 9", "amazon linux 1", "amazon linux 2", "Azure Linux 3.0", "CBL-Mariner 2.0", "Photon OS 5.0"),
        *("openSUSE Leap 15.6", "openSUSE Leap Micro 6.0", "openSUSE Tumbleweed", "SUSE Linux Enterprise 15"),
        *("SUSE Linux Enterprise 15.6", "SUSE Linux Enterprise Micro 5.5", "Red Hat", "Red Hat CPE"),
        "npm::GitHub Security Advisory npm",
    }
)


# ── Lookups of Trivy ─────────────────────────────────────────────────────────────────────────────────────────────────
def looked_up(family: str, release: str | None = None, packages: int = 7) -> str:
    """Return the log line of a lookup by Trivy."""
    version = "" if release is None else f'os_version="{release}" '
    return (
        "2026-11-27T03:50:22Z\tINFO\t[vuln] Vulnerability scanning is enabled\n"
        f"2026-11-27T03:50:22Z\tINFO\t[{family}] Detecting vulnerabilities...\t{version}pkg_num={packages}\n"
        "2026-11-27T03:50:24Z\tINFO\t[python-pkg] Detecting vulnerabilities...\n"
    )


@pytest.mark.parametrize(
    ("family", "name", "release"),
    [
        ("debian", "12.5", "12"),
        ("alpine", "3.20.3", "3.20"),
        ("alpine", "edge", "edge"),
        ("ubuntu", "22.04", "22.04"),
        ("rocky", "9.4", "9"),
        ("alma", "9.4", "9"),
        ("wolfi", "20230201", None),
        ("chainguard", "20230214", None),
        ("oracle", "9.4", "9"),
        ("amazon", "2 (Karoo)", "2"),
        ("azurelinux", "3.0", "3.0"),
        ("cbl-mariner", "2.0.20220527", "2.0"),
        ("photon", "5.0", "5.0"),
        ("opensuse-leap", "15.6", "15.6"),
        ("opensuse-tumbleweed", "20260101", "20260101"),
        ("sles", "15.6", "15.6"),
        ("slem", "5.5", "5.5"),
        ("redhat", "9.4", "9"),
        ("centos", "8.4", "8"),
    ],
)
def test_system_with_rows_is_covered(family, name, release):
    assert coverage.covers(KNOWN, family, name, looked_up(family, release), b"{}")


@pytest.mark.parametrize(
    ("family", "name", "release"),
    [
        ("debian", "13.1", "13"),
        ("debian", "1.0", "1"),
        ("alpine", "3.2.1", "3.2"),
        ("sles", "15.7", "15.7"),
        ("opensuse-leap", "6.0", "6.0"),  # the rows are of Leap Micro
        ("amazon", "2027", "1"),  # Trivy looks up another release
        ("redhat", "10.0", "10"),
        ("wolfi linux", "1", None),
        ("npm", "", None),
        ("fedora", "40", "40"),
    ],
)
def test_system_without_rows_is_not_covered(family, name, release):
    assert not coverage.covers(KNOWN, family, name, looked_up(family, release), b"{}")


def test_red_hat_with_content_sets_of_the_image_is_covered():
    sbom = b'{"name": "aquasecurity:trivy:ContentSet", "value": "rhel-10-for-x86_64-baseos-rpms"}'
    assert coverage.covers(KNOWN, "redhat", "10.0", looked_up("redhat", "10"), sbom)


@pytest.mark.parametrize("log", ["", looked_up("ubuntu", "12"), looked_up("debian", "12", packages=0)])
def test_system_without_a_lookup_by_trivy_is_not_covered(log):
    assert not coverage.covers(KNOWN, "debian", "12.5", log, b"{}")


def test_names_of_sources_are_read_from_a_root_of_several_pages(tmp_path):
    vulnerability = FACTS[0].vulnerability
    many = [Advisory(f"ubuntu {number:03}.04", "openssl", vulnerability) for number in range(500)]
    folder = vulnerability_db.write(tmp_path / "db", many)
    assert coverage.sources(folder / "trivy.db") == {advisory.bucket for advisory in many}


# ── Scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def scan(docker, scanner, django_capture_on_commit_callbacks):
    """Push an image as a member and scan it. Return its digest."""

    def push(image: Image, tag: str = "1.0") -> str:
        with django_capture_on_commit_callbacks(execute=True):
            digest = docker("member").push("web/app", tag, image).digest
        assert [each.state for each in scanner.work()] == ["done"]
        return digest

    return push


@pytest.mark.real
@pytest.mark.django_db
@pytest.mark.parametrize("name", UNCOVERED)
def test_scan_reports_a_system_without_rows(scanner, scan, name):
    scanner.load()
    image, system = UNCOVERED[name]
    report = report_of(digest := scan(image))
    assert (report.state, report.system, report.is_clean) == ("uncovered", system, False)
    assert report.packages > 0
    assert manifest_of(digest).worst_severity is None
    event = Event.objects.get(action=Event.Action.SCAN_DONE)
    assert (event.detail["state"], event.detail["system"]) == ("uncovered", system)


@pytest.mark.real
@pytest.mark.django_db
def test_systems_that_the_database_covers_are_scanned(scanner, scan):
    scanner.load()
    for number, (image, findings) in enumerate(
        [
            (scan_images.debian(), DEBIAN_FINDINGS),
            (scan_images.alpine(), ALPINE_FINDINGS),
            (scan_images.python(), PYTHON_FINDINGS),
        ]
    ):
        digest = scan(image, f"{number}")
        assert (report_of(digest).state, found_in(digest)) == ("scanned", findings)


@pytest.mark.real
@pytest.mark.django_db
def test_findings_of_languages_are_kept_and_the_next_database_covers_the_system(scanner, scan, world):
    scanner.load()
    digest = scan(scan_images.kali_with_python())
    assert (report_of(digest).state, found_in(digest)) == ("uncovered", PYTHON_FINDINGS)
    assert manifest_of(digest).worst_severity is None
    assert manifest_of(digest).risk_summary["worst_severity"] == Severity.HIGH
    kali = Advisory("debian kali-rolling", "zlib", FACTS[0].vulnerability)
    scanner.load([*FACTS, kali], days=1)
    assert report_of(scan_again(scanner, digest)).state == "scanned"
    assert (manifest_of(digest).worst_severity, manifest_of(digest).risk_summary["total"]) == (Severity.HIGH, 4)


def scan_again(scanner, digest: str) -> str:
    """Scan a digest again. Return the digest."""
    scans.request([manifest_of(digest).pk], Scan.Trigger.MANUAL, "member@acme.test")
    scanner.work()
    return digest


@pytest.mark.real
@pytest.mark.django_db
def test_damaged_sources_of_the_database_are_a_problem_of_the_database(scanner, docker, monkeypatch):
    scanner.load()

    def sources(path):
        raise coverage.Damaged("it is cut off")

    monkeypatch.setattr(coverage, "sources", sources)
    digest = docker("member").push("web/app", "1.0", scan_images.debian()).digest
    scan_again(scanner, digest)
    assert report_of(digest).problem == Problem.DATABASE_BROKEN


# ── Pulls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours", "findings", "status", "words"),
    [
        (None, [], 200, ""),
        (0, [], 403, "does not cover its operating system (debian kali-rolling)"),
        (0, [found(severity=Severity.MEDIUM)], 403, "does not cover its operating system"),
        (None, [found(severity=Severity.MEDIUM)], 200, ""),
        (None, [critical("CVE-2026-7")], 403, "severity critical"),
        (0, [critical("CVE-2026-7")], 403, "CVE-2026-7"),
    ],
)
def test_pull_of_an_uncovered_system_is_judged_like_one_of_an_unscanned_image(
    docker, world, hours, findings, status, words
):
    digest = docker("member").push("web/app", "1.0", scan_images.debian()).digest
    make_report(manifest_of(digest), findings, system="debian kali-rolling", is_covered=False, packages=[PACKAGE])
    web = world.repository("web")
    repositories.update(SYSTEM, web, block_severity=int(Severity.HIGH), unscanned_grace_hours=hours)
    answer = docker("viewer").get("web/app/manifests/1.0", status)
    if words:
        assert words in answer.json()["errors"][0]["message"]
    docker("member").get("web/app/manifests/1.0", 200)


@pytest.mark.django_db
def test_pull_of_an_end_of_life_system_is_judged_by_its_findings(docker, world):
    digest = docker("member").push("web/app", "1.0", scan_images.debian()).digest
    make_report(manifest_of(digest), packages=[PACKAGE], system="debian 9.5", is_end_of_life=True)
    repositories.update(SYSTEM, world.repository("web"), block_severity=int(Severity.LOW), unscanned_grace_hours=0)
    docker("viewer").get("web/app/manifests/1.0", 200)
