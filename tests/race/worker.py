"""Shared parts of the workers: a fast clock, shared digests, and the loop that counts deeds."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import User
from registry import blobs, errors, storage_check, uploads
from registry.garbage import collector, reaper
from registry.models import Repository
from registry.storage import blob_storage
from tests.race import controls
from tests.race.world import EMAIL, REPOSITORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

LEASE = 2.0  # seconds
# So many that most have few or no references: the collector often deletes a blob during its push.
CONTENTS = [f"layer {number}".encode() * 40 for number in range(48)]
GIVEN_UP = [f"given up {number}".encode() * 40 for number in range(4)]
CONFIGS = [json.dumps({"architecture": f"a{number}", "os": "linux"}).encode() for number in range(4)]

rng = random.Random(os.getpid())


@dataclass
class Counts:
    """Attempts, successes and problems of a worker."""

    tried: int = 0
    done: int = 0
    wrong: list[str] = field(default_factory=list)


counts = Counts()


def wrong(what: str) -> None:
    """Record a problem that must never occur."""
    counts.wrong.append(what)


@cache
def me() -> Actor:
    """Return the user who pushes, deletes and restores."""
    user = User.objects.get(email=EMAIL)
    return Actor(user_id=user.pk, label=user.email)


def any_repository() -> Repository | None:
    """Return one of the two repositories, None if it is deleted."""
    found = Repository.objects.live().select_related("project").filter(name=rng.choice(REPOSITORIES))
    return found.first()


def nap(seconds: float) -> None:
    """Sleep for a random time up to the given seconds."""
    time.sleep(rng.random() * seconds)


def hurry(rows: QuerySet, field: str) -> None:  # type: ignore[type-arg]
    """Make future deadlines due now.

    Rows locked by another process are skipped, because this function does not follow the order of locks.
    """
    with transaction.atomic():
        free = list(rows.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True))
        rows.model._default_manager.filter(pk__in=free).update(**{field: timezone.now()})


def _hasten() -> None:
    """Make leases, recovery and delays last a second or less."""
    blobs.LEASE = timedelta(seconds=LEASE)
    collector.OBJECT_DELAY = timedelta(0)
    collector.PAUSE = reaper.PAUSE = 0
    collector.BACKOFF = timedelta(0)
    storage_check.ORPHAN_AGE = timedelta(0)
    uploads.DONE_SESSION_LIFE = timedelta(seconds=1)


def run(deed: Callable[[], int]) -> None:
    """Print "ready", wait for a line, repeat the deed until the time is over or damage is found, and print the counts."""
    logging.disable(logging.CRITICAL)
    _hasten()
    if control := os.environ["RACE_CONTROL"]:
        controls.CONTROLS[control]()
    blob_storage().check()  # the first request to S3 takes half a second of the processor
    print("ready", flush=True)
    sys.stdin.readline()
    end, found = time.monotonic() + float(os.environ["RACE_SECONDS"]), Path(os.environ["RACE_FOUND"])
    while time.monotonic() < end and not found.exists():
        try:
            counts.tried += 1
            counts.done += deed()
        except errors.RegistryError:
            pass
        except Exception as error:
            # A database that refuses the effect of a control is not the damage that must be found.
            if not (control and isinstance(error, DatabaseError)):
                wrong(traceback.format_exc()[-2500:])
        if counts.wrong:
            found.touch()
    print(json.dumps(asdict(counts)))
