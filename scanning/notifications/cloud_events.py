"""Events of the audit log as CloudEvents 1.0, for the channel ``events`` and the change feed of the API.

``docs/reference/events.md`` describes the fields; a test compares it with TYPES.
"""

from __future__ import annotations

import uuid
from datetime import UTC
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from registry.models import Event

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from accounts.models import Project

PREFIX = "dev.kcr."
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
MAX_LIST = 100  # entries of a list in ``detail``

Action = Event.Action
TYPES: dict[Event.Action, str] = {
    Action.REPOSITORY_CREATE: "repository.created",
    Action.REPOSITORY_UPDATE: "repository.updated",
    Action.REPOSITORY_DELETE: "repository.deleted",
    Action.REPOSITORY_RECOVER: "repository.recovered",
    Action.ROLE_CHANGE: "permission.changed",
    Action.PROJECT_CREATE: "project.created",
    Action.PROJECT_UPDATE: "project.updated",
    Action.MEMBER_CHANGE: "member.changed",
    Action.IMAGE_PUSH: "digest.pushed",
    Action.IMAGE_UPDATE: "image.updated",
    Action.EXPIRY_CHANGE: "image.expiry_changed",
    Action.IMAGE_DELETE: "image.deleted",
    Action.IMAGE_RECOVER: "image.recovered",
    Action.TAG_ADD: "tag.added",
    Action.TAG_MOVE: "tag.moved",
    Action.TAG_PUSH: "image.pushed",
    Action.TAG_DELETE: "tag.deleted",
    Action.TAG_RECOVER: "tag.recovered",
    Action.DELETION_HOLD: "deletion.hold_changed",
    Action.DELETION_PURGE: "deletion.purged",
    Action.COLLECTION_RUN: "garbage_collection.requested",
    Action.COLLECTION_DONE: "garbage_collection.done",
    Action.CLEANUP_POLICY: "cleanup_policy.changed",
    Action.CLEANUP_RUN: "cleanup.run",
    Action.SCAN_DONE: "scan.done",
    Action.VULNERABILITY_ACCEPT: "vulnerability.accepted",
    Action.VULNERABILITY_WITHDRAW: "vulnerability.acceptance_withdrawn",
    Action.NOTICE_CHANGE: "notification.changed",
}
TEST = "test"


def type_of(event: Event) -> str:
    """The type of an event of ``EventQuerySet.acts``. Each push under a tag is ``image.pushed``."""
    is_push = event.action in {Action.TAG_ADD, Action.TAG_MOVE} and "media_type" in event.detail
    return TYPES[Action.TAG_PUSH if is_push else Action(event.action)]


def is_wanted(event: Event, types: Collection[str], repositories: str) -> bool:
    """Whether a subscription to these types ([]: all) in these repositories ("web team-*"; "": all) takes the event."""
    if types and type_of(event) not in types:
        return False
    name = _names(event)[0] or ""
    return not repositories or any(fnmatchcase(name, pattern) for pattern in repositories.split())


def of(event: Event, project: Project) -> dict[str, Any]:
    """The event as the JSON of CloudEvents. The same event is always the same JSON, but for the name of its key."""
    repository, image = _names(event)
    subject = event.path + (f":{event.tag}" if event.tag else f"@{event.digest}" if event.digest else "")
    data = {
        "project": project.name,
        "repository": repository,
        "image": image,
        "tag": event.tag or None,
        "digest": event.digest or None,
        "actor": event.actor,
        "key": event.key.identifier if event.key else None,
        "detail": _cut(event.detail),
    }
    return _envelope(f"evt_{event.pk}", type_of(event), project, subject, event.at) | {
        "sequence": f"{event.pk:020}",
        "data": data,
    }


def test_event(project: Project) -> dict[str, Any]:
    """An event of the type ``test``, which stands for nothing that happened."""
    made = _envelope(f"test_{uuid.uuid4().hex}", TEST, project, project.name, timezone.now())
    return made | {"data": {"project": project.name}}


def _envelope(name: str, kind: str, project: Project, subject: str, at: datetime) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": name,
        "type": PREFIX + kind,
        "source": f"{settings.PUBLIC_URL}/api/v1/projects/{project.name}",
        "subject": subject,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
    }


def _names(event: Event) -> tuple[str | None, str | None]:
    """Repository and image of the path, which is PROJECT, PROJECT/REPOSITORY or PROJECT/REPOSITORY/IMAGE."""
    _project, repository, image = [*event.path.split("/", 2), None, None][:3]
    return repository, image


def _cut(detail: dict[str, Any]) -> dict[str, Any]:
    """The detail with short lists: a deletion names each of its tags. ``truncated``: the names of the lists."""
    long = sorted(name for name, value in detail.items() if isinstance(value, list) and len(value) > MAX_LIST)
    return detail | {name: detail[name][:MAX_LIST] for name in long} | ({"truncated": long} if long else {})
