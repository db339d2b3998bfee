"""The clock of the machine is set forward or back."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts import tokens
from accounts.actors import SYSTEM
from registry import cleanup, garbage
from registry.celery import Scheduler, app
from registry.cleanup import policies, runs
from registry.models import CleanupRun, Collection
from scanning import scans
from scanning.models import Delivery, Scan
from scanning.notifications import deliveries
from tests.support.factories import make_manifest, open_scan, subscribe

JUMPS = [timedelta(days=1), timedelta(hours=1), timedelta(hours=-1), timedelta(days=-1)]


class Clock:
    """The time of the scheduler."""

    def __init__(self) -> None:
        self.now = datetime(2027, 3, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(app, "now", lambda: made.now)
    return made


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_scheduler_goes_on_after_the_clock_was_set(clock, tmp_path, monkeypatch, jump):
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "beat"))
    sent: list[str] = []
    monkeypatch.setattr(scheduler, "apply_async", lambda entry, **options: sent.append(entry.name))

    def run(seconds: float) -> set[str]:
        """Let time pass. Return the names of the tasks that were sent."""
        sent.clear()
        end = clock.now + timedelta(seconds=seconds)
        while clock.now < end:
            clock.now += timedelta(seconds=max(scheduler.tick(), 0.1))
        return set(sent)

    often = {name for name, entry in app.conf.beat_schedule.items() if isinstance(entry["schedule"], float)}
    assert run(700) >= often
    clock.now += jump
    assert run(700) >= often
    scheduler.close()


# ── Leases ───────────────────────────────────────────────────────────────────────────────────────────────────────────
# A worker that took the work while its clock was a day ahead has died; or the clocks of two machines differ a little.
TAKEN = [(timedelta(days=1), True), (timedelta(seconds=30), False)]


@pytest.mark.django_db
@pytest.mark.parametrize(("ahead", "is_free"), TAKEN)
def test_a_scan_is_taken_over_after_the_clock_was_set_back(world, ahead, is_free):
    scan = open_scan(make_manifest(world.repository("web"), "a"))
    Scan.objects.update(state="running", attempts=1, lease_until=timezone.now() + Scan.LEASE + ahead)
    assert scans.waiting(10) == ([scan.pk] if is_free else [])


@pytest.mark.django_db
@pytest.mark.parametrize(("ahead", "is_free"), TAKEN)
def test_a_notification_is_sent_after_the_clock_was_set_back(world, ahead, is_free):
    delivery = deliveries.queue(subscribe(world.projects["demo"]), {"version": 1})
    Delivery.objects.update(attempts=1, lease_until=timezone.now() + Delivery.LEASE + ahead)
    assert deliveries.due() == ([delivery.pk] if is_free else [])


@pytest.mark.django_db
@pytest.mark.parametrize(("ahead", "is_free"), TAKEN)
def test_a_garbage_collection_goes_on_after_the_clock_was_set_back(world, ahead, is_free):
    run, _ = garbage.request(SYSTEM, world.projects["demo"])
    now = timezone.now()
    Collection.objects.update(state=Collection.State.RUNNING, started_at=now, heartbeat_at=now + ahead)
    assert garbage.unfinished() == ([run.pk] if is_free else [])


@pytest.mark.django_db
@pytest.mark.parametrize(("ahead", "is_free"), TAKEN)
def test_a_cleanup_goes_on_after_the_clock_was_set_back(world, ahead, is_free):
    policy = policies.set_policy(SYSTEM, world.repository("web"), keep_last=1)
    runs._open(policy.pk)
    CleanupRun.objects.update(heartbeat_at=timezone.now() + ahead)
    assert cleanup.due() == ([policy.pk] if is_free else [])


# ── Tokens and sessions ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ahead", "is_accepted"),
    [(50, True), (-50, True), (-14 * 60, True), (120, False), (86_400, False), (-15 * 60 - 1, False), (-86_400, False)],
)
def test_a_token_of_a_server_with_another_clock(world, monkeypatch, ahead, is_accepted):
    """The clocks of two servers may differ by a minute. Clients fetch a new token in place of one that is refused."""
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + ahead)
    text = tokens.issue(world.member.actor, "localhost:8080", [])
    monkeypatch.undo()
    if is_accepted:
        assert tokens.verify(text, "localhost:8080").actor.user_id == world.member.user.pk
    else:
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(text, "localhost:8080")
    assert tokens.verify(tokens.issue(world.member.actor, "localhost:8080", []), "localhost:8080")
