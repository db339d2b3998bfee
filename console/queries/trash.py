"""The page Recovery: deletions that can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.queries.shared import listing
from registry import trash
from registry.models import Deletion

if TYPE_CHECKING:
    from django.http import QueryDict

    from accounts.models import Project
    from registry.models import Image, Repository


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
