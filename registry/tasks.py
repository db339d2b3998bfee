"""What happens by the clock. Each task calls one function, and may run twice, late or never."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from accounts import keys, tokens
from accounts.sessions import SessionStore
from registry import counts, uploads, usage


@shared_task
def sweep_uploads() -> int:
    """End uploads whose time is over."""
    return uploads.sweep()


@shared_task
def forget_expired() -> int:
    """Forget refresh tokens and sessions that have run out, failures that no longer count, and days long past."""
    SessionStore.clear_expired()
    return tokens.forget_expired() + keys.forget_failures() + counts.forget(timezone.now())


@shared_task
def measure_usage() -> int:
    """Measure what repositories and projects store, where something has changed."""
    return usage.refresh()


@shared_task
def rotate_signing_key() -> bool:
    """Make a new signing key once a month."""
    return tokens.rotate_signing_key(only_if_due=True)
