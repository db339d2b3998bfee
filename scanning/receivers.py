"""Receivers of the registry's signals. Each creates its rows first, and wakes workers afterwards."""

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
def scan_pushed(*, manifest_id: int, actor: Actor, **_: Any) -> None:
    """Scan a pushed manifest."""
    tasks.start(scans.request_for_push(manifest_id, actor))


@receiver(manifests_recovered)
def scan_restored(*, manifest_ids: list[int], actor: Actor, **_: Any) -> None:
    """Scan restored manifests that were deleted before their first scan."""
    tasks.start(scans.request_for_recovered(manifest_ids, actor))


@worker_ready.connect
def check_isolation_at_start(sender: Any, **_: Any) -> None:
    """Log at the start of a scanner whether Trivy is isolated."""
    if "scans" in sender.app.amqp.queues.consume_from:
        scans.check_isolation()


@receiver(pull_refused)
def explain_refusal(*, manifest_id: int, **_: Any) -> str:
    """The worst vulnerabilities of the manifest, and the page on which to read and accept them."""
    manifest = Manifest.objects.select_related("image__repository__project").get(pk=manifest_id)
    found = Finding.objects.current().unaccepted(timezone.now()).filter(manifest=manifest).order_by("-severity", "pk")
    names = list(dict.fromkeys(found.values_list("vulnerability__name", flat=True)))
    words = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    page = pages.vulnerabilities(manifest.image, manifest.digest)
    return f"{words}{': ' if words else ''}fix or accept them at {page}"
