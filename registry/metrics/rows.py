"""Metrics that are read from the database when Prometheus asks."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db.models import Count, Max, Min, Sum
from django.utils import timezone
from django.utils.module_loading import import_string
from prometheus_client.core import GaugeMetricFamily

from accounts.models import Organization, Project
from registry.models import (
    BlobReview,
    Collection,
    Deletion,
    Image,
    ObjectTrash,
    ProjectUsage,
    Repository,
    UploadSession,
)
from registry.storage import blob_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from django.db.models import QuerySet
    from prometheus_client.core import Metric

logger = logging.getLogger(__name__)


class Installation:
    """All that the database knows. While the database is away, only ``kcr_up 0``."""

    def collect(self) -> Iterable[Metric]:
        """Read everything. prometheus_client calls it."""
        found: list[Metric] = []
        try:
            for reader in settings.METRICS_READERS:
                found.extend(import_string(reader)())
        except Exception:
            logger.exception("the metrics of the database cannot be read")
            found.clear()
        yield gauge("kcr_up", "1 while the database answers, else 0.", 1 if found else 0)
        yield from found


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a metric without labels."""
    return GaugeMetricFamily(name, meaning, value=value)


def gauges(name: str, meaning: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Return a metric with a value for each combination of labels."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def seconds_since(moment: datetime | None) -> float:
    """How long ago that was; 0 for None and for the future."""
    return max(0.0, (timezone.now() - moment).total_seconds()) if moment else 0.0


def queue_gauges(name: str, thing: str, due: QuerySet[Any], moment: str) -> Iterator[Metric]:
    """The length of a queue, and how long its oldest entry has been due (``moment``: its column)."""
    found = due.aggregate(entries=Count("pk"), oldest=Min(moment))
    yield gauge(f"kcr_{name}_waiting", f"{thing} that are due.", found["entries"])
    yield gauge(
        f"kcr_{name}_oldest_seconds", "How long the oldest of these has been due.", seconds_since(found["oldest"])
    )


def read() -> Iterator[Metric]:
    """Uploads, Recovery, garbage collection, usage and quotas."""
    now = timezone.now()
    uploads = UploadSession.objects.open().aggregate(entries=Count("pk"), size=Sum("offset"))
    yield gauge("kcr_uploads_open", "Uploads that are not finished.", uploads["entries"])
    yield gauge("kcr_uploads_open_bytes", "Bytes of these uploads.", uploads["size"] or 0)
    yield gauge("kcr_deletions", "Deletions in Recovery.", Deletion.objects.count())
    yield from queue_gauges(
        "purges", "Deletions to purge", Deletion.objects.filter(hold=False, purge_after__lt=now), "purge_after"
    )
    yield from queue_gauges(
        "blob_reviews", "Blobs to review", BlobReview.objects.filter(review_after__lt=now), "review_after"
    )
    yield from queue_gauges(
        "objects_to_delete",
        "Stored objects to delete",
        ObjectTrash.objects.filter(delete_after__lt=now),
        "delete_after",
    )
    done = Collection.objects.filter(state=Collection.State.DONE).aggregate(last=Max("finished_at"))["last"]
    if done:
        yield gauge(
            "kcr_collection_last_success_timestamp_seconds",
            "When garbage collection last came to its end.",
            done.timestamp(),
        )
    yield from _usage()


def _bytes() -> Iterator[Metric]:
    """The quotas of bytes, and how full they are, as of the last measurements."""
    limited = Project.objects.filter(size_limit__isnull=False).values_list("name", "size_limit", "usage__size")
    projects = [(name, limit or 0, size or 0) for name, limit, size in limited]
    yield gauges(
        "kcr_project_bytes_limit",
        "Quota of stored bytes of a project.",
        ("project",),
        (((name,), limit) for name, limit, _size in projects),
    )
    sizes = Organization.objects.filter(size_limit__isnull=False).annotate(size=Sum("projects__usage__size"))
    organizations = [
        (name, limit or 0, size or 0) for name, limit, size in sizes.values_list("name", "size_limit", "size")
    ]
    yield gauges(
        "kcr_organization_bytes_limit",
        "Quota of stored bytes of an organization.",
        ("organization",),
        (((name,), limit) for name, limit, _size in organizations),
    )
    yield gauges(
        "kcr_organization_bytes",
        "Stored bytes of the projects of an organization that has a quota of them.",
        ("organization",),
        (((name,), size) for name, _limit, size in organizations),
    )


def _usage() -> Iterator[Metric]:
    sizes = ProjectUsage.objects.values_list("project__name", "size")
    yield gauges("kcr_project_bytes", "Stored bytes of a project.", ("project",), (((name,), n) for name, n in sizes))
    repositories = (
        Repository.objects.live()
        .values("project__name")
        .annotate(used=Count("pk"), limit=Max("project__repository_limit"))
    )
    images = (
        Image.objects.with_contents()
        .filter(repository__deletion=None)
        .values("repository__project__name", "repository")
        .annotate(used=Count("pk"), limit=Max("repository__project__image_limit"))
    )
    fill = {(row["project__name"], "repositories"): _share(row) for row in repositories}
    for row in images:
        key = row["repository__project__name"], "images"
        fill[key] = max(fill.get(key, 0.0), _share(row))
    for name, limit, size in Project.objects.exclude(size_limit=None).values_list("name", "size_limit", "usage__size"):
        fill[name, "bytes"] = _share({"used": size or 0, "limit": limit})
    yield gauges(
        "kcr_quota_used_ratio",
        "How full the quota of a project is, from 0 to 1; for images, of its fullest repository.",
        ("project", "quota"),
        fill.items(),
    )
    yield from _bytes()
    storage = blob_storage()
    if isinstance(storage, FileSystemStorage):
        folder = Path(storage.location)  # made by the first upload
        room = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists()))
        yield gauge("kcr_storage_free_bytes", "Free bytes of the disk of the blobs.", room.free)
        yield gauge("kcr_storage_size_bytes", "Bytes of the disk of the blobs.", room.total)


def _share(row: Mapping[str, Any]) -> float:
    return float(row["used"] / row["limit"]) if row["limit"] else 1.0
