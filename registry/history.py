"""The history: one event for every change, written in the transaction of the change."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from registry.models import Deletion, Event, Image, Repository

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.models import Project


def record(
    actor: Actor,
    action: Event.Action,
    thing: Image | Repository | Project,
    *,
    tag: str = "",
    digest: str = "",
    **detail: Any,
) -> Event:
    """Write down that the actor did this. ``detail`` holds before and after, as JSON."""
    image = thing if isinstance(thing, Image) else None
    repository = image.repository if image else thing if isinstance(thing, Repository) else None
    project = repository.project if repository else thing
    return Event.objects.create(
        action=action,
        project_id=project.pk,
        repository=repository,
        image=image,
        path=str(thing),
        tag=tag,
        digest=digest,
        detail=detail,
        user_id=actor.user_id,
        key_id=actor.key_id,
        actor=actor.label[:254],
        address=actor.address[:45],
        client=actor.client[:200],
    )


def open_deletion(kind: Deletion.Kind, name: str, event: Event) -> Deletion:
    """Begin one act of deleting; everything that it takes is to point to it."""
    now = timezone.now()
    return Deletion.objects.create(
        kind=kind,
        project_id=event.project_id,
        path=event.path,
        name=name,
        event=event,
        at=now,
        purge_after=now + timedelta(days=settings.RECOVERY_DAYS),
    )
