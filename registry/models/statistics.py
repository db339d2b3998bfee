"""What is counted by the day, and what was measured. Nothing here is needed to serve an image."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models import Project
from registry.database.fields import NameField
from registry.oci import names

from .repositories import Image, Repository


class TagDay(models.Model):
    """One day of a tag: how often it was pulled, asked for (HEAD) and pushed, in UTC.

    ``tag`` "": pulls of a digest that no tag named.
    """

    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="days", db_index=False)
    tag = NameField(max_length=names.MAX_TAG, blank=True)
    day = models.DateField()
    pulls = models.PositiveIntegerField(default=0)
    checks = models.PositiveIntegerField(default=0)
    pushes = models.PositiveIntegerField(default=0)
    pulled_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["image", "tag", "day"], name="one_row_a_tag_and_day")]
        indexes: ClassVar = [models.Index(fields=["day"], name="tag_days_by_day")]

    def __str__(self) -> str:
        return f"{self.image}:{self.tag} on {self.day}"


class ProjectDay(models.Model):
    """One day of a project, in UTC; ``size`` (bytes) is what it stored when it was measured last."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    pulls = models.PositiveIntegerField(default=0)
    pushes = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "day"], name="one_row_a_project_and_day")]

    def __str__(self) -> str:
        return f"{self.project} on {self.day}"


class Measurement(models.Model):
    """Bytes that live manifests need, each blob counted once; ``event_id``: the last change that was seen, and when."""

    size = models.PositiveBigIntegerField(default=0)
    event_id = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(null=True)
    measured_at = models.DateTimeField()
    seconds = models.FloatField(default=0.0, help_text="how long measuring took")

    class Meta:
        abstract = True


class RepositoryUsage(Measurement):
    """What a repository stores; layers that two repositories share count in both."""

    repository = models.OneToOneField(Repository, on_delete=models.CASCADE, primary_key=True, related_name="usage")

    def __str__(self) -> str:
        return f"{self.repository}: {self.size}"


class ProjectUsage(Measurement):
    """What a project stores; layers that its repositories share count once."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="usage")

    def __str__(self) -> str:
        return f"{self.project}: {self.size}"
