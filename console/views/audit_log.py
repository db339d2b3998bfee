"""The audit logs of projects, repositories, images and organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.forms.audit_log import AuditLogFilter, OrganizationAuditLogFilter
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
    form = AuditLogFilter(place.request.GET)
    wanted = form.wanted(place.project, place.maybe_repository, place.maybe_image)
    page = queries.page(wanted, place.request.GET)
    if place.maybe_image:
        page |= image_queries.counts(place.image)
    side = "repositories" if place.maybe_repository else "audit_log"
    csv_url = place.url(place.named("audit_log_csv"))
    return place.render("console/audit_log/show.html", side=side, page=page, form=form, csv_url=csv_url)


@of_project(Action.VIEW)
def download(place: Place) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    wanted = AuditLogFilter(place.request.GET).wanted(place.project, place.maybe_repository, place.maybe_image)
    return as_csv(audit.csv_rows(wanted), f"audit-log-{place.project.name}.csv")


@personal
def organization(request: HttpRequest, organization: str) -> HttpResponse:
    """Who changed people and keys, and who signed in, for owners."""
    found, _is_owner = find_organization(request, organization, change=True)
    form = OrganizationAuditLogFilter(request.GET)
    page = listing.page(form.wanted(found), request.GET, {"at": "-at"})
    is_filtered = any(request.GET.get(name) for name in form.fields)
    return render_for_owners(
        request,
        "console/audit_log/organization.html",
        found,
        form=form,
        listing=page,
        is_filtered=is_filtered,
    )


@personal
def organization_csv(request: HttpRequest, organization: str) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    found, _is_owner = find_organization(request, organization, change=True)
    return as_csv(
        queries.csv_rows(OrganizationAuditLogFilter(request.GET).wanted(found)), f"audit-log-{found.name}.csv"
    )
