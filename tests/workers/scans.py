"""Steps of tests/scanning/test_story.py."""

from datetime import timedelta

from django.utils import timezone

from accounts.models import Project
from registry.models import Manifest, Repository, Severity
from scanning import scans, tasks
from scanning.models import Subscription
from scanning.trivy import database


def subscribe(recipient: str) -> None:
    """Mail new findings of every severity to the recipient."""
    Subscription.objects.create(
        project=Project.objects.get(), channel="mail", recipients=[recipient], frequency="new", min_severity=1
    )


def refresh_database_and_start_scans() -> None:
    """Fetch the vulnerability database and start the scans that wait for one."""
    tasks.refresh_database()


def refresh_database() -> bool:
    """Fetch the vulnerability database. Return whether it is a new one."""
    return database.refresh() is not None


def request_daily() -> int:
    """Request the daily scans of tomorrow and start them. Return their number."""
    tomorrow = (timezone.now() + timedelta(days=1)).replace(hour=23, minute=59)
    requested = scans.request_daily(tomorrow)
    tasks.start(scans.waiting(8))
    return requested


def refuse_high() -> None:
    """Set the pull policy of the repository web to high and worse."""
    Repository.objects.filter(name="web").update(block_severity=Severity.HIGH)


def count_critical() -> int:
    """Return the number of manifests with a critical finding."""
    return Manifest.objects.filter(worst_severity=Severity.CRITICAL).count()
