"""Collect unreferenced blobs."""

from django.utils import timezone

from accounts.models import Project
from registry.garbage import collector
from registry.models import BlobReview
from tests.race.worker import hurry, nap, run


def deed() -> int:
    """Collect the due blobs of the project, and the due unclaimed blobs."""
    nap(0.05)
    hurry(BlobReview.objects.all(), "review_after")
    judged = [collector.collect(project, timezone.now()) for project in (Project.objects.get().pk, None)]
    return sum(each["collected"] for each in judged if each)


if __name__ == "__main__":
    run(deed)
