"""Where a vulnerability is: in which images and tags, which of them were pulled lately, and what fixes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    Max,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.utils import timezone

from console import page_size
from console.queries import scans
from console.queries.shared import layout, listing
from registry import access
from registry.access import Action
from registry.models import Image, Manifest, ManifestChild, Repository, Severity, Tag, TagDay
from registry.oci import documents
from scanning import reach as scanning_reach
from scanning import search
from scanning.models import Acceptance, Finding, Package, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.http import QueryDict

    from accounts.actors import Actor

TAGS = 6  # of one image
FIXES = 12  # packages in the summary
CHUNK = 500  # rows of the CSV file that are read at once
LATELY = 30  # days
DAYS = (1, 7, 30, 90)  # that the filter offers
BASE_NAME = "org.opencontainers.image.base.name"  # an annotation of the image-spec
CSV_HEADER = (
    *("vulnerability", "project", "image", "tags", "digest", "platform", "image pulled", "severity", "package"),
    *("installed", "fixed in", "status", "layer", "path", "accepted by", "reason", "accepted until"),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which findings are shown. A bad value does not filter. ``days``: pulled in the last days, 0 for any time."""

    project: str = ""
    least: int = 0
    state: str = ""
    days: int = 0

    @classmethod
    def of(cls, wanted: QueryDict) -> Filter:
        """As the query string says."""
        state, days = wanted.get("tags", ""), wanted.get("pulled", "")
        return cls(
            project=wanted.get("project", "")[:100].replace("\0", ""),
            least=scans.least_severity(wanted),
            state=state if state in {"tagged", "untagged"} else "",
            days=int(days) if days in {str(each) for each in DAYS} else 0,
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
    def since(self) -> datetime | None:
        """The time since which it must have been pulled."""
        return timezone.now() - timedelta(days=self.days) if self.days else None

    def of_finding(self, found: Any) -> Any:
        """Keep the findings of this severity."""
        return found.filter(severity__gte=self.least) if self.least else found

    def apply(self, found: Any) -> Any:
        """Keep the findings that are wanted."""
        found = self.of_finding(found)
        if self.state:
            used = scanning_reach.in_use()
            found = found.filter(used) if self.state == "tagged" else found.exclude(used)
        if since := self.since:
            found = found.filter(_pulled(since), manifest__image__pulled_at__gte=since)
        return found


@dataclass(slots=True)
class Place:
    """A manifest that tags of an image name, with what was found in it or in its platforms."""

    manifest: Manifest
    tags: list[str]
    pulled_at: datetime | None
    platforms: list[str] = field(default_factory=list)
    worst: int = 0
    packages: list[Any] = field(default_factory=list)
    is_accepted: bool = False


@dataclass(slots=True)
class Affected:
    """An image: its tags, ``more`` tags that are not listed, and ``untagged`` digests.

    ``layer``: the number of the layer that brings the package, of ``layers``; 0 if unknown. ``base``: the image that
    the layer comes from, "" if unknown. ``accept``: (digest, package) for the form that accepts the risk, None if the
    person may not.
    """

    image: Image
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
    """A page of the images with this vulnerability; those pulled last first. At most fourteen queries.

    None if the actor may see none of them.
    """
    chosen, reach = Filter.of(wanted), layout.repositories_of(actor)
    projects = list(layout.projects_of(actor).order_by("name"))
    if chosen.project:
        reach = reach.filter(project__name=chosen.project)
    found = chosen.apply(search.with_vulnerability(vulnerability, reach))
    summary = _summary(found, chosen, vulnerability)
    if not summary.images and not (chosen.is_set and is_seen(actor, vulnerability)):
        return None
    shown = _page_of(summary.images, wanted, is_narrowed=chosen.is_set)
    images = Image.objects.select_related("repository__project").in_bulk(shown.rows)
    rows = _affected(actor, vulnerability, chosen, [images[pk] for pk in shown.rows if pk in images])
    return {
        "vulnerability": vulnerability,
        "listing": replace(cast("Any", shown), rows=rows),
        "worst": max((place.worst for row in rows for place in row.places), default=0),
        "filter": chosen,
        "days": DAYS,
        "projects": projects,
        "total": len(summary.images),
        "summary": summary,
        "lately_days": LATELY,
        "image_count": Image.objects.with_contents().filter(repository__in=reach.values("pk")).count(),
    }


def _page_of(pks: list[int], wanted: QueryDict, *, is_narrowed: bool) -> listing.Listing[int]:
    """The page of these ids that the query string asks for; its cursors are ids."""
    size = page_size.read(wanted.get("rows")) or page_size.kept()
    places = {pk: at for at, pk in enumerate(pks)}
    after, before = (places.get(listing.identifier(wanted.get(name)) or 0) for name in ("after", "before"))
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


def _pulled(since: datetime) -> Q:
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


def _summary(found: Any, chosen: Filter, vulnerability: Vulnerability) -> Summary:
    """Read the findings once. At most three queries."""
    since = timezone.now() - timedelta(days=LATELY)
    # Text, since Django converts each boolean of the 10,000 rows in Python.
    was_pulled = Case(When(manifest__image__pulled_at__gte=since, then=Value("yes")), default=Value(""))
    columns = ("manifest__image", "manifest__image__repository__project", was_pulled, "package", "fixed_version")
    rows = list(found.order_by("manifest__image__path").values_list(*columns))
    images = dict.fromkeys(map(itemgetter(0), rows))
    candidates = {row[0] for row in rows if row[2]}
    pulled = _last_pulls(candidates, since, chosen, vulnerability)
    first = sorted(pulled, key=lambda pk: pulled[pk], reverse=True)
    return Summary(
        images=[*first, *(pk for pk in images if pk not in pulled)],
        project_count=len({row[1] for row in rows}),
        pulled=len(pulled),
        last=pulled[first[0]] if first else None,
        fixes=_fixes(Counter(map(itemgetter(3, 4), rows))),
    )


def _last_pulls(images: set[int], since: datetime, chosen: Filter, vulnerability: Vulnerability) -> dict[int, datetime]:
    """{image id: last pull of a tag that has the vulnerability}, of those images that were pulled since then."""
    if not images:
        return {}
    tags = _tags(chosen, vulnerability).filter(image__in=images, last__gte=since).order_by()
    return dict(tags.values_list("image").annotate(Max("last")))


def _fixes(counted: Counter[tuple[int, str]]) -> list[dict[str, Any]]:
    packages = Package.objects.in_bulk({package for package, _fixed in counted})
    found: dict[str, dict[str, Any]] = {}
    for (package, fixed), number in counted.items():
        name = packages[package].name
        each = found.setdefault(name, {"name": name, "fixed": set(), "number": 0})
        each["number"] += number
        each["fixed"] |= {fixed} - {""}
    ordered = sorted(found.values(), key=lambda each: (-each["number"], each["name"]))
    return [each | {"fixed": sorted(each["fixed"])} for each in ordered[:FIXES]]


# ── The images ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _affected(actor: Actor, vulnerability: Vulnerability, chosen: Filter, images: list[Image]) -> list[Affected]:
    """These images with their tags and what was found in those."""
    rows = {image.pk: Affected(image) for image in images}
    in_it = chosen.of_finding(Finding.objects.current().filter(vulnerability=vulnerability, manifest__deletion=None))
    # As a subquery: SQLite would look at every finding of the vulnerability otherwise.
    of_images = in_it.filter(manifest__in=Manifest.objects.live().filter(image__in=rows).values("pk"))
    of_images = of_images.none() if chosen.state == "tagged" or chosen.days else of_images
    untagged = of_images.exclude(scanning_reach.in_use()).order_by().values_list("manifest__image")
    for pk, number in untagged.annotate(Count("manifest", distinct=True)):
        rows[pk].untagged = number
    if chosen.state != "untagged":
        _add_places(rows, chosen, vulnerability)
    may = access.permitted(Repository.objects.filter(images__in=rows), actor, Action.MANAGE)
    manageable = set(may.values_list("pk", flat=True))
    for row in rows.values():
        if row.image.repository_id in manageable:
            packages = [each for place in row.places for each in place.packages if not each.acceptance]
            row.accept = (packages[0].manifest.digest, packages[0].package.name) if packages else None
    return list(rows.values())


def _tags(chosen: Filter, vulnerability: Vulnerability) -> Any:
    """Live tags of something with the vulnerability, with their ``last`` pull."""
    in_it = chosen.of_finding(Finding.objects.current().filter(vulnerability=vulnerability))
    own = in_it.filter(manifest=OuterRef("manifest"))
    of_parts = in_it.filter(manifest__parent_references__parent=OuterRef("manifest"), manifest__deletion=None)
    return _with_pulls(Tag.objects.live().filter(Exists(own) | Exists(of_parts)))


def _with_pulls(tags: Any) -> Any:
    pulls = TagDay.objects.filter(image=OuterRef("image"), tag=OuterRef("name"), pulled_at__gte=OuterRef("started_at"))
    return tags.annotate(last=Subquery(pulls.order_by("-day").values("pulled_at")[:1]))


def _add_places(rows: dict[int, Affected], chosen: Filter, vulnerability: Vulnerability) -> None:
    tags = _tags(chosen, vulnerability).filter(image__in=rows)
    if since := chosen.since:
        tags = tags.filter(last__gte=since)
    tags = tags.order_by(F("last").desc(nulls_last=True), "-started_at", "-pk")
    by_image: dict[int, list[int]] = {pk: [] for pk in rows}
    for pk, image in tags.values_list("pk", "image"):
        by_image[image].append(pk)
    for image, found in by_image.items():
        rows[image].more = max(0, len(found) - TAGS)
    shown = [pk for found in by_image.values() for pk in found[:TAGS]]
    read = _with_pulls(Tag.objects.with_manifests()).in_bulk(shown)
    places: dict[int, Place] = {}
    for tag in (read[pk] for pk in shown if pk in read):
        if tag.manifest_id in places:
            places[tag.manifest_id].tags.append(tag.name)
        else:
            places[tag.manifest_id] = Place(tag.manifest, [tag.name], tag.last)
            rows[tag.image_id].places.append(places[tag.manifest_id])
    _add_findings(places, chosen.of_finding(Finding.objects.current().filter(vulnerability=vulnerability)))
    _add_layers([row for row in rows.values() if row.places and row.places[0].packages])


def _add_findings(places: dict[int, Place], in_it: Any) -> None:
    """Give each place the findings of its manifest and of its platforms. Two queries."""
    parents: dict[int, list[int]] = {pk: [pk] for pk in places}
    references = ManifestChild.objects.filter(parent__in=places).values_list("parent", "child")
    for parent, child in references:
        parents.setdefault(child, []).append(parent)
    found = in_it.filter(manifest__in=list(parents)).with_acceptance(timezone.now())
    found = found.select_related("manifest", "package").defer("manifest__content", "manifest__annotations")
    for row in found.order_by("-severity", "package__name", "package__version", "pk"):
        for parent in parents[row.manifest_id]:
            place = places[parent]
            place.worst = max(place.worst, row.severity)
            if row.manifest.platforms and row.manifest.platforms not in place.platforms:
                place.platforms.append(row.manifest.platforms)
            same = [each for each in place.packages if _said(each) == _said(row)]
            if not same:
                place.packages.append(row)
    for place in places.values():
        place.is_accepted = bool(place.packages) and all(each.acceptance for each in place.packages)


def _said(finding: Finding) -> tuple[str, str, str]:
    return finding.package.name, finding.package.version, finding.fixed_version


def _add_layers(rows: list[Affected]) -> None:
    """Say which layer of the first place of each image brings the package, and from which base image. One query."""
    firsts = {row.image.pk: row.places[0].packages[0] for row in rows}
    contents = dict(
        Manifest.objects.filter(pk__in=[each.manifest_id for each in firsts.values()]).values_list("pk", "content")
    )
    stacks: dict[int, list[str]] = {}
    for row in rows:
        finding = firsts[row.image.pk]
        document = documents.parse(bytes(contents[finding.manifest_id]), finding.manifest.media_type)
        stacks[row.image.pk] = [layer.digest for layer in document.layers]
        row.layers = len(document.layers)
        row.layer = stacks[row.image.pk].index(finding.layer) + 1 if finding.layer in stacks[row.image.pk] else 0
        row.base = document.annotations.get(BASE_NAME, "")[:200] if row.layer == 1 else ""
    for row in rows:
        own = stacks[row.image.pk]
        for other in rows:
            below = stacks[other.image.pk]
            if row.layer and row.layer <= len(below) < len(own) and own[: len(below)] == below:
                row.base = f"{other.image.path}:{other.places[0].tags[0]}"


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def rows(actor: Actor, vulnerability: Vulnerability, wanted: QueryDict) -> Iterator[tuple[str, ...]]:
    """Every finding that the filter keeps as cells of a CSV file, CSV_HEADER first; the images pulled last first."""
    chosen, reach, now = Filter.of(wanted), layout.repositories_of(actor), timezone.now()
    if chosen.project:
        reach = reach.filter(project__name=chosen.project)
    found = chosen.apply(search.with_vulnerability(vulnerability, reach))
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
