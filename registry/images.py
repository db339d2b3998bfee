"""Images as a list: what there is to pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry import access
from registry.models import Image

if TYPE_CHECKING:
    from accounts.actors import Actor


def names_after(actor: Actor, project: str, last: str, limit: int) -> list[str]:
    """Up to ``limit`` full paths of images that the actor may pull, in byte order.

    ``project`` "" means all projects. ``last`` is a path (within the project when there is one); it need not exist.
    """
    found = Image.objects.live().filter(path__gt=f"{project}/{last}" if project else last)
    if project:
        found = found.filter(repository__project__name=project)
    permitted = access.permitted(found, actor, access.Action.PULL, "repository")
    return list(permitted.order_by("path").values_list("path", flat=True)[:limit])
