"""The queue of scans, and the attempts to renew the vulnerability database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Project
from registry.database.fields import Literal
from registry.database.leases import is_over
from registry.models import Manifest

if TYPE_CHECKING:
    from datetime import datetime


class Problem(models.TextChoices):
    """Why a scan failed. The console has words and advice for each."""

    DATABASE_MISSING = "database-missing"
    DATABASE_BROKEN = "database-broken"
    SCANNER_MISSING = "scanner-missing"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    DISK = "disk"
    KILLED = "killed"
    DAMAGED = "damaged"
    BYTES_MISSING = "bytes-missing"
    ELSEWHERE = "elsewhere"
    WORKER_LOST = "worker-lost"
    GONE = "gone"
    OTHER = "other"


OF_THE_DATABASE = (Problem.DATABASE_MISSING, Problem.DATABASE_BROKEN)


class ScanQuerySet(models.QuerySet["Scan"]):
    """Reads of scans."""

    def open(self) -> Self:
        """Waiting and running scans."""
        return self.filter(state__in=[Literal(state.value) for state in Scan.OPEN])

    def claimable(self, now: datetime) -> Self:
        """Scans that are due, and running scans whose lease has expired, in the order to run them."""
        due = Q(state=Scan.State.WAITING, due_at__lte=now)
        lost = Q(state=Scan.State.RUNNING) & is_over("lease_until", now, Scan.LEASE)
        return self.filter(due | lost).order_by("trigger", "due_at", "pk")


class Scan(models.Model):
    """One scan of one manifest. The table is the queue.

    ``lease_until``: the worker that runs it renews this; afterwards another worker may take the scan. ``attempts``
    tells one worker's claim from the next. ``new`` and ``fixed``: numbers of findings against the scan before.
    ``is_noted``: its notifications have been created.
    """

    LEASE = timedelta(minutes=2)

    class State(models.TextChoices):
        """DONE includes manifests that cannot be scanned: see ``Report.state``."""

        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    class Trigger(models.IntegerChoices):
        """What requested the scan. Lower values run first."""

        MANUAL = 0
        PUSH = 1
        DAILY = 2

    OPEN = (State.WAITING, State.RUNNING)

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="scans", db_index=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    trigger = models.PositiveSmallIntegerField(choices=Trigger)
    requested_by = models.CharField(max_length=254)
    requested_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=20, choices=Problem, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    database_at = models.DateTimeField(null=True)
    new = models.PositiveIntegerField(default=0)
    fixed = models.PositiveIntegerField(default=0)
    is_noted = models.BooleanField(default=False)

    objects = ScanQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["manifest"], condition=Q(state__in=["waiting", "running"]), name="one_open_scan_a_manifest"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["manifest", "-id"], name="scans_of_manifest"),
            models.Index(fields=["project", "-id"], name="scans_of_project"),
            models.Index(
                fields=["trigger", "due_at"], name="open_scans", condition=Q(state__in=["waiting", "running"])
            ),
            models.Index(
                fields=["project", "trigger"],
                name="open_scans_of_project",
                condition=Q(state__in=["waiting", "running"]),
            ),
            models.Index(fields=["id"], name="scans_to_note", condition=Q(is_noted=False, state="done")),
            models.Index(fields=["finished_at"], name="scans_by_end"),
        ]

    def __str__(self) -> str:
        return f"scan {self.pk} of {self.manifest_id}: {self.state}"


class ScanTurn(models.Model):
    """When a scan of a project was started last. Projects take turns."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="scan_turn")
    taken_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.project} at {self.taken_at}"


class ScanRound(models.Model):
    """The daily round of a project: it requests a scan of each tagged digest. ``cursor``: id of the last one."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()
    cursor = models.BigIntegerField(default=0)
    requested = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "day"], name="one_round_a_project_and_day")]

    def __str__(self) -> str:
        return f"round of {self.project} on {self.day}"


class ScannerHost(models.Model):
    """A machine on which scans run, and how Trivy is isolated there.

    ``isolation``: ``program.Isolation.kind``. ``why``: why the system refuses a stronger kind. ``seen_at``: the last
    start of a scanner there, or its last hourly check.
    """

    SEEN_LATELY = timedelta(days=2)

    name = models.CharField(max_length=253, unique=True)
    isolation = models.CharField(max_length=10)
    why = models.CharField(max_length=300, blank=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {self.isolation}"


class DatabaseRefresh(models.Model):
    """One attempt to renew the vulnerability database. ``updated_at``: when the database in use was built.

    ``source``: an OCI repository or a file, "" for Trivy's own repository.
    """

    STALE = timedelta(days=3)

    at = models.DateTimeField(default=timezone.now)
    source = models.CharField(max_length=300)
    updated_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"{self.source} at {self.at}: {self.problem or self.updated_at}"
