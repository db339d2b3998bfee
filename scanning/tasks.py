"""Background tasks of scanning. Scans have their own queue, so that mails do not wait behind them."""

from __future__ import annotations

import time

from celery import shared_task
from django.utils import timezone

from registry.doctor import runs
from registry.tasks import queue
from scanning import findings, scans
from scanning.models import Delivery
from scanning.notifications import deliveries, events, messages, recipients, subscriptions
from scanning.trivy import database

BUDGET = 60.0  # seconds that a worker spends on due scans before it takes its next message
TURN = 10.0  # seconds that it spends on deliveries to one subscription
WOKEN = 8


# ── Scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def start(scan_ids: list[int]) -> None:
    """Wake workers for these scans."""
    for scan_id in scan_ids[:WOKEN]:
        queue(scan, scan_id)


@shared_task
def scan(scan_id: int) -> int:
    """Run due scans in the order of their turns, not only this one. Returns how many ended."""
    ended = 0
    until = time.monotonic() + BUDGET
    while time.monotonic() < until and (following := scans.next_due()) is not None:
        ended += int(scans.run(following))
    if ended:
        queue(gather_notices)
    return ended


@shared_task
def sweep_scans() -> int:
    """Wake workers for scans without a worker."""
    due = scans.waiting(WOKEN)
    start(due)
    return len(due)


@shared_task
def recount() -> int:
    """Count reports again whose findings or acceptances changed, or whose acceptances expired. Runs every 5 seconds."""
    return findings.recount_due()


@shared_task
def request_daily() -> int:
    """Continue the daily rounds."""
    asked = scans.request_daily(timezone.now())
    if asked:
        start(scans.waiting(WOKEN))
    return asked


@shared_task
def check_isolation() -> None:
    """Store once an hour, on a scanner, how Trivy is isolated."""
    scans.check_isolation()


@shared_task
def answer_doctor(run_id: int) -> None:
    """Tell a run of the doctor that a scanner takes tasks."""
    runs.answer(run_id, "scanner_at")


@shared_task
def refresh_database() -> bool:
    """Fetch a newer vulnerability database if its publisher's next update is due. True if one was fetched."""
    fetched = database.refresh(only_if_due=True)
    if fetched is not None:
        start(scans.retry_for_database())
    return fetched is not None


@shared_task
def record_severities() -> int:
    """Store today's counts of each project, and delete old scans."""
    now = timezone.now()
    scans.forget_old(now)
    return findings.record_day(now)


# ── Notifications ────────────────────────────────────────────────────────────────────────────────────────────────────
def start_delivery(delivery_id: int) -> None:
    """Wake a worker to send a delivery."""
    queue(deliver, delivery_id)


def start_asking() -> None:
    """Wake a worker to send the questions to new recipients."""
    queue(ask_recipients)


@shared_task
def ask_recipients() -> int:
    """Send the questions that are due to addresses outside the organization."""
    return recipients.send_due()


@shared_task
def gather_notices() -> int:
    """Create the deliveries that are due, and wake workers for them. Runs after scans and every 15 seconds."""
    written = messages.gather()
    for delivery_id in written:
        start_delivery(delivery_id)
    return len(written)


@shared_task
def spread_events() -> int:
    """Create the deliveries of new events, and wake a worker for each subscription. Runs every 5 seconds."""
    first = events.spread()
    for delivery_id in first:
        start_delivery(delivery_id)
    return len(first)


@shared_task
def deliver(delivery_id: int) -> None:
    """Send one delivery if it is due, then the other due ones of its subscription, while the other side answers."""
    until = time.monotonic() + TURN
    waiting = [delivery_id]
    while waiting:
        for each in waiting:
            if time.monotonic() > until:
                start_delivery(each)
                return
            if deliveries.deliver(each) not in {Delivery.State.SENT, Delivery.State.FAILED}:
                return
        waiting = deliveries.following(delivery_id)


@shared_task
def sweep_deliveries() -> int:
    """Wake workers for due deliveries, and send due questions."""
    recipients.send_due()
    found = deliveries.due()
    for delivery_id in found:
        start_delivery(delivery_id)
    return len(found)


@shared_task
def forget_deliveries() -> int:
    """Delete old deliveries, counts of mails, and subscriptions that were deleted long ago."""
    recipients.forget()
    subscriptions.forget()
    return deliveries.forget()
