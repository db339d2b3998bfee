"""Manifests: find, push, tag, list referrers. See docs/design/storage.md, "Manifest push".

Deletion is in ``registry.trash``. A lock on the Image row protects its manifests and tags. All code takes locks in this
order: repository, image, blobs by id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import BigIntegerField, Case, DateTimeField, TextField, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from registry import access, audit, blobs, errors, images, pull_policy, quotas, tags
from registry.database.locks import lock_row_for_share
from registry.database.prepared import ListOf, PreparedInsert, as_moment, prepare, prepare_models, prepare_update
from registry.database.transactions import retried
from registry.failpoints import failpoint
from registry.models import Event, Image, Manifest, ManifestBlob, ManifestChild, Repository, Tag
from registry.models.manifests import MAX_PLATFORMS
from registry.oci import configs, digests, documents, names
from registry.signals import manifest_pushed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from registry.models import Blob
    from registry.models.manifests import ManifestQuerySet

MAX_TAGS_PER_PUSH = 16
MAX_REFERRERS_WEIGHT = 2 * 1024 * 1024  # clients accept responses of up to 4 MiB


class PulledManifest(NamedTuple):
    """A manifest as it is pulled: the exact bytes that were pushed, and their media type.

    ``counted_as``: what the pull statistics count, the tag of the reference; the digest when it names none as of now.
    ``changed_at``: the last push of this digest under the tag; of a digest, its first push.
    """

    digest: str
    media_type: str
    content: bytes
    image_id: int
    counted_as: str
    changed_at: datetime


class _PulledRow(NamedTuple):
    digest: str
    media_type: str
    content: Any
    has_expired: int
    needs_check: int
    manifest_id: int
    image_id: int
    repository_id: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Push:
    """The result of a push: the manifest, and the tags of this push. ``is_new``: the image did not have it."""

    manifest: Manifest
    tags: list[str]
    is_new: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A page of manifests, and whether more follow."""

    manifests: list[Manifest]
    has_more: bool


def permitted_manifest(actor: Actor, name: names.ImageName, reference: str, *, to_pull: bool = True) -> PulledManifest:
    """The manifest that a tag, a tag as of a moment, or a digest names, if the actor may pull it. One query on success.

    ``to_pull`` is False for HEAD: the pull policy is checked for pulls only, since clients that push or copy send HEAD
    first. Raises ManifestUnknown, Denied (the image has expired, or the pull policy refuses it), and what
    ``access.require`` raises.
    """
    check_reference(reference)
    is_digest = digests.is_digest(reference)
    past = None if is_digest else tags.past(reference)
    row: _PulledRow | None
    if past is not None:
        row = _pulled_by_past.first(actor, path=str(name), reference=reference, tag=past.tag, moment=past.moment)
    else:
        row = (_pulled_by_digest if is_digest else _pulled_by_tag).first(actor, path=str(name), reference=reference)
    if row is None or not access.token_covers(actor, access.Action.PULL, row.repository_id):
        access.require(actor, access.Action.PULL, name)
        raise (
            errors.ManifestUnknown(f"{name} has no digest {reference}") if is_digest else tags.unknown(name, reference)
        )
    if row.has_expired:
        raise errors.Denied(f"{name} has expired: it is not pulled or pushed any more")
    if to_pull and row.needs_check:
        pull_policy.check(actor, row.manifest_id)
    counted_as = row.digest if past else reference
    changed_at = as_moment(row.changed_at)
    return PulledManifest(row.digest, row.media_type, bytes(row.content), row.image_id, counted_as, changed_at)


@prepare(_PulledRow, path=TextField(), reference=TextField())
def _pulled_by_digest(actor: Actor, path: Any, reference: Any) -> QuerySet[Any, Any]:
    return _pulled(actor, Manifest.objects.referenced(path, reference, by_digest=True), "pushed_at")


@prepare(_PulledRow, path=TextField(), reference=TextField())
def _pulled_by_tag(actor: Actor, path: Any, reference: Any) -> QuerySet[Any, Any]:
    return _pulled(actor, Manifest.objects.referenced(path, reference, by_digest=False), "tags__pushed_at")


@prepare(_PulledRow, path=TextField(), reference=TextField(), tag=TextField(), moment=DateTimeField())
def _pulled_by_past(actor: Actor, path: Any, reference: Any, tag: Any, moment: Any) -> QuerySet[Any, Any]:
    return _pulled(actor, Manifest.objects.as_of(path, reference, tag, moment), "tags__started_at")


def _pulled(actor: Actor, found: ManifestQuerySet, changed_at: str) -> QuerySet[Any, Any]:
    flagged = found.annotate(
        has_expired=Case(When(image__expires_at__lte=Now(), then=1), default=0),
        needs_check=Case(When(pull_policy.NEEDS_CHECK, then=1), default=0),
    )
    permitted = access.permitted(flagged, actor, access.Action.PULL, "image__repository")
    columns = ("digest", "media_type", "content", "has_expired", "needs_check", "pk", "image", "image__repository")
    return permitted.values_list(*columns, changed_at)[:1]


def check_reference(reference: str) -> None:
    """Raises DigestInvalid or ManifestUnknown if the reference is neither a tag nor a digest."""
    if digests.is_digest(reference):
        blobs.parse_digest(reference)
    elif not names.is_tag(reference):
        raise errors.ManifestUnknown(
            _("a tag has up to 128 letters, digits, . _ or -, and starts with none of . and -")
        )


@retried
def push(
    actor: Actor,
    repository: Repository,
    name: names.ImageName,
    reference: str,
    content: bytes,
    *,
    content_type: str,
    more_tags: Sequence[str] = (),
) -> Push:
    """Store a manifest under its digest and point tags to it.

    Raises ManifestInvalid, DigestInvalid, ManifestBlobUnknown, Denied (a rule of the tags does not allow it, a quota is
    full, the image has expired), StorageFull. A repeated push changes nothing but the time of the last push
    (``tags.push``).
    """
    check_reference(reference)
    blobs.check_room()
    by_digest = digests.is_digest(reference)
    algorithm = digests.parse(reference).algorithm if by_digest else digests.DEFAULT_ALGORITHM
    digest = str(digests.of(content, algorithm))
    if by_digest and digest != reference:
        raise errors.DigestInvalid(f"the manifest's digest is {digest}")
    wanted = list(dict.fromkeys([*([] if by_digest else [reference]), *more_tags]))
    _check_tags(wanted)
    try:
        document = documents.parse(content, content_type)
    except documents.InvalidDocument as error:
        raise errors.ManifestInvalid(str(error)) from error
    platform = _platform(repository, document)
    try:
        with transaction.atomic():
            image = _lock_image(repository, name)
            current = tags.current(image, wanted)
            named = [tag.manifest for tag in current.values()]
            manifest, is_new = _store(actor, image, document, digest, content, platform, named, wanted)
            failpoint("push.stored")
            for tag in wanted:
                tags.push(actor, image, tag, manifest, current.get(tag))
            transaction.on_commit(
                partial(manifest_pushed.send_robust, Manifest, manifest_id=manifest.pk, tags=wanted, actor=actor)
            )
            failpoint("push.before_commit")
    except IntegrityError as error:  # the collector deleted a blob after _referenced() had read it
        raise errors.ManifestBlobUnknown from error
    return Push(manifest, wanted, is_new)


@retried
def point_tag(
    actor: Actor,
    repository: Repository,
    name: names.ImageName,
    tag: str,
    digest: str,
    *,
    seen: str = "",
    undoes: Collection[int] = (),
) -> bool:
    """Point a tag to an existing manifest. Return False if it already did.

    ``seen``: the digest of the tag on the page that the user submitted, "" if there was no such tag. Raises Changed
    (the tag has another digest now), ManifestUnknown (says if the digest is in Recovery), ManifestInvalid (not a tag),
    Denied (a rule of the tags does not allow it, the image is full or has expired), Unsupported (the tag has the form
    tag--at-time). Does not send ``manifest_pushed``: the manifest was pushed before.
    """
    _check_tags([tag])
    blobs.parse_digest(digest)
    with transaction.atomic():
        image = lock_live_image(repository, name)
        images.check_expiry(image)
        current = Tag.objects.live().with_manifests().filter(image=image, name=tag).first()
        names_now = current.manifest.digest if current else ""
        if names_now not in {seen, digest}:
            words = (
                _("%(name)s:%(tag)s now points to %(digest)s: check it, then try again")
                if names_now
                else _("%(name)s:%(tag)s was deleted meanwhile: check it, then try again")
            )
            raise errors.Changed(words % {"name": name, "tag": tag, "digest": names_now}, detail={"digest": names_now})
        manifest = (
            Manifest.objects.without_content().select_related("deletion").filter(image=image, digest=digest).first()
        )
        if manifest is None:
            raise errors.ManifestUnknown(_("%(image)s has no digest %(digest)s") % {"image": name, "digest": digest})
        check_live(manifest)
        return tags.point(actor, image, tag, manifest, undoes=undoes)


def check_live(manifest: Manifest) -> None:
    """Raise ManifestUnknown if the manifest is deleted; it says until when it is in Recovery."""
    if manifest.deletion is not None:
        raise errors.ManifestUnknown(
            _("%(digest)s was deleted: it is in Recovery until %(end)s UTC, recover it first")
            % {"digest": manifest.digest, "end": f"{manifest.deletion.purge_after:%Y-%m-%d %H:%M}"}
        )


def lock_live_image(repository: Repository, name: names.ImageName) -> Image:
    """Lock and return the live image of a live repository. Run inside a transaction. Raises NameUnknown."""
    locked = Repository.objects.live().filter(pk=repository.pk).lock_for_share().select_related("project").first()
    images = Image.objects.live().filter(path=str(name), repository=repository)
    image = images.select_for_update(no_key=True).first()
    if locked is None or image is None:
        raise errors.NameUnknown(_("there is no image %(name)s (any more)") % {"name": name})
    image.repository = locked
    return image


def permitted_referrers(
    actor: Actor, name: names.ImageName, subject: str, artifact_type: str, after: int, limit: int
) -> Page:
    """Live manifests of the image that refer to ``subject``, in push order, if the actor may pull the image.

    ``after`` is the id of the last one of the page before. An image that has not been pushed, or a repository that has
    not been created, has none. Raises DigestInvalid, and what ``access.require`` raises.
    """
    blobs.parse_digest(subject)
    images = Image.objects.at(str(name))
    image = access.permitted(images, actor, access.Action.PULL, "repository").first()
    if image is None:
        allowed = access.allowed_actions(actor, name)[name]
        if allowed.repository_id is not None or access.Action.PULL not in allowed.actions:
            access.require(actor, access.Action.PULL, name)
        return Page([], has_more=False)
    found = Manifest.objects.referring_to(image, subject).filter(pk__gt=after).defer("content")
    if artifact_type:
        # A media type has no blank: it is the "+" of a client that did not write %2B.
        found = found.filter(artifact_type__in={artifact_type, artifact_type.replace(" ", "+")})
    page: list[Manifest] = []
    weight = 0
    for manifest in found[: limit + 1].iterator(chunk_size=4):  # annotations may have megabytes
        weight += len(json.dumps(manifest.annotations, ensure_ascii=False).encode())
        if len(page) == limit or (page and weight > MAX_REFERRERS_WEIGHT):
            return Page(page, has_more=True)
        page.append(manifest)
    return Page(page, has_more=False)


def _check_tags(wanted: list[str]) -> None:
    if len(wanted) > MAX_TAGS_PER_PUSH:
        raise errors.TooManyTags
    for tag in wanted:
        if not names.is_tag(tag):
            raise errors.ManifestInvalid(
                "a tag has up to 128 letters, digits, . _ or -, and starts with none of . and -"
            )


def _lock_image(repository: Repository, name: names.ImageName) -> Image:
    """Lock and return the image; create it on first push. Locks the repository FOR KEY SHARE, so it stays undeleted.

    An image that is new or empty is counted for the quota of images, under the lock that this count needs.
    """
    lock_row_for_share(Repository, repository.pk)
    image = _image.first(path=str(name))
    if image is None or not _has_contents(image, repository):
        image = _new_or_empty_image(repository, name)
    images.check_expiry(image)
    return image


@prepare_models(Image, path=TextField())
def _image(actor: Actor, path: Any) -> QuerySet[Image]:
    """The live image of this path, locked, with repository and project. It may have changed before the lock."""
    found = Image.objects.at(path).select_related("repository__project__organization")
    return found.select_for_update(of=("self",), no_key=True)


def _has_contents(image: Image, repository: Repository) -> bool:
    """Whether the image is live and has a digest, in this live repository."""
    is_live = image.deletion_id is None and image.repository.deletion_id is None
    return is_live and image.emptied_at is None and image.repository_id == repository.pk


def _new_or_empty_image(repository: Repository, name: names.ImageName) -> Image:
    live = Repository.objects.live().filter(pk=repository.pk)
    locked = live.select_related("project__organization").first()
    if locked is None:
        raise errors.NameUnknown
    Repository.objects.select_for_update(no_key=True).get(pk=repository.pk)
    image = Image.objects.live().filter(path=str(name)).select_for_update(no_key=True).first()
    if image is None or image.emptied_at is not None:
        quotas.check_images(locked)
    if image is None:
        image = Image.objects.create(repository=locked, name=name.image, path=str(name))
    image.repository = locked
    return image


def _platform(repository: Repository, document: documents.Document) -> str:
    """What the configuration of an image says it runs on; "" for everything else, or when it cannot be read."""
    if document.config is None or not configs.is_image_type(document.config.media_type):
        return ""
    content = blobs.read(repository, document.config.digest, configs.MAX_BYTES)
    return configs.parse(content).platform if content else ""


def _platforms(document: documents.Document, children: Sequence[Manifest]) -> str:
    """The platforms of an index, as its entries say: clients choose by these.

    An entry that says nothing has the platforms of its manifest. As many whole ones as the column holds.
    """
    of_children = {child.digest: child.platforms for child in children}
    found: set[str] = set()
    for entry in document.manifests:
        if entry.is_runnable:
            found.update((configs.platform(entry.platform) or of_children.get(entry.digest, "")).split())
    kept = " ".join(sorted(found))
    return kept if len(kept) <= MAX_PLATFORMS else kept[: MAX_PLATFORMS + 1].rpartition(" ")[0]


def _store(
    actor: Actor,
    image: Image,
    document: documents.Document,
    digest: str,
    content: bytes,
    platform: str,
    named: Iterable[Manifest],
    wanted: Sequence[str],
) -> tuple[Manifest, bool]:
    """Return the live manifest, and whether this push made it live: a deleted one restored, or a new one.

    ``named``: live manifests of the image, which need not be read again. ``wanted``: the tags of the push, which get an
    event each; that of the digest names them.
    """
    known = next((each for each in named if each.digest == digest), None)
    manifest = known or _manifest.first(image=image.pk, digest=digest)
    if manifest is not None and manifest.media_type != document.media_type:
        raise errors.ManifestInvalid(
            f"{digest} was pushed here as {manifest.media_type}; a digest has one type for ever"
        )
    if manifest is not None and manifest.deletion_id is None:
        return manifest, False
    of_blobs, children = _referenced(image, document)
    added = quotas.check_bytes(image, of_blobs)
    if manifest is None:
        manifest = _create(image, document, digest, content, platform, of_blobs, children)
    else:
        manifest.deletion = None
        manifest.pushed_at = manifest.last_pushed_at = timezone.now()
        manifest.save(update_fields=["deletion", "pushed_at", "last_pushed_at"])
    image.pushed_at, image.emptied_at = timezone.now(), None
    _note_push.run(image=image.pk, now=image.pushed_at)
    detail: dict[str, Any] = {"media_type": document.media_type}
    if added is not None:
        detail["added"] = added
    if wanted:
        detail["tags"] = list(wanted)
    audit.record(actor, Event.Action.IMAGE_PUSH, image, digest=digest, **detail)
    return manifest, True


@prepare_models(Manifest, image=BigIntegerField(), digest=TextField())
def _manifest(actor: Actor, image: Any, digest: Any) -> QuerySet[Manifest]:
    return Manifest.objects.without_content().filter(image=image, digest=digest)


@prepare_update(image=BigIntegerField(), now=DateTimeField())
def _note_push(image: Any, now: Any) -> tuple[QuerySet[Image], dict[str, Any]]:
    return Image.objects.filter(pk=image), {"pushed_at": now, "emptied_at": None}


def _create(
    image: Image,
    document: documents.Document,
    digest: str,
    content: bytes,
    platform: str,
    named: Sequence[Blob],
    children: Sequence[Manifest],
) -> Manifest:
    """Insert the manifest with its references to blobs and children. Raises Denied (the quota of digests)."""
    quotas.check_digests(image)
    manifest = Manifest(
        image=image,
        digest=digest,
        media_type=document.media_type,
        artifact_type=document.referrer_type,
        subject=document.subject.digest if document.subject else "",
        annotations=document.annotations if document.subject else {},
        platforms=platform or _platforms(document, children),
        content=content,
        size=len(content),
        total_size=len(content) + sum(blob.size for blob in named) + sum(child.total_size for child in children),
    )
    _insert_manifest.run(manifest)
    _insert_blobs.run_all(
        [ManifestBlob(manifest=manifest, blob=blob, repository_id=image.repository_id) for blob in named]
    )
    _insert_children.run_all([ManifestChild(parent=manifest, child=child) for child in children])
    return manifest


_insert_manifest = PreparedInsert(Manifest, returns_key=True)
_insert_blobs = PreparedInsert(ManifestBlob)
_insert_children = PreparedInsert(ManifestChild)


def _referenced(image: Image, document: documents.Document) -> tuple[list[Blob], list[Manifest]]:
    """Return the blobs and children of a document, and lock the blobs against the collector.

    Raises ManifestBlobUnknown, ManifestInvalid (a size differs).
    """
    of_blobs = {descriptor.digest for descriptor in document.blobs}
    of_children = {descriptor.digest for descriptor in document.children}
    named = blobs.lock_nameable(image.repository, of_blobs)
    children = _children.all(image=image.pk, digests=of_children) if of_children else []
    sizes = {blob.digest: blob.size for blob in named} | {child.digest: child.size for child in children}
    if missing := sorted((of_blobs | of_children) - sizes.keys()):
        raise errors.ManifestBlobUnknown(detail={"digests": missing})
    for descriptor in (*document.blobs, *document.children):
        if descriptor.size != (size := sizes[descriptor.digest]):
            raise errors.ManifestInvalid(f"{descriptor.digest} has {size} bytes, not {descriptor.size}")
    return named, children


@prepare_models(Manifest, image=BigIntegerField(), digests=ListOf(TextField()))
def _children(actor: Actor, image: Any, digests: Any) -> QuerySet[Manifest]:
    return Manifest.objects.live().without_content().filter(image=image, digest__in=digests)
