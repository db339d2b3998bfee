"""Images: their settings, and the list of those that a user may pull. Deletion is in ``registry.trash``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from registry import access, audit, edits
from registry.errors import NameInvalid, NameUnknown
from registry.models import Event, Image, Repository

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actors import Actor

MAX_DESCRIPTION = 100
SETTINGS = ("description", "expires_at")


def update(
    actor: Actor,
    image: Image,
    *,
    seen: dict[str, Any] | None = None,
    undoes: Collection[int] = (),
    **wanted: str | datetime | None,
) -> bool:
    """Change the description or the expiry (SETTINGS) of a live image; returns whether anything changed.

    One event has before and after; moments are ISO 8601 there. ``seen``: the settings that the person was looking at.
    Raises NameUnknown (it is deleted), NameInvalid, Changed (it is not what was seen).
    """
    if unknown := wanted.keys() - set(SETTINGS):
        raise TypeError(f"an image has no setting {', '.join(sorted(unknown))}")
    if len(str(wanted.get("description", ""))) > MAX_DESCRIPTION:
        raise NameInvalid(_("a description has at most %(count)s characters") % {"count": MAX_DESCRIPTION})
    with transaction.atomic():
        live = Image.objects.live().select_related("repository")
        locked = live.select_for_update(of=("self",), no_key=True).filter(pk=image.pk).first()
        if locked is None:
            raise NameUnknown(_("there is no image %(image)s any more") % {"image": image})
        of_settings = (Event.Action.IMAGE_UPDATE, Event.Action.EXPIRY_CHANGE)
        past = Event.objects.filter(image=locked, action__in=of_settings)
        before, after = edits.alter(locked, wanted, seen, past)
        if not after:
            return False
        locked.save(update_fields=list(after))
        audit.record(
            actor,
            Event.Action.EXPIRY_CHANGE if "expires_at" in after else Event.Action.IMAGE_UPDATE,
            locked,
            before={name: in_json(value) for name, value in before.items()},
            after={name: in_json(value) for name, value in after.items()},
            undoes=undoes,
        )
    for name, value in after.items():
        setattr(image, name, value)
    return True


def in_json(value: str | datetime | None) -> str | None:
    """A setting as events write it."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def permitted_paths(actor: Actor, project: str, last: str, limit: int) -> list[str]:
    """Up to ``limit`` full paths of images that the actor may pull, in byte order.

    ``project`` "" means all projects. ``last`` is a path (within the project when there is one); it need not exist.
    """
    # A token for the catalog names no repository: the actor's scope does not count.
    visible = access.permitted(Repository.objects.all(), replace(actor, scope=None), access.Action.PULL)
    found = Image.objects.live().filter(path__gt=f"{project}/{last}" if project else last)
    if project:
        found = found.filter(path__lt=f"{project}0")  # "0" is what comes after "/"
    # "+ 0" keeps SQLite from collecting all images of the repositories first: it walks the index of paths in order and
    # stops at the limit.
    found = found.annotate(home=F("repository_id") + 0).filter(home__in=visible.values("pk"))
    return list(found.order_by("path").values_list("path", flat=True)[:limit])
