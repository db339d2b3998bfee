"""What happens in the background. Each task calls one function, and may run twice, late or never."""

from __future__ import annotations

import logging

from celery import shared_task
from kombu.exceptions import OperationalError

from . import deliveries, notices

logger = logging.getLogger(__name__)


# ── Notices ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def start_delivery(delivery_id: int) -> None:
    """Have a worker send it; when the broker is away, the sweep does."""
    try:
        deliver.delay(delivery_id)
    except OperationalError:
        logger.exception("delivery %s could not be queued; a sweep will find it", delivery_id)


@shared_task
def gather_notices() -> int:
    """After each scan, and every few seconds: write the messages that are due, and have them sent."""
    written = notices.gather()
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
    found = deliveries.due()
    for delivery_id in found:
        start_delivery(delivery_id)
    return len(found)


@shared_task
def forget_deliveries() -> int:
    """Delete the log of long ago."""
    return deliveries.forget()
