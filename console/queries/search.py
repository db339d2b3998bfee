"""Search over everything that somebody may see: repositories, images, tags, digests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import F

from console.queries import frame
from registry import access
from registry.access import Action
from registry.models import Image, Manifest, Repository, Tag
from registry.oci import digests

if TYPE_CHECKING:
    from accounts.actors import Actor

SHOWN = 25
LEAST = 2


@dataclass(slots=True)
class Found:
    """What matched, at most SHOWN of each kind."""

    repositories: list[Repository] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing matched."""
        return not (self.repositories or self.images or self.tags or self.manifests)


def search(actor: Actor, words: str) -> Found:
    """Look for ``words`` in names; for the beginning of a digest; ``image:tag`` for a tag of an image.

    Only the projects whose pages the actor may see are looked at. Four queries.
    """
    found = Found()
    if len(words) < LEAST:
        return found
    repositories = access.visible(actor, Action.VIEW).filter(project__in=frame.projects_of(actor))
    reach = repositories.values("pk")
    image_words, _, tag_words = words.rpartition(":")
    live = Image.objects.live().filter(repository__in=reach).select_related("repository__project")
    if digests.is_digest(words) or _looks_like_digest(words):
        wanted = words if ":" in words else f"sha256:{words}"
        # "g" comes after every hexadecimal digit: a range uses the index in every database, a pattern does not.
        manifests = Manifest.objects.live().filter(digest__gte=wanted, digest__lt=f"{wanted}g", image__deletion=None)
        found.manifests = list(
            _in_reach(manifests, reach).defer("content").select_related("image__repository__project")[:SHOWN]
        )
        return found
    if image_words:
        tags = Tag.objects.live().filter(name__startswith=tag_words, image__path__icontains=image_words)
        found.tags = list(_in_reach(tags, reach).select_related("image__repository__project", "manifest")[:SHOWN])
        return found
    found.repositories = list(
        repositories.filter(name__icontains=words).select_related("project").order_by("name")[:SHOWN]
    )
    found.images = list(live.filter(path__icontains=words).order_by("path")[:SHOWN])
    tags = Tag.objects.live().filter(name=words, image__deletion=None)
    found.tags = list(
        _in_reach(tags, reach).select_related("image__repository__project", "manifest").order_by("-started_at")[:SHOWN]
    )
    return found


def _looks_like_digest(words: str) -> bool:
    return len(words) >= 6 and all(letter in "0123456789abcdef" for letter in words)


def _in_reach(rows: Any, reach: Any) -> Any:
    return rows.annotate(home=F("image__repository")).filter(home__in=reach)
