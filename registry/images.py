"""Images as a list: what there is to pull."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from django.db.models import F

from registry import access
from registry.models import Image

if TYPE_CHECKING:
    from accounts.actors import Actor


def names_after(actor: Actor, project: str, last: str, limit: int) -> list[str]:
    """Up to ``limit`` full paths of images that the actor may pull, in byte order.

    ``project`` "" means all projects. ``last`` is a path (within the project when there is one); it need not exist.
    """
    visible = access.visible(replace(actor, scope=None))  # a token for the catalog names no repository
    found = Image.objects.live().filter(path__gt=f"{project}/{last}" if project else last)
    if project:
        found = found.filter(path__lt=f"{project}0")  # "0" is what comes after "/"
    # "+ 0" keeps SQLite from collecting all images of the repositories first: it walks the index of paths in order and
    # stops at the limit.
    found = found.annotate(home=F("repository_id") + 0).filter(home__in=visible.values("pk"))
    return list(found.order_by("path").values_list("path", flat=True)[:limit])
