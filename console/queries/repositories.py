"""Pages about repositories and the images in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Exists, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from accounts.actors import Actor
from accounts.models import (
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    RepositoryRole,
    User,
)
from console.queries import projects, scans
from console.queries.images import describe, last_days
from console.queries.shared import layout, listing, people
from registry import access, hosts, members
from registry import repositories as domain
from registry.models import (
    Event,
    Image,
    Repository,
    RepositoryUsage,
    RepositoryUserPermission,
    Tag,
    TagDay,
)
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.models import Project
    from console.queries.shared.listing import Listing


REPOSITORY_SORTS = {"name": "name", "pushed": "-pushed_or_made_at", "size": "-size"}
IMAGE_SORTS = {"pushed": "-pushed_at", "name": "path"}
NAMED = 10


def repositories(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """A page of a project's repositories, each with what is known of its tags, pulls and last push. Five queries."""
    live = Repository.objects.live().filter(project=project)
    found, search = live, wanted.get("q", "").strip()
    if search:
        found = found.filter(Q(name__icontains=search) | Q(description__icontains=search))
    if (visibility := wanted.get("visibility")) in {"public", "private"}:
        found = found.filter(is_public=visibility == "public")
    usage = RepositoryUsage.objects.filter(repository=OuterRef("pk"))
    pushed = Image.objects.live().filter(repository=OuterRef("pk")).order_by("-pushed_at", "-pk")
    found = found.annotate(
        size=Coalesce(Subquery(usage.values("size")), 0),
        pushed_at=Subquery(pushed.values("pushed_at")[:1]),
        pushed_or_made_at=Coalesce(Subquery(pushed.values("pushed_at")[:1]), "created_at"),
        image_count=Coalesce(projects.image_count(), 0),
    ).select_related("usage")
    page: Listing[Any] = listing.page(
        found, wanted, REPOSITORY_SORTS, search=search, is_filtered=visibility in {"public", "private"}
    )
    known = scans.of_repositories([repository.pk for repository in page.rows])
    pulls = _pulls(page.rows)
    for repository in page.rows:
        repository.worst = scans.worst_of(known.get(repository.pk))
        repository.pulls = pulls.get(repository.pk, 0)
    return {
        "listing": page,
        "total": live.count(),
        "visibility": visibility or "",
    }


def _pulls(repositories: list[Any]) -> dict[int, int]:
    """How often each repository was pulled from in ``images.last_days``, by its id."""
    shown = [each.pk for each in repositories]
    days = TagDay.objects.filter(image__repository__in=shown, day__gte=last_days()[0], pulls__gt=0)
    return dict(days.order_by().values_list("image__repository").annotate(number=Sum("pulls")))


def images(repository: Repository, wanted: QueryDict) -> dict[str, Any]:
    """A page of a repository's images, each with its newest tagged manifest and what is known of it. Nine queries.

    With the readme. Empty images are left out; ``contents=none`` in the query string asks for these instead.
    """
    live = Image.objects.with_contents().filter(repository=repository)
    empty = Image.objects.live().filter(repository=repository, emptied_at__isnull=False)
    is_empty = wanted.get("contents") == "none"
    found = empty if is_empty else live
    search = wanted.get("q", "").strip()
    if search:
        found = found.filter(name__icontains=search)
    page: Listing[Any] = listing.page(found, wanted, IMAGE_SORTS, search=search, is_filtered=is_empty)
    describe(page.rows)
    for image in page.rows:
        image.repository = repository
    usage = RepositoryUsage.objects.filter(repository=repository).first()
    numbers = {"total": live.count(), "empty_count": empty.count()}
    readme = domain.readme_of(repository)
    return {"listing": page, "usage": usage, "is_empty": is_empty, "readme": readme, **numbers}


def consequences(repository: Repository) -> dict[str, Any]:
    """What deleting the repository would take. Five queries."""
    live = Image.objects.live().filter(repository=repository)
    tags = Tag.objects.live().filter(image__in=live.values("pk"))
    return {
        "images": live.count(),
        "names": list(live.order_by("-pushed_at", "-pk").values_list("name", flat=True)[:NAMED]),
        "tags": tags.count(),
        "usage": RepositoryUsage.objects.filter(repository=repository).first(),
        "pulled_at": live.aggregate(last=Max("pulled_at"))["last"],
    }


@dataclass(frozen=True, slots=True)
class Commands:
    """What to type, with the address that this installation serves.

    ``uri`` ends before the tag, ``home`` before the image.
    """

    host: str
    home: str
    uri: str
    other_uri: str


def commands(repository: Repository, image: str = "IMAGE") -> Commands:
    """The addresses of an image: on the bare host when it is served, and on the project's own."""
    path = f"{repository}/{image}"
    own = hosts.Host(repository.project.name)
    if not settings.BARE_HOST_NAMES:
        return Commands(own.service, own.uri(str(repository)), own.uri(path), "")
    return Commands(hosts.BARE.service, hosts.BARE.uri(str(repository)), hosts.BARE.uri(path), own.uri(path))


def repository_permissions(repository: Repository, wanted: QueryDict) -> dict[str, Any]:
    """A page of who has a role on this very repository."""
    grants = RepositoryUserPermission.objects.filter(content_object=repository)
    pushes = grants.filter(user=OuterRef("pk"), permission__codename="push_repository")
    holders = User.objects.filter(pk__in=grants.values("user"))
    shown = people.page(holders.annotate(is_member=Exists(pushes)), wanted, user="")
    return shown | {"total": holders.count(), "roles": RepositoryRole, "candidates": candidates(repository)}


def candidates(repository: Repository) -> list[str]:
    """E-mail addresses of people who could be given a role on the repository."""
    outside = OrganizationMembership.objects.filter(organization=repository.project.organization)
    outside = outside.exclude(user__project_memberships__project=repository.project)
    roles = ProjectMembership.objects.filter(project=repository.project).values("user")
    emails = people.emails(outside.exclude(role=OrganizationRole.OWNER))
    return emails + people.accounts(repository.project, without=roles)


@dataclass(frozen=True, slots=True)
class Granted:
    """A repository on which a person has a role, but none in its project. ``since``: the event that gave the role."""

    repository: Repository
    may_push: bool
    commands: Commands
    since: Event | None


def granted(actor: Actor) -> list[Granted]:
    """The repositories that the actor can use with docker only, by path. One query; two if there are any."""
    grants = RepositoryUserPermission.objects.filter(user=actor.user_id, content_object__deletion=None)
    grants = grants.exclude(content_object__project__in=layout.projects_of(actor).values("pk"))
    rows = list(grants.select_related("content_object__project", "permission"))
    if not rows:
        return []
    found = {grant.content_object_id: grant.content_object for grant in rows}
    pushes = {grant.content_object_id for grant in rows if grant.permission.codename == "push_repository"}
    given = Event.objects.filter(
        repository__in=found, action=Event.Action.ROLE_CHANGE, detail__user=actor.label
    ).order_by("pk")
    since = {event.repository_id: event for event in given}
    return [
        Granted(repository, pk in pushes, commands(repository), since.get(pk))
        for pk, repository in sorted(found.items(), key=lambda item: str(item[1]))
    ]


@dataclass(frozen=True, slots=True)
class Reason:
    """Whether a person may push and pull, and why. ``because``: roles, the strongest first."""

    email: str
    may_push: bool
    may_pull: bool
    because: list[str]


def reason(repository: Repository, email: str) -> Reason | None:
    """What a member of the organization may do in the repository, and why; None if no member has the address."""
    organization = repository.project.organization
    user = members.find_holder(repository.project, email)
    if user is None:
        return None
    name = ImageName(repository.project.name, repository.name, "any")
    actions = access.allowed_actions(Actor(user_id=user.pk, label=user.email), name)[name].actions
    owns = OrganizationMembership.objects.filter(organization=organization, user=user, role=OrganizationRole.OWNER)
    in_project, on_repository = members.role_of(repository.project, user), domain.role_of(repository, user)
    because = ["organization-owner"] if owns.exists() else []
    because += [f"project-{in_project}"] if in_project else []
    because += [f"repository-{on_repository}"] if on_repository else []
    because += ["public"] if repository.is_public else []
    return Reason(user.email, access.Action.PUSH in actions, access.Action.PULL in actions, because)
