"""Undo of changes of roles in an organization, and of deleted service accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from accounts import organizations
from accounts.errors import Refusal
from accounts.models import AuditEvent, OrganizationRole
from registry import members, service_accounts
from registry.models import Event

from .apply import Undone, undo

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.models import Organization, User

ORGANIZATION_ACTIONS = (AuditEvent.Action.MEMBER_ROLE, AuditEvent.Action.MEMBER_REMOVE)


def restore_service_account(actor: Actor, account: User) -> Undone:
    """Undo the deletion of a service account (``service_accounts.restore``), and give its roles back.

    Returns the steps for the roles. Raises Refusal.
    """
    ended = service_accounts.restore(actor, account)
    of_organization = Event.objects.filter(project__organization=account.organization_id)
    return undo(actor, of_organization.filter(pk__in=ended))


def undoable_event(organization: Organization, pk: int) -> AuditEvent | None:
    """The event of this id in the organization's log, if ``undo_organization_role`` can undo it."""
    found = AuditEvent.objects.filter(organization=organization, pk=pk, action__in=ORGANIZATION_ACTIONS)
    return found.select_related("organization", "person").first()


def undo_organization_role(actor: Actor, event: AuditEvent) -> Undone:
    """Give back the role that a person had before one of ORGANIZATION_ACTIONS, and the roles that ended with it.

    Returns the steps for the roles in projects and on repositories. The caller has checked that the actor owns the
    organization. Raises Refusal (the user is gone, or a member again), Changed (the role was changed since).
    """
    organization, user = event.organization, event.person
    if organization is None or user is None:
        raise Refusal(_("There is no user %(email)s any more.") % {"email": event.subject})
    before = OrganizationRole(event.detail["before"])
    if event.action == AuditEvent.Action.MEMBER_ROLE:
        members.set_organization_role(actor, organization, user, before, seen=event.detail["after"])
        return Undone()
    if organizations.belongs(user, organization):
        raise Refusal(_("%(email)s is a member already.") % {"email": user.email})
    organizations.add_user(organization, user.email, role=before, by=actor)
    ended = event.detail.get("ended", [])
    return undo(actor, Event.objects.filter(project__organization=organization, pk__in=ended))
