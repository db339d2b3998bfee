"""Subscriptions to notifications, and the deliveries to them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Project
from registry.database.leases import is_over
from registry.models import Repository, Severity

from .scans import Scan

if TYPE_CHECKING:
    from datetime import datetime


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    """Reads of subscriptions."""

    def live(self) -> Self:
        """Subscriptions that are not deleted."""
        return self.filter(deleted_at=None)

    def of_repository(self, repository: Repository) -> Self:
        """The active subscriptions to scans that cover this repository."""
        wide = Q(repository=None) | Q(repository=repository)
        return (
            self.live().filter(wide, project=repository.project_id, is_active=True).exclude(channel=Subscription.EVENTS)
        )


class Subscription(models.Model):
    """Sends results of scans of a repository, or (None) of the whole project, or its events, through one channel.

    ``channel`` is a key of ``scanning.notifications.channels.CHANNELS``. ``recipients`` (e-mail addresses), ``url`` and
    ``secret`` (encrypted with KCR_SECRET_KEY) belong to the channel. Findings below ``min_severity`` are left out.
    ``deleted_at``: deleted, and kept for KCR_RECOVERY_DAYS so that the deletion can be undone.

    The channel EVENTS sends events of the audit log: those of ``types`` (names of ``cloud_events``; []: all) in
    ``repositories`` (patterns of names, such as "web team-*"; "": all). ``position``: the id of the last event that has
    its delivery. ``former_secret`` signs, too, until ``former_until``.
    """

    EVENTS = "events"

    class Frequency(models.TextChoices):
        """When: after each scan that found something, only when something new was found, once a day."""

        EACH = "each"
        NEW = "new"
        DAILY = "daily"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="subscriptions")
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, null=True, related_name="subscriptions")
    channel = models.CharField(max_length=20)
    recipients = models.JSONField(default=list)
    url = models.CharField(max_length=500, blank=True)
    secret = models.CharField(max_length=300, blank=True)
    former_secret = models.CharField(max_length=300, blank=True, default="", db_default="")
    former_until = models.DateTimeField(null=True)
    types = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    repositories = models.TextField(blank=True, default="", db_default="")
    position = models.BigIntegerField(default=0, db_default=0)
    min_severity = models.PositiveSmallIntegerField(choices=Severity, default=Severity.HIGH)
    frequency = models.CharField(max_length=5, choices=Frequency, default=Frequency.NEW)
    language = models.CharField(max_length=10, default="en")
    is_active = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True)

    objects = SubscriptionQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.channel} about {self.repository or self.project}"

    @property
    def former_signs(self) -> bool:
        """Whether messages are signed with the former secret, too."""
        return self.former_until is not None and self.former_until > timezone.now()


class Recipient(models.Model):
    """An address outside the organization that a project's notifications go to, and the answer of its reader.

    ``address`` is in lower case. ``due_at``: when the next question is sent, None if none is due. ``mails`` and
    ``asked_at``: the number of questions, and the time of the last. Without ``confirmed_at`` it gets no other mail.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="recipients", db_index=False)
    address = models.CharField(max_length=254)
    language = models.CharField(max_length=10, default="en")
    due_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    mails = models.PositiveSmallIntegerField(default=0)
    confirmed_at = models.DateTimeField(null=True)
    declined_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "address"], name="one_recipient_an_address")
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="recipients_to_ask", condition=Q(due_at__isnull=False)),
            models.Index(fields=["address"], name="recipients_by_address"),
        ]

    def __str__(self) -> str:
        return f"{self.address} of {self.project}"


class MailHour(models.Model):
    """How many mails a project has sent in an hour."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField()
    mails = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "hour"], name="one_count_an_hour")]

    def __str__(self) -> str:
        return f"{self.mails} mails of {self.project} at {self.hour}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Reads of deliveries."""

    def due(self, now: datetime) -> Self:
        """Waiting deliveries whose time has come and that no worker has leased; the oldest first."""
        free = Q(lease_until=None) | is_over("lease_until", now, Delivery.LEASE)
        return self.filter(free, state=Delivery.State.WAITING, next_at__lte=now).order_by("next_at", "pk")


class Delivery(models.Model):
    """One message to one subscription, and the result of its last attempt. The table is the queue.

    ``content``: JSON, described in ``scanning.notifications.messages``. ``recipients``: the addresses that have not got
    it yet. ``next_at``: the time of the next attempt. ``lease_until``: a worker is sending it until then; ``attempts``
    tells one worker's claim from the next. ``request`` and ``response``: what went over the wire, shortened and without
    secrets. ``status``: the HTTP status, None for mails and without an answer.
    """

    LEASE = timedelta(minutes=5)

    class State(models.TextChoices):
        """FAILED: KCR does not try again by itself."""

        WAITING = "waiting"
        SENT = "sent"
        FAILED = "failed"

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    is_test = models.BooleanField(default=False)
    content = models.JSONField(default=dict)
    recipients = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    next_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    request = models.TextField(blank=True)
    status = models.PositiveSmallIntegerField(null=True)
    response = models.TextField(blank=True)
    problem = models.CharField(max_length=500, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["subscription", "-id"], name="deliveries_of_subscription"),
            models.Index(fields=["next_at"], name="deliveries_to_send", condition=Q(state="waiting")),
        ]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"delivery {self.pk}: {self.state}"


class Notification(models.Model):
    """What one scan means to one subscription. ``messages.gather`` puts several into one Delivery.

    ``new``: ids of the findings that are new with the scan. ``fixed``: how many of the former findings are gone.
    """

    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    scan = models.ForeignKey(Scan, on_delete=models.CASCADE, related_name="notifications")
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, null=True, related_name="notifications")
    new = models.JSONField(default=list)
    fixed = models.PositiveIntegerField(default=0)
    noted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["subscription", "scan"], name="one_notification_a_scan")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["subscription", "noted_at"], name="notifications_to_gather", condition=Q(delivery=None)
            )
        ]

    def __str__(self) -> str:
        return f"{self.subscription} about {self.scan}"
