"""What happened, and what was deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.models import AccessKey, Project

from .fields import GENERAL_DIGEST_LENGTH, NameField

if TYPE_CHECKING:
    from collections.abc import Callable


class Event(models.Model):
    """One change, by whom and through which door. Rows are added in the transaction of the change, never altered.

    Objects are named in words as well as by key, so that the history outlives them. ``detail`` holds before and after.
    """

    class Action(models.TextChoices):
        """What can happen."""

        REPOSITORY_CREATE = "repository.create"
        REPOSITORY_UPDATE = "repository.update"
        REPOSITORY_DELETE = "repository.delete"
        REPOSITORY_RECOVER = "repository.recover"
        ROLE_CHANGE = "repository.role"
        IMAGE_PUSH = "image.push"
        IMAGE_UPDATE = "image.update"
        EXPIRY_CHANGE = "image.expiry"
        IMAGE_DELETE = "image.delete"
        IMAGE_RECOVER = "image.recover"
        TAG_ADD = "tag.add"
        TAG_MOVE = "tag.move"
        TAG_DELETE = "tag.delete"
        TAG_RECOVER = "tag.recover"

    at = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=32, choices=Action)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="events")
    repository = models.ForeignKey("Repository", on_delete=models.SET_NULL, null=True, related_name="events")
    image = models.ForeignKey("Image", on_delete=models.SET_NULL, null=True, related_name="events")
    path = NameField(max_length=200)
    tag = NameField(max_length=128, blank=True)
    digest = models.CharField(max_length=GENERAL_DIGEST_LENGTH, blank=True)
    detail = models.JSONField(default=dict)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    key = models.ForeignKey(AccessKey, on_delete=models.SET_NULL, null=True, related_name="+")
    actor = models.CharField(max_length=254)
    address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="events_of_project"),
            models.Index(fields=["repository", "-id"], name="events_of_repository"),
            models.Index(fields=["image", "-id"], name="events_of_image"),
            models.Index(fields=["key", "-id"], name="events_of_key"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.path} by {self.actor}"


class Deletion(models.Model):
    """One act of deleting. What it took points here; restoring it removes this row, purging removes what it took."""

    class Kind(models.TextChoices):
        """What was asked to be deleted."""

        TAG = "tag"
        MANIFEST = "manifest"
        IMAGE = "image"
        REPOSITORY = "repository"

    kind = models.CharField(max_length=10, choices=Kind)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="deletions")
    path = NameField(max_length=200)
    name = models.CharField(max_length=GENERAL_DIGEST_LENGTH, blank=True, help_text="the tag or digest")
    event = models.ForeignKey(Event, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    purge_after = models.DateTimeField(db_index=True)
    hold = models.BooleanField(default=False)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["project", "-id"], name="deletions_of_project")]

    def __str__(self) -> str:
        return f"{self.kind} {self.path} {self.name}".rstrip()


# What is not deleted is nearly everything: an index over it would only mislead a planner. See ``deletion_key``.
LIVE = models.Q(deletion=None)
DELETED = models.Q(deletion__isnull=False)


def deletion_key(
    related_name: str, on_delete: Callable[..., None] = models.PROTECT
) -> models.ForeignKey[Deletion | None, Deletion | None]:
    """The act that deleted a row, None while it is live. Give the model an index of its own, over DELETED rows only."""
    return models.ForeignKey(
        Deletion, on_delete=on_delete, null=True, blank=True, related_name=related_name, db_index=False
    )
