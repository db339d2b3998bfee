"""Pages about access keys."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.keys import KEYS_PER_USER, RESTORE_TIME, may_restore
from accounts.models import (
    AccessKey,
    Project,
)
from console.queries.shared import layout, listing
from registry import hosts
from registry.models import Event, RepositoryUserPermission

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor
    from accounts.models import Organization


def keys(actor: Actor) -> dict[str, Any]:
    """The person's access keys: those that work, and those that ended."""
    found = list(AccessKey.objects.filter(user=actor.user_id).select_related("user", "project").order_by("-pk")[:100])
    alive = [key for key in found if key.state == "alive"]
    ended = [(key, may_restore(key, actor)) for key in found if key.state != "alive"]
    return {
        "listing": listing.Listing(alive),
        "ended": ended[:20],
        "limit": KEYS_PER_USER,
        "soon": timezone.now() + timedelta(days=7),
    }


def acting_keys(found: QuerySet[AccessKey], wanted: QueryDict) -> dict[str, Any]:
    """A page of keys of several people, in the order of their holders. Two queries."""
    total = found.count()
    if search := wanted.get("q", "").strip():
        words = ("identifier", "name", "user__email", "user__name")
        found = found.filter(reduce(or_, (Q(**{f"{field}__icontains": search}) for field in words)))
    rows = found.select_related("user", "project")
    return {
        "listing": listing.page(rows, wanted, {"holder": "user__email"}, search=search),
        "total": total,
        "soon": timezone.now() + timedelta(days=7),
    }


def changes_by_project(organization: Organization, key: AccessKey, since: datetime) -> list[tuple[str, int]]:
    """Names of projects of the organization, and how many changes the key made in each since then. One query."""
    made = Event.objects.filter(project__organization=organization, key=key).between(since, None)
    counted = made.order_by().values_list("project__name").annotate(number=Count("pk"))
    return sorted(counted)


def revocation(key: AccessKey) -> dict[str, Any]:
    """The question before a key is revoked."""
    return {
        "question": _("Revoke the access key “%(name)s”?") % {"name": key.name},
        "key": key,
        "minutes": RESTORE_TIME // timedelta(minutes=1),
    }


def pullable_projects(actor: Actor) -> QuerySet[Project]:
    """The projects that a key may be limited to: those with a role in them, or on one of their repositories."""
    grants = RepositoryUserPermission.objects.filter(user=actor.user_id, content_object__project=OuterRef("pk"))
    visible = layout.projects_of(actor).values("pk")
    return Project.objects.filter(Q(pk__in=visible) | Q(Exists(grants))).order_by("name")


def login_host(key: AccessKey) -> str:
    """The host that docker logs in to with this key."""
    if settings.BARE_HOST_NAMES:
        return hosts.BARE.service
    return hosts.Host(key.project.name if key.project else "PROJECT").service


def login_key(actor: Actor, project: Project) -> str:
    """The ID of the key that the person used last and that reaches the project, keys that push first; "" if none."""
    alive = AccessKey.objects.alive().filter(Q(project=None) | Q(project=project), user=actor.user_id)
    newest = alive.order_by("pull_only", F("last_used_at").desc(nulls_last=True), "-pk")
    return newest.values_list("identifier", flat=True).first() or ""
