"""Deletion of tags, manifests, images and repositories.

Every row that goes points to a Deletion. Nothing else changes: references to blobs stay, so a deleted manifest keeps
its bytes until the deletion is purged. Locks: repository -> images by id.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.translation import gettext as _

from registry import audit, errors, tag_rules, tags
from registry.database.batches import in_batches
from registry.database.transactions import retried
from registry.manifests import check_reference
from registry.models import Deletion, Event, Image, Manifest, ManifestChild, Repository, Tag, UploadSession
from registry.oci import digests, names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from registry.oci.names import ImageName

Action, Kind = Event.Action, Deletion.Kind
TAG_NAMES = 12  # of a deletion that pages show
MAX_AT_ONCE = 5_000  # tags and digests: a request holds the lock of the image for as long as it takes


@dataclass(frozen=True, slots=True)
class Consequences:
    """What deleting some digests takes: these digests with their platforms and referrers, and every tag of them."""

    digests: list[str]
    tags: list[str]


def consequences(image: Image, wanted: Sequence[str]) -> Consequences:
    """What ``delete_references`` would take with these digests now. Raises the same errors."""
    going = _with_dependents(image, _roots(image, wanted))
    found = list(Manifest.objects.filter(pk__in=going).order_by("pk").values_list("digest", flat=True))
    return Consequences(found, [tag.name for tag in _tags_of(image, going)])


@retried
def delete_references(
    actor: Actor, repository: Repository, name: ImageName, references: Sequence[str], *, undoes: Collection[int] = ()
) -> Deletion:
    """Delete tags and digests of one image, all or none, as one act.

    The manifest of a deleted tag stays. A digest takes every tag that names it or is attached to it, and what only it
    holds: see ``closure``. The audit log gets one event for each reference, since it is filtered by tag. ``undoes``:
    see ``audit.record``.

    Raises ManifestUnknown; Unsupported (a live index that stays names one of the digests); Denied (more than
    MAX_AT_ONCE, or a rule keeps one of the tags).
    """
    wanted = list(dict.fromkeys(references))
    if len(wanted) > MAX_AT_ONCE:
        words = _("at most %(count)s tags and digests are deleted at once: narrow the filter, and delete them in parts")
        raise errors.Denied(words % {"count": f"{MAX_AT_ONCE:,}"})
    for reference in wanted:
        check_reference(reference)
    with transaction.atomic():
        return _delete(actor, _lock_image(name), wanted, undoes)


def _lock_image(name: ImageName) -> Image:
    live = Image.objects.live().select_related("repository__project")
    image = live.select_for_update(of=("self",), no_key=True).filter(path=str(name)).first()
    if image is None:
        raise errors.ManifestUnknown(_("%(name)s has not been pushed") % {"name": name})
    return image


def _delete(actor: Actor, image: Image, wanted: Sequence[str], undoes: Collection[int] = ()) -> Deletion:
    """Delete these tags and digests of the (locked) image. A few statements for each ``tags.ROWS`` of them."""
    asked = [reference for reference in wanted if not digests.is_digest(reference)]
    roots = _roots(image, [reference for reference in wanted if digests.is_digest(reference)])
    going = _with_dependents(image, roots, deleted_tags=asked)
    named = _tags_of(image, going)
    taken = {tag.name for tag in named}
    alone = tags.live(image, [tag for tag in asked if tag not in taken])
    for tag in (*named, *alone):
        tag.image = image
    tag_rules.check_deletion(image.repository, [*named, *alone])
    events = [_of_digest(actor, image, root, named, roots, undoes) for root in roots]
    events += [
        audit.build(actor, Action.TAG_DELETE, image, tag=tag.name, digest=tag.manifest.digest, undoes=undoes)
        for tag in alone
    ]
    Event.objects.bulk_create(events, batch_size=tags.ROWS)
    of_roots = dict(zip([root.pk for root in roots], events, strict=False))
    kind = Kind.MANIFEST if roots else Kind.TAG
    deletion = _open(kind, events[0], requested=wanted, summary=_summary([tag.name for tag in named]))
    ended = [(tag, of_roots.get(tag.manifest_id, events[0])) for tag in named]
    tags.close_all([*ended, *zip(alone, events[len(roots) :], strict=True)], deletion)
    for some in in_batches(list(going), tags.ROWS):
        Manifest.objects.filter(pk__in=some).update(deletion=deletion)
    if going and not Manifest.objects.live().filter(image=image).exists():
        Image.objects.filter(pk=image.pk).update(emptied_at=deletion.at)
    return deletion


def _of_digest(
    actor: Actor, image: Image, root: Manifest, named: list[Tag], roots: list[Manifest], undoes: Collection[int]
) -> Event:
    tag_names = [tag.name for tag in named if tag.manifest_id == root.pk or len(roots) == 1]
    return audit.build(actor, Action.IMAGE_DELETE, image, digest=root.digest, undoes=undoes, tags=tag_names)


@retried
def delete_images(actor: Actor, repository: Repository, wanted: Sequence[str]) -> list[Deletion]:
    """Delete images of a repository, all or none, with all their tags and manifests; each image is an act of its own.

    Raises ManifestUnknown if the repository has no image of one of these names, Denied if a rule keeps one of the tags.
    """
    deletions = []
    with transaction.atomic():
        held = Repository.objects.live().filter(pk=repository.pk).lock_for_share().select_related("project").first()
        images = Image.objects.live().filter(repository=repository, name__in=wanted).order_by("pk")
        found = list(images.select_for_update(no_key=True))
        if missing := sorted(set(wanted) - {image.name for image in found}):
            raise errors.ManifestUnknown(
                _("%(repository)s has no image %(images)s") % {"repository": repository, "images": ", ".join(missing)}
            )
        all_tags = Tag.objects.live().filter(image__in=found).select_related("image").order_by("image", "pk")
        tag_rules.check_deletion(held or repository, all_tags)
        for image in found:
            image.repository = held or repository
            live_tags = Tag.objects.live().filter(image=image)
            manifests = Manifest.objects.live().filter(image=image)
            tag_names = list(live_tags.order_by("name").values_list("name", flat=True))
            event = audit.record(actor, Action.IMAGE_DELETE, image, tags=tag_names, digests=manifests.count())
            deletion = _open(Kind.IMAGE, event, summary=_summary(tag_names))
            _take(deletion, event, live_tags, manifests)
            Image.objects.filter(pk=image.pk).update(deletion=deletion)
            deletions.append(deletion)
    return deletions


@retried
def delete_repository(actor: Actor, repository: Repository) -> Deletion:
    """Delete a repository with everything in it, as one act. Its name is free at once.

    A push holds the repository's row, so this waits until the pushes that have begun have ended. Raises NameUnknown,
    Denied (a rule keeps one of the tags).
    """
    with transaction.atomic():
        live = Repository.objects.live().select_for_update(of=("self",)).select_related("project")
        current = live.filter(pk=repository.pk).first()
        if current is None:
            raise errors.NameUnknown(_("there is no repository %(repository)s any more") % {"repository": repository})
        images = Image.objects.live().filter(repository=current)
        locked = list(images.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
        live_tags = Tag.objects.live().filter(image__repository=current, image__deletion=None)
        tag_rules.check_deletion(current, live_tags.select_related("image").order_by("image", "pk"))
        manifests = Manifest.objects.live().filter(image__repository=current, image__deletion=None)
        summary: dict[str, Any] = {"images": len(locked), "tags": live_tags.count()}
        event = audit.record(actor, Action.REPOSITORY_DELETE, current, **summary, digests=manifests.count())
        deletion = _open(Kind.REPOSITORY, event, summary=summary)
        _take(deletion, event, live_tags, manifests)
        images.update(deletion=deletion)
        Repository.objects.filter(pk=current.pk).update(deletion=deletion)
        UploadSession.objects.open().filter(repository=current).update(expires_at=timezone.now())
    return deletion


def _open(kind: Deletion.Kind, event: Event, *, summary: dict[str, Any], requested: Sequence[str] = ()) -> Deletion:
    """The row of an act; everything that it takes is to point to it. ``event``: the one that was recorded for it."""
    now = timezone.now()
    return Deletion.objects.create(
        kind=kind,
        project_id=event.project_id,
        repository_id=event.repository_id,
        image_id=event.image_id,
        path=event.path,
        requested=list(requested),
        summary=summary,
        actor=event.actor,
        event=event,
        at=now,
        purge_after=now + timedelta(days=settings.RECOVERY_DAYS),
    )


def _summary(tag_names: Sequence[str]) -> dict[str, Any]:
    return {"tags": len(tag_names), "tag_names": list(tag_names[:TAG_NAMES])}


def _take(deletion: Deletion, event: Event, live_tags: QuerySet[Tag], manifests: QuerySet[Manifest]) -> None:
    """Mark these live tags and manifests of locked images as deleted: two statements, however many rows there are."""
    live_tags.update(ended_at=Greatest(event.at, "started_at"), closed_by=event, deletion=deletion)
    manifests.update(deletion=deletion)


def _tags_of(image: Image, going: Collection[int]) -> list[Tag]:
    """The live tags that name these manifests, and those that are attached to them, by name."""
    live = Tag.objects.live().filter(image=image)
    digests_ = Manifest.objects.filter(pk__in=going).values_list("digest", flat=True)
    subjects = [digest[: names.SUBJECT_LENGTH] for digest in digests_]
    attached = live.attached().filter(subject__in=subjects)
    return list(live.filter(Q(manifest__in=going) | Q(pk__in=attached.values("pk"))).order_by("name"))


def _roots(image: Image, wanted: Sequence[str]) -> list[Manifest]:
    """The live manifests of these digests. Raises ManifestUnknown, Unsupported (see ``delete_references``)."""
    live = Manifest.objects.without_content().live()
    found = {manifest.digest: manifest for manifest in live.filter(image=image, digest__in=wanted)}
    for digest in wanted:
        if digest not in found:
            raise errors.ManifestUnknown(_("%(image)s has no digest %(digest)s") % {"image": image, "digest": digest})
    roots = [found[digest] for digest in wanted]
    needed = ManifestChild.objects.filter(child__in=roots, parent__deletion=None).exclude(parent__in=roots)
    if named := needed.order_by("pk").values("parent__digest", "child__digest").first():
        raise errors.Unsupported(
            _("the index %(index)s still refers to %(digest)s: delete the index first")
            % {"index": named["parent__digest"], "digest": named["child__digest"]}
        )
    return roots


def closure(graph: Mapping[int, AbstractSet[int]], roots: Iterable[int]) -> set[int]:
    """The roots, and every manifest in the graph that is held by manifests of the result alone.

    ``graph`` gives for each manifest the ones that hold it: the live indexes that name it, its live subject, and the
    live subjects of its tags.
    """
    going = set(roots)
    while fresh := {each for each, holders in graph.items() if each not in going and holders and holders <= going}:
        going |= fresh
    return going


def _with_dependents(image: Image, roots: Sequence[Manifest], deleted_tags: Sequence[str] = ()) -> set[int]:
    """The ids of these manifests and of those that go with them. ``deleted_tags`` do not keep a manifest."""
    pks = {root.pk for root in roots}
    graph = _graph(image, {root.pk: root.digest for root in roots}, deleted_tags) if roots else {}
    return closure(graph, pks)


def _graph(image: Image, roots: Mapping[int, str], deleted_tags: Sequence[str]) -> dict[int, set[int]]:
    """The graph for ``closure``: the children, referrers and attached manifests of the roots, theirs, and so on.

    Leaves out manifests that a tag names, unless the tag is attached to another one. ``roots``: digests by id.
    """
    live_tags = Tag.objects.live().filter(image=image).exclude(name__in=deleted_tags)
    untagged = Manifest.objects.live().filter(image=image).exclude(pk__in=live_tags.unattached().values("manifest"))
    subjects: dict[int, str] = {}
    fresh = dict(roots)
    while fresh:
        begins = [digest[: names.SUBJECT_LENGTH] for digest in fresh.values()]
        children = untagged.filter(parent_references__parent__in=list(fresh))
        referrers = untagged.filter(subject__in=list(fresh.values()))
        attached = untagged.filter(pk__in=live_tags.filter(subject__gt="", subject__in=begins).values("manifest"))
        rows = {
            row for found in (children, referrers, attached) for row in found.values_list("pk", "digest", "subject")
        }
        fresh = {pk: digest for pk, digest, _subject in rows if pk not in roots and pk not in subjects}
        subjects |= {pk: subject for pk, _digest, subject in rows if pk in fresh}
    if not subjects:
        return {}
    graph: dict[int, set[int]] = defaultdict(set)
    parents = ManifestChild.objects.filter(child__in=list(subjects), parent__deletion=None)
    for child, parent in parents.values_list("child", "parent"):
        graph[child].add(parent)
    live = Manifest.objects.live().filter(image=image)
    by_digest = dict(live.filter(digest__in=set(subjects.values())).values_list("digest", "pk"))
    for pk, subject in subjects.items():
        if subject in by_digest:
            graph[pk].add(by_digest[subject])
    tags_of = live_tags.attached().filter(manifest__in=list(subjects))
    for pk, subject in tags_of.values_list("manifest", "subject"):
        graph[pk].update(live.begins(subject).exclude(pk=pk).values_list("pk", flat=True))
    return graph
