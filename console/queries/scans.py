"""The scans of a project: results, their age, the queue, failures and risk acceptances."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, Sum, Window, prefetch_related_objects
from django.db.models.functions import Coalesce
from django.utils import timezone

from console.queries.shared import listing
from registry.models import Manifest, ManifestChild, Severity, Tag
from registry.models.manifests import MANIFEST_CONTENT_FIELDS, undeleted
from registry.oci import media_types
from scanning.models import Acceptance, DatabaseRefresh, Finding, Report, Scan, ScannerHost, SeverityDay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.models import Project

DAYS = 90
TOP = 10
SHOWN = 10
ENOUGH = 200  # findings of the worst severities that are looked through for the worst vulnerabilities
SCAN_SORTS = {"asked": "-pk"}
SUMS = (*Report.COUNTS, "fixable", "accepted")


@dataclass(frozen=True, slots=True)
class Database:
    """What is known of the vulnerability database. ``problem``: why the last attempt to renew it failed."""

    updated_at: datetime | None
    tried_at: datetime | None
    source: str
    problem: str

    @property
    def is_missing(self) -> bool:
        """Whether there is none."""
        return self.updated_at is None

    @property
    def is_stale(self) -> bool:
        """Whether it is older than results should rest on."""
        return self.updated_at is not None and timezone.now() - self.updated_at > DatabaseRefresh.STALE


def database() -> Database:
    """The vulnerability database as its last renewal left it. One query."""
    last = DatabaseRefresh.objects.order_by("-pk").first()
    return Database(last.updated_at, last.at, last.source, last.problem) if last else Database(None, None, "", "")


def unisolated() -> list[ScannerHost]:
    """Machines that scanned lately and on which nothing isolates Trivy."""
    lately = timezone.now() - ScannerHost.SEEN_LATELY
    return list(ScannerHost.objects.filter(isolation="limits", seen_at__gte=lately).order_by("name")[:5])


def attach(manifests: Iterable[Manifest | None]) -> None:
    """Give each manifest its report, and, as ``open_scan``, whether a scan of it (or of a platform) is on its way.

    Two queries.
    """
    found = [each for each in manifests if each is not None]
    prefetch_related_objects(found, "report")
    pks = {each.pk for each in found}
    open_ones = Scan.objects.open().order_by()
    own = open_ones.filter(manifest__in=pks).values_list("manifest", "state")
    of_parts = open_ones.filter(manifest__parent_references__parent__in=pks)
    states: dict[int, set[str]] = {}
    for pk, state in own.union(of_parts.values_list("manifest__parent_references__parent", "state")):
        states.setdefault(pk, set()).add(state)
    for manifest in found:
        at_work = states.get(manifest.pk, set())
        state = Scan.State.RUNNING if Scan.State.RUNNING in at_work else Scan.State.WAITING if at_work else ""
        manifest.open_scan = str(state)  # type: ignore[attr-defined]


def name_tags(manifests: Iterable[Manifest]) -> None:
    """Give each manifest, as ``tag_names``, the tags that name it or the index that it is a platform of. One query."""
    found = list(manifests)
    pks = {each.pk for each in found}
    live = Tag.objects.live().order_by()
    own = live.filter(manifest__in=pks).values_list("manifest", "name")
    of_parts = live.filter(manifest__child_references__child__in=pks)
    names: dict[int, set[str]] = {}
    for pk, name in own.union(of_parts.values_list("manifest__child_references__child", "name")):
        names.setdefault(pk, set()).add(name)
    for manifest in found:
        manifest.tag_names = sorted(names.get(manifest.pk, ()))  # type: ignore[attr-defined]


def tagged(*conditions: Q, **where: Any) -> QuerySet[Manifest]:
    """What live tags point to, each digest once: the images that people count."""
    named = Tag.objects.live().filter(manifest=OuterRef("pk"))
    return Manifest.objects.filter(undeleted(), Exists(named), *conditions, **where)


def in_use(manifest: str = "manifest") -> Q:
    """Of what a live tag names, itself or as a platform of an index."""
    named = Tag.objects.live().filter(manifest=OuterRef(manifest))
    as_part = Tag.objects.live().filter(manifest__child_references__child=OuterRef(manifest))
    return Q(Exists(named)) | Q(Exists(as_part))


def in_reach(rows: Any, repositories: Any) -> Any:
    """Rows about manifests that are live, in live images of these repositories."""
    return rows.filter(
        manifest__deletion=None, manifest__image__deletion=None, manifest__image__repository__in=repositories
    )


def least_severity(wanted: QueryDict) -> int:
    """The least severity that the query string asks for; 0 for none, or for a bad value."""
    name = wanted.get("severity", "")
    return Severity[name.upper()] if name in Report.COUNTS else 0


def at_least(severity: int, report: str = "report") -> Q:
    """Of manifests whose report counts something that bad or worse."""
    wanted = Q(pk__in=[])
    for name in Report.COUNTS:
        if Severity[name.upper()] >= severity:
            wanted |= Q(**{f"{report}__{name}__gt": 0})
    return wanted


def by_repository(found: QuerySet[Manifest]) -> list[dict[str, Any]]:
    """What is known of these manifests, summed up for each repository; ``digests``: those that can run. One query."""
    return _summed(found, "image__repository", "image__repository__name")


def by_image(found: QuerySet[Manifest]) -> dict[int, dict[str, Any]]:
    """What is known of these manifests, summed up for each image, by its id. One query."""
    return {row["image"]: row for row in _summed(found, "image")}


def _summed(found: QuerySet[Manifest], *keys: str) -> list[dict[str, Any]]:
    sums: dict[str, Any] = {name: Coalesce(Sum(f"report__{name}"), 0) for name in SUMS}
    stale = timezone.now() - DatabaseRefresh.STALE
    numbers: dict[str, Any] = {
        f"with_{name}": Count("pk", filter=Q(**{f"report__{name}__gt": 0})) for name in Report.COUNTS
    }
    rows: Any = found.values(*keys).order_by()
    return list(
        rows.annotate(
            **sums,
            **numbers,
            digests=Count("pk", filter=~Q(report__state=Report.State.UNSUPPORTED)),
            scanned=Count("pk", filter=Q(report__state=Report.State.SCANNED)),
            uncovered=Count("pk", filter=Q(report__state=Report.State.UNCOVERED)),
            end_of_life=Count("pk", filter=Q(report__is_end_of_life=True)),
            unrecognised=Count("pk", filter=Q(report__state=Report.State.UNRECOGNISED)),
            unsupported=Count("pk", filter=Q(report__state=Report.State.UNSUPPORTED)),
            failed=Count("pk", filter=Q(report__state=Report.State.FAILED)),
            outdated=Count("pk", filter=Q(report__state__in=Report.KNOWN, report__database_at__lt=stale)),
        )
    )


def add_up(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The sums of several repositories."""
    states = ("scanned", "uncovered", "unrecognised", "failed")
    names = (*SUMS, "digests", *states, "unsupported", "end_of_life", "outdated")
    total = {name: sum(row[name] for row in rows) for name in names}
    total["unscanned"] = total["digests"] - sum(total[name] for name in states)
    return total


def worst_of(row: dict[str, Any] | None) -> dict[str, Any]:
    """The worst severity in something and in how many of its tagged digests; and of how many nothing is known."""
    if row is None:
        return {"digests": 0}
    name = next((each for each in Report.COUNTS if row[f"with_{each}"]), "")
    known = row["scanned"] + row["unrecognised"]
    return {
        "name": name,
        "severity": Severity[name.upper()] if name else None,
        "number": row[f"with_{name}"] if name else 0,
        "digests": row["digests"],
        "unknown": row["digests"] - known,
        "is_recognised": bool(row["scanned"]),
        "is_uncovered": row["uncovered"] == row["digests"] - known,
        "is_end_of_life": bool(row["end_of_life"]),
        "is_outdated": bool(row["outdated"]),
    }


# ── A project ────────────────────────────────────────────────────────────────────────────────────────────────────────
def page(project: Project) -> dict[str, Any]:
    """Everything about a project's scans at the moment. Eleven queries."""
    rows = by_repository(tagged(image__repository__project=project))
    total = add_up(rows)
    failures = failed(project).annotate(of=Window(Count("pk")))  # how many there are, in the same query
    shown: list[Any] = list(
        failures.select_related("manifest__image__repository").defer(*MANIFEST_CONTENT_FIELDS)[:SHOWN]
    )
    recent = list(_with_manifests(Scan.objects.filter(project=project)).order_by("-pk")[:SHOWN])
    waiting = queue(project)
    _name_scans([*recent, *waiting["scans"]], [report.manifest for report in shown])
    return {
        "total": total,
        "days": _days(project, total),
        "top": top(project, total),
        "repositories": _worst(rows),
        "queue": waiting,
        "failures": shown,
        "failure_count": shown[0].of if shown else 0,
        "database": database(),
        "recent": recent,
        "acceptance_count": Acceptance.objects.active(timezone.now()).filter(project=project).count(),
    }


def _days(project: Project, total: dict[str, int]) -> list[tuple[date, SeverityDay | None]]:
    today = timezone.now().date()
    first = today - timedelta(days=DAYS - 1)
    rows = {row.day: row for row in SeverityDay.objects.filter(project=project, day__gte=first)}
    if total["scanned"]:
        rows[today] = SeverityDay(day=today, **{name: total[name] for name in Report.COUNTS})
    return [(day, rows.get(day)) for day in (first + timedelta(days=number) for number in range(DAYS))]


def top(project: Project, total: dict[str, int]) -> list[dict[str, Any]]:
    """The worst vulnerabilities of what is in use: by severity, those with a fix first, by how many digests."""
    least, seen = Severity.CRITICAL, 0
    for name in Report.COUNTS:
        least = Severity[name.upper()]
        seen += total[name]
        if seen >= ENOUGH:
            break
    if not seen:
        return []
    found = Finding.objects.current().in_project(project).unaccepted(timezone.now())
    found = found.filter(in_use(), severity__gte=least)
    names = ("vulnerability__name", "vulnerability__title", "vulnerability__score")
    rows = found.values(*names).order_by()
    fixable = Count("manifest", filter=~Q(fixed_version=""), distinct=True)
    rows = rows.annotate(worst=Max("severity"), digests=Count("manifest", distinct=True), fixable=fixable)
    return list(rows.order_by("-worst", F("fixable").desc(), "-digests", "vulnerability__name")[:TOP])


def _worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bad = [row for row in rows if any(row[name] for name in Report.COUNTS)]
    bad.sort(key=lambda row: [-row[name] for name in Report.COUNTS])
    return [{"name": row["image__repository__name"], **row} for row in bad[:TOP]]


def queue(project: Project) -> dict[str, Any]:
    """What waits and what runs, and how much of what was requested with it is done. Three queries."""
    open_ones = Scan.objects.open().filter(project=project)
    counts = open_ones.order_by().aggregate(
        waiting=Count("pk", filter=Q(state=Scan.State.WAITING)),
        running=Count("pk", filter=Q(state=Scan.State.RUNNING)),
        by_hand=Count("pk", filter=Q(state=Scan.State.WAITING, trigger=Scan.Trigger.MANUAL)),
        first=Min("requested_at"),
    )
    total = counts["waiting"] + counts["running"]
    since = Scan.objects.filter(project=project, requested_at__gte=counts["first"]) if total else Scan.objects.none()
    done = since.exclude(state__in=Scan.OPEN).count()
    counts |= {"total": total, "done": done, "of": total + done}
    counts["percent"] = 100 * done // (total + done) if total else 0
    first = _with_manifests(open_ones).order_by("state", "trigger", "due_at", "pk")  # running before waiting
    return counts | {"scans": list(first[:SHOWN])}


def failed(project: Project) -> QuerySet[Report]:
    """Reports whose last scan failed, of what can be scanned again: an index fails with its platforms only."""
    return (
        Report.objects.in_project(project)
        .exclude(problem="")
        .exclude(manifest__media_type__in=sorted(media_types.INDEXES))
        .order_by("-manifest")
    )


def log(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """A page of all scans, the newest first. Two queries."""
    found, state = Scan.objects.filter(project=project), wanted.get("state", "")
    if state == "open":
        found = found.open()
    elif state == "failed":
        found = found.filter(state=Scan.State.FAILED)
    elif state == "changed":
        found = found.filter(Q(new__gt=0) | Q(fixed__gt=0))
    else:
        state = ""
    page = listing.page(_with_manifests(found), wanted, SCAN_SORTS)
    _name_scans(page.rows)
    return {"listing": page, "state": state}


def _name_scans(scans: list[Scan], others: Iterable[Manifest] = ()) -> None:
    """Give the manifests of these scans their tags (one query), and tell which of them are at work."""
    name_tags([*(scan.manifest for scan in scans), *others])
    for scan in scans:
        scan.manifest.open_scan = str(scan.state) if scan.state in Scan.OPEN else ""  # type: ignore[attr-defined]


def _with_manifests(found: QuerySet[Scan]) -> QuerySet[Scan]:
    """The scans with their manifests, and ``is_first``: no scan of the manifest has succeeded before."""
    before = Scan.objects.filter(manifest=OuterRef("manifest"), state=Scan.State.DONE, pk__lt=OuterRef("pk"))
    found = found.annotate(is_first=~Exists(before))
    return found.select_related("manifest__image__repository", "manifest__report").defer(*MANIFEST_CONTENT_FIELDS)


# ── Risk acceptances ────────────────────────────────────────────────────────────────────────────────────────────
def acceptances(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """A page of acceptances with how many findings each covers now, and how many a fix has freed. Three queries."""
    active = Acceptance.objects.active(timezone.now()).filter(project=project)
    has_ended = wanted.get("state") == "ended"
    found = Acceptance.objects.filter(project=project)
    found = found.exclude(pk__in=active.values("pk")) if has_ended else active
    page = listing.page(found.select_related("repository"), wanted, {"accepted": "-pk"})
    rows: list[Any] = page.rows
    places = _places(project, {row.vulnerability for row in rows})
    for row in rows:
        own = [each for each in places[row.vulnerability] if _concerns(row, each)]
        without, fixed = sum(each["without_fix"] for each in own), sum(each["fixed"] for each in own)
        row.covered = without + (fixed if row.covers_fixed else 0)
        row.freed = 0 if row.covers_fixed else fixed
    return {"listing": page, "has_ended": has_ended, "active_count": active.count()}


def _places(project: Project, vulnerabilities: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Where each of these vulnerabilities is: packages and repositories with numbers of findings. One query."""
    found = Finding.objects.current().in_project(project).filter(vulnerability__name__in=vulnerabilities)
    rows: Any = found.order_by().values("vulnerability__name", "package__name", "manifest__image__repository")
    numbers = {
        "without_fix": Count("pk", filter=Q(fixed_version="")),
        "fixed": Count("pk", filter=~Q(fixed_version="")),
    }
    places = defaultdict(list)
    for row in rows.annotate(**numbers):
        places[row["vulnerability__name"]].append(row)
    return places


def _concerns(acceptance: Acceptance, place: dict[str, Any]) -> bool:
    is_of_package = acceptance.package in {"", place["package__name"]}
    return is_of_package and acceptance.repository_id in {None, place["manifest__image__repository"]}


def attention(project: Project, total: dict[str, int]) -> list[dict[str, Any]]:
    """Problems to show: criticals with a fix, failed scans, an old or missing database."""
    found: list[dict[str, Any]] = []
    if total["critical"]:
        fixable = Finding.objects.current().unaccepted(timezone.now()).exclude(fixed_version="")
        fixable = fixable.filter(severity=Severity.CRITICAL)
        own, of_parts = OuterRef("pk"), {"manifest__parent_references__parent": OuterRef("pk")}
        bad = Q(Exists(fixable.filter(manifest=own))) | Q(Exists(fixable.filter(**of_parts)))
        number = tagged(bad, image__repository__project=project).count()
        if number:
            found.append({"kind": "critical", "number": number})
    failures = failed(project).count()
    if failures:
        found.append({"kind": "failed", "number": failures})
    state = database()
    if total["digests"] and (state.is_missing or state.is_stale):
        found.append({"kind": "database", "database": state})
    return found


def parts_of(manifest: Manifest) -> list[Manifest]:
    """The platforms of an index, each with its report and ``open_scan``. Three queries.

    Leaves out what no client can run, such as attestations of BuildKit, unless there is nothing else.
    """
    references = ManifestChild.objects.filter(parent=manifest).values("child")
    found = Manifest.objects.without_content().filter(pk__in=references)
    parts = list(found.order_by("platforms", "pk"))
    attach([manifest, *parts])
    return [part for part in parts if not _is_unsupported(part)] or parts


def _is_unsupported(manifest: Manifest) -> bool:
    report: Report | None = getattr(manifest, "report", None)
    return report is not None and report.state == Report.State.UNSUPPORTED
