"""Pages of the history, of Recovery and of undoing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.models import AccessKey, ProjectMembership, User
from console.queries import listing
from registry import audit, trash, undo
from registry.models import Deletion, Event

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import QueryDict

    from accounts.models import Project
    from registry.audit import Wanted
    from registry.models import Image, Repository
    from registry.models.audit import EventQuerySet

PAGE = 50
SUGGESTED = 100


def page(wanted: Wanted, asked: QueryDict) -> dict[str, Any]:
    """Fifty events, and the ids from which the neighbouring pages go on."""
    before, after = listing.identifier(asked.get("before")), listing.identifier(asked.get("after"))
    found = audit.page(wanted, PAGE, before=before, after=after)
    return {
        "events": found.events,
        "newer": found.events[0].pk if found.events and found.has_newer else None,
        "older": found.events[-1].pk if found.events and found.has_older else None,
        "is_filtered": wanted != type(wanted)(wanted.project, wanted.repository, wanted.image),
    }


def people(project: Project) -> list[tuple[str, str]]:
    """Keys and people that lately did something in the project, for choosing: what to type, and whose it is."""
    recent = list(Event.objects.filter(project=project).order_by("-pk").values_list("key", "actor")[:2000])
    keys = AccessKey.objects.filter(pk__in={key for key, _ in recent if key}).select_related("user")
    found = [(key.identifier, f"{key.name}, {key.user.email}") for key in keys[:SUGGESTED]]
    members = ProjectMembership.objects.filter(project=project).select_related("user").order_by("user__email")
    return found + [(membership.user.email, "") for membership in members[:SUGGESTED]]


def acts(project: Project, who: str, since: datetime) -> EventQuerySet:
    """What the holder of this key ID or e-mail address did in the project since then; nothing when there is no such."""
    key = AccessKey.objects.filter(identifier=who.strip()).first()
    if key is not None:
        return undo.acts(project, since, key_id=key.pk)
    user = User.objects.filter(email=who.strip().lower()).first()
    return undo.acts(project, since, user_id=user.pk if user else 0)


def deletions(project: Project, repository: Repository | None, image: Image | None, asked: QueryDict) -> dict[str, Any]:
    """A page of what can be recovered."""
    found = trash.listed(project, repository=repository, image=image)
    kind = asked.get("kind", "")
    if kind in Deletion.Kind.values:
        found = found.filter(kind=kind)
    if search := asked.get("q", "").strip():
        found = found.filter(path__icontains=search)
    return {
        "listing": listing.page(found, asked, {"deleted": "-pk"}, search=search),
        "kind": kind,
        "kinds": Deletion.Kind,
        "purging": Deletion.objects.filter(project=project, is_purging=True).count(),
    }
