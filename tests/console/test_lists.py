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
from accounts.models import (
    AccessKey,
    AuditEvent,
    FederatedSession,
    Invitation,
    Issuer,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    TrustRule,
    User,
)
from registry import repositories
from registry.models import CleanupLine, CleanupRun, Event, Image, Manifest, Repository, Tag, TagDay
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
from tests.console import test_matrix
from tests.console.test_matrix import PAGES, PUBLIC
from tests.support.images import sha256
from tests.support.pages import Page, see, walk

BASELINE = Path(__file__).with_name("query_counts.json")
WRITE = os.environ.get("KCR_TEST_WRITE_BASELINE") == "1"
MOST = 24
page_address = test_matrix.address
SIGNED_OUT = {name for name, row in PAGES.items() if row[0] == PUBLIC}


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


def add_people(world, first: int, last: int) -> None:
    """Add people, invitations, keys, uploads, cleanup lines, and what service accounts and CI jobs have."""
    project, web = world.projects["demo"], world.repository("web")
    acme, member, numbers = project.organization, world.member.user, range(first, last)
    people = User.objects.bulk_create(User(email=f"person{number}@acme.test", password="!") for number in numbers)
    OrganizationMembership.objects.bulk_create(OrganizationMembership(organization=acme, user=each) for each in people)
    ProjectMembership.objects.bulk_create(
        ProjectMembership(project=project, user=each, role=ProjectRole.READER) for each in people[::2]
    )
    for each in people[1:40:2]:
        repositories.set_role(SYSTEM, web, each, RepositoryRole.VIEWER)
    Invitation.objects.bulk_create(
        Invitation(
            organization=acme,
            email=f"new{number}@acme.test",
            invited_by=member.email,
            expires_at=timezone.now() + timedelta(days=1),
        )
        for number in numbers
    )
    account, issuer = User.objects.get(name="ci", project=project), Issuer.objects.get()
    keys = AccessKey.objects.bulk_create(
        AccessKey(user=owner, name=f"k{number}", identifier=f"KCRK{owner.pk}N{number}", secret_hash="x")
        for number in numbers
        for owner in (member, account)
    )
    rules = TrustRule.objects.bulk_create(
        TrustRule(account=account, issuer=issuer, name=f"r{number}", created_by="a") for number in numbers
    )
    FederatedSession.objects.bulk_create(
        FederatedSession(key=key, rule=each, token_hash=f"{key.pk}", is_exchanged=True)
        for key, each in zip(keys[1::2], rules, strict=True)
    )
    run = CleanupRun.objects.get(repository=web)
    versions = Tag.objects.filter(image__path="demo/web/app", name__in=[f"t{number}" for number in numbers])
    CleanupLine.objects.bulk_create(
        CleanupLine(run=run, image=each.image, path="demo/web/app", tag=each.name, digest="x", outcome="doomed")
        for each in versions.select_related("image")
    )
    notice = Subscription.objects.filter(project=project, repository=None).earliest("pk")
    Delivery.objects.bulk_create(Delivery(subscription=notice) for _ in numbers)
    AuditEvent.objects.bulk_create(AuditEvent(organization=acme, action="key.create", actor="a") for _ in numbers)


@pytest.mark.sqlite_only
def test_pages_cost_the_same_queries_for_10_and_300_rows(console, world, scanned, page_address):
    browser, counts = console("owner"), {}
    pages = {name: page_address(name) for name in PAGES if name not in SIGNED_OUT}
    pages = {name: page for name, page in pages.items() if browser.get(page).status_code == 200}
    pages["home"] += "?all=1"
    pages["search"] += "?q=app"
    pages["suggestions"] += "?q=app"
    pages["cve"] = reverse("console:cve", args=["CVE-2026-2"])
    pages["cve_csv"] = reverse("console:cve_csv", args=["CVE-2026-2"])
    pages["search of a package"] = f"{reverse('console:search')}?q=curl"
    pages["compare with a digest"] = f"{pages['compare']}?with=2.0"
    pages["vulnerabilities of an index"] = pages["vulnerabilities"].replace("/1.0/", "/2.0/")
    first, last = 0, 10
    for step in (10, 300):
        add(world, scanned, first, last)
        add_people(world, first, last)
        for name, page in pages.items():
            count = measured(browser, page)
            assert counts.setdefault(name, count) == count, f"{name} asks more for {step} rows"
        first, last = last, 300
    assert {name: count for name, count in counts.items() if count > MOST} == {}
    if WRITE:
        BASELINE.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    known = json.loads(BASELINE.read_text())
    changed = {
        name: f"{counts.get(name)}, not {known.get(name)}"
        for name in counts | known
        if known.get(name) != counts.get(name)
    }
    assert changed == {}, "if this is meant: KCR_TEST_WRITE_BASELINE=1 writes tests/console/query_counts.json again"


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
