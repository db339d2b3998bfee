"""Pages about projects: the list of them, and a project's overview and usage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import (
    BigIntegerField,
    Count,
    DateTimeField,
    Exists,
    F,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Coalesce, Collate, Concat
from django.utils import timezone

from accounts.models import (
    OrganizationMembership,
    OrganizationRole,
    Project,
)
from console.queries import audit_log, scans
from console.queries.shared import layout, listing
from registry import quotas
from registry.database.prepared import number_of, prepare, prepare_models
from registry.models import (
    CleanupRun,
    Image,
    ProjectDay,
    ProjectUsage,
    Repository,
    Tag,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor


DAYS = 30
TOP = 8
BIGGEST = 5
RECENT_IMAGES = 8
EXPIRES_SOON = timedelta(days=14)
RECENT = 8
# Other collations pass over the slash, and put projects of one organization between those of another.
BYTE_ORDER = {"sqlite": "BINARY", "postgresql": "C"}


@dataclass(frozen=True, slots=True)
class Overview:
    """What a project holds, how it is used, and its problems.

    ``known``: what is known of its tags (``scans.add_up``). ``critical``: ``scans.critical``.
    """

    repositories: int
    images: int
    size: int | None
    measured_at: Any
    pulls: list[tuple[date, int]]
    pushes: list[tuple[date, int]]
    biggest: list[dict[str, Any]]
    smaller: int
    recent: dict[str, Any]
    attention: list[dict[str, Any]]
    known: dict[str, int]
    critical: dict[str, int]

    @property
    def pull_count(self) -> int:
        """All pulls of these days."""
        return sum(number for _day, number in self.pulls)

    @property
    def push_count(self) -> int:
        """All pushes of these days."""
        return sum(number for _day, number in self.pushes)


def overview(project: Project) -> Overview:
    """The project on one page. At most fifteen queries."""
    usage = ProjectUsage.objects.filter(project=project).first()
    days = _days(project)
    live = Repository.objects.live().filter(project=project)
    biggest: list[Any] = list(
        live.filter(usage__size__gt=0).order_by("-usage__size").values("name", size=F("usage__size"))[:BIGGEST]
    )
    largest = biggest[0]["size"] if biggest else 1
    for each in biggest:
        each["width"] = round(max(0.5, 100 * each["size"] / largest), 1)
    repositories = live.count()
    known = scans.of_project(project)
    critical = scans.critical(project, known)
    return Overview(
        repositories=repositories,
        images=_image_count.first(project=project.pk) or 0,
        size=usage.size if usage else None,
        measured_at=usage.measured_at if usage else None,
        pulls=[(day, row.pulls if row else 0) for day, row in days],
        pushes=[(day, row.pushes if row else 0) for day, row in days],
        biggest=biggest,
        smaller=repositories - len(biggest),
        recent=audit_log.recent(project, RECENT),
        attention=[*scans.attention(project, known, critical), *_attention(project, repositories)],
        known=known,
        critical=critical,
    )


def _days(project: Project) -> list[tuple[date, ProjectDay | None]]:
    today = timezone.now().date()
    first = today - timedelta(days=DAYS - 1)
    rows = {row.day: row for row in ProjectDay.objects.filter(project=project, day__gte=first)}
    return [(day, rows.get(day)) for day in (first + timedelta(days=number) for number in range(DAYS))]


def _attention(project: Project, repositories: int) -> list[dict[str, Any]]:
    """Problems to show: full quotas, cleanups that wait for approval, images that expire soon. Two queries."""
    found: list[dict[str, Any]] = []
    if repositories >= 0.8 * project.repository_limit:
        found.append({"kind": "quota", "used": repositories, "limit": project.repository_limit})
    found += [{"kind": "cleanup", "run": run} for run in _newest_held.all(project=project.pk)]
    found += [{"kind": "expiry", "image": image} for image in _first_ending.all(project=project.pk, **_soon())]
    return found


@prepare(int, project=BigIntegerField())
def _image_count(_actor: Actor, project: Any) -> QuerySet[Any, Any]:
    live = Image.objects.with_contents().filter(repository__project=project, repository__deletion=None)
    return number_of(live)


@prepare_models(CleanupRun, project=BigIntegerField())
def _newest_held(_actor: Actor, project: Any) -> QuerySet[CleanupRun]:
    return _held().filter(repository__project=project).select_related("repository").order_by("-pk")[:5]


@prepare_models(Image, project=BigIntegerField(), now=DateTimeField(), soon=DateTimeField())
def _first_ending(_actor: Actor, project: Any, now: Any, soon: Any) -> QuerySet[Image]:
    ending = _ending(now, soon).filter(repository__project=project)
    return ending.select_related("repository").order_by("expires_at")[:5]


def _held() -> QuerySet[CleanupRun]:
    """Cleanups that wait for approval."""
    return CleanupRun.objects.filter(state=CleanupRun.State.AWAITING_APPROVAL, repository__deletion=None)


def _ending(now: Any, soon: Any) -> QuerySet[Image]:
    """Images that expire between these times."""
    # A subquery, so that SQLite uses the index of these.
    ending = Image.objects.live().filter(expires_at__gte=now, expires_at__lte=soon)
    return Image.objects.filter(repository__deletion=None, pk__in=ending.values("pk"))


def _soon() -> dict[str, Any]:
    now = timezone.now()
    return {"now": now, "soon": now + EXPIRES_SOON}


def usage(project: Project) -> dict[str, Any]:
    """How full the project is. Six queries."""
    live = Repository.objects.live().filter(project=project)
    images = Count("images", filter=Q(images__deletion=None, images__emptied_at=None))
    fullest = list(live.annotate(number=images).filter(number__gt=0).order_by("-number", "name")[:TOP])
    tags = (
        Tag.objects.live()
        .filter(image__repository__project=project, image__deletion=None, image__repository__deletion=None)
        .values("image__path", "image__name", "image__repository__name")
        .annotate(number=Count("pk"))
        .order_by("-number", "image__path")[:TOP]
    )
    days = _days(project)
    known = 0
    sizes = []
    for day, row in days:
        known = row.size if row and row.size else known
        sizes.append((day, known))
    total = ProjectUsage.objects.filter(project=project).first()
    apart = live.aggregate(size=Coalesce(Sum("usage__size"), 0))["size"]
    return {
        "repositories": live.count(),
        "fullest": fullest,
        "tags": list(tags),
        "sizes": sizes,
        "usage": total,
        "stored": quotas.stored(project),
        "shared": apart - total.size if total and apart > total.size else 0,
    }


def image_count() -> Subquery:
    """How many images with contents a repository has, for annotating."""
    live = Image.objects.with_contents().filter(repository=OuterRef("pk")).order_by()
    return Subquery(live.values("repository").annotate(number=Count("pk")).values("number"))


@dataclass(frozen=True, slots=True)
class Home:
    """A page of the projects that the person may see, by organization.

    Each project has ``attention``, the number of cleanups that wait and images that expire soon. ``recent``: the images
    that were pushed last, on the first page. ``only``: the project if there is only one.
    """

    listing: listing.Listing[Project]
    total: int
    organizations: list[dict[str, Any]]
    recent: list[Image]
    only: Project | None


def home(actor: Actor, wanted: QueryDict) -> Home:
    """The projects that the person may see. Six queries.

    Organizations stand at their projects; those without one stand at the end of the first page.
    """
    mine = layout.projects_of(actor)
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
    _count_attention(page.rows)
    shown = [(each, list(rows)) for each, rows in groupby(page.rows, lambda project: project.organization)]
    if not search and not page.newer:
        shown += [(each.organization, []) for each in joined if not each.has_some]
    return Home(
        listing=page,
        total=total,
        organizations=[{"organization": each, "projects": rows, "is_owner": each.pk in owned} for each, rows in shown],
        recent=[] if search or page.newer else _recent_images(mine),
        only=page.rows[0] if total == 1 and page.rows else None,
    )


def _count_attention(rows: list[Any]) -> None:
    """Give each project the number of its cleanups that wait for approval and its images that expire soon."""
    pks = [project.pk for project in rows]
    held = _held().filter(repository__project__in=pks).order_by().values_list("repository__project")
    ending = _ending(**_soon()).filter(repository__project__in=pks).order_by().values_list("repository__project")
    numbers = Counter(dict(held.annotate(number=Count("pk")))) + Counter(dict(ending.annotate(number=Count("pk"))))
    for project in rows:
        project.attention = numbers[project.pk]


def _recent_images(mine: QuerySet[Project]) -> list[Image]:
    projects = mine.order_by().values("pk")
    live = Image.objects.with_contents().filter(repository__deletion=None, repository__project__in=projects)
    return list(live.select_related("repository__project").order_by("-pushed_at", "-pk")[:RECENT_IMAGES])
