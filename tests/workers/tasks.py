"""Steps of tests/registry/test_outages.py, test_procedures.py, test_quickstart.py and test_stack.py."""

from datetime import timedelta

from django.utils import timezone

from accounts.models import User
from registry import garbage, tasks
from registry.celery import app
from registry.models import ProjectUsage, Repository, UploadSession
from scanning import scans


def sweep_collections() -> int:
    """Queue the waiting collections. Return their number."""
    return tasks.sweep_collections()


def count_unfinished_collections() -> int:
    """Return the number of unfinished collections."""
    return len(garbage.unfinished())


def count_queued_tasks() -> int:
    """Return the number of tasks in the queue."""
    with app.connection_for_read() as connection:
        return connection.SimpleQueue("celery").qsize()


def count_waiting_scans() -> int:
    """Return the number of scans that wait for a worker, 100 at most."""
    return len(scans.waiting(100))


def run_collections() -> int:
    """Run all unfinished collections. Return their number."""
    unfinished = garbage.unfinished()
    for collection_id in unfinished:
        garbage.run(collection_id)
    return len(unfinished)


def queue_sweep_of_uploads() -> None:
    """Create an expired upload and queue the sweep of uploads."""
    UploadSession.objects.create(
        repository=Repository.objects.get(),
        image_name="a",
        algorithm="sha256",
        user=User.objects.earliest("pk"),
        expires_at=timezone.now() - timedelta(days=1),
    )
    tasks.sweep_uploads.delay()


def count_overdue_uploads() -> int:
    """Return the number of uploads that have expired."""
    return UploadSession.objects.overdue().count()


def count_uploads() -> int:
    """Return the number of uploads."""
    return UploadSession.objects.count()


def count_expired_uploads() -> int:
    """Return the number of uploads that the sweep of uploads deletes."""
    return UploadSession.objects.filter(expires_at__lt=timezone.now()).count()


def count_measured_projects() -> int:
    """Return the number of projects whose stored bytes were measured."""
    return ProjectUsage.objects.count()
