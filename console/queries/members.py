"""The page about the members of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.models import (
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
)
from console.queries import organizations
from console.queries.shared import people

if TYPE_CHECKING:
    from django.http import QueryDict

NAMED = 5


def administrators(project: Project) -> list[str]:
    """The e-mail addresses of the first admins of a project; of the owners of its organization if it has no admin."""
    admins = ProjectMembership.objects.filter(project=project, role=ProjectRole.ADMIN, user__is_active=True)
    found = list(admins.order_by("user__email").values_list("user__email", flat=True)[:NAMED])
    return found or organizations.owners(project.organization.name)


def project_members(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """Who may see a project's pages: a page of its members, the owners of its organization; and who could be added."""
    memberships = ProjectMembership.objects.filter(project=project)
    in_organization = OrganizationMembership.objects.filter(organization=project.organization)
    owners = in_organization.filter(role=OrganizationRole.OWNER).select_related("user").order_by("user__email")
    shown = people.page(memberships.select_related("user"), wanted)
    return shown | {
        "total": memberships.count(),
        "pinned": [] if shown["listing"].is_narrowed else [each.user for each in owners],
        "roles": ProjectRole,
        "candidates": people.emails(in_organization.exclude(user__in=memberships.values("user"))),
    }
