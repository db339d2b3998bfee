"""Turns scans into messages.

``gather`` creates a Notification for each finished scan and each subscription that it concerns. It puts the
notifications of a subscription into one Delivery as soon as none of its repositories has an open scan, but at most ten
minutes after the first; with the frequency "daily", at 00:00 UTC. So one push of many images is one message.

``Delivery.content`` is this JSON, and the body of a webhook (``version`` grows if a field changes its meaning):

    version     1
    event       "scan.findings", or "test": an example
    project, repository   what the subscription covers; repository null: the whole project
    moment, least         when it wants to hear ("each", "new", "daily"), and from which severity on ("high"): findings
                          below are nowhere counted here
    created_at, url       when the content was written; a page of the console
    totals      images, new, new_counts, counts, fixable, fixed, accepted as below, of all images; worst: the worst new
                severity, or the worst of all if none is new ("critical", …; "none")
    images      the worst MAX_IMAGES of them (totals.images says how many there are):
      project, repository, image, path, digest, tags, platform, url
      scanned_at, database_at   of the scan, and of the vulnerability database that it rests on
      state, system, end_of_life   "scanned"; or "uncovered" when packages of the operating system could not be checked;
                                its name; whether its makers report no vulnerabilities any more
      counts, fixable           findings without an acceptance, by severity; how many of them have a fixed version
      accepted                  findings with an acceptance
      fixed                     findings of the scan before that are gone
      new_total, new_counts     findings that the scan before did not have, without an acceptance
      new         the worst MAX_FINDINGS of them: vulnerability, severity, score (CVSS or null), title, url, package,
                  kind, installed, fixed (version, "" when there is none), path

"New" compares with the scan before. On a digest's first scan it compares with the digest that the same tag pointed to
before, or else the image's previous one, so that rebuilding a layer does not report old vulnerabilities again.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from registry.database.batches import in_batches
from registry.database.transactions import retried
from registry.models import Manifest, ManifestChild, Severity, Tag
from registry.models.manifests import MANIFEST_CONTENT_FIELDS, undeleted
from scanning import pages
from scanning.models import Finding, Notification, Report, Scan, Subscription
from scanning.notifications import channels, cloud_events, deliveries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

    from scanning.models.results import FindingQuerySet

logger = logging.getLogger(__name__)

VERSION = 1
LONGEST_WAIT = timedelta(minutes=10)
MAX_IMAGES = 50
MAX_FINDINGS = 50
SCANS_AT_ONCE = 500
BATCH = 500
FORMER_DIGESTS = 5  # of a tag, in search of one that was scanned
TAGS_SHOWN = 20

Frequency = Subscription.Frequency


def gather() -> list[int]:
    """Create notifications for finished scans, and the deliveries that are due. Returns the ids of the deliveries.

    Safe to run in several workers at once: each scan is handled once, each notification goes into one delivery.
    """
    fresh = Scan.objects.filter(state=Scan.State.DONE, is_noted=False).order_by("pk")
    for scan_id in list(fresh.values_list("pk", flat=True)[:SCANS_AT_ONCE]):
        _note(scan_id)
    now = timezone.now()
    return [pk for subscription in _with_news(now) for pk in _write(subscription, now)]


# ── From scans to notifications ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _News:
    """The changes of a scan: severities by id of new findings, severities of those that are gone, the worst of all."""

    new: dict[int, int]
    fixed: list[int]
    worst: int


@retried
def _note(scan_id: int) -> None:
    with transaction.atomic():
        # This UPDATE locks the row: of several workers one changes it, and the others then find nothing to update.
        if not Scan.objects.filter(pk=scan_id, state=Scan.State.DONE, is_noted=False).update(is_noted=True):
            return
        scans = Scan.objects.select_related("manifest__image__repository").defer(*MANIFEST_CONTENT_FIELDS)
        scan = scans.filter(undeleted("manifest__"), pk=scan_id).first()
        if scan is None:
            return
        found = list(Subscription.objects.of_repository(scan.manifest.image.repository))
        if found:
            news = _news(scan, timezone.now())
            made = (_notification(subscription, scan, news) for subscription in found)
            Notification.objects.bulk_create(filter(None, made), ignore_conflicts=True)


def _notification(subscription: Subscription, scan: Scan, news: _News) -> Notification | None:
    """The notification for this subscription; None if the scan does not concern it."""
    new = [pk for pk, severity in news.new.items() if severity >= subscription.min_severity]
    fixed = sum(severity >= subscription.min_severity for severity in news.fixed)
    is_bad = subscription.frequency != Frequency.NEW and news.worst >= subscription.min_severity
    return Notification(subscription=subscription, scan=scan, new=new, fixed=fixed) if new or fixed or is_bad else None


def _news(scan: Scan, now: datetime) -> _News:
    current = Finding.objects.current().filter(manifest=scan.manifest_id)
    unaccepted = current.unaccepted(now)
    begun = current.by_key()
    ended = _before(scan).by_key()
    found = unaccepted.filter(since=scan).select_related("package")
    return _News(
        new={finding.pk: finding.severity for finding in found if finding.key not in ended},
        fixed=[severity for key, severity in ended.items() if key not in begun],
        worst=unaccepted.aggregate(worst=Max("severity"))["worst"] or Severity.NONE,
    )


def _before(scan: Scan) -> FindingQuerySet:
    """The findings that the scan ended; on a digest's first scan, the findings of the digest before it."""
    earlier = Scan.objects.filter(manifest=scan.manifest_id, state=Scan.State.DONE, pk__lt=scan.pk)
    if earlier.exists():
        return Finding.objects.filter(manifest=scan.manifest_id, until=scan)
    return Finding.objects.current().filter(manifest=_predecessor(scan.manifest))


def _predecessor(manifest: Manifest) -> int | None:
    """The manifest that the same tag, or else the image, pointed to before: of the same platform, and scanned."""
    roots = [manifest.pk, *ManifestChild.objects.filter(child=manifest).values_list("parent", flat=True)]
    tags = Tag.objects.filter(image=manifest.image_id)
    others = tags.exclude(manifest__in=roots).order_by("-pk")
    naming = list(tags.filter(manifest__in=roots).order_by("-pk")[:TAGS_SHOWN])
    for tag in naming:
        if found := _first_known(others.filter(name=tag.name, pk__lt=tag.pk), manifest):
            return found
    of_image = others.filter(pk__lt=naming[-1].pk) if naming else others.filter(started_at__lte=manifest.pushed_at)
    return _first_known(of_image, manifest)


def _first_known(tags: QuerySet[Tag], manifest: Manifest) -> int | None:
    known = Report.objects.filter(
        state__in=Report.KNOWN,
        manifest__platforms=manifest.platforms,
        manifest__child_references=None,
    )
    for root in list(tags.values_list("manifest", flat=True)[:FORMER_DIGESTS]):
        same = Q(manifest=root) | Q(manifest__parent_references__parent=root)
        if found := known.filter(same).values_list("manifest", flat=True).first():
            return found
    return None


# ── From notifications to messages ───────────────────────────────────────────────────────────────────────────────────
def _with_news(now: datetime) -> Iterator[Subscription]:
    """Subscriptions whose pending notifications are due."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC)
    found = Subscription.objects.live().filter(
        is_active=True, notifications__delivery=None, notifications__isnull=False
    )
    found = found.annotate(first=Min("notifications__noted_at")).select_related("project", "repository__project")
    for subscription in found.order_by("pk"):
        first: datetime = subscription.first  # type: ignore[attr-defined]
        if subscription.frequency == Frequency.DAILY:
            is_due = first < midnight
        else:
            is_due = first <= now - LONGEST_WAIT or not _open_scans(subscription).exists()
        if is_due:
            yield subscription


def _open_scans(subscription: Subscription) -> QuerySet[Scan]:
    scans = Scan.objects.open().filter(project=subscription.project_id)
    if subscription.repository_id:
        scans = scans.filter(manifest__image__repository=subscription.repository_id)
    return scans


class _Raced(Exception):
    """Another worker wrote the delivery first."""


def _write(subscription: Subscription, now: datetime) -> list[int]:
    """Put the pending notifications into one delivery; drop them if they say nothing (any more). Returns its id."""
    pending = Notification.objects.filter(subscription=subscription, delivery=None)
    if subscription.frequency == Frequency.DAILY:
        pending = pending.filter(noted_at__lt=datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC))
    last = pending.aggregate(last=Max("pk"))["last"]
    if last is None:
        return []
    pending = pending.filter(pk__lte=last)
    number = pending.count()
    content = _content(subscription, pending, now)
    try:
        with transaction.atomic():
            if content is None:
                if pending.delete()[0] != number:
                    raise _Raced
                return []
            delivery = deliveries.queue(subscription, content)
            if pending.update(delivery=delivery) != number:
                raise _Raced
    except _Raced:
        return []  # the next run takes what is left
    return [delivery.pk]


@dataclass(slots=True)
class _Entry:
    """The part of a message about one digest."""

    scan: int = 0
    new: list[tuple[int, int]] = field(default_factory=list)  # severity, id; the worst first
    fixed: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    fixable: int = 0
    accepted: int = 0

    @property
    def worst(self) -> int:
        """The worst new severity; without any, the worst current one."""
        return max((severity for severity, _pk in self.new), default=max(self.counts, default=Severity.NONE))

    @property
    def weight(self) -> tuple[int, ...]:
        """The sort key: greater comes first."""
        return (self.new[0][0] if self.new else 0, len(self.new), self.worst, self.counts.total())


def _content(subscription: Subscription, pending: QuerySet[Notification], now: datetime) -> dict[str, Any] | None:
    """The content, or None if there is nothing to send. Fixed findings alone are not worth a message."""
    entries = _entries(subscription, pending, now)
    if subscription.frequency != Frequency.NEW:
        entries = {pk: entry for pk, entry in entries.items() if entry.counts or entry.new or entry.fixed}
    else:
        entries = {pk: entry for pk, entry in entries.items() if entry.new or entry.fixed}
    if not any(entry.new or (subscription.frequency != Frequency.NEW and entry.counts) for entry in entries.values()):
        return None
    order = sorted(entries, key=lambda pk: (entries[pk].weight, -pk), reverse=True)
    return _head(subscription, now) | {
        "totals": _totals(entries.values()),
        "images": list(_images({pk: entries[pk] for pk in order[:MAX_IMAGES]})),
    }


def _entries(subscription: Subscription, pending: QuerySet[Notification], now: datetime) -> dict[int, _Entry]:
    """By manifest id: its newest scan among the notifications, and its current findings."""
    entries: dict[int, _Entry] = defaultdict(_Entry)
    new: list[int] = []
    rows = (
        pending.filter(undeleted("scan__manifest__"))
        .order_by("pk")
        .values_list("scan__manifest", "scan", "new", "fixed")
    )
    for manifest, scan, ids, fixed in rows:
        entry = entries[manifest]
        entry.scan = max(entry.scan, scan)
        entry.fixed += fixed
        new += ids
    current = Finding.objects.current().filter(severity__gte=subscription.min_severity)
    for some in in_batches(new, BATCH):
        found = current.unaccepted(now).filter(pk__in=some)
        for pk, manifest, severity in found.values_list("pk", "manifest", "severity"):
            if manifest in entries:
                entries[manifest].new.append((severity, pk))
    of_these = current.filter(manifest__in=Scan.objects.filter(notifications__in=pending).values("manifest"))
    by_severity = of_these.unaccepted(now).values_list("manifest", "severity")
    fixable = Count("pk", filter=~Q(fixed_version=""))
    for manifest, severity, number, with_fix in by_severity.annotate(number=Count("pk"), with_fix=fixable):
        if manifest in entries:
            entries[manifest].counts[severity] = number
            entries[manifest].fixable += with_fix
    for manifest, number in of_these.values_list("manifest").annotate(number=Count("pk")):
        if manifest in entries:
            entries[manifest].accepted = number - entries[manifest].counts.total()
    for entry in entries.values():
        entry.new.sort(reverse=True)
    return dict(entries)


def _head(subscription: Subscription, now: datetime) -> dict[str, Any]:
    project, repository = subscription.project, subscription.repository
    return {
        "version": VERSION,
        "event": "scan.findings",
        "project": project.name,
        "repository": repository.name if repository else None,
        "moment": str(subscription.frequency),
        "least": _name(subscription.min_severity),
        "created_at": now.isoformat(timespec="seconds"),
        "url": pages.repository(repository) if repository else pages.project(project),
    }


def _totals(entries: Iterable[_Entry]) -> dict[str, Any]:
    entries = list(entries)
    new = Counter(severity for entry in entries for severity, _pk in entry.new)
    counts = sum((entry.counts for entry in entries), Counter[int]())
    return {
        "images": len(entries),
        "new": new.total(),
        "new_counts": _named(new),
        "counts": _named(counts),
        "fixable": sum(entry.fixable for entry in entries),
        "fixed": sum(entry.fixed for entry in entries),
        "accepted": sum(entry.accepted for entry in entries),
        "worst": _name(max(new or counts, default=Severity.NONE)),
    }


def _images(entries: dict[int, _Entry]) -> Iterator[dict[str, Any]]:
    """The JSON of each digest, in this order. Five queries."""
    chosen = Manifest.objects.without_content().select_related("image__repository__project", "report")
    manifests = chosen.in_bulk(list(entries))
    scans = Scan.objects.in_bulk([entry.scan for entry in entries.values()])
    tags = _tags(list(entries))
    shown = [pk for entry in entries.values() for _severity, pk in entry.new[:MAX_FINDINGS]]
    findings: dict[int, Finding] = {}
    for some in in_batches(shown, BATCH):
        findings |= Finding.objects.select_related("vulnerability", "package").in_bulk(some)
    for pk, entry in entries.items():
        manifest, scan = manifests.get(pk), scans.get(entry.scan)
        if manifest is None or scan is None:
            continue  # purged meanwhile
        image = manifest.image
        project, repository = image.repository.project.name, image.repository.name
        new = [findings[each] for _severity, each in entry.new[:MAX_FINDINGS] if each in findings]
        yield {
            "project": project,
            "repository": repository,
            "image": image.name,
            "path": image.path,
            "digest": manifest.digest,
            "tags": tags.get(pk, []),
            "platform": manifest.platforms,
            "url": pages.vulnerabilities(image, manifest.digest),
            "scanned_at": _moment(scan.finished_at),
            "database_at": _moment(scan.database_at),
            **_coverage(getattr(manifest, "report", None)),
            "counts": _named(entry.counts),
            "fixable": entry.fixable,
            "accepted": entry.accepted,
            "fixed": entry.fixed,
            "new_total": len(entry.new),
            "new_counts": _named(Counter(severity for severity, _pk in entry.new)),
            "new": [_finding(finding) for finding in new],
        }


def _coverage(report: Report | None) -> dict[str, Any]:
    if report is None:  # only a report of a scan makes a notification, but its row may be gone
        return {"state": "", "system": "", "end_of_life": False}
    return {"state": str(report.state), "system": report.system, "end_of_life": report.is_end_of_life}


def _tags(manifests: list[int]) -> dict[int, list[str]]:
    """Live tags of the manifests and of the indexes that name them, by manifest id."""
    parents = defaultdict(list)
    for parent, child in ManifestChild.objects.filter(child__in=manifests).values_list("parent", "child"):
        parents[parent].append(child)
    found: dict[int, list[str]] = defaultdict(list)
    live = Tag.objects.live().filter(manifest__in=[*manifests, *parents]).order_by("-pk")
    for name, manifest in live.values_list("name", "manifest"):
        for each in {manifest, *parents.get(manifest, ())}:
            if name not in found[each] and len(found[each]) < TAGS_SHOWN:
                found[each].append(name)
    return found


def _finding(finding: Finding) -> dict[str, Any]:
    vulnerability, package = finding.vulnerability, finding.package
    is_link = vulnerability.url.startswith(("https://", "http://"))
    return {
        "vulnerability": vulnerability.name,
        "severity": _name(finding.severity),
        "score": vulnerability.score,
        "title": vulnerability.title,
        "url": vulnerability.url if is_link else "",
        "package": package.name,
        "kind": package.kind,
        "installed": package.version,
        "fixed": finding.fixed_version,
        "path": finding.path,
    }


def _name(severity: int) -> str:
    return Severity(severity).name.lower()


def _named(counts: Counter[int]) -> dict[str, int]:
    return {_name(severity): counts[severity] for severity in sorted(counts, reverse=True) if counts[severity]}


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


# ── Test ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_content(subscription: Subscription, now: datetime) -> dict[str, Any]:
    """Content of the same form with an example finding, and the event "test"; or an event that stands for nothing."""
    if channels.of(subscription).is_about_events:
        return cloud_events.test_event(subscription.project)
    head = _head(subscription, now)
    example = {
        "vulnerability": "CVE-2021-44228",
        "severity": "critical",
        "score": 10.0,
        "title": "Log4Shell",
        "url": "https://nvd.nist.gov/vuln/detail/CVE-2021-44228",
        "package": "org.apache.logging.log4j:log4j-core",
        "kind": "jar",
        "installed": "2.14.1",
        "fixed": "2.17.1",
        "path": "app/example.jar",
    }
    one = {"critical": 1}
    numbers = {"new_counts": one, "counts": one, "fixable": 1, "fixed": 0, "accepted": 0}
    repository = head["repository"] or "repository"
    image = {
        "project": head["project"],
        "repository": repository,
        "image": "example",
        "path": f"{head['project']}/{repository}/example",
        "digest": f"sha256:{'0' * 64}",
        "tags": ["test"],
        "platform": "linux/amd64",
        "url": head["url"],
        "scanned_at": head["created_at"],
        "database_at": head["created_at"],
        "state": str(Report.State.SCANNED),
        "system": "debian 12.5",
        "end_of_life": False,
        "new_total": 1,
        "new": [example],
        **numbers,
    }
    totals = {"images": 1, "new": 1, "worst": "critical", **numbers}
    return head | {"event": "test", "totals": totals, "images": [image]}
