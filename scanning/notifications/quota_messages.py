"""Messages about quotas that are nearly full, to the chats and webhooks of a project.

``registry.quota_warnings`` decides when, and mails people by itself. ``Delivery.content``:

    version     1
    event       "quota.reached"
    project, repository   the project; null
    created_at, url       when the content was written; the page of the console about the quotas
    quota       name ("bytes", "repositories", "images", "tags" or "digests"), full (what is full: the project, a
                repository or an image, with its path), used, limit, percent (rounded down), level (80, 90 or 100)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone

from accounts.models import Project
from scanning.models import Subscription
from scanning.notifications import channels, deliveries

if TYPE_CHECKING:
    from registry.quota_warnings import Fill

VERSION = 1


def write(fill: Fill) -> list[int]:
    """Create a delivery for each subscription that wants it; returns their ids. Call it inside a transaction."""
    if not isinstance(fill.owner, Project):
        return []
    found = Subscription.objects.live().filter(project=fill.owner, repository=None, is_active=True).order_by("pk")
    wanted = [each for each in found.select_related("project") if channels.of(each).is_told_of_quotas]
    return [deliveries.queue(subscription, _content(fill)).pk for subscription in wanted]


def _content(fill: Fill) -> dict[str, Any]:
    names = ("full", "used", "limit", "percent", "level")
    return {
        "version": VERSION,
        "event": "quota.reached",
        "project": fill.owner.name,
        "repository": None,
        "created_at": timezone.now().isoformat(timespec="seconds"),
        "url": fill.page,
        "quota": {"name": fill.quota, **{name: getattr(fill, name) for name in names}},
    }
