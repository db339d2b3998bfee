"""The page Recovery: deletions that can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.queries.shared import listing
from registry import trash
from registry.models import Deletion, Image, Repository, Tag
from registry.oci import digests

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.models import Project


def deletions(project: Project, repository: Repository | None, image: Image | None, asked: QueryDict) -> dict[str, Any]:
    """A page of what can be recovered."""
    found = trash.listed(project, repository=repository, image=image)
    kind = asked.get("kind", "")
    if kind in Deletion.Kind.values:
        found = found.filter(kind=kind)
    if search := asked.get("q", "").strip():
        found = found.filter(path__icontains=search)
    return {
        "listing": listing.page(
            found, asked, {"deleted": "-pk"}, search=search, is_filtered=kind in Deletion.Kind.values
        ),
        "kind": kind,
        "kinds": Deletion.Kind,
        "purging": Deletion.objects.filter(project=project, is_purging=True).count(),
    }


def deletion_of(project: Project, repository: str, image: str = "", reference: str = "") -> Deletion | None:
    """The deletion that took a repository, an image, or a tag or digest; None if it is live or cannot be restored.

    If the image or repository that holds it is deleted, the deletion is that of the image or repository. At most four
    queries.
    """
    restorable = trash.listed(project)
    of_repository = Repository.objects.filter(project=project, name=repository)
    if not of_repository.live().exists():
        return restorable.filter(kind=Deletion.Kind.REPOSITORY, repository__in=of_repository.values("pk")).first()
    path = f"{project.name}/{repository}/{image}"
    if not image:
        return None
    found = Image.objects.live().filter(path=path).first()
    if found is None:
        return restorable.filter(kind=Deletion.Kind.IMAGE, path=path).first()
    if not reference:
        return None
    if digests.is_digest(reference):
        return restorable.filter(manifests__image=found, manifests__digest=reference).first()
    if Tag.objects.live().filter(image=found, name=reference).exists():
        return None
    return restorable.filter(tags__image=found, tags__name=reference).first()
