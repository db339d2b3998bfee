"""Pages about notices: who hears of scans, and what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Max, Q

from console.queries.shared import listing
from scanning.models import Delivery, Subscription

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.models import Project
    from registry.models import Repository


@dataclass(frozen=True, slots=True)
class Row:
    """A subscription in a list, with its last delivery."""

    subscription: Subscription
    last: Delivery | None


def subscriptions(project: Project, repository: Repository | None) -> list[Row]:
    """Those of the project and its repositories; or those that a repository's scans are told to. Two queries."""
    found = Subscription.objects.live().filter(project=project).select_related("repository")
    if repository:
        found = found.filter(Q(repository=repository) | Q(repository=None)).exclude(channel=Subscription.EVENTS)
        found = found.order_by("-repository", "pk")
    else:
        live = Q(repository=None) | Q(repository__deletion=None)
        found = found.filter(live).order_by("repository__name", "pk")
    rows: list[Any] = list(found.annotate(last=Max("deliveries")))
    last = Delivery.objects.defer("content", "request", "response").in_bulk([row.last for row in rows if row.last])
    made = [Row(row, last.get(row.last)) for row in rows]
    return sorted(made, key=lambda row: (row.subscription.repository is None) == bool(repository))


def subscription(project: Project, repository: Repository | None, pk: int) -> Subscription | None:
    """One of this repository; or of the project as a whole."""
    found = Subscription.objects.live().filter(project=project, repository=repository, pk=pk)
    return found.select_related("project", "repository__project", "created_by").first()


def log(subscription: Subscription, asked: QueryDict) -> listing.Listing[Delivery]:
    """What was sent, the newest first."""
    found = Delivery.objects.filter(subscription=subscription).defer("request", "response")
    return listing.page(found, asked, {"id": "-pk"})


def delivery(subscription: Subscription, pk: int) -> Delivery | None:
    """One of its messages."""
    found: Any = Delivery.objects.filter(subscription=subscription, pk=pk).select_related("subscription")
    return found.first()  # type: ignore[no-any-return]
