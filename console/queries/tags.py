"""Pages about tags: those that are deleted, and the history of all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Max, Sum
from django.utils import timezone

from console.queries import images, scans
from console.queries.shared import listing
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
    days; ``pulled_at``: the last one that is counted.
    """

    tag: str
    before: Tag | None
    after: Manifest
    tags_before: list[str]
    tags_after: list[str]
    pulls: int
    pulled_at: datetime | None

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

    @property
    def size_change(self) -> int:
        """Bytes that the tag's image grows by; negative if it shrinks."""
        return self.after.total_size - self.before.manifest.total_size if self.before else 0


def move(image: Image, name: str, manifest: Manifest) -> Move:
    """What pointing the tag to the manifest changes. At most six queries."""
    before = Tag.objects.live().with_manifests().select_related("opened_by").filter(image=image, name=name).first()
    sides = [manifest] if before is None else [before.manifest, manifest]
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
    )


def newest(image: Image) -> list[Tag]:
    """The tags that moved or were added last, at most SUGGESTED. One query."""
    return list(Tag.objects.live().with_manifests().filter(image=image).order_by("-pk")[:SUGGESTED])


def chosen_tags(image: Image, names: list[str]) -> list[Any]:
    """The live tags of these names, with their digests and use. Two queries."""
    live = Tag.objects.live().filter(image=image, name__in=names)
    rows: list[Any] = list(live.with_manifests().order_by("name"))
    images.add_use(image, rows)
    return rows


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
        points_to = now.get(tag.name, "")
        may_move = not points_to or image.repository.tag_overwrite
        tag.is_restorable = may_move and not tag.manifest.deletion_id and points_to != tag.manifest.digest
    return {"listing": page, "tag": search, **images.counts(image)}
