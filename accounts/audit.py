"""The audit log: who changed people, keys and passwords, and who signed in; written in the transaction of the change.

Organizations and people have a log each. An event of a person is written to their own log and to that of each
organization they belong to at that moment: an owner reads nothing from before the person came, or from elsewhere.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from .actors import ANONYMOUS, Actor
from .models import AuditEvent, Organization, OrganizationMembership, User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

Action = AuditEvent.Action
ROWS = 1_000  # read or deleted at a time
# Strangers can fail to sign in as often as they like: for each account, this many addresses have a row in this time,
# all others share one.
FAILURES_TIME = timedelta(hours=1)
FAILURES_ADDRESSES = 10
SEVERAL_ADDRESSES = ""


def record(
    by: Actor,
    action: Action,
    *,
    person: User | None = None,
    subject: str = "",
    organizations: Iterable[int] | None = None,
    detail: dict[str, Any] | None = None,
) -> list[AuditEvent]:
    """Write down that ``by`` did this. Returns the events, those of the organizations last.

    ``person``: whom it is about; ``subject``: the e-mail address of a person without an account. ``organizations``: ids
    of those whose log has it, by default all of the person's. ``detail`` is JSON.
    """
    concerned = _organizations_of(person) if organizations is None else list(organizations)
    logs = [*([None] if person or not concerned else []), *concerned]
    if by.via:
        detail = {"via": by.via, **(detail or {})}
    return AuditEvent.objects.bulk_create(
        AuditEvent(
            action=action,
            organization_id=organization,
            person=person,
            subject=person.email if person else subject,
            actor=by.label[:254],
            address=by.address[:45],
            client=by.client[:200],
            detail=detail or {},
        )
        for organization in logs
    )


def record_failed_sign_in(email: str, *, address: str, client: str) -> None:
    """Count a sign-in that failed. What was typed is not kept, only whose account it was.

    An address without an account takes the same statements: the time of the answer must not tell.
    """
    now = timezone.now()
    person = User.objects.people().filter(email=email.lower()[:254]).first()
    with transaction.atomic():
        organizations = _organizations_of(person)
        lately = AuditEvent.objects.filter(person=person, action=Action.SIGN_IN_FAILURE, at__gt=now - FAILURES_TIME)
        place = _count_again(lately, address, now)
        if place is not None:
            by = Actor(label=ANONYMOUS.label, address=place, client=client)
            record(by, Action.SIGN_IN_FAILURE, person=person, organizations=organizations)


def record_refused_key(by: Actor, person: User, organizations: list[int] | None, detail: dict[str, Any]) -> None:
    """Count a request that a limit of a key refused. Rows are shared as those of failed sign-ins.

    ``detail`` has the identifier of the key and the limit: each limit of a key has rows of its own.
    """
    now = timezone.now()
    with transaction.atomic():
        lately = AuditEvent.objects.filter(person=person, action=Action.KEY_REFUSED, at__gt=now - FAILURES_TIME)
        lately = lately.filter(detail__key=detail["key"], detail__limit=detail["limit"])
        place = _count_again(lately, by.address, now)
        if place is not None:
            by = Actor(label=by.label, address=place, client=by.client)
            record(by, Action.KEY_REFUSED, person=person, organizations=organizations, detail=detail)


def record_refused_token(by: Actor, account: User, detail: dict[str, Any]) -> None:
    """Count an ID token that no trust rule of a service account accepts. Rows are shared as those of failed sign-ins.

    ``detail`` has the name of the rule and the reason: each of them has rows of its own.
    """
    now = timezone.now()
    with transaction.atomic():
        lately = AuditEvent.objects.filter(person=account, action=Action.TOKEN_REFUSED, at__gt=now - FAILURES_TIME)
        lately = lately.filter(detail__rule=detail["rule"])
        place = _count_again(lately, by.address, now)
        if place is not None:
            by = Actor(label=by.label, address=place, client=by.client)
            record(by, Action.TOKEN_REFUSED, person=account, detail=detail)


def _count_again(lately: QuerySet[AuditEvent], address: str, now: datetime) -> str | None:
    """Count one more in the row of this address, None; or the address that the new row has to have."""
    addresses = set(lately.filter(organization=None).values_list("address", flat=True))
    if address not in addresses and len(addresses) >= FAILURES_ADDRESSES:
        address = SEVERAL_ADDRESSES
    if address not in addresses:
        return address
    lately.filter(address=address).update(count=F("count") + 1, last_at=now)
    return None


def of_organization(
    organization: Organization,
    *,
    action: str = "",
    person: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEvent]:
    """The log of an organization; ``person``: events about or by this e-mail address. ``until`` is not included."""
    found = AuditEvent.objects.filter(organization=organization)
    if action:
        found = found.filter(action=action)
    if person:
        found = found.filter(Q(subject=person) | Q(actor=person))
    if since:
        found = found.filter(at__gte=since)
    return found.filter(at__lt=until) if until else found


def of_person(person: User) -> QuerySet[AuditEvent]:
    """A person's own log."""
    return AuditEvent.objects.filter(person=person, organization=None)


def rows(found: QuerySet[AuditEvent]) -> Iterator[AuditEvent]:
    """All these events, newest first, read a few at a time."""
    ordered, beyond = found.order_by("-at", "-pk"), Q()
    while some := list(ordered.filter(beyond)[:ROWS]):
        yield from some
        last = some[-1]
        beyond = Q(at__lt=last.at) | Q(at=last.at, pk__lt=last.pk)


def prune() -> int:
    """Delete events that are older than KCR_HISTORY_DAYS (0: none ever is), a few at a time; returns how many."""
    if not settings.HISTORY_DAYS:
        return 0
    old = AuditEvent.objects.filter(at__lt=timezone.now() - timedelta(days=settings.HISTORY_DAYS))
    pruned = 0
    while found := list(old.values_list("pk", flat=True)[:ROWS]):
        pruned += AuditEvent.objects.filter(pk__in=found).delete()[0]
    return pruned


def _organizations_of(person: User | None) -> list[int]:
    if person is not None and person.is_service:
        return [person.organization_id] if person.organization_id else []
    memberships = OrganizationMembership.objects.filter(user=person.pk if person else 0)
    return list(memberships.values_list("organization", flat=True))
