"""The audit log of projects: each change adds an event in its own transaction. Read by page, exported, pruned.

Pages are found by the ids of events, not by counting rows, so a page costs the same among ten events and among ten
million (see ``registry.models.audit``).
"""

from __future__ import annotations

import heapq
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, Q
from django.utils import timezone

from accounts.actors import SYSTEM, Actor
from accounts.models import User
from registry.database.prepared import PreparedInsert
from registry.models import Event, Image, Repository, Tag

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from accounts.models import AccessKey, Project
    from registry.models.audit import EventQuerySet

ROWS = 1_000  # read or deleted at a time
CSV_HEADER = (
    *("time", "action", "object", "tag", "digest", "who", "access key", "address", "client", "detail"),
    "event",
)
CLEANUP = Actor(label="cleanup policy", is_system=True)
_SYSTEM_LABELS = (SYSTEM.label, CLEANUP.label)
# Only the system does these. Their actor is the user who asked for them.
_SYSTEM_ACTIONS = (Event.Action.SCAN_DONE, Event.Action.COLLECTION_DONE)
_MOST_ACTORS = 10  # a query each
PATIENCE = 1.0  # seconds that ``settled`` waits for open transactions
_GLANCE = 0.02  # seconds between two looks at them
_WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = %s::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class By(StrEnum):
    """Who acted: people, in the console or with an access key; or the system, by itself."""

    PEOPLE = "people"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of a project's events. An event has to match every value that is given, and one of ``actions``.

    ``who``: a part of an e-mail address or of a user's name, or the whole text that the audit log shows as the actor.
    ``by`` None: people and the system. ``since`` is included, ``until`` is not.
    """

    project: Project
    repository: Repository | None = None
    image: Image | None = None
    actions: tuple[Event.Action, ...] = ()
    user: User | None = None
    key: AccessKey | None = None
    who: str = ""
    by: By | None = None
    tag: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, newest first, and whether newer and older ones match the same filter."""

    events: list[Event]
    has_newer: bool
    has_older: bool


def page(wanted: Wanted, limit: int, *, before: int | None = None, after: int | None = None) -> Page:
    """Up to ``limit`` events, newest first: the newest, or those next ``before`` or ``after`` the event of that id."""
    if after is not None:
        found = _some(wanted, limit + 1, Q(pk__gt=after), newest_first=False)
        events = found[:limit][::-1]
        has_newer, has_older = len(found) > limit, bool(_some(wanted, 1, Q(pk__lte=after)))
    else:
        found = _some(wanted, limit + 1, Q() if before is None else Q(pk__lt=before))
        events = found[:limit]
        has_newer = before is not None and bool(_some(wanted, 1, Q(pk__gte=before)))
        has_older = len(found) > limit
    return Page(events, has_newer=has_newer, has_older=has_older)


def rows(wanted: Wanted) -> Iterator[Event]:
    """All these events, newest first. Reads ROWS at a time and holds no database connection in between."""
    before = Q()
    while found := _some(wanted, ROWS, before):
        yield from found
        before = Q(pk__lt=found[-1].pk)


def csv_rows(wanted: Wanted) -> Iterator[tuple[str, ...]]:
    """The events as rows of a CSV file, CSV_HEADER first."""
    yield CSV_HEADER
    for event in rows(wanted):
        yield (
            *(event.at.isoformat(), event.action, event.path, event.tag, event.digest, event.actor),
            *(event.key.name if event.key else "", event.address, event.client),
            *(json.dumps(event.detail, ensure_ascii=False, sort_keys=True) if event.detail else "", str(event.pk)),
        )


def settled() -> int | None:
    """The highest id of an event that no event with a lower id can follow any more; None if that is not known now.

    PostgreSQL gives ids before transactions commit, so a lower id may appear after a higher one. Each transaction that
    writes an event holds a lock on the table (RowExclusiveLock) from before it takes an id until its rows are visible.
    So once the transactions that hold one after the highest id was read have ended, all lower ids are visible. This
    function waits for them for PATIENCE. On SQLite only one transaction writes at a time.
    """
    highest: int = Event.objects.aggregate(highest=Max("pk"))["highest"] or 0
    if connection.vendor != "postgresql":
        return highest
    until = time.monotonic() + PATIENCE
    open_ = _writers()
    while open_:
        if time.monotonic() > until:
            return None
        time.sleep(_GLANCE)
        open_ &= _writers()
    return highest


def _writers() -> set[str]:
    """The open transactions of others that may have written an event. PostgreSQL only."""
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [Event._meta.db_table])
        return {name for (name,) in cursor.fetchall()}


def changes(project: Project, after: int, limit: int) -> list[Event]:
    """Up to ``limit`` acts of the project after the event of that id, the oldest first; later calls find none before.

    Empty while an open transaction may still add one before them.
    """
    end = settled()
    found = Event.objects.acts().filter(project=project, pk__gt=after, pk__lte=end or 0).order_by("pk")
    return list(found.select_related("key")[:limit])


def prune() -> int:
    """Delete the events that are older than KCR_HISTORY_DAYS (0: keep all), in short transactions; returns how many.

    The event that added or moved a live tag stays as long as the tag does: pages show who pushed the tag.
    """
    if not settings.HISTORY_DAYS:
        return 0
    end = timezone.now() - timedelta(days=settings.HISTORY_DAYS)
    pruned, beyond = 0, Q()
    old = Event.objects.filter(at__lt=end).order_by("at", "pk")
    while found := list(old.filter(beyond).values_list("at", "pk")[:ROWS]):
        with transaction.atomic():
            opened = Tag.objects.live().filter(opened_by=OuterRef("pk"))
            pruned += Event.objects.filter(~Exists(opened), pk__in=[pk for _, pk in found]).delete()[0]
        at, pk = found[-1]
        beyond = Q(at__gte=at) & (Q(at__gt=at) | Q(pk__gt=pk))
    return pruned


def _some(wanted: Wanted, limit: int, where: Q, *, newest_first: bool = True) -> list[Event]:
    """Up to ``limit`` events: those that come first in all parts."""
    order = "-pk" if newest_first else "pk"
    related = ("key", "image", "repository")
    found = [part.filter(where).select_related(*related).order_by(order)[:limit] for part in _parts(wanted)]
    merged = heapq.merge(*found, key=lambda event: event.pk, reverse=newest_first)
    return [event for event, _number in zip(merged, range(limit), strict=False)]


def _parts(wanted: Wanted) -> list[EventQuerySet]:
    """The wanted events in parts that do not overlap. For each part an index gives the events in the order of ids."""
    chosen, actions = _chosen(wanted), tuple(dict.fromkeys(wanted.actions))
    if wanted.by is By.PEOPLE:
        chosen = chosen.exclude(actor__in=_SYSTEM_LABELS).exclude(action__in=_SYSTEM_ACTIONS)
    actors = _actors(wanted.who) if wanted.who else []
    if len(actors) > _MOST_ACTORS:  # so many people have done most of what there is
        chosen, actors = chosen.filter(Q(actor__icontains=wanted.who) | Q(user__name__icontains=wanted.who)), []
    if wanted.by is By.SYSTEM:
        chosen = chosen.filter(actor__in=actors) if actors else chosen
        others = chosen.exclude(action__in=_SYSTEM_ACTIONS)
        others = others.filter(action__in=actions) if actions else others
        own = [action for action in _SYSTEM_ACTIONS if not actions or action in actions]
        return [chosen.filter(action=action) for action in own] + [
            others.filter(actor=label) for label in _SYSTEM_LABELS
        ]
    if actions:
        chosen = chosen.filter(actor__in=actors) if actors else chosen
        return [chosen.filter(action=action) for action in actions]
    return [chosen.filter(actor=actor) for actor in actors] or [chosen]


def _actors(who: str) -> list[str]:
    """The actors whose address, name or label has the text in it, and the text itself: _MOST_ACTORS and a few."""
    users = User.objects.filter(Q(email__icontains=who) | Q(name__icontains=who)).order_by("pk")
    labels = [label for label in _SYSTEM_LABELS if who.lower() in label]
    return list(dict.fromkeys([*users.values_list("email", flat=True)[: _MOST_ACTORS + 1], *labels, who]))


def _chosen(wanted: Wanted) -> EventQuerySet:
    exact: dict[str, object] = {
        "image": wanted.image,
        "repository": None if wanted.image else wanted.repository,
        "user": wanted.user,
        "key": wanted.key,
        "tag": wanted.tag or None,
    }
    given = {field: value for field, value in exact.items() if value is not None}
    return Event.objects.filter(project=wanted.project, **given).between(wanted.since, wanted.until)


def record(
    actor: Actor,
    action: Event.Action,
    thing: Image | Repository | Project,
    *,
    tag: str = "",
    digest: str = "",
    path: str = "",
    undoes: Collection[int] = (),
    **detail: Any,
) -> Event:
    """Add an event to the audit log, in the transaction of the change. ``thing`` is what changed.

    ``path`` names it if the row is gone. ``undoes``: the ids of the events that the change undoes; the event keeps them
    in its detail. ``detail``: values that JSON has, such as those before and after.
    """
    event = build(actor, action, thing, tag=tag, digest=digest, path=path, undoes=undoes, **detail)
    _insert_event.run(event)
    return event


_insert_event = PreparedInsert(Event, returns_key=True)


def build(
    actor: Actor,
    action: Event.Action,
    thing: Image | Repository | Project,
    *,
    tag: str = "",
    digest: str = "",
    path: str = "",
    undoes: Collection[int] = (),
    **detail: Any,
) -> Event:
    """Return the event that ``record`` adds, not saved: for many at a time."""
    if undoes:
        detail["undoes"] = sorted(undoes)
    if actor.via:
        detail["via"] = actor.via
    image = thing if isinstance(thing, Image) else None
    repository = image.repository if image else thing if isinstance(thing, Repository) else None
    project = repository.project if repository else thing
    return Event(
        action=action,
        project_id=project.pk,
        repository=repository,
        image=image,
        path=path or str(thing),
        tag=tag,
        digest=digest,
        detail=detail,
        user_id=actor.user_id,
        key_id=actor.key_id,
        actor=actor.label[:254],
        address=actor.address[:45],
        client=actor.client[:200],
    )
