"""Organizations: their people, invitations, and audit log."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from accounts import audit, organizations, tasks
from accounts.models import AuditEvent, Invitation, OrganizationMembership, OrganizationRole, User
from registry import members, undo

from . import problems
from .base import Answer, ApiView, Page, etag_of, operation
from .fields import Text, UndoneJson, Wanted, attributes, undone_json


class OrganizationJson(serializers.Serializer[Any]):
    """An organization."""

    name = serializers.CharField()
    display_name = serializers.CharField()
    role = serializers.ChoiceField(choices=OrganizationRole.values, help_text="of the holder of the key")
    created_at = serializers.DateTimeField()


class PersonJson(serializers.Serializer[Any]):
    """A person of an organization."""

    email = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=OrganizationRole.values)
    is_active = serializers.BooleanField(help_text="false: an operator has shut the person out")


class PersonWanted(Wanted):
    """The role that a person is to have in an organization."""

    role = serializers.ChoiceField(choices=OrganizationRole.values)


class InvitationJson(serializers.Serializer[Any]):
    """An open invitation."""

    email = serializers.CharField()
    role = serializers.ChoiceField(choices=OrganizationRole.values)
    invited_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class InvitationWanted(Wanted):
    """Whom to invite."""

    email = Text(max_length=organizations.MAX_EMAIL)
    role = serializers.ChoiceField(choices=OrganizationRole.values, default=OrganizationRole.MEMBER.value)


class OrganizationEventJson(serializers.Serializer[Any]):
    """A change of people, keys or service accounts, or a sign-in."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    action = serializers.ChoiceField(choices=AuditEvent.Action.values)
    subject = serializers.CharField(help_text="the address of the person or service account that it is about")
    actor = serializers.CharField()
    address = serializers.CharField()
    client = serializers.CharField()
    count = serializers.IntegerField(help_text="more than 1: failed attempts that share an entry")
    detail = serializers.JSONField(help_text="the values before and after, and what else belongs to the action")


class OrganizationEventsQuery(serializers.Serializer[Any]):
    """Which events. Each must match all that is given."""

    action = serializers.ChoiceField(choices=AuditEvent.Action.values, required=False)
    person = Text(max_length=254, required=False, help_text="the address of whom it is about, or of who did it")
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class OrganizationsView(ApiView):
    """/api/v1/organizations"""

    noun = "organizations"

    @operation(None, OrganizationJson, is_list=True)
    def get(self) -> Page:
        """List the organizations to which the holder of the key belongs, by name."""
        own = OrganizationMembership.objects.filter(user=self.actor.user_id or 0).select_related("organization")
        return self.page(own, "organization__name", _organization)


class OrganizationView(ApiView):
    """/api/v1/organizations/{organization}"""

    noun = "organizations"

    @operation(None, OrganizationJson, organization=OrganizationRole.MEMBER)
    def get(self) -> dict[str, Any]:
        """Get an organization."""
        own = OrganizationMembership.objects.filter(organization=self.organization, user=self.actor.user_id or 0)
        return _organization(own.select_related("organization").get())


def _organization(membership: OrganizationMembership) -> dict[str, Any]:
    found = membership.organization
    shown = {"name": found.name, "display_name": found.display_name, "created_at": found.created_at}
    return shown | {"role": membership.role}


class PeopleView(ApiView):
    """/api/v1/organizations/{organization}/people"""

    noun = "organizations"

    @operation(None, PersonJson, organization=OrganizationRole.MEMBER, is_list=True)
    def get(self) -> Page:
        """List the people of an organization, by address."""
        found = OrganizationMembership.objects.filter(organization=self.organization).select_related("user")
        return self.page(found, "user__email", _person)


class PersonView(ApiView):
    """/api/v1/organizations/{organization}/people/{email}"""

    noun = "organizations"

    @operation(None, PersonJson, organization=OrganizationRole.MEMBER)
    def get(self, email: str) -> Answer:
        """Get the role of a person in an organization."""
        return self._representation(self._found(email))

    @operation(None, PersonJson, organization=OrganizationRole.OWNER, body=PersonWanted, is_conditional=True)
    def put(self, email: str) -> Answer:
        """Set the role of a person of an organization. An invitation brings new people."""
        held = self._found(email)
        self._set(held, OrganizationRole(self.body["role"]))
        return self._representation(self._found(email))

    @operation(None, organization=OrganizationRole.OWNER, is_conditional=True)
    def delete(self, email: str) -> None:
        """Remove a person from an organization. All their roles in its projects end."""
        self._set(self._found(email), None)

    def _set(self, held: OrganizationMembership, role: OrganizationRole | None) -> None:
        self.check(etag_of(held.role))
        seen = held.role if self.has_precondition else None
        members.set_organization_role(self.actor, self.organization, held.user, role, seen=seen)

    def _found(self, email: str) -> OrganizationMembership:
        """Raises NotFound."""
        people = OrganizationMembership.objects.filter(organization=self.organization, user__email=email.lower())
        found = people.select_related("user").first()
        if found is None:
            raise problems.NotFound(f"no member of {self.organization.name} has the address {email}")
        return found

    def _representation(self, held: OrganizationMembership) -> Answer:
        return Answer(_person(held), etag=etag_of(held.role))


def _person(membership: OrganizationMembership) -> dict[str, Any]:
    user: User = membership.user
    return {"email": user.email, "name": user.name, "role": membership.role, "is_active": user.is_active}


class InvitationsView(ApiView):
    """/api/v1/organizations/{organization}/invitations"""

    noun = "organizations"

    @operation(None, InvitationJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self) -> Page:
        """List the open invitations of an organization, by address."""
        found = Invitation.objects.filter(organization=self.organization, expires_at__gt=timezone.now())
        return self.page(found, "email", _invitation)

    @operation(None, InvitationJson, organization=OrganizationRole.OWNER, body=InvitationWanted, statuses=(201,))
    def post(self) -> Answer:
        """Invite a person by mail. An open invitation of the address is replaced, and its link ends."""
        role = OrganizationRole(self.body["role"])
        made = organizations.invite(self.actor, self.organization, self.body["email"], role)
        tasks.request_invitation(made)
        return Answer(_invitation(made), 201, location=f"{self.request.path}/{made.email}")


class InvitationView(ApiView):
    """/api/v1/organizations/{organization}/invitations/{email}"""

    noun = "organizations"

    @operation(None, InvitationJson, organization=OrganizationRole.OWNER)
    def get(self, email: str) -> dict[str, Any]:
        """Get an open invitation."""
        return _invitation(self._found(email))

    @operation(None, organization=OrganizationRole.OWNER)
    def delete(self, email: str) -> None:
        """Withdraw an open invitation. Its link ends."""
        organizations.withdraw(self.actor, self._found(email))

    def _found(self, email: str) -> Invitation:
        """Raises NotFound."""
        found = Invitation.objects.filter(organization=self.organization, email=email.lower())
        invitation = found.filter(expires_at__gt=timezone.now()).select_related("organization").first()
        if invitation is None:
            raise problems.NotFound(f"no open invitation is for the address {email}")
        return invitation


def _invitation(invitation: Invitation) -> dict[str, Any]:
    return attributes(invitation, InvitationJson)


class OrganizationEventsView(ApiView):
    """/api/v1/organizations/{organization}/events"""

    noun = "organizations"

    @operation(
        None,
        OrganizationEventJson,
        organization=OrganizationRole.OWNER,
        query=OrganizationEventsQuery,
        is_list=True,
    )
    def get(self) -> Page:
        """List the events of the audit log of an organization, the newest first."""
        wanted = self.filters("action", "person", "since", "until")
        return self.page(audit.of_organization(self.organization, **wanted), "-pk", _event)


class OrganizationEventUndoView(ApiView):
    """/api/v1/organizations/{organization}/events/{event}/undo"""

    noun = "organizations"

    @operation(None, UndoneJson, organization=OrganizationRole.OWNER)
    def post(self, event: int) -> dict[str, Any]:
        """Give a person the role back that a change of roles took, with the roles in projects that ended with it."""
        found = undo.undoable_event(self.organization, event)
        if found is None:
            raise problems.NotFound(f"there is no change of a role with the id {event}")
        result = undo.undo_organization_role(self.actor, found)
        return undone_json(result.done, result.skipped)


def _event(event: AuditEvent) -> dict[str, Any]:
    names = ("at", "action", "subject", "actor", "address", "client", "count", "detail")
    return {"id": event.pk, **{name: getattr(event, name) for name in names}}
