"""Prometheus metrics of scans and notifications, read from the database when asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count
from django.utils import timezone

from registry.metrics.rows import gauge, gauges, queue_gauges, seconds_since
from scanning.models import DatabaseRefresh, Delivery, Scan, ScannerHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

DAY = timedelta(days=1)


def read() -> Iterator[Metric]:
    """Queues, failures of a day, the vulnerability database, and scanners."""
    now = timezone.now()
    yield from queue_gauges("scans", "Scans", Scan.objects.filter(state=Scan.State.WAITING, due_at__lte=now), "due_at")
    yield gauge("kcr_scans_running", "Scans at work.", Scan.objects.filter(state=Scan.State.RUNNING).count())
    ended = Scan.objects.filter(finished_at__gt=now - DAY).values_list("state").annotate(Count("pk"))
    yield gauges(
        "kcr_scans_last_day", "Scans that ended in the last 24 hours.", ("state",), (((s,), n) for s, n in ended)
    )
    yield from queue_gauges("deliveries", "Notifications", Delivery.objects.due(now), "next_at")
    failed = Delivery.objects.filter(state=Delivery.State.FAILED, next_at__gt=now - DAY).count()
    yield gauge(
        "kcr_deliveries_failed_last_day", "Notifications given up whose last try was in the last 24 hours.", failed
    )
    latest = DatabaseRefresh.objects.order_by("-pk").first()
    if latest and latest.updated_at:
        yield gauge(
            "kcr_vulnerability_database_age_seconds",
            "Since the vulnerability database in use was built.",
            seconds_since(latest.updated_at),
        )
    hosts = (
        ScannerHost.objects.filter(seen_at__gt=now - ScannerHost.SEEN_LATELY)
        .values_list("isolation")
        .annotate(Count("pk"))
    )
    yield gauges(
        "kcr_scanners",
        "Scanners that scanned lately, and what isolates Trivy there.",
        ("isolation",),
        (((s,), n) for s, n in hosts),
    )
