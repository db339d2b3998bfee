"""Steps of tests/registry/test_crashes.py."""

from django.utils import timezone

from accounts.actors import SYSTEM
from registry import repositories, trash
from registry.models import BlobLease, BlobReview, Deletion, ObjectTrash, UploadSession


def delete_image() -> None:
    """Delete the image app."""
    trash.delete_images(SYSTEM, repositories.find("demo/web"), ["app"])


def restore_image() -> None:
    """Recover the latest deletion."""
    trash.restore(SYSTEM, [Deletion.objects.latest("pk").pk])


def settle() -> None:
    """End all leases and finished uploads, and make reviews and trash due."""
    BlobLease.objects.all().delete()
    UploadSession.objects.filter(state="done").delete()
    BlobReview.objects.update(review_after=timezone.now())
    ObjectTrash.objects.update(delete_after=timezone.now())


def settle_and_expire_deletions() -> None:
    """Settle, and end the time of all deletions."""
    settle()
    Deletion.objects.update(purge_after=timezone.now())
