"""Tags: find, list, point and close. Each version of a tag has its own row. Lock the row of the Image first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import BigIntegerField, DateTimeField, TextField
from django.utils import timezone
from django.utils.translation import gettext as _

from registry import access, audit, errors, quotas, tag_rules
from registry.database.batches import in_batches
from registry.database.prepared import ListOf, PreparedInsert, prepare_models, prepare_update
from registry.models import Deletion, Event, Image, Manifest, Tag
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from registry.oci.names import ImageName


ROWS = 200  # written in one statement


@dataclass(frozen=True, slots=True)
class Past:
    """A tag as of a moment (UTC), as ``docker pull app:stable--at-20260901t1200z`` asks for it."""

    tag: str
    moment: datetime


def past(reference: str) -> Past | None:
    """Parse a reference such as ``stable--at-20260901t1200z``; None for other references and for future times."""
    try:
        found = names.past_tag(reference)
    except names.InvalidName:
        return None
    return Past(*found) if found and found[1] <= timezone.now() else None


def unknown(name: ImageName, reference: str) -> errors.ManifestUnknown:
    """Return the error for a reference that was not found. It reveals deletions: only for actors who may pull."""
    try:
        asked = names.past_tag(reference)
    except names.InvalidName as error:
        return errors.ManifestUnknown(str(error))
    if asked is None:
        return errors.ManifestUnknown(f"{name} has no tag {reference}")
    tag, moment = asked
    when = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    if moment > timezone.now():
        return errors.ManifestUnknown(f"{when} is in the future")
    image = Image.objects.live().filter(path=str(name)).first()
    version = Tag.objects.select_related("manifest__deletion").as_of(image, tag, moment) if image else None
    if version is None:
        return errors.ManifestUnknown(f"{name} had no tag {tag} at {when}, or its digest was purged")
    digest, deletion = version.manifest.digest, version.manifest.deletion
    if deletion is None:
        return errors.ManifestUnknown(f"{name}:{tag} named {digest} at {when}: pull that")
    return errors.ManifestUnknown(
        f"{name}:{tag} named {digest} at {when}, which was deleted: it is in Recovery"
        f" until {deletion.purge_after:%Y-%m-%d %H:%M} UTC"
    )


def permitted_names(actor: Actor, name: ImageName, last: str, limit: int) -> list[str]:
    """Up to ``limit`` tags of an image in byte order after ``last``, if the actor may pull the image. Two queries.

    Raises NameUnknown, and what ``access.require`` raises.
    """
    images = Image.objects.at(str(name))
    image = access.permitted(images, actor, access.Action.PULL, "repository").first()
    if image is None:
        access.require(actor, access.Action.PULL, name)
        raise errors.NameUnknown(f"nothing has been pushed to {name} yet")
    return Tag.objects.names_after(image, last, limit)


def point(
    actor: Actor,
    image: Image,
    name: str,
    manifest: Manifest,
    *,
    added: Event.Action = Event.Action.TAG_ADD,
    undoes: Collection[int] = (),
) -> bool:
    """Point a tag of the (locked) image to this manifest. Return False if it already did.

    ``added``: the action of the event if the tag is new. ``undoes``: see ``audit.record``.

    Raises Denied (a rule of the tags does not allow it, or the image has its quota of tags), Unsupported (a new tag has
    the form tag--at-time; existing tags of that form can be moved).
    """
    current = Tag.objects.live().with_manifests().filter(image=image, name=name).first()
    if current is not None and current.manifest_id == manifest.pk:
        return False
    _point(actor, image, name, manifest, current, added, undoes=undoes)
    return True


def current(image: Image, wanted: Collection[str]) -> dict[str, Tag]:
    """The live tags of these names with their manifests, for ``push``. One query; none without names."""
    return {tag.name: tag for tag in _current.all(image=image.pk, wanted=wanted)} if wanted else {}


@prepare_models(Tag, image=BigIntegerField(), wanted=ListOf(TextField()))
def _current(actor: Actor, image: Any, wanted: Any) -> QuerySet[Tag]:
    return Tag.objects.live().with_manifests().filter(image=image, name__in=wanted)


def push(actor: Actor, image: Image, name: str, manifest: Manifest, current: Tag | None) -> None:
    """Point a tag of the (locked) image to the manifest that was pushed under it. ``current``: from ``current``.

    If it already names the manifest, the time of the push is noted. The event has the media type of the manifest: by
    that a reader tells a push from ``point``. Raises what ``point`` raises.
    """
    if current is None or current.manifest_id != manifest.pk:
        _point(actor, image, name, manifest, current, media_type=manifest.media_type)
        return
    _note_push.run(tag=current.pk, moment=max(timezone.now(), current.pushed_at))
    audit.record(actor, Event.Action.TAG_PUSH, image, tag=name, digest=manifest.digest, media_type=manifest.media_type)


@prepare_update(tag=BigIntegerField(), moment=DateTimeField())
def _note_push(tag: Any, moment: Any) -> tuple[QuerySet[Tag], dict[str, Any]]:
    return Tag.objects.filter(pk=tag), {"pushed_at": moment}


def _point(
    actor: Actor,
    image: Image,
    name: str,
    manifest: Manifest,
    current: Tag | None,
    added: Event.Action = Event.Action.TAG_ADD,
    **detail: Any,
) -> None:
    if current is None and names.is_past_tag(name):
        raise errors.Unsupported(
            _("the tag %(tag)s names the past of a tag, and cannot be pushed: choose one without --at- and a time")
            % {"tag": name}
        )
    tag_rules.check_point(actor, image, name, manifest, current)
    if current is None:
        quotas.check_tags(image, name, manifest)
        event = audit.record(actor, added, image, tag=name, digest=manifest.digest, **detail)
    else:
        before = current.manifest.digest
        event = audit.record(
            actor, Event.Action.TAG_MOVE, image, tag=name, digest=manifest.digest, before=before, **detail
        )
        close(current, event)
    # Clocks of several machines differ: a version of a tag never begins before the one that it follows.
    started_at = max(event.at, current.started_at) if current else event.at
    _insert_tag.run(
        Tag(image=image, name=name, manifest=manifest, started_at=started_at, pushed_at=started_at, opened_by=event)
    )


_insert_tag = PreparedInsert(Tag)


def live(image: Image, wanted: Sequence[str]) -> list[Tag]:
    """The live tags of these names, in this order. Raises ManifestUnknown."""
    current = Tag.objects.live().with_manifests().filter(image=image)
    found = {tag.name: tag for some in in_batches(wanted, ROWS) for tag in current.filter(name__in=some)}
    for name in wanted:
        if name not in found:
            raise errors.ManifestUnknown(_("%(image)s has no tag %(tag)s") % {"image": image.path, "tag": name})
    return [found[name] for name in wanted]


def close(tag: Tag, event: Event, deletion: Deletion | None = None) -> None:
    """Close a live tag of the (locked) image. ``deletion``: the one that took it; None if the tag moves."""
    _end(tag, event, deletion)
    _close.run(tag=tag.pk, moment=tag.ended_at, event=event.pk, deletion=deletion.pk if deletion else None)


@prepare_update(tag=BigIntegerField(), moment=DateTimeField(), event=BigIntegerField(), deletion=BigIntegerField())
def _close(tag: Any, moment: Any, event: Any, deletion: Any) -> tuple[QuerySet[Tag], dict[str, Any]]:
    return Tag.objects.filter(pk=tag), {"ended_at": moment, "closed_by": event, "deletion": deletion}


def close_all(ended: Sequence[tuple[Tag, Event]], deletion: Deletion | None = None) -> None:
    """Close live tags of the (locked) image, each with its event. One statement for ROWS of them."""
    for tag, event in ended:
        _end(tag, event, deletion)
    Tag.objects.bulk_update([tag for tag, _ in ended], ["ended_at", "closed_by", "deletion"], batch_size=ROWS)


def _end(tag: Tag, event: Event, deletion: Deletion | None) -> None:
    tag.ended_at, tag.closed_by, tag.deletion = max(event.at, tag.started_at), event, deletion
