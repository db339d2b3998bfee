"""The queue of messages. Each Delivery is sent when it is due, retried with growing pauses, and given up at last.

A worker claims the row before it sends, so a doubled task sends nothing twice; a sweep finds what a lost task left. A
worker that dies after sending and before it updates the row causes a second message with the same number
(``X-KCR-Delivery``, Message-ID).
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F, Min
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts.errors import Refusal
from registry import tracing
from registry.database.transactions import release_connection
from registry.failpoints import failpoint
from scanning.models import Delivery, Subscription
from scanning.notifications import channels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

BACKOFF = tuple(timedelta(minutes=minutes) for minutes in (1, 3, 8, 20, 60, 150, 360))
MAX_ATTEMPTS = len(BACKOFF) + 1
BETWEEN_TESTS = timedelta(seconds=15)
KEEP = timedelta(days=90)
AT_ONCE = 200
FOLLOWING = 100

State = Delivery.State


def queue(subscription: Subscription, content: dict[str, Any], *, is_test: bool = False) -> Delivery:
    """Create a delivery that is due now. ``deliver`` or the sweep sends it.

    Raises Refusal for a test within BETWEEN_TESTS of another.
    """
    if is_test:
        _slow_down(Delivery.objects.filter(subscription=subscription, is_test=True))
    return Delivery.objects.create(
        subscription=subscription, content=content, recipients=subscription.recipients, is_test=is_test
    )


def again(delivery: Delivery) -> Delivery:
    """Try a waiting delivery now, or send a finished one again: to the recipients it missed, or else to all.

    Raises Refusal while the subscription is paused, and within BETWEEN_TESTS of another delivery.
    """
    subscription = delivery.subscription
    if not subscription.is_active and not delivery.is_test:
        raise Refusal(_("This notification is paused: resume it first."))
    waiting = Delivery.objects.filter(pk=delivery.pk, state=State.WAITING)
    if waiting.update(next_at=timezone.now()):
        return delivery
    _slow_down(Delivery.objects.filter(subscription=subscription).exclude(pk=delivery.pk))
    missed = delivery.recipients if delivery.state == State.FAILED else []
    return Delivery.objects.create(
        subscription=subscription,
        content=delivery.content,
        recipients=missed or subscription.recipients,
        is_test=delivery.is_test,
    )


def _slow_down(lately: QuerySet[Delivery]) -> None:
    """Limit what a button can send. Raises Refusal."""
    if lately.filter(created_at__gt=timezone.now() - BETWEEN_TESTS).exists():
        raise Refusal(_("One was sent a moment ago. Try again in a few seconds."))


def due() -> list[int]:
    """Ids of deliveries that are due and that no worker has claimed: the first one of each subscription."""
    of_subscriptions = Delivery.objects.due(timezone.now()).order_by().values("subscription")
    first = of_subscriptions.annotate(first=Min("pk")).order_by("first")
    return list(first.values_list("first", flat=True)[:AT_ONCE])


def following(delivery_id: int) -> list[int]:
    """The ids of the due deliveries to the same subscription, the oldest first, FOLLOWING at most."""
    same = Delivery.objects.filter(pk=delivery_id).values("subscription")
    found = Delivery.objects.due(timezone.now()).filter(subscription__in=same)
    return list(found.values_list("pk", flat=True)[:FOLLOWING])


def deliver(delivery_id: int) -> Delivery.State | None:
    """Send one delivery. Returns its new state; None if it is not due, or another worker has it or one like it."""
    claimed = None if _is_busy(delivery_id) else _claim(delivery_id)
    if claimed is None:
        return None
    failpoint("deliver.claimed")
    outcome = _refusal(claimed)
    if outcome is None:
        release_connection()
        try:
            with tracing.span("notification delivery", **{"kcr.channel": claimed.subscription.channel}):
                outcome = _send(claimed)
            failpoint("deliver.answered")
        except Exception:
            logger.exception("delivery %s could not be made", claimed.pk)
            outcome = channels.Outcome(problem="the message could not be made: the log of the worker says why")
    return _finish(claimed, outcome)


def forget() -> int:
    """Delete deliveries older than KEEP; returns how many."""
    end, forgotten = timezone.now() - KEEP, 0
    while True:
        oldest = Delivery.objects.order_by("pk").values_list("pk", "created_at")[:1_000]
        old = [pk for pk, created_at in oldest if created_at < end]
        if not old:
            return forgotten
        Delivery.objects.filter(pk__in=old).delete()
        forgotten += len(old)


def _send(claimed: Delivery) -> channels.Outcome:
    """Let the channel send, and store who is left after each recipient. Stop if another worker has taken the row."""
    outcome = channels.Outcome(problem="the channel did not try to send")
    with translation.override(claimed.subscription.language):
        for outcome in channels.of(claimed.subscription).send(claimed):
            if outcome.left is not None and not _keep(claimed, outcome.left):
                break
    return outcome


def _is_busy(delivery_id: int) -> bool:
    """Whether a worker is sending another event to the same subscription: a slow receiver holds one worker, not all."""
    now = timezone.now()
    events = Delivery.objects.filter(pk=delivery_id, subscription__channel=Subscription.EVENTS)
    sending = Delivery.objects.filter(
        state=State.WAITING, lease_until__gt=now, lease_until__lte=now + Delivery.LEASE
    ).exclude(pk=delivery_id)
    return sending.filter(subscription__in=events.values("subscription")).exists()


def _claim(delivery_id: int) -> Delivery | None:
    """Lease the row to this worker; None if it is not due or another worker has it."""
    now = timezone.now()
    free = Delivery.objects.due(now).filter(pk=delivery_id)
    if not free.update(lease_until=now + Delivery.LEASE, attempts=F("attempts") + 1):
        return None
    found = Delivery.objects.select_related("subscription__project", "subscription__repository__project")
    return found.filter(pk=delivery_id).first()


def _refusal(claimed: Delivery) -> channels.Outcome | None:
    """The outcome of a delivery that must not be sent; None if it may be."""
    if claimed.attempts > MAX_ATTEMPTS:  # no attempt reported an outcome
        return channels.Outcome(is_final=True, problem="the worker ended each time while it was sending")
    if not claimed.subscription.is_active and not claimed.is_test:
        return channels.Outcome(is_final=True, problem="the notification was paused before this was sent")
    return None


def _ours(claimed: Delivery) -> Any:
    """The row, while this worker's claim holds."""
    return Delivery.objects.filter(pk=claimed.pk, state=State.WAITING, attempts=claimed.attempts)


def _keep(claimed: Delivery, left: Sequence[str]) -> bool:
    """Store the recipients that are left, and renew the lease; False if another worker has the row."""
    return bool(_ours(claimed).update(recipients=list(left), lease_until=timezone.now() + Delivery.LEASE))


def _finish(claimed: Delivery, outcome: channels.Outcome) -> Delivery.State | None:
    now = timezone.now()
    changes: dict[str, Any] = {
        "lease_until": None,
        "problem": outcome.problem[:500],
        "request": outcome.request,
        "response": outcome.response,
        "status": outcome.status,
    }
    if outcome.is_sent:
        state = State.SENT
        changes["sent_at"] = now
    elif outcome.is_final or claimed.attempts >= MAX_ATTEMPTS:
        state = State.FAILED
        logger.warning("delivery %s was given up: %s", claimed.pk, outcome.problem)
    else:
        state = State.WAITING
        changes["next_at"] = _next(claimed.attempts, outcome, now)
    if not _ours(claimed).update(state=state, **changes):
        return None
    if state == State.WAITING and channels.of(claimed.subscription).is_about_events:
        _hold_back(claimed, changes["next_at"])
    return state


def _hold_back(claimed: Delivery, until: datetime) -> None:
    """Let the other events wait for the receiver, too: thousands of attempts would keep workers from other messages."""
    waiting = Delivery.objects.filter(subscription=claimed.subscription_id, state=State.WAITING, lease_until=None)
    waiting.filter(next_at__lt=until).update(next_at=until)


def _next(attempts: int, outcome: channels.Outcome, now: datetime) -> datetime:
    """The time of the next attempt: BACKOFF, or later if the other side asks, up to the longest BACKOFF."""
    asked = min(outcome.retry_after or timedelta(0), BACKOFF[-1])
    return now + max(BACKOFF[attempts - 1], asked)
