"""Pages about tags: those that are deleted, and the history of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.queries import images
from console.queries.shared import listing
from registry.models import Image, Tag

if TYPE_CHECKING:
    from django.http import QueryDict


HISTORY_SORTS = {"from": "-pk"}


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
        tag.means_now = now.get(tag.name, "")
    return {"listing": page, "tag": search, **images.counts(image)}
