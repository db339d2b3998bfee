"""Makes deliveries of the events of the audit log, for subscriptions with the channel ``events``.

The audit log is the queue: each change adds its event in its own transaction, and a subscription keeps the id of the
last event that has its delivery. So a change costs nothing more, and an event is neither lost nor handled twice.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Exists, OuterRef

from registry import audit
from registry.database.transactions import retried
from registry.failpoints import failpoint
from registry.models import Event
from scanning.models import Delivery, Subscription
from scanning.notifications import cloud_events

BATCH = 500


def spread() -> list[int]:
    """Create the deliveries of new events. Returns the id of the first one of each subscription.

    Safe to run in several workers at once. Events after an open transaction wait for the next run (``audit.settled``).
    """
    listening = Subscription.objects.live().filter(channel=Subscription.EVENTS, is_active=True)
    newer = Event.objects.acts().filter(project=OuterRef("project"), pk__gt=OuterRef("position"))
    waiting = list(listening.filter(Exists(newer)).order_by("pk").values_list("pk", flat=True))
    end = audit.settled() if waiting else None
    if end is None:
        return []
    first = []
    for pk in waiting:
        made: list[int] = []
        while (some := _spread(pk, end)) is not None:
            made += some
        first += made[:1]
    return first


@retried
def _spread(subscription_id: int, end: int) -> list[int] | None:
    """Create the deliveries of the next events up to ``end``. Returns their ids, None if there is no such event."""
    with transaction.atomic():
        live = Subscription.objects.live().filter(pk=subscription_id, is_active=True)
        found = live.select_related("project").first()
        if found is None:
            return None
        newer = Event.objects.acts().filter(project=found.project, pk__gt=found.position, pk__lte=end)
        events = list(newer.select_related("key").order_by("pk")[:BATCH])
        # The UPDATE locks the row: of several workers one moves the position from where it was read.
        if not events or not live.filter(position=found.position).update(position=events[-1].pk):
            return None
        made = Delivery.objects.bulk_create(
            Delivery(subscription=found, content=cloud_events.of(event, found.project))
            for event in events
            if cloud_events.is_wanted(event, found.types, found.repositories)
        )
        failpoint("spread.before_commit")
    return [delivery.pk for delivery in made]
