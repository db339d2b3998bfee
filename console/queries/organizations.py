"""Pages about the people of an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import F, Max, Q

from accounts.models import (
    Organization,
    OrganizationMembership,
    OrganizationRole,
    ProjectMembership,
    User,
)
from console.queries.shared import layout, people
from registry import members
from registry.models import RepositoryUserPermission

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.actors import Actor

NAMED = 5


def owners(name: str) -> list[str]:
    """The e-mail addresses of the first owners of the organization of this name."""
    found = OrganizationMembership.objects.filter(
        organization__name=name, role=OrganizationRole.OWNER, user__is_active=True
    )
    return list(found.order_by("user__email").values_list("user__email", flat=True)[:NAMED])


def organization(found: Organization, wanted: QueryDict) -> dict[str, Any]:
    """A page of the people of an organization. Two queries."""
    memberships = OrganizationMembership.objects.filter(organization=found)
    shown = people.page(memberships.select_related("user"), wanted)
    return shown | {"total": memberships.count(), "roles": OrganizationRole}


def find_account(viewer: Actor, organization: Organization, email: str) -> User | None:
    """The service account of the organization with this address, if the viewer may see its page."""
    accounts = User.objects.filter(organization=organization, email=email.lower(), deleted_at=None)
    visible = Q(project=None) | Q(project__in=layout.projects_of(viewer).values("pk"))
    return accounts.filter(visible).select_related("organization", "project").first()


def find_membership(organization: Organization, email: str) -> OrganizationMembership | None:
    """The membership of the user with this address; None for users outside of the organization."""
    found = OrganizationMembership.objects.filter(organization=organization, user__email=email.lower())
    return found.select_related("user").first()


def person(organization: Organization, user: User, viewer: Actor | None = None) -> dict[str, Any]:
    """A user's roles in the organization's projects and on their repositories, keys, and when they were seen last.

    ``viewer``: only projects that this actor may see, and keys that act in projects that they administer; None for all.
    ``acts_in`` of a key is a list of these projects. At most six queries.
    """
    projects = organization.projects.all()
    if viewer:
        projects = projects.filter(pk__in=layout.projects_of(viewer).values("pk"))
    roles = ProjectMembership.objects.filter(user=user, project__in=projects)
    grants = RepositoryUserPermission.objects.filter(
        user=user, content_object__project__in=projects, content_object__deletion=None
    )
    rows = grants.select_related("content_object__project", "permission")
    pushes = {grant.content_object_id for grant in rows if grant.permission.codename == "push_repository"}
    repositories = {grant.content_object_id: grant.content_object for grant in rows}
    found = members.keys_in_organization(organization).filter(user=user).select_related("project", "user")
    keys: Any = found.order_by(F("last_used_at").desc(nulls_last=True))
    if viewer:
        reached = members.administered_projects_of(viewer, organization, user)
        keys = keys.filter(Q(project=None) | Q(project__in=reached)) if reached else keys.none()
        for key in keys:
            key.acts_in = [key.project] if key.project else reached
    return {
        "projects": list(roles.select_related("project").order_by("project__name")),
        "repositories": [
            {"repository": repository, "role": "member" if pk in pushes else "viewer"}
            for pk, repository in sorted(repositories.items(), key=lambda item: str(item[1]))
        ],
        "keys": list(keys),
        "seen_at": user.sessions.aggregate(last=Max("seen_at"))["last"] or user.last_login,
    }
