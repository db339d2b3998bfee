"""Pages about people: projects of somebody, keys, members of organizations, projects and repositories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from itertools import groupby
from operator import or_
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Exists, OuterRef, Q, Value
from django.db.models.functions import Collate, Concat
from django.utils import timezone

from accounts.actors import Actor
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
from console.queries import frame, listing
from registry import access, hosts, members, repositories
from registry.models import Repository, RepositoryUserPermission
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import QueryDict

MAX_SUGGESTED = 200
# Other collations pass over the slash, and put projects of one organization between those of another.
BYTE_ORDER = {"sqlite": "BINARY", "postgresql": "C"}


@dataclass(frozen=True, slots=True)
class Home:
    """A page of the projects that somebody may see, by organization; ``only`` is the one when there is no choice."""

    listing: listing.Listing[Project]
    total: int
    organizations: list[dict[str, Any]]
    only: Project | None


def home(actor: Actor, wanted: QueryDict) -> Home:
    """Where somebody may go. Three queries.

    Organizations stand at their projects; those without one stand at the end of the first page.
    """
    mine = frame.projects_of(actor)
    live = Count("repositories", filter=Q(repositories__deletion=None))
    found, search = mine.select_related("usage").annotate(repository_count=live), wanted.get("q", "").strip()
    if search:
        found = found.filter(Q(name__icontains=search) | Q(display_name__icontains=search))
    place = Collate(Concat("organization__name", Value("/"), "name"), BYTE_ORDER[connection.vendor])
    found = found.annotate(place=place)
    page: listing.Listing[Any] = listing.page(found, wanted, {"place": "place"}, search=search)
    total = mine.count()
    memberships = OrganizationMembership.objects.filter(user=actor.user_id).select_related("organization")
    memberships = memberships.annotate(has_some=Exists(mine.filter(organization=OuterRef("organization"))))
    joined = list(memberships.order_by("organization__name"))
    owned = {each.organization_id for each in joined if each.role == OrganizationRole.OWNER}
    shown = [(each, list(rows)) for each, rows in groupby(page.rows, lambda project: project.organization)]
    if not search and not page.newer:
        shown += [(each.organization, []) for each in joined if not each.has_some]
    return Home(
        listing=page,
        total=total,
        organizations=[{"organization": each, "projects": rows, "is_owner": each.pk in owned} for each, rows in shown],
        only=page.rows[0] if total == 1 and page.rows and not owned else None,
    )


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


def acting_keys(found: QuerySet[AccessKey], wanted: QueryDict) -> dict[str, Any]:
    """A page of keys of several people, in the order of their holders. Two queries."""
    total = found.count()
    if search := wanted.get("q", "").strip():
        words = ("identifier", "name", "user__email", "user__name")
        found = found.filter(reduce(or_, (Q(**{f"{field}__icontains": search}) for field in words)))
    rows = found.select_related("user", "project")
    return {
        "listing": listing.page(rows, wanted, {"holder": "user__email"}, search=search),
        "total": total,
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


def organization(found: Organization, wanted: QueryDict) -> dict[str, Any]:
    """A page of the people of an organization. Two queries."""
    memberships = OrganizationMembership.objects.filter(organization=found)
    return _people(memberships.select_related("user"), wanted) | {"total": memberships.count()}


def project_members(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """Who may see a project's pages: a page of its members, the owners of its organization; and who could be added."""
    memberships = ProjectMembership.objects.filter(project=project)
    in_organization = OrganizationMembership.objects.filter(organization=project.organization)
    owners = in_organization.filter(role=OrganizationRole.OWNER).select_related("user").order_by("user__email")
    return _people(memberships.select_related("user"), wanted) | {
        "total": memberships.count(),
        "owners": [each.user for each in owners],
        "roles": ProjectRole,
        "candidates": _emails(in_organization.exclude(user__in=memberships.values("user"))),
    }


def repository_permissions(repository: Repository, wanted: QueryDict) -> dict[str, Any]:
    """A page of who has a role on this very repository, and who could be given one."""
    grants = RepositoryUserPermission.objects.filter(content_object=repository)
    pushes = grants.filter(user=OuterRef("pk"), permission__codename="push_repository")
    holders = User.objects.filter(pk__in=grants.values("user"))
    project = repository.project
    outside = OrganizationMembership.objects.filter(organization=project.organization)
    outside = outside.exclude(user__project_memberships__project=project).exclude(role=OrganizationRole.OWNER)
    return _people(holders.annotate(is_member=Exists(pushes)), wanted, user="") | {
        "total": holders.count(),
        "candidates": _emails(outside),
    }


def _people(rows: QuerySet[Any], wanted: QueryDict, user: str = "user__") -> dict[str, Any]:
    """A page of people in the order of their addresses, or of those whose address or name holds the words."""
    if search := wanted.get("q", "").strip():
        rows = rows.filter(Q(**{f"{user}email__icontains": search}) | Q(**{f"{user}name__icontains": search}))
    return {"listing": listing.page(rows, wanted, {"email": f"{user}email"}, search=search)}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why somebody may do something in a repository, or that they may not. ``because``: roles, strongest first."""

    email: str
    may_push: bool
    may_pull: bool
    because: list[str]


def reason(repository: Repository, email: str) -> Reason | None:
    """What somebody of the organization may do in the repository, and why; None when there is no such person."""
    organization = repository.project.organization
    user = find_member(organization, email)
    if user is None:
        return None
    name = ImageName(repository.project.name, repository.name, "any")
    actions, _ = access.allowed_actions(Actor(user_id=user.pk, label=user.email), name)
    owns = OrganizationMembership.objects.filter(organization=organization, user=user, role=OrganizationRole.OWNER)
    in_project, on_repository = members.role_of(repository.project, user), repositories.role_of(repository, user)
    because = ["organization-owner"] if owns.exists() else []
    because += [f"project-{in_project}"] if in_project else []
    because += [f"repository-{on_repository}"] if on_repository else []
    because += ["public"] if repository.is_public else []
    return Reason(user.email, access.Action.PUSH in actions, access.Action.PULL in actions, because)


def _emails(memberships: QuerySet[OrganizationMembership]) -> list[str]:
    return list(memberships.order_by("user__email").values_list("user__email", flat=True)[:MAX_SUGGESTED])


def find_member(organization: Organization, email: str) -> User | None:
    """The user of this address, if they are in the organization: nobody learns who else there is."""
    return User.objects.filter(email=email.lower(), organization_memberships__organization=organization).first()
