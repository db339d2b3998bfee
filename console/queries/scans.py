"""The scans of a project: results, their age, the queue, failures and risk acceptances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import (
    BigIntegerField,
    Count,
    DateTimeField,
    Exists,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    Sum,
    Value,
    Window,
    prefetch_related_objects,
)
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, IsNull
from django.utils import timezone

from console.queries.shared import listing
from registry.database.prepared import ListOf, Prepared, number_of, prepare, prepare_models
from registry.models import Manifest, ManifestChild, Severity, Tag
from registry.models.manifests import MANIFEST_CONTENT_FIELDS
from registry.oci import media_types
from scanning import findings, reach
from scanning.models import (
    Acceptance,
    DatabaseRefresh,
    Finding,
    Report,
    Scan,
    ScannerHost,
    SeverityDay,
    Vulnerability,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor
    from accounts.models import Project

DAYS = 90
TOP = 10
SHOWN = 10
ENOUGH = 200  # findings of the worst severities that are looked through for the worst vulnerabilities
MOST = 1_000  # tags whose vulnerabilities are counted on a page of a project
REPORT = "manifest__report"  # of a tag
OWN_TAGS = "manifest__tags"  # of a finding
TAGS_OF_INDEX = "manifest__parent_references__parent__tags"
SCAN_SORTS = {"asked": "-pk"}


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
    last = _last_refresh.first()
    return Database(last.updated_at, last.at, last.source, last.problem) if last else Database(None, None, "", "")


@prepare_models(DatabaseRefresh)
def _last_refresh(_actor: Actor) -> QuerySet[DatabaseRefresh]:
    return DatabaseRefresh.objects.order_by("-pk")[:1]


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
    states: dict[int, set[str]] = {}
    for row in _open_scans.all(manifests=pks):
        states.setdefault(row.manifest, set()).add(row.state)
    for manifest in found:
        at_work = states.get(manifest.pk, set())
        state = Scan.State.RUNNING if Scan.State.RUNNING in at_work else Scan.State.WAITING if at_work else ""
        manifest.open_scan = str(state)  # type: ignore[attr-defined]


class _OpenScan(NamedTuple):
    manifest: int
    state: str


@prepare(_OpenScan, manifests=ListOf(BigIntegerField()))
def _open_scans(_actor: Actor, manifests: Any) -> QuerySet[Any, Any]:
    """The open scans of these manifests, and of those that they reference."""
    open_ones = Scan.objects.open().order_by()
    own = open_ones.filter(manifest__in=manifests).values_list("manifest", "state")
    of_parts = open_ones.filter(manifest__parent_references__parent__in=manifests)
    return own.union(of_parts.values_list("manifest__parent_references__parent", "state"))


def tags(*conditions: Q, **where: Any) -> QuerySet[Tag]:
    """The live tags that people count: without attached ones, such as signatures."""
    is_live = Q(manifest__deletion=None, image__deletion=None, image__repository__deletion=None)
    return Tag.objects.live().unattached().filter(is_live, *conditions, **where)


def has(vulnerability: str) -> Q:
    """Of tags with this vulnerability, in their image or in a platform of their index."""
    found = Finding.objects.current().filter(vulnerability__name=vulnerability)
    of_parts = found.filter(manifest__parent_references__parent=OuterRef("manifest"), manifest__deletion=None)
    return Q(Exists(found.filter(manifest=OuterRef("manifest")))) | Q(Exists(of_parts))


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


def by_repository(project: Project) -> list[dict[str, Any]]:
    """What is known of a project's tags, counted for each repository; ``of`` is its name. One query.

    ``tags``: how many can run. ``critical``, ``high``, …: how many of them by their worst severity. ``found_critical``,
    …: the sums of their findings. ``fixable``, ``accepted``: how many tags have such findings.
    """
    stale = timezone.now() - DatabaseRefresh.STALE
    return _by_repository.all(project=project.pk, stale=stale)


def of_repositories(repositories: Collection[int]) -> dict[int, dict[str, Any]]:
    """As ``by_image``, of these repositories (their ids). One query."""
    stale = timezone.now() - DatabaseRefresh.STALE
    return {row["of"]: row for row in _of_repositories.all(repositories=repositories, stale=stale)}


def by_image(images: Collection[int]) -> dict[int, dict[str, Any]]:
    """What is known of the tags of these images (their ids), counted for each, by its id. One query."""
    stale = timezone.now() - DatabaseRefresh.STALE
    return {row["of"]: row for row in _by_image.all(images=images, stale=stale)}


def of_project(project: Project) -> dict[str, int]:
    """The sums of a project's tags, without those of findings (``add_up``). One query."""
    stale = timezone.now() - DatabaseRefresh.STALE
    found = _of_project.first(project=project.pk, stale=stale)
    return add_up([found] if found else [], _NUMBERS)


_FOUND: dict[str, Any] = {f"found_{name}": Coalesce(Sum(f"{REPORT}__{name}"), 0) for name in Report.COUNTS}


def _numbers(stale: Any) -> dict[str, Any]:
    """Counts for annotating tags. ``stale``: results of a database from before then are outdated."""
    return {
        **findings.tags_by_worst(),
        "fixable": _number(fixable__gt=0),
        "accepted": _number(accepted__gt=0),
        "uncovered": _number(state=Report.State.UNCOVERED),
        "end_of_life": _number(is_end_of_life=True),
        "unrecognised": _number(state=Report.State.UNRECOGNISED),
        "unsupported": _number(state=Report.State.UNSUPPORTED),
        "failed": _number(state=Report.State.FAILED),
        "outdated": _number(state__in=Report.KNOWN, database_at__lt=stale),
    }


def _number(**where: Any) -> Count:
    """The number of tags whose report is so."""
    return Count("pk", filter=Q(**{f"{REPORT}__{name}": value for name, value in where.items()}))


_NUMBERS = tuple(_numbers(None))


def _named(of: Any, *numbers: int) -> dict[str, Any]:
    return {"of": of, **dict(zip((*_NUMBERS, *_FOUND), numbers, strict=False))}  # without _FOUND in some queries


@prepare(_named, project=BigIntegerField(), stale=DateTimeField())
def _by_repository(_actor: Actor, project: Any, stale: Any) -> QuerySet[Any, Any]:
    found = tags(image__repository__project=project).order_by().values("image__repository__name")
    return found.annotate(**_numbers(stale), **_FOUND).values_list("image__repository__name", *_NUMBERS, *_FOUND)


@prepare(_named, repositories=ListOf(BigIntegerField()), stale=DateTimeField())
def _of_repositories(_actor: Actor, repositories: Any, stale: Any) -> QuerySet[Any, Any]:
    found = tags(image__repository__in=repositories).order_by().values("image__repository")
    return found.annotate(**_numbers(stale)).values_list("image__repository", *_NUMBERS)


@prepare(_named, images=ListOf(BigIntegerField()), stale=DateTimeField())
def _by_image(_actor: Actor, images: Any, stale: Any) -> QuerySet[Any, Any]:
    found = tags(image__in=images).order_by().values("image")
    return found.annotate(**_numbers(stale)).values_list("image", *_NUMBERS)


@prepare(_named, project=BigIntegerField(), stale=DateTimeField())
def _of_project(_actor: Actor, project: Any, stale: Any) -> QuerySet[Any, Any]:
    found = tags(image__repository__project=project).order_by().values("image__repository__project")
    return found.annotate(**_numbers(stale)).values_list("image__repository__project", *_NUMBERS)


def add_up(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = (*_NUMBERS, *_FOUND)) -> dict[str, int]:
    """The sums of several repositories."""
    total = {name: sum(row[name] for row in rows) for name in names}
    known = ("scanned", "uncovered", "unrecognised", "failed")
    total["unscanned"] = total["tags"] - sum(total[name] for name in known)
    return total


def worst_of(row: dict[str, Any] | None) -> dict[str, Any]:
    """The worst severity in something and in how many of its tags; and of how many nothing is known."""
    if row is None:
        return {"tags": 0}
    name = next((each for each in Report.COUNTS if row[each]), "")
    known = row["scanned"] + row["unrecognised"]
    return {
        "name": name,
        "severity": Severity[name.upper()] if name else None,
        "number": row[name] if name else 0,
        "tags": row["tags"],
        "unknown": row["tags"] - known,
        "is_recognised": bool(row["scanned"]),
        "is_uncovered": row["uncovered"] == row["tags"] - known,
        "is_end_of_life": bool(row["end_of_life"]),
        "is_outdated": bool(row["outdated"]),
    }


# ── A project ────────────────────────────────────────────────────────────────────────────────────────────────────────
def page(project: Project) -> dict[str, Any]:
    """Everything about a project's scans at the moment. Thirteen queries."""
    rows = by_repository(project)
    total = add_up(rows)
    worst = cves(project, _least(total), total) if any(total[name] for name in Report.COUNTS) else []
    shown: list[Any] = _failures.all(project=project.pk)
    recent = _recent.all(project=project.pk)
    waiting = queue(project)
    _name_scans([*recent, *waiting["scans"]], [report.manifest for report in shown])
    return {
        "total": total,
        "days": _days(project, total),
        "top": name_cves(worst[:TOP]),
        "top_of": min(total["tags"], MOST),
        "repositories": _worst(rows),
        "queue": waiting,
        "failures": shown,
        "failure_count": shown[0].of if shown else 0,
        "database": database(),
        "recent": recent,
        "acceptance_count": Acceptance.objects.active(timezone.now()).filter(project=project).count(),
    }


@prepare_models(Report, project=BigIntegerField())
def _failures(_actor: Actor, project: Any) -> QuerySet[Report]:
    found = failed(project).annotate(of=Window(Count("pk")))  # how many there are, in the same query
    return found.select_related("manifest__image__repository").defer(*MANIFEST_CONTENT_FIELDS)[:SHOWN]


@prepare_models(Scan, project=BigIntegerField())
def _recent(_actor: Actor, project: Any) -> QuerySet[Scan]:
    return _with_manifests(Scan.objects.filter(project=project)).order_by("-pk")[:SHOWN]


def _days(project: Project, total: dict[str, int]) -> list[tuple[date, SeverityDay | None]]:
    today = timezone.now().date()
    first = today - timedelta(days=DAYS - 1)
    rows = {row.day: row for row in SeverityDay.objects.filter(project=project, day__gte=first)}
    if total["scanned"]:
        rows[today] = SeverityDay(day=today, **{name: total[name] for name in Report.COUNTS})
    return [(day, rows.get(day)) for day in (first + timedelta(days=number) for number in range(DAYS))]


def _least(total: dict[str, int]) -> Severity:
    """The least severity to look at for the worst vulnerabilities, so that there are ENOUGH findings."""
    least, seen = Severity.CRITICAL, 0
    for name in Report.COUNTS:
        least = Severity[name.upper()]
        seen += total[f"found_{name}"]
        if seen >= ENOUGH:
            break
    return least


def cves(project: Project, least: Severity, total: dict[str, int]) -> list[dict[str, Any]]:
    """The unaccepted vulnerabilities of a project's tags of this severity or worse, the worst first. Three queries.

    Each has ``vulnerability`` (its id), ``worst`` (its severity), ``tags``, and ``fixable``: how many of these tags
    have a fix. A tag of an index has what its platforms have. Of more than MOST tags the newest count.
    """
    newest = _newest(project) if total["tags"] > MOST else dict.fromkeys((OWN_TAGS, TAGS_OF_INDEX))
    sums: dict[int, dict[str, Any]] = {}
    for path, pks in newest.items():
        query = _CVES[path, pks is not None]
        for row in query.all(project=project.pk, least=int(least), now=timezone.now(), tags=pks or ()):
            known = sums.setdefault(row.vulnerability, {**row._asdict(), "worst": 0, "tags": 0, "fixable": 0})
            known["worst"] = max(known["worst"], row.worst)
            known["tags"] += row.tags
            known["fixable"] += row.fixable
    return sorted(sums.values(), key=lambda row: (-row["worst"], -row["fixable"], -row["tags"], row["vulnerability"]))


class _Cve(NamedTuple):
    vulnerability: int
    worst: int
    tags: int
    fixable: int


def _query_of_cves(path: str, *, of_some: bool) -> Prepared[_Cve]:
    """The vulnerabilities of the tags at this path from a finding. ``of_some``: of the tags with these ids alone."""

    @prepare(_Cve, project=BigIntegerField(), least=IntegerField(), now=DateTimeField(), tags=ListOf(BigIntegerField()))
    def build(_actor: Actor, project: Any, least: Any, now: Any, tags: Any) -> QuerySet[Any, Any]:
        found = Finding.objects.current().in_project(project).unaccepted(now).filter(severity__gte=least)
        where = {"isnull": False, "ended_at": None, "subject": ""} | ({"id__in": tags} if of_some else {})
        of_tags = found.filter(**{f"{path}__{name}": value for name, value in where.items()}).order_by()
        numbers = {
            "worst": Max("severity"),
            "number": Count(path, distinct=True),
            "fixable": Count(path, filter=~Q(fixed_version=""), distinct=True),
        }
        return of_tags.values("vulnerability").annotate(**numbers).values_list("vulnerability", *numbers)

    return build


_CVES = {
    (path, of_some): _query_of_cves(path, of_some=of_some)
    for path in (OWN_TAGS, TAGS_OF_INDEX)
    for of_some in (True, False)
}


def _newest(project: Project) -> dict[str, list[int] | None]:
    """The newest MOST tags, by their path from a finding: an index has findings in its platforms only. One query."""
    newest: dict[str, list[int] | None] = {}
    for pk, media_type in _newest_tags.all(project=project.pk):
        path = TAGS_OF_INDEX if media_type in media_types.INDEXES else OWN_TAGS
        newest.setdefault(path, []).append(pk)  # type: ignore[union-attr]
    return newest


class _NewestTag(NamedTuple):
    pk: int
    media_type: str


@prepare(_NewestTag, project=BigIntegerField())
def _newest_tags(_actor: Actor, project: Any) -> QuerySet[Any, Any]:
    live = Tag.objects.live().unattached()
    where = {"image__deletion": None, "image__repository__deletion": None, "image__repository__project": project}
    newest = live.filter(**where).order_by("-pk").values("pk")[:MOST]  # sorted before their manifests are read
    return Tag.objects.filter(pk__in=newest, manifest__deletion=None).values_list("pk", "manifest__media_type")


def name_cves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the ids of these vulnerabilities by their rows. One query."""
    known = Vulnerability.objects.in_bulk([row["vulnerability"] for row in rows])
    return [row | {"vulnerability": known[row["vulnerability"]]} for row in rows]


def _worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bad = [row for row in rows if any(row[name] for name in Report.COUNTS)]
    bad.sort(key=lambda row: [-row[name] for name in Report.COUNTS])
    return [{"name": row["of"], **row} for row in bad[:TOP]]


def queue(project: Project) -> dict[str, Any]:
    """What waits and what runs, and how much of what was requested with it is done. Three queries."""
    counts = (
        Scan.objects.open()
        .filter(project=project)
        .aggregate(
            waiting=Count("pk", filter=Q(state=Scan.State.WAITING)),
            running=Count("pk", filter=Q(state=Scan.State.RUNNING)),
            by_hand=Count("pk", filter=Q(state=Scan.State.WAITING, trigger=Scan.Trigger.MANUAL)),
            first=Min("requested_at"),
        )
    )
    total = counts["waiting"] + counts["running"]
    since = Scan.objects.filter(project=project, requested_at__gte=counts["first"]) if total else Scan.objects.none()
    done = since.exclude(state__in=Scan.OPEN).count()
    percent = 100 * done // (total + done) if total else 0
    scans = _queued.all(project=project.pk) if total else []
    return {**counts, "total": total, "done": done, "of": total + done, "percent": percent, "scans": scans}


@prepare_models(Scan, project=BigIntegerField())
def _queued(_actor: Actor, project: Any) -> QuerySet[Scan]:
    found = _with_manifests(Scan.objects.open().filter(project=project))
    return found.order_by("state", "trigger", "due_at", "pk")[:SHOWN]  # running before waiting


def failed(project: Project | int) -> QuerySet[Report]:
    """Reports whose last scan failed, of what can be scanned again: an index fails with its platforms only."""
    with_problem = Report.objects.exclude(problem="").values("pk")  # a subquery, so that SQLite uses the index of these
    return (
        Report.objects.in_project(project)
        .filter(pk__in=with_problem)
        .exclude(manifest__media_type__in=sorted(media_types.INDEXES))
        .order_by("-manifest")
    )


@prepare(int, project=BigIntegerField())
def _failure_count(_actor: Actor, project: Any) -> QuerySet[Any, Any]:
    return number_of(failed(project))


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
    reach.name_tags([*(scan.manifest for scan in scans), *others])
    for scan in scans:
        scan.manifest.open_scan = str(scan.state) if scan.state in Scan.OPEN else ""  # type: ignore[attr-defined]


def _with_manifests(found: QuerySet[Scan]) -> QuerySet[Scan]:
    """The scans with their manifests, and ``is_first``: no scan of the manifest has succeeded before."""
    before = Scan.objects.filter(manifest=OuterRef("manifest"), state=Scan.State.DONE, pk__lt=OuterRef("pk"))
    found = found.annotate(is_first=~Exists(before))
    return found.select_related("manifest__image__repository", "manifest__report").defer(*MANIFEST_CONTENT_FIELDS)


# ── Risk acceptances ────────────────────────────────────────────────────────────────────────────────────────────
def acceptances(project: Project, wanted: QueryDict) -> dict[str, Any]:
    """A page of acceptances. ``is_used``: it covers a finding now. ``has_fix``: a fix has freed one. Three queries."""
    active = Acceptance.objects.active(timezone.now()).filter(project=project)
    has_ended = wanted.get("state") == "ended"
    found = Acceptance.objects.filter(project=project)
    found = found.exclude(pk__in=active.values("pk")) if has_ended else active
    concerned = _concerned(project)
    without_fix, with_fix = Exists(concerned.filter(fixed_version="")), Exists(concerned.exclude(fixed_version=""))
    found = found.annotate(has_open=without_fix, has_fix=with_fix)
    page = listing.page(found.select_related("repository"), wanted, {"accepted": "-pk"})
    for row in page.rows:
        row.is_used = row.has_open or (row.covers_fixed and row.has_fix)  # type: ignore[attr-defined]
    return {"listing": page, "has_ended": has_ended, "active_count": active.count()}


def what_counts_again(acceptance: Acceptance) -> dict[str, Any]:
    """Numbers of the findings that no other acceptance covers, and the repositories whose pull policy can refuse them.

    Two queries.
    """
    others = Acceptance.objects.active(timezone.now()).exclude(pk=acceptance.pk)
    found = Finding.objects.current().in_project(acceptance.project).filter(~Exists(others.covering()))
    found = found.filter(vulnerability__name=acceptance.vulnerability)
    if acceptance.repository_id:
        found = found.filter(manifest__image__repository=acceptance.repository_id)
    if acceptance.package:
        found = found.filter(package__name=acceptance.package)
    if not acceptance.covers_fixed:
        found = found.filter(fixed_version="")
    numbers = found.aggregate(findings=Count("pk"), images=Count("manifest__image", distinct=True))
    strict = found.filter(
        manifest__image__repository__block_severity__gt=Severity.NONE,
        manifest__image__repository__block_severity__lte=F("severity"),
    )
    names = strict.order_by().values_list("manifest__image__repository__name", flat=True).distinct()
    return numbers | {"refusing": sorted(names)}


def _concerned(project: Project) -> Any:
    """The findings of the vulnerability, package and repository of the acceptance of the outer query."""
    of_package = Q(Exact(OuterRef("package"), Value(""))) | Q(package__name=OuterRef("package"))
    of_repository = Q(IsNull(OuterRef("repository"), True)) | Q(manifest__image__repository=OuterRef("repository"))
    found = Finding.objects.current().in_project(project).filter(of_package, of_repository)
    return found.filter(vulnerability__name=OuterRef("vulnerability")).order_by()


def critical(project: Project, total: dict[str, int]) -> dict[str, int]:
    """How many critical vulnerabilities the project's tags have, and how many of these have a fix. Two queries.

    ``of``: how many tags were looked at.
    """
    rows = cves(project, Severity.CRITICAL, total) if total["critical"] else []
    fixable = sum(bool(row["fixable"]) for row in rows)
    return {"number": len(rows), "fixable": fixable, "of": min(total["tags"], MOST)}


def attention(project: Project, total: dict[str, int], critical: dict[str, int]) -> list[dict[str, Any]]:
    """Problems to show: criticals with a fix, failed scans, an old or missing database. Two queries."""
    found: list[dict[str, Any]] = []
    if critical["fixable"]:
        found.append(
            {"kind": "critical", "number": critical["fixable"], "tags": total["critical"], "of": total["tags"]}
        )
    failures = _failure_count.first(project=project.pk)
    if failures:
        found.append({"kind": "failed", "number": failures})
    state = database()
    if total["tags"] and (state.is_missing or state.is_stale):
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
