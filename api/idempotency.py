"""Idempotency-Key: a POST that is sent twice acts once, and gets the same answer twice (IdempotencyRecord)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import IdempotencyRecord

from . import problems

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.actors import Actor

KEPT = timedelta(days=1)
AT_WORK = timedelta(minutes=5)  # longer: the process that worked on it has ended
MAX_NAME = 64


def begin(request: HttpRequest, actor: Actor, body: bytes) -> IdempotencyRecord | None:
    """The record of this request: its ``status`` is None if the caller is to act, else it has the answer.

    None without an Idempotency-Key. Raises BadRequest, InUse, Invalid (the key was used for another request).
    """
    name = request.headers.get("Idempotency-Key")
    if name is None:
        return None
    if not (0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
        raise problems.BadRequest(f"Idempotency-Key has 1 to {MAX_NAME} printable characters")
    text = f"{request.method} {request.get_full_path()} ".encode() + body
    fingerprint, now = hashlib.sha256(text).hexdigest(), timezone.now()
    assert actor.key_id is not None
    own = IdempotencyRecord.objects.filter(key=actor.key_id, name=name)
    IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()
    own.filter(status=None, created_at__lt=now - AT_WORK).delete()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(key_id=actor.key_id, name=name, fingerprint=fingerprint)
    except IntegrityError:
        found = own.first()
    if found is None:
        raise problems.InUse
    if found.fingerprint != fingerprint:
        raise problems.Invalid("this Idempotency-Key was used for another request: choose a new one")
    if found.status is None:
        raise problems.InUse
    return found


def finish(record: IdempotencyRecord, status: int, location: str, body: object) -> None:
    """Keep the answer."""
    IdempotencyRecord.objects.filter(pk=record.pk).update(status=status, location=location[:500], body=body)


def forget(record: IdempotencyRecord) -> None:
    """The request was refused and has changed nothing: the same key may be sent again."""
    IdempotencyRecord.objects.filter(pk=record.pk).delete()
