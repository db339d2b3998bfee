"""The last runs of the connection doctor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone


class DoctorRun(models.Model):
    """One run of the connection doctor (registry.doctor), from the console or the command line.

    ``results``: what ``registry.doctor.results.Result.written`` returned for each probe that has ended, in the order of
    the probes. ``worker_at``, ``scanner_at``: when the task of this run came back from each queue.
    """

    LONGEST = timedelta(minutes=3)  # a run of the console that is older has lost its process

    requested_by = models.CharField(max_length=254)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    results: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list)
    worker_at = models.DateTimeField(null=True, blank=True)
    scanner_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"the doctor's run of {self.started_at}"
