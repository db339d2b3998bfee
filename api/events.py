"""The audit log of a project, and undoing what it lists."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from accounts.models import AccessKey, User
from registry import audit
from registry.access import Action
from registry.models import Event, Image, Repository
from scanning import undo
from scanning.notifications import cloud_events

from . import problems
from .base import ApiView, Page, operation
from .fields import Switch, Text, UndoneJson, Wanted, undone_json


class EventJson(serializers.Serializer[Any]):
    """A change."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    action = serializers.ChoiceField(choices=Event.Action.values)
    path = serializers.CharField(help_text="the project, repository or image that changed")
    tag = serializers.CharField()
    digest = serializers.CharField()
    actor = serializers.CharField()
    key = serializers.CharField(allow_null=True, help_text="the ID of the access key; null: the console or the system")
    address = serializers.CharField()
    client = serializers.CharField()
    detail = serializers.JSONField(help_text="the values before and after, and what else belongs to the action")


class ChangeDataJson(serializers.Serializer[Any]):
    """What changed: the values of the event of the audit log."""

    project = serializers.CharField()
    repository = serializers.CharField(allow_null=True)
    image = serializers.CharField(allow_null=True)
    tag = serializers.CharField(allow_null=True)
    digest = serializers.CharField(allow_null=True)
    actor = serializers.CharField()
    key = serializers.CharField(allow_null=True, help_text="the ID of the access key; null: the console or the system")
    detail = serializers.JSONField(help_text="the values before and after, and what else belongs to the action")


class ChangeJson(serializers.Serializer[Any]):
    """A change as a CloudEvent, as event webhooks get it."""

    specversion = serializers.CharField()
    id = serializers.CharField()
    type = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # the metaclass takes declared fields out
    subject = serializers.CharField()
    time = serializers.DateTimeField()
    datacontenttype = serializers.CharField()
    sequence = serializers.CharField(help_text="greater for later events")
    data = ChangeDataJson()  # type: ignore[assignment]


class EventsQuery(serializers.Serializer[Any]):
    """Which events. Each must match all that is given."""

    action = serializers.ChoiceField(choices=Event.Action.values, required=False)
    repository = Text(max_length=64, required=False)
    image = Text(max_length=200, required=False, help_text="the name of an image in the repository")
    tag = Text(max_length=128, required=False)
    actor = Text(max_length=254, required=False, help_text="a part of an e-mail address or of a user's name")
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class UndoWanted(Wanted):
    """Whose changes to undo: give one of ``key`` and ``user``."""

    key = Text(max_length=32, required=False, help_text="the ID of an access key")
    user = Text(max_length=254, required=False, help_text="an e-mail address")
    since = serializers.DateTimeField()
    dry_run = Switch(default=False, help_text="true: only tell what would be done")


class UndoOneWanted(Wanted):
    """Whether to undo."""

    dry_run = Switch(default=False, help_text="true: only tell what would be done")


def in_json(event: Event) -> dict[str, Any]:
    """An event as EventJson has it."""
    names = ("at", "action", "path", "tag", "digest", "actor", "address", "client", "detail")
    key = event.key.identifier if event.key else None
    return {"id": event.pk, "key": key, **{name: getattr(event, name) for name in names}}


class EventsView(ApiView):
    """/api/v1/projects/{project}/events"""

    noun = "events"

    @operation(Action.VIEW, EventJson, query=EventsQuery, is_list=True)
    def get(self) -> Page:
        """List the events of the audit log of a project, the newest first."""
        asked = self.query
        repository, image = self._place()
        if (repository is None and "repository" in asked) or (image is None and "image" in asked):
            return Page([])
        wanted = audit.Wanted(
            self.project,
            repository,
            image,
            actions=(Event.Action(asked["action"]),) if "action" in asked else (),
            who=asked.get("actor", ""),
            tag=asked.get("tag", ""),
            since=asked.get("since"),
            until=asked.get("until"),
        )
        found = audit.page(wanted, asked["limit"], before=self.after())
        last = str(found.events[-1].pk) if found.events and found.has_older else ""
        return Page([in_json(event) for event in found.events], last)

    def _place(self) -> tuple[Repository | None, Image | None]:
        if "repository" not in self.query:
            if "image" in self.query:
                raise problems.BadRequest("give the repository of the image, too")
            return None, None
        name = self.query["repository"]
        repository = Repository.objects.filter(project=self.project, name=name).order_by("-pk").first()
        if repository is None or "image" not in self.query:
            return repository, None
        images = Image.objects.filter(repository=repository, name=self.query["image"])
        return repository, images.order_by("-pk").first()


class ChangesView(ApiView):
    """/api/v1/projects/{project}/changes"""

    noun = "events"

    @operation(Action.VIEW, ChangeJson, is_list=True)
    def get(self) -> Page:
        """List the events of a project as CloudEvents, the oldest first. `next` is always there, for later ones."""
        after = self.after() or 0
        found = audit.changes(self.project, after, self.query["limit"])
        return Page([cloud_events.of(each, self.project) for each in found], str(found[-1].pk if found else after))


class UndoView(ApiView):
    """/api/v1/projects/{project}/undo"""

    noun = "events"

    @operation(Action.MANAGE, UndoneJson, body=UndoWanted)
    def post(self) -> dict[str, Any]:
        """Undo what a key or a person did in the project since a time, as far as nothing came after it."""
        asked = self.body
        if ("key" in asked) == ("user" in asked):
            raise problems.Invalid("give one of key and user")
        since = max(asked["since"], timezone.now() - timedelta(days=366))
        if "key" in asked:
            key = AccessKey.objects.filter(identifier=asked["key"]).first()
            events = undo.acts(self.project, since, key_id=key.pk if key else 0)
        else:
            user = User.objects.filter(email=asked["user"].lower()).first()
            events = undo.acts(self.project, since, user_id=user.pk if user else 0)
        return _undo(self, events)


class EventUndoView(ApiView):
    """/api/v1/projects/{project}/events/{event}/undo"""

    noun = "events"

    @operation(Action.MANAGE, UndoneJson, body=UndoOneWanted)
    def post(self, event: int) -> dict[str, Any]:
        """Undo one change of the audit log."""
        found = Event.objects.filter(project=self.project, pk=event).first()
        if found is None:
            raise problems.NotFound(f"there is no event {event}")
        ended = found.detail.get("ended", [])
        return _undo(self, Event.objects.filter(project=self.project, pk__in=[event, *ended]))


def _undo(view: ApiView, events: Any) -> dict[str, Any]:
    if view.body["dry_run"]:
        steps = undo.preview(view.actor, events)
        done, skipped = [each for each in steps if not each.problem], [each for each in steps if each.problem]
    else:
        result = undo.undo(view.actor, events)
        done, skipped = result.done, result.skipped
    return undone_json(done, skipped)
