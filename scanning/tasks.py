"""What scanning does in the background. Scans have a queue of their own: nobody's password mail waits behind them."""

from __future__ import annotations

import time

from celery import shared_task
from django.utils import timezone

from registry.tasks import queue
from scanning import findings, scans
from scanning.notifications import deliveries, messages, recipients
from scanning.trivy import database

BUDGET = 60.0  # seconds that a worker goes on with whatever is due, before it looks at its messages again
WOKEN = 8


# ── Scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def start(scan_ids: list[int]) -> None:
    """Have workers take up scans, and whatever else is due."""
    for scan_id in scan_ids[:WOKEN]:
        queue(scan, scan_id)


@shared_task
def scan(scan_id: int) -> int:
    """Run what is due, this scan or others whose turn it is; returns how many came to an end."""
    ended = 0
    until = time.monotonic() + BUDGET
    while time.monotonic() < until and (following := scans.next_due()) is not None:
        ended += int(scans.run(following))
    if ended:
        queue(gather_notices)
    return ended


@shared_task
def sweep_scans() -> int:
    """Wake workers up for what nobody works on, and count anew what acceptances no longer cover."""
    due = scans.waiting(WOKEN)
    start(due)
    scans.recount_acceptances(timezone.now())
    return len(due)


@shared_task
def request_daily() -> int:
    """Go on with the rounds of the day."""
    asked = scans.request_daily(timezone.now())
    if asked:
        start(scans.waiting(WOKEN))
    return asked


@shared_task
def check_isolation() -> None:
    """Once an hour on a scanner: note what isolates Trivy there."""
    scans.check_isolation()


@shared_task
def refresh_database() -> bool:
    """Fetch a newer vulnerability database when its makers promised one; whether there is one now."""
    fetched = database.refresh(only_if_due=True)
    if fetched is not None:
        start(scans.retry_for_database())
    return fetched is not None


@shared_task
def record_severities() -> int:
    """Write down how bad every project is today, and forget what is long past."""
    now = timezone.now()
    scans.forget_old(now)
    return findings.record_day(now)


# ── Notices ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def start_delivery(delivery_id: int) -> None:
    """Have a worker send a message."""
    queue(deliver, delivery_id)


def start_asking() -> None:
    """Have a worker ask recipients whether they want mails."""
    queue(ask_recipients)


@shared_task
def ask_recipients() -> int:
    """Ask addresses outside the organization whether they want mails."""
    return recipients.send_due()


@shared_task
def gather_notices() -> int:
    """After each scan, and every few seconds: write the messages that are due, and have them sent."""
    written = messages.gather()
    for delivery_id in written:
        start_delivery(delivery_id)
    return len(written)


@shared_task
def deliver(delivery_id: int) -> None:
    """Send one message, if it is due."""
    deliveries.deliver(delivery_id)


@shared_task
def sweep_deliveries() -> int:
    """Send what is due again, and what was forgotten."""
    recipients.send_due()
    found = deliveries.due()
    for delivery_id in found:
        start_delivery(delivery_id)
    return len(found)


@shared_task
def forget_deliveries() -> int:
    """Delete the log of long ago."""
    recipients.forget()
    return deliveries.forget()
