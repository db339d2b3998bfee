"""Pages about people: projects of somebody, keys, members of organizations, projects and repositories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from accounts.keys import KEYS_PER_USER
from accounts.models import (
    AccessKey,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)
from console.queries import frame
from registry import hosts
from registry.models import Repository, RepositoryUserPermission

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor

MAX_SUGGESTED = 200


@dataclass(frozen=True, slots=True)
class Home:
    """The organizations of somebody, each with the projects that they may see."""

    organizations: list[dict[str, Any]]
    only: Project | None


def home(actor: Actor) -> Home:
    """Where somebody may go. Two queries."""
    memberships = OrganizationMembership.objects.filter(user=actor.user_id).select_related("organization")
    live = Count("repositories", filter=Q(repositories__deletion=None))
    projects = list(frame.projects_of(actor).select_related("usage").annotate(repository_count=live).order_by("name"))
    by_organization: dict[int, list[Project]] = {}
    for project in projects:
        by_organization.setdefault(project.organization_id, []).append(project)
    organizations = [
        {
            "organization": membership.organization,
            "is_owner": membership.role == OrganizationRole.OWNER,
            "projects": by_organization.pop(membership.organization_id, []),
        }
        for membership in memberships.order_by("organization__name")
    ]
    only = projects[0] if len(projects) == 1 and not any(each["is_owner"] for each in organizations) else None
    return Home(organizations, only)


def keys(actor: Actor) -> dict[str, Any]:
    """The keys of somebody: those that work first."""
    found = list(AccessKey.objects.filter(user=actor.user_id).select_related("user", "project").order_by("-pk")[:100])
    alive = [key for key in found if key.state == "alive"]
    return {
        "alive": alive,
        "ended": [key for key in found if key.state != "alive"][:20],
        "limit": KEYS_PER_USER,
        "soon": timezone.now() + timedelta(days=7),
    }


def pullable_projects(actor: Actor) -> QuerySet[Project]:
    """The projects that a key may be limited to: those with a role in them, or on one of their repositories."""
    grants = RepositoryUserPermission.objects.filter(user=actor.user_id, content_object__project=OuterRef("pk"))
    visible = frame.projects_of(actor).values("pk")
    return Project.objects.filter(Q(pk__in=visible) | Q(Exists(grants))).order_by("name")


def login_host(key: AccessKey) -> str:
    """The host that docker logs in to with this key."""
    if settings.BARE_HOST_NAMES:
        return hosts.BARE.service
    return hosts.Host(key.project.name if key.project else "PROJECT").service


def organization(found: Organization) -> dict[str, Any]:
    """The people and projects of an organization."""
    memberships = OrganizationMembership.objects.filter(organization=found).select_related("user")
    return {
        "members": list(memberships.order_by("user__email")),
        "projects": list(Project.objects.filter(organization=found).select_related("usage").order_by("name")),
    }


def project_members(project: Project) -> dict[str, Any]:
    """Who may see a project's pages: its members and the owners of its organization; and who could be added."""
    memberships = ProjectMembership.objects.filter(project=project).select_related("user").order_by("user__email")
    in_organization = OrganizationMembership.objects.filter(organization=project.organization).select_related("user")
    members = list(memberships)
    held = {membership.user_id for membership in members}
    return {
        "members": members,
        "owners": [each.user for each in in_organization.filter(role=OrganizationRole.OWNER).order_by("user__email")],
        "roles": ProjectRole,
        "candidates": _emails(in_organization.exclude(user__in=held)),
    }


def repository_permissions(repository: Repository) -> dict[str, Any]:
    """Who has a role on this very repository, and who could be given one."""
    grants = RepositoryUserPermission.objects.filter(content_object=repository).select_related("user", "permission")
    by_user = [
        {"user": user, "is_member": any(each.permission.codename == "push_repository" for each in rows)}
        for user, rows in groupby(grants.order_by("user__email", "user"), key=lambda grant: grant.user)
    ]
    project = repository.project
    outside = OrganizationMembership.objects.filter(organization=project.organization)
    outside = outside.exclude(user__project_memberships__project=project).exclude(role=OrganizationRole.OWNER)
    return {"grants": by_user, "candidates": _emails(outside)}


def _emails(memberships: QuerySet[OrganizationMembership]) -> list[str]:
    return list(memberships.order_by("user__email").values_list("user__email", flat=True)[:MAX_SUGGESTED])


def find_member(organization: Organization, email: str) -> User | None:
    """The user of this address, if they are in the organization: nobody learns who else there is."""
    return User.objects.filter(email=email.lower(), organization_memberships__organization=organization).first()
