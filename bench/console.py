"""``python -m bench.console``: measure every page of a project at its quotas.

Fills a database of its own (1,000 repositories; one with 10,000 images; one image with 1,000 tags; 100,000 events; what
a scan found in each of the 10,000 digests; 50 vulnerabilities that are accepted), asks each page in this process and
prints the median time on the server, the least of the processor (which the work of others on the machine lengthens
least), the number of queries and the weight.
"""

from __future__ import annotations

import gzip
import os
import statistics
import tempfile
import time
from datetime import timedelta

ROUNDS = 15


def prepare() -> None:
    """Prepare an installation in a temporary folder."""
    folder = tempfile.mkdtemp(prefix="kcr-bench-")
    os.environ |= {"KCR_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "registry.settings", "PYTHONWARNINGS": "ignore"}
    import logging

    import django
    from django.core.management import call_command

    django.setup()
    logging.disable(logging.ERROR)
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)


def fill() -> None:
    """Fill the installation up to its quotas."""
    from django.utils import timezone

    from accounts.actors import SYSTEM
    from registry import service_accounts
    from registry.models import Event, Image, Manifest, ProjectDay, Repository, Tag, TagDay
    from tests.support.docker_client import DockerClient
    from tests.support.images import Image as Pushed
    from tests.support.images import sha256
    from tests.support.personas import make_world

    world = make_world()
    DockerClient(world.member).push("web/app", "first", Pushed(layers=[b"a layer", b"another"]))
    project, web = world.projects["demo"], world.repository("web")
    service_accounts.create(SYSTEM, project, "ci")
    manifest = Manifest.objects.get()
    repositories = (Repository(project=project, name=f"repository-{number}") for number in range(997))
    Repository.objects.bulk_create(repositories, batch_size=1000)
    names = [f"team/image-{number}" for number in range(9_999)]
    images = Image.objects.bulk_create(
        [Image(repository=web, name=name, path=f"demo/web/{name}") for name in names], batch_size=1000
    )
    copies = Manifest.objects.bulk_create(
        [
            Manifest(
                image=image,
                digest=sha256(image.name.encode()),
                media_type=manifest.media_type,
                content=manifest.content,
                size=manifest.size,
                total_size=manifest.total_size,
                platforms="linux/amd64",
            )
            for image in images
        ],
        batch_size=1000,
    )
    Tag.objects.bulk_create([Tag(image=copy.image, name="1.0", manifest=copy) for copy in copies], batch_size=1000)
    tags = [Tag(image=manifest.image, name=f"v{number}", manifest=manifest) for number in range(999)]
    Tag.objects.bulk_create(tags, batch_size=1000)
    now = timezone.now()
    days = [now.date() - timedelta(days=number) for number in range(90)]
    ProjectDay.objects.bulk_create([ProjectDay(project=project, day=day, pulls=100, pushes=9) for day in days[1:]])
    TagDay.objects.bulk_create(
        [TagDay(image=manifest.image, tag=f"v{tag}", day=day, pulls=3) for tag in range(200) for day in days],
        batch_size=1000,
    )
    actions = list(Event.Action)
    for start in range(0, 100_000, 5_000):
        Event.objects.bulk_create(
            Event(
                action=actions[number % len(actions)],
                project=project,
                repository=web,
                image=manifest.image if number % 2 else None,
                path="demo/web/app",
                tag=f"v{number % 1000}",
                actor=f"person-{number % 50}@acme.test",
                at=now - timedelta(minutes=number),
            )
            for number in range(start, start + 5_000)
        )


def fill_scans() -> None:
    """Give every digest a scan with 30 packages and 40 findings. Half of the findings are in every digest."""
    from django.utils import timezone

    from accounts.models import Project
    from registry.models import Manifest, Severity
    from scanning.models import (
        Acceptance,
        Component,
        DatabaseRefresh,
        Finding,
        Package,
        Report,
        Sbom,
        Scan,
        SeverityDay,
        Subscription,
        Vulnerability,
    )

    now, project = timezone.now(), Project.objects.get(name="demo")
    counts = {"critical": 2, "high": 8, "medium": 15, "low": 15}
    severities = [Severity[name.upper()] for name, number in counts.items() for _ in range(number)]
    packages = Package.objects.bulk_create(
        Package(kind="debian", name=f"package-{number}", version="1.0") for number in range(400)
    )
    vulnerabilities = Vulnerability.objects.bulk_create(
        Vulnerability(name=f"CVE-2026-{10_000 + number}", title=f"Flaw {number}", score=7.5) for number in range(2_000)
    )
    manifests = list(Manifest.objects.order_by("pk").values_list("pk", flat=True))
    scans = Scan.objects.bulk_create(
        [
            Scan(
                manifest_id=pk,
                project=project,
                state=Scan.State.DONE,
                trigger=Scan.Trigger.PUSH,
                requested_by="member@acme.test",
                finished_at=now,
                database_at=now,
                new=40,
            )
            for pk in manifests
        ],
        batch_size=1000,
    )
    known = {"state": Report.State.SCANNED, "system": "debian 12.5", "database_at": now, "scanned_at": now}
    reports = (Report(manifest_id=pk, packages=30, fixable=20, **counts, **known) for pk in manifests)
    Report.objects.bulk_create(reports, batch_size=1000)
    Sbom.objects.bulk_create([Sbom(manifest_id=manifests[0], content=gzip.compress(b"{}"), tool_version="1")])
    for start in range(0, len(manifests), 500):
        some = list(enumerate(manifests[start : start + 500], start))
        held = (Component(manifest_id=pk, package=packages[(at * 7 + i) % 400]) for at, pk in some for i in range(30))
        Component.objects.bulk_create(held, batch_size=1000)
        Finding.objects.bulk_create(
            (
                Finding(
                    manifest_id=pk,
                    vulnerability=vulnerabilities[number],
                    package=packages[number % 400],
                    path="",
                    severity=severity,
                    status="fixed" if number % 4 < 2 else "affected",
                    fixed_version="1.1" if number % 4 < 2 else "",
                    since=scans[at],
                )
                for at, pk in some
                for i, severity in enumerate(severities)
                for number in [i if i % 2 else 40 + (at * 20 + i) % 1_900]
            ),
            batch_size=1000,
        )
    Acceptance.objects.bulk_create(
        Acceptance(project=project, vulnerability=each.name, reason="not reachable", accepted_by="owner@acme.test")
        for each in vulnerabilities[20:70]
    )
    days = [now.date() - timedelta(days=number) for number in range(1, 90)]
    SeverityDay.objects.bulk_create(
        SeverityDay(project=project, day=day, tags=10_999, scanned=10_000, critical=6_000, high=4_000) for day in days
    )
    DatabaseRefresh.objects.create(source="a file", updated_at=now)
    Subscription.objects.create(project=project, channel="mail", recipients=["mina@acme.test"])


def measure() -> None:
    """Print a line for each page. "cve" and "search of a package": of something that is in all 10,000 images."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.urls import reverse

    from accounts.models import User
    from registry.statistics import sizes
    from tests.console.test_matrix import PAGES, PERSONAL, VIEW

    sizes.refresh()
    client = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    client.force_login(User.objects.get(email="member@acme.test"))
    print(f"{'page':28} {'ms':>8} {'cpu ms':>8} {'queries':>8} {'kB':>7}")
    addresses = {
        "cve": reverse("console:cve", args=["CVE-2026-10001"]),
        "search of a package": reverse("console:search") + "?q=package-1",
    }
    for name, (kind, words, status) in sorted(PAGES.items()):
        if kind in {VIEW, PERSONAL} and status == 200 and not {"run", "name"} & words.keys() and name[-3:] != "csv":
            named = words | ({"reference": "first"} if "reference" in words else {})
            query = {"search": "?q=image-99", "home": "?all=1"}.get(name, "")
            addresses[name] = reverse(f"console:{name}", kwargs=named) + query
    for name, address in sorted(addresses.items()):
        times, worked = [], []
        for _ in range(ROUNDS):
            started, began = time.perf_counter(), time.process_time()
            answer = client.get(address)
            times.append((time.perf_counter() - started) * 1000)
            worked.append((time.process_time() - began) * 1000)
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        weight = len(answer.content) / 1000
        columns = f"{statistics.median(times):8.1f} {min(worked):8.1f} {len(queries):8} {weight:7.1f}"
        print(f"{name:28} {columns}", flush=True)


if __name__ == "__main__":
    prepare()
    fill()
    fill_scans()
    measure()
