"""Let time pass without waiting, by moving the stored times."""

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
    """Move all stored times of the registry back by so many hours."""
    for model in apps.get_app_config("registry").get_models():
        moments = [field.name for field in model._meta.concrete_fields if isinstance(field, DateTimeField)]
        if moments:
            model._default_manager.update(**{name: F(name) - timedelta(hours=hours) for name in moments})


def leases_end() -> None:
    """End all leases and make the reviews of the leased blobs due."""
    moment = timezone.now() - LONG_AGO
    BlobLease.objects.update(expires_at=moment)
    BlobReview.objects.update(review_after=moment)


def recovery_ends(deletions: QuerySet[Deletion] | None = None) -> None:
    """Move the deadline of these (default: all) deletions into the past."""
    found = Deletion.objects.all() if deletions is None else deletions
    found.update(purge_after=timezone.now() - LONG_AGO)


def uploads_end() -> None:
    """Expire all uploads, finished or not."""
    UploadSession.objects.update(expires_at=timezone.now() - LONG_AGO)


def trash_is_due() -> None:
    """Make all bytes in the trash due."""
    ObjectTrash.objects.update(delete_after=timezone.now() - LONG_AGO)
