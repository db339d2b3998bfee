"""Purge deletions that are a second old, and remove expired uploads."""

from datetime import timedelta

from django.utils import timezone

from registry import trash, uploads
from registry.models import Deletion
from tests.race.worker import hurry, nap, run


def deed() -> int:
    """Purge at most twenty deletions."""
    nap(0.05)
    hurry(Deletion.objects.filter(at__lt=timezone.now() - timedelta(seconds=1)), "purge_after")
    uploads.sweep()
    return trash.purge(limit=20)


if __name__ == "__main__":
    run(deed)
