"""Count pulls and pushes by tag and day, without a write in the request.

A request counts in memory; a thread of the web process writes every 5 seconds (registry.background). A crash loses a
few seconds of statistics.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F, Max, Q
from django.utils import timezone

from registry.database.transactions import retried
from registry.models import Image, Manifest, ManifestChild, ProjectDay, Repository, Tag, TagDay
from registry.oci import digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEPT_DAYS = 400


class Kind(StrEnum):
    """PULL: GET of a manifest. CHECK: HEAD of a manifest. PUSH: push of a tag, or of a digest that was there."""

    PULL = "pulls"
    CHECK = "checks"
    PUSH = "pushes"

    @property
    def moment(self) -> str:
        """The column of TagDay with the time of the last one; "" for PUSH, which has none."""
        return {Kind.PULL: "pulled_at", Kind.CHECK: "checked_at"}.get(self, "")


@dataclass(slots=True)
class _Note:
    """Counts and last times of one reference on one day."""

    counts: Counter[Kind] = field(default_factory=Counter)
    last: dict[Kind, datetime] = field(default_factory=dict)


class PullCounter:
    """Counts of this process that are not written yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Drop all counts."""
        with self._lock:
            self._notes: dict[tuple[int, str, date], _Note] = {}

    def note(self, image_id: int, reference: str, kind: Kind) -> None:
        """Count one use of a tag or digest. No query."""
        now = timezone.now()
        with self._lock:
            key = (image_id, reference, now.date())
            if (note := self._notes.get(key)) is None:
                note = self._notes[key] = _Note()
            note.counts[kind] += 1
            note.last[kind] = now

    def flush(self) -> int:
        """Write the counts; return the number of references."""
        with self._lock:
            notes, self._notes = self._notes, {}
        if notes:
            _write_all(notes)
        return len(notes)


counter = PullCounter()


def counted_since(repository: Repository) -> datetime:
    """Return the time since when pulls of the repository are recorded. Earlier pulls are unknown."""
    return max(repository.created_at, timezone.now() - timedelta(days=KEPT_DAYS))


def last_pulls(images: Sequence[Image]) -> dict[int, datetime]:
    """Return {Tag id: last pull of this version}, without versions that have no recorded pull."""
    tags = Tag.objects.filter(
        Q(ended_at=None) | Q(image__days__pulled_at__lt=F("ended_at")),
        image__in=images,
        image__days__tag=F("name"),
        image__days__pulled_at__gte=F("started_at"),
    )
    return dict(tags.order_by().values_list("pk").annotate(last=Max("image__days__pulled_at")))


def forget(now: datetime) -> int:
    """Delete rows of TagDay older than KEPT_DAYS; return their number."""
    oldest = now.date().toordinal() - KEPT_DAYS
    return TagDay.objects.filter(day__lt=date.fromordinal(oldest)).delete()[0]


@retried
def _write_all(notes: dict[tuple[int, str, date], _Note]) -> None:
    """Write the counts in one transaction. Tags come first: _tag_pulled_as() reads their checks."""
    with transaction.atomic():
        projects = _projects({image_id for image_id, _, _ in notes})
        for (image_id, reference, day), note in sorted(
            notes.items(), key=lambda item: (digests.is_digest(item[0][1]), item[0])
        ):
            if image_id in projects:
                _write(projects[image_id], image_id, reference, day, note)


def _projects(image_ids: Iterable[int]) -> dict[int, int]:
    found = Image.objects.filter(pk__in=image_ids).values_list("pk", "repository__project")
    return dict(found)


def _write(project_id: int, image_id: int, reference: str, day: date, note: _Note) -> None:
    used = dict(note.counts)
    tag: str | None = reference
    if digests.is_digest(reference):
        used.pop(Kind.CHECK, None)
        if used.pop(Kind.PUSH, 0):
            _note_push(image_id, reference, note.last[Kind.PUSH])
        tag = _tag_pulled_as(image_id, reference)
    if tag is None or not used:
        return
    row, _ = TagDay.objects.get_or_create(image_id=image_id, tag=tag, day=day)
    times = {f"{kind.moment}": at for kind, at in note.last.items() if kind in used and kind.moment}
    TagDay.objects.filter(pk=row.pk).update(**{kind: F(kind) + count for kind, count in used.items()}, **times)
    whole, _ = ProjectDay.objects.get_or_create(project_id=project_id, day=day)
    added = {kind: F(kind) + count for kind, count in used.items() if kind is not Kind.CHECK}
    if added:
        ProjectDay.objects.filter(pk=whole.pk).update(**added)
    if pulled_at := times.get("pulled_at"):
        Image.objects.filter(pk=image_id).exclude(pulled_at__gte=pulled_at).update(pulled_at=pulled_at)


def _note_push(image_id: int, digest: str, at: datetime) -> None:
    """Write when a digest was pushed again. The push of a new digest writes these times itself."""
    Manifest.objects.filter(image=image_id, digest=digest, last_pushed_at__lt=at).update(last_pushed_at=at)
    Image.objects.filter(pk=image_id, pushed_at__lt=at).update(pushed_at=at)


def _tag_pulled_as(image_id: int, digest: str) -> str | None:
    """Return the tag for which docker fetched this digest (docker sends HEAD for the tag, then GET for the digest).

    If several tags have the digest: the one checked last. "": no tag has it. None: a child of an index; the GET of the
    index was counted.
    """
    manifest = Manifest.objects.filter(image=image_id, digest=digest).values_list("pk", flat=True).first()
    if manifest is None or ManifestChild.objects.filter(child=manifest).exists():
        return None
    tags = list(Tag.objects.live().filter(manifest=manifest).order_by("name").values_list("name", flat=True))
    if len(tags) < 2:
        return tags[0] if tags else ""
    checked = TagDay.objects.filter(image=image_id, tag__in=tags).exclude(checked_at=None)
    return checked.order_by("-checked_at").values_list("tag", flat=True).first() or tags[0]
