"""Pages about one image: its tags, what no tag names, what its tags used to mean; and what a digest holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, Max, OuterRef, Q, Sum
from django.utils import timezone

from console.queries import listing, scans
from registry import inspection
from registry.models import Image, Manifest, ManifestBlob, ManifestChild, Severity, Tag, TagDay
from registry.oci import digests

if TYPE_CHECKING:
    from datetime import date

    from django.http import QueryDict

    from registry.models import Repository

TAG_SORTS = {"pushed": "-started_at", "name": "name", "size": "-manifest__total_size"}
UNTAGGED_SORTS = {"pushed": "-pushed_at", "size": "-total_size"}
HISTORY_SORTS = {"from": "-pk"}
SEVERITIES = {each.name.lower(): each for each in Severity if each}
DAYS = 30
SUGGESTED = 50


def counts(image: Image) -> dict[str, int]:
    """The numbers on the tabs of an image. Two queries."""
    return {
        "tag_count": Tag.objects.live().filter(image=image).count(),
        "untagged_count": _untagged(image).count(),
    }


def tags(image: Image, wanted: QueryDict) -> dict[str, Any]:
    """A page of an image's tags with their use and what is known of them. Eight queries."""
    found, search = Tag.objects.live().filter(image=image), wanted.get("q", "").strip()
    if search:
        found = found.filter(name__icontains=search)
    least = wanted.get("severity", "")
    if least in SEVERITIES:
        found = found.filter(manifest__in=Manifest.objects.filter(scans.at_least(SEVERITIES[least]), image=image))
    elif least == "unscanned":
        found = found.filter(Q(manifest__report=None) | Q(manifest__report__state="failed"))
    found = found.with_manifests().select_related("opened_by")
    page = listing.page(found, wanted, TAG_SORTS, search=search)
    _add_use(image, page.rows)
    _add_days(image, page.rows)
    scans.attach([tag.manifest for tag in page.rows])
    return {"listing": page, "severity": least, **counts(image)}


def chosen_tags(image: Image, names: list[str]) -> list[Any]:
    """The live tags of these names, with their digests and use. Two queries."""
    live = Tag.objects.live().filter(image=image, name__in=names)
    rows: list[Any] = list(live.with_manifests().order_by("name"))
    _add_use(image, rows)
    return rows


def _add_use(image: Image, rows: list[Any]) -> None:
    """How often each tag was pulled, and when last."""
    use = TagDay.objects.filter(image=image, tag__in=[tag.name for tag in rows]).values("tag").order_by()
    used: dict[str, Any] = {row["tag"]: row for row in use.annotate(pulls=Sum("pulls"), last=Max("pulled_at"))}
    for tag in rows:
        tag.pulls = used.get(tag.name, {}).get("pulls", 0)
        tag.pulled_at = used.get(tag.name, {}).get("last")


def _add_days(image: Image, rows: list[Any]) -> None:
    """How often each tag was pulled on each of the last days."""
    days = _last_days()
    lately = TagDay.objects.filter(image=image, tag__in=[tag.name for tag in rows], day__gte=days[0], pulls__gt=0)
    pulls = {(tag, day): number for tag, day, number in lately.order_by().values_list("tag", "day", "pulls")}
    for tag in rows:
        tag.days = [pulls.get((tag.name, day), 0) for day in days]


def untagged(image: Image, wanted: QueryDict) -> dict[str, Any]:
    """A page of the manifests that no tag names and no index needs. Six queries."""
    found, search = _untagged(image), wanted.get("q", "").strip()
    if search:
        found = found.filter(digest__startswith=search if ":" in search else f"sha256:{search}")
    page = listing.page(found.light(), wanted, UNTAGGED_SORTS, search=search)
    scans.attach(page.rows)
    return {"listing": page, **counts(image)}


def _untagged(image: Image) -> Any:
    named = Tag.objects.live().filter(manifest=OuterRef("pk"))
    needed = ManifestChild.objects.filter(child=OuterRef("pk"), parent__deletion=None)
    return Manifest.objects.live().filter(~Exists(named), ~Exists(needed), image=image, subject="")


def tag_history(image: Image, wanted: QueryDict) -> dict[str, Any]:
    """Every digest that the tags of an image ever named, the newest first. Four queries."""
    found, search = Tag.objects.filter(image=image), wanted.get("tag", "").strip()
    if search:
        found = found.filter(name=search)
    related = found.with_manifests().select_related("opened_by", "closed_by")
    page = listing.page(related, wanted, HISTORY_SORTS, search=search)
    now = dict(
        Tag.objects.live()
        .filter(image=image, name__in={tag.name for tag in page.rows})
        .values_list("name", "manifest__digest")
    )
    rows: list[Any] = page.rows
    for tag in rows:
        tag.means_now = now.get(tag.name, "")
    return {"listing": page, "tag": search, **counts(image)}


@dataclass(frozen=True, slots=True)
class Digest:
    """One manifest, looked into. ``tags``: all that name it now; ``shared``: blobs of it that other manifests use."""

    manifest: Manifest
    contents: inspection.Contents
    tag: Tag | None
    tags: list[str]
    parents: list[Manifest]
    pulls: list[tuple[date, int]]
    exclusive: int


def digest(image: Image, reference: str) -> Digest | None:
    """What a tag or digest of the image holds; None when it names nothing that is live. At most twelve queries."""
    found = Manifest.objects.referenced(image.path, reference, by_digest=digests.is_digest(reference))
    manifest = found.first()
    if manifest is None:
        return None
    manifest.image = image
    live = Tag.objects.live().filter(image=image, manifest=manifest).select_related("opened_by").order_by("name")
    named = list(live)
    tag = next((each for each in named if each.name == reference), None)
    parents = Manifest.objects.live().light().filter(child_references__child=manifest)
    # In this project: what others have is not for this one to know.
    there = ManifestBlob.objects.filter(repository__project=image.repository.project_id)
    elsewhere = there.filter(blob=OuterRef("blob")).exclude(manifest=manifest)
    own = ManifestBlob.objects.filter(~Exists(elsewhere), manifest=manifest)
    contents = inspection.contents(manifest)
    scans.attach([manifest, *(part.manifest for part in contents.parts)])
    return Digest(
        manifest=manifest,
        contents=contents,
        tag=tag,
        tags=[each.name for each in named],
        parents=list(parents[:20]),
        pulls=_pulls(image, [each.name for each in named] if tag is None else [tag.name]),
        exclusive=own.aggregate(size=Sum("blob__size"))["size"] or 0,
    )


def _pulls(image: Image, names: list[str]) -> list[tuple[date, int]]:
    days = _last_days()
    rows = TagDay.objects.filter(image=image, tag__in=names, day__gte=days[0]).values_list("day").order_by()
    pulls = dict(rows.annotate(number=Sum("pulls")))
    return [(day, pulls.get(day, 0)) for day in days]


def _last_days() -> list[date]:
    today = timezone.now().date()
    return [today - timedelta(days=number) for number in reversed(range(DAYS))]


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


def recent_digests(image: Image) -> list[dict[str, Any]]:
    """Digests to choose from when a tag is added: the newest, with the tags that they have."""
    newest = Manifest.objects.live().filter(image=image, subject="").order_by("-pushed_at", "-pk")[:SUGGESTED]
    rows = list(newest.values("pk", "digest", "platforms", "pushed_at"))
    named: dict[int, list[str]] = {}
    live = Tag.objects.live().filter(manifest__in=[row["pk"] for row in rows]).order_by("name")
    for manifest_id, name in live.values_list("manifest", "name"):
        named.setdefault(manifest_id, []).append(name)
    return [row | {"tags": ", ".join(named.get(row["pk"], [])[:5])} for row in rows]
