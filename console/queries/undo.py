"""The page that undoes changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts.models import AccessKey, ProjectMembership, User
from registry.models import Event
from scanning import undo

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.models import Project
    from registry.models.audit import EventQuerySet


SUGGESTED = 100


def people(project: Project) -> list[tuple[str, str]]:
    """Keys and people that lately did something in the project, for choosing: what to type, and whose it is."""
    recent = list(Event.objects.filter(project=project).order_by("-pk").values_list("key", "actor")[:2000])
    keys = AccessKey.objects.filter(pk__in={key for key, _ in recent if key}).select_related("user")
    found = [(key.identifier, f"{key.name}, {key.user.email}") for key in keys[:SUGGESTED]]
    members = ProjectMembership.objects.filter(project=project).select_related("user").order_by("user__email")
    return found + [(membership.user.email, "") for membership in members[:SUGGESTED]]


def act(project: Project, event: int) -> EventQuerySet:
    """The event of this id in the project, and the events of roles that ended with it; empty if there is none."""
    found = Event.objects.filter(project=project, pk=event).first()
    ended = found.detail.get("ended", []) if found else []
    return Event.objects.filter(project=project, pk__in=[event, *ended])


def acts(project: Project, who: str, since: datetime) -> EventQuerySet:
    """What the holder of this key ID or e-mail address did in the project since then; nothing when there is no such."""
    key = AccessKey.objects.filter(identifier=who.strip()).first()
    if key is not None:
        return undo.acts(project, since, key_id=key.pk)
    user = User.objects.filter(email=who.strip().lower()).first()
    return undo.acts(project, since, user_id=user.pk if user else 0)
