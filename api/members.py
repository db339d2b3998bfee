"""The members of a project, and roles on single repositories."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef
from rest_framework import serializers

from accounts.models import ProjectMembership, ProjectRole, RepositoryRole, User
from registry import members, repositories
from registry.access import Action
from registry.models import RepositoryUserPermission

from . import problems
from .base import Answer, ApiView, Page, etag_of, operation
from .fields import Wanted


class MemberJson(serializers.Serializer[Any]):
    """A person with a role in a project."""

    email = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=ProjectRole.values)


class MemberWanted(Wanted):
    """The role that a person is to have in a project."""

    role = serializers.ChoiceField(choices=ProjectRole.values)


class GranteeJson(serializers.Serializer[Any]):
    """A person with a role on a repository and none in its project."""

    email = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=RepositoryRole.values)


class GranteeWanted(Wanted):
    """The role that a person is to have on a repository."""

    role = serializers.ChoiceField(choices=RepositoryRole.values)


class _PersonView(ApiView):
    """What views of one person's role share."""

    noun = "members"

    def person(self, email: str) -> User:
        """The person or service account of the organization with this address; others stay hidden. Raises NotFound."""
        user = members.find_holder(self.project, email)
        if user is None:
            raise problems.NotFound(f"no member of {self.project.organization.name} has the address {email}")
        return user

    def seen(self, role: str | None) -> str | None:
        """Compare the present role with the preconditions; return it for the domain to compare again."""
        self.check(etag_of(role) if role else "")
        return (role or "") if self.has_precondition else None

    def representation(self, user: User, role: str | None, status: int = 200) -> Answer:
        """The answer about the role. Raises NotFound without one."""
        if not role:
            raise problems.NotFound(f"{user.email} has no role here")
        data = {"email": user.email, "name": user.name, "role": role}
        return Answer(data, status, etag_of(role), self.request.path if status == 201 else "")


class MembersView(ApiView):
    """/api/v1/projects/{project}/members"""

    noun = "members"

    @operation(Action.VIEW, MemberJson, is_list=True)
    def get(self) -> Page:
        """List the people with a role in a project, by address. Owners of its organization need none."""
        found = ProjectMembership.objects.filter(project=self.project).select_related("user")
        return self.page(found, "user__email", _member)


def _member(membership: ProjectMembership) -> dict[str, Any]:
    return {"email": membership.user.email, "name": membership.user.name, "role": membership.role}


class MemberView(_PersonView):
    """/api/v1/projects/{project}/members/{email}"""

    @operation(Action.VIEW, MemberJson)
    def get(self, email: str) -> Answer:
        """Get the role of a person in a project."""
        user = self.person(email)
        return self.representation(user, members.role_of(self.project, user))

    @operation(Action.ADMINISTER, MemberJson, body=MemberWanted, statuses=(200, 201), is_conditional=True)
    def put(self, email: str) -> Answer:
        """Give a person or service account this role in the project. Roles on single repositories end."""
        user, role = self.person(email), ProjectRole(self.body["role"])
        now = members.role_of(self.project, user)
        members.set_role(self.actor, self.project, user, role, seen=self.seen(now))
        return self.representation(user, role, 200 if now else 201)

    @operation(Action.ADMINISTER, is_conditional=True)
    def delete(self, email: str) -> None:
        """Take the role in the project from a person."""
        user = self.person(email)
        now = members.role_of(self.project, user)
        self.representation(user, now)
        members.set_role(self.actor, self.project, user, None, seen=self.seen(now))


class GranteesView(ApiView):
    """…/repositories/{repository}/roles"""

    noun = "members"

    @operation(Action.VIEW, GranteeJson, is_list=True)
    def get(self) -> Page:
        """List the people with a role on the repository, by address."""
        grants = RepositoryUserPermission.objects.filter(content_object=self.repository)
        pushes = grants.filter(user=OuterRef("pk"), permission__codename="push_repository")
        holders = User.objects.filter(pk__in=grants.values("user")).annotate(is_member=Exists(pushes))
        return self.page(holders, "email", _grantee)


def _grantee(user: Any) -> dict[str, Any]:
    role = RepositoryRole.MEMBER if user.is_member else RepositoryRole.VIEWER
    return {"email": user.email, "name": user.name, "role": role}


class GranteeView(_PersonView):
    """…/repositories/{repository}/roles/{email}"""

    @operation(Action.VIEW, GranteeJson)
    def get(self, email: str) -> Answer:
        """Get the role of a person on the repository."""
        user = self.person(email)
        return self.representation(user, repositories.role_of(self.repository, user))

    @operation(Action.MANAGE, GranteeJson, body=GranteeWanted, statuses=(200, 201), is_conditional=True)
    def put(self, email: str) -> Answer:
        """Give a person or service account without a role in the project this role on the repository."""
        user, role = self.person(email), RepositoryRole(self.body["role"])
        now = repositories.role_of(self.repository, user)
        repositories.set_role(self.actor, self.repository, user, role, seen=self.seen(now))
        return self.representation(user, role, 200 if now else 201)

    @operation(Action.MANAGE, is_conditional=True)
    def delete(self, email: str) -> None:
        """Take the role on the repository from a person."""
        user = self.person(email)
        now = repositories.role_of(self.repository, user)
        self.representation(user, now)
        repositories.set_role(self.actor, self.repository, user, None, seen=self.seen(now))
