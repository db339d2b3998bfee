"""What strangers may see of public repositories: names, descriptions, tags. Nothing about people, scans or use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q

from accounts.actors import ANONYMOUS
from console.queries.shared import listing
from registry import access, repositories
from registry.access import Action
from registry.models import Image, Repository, Tag
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.http import QueryDict


IMAGE_SORTS = {"pushed": "-pushed_at", "name": "path"}
TAG_SORTS = {"pushed": "-started_at", "name": "natural_name"}


def repository(project: str, name: str) -> Repository | None:
    """The live repository of this name if everybody may pull from it. One query, also for private and absent ones."""
    named = Repository.objects.named(ImageName(project, name, ""))
    return access.permitted(named, ANONYMOUS, Action.PULL).first()


def image(of: Repository, name: str) -> Image | None:
    """The live image of this name in a public repository. One query."""
    found = Image.objects.live().filter(repository=of, name=name).first()
    if found is not None:
        found.repository = of
    return found


def images(of: Repository, wanted: QueryDict) -> dict[str, Any]:
    """A page of the images of a public repository, each with the number of its tags; the readme. Three queries."""
    found, search = Image.objects.with_contents().filter(repository=of), wanted.get("q", "").strip()
    total = found.count()
    if search:
        found = found.filter(name__icontains=search)
    tags = Count("tags", filter=Q(tags__ended_at=None, tags__subject=""))
    page = listing.page(found.annotate(tag_count=tags), wanted, IMAGE_SORTS, search=search)
    return {"listing": page, "total": total, "readme": repositories.readme_of(of)}


def tags(of: Image, wanted: QueryDict) -> dict[str, Any]:
    """A page of the tags of a public image, with their digests; without attached tags. Two queries."""
    found, search = Tag.objects.live().filter(image=of).unattached(), wanted.get("q", "").strip()
    total = found.count()
    if search:
        found = found.filter(name__icontains=search)
    return {"listing": listing.page(found.with_manifests(), wanted, TAG_SORTS, search=search), "total": total}
