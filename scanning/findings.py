"""Results of scans: findings as intervals of scans, and the Report that sums them up for each digest.

A scan that finds the same again writes two rows and reads four. Counts are counted again each time, never
incremented, so they cannot drift. An acceptance takes effect when it is made and loses effect when it ends.

What changes findings or acceptances sets ``Report.recount_at`` in its own transaction. So no count is lost when the
process ends before it has counted: ``recount_due`` finds the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, F, Max, Min, Q, Subquery, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from registry.database.batches import in_batches
from registry.database.transactions import retried
from registry.models import Manifest, ManifestChild, Severity, Tag
from registry.models.manifests import MANIFEST_CONTENT_FIELDS, undeleted

from . import sboms
from .models import Acceptance, Component, Finding, Report, SeverityDay, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.models import Project
    from scanning.trivy.report import ReportedFinding, Result

    from .models import Scan

ROWS = 1000
BATCH = 90  # reports that are counted in one transaction; Django updates up to 99 rows of them in one query of SQLite
NAMED_RISKS = 3  # vulnerabilities that the message of a refused pull names
State = Report.State
_COUNTED = (*Report.COUNTS, "fixable", "accepted")
_NOTHING_KNOWN = dict.fromkeys((*_COUNTED, "packages"), 0)
_OF_THE_WORST = (*_NOTHING_KNOWN, "state", "detail", "system", "tool_version", "scanned_at")
_OF_AN_INDEX = (*_OF_THE_WORST, "problem", "database_at", "is_end_of_life", "unknown_parts")


def store(scan: Scan, result: Result, tool_version: str, database_at: datetime) -> tuple[int, int]:
    """Store what a scan found; returns how many findings are new and how many are gone since the scan before.

    Call it once a scan, outside a transaction.
    """
    now, fingerprint = timezone.now(), result.fingerprint
    known = Report.objects.filter(manifest=scan.manifest_id).first()
    is_same = known is not None and known.fingerprint == fingerprint and known.state in {State.SCANNED, State.UNCOVERED}
    packages = known.packages if is_same and known else Component.objects.filter(manifest=scan.manifest_id).count()
    state = _state(result, packages)
    is_same = is_same and known is not None and known.state == state
    said = {
        "state": state,
        "problem": "",
        "detail": "",
        "packages": packages,
        "system": result.system,
        "is_end_of_life": result.is_end_of_life,
        "tool_version": tool_version,
        "database_at": database_at,
        "scanned_at": now,
        "fingerprint": fingerprint,
    }
    if is_same:
        Report.objects.filter(manifest=scan.manifest_id).update(**said)
        refresh_indexes([scan.manifest_id])  # they show the age of the database, too
        return 0, 0
    vulnerabilities, named = _vulnerability_ids(result.found), sboms.package_ids(_packages(result.found))
    with transaction.atomic():
        Report.objects.get_or_create(manifest_id=scan.manifest_id, defaults=said)
        Report.objects.select_for_update().get(pk=scan.manifest_id)
        changes = _compare(scan, result.found, vulnerabilities, named)
        Report.objects.filter(pk=scan.manifest_id).update(**said, recount_at=now)
    recount(Report.objects.filter(pk=scan.manifest_id))
    return changes


def _state(result: Result, packages: int) -> Report.State:
    if not packages:
        return State.UNRECOGNISED
    return State.SCANNED if result.is_covered else State.UNCOVERED


def store_unsupported(manifest_id: int, why: str) -> None:
    """Store that no client can run a manifest, and why."""
    said = {"state": State.UNSUPPORTED, "problem": "", "detail": why[:500], "scanned_at": timezone.now()}
    Report.objects.update_or_create(manifest_id=manifest_id, defaults=said)
    Manifest.objects.filter(pk=manifest_id).update(worst_severity=Severity.NONE, risk_summary={})
    refresh_indexes([manifest_id])


def store_failure(scan: Scan) -> None:
    """Store why the last scan failed. Earlier results stay, with their age."""
    said = {"problem": scan.problem, "detail": scan.detail}
    report, is_new = Report.objects.get_or_create(manifest_id=scan.manifest_id, defaults=said | {"state": State.FAILED})
    if not is_new:
        Report.objects.filter(pk=report.pk).update(**said)
    refresh_indexes([scan.manifest_id])


# ── Findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _compare(
    scan: Scan, found: Iterable[ReportedFinding], vulnerabilities: dict[str, int], packages: dict[Any, int]
) -> tuple[int, int]:
    """End the findings that are gone, begin the new ones, update the others; returns how many are new and gone."""
    before = {
        (row.vulnerability_id, row.package_id, row.path): row
        for row in Finding.objects.current().filter(manifest=scan.manifest_id)
    }
    begun, changed = [], []
    for each in found:
        key = (vulnerabilities[each.vulnerability], packages[each.package], each.path)
        said = {
            "severity": each.severity,
            "status": each.status,
            "fixed_version": each.fixed_version,
            "layer": each.layer,
        }
        row = before.pop(key, None)
        if row is None:
            vulnerability, package, path = key
            begun.append(
                Finding(
                    manifest_id=scan.manifest_id,
                    vulnerability_id=vulnerability,
                    package_id=package,
                    path=path,
                    since=scan,
                    **said,
                )
            )
        elif any(getattr(row, name) != value for name, value in said.items()):
            for name, value in said.items():
                setattr(row, name, value)
            changed.append(row)
    gone = [row.pk for row in before.values()]
    for some in in_batches(gone, ROWS):
        Finding.objects.filter(pk__in=some).update(until=scan)
    Finding.objects.bulk_update(changed, ["severity", "status", "fixed_version", "layer"], batch_size=200)
    Finding.objects.bulk_create(begun, batch_size=ROWS)
    return len(begun), len(gone)


def _packages(found: Iterable[ReportedFinding]) -> list[Any]:
    return sorted({each.package for each in found})


def _vulnerability_ids(found: Iterable[ReportedFinding]) -> dict[str, int]:
    """The ids of the vulnerabilities by name. Creates missing rows, and updates changed ones."""
    wanted = {each.vulnerability: each for each in found}
    names = sorted(wanted)
    ids: dict[str, int] = {}
    for some in in_batches(names, ROWS):
        known = {row.name: row for row in Vulnerability.objects.filter(name__in=some)}
        rows = [_vulnerability(wanted[name]) for name in some]
        stale = [row for row in rows if row.name not in known or _differs(row, known[row.name])]
        if stale:
            Vulnerability.objects.bulk_create(
                stale, update_conflicts=True, unique_fields=["name"], update_fields=["title", "url", "score"]
            )
        ids |= dict(Vulnerability.objects.filter(name__in=some).values_list("name", "pk"))
    return ids


def _vulnerability(found: ReportedFinding) -> Vulnerability:
    return Vulnerability(name=found.vulnerability, title=found.title, url=found.url, score=found.score)


def _differs(row: Vulnerability, known: Vulnerability) -> bool:
    return (row.title, row.url, row.score) != (known.title, known.url, known.score)


# ── Sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def recount(reports: QuerySet[Report]) -> int:
    """Count these reports again, and update ``Manifest.worst_severity`` and indexes. Returns how many reports."""
    pks = list(reports.order_by("pk").values_list("pk", flat=True))
    return sum(_recount(Report.objects.filter(pk__in=some).order_by("pk")) for some in in_batches(pks, BATCH))


def recount_due(project: Project | None = None) -> int:
    """Count reports again whose ``recount_at`` has come; returns how many.

    With ``project``: of its reports, and BATCH at most. Reports that another transaction has locked stay due.
    """
    due = Report.objects.filter(recount_at__lte=timezone.now()).order_by("recount_at", "-pk")
    if project is not None:
        return _recount(due.filter(manifest__image__repository__project=project)[:BATCH], skip_locked=True)
    counted = 0
    while due.exists() and (some := _recount(due[:BATCH], skip_locked=True)):
        counted += some
    return counted


@retried
@transaction.atomic
def _recount(reports: QuerySet[Report], *, skip_locked: bool = False) -> int:
    """Count while the reports are locked. Two counts in parallel could otherwise store the older result last.

    The number of queries does not depend on the number of reports.
    """
    locked = reports.select_for_update(of=("self", "manifest"), no_key=True, skip_locked=skip_locked)
    rows = list(locked.select_related("manifest").defer(*MANIFEST_CONTENT_FIELDS))
    if not rows:
        return 0
    found, now = Finding.objects.current().filter(manifest__in=[row.pk for row in rows]), timezone.now()
    accepted = found.accepted(now)
    open_ones = found.exclude(pk__in=accepted.values("pk"))
    severities = _open_by_severity(open_ones)
    names = _worst_names(open_ones)
    until = _accepted_until(accepted, now)
    for report in rows:
        report.accepted, report.recount_at = until.get(report.pk, (0, None))
        report.fixable = 0
        for name in Report.COUNTS:
            number, fixable = severities.get((report.pk, Severity[name.upper()]), (0, 0))
            setattr(report, name, number)
            report.fixable += fixable
        is_whole = report.state not in {State.FAILED, State.UNCOVERED}
        report.manifest.worst_severity = report.worst if is_whole else None
        report.manifest.risk_summary = _risk_summary(report, *names.get(report.pk, ([], 0)))
    Report.objects.bulk_update(rows, [*_COUNTED, "recount_at"])
    Manifest.objects.bulk_update([row.manifest for row in rows], ["worst_severity", "risk_summary"])
    refresh_indexes([row.pk for row in rows])
    return len(rows)


def _open_by_severity(found: QuerySet[Finding]) -> dict[tuple[int, int], tuple[int, int]]:
    """How many findings there are, and how many of them have a fix, by manifest and severity."""
    numbers = found.order_by().values_list("manifest", "severity")
    rows = numbers.annotate(Count("pk"), fixable=Count("pk", filter=~Q(fixed_version="")))
    return {(pk, severity): (number, fixable) for pk, severity, number, fixable in rows}


def _accepted_until(found: QuerySet[Finding], now: datetime) -> dict[int, tuple[int, datetime | None]]:
    """How many findings there are, and when the first of their acceptances expires (None: never), by manifest."""
    ends = Acceptance.objects.active(now).covering().exclude(expires_at=None).order_by("expires_at")
    rows = found.annotate(end=Subquery(ends.values("expires_at")[:1])).order_by().values_list("manifest")
    return {pk: (number, first) for pk, number, first in rows.annotate(Count("pk"), first=Min("end"))}


def _worst_names(found: QuerySet[Finding]) -> dict[int, tuple[list[str], int]]:
    """The first NAMED_RISKS names of vulnerabilities, worst first, and how many names there are, by manifest."""
    named = found.order_by().values("manifest", "vulnerability__name").annotate(worst=Max("severity"), first=Min("pk"))
    places = Window(RowNumber(), partition_by="manifest", order_by=[F("worst").desc(), F("first")])
    placed = named.annotate(place=places, total=Window(Count("*"), partition_by="manifest"))
    rows = placed.filter(place__lte=NAMED_RISKS).order_by("manifest", "place")
    names: dict[int, tuple[list[str], int]] = {}
    for pk, name, total in rows.values_list("manifest", "vulnerability__name", "total"):
        names.setdefault(pk, ([], total))[0].append(name)
    return names


def _risk_summary(report: Report, names: list[str], total: int) -> dict[str, Any]:
    """The value of ``Manifest.risk_summary``: the names of the worst vulnerabilities, and how many names there are."""
    if report.state == State.FAILED:
        return {}
    summary = {"vulnerabilities": names, "total": total}
    if report.state == State.UNCOVERED:
        summary |= {"worst_severity": int(report.worst), "uncovered": report.system}
    return summary


def refresh_indexes(manifests: Iterable[int]) -> None:
    """Refresh the indexes that name these manifests, and the indexes that name those."""
    parents = set(ManifestChild.objects.filter(child__in=list(manifests)).values_list("parent", flat=True))
    for some in in_batches(sorted(parents), ROWS):
        _refresh(some)
    if parents:
        refresh_indexes(parents)


def refresh_index(manifest_id: int) -> None:
    """Write the report of an index from those of its platforms."""
    _refresh([manifest_id])


@transaction.atomic
def _refresh(indexes: Sequence[int]) -> None:
    """Write the reports of these indexes while their manifests are locked: another platform may be counted just now."""
    locked = Manifest.objects.select_for_update(no_key=True).filter(pk__in=indexes).order_by("pk")
    platforms: dict[int, list[int]] = {pk: [] for pk in locked.values_list("pk", flat=True)}
    named = ManifestChild.objects.filter(parent__in=indexes).order_by("pk")
    for parent, child in named.values_list("parent", "child"):
        platforms[parent].append(child)
    known = Report.objects.in_bulk({*platforms, *(child for children in platforms.values() for child in children)})
    changed = []
    for pk, children in platforms.items():
        values = values_of_index([known.get(child) for child in children])
        if values is not None:
            report = known.get(pk) or Report(manifest_id=pk)
            for name, value in values.items():
                setattr(report, name, value)
            changed.append(report)
    Report.objects.bulk_create(changed, update_conflicts=True, unique_fields=["manifest"], update_fields=_OF_AN_INDEX)


def values_of_index(platforms: Sequence[Report | None]) -> dict[str, Any] | None:
    """The values of an index's report: those of its worst platform.

    ``platforms``: their reports, None for a platform that has not been scanned. Returns None while nothing is known of
    any. Platforms that failed, that have not been scanned, or whose system is not covered while another platform is
    worse, are counted in ``unknown_parts``.
    """
    reports = [each for each in platforms if each is not None]
    known = [each for each in reports if each.state in Report.KNOWN]
    failed = [each for each in reports if each.state == State.FAILED]
    if known or failed:
        worst = max(known or failed, key=_order)
        ages = [each.database_at for each in known if each.database_at]
        return {name: getattr(worst, name) for name in _OF_THE_WORST} | {
            "problem": next((each.problem for each in reports if each.problem), ""),
            "database_at": min(ages, default=None),
            "is_end_of_life": any(each.is_end_of_life for each in known),
            "unknown_parts": len(failed) + len(platforms) - len(reports) + _uncovered_beside(worst, known),
        }
    if reports and len(reports) == len(platforms):
        said = {"state": State.UNSUPPORTED, "problem": "", "detail": reports[0].detail, "is_end_of_life": False}
        return _NOTHING_KNOWN | said
    return None


def _uncovered_beside(worst: Report, known: Sequence[Report]) -> int:
    """How many platforms are not covered, if the index's state does not say it."""
    return 0 if worst.state == State.UNCOVERED else sum(each.state == State.UNCOVERED for each in known)


def _order(report: Report) -> list[int]:
    """Worse is greater: by counts, then UNCOVERED over UNRECOGNISED over SCANNED, since only that one can be clean."""
    states = (State.SCANNED, State.UNRECOGNISED, State.UNCOVERED)
    rank = states.index(State(report.state)) if report.state in states else 0
    return [*(getattr(report, name) for name in Report.COUNTS), rank]


def tags_by_worst() -> dict[str, Any]:
    """Counts for annotating tags: ``tags``, by worst severity ``critical``, ``high``, …, and ``scanned``.

    What no client can run is not counted. Accepted findings do not count for the worst severity.
    """
    report = "manifest__report__"
    counts: dict[str, Any] = {"tags": Count("pk", filter=~Q(**{f"{report}state": State.UNSUPPORTED}))}
    worse = Q()
    for name in Report.COUNTS:
        counts[name] = Count("pk", filter=worse & Q(**{f"{report}{name}__gt": 0}))
        worse &= Q(**{f"{report}{name}": 0})
    return counts | {"scanned": Count("pk", filter=Q(**{f"{report}state": State.SCANNED}))}


def record_day(now: datetime) -> int:
    """Store today's counts of the tags of each project. Returns how many projects."""
    tags = Tag.objects.live().unattached().filter(undeleted("manifest__"))
    rows = tags.values("image__repository__project").order_by().annotate(**tags_by_worst())
    for row in rows:
        said = {name: number for name, number in row.items() if name != "image__repository__project"}
        project = row["image__repository__project"]
        SeverityDay.objects.update_or_create(project_id=project, day=now.date(), defaults=said)
    return len(rows)
