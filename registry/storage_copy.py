"""Copy all blobs from one storage to another one, under the same keys, while the registry goes on."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.database.transactions import release_connection
from registry.models import Blob
from registry.oci import digests
from registry.storage import Full, storage_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage import BlobStorage

logger = logging.getLogger(__name__)

BATCH = 200
BLOCK = 1024 * 1024


@dataclass(slots=True)
class Progress:
    """Numbers of blobs. ``there``: the target had them already. ``failed``: the source has other bytes, or none."""

    there: int = 0
    copied: int = 0
    failed: int = 0
    size: int = 0
    """Bytes of ``copied``."""

    @property
    def is_complete(self) -> bool:
        """Whether the target had every blob before this run."""
        return not self.copied and not self.failed


class _Damaged(Exception):
    pass


def copy(source_url: str, target_url: str) -> Iterator[Progress]:
    """Copy the blobs that the target does not have with their size; yield the numbers so far, after each batch.

    Blobs that arrive meanwhile are copied as well. Each is verified by its digest before the target has it. A run that
    is stopped is continued by the next one. Raises ValueError for a URL, and OSError.
    """
    source, target = storage_at(source_url), storage_at(target_url)
    target.check()
    progress, last = Progress(), 0
    while rows := list(Blob.objects.filter(pk__gt=last).order_by("pk")[:BATCH]):
        release_connection()
        for blob in rows:
            _copy_one(source, target, blob, progress)
        last = rows[-1].pk
        yield progress


def _copy_one(source: BlobStorage, target: BlobStorage, blob: Blob, progress: Progress) -> None:
    if target.holds(blob.storage_key, blob.size):
        progress.there += 1
        return
    try:
        target.adopt(blob.storage_key, _verified(source, blob))
    except Full as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    except (_Damaged, FileNotFoundError):
        if Blob.objects.filter(pk=blob.pk, storage_key=blob.storage_key).exists():  # else it was deleted meanwhile
            logger.error("%s is damaged or missing at %s, and was not copied", blob.digest, blob.storage_key)
            progress.failed += 1
        return
    progress.copied += 1
    progress.size += blob.size


def _verified(source: BlobStorage, blob: Blob) -> Iterator[bytes]:
    """Yield the bytes of a blob. Raises _Damaged at the end if they have another size or digest."""
    running, size = digests.new_hash(digests.parse(blob.digest).algorithm), 0
    with source.open(blob.storage_key) as file:
        while block := file.read(BLOCK):
            running.update(block)
            size += len(block)
            yield block
    if size != blob.size or running.hexdigest() != blob.digest.partition(":")[2]:
        raise _Damaged
