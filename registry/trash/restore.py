"""Recovery: what was deleted comes back, or is gone for good after its time. See docs/design/storage.md.

Each Deletion is one act; it comes back whole or not at all, in a transaction of its own. Locks: project or repository
-> images by id -> deletion -> its parts, newest first -> reviews of blobs by id.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Project
from registry import audit, blobs, errors, quotas, tags, uploads
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
from registry.signals import manifests_recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django.db.models import QuerySet

    from accounts.actors import Actor

logger = logging.getLogger(__name__)

Action, Kind = Event.Action, Deletion.Kind
ROWS = 500  # made or purged in one statement
IMAGES = 50  # purged in one transaction
POSTPONED = timedelta(days=1)
# What an act needs first: its repository, then its image.
_ORDER = {Kind.REPOSITORY: 0, Kind.IMAGE: 1, Kind.MANIFEST: 2, Kind.TAG: 3}


@dataclass(frozen=True, slots=True)
class Left:
    """A tag whose name means something else by now: it was not recovered."""

    path: str
    tag: str
    digest: str


@dataclass(slots=True)
class Restored:
    """What came back. ``left``: tags whose names are in use. ``refused``: acts that did not come back, and why."""

    deletions: list[Deletion] = field(default_factory=list)
    tags: int = 0
    left: list[Left] = field(default_factory=list)
    refused: list[tuple[Deletion, str]] = field(default_factory=list)


def listed(project: Project, *, repository: Repository | None = None, image: Image | None = None) -> QuerySet[Deletion]:
    """The acts that can be brought back, of a project, or of a live repository or image in it; newest first."""
    found = Deletion.objects.filter(project=project, is_purging=False).filter(_in_time()).select_related("event")
    if image is not None:
        found = found.filter(event__image=image)
    elif repository is not None:
        found = found.filter(event__repository=repository)
    return found.order_by("-pk")


def _in_time() -> Q:
    return Q(purge_after__gt=timezone.now()) | Q(hold=True)


def restore(actor: Actor, deletion_ids: Iterable[int], *, replace_tags: bool = False) -> Restored:
    """Bring acts back, each whole.

    A tag whose name is in use is left out and reported, and an act of nothing else stays in Recovery; with
    ``replace_tags`` it is moved back, if the repository allows that. Of several acts, those that cannot come back are
    in ``refused``; a single one raises: RecoveryGone (it was recovered or purged meanwhile, or its time is over),
    NameTaken, Denied (a quota is full, no tag overwrite), NameUnknown (what it was in is deleted).
    """
    wanted = list(dict.fromkeys(deletion_ids))
    found = Deletion.objects.in_bulk(wanted)
    if missing := [pk for pk in wanted if pk not in found]:
        raise errors.RecoveryGone(detail={"deletions": missing})
    result = Restored()
    for deletion in sorted(found.values(), key=lambda each: (_ORDER[Kind(each.kind)], each.pk)):
        try:
            _restore(actor, deletion, result, replace_tags=replace_tags)
        except errors.RegistryError as error:
            if len(wanted) == 1:
                raise
            result.refused.append((deletion, error.message))
    return result


@retried
def _restore(actor: Actor, deletion: Deletion, result: Restored, *, replace_tags: bool) -> None:
    in_image = partial(_restore_in_image, replace_tags=replace_tags)
    work: Callable[[Actor, Deletion], tuple[int, list[Left]]]
    work = {Kind.REPOSITORY.value: _restore_repository, Kind.IMAGE.value: _restore_image}.get(deletion.kind, in_image)
    with transaction.atomic():
        recovered, left = work(actor, deletion)
        is_left = bool(left) and deletion.kind == Kind.TAG and not recovered  # nothing came back: it can still, later
        failpoint("restore.before_commit")
        if not is_left:
            Deletion.objects.filter(pk=deletion.pk).delete()
    if not is_left:
        result.deletions.append(deletion)
    result.tags += recovered
    result.left += left


def _lock(deletion: Deletion) -> None:
    """The act's row, locked, after everything that it is in. Raises RecoveryGone."""
    current = Deletion.objects.select_for_update().filter(pk=deletion.pk).first()
    if current is None:
        raise errors.RecoveryGone
    if current.is_purging:
        raise errors.RecoveryGone(_("%(deletion)s is being deleted for good at this moment") % {"deletion": current})
    if current.purge_after <= timezone.now() and not current.hold:
        raise errors.RecoveryGone(
            _("%(deletion)s could be recovered until %(end)s UTC only")
            % {"deletion": current, "end": f"{current.purge_after:%Y-%m-%d %H:%M}"}
        )


def _restore_repository(actor: Actor, deletion: Deletion) -> tuple[int, list[Left]]:
    Project.objects.select_for_update(no_key=True).get(pk=deletion.project_id)
    locked = Repository.objects.select_for_update(of=("self",)).select_related("project")
    repository = locked.filter(deletion=deletion).first()
    if repository is None:
        raise errors.RecoveryGone
    images = Image.objects.filter(repository=repository, deletion=deletion)
    list(images.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    _lock(deletion)
    if Repository.objects.live().filter(project=repository.project, name=repository.name).exists():
        raise errors.NameTaken(
            _("there is a repository %(repository)s again: delete that one first, it can be recovered too")
            % {"repository": repository}
        )
    quotas.check_repositories(repository.project)
    event = audit.record(actor, Action.REPOSITORY_RECOVER, repository)
    Repository.objects.filter(pk=repository.pk).update(deletion=None)
    images.update(deletion=None)
    _bring_back(actor, Manifest.objects.filter(deletion=deletion))
    return _reopen(Tag.objects.filter(deletion=deletion), event), []


def _restore_image(actor: Actor, deletion: Deletion) -> tuple[int, list[Left]]:
    image = Image.objects.select_related("repository__project").filter(deletion=deletion).first()
    if image is None:
        raise errors.RecoveryGone
    repository = Repository.objects.live().select_for_update(no_key=True).filter(pk=image.repository_id).first()
    if repository is None:
        raise errors.NameUnknown(
            _("the repository %(repository)s is deleted: recover it first") % {"repository": image.repository}
        )
    if Image.objects.select_for_update(no_key=True).filter(pk=image.pk).first() is None:
        raise errors.RecoveryGone
    _lock(deletion)
    if Image.objects.live().filter(path=image.path).exists():
        raise errors.NameTaken(
            _("there is an image %(image)s again: delete that one first, it can be recovered too")
            % {"image": image.path}
        )
    quotas.check_images(image.repository)
    event = audit.record(actor, Action.IMAGE_RECOVER, image)
    Image.objects.filter(pk=image.pk).update(deletion=None)
    _bring_back(actor, Manifest.objects.filter(deletion=deletion))
    return _reopen(Tag.objects.filter(deletion=deletion), event), []


def _bring_back(actor: Actor, deleted: QuerySet[Manifest]) -> None:
    pks = list(deleted.values_list("pk", flat=True))
    deleted.update(deletion=None)
    transaction.on_commit(partial(manifests_recovered.send_robust, Manifest, manifest_ids=pks, actor=actor))


def _reopen(closed: QuerySet[Tag], event: Event) -> int:
    """Let tags mean again what they meant, when nothing else can have their names; returns how many."""
    last = 0
    count = 0
    while rows := list(closed.filter(pk__gt=last).order_by("pk").values_list("pk", "image", "name", "manifest")[:ROWS]):
        Tag.objects.bulk_create(
            Tag(image_id=image, name=name, manifest_id=manifest, started_at=event.at, opened_by=event)
            for _pk, image, name, manifest in rows
        )
        count, last = count + len(rows), rows[-1][0]
    return count


def _restore_in_image(actor: Actor, deletion: Deletion, *, replace_tags: bool) -> tuple[int, list[Left]]:
    """Tags and digests, back into the image that they were in."""
    image = Image.objects.select_related("repository__project").filter(pk=deletion.event.image_id or 0).first()
    if image is None:
        raise errors.RecoveryGone
    held = Repository.objects.live().filter(pk=image.repository_id).lock_for_share().first()
    if held is None:
        raise errors.NameUnknown(
            _("the repository %(repository)s is deleted: recover it first") % {"repository": image.repository}
        )
    if not Image.objects.live().select_for_update(no_key=True).filter(pk=image.pk).exists():
        raise errors.NameUnknown(_("the image %(image)s is deleted: recover it first") % {"image": image.path})
    _lock(deletion)
    revived = _revive(actor, image, deletion)
    recovered, left = 0, []
    taken = Tag.objects.with_manifests().select_related("manifest__deletion").filter(deletion=deletion)
    for closed in taken.order_by("name"):
        if closed.manifest.deletion_id is not None:
            raise errors.ManifestUnknown(
                _("%(image)s:%(tag)s named %(digest)s, which was deleted afterwards: recover that")
                % {"image": image.path, "tag": closed.name, "digest": closed.manifest.digest}
            )
        now = Tag.objects.live().with_manifests().filter(image=image, name=closed.name).first()
        if now is not None and now.manifest_id != closed.manifest_id and not replace_tags:
            left.append(Left(image.path, closed.name, now.manifest.digest))
        else:
            recovered += tags.point(actor, image, closed.name, closed.manifest, added=Action.TAG_RECOVER)
    if not (
        revived or recovered or left or Tag.objects.filter(deletion=deletion).exists() or _is_back(image, deletion)
    ):
        raise errors.RecoveryGone(_("what %(deletion)s took is gone for good") % {"deletion": deletion})
    return recovered, left


def _is_back(image: Image, deletion: Deletion) -> bool:
    """Whether a push, or the recovery of an index, was faster: then there is nothing left to do."""
    return Manifest.objects.live().filter(image=image, digest__in=deletion.name.split(", ")).exists()


def _revive(actor: Actor, image: Image, deletion: Deletion) -> bool:
    """Clear the marks of the act's manifests (a push may have revived some), and of what their indexes need.

    Returns whether there were any.
    """
    own = list(Manifest.objects.without_content().filter(deletion=deletion).order_by("pk"))
    fresh = {manifest.pk for manifest in own}
    needed = set(fresh)
    while fresh:
        children = ManifestChild.objects.filter(parent__in=fresh, child__deletion__isnull=False)
        fresh = set(children.values_list("child", flat=True)) - needed
        needed |= fresh
    _bring_back(actor, Manifest.objects.filter(pk__in=needed))
    # Those that were asked for: no event since then can be about a digest that is still deleted.
    asked = Event.objects.filter(image=image, action=Action.IMAGE_DELETE, pk__gte=deletion.event_id)
    wanted = set(asked.filter(digest__in=[manifest.digest for manifest in own]).values_list("digest", flat=True))
    for manifest in own:
        if manifest.digest in wanted or len(own) == 1:
            audit.record(actor, Action.IMAGE_RECOVER, image, digest=manifest.digest)
    return bool(own)


def hold(actor: Actor, deletion: Deletion, *, on: bool) -> None:
    """Keep an act, and whatever it is a part of, beyond its time, or no longer. Raises RecoveryGone."""
    with transaction.atomic():
        current = Deletion.objects.select_for_update().filter(pk=deletion.pk, is_purging=False).first()
        if current is None or _wholes(current).filter(is_purging=True).exists():
            raise errors.RecoveryGone
        if current.hold != on:
            Deletion.objects.filter(pk=deletion.pk).update(hold=on)
            _record(actor, current, Action.DELETION_HOLD, hold=on)


@retried
def purge_now(actor: Actor, deletion: Deletion) -> None:
    """Delete an act's content for good before its time.

    Raises RecoveryGone, Denied (it or a part of it is held, or something that is in Recovery needs it).
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
    """The acts that took the image, or the repository, in which this one had taken something before."""
    of_image, of_repository = Q(images__events=deletion.event_id), Q(repositories__images__events=deletion.event_id)
    return Deletion.objects.filter(of_image | of_repository).exclude(pk=deletion.pk)


def _parts(deletion: Deletion) -> QuerySet[Deletion]:
    """The acts that took something from the image or repository before this one took all of it."""
    of_image, of_repository = Q(event__image__deletion=deletion), Q(event__image__repository__deletion=deletion)
    return Deletion.objects.filter(of_image | of_repository).exclude(pk=deletion.pk)


def _record(actor: Actor, deletion: Deletion, action: Event.Action, **detail: Any) -> None:
    what = {"kind": deletion.kind, "name": deletion.name}
    audit.record(actor, action, deletion.project, path=deletion.path, **what, **detail)


# ── The end of what nobody recovered ─────────────────────────────────────────────────────────────────────────────────
def purge(limit: int = 1000) -> int:
    """Delete for good what nobody recovered in time; returns how many acts ended. Goes on where a crash left it."""
    due = Deletion.objects.filter(Q(is_purging=True) | Q(purge_after__lte=timezone.now(), hold=False))
    ended = 0
    for pk in list(due.order_by("pk").values_list("pk", flat=True)[:limit]):
        try:
            ended += _purge(pk)
        except (errors.RegistryError, IntegrityError):  # what stands against one act stands against no other
            logger.exception("deletion %s could not be purged", pk)
    return ended


def _purge(deletion_id: int) -> bool:
    """Delete what an act took, a piece a transaction; returns whether it is all gone."""
    _end_uploads(deletion_id)
    while True:
        ended = _purge_piece(deletion_id)
        failpoint("purge.piece")
        if ended is not None:
            return ended


def _end_uploads(deletion_id: int) -> None:
    """Discard the unfinished uploads into a repository that is deleted: their time was over with it."""
    overdue = UploadSession.objects.overdue()
    for session in overdue.filter(repository__deletion=deletion_id):
        uploads.discard(session, among=overdue)


@retried
def _purge_piece(deletion_id: int) -> bool | None:
    """One piece; True: that was the last, False: not now, None: there is more."""
    deletion = Deletion.objects.select_related("event").filter(pk=deletion_id).first()
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
        current.delete()  # closed tags whose digests live on forget the act
        return True


def _locked_images(deletion: Deletion) -> list[int]:
    """The images that this piece is about, locked in id order."""
    if deletion.kind in {Kind.REPOSITORY, Kind.IMAGE}:
        repositories = Repository.objects.filter(deletion=deletion)
        list(repositories.select_for_update().order_by("pk").values_list("pk", flat=True))
        wanted = Image.objects.filter(Q(deletion=deletion) | Q(repository__deletion=deletion))
    else:
        wanted = Image.objects.filter(pk=deletion.event.image_id or 0)
    pieces = list(wanted.order_by("pk").values_list("pk", flat=True)[:IMAGES])
    rows = Image.objects.select_for_update().filter(pk__in=pieces).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def _obstacle(deletion: Deletion) -> str:
    """Why the act cannot be purged yet, in words; "" when nothing outside of it needs what it took.

    Its parts are locked, which are older always: none can be held from now on until this transaction ends.
    """
    if any(_parts(deletion).select_for_update(of=("self",)).order_by("-pk").values_list("hold", flat=True)):
        words = _("a part of %(deletion)s was deleted before it and is held: end that hold first")
        return words % {"deletion": deletion}
    parents = ManifestChild.objects.filter(child__deletion=deletion).exclude(parent__deletion=deletion)
    if parents.exists():
        words = _("an index in Recovery names what %(deletion)s took: recover the index, or delete it for good first")
        return words % {"deletion": deletion}
    if UploadSession.objects.filter(repository__deletion=deletion, state=UploadSession.State.OPEN).exists():
        words = _("an upload into %(deletion)s has not ended yet: try again in a little while")
        return words % {"deletion": deletion}
    return ""


def _purge_images(deletion: Deletion, images: Sequence[int]) -> bool | None:
    """Some images with everything in them, also what other acts took from them; then the repository."""
    if images:
        within = Deletion.objects.filter(event__image__in=images).exclude(pk=deletion.pk)
        others = list(within.values_list("pk", flat=True))
        _delete_manifests(deletion.project_id, Manifest.objects.filter(image__in=images))
        Image.objects.filter(pk__in=images).delete()
        own = Manifest.objects.filter(deletion=OuterRef("pk")), Image.objects.filter(deletion=OuterRef("pk"))
        Deletion.objects.filter(~Exists(own[0]), ~Exists(own[1]), pk__in=others).delete()
        if Image.objects.filter(Q(deletion=deletion) | Q(repository__deletion=deletion)).exists():
            return None
    for repository in Repository.objects.filter(deletion=deletion):
        leased = Blob.objects.filter(
            leases__repository=repository
        ).lock_for_share()  # the collector may be taking some now
        blobs.review(list(leased.values_list("pk", flat=True)), timezone.now(), deletion.project_id)
        repository.delete()
    Deletion.objects.filter(pk=deletion.pk).delete()
    return True


def _delete_manifests(project_id: int, doomed: QuerySet[Manifest]) -> None:
    """Delete manifests with their references and the tags that ever named them; have their blobs reviewed."""
    pks = list(doomed.order_by("pk").values_list("pk", flat=True))
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
        Tag.objects.filter(manifest__in=some).delete()
        Manifest.objects.without_content().filter(pk__in=some).delete()
