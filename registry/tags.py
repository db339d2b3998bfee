"""Tags: named, moved, deleted, listed. Each meaning of a tag is a row of its own. Lock the Image row first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry import access, errors, history, quotas
from registry.models import Deletion, Event, Image, Manifest, Tag

if TYPE_CHECKING:
    from accounts.actors import Actor
    from registry.oci.names import ImageName


def names_after(actor: Actor, name: ImageName, last: str, limit: int) -> list[str]:
    """Up to ``limit`` tags of an image in byte order after ``last``, for an actor who may pull it. Two queries.

    Raises NameUnknown, and what ``access.require`` raises.
    """
    images = Image.objects.live().filter(path=str(name))
    image = access.permitted(images, actor, access.Action.PULL, "repository").first()
    if image is None:
        access.require(actor, access.Action.PULL, name)
        raise errors.NameUnknown(f"nothing has been pushed to {name} yet")
    return Tag.objects.names_after(image, last, limit)


def point(actor: Actor, image: Image, name: str, manifest: Manifest) -> bool:
    """Let a tag of the (locked) image name this manifest; returns whether anything changed.

    Raises Denied: the repository allows no overwriting, or the image is full.
    """
    current = Tag.objects.live().select_related("manifest").filter(image=image, name=name).first()
    if current is not None and current.manifest_id == manifest.pk:
        return False
    if current is None:
        quotas.check_tags(image)
        event = history.record(actor, Event.Action.TAG_ADD, image, tag=name, digest=manifest.digest)
    elif not image.repository.tag_overwrite:
        raise errors.Denied(
            f"{image.path}:{name} exists, and {image.repository} does not allow tags to be overwritten:"
            " push another tag, or allow it in the repository's settings"
        )
    else:
        before = current.manifest.digest
        event = history.record(actor, Event.Action.TAG_MOVE, image, tag=name, digest=manifest.digest, before=before)
        _close(current, event)
    Tag.objects.create(image=image, name=name, manifest=manifest, started_at=event.at, opened_by=event)
    return True


def delete(actor: Actor, image: Image, name: str) -> Deletion:
    """Delete one tag of the (locked) image; what it named stays, and so do its other tags. Raises ManifestUnknown."""
    current = Tag.objects.live().select_related("manifest").filter(image=image, name=name).first()
    if current is None:
        raise errors.ManifestUnknown(f"{image.path} has no tag {name}")
    event = history.record(actor, Event.Action.TAG_DELETE, image, tag=name, digest=current.manifest.digest)
    _close(current, event, history.open_deletion(Deletion.Kind.TAG, name, event))
    assert current.deletion is not None
    return current.deletion


def _close(tag: Tag, event: Event, deletion: Deletion | None = None) -> None:
    tag.ended_at, tag.closed_by, tag.deletion = event.at, event, deletion
    tag.save(update_fields=["ended_at", "closed_by", "deletion"])
