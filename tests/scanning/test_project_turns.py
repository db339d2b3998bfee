"""Projects take turns at the scanner: a project with many or slow scans does not delay others."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Project
from registry.models import Repository
from scanning import scans
from scanning.models import Scan, ScanTurn
from tests.support.database import plan
from tests.support.factories import make_manifest, open_scan

pytestmark = pytest.mark.django_db

Trigger = Scan.Trigger


@pytest.fixture
def queue(world):
    """``queue("big", 5)`` queues so many scans of a project."""
    organization = world.projects["demo"].organization

    def add(name: str, number: int, trigger: Scan.Trigger = Trigger.PUSH, **more) -> list[Scan]:
        project, _ = Project.objects.get_or_create(name=name, defaults={"organization": organization})
        repository, _ = Repository.objects.get_or_create(project=project, name="web", deletion=None)
        first = Scan.objects.count()
        texts = [f"{name} {first + place}" for place in range(number)]
        return [open_scan(make_manifest(repository, text, image=text), trigger=trigger, **more) for text in texts]

    return add


def take() -> str:
    """Start the next scan. Return its project."""
    due = scans.next_due()
    assert due is not None
    scan = scans._claim(due)
    assert scan is not None
    return scan.project.name


def end(name: str) -> None:
    """End one of the project's running scans."""
    scan = Scan.objects.filter(project__name=name, state="running").earliest("pk")
    Scan.objects.filter(pk=scan.pk).update(state="done", finished_at=timezone.now())


def test_projects_alternate_regardless_of_the_order_of_requests(queue):
    queue("big", 6)
    queue("small", 2)
    queue("other", 1)
    order = []
    while scans.next_due():
        order.append(take())
        end(order[-1])
    assert sorted(order[:3]) == ["big", "other", "small"]
    assert sorted(order[3:5]) == ["big", "small"]
    assert order[5:] == ["big"] * 4


def test_slow_scans_of_one_project_do_not_use_every_worker(queue):
    queue("slow", 5)
    assert take() == "slow"
    queue("small", 3, Trigger.DAILY)
    for _ in range(3):
        assert take() == "small"
        end("small")
    assert take() == "slow"


def test_scheduled_scans_wait_for_requested_scans_of_other_projects(queue):
    queue("daily", 3, Trigger.DAILY)
    queue("person", 1, Trigger.MANUAL)
    queue("pusher", 1)
    first = {take(), take()}
    end("person")
    end("pusher")
    assert first == {"person", "pusher"}
    assert take() == "daily"


def test_requested_scans_come_first_within_a_project(queue):
    daily, pushed, asked = (queue("one", 1, trigger)[0] for trigger in (Trigger.DAILY, Trigger.PUSH, Trigger.MANUAL))
    for scan in (asked, pushed, daily):
        assert scans.next_due() == scan.pk
        take()
        end("one")


def test_scans_of_lost_workers_do_not_count(queue):
    queue("lost", 2)
    queue("small", 1)
    ScanTurn.objects.all().delete()
    lost = Scan.objects.filter(project__name="lost").earliest("pk")
    Scan.objects.filter(pk=lost.pk).update(state="running", lease_until=timezone.now() - timedelta(minutes=1))
    assert {take(), take()} == {"lost", "small"}


def test_scan_that_is_not_due_is_not_taken(queue):
    queue("later", 1, due_at=timezone.now() + timedelta(hours=1))
    assert scans.next_due() is None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL plans with the values of the parameters")
def test_open_scans_of_a_project_are_found_without_a_look_at_the_others():
    assert "open_scans_of_project" in plan(Scan.objects.open().filter(project=1))
