"""Service accounts: identities of programs, of one project or of an organization.

A service account is a row of ``User`` that has roles and access keys like a person's, and no password, session, mail or
membership of an organization. Its name is never given to another one: in the audit logs ``ci@shop.project.invalid`` is
the same account for ever. Making an account of a deleted one's name brings that one back, without roles and keys.

Roles are given by ``members.set_role`` and ``repositories.set_role``, which refuse what the actor does not hold.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, federation, keys, organizations, trust_rules
from accounts.errors import Refusal
from accounts.models import (
    AccessKey,
    AuditEvent,
    Organization,
    OrganizationMembership,
    Project,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
    UserKind,
)
from registry import access, members
from registry.errors import Changed, Denied
from registry.models import RepositoryUserPermission

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from accounts.models import Issuer, TrustRule

MAX_DESCRIPTION = 200
ACCOUNTS = 200  # of a project, and of an organization outside of its projects
CONTACTS = 10
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


def of(owner: Project | Organization) -> QuerySet[User]:
    """The service accounts of a project, or those of an organization that belong to no project; not deleted ones."""
    accounts = User.objects.filter(kind=UserKind.SERVICE, deleted_at=None)
    if isinstance(owner, Project):
        return accounts.filter(project=owner)
    return accounts.filter(organization=owner, project=None)


def find(owner: Project | Organization, name: str, *, with_deleted: bool = False) -> User | None:
    """The account of this name."""
    found = User.objects.filter(email=address(owner, name))
    found = found if with_deleted else found.filter(deleted_at=None)
    return found.select_related("organization", "project").first()


def keys_of(owner: Project | Organization) -> QuerySet[AccessKey]:
    """The keys of the service accounts that the administrators of the owner may rotate.

    Owners of an organization may rotate those of its projects.
    """
    found = AccessKey.objects.lasting().filter(user__kind=UserKind.SERVICE, user__deleted_at=None)
    held = Q(user__project=owner) if isinstance(owner, Project) else Q(user__organization=owner)
    return found.filter(held).select_related("user__organization", "user__project", "project", "former")


def address(owner: Project | Organization, name: str) -> str:
    """What logs call the account. No mail can reach it."""
    if isinstance(owner, Project):
        return f"{name}@{owner.name}.project.invalid"
    return f"{name}@{owner.name.lower()}.organization.invalid"


def create(
    actor: Actor,
    owner: Project | Organization,
    name: str,
    *,
    description: str = "",
    contacts: Collection[str] = (),
    role: ProjectRole | None = None,
) -> User:
    """Make a service account without keys. ``contacts``: e-mail addresses of people of the organization.

    ``role``: its role in the project that owns it. Raises Denied (the actor may not give the role), Refusal (the name
    or the contacts are not good, there is one of the name, or there are ACCOUNTS already).
    """
    if not _NAME.fullmatch(name):
        raise Refusal(_("the name of a service account has 1 to 40 lower-case letters, digits and -, no - at its ends"))
    _check_description(description)
    with transaction.atomic():
        organization = _lock(owner)
        people = _people(organization, contacts)
        if of(owner).count() >= ACCOUNTS:
            raise Refusal(_("%(owner)s has %(count)s service accounts already") % {"owner": owner, "count": ACCOUNTS})
        former = User.objects.filter(email=address(owner, name)).first()
        if former and (former.deleted_at is None or former.organization_id != organization.pk):
            raise Refusal(_("there is a service account %(name)s already") % {"name": name})
        account = former or User(kind=UserKind.SERVICE, email=address(owner, name), name=name)
        account.organization, account.project = organization, owner if isinstance(owner, Project) else None
        account.description, account.is_active, account.deleted_at = description, True, None
        account.set_unusable_password()
        account.save()
        account.contacts.set(people)
        _record(actor, audit.Action.SERVICE_CREATE, account, contacts=[person.email for person in people])
        if role and isinstance(owner, Project):
            members.set_role(actor, owner, account, role)
    return account


def settings_of(account: User) -> dict[str, Any]:
    """The description, and the contacts' addresses in order. One query."""
    return {"description": account.description, "contacts": sorted(each.email for each in account.contacts.all())}


def update(
    actor: Actor,
    account: User,
    *,
    description: str,
    contacts: Collection[str],
    seen: Mapping[str, Any] | None = None,
) -> bool:
    """Set the description and the contacts; returns whether anything changed.

    ``seen``: the ``settings_of`` the account when the user decided. Raises Refusal, Changed (they are different now).
    """
    _check_description(description)
    with transaction.atomic():
        locked = _lock_account(account)
        assert locked.organization is not None
        people = _people(locked.organization, contacts)
        before = settings_of(locked)
        after = {"description": description, "contacts": sorted(person.email for person in people)}
        if before == after:
            return False
        if seen is not None and seen != before:
            raise Changed(_("another user changed %(account)s meanwhile: look again") % {"account": locked})
        User.objects.filter(pk=locked.pk).update(description=description)
        locked.contacts.set(people)
        _record(actor, audit.Action.SERVICE_UPDATE, locked, before=before, after=after)
    account.description = description
    return True


def set_active(actor: Actor, account: User, *, is_active: bool) -> bool:
    """Disable or enable the account; False if it is so already. Keys and roles are kept. Raises Refusal."""
    with transaction.atomic():
        locked = _lock_account(account)
        return (organizations.activate if is_active else organizations.deactivate)(actor, locked)


def delete(actor: Actor, account: User) -> None:
    """End the account: its keys and tokens fail at their next request, its roles end. Raises Refusal.

    ``registry.undo.restore_service_account`` brings it back.
    """
    with transaction.atomic():
        locked = _lock_account(account)
        assert locked.organization is not None
        contacts = sorted(person.email for person in locked.contacts.all())
        ended = members.end_roles(actor, locked.organization, locked)
        federation.end_all(actor, locked)
        revoked = AccessKey.objects.lasting().filter(user=locked, revoked_at=None).select_related("user", "project")
        gone = [key.identifier for key in revoked if keys.revoke(key, by=actor)]
        locked.contacts.clear()
        User.objects.filter(pk=locked.pk).update(is_active=False, deleted_at=timezone.now())
        was = {"active": locked.is_active, "contacts": contacts}
        _record(actor, audit.Action.SERVICE_DELETE, locked, ended=ended, keys=gone, was=was)


def may_restore(actor: Actor, account: User) -> bool:
    """Whether the actor deleted the account less than keys.RESTORE_TIME ago."""
    if account.deleted_at is None or timezone.now() >= account.deleted_at + keys.RESTORE_TIME:
        return False
    event = deletion(account)
    return event is not None and event.actor == actor.label


def deletion(account: User) -> AuditEvent | None:
    """The event of the account's last deletion, in its own log."""
    found = AuditEvent.objects.filter(person=account, organization=None, action=audit.Action.SERVICE_DELETE)
    return found.order_by("-pk").first()


def restore(actor: Actor, account: User) -> list[int]:
    """Bring back a deleted account with its contacts and keys. Returns the ids of the events that ended its roles.

    Raises Refusal (another person deleted it, or more than keys.RESTORE_TIME ago).
    """
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=account.pk)
        event = deletion(locked)
        if event is None or not may_restore(actor, locked):
            raise Refusal(
                _("A deleted service account can be restored for %(minutes)s minutes, by the person who deleted it.")
                % {"minutes": keys.RESTORE_TIME.seconds // 60}
            )
        assert locked.organization is not None
        User.objects.filter(pk=locked.pk).update(is_active=event.detail["was"]["active"], deleted_at=None)
        belonging = OrganizationMembership.objects.filter(organization=locked.organization).values("user")
        locked.contacts.set(User.objects.people().filter(email__in=event.detail["was"]["contacts"], pk__in=belonging))
        for key in AccessKey.objects.filter(user=locked, identifier__in=event.detail["keys"]):
            keys.restore(key, by=actor)
        _record(actor, audit.Action.SERVICE_RESTORE, locked)
    ended: list[int] = event.detail["ended"]
    return ended


def make_key(actor: Actor, account: User, name: str, **limits: Any) -> keys.NewKey:
    """Make an access key of the account (``keys.create`` has the limits).

    Raises Denied if a role of the account allows more than the actor may do there; Refusal.
    """
    with transaction.atomic():
        require_covers(actor, _lock_account(account))
        return keys.create(account, name, by=actor, **limits)


def rotate(actor: Actor, key: AccessKey, *, former_ends_in: timedelta) -> keys.NewKey:
    """Give a key of a service account a new secret (``keys.rotate``). Raises Denied as ``make_key``; Refusal."""
    with transaction.atomic():
        require_covers(actor, _lock_account(key.user))
        return keys.rotate(key, former_ends_in=former_ends_in, by=actor)


def end_former(actor: Actor, key: AccessKey) -> bool:
    """End the former secret of a key of a service account at once; False if none works. Raises Refusal."""
    if not key.user.is_service:
        raise Refusal(_("only the holder of a key may end one of its secrets"))
    return keys.end_former(key, by=actor)


def add_trust_rule(
    actor: Actor, account: User, issuer: Issuer, name: str, claims: Mapping[str, str], **limits: Any
) -> TrustRule:
    """Let ID tokens of an issuer act as the account (``trust_rules.create`` has the arguments).

    Raises Denied as ``make_key``: the actor may hold the key of the issuer, or write the jobs that it signs for.
    """
    with transaction.atomic():
        require_covers(actor, _lock_account(account))
        return trust_rules.create(actor, account, issuer, name, claims, **limits)


def restore_trust_rule(actor: Actor, rule: TrustRule) -> None:
    """Bring a deleted rule back (``trust_rules.restore``). Raises Denied as ``make_key``; Refusal."""
    with transaction.atomic():
        require_covers(actor, _lock_account(rule.account))
        trust_rules.restore(actor, rule)


def require_covers(actor: Actor, account: User) -> None:
    """Raises Denied unless the actor may do all that the account may: they will hold a secret of it.

    One query for each role of the account, and two more.
    """
    memberships = ProjectMembership.objects.filter(user=account).select_related("project")
    given: list[Any] = [(ProjectRole(each.role), each.project) for each in memberships]
    grants = RepositoryUserPermission.objects.filter(user=account, content_object__deletion=None)
    for grant in grants.select_related("permission", "content_object__project"):
        is_push = grant.permission.codename == "push_repository"
        given.append((RepositoryRole.MEMBER if is_push else RepositoryRole.VIEWER, grant.content_object))
    for role, thing in given:
        if not access.may_give(actor, role, thing):
            raise Denied(
                _("%(account)s is %(role)s of %(thing)s: you may not do all that this role allows")
                % {"account": account, "role": role.label, "thing": thing}
            )


def _lock(owner: Project | Organization) -> Organization:
    """Lock the owner's row, so that two accounts of one name are not made at once. Returns the organization."""
    if isinstance(owner, Organization):
        return Organization.objects.select_for_update(no_key=True).get(pk=owner.pk)
    return Project.objects.select_for_update(no_key=True).get(pk=owner.pk).organization


def _lock_account(account: User) -> User:
    locked = User.objects.select_for_update().filter(pk=account.pk, kind=UserKind.SERVICE, deleted_at=None).first()
    if locked is None:
        raise Refusal(_("%(user)s has been deleted") % {"user": account})
    return locked


def _people(organization: Organization, addresses: Collection[str]) -> list[User]:
    """The people of these addresses. Raises Refusal for an address that no active member of the organization has."""
    wanted = {address.strip().lower() for address in addresses}
    if len(wanted) > CONTACTS:
        raise Refusal(_("a service account has at most %(count)s contacts") % {"count": CONTACTS})
    belonging = OrganizationMembership.objects.filter(organization=organization).values("user")
    found = list(User.objects.people().filter(pk__in=belonging, email__in=wanted, is_active=True).order_by("email"))
    if unknown := sorted(wanted - {person.email for person in found}):
        said = {"email": unknown[0], "organization": organization}
        raise Refusal(_("no member of %(organization)s has the address %(email)s") % said)
    return found


def _check_description(description: str) -> None:
    if len(description) > MAX_DESCRIPTION:
        raise Refusal(_("a description has at most %(count)s characters") % {"count": MAX_DESCRIPTION})


def _record(actor: Actor, action: audit.Action, account: User, **detail: Any) -> None:
    project = account.project.name if account.project else ""
    audit.record(actor, action, person=account, detail={"name": account.name, "project": project, **detail})
