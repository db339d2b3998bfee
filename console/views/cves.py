"""One CVE: the images that have it, and the risk that is accepted from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.queries import cves as queries
from console.views.shared.decorators import personal
from console.views.shared.downloads import as_csv
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from scanning import search

if TYPE_CHECKING:
    from django.http import HttpRequest


@personal
def show(request: HttpRequest, name: str) -> HttpResponse:
    """The images with a vulnerability, of all projects that the person may see."""
    vulnerability = search.find_vulnerability(name)
    page = vulnerability and queries.page(actor(request), vulnerability, request.GET)
    if not vulnerability or not page:
        raise _unseen(name)
    if vulnerability.name != name:
        return redirect("console:cve", vulnerability.name)
    return render_standalone(request, "console/cves/show.html", page=page)


@personal
def download(request: HttpRequest, name: str) -> HttpResponseBase:
    """All findings of a vulnerability that the filter of the page keeps, as CSV."""
    vulnerability, chosen = search.find_vulnerability(name), queries.Filter.of(request.GET)
    if vulnerability is None or not queries.is_seen(actor(request), vulnerability):
        raise _unseen(name)
    parts = [vulnerability.name, *([chosen.project] if chosen.project else [])]
    return as_csv(queries.rows(actor(request), vulnerability, request.GET), f"{'-'.join(parts)}.csv")


def _unseen(name: str) -> Http404:
    """The refusal for what no scan has found, and for what is in no image that the person may see: alike."""
    return Http404(_("%(name)s is in no image that you can see.") % {"name": name})
