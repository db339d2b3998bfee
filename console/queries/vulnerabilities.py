"""The vulnerabilities of one digest: a page of them, all of them, and by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    Exists,
    F,
    FloatField,
    OuterRef,
    Q,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from console.queries import scans
from console.queries.shared import listing
from registry import inspection
from registry.database.prepared import prepare, prepare_models
from registry.models import Manifest, Severity, Tag
from registry.oci import digests, media_types
from scanning import sboms
from scanning.models import Acceptance, Finding, Report, Sbom, Scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.actors import Actor
    from registry.models import Image

SORTS = {
    "severity": "-rank",
    "cve": "vulnerability__name",
    "package": "package__name",
}
SCANS = 6
CSV_HEADER = (
    *("vulnerability", "severity", "cvss", "package", "type", "installed", "fixed in", "status", "layer", "path"),
    *("title", "url", "first found", "accepted by", "reason", "accepted until", "digest", "platform"),
)


@dataclass(slots=True)
class Subject:
    """A digest whose vulnerabilities are looked at. An index has ``parts``, and no findings of its own."""

    manifest: Manifest
    reference: str
    tag: Tag | None
    tags: list[str]
    parents: list[Manifest]
    parts: list[Manifest] = field(default_factory=list)

    @property
    def is_index(self) -> bool:
        """Whether its platforms are scanned in its place."""
        return self.manifest.media_type in media_types.INDEXES

    @property
    def report(self) -> Report | None:
        """What is known of it."""
        return getattr(self.manifest, "report", None)


def subject(image: Image, reference: str) -> Subject | None:
    """What a tag or digest of the image names; None when that is nothing that is live. At most six queries."""
    found = Manifest.objects.referenced(image.path, reference, by_digest=digests.is_digest(reference))
    manifest = found.first()
    if manifest is None:
        return None
    manifest.image = image
    named = _tag_names.all(image=image.pk, manifest=manifest.pk)
    tag = _tag.first(image=image.pk, manifest=manifest.pk, name=reference) if reference in named else None
    parents = Manifest.objects.live().without_content().filter(child_references__child=manifest)
    found_subject = Subject(manifest, reference, tag, named, list(parents[:20]))
    if found_subject.is_index:
        found_subject.parts = scans.parts_of(manifest)
    else:
        scans.attach([manifest])
    return found_subject


@prepare(str, image=BigIntegerField(), manifest=BigIntegerField())
def _tag_names(_actor: Actor, image: Any, manifest: Any) -> QuerySet[Any, Any]:
    return Tag.objects.live().filter(image=image, manifest=manifest).order_by("name").values_list("name")


@prepare_models(Tag, image=BigIntegerField(), manifest=BigIntegerField(), name=TextField())
def _tag(_actor: Actor, image: Any, manifest: Any, name: Any) -> QuerySet[Tag]:
    return Tag.objects.live().filter(image=image, manifest=manifest, name=name).select_related("opened_by")


@dataclass(slots=True)
class LayerGroup:
    """The findings of one layer. ``number``: its position from below; 0 if the image does not list it."""

    digest: str
    number: int = 0
    created_by: str = ""
    size: int | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Report.COUNTS, 0))
    fixable: int = 0

    @property
    def total(self) -> int:
        """How many findings are not accepted."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Filter:
    """Which findings are shown. A bad value does not filter."""

    words: str = ""
    least: int = 0
    fixable: bool = False
    status: str = ""
    layer: str = ""
    accepted: str = ""

    @classmethod
    def of(cls, wanted: QueryDict) -> Filter:
        """As the query string says."""
        status, accepted = wanted.get("status", ""), wanted.get("accepted", "")
        return cls(
            words=wanted.get("q", "").strip()[:200].replace("\0", ""),
            least=scans.least_severity(wanted),
            fixable=wanted.get("fixable") == "yes",
            status=status if status in Finding.Status.values else "",
            layer=wanted.get("layer", "").replace("\0", "")[:135],
            accepted=accepted if accepted in {"hidden", "only"} else "",
        )

    @property
    def severity(self) -> str:
        """The least severity as the URL has it."""
        return Severity(self.least).name.lower() if self.least else ""

    @property
    def is_set(self) -> bool:
        """Whether anything is left out."""
        return self != Filter()

    def apply(self, found: Any, now: datetime) -> Any:
        """The findings that are wanted."""
        if self.words:
            by_words = Q(vulnerability__name__icontains=self.words) | Q(package__name__icontains=self.words)
            found = found.filter(by_words | Q(vulnerability__title__icontains=self.words))
        if self.least:
            found = found.filter(severity__gte=self.least)
        if self.fixable:
            found = found.exclude(fixed_version="")
        if self.status:
            found = found.filter(status=self.status)
        if self.layer:
            found = found.filter(layer=self.layer)
        if self.accepted == "hidden":
            found = found.unaccepted(now)
        elif self.accepted == "only":
            found = found.filter(acceptance__isnull=False)
        return found


def findings(manifest: Manifest, now: datetime) -> Any:
    """What is known to be in a manifest, each with its acceptance's id; ``rank``: severity, then a fix, then CVSS."""
    has_fix = Case(When(fixed_version="", then=Value(0.0)), default=Value(20.0), output_field=FloatField())
    cvss = Coalesce("vulnerability__score", Value(0.0), output_field=FloatField())
    found = Finding.objects.current().filter(manifest=manifest).with_acceptance(now)
    found = found.annotate(
        cvss=cvss, rank=F("severity") * Value(100.0, output_field=FloatField()) + has_fix + F("cvss")
    )
    return found.select_related("vulnerability", "package")


def page(subject: Subject, wanted: QueryDict) -> dict[str, Any]:
    """A page of findings with everything around it. At most thirteen queries, however many findings there are."""
    now, chosen = timezone.now(), Filter.of(wanted)
    past = list(Scan.objects.filter(manifest=subject.manifest).order_by("-pk")[:SCANS])
    context: dict[str, Any] = {
        "subject": subject,
        "report": subject.report,
        "database": scans.database(),
        "scan": next((scan for scan in past if scan.state in Scan.OPEN), None),
        "last": next((scan for scan in past if scan.state not in Scan.OPEN), None),
        "is_first": sum(scan.state == Scan.State.DONE for scan in past) == 1,
        "filter": chosen,
        "group": "layers" if wanted.get("view") == "layers" else "",
        "has_sbom": Sbom.objects.filter(manifest=subject.manifest).exists(),
    }
    if subject.is_index:
        at_work = [part for part in subject.parts if getattr(part, "open_scan", "")]
        context["done"] = len(subject.parts) - len(at_work)
        return context
    found = chosen.apply(findings(subject.manifest, now), now)
    first = _first_of_each(found, chosen, now)
    shown = listing.page(first, wanted, SORTS, search=chosen.words)
    _add_members(shown.rows, found)
    layers = _layers(subject.manifest, now)
    numbers = {each.digest: each for each in layers}
    done = [scan.pk for scan in past if scan.state == Scan.State.DONE]
    _explain(shown.rows, numbers, newest=done[0] if len(done) > 1 else None)
    context["layers"] = layers
    context["listing"] = shown
    context["total"] = first.count()
    return context


# What packages of one source have in common: the distributor builds, fixes and judges them together.
_TOGETHER = ("vulnerability", "package__kind", "package__version", "fixed_version", "status", "severity", "layer")


def _first_of_each(found: Any, chosen: Filter, now: datetime) -> Any:
    """One finding for each vulnerability and source: openssl and libssl3 of one version share a row."""
    same = chosen.apply(Finding.objects.current().with_acceptance(now), now)
    same = same.filter(manifest=OuterRef("manifest"), path="", pk__lt=OuterRef("pk"))
    return found.exclude(Exists(same.filter(**{name: OuterRef(name) for name in _TOGETHER})), path="")


def _add_members(rows: list[Any], found: Any) -> None:
    """Give each row ``members``, the findings that it stands for, and the ``names`` of their packages. One query."""
    others = found.filter(vulnerability__in={row.vulnerability_id for row in rows}, path="").order_by("package__name")
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for each in others:
        groups.setdefault(_together(each), []).append(each)
    for row in rows:
        row.members = [row] if row.path else [row if each.pk == row.pk else each for each in groups[_together(row)]]
        row.names = [each.package.name for each in row.members]


def _together(row: Finding) -> tuple[Any, ...]:
    package = row.package
    said = (row.fixed_version, row.status, row.severity, row.layer)
    return (row.vulnerability_id, package.kind, package.version, *said)


def _explain(rows: list[Any], layers: dict[str, LayerGroup], newest: int | None) -> None:
    """Give each row its acceptance (one query), its layer, and whether the newest scan found it first.

    A row of several packages is accepted if all of them are; ``open``: the first finding that is not.
    """
    for row in rows:
        row.open = next((each for each in getattr(row, "members", [row]) if not each.acceptance), None)
    wanted = {row.acceptance for row in rows if row.open is None}
    known = Acceptance.objects.select_related("repository").in_bulk(wanted)
    for row in rows:
        row.accepted = known.get(row.acceptance) if row.open is None else None
        row.brought_by = layers.get(row.layer) or LayerGroup(row.layer)
        row.is_new = newest is not None and row.since_id == newest


def _layers(manifest: Manifest, now: datetime) -> list[LayerGroup]:
    """The unaccepted findings by layer, from the lowest up; unknown layers last."""
    groups: dict[str, LayerGroup] = {}
    for number, layer in enumerate(inspection.contents(manifest).layers, 1):
        groups.setdefault(layer.digest, LayerGroup(layer.digest, number, layer.created_by, layer.size))
    found = Finding.objects.current().unaccepted(now).filter(manifest=manifest).order_by()
    rows = found.values_list("layer", "severity").annotate(
        number=Count("pk"), fixable=Count("pk", filter=~Q(fixed_version=""))
    )
    for digest, severity, number, fixable in rows:
        group = groups.setdefault(digest, LayerGroup(digest))
        group.counts[Severity(severity).name.lower()] += number
        group.fixable += fixable
    return list(groups.values())


def rows(subject: Subject, chosen: Filter) -> Iterator[dict[str, Any]]:
    """The findings of a digest that the filter keeps, the worst first; of an index, those of its platforms in turn."""
    now = timezone.now()
    for manifest in subject.parts or [subject.manifest]:
        found = chosen.apply(findings(manifest, now), now).select_related("since").order_by("-rank", "pk")
        known = Acceptance.objects.active(now).filter(project=subject.manifest.image.repository.project_id).in_bulk()
        for row in found:
            yield _plain(row, known.get(row.acceptance)) | {"digest": manifest.digest, "platform": manifest.platforms}


def _plain(row: Any, accepted: Acceptance | None) -> dict[str, Any]:
    return {
        "vulnerability": row.vulnerability.name,
        "severity": Severity(row.severity).name.lower(),
        "cvss": row.vulnerability.score,
        "package": row.package.name,
        "type": row.package.kind,
        "installed": row.package.version,
        "fixed in": row.fixed_version,
        "status": row.status,
        "layer": row.layer,
        "path": row.path,
        "title": row.vulnerability.title,
        "url": row.vulnerability.url,
        "first found": row.since.requested_at.isoformat(),
        "accepted by": accepted.accepted_by if accepted else "",
        "reason": accepted.reason if accepted else "",
        "accepted until": accepted.expires_at.isoformat() if accepted and accepted.expires_at else "",
    }


def sbom(manifest: Manifest) -> bytes | None:
    """The packages of a digest as CycloneDX in JSON; None when it was never scanned."""
    return sboms.download(manifest)


# ── Accepted ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def acceptable(subject: Subject, vulnerability: str, package: str) -> dict[str, Any] | None:
    """What accepting this would be about; None when it was not found in the digest. Two queries."""
    found = findings(subject.manifest, timezone.now()).filter(vulnerability__name=vulnerability)
    rows = list(found.filter(package__name=package) if package else found)
    if not rows:
        return None
    _explain(rows, {}, None)
    project = subject.manifest.image.repository.project_id
    in_project = scans.tags(scans.has(vulnerability), image__repository__project=project)
    here = Q(image__repository=subject.manifest.image.repository_id)
    numbers = in_project.aggregate(project=Count("pk"), repository=Count("pk", filter=here))
    has_fix = any(row.fixed_version for row in rows)
    return {"finding": max(rows, key=lambda row: row.severity), "findings": rows, "has_fix": has_fix, **numbers}
