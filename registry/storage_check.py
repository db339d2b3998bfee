"""Compares the rows of blobs with the stored bytes. Repairs nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.utils import timezone

from registry.models import Blob, ObjectTrash, UploadSession
from registry.oci import digests
from registry.storage import blob_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

BATCH = 200
ORPHAN_AGE = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the rows say. ``kind``: missing, short, damaged or orphan."""

    kind: str
    key: str
    digest: str = ""


def verify(*, full: bool = False) -> Iterator[Problem | int]:
    """Compare rows and stored bytes; with ``full`` every byte is read.

    Yields problems, and now and then how many blobs were looked at. Repairs nothing: pushing a missing or short blob
    again does (so the file of a damaged one is to be removed first); orphans are for a person to judge.
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
    except FileNotFoundError:  # between the two looks
        kind = "missing"
    except OSError as error:  # the disk has lost it, or it is somebody else's by now
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
    """Whether the blob was collected, or repaired under another key, since it was read."""
    return not Blob.objects.filter(pk=blob.pk, storage_key=blob.storage_key).exists()


def _is_owned(key: str) -> bool:
    if not key.isascii():  # somebody put it there: keys of ours end in the id of the upload that brought the bytes
        return False
    if Blob.objects.filter(storage_key=key).exists() or ObjectTrash.objects.filter(pk=key).exists():
        return True
    try:
        upload = UUID(key.rpartition("/")[2])
    except ValueError:
        return False
    return UploadSession.objects.filter(pk=upload).exists()
