"""What happens by the clock. Each task calls one function, and may run twice, late or never."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from registry import audit, cleanup, garbage, trash, uploads
from registry.statistics import pulls, sizes

logger = logging.getLogger(__name__)


def queue(task: Any, *arguments: int) -> None:
    """Queue a task whose work is written down already: when the broker is away, a sweep finds it later."""
    try:
        task.delay(*arguments)
    except OperationalError:
        logger.exception("%s could not be queued; a sweep will find its work", task.name)


def start_collection(collection_id: int) -> None:
    """Have a worker take up a run of the collector."""
    queue(run_collection, collection_id)


def start_cleanup(policy_id: int) -> None:
    """Have a worker run a cleanup policy, or go on with its run."""
    queue(clean_repository, policy_id)


@shared_task
def sweep_uploads() -> int:
    """End uploads whose time is over."""
    return uploads.sweep()


@shared_task
def forget_pulls() -> int:
    """Delete pull statistics of days that are kept no longer."""
    return pulls.forget(timezone.now())


@shared_task
def measure_usage() -> int:
    """Measure what repositories and projects store, where something has changed."""
    return sizes.refresh()


@shared_task
def prune_history() -> int:
    """Delete events of projects that are older than KCR_HISTORY_DAYS."""
    return audit.prune()


@shared_task
def clean_repository(policy_id: int) -> None:
    """Run one cleanup policy, or go on with the run that is open."""
    cleanup.run(policy_id)


@shared_task
def clean_repositories() -> int:
    """Start the cleanup policies whose night has come, and go on with what a worker that ended left."""
    policies = cleanup.due()
    for policy_id in policies:
        start_cleanup(policy_id)
    return len(policies)


@shared_task
def purge_deletions() -> int:
    """Delete for good what nobody recovered in time."""
    return trash.purge()


@shared_task
def run_collection(collection_id: int) -> None:
    """Work on one run of the collector."""
    garbage.run(collection_id)


@shared_task
def collect_garbage() -> int:
    """Every night: start runs of the collector for whatever has something due."""
    started = garbage.request_all()
    for collection_id in started:
        start_collection(collection_id)
    return len(started)


@shared_task
def sweep_collections() -> int:
    """Go on with runs that nobody works on."""
    unfinished = garbage.unfinished()
    for collection_id in unfinished:
        start_collection(collection_id)
    return len(unfinished)


@shared_task
def reap_objects() -> int:
    """Delete stored bytes that no row names any more."""
    return garbage.reap()


@shared_task
def reconcile_blobs() -> int:
    """Every week: look for blobs that everybody forgot."""
    return garbage.reconcile()
