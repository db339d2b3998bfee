"""The reaper: deletes the stored bytes of keys in ObjectTrash. Keys are never used again."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from registry.database.transactions import retried
from registry.failpoints import failpoint
from registry.models import Blob, ObjectTrash
from registry.storage import blob_storage

logger = logging.getLogger(__name__)

BATCH = 200
PAUSE = 0.05  # seconds between batches: other writers get their turn
RETRY_OBJECT = timedelta(minutes=10)


def reap(limit: int = 10_000) -> int:
    """Delete up to ``limit`` due objects; return their number. If it is killed, the next call repeats its work."""
    reaped = 0
    while reaped < limit and (keys := _claim(min(BATCH, limit - reaped))):
        for key in keys:
            blob_storage().delete(key)
            failpoint("reap.deleted")
        ObjectTrash.objects.filter(pk__in=keys).delete()
        reaped += len(keys)
        time.sleep(PAUSE)
    return reaped


@retried
def _claim(number: int) -> list[str]:
    """Return due keys, and hide them from other workers for RETRY_OBJECT."""
    now = timezone.now()
    with transaction.atomic():
        due = ObjectTrash.objects.filter(delete_after__lte=now).select_for_update(skip_locked=True)
        keys = list(due.order_by("delete_after").values_list("pk", flat=True)[:number])
        owned = set(Blob.objects.filter(storage_key__in=keys).values_list("storage_key", flat=True))
        if owned:  # a bug elsewhere: keys are never used twice. Keep the bytes.
            logger.critical("trash names the bytes of living blobs: %s", sorted(owned))
        ObjectTrash.objects.filter(pk__in=keys).update(delete_after=now + RETRY_OBJECT, attempts=F("attempts") + 1)
    return [key for key in keys if key not in owned]
