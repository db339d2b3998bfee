"""Lists: every row once, in each order, forwards and backwards, with the same queries for 10 and 300 rows."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import OrganizationRole, Project, User
from registry import service_accounts
from registry.models import Event, Image, Manifest, Repository, Tag, TagDay
from scanning.models import (
    Acceptance,
    Component,
    Delivery,
    Finding,
    Package,
    Report,
    Scan,
    Subscription,
    Vulnerability,
)
from tests.console.test_matrix import PAGES, PERSONAL, VIEW
from tests.support.images import sha256
from tests.support.pages import Page, see, walk

BASELINE = Path(__file__).with_name("query_counts.json")
WRITE = os.environ.get("KCR_TEST_WRITE_BASELINE") == "1"
MOST = 24


def test_projects_are_paged_by_organization_and_filtered(console, world):
    acme = world.projects["demo"].organization
    second_one, _ = organizations.create_organization("acme-b")
    empty, _ = organizations.create_organization("empty")
    for organization in (second_one, empty):
        organizations.add_user(organization, world.owner.user.email, role=OrganizationRole.OWNER)
    Project.objects.bulk_create(
        Project(organization=organization, name=f"{organization.name}-{number:03}", display_name=f"Team {number}")
        for organization in (acme, second_one)
        for number in range(40)
    )
    browser, address = console("owner"), reverse("console:home")
    links = [reverse("console:organization", args=[name]) for name in ("acme", "acme-b", "empty")]
    first, second = walk(browser, address, "next")
    assert [[link.href for link in first.links].count(link) for link in links] == [2, 2, 2]
    assert [[link.href for link in second.links].count(link) for link in links] == [2, 0, 0]
    cards = [_projects(page) for page in (first, second)]
    assert [len(page) for page in cards] == [50, 32]
    expected = [f"{name}-{number:03}" for name in ("acme-b", "acme") for number in range(40)] + ["demo", "lab"]
    assert cards[0] + cards[1] == [f"/projects/{name}/" for name in expected]

    found = see(browser, f"{address}?q=team+7")
    assert _projects(found) == ["/projects/acme-b-007/", "/projects/acme-007/"]
    assert "empty" not in found.text
    assert "Nothing matches" in see(browser, f"{address}?q=zzz").text


def _projects(page: Page) -> list[str]:
    """Return the links of the project cards. Links of the menu have the name alone."""
    return [link.href for link in page.links if re.search(r"\d repositor(y|ies)", link.text)]


@pytest.mark.parametrize("sort", ["name", "size", "pushed", ""])
def test_repositories_are_paged_both_ways(console, world, sort):
    project = world.projects["demo"]
    Repository.objects.bulk_create(Repository(project=project, name=f"r{number:03}") for number in range(130))
    browser, address = console("reader"), reverse("console:repositories", args=["demo"])
    forwards = walk(browser, f"{address}?sort={sort}", "next")
    flat = [row for page in forwards for row in page.row_links]
    assert len(flat) == len(set(flat)) == 133
    assert [len(page.row_links) for page in forwards] == [50, 50, 33]
    assert see(browser, forwards[2].link("prev").href).row_links == forwards[1].row_links


@pytest.mark.parametrize("sort", ["name", "pushed", "size"])
def test_tags_are_paged_and_filtered(console, pushed, sort):
    manifest = Manifest.objects.get(digest=pushed["first"])
    Tag.objects.bulk_create(Tag(image=manifest.image, name=f"v{number}", manifest=manifest) for number in range(120))
    browser, address = console("reader"), reverse("console:image", args=["demo", "web", "app"])
    flat = [row for page in walk(browser, f"{address}?sort={sort}", "next") for row in page.row_links]
    assert len(flat) == len(set(flat)) == 123
    found = [row for page in walk(browser, f"{address}?sort={sort}&q=v1", "next") for row in page.row_links]
    assert len(found) == 31


def add(world, pushed, first: int, last: int) -> None:
    """Add rows of every kind."""
    project, web = world.projects["demo"], world.repository("web")
    manifest = Manifest.objects.get(digest=pushed["first"])
    numbers = range(first, last)
    Repository.objects.bulk_create(Repository(project=project, name=f"r{number}") for number in numbers)
    User.objects.bulk_create(
        User(
            kind="service",
            name=f"s{number}",
            email=f"s{number}@demo.project.invalid",
            password="!",
            organization=project.organization,
            project=project,
        )
        for number in numbers
    )
    images = Image.objects.bulk_create(
        Image(repository=web, name=f"i{number}", path=f"demo/web/i{number}") for number in numbers
    )
    Tag.objects.bulk_create(Tag(image=image, name="1", manifest=manifest) for image in images)
    Tag.objects.bulk_create(Tag(image=manifest.image, name=f"t{number}", manifest=manifest) for number in numbers)
    Manifest.objects.bulk_create(
        Manifest(
            image=manifest.image,
            digest=sha256(f"{number}".encode()),
            media_type=manifest.media_type,
            content=manifest.content,
            size=2,
            total_size=2,
        )
        for number in numbers
    )
    notices = Subscription.objects.bulk_create(Subscription(project=project, channel="mail") for number in numbers)
    Delivery.objects.bulk_create(Delivery(subscription=notice) for notice in notices)
    scan = Scan.objects.filter(manifest=manifest).latest("pk")
    vulnerabilities = Vulnerability.objects.bulk_create(Vulnerability(name=f"CVE-1999-{number}") for number in numbers)
    packages = Package.objects.bulk_create(Package(kind="debian", name=f"p{number}", version="1") for number in numbers)
    Component.objects.bulk_create(Component(manifest=manifest, package=package) for package in packages)
    Finding.objects.bulk_create(
        Finding(manifest=manifest, vulnerability=each, package=package, severity=4, status="affected", since=scan)
        for each, package in zip(vulnerabilities, packages, strict=True)
    )
    Acceptance.objects.bulk_create(
        Acceptance(project=project, vulnerability=each.name, reason="a", accepted_by="a") for each in vulnerabilities
    )
    others = Manifest.objects.filter(digest__in=[sha256(f"{number}".encode()) for number in numbers])
    states = {"requested_by": "a", "trigger": 1, "project": project}
    Scan.objects.bulk_create(Scan(manifest=each, state="waiting", **states) for each in others)
    Report.objects.bulk_create(Report(manifest=each, state="failed", problem="timeout") for each in others)
    Event.objects.bulk_create(
        Event(
            action="tag.move",
            project=project,
            repository=web,
            image=manifest.image,
            path="demo/web/app",
            tag=f"t{number}",
            digest=manifest.digest,
            actor="a",
        )
        for number in numbers
    )


def measured(browser, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        answer = browser.get(address)
        list(getattr(answer, "streaming_content", ()))
    assert answer.status_code == 200
    return len(queries)


@pytest.mark.sqlite_only
def test_pages_cost_the_same_queries_for_10_and_300_rows(console, world, scanned):
    browser, counts = console("member"), {}
    pages = {
        name: reverse(f"console:{name}", kwargs=row[1])
        for name, row in PAGES.items()
        if row[0] in {VIEW, PERSONAL} and row[2] == 200 and not {"run", "subscription", "name"} & row[1].keys()
    }
    pages["home"] += "?all=1"
    pages["search"] += "?q=app"
    pages["suggestions"] += "?q=app"
    pages["cve"] = reverse("console:cve", args=["CVE-2026-2"])
    pages["search of a package"] = f"{reverse('console:search')}?q=curl"
    pages["compare with a digest"] = f"{pages['compare']}?with=latest"
    pages["vulnerabilities of an index"] = pages["vulnerabilities"].replace("/1.0/", "/2.0/")
    browser.get("/profile")
    service_accounts.create(SYSTEM, world.projects["demo"], "ci")
    add(world, scanned, 0, 10)
    for name, address in pages.items():
        counts[name] = measured(browser, address)
    add(world, scanned, 10, 300)
    for name, address in pages.items():
        assert measured(browser, address) == counts[name], f"{name} asks more for more rows"
    assert {name: count for name, count in counts.items() if count > MOST} == {}
    if WRITE:
        BASELINE.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    known = json.loads(BASELINE.read_text())
    changed = {name: f"{count}, not {known.get(name)}" for name, count in counts.items() if known.get(name) != count}
    assert changed == {}, "if this is meant: KCR_TEST_WRITE_BASELINE=1 writes tests/console/query_counts.json anew"


def test_repositories_show_their_use_and_unusual_settings_only(console, docker, world):
    docker("member").push("web/app", "1.0")
    image = Image.objects.get(path="demo/web/app")
    today = timezone.now().date()
    TagDay.objects.create(image=image, tag="old", day=today - timedelta(days=30), pulls=100)
    TagDay.objects.create(image=image, tag="a", day=today - timedelta(days=29), pulls=1200)
    TagDay.objects.create(image=image, tag="a", day=today, pulls=34)
    rows = see(console("reader"), reverse("console:repositories", args=["demo"])).table("Name", "Pulls, 30 days")
    found = {row["Name"].split()[0]: row for row in rows}
    assert (found["web"]["Pulls, 30 days"], found["web"]["Last push"]) == ("1,234", "just now")
    assert found["web"]["Name"] == "web"
    assert "Public" in found["public"]["Name"]
    Repository.objects.filter(pk=image.repository_id).update(tag_overwrite=False, auto_scan=False)
    rows = see(console("reader"), reverse("console:repositories", args=["demo"])).table("Name", "Pulls, 30 days")
    assert "web Tag rules Manual scan" in [row["Name"] for row in rows]
