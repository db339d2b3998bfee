"""Cleanup policies of repositories, and what each of their runs decided about every tag."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from registry.database.fields import DIGEST_LENGTH, NameField
from registry.oci import names

from .repositories import Image, Repository


class CleanupPolicyQuerySet(models.QuerySet["CleanupPolicy"]):
    """Reads of policies."""

    def active(self) -> Self:
        """Policies that are on, of repositories that are live."""
        return self.filter(is_active=True, repository__deletion=None)


class CleanupPolicy(models.Model):
    """What is deleted from a repository automatically; registry.cleanup.rules applies the rules.

    Numbers of days and of tags are at least 1; None means that there is no such rule. ``keep_patterns`` are globs over
    whole tag names, in which upper and lower case differ. A run that would take more than ``most_percent`` of the
    repository's tags waits for a person.
    """

    repository = models.OneToOneField(Repository, on_delete=models.CASCADE, related_name="cleanup_policy")
    is_active = models.BooleanField(default=True)
    keep_last = models.PositiveIntegerField(null=True, blank=True)
    keep_patterns = models.JSONField(default=list, blank=True)
    tag_days = models.PositiveIntegerField(null=True, blank=True)
    unpulled_days = models.PositiveIntegerField(null=True, blank=True)
    untagged_days = models.PositiveIntegerField(null=True, blank=True)
    most_percent = models.PositiveSmallIntegerField(default=50)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = CleanupPolicyQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(keep_last=0) & ~Q(tag_days=0) & ~Q(unpulled_days=0) & ~Q(untagged_days=0),
                name="cleanup_numbers_are_positive",
            ),
            models.CheckConstraint(condition=Q(most_percent__lte=100), name="cleanup_percent_is_one"),
        ]
        verbose_name_plural = "cleanup policies"

    def __str__(self) -> str:
        return f"the cleanup policy of {self.repository}"


class CleanupRunQuerySet(models.QuerySet["CleanupRun"]):
    """Reads of runs."""

    def open(self) -> Self:
        """Runs that a worker works on, or should."""
        return self.filter(state__in=CleanupRun.OPEN)

    def unfinished(self) -> Self:
        """Open runs, and those that await approval."""
        return self.filter(state__in=CleanupRun.UNFINISHED)


class CleanupRun(models.Model):
    """One run of a policy. It judges every tag (``cursor``: the id of the last judged image), then deletes.

    ``rules`` is the policy as it was. ``considered`` counts live tags, ``to_delete`` those of them that the run is to
    delete; ``deleted`` and ``skipped`` count lines, untagged digests included.
    """

    class State(models.TextChoices):
        """AWAITING_APPROVAL: it would delete too many tags; a person approves it, or the next run replaces it."""

        JUDGING = "judging"
        AWAITING_APPROVAL = "held"
        DELETING = "deleting"
        DONE = "done"
        DISMISSED = "dismissed"
        FAILED = "failed"

    OPEN = (State.JUDGING, State.DELETING)
    UNFINISHED = (*OPEN, State.AWAITING_APPROVAL)

    class Problem(models.TextChoices):
        """Why a run did not end DONE. ERROR: ``problem_detail`` has the error. DISMISSED: it has who did it."""

        POLICY_CHANGED = "policy-changed"
        OTHER_APPROVED = "other-approved"
        NOT_APPROVED = "not-approved"
        DISMISSED = "dismissed"
        ERROR = "error"

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="cleanup_runs", db_index=False)
    state = models.CharField(max_length=10, choices=State, default=State.JUDGING)
    rules = models.JSONField(default=dict)
    cursor = models.BigIntegerField(default=0)
    considered = models.PositiveIntegerField(default=0)
    to_delete = models.PositiveIntegerField(default=0)
    deleted = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.CharField(max_length=254, blank=True)
    problem = models.CharField(max_length=20, choices=Problem, blank=True)
    problem_detail = models.CharField(max_length=500, blank=True)

    objects = CleanupRunQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["repository"],
                condition=Q(state__in=["judging", "deleting"]),
                name="one_open_cleanup_a_repository",
            )
        ]
        indexes: ClassVar = [models.Index(fields=["repository", "-id"], name="cleanups_of_repository")]

    def __str__(self) -> str:
        return f"cleanup {self.pk} of {self.repository}: {self.state}"


class CleanupLine(models.Model):
    """What a run decided about one tag, or about one digest without a tag (``tag`` is "" then), and why.

    ``facts`` has the values that the words of ``reason`` need. ``reason`` is "" in a line from before the codes whose
    sentence was not recognised: ``facts["words"]`` has the sentence.
    """

    class Outcome(models.TextChoices):
        """SKIPPED: it was to be deleted, but is in use or was deleted in the meantime."""

        KEPT = "kept"
        TO_DELETE = "doomed"
        DELETED = "deleted"
        SKIPPED = "left"

    class Reason(models.TextChoices):
        """Why, with the facts: ``since`` is an ISO date or time.

        GONE, NEEDED and CHANGED are reasons to skip what was to be deleted: it was deleted already, a live index names
        it, or the verdict is another one now.
        """

        ATTACHED = "attached"  # digest
        PATTERN = "pattern"  # pattern
        TAG_RULE = "tag-rule"  # number and pattern of the rule, and of: its repository or project
        NEWEST = "newest"  # number
        NOT_NEWEST = "not-newest"  # number
        NO_RULE = "no-rule"
        OLD = "old"  # days, since: the last push
        UNPULLED = "unpulled"  # days, since: the last pull or push
        UNTAGGED = "untagged"  # since
        UNTAGGED_LONG = "untagged-long"  # days, since
        CHANGED = "changed"
        NEEDED = "needed"
        GONE = "gone"

    run = models.ForeignKey(CleanupRun, on_delete=models.CASCADE, related_name="lines", db_index=False)
    image = models.ForeignKey(Image, on_delete=models.SET_NULL, null=True, related_name="+")
    path = NameField(max_length=names.MAX_NAME)
    tag = NameField(max_length=names.MAX_TAG, blank=True)
    digest = models.CharField(max_length=DIGEST_LENGTH)
    tag_version = models.BigIntegerField(null=True, help_text="id of the tag's row that was judged")
    outcome = models.CharField(max_length=7, choices=Outcome)
    reason = models.CharField(max_length=20, choices=Reason, blank=True)
    facts = models.JSONField(default=dict)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["run", "outcome", "image", "id"], name="cleanup_lines_by_outcome")]

    def __str__(self) -> str:
        return f"{self.path} {self.tag or self.digest}: {self.outcome}"
