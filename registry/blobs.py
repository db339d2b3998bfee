"""Blobs: find, read, mount, lease and drop.

A blob is visible per repository: to everyone who may pull, if a live manifest of an unexpired image references it; to
those who may push, also through an open lease. Knowing the digest is not enough. See docs/design/storage.md,
"Visibility".
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.db import transaction
from django.db.models import BigIntegerField, DateTimeField, OuterRef, Q, Subquery, TextField
from django.utils import timezone

from registry import access, errors
from registry.database.locks import lock_rows_for_share
from registry.database.prepared import ListOf, PreparedInsert, prepare, prepare_models
from registry.models import Blob, BlobLease, BlobReview, ManifestBlob, Repository
from registry.oci import digests
from registry.oci.names import ImageName
from registry.storage import Full, blob_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from django.core.files import File
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from registry.models.blobs import BlobQuerySet
    from registry.storage import BlobStorage

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LEASE = timedelta(hours=24)


class _PulledRow(NamedTuple):
    blob_id: int
    size: int
    storage_key: str
    repository_id: int


def permitted_blob(actor: Actor, name: ImageName, digest: str) -> Blob:
    """The blob, if the actor may pull from the image's repository. One query when a live manifest refers to it.

    Raises DigestInvalid, BlobUnknown, Denied (only expired images have it), and what ``access.require`` raises.
    """
    parse_digest(digest)
    row = _pulled.first(actor, project=name.project, repository=name.repository, digest=digest)
    if row is not None and access.token_covers(actor, access.Action.PULL, row.repository_id):
        return Blob(pk=row.blob_id, digest=digest, size=row.size, storage_key=row.storage_key)
    repository = access.require(actor, access.Action.PULL, name)
    leased = BlobLease.objects.open().filter(repository=repository, blob__digest=digest).select_related("blob").first()
    if leased is not None and _is_pusher(actor, repository):
        return leased.blob
    if ManifestBlob.objects.live().filter(repository=repository, blob__digest=digest).exists():
        raise errors.Denied(f"every image of {repository} with this blob has expired: it is not pulled any more")
    raise errors.BlobUnknown


@prepare(_PulledRow, project=TextField(), repository=TextField(), digest=TextField())
def _pulled(actor: Actor, project: Any, repository: Any, digest: Any) -> QuerySet[Any, Any]:
    references = ManifestBlob.objects.pulled().of_repository(ImageName(project, repository, ""))
    permitted = access.permitted(references.filter(blob__digest=digest), actor, access.Action.PULL, "repository")
    return permitted.values_list("blob", "blob__size", "blob__storage_key", "repository")[:1]


def open_bytes(blob: Blob) -> File[bytes]:
    """Open the blob's bytes. Raises BlobUnknown if they are missing or short; another push of the blob repairs it."""
    return _whole(blob, lambda storage: storage.open(blob.storage_key))


def address(blob: Blob) -> str:
    """Return a URL of the storage where the client can read the blob for some minutes; "" if there is none."""
    return blob_storage().address(blob.storage_key, blob.size)


def place(blob: Blob, path: Path, *, copied: bool = False) -> None:
    """Link the blob's bytes at ``path``, read-only; with ``copied``, copy them.

    Raises BlobUnknown if they are missing or short.
    """
    _whole(blob, lambda storage: storage.place(blob.storage_key, path, copied=copied))


def _whole(blob: Blob, use: Callable[[BlobStorage], Result]) -> Result:
    """Call ``use`` if the storage has all bytes of the blob. Raises BlobUnknown."""
    storage = blob_storage()
    try:
        if storage.holds(blob.storage_key, blob.size):
            return use(storage)
    except FileNotFoundError:
        pass
    logger.critical("blob %s has lost its bytes at %s", blob.digest, blob.storage_key)
    raise errors.BlobUnknown("the blob's bytes are damaged: push it again")


def read(repository: Repository, digest: str, limit: int) -> bytes | None:
    """Return a blob of at most ``limit`` bytes that the repository references or leases; None if missing or damaged.

    Ignores expiry and permission: the console shows expired images too.
    """
    blob = _readable.first(repository=repository.pk, digest=digest, limit=limit, now=timezone.now())
    if blob is None:
        return None
    try:
        with open_bytes(blob) as file:
            return bytes(file.read())
    except errors.BlobUnknown:
        return None


@prepare_models(Blob, repository=BigIntegerField(), digest=TextField(), limit=BigIntegerField(), now=DateTimeField())
def _readable(actor: Actor, repository: Any, digest: Any, limit: Any, now: Any) -> QuerySet[Blob]:
    own = ManifestBlob.objects.naming(repository, OuterRef("pk"))
    leases = BlobLease.objects.open(now).filter(repository=repository, blob=OuterRef("pk"))
    return Blob.objects.filter(_is_in(own) | _is_in(leases), digest=digest, size__lte=limit)


def _is_in(rows: QuerySet[Any]) -> Q:
    """The blobs that one of these rows names. ``rows``: a subquery for the blob of the outer row.

    Exists is slow here: PostgreSQL may read the rows of all blobs of the repository, and keep the answers in a table.
    """
    return Q(pk=Subquery(rows.values("blob")[:1]))


def permitted_blob_to_push(actor: Actor, name: ImageName, digest: str) -> Blob:
    """The blob; an actor who may push may name it in a manifest of this repository for at least half a LEASE.

    Two queries and no write while the present lease is long enough. Raises DigestInvalid, BlobUnknown, and what
    ``access.require`` raises.
    """
    parse_digest(digest)
    repository = access.find(actor, access.Action.PUSH, name)
    if repository is None:
        return permitted_blob(actor, name, digest)
    now = timezone.now()
    blob = _seen.first(repository=repository.pk, digest=digest, now=now)
    if blob is None:
        raise errors.BlobUnknown
    leased_until: datetime | None = blob.leased_until  # type: ignore[attr-defined]
    if leased_until is None or leased_until < now + LEASE / 2:
        with transaction.atomic():
            blob = nameable(repository, [digest]).lock_for_share().first()
            if blob is None:
                raise errors.BlobUnknown
            lease(repository, blob)
    return blob


@prepare_models(Blob, repository=BigIntegerField(), digest=TextField(), now=DateTimeField())
def _seen(actor: Actor, repository: Any, digest: Any, now: Any) -> QuerySet[Blob]:
    """The blob, if a manifest of the repository may name it. ``leased_until``: the end of its lease, None without."""
    leases = BlobLease.objects.filter(repository=repository, blob=OuterRef("pk"))
    return nameable(repository, [digest], now=now).annotate(leased_until=Subquery(leases.values("expires_at")))


def mount(actor: Actor, repository: Repository, source: ImageName | None, digest: str) -> Blob | None:
    """Lease a blob of ``source`` that the actor may pull to ``repository``, and return it.

    Return None in all other cases: a mount must not reveal which repositories and blobs exist.
    """
    if source is None or not digests.is_wellformed(digest):
        return None
    shown_by = access.find(actor, access.Action.PULL, source)
    if shown_by is None:
        return None
    shown = nameable(shown_by, [digest], leased=_is_pusher(actor, shown_by))
    blob = shown.first()
    if blob is None or not blob_storage().holds(blob.storage_key, blob.size):
        return None
    with transaction.atomic():
        blob = shown.lock_for_share().first()
        if blob is not None:
            lease(repository, blob)
    return blob


def nameable(repository: Any, wanted: Any, *, leased: bool = True, now: Any = None) -> BlobQuerySet:
    """Return the blobs with these digests that a manifest of the repository may name; ``leased``: open leases count.

    ``repository``: the row or its id. ``now``: the present, if the query is prepared.
    """
    seen = _is_in(ManifestBlob.objects.naming(repository, OuterRef("pk"), pulled=True))
    if leased:
        seen |= _is_in(BlobLease.objects.open(now).filter(repository=repository, blob=OuterRef("pk")))
    return Blob.objects.filter(seen, digest__in=wanted)


def lock_nameable(repository: Repository, wanted: Collection[str]) -> list[Blob]:
    """As ``nameable``, locked against the collector. Run inside a transaction."""
    if not wanted:
        return []
    lock_rows_for_share(Blob, "digest", wanted)
    return _nameable.all(repository=repository.pk, digests=wanted, now=timezone.now())


@prepare_models(Blob, repository=BigIntegerField(), digests=ListOf(TextField()), now=DateTimeField())
def _nameable(actor: Actor, repository: Any, digests: Any, now: Any) -> QuerySet[Blob]:
    return nameable(repository, digests, now=now)


def drop(repository: Repository, digest: str) -> None:
    """End the repository's lease of a blob.

    Raises DigestInvalid, BlobUnknown, Unsupported (a live manifest references it).
    """
    parse_digest(digest)
    with transaction.atomic():
        if ManifestBlob.objects.live().filter(repository=repository, blob__digest=digest).exists():
            raise errors.Unsupported("a manifest of this repository still uses the blob: delete the manifest first")
        leases = BlobLease.objects.open().filter(repository=repository)
        blob = Blob.objects.filter(digest=digest, pk__in=leases.values("blob")).lock_for_share().first()
        if blob is None:
            raise errors.BlobUnknown
        leases.filter(blob=blob).delete()
        review([blob.pk], timezone.now(), repository.project_id)


def lease(repository: Repository, blob: Blob) -> None:
    """Lease the blob to the repository until now + LEASE. Run inside a transaction that has locked the blob's row."""
    until = timezone.now() + LEASE
    _insert_lease.run(BlobLease(repository_id=repository.pk, blob_id=blob.pk, expires_at=until))
    _insert_review.run(BlobReview(blob_id=blob.pk, review_after=until, project_id=repository.project_id))


_insert_lease = PreparedInsert(BlobLease, updates=["expires_at"], unique=["repository", "blob"])
_insert_review = PreparedInsert(BlobReview, updates=["review_after"], unique=["blob", "project"])


def review(blobs: Iterable[int], after: datetime, project_id: int) -> None:
    """Schedule a BlobReview of these blobs for the project. Run inside a transaction."""
    BlobReview.objects.bulk_create(
        [BlobReview(blob_id=blob, review_after=after, project_id=project_id) for blob in sorted(set(blobs))],
        update_conflicts=True,
        unique_fields=["blob", "project"],
        update_fields=["review_after"],
        batch_size=500,
    )


def check_room() -> None:
    """Raises StorageFull if only the reserve is left: deleting and signing in must work on a full disk."""
    try:
        blob_storage().check_room()
    except Full as error:
        raise errors.StorageFull from error


def parse_digest(text: str) -> digests.Digest:
    """Parse a digest from a request. Raises DigestInvalid."""
    try:
        return digests.parse(text)
    except digests.InvalidDigest as error:
        raise errors.DigestInvalid(str(error)) from error


def _is_pusher(actor: Actor, repository: Repository) -> bool:
    """Whether the user may push, even if the token of this request has the scope pull only."""
    return access.may(replace(actor, scope=None), access.Action.PUSH, repository)
