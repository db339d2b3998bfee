"""Runs of cleanup policies. They start at night; a run that would delete too many tags waits for approval.

A run first saves its verdict on every tag, then deletes with ``trash.delete_many``, so everything is in Recovery. Short
transactions save the progress in the rows: a killed run continues where it was, and two workers on one run do nothing
twice. Before a deletion, the run computes the verdict again under the image's lock, and skips the tag or digest if the
verdict has changed.

Order of locks: policy or run, repository, image.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from accounts.errors import Refusal
from registry import audit, errors, manifests, trash
from registry.cleanup import policies
from registry.database.leases import is_stale
from registry.database.transactions import retried
from registry.models import CleanupLine, CleanupPolicy, CleanupRun, Event, Image, Repository
from registry.oci import names

if TYPE_CHECKING:
    from accounts.actors import Actor

logger = logging.getLogger(__name__)

NIGHT = time(2, 30)  # UTC
LINES = 100  # deleted in one transaction
STALE = timedelta(minutes=10)
KEEP_RUNS = timedelta(days=90)
Outcome, Reason = CleanupLine.Outcome, CleanupLine.Reason
Problem, State = CleanupRun.Problem, CleanupRun.State


def due(now: datetime | None = None) -> list[int]:
    """Return ids of policies to run: no run since the last NIGHT, or an open run has lost its worker (STALE).

    A new or changed policy waits for the next night.
    """
    now = now or timezone.now()
    night = datetime.combine(now.astimezone(UTC), NIGHT, tzinfo=UTC)
    night = night if night <= now else night - timedelta(days=1)
    runs = CleanupRun.objects.filter(repository=OuterRef("repository"))
    begun = runs.order_by("-pk").values("started_at")[:1]
    active = CleanupPolicy.objects.active().annotate(
        last=Greatest("updated_at", Coalesce(Subquery(begun), "updated_at"))
    )
    is_lost = Exists(runs.open().filter(is_stale("heartbeat_at", now, STALE)))
    is_open = Exists(runs.open())
    return list(active.filter(is_lost | (Q(last__lt=night) & ~is_open)).order_by("pk").values_list("pk", flat=True))


def run(policy_id: int) -> CleanupRun | None:
    """Start a run of the policy or continue its open run. Return the run; None if there is no active policy.

    It ends DONE, AWAITING_APPROVAL (it would delete more than ``most_percent``), or FAILED, which is logged.
    """
    current = _open(policy_id)
    if current is None:
        return None
    try:
        while _judge_some(current.pk):
            pass
        while _delete_some(current.pk):
            pass
    except (OperationalError, InterfaceError, errors.Unavailable):
        raise  # the run stays open; due() finds it when the database is back
    except Exception as error:
        logger.exception("the cleanup policy of %s failed", current.repository)
        _end(current.pk, State.FAILED, Problem.ERROR, str(error))
        raise
    _prune(current.repository)
    return CleanupRun.objects.get(pk=current.pk)


def approve(actor: Actor, run_id: int) -> bool:
    """Approve a run; return False if it does not await approval. ``run`` then deletes."""
    with transaction.atomic():
        waiting = _locked(run_id)
        if waiting.state != State.AWAITING_APPROVAL:
            return False
        CleanupRun.objects.filter(repository=waiting.repository, state__in=CleanupRun.OPEN).update(
            state=State.DISMISSED, finished_at=timezone.now(), problem=Problem.OTHER_APPROVED
        )
        waiting.state, waiting.approved_by = State.DELETING, actor.label[:254]
        waiting.heartbeat_at = waiting.started_at - STALE
        waiting.save(update_fields=["state", "approved_by", "heartbeat_at"])
        _record(actor, waiting)
    return True


def dismiss(actor: Actor, run_id: int) -> bool:
    """End an unfinished run; return False if it has ended. What it deleted stays in Recovery."""
    return _end(run_id, State.DISMISSED, Problem.DISMISSED, actor.label, actor)


@retried
def _open(policy_id: int) -> CleanupRun | None:
    with transaction.atomic():
        policy = (
            CleanupPolicy.objects.active().select_for_update(of=("self",), no_key=True).filter(pk=policy_id).first()
        )
        if policy is None:
            return None
        runs = CleanupRun.objects.filter(repository_id=policy.repository_id).select_related("repository__project")
        current = runs.open().first()
        if current is None:
            runs.filter(state=State.AWAITING_APPROVAL).update(
                state=State.DISMISSED, finished_at=timezone.now(), problem=Problem.NOT_APPROVED
            )
            current = CleanupRun.objects.create(repository_id=policy.repository_id, rules=policies.rules_of(policy))
        CleanupRun.objects.filter(pk=current.pk).update(heartbeat_at=timezone.now())
    return runs.get(pk=current.pk)


@retried
def _judge_some(run_id: int) -> bool:
    """Save the verdicts on the next images; return whether more follow."""
    with transaction.atomic():
        current = _locked(run_id)
        if current.state != State.JUDGING:
            return False
        images = next(policies.in_chunks(current.repository, current.cursor), [])
        policy = CleanupPolicy(repository=current.repository, **current.rules)
        pulled = policies.Pulls(current.repository, images)
        found = list(policies.judge_images(images, policy, current.started_at, pulled))
        CleanupLine.objects.bulk_create((_line(current, judged) for judged in found), batch_size=1_000)
        of_tags = [judged.verdict for judged in found if judged.verdict.tag]
        current.considered += len(of_tags)
        current.to_delete += sum(verdict.will_delete for verdict in of_tags)
        current.cursor = images[-1].pk if images else current.cursor
        current.heartbeat_at = timezone.now()
        if not images:
            _decide(current)
        current.save(update_fields=["considered", "to_delete", "cursor", "heartbeat_at", "state"])
    return bool(images)


def _line(current: CleanupRun, judged: policies.Judged) -> CleanupLine:
    verdict = judged.verdict
    return CleanupLine(
        run=current,
        image=judged.image,
        path=judged.image.path,
        tag=verdict.tag,
        digest=verdict.digest,
        tag_version=verdict.tag_version,
        outcome=Outcome.TO_DELETE if verdict.will_delete else Outcome.KEPT,
        reason=verdict.why.reason,
        facts=verdict.why.facts,
    )


def _decide(current: CleanupRun) -> None:
    """After the last verdict: delete, or wait for approval."""
    current.state = State.DELETING
    if current.to_delete * 100 > current.considered * current.rules["most_percent"]:
        current.state = State.AWAITING_APPROVAL
        logger.warning(
            "the cleanup of %s awaits approval: it would delete %s of %s tags, more than %s %%",
            *(current.repository, current.to_delete, current.considered, current.rules["most_percent"]),
        )
        _record(audit.CLEANUP, current)


@retried
def _delete_some(run_id: int) -> bool:
    """Delete the next tags and digests of one image; return whether more follow."""
    with transaction.atomic():
        current = _locked(run_id)
        if current.state != State.DELETING:
            return False
        to_delete = current.lines.filter(outcome=Outcome.TO_DELETE).order_by("image", "pk")
        first = to_delete.first()
        if first is None:
            _finish(current)
            return False
        lines = list(to_delete.filter(image=first.image_id)[:LINES])
        deleted = _delete_lines(current, first.image, lines)
        CleanupLine.objects.bulk_update(lines, ["outcome", "reason", "facts"])
        current.deleted += deleted
        current.skipped += len(lines) - deleted
        current.heartbeat_at = timezone.now()
        current.save(update_fields=["deleted", "skipped", "heartbeat_at"])
    return True


def _delete_lines(current: CleanupRun, image: Image | None, lines: list[CleanupLine]) -> int:
    """Delete these lines, together if possible; set the outcome of each; return the number deleted."""
    try:
        if image is None:
            raise errors.NameUnknown
        repository = current.repository
        name = names.ImageName(repository.project.name, repository.name, image.name)
        image = manifests.lock_live_image(repository, name)
        still_to_delete = _still_to_delete(current, image, lines)
    except errors.NameUnknown:
        for line in lines:
            _skip(line, Reason.GONE)
        return 0
    for together in (still_to_delete, *([line] for line in still_to_delete)):
        waiting = [line for line in together if line.outcome == Outcome.TO_DELETE]
        if not waiting:
            continue
        try:
            with transaction.atomic():
                trash.delete_references(audit.CLEANUP, repository, name, [line.tag or line.digest for line in waiting])
        except Refusal as error:
            if len(waiting) == 1:
                _skip(waiting[0], _reason_of(error))
        else:
            for line in waiting:
                line.outcome = Outcome.DELETED
    return sum(line.outcome == Outcome.DELETED for line in lines)


def _still_to_delete(current: CleanupRun, image: Image, lines: list[CleanupLine]) -> list[CleanupLine]:
    """Return the lines whose verdict is unchanged under the image's lock; skip the others."""
    policy = CleanupPolicy(repository=current.repository, **current.rules)
    pulled = policies.Pulls(current.repository, [image])
    judged = policies.judge_images([image], policy, current.started_at, pulled)
    verdicts = (one.verdict for one in judged)
    same = {(verdict.digest, verdict.tag_version) for verdict in verdicts if verdict.will_delete}
    for line in lines:
        if (line.digest, line.tag_version) not in same:
            _skip(line, Reason.CHANGED)
    return [line for line in lines if line.outcome == Outcome.TO_DELETE]


def _skip(line: CleanupLine, reason: CleanupLine.Reason) -> None:
    line.outcome, line.reason, line.facts = Outcome.SKIPPED, reason, {}


def _reason_of(error: Refusal) -> CleanupLine.Reason:
    """Why ``trash.delete_references`` refused."""
    if isinstance(error, errors.ManifestUnknown):
        return Reason.GONE
    return Reason.NEEDED if isinstance(error, errors.Unsupported) else Reason.CHANGED


def _finish(current: CleanupRun) -> None:
    current.state, current.finished_at = State.DONE, timezone.now()
    current.save(update_fields=["state", "finished_at"])
    if current.deleted:
        _record(audit.CLEANUP, current)


def _end(
    run_id: int, state: CleanupRun.State, problem: CleanupRun.Problem, detail: str, actor: Actor | None = None
) -> bool:
    with transaction.atomic():
        current = _locked(run_id)
        if current.state not in CleanupRun.UNFINISHED:
            return False
        current.state, current.finished_at = state, timezone.now()
        current.problem, current.problem_detail = problem, detail[:500]
        current.save(update_fields=["state", "problem", "problem_detail", "finished_at"])
        _record(actor or audit.CLEANUP, current)
    return True


def _locked(run_id: int) -> CleanupRun:
    runs = CleanupRun.objects.select_related("repository__project")
    return runs.select_for_update(of=("self",), no_key=True).get(pk=run_id)


def _record(actor: Actor, current: CleanupRun) -> None:
    counts = {name: getattr(current, name) for name in ("considered", "to_delete", "deleted", "skipped")}
    problem: dict[str, Any] = {}
    if current.problem:
        problem = {"problem": current.problem, "problem_detail": current.problem_detail}
    audit.record(
        actor, Event.Action.CLEANUP_RUN, current.repository, run=current.pk, state=current.state, **counts, **problem
    )


def _prune(repository: Repository) -> None:
    """Delete the lines of kept tags of older runs, and runs older than KEEP_RUNS, a few rows at a time."""
    runs = CleanupRun.objects.filter(repository=repository).exclude(state__in=CleanupRun.UNFINISHED)
    latest = CleanupRun.objects.filter(repository=repository).aggregate(latest=Max("pk"))["latest"]
    old = runs.filter(started_at__lt=timezone.now() - KEEP_RUNS).exclude(pk=latest)
    kept = CleanupLine.objects.filter(run__in=runs.exclude(pk=latest), outcome=Outcome.KEPT)
    for lines in (kept, CleanupLine.objects.filter(run__in=old)):
        while some := list(lines.values_list("pk", flat=True)[:1_000]):
            CleanupLine.objects.filter(pk__in=some).delete()
    old.delete()
