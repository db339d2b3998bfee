"""Images: listed, described, given an end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from registry import access, errors, history
from registry.models import Event, Image

if TYPE_CHECKING:
    from accounts.actors import Actor

MAX_DESCRIPTION = 100


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


def update(
    actor: Actor, image: Image, *, description: str, expires_at: datetime | None, seen_at: datetime | None = None
) -> bool:
    """Describe the image and set the moment from which it is not pushed or pulled any more; whether anything changed.

    ``seen_at``: ``updated_at`` of the image that the person was looking at. Raises Changed when it is another by now,
    NameInvalid (the description is too long), ManifestUnknown (it was deleted meanwhile).
    """
    if len(description) > MAX_DESCRIPTION:
        raise errors.NameInvalid(f"a description has at most {MAX_DESCRIPTION} characters")
    with transaction.atomic():
        locked = Image.objects.live().select_for_update(no_key=True, of=("self",)).select_related("repository__project")
        current = locked.filter(pk=image.pk).first()
        if current is None:
            raise errors.ManifestUnknown(f"{image} has been deleted meanwhile")
        before = {"description": current.description, "expires_at": current.expires_at}
        after = {"description": description, "expires_at": expires_at}
        if before == after:
            return False
        if seen_at and current.updated_at != seen_at:
            raise errors.Changed(f"{current} was changed meanwhile")
        current.description, current.expires_at, current.updated_at = description, expires_at, timezone.now()
        current.save(update_fields=["description", "expires_at", "updated_at"])
        action = Event.Action.EXPIRY_CHANGE if before["expires_at"] != expires_at else Event.Action.IMAGE_UPDATE
        history.record(actor, action, current, before=_in_words(before), after=_in_words(after))
    return True


def _in_words(values: dict[str, Any]) -> dict[str, str]:
    return {name: value.isoformat() if isinstance(value, datetime) else value or "" for name, value in values.items()}
