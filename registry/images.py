"""Images: settings (description, expiry), list of names. Deletion is in ``registry.trash``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import transaction
from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Subquery,
    Sum,
    TextField,
    When,
)
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from registry import access, audit, edits, quotas
from registry.database.locks import lock_row_for_share
from registry.database.prepared import as_moment, prepare
from registry.errors import Denied, NameInvalid, NameUnknown
from registry.models import Event, Image, ProjectUsage, Repository

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import QuerySet

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
    """Change the description or the expiry (SETTINGS) of a live image; return whether anything changed.

    Records one event with the settings before and after; times are ISO 8601. ``seen``: the settings on the submitted
    page. Raises NameUnknown (the image is deleted), NameInvalid, Changed (the settings differ from ``seen``).
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


def check_expiry(image: Image) -> None:
    """Raises Denied when the image has expired."""
    if image.is_expired:
        raise Denied(
            _("%(image)s expired on %(day)s: it is not pulled or pushed any more")
            % {"image": image.path, "day": f"{image.expires_at:%Y-%m-%d}"}
        )


def check_push(repository: Repository, name: str) -> None:
    """Lock the repository, and refuse an upload whose manifest would be refused. One query on SQLite.

    Raises NameUnknown (the repository is deleted), Denied (the image has expired, it is new or empty and the repository
    has its quota of images, or a quota of bytes is full). The push of the manifest checks again, under the lock that
    makes it exact.
    """
    path = f"{repository}/{name}"
    lock_row_for_share(Repository, repository.pk)
    found = _found_by_push.first(repository=repository.pk, path=path)
    if found is None:
        raise NameUnknown
    expires_at = as_moment(found.expires_at) if found.expires_at else None
    check_expiry(Image(path=path, expires_at=expires_at))
    if found.images_if_new is not None:
        quotas.check_images(repository, found.images_if_new)
    quotas.check_room(repository.project, found.size or 0, found.size_limit)
    quotas.check_room(found.organization, found.organization_size or 0, found.organization_limit)


class _FoundByPush(NamedTuple):
    """The expiry of the image, and the number of images of the repository if this one would be one more.

    And the bytes that project and organization stored at the last measurement (of the organization: if it has a limit).
    """

    expires_at: Any
    images_if_new: int | None
    size: int | None
    size_limit: int | None
    organization: str
    organization_size: int | None
    organization_limit: int | None


@prepare(_FoundByPush, repository=BigIntegerField(), path=TextField())
def _found_by_push(actor: Actor, repository: Any, path: Any) -> QuerySet[Any, Any]:
    image = Image.objects.live().filter(path=path)
    all_images = Image.objects.with_contents().filter(repository=OuterRef("pk")).order_by().values("repository")
    projects = ProjectUsage.objects.filter(project__organization=OuterRef("project__organization")).order_by()
    whole = projects.values("project__organization").annotate(total=Sum("size")).values("total")
    is_limited = When(project__organization__size_limit__isnull=False, then=Subquery(whole))
    number = Coalesce(Subquery(all_images.annotate(number=Count("pk")).values("number")), 0)
    return (
        Repository.objects.live()
        .filter(pk=repository)
        .values_list(
            Subquery(image.values("expires_at")[:1]),
            Case(When(Exists(image.filter(emptied_at=None)), then=None), default=number, output_field=IntegerField()),
            F("project__usage__size"),
            F("project__size_limit"),
            F("project__organization__name"),
            Case(is_limited, default=None, output_field=BigIntegerField()),
            F("project__organization__size_limit"),
        )
    )


def in_json(value: str | datetime | None) -> str | None:
    """Return a setting as JSON of an event: times as ISO 8601 in UTC."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def permitted_paths(actor: Actor, project: str, last: str, limit: int) -> list[str]:
    """Up to ``limit`` full paths of images that the actor may pull, in byte order.

    ``project`` "" means all projects. ``last``: a path, relative to the project if given; it need not exist.
    """
    # A token for the catalog names no repository: the actor's scope does not count.
    home = Repository.objects.filter(pk=OuterRef("repository"))
    visible = access.permitted(home, replace(actor, scope=None), access.Action.PULL)
    found = Image.objects.with_contents().filter(path__gt=f"{project}/{last}" if project else last)
    if project:
        found = found.filter(path__lt=f"{project}0")  # "0" follows "/" in ASCII
    # Asked for each image in the order of paths, up to the limit. A list of visible repositories would grow with them.
    found = found.filter(Exists(visible))
    return list(found.order_by("path").values_list("path", flat=True)[:limit])
