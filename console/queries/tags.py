"""Pages about tags: those that are deleted, and the history of all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Max, OuterRef, Q, Subquery, Sum
from django.utils import timezone

from console.queries import compare, images, scans
from console.queries.shared import listing
from registry import tag_rules
from registry.models import Image, Manifest, Tag, TagDay

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import QueryDict


HISTORY_SORTS = {"from": "-pk"}
PULL_DAYS = 7
SUGGESTED = 50


@dataclass(frozen=True, slots=True)
class Move:
    """What pointing a tag to another manifest changes. ``before``: the live tag; None if the tag is new.

    ``tags_before`` and ``tags_after``: the other tags of both manifests. ``pulls``: of the tag in the last PULL_DAYS
    days; ``pulled_at``: the last one that is counted. ``change``: None for a new tag.
    """

    tag: str
    before: Tag | None
    after: Manifest
    tags_before: list[str]
    tags_after: list[str]
    pulls: int
    pulled_at: datetime | None
    change: compare.Change | None

    @property
    def seen(self) -> str:
        """The digest that the tag points to; "" if there is no such tag."""
        return self.before.manifest.digest if self.before else ""

    @property
    def is_needed(self) -> bool:
        """Whether the tag points elsewhere, or nowhere."""
        return self.seen != self.after.digest

    @property
    def days(self) -> int:
        """The days of ``pulls``."""
        return PULL_DAYS


def move(image: Image, name: str, manifest: Manifest, platform: str = "") -> Move:
    """What pointing the tag to the manifest changes, in detail for one platform. At most nineteen queries."""
    before = Tag.objects.live().with_manifests().select_related("opened_by").filter(image=image, name=name).first()
    sides = [manifest] if before is None else [before.manifest, manifest]
    for side in sides:
        side.image = image
    scans.attach(sides)
    named: dict[int, list[str]] = {side.pk: [] for side in sides}
    live = Tag.objects.live().filter(image=image, manifest__in=sides).exclude(name=name).order_by("pk")
    for manifest_id, other in live.values_list("manifest", "name"):
        named[manifest_id].append(other)
    since = timezone.now().date() - timedelta(days=PULL_DAYS - 1)
    use = TagDay.objects.filter(image=image, tag=name, pulls__gt=0).aggregate(last=Max("pulled_at"))
    lately = TagDay.objects.filter(image=image, tag=name, day__gte=since).aggregate(pulls=Sum("pulls"))
    return Move(
        tag=name,
        before=before,
        after=manifest,
        tags_before=named[before.manifest_id] if before else [],
        tags_after=named[manifest.pk],
        pulls=lately["pulls"] or 0,
        pulled_at=use["last"],
        change=compare.what_changed(before.manifest, manifest, platform) if before else None,
    )


def newest(image: Image) -> list[Tag]:
    """The tags that moved or were added last, at most SUGGESTED. One query."""
    return list(Tag.objects.live().with_manifests().filter(image=image).order_by("-pk")[:SUGGESTED])


def chosen_tags(image: Image, names: list[str]) -> list[Any]:
    """The live tags of these names, with their digests and use. Two queries."""
    live = Tag.objects.live().filter(image=image, name__in=names)
    rows: list[Any] = list(live.with_manifests().order_by("natural_name", "name"))
    images.add_use(image, rows)
    return rows


def tag_history(image: Image, wanted: QueryDict, search: str, moment: datetime | None) -> dict[str, Any]:
    """Every digest that the tags of an image, or one, ever pointed to, the newest first. Three queries.

    ``moment``: the tags as of then instead, the greatest version first. Each row has ``before``, the digest that the
    tag pointed to before ("" or None: none or deleted), and ``is_restorable``: the tag could be pointed there again.
    """
    found = Tag.objects.filter(image=image)
    found = found.filter(name=search) if search else found.unattached()
    if moment:
        still = Q(ended_at=None) | Q(ended_at__gt=moment)
        found = found.filter(still, started_at__lte=moment)
    earlier = Tag.objects.filter(image=image, name=OuterRef("name"), pk__lt=OuterRef("pk"), manifest__deletion=None)
    before = Subquery(earlier.order_by("-pk").values("manifest__digest")[:1])
    related = found.with_manifests().select_related("opened_by", "closed_by").annotate(before=before)
    sorts = {"tags": "-natural_name"} if moment else HISTORY_SORTS
    page = listing.page(related, wanted, sorts, search=search, is_filtered=moment is not None)
    live = Tag.objects.live().filter(image=image, name__in={tag.name for tag in page.rows})
    now = dict(live.values_list("name", "manifest__digest"))
    rows: list[Any] = page.rows
    rules = tag_rules.effective(image.repository)
    for tag in rows:
        points_to = now.get(tag.name, "")
        may_move = not points_to or tag_rules.find(rules, tag.name).mode == tag_rules.Mode.MOVABLE
        tag.is_restorable = may_move and not tag.manifest.deletion_id and points_to != tag.manifest.digest
    return {"listing": page, "moment": moment, **images.counts(image)}
