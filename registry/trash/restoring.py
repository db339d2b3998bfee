"""Restoring what was deleted.

A Deletion comes back whole or not at all, in a transaction of its own. Locks: project or repository -> images by id ->
deletion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.errors import Refusal
from accounts.models import Project
from registry import audit, errors, quotas, tag_rules, tags
from registry.database.transactions import retried
from registry.failpoints import failpoint
from registry.models import Deletion, Event, Image, Manifest, ManifestChild, Repository, Tag
from registry.signals import manifests_recovered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor

Action, Kind = Event.Action, Deletion.Kind
ROWS = 500  # tags made in one statement
# A deletion needs the repository and the image that it was made in, so these are restored first.
_ORDER = {Kind.REPOSITORY: 0, Kind.IMAGE: 1, Kind.MANIFEST: 2, Kind.TAG: 3}


@dataclass(frozen=True, slots=True)
class SkippedTag:
    """A tag that was not restored, since its name is in use; ``digest`` is what it names now."""

    path: str
    tag: str
    digest: str


@dataclass(slots=True)
class Restored:
    """What came back. ``tags`` is their number. ``refused``: deletions that did not come back, each with the reason."""

    deletions: list[Deletion] = field(default_factory=list)
    tags: int = 0
    skipped: list[SkippedTag] = field(default_factory=list)
    refused: list[tuple[Deletion, str]] = field(default_factory=list)


def listed(project: Project, *, repository: Repository | None = None, image: Image | None = None) -> QuerySet[Deletion]:
    """The deletions that can be restored, newest first: of a project, or of a live repository or image in it."""
    in_time = Q(purge_after__gt=timezone.now()) | Q(hold=True)
    found = Deletion.objects.filter(in_time, project=project, is_purging=False)
    if image is not None:
        found = found.filter(image=image)
    elif repository is not None:
        found = found.filter(repository=repository)
    return found.order_by("-pk")


def restore(
    actor: Actor, deletion_ids: Iterable[int], *, replace_tags: bool = False, undoes: Collection[int] = ()
) -> Restored:
    """Restore deletions, each whole. ``undoes``: see ``audit.record``.

    A tag whose name is in use is skipped; a deletion of tags of which all are skipped stays. With ``replace_tags`` the
    tag is moved back instead, if the repository allows that.

    Of several deletions, those that cannot be restored are in ``refused``. A single one raises: RecoveryGone (it was
    restored or purged, or its time is over), NameTaken, Denied (a quota is full, or a rule of the tags),
    NameUnknown (the repository or image that it was made in is deleted), ManifestUnknown (what a tag named was deleted
    later).
    """
    wanted = list(dict.fromkeys(deletion_ids))
    found = Deletion.objects.in_bulk(wanted)
    if missing := [pk for pk in wanted if pk not in found]:
        raise errors.RecoveryGone(detail={"deletions": missing})
    result = Restored()
    for deletion in sorted(found.values(), key=lambda each: (_ORDER[Kind(each.kind)], each.pk)):
        try:
            _restore(actor, deletion, result, replace_tags=replace_tags, undoes=undoes)
        except Refusal as error:
            if len(wanted) == 1:
                raise
            result.refused.append((deletion, error.message))
    return result


@retried
def _restore(
    actor: Actor, deletion: Deletion, result: Restored, *, replace_tags: bool, undoes: Collection[int]
) -> None:
    skipped: list[SkippedTag] = []
    with transaction.atomic():
        if deletion.kind == Kind.REPOSITORY:
            count = _restore_repository(actor, deletion, undoes)
        elif deletion.kind == Kind.IMAGE:
            count = _restore_image(actor, deletion, undoes)
        else:
            count, skipped = _restore_in_image(actor, deletion, undoes, replace_tags=replace_tags)
        failpoint("restore.before_commit")
        stays = deletion.kind == Kind.TAG and bool(skipped) and not count
        if not stays:
            Deletion.objects.filter(pk=deletion.pk).delete()
    if not stays:
        result.deletions.append(deletion)
    result.tags += count
    result.skipped += skipped


def _lock(deletion: Deletion) -> None:
    """Lock the deletion's row, after the rows of what it was made in. Raises RecoveryGone."""
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


def _restore_repository(actor: Actor, deletion: Deletion, undoes: Collection[int]) -> int:
    """Returns the number of tags, as the other two do."""
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
    closed = Tag.objects.filter(deletion=deletion)
    tag_rules.check_reopening(repository, closed)
    event = audit.record(actor, Action.REPOSITORY_RECOVER, repository, undoes=undoes)
    Repository.objects.filter(pk=repository.pk).update(deletion=None)
    _bring_back(images)
    _restore_manifests(actor, Manifest.objects.filter(deletion=deletion))
    return _reopen(closed, event)


def _restore_image(actor: Actor, deletion: Deletion, undoes: Collection[int]) -> int:
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
    if image.emptied_at is None:
        quotas.check_images(image.repository)
    closed = Tag.objects.filter(deletion=deletion)
    tag_rules.check_reopening(image.repository, closed)
    event = audit.record(actor, Action.IMAGE_RECOVER, image, undoes=undoes)
    _bring_back(Image.objects.filter(pk=image.pk))
    _restore_manifests(actor, Manifest.objects.filter(deletion=deletion))
    return _reopen(closed, event)


def _bring_back(images: QuerySet[Image]) -> None:
    """Make images live. One that was empty before its deletion is empty from now on: it stays for a while."""
    images.filter(emptied_at__isnull=False).update(emptied_at=timezone.now())
    images.update(deletion=None)


def _restore_manifests(actor: Actor, deleted: QuerySet[Manifest]) -> None:
    pks = list(deleted.values_list("pk", flat=True))
    deleted.update(deletion=None)
    transaction.on_commit(partial(manifests_recovered.send_robust, Manifest, manifest_ids=pks, actor=actor))


def _reopen(closed: QuerySet[Tag], event: Event) -> int:
    """Add live tags like these closed ones, whose names are all free; returns their number."""
    last = 0
    count = 0
    while rows := list(closed.filter(pk__gt=last).order_by("pk").values_list("pk", "image", "name", "manifest")[:ROWS]):
        Tag.objects.bulk_create(
            Tag(
                image_id=image,
                name=name,
                manifest_id=manifest,
                started_at=event.at,
                pushed_at=event.at,
                opened_by=event,
            )
            for _pk, image, name, manifest in rows
        )
        count, last = count + len(rows), rows[-1][0]
    return count


def _restore_in_image(
    actor: Actor, deletion: Deletion, undoes: Collection[int], *, replace_tags: bool
) -> tuple[int, list[SkippedTag]]:
    """Restore tags and digests in the image that they were deleted from."""
    image = Image.objects.select_related("repository__project").filter(pk=deletion.image_id or 0).first()
    if image is None:
        raise errors.RecoveryGone
    # Not FOR KEY SHARE as a push does: an empty image that gets its digests back counts for the quota of images.
    held = Repository.objects.live().select_for_update(no_key=True).filter(pk=image.repository_id).first()
    if held is None:
        raise errors.NameUnknown(
            _("the repository %(repository)s is deleted: recover it first") % {"repository": image.repository}
        )
    locked = Image.objects.live().select_for_update(no_key=True).filter(pk=image.pk).first()
    if locked is None:
        raise errors.NameUnknown(_("the image %(image)s is deleted: recover it first") % {"image": image.path})
    _lock(deletion)
    own = _restore_digests(actor, image, deletion, undoes)
    if locked.emptied_at is not None and Manifest.objects.live().filter(image=image).exists():
        quotas.check_images(image.repository)
        Image.objects.filter(pk=image.pk).update(emptied_at=None)
    count = 0
    skipped = []
    closed = list(
        Tag.objects.with_manifests().select_related("manifest__deletion").filter(deletion=deletion).order_by("name")
    )
    for tag in closed:
        if tag.manifest.deletion_id is not None:
            raise errors.ManifestUnknown(
                _("%(image)s:%(tag)s pointed to %(digest)s, which was deleted afterwards: recover that")
                % {"image": image.path, "tag": tag.name, "digest": tag.manifest.digest}
            )
        now = Tag.objects.live().with_manifests().filter(image=image, name=tag.name).first()
        if now is not None and now.manifest_id != tag.manifest_id and not replace_tags:
            skipped.append(SkippedTag(image.path, tag.name, now.manifest.digest))
        else:
            count += tags.point(actor, image, tag.name, tag.manifest, added=Action.TAG_RECOVER, undoes=undoes)
    if not (own or closed or Manifest.objects.live().filter(image=image, digest__in=deletion.requested).exists()):
        raise errors.RecoveryGone(_("what %(deletion)s deleted is gone for good") % {"deletion": deletion})
    return count, skipped


def _restore_digests(actor: Actor, image: Image, deletion: Deletion, undoes: Collection[int]) -> list[Manifest]:
    """Restore the deletion's manifests, and the children that they name, which other deletions may have taken.

    Returns the deletion's manifests that were still deleted: a push restores the ones that it brings again.
    """
    own = list(Manifest.objects.without_content().filter(deletion=deletion).order_by("pk"))
    fresh = {manifest.pk for manifest in own}
    needed = set(fresh)
    while fresh:
        children = ManifestChild.objects.filter(parent__in=fresh, child__deletion__isnull=False)
        fresh = set(children.values_list("child", flat=True)) - needed
        needed |= fresh
    _restore_manifests(actor, Manifest.objects.filter(pk__in=needed))
    requested = set(deletion.requested)
    for manifest in [each for each in own if each.digest in requested] or own:
        audit.record(actor, Action.IMAGE_RECOVER, image, digest=manifest.digest, undoes=undoes)
    return own
