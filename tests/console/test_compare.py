"""The page that compares two images: defaults, platforms, findings, packages, configuration and permissions."""

from __future__ import annotations

import pytest
from django.urls import reverse

from console.queries.compare import what_changed
from registry.models import Manifest, Severity
from tests.support.factories import found, make_report
from tests.support.images import (
    OCI_INDEX,
    Artifact,
    Blob,
    Image,
    descriptor,
    image_of,
    index_of,
    sha256,
)
from tests.support.pages import Page, see

APP = ["demo", "web", "app"]
NOTHING = "\u2013"
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


@pytest.fixture
def member(console):
    return console("member")


def compared(browser, reference="1.0", **query):
    answer = browser.get(reverse("console:compare", args=[*APP, reference]), query)
    assert answer.status_code == 200
    return Page(answer.content.decode(), answer.request["PATH_INFO"])


def findings(page) -> dict[str, list[str]]:
    """Return the vulnerabilities of the tables by their heading."""
    rows = {"new": [], "fixed": []}
    tables = [table for table in page.tables if table[0][:2] == ["Vulnerability", "Severity"]]
    for name in rows:
        if f"{name.capitalize()} vulnerabilities" in page.text:
            rows[name] = [row[0].split()[0] for row in tables.pop(0)[1:]]
    return rows


def manifest_of(digest: str) -> Manifest:
    return Manifest.objects.select_related("image__repository__project").get(digest=digest)


def push_index(docker, tag: str, *images: Image, name: str = "web/app") -> str:
    """Push an index of the images with an attestation each, as BuildKit does. Return its digest."""
    member, entries = docker("member"), []
    for image in images:
        member.push(name, image.digest, image)
        entries.append(descriptor(image.manifest, image.media_type, platform=image.platform))
    for image in images:
        attestation = Image(
            b'{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}',
            [f"provenance of {image.digest}".encode()],
        )
        member.push(name, attestation.digest, attestation)
        said = {"platform": {"os": "unknown", "architecture": "unknown"}, "annotations": ATTESTATION}
        entries.append(descriptor(attestation.manifest, attestation.media_type, **said))
    content = index_of(*entries)
    member.push_manifest(name, tag, content, OCI_INDEX)
    return sha256(content)


# ── Defaults ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_tag_that_never_moved_is_compared_with_its_scan_before(member, scanned):
    assert findings(compared(member)) == {"new": [], "fixed": ["CVE-2026-3"]}


def test_moved_tag_is_compared_with_its_previous_digest(member, scanned):
    page = compared(member, "latest")
    assert findings(page) == {"new": ["CVE-2026-4"], "fixed": ["CVE-2026-1"]}
    assert scanned["first"][7:19] in page.text


@pytest.mark.parametrize("other", ["latest", "demo/web/app:latest", "localhost:8080/demo/web/app:latest"])
def test_image_is_compared_with_another_tag(member, scanned, other):
    page = compared(member, **{"with": other})
    assert findings(page) == {"new": ["CVE-2026-1"], "fixed": ["CVE-2026-4"]}
    assert "1 added, 1 removed, 0 of another version" in page.text


def test_image_is_compared_with_a_tag_of_another_image(member, scanned, docker):
    docker("member").push("web/other", "9", image_of("other"))
    page = compared(member, **{"with": "demo/web/other:9"})
    assert "demo/web/other" in page.text
    assert page.table("Setting", "Before", "Now") == [{"Setting": "Label team", "Before": "other", "Now": "first"}]


def test_image_of_an_invisible_project_is_not_found(member, console, scanned, docker):
    docker("outsider", "rival.kr-central-2.kcr.localhost:8080").push("rivals/theirs", "1")
    for other in ("rival/rivals/theirs:1", "demo/web/nothing:1", "nothing", "sha256:12", "scan-0", "scan-x"):
        assert "There is no such scan, tag or digest." in compared(member, **{"with": other}).text
    assert console("reader").get(reverse("console:compare", args=[*APP, "1.0"]), {"with": "latest"}).status_code == 200


def test_page_without_a_second_image_says_so(member, docker):
    docker("member").push("web/app", "1.0", image_of("alone"))
    assert "Compare with what?" in compared(member).text


def test_unscanned_images_are_compared_by_size_and_configuration_only(member, scanned):
    for reference, other in (("1.0", scanned["untagged"]), (scanned["untagged"], "1.0")):
        page = compared(member, reference, **{"with": other})
        assert "One of the two has not been scanned" in page.text
        assert page.table("Setting", "Before", "Now")
        assert "New vulnerabilities" not in page.text


# ── Platforms ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_indexes_are_compared_platform_by_platform_without_attestations(member, docker):
    amd, arm = image_of("amd"), image_of("arm", "arm64")
    newer, riscv = image_of("newer", User="root", Env=["PATH=/bin", "DEBUG=1"]), image_of("riscv", "riscv64")
    push_index(docker, "1.0", amd, arm)
    push_index(docker, "1.0", newer, riscv)
    old, new = manifest_of(amd.digest), manifest_of(newer.digest)
    make_report(old, [found("CVE-2026-1"), found("CVE-2026-2", "curl", "8.0", severity=Severity.LOW)])
    make_report(new, [found("CVE-2026-2", "curl", "8.1", severity=Severity.LOW), found("CVE-2026-3", "bash")])
    page = compared(member)
    assert [link.text for link in page.links if "platform=" in link.href] == [
        "linux/amd64",
        "linux/riscv64",
        "linux/arm64",
    ]
    assert findings(page) == {"new": ["CVE-2026-3"], "fixed": ["CVE-2026-1"]}
    assert {row["Setting"]: (row["Before"], row["Now"]) for row in page.table("Setting", "Before", "Now")} == {
        "User": ("app", "root"),
        "Environment DEBUG": (NOTHING, "1"),
        "Label team": ("amd", "newer"),
    }
    assert {(row["Package"], row["Before"], row["Now"]) for row in page.table("Package", "Before", "Now")} == {
        ("curl", "8.0", "8.1"),
        ("bash", NOTHING, "3.0.11-1"),
        ("openssl", "3.0.11-1", NOTHING),
    }
    assert "The platform linux/riscv64 is new." in compared(member, platform="linux/riscv64").text
    assert "The platform linux/arm64 is gone." in compared(member, platform="linux/arm64").text
    assert findings(compared(member, platform="nonsense")) == findings(page)


def test_an_image_is_compared_with_its_platform_of_an_index(member, scanned):
    one = compared(member, **{"with": "latest"})
    whole = compared(member, **{"with": "2.0"})
    assert findings(whole) == findings(one)
    assert "The platform linux/arm64 is gone." in compared(member, platform="linux/arm64", **{"with": "2.0"}).text


def test_platform_of_an_index_is_that_of_its_entry(docker):
    wrong = image_of("wrong", "amd64")
    member = docker("member")
    member.push("web/app", wrong.digest, wrong)
    entry = descriptor(wrong.manifest, wrong.media_type, platform={"os": "linux", "architecture": "arm64"})
    content = index_of(entry)
    member.push_manifest("web/app", "1.0", content, OCI_INDEX)
    index = manifest_of(sha256(content))
    assert what_changed(index, index).platforms == ["linux/arm64"]


# ── Size and layers ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_sizes_layers_and_the_same_image(docker):
    member = docker("member")
    small, large = Image(layers=[b"base"]), Image(layers=[b"base", b"more" * 100])
    for tag, image in (("1", small), ("2", large)):
        member.push("web/app", tag, image)
    old, new = manifest_of(small.digest), manifest_of(large.digest)
    change = what_changed(old, new)
    assert change.layers == (1, 2)
    assert change.growth == new.total_size - old.total_size > 400
    assert what_changed(new, old).growth == -change.growth
    assert change.settings == []
    assert not change.is_same
    assert what_changed(new, new).is_same


def test_artifact_has_no_configuration_to_compare(docker):
    for tag in ("1", "2"):
        docker("member").push("web/app", tag, Artifact("application/x", Blob("text/plain", tag.encode())))
    old, new = (Manifest.objects.get(tags__name=tag) for tag in ("1", "2"))
    change = what_changed(old, new)
    assert (change.platforms, change.settings, change.findings) == ([""], None, None)


def test_comparison_form_can_be_submitted_as_offered(member, scanned):
    page = see(member, reverse("console:compare", args=[*APP, "2.0"]))
    form = next(form for form in page.forms if "with" in form.names)
    answer = form.submit(member, **{"with": "1.0"})
    assert answer.status_code == 200
    assert "linux/arm64" in answer.content.decode()
