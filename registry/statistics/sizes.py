"""Measure the stored bytes of repositories and projects that have new events. Runs in the background."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Project
from registry.models import Blob, Event, ManifestBlob, ProjectDay, ProjectUsage, Repository, RepositoryUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

RESTS = 20  # after a measurement of one second, wait at least 20 seconds


def refresh() -> int:
    """Measure all repositories and projects with new events; return how many."""
    return _refresh_repositories() + _refresh_projects()


def _refresh_repositories() -> int:
    events = Event.objects.filter(repository=OuterRef("pk"))
    return _refresh(
        RepositoryUsage,
        _with_latest(Repository.objects.live(), events),
        lambda repository: ManifestBlob.objects.filter(repository=repository),
    )


def _refresh_projects() -> int:
    events = Event.objects.filter(project=OuterRef("pk"))
    return _refresh(
        ProjectUsage,
        _with_latest(Project.objects.all(), events),
        lambda project: ManifestBlob.objects.filter(repository__project=project, repository__deletion=None),
    )


def _with_latest(rows: Any, events: QuerySet[Event]) -> Any:
    latest = events.order_by("-pk")
    return rows.annotate(
        latest=Coalesce(Subquery(latest.values("pk")[:1]), 0), latest_at=Subquery(latest.values("at")[:1])
    )


def _refresh(table: Any, rows: QuerySet[Any], references: Callable[[Any], QuerySet[ManifestBlob]]) -> int:
    """Measure the rows whose latest event is newer than their last measurement."""
    behind = rows.filter(Q(usage=None) | Q(usage__event_id__lt=F("latest"))).select_related("usage")
    measured = 0
    for row in behind.iterator(chunk_size=500):
        known = getattr(row, "usage", None)
        if known is None or timezone.now() >= known.measured_at + timedelta(seconds=RESTS * known.seconds):
            _measure(table, row, references(row))
            measured += 1
    return measured


def _measure(table: Any, row: Any, references: Any) -> None:
    started = time.perf_counter()
    blobs = Blob.objects.filter(pk__in=references.live().values("blob"))
    size = blobs.aggregate(size=Coalesce(Sum("size"), 0))["size"]
    values = {"size": size, "event_id": row.latest, "changed_at": row.latest_at, "measured_at": timezone.now()}
    table.objects.update_or_create(pk=row.pk, defaults=values | {"seconds": time.perf_counter() - started})
    if isinstance(row, Project):
        ProjectDay.objects.update_or_create(project=row, day=timezone.now().date(), defaults={"size": size})
