"""What happens by the clock. Each task calls one function, and may run twice, late or never."""

from __future__ import annotations

from celery import shared_task

from accounts import keys, tokens
from registry import uploads


@shared_task
def sweep_uploads() -> int:
    """End uploads whose time is over."""
    return uploads.sweep()


@shared_task
def forget_expired() -> int:
    """Forget refresh tokens that have run out and failures that no longer count."""
    return tokens.forget_expired() + keys.forget_failures()


@shared_task
def rotate_signing_key() -> bool:
    """Make a new signing key once a month."""
    return tokens.rotate_signing_key(only_if_due=True)
