"""The page about the members of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import F

from accounts.models import (
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)
from console.queries import organizations
from console.queries.shared import people
from registry import members
from registry.models import Repository

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.models import AccessKey

NAMED = 5
RANKS = ("", ProjectRole.READER, ProjectRole.MEMBER, ProjectRole.ADMIN)


def administrators(project: Project) -> list[str]:
    """The e-mail addresses of the first admins of a project; of the owners of its organization if it has no admin."""
    admins = ProjectMembership.objects.filter(
        project=project, role=ProjectRole.ADMIN, user__in=User.objects.people().filter(is_active=True)
    )
    found = list(admins.order_by("user__email").values_list("user__email", flat=True)[:NAMED])
    return found or organizations.owners(project.organization.name)


def project_members(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """Who has a role in a project: a page of its members, service accounts too, and the owners of its organization."""
    memberships = ProjectMembership.objects.filter(project=project)
    owners = OrganizationMembership.objects.filter(organization=project.organization, role=OrganizationRole.OWNER)
    shown = people.page(memberships.select_related("user"), wanted)
    pinned = owners.select_related("user").order_by("user__email")
    return shown | {
        "total": memberships.count(),
        "pinned": [] if shown["listing"].is_narrowed else [each.user for each in pinned],
        "roles": ProjectRole,
    }


def candidates(project: Project) -> list[str]:
    """Addresses of people and service accounts that could be added to the project."""
    in_organization = OrganizationMembership.objects.filter(organization=project.organization)
    members_now = ProjectMembership.objects.filter(project=project)
    emails = people.emails(in_organization.exclude(user__in=members_now.values("user")))
    return emails + people.accounts(project, without=members_now.values("user"))


def what_ends(project: Project, user: User) -> dict[str, Any]:
    """What a user loses with their role in the project. An owner of its organization loses nothing."""
    owns = OrganizationMembership.objects.filter(
        organization=project.organization, user=user, role=OrganizationRole.OWNER
    )
    return {
        "is_owner": owns.exists(),
        "repositories": Repository.objects.live().filter(project=project).count(),
        "keys": keys_of(project, user),
    }


def what_is_given_up(project: Project, user: User, role: str) -> dict[str, Any] | None:
    """What a user can no longer do in the project once they have this role ("": none); None if they lose nothing.

    ``helpers``: who can give the former role back. At most five queries.
    """
    before = members.role_of(project, user) or ""
    ends = what_ends(project, user)
    if ends["is_owner"] or RANKS.index(role) >= RANKS.index(before):
        return None
    owners = organizations.owners(project.organization.name)
    others = [email for email in administrators(project) if email != user.email]
    return {
        "before": before,
        "after": role,
        "administer": before == ProjectRole.ADMIN,
        "manage": before != ProjectRole.READER and role in {"", ProjectRole.READER},
        "keys": [] if role else ends["keys"],
        "helpers": others or owners,
    }


def keys_of(project: Project, user: User) -> list[AccessKey]:
    """The user's valid keys that can act in the project, the one that was used last first."""
    return list(members.keys_in_project(project).filter(user=user).order_by(F("last_used_at").desc(nulls_last=True)))
