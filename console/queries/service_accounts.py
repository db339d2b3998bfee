"""Pages about service accounts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, F, Max, Q
from django.utils import timezone

from accounts import audit, keys, tasks, trust_rules
from accounts.models import AccessKey, Organization, Project, User, UserKind
from console.queries import organizations
from console.queries.shared import listing
from registry import service_accounts

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.actors import Actor

EVENTS = 20
ENDED = 20
DELETED = 10
SOON = timedelta(days=14)


def accounts(actor: Actor, owner: Project | Organization, wanted: QueryDict) -> dict[str, Any]:
    """A page of the service accounts of a project or an organization, and those that the actor deleted just now."""
    living = service_accounts.of(owner)
    found, search = living, wanted.get("q", "").strip()
    if search:
        found = found.filter(Q(name__icontains=search) | Q(description__icontains=search))
    alive = Q(access_keys__session=None, access_keys__revoked_at=None) & (
        Q(access_keys__expires_at=None) | Q(access_keys__expires_at__gt=timezone.now())
    )
    found = found.annotate(
        key_count=Count("access_keys", filter=alive),
        used_at=Max("access_keys__last_used_at"),
        ends_at=Max("access_keys__expires_at", filter=alive),
    )
    return {
        "listing": listing.page(found, wanted, {"name": "name"}, search=search),
        "total": living.count(),
        "deleted": deleted(actor, owner),
    }


def deleted(actor: Actor, owner: Project | Organization) -> list[User]:
    """The accounts that the actor may restore."""
    lately = User.objects.filter(kind=UserKind.SERVICE, deleted_at__gt=timezone.now() - keys.RESTORE_TIME)
    of_owner = (
        lately.filter(project=owner) if isinstance(owner, Project) else lately.filter(organization=owner, project=None)
    )
    lately = of_owner.order_by("-deleted_at")[:DELETED]
    return [account for account in lately if service_accounts.may_restore(actor, account)]


def account(actor: Actor, account: User, *, may_administer: bool) -> dict[str, Any]:
    """Roles, contacts and keys of an account, and the last events about it and by it.

    Without ``may_administer`` the roles in projects that the actor may see, and the contacts.
    """
    assert account.organization is not None
    is_owner = may_administer and account.project is None
    roles = organizations.person(account.organization, account, None if is_owner else actor)
    page: dict[str, Any] = {
        "projects": roles["projects"],
        "repositories": roles["repositories"],
        "contacts": list(account.contacts.filter(is_active=True).order_by("email")),
        "may_see_all": is_owner,
    }
    if not may_administer:
        return page
    found = AccessKey.objects.lasting().filter(user=account).select_related("user", "project", "former")
    alive = (
        found.filter(pk__in=AccessKey.objects.alive().filter(user=account))
        if account.is_active
        else found.filter(revoked_at=None)
    )
    return page | {
        "told": tasks.contacts_of(account),
        "keys": list(alive.order_by(F("last_used_at").desc(nulls_last=True), "-pk")),
        "ended": list(found.exclude(pk__in=alive).order_by("-pk")[:ENDED]),
        "limit": keys.KEYS_PER_SERVICE_ACCOUNT,
        "soon": timezone.now() + SOON,
        "events": events(account),
        "rules": trust_rules.of(account).count(),
    }


def events(account: User) -> list[Any]:
    """The last events in the organization's log that are about the account or by it."""
    assert account.organization is not None
    return list(audit.of_organization(account.organization, person=account.email).order_by("-at", "-pk")[:EVENTS])
