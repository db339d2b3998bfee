"""Blobs, their leases and reviews, collector runs, uploads, and storage keys to be deleted."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import AccessKey, Project
from registry.database.fields import DIGEST_LENGTH, NameField
from registry.database.locks import KeyShareQuerySet
from registry.oci import names

from .repositories import Repository


class BlobQuerySet(KeyShareQuerySet["Blob"]):
    """Reads of blobs."""


class Blob(models.Model):
    """Content by digest. The bytes under ``storage_key`` are verified and durable before the row is inserted."""

    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True)
    size = models.BigIntegerField()
    storage_key = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = BlobQuerySet.as_manager()

    def __str__(self) -> str:
        return self.digest


class BlobLeaseQuerySet(models.QuerySet["BlobLease"]):
    """Reads of leases."""

    def open(self, now: Any = None) -> Self:
        """Leases that have not expired. ``now``: the present, if the query is prepared."""
        return self.filter(expires_at__gt=now or timezone.now())


class BlobLease(models.Model):
    """Until ``expires_at``, a manifest of the repository may name the blob, and the collector keeps it."""

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="leases", db_index=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="leases")
    expires_at = models.DateTimeField()

    objects = BlobLeaseQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["repository", "blob"], name="one_lease_a_blob")]

    def __str__(self) -> str:
        return f"{self.blob} in {self.repository}"


class BlobReview(models.Model):
    """After ``review_after``, the collector checks whether the project still uses the blob.

    One row for each project that has used the blob (None: no project), so the numbers that a project sees do not depend
    on other projects with the same blob.
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
    """One run of the collector, for a project or (None) for blobs of no project.

    ``reviewed`` and ``collected`` count blobs; ``size`` has the bytes of the collected ones, also if another project
    keeps them. ``total``: due reviews at the start. A run with an old ``heartbeat_at`` has lost its worker.
    """

    class State(models.TextChoices):
        """STOPPED: ended by ``garbage.stop``."""

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
        return f"collection {self.pk} of {self.project or 'blobs of no project'}: {self.state}"

    @property
    def percent(self) -> int:
        """Reviewed share of the total, 0 to 100."""
        return min(100, 100 * self.reviewed // self.total) if self.total else 0


class ObjectTrash(models.Model):
    """A storage key that no row uses or will use again. ``reap`` deletes its bytes after ``delete_after``."""

    storage_key = models.CharField(max_length=100, primary_key=True)
    delete_after = models.DateTimeField(db_index=True)
    attempts = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.storage_key


class UploadSessionQuerySet(models.QuerySet["UploadSession"]):
    """Reads of uploads."""

    def open(self, now: Any = None) -> Self:
        """Unfinished uploads that have not expired. ``now``: the present, if the query is prepared."""
        return self.filter(state=UploadSession.State.OPEN, expires_at__gt=now or timezone.now())

    def open_to(self, session: UploadSession) -> Self:
        """The row of this unfinished upload, unless another request has become its writer."""
        return self.filter(pk=session.pk, state=UploadSession.State.OPEN, writer=session.writer)

    def overdue(self) -> Self:
        """Expired uploads, finished or not."""
        return self.filter(expires_at__lte=timezone.now())


class UploadSession(models.Model):
    """An upload of a blob. The row is saved before the first byte is stored.

    Only the first ``offset`` bytes of what is stored count. ``prefix_digest``: the digest of these bytes, "" if
    unknown; a process that has hashed these bytes knows by it that it may go on. ``stored_as``: the name that the
    storage gave to these bytes, of a finished upload the storage key of the blob. ``writer``: until ``writer_until``,
    the request that writes; "" if none does, or the storage locks uploads itself.
    """

    class State(models.TextChoices):
        """DONE: kept for DONE_SESSION_LIFE, because a client that lost the response repeats its PUT."""

        OPEN = "open"
        DONE = "done"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="uploads")
    image_name = NameField(max_length=names.MAX_NAME)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.ForeignKey(
        AccessKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, help_text="that opened it"
    )
    algorithm = models.CharField(max_length=10)
    offset = models.BigIntegerField(default=0)
    prefix_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True)
    stored_as = models.CharField(max_length=100, blank=True)
    writer = models.CharField(max_length=32, blank=True)
    writer_until = models.DateTimeField(null=True)
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
        """The storage key of the bytes, or its beginning: unique, and known before they exist."""
        return f"blobs/{self.id.hex[:2]}/{self.id}"
