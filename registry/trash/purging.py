"""Purging: the end of what was deleted and not restored in time, of images that stayed empty, and the hold.

A purge deletes rows for good, a piece in a transaction; the next purge goes on with a deletion that it finds begun.
Locks: repository -> images by id -> deletion -> its parts, newest first -> reviews of blobs by id.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.actors import SYSTEM
from accounts.errors import Refusal
from registry import audit, blobs, errors, tag_rules, uploads
from registry.database.transactions import retried
from registry.failpoints import failpoint
from registry.models import (
    Blob,
    Deletion,
    Event,
    Image,
    Manifest,
    ManifestBlob,
    ManifestChild,
    Repository,
    Tag,
    UploadSession,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.actors import Actor

logger = logging.getLogger(__name__)

Action, Kind = Event.Action, Deletion.Kind
ROWS = 500  # deleted in one statement
IMAGES = 50  # purged in one transaction
POSTPONED = timedelta(days=1)


def hold(actor: Actor, deletion: Deletion, *, on: bool) -> None:
    """Set or clear the hold. A held deletion, and any deletion that contains it, is not purged. Raises RecoveryGone."""
    with transaction.atomic():
        current = Deletion.objects.select_for_update().filter(pk=deletion.pk, is_purging=False).first()
        if current is None or _wholes(current).filter(is_purging=True).exists():
            raise errors.RecoveryGone
        if current.hold != on:
            Deletion.objects.filter(pk=deletion.pk).update(hold=on)
            _record(actor, current, Action.DELETION_HOLD, hold=on)


@retried
def purge_now(actor: Actor, deletion: Deletion) -> None:
    """Purge a deletion before its time.

    Raises RecoveryGone; Denied (it or a part of it is held, or an index in Recovery names what it took).
    """
    _end_uploads(deletion.pk)
    with transaction.atomic():
        current = Deletion.objects.select_for_update().filter(pk=deletion.pk).first()
        if current is None:
            raise errors.RecoveryGone
        if current.hold:
            raise errors.Denied(_("%(deletion)s is held: end the hold first") % {"deletion": current})
        if not current.is_purging and (obstacle := _obstacle(current)):
            raise errors.Denied(obstacle)
        Deletion.objects.filter(pk=current.pk).update(purge_after=timezone.now())
        _record(actor, current, Action.DELETION_PURGE)
    _purge(current.pk)


def _wholes(deletion: Deletion) -> QuerySet[Deletion]:
    """The later deletions of the image and of the repository that this deletion was made in."""
    image = Image.objects.filter(pk=deletion.image_id or 0)
    repository = Repository.objects.filter(pk=deletion.repository_id or 0)
    whole = Q(pk__in=image.values("deletion")) | Q(pk__in=repository.values("deletion"))
    return Deletion.objects.filter(whole).exclude(pk=deletion.pk)


def _parts(deletion: Deletion) -> QuerySet[Deletion]:
    """The earlier deletions that were made in the image or repository that this one deleted."""
    images, repositories = Image.objects.filter(deletion=deletion), Repository.objects.filter(deletion=deletion)
    part = Q(image__in=images.values("pk")) | Q(repository__in=repositories.values("pk"))
    return Deletion.objects.filter(part).exclude(pk=deletion.pk)


def _record(actor: Actor, deletion: Deletion, action: Event.Action, **detail: Any) -> None:
    what: dict[str, Any] = {"kind": deletion.kind, "name": deletion.name}
    audit.record(actor, action, deletion.project, path=deletion.path, **what, **detail)


def purge(limit: int = 1000) -> int:
    """Purge up to ``limit`` deletions whose time is over, or whose purge has begun. Returns how many have ended."""
    due = Deletion.objects.filter(Q(is_purging=True) | Q(purge_after__lte=timezone.now(), hold=False))
    ended = 0
    for pk in list(due.order_by("pk").values_list("pk", flat=True)[:limit]):
        try:
            ended += _purge(pk)
        except (Refusal, IntegrityError):  # the next deletion may be purged all the same
            logger.exception("deletion %s could not be purged", pk)
    return ended


def sweep_images(limit: int = 1000) -> int:
    """Delete up to ``limit`` images that have been empty for the time of Recovery. Returns how many are gone.

    An image whose digests are still held or being purged stays until they are gone.
    """
    due = _empty_images(timezone.now()).order_by("pk").values_list("pk", flat=True)
    return sum(_sweep(pk) for pk in list(due[:limit]))


def _empty_images(now: datetime) -> QuerySet[Image]:
    manifests, deletions = (model.objects.filter(image=OuterRef("pk")) for model in (Manifest, Deletion))
    over = now - timedelta(days=settings.RECOVERY_DAYS)
    return Image.objects.live().filter(~Exists(manifests), ~Exists(deletions), emptied_at__lte=over)


@retried
def _sweep(image_id: int) -> bool:
    with transaction.atomic():
        found = _empty_images(timezone.now()).select_for_update(of=("self",)).filter(pk=image_id)
        image = found.select_related("repository__project").first()
        if image is None:
            return False
        audit.record(
            SYSTEM, Action.DELETION_PURGE, image.repository.project, path=image.path, kind=Kind.IMAGE.value, name=""
        )
        image.delete()
        return True


def _purge(deletion_id: int) -> bool:
    """Delete what the deletion took, a piece in a transaction; returns whether all of it is gone."""
    _end_uploads(deletion_id)
    while True:
        ended = _purge_piece(deletion_id)
        failpoint("purge.piece")
        if ended is not None:
            return ended


def _end_uploads(deletion_id: int) -> None:
    """Discard the unfinished uploads into a repository that this deletion took: they expired when it was deleted."""
    overdue = UploadSession.objects.overdue()
    for session in overdue.filter(repository__deletion=deletion_id):
        uploads.discard(session, among=overdue)


@retried
def _purge_piece(deletion_id: int) -> bool | None:
    """Delete one piece. Returns True if it was the last one, None if there are more, False if there may be no purge."""
    deletion = Deletion.objects.filter(pk=deletion_id).first()
    if deletion is None:
        return False
    with transaction.atomic():
        images = _locked_images(deletion)
        current = Deletion.objects.select_for_update().filter(pk=deletion_id).first()
        now = timezone.now()
        if current is None or not (current.is_purging or (current.purge_after <= now and not current.hold)):
            return False
        if not current.is_purging and _obstacle(current):
            Deletion.objects.filter(pk=deletion_id).update(purge_after=now + POSTPONED)
            return False
        Deletion.objects.filter(pk=deletion_id).update(is_purging=True)
        if current.kind in {Kind.REPOSITORY, Kind.IMAGE}:
            return _purge_images(current, images)
        _delete_manifests(current.project_id, Manifest.objects.filter(deletion=current))
        current.delete()  # sets Tag.deletion of closed tags to NULL
        return True


def _locked_images(deletion: Deletion) -> list[int]:
    """The ids of the next images to purge, or of the image that tags and digests were deleted from; all are locked."""
    if deletion.kind in {Kind.REPOSITORY, Kind.IMAGE}:
        repositories = Repository.objects.filter(deletion=deletion)
        list(repositories.select_for_update().order_by("pk").values_list("pk", flat=True))
        wanted = Image.objects.filter(Q(deletion=deletion) | Q(repository__deletion=deletion))
    else:
        wanted = Image.objects.filter(pk=deletion.image_id or 0)
    pieces = list(wanted.order_by("pk").values_list("pk", flat=True)[:IMAGES])
    rows = Image.objects.select_for_update().filter(pk__in=pieces).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def _obstacle(deletion: Deletion) -> str:
    """Why the deletion cannot be purged yet, for people; "" if it can be.

    Locks its parts, which are all older, so that none of them is held before this transaction ends.
    """
    if any(_parts(deletion).select_for_update(of=("self",)).order_by("-pk").values_list("hold", flat=True)):
        words = _("a part of %(deletion)s was deleted before it and is held: end that hold first")
        return words % {"deletion": deletion}
    parents = ManifestChild.objects.filter(child__deletion=deletion).exclude(parent__deletion=deletion)
    if parents.exists():
        words = _(
            "an index in Recovery refers to what %(deletion)s deleted: recover the index, or delete it for good first"
        )
        return words % {"deletion": deletion}
    if UploadSession.objects.filter(repository__deletion=deletion, state=UploadSession.State.OPEN).exists():
        words = _("an upload into %(deletion)s has not ended yet: try again in a little while")
        return words % {"deletion": deletion}
    return ""


def _purge_images(deletion: Deletion, images: Sequence[int]) -> bool | None:
    """Delete these images with the earlier deletions in them; with the last images, the repository as well.

    Returns what ``_purge_piece`` returns.
    """
    if images:
        within = Deletion.objects.select_for_update(of=("self",)).filter(image__in=images).exclude(pk=deletion.pk)
        others = list(within.order_by("-pk").values_list("pk", flat=True))
        _delete_manifests(deletion.project_id, Manifest.objects.filter(image__in=images))
        Image.objects.filter(pk__in=images).delete()
        own = Manifest.objects.filter(deletion=OuterRef("pk")), Image.objects.filter(deletion=OuterRef("pk"))
        Deletion.objects.filter(~Exists(own[0]), ~Exists(own[1]), pk__in=others).delete()
        if Image.objects.filter(Q(deletion=deletion) | Q(repository__deletion=deletion)).exists():
            return None
    for repository in Repository.objects.filter(deletion=deletion):
        leased = Blob.objects.filter(
            leases__repository=repository
        ).lock_for_share()  # the collector may be deleting some now
        blobs.review(list(leased.values_list("pk", flat=True)), timezone.now(), deletion.project_id)
        repository.delete()
    Deletion.objects.filter(pk=deletion.pk).delete()
    return True


def _delete_manifests(project_id: int, manifests: QuerySet[Manifest]) -> None:
    """Delete manifests with their references and with all tags that name or named them. Their blobs are reviewed."""
    pks = list(manifests.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(pks), ROWS):
        some = pks[start : start + ROWS]
        references = ManifestBlob.objects.filter(manifest__in=some)
        named = sorted(set(references.values_list("blob", flat=True)))
        references.delete()
        blobs.review(named, timezone.now(), project_id)
    for start in range(0, len(pks), ROWS):
        ManifestChild.objects.filter(parent__in=pks[start : start + ROWS]).delete()
    for start in range(0, len(pks), ROWS):
        some = pks[start : start + ROWS]
        tags = Tag.objects.filter(manifest__in=some)
        tag_rules.remember(tags)
        tags.delete()
        Manifest.objects.without_content().filter(pk__in=some).delete()
