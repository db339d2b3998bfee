"""Steps of tests/scanning/test_event_crashes.py."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from django.db import connection, transaction

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import Project
from registry import audit, projects
from registry.models import Event
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import events, subscriptions

Action = Event.Action
MOST = 20  # events of one transaction


def listen(url: str) -> int:
    """Send the events of demo to this URL, and to no other. Return the id of the last event before."""
    Subscription.objects.update(is_active=False)
    demo = Project.objects.get(name="demo")
    made = subscriptions.create(SYSTEM, demo, None, "events", {"url": url})
    return Subscription.objects.get(pk=made.subscription.pk).position


def work() -> None:
    """Do what workers do, until all events are sent."""
    tasks.deliver.delay = tasks.deliver  # type: ignore[assignment]
    while _is_open():
        if not tasks.spread_events() and not tasks.sweep_deliveries():
            time.sleep(0.1)


def _is_open() -> bool:
    live = Subscription.objects.live().filter(is_active=True)
    last = Event.objects.filter(project__name="demo").latest("pk").pk
    waiting = Delivery.objects.filter(state=Delivery.State.WAITING, subscription__is_active=True)
    return live.filter(position__lt=last).exists() or waiting.exists()


def write(number: str) -> None:
    """Add so many events to demo, up to MOST in one transaction."""
    demo, left = Project.objects.get(name="demo"), int(number)
    while left > 0:
        some = random.randint(1, min(MOST, left))
        with transaction.atomic():
            for _ in range(some):
                audit.record(SYSTEM, Action.PROJECT_UPDATE, demo, after={"description": str(left)})
        left -= some


def commit_out_of_order(url: str) -> dict[str, Any]:
    """Write one event in a transaction that stays open, and a later one that commits first. Read at each step."""
    organization, _ = organizations.create_organization("acme")
    demo, _ = projects.create(SYSTEM, organization, "demo")
    start = listen(url)
    is_written, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with transaction.atomic():
            audit.record(SYSTEM, Action.PROJECT_UPDATE, demo, after="first")
            is_written.set()
            may_commit.wait()
        connection.close()

    writer = threading.Thread(target=write_slowly)
    writer.start()
    is_written.wait()
    audit.record(SYSTEM, Action.PROJECT_UPDATE, demo, after="second")
    visible = list(Event.objects.filter(pk__gt=start).values_list("detail__after", flat=True))
    audit.PATIENCE = 0.2
    early = [[event.detail["after"] for event in audit.changes(demo, start, 10)], events.spread()]
    audit.PATIENCE = 60
    threading.Timer(0.3, may_commit.set).start()
    late = [event.detail["after"] for event in audit.changes(demo, start, 10)]
    writer.join()
    events.spread()
    made = [delivery.content["data"]["detail"]["after"] for delivery in Delivery.objects.order_by("pk")]
    return {"visible": visible, "early": early, "late": late, "made": made}
