"""Warnings of quotas that are nearly full: mails to people, and a signal. An hourly task looks; a push writes nothing.

The row ``QuotaWarning`` says up to which of LEVELS the people were told, and up to which the signal was sent. So each
level is one mail and one signal, and the next one comes only after the quota fell below the level and rose again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Sum
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts import mails
from accounts.models import (
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)
from registry.database.transactions import retried
from registry.models import Image, Manifest, QuotaWarning, Repository, Tag
from registry.quotas import LIMITS, in_words
from registry.signals import quota_reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

LEVELS = (80, 90, 100)  # per cent
NAMES = {
    "bytes": gettext_noop("stored bytes"),
    "repositories": gettext_noop("repositories"),
    "images": gettext_noop("images"),
    "tags": gettext_noop("tags"),
    "digests": gettext_noop("digests"),
}


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a quota of a project or an organization is; of images, tags and digests the fullest one."""

    owner: Project | Organization
    quota: str
    full: str  # what is full: the name of the owner, a repository or an image
    used: int
    limit: int

    @property
    def percent(self) -> int:
        """Rounded down."""
        return self.used * 100 // self.limit if self.limit else 100

    @property
    def level(self) -> int:
        """The highest of LEVELS that it has reached; 0 below all."""
        return max((level for level in LEVELS if self.percent >= level), default=0) if self.used else 0

    @property
    def page(self) -> str:
        """The address of the page of the console about the owner's quotas."""
        owner = self.owner
        path = f"projects/{owner.name}/usage" if isinstance(owner, Project) else f"organizations/{owner.name}/"
        return f"{settings.PUBLIC_URL}/{path}"


def in_numbers(quota: str, number: int) -> str:
    """A limit or what is used of it, for people: 1.2 MB, or 1,200."""
    return in_words(number) if quota == "bytes" else f"{number:,}"


def warn() -> int:
    """Tell of each quota that has reached a level since it was told; returns how many mails."""
    former = {(row.project_id, row.organization_id, row.quota): row for row in QuotaWarning.objects.all()}
    sent = 0
    for fill in _fills():
        columns = _columns(fill)
        row = former.pop((columns.get("project_id"), columns.get("organization_id"), fill.quota), None)
        row = row or QuotaWarning.objects.get_or_create(**columns, defaults={"level": 0})[0]
        _tell(fill, row)
        sent += _warn(fill, row)
    for row in former.values():  # below all levels
        QuotaWarning.objects.filter(pk=row.pk, level=row.level).delete()
    return sent


@retried
def _tell(fill: Fill, row: QuotaWarning) -> None:
    """Store the level, and send the signal if it rose: both or none."""
    if fill.level == row.told:
        return
    with transaction.atomic():  # of two workers one changes the row
        is_mine = QuotaWarning.objects.filter(pk=row.pk, told=row.told).update(told=fill.level)
        if is_mine and fill.level > row.told:
            quota_reached.send(Fill, fill=fill)


def _warn(fill: Fill, row: QuotaWarning) -> int:
    """Store the level, and mail if it rose; returns how many mails. If no mail could be sent, the next run tries."""
    rows = QuotaWarning.objects.filter(pk=row.pk)
    if fill.level == row.level:
        return 0
    is_mine = rows.filter(level=row.level).update(level=fill.level)
    if not is_mine or fill.level < row.level:
        return 0
    people = _people(fill.owner)
    sent = sum(_mail(person, fill) for person in people)
    if people and not sent:
        rows.filter(level=fill.level).update(level=row.level)
    return sent


def _columns(fill: Fill) -> dict[str, Any]:
    owner = "project_id" if isinstance(fill.owner, Project) else "organization_id"
    return {owner: fill.owner.pk, "quota": fill.quota}


def _mail(person: User, fill: Fill) -> bool:
    following = next((level for level in LEVELS if level > fill.level), None)
    try:
        with translation.override(person.language or None):
            said = {"full": fill.full, "percent": fill.percent, "quota": _(NAMES[fill.quota])}
            mails.send(
                person,
                _("%(full)s: the quota of %(quota)s is %(percent)s %% full") % said,
                "quota",
                **said,
                used=in_numbers(fill.quota, fill.used),
                limit=in_numbers(fill.quota, fill.limit),
                is_full=fill.used >= fill.limit,
                following=following,
                page=fill.page,
            )
    except (OSError, ValueError):  # a wrong address must not keep other people from being warned
        logger.exception("%s could not be warned of the quota of %s", person, fill.full)
        return False
    return True


def _people(owner: Project | Organization) -> list[User]:
    """The admins of a project; the owners of an organization, or of the organization of a project without admins."""
    people = User.objects.people().filter(is_active=True).order_by("email")
    organization = owner if isinstance(owner, Organization) else owner.organization
    members = people.filter(organization_memberships__organization=organization)
    if isinstance(owner, Project):
        admins = ProjectMembership.objects.filter(project=owner, role=ProjectRole.ADMIN)
        if found := list(members.filter(pk__in=admins.values("user"))):
            return found
    owners = OrganizationMembership.objects.filter(organization=organization, role=OrganizationRole.OWNER)
    return list(members.filter(pk__in=owners.values("user")))


# ── How full ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _fills() -> Iterator[Fill]:
    """The quotas that have reached a level. Seven queries."""
    sizes = Project.objects.annotate(used=F("usage__size"), limit=F("size_limit"))
    totals = Organization.objects.annotate(used=Sum("projects__usage__size"), limit=F("size_limit"))
    owners: list[Any] = [*_nearly_full(sizes.select_related("organization")), *_nearly_full(totals)]
    found = [Fill(owner, "bytes", owner.name, owner.used, owner.limit) for owner in owners]
    return (fill for fill in [*found, *_counted()] if fill.level)


def _counted() -> Iterator[Fill]:
    """The quotas of numbers: of images, tags and digests the fullest repository or image of each project."""
    of_image = {"image__deletion": None, "image__repository__deletion": None}
    image = {"project": "image__repository__project", "full": "image__path"}
    counted: tuple[tuple[str, QuerySet[Any], Mapping[str, str]], ...] = (
        ("repositories", Repository.objects.live(), {"project": "project", "full": "project__name"}),
        (
            "images",
            Image.objects.with_contents().filter(repository__deletion=None),
            {"project": "repository__project", "full": "repository__name"},
        ),
        ("tags", Tag.objects.live().unattached().filter(**of_image), image),
        ("digests", Manifest.objects.filter(**of_image), image),
    )
    fullest: dict[tuple[int, str], dict[str, Any]] = {}
    for quota, things, paths in counted:
        columns = {
            "owner": F(paths["project"]),
            "full": F(paths["full"]),
            "limit": F(f"{paths['project']}__{LIMITS[quota]}"),
        }
        for row in _nearly_full(things.order_by().values(**columns).annotate(used=Count("pk"))):
            key = row["owner"], quota
            if key not in fullest or row["used"] > fullest[key]["used"]:
                fullest[key] = row
    projects = Project.objects.select_related("organization").in_bulk({pk for pk, _quota in fullest})
    for (pk, quota), row in fullest.items():
        project = projects[pk]
        full = f"{project.name}/{row['full']}" if quota == "images" else row["full"]
        yield Fill(project, quota, full, row["used"], row["limit"])


def _nearly_full(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Rows whose ``used`` may have reached the lowest level of ``limit``. Multiplied first, a limit could overflow."""
    return rows.filter(used__gte=F("limit") / 5 * 4)
