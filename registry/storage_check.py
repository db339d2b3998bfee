"""Compare the rows of Blob with the stored bytes. Repairs nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from registry.models import Blob, ObjectTrash, UploadSession
from registry.oci import digests
from registry.storage import Unanswered, blob_storage, upload_of

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

BATCH = 200
ORPHAN_AGE = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference between rows and stored bytes. ``kind``: missing, short, damaged or orphan."""

    kind: str
    key: str
    digest: str = ""


def verify(*, full: bool = False) -> Iterator[Problem | int]:
    """Compare rows and stored bytes; with ``full``, read every byte and compare digests.

    Yields problems, and after each batch the number of blobs checked so far. A push of a missing or short blob repairs
    it; the file of a damaged blob must be removed before. Orphans need a decision by the operator. Raises Unanswered.
    """
    storage, looked, last = blob_storage(), 0, 0
    while rows := list(Blob.objects.filter(pk__gt=last).order_by("pk")[:BATCH]):
        for blob in rows:
            if problem := _compare(blob, full=full):
                yield problem
        looked, last = looked + len(rows), rows[-1].pk
        yield looked
    for key in storage.keys(older_than=timezone.now() - ORPHAN_AGE):
        if not _is_owned(key):
            yield Problem("orphan", key)


def _compare(blob: Blob, *, full: bool) -> Problem | None:
    storage = blob_storage()
    try:
        if storage.holds(blob.storage_key, blob.size):
            is_whole = not full or _reads_as(blob.digest, blob.storage_key)
            return None if is_whole else Problem("damaged", blob.storage_key, blob.digest)
        kind = "short" if storage.exists(blob.storage_key) else "missing"
    except FileNotFoundError:  # deleted between holds() and open()
        kind = "missing"
    except Unanswered:
        raise
    except OSError as error:  # a disk error, or the file has other permissions
        logger.error("%s cannot be read: %s", blob.storage_key, error)
        kind = "damaged"
    return None if _has_moved(blob) else Problem(kind, blob.storage_key, blob.digest)


def _reads_as(digest: str, storage_key: str) -> bool:
    running = digests.new_hash(digests.parse(digest).algorithm)
    with blob_storage().open(storage_key) as file:
        while block := file.read(1024 * 1024):
            running.update(block)
    return running.hexdigest() == digest.partition(":")[2]


def _has_moved(blob: Blob) -> bool:
    """Whether the row was deleted or got another storage key since it was read."""
    return not Blob.objects.filter(pk=blob.pk, storage_key=blob.storage_key).exists()


def _is_owned(key: str) -> bool:
    if not key.isascii():  # not written by KCR: its keys end in an upload id
        return False
    if Blob.objects.filter(storage_key=key).exists() or ObjectTrash.objects.filter(pk=key).exists():
        return True
    try:
        upload = UploadSession(pk=upload_of(key))
    except ValueError:
        return False
    return (
        UploadSession.objects.filter(pk=upload.pk).exists()
        or ObjectTrash.objects.filter(pk=upload.storage_key).exists()
    )
