"""Daily counts and measured sizes. Serving images does not need them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models import Organization, Project
from registry.database.fields import NameField
from registry.oci import names

from .repositories import Image, Repository


class TagDay(models.Model):
    """Pulls, checks (HEAD) and pushes of a tag on one day in UTC.

    ``tag`` "": pulls of digests without a tag.
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
    """Pulls and pushes of a project on one day in UTC; ``size``: stored bytes at the last measurement of the day."""

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
    """Bytes of the blobs of live manifests, each blob once. ``event_id``: the latest event at the measurement."""

    size = models.PositiveBigIntegerField(default=0)
    event_id = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(null=True)
    measured_at = models.DateTimeField()
    seconds = models.FloatField(default=0.0, help_text="how long measuring took")

    class Meta:
        abstract = True


class RepositoryUsage(Measurement):
    """Stored bytes of a repository. A layer in two repositories counts in both."""

    repository = models.OneToOneField(Repository, on_delete=models.CASCADE, primary_key=True, related_name="usage")

    def __str__(self) -> str:
        return f"{self.repository}: {self.size}"


class ProjectUsage(Measurement):
    """Stored bytes of a project. A layer in two of its repositories counts once."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="usage")

    def __str__(self) -> str:
        return f"{self.project}: {self.size}"


class QuotaWarning(models.Model):
    """A quota that is nearly full (``registry.quota_warnings``).

    ``level``: per cent, of the last mail; 0: the mail could not be sent. ``told``: per cent, of the last signal
    ``quota_reached``. There is no row below the lowest level.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, related_name="+", db_index=False
    )
    quota = models.CharField(max_length=12)
    level = models.PositiveSmallIntegerField()
    told = models.PositiveSmallIntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "quota"], name="one_warning_a_project_and_quota"),
            models.UniqueConstraint(fields=["organization", "quota"], name="one_warning_an_organization_and_quota"),
            models.CheckConstraint(
                condition=models.Q(project=None) ^ models.Q(organization=None), name="a_warning_has_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project or self.organization}: {self.quota} {self.level} %"
