"""The vulnerabilities of a digest: findings, changes, downloads and risk acceptances."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRefresh

from console.queries import vulnerabilities as queries
from console.views.shared.decorators import of_project
from console.views.shared.downloads import as_csv, as_file
from console.views.shared.subjects import find_subject
from registry.access import Action
from scanning import acceptances, scans, tasks
from scanning.models import Report, Scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from console.views.shared.place import Place


@of_project(Action.VIEW, post=Action.MANAGE)
def show(place: Place, reference: str) -> HttpResponse:
    """The findings of a digest. POST requests a scan."""
    subject = find_subject(place, reference)
    if place.request.method == "POST":
        tasks.start(scans.request([subject.manifest.pk], Scan.Trigger.MANUAL, place.actor.label))
        return place.redirect_to("vulnerabilities", reference=reference)
    if place.request.headers.get("HX-Target") == "scan-state" and not subject.manifest.open_scan:  # type: ignore[attr-defined]
        return HttpResponseClientRefresh()
    page = queries.page(subject, place.request.GET)
    return place.render("console/vulnerabilities/show.html", side="repositories", page=page)


@of_project(Action.VIEW)
def download_csv(place: Place, reference: str) -> HttpResponseBase:
    """The findings that the filter of the page keeps, as CSV."""
    rows = _csv_rows(find_subject(place, reference), queries.Filter.of(place.request.GET))
    return as_csv(rows, f"{_file_name(place, reference)}-vulnerabilities.csv")


@of_project(Action.VIEW)
def download_json(place: Place, reference: str) -> HttpResponse:
    """All findings, and what is known besides, as JSON."""
    subject = find_subject(place, reference)
    report = subject.report
    document: dict[str, Any] = {
        "image": place.image.path,
        "digest": subject.manifest.digest,
        "tags": subject.tags,
        "state": report.state if report else "unscanned",
        "problem": report.problem if report else "",
        "system": report.system if report else "",
        "end_of_life": bool(report and report.is_end_of_life),
        "database": report.database_at.isoformat() if report and report.database_at else None,
        "scanned": report.scanned_at.isoformat() if report and report.scanned_at else None,
        "trivy": report.tool_version if report else "",
        "counts": {name: getattr(report, name) for name in (*Report.COUNTS, "fixable", "accepted")} if report else None,
        "findings": list(queries.rows(subject, queries.Filter())),
    }
    content = json.dumps(document, indent=2, ensure_ascii=False).encode()
    return as_file(content, f"{_file_name(place, reference)}-vulnerabilities.json", "application/json")


@of_project(Action.VIEW)
def download_sbom(place: Place, reference: str) -> HttpResponse:
    """The packages as CycloneDX."""
    content = queries.sbom(find_subject(place, reference).manifest)
    if content is None:
        raise Http404(_("There is no SBOM of this digest: it has not been scanned."))
    return as_file(content, f"{_file_name(place, reference)}.cdx.json", "application/vnd.cyclonedx+json")


@of_project(Action.VIEW)
def download_vex(place: Place) -> HttpResponse:
    """The risk acceptances of a repository as OpenVEX."""
    document = acceptances.openvex(place.project, place.repository)
    name = f"{place.project.name}-{place.repository.name}.openvex.json"
    return as_file(acceptances.as_file(document), name, "application/json")


def _csv_rows(subject: queries.Subject, chosen: queries.Filter) -> Iterator[tuple[str, ...]]:
    yield queries.CSV_HEADER
    for row in queries.rows(subject, chosen):
        yield tuple("" if row[name] is None else str(row[name]) for name in queries.CSV_HEADER)


def _file_name(place: Place, reference: str) -> str:
    return f"{place.image.path}-{reference[:71]}"
