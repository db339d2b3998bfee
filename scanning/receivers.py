"""What scanning hears from the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready
from django.dispatch import receiver
from django.utils import timezone

from registry.models import Manifest
from registry.signals import manifest_pushed, manifests_recovered, pull_refused
from scanning import pages, scans, tasks

from .models import Finding

if TYPE_CHECKING:
    from accounts.actors import Actor

NAMED = 3


@receiver(manifest_pushed)
def scan_what_was_pushed(*, manifest_id: int, actor: Actor, **_: Any) -> None:
    """The row first, then the message."""
    tasks.start(scans.request_for_push(manifest_id, actor))


@receiver(manifests_recovered)
def scan_what_was_deleted_before_it_was_scanned(*, manifest_ids: list[int], actor: Actor, **_: Any) -> None:
    """The row first, then the message."""
    tasks.start(scans.request_for_recovered(manifest_ids, actor))


@worker_ready.connect
def say_what_isolates_scans(sender: Any, **_: Any) -> None:
    """At the start of a scanner, so that an operator reads it."""
    if "scans" in sender.app.amqp.queues.consume_from:
        scans.check_isolation()


@receiver(pull_refused)
def say_why(*, manifest_id: int, **_: Any) -> str:
    """The worst of what was found, and where to read all of it or accept it."""
    manifest = Manifest.objects.select_related("image__repository__project").get(pk=manifest_id)
    found = Finding.objects.current().unaccepted(timezone.now()).filter(manifest=manifest).order_by("-severity", "pk")
    names = list(dict.fromkeys(found.values_list("vulnerability__name", flat=True)))
    words = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    page = pages.vulnerabilities(manifest.image, manifest.digest)
    return f"{words}{': ' if words else ''}fix or accept them at {page}"
