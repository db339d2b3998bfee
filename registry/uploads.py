"""Blobs on their way in.

An upload is a session row first, bytes second. Bytes move outside any transaction; what they mean changes in one short
transaction at the end. See docs/design/storage.md, "Upload".
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from registry import blobs, errors
from registry.database.transactions import release_connection, retried
from registry.failpoints import failpoint
from registry.models import Blob, ObjectTrash, Repository, UploadSession
from registry.oci import digests
from registry.storage import Busy, Full, Missing, TooLarge, blob_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

    from accounts.actors import Actor

SESSION_LIFE = timedelta(hours=24)
IDLE = timedelta(hours=1)  # an upload that waits for its next bytes for longer may be ended for the sake of a new one
DONE_SESSION_LIFE = timedelta(hours=1)
TRASH_DELAY = timedelta(hours=2)
OPEN_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """A request's bytes for an upload: ``start`` is where the client says that they belong (None: at the end)."""

    chunks: Iterable[bytes]
    start: int | None = None


NOWHERE = -1  # a start that cannot be read: no upload ever stands there


def start(actor: Actor, repository: Repository, image_name: str, algorithm: str = "") -> UploadSession:
    """Open an upload into the repository. ``algorithm`` is a hint at the digest that will come.

    At most OPEN_SESSIONS are open for a user, exactly. When there are as many, the one that has been idle for longest,
    and for IDLE at least, is ended for the new one.
    Raises DigestInvalid (unknown algorithm), TooManyRequests (too many are open, and none is idle), StorageFull,
    NameUnknown (the repository was deleted meanwhile).
    """
    algorithm = algorithm or digests.DEFAULT_ALGORITHM
    if algorithm not in digests.HEX_LENGTHS:
        raise errors.DigestInvalid(f"digest algorithm must be one of {', '.join(digests.HEX_LENGTHS)}")
    if actor.user_id is None:
        raise errors.Unauthorized
    blobs.check_room()
    wanted = UploadSession(
        repository=repository, image_name=image_name, user_id=actor.user_id, algorithm=algorithm, expires_at=_expiry()
    )
    while not _open(wanted):
        if not _end_idle(actor.user_id):
            raise errors.TooManyRequests(
                f"{OPEN_SESSIONS} of your uploads are open already: finish some, or end them in your profile",
                detail={"seconds": 60},
            )
    return wanted


@retried
def _open(wanted: UploadSession) -> bool:
    """Save a new session, unless its user has OPEN_SESSIONS already. The user's row is the lock of the count."""
    with transaction.atomic():
        list(User.objects.select_for_update(no_key=True).filter(pk=wanted.user_id).values_list("pk"))
        if of_user(wanted.user_id)[:OPEN_SESSIONS].count() >= OPEN_SESSIONS:
            return False
        if not Repository.objects.live().filter(pk=wanted.repository_id).lock_for_share().exists():
            raise errors.NameUnknown
        wanted.save(force_insert=True)
    return True


def _end_idle(user_id: int) -> bool:
    """End the upload of the user that has been idle for longest; whether there was one. One being written to is not."""
    idle = of_user(user_id).filter(expires_at__lt=_expiry() - IDLE)
    for session in idle.order_by("expires_at")[:OPEN_SESSIONS]:
        try:
            with blob_storage().writing(session.pk):
                discard(session, among=idle)
        except Busy:
            continue
        return True
    return False


def of_user(user_id: int) -> QuerySet[UploadSession]:
    """The open uploads of a user."""
    return UploadSession.objects.open().filter(user=user_id)


def end(user_id: int, upload: UUID) -> bool:
    """End an open upload of the user, wherever it is going; whether there was one."""
    session = of_user(user_id).filter(pk=upload).first()
    if session is not None:
        discard(session)
    return session is not None


def moved_at(session: UploadSession) -> datetime:
    """When the open upload began, or bytes of it came last."""
    return session.expires_at - SESSION_LIFE


def _expiry() -> datetime:
    """When an upload ends that has moved now."""
    return timezone.now() + SESSION_LIFE


def push(actor: Actor, repository: Repository, image_name: str, digest: str, piece: Piece) -> Blob:
    """A whole blob in one request; when it fails nothing is left, since nobody knows of the upload.

    Raises what ``start`` and ``finish`` raise.
    """
    session = start(actor, repository, image_name, blobs.parse_digest(digest).algorithm)
    try:
        return finish(actor, repository, image_name, str(session.pk), digest, piece)
    except Exception:
        discard(session)
        raise


def find(actor: Actor, repository: Repository, image_name: str, upload: str) -> UploadSession:
    """The actor's own open upload of this image. Raises BlobUploadUnknown."""
    session = _own(actor, repository, image_name, upload).filter(state=UploadSession.State.OPEN).first()
    if session is None:
        raise errors.BlobUploadUnknown
    return session


def append(session: UploadSession, piece: Piece) -> UploadSession:
    """Add bytes; they are durable when this returns.

    Raises RangeInvalid (not where the upload stands, or somebody else is writing), SizeInvalid (the body was cut: the
    upload stays where it was), BlobTooLarge, StorageFull.
    """
    with _written(session, piece) as written:
        current = UploadSession.objects.filter(pk=session.pk, offset=session.offset, state=UploadSession.State.OPEN)
        if not current.update(offset=written.end, prefix_digest=written.digest, expires_at=_expiry()):
            raise errors.BlobUploadUnknown
    session.offset, session.prefix_digest = written.end, written.digest
    return session


def finish(actor: Actor, repository: Repository, image_name: str, upload: str, digest: str, piece: Piece) -> Blob:
    """Add the last bytes, check the digest, and make the blob visible to those who may push here.

    Finishing again what was finished (the answer was lost) returns the same blob.
    Raises DigestInvalid (the bytes are discarded), BlobUploadUnknown, and what ``append`` raises.
    """
    claimed = blobs.parse_digest(digest)
    own = _own(actor, repository, image_name, upload)
    try:
        return _finish(find(actor, repository, image_name, upload), claimed, piece)
    except errors.BlobUploadUnknown:
        done = own.filter(state=UploadSession.State.DONE, digest=digest)
        blob = Blob.objects.filter(digest__in=done.values("digest")).first()
        if blob is None:
            raise
        return blob


def _finish(session: UploadSession, claimed: digests.Digest, piece: Piece) -> Blob:
    digest = str(claimed)
    with _written(session, piece, claimed.algorithm) as written:
        storage = blob_storage()
        if (written.digest or _digest_of(storage.staged(session.pk, written.end), claimed.algorithm)) != digest:
            discard(session)
            raise errors.DigestInvalid(f"the bytes that arrived do not have the digest {digest}")
        storage.publish(session.pk, written.end, session.storage_key)
        return _make_visible(session, digest, written.end)


def discard(session: UploadSession, *, among: QuerySet[UploadSession] | None = None) -> None:
    """End an open upload, if it is still ``among`` these: forget its row, and its bytes under either name."""
    rows = UploadSession.objects.all() if among is None else among
    with transaction.atomic():
        row = rows.select_for_update().filter(pk=session.pk).first()
        if row is None or row.state == UploadSession.State.DONE:
            return
        _trash(row.storage_key)
        row.delete()
    failpoint("discard.forgotten")  # the bytes are in the trash in any case: under either name
    blob_storage().discard(session.pk)


def is_of_nothing(digest: str) -> bool:
    """Whether this is the digest of an empty blob, which needs no bytes."""
    return digests.is_of_nothing(blobs.parse_digest(digest))


def sweep(limit: int = 1_000) -> int:
    """End uploads whose time is over, finished ones included; returns how many."""
    overdue = list(UploadSession.objects.overdue().order_by("expires_at")[:limit])
    for session in overdue:
        if session.state == UploadSession.State.DONE:
            session.delete()
        else:
            discard(session, among=UploadSession.objects.overdue())
    return len(overdue)


@dataclass(frozen=True, slots=True)
class _Written:
    """Where an upload stands after a write: its end, and the digest of everything up to there ("" if not known)."""

    end: int
    digest: str


def _own(actor: Actor, repository: Repository, image_name: str, upload: str) -> QuerySet[UploadSession]:
    """The actor's upload of this id and image, open or done; nobody else's, and none through another name."""
    try:
        identifier = UUID(upload)
    except ValueError as error:
        raise errors.BlobUploadUnknown from error
    return UploadSession.objects.filter(
        pk=identifier, repository=repository, image_name=image_name, user=actor.user_id, expires_at__gt=timezone.now()
    )


@contextmanager
def _written(session: UploadSession, piece: Piece, algorithm: str = "") -> Iterator[_Written]:
    """Append the bytes to the stored ones, hashing them on the way when they are the first.

    Nobody else writes to the upload before the block has ended, which says in the database what became of them; and
    where the upload stands is asked only now that nobody else does.
    """
    algorithm = algorithm or session.algorithm
    running = digests.new_hash(algorithm)
    try:
        with _storage_errors(session.offset), blob_storage().writing(session.pk, session.storage_key) as write:
            _look_again(session)
            if piece.start is not None and piece.start != session.offset:
                raise _wrong_offset(session.offset)
            release_connection()
            end = write(session.offset, piece.chunks, settings.MAX_BLOB_SIZE, running.update)
            if session.offset == 0:
                yield _Written(end, f"{algorithm}:{running.hexdigest()}")
            elif end == session.offset and session.prefix_digest.startswith(f"{algorithm}:"):
                yield _Written(end, session.prefix_digest)
            else:
                yield _Written(end, "")
    except errors.BlobTooLarge:
        discard(session)
        raise


def _look_again(session: UploadSession) -> None:
    """Read an open session anew. Raises BlobUploadUnknown, or RangeInvalid when it has moved on since it was found."""
    current = UploadSession.objects.filter(pk=session.pk, state=UploadSession.State.OPEN).first()
    if current is None:
        blob_storage().discard(session.pk)  # the writer's file, which nobody would ever sweep
        raise errors.BlobUploadUnknown
    if session.offset != current.offset:
        raise _wrong_offset(current.offset)
    session.prefix_digest = current.prefix_digest


def _digest_of(chunks: Iterable[bytes], algorithm: str) -> str:
    running = digests.new_hash(algorithm)
    for chunk in chunks:
        running.update(chunk)
    return f"{algorithm}:{running.hexdigest()}"


@retried
def _make_visible(session: UploadSession, digest: str, size: int) -> Blob:
    """The bytes are durable under the session's key; say so in one transaction."""
    failpoint("finish.published")
    damaged = _damaged_key(digest)
    now = timezone.now()
    with transaction.atomic():
        locked = UploadSession.objects.select_for_update().filter(pk=session.pk).first()
        if locked is None:
            raise errors.BlobUploadUnknown
        blob = _insert(digest, size, locked.storage_key)
        if blob.storage_key == damaged:
            blob.storage_key = locked.storage_key
            blob.save(update_fields=["storage_key"])
            _trash(damaged)
        elif blob.storage_key != locked.storage_key:
            _trash(locked.storage_key)
        locked.state, locked.digest, locked.offset = UploadSession.State.DONE, digest, size
        locked.expires_at = now + DONE_SESSION_LIFE
        locked.save(update_fields=["state", "digest", "offset", "expires_at"])
        blobs.lease(locked.repository, blob)
        failpoint("finish.before_commit")
    failpoint("finish.committed")
    return blob


def _insert(digest: str, size: int, storage_key: str) -> Blob:
    """Insert or find the blob's row, and lock it. The collector may delete a found row before that: try again."""
    for _ in range(3):
        Blob.objects.bulk_create([Blob(digest=digest, size=size, storage_key=storage_key)], ignore_conflicts=True)
        if blob := Blob.objects.filter(digest=digest).lock_for_share().first():
            return blob
    raise errors.Unavailable


def _damaged_key(digest: str) -> str | None:
    """The storage key of a blob whose row is there but whose bytes are not: pushing it again repairs it."""
    blob = Blob.objects.filter(digest=digest).first()
    if blob is None or blob_storage().holds(blob.storage_key, blob.size):
        return None
    return blob.storage_key


def _trash(storage_key: str) -> None:
    ObjectTrash.objects.bulk_create(
        [ObjectTrash(storage_key=storage_key, delete_after=timezone.now() + TRASH_DELAY)], ignore_conflicts=True
    )


def _wrong_offset(offset: int) -> errors.RangeInvalid:
    return errors.RangeInvalid(
        f"the upload has {offset} bytes: the next chunk must start there", detail={"offset": offset}
    )


@contextmanager
def _storage_errors(offset: int = 0) -> Iterator[None]:
    """Say in the registry's words what the storage says in its own."""
    try:
        yield
    except Busy as error:
        raise errors.RangeInvalid("another request is writing to this upload", detail={"offset": offset}) from error
    except TooLarge as error:
        raise errors.BlobTooLarge(f"a blob may have at most {settings.MAX_BLOB_SIZE:,} bytes here") from error
    except Full as error:
        raise errors.StorageFull from error
    except Missing as error:
        raise errors.BlobUploadUnknown("the upload's bytes are gone: start again") from error
