"""Results of scans: findings as intervals of scans, and the Report that sums them up for each digest.

A scan that finds the same again writes two rows and reads four. Counts are counted again each time, never
incremented, so they cannot drift. An acceptance takes effect when it is made and loses effect when it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, Exists, Min, Q
from django.utils import timezone

from registry.database.batches import in_batches
from registry.models import Manifest, ManifestChild, Severity, Tag
from registry.models.manifests import undeleted

from . import sboms
from .models import Acceptance, Component, Finding, Report, SeverityDay, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from scanning.trivy.report import ReportedFinding, Result

    from .models import Scan

ROWS = 1000
NAMED_RISKS = 3  # vulnerabilities that the message of a refused pull names
State = Report.State
_NOTHING_KNOWN = dict.fromkeys((*Report.COUNTS, "fixable", "accepted", "packages"), 0)
_OF_THE_WORST = (*_NOTHING_KNOWN, "state", "detail", "system", "tool_version", "scanned_at")


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
        Report.objects.filter(pk=scan.manifest_id).update(**said)
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
    for pk in pks:
        _recount(pk)
    for some in in_batches(pks, ROWS):
        refresh_indexes(some)
    return len(pks)


@transaction.atomic
def _recount(manifest_id: int) -> None:
    """Count while the report is locked. Two counts in parallel could otherwise store the older result last."""
    report = Report.objects.select_for_update().filter(pk=manifest_id).first()
    if report is None:
        return
    now = timezone.now()
    is_accepted = Exists(Acceptance.objects.active(now).covering())
    found = Finding.objects.current().filter(manifest=manifest_id).annotate(is_accepted=is_accepted)
    open_ones = Q(is_accepted=False)
    counts: dict[str, Any] = {
        name: Count("pk", filter=open_ones & Q(severity=Severity[name.upper()])) for name in Report.COUNTS
    }
    sums = found.aggregate(
        **counts,
        fixable=Count("pk", filter=open_ones & ~Q(fixed_version="")),
        accepted=Count("pk", filter=Q(is_accepted=True)),
    )
    ends = Acceptance.objects.active(now).filter(
        vulnerability__in=found.filter(is_accepted=True).values("vulnerability__name"),
        project__repositories__images__manifests=manifest_id,
    )
    for name, number in sums.items():
        setattr(report, name, number)
    report.recount_at = ends.aggregate(first=Min("expires_at"))["first"] if sums["accepted"] else None
    report.save(update_fields=[*sums, "recount_at"])
    is_whole = report.state not in {State.FAILED, State.UNCOVERED}
    Manifest.objects.filter(pk=manifest_id).update(
        worst_severity=report.worst if is_whole else None, risk_summary=_risk_summary(report, found)
    )


def _risk_summary(report: Report, found: QuerySet[Any]) -> dict[str, Any]:
    """The value of ``Manifest.risk_summary`` for the current findings of a manifest, which say ``is_accepted``."""
    if report.state == State.FAILED:
        return {}
    not_accepted = found.filter(is_accepted=False).order_by("-severity", "pk")
    names = list(dict.fromkeys(not_accepted.values_list("vulnerability__name", flat=True)))
    summary = {"vulnerabilities": names[:NAMED_RISKS], "total": len(names)}
    if report.state == State.UNCOVERED:
        summary |= {"worst_severity": int(report.worst), "uncovered": report.system}
    return summary


def refresh_indexes(manifests: Iterable[int]) -> None:
    """Refresh the indexes that name these manifests, and the indexes that name those."""
    parents = set(ManifestChild.objects.filter(child__in=list(manifests)).values_list("parent", flat=True))
    for parent in sorted(parents):
        refresh_index(parent)
    if parents:
        refresh_indexes(parents)


def refresh_index(manifest_id: int) -> None:
    """Write the report of an index from those of its platforms."""
    children = Manifest.objects.filter(parent_references__parent=manifest_id).select_related("report").without_content()
    said = values_of_index([getattr(child, "report", None) for child in children])
    if said is not None:
        Report.objects.update_or_create(manifest_id=manifest_id, defaults=said)


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
