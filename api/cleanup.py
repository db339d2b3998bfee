"""The cleanup policy of a repository, what it would delete, and its runs."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from registry import cleanup, tasks
from registry.access import Action
from registry.cleanup import policies
from registry.models import CleanupPolicy, CleanupRun

from . import problems
from .base import Answer, ApiView, Page, etag_of, operation
from .fields import Switch, Text, Wanted, Whole, attributes

SHOWN = 500
DECISIONS = ("approved", "dismissed")


def _days(words: str) -> Whole:
    return Whole(min_value=1, max_value=policies.MAX_NUMBER, allow_null=True, default=None, help_text=words)


class PolicyJson(serializers.Serializer[Any]):
    """A cleanup policy. null: there is no such rule."""

    is_active = serializers.BooleanField(help_text="it runs every night")
    keep_last = serializers.IntegerField(allow_null=True, help_text="the newest tags of each image are kept")
    keep_patterns = serializers.ListField(child=serializers.CharField(), help_text="tags that match are kept")
    tag_days = serializers.IntegerField(allow_null=True, help_text="tags older than this are deleted")
    unpulled_days = serializers.IntegerField(allow_null=True, help_text="tags not pulled for so long are deleted")
    untagged_days = serializers.IntegerField(allow_null=True, help_text="digests without a tag are deleted then")
    most_percent = serializers.IntegerField(help_text="a run that would delete more of all tags waits for approval")


class PolicyWanted(Wanted):
    """A cleanup policy. PUT sets what is left out to its default."""

    is_active = Switch(default=True)
    keep_last = _days("the newest tags of each image are kept")
    keep_patterns = serializers.ListField(child=Text(max_length=128), default=list, max_length=policies.MAX_PATTERNS)
    tag_days = _days("tags older than this are deleted")
    unpulled_days = _days("tags not pulled for so long are deleted")
    untagged_days = _days("digests without a tag are deleted then")
    most_percent = Whole(min_value=0, max_value=100, default=50)


class VerdictJson(serializers.Serializer[Any]):
    """What a policy would delete. ``tag`` is empty for a digest without a tag."""

    image = serializers.CharField()
    tag = serializers.CharField()
    digest = serializers.CharField()
    reason = serializers.CharField()


class PreviewJson(serializers.Serializer[Any]):
    """How much a policy would delete now, and the first 500 of it."""

    total = serializers.IntegerField()
    shown = VerdictJson(many=True)


class RunJson(serializers.Serializer[Any]):
    """A run of a cleanup policy."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=CleanupRun.State.values, help_text="held: it awaits approval")
    considered = serializers.IntegerField(help_text="live tags")
    to_delete = serializers.IntegerField()
    deleted = serializers.IntegerField()
    skipped = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    approved_by = serializers.CharField()
    problem = serializers.CharField()


class DecisionWanted(Wanted):
    """What becomes of a run that awaits approval."""

    state = serializers.ChoiceField(choices=DECISIONS)


def run_in_json(run: CleanupRun) -> dict[str, Any]:
    """A run as RunJson has it."""
    return attributes(run, RunJson)


class PolicyView(ApiView):
    """…/repositories/{repository}/cleanup-policy"""

    noun = "cleanup"

    @operation(Action.VIEW, PolicyJson)
    def get(self) -> Answer:
        """Get the cleanup policy of a repository."""
        policy = self._policy()
        if policy is None:
            raise problems.NotFound(f"{self.repository} has no cleanup policy")
        return _answer(policy)

    @operation(Action.MANAGE, PolicyJson, body=PolicyWanted, statuses=(200, 201), is_conditional=True)
    def put(self) -> Answer:
        """Set the cleanup policy of a repository."""
        policy = self._policy()
        now = policies.rules_of(policy) if policy else {}
        self.check(etag_of(now) if policy else "")
        seen = now if self.has_precondition else None
        made = policies.set_policy(self.actor, self.repository, seen=seen, **self.body)
        answer = _answer(made)
        answer.status, answer.location = (200, "") if policy else (201, self.request.path)
        return answer

    def _policy(self) -> CleanupPolicy | None:
        return CleanupPolicy.objects.filter(repository=self.repository).first()


def _answer(policy: CleanupPolicy) -> Answer:
    rules = policies.rules_of(policy)
    return Answer(rules, etag=etag_of(rules))


class PreviewView(ApiView):
    """…/repositories/{repository}/cleanup-policy/preview"""

    noun = "cleanup"

    @operation(Action.MANAGE, PreviewJson, body=PolicyWanted)
    def post(self) -> dict[str, Any]:
        """Tell what a policy would delete now. Nothing is saved or deleted."""
        policy = CleanupPolicy(repository=self.repository, **self.body)
        found = policies.preview(self.repository, policy, timezone.now())
        shown = [
            {
                "image": each.image.path,
                "tag": each.verdict.tag,
                "digest": each.verdict.digest,
                "reason": each.verdict.why.reason,
            }
            for each in found[:SHOWN]
        ]
        return {"total": len(found), "shown": shown}


class RunsView(ApiView):
    """…/repositories/{repository}/cleanup-runs"""

    noun = "cleanup"

    @operation(Action.VIEW, RunJson, is_list=True)
    def get(self) -> Page:
        """List the runs of the cleanup policy, the newest first."""
        return self.page(CleanupRun.objects.filter(repository=self.repository), "-pk", run_in_json)

    @operation(Action.MANAGE, statuses=(202,))
    def post(self) -> None:
        """Start a run of the cleanup policy now."""
        policy = CleanupPolicy.objects.active().filter(repository=self.repository).first()
        if policy is None:
            raise problems.NotFound(f"{self.repository} has no active cleanup policy")
        tasks.start_cleanup(policy.pk)


class RunView(ApiView):
    """…/repositories/{repository}/cleanup-runs/{run}"""

    noun = "cleanup"

    @operation(Action.VIEW, RunJson)
    def get(self, run: int) -> dict[str, Any]:
        """Get a run."""
        return run_in_json(self._found(run))

    @operation(Action.MANAGE, RunJson, body=DecisionWanted)
    def patch(self, run: int) -> dict[str, Any]:
        """Approve a run that awaits approval, or dismiss an unfinished one."""
        found = self._found(run)
        if self.body.get("state") == "approved":
            cleanup.approve(self.actor, found.pk)
            tasks.start_cleanup(CleanupPolicy.objects.get(repository=self.repository).pk)
        elif self.body.get("state") == "dismissed":
            cleanup.dismiss(self.actor, found.pk)
        return run_in_json(self._found(run))

    def _found(self, pk: int) -> CleanupRun:
        found = CleanupRun.objects.filter(repository=self.repository, pk=pk).first()
        if found is None:
            raise problems.NotFound(f"there is no run {pk}")
        return found
