"""What a scan would have written, without one: for tests of those who read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from scanning import findings, sboms
from scanning.models import Component, Scan
from scanning.report import Found, PackageName, Result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from registry.models import Manifest, Severity


def found(name: str, severity: Severity, *, package: str = "openssl", version: str = "1.0", fixed: str = "") -> Found:
    """A finding."""
    status = "fixed" if fixed else "affected"
    return Found(
        name, PackageName("debian", package, version), "", severity, status, fixed, "", f"about {name}", "", 7.5
    )


def scanned(manifest: Manifest, results: Iterable[Found], *, at: datetime | None = None) -> Scan:
    """A scan of the manifest that found these, in packages that its SBOM has."""
    results = tuple(results)
    for package in sboms.package_ids(sorted({each.package for each in results})).values():
        Component.objects.get_or_create(manifest=manifest, package_id=package)
    scan = Scan.objects.create(
        manifest=manifest,
        project_id=manifest.image.repository.project_id,
        trigger=Scan.Trigger.PUSH,
        requested_by="member@acme.test",
        state="running",
        attempts=1,
    )
    findings.store(scan, Result(results, "debian 12.5", is_end_of_life=False), "0.76.0", at or timezone.now())
    scan.state, scan.finished_at, scan.database_at = "done", timezone.now(), at or timezone.now()
    scan.save()
    return scan
