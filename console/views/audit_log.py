"""The audit logs of projects, repositories, images and organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.forms.audit_log import AuditFilter, HistoryFilter
from console.queries import audit_log as queries
from console.queries import images as image_queries
from console.queries.shared import listing
from console.views.shared.decorators import of_project, personal
from console.views.shared.downloads import as_csv
from console.views.shared.organizations import find_organization, render_for_owners
from registry import audit
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, HttpResponseBase

    from console.views.shared.place import Place


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The events of a project, a repository or an image."""
    form = HistoryFilter(place.request.GET)
    wanted = form.wanted(place.project, place.repository, place.image)
    context: dict[str, Any] = {"page": queries.page(wanted, place.request.GET), "form": form}
    if place.image:
        context["page"] |= image_queries.counts(place.pushed)
    return place.render(_template(place), side=_side(place), tab="audit_log", **context)


@of_project(Action.VIEW)
def download(place: Place) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    wanted = HistoryFilter(place.request.GET).wanted(place.project, place.repository, place.image)
    return as_csv(audit.csv_rows(wanted), f"history-{place.project.name}.csv")


def _side(place: Place) -> str:
    return "repositories" if place.repository else "audit_log"


def _template(place: Place) -> str:
    if place.image:
        return "console/audit_log/image.html"
    return "console/audit_log/repository.html" if place.repository else "console/audit_log/project.html"


@personal
def organization(request: HttpRequest, organization: str) -> HttpResponse:
    """Who changed people and keys, and who signed in, for owners."""
    found, _is_owner = find_organization(request, organization, change=True)
    form = AuditFilter(request.GET)
    page = listing.page(form.wanted(found), request.GET, {"at": "-at"})
    is_filtered = any(request.GET.get(name) for name in form.fields)
    return render_for_owners(
        request,
        "console/audit_log/organization.html",
        found,
        tab="audit_log",
        form=form,
        listing=page,
        is_filtered=is_filtered,
    )


@personal
def organization_csv(request: HttpRequest, organization: str) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    found, _is_owner = find_organization(request, organization, change=True)
    return as_csv(queries.csv_rows(AuditFilter(request.GET).wanted(found)), f"audit-{found.name}.csv")
