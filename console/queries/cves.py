"""Where a vulnerability is: in which images and tags, which of them were pulled lately, and what fixes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.db.models import (
    BigIntegerField,
    Count,
    DateTimeField,
    Exists,
    F,
    IntegerField,
    Max,
    OuterRef,
    Q,
    Subquery,
    TextField,
    Value,
)
from django.db.models.lookups import Exact, GreaterThanOrEqual
from django.utils import timezone

from accounts.models import Project
from console import page_size
from console.queries import scans
from console.queries.shared import layout, listing
from registry import access
from registry.access import Action
from registry.database.prepared import ListOf, Prepared, as_moment, number_of, prepare, prepare_models
from registry.models import Image, Manifest, ManifestChild, Repository, Severity, Tag, TagDay
from registry.oci import documents
from scanning import reach as scanning_reach
from scanning import search
from scanning.models import Acceptance, Finding, Package, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor

TAGS = 6  # of one image
FIXES = 12  # packages in the summary
CHUNK = 500  # rows of the CSV file that are read at once
LATELY = 30  # days
DAYS = (1, 7, 30, 90)  # that the filter offers
BASE_NAME = "org.opencontainers.image.base.name"  # an annotation of the image-spec
VALUES: dict[str, Any] = {"project": TextField(), "least": IntegerField(), "since": DateTimeField()}  # of a Filter
CURRENT: dict[str, Any] = {"vulnerability": BigIntegerField(), "least": IntegerField()}  # of ``_current``
CSV_HEADER = (
    *("vulnerability", "project", "image", "tags", "digest", "platform", "image pulled", "severity", "package"),
    *("installed", "fixed in", "status", "layer", "path", "accepted by", "reason", "accepted until"),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which findings are shown. A bad value does not filter. ``days``: pulled in the last days, 0 for any time.

    ``since``: the time since which it must have been pulled. A prepared query has Params in the place of values.
    """

    project: Any = ""
    least: Any = 0
    state: str = ""
    days: int = 0
    since: Any = None

    @classmethod
    def of(cls, wanted: QueryDict) -> Filter:
        """As the query string says."""
        state, pulled = wanted.get("tags", ""), wanted.get("pulled", "")
        days = int(pulled) if pulled in {str(each) for each in DAYS} else 0
        return cls(
            project=wanted.get("project", "")[:100].replace("\0", ""),
            least=scans.least_severity(wanted),
            state=state if state in {"tagged", "untagged"} else "",
            days=days,
            since=timezone.now() - timedelta(days=days) if days else None,
        )

    @property
    def severity(self) -> str:
        """The least severity as the URL has it."""
        return Severity(self.least).name.lower() if self.least else ""

    @property
    def is_set(self) -> bool:
        """Whether anything is left out."""
        return self != Filter()

    @property
    def kind(self) -> tuple[str, ...]:
        """The state, and the names of the values that are set: what the SQL of a query depends on."""
        return (self.state, *(name for name in VALUES if getattr(self, name)))

    def values(self) -> dict[str, Any]:
        """The values for a prepared query."""
        return {name: getattr(self, name) for name in VALUES}

    def reach(self, actor: Actor) -> QuerySet[Repository]:
        """The repositories in which the actor may see findings."""
        found = layout.repositories_of(actor)
        return found.filter(project__name=self.project) if self.project else found

    def apply(self, found: Any) -> Any:
        """Keep the findings that are wanted."""
        if self.least:
            found = found.filter(severity__gte=self.least)
        if self.state:
            used = scanning_reach.in_use()
            found = found.filter(used) if self.state == "tagged" else found.exclude(used)
        if self.since:
            found = found.filter(_pulled(self.since), manifest__image__pulled_at__gte=self.since)
        return found


class Shown(NamedTuple):
    """An image, with the names of its repository and project."""

    pk: int
    path: str
    name: str
    repository_id: int
    repository: str
    project: str


class Named(NamedTuple):
    """A tag of a manifest, both by their ids, and when it was pulled last."""

    image: int
    manifest: int
    name: str
    last: datetime | None

    @property
    def pulled_at(self) -> datetime | None:
        """As ``last``, with a time zone."""
        return as_moment(self.last) if self.last else None

    def is_since(self, moment: datetime) -> bool:
        """Whether it was pulled since then."""
        return self.pulled_at is not None and self.pulled_at >= moment


class Found(NamedTuple):
    """A finding in a manifest. ``acceptance``: the id of what covers it, or None."""

    manifest: int
    digest: str
    media_type: str
    platforms: str
    name: str
    version: str
    fixed_version: str
    severity: int
    status: str
    layer: str
    acceptance: int | None

    @property
    def said(self) -> tuple[str, str, str]:
        """What the page says of the package."""
        return self.name, self.version, self.fixed_version


@dataclass(slots=True)
class Place:
    """A manifest (its id) that tags of an image name, with what was found in it or in its platforms."""

    manifest: int
    tags: list[str]
    pulled_at: datetime | None
    platforms: list[str] = field(default_factory=list)
    worst: int = 0
    packages: list[Found] = field(default_factory=list)
    is_accepted: bool = False


@dataclass(slots=True)
class Affected:
    """An image: its tags, ``more`` tags that are not listed, and ``untagged`` digests.

    ``layer``: the number of the layer that brings the package, of ``layers``; 0 if unknown. ``base``: the image that
    the layer comes from, "" if unknown. ``accept``: (digest, package) for the form that accepts the risk, None if the
    person may not.
    """

    image: Shown
    places: list[Place] = field(default_factory=list)
    more: int = 0
    untagged: int = 0
    layer: int = 0
    layers: int = 0
    base: str = ""
    accept: tuple[str, str] | None = None


def is_seen(actor: Actor, vulnerability: Vulnerability) -> bool:
    """Whether the vulnerability is in something that the actor may see. One query."""
    return bool(search.with_vulnerability(vulnerability, layout.repositories_of(actor)).exists())


def page(actor: Actor, vulnerability: Vulnerability, wanted: QueryDict) -> dict[str, Any] | None:
    """A page of the images with this vulnerability; those pulled last first. At most twelve queries.

    None if the actor may see none of them.
    """
    chosen = Filter.of(wanted)
    summary = _summary(actor, chosen, vulnerability)
    if not summary.images and not (chosen.is_set and is_seen(actor, vulnerability)):
        return None
    shown = _page_of(summary.images, wanted, is_narrowed=chosen.is_set)
    rows = _affected(actor, vulnerability, chosen, shown.rows)
    return {
        "vulnerability": vulnerability,
        "listing": replace(cast("Any", shown), rows=rows),
        "worst": max((place.worst for row in rows for place in row.places), default=0),
        "filter": chosen,
        "days": DAYS,
        "projects": _projects.all(actor),
        "total": len(summary.images),
        "summary": summary,
        "lately_days": LATELY,
        "image_count": _image_count.first(actor, project=chosen.project) or 0,
    }


@prepare_models(Project)
def _projects(actor: Actor) -> QuerySet[Project]:
    return layout.projects_of(actor).order_by("name")


@prepare(int, project=TextField())
def _image_count(actor: Actor, project: Any) -> QuerySet[Any, Any]:
    """How many images the actor may see in this project, or ("") in all."""
    is_wanted = Q(project__name=project) | Q(Exact(project, Value("")))
    reach = layout.repositories_of(actor).filter(is_wanted)
    return number_of(Image.objects.with_contents().filter(repository__in=reach.values("pk")))


def _page_of(pks: list[int], wanted: QueryDict, *, is_narrowed: bool) -> listing.Listing[int]:
    """The page of these ids that the query string asks for; its cursors are ids."""
    size = page_size.read(wanted.get("rows")) or page_size.kept()
    after, before = (_place_of(listing.identifier(wanted.get(name)), pks) for name in ("after", "before"))
    start = after + 1 if after is not None else max(0, before - size) if before is not None else 0
    rows = pks[start : start + size]
    return listing.Listing(
        rows,
        first=start + 1,
        size=size,
        newer=str(rows[0]) if rows and start else "",
        older=str(rows[-1]) if start + size < len(pks) else "",
        is_narrowed=is_narrowed or start > 0,
    )


def _place_of(pk: int | None, pks: list[int]) -> int | None:
    return pks.index(pk) if pk in pks else None


def _pulled(since: Any) -> Q:
    """Of findings in what a tag names, itself or as a platform, that was pulled by that tag since then."""
    days = TagDay.objects.filter(image=OuterRef("image"), tag=OuterRef("name"), pulled_at__gte=since)
    live = Tag.objects.live().filter(Exists(days.filter(pulled_at__gte=OuterRef("started_at"))))
    own = live.filter(manifest=OuterRef("manifest"))
    return Q(Exists(own)) | Q(Exists(live.filter(manifest__child_references__child=OuterRef("manifest"))))


# ── The summary ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class Summary:
    """``images``: their ids in the order of the page. ``pulled``: how many were pulled lately, ``last``: when last.

    ``fixes``: {"name": package, "fixed": versions}, the most frequent package first.
    """

    images: list[int]
    project_count: int
    pulled: int
    last: datetime | None
    fixes: list[dict[str, Any]]


def _summary(actor: Actor, chosen: Filter, vulnerability: Vulnerability) -> Summary:
    """Read the findings once. At most three queries."""
    lately = timezone.now() - timedelta(days=LATELY)
    query = _query_of_findings(*chosen.kind)
    rows = query.all(actor, vulnerability=vulnerability.pk, lately=lately, **chosen.values())
    images = dict.fromkeys(map(itemgetter(0), rows))
    candidates = {row[0] for row in rows if row[2]}
    pulled = _last_pulls(candidates, lately, chosen, vulnerability)
    first = sorted(pulled, key=lambda pk: pulled[pk], reverse=True)
    return Summary(
        images=[*first, *(pk for pk in images if pk not in pulled)],
        project_count=len({row[1] for row in rows}),
        pulled=len(pulled),
        last=pulled[first[0]] if first else None,
        fixes=_fixes(Counter(map(itemgetter(3, 4), rows))),
    )


@cache
def _query_of_findings(state: str, *values: str) -> Prepared[tuple[Any, ...]]:
    """The findings that a Filter of this kind keeps, by image: image, project, was it pulled lately, package, fix."""

    @prepare(tuple, vulnerability=BigIntegerField(), lately=DateTimeField(), **VALUES)
    def build(actor: Actor, vulnerability: Any, lately: Any, **params: Any) -> Any:
        chosen = Filter(state=state, **{name: params[name] for name in values})
        found = chosen.apply(search.with_vulnerability(vulnerability, chosen.reach(actor)))
        was_pulled = GreaterThanOrEqual(F("manifest__image__pulled_at"), lately)
        columns = ("manifest__image", "manifest__image__repository__project", was_pulled, "package", "fixed_version")
        return found.order_by("manifest__image__path").values_list(*columns)

    return build


def _last_pulls(images: set[int], since: datetime, chosen: Filter, vulnerability: Vulnerability) -> dict[int, datetime]:
    """{image id: last pull of a tag that has the vulnerability}, of those images that were pulled since then."""
    if not images:
        return {}
    tags = _tags(vulnerability, chosen.least).filter(image__in=images, last__gte=since).order_by()
    return dict(tags.values_list("image").annotate(Max("last")))


def _fixes(counted: Counter[tuple[int, str]]) -> list[dict[str, Any]]:
    names = dict(_package_names.all(packages={package for package, _fixed in counted}))
    found: dict[str, dict[str, Any]] = {}
    for (package, fixed), number in counted.items():
        name = names[package]
        each = found.setdefault(name, {"name": name, "fixed": set(), "number": 0})
        each["number"] += number
        each["fixed"] |= {fixed} - {""}
    ordered = sorted(found.values(), key=lambda each: (-each["number"], each["name"]))
    return [each | {"fixed": sorted(each["fixed"])} for each in ordered[:FIXES]]


@prepare(tuple, packages=ListOf(BigIntegerField()))
def _package_names(_actor: Actor, packages: Any) -> QuerySet[Any, Any]:
    return Package.objects.filter(pk__in=packages).values_list("pk", "name")


# ── The images ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _affected(actor: Actor, vulnerability: Vulnerability, chosen: Filter, images: list[int]) -> list[Affected]:
    """These images with their tags and what was found in those."""
    known = {image.pk: image for image in _images.all(images=images)}
    rows = {pk: Affected(known[pk]) for pk in images if pk in known}
    about = {"vulnerability": vulnerability.pk, "least": chosen.least, "images": list(rows)}
    if chosen.state != "tagged" and not chosen.days:
        for pk, number in _untagged.all(**about):
            rows[pk].untagged = number
    if chosen.state != "untagged":
        _add_places(rows, [tag for tag in _named.all(**about) if not chosen.since or tag.is_since(chosen.since)])
        _add_findings(rows, vulnerability, chosen)
        _add_layers([row for row in rows.values() if row.places and row.places[0].packages])
    manageable = set(_manageable.all(actor, images=list(rows)))
    for row in rows.values():
        if row.image.repository_id in manageable:
            first = next((each for place in row.places for each in place.packages if not each.acceptance), None)
            row.accept = (first.digest, first.name) if first else None
    return list(rows.values())


@prepare(Shown, images=ListOf(BigIntegerField()))
def _images(_actor: Actor, images: Any) -> QuerySet[Any, Any]:
    found = Image.objects.filter(pk__in=images)
    return found.values_list("pk", "path", "name", "repository", "repository__name", "repository__project__name")


@prepare(int, images=ListOf(BigIntegerField()))
def _manageable(actor: Actor, images: Any) -> QuerySet[Any, Any]:
    found = Repository.objects.filter(images__in=images)
    return access.permitted(found, actor, Action.MANAGE).values_list("pk")


@prepare(tuple, images=ListOf(BigIntegerField()), **CURRENT)
def _untagged(_actor: Actor, images: Any, vulnerability: Any, least: Any) -> Any:
    """How many digests without a tag each of these images has with the vulnerability."""
    found = _current(vulnerability, least).filter(manifest__deletion=None).exclude(scanning_reach.in_use())
    # As a subquery: SQLite would look at every finding of the vulnerability otherwise.
    of_images = found.filter(manifest__in=Manifest.objects.live().filter(image__in=images).values("pk")).order_by()
    return of_images.values_list("manifest__image").annotate(Count("manifest", distinct=True))


@prepare(Named, images=ListOf(BigIntegerField()), **CURRENT)
def _named(_actor: Actor, images: Any, vulnerability: Any, least: Any) -> Any:
    """The tags of these images that name something with the vulnerability, those that were pulled last first."""
    tags = _tags(vulnerability, least).filter(image__in=images)
    ordered = tags.order_by(F("last").desc(nulls_last=True), "-started_at", "-pk")
    return ordered.values_list("image", "manifest", "name", "last")


def _current(vulnerability: Any, least: Any) -> Any:
    """The current findings of the vulnerability of this severity or worse."""
    return Finding.objects.current().filter(vulnerability=vulnerability, severity__gte=least)


def _tags(vulnerability: Any, least: Any) -> Any:
    """Live tags of something with the vulnerability, with their ``last`` pull."""
    in_it = _current(vulnerability, least)
    own = in_it.filter(manifest=OuterRef("manifest"))
    of_parts = in_it.filter(manifest__parent_references__parent=OuterRef("manifest"), manifest__deletion=None)
    pulls = TagDay.objects.filter(image=OuterRef("image"), tag=OuterRef("name"), pulled_at__gte=OuterRef("started_at"))
    live = Tag.objects.live().filter(Exists(own) | Exists(of_parts))
    return live.annotate(last=Subquery(pulls.order_by("-day").values("pulled_at")[:1]))


def _add_places(rows: dict[int, Affected], tags: list[Named]) -> None:
    """Give each image the first of its tags, those of one manifest at one place."""
    by_image: dict[int, list[Named]] = {pk: [] for pk in rows}
    for tag in tags:
        by_image[tag.image].append(tag)
    for image, named in by_image.items():
        rows[image].more = max(0, len(named) - TAGS)
        places: dict[int, Place] = {}
        for tag in named[:TAGS]:
            places.setdefault(tag.manifest, Place(tag.manifest, [], tag.pulled_at)).tags.append(tag.name)
        rows[image].places = list(places.values())


def _add_findings(rows: dict[int, Affected], vulnerability: Vulnerability, chosen: Filter) -> None:
    """Give each place the findings of its manifest and of its platforms. Two queries."""
    places = {place.manifest: place for row in rows.values() for place in row.places}
    parents: dict[int, list[int]] = {pk: [pk] for pk in places}
    for parent, child in _children.all(parents=list(places)):
        parents.setdefault(child, []).append(parent)
    about = {"vulnerability": vulnerability.pk, "least": chosen.least, "now": timezone.now()}
    for found in _found.all(manifests=list(parents), **about):
        for parent in parents[found.manifest]:
            place = places[parent]
            place.worst = max(place.worst, found.severity)
            if found.platforms and found.platforms not in place.platforms:
                place.platforms.append(found.platforms)
            if not any(each.said == found.said for each in place.packages):
                place.packages.append(found)
    for place in places.values():
        place.is_accepted = bool(place.packages) and all(each.acceptance for each in place.packages)


@prepare(tuple, parents=ListOf(BigIntegerField()))
def _children(_actor: Actor, parents: Any) -> QuerySet[Any, Any]:
    return ManifestChild.objects.filter(parent__in=parents).values_list("parent", "child")


@prepare(Found, manifests=ListOf(BigIntegerField()), now=DateTimeField(), **CURRENT)
def _found(_actor: Actor, manifests: Any, now: Any, vulnerability: Any, least: Any) -> Any:
    found = _current(vulnerability, least).filter(manifest__in=manifests).with_acceptance(now)
    return found.order_by("-severity", "package__name", "package__version", "pk").values_list(
        *("manifest", "manifest__digest", "manifest__media_type", "manifest__platforms"),
        *("package__name", "package__version", "fixed_version", "severity", "status", "layer", "acceptance"),
    )


def _add_layers(rows: list[Affected]) -> None:
    """Say which layer of the first place of each image brings the package, and from which base image. One query."""
    contents = dict(_contents.all(manifests=[row.places[0].packages[0].manifest for row in rows]))
    stacks: dict[int, list[str]] = {}
    for row in rows:
        first = row.places[0].packages[0]
        document = documents.parse(bytes(contents[first.manifest]), first.media_type)
        stacks[row.image.pk] = [layer.digest for layer in document.layers]
        row.layers = len(document.layers)
        row.layer = stacks[row.image.pk].index(first.layer) + 1 if first.layer in stacks[row.image.pk] else 0
        row.base = document.annotations.get(BASE_NAME, "")[:200] if row.layer == 1 else ""
    for row in rows:
        own = stacks[row.image.pk]
        for other in rows:
            below = stacks[other.image.pk]
            if row.layer and row.layer <= len(below) < len(own) and own[: len(below)] == below:
                row.base = f"{other.image.path}:{other.places[0].tags[0]}"


@prepare(tuple, manifests=ListOf(BigIntegerField()))
def _contents(_actor: Actor, manifests: Any) -> QuerySet[Any, Any]:
    return Manifest.objects.filter(pk__in=manifests).values_list("pk", "content")


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def rows(actor: Actor, vulnerability: Vulnerability, wanted: QueryDict) -> Iterator[tuple[str, ...]]:
    """Every finding that the filter keeps as cells of a CSV file, CSV_HEADER first; the images pulled last first."""
    chosen, now = Filter.of(wanted), timezone.now()
    found = chosen.apply(search.with_vulnerability(vulnerability, chosen.reach(actor)))
    order = F("manifest__image__pulled_at").desc(nulls_last=True)
    pks = list(found.order_by(order, "manifest__image", "manifest", "pk").values_list("pk", flat=True))
    yield CSV_HEADER
    for start in range(0, len(pks), CHUNK):
        some = pks[start : start + CHUNK]
        with_acceptance: Any = (
            Finding.objects.filter(pk__in=some)
            .with_acceptance(now)
            .select_related("package", "manifest__image__repository__project")
        )
        read = {row.pk: row for row in with_acceptance.defer("manifest__content", "manifest__annotations")}
        scanning_reach.name_tags(row.manifest for row in read.values())
        accepted = Acceptance.objects.in_bulk({row.acceptance for row in read.values() if row.acceptance})
        for pk in some:
            if pk in read:
                yield _cells(vulnerability, read[pk], accepted.get(read[pk].acceptance))


def _cells(vulnerability: Vulnerability, row: Any, accepted: Acceptance | None) -> tuple[str, ...]:
    manifest, image = row.manifest, row.manifest.image
    return (
        vulnerability.name,
        image.repository.project.name,
        image.path,
        " ".join(manifest.tag_names),
        manifest.digest,
        manifest.platforms,
        image.pulled_at.isoformat() if image.pulled_at else "",
        Severity(row.severity).name.lower(),
        row.package.name,
        row.package.version,
        row.fixed_version,
        row.status,
        row.layer,
        row.path,
        accepted.accepted_by if accepted else "",
        accepted.reason if accepted else "",
        accepted.expires_at.isoformat() if accepted and accepted.expires_at else "",
    )
