"""Shared fixtures of the scanning tests: a scanner with hand-written databases, a mail server and a receiver of webhooks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from registry.models import Manifest
from scanning import scans
from scanning.models import Finding, Report, Scan
from scanning.trivy import database
from tests.support import vulnerability_db
from tests.support.programs import require_trivy
from tests.support.scan_images import Finding as Expected
from tests.support.vulnerability_db import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TODAY = datetime(2026, 11, 20, 6, tzinfo=UTC)


@dataclass
class Scanner:
    """Trivy as a worker runs it, and its databases."""

    folder: Path

    def load(self, advisories: Iterable[vulnerability_db.Advisory] = FACTS, *, days: int = 0) -> database.Database:
        """Load a database with these facts, dated so many days after TODAY."""
        written = vulnerability_db.write(self.folder / "written", advisories, updated_at=TODAY + timedelta(days=days))
        return database.install(io.BytesIO(vulnerability_db.archive(written)), "db.tar.gz")

    def work(self) -> list[Scan]:
        """Run all due scans in sequence. Return the ended scans."""
        done = []
        while (due := scans.next_due()) is not None:
            assert scans.run(due)
            done.append(Scan.objects.get(pk=due))
        return done


@pytest.fixture
def scanner(settings, tmp_path) -> Scanner:
    """A scanner without a vulnerability database."""
    require_trivy()
    settings.DATA_DIR = settings.SCAN_DIR = tmp_path
    return Scanner(tmp_path)


def report_of(digest: str) -> Report:
    """Return the report of a digest."""
    return Report.objects.get(manifest__digest=digest)


def found_in(digest: str) -> frozenset[Expected]:
    """Return the current findings of a digest in the form of FINDINGS."""
    rows = Finding.objects.current().filter(manifest__digest=digest).select_related("vulnerability", "package")
    return frozenset(
        Expected(
            row.vulnerability.name,
            row.package.name,
            row.package.version,
            row.fixed_version,
            row.get_severity_display().upper(),
            row.status,
        )
        for row in rows
    )


def manifest_of(digest: str) -> Manifest:
    """Return the manifest of a digest."""
    return Manifest.objects.get(digest=digest)
