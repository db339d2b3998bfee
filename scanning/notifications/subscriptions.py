"""Who hears of scans: subscriptions are made, changed, paused, ended, and left by those whom they reach.

Every change is in the history, without addresses of webhooks (they open a door to whoever knows them) and without
secrets.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.actors import Actor
from accounts.keys import hash_secret, new_secret
from accounts.organizations import Refused
from registry import audit
from registry.database.transactions import retried
from registry.models import Event, Severity
from scanning.models import Subscription
from scanning.notifications import outbound_http
from scanning.notifications import recipients as addressees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.models import Project
    from registry.models import Repository

SUBSCRIPTIONS_PER_PROJECT = 100
MAX_RECIPIENTS = 20
SECRET_PREFIX = "kcrw_"  # noqa: S105  a prefix, not a secret
UNSUBSCRIBE_SALT = "kcr.notices.unsubscribe"

Channel = Subscription.Channel


class WrongAddress(Refused):
    """Nothing can be sent to this address; the message says why."""


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription and the secret that signs what it gets ("" for other channels): shown now, and never again."""

    subscription: Subscription
    secret: str


@retried
def create(
    actor: Actor,
    project: Project,
    repository: Repository | None,
    channel: Subscription.Channel,
    *,
    recipients: Iterable[str] = (),
    url: str = "",
    **wanted: Any,
) -> NewSubscription:
    """Subscribe to the scans of a repository, or (None) of a project. ``wanted``: min_severity, frequency, language.

    Raises WrongAddress, or Refused when there is such a one already (a form that is sent twice makes one), or as many
    as there may be.
    """
    made = Subscription(project=project, repository=repository, channel=channel, **wanted)
    _set_addresses(made, recipients, url)
    secret = _give_secret(made) if channel == Channel.WEBHOOK else ""
    with transaction.atomic():
        type(project).objects.select_for_update(no_key=True).get(pk=project.pk)
        others = list(Subscription.objects.filter(project=project))
        if any(_is_twin(made, other) for other in others):
            raise Refused(_("This is there already: the same goes to the same address."))
        if len(others) >= SUBSCRIPTIONS_PER_PROJECT:
            raise Refused(_("The project has %(count)s notices already.") % {"count": SUBSCRIPTIONS_PER_PROJECT})
        made.created_by_id = actor.user_id
        made.save()
        addressees.ask(project, made.recipients, made.language)
        _record(actor, made, {}, _shown(made))
    return NewSubscription(made, secret)


@retried
def update(
    actor: Actor, subscription: Subscription, *, recipients: Iterable[str] = (), url: str = "", **wanted: Any
) -> None:
    """Change ``wanted`` (see ``create``) and the recipients, or the URL when one is given. Raises WrongAddress."""
    if subscription.channel == Channel.MAIL or url not in {"", subscription.url}:
        found = Subscription(channel=subscription.channel)
        _set_addresses(found, recipients, url)
        wanted |= {"recipients": found.recipients, "url": found.url}
    _change(actor, subscription, **wanted)


def set_active(actor: Actor, subscription: Subscription, *, is_active: bool) -> None:
    """Pause it, or go on. What happens during a pause is not told afterwards."""
    if is_active and subscription.channel == Channel.MAIL and not subscription.recipients:
        raise Refused(_("Nobody is left to send to: add a recipient."))
    _change(actor, subscription, is_active=is_active)


@retried
def delete(actor: Actor, subscription: Subscription) -> None:
    """End it, with its log."""
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None:
            return
        _record(actor, found, _shown(found), {"channel": None})
        found.delete()


@retried
def renew_secret(actor: Actor, subscription: Subscription) -> str:
    """Sign with a new secret from now on; returns it, this once."""
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None or found.channel != Channel.WEBHOOK:
            raise Refused(_("This notice is gone."))
        secret = _give_secret(found)
        found.save(update_fields=["secret"])
        _record(actor, found, {"secret": "former"}, {"secret": "new"})
    return secret


def secret_of(subscription: Subscription) -> str:
    """The secret in the clear, for signing. Raises Refused when the installation's secret is another one by now."""
    try:
        return _box().decrypt(subscription.secret.encode()).decode()
    except InvalidToken as error:
        raise Refused("the secret was stored under another KCR_SECRET_KEY: make a new one in the console") from error


# ── Leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def unsubscribe_url(subscription_id: int, address: str) -> str:
    """The address at which this recipient, and nobody else, can be taken off."""
    token = signing.dumps([subscription_id, address], salt=UNSUBSCRIBE_SALT)
    return f"{settings.PUBLIC_URL}/notices/unsubscribe/{quote(token, safe=':')}"


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a link to unsubscribe is for. ``subscription`` None: it is gone, or the address is off it already."""

    address: str
    subscription: Subscription | None


def read_unsubscribe(token: str) -> Leaving | None:
    """What a link is for; None when we did not make it."""
    try:
        pk, address = signing.loads(token, salt=UNSUBSCRIBE_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    found = Subscription.objects.filter(pk=pk).select_related("project", "repository__project").first()
    return Leaving(address, found if found and address in found.recipients else None)


@retried
def unsubscribe(leaving: Leaving, *, remote_address: str = "", client: str = "") -> None:
    """Take the address off; without any left, the subscription rests. Doing it twice changes nothing."""
    with transaction.atomic():
        found = _locked(leaving.subscription.pk) if leaving.subscription else None
        if found is None or leaving.address not in found.recipients:
            return
        before = _shown(found)
        found.recipients = [address for address in found.recipients if address != leaving.address]
        found.is_active = found.is_active and bool(found.recipients)
        found.save(update_fields=["recipients", "is_active"])
        _forget_pending(found)
        if not _is_named_elsewhere(found, leaving.address):
            addressees.withdraw(found.project, leaving.address)
        actor = Actor(label=leaving.address, address=remote_address, client=client)
        _record(actor, found, before, _shown(found))


# ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@retried
def _change(actor: Actor, subscription: Subscription, **wanted: Any) -> None:
    with transaction.atomic():
        found = _locked(subscription.pk)
        if found is None:
            raise Refused(_("This notice is gone."))
        before = _shown(found)
        is_other_url = wanted.get("url", found.url) != found.url
        for name, value in wanted.items():
            setattr(found, name, value)
        after = _shown(found)
        if is_other_url:
            after["address"] = "changed"
        if before == after:
            return
        found.save(update_fields=list(wanted))
        addressees.ask(found.project, found.recipients, found.language)
        _forget_pending(found)
        _record(actor, found, before, after)


def _forget_pending(subscription: Subscription) -> None:
    """What happens while it rests is not told afterwards."""
    if not subscription.is_active:
        subscription.notices.filter(delivery=None).delete()


def _is_named_elsewhere(subscription: Subscription, address: str) -> bool:
    """Whether another notice of the project goes to the address."""
    others = Subscription.objects.filter(project=subscription.project).exclude(pk=subscription.pk)
    named = (each.lower() for recipients in others.values_list("recipients", flat=True) for each in recipients)
    return address.lower() in named


def _is_twin(one: Subscription, other: Subscription) -> bool:
    names = ("repository_id", "channel", "url")
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    return same and sorted(one.recipients) == sorted(other.recipients)


def _locked(pk: int) -> Subscription | None:
    found = Subscription.objects.select_related("project", "repository__project")
    return found.select_for_update(of=("self",), no_key=True).filter(pk=pk).first()


def _set_addresses(subscription: Subscription, recipients: Iterable[str], url: str) -> None:
    """Raises WrongAddress."""
    if subscription.channel == Channel.MAIL:
        subscription.recipients = _checked(recipients)
        return
    try:
        outbound_http.check(url)
    except (outbound_http.Refused, outbound_http.Unreachable) as error:
        raise WrongAddress(str(error)) from error
    subscription.url = url


def _checked(recipients: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(address.strip() for address in recipients if address.strip()))
    if not found:
        raise WrongAddress(_("Give at least one e-mail address."))
    if len(found) > MAX_RECIPIENTS:
        raise WrongAddress(_("At most %(count)s recipients: use the address of a group.") % {"count": MAX_RECIPIENTS})
    for address in found:
        try:
            validate_email(address)
        except ValidationError:
            raise WrongAddress(_("“%(address)s” is not an e-mail address.") % {"address": address}) from None
    return found


def _give_secret(subscription: Subscription) -> str:
    secret = new_secret(SECRET_PREFIX)
    subscription.secret = _box().encrypt(secret.encode()).decode()
    return secret


def _box() -> MultiFernet:
    """What encrypts secrets of webhooks: with the installation's secret; former ones still open what they closed."""
    keys = (hash_secret("webhook secrets", secret) for secret in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])
    return MultiFernet([Fernet(base64.urlsafe_b64encode(bytes.fromhex(key))) for key in keys])


def _shown(subscription: Subscription) -> dict[str, Any]:
    """What the history says of a subscription."""
    shown: dict[str, Any] = {"channel": str(Channel(subscription.channel).value)}
    if subscription.channel == Channel.MAIL:
        shown["recipients"] = list(subscription.recipients)
    else:
        shown["host"] = outbound_http.host_of(subscription.url)
    return shown | {
        "min_severity": Severity(subscription.min_severity).name.lower(),
        "frequency": str(subscription.frequency),
        "language": subscription.language,
        "is_active": subscription.is_active,
    }


def _record(actor: Actor, subscription: Subscription, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Only what differs."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    audit.record(
        actor,
        Event.Action.NOTICE_CHANGE,
        subscription.repository or subscription.project,
        subscription=subscription.pk,
        before={name: before[name] for name in names if name in before},
        after={name: after[name] for name in names if name in after},
    )
