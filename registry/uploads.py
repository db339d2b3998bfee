"""Uploads of blobs.

The row of UploadSession exists before the first byte is written. Bytes are written outside of transactions; one short
transaction at the end makes the blob visible. See docs/design/storage.md, "Upload".
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import BigIntegerField, DateTimeField, Q, TextField, UUIDField
from django.utils import timezone

from accounts.models import User
from registry import blobs, errors, images
from registry.database.leases import is_over
from registry.database.locks import lock_row_for_share
from registry.database.prepared import PreparedInsert, prepare, prepare_models, prepare_update
from registry.database.transactions import may_be_lost, release_connection, retried
from registry.failpoints import failpoint
from registry.models import Blob, ObjectTrash, Repository, UploadSession
from registry.oci import digests
from registry.running_hashes import RunningHashes
from registry.storage import Busy, Full, Missing, Saved, TooLarge, Writer, blob_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from hashlib import _Hash

    from django.db.models import QuerySet

    from accounts.actors import Actor

logger = logging.getLogger(__name__)

SESSION_LIFE = timedelta(hours=24)
IDLE = timedelta(hours=1)  # start() may end an upload that got no bytes for longer
DONE_SESSION_LIFE = timedelta(hours=1)
TRASH_DELAY = timedelta(hours=2)
OPEN_SESSIONS = 100  # of a key, so that the jobs of one pipeline leave room for those of another
OPEN_SESSIONS_OF_USER = 1_000
WRITER_LEASE = timedelta(seconds=30)  # for storages without locks
ABANDONED_AGE = timedelta(hours=48)
RUNNING_HASHES = 4_096  # about half a kilobyte each

_hashes = RunningHashes(RUNNING_HASHES)


@dataclass(frozen=True, slots=True)
class Piece:
    """The body of a request. ``start``: the offset in bytes that the client declares; None: append at the end."""

    chunks: Iterable[bytes]
    start: int | None = None


NOWHERE = -1  # start of an invalid Content-Range: differs from every offset


def start(actor: Actor, repository: Repository, image_name: str, algorithm: str = "") -> UploadSession:
    """Open an upload. ``algorithm``: hash the bytes with it while they arrive.

    A key has at most OPEN_SESSIONS open uploads, its user OPEN_SESSIONS_OF_USER. At a limit, end the upload of the key
    or of the user that has been idle longest, if it has been idle for IDLE.
    Raises DigestInvalid (unknown algorithm), TooManyRequests (at the limit, and none is idle), StorageFull, and what
    ``images.check_push`` raises: bytes of a push that is refused in the end are not uploaded.
    """
    algorithm = algorithm or digests.DEFAULT_ALGORITHM
    if algorithm not in digests.HEX_LENGTHS:
        raise errors.DigestInvalid(f"digest algorithm must be one of {', '.join(digests.HEX_LENGTHS)}")
    if actor.user_id is None:
        raise errors.Unauthorized
    blobs.check_room()
    wanted = UploadSession(
        repository=repository,
        image_name=image_name,
        user_id=actor.user_id,
        key_id=actor.key_id,
        algorithm=algorithm,
        expires_at=_expiry(),
    )
    while (too_many := _open(wanted)) is not None:
        if not _end_idle(too_many):
            raise errors.TooManyRequests(
                f"{_most(too_many)} of your uploads are open already: finish some, or end them in your profile",
                detail={"seconds": 60},
            )
    return wanted


@retried
def _open(wanted: UploadSession) -> _Owner | None:
    """Save the session, or return the key or user that has too many. A lock on the user's row makes the count exact."""
    with transaction.atomic():
        _lock_user.first(user=wanted.user_id)
        keys = [row.key for row in _open_keys.all(user=wanted.user_id, now=timezone.now())]
        if keys.count(wanted.key_id) >= OPEN_SESSIONS:
            return _Owner(wanted.user_id, wanted.key_id, is_key=True)
        if len(keys) >= OPEN_SESSIONS_OF_USER:
            return _Owner(wanted.user_id, None, is_key=False)
        images.check_push(wanted.repository, wanted.image_name)
        _insert_session.run(wanted)
    wanted._state.adding = False
    return None


class _Owner(NamedTuple):
    """A key of a user, or the user with all keys."""

    user_id: int
    key_id: int | None
    is_key: bool


def _most(owner: _Owner) -> int:
    return OPEN_SESSIONS if owner.is_key else OPEN_SESSIONS_OF_USER


class _Key(NamedTuple):
    key: Any


@prepare(_Key, user=BigIntegerField())
def _lock_user(actor: Actor, user: Any) -> QuerySet[Any, Any]:
    return User.objects.select_for_update(no_key=True).filter(pk=user).values_list("pk")


@prepare(_Key, user=BigIntegerField(), now=DateTimeField())
def _open_keys(actor: Actor, user: Any, now: Any) -> QuerySet[Any, Any]:
    return UploadSession.objects.open(now).filter(user=user).values_list("key")


_insert_session = PreparedInsert(UploadSession)


def _end_idle(owner: _Owner) -> bool:
    """End the owner's upload that has been idle longest; False if none is idle. An upload with a writer is not idle."""
    idle = of_user(owner.user_id).filter(expires_at__lt=_expiry() - IDLE)
    if owner.is_key:
        idle = idle.filter(key=owner.key_id)
    for session in idle.order_by("expires_at")[: _most(owner)]:
        try:
            with _writing(session):
                discard(session, among=idle)
        except (Busy, errors.BlobUploadUnknown):
            continue
        return True
    return False


def of_user(user_id: int) -> QuerySet[UploadSession]:
    """Return the open uploads of a user."""
    return UploadSession.objects.open().filter(user=user_id)


def end(user_id: int, upload: UUID) -> bool:
    """End an open upload of the user in any repository. Return whether it existed."""
    session = of_user(user_id).filter(pk=upload).first()
    if session is not None:
        discard(session)
    return session is not None


def moved_at(session: UploadSession) -> datetime:
    """Return when the open upload began or got its last bytes."""
    return session.expires_at - SESSION_LIFE


def _expiry() -> datetime:
    """Return the expiry of an upload that gets bytes now."""
    return timezone.now() + SESSION_LIFE


def push(actor: Actor, repository: Repository, image_name: str, digest: str, piece: Piece) -> Blob:
    """Upload a whole blob in one request. On an error, discard the upload: the client does not know its id.

    Raises what ``start`` and ``finish`` raise.
    """
    session = start(actor, repository, image_name, blobs.parse_digest(digest).algorithm)
    try:
        return finish(actor, repository, image_name, str(session.pk), digest, piece)
    except Exception:
        discard(session)
        raise


def find(actor: Actor, repository: Repository, image_name: str, upload: str) -> UploadSession:
    """Return the actor's open upload for this image. Raises BlobUploadUnknown."""
    session = _own(actor, repository, image_name, upload)
    if session is None or session.state != UploadSession.State.OPEN:
        raise errors.BlobUploadUnknown
    return session


def append(session: UploadSession, piece: Piece) -> UploadSession:
    """Append bytes. They are durable when this returns; a power cut may take back the offset, so that they come again.

    Raises RangeInvalid (``start`` is not the offset, or another request is writing), SizeInvalid (the body was cut: the
    offset does not change), BlobTooLarge, StorageFull.
    """
    with _written(session, piece) as written:
        saved = written.writer.save()
        # The bytes of an earlier offset are in the same file. S3 deletes those of an earlier offset.
        with may_be_lost() if blob_storage().locks else nullcontext():
            has_moved = _move.run(
                upload=session.pk,
                writer=session.writer,
                offset=session.offset,
                end=saved.size,
                stored_as=saved.name,
                digest=written.digest,
                expiry=_expiry(),
            )
        if not has_moved:
            raise errors.BlobUploadUnknown
        if written.running is not None:
            _hashes.keep(session.pk, written.running)
    session.offset, session.stored_as, session.prefix_digest = saved.size, saved.name, written.digest
    return session


@prepare_update(
    upload=UUIDField(),
    writer=TextField(),
    offset=BigIntegerField(),
    end=BigIntegerField(),
    stored_as=TextField(),
    digest=TextField(),
    expiry=DateTimeField(),
)
def _move(
    upload: Any, writer: Any, offset: Any, end: Any, stored_as: Any, digest: Any, expiry: Any
) -> tuple[QuerySet[UploadSession], dict[str, Any]]:
    """Set the new offset, if the upload is open and still has this writer and this offset."""
    current = UploadSession.objects.filter(pk=upload, state=UploadSession.State.OPEN, writer=writer, offset=offset)
    return current, {"offset": end, "stored_as": stored_as, "prefix_digest": digest, "expires_at": expiry}


def finish(actor: Actor, repository: Repository, image_name: str, upload: str, digest: str, piece: Piece) -> Blob:
    """Append the last bytes, check the digest, and lease the blob to the repository.

    A repeated request for a finished upload (the first response was lost) returns the same blob.
    Raises DigestInvalid (the bytes are discarded), BlobUploadUnknown, and what ``append`` raises.
    """
    claimed = blobs.parse_digest(digest)
    try:
        return _finish(find(actor, repository, image_name, upload), repository, claimed, piece)
    except errors.BlobUploadUnknown:
        done = _own(actor, repository, image_name, upload)
        is_done = done is not None and done.state == UploadSession.State.DONE and done.digest == digest
        blob = Blob.objects.filter(digest=digest).first() if is_done else None
        if blob is None:
            raise
        return blob


def _finish(session: UploadSession, repository: Repository, claimed: digests.Digest, piece: Piece) -> Blob:
    digest = str(claimed)
    with _written(session, piece, claimed.algorithm) as written:
        if not _has_digest(session, written, claimed):
            discard(session)
            raise errors.DigestInvalid(f"the bytes that arrived do not have the digest {digest}")
        key = written.writer.publish()
        blob = _make_visible(session, repository, digest, written.end, key)
    _hashes.forget(session.pk)
    return blob


def _has_digest(session: UploadSession, written: _Written, claimed: digests.Digest) -> bool:
    """Seal the bytes and compare their digest. Read them only if their digest is not known yet."""
    if written.digest not in {"", str(claimed)}:
        return False
    is_own = written.writer.seal()
    if is_own and written.digest:
        return True
    return _digest_of(_renewing(session, written.writer.read()), claimed.algorithm) == str(claimed)


def discard(session: UploadSession, *, among: QuerySet[UploadSession] | None = None) -> None:
    """Delete the row of an open upload that is still in ``among``, and its bytes, staged or published."""
    rows = UploadSession.objects.all() if among is None else among
    with transaction.atomic():
        row = rows.select_for_update().filter(pk=session.pk).first()
        if row is None or row.state == UploadSession.State.DONE:
            return
        _trash(row.storage_key)
        row.delete()
    _hashes.forget(session.pk)
    failpoint("discard.forgotten")  # after a crash here, reap() deletes the bytes: their key is in ObjectTrash
    blob_storage().discard(session.pk)


def is_of_nothing(digest: str) -> bool:
    """Whether this is the digest of zero bytes. Raises DigestInvalid."""
    return digests.is_of_nothing(blobs.parse_digest(digest))


def sweep(limit: int = 1_000) -> int:
    """Delete expired uploads, open and finished ones. Return their number."""
    overdue = list(UploadSession.objects.overdue().order_by("expires_at")[:limit])
    for session in overdue:
        try:
            if session.state == UploadSession.State.DONE:
                # What requests left that failed. A session that ended before stored_as existed has none.
                blob_storage().discard(session.pk, keep=session.stored_as or session.storage_key)
                session.delete()
            else:
                discard(session, among=UploadSession.objects.overdue())
        except OSError:
            logger.exception("the storage keeps bytes of the upload %s for now", session.pk)
    return len(overdue)


def discard_abandoned() -> int:
    """Delete unpublished bytes that no upload has had for ABANDONED_AGE. Return the number of their uploads.

    There are some if a process ended, or lost its storage, at the wrong moment.
    """
    storage, found = blob_storage(), 0
    for upload in set(storage.unfinished(older_than=timezone.now() - ABANDONED_AGE)):
        if UploadSession.objects.filter(pk=upload).exists():
            continue
        blob = Blob.objects.filter(storage_key__startswith=UploadSession(pk=upload).storage_key).first()
        storage.discard(upload, keep=blob.storage_key if blob else "")
        found += 1
    return found


@dataclass(frozen=True, slots=True)
class _Written:
    """The writer, the new offset in bytes, and of all bytes before it the digest ("") and the hash (None: unknown)."""

    writer: Writer
    end: int
    digest: str
    running: _Hash | None


def _own(actor: Actor, repository: Repository, image_name: str, upload: str) -> UploadSession | None:
    """Return the upload, open or done, if user, repository and image match. Raises BlobUploadUnknown for no UUID."""
    try:
        identifier = UUID(upload)
    except ValueError as error:
        raise errors.BlobUploadUnknown from error
    return _session.first(actor, upload=identifier, repository=repository.pk, image_name=image_name, now=timezone.now())


@prepare_models(
    UploadSession, upload=UUIDField(), repository=BigIntegerField(), image_name=TextField(), now=DateTimeField()
)
def _session(actor: Actor, upload: Any, repository: Any, image_name: Any, now: Any) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(
        pk=upload, repository=repository, image_name=image_name, user=actor.user_id, expires_at__gt=now
    )


@contextmanager
def _written(session: UploadSession, piece: Piece, algorithm: str = "") -> Iterator[_Written]:
    """Append the bytes under the storage's lock of the upload. Hash them if the hash of those before them is known.

    The caller saves the new offset inside the block, so the lock covers bytes and row. Take the lock first, then read
    the row again: a request that loaded the row before another write would truncate acknowledged bytes.
    """
    algorithm = algorithm or session.algorithm
    try:
        with _storage_errors(session.offset), _writing(session) as writer:
            _look_again(session)
            if piece.start is not None and piece.start != session.offset:
                raise _wrong_offset(session.offset)
            release_connection()
            saved, chunks = Saved(session.offset, session.stored_as), _renewing(session, piece.chunks)
            before = session.prefix_digest if session.prefix_digest.startswith(f"{algorithm}:") else ""
            running = _hashes.of(session.pk, before) if session.offset else digests.new_hash(algorithm)
            seen = len if running is None else running.update
            end = writer.append(saved, chunks, settings.MAX_BLOB_SIZE, seen)
            if running is not None:
                digest = f"{algorithm}:{running.hexdigest()}"
            else:
                digest = before if end == session.offset else ""
            yield _Written(writer, end, digest, running)
    except errors.BlobTooLarge:
        discard(session)
        raise


@contextmanager
def _writing(session: UploadSession) -> Iterator[Writer]:
    """Lock the upload for the block: by the storage, or if it has no locks, by the row. Raises Busy."""
    storage = blob_storage()
    with nullcontext() if storage.locks else _leased(session), storage.writing(session.pk, session.storage_key) as it:
        yield it


@contextmanager
def _leased(session: UploadSession) -> Iterator[None]:
    """Make this request the writer of the upload's row for the block; ``_renewing`` keeps it so.

    A writer that stops renewing, such as a machine that lost its power, can be replaced after WRITER_LEASE. It notices
    that when it saves: it does not have the row's ``writer`` any more.
    Raises Busy, BlobUploadUnknown.
    """
    now, writer = timezone.now(), secrets.token_hex(16)
    free = Q(writer="") | is_over("writer_until", now, WRITER_LEASE)
    rows = UploadSession.objects.filter(pk=session.pk, state=UploadSession.State.OPEN)
    if not rows.filter(free).update(writer=writer, writer_until=now + WRITER_LEASE):
        if rows.exists():
            raise Busy
        raise errors.BlobUploadUnknown
    session.writer = writer
    try:
        yield
    finally:
        UploadSession.objects.filter(pk=session.pk, writer=writer).update(writer="")


def _renewing(session: UploadSession, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks, and renew the lease of the writer meanwhile. Raises Busy if another request has it."""
    renewed = time.monotonic()
    for chunk in chunks:
        if session.writer and time.monotonic() - renewed > WRITER_LEASE.total_seconds() / 3:
            until = timezone.now() + WRITER_LEASE
            if not UploadSession.objects.open_to(session).update(writer_until=until):
                raise Busy
            release_connection()
            renewed = time.monotonic()
        yield chunk


def _look_again(session: UploadSession) -> None:
    """Read an open session again. Raises BlobUploadUnknown, or RangeInvalid if its offset has changed."""
    current = _current.first(upload=session.pk)
    if current is None:
        blob_storage().discard(session.pk)  # writing() has created this file, and no row is left for sweep() to find it
        raise errors.BlobUploadUnknown
    if session.offset != current.offset:
        raise _wrong_offset(current.offset)
    session.stored_as, session.prefix_digest = current.stored_as, current.prefix_digest


@prepare_models(UploadSession, upload=UUIDField())
def _current(actor: Actor, upload: Any) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(pk=upload, state=UploadSession.State.OPEN)


def _digest_of(chunks: Iterable[bytes], algorithm: str) -> str:
    running = digests.new_hash(algorithm)
    for chunk in chunks:
        running.update(chunk)
    return f"{algorithm}:{running.hexdigest()}"


@retried
def _make_visible(session: UploadSession, repository: Repository, digest: str, size: int, key: str) -> Blob:
    """Save the blob, its lease and the finished session in one transaction. The bytes are durable already."""
    failpoint("finish.published")
    damaged = _damaged_key(digest)
    now = timezone.now()
    with transaction.atomic():
        locked = _lock_session.first(upload=session.pk)
        if locked is None or locked.writer != session.writer:  # another request has ended it, or goes on with it
            raise errors.BlobUploadUnknown
        blob = _insert(digest, size, key)
        if blob.storage_key == damaged:
            blob.storage_key = key
            blob.save(update_fields=["storage_key"])
            _trash(damaged)
        elif blob.storage_key != key:
            _trash(key)
        _end_session.run(upload=session.pk, digest=digest, size=size, key=key, expiry=now + DONE_SESSION_LIFE)
        blobs.lease(repository, blob)
        failpoint("finish.before_commit")
    failpoint("finish.committed")
    return blob


class _Locked(NamedTuple):
    writer: str


@prepare(_Locked, upload=UUIDField())
def _lock_session(actor: Actor, upload: Any) -> QuerySet[Any, Any]:
    return UploadSession.objects.select_for_update().filter(pk=upload).values_list("writer")


@prepare_update(upload=UUIDField(), digest=TextField(), size=BigIntegerField(), key=TextField(), expiry=DateTimeField())
def _end_session(
    upload: Any, digest: Any, size: Any, key: Any, expiry: Any
) -> tuple[QuerySet[UploadSession], dict[str, Any]]:
    changes = {"state": UploadSession.State.DONE, "digest": digest, "offset": size, "stored_as": key}
    return UploadSession.objects.filter(pk=upload), {**changes, "writer": "", "expires_at": expiry}


def _insert(digest: str, size: int, storage_key: str) -> Blob:
    """Insert the blob's row, or find and lock it. Retry if the collector deletes the row before the lock."""
    for _ in range(3):
        inserted = Blob(digest=digest, size=size, storage_key=storage_key)
        _insert_blob.run(inserted)
        if not inserted._state.adding:
            return inserted  # no other transaction sees this row, so none deletes it
        blob = _blob.first(digest=digest)
        if blob is not None and lock_row_for_share(Blob, blob.pk):
            found = _blob.first(digest=digest)
            blob = found if found == blob else None  # a row that replaced it is not locked
        if blob is not None:
            return blob
    raise errors.Unavailable


_insert_blob = PreparedInsert(Blob, ignores=True, returns_key=True)


@prepare_models(Blob, digest=TextField())
def _blob(actor: Actor, digest: Any) -> QuerySet[Blob]:
    return Blob.objects.filter(digest=digest)


def _damaged_key(digest: str) -> str | None:
    """Return the storage key of an existing blob whose bytes are missing or short: this upload replaces them."""
    blob = _blob.first(digest=digest)
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
    """Translate exceptions of the storage into RegistryError."""
    try:
        yield
    except Busy as error:
        raise errors.RangeInvalid("another request is writing to this upload", detail={"offset": offset}) from error
    except TooLarge as error:
        raise errors.BlobTooLarge(f"a blob may have at most {settings.MAX_BLOB_SIZE:,} bytes here") from error
    except Full as error:
        raise errors.StorageFull from error
    except Missing as error:
        raise errors.BlobUploadUnknown("the upload's bytes are missing: start again") from error
