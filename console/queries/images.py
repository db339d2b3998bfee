"""Pages about images: all of a project; of one its tags, its manifests without a tag, and what deleting it takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    Exists,
    Max,
    OuterRef,
    Q,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Concat
from django.utils import timezone

from console.queries import scans
from console.queries.shared import listing
from console.templatetags.commands import Kind, kind_of
from registry import attachments, tag_rules
from registry.database.prepared import ListOf, prepare, prepare_models
from registry.models import Image, Manifest, ManifestChild, Severity, Tag, TagDay

if TYPE_CHECKING:
    from datetime import date, datetime

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor
    from accounts.models import Project
    from registry.models import Repository
    from registry.models.manifests import TagQuerySet


TAG_SORTS = {"tags": "-place", "pushed": "-pushed_at", "size": "-manifest__total_size"}
PROJECT_SORTS = {"pushed": "-pushed_at", "name": "path", "pulls": "-pulls"}
UNTAGGED_SORTS = {"pushed": "-pushed_at", "size": "-total_size"}
SEVERITIES = {each.name.lower(): each for each in Severity if each}
DAYS = 30
ALSO = 20  # other tags of the digest of a tag


def of_project(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """A page of all images of a project, each with its use, its newest tag and what is known of it. Seven queries."""
    live = Image.objects.with_contents().filter(repository__project=project, repository__deletion=None)
    found, search = live, wanted.get("q", "").strip()
    if search:
        found = found.annotate(within=_within_project()).filter(within__icontains=search)
    least = wanted.get("severity", "")
    if least in SEVERITIES:
        is_bad = scans.at_least(SEVERITIES[least], scans.REPORT)
        found = found.filter(Exists(scans.tags(is_bad, image=OuterRef("pk"))))
    lately = TagDay.objects.filter(image=OuterRef("pk"), day__gte=last_days()[0]).order_by().values("image")
    found = found.annotate(pulls=Coalesce(Subquery(lately.annotate(number=Sum("pulls")).values("number")), 0))
    page: listing.Listing[Any] = listing.page(
        found.select_related("repository"), wanted, PROJECT_SORTS, search=search, is_filtered=least in SEVERITIES
    )
    describe(page.rows)
    return {"listing": page, "total": live.count(), "severity": least}


def _within_project() -> Concat:
    return Concat("repository__name", Value("/"), "name", output_field=TextField())


def describe(rows: list[Any]) -> None:
    """Give each image the number of its tags, its newest tag, and the worst that is known of it. Three queries."""
    shown = [image.pk for image in rows]
    numbers = {row.image: row.number for row in _tag_counts.all(images=shown)}
    by_image = {tag.image_id: tag for tag in _latest.all(images=shown)}
    known = scans.by_image(shown)
    for image in rows:
        image.tag_count = numbers.get(image.pk, 0)
        image.latest = by_image.get(image.pk)
        image.worst = scans.worst_of(known.get(image.pk))


class _TagCount(NamedTuple):
    image: int
    number: int


@prepare(_TagCount, images=ListOf(BigIntegerField()))
def _tag_counts(_actor: Actor, images: Any) -> QuerySet[Any, Any]:
    live = Tag.objects.live().filter(image__in=images).order_by()
    return live.values("image").annotate(number=Count("pk")).values_list("image", "number")


@prepare_models(Tag, images=ListOf(BigIntegerField()))
def _latest(_actor: Actor, images: Any) -> QuerySet[Tag]:
    newest = Tag.objects.live().filter(image=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    return Tag.objects.filter(
        pk__in=Image.objects.filter(pk__in=images).values(newest=Subquery(newest))
    ).with_manifests()


class _Counts(NamedTuple):
    tag_count: int
    untagged_count: int


@prepare(_Counts, image=BigIntegerField())
def _counts(_actor: Actor, image: Any) -> QuerySet[Any, Any]:
    named = Tag.objects.live().filter(image=image).unattached()
    return Image.objects.filter(pk=image).values_list(_number(named), _number(_untagged(image)))


def _number(of_image: QuerySet[Any]) -> Coalesce:
    counted = of_image.order_by().values("image").annotate(number=Count("pk"))
    return Coalesce(Subquery(counted.values("number")), 0)


def counts(image: Image) -> dict[str, int]:
    """The numbers on the tabs of an image. One query."""
    found = _counts.first(image=image.pk)
    return found._asdict() if found else {"tag_count": 0, "untagged_count": 0}


def kind(image: Image) -> Kind:
    """What the newest tag of the image is for the programs that pull it. One query."""
    newest = Tag.objects.live().unattached().filter(image=image).with_manifests().order_by("-pk").first()
    found = kind_of(newest.manifest) if newest else Kind.IMAGE
    return Kind.IMAGE if found == Kind.NONE else found


def tags(image: Image, wanted: QueryDict) -> dict[str, Any]:
    """A page of an image's tags with their use, what is known of them, and what is attached. Nine queries.

    ``rule`` of a tag: what protects it, None if nothing does. Without attached tags. The default order: floating tags,
    versions (the greatest first), others.
    """
    found, search = Tag.objects.live().filter(image=image).unattached(), wanted.get("q", "").strip()
    if search:
        found = found.filter(name__icontains=search)
    least = wanted.get("severity", "")
    if least in SEVERITIES:
        found = found.filter(manifest__in=Manifest.objects.filter(scans.at_least(SEVERITIES[least]), image=image))
    elif least == "unscanned":
        found = found.filter(Q(manifest__report=None) | Q(manifest__report__state="failed"))
    found = _with_places(found.with_manifests().select_related("opened_by"))
    page = listing.page(found, wanted, TAG_SORTS, search=search, is_filtered=least in {*SEVERITIES, "unscanned"})
    add_use(image, page.rows)
    _add_days(image, page.rows)
    _add_names(image, page.rows)
    rows: list[Any] = page.rows
    rules = dict(tag_rules.protects(image.repository, rows))
    for tag in rows:
        tag.rule = rules.get(tag)
    scans.attach([tag.manifest for tag in page.rows])
    numbers = counts(image)
    return {"listing": page, "severity": least, "total": numbers["tag_count"], **numbers}


def _with_places(found: TagQuerySet) -> TagQuerySet:
    """Give each tag ``place``, a text to sort by: floating tags last, before them versions, then the others.

    A tag is floating if it ever pointed to another digest. A version begins with a digit, or with "v" and a digit.
    """
    others = Tag.objects.filter(image=OuterRef("image"), name=OuterRef("name")).exclude(manifest=OuterRef("manifest"))
    is_version = Q(name__gte="0", name__lt=":") | Q(name__gte="v0", name__lt="v:")  # ":" follows "9" in ASCII
    group = Case(
        When(Exists(others), then=Value("2")),
        When(is_version, then=Value("1")),
        default=Value("0"),
        output_field=CharField(),
    )
    return found.annotate(place=Concat(group, "natural_name", output_field=CharField()))


def _add_names(image: Image, rows: list[Any]) -> None:
    """Give each tag ``also``, ``also_count`` and ``attached`` (attachments by kind). Two queries.

    ``also``: the first other tags of its digest, at most ALSO; ``also_count``: how many there are.
    """
    named: dict[int, list[str]] = {}
    for row in _names.all(image=image.pk, manifests={tag.manifest_id for tag in rows}):
        named.setdefault(row.manifest, []).append(row.name)
    marks = attachments.attached(image, {tag.manifest.digest for tag in rows})
    for tag in rows:
        names = named.get(tag.manifest_id, [])
        tag.also = [name for name in names[: ALSO + 1] if name != tag.name][:ALSO]
        tag.also_count = len(names) - (tag.name in names)
        tag.attached = {each.kind: each for each in marks.get(tag.manifest.digest, ())}


class _Name(NamedTuple):
    manifest: int
    name: str


@prepare(_Name, image=BigIntegerField(), manifests=ListOf(BigIntegerField()))
def _names(_actor: Actor, image: Any, manifests: Any) -> QuerySet[Any, Any]:
    live = Tag.objects.live().unattached().filter(image=image, manifest__in=manifests)
    return live.order_by("natural_name").values_list("manifest", "name")


def add_use(image: Image, rows: list[Any]) -> None:
    """How often each tag was pulled, and when last."""
    use = TagDay.objects.filter(image=image, tag__in=[tag.name for tag in rows]).values("tag").order_by()
    used: dict[str, Any] = {row["tag"]: row for row in use.annotate(pulls=Sum("pulls"), last=Max("pulled_at"))}
    for tag in rows:
        tag.pulls = used.get(tag.name, {}).get("pulls", 0)
        tag.pulled_at = used.get(tag.name, {}).get("last")


def _add_days(image: Image, rows: list[Any]) -> None:
    """How often each tag was pulled on each of the last days."""
    days = last_days()
    lately = TagDay.objects.filter(image=image, tag__in=[tag.name for tag in rows], day__gte=days[0], pulls__gt=0)
    pulls = {(tag, day): number for tag, day, number in lately.order_by().values_list("tag", "day", "pulls")}
    for tag in rows:
        tag.days = [pulls.get((tag.name, day), 0) for day in days]


def untagged(image: Image, wanted: QueryDict) -> dict[str, Any]:
    """A page of the manifests that no tag names and no index needs. Five queries."""
    found, search = _untagged(image), wanted.get("q", "").strip()
    if search:
        found = found.filter(digest__startswith=search if ":" in search else f"sha256:{search}")
    page = listing.page(found.without_content(), wanted, UNTAGGED_SORTS, search=search)
    scans.attach(page.rows)
    numbers = counts(image)
    return {"listing": page, "total": numbers["untagged_count"], **numbers}


def _untagged(image: Image) -> Any:
    named = Tag.objects.live().filter(manifest=OuterRef("pk"))
    needed = ManifestChild.objects.filter(child=OuterRef("pk"), parent__deletion=None)
    return Manifest.objects.live().filter(~Exists(named), ~Exists(needed), image=image, subject="")


def last_days() -> list[date]:
    """The last DAYS days, the oldest first."""
    today = timezone.now().date()
    return [today - timedelta(days=number) for number in reversed(range(DAYS))]


@dataclass(frozen=True, slots=True)
class Use:
    """How often an image was pulled today and yesterday (UTC), by which tags, the most pulled first, and when last."""

    pulls: int
    tags: list[str]
    pulled_at: datetime | None


def recent_use(image: Image) -> Use:
    """The pulls that an end of the image would have stopped. One query."""
    since = timezone.now().date() - timedelta(days=1)
    days = TagDay.objects.filter(image=image, day__gte=since, pulls__gt=0).order_by("-pulls", "tag")
    rows = list(days.values_list("tag", "pulls"))
    return Use(sum(pulls for _, pulls in rows), list(dict.fromkeys(tag for tag, _ in rows if tag)), image.pulled_at)


def consequences(repository: Repository, names: list[str]) -> list[Any]:
    """What deleting these images would take: each with the numbers of its tags and digests, and its tags by name."""
    found = Image.objects.live().filter(repository=repository, name__in=names).order_by("path")
    rows: list[Any] = list(found.annotate(digest_count=Count("manifests", filter=Q(manifests__deletion=None))))
    named: dict[int, list[str]] = {}
    live = Tag.objects.live().filter(image__in=[row.pk for row in rows]).order_by("name")
    for image_id, name in live.values_list("image", "name"):
        named.setdefault(image_id, []).append(name)
    for row in rows:
        row.tag_names = named.get(row.pk, [])
    return rows
