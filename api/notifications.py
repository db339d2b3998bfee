"""Notifications about scans and events: whom they go to, and what was sent."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework import serializers

from registry.access import Action
from registry.models import Repository, Severity
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import channels, cloud_events, deliveries, messages, subscriptions

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import SeverityField, Switch, Text, Wanted, attributes

LANGUAGES = [code for code, _name in settings.LANGUAGES]


class TypesField(serializers.ListField):
    """Types of events, without their prefix."""

    child = serializers.ChoiceField(choices=list(cloud_events.TYPES.values()))


class PatternsField(serializers.ListField):
    """Patterns of names of repositories."""

    child = serializers.RegexField(r"^[a-z0-9*][a-z0-9*._-]*$", max_length=64)


class NotificationJson(serializers.Serializer[Any]):
    """Which results of scans are sent where. Chats and webhooks of a whole project are told of quotas, too."""

    id = serializers.IntegerField()
    repository = serializers.CharField(allow_null=True, help_text="null: the whole project")
    channel = serializers.CharField()
    target = serializers.CharField(help_text="nothing secret: addresses, or the host of the URL")
    recipients = serializers.ListField(child=serializers.CharField(), help_text="of the channel mail")
    min_severity = SeverityField()
    frequency = serializers.ChoiceField(choices=Subscription.Frequency.values)
    types = serializers.ListField(child=serializers.CharField(), help_text="of the channel events; empty: all")
    repositories = serializers.ListField(
        child=serializers.CharField(), help_text="of the channel events: patterns of names; empty: all"
    )
    language = serializers.CharField()
    is_active = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class NewNotificationJson(NotificationJson):
    """A new notification, with the secret that signs its messages."""

    secret = serializers.CharField(
        allow_null=True, help_text="shown only once; null: the channel signs nothing, or the request was repeated"
    )


class NotificationWanted(Wanted):
    """A new notification."""

    channel = serializers.ChoiceField(choices=list(channels.CHANNELS))
    repository = Text(max_length=64, allow_null=True, default=None)
    url = Text(max_length=500, required=False, help_text="of all channels but mail")
    recipients = serializers.ListField(child=Text(max_length=254), required=False, help_text="of the channel mail")
    types = TypesField(required=False, help_text="of the channel events: the types, without dev.kcr.; empty: all")
    repositories = PatternsField(
        required=False, help_text="of the channel events: names such as web or team-*; empty: all events of the project"
    )
    min_severity = SeverityField(default=Severity.HIGH)
    frequency = serializers.ChoiceField(choices=Subscription.Frequency.values, default=Subscription.Frequency.NEW)
    language = serializers.ChoiceField(choices=LANGUAGES, default="en")


class NotificationChanges(Wanted):
    """What to change of a notification."""

    url = Text(max_length=500, required=False)
    recipients = serializers.ListField(child=Text(max_length=254), required=False)
    types = TypesField(required=False, help_text="of the channel events; empty: all")
    repositories = PatternsField(required=False, help_text="of the channel events; empty: all")
    min_severity = SeverityField(required=False)
    frequency = serializers.ChoiceField(choices=Subscription.Frequency.values, required=False)
    language = serializers.ChoiceField(choices=LANGUAGES, required=False)
    is_active = Switch(required=False, help_text="false: paused")


class SecretJson(serializers.Serializer[Any]):
    """The secret that signs the messages of a notification."""

    secret = serializers.CharField(allow_null=True, help_text="shown only once")


class DeliveryJson(serializers.Serializer[Any]):
    """A message."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Delivery.State.values)
    is_test = serializers.BooleanField()
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    status = serializers.IntegerField(allow_null=True, help_text="of the HTTP answer")
    problem = serializers.CharField()


def in_json(subscription: Subscription) -> dict[str, Any]:
    """A notification as NotificationJson has it."""
    names = ("channel", "recipients", "types", "min_severity", "frequency", "language", "is_active", "created_at")
    return {
        "id": subscription.pk,
        "repository": subscription.repository.name if subscription.repository else None,
        "target": channels.of(subscription).target(subscription),
        "repositories": subscription.repositories.split(),
        **{name: getattr(subscription, name) for name in names},
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """A message as DeliveryJson has it."""
    return attributes(delivery, DeliveryJson)


def _target(channel: channels.Channel, asked: dict[str, Any], current: Subscription | None = None) -> dict[str, Any]:
    """Take the target out of the body, as the channel's form has it. Raises Invalid."""
    names = ("url", "recipients", "types", "repositories")
    given: dict[str, Any] = {name: asked.pop(name) for name in names if name in asked}
    fields = channel.fields(current)
    if strange := sorted(given.keys() - fields.keys()):
        raise problems.Invalid(errors=[{"pointer": f"/{name}", "detail": "not of this channel"} for name in strange])
    needed = {name for name, field in fields.items() if field.required}
    if current is None and (missing := sorted(needed - given.keys())):
        raise problems.Invalid(errors=[{"pointer": f"/{name}", "detail": "this channel needs it"} for name in missing])
    if "recipients" in given:
        given["recipients"] = "\n".join(given["recipients"])
    if "repositories" in given:
        given["repositories"] = " ".join(given["repositories"])
    return given


class _NotificationView(ApiView):
    noun = "notifications"

    def found(self, pk: int) -> Subscription:
        """The notification. Raises NotFound; Denied if it is the project's and the actor does not administer that."""
        live = Subscription.objects.live().filter(project=self.project, pk=pk)
        found = live.select_related("project", "repository__project").first()
        if found is None or (found.repository and found.repository.deletion_id is not None):
            raise problems.NotFound(f"there is no notification {pk}")
        if self.request.method not in {"GET", "HEAD"}:
            self.require(Action.MANAGE if found.repository else Action.ADMINISTER)
        return found


class NotificationsView(_NotificationView):
    """/api/v1/projects/{project}/notifications"""

    @operation(Action.VIEW, NotificationJson, is_list=True)
    def get(self) -> Page:
        """List the notifications of a project and its repositories, the newest first."""
        live = Subscription.objects.live().filter(project=self.project, repository__deletion=None)
        return self.page(live.select_related("repository"), "-pk", in_json)

    @operation(Action.MANAGE, NewNotificationJson, body=NotificationWanted, statuses=(201,), secret="secret")  # noqa: S106
    def post(self) -> Answer:
        """Send results of scans, or events. One of the whole project takes the right to administer it."""
        asked = dict(self.body)
        name, kind = asked.pop("repository"), asked.pop("channel")
        if name is None:
            self.require(Action.ADMINISTER)
        target = _target(channels.CHANNELS[kind], asked)
        made = subscriptions.create(self.actor, self.project, self._repository(name), kind, target, **asked)
        tasks.start_asking()
        data = in_json(made.subscription) | {"secret": made.secret or None}
        return Answer(data, 201, location=f"{self.request.path}/{made.subscription.pk}")

    def _repository(self, name: str | None) -> Repository | None:
        if name is None:
            return None
        found = Repository.objects.live().filter(project=self.project, name=name).first()
        if found is None:
            raise problems.Invalid(errors=[{"pointer": "/repository", "detail": f"there is no repository {name}"}])
        found.project = self.project
        return found


class NotificationView(_NotificationView):
    """/api/v1/projects/{project}/notifications/{notification}"""

    @operation(Action.VIEW, NotificationJson)
    def get(self, notification: int) -> dict[str, Any]:
        """Get a notification."""
        return in_json(self.found(notification))

    @operation(Action.MANAGE, NotificationJson, body=NotificationChanges)
    def patch(self, notification: int) -> dict[str, Any]:
        """Change a notification; pause or resume it."""
        found, asked = self.found(notification), dict(self.body)
        is_active = asked.pop("is_active", None)
        channel = channels.of(found)
        target = _target(channel, asked, found)
        given = {"url": ""} if "url" in channel.fields(found) else {"recipients": "\n".join(found.recipients)}
        subscriptions.update(self.actor, found, given | target, **asked)
        tasks.start_asking()
        if is_active is not None:
            subscriptions.set_active(self.actor, self.found(notification), is_active=is_active)
        return in_json(self.found(notification))

    @operation(Action.MANAGE)
    def delete(self, notification: int) -> None:
        """Delete a notification, and what it has not sent."""
        subscriptions.delete(self.actor, self.found(notification))


class TestView(_NotificationView):
    """/api/v1/projects/{project}/notifications/{notification}/test"""

    @operation(Action.MANAGE, DeliveryJson, statuses=(202,))
    def post(self, notification: int) -> dict[str, Any]:
        """Send a test."""
        found = self.found(notification)
        made = deliveries.queue(found, messages.test_content(found, timezone.now()), is_test=True)
        tasks.start_delivery(made.pk)
        return delivery_json(made)


class SecretView(_NotificationView):
    """/api/v1/projects/{project}/notifications/{notification}/secret"""

    @operation(Action.MANAGE, SecretJson, secret="secret")  # noqa: S106  a field's name
    def post(self, notification: int) -> dict[str, Any]:
        """Make a new secret. Events are signed with the former one, too, for a day; other messages not any more."""
        found = self.found(notification)
        if not channels.of(found).has_secret:
            raise problems.Invalid("this channel signs nothing")
        return {"secret": subscriptions.renew_secret(self.actor, found)}


class DeliveriesView(_NotificationView):
    """/api/v1/projects/{project}/notifications/{notification}/deliveries"""

    @operation(Action.VIEW, DeliveryJson, is_list=True)
    def get(self, notification: int) -> Page:
        """List what a notification sent, the newest first."""
        sent = Delivery.objects.filter(subscription=self.found(notification))
        return self.page(sent.defer("content", "request", "response"), "-pk", delivery_json)


class AgainView(_NotificationView):
    """/api/v1/projects/{project}/notifications/{notification}/deliveries/{delivery}/again"""

    @operation(Action.MANAGE, DeliveryJson, statuses=(202,))
    def post(self, notification: int, delivery: int) -> dict[str, Any]:
        """Send a message again, or a waiting one now."""
        sent = Delivery.objects.filter(subscription=self.found(notification), pk=delivery)
        found: Any = sent.select_related("subscription").first()
        if found is None:
            raise problems.NotFound(f"there is no delivery {delivery}")
        made = deliveries.again(found)
        tasks.start_delivery(made.pk)
        return delivery_json(made)
