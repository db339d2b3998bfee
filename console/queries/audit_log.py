"""Pages and files of the audit logs of a project and of an organization."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from accounts import audit as accounts_audit
from console.queries.shared import listing
from registry import audit, trash
from registry.audit import By, Wanted
from registry.models import Event, Manifest, Tag
from scanning.models import Subscription
from scanning.undo import is_undoable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.models import AuditEvent, Project


PAGE = 50  # lines
READ = 300  # events at most: a line has several
MOSTLY = 120  # events: enough for most pages
PUSH = timedelta(minutes=10)  # the longest time from the first manifest of a push to its tag
CSV_HEADER = ("time", "action", "person", "who", "address", "client", "count", "last time", "detail", "event")
Action = Event.Action


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the page: an event, and the older ones that belong to it.

    Scans that ended one after the other are one line. So are a tag and the manifests that were pushed for it, and
    repeated pushes of the same digest under the same tag.
    """

    event: Event
    rest: list[Event]

    @property
    def events(self) -> list[Event]:
        """All of them, newest first."""
        return [self.event, *self.rest]


@dataclass(frozen=True, slots=True)
class Links:
    """What of the things that some events are about is there now, so that a page can link to it.

    ``manifests``: image id and digest of live manifests. ``restorable``: the deletion that an event made, by event.
    ``undoable``: the events whose change can be undone by itself. ``subscriptions``: their ids.
    """

    manifests: frozenset[tuple[int, str]] = frozenset()
    restorable: Mapping[int, int] = field(default_factory=dict)
    undoable: frozenset[int] = frozenset()
    subscriptions: frozenset[int] = frozenset()


def page(wanted: Wanted, asked: QueryDict) -> dict[str, Any]:
    """Fifty lines, and the ids of the events from which the neighbouring pages go on."""
    before, after = listing.identifier(asked.get("before")), listing.identifier(asked.get("after"))
    found = audit.page(wanted, MOSTLY if after is None else READ, before=before, after=after)
    lines = in_lines(found.events)
    if after is None and found.has_older and len(lines) <= PAGE:
        found = audit.page(wanted, READ, before=before)
        lines = in_lines(found.events)
    shown = lines[:PAGE] if after is None else lines[-PAGE:]
    is_cut = len(shown) < len(lines)
    newer = found.has_newer or (is_cut and after is not None)
    older = found.has_older or (is_cut and after is None)
    return {
        "lines": shown,
        "links": links_of(wanted.project, [event for line in shown for event in line.events]),
        "newer": shown[0].event.pk if shown and newer else None,
        "older": shown[-1].events[-1].pk if shown and older else None,
        "is_filtered": wanted != type(wanted)(wanted.project, wanted.repository, wanted.image, by=wanted.by),
        "by": wanted.by,
        "key": wanted.key,
    }


def recent(project: Project, number: int) -> dict[str, Any]:
    """The last lines of what people did, as ``page`` gives them."""
    found = audit.page(Wanted(project, by=By.PEOPLE), number * 5)
    lines = in_lines(found.events)[:number]
    return {"lines": lines, "links": links_of(project, [event for line in lines for event in line.events])}


def in_lines(events: Iterable[Event]) -> list[Line]:
    """The events, newest first, as lines."""
    lines: list[Line] = []
    for event in events:
        if lines and _belongs(lines[-1].event, event):
            lines[-1].rest.append(event)
        else:
            lines.append(Line(event, []))
    return lines


def _belongs(newest: Event, event: Event) -> bool:
    """Whether an event is part of the line that begins with ``newest``."""
    if event.action == Action.SCAN_DONE:
        return newest.action == Action.SCAN_DONE
    same = all(getattr(newest, name) == getattr(event, name) for name in ("image_id", "user_id", "key_id", "address"))
    if event.action == Action.TAG_PUSH == newest.action:
        return same and (newest.tag, newest.digest) == (event.tag, event.digest)
    is_push = newest.action in {Action.TAG_ADD, Action.TAG_MOVE} and event.action == Action.IMAGE_PUSH
    return same and is_push and newest.at - event.at < PUSH


def links_of(project: Project, events: Sequence[Event]) -> Links:
    """What the page of these events can link to. Six queries."""
    ids = [event.pk for event in events]
    named = {(event.image_id, event.digest) for event in events if event.digest}
    named |= {(event.image_id, str(event.detail.get("before"))) for event in events if event.action == Action.TAG_MOVE}
    images, digests = {image for image, _ in named}, {digest for _, digest in named}
    manifests = Manifest.objects.live().filter(image__in=images, digest__in=digests)
    made = trash.listed(project).filter(event__in=ids)
    closed = Tag.objects.filter(closed_by__in=ids, deletion__in=trash.listed(project))
    opened = Tag.objects.live().filter(opened_by__in=[event.pk for event in events if event.action == Action.TAG_MOVE])
    noted = {event.detail.get("subscription") for event in events if event.action == Action.NOTICE_CHANGE}
    live = Subscription.objects.live().filter(project=project)
    subscriptions = live.filter(pk__in=noted) if noted else live.none()
    moved = set(opened.values_list("opened_by", flat=True))
    undone = {pk for event in events for pk in event.detail.get("undoes", ())}
    return Links(
        manifests=frozenset(manifests.values_list("image", "digest") if named else ()),
        restorable=dict([*closed.values_list("closed_by", "deletion"), *made.values_list("event", "pk")]),
        undoable=frozenset(
            event.pk for event in events if event.pk not in undone and (event.pk in moved or _is_setting(event))
        ),
        subscriptions=frozenset(subscriptions.values_list("pk", flat=True)),
    )


def _is_setting(event: Event) -> bool:
    """Whether the event changed settings, roles, a notification or an acceptance, of something that is not deleted."""
    if event.action in {Action.MEMBER_CHANGE, Action.PROJECT_UPDATE} or is_undoable(event):
        return True
    if event.action in {Action.IMAGE_UPDATE, Action.EXPIRY_CHANGE}:
        return event.image is not None and event.image.deletion_id is None
    if event.action == Action.REPOSITORY_UPDATE and not event.detail.get("after"):
        return False  # the readme alone was changed: the log has no former text
    settings = {Action.REPOSITORY_UPDATE, Action.CLEANUP_POLICY, Action.ROLE_CHANGE}
    return event.action in settings and event.repository is not None and event.repository.deletion_id is None


def csv_rows(found: QuerySet[AuditEvent]) -> Iterator[tuple[str, ...]]:
    """The events as rows of a CSV file, newest first, CSV_HEADER first."""
    yield CSV_HEADER
    for event in accounts_audit.rows(found):
        yield (
            *(event.at.isoformat(), event.action, event.subject, event.actor, event.address, event.client),
            *(str(event.count), event.last_at.isoformat() if event.last_at else ""),
            *(json.dumps(event.detail, ensure_ascii=False, sort_keys=True) if event.detail else "", str(event.pk)),
        )
