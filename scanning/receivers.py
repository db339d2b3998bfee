"""Receivers of the registry's signals. Each creates its rows first, and wakes workers afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready
from django.dispatch import receiver

from registry.signals import manifest_pushed, manifests_recovered, quota_reached
from registry.tasks import queue
from scanning import scans, tasks
from scanning.notifications import quota_messages
from scanning.trivy import database

if TYPE_CHECKING:
    from accounts.actors import Actor
    from registry.quota_warnings import Fill


@receiver(manifest_pushed)
def scan_pushed(*, manifest_id: int, actor: Actor, **_: Any) -> None:
    """Scan a pushed manifest."""
    tasks.start(scans.request_for_push(manifest_id, actor))


@receiver(manifests_recovered)
def scan_restored(*, manifest_ids: list[int], actor: Actor, **_: Any) -> None:
    """Scan restored manifests that were deleted before their first scan."""
    tasks.start(scans.request_for_recovered(manifest_ids, actor))


@receiver(quota_reached)
def notify_of_quota(*, fill: Fill, **_: Any) -> None:
    """Create the messages to chats and webhooks in the transaction of the signal. The sweep sends them."""
    quota_messages.write(fill)


@worker_ready.connect
def prepare_scanner(sender: Any, **_: Any) -> None:
    """At the start of a scanner, log whether Trivy is isolated, and fetch a vulnerability database if there is none."""
    if "scans" in sender.app.amqp.queues.consume_from:
        scans.check_isolation()
        if database.current() is None:  # the scheduler asks for one ten minutes after its start
            queue(tasks.refresh_database)
