"""``python -m bench.scans``: the daily round over 1,000 unchanged digests with a newer vulnerability database.

Fills an installation of its own, scans each digest once, takes the stored layers away, and scans all of them again,
one at a time and two at once: prints wall time for each digest, with its spread. Environment: ``BENCH_DIGESTS``.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

DIGESTS = int(os.environ.get("BENCH_DIGESTS", "1000"))
TODAY = datetime(2026, 11, 20, tzinfo=UTC)


def prepare() -> Path:
    """An installation in a temporary folder."""
    folder = tempfile.mkdtemp(prefix="kcr-bench-")
    os.environ |= {"KCR_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "registry.settings", "PYTHONWARNINGS": "ignore"}
    import logging

    import django
    from django.core.management import call_command

    django.setup()
    logging.disable(logging.ERROR)
    call_command("migrate", verbosity=0)
    return Path(folder)


def fill(folder: Path) -> None:
    """Push one image with all kinds of packages under the given number of digests."""
    from registry.models import Manifest, Tag
    from scanning import scans
    from scanning.models import Component, Sbom, Scan
    from tests.support import scan_images
    from tests.support.docker_client import DockerClient
    from tests.support.images import sha256
    from tests.support.personas import make_world

    load(folder, 0)
    DockerClient(make_world().member).push("web/app", "first", scan_images.all_in_one())
    work(1)
    first = Manifest.objects.get()
    sbom, packages = Sbom.objects.get(), list(Component.objects.values_list("package", flat=True))
    copies = Manifest.objects.bulk_create(
        [
            Manifest(
                image=first.image,
                digest=sha256(str(number).encode()),
                media_type=first.media_type,
                content=first.content,
                size=first.size,
                total_size=first.total_size,
            )
            for number in range(DIGESTS - 1)
        ]
    )
    Tag.objects.bulk_create(Tag(image=first.image, name=f"tag-{copy.pk}", manifest=copy) for copy in copies)
    Sbom.objects.bulk_create(
        Sbom(manifest=copy, content=sbom.content, tool_version=sbom.tool_version) for copy in copies
    )
    Component.objects.bulk_create(
        (Component(manifest=copy, package_id=package) for copy in copies for package in packages), batch_size=1000
    )
    scans.request([copy.pk for copy in copies], Scan.Trigger.PUSH, "bench")
    work(2)


def load(folder: Path, days: int) -> None:
    """Load a database with the same facts and another date."""
    from scanning.trivy import database
    from tests.support import vulnerability_db

    at = TODAY + timedelta(days=days)
    written = vulnerability_db.write(folder / "written", vulnerability_db.FACTS, updated_at=at)
    database.install(io.BytesIO(vulnerability_db.archive(written)), "bench")


def work(at_once: int) -> list[float]:
    """Run all due scans. Return the seconds of each."""
    from django.db import connection

    from scanning import scans

    def one(_: int) -> list[float]:
        took = []
        while (due := scans.next_due()) is not None:
            started = time.perf_counter()
            if scans.run(due):
                took.append(time.perf_counter() - started)
        connection.close()
        return took

    with ThreadPoolExecutor(at_once) as threads:
        return [seconds for some in threads.map(one, range(at_once)) for seconds in some]


def main() -> None:
    """Print the figures."""
    folder = prepare()
    fill(folder)
    from django.utils import timezone

    from scanning import scans
    from scanning.models import Finding, Report

    (folder / "storage").rename(folder / "storage, taken away")  # a scan that reads a layer now fails
    findings = Finding.objects.count()
    evening = timezone.now().replace(hour=23, minute=59)
    for round_, at_once in enumerate((1, 2, 1, 2), 1):
        load(folder, round_)
        asked = scans.request_daily(evening + timedelta(days=round_))
        started = time.perf_counter()
        took = work(at_once)
        wall = 1000 * (time.perf_counter() - started) / max(1, len(took))
        least, *_, most = (1000 * seconds for seconds in statistics.quantiles(took, n=10))
        sys.stdout.write(
            f"{at_once} at once: {len(took)} of {asked} digests, {wall:.0f} ms of wall time each; one scan takes"
            f" {1000 * statistics.median(took):.0f} ms (a tenth under {least:.0f}, a tenth over {most:.0f})\n"
        )
        if Report.objects.exclude(problem="").exists() or Finding.objects.count() != findings:
            sys.exit("something else was found than the first time")


if __name__ == "__main__":
    main()
