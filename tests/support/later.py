"""Time passes in tests without waiting: what would end by the clock is made to have ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.apps import apps
from django.db.models import DateTimeField, F
from django.utils import timezone

from registry.models import BlobLease, BlobReview, Deletion, ObjectTrash, UploadSession

if TYPE_CHECKING:
    from django.db.models import QuerySet

LONG_AGO = timedelta(days=1)


def hours_pass(hours: int) -> None:
    """Everything that the registry has written down happened, and will happen, so many hours earlier."""
    for model in apps.get_app_config("registry").get_models():
        moments = [field.name for field in model._meta.concrete_fields if isinstance(field, DateTimeField)]
        if moments:
            model._default_manager.update(**{name: F(name) - timedelta(hours=hours) for name in moments})


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
