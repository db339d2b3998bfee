"""Results of scans for tests, written down the way a scan does it, without Trivy."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from registry.models import Severity
from scanning import findings as results
from scanning import sboms
from scanning.models import Component, Sbom, Scan
from scanning.report import Found, PackageName, Result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from registry.models import Manifest

VERSION = "0.76.0"


def found(
    vulnerability: str = "CVE-2026-1000",
    package: str = "openssl",
    installed: str = "3.0.11-1",
    *,
    severity: Severity = Severity.HIGH,
    fixed: str = "",
    score: float | None = 7.5,
    layer: str = "",
    kind: str = "debian",
    **more: str,
) -> Found:
    """A vulnerability as a report says it."""
    said = {
        "path": "",
        "status": "fixed" if fixed else "affected",
        "title": f"{package}: something is wrong",
        "url": f"https://advisories.test/{vulnerability}",
    }
    name = PackageName(kind, package, installed)
    return Found(
        vulnerability, name, severity=int(severity), fixed_version=fixed, layer=layer, score=score, **said | more
    )


def make_report(
    manifest: Manifest,
    findings: Iterable[Found] = (),
    *,
    packages: Iterable[PackageName] = (),
    database_at: datetime | None = None,
    system: str = "debian 12.5",
    is_end_of_life: bool = False,
    by: str = "member@acme.test",
) -> Scan:
    """A finished scan of the manifest that found this; its packages are these and those that are named in it."""
    rows = tuple(findings)
    now = timezone.now()
    database_at = database_at or now - timedelta(hours=5)
    held = sorted({*packages, *(row.package for row in rows)})
    ids = sboms.package_ids(held)
    Component.objects.filter(manifest=manifest).delete()
    Component.objects.bulk_create(Component(manifest=manifest, package_id=ids[each]) for each in held)
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": each.name} for each in held]}
    content = gzip.compress(json.dumps(document).encode())
    Sbom.objects.update_or_create(manifest=manifest, defaults={"content": content, "tool_version": VERSION})
    scan = Scan.objects.create(
        manifest=manifest,
        project_id=manifest.image.repository.project_id,
        state=Scan.State.DONE,
        trigger=Scan.Trigger.MANUAL,
        requested_by=by,
        started_at=now,
        finished_at=now,
        database_at=database_at,
        is_noted=True,
    )
    results.store(scan, Result(rows, system, is_end_of_life), VERSION, database_at)
    scan.save()
    return scan
