"""The queue of scans: request, claim, run, sweep. The queue is the table; Celery messages only wake workers.

A digest has at most one open scan. If a worker dies, its lease expires and another worker takes the scan. A failed
scan stores its problem and may be requested again at any time.
"""

from __future__ import annotations

import logging
import socket
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import transaction
from django.db.models import BigIntegerField, Case, Count, Exists, F, OuterRef, Q, Subquery, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import Project
from registry import audit
from registry.database.batches import in_batches
from registry.database.prepared import PreparedInsert, prepare
from registry.models import Event, Manifest, ManifestChild, Repository, Tag
from registry.models.manifests import undeleted
from registry.oci import media_types
from scanning import findings, sboms
from scanning.trivy import database, program, report
from scanning.trivy.program import ScanFailed, Workplace

from .models import DatabaseRefresh, Finding, Report, Scan, ScannerHost, ScanRound, ScanTurn
from .models.scans import OF_THE_DATABASE, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
BATCH = 1000
MINUTES_A_DAY = 24 * 60
KEPT_DAYS = 90

Trigger = Scan.Trigger
State = Scan.State


class LeaseLost(Exception):
    """The lease expired and another worker took the scan."""


# ── Request ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def request(manifests: Iterable[int], trigger: Scan.Trigger, requested_by: str) -> list[int]:
    """Request scans of these manifests, or of the platforms of an index. Returns the ids of their open scans.

    An open scan is not requested again, but moves forward if the new trigger has a higher priority.
    """
    wanted = _leaves(manifests)
    now = timezone.now()
    for some in in_batches(wanted, BATCH):
        found = Manifest.objects.live().filter(pk__in=some).exclude(pk__in=_unsupported(some))
        live = found.values_list("pk", "image__repository__project")
        of_all = {"trigger": trigger, "requested_by": requested_by[:254], "requested_at": now, "due_at": now}
        rows = [Scan(manifest_id=pk, project_id=project, **of_all) for pk, project in live]
        Scan.objects.bulk_create(rows, ignore_conflicts=True)
        later = Q(trigger__gt=trigger) | Q(due_at__gt=now)
        Scan.objects.filter(later, manifest__in=some, state=State.WAITING).update(trigger=trigger, due_at=now)
    return list(Scan.objects.open().filter(manifest__in=wanted).order_by("pk").values_list("pk", flat=True))


def _unsupported(manifests: Sequence[int]) -> list[int]:
    """The ids of those that no client can run; stores that in their reports. Only manifests without a platform can be.

    So attestations of BuildKit, signatures and charts do not wait for a scanner.
    """
    found = []
    for pk in Manifest.objects.live().filter(pk__in=manifests, platforms="").values_list("pk", flat=True):
        manifest = Manifest.objects.get(pk=pk)  # one at a time: a document has up to 4 MiB
        try:
            sboms.check(manifest)
        except sboms.Unsupported as why:
            findings.store_unsupported(manifest.pk, str(why))
            found.append(manifest.pk)
    return found


def request_for_push(manifest_id: int, actor: Actor) -> list[int]:
    """Ask for the scans of a pushed manifest when the repository has ``auto_scan``; refresh an index at once."""
    pushed = _pushed.first(manifest=manifest_id)
    if pushed is None:
        return []
    if pushed.media_type in media_types.INDEXES:
        return _request_for_index(manifest_id, actor, auto_scan=pushed.auto_scan)
    if pushed.deletion is not None or (pushed.auto_scan and pushed.is_known):
        return []
    is_unsupported = not pushed.platforms and bool(_unsupported([manifest_id]))
    if is_unsupported or not pushed.auto_scan:
        return []
    # One statement, unless the manifest has an open scan, which ``request`` may move forward.
    label = actor.label[:254]
    scan = Scan(manifest_id=manifest_id, project_id=pushed.project, trigger=Trigger.PUSH, requested_by=label)
    _insert_scan.run(scan)
    return [scan.pk] if scan.pk else request([manifest_id], Trigger.PUSH, label)


def _request_for_index(manifest_id: int, actor: Actor, *, auto_scan: bool) -> list[int]:
    findings.refresh_index(manifest_id)
    if not auto_scan:
        _unsupported([manifest_id])
        return []
    wanted = _leaves([manifest_id])
    known = Report.objects.filter(pk__in=wanted, problem="").values_list("pk", flat=True)
    return request(set(wanted) - set(known), Trigger.PUSH, actor.label)


class _PushedRow(NamedTuple):
    media_type: str
    platforms: str
    deletion: int | None
    auto_scan: bool
    project: int
    is_known: int


@prepare(_PushedRow, manifest=BigIntegerField())
def _pushed(actor: Actor, manifest: Any) -> QuerySet[Any, Any]:
    known = Exists(Report.objects.filter(manifest=OuterRef("pk"), problem=""))
    found = Manifest.objects.filter(pk=manifest).annotate(is_known=Case(When(known, then=1), default=0))
    of_repository = ("image__repository__auto_scan", "image__repository__project")
    return found.values_list("media_type", "platforms", "deletion", *of_repository, "is_known")


_insert_scan = PreparedInsert(Scan, ignores=True, returns_key=True)


def request_for_recovered(manifest_ids: list[int], actor: Actor) -> list[int]:
    """Request scans of restored manifests that were never scanned, in repositories that scan automatically."""
    found = Manifest.objects.filter(pk__in=manifest_ids, report=None, image__repository__auto_scan=True)
    leaves = found.exclude(media_type__in=media_types.INDEXES)
    return request(leaves.values_list("pk", flat=True), Trigger.PUSH, actor.label)


def request_for_tagged(actor: Actor, repositories: Iterable[Repository]) -> list[int]:
    """Request scans of everything tagged in these repositories."""
    named = Tag.objects.live().filter(undeleted("manifest__"), image__repository__in=list(repositories))
    return request(named.values_list("manifest", flat=True).distinct(), Trigger.MANUAL, actor.label)


def stop_requested(project: Project) -> int:
    """Take the waiting scans that people requested out of the queue; returns how many.

    Those of manifests that have no result yet wait on, as after a push. Running scans go on.
    """
    waiting = Scan.objects.filter(project=project, state=State.WAITING, trigger=Trigger.MANUAL)
    waiting.filter(manifest__report=None, manifest__image__repository__auto_scan=True).update(trigger=Trigger.PUSH)
    return waiting.delete()[0]


def request_daily(now: datetime) -> int:
    """Continue the daily rounds; each project's begins at ``minute_of``. Returns how many scans were requested.

    Skips digests whose result is from the newest database and this version of Trivy. The worker that runs this may have
    no database of its own, so the rows say which one scanners have.
    """
    known = DatabaseRefresh.objects.exclude(updated_at=None).order_by("-pk")
    newest = known.values_list("updated_at", flat=True).first()
    if newest is None:
        return 0
    asked = 0
    day = now.date()
    ended = ScanRound.objects.filter(day=day, finished_at__isnull=False)
    for project in Project.objects.exclude(pk__in=ended.values("project")).order_by("pk").iterator(chunk_size=500):
        if minute_of(project) <= now.hour * 60 + now.minute:
            asked += _go_round(project, day, newest)
    return asked


def minute_of(project: Project) -> int:
    """The minute of the day (UTC) at which the project's round begins. It spreads the load over the day."""
    return zlib.crc32(project.name.encode()) % MINUTES_A_DAY


def retry_for_database() -> list[int]:
    """Request scans again that failed for lack of a usable vulnerability database."""
    stopped = Report.objects.filter(problem__in=OF_THE_DATABASE, manifest__deletion=None)
    plain = stopped.exclude(manifest__media_type__in=sorted(media_types.INDEXES))
    return request(plain.values_list("pk", flat=True), Trigger.PUSH, "system")


def _leaves(manifests: Iterable[int]) -> list[int]:
    """The manifests, with each index replaced by its platforms. Sorted ids."""
    wanted, found = set(manifests), set()
    while wanted:
        parents = dict[int, list[int]]()
        for some in in_batches(list(wanted), BATCH):
            named = ManifestChild.objects.filter(parent__in=some)
            for parent, child in named.values_list("parent", "child"):
                parents.setdefault(parent, []).append(child)
        found |= wanted - parents.keys()
        wanted = {child for children in parents.values() for child in children} - found
    return sorted(found)


def _go_round(project: Project, day: date, database_at: datetime) -> int:
    version = _version()
    current = Q(report__database_at__gte=database_at, report__tool_version=version, report__problem="")
    current |= Q(report__state=Report.State.UNSUPPORTED)
    tagged = Tag.objects.live().filter(
        undeleted("manifest__"),
        image__repository__project=project,
        image__repository__auto_scan=True,
    )
    round_, _ = ScanRound.objects.get_or_create(project=project, day=day)
    asked = 0
    while True:
        due = tagged.filter(manifest__gt=round_.cursor).order_by("manifest").values_list("manifest", flat=True)
        some = list(due.distinct()[:BATCH])
        if not some:
            break
        leaves = _leaves(some)
        stale = Manifest.objects.filter(pk__in=leaves).exclude(pk__in=Manifest.objects.filter(current, pk__in=leaves))
        wanted = list(stale.values_list("pk", flat=True))
        request(wanted, Trigger.DAILY, "system")
        asked += len(wanted)
        round_.cursor = some[-1]
        round_.requested += len(wanted)
        round_.save(update_fields=["cursor", "requested"])
    ScanRound.objects.filter(pk=round_.pk).update(finished_at=timezone.now())
    return asked


def _version() -> str:
    """Trivy's version; "" without Trivy, so that no result is current and each scan reports it."""
    try:
        return program.version()
    except ScanFailed:
        return ""


# ── Run ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def run(scan_id: int) -> bool:
    """Run one scan that is due or whose lease has expired. False if it is not, or if the lease is lost meanwhile."""
    scan = _claim(scan_id)
    if scan is None:
        return False
    try:
        _examine(scan)
    except LeaseLost:
        return False
    except ScanFailed as failure:
        scan.problem, scan.detail = failure.problem, failure.detail
    except Exception as error:
        logger.exception("%s failed", scan)
        scan.problem, scan.detail = Problem.OTHER, f"an error in KCR, see the log: {type(error).__name__}"
    _finish(scan)
    return True


def check_isolation() -> program.Isolation | None:
    """Store how Trivy is isolated on this machine, and log a warning if it is not. None without Trivy."""
    try:
        isolation = program.isolation()
    except ScanFailed:
        return None
    name = socket.gethostname()[:253]
    said = {"isolation": isolation.kind, "why": isolation.why, "seen_at": timezone.now()}
    ScannerHost.objects.update_or_create(name=name, defaults=said)
    if isolation.is_none:
        logger.warning(
            "scans are not isolated on this machine: Trivy runs as the application's own user, with its files and"
            " network in reach, because the system refuses a sandbox (%s)",
            isolation.why,
        )
    return isolation


def next_due() -> int | None:
    """The id of the scan to run next, None if none is due.

    Projects take turns, so that many or slow scans of one project do not delay the others. The order of projects:
    fewer running scans, then a push or a request before the daily round, then the longest wait. Within a project:
    requests by people, pushes, the daily round.
    """
    due = Scan.objects.claimable(timezone.now())
    of_project = due.filter(project=OuterRef("pk")).order_by()
    running = Scan.objects.filter(project=OuterRef("pk"), state=State.RUNNING, lease_until__gte=timezone.now())
    number = running.order_by().values("project").annotate(number=Count("pk")).values("number")
    waiting = Project.objects.filter(Exists(of_project)).annotate(
        running=Coalesce(Subquery(number), 0),
        is_daily=~Exists(of_project.exclude(trigger=Trigger.DAILY)),
    )
    turn = F("scan_turn__taken_at").asc(nulls_first=True)
    project = waiting.order_by("running", "is_daily", turn, "pk").values_list("pk", flat=True).first()
    return due.filter(project=project).values_list("pk", flat=True).first() if project else None


def waiting(limit: int) -> list[int]:
    """Ids of scans that are due and need a worker."""
    return list(Scan.objects.claimable(timezone.now()).values_list("pk", flat=True)[:limit])


def _claim(scan_id: int) -> Scan | None:
    now = timezone.now()
    free = Scan.objects.claimable(now).filter(pk=scan_id)
    lost = free.filter(state=State.RUNNING, attempts__gte=MAX_ATTEMPTS).order_by().first()
    if lost is not None:
        lost.problem, lost.detail = Problem.WORKER_LOST, f"the worker ended {MAX_ATTEMPTS} times during the scan"
        _finish(lost)
        return None
    claimed = free.order_by().update(
        state=State.RUNNING, started_at=now, lease_until=now + Scan.LEASE, attempts=F("attempts") + 1
    )
    if not claimed:
        return None
    scan = Scan.objects.select_related("manifest__image__repository__project").get(pk=scan_id)
    turn = ScanTurn(project_id=scan.project_id, taken_at=now)
    ScanTurn.objects.bulk_create([turn], update_conflicts=True, unique_fields=["project"], update_fields=["taken_at"])
    return scan


def _examine(scan: Scan) -> None:
    """Scan a digest and store the result. Raises ScanFailed, LeaseLost."""
    manifest = scan.manifest
    if manifest.deletion_id is not None:
        raise ScanFailed(Problem.GONE, "the digest was deleted meanwhile")
    version = program.version()
    with database.workplace() as place:
        watched = Workplace(place.folder, lambda: _renew(scan))
        try:
            sbom = sboms.of(manifest, watched)
        except sboms.Unsupported as why:
            findings.store_unsupported(scan.manifest_id, str(why))
            return
        newest = database.current()
        if newest is None:
            raise ScanFailed(Problem.DATABASE_MISSING, "there is no vulnerability database yet")
        result = report.read_report(*program.make_report(sbom, newest.folder, watched), sbom, newest.sources)
    _renew(scan)
    scan.new, scan.fixed = findings.store(scan, result, version, newest.updated_at)
    scan.database_at = newest.updated_at


def _renew(scan: Scan) -> None:
    """Extend the lease. Raises LeaseLost if another worker has the scan."""
    own = Scan.objects.filter(pk=scan.pk, state=State.RUNNING, attempts=scan.attempts)
    if not own.update(lease_until=timezone.now() + Scan.LEASE):
        raise LeaseLost


def _finish(scan: Scan) -> None:
    """Store the end of a scan, once. Record an event unless a daily scan found no change."""
    state = State.FAILED if scan.problem else State.DONE
    with transaction.atomic():
        own = Scan.objects.filter(pk=scan.pk, state=State.RUNNING, attempts=scan.attempts)
        ended = own.update(
            state=state,
            finished_at=timezone.now(),
            problem=scan.problem,
            detail=scan.detail[:500],
            database_at=scan.database_at,
            new=scan.new,
            fixed=scan.fixed,
            is_noted=bool(scan.problem),
        )
        if not ended:
            return
        if scan.problem and scan.problem != Problem.GONE:  # a deleted digest needs no report
            findings.store_failure(scan)
        if scan.trigger != Trigger.DAILY or scan.new or scan.fixed:
            _record(scan)


def _record(scan: Scan) -> None:
    manifest = Manifest.objects.select_related("image__repository__project", "report").get(pk=scan.manifest_id)
    known: Report | None = getattr(manifest, "report", None)
    if known is None or known.state == Report.State.UNSUPPORTED:
        return
    audit.record(
        Actor(label=scan.requested_by, is_system=True),
        Event.Action.SCAN_DONE,
        manifest.image,
        digest=manifest.digest,
        trigger=Trigger(scan.trigger).name.lower(),
        problem=scan.problem,
        new=scan.new,
        fixed=scan.fixed,
        state=known.state,
        system=known.system,
        is_end_of_life=known.is_end_of_life,
        **{name: getattr(known, name) for name in Report.COUNTS},
    )


# ── Sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def forget_old(now: datetime) -> int:
    """Delete scans and rounds older than KEPT_DAYS, except scans that a finding refers to. Returns how many scans."""
    before = now - timedelta(days=KEPT_DAYS)
    found = Finding.objects.filter(Q(since=OuterRef("pk")) | Q(until=OuterRef("pk")))
    old = Scan.objects.filter(~Exists(found), finished_at__lt=before).order_by("pk")
    gone = 0
    while some := list(old.values_list("pk", flat=True)[:BATCH]):
        gone += Scan.objects.filter(pk__in=some).delete()[0]
    ScanRound.objects.filter(day__lt=before.date()).delete()
    ScannerHost.objects.filter(seen_at__lt=before).delete()
    return gone
