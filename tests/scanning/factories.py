"""Rows of the scanner, made as a scan leaves them, without a scanner: images, tags, findings, reports, subscriptions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from registry.models import Image, Manifest, ManifestChild, Severity, Tag
from scanning.models import Finding, Package, Report, Scan, Subscription, Vulnerability

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.models import Repository

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Found:
    """A vulnerability in a package, as a scan reports it."""

    name: str
    package: str = "openssl"
    severity: Severity = Severity.HIGH
    version: str = "1.0"
    fixed: str = "1.1"
    title: str = ""
    url: str = ""
    kind: str = "debian"
    path: str = ""
    score: float | None = None


def critical(name: str, package: str = "openssl", **more: Any) -> Found:
    """A critical one."""
    return Found(name, package, Severity.CRITICAL, **more)


def high(name: str, package: str = "openssl", **more: Any) -> Found:
    """A high one."""
    return Found(name, package, Severity.HIGH, **more)


def low(name: str, package: str = "openssl", **more: Any) -> Found:
    """A low one."""
    return Found(name, package, Severity.LOW, **more)


def make_manifest(
    repository: Repository, text: str, *, image: str = "app", platform: str = "linux/amd64", **tags: Any
) -> Manifest:
    """A manifest of project/repository/image; its digest is that of the text. ``tag="1.0"`` names it."""
    path = f"{repository}/{image}"
    found, _ = Image.objects.get_or_create(path=path, deletion=None, defaults={"repository": repository, "name": image})
    content = text.encode()
    made = Manifest.objects.create(
        image=found,
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
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
    """An index of these manifests, perhaps with a tag."""
    content = "".join(child.digest for child in children).encode()
    made = Manifest.objects.create(
        image=children[0].image,
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
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
    """Let the name mean this manifest from now on."""
    now = timezone.now()
    Tag.objects.live().filter(image=manifest.image, name=name).update(ended_at=now)
    return Tag.objects.create(image=manifest.image, name=name, manifest=manifest, started_at=now)


def open_scan(manifest: Manifest, **more: Any) -> Scan:
    """A scan that waits."""
    project = manifest.image.repository.project
    more = {"trigger": Scan.Trigger.PUSH, "requested_by": "tests"} | more
    return Scan.objects.create(manifest=manifest, project=project, **more)


def scanned(manifest: Manifest, *found: Found, **more: Any) -> Scan:
    """A scan that has just ended with this: what is new begins with it, what is gone ends, the report is that of now."""
    now = timezone.now()
    more = {"started_at": now, "finished_at": now, "database_at": now} | more
    scan = open_scan(manifest, state=Scan.State.DONE, **more)
    still = {}
    for finding in Finding.objects.current().filter(manifest=manifest).select_related("vulnerability", "package"):
        package = finding.package
        still[(finding.vulnerability.name, package.name, package.version, finding.path)] = finding
    for each in found:
        if still.pop((each.name, each.package, each.version, each.path), None) is None:
            _begin(manifest, scan, each)
    Finding.objects.filter(pk__in=[finding.pk for finding in still.values()]).update(until=scan)
    counts = dict.fromkeys(Report.COUNTS, 0)
    for each in found:
        counts[each.severity.name.lower()] += 1
    state = Report.State.SCANNED
    Report.objects.update_or_create(manifest=manifest, defaults={"state": state, "scanned_at": now, **counts})
    return scan


def _begin(manifest: Manifest, scan: Scan, each: Found) -> None:
    vulnerability, _ = Vulnerability.objects.get_or_create(
        name=each.name, defaults={"title": each.title, "url": each.url, "score": each.score}
    )
    package, _ = Package.objects.get_or_create(name=each.package, version=each.version, kind=each.kind)
    Finding.objects.create(
        manifest=manifest,
        vulnerability=vulnerability,
        package=package,
        path=each.path,
        severity=each.severity,
        status=Finding.Status.FIXED if each.fixed else Finding.Status.AFFECTED,
        fixed_version=each.fixed,
        since=scan,
    )


def subscribe(project: Project, repository: Repository | None = None, **more: Any) -> Subscription:
    """Mails about new findings from high on, to two people, unless something else is said."""
    more = {"channel": Subscription.Channel.MAIL, "recipients": ["mina@acme.test", "joon@acme.test"]} | more
    return Subscription.objects.create(project=project, repository=repository, **more)
