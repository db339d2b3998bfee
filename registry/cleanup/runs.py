"""Cleanup policies at work: run at night, held when too much would go, gone on with when a worker ended.

A run first writes down its verdict on every tag, then deletes what goes, through the same functions as people do: all
is in Recovery. Both go on in short transactions that say in the run's rows how far it is: a run that was killed goes on
where it stood, and two workers on one run do nothing twice. What goes is judged again under the image's lock at the
moment when it goes: a verdict that no longer holds is not carried out.

Locks: policy or run -> repository -> image, as everywhere.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from accounts.actors import Actor
from registry import audit, errors, manifests
from registry.cleanup import policies, rules
from registry.database.transactions import retried
from registry.models import CleanupLine, CleanupPolicy, CleanupRun, Event, Image, Repository
from registry.oci import names

logger = logging.getLogger(__name__)

NIGHT = time(2, 30)  # UTC
LINES = 100  # deleted in one transaction
STALE = timedelta(minutes=10)
KEEP_RUNS = timedelta(days=90)
Outcome, State = CleanupLine.Outcome, CleanupRun.State

_ACTOR = Actor(label="cleanup policy", is_system=True)


def due(now: datetime | None = None) -> list[int]:
    """Ids of policies to be run: a night has begun since their last run did, or the worker of an open run is gone.

    A policy that was made or changed waits for the next night.
    """
    now = now or timezone.now()
    night = datetime.combine(now.astimezone(UTC), NIGHT, tzinfo=UTC)
    night = night if night <= now else night - timedelta(days=1)
    runs = CleanupRun.objects.filter(repository=OuterRef("repository"))
    begun = runs.order_by("-pk").values("started_at")[:1]
    active = CleanupPolicy.objects.active().annotate(
        last=Greatest("updated_at", Coalesce(Subquery(begun), "updated_at"))
    )
    is_stale = Exists(runs.open().filter(heartbeat_at__lt=now - STALE))
    is_open = Exists(runs.open())
    return list(active.filter(is_stale | (Q(last__lt=night) & ~is_open)).order_by("pk").values_list("pk", flat=True))


def run(policy_id: int) -> CleanupRun | None:
    """Begin a run of the policy, or go on with the one that is open; the run, None when there is no such policy now.

    It ends done, held (more would go than the policy allows without a person), or failed, which the log says as well.
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
        raise  # the run stays open, and is found by the sweep when the database is back
    except Exception as error:
        logger.exception("the cleanup policy of %s failed", current.repository)
        _end(current.pk, State.FAILED, str(error)[:500])
        raise
    _prune(current.repository)
    return CleanupRun.objects.get(pk=current.pk)


def approve(actor: Actor, run_id: int) -> bool:
    """Let a held run delete what it listed; returns whether it was held. ``run``, or else the sweep, does the work."""
    with transaction.atomic():
        held = _locked(run_id)
        if held.state != State.HELD:
            return False
        CleanupRun.objects.filter(repository=held.repository, state__in=CleanupRun.OPEN).update(
            state=State.DISMISSED, finished_at=timezone.now(), problem="an earlier run was approved"
        )
        held.state, held.approved_by, held.heartbeat_at = State.DELETING, actor.label[:254], held.started_at - STALE
        held.save(update_fields=["state", "approved_by", "heartbeat_at"])
        _record(actor, held)
    return True


def dismiss(actor: Actor, run_id: int) -> bool:
    """End a run that is held or at work; what it deleted stays in Recovery. Returns whether it was."""
    return _end(run_id, State.DISMISSED, f"dismissed by {actor.label}"[:500], actor)


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
            runs.filter(state=State.HELD).update(
                state=State.DISMISSED, finished_at=timezone.now(), problem="nobody approved it before the next run"
            )
            current = CleanupRun.objects.create(repository_id=policy.repository_id, rules=policies.rules_of(policy))
        CleanupRun.objects.filter(pk=current.pk).update(heartbeat_at=timezone.now())
    return runs.get(pk=current.pk)


@retried
def _judge_some(run_id: int) -> bool:
    """Write down the verdicts on the next images; returns whether more are to come."""
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
        current.doomed += sum(verdict.goes for verdict in of_tags)
        current.cursor = images[-1].pk if images else current.cursor
        current.heartbeat_at = timezone.now()
        if not images:
            _decide(current)
        current.save(update_fields=["considered", "doomed", "cursor", "heartbeat_at", "state"])
    return bool(images)


def _line(current: CleanupRun, judged: policies.Judged) -> CleanupLine:
    verdict = judged.verdict
    return CleanupLine(
        run=current,
        image=judged.image,
        path=judged.image.path,
        tag=verdict.tag,
        digest=verdict.digest,
        meaning=verdict.meaning,
        outcome=Outcome.DOOMED if verdict.goes else Outcome.KEPT,
        reason=verdict.reason[:200],
    )


def _decide(current: CleanupRun) -> None:
    """After the last verdict: go on, or wait for a person."""
    current.state = State.DELETING
    if current.doomed * 100 > current.considered * current.rules["most_percent"]:
        current.state = State.HELD
        logger.warning(
            "the cleanup policy of %s is held: it would delete %s of %s tags, more than %s %%",
            *(current.repository, current.doomed, current.considered, current.rules["most_percent"]),
        )
        _record(_ACTOR, current)


@retried
def _delete_some(run_id: int) -> bool:
    """Delete the next doomed tags and digests of one image; returns whether more are to come."""
    with transaction.atomic():
        current = _locked(run_id)
        if current.state != State.DELETING:
            return False
        doomed = current.lines.filter(outcome=Outcome.DOOMED).order_by("image", "pk")
        first = doomed.first()
        if first is None:
            _finish(current)
            return False
        lines = list(doomed.filter(image=first.image_id)[:LINES])
        deleted = _delete_lines(current, first.image, lines)
        CleanupLine.objects.bulk_update(lines, ["outcome", "reason"])
        current.deleted += deleted
        current.left += len(lines) - deleted
        current.heartbeat_at = timezone.now()
        current.save(update_fields=["deleted", "left", "heartbeat_at"])
    return True


def _delete_lines(current: CleanupRun, image: Image | None, lines: list[CleanupLine]) -> int:
    """Delete what still goes, as one act if that can be; sets the outcome of each line. Returns how many went."""
    try:
        if image is None:
            raise errors.NameUnknown("the image is gone")
        repository = current.repository
        name = names.ImageName(repository.project.name, repository.name, image.name)
        image = manifests.lock_live_image(repository, name)
        going = _still_going(current, image, lines)
    except errors.NameUnknown as error:
        for line in lines:
            _leave(line, rules.LEFT_BECAUSE % {"why": error.message})
        return 0
    for together in (going, *([line] for line in going)):
        waiting = [line for line in together if line.outcome == Outcome.DOOMED]
        if not waiting:
            continue
        try:
            with transaction.atomic():
                manifests.delete_many(_ACTOR, repository, name, [line.tag or line.digest for line in waiting])
        except errors.RegistryError as error:
            if len(waiting) == 1:
                _leave(waiting[0], rules.LEFT_BECAUSE % {"why": error.message})
        else:
            for line in waiting:
                line.outcome = Outcome.DELETED
    return sum(line.outcome == Outcome.DELETED for line in lines)


def _still_going(current: CleanupRun, image: Image, lines: list[CleanupLine]) -> list[CleanupLine]:
    """Those of the lines whose verdict is the same now, under the image's lock; the others are left."""
    policy = CleanupPolicy(repository=current.repository, **current.rules)
    pulled = policies.Pulls(current.repository, [image])
    judged = policies.judge_images([image], policy, current.started_at, pulled)
    going = {(verdict.digest, verdict.meaning) for verdict in (one.verdict for one in judged) if verdict.goes}
    for line in lines:
        if (line.digest, line.meaning) not in going:
            _leave(line, rules.LEFT)
    return [line for line in lines if line.outcome == Outcome.DOOMED]


def _leave(line: CleanupLine, reason: str) -> None:
    line.outcome, line.reason = Outcome.LEFT, reason[:200]


def _finish(current: CleanupRun) -> None:
    current.state, current.finished_at = State.DONE, timezone.now()
    current.save(update_fields=["state", "finished_at"])
    if current.deleted:
        _record(_ACTOR, current)


def _end(run_id: int, state: CleanupRun.State, problem: str, actor: Actor | None = None) -> bool:
    with transaction.atomic():
        current = _locked(run_id)
        if current.state not in CleanupRun.UNFINISHED:
            return False
        current.state, current.problem, current.finished_at = state, problem, timezone.now()
        current.save(update_fields=["state", "problem", "finished_at"])
        _record(actor or _ACTOR, current)
    return True


def _locked(run_id: int) -> CleanupRun:
    runs = CleanupRun.objects.select_related("repository__project")
    return runs.select_for_update(of=("self",), no_key=True).get(pk=run_id)


def _record(actor: Actor, current: CleanupRun) -> None:
    counts = {name: getattr(current, name) for name in ("considered", "doomed", "deleted", "left")}
    problem = {"problem": current.problem} if current.problem else {}
    audit.record(
        actor, Event.Action.CLEANUP_RUN, current.repository, run=current.pk, state=current.state, **counts, **problem
    )


def _prune(repository: Repository) -> None:
    """Forget what older runs kept, and runs of long ago, a few rows at a time."""
    runs = CleanupRun.objects.filter(repository=repository).exclude(state__in=CleanupRun.UNFINISHED)
    latest = CleanupRun.objects.filter(repository=repository).aggregate(latest=Max("pk"))["latest"]
    old = runs.filter(started_at__lt=timezone.now() - KEEP_RUNS).exclude(pk=latest)
    kept = CleanupLine.objects.filter(run__in=runs.exclude(pk=latest), outcome=Outcome.KEPT)
    for lines in (kept, CleanupLine.objects.filter(run__in=old)):
        while some := list(lines.values_list("pk", flat=True)[:1_000]):
            CleanupLine.objects.filter(pk__in=some).delete()
    old.delete()
