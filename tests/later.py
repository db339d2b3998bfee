"""Time passes in tests without waiting: what would end by the clock is made to have ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from registry.models import BlobLease, BlobReview, Deletion, ObjectTrash, UploadSession

if TYPE_CHECKING:
    from django.db.models import QuerySet

LONG_AGO = timedelta(days=1)


def leases_end() -> None:
    """Every lease is over, and the collector's look at the leased blobs is due."""
    moment = timezone.now() - LONG_AGO
    BlobLease.objects.update(expires_at=moment)
    BlobReview.objects.update(review_after=moment)


def recovery_ends(deletions: QuerySet[Deletion] | None = None) -> None:
    """Nobody recovered these (all) in time."""
    found = Deletion.objects.all() if deletions is None else deletions
    found.update(purge_after=timezone.now() - LONG_AGO)


def uploads_end() -> None:
    """Every upload, finished or not, is over."""
    UploadSession.objects.update(expires_at=timezone.now() - LONG_AGO)


def trash_is_due() -> None:
    """No download can be reading what no row names any more."""
    ObjectTrash.objects.update(delete_after=timezone.now() - LONG_AGO)
