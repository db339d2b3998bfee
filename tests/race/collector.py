"""Collect the blobs that nothing refers to."""

from django.utils import timezone

from accounts.models import Project
from registry.garbage import collector
from registry.models import BlobReview
from tests.race.worker import hurry, nap, run


def deed() -> int:
    """What is due of the project, and what is due of none."""
    nap(0.05)
    hurry(BlobReview.objects.all(), "review_after")
    judged = [collector.collect(project, timezone.now()) for project in (Project.objects.get().pk, None)]
    return sum(each["collected"] for each in judged if each)


if __name__ == "__main__":
    run(deed)
