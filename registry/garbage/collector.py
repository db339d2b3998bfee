"""The collector: deletes blobs that nothing refers to, while pushes and pulls go on. See docs/design/storage.md.

Code that may end a project's last use of a blob inserts a BlobReview. The collector takes due reviews of one project,
and collects the blobs that the project neither references nor leases: these are the numbers on the page. It deletes a
blob when no project uses it: lock its row without waiting, then look for references, leases and reviews in new
statements. These see a push that committed before the lock; a later push finds no blob. ``reap`` deletes the bytes
later: their key is never used again, so only a download that has begun can still read them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.actors import SYSTEM, Actor
from accounts.models import Project
from registry import audit, errors
from registry.database.leases import is_stale
from registry.database.transactions import TRIES, retried
from registry.failpoints import failpoint
from registry.models import (
    Blob,
    BlobLease,
    BlobReview,
    Collection,
    Event,
    ManifestBlob,
    ObjectTrash,
)

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

    from registry.models.blobs import BlobQuerySet

logger = logging.getLogger(__name__)

BATCH = 200
PAUSE = 0.05  # seconds between batches: other writers get their turn
OBJECT_DELAY = timedelta(hours=2)  # time for downloads that have begun
BACKOFF = timedelta(minutes=1)
RETRY_OBJECT = timedelta(minutes=10)
STALE = timedelta(minutes=2)
SLICE = 1800.0  # seconds of a task; the next task continues the run
ORPHAN_AGE = timedelta(hours=48)
State = Collection.State


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would collect now, and what leases and Recovery keep: numbers of blobs, and bytes."""

    blobs: int
    size: int
    leased: int
    in_recovery: int
    recovery_size: int


def preview(project: Project | None) -> Preview:
    """Return what a run for this project (None: blobs of no project) would collect now. Changes nothing.

    The numbers do not depend on whether other projects have the same blobs.
    """
    now = timezone.now()
    own = _references(project)
    due = Blob.objects.filter(
        ~_names(own), ~_names(_leases(project, now)), reviews__project=project, reviews__review_after__lte=now
    )
    found = due.aggregate(blobs=Count("pk"), size=Coalesce(Sum("size"), 0))
    leased = Blob.objects.filter(~_names(own), _names(_leases(project, now))).count()
    live = own.filter(manifest__deletion=None)
    trashed = own.filter(manifest__deletion__isnull=False)
    kept = Blob.objects.filter(~_names(live), pk__in=trashed.values("blob"))
    in_recovery = kept.aggregate(blobs=Count("pk"), size=Coalesce(Sum("size"), 0))
    return Preview(found["blobs"], found["size"], leased, in_recovery["blobs"], in_recovery["size"])


def _references(project: Project | int | None) -> QuerySet[ManifestBlob]:
    """References of the project's manifests to blobs, with deleted manifests; None: of all projects."""
    found = ManifestBlob.objects.order_by()
    return found if project is None else found.filter(repository__project=project)


def _leases(project: Project | int | None, now: datetime) -> QuerySet[BlobLease]:
    """Open leases of the project; None: of all projects."""
    found = BlobLease.objects.filter(expires_at__gt=now).order_by()
    return found if project is None else found.filter(repository__project=project)


def _names(rows: QuerySet[Any]) -> Exists:
    """True if one of these rows has the blob of the outer query."""
    return Exists(rows.filter(blob=OuterRef("pk")))


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def request(actor: Actor, project: Project | None) -> tuple[Collection, bool]:
    """Create a run for the project; return it and True. If a run is open, return that one and False."""
    for _ in range(TRIES):  # the open run may end between the two statements
        try:
            with transaction.atomic():
                collection = Collection.objects.create(project=project, requested_by=actor.label[:254])
                if project is not None:
                    audit.record(actor, Event.Action.COLLECTION_RUN, project)
        except IntegrityError:
            current = Collection.objects.filter(project=project, state__in=Collection.OPEN).first()
            if current is not None:
                return current, False
        else:
            return collection, True
    raise errors.Unavailable


def request_all() -> list[int]:
    """Create a run for each project (or None) with due reviews. Return the ids of the new runs."""
    due = BlobReview.objects.filter(review_after__lte=timezone.now()).order_by().values_list("project", flat=True)
    made = (request(SYSTEM, project) for project in _projects(set(due.distinct())))
    return [collection.pk for collection, is_new in made if is_new]


def _projects(pks: set[int | None]) -> list[Project | None]:
    found: list[Project | None] = list(Project.objects.filter(pk__in=[pk for pk in pks if pk is not None]))
    return found + ([None] if None in pks else [])


def stop(collection: Collection) -> None:
    """Ask a run to stop after its present batch."""
    Collection.objects.filter(pk=collection.pk, state__in=Collection.OPEN).update(is_stopping=True)


def unfinished() -> list[int]:
    """Return the ids of queued runs, and of runs whose worker has died (heartbeat older than STALE)."""
    stale = Q(state=State.RUNNING) & is_stale("heartbeat_at", timezone.now(), STALE)
    found = Collection.objects.filter(stale | Q(state=State.QUEUED))
    return list(found.order_by("pk").values_list("pk", flat=True))


def run(collection_id: int, *, seconds: float = SLICE) -> Collection | None:
    """Work on an open run for up to ``seconds``, continuing where it was. Return None if the run is not open."""
    collection = (
        Collection.objects.select_related("project").filter(pk=collection_id, state__in=Collection.OPEN).first()
    )
    if collection is None:
        return None
    if collection.started_at is None:
        due = _due(collection.project_id, timezone.now()).count()
        now = timezone.now()
        begun = {"total": due, "started_at": now, "heartbeat_at": now, "state": State.RUNNING}
        Collection.objects.filter(pk=collection_id, started_at=None).update(
            **begun
        )  # unless another worker has begun it
        collection.refresh_from_db()
    try:
        _work(collection, time.monotonic() + seconds)
    except Exception as error:
        logger.exception("a collection failed")
        connection.close()
        _end(collection, State.FAILED, f"{type(error).__name__}: {error}"[:500])
    collection.refresh_from_db()
    return collection


def _work(collection: Collection, deadline: float) -> None:
    assert collection.started_at is not None
    until = collection.started_at
    while time.monotonic() < deadline:
        if Collection.objects.filter(pk=collection.pk, is_stopping=True).exists():
            _end(collection, State.STOPPED)
            return
        done = collect(collection.project_id, until)
        if done is None:
            _end(collection, State.DONE)
            return
        Collection.objects.filter(pk=collection.pk).update(
            heartbeat_at=timezone.now(),
            reviewed=F("reviewed") + done["reviewed"],
            collected=F("collected") + done["collected"],
            size=F("size") + done["size"],
        )
        time.sleep(PAUSE)


def _end(collection: Collection, state: State, problem: str = "") -> None:
    with transaction.atomic():
        open_ = Collection.objects.filter(pk=collection.pk, state__in=Collection.OPEN)
        if open_.update(state=state, finished_at=timezone.now(), problem=problem) and collection.project:
            collection.refresh_from_db()
            audit.record(
                SYSTEM,
                Event.Action.COLLECTION_DONE,
                collection.project,
                state=state,
                blobs=collection.collected,
                size=collection.size,
            )


def _due(project_id: int | None, until: datetime) -> QuerySet[BlobReview]:
    """Due reviews in the order of the index (project, review_after), so the database does not sort for each batch."""
    return BlobReview.objects.filter(project=project_id, review_after__lte=until).order_by("review_after")


# ── One batch ────────────────────────────────────────────────────────────────────────────────────────────────────────
@retried
def collect(project_id: int | None, until: datetime) -> Counter[str] | None:
    """Process one batch of a project's due reviews.

    Returns the numbers of blobs ``reviewed`` and ``collected`` (unused by the project), and the ``size`` of the
    collected ones in bytes; None if no review is due. Does not delete bytes.
    """
    with transaction.atomic():
        reviews = _due(project_id, until).select_for_update(skip_locked=True)
        wanted: dict[int, int] = dict(reviews.values_list("blob", "pk")[:BATCH])
        if not wanted:
            return None
        counted = Counter(reviewed=len(wanted))
        _let_go(_unused(project_id, wanted), counted)
        failpoint("collect.before_commit")
    return counted


def _unused(project_id: int | None, wanted: dict[int, int]) -> dict[int, int]:
    """Return the blobs (blob id: review id) that the project does not use.

    Delete the reviews of referenced blobs; postpone those of leased blobs to the end of the lease.
    """
    referenced = set(_references(project_id).filter(blob__in=wanted).values_list("blob", flat=True).distinct())
    open_leases = _leases(project_id, timezone.now()).filter(blob__in=wanted)
    leased: dict[int, datetime] = dict(open_leases.values_list("blob").annotate(until=Max("expires_at")))
    BlobReview.objects.filter(pk__in=[wanted[blob] for blob in referenced]).delete()
    for blob, end in leased.items():
        if blob not in referenced:
            BlobReview.objects.filter(pk=wanted[blob]).update(review_after=end)
    return {blob: review for blob, review in wanted.items() if blob not in referenced and blob not in leased}


def _let_go(unused: dict[int, int], counted: Counter[str]) -> None:
    """Delete the reviews of these blobs (blob id: review id), and the blobs that no project uses.

    If another transaction has locked a blob, move its review to the run without a project: the numbers of this run must
    not depend on other projects.
    """
    sizes = Blob.objects.filter(pk__in=unused).values_list("size", flat=True)
    counted.update(collected=len(unused), size=sum(sizes))
    # Only the collector locks blobs FOR UPDATE, which blocks pushes. It skips locked rows, so it causes no deadlock.
    rows = Blob.objects.select_for_update(skip_locked=True).filter(pk__in=unused).order_by("pk")
    locked = {blob.pk: blob for blob in rows}
    failpoint("collect.locked")
    now = timezone.now()
    busy = [review for blob, review in unused.items() if blob not in locked]
    BlobReview.objects.filter(pk__in=busy).update(project=None, review_after=now + BACKOFF, attempts=F("attempts") + 1)
    BlobReview.objects.filter(pk__in=[review for blob, review in unused.items() if blob in locked]).delete()
    needed = _needed(list(locked), now)
    _take([blob for pk, blob in locked.items() if pk not in needed], now)


def _needed(blobs: list[int], now: datetime) -> set[int]:
    """Return the blobs with a reference, an open lease or a review of any project.

    These new statements see all that was committed before the locks were taken.
    """
    waiting = BlobReview.objects.order_by()
    uses = (_references(None), _leases(None, now), waiting)
    return {pk for rows in uses for pk in rows.filter(blob__in=blobs).values_list("blob", flat=True).distinct()}


def _take(gone: list[Blob], now: datetime) -> None:
    """Delete the rows of blobs, and schedule their bytes for ``reap`` after OBJECT_DELAY."""
    pks = [blob.pk for blob in gone]
    ObjectTrash.objects.bulk_create(
        ObjectTrash(storage_key=blob.storage_key, delete_after=now + OBJECT_DELAY) for blob in gone
    )
    BlobLease.objects.filter(blob__in=pks).delete()
    Blob.objects.filter(pk__in=pks).delete()


def reconcile() -> int:
    """Review blobs without reference, lease and review; returns how many. There should be none: logs an alarm."""
    now = timezone.now()
    lost: BlobQuerySet = Blob.objects.filter(~_names(_references(None)), ~_names(_leases(None, now)), reviews=None)
    found = 0
    while pks := list(lost.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        BlobReview.objects.bulk_create(BlobReview(blob_id=pk, review_after=now + timedelta(days=1)) for pk in pks)
        found += len(pks)
    if found:
        logger.critical("%s blobs had neither a reference, nor a lease, nor a review", found)
    return found
