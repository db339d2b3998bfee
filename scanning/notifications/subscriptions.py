"""Subscriptions to notifications: create, change, pause, delete, unsubscribe.

Each change is in the audit log, without secrets and without the paths of webhook URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actors import Actor
from accounts.errors import Refusal
from registry import audit
from registry.database.transactions import retried
from registry.models import Event, Severity
from scanning.models import Delivery, Subscription
from scanning.notifications import channels, recipients

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from accounts.models import Project
    from registry.models import Repository

SUBSCRIPTIONS_PER_PROJECT = 100
FORMER_SIGNS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription, and the secret that signs its messages ("" if the channel signs nothing). Show it once."""

    subscription: Subscription
    secret: str


@retried
def create(
    actor: Actor,
    project: Project,
    repository: Repository | None,
    kind: str,
    target: Mapping[str, Any],
    **options: Any,
) -> NewSubscription:
    """Subscribe to the scans of a repository, or (None) of the whole project.

    ``kind`` names the channel, ``target`` holds the values of its form fields, ``options`` are least, moment, language.
    Raises WrongAddress, and Refusal if an equal subscription exists (a form that was sent twice) or the project has
    SUBSCRIPTIONS_PER_PROJECT already.
    """
    made = Subscription(project=project, repository=repository, channel=kind, **options)
    channel = channels.of(made)
    if channel.is_about_events and repository is not None:
        raise Refusal(_("Events are sent of a whole project: choose repositories there."))
    for name, value in channel.columns(target).items():
        setattr(made, name, value)
    secret = channel.give_secret(made)
    with transaction.atomic():
        _check_others(made)
        made.created_by_id = actor.user_id
        made.save()
        recipients.ask(project, made.recipients, made.language)
        _begin(made, _record(actor, made, {}, _audited(made)))
    return NewSubscription(made, secret)


@retried
def update(actor: Actor, subscription: Subscription, target: Mapping[str, Any], **options: Any) -> Event | None:
    """Change target, min_severity, frequency and language. Returns the event, None if nothing changed.

    Raises WrongAddress.
    """
    return _change(actor, subscription, **options, **channels.of(subscription).columns(target, subscription))


def set_active(actor: Actor, subscription: Subscription, *, is_active: bool) -> Event | None:
    """Resume, or pause: scans that end during a pause are not reported later. Raises Refusal if no target is left."""
    if is_active and not channels.of(subscription).is_ready(subscription):
        raise Refusal(_("No recipient is left: add one first."))
    return _change(actor, subscription, is_active=is_active)


@retried
def delete(actor: Actor, subscription: Subscription, *, undoes: Collection[int] = ()) -> Event | None:
    """Delete the subscription, and what it has not sent. ``restore`` brings it back with its log until it is forgotten.

    Returns the event, None if it was deleted already.
    """
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None:
            return None
        found.deleted_at = timezone.now()
        found.save(update_fields=["deleted_at"])
        found.notifications.filter(delivery=None).delete()
        found.deliveries.filter(state=Delivery.State.WAITING).delete()
        return _record(actor, found, _audited(found), {"channel": None}, undoes)


@retried
def restore(actor: Actor, subscription: Subscription, *, undoes: Collection[int] = ()) -> None:
    """Undo a deletion. Raises Refusal if the subscription is gone, or ``create`` would refuse it."""
    with transaction.atomic():
        found = _locked(subscription.pk, with_deleted=True)
        if found is None or found.deleted_at is None:
            raise Refusal(_("This notification no longer exists."))
        _check_others(found)
        found.deleted_at = None
        found.save(update_fields=["deleted_at"])
        recipients.ask(found.project, found.recipients, found.language)
        _begin(found, _record(actor, found, {}, _audited(found), undoes))


def forget() -> int:
    """Delete for good what was deleted more than KCR_RECOVERY_DAYS ago; returns how many."""
    old = Subscription.objects.filter(deleted_at__lt=timezone.now() - timedelta(days=settings.RECOVERY_DAYS))
    pks = list(old.values_list("pk", flat=True))
    old.filter(pk__in=pks).delete()
    return len(pks)


SETTABLE = ("min_severity", "frequency", "language", "recipients", "types", "repositories", "is_active")
"""What ``set_back`` sets. The audit log does not hold the rest: URLs and secrets."""


def present(subscription: Subscription) -> dict[str, Any]:
    """The values of SETTABLE as events write them."""
    return {name: value for name, value in _audited(subscription).items() if name in SETTABLE}


def set_back(
    actor: Actor, subscription: Subscription, *, seen: Mapping[str, Any], undoes: Collection[int], **values: Any
) -> None:
    """Set some of SETTABLE, as events write them. Raises Refusal if a value is not the one of ``seen`` any more."""
    if "min_severity" in values:
        values["min_severity"] = Severity[values["min_severity"].upper()]
    _change(actor, subscription, seen=seen, undoes=undoes, **values)


@retried
def renew_secret(actor: Actor, subscription: Subscription) -> str:
    """Replace the secret, and return the new one. Later messages are signed with it.

    Some channels sign with the former one as well, for FORMER_SIGNS, so that receivers can take the new one meanwhile.
    """
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None or not channels.of(found).has_secret:
            raise Refusal(_("This notification no longer exists."))
        if channels.of(found).keeps_former_secret:
            found.former_secret, found.former_until = found.secret, timezone.now() + FORMER_SIGNS
        secret = channels.of(found).give_secret(found)
        found.save(update_fields=["secret", "former_secret", "former_until"])
        _record(actor, found, {"secret": "former"}, {"secret": "new"})
    return secret


# ── Unsubscribe ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class UnsubscribeRequest:
    """The meaning of an unsubscribe link. ``subscription`` is None if it is deleted or no longer has the address."""

    address: str
    subscription: Subscription | None


def read_unsubscribe_link(token: str) -> UnsubscribeRequest | None:
    """Read the token of ``recipients.unsubscribe_link``. None if its signature is not ours."""
    read = recipients.read_unsubscribe_token(token)
    if read is None:
        return None
    pk, address = read
    found = Subscription.objects.filter(pk=pk).select_related("project", "repository__project").first()  # or deleted
    return UnsubscribeRequest(address, found if found and address in found.recipients else None)


@retried
def unsubscribe(request: UnsubscribeRequest, *, remote_address: str = "", client: str = "") -> None:
    """Remove the address; pause the subscription if no address is left. Repeating it changes nothing."""
    with transaction.atomic():
        found = _locked(request.subscription.pk, with_deleted=True) if request.subscription else None
        if found is None or request.address not in found.recipients:
            return
        before = _audited(found)
        found.recipients = [address for address in found.recipients if address != request.address]
        found.is_active = found.is_active and bool(found.recipients)
        found.save(update_fields=["recipients", "is_active"])
        _drop_pending(found)
        if not _is_named_elsewhere(found, request.address):
            recipients.withdraw(found.project, request.address)
        actor = Actor(label=request.address, address=remote_address, client=client)
        _record(actor, found, before, _audited(found))


# ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@retried
def _change(
    actor: Actor,
    subscription: Subscription,
    *,
    seen: Mapping[str, Any] | None = None,
    undoes: Collection[int] = (),
    **changes: Any,
) -> Event | None:
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None:
            raise Refusal(_("This notification no longer exists."))
        before = _audited(found)
        if any(before[name] != value for name, value in (seen or {}).items()):
            raise Refusal(_("Another user has just changed this notification."))
        is_other_url = changes.get("url", found.url) != found.url
        for name, value in changes.items():
            setattr(found, name, value)
        after = _audited(found)
        if is_other_url:  # the audit log has the host only, which may be the same
            after["address"] = "changed"
        if before == after:
            return None
        found.save(update_fields=list(changes))
        recipients.ask(found.project, found.recipients, found.language)
        _drop_pending(found)
        event = _record(actor, found, before, after, undoes)
        if changes.get("is_active"):
            _begin(found, event)
        return event


def _check_others(subscription: Subscription) -> None:
    """Raise Refusal if the project has an equal subscription, or SUBSCRIPTIONS_PER_PROJECT. Locks the project."""
    project = subscription.project
    type(project).objects.select_for_update(no_key=True).get(pk=project.pk)
    others = list(Subscription.objects.live().filter(project=project))
    if any(_is_twin(subscription, other) for other in others):
        raise Refusal(_("There is such a notification already, with the same target."))
    if len(others) >= SUBSCRIPTIONS_PER_PROJECT:
        raise Refusal(_("The project has %(count)s notifications already.") % {"count": SUBSCRIPTIONS_PER_PROJECT})


def _begin(subscription: Subscription, event: Event) -> None:
    """Send events after this one: the one that made or resumed the subscription."""
    Subscription.objects.filter(pk=subscription.pk).update(position=event.pk)


def _drop_pending(subscription: Subscription) -> None:
    """While paused, keep no news for later."""
    if not subscription.is_active:
        subscription.notifications.filter(delivery=None).delete()


def _is_named_elsewhere(subscription: Subscription, address: str) -> bool:
    """Whether another subscription of the project has the address."""
    others = Subscription.objects.live().filter(project=subscription.project).exclude(pk=subscription.pk)
    return any(
        address.lower() == each.lower() for named in others.values_list("recipients", flat=True) for each in named
    )


def _is_twin(one: Subscription, other: Subscription) -> bool:
    names = ("repository_id", "channel", "url", "types", "repositories")
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    return same and sorted(one.recipients) == sorted(other.recipients)


def _locked(pk: int, *, with_deleted: bool = False) -> Subscription | None:
    known = Subscription.objects.all() if with_deleted else Subscription.objects.live()
    found = known.select_related("project", "repository__project")
    return found.select_for_update(of=("self",), no_key=True).filter(pk=pk).first()


def _audited(subscription: Subscription) -> dict[str, Any]:
    """The values that the audit log compares."""
    channel = channels.of(subscription)
    of_scans = {
        "min_severity": Severity(subscription.min_severity).name.lower(),
        "frequency": str(subscription.frequency),
        "language": subscription.language,
    }
    return {
        "channel": subscription.channel,
        **channel.audited(subscription),
        **({} if channel.is_about_events else of_scans),
        "is_active": subscription.is_active,
    }


def _record(
    actor: Actor,
    subscription: Subscription,
    before: dict[str, Any],
    after: dict[str, Any],
    undoes: Collection[int] = (),
) -> Event:
    """Record the values that differ."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return audit.record(
        actor,
        Event.Action.NOTICE_CHANGE,
        subscription.repository or subscription.project,
        undoes=undoes,
        subscription=subscription.pk,
        before={name: before[name] for name in names if name in before},
        after={name: after[name] for name in names if name in after},
    )
