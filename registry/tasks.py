"""Celery tasks. Each calls one function, and may run twice, late or never."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import redis
from registry import audit, cleanup, garbage, quota_warnings, trash, uploads
from registry.doctor import runs
from registry.statistics import pulls, sizes

logger = logging.getLogger(__name__)


def queue(task: Any, *arguments: int) -> None:
    """Queue a task whose work is already saved in the database: if the broker is down, a sweep finds the work later."""
    try:
        with redis.shared.attempt():
            task.delay(*arguments)
    except OperationalError as error:
        logger.error("%s could not be queued; a sweep will find its work: %s", task.name, error)


def start_collection(collection_id: int) -> None:
    """Queue a run of the collector."""
    queue(run_collection, collection_id)


def start_cleanup(policy_id: int) -> None:
    """Queue a cleanup policy; a worker starts its run or continues the open one."""
    queue(clean_repository, policy_id)


@shared_task
def sweep_uploads() -> int:
    """Discard expired uploads."""
    return uploads.sweep()


@shared_task
def discard_abandoned_uploads() -> int:
    """Every night: delete stored bytes of uploads that have no row."""
    return uploads.discard_abandoned()


@shared_task
def forget_pulls() -> int:
    """Delete pull statistics of days that are kept no longer."""
    return pulls.forget(timezone.now())


@shared_task
def measure_usage() -> int:
    """Measure the stored bytes of repositories and projects that have changed."""
    return sizes.refresh()


@shared_task
def warn_of_quotas() -> int:
    """Mail the people of quotas that are nearly full; returns how many mails."""
    return quota_warnings.warn()


@shared_task
def prune_history() -> int:
    """Delete events of projects that are older than KCR_HISTORY_DAYS."""
    return audit.prune()


@shared_task
def clean_repository(policy_id: int) -> None:
    """Start a run of the policy, or continue its open run."""
    cleanup.run(policy_id)


@shared_task
def clean_repositories() -> int:
    """Start cleanup policies that are due, and continue runs whose worker ended."""
    policies = cleanup.due()
    for policy_id in policies:
        start_cleanup(policy_id)
    return len(policies)


@shared_task
def purge_deletions() -> int:
    """Purge deletions whose time in Recovery is over, and images that stayed empty for as long."""
    return trash.purge() + trash.sweep_images()


@shared_task
def run_collection(collection_id: int) -> None:
    """Work on one run of the collector."""
    garbage.run(collection_id)


@shared_task
def collect_garbage() -> int:
    """Every night: start the collector for each project with due reviews."""
    started = garbage.request_all()
    for collection_id in started:
        start_collection(collection_id)
    return len(started)


@shared_task
def sweep_collections() -> int:
    """Queue open collector runs that have no worker."""
    unfinished = garbage.unfinished()
    for collection_id in unfinished:
        start_collection(collection_id)
    return len(unfinished)


@shared_task
def reap_objects() -> int:
    """Delete stored objects that no row references."""
    return garbage.reap()


@shared_task
def reconcile_blobs() -> int:
    """Every week: add a review to blobs that have no reference, lease or review."""
    return garbage.reconcile()


@shared_task
def answer_doctor(run_id: int) -> None:
    """Tell a run of the doctor that a worker takes tasks."""
    runs.answer(run_id, "worker_at")
