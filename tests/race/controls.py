"""Controls: each breaks one rule, as other registries do or did. A race with a control must find damage.

The controls widen the time windows, as on a slow machine.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from registry import uploads
from registry.garbage import collector
from registry.models import Blob, BlobLease, BlobReview, ManifestBlob, UploadSession
from registry.storage import blob_storage, s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

rng = random.Random(os.getpid())


def reused_keys() -> None:
    """Keep bytes under their digest, and delete them once the row is gone.

    A push that finds no row then writes the file that is being deleted.
    """

    def take(gone: Iterable[Blob], now: datetime) -> None:
        keys, pks = [blob.storage_key for blob in gone], [blob.pk for blob in gone]
        BlobReview.objects.filter(blob__in=pks).delete()
        BlobLease.objects.filter(blob__in=pks).delete()
        Blob.objects.filter(pk__in=pks).delete()
        transaction.on_commit(lambda: delete_late(keys))

    def delete_late(keys: list[str]) -> None:
        time.sleep(rng.uniform(0.1, 1))
        for key in keys:
            blob_storage().delete(key)

    keys: dict[Any, str] = {}
    original = uploads._finish

    def finish(session: UploadSession, repository: Any, claimed: Any, piece: Any) -> Any:
        keys[session.pk] = str(claimed).replace(":", "-")
        return original(session, repository, claimed, piece)

    def key_of(session: UploadSession) -> str:
        return f"blobs/xx/{keys.get(session.pk, session.pk)}"

    collector._take = take
    uploads._finish = finish
    UploadSession.storage_key = property(key_of)  # type: ignore[assignment,method-assign]
    s3._ObjectWriter._new_key = lambda self: self._root  # type: ignore[method-assign]


def look_before_the_lock() -> None:
    """Look up references and leases before the blobs are locked, so that later ones are missed."""

    def collect(project_id: int | None, until: datetime) -> dict[str, int]:
        wanted = list(BlobReview.objects.values_list("blob", flat=True))
        leases = BlobLease.objects.filter(blob__in=wanted, expires_at__gt=timezone.now())
        referenced = set(ManifestBlob.objects.filter(blob__in=wanted).values_list("blob", flat=True))
        leased = set(leases.values_list("blob", flat=True))
        time.sleep(rng.uniform(0.2, 2))
        gone = list(Blob.objects.filter(pk__in=set(wanted) - referenced - leased))
        for blob in gone:
            with suppress(DatabaseError), transaction.atomic():  # skip a protected blob and delete the others
                ManifestBlob.objects.filter(blob=blob).delete()
                collector._take([blob], timezone.now())
        return {"collected": len(gone)}

    collector.collect = collect  # type: ignore[assignment]


CONTROLS: dict[str, Callable[[], None]] = {
    "reused keys": reused_keys,
    "look before the lock": look_before_the_lock,
}
