"""Blobs, the leases of those who push them, uploads on their way, and stored bytes waiting for their end."""

from __future__ import annotations

import uuid
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import Project
from registry.database.fields import DIGEST_LENGTH, NameField
from registry.database.locks import KeyShareQuerySet
from registry.oci import names

from .repositories import Repository


class BlobQuerySet(KeyShareQuerySet["Blob"]):
    """Reads of blobs."""


class Blob(models.Model):
    """Content by digest. ``storage_key`` names its bytes, which are durable and verified since before the row was."""

    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True)
    size = models.BigIntegerField()
    storage_key = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = BlobQuerySet.as_manager()

    def __str__(self) -> str:
        return self.digest


class BlobLeaseQuerySet(models.QuerySet["BlobLease"]):
    """Reads of leases."""

    def open(self) -> Self:
        """Leases that have not run out."""
        return self.filter(expires_at__gt=timezone.now())


class BlobLease(models.Model):
    """Until then those who may push here see the blob, and nothing collects it; not an image reference."""

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="leases", db_index=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="leases")
    expires_at = models.DateTimeField()

    objects = BlobLeaseQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["repository", "blob"], name="one_lease_a_blob")]

    def __str__(self) -> str:
        return f"{self.blob} in {self.repository}"


class BlobReview(models.Model):
    """The collector looks after that time whether the project still needs the blob: a use of it may have ended.

    One row for each project that has used the blob (None: no project claims it), so that what a project reads about its
    own blobs does not depend on who else has them.
    """

    blob = models.ForeignKey(Blob, on_delete=models.CASCADE, related_name="reviews", db_index=False)
    project = models.ForeignKey(Project, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False)
    review_after = models.DateTimeField(db_index=True)
    attempts = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["blob", "project"], name="one_review_a_project")]
        indexes: ClassVar = [models.Index(fields=["project", "review_after"], name="due_reviews_of_project")]

    def __str__(self) -> str:
        return f"{self.blob} in {self.project} after {self.review_after}"


class Collection(models.Model):
    """One run of the collector, for a project or (None) for what no project claims.

    ``reviewed`` and ``collected`` count blobs, ``size`` is the bytes of those collected: what the project let go,
    whether or not others keep the bytes. ``total`` is how many were due when it began. ``heartbeat_at`` tells a run at
    work from one whose worker ended.
    """

    class State(models.TextChoices):
        """Stopped: somebody asked for it."""

        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"
        FAILED = "failed"

    OPEN = (State.QUEUED, State.RUNNING)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="collections")
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    requested_by = models.CharField(max_length=254)
    requested_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    is_stopping = models.BooleanField(default=False)
    total = models.PositiveIntegerField(default=0)
    reviewed = models.PositiveIntegerField(default=0)
    collected = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0)
    problem = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                Coalesce("project", 0),
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_collection_a_project",
            )
        ]

    def __str__(self) -> str:
        return f"collection {self.pk} of {self.project or 'what no project claims'}: {self.state}"

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(100, 100 * self.reviewed // self.total) if self.total else 0


class ObjectTrash(models.Model):
    """Bytes that no row names and none ever will (keys are not reused); deleted after that time."""

    storage_key = models.CharField(max_length=100, primary_key=True)
    delete_after = models.DateTimeField(db_index=True)
    attempts = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.storage_key


class UploadSessionQuerySet(models.QuerySet["UploadSession"]):
    """Reads of uploads."""

    def open(self) -> Self:
        """Uploads that may go on."""
        return self.filter(state=UploadSession.State.OPEN, expires_at__gt=timezone.now())

    def overdue(self) -> Self:
        """Uploads, finished or not, whose time is over."""
        return self.filter(expires_at__lte=timezone.now())


class UploadSession(models.Model):
    """Bytes on their way in: the intent is written down before the first byte is.

    ``offset`` (bytes) is the only truth about how far the upload is. ``prefix_digest`` is the digest of exactly these
    bytes when it is known ("" otherwise), so that an upload in one piece is never read again.
    """

    class State(models.TextChoices):
        """A finished session is kept a while: the client may not have heard."""

        OPEN = "open"
        DONE = "done"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="uploads")
    image_name = NameField(max_length=names.MAX_NAME)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    algorithm = models.CharField(max_length=10)
    offset = models.BigIntegerField(default=0)
    prefix_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True)
    state = models.CharField(max_length=4, choices=State, default=State.OPEN)
    digest = models.CharField(max_length=DIGEST_LENGTH, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    objects = UploadSessionQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["user", "state", "expires_at"], name="open_uploads_of_user")]

    def __str__(self) -> str:
        return f"{self.id} at {self.offset}"

    @property
    def storage_key(self) -> str:
        """The key of the bytes, for ever: unique, and known before they exist."""
        return f"blobs/{self.id.hex[:2]}/{self.id}"
