"""Events of the audit log, and deletions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.text import Truncator

from accounts.models import AccessKey, Project
from registry.database.fields import GENERAL_DIGEST_LENGTH, NameField

if TYPE_CHECKING:
    from collections.abc import Callable

# Ids follow the order in which events are written; their times are from the clocks of the machines that write.
CLOCKS_APART = timedelta(minutes=10)
NAME_LENGTH = 255  # of a deletion, in texts for people
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # nothing can have happened before


class EventQuerySet(models.QuerySet["Event"]):
    """Reads of the audit log. Each filter has an index that ends in the id, so its newest events are found at once."""

    def acts(self) -> Self:
        """One event for each thing that happened: of a push under tags those of its tags, not that of its digest."""
        return self.exclude(action=Event.Action.IMAGE_PUSH, detail__has_key="tags")

    def between(self, since: datetime | None, until: datetime | None) -> Self:
        """Events from ``since`` on and before ``until`` (None: no limit).

        Also filters by the ids that these times can have, since pages are read in the order of ids. Of two events, the
        one with the lower id is at most CLOCKS_APART later.
        """
        found = self
        if since is not None and since > EARLIEST:
            before = Event.objects.filter(at__lt=since - CLOCKS_APART).order_by("-at").values("pk")[:1]
            found = found.filter(at__gte=since, pk__gt=Coalesce(Subquery(before), 0))
        if until is not None:
            after = Event.objects.filter(at__gte=until + CLOCKS_APART).order_by("at").values("pk")[:1]
            found = found.filter(at__lt=until, pk__lt=Coalesce(Subquery(after), models.BigIntegerField.MAX_BIGINT))
        return found


class Event(models.Model):
    """One change: what, who, and through which door. Rows are added in the transaction of the change, and not altered.

    A push has an event for each of its tags: TAG_ADD, TAG_MOVE, or TAG_PUSH if the tag names the digest already; its
    detail has the media type. IMAGE_PUSH says that the image got a digest; its detail names the tags of the push.

    ``path``, ``tag``, ``digest`` and ``actor`` are texts, since events outlive the rows that they are about. ``detail``
    has the values before and after, and in ``undoes`` the ids of the events that this one undid.
    """

    class Action(models.TextChoices):
        """The kinds of changes."""

        REPOSITORY_CREATE = "repository.create"
        REPOSITORY_UPDATE = "repository.update"
        REPOSITORY_DELETE = "repository.delete"
        REPOSITORY_RECOVER = "repository.recover"
        ROLE_CHANGE = "repository.role"
        PROJECT_CREATE = "project.create"
        PROJECT_UPDATE = "project.update"
        MEMBER_CHANGE = "project.member"
        IMAGE_PUSH = "image.push"
        IMAGE_UPDATE = "image.update"
        EXPIRY_CHANGE = "image.expiry"
        IMAGE_DELETE = "image.delete"
        IMAGE_RECOVER = "image.recover"
        TAG_ADD = "tag.add"
        TAG_MOVE = "tag.move"
        TAG_PUSH = "tag.push"
        TAG_DELETE = "tag.delete"
        TAG_RECOVER = "tag.recover"
        DELETION_HOLD = "deletion.hold"
        DELETION_PURGE = "deletion.purge"
        COLLECTION_RUN = "collection.run"
        COLLECTION_DONE = "collection.done"
        CLEANUP_POLICY = "cleanup.policy"
        CLEANUP_RUN = "cleanup.run"
        SCAN_DONE = "scan.done"
        VULNERABILITY_ACCEPT = "vulnerability.accept"
        VULNERABILITY_WITHDRAW = "vulnerability.withdraw"
        NOTICE_CHANGE = "notice.change"

    at = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=32, choices=Action)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="events", db_index=False)
    repository = models.ForeignKey(
        "Repository", on_delete=models.SET_NULL, null=True, related_name="events", db_index=False
    )
    image = models.ForeignKey("Image", on_delete=models.SET_NULL, null=True, related_name="events", db_index=False)
    path = NameField(max_length=200)
    tag = NameField(max_length=128, blank=True)
    digest = models.CharField(max_length=GENERAL_DIGEST_LENGTH, blank=True)
    detail = models.JSONField(default=dict)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    key = models.ForeignKey(AccessKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False)
    actor = models.CharField(max_length=254)
    address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["at", "id"], name="events_by_time"),
            models.Index(fields=["project", "-id"], name="events_of_project"),
            models.Index(fields=["project", "action", "-id"], name="project_events_by_action"),
            models.Index(fields=["project", "actor", "-id"], name="project_events_by_actor"),
            models.Index(fields=["project", "tag", "-id"], name="project_events_by_tag"),
            models.Index(fields=["repository", "-id"], name="events_of_repository"),
            models.Index(fields=["repository", "action", "-id"], name="repository_events_by_action"),
            models.Index(fields=["image", "-id"], name="events_of_image"),
            models.Index(fields=["image", "action", "-id"], name="image_events_by_action"),
            models.Index(fields=["image", "tag", "-id"], name="image_events_by_tag"),
            models.Index(fields=["key", "-id"], name="events_of_key"),
            models.Index(fields=["user", "-id"], name="events_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.path} by {self.actor}"


class Deletion(models.Model):
    """One act of deleting. The rows that it took point to it.

    Restoring removes this row. Purging removes the rows that it took, then this one.

    ``repository`` and ``image`` are what was deleted, or what the tags and digests were deleted from; ``image`` is None
    if a repository was deleted. ``requested`` lists the tags and digests that were asked for, each in full; it is empty
    if an image or a repository was deleted. ``summary`` is for the pages of Recovery: the numbers of ``images`` and
    ``tags``, and the first of the tags (``tag_names``). ``actor`` is the text that the audit log shows. ``event`` is
    the act's line in the audit log, the first one if it has several, and None once the log is pruned: only pages and
    undo use it.
    """

    class Kind(models.TextChoices):
        """What was asked to be deleted."""

        TAG = "tag"
        MANIFEST = "manifest"
        IMAGE = "image"
        REPOSITORY = "repository"

    kind = models.CharField(max_length=10, choices=Kind)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="deletions")
    repository = models.ForeignKey(
        "Repository", on_delete=models.SET_NULL, null=True, related_name="deletions", db_index=False
    )
    image = models.ForeignKey("Image", on_delete=models.SET_NULL, null=True, related_name="deletions", db_index=False)
    path = NameField(max_length=200)
    requested = models.JSONField(default=list)
    summary = models.JSONField(default=dict)
    actor = models.CharField(max_length=254)
    event = models.ForeignKey(Event, on_delete=models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    purge_after = models.DateTimeField(db_index=True)
    hold = models.BooleanField(default=False)
    is_purging = models.BooleanField(default=False, help_text="its end has begun: it cannot be recovered any more")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="deletions_of_project"),
            models.Index(fields=["repository", "-id"], name="deletions_of_repository"),
            models.Index(fields=["image", "-id"], name="deletions_of_image"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.path} {self.name}".rstrip()

    @property
    def name(self) -> str:
        """The requested tags and digests as a text of at most NAME_LENGTH characters."""
        return Truncator(", ".join(self.requested)).chars(NAME_LENGTH)


# Nearly all rows are live, so an index over live rows would mislead the planner. See ``deletion_key``.
LIVE = models.Q(deletion=None)
DELETED = models.Q(deletion__isnull=False)


def deletion_key(
    related_name: str, on_delete: Callable[..., None] = models.PROTECT
) -> models.ForeignKey[Deletion | None, Deletion | None]:
    """The deletion that took a row; None for a live row. The model needs an index of it over DELETED rows."""
    return models.ForeignKey(
        Deletion, on_delete=on_delete, null=True, blank=True, related_name=related_name, db_index=False
    )
