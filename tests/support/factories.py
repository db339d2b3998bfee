"""Rows of the scanner as a scan writes them, without Trivy: images, findings, reports, subscriptions."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from registry.models import Image, Manifest, ManifestChild, Severity, Tag
from scanning import findings as results
from scanning import sboms
from scanning.models import Component, Recipient, Sbom, Scan, Subscription
from scanning.trivy.report import TITLE_LENGTH, PackageName, ReportedFinding, Result
from tests.support.images import OCI_INDEX, OCI_MANIFEST, sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.models import Project
    from registry.models import Repository

VERSION = "0.76.0"


# ── Findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def found(
    vulnerability: str = "CVE-2026-1000",
    package: str = "openssl",
    version: str = "3.0.11-1",
    *,
    severity: Severity = Severity.HIGH,
    fixed: str = "",
    score: float | None = 7.5,
    layer: str = "",
    kind: str = "debian",
    **more: str,
) -> ReportedFinding:
    """Return a vulnerability in the form of a report."""
    said = {
        "path": "",
        "status": "fixed" if fixed else "affected",
        "title": f"{package}: something is wrong"[:TITLE_LENGTH],
        "url": f"https://advisories.test/{vulnerability}",
    }
    name = PackageName(kind, package, version)
    return ReportedFinding(
        vulnerability, name, severity=int(severity), fixed_version=fixed, layer=layer, score=score, **said | more
    )


def critical(name: str, package: str = "openssl", **more: Any) -> ReportedFinding:
    """Return a critical vulnerability with a fixed version."""
    return found(name, package, **{"severity": Severity.CRITICAL, "version": "1.0", "fixed": "1.1", **more})


def high(name: str, package: str = "openssl", **more: Any) -> ReportedFinding:
    """Return a high vulnerability with a fixed version."""
    return critical(name, package, **{"severity": Severity.HIGH, **more})


def low(name: str, package: str = "openssl", **more: Any) -> ReportedFinding:
    """Return a low vulnerability with a fixed version."""
    return critical(name, package, **{"severity": Severity.LOW, **more})


# ── Images ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def make_manifest(
    repository: Repository, text: str, *, image: str = "app", platform: str = "linux/amd64", **tags: Any
) -> Manifest:
    """Create a manifest of project/repository/image whose digest is that of the text, perhaps with a tag."""
    path = f"{repository}/{image}"
    found, _ = Image.objects.get_or_create(path=path, deletion=None, defaults={"repository": repository, "name": image})
    content = text.encode()
    made = Manifest.objects.create(
        image=found,
        digest=sha256(content),
        media_type=OCI_MANIFEST,
        content=content,
        platforms=platform,
        size=len(content),
        total_size=len(content),
    )
    for name in filter(None, [tags.get("tag")]):
        set_tag(made, name)
    return made


def make_index(*children: Manifest, tag: str = "") -> Manifest:
    """Create an index of these manifests, perhaps with a tag."""
    content = "".join(child.digest for child in children).encode()
    made = Manifest.objects.create(
        image=children[0].image,
        digest=sha256(content),
        media_type=OCI_INDEX,
        content=content,
        platforms=" ".join(child.platforms for child in children),
        size=len(content),
        total_size=len(content),
    )
    ManifestChild.objects.bulk_create(ManifestChild(parent=made, child=child) for child in children)
    if tag:
        set_tag(made, tag)
    return made


def set_tag(manifest: Manifest, name: str) -> Tag:
    """Move the tag to this manifest."""
    now = timezone.now()
    Tag.objects.live().filter(image=manifest.image, name=name).update(ended_at=now)
    return Tag.objects.create(image=manifest.image, name=name, manifest=manifest, started_at=now)


# ── Scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def open_scan(manifest: Manifest, **more: Any) -> Scan:
    """Create a waiting scan."""
    project = manifest.image.repository.project
    more = {"trigger": Scan.Trigger.PUSH, "requested_by": "member@acme.test"} | more
    return Scan.objects.create(manifest=manifest, project=project, **more)


def scanned(
    manifest: Manifest,
    *found: ReportedFinding,
    packages: Iterable[PackageName] = (),
    system: str = "debian 12.5",
    is_end_of_life: bool = False,
    is_covered: bool = True,
    **more: Any,
) -> Scan:
    """Record a finished scan with these findings. The packages are the given ones and those of the findings."""
    now = timezone.now()
    more = {"started_at": now, "finished_at": now, "database_at": now - timedelta(hours=5)} | more
    held = sorted({*packages, *(row.package for row in found)})
    ids = sboms.package_ids(held)
    Component.objects.filter(manifest=manifest).delete()
    Component.objects.bulk_create(Component(manifest=manifest, package_id=ids[each]) for each in held)
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": each.name} for each in held]}
    content = gzip.compress(json.dumps(document).encode())
    Sbom.objects.update_or_create(manifest=manifest, defaults={"content": content, "tool_version": VERSION})
    scan = open_scan(manifest, state=Scan.State.DONE, **more)
    scan.new, scan.fixed = results.store(
        scan, Result(tuple(found), system, is_end_of_life, is_covered), VERSION, more["database_at"]
    )
    scan.save()
    return scan


def make_report(
    manifest: Manifest, findings: Iterable[ReportedFinding] = (), *, by: str = "member@acme.test", **more: Any
) -> Scan:
    """Record a requested scan whose notifications are already gathered."""
    given: dict[str, Any] = {"trigger": Scan.Trigger.MANUAL, "requested_by": by, "is_noted": True} | more
    return scanned(manifest, *findings, **given)


# ── Notifications ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def agree(project: Project, *addresses: str) -> None:
    """Record the consent of these addresses to the project's mails."""
    for address in addresses:
        said = {"confirmed_at": timezone.now()}
        Recipient.objects.update_or_create(project=project, address=address.lower(), defaults=said)


def subscribe(project: Project, repository: Repository | None = None, **more: Any) -> Subscription:
    """Create a subscription, by default mails to two addresses about new findings from high on."""
    more = {"channel": "mail", "recipients": ["mina@acme.test", "joon@acme.test"]} | more
    agree(project, *more["recipients"])
    return Subscription.objects.create(project=project, repository=repository, **more)
